/* Lines -> paragraphs. Two lines that follow each other in reading order are one paragraph unless
 * something between them says otherwise: the distance, the type, an indent, a marker, or a line
 * that ends short. */
#include "read/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- characters ----------------------------------------------------------------------------- */

uint32_t layout_last_char(const struct raw_word *word) {
    size_t at = word->len;
    while (at > 0 && ((unsigned char)word->text[at - 1] & 0xC0) == 0x80)
        at--;
    at = at > 0 ? at - 1 : 0;
    return utf8_next(word->text, word->len, &at);
}

uint32_t layout_first_char(const struct raw_word *word) {
    size_t at = 0;
    return utf8_next(word->text, word->len, &at);
}

bool layout_is_upper(uint32_t c) {
    if (c >= 0x0100 && c <= 0x017F)
        return (c % 2 == 0) != (c >= 0x0139 && c <= 0x0148);
    return (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) ||
           (c >= 0x0386 && c <= 0x03AB && c != 0x0390) || (c >= 0x0400 && c <= 0x042F);
}

bool layout_is_lower(uint32_t c) {
    return text_is_word(c) && !layout_is_upper(c) && !(c >= '0' && c <= '9') && !text_is_cjk(c) &&
           !layout_is_rtl(c);
}

/* ---- markers of list items ------------------------------------------------------------------- */

struct marker {
    uint32_t value; /* of a number or letter; 0: it does not count */
    uint32_t style; /* equal for markers of one list: a bullet's character, or '1', 'a', 'A', 'i'
                       with the punctuation above it */
    bool sure;      /* a list item even without a second one */
    float x;
    uint32_t line_i;
};
#define RECENT_MARKERS 24

static bool bullet_marker(struct marker *marker, const struct raw_word *word) {
    static const uint32_t sure[] = {0x2022, 0x25E6, 0x25AA, 0x25AB, 0x2023, 0x2043, 0x2219, 0x25CF,
                                    0x25CB, 0x25A0, 0x25A1, 0x27A2, 0x27A4, 0x2713, 0x2714, 0x25C6,
                                    0x25BA, 0x25B8, 0x25B6, 0xF0B7, 0xF0A7, 0xF0D8, 0xF0FC};
    static const uint32_t unsure[] = {'-', '*', 0xB7, 0x2013, 0x2014, 0x2212, 0xFFFD};
    uint32_t c = layout_first_char(word);
    char bytes[4];
    if (utf8_put(bytes, c) != word->len)
        return false;
    marker->style = c;
    for (size_t i = 0; i < BASE_COUNT(sure); i++)
        if (c == sure[i])
            return marker->sure = true;
    for (size_t i = 0; i < BASE_COUNT(unsure); i++)
        if (c == unsure[i])
            return true;
    return false;
}

static uint32_t roman_value(const char *text, size_t len) {
    uint32_t total = 0, last = 0;
    for (size_t i = len; i > 0; i--) {
        char c = (char)(text[i - 1] | 32);
        uint32_t value = c == 'i' ? 1 : c == 'v' ? 5 : c == 'x' ? 10 : 0;
        if (value == 0)
            return 0;
        total = value < last ? total - value : total + value;
        last = value > last ? value : last;
    }
    return total;
}

/* "3.", "3)", "(3)", "b)", "(iv)" */
static bool ordered_marker(struct marker *marker, const struct raw_word *word) {
    const char *text = word->text;
    size_t len = word->len;
    bool open = text[0] == '(';
    if (len < 2u + open || len > 6)
        return false;
    char end = text[len - 1];
    if (end != ')' && (end != '.' || open))
        return false;
    text += open;
    len -= 1u + open;
    uint32_t punctuation = ((uint32_t)end + open) << 24;
    if (len <= 3 && strspn(text, "0123456789") == len) {
        marker->style = punctuation | '1';
        marker->value = (uint32_t)strtoul(text, NULL, 10);
        return true;
    }
    char c = (char)(text[0] | 32), upper = text[0] == c ? 0 : 32;
    if (len >= 2) {
        marker->style = punctuation | (uint32_t)('i' - upper);
        marker->value = roman_value(text, len);
        return marker->value > 0;
    }
    marker->style = punctuation | (uint32_t)('a' - upper);
    marker->value = (uint32_t)(c - 'a' + 1);
    return c >= 'a' && c <= 'z';
}

