/* Jobs' rows. Invariants:
 *  1. attempts is counted in the commit that sets PROCESSING, before any work.
 *  2. Who ends a job names its run and attempt: an attempt that lost its job changes nothing.
 *  3. A document that is not READY follows its newest job: WAITING while that may still run, FAILED
 *     with its error when it has failed for good. */
#include "store/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define JOB_COLUMNS                                                                                \
    "job_id, kind, doc_id, filename, state, attempts, max_attempts, created_ms, started_ms,"       \
    " finished_ms, not_before_ms, error_code, error_text, cancel_asked, n_pages"

static void job_from(struct job_row *out, struct arena *arena, sqlite3_stmt *stmt) {
    memset(out, 0, sizeof *out);
    out->job_id = sqlite3_column_int64(stmt, 0);
    out->kind = column_text(arena, stmt, 1);
    column_id(out->doc_id, stmt, 2);
    out->filename = column_text(arena, stmt, 3);
    out->state = (enum job_state)sqlite3_column_int(stmt, 4);
    out->attempts = sqlite3_column_int(stmt, 5);
    out->max_attempts = sqlite3_column_int(stmt, 6);
    out->created_ms = sqlite3_column_int64(stmt, 7);
    out->started_ms = sqlite3_column_int64(stmt, 8);
    out->finished_ms = sqlite3_column_int64(stmt, 9);
    out->not_before_ms = sqlite3_column_int64(stmt, 10);
    out->error_code = column_text(arena, stmt, 11);
    out->error_text = column_text(arena, stmt, 12);
    out->cancel_asked = sqlite3_column_int(stmt, 13) != 0;
    out->n_pages = sqlite3_column_int(stmt, 14);
}

static const char *or_empty(const char *text) {
    return text ? text : "";
}

bool store_put_job(struct store_tx *tx, int64_t *job_id, const char *kind, const char *doc_id,
                   const char *filename, int max_attempts, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool ok = conn &&
              conn_run(conn, err,
                       "INSERT INTO jobs (kind, doc_id, filename, state, max_attempts, created_ms)"
                       " VALUES (?,?,?,?,?,?)",
                       "tttiii", kind, or_empty(doc_id), or_empty(filename), (int64_t)JOB_QUEUED,
                       (int64_t)max_attempts, time_wall_ms());
    if (ok)
        *job_id = sqlite3_last_insert_rowid(conn->db);
    ok = ok && document_follow_job(conn, or_empty(doc_id), DOCUMENT_WAITING, "", "", err);
    return tx_done(tx, ok);
}

static const char find_due[] = "SELECT job_id FROM jobs WHERE state = 0 AND not_before_ms <= ?"
                               " ORDER BY job_id LIMIT 1";

/* Looks with a reader first: an idle queue's polling takes no write lock. */
static bool any_due(bool *due, struct store *store, int64_t now_ms, struct error *err) {
    struct conn *conn;
    int64_t job_id;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(&job_id, 0, conn, err, find_due, "i", now_ms);
    *due = ok && job_id != 0;
    reader_drop(conn);
    return ok;
}

static bool claim(struct job_row *out, bool *found, struct arena *arena, struct conn *conn,
                  const char *run_id, int64_t now_ms, struct error *err) {
    int64_t job_id;
    if (!conn_number(&job_id, 0, conn, err, find_due, "i", now_ms))
        return false;
    if (job_id == 0)
        return true;
    sqlite3_stmt *stmt = conn_query(
        conn, err,
        "UPDATE jobs SET state = 1, attempts = attempts + 1, run_id = ?,"
        " started_ms = ?, finished_ms = 0, cancel_asked = 0 WHERE job_id = ?"
        " RETURNING " JOB_COLUMNS,
        "tii", run_id, now_ms, job_id);
    bool row = false, ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        job_from(out, arena, stmt);
        *found = true;
        ok = conn_step(&row, conn, stmt, err);
    }
    conn_finish(stmt);
    return ok;
}

bool store_claim_job(struct job_row *out, bool *found, struct arena *arena, struct store *store,
                     const char *run_id, int64_t now_ms, struct error *err) {
    struct store_tx *tx;
    *found = false;
    bool due;
    if (!any_due(&due, store, now_ms, err))
        return false;
    if (!due)
        return true;
    if (!store_begin(&tx, store, err))
        return false;
    bool ok = claim(out, found, arena, tx->conn, run_id, now_ms, err);
    if (ok && *found) {
        ok = store_commit(tx, err);
        *found = ok;
    } else {
        store_rollback(tx);
        *found = false;
    }
    return ok;
}

