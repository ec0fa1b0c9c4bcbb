/* The stages after the scan: pooled codes, then full ones, each for no more items than it takes.
 *
 * How many pass is not fixed, because a hard question needs hundreds of times as many as an easy
 * one. A line through what the next stage made of those that have passed (ordinary least squares)
 * tells what it would make of the others, and how far from it they may lie; the expected number of
 * the best `limit` that are still among the others must be at most (1 - recall) * limit, half of it
 * for each of the two stages. While it is more, more pass. Items of different shapes lie on lines
 * of their own: a stratum is what is of one shape.
 *
 * Invariants:
 * 1. What adds up over items is added up in the order in which they passed, which is that of bins
 * first and of the view then, whatever the number of threads.
 * 2. Memory is 16 bytes an item that passed the scan, and 4 a bin of every stratum. */
#include "index/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Items of each stratum that pass at first, into the second stage and into the third: enough for a
 * line, and few beside what the stage before costs (from 64 to 512 no difference was measured).
 * Twice the limit where that is more, so that the worst of the best is not one of the first. */
#define FIRST_POOLED 256
#define FIRST_FULL 64
/* The first lines are rough: no more than so many times as many pass at once as have passed, and
 * then the line is drawn anew. */
#define MOST_AT_ONCE 3
/* At least a quarter as many pass as have passed, so that there is an end. */
#define LEAST_AT_ONCE 4
/* What lies off the line is not quite normal: its tails are longer, and copies of a page go
 * together. Where 0.99 of the best were asked for, over noisy copies of pages 0.985 to 0.990 were
 * found with its spread as it is, 0.999 with this many times it; over pages of their own, 0.999
 * with both. */
#define SPREAD 1.1
#define MAX_BINS (1 << 14) /* of sums of distances: one a bin up to 128 question vectors of 128 */
#define CHUNK_ITEMS 16     /* that a thread takes at once: some tens of microseconds */

/* ---- lines ---- */

/* y over x, sums about the first point. */
struct line {
    double n, x0, y0, sx, sy, sxx, sxy, syy;
};

static void add_point(struct line *line, double x, double y) {
    if (line->n == 0)
        *line = (struct line){.x0 = x, .y0 = y};
    x -= line->x0;
    y -= line->y0;
    line->n++;
    line->sx += x;
    line->sy += y;
    line->sxx += x * x;
    line->sxy += x * y;
    line->syy += y * y;
}

struct fitted {
    double x, y, slope; /* through the mean of x and of y */
    double variance;    /* off the line; infinite where no line can be drawn */
    double n, sxx;
};

/* A better score in one stage does not make for a worse one in the next: no slope is below 0. */
static struct fitted fit(const struct line *line) {
    struct fitted fitted = {.variance = INFINITY, .n = line->n};
    if (line->n < 3)
        return fitted;
    double mx = line->sx / line->n, my = line->sy / line->n;
    double sxx = line->sxx - line->sx * mx, sxy = line->sxy - line->sx * my;
    double syy = line->syy - line->sy * my;
    fitted.x = line->x0 + mx;
    fitted.y = line->y0 + my;
    fitted.sxx = sxx > 0 ? sxx : 0;
    fitted.slope = sxx > 0 && sxy > 0 ? sxy / sxx : 0;
    double off = syy - fitted.slope * sxy;
    fitted.variance = (off > 0 ? off : 0) / (line->n - 2);
    return fitted;
}

/* Where y is expected for x, and with what variance: that off the line, and the line's own. */
struct guess {
    double y, variance;
};
static struct guess guess_at(const struct fitted *fitted, double x) {
    double far = x - fitted->x;
    double own = 1 / fitted->n + (fitted->sxx > 0 ? far * far / fitted->sxx : 0);
    return (struct guess){fitted->y + fitted->slope * far, fitted->variance * (1 + own)};
}

