/* The collections: found by name in one listing, made where they are not, touched, put aside.
 *
 * Invariants: a collection's name is looked up again whenever its UUID turns out unknown, and by
 * every chroma_check, since another process may have put it aside and made it anew; what a
 * collection that is not ours is, is never changed; the lock is not held during calls, and one
 * thread at a time checks. */
#include "chroma/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define CACHE_BYTES ((size_t)256 << 20)
#define QUIET_MS 60000 /* of silence, after which collections are touched */
#define COUNT_EVERY_MS 30000
#define LIST_PAGE 500
#define MAX_LISTED 100000
#define MAX_WAIT_MS 15000    /* for a server that is started again */
#define EF 200               /* twice the defaults: candidates, and neighbours, of an item's */
#define NEIGHBORS 32         /* one vector */
#define SYNC_THRESHOLD 10000 /* the default, 1000, leaves indexes damaged when it is killed */

static const char *const suffixes[] = {"", "-tokens", "-vectors"};

/* ---- open and close -------------------------------------------------------------------------- */

static bool check_name(const char *name, const char *setting, struct error *err) {
    size_t len = strlen(name);
    bool fine = len >= 3 && len <= CHROMA_MAX_NAME && isalnum((unsigned char)name[0]) &&
                isalnum((unsigned char)name[len - 1]);
    for (const char *c = name; *c; c++)
        fine = fine && (isalnum((unsigned char)*c) || strchr("._-", *c));
    return fine || error_set(err, ERROR_INPUT, "%s: %s is not 3 to %d of a-z, 0-9, '.', '_', '-'",
                             setting, name, CHROMA_MAX_NAME);
}

bool chroma_open(struct chroma **out, const struct chroma_settings *settings, struct error *err) {
    *out = NULL;
    if (!check_name(settings->visual_collection, "VISUAL_COLLECTION", err) ||
        !check_name(settings->text_collection, "TEXT_COLLECTION", err))
        return false;
    if (strcmp(settings->visual_collection, settings->text_collection) == 0)
        return error_set(err, ERROR_INPUT,
                         "VISUAL_COLLECTION and TEXT_COLLECTION: both are %s, two are needed",
                         settings->text_collection);
    struct chroma *chroma = mem_alloc(sizeof *chroma);
    if (!chroma_link_open(&chroma->link, settings, err)) {
        mem_free(chroma);
        return false;
    }
    chroma->cache = chroma_cache_new(CACHE_BYTES);
    chroma->visual = mem_strdup(settings->visual_collection);
    chroma->text = mem_strdup(settings->text_collection);
    lock_init(&chroma->lock, LOCK_HTTP);
    cond_init(&chroma->checked);
    *out = chroma;
    return true;
}

void chroma_close(struct chroma *chroma) {
    if (!chroma)
        return;
    chroma_link_close(chroma->link);
    chroma_cache_free(chroma->cache);
    cond_fini(&chroma->checked);
    lock_fini(&chroma->lock);
    mem_free(chroma->visual);
    mem_free(chroma->text);
    mem_free(chroma);
}

/* ---- calls by name --------------------------------------------------------------------------- */

