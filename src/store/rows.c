/* Documents and their chunks: rows in, rows out.
 *
 * Invariants:
 *  1. Only a READY document has chunks and vectors, so a search needs no join to know whom it may
 *     find.
 *  2. A document's chunks have adjoining row ids, from documents.first_chunk on. */
#include "store/internal.h"

#include <stdio.h>
#include <string.h>

#define DOCUMENT_COLUMNS                                                                           \
    "d.doc_id, d.filename, d.format, d.format_group, d.size_bytes, d.state, d.n_pages,"            \
    " d.n_chunks, d.title, d.author, d.created, d.warning, d.error_code, d.error_text,"            \
    " d.added_ms, d.ready_ms,"                                                                     \
    " CASE d.origin WHEN '' THEN"                                                                  \
    "  (SELECT path FROM sources s WHERE s.doc_no = d.doc_no AND s.path <> 'upload:' || d.doc_id"  \
    "   ORDER BY path LIMIT 1) ELSE d.shown_path END"

static void document_from(struct document_row *out, struct arena *arena, sqlite3_stmt *stmt) {
    memset(out, 0, sizeof *out);
    column_id(out->doc_id, stmt, 0);
    out->filename = column_text(arena, stmt, 1);
    out->format = column_text(arena, stmt, 2);
    out->group = column_text(arena, stmt, 3);
    out->size_bytes = sqlite3_column_int64(stmt, 4);
    out->state = (enum document_state)sqlite3_column_int(stmt, 5);
    out->n_pages = sqlite3_column_int(stmt, 6);
    out->n_chunks = sqlite3_column_int(stmt, 7);
    out->title = column_text(arena, stmt, 8);
    out->author = column_text(arena, stmt, 9);
    out->created = column_text(arena, stmt, 10);
    out->warning = column_text(arena, stmt, 11);
    out->error_code = column_text(arena, stmt, 12);
    out->error_text = column_text(arena, stmt, 13);
    out->added_ms = sqlite3_column_int64(stmt, 14);
    out->ready_ms = sqlite3_column_int64(stmt, 15);
    out->source_path = column_text(arena, stmt, 16);
}

static const char *or_empty(const char *text) {
    return text ? text : "";
}

char *fold_text(struct arena *arena, const char *text) {
    size_t len = strlen(text);
    struct buf folded = {0};
    for (size_t pos = 0; pos < len;) {
        uint32_t parts[TEXT_FOLD_MAX];
        int n = text_fold(parts, utf8_next(text, len, &pos));
        for (int i = 0; i < n; i++) {
            char bytes[4];
            buf_append(&folded, bytes, utf8_put(bytes, parts[i]));
        }
    }
    char *out = arena_strndup(arena, folded.data ? folded.data : "", folded.len);
    buf_fini(&folded);
    return out;
}

char *document_search_key(struct arena *arena, const char *filename, const char *title) {
    return fold_text(arena, arena_printf(arena, "%s\n%s", filename, or_empty(title)));
}

bool document_find_no(int64_t *doc_no, struct conn *conn, const char *doc_id, struct error *err) {
    return conn_number(doc_no, 0, conn, err, "SELECT doc_no FROM documents WHERE doc_id = ?", "t",
                       doc_id);
}

bool document_missing(const char *doc_id, struct error *err) {
    return error_set(err, ERROR_MISSING, "there is no document %s", doc_id);
}

/* ---- writing ---- */

