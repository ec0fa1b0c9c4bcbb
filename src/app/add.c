/* add: files and folders into the corpus, with progress until the last is read. */
#include "app/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define WATCHED 64 /* jobs asked after in one round */
#define ROUND_MS 200
#define NOTE_MS 10000
#define LONGEST_DOWN_MS 60000
#define MAX_DEPTH 64 /* of folders */
#define BAR_CELLS 24
#define DOWN "backend_unavailable"
#define WIDE_FROM 0x1100 /* Hangul, CJK and most of what takes two columns lies past it */

/* One file on its way. */
struct entry {
    char *path;
    char doc_id[SHA256_HEX + 1];
    int64_t job_id;
    const char *status; /* NULL: not settled; else completed, partial, failed, cancelled, known */
    char *reason;
};
struct adding {
    struct session session;
    json_t *formats; /* GET /config/supported-formats */
    struct entry *entries;
    size_t n, cap;
    size_t n_settled, n_failed, n_left_out;
    int64_t first_job; /* that this command queued; 0: none yet */
    int64_t pages_done;
    double pages_active; /* of jobs under way, by their progress */
    int64_t begun_ms;
    bool quiet, bar;

    /* Of the jobs asked after in a round. */
    int n_held;      /* to be tried again */
    int n_down;      /* of those: a ChromaDB that does not answer */
    int n_working;   /* that wait for no ChromaDB */
    char held[200];  /* why */
    int64_t told_ms; /* monotonic; 0: not yet */
    int64_t down_ms; /* monotonic: ChromaDB alone is waited for since then; 0: it is not */
};

static struct entry *add_entry(struct adding *a, const char *path) {
    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 64;
        a->entries = mem_grow(a->entries, a->cap, sizeof *a->entries);
    }
    a->entries[a->n] = (struct entry){.path = mem_strdup(path)};
    return &a->entries[a->n++];
}

static void settle(struct adding *a, struct entry *entry, const char *status, const char *reason) {
    entry->status = status;
    entry->reason = mem_strdup(reason);
    a->n_settled++;
    if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)
        a->n_failed++;
}

/* ---- finding files -------------------------------------------------------------------------- */

static int by_name(const struct dirent **x, const struct dirent **y) {
    return strcmp((*x)->d_name, (*y)->d_name);
}

/* Does the corpus, wherever it is, take files named so? */
static bool takes_name(const struct adding *a, const char *name) {
    const char *dot = strrchr(name, '.');
    size_t i;
    json_t *extension;
    json_array_foreach(json_object_get(a->formats, "extensions"), i, extension) {
        const char *known = json_string_value(extension);
        if (dot && known && strcasecmp(dot + 1, known + (*known == '.')) == 0)
            return true;
    }
    return false;
}

/* What is not there or may not be read is one failure; the rest goes on. */
static void walk(struct adding *a, const char *path, int depth) {
    struct stat st;
    struct dirent **names = NULL;
    int n = 0;
    bool ok = stat(path, &st) == 0;
    if (ok && !S_ISDIR(st.st_mode)) {
        add_entry(a, path);
        return;
    }
    if (!ok || (n = scandir(path, &names, NULL, by_name)) < 0) {
        settle(a, add_entry(a, path), "failed", strerror(errno));
        return;
    }
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        char *child = mem_printf("%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", name);
        /* Links to folders are not followed: they may lead back. */
        if (name[0] != '.' && lstat(child, &st) == 0) {
            if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
                walk(a, child, depth + 1);
            else if (stat(child, &st) == 0 && S_ISREG(st.st_mode) && takes_name(a, name))
                add_entry(a, child);
            else
                a->n_left_out++;
        }
        mem_free(child);
        free(names[i]); /* scandir's */
    }
    free(names); /* scandir's */
}

/* ---- progress ------------------------------------------------------------------------------- */

/* As many bytes of text as n_columns show for certain. */
static size_t fitting(const char *text, int n_columns) {
    size_t len = strlen(text), pos = 0, fits = 0;
    while (pos < len) {
        n_columns -= utf8_next(text, len, &pos) < WIDE_FROM ? 1 : 2;
        if (n_columns < 0)
            break;
        fits = pos;
    }
    return fits;
}