static bool call(json_t **reply, struct chroma *chroma, const char *method, const char *path,
                 json_t *request, struct error *err) {
    *reply = NULL;
    char *target = mem_printf("%s/collections%s", chroma_link_base(chroma->link), path);
    struct buf body = {0};
    if (request)
        chroma_put_json(&body, request);
    json_decref(request);
    const struct chroma_call one = {.method = method,
                                    .target = target,
                                    .body = body.data,
                                    .len = body.len,
                                    .patience = CHROMA_READS};
    struct http_reply got;
    bool ok = chroma_link_call(&got, chroma->link, &one, err);
    mem_free(target);
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

/* Every collection of the database, in one array. */
static bool list_all(json_t **all, struct chroma *chroma, struct error *err) {
    *all = json_array();
    for (int from = 0; from < MAX_LISTED; from += LIST_PAGE) {
        char path[64];
        snprintf(path, sizeof path, "?limit=%d&offset=%d", LIST_PAGE, from);
        json_t *page;
        if (!call(&page, chroma, "GET", path, NULL, err)) {
            json_decref(*all);
            *all = NULL;
            return false;
        }
        size_t n = json_array_size(page);
        json_array_extend(*all, page);
        json_decref(page);
        if (n < LIST_PAGE)
            break;
    }
    return true;
}

static const json_t *named(const json_t *all, const char *name) {
    size_t i;
    const json_t *one;
    json_array_foreach(all, i, one) if (strcmp(chroma_get_text(one, "name"), name) == 0) return one;
    return NULL;
}

/* ---- what is there --------------------------------------------------------------------------- */

static void take_one(struct chroma_one *out, const json_t *one) {
    const json_t *metadata = json_object_get(one, "metadata");
    const json_t *known = json_object_get(metadata, "docusearch_space");
    snprintf(out->uuid, sizeof out->uuid, "%s", chroma_get_text(one, "id"));
    snprintf(out->space, sizeof out->space, "%s", chroma_get_text(metadata, "docusearch_space"));
    out->dim = (int)chroma_get_int(one, "dimension");
    if (out->dim == 0)
        out->dim = (int)chroma_get_int(metadata, "docusearch_dim");
    out->late = json_is_true(json_object_get(metadata, "docusearch_late"));
    out->foreign = !known;
    out->n_rows = -1;
}

/* V of a role: its own name, or, where that is somebody else's and does not fit, `<name>-<dim>`.
 * One that is not ours fits where nobody asks it: page vectors for readers, beside tokens. */
static void find_vectors(struct chroma_set *set, const struct chroma *chroma, const json_t *all,
                         enum item_kind kind) {
    struct chroma_one *one = &set->of[CHROMA_OF(kind, CHROMA_VECTORS)];
    const struct chroma_space *space = &set->spaces[kind];
    const char *name = kind == ITEM_PAGE ? chroma->visual : chroma->text;
    snprintf(one->name, sizeof one->name, "%s", name);
    const json_t *there = named(all, name);
    if (!there)
        return;
    take_one(one, there);
    bool fits = !one->foreign || (space->late && (one->dim == 0 || one->dim == space->dim));
    if (fits)
        return;
    struct chroma_one theirs = *one;
    memset(one, 0, sizeof *one);
    size_t len = strlen(name), i;
    const json_t *other;
    json_array_foreach(all, i, other) {
        const char *candidate = chroma_get_text(other, "name");
        const json_t *metadata = json_object_get(other, "metadata");
        if (strncmp(candidate, name, len) == 0 && candidate[len] == '-' &&
            strspn(candidate + len + 1, "0123456789") == strlen(candidate + len + 1) &&
            json_object_get(metadata, "docusearch_space") &&
            (space->dim == 0 || chroma_get_int(metadata, "docusearch_dim") == space->dim)) {
            snprintf(one->name, sizeof one->name, "%s", candidate);
            take_one(one, other);
            return;
        }
    }
    if (space->dim > 0)
        snprintf(one->name, sizeof one->name, "%s-%d", name, space->dim);
    else
        *one = theirs; /* none of ours is there, nor is one to be made */
}

static void find_collections(struct chroma_set *set, const struct chroma *chroma,
                             const json_t *all) {
    memset(set->of, 0, sizeof set->of);
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        find_vectors(set, chroma, all, (enum item_kind)kind);
        for (int which = CHROMA_TOKENS; which <= CHROMA_CODES; which++) {
            struct chroma_one *one = &set->of[CHROMA_OF(kind, which)];
            snprintf(one->name, sizeof one->name, "%s%s",
                     kind == ITEM_PAGE ? chroma->visual : chroma->text, suffixes[which]);
            const json_t *there = named(all, one->name);
            if (there)
                take_one(one, there);
        }
    }
    struct chroma_one *documents = &set->of[CHROMA_DOCUMENTS];
    snprintf(documents->name, sizeof documents->name, "%s-documents", chroma->visual);
    const json_t *there = named(all, documents->name);
    if (there)
        take_one(documents, there);
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++)
        if (!set->of[i].uuid[0])
            set->of[i].n_rows = -1;
}

