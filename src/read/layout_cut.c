/* Reading order by a recursive XY-cut (Nagy, Seth 1984), with two changes. A vertical cut is made
 * only where the two sides read like columns, not like cells of a row. And where no vertical cut
 * goes through, the region is not cut at every horizontal gap but into bands that share their
 * gutters, so that two columns under a wide title stay two columns from their top to their bottom.
 *
 * Each level sorts its runs, and levels are at most MAX_DEPTH: n log n in all. */
#include "read/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 24
#define MAX_PARTS 16 /* columns side by side */
#define GUTTER_EM 0.6f

struct interval {
    float from, to;
};
struct cut {
    struct layout *layout;
    uint32_t page_i;
    float gutter; /* the narrowest */
    bool rtl;
};

/* qsort has no context; reading has one thread. */
static const struct run *cut_runs;

static int by_left(const void *a, const void *b) {
    const struct span *left = &cut_runs[*(const uint32_t *)a].box;
    const struct span *right = &cut_runs[*(const uint32_t *)b].box;
    return left->x0 < right->x0 ? -1 : left->x0 > right->x0;
}

/* The part of a run's height where its small letters stand: lines set close do not overlap there.
 */
static struct interval core(const struct run *run) {
    float height = run->box.y1 - run->box.y0;
    return (struct interval){run->box.y0 + 0.3f * height, run->box.y1 - 0.25f * height};
}

static int by_core(const void *a, const void *b) {
    float left = core(&cut_runs[*(const uint32_t *)a]).from;
    float right = core(&cut_runs[*(const uint32_t *)b]).from;
    return left < right ? -1 : left > right;
}

/* ---- columns -------------------------------------------------------------------------------- */

struct part {
    size_t first, n; /* of the runs sorted by their left */
    float x0, x1;
    size_t n_words, n_rows;
    double filled;  /* sum of the rows' widths */
    float *middles; /* of its rows, ascending */
};

static int by_float(const void *a, const void *b) {
    float left = *(const float *)a, right = *(const float *)b;
    return left < right ? -1 : left > right;
}

/* middles: room for a run each. Runs at one height are one row. */
static void part_measure(struct part *part, const struct cut *cut, const uint32_t *runs,
                         float *middles) {
    const struct run *all = cut->layout->runs;
    float em = cut->layout->frames[cut->page_i].em;
    part->middles = middles;
    part->n_words = 0;
    part->filled = 0;
    for (size_t i = 0; i < part->n; i++) {
        const struct run *run = &all[runs[part->first + i]];
        middles[i] = (run->box.y0 + run->box.y1) / 2;
        part->n_words += run->n;
        part->filled += (double)(run->box.x1 - run->box.x0);
    }
    qsort(middles, part->n, sizeof *middles, by_float);
    part->n_rows = 0;
    for (size_t i = 0; i < part->n; i++)
        if (part->n_rows == 0 || middles[i] - middles[part->n_rows - 1] > 0.4f * em)
            middles[part->n_rows++] = middles[i];
}

/* How many rows of a have a row of b at their height. */
static size_t rows_aligned(const struct part *a, const struct part *b, float tolerance) {
    size_t j = 0, n = 0;
    for (size_t i = 0; i < a->n_rows; i++) {
        while (j < b->n_rows && b->middles[j] < a->middles[i] - tolerance)
            j++;
        n += j < b->n_rows && b->middles[j] <= a->middles[i] + tolerance;
    }
    return n;
}

#define COLUMN_WORDS 10 /* at least, on each side */

/* Columns are read one after the other, cells of a row across. Rows that stand side by side at the
 * same heights are columns only where they are full of text. */
static bool are_columns(const struct part *a, const struct part *b, float em) {
    size_t fewer = a->n_rows < b->n_rows ? a->n_rows : b->n_rows;
    if (a->n_rows < 2 && b->n_rows < 2)
        return false;
    size_t aligned = rows_aligned(a, b, 0.25f * em);
    if (aligned * 10 < fewer * 6)
        return a->n_words >= COLUMN_WORDS && b->n_words >= COLUMN_WORDS;
    bool full = true;
    for (int side = 0; side < 2; side++) {
        const struct part *part = side ? b : a;
        double fill = part->filled / ((double)part->n_rows * (double)(part->x1 - part->x0));
        full &= part->n_rows >= 4 && part->n_words * 2 >= part->n_rows * 7 && fill > 0.6;
    }
    return full;
}

/* Finds the parts the region falls into; 1 where it is not to be cut. runs get sorted by left. */
static int find_parts(struct part parts[MAX_PARTS], const struct cut *cut, uint32_t *runs,
                      size_t n) {
    const struct run *all = cut->layout->runs;
    float em = cut->layout->frames[cut->page_i].em;
    int n_parts = 0;
    cut_runs = all;
    qsort(runs, n, sizeof *runs, by_left);
    for (size_t i = 0; i < n; i++) {
        struct span box = all[runs[i]].box;
        struct part *last = n_parts > 0 ? &parts[n_parts - 1] : NULL;
        if (last && (box.x0 - last->x1 < cut->gutter || n_parts == MAX_PARTS)) {
            last->n++;
            last->x1 = fmaxf(last->x1, box.x1);
        } else {
            parts[n_parts++] = (struct part){.first = i, .n = 1, .x0 = box.x0, .x1 = box.x1};
        }
    }
    if (n_parts < 2)
        return 1;
    float *middles = mem_try(n, sizeof *middles, SIZE_MAX);
    if (!middles)
        return 1;
    int n_kept = 1;
    part_measure(&parts[0], cut, runs, middles);
    for (int i = 1; i < n_parts; i++) {
        part_measure(&parts[i], cut, runs, middles + parts[i].first);
        struct part *last = &parts[n_kept - 1];
        if (are_columns(last, &parts[i], em)) {
            parts[n_kept++] = parts[i];
            continue;
        }
        last->n += parts[i].n;
        last->x1 = parts[i].x1;
        part_measure(last, cut, runs, middles + last->first);
    }
    mem_free(middles);
    return n_kept;
}

