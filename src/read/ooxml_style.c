/* Word's styles and lists: which paragraph is a title, a heading, a caption, a list item. */
#include "read/ooxml_word.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_STYLES 20000
#define MAX_LISTS 50000
#define MAX_CHAIN 16 /* styles based on each other */

static void *grow(struct arena *arena, void *items, size_t n, size_t size) {
    if ((n & (n - 1)) != 0) /* grown at powers of two */
        return items;
    void *more = arena_alloc(arena, (n == 0 ? 1 : n * 2) * size);
    if (n > 0)
        memcpy(more, items, n * size);
    return more;
}

static void judge_name(struct word_style *style, const char *name) {
    if (strncasecmp(name, "heading ", 8) == 0 && name[8] >= '1' && name[8] <= '9') {
        style->kind = DOC_HEADING;
        style->level = name[8] > '6' ? 6 : name[8] - '0';
    } else if (strcasecmp(name, "title") == 0) {
        style->kind = DOC_TITLE;
        style->level = 0;
    } else if (strcasecmp(name, "caption") == 0) {
        style->kind = DOC_CAPTION;
        style->level = 0;
    } else if (strcasecmp(name, "html preformatted") == 0 || strcasecmp(name, "code") == 0 ||
               strcasecmp(name, "source code") == 0) {
        style->kind = DOC_CODE;
        style->level = 0;
    }
}

static void read_style(struct word_style *style, struct xml *xml, struct arena *arena) {
    int depth = xml->depth;
    *style = (struct word_style){.kind = DOC_PARAGRAPH, .level = -1, .num_id = -1, .num_level = -1};
    const char *id = xml_attr(xml, "styleId");
    style->id = arena_strdup(arena, id == NULL ? "" : id);
    while (xml_next(xml, depth)) {
        const char *value = xml->name == NULL ? NULL : xml_attr(xml, "val");
        if (value == NULL)
            continue;
        if (xml_at(xml, "w:name"))
            judge_name(style, value);
        else if (xml_at(xml, "w:basedOn"))
            style->based_on = arena_strdup(arena, value);
        else if (xml_at(xml, "w:numId"))
            style->num_id = (int)strtol(value, NULL, 10);
        else if (xml_at(xml, "w:ilvl"))
            style->num_level = (int)strtol(value, NULL, 10);
        else if (xml_at(xml, "w:outlineLvl") && style->kind == DOC_PARAGRAPH) {
            int outline = (int)strtol(value, NULL, 10);
            style->level = outline < 0 || outline > 8 ? 0 : outline > 5 ? 6 : outline + 1;
        }
    }
}

bool word_styles_read(struct word_styles *out, struct ooxml *ooxml, const char *part,
                      struct error *err) {
    memset(out, 0, sizeof(*out));
    if (part == NULL || !ooxml_zip_has(ooxml->zip, part))
        return true;
    struct xml xml;
    if (!xml_open(&xml, ooxml->zip, part, err))
        return false;
    while (xml_next(&xml, -1) && out->n < MAX_STYLES) {
        if (!xml_at(&xml, "w:style"))
            continue;
        const char *type = xml_attr(&xml, "type");
        if (type != NULL && strcmp(type, "paragraph") != 0) {
            xml_skip(&xml);
            continue;
        }
        bool standard = xml_attr_true(&xml, "default", false);
        out->items = grow(ooxml->arena, out->items, out->n, sizeof(*out->items));
        struct word_style *style = &out->items[out->n++];
        read_style(style, &xml, ooxml->arena);
        if (standard)
            out->standard = style->id;
    }
    return xml_close(&xml, err);
}

static const struct word_style *find_style(const struct word_styles *styles, const char *id) {
    for (size_t i = 0; i < styles->n; i++) {
        if (strcmp(styles->items[i].id, id) == 0)
            return &styles->items[i];
    }
    return NULL;
}