static bool is_wanted(const struct chroma_set *set, int i) {
    if (i == CHROMA_DOCUMENTS)
        return true;
    const struct chroma_space *space = &set->spaces[i / 3];
    return space->name[0] && (i % 3 == CHROMA_VECTORS || space->late);
}

/* Has one of the role's own collections vectors of another space? */
static void compare_spaces(struct chroma_set *set) {
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        const char *wanted = set->spaces[kind].name;
        set->other[kind] = false;
        for (int which = CHROMA_VECTORS; which <= CHROMA_CODES && wanted[0]; which++) {
            const struct chroma_one *one = &set->of[CHROMA_OF(kind, which)];
            if (one->uuid[0] && !one->foreign && strcmp(one->space, wanted) != 0)
                set->other[kind] = true;
        }
    }
}

static bool make_one(struct chroma_one *one, struct chroma *chroma, const struct chroma_set *set,
                     int i, struct error *err) {
    json_t *metadata = json_pack("{s:b}", "docusearch", 1);
    const char *space = "";
    if (i != CHROMA_DOCUMENTS) {
        const struct chroma_space *of = &set->spaces[i / 3];
        space = of->name;
        json_object_set_new(metadata, "docusearch_dim",
                            json_integer(i % 3 == CHROMA_CODES ? 1 : of->dim));
        json_object_set_new(metadata, "docusearch_late", json_boolean(of->late));
    }
    json_object_set_new(metadata, "docusearch_space", chroma_text(space));
    json_t *hnsw = json_pack("{s:s,s:i}", "space", "cosine", "sync_threshold", SYNC_THRESHOLD);
    if (i != CHROMA_DOCUMENTS && i % 3 == CHROMA_VECTORS) { /* one vector an item: miss none */
        json_object_set_new(hnsw, "ef_construction", json_integer(EF));
        json_object_set_new(hnsw, "ef_search", json_integer(EF));
        json_object_set_new(hnsw, "max_neighbors", json_integer(NEIGHBORS));
    }
    json_t *reply;
    if (!call(&reply, chroma, "POST", "",
              json_pack("{s:s,s:b,s:o,s:{s:o}}", "name", one->name, "get_or_create", 1, "metadata",
                        metadata, "configuration", "hnsw", hnsw),
              err))
        return false;
    take_one(one, reply);
    json_decref(reply);
    return true;
}

/* The UUIDs, as one word. */
static void name_epoch(struct chroma_set *set) {
    static const struct chroma_one none;
    struct sha256 *hash = sha256_new();
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++) {
        const struct chroma_one *one = set->of[i].foreign ? &none : &set->of[i];
        sha256_update(hash, one->uuid, sizeof one->uuid);
    }
    sha256_finish(set->epoch, hash);
}

/* Finds, makes what is wanted, and makes it known. */
static bool look(struct chroma *chroma, struct error *err) {
    struct chroma_set *set = mem_alloc(sizeof *set);
    lock_take(&chroma->lock);
    *set = chroma->set;
    for (int kind = 0; kind < 2; kind++)
        set->spaces[kind].name = set->space_names[kind];
    lock_drop(&chroma->lock);
    struct chroma_set before = *set;
    json_t *all = NULL;
    bool ok = list_all(&all, chroma, err);
    if (ok)
        find_collections(set, chroma, all);
    json_decref(all);
    if (ok)
        compare_spaces(set);
    for (int i = 0; ok && i < CHROMA_MAX_COLLECTIONS; i++)
        if (is_wanted(set, i) && !set->of[i].uuid[0] &&
            (i == CHROMA_DOCUMENTS || !set->other[i / 3]))
            ok = make_one(&set->of[i], chroma, set, i, err);
    if (ok) {
        compare_spaces(set); /* another process may have made one just now */
        name_epoch(set);
        set->known = true;
        for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++)
            if (strcmp(set->of[i].uuid, before.of[i].uuid) == 0)
                set->of[i].n_rows = before.of[i].n_rows;
        lock_take(&chroma->lock);
        chroma->set = *set;
        chroma->stale = false;
        lock_drop(&chroma->lock);
    }
    mem_free(set);
    return ok;
}

/* ---- taking turns ---------------------------------------------------------------------------- */

