/* The kernels of rows.h, written in vectors of any width: included once by rows_avx2.c and once by
 * rows_avx512.c, each after its vector_….h.
 *
 * exp: argument reduction of Cody & Waite (1980), x = n ln 2 + r with ln 2 in two parts, and a
 * polynomial of degree 6 in r; the normal distribution's tail in the form of Hastings (1955; see
 * Abramowitz & Stegun 26.2.17): Φ(-a) = e^(-a²/2) p(1 / (1 + 0.34 a)). The coefficients are fits
 * of tests/kernel/fit_polynomials.py: 3.1e-9 relative for exp's polynomial, and 4.8e-8 for a Φ(-a).
 * Both forms of GELU are max(x, 0) less a tail that is largest near 0.8 and below 0.17, so that
 * they are within 3e-7 and half a unit in the last place of x. */
#ifndef DOCUSEARCH_DEVICE_CPU_ROWS_VECTOR_H
#define DOCUSEARCH_DEVICE_CPU_ROWS_VECTOR_H

#include "device/cpu/rows.h"

#include <math.h>

/* Relative error 2e-7 where the result is a normal number; 0 below. */
INLINE vec vec_exp(vec x) {
    x = vec_max(vec_set(-105), vec_min(vec_set(89), x));
    vec n = vec_round(vec_mul(x, vec_set((float)M_LOG2E)));
    vec r = vec_fnma(n, vec_set(0x1.62e400p-1f), x);
    r = vec_fnma(n, vec_set(0x1.7f7d1cp-20f), r);
    vec p = vec_fma(vec_set(0.00138144672f), r, vec_set(0.00836878084f));
    p = vec_fma(p, r, vec_set(0.0416683927f));
    p = vec_fma(p, r, vec_set(0.166665196f));
    p = vec_fma(p, r, vec_set(0.49999994f));
    p = vec_fma(p, r, vec_set(1));
    return vec_ldexp(vec_fma(p, r, vec_set(1)), n);
}

INLINE vec vec_gelu_erf(vec x) {
    vec a = vec_min(vec_set(14), vec_abs(x)); /* the tail is nothing there */
    vec t = vec_reciprocal(vec_fma(a, vec_set(0.34f), vec_set(1)));
    vec p = vec_fma(vec_set(-0.106402978f), t, vec_set(0.330974907f));
    p = vec_fma(p, t, vec_set(-0.0401500799f));
    p = vec_fma(p, t, vec_set(0.186241612f));
    p = vec_mul(vec_fma(p, t, vec_set(0.129334211f)), t);
    vec tail = vec_mul(vec_mul(a, p), vec_exp(vec_mul(vec_mul(a, a), vec_set(-0.5f))));
    return vec_sub(vec_max(vec_set(0), x), tail);
}

INLINE vec vec_gelu_tanh(vec x) {
    vec a = vec_min(vec_set(10), vec_abs(x));
    vec u = vec_fma(vec_mul(vec_mul(a, a), a), vec_set(0.044715f), a);
    vec e = vec_exp(vec_mul(u, vec_set(-1.5957691216057308f))); /* -2 √(2/π) */
    vec tail = vec_mul(vec_mul(a, e), vec_reciprocal(vec_add(e, vec_set(1))));
    return vec_sub(vec_max(vec_set(0), x), tail);
}

INLINE vec vec_activated(vec x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_GELU_ERF:
        return vec_gelu_erf(x);
    case ACTIVATION_GELU_TANH:
        return vec_gelu_tanh(x);
    }
    return x;
}

INLINE void activate_as(float *x, int64_t n, enum activation activation) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(x + i, vec_activated(vec_load(x + i), activation));
    int left = (int)(n - i);
    if (left)
        vec_store_some(x + i, vec_activated(vec_load_some(x + i, left), activation), left);
}

static void activate(float *x, int64_t n, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_GELU_ERF:
        activate_as(x, n, ACTIVATION_GELU_ERF);
        break;
    case ACTIVATION_GELU_TANH:
        activate_as(x, n, ACTIVATION_GELU_TANH);
        break;
    }
}

INLINE void gate_as(float *gates, const float *up, int64_t n, enum activation activation) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(gates + i,
                  vec_mul(vec_activated(vec_load(gates + i), activation), vec_load(up + i)));
    int left = (int)(n - i);
    if (left) {
        vec x = vec_activated(vec_load_some(gates + i, left), activation);
        vec_store_some(gates + i, vec_mul(x, vec_load_some(up + i, left)), left);
    }
}

