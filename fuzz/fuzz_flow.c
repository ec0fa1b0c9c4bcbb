/* The readers of HTML, Markdown, CSV and text (the first byte says which), the page made of what
 * they read, and the places of its words among pages made of the same bytes in another order. */
#include <stdlib.h>
#include <string.h>

#include "read/container.h"
#include "read/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Words of the input, cut at white space and here and there inside, some left out, some twice. */
static void make_pages(struct raw_pages *raw, struct read_task *task, const char *text, size_t len,
                       uint8_t dice) {
    size_t cap = len + 2;
    raw->words = arena_alloc(task->arena, cap * sizeof(*raw->words));
    raw->n_pages = 3;
    for (int i = 0; i < 3; i++)
        doc_add_page(task->builder, 600, 800, 0);
    for (size_t pos = 0; pos < len && raw->n_words + 1 < cap;) {
        size_t start = pos, next = pos;
        while (next < len && !text_is_space(utf8_next(text, len, &next)) &&
               next - start < 20u + dice % 7)
            pos = next;
        if (pos == start) {
            pos = next;
            continue;
        }
        dice = (uint8_t)(dice * 5 + 3);
        if (dice % 11 == 0)
            continue;
        float y = (float)(raw->n_words % 90) / 100;
        raw->words[raw->n_words] = (struct raw_word){.text = text + start,
                                                     .len = (uint32_t)(pos - start),
                                                     .page_i = (uint32_t)(3 * start / (len + 1)),
                                                     .line = (uint32_t)raw->n_words,
                                                     .box = {0.1f, y, 0.2f, y + 0.02f},
                                                     .size_pt = 10};
        raw->n_words++;
        if (dice % 13 == 0) {
            raw->words[raw->n_words] = raw->words[raw->n_words - 1];
            raw->n_words++;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static bool (*const readers[])(struct flow *, struct read_task *, struct error *) = {
        flow_read_html, flow_read_markdown, flow_read_csv, flow_read_text};
    static const enum read_format formats[] = {FORMAT_HTML, FORMAT_PPTX, FORMAT_XLSX, FORMAT_TEXT};
    if (len < 2 || len > 100000)
        return 0;
    container_prepare();
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct read_task task = {.data = data + 2,
                             .size = len - 2,
                             .arena = arena,
                             .builder = doc_builder_new("html"),
                             .format = formats[data[0] >> 2 & 3]};
    struct error err = {0};
    if (readers[data[0] & 3](&flow, &task, &err)) {
        for (size_t i = 0; i < flow.n_items; i++) {
            struct flow_item *item = &flow.items[i];
            if (!utf8_valid(item->text, strlen(item->text)))
                abort();
            if (data[0] >= 128 && item->kind == DOC_HEADING)
                item->kind = i % 2 == 0 ? DOC_PAGE_HEADER : DOC_PAGE_FOOTER;
        }
        struct buf html = {0};
        struct raw_pages raw = {0};
        struct document *doc = NULL;
        size_t n = 0;
        char *text = flow_decode(&n, arena, data + 2, len - 2, NULL);
        make_pages(&raw, &task, text, n, data[1]);
        flow_write_html(&html, &flow);
        flow_place(&task, &flow, &raw);
        if (!utf8_valid(html.data, html.len) || !doc_finish(&doc, task.builder, &err))
            abort();
        doc_free(doc);
        buf_fini(&html);
    } else {
        doc_builder_free(task.builder);
    }
    arena_free(arena);
    return 0;
}