static void begin_check(struct chroma *chroma) {
    lock_take(&chroma->lock);
    while (chroma->checking)
        cond_wait(&chroma->checked, &chroma->lock, -1);
    chroma->checking = true;
    lock_drop(&chroma->lock);
}

static void end_check(struct chroma *chroma) {
    lock_take(&chroma->lock);
    chroma->checking = false;
    cond_wake_all(&chroma->checked);
    lock_drop(&chroma->lock);
}

static void copy_set(struct chroma_set *out, bool *usable, struct chroma *chroma) {
    lock_take(&chroma->lock);
    *out = chroma->set;
    *usable = chroma->set.known && !chroma->stale;
    lock_drop(&chroma->lock);
    for (int kind = 0; kind < 2; kind++)
        out->spaces[kind].name = out->space_names[kind];
}

bool chroma_current(struct chroma_set *out, struct chroma *chroma, struct error *err) {
    bool usable;
    copy_set(out, &usable, chroma);
    if (usable)
        return true;
    lock_take(&chroma->lock);
    bool told = chroma->told;
    lock_drop(&chroma->lock);
    if (!told)
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "ChromaDB at %s: not asked yet", chroma_link_url(chroma->link));
    begin_check(chroma);
    copy_set(out, &usable, chroma);
    bool ok = usable || look(chroma, err);
    end_check(chroma);
    if (ok)
        copy_set(out, &usable, chroma);
    return ok;
}

bool chroma_still(bool *same, struct chroma *chroma, const struct chroma_set *set,
                  struct error *err) {
    *same = true;
    json_t *all;
    if (!list_all(&all, chroma, err))
        return false;
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++) {
        const json_t *one = named(all, set->of[i].name);
        if (set->of[i].uuid[0] && strcmp(one ? chroma_get_text(one, "id") : "", set->of[i].uuid))
            *same = false;
    }
    json_decref(all);
    if (!*same) {
        lock_take(&chroma->lock);
        chroma->stale = true;
        lock_drop(&chroma->lock);
    }
    return true;
}

bool chroma_check_space(const struct chroma_set *set, enum item_kind kind, const char *space,
                        struct error *err) {
    const struct chroma_one *one = &set->of[CHROMA_OF(kind, CHROMA_VECTORS)];
    if (one->foreign || !one->uuid[0])
        one = &set->of[CHROMA_OF(kind, CHROMA_TOKENS)];
    if (!set->other[kind] && !one->uuid[0])
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "no collection for vectors of %.80s was made yet", space);
    if (!set->other[kind] && strcmp(one->space, space) == 0)
        return true;
    return error_set_code(err, ERROR_CONFLICT, "other_space",
                          "collection %s has vectors of %.80s, not of %.80s", one->name,
                          one->space[0] ? one->space : "no model", space);
}

/* ---- putting aside --------------------------------------------------------------------------- */

static void aside_name(char *out, size_t size, const char *name, const char *uuid) {
    snprintf(out, size, "%s.aside-%.8s", name, uuid);
}

/* Two processes may do so at once: the name of what is put aside is told by its UUID. */
static bool put_aside(struct chroma *chroma, const struct chroma_one *one, struct error *err) {
    char name[sizeof one->name + 32], path[64];
    aside_name(name, sizeof name, one->name, one->uuid);
    snprintf(path, sizeof path, "/%s", one->uuid);
    struct error why = {0};
    json_t *reply;
    if (call(&reply, chroma, "PUT", path, json_pack("{s:s}", "new_name", name), &why)) {
        json_decref(reply);
        return true;
    }
    if (why.kind == ERROR_CONFLICT || why.kind == ERROR_MISSING)
        return true; /* another process was first */
    if (err)
        *err = why;
    return false;
}

bool chroma_renew(struct chroma *chroma, enum item_kind kind, struct error *err) {
    struct chroma_set set;
    if (!chroma_current(&set, chroma, err))
        return false;
    begin_check(chroma);
    bool ok = true;
    for (int which = CHROMA_VECTORS; ok && which <= CHROMA_CODES; which++) {
        const struct chroma_one *one = &set.of[CHROMA_OF(kind, which)];
        if (one->uuid[0] && !one->foreign)
            ok = put_aside(chroma, one, err);
    }
    ok = ok && look(chroma, err);
    end_check(chroma);
    return ok;
}