struct word_style word_style_resolve(const struct word_styles *styles, const char *id) {
    struct word_style out = {.kind = DOC_PARAGRAPH, .level = -1, .num_id = -1, .num_level = -1};
    const char *next = id != NULL ? id : styles->standard;
    for (int i = 0; next != NULL && i < MAX_CHAIN; i++) {
        const struct word_style *style = find_style(styles, next);
        if (style == NULL)
            break;
        if (out.level < 0 && style->level >= 0) {
            out.level = style->level;
            out.kind = style->kind == DOC_PARAGRAPH && style->level > 0 ? DOC_HEADING : style->kind;
        }
        if (out.num_id < 0)
            out.num_id = style->num_id;
        if (out.num_level < 0)
            out.num_level = style->num_level;
        next = style->based_on;
    }
    if (out.level < 0)
        out.level = 0;
    return out;
}

/* ---- lists --------------------------------------------------------------------------------- */

static void read_abstract(struct word_list *list, struct xml *xml, struct arena *arena) {
    int depth = xml->depth;
    memset(list, 0, sizeof(*list));
    list->abstract_id = xml_attr_int(xml, "abstractNumId", -1);
    long level = 0;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:lvl")) {
            level = xml_attr_int(xml, "ilvl", 0);
        } else if (xml_at(xml, "w:numStyleLink")) {
            const char *link = xml_attr(xml, "val");
            list->style_link = link == NULL ? NULL : arena_strdup(arena, link);
        } else if (xml_at(xml, "w:numFmt")) {
            const char *format = xml_attr(xml, "val");
            bool ordered = format != NULL && strcmp(format, "bullet") != 0 &&
                           strcmp(format, "none") != 0;
            if (ordered && level >= 0 && level < WORD_LEVELS)
                list->ordered |= 1u << level;
        }
    }
}

bool word_lists_read(struct word_lists *out, struct ooxml *ooxml, const char *part,
                     struct error *err) {
    memset(out, 0, sizeof(*out));
    if (part == NULL || !ooxml_zip_has(ooxml->zip, part))
        return true;
    struct xml xml;
    if (!xml_open(&xml, ooxml->zip, part, err))
        return false;
    while (xml_next(&xml, -1) && out->n_abstracts + out->n_nums < MAX_LISTS) {
        if (xml_at(&xml, "w:abstractNum")) {
            out->abstracts = grow(ooxml->arena, out->abstracts, out->n_abstracts,
                                  sizeof(*out->abstracts));
            read_abstract(&out->abstracts[out->n_abstracts++], &xml, ooxml->arena);
        } else if (xml_at(&xml, "w:num")) {
            out->nums = grow(ooxml->arena, out->nums, out->n_nums, sizeof(*out->nums));
            struct word_list *num = &out->nums[out->n_nums++];
            memset(num, 0, sizeof(*num));
            num->num_id = xml_attr_int(&xml, "numId", -1);
            int depth = xml.depth;
            while (xml_next(&xml, depth)) {
                if (xml_at(&xml, "w:abstractNumId"))
                    num->abstract_id = xml_attr_int(&xml, "val", -1);
            }
        }
    }
    return xml_close(&xml, err);
}

static const struct word_list *find_abstract(const struct word_lists *lists, long num_id) {
    long abstract_id = -1;
    for (size_t i = 0; i < lists->n_nums; i++) {
        if (lists->nums[i].num_id == num_id)
            abstract_id = lists->nums[i].abstract_id;
    }
    for (size_t i = 0; abstract_id >= 0 && i < lists->n_abstracts; i++) {
        if (lists->abstracts[i].abstract_id == abstract_id)
            return &lists->abstracts[i];
    }
    return NULL;
}

bool word_list_ordered(const struct word_lists *lists, const struct word_styles *styles,
                       long num_id, int level) {
    const struct word_list *list = find_abstract(lists, num_id);
    if (list != NULL && list->style_link != NULL) {
        struct word_style linked = word_style_resolve(styles, list->style_link);
        const struct word_list *other = find_abstract(lists, linked.num_id);
        list = other != NULL ? other : list;
    }
    return list != NULL && level >= 0 && level < WORD_LEVELS && (list->ordered >> level & 1) != 0;
}
