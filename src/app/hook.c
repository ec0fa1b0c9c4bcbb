/* hook: what Copyparty's events tell, passed on to the server, for as long as it takes the server
 * to answer within the deadline.
 *
 * Hooks run beside each other, in no order, and may be held up by a server that starts; what they
 * tell may be old by then. So a file that is there again is not deleted for an event before it. */
#include "app/hook.h"
#include "app/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE_S 50 /* below the 60 s that hook lines give */
#define DEADLINE_MAX_S 86400
#define CONNECT_MS 5000
#define SILENCE_MS 5000 /* that the client is late in noticing silence */
#define WAIT_MIN_MS 250
#define WAIT_MAX_MS 5000
#define ABSENT_MS 2000 /* a file that the server does not see yet may still come */
#define MOVE_MS 1000   /* how long a move is waited for while Copyparty may be waiting for us */
#define MOVE_ROUND_MS 50
#define MAX_DEPTH 64 /* of folders */
#define MAX_FILES 100000

struct hook {
    const struct settings *settings;
    struct arena *arena;
    struct path_map map;
    struct http_client *client;
    char *url;
    int64_t deadline_ms; /* monotonic */
    double begun;        /* wall, seconds */
    size_t n_sent, n_failed;
    char why[512]; /* of the first that failed */
};

static void tell(const char *path, const char *what) {
    fputs("docusearch hook: ", stderr);
    print_text(stderr, path, strlen(path));
    fprintf(stderr, "%s", *path ? ": " : "");
    print_text(stderr, what, strlen(what));
    fputc('\n', stderr);
}

static void fail(struct hook *h, const char *path, const char *why) {
    if (h->n_failed++ == 0)
        snprintf(h->why, sizeof h->why, "%.300s%s%.200s", path, *path ? ": " : "", why);
}

/* ---- what is there -------------------------------------------------------------------------- */

/* By the path told, or, where this machine has it under another, by the server's. */
static bool look(struct stat *st, struct hook *h, const char *path) {
    return stat(path, st) == 0 || stat(path_map_apply(h->arena, &h->map, path), st) == 0;
}

static bool is_there(struct hook *h, const char *path) {
    struct stat st;
    return look(&st, h, path);
}

/* Did the file come after the moment that an event told of? Times of change cannot be set. */
static bool came_after(struct hook *h, const char *path, double when) {
    struct stat st;
    if (!look(&st, h, path) || !S_ISREG(st.st_mode))
        return false;
#ifdef __APPLE__
    const struct timespec *changed = &st.st_ctimespec;
#else
    const struct timespec *changed = &st.st_ctim;
#endif
    return (double)changed->tv_sec + (double)changed->tv_nsec / 1e9 >= when;
}

/* ---- one call ------------------------------------------------------------------------------- */

enum answer { ANSWER_DONE, ANSWER_REFUSED, ANSWER_LATER };

/* What a reply says, in one line. */
static void words_of(char why[256], const struct http_reply *reply) {
    const char *message = json_text(json_object_get(reply->json, "error"), "message");
    if (reply->status == 401)
        message = "the server wants a key: set API_KEY_FILE or API_KEY where Copyparty runs";
    if (*message)
        snprintf(why, 256, "%s", message);
    else
        snprintf(why, 256, "the server answered %d", reply->status);
}

static bool is_passing(int status) {
    return status == 408 || status == 429 || status >= 500;
}

/* One try. code: the reply's word for programs. */
static enum answer call_once(char why[256], char code[32], int *status, struct hook *h,
                             const char *method, const char *target, const json_t *body) {
    struct http_reply reply;
    struct error err;
    *status = 0;
    code[0] = '\0';
    if (!http_client_call(&reply, h->client, method, target, body, &err)) {
        snprintf(why, 256, "%s", err.text);
        return ANSWER_LATER;
    }
    *status = reply.status;
    words_of(why, &reply);
    snprintf(code, 32, "%s", json_text(json_object_get(reply.json, "error"), "code"));
    http_reply_fini(&reply);
    return *status < 400 ? ANSWER_DONE : is_passing(*status) ? ANSWER_LATER : ANSWER_REFUSED;
}

