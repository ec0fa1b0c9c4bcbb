/* A search's filter as ranges of chunk row ids: a document's chunks are one range, so most filters
 * need no chunk's row; those that name pages read the index of chunks by document. And as a query
 * over the rows of vectors, and over documents. */
#include "store/lexical.h"

#include "store/shared.h"

#include <stdlib.h>
#include <string.h>

bool ranges_have(const struct row_ranges *ranges, struct row_cursor *cursor, int64_t row_id) {
    while (cursor->at < ranges->n && ranges->items[cursor->at].last < row_id)
        cursor->at++;
    return cursor->at < ranges->n && ranges->items[cursor->at].first <= row_id;
}

static bool add_range(struct buf *ranges, int64_t first, int64_t last) {
    struct row_range range = {first, last};
    struct row_range *items = (struct row_range *)ranges->data;
    size_t n = ranges->len / sizeof range;
    if (n > 0 && items[n - 1].last + 1 == first)
        items[n - 1].last = last;
    else
        buf_append(ranges, &range, sizeof range);
    return !ranges->failed;
}

static char *json_list(struct arena *arena, const char *const *items, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_t *item = json_string(items[i]);
        json_array_append_new(list, item ? item : json_null()); /* no UTF-8: it names nothing */
    }
    char *text = json_dumps(list, JSON_COMPACT);
    char *out = arena_strdup(arena, text);
    json_decref(list);
    free(text); /* jansson's */
    return out;
}

bool store_filter_is_open(const struct search_filter *filter) {
    return !filter ||
           (!filter->doc_ids && !filter->formats && !filter->folder && !filter->added_from_ms &&
            !filter->added_to_ms && !filter->page_from && !filter->page_to);
}

/* ?1 to ?5 of FILTER_TERMS. */
struct terms {
    const char *ids, *formats, *folder;
    int64_t from, to;
};

static struct terms terms_of(struct arena *arena, const struct search_filter *filter) {
    struct terms terms = {.from = INT64_MIN, .to = INT64_MAX};
    if (!filter)
        return terms;
    if (filter->doc_ids)
        terms.ids = json_list(arena, filter->doc_ids, filter->n_doc_ids);
    if (filter->formats)
        terms.formats = json_list(arena, filter->formats, filter->n_formats);
    terms.folder = filter->folder;
    if (filter->added_from_ms)
        terms.from = filter->added_from_ms;
    if (filter->added_to_ms)
        terms.to = filter->added_to_ms;
    return terms;
}

#define FILTER_TERMS                                                                               \
    " (?1 IS NULL OR d.doc_id IN (SELECT value FROM json_each(?1)))"                               \
    " AND (?2 IS NULL OR d.format IN (SELECT value FROM json_each(?2))"                            \
    "      OR d.format_group IN (SELECT value FROM json_each(?2)))"                                \
    " AND (?3 IS NULL OR substr(d.shown_path, 1, length(?3)) = ?3"                                 \
    "      OR EXISTS (SELECT 1 FROM sources s WHERE s.doc_no = d.doc_no"                           \
    "      AND substr(s.path, 1, length(?3)) = ?3))"                                               \
    " AND d.added_ms >= ?4 AND d.added_ms <= ?5"
#define FILTER_DOCUMENTS " FROM documents d WHERE d.n_chunks > 0 AND" FILTER_TERMS

static sqlite3_stmt *filter_query(struct arena *arena, struct conn *conn,
                                  const struct search_filter *filter, struct error *err) {
    struct terms t = terms_of(arena, filter);
    if (!filter->page_from && !filter->page_to)
        return conn_query(conn, err,
                          "SELECT d.first_chunk, d.first_chunk + d.n_chunks - 1" FILTER_DOCUMENTS
                          " ORDER BY d.first_chunk",
                          "tttii", t.ids, t.formats, t.folder, t.from, t.to);
    int64_t page_from = filter->page_from, page_to = filter->page_to ? filter->page_to : INT32_MAX;
    return conn_query(conn, err,
                      "SELECT c.row_id, c.row_id FROM chunks c INDEXED BY chunks_by_document"
                      " WHERE c.doc_no IN (SELECT d.doc_no" FILTER_DOCUMENTS ")"
                      " AND c.last_page >= ?6 AND c.first_page <= ?7 AND c.first_page > 0"
                      " ORDER BY c.row_id",
                      "tttiiii", t.ids, t.formats, t.folder, t.from, t.to, page_from, page_to);
}

#define VECTORS_OF_SPACE "SELECT v.id FROM vectors v WHERE v.space_no = ?6 AND v.kind = ?7"
#define VECTORS_OF_DOCUMENTS                                                                       \
    VECTORS_OF_SPACE " AND v.doc_no IN (SELECT d.doc_no FROM documents d WHERE" FILTER_TERMS ")"

