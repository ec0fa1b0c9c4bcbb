/* What a document says of itself, and what is said of it: metadata, bookmarks, and the warning that
 * names pages which were not read whole. */
#include "read/pages_reading.h"

#include <string.h>

#define MAX_OUTLINE 10000

/* ---- warnings ------------------------------------------------------------------------------- */

void page_set_add(struct page_set *set, uint32_t page_i) {
    set->n++;
    if (set->n_ranges > 0 && set->ranges[set->n_ranges - 1].last + 1 == page_i)
        set->ranges[set->n_ranges - 1].last = page_i;
    else if (set->n_ranges < (int)BASE_COUNT(set->ranges)) {
        set->ranges[set->n_ranges].first = set->ranges[set->n_ranges].last = page_i;
        set->n_ranges++;
    }
}

/* "pages 3, 9-12 damaged" */
void page_set_warn(const struct page_set *set, struct read_task *task, const char *what) {
    struct buf text = {0};
    uint32_t n_named = 0;
    if (set->n == 0)
        return;
    buf_puts(&text, set->n == 1 ? "page " : "pages ");
    for (int i = 0; i < set->n_ranges; i++) {
        uint32_t first = set->ranges[i].first, last = set->ranges[i].last;
        buf_printf(&text, "%s%u", i > 0 ? ", " : "", first + 1);
        if (last > first)
            buf_printf(&text, "-%u", last + 1);
        n_named += last - first + 1;
    }
    if (n_named < set->n)
        buf_printf(&text, " and %u more", set->n - n_named);
    buf_printf(&text, " %s", what);
    if (!text.failed)
        doc_set_meta(task->builder, "warning", text.data);
    buf_fini(&text);
}

bool pages_caught(struct reading *reading) {
    if (fz_caught(reading->ctx) == FZ_ERROR_MEMORY)
        reading->out_of_memory = true;
    log_debug("mupdf: %s", fz_caught_message(reading->ctx));
    return false;
}

/* ---- metadata and bookmarks ------------------------------------------------------------------ */

/* "D:20190315120000+01'00'" -> "2019-03-15T12:00:00+01:00"; what is missing at the end is left out,
 * what is no such date is empty. */
static void iso_date(char out[32], const char *date) {
    static const char *const marks[] = {"", "",  "", "",  "-", "",  "-",
                                        "", "T", "", ":", "",  ":", ""};
    size_t n = 0, len = 0;
    if (strncmp(date, "D:", 2) == 0)
        date += 2;
    while (n < 14 && date[n] >= '0' && date[n] <= '9')
        n++;
    n = n < 4 ? 0 : n & ~(size_t)1;
    if (n == 10) /* an hour alone is no ISO time */
        n = 8;
    for (size_t i = 0; i < n; i++) {
        for (const char *mark = marks[i]; *mark; mark++)
            out[len++] = *mark;
        out[len++] = date[i];
    }
    const char *zone = date + n;
    if (n >= 12 && *zone == 'Z')
        out[len++] = 'Z';
    else if (n >= 12 && (*zone == '+' || *zone == '-') && strspn(zone + 1, "0123456789") >= 2) {
        bool minutes = zone[3] == '\'' && strspn(zone + 4, "0123456789") >= 2;
        len += (size_t)snprintf(out + len, 8, "%c%.2s:%.2s", *zone, zone + 1,
                                minutes ? zone + 4 : "00");
    }
    out[len] = '\0';
}

static void set_meta(struct reading *reading, const char *name, const char *value) {
    if (value[strspn(value, " \t\r\n")] != '\0')
        doc_set_meta(reading->task->builder, name, value);
}

/* "" where there is none. */
static void lookup_metadata(struct reading *reading, const char *key, char *value, int size) {
    fz_context *ctx = reading->ctx;
    value[0] = '\0';
    fz_try(ctx) fz_lookup_metadata(ctx, reading->doc, key, value, size);
    fz_catch(ctx) value[0] = '\0';
    value[size - 1] = '\0';
}

static void read_metadata(struct reading *reading) {
    char value[1024], date[32];
    lookup_metadata(reading, "info:Title", value, sizeof value);
    set_meta(reading, "title", value);
    lookup_metadata(reading, "info:Author", value, sizeof value);
    set_meta(reading, "author", value);
    lookup_metadata(reading, "info:CreationDate", value, sizeof value);
    iso_date(date, value);
    set_meta(reading, "created", date);
}

static void add_bookmark(struct reading *reading, const fz_outline *item, int depth) {
    struct arena *arena = reading->task->arena;
    int page = fz_page_number_from_location(reading->ctx, reading->doc, item->page);
    if (!item->title || item->title[0] == '\0')
        return;
    struct doc_outline *added = &reading->outline[reading->n_outline++];
    *added = (struct doc_outline){
        .title = utf8_clean(arena, item->title, strlen(item->title)),
        .level = (uint32_t)depth + 1,
        .page_i = page >= 0 && (uint32_t)page < reading->n_pages ? (uint32_t)page : DOC_NO_PAGE};
    doc_add_outline(reading->task->builder, added->title, added->level, added->page_i);
}

static void add_outline(struct reading *reading, const fz_outline *item) {
    const fz_outline *above[32];
    int depth = 0;
    reading->outline = arena_alloc(reading->task->arena, MAX_OUTLINE * sizeof *reading->outline);
    for (size_t n = 0; item && n < MAX_OUTLINE; n++) {
        add_bookmark(reading, item, depth);
        if (item->down && depth < (int)BASE_COUNT(above)) {
            above[depth++] = item;
            item = item->down;
            continue;
        }
        item = item->next;
        while (!item && depth > 0)
            item = above[--depth]->next;
    }
}

static void read_outline(struct reading *reading) {
    fz_context *ctx = reading->ctx;
    fz_outline *outline = NULL;
    fz_var(outline);
    fz_try(ctx) {
        outline = fz_load_outline(ctx, reading->doc);
        if (outline)
            add_outline(reading, outline);
    }
    fz_always(ctx) fz_drop_outline(ctx, outline);
    fz_catch(ctx) pages_caught(reading);
}

void pages_read_info(struct reading *reading) {
    read_metadata(reading);
    read_outline(reading);
}
