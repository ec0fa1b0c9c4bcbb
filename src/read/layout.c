/* Raw words -> elements, where the file has no structure of its own.
 *
 * Words become runs, runs that repeat from page to page are set aside, the rest of each page is cut
 * into leaves in reading order, leaves into lines, lines into paragraphs, and each paragraph gets
 * its kind. Every raw word is in exactly one element, but for the markers of list items, which
 * their kind says. Everything is linear or n log n in the words. */
#include "read/layout.h"

#include <string.h>

#define SCRATCH_MAX_BYTES ((size_t)900 << 20)

/* Page headers, then the body, then text across the frame, comments and footers. */
static void read_page(struct layout *layout, uint32_t page_i, uint32_t *runs) {
    const struct page_frame *frame = &layout->frames[page_i];
    const struct raw_word *words = layout->raw->words;
    enum { HEADER, BODY, UPRIGHT, NOTE, FOOTER, N_PARTS };
    for (int part = 0; part < N_PARTS; part++) {
        size_t n = 0;
        for (uint32_t i = 0; i < frame->n_runs; i++) {
            const struct run *run = &layout->runs[frame->first_run + i];
            int belongs = run->role == RUN_HEADER              ? HEADER
                          : run->role == RUN_FOOTER            ? FOOTER
                          : words[run->first].style & RAW_NOTE ? NOTE
                          : run->upright                       ? UPRIGHT
                                                               : BODY;
            if (belongs == part)
                runs[n++] = frame->first_run + i;
        }
        if (part == BODY)
            layout_cut_page(layout, page_i, runs, n);
        else if (part == NOTE)
            for (size_t i = 0; i < n; i++) /* one comment is one line */
                layout_add_leaf(layout, page_i, runs + i, 1);
        else if (n > 0)
            layout_add_leaf(layout, page_i, runs, n);
    }
}

/* Without the memory to do better: the words as they came, a paragraph a page. */
static void write_plainly(struct read_task *task, const struct raw_pages *raw) {
    for (size_t i = 0; i < raw->n_words; i++) {
        const struct raw_word *word = &raw->words[i];
        bool first = i == 0 || raw->words[i - 1].page_i != word->page_i;
        if (first && i > 0)
            doc_end(task->builder);
        if (first)
            doc_begin(task->builder, DOC_PARAGRAPH, 0, 0);
        doc_put(task->builder, first || word->glued ? "" : " ", word->text, word->len, word->page_i,
                &word->box);
    }
    if (raw->n_words > 0)
        doc_end(task->builder);
}

static bool read_structure(struct layout *layout) {
    const struct raw_pages *raw = layout->raw;
    if (!layout_find_runs(layout))
        return false;
    layout->order = arena_try(layout->arena, raw->n_words, sizeof *layout->order);
    layout->lines = arena_try(layout->arena, layout->n_runs, sizeof *layout->lines);
    uint32_t *runs = arena_try(layout->arena, layout->n_runs, sizeof *runs);
    if (!layout->order || !layout->lines || !runs)
        return false;
    layout_find_repeats(layout);
    for (uint32_t page_i = 0; page_i < raw->n_pages; page_i++)
        read_page(layout, page_i, runs);
    if (!layout_find_paras(layout))
        return false;
    layout_find_kinds(layout);
    return true;
}

void read_layout(struct read_task *task, const struct raw_pages *raw) {
    if (raw->n_words == 0)
        return;
    struct layout layout = {.raw = raw, .arena = arena_new(SCRATCH_MAX_BYTES)};
    if (raw->n_words < UINT32_MAX && read_structure(&layout))
        layout_write(&layout, task);
    else
        write_plainly(task, raw);
    arena_free(layout.arena);
}
