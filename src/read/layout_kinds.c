/* What a paragraph is. Headings by the document's own bookmarks, by size, by bold type and by
 * numbers, all against the type most of the document is set in; captions and footnotes by how they
 * begin; and which paragraph goes on in the next column or on the next page. */
#include "read/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADING_BYTES 240
#define MAX_HEADING_WORDS 30
#define MAX_SIZES 64  /* different heading sizes */
#define LOOK_AHEAD 12 /* paragraphs between the two halves of one */

struct facts { /* of a paragraph's text */
    uint32_t n_words, n_bytes;
    uint64_t hash, bare_hash; /* letters and digits, folded; bare: without a leading number */
    uint32_t n_letters;
    bool capitals;    /* no lower-case letter */
    int number_depth; /* 2 for "3.1 Text"; 0: it begins with no number */
    uint32_t end;     /* last character */
};

struct bookmark {
    uint64_t hash;
    uint32_t level, page_i;
};

struct finder {
    struct layout *layout;
    struct bookmark *bookmarks; /* by hash */
    size_t n_bookmarks;
    struct {
        float size;
        uint32_t first_page_i, last_page_i; /* where it is used */
    } sizes[MAX_SIZES];                     /* of headings, descending */
    int n_sizes;
};

#define HASH_START 0xcbf29ce484222325u

static uint64_t hash_add(uint64_t hash, uint32_t c) {
    return (hash ^ (c >= 'A' && c <= 'Z' ? c + 32 : c)) * 0x100000001b3u;
}

static uint64_t hash_text(uint64_t hash, const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        uint32_t c = utf8_next(text, len, &at);
        if (text_is_word(c))
            hash = hash_add(hash, c);
    }
    return hash;
}

/* Levels of "3", "3.", "3.1", "A.2", "IV.": 0 where the word is no such number. */
static int number_depth(const char *text, size_t len) {
    int depth = 0;
    size_t at = 0;
    while (at < len) {
        size_t start = at;
        while (at < len && text[at] >= '0' && text[at] <= '9')
            at++;
        if (at == start && depth == 0 && len >= 2 && text[at] >= 'A' && text[at] <= 'Z')
            while (at < len && strchr("ABCDEFGHIVXL", text[at]) && at - start < 4)
                at++;
        if (at == start || at - start > 4)
            return 0;
        depth++;
        if (at < len && text[at] != '.' && text[at] != ')')
            return 0;
        at++;
    }
    bool plain_year = depth == 1 && len == 4 && text[0] >= '0' && text[0] <= '9';
    return plain_year ? 0 : depth;
}

static struct facts facts_of(const struct layout *layout, const struct para *para) {
    struct facts facts = {.hash = HASH_START, .bare_hash = HASH_START, .capitals = true};
    for (uint32_t i = 0; i < para->n; i++) {
        const struct line *line = &layout->lines[para->first + i];
        for (uint32_t k = 0; k < line->n; k++) {
            const struct raw_word *word = layout_word(layout, line, k);
            facts.n_words++;
            facts.n_bytes += word->len + 1;
            if (facts.n_bytes > 4 * MAX_HEADING_BYTES)
                return facts;
            if (facts.n_words == 1)
                facts.number_depth = number_depth(word->text, word->len);
            facts.hash = hash_text(facts.hash, word->text, word->len);
            if (facts.n_words > 1 || facts.number_depth == 0)
                facts.bare_hash = hash_text(facts.bare_hash, word->text, word->len);
            for (size_t at = 0; at < word->len;) {
                uint32_t c = utf8_next(word->text, word->len, &at);
                bool digit = c >= '0' && c <= '9';
                facts.n_letters += text_is_cjk(c) ? 2 : text_is_word(c) && !digit;
                facts.capitals &= !layout_is_lower(c);
            }
            facts.end = layout_last_char(word);
        }
    }
    facts.capitals &= facts.n_letters > 0;
    return facts;
}

/* ---- bookmarks ------------------------------------------------------------------------------ */

static int by_hash(const void *a, const void *b) {
    const struct bookmark *left = a, *right = b;
    return left->hash < right->hash ? -1 : left->hash > right->hash;
}

static void add_bookmark(struct finder *finder, uint64_t hash, const struct doc_outline *outline) {
    finder->bookmarks[finder->n_bookmarks++] = (struct bookmark){hash, outline->level,
                                                                 outline->page_i};
}

