/* What MaxSim over codes reaches, beside a loop of the multiply instruction and a loop that only
 * reads, both measured next to it: the processor's speed changes, the shares do not.
 *
 * --bench [threads=N] [only=TEXT] */
#include "codes.h"
#include "gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SPAN 0.3            /* seconds spent on one line, about */
#define RECORD_BYTES 140032 /* from one page's pooled codes to the next's */

enum { DIM = 128, N_QUERY = 24, N_PAGE = 1030, N_STREAMED = 5000, MAX_PARTS = 256 };

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *big(size_t size_bytes) {
    void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        exit(2);
    madvise(p, size_bytes, MADV_HUGEPAGE);
    uint64_t state = 1;
    for (size_t i = 0; i < size_bytes / 8; i++)
        ((uint64_t *)p)[i] = state = state * 6364136223846793005u + 1442695040888963407u;
    return p;
}

struct line {
    const char *name;
    struct cpu_pool *pool;
    struct maxsim_query *query;
    void *memory;
    size_t item_bytes; /* from one item to the next */
    int n_items, n_parts, bits, n_vectors;
    struct coded *items;
    float *scores, *value;
    double spent[2]; /* by each thread on a processor: other processes do not count */
    void (*work)(struct line *line, int from, int to);
};

static void work_codes(struct line *line, int from, int to) {
    maxsim_codes(line->scores + from, line->query, line->items + from, to - from);
}

static void work_signs(struct line *line, int from, int to) {
    const char *memory = line->memory;
    maxsim_signs(line->scores + from, line->query,
                 (const uint64_t *)(memory + (size_t)from * line->item_bytes), line->n_vectors,
                 to - from, line->value);
}

static void work_rows(struct line *line, int from, int to) {
    const char *memory = line->memory;
    dot_rows(line->scores + from, line->query, memory + (size_t)from * line->item_bytes,
             line->item_bytes, to - from);
}

static void work_reading(struct line *line, int from, int to) {
    const uint64_t *memory = (const uint64_t *)((char *)line->memory +
                                                (size_t)from * line->item_bytes);
    uint64_t sums[32] = {0};
    for (size_t i = 0; i < (size_t)(to - from) * line->item_bytes / 8; i += 32) {
        for (int j = 0; j < 32; j++)
            sums[j] += memory[i + (size_t)j];
    }
    for (int j = 0; j < 32; j++)
        line->scores[from] += (float)sums[j];
}

static void part(void *ctx, int i, int thread) {
    struct line *line = ctx;
    int64_t n = line->n_items, n_parts = line->n_parts;
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    line->work(line, (int)(n * i / n_parts), (int)(n * (i + 1) / n_parts));
    line->spent[thread] += seconds(CLOCK_THREAD_CPUTIME_ID) - start;
}

/* Nanoseconds an item, the least of several runs, as if the threads had the processors to
 * themselves: what they spent, over their number. */
static double measure(struct line *line) {
    int n_threads = cpu_pool_threads(line->pool);
    double least = 1e30, peak = 0, begun = seconds(CLOCK_MONOTONIC);
    line->n_parts = n_threads == 1 ? 1 : line->n_items < 64 ? line->n_items : 64;
    for (int runs = 0; runs < 3 || seconds(CLOCK_MONOTONIC) - begun < SPAN; runs++) {
        double rate = gemm_peak(cpu_features(), PRECISION_INT8) * n_threads;
        line->spent[0] = line->spent[1] = 0;
        cpu_pool_run(line->pool, line->n_parts, part, line);
        double taken = (line->spent[0] + line->spent[1]) / n_threads;
        least = taken < least ? taken : least;
        peak = rate > peak ? rate : peak;
    }
    double ns = least / line->n_items * 1e9;
    printf("%-36s threads %d  %10.1f ns an item  %6.2f GB/s  all %8.2f ms", line->name, n_threads,
           ns, (double)line->item_bytes / ns, least * 1e3);
    if (line->work == work_codes) {
        int n_groups = CODE_GROUPS(line->n_vectors);
        double ops = 2.0 * N_QUERY * DIM * CODE_GROUP * n_groups / ns;
        printf("  %6.1f ns a group  %7.1f G/s  loop %7.1f  share %3.0f %%", ns / n_groups, ops,
               peak * 1e-9, peak > 0 ? 100 * ops / (peak * 1e-9) : 0.0);
    }
    printf("\n");
    return ns;
}

