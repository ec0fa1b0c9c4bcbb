/* The pool of reader children: lends one to each caller, feeds it, judges what comes back, and ends
 * it when it is slow, greedy, lying or dead.
 *
 * A slot belongs to the caller it is lent to; only `lent` is shared, under the pool's lock. A child
 * that was lost is started again by the slot's next caller. */
#include "read/pool.h"

#include "read/child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- slots ----------------------------------------------------------------------------------- */

static bool is_cancelled(const struct read_sink *sink) {
    return sink && sink->cancelled && sink->cancelled(sink->ctx);
}

static bool cancelled(struct error *err) {
    return error_set_code(err, ERROR_CONFLICT, "cancelled", "the reading was cancelled");
}

/* A slot whose child runs already is taken before one that would have to start it. */
static struct read_slot *free_slot(struct read_slot *slots, int n) {
    struct read_slot *found = NULL;
    for (int i = 0; i < n; i++)
        if (!slots[i].lent && (!found || (!found->child && slots[i].child)))
            found = &slots[i];
    return found;
}

struct read_slot *pool_lend(struct read_pool *pool, struct read_slot *slots, int n,
                            const struct read_sink *sink, struct error *err) {
    for (;;) {
        lock_take(&pool->lock);
        struct read_slot *slot = free_slot(slots, n);
        if (slot)
            slot->lent = true;
        else
            cond_wait(&pool->changed, &pool->lock, time_mono_ms() + READ_ASK_MS);
        lock_drop(&pool->lock);
        if (slot)
            return slot;
        if (is_cancelled(sink)) {
            cancelled(err);
            return NULL;
        }
    }
}

void pool_give(struct read_pool *pool, struct read_slot *slot) {
    lock_take(&pool->lock);
    slot->lent = false;
    cond_wake_all(&pool->changed);
    lock_drop(&pool->lock);
}

void pool_end(struct read_slot *slot) {
    sandbox_end(slot->child, 0, NULL);
    slot->child = NULL;
    slot->n_documents = 0;
    struct error err = {0};
    if (slot->dir && !dir_remove(slot->dir, &err))
        log_warn("removing %s: %s", slot->dir, err.text);
    if (slot->link)
        unlink(slot->link);
    mem_free(slot->dir);
    mem_free(slot->link);
    slot->dir = slot->link = NULL;
}

/* The child has ended by itself, or closed its socket: how? */
static bool lost(struct read_slot *slot, struct error *err) {
    const char *who = slot->kind == SANDBOX_PURE ? "the reader" : "LibreOffice";
    int code;
    enum sandbox_end end = sandbox_end(slot->child, 500, &code);
    slot->child = NULL;
    pool_end(slot);
    switch (end) {
    case SANDBOX_EXITED:
        if (code == 0)
            return error_set_code(err, ERROR_INTERNAL, "parser_protocol",
                                  "%s ended without an answer", who);
        return error_set_code(err, ERROR_INTERNAL, "parser_crash", "%s ended with status %d", who,
                              code);
    case SANDBOX_CRASHED:
        return error_set_code(err, ERROR_INTERNAL, "parser_crash", "%s ended by signal %d (%s)",
                              who, code, strsignal(code));
    case SANDBOX_OUT_OF_MEMORY:
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "%s ran out of memory", who);
    case SANDBOX_OUT_OF_TIME:
        return error_set_code(err, ERROR_LIMIT, "timeout", "%s used up its processor time", who);
    case SANDBOX_FORBIDDEN:
        return error_set_code(err, ERROR_INTERNAL, "parser_crash",
                              "%s made a forbidden system call", who);
    case SANDBOX_KILLED:
        break;
    }
    return error_set_code(err, ERROR_INTERNAL, "parser_protocol", "%s closed its socket", who);
}

