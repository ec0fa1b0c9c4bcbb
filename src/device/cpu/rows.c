/* Kernels over rows of activations in plain C, and the choice of the table in use.
 *
 * Sums over a row are in double precision, so that a row of large or nearly equal values loses
 * nothing: they are read from memory once, and that is what costs.
 *
 * GELU: x Φ(x), Φ the normal distribution (Hendrycks & Gimpel 2016); its tanh form is
 * x σ(2 √(2/π) (x + 0.044715 x³)), because (1 + tanh u) / 2 = σ(2u). */
#include "device/cpu/rows.h"

#include <assert.h>
#include <math.h>

static float gelu_erf(float x) {
    return 0.5f * x * erfcf(-x * (float)M_SQRT1_2);
}

static float gelu_tanh(float x) {
    /* The cube of a large x is infinite; past 20 the value is x or 0 to the last bit. */
    float clamped = fmaxf(-20, fminf(20, x));
    float u = (float)(2 * M_SQRT2 / 1.7724538509055160273) *
              (clamped + 0.044715f * clamped * clamped * clamped);
    float e = expf(-fabsf(u));
    return (u >= 0 ? x : x * e) / (1 + e);
}

static float activated(float x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_GELU_ERF:
        return gelu_erf(x);
    case ACTIVATION_GELU_TANH:
        return gelu_tanh(x);
    }
    return x;
}

static void plain_activate(float *x, int64_t n, enum activation activation) {
    for (int64_t i = 0; i < n; i++)
        x[i] = activated(x[i], activation);
}

static void plain_gate(float *gate, const float *up, int64_t n, enum activation activation) {
    for (int64_t i = 0; i < n; i++)
        gate[i] = activated(gate[i], activation) * up[i];
}

static void plain_layer_norm(float *out, const float *in, int n, const float *gain,
                             const float *bias, float epsilon) {
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++)
        sum += (double)in[i];
    double mean = sum / n;
    for (int i = 0; i < n; i++)
        squares += ((double)in[i] - mean) * ((double)in[i] - mean);
    double factor = 1 / sqrt(squares / n + (double)epsilon);
    for (int i = 0; i < n; i++)
        out[i] = (float)(((double)in[i] - mean) * factor) * gain[i] + bias[i];
}

static void plain_rms_norm(float *out, const float *in, int n, const float *gain, float epsilon) {
    double squares = 0;
    for (int i = 0; i < n; i++)
        squares += (double)in[i] * (double)in[i];
    double factor = 1 / sqrt(squares / n + (double)epsilon);
    for (int i = 0; i < n; i++)
        out[i] = (float)((double)in[i] * factor) * gain[i];
}

static void plain_add(float *out, const float *in, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] += in[i];
}

static void plain_scale(float *out, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] *= factor;
}

static void plain_rope(float *x, const float *cosines, const float *sines, int half) {
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosines[i] - b * sines[i];
        x[i + half] = b * cosines[i] + a * sines[i];
    }
}

static double plain_dot(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static const struct cpu_rows plain = {
    .activate = plain_activate,
    .gate = plain_gate,
    .layer_norm = plain_layer_norm,
    .rms_norm = plain_rms_norm,
    .add = plain_add,
    .scale = plain_scale,
    .rope = plain_rope,
    .dot = plain_dot,
};

const struct cpu_rows *cpu_rows_for(unsigned features) {
#if defined(__x86_64__)
    if (features & CPU_AVX512)
        return &cpu_rows_avx512;
    if (features & CPU_AVX2)
        return &cpu_rows_avx2;
#endif
    (void)features;
    return &plain;
}
