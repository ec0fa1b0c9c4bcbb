/* OCR of a page that has no text, or none that can be used: it is drawn in grey from its display
 * list, and what is recognised becomes words like any others. */
#include "read/pages_reading.h"

#include <math.h>
#include <string.h>

#include "read/ocr.h"
#include "read/picture.h"

#define OCR_DPI 300
#define OCR_MAX_PIXELS 40e6
#define OCR_TIMEOUT_MS 60000
#define OCR_SMALL_IMAGE 1200 /* pixels; images shorter than this are enlarged for OCR */

static double ocr_scale(const struct reading *reading, const struct page *page) {
    double width = page->bounds.x1 - page->bounds.x0, height = page->bounds.y1 - page->bounds.y0;
    double scale = OCR_DPI / 72.0;
    if (reading->image) {
        double longest = fmax(width, height);
        scale = page_picture_scale(reading, page);
        while (scale * longest < OCR_SMALL_IMAGE)
            scale *= 2;
    }
    scale = fmin(scale, PICTURE_MAX_SIDE * 2 / fmax(width, height));
    return fmin(scale, sqrt(OCR_MAX_PIXELS / width / height));
}

struct alive {
    struct reading *reading;
    uint32_t page_i;
};

static bool ocr_alive(void *ctx) {
    struct alive *alive = ctx;
    read_task_progress(alive->reading->task, alive->page_i, alive->reading->n_pages);
    return true;
}

static bool overlaps_any(const struct raw_list *list, size_t first, size_t end,
                         const struct doc_box *box) {
    float x = (box->x0 + box->x1) / 2, y = (box->y0 + box->y1) / 2;
    for (size_t i = first; i < end; i++) {
        const struct doc_box *other = &list->words[i].box;
        if (x >= other->x0 && x <= other->x1 && y >= other->y0 && y <= other->y1)
            return true;
    }
    return false;
}

/* Words at least half of whose characters have no Unicode value. */
static void drop_unmapped(struct raw_list *list, size_t first) {
    size_t kept = first;
    for (size_t i = first; i < list->n; i++) {
        const struct raw_word *word = &list->words[i];
        size_t n = 0, n_unmapped = 0;
        for (size_t at = 0; at < word->len; n++)
            n_unmapped += pages_text_is_unmapped(utf8_next(word->text, word->len, &at));
        if (n_unmapped * 2 < n)
            list->words[kept++] = *word;
    }
    list->n = kept;
}

/* first: the page's first word in the list. The few words of a text layer stay, and are not read a
 * second time. */
static void add_ocr_words(struct reading *reading, const struct page *page,
                          const struct ocr_result *found, size_t first, double scale) {
    struct raw_list *list = &reading->words;
    size_t end = list->n;
    uint32_t line = list->n_lines, block = list->n_blocks;
    for (size_t i = 0; i < found->n_words; i++) {
        const struct ocr_word *from = &found->words[i];
        struct raw_word word = {.page_i = page->page_i,
                                .line = line + from->line,
                                .block = block + from->block,
                                .box = from->box,
                                .size_pt = (float)(from->size_px / scale),
                                .style = RAW_OCR};
        if (list->n_lines <= word.line)
            list->n_lines = word.line + 1;
        if (list->n_blocks <= word.block)
            list->n_blocks = word.block + 1;
        if (!overlaps_any(list, first, end, &word.box))
            raw_list_add(list, &word, from->text, strlen(from->text));
    }
}

void page_read_ocr(struct reading *reading, struct page *page, size_t first) {
    fz_context *ctx = reading->ctx;
    double scale = ocr_scale(reading, page);
    if (ocr_describe()[0] == '\0') {
        page_set_add(&reading->ocr_absent, page->page_i);
        return;
    }
    memset(&reading->cookie, 0, sizeof reading->cookie);
    pages_watch_begin(&reading->cookie, time_mono_ms() + pages_timeout_ms);
    fz_pixmap *pixmap = page_draw(reading, page, fz_device_gray(ctx), scale);
    bool aborted = pages_watch_end();
    if (!pixmap || aborted) {
        fz_drop_pixmap(ctx, pixmap);
        return;
    }
    struct alive alive = {reading, page->page_i};
    struct ocr_request request = {.grey = fz_pixmap_samples(ctx, pixmap),
                                  .width = fz_pixmap_width(ctx, pixmap),
                                  .height = fz_pixmap_height(ctx, pixmap),
                                  .dpi = (int)(scale * 72 + 0.5),
                                  .timeout_ms = OCR_TIMEOUT_MS,
                                  .alive = ocr_alive,
                                  .ctx = &alive};
    struct ocr_result found = {0};
    enum ocr_outcome outcome = ocr_read(&found, reading->task->arena, &request);
    fz_drop_pixmap(ctx, pixmap);
    switch (outcome) {
    case OCR_DONE:
        if (found.n_words > 0) {
            drop_unmapped(&reading->words, first);
            add_ocr_words(reading, page, &found, first, scale);
            doc_page_set_flags(reading->task->builder, page->page_i, DOC_PAGE_OCR);
        }
        break;
    case OCR_TIMEOUT:
        page_set_add(&reading->ocr_slow, page->page_i);
        break;
    case OCR_POOR:
        page_set_add(&reading->ocr_poor, page->page_i);
        break;
    case OCR_ABSENT:
        page_set_add(&reading->ocr_absent, page->page_i);
        break;
    }
}