bool pool_await(struct sandbox_frame *out, struct read_slot *slot, const struct read_sink *sink,
                int64_t silence_ms, int64_t deadline_ms, struct error *err) {
    const char *who = slot->kind == SANDBOX_PURE ? "the reader" : "LibreOffice";
    int64_t memory_max = slot->kind == SANDBOX_PURE ? SANDBOX_MEMORY_PURE
                                                    : SANDBOX_MEMORY_CONVERTER;
    int64_t silent_ms = time_mono_ms() + silence_ms;
    for (;;) {
        if (is_cancelled(sink)) {
            pool_end(slot);
            return cancelled(err);
        }
        int64_t until_ms = time_mono_ms() + READ_ASK_MS;
        if (until_ms > silent_ms)
            until_ms = silent_ms;
        if (until_ms > deadline_ms)
            until_ms = deadline_ms;
        switch (sandbox_receive(out, slot->child, wire_max_len, until_ms)) {
        case SANDBOX_FRAME:
            /* A child that never falls silent has an end all the same. */
            if (time_mono_ms() <= deadline_ms)
                return true;
            break;
        case SANDBOX_CLOSED:
            return lost(slot, err);
        case SANDBOX_BROKEN:
            pool_end(slot);
            return error_set_code(err, ERROR_INTERNAL, "parser_protocol",
                                  "%s sent a frame that cannot be", who);
        case SANDBOX_WAITING:
            break;
        }
        int64_t now_ms = time_mono_ms();
        if (now_ms >= deadline_ms || now_ms >= silent_ms) {
            pool_end(slot);
            return error_set_code(err, ERROR_LIMIT, "timeout",
                                  now_ms >= deadline_ms ? "%s took longer than its deadline"
                                                        : "%s made no progress",
                                  who);
        }
        if (sandbox_rss_bytes(slot->child) > memory_max) {
            pool_end(slot);
            return error_set_code(err, ERROR_INTERNAL, "out_of_memory",
                                  "%s used more than %lld MiB", who, (long long)(memory_max >> 20));
        }
    }
}

bool pool_start(struct read_slot *slot, const struct sandbox_spawn *spawn,
                const struct read_sink *sink, struct error *err) {
    struct sandbox_frame frame;
    int64_t deadline_ms = time_mono_ms() + READ_START_MS;
    if (!sandbox_spawn(&slot->child, spawn, err))
        return false;
    slot->n_documents = 0;
    if (!pool_await(&frame, slot, sink, READ_START_MS, deadline_ms, err))
        return false;
    if (frame.type == WIRE_READY && wire_get_ready(&slot->ready, frame.data, frame.len))
        return true;
    if (frame.type != WIRE_FAILED || !wire_get_failed(err, frame.data, frame.len))
        error_set_code(err, ERROR_INTERNAL, "parser_protocol", "a child began with frame %u",
                       (unsigned)frame.type);
    pool_end(slot);
    return false;
}

static bool start_reader(struct read_pool *pool, struct read_slot *slot,
                         const struct read_sink *sink, struct error *err) {
    const char *args[] = {"reader-child", "reader", pool->ocr_languages, NULL};
    static const char *const env[] = {"TZ=UTC0", NULL}; /* else libc looks for /etc/localtime */
    struct sandbox_spawn spawn = {.args = args, .env = env};
    return pool_start(slot, &spawn, sink, err);
}

/* ---- the pool -------------------------------------------------------------------------------- */

static int64_t deadline_setting(const char *name, int64_t fallback_ms) {
#ifdef FAULT_POINTS
    const char *text = getenv(name);
    int64_t value;
    if (text && text_to_int(&value, text, 1, fallback_ms, name, NULL))
        return value;
#else
    (void)name;
#endif
    return fallback_ms;
}

bool read_pool_open(struct read_pool **out, const struct settings *settings, int n_children,
                    const char *scratch_dir, struct error *err) {
    if (n_children < 1)
        n_children = 1;
    if (!dir_make(scratch_dir, err))
        return false;
    char *absolute = realpath(scratch_dir, NULL);
    if (!absolute)
        return error_set_errno(err, errno, "%s", scratch_dir);

    struct read_pool *pool = mem_alloc(sizeof *pool);
    lock_init(&pool->lock, LOCK_READ);
    cond_init(&pool->changed);
    pool->scratch_dir = mem_strdup(absolute);
    free(absolute); /* realpath's block */
    pool->ocr_languages = mem_strdup(settings->ocr_languages ? settings->ocr_languages : "eng");
    pool->render_dpi = settings->render_dpi;
    pool->max_pages = settings->max_pages;
    pool->silence_ms = deadline_setting("DOCUSEARCH_READ_SILENCE_MS", READ_SILENCE_MS);
    pool->total_ms = deadline_setting("DOCUSEARCH_READ_TOTAL_MS", READ_TOTAL_MS);
    pool->convert_ms = deadline_setting("DOCUSEARCH_READ_CONVERT_MS", READ_CONVERT_MS);
    pool->n_readers = n_children;
    pool->n_converters = n_children > 4 ? 4 : n_children;
    pool->readers = mem_alloc((size_t)pool->n_readers * sizeof *pool->readers);
    pool->converters = mem_alloc((size_t)pool->n_converters * sizeof *pool->converters);
    for (int i = 0; i < pool->n_readers; i++)
        pool->readers[i].kind = SANDBOX_PURE;
    for (int i = 0; i < pool->n_converters; i++)
        pool->converters[i].kind = SANDBOX_CONVERTER;
    for (int i = 0; i < READ_DECODERS; i++)
        pool->decoders[i].kind = SANDBOX_PURE;
    pool_clean_scratch(pool);
    *out = pool;
    return true;
}