static bool is_aside(const struct chroma *chroma, const char *name) {
    const char *mark = strstr(name, ".aside-");
    if (!mark || strlen(mark) != strlen(".aside-") + 8)
        return false;
    size_t visual = strlen(chroma->visual), text = strlen(chroma->text);
    return (strncmp(name, chroma->visual, visual) == 0 && strchr(".-", name[visual])) ||
           (strncmp(name, chroma->text, text) == 0 && strchr(".-", name[text]));
}

bool chroma_drop_aside(struct chroma *chroma, struct error *err) {
    json_t *all;
    if (!list_all(&all, chroma, err))
        return false;
    bool ok = true;
    size_t i;
    const json_t *one;
    json_array_foreach(all, i, one) {
        const char *name = chroma_get_text(one, "name");
        const json_t *metadata = json_object_get(one, "metadata");
        if (!ok || !is_aside(chroma, name) || !json_object_get(metadata, "docusearch_space"))
            continue;
        char path[sizeof(((struct chroma_one *)0)->name) + 40];
        snprintf(path, sizeof path, "/%s", name);
        json_t *reply;
        struct error why = {0};
        ok = call(&reply, chroma, "DELETE", path, NULL, &why) || why.kind == ERROR_MISSING;
        json_decref(reply);
        if (!ok && err)
            *err = why;
    }
    json_decref(all);
    lock_take(&chroma->lock);
    if (ok)
        chroma->note[0] = '\0';
    lock_drop(&chroma->lock);
    return ok;
}

/* ---- touching -------------------------------------------------------------------------------- */

static bool await_server(struct chroma *chroma, struct error *err) {
    int64_t end_ms = time_mono_ms() + MAX_WAIT_MS;
    while (!chroma_link_probe(chroma->link, err)) {
        if (time_mono_ms() >= end_ms)
            return false;
        time_sleep_ms(250);
    }
    return true;
}

#define N_TOUCHED 100
#define MAX_LOST 4 /* touches whose reply did not come, of a server that lives */
#define TOUCH_PAUSE_MS 200
#define MIN_FAULTY 6 /* touches in a row that met an unreadable index: it is damaged */
#define MIN_FAULTY_MS 1500

static bool touch_vectors(struct http_reply *reply, const struct chroma_one *one, int n_results,
                          struct chroma *chroma, struct error *err) {
    char *target = mem_printf("%s/collections/%s/query", chroma_link_base(chroma->link), one->uuid);
    struct buf body = {0};
    buf_printf(&body, "{\"n_results\":%d,\"include\":[],\"query_embeddings\":[[1", n_results);
    for (int i = 1; i < one->dim; i++)
        buf_puts(&body, ",0");
    buf_puts(&body, "]]}");
    const struct chroma_call asked = {.method = "POST",
                                      .target = target,
                                      .body = body.data,
                                      .len = body.len,
                                      .patience = CHROMA_WRITES};
    bool ok = chroma_link_try(reply, chroma->link, &asked, err);
    mem_free(target);
    buf_fini(&body);
    return ok;
}

/* One attempt of what reads a collection's index: how many rows, and the nearest to something. An
 * index that has lost its vectors answers too, with few; of one where all are the same, and which
 * nobody searches, that is no sign. */
static bool touch(struct chroma_one *one, struct chroma *chroma, struct error *err) {
    char *target = mem_printf("%s/collections/%s/count", chroma_link_base(chroma->link), one->uuid);
    const struct chroma_call asked = {.method = "GET", .target = target, .patience = CHROMA_READS};
    struct http_reply reply;
    bool ok = chroma_link_try(&reply, chroma->link, &asked, err);
    mem_free(target);
    if (!ok)
        return false;
    ok = text_to_int(&one->n_rows, reply.body, 0, INT64_MAX, "count", err);
    http_reply_fini(&reply);
    if (!ok || one->n_rows == 0 || one->dim <= 0)
        return ok;
    int wanted = one->n_rows < N_TOUCHED ? (int)one->n_rows : N_TOUCHED;
    if (!touch_vectors(&reply, one, wanted, chroma, err))
        return false;
    json_t *json = json_loadb(reply.body, reply.len, JSON_DECODE_ANY, NULL);
    int n = (int)json_array_size(json_array_get(json_object_get(json, "ids"), 0));
    json_decref(json);
    http_reply_fini(&reply);
    return n >= wanted / 2 ||
           error_set_code(err, ERROR_BUSY, CHROMA_FAULTY, "%d vectors where %lld rows are", n,
                          (long long)one->n_rows);
}

