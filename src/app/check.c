/* check: what is there, what is not, what to do. Each thing that was ever in somebody's way has its
 * finding, and what is wrong comes with advice. */
#include "app/check.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void check_finding(struct checking *c, enum verdict verdict, const char *what, const char *fact,
                   const char *advice) {
    static const char *const words[] = {"ok", "note", "wrong"};
    struct arena *arena = arena_new(0); /* paths may hold anything */
    c->wrong = c->wrong || verdict == VERDICT_WRONG;
    json_t *json = json_pack("{s:s, s:s, s:s}", "verdict", words[verdict], "what", what, "fact",
                             utf8_clean(arena, fact, strlen(fact)));
    if (*advice)
        json_object_set_new(json, "advice", json_string(utf8_clean(arena, advice, strlen(advice))));
    json_array_append_new(c->findings, json);
    arena_free(arena);
}

void check_say(struct checking *c, enum verdict verdict, const char *what, const char *advice,
               const char *format, ...) {
    char fact[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(fact, sizeof fact, format, args);
    va_end(args);
    check_finding(c, verdict, what, fact, advice);
}

static void check_sandbox(struct checking *c) {
    const json_t *sandbox = json_object_get(c->health, "sandbox");
    bool passed = json_is_true(json_object_get(sandbox, "self_test_passed"));
    const char *detail = json_text(sandbox, "detail");
    check_finding(c, passed ? VERDICT_OK : VERDICT_WRONG, "sandbox", json_text(sandbox, "level"),
                  passed ? detail
                         : "readers are not fully jailed on this system: see the sandbox detail");
}

static void check_converters(struct checking *c) {
    const json_t *converters = json_object_get(c->health, "converters");
    const char *office = json_text(converters, "office"), *ocr = json_text(c->health, "ocr");
    check_finding(
        c, *office ? VERDICT_OK : VERDICT_WRONG, "office", *office ? office : "none",
        *office ? ""
                : "install LibreOffice (writer, calc, impress): without it Office files have no "
                  "pictures, and the older formats are not read");
    bool all = *ocr && !strstr(ocr, ", no data for ");
    check_finding(c, all ? VERDICT_OK : VERDICT_WRONG, "ocr", *ocr ? ocr : "none",
                  all    ? ""
                  : *ocr ? "install Tesseract's data for the languages that OCR_LANGUAGES names"
                         : "install Tesseract's language data: without it scans are not read");
}

/* ---- vectors -------------------------------------------------------------------------------- */

#define DAMAGES_MAX 20 /* that are named */

/* The rows stay: a server that meets the damage has the document embedded again. */
static void tell_damage(void *ctx, const struct index_damage *damage) {
    struct checking *c = ctx;
    struct arena *arena = arena_new(0);
    struct document_row row = {0};
    struct error unused;
    char fact[480];
    bool found = false;
    if (!store_find_document(&row, &found, arena, c->store, damage->doc_id, &unused))
        found = false;
    snprintf(fact, sizeof fact, "%s%s%.12s, %s %d: %s%s%s", found ? row.filename : "",
             found ? " " : "", damage->doc_id, damage->kind == ITEM_PAGE ? "page" : "passage",
             damage->item + (damage->kind == ITEM_CHUNK), damage->part, damage->file ? " in " : "",
             damage->file ? damage->file : "");
    lock_take(&c->lock);
    if (c->n_damaged++ < DAMAGES_MAX)
        check_finding(c, VERDICT_WRONG, "damaged", fact,
                      "a running server embeds the document again");
    lock_drop(&c->lock);
    arena_free(arena);
}

/* Every byte, where no server does so by and by. */
static void check_codes(struct checking *c, struct corpus *corpus) {
    int64_t n_items, n_damaged;
    struct error err;
    char fact[128];
    c->store = corpus_store(corpus);
    index_on_damage(corpus_index(corpus), tell_damage, c);
    bool ok = index_check(&n_items, &n_damaged, corpus_index(corpus), &err);
    snprintf(fact, sizeof fact, "%lld pages and passages checked, %d damaged",
             ok ? (long long)n_items : 0LL, c->n_damaged);
    check_finding(c, ok && c->n_damaged == 0 ? VERDICT_OK : VERDICT_WRONG, "vectors",
                  ok ? fact : err.text,
                  ok && c->n_damaged == 0 ? "" : "a running server embeds them again");
}

/* What a page or passage takes, and, of a running server, what it has checked so far. */
static void check_spaces(struct checking *c) {
    const struct session *session = &c->session;
    size_t i;
    json_t *space;
    json_array_foreach(json_object_get(c->health, "vector_spaces"), i, space) {
        const json_t *bytes = json_object_get(space, "bytes_per_item");
        long long n = (long long)json_number(space, "items");
        long long n_damaged = (long long)json_number(space, "damaged");
        char fact[480], more[96] = "";
        if (session->client)
            snprintf(more, sizeof more, "; %lld checked since the start, %lld damaged",
                     (long long)json_number(space, "checked"), n_damaged);
        snprintf(fact, sizeof fact,
                 "%s: %lld items, %lld bytes each (scan %lld, pooled %lld, full %lld)%s",
                 json_text(space, "name"), n, (long long)json_number(bytes, "all"),
                 (long long)json_number(bytes, "scan"), (long long)json_number(bytes, "pooled"),
                 (long long)json_number(bytes, "full"), more);
        bool wrong = session->client && n_damaged > 0;
        check_finding(
            c, wrong ? VERDICT_NOTE : VERDICT_OK, "vector space", fact,
            wrong ? "their documents, named in the server's log, are embedded again if their "
                    "model is there"
                  : "");
    }
    if (session->corpus)
        check_codes(c, session->corpus);
}

static void print_findings(const json_t *findings) {
    size_t i;
    json_t *f;
    json_array_foreach(findings, i, f) {
        printf("%-6s %-14s %s\n", json_text(f, "verdict"), json_text(f, "what"),
               json_text(f, "fact"));
        if (*json_text(f, "advice"))
            printf("%-6s %-14s %s\n", "", "", json_text(f, "advice"));
    }
}

/* Why the folder could not be opened: what else is wrong is told all the same. */
static void tell_unopened(struct checking *c, const struct error *err) {
    bool device = err->kind == ERROR_DEVICE;
    check_finding(c, VERDICT_WRONG, device ? "device" : "data folder", err->text,
                  device ? "set DEVICE=auto, or DEVICE_STRICT=0 to go on with the processor"
                         : "correct what it says: without the data folder nothing runs");
}

int command_check(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    if (!check_arguments(self, &argc, argv, 0, 0))
        return EXIT_USAGE;
    struct checking c = {.settings = settings, .findings = json_array()};
    lock_init(&c.lock, LOCK_CORPUS);
    struct error err;
    bool ok = session_open(&c.session, settings, &err) &&
              session_call(&c.health, &c.session, "GET", "/health", NULL, &err);
    if (ok) {
        check_device(&c);
        check_sandbox(&c);
        check_converters(&c);
        check_models(&c);
        check_spaces(&c);
        check_port(&c);
    } else {
        tell_unopened(&c, &err);
    }
    check_chroma(&c);
    check_folders(&c);
    check_limits(&c);
    check_hook(&c);
    session_close(&c.session);
    lock_fini(&c.lock);
    json_decref(c.health);
    if (json) {
        print_json(json_pack("{s:b, s:O}", "ok", !c.wrong, "findings", c.findings));
    } else {
        print_findings(c.findings);
    }
    json_decref(c.findings);
    return c.wrong ? EXIT_FAILED : EXIT_OK;
}