void read_pool_close(struct read_pool *pool) {
    if (!pool)
        return;
    for (int i = 0; i < pool->n_readers; i++)
        pool_end(&pool->readers[i]);
    for (int i = 0; i < pool->n_converters; i++)
        pool_end(&pool->converters[i]);
    for (int i = 0; i < READ_DECODERS; i++)
        pool_end(&pool->decoders[i]);
    lock_fini(&pool->lock);
    cond_fini(&pool->changed);
    mem_free(pool->readers);
    mem_free(pool->converters);
    mem_free(pool->scratch_dir);
    mem_free(pool->ocr_languages);
    mem_free(pool);
}

/* ---- one document ---------------------------------------------------------------------------- */

static bool has_own_structure(enum read_format format) {
    return format == FORMAT_DOCX || format == FORMAT_PPTX || format == FORMAT_XLSX;
}

/* Sends the request, WIRE_READ or WIRE_PIXELS; a child that died while it was idle is replaced
 * once.
 */
static bool send_request(struct read_pool *pool, struct read_slot *slot, enum wire_type type,
                         const struct read_request *request, const struct read_sink *sink,
                         struct error *err) {
    struct buf payload = {0};
    struct wire_request wanted = {
        .format = request->format,
        .render_dpi = pool->render_dpi,
        .max_pages = pool->max_pages,
        .filename = request->filename ? request->filename : "",
    };
    wire_put_request(&payload, &wanted);
    bool sent = false;
    for (int attempt = 0; attempt < 2 && !sent; attempt++) {
        if (!slot->child && !start_reader(pool, slot, sink, err))
            break;
        sent = sandbox_send(slot->child, type, payload.data, payload.len, request->fd, err);
        if (!sent)
            pool_end(slot);
    }
    buf_fini(&payload);
    return sent;
}

/* The reader wants the PDF of what it found in the container. Without one it is told so, and what
 * went wrong stays in *why. False: the reading cannot go on. */
static bool answer_pdf(struct read_pool *pool, struct read_slot *slot,
                       const struct wire_reading *reading, const struct read_request *request,
                       struct error *why, struct error *err) {
    int fd = -1;
    char warning[300] = "";
    if (!pool_convert(&fd, pool, reading->needs, request->fd, reading->sink, why)) {
        if (why->kind == ERROR_CONFLICT || why->kind == ERROR_IO) {
            *err = *why;
            pool_end(slot);
            return false;
        }
        snprintf(warning, sizeof warning, "no page pictures: %s", why->text);
    }
    struct buf payload = {0};
    wire_put_pdf(&payload, fd >= 0, warning);
    bool sent = sandbox_send(slot->child, WIRE_PDF, payload.data, payload.len, fd, err);
    buf_fini(&payload);
    if (fd >= 0)
        close(fd);
    return sent ? true : lost(slot, err);
}

/* Of two failures, the reader's and the converter's, the one that says more. */
static void choose_failure(struct error *err, const struct error *why,
                           const struct wire_reading *reading) {
    if (why->kind && strcmp(err->code, "password_required") != 0 &&
        (!has_own_structure(reading->needs) || strcmp(why->code, "password_required") == 0))
        *err = *why;
}

