/* Codes of 4, 2 and 1 bits to int8 in NEON, and sums to values. */
#ifndef DOCUSEARCH_DEVICE_CPU_CODES_NEON_DECODE_H
#define DOCUSEARCH_DEVICE_CPU_CODES_NEON_DECODE_H

#include "device/cpu/codes.h"
#include "device/cpu/vector.h"

#include <arm_neon.h>
#include <string.h>

/* 64 elements to int8. Loads and stores in fours and twos put neighbours where they belong. */
INLINE void decode_step(int8_t *out, const uint8_t *codes, int8x16_t levels, int bits) {
    if (bits == 4) {
        for (int half = 0; half < 2; half++) {
            uint8x16_t x = vld1q_u8(codes + half * 16);
            int8x16x2_t pair = {{vqtbl1q_s8(levels, vandq_u8(x, vdupq_n_u8(15))),
                                 vqtbl1q_s8(levels, vshrq_n_u8(x, 4))}};
            vst2q_s8(out + half * 32, pair);
        }
        return;
    }
    if (bits == 2) {
        uint8x16_t x = vld1q_u8(codes), mask = vdupq_n_u8(3);
        int8x16x4_t four = {{vqtbl1q_s8(levels, vandq_u8(x, mask)),
                             vqtbl1q_s8(levels, vandq_u8(vshrq_n_u8(x, 2), mask)),
                             vqtbl1q_s8(levels, vandq_u8(vshrq_n_u8(x, 4), mask)),
                             vqtbl1q_s8(levels, vshrq_n_u8(x, 6))}};
        vst4q_s8(out, four);
        return;
    }
    const uint8x16_t bit_of = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const int8x16_t low = vdupq_laneq_s8(levels, 0), high = vdupq_laneq_s8(levels, 1);
    for (int i = 0; i < 4; i++) {
        uint8x16_t x = vcombine_u8(vdup_n_u8(codes[i * 2]), vdup_n_u8(codes[i * 2 + 1]));
        vst1q_s8(out + i * 16, vbslq_s8(vtstq_u8(x, bit_of), high, low));
    }
}

INLINE void decode_bits(int8_t *out, const uint8_t *codes, int n_steps, int bits) {
    int8_t table[16] = {0};
    memcpy(table, codes_levels(bits), (size_t)1 << bits);
    int8x16_t levels = vld1q_s8(table);
    for (int step = 0; step < n_steps; step++)
        decode_step(out + step * 64, codes + step * 8 * bits, levels, bits);
}

static const int8_t *decode(int8_t *out, const uint8_t *codes, int n_steps, int bits) {
    if (bits == 8)
        return (const int8_t *)codes;
    if (bits == 4)
        decode_bits(out, codes, n_steps, 4);
    else if (bits == 2)
        decode_bits(out, codes, n_steps, 2);
    else
        decode_bits(out, codes, n_steps, 1);
    return out;
}

/* Four lanes. */
INLINE void raise(float *lanes, int32x4_t sum, const uint16_t *scales) {
    float32x4_t scale = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(scales), 16));
    vst1q_f32(lanes, vmaxq_f32(vmulq_f32(vcvtq_f32_s32(sum), scale), vld1q_f32(lanes)));
}

/* Four elements of a question vector, four times. */
INLINE int8x16_t broadcast(const int8_t *row) {
    int32_t four;
    memcpy(&four, row, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

#endif