bool store_end_job(struct store_tx *tx, int64_t job_id, const char *run_id, int attempt,
                   enum job_state state, const char *error_code, const char *error_text,
                   int64_t not_before_ms, int n_pages, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool ends = state != JOB_QUEUED;
    sqlite3_stmt *stmt =
        conn ? conn_query(conn, err,
                          "UPDATE jobs SET state = ?1, error_code = ?2, error_text = ?3,"
                          " not_before_ms = ?4, n_pages = ?5, finished_ms = ?6"
                          " WHERE job_id = ?7 AND state = 1 AND run_id = ?8 AND attempts = ?9"
                          " AND (cancel_asked = 0 OR ?1 = 4) RETURNING doc_id",
                          "ittiiiiti", (int64_t)state, or_empty(error_code), or_empty(error_text),
                          not_before_ms, (int64_t)n_pages, ends ? time_wall_ms() : (int64_t)0,
                          job_id, run_id, (int64_t)attempt)
             : NULL;
    bool row = false, ok = stmt && conn_step(&row, conn, stmt, err);
    char doc_id[SHA256_HEX + 1] = "";
    if (ok && row) {
        bool more;
        column_id(doc_id, stmt, 0);
        ok = conn_step(&more, conn, stmt, err);
    } else if (ok) {
        ok = error_set(err, ERROR_CONFLICT, "job %" PRId64 " is no longer held by its attempt %d",
                       job_id, attempt);
    }
    conn_finish(stmt);
    if (ok && state == JOB_FAILED)
        ok = document_follow_job(conn, doc_id, DOCUMENT_FAILED, error_code, error_text, err);
    return tx_done(tx, ok);
}

bool store_return_job(struct store_tx *tx, int64_t job_id, const char *run_id, int attempt,
                      const char *error_code, const char *error_text, int64_t not_before_ms,
                      struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool ok = conn && conn_run(conn, err,
                               "UPDATE jobs SET state = 0, attempts = attempts - 1, run_id = '',"
                               " error_code = ?, error_text = ?, not_before_ms = ?"
                               " WHERE job_id = ? AND state = 1 AND run_id = ? AND attempts = ?"
                               " AND cancel_asked = 0",
                               "ttiiti", or_empty(error_code), or_empty(error_text), not_before_ms,
                               job_id, run_id, (int64_t)attempt);
    if (ok && sqlite3_changes(conn->db) == 0)
        ok = error_set(err, ERROR_CONFLICT, "job %" PRId64 " is no longer held by its attempt %d",
                       job_id, attempt);
    return tx_done(tx, ok);
}

bool store_cancel_job(struct store_tx *tx, bool *found, int64_t job_id, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    *found = false;
    bool ok = conn && conn_run(conn, err,
                               "UPDATE jobs SET cancel_asked = 1,"
                               " finished_ms = CASE state WHEN 0 THEN ? ELSE finished_ms END,"
                               " state = CASE state WHEN 0 THEN 4 ELSE state END"
                               " WHERE job_id = ? AND state IN (0, 1)",
                               "ii", time_wall_ms(), job_id);
    if (ok)
        *found = sqlite3_changes(conn->db) > 0;
    return tx_done(tx, ok);
}

bool store_retry_job(struct store_tx *tx, bool *found, int64_t job_id, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    *found = false;
    sqlite3_stmt *stmt =
        conn ? conn_query(conn, err,
                          "UPDATE jobs SET state = 0, attempts = 0, not_before_ms = 0,"
                          " cancel_asked = 0, finished_ms = 0, error_code = '', error_text = ''"
                          " WHERE job_id = ? AND state IN (3, 4) RETURNING doc_id",
                          "i", job_id)
             : NULL;
    bool more = false, ok = stmt && conn_step(found, conn, stmt, err);
    char doc_id[SHA256_HEX + 1] = "";
    if (ok && *found) {
        column_id(doc_id, stmt, 0);
        ok = conn_step(&more, conn, stmt, err);
    }
    conn_finish(stmt);
    if (ok && *found)
        ok = document_follow_job(conn, doc_id, DOCUMENT_WAITING, "", "", err);
    return tx_done(tx, ok);
}

#define CRASHED "parser_crash"
#define CRASHED_TEXT "the program ended while it worked on this file, at every attempt"

static bool recover(struct conn *conn, int *n, const char *run_id, struct error *err) {
    if (!conn_run(conn, err,
                  "UPDATE documents SET state = ?, error_code = ?, error_text = ? WHERE state <> ?"
                  " AND doc_id IN (SELECT doc_id FROM jobs WHERE state = 1 AND run_id <> ?"
                  " AND cancel_asked = 0 AND attempts >= max_attempts)",
                  "ittit", (int64_t)DOCUMENT_FAILED, CRASHED, CRASHED_TEXT, (int64_t)DOCUMENT_READY,
                  run_id) ||
        !conn_run(conn, err,
                  "UPDATE jobs SET finished_ms = CASE WHEN cancel_asked = 0"
                  "   AND attempts < max_attempts THEN 0 ELSE ?1 END,"
                  " error_code = CASE WHEN cancel_asked = 0 AND attempts >= max_attempts"
                  "   THEN ?2 ELSE error_code END,"
                  " error_text = CASE WHEN cancel_asked = 0 AND attempts >= max_attempts"
                  "   THEN ?3 ELSE error_text END,"
                  " state = CASE WHEN cancel_asked <> 0 THEN 4"
                  "   WHEN attempts >= max_attempts THEN 3 ELSE 0 END,"
                  " run_id = '', not_before_ms = 0 WHERE state = 1 AND run_id <> ?4",
                  "ittt", time_wall_ms(), CRASHED, CRASHED_TEXT, run_id))
        return false;
    *n = sqlite3_changes(conn->db);
    return true;
}