/* That a guess comes out above tau. What is equal to tau, but for rounding, is not above it. */
static double chance(struct guess guess, double tau) {
    if (!(guess.variance < INFINITY) || tau == -INFINITY)
        return 1;
    double tiny = 1e-6 * fabs(tau) + 1e-30;
    double z = (guess.y - tau - 8 * tiny) / (SPREAD * sqrt(guess.variance) + tiny);
    return z < -8 ? 0 : erfc(-z / sqrt(2)) / 2;
}

/* ---- strata ---- */

struct stratum {
    const struct shape *shape;
    uint32_t *bins; /* items by their sum of distances */
    int n_passed_bins;
    int64_t n_passed, n_left;
    bool two_stages;            /* pooled codes, then full ones */
    struct fitted pooled, full; /* over the score of the stage before */
    double loss;                /* expected among those that have not passed the scan */
};

struct item {
    uint32_t i;
    float pooled, score; /* -INFINITY: damaged; score NAN: not yet known */
};

struct stages {
    struct search *search;
    struct stratum *strata;
    int n_strata, *stratum_of; /* by part */
    int n_bins;
    float bin_width;
    struct item *items;
    int64_t n_items, n_room;
    uint32_t *picks; /* of items: those that are scored next */
    int64_t n_picks, n_picks_room;
    enum { BY_POOLED, BY_FULL } stage; /* by what */
};

static struct stratum *stratum_of(const struct stages *stages, uint32_t item) {
    if (stages->n_strata == 1)
        return &stages->strata[0];
    return &stages->strata[stages->stratum_of[search_part_of(stages->search, item)]];
}

static bool is_alike(const struct shape *a, const struct shape *b) {
    return a->scan_vectors == b->scan_vectors && a->pool_bits == b->pool_bits &&
           a->pool_factor == b->pool_factor && a->keep_full == b->keep_full;
}

static int bin_of(const struct stages *stages, float score) {
    int bin = (int)(-score / stages->bin_width);
    return bin < stages->n_bins ? bin : stages->n_bins - 1;
}

static double middle_of(const struct stages *stages, int bin) {
    return -(double)stages->bin_width * bin - ((double)stages->bin_width - 1) / 2;
}

static void find_strata(struct stages *stages) {
    const struct view *view = stages->search->view;
    for (int part = 0; part < view->n_parts; part++) {
        const struct shape *shape = &view->parts[part].segment->shape;
        int i = 0;
        while (i < stages->n_strata && !is_alike(stages->strata[i].shape, shape))
            i++;
        stages->stratum_of[part] = i;
        if (i == stages->n_strata)
            stages->strata[stages->n_strata++] = (struct stratum){
                .shape = shape, .two_stages = shape->keep_full && shape->pool_bits > 0};
    }
}

static void count_bins(struct stages *stages) {
    struct search *search = stages->search;
    for (int part = 0; part < search->view->n_parts; part++) {
        struct stratum *stratum = &stages->strata[stages->stratum_of[part]];
        for (uint32_t item = search->starts[part]; item < search->starts[part + 1]; item++) {
            if (search->scores[item] == -INFINITY)
                continue;
            stratum->bins[bin_of(stages, search->scores[item])]++;
            stratum->n_left++;
            search->effort->n_scanned++;
        }
    }
}

/* ---- from one stage to the next ---- */

static bool add_pick(struct stages *stages, int64_t item) {
    if (stages->n_picks == stages->n_picks_room) {
        int64_t n_room = 2 * stages->n_picks_room + 2 * FIRST_POOLED;
        void *grown = mem_try_grow(stages->picks, (size_t)n_room, sizeof *stages->picks, SIZE_MAX);
        if (!grown)
            return false;
        stages->picks = grown;
        stages->n_picks_room = n_room;
    }
    stages->picks[stages->n_picks++] = (uint32_t)item;
    return true;
}