/* Each under its whole title, and without its number where it has one. */
static void find_bookmarks(struct finder *finder) {
    const struct raw_pages *raw = finder->layout->raw;
    if (raw->n_outline == 0)
        return;
    finder->bookmarks = arena_try(finder->layout->arena, raw->n_outline * 2,
                                  sizeof *finder->bookmarks);
    for (size_t i = 0; finder->bookmarks && i < raw->n_outline; i++) {
        const char *title = raw->outline[i].title;
        size_t len = strlen(title), first = strcspn(title, " ");
        add_bookmark(finder, hash_text(HASH_START, title, len), &raw->outline[i]);
        if (first < len && number_depth(title, first) > 0)
            add_bookmark(finder, hash_text(HASH_START, title + first, len - first),
                         &raw->outline[i]);
    }
    if (finder->bookmarks)
        qsort(finder->bookmarks, finder->n_bookmarks, sizeof *finder->bookmarks, by_hash);
}

/* The level of the bookmark with this text on or beside this page; 0: none. */
static uint32_t lookup_bookmark(const struct finder *finder, uint64_t hash, uint32_t page_i) {
    size_t low = 0, high = finder->n_bookmarks;
    while (low < high) {
        size_t half = (low + high) / 2;
        if (finder->bookmarks[half].hash < hash)
            low = half + 1;
        else
            high = half;
    }
    for (; low < finder->n_bookmarks && finder->bookmarks[low].hash == hash; low++) {
        const struct bookmark *bookmark = &finder->bookmarks[low];
        uint32_t apart = bookmark->page_i > page_i ? bookmark->page_i - page_i
                                                   : page_i - bookmark->page_i;
        if (bookmark->page_i == DOC_NO_PAGE || apart <= 1)
            return bookmark->level;
    }
    return 0;
}

/* ---- kinds ---------------------------------------------------------------------------------- */

static const struct raw_word *para_word(const struct layout *layout, const struct para *para,
                                        uint32_t i) {
    for (uint32_t k = 0; k < para->n; k++) {
        const struct line *line = &layout->lines[para->first + k];
        if (i < line->n)
            return layout_word(layout, line, i);
        i -= line->n;
    }
    return NULL;
}

/* "Figure 3:", "Table 2.", "Abb. 1" before a short text. */
static bool is_caption(const struct layout *layout, const struct para *para,
                       const struct facts *facts) {
    static const char *const names[] = {"Figure",    "Fig.",      "FIGURE", "Table",   "TABLE",
                                        "Tab.",      "Abbildung", "Abb.",   "Tabelle", "Listing",
                                        "Algorithm", "Scheme",    "Chart",  "Exhibit", "Image",
                                        "Photo",     "Figura",    "Tabla",  "Tableau", "Box"};
    const struct raw_word *first = para_word(layout, para, 0), *second = para_word(layout, para, 1);
    bool named = false;
    if (!first || !second || facts->n_bytes > 900)
        return false;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        named |= strcmp(first->text, names[i]) == 0;
    size_t digits = strspn(second->text, "0123456789.-ABCDEIVX");
    bool number = second->text[0] != '\0' && strpbrk(second->text, "0123456789IVX") &&
                  digits + 1 >= second->len;
    char end = second->text[second->len - 1];
    if (!named || !number)
        return false;
    return end == ':' || end == '.' || end == ')' || first->style & RAW_BOLD ||
           (facts->n_words <= 14 && facts->end != '.');
}

static bool is_footnote(const struct layout *layout, const struct para *para) {
    const struct line *line = &layout->lines[para->first];
    const struct raw_word *first = para_word(layout, para, 0);
    uint32_t c = layout_first_char(first);
    bool number = first->len <= 3 && strspn(first->text, "0123456789") == first->len;
    bool sign = c == '*' || c == 0x2020 || c == 0x2021 || c == 0xA7 || c == 0xB9 || c == 0xB2 ||
                c == 0xB3;
    return (line->raised || (para->size < 0.94f * layout->body_size && (number || sign))) &&
           line->n > 1 && line->box.y0 > 0.55f * layout->frames[line->page_i].height;
}

/* A short line in italics right above a paragraph that is not. */
static bool begins_text(const struct layout *layout, const struct para *para,
                        const struct facts *facts) {
    const struct line *line = &layout->lines[para->first], *next = line + 1;
    if (para->n != 1 || facts->n_words > 9 || para->first + 2 >= layout->n_lines ||
        para->size < 0.95f * layout->body_size ||
        layout_is_lower(layout_first_char(layout_word(layout, line, 0))))
        return false;
    return next->leaf == line->leaf && next[1].leaf == line->leaf && !next->italic &&
           fabsf(next->box.x0 - line->box.x0) < 2 * line->size &&
           next->box.x1 - next->box.x0 > 0.8f * (next->right - next->left) &&
           next->box.y0 - line->box.y1 < line->size && next->role == RUN_BODY;
}

