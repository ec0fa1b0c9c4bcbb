/* The groups of test_store; each returns how many of its tests did not pass. */
#ifndef TESTS_STORE_H
#define TESTS_STORE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

int run_rows_tests(void);
int run_jobs_tests(void);
int run_files_tests(void);
int run_text_tests(void);
int run_search_tests(void);
int run_schema_tests(void);
int run_vectors_tests(void);
int run_lacking_tests(void);
int run_shared_tests(void);
int run_thread_tests(void);

/* A store in a fresh folder; folder_drop removes it. */
struct fixture {
    char *dir;
    struct store *store;
    struct arena *arena;
};
void fixture_open(struct fixture *fixture);
void fixture_reopen(struct fixture *fixture);
void fixture_close(struct fixture *fixture);

/* Of the tests' own thread. */
extern struct error err;

/* Fails the test with the error's text. */
#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

/* The id that number n has in tests. */
const char *test_id(struct arena *arena, int n);
/* A document n with one chunk a text; READY. */
void put_texts(struct fixture *fixture, int n, const char *filename, const char *const *texts,
               int n_texts);
void put_text(struct fixture *fixture, int n, const char *text);
/* "1 4 2": the documents found, best first. */
const char *found_by(struct fixture *fixture, const char *query);

#endif
