/* check: the port, and who has it; ChromaDB, and what its collections hold. */
#include "app/check.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define CONNECT_MS 3000
#define SILENCE_MS 10000

/* ---- the port ------------------------------------------------------------------------------- */

#ifdef __linux__
/* Inodes of the sockets that listen on the port, of one family's table. */
static void find_listeners(struct buf *inodes, const char *table, int port) {
    char *data = NULL, *line, *rest;
    size_t len;
    struct error ignored;
    if (!file_read(&data, &len, table, (size_t)16 << 20, &ignored))
        return;
    for (line = data; line && *line; line = rest) {
        unsigned local, state;
        unsigned long inode;
        rest = strchr(line, '\n');
        if (rest)
            *rest++ = '\0';
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*d %*d %lu",
                   &local, &state, &inode) == 3 &&
            (int)local == port && state == 0x0A)
            buf_append(inodes, &inode, sizeof inode);
    }
    mem_free(data);
}

static bool has_socket(const char *fd_dir, const struct buf *inodes) {
    DIR *dir = opendir(fd_dir);
    bool found = false;
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry && !found; entry = readdir(dir)) {
        char target[64];
        unsigned long inode;
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = '\0';
        if (sscanf(target, "socket:[%lu]", &inode) != 1)
            continue;
        const unsigned long *all = (const unsigned long *)(const void *)inodes->data;
        for (size_t i = 0; i < inodes->len / sizeof *all && !found; i++)
            found = all[i] == inode;
    }
    if (dir)
        closedir(dir);
    return found;
}

/* "by process 12 (python3)"; the caller's. */
static char *holder_of(int port) {
    struct buf inodes = {0};
    char *holder = NULL;
    find_listeners(&inodes, "/proc/net/tcp", port);
    find_listeners(&inodes, "/proc/net/tcp6", port);
    DIR *proc = inodes.len > 0 ? opendir("/proc") : NULL;
    for (struct dirent *entry = proc ? readdir(proc) : NULL; entry && !holder;
         entry = readdir(proc)) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        char *path = mem_printf("/proc/%s/fd", entry->d_name), *name = NULL;
        size_t len;
        struct error ignored;
        if (has_socket(path, &inodes)) {
            mem_free(path);
            path = mem_printf("/proc/%s/comm", entry->d_name);
            if (file_read(&name, &len, path, 256, &ignored))
                name[strcspn(name, "\n")] = '\0';
            holder = mem_printf("taken by process %s (%s)", entry->d_name, name ? name : "?");
        }
        mem_free(name);
        mem_free(path);
    }
    if (proc)
        closedir(proc);
    buf_fini(&inodes);
    return holder ? holder : mem_strdup("taken by a process that this user may not look at");
}
#else
static char *holder_of(int port) {
    return mem_printf("taken; `lsof -nP -iTCP:%d -sTCP:LISTEN` names by whom", port);
}
#endif

/* Listens for a moment where the server would. */
void check_port(struct checking *c) {
    const struct settings *settings = c->settings;
    struct error err;
    if (c->session.client) {
        check_finding(c, VERDICT_OK, "server", c->session.url, "");
        return;
    }
    if (api_start(c->session.api, &err)) {
        api_stop(c->session.api);
        check_say(c, VERDICT_OK, "port", "", "%s port %d", settings->worker_host,
                  settings->worker_port);
        return;
    }
    char *holder = strcmp(err.code, "address_in_use") == 0 ? holder_of(settings->worker_port)
                                                           : mem_strdup("not to be had");
    check_say(c, VERDICT_WRONG, "port", err.text, "%s port %d: %s", settings->worker_host,
              settings->worker_port, holder);
    mem_free(holder);
}

/* ---- ChromaDB ------------------------------------------------------------------------------- */

struct asking {
    struct http_client *client;
    const struct settings *settings;
    char *url;
};

static bool ask(struct http_reply *reply, struct asking *a, const char *target, struct error *err) {
    return http_client_call(reply, a->client, "GET", target, NULL, err);
}

/* The space of the model in use for a collection, or what names of its spaces begin with. */
static const char *wanted_space(bool *whole, struct arena *arena, const struct checking *c,
                                const char *kind) {
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(c->health, "models"), i, model) {
        if (strcmp(json_text(model, "kind"), kind) != 0)
            continue;
        *whole = *json_text(model, "space") != '\0';
        if (*whole)
            return json_text(model, "space");
        const char *name = json_text(model, "name");
        return *name ? arena_printf(arena, "%s@", name) : "";
    }
    return "";
}