/* Until the server has an answer or the deadline is near. 404 counts as an answer only after a
 * moment: the file may be on its way. */
static enum answer call(char why[256], char code[32], int *status, struct hook *h,
                        const char *method, const char *target, const json_t *body) {
    int64_t absent_ms = time_mono_ms() + ABSENT_MS, wait_ms = WAIT_MIN_MS;
    for (;;) {
        int64_t left_ms = h->deadline_ms - time_mono_ms();
        http_client_set_patience(h->client, (int)(left_ms < CONNECT_MS ? left_ms : CONNECT_MS),
                                 (int)(left_ms > SILENCE_MS + 1000 ? left_ms - SILENCE_MS : 1000));
        enum answer answer = call_once(why, code, status, h, method, target, body);
        int64_t now_ms = time_mono_ms();
        bool later = answer == ANSWER_LATER || (*status == 404 && now_ms < absent_ms);
        if (!later || now_ms + wait_ms >= h->deadline_ms)
            return answer;
        time_sleep_ms(wait_ms);
        wait_ms = wait_ms * 2 < WAIT_MAX_MS ? wait_ms * 2 : WAIT_MAX_MS;
    }
}

/* ---- files ---------------------------------------------------------------------------------- */

/* A refusal that leaves nothing to be done: said, but no failure. */
static bool is_settled(struct hook *h, const char *path, int status, const char *code) {
    return status == 415 || strcmp(code, "empty_file") == 0 ||
           (status == 404 && !is_there(h, path));
}

/* moved_to: where the file lies now; NULL: nothing is known of that. */
static void send_path(struct hook *h, const char *target, const char *path, const char *moved_to) {
    char why[256], code[32];
    int status;
    if (hook_ignores(path))
        return;
    if (h->n_sent + h->n_failed > 0 && time_mono_ms() >= h->deadline_ms) {
        fail(h, path, "the deadline passed before it was told: left to the server");
        return;
    }
    const char *real = path_map_apply(h->arena, &h->map, path);
    const char *real_to = moved_to ? path_map_apply(h->arena, &h->map, moved_to) : NULL;
    json_t *body = json_pack("{s:s, s:s, s:s*}", "file_path", real, "filename", path_name(path),
                             "moved_to", real_to);
    if (!body) {
        fail(h, path, "its name is no UTF-8: left to the server, which looks through UPLOADS_DIR");
        return;
    }
    enum answer answer = call(why, code, &status, h, "POST", target, body);
    json_decref(body);
    if (answer == ANSWER_DONE) {
        h->n_sent++;
    } else if (is_settled(h, path, status, code)) {
        tell(path, why);
    } else if (status == 404) {
        fail(h, path, "the server does not see it there: set HOOK_PATH_MAP");
    } else {
        fail(h, path, why);
    }
}

struct found {
    const char **paths; /* below the folder, without it */
    size_t n, cap;
    bool more;
};

static void put_found(struct found *f, struct hook *h, const char *path) {
    if (f->n == MAX_FILES) {
        f->more = true;
        return;
    }
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 64;
        const char **paths = arena_alloc(h->arena, cap * sizeof *paths);
        if (f->n > 0)
            memcpy(paths, f->paths, f->n * sizeof *paths);
        f->paths = paths;
        f->cap = cap;
    }
    f->paths[f->n++] = path;
}

/* Links to folders are not followed: they may lead back. */
static void walk(struct found *f, struct hook *h, const char *folder, const char *below,
                 int depth) {
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        char *path = path_join(h->arena, folder, name);
        const char *rest = *below ? path_join(h->arena, below, name) : arena_strdup(h->arena, name);
        struct stat st;
        if (name[0] == '.' || lstat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
            walk(f, h, path, rest, depth + 1);
        else if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
            put_found(f, h, rest);
    }
    if (dir)
        closedir(dir);
}

/* The files of a folder, or nothing: path is a file, or not to be seen from here. */
static struct found files_below(struct hook *h, const char *path) {
    struct found f = {0};
    struct stat st;
    const char *real = stat(path, &st) == 0 ? path : path_map_apply(h->arena, &h->map, path);
    if (stat(real, &st) == 0 && S_ISDIR(st.st_mode))
        walk(&f, h, real, "", 0);
    if (f.more)
        fail(h, path, "more than 100,000 files: the rest is left to the server");
    return f;
}

