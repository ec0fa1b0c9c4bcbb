/* Every kernel over rows × instruction set, against the same in double precision: odd sizes, values
 * at their worst, guard bytes on both sides. `--bench` prints nanoseconds a thousand elements. */
#include "guarded.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const int sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 72, 128, 255, 1000, 4304};

static const struct cpu_rows *kernels;
static const char *set_name;

#define check_near(got, expected, bound, what, i)                                                  \
    do {                                                                                           \
        double got_ = (double)(got), expected_ = (expected);                                       \
        if (!(fabs(got_ - expected_) <= (bound)))                                                  \
            fail_msg("%s, %s: [%lld] is %.9g, not %.9g within %.3g", set_name, what,               \
                     (long long)(i), got_, expected_, (double)(bound));                            \
    } while (0)

static double exact_activated(double x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_GELU_ERF:
        return 0.5 * x * erfc(-x * M_SQRT1_2);
    case ACTIVATION_GELU_TANH:
        return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    return x;
}

/* What activations promise: 3e-7, and half a unit in the last place of x. */
static double activation_bound(double x) {
    return 3e-7 + 0x1p-24 * fabs(x);
}

static void fill(float *x, size_t n, float size, uint64_t seed) {
    for (size_t i = 0; i < n; i++)
        x[i] = size * random_normal(&seed);
}

static void test_activate(void **state) {
    (void)state;
    const float edges[] = {0,    -0.0f, 1e-30f, -1e-30f, 14,    -14,    10,    -10,    9.99f,
                           20,   -20,   88,     -88,     1e4f,  -1e4f,  1e30f, -1e30f, FLT_MAX,
                           3.5f, -3.5f, 0.8f,   -0.75f,  1e-5f, -1e-5f, -5.5f, -13.2f, FLT_MIN};
    for (int activation = ACTIVATION_NONE; activation <= ACTIVATION_GELU_TANH; activation++) {
        for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
            struct guarded x = guarded_new((size_t)sizes[s]);
            fill(x.x, x.n, 4, 1 + s);
            for (size_t i = 0; i < x.n && i < BASE_COUNT(edges); i++)
                x.x[i] = edges[(i + s) % BASE_COUNT(edges)];
            float *before = malloc(x.n * sizeof *before);
            memcpy(before, x.x, x.n * sizeof *before);
            kernels->activate(x.x, sizes[s], (enum activation)activation);
            for (size_t i = 0; i < x.n; i++) {
                double exact = exact_activated((double)before[i], (enum activation)activation);
                check_near(x.x[i], exact, activation_bound((double)before[i]), "activate", i);
            }
            assert_true(guarded_is_whole(&x));
            free(before);
            guarded_free(&x);
        }
    }
}

/* From -12 to 12 in steps of 1e-5: the stated bound everywhere. */
static void test_activate_everywhere(void **state) {
    (void)state;
    enum { N = 2400001 };
    float *x = malloc(N * sizeof *x);
    for (int activation = ACTIVATION_GELU_ERF; activation <= ACTIVATION_GELU_TANH; activation++) {
        for (int i = 0; i < N; i++)
            x[i] = (float)(-12 + 1e-5 * i);
        kernels->activate(x, N, (enum activation)activation);
        double worst = 0;
        for (int i = 0; i < N; i++) {
            float at = (float)(-12 + 1e-5 * i);
            double error = fabs((double)x[i] -
                                exact_activated((double)at, (enum activation)activation));
            double ratio = error / activation_bound((double)at);
            worst = ratio > worst ? ratio : worst;
        }
        print_message("%s activation %d: worst error %.2f of its bound\n", set_name, activation,
                      worst);
        assert_true(worst <= 1);
    }
    free(x);
}

static void test_activate_no_number(void **state) {
    (void)state;
    for (int activation = ACTIVATION_GELU_ERF; activation <= ACTIVATION_GELU_TANH; activation++) {
        float x[20];
        for (int i = 0; i < 20; i++)
            x[i] = i % 2 ? NAN : INFINITY;
        kernels->activate(x, 20, (enum activation)activation);
        for (int i = 0; i < 20; i++)
            assert_true(i % 2 ? isnan(x[i]) : isinf(x[i]) && x[i] > 0);
    }
}