bool document_put_row(int64_t *doc_no, struct conn *conn, const struct document_row *row,
                      const char *origin, struct error *err) {
    struct arena *arena = arena_new(0);
    bool ok = conn_run(
                  conn, err,
                  "INSERT INTO documents (doc_id, state, size_bytes, added_ms, filename, name_key,"
                  " search_key, format, format_group, title, author, created, warning, origin,"
                  " shown_path) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
                  " ON CONFLICT (doc_id) DO UPDATE SET state = excluded.state,"
                  " size_bytes = excluded.size_bytes, added_ms = excluded.added_ms,"
                  " filename = excluded.filename, name_key = excluded.name_key,"
                  " search_key = excluded.search_key, format = excluded.format,"
                  " format_group = excluded.format_group, title = excluded.title,"
                  " author = excluded.author, created = excluded.created,"
                  " warning = excluded.warning, origin = excluded.origin,"
                  " shown_path = excluded.shown_path, n_pages = 0, pages = x'', ready_ms = 0,"
                  " error_code = '', error_text = '', shared_epoch = 0, shared_revision = ''",
                  "tiiittttttttttt", row->doc_id, (int64_t)DOCUMENT_WAITING, row->size_bytes,
                  row->added_ms, row->filename, fold_text(arena, row->filename),
                  document_search_key(arena, row->filename, row->title), or_empty(row->format),
                  or_empty(row->group), or_empty(row->title), or_empty(row->author),
                  or_empty(row->created), or_empty(row->warning), origin,
                  origin[0] ? or_empty(row->source_path) : "") &&
              document_find_no(doc_no, conn, row->doc_id, err) &&
              document_drop_removal(conn, row->doc_id, err);
    arena_free(arena);
    return ok;
}

bool store_put_document(struct store_tx *tx, bool *existed, const struct document_row *row,
                        struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no;
    bool mirrored;
    if (!conn || !document_find_origin(&doc_no, &mirrored, conn, row->doc_id, err))
        return tx_done(tx, false);
    *existed = doc_no != 0 && !mirrored;
    bool ok = (!mirrored || document_drop_reading(conn, doc_no, err)) &&
              (*existed || document_put_row(&doc_no, conn, row, "", err)) &&
              document_put_source(conn, doc_no, row, err);
    return tx_done(tx, ok);
}

bool chunks_drop(struct conn *conn, int64_t doc_no, struct error *err) {
    sqlite3_stmt *stmt = conn_query(conn, err, "SELECT row_id, text FROM chunks WHERE doc_no = ?",
                                    "i", doc_no);
    if (!stmt)
        return false;
    bool row = false, ok, any = false;
    while ((ok = conn_step(&row, conn, stmt, err)) && row) {
        any = true;
        ok = fulltext_remove(conn, sqlite3_column_int64(stmt, 0),
                             (const char *)sqlite3_column_text(stmt, 1), err);
        if (!ok)
            break;
    }
    conn_finish(stmt);
    if (!ok || !any)
        return ok;
    return conn_run(conn, err,
                    "DELETE FROM chunk_places WHERE row_id IN"
                    " (SELECT row_id FROM chunks WHERE doc_no = ?)",
                    "i", doc_no) &&
           conn_run(conn, err, "DELETE FROM chunks WHERE doc_no = ?", "i", doc_no) &&
           conn_run(conn, err,
                    "UPDATE documents SET n_chunks = 0, first_chunk = 0 WHERE doc_no = ?", "i",
                    doc_no);
}

bool document_drop_reading(struct conn *conn, int64_t doc_no, struct error *err) {
    return chunks_drop(conn, doc_no, err) &&
           conn_run(conn, err,
                    "DELETE FROM vectors WHERE space_no IN (SELECT space_no FROM spaces)"
                    " AND kind IN (0, 1) AND doc_no = ?",
                    "i", doc_no);
}

bool store_set_document_state(struct store_tx *tx, const char *doc_id, enum document_state state,
                              const char *error_code, const char *error_text, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no;
    if (!conn || !document_find_no(&doc_no, conn, doc_id, err))
        return tx_done(tx, false);
    if (doc_no == 0)
        return document_missing(doc_id, err);
    bool ok = (state == DOCUMENT_READY || document_drop_reading(conn, doc_no, err)) &&
              conn_run(conn, err,
                       "UPDATE documents SET state = ?, error_code = ?, error_text = ?"
                       " WHERE doc_no = ?",
                       "itti", (int64_t)state, or_empty(error_code), or_empty(error_text), doc_no);
    return tx_done(tx, ok);
}

bool document_follow_job(struct conn *conn, const char *doc_id, enum document_state state,
                         const char *error_code, const char *error_text, struct error *err) {
    return conn_run(conn, err,
                    "UPDATE documents SET state = ?, error_code = ?, error_text = ?"
                    " WHERE doc_id = ? AND state <> ?",
                    "ittti", (int64_t)state, or_empty(error_code), or_empty(error_text), doc_id,
                    (int64_t)DOCUMENT_READY);
}

