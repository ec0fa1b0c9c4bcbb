/* The run of every group, and what they share. */
#include "tests.h"

#include <stdio.h>

void fixture_read(struct fixture *fixture, flow_reader read, const void *data, size_t size) {
    memset(fixture, 0, sizeof(*fixture));
    fixture->flow.arena = arena_new(0);
    fixture->task.arena = fixture->flow.arena;
    fixture->task.data = data;
    fixture->task.size = size;
    fixture->ok = read(&fixture->flow, &fixture->task, &fixture->err);
}

void fixture_read_text(struct fixture *fixture, flow_reader read, const char *text) {
    fixture_read(fixture, read, text, strlen(text));
}

void fixture_fini(struct fixture *fixture) {
    arena_free(fixture->flow.arena);
}

static void show_item(struct buf *out, const struct flow_item *item) {
    static const char *const names[] = {"title",   "h",      "p",       "li",   "table",
                                        "caption", "code",   "formula", "foot", "note",
                                        "picture", "header", "footer"};
    bool ordered = (item->flags & DOC_ORDERED) != 0;
    buf_puts(out, ordered ? "ol" : names[item->kind]);
    if (item->kind == DOC_HEADING || item->kind == DOC_LIST_ITEM)
        buf_printf(out, "%d", item->level);
    if ((item->flags & FLOW_UNSEEN) != 0)
        buf_puts(out, " unseen");
    if (item->kind != DOC_TABLE)
        buf_printf(out, " %s", item->text);
    buf_putc(out, '\n');
    for (size_t i = 0; i < item->n_cells; i++) {
        const struct flow_cell *cell = &item->cells[i];
        buf_printf(out, "  %d,%d", cell->row, cell->col);
        if (cell->row_span > 1 || cell->col_span > 1)
            buf_printf(out, "+%dx%d", cell->row_span, cell->col_span);
        buf_printf(out, "%s %s\n", cell->header ? "!" : "", cell->text);
    }
}

char *fixture_show(struct fixture *fixture) {
    struct buf out = {0};
    for (size_t i = 0; i < fixture->flow.n_items; i++)
        show_item(&out, &fixture->flow.items[i]);
    char *text = arena_strndup(fixture->flow.arena, out.len > 0 ? out.data : "", out.len);
    buf_fini(&out);
    return text;
}

void assert_flow(struct fixture *fixture, const char *expected) {
    if (!fixture->ok)
        fail_msg("%s: %s", fixture->err.code, fixture->err.text);
    assert_string_equal(fixture_show(fixture), expected);
}

int main(void) {
    container_prepare();
    int n_failed = run_align() + run_hostile() + run_number() + run_place() + run_sheet() +
                   run_slide() + run_text() + run_word();
    return n_failed == 0 ? 0 : 1;
}