/* The heading's level by its bookmark, or 1 for one known otherwise; 0: no heading. */
static uint32_t heading_level(const struct finder *finder, const struct para *para,
                              const struct facts *facts) {
    const struct layout *layout = finder->layout;
    const struct line *line = &layout->lines[para->first];
    float ratio = para->size / layout->body_size;
    if (para->n > 4 || facts->n_bytes > MAX_HEADING_BYTES || facts->n_words > MAX_HEADING_WORDS ||
        facts->n_letters < 3 || para->row || line->marker)
        return 0;
    uint32_t level = lookup_bookmark(finder, facts->hash, line->page_i);
    if (level == 0)
        level = lookup_bookmark(finder, facts->bare_hash, line->page_i);
    if (level > 0 && ratio > 0.9f)
        return level;
    bool sentence = facts->end == '.' || facts->end == ',' || facts->end == ';';
    if (sentence || (para->mono && !layout->mono_body))
        return 0;
    if (line->ocr)
        return ratio > 1.45f && facts->n_words <= 12 ? 1 : 0;
    if (ratio > 1.17f && facts->n_words <= 24)
        return 1;
    if (para->bold && !layout->bold_body && ratio > 0.95f && facts->n_words <= 16 &&
        facts->end != ':')
        return 1;
    if (para->italic && begins_text(layout, para, facts))
        return 1;
    bool numbered = facts->number_depth > 0 && facts->n_words > 1 && facts->n_words <= 14;
    return numbered && para->n == 1 && ratio > 0.95f && (facts->capitals || ratio > 1.05f) ? 1 : 0;
}

static void add_size(struct finder *finder, float size, uint32_t page_i) {
    int at = 0;
    while (at < finder->n_sizes && finder->sizes[at].size > size + 0.4f)
        at++;
    if (at < finder->n_sizes && finder->sizes[at].size > size - 0.4f) {
        finder->sizes[at].last_page_i = page_i;
        return;
    }
    if (finder->n_sizes == MAX_SIZES)
        return;
    memmove(&finder->sizes[at + 1], &finder->sizes[at],
            (size_t)(finder->n_sizes - at) * sizeof finder->sizes[0]);
    finder->sizes[at].size = size;
    finder->sizes[at].first_page_i = finder->sizes[at].last_page_i = page_i;
    finder->n_sizes++;
}

/* The sizes of headings that no bookmark and no number ranks. In a long document only those used on
 * several pages count: covers have many. */
static void find_sizes(struct finder *finder) {
    const struct layout *layout = finder->layout;
    int n = 0;
    for (uint32_t i = 0; i < layout->n_paras; i++) {
        const struct para *para = &layout->paras[i];
        if (para->kind == DOC_HEADING && para->level == 0)
            add_size(finder, para->size, layout->lines[para->first].page_i);
    }
    for (int i = 0; i < finder->n_sizes; i++)
        if (finder->sizes[i].last_page_i > finder->sizes[i].first_page_i)
            finder->sizes[n++] = finder->sizes[i];
    if (n > 0 && layout->raw->n_pages > 4)
        finder->n_sizes = n;
}

static uint8_t level_of_size(const struct finder *finder, float size) {
    int at = 0;
    while (at + 1 < finder->n_sizes && finder->sizes[at].size > size + 0.4f)
        at++;
    return (uint8_t)(at < 6 ? at + 1 : 6);
}

/* The heading in the largest type on the first page that has text. */
static void find_title(struct layout *layout) {
    struct para *title = NULL;
    for (uint32_t i = 0; i < layout->n_paras; i++) {
        struct para *para = &layout->paras[i];
        if (layout->lines[para->first].page_i != layout->lines[layout->paras[0].first].page_i)
            break;
        if (para->kind == DOC_HEADING && para->size > 1.25f * layout->body_size &&
            (!title || para->size > title->size + 0.4f))
            title = para;
    }
    if (title)
        title->kind = DOC_TITLE;
}

static void measure(struct layout *layout, struct para *para) {
    const struct line *lines = &layout->lines[para->first];
    uint32_t most = 0;
    para->bold = para->italic = para->mono = para->row = true;
    for (uint32_t i = 0; i < para->n; i++) {
        para->bold &= lines[i].bold;
        para->italic &= lines[i].italic;
        para->mono &= lines[i].mono;
        para->row &= lines[i].row;
        if (lines[i].n > most) {
            most = lines[i].n;
            para->size = lines[i].size;
        }
    }
}

/* Items' depths by where they begin, against the items before them. */
static void find_depths(struct layout *layout) {
    float stack[6] = {0};
    int depth = 0;
    uint32_t leaf = UINT32_MAX;
    for (uint32_t i = 0; i < layout->n_paras; i++) {
        struct para *para = &layout->paras[i];
        const struct line *line = &layout->lines[para->first];
        if (para->kind != DOC_LIST_ITEM) {
            if (para->kind == DOC_HEADING || para->kind == DOC_TITLE)
                depth = 0;
            continue;
        }
        if (line->leaf != leaf)
            depth = 0;
        leaf = line->leaf;
        float lead = layout_lead(line), slack = 0.7f * line->size;
        while (depth > 0 && lead < stack[depth - 1] - slack)
            depth--;
        if (depth == 0 || (lead > stack[depth - 1] + slack && depth < 6))
            stack[depth++] = lead;
        para->level = (uint8_t)depth;
    }
}

