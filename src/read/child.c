/* The reader child: loads what it needs, locks itself up, then reads one document after another.
 *
 * A document is read in this order: what is in the container is found out; structure is read from
 * the file itself where it has any; only then LibreOffice is asked (by the parent) for a PDF, so a
 * bomb is refused before it is opened a second time; pages come from MuPDF last. */
#include "read/child.h"

#include "read/container.h"
#include "read/fault_reader.h"
#include "read/flow.h"
#include "read/ocr.h"
#include "read/ole.h"
#include "read/ooxml.h"
#include "read/pages.h"
#include "read/pixels.h"
#include "read/wire.h"
#include "sandbox/sandbox.h"

#include <mupdf/fitz/version.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_EVERY_MS 100
#define CPU_S 3600 /* a document: behind the parent's deadlines, for a parent that is stopped */
#define ARENA_MAX ((size_t)1 << 30)

struct reading {
    struct read_task task;
    int64_t told_ms;
    uint32_t told_done, told_n;
    void *pdf_map;
    size_t pdf_map_size;
};

void read_task_progress(struct read_task *task, uint32_t pages_done, uint32_t n_pages) {
    struct reading *reading = task->wire;
    int64_t now_ms = time_mono_ms();
    if (pages_done == reading->told_done && n_pages == reading->told_n &&
        now_ms - reading->told_ms < PROGRESS_EVERY_MS)
        return;
    reading->told_ms = now_ms;
    reading->told_done = pages_done;
    reading->told_n = n_pages;
    uint8_t body[8];
    for (int i = 0; i < 4; i++) {
        body[i] = (uint8_t)(pages_done >> 8 * i);
        body[4 + i] = (uint8_t)(n_pages >> 8 * i);
    }
    sandbox_child_send(WIRE_PROGRESS, body, sizeof body, NULL, 0);
}

bool read_task_picture(struct read_task *task, uint32_t page_i, const void *jpeg, size_t jpeg_len,
                       const void *thumb, size_t thumb_len, struct error *err) {
    (void)err; /* a parent that is gone, or says no, ends this process */
    struct reading *reading = task->wire;
    reading->told_ms = time_mono_ms();
    struct buf payload = {.max = 8 + jpeg_len};
    uint8_t head[8];
    for (int i = 0; i < 4; i++) {
        head[i] = (uint8_t)(page_i >> 8 * i);
        head[4 + i] = (uint8_t)(jpeg_len >> 8 * i);
    }
    buf_append(&payload, head, sizeof head);
    buf_append(&payload, jpeg, jpeg_len);
    if (payload.failed) {
        buf_fini(&payload);
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "page %u: picture of %zu bytes",
                              page_i + 1, jpeg_len);
    }
    sandbox_child_send(WIRE_PICTURE, payload.data, payload.len, thumb, thumb_len);
    buf_fini(&payload);
    return true;
}

/* ---- what a file is -------------------------------------------------------------------------- */

static bool is_ooxml(enum read_format format) {
    return format == FORMAT_DOCX || format == FORMAT_PPTX || format == FORMAT_XLSX;
}
static bool is_odf(enum read_format format) {
    return format == FORMAT_ODT || format == FORMAT_ODP || format == FORMAT_ODS;
}
static bool is_legacy(enum read_format format) {
    return format == FORMAT_DOC || format == FORMAT_PPT || format == FORMAT_XLS;
}
static bool has_sheets(enum read_format format) {
    return format == FORMAT_PPTX || format == FORMAT_XLSX || format == FORMAT_ODP ||
           format == FORMAT_ODS || format == FORMAT_PPT || format == FORMAT_XLS;
}

static bool password_required(struct error *err) {
    return error_set_code(err, ERROR_INPUT, "password_required", "the file is encrypted");
}

/* OpenDocument says in its manifest which parts are encrypted. */
static bool odf_is_encrypted(const struct read_task *task) {
    struct ooxml_zip *zip;
    char *text = NULL;
    size_t len = 0;
    if (!ooxml_zip_open(&zip, task->data, task->size, NULL))
        return false;
    bool found = ooxml_zip_read(&text, &len, zip, "META-INF/manifest.xml", NULL) &&
                 memmem(text, len, "encryption-data", strlen("encryption-data"));
    mem_free(text);
    ooxml_zip_close(zip);
    return found;
}

