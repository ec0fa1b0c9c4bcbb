/* Calls: a pool of connections to one server, retries, and a breaker.
 *
 * Every call bears being done twice (rows that are there are skipped by /add; the rest sets or
 * removes), so one whose reply was lost is made again. While the server is known to be down, calls
 * fail at once; the first after a pause, doubled up to half a minute, asks for a heartbeat before
 * it goes on.
 *
 * A server that deletes rows says now and then of an index that is whole that it cannot find an id:
 * an index is called faulty only once every attempt met that.
 *
 * Invariant: the lock is never held during a call. */
#include "chroma/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define CONNECT_MS 2000
#define MAX_IDLE 16
#define MAX_ATTEMPTS 4
#define FIRST_PAUSE_MS 100
#define MAX_FAULTY 8 /* a query of many vectors meets it more often than one of one */
#define FAULTY_PAUSE_MS 300
#define FIRST_OPEN_MS 500
#define LONGEST_OPEN_MS 30000
#define RECONNECTED_MS 10000 /* some proxies end connections all the time */
#define NO_CHROMADB                                                                                \
    "ChromaDB at %s: another server answers there, or a ChromaDB before 1.0: correct CHROMA_HOST " \
    "and CHROMA_PORT"

struct chroma_link {
    char *url, *base, *token;
    struct lock lock; /* of what follows */
    struct http_client *idle[MAX_IDLE];
    int n_idle;
    bool down;
    int64_t open_until_ms, open_ms; /* mono: no call before; how long this time */
    int64_t since_ms, heard_ms, n_broken;
    int64_t reconnected_ms; /* mono: when that was noted last */
    char why[256];
};

bool chroma_link_open(struct chroma_link **out, const struct chroma_settings *settings,
                      struct error *err) {
    const char *host = settings->host;
    if (!host[0] || strpbrk(host, "/@?# "))
        return error_set(err, ERROR_INPUT, "CHROMA_HOST: %s is no host", host);
    struct arena *arena = arena_new(0);
    struct chroma_link *link = mem_alloc(sizeof *link);
    bool bare_v6 = strchr(host, ':') && host[0] != '[';
    link->url = mem_printf(bare_v6 ? "%s://[%s]:%d" : "%s://%s:%d",
                           settings->ssl ? "https" : "http", host, settings->port);
    link->base = mem_printf("/api/v2/tenants/%s/databases/%s", http_escape(arena, settings->tenant),
                            http_escape(arena, settings->database));
    link->token = settings->token ? mem_strdup(settings->token) : NULL;
    link->since_ms = time_wall_ms();
    link->down = true;
    snprintf(link->why, sizeof link->why, "ChromaDB at %s: not asked yet", link->url);
    lock_init(&link->lock, LOCK_HTTP);
    arena_free(arena);
    *out = link;
    return true;
}

void chroma_link_close(struct chroma_link *link) {
    if (!link)
        return;
    for (int i = 0; i < link->n_idle; i++)
        http_client_close(link->idle[i]);
    lock_fini(&link->lock);
    mem_free(link->url);
    mem_free(link->base);
    mem_free(link->token);
    mem_free(link);
}

const char *chroma_link_url(const struct chroma_link *link) {
    return link->url;
}

const char *chroma_link_base(const struct chroma_link *link) {
    return link->base;
}

void chroma_link_state(struct chroma_link_state *out, struct arena *arena,
                       struct chroma_link *link) {
    lock_take(&link->lock);
    out->up = !link->down;
    out->why = arena ? arena_strdup(arena, link->down ? link->why : "") : "";
    out->since_ms = link->since_ms;
    out->n_broken = link->n_broken;
    out->heard_ms = link->heard_ms;
    lock_drop(&link->lock);
}

/* ---- the pool -------------------------------------------------------------------------------- */

/* fresh: one that has no connection yet. Where one that stood for a while ends in the midst of a
 * call, the library tries once more with another, and the end would be taken for a refusal. */
static bool take_client(struct http_client **out, struct chroma_link *link, bool fresh,
                        struct error *err) {
    lock_take(&link->lock);
    *out = !fresh && link->n_idle > 0 ? link->idle[--link->n_idle] : NULL;
    lock_drop(&link->lock);
    if (*out)
        return true;
    if (!http_client_open(out, link->url, link->token, err))
        return false;
    if (link->token)
        http_client_set_header(*out, "x-chroma-token", link->token);
    return true;
}

static void give_client(struct chroma_link *link, struct http_client *client) {
    lock_take(&link->lock);
    bool kept = link->n_idle < MAX_IDLE;
    if (kept)
        link->idle[link->n_idle++] = client;
    lock_drop(&link->lock);
    if (!kept)
        http_client_close(client);
}