static void score_picks(void *ctx, int chunk, int thread) {
    (void)thread;
    struct stages *stages = ctx;
    const struct search *search = stages->search;
    struct coded codes[CHUNK_ITEMS];
    struct item *items[CHUNK_ITEMS];
    float scores[CHUNK_ITEMS];
    int n = 0;
    int64_t first = (int64_t)chunk * CHUNK_ITEMS, end = first + CHUNK_ITEMS;
    for (int64_t i = first; i < end && i < stages->n_picks; i++) {
        struct item *item = &stages->items[stages->picks[i]];
        const struct stratum *stratum = stratum_of(stages, item->i);
        bool full = stages->stage == BY_FULL || stratum->shape->pool_bits == 0;
        *(stages->stage == BY_FULL ? &item->score : &item->pooled) = -INFINITY;
        if (search_codes(&codes[n], search, item->i, full ? PART_FULL : PART_POOLED))
            items[n++] = item;
    }
    maxsim_codes(scores, search->query, codes, n);
    for (int i = 0; i < n; i++)
        *(stages->stage == BY_FULL ? &items[i]->score : &items[i]->pooled) = scores[i];
}

/* Scores what is picked, and offers what has its last score. */
static void run_picks(struct stages *stages) {
    struct search *search = stages->search;
    struct index_effort *effort = search->effort;
    double began = search_now_ms();
    int64_t n_chunks = (stages->n_picks + CHUNK_ITEMS - 1) / CHUNK_ITEMS;
    device_run(search->device, (int)n_chunks, score_picks, stages);
    for (int64_t i = 0; i < stages->n_picks; i++) {
        struct item *item = &stages->items[stages->picks[i]];
        const struct stratum *stratum = stratum_of(stages, item->i);
        bool full = stages->stage == BY_FULL || stratum->shape->pool_bits == 0;
        effort->n_full += full;
        effort->n_pooled += !full;
        if (stages->stage == BY_POOLED)
            item->score = stratum->two_stages && item->pooled > -INFINITY ? NAN : item->pooled;
        if (item->score > -INFINITY)
            search_offer(search, item->i, item->score);
    }
    stages->n_picks = 0;
    *(stages->stage == BY_FULL ? &effort->full_ms : &effort->pooled_ms) += search_now_ms() - began;
}

static struct guess last_guess(const struct stratum *stratum, double scan) {
    struct guess guess = guess_at(&stratum->pooled, scan);
    if (!stratum->two_stages || !(guess.variance < INFINITY))
        return guess;
    struct guess full = guess_at(&stratum->full, guess.y);
    full.variance += stratum->full.slope * stratum->full.slope * guess.variance;
    return full;
}

/* Passes the next bins of a stratum: while more than most_loss is expected behind them. Where fewer
 * are left than have passed, they pass too: that at most doubles the work, and no line is needed
 * for what lies far off it. */
static void pass_bins(struct stages *stages, struct stratum *stratum, double most_loss,
                      double tau) {
    int64_t first = FIRST_POOLED > 2 * stages->search->limit ? FIRST_POOLED
                                                             : 2 * (int64_t)stages->search->limit;
    int64_t least = stratum->n_passed / LEAST_AT_ONCE + 1, n = 0;
    int64_t most = stratum->n_passed * MOST_AT_ONCE;
    if (stratum->n_passed == 0)
        least = most = first;
    double loss = stratum->loss;
    while (stratum->n_left > 0 && (n < least || (loss > most_loss && n < most) ||
                                   stratum->n_left <= stratum->n_passed + n)) {
        int bin = stratum->n_passed_bins++;
        n += stratum->bins[bin];
        stratum->n_left -= stratum->bins[bin];
        if (stratum->n_passed > 0 && stratum->bins[bin] > 0)
            loss -= stratum->bins[bin] * chance(last_guess(stratum, middle_of(stages, bin)), tau);
    }
    stratum->n_passed += n;
}