static bool is_folder(struct hook *h, const char *path) {
    struct stat st;
    return look(&st, h, path) && S_ISDIR(st.st_mode);
}

static void process(struct hook *h, const char *path) {
    if (!is_folder(h, path)) {
        send_path(h, "/process", path, NULL);
        return;
    }
    struct found f = files_below(h, path);
    for (size_t i = 0; i < f.n; i++)
        send_path(h, "/process", path_join(h->arena, path, f.paths[i]), NULL);
}

/* The new first, so that a document which has both never goes; then the old. */
static void move(struct hook *h, const char *from, const char *to) {
    struct found f = files_below(h, to);
    bool folder = is_folder(h, to);
    process(h, to);
    if (!folder && !is_there(h, from))
        send_path(h, "/delete", from, to);
    for (size_t i = 0; i < f.n; i++) {
        const char *old = path_join(h->arena, from, f.paths[i]);
        if (!is_there(h, old))
            send_path(h, "/delete", old, path_join(h->arena, to, f.paths[i]));
    }
}

/* ---- moves that are still to come ----------------------------------------------------------- */

static bool moved_by(struct hook *h, const struct hook_event *event, int64_t until_ms) {
    for (;;) {
        if (!is_there(h, event->path))
            return true;
        if (time_mono_ms() >= until_ms)
            return false;
        time_sleep_ms(MOVE_ROUND_MS);
    }
}

static void after_move(struct hook *h, const struct hook_event *event) {
    if (event->other)
        move(h, event->path, event->other);
    else
        send_path(h, "/delete", event->path, NULL);
}

/* Without the flag f Copyparty moves only when the hook has ended, and waits for whoever holds its
 * pipes: the rest is done by a process that holds none. */
static bool go_on_behind(void) {
    pid_t pid = fork();
    if (pid != 0)
        return pid > 0;
    setsid();
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int to = 0; to <= 2 && fd >= 0; to++)
        dup2(fd, to);
    return false;
}

/* *parent: another process goes on with it. */
static void moving(bool *parent, struct hook *h, const struct hook_event *event) {
    if (!moved_by(h, event, time_mono_ms() + MOVE_MS)) {
        *parent = go_on_behind();
        if (*parent || !moved_by(h, event, h->deadline_ms - WAIT_MAX_MS))
            return;
        time_sleep_ms(MOVE_MS); /* an xar of the same move tells the new path first */
    }
    after_move(h, event);
}

/* ---- events --------------------------------------------------------------------------------- */

/* The server's working folder is not ours. */
static const char *absolute(struct arena *arena, const char *path) {
    char folder[PATH_MAX];
    return path[0] && path[0] != '/' && getcwd(folder, sizeof folder)
               ? path_join(arena, folder, path)
               : path;
}

static void check(struct hook *h) {
    char why[256], code[32];
    int status;
    if (call(why, code, &status, h, "GET", "/status", NULL) != ANSWER_DONE)
        fail(h, "", why);
}

static void act(bool *parent, struct hook *h, const struct hook_event *event) {
    /* A clock may have been set, and an `at` may be of anything: only a recent one is believed. */
    double since = event->at > h->begun - 600 && event->at < h->begun ? event->at : h->begun;
    if (event->act != HOOK_CHECK && hook_ignores(event->path) &&
        (!event->other || hook_ignores(event->other)))
        return;
    switch (event->act) {
    case HOOK_PUT:
        process(h, event->path);
        break;
    case HOOK_GONE:
        if (came_after(h, event->path, since))
            process(h, event->path);
        else
            send_path(h, "/delete", event->path, NULL);
        break;
    case HOOK_MOVED:
        if (event->other)
            move(h, event->other, event->path);
        else
            process(h, event->path);
        break;
    case HOOK_MOVING:
        moving(parent, h, event);
        break;
    case HOOK_LOOK:
        if (is_there(h, event->path))
            process(h, event->path);
        else
            send_path(h, "/delete", event->path, NULL);
        break;
    case HOOK_CHECK:
        check(h);
        break;
    case HOOK_NOTHING:
        tell("", "the event changes no file: nothing to do");
        break;
    }
}

