/* Frame payloads, written and judged. Whatever comes from a child is foreign: lengths, counts,
 * numbers, order and the bytes of pictures are checked here before anybody uses them. */
#include "read/wire.h"

#include <assert.h>
#include <string.h>

#define MAX_STRING 4096
#define MAX_PICTURE ((size_t)32 << 20)
#define MAX_THUMB ((size_t)1 << 20)
#define MAX_DOCUMENT ((size_t)512 << 20)
#define MAX_FRAMES 1000000u /* of one reading: pictures and some progress */

size_t wire_max_len(uint32_t type) {
    switch (type) {
    case WIRE_READY:
        return 1024;
    case WIRE_PROGRESS:
        return 8;
    case WIRE_PICTURE:
        return 8 + MAX_PICTURE + MAX_THUMB;
    case WIRE_NEED_PDF:
        return 4;
    case WIRE_DOCUMENT:
        return MAX_DOCUMENT;
    case WIRE_FAILED:
        return 1024;
    case WIRE_CONVERTED:
        return 1;
    case WIRE_SIZE:
        return 8;
    case WIRE_ROWS:
        return WIRE_ROWS_MAX;
    }
    return 0;
}

/* ---- writing and reading fields -------------------------------------------------------------- */

static void put_int(struct buf *out, uint32_t value, int n_bytes) {
    for (int i = 0; i < n_bytes; i++)
        buf_putc(out, (char)(value >> 8 * i));
}

static void put_str(struct buf *out, const char *text) {
    size_t len = utf8_cut(text, strlen(text), MAX_STRING);
    put_int(out, (uint32_t)len, 2);
    buf_append(out, text, len);
}

/* A reader over a payload; once a field is short, all that follow are 0 and `bad` stays. */
struct fields {
    const uint8_t *at, *end;
    bool bad;
};

static struct fields fields_of(const void *data, size_t len) {
    const uint8_t *at = len ? data : (const uint8_t *)"";
    return (struct fields){.at = at, .end = at + len};
}

static uint32_t get_int(struct fields *in, int n_bytes) {
    uint32_t value = 0;
    if (in->bad || in->end - in->at < n_bytes) {
        in->bad = true;
        return 0;
    }
    for (int i = 0; i < n_bytes; i++)
        value |= (uint32_t)in->at[i] << 8 * i;
    in->at += n_bytes;
    return value;
}

/* Into out, cut at its size; control characters and invalid bytes become '?'. */
static void get_str(struct fields *in, char *out, size_t size) {
    uint32_t len = get_int(in, 2);
    out[0] = '\0';
    if (in->bad || (size_t)(in->end - in->at) < len) {
        in->bad = true;
        return;
    }
    const char *text = (const char *)in->at;
    in->at += len;
    size_t n = utf8_cut(text, len, size - 1);
    memcpy(out, text, n);
    out[n] = '\0';
    bool valid = utf8_valid(out, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)out[i];
        if (c < 0x20 || c == 0x7f || (!valid && c >= 0x80))
            out[i] = '?';
    }
}

/* The whole string, bytes as they are but for NUL; the caller's. */
static char *get_whole_str(struct fields *in) {
    uint32_t len = get_int(in, 2);
    if (in->bad || (size_t)(in->end - in->at) < len || len > MAX_STRING || memchr(in->at, 0, len)) {
        in->bad = true;
        return NULL;
    }
    char *text = mem_alloc((size_t)len + 1);
    memcpy(text, in->at, len);
    in->at += len;
    return text;
}

static bool all_read(const struct fields *in) {
    return !in->bad && in->at == in->end;
}

static bool format_fits(uint32_t format) {
    return format > FORMAT_UNKNOWN && format < FORMAT_N;
}

/* ---- payloads -------------------------------------------------------------------------------- */

void wire_put_request(struct buf *out, const struct wire_request *request) {
    put_int(out, request->format, 4);
    put_int(out, (uint32_t)request->render_dpi, 4);
    put_int(out, (uint32_t)request->max_pages, 4);
    put_str(out, request->filename);
}

bool wire_get_request(struct wire_request *out, const void *data, size_t len) {
    struct fields in = fields_of(data, len);
    uint32_t format = get_int(&in, 4), dpi = get_int(&in, 4), max_pages = get_int(&in, 4);
    char *filename = get_whole_str(&in);
    if (!all_read(&in) || !format_fits(format) || dpi < 1 || dpi > 2400 || max_pages < 1 ||
        max_pages > DOC_MAX_PAGES) {
        mem_free(filename);
        return false;
    }
    *out = (struct wire_request){(enum read_format)format, (int)dpi, (int)max_pages, filename};
    return true;
}

void wire_put_pdf(struct buf *out, bool there, const char *warning) {
    put_int(out, there, 1);
    put_str(out, warning);
}

bool wire_get_pdf(bool *there, char **warning, const void *data, size_t len) {
    struct fields in = fields_of(data, len);
    *there = get_int(&in, 1) == 1;
    *warning = get_whole_str(&in);
    if (all_read(&in))
        return true;
    mem_free(*warning);
    return false;
}

