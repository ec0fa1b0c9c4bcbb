/* pull, models, rm-model: getting models, listing them, removing them. They need no server; one
 * that runs looks for its models when it starts. */
#include "app/internal.h"

#include "model/model.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define BAR_CELLS 24
#define DRAW_MS 100
#define MAX_CONFIG ((size_t)1 << 20)

static volatile sig_atomic_t stop_asked;

static void on_signal(int number) {
    (void)number;
    stop_asked = 1;
}

/* The first Ctrl-C ends the fetching in order, the second ends the program. */
static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void size_text(char out[24], int64_t size_bytes) {
    if (size_bytes >= 1000000000)
        snprintf(out, 24, "%.1f GB", (double)size_bytes / 1e9);
    else if (size_bytes >= 1000000)
        snprintf(out, 24, "%.1f MB", (double)size_bytes / 1e6);
    else
        snprintf(out, 24, "%.1f kB", (double)size_bytes / 1e3);
}

/* ---- progress ------------------------------------------------------------------------------- */

struct fetching {
    const char *name, *source;
    bool quiet, bar, begun;
    int file_i, told_i; /* on its way; told last */
    int64_t first_bytes, first_ms, drawn_ms;
};

static void draw_bar(struct fetching *f, const char *file, int i, int n, int64_t done_bytes,
                     int64_t total_bytes) {
    int64_t now_ms = time_mono_ms();
    if (now_ms - f->drawn_ms < DRAW_MS && done_bytes < total_bytes)
        return;
    f->drawn_ms = now_ms;
    char cells[BAR_CELLS + 1], done[24], total[24], line[400];
    double share = total_bytes > 0 ? (double)done_bytes / (double)total_bytes : 0;
    memset(cells, '-', BAR_CELLS);
    memset(cells, '#', (size_t)(share * BAR_CELLS));
    cells[BAR_CELLS] = '\0';
    size_text(done, done_bytes);
    size_text(total, total_bytes);
    int64_t took_ms = now_ms - f->first_ms;
    double rate = took_ms > 0 ? (double)(done_bytes - f->first_bytes) / (double)took_ms / 1e3 : 0;
    snprintf(line, sizeof line, "[%s] %d/%d  %s of %s  %.1f MB/s  %s", cells, i, n, done, total,
             rate, file);
    int room = terminal_columns(stderr) - 1;
    fputc('\r', stderr);
    print_text(stderr, line, utf8_cut(line, strlen(line), room > 0 ? (size_t)room : 0));
    fputs("\033[K", stderr);
    fflush(stderr);
}

static bool on_file(void *ctx, const char *file, int i, int n, int64_t done_bytes,
                    int64_t total_bytes) {
    struct fetching *f = ctx;
    if (!f->begun && !f->quiet)
        fprintf(stderr, "fetching %s from %s\n", f->name, f->source);
    f->begun = true;
    if (file[0] == '\0' || f->quiet)
        return !stop_asked;
    if (i != f->file_i) {
        f->file_i = i;
        f->first_bytes = done_bytes;
        f->first_ms = time_mono_ms();
    }
    if (f->bar)
        draw_bar(f, file, i, n, done_bytes, total_bytes);
    if (done_bytes == total_bytes && f->told_i != i) {
        char size[24];
        size_text(size, total_bytes);
        f->told_i = i;
        fprintf(stderr, "%s%d/%d  ", f->bar ? "\r\033[K" : "", i, n);
        print_text(stderr, file, strlen(file));
        fprintf(stderr, "  %s\n", size);
    }
    return !stop_asked;
}

/* ---- what is known of a model ---------------------------------------------------------------- */

/* What its configuration says it is, in a word; "" when it does not say. The arena's. */
static const char *kind_of(struct arena *arena, const struct model_place *place) {
    static const char *const marks[][2] = {{"adapter_config.json", "adapter"},
                                           {"artifact.metadata", "colbert"}};
    char *text;
    size_t len;
    if (!place->installed)
        return "";
    const char *path = path_join(arena, place->folder, "config.json");
    json_t *config = NULL;
    if (file_read(&text, &len, path, MAX_CONFIG, NULL)) {
        config = json_loadb(text, len, 0, NULL);
        mem_free(text);
    }
    const char *kind = arena_strdup(arena, json_text(config, "model_type"));
    json_decref(config);
    for (size_t i = 0; i < BASE_COUNT(marks); i++) {
        bool adapter = i == 0;
        if ((!adapter || kind[0] == '\0') &&
            file_read(&text, &len, path_join(arena, place->folder, marks[i][0]), MAX_CONFIG,
                      NULL)) {
            mem_free(text);
            return marks[i][1];
        }
    }
    return kind;
}