/* Replaces the guess by what is inside a container. *locked: try, but it is probably encrypted. */
static bool identify(struct read_task *task, bool *locked, struct error *err) {
    *locked = false;
    enum read_format named = task->format;
    bool container = is_ooxml(named) || is_odf(named) || is_legacy(named) || named == FORMAT_EPUB;
    if (!container)
        return true;
    if (task->size >= 8 && memcmp(task->data, "\xd0\xcf\x11\xe0", 4) == 0) {
        struct ole_kind kind;
        if (!ole_identify(&kind, task->data, task->size))
            return error_set_code(err, ERROR_INPUT, "corrupt", "the OLE directory is damaged");
        if (kind.package || (kind.encrypted && kind.format != FORMAT_XLS))
            return password_required(err);
        if (kind.format == FORMAT_UNKNOWN)
            return error_set_code(err, ERROR_UNSUPPORTED, "unsupported",
                                  "an OLE file without a document, workbook or presentation");
        task->format = kind.format;
        *locked = kind.encrypted;
        return true;
    }
    if (task->size >= 4 && memcmp(task->data, "PK", 2) == 0) {
        if (!container_check(task->data, task->size, err))
            return false;
        enum read_format kind = ooxml_kind(task->data, task->size);
        if (kind == FORMAT_UNKNOWN && !is_legacy(named) &&
            text_has_suffix(task->filename, read_format_lookup(named)->name))
            return error_set_code(err, ERROR_INPUT, "corrupt", "a ZIP without %s's parts",
                                  read_format_lookup(named)->name);
        if (kind == FORMAT_UNKNOWN)
            return error_set_code(err, ERROR_UNSUPPORTED, "unsupported",
                                  "a ZIP that is no document");
        task->format = kind;
        if (is_odf(kind) && odf_is_encrypted(task))
            return password_required(err);
        return true;
    }
    return error_set_code(err, ERROR_INPUT, "corrupt", "no %s file by its first bytes",
                          read_format_lookup(named)->name);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Asks the parent for a PDF; task->pdf stays NULL where it has none, and says why in a warning. */
static void fetch_pdf(struct reading *reading) {
    struct buf payload = {0};
    wire_put_format(&payload, reading->task.format);
    sandbox_child_send(WIRE_NEED_PDF, payload.data, payload.len, NULL, 0);
    buf_fini(&payload);

    uint32_t type;
    uint8_t *body;
    size_t len;
    int fd;
    bool there;
    char *warning;
    if (!sandbox_child_receive(&type, &body, &len, &fd) || type != WIRE_PDF ||
        !wire_get_pdf(&there, &warning, body, len))
        _exit(0); /* the parent is gone */
    mem_free(body);
    struct stat st;
    if (there && fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map != MAP_FAILED) {
            reading->pdf_map = map;
            reading->pdf_map_size = (size_t)st.st_size;
            reading->task.pdf = map;
            reading->task.pdf_size = (size_t)st.st_size;
        }
    }
    if (fd >= 0)
        close(fd);
    if (warning[0])
        doc_set_meta(reading->task.builder, "warning", warning);
    mem_free(warning);
    reading->told_ms = 0;
}

static bool pages_of(struct raw_pages *raw, struct read_task *task, const void *data, size_t size,
                     const char *media_type, struct error *err) {
    if (!read_pages(raw, task, data, size, media_type, err))
        return false;
    if (raw->n_pages == 0)
        return error_set_code(err, ERROR_INPUT, "no_pages", "the document has no pages");
    if (raw->n_pages > (uint32_t)task->max_pages)
        return error_set_code(err, ERROR_LIMIT, "too_many_pages", "%u pages, at most %d",
                              raw->n_pages, task->max_pages);
    return true;
}

static bool read_office(struct reading *reading, struct error *err) {
    struct read_task *task = &reading->task;
    struct flow flow = {.arena = task->arena};
    struct raw_pages raw = {0};
    struct error why = {0};
    bool has_flow = false;
    if (is_ooxml(task->format)) {
        has_flow = flow_read_ooxml(&flow, task, &why);
        if (!has_flow && strcmp(why.code, "corrupt") != 0) {
            *err = why;
            return false;
        }
    }
    read_task_progress(task, 0, 0);
    fetch_pdf(reading);
    if (task->pdf && !pages_of(&raw, task, task->pdf, task->pdf_size, "application/pdf", err))
        return false;
    if (has_flow) {
        flow_place(task, &flow, &raw);
    } else if (task->pdf) {
        if (why.text[0])
            doc_set_meta(task->builder, "warning", why.text);
        read_layout(task, &raw);
    } else {
        *err = why;
        return why.kind ? false
                        : error_set_code(err, ERROR_MISSING, "converter_missing",
                                         "a %s file needs LibreOffice",
                                         read_format_lookup(task->format)->name);
    }
    return true;
}

