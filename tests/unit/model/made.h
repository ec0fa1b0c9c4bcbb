/* Models made for a test: a folder under /tmp with small random weights, written by our own hand so
 * that each part of it can be spoilt. */
#ifndef TEST_MODEL_MADE_H
#define TEST_MODEL_MADE_H

#include "model/internal.h"

/* A safetensors file as it grows. */
struct made {
    struct buf header, data;
    const char *skip;   /* a tensor that is left out */
    const char *spoilt; /* one that gets a NaN as its last value */
    const char *halved; /* one whose first dimension is told as half of what it is, and so stored */
    unsigned seed;
};
/* dtype "F32", "F16", "BF16", "I64"; bytes as many as the shape needs. */
void made_tensor(struct made *made, const char *name, const char *dtype, const int64_t *dims,
                 int n_dims, const void *bytes, size_t len);
/* Random values around `around`, spread evenly by as much as `spread` to each side. */
void made_random(struct made *made, const char *name, int rows, int cols /* 0: a vector */,
                 float around, float spread);
void made_file(const char *dir, const char *file, const char *text);
/* Closes the header, pads it as the library does, writes and empties. */
void made_save(struct made *made, const char *dir, const char *file);

char *made_dir(void); /* a new folder; made_remove removes it and frees the name */
void made_remove(char *dir);

/* A BERT of 2 layers, width 32, 4 heads, 64 positions, the letters as tokens, with the tensors'
 * prefix; colbert: with the head and marks of one. */
void made_bert(struct made *made, const char *dir, const char *prefix, bool colbert);
/* A ColPali of 2 + 2 layers seeing 28 × 28 pixels, vectors of 8, bytes as tokens. */
enum made_names { MADE_TODAY, MADE_PUBLISHED_HF, MADE_PUBLISHED_MERGED };
void made_colpali(struct made *made, const char *dir, enum made_names names);

#endif
