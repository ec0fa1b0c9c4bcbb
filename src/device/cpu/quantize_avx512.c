/* Rows to the precision of a product, and back, in AVX-512. */
#include "device/cpu/gemm_internal.h"
#include "device/cpu/vector_avx512.h"

#include <math.h>

#define VECTORS (GEMM_ROTATION / 16)
/* Rows follow each other in memory: floats that are fetched in advance. */
#define AHEAD 1024

static void copy_fp32(uint8_t *out, size_t stride, const float *in, int k, int n_units) {
    int unit = 0;
    for (; unit < k / 16; unit++, out += stride)
        _mm512_storeu_ps(out, _mm512_loadu_ps(in + unit * 16));
    for (; unit < n_units; unit++, out += stride)
        _mm512_storeu_ps(out, _mm512_maskz_loadu_ps(lanes_before(k - unit * 16), in + unit * 16));
}

/* To the nearest, ties to even; what is not a number stays so. */
static __m256i bf16_of(__m512 value) {
    __m512i bits = _mm512_castps_si512(value);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

static void round_bf16(uint8_t *out, size_t stride, const float *in, int k, int n_units) {
    for (int unit = 0; unit < n_units; unit++, out += stride) {
        int i = unit * 32;
        __m512 first = _mm512_maskz_loadu_ps(lanes_before(k - i), in + i);
        __m512 second = _mm512_maskz_loadu_ps(lanes_before(k - i - 16), in + i + 16);
        _mm256_storeu_si256((__m256i *)out, bf16_of(first));
        _mm256_storeu_si256((__m256i *)(out + 32), bf16_of(second));
    }
}

/* Sums and differences of elements that are partners within a vector; minus has -1 where an element
 * is the second of its pair. The product is exact, so it is rounded once, as the sum is. */
static inline __m512 rotate_within(__m512 x) {
    const __m512 one = _mm512_set1_ps(1), minus_one = _mm512_set1_ps(-1);
    __m512 minus = _mm512_mask_mov_ps(one, 0xaaaa, minus_one);
    x = _mm512_fmadd_ps(x, minus, _mm512_permute_ps(x, 0xb1));
    minus = _mm512_mask_mov_ps(one, 0xcccc, minus_one);
    x = _mm512_fmadd_ps(x, minus, _mm512_permute_ps(x, 0x4e));
    minus = _mm512_mask_mov_ps(one, 0xf0f0, minus_one);
    x = _mm512_fmadd_ps(x, minus, _mm512_shuffle_f32x4(x, x, 0xb1));
    minus = _mm512_mask_mov_ps(one, 0xff00, minus_one);
    return _mm512_fmadd_ps(x, minus, _mm512_shuffle_f32x4(x, x, 0x4e));
}

struct extremes {
    __m512 low, high;
    __mmask16 nan;
};

/* 128 elements, n of which are there. */
INLINE void rotate_block(float *out, const float *in, int n) {
    __m512 x[VECTORS];
    UNROLLED
    for (int v = 0; v < VECTORS; v++) {
        __m512i bits = _mm512_castps_si512(
            n >= GEMM_ROTATION ? _mm512_loadu_ps(in + v * 16)
                               : _mm512_maskz_loadu_ps(lanes_before(n - v * 16), in + v * 16));
        __mmask16 minus = (__mmask16)cpu_gemm_signs[v];
        bits = _mm512_mask_xor_epi32(bits, minus, bits, _mm512_set1_epi32(INT32_MIN));
        x[v] = rotate_within(_mm512_castsi512_ps(bits));
    }
    UNROLLED
    for (int distance = 1; distance < VECTORS; distance *= 2) {
        UNROLLED
        for (int v = 0; v < VECTORS; v++) {
            if (v & distance)
                continue;
            __m512 a = x[v], b = x[v + distance];
            x[v] = _mm512_add_ps(a, b);
            x[v + distance] = _mm512_sub_ps(a, b);
        }
    }
    UNROLLED
    for (int v = 0; v < VECTORS; v++)
        _mm512_storeu_ps(out + v * 16, x[v]);
}

/* n blocks of 128, rotated each, among themselves. */
INLINE void rotate_blocks(float *x, int n, struct extremes *extremes) {
    for (int i = 0; i < GEMM_ROTATION; i += 16) {
        __m512 part[GEMM_MAX_ROTATION / GEMM_ROTATION];
        UNROLLED
        for (int block = 0; block < n; block++)
            part[block] = _mm512_loadu_ps(x + block * GEMM_ROTATION + i);
        UNROLLED
        for (int distance = 1; distance < n; distance *= 2) {
            UNROLLED
            for (int block = 0; block < n; block++) {
                if (block & distance)
                    continue;
                __m512 a = part[block], b = part[block + distance];
                part[block] = _mm512_add_ps(a, b);
                part[block + distance] = _mm512_sub_ps(a, b);
            }
        }
        UNROLLED
        for (int block = 0; block < n; block++) {
            extremes->low = _mm512_min_ps(extremes->low, part[block]);
            extremes->high = _mm512_max_ps(extremes->high, part[block]);
            extremes->nan |= _mm512_cmp_ps_mask(part[block], part[block], _CMP_UNORD_Q);
            if (n > 1)
                _mm512_storeu_ps(x + block * GEMM_ROTATION + i, part[block]);
        }
    }
}

static void rotate(float *out, const float *in, int k, int n_units, float *low, float *high) {
    struct extremes extremes = {_mm512_setzero_ps(), _mm512_setzero_ps(), 0};
    int together = cpu_gemm_rotation(n_units);
    for (int i = 0; i < n_units * 64; i += GEMM_ROTATION) {
        if (i + GEMM_ROTATION <= k) {
            UNROLLED
            for (int v = 0; v < VECTORS; v++)
                _mm_prefetch((const char *)(in + i + v * 16 + AHEAD), _MM_HINT_T0);
            rotate_block(out + i, in + i, GEMM_ROTATION);
        } else {
            rotate_block(out + i, in + i, k - i);
        }
        int end = i + GEMM_ROTATION;
        if (end % together)
            continue;
        if (together == 1024)
            rotate_blocks(out + end - together, 8, &extremes);
        else if (together == 512)
            rotate_blocks(out + end - together, 4, &extremes);
        else if (together == 256)
            rotate_blocks(out + end - together, 2, &extremes);
        else
            rotate_blocks(out + end - together, 1, &extremes);
    }
    *low = _mm512_reduce_min_ps(extremes.low);
    *high = extremes.nan ? NAN : _mm512_reduce_max_ps(extremes.high);
}

static void round_int8(uint8_t *out, size_t stride, const float *in, int n_units, float factor,
                       int zero) {
    __m512 by = _mm512_set1_ps(factor);
    __m512i plus = _mm512_set1_epi32(zero), most = _mm512_set1_epi32(255);
    for (int unit = 0; unit < n_units; unit++, out += stride, in += GEMM_UNIT) {
        UNROLLED
        for (int v = 0; v < 4; v++) {
            __m512i value = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(in + v * 16), by));
            value = _mm512_min_epi32(_mm512_add_epi32(value, plus), most);
            _mm_storeu_si128((__m128i *)(out + v * 16), _mm512_cvtepi32_epi8(value));
        }
    }
}

