/* A hub of models, spoken to as huggingface_hub does: one call that lists a revision's files with
 * their sizes and hashes, and one address a file.
 *
 *   GET {endpoint}/api/models/{name}/revision/{revision}?blobs=true
 *       {"sha", "siblings": [{"rfilename", "size", "blobId", "lfs": {"sha256", "size"}}]}
 *   GET {endpoint}/api/models/{name}/tree/{commit}?recursive=true   where that gives no hashes
 *       [{"type": "file", "path", "size", "oid", "lfs": {"oid", "size"}}]
 *   GET {endpoint}/{name}/resolve/{commit}/{path}                   redirects to where it lies
 *
 * What a listing says is a stranger's word: paths are checked before anything is made of them. */
#include "model/place.h"

#include "http/http.h"

#include <string.h>
#include <strings.h>

#define STALL_MS 10000
#define TRIES 5 /* without a byte between them */
#define FIRST_PAUSE_MS 500
#define MAX_LISTING ((size_t)16 << 20)
#define TOKEN_BYTES_MAX 4096
#define MAX_SIBLINGS 100000
#define MAX_SMALL_BYTES ((int64_t)256 << 20) /* of what is not weights */
#define MAX_BYTES ((int64_t)1 << 42)

struct hub {
    struct http_client *client;
    char *endpoint; /* for people: without what stands before an '@' */
    char *secret;   /* that, with the '@'; NULL: nothing */
    bool has_token;
    bool reached; /* has it answered before? */
};

/* Where the host of an address begins, past "https://"; *secret_len: of "user:password@" there. */
static const char *host_of(size_t *secret_len, const char *address) {
    const char *start = strstr(address, "://");
    start = start ? start + 3 : address;
    size_t len = strcspn(start, "/?#");
    *secret_len = 0;
    for (size_t i = 0; i < len; i++) {
        if (start[i] == '@')
            *secret_len = i + 1;
    }
    return start;
}

char *model_hub_shown(struct arena *arena, const struct settings *settings) {
    size_t secret_len;
    const char *address = settings->hf_endpoint, *host = host_of(&secret_len, address);
    return arena_printf(arena, "%.*s%s", (int)(host - address), address, host + secret_len);
}

/* Messages of a connection name the address as it was given. */
static void hide_secret(const struct hub *hub, struct error *err) {
    for (char *at; hub->secret && (at = strstr(err->text, hub->secret));) {
        const char *rest = at + strlen(hub->secret);
        memmove(at, rest, strlen(rest) + 1);
    }
}

/* As huggingface_hub: HF_TOKEN, else what `hf auth login` left in HF_HOME. An address with a
 * password of its own gets that alone. The caller's. */
static char *find_token(const struct settings *settings, const struct hub *hub) {
    if (settings->hf_token)
        return mem_strdup(settings->hf_token);
    if (hub->secret || settings->hf_home[0] == '\0')
        return NULL;
    char *path = mem_printf("%s/token", settings->hf_home), *text = NULL, *token = NULL;
    size_t len = 0;
    struct error err;
    if (file_read(&text, &len, path, TOKEN_BYTES_MAX, &err)) {
        const char *start = text + strspn(text, " \t\r\n");
        len = strcspn(start, " \t\r\n");
        bool plain = len > 0;
        for (size_t i = 0; i < len; i++)
            plain = plain && start[i] > ' ' && start[i] < 0x7f;
        token = plain ? mem_printf("%.*s", (int)len, start) : NULL;
    }
    mem_free(text);
    mem_free(path);
    return token;
}

bool hub_open(struct hub **out, const struct settings *settings, struct error *err) {
    const char *endpoint = settings->hf_endpoint;
    size_t secret_len;
    if (settings->hf_offline)
        return error_set_code(err, ERROR_IO, "offline", "HF_HUB_OFFLINE is set: no hub is asked");
    const char *host = host_of(&secret_len, endpoint);
    if (strncasecmp(endpoint, "http://", 7) != 0 && strncasecmp(endpoint, "https://", 8) != 0)
        return error_set(err, ERROR_INPUT, "HF_ENDPOINT is an http or https address, not '%.100s'",
                         secret_len ? host + secret_len : endpoint);
    struct hub *hub = mem_alloc(sizeof *hub);
    hub->endpoint = mem_printf("%.*s%s", (int)(host - endpoint), endpoint, host + secret_len);
    hub->secret = secret_len ? mem_printf("%.*s", (int)secret_len, host) : NULL;
    char *token = find_token(settings, hub);
    hub->has_token = token != NULL;
    bool ok = http_client_open(&hub->client, endpoint, token, err);
    mem_free(token);
    if (!ok) {
        hide_secret(hub, err);
        hub_close(hub);
        return false;
    }
    *out = hub;
    return true;
}