void wire_put_format(struct buf *out, enum read_format format) {
    put_int(out, format, 4);
}

bool wire_get_format(enum read_format *out, const void *data, size_t len) {
    struct fields in = fields_of(data, len);
    uint32_t format = get_int(&in, 4);
    *out = format_fits(format) ? (enum read_format)format : FORMAT_UNKNOWN;
    return all_read(&in) && format_fits(format);
}

void wire_put_size(struct buf *out, uint32_t width, uint32_t height) {
    put_int(out, width, 4);
    put_int(out, height, 4);
}

void wire_put_ready(struct buf *out, const struct wire_ready *ready) {
    put_str(out, ready->level);
    put_str(out, ready->missing);
    put_str(out, ready->engine);
    put_str(out, ready->ocr);
}

bool wire_get_ready(struct wire_ready *out, const void *data, size_t len) {
    struct fields in = fields_of(data, len);
    get_str(&in, out->level, sizeof out->level);
    get_str(&in, out->missing, sizeof out->missing);
    get_str(&in, out->engine, sizeof out->engine);
    get_str(&in, out->ocr, sizeof out->ocr);
    return all_read(&in);
}

static const struct failure_code {
    const char *code;
    enum error_kind kind;
} failure_codes[] = {
    {"password_required", ERROR_INPUT},
    {"corrupt", ERROR_INPUT},
    {"no_pages", ERROR_INPUT},
    {"forbidden_xml", ERROR_INPUT},
    {"empty_file", ERROR_INPUT},
    {"too_many_pages", ERROR_LIMIT},
    {"archive_limit", ERROR_LIMIT},
    {"image_limit", ERROR_LIMIT},
    {"limit", ERROR_LIMIT},
    {"timeout", ERROR_LIMIT},
    {"unsupported", ERROR_UNSUPPORTED},
    {"converter_missing", ERROR_MISSING},
    {"parser_crash", ERROR_INTERNAL},
    {"out_of_memory", ERROR_INTERNAL},
    {"parser_protocol", ERROR_INTERNAL},
};

static const struct failure_code *lookup_code(const char *code) {
    for (size_t i = 0; i < BASE_COUNT(failure_codes); i++)
        if (strcmp(failure_codes[i].code, code) == 0)
            return &failure_codes[i];
    return NULL;
}

static const char *code_of_kind(enum error_kind kind) {
    switch (kind) {
    case ERROR_INPUT:
    case ERROR_MISSING:
    case ERROR_CONFLICT:
        return "corrupt";
    case ERROR_LIMIT:
        return "limit";
    case ERROR_UNSUPPORTED:
        return "unsupported";
    case ERROR_BUSY:
    case ERROR_IO:
    case ERROR_DEVICE:
    case ERROR_INTERNAL:
        break;
    }
    return "parser_crash";
}

void wire_put_failed(struct buf *out, const struct error *failure) {
    const char *code = failure->code;
    if (!lookup_code(code))
        code = code_of_kind(failure->kind);
    put_int(out, failure->kind, 1);
    put_str(out, code);
    put_str(out, failure->text);
}

bool wire_get_failed(struct error *out, const void *data, size_t len) {
    struct fields in = fields_of(data, len);
    struct error failure = {0};
    get_int(&in, 1);
    get_str(&in, failure.code, sizeof failure.code);
    get_str(&in, failure.text, sizeof failure.text);
    const struct failure_code *known = lookup_code(failure.code);
    if (!all_read(&in) || !known)
        return false;
    failure.kind = known->kind;
    *out = failure;
    return true;
}

/* ---- the parent's judgement ------------------------------------------------------------------ */

static enum wire_step lies(struct error *err, const char *what) {
    error_set_code(err, ERROR_INTERNAL, "parser_protocol", "the reader sent %s", what);
    return WIRE_LIES;
}

void wire_reading_init(struct wire_reading *reading, const struct read_sink *sink, int max_pages) {
    assert(max_pages >= 1 && max_pages <= DOC_MAX_PAGES);
    *reading = (struct wire_reading){
        .sink = sink,
        .max_pages = (uint32_t)max_pages,
        .pictures = mem_alloc((size_t)max_pages / 8 + 1),
    };
}

void wire_reading_fini(struct wire_reading *reading) {
    mem_free(reading->pictures);
    doc_free(reading->doc);
    *reading = (struct wire_reading){0};
}

static bool has_picture(const struct wire_reading *reading, uint32_t page_i) {
    return reading->pictures[page_i / 8] >> page_i % 8 & 1;
}

static enum wire_step take_progress(struct wire_reading *reading, struct fields *in,
                                    struct error *err) {
    uint32_t done = get_int(in, 4), n_pages = get_int(in, 4);
    if (!all_read(in) || n_pages > reading->max_pages || done > n_pages)
        return lies(err, "progress that cannot be");
    reading->n_pages = n_pages;
    reading->pages_done = done;
    if (reading->sink && reading->sink->progress)
        reading->sink->progress(reading->sink->ctx, done, n_pages);
    return WIRE_GOES_ON;
}

