/* export and import: a data folder's documents and vectors into a folder, and back. */
#include "corpus/export.h"
#include "app/internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ROUND_MS 100
#define LINE_MS 5000
#define BAR_CELLS 24

/* "documents 12/40", as a bar on a terminal and now and then as a line elsewhere. */
struct telling {
    bool quiet, bar;
    int64_t told_ms; /* monotonic */
    const char *what;
};

static void draw_bar(const char *stage, int64_t n_done, int64_t n_total) {
    char cells[BAR_CELLS + 1];
    memset(cells, '-', BAR_CELLS);
    memset(cells, '#', n_total > 0 ? (size_t)(n_done * BAR_CELLS / n_total) : 0);
    cells[BAR_CELLS] = '\0';
    fputc('\r', stderr);
    if (terminal_columns(stderr) >= 3 * BAR_CELLS)
        fprintf(stderr, "[%s] ", cells);
    fprintf(stderr, "%s %lld/%lld\033[K", stage, (long long)n_done, (long long)n_total);
    fflush(stderr);
}

static void tell(void *ctx, const char *stage, int64_t n_done, int64_t n_total) {
    struct telling *t = ctx;
    int64_t now_ms = time_mono_ms();
    if (t->quiet || n_total < n_done)
        return;
    if (t->bar) {
        draw_bar(stage, n_done, n_total);
    } else if (now_ms - t->told_ms >= LINE_MS) {
        fprintf(stderr, "%s: %s %lld/%lld\n", t->what, stage, (long long)n_done,
                (long long)n_total);
        t->told_ms = now_ms;
    }
}

static void end_bar(const struct telling *t) {
    if (t->bar && !t->quiet)
        fputs("\r\033[K", stderr);
}

/* Absolute, without a '/' at its end; of a folder that is yet to be made its parent must be there.
 */
static bool real_folder(char out[PATH_MAX], const char *path, bool there, struct error *err) {
    char parent[PATH_MAX];
    if (realpath(path, out))
        return strcmp(out, "/") != 0 || error_set(err, ERROR_INPUT, "/ is no folder of its own");
    if (there || errno != ENOENT)
        return error_set_errno(err, errno, "%.200s", path);
    struct arena *arena = arena_new(0);
    char *text = arena_strdup(arena, path);
    size_t len = strlen(text);
    while (len > 1 && text[len - 1] == '/')
        text[--len] = '\0';
    const char *name = path_name(text);
    char *dir = name > text ? arena_strndup(arena, text, (size_t)(name - text))
                            : arena_strdup(arena, ".");
    bool ok = len > 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    if (!ok)
        error_set(err, ERROR_INPUT, "'%.200s' names no folder", path);
    else if (!realpath(dir, parent))
        ok = error_set_errno(err, errno, "%.200s", dir);
    else if (snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) >=
             PATH_MAX)
        ok = error_set(err, ERROR_LIMIT, "the folder's path is too long");
    arena_free(arena);
    return ok;
}

/* ---- export --------------------------------------------------------------------------------- */

static void print_export(const struct export_outcome *done, const char *folder) {
    printf("exported %lld documents, %lld pages and passages with vectors (%lld files, %.1f MiB%s)"
           " to ",
           (long long)done->n_documents, (long long)done->n_vectors, (long long)done->n_files,
           (double)done->n_bytes / (1 << 20), done->linked ? ", shared with the data folder" : "");
    print_text(stdout, folder, strlen(folder));
    putchar('\n');
    if (done->n_mirrored > 0)
        printf("%lld of the documents are other workers', without their originals and pictures, "
               "which are not here: export there too\n",
               (long long)done->n_mirrored);
    if (done->n_lost > 0)
        fprintf(stderr,
                "docusearch: %lld documents were left out: their original is missing or damaged in "
                "the data folder\n",
                (long long)done->n_lost);
    if (done->n_damaged > 0)
        fprintf(stderr,
                "docusearch: %lld pages and passages were exported without their vectors, which are"
                " damaged or missing: `docusearch reindex` embeds them again\n",
                (long long)done->n_damaged);
}