static bool open_client(struct hook *h, struct error *err) {
    const struct settings *settings = h->settings;
    const char *host = settings->worker_host;
    if (settings->worker_port == 0)
        return error_set(err, ERROR_INPUT, "WORKER_PORT is 0: the hook needs the server's port");
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "*") == 0)
        host = "127.0.0.1";
    if (strcmp(host, "::") == 0)
        host = "::1";
    bool bare_v6 = strchr(host, ':') && host[0] != '[';
    h->url = mem_printf("http://%s%s%s:%d", bare_v6 ? "[" : "", host, bare_v6 ? "]" : "",
                        settings->worker_port);
    return http_client_open(&h->client, h->url, settings->api_key, err);
}

static int deliver(struct hook *h, const struct hook_events *events) {
    bool parent = false;
    for (size_t i = 0; i < events->n && !parent; i++) {
        struct hook_event event = events->items[i];
        event.path = absolute(h->arena, event.path);
        act(&parent, h, &event);
    }
    if (h->n_failed == 0)
        return EXIT_OK;
    char more[64] = "";
    if (h->n_failed > 1)
        snprintf(more, sizeof more, " (and %zu more)", h->n_failed - 1);
    char line[640];
    snprintf(line, sizeof line, "%s%s", h->why, more);
    tell("", line);
    return EXIT_FAILED;
}

/* ---- the command ---------------------------------------------------------------------------- */

/* Takes every --map out; one given later counts. */
static bool take_maps(struct hook *h, int *argc, char **argv, struct error *err) {
    int kept = 0;
    bool ok = true;
    for (int i = 0; i < *argc; i++) {
        const char *pair = NULL;
        if (i > 0 && strncmp(argv[i], "--map=", 6) == 0)
            pair = argv[i] + 6;
        else if (i > 0 && strcmp(argv[i], "--map") == 0)
            pair = i + 1 < *argc ? argv[++i] : "";
        if (pair)
            ok = ok && path_map_add(&h->map, h->arena, pair, strlen(pair), err);
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    argv[kept] = NULL;
    return ok;
}

/* Its last argument, or standard input. */
static bool read_payload(struct hook_events *out, struct hook *h, int argc, char **argv,
                         struct error *err) {
    if (argc > 1)
        return hook_read(out, h->arena, argv[argc - 1], strlen(argv[argc - 1]), err);
    char *text;
    size_t len;
    if (!file_read(&text, &len, "/dev/stdin", HOOK_MAX_PAYLOAD, err))
        return false;
    bool ok = hook_read(out, h->arena, text, len, err);
    mem_free(text);
    return ok;
}

int command_hook(const struct command *self, int argc, char **argv, struct settings *settings) {
    struct hook h = {.settings = settings, .arena = arena_new(0)};
    h.begun = (double)time_wall_ms() / 1000;
    struct hook_events events = {0};
    struct error err = {0};
    bool bad = false;
    int64_t seconds = DEADLINE_S;
    int status = EXIT_USAGE;
    const char *deadline = take_value(&argc, argv, "--deadline", &bad);
    if (bad ||
        (deadline && !text_to_int(&seconds, deadline, 1, DEADLINE_MAX_S, "--deadline", &err))) {
        usage_error(self, "%s", bad ? "--deadline needs seconds" : err.text);
        goto end;
    }
    h.deadline_ms = time_mono_ms() + seconds * 1000;
    if (!path_map_read(&h.map, h.arena, settings->hook_path_map, &err) ||
        !take_maps(&h, &argc, argv, &err)) {
        usage_error(self, "%s", err.text);
        goto end;
    }
    if (!check_arguments(self, &argc, argv, 0, -1))
        goto end;
    if (argc == 1 && is_terminal(stdin)) {
        usage_error(self, "no event: neither an argument nor standard input has one");
        goto end;
    }
    if (read_payload(&events, &h, argc, argv, &err) && open_client(&h, &err)) {
        status = deliver(&h, &events);
    } else {
        tell("", err.text);
        status = EXIT_FAILED;
    }
end:
    http_client_close(h.client);
    mem_free(h.url);
    arena_free(h.arena);
    return status;
}