static bool line_marker(struct marker *marker, const struct layout *layout, uint32_t line_i) {
    const struct line *line = &layout->lines[line_i];
    *marker = (struct marker){.x = line->rtl ? line->box.x1 : line->box.x0, .line_i = line_i};
    if (line->n < 2 || line->note || line->mono || line->role != RUN_BODY ||
        layout_word(layout, line, 1)->glued)
        return false;
    const struct raw_word *word = layout_word(layout, line, 0);
    return bullet_marker(marker, word) || ordered_marker(marker, word);
}

/* Whether marker is the next item of the list that `before` began or goes on with. "i" may be the
 * letter after "h" or the number before "ii". */
static bool is_next_item(const struct layout *layout, const struct marker *before,
                         const struct marker *marker) {
    const struct line *a = &layout->lines[before->line_i], *b = &layout->lines[marker->line_i];
    if (a->leaf == b->leaf && fabsf(before->x - marker->x) > 1.2f * b->size)
        return false;
    if (before->style == marker->style)
        return marker->value == 0 || marker->value == before->value + 1;
    bool roman = marker->style == before->style + ('i' - 'a');
    return roman && marker->value == 2 && before->value == 9;
}

static void find_markers(struct layout *layout) {
    struct marker recent[RECENT_MARKERS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < layout->n_lines; i++) {
        struct marker marker;
        struct line *line = &layout->lines[i];
        if (!line_marker(&marker, layout, i))
            continue;
        bool taken = marker.sure;
        uint32_t n_recent = n < RECENT_MARKERS ? n : RECENT_MARKERS;
        for (uint32_t k = 0; k < n_recent && !taken; k++) {
            const struct marker *before = &recent[(n - 1 - k) % RECENT_MARKERS];
            struct line *first = &layout->lines[before->line_i];
            if (line->page_i - first->page_i > 1 || !is_next_item(layout, before, &marker))
                continue;
            first->marker = 1;
            first->ordered = before->value > 0;
            taken = true;
        }
        line->marker = taken;
        line->ordered = taken && marker.value > 0;
        recent[n++ % RECENT_MARKERS] = marker;
    }
}

/* ---- breaks --------------------------------------------------------------------------------- */

bool layout_ends_sentence(const struct layout *layout, const struct line *line) {
    uint32_t c = layout_last_char(layout_word(layout, line, line->n - 1));
    return c == '.' || c == '!' || c == '?' || c == ':' || c == 0x3002 || c == 0x061F;
}

static bool begins_upper(const struct layout *layout, const struct line *line) {
    return !layout_is_lower(layout_first_char(layout_word(layout, line, 0)));
}

float layout_lead(const struct line *line) {
    return line->rtl ? line->right - line->box.x1 : line->box.x0 - line->left;
}

float layout_trail(const struct line *line) {
    return line->rtl ? line->box.x0 - line->left : line->right - line->box.x1;
}

static float middle(const struct line *line) {
    return (line->box.y0 + line->box.y1) / 2;
}

static bool is_centred(const struct line *line) {
    return layout_lead(line) > line->size &&
           fabsf(layout_lead(line) - layout_trail(line)) < line->size;
}

/* The usual distance of a leaf's lines, by its median; 0 where it has too few. */
static float leading_of(const struct layout *layout, uint32_t first, uint32_t end) {
    float steps[64];
    size_t n = 0;
    for (uint32_t i = first + 1; i < end && n < BASE_COUNT(steps); i++) {
        float step = middle(&layout->lines[i]) - middle(&layout->lines[i - 1]);
        if (step <= 0.5f * layout->lines[i].size)
            continue;
        size_t at = n++;
        while (at > 0 && steps[at - 1] > step) {
            steps[at] = steps[at - 1];
            at--;
        }
        steps[at] = step;
    }
    return n >= 3 ? steps[n / 2] : 0;
}

static bool distance_breaks(const struct line *last, const struct line *next, float leading) {
    float step = middle(next) - middle(last), size = fmaxf(last->size, next->size);
    if (step < 0)
        return true;
    if (last->mono && next->mono)
        return step > 2.6f * size;
    if (leading > 0 && leading < 2.6f * size)
        return step > 1.25f * leading + 0.1f * size && step > 1.2f * size;
    return step > 1.75f * size;
}

