/* The pipeline: original -> sandboxed reader -> document -> chunks -> vectors -> rows and full
 * text.
 *
 * Page pictures are written as they come, and embedded while the reading goes on; document.bin
 * follows; the rows that make the document searchable, and the job's end, commit together last.
 * Until then nothing refers to the files and vectors: an attempt that fails removes the files, the
 * next begins anew. */
#include "corpus/shared.h"
#include "corpus/vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_PARSING 0.1
#define PROGRESS_VISUAL 0.3
#define PROGRESS_TEXT 0.6
#define PROGRESS_STORING 0.9
#define MAX_ORIGINAL_HEAD 4096

struct ingest {
    struct corpus *corpus;
    struct queue_job *job;
    const struct job_row *row;
    struct arena *arena;
    struct doc_vectors *vectors;
    int n_pages; /* once it is read */
};

/* Replaces path by data: a reader of the old picture never sees half of the new one. Of two
 * attempts (the older one about to find its job cancelled) each has its own part. */
static bool write_picture(const struct ingest *in, const char *path, struct arena *arena,
                          const void *data, size_t len, struct error *err) {
    const char *part = arena_printf(arena, "%s.part-%lld", path, (long long)in->row->job_id);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", part);
    bool ok = fd_write_all(fd, data, len, err);
    if (ok && fsync(fd) != 0)
        ok = error_set_errno(err, errno, "%s", part);
    if (close(fd) != 0 && ok)
        ok = error_set_errno(err, errno, "%s", part);
    if (ok && rename(part, path) != 0)
        ok = error_set_errno(err, errno, "%s", path);
    if (!ok)
        unlink(part);
    return ok;
}

static bool on_picture(void *ctx, uint32_t page_i, const void *jpeg, size_t jpeg_len,
                       const void *thumb, size_t thumb_len, struct error *err) {
    struct ingest *in = ctx;
    struct store *store = in->corpus->store;
    struct arena *arena = arena_new(0);
    int page_no = (int)page_i + 1;
    bool ok = store_check_space(store, (int64_t)(jpeg_len + thumb_len), err) &&
              write_picture(in, store_path(arena, store, in->row->doc_id, STORE_PAGE, page_no),
                            arena, jpeg, jpeg_len, err) &&
              write_picture(in, store_path(arena, store, in->row->doc_id, STORE_THUMB, page_no),
                            arena, thumb, thumb_len, err);
    arena_free(arena);
    if (ok)
        corpus_vectors_page(in->vectors, page_no);
    return ok;
}

/* Where the stages begin: one whose model is not there takes none of the way. */
static double visual_ends(const struct ingest *in) {
    return corpus_vectors_has(in->vectors, ROLE_TEXT) ? PROGRESS_TEXT : PROGRESS_STORING;
}

static double parsing_ends(const struct ingest *in) {
    return corpus_vectors_has(in->vectors, ROLE_VISUAL) ? PROGRESS_VISUAL : visual_ends(in);
}

static void on_progress(void *ctx, uint32_t pages_done, uint32_t n_pages) {
    struct ingest *in = ctx;
    double share = n_pages > 0 ? (double)pages_done / n_pages : 0;
    queue_job_progress(in->job, "parsing",
                       PROGRESS_PARSING + share * (parsing_ends(in) - PROGRESS_PARSING),
                       (int)pages_done, (int)n_pages);
}

static bool on_cancelled(void *ctx) {
    struct ingest *in = ctx;
    return queue_job_cancelled(in->job);
}

static bool read_original(struct document **doc, struct ingest *in, struct error *err) {
    const char *path = store_path(in->arena, in->corpus->store, in->row->doc_id, STORE_ORIGINAL, 0);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_code(err, ERROR_INPUT, "original_missing", "the original is gone: %s",
                              strerror(errno));
    char head[MAX_ORIGINAL_HEAD];
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0) {
        close(fd);
        return error_set_errno(err, errno, "%s", path);
    }
    struct read_request request = {
        .fd = fd,
        .filename = in->row->filename,
        .format = read_detect(head, (size_t)n, in->row->filename),
    };
    struct read_sink sink = {
        .ctx = in,
        .picture = on_picture,
        .progress = on_progress,
        .cancelled = on_cancelled,
    };
    bool ok = read_document(doc, in->corpus->readers, &request, &sink, err);
    close(fd);
    return ok;
}

