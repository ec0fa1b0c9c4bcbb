/* Raw words -> runs -> lines. Words that follow each other on a line of MuPDF's are one run, unless
 * a gap or a jump between them says that the line was none. Pages whose text lies on its side are
 * turned in mind, so that everything after this sees upright text. */
#include "read/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_WIDTH_PT 612
#define DEFAULT_HEIGHT_PT 792
#define RUN_GAP_EM 1.5f /* a wider gap ends a run */
#define ROW_GAP_EM 1.5f /* and makes the line a row */

/* ---- direction ------------------------------------------------------------------------------ */

bool layout_is_rtl(uint32_t c) {
    return (c >= 0x0590 && c <= 0x08FF) || (c >= 0xFB1D && c <= 0xFDFF) ||
           (c >= 0xFE70 && c <= 0xFEFC) || (c >= 0x10800 && c <= 0x10FFF) ||
           (c >= 0x1E800 && c <= 0x1EFFF);
}

enum direction { NEUTRAL, FROM_LEFT, FROM_RIGHT };

/* By the first letter; digits and signs are neutral. */
static enum direction word_direction(const struct raw_word *word) {
    for (size_t at = 0; at < word->len;) {
        uint32_t c = utf8_next(word->text, word->len, &at);
        if (c >= 0x0660 && c <= 0x0669)
            continue;
        if (layout_is_rtl(c))
            return FROM_RIGHT;
        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= 0xC0 && text_is_word(c)))
            return FROM_LEFT;
    }
    return NEUTRAL;
}

static bool is_number(const struct raw_word *word) {
    return strspn(word->text, "0123456789.,:/%-") == word->len;
}

bool layout_words_rtl(const struct raw_word *words, const uint32_t *order, size_t n) {
    size_t from_left = 0, from_right = 0;
    for (size_t i = 0; i < n; i++) {
        enum direction direction = word_direction(&words[order ? order[i] : i]);
        from_left += direction == FROM_LEFT;
        from_right += direction == FROM_RIGHT;
    }
    return from_right > from_left;
}

struct placed {
    float x;
    uint32_t word;
};

static int by_x_descending(const void *a, const void *b) {
    const struct placed *left = a, *right = b;
    if (left->x != right->x)
        return left->x > right->x ? -1 : 1;
    return left->word < right->word ? -1 : left->word > right->word;
}

static void reverse(uint32_t *order, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        uint32_t word = order[i];
        order[i] = order[n - 1 - i];
        order[n - 1 - i] = word;
    }
}

void layout_order_rtl(const struct raw_word *words, uint32_t *order, size_t n) {
    struct placed *placed = mem_try(n, sizeof *placed, SIZE_MAX);
    if (!placed)
        return;
    for (size_t i = 0; i < n; i++)
        placed[i] = (struct placed){(words[order[i]].box.x0 + words[order[i]].box.x1) / 2,
                                    order[i]};
    qsort(placed, n, sizeof *placed, by_x_descending);
    for (size_t i = 0; i < n; i++)
        order[i] = placed[i].word;
    mem_free(placed);
    for (size_t i = 0; i < n; i++) {
        size_t end = i, last = i;
        if (word_direction(&words[order[i]]) != FROM_LEFT)
            continue;
        while (end < n && word_direction(&words[order[end]]) != FROM_RIGHT) {
            if (word_direction(&words[order[end]]) == FROM_LEFT)
                last = end;
            end++;
        }
        size_t from = i; /* a number seen right of a Latin word goes with it */
        while (from > 0 && is_number(&words[order[from - 1]]))
            from--;
        reverse(order + from, last + 1 - from);
        i = last;
    }
}

/* ---- frames --------------------------------------------------------------------------------- */

static struct span frame_span(const struct page_frame *frame, const struct doc_box *box) {
    struct doc_box up = *box;
    if (frame->turn == 90)
        up = (struct doc_box){box->y0, 1 - box->x1, box->y1, 1 - box->x0};
    else if (frame->turn == 180)
        up = (struct doc_box){1 - box->x1, 1 - box->y1, 1 - box->x0, 1 - box->y0};
    else if (frame->turn == 270)
        up = (struct doc_box){1 - box->y1, box->x0, 1 - box->y0, box->x1};
    return (struct span){up.x0 * frame->width, up.y0 * frame->height, up.x1 * frame->width,
                         up.y1 * frame->height};
}