static bool is_off(const struct checking *c, const char *kind) {
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(c->health, "models"), i, model) {
        if (strcmp(json_text(model, "kind"), kind) == 0)
            return strcmp(json_text(model, "state"), "off") == 0;
    }
    return false;
}

/* The names of people's tenants and collections may have anything in them. */
static char *escaped(struct arena *arena, const char *text) {
    struct buf out = {0};
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (isalnum(*p) || strchr("-._~", *p))
            buf_putc(&out, (char)*p);
        else
            buf_printf(&out, "%%%02X", *p);
    }
    char *copy = arena_strndup(arena, out.data ? out.data : "", out.len);
    buf_fini(&out);
    return copy;
}

static const char other_model[] =
    "set MODEL_NAME or TEXT_MODEL to the model that the other workers use, or change over to this "
    "one with `docusearch reindex --model NAME`";
static const char foreign[] =
    "it was made by another program, such as the Python worker: it is searched where it stands, "
    "and nothing is written into it; VISUAL_COLLECTION and TEXT_COLLECTION name others";

static void judge_collection(struct checking *c, const char *what, const char *kind,
                             const char *name, const json_t *collection) {
    struct arena *arena = arena_new(0);
    bool whole = false;
    const char *space = json_text(json_object_get(collection, "metadata"), "docusearch_space");
    const char *wanted = wanted_space(&whole, arena, c, kind);
    bool fits = whole ? strcmp(space, wanted) == 0 : strncmp(space, wanted, strlen(wanted)) == 0;
    if (!*space)
        check_say(c, VERDICT_NOTE, what, foreign, "%s: not made by docusearch", name);
    else if (*wanted && !fits)
        check_say(c, VERDICT_WRONG, what, other_model, "%s holds vectors of another model: %s",
                  name, space);
    else
        check_say(c, VERDICT_OK, what, "", "%s: %s", name, space);
    arena_free(arena);
}

static void check_collection(struct checking *c, struct asking *a, const char *kind,
                             const char *name) {
    struct arena *arena = arena_new(0);
    struct http_reply reply = {0};
    struct error err;
    char what[32];
    snprintf(what, sizeof what, "%s collection", kind);
    const char *target = arena_printf(arena, "/api/v2/tenants/%s/databases/%s/collections/%s",
                                      escaped(arena, a->settings->chroma_tenant),
                                      escaped(arena, a->settings->chroma_database),
                                      escaped(arena, name));
    if (!ask(&reply, a, target, &err))
        check_finding(c, VERDICT_WRONG, what, err.text,
                      "ChromaDB ended its answer: look at its log, and start it again");
    else if (reply.status == 200 && reply.json)
        judge_collection(c, what, kind, name, reply.json);
    else if (reply.status == 404)
        check_say(c, VERDICT_NOTE, what,
                  "a running server makes it; where documents were in it, ChromaDB was started on "
                  "another folder, or CHROMA_TENANT or CHROMA_DATABASE names another",
                  "%s: not there", name);
    else
        check_say(c, VERDICT_WRONG, what,
                  reply.status == 401 || reply.status == 403
                      ? "the server wants a token: set CHROMA_TOKEN"
                      : "look at ChromaDB's log",
                  "%s: the server answered %d", name, reply.status);
    http_reply_fini(&reply);
    arena_free(arena);
}

static const char start_it[] =
    "start it (`chroma run --path FOLDER --port PORT`, or `docker compose up -d chromadb`), or "
    "correct CHROMA_HOST and CHROMA_PORT, which are those that this program sees, not those "
    "inside a container; meanwhile uploads are taken and wait, and searches by vectors answer 503";

static void not_there(struct checking *c, const struct asking *a, const char *why) {
    bool ours = a->settings->chroma_port == a->settings->worker_port;
    check_say(c, VERDICT_WRONG, "chromadb",
              ours ? "CHROMA_PORT and WORKER_PORT are the same: one of the two goes elsewhere"
                   : start_it,
              strstr(why, a->url) ? "%.0s%s" : "%s: %s", a->url, why);
}

