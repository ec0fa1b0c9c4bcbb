/* check: device, sandbox, converters, disk, port: what is there, what is not, what to do. */
#include "app/internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum verdict { VERDICT_OK, VERDICT_NOTE, VERDICT_WRONG };

struct checking {
    json_t *findings;
    bool wrong;
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

static void check_device(struct checking *c, const json_t *health) {
    const json_t *device = json_object_get(health, "device");
    const char *asked = json_text(device, "requested"), *used = json_text(device, "used");
    bool as_asked = strcmp(asked, "auto") == 0 || strcmp(asked, used) == 0;
    finding(c, as_asked ? VERDICT_OK : VERDICT_WRONG, "device", used,
            as_asked ? "" : "the device asked for is not available here: set DEVICE=auto");
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

static void check_models(struct checking *c, const json_t *health) {
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(health, "models"), i, model) {
        const char *state = json_text(model, "state");
        char what[32];
        snprintf(what, sizeof what, "%s model", json_text(model, "kind"));
        finding(c, strcmp(state, "ready") == 0 ? VERDICT_OK : VERDICT_NOTE, what, state,
                json_text(model, "reason"));
    }
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
    struct session session;
    struct error err;
    json_t *health = NULL;
    bool ok = session_open(&session, settings, &err) &&
              session_call(&health, &session, "GET", "/health", NULL, &err);
    if (ok) {
        check_device(&c, health);
        check_sandbox(&c, health);
        check_converters(&c, health);
        check_models(&c, health);
        check_disk(&c, settings);
        check_port(&c, &session);
    } else {
        finding(&c, VERDICT_WRONG, "data folder", err.text, "");
    }
    session_close(&session);
    json_decref(health);
    if (json) {
        print_json(json_pack("{s:b, s:O}", "ok", !c.wrong, "findings", c.findings));
    } else {
        print_findings(c.findings);
    }
    json_decref(c.findings);
    return c.wrong ? EXIT_FAILED : EXIT_OK;
}
