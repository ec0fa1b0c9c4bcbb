/* MaxSim over codes and over signs in AVX2.
 *
 * Codes and question are widened to 16 bits, whose products are summed in pairs (vpmaddubsw would
 * want a sign moved from one side to the other for each product): one group by four question
 * vectors, eight accumulators. Bits are counted by halves of bytes. */
#include "device/cpu/codes.h"
#include "device/cpu/vector.h"

#include <immintrin.h>
#include <string.h>

#define QUERIES 4
#define STEP_BYTES 8 /* a question vector's four elements, as 16 bits: 0, 2, 1, 3 */

/* ---- decoding -------------------------------------------------------------------------------- */

/* 32 elements to int8; levels are in both halves of `levels`. */
INLINE __m256i decode_half(const uint8_t *codes, __m256i levels, int bits) {
    if (bits == 4) {
        __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)codes));
        x = _mm256_or_si256(x, _mm256_slli_epi32(x, 4));
        return _mm256_shuffle_epi8(levels, _mm256_and_si256(x, _mm256_set1_epi8(0x0f)));
    }
    if (bits == 2) {
        __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)codes));
        x = _mm256_or_si256(x, _mm256_slli_epi32(x, 12));
        x = _mm256_or_si256(x, _mm256_slli_epi32(x, 6));
        return _mm256_shuffle_epi8(levels, _mm256_and_si256(x, _mm256_set1_epi8(0x03)));
    }
    int32_t set;
    memcpy(&set, codes, sizeof set);
    const __m256i byte_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2,
                                             2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit_of = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i x = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(set), byte_of), bit_of);
    x = _mm256_and_si256(_mm256_cmpeq_epi8(x, bit_of), _mm256_set1_epi8(1));
    return _mm256_shuffle_epi8(levels, x);
}

INLINE void decode_bits(int8_t *out, const uint8_t *codes, const uint8_t *ahead, int n_steps,
                        int bits) {
    uint8_t table[16] = {0};
    memcpy(table, codes_levels(bits), (size_t)1 << bits);
    __m256i levels = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    for (int half = 0; half < n_steps * 2; half++) {
        _mm256_storeu_si256((__m256i *)(out + half * 32),
                            decode_half(codes + half * 4 * bits, levels, bits));
        _mm_prefetch((const char *)ahead + half * 4 * bits, _MM_HINT_T0);
    }
}

/* A group; ahead: the codes that are fetched meanwhile. 8 bits stay where they lie. */
static const int8_t *decode(int8_t *out, const uint8_t *codes, const uint8_t *ahead, int n_steps,
                            int bits) {
    if (bits == 8)
        return (const int8_t *)codes;
    if (bits == 4)
        decode_bits(out, codes, ahead, n_steps, 4);
    else if (bits == 2)
        decode_bits(out, codes, ahead, n_steps, 2);
    else
        decode_bits(out, codes, ahead, n_steps, 1);
    return out;
}

/* ---- products -------------------------------------------------------------------------------- */

INLINE __m256i load(const void *from) {
    return _mm256_loadu_si256(from);
}

/* Elements 0 and 2, and 1 and 3, of each four. */
INLINE __m256i even_of(__m256i codes) {
    return _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8);
}

INLINE __m256i odd_of(__m256i codes) {
    return _mm256_srai_epi16(codes, 8);
}

INLINE __m256i broadcast(const uint8_t *packed) {
    int32_t pair;
    memcpy(&pair, packed, sizeof pair);
    return _mm256_set1_epi32(pair);
}

INLINE void raise(float *lanes, __m256i sum, const uint16_t *scales) {
    __m256i upper = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)scales));
    __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum),
                                 _mm256_castsi256_ps(_mm256_slli_epi32(upper, 16)));
    _mm256_storeu_ps(lanes, _mm256_max_ps(value, _mm256_loadu_ps(lanes)));
}

/* packed: QUERIES question vectors, a step of four dimensions after another. ahead: as many bytes
 * as codes, which are fetched meanwhile. */