/* ---- the breaker ----------------------------------------------------------------------------- */

static void note_up(struct chroma_link *link) {
    lock_take(&link->lock);
    link->heard_ms = time_mono_ms();
    if (link->down) {
        link->since_ms = time_wall_ms();
        log_info("ChromaDB at %s: answers", link->url);
    }
    link->down = false;
    link->open_ms = 0;
    lock_drop(&link->lock);
}

static void note_down(struct chroma_link *link, const struct error *why) {
    lock_take(&link->lock);
    if (!link->down) {
        link->since_ms = time_wall_ms();
        log_warn("%s", why->text);
    }
    link->down = true;
    link->open_ms = link->open_ms == 0 ? FIRST_OPEN_MS : link->open_ms * 2;
    if (link->open_ms > LONGEST_OPEN_MS)
        link->open_ms = LONGEST_OPEN_MS;
    link->open_until_ms = time_mono_ms() + link->open_ms;
    snprintf(link->why, sizeof link->why, "%s", why->text);
    lock_drop(&link->lock);
}

enum gate { GATE_OPEN, GATE_PROBE, GATE_SHUT };

static enum gate pass_gate(struct chroma_link *link, struct error *err) {
    lock_take(&link->lock);
    enum gate gate = GATE_OPEN;
    int64_t now = time_mono_ms();
    if (link->down && now < link->open_until_ms) {
        gate = GATE_SHUT;
        error_set_code(err, ERROR_BUSY, "backend_unavailable", "%s", link->why);
    } else if (link->down) {
        gate = GATE_PROBE;
        link->open_until_ms = now + 2 * CONNECT_MS; /* others fail at once while one asks */
    }
    lock_drop(&link->lock);
    return gate;
}

/* ---- calls ----------------------------------------------------------------------------------- */

int chroma_silence_ms[] = {
    [CHROMA_READS] = 20000, [CHROMA_WRITES] = 120000, [CHROMA_PROBES] = 5000};

static int64_t with_jitter(int64_t pause_ms) {
    uint32_t dice = 0;
    if (getrandom(&dice, sizeof dice, GRND_NONBLOCK) != sizeof dice)
        dice = (uint32_t)time_mono_ms();
    return pause_ms / 2 + (int64_t)(dice % (uint32_t)pause_ms);
}

/* What the server says is wrong, in one line. */
static void explain(struct error *err, enum error_kind kind, const char *code,
                    const struct chroma_link *link, const struct http_reply *reply) {
    json_t *json = json_loadb(reply->body, reply->len, JSON_DECODE_ANY, NULL);
    const char *message = chroma_get_text(json, "message");
    char text[160];
    const char *said = message[0] ? message : reply->body;
    size_t len = utf8_cut(said, strlen(said), sizeof text - 1);
    memcpy(text, said, len);
    text[len] = '\0';
    error_set_code(err, kind, code, "ChromaDB at %s: answers %d: %s", link->url, reply->status,
                   text);
    json_decref(json);
}

static void note_trouble(struct chroma_link *link, bool if_up) {
    lock_take(&link->lock);
    link->n_broken += !if_up || !link->down;
    lock_drop(&link->lock);
}

/* Connections that ended between calls may have done so since the server was started anew. */
static void note_reconnected(struct chroma_link *link) {
    int64_t now_ms = time_mono_ms();
    lock_take(&link->lock);
    if (link->reconnected_ms == 0 || now_ms - link->reconnected_ms > RECONNECTED_MS) {
        link->reconnected_ms = now_ms;
        link->n_broken++;
    }
    lock_drop(&link->lock);
}

/* Is it its own index that the server cannot read, for once or for good? */
static bool is_faulty(const char *said) {
    return strstr(said, "hnsw") || strstr(said, "Error finding id");
}

