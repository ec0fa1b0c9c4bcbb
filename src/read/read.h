/* read: bytes -> document, in a sandboxed child.
 *
 * The parent side (this face) never looks into foreign bytes beyond their first 4 KiB. Children are
 * this same program, started as `docusearch reader-child …`: a reader (MuPDF, Tesseract, XML; no
 * file system, no network) and a converter (LibreOffice -> PDF; a private folder, no network). They
 * are kept, recycled after a number of documents, and killed at a deadline or when they make no
 * progress. MuPDF, LibreOfficeKit, libxml2, libzip, gumbo, md4c, Tesseract, libwebp are seen in
 * this module alone. */
#ifndef DOCUSEARCH_READ_H
#define DOCUSEARCH_READ_H

#include "doc/doc.h"

enum read_format {
    FORMAT_UNKNOWN,
    FORMAT_PDF,
    FORMAT_DOCX,
    FORMAT_PPTX,
    FORMAT_XLSX,
    FORMAT_ODT,
    FORMAT_ODP,
    FORMAT_ODS,
    FORMAT_DOC,
    FORMAT_PPT,
    FORMAT_XLS,
    FORMAT_RTF,
    FORMAT_HTML,
    FORMAT_MARKDOWN,
    FORMAT_TEXT,
    FORMAT_CSV,
    FORMAT_EPUB,
    FORMAT_PNG,
    FORMAT_JPEG,
    FORMAT_TIFF,
    FORMAT_WEBP,
    FORMAT_BMP,
    FORMAT_N
};
struct read_format_info {
    enum read_format format;
    const char *name;       /* "pdf" */
    const char *extensions; /* "htm html xhtml", the usual first */
    const char *group;      /* "pdf", "office", "text", "images" */
    const char *media_type; /* "application/pdf" */
};
const struct read_format_info *read_format_lookup(enum read_format format); /* never NULL */
const struct read_format_info *read_format_named(const char *name);         /* NULL: none */
enum read_format read_format_of_name(const char *filename);                 /* by its extension */
/* Magic first, then the extension where magic says nothing (text) or only "a ZIP" or "an OLE file"
 * (then the child looks inside). FORMAT_UNKNOWN: not one of ours. */
enum read_format read_detect(const void *head, size_t len, const char *filename);

/* What reading ended in, as err->code; the kind tells whether a second try can help.
 *   final (ERROR_INPUT, ERROR_LIMIT, ERROR_UNSUPPORTED): password_required, corrupt, no_pages,
 *     too_many_pages, archive_limit, forbidden_xml, unsupported, empty_file, timeout, image_limit
 *   once more (ERROR_INTERNAL): parser_crash, out_of_memory, parser_protocol
 *   ERROR_MISSING: converter_missing; ERROR_CONFLICT: cancelled; ERROR_IO: storage_error, disk_full
 */
struct read_request {
    int fd;               /* the original, open for reading; borrowed */
    const char *filename; /* its display name */
    enum read_format format;
};
/* Called on the reading thread while read_document runs. */
struct read_sink {
    void *ctx;
    /* A finished page picture: quality-90 JPEG at render_dpi (longest side at most 8192), and a
     * thumbnail at most 320 pixels wide. False ends the reading with *err. */
    bool (*picture)(void *ctx, uint32_t page_i, const void *jpeg, size_t jpeg_len,
                    const void *thumb, size_t thumb_len, struct error *err);
    void (*progress)(void *ctx, uint32_t pages_done, uint32_t n_pages);
    bool (*cancelled)(void *ctx); /* asked at least every 200 ms */
};

struct read_pool;
/* Children start when first needed. n_children: how many readers at once (as many read_document
 * calls run side by side; more of them wait). scratch_dir: a folder of ours for converters. */
bool read_pool_open(struct read_pool **out, const struct settings *settings, int n_children,
                    const char *scratch_dir, struct error *err);
void read_pool_close(struct read_pool *pool); /* kills children; NULL is fine */
/* The document, now the caller's. Any thread. */
bool read_document(struct document **out, struct read_pool *pool,
                   const struct read_request *request, const struct read_sink *sink,
                   struct error *err);

/* The pixels of a picture file (PNG, JPEG, WebP, BMP, a TIFF's first frame), decoded in a child as
 * Pillow's open(…).convert("RGB") gives them: not turned, transparency dropped, grey and palettes
 * as RGB; height rows of width pixels of 3 bytes, the caller's (mem_free). At most 100 million
 * pixels, else ERROR_LIMIT image_limit; other errors as reading's. Any thread. */
bool read_pixels(uint8_t **rgb, int *width, int *height, struct read_pool *pool, int fd,
                 const char *filename, struct error *err);

/* The same of a picture that lies in memory. Such calls take turns at one child, so that those who
 * read files have another. sink: cancelled alone is asked; may be NULL. */
bool read_pixels_bytes(uint8_t **rgb, int *width, int *height, struct read_pool *pool,
                       const void *data, size_t len, const struct read_sink *sink,
                       struct error *err);

/* A picture as a PNG file: height rows of width pixels of 4 bytes, red, green, blue and opacity. By
 * the caller's thread. ERROR_LIMIT image_limit, out_of_memory. */
bool read_png_write(struct buf *out, const uint8_t *rgba, int width, int height, struct error *err);

/* What `/health` and `check` show. Started once, cached. */
struct read_health {
    char sandbox_level[64];   /* "seccomp+landlock3", "seccomp", "rlimit", … */
    char sandbox_detail[160]; /* what the self-test could not do; "" when all held */
    bool self_test_passed;    /* a probe child could not open, connect or exec */
    char office[96];          /* "LibreOfficeKit 7.4.7.2", "soffice", or "" (none) */
    char ocr[96];             /* "Tesseract 5.3.0 (eng)", perhaps ", no data for deu"; or "" */
    char mupdf[32];           /* "1.21.1" */
};
void read_health(struct read_health *out, struct read_pool *pool);

/* The child's main: argv[1] is "reader-child". Returns the exit status. */
int read_child_main(int argc, char **argv);

#endif
