/* Calls about a collection's rows: bodies of many rows, written as text; ids; counts; proofs. */
#include "chroma/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BODY ((size_t)32 << 20)
#define STREAM_BODY ((size_t)8 << 20) /* where rows need not go all in one call */
#define MAX_IDS 5000                  /* of a /get or a /query */
#define DEFAULT_BATCH 1000

bool chroma_post(struct http_reply *out, struct chroma *chroma, const char *uuid, const char *verb,
                 const char *body, size_t len, enum chroma_patience patience, struct error *err) {
    char *target = mem_printf("%s/collections/%s/%s", chroma_link_base(chroma->link), uuid, verb);
    const struct chroma_call call = {.method = body ? "POST" : "GET",
                                     .target = target,
                                     .body = body,
                                     .len = len,
                                     .patience = patience};
    struct error why = {0};
    bool ok = chroma_link_call(out, chroma->link, &call, &why);
    mem_free(target);
    if (ok)
        return true;
    if (why.kind == ERROR_MISSING) {
        lock_take(&chroma->lock);
        chroma->stale = true;
        lock_drop(&chroma->lock);
        why.kind = ERROR_BUSY;
        snprintf(why.code, sizeof why.code, "backend_unavailable");
    }
    if (err)
        *err = why;
    return false;
}

bool chroma_ask(json_t **reply, struct chroma *chroma, const char *uuid, const char *verb,
                json_t *request, struct error *err) {
    *reply = NULL;
    struct buf body = {0};
    chroma_put_json(&body, request);
    json_decref(request);
    struct http_reply got;
    bool read = strcmp(verb, "get") == 0 || strcmp(verb, "query") == 0;
    bool ok = chroma_post(&got, chroma, uuid, verb, body.data, body.len,
                          read ? CHROMA_READS : CHROMA_WRITES, err);
    buf_fini(&body);
    if (!ok)
        return false;
    *reply = json_loadb(got.body, got.len, JSON_DECODE_ANY, NULL);
    http_reply_fini(&got);
    if (!*reply)
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "ChromaDB at %s: an answer that is no JSON",
                              chroma_link_url(chroma->link));
    return true;
}

static bool tell(struct chroma *chroma, const char *uuid, const char *verb, json_t *request,
                 struct error *err) {
    json_t *reply;
    if (!chroma_ask(&reply, chroma, uuid, verb, request, err))
        return false;
    json_decref(reply);
    return true;
}

bool chroma_count(int64_t *n, struct chroma *chroma, const char *uuid, struct error *err) {
    struct http_reply reply;
    *n = -1;
    if (!chroma_post(&reply, chroma, uuid, "count", NULL, 0, CHROMA_READS, err))
        return false;
    bool ok = text_to_int(n, reply.body, 0, INT64_MAX, "count", err);
    http_reply_fini(&reply);
    return ok;
}

/* ---- rows on their way in -------------------------------------------------------------------- */

void chroma_pile_init(struct chroma_pile *pile, struct chroma *chroma, const char *uuid,
                      bool keep) {
    *pile = (struct chroma_pile){.chroma = chroma, .uuid = uuid, .keep = keep};
    lock_take(&chroma->lock);
    pile->max_batch = chroma->max_batch > 0 ? chroma->max_batch : DEFAULT_BATCH;
    lock_drop(&chroma->lock);
}

static void clear_rows(struct chroma_pile *pile) {
    buf_fini(&pile->ids);
    buf_fini(&pile->vectors);
    buf_fini(&pile->metadatas);
    pile->n = 0;
}

void chroma_pile_fini(struct chroma_pile *pile) {
    clear_rows(pile);
    for (int i = 0; i < pile->n_bodies; i++)
        buf_fini(&pile->bodies[i]);
    mem_free(pile->bodies);
    memset(pile, 0, sizeof *pile);
}

static bool send_body(struct chroma_pile *pile, const struct buf *body, struct error *err) {
    struct http_reply reply;
    if (!chroma_post(&reply, pile->chroma, pile->uuid, "add", body->data, body->len, CHROMA_WRITES,
                     err))
        return false;
    http_reply_fini(&reply);
    return true;
}