/* ---- bands ---------------------------------------------------------------------------------- */

/* The strip that parts the most runs to its left from the most to its right, with the fewest across
 * it. False: there is none with two on each side. */
static bool find_gutter(const struct cut *cut, struct interval *gutter, const uint32_t *runs,
                        size_t n) {
    const struct run *all = cut->layout->runs;
    float *starts = mem_try(n, 2 * sizeof *starts, SIZE_MAX), *ends = starts + n;
    double best = 0;
    size_t left = 0, begun = 0;
    bool found = false;
    if (!starts)
        return false;
    for (size_t i = 0; i < n; i++) {
        starts[i] = all[runs[i]].box.x0;
        ends[i] = all[runs[i]].box.x1;
    }
    qsort(starts, n, sizeof *starts, by_float);
    qsort(ends, n, sizeof *ends, by_float);
    for (; left + 1 < n; left++) {
        while (begun < n && starts[begun] < ends[left] + cut->gutter)
            begun++;
        size_t on_left = left + 1, on_right = n - begun;
        size_t fewer = on_left < on_right ? on_left : on_right;
        double across = (double)n - (double)on_left - (double)on_right;
        double score = (double)fewer - 0.25 * across;
        if (fewer >= 2 && (!found || score > best)) {
            found = true;
            best = score;
            *gutter = (struct interval){ends[left], ends[left] + cut->gutter};
        }
    }
    mem_free(starts);
    return found;
}

/* Where the band that begins at `from` ends: at the first gap across the whole region. */
static size_t band_end(const struct cut *cut, const uint32_t *runs, size_t from, size_t n) {
    const struct run *all = cut->layout->runs;
    float bottom = core(&all[runs[from]]).to;
    size_t end = from + 1;
    while (end < n && core(&all[runs[end]]).from < bottom) {
        bottom = fmaxf(bottom, core(&all[runs[end]]).to);
        end++;
    }
    return end;
}

enum sides { SIDE_LEFT = 1, SIDE_RIGHT = 2, SIDE_ACROSS = 4 };

static unsigned band_sides(const struct cut *cut, struct interval gutter, const uint32_t *runs,
                           size_t n) {
    unsigned sides = 0;
    for (size_t i = 0; i < n; i++) {
        struct span box = cut->layout->runs[runs[i]].box;
        sides |= box.x1 <= gutter.from ? SIDE_LEFT : box.x0 >= gutter.to ? SIDE_RIGHT : SIDE_ACROSS;
    }
    return sides;
}

/* Where the bands end that are read together with the first one: those that keep the gutter free,
 * if text stands on both sides of it in one of them, or those that do not. runs are sorted by core.
 */
static size_t group_end(const struct cut *cut, struct interval gutter, const uint32_t *runs,
                        size_t from, size_t n) {
    unsigned group = 0;
    size_t plain_end = from;
    for (size_t at = from; at < n;) {
        size_t end = band_end(cut, runs, at, n);
        unsigned sides = band_sides(cut, gutter, runs + at, end - at);
        if (sides & SIDE_ACROSS) {
            if (group & SIDE_LEFT && group & SIDE_RIGHT) {
                /* Free bands up to here: a group of their own, after what was plain before them. */
                return plain_end > from ? plain_end : at;
            }
            group = 0;
            plain_end = end;
        } else {
            group |= sides;
        }
        at = end;
    }
    return group & SIDE_LEFT && group & SIDE_RIGHT && plain_end > from ? plain_end : n;
}

static void cut_region(const struct cut *cut, uint32_t *runs, size_t n, int depth) {
    struct part parts[MAX_PARTS];
    struct interval gutter;
    if (n == 0)
        return;
    int n_parts = n > 1 && depth < MAX_DEPTH ? find_parts(parts, cut, runs, n) : 1;
    if (n_parts > 1) {
        for (int i = 0; i < n_parts; i++) {
            const struct part *part = &parts[cut->rtl ? n_parts - 1 - i : i];
            cut_region(cut, runs + part->first, part->n, depth + 1);
        }
        return;
    }
    if (n > 3 && depth < MAX_DEPTH && find_gutter(cut, &gutter, runs, n)) {
        cut_runs = cut->layout->runs;
        qsort(runs, n, sizeof *runs, by_core);
        size_t end = group_end(cut, gutter, runs, 0, n);
        if (end < n) {
            size_t from = 0;
            while (from < n) {
                cut_region(cut, runs + from, end - from, depth + 1);
                from = end;
                end = group_end(cut, gutter, runs, from, n);
            }
            return;
        }
    }
    layout_add_leaf(cut->layout, cut->page_i, runs, n);
}

void layout_cut_page(struct layout *layout, uint32_t page_i, uint32_t *runs, size_t n) {
    const struct page_frame *frame = &layout->frames[page_i];
    struct cut cut = {
        .layout = layout, .page_i = page_i, .gutter = GUTTER_EM * frame->em, .rtl = frame->rtl};
    cut_region(&cut, runs, n, 0);
}