/* A chunk's headings in one text: the path at its start, then a line `<byte>\t<path>` for each
 * further one. corpus_heading takes it apart. */
static char *headings_text(struct arena *arena, const struct doc_chunk *chunk) {
    struct buf text = {0};
    buf_puts(&text, chunk->headings[0].path);
    for (uint32_t i = 1; i < chunk->n_headings; i++)
        buf_printf(&text, "\n%u\t%s", chunk->headings[i].off, chunk->headings[i].path);
    char *copy = arena_strndup(arena, text.data ? text.data : "", text.len);
    buf_fini(&text);
    return copy;
}

/* The chunk's rows; texts and paths stay the chunks', places are the arena's. */
static struct chunk_row *chunk_rows(struct arena *arena, const struct doc_chunks *chunks,
                                    const char *doc_id) {
    struct chunk_row *rows = arena_alloc(arena, (chunks->n + 1) * sizeof *rows);
    struct buf places = {0};
    for (uint32_t i = 0; i < chunks->n; i++) {
        const struct doc_chunk *chunk = &chunks->items[i];
        buf_clear(&places);
        doc_places_encode(&places, chunk->words, chunk->n_words_placed);
        memcpy(rows[i].doc_id, doc_id, sizeof rows[i].doc_id);
        rows[i].ordinal = (int)chunk->ordinal;
        rows[i].n_words = (int)chunk->n_words;
        rows[i].first_page = chunk->first_page_i == DOC_NO_PAGE ? 0 : (int)chunk->first_page_i + 1;
        rows[i].last_page = chunk->last_page_i == DOC_NO_PAGE ? 0 : (int)chunk->last_page_i + 1;
        rows[i].text = chunk->text;
        rows[i].heading_path = headings_text(arena, chunk);
        rows[i].places = arena_strndup(arena, places.data, places.len);
        rows[i].places_len = places.len;
    }
    buf_fini(&places);
    return rows;
}

static struct page_row *page_rows(struct arena *arena, const struct document *doc) {
    struct page_row *rows = arena_alloc(arena, (doc->n_pages + 1) * sizeof *rows);
    for (uint32_t i = 0; i < doc->n_pages; i++) {
        rows[i].width_pt = doc->pages[i].width_pt;
        rows[i].height_pt = doc->pages[i].height_pt;
        rows[i].flags = doc->pages[i].flags;
    }
    return rows;
}

static bool write_document(struct ingest *in, const struct document *doc, struct error *err) {
    struct buf encoded = {.max = (size_t)2 << 30};
    doc_encode(&encoded, doc);
    const char *path = store_path(in->arena, in->corpus->store, in->row->doc_id, STORE_DOCUMENT, 0);
    bool ok = encoded.failed ? error_set_code(err, ERROR_INTERNAL, "out_of_memory",
                                              "the document's text does not fit in memory")
                             : file_write_durable(path, encoded.data, encoded.len, err);
    buf_fini(&encoded);
    return ok;
}

/* What the row says of the document now that it has been read. Group follows format: what is inside
 * decides, whatever the name promised. */
static void describe(struct document_row *row, const struct ingest *in, const struct document *doc,
                     uint32_t n_chunks) {
    memset(row, 0, sizeof *row);
    memcpy(row->doc_id, in->row->doc_id, sizeof row->doc_id);
    row->format = doc->format;
    const struct read_format_info *info = read_format_named(doc->format);
    row->group = info ? info->group : "text";
    row->n_pages = (int)doc->n_pages;
    row->n_chunks = (int)n_chunks;
    row->title = doc->title;
    row->author = doc->author;
    row->created = doc->created;
    const char *without = corpus_vectors_warning(in->arena, in->vectors);
    row->warning = *doc->warning && *without
                       ? arena_printf(in->arena, "%s; %s", doc->warning, without)
                       : (*without ? without : doc->warning);
}