static bool run_reading(struct read_pool *pool, struct read_slot *slot,
                        struct wire_reading *reading, const struct read_request *request,
                        struct error *err) {
    struct error why = {0};
    int64_t start_ms = time_mono_ms();
    for (;;) {
        struct sandbox_frame frame;
        int64_t deadline_ms = start_ms + pool->total_ms + (int64_t)reading->n_pages * READ_PAGE_MS;
        if (!pool_await(&frame, slot, reading->sink, pool->silence_ms, deadline_ms, err))
            return false;
        switch (wire_take(reading, frame.type, frame.data, frame.len, err)) {
        case WIRE_GOES_ON:
            break;
        case WIRE_DONE:
            return true;
        case WIRE_NEEDS_PDF:
            if (!answer_pdf(pool, slot, reading, request, &why, err))
                return false;
            break;
        case WIRE_REFUSED:
            choose_failure(err, &why, reading);
            return false;
        case WIRE_STOPPED:
        case WIRE_LIES:
            pool_end(slot);
            return false;
        }
    }
}

/* A child that has worked long, or grown, is not used again. */
static void give_reader(struct read_pool *pool, struct read_slot *slot, int n_most) {
    if (slot->child &&
        (++slot->n_documents >= n_most || sandbox_rss_bytes(slot->child) > READER_RSS_MAX))
        pool_end(slot);
    pool_give(pool, slot);
}

bool read_document(struct document **out, struct read_pool *pool,
                   const struct read_request *request, const struct read_sink *sink,
                   struct error *err) {
    struct stat st;
    struct error local = {0};
    if (!err)
        err = &local;
    if (fstat(request->fd, &st) != 0)
        return error_set_errno(err, errno, "%s", request->filename);
    if (st.st_size == 0)
        return error_set_code(err, ERROR_INPUT, "empty_file", "the file is empty");
    if (request->format <= FORMAT_UNKNOWN || request->format >= FORMAT_N)
        return error_set_code(err, ERROR_UNSUPPORTED, "unsupported", "not a format we read");

    struct read_slot *slot = pool_lend(pool, pool->readers, pool->n_readers, sink, err);
    if (!slot)
        return false;
    struct wire_reading reading;
    wire_reading_init(&reading, sink, pool->max_pages);
    bool fine = send_request(pool, slot, WIRE_READ, request, sink, err) &&
                run_reading(pool, slot, &reading, request, err);
    if (fine) {
        *out = reading.doc;
        reading.doc = NULL;
    } else if (!slot->child && err->kind != ERROR_CONFLICT) {
        log_warn("reader lost over %s: %s", request->filename, err->text);
    }
    wire_reading_fini(&reading);
    give_reader(pool, slot, READER_DOCUMENTS);
    return fine;
}

/* ---- pixels ---------------------------------------------------------------------------------- */

static bool take_pixels(struct wire_pixels *pixels, struct read_pool *pool, struct read_slot *slot,
                        const struct read_sink *sink, struct error *err) {
    int64_t deadline_ms = time_mono_ms() + READ_PIXELS_MS;
    for (;;) {
        struct sandbox_frame frame;
        if (!pool_await(&frame, slot, sink, pool->silence_ms, deadline_ms, err))
            return false;
        enum wire_step step = wire_take_pixels(pixels, frame.type, frame.data, frame.len, err);
        if (step == WIRE_DONE)
            return true;
        if (step == WIRE_REFUSED)
            return false;
        if (step != WIRE_GOES_ON) {
            pool_end(slot);
            return false;
        }
    }
}

/* By a decoder from the first on. */
static bool decode(uint8_t **rgb, int *width, int *height, struct read_pool *pool, int first,
                   int fd, const char *filename, const struct read_sink *sink, struct error *err) {
    uint8_t head[4096];
    ssize_t n = pread(fd, head, sizeof head, 0);
    *rgb = NULL;
    *width = *height = 0;
    if (n < 0)
        return error_set_errno(err, errno, "%s", filename);
    if (n == 0)
        return error_set_code(err, ERROR_INPUT, "empty_file", "the file is empty");
    struct read_request request = {fd, filename, read_detect(head, (size_t)n, filename)};
    if (strcmp(read_format_lookup(request.format)->group, "images") != 0)
        return error_set_code(err, ERROR_UNSUPPORTED, "unsupported", "not a picture file");
    struct read_slot *slot = pool_lend(pool, pool->decoders + first, READ_DECODERS - first, sink,
                                       err);
    if (!slot)
        return false;
    struct wire_pixels pixels = {0};
    bool fine = send_request(pool, slot, WIRE_PIXELS, &request, sink, err) &&
                take_pixels(&pixels, pool, slot, sink, err);
    if (fine) {
        *rgb = pixels.rgb;
        *width = pixels.width;
        *height = pixels.height;
    } else {
        mem_free(pixels.rgb);
    }
    give_reader(pool, slot, READER_PICTURES);
    return fine;
}