static void find_kind(struct finder *finder, struct para *para) {
    struct layout *layout = finder->layout;
    const struct line *line = &layout->lines[para->first];
    measure(layout, para);
    if (line->role != RUN_BODY) {
        para->kind = line->role == RUN_HEADER ? DOC_PAGE_HEADER : DOC_PAGE_FOOTER;
        para->flags = line->repeated ? DOC_REPEATED : 0;
        return;
    }
    if (line->note) {
        para->kind = DOC_NOTE;
        return;
    }
    struct facts facts = facts_of(layout, para);
    uint32_t level = heading_level(finder, para, &facts);
    if (level > 0) {
        para->kind = DOC_HEADING;
        para->level = (uint8_t)(level < 6 ? level : 6);
        para->flags = lookup_bookmark(finder, facts.hash, line->page_i) > 0 ||
                      lookup_bookmark(finder, facts.bare_hash, line->page_i) > 0;
        if (!para->flags && facts.number_depth > 1)
            para->level = (uint8_t)(facts.number_depth < 6 ? facts.number_depth : 6);
        else if (!para->flags)
            para->level = 0; /* by its size, once all sizes are known */
        para->flags = 0;
    } else if (line->marker) {
        para->kind = DOC_LIST_ITEM;
        para->flags = line->ordered ? DOC_ORDERED : 0;
    } else if (is_caption(layout, para, &facts)) {
        para->kind = DOC_CAPTION;
    } else if (para->mono && !layout->mono_body && (para->n > 1 || facts.n_words > 3)) {
        para->kind = DOC_CODE;
    } else if (facts.n_letters > 0 && is_footnote(layout, para)) {
        para->kind = DOC_FOOTNOTE;
    }
}

/* ---- paragraphs that go on ------------------------------------------------------------------ */

static bool is_unfinished(const struct layout *layout, const struct para *para) {
    const struct line *last = &layout->lines[para->first + para->n - 1];
    if ((para->kind != DOC_PARAGRAPH && para->kind != DOC_LIST_ITEM) || para->row)
        return false;
    return !layout_ends_sentence(layout, last) &&
           layout_trail(last) < 0.2f * (last->right - last->left);
}

static bool continues(const struct layout *layout, const struct para *para,
                      const struct para *next) {
    const struct line *last = &layout->lines[para->first + para->n - 1];
    const struct line *first = &layout->lines[next->first];
    float ratio = next->size / para->size;
    uint32_t c = layout_first_char(layout_word(layout, first, 0));
    return next->kind == DOC_PARAGRAPH && !next->row && last->leaf != first->leaf &&
           ratio > 0.88f && ratio < 1.13f && layout_is_lower(c);
}

/* What may stand between the two: also rows and labels of figures. */
static bool is_aside(const struct layout *layout, const struct para *para) {
    return para->kind == DOC_PAGE_HEADER || para->kind == DOC_PAGE_FOOTER ||
           para->kind == DOC_FOOTNOTE || para->kind == DOC_CAPTION || para->kind == DOC_NOTE ||
           (para->kind == DOC_PARAGRAPH &&
            (para->row || (para->n == 1 && (para->size < 0.9f * layout->body_size ||
                                            layout->lines[para->first].n <= 4))));
}

static void join_paras(struct layout *layout) {
    for (uint32_t i = 0; i < layout->n_paras; i++) {
        struct para *para = &layout->paras[i];
        if (!is_unfinished(layout, para))
            continue;
        uint32_t next = i + 1, stop = i + LOOK_AHEAD;
        while (next < layout->n_paras && next < stop &&
               !continues(layout, para, &layout->paras[next]) &&
               is_aside(layout, &layout->paras[next]))
            next++;
        if (next < layout->n_paras && next < stop && !layout->paras[next].continued &&
            continues(layout, para, &layout->paras[next])) {
            para->next = next;
            layout->paras[next].continued = true;
        }
    }
}

void layout_find_kinds(struct layout *layout) {
    struct finder finder = {.layout = layout};
    find_bookmarks(&finder);
    for (uint32_t i = 0; i < layout->n_paras; i++)
        find_kind(&finder, &layout->paras[i]);
    find_title(layout);
    find_sizes(&finder);
    for (uint32_t i = 0; i < layout->n_paras; i++) {
        struct para *para = &layout->paras[i];
        if (para->kind == DOC_HEADING && para->level == 0)
            para->level = level_of_size(&finder, para->size);
    }
    find_depths(layout);
    join_paras(layout);
}