/* n_items, of which n_distinct are in memory. */
static void codes_line(struct line line, const char *name, int n_items, int n_distinct,
                       int n_vectors, int bits) {
    size_t n_bytes = codes_bytes(n_vectors, DIM, bits), n_scales = code_scales_bytes(n_vectors);
    char text[64];
    snprintf(text, sizeof text, "%s, %d bits, %d x %d x %d", name, bits, n_vectors, N_QUERY, DIM);
    line.name = text;
    line.item_bytes = (n_bytes + n_scales + 63) / 64 * 64;
    size_t apart = n_vectors < N_PAGE ? RECORD_BYTES : line.item_bytes;
    line.n_items = n_items;
    line.n_vectors = n_vectors;
    line.work = work_codes;
    line.items = malloc((size_t)n_items * sizeof *line.items);
    for (int i = 0; i < n_items; i++) {
        char *codes = (char *)line.memory + (size_t)(i % n_distinct) * apart;
        uint16_t *scales = (uint16_t *)(codes + n_bytes);
        for (size_t v = 0; v < n_scales / 2; v++)
            scales[v] = 0x3c00;
        line.items[i] = (struct coded){codes, scales, n_vectors, bits};
    }
    measure(&line);
    free(line.items);
}

static void signs_line(struct line line, const char *name, int n_items) {
    line.name = name;
    line.item_bytes = signs_bytes(32, DIM);
    line.n_items = n_items;
    line.n_vectors = 32;
    line.work = work_signs;
    measure(&line);
}

static void rows_line(struct line line, const char *name, int n_items) {
    line.name = name;
    line.item_bytes = 192;
    line.n_items = n_items;
    line.work = work_rows;
    measure(&line);
}

static void lines(struct line line, const char *only) {
    const int streamed_bytes = CODE_GROUPS(N_PAGE) * CODE_GROUP * DIM;
    if (strstr("read", only)) {
        line.name = "only read, 660 MB";
        line.item_bytes = (size_t)streamed_bytes;
        line.n_items = N_STREAMED;
        line.work = work_reading;
        measure(&line);
    }
    if (strstr("signs", only)) {
        signs_line(line, "signs 32 x 24 x 128, in cache", 64);
        signs_line(line, "signs 32 x 24 x 128, 51 MB", 100000);
    }
    static const int bits[] = {1, 2, 4, 8};
    for (int b = 0; b < 4 && strstr("pooled", only); b++) {
        codes_line(line, "pooled in cache", 512, 8, 112, bits[b]);
        codes_line(line, "pooled apart", 5000, 5000, 112, bits[b]);
    }
    if (strstr("pages", only)) {
        codes_line(line, "in cache", 64, 1, N_PAGE, 8);
        codes_line(line, "streamed", N_STREAMED, N_STREAMED, N_PAGE, 8);
    }
    if (strstr("rows", only))
        rows_line(line, "rows of 128", 1000000);
}

int codes_bench(int n_args, char **args) {
    int only_threads = 0;
    const char *only = "";
    for (int i = 0; i < n_args; i++) {
        if (strncmp(args[i], "threads=", 8) == 0)
            only_threads = (int)strtol(args[i] + 8, NULL, 10);
        else if (strncmp(args[i], "only=", 5) == 0)
            only = args[i] + 5;
        else
            return fprintf(stderr, "'%s' is neither threads=N nor only=TEXT\n", args[i]), 2;
    }
    static float vectors[N_QUERY * DIM], value[DIM + 1];
    for (int i = 0; i < N_QUERY * DIM; i++)
        vectors[i] = (float)(i * 7919 % 255 - 127);
    for (int h = 0; h <= DIM; h++)
        value[h] = 1 - (float)h / (DIM / 2);
    struct line line = {
        .memory = big((size_t)700 << 20),
        .query = maxsim_query_new(vectors, N_QUERY, DIM),
        .scores = malloc(1000000 * sizeof(float)),
        .value = value,
    };
    printf("# codes: %s, signs: %s\n", line.query->kernels.name, line.query->kernels.signs_name);
    struct error err;
    for (int n_threads = 1; n_threads <= 2; n_threads++) {
        if (only_threads && n_threads != only_threads)
            continue;
        if (!cpu_pool_open(&line.pool, n_threads, &err))
            return 2;
        lines(line, only);
        cpu_pool_close(line.pool);
    }
    maxsim_query_free(line.query);
    free(line.scores);
    return 0;
}