void hub_close(struct hub *hub) {
    if (!hub)
        return;
    http_client_close(hub->client);
    mem_free(hub->endpoint);
    mem_free(hub->secret);
    mem_free(hub);
}

const char *hub_endpoint(const struct hub *hub) {
    return hub->endpoint;
}

/* ---- one request, tried again where that may help -------------------------------------------- */

/* A status that is no success. The hub answers 401 for a model that is not there, too, unless it
 * knows who asks; its header tells which it is. */
static bool refusal(struct error *err, const struct hub *hub, const char *name,
                    const struct http_download_reply *reply) {
    int status = reply->status;
    const char *note = reply->note;
    if (strcmp(note, "RevisionNotFound") == 0)
        return error_set_code(err, ERROR_MISSING, "no_such_revision",
                              "%s has no such revision at %s", name, hub->endpoint);
    if (strcmp(note, "EntryNotFound") == 0)
        return error_set_code(err, ERROR_MISSING, "no_such_file",
                              "%s lacks a file that %s lists for it", name, hub->endpoint);
    if (strcmp(note, "RepoNotFound") == 0 || status == 404)
        return error_set_code(err, ERROR_MISSING, "no_such_model", "%s knows no model %s%s",
                              hub->endpoint, name,
                              hub->has_token ? "" : " (a private one needs HF_TOKEN)");
    if ((status == 401 || status == 403) && hub->has_token)
        return error_set_code(
            err, ERROR_CONFLICT, "token_needed",
            "%s does not give %s to the owner of HF_TOKEN: ask for access at %s/%s", hub->endpoint,
            name, hub->endpoint, name);
    if (status == 401 || status == 403)
        return error_set_code(err, ERROR_CONFLICT, "token_needed",
                              "%s is gated: accept its terms at %s/%s and set HF_TOKEN", name,
                              hub->endpoint, name);
    return error_set_code(err, ERROR_IO, "hub_error", "%s answered %d for %s", hub->endpoint,
                          status, name);
}

static bool may_pass(int status) {
    return status == 408 || status == 429 || status >= 500;
}

static bool is_transport(const struct error *err) {
    return err->kind == ERROR_IO &&
           (strcmp(err->code, "io_error") == 0 || strcmp(err->code, "stalled") == 0 ||
            strcmp(err->code, "connect_failed") == 0);
}

static bool pause_between(int tries, bool (*tick)(void *ctx), void *ctx, struct error *err) {
    int64_t until_ms = time_mono_ms() + ((int64_t)FIRST_PAUSE_MS << (tries - 1));
    while (time_mono_ms() < until_ms) {
        if (tick && !tick(ctx))
            return error_set_code(err, ERROR_CONFLICT, "cancelled", "cancelled");
        time_sleep_ms(50);
    }
    return true;
}

/* One try: true when it is settled, with *ok and, where not ok, err. */
static bool settle(bool *ok, struct hub *hub, const char *name,
                   const struct http_download *download, struct error *err) {
    struct http_download_reply reply;
    *ok = false;
    if (!http_client_download(&reply, hub->client, download, err)) {
        hide_secret(hub, err);
        if (!is_transport(err))
            return true;
        bool hopeless = strcmp(err->code, "connect_failed") == 0 && !hub->reached;
        struct error why = *err;
        error_set_code(err, ERROR_IO, "hub_unreachable", "%s", why.text);
        return hopeless;
    }
    hub->reached = true;
    *ok = reply.status >= 200 && reply.status < 300;
    if (!*ok)
        refusal(err, hub, name, &reply);
    return *ok || !may_pass(reply.status);
}

static bool get(struct hub *hub, const char *name, const char *target, const struct hub_sink *sink,
                struct error *err) {
    int64_t reached_byte = sink->position(sink->ctx);
    for (int tries = 1;; tries++) {
        struct http_download download = {.target = target,
                                         .from_byte = sink->position(sink->ctx),
                                         .stall_ms = STALL_MS,
                                         .note = "X-Error-Code",
                                         .ctx = sink->ctx,
                                         .begin = sink->begin,
                                         .data = sink->data,
                                         .tick = sink->tick};
        bool ok;
        if (settle(&ok, hub, name, &download, err))
            return ok;
        if (sink->position(sink->ctx) > reached_byte)
            tries = 1;
        reached_byte = sink->position(sink->ctx);
        if (tries >= TRIES || !pause_between(tries, sink->tick, sink->ctx, err))
            return false;
    }
}