/* Each two words that follow each other on a line vote for the way from the first to the second. */
static int find_turn(const struct raw_word *words, size_t n, float width, float height) {
    size_t right = 0, down = 0, left = 0, up = 0;
    for (size_t i = 1; i < n; i++) {
        const struct doc_box *a = &words[i - 1].box, *b = &words[i].box;
        if (words[i].line != words[i - 1].line || words[i].style & RAW_NOTE)
            continue;
        float dx = (b->x0 + b->x1 - a->x0 - a->x1) * width;
        float dy = (b->y0 + b->y1 - a->y0 - a->y1) * height;
        if (fabsf(dx) >= fabsf(dy)) {
            right += dx > 0;
            left += dx < 0 && word_direction(&words[i]) != FROM_RIGHT;
        } else {
            down += dy > 0;
            up += dy < 0;
        }
    }
    size_t most = right + down + left + up;
    if (down * 10 > most * 6)
        return 90;
    if (left * 10 > most * 6)
        return 180;
    return up * 10 > most * 6 ? 270 : 0;
}

static void find_frame(struct layout *layout, uint32_t page_i, const struct raw_word *words,
                       size_t n) {
    struct page_frame *frame = &layout->frames[page_i];
    float width = DEFAULT_WIDTH_PT, height = DEFAULT_HEIGHT_PT;
    if (layout->raw->pages) {
        width = layout->raw->pages[page_i].width_pt;
        height = layout->raw->pages[page_i].height_pt;
    }
    if (!(width > 0 && height > 0 && isfinite(width) && isfinite(height))) {
        width = DEFAULT_WIDTH_PT;
        height = DEFAULT_HEIGHT_PT;
    }
    frame->turn = find_turn(words, n, width, height);
    bool sideways = frame->turn == 90 || frame->turn == 270;
    frame->width = sideways ? height : width;
    frame->height = sideways ? width : height;
    frame->rtl = layout_words_rtl(words, NULL, n);
}

/* ---- runs ----------------------------------------------------------------------------------- */

static struct span span_union(struct span a, struct span b) {
    return (struct span){fminf(a.x0, b.x0), fminf(a.y0, b.y0), fmaxf(a.x1, b.x1),
                         fmaxf(a.y1, b.y1)};
}

static bool follows(const struct raw_word *last, const struct raw_word *next, struct span a,
                    struct span b, bool upright) {
    float size = fmaxf(fmaxf(last->size_pt, next->size_pt), 1);
    if (next->line != last->line)
        return false;
    if (next->glued || upright)
        return true;
    if (fabsf((a.y0 + a.y1 - b.y0 - b.y1) / 2) > 0.8f * size)
        return false;
    if (b.x0 >= a.x0)
        return b.x0 - a.x1 < RUN_GAP_EM * size;
    /* From the right; or a jump back, as where MuPDF took two columns for one line. */
    return a.x0 - b.x1 < RUN_GAP_EM * size &&
           (b.x0 > a.x0 - 0.3f * size || word_direction(last) == FROM_RIGHT ||
            word_direction(next) == FROM_RIGHT);
}

static void close_run(struct layout *layout, struct run *run) {
    const struct raw_word *words = layout->raw->words + run->first;
    float most = 0;
    /* The size of most of its bytes, found by majority vote, which is exact where there is one. */
    for (uint32_t i = 0; i < run->n; i++) {
        if (most <= 0) {
            run->size = words[i].size_pt;
            most = (float)words[i].len;
        } else {
            most += fabsf(words[i].size_pt - run->size) < 0.1f ? (float)words[i].len
                                                               : -(float)words[i].len;
        }
    }
    if (!(run->size > 0))
        run->size = fmaxf((run->box.y1 - run->box.y0) * 0.8f, 1);
    run->rtl = layout_words_rtl(words, NULL, run->n);
}

static void find_page_runs(struct layout *layout, uint32_t page_i, uint32_t first, uint32_t end) {
    const struct raw_word *words = layout->raw->words;
    struct page_frame *frame = &layout->frames[page_i];
    struct run *run = NULL;
    struct span last = {0};
    bool sideways = frame->turn == 90 || frame->turn == 270;
    frame->first_run = layout->n_runs;
    for (uint32_t i = first; i < end; i++) {
        struct span span = frame_span(frame, &words[i].box);
        bool upright = ((words[i].style & RAW_VERTICAL) != 0) != sideways &&
                       !(words[i].style & RAW_OCR);
        if (run && follows(&words[i - 1], &words[i], last, span, upright)) {
            run->box = span_union(run->box, span);
            run->n++;
        } else {
            if (run)
                close_run(layout, run);
            run = &layout->runs[layout->n_runs++];
            *run = (struct run){.first = i, .n = 1, .box = span, .upright = upright};
        }
        last = span;
    }
    if (run)
        close_run(layout, run);
    frame->n_runs = layout->n_runs - frame->first_run;
}

