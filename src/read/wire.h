/* The frames between the pool and its children (framing itself: sandbox.h), and the parent's
 * judgement of them. All numbers little-endian; `str` is u16 length, then that many bytes.
 *
 * to a child
 *   READ      u32 format, u32 dpi, u32 max_pages, str filename   with the original's descriptor
 *   PDF       u8 there, str warning      after NEED_PDF; with the PDF's descriptor where there is 1
 *   CONVERT   u32 format                                         with the original's descriptor
 *   PIXELS    as READ                                            with the picture's descriptor
 * from a child
 *   READY     str level, str missing, str engine, str ocr        once, when locked
 *   PROGRESS  u32 pages_done, u32 n_pages
 *   PICTURE   u32 page_i, u32 jpeg_len, jpeg, thumbnail          each page at most once
 *   NEED_PDF  u32 format                   what the container turned out to be
 *   DOCUMENT  the document as doc_encode writes it               ends a READ
 *   FAILED    u8 kind, str code, str text                        ends a READ or a CONVERT
 *   CONVERTED nothing: job/output.pdf is in the private folder    ends a CONVERT
 *   SIZE      u32 width, u32 height                  first after PIXELS (or FAILED)
 *   ROWS      RGB bytes, row after row               width * height * 3 in all end a PIXELS
 */
#ifndef DOCUSEARCH_READ_WIRE_H
#define DOCUSEARCH_READ_WIRE_H

#include "read/read.h"

enum wire_type {
    WIRE_READ = 1,
    WIRE_PDF,
    WIRE_CONVERT,
    WIRE_PIXELS,
    WIRE_READY = 16,
    WIRE_PROGRESS,
    WIRE_PICTURE,
    WIRE_NEED_PDF,
    WIRE_DOCUMENT,
    WIRE_FAILED,
    WIRE_CONVERTED,
    WIRE_SIZE,
    WIRE_ROWS,
};
#define WIRE_ROWS_MAX ((size_t)64 << 10)
#define WIRE_MAX_PIXELS 100000000
/* The largest payload of a frame from a child; 0: not one of them. */
size_t wire_max_len(uint32_t type);

/* ---- payloads ------------------------------------------------------------------------------- */

struct wire_request {
    enum read_format format;
    int render_dpi, max_pages;
    const char *filename; /* decoded: the caller's (mem_free) */
};
void wire_put_request(struct buf *out, const struct wire_request *request);
bool wire_get_request(struct wire_request *out, const void *data, size_t len);

void wire_put_pdf(struct buf *out, bool there, const char *warning);
bool wire_get_pdf(bool *there, char **warning, const void *data, size_t len);

void wire_put_format(struct buf *out, enum read_format format); /* CONVERT, NEED_PDF */
bool wire_get_format(enum read_format *out, const void *data, size_t len);

struct wire_ready {
    char level[64], missing[160], engine[96], ocr[96];
};
void wire_put_ready(struct buf *out, const struct wire_ready *ready);
bool wire_get_ready(struct wire_ready *out, const void *data, size_t len);

void wire_put_size(struct buf *out, uint32_t width, uint32_t height);

/* Codes that are none of read.h's are replaced by their kind's on the way out; on the way in the
 * code alone decides the kind. */
void wire_put_failed(struct buf *out, const struct error *failure);
bool wire_get_failed(struct error *out, const void *data, size_t len);

/* ---- one reading, as the parent sees it ------------------------------------------------------ */

struct wire_reading {
    const struct read_sink *sink; /* may be NULL */
    uint32_t max_pages;
    uint8_t *pictures; /* a bit a page: its picture came */
    uint32_t n_frames, n_pictures, n_pages, pages_done;
    enum read_format needs; /* WIRE_NEEDS_PDF */
    bool asked_pdf;
    struct document *doc; /* WIRE_DONE: the caller's */
};
enum wire_step {
    WIRE_GOES_ON,
    WIRE_DONE,
    WIRE_NEEDS_PDF,
    WIRE_REFUSED, /* the child says that it cannot; it is well */
    WIRE_STOPPED, /* the sink said no */
    WIRE_LIES,    /* parser_protocol: the child is not to be trusted any more */
};
void wire_reading_init(struct wire_reading *reading, const struct read_sink *sink, int max_pages);
void wire_reading_fini(struct wire_reading *reading);
/* Judges one frame and hands it on. err is written on REFUSED, STOPPED, LIES. */
enum wire_step wire_take(struct wire_reading *reading, uint32_t type, const uint8_t *data,
                         size_t len, struct error *err);

/* ---- a picture's pixels on their way --------------------------------------------------------- */

struct wire_pixels {
    int width, height; /* 0 until SIZE */
    uint8_t *rgb;      /* the caller's (mem_free) */
    size_t n, n_all;   /* bytes that came, that must come */
};
/* Judges one frame. WIRE_GOES_ON, DONE, REFUSED, STOPPED (no memory) or LIES; err is written on
 * the last three. */
enum wire_step wire_take_pixels(struct wire_pixels *pixels, uint32_t type, const uint8_t *data,
                                size_t len, struct error *err);

#endif
