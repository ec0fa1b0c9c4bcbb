/* check: device, sandbox, converters, disk, port: what is there, what is not, what to do. */
#include "app/internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum verdict { VERDICT_OK, VERDICT_NOTE, VERDICT_WRONG };

struct checking {
    json_t *findings;
    bool wrong;
    struct store *store; /* while the index tells of damage */
    struct lock lock;    /* LOCK_CORPUS, over the findings then */
    int n_damaged;
};

static void finding(struct checking *c, enum verdict verdict, const char *what, const char *fact,
                    const char *advice) {
    static const char *const words[] = {"ok", "note", "wrong"};
    c->wrong = c->wrong || verdict == VERDICT_WRONG;
    json_t *json = json_pack("{s:s, s:s, s:s}", "verdict", words[verdict], "what", what, "fact",
                             fact);
    if (*advice)
        json_object_set_new(json, "advice", json_string(advice));
    json_array_append_new(c->findings, json);
}

/* One line a device that this program knows, and what the one in use computes with. */
static void check_device(struct checking *c, const json_t *health) {
    const json_t *device = json_object_get(health, "device");
    const char *asked = json_text(device, "requested"), *used = json_text(device, "used");
    bool as_asked = strcmp(asked, "auto") == 0 || strcmp(asked, used) == 0;
    char fact_asked[96];
    snprintf(fact_asked, sizeof fact_asked, as_asked ? "%s" : "%s, in place of %s", used, asked);
    finding(c, as_asked ? VERDICT_OK : VERDICT_WRONG, "device", fact_asked,
            as_asked ? "" : "the device asked for is not available here: set DEVICE=auto");
    struct device_kind kinds[8];
    int n = device_kinds(kinds);
    for (int i = 0; i < n; i++) {
        char what[32];
        snprintf(what, sizeof what, "device %s", kinds[i].name);
        finding(c, kinds[i].present ? VERDICT_OK : VERDICT_NOTE, what,
                kinds[i].present ? "present"
                : kinds[i].built ? "not present"
                                 : "not built in",
                kinds[i].built ? kinds[i].reason : "");
    }
    char fact[320];
    snprintf(fact, sizeof fact, "%s; %s; %lld threads", json_text(device, "kernels"),
             json_text(device, "processor"), (long long)json_number(device, "threads"));
    finding(c, VERDICT_OK, "kernels", fact, "");
}

/* What MODEL_PRECISION comes to on the device in use. */
static void check_precision(struct checking *c, const json_t *health,
                            const struct settings *settings) {
    struct device *device;
    struct error err;
    enum precision asked = PRECISION_AUTO;
    char fact[64];
    if (!device_open(&device, json_text(json_object_get(health, "device"), "used"), 1, &err)) {
        finding(c, VERDICT_WRONG, "precision", err.text, "");
        return;
    }
    bool ok = precision_parse(&asked, settings->model_precision, &err) &&
              device_check_precision(device, asked, &err);
    if (asked == PRECISION_AUTO)
        snprintf(fact, sizeof fact, "auto: %s", precision_name(device_best_precision(device)));
    else
        snprintf(fact, sizeof fact, "%s", settings->model_precision);
    finding(c, ok ? VERDICT_OK : VERDICT_WRONG, "precision", fact, ok ? "" : err.text);
    device_close(device);
}

static void check_sandbox(struct checking *c, const json_t *health) {
    const json_t *sandbox = json_object_get(health, "sandbox");
    bool passed = json_is_true(json_object_get(sandbox, "self_test_passed"));
    const char *detail = json_text(sandbox, "detail");
    finding(c, passed ? VERDICT_OK : VERDICT_WRONG, "sandbox", json_text(sandbox, "level"),
            passed ? detail
                   : "readers are not fully jailed on this system: see the sandbox detail");
}

static void check_converters(struct checking *c, const json_t *health) {
    const json_t *converters = json_object_get(health, "converters");
    const char *office = json_text(converters, "office"), *ocr = json_text(health, "ocr");
    finding(c, *office ? VERDICT_OK : VERDICT_WRONG, "office", *office ? office : "none",
            *office
                ? ""
                : "install LibreOffice (writer, calc, impress): without it Office files have no "
                  "pictures, and the older formats are not read");
    bool all = *ocr && !strstr(ocr, ", no data for ");
    finding(c, all ? VERDICT_OK : VERDICT_WRONG, "ocr", *ocr ? ocr : "none",
            all    ? ""
            : *ocr ? "install Tesseract's data for the languages that OCR_LANGUAGES names"
                   : "install Tesseract's language data: without it scans are not read");
}

static void finding_model(struct checking *c, const char *kind, const char *name, const char *state,
                          const char *why) {
    enum verdict verdict = strcmp(state, "ready") == 0 || strcmp(state, "installed") == 0
                               ? VERDICT_OK
                           : strcmp(state, "failed") == 0 ? VERDICT_WRONG
                                                          : VERDICT_NOTE;
    char what[32], fact[300], advice[400];
    snprintf(what, sizeof what, "%s model", kind);
    snprintf(fact, sizeof fact, "%s%s%s", name, *name ? ": " : "", state);
    snprintf(advice, sizeof advice, "%s", why);
    if (strcmp(state, "not_installed") == 0)
        snprintf(advice, sizeof advice, "%s%sget it with `docusearch pull %s`", why,
                 *why ? "; " : "", name);
    finding(c, verdict, what, fact, advice);
}

