/* read, inside: what the readers of flows share. Plain functions over memory, one thread. */
#ifndef DOCUSEARCH_READ_FLOW_H
#define DOCUSEARCH_READ_FLOW_H

#include "read/internal.h"

#define FLOW_MAX_ITEMS 1000000
#define FLOW_MAX_TEXT ((size_t)64 << 20)
#define FLOW_TABLE_ROWS 5000 /* longer tables are cut into several */
#define FLOW_TABLE_COLS 16384

/* In flow_item.flags beside doc_element_flags: text that no page shows (speaker notes, comments,
 * descriptions of pictures, hidden sheets). It is never searched for on the pages. */
enum { FLOW_UNSEEN = 0x80 };

/* One item's text being gathered. White space runs become one space, or one line break where
 * flow_text_break was called. Zero-initialise. */
struct flow_text {
    struct buf buf;
    enum { FLOW_GAP_NONE, FLOW_GAP_SPACE, FLOW_GAP_LINE } gap;
};
void flow_text_put(struct flow_text *text, const char *utf8, size_t len);
void flow_text_puts(struct flow_text *text, const char *utf8);
void flow_text_break(struct flow_text *text);
void flow_text_clear(struct flow_text *text);
void flow_text_fini(struct flow_text *text);
const char *flow_text_get(struct flow_text *text); /* borrowed, "" when empty */

/* A table being gathered, cells in row order. Zero-initialise. */
struct flow_table {
    struct flow_cell *cells;
    size_t n, cap;
    size_t text_bytes;
};
/* text is copied into the arena. Row and column count from 0; spans are clamped to 1 and the
 * maximum. False, and nothing added, when the flow's maximum is passed. */
bool flow_table_add(struct flow_table *table, struct flow *flow, size_t row, size_t col,
                    size_t row_span, size_t col_span, bool header, const char *text, size_t len);
/* Appends the table as one item (rows at most UINT16_MAX) and empties it; one without any text is
 * dropped. NULL then, or when a maximum is passed. */
struct flow_item *flow_add_table(struct flow *flow, struct flow_table *table);
void flow_table_fini(struct flow_table *table);

/* src's items go to dst's end (same arena); src is empty then. */
void flow_splice(struct flow *dst, struct flow *src);

/* Bytes of a text file as UTF-8 in the arena: byte order mark, then the declared name (may be
 * NULL), else UTF-8 where it is valid, else windows-1252. NUL-terminated; NULL without memory. */
char *flow_decode(size_t *len, struct arena *arena, const void *data, size_t size,
                  const char *declared);
/* HTML inside something else (Markdown): its blocks go to the flow's end. */
bool flow_add_html(struct flow *flow, const char *html, size_t len, struct error *err);
/* An HTML entity with its '&' and ';' as UTF-8; 0 where it is none. */
size_t flow_entity(char out[4], const char *entity, size_t len);

#endif
