/* The Python worker's collections: which rows there are, and whose.
 *
 * A row's metadata is some hundred kilobytes, and the server gives all of it or none: what can be
 * told by the ids alone is.
 *
 * Invariants: a listing never changes once it is made; the lock is not held during calls. */
#include "chroma/legacy_internal.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTED_MS 5000
#define MAX_ROWS (1 << 22)
#define LEAST_ID 8 /* characters of an id of theirs */

static const char *const joints[] = {[ITEM_PAGE] = "-page", [ITEM_CHUNK] = "-chunk"};

/* ---- open and close -------------------------------------------------------------------------- */

bool chroma_legacy_open(struct chroma_legacy **out, struct chroma *chroma, const char *visual,
                        const char *text, struct error *err) {
    *out = NULL;
    const char *names[] = {visual ? visual : chroma->visual, text ? text : chroma->text};
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        size_t len = strlen(names[kind]), fine = 0;
        while (isalnum((unsigned char)names[kind][fine]) ||
               (names[kind][fine] && strchr("._-", names[kind][fine])))
            fine++;
        if (len == 0 || fine < len)
            return error_set(err, ERROR_INPUT, "%s is no name of a collection", names[kind]);
    }
    struct chroma_legacy *legacy = mem_alloc(sizeof *legacy);
    legacy->chroma = chroma;
    legacy->names[ITEM_PAGE] = mem_strdup(names[ITEM_PAGE]);
    legacy->names[ITEM_CHUNK] = mem_strdup(names[ITEM_CHUNK]);
    lock_init(&legacy->lock, LOCK_HTTP);
    *out = legacy;
    return true;
}

void chroma_legacy_close(struct chroma_legacy *legacy) {
    if (!legacy)
        return;
    legacy_forget(legacy);
    if (legacy->listing)
        legacy_unref(legacy, legacy->listing);
    lock_fini(&legacy->lock);
    mem_free(legacy->names[ITEM_PAGE]);
    mem_free(legacy->names[ITEM_CHUNK]);
    mem_free(legacy);
}

void chroma_legacy_id(char out[SHA256_HEX + 1], const char *their_id) {
    struct sha256 *hash = sha256_new();
    sha256_update(hash, "python-worker:", strlen("python-worker:"));
    sha256_update(hash, their_id, strlen(their_id));
    sha256_finish(out, hash);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* The collection's UUID; "": there is none of this name. *dim 0: it has no rows yet. */
static bool find_collection(char uuid[40], int *dim, struct chroma_legacy *legacy,
                            enum item_kind kind, struct error *err) {
    struct chroma_link *link = legacy->chroma->link;
    char *target = mem_printf("%s/collections/%s", chroma_link_base(link), legacy->names[kind]);
    struct chroma_call call = {.method = "GET", .target = target, .patience = CHROMA_READS};
    struct http_reply reply;
    struct error why = {0};
    bool ok = chroma_link_call(&reply, link, &call, &why);
    mem_free(target);
    uuid[0] = '\0';
    *dim = 0;
    if (!ok && why.kind == ERROR_MISSING)
        return true;
    if (!ok) {
        if (err)
            *err = why;
        return false;
    }
    json_t *json = json_loadb(reply.body, reply.len, 0, NULL);
    const char *id = chroma_get_text(json, "id");
    if (strlen(id) < 40 && strspn(id, "0123456789abcdefABCDEF-") == strlen(id))
        memcpy(uuid, id, strlen(id) + 1);
    ok = uuid[0] != '\0';
    *dim = (int)chroma_get_int(json, "dimension");
    json_decref(json);
    http_reply_fini(&reply);
    return ok || error_set_code(err, ERROR_BUSY, "backend_unavailable",
                                "ChromaDB at %s: an answer about %s that is none",
                                chroma_link_url(link), legacy->names[kind]);
}

static bool post(struct http_reply *out, struct chroma_legacy *legacy, const char *uuid,
                 const char *verb, json_t *request, struct error *err) {
    struct chroma_link *link = legacy->chroma->link;
    char *target = mem_printf("%s/collections/%s/%s", chroma_link_base(link), uuid, verb);
    struct buf body = {0};
    chroma_put_json(&body, request);
    json_decref(request);
    struct chroma_call call = {.method = "POST",
                               .target = target,
                               .body = body.data,
                               .len = body.len,
                               .patience = CHROMA_READS};
    bool ok = !body.failed ? chroma_link_call(out, link, &call, err)
                           : error_set(err, ERROR_LIMIT, "a request too large");
    mem_free(target);
    buf_fini(&body);
    return ok;
}

static void forget_listing(struct chroma_legacy *legacy, const struct legacy_listing *listing) {
    lock_take(&legacy->lock);
    struct legacy_listing *known = legacy->listing == listing ? legacy->listing : NULL;
    if (known)
        legacy->listing = NULL;
    lock_drop(&legacy->lock);
    if (known)
        legacy_unref(legacy, known);
}

bool legacy_ask(struct http_reply *out, struct chroma_legacy *legacy,
                const struct legacy_listing *listing, enum item_kind kind, const char *verb,
                json_t *request, struct error *err) {
    struct error why = {0};
    if (post(out, legacy, listing->uuids[kind], verb, request, &why))
        return true;
    if (why.kind == ERROR_MISSING) {
        forget_listing(legacy, listing);
        why.kind = ERROR_BUSY;
        snprintf(why.code, sizeof why.code, "backend_unavailable");
    }
    if (err)
        *err = why;
    return false;
}

/* ---- which rows there are ---------------------------------------------------------------------
 */

/* A row as its id tells. */
struct named_row {
    const char *id;
    const char *their_id;
    enum item_kind kind;
    int item;
};

/* `<id>-page<NNN>` or `<id>-chunk<NNNN>`, <id> not being one of ours. */
static bool take_id(struct named_row *out, struct arena *arena, enum item_kind kind,
                    const char *id) {
    const char *joint = NULL;
    for (const char *at = strstr(id, joints[kind]); at; at = strstr(at + 1, joints[kind]))
        joint = at;
    if (!joint)
        return false;
    const char *number = joint + strlen(joints[kind]);
    size_t len = (size_t)(joint - id), n_digits = strspn(number, "0123456789");
    int64_t item;
    if (len < LEAST_ID || len > SHA256_HEX || n_digits == 0 || number[n_digits] ||
        !text_to_int(&item, number, kind == ITEM_PAGE ? 1 : 0, INT_MAX - 1, "item", NULL))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)id[i]) && id[i] != '-')
            return false;
    char *their_id = arena_strndup(arena, id, len);
    if (sha256_is_hex(their_id))
        return false;
    *out = (struct named_row){
        .id = arena_strdup(arena, id), .their_id = their_id, .kind = kind, .item = (int)item};
    return true;
}