static const char *state_of(const struct model_place *place) {
    return place->installed ? "installed" : place->origin[0] ? "incomplete" : "not_installed";
}

static json_t *place_json(struct arena *arena, const struct model_place *place) {
    json_t *json = json_object();
    json_object_set_new(json, "name",
                        json_string(utf8_clean(arena, place->name, strlen(place->name))));
    json_object_set_new(json, "kind", json_string(kind_of(arena, place)));
    json_object_set_new(json, "state", json_string(state_of(place)));
    json_object_set_new(json, "origin", json_string(place->origin));
    json_object_set_new(json, "folder",
                        json_string(utf8_clean(arena, place->folder, strlen(place->folder))));
    json_object_set_new(json, "size_bytes", json_integer(place->size_bytes));
    json_object_set_new(json, "problem",
                        json_string(utf8_clean(arena, place->problem, strlen(place->problem))));
    return json;
}

/* A server that holds the data folder found its models when it started. */
static void say_restart(const struct settings *settings) {
    struct arena *arena = arena_new(0);
    char *text;
    size_t len;
    if (file_read(&text, &len, path_join(arena, settings->data_dir, "lock"), 4096, NULL)) {
        char *end;
        long pid = strtol(text, &end, 10);
        bool url = strncmp(end, " http", 5) == 0;
        if (url && pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM))
            fprintf(stderr, "the server at %.*s uses it once it is started again\n",
                    (int)strcspn(end + 1, "\n"), end + 1);
        mem_free(text);
    }
    arena_free(arena);
}

/* ---- pull ----------------------------------------------------------------------------------- */

struct pulling {
    struct arena *arena;
    const struct settings *settings;
    const char *revision, *folder;
    bool quiet, changed;
    json_t *json; /* NULL: words on standard output */
};

static bool pull_model(struct model_place *place, struct pulling *p, const char *name,
                       struct error *err) {
    struct fetching fetching = {.name = name,
                                .source = model_hub_shown(p->arena, p->settings),
                                .quiet = p->quiet,
                                .bar = !p->quiet && is_terminal(stderr)};
    struct pull_progress progress = {&fetching, on_file};
    bool ok = p->folder
                  ? model_adopt(place, p->arena, p->settings, name, p->folder, err)
                  : model_pull(place, p->arena, p->settings, name, p->revision, &progress, err);
    if (fetching.bar && fetching.begun)
        fputs("\r\033[K", stderr);
    if (!ok && stop_asked)
        return error_set_code(err, ERROR_CONFLICT, "cancelled",
                              "stopped; what has come is kept, and the next pull goes on from it");
    p->changed = p->changed || (ok && (p->folder || fetching.begun));
    if (ok && !place->installed) /* adopted, an adapter whose base is not here */
        return error_set_code(err, ERROR_MISSING, "incomplete", "%s: %s", name, place->problem);
    return ok;
}

static int pull_named(struct pulling *p, const char *name) {
    struct model_place place;
    struct error err;
    if (pull_model(&place, p, name, &err)) {
        if (p->json)
            json_array_append_new(p->json, place_json(p->arena, &place));
        else
            printf("%s  %s\n", name, place.folder);
        return EXIT_OK;
    }
    if (p->json)
        json_array_append_new(p->json,
                              json_pack("{s:s, s:s, s:{s:s, s:s}}", "name",
                                        utf8_clean(p->arena, name, strlen(name)), "state", "failed",
                                        "error", "code", err.code, "message", err.text));
    return failed(&err);
}

int command_pull(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool bad = false, json = take_flag(&argc, argv, "--json");
    struct pulling p = {.settings = settings, .quiet = take_flag(&argc, argv, "--quiet")};
    p.revision = take_value(&argc, argv, "--revision", &bad);
    p.folder = take_value(&argc, argv, "--from", &bad);
    if (bad)
        return usage_error(self, "an option lacks its value");
    if (!check_arguments(self, &argc, argv, 0, -1))
        return EXIT_USAGE;
    if (p.folder && (argc != 2 || p.revision))
        return usage_error(self, "--from takes one name, and no revision");
    const char *usual[] = {settings->text_model};
    const char *const *names = argc > 1 ? (const char *const *)&argv[1] : usual;
    int n = argc > 1 ? argc - 1 : 1;
    if (argc == 1 && (strcmp(usual[0], "none") == 0 || strcmp(usual[0], "visual") == 0))
        return usage_error(self, "TEXT_MODEL is '%s': name a model", usual[0]);
    p.arena = arena_new(0);
    p.json = json ? json_array() : NULL;
    catch_signals();
    int status = EXIT_OK;
    for (int i = 0; i < n && !stop_asked; i++) {
        if (pull_named(&p, names[i]) != EXIT_OK)
            status = EXIT_FAILED;
    }
    if (json)
        print_json(json_pack("{s:o}", "models", p.json));
    if (p.changed)
        say_restart(settings);
    arena_free(p.arena);
    return status;
}

