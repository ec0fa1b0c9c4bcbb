/* jobs: what waits, runs and went wrong. */
#include "app/internal.h"

#include <string.h>

static void print_job(const json_t *job) {
    const char *name = json_text(job, "filename");
    const char *message = json_text(json_object_get(job, "error"), "message");
    const char *retrying = json_text(job, "retrying");
    printf("%6lld  %-10s ", (long long)json_number(job, "job_id"),
           *retrying ? "retrying" : json_text(job, "status"));
    if (strcmp(json_text(job, "status"), "processing") == 0)
        printf("%3.0f%%  page %lld of %lld  ",
               100 * json_number_value(json_object_get(job, "progress")),
               (long long)json_number(job, "page"), (long long)json_number(job, "pages"));
    print_text(stdout, name, strlen(name));
    if (*retrying)
        printf("  retrying: %s", retrying);
    if (*message) {
        fputs("  ", stdout);
        print_text(stdout, message, strlen(message));
    }
    putchar('\n');
}

static bool change_job(json_t **reply, struct session *session, const char *verb, const char *id,
                       struct error *err) {
    int64_t job_id;
    if (!text_to_int(&job_id, id, 1, INT64_MAX, "job id", err))
        return false;
    char target[64];
    snprintf(target, sizeof target, "/jobs/%lld/%s", (long long)job_id, verb);
    return session_call(reply, session, "POST", target, NULL, err);
}

int command_jobs(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json"), bad = false;
    const char *state = take_value(&argc, argv, "--state", &bad);
    if (bad)
        return usage_error(self, "an option lacks its value");
    if (!check_arguments(self, &argc, argv, 0, 2))
        return EXIT_USAGE;
    bool change = argc > 1;
    if (change && (argc != 3 || (strcmp(argv[1], "cancel") != 0 && strcmp(argv[1], "retry") != 0)))
        return usage_error(self, "'cancel ID' or 'retry ID'");
    struct session session;
    struct error err;
    json_t *reply = NULL;
    bool ok = session_open(&session, settings, &err);
    if (ok && change) {
        ok = change_job(&reply, &session, argv[1], argv[2], &err);
    } else if (ok) {
        struct arena *arena = arena_new(0);
        const char *target = state ? arena_printf(arena, "/jobs?limit=100&state=%s",
                                                  http_escape(arena, state))
                                   : "/jobs?limit=100";
        ok = session_call(&reply, &session, "GET", target, NULL, &err);
        arena_free(arena);
    }
    session_close(&session);
    if (!ok)
        return failed(&err);
    if (json) {
        print_json(reply);
        return EXIT_OK;
    }
    size_t i;
    json_t *job, *jobs = json_object_get(reply, "jobs");
    if (change)
        print_job(reply);
    json_array_foreach(jobs, i, job) print_job(job);
    if (!change)
        fprintf(stderr, "%zu of %lld jobs\n", json_array_size(jobs),
                (long long)json_number(reply, "total"));
    json_decref(reply);
    return EXIT_OK;
}