INLINE void multiply(code_lanes *lanes, const uint8_t *packed, const int8_t *codes,
                     const int8_t *ahead, const uint16_t *scales, int n_steps) {
    __m256i sum[QUERIES][2];
    UNROLLED
    for (int q = 0; q < QUERIES; q++)
        sum[q][0] = sum[q][1] = _mm256_setzero_si256();
    for (int step = 0; step < n_steps; step++, codes += 64, packed += QUERIES * STEP_BYTES) {
        __m256i low = load(codes), high = load(codes + 32);
        _mm_prefetch((const char *)ahead + step * 64, _MM_HINT_T0);
        __m256i low_even = even_of(low), low_odd = odd_of(low);
        __m256i high_even = even_of(high), high_odd = odd_of(high);
        UNROLLED
        for (int q = 0; q < QUERIES; q++) {
            __m256i even = broadcast(packed + q * STEP_BYTES);
            __m256i odd = broadcast(packed + q * STEP_BYTES + 4);
            sum[q][0] = _mm256_add_epi32(sum[q][0], _mm256_madd_epi16(low_even, even));
            sum[q][1] = _mm256_add_epi32(sum[q][1], _mm256_madd_epi16(high_even, even));
            sum[q][0] = _mm256_add_epi32(sum[q][0], _mm256_madd_epi16(low_odd, odd));
            sum[q][1] = _mm256_add_epi32(sum[q][1], _mm256_madd_epi16(high_odd, odd));
        }
    }
    UNROLLED
    for (int q = 0; q < QUERIES; q++) {
        raise(lanes[q], sum[q][0], scales);
        raise(lanes[q] + 8, sum[q][1], scales + 8);
    }
}

static void lanes(code_lanes *best, const struct maxsim_query *query, int first, int n,
                  const struct code_groups *groups, int8_t *decoded) {
    const int n_steps = query->code_dim / 4;
    const size_t vector_bytes = (size_t)n_steps * STEP_BYTES;
    const size_t group_bytes = code_group_bytes(query->code_dim, groups->bits);
    const uint8_t *packed = query->packed + (size_t)first * vector_bytes;
    for (int g = 0; g < groups->n; g++) {
        const uint8_t *ahead = code_groups_ahead(groups, g, group_bytes);
        const int8_t *codes = decode(decoded, groups->codes + (size_t)g * group_bytes, ahead,
                                     n_steps, groups->bits);
        const int8_t *next = groups->bits == 8 ? (const int8_t *)ahead : codes;
        for (int q = 0; q < n; q += QUERIES)
            multiply(best + q, packed + (size_t)q * vector_bytes, codes, next,
                     groups->scales + (size_t)g * CODE_GROUP, n_steps);
    }
}

static void pack(uint8_t *out, const int8_t *rows, int n, int code_dim) {
    for (int first = 0; first < n; first += QUERIES) {
        for (int d = 0; d < code_dim; d += 4) {
            for (int q = first; q < first + QUERIES; q++, out += STEP_BYTES) {
                int16_t four[4] = {0};
                const int8_t *row = rows + (size_t)q * (size_t)code_dim + d;
                for (int i = 0; q < n && i < 4; i++)
                    four[i] = row[(i & 1) * 2 + i / 2];
                memcpy(out, four, sizeof four);
            }
        }
    }
}

/* Eight question vectors at once. */
static void largest(float *out, const code_lanes *best, int n) {
    for (int q = 0; q < n; q += 8) {
        __m256 fours[2];
        UNROLLED
        for (int i = 0; i < 2; i++) {
            __m256 eight[4];
            UNROLLED
            for (int j = 0; j < 4; j++) {
                const float *row = best[q + i * 4 + j];
                eight[j] = _mm256_max_ps(_mm256_loadu_ps(row), _mm256_loadu_ps(row + 8));
            }
            __m256d first = _mm256_castps_pd(_mm256_max_ps(_mm256_unpacklo_ps(eight[0], eight[1]),
                                                           _mm256_unpackhi_ps(eight[0], eight[1])));
            __m256d second = _mm256_castps_pd(_mm256_max_ps(
                _mm256_unpacklo_ps(eight[2], eight[3]), _mm256_unpackhi_ps(eight[2], eight[3])));
            fours[i] = _mm256_max_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(first, second)),
                                     _mm256_castpd_ps(_mm256_unpackhi_pd(first, second)));
        }
        _mm256_storeu_ps(out + q, _mm256_max_ps(_mm256_permute2f128_ps(fours[0], fours[1], 0x20),
                                                _mm256_permute2f128_ps(fours[0], fours[1], 0x31)));
    }
}

/* ---- signs ------------------------------------------------------------------------------------
 */

INLINE __m256i bytes_set(__m256i x) {
    const __m256i n_of = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                          2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i half = _mm256_set1_epi8(0x0f);
    return _mm256_add_epi8(
        _mm256_shuffle_epi8(n_of, _mm256_and_si256(x, half)),
        _mm256_shuffle_epi8(n_of, _mm256_and_si256(_mm256_srli_epi16(x, 4), half)));
}

