/* Documents that are the same whenever they are made: a number gives their id, texts and vectors.
 */
#ifndef TESTS_CHROMA_MADE_H
#define TESTS_CHROMA_MADE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chroma/chroma.h"

enum { DIM = 64, TEXT_DIM = 24 };
#define SPACE "made/late@1:64"
#define TEXT_SPACE "made/text@1:24"

extern struct error err;
#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s: %s", #call, err.code, err.text);                                     \
    } while (0)

struct made_options {
    int n_pages, n_chunks, n_vectors;
    int version;  /* another one has another revision, and other vectors */
    bool no_text; /* no vectors for passages */
    const char *filename;
    int n_asked;      /* items that were asked for */
    int cancel_after; /* items; 0: never */
};
struct made_source {
    struct chroma_source source;
    struct made_options options;
    int number;
    struct arena *arena;
};
void made_id(char out[SHA256_HEX + 1], int number);
/* made_done frees it. */
void made_source(struct made_source *out, int number, const struct made_options *options);
void made_done(struct made_source *made);
/* Codes as the index has them, of vectors around a few of the corpus' topics. */
void made_codes(struct index_codes *out, struct arena *arena, int number, int page,
                const struct made_options *options);
void made_text_vector(float out[TEXT_DIM], int number, int chunk, int version);
/* A question near n of a page's vectors, with noise. */
void made_question(float *out, int n, int number, int page, const struct made_options *options,
                   float noise);
struct chroma *made_open(void);         /* skips the test where no server is named */
void made_check(struct chroma *chroma); /* of both spaces */
enum chroma_put made_put(int64_t *generation, struct chroma *chroma, int number,
                         const struct made_options *options, int64_t known);
double made_random(uint64_t *state); /* 0..1 */

#endif