/* Makes the rows so far one body, which is kept or goes. */
static bool close_body(struct chroma_pile *pile, struct error *err) {
    if (pile->n == 0)
        return true;
    struct buf body = {0};
    buf_puts(&body, "{\"ids\":[");
    buf_append(&body, pile->ids.data, pile->ids.len);
    buf_puts(&body, "],\"embeddings\":[");
    buf_append(&body, pile->vectors.data, pile->vectors.len);
    buf_puts(&body, "],\"metadatas\":[");
    buf_append(&body, pile->metadatas.data, pile->metadatas.len);
    buf_puts(&body, "]}");
    bool whole = !pile->ids.failed && !pile->vectors.failed && !pile->metadatas.failed &&
                 !body.failed;
    clear_rows(pile);
    if (!whole || body.len > MAX_BODY) {
        buf_fini(&body);
        return error_set(err, ERROR_LIMIT, "a row is larger than the %zu MiB of a call",
                         MAX_BODY >> 20);
    }
    if (!pile->keep) {
        bool ok = send_body(pile, &body, err);
        buf_fini(&body);
        return ok;
    }
    pile->bodies = mem_grow(pile->bodies, (size_t)pile->n_bodies + 1, sizeof *pile->bodies);
    pile->bodies[pile->n_bodies++] = body;
    return true;
}

bool chroma_pile_add(struct chroma_pile *pile, const char *id, const float *vector, int dim,
                     json_t *metadata, const void *blob, size_t blob_len, struct error *err) {
    struct buf row = {0};
    chroma_put_json(&row, metadata);
    json_decref(metadata);
    if (blob && row.len > 0 && !row.failed) {
        row.len -= 1; /* the closing brace */
        buf_puts(&row, ",\"codes\":\"");
        chroma_base64_put(&row, blob, blob_len);
        buf_puts(&row, "\"}");
    }
    size_t size = pile->ids.len + pile->vectors.len + pile->metadatas.len;
    size_t more = row.len + (size_t)dim * sizeof(float) * 4 / 3 + strlen(id) + 64;
    size_t most = pile->keep ? MAX_BODY : STREAM_BODY;
    bool ok = !row.failed || error_set(err, ERROR_LIMIT, "%s: too large for a row", id);
    if (ok && pile->n > 0 && (pile->n >= pile->max_batch || size + more + 256 > most))
        ok = close_body(pile, err);
    if (ok) {
        const char *comma = pile->n > 0 ? "," : "";
        buf_printf(&pile->ids, "%s\"%s\"", comma, id);
        buf_printf(&pile->vectors, "%s\"", comma);
        chroma_base64_put(&pile->vectors, vector, (size_t)dim * sizeof *vector);
        buf_putc(&pile->vectors, '"');
        buf_puts(&pile->metadatas, comma);
        buf_append(&pile->metadatas, row.data, row.len);
        pile->n++;
    }
    buf_fini(&row);
    return ok;
}

bool chroma_pile_send(struct chroma_pile *pile, struct error *err) {
    if (!close_body(pile, err))
        return false;
    for (int i = 0; i < pile->n_bodies; i++)
        if (!send_body(pile, &pile->bodies[i], err))
            return false;
    return true;
}

