/* Metrics: a few dozen families counted in memory and written in Prometheus' text format 0.0.4.
 *
 * Families and their series are kept in the order of first use and live as long as the process. A
 * family has at most MAX_SERIES label sets: further ones are not counted, as the log says once. */
#include "base/base.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define MAX_FAMILIES 128
#define MAX_SERIES 64

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const double bucket_seconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                        0.5,   1,      2.5,   5,    10,    30,   60};
#define N_BUCKETS BASE_COUNT(bucket_seconds)

struct series {
    char *labels; /* "" for none */
    double value; /* of a histogram: the sum */
    uint64_t count;
    uint64_t buckets[N_BUCKETS]; /* each counts what is in it alone */
};

struct family {
    char *name;
    char *help;
    enum metric_kind kind;
    struct series *series[MAX_SERIES];
    int n_series;
    bool overflowed;
};

static struct {
    struct lock lock;
    struct family *families[MAX_FAMILIES];
    int n_families;
} state = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_METRICS}};

static struct family *family_for(const char *name, const char *help, enum metric_kind kind) {
    for (int i = 0; i < state.n_families; i++) {
        if (strcmp(state.families[i]->name, name) == 0) {
            assert(state.families[i]->kind == kind);
            return state.families[i];
        }
    }
    assert(state.n_families < MAX_FAMILIES);
    struct family *family = mem_alloc(sizeof *family);
    family->name = mem_strdup(name);
    family->help = mem_strdup(help);
    family->kind = kind;
    state.families[state.n_families++] = family;
    return family;
}

/* NULL when the family is full. */
static struct series *series_for(const char *name, const char *labels, const char *help,
                                 enum metric_kind kind) {
    struct family *family = family_for(name, help, kind);
    const char *wanted = labels ? labels : "";
    for (int i = 0; i < family->n_series; i++) {
        if (strcmp(family->series[i]->labels, wanted) == 0)
            return family->series[i];
    }
    if (family->n_series == MAX_SERIES) {
        if (!family->overflowed)
            log_warn("metric %s has %d label sets already; {%s} is not counted", name, MAX_SERIES,
                     wanted);
        family->overflowed = true;
        return NULL;
    }
    struct series *series = mem_alloc(sizeof *series);
    series->labels = mem_strdup(wanted);
    family->series[family->n_series++] = series;
    return series;
}

void metric_add(const char *family, const char *labels, const char *help, double amount) {
    assert(amount >= 0);
    lock_take(&state.lock);
    struct series *series = series_for(family, labels, help, METRIC_COUNTER);
    if (series)
        series->value += amount;
    lock_drop(&state.lock);
}

void metric_forget(const char *name) {
    lock_take(&state.lock);
    for (int i = 0; i < state.n_families; i++) {
        struct family *family = state.families[i];
        if (strcmp(family->name, name) != 0)
            continue;
        for (; family->n_series > 0; family->n_series--) {
            mem_free(family->series[family->n_series - 1]->labels);
            mem_free(family->series[family->n_series - 1]);
        }
    }
    lock_drop(&state.lock);
}

void metric_set(const char *family, const char *labels, const char *help, double value) {
    lock_take(&state.lock);
    struct series *series = series_for(family, labels, help, METRIC_GAUGE);
    if (series)
        series->value = value;
    lock_drop(&state.lock);
}

void metric_observe(const char *family, const char *labels, const char *help, double seconds) {
    lock_take(&state.lock);
    struct series *series = series_for(family, labels, help, METRIC_HISTOGRAM);
    if (series) {
        series->value += seconds;
        series->count++;
        for (size_t i = 0; i < N_BUCKETS; i++) {
            if (seconds <= bucket_seconds[i]) {
                series->buckets[i]++;
                break;
            }
        }
    }
    lock_drop(&state.lock);
}

static const char *kind_word(enum metric_kind kind) {
    switch (kind) {
    case METRIC_COUNTER:
        return "counter";
    case METRIC_GAUGE:
        return "gauge";
    case METRIC_HISTOGRAM:
        return "histogram";
    }
    return "untyped";
}

static void write_plain(struct buf *out, const char *name, const char *suffix,
                        const struct series *series, double value) {
    if (series->labels[0])
        buf_printf(out, "%s%s{%s} %.15g\n", name, suffix, series->labels, value);
    else
        buf_printf(out, "%s%s %.15g\n", name, suffix, value);
}

static void write_histogram(struct buf *out, const char *name, const struct series *series) {
    const char *comma = series->labels[0] ? "," : "";
    uint64_t below = 0;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        below += series->buckets[i];
        buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, series->labels, comma,
                   bucket_seconds[i], (unsigned long long)below);
    }
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, series->labels, comma,
               (unsigned long long)series->count);
    write_plain(out, name, "_sum", series, series->value);
    write_plain(out, name, "_count", series, (double)series->count);
}

void metric_write(struct buf *out) {
    lock_take(&state.lock);
    for (int i = 0; i < state.n_families; i++) {
        const struct family *family = state.families[i];
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                   kind_word(family->kind));
        for (int j = 0; j < family->n_series; j++) {
            if (family->kind == METRIC_HISTOGRAM)
                write_histogram(out, family->name, family->series[j]);
            else
                write_plain(out, family->name, "", family->series[j], family->series[j]->value);
        }
    }
    lock_drop(&state.lock);
}