static bool is_jpeg(const uint8_t *data, size_t len) {
    return len >= 4 && data[0] == 0xff && data[1] == 0xd8 && data[2] == 0xff;
}

static enum wire_step take_picture(struct wire_reading *reading, struct fields *in,
                                   struct error *err) {
    uint32_t page_i = get_int(in, 4), jpeg_len = get_int(in, 4);
    size_t rest = (size_t)(in->end - in->at);
    if (in->bad || page_i >= reading->max_pages || jpeg_len > rest || jpeg_len > MAX_PICTURE ||
        rest - jpeg_len > MAX_THUMB)
        return lies(err, "a picture of a wrong size or page");
    const uint8_t *jpeg = in->at, *thumb = in->at + jpeg_len;
    size_t thumb_len = rest - jpeg_len;
    if (!is_jpeg(jpeg, jpeg_len) || !is_jpeg(thumb, thumb_len))
        return lies(err, "a picture that is no JPEG");
    if (has_picture(reading, page_i))
        return lies(err, "a page's picture twice");
    reading->pictures[page_i / 8] |= (uint8_t)(1u << page_i % 8);
    reading->n_pictures++;
    if (reading->sink && reading->sink->picture &&
        !reading->sink->picture(reading->sink->ctx, page_i, jpeg, jpeg_len, thumb, thumb_len, err))
        return WIRE_STOPPED;
    return WIRE_GOES_ON;
}

static enum wire_step take_document(struct wire_reading *reading, const uint8_t *data, size_t len,
                                    struct error *err) {
    struct document *doc;
    struct error why = {0};
    if (!doc_decode(&doc, data, len, &why)) {
        error_set_code(err, ERROR_INTERNAL, "parser_protocol", "the reader's document: %s",
                       why.text);
        return WIRE_LIES;
    }
    uint32_t n_pictures = 0;
    bool fine = doc->n_pages <= reading->max_pages;
    for (uint32_t i = 0; fine && i < doc->n_pages; i++) {
        bool claimed = doc->pages[i].flags & DOC_PAGE_PICTURE;
        fine = claimed == has_picture(reading, i);
        n_pictures += claimed;
    }
    if (!fine || n_pictures != reading->n_pictures) {
        doc_free(doc);
        return lies(err, "a document that does not fit its pictures");
    }
    reading->doc = doc;
    return WIRE_DONE;
}

enum wire_step wire_take(struct wire_reading *reading, uint32_t type, const uint8_t *data,
                         size_t len, struct error *err) {
    assert(!reading->doc);
    struct fields in = fields_of(data, len);
    if (++reading->n_frames > MAX_FRAMES)
        return lies(err, "frames without end");
    switch (type) {
    case WIRE_PROGRESS:
        return take_progress(reading, &in, err);
    case WIRE_PICTURE:
        return take_picture(reading, &in, err);
    case WIRE_NEED_PDF:
        if (reading->asked_pdf || !wire_get_format(&reading->needs, data, len))
            return lies(err, "a wrong wish for a PDF");
        reading->asked_pdf = true;
        return WIRE_NEEDS_PDF;
    case WIRE_DOCUMENT:
        return take_document(reading, data, len, err);
    case WIRE_FAILED:
        if (!wire_get_failed(err, data, len))
            return lies(err, "a failure that cannot be read");
        return WIRE_REFUSED;
    }
    return lies(err, "a frame out of place");
}

/* ---- a picture's pixels ---------------------------------------------------------------------- */

static enum wire_step take_size(struct wire_pixels *pixels, struct fields *in, struct error *err) {
    uint32_t width = get_int(in, 4), height = get_int(in, 4);
    if (!all_read(in) || pixels->rgb || width == 0 || height == 0 ||
        (uint64_t)width * height > WIRE_MAX_PIXELS)
        return lies(err, "a size that cannot be");
    pixels->width = (int)width;
    pixels->height = (int)height;
    pixels->n_all = (size_t)width * height * 3;
    pixels->rgb = mem_try(pixels->n_all, 1, (size_t)WIRE_MAX_PIXELS * 3);
    if (pixels->rgb)
        return WIRE_GOES_ON;
    error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for %u x %u pixels", width,
                   height);
    return WIRE_STOPPED;
}

enum wire_step wire_take_pixels(struct wire_pixels *pixels, uint32_t type, const uint8_t *data,
                                size_t len, struct error *err) {
    struct fields in = fields_of(data, len);
    switch (type) {
    case WIRE_SIZE:
        return take_size(pixels, &in, err);
    case WIRE_ROWS:
        if (!pixels->rgb || len == 0 || len > pixels->n_all - pixels->n)
            return lies(err, "rows that do not fit");
        memcpy(pixels->rgb + pixels->n, data, len);
        pixels->n += len;
        return pixels->n == pixels->n_all ? WIRE_DONE : WIRE_GOES_ON;
    case WIRE_FAILED:
        if (!wire_get_failed(err, data, len))
            return lies(err, "a failure that cannot be read");
        return WIRE_REFUSED;
    }
    return lies(err, "a frame out of place");
}
