/* Loops of one multiply instruction with everything in registers: what a kernel is measured
 * against. */
#include "gemm.h"

#include <time.h>

#if defined(__x86_64__)

#include <immintrin.h>

#define N_SUMS 14 /* with the factors, all registers of AVX2 */
#define N_LOOPS 400000

/* This thread's own: other processes do not count. */
static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static volatile int32_t seed = 0x3f013e02;
static volatile int32_t sink;

/* Keeps the compiler from knowing what a vector holds. */
#define HIDE(vector) __asm__ volatile("" : "+v"(vector))

#define HIDE_EACH(a, b, c, d)                                                                      \
    HIDE(a);                                                                                       \
    HIDE(b);                                                                                       \
    HIDE(c);                                                                                       \
    HIDE(d)

/* Sums have names, so that compilers keep them in registers. */
#define VECTOR_LOOP(name, target_set, vector, set1, multiply, low)                                 \
    __attribute__((target(target_set), noinline)) static double name(double per_instruction) {     \
        vector a = set1(seed), b = set1(seed + 1);                                                 \
        vector s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a,     \
               s10 = a, s11 = a, s12 = a, s13 = a;                                                 \
        HIDE_EACH(s0, s1, s2, s3);                                                                 \
        HIDE_EACH(s4, s5, s6, s7);                                                                 \
        HIDE_EACH(s8, s9, s10, s11);                                                               \
        HIDE(s12);                                                                                 \
        HIDE(s13);                                                                                 \
        double start = seconds();                                                                  \
        for (int loop = 0; loop < N_LOOPS; loop++) {                                               \
            HIDE(a);                                                                               \
            HIDE(b);                                                                               \
            multiply(s0) multiply(s1) multiply(s2) multiply(s3) multiply(s4) multiply(s5)          \
                multiply(s6) multiply(s7) multiply(s8) multiply(s9) multiply(s10) multiply(s11)    \
                    multiply(s12) multiply(s13)                                                    \
        }                                                                                          \
        double taken = seconds() - start;                                                          \
        sink = low(s0) + low(s1) + low(s2) + low(s3) + low(s4) + low(s5) + low(s6) + low(s7) +     \
               low(s8) + low(s9) + low(s10) + low(s11) + low(s12) + low(s13);                      \
        return per_instruction * N_SUMS * N_LOOPS / taken;                                         \
    }

#define PS(x) _mm512_castsi512_ps(x)
#define PS2(x) _mm256_castsi256_ps(x)
#define LOW512(x) _mm_cvtsi128_si32(_mm512_castsi512_si128(x))
#define LOW256(x) _mm_cvtsi128_si32(_mm256_castsi256_si128(x))

#define AVX2_FP32(s) s = _mm256_castps_si256(_mm256_fmadd_ps(PS2(a), PS2(b), PS2(s)));
#define AVX512_FP32(s) s = _mm512_castps_si512(_mm512_fmadd_ps(PS(a), PS(b), PS(s)));
#define AVX512_BF16(s) s = _mm512_castps_si512(_mm512_dpbf16_ps(PS(s), (__m512bh)a, (__m512bh)b));
#define AVX512_VNNI(s) s = _mm512_dpbusd_epi32(s, a, b);

VECTOR_LOOP(avx2_fp32, "avx2,fma", __m256i, _mm256_set1_epi32, AVX2_FP32, LOW256)
VECTOR_LOOP(avx512_fp32, "avx512f", __m512i, _mm512_set1_epi32, AVX512_FP32, LOW512)
VECTOR_LOOP(avx512_bf16, "avx512f,avx512bf16", __m512i, _mm512_set1_epi32, AVX512_BF16, LOW512)
VECTOR_LOOP(avx512_vnni, "avx512f,avx512vnni", __m512i, _mm512_set1_epi32, AVX512_VNNI, LOW512)

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t n_rows[16];
};

/* Random data: tiles of zeros multiply faster than they do. */
#define TILE_LOOP(name, target_set, multiply)                                                      \
    __attribute__((target(target_set), noinline)) static double name(double per_instruction) {     \
        struct tile_config config = {.palette = 1};                                                \
        static uint8_t data[1024];                                                                 \
        uint32_t random = 1;                                                                       \
        for (int i = 0; i < 1024; i++)                                                             \
            data[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 25 | 0x3c);            \
        for (int i = 0; i < 8; i++) {                                                              \
            config.row_bytes[i] = 64;                                                              \
            config.n_rows[i] = 16;                                                                 \
        }                                                                                          \
        _tile_loadconfig(&config);                                                                 \
        _tile_zero(0);                                                                             \
        _tile_zero(1);                                                                             \
        _tile_zero(2);                                                                             \
        _tile_zero(3);                                                                             \
        _tile_loadd(4, data, 64);                                                                  \
        _tile_loadd(5, data, 64);                                                                  \
        _tile_loadd(6, data, 64);                                                                  \
        _tile_loadd(7, data, 64);                                                                  \
        double start = seconds();                                                                  \
        for (int loop = 0; loop < N_LOOPS / 8; loop++) {                                           \
            multiply(0, 4, 6);                                                                     \
            multiply(1, 4, 7);                                                                     \
            multiply(2, 5, 6);                                                                     \
            multiply(3, 5, 7);                                                                     \
        }                                                                                          \
        double taken = seconds() - start;                                                          \
        _tile_release();                                                                           \
        return per_instruction * 4 * (N_LOOPS / 8) / taken;                                        \
    }

TILE_LOOP(tiles_bf16, "amx-tile,amx-bf16", _tile_dpbf16ps)
TILE_LOOP(tiles_int8, "amx-tile,amx-int8", _tile_dpbusd)

double gemm_peak(unsigned features, enum precision precision) {
    bool fp32 = precision == PRECISION_FP32, bf16 = precision == PRECISION_BF16;
    bool int8 = precision == PRECISION_INT8;
    if (bf16 && features & CPU_AMX_BF16)
        return tiles_bf16(2.0 * 16 * 16 * 32);
    if (int8 && features & CPU_AMX_INT8)
        return tiles_int8(2.0 * 16 * 16 * 64);
    if (bf16 && features & CPU_AVX512_BF16)
        return avx512_bf16(64);
    if (int8 && features & CPU_AVX512_VNNI)
        return avx512_vnni(128);
    if (fp32 && features & CPU_AVX512)
        return avx512_fp32(32);
    if (fp32 && features & CPU_AVX2)
        return avx2_fp32(16);
    return 0;
}

#else

double gemm_peak(unsigned features, enum precision precision) {
    (void)features;
    (void)precision;
    return 0;
}

#endif