static inline void turn_unit(uint8_t *out, const uint8_t *in, size_t row_bytes) {
    __m512i groups[16];
    UNROLLED
    for (int r = 0; r < 16; r++)
        groups[r] = _mm512_loadu_si512(in + (size_t)r * row_bytes);
    transpose_16(groups);
    UNROLLED
    for (int g = 0; g < 16; g++)
        _mm512_storeu_si512(out + g * GEMM_UNIT, groups[g]);
}

static void turn(uint8_t *out, const uint8_t *in, int n_units) {
    size_t row_bytes = (size_t)n_units * GEMM_UNIT;
    for (int unit = 0; unit < n_units; unit++)
        turn_unit(out + (size_t)unit * GEMM_TILE, in + (size_t)unit * GEMM_UNIT, row_bytes);
}

static void scale_sums(float *out, const int32_t *in, int n, int32_t zero, float scale,
                       const int32_t *column_sums, const float *column_scales) {
    __m512i zeros = _mm512_set1_epi32(zero);
    __m512 scales = _mm512_set1_ps(scale);
    for (int i = 0; i < n; i += 16) {
        __mmask16 mask = lanes_before(n - i);
        __m512i column = _mm512_maskz_loadu_epi32(mask, column_sums + i);
        __m512i sum = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(mask, in + i),
                                       _mm512_mullo_epi32(zeros, column));
        __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales);
        _mm512_mask_storeu_ps(out + i, mask,
                              _mm512_mul_ps(value, _mm512_maskz_loadu_ps(mask, column_scales + i)));
    }
}

static void add(float *out, const float *in, const float *bias, const float *residual, int n) {
    for (int i = 0; i < n; i += 16) {
        __mmask16 mask = lanes_before(n - i);
        __m512 value = _mm512_maskz_loadu_ps(mask, in + i);
        if (bias)
            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, bias + i));
        if (residual)
            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, residual + i));
        _mm512_mask_storeu_ps(out + i, mask, value);
    }
}

/* The locked instruction that counts a part of a run as done also orders these stores. */
static void stream(float *out, const float *in, const float *bias, const float *residual, int n) {
    if ((uintptr_t)out % 64) {
        add(out, in, bias, residual, n);
        return;
    }
    int whole = n / 16 * 16;
    for (int i = 0; i < whole; i += 16) {
        __m512 value = _mm512_loadu_ps(in + i);
        if (bias)
            value = _mm512_add_ps(value, _mm512_loadu_ps(bias + i));
        if (residual)
            value = _mm512_add_ps(value, _mm512_loadu_ps(residual + i));
        _mm512_stream_ps(out + i, value);
    }
    if (whole < n)
        add(out + whole, in + whole, bias ? bias + whole : NULL, residual ? residual + whole : NULL,
            n - whole);
}

void cpu_gemm_rows_avx512(struct gemm_rows *rows) {
    *rows = (struct gemm_rows){
        .to_fp32 = copy_fp32,
        .to_bf16 = round_bf16,
        .rotate = rotate,
        .to_int8 = round_int8,
        .turn = turn,
        .scale_sums = scale_sums,
        .add = add,
        .stream = stream,
    };
}
