#ifndef TEST_API_H
#define TEST_API_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/api.h"
#include "api/internal.h"
#include "http/http.h"

/* A corpus in a folder of its own, and the API over it. */
struct fixture {
    char folder[64];
    struct settings settings;
    struct corpus *corpus;
    struct api *api;
    struct http_client *client; /* of fixture_serve */
};
/* arguments: further settings' flags, ends with NULL. */
struct fixture *fixture_new(const char *const *arguments);
void fixture_free(struct fixture *f);
int set_up(void **state);
int tear_down(void **state);
/* Server on a free port, and a client of it with the settings' key. */
void fixture_serve(struct fixture *f);

/* Adds text as a file of that name; gives its id. Waits until it is read. */
void add_text(char doc_id[SHA256_HEX + 1], struct fixture *f, const char *name, const char *text);
/* api_dispatch; *out (may be NULL) is the caller's. body: JSON text or NULL. */
int ask(json_t **out, struct fixture *f, const char *method, const char *target, const char *body);
const char *text_of(const json_t *json, const char *key);
json_int_t int_of(const json_t *json, const char *key);

int test_calls(void);
int test_documents(void);
int test_embeddings(void);
int test_events(void);
int test_openapi(void);
int test_serve(void);

#endif
