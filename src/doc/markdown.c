/* Markdown out of a document: CommonMark 0.30 with the pipe tables of GFM.
 *
 * Text is escaped so that it reads back as itself. Line breaks in a paragraph stay (they read back
 * as soft breaks); white space at a line's ends and empty lines have no way of being said and are
 * left out. Repeated furniture is left out. */
#include "doc/internal.h"

#include <string.h>

#define LIST_DEPTH 9
#define INDENT_MAX 128 /* nine markers of at most eleven characters */

/* ---- inline text ---------------------------------------------------------------------------- */

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c) {
    return is_letter(c) || is_digit(c) || (unsigned char)c >= 0x80;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

/* Whether text[i] would be taken for markup in the middle of a line. */
static bool needs_escape(const char *text, size_t len, size_t i) {
    char last = i > 0 ? text[i - 1] : ' ', next = i + 1 < len ? text[i + 1] : ' ';
    switch (text[i]) {
    case '\\':
    case '`':
    case '*':
    case '[':
    case ']':
    case '|':
    case '~':
        return true;
    case '_':
        return !is_alnum(last) || !is_alnum(next);
    case '<':
        return is_letter(next) || next == '/' || next == '!' || next == '?';
    case '&':
        return is_letter(next) || next == '#';
    default:
        return false;
    }
}

/* Where the character stands that must be escaped lest the line begin a block; len: nowhere. */
static size_t line_marker(const char *line, size_t len) {
    size_t n = 0;
    char next = len > 1 ? line[1] : ' ';
    while (n < len && n < 10 && is_digit(line[n]))
        n++;
    if (n > 0 && n < len && (line[n] == '.' || line[n] == ')'))
        return n + 1 == len || is_blank(line[n + 1]) ? n : len;
    switch (line[0]) {
    case '#':
    case '>':
    case '=':
        return 0;
    case '+':
    case '-':
        return is_alnum(next) ? len : 0;
    case ':':
        return next == '-' ? 0 : len;
    default:
        return len;
    }
}

/* One line, not empty, trimmed by the caller. */
static void append_line(struct buf *out, const char *line, size_t len, bool at_line_start) {
    size_t marker = at_line_start ? line_marker(line, len) : len;
    for (size_t i = 0; i < len; i++) {
        if (i == marker || needs_escape(line, len, i))
            buf_putc(out, '\\');
        buf_putc(out, is_blank(line[i]) ? ' ' : line[i]);
    }
}

/* Text as lines, each but the first after a '\n' and indent; joined by `joint` instead where that
 * is not NULL. */
static void append_text(struct buf *out, const char *text, size_t len, const char *indent,
                        const char *joint) {
    bool first = true;
    for (size_t pos = 0; pos < len;) {
        size_t end = pos;
        while (end < len && text[end] != '\n' && text[end] != '\r')
            end++;
        size_t from = pos, to = end;
        while (from < to && is_blank(text[from]))
            from++;
        while (to > from && is_blank(text[to - 1]))
            to--;
        if (to > from) {
            if (!first && joint)
                buf_puts(out, joint);
            if (!first && !joint)
                buf_printf(out, "\n%s", indent);
            append_line(out, text + from, to - from, first || !joint);
            first = false;
        }
        pos = end + 1;
    }
}

/* ---- blocks --------------------------------------------------------------------------------- */

struct writer {
    struct buf *out;
    const struct document *doc;
    bool has_title;
    int depth;                 /* of the list being written; 0 none */
    int width[LIST_DEPTH + 1]; /* of the marker last written at each depth */
    uint32_t number[LIST_DEPTH + 1];
};

static const char *element_text(const struct writer *writer, const struct doc_element *element) {
    return writer->doc->text + element->off;
}

/* Ends what stands before: an empty line between blocks. */
static void block_begin(struct writer *writer) {
    if (writer->out->len > 0)
        buf_puts(writer->out, "\n");
    writer->depth = 0;
}

static void write_heading(struct writer *writer, const struct doc_element *element) {
    struct buf *out = writer->out;
    int level = element->kind == DOC_TITLE ? 1 : element->level + writer->has_title;
    block_begin(writer);
    for (int i = 0; i < (level < 6 ? level : 6); i++)
        buf_putc(out, '#');
    buf_putc(out, ' ');
    size_t start = out->len;
    append_text(out, element_text(writer, element), element->len, "", " ");
    /* A run of '#' at the end would be taken for the closing one. */
    if (!out->failed && out->len > start && out->data[out->len - 1] == '#' &&
        (out->len - 1 == start || out->data[out->len - 2] != '\\')) {
        out->len--;
        buf_puts(out, "\\#");
    }
    buf_putc(out, '\n');
}

static void write_paragraph(struct writer *writer, const struct doc_element *element,
                            const char *indent) {
    block_begin(writer);
    buf_puts(writer->out, indent);
    append_text(writer->out, element_text(writer, element), element->len, indent, NULL);
    buf_putc(writer->out, '\n');
}

static void write_list_item(struct writer *writer, const struct doc_element *element) {
    int depth = element->level < writer->depth + 1 ? element->level : writer->depth + 1;
    if (writer->depth == 0)
        block_begin(writer);
    if (depth > writer->depth)
        writer->number[depth] = 0;
    writer->depth = depth;

    char indent[INDENT_MAX];
    int n = 0;
    for (int i = 1; i < depth; i++)
        n += writer->width[i];
    memset(indent, ' ', (size_t)n);
    indent[n] = 0;
    buf_puts(writer->out, indent);

    char marker[16] = "- ";
    if (element->flags & DOC_ORDERED) {
        uint32_t number = writer->number[depth] < 999999999 ? writer->number[depth] + 1 : 999999999;
        writer->number[depth] = number;
        snprintf(marker, sizeof marker, "%u. ", number);
    } else {
        writer->number[depth] = 0;
    }
    writer->width[depth] = (int)strlen(marker);
    buf_puts(writer->out, marker);
    memset(indent + n, ' ', strlen(marker));
    indent[n + (int)strlen(marker)] = 0;
    append_text(writer->out, element_text(writer, element), element->len, indent, NULL);
    buf_putc(writer->out, '\n');
}

static void write_code(struct writer *writer, const struct doc_element *element) {
    const char *text = element_text(writer, element);
    size_t longest = 0, run = 0;
    for (uint32_t i = 0; i < element->len; i++) {
        run = text[i] == '`' ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    size_t fence = longest < 3 ? 3 : longest + 1;
    block_begin(writer);
    for (size_t i = 0; i < fence; i++)
        buf_putc(writer->out, '`');
    buf_putc(writer->out, '\n');
    buf_append(writer->out, text, element->len);
    if (element->len > 0 && text[element->len - 1] != '\n')
        buf_putc(writer->out, '\n');
    for (size_t i = 0; i < fence; i++)
        buf_putc(writer->out, '`');
    buf_putc(writer->out, '\n');
}

/* A row ends at its last cell with text: the reader adds the empty ones. Columns are kept where the
 * table is about as full as a table is; in one that is nearly empty (a cell in column 16,000) the
 * cells of a row follow one another. */
static void write_table(struct writer *writer, const struct doc_element *element) {
    struct buf *out = writer->out;
    const struct doc_cell *cells = writer->doc->cells + element->first_cell;
    uint32_t n_columns = 0, n_rows = 0;
    for (uint32_t i = 0; i < element->n_cells; i++) {
        if (i == 0 || cells[i].row != cells[i - 1].row)
            n_rows++;
        if (cells[i].len > 0 && cells[i].col + 1u > n_columns)
            n_columns = cells[i].col + 1u;
    }
    bool sparse = (uint64_t)n_columns * n_rows > 16 * (uint64_t)element->n_cells + 4096;
    block_begin(writer);
    uint32_t col = 0, row_i = 0, widest = sparse || n_columns == 0 ? 1 : n_columns;
    for (uint32_t i = 0, run = 0; sparse && i < element->n_cells; i++) {
        run = i > 0 && cells[i].row == cells[i - 1].row ? run + 1 : 1;
        widest = run > widest ? run : widest;
    }
    for (uint32_t i = 0; i < element->n_cells; i++) {
        if (i == 0 || cells[i].row != cells[i - 1].row) {
            buf_putc(out, '|');
            col = 0;
        }
        for (; !sparse && col < cells[i].col && cells[i].len > 0; col++)
            buf_puts(out, "  |");
        if (sparse || cells[i].len > 0) {
            buf_putc(out, ' ');
            append_text(out, writer->doc->text + cells[i].off, cells[i].len, "", " ");
            buf_puts(out, " |");
            col++;
        }
        if (i + 1 < element->n_cells && cells[i + 1].row == cells[i].row)
            continue;
        for (; (row_i == 0 && col < widest) || col == 0; col++)
            buf_puts(out, "  |");
        buf_putc(out, '\n');
        if (row_i++ > 0)
            continue;
        buf_putc(out, '|');
        for (uint32_t k = 0; k < widest; k++)
            buf_puts(out, " --- |");
        buf_putc(out, '\n');
    }
}

static void write_quote(struct writer *writer, const struct doc_element *element) {
    write_paragraph(writer, element, "> ");
}

static void write_picture(struct writer *writer, const struct doc_element *element) {
    if (element->len == 0)
        return;
    block_begin(writer);
    buf_puts(writer->out, "![");
    append_text(writer->out, element_text(writer, element), element->len, "", " ");
    buf_puts(writer->out, "]()\n");
}

static void write_element(struct writer *writer, const struct doc_element *element) {
    switch (element->kind) {
    case DOC_TITLE:
    case DOC_HEADING:
        write_heading(writer, element);
        return;
    case DOC_LIST_ITEM:
        write_list_item(writer, element);
        return;
    case DOC_TABLE:
        write_table(writer, element);
        return;
    case DOC_CODE:
        write_code(writer, element);
        return;
    case DOC_NOTE:
        write_quote(writer, element);
        return;
    case DOC_PICTURE:
        write_picture(writer, element);
        return;
    case DOC_PARAGRAPH:
    case DOC_CAPTION:
    case DOC_FORMULA:
    case DOC_FOOTNOTE:
    case DOC_PAGE_HEADER:
    case DOC_PAGE_FOOTER:
    case DOC_N_ELEMENT_KINDS:
        write_paragraph(writer, element, "");
        return;
    }
}

void doc_write_markdown(struct buf *out, const struct document *doc) {
    struct writer writer = {.out = out, .doc = doc};
    for (uint32_t i = 0; i < doc->n_elements && !writer.has_title; i++)
        writer.has_title = doc->elements[i].kind == DOC_TITLE;
    for (uint32_t i = 0; i < doc->n_elements && !out->failed; i++)
        if (!element_is_repeated(&doc->elements[i]))
            write_element(&writer, &doc->elements[i]);
}