static void put_u32(unsigned char *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

static uint32_t get_u32(const unsigned char *in) {
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

#define PAGE_BYTES 12

static void pages_encode(struct buf *out, const struct page_row *pages, int n) {
    for (int i = 0; i < n; i++) {
        unsigned char bytes[PAGE_BYTES];
        uint32_t width, height;
        memcpy(&width, &pages[i].width_pt, sizeof width);
        memcpy(&height, &pages[i].height_pt, sizeof height);
        put_u32(bytes, width);
        put_u32(bytes + 4, height);
        put_u32(bytes + 8, pages[i].flags);
        buf_append(out, bytes, sizeof bytes);
    }
}

static bool put_chunk(int64_t *row_id, struct conn *conn, int64_t doc_no,
                      const struct chunk_row *chunk, struct error *err) {
    if (!conn_run(conn, err,
                  "INSERT INTO chunks (doc_no, ordinal, n_words, first_page, last_page,"
                  " heading_path, text) VALUES (?,?,?,?,?,?,?)",
                  "iiiiitt", doc_no, (int64_t)chunk->ordinal, (int64_t)chunk->n_words,
                  (int64_t)chunk->first_page, (int64_t)chunk->last_page,
                  or_empty(chunk->heading_path), or_empty(chunk->text)))
        return false;
    *row_id = sqlite3_last_insert_rowid(conn->db);
    if (chunk->places_len > 0 &&
        !conn_run(conn, err, "INSERT INTO chunk_places (row_id, places) VALUES (?,?)", "ib",
                  *row_id, chunk->places, chunk->places_len))
        return false;
    return fulltext_add(conn, *row_id, or_empty(chunk->text), err);
}

bool document_put_reading(struct conn *conn, const struct document_row *row,
                          const struct page_row *pages, const struct chunk_row *chunks,
                          int n_chunks, struct error *err) {
    struct document_row old;
    struct arena *arena = arena_new(0);
    struct buf page_bytes = {0};
    bool ok = false, found = false;
    int64_t doc_no = 0, first_chunk = 0;
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT " DOCUMENT_COLUMNS ", d.doc_no FROM documents d WHERE doc_id = ?", "t",
        row->doc_id);
    if (!stmt || !conn_step(&found, conn, stmt, err))
        goto end;
    if (!found) {
        document_missing(row->doc_id, err);
        goto end;
    }
    document_from(&old, arena, stmt);
    doc_no = sqlite3_column_int64(stmt, 17);
    conn_finish(stmt);
    if (!document_drop_reading(conn, doc_no, err))
        goto end;
    for (int i = 0; i < n_chunks; i++) {
        int64_t row_id;
        if (!put_chunk(&row_id, conn, doc_no, &chunks[i], err))
            goto end;
        if (i == 0)
            first_chunk = row_id;
    }
    pages_encode(&page_bytes, pages, pages ? row->n_pages : 0);
    ok = conn_run(conn, err,
                  "UPDATE documents SET state = ?, n_pages = ?, n_chunks = ?, first_chunk = ?,"
                  " ready_ms = ?, search_key = ?, format = ?, format_group = ?, title = ?,"
                  " author = ?, created = ?, warning = ?, error_code = '', error_text = '',"
                  " pages = ?, shared_epoch = 0, shared_revision = '' WHERE doc_no = ?",
                  "iiiiitttttttbi", (int64_t)DOCUMENT_READY, (int64_t)row->n_pages,
                  (int64_t)n_chunks, first_chunk, row->ready_ms ? row->ready_ms : time_wall_ms(),
                  document_search_key(arena, old.filename, row->title), or_empty(row->format),
                  row->group ? row->group : old.group, or_empty(row->title), or_empty(row->author),
                  or_empty(row->created), or_empty(row->warning), (const void *)page_bytes.data,
                  page_bytes.len, doc_no);
end:
    conn_finish(stmt);
    buf_fini(&page_bytes);
    arena_free(arena);
    return ok;
}

bool store_put_reading(struct store_tx *tx, const struct document_row *row,
                       const struct page_row *pages, const struct chunk_row *chunks, int n_chunks,
                       struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    return tx_done(tx, conn && document_put_reading(conn, row, pages, chunks, n_chunks, err));
}

bool store_delete_document(struct store_tx *tx, bool *found, int *n_pages, int *n_chunks,
                           const char *doc_id, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no = 0;
    *found = false;
    *n_pages = *n_chunks = 0;
    sqlite3_stmt *stmt =
        conn ? conn_query(conn, err,
                          "SELECT doc_no, n_pages, n_chunks FROM documents WHERE doc_id = ?", "t",
                          doc_id)
             : NULL;
    bool ok = stmt && conn_step(found, conn, stmt, err);
    if (ok && *found) {
        doc_no = sqlite3_column_int64(stmt, 0);
        *n_pages = sqlite3_column_int(stmt, 1);
        *n_chunks = sqlite3_column_int(stmt, 2);
    }
    conn_finish(stmt);
    if (ok && *found)
        ok = document_drop_reading(conn, doc_no, err) && document_put_removal(conn, doc_no, err) &&
             superseded_remove(conn, doc_no, "", err) &&
             conn_run(conn, err, "DELETE FROM jobs WHERE doc_id = ?", "t", doc_id) &&
             conn_run(conn, err, "DELETE FROM documents WHERE doc_no = ?", "i", doc_no);
    return tx_done(tx, ok);
}

/* ---- reading ---- */

bool store_find_document(struct document_row *out, bool *found, struct arena *arena,
                         struct store *store, const char *doc_id, struct error *err) {
    struct conn *conn;
    *found = false;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT " DOCUMENT_COLUMNS " FROM documents d WHERE doc_id = ?", "t", doc_id);
    bool ok = stmt && conn_step(found, conn, stmt, err);
    if (ok && *found)
        document_from(out, arena, stmt);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

/* Each statement reads its order off an index; a search first finds its rows in the narrow one. */
#define LIST_PAGE(order)                                                                           \
    "SELECT " DOCUMENT_COLUMNS " FROM documents d"                                                 \
    " WHERE (?1 = '' OR format_group = ?1) ORDER BY " order " LIMIT ?2 OFFSET ?3"
#define LIST_FOUND                                                                                 \
    "(SELECT doc_no FROM documents INDEXED BY documents_by_time"                                   \
    " WHERE (?1 = '' OR format_group = ?1) AND instr(search_key, ?4) > 0)"
#define LIST_SEARCH(order)                                                                         \
    "SELECT " DOCUMENT_COLUMNS " FROM documents d WHERE doc_no IN " LIST_FOUND " ORDER BY " order  \
    " LIMIT ?2 OFFSET ?3"

static const char *list_sql(enum store_sort sort, bool search) {
    switch (sort) {
    case SORT_NEWEST:
        return search ? LIST_SEARCH("added_ms DESC, doc_id DESC")
                      : LIST_PAGE("added_ms DESC, doc_id DESC");
    case SORT_OLDEST:
        return search ? LIST_SEARCH("added_ms, doc_id") : LIST_PAGE("added_ms, doc_id");
    case SORT_NAME_ASC:
        return search ? LIST_SEARCH("name_key, doc_id") : LIST_PAGE("name_key, doc_id");
    case SORT_NAME_DESC:
        return search ? LIST_SEARCH("name_key DESC, doc_id DESC")
                      : LIST_PAGE("name_key DESC, doc_id DESC");
    }
    return LIST_PAGE("added_ms DESC, doc_id DESC");
}

static bool count_documents(int64_t *total, struct conn *conn, const char *group,
                            const char *search, struct error *err) {
    if (search[0])
        return conn_number(total, 0, conn, err,
                           "SELECT count(*) FROM documents INDEXED BY documents_by_time"
                           " WHERE (?1 = '' OR format_group = ?1) AND instr(search_key, ?2) > 0",
                           "tt", group, search);
    if (group[0])
        return conn_number(total, 0, conn, err,
                           "SELECT count(*) FROM documents INDEXED BY documents_by_name"
                           " WHERE format_group = ?",
                           "t", group);
    return conn_number(total, 0, conn, err, "SELECT count(*) FROM documents", "");
}

bool store_list_documents(struct document_row **out, int *n, int64_t *total, struct arena *arena,
                          struct store *store, const struct store_list_query *query,
                          struct error *err) {
    struct conn *conn;
    int limit = query->limit > 0 ? query->limit : 0;
    const char *group = query->group && strcmp(query->group, "all") != 0 ? query->group : "";
    const char *search = query->search ? fold_text(arena, query->search) : "";
    *n = 0;
    *out = NULL;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = false, row = false;
    sqlite3_stmt *stmt = NULL;
    if (!count_documents(total, conn, group, search, err))
        goto end;
    const char *sql = list_sql(query->sort, search[0] != '\0');
    int64_t offset = query->offset > 0 ? query->offset : 0;
    stmt = search[0] ? conn_query(conn, err, sql, "tiit", group, (int64_t)limit, offset, search)
                     : conn_query(conn, err, sql, "tii", group, (int64_t)limit, offset);
    if (!stmt)
        goto end;
    int64_t most = *total - offset < limit ? *total - offset : limit;
    *out = arena_alloc(arena, (most > 0 ? (size_t)most : 1) * sizeof **out);
    while ((ok = conn_step(&row, conn, stmt, err)) && row && *n < most)
        document_from(&(*out)[(*n)++], arena, stmt);
end:
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_list_pages(struct page_row **out, int *n, struct arena *arena, struct store *store,
                      const char *doc_id, struct error *err) {
    struct conn *conn;
    bool row = false;
    *out = NULL;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(conn, err, "SELECT pages FROM documents WHERE doc_id = ?", "t",
                                    doc_id);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        const unsigned char *bytes = sqlite3_column_blob(stmt, 0);
        *n = sqlite3_column_bytes(stmt, 0) / PAGE_BYTES;
        *out = arena_alloc(arena, (size_t)*n * sizeof **out);
        for (int i = 0; i < *n; i++, bytes += PAGE_BYTES) {
            uint32_t width = get_u32(bytes), height = get_u32(bytes + 4);
            memcpy(&(*out)[i].width_pt, &width, sizeof width);
            memcpy(&(*out)[i].height_pt, &height, sizeof height);
            (*out)[i].flags = get_u32(bytes + 8);
        }
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

static void chunk_from(struct chunk_row *out, struct arena *arena, sqlite3_stmt *stmt,
                       bool with_places) {
    memset(out, 0, sizeof *out);
    out->row_id = sqlite3_column_int64(stmt, 0);
    column_id(out->doc_id, stmt, 1);
    out->ordinal = sqlite3_column_int(stmt, 2);
    out->n_words = sqlite3_column_int(stmt, 3);
    out->first_page = sqlite3_column_int(stmt, 4);
    out->last_page = sqlite3_column_int(stmt, 5);
    out->heading_path = column_text(arena, stmt, 6);
    out->text = column_text(arena, stmt, 7);
    if (!with_places)
        return;
    const void *places = sqlite3_column_blob(stmt, 8);
    out->places_len = (size_t)sqlite3_column_bytes(stmt, 8);
    if (out->places_len > 0) {
        void *copy = arena_alloc(arena, out->places_len);
        out->places = memcpy(copy, places, out->places_len);
    }
}

#define CHUNK_COLUMNS                                                                              \
    "c.row_id, d.doc_id, c.ordinal, c.n_words, c.first_page, c.last_page, c.heading_path, c.text"

/* Chunks of a document, in order; page 0: all of them. */
static bool list_chunks(struct chunk_row **out, int *n, struct arena *arena, struct store *store,
                        const char *doc_id, int page, bool with_places, struct error *err) {
    struct conn *conn;
    int64_t most = 0;
    bool ok = false, row = false;
    *out = NULL;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = NULL;
    int64_t from = page > 0 ? page : INT64_MIN, to = page > 0 ? page : INT64_MAX;
    if (!conn_number(&most, 0, conn, err,
                     "SELECT count(*) FROM documents d JOIN chunks c USING (doc_no)"
                     " WHERE d.doc_id = ? AND c.last_page >= ? AND c.first_page <= ?",
                     "tii", doc_id, from, to))
        goto end;
    *out = arena_alloc(arena, (size_t)most * sizeof **out);
    stmt = conn_query(conn, err,
                      with_places
                          ? "SELECT " CHUNK_COLUMNS ", p.places FROM documents d"
                            " JOIN chunks c USING (doc_no) LEFT JOIN chunk_places p USING (row_id)"
                            " WHERE d.doc_id = ? AND c.last_page >= ? AND c.first_page <= ?"
                            " ORDER BY c.ordinal"
                          : "SELECT " CHUNK_COLUMNS " FROM documents d JOIN chunks c USING (doc_no)"
                            " WHERE d.doc_id = ? AND c.last_page >= ? AND c.first_page <= ?"
                            " ORDER BY c.ordinal",
                      "tii", doc_id, from, to);
    if (!stmt)
        goto end;
    while ((ok = conn_step(&row, conn, stmt, err)) && row && *n < most)
        chunk_from(&(*out)[(*n)++], arena, stmt, with_places);
end:
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_list_chunks(struct chunk_row **out, int *n, struct arena *arena, struct store *store,
                       const char *doc_id, bool with_places, struct error *err) {
    return list_chunks(out, n, arena, store, doc_id, 0, with_places, err);
}

bool store_list_page_chunks(struct chunk_row **out, int *n, struct arena *arena,
                            struct store *store, const char *doc_id, int page, struct error *err) {
    return list_chunks(out, n, arena, store, doc_id, page, true, err);
}

#define ONE_CHUNK                                                                                  \
    "SELECT " CHUNK_COLUMNS ", p.places FROM chunks c JOIN documents d USING (doc_no)"             \
    " LEFT JOIN chunk_places p USING (row_id) WHERE "

/* By row_id, or by doc_id and ordinal. */
static bool find_chunk(struct chunk_row *out, bool *found, struct arena *arena, struct store *store,
                       const char *doc_id, int64_t number, struct error *err) {
    struct conn *conn;
    *found = false;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = doc_id ? conn_query(conn, err, ONE_CHUNK "d.doc_id = ? AND c.ordinal = ?",
                                             "ti", doc_id, number)
                                : conn_query(conn, err, ONE_CHUNK "c.row_id = ?", "i", number);
    bool ok = stmt && conn_step(found, conn, stmt, err);
    if (ok && *found)
        chunk_from(out, arena, stmt, true);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_find_chunk(struct chunk_row *out, bool *found, struct arena *arena, struct store *store,
                      int64_t row_id, struct error *err) {
    return find_chunk(out, found, arena, store, NULL, row_id, err);
}

bool store_find_chunk_at(struct chunk_row *out, bool *found, struct arena *arena,
                         struct store *store, const char *doc_id, int ordinal, struct error *err) {
    return find_chunk(out, found, arena, store, doc_id, ordinal, err);
}

bool store_counts(struct store_counts *out, struct store *store, struct error *err) {
    struct conn *conn;
    memset(out, 0, sizeof *out);
    if (!reader_take(&conn, store, err))
        return false;
    bool row = false;
    sqlite3_stmt *stmt = conn_query(conn, err,
                                    "SELECT state, count(*), sum(n_pages), sum(n_chunks),"
                                    " sum(warning <> '') FROM documents GROUP BY state",
                                    "");
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row) {
        int64_t count = sqlite3_column_int64(stmt, 1);
        out->documents += count;
        out->pages += sqlite3_column_int64(stmt, 2);
        out->chunks += sqlite3_column_int64(stmt, 3);
        if (sqlite3_column_int(stmt, 0) == DOCUMENT_READY) {
            out->ready = count;
            out->partial = sqlite3_column_int64(stmt, 4);
        } else if (sqlite3_column_int(stmt, 0) == DOCUMENT_FAILED) {
            out->failed = count;
        }
    }
    conn_finish(stmt);
    stmt = ok ? conn_query(conn, err, "SELECT state, count(*) FROM jobs GROUP BY state", "") : NULL;
    ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row) {
        int state = sqlite3_column_int(stmt, 0);
        if (state >= 0 && state < (int)BASE_COUNT(out->jobs))
            out->jobs[state] = sqlite3_column_int64(stmt, 1);
    }
    conn_finish(stmt);
    int64_t n_pages = 0, page_bytes = 0;
    ok = ok && conn_number(&n_pages, 0, conn, err, "PRAGMA page_count", "") &&
         conn_number(&page_bytes, 0, conn, err, "PRAGMA page_size", "");
    out->database_bytes = n_pages * page_bytes;
    reader_drop(conn);
    return ok;
}
