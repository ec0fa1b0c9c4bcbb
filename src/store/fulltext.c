/* FTS5: our tokenizer, the postings of a term, the index kept in step with chunks.
 *
 * chunks_fts keeps no text of its own: what is removed is given again, byte for byte, so that its
 * tokens are taken out. In a MATCH a quoted string is tokens of the index separated by blanks,
 * taken as they are: query.c has made them with the tokenizer already, and a stem is not stemmed
 * twice. */
#include "store/internal.h"

#include "store/lexical.h"

#include <string.h>

/* ---- the tokenizer, for FTS5 ---- */

typedef int (*fts_token)(void *ctx, int flags, const char *token, int len, int start, int end);

/* Also the writer's collector of words for the vocabulary. */
struct fulltext {
    struct conn *conn;
    fts5_api *api;
    bool collects;
    struct buf new_words; /* each followed by a NUL */
};

struct tokenizing {
    struct fulltext *fulltext;
    fts_token token;
    void *ctx;
    int rc;
};

struct word_filter {
    uint64_t hashes[1 << 15];
};

struct word_filter *word_filter_new(void) {
    return mem_alloc(sizeof(struct word_filter));
}

void word_filter_clear(struct word_filter *filter) {
    memset(filter, 0, sizeof *filter);
}

static uint64_t hash_bytes(const char *text, size_t len) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash ? hash : 1;
}

/* Most words were seen a moment ago: only others are looked up in the table. */
static void collect_word(struct fulltext *fulltext, const char *word, size_t len) {
    struct word_filter *filter = fulltext->conn->store->words;
    uint64_t hash = hash_bytes(word, len);
    uint64_t *slot = &filter->hashes[(hash >> 20) % BASE_COUNT(filter->hashes)];
    if (*slot == hash)
        return;
    *slot = hash;
    buf_append(&fulltext->new_words, word, len);
    buf_putc(&fulltext->new_words, '\0');
}

static bool pass_token(void *ctx, const struct token *token) {
    struct tokenizing *state = ctx;
    if (state->fulltext->collects && token->word)
        collect_word(state->fulltext, token->word, token->word_len);
    state->rc = state->token(state->ctx, token->colocated ? FTS5_TOKEN_COLOCATED : 0, token->text,
                             (int)token->len, (int)token->start, (int)token->end);
    return state->rc == SQLITE_OK;
}

static int tokenize_ready(void *ctx, const char *text, int len, fts_token token) {
    int rc = SQLITE_OK;
    for (int at = 0; at < len && rc == SQLITE_OK;) {
        int end = at;
        while (end < len && text[end] != ' ')
            end++;
        if (end > at)
            rc = token(ctx, 0, text + at, end - at, at, end);
        at = end + 1;
    }
    return rc;
}

static int tokenize(Fts5Tokenizer *self, void *ctx, int flags, const char *text, int len,
                    fts_token token) {
    if (flags & FTS5_TOKENIZE_QUERY)
        return tokenize_ready(ctx, text, len, token);
    struct tokenizing state = {.fulltext = (struct fulltext *)self, .token = token, .ctx = ctx};
    if (len > 0)
        tokens_visit(text, (size_t)len, pass_token, &state);
    return state.rc;
}

static int tokenizer_create(void *ctx, const char **args, int n_args, Fts5Tokenizer **out) {
    (void)args;
    (void)n_args;
    *out = ctx;
    return SQLITE_OK;
}

static void tokenizer_delete(Fts5Tokenizer *self) {
    (void)self; /* the connection's */
}

/* ---- postings ---- */

struct collecting {
    struct postings *out;
    const struct row_ranges *allowed;
    struct row_cursor cursor;
    int64_t max_kept, max_seen;
};

static int collect_posting(const Fts5ExtensionApi *api, Fts5Context *context, void *ctx) {
    struct collecting *state = ctx;
    struct postings *out = state->out;
    if (out->n >= state->max_kept || out->n_seen >= state->max_seen) {
        out->complete = false;
        return SQLITE_DONE;
    }
    out->last_row = api->xRowid(context);
    out->n_seen++;
    if (state->allowed && !ranges_have(state->allowed, &state->cursor, out->last_row))
        return SQLITE_OK;
    if (out->n == out->cap && !postings_grow(out))
        return SQLITE_NOMEM;
    Fts5PhraseIter iter;
    int column, offset;
    uint32_t tf = 0;
    for (api->xPhraseFirst(context, 0, &iter, &column, &offset); column >= 0;
         api->xPhraseNext(context, &iter, &column, &offset))
        tf++;
    out->items[out->n].row_id = out->last_row;
    out->items[out->n++].tf = tf;
    return SQLITE_OK;
}