static void test_gate(void **state) {
    (void)state;
    for (int activation = ACTIVATION_NONE; activation <= ACTIVATION_GELU_TANH; activation++) {
        for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
            struct guarded x = guarded_new((size_t)sizes[s]), up = guarded_new((size_t)sizes[s]);
            float before[4304];
            fill(x.x, x.n, 3, 7 + s);
            fill(up.x, up.n, 5, 8 + s);
            memcpy(before, x.x, x.n * sizeof *before);
            kernels->gate(x.x, up.x, sizes[s], (enum activation)activation);
            for (size_t i = 0; i < x.n; i++) {
                double exact = exact_activated((double)before[i], (enum activation)activation);
                double bound = activation_bound((double)before[i]) * fabs((double)up.x[i]) +
                               0x1p-24 * fabs(exact * (double)up.x[i]);
                check_near(x.x[i], exact * (double)up.x[i], bound, "gate", i);
            }
            assert_true(guarded_is_whole(&x) && guarded_is_whole(&up));
            guarded_free(&x);
            guarded_free(&up);
        }
    }
}

/* Rows that are hard to normalise: one large value, a large mean, all the same, tiny, huge. */
enum { N_HARD = 6 };
static void fill_hard(float *x, size_t n, int hard, uint64_t seed) {
    fill(x, n, 1, seed);
    for (size_t i = 0; i < n; i++) {
        if (hard == 1)
            x[i] = i == n / 2 ? 3e4f : x[i];
        else if (hard == 2)
            x[i] += 1e6f;
        else if (hard == 3)
            x[i] = 0.3f;
        else if (hard == 4)
            x[i] *= 1e-20f;
        else if (hard == 5)
            x[i] *= 1e25f;
    }
}

static void test_norms(void **state) {
    (void)state;
    for (size_t s = 0; s < BASE_COUNT(sizes) * N_HARD; s++) {
        int n = sizes[s / N_HARD], hard = (int)(s % N_HARD);
        struct guarded in = guarded_new((size_t)n), out = guarded_new((size_t)n);
        struct guarded gain = guarded_new((size_t)n), bias = guarded_new((size_t)n);
        fill_hard(in.x, in.n, hard, s);
        fill(gain.x, gain.n, 2, 100 + s);
        fill(bias.x, bias.n, 2, 200 + s);
        double mean = 0, variance = 0, squares = 0;
        for (int i = 0; i < n; i++) {
            mean += (double)in.x[i];
            squares += (double)in.x[i] * (double)in.x[i] / n;
        }
        mean /= n;
        for (int i = 0; i < n; i++)
            variance += ((double)in.x[i] - mean) * ((double)in.x[i] - mean) / n;

        kernels->layer_norm(out.x, in.x, n, gain.x, bias.x, 1e-6f);
        for (int i = 0; i < n; i++) {
            double normal = ((double)in.x[i] - mean) / sqrt(variance + 1e-6);
            double scaled = normal * (double)gain.x[i];
            check_near(out.x[i], scaled + (double)bias.x[i],
                       3e-7 * (fabs(scaled) + fabs((double)bias.x[i])) + 1e-9, "layer norm", i);
        }
        kernels->rms_norm(out.x, in.x, n, gain.x, 1e-6f);
        for (int i = 0; i < n; i++) {
            double scaled = (double)in.x[i] / sqrt(squares + 1e-6) * (double)gain.x[i];
            check_near(out.x[i], scaled, 3e-7 * fabs(scaled) + 1e-30, "rms norm", i);
        }
        float first = out.x[0];
        kernels->rms_norm(in.x, in.x, n, gain.x, 1e-6f); /* out may be in */
        assert_true(in.x[0] == first);
        assert_true(guarded_is_whole(&in) && guarded_is_whole(&out));
        guarded_free(&in);
        guarded_free(&out);
        guarded_free(&gain);
        guarded_free(&bias);
    }
}