/* One line, never wrapped: a carriage return does not lead back over a wrapped one. */
static void draw_bar(const struct adding *a, const char *doing) {
    if (!a->bar)
        return;
    int full = a->n > 0 ? (int)(a->n_settled * BAR_CELLS / a->n) : 0;
    char cells[BAR_CELLS + 1];
    memset(cells, '-', BAR_CELLS);
    memset(cells, '#', (size_t)full);
    cells[BAR_CELLS] = '\0';
    double seconds = (double)(time_mono_ms() - a->begun_ms) / 1000;
    char line[400];
    int room = terminal_columns(stderr) - 1;
    snprintf(line, sizeof line, "%zu/%zu  %.1f pages/s  %s", a->n_settled, a->n,
             seconds > 0 ? ((double)a->pages_done + a->pages_active) / seconds : 0, doing);
    fputc('\r', stderr);
    if (room >= 2 * BAR_CELLS + 8) {
        fprintf(stderr, "[%s] ", cells);
        room -= BAR_CELLS + 3;
    }
    print_text(stderr, line, fitting(line, room));
    fputs("\033[K", stderr);
    fflush(stderr);
}

static void say_settled(const struct adding *a, const struct entry *entry) {
    if (a->quiet)
        return;
    if (a->bar)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "%-9s ", entry->status);
    print_text(stderr, entry->path, strlen(entry->path));
    if (*entry->reason) {
        fputs("  ", stderr);
        print_text(stderr, entry->reason, strlen(entry->reason));
    }
    fputc('\n', stderr);
}

static bool on_sent(void *ctx, int64_t sent_bytes, int64_t size_bytes) {
    (void)sent_bytes;
    (void)size_bytes;
    draw_bar(ctx, "uploading");
    return true;
}

/* ---- sending -------------------------------------------------------------------------------- */

static bool send_local(struct entry *entry, bool *known, struct adding *a, struct error *err) {
    struct added added;
    if (!corpus_add_path(&added, a->session.corpus, entry->path, NULL, false, err))
        return false;
    memcpy(entry->doc_id, added.doc_id, sizeof entry->doc_id);
    entry->job_id = added.job_id;
    *known = added.status == ADDED_KNOWN;
    return true;
}

static bool send_server(struct entry *entry, bool *known, struct adding *a, struct error *err) {
    struct http_reply reply;
    if (!http_client_upload(&reply, a->session.client, "/documents", entry->path,
                            path_name(entry->path), on_sent, a, err))
        return false;
    json_t *document = json_array_get(json_object_get(reply.json, "documents"), 0);
    bool ok = reply.status < 300 && document;
    if (ok) {
        snprintf(entry->doc_id, sizeof entry->doc_id, "%s", json_text(document, "doc_id"));
        entry->job_id = json_number(document, "job_id");
        *known = reply.status == 200;
    } else {
        const json_t *error = json_object_get(reply.json, "error");
        if (!error)
            error = json_object_get(document, "error");
        error_set(err, reply.status == 429 ? ERROR_BUSY : ERROR_INPUT, "%s",
                  error ? json_text(error, "message") : "the server gave no reason");
    }
    http_reply_fini(&reply);
    return ok;
}

/* What became of an entry whose job is over. */
static void settle_by_job(struct adding *a, struct entry *entry, const json_t *job) {
    const char *status = json_text(job, "status");
    const json_t *error = json_object_get(job, "error");
    a->pages_done += json_number(job, "pages");
    if (strcmp(status, "completed") == 0)
        settle(a, entry, "completed", json_text(job, "warning"));
    else if (strcmp(status, "cancelled") == 0)
        settle(a, entry, "cancelled", "");
    else
        settle(a, entry, "failed", json_text(error, "message"));
    say_settled(a, entry);
}

static const char *stage_words(const char *stage) {
    static const char *const words[][2] = {{"parsing", "reading"},
                                           {"embedding_visual", "embedding pages"},
                                           {"embedding_text", "embedding passages"},
                                           {"storing", "storing"}};
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        if (strcmp(stage, words[i][0]) == 0)
            return words[i][1];
    }
    return stage;
}

/* What a job under way does: "report.pdf  embedding pages  3 of 10". */
static void say_doing(char doing[300], struct adding *a, const struct entry *entry,
                      const json_t *job) {
    const char *name = path_name(entry->path), *stage = json_text(job, "stage");
    int64_t page = json_number(job, "page"), pages = json_number(job, "pages");
    a->pages_active += json_number_value(json_object_get(job, "progress")) * (double)pages;
    if (pages > 0)
        snprintf(doing, 300, "%s  %s  %lld of %lld", name, stage_words(stage), (long long)page,
                 (long long)pages);
    else
        snprintf(doing, 300, "%s  %s", name, stage_words(stage));
}