/* ---- JSON ----------------------------------------------------------------------------------- */

struct listing_sink {
    struct buf text;
    bool (*tick)(void *ctx);
    void *ctx;
};

static int64_t from_start(void *ctx) {
    (void)ctx;
    return 0;
}

static bool begin_text(void *ctx, int64_t from_byte, int64_t n_bytes, struct error *err) {
    struct listing_sink *sink = ctx;
    (void)from_byte;
    (void)n_bytes;
    (void)err;
    buf_clear(&sink->text);
    return true;
}

static bool keep_text(void *ctx, const void *data, size_t len, struct error *err) {
    struct listing_sink *sink = ctx;
    buf_append(&sink->text, data, len);
    if (sink->text.failed)
        return error_set(err, ERROR_LIMIT, "the hub's listing is larger than %zu MiB",
                         MAX_LISTING >> 20);
    return true;
}

static bool tick_text(void *ctx) {
    struct listing_sink *sink = ctx;
    return !sink->tick || sink->tick(sink->ctx);
}

/* The reply's JSON, the caller's. */
static bool get_json(json_t **out, struct hub *hub, const char *name, const char *target,
                     bool (*tick)(void *ctx), void *ctx, struct error *err) {
    struct listing_sink listing = {.text = {.max = MAX_LISTING}, .tick = tick, .ctx = ctx};
    struct hub_sink sink = {&listing, from_start, begin_text, keep_text, tick_text};
    bool ok = get(hub, name, target, &sink, err);
    *out = ok ? json_loadb(listing.text.data ? listing.text.data : "", listing.text.len, 0, NULL)
              : NULL;
    buf_fini(&listing.text);
    if (ok && !*out)
        return error_set_code(err, ERROR_IO, "hub_error", "%s does not answer as a hub does",
                              hub->endpoint);
    return ok;
}

static bool is_hex(const char *text, size_t n) {
    return text && strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

static bool bad_listing(struct error *err, const char *name, const char *what, const char *path) {
    return error_set_code(err, ERROR_INPUT, "bad_listing", "the hub's listing of %s %s: '%.80s'",
                          name, what, path);
}

/* ---- the listing ---------------------------------------------------------------------------- */

static bool is_listed(const struct place_files *files, const char *path) {
    for (int i = 0; i < files->n; i++) {
        if (strcmp(files->items[i].path, path) == 0)
            return true;
    }
    return false;
}

/* Size and hashes, of whatever the entry has. */
static void take_facts(struct place_file *file, const json_t *entry, const char *git_key,
                       const char *lfs_key) {
    const json_t *lfs = json_object_get(entry, "lfs");
    const json_t *size = json_object_get(json_is_object(lfs) ? lfs : entry, "size");
    const char *sha256 = json_string_value(json_object_get(lfs, lfs_key));
    const char *git_id = json_string_value(json_object_get(entry, git_key));
    if (json_is_integer(size))
        file->size_bytes = json_integer_value(size);
    if (is_hex(sha256, SHA256_HEX))
        memcpy(file->sha256, sha256, SHA256_HEX + 1);
    else if (is_hex(git_id, GIT_ID_HEX) && !json_is_object(lfs))
        memcpy(file->git_id, git_id, GIT_ID_HEX + 1); /* of an LFS file it is its pointer's */
}

static bool is_known(const struct place_file *file) {
    return file->size_bytes >= 0 && (file->sha256[0] || file->git_id[0]);
}

static bool take_siblings(struct hub_listing *out, struct arena *arena, const char *name,
                          const json_t *siblings, struct error *err) {
    out->files.items = arena_alloc(arena, PLACE_MAX_FILES * sizeof *out->files.items);
    if (!json_is_array(siblings) || json_array_size(siblings) > MAX_SIBLINGS)
        return bad_listing(err, name, "has none, or too many files", "siblings");
    out->n_all = (int)json_array_size(siblings);
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)siblings, i, entry) {
        const char *path = json_string_value(json_object_get(entry, "rfilename"));
        if (!path || (!place_path_safe(path) && strlen(path) <= PLACE_MAX_PATH))
            return bad_listing(err, name, "names a path that leads astray", path ? path : "");
        if (!place_wants(path) || is_listed(&out->files, path))
            continue;
        if (out->files.n == PLACE_MAX_FILES)
            return bad_listing(err, name, "has too many files of a model", path);
        struct place_file *file = &out->files.items[out->files.n++];
        *file = (struct place_file){.path = arena_strdup(arena, path), .size_bytes = -1};
        take_facts(file, entry, "blobId", "sha256");
    }
    return true;
}