/* One attempt. *again: another may do better. */
static bool attempt(struct http_reply *out, bool *again, struct chroma_link *link,
                    const struct chroma_call *call, bool fresh, struct error *err) {
    *again = false;
    struct http_client *client;
    if (!take_client(&client, link, fresh, err))
        return false;
    http_client_set_patience(client, CONNECT_MS, chroma_silence_ms[call->patience]);
    int64_t began_ms = time_mono_ms();
    struct error why = {0};
    if (!http_client_send(out, client, call->method, call->target, call->body, call->len, &why)) {
        bool refused = strcmp(why.code, "connect_failed") == 0;
        bool slow = time_mono_ms() - began_ms > CONNECT_MS - 100;
        http_client_close(client);
        note_trouble(link, refused);
        *again = !slow;
        if (why.kind == ERROR_LIMIT) {
            *again = false;
            return error_set(err, ERROR_LIMIT, "ChromaDB at %s", why.text);
        }
        return error_set_code(err, ERROR_BUSY, refused ? "backend_unavailable" : CHROMA_BROKEN,
                              "ChromaDB at %s", why.text);
    }
    give_client(link, client);
    if (out->reconnected)
        note_reconnected(link);
    int status = out->status;
    if (status >= 200 && status < 300)
        return true;
    *again = status >= 500 || status == 429 || status == 408;
    if (status == 500 && is_faulty(out->body))
        explain(err, ERROR_BUSY, CHROMA_FAULTY, link, out);
    else if (status == 404)
        explain(err, ERROR_MISSING, "not_found", link, out);
    else if (status == 409)
        explain(err, ERROR_CONFLICT, "conflict", link, out);
    else if (status == 413)
        explain(err, ERROR_LIMIT, "limit", link, out);
    else if (*again || status < 400 || status == 401 || status == 403)
        explain(err, ERROR_BUSY, "backend_unavailable", link, out);
    else
        explain(err, ERROR_INTERNAL, "refused", link, out);
    http_reply_fini(out);
    return false;
}

/* Is it ChromaDB whose heart beats there? */
static bool knows_beat(const struct chroma_link *link, struct http_reply *reply,
                       struct error *err) {
    json_t *json = json_loadb(reply->body, reply->len, JSON_DECODE_ANY, NULL);
    bool beats = json_object_get(json, "nanosecond heartbeat") != NULL;
    json_decref(json);
    http_reply_fini(reply);
    return beats || error_set(err, ERROR_BUSY, NO_CHROMADB, link->url);
}

static bool is_other(const struct error *err) {
    return err->kind == ERROR_MISSING || strcmp(err->code, "refused") == 0;
}

bool chroma_link_probe(struct chroma_link *link, struct error *err) {
    const struct chroma_call call = {
        .method = "GET", .target = "/api/v2/heartbeat", .patience = CHROMA_PROBES};
    struct http_reply reply;
    bool again;
    struct error why = {0};
    bool ok = attempt(&reply, &again, link, &call, false, &why);
    if (!ok && again) { /* one bad answer of a proxy, or a server that starts, is no end */
        time_sleep_ms(with_jitter(FIRST_PAUSE_MS));
        ok = attempt(&reply, &again, link, &call, false, &why);
    }
    if (!ok && is_other(&why)) /* it knows no heartbeat */
        error_set(&why, ERROR_BUSY, NO_CHROMADB, link->url);
    ok = ok && knows_beat(link, &reply, &why);
    if (!ok) {
        why.kind = ERROR_BUSY;
        snprintf(why.code, sizeof why.code, "backend_unavailable");
        note_down(link, &why);
        if (err)
            *err = why;
        return false;
    }
    note_up(link);
    return true;
}

bool chroma_link_try(struct http_reply *out, struct chroma_link *link,
                     const struct chroma_call *call, struct error *err) {
    bool again;
    memset(out, 0, sizeof *out);
    return attempt(out, &again, link, call, true, err);
}

bool chroma_link_call(struct http_reply *out, struct chroma_link *link,
                      const struct chroma_call *call, struct error *err) {
    memset(out, 0, sizeof *out);
    bool again;
    enum gate gate = pass_gate(link, err);
    if (gate == GATE_SHUT || (gate == GATE_PROBE && !chroma_link_probe(link, err)))
        return false;
    struct error why = {0};
    int64_t pause_ms = FIRST_PAUSE_MS;
    int n_broken = 0; /* a call that ends the server is not made again and again */
    int n_faulty = 0;
    for (int i = 1;; i++) {
        if (attempt(out, &again, link, call, false, &why)) {
            note_up(link);
            return true;
        }
        bool faulty = strcmp(why.code, CHROMA_FAULTY) == 0;
        n_faulty += faulty;
        n_broken += strcmp(why.code, CHROMA_BROKEN) == 0;
        if (!again || i - n_faulty == MAX_ATTEMPTS || n_faulty == MAX_FAULTY || n_broken == 2)
            break;
        time_sleep_ms(with_jitter(pause_ms));
        pause_ms = faulty && pause_ms * 3 > FAULTY_PAUSE_MS ? FAULTY_PAUSE_MS : pause_ms * 3;
    }
    if (n_faulty == MAX_FAULTY)
        note_trouble(link, false);
    /* Of what a proxy says, and of a call that breaks the server, a heartbeat tells apart. */
    if (why.kind == ERROR_BUSY) {
        snprintf(why.code, sizeof why.code, "backend_unavailable");
        chroma_link_probe(link, NULL);
    }
    if (err)
        *err = why;
    return false;
}