/* ---- models --------------------------------------------------------------------------------- */

static int columns_of(const char *text) {
    int n = 0;
    for (size_t pos = 0, len = strlen(text); pos < len; n++)
        utf8_next(text, len, &pos);
    return n;
}

static void print_cell(const char *text, int width) {
    print_text(stdout, text, strlen(text));
    printf("%*s", width > columns_of(text) ? width - columns_of(text) : 0, "");
}

static void print_row(struct arena *arena, const struct model_place *place, int width) {
    char size[24] = "";
    if (place->size_bytes > 0)
        size_text(size, place->size_bytes);
    print_cell(place->name, width + 2);
    print_cell(kind_of(arena, place), 10);
    printf("%10s  %-11s%s", size, place->origin, state_of(place));
    if (!place->installed && strcmp(state_of(place), "incomplete") == 0) {
        fputs("  ", stdout);
        print_text(stdout, place->problem, strlen(place->problem));
    }
    putchar('\n');
}

/* What a setting that names a model points to. */
static void tell_setting(json_t *json, struct arena *arena, const struct settings *settings,
                         const char *variable, const char *key, const char *name) {
    struct model_place place;
    bool off = strcmp(name, "none") == 0 || strcmp(name, "visual") == 0;
    if (!off)
        model_locate(&place, arena, settings, name);
    if (json && off)
        json_object_set_new(
            json, key,
            json_pack("{s:s, s:s}", "name", name, "state", name[0] == 'n' ? "off" : "visual"));
    else if (json)
        json_object_set_new(json, key, place_json(arena, &place));
    if (json)
        return;
    printf("%-10s ", variable);
    print_text(stdout, name, strlen(name));
    if (!off && place.installed)
        fputs(": installed", stdout);
    if (!off && !place.installed) {
        fputs(": ", stdout);
        print_text(stdout, place.problem, strlen(place.problem));
    }
    putchar('\n');
}

int command_models(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    if (!check_arguments(self, &argc, argv, 0, 0))
        return EXIT_USAGE;
    struct arena *arena = arena_new(0);
    struct model_place *places;
    int n, width = 0;
    struct error err;
    if (!model_list(&places, &n, arena, settings, &err)) {
        arena_free(arena);
        return failed(&err);
    }
    json_t *list = json ? json_array() : NULL;
    for (int i = 0; i < n; i++)
        width = columns_of(places[i].name) > width ? columns_of(places[i].name) : width;
    for (int i = 0; i < n; i++) {
        if (json)
            json_array_append_new(list, place_json(arena, &places[i]));
        else
            print_row(arena, &places[i], width);
    }
    json_t *all = json ? json_pack(
                             "{s:o, s:s}", "models", list, "models_dir",
                             utf8_clean(arena, settings->models_dir, strlen(settings->models_dir)))
                       : NULL;
    if (!json && n > 0)
        putchar('\n');
    tell_setting(all, arena, settings, "MODEL_NAME", "model_name", settings->model_name);
    tell_setting(all, arena, settings, "TEXT_MODEL", "text_model", settings->text_model);
    if (all)
        print_json(all);
    arena_free(arena);
    return EXIT_OK;
}

/* ---- rm-model ------------------------------------------------------------------------------- */

int command_rm_model(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    if (!check_arguments(self, &argc, argv, 1, -1))
        return EXIT_USAGE;
    int status = EXIT_OK;
    json_t *removed = json_array();
    for (int i = 1; i < argc; i++) {
        struct error err;
        if (!model_remove(settings, argv[i], &err)) {
            status = failed(&err);
            continue;
        }
        json_array_append_new(removed, json_string(argv[i]));
        if (!json)
            printf("removed %s\n", argv[i]);
    }
    if (json)
        print_json(json_pack("{s:o}", "removed", removed));
    else
        json_decref(removed);
    return status;
}