struct weighed {
    float value;
    uint32_t weight;
};

static int by_value(const void *a, const void *b) {
    const struct weighed *left = a, *right = b;
    return left->value < right->value ? -1 : left->value > right->value;
}

static float weighted_median(struct weighed *items, size_t n) {
    uint64_t total = 0, sum = 0;
    qsort(items, n, sizeof *items, by_value);
    for (size_t i = 0; i < n; i++)
        total += items[i].weight;
    for (size_t i = 0; i < n; i++) {
        sum += items[i].weight;
        if (sum * 2 >= total)
            return items[i].value;
    }
    return 10;
}

static void find_sizes(struct layout *layout, struct weighed *items) {
    const struct raw_word *words = layout->raw->words;
    size_t n_bold = 0, n_mono = 0, n_words = 0;
    for (uint32_t page_i = 0; page_i < layout->raw->n_pages; page_i++) {
        struct page_frame *frame = &layout->frames[page_i];
        for (uint32_t i = 0; i < frame->n_runs; i++) {
            const struct run *run = &layout->runs[frame->first_run + i];
            items[i] = (struct weighed){run->size, run->n};
        }
        frame->em = fmaxf(weighted_median(items, frame->n_runs), 1);
    }
    for (uint32_t i = 0; i < layout->n_runs; i++) {
        const struct run *run = &layout->runs[i];
        items[i] = (struct weighed){run->size, run->n};
        for (uint32_t k = 0; k < run->n; k++) {
            n_bold += (words[run->first + k].style & RAW_BOLD) != 0;
            n_mono += (words[run->first + k].style & RAW_MONO) != 0;
        }
        n_words += run->n;
    }
    layout->body_size = fmaxf(weighted_median(items, layout->n_runs), 1);
    layout->bold_body = n_bold * 2 > n_words;
    layout->mono_body = n_mono * 2 > n_words;
}