/* Items of bins that have passed since `before`, by stratum, are added and picked. */
static bool take_passed(struct stages *stages, const int *before) {
    struct search *search = stages->search;
    for (int part = 0; part < search->view->n_parts; part++) {
        int stratum = stages->stratum_of[part];
        int first = before[stratum], end = stages->strata[stratum].n_passed_bins;
        if (first == end)
            continue;
        for (uint32_t i = search->starts[part]; i < search->starts[part + 1]; i++) {
            float score = search->scores[i];
            if (score == -INFINITY || bin_of(stages, score) < first || bin_of(stages, score) >= end)
                continue;
            if (stages->n_items == stages->n_room) {
                int64_t n_room = 2 * stages->n_room + 2 * FIRST_POOLED;
                void *grown = mem_try_grow(stages->items, (size_t)n_room, sizeof *stages->items,
                                           SIZE_MAX);
                if (!grown)
                    return false;
                stages->items = grown;
                stages->n_room = n_room;
            }
            if (!add_pick(stages, stages->n_items))
                return false;
            stages->items[stages->n_items++] = (struct item){.i = i};
        }
    }
    return true;
}

/* The best by pooled codes of each stratum that have no score by full ones. */
static bool pick_first(struct stages *stages, struct scored *heap, int most) {
    for (int stratum = 0; stratum < stages->n_strata; stratum++) {
        int n = 0;
        for (int64_t i = 0; stages->strata[stratum].two_stages && i < stages->n_items; i++) {
            const struct item *item = &stages->items[i];
            struct scored scored = {.id = (uint64_t)i, .score = item->pooled};
            if (item->pooled > -INFINITY && (n < most || item->pooled > heap[0].score) &&
                stratum_of(stages, item->i) == &stages->strata[stratum])
                search_keep(heap, &n, most, &scored);
        }
        for (int i = 0; i < n; i++) {
            if (isnan(stages->items[heap[i].id].score) && !add_pick(stages, (int64_t)heap[i].id))
                return false;
        }
    }
    return true;
}

/* ---- what is expected of the others ---- */

static void draw_lines(struct stages *stages) {
    for (int i = 0; i < stages->n_strata; i++) {
        struct stratum *stratum = &stages->strata[i];
        struct line pooled = {0}, full = {0};
        for (int64_t j = 0; j < stages->n_items; j++) {
            const struct item *item = &stages->items[j];
            if (item->pooled == -INFINITY || stratum_of(stages, item->i) != stratum)
                continue;
            add_point(&pooled, (double)stages->search->scores[item->i], (double)item->pooled);
            if (item->score > -INFINITY)
                add_point(&full, (double)item->pooled, (double)item->score);
        }
        stratum->pooled = fit(&pooled);
        stratum->full = fit(&full);
    }
}

/* How many of the best are expected among those that have not passed the scan. */
static double expect_behind_scan(struct stages *stages, double tau) {
    double loss = 0;
    for (int i = 0; i < stages->n_strata; i++) {
        struct stratum *stratum = &stages->strata[i];
        stratum->loss = 0;
        for (int bin = stratum->n_passed_bins; stratum->n_left > 0 && bin < stages->n_bins; bin++) {
            if (stratum->bins[bin] > 0)
                stratum->loss += stratum->bins[bin] *
                                 chance(last_guess(stratum, middle_of(stages, bin)), tau);
        }
        loss += stratum->loss;
    }
    return loss;
}

static double chance_of(const struct stages *stages, const struct item *item, double tau) {
    return chance(guess_at(&stratum_of(stages, item->i)->full, (double)item->pooled), tau);
}

/* Picks those without their last score, the likeliest first, until no more than most_loss of the
 * best are expected among the others. Chances are sorted into steps of a quarter of a power of
 * two: what is below the last step can be left. Where hardly any are left they pass too. */
static bool pick_likely(struct stages *stages, double most_loss, double tau) {
    enum { STEPS = 160 };
    double steps[STEPS + 1] = {0}, loss = 0;
    int64_t n_left = 0;
    for (int64_t i = 0; i < stages->n_items; i++) {
        if (!isnan(stages->items[i].score))
            continue;
        n_left++;
        double likely = chance_of(stages, &stages->items[i], tau);
        int step = likely > 0 ? (int)(-4 * log2(likely)) : STEPS;
        steps[step < STEPS ? step : STEPS] += likely;
        loss += likely;
    }
    int last = -1;
    while (loss > most_loss && last < STEPS)
        loss -= steps[++last];
    if (n_left <= (stages->n_items - n_left) / LEAST_AT_ONCE)
        last = STEPS;
    for (int64_t i = 0; last >= 0 && i < stages->n_items; i++) {
        if (!isnan(stages->items[i].score))
            continue;
        double likely = chance_of(stages, &stages->items[i], tau);
        bool is_likely = likely > 0 && (int)(-4 * log2(likely)) <= last;
        if ((is_likely || last == STEPS) && !add_pick(stages, i))
            return false;
    }
    return true;
}