bool store_recover_jobs(struct store *store, int *n, const char *run_id, struct error *err) {
    struct store_tx *tx;
    *n = 0;
    if (!store_begin(&tx, store, err))
        return false;
    if (recover(tx->conn, n, run_id, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

bool store_next_due(int64_t *not_before_ms, bool *found, struct store *store, struct error *err) {
    struct conn *conn;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(not_before_ms, -1, conn, err,
                          "SELECT coalesce(min(not_before_ms), -1) FROM jobs WHERE state = 0", "");
    *found = ok && *not_before_ms >= 0;
    reader_drop(conn);
    return ok;
}

bool store_count_jobs(int64_t *n, struct store *store, unsigned states, struct error *err) {
    struct conn *conn;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = true;
    for (int state = JOB_QUEUED; state <= JOB_CANCELLED && ok; state++) {
        int64_t one = 0;
        if (states >> state & 1)
            ok = conn_number(&one, 0, conn, err, "SELECT count(*) FROM jobs WHERE state = ?", "i",
                             (int64_t)state);
        *n += one;
    }
    reader_drop(conn);
    return ok;
}

static bool find_one(struct job_row *out, bool *found, struct arena *arena, struct conn *conn,
                     sqlite3_stmt *stmt, struct error *err) {
    *found = false;
    bool ok = stmt && conn_step(found, conn, stmt, err);
    if (ok && *found)
        job_from(out, arena, stmt);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_find_job(struct job_row *out, bool *found, struct arena *arena, struct store *store,
                    int64_t job_id, struct error *err) {
    struct conn *conn;
    *found = false;
    if (!reader_take(&conn, store, err))
        return false;
    return find_one(
        out, found, arena, conn,
        conn_query(conn, err, "SELECT " JOB_COLUMNS " FROM jobs WHERE job_id = ?", "i", job_id),
        err);
}

bool store_find_document_job(struct job_row *out, bool *found, struct arena *arena,
                             struct store *store, const char *doc_id, struct error *err) {
    struct conn *conn;
    *found = false;
    if (!reader_take(&conn, store, err))
        return false;
    return find_one(out, found, arena, conn,
                    conn_query(conn, err,
                               "SELECT " JOB_COLUMNS " FROM jobs WHERE doc_id = ?"
                               " ORDER BY job_id DESC LIMIT 1",
                               "t", doc_id),
                    err);
}

/* One state reads a range of jobs_by_state, two merge theirs; more read the table backwards. */
static sqlite3_stmt *list_query(struct conn *conn, unsigned states, int limit, int offset,
                                struct error *err) {
    if (states != 0 && (states & (states - 1)) == 0)
        return conn_query(conn, err,
                          "SELECT " JOB_COLUMNS " FROM jobs WHERE state = ?"
                          " ORDER BY job_id DESC LIMIT ? OFFSET ?",
                          "iii", (int64_t)__builtin_ctz(states), (int64_t)limit, (int64_t)offset);
    if (__builtin_popcount(states) == 2)
        return conn_query(conn, err,
                          "SELECT " JOB_COLUMNS " FROM jobs WHERE state = ? UNION ALL"
                          " SELECT " JOB_COLUMNS " FROM jobs WHERE state = ?"
                          " ORDER BY job_id DESC LIMIT ? OFFSET ?",
                          "iiii", (int64_t)__builtin_ctz(states),
                          (int64_t)(31 - __builtin_clz(states)), (int64_t)limit, (int64_t)offset);
    return conn_query(conn, err,
                      "SELECT " JOB_COLUMNS " FROM jobs WHERE (1 << state) & ?"
                      " ORDER BY job_id DESC LIMIT ? OFFSET ?",
                      "iii", (int64_t)states, (int64_t)limit, (int64_t)offset);
}

bool store_list_jobs(struct job_row **out, int *n, int64_t *total, struct arena *arena,
                     struct store *store, unsigned states, int limit, int offset,
                     struct error *err) {
    struct conn *conn;
    *out = NULL;
    *n = 0;
    *total = 0;
    if (limit < 0)
        limit = 0;
    if (offset < 0)
        offset = 0;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(total, 0, conn, err,
                          "SELECT coalesce(sum(n), 0) FROM (SELECT state, count(*) AS n FROM jobs"
                          " GROUP BY state) WHERE (1 << state) & ?",
                          "i", (int64_t)states);
    int64_t most = *total - offset < limit ? *total - offset : limit;
    bool row = false;
    sqlite3_stmt *stmt = ok ? list_query(conn, states, limit, offset, err) : NULL;
    ok = stmt != NULL;
    if (ok && most > 0)
        *out = arena_alloc(arena, (size_t)most * sizeof **out);
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < most)
        job_from(&(*out)[(*n)++], arena, stmt);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}