bool layout_find_runs(struct layout *layout) {
    const struct raw_pages *raw = layout->raw;
    uint32_t at = 0;
    layout->frames = arena_try(layout->arena, raw->n_pages, sizeof *layout->frames);
    layout->runs = arena_try(layout->arena, raw->n_words, sizeof *layout->runs);
    struct weighed *items = arena_try(layout->arena, raw->n_words, sizeof *items);
    if (!layout->frames || !layout->runs || !items)
        return false;
    for (uint32_t page_i = 0; page_i < raw->n_pages; page_i++) {
        uint32_t first = at;
        while (at < raw->n_words && raw->words[at].page_i <= page_i)
            at++;
        find_frame(layout, page_i, raw->words + first, at - first);
        find_page_runs(layout, page_i, first, at);
    }
    find_sizes(layout, items);
    return true;
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* Sorting needs the runs; qsort has no context. Reading has one thread, and this is set around each
 * sort. */
static const struct run *sorted_runs;

static int by_middle(const void *a, const void *b) {
    const struct span *left = &sorted_runs[*(const uint32_t *)a].box;
    const struct span *right = &sorted_runs[*(const uint32_t *)b].box;
    float difference = left->y0 + left->y1 - right->y0 - right->y1;
    if (difference != 0)
        return difference < 0 ? -1 : 1;
    return left->x0 < right->x0 ? -1 : left->x0 > right->x0;
}

static int by_left(const void *a, const void *b) {
    const struct span *left = &sorted_runs[*(const uint32_t *)a].box;
    const struct span *right = &sorted_runs[*(const uint32_t *)b].box;
    return left->x0 < right->x0 ? -1 : left->x0 > right->x0;
}

void layout_sort_runs(const struct layout *layout, uint32_t *runs, size_t n) {
    sorted_runs = layout->runs;
    qsort(runs, n, sizeof *runs, by_middle);
}

/* Dots and nothing else, as between a title and its page in a table of contents. */
static size_t count_leaders(const struct raw_word *word) {
    size_t dots = strspn(word->text, ".");
    return dots == word->len || dots > 3 ? dots : 0;
}

static bool is_raised_number(const struct raw_word *word, const struct line *line) {
    return line->n > 1 && word->len <= 3 && strspn(word->text, "0123456789") == word->len &&
           word->size_pt < 0.85f * line->size;
}

static void add_line(struct layout *layout, uint32_t page_i, uint32_t *runs, size_t n) {
    const struct raw_word *words = layout->raw->words;
    struct line *line = &layout->lines[layout->n_lines++];
    const struct run *first = &layout->runs[runs[0]];
    size_t bold = 0, italic = 0, mono = 0, total = 0, leaders = 0, largest = 0;
    *line = (struct line){.first = layout->n_order,
                          .page_i = page_i,
                          .leaf = layout->n_leaves,
                          .box = first->box,
                          .size = first->size,
                          .role = first->role,
                          .repeated = true,
                          .mono = true,
                          .bold = true};
    sorted_runs = layout->runs;
    qsort(runs, n, sizeof *runs, by_left);
    for (size_t i = 0; i < n; i++) {
        const struct run *run = &layout->runs[runs[i]];
        float gap = run->box.x0 - line->box.x1;
        /* A number or a bullet before the gap is a heading's or an item's, no cell. */
        if (i > 0 && gap > ROW_GAP_EM * run->size && !(i == 1 && first->n == 1))
            line->row = true;
        line->box = span_union(line->box, run->box);
        line->repeated &= run->repeated;
        if (run->n > largest) {
            largest = run->n;
            line->size = run->size;
        }
        for (uint32_t k = 0; k < run->n; k++) {
            const struct raw_word *word = &words[run->first + k];
            total += word->len;
            bold += word->style & RAW_BOLD ? word->len : 0;
            mono += word->style & RAW_MONO ? word->len : 0;
            italic += word->style & RAW_ITALIC ? word->len : 0;
            leaders += count_leaders(word);
            line->ocr |= (word->style & RAW_OCR) != 0;
            line->note |= (word->style & RAW_NOTE) != 0;
            layout->order[layout->n_order++] = run->first + k;
        }
    }
    line->n = layout->n_order - line->first;
    line->bold = bold * 10 >= total * 8;
    line->mono = mono * 10 >= total * 8;
    line->italic = italic * 10 >= total * 8;
    line->row |= leaders >= 4;
    line->raised = is_raised_number(&words[layout->order[line->first]], line);
    line->rtl = layout_words_rtl(words, layout->order + line->first, line->n);
    if (line->rtl && layout->frames[page_i].turn == 0 && !first->upright)
        layout_order_rtl(words, layout->order + line->first, line->n);
}

/* Whether run stands at the height of a line whose middle is at `middle`. */
static bool same_height(const struct run *run, struct span line) {
    float middle = (run->box.y0 + run->box.y1) / 2, line_middle = (line.y0 + line.y1) / 2;
    float inset = (line.y1 - line.y0) * 0.2f, run_inset = (run->box.y1 - run->box.y0) * 0.2f;
    return (middle > line.y0 + inset && middle < line.y1 - inset) ||
           (line_middle > run->box.y0 + run_inset && line_middle < run->box.y1 - run_inset);
}

void layout_add_leaf(struct layout *layout, uint32_t page_i, uint32_t *runs, size_t n) {
    uint32_t first_line = layout->n_lines;
    float left = INFINITY, right = -INFINITY;
    layout_sort_runs(layout, runs, n);
    for (size_t i = 0; i < n;) {
        const struct run *first = &layout->runs[runs[i]];
        struct span span = first->box;
        size_t end = i + 1;
        while (end < n && !first->upright && !layout->runs[runs[end]].upright &&
               same_height(&layout->runs[runs[end]], span)) {
            /* A tall neighbour (a brace, a big initial) does not make the line taller. */
            struct span box = layout->runs[runs[end]].box;
            if (box.y1 - box.y0 < 1.3f * (span.y1 - span.y0))
                span = span_union(span, box);
            end++;
        }
        add_line(layout, page_i, runs + i, end - i);
        i = end;
    }
    for (uint32_t i = first_line; i < layout->n_lines; i++) {
        left = fminf(left, layout->lines[i].box.x0);
        right = fmaxf(right, layout->lines[i].box.x1);
    }
    for (uint32_t i = first_line; i < layout->n_lines; i++) {
        layout->lines[i].left = left;
        layout->lines[i].right = right;
    }
    layout->n_leaves++;
}