/* A running server says how its models are; without one, what lies on the disk is looked at. */
static void check_models(struct checking *c, const json_t *health, const struct session *session) {
    const struct settings *settings = session->settings;
    struct arena *arena = arena_new(0);
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(health, "models"), i, model) {
        const char *kind = json_text(model, "kind"), *name = json_text(model, "name");
        const char *state = json_text(model, "state"), *why = json_text(model, "reason");
        if (!session->client && strcmp(state, "off") != 0) {
            struct model_place place;
            bool visual = strcmp(kind, "visual") == 0 ||
                          strcmp(settings->text_model, "visual") == 0;
            name = visual ? settings->model_name : settings->text_model;
            model_locate(&place, arena, settings, name);
            state = place.installed ? "installed" : place.origin[0] ? "failed" : "not_installed";
            why = place.installed                               ? place.folder
                  : strcmp(place.problem, "not installed") == 0 ? ""
                                                                : place.problem;
        }
        finding_model(c, kind, name, state, why);
    }
    arena_free(arena);
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
        finding(c, VERDICT_WRONG, "damaged", fact, "a running server embeds the document again");
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
    finding(c, ok && c->n_damaged == 0 ? VERDICT_OK : VERDICT_WRONG, "vectors",
            ok ? fact : err.text, "");
}

/* What a page or passage takes, and, of a running server, what it has checked so far. */
static void check_spaces(struct checking *c, const json_t *health, const struct session *session) {
    size_t i;
    json_t *space;
    json_array_foreach(json_object_get(health, "vector_spaces"), i, space) {
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
        finding(c, wrong ? VERDICT_NOTE : VERDICT_OK, "vector space", fact,
                wrong ? "their documents, named in the server's log, are embedded again if their "
                        "model is there"
                      : "");
    }
    if (session->corpus)
        check_codes(c, session->corpus);
}

static void check_disk(struct checking *c, const struct settings *settings) {
    int64_t bytes;
    struct error err;
    char fact[64];
    if (!disk_free_bytes(&bytes, settings->data_dir, &err)) {
        finding(c, VERDICT_WRONG, "disk", err.text, "make the data folder readable and writable");
        return;
    }
    snprintf(fact, sizeof fact, "%.1f GiB free", (double)bytes / (1 << 30));
    bool enough = bytes > (int64_t)1 << 30;
    finding(c, enough ? VERDICT_OK : VERDICT_WRONG, "disk", fact,
            enough ? "" : "uploads are refused below 256 MiB: make room or move DATA_DIR");
    if (access(settings->data_dir, R_OK | W_OK | X_OK) != 0)
        finding(c, VERDICT_WRONG, "data folder", strerror(errno),
                "make the data folder readable and writable");
    else
        finding(c, VERDICT_OK, "data folder", settings->data_dir, "");
}

/* Listens for a moment where the server would. */
static void check_port(struct checking *c, const struct session *session) {
    const struct settings *settings = session->settings;
    if (session->client) {
        finding(c, VERDICT_OK, "server", session->url, "");
        return;
    }
    char fact[128];
    snprintf(fact, sizeof fact, "%s port %d", settings->worker_host, settings->worker_port);
    struct error err;
    if (!api_start(session->api, &err)) {
        finding(c, VERDICT_WRONG, "port", fact, err.text);
        return;
    }
    api_stop(session->api);
    finding(c, VERDICT_OK, "port", fact, "");
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

int command_check(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    if (!check_arguments(self, &argc, argv, 0, 0))
        return EXIT_USAGE;
    struct checking c = {.findings = json_array()};
    lock_init(&c.lock, LOCK_CORPUS);
    struct session session;
    struct error err;
    json_t *health = NULL;
    bool ok = session_open(&session, settings, &err) &&
              session_call(&health, &session, "GET", "/health", NULL, &err);
    if (ok) {
        check_device(&c, health);
        check_sandbox(&c, health);
        check_converters(&c, health);
        check_precision(&c, health, settings);
        check_models(&c, health, &session);
        check_spaces(&c, health, &session);
        check_disk(&c, settings);
        check_port(&c, &session);
    } else {
        finding(&c, VERDICT_WRONG, err.kind == ERROR_DEVICE ? "device" : "data folder", err.text,
                "");
    }
    session_close(&session);
    lock_fini(&c.lock);
    json_decref(health);
    if (json) {
        print_json(json_pack("{s:b, s:O}", "ok", !c.wrong, "findings", c.findings));
    } else {
        print_findings(c.findings);
    }
    json_decref(c.findings);
    return c.wrong ? EXIT_FAILED : EXIT_OK;
}
