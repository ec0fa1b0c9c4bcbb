/* Documents: listed, shown, deleted, and their files. */
#include "api/internal.h"
#include "corpus/sharing.h"

#include <string.h>
#include <sys/stat.h>

const char *document_status(const struct document_row *row, const struct job_row *job) {
    switch (row->state) {
    case DOCUMENT_READY:
        return row->warning[0] ? "partial" : "completed";
    case DOCUMENT_FAILED:
        return job && job->state == JOB_QUEUED       ? "queued"
               : job && job->state == JOB_PROCESSING ? "processing"
                                                     : "failed";
    case DOCUMENT_WAITING:
        if (job && job->state == JOB_PROCESSING)
            return "processing";
        return job && (job->state == JOB_FAILED || job->state == JOB_CANCELLED) ? "failed"
                                                                                : "queued";
    }
    return "failed";
}

static json_t *page_url(const char *doc_id, int page, const char *suffix, bool exists) {
    if (!exists)
        return json_null();
    return json_sprintf("/documents/%s/pages/%d%s.jpg", doc_id, page, suffix);
}

/* How a document stands beside its row: its newest job where it is not simply there, and whose it
 * is. */
struct standing {
    struct job_row job;
    bool has_job;
    struct sharing_facts sharing;
};

static bool find_standing(struct standing *out, struct call *call, const struct document_row *row,
                          struct error *err) {
    memset(out, 0, sizeof *out);
    if (!corpus_sharing(&out->sharing, call->arena, call->api->corpus, row->doc_id, err))
        return false;
    if (row->state == DOCUMENT_READY && !out->sharing.waiting)
        return true;
    return store_find_document_job(&out->job, &out->has_job, call->arena, call->api->store,
                                   row->doc_id, err);
}

/* One that has been read is on its way until searches show it. */
static const char *status_of(const struct document_row *row, const struct standing *standing) {
    enum job_state state = standing->has_job ? standing->job.state : JOB_QUEUED;
    if (standing->sharing.waiting)
        return state == JOB_PROCESSING                         ? "processing"
               : state == JOB_FAILED || state == JOB_CANCELLED ? "failed"
                                                               : "queued";
    return document_status(row, standing->has_job ? &standing->job : NULL);
}

/* What a listing and the document itself both show. */
static json_t *document_json(const struct document_row *row, const struct standing *standing,
                             bool has_picture) {
    const struct job_row *job = standing->has_job ? &standing->job : NULL;
    json_t *out = json_pack("{s:s, s:o, s:o, s:o, s:s, s:s, s:I, s:s, s:i, s:i}", "doc_id",
                            row->doc_id, "filename", json_text_of(row->filename), "title",
                            json_text_of(row->title), "author", json_text_of(row->author), "format",
                            row->format, "file_type_group", row->group, "size_bytes",
                            (json_int_t)row->size_bytes, "status", status_of(row, standing),
                            "page_count", row->n_pages, "chunk_count", row->n_chunks);
    bool cancelled = job && job->state == JOB_CANCELLED && row->state != DOCUMENT_READY;
    json_object_set_new(out, "date_added", json_time(row->added_ms));
    json_object_set_new(out, "date_ready", json_time(row->ready_ms));
    json_object_set_new(out, "has_images", json_boolean(has_picture));
    json_object_set_new(out, "first_page_thumb", page_url(row->doc_id, 1, "_thumb", has_picture));
    json_object_set_new(out, "warning", row->warning[0] ? json_text_of(row->warning) : json_null());
    json_object_set_new(out, "error",
                        cancelled ? api_error_json("cancelled", "cancelled")
                                  : api_error_json(row->error_code, row->error_text));
    json_object_set_new(out, "source_path", json_text_of(row->source_path));
    json_object_set_new(out, "job_id", job ? json_integer(job->job_id) : json_null());
    const char *worker = standing->sharing.worker; /* NULL: it was not found out */
    json_object_set_new(out, "worker", worker && *worker ? json_text_of(worker) : json_null());
    return out;
}

static bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

static bool has_first_page(struct call *call, const struct document_row *row) {
    return row->n_pages > 0 &&
           file_exists(store_path(call->arena, call->api->store, row->doc_id, STORE_THUMB, 1));
}

/* ---- listing -------------------------------------------------------------------------------- */

static bool parse_sort(enum store_sort *out, const char *text, struct error *err) {
    static const char *const names[] = {"newest_first", "oldest_first", "name_asc", "name_desc"};
    *out = SORT_NEWEST;
    if (!text || !*text)
        return true;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum store_sort)i;
            return true;
        }
    }
    return error_set(err, ERROR_INPUT,
                     "sort_by '%.40s': newest_first, oldest_first, name_asc or name_desc", text);
}

static bool parse_group(const char **out, const char *text, struct error *err) {
    static const char *const names[] = {"all", "pdf", "office", "text", "images", "audio"};
    *out = NULL;
    if (!text || !*text)
        return true;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (strcmp(text, names[i]) == 0)
            *out = names[i];
    return *out || error_set(err, ERROR_INPUT,
                             "file_type_group '%.40s': all, pdf, office, text or images", text);
}

void handle_documents(struct call *call) {
    struct store_list_query query = {.search = http_query(call->request, "search")};
    int64_t limit, offset, total;
    struct document_row *rows;
    int n;
    struct error err;
    if (!call_int(&limit, call, "limit", 50, 1, API_MAX_LIST) ||
        !call_int(&offset, call, "offset", 0, 0, INT32_MAX))
        return;
    query.limit = (int)limit;
    query.offset = (int)offset;
    if (!parse_sort(&query.sort, http_query(call->request, "sort_by"), &err) ||
        !parse_group(&query.group, http_query(call->request, "file_type_group"), &err) ||
        !store_list_documents(&rows, &n, &total, call->arena, call->api->store, &query, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    json_t *documents = json_array();
    for (int i = 0; i < n; i++) {
        struct standing standing;
        if (!find_standing(&standing, call, &rows[i], &err))
            memset(&standing, 0, sizeof standing);
        json_array_append_new(documents,
                              document_json(&rows[i], &standing, has_first_page(call, &rows[i])));
    }
    http_reply_json(call->response, 200,
                    json_pack("{s:o, s:I, s:i, s:i}", "documents", documents, "total",
                              (json_int_t)total, "limit", query.limit, "offset", query.offset));
}

/* ---- one ------------------------------------------------------------------------------------ */

/* The row; false: answered 404 or worse. */
static bool find_row(struct document_row *out, struct call *call) {
    bool found;
    struct error err;
    bool ok = store_find_document(out, &found, call->arena, call->api->store, call->doc_id, &err);
    if (ok && found)
        return true;
    if (ok)
        error_set(&err, ERROR_MISSING, "no document %s", call->doc_id);
    api_reply_error(call->response, &err);
    return false;
}

static json_t *pages_json(const struct document_row *row, const struct page_row *pages, int n,
                          bool own) {
    json_t *out = json_array();
    for (int i = 0; i < n; i++) {
        bool picture = own && pages[i].flags & DOC_PAGE_PICTURE;
        json_array_append_new(
            out, json_pack("{s:i, s:o, s:o, s:f, s:f, s:b, s:b}", "page_number", i + 1, "image_url",
                           page_url(row->doc_id, i + 1, "", picture), "thumb_url",
                           page_url(row->doc_id, i + 1, "_thumb", picture), "width",
                           (double)pages[i].width_pt, "height", (double)pages[i].height_pt, "ocr",
                           (pages[i].flags & DOC_PAGE_OCR) != 0, "broken",
                           (pages[i].flags & DOC_PAGE_BROKEN) != 0));
    }
    return out;
}

static json_t *page_or_null(int page) {
    return page > 0 ? json_integer(page) : json_null();
}

static json_t *chunks_json(struct arena *arena, const struct chunk_row *chunks, int n) {
    json_t *out = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(
            out, json_pack("{s:o, s:o, s:o, s:o, s:o, s:i}", "chunk_id",
                           json_sprintf("%s-chunk%04d", chunks[i].doc_id, chunks[i].ordinal),
                           "page_number", page_or_null(chunks[i].first_page), "last_page",
                           page_or_null(chunks[i].last_page), "heading_path",
                           json_text_of(corpus_heading(arena, chunks[i].heading_path, 0)),
                           "text_content", json_text_of(chunks[i].text), "word_count",
                           chunks[i].n_words));
    return out;
}

void handle_document(struct call *call) {
    struct document_row row;
    struct page_row *pages;
    struct chunk_row *chunks;
    struct job_row job; /* the newest, also of one that is there */
    struct standing standing;
    int n_pages, n_chunks;
    bool has_job;
    struct error err;
    struct store *store = call->api->store;
    if (!find_row(&row, call))
        return;
    if (!store_list_pages(&pages, &n_pages, call->arena, store, row.doc_id, &err) ||
        !store_list_chunks(&chunks, &n_chunks, call->arena, store, row.doc_id, false, &err) ||
        !store_find_document_job(&job, &has_job, call->arena, store, row.doc_id, &err) ||
        !find_standing(&standing, call, &row, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    json_t *out = document_json(&row, &standing, has_first_page(call, &row));
    json_object_set_new(out, "pages", pages_json(&row, pages, n_pages, !*standing.sharing.worker));
    json_object_set_new(out, "chunks", chunks_json(call->arena, chunks, n_chunks));
    json_object_set_new(
        out, "metadata",
        json_pack("{s:o, s:o, s:o, s:s, s:i, s:i, s:b, s:b}", "title", json_text_of(row.title),
                  "author", json_text_of(row.author), "created", json_text_of(row.created),
                  "format", row.format, "page_count", row.n_pages, "chunk_count", row.n_chunks,
                  "has_images", n_pages > 0 && (pages[0].flags & DOC_PAGE_PICTURE) != 0,
                  "markdown_available", row.state == DOCUMENT_READY));
    json_object_set_new(out, "job", has_job ? job_json(call->api, &job, &row) : json_null());
    http_reply_json(call->response, 200, out);
}

void handle_document_delete(struct call *call) {
    struct removed removed;
    struct error err;
    bool ok = corpus_remove(&removed, call->api->corpus, call->doc_id, &err);
    if (ok && !removed.found)
        ok = error_set(&err, ERROR_MISSING, "no document %s", call->doc_id);
    if (!ok) {
        api_reply_error(call->response, &err);
        return;
    }
    http_reply_json(call->response, 200,
                    json_pack("{s:b, s:s, s:o, s:s, s:{s:i, s:i}}", "success", 1, "doc_id",
                              removed.doc_id, "filename", json_text_of(removed.filename), "status",
                              "deleted", "deleted", "pages", removed.n_pages, "chunks",
                              removed.n_chunks));
}

/* ---- as it was read ------------------------------------------------------------------------- */

void handle_document_markdown(struct call *call) {
    struct document *doc;
    struct error err;
    if (!corpus_load(&doc, call->api->corpus, call->doc_id, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    struct buf out = {0};
    doc_write_markdown(&out, doc);
    doc_free(doc);
    if (out.failed) {
        buf_fini(&out);
        error_set_code(&err, ERROR_INTERNAL, "out_of_memory", "the document is too large to write");
        api_reply_error(call->response, &err);
        return;
    }
    size_t len = out.len;
    http_reply_owned(call->response, 200, "text/markdown; charset=utf-8",
                     len ? buf_take(&out) : mem_strdup(""), len);
}

void handle_document_json(struct call *call) {
    http_reply_error(call->response, 501, "unsupported",
                     "documents are not written as DoclingDocument by this version; see /markdown "
                     "and /pages/{n}");
}

void handle_page(struct call *call) {
    struct document *doc;
    struct error err;
    if (!corpus_load(&doc, call->api->corpus, call->doc_id, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    if ((uint64_t)call->number > doc->n_pages) {
        error_set(&err, ERROR_MISSING, "page %lld of %u", (long long)call->number, doc->n_pages);
        api_reply_error(call->response, &err);
    } else {
        http_reply_json(call->response, 200, doc_page_json(doc, (uint32_t)call->number - 1));
    }
    doc_free(doc);
}

/* ---- files ---------------------------------------------------------------------------------- */

static const char *media_type_of(const char *format) {
    const struct read_format_info *info = read_format_named(format);
    return info ? info->media_type : "application/octet-stream";
}

void handle_document_original(struct call *call) {
    struct document_row row;
    struct error err;
    if (!find_row(&row, call))
        return;
    if (!corpus_check_own(call->api->corpus, call->doc_id, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    const char *path = store_path(call->arena, call->api->store, call->doc_id, STORE_ORIGINAL, 0);
    const char *etag = arena_printf(call->arena, "\"%.32s\"", call->doc_id);
    if (!file_exists(path)) {
        error_set_code(&err, ERROR_MISSING, "not_found", "the original of %s is gone",
                       call->doc_id);
        api_reply_error(call->response, &err);
        return;
    }
    if (http_reply_cached(call->response, call->request, etag, "private, max-age=31536000"))
        return;
    /* Never shown as a page of ours, whatever it is. */
    http_reply_header(call->response, "Content-Disposition",
                      http_attachment(call->arena, row.filename));
    if (!http_reply_file(call->response, media_type_of(row.format), path, &err))
        api_reply_error(call->response, &err);
}

static void reply_picture(struct call *call, enum store_file file, int64_t page) {
    struct stat st;
    struct error err;
    const char *path = store_path(call->arena, call->api->store, call->doc_id, file, (int)page);
    if (stat(path, &st) != 0) {
        if (corpus_check_own(call->api->corpus, call->doc_id, &err))
            error_set(&err, ERROR_MISSING, "no picture of page %lld of %s", (long long)page,
                      call->doc_id);
        api_reply_error(call->response, &err);
        return;
    }
    /* The document is its bytes; its pictures change only when it is read anew. */
    const char *etag = arena_printf(call->arena, "\"%llx-%llx\"", (long long)st.st_size,
                                    (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    if (http_reply_cached(call->response, call->request, etag, "private, max-age=3600"))
        return;
    if (!http_reply_file(call->response, "image/jpeg", path, &err))
        api_reply_error(call->response, &err);
}

void handle_page_picture(struct call *call) {
    reply_picture(call, STORE_PAGE, call->number);
}

void handle_page_thumb(struct call *call) {
    reply_picture(call, STORE_THUMB, call->number);
}

/* The older name: page001.jpg, page001_thumb.jpg (.png was the page's own form then). */
void handle_image(struct call *call) {
    const char *name = call->file;
    struct error err;
    int64_t page = 0;
    char digits[16] = "";
    if (strncmp(name, "page", 4) == 0) {
        size_t len = strspn(name + 4, "0123456789");
        if (len > 0 && len < sizeof(digits)) {
            memcpy(digits, name + 4, len);
            digits[len] = '\0';
            name += 4 + len;
        }
    }
    bool thumb = strcmp(name, "_thumb.jpg") == 0;
    bool whole = strcmp(name, ".jpg") == 0 || strcmp(name, ".png") == 0;
    if ((!thumb && !whole) || !text_to_int(&page, digits, 1, INT32_MAX, "page", &err)) {
        error_set(&err, ERROR_MISSING, "no picture of that name");
        api_reply_error(call->response, &err);
        return;
    }
    reply_picture(call, thumb ? STORE_THUMB : STORE_PAGE, page);
}