static void test_sums(void **state) {
    (void)state;
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        int n = sizes[s];
        struct guarded a = guarded_new((size_t)n), b = guarded_new((size_t)n);
        for (int size = 0; size < 3; size++) {
            float before[4304];
            fill(a.x, a.n, size == 2 ? 1e30f : 1, s);
            fill(b.x, b.n, size ? 1e-15f : 1, s + 1);
            memcpy(before, a.x, a.n * sizeof *before);
            double exact = 0, magnitude = 0;
            for (int i = 0; i < n; i++) {
                exact += (double)a.x[i] * (double)b.x[i];
                magnitude += fabs((double)a.x[i] * (double)b.x[i]);
            }
            check_near(kernels->dot(a.x, b.x, n), exact, 1e-13 * magnitude, "dot", 0);
            kernels->add(a.x, b.x, n);
            for (int i = 0; i < n; i++)
                assert_true(a.x[i] == before[i] + b.x[i]);
            memcpy(a.x, before, a.n * sizeof *before);
            kernels->scale(a.x, -0.37f, n);
            for (int i = 0; i < n; i++)
                assert_true(a.x[i] == before[i] * -0.37f);
        }
        assert_true(guarded_is_whole(&a) && guarded_is_whole(&b));
        guarded_free(&a);
        guarded_free(&b);
    }
}

static void test_rope(void **state) {
    (void)state;
    for (size_t s = 0; s < BASE_COUNT(sizes) && sizes[s] <= 1000; s++) {
        int half = sizes[s];
        struct guarded x = guarded_new(2 * (size_t)half);
        float before[2000], cosines[1000], sines[1000];
        fill(x.x, x.n, 3, s);
        memcpy(before, x.x, x.n * sizeof *before);
        for (int i = 0; i < half; i++) {
            cosines[i] = (float)cos(0.1 + i);
            sines[i] = (float)sin(0.1 + i);
        }
        kernels->rope(x.x, cosines, sines, half);
        for (int i = 0; i < half; i++) {
            double a = (double)before[i], b = (double)before[half + i];
            double c = (double)cosines[i], d = (double)sines[i];
            check_near(x.x[i], a * c - b * d, 2e-7 * (fabs(a) + fabs(b)), "rope", i);
            check_near(x.x[half + i], b * c + a * d, 2e-7 * (fabs(a) + fabs(b)), "rope", i);
        }
        assert_true(guarded_is_whole(&x));
        guarded_free(&x);
    }
}

static float bench_data[3][16384];

/* Picoseconds an element. What is worked on is copied afresh each time, lest it become denormal. */
static double bench_one(int what) {
    float *x = bench_data[0], *y = bench_data[1], *fresh = bench_data[2];
    enum { N = 2048, ROUNDS = 2000 };
    double best = INFINITY;
    fill(y, 16384, 1, 2);
    fill(fresh, 16384, 1, 1);
    for (int turn = 0; turn < 5; turn++) {
        double start = seconds_spent();
        for (int i = 0; i < ROUNDS; i++) {
            float *out = x + i % 8 * N;
            memcpy(out, fresh, N * sizeof *out);
            if (what == 0)
                kernels->activate(out, N, ACTIVATION_GELU_ERF);
            else if (what == 1)
                kernels->gate(out, y, N, ACTIVATION_GELU_TANH);
            else if (what == 2)
                kernels->layer_norm(out, out, N, y, y, 1e-6f);
            else if (what == 3)
                kernels->rms_norm(out, out, N, y, 1e-6f);
            else if (what == 4)
                kernels->add(out, y, N);
            else if (what == 5)
                kernels->rope(out, y, y + N, N / 2);
            else
                x[i] += (float)kernels->dot(out, y, N);
        }
        double seconds = seconds_spent() - start;
        best = seconds < best ? seconds : best;
    }
    return best / ROUNDS / N * 1e12;
}

static void bench(void) {
    static const char *const names[] = {"gelu erf", "gate tanh", "layer norm", "rms norm",
                                        "add",      "rope",      "dot"};
    for (int i = 0; i < (int)BASE_COUNT(names); i++)
        printf("%-8s %-10s %8.1f ns a thousand\n", set_name, names[i], bench_one(i));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activate),
        cmocka_unit_test(test_activate_everywhere),
        cmocka_unit_test(test_activate_no_number),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_rope),
    };
    struct instruction_set sets[5];
    int n_sets = instruction_sets(sets), failed = 0;
    for (int i = 0; i < n_sets; i++) {
        kernels = cpu_rows_for(sets[i].features);
        set_name = sets[i].name;
        if (i > 0 && kernels == cpu_rows_for(sets[i - 1].features))
            continue;
        if (argc > 1 && strcmp(argv[1], "--bench") == 0)
            bench();
        else
            failed += cmocka_run_group_tests_name(set_name, tests, NULL, NULL);
    }
    return failed ? 1 : 0;
}
