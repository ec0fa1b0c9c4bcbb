/* MaxSim over signs with AVX-512's count of bits. */
#include <immintrin.h>

static inline __m512i count_set(__m512i x) {
    return _mm512_popcnt_epi64(x);
}

static inline __m512i count_set_2(__m512i x, __m512i y) {
    return _mm512_add_epi64(_mm512_popcnt_epi64(x), _mm512_popcnt_epi64(y));
}

#include "device/cpu/signs_zmm.h"

static void nearest(uint32_t *out, const uint64_t *question, int n, int n_words,
                    const uint64_t *signs, int n_groups, int n_items) {
    zmm_nearest(out, question, n, n_words, signs, n_groups, n_items);
}

void cpu_codes_avx512_popcnt(struct cpu_codes *kernels) {
    kernels->signs_name = "avx512 vpopcntq";
    kernels->nearest = nearest;
}
