/* reindex: documents embedded again, with progress until the last. */
#include "app/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ROUND_MS 200
#define NOTE_MS 10000
#define LINE_MS 5000
#define BAR_CELLS 24

struct reindexing {
    struct session session;
    bool quiet, bar;
    int64_t told_ms; /* monotonic; 0: nothing yet */
    int64_t told_done;
};

static void say(FILE *out, const char *before, const char *text, const char *after) {
    fputs(before, out);
    print_text(out, text, strlen(text));
    fputs(after, out);
}

/* "12/40 documents  3.2 pages/s  8 s left". */
static void words_of(char words[200], const json_t *state) {
    double remaining = json_number_value(json_object_get(state, "estimated_remaining"));
    int n = snprintf(words, 200, "%lld/%lld documents  %.1f pages/s",
                     (long long)json_number(state, "documents_done"),
                     (long long)json_number(state, "documents_total"),
                     json_number_value(json_object_get(state, "pages_per_second")));
    if (json_is_real(json_object_get(state, "estimated_remaining")))
        n += snprintf(words + n, 200 - (size_t)n, "  %.0f s left", remaining);
    const char *note = json_text(state, "note");
    if (*note)
        snprintf(words + n, 200 - (size_t)n, "  %.80s", note);
}

static void draw_bar(const json_t *state) {
    int64_t done = json_number(state, "documents_done"),
            total = json_number(state, "documents_total");
    char cells[BAR_CELLS + 1], words[200];
    memset(cells, '-', BAR_CELLS);
    memset(cells, '#', total > 0 ? (size_t)(done * BAR_CELLS / total) : 0);
    cells[BAR_CELLS] = '\0';
    words_of(words, state);
    int room = terminal_columns(stderr) - 1;
    fputc('\r', stderr);
    if (room >= 2 * BAR_CELLS + 8) {
        fprintf(stderr, "[%s] ", cells);
        room -= BAR_CELLS + 3;
    }
    print_text(stderr, words, utf8_cut(words, strlen(words), room > 0 ? (size_t)room : 0));
    fputs("\033[K", stderr);
    fflush(stderr);
}

static void show(struct reindexing *r, const json_t *state) {
    int64_t now_ms = time_mono_ms(), done = json_number(state, "documents_done");
    if (r->bar) {
        draw_bar(state);
        return;
    }
    /* What holds a run up is told again, though nothing is done. */
    int64_t wait_ms = done != r->told_done        ? LINE_MS
                      : *json_text(state, "note") ? NOTE_MS
                                                  : INT64_MAX;
    if (!r->quiet && now_ms - r->told_ms >= wait_ms) {
        char words[200];
        words_of(words, state);
        say(stderr, "", words, "\n");
        r->told_ms = now_ms;
        r->told_done = done;
    }
}

static bool is_running(const json_t *state) {
    return strcmp(json_text(state, "state"), "running") == 0;
}

/* Until the run has ended; *state is its last. */
static bool wait_end(json_t **state, struct reindexing *r, struct error *err) {
    while (is_running(*state)) {
        json_t *next;
        show(r, *state);
        time_sleep_ms(ROUND_MS);
        if (!session_call(&next, &r->session, "GET", "/reindex", NULL, err))
            return false;
        json_decref(*state);
        *state = next;
    }
    return true;
}

static void say_outcome(const struct reindexing *r, const json_t *state) {
    const char *outcome = json_text(state, "outcome"), *note = json_text(state, "note");
    const char *message = json_text(json_object_get(state, "error"), "message");
    int64_t n_failed = json_number(state, "documents_failed");
    if (r->bar)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "%s: %lld of %lld documents", outcome,
            (long long)json_number(state, "documents_done"),
            (long long)json_number(state, "documents_total"));
    if (n_failed > 0)
        fprintf(stderr, ", %lld failed", (long long)n_failed);
    fputc('\n', stderr);
    if (*note)
        say(stderr, "docusearch: ", note, "\n");
    if (*message)
        say(stderr, "docusearch: ", message, "\n");
}

/* A folder's path means the same to a server that was started elsewhere. */
static const char *absolute(char path[PATH_MAX], const char *model) {
    bool relative = strncmp(model, "./", 2) == 0 || strncmp(model, "../", 3) == 0;
    return relative && realpath(model, path) ? path : model;
}

static bool begin(json_t **state, struct reindexing *r, const char *mode, const char *model,
                  struct error *err) {
    char path[PATH_MAX];
    struct arena *arena = arena_new(0);
    const char *name = model ? absolute(path, model) : NULL;
    json_t *body = json_pack("{s:s, s:o}", "mode", mode, "model",
                             name ? json_string(utf8_clean(arena, name, strlen(name)))
                                  : json_null());
    arena_free(arena);
    bool ok = session_call(state, &r->session, "POST", "/reindex", body, err);
    json_decref(body);
    return ok;
}

int command_reindex(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool bad = false, json = take_flag(&argc, argv, "--json");
    bool missing = take_flag(&argc, argv, "--missing"), all = take_flag(&argc, argv, "--all");
    bool cancel = take_flag(&argc, argv, "--cancel");
    struct reindexing r = {.quiet = take_flag(&argc, argv, "--quiet")};
    const char *model = take_value(&argc, argv, "--model", &bad);
    const char *place = take_value(&argc, argv, "--store", &bad);
    if (bad)
        return usage_error(self, "an option lacks its value");
    if (!check_arguments(self, &argc, argv, 0, 0))
        return EXIT_USAGE;
    if (missing + all + cancel + (place != NULL) > 1 || (model && (all || cancel || place)))
        return usage_error(self, "one of --missing, --all, --model NAME, --store PLACE, --cancel");
    if (place && strcmp(place, "chroma") != 0 && strcmp(place, "index") != 0)
        return usage_error(self, "--store is chroma or index, not '%.40s'", place);
    const char *mode = !place                         ? (all ? "all" : "missing")
                       : strcmp(place, "chroma") == 0 ? "store"
                                                      : "index";
    r.bar = !r.quiet && is_terminal(stderr);
    r.told_ms = time_mono_ms();
    json_t *state = NULL;
    struct error err;
    bool ok = session_open(&r.session, settings, &err) &&
              (!r.session.corpus || corpus_start(r.session.corpus, &err));
    if (ok && cancel)
        ok = session_call(&state, &r.session, "POST", "/reindex/cancel", NULL, &err);
    else if (ok)
        ok = begin(&state, &r, mode, model, &err);
    ok = ok && wait_end(&state, &r, &err);
    bool done = ok && strcmp(json_text(state, "outcome"), cancel ? "cancelled" : "completed") == 0;
    if (ok && !r.quiet)
        say_outcome(&r, state);
    if (ok && json)
        print_json(json_incref(state));
    json_decref(state);
    int status = !ok ? failed(&err) : done ? EXIT_OK : EXIT_FAILED;
    session_close(&r.session);
    return status;
}