static json_t *export_json(const struct export_outcome *done, const char *folder) {
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "folder", folder,
                     "documents", (json_int_t)done->n_documents, "documents_of_others",
                     (json_int_t)done->n_mirrored, "documents_left_out", (json_int_t)done->n_lost,
                     "items_with_vectors", (json_int_t)done->n_vectors, "items_damaged",
                     (json_int_t)done->n_damaged, "files", (json_int_t)done->n_files, "files_kept",
                     (json_int_t)done->n_kept, "bytes", (json_int_t)done->n_bytes, "linked",
                     done->linked);
}

int command_export(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    struct telling telling = {.quiet = take_flag(&argc, argv, "--quiet"), .what = "export"};
    if (!check_arguments(self, &argc, argv, 1, 1))
        return EXIT_USAGE;
    telling.bar = is_terminal(stderr);
    telling.told_ms = time_mono_ms();
    char folder[PATH_MAX];
    struct export_outcome done;
    struct error err;
    const struct export_watch watch = {.ctx = &telling, .progress = tell};
    bool ok = real_folder(folder, argv[1], false, &err) &&
              corpus_export(&done, settings->data_dir, folder, &watch, &err);
    end_bar(&telling);
    if (!ok)
        return failed(&err);
    if (json)
        print_json(export_json(&done, folder));
    else
        print_export(&done, folder);
    return done.n_lost > 0 ? EXIT_FAILED : EXIT_OK;
}

/* ---- import --------------------------------------------------------------------------------- */

static bool wait_end(json_t **state, struct session *session, struct telling *telling,
                     struct error *err) {
    while (strcmp(json_text(*state, "state"), "running") == 0) {
        json_t *next;
        bool checking = strcmp(json_text(*state, "stage"), "importing") != 0;
        if (checking)
            tell(telling, "files checked", json_number(*state, "files_checked"),
                 json_number(*state, "files_total"));
        else
            tell(telling, "documents", json_number(*state, "documents_done"),
                 json_number(*state, "documents_total"));
        time_sleep_ms(ROUND_MS);
        if (!session_call(&next, session, "GET", "/import", NULL, err))
            return false;
        json_decref(*state);
        *state = next;
    }
    return true;
}

static void print_import(const json_t *state) {
    long long n_known = (long long)json_number(state, "documents_known");
    long long n_queued = (long long)json_number(state, "documents_queued");
    long long n_without = (long long)json_number(state, "documents_without_vectors");
    printf("imported %lld documents, %lld pages and passages with vectors; %lld documents were "
           "here already and are left as they are\n",
           (long long)json_number(state, "documents_imported"),
           (long long)json_number(state, "items_with_vectors"), n_known);
    if (n_queued > 0)
        fprintf(stderr, "docusearch: %lld of them are yet to be read: a running server does that\n",
                n_queued);
    if (n_without > 0)
        fprintf(stderr,
                "docusearch: %lld of them came without all their vectors: `docusearch reindex` "
                "embeds them again\n",
                n_without);
}

int command_import(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    struct telling telling = {.quiet = take_flag(&argc, argv, "--quiet"), .what = "import"};
    if (!check_arguments(self, &argc, argv, 1, 1))
        return EXIT_USAGE;
    telling.bar = is_terminal(stderr);
    telling.told_ms = time_mono_ms();
    char folder[PATH_MAX];
    struct session session = {.settings = settings};
    struct error err;
    json_t *state = NULL;
    bool ok = real_folder(folder, argv[1], true, &err) && session_open(&session, settings, &err) &&
              corpus_import_name(settings->data_dir, folder, &err) &&
              session_call(&state, &session, "POST", "/import", NULL, &err) &&
              wait_end(&state, &session, &telling, &err);
    end_bar(&telling);
    bool done = ok && strcmp(json_text(state, "state"), "completed") == 0;
    int status = done ? EXIT_OK : EXIT_FAILED;
    if (!ok)
        failed(&err);
    else if (json)
        print_json(json_incref(state));
    else if (done)
        print_import(state);
    const char *message = json_text(json_object_get(state, "error"), "message");
    if (*message) {
        fputs("docusearch: ", stderr);
        print_text(stderr, message, strlen(message));
        fputc('\n', stderr);
    }
    json_decref(state);
    session_close(&session);
    return status;
}