static bool is_down(const json_t *job) {
    return strcmp(json_text(json_object_get(job, "error"), "code"), DOWN) == 0;
}

static void note_held(struct adding *a, const json_t *job) {
    a->n_held++;
    a->n_down += is_down(job);
    snprintf(a->held, sizeof a->held, "%s", json_text(json_object_get(job, "error"), "message"));
    a->held[utf8_cut(a->held, strlen(a->held), sizeof a->held - 1)] = '\0';
}

/* Asks after an entry's job; settles it when the job is over. */
static bool look_after(struct adding *a, struct entry *entry, char doing[300], struct error *err) {
    char target[64];
    snprintf(target, sizeof target, "/jobs/%lld", (long long)entry->job_id);
    json_t *job;
    if (!session_call(&job, &a->session, "GET", target, NULL, err)) {
        if (err->kind != ERROR_MISSING)
            return false;
        settle(a, entry, "failed", "the document was removed before it was read");
        say_settled(a, entry);
        return true;
    }
    const char *status = json_text(job, "status");
    if (strcmp(status, "processing") == 0)
        say_doing(doing, a, entry, job);
    else if (strcmp(status, "queued") != 0)
        settle_by_job(a, entry, job);
    else if (*json_text(job, "retrying"))
        note_held(a, job);
    a->n_working += !entry->status && !is_down(job);
    json_decref(job);
    return true;
}

/* What holds documents up is told at once, and now and then again. */
static void say_held(struct adding *a) {
    int64_t now_ms = time_mono_ms();
    if (a->quiet || a->n_held == 0 || (a->told_ms && now_ms - a->told_ms < NOTE_MS))
        return;
    a->told_ms = now_ms;
    if (a->bar)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "waiting: ");
    print_text(stderr, a->held, strlen(a->held));
    fputc('\n', stderr);
}

/* Is a document read or embedded, whatever ChromaDB does? */
static bool is_busy(struct adding *a) {
    json_t *list, *job;
    struct error unused;
    size_t i;
    bool busy = false;
    if (!session_call(&list, &a->session, "GET", "/jobs?state=processing", NULL, &unused))
        return true;
    json_array_foreach(json_object_get(list, "jobs"), i, job) busy = busy || !is_down(job);
    json_decref(list);
    return busy;
}

/* A ChromaDB that does not answer is waited for, a while, once nothing else is to be done. */
static bool wait_for_store(struct adding *a, int n_looked, bool settled, struct error *err) {
    int64_t now_ms = time_mono_ms();
    say_held(a);
    if (settled || a->n_working > 0)
        a->down_ms = 0;
    else if (a->down_ms == 0)
        a->down_ms = now_ms;
    if (a->down_ms == 0 || a->n_down < n_looked || now_ms - a->down_ms <= LONGEST_DOWN_MS)
        return true;
    if (is_busy(a)) { /* with what was not asked after */
        a->down_ms = 0;
        return true;
    }
    if (a->bar)
        fputs("\r\033[K", stderr);
    return error_set_code(err, ERROR_BUSY, DOWN, "%.150s; what waits for it is kept: %s", a->held,
                          a->session.client ? "the server goes on when it answers"
                                            : "the next server goes on with it");
}

/* Waits until every entry is settled. Jobs end nearly in order, so only the oldest are asked after.
 */
static bool wait_all(struct adding *a, struct error *err) {
    size_t first = 0;
    while (a->n_settled < a->n) {
        char doing[300] = "waiting";
        int looked = 0;
        size_t n_settled = a->n_settled;
        a->pages_active = 0;
        a->n_held = a->n_down = a->n_working = 0;
        while (first < a->n && a->entries[first].status)
            first++;
        for (size_t i = first; i < a->n && looked < WATCHED; i++) {
            if (a->entries[i].status)
                continue;
            looked++;
            if (!look_after(a, &a->entries[i], doing, err))
                return false;
        }
        if (!wait_for_store(a, looked, a->n_settled > n_settled, err))
            return false;
        draw_bar(a, doing);
        if (a->n_settled < a->n)
            time_sleep_ms(ROUND_MS);
    }
    if (a->bar)
        fputs("\r\033[K", stderr);
    return true;
}