/* ---- all of it ---- */

static bool stages_init(struct stages *stages, struct search *search) {
    size_t n_parts = (size_t)search->view->n_parts;
    int64_t most_distance = (int64_t)search->n_query * search->dim;
    int64_t width = most_distance / MAX_BINS + 1;
    *stages = (struct stages){
        .search = search, .bin_width = (float)width, .n_bins = (int)(most_distance / width + 1)};
    stages->strata = mem_try(n_parts, sizeof *stages->strata, SIZE_MAX);
    stages->stratum_of = mem_try(n_parts, sizeof *stages->stratum_of, SIZE_MAX);
    if (!stages->strata || !stages->stratum_of)
        return false;
    find_strata(stages);
    for (int i = 0; i < stages->n_strata; i++) {
        stages->strata[i].bins = mem_try((size_t)stages->n_bins, sizeof(uint32_t), SIZE_MAX);
        if (!stages->strata[i].bins)
            return false;
    }
    return true;
}

static void stages_fini(struct stages *stages) {
    for (int i = 0; i < stages->n_strata; i++)
        mem_free(stages->strata[i].bins);
    mem_free(stages->strata);
    mem_free(stages->stratum_of);
    mem_free(stages->items);
    mem_free(stages->picks);
}

/* More of each stratum, by its share of the loss, through the second stage and the best of them
 * through the third. */
static bool widen(struct stages *stages, int *before, struct scored *heap, int n_heap,
                  double factor, double tau) {
    for (int i = 0; i < stages->n_strata; i++) {
        struct stratum *stratum = &stages->strata[i];
        before[i] = stratum->n_passed_bins;
        if (stratum->n_passed == 0 || stratum->loss > 0)
            pass_bins(stages, stratum, stratum->loss * factor, tau);
    }
    stages->stage = BY_POOLED;
    if (!take_passed(stages, before))
        return false;
    run_picks(stages);
    stages->stage = BY_FULL;
    if (!pick_first(stages, heap, n_heap))
        return false;
    run_picks(stages);
    return true;
}

static bool run_stages(struct stages *stages, int *before, struct scored *heap, int n_heap) {
    const struct search *search = stages->search;
    if (!widen(stages, before, heap, n_heap, 0, -INFINITY))
        return false;
    for (;;) {
        draw_lines(stages);
        double tau = -INFINITY, most = 0;
        if (search->n_best == search->limit) {
            tau = (double)search->best[0].score;
            most = (1 - search->recall) * search->limit / 2;
        }
        double loss = expect_behind_scan(stages, tau);
        if (loss > most) {
            if (!widen(stages, before, heap, n_heap, most / loss, tau))
                return false;
            continue;
        }
        if (!pick_likely(stages, most, tau))
            return false;
        if (stages->n_picks == 0)
            return true;
        stages->stage = BY_FULL;
        run_picks(stages);
    }
}

bool search_stages(struct search *search, struct error *err) {
    struct stages stages;
    int n_heap = FIRST_FULL > 2 * search->limit ? FIRST_FULL : 2 * search->limit;
    bool ok = stages_init(&stages, search);
    int *before = mem_try((size_t)stages.n_strata, sizeof *before, SIZE_MAX);
    struct scored *heap = mem_try((size_t)n_heap, sizeof *heap, SIZE_MAX);
    if (ok && before && heap) {
        count_bins(&stages);
        ok = run_stages(&stages, before, heap, n_heap);
    } else {
        ok = false;
    }
    mem_free(before);
    mem_free(heap);
    stages_fini(&stages);
    return ok || search_no_memory(err);
}