bool chroma_prove_reads(struct chroma *chroma, const struct chroma_set *set, int i,
                        struct error *err) {
    struct chroma_link_state state;
    chroma_link_state(&state, NULL, chroma->link);
    lock_take(&chroma->lock);
    bool looked_at = state.n_broken == chroma->n_broken_seen;
    lock_drop(&chroma->lock);
    struct chroma_one one = set->of[i];
    struct error why = {0};
    if (looked_at || !one.uuid[0] || one.foreign)
        return true;
    for (int n = 1; !touch(&one, chroma, &why); n++) {
        if (n < MAX_LOST) { /* rows that go, or the network */
            time_sleep_ms(TOUCH_PAUSE_MS);
            continue;
        }
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "ChromaDB's collection %.120s is being looked at: %.120s", one.name,
                              why.text);
    }
    return true;
}

/* A damaged one goes out of the way, and a new one takes its name. */
static bool recover(struct chroma *chroma, const struct chroma_one *one, const struct error *why,
                    struct error *err) {
    struct chroma_set set;
    bool usable, same = false;
    copy_set(&set, &usable, chroma);
    json_t *all;
    if (!list_all(&all, chroma, err))
        return false;
    const json_t *there = named(all, one->name);
    same = there && strcmp(chroma_get_text(there, "id"), one->uuid) == 0;
    json_decref(all);
    if (same && !put_aside(chroma, one, err))
        return false;
    log_warn("chromadb: collection %s (%s) was damaged and is made anew: %s", one->name, one->uuid,
             why->text);
    lock_take(&chroma->lock);
    chroma->n_recovered++;
    snprintf(chroma->note, sizeof chroma->note,
             "collection %.120s was damaged and made anew; its vectors are put again", one->name);
    chroma->suspect[0] = '\0';
    chroma->n_deaths = 0;
    lock_drop(&chroma->lock);
    return look(chroma, err);
}

/* Is it still up, right after a connection ended? Then it was the network's doing. */
static bool lives(struct chroma *chroma) {
    const struct chroma_call asked = {
        .method = "GET", .target = "/api/v2/heartbeat", .patience = CHROMA_PROBES};
    struct http_reply reply;
    if (!chroma_link_try(&reply, chroma->link, &asked, NULL))
        return false;
    http_reply_fini(&reply);
    return true;
}

/* It is touched first, and again, until it was touched well. Counts touches that ended the server;
 * true: it is the second one. */
static bool suspect(struct chroma *chroma, const struct chroma_one *one, bool died) {
    lock_take(&chroma->lock);
    bool again = strcmp(chroma->suspect, one->uuid) == 0;
    snprintf(chroma->suspect, sizeof chroma->suspect, "%s", one->uuid);
    chroma->n_deaths = (again ? chroma->n_deaths : 0) + died;
    bool damaged = chroma->n_deaths >= 2;
    lock_drop(&chroma->lock);
    return damaged;
}

static void clear(struct chroma *chroma, const struct chroma_one *one, bool gone) {
    lock_take(&chroma->lock);
    if (strcmp(chroma->suspect, one->uuid) == 0)
        chroma->suspect[0] = '\0';
    chroma->stale = chroma->stale || gone;
    lock_drop(&chroma->lock);
}

/* *damaged: this touch and the one before ended the server, or the index was unreadable each time,
 * for a while: one whose rows are being deleted is so now and then, and is whole. */