static bool take_ids(struct named_row **rows, int *n, struct arena *arena, enum item_kind kind,
                     const json_t *ids, struct error *err) {
    size_t n_ids = json_array_size(ids);
    if (n_ids > MAX_ROWS)
        return error_set(err, ERROR_LIMIT, "%zu rows in a collection, past %d", n_ids, MAX_ROWS);
    struct named_row *grown = mem_try_grow(*rows, (size_t)*n + n_ids + 1, sizeof **rows, SIZE_MAX);
    if (!grown)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %zu ids", n_ids);
    *rows = grown;
    for (size_t i = 0; i < n_ids; i++) {
        const char *id = json_string_value(json_array_get(ids, i));
        if (id && take_id(&grown[*n], arena, kind, id))
            ++*n;
    }
    return true;
}

static int by_document_and_item(const void *a, const void *b) {
    const struct named_row *one = a, *other = b;
    int order = strcmp(one->their_id, other->their_id);
    if (order != 0)
        return order;
    if (one->kind != other->kind)
        return one->kind < other->kind ? -1 : 1;
    return one->item != other->item ? (one->item < other->item ? -1 : 1)
                                    : strcmp(one->id, other->id);
}

static int by_doc_id(const void *a, const void *b, void *ctx) {
    const struct legacy_document *documents = ctx;
    return strcmp(documents[*(const int *)a].doc_id, documents[*(const int *)b].doc_id);
}

