/* app, inside: what `check` looks at, a file of findings each. */
#ifndef DOCUSEARCH_APP_CHECK_H
#define DOCUSEARCH_APP_CHECK_H

#include "app/internal.h"

enum verdict { VERDICT_OK, VERDICT_NOTE, VERDICT_WRONG };

struct checking {
    const struct settings *settings;
    json_t *findings;
    bool wrong;
    struct session session;
    json_t *health;      /* /health's answer; NULL: the data folder could not be opened */
    struct store *store; /* while the index tells of damage */
    struct lock lock;    /* LOCK_CORPUS, over the findings then */
    int n_damaged;
};
/* advice: what to do, "" nothing. What is VERDICT_WRONG has some. */
void check_finding(struct checking *c, enum verdict verdict, const char *what, const char *fact,
                   const char *advice);
/* The same with a fact that is put together. */
void check_say(struct checking *c, enum verdict verdict, const char *what, const char *advice,
               const char *format, ...) BASE_PRINTF(5, 6);

/* check_machine.c: this machine, whatever the data folder is like. */
void check_folders(struct checking *c); /* data, uploads, ingest roots, free disk, clock */
void check_limits(struct checking *c);  /* open files, watches */
/* The number that a file of the system's holds; -1: there is none, or it is no number. */
int64_t check_number_in(const char *path);
/* check_models.c: device, models, and the memory and time that they take. */
void check_device(struct checking *c); /* of c->health */
void check_models(struct checking *c);
/* check_services.c: who else there is: the port, ChromaDB. */
void check_port(struct checking *c); /* of the session */
void check_chroma(struct checking *c);
/* check_hook.c: what Copyparty runs. */
void check_hook(struct checking *c);

#endif