static void judge_server(struct checking *c, struct asking *a) {
    struct http_reply reply = {0}, version = {0};
    struct error err;
    if (!ask(&reply, a, "/api/v2/heartbeat", &err)) {
        not_there(c, a, err.text);
        return;
    }
    bool beats = json_object_get(reply.json, "nanosecond heartbeat") != NULL;
    if (reply.status == 401 || reply.status == 403) {
        check_say(c, VERDICT_WRONG, "chromadb", "the server wants a token: set CHROMA_TOKEN",
                  "%s: the server answered %d", a->url, reply.status);
    } else if (reply.status != 200 || !beats) {
        check_say(c, VERDICT_WRONG, "chromadb",
                  "something else answers there, or a ChromaDB before 1.0, which has no API v2: "
                  "correct CHROMA_HOST and CHROMA_PORT, or install chromadb 1.0 or later",
                  "%s: no heartbeat of ChromaDB (status %d)", a->url, reply.status);
    } else {
        bool told = ask(&version, a, "/api/v2/version", &err) && version.status == 200;
        check_say(c, VERDICT_OK, "chromadb", "", "%s, version %.40s", a->url,
                  told ? version.body : "not told");
        if (!is_off(c, "visual"))
            check_collection(c, a, "visual", a->settings->visual_collection);
        if (!is_off(c, "text"))
            check_collection(c, a, "text", a->settings->text_collection);
    }
    http_reply_fini(&version);
    http_reply_fini(&reply);
}

/* As the running server has it, whose settings may be others than those that this command sees. */
static void tell_store(struct checking *c, const json_t *store) {
    const struct settings *settings = c->settings;
    const char *url = json_text(store, "url"), *reason = json_text(store, "reason");
    size_t i;
    json_t *collection;
    if (strcmp(json_text(store, "kind"), "chroma") != 0) {
        bool here = settings->chroma_host && *settings->chroma_host;
        check_finding(c, here ? VERDICT_NOTE : VERDICT_OK, "chromadb",
                      "not used by the running server: CHROMA_HOST was not set when it was started",
                      here ? "CHROMA_HOST is set here: start the server again with it, or leave it "
                             "away here"
                           : "");
        return;
    }
    if (!json_is_true(json_object_get(store, "reachable"))) {
        check_say(c, VERDICT_WRONG, "chromadb", start_it, "%s, of the running server: %s", url,
                  reason);
        return;
    }
    check_say(c, *reason ? VERDICT_WRONG : VERDICT_OK, "chromadb", *reason ? other_model : "",
              "%s, used by the running server%s%s", url, *reason ? ": " : "", reason);
    if (*json_text(store, "note"))
        check_finding(c, VERDICT_NOTE, "chromadb", json_text(store, "note"), "");
    json_array_foreach(json_object_get(store, "collections"), i, collection) {
        const char *space = json_text(collection, "space");
        if (json_is_true(json_object_get(collection, "foreign")))
            check_say(c, VERDICT_NOTE, "collection", foreign, "%s: not made by docusearch",
                      json_text(collection, "name"));
        else if (*space)
            check_say(c, VERDICT_OK, "collection", "", "%s: %s", json_text(collection, "name"),
                      space);
    }
}

void check_chroma(struct checking *c) {
    const struct settings *settings = c->settings;
    struct asking a = {.settings = settings};
    struct error err;
    if (c->session.client && json_object_get(c->health, "store")) {
        tell_store(c, json_object_get(c->health, "store"));
        return;
    }
    if (!settings->chroma_host || !*settings->chroma_host) {
        check_finding(c, VERDICT_OK, "chromadb", "not used: CHROMA_HOST is not set", "");
        return;
    }
    bool bare = strchr(settings->chroma_host, ':') && settings->chroma_host[0] != '[';
    a.url = mem_printf(bare ? "%s://[%s]:%d" : "%s://%s:%d",
                       settings->chroma_ssl ? "https" : "http", settings->chroma_host,
                       settings->chroma_port);
    if (http_client_open(&a.client, a.url, settings->chroma_token, &err)) {
        http_client_set_patience(a.client, CONNECT_MS, SILENCE_MS);
        if (settings->chroma_token)
            http_client_set_header(a.client, "x-chroma-token", settings->chroma_token);
        judge_server(c, &a);
    } else {
        not_there(c, &a, err.text);
    }
    http_client_close(a.client);
    mem_free(a.url);
}
