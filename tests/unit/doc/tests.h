/* The groups of test_doc, and what they share: random documents and the full check of one. */
#ifndef TESTS_DOC_H
#define TESTS_DOC_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "doc/doc.h"

int run_builder_tests(void);
int run_encode_tests(void);
int run_chunk_tests(void);
int run_writer_tests(void);

/* A small generator of its own, so that a seed gives the same document on every machine. */
struct dice {
    uint64_t state;
};
uint32_t dice_below(struct dice *dice, uint32_t n); /* 0..n-1 */

/* A document of every kind of element, with and without places, several scripts, tables with gaps
 * and spans, words over two pages, words of thousands of bytes, empty pictures, repeated furniture.
 */
struct document *document_random(uint64_t seed, bool slides);
/* NULL, or what is wrong with it: the invariants that doc.h and builder.c state, checked anew. */
const char *document_fault(const struct document *doc);

/* An element of one unplaced text. */
void put_element(struct doc_builder *builder, enum doc_element_kind kind, int level, uint32_t flags,
                 const char *text);
struct document *finish(struct doc_builder *builder);

#endif
