/* app: the program's commands. Each is a function from arguments to an exit status. */
#ifndef DOCUSEARCH_APP_INTERNAL_H
#define DOCUSEARCH_APP_INTERNAL_H

#include "api/api.h"
#include "http/http.h"

#include <stdio.h>

enum exit_status { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
    const char *name, *usage, *summary;
    const char *help; /* options and an example; lines end in '\n' */
    int (*run)(const struct command *self, int argc, char **argv, struct settings *settings);
    bool dashes; /* arguments may begin with one '-' (a query's -word) */
};
/* argv[0] is the command's name. */
int command_serve(const struct command *self, int argc, char **argv, struct settings *settings);
int command_add(const struct command *self, int argc, char **argv, struct settings *settings);
int command_search(const struct command *self, int argc, char **argv, struct settings *settings);
int command_list(const struct command *self, int argc, char **argv, struct settings *settings);
int command_show(const struct command *self, int argc, char **argv, struct settings *settings);
int command_rm(const struct command *self, int argc, char **argv, struct settings *settings);
int command_jobs(const struct command *self, int argc, char **argv, struct settings *settings);
int command_check(const struct command *self, int argc, char **argv, struct settings *settings);
int command_embed(const struct command *self, int argc, char **argv, struct settings *settings);
int command_pull(const struct command *self, int argc, char **argv, struct settings *settings);
int command_models(const struct command *self, int argc, char **argv, struct settings *settings);
int command_reindex(const struct command *self, int argc, char **argv, struct settings *settings);
int command_rm_model(const struct command *self, int argc, char **argv, struct settings *settings);
int command_export(const struct command *self, int argc, char **argv, struct settings *settings);
int command_import(const struct command *self, int argc, char **argv, struct settings *settings);
int command_hook(const struct command *self, int argc, char **argv, struct settings *settings);

/* ---- arguments ------------------------------------------------------------------------------ */

/* Takes the option out of argv: true when it was there. */
bool take_flag(int *argc, char **argv, const char *option);
/* `--name VALUE` or `--name=VALUE`; NULL when it is not there; *bad when its value is missing. */
const char *take_value(int *argc, char **argv, const char *option, bool *bad);
/* Complains of what is left that looks like an option, or of a wrong count; false: usage error.
 * Takes the "--" out. */
bool check_arguments(const struct command *self, int *argc, char **argv, int min, int max);
int usage_error(const struct command *self, const char *format, ...) BASE_PRINTF(2, 3);
int failed(const struct error *err); /* prints the error, gives EXIT_FAILED */

/* ---- device --------------------------------------------------------------------------------- */

/* The device in use ("cpu"), said in the log as other programs expect to read it; ERROR_DEVICE when
 * one is asked for that is not there and DEVICE_STRICT is set. */
bool choose_device(const char **out, const struct settings *settings, struct error *err);

/* ---- the service manager (notify_service.c) -------------------------------------------------- */

/* Tells systemd, or what speaks its protocol, how the server is. NULL, which every function takes,
 * where no manager asks (NOTIFY_SOCKET). Before any thread is started. */
struct service;
struct service *service_open(void);
void service_status(struct service *service, const char *status);
/* Also starts the watchdog where the manager wants one (WATCHDOG_USEC). */
void service_ready(struct service *service, const char *url);
void service_stopping(struct service *service);
/* After the server has ended, since the watchdog may wait for an answer of its. */
void service_close(struct service *service);

/* ---- session: the API, through a running server or in this process --------------------------- */

struct session {
    const struct settings *settings;
    struct corpus *corpus; /* NULL when a server holds the data folder */
    struct api *api;
    struct http_client *client; /* NULL when this process holds it */
    char *url;
};
bool session_open(struct session *session, const struct settings *settings, struct error *err);
void session_close(struct session *session);
/* The reply's JSON (the caller's). An error status is a failure: err holds its code and message. */
bool session_call(json_t **out, struct session *session, const char *method, const char *target,
                  const json_t *body, struct error *err);
/* The whole id that begins with prefix (8 digits or more); ERROR_MISSING, ERROR_CONFLICT. */
bool session_find_id(char doc_id[SHA256_HEX + 1], struct session *session, const char *prefix,
                     struct error *err);

/* ---- printing ------------------------------------------------------------------------------- */

const char *json_text(const json_t *object, const char *key); /* "" where absent */
int64_t json_number(const json_t *object, const char *key);   /* 0 where absent */
/* Pretty on standard output; takes json over. */
void print_json(json_t *json);
/* text with control characters (a terminal's escape codes) replaced. */
void print_text(FILE *out, const char *text, size_t len);
bool is_terminal(FILE *stream);
int terminal_columns(FILE *stream); /* 80 where it does not say */

#endif