static bool read_flowing(struct read_task *task, struct error *err) {
    struct flow flow = {.arena = task->arena};
    struct raw_pages raw = {0};
    struct buf html = {0};
    bool fine = task->format == FORMAT_HTML       ? flow_read_html(&flow, task, err)
                : task->format == FORMAT_MARKDOWN ? flow_read_markdown(&flow, task, err)
                : task->format == FORMAT_CSV      ? flow_read_csv(&flow, task, err)
                                                  : flow_read_text(&flow, task, err);
    if (!fine)
        return false;
    flow_write_html(&html, &flow);
    if (html.failed)
        fine = error_set_code(err, ERROR_LIMIT, "limit", "the text does not fit in memory");
    fine = fine && pages_of(&raw, task, html.data, html.len, "text/html", err);
    buf_fini(&html);
    if (fine)
        flow_place(task, &flow, &raw);
    return fine;
}

static bool dispatch(struct reading *reading, struct error *err) {
    struct read_task *task = &reading->task;
    switch (task->format) {
    case FORMAT_PDF:
    case FORMAT_EPUB:
    case FORMAT_PNG:
    case FORMAT_JPEG:
    case FORMAT_TIFF:
    case FORMAT_WEBP:
    case FORMAT_BMP: {
        struct raw_pages raw = {0};
        if (!pages_of(&raw, task, task->data, task->size,
                      read_format_lookup(task->format)->media_type, err))
            return false;
        read_layout(task, &raw);
        return true;
    }
    case FORMAT_RTF:
        if (task->size < 5 || memcmp(task->data, "{\\rtf", 5) != 0)
            return error_set_code(err, ERROR_INPUT, "corrupt", "no RTF file by its first bytes");
        return read_office(reading, err);
    case FORMAT_DOCX:
    case FORMAT_PPTX:
    case FORMAT_XLSX:
    case FORMAT_ODT:
    case FORMAT_ODP:
    case FORMAT_ODS:
    case FORMAT_DOC:
    case FORMAT_PPT:
    case FORMAT_XLS:
        return read_office(reading, err);
    case FORMAT_HTML:
    case FORMAT_MARKDOWN:
    case FORMAT_TEXT:
    case FORMAT_CSV:
        return read_flowing(task, err);
    case FORMAT_UNKNOWN:
    case FORMAT_N:
        break;
    }
    return error_set_code(err, ERROR_UNSUPPORTED, "unsupported", "not a format we read");
}

void read_child_send_failed(const struct error *err) {
    struct buf payload = {0};
    wire_put_failed(&payload, err);
    sandbox_child_send(WIRE_FAILED, payload.data, payload.len, NULL, 0);
    buf_fini(&payload);
}

/* Whether the document was read; then it has been sent. */
static bool read_mapped(struct reading *reading, struct error *err) {
    struct read_task *task = &reading->task;
    bool locked;
#ifdef FAULT_POINTS
    fault_reader(task);
#endif
    if (!identify(task, &locked, err))
        return false;
    task->builder = doc_builder_new(read_format_lookup(task->format)->name);
    if (has_sheets(task->format))
        doc_set_slides(task->builder);
    if (!dispatch(reading, err)) {
        if (locked)
            password_required(err);
        doc_builder_free(task->builder);
        return false;
    }
    struct document *doc;
    if (!doc_finish(&doc, task->builder, err))
        return false;
    struct buf payload = {.max = wire_max_len(WIRE_DOCUMENT)};
    doc_encode(&payload, doc);
    doc_free(doc);
    bool fits = !payload.failed;
    if (fits)
        sandbox_child_send(WIRE_DOCUMENT, payload.data, payload.len, NULL, 0);
    buf_fini(&payload);
    return fits ? true
                : error_set_code(err, ERROR_LIMIT, "limit", "the document is larger than %zu bytes",
                                 wire_max_len(WIRE_DOCUMENT));
}

