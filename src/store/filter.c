/* A search's filter as ranges of chunk row ids: a document's chunks are one range, so most filters
 * need no chunk's row; those that name pages read the index of chunks by document. And as a query
 * over the rows of vectors. */
#include "store/lexical.h"

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
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_string(items[i])); /* what is no UTF-8 names nothing */
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

#define FILTER_TERMS                                                                               \
    " (?1 IS NULL OR d.doc_id IN (SELECT value FROM json_each(?1)))"                               \
    " AND (?2 IS NULL OR d.format IN (SELECT value FROM json_each(?2))"                            \
    "      OR d.format_group IN (SELECT value FROM json_each(?2)))"                                \
    " AND (?3 IS NULL OR EXISTS (SELECT 1 FROM sources s WHERE s.doc_no = d.doc_no"                \
    "      AND substr(s.path, 1, length(?3)) = ?3))"                                               \
    " AND d.added_ms >= ?4 AND d.added_ms <= ?5"
#define FILTER_DOCUMENTS " FROM documents d WHERE d.n_chunks > 0 AND" FILTER_TERMS

static sqlite3_stmt *filter_query(struct arena *arena, struct conn *conn,
                                  const struct search_filter *filter, struct error *err) {
    const char *ids = filter->doc_ids ? json_list(arena, filter->doc_ids, filter->n_doc_ids) : NULL;
    const char *formats = filter->formats ? json_list(arena, filter->formats, filter->n_formats)
                                          : NULL;
    int64_t from = filter->added_from_ms ? filter->added_from_ms : INT64_MIN;
    int64_t to = filter->added_to_ms ? filter->added_to_ms : INT64_MAX;
    if (!filter->page_from && !filter->page_to)
        return conn_query(conn, err,
                          "SELECT d.first_chunk, d.first_chunk + d.n_chunks - 1" FILTER_DOCUMENTS
                          " ORDER BY d.first_chunk",
                          "tttii", ids, formats, filter->folder, from, to);
    int64_t page_from = filter->page_from, page_to = filter->page_to ? filter->page_to : INT32_MAX;
    return conn_query(conn, err,
                      "SELECT c.row_id, c.row_id FROM chunks c INDEXED BY chunks_by_document"
                      " WHERE c.doc_no IN (SELECT d.doc_no" FILTER_DOCUMENTS ")"
                      " AND c.last_page >= ?6 AND c.first_page <= ?7 AND c.first_page > 0"
                      " ORDER BY c.row_id",
                      "tttiiii", ids, formats, filter->folder, from, to, page_from, page_to);
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
    const char *ids = filter->doc_ids ? json_list(arena, filter->doc_ids, filter->n_doc_ids) : NULL;
    const char *formats = filter->formats ? json_list(arena, filter->formats, filter->n_formats)
                                          : NULL;
    int64_t from = filter->added_from_ms ? filter->added_from_ms : INT64_MIN;
    int64_t to = filter->added_to_ms ? filter->added_to_ms : INT64_MAX;
    int64_t page_from = filter->page_from, page_to = filter->page_to ? filter->page_to : INT32_MAX;
    if (!filter->page_from && !filter->page_to)
        return conn_query(conn, err, VECTORS_OF_DOCUMENTS, "tttiiii", ids, formats, filter->folder,
                          from, to, space, (int64_t)kind);
    return conn_query(conn, err,
                      kind == VECTORS_PAGE ? VECTORS_OF_DOCUMENTS
                          " AND v.item >= ?8 AND v.item <= ?9"
                                           : VECTORS_OF_DOCUMENTS
                          " AND EXISTS (SELECT 1 FROM chunks c WHERE c.doc_no = v.doc_no"
                          "  AND c.ordinal = v.item AND c.last_page >= ?8 AND c.first_page <= ?9"
                          "  AND c.first_page > 0)",
                      "tttiiiiii", ids, formats, filter->folder, from, to, space, (int64_t)kind,
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
