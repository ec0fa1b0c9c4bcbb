/* read, inside: the parent's children, lent to one caller each. */
#ifndef DOCUSEARCH_READ_POOL_H
#define DOCUSEARCH_READ_POOL_H

#include "read/wire.h"
#include "sandbox/sandbox.h"

#define READ_DECODERS 2

struct read_slot {
    enum sandbox_kind kind;
    struct sandbox_child *child; /* NULL: not started, or lost */
    int n_documents;
    bool lent;
    char *dir;  /* converter: its private folder */
    char *link; /* converter: what names that folder in the scratch folder, where it lies outside */
    struct wire_ready ready;
};
struct read_pool {
    struct lock lock; /* guards lent, kit_broken, health */
    struct signal_cond changed;
    struct read_slot *readers, *converters;
    struct read_slot decoders[READ_DECODERS]; /* reader children too, never busy with a document */
    int n_readers, n_converters;
    char *scratch_dir; /* absolute */
    char *ocr_languages;
    int render_dpi, max_pages;
    int64_t silence_ms, total_ms, convert_ms; /* deadlines: READ_* below, shorter in tests */
    bool kit_broken; /* LibreOfficeKit did not start here: soffice instead */
    enum { HEALTH_UNKNOWN, HEALTH_ASKING, HEALTH_KNOWN } health_state;
    struct read_health health;
};

#define READ_SILENCE_MS 60000 /* without a frame from a reader */
#define READ_TOTAL_MS 1200000 /* a document, and 2 s more a page */
#define READ_PAGE_MS 2000
#define READ_PIXELS_MS 60000   /* a picture's pixels */
#define READ_CONVERT_MS 240000 /* LibreOffice tells no progress */
#define READ_START_MS 60000    /* until a child is ready */
#define READ_ASK_MS 200        /* between two questions whether to go on */
#define READER_DOCUMENTS 200   /* before a child is replaced */
#define READER_PICTURES 5000
#define CONVERTER_DOCUMENTS 50
#define READER_RSS_MAX (INT64_C(1) << 30)

/* Waits for a slot that nobody has; NULL with ERROR_CONFLICT when the caller is cancelled. */
struct read_slot *pool_lend(struct read_pool *pool, struct read_slot *slots, int n,
                            const struct read_sink *sink, struct error *err);
void pool_give(struct read_pool *pool, struct read_slot *slot);
/* The next frame of a slot's child. False: the child was lost, *err says how (timeout, cancelled,
 * parser_crash, out_of_memory, parser_protocol). silence_ms: no frame for so long is a timeout. */
bool pool_await(struct sandbox_frame *out, struct read_slot *slot, const struct read_sink *sink,
                int64_t silence_ms, int64_t deadline_ms, struct error *err);
/* Starts the slot's child and waits until it is ready. */
bool pool_start(struct read_slot *slot, const struct sandbox_spawn *spawn,
                const struct read_sink *sink, struct error *err);
void pool_end(struct read_slot *slot); /* kills its child, removes its folder */

/* ---- convert.c ------------------------------------------------------------------------------ */

/* The PDF of an Office file, open for reading, the caller's. */
bool pool_convert(int *pdf_fd, struct read_pool *pool, enum read_format format, int fd,
                  const struct read_sink *sink, struct error *err);
/* "LibreOfficeKit 7.4.7.2", "soffice" or "". */
void pool_office_name(char *out, size_t size, struct read_pool *pool);
/* A private folder for a converter, in slot->dir (and slot->link). */
bool pool_make_dir(struct read_slot *slot, struct read_pool *pool, struct error *err);
void pool_clean_scratch(struct read_pool *pool); /* what a killed server left behind */

#endif