static bool commit_reading(struct ingest *in, const struct document *doc,
                           const struct doc_chunks *chunks, struct error *err) {
    struct document_row row;
    describe(&row, in, doc, chunks->n);
    const struct page_row *pages = page_rows(in->arena, doc);
    const struct chunk_row *rows = chunk_rows(in->arena, chunks, in->row->doc_id);
    struct store_tx *tx;
    bool again = false;
    if (!store_begin(&tx, in->corpus->store, err))
        return false;
    bool shared = in->corpus->shared != NULL; /* then the job ends once the document is there too */
    if ((!shared && !queue_end_in(in->job, tx, row.n_pages, err)) ||
        !store_put_reading(tx, &row, pages, rows, (int)chunks->n, err) ||
        (shared && !corpus_share_hold(in->corpus, tx, in->row->doc_id, err)) ||
        !corpus_vectors_commit(in->vectors, tx, err) ||
        !corpus_embed_later(&again, in->corpus, tx, in->vectors, in->row, err)) {
        store_rollback(tx);
        return false;
    }
    bool ok = store_commit(tx, err);
    if (ok && again)
        queue_wake(in->corpus->queue);
    return ok;
}

/* Whether the attempt's job is still its own and its document's newest: then nobody else makes
 * files of this document. */
static bool is_alone(struct ingest *in, struct error *err) {
    struct job_row newest;
    bool found;
    return store_find_document_job(&newest, &found, in->arena, in->corpus->store, in->row->doc_id,
                                   err) &&
           found && newest.job_id == in->row->job_id && newest.attempts == in->row->attempts &&
           newest.state == JOB_PROCESSING;
}

/* An attempt that came to nothing leaves nothing behind: of a document that was removed meanwhile
 * no files, of one that is given up the original alone. */
static void clean_up(struct ingest *in, bool keep) {
    struct document_row row;
    bool found;
    struct error err;
    struct lock *stripe = corpus_stripe(in->corpus, in->row->doc_id);
    lock_take(stripe);
    if (store_find_document(&row, &found, in->arena, in->corpus->store, in->row->doc_id, &err)) {
        if (!found)
            corpus_drop_unnamed(in->corpus, in->row->doc_id);
        else if (!keep && row.state != DOCUMENT_READY && is_alone(in, &err) &&
                 !store_drop_reading(in->corpus->store, in->row->doc_id, &err))
            log_warn("pictures of %s stay behind: %s", in->row->doc_id, err.text);
    }
    lock_drop(stripe);
}

/* Pages and passages as vectors, synced; what has no model is left out. */
static bool embed_reading(struct ingest *in, const struct document *doc,
                          const struct doc_chunks *chunks, struct error *err) {
    int n_pages = (int)doc->n_pages;
    corpus_vectors_chunks(in->vectors, chunks);
    return corpus_vectors_wait(in->vectors, ROLE_VISUAL, n_pages, PROGRESS_VISUAL, visual_ends(in),
                               err) &&
           corpus_vectors_wait(in->vectors, ROLE_TEXT, n_pages, PROGRESS_TEXT, PROGRESS_STORING,
                               err) &&
           corpus_vectors_sync(in->vectors, err);
}

static bool store_reading(struct ingest *in, const struct document *doc,
                          const struct doc_chunks *chunks, struct error *err) {
    int64_t begun_ms = time_mono_ms();
    queue_job_progress(in->job, "storing", PROGRESS_STORING, (int)doc->n_pages, (int)doc->n_pages);
    struct lock *stripe = corpus_stripe(in->corpus, in->row->doc_id);
    lock_take(stripe);
    bool ok = write_document(in, doc, err) && commit_reading(in, doc, chunks, err);
    lock_drop(stripe);
    if (ok)
        fault_point("committed");
    metric_observe("docusearch_stage_seconds", "stage=\"write\"", "Time a stage of a job took.",
                   (double)(time_mono_ms() - begun_ms) / 1000);
    return ok;
}