/* A full queue is waited for, as long as it moves. */
static bool send_entry(struct adding *a, struct entry *entry, bool *known, struct error *err) {
    for (int tries = 0;; tries++) {
        bool ok = a->session.corpus ? send_local(entry, known, a, err)
                                    : send_server(entry, known, a, err);
        if (ok || err->kind != ERROR_BUSY || tries >= 600)
            return ok;
        draw_bar(a, "the queue is full: waiting");
        time_sleep_ms(1000);
    }
}

/* Whether a known document still waits to be read since before, as when an add was broken off. */
static bool on_its_way(struct adding *a, const struct entry *entry) {
    if (a->first_job > 0 && entry->job_id >= a->first_job)
        return false;
    char target[64];
    snprintf(target, sizeof target, "/jobs/%lld", (long long)entry->job_id);
    json_t *job;
    struct error unused;
    if (!session_call(&job, &a->session, "GET", target, NULL, &unused))
        return false;
    const char *status = json_text(job, "status");
    bool live = strcmp(status, "queued") == 0 || strcmp(status, "processing") == 0;
    json_decref(job);
    return live;
}

static void send_all(struct adding *a) {
    for (size_t i = 0; i < a->n; i++) {
        struct entry *entry = &a->entries[i];
        struct error err;
        bool known = false;
        draw_bar(a, path_name(entry->path));
        if (!entry->status && !send_entry(a, entry, &known, &err))
            settle(a, entry, "failed", err.text);
        else if (known && !on_its_way(a, entry))
            settle(a, entry, "known", "the same bytes are here already");
        else if (!known && a->first_job == 0)
            a->first_job = entry->job_id;
        if (entry->status)
            say_settled(a, entry);
    }
}

/* ---- outcome -------------------------------------------------------------------------------- */

static json_t *outcome_json(const struct adding *a) {
    json_t *documents = json_array();
    for (size_t i = 0; i < a->n; i++) {
        const struct entry *entry = &a->entries[i];
        struct arena *arena = arena_new(0);
        const char *path = utf8_clean(arena, entry->path, strlen(entry->path));
        const char *status = entry->status ? entry->status : "queued";
        json_t *json = json_pack("{s:s, s:s, s:s}", "path", path, "doc_id", entry->doc_id, "status",
                                 status);
        if (entry->reason && *entry->reason)
            json_object_set_new(json, "reason", json_string(entry->reason));
        json_array_append_new(documents, json);
        arena_free(arena);
    }
    return json_pack("{s:o}", "documents", documents);
}

static void say_outcome(const struct adding *a) {
    size_t n_known = 0;
    for (size_t i = 0; i < a->n; i++)
        n_known += a->entries[i].status && strcmp(a->entries[i].status, "known") == 0;
    fprintf(stderr, "%zu added, %zu known already, %zu failed",
            a->n_settled - n_known - a->n_failed, n_known, a->n_failed);
    if (a->n_settled < a->n)
        fprintf(stderr, ", %zu not waited for", a->n - a->n_settled);
    if (a->n_left_out > 0)
        fprintf(stderr, ", %zu left out (not of a supported type)", a->n_left_out);
    fprintf(stderr, "; %lld pages in %.1f s\n", (long long)a->pages_done,
            (double)(time_mono_ms() - a->begun_ms) / 1000);
}

static bool add_all(struct adding *a, int argc, char **argv, struct error *err) {
    if (!session_call(&a->formats, &a->session, "GET", "/config/supported-formats", NULL, err))
        return false;
    for (int i = 1; i < argc; i++)
        walk(a, argv[i], 0);
    if (a->session.corpus && !corpus_start(a->session.corpus, err))
        return false;
    send_all(a);
    return wait_all(a, err);
}

int command_add(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    struct adding a = {.quiet = take_flag(&argc, argv, "--quiet"), .begun_ms = time_mono_ms()};
    if (!check_arguments(self, &argc, argv, 1, -1))
        return EXIT_USAGE;
    a.bar = !a.quiet && is_terminal(stderr);
    struct error err;
    bool ok = session_open(&a.session, settings, &err) && add_all(&a, argc, argv, &err);
    if (json)
        print_json(outcome_json(&a));
    if (!a.quiet)
        say_outcome(&a);
    int status = !ok ? failed(&err) : a.n_failed > 0 ? EXIT_FAILED : EXIT_OK;
    session_close(&a.session);
    json_decref(a.formats);
    for (size_t i = 0; i < a.n; i++) {
        mem_free(a.entries[i].path);
        mem_free(a.entries[i].reason);
    }
    mem_free(a.entries);
    return status;
}
