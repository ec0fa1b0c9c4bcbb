/* Page headers and footers: runs in the top and bottom tenth of the page that stand at the same
 * height on several pages with the same text, numbers aside. */
#include "read/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ZONE 0.1f          /* of the page's height, at the top and at the bottom */
#define NUMBER_ZONE 0.17f  /* for page numbers, which some set far from the edge */
#define SAME_HEIGHT 0.012f /* of the page's height */
#define LARGE_TYPE 1.3f    /* times the body's: a heading, not a page header */

struct entry {      /* a run in a zone */
    uint64_t key;   /* hash of its text, numbers aside */
    uint64_t exact; /* hash of its text */
    uint32_t page_i, run_i;
    uint32_t rank; /* of its line; 0: the outermost of its zone */
    float y;
    bool top, alone;
    bool number; /* a page number and nothing else */
    bool found;
};

struct finder {
    struct layout *layout;
    struct entry *entries;
    size_t n_entries;
};

#define HASH_START 0xcbf29ce484222325u

static uint64_t hash_add(uint64_t hash, uint32_t value) {
    return (hash ^ value) * 0x100000001b3u;
}

static bool is_roman(const struct raw_word *word) {
    return word->len > 0 && word->len < 8 && strspn(word->text, "ivxlcIVXLC") == word->len;
}

static bool is_page_word(const struct raw_word *word) {
    static const char *const words[] = {"page", "Page", "PAGE", "Seite", "p.", "of", "von", "sur"};
    for (size_t i = 0; i < BASE_COUNT(words); i++)
        if (strcmp(word->text, words[i]) == 0)
            return true;
    return false;
}

