/* MaxSim over codes and over signs, inside: a question as the kernels have it, and their table.
 *
 * Products are int8 by int8, summed in int32, and no sum leaves its range: 127 * 128 * 65536 is
 * below 2^31, and so is 127 * 255 * 65536 where codes are taken as unsigned. A sum is turned to
 * fp32, times the vector's scale; a largest one times the question's. All of that is the same in
 * every instruction set, to the last bit. */
#ifndef DOCUSEARCH_DEVICE_CPU_CODES_H
#define DOCUSEARCH_DEVICE_CPU_CODES_H

#include "device/cpu/cpu.h"

enum {
    CODES_BLOCK = 48,       /* question vectors that one call of a kernel takes at most */
    CODES_STACK_DIM = 1024, /* groups are decoded into memory of the heap above this */
    CODES_AHEAD = 4,        /* groups, but no more than */
    CODES_AHEAD_BYTES = 8192,
    SIGNS_STEP = 8, /* question vectors come in eights */
};

/* The largest products of each question vector, one a lane: of vectors 0, 16, 32 … the first. */
typedef float code_lanes[CODE_GROUP];

/* Groups of codes, one after another; next: the codes that will be wanted after them, or NULL. */
struct code_groups {
    const uint8_t *codes, *next;
    const uint16_t *scales;
    int n, bits;
};

struct cpu_codes {
    const char *name, *signs_name;
    /* Question vectors as `lanes` wants them. Blocks of CODES_BLOCK lie one after another, each
     * CODES_BLOCK * pack_bytes * code_dim bytes; the last may be shorter: n rounded up to
     * pack_step. NULL: rows as they are. */
    void (*pack)(uint8_t *out, const int8_t *rows, int n, int code_dim);
    int pack_step, pack_bytes;
    /* On each thread before its calls of `lanes`, and after them; NULL: nothing. */
    void (*begin)(void);
    void (*end)(void);
    /* Raises the lanes of n <= CODES_BLOCK question vectors from `first`, a multiple of
     * CODES_BLOCK, on. decoded: room for two groups of int8. */
    void (*lanes)(code_lanes *lanes, const struct maxsim_query *query, int first, int n,
                  const struct code_groups *groups, int8_t *decoded);
    /* out[q]: the largest of lanes[q], n of them, a multiple of 16. */
    void (*largest)(float *out, const code_lanes *lanes, int n);
    /* out[i * n + q]: the smallest Hamming distance of question vector q to any vector of item i;
     * n is a multiple of SIGNS_STEP, items of n_groups * 8 vectors, one group at least, lie one
     * after another. */
    void (*nearest)(uint32_t *out, const uint64_t *question, int n, int n_words,
                    const uint64_t *signs, int n_groups, int n_items);
    /* scores[i]: see dot_rows. */
    void (*dot_rows)(float *scores, const struct maxsim_query *query, const uint8_t *rows,
                     size_t stride, int64_t n_rows);
};

struct maxsim_query {
    struct cpu_codes kernels;
    int n, dim, code_dim, n_signs; /* n_signs: n rounded up to SIGNS_STEP, the last repeated */
    int8_t *rows;                  /* n × code_dim */
    float *scales;
    int32_t *starts; /* -128 * the sum of a row: kernels whose codes are unsigned begin with it;
                        zeros up to the next multiple of CODES_BLOCK */
    uint8_t *packed;
    uint64_t *signs; /* n_signs × code_dim / 64 */
    void *memory;    /* of all of these */
};

/* maxsim_query_new with the kernels that these features allow. */
struct maxsim_query *cpu_query_new(const float *vectors, int n_query, int dim, unsigned features);

static inline size_t code_group_bytes(int code_dim, int bits) {
    return (size_t)code_dim * CODE_GROUP * (size_t)bits / 8;
}

/* Where the codes lie that are to be fetched while those of group i are multiplied. */
static inline const uint8_t *code_groups_ahead(const struct code_groups *groups, int i,
                                               size_t group_bytes) {
    size_t fit = CODES_AHEAD_BYTES / group_bytes, n = (size_t)groups->n;
    size_t later = (size_t)i + (fit < 1 ? 1 : fit < CODES_AHEAD ? fit : CODES_AHEAD);
    const uint8_t *from = later < n || !groups->next ? groups->codes : groups->next;
    return from + (later < n ? later : later - n) * group_bytes;
}

/* Over those of a smaller instruction set, in place. */
void cpu_codes_plain(struct cpu_codes *kernels);
void cpu_codes_avx2(struct cpu_codes *kernels);
void cpu_codes_avx512(struct cpu_codes *kernels);
void cpu_codes_avx512_vnni(struct cpu_codes *kernels);
void cpu_codes_avx512_popcnt(struct cpu_codes *kernels);
void cpu_codes_amx(struct cpu_codes *kernels);
void cpu_codes_neon(struct cpu_codes *kernels);
void cpu_codes_neon_dot(struct cpu_codes *kernels);

#endif
