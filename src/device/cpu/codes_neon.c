/* MaxSim over codes and over signs in NEON without the dot product of fours. Products have 16 bits:
 * a code is at most 128 and an element of the question 127, so two of them may be added there. */
#include "device/cpu/codes_neon_decode.h"

#define QUERIES 2

/* Two steps of four dimensions at a time. Sums hold two lanes a vector until the end. */
INLINE void multiply(code_lanes *lanes, const int8_t *rows, size_t row_bytes, const int8_t *codes,
                     const uint16_t *scales, int n_steps, int n) {
    int32x4_t low[QUERIES][4], high[QUERIES][4];
    UNROLLED
    for (int q = 0; q < n; q++) {
        UNROLLED
        for (int v = 0; v < 4; v++)
            low[q][v] = high[q][v] = vdupq_n_s32(0);
    }
    for (int step = 0; step < n_steps; step += 2, codes += 128, rows += 8) {
        UNROLLED
        for (int q = 0; q < n; q++) {
            int8x16_t first = broadcast(rows + (size_t)q * row_bytes);
            int8x16_t second = broadcast(rows + (size_t)q * row_bytes + 4);
            UNROLLED
            for (int v = 0; v < 4; v++) {
                int8x16_t a = vld1q_s8(codes + v * 16), b = vld1q_s8(codes + 64 + v * 16);
                int16x8_t x = vmull_s8(vget_low_s8(a), vget_low_s8(first));
                int16x8_t y = vmull_high_s8(a, first);
                x = vmlal_s8(x, vget_low_s8(b), vget_low_s8(second));
                y = vmlal_high_s8(y, b, second);
                low[q][v] = vpadalq_s16(low[q][v], x);
                high[q][v] = vpadalq_s16(high[q][v], y);
            }
        }
    }
    UNROLLED
    for (int q = 0; q < n; q++) {
        UNROLLED
        for (int v = 0; v < 4; v++)
            raise(lanes[q] + v * 4, vpaddq_s32(low[q][v], high[q][v]), scales + v * 4);
    }
}

INLINE int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b) {
    int16x8_t x = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    return vpadalq_s16(sum, vmlal_high_s8(x, a, b));
}

#include "device/cpu/codes_neon.h"

static void largest(float *out, const code_lanes *best, int n) {
    for (int q = 0; q < n; q++) {
        const float *row = best[q];
        out[q] = vmaxvq_f32(vmaxq_f32(vmaxq_f32(vld1q_f32(row), vld1q_f32(row + 4)),
                                      vmaxq_f32(vld1q_f32(row + 8), vld1q_f32(row + 12))));
    }
}

/* ---- signs ------------------------------------------------------------------------------------
 */

#define WORDS_AT_ONCE 30 /* a byte's count, at most 8 a word, stays within 8 bits */

/* Distances of eight vectors, two in a register of 64-bit lanes. */
INLINE void distances(uint64x2_t out[4], const uint64_t *signs, const uint64_t *question,
                      int n_words) {
    UNROLLED
    for (int v = 0; v < 4; v++)
        out[v] = vdupq_n_u64(0);
    for (int first = 0; first < n_words; first += WORDS_AT_ONCE) {
        int end = n_words - first < WORDS_AT_ONCE ? n_words : first + WORDS_AT_ONCE;
        uint8x16_t bytes[4];
        UNROLLED
        for (int v = 0; v < 4; v++)
            bytes[v] = vdupq_n_u8(0);
        for (int w = first; w < end; w++) {
            uint64x2_t other = vdupq_n_u64(question[w]);
            UNROLLED
            for (int v = 0; v < 4; v++) {
                uint64x2_t differ = veorq_u64(vld1q_u64(signs + w * 8 + v * 2), other);
                bytes[v] = vaddq_u8(bytes[v], vcntq_u8(vreinterpretq_u8_u64(differ)));
            }
        }
        UNROLLED
        for (int v = 0; v < 4; v++)
            out[v] = vaddq_u64(out[v], vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes[v]))));
    }
}

INLINE uint32x4_t halves(uint64x2_t x) {
    return vreinterpretq_u32_u64(x);
}

INLINE void nearest_of(uint32_t *out, const uint64_t *question, int n, int n_words,
                       const uint64_t *signs, int n_groups, int n_items) {
    for (int i = 0; i < n_items; i++, out += n, signs += (size_t)n_groups * (size_t)n_words * 8) {
        for (int q = 0; q < n; q++) {
            uint32x4_t least = vdupq_n_u32(UINT32_MAX);
            for (int g = 0; g < n_groups; g++) {
                uint64x2_t of[4];
                distances(of, signs + (size_t)g * (size_t)n_words * 8,
                          question + (size_t)q * (size_t)n_words, n_words);
                /* The upper halves of lanes are zero: two registers become one. */
                uint32x4_t first = vuzp1q_u32(halves(of[0]), halves(of[1]));
                uint32x4_t second = vuzp1q_u32(halves(of[2]), halves(of[3]));
                least = vminq_u32(least, vminq_u32(first, second));
            }
            out[q] = vminvq_u32(least);
        }
    }
}

static void nearest(uint32_t *out, const uint64_t *question, int n, int n_words,
                    const uint64_t *signs, int n_groups, int n_items) {
    if (n_words == 2)
        nearest_of(out, question, n, 2, signs, n_groups, n_items);
    else
        nearest_of(out, question, n, n_words, signs, n_groups, n_items);
}

void cpu_codes_neon(struct cpu_codes *kernels) {
    kernels->name = "neon";
    kernels->signs_name = "neon";
    kernels->lanes = lanes;
    kernels->largest = largest;
    kernels->nearest = nearest;
    kernels->dot_rows = neon_dot_rows;
}