/* Sizes and hashes from the tree, for hubs whose listing leaves them out. */
static bool take_tree(struct hub_listing *out, struct arena *arena, struct hub *hub,
                      const char *name, bool (*tick)(void *ctx), void *ctx, struct error *err) {
    json_t *tree, *entry;
    size_t i;
    if (!get_json(&tree, hub, name,
                  arena_printf(arena, "/api/models/%s/tree/%s?recursive=true", name, out->commit),
                  tick, ctx, err))
        return false;
    json_array_foreach(tree, i, entry) {
        const char *path = json_string_value(json_object_get(entry, "path"));
        for (int k = 0; path && k < out->files.n; k++) {
            if (strcmp(out->files.items[k].path, path) == 0)
                take_facts(&out->files.items[k], entry, "oid", "oid");
        }
    }
    json_decref(tree);
    return true;
}

static bool check_facts(const struct hub_listing *listing, const char *name, struct error *err) {
    for (int i = 0; i < listing->files.n; i++) {
        const struct place_file *file = &listing->files.items[i];
        if (!is_known(file))
            return bad_listing(err, name, "gives no size and hash of a file", file->path);
        if (file->size_bytes > (place_is_weights(file->path) ? MAX_BYTES : MAX_SMALL_BYTES))
            return bad_listing(err, name, "has a file past all measure", file->path);
    }
    return true;
}

/* A model that we could load has its configuration, its tokenizer and safetensors. */
static bool check_kind(const struct hub_listing *listing, const char *name, struct error *err) {
    bool adapter = is_listed(&listing->files, "adapter_config.json") &&
                   is_listed(&listing->files, "adapter_model.safetensors");
    bool weights = is_listed(&listing->files, "model.safetensors") ||
                   is_listed(&listing->files, "model.safetensors.index.json");
    if (adapter)
        return true;
    const char *lacks = !is_listed(&listing->files, "config.json")      ? "config.json"
                        : !weights                                      ? "model.safetensors"
                        : !is_listed(&listing->files, "tokenizer.json") ? "tokenizer.json"
                                                                        : NULL;
    if (!lacks)
        return true;
    return error_set_code(err, ERROR_UNSUPPORTED, "not_a_model",
                          "%s has no %s at the hub: not a model that can be read here", name,
                          lacks);
}

bool hub_list(struct hub_listing *out, struct arena *arena, struct hub *hub, const char *name,
              const char *revision, bool (*tick)(void *ctx), void *ctx, struct error *err) {
    *out = (struct hub_listing){0};
    json_t *reply;
    if (!get_json(&reply, hub, name,
                  arena_printf(arena, "/api/models/%s/revision/%s?blobs=true", name,
                               http_escape(arena, revision)),
                  tick, ctx, err))
        return false;
    const char *commit = json_string_value(json_object_get(reply, "sha"));
    bool ok = is_hex(commit, GIT_ID_HEX) ||
              error_set_code(err, ERROR_IO, "hub_error", "%s does not answer as a hub does",
                             hub->endpoint);
    if (ok) {
        memcpy(out->commit, commit, GIT_ID_HEX + 1);
        ok = take_siblings(out, arena, name, json_object_get(reply, "siblings"), err);
    }
    json_decref(reply);
    bool known = true;
    for (int i = 0; ok && i < out->files.n; i++)
        known = known && is_known(&out->files.items[i]);
    if (ok && !known)
        ok = take_tree(out, arena, hub, name, tick, ctx, err);
    return ok && check_facts(out, name, err) && check_kind(out, name, err);
}

/* ---- files ---------------------------------------------------------------------------------- */

bool hub_fetch(struct hub *hub, const char *name, const char *commit, const char *path,
               const struct hub_sink *sink, struct error *err) {
    struct arena *arena = arena_new(0);
    struct buf target = {0};
    buf_printf(&target, "/%s/resolve/%s", name, commit);
    for (const char *part = path; *part;) {
        size_t len = strcspn(part, "/");
        buf_printf(&target, "/%s", http_escape(arena, arena_strndup(arena, part, len)));
        part += len + (part[len] == '/');
    }
    bool ok = get(hub, name, target.data, sink, err);
    buf_fini(&target);
    arena_free(arena);
    return ok;
}