/* Distances of four vectors, 64 bits each; words of a vector are 8 apart. */
INLINE __m256i distances(const uint64_t *signs, const uint64_t *question, int n_words) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum = zero;
    int w = 0;
    for (; w + 2 <= n_words; w += 2) {
        __m256i x = _mm256_xor_si256(load(signs + w * 8),
                                     _mm256_set1_epi64x((long long)question[w]));
        __m256i y = _mm256_xor_si256(load(signs + w * 8 + 8),
                                     _mm256_set1_epi64x((long long)question[w + 1]));
        sum = _mm256_add_epi64(sum,
                               _mm256_sad_epu8(_mm256_add_epi8(bytes_set(x), bytes_set(y)), zero));
    }
    if (w < n_words) {
        __m256i x = _mm256_xor_si256(load(signs + w * 8),
                                     _mm256_set1_epi64x((long long)question[w]));
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(bytes_set(x), zero));
    }
    return sum;
}

/* out[q]: the smallest lane of least[q]; the upper halves of lanes are zero. */
INLINE void store_least(uint32_t *out, const __m256i least[4]) {
    __m256i first = _mm256_or_si256(least[0], _mm256_slli_epi64(least[1], 32));
    __m256i second = _mm256_or_si256(least[2], _mm256_slli_epi64(least[3], 32));
    __m256i fours = _mm256_min_epu32(_mm256_unpacklo_epi64(first, second),
                                     _mm256_unpackhi_epi64(first, second));
    _mm_storeu_si128((__m128i *)out, _mm_min_epu32(_mm256_castsi256_si128(fours),
                                                   _mm256_extracti128_si256(fours, 1)));
}

INLINE void nearest_of(uint32_t *out, const uint64_t *question, int n, int n_words,
                       const uint64_t *signs, int n_groups, int n_items) {
    for (int i = 0; i < n_items; i++, out += n) {
        __m256i least[QUERIES];
        UNROLLED
        for (int q = 0; q < QUERIES; q++)
            least[q] = _mm256_set1_epi64x(UINT32_MAX);
        for (int g = 0; g < n_groups; g++, signs += n_words * 8) {
            UNROLLED
            for (int q = 0; q < QUERIES; q++) {
                const uint64_t *words = question + (size_t)q * (size_t)n_words;
                least[q] = _mm256_min_epu32(least[q], distances(signs, words, n_words));
                least[q] = _mm256_min_epu32(least[q], distances(signs + 4, words, n_words));
            }
        }
        store_least(out, least);
    }
}

static void nearest(uint32_t *out, const uint64_t *question, int n, int n_words,
                    const uint64_t *signs, int n_groups, int n_items) {
    for (int q = 0; q < n; q += QUERIES) {
        const uint64_t *words = question + (size_t)q * (size_t)n_words;
        if (n_words == 2)
            nearest_of(out + q, words, n, 2, signs, n_groups, n_items);
        else
            nearest_of(out + q, words, n, n_words, signs, n_groups, n_items);
    }
}

/* ---- rows -------------------------------------------------------------------------------------
 */

static int32_t total(__m256i sum) {
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

static void avx2_dot_rows(float *scores, const struct maxsim_query *query, const uint8_t *rows,
                          size_t stride, int64_t n_rows) {
    for (int64_t i = 0; i < n_rows; i++, rows += stride) {
        __m256i even = _mm256_setzero_si256(), odd = even;
        for (int d = 0; d < query->code_dim; d += 32) {
            __m256i x = load(rows + d), y = load(query->rows + d);
            even = _mm256_add_epi32(even, _mm256_madd_epi16(even_of(x), even_of(y)));
            odd = _mm256_add_epi32(odd, _mm256_madd_epi16(odd_of(x), odd_of(y)));
        }
        float scale;
        memcpy(&scale, rows + query->code_dim, sizeof scale);
        scores[i] = (float)total(_mm256_add_epi32(even, odd)) * scale * query->scales[0];
    }
}

void cpu_codes_avx2(struct cpu_codes *kernels) {
    kernels->name = "avx2";
    kernels->signs_name = "avx2";
    kernels->pack = pack;
    kernels->pack_step = QUERIES;
    kernels->pack_bytes = STEP_BYTES / 4;
    kernels->lanes = lanes;
    kernels->largest = largest;
    kernels->nearest = nearest;
    kernels->dot_rows = avx2_dot_rows;
}
