/* search: a question, and the pages that answer it. */
#include "app/internal.h"

#include <math.h>
#include <string.h>

#define BOLD "\033[1m"
#define FAINT "\033[2m"
#define PLAIN "\033[0m"

/* The passage with its found words in bold; offsets count code points. */
static void print_passage(const json_t *result, bool colour) {
    const char *text = json_text(result, "text_preview");
    const json_t *marks = json_object_get(result, "highlights");
    size_t len = strlen(text), pos = 0, mark_i = 0;
    json_int_t at = 0;
    fputs("   ", stdout);
    while (pos < len) {
        const json_t *mark = json_array_get(marks, mark_i);
        json_int_t from = json_integer_value(json_array_get(mark, 0));
        json_int_t to = json_integer_value(json_array_get(mark, 1));
        if (mark && at == from && colour)
            fputs(BOLD, stdout);
        size_t begin = pos;
        utf8_next(text, len, &pos);
        print_text(stdout, text + begin, pos - begin);
        at++;
        if (mark && at >= to) {
            if (colour)
                fputs(PLAIN, stdout);
            mark_i++;
        }
    }
    putchar('\n');
}

/* Three digits that tell scores apart, whatever their scale. */
static void print_score(double score) {
    double size = fabs(score);
    int decimals = 2;
    for (double limit = 1; decimals < 6 && size > 0 && size < limit; limit /= 10)
        decimals++;
    for (double limit = 10; decimals > 0 && size >= limit; limit *= 10)
        decimals--;
    printf("%.*f", decimals, score);
}

/* What each stage gave, in the order in which they acted. */
static void print_parts(const json_t *result) {
    json_t *parts = json_object_get(result, "parts"), *part;
    const char *stage, *before = "   ";
    json_object_foreach(parts, stage, part) {
        double score = json_number_value(json_object_get(part, "score"));
        double gives = json_number_value(json_object_get(part, "contribution"));
        printf("%s%s: rank %lld by ", before, stage, (long long)json_number(part, "rank"));
        print_score(score);
        if (gives != score) { /* they are one where a single stage acted */
            fputs(", gives ", stdout);
            print_score(gives);
        }
        before = "; ";
    }
    putchar('\n');
}

static void print_result(const json_t *result, bool colour, bool explain) {
    const char *name = json_text(result, "filename");
    const char *heading = json_text(result, "heading_path");
    printf("%lld. %s", (long long)json_number(result, "rank"), colour ? BOLD : "");
    print_text(stdout, name, strlen(name));
    fputs(colour ? PLAIN : "", stdout);
    if (json_number(result, "page_num") > 0)
        printf("  page %lld", (long long)json_number(result, "page_num"));
    printf("  %s", colour ? FAINT : "");
    print_score(json_number_value(json_object_get(result, "score")));
    printf("  %.12s%s\n", json_text(result, "doc_id"), colour ? PLAIN : "");
    if (*heading) {
        fputs("   ", stdout);
        print_text(stdout, heading, strlen(heading));
        putchar('\n');
    }
    if (explain)
        print_parts(result);
    print_passage(result, colour);
}

/* What the answer lacks, and, where nothing but words was searched, how to get the rest. */
static void say_missing(const json_t *reply) {
    const json_t *stages = json_object_get(reply, "stages");
    const char *name, *dense = NULL;
    json_t *stage;
    size_t n_acted = 0;
    json_object_foreach(json_object_get(reply, "stages"), name, stage) {
        n_acted += *json_text(stage, "unavailable") == '\0';
        if (strcmp(name, "dense") == 0 && *json_text(stage, "unavailable"))
            dense = json_text(stage, "unavailable");
    }
    if (dense && n_acted == 1 && !*json_text(json_object_get(stages, "lexical"), "unavailable")) {
        bool absent = strstr(dense, "installed") != NULL;
        fprintf(stderr, "words only: %s%s\n", dense,
                absent ? "; get one with `docusearch pull`" : "");
        return;
    }
    json_object_foreach(json_object_get(reply, "stages"), name, stage) {
        const char *why = json_text(stage, "unavailable"), *note = json_text(stage, "note");
        if (*why)
            fprintf(stderr, "without the %s stage: %s\n", name, why);
        if (*note)
            fprintf(stderr, "in the %s stage: %s%s\n", name, note,
                    strstr(note, "no vectors") ? "; get them with `docusearch reindex`" : "");
    }
}

static void print_reply(const json_t *reply, bool explain) {
    bool colour = is_terminal(stdout);
    size_t i;
    json_t *result;
    json_array_foreach(json_object_get(reply, "results"), i, result)
        print_result(result, colour, explain);
    int64_t n = json_number(reply, "total_results");
    fprintf(stderr, "%lld result%s in %.0f ms\n", (long long)n, n == 1 ? "" : "s",
            json_number_value(json_object_get(reply, "search_time_ms")));
    say_missing(reply);
}

/* The words of the command line, as one query. */
static char *join_words(int argc, char **argv) {
    struct buf text = {0};
    for (int i = 1; i < argc; i++) {
        if (i > 1)
            buf_putc(&text, ' ');
        buf_puts(&text, argv[i]);
    }
    return buf_take(&text);
}

static json_t *make_request(const char *query, const char *n, const char *mode, const char *type) {
    struct arena *arena = arena_new(0);
    json_t *request = json_pack("{s:s}", "query", utf8_clean(arena, query, strlen(query)));
    arena_free(arena);
    struct error unused;
    int64_t n_results;
    if (n && text_to_int(&n_results, n, INT32_MIN, INT32_MAX, "-n", &unused))
        json_object_set_new(request, "n_results", json_integer(n_results));
    else if (n)
        json_object_set_new(request, "n_results", json_string(n));
    if (mode)
        json_object_set_new(request, "search_mode", json_string(mode));
    if (type)
        json_object_set_new(request, "filters", json_pack("{s:[s]}", "format", type));
    return request;
}

int command_search(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    bool explain = take_flag(&argc, argv, "--explain");
    bool exact = take_flag(&argc, argv, "--exact");
    bool bad = false;
    const char *n = take_value(&argc, argv, "-n", &bad);
    const char *mode = take_value(&argc, argv, "--mode", &bad);
    const char *type = take_value(&argc, argv, "--type", &bad);
    if (bad)
        return usage_error(self, "an option lacks its value");
    if (!check_arguments(self, &argc, argv, 1, -1))
        return EXIT_USAGE;
    char *query = join_words(argc, argv);
    json_t *request = make_request(query, n, mode, type), *reply = NULL;
    if (exact)
        json_object_set_new(request, "exact", json_true());
    struct session session;
    struct error err;
    bool ok = session_open(&session, settings, &err) &&
              session_call(&reply, &session, "POST", "/search", request, &err);
    session_close(&session);
    json_decref(request);
    mem_free(query);
    if (!ok)
        return failed(&err);
    if (json) {
        print_json(reply);
    } else {
        print_reply(reply, explain);
        json_decref(reply);
    }
    return EXIT_OK;
}