sqlite3_stmt *filter_vectors(struct arena *arena, struct conn *conn, int64_t space,
                             enum vector_kind kind, const struct search_filter *filter,
                             struct error *err) {
    if (store_filter_is_open(filter))
        return conn_query(conn, err, "SELECT id FROM vectors WHERE space_no = ? AND kind = ?", "ii",
                          space, (int64_t)kind);
    struct terms t = terms_of(arena, filter);
    int64_t page_from = filter->page_from, page_to = filter->page_to ? filter->page_to : INT32_MAX;
    if (!filter->page_from && !filter->page_to)
        return conn_query(conn, err, VECTORS_OF_DOCUMENTS, "tttiiii", t.ids, t.formats, t.folder,
                          t.from, t.to, space, (int64_t)kind);
    return conn_query(conn, err,
                      kind == VECTORS_PAGE ? VECTORS_OF_DOCUMENTS
                          " AND v.item >= ?8 AND v.item <= ?9"
                                           : VECTORS_OF_DOCUMENTS
                          " AND EXISTS (SELECT 1 FROM chunks c WHERE c.doc_no = v.doc_no"
                          "  AND c.ordinal = v.item AND c.last_page >= ?8 AND c.first_page <= ?9"
                          "  AND c.first_page > 0)",
                      "tttiiiiii", t.ids, t.formats, t.folder, t.from, t.to, space, (int64_t)kind,
                      page_from, page_to);
}

bool filter_ranges(struct row_ranges **out, struct arena *arena, struct conn *conn,
                   const struct search_filter *filter, struct error *err) {
    *out = NULL;
    if (store_filter_is_open(filter))
        return true;
    struct buf ranges = {0};
    sqlite3_stmt *stmt = filter_query(arena, conn, filter, err);
    bool row = false, ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row) {
        if (!add_range(&ranges, sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1)))
            ok = error_set(err, ERROR_LIMIT, "the filter lets too many passages through");
    }
    conn_finish(stmt);
    if (ok) {
        struct row_ranges *allowed = arena_alloc(arena, sizeof *allowed);
        allowed->n = ranges.len / sizeof(struct row_range);
        allowed->items = arena_alloc(arena, ranges.len);
        if (ranges.len > 0)
            memcpy(allowed->items, ranges.data, ranges.len);
        for (size_t i = 0; i < allowed->n; i++)
            allowed->n_rows += allowed->items[i].last - allowed->items[i].first + 1;
        *out = allowed;
    }
    buf_fini(&ranges);
    return ok;
}

/* ---- documents ---- */

static sqlite3_stmt *allowed_query(struct arena *arena, struct conn *conn,
                                   const char *const *doc_ids, int n,
                                   const struct search_filter *filter, struct error *err) {
    struct terms t = terms_of(arena, filter);
    return conn_query(conn, err,
                      "SELECT asked.key FROM json_each(?6) asked"
                      " CROSS JOIN documents d ON d.doc_id = asked.value"
                      " WHERE d.state = ?7 AND" FILTER_TERMS,
                      "tttiiti", t.ids, t.formats, t.folder, t.from, t.to,
                      json_list(arena, doc_ids, n), (int64_t)DOCUMENT_READY);
}

bool store_filter_documents(bool *allowed, struct store *store, const char *const *doc_ids, int n,
                            const struct search_filter *filter, struct error *err) {
    struct conn *conn;
    for (int i = 0; i < n; i++)
        allowed[i] = false;
    if (!reader_take(&conn, store, err))
        return false;
    struct arena *arena = arena_new(0);
    sqlite3_stmt *stmt = allowed_query(arena, conn, doc_ids, n, filter, err);
    bool row = false, ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row) {
        int64_t i = sqlite3_column_int64(stmt, 0);
        if (i >= 0 && i < n)
            allowed[i] = true;
    }
    conn_finish(stmt);
    arena_free(arena);
    reader_drop(conn);
    return ok;
}

/* Ids are looked up one by one; other filters read the table until they have enough. */
static sqlite3_stmt *filtered_query(struct arena *arena, struct conn *conn,
                                    const struct search_filter *filter, int64_t most,
                                    struct error *err) {
    struct terms t = terms_of(arena, filter);
    return conn_query(
        conn, err,
        t.ids ? "SELECT d.doc_id FROM (SELECT DISTINCT value FROM json_each(?1)) asked"
                " CROSS JOIN documents d ON d.doc_id = asked.value"
                " WHERE d.state = ?6 AND" FILTER_TERMS " LIMIT ?7"
              : "SELECT d.doc_id FROM documents d WHERE d.state = ?6 AND" FILTER_TERMS " LIMIT ?7",
        "tttiiii", t.ids, t.formats, t.folder, t.from, t.to, (int64_t)DOCUMENT_READY, most);
}

bool store_list_filtered(char (**doc_ids)[SHA256_HEX + 1], int *n, struct arena *arena,
                         struct store *store, const struct search_filter *filter, int limit,
                         struct error *err) {
    struct conn *conn;
    struct buf found = {0};
    bool row = false;
    *doc_ids = NULL;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = filtered_query(arena, conn, filter, (int64_t)limit + 1, err);
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row) {
        char doc_id[SHA256_HEX + 1];
        column_id(doc_id, stmt, 0);
        buf_append(&found, doc_id, sizeof doc_id);
        ++*n;
    }
    conn_finish(stmt);
    reader_drop(conn);
    if (ok && found.failed)
        ok = error_set(err, ERROR_LIMIT, "the filter lets too many documents through");
    if (ok && *n > limit) {
        *n = -1;
    } else if (ok) {
        *doc_ids = arena_alloc(arena, found.len + 1);
        if (found.len > 0)
            memcpy(*doc_ids, found.data, found.len);
    }
    buf_fini(&found);
    return ok;
}