static bool send_pixels(struct read_task *task, struct error *err) {
#ifdef FAULT_POINTS
    fault_reader(task);
#endif
    return pixels_send(task, err);
}

/* type: WIRE_READ or WIRE_PIXELS. */
static void read_one(uint32_t type, const struct wire_request *request, int fd,
                     const char *languages) {
    struct reading reading = {
        .task =
            {
                .format = request->format,
                .filename = request->filename,
                .render_dpi = request->render_dpi,
                .max_pages = request->max_pages,
                .ocr_languages = languages,
            },
        .told_n = UINT32_MAX,
    };
    struct read_task *task = &reading.task;
    struct error err = {0};
    struct stat st;
    void *map = MAP_FAILED;
    task->wire = &reading;
    sandbox_cpu_limit(CPU_S);

    if (fd < 0 || fstat(fd, &st) != 0) {
        error_set_code(&err, ERROR_INTERNAL, "parser_crash", "no descriptor came");
    } else if (st.st_size == 0) {
        error_set_code(&err, ERROR_INPUT, "empty_file", "the file is empty");
    } else {
        task->size = (size_t)st.st_size;
        map = mmap(NULL, task->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            error_set_code(&err, ERROR_INTERNAL, "out_of_memory", "mapping %zu bytes: %s",
                           task->size, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED) {
        read_child_send_failed(&err);
        return;
    }
    task->data = map;
    task->arena = arena_new(ARENA_MAX);
    bool fine = type == WIRE_PIXELS ? send_pixels(task, &err) : read_mapped(&reading, &err);
    arena_free(task->arena);
    munmap(map, task->size);
    if (reading.pdf_map)
        munmap(reading.pdf_map, reading.pdf_map_size);
    if (!fine)
        read_child_send_failed(&err);
}

/* ---- children -------------------------------------------------------------------------------- */

void read_child_send_ready(const struct wire_ready *ready) {
    struct buf payload = {0};
    wire_put_ready(&payload, ready);
    sandbox_child_send(WIRE_READY, payload.data, payload.len, NULL, 0);
    buf_fini(&payload);
}

static int reader_main(const char *languages) {
    struct wire_ready ready = {.engine = FZ_VERSION};
    struct error err = {0};
    struct sandbox_lock lock = {.kind = SANDBOX_PURE};
    container_prepare();
    read_pages_preload();
    ocr_preload(languages);
    if (!sandbox_lock(ready.level, &lock, &err)) {
        read_child_send_failed(&err);
        return 1;
    }
    snprintf(ready.ocr, sizeof ready.ocr, "%s", ocr_describe());
    read_child_send_ready(&ready);

    uint32_t type;
    uint8_t *payload;
    size_t len;
    int fd;
    while (sandbox_child_receive(&type, &payload, &len, &fd)) {
        struct wire_request request;
        if ((type != WIRE_READ && type != WIRE_PIXELS) || !wire_get_request(&request, payload, len))
            return 1;
        mem_free(payload);
        read_one(type, &request, fd, languages);
        mem_free((void *)request.filename);
    }
    return 0;
}

/* Locks up and reports what is possible all the same. */
static int probe_main(const char *what, const char *dir) {
    struct wire_ready ready = {0};
    struct error err = {0};
    struct sandbox_lock lock = {
        .kind = strcmp(what, "converter") == 0 ? SANDBOX_CONVERTER : SANDBOX_PURE,
        .private_dir = dir,
    };
    if (!sandbox_lock(ready.level, &lock, &err)) {
        read_child_send_failed(&err);
        return 1;
    }
    sandbox_probe(ready.missing, lock.kind);
    read_child_send_ready(&ready);
    return 0;
}

int read_child_main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    sandbox_child_begin();
    int status = 2;
    if (strcmp(argv[2], "reader") == 0)
        status = reader_main(argv[3]);
    else if (strcmp(argv[2], "converter") == 0)
        status = read_converter_main(argv[3], argc > 4 && strcmp(argv[4], "soffice") == 0);
    else if (strcmp(argv[2], "probe") == 0)
        status = probe_main(argv[3], argc > 4 ? argv[4] : NULL);
    fflush(NULL);
    _exit(status); /* no library's own clean-up: the jail refuses much of it */
}