static bool touch_until_sure(bool *damaged, struct chroma_one *one, struct chroma *chroma,
                             struct error *why, struct error *err) {
    *damaged = false;
    int64_t since_ms = 0;
    int n_faulty = 0;
    for (int n_lost = 0; !touch(one, chroma, why); time_sleep_ms(TOUCH_PAUSE_MS)) {
        if (why->kind == ERROR_MISSING) {
            clear(chroma, one, true);
            return true;
        }
        bool unreadable = strcmp(why->code, CHROMA_FAULTY) == 0;
        bool broke = strcmp(why->code, CHROMA_BROKEN) == 0;
        if (unreadable) {
            suspect(chroma, one, false);
            int64_t now_ms = time_mono_ms();
            if (n_faulty++ == 0)
                since_ms = now_ms;
            *damaged = n_faulty >= MIN_FAULTY && now_ms - since_ms >= MIN_FAULTY_MS;
            if (*damaged)
                return true;
        } else if (broke && !lives(chroma)) {
            n_faulty = 0;
            *damaged = suspect(chroma, one, true);
            if (!await_server(chroma, err))
                return false;
            if (*damaged)
                return true;
        } else if (why->kind != ERROR_BUSY || ++n_lost == MAX_LOST ||
                   !chroma_link_probe(chroma->link, NULL)) {
            snprintf(why->code, sizeof why->code, "backend_unavailable");
            if (err)
                *err = *why;
            return false;
        }
    }
    clear(chroma, one, false);
    return true;
}

/* The one that was touched when the server ended last comes first. */
static bool touch_all(struct chroma *chroma, struct error *err) {
    struct chroma_set set;
    bool usable;
    copy_set(&set, &usable, chroma);
    lock_take(&chroma->lock);
    char last[sizeof chroma->suspect];
    memcpy(last, chroma->suspect, sizeof last);
    lock_drop(&chroma->lock);
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++) {
            struct chroma_one *one = &set.of[i];
            bool first = strcmp(one->uuid, last) == 0;
            if (!one->uuid[0] || one->foreign || first != (turn == 0))
                continue;
            bool damaged;
            struct error why = {0};
            if (!touch_until_sure(&damaged, one, chroma, &why, err))
                return false;
            if (damaged && !recover(chroma, one, &why, err))
                return false;
        }
    }
    return true;
}

static bool count_all(struct chroma *chroma, struct error *err) {
    struct chroma_set set;
    bool usable;
    copy_set(&set, &usable, chroma);
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++)
        if (set.of[i].uuid[0] && !chroma_count(&set.of[i].n_rows, chroma, set.of[i].uuid, err))
            return false;
    lock_take(&chroma->lock);
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++)
        if (strcmp(chroma->set.of[i].uuid, set.of[i].uuid) == 0)
            chroma->set.of[i].n_rows = set.of[i].n_rows;
    chroma->counted_ms = time_mono_ms();
    lock_drop(&chroma->lock);
    return true;
}

/* ---- the check ------------------------------------------------------------------------------- */

static bool ask_limits(struct chroma *chroma, struct error *err) {
    struct http_reply reply;
    const struct chroma_call asked = {
        .method = "GET", .target = "/api/v2/pre-flight-checks", .patience = CHROMA_READS};
    if (!chroma_link_call(&reply, chroma->link, &asked, err))
        return false;
    json_t *json = json_loadb(reply.body, reply.len, JSON_DECODE_ANY, NULL);
    int64_t max_batch = chroma_get_int(json, "max_batch_size");
    bool base64 = json_is_true(json_object_get(json, "supports_base64_encoding"));
    json_decref(json);
    http_reply_fini(&reply);
    if (!base64 || max_batch < 1)
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "ChromaDB at %s: takes no vectors as base64: 1.0 or later is needed",
                              chroma_link_url(chroma->link));
    lock_take(&chroma->lock);
    chroma->max_batch = max_batch > 100000 ? 100000 : (int)max_batch;
    lock_drop(&chroma->lock);
    return true;
}

static bool set_spaces(struct chroma *chroma, const struct chroma_spaces *spaces,
                       struct error *err) {
    for (int kind = 0; kind < 2; kind++)
        if (strlen(spaces->of[kind].name) >= CHROMA_MAX_SPACE)
            return error_set(err, ERROR_LIMIT, "the space's name has more than %d bytes",
                             CHROMA_MAX_SPACE - 1);
    lock_take(&chroma->lock);
    for (int kind = 0; kind < 2; kind++) {
        struct chroma_space *space = &chroma->set.spaces[kind];
        char *name = chroma->set.space_names[kind];
        if (strcmp(name, spaces->of[kind].name) != 0)
            chroma->set.known = false;
        snprintf(name, CHROMA_MAX_SPACE, "%s", spaces->of[kind].name);
        *space = spaces->of[kind];
        space->name = name;
    }
    chroma->told = true;
    lock_drop(&chroma->lock);
    return true;
}