/* Takes a word into the entry's hashes. */
static void entry_add_word(struct entry *entry, const struct raw_word *word, bool *digits) {
    uint64_t key = entry->key;
    bool number = is_roman(word), in_number = false, letters = false;
    for (size_t at = 0; at < word->len;) {
        uint32_t c = utf8_next(word->text, word->len, &at);
        entry->exact = hash_add(entry->exact, c);
        if (c >= '0' && c <= '9') {
            *digits = true;
            if (!in_number)
                key = hash_add(key, '#');
            in_number = true;
            continue;
        }
        in_number = false;
        letters |= text_is_word(c);
        key = hash_add(key, c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    entry->exact = hash_add(entry->exact, ' ');
    *digits |= number;
    entry->key = hash_add(number ? hash_add(entry->key, '#') : key, ' ');
    if (letters && !number && !is_page_word(word))
        entry->number = false;
}

static void add_entry(struct finder *finder, uint32_t page_i, bool top, uint32_t rank,
                      uint32_t run_i, bool alone) {
    const struct layout *layout = finder->layout;
    const struct run *run = &layout->runs[run_i];
    bool digits = false;
    if (run->size > LARGE_TYPE * layout->body_size)
        return;
    struct entry *entry = &finder->entries[finder->n_entries++];
    *entry = (struct entry){.key = HASH_START,
                            .exact = HASH_START,
                            .page_i = page_i,
                            .run_i = run_i,
                            .rank = rank,
                            .top = top,
                            .alone = alone,
                            .number = true,
                            .y = (run->box.y0 + run->box.y1) / 2 / layout->frames[page_i].height};
    for (uint32_t k = 0; k < run->n; k++)
        entry_add_word(entry, &layout->raw->words[run->first + k], &digits);
    entry->number &= digits;
}

/* The lines of one zone, from the page's edge inwards. */
static void find_zone(struct finder *finder, uint32_t page_i, bool top, uint32_t *runs) {
    const struct layout *layout = finder->layout;
    const struct page_frame *frame = &layout->frames[page_i];
    size_t n = 0;
    uint32_t rank = 0;
    for (uint32_t i = 0; i < frame->n_runs; i++) {
        const struct run *run = &layout->runs[frame->first_run + i];
        float y = (run->box.y0 + run->box.y1) / 2 / frame->height;
        bool note = layout->raw->words[run->first].style & RAW_NOTE;
        if (!run->upright && !note && (top ? y < NUMBER_ZONE : y > 1 - NUMBER_ZONE))
            runs[n++] = frame->first_run + i;
    }
    layout_sort_runs(layout, runs, n);
    for (size_t taken = 0; taken < n; rank++) {
        size_t from = top ? taken : n - 1 - taken, length = 1;
        const struct span edge = layout->runs[runs[from]].box;
        while (taken + length < n) {
            struct span box = layout->runs[runs[top ? from + length : from - length]].box;
            float apart = fabsf(box.y0 + box.y1 - edge.y0 - edge.y1) / 2;
            if (apart > 0.4f * (edge.y1 - edge.y0))
                break;
            length++;
        }
        for (size_t i = 0; i < length; i++)
            add_entry(finder, page_i, top, rank, runs[top ? from + i : from - i], length == 1);
        taken += length;
    }
}

static int by_key(const void *a, const void *b) {
    const struct entry *left = a, *right = b;
    if (left->top != right->top)
        return left->top ? -1 : 1;
    if (left->key != right->key)
        return left->key < right->key ? -1 : 1;
    if (left->y != right->y)
        return left->y < right->y ? -1 : 1;
    return left->page_i < right->page_i ? -1 : left->page_i > right->page_i;
}

static int by_exact(const void *a, const void *b) {
    const struct entry *left = a, *right = b;
    if (left->found != right->found)
        return left->found ? -1 : 1;
    if (left->exact != right->exact)
        return left->exact < right->exact ? -1 : 1;
    return left->page_i < right->page_i ? -1 : left->page_i > right->page_i;
}

/* Entries [from, to) have one text and one height. */
static void judge(struct finder *finder, size_t from, size_t to) {
    uint32_t n_pages = finder->layout->raw->n_pages, pages = 0, nearest = UINT32_MAX;
    uint32_t last = UINT32_MAX;
    for (size_t i = from; i < to; i++) {
        uint32_t page_i = finder->entries[i].page_i;
        uint32_t apart = last == UINT32_MAX ? UINT32_MAX
                         : page_i > last    ? page_i - last
                                            : last - page_i;
        if (apart == 0)
            continue;
        if (apart < nearest)
            nearest = apart;
        last = page_i;
        pages++;
    }
    bool usual = pages >= 2 && pages * 2 >= n_pages;
    bool common = pages >= 2 && pages * 5 >= n_pages && (pages >= 3 || n_pages <= 3);
    bool near = pages >= 3 || (pages >= 2 && nearest <= 2);
    for (size_t i = from; i < to; i++) {
        struct entry *entry = &finder->entries[i];
        bool outer = entry->rank == 0, number = entry->number;
        if (entry->top ? entry->y < ZONE : entry->y > 1 - ZONE)
            entry->found = common || (outer && near) || (outer && number && entry->alone);
        else
            entry->found = outer && number && usual;
    }
}

static void apply(struct finder *finder) {
    struct layout *layout = finder->layout;
    qsort(finder->entries, finder->n_entries, sizeof *finder->entries, by_exact);
    for (size_t i = 0; i < finder->n_entries && finder->entries[i].found; i++) {
        const struct entry *entry = &finder->entries[i], *before = entry - 1;
        bool repeated = i > 0 && before->exact == entry->exact && before->page_i < entry->page_i;
        layout->runs[entry->run_i].role = entry->top ? RUN_HEADER : RUN_FOOTER;
        layout->runs[entry->run_i].repeated = repeated;
    }
}

void layout_find_repeats(struct layout *layout) {
    struct finder finder = {.layout = layout};
    uint32_t *runs = arena_try(layout->arena, layout->n_runs + 1u, sizeof *runs);
    finder.entries = arena_try(layout->arena, layout->n_runs + 1u, sizeof *finder.entries);
    if (!runs || !finder.entries)
        return;
    for (uint32_t page_i = 0; page_i < layout->raw->n_pages; page_i++) {
        find_zone(&finder, page_i, true, runs);
        find_zone(&finder, page_i, false, runs);
    }
    qsort(finder.entries, finder.n_entries, sizeof *finder.entries, by_key);
    for (size_t from = 0, to; from < finder.n_entries; from = to) {
        const struct entry *entries = finder.entries;
        to = from + 1;
        while (to < finder.n_entries && entries[to].top == entries[from].top &&
               entries[to].key == entries[from].key &&
               entries[to].y - entries[to - 1].y < SAME_HEIGHT)
            to++;
        judge(&finder, from, to);
    }
    apply(&finder);
}