/* From the document to the commit. The vectors end before the chunks that they are of. */
static bool take_in(struct ingest *in, const struct document *doc, struct error *err) {
    const struct settings *settings = in->corpus->settings;
    struct doc_chunks *chunks = NULL;
    if (!doc_chunk(&chunks, doc, settings->chunk_size_words, settings->chunk_overlap_words, err))
        return false;
    fault_point("chunked");
    bool ok = embed_reading(in, doc, chunks, err) && store_reading(in, doc, chunks, err);
    corpus_vectors_free(in->vectors);
    in->vectors = NULL;
    doc_chunks_free(chunks);
    return ok;
}

/* From the original to rows and vectors here. */
static bool read_in(struct ingest *in, struct error *err) {
    struct document *doc = NULL;
    struct vector_targets targets;
    int64_t begun_ms = time_mono_ms();
    if (in->row->attempts > 1)
        clean_up(in, false); /* of one that was killed */
    corpus_targets_take(&targets, in->corpus);
    in->vectors = corpus_vectors_new(in->corpus, in->job, &targets, true);
    bool ok = read_original(&doc, in, err);
    if (ok) {
        metric_observe("docusearch_stage_seconds", "stage=\"read\"", "Time a stage of a job took.",
                       (double)(time_mono_ms() - begun_ms) / 1000);
        fault_point("parsed");
        in->n_pages = (int)doc->n_pages;
        ok = take_in(in, doc, err);
    }
    corpus_vectors_free(in->vectors);
    doc_free(doc);
    return ok;
}

/* Where documents are shared, what was read is put into the store too; an attempt that comes after
 * that failed goes on there. */
static bool read_and_share(struct ingest *in, struct error *err) {
    struct corpus *corpus = in->corpus;
    bool left = false;
    if (!corpus->shared)
        return read_in(in, err);
    if (!corpus_share_is_left(&left, corpus, in->row, err) || (!left && !read_in(in, err)) ||
        !corpus_share(corpus, in->job, in->row->doc_id, err))
        return false;
    struct document_row row;
    struct error unused;
    bool found;
    if (left &&
        store_find_document(&row, &found, in->arena, corpus->store, in->row->doc_id, &unused) &&
        found)
        in->n_pages = row.n_pages;
    return true;
}

static void tell_failure(struct ingest *in, const struct error *err) {
    if (err->kind == ERROR_CONFLICT)
        log_info("Stopped processing %s: %s", in->row->filename, err->text);
    else if (strcmp(err->code, SHARED_DOWN) == 0 && strcmp(in->row->error_code, SHARED_DOWN) == 0)
        log_debug("%s still waits for ChromaDB: %s", in->row->filename, err->text);
    else
        log_warn("Failed to process %s: %s%s", in->row->filename, err->text,
                 queue_will_retry(in->job, err) ? " (will be tried again)" : "");
}

bool corpus_ingest(struct corpus *corpus, struct queue_job *job, struct error *err) {
    struct ingest in = {
        .corpus = corpus, .job = job, .row = queue_job_row(job), .arena = arena_new(0)};
    int64_t begun_ms = time_mono_ms();
    metric_observe("docusearch_queue_wait_seconds", NULL, "Time a job waited before an attempt.",
                   (double)(in.row->started_ms - in.row->created_ms) / 1000);
    queue_job_progress(job, "parsing", PROGRESS_PARSING, 0, 0);
    bool ok = read_and_share(&in, err);
    /* A removal takes the folder away from under the attempt: its end is that, not what it met. */
    if (!ok && queue_job_cancelled(job))
        error_set_code(err, ERROR_CONFLICT, "cancelled", "the reading was cancelled");
    double seconds = (double)(time_mono_ms() - begun_ms) / 1000;
    if (ok)
        log_info("Processed document: %s (%d pages, %.1fs, %.1f pages/s)", in.row->filename,
                 in.n_pages, seconds, seconds > 0 ? in.n_pages / seconds : 0);
    else
        tell_failure(&in, err);
    /* After an i/o error the commit may be found whole at the next start. */
    if (!ok)
        clean_up(&in, queue_will_retry(job, err) || strcmp(err->code, "storage_error") == 0);
    arena_free(in.arena);
    return ok;
}