static bool check_parts(struct chroma *chroma, struct error *err) {
    struct chroma_link_state before;
    chroma_link_state(&before, NULL, chroma->link);
    if (!chroma_link_probe(chroma->link, err))
        return false;
    struct chroma_link_state probed;
    chroma_link_state(&probed, NULL, chroma->link);
    before.n_broken = probed.n_broken;
    lock_take(&chroma->lock);
    int64_t now = time_mono_ms();
    bool limits = !before.up || chroma->max_batch == 0;
    bool quiet = !before.up || now - before.heard_ms > QUIET_MS || chroma->touched_ms == 0 ||
                 before.n_broken != chroma->n_broken_seen || chroma->suspect[0];
    bool count = now - chroma->counted_ms > COUNT_EVERY_MS || chroma->counted_ms == 0;
    lock_drop(&chroma->lock);
    if ((limits && !ask_limits(chroma, err)) || !look(chroma, err))
        return false;
    if (quiet) {
        if (!touch_all(chroma, err))
            return false;
        lock_take(&chroma->lock);
        chroma->touched_ms = time_mono_ms();
        chroma->n_broken_seen = before.n_broken;
        lock_drop(&chroma->lock);
    }
    return !count || count_all(chroma, err);
}

bool chroma_check(struct chroma *chroma, const struct chroma_spaces *spaces, struct error *err) {
    if (!set_spaces(chroma, spaces, err))
        return false;
    begin_check(chroma);
    bool ok = check_parts(chroma, err);
    end_check(chroma);
    if (!ok)
        return false;
    struct chroma_set set;
    bool usable;
    copy_set(&set, &usable, chroma);
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++)
        if (set.other[kind])
            return chroma_check_space(&set, (enum item_kind)kind, set.spaces[kind].name, err);
    return true;
}

void chroma_facts(struct chroma_facts *out, struct arena *arena, struct chroma *chroma) {
    struct chroma_link_state state;
    chroma_link_state(&state, arena, chroma->link);
    struct chroma_set *set = mem_alloc(sizeof *set);
    bool usable;
    copy_set(set, &usable, chroma);
    lock_take(&chroma->lock);
    *out = (struct chroma_facts){.reachable = state.up,
                                 .url = arena_strdup(arena, chroma_link_url(chroma->link)),
                                 .why = state.why,
                                 .epoch = arena_strdup(arena, set->known ? set->epoch : ""),
                                 .since_ms = state.since_ms,
                                 .max_batch = chroma->max_batch,
                                 .n_recovered = chroma->n_recovered};
    char *note = arena_strdup(arena, chroma->note);
    lock_drop(&chroma->lock);
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++) {
        const struct chroma_one *one = &set->of[i];
        if (!one->uuid[0])
            continue;
        out->collections[out->n_collections++] = (struct chroma_collection_facts){
            .name = arena_strdup(arena, one->name),
            .uuid = arena_strdup(arena, one->uuid),
            .space = arena_strdup(arena, one->space),
            .n_rows = one->n_rows,
            .foreign = one->foreign};
    }
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        const struct chroma_one *one = &set->of[CHROMA_OF(kind, CHROMA_VECTORS)];
        const char *name = kind == ITEM_PAGE ? chroma->visual : chroma->text;
        const char *join = note[0] ? "; " : "";
        if (one->uuid[0] && one->foreign)
            note = arena_printf(arena, "%s%scollection %s was made by another program and is kept",
                                note, join, name);
        else if (one->name[0] && strcmp(one->name, name) != 0)
            note = arena_printf(arena,
                                "%s%scollection %s was made by another program and is kept; "
                                "vectors are in %s",
                                note, join, name, one->name);
    }
    out->note = note;
    mem_free(set);
}
