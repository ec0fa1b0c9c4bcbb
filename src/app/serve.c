/* serve: everything up, then wait for a signal, then everything down. */
#include "app/internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* Blocked before any thread starts, so that only sigwait sees them. */
static void block_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

static void reopen_log(const struct settings *settings) {
    struct error err;
    if (!log_reopen(&err))
        log_warn("SIGHUP: the log goes on in the old file: %s", err.text);
    else
        log_info("SIGHUP: %s; settings are read at start alone",
                 settings->log_file ? "the log file is open anew" : "the log has no file");
}

static void wait_for_end(const sigset_t *set, const struct settings *settings) {
    int number;
    do {
        if (sigwait(set, &number) != 0)
            return;
        if (number == SIGHUP)
            reopen_log(settings);
    } while (number == SIGHUP);
    log_info("%s: stopping", number == SIGINT ? "SIGINT" : "SIGTERM");
}

static void say_settings(const struct settings *settings) {
    struct buf text = {0};
    settings_describe(&text, settings);
    log_info("settings: %s", text.data);
    buf_fini(&text);
}

/* A system without a jail is said; a jail that claims to hold and does not is not worked with. */
static bool check_jail(struct corpus *corpus, struct error *err) {
    struct read_health health;
    read_health(&health, corpus_readers(corpus));
    if (health.self_test_passed)
        return true;
    if (strcmp(health.sandbox_level, "rlimit") != 0 && *health.sandbox_level)
        return error_set_code(err, ERROR_INTERNAL, "sandbox_broken",
                              "the readers' jail (%s) does not hold: %s", health.sandbox_level,
                              health.sandbox_detail);
    log_warn("documents are read without a jail on this system: %s", health.sandbox_detail);
    return true;
}

/* A language that Tesseract lacks leaves scans unread, or badly read. */
static void say_ocr(struct corpus *corpus, const struct settings *settings) {
    struct read_health health;
    read_health(&health, corpus_readers(corpus));
    if (!*health.ocr)
        log_warn("scans are not read: Tesseract has no data for OCR_LANGUAGES %s",
                 settings->ocr_languages);
    else if (strstr(health.ocr, ", no data for "))
        log_warn("some of OCR_LANGUAGES are not there: %s", health.ocr);
}

static bool start(struct corpus **corpus, struct api **api, const struct settings *settings,
                  struct error *err) {
    const char *device;
    if (!choose_device(&device, settings, err) || !corpus_open(corpus, NULL, settings, err))
        return false;
    *api = api_new(*corpus);
    if (!api_start(*api, err) || !corpus_set_url(*corpus, api_url(*api), err) ||
        !check_jail(*corpus, err) || !corpus_start(*corpus, err))
        return false;
    say_ocr(*corpus, settings);
    api_set_ready(*api);
    return true;
}

int command_serve(const struct command *self, int argc, char **argv, struct settings *settings) {
    if (!check_arguments(self, &argc, argv, 0, 0))
        return EXIT_USAGE;
    sigset_t signals;
    block_signals(&signals);
    struct service *service = service_open();
    say_settings(settings);
    service_status(service, "Starting");
    struct corpus *corpus = NULL;
    struct api *api = NULL;
    struct error err;
    int status = EXIT_OK;
    if (start(&corpus, &api, settings, &err)) {
        log_info("Application startup complete");
        service_ready(service, api_url(api));
        wait_for_end(&signals, settings);
        service_stopping(service);
    } else {
        log_error("%s", err.text);
        service_status(service, err.text);
        status = EXIT_FAILED;
    }
    /* The corpus first: calls that wait for a model, or between two batches, then end. */
    if (api)
        api_refuse(api);
    if (corpus)
        corpus_stop(corpus);
    if (api)
        api_stop(api);
    service_close(service);
    api_free(api);
    corpus_close(corpus);
    return status;
}