/* ---- ids ------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool chroma_list_ids(struct chroma_ids *out, struct arena *arena, struct chroma *chroma,
                     const char *uuid, json_t *where, struct error *err) {
    memset(out, 0, sizeof *out);
    json_t *request = json_pack("{s:[]}", "include");
    if (where)
        json_object_set_new(request, "where", where);
    json_t *reply;
    if (!chroma_ask(&reply, chroma, uuid, "get", request, err))
        return false;
    const json_t *ids = json_object_get(reply, "ids");
    size_t n = json_array_size(ids);
    out->ids = arena_try(arena, n + 1, sizeof *out->ids);
    if (!out->ids || n > INT32_MAX) {
        json_decref(reply);
        return error_set(err, ERROR_LIMIT, "%zu ids are too many for this request's memory", n);
    }
    for (size_t i = 0; i < n; i++) {
        const char *id = json_string_value(json_array_get(ids, i));
        if (id)
            out->ids[out->n++] = arena_strdup(arena, id);
    }
    json_decref(reply);
    qsort(out->ids, (size_t)out->n, sizeof *out->ids, by_text);
    return true;
}

bool chroma_has_id(const struct chroma_ids *ids, const char *id) {
    return ids->n > 0 && bsearch(&id, ids->ids, (size_t)ids->n, sizeof *ids->ids, by_text) != NULL;
}

static json_t *some_ids(const char *const *ids, int from, int n) {
    json_t *array = json_array();
    for (int i = from; i < from + n; i++)
        json_array_append_new(array, chroma_text(ids[i]));
    return array;
}

bool chroma_count_ids(int *n_there, struct chroma *chroma, const char *uuid, const char *const *ids,
                      int n, struct error *err) {
    *n_there = 0;
    for (int from = 0; from < n; from += MAX_IDS) {
        int some = n - from < MAX_IDS ? n - from : MAX_IDS;
        json_t *reply;
        if (!chroma_ask(&reply, chroma, uuid, "get",
                        json_pack("{s:o,s:[]}", "ids", some_ids(ids, from, some), "include"), err))
            return false;
        *n_there += (int)json_array_size(json_object_get(reply, "ids"));
        json_decref(reply);
    }
    return true;
}

bool chroma_delete_ids(struct chroma *chroma, const char *uuid, const struct chroma_ids *ids,
                       struct error *err) {
    for (int from = 0; from < ids->n; from += MAX_IDS) {
        int some = ids->n - from < MAX_IDS ? ids->n - from : MAX_IDS;
        if (!tell(chroma, uuid, "delete", json_pack("{s:o}", "ids", some_ids(ids->ids, from, some)),
                  err))
            return false;
    }
    return true;
}

bool chroma_delete_where(struct chroma *chroma, const char *uuid, json_t *where,
                         struct error *err) {
    return tell(chroma, uuid, "delete", json_pack("{s:o}", "where", where), err);
}

/* ---- proofs ---------------------------------------------------------------------------------- */

static int n_known(json_t *unfound, const json_t *ids) {
    size_t i;
    const json_t *id;
    json_array_foreach(ids, i, id) {
        json_object_del(unfound, json_string_value(id));
    }
    return (int)json_object_size(unfound);
}

/* Have all of these an embedding? */
static bool have_vectors(bool *all, struct chroma *chroma, const char *uuid, int dim,
                         json_t *unfound, struct error *err) {
    json_t *ids = json_array(), *reply;
    const char *id;
    json_t *value;
    json_object_foreach(unfound, id, value) {
        json_array_append_new(ids, json_string(id));
    }
    size_t n = json_array_size(ids), i;
    if (!chroma_ask(&reply, chroma, uuid, "get",
                    json_pack("{s:o,s:[s]}", "ids", ids, "include", "embeddings"), err))
        return false;
    const json_t *embeddings = json_object_get(reply, "embeddings"), *one;
    *all = json_array_size(embeddings) == n;
    json_array_foreach(embeddings, i, one) {
        *all = *all && json_array_size(one) == (size_t)dim;
    }
    json_decref(reply);
    return true;
}

/* A query that names the ids answers 500 where a vector is not there. It may pass over some that
 * are, which its graph does not lead to from there: those are looked at one by one. */
bool chroma_prove(bool *all, struct chroma *chroma, const char *uuid, int dim,
                  const struct chroma_ids *ids, struct error *err) {
    *all = true;
    for (int from = 0; from < ids->n && *all; from += MAX_IDS) {
        int some = ids->n - from < MAX_IDS ? ids->n - from : MAX_IDS;
        json_t *vector = json_array(), *unfound = json_object(), *reply;
        for (int i = 0; i < dim; i++)
            json_array_append_new(vector, json_real(i == 0));
        for (int i = from; i < from + some; i++)
            json_object_set_new(unfound, ids->ids[i], json_true());
        bool ok = chroma_ask(&reply, chroma, uuid, "query",
                             json_pack("{s:[o],s:o,s:i,s:[]}", "query_embeddings", vector, "ids",
                                       some_ids(ids->ids, from, some), "n_results", some,
                                       "include"),
                             err);
        if (ok && n_known(unfound, json_array_get(json_object_get(reply, "ids"), 0)) > 0)
            ok = have_vectors(all, chroma, uuid, dim, unfound, err);
        json_decref(reply);
        json_decref(unfound);
        if (!ok)
            return false;
    }
    return true;
}
