/* Plain text as a flow: blank lines part paragraphs, form feeds part pages. */
#include <string.h>

#include "read/flow.h"

#define MAX_PARAGRAPH                                                                              \
    8192 /* longer ones are cut, at a line's or a word's end where there is one                    \
          */

static size_t line_end(const char *text, size_t len, size_t i) {
    while (i < len && text[i] != '\n' && text[i] != '\f')
        i++;
    return i;
}

static bool is_blank_line(const char *text, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\v')
            return false;
    }
    return true;
}

static void end_paragraph(struct flow *flow, struct flow_text *text, int page) {
    if (text->buf.len > 0) {
        struct flow_item *item = flow_add(flow, DOC_PARAGRAPH, 0, text->buf.data);
        if (item != NULL)
            item->page_hint = page;
    }
    flow_text_clear(text);
}

/* One line into the paragraph; a very long one is several paragraphs. */
static void put_line(struct flow *flow, struct flow_text *text, const char *line, size_t len,
                     int page) {
    while (len > 0 && !flow->full) {
        if (text->buf.len > MAX_PARAGRAPH / 2 && text->buf.len + len > MAX_PARAGRAPH)
            end_paragraph(flow, text, page);
        size_t take = len;
        if (take > MAX_PARAGRAPH) {
            take = MAX_PARAGRAPH;
            while (take > MAX_PARAGRAPH / 2 && line[take] != ' ')
                take--;
            if (line[take] != ' ')
                take = utf8_cut(line, len, MAX_PARAGRAPH);
        }
        flow_text_put(text, line, take);
        if (take < len)
            end_paragraph(flow, text, page);
        line += take;
        len -= take;
    }
    flow_text_break(text);
}

bool flow_read_text(struct flow *flow, struct read_task *task, struct error *err) {
    size_t len = 0;
    char *bytes = flow_decode(&len, task->arena, task->data, task->size, NULL);
    if (bytes == NULL)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for the text");
    for (size_t i = 0; i < len; i++) { /* old Macintosh line ends */
        if (bytes[i] == '\r' && (i + 1 == len || bytes[i + 1] != '\n'))
            bytes[i] = '\n';
    }
    struct flow_text text = {0};
    int page = 0;
    for (size_t i = 0; i < len && !flow->full;) {
        size_t end = line_end(bytes, len, i);
        if (is_blank_line(bytes, i, end))
            end_paragraph(flow, &text, page);
        else
            put_line(flow, &text, bytes + i, end - i, page);
        if (end < len && bytes[end] == '\f') {
            end_paragraph(flow, &text, page);
            page += flow->n_items > 0;
        }
        i = end + 1;
    }
    end_paragraph(flow, &text, page);
    flow_text_fini(&text);
    return true;
}