static bool type_breaks(const struct line *last, const struct line *next) {
    float ratio = next->size / last->size, slack = last->ocr && next->ocr ? 1.5f : 1.13f;
    if (ratio > slack || ratio < 1 / slack)
        return true;
    bool slanted = last->italic != next->italic &&
                   layout_trail(last->italic ? last : next) > 0.25f * (last->right - last->left);
    return last->mono != next->mono || last->bold != next->bold || last->row != next->row ||
           slanted;
}

/* Only a first line is indented, or all but the first. */
static bool indent_breaks(const struct layout *layout, const struct para *para,
                          const struct line *last, const struct line *next, bool item) {
    const struct line *first = &layout->lines[para->first];
    float em = next->size, step = layout_lead(next) - layout_lead(last);
    if (is_centred(last) && is_centred(next))
        return false;
    if (item && para->n == 1)
        return layout_lead(next) < layout_lead(first) - 0.5f * em;
    if (step > 0.8f * em) /* a full first line that goes on further in: a hanging indent */
        return para->n > 1 || layout_ends_sentence(layout, last) || layout_trail(last) > 2 * em;
    return step < -0.8f * em && para->n >= 2;
}

static bool short_breaks(const struct layout *layout, const struct line *last,
                         const struct line *next) {
    float width = last->right - last->left;
    if (is_centred(last) && is_centred(next))
        return false;
    if (!begins_upper(layout, next))
        return false;
    if (layout_trail(last) > 0.5f * width)
        return true;
    return layout_trail(last) > fmaxf(0.12f * width, 2 * last->size) &&
           layout_ends_sentence(layout, last);
}

/* Whether the lines of two leaves can follow each other as if the cut were not there: the cut parts
 * lines that an accidental gap has set apart. */
static bool leaves_join(const struct line *last, const struct line *next) {
    float overlap = fminf(last->box.x1, next->box.x1) - fmaxf(last->box.x0, next->box.x0);
    float narrower = fminf(last->box.x1 - last->box.x0, next->box.x1 - next->box.x0);
    float step = middle(next) - middle(last);
    return overlap > 0.5f * narrower && step > 0.5f * next->size && step < 1.6f * next->size;
}

static bool breaks(const struct layout *layout, const struct para *para, uint32_t next_i,
                   float leading) {
    const struct line *last = &layout->lines[next_i - 1], *next = &layout->lines[next_i];
    bool item = layout->lines[para->first].marker > 0;
    if (next->page_i != last->page_i || next->role != last->role || next->note || last->note ||
        next->repeated != last->repeated)
        return true;
    if (next->role != RUN_BODY)
        return middle(next) - middle(last) > 2 * next->size || middle(next) < middle(last);
    if (next->leaf != last->leaf && !leaves_join(last, next))
        return true;
    if (distance_breaks(last, next, leading) || type_breaks(last, next))
        return true;
    if (next->mono || next->row)
        return false;
    if (next->marker || next->raised)
        return true;
    return indent_breaks(layout, para, last, next, item) || short_breaks(layout, last, next);
}

bool layout_find_paras(struct layout *layout) {
    layout->paras = arena_try(layout->arena, layout->n_lines + 1u, sizeof *layout->paras);
    if (!layout->paras)
        return false;
    uint32_t leaf_end = 0;
    float leading = 0;
    find_markers(layout);
    for (uint32_t i = 0; i < layout->n_lines; i++) {
        struct para *para = layout->n_paras > 0 ? &layout->paras[layout->n_paras - 1] : NULL;
        if (i == leaf_end) {
            while (leaf_end < layout->n_lines &&
                   layout->lines[leaf_end].leaf == layout->lines[i].leaf)
                leaf_end++;
            leading = leading_of(layout, i, leaf_end);
        }
        if (para && !breaks(layout, para, i, leading)) {
            para->n++;
            continue;
        }
        layout->paras[layout->n_paras++] = (struct para){.first = i, .n = 1, .kind = DOC_PARAGRAPH};
    }
    return true;
}
