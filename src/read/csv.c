/* Delimited text as tables: the delimiter is found, the first row is the header, rows may be uneven
 * and quoted fields may hold anything (RFC 4180, read generously). */
#include <string.h>

#include "read/flow.h"

#define SNIFF_BYTES 65536
#define SNIFF_ROWS 200

struct csv {
    const char *text;
    size_t len, at;
    char delimiter;
    struct buf field;
};

/* One field into csv->field; true while the row goes on after it. */
static bool read_field(struct csv *csv) {
    buf_clear(&csv->field);
    bool quoted = csv->at < csv->len && csv->text[csv->at] == '"';
    csv->at += quoted;
    while (csv->at < csv->len) {
        char c = csv->text[csv->at++];
        if (quoted && c == '"') {
            if (csv->at < csv->len && csv->text[csv->at] == '"') {
                buf_putc(&csv->field, '"');
                csv->at++;
            } else {
                quoted = false;
            }
        } else if (!quoted && c == csv->delimiter) {
            return true;
        } else if (!quoted && (c == '\n' || c == '\r')) {
            if (c == '\r' && csv->at < csv->len && csv->text[csv->at] == '\n')
                csv->at++;
            return false;
        } else {
            buf_putc(&csv->field, c);
        }
    }
    return false;
}

/* How well a delimiter explains the beginning: rows that have as many fields as the first, when
 * that is more than one. */
static size_t judge_delimiter(const char *text, size_t len, char delimiter) {
    struct csv csv = {.text = text, .len = len, .delimiter = delimiter};
    size_t first = 0, alike = 0;
    for (size_t row = 0; row < SNIFF_ROWS && csv.at < csv.len; row++) {
        size_t n = 1;
        while (read_field(&csv))
            n++;
        if (row == 0)
            first = n;
        alike += n == first;
    }
    buf_fini(&csv.field);
    return first > 1 ? alike * 1000 + (first > 900 ? 900 : first) : 0;
}

static char sniff(const char *text, size_t len) {
    static const char candidates[] = {',', ';', '\t', '|'};
    size_t n = len > SNIFF_BYTES ? SNIFF_BYTES : len, best_score = 0;
    char best = ',';
    for (size_t i = 0; i < sizeof(candidates); i++) {
        size_t score = judge_delimiter(text, n, candidates[i]);
        if (score > best_score) {
            best_score = score;
            best = candidates[i];
        }
    }
    return best;
}

/* A field's lines, each trimmed. */
static void put_field(struct flow_text *text, const struct buf *field) {
    flow_text_clear(text);
    for (size_t i = 0; i < field->len;) {
        const char *end = memchr(field->data + i, '\n', field->len - i);
        size_t n = end == NULL ? field->len - i : (size_t)(end - field->data) - i;
        flow_text_put(text, field->data + i, n);
        if (end != NULL)
            flow_text_break(text);
        i += n + 1;
    }
}

bool flow_read_csv(struct flow *flow, struct read_task *task, struct error *err) {
    size_t len = 0;
    char *bytes = flow_decode(&len, task->arena, task->data, task->size, NULL);
    if (bytes == NULL)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for the table");
    struct csv csv = {.text = bytes, .len = len, .delimiter = sniff(bytes, len)};
    struct flow_table table = {0};
    struct flow_text text = {0};
    bool header = true, ok = true;
    for (size_t row = 0; csv.at < csv.len && ok;) {
        bool more = true, any = false;
        for (size_t col = 0; more; col++) {
            more = read_field(&csv);
            put_field(&text, &csv.field);
            any = any || text.buf.len > 0;
            ok = ok && flow_table_add(&table, flow, row, col, 1, 1, header, flow_text_get(&text),
                                      text.buf.len);
        }
        if (!any) { /* an empty line is no row */
            while (table.n > 0 && table.cells[table.n - 1].row == row)
                table.n--;
            continue;
        }
        header = false;
        if (++row == FLOW_TABLE_ROWS) {
            flow_add_table(flow, &table);
            row = 0;
        }
    }
    flow_add_table(flow, &table);
    flow_table_fini(&table);
    flow_text_fini(&text);
    buf_fini(&csv.field);
    return true;
}