/* postings(chunks_fts, pointer): called on the first row that matches, it walks all of them. */
static void postings_function(const Fts5ExtensionApi *api, Fts5Context *context,
                              sqlite3_context *result, int n_values, sqlite3_value **values) {
    struct collecting *state = n_values == 1 ? sqlite3_value_pointer(values[0], "postings") : NULL;
    if (!state)
        return;
    sqlite3_int64 n_rows = 0, n_tokens = 0;
    int rc = api->xQueryPhrase(context, 0, state, collect_posting);
    if (rc == SQLITE_OK)
        rc = api->xRowCount(context, &n_rows);
    if (rc == SQLITE_OK)
        rc = api->xColumnTotalSize(context, 0, &n_tokens);
    state->out->n_rows = n_rows;
    state->out->n_tokens = n_tokens;
    if (rc != SQLITE_OK)
        sqlite3_result_error_code(result, rc);
}

bool postings_grow(struct postings *postings) {
    size_t cap = postings->cap ? (size_t)postings->cap * 2 : 1024;
    struct posting *items = mem_try_grow(postings->items, cap, sizeof *items, (size_t)1 << 30);
    if (!items)
        return false;
    postings->items = items;
    postings->cap = (int64_t)cap;
    return true;
}

void postings_fini(struct postings *postings) {
    mem_free(postings->items);
    memset(postings, 0, sizeof *postings);
}

bool fulltext_postings(struct postings *out, struct conn *conn, const char *tokens,
                       const struct row_ranges *allowed, int64_t max_kept, int64_t max_seen,
                       struct error *err) {
    struct collecting state = {
        .out = out, .allowed = allowed, .max_kept = max_kept, .max_seen = max_seen};
    out->n = out->n_seen = 0;
    out->complete = true;
    struct buf match = {0};
    buf_putc(&match, '"');
    for (const char *at = tokens; *at; at++) {
        if (*at == '"')
            buf_putc(&match, '"');
        buf_putc(&match, *at);
    }
    buf_putc(&match, '"');
    sqlite3_stmt *stmt = conn_query(
        conn, err,
        "SELECT postings(chunks_fts, ?2) FROM chunks_fts WHERE chunks_fts MATCH ?1 LIMIT 1", "t",
        match.data);
    bool row = false;
    bool ok = stmt != NULL;
    if (ok) {
        sqlite3_bind_pointer(stmt, 2, &state, "postings", NULL);
        ok = conn_step(&row, conn, stmt, err);
    }
    conn_finish(stmt);
    buf_fini(&match);
    return ok;
}

/* ---- registering ---- */

static void fulltext_free(void *ctx) {
    struct fulltext *fulltext = ctx;
    buf_fini(&fulltext->new_words);
    mem_free(fulltext);
}

bool fulltext_register(struct conn *conn, struct error *err) {
    fts5_api *api = NULL;
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(conn->db, "SELECT fts5(?1)", -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_pointer(stmt, 1, &api, "fts5_api_ptr", NULL);
        sqlite3_step(stmt);
        rc = sqlite3_finalize(stmt);
    }
    if (rc != SQLITE_OK)
        return conn_fail(conn, rc, err);
    if (!api)
        return error_set(err, ERROR_UNSUPPORTED, "this SQLite has no full text (FTS5)");
    struct fulltext *fulltext = mem_alloc(sizeof *fulltext);
    fulltext->conn = conn;
    fulltext->api = api;
    conn->fulltext = fulltext;
    fts5_tokenizer methods = {tokenizer_create, tokenizer_delete, tokenize};
    rc = api->xCreateTokenizer(api, "docusearch", fulltext, &methods, fulltext_free);
    if (rc == SQLITE_OK)
        rc = api->xCreateFunction(api, "postings", fulltext, postings_function, NULL);
    return rc == SQLITE_OK || conn_fail(conn, rc, err);
}

/* ---- keeping it in step ---- */

static bool add_words(struct conn *conn, struct buf *words, struct error *err) {
    bool ok = true;
    for (size_t at = 0; ok && at < words->len; at += strlen(words->data + at) + 1)
        ok = conn_run(conn, err, "INSERT OR IGNORE INTO words (word) VALUES (?)", "t",
                      words->data + at);
    buf_clear(words);
    return ok;
}

bool fulltext_add(struct conn *conn, int64_t row_id, const char *text, struct error *err) {
    struct fulltext *fulltext = conn->fulltext;
    fulltext->collects = true;
    bool ok = conn_run(conn, err, "INSERT INTO chunks_fts (rowid, text) VALUES (?,?)", "it", row_id,
                       text);
    fulltext->collects = false;
    return add_words(conn, &fulltext->new_words, err) && ok;
}

bool fulltext_remove(struct conn *conn, int64_t row_id, const char *text, struct error *err) {
    return conn_run(conn, err,
                    "INSERT INTO chunks_fts (chunks_fts, rowid, text) VALUES ('delete',?,?)", "it",
                    row_id, text);
}

bool fulltext_rebuild(struct conn *conn, struct error *err) {
    sqlite3_stmt *stmt = conn_query(conn, err, "SELECT row_id, text FROM chunks", "");
    bool row = false, ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row)
        ok = fulltext_add(conn, sqlite3_column_int64(stmt, 0),
                          (const char *)sqlite3_column_text(stmt, 1), err);
    conn_finish(stmt);
    return ok;
}