/* rows: sorted. An item that two ids name is the first's. */
static void fill_listing(struct legacy_listing *listing, const struct named_row *rows, int n) {
    struct arena *arena = listing->arena;
    listing->documents = arena_alloc(arena, ((size_t)n + 1) * sizeof *listing->documents);
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++)
        listing->rows[kind] = arena_alloc(arena, ((size_t)n + 1) * sizeof *listing->rows[kind]);
    for (int i = 0; i < n; i++) {
        const struct named_row *row = &rows[i], *before = i > 0 ? &rows[i - 1] : NULL;
        bool same = before && strcmp(before->their_id, row->their_id) == 0;
        if (!same) {
            struct legacy_document *document = &listing->documents[listing->n_documents++];
            document->their_id = row->their_id;
            chroma_legacy_id(document->doc_id, row->their_id);
            document->first[ITEM_PAGE] = listing->n_rows[ITEM_PAGE];
            document->first[ITEM_CHUNK] = listing->n_rows[ITEM_CHUNK];
        } else if (before->kind == row->kind && before->item == row->item) {
            continue;
        }
        int document = listing->n_documents - 1;
        listing->rows[row->kind][listing->n_rows[row->kind]++] = (struct legacy_row){
            .id = row->id, .document = document, .item = row->item};
        listing->documents[document].n[row->kind]++;
    }
    int n_documents = listing->n_documents;
    listing->by_id = arena_alloc(arena, ((size_t)n_documents + 1) * sizeof *listing->by_id);
    for (int i = 0; i < n_documents; i++)
        listing->by_id[i] = i;
    qsort_r(listing->by_id, (size_t)n_documents, sizeof *listing->by_id, by_doc_id,
            listing->documents);
}

static bool list_rows(struct legacy_listing *listing, struct chroma_legacy *legacy,
                      struct error *err) {
    struct named_row *rows = NULL;
    int n = 0;
    bool ok = true;
    for (int kind = ITEM_PAGE; ok && kind <= ITEM_CHUNK; kind++) {
        struct http_reply reply;
        ok = find_collection(listing->uuids[kind], &listing->dims[kind], legacy,
                             (enum item_kind)kind, err);
        if (!ok || !listing->uuids[kind][0])
            continue;
        ok = legacy_ask(&reply, legacy, listing, (enum item_kind)kind, "get",
                        json_pack("{s:[]}", "include"), err);
        if (!ok)
            continue;
        json_t *json = json_loadb(reply.body, reply.len, 0, NULL);
        http_reply_fini(&reply);
        ok = take_ids(&rows, &n, listing->arena, (enum item_kind)kind, json_object_get(json, "ids"),
                      err);
        json_decref(json);
    }
    if (ok && n > 0)
        qsort(rows, (size_t)n, sizeof *rows, by_document_and_item);
    if (ok)
        fill_listing(listing, rows, n);
    mem_free(rows);
    return ok;
}

void legacy_unref(struct chroma_legacy *legacy, struct legacy_listing *listing) {
    lock_take(&legacy->lock);
    bool last = --listing->n_refs == 0;
    lock_drop(&legacy->lock);
    if (last) {
        arena_free(listing->arena);
        mem_free(listing);
    }
}

bool legacy_list(struct legacy_listing **out, struct chroma_legacy *legacy, struct error *err) {
    lock_take(&legacy->lock);
    struct legacy_listing *known = legacy->listing;
    if (known && time_mono_ms() - known->listed_ms < LISTED_MS)
        known->n_refs++;
    else
        known = NULL;
    lock_drop(&legacy->lock);
    *out = known;
    if (known)
        return true;
    struct legacy_listing *listing = mem_alloc(sizeof *listing);
    listing->arena = arena_new(0);
    listing->listed_ms = time_mono_ms();
    listing->n_refs = 1;
    if (!list_rows(listing, legacy, err)) {
        legacy_unref(legacy, listing);
        return false;
    }
    lock_take(&legacy->lock);
    known = legacy->listing;
    legacy->listing = listing;
    listing->n_refs++;
    lock_drop(&legacy->lock);
    if (known)
        legacy_unref(legacy, known);
    *out = listing;
    return true;
}

const struct legacy_document *legacy_lookup(const struct legacy_listing *listing,
                                            const char *doc_id) {
    int low = 0, high = listing->n_documents;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const struct legacy_document *document = &listing->documents[listing->by_id[middle]];
        int order = strcmp(document->doc_id, doc_id);
        if (order == 0)
            return document;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct legacy_row *legacy_lookup_row(const struct legacy_listing *listing,
                                           const struct legacy_document *document,
                                           enum item_kind kind, int item) {
    const struct legacy_row *rows = listing->rows[kind] + document->first[kind];
    for (int i = 0; i < document->n[kind]; i++)
        if (rows[i].item == item)
            return &rows[i];
    return NULL;
}

bool chroma_legacy_facts(struct chroma_legacy_facts *out, struct chroma_legacy *legacy,
                         struct error *err) {
    struct legacy_listing *listing;
    *out = (struct chroma_legacy_facts){0};
    if (!legacy_list(&listing, legacy, err))
        return false;
    out->n_documents = listing->n_documents;
    out->n_pages = listing->n_rows[ITEM_PAGE];
    out->n_chunks = listing->n_rows[ITEM_CHUNK];
    legacy_unref(legacy, listing);
    return true;
}
