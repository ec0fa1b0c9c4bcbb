/* api: routes, keys, events, metrics and the web page: the corpus as others see it.
 *
 * Every call is a row of one table (routes.c). A handler takes a request and gives a response; the
 * same handlers answer sockets and api_dispatch, so the command line prints the same JSON with and
 * without a server. Error kinds become HTTP codes in one switch (error.c). */
#ifndef DOCUSEARCH_API_H
#define DOCUSEARCH_API_H

#include "corpus/corpus.h"

struct api;
/* corpus must outlive it. Takes the queue's listener; starts no thread and no server. */
struct api *api_new(struct corpus *corpus);
void api_free(struct api *api); /* stops first; NULL is fine */

/* Listens on the settings' host and port and answers; /health says 503 until api_set_ready. Refuses
 * a host that is not loopback when there is no key (ERROR_CONFLICT key_required, naming
 * --insecure), and a port in use (ERROR_CONFLICT address_in_use, naming --worker-port and
 * WORKER_PORT). Logs "Starting worker on URL". */
bool api_start(struct api *api, struct error *err);
void api_set_ready(struct api *api);
const char *api_url(const struct api *api); /* "http://127.0.0.1:8002"; "" before api_start */
/* Not ready from now on, and calls that embed end after their batch. The corpus is stopped between
 * this and api_stop, so that no call waits for a model. */
void api_refuse(struct api *api);
void api_stop(struct api *api); /* ends event streams and connections; within seconds */

/* A call without a socket, a key or a server: the status, and the reply's JSON (the caller's;
 * NULL where the reply is not JSON). target: "/documents?limit=5"; body NULL: none. Streams
 * (/events) and uploads (POST /documents) answer 501. */
int api_dispatch(json_t **out, struct api *api, const char *method, const char *target,
                 const json_t *body);

#endif