bool read_pixels(uint8_t **rgb, int *width, int *height, struct read_pool *pool, int fd,
                 const char *filename, struct error *err) {
    return decode(rgb, width, height, pool, 0, fd, filename, NULL, err);
}

bool read_pixels_bytes(uint8_t **rgb, int *width, int *height, struct read_pool *pool,
                       const void *data, size_t len, const struct read_sink *sink,
                       struct error *err) {
    int fd = memfd_create("picture", MFD_CLOEXEC);
    *rgb = NULL;
    if (fd < 0)
        return error_set_errno(err, errno, "memory for a picture");
    bool fine = fd_write_all(fd, data, len, err) &&
                decode(rgb, width, height, pool, READ_DECODERS - 1, fd, "picture", sink, err);
    close(fd);
    return fine;
}

/* ---- health ---------------------------------------------------------------------------------- */

/* What a jailed child of this kind could do and should not; "" when nothing. */
static void probe(char *out, size_t size, struct read_pool *pool, enum sandbox_kind kind) {
    struct read_slot slot = {.kind = kind};
    struct error err = {0};
    if (kind == SANDBOX_CONVERTER && !pool_make_dir(&slot, pool, &err)) {
        snprintf(out, size, "%.150s", err.text);
        return;
    }
    const char *args[] = {"reader-child", "probe", kind == SANDBOX_PURE ? "reader" : "converter",
                          slot.dir, NULL};
    struct sandbox_spawn spawn = {.args = args};
    if (pool_start(&slot, &spawn, NULL, &err))
        snprintf(out, size, "%s", slot.ready.missing);
    else if (strcmp(err.code, "parser_protocol") == 0)
        snprintf(out, size, "start a program"); /* which then ended in its place */
    else
        snprintf(out, size, "%.150s", err.text);
    pool_end(&slot);
}

static void ask_health(struct read_health *out, struct read_pool *pool) {
    struct error err = {0};
    char reader[160], converter[160] = "";
    *out = (struct read_health){0};
    probe(reader, sizeof reader, pool, SANDBOX_PURE);
    if (office_program_dir())
        probe(converter, sizeof converter, pool, SANDBOX_CONVERTER);
    out->self_test_passed = !reader[0] && !converter[0];
    snprintf(out->sandbox_detail, sizeof out->sandbox_detail, "%s%.60s%s%s%.60s",
             reader[0] ? "a reader can " : "", reader, reader[0] && converter[0] ? "; " : "",
             converter[0] ? "a converter can " : "", converter);

    struct read_slot *slot = pool_lend(pool, pool->readers, pool->n_readers, NULL, &err);
    if (slot->child || start_reader(pool, slot, NULL, &err)) {
        snprintf(out->sandbox_level, sizeof out->sandbox_level, "%s", slot->ready.level);
        snprintf(out->mupdf, sizeof out->mupdf, "%.31s", slot->ready.engine);
        snprintf(out->ocr, sizeof out->ocr, "%s", slot->ready.ocr);
    } else {
        out->self_test_passed = false;
        snprintf(out->sandbox_detail, sizeof out->sandbox_detail, "no reader: %.140s", err.text);
    }
    pool_give(pool, slot);
    pool_office_name(out->office, sizeof out->office, pool);
}

void read_health(struct read_health *out, struct read_pool *pool) {
    lock_take(&pool->lock);
    while (pool->health_state == HEALTH_ASKING)
        cond_wait(&pool->changed, &pool->lock, -1);
    bool ask = pool->health_state == HEALTH_UNKNOWN;
    if (ask)
        pool->health_state = HEALTH_ASKING;
    else
        *out = pool->health;
    lock_drop(&pool->lock);
    if (!ask)
        return;
    ask_health(out, pool);
    lock_take(&pool->lock);
    pool->health = *out;
    pool->health_state = HEALTH_KNOWN;
    cond_wake_all(&pool->changed);
    lock_drop(&pool->lock);
}