static void gate(float *gates, const float *up, int64_t n, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        gate_as(gates, up, n, ACTIVATION_NONE);
        break;
    case ACTIVATION_GELU_ERF:
        gate_as(gates, up, n, ACTIVATION_GELU_ERF);
        break;
    case ACTIVATION_GELU_TANH:
        gate_as(gates, up, n, ACTIVATION_GELU_TANH);
        break;
    }
}

/* The mean comes in two parts, so that nearly equal large values keep their differences. */
INLINE vec centred(vec x, vec mean, vec mean_rest) {
    return vec_sub(vec_sub(x, mean), mean_rest);
}

static void layer_norm(float *out, const float *in, int n, const float *gain, const float *bias,
                       float epsilon) {
    int whole = n / LANES * LANES, left = n - whole;
    sums sum = sums_zero(), squares = sums_zero();
    for (int i = 0; i < whole; i += LANES)
        sum = sums_add(sum, vec_load(in + i));
    if (left)
        sum = sums_add(sum, vec_load_some(in + whole, left));
    double exact = sums_total(sum) / n;
    vec mean = vec_set((float)exact), rest = vec_set((float)(exact - (double)(float)exact));
    for (int i = 0; i < whole; i += LANES) {
        vec x = centred(vec_load(in + i), mean, rest);
        squares = sums_fma(squares, x, x);
    }
    if (left) {
        vec x = vec_first(centred(vec_load_some(in + whole, left), mean, rest), vec_set(0), left);
        squares = sums_fma(squares, x, x);
    }
    vec factor = vec_set((float)(1 / sqrt(sums_total(squares) / n + (double)epsilon)));
    for (int i = 0; i < whole; i += LANES) {
        vec x = vec_mul(centred(vec_load(in + i), mean, rest), factor);
        vec_store(out + i, vec_fma(x, vec_load(gain + i), vec_load(bias + i)));
    }
    if (left) {
        vec x = vec_mul(centred(vec_load_some(in + whole, left), mean, rest), factor);
        x = vec_fma(x, vec_load_some(gain + whole, left), vec_load_some(bias + whole, left));
        vec_store_some(out + whole, x, left);
    }
}

static double dot(const float *a, const float *b, int n) {
    int i = 0;
    sums sum = sums_zero(), more = sums_zero(); /* two, that additions need not wait */
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        sum = sums_fma(sum, vec_load(a + i), vec_load(b + i));
        more = sums_fma(more, vec_load(a + i + LANES), vec_load(b + i + LANES));
    }
    if (i + LANES <= n) {
        sum = sums_fma(sum, vec_load(a + i), vec_load(b + i));
        i += LANES;
    }
    if (i < n)
        more = sums_fma(more, vec_load_some(a + i, n - i), vec_load_some(b + i, n - i));
    return sums_total(sum) + sums_total(more);
}

static void rms_norm(float *out, const float *in, int n, const float *gain, float epsilon) {
    vec factor = vec_set((float)(1 / sqrt(dot(in, in, n) / n + (double)epsilon)));
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(out + i, vec_mul(vec_mul(vec_load(in + i), factor), vec_load(gain + i)));
    int left = n - i;
    if (left) {
        vec x = vec_mul(vec_load_some(in + i, left), factor);
        vec_store_some(out + i, vec_mul(x, vec_load_some(gain + i, left)), left);
    }
}

static void add(float *out, const float *in, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(out + i, vec_add(vec_load(out + i), vec_load(in + i)));
    int left = (int)(n - i);
    if (left)
        vec_store_some(out + i, vec_add(vec_load_some(out + i, left), vec_load_some(in + i, left)),
                       left);
}

static void scale(float *out, float factor, int64_t n) {
    vec by = vec_set(factor);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(out + i, vec_mul(vec_load(out + i), by));
    int left = (int)(n - i);
    if (left)
        vec_store_some(out + i, vec_mul(vec_load_some(out + i, left), by), left);
}

static void rope(float *x, const float *cosines, const float *sines, int half) {
    int i = 0;
    for (; i + LANES <= half; i += LANES) {
        vec a = vec_load(x + i), b = vec_load(x + half + i);
        vec c = vec_load(cosines + i), s = vec_load(sines + i);
        vec_store(x + i, vec_fnma(b, s, vec_mul(a, c)));
        vec_store(x + half + i, vec_fma(a, s, vec_mul(b, c)));
    }
    int left = half - i;
    if (left) {
        vec a = vec_load_some(x + i, left), b = vec_load_some(x + half + i, left);
        vec c = vec_load_some(cosines + i, left), s = vec_load_some(sines + i, left);
        vec_store_some(x + i, vec_fnma(b, s, vec_mul(a, c)), left);
        vec_store_some(x + half + i, vec_fma(a, s, vec_mul(b, c)), left);
    }
}

#endif
