/* Text: UTF-8 as Unicode chapter 3 table 3-7 defines it (no overlong forms, surrogates or values
 * past U+10FFFF), character classes, and numbers from text. */
#include "base/base.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define REPLACEMENT 0xFFFDu

/* Length of the valid sequence at text[0], 0 when there is none. len >= 1. */
static size_t decode(uint32_t *out, const unsigned char *text, size_t len) {
    unsigned char lead = text[0];
    if (lead < 0x80) {
        *out = lead;
        return 1;
    }
    size_t n;
    uint32_t value;
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte */
    if (lead >= 0xC2 && lead <= 0xDF) {
        n = 2;
        value = lead & 0x1Fu;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        n = 3;
        value = lead & 0x0Fu;
        if (lead == 0xE0)
            low = 0xA0;
        if (lead == 0xED)
            high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        n = 4;
        value = lead & 0x07u;
        if (lead == 0xF0)
            low = 0x90;
        if (lead == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (len < n || text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3Fu);
    }
    *out = value;
    return n;
}

uint32_t utf8_next(const char *text, size_t len, size_t *pos) {
    uint32_t value = REPLACEMENT;
    if (*pos >= len)
        return value;
    size_t n = decode(&value, (const unsigned char *)text + *pos, len - *pos);
    *pos += n ? n : 1;
    return n ? value : REPLACEMENT;
}

size_t utf8_put(char out[4], uint32_t code_point) {
    uint32_t c = code_point;
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        c = REPLACEMENT;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

bool utf8_valid(const char *text, size_t len) {
    uint32_t value;
    for (size_t pos = 0; pos < len;) {
        size_t n = decode(&value, (const unsigned char *)text + pos, len - pos);
        if (n == 0)
            return false;
        pos += n;
    }
    return true;
}

char *utf8_clean(struct arena *arena, const char *text, size_t len) {
    size_t out_len = 0;
    uint32_t value = 0;
    for (size_t pos = 0; pos < len;) {
        size_t n = decode(&value, (const unsigned char *)text + pos, len - pos);
        out_len += n == 0 || value == 0 ? 3 : n;
        pos += n ? n : 1;
    }
    char *out = arena_alloc(arena, out_len + 1);
    size_t at = 0;
    for (size_t pos = 0; pos < len;) {
        size_t n = decode(&value, (const unsigned char *)text + pos, len - pos);
        if (n == 0 || value == 0) {
            at += utf8_put(out + at, REPLACEMENT);
        } else {
            memcpy(out + at, text + pos, n);
            at += n;
        }
        pos += n ? n : 1;
    }
    return out;
}

size_t utf8_cut(const char *text, size_t len, size_t max) {
    if (len <= max)
        return len;
    /* The character that might span max starts at most three bytes before it. */
    for (size_t back = 1; back <= 3 && back <= max; back++) {
        size_t start = max - back;
        if (((unsigned char)text[start] & 0xC0) == 0x80)
            continue;
        size_t end = start;
        utf8_next(text, len, &end);
        return end > max ? start : max;
    }
    return max;
}

struct range {
    uint32_t first, last;
};

static bool in_ranges(const struct range *ranges, size_t n, uint32_t c) {
    for (size_t i = 0; i < n; i++) {
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    }
    return false;
}

bool text_is_cjk(uint32_t code_point) {
    static const struct range ranges[] = {
        {0x1100, 0x11FF},   /* hangul jamo */
        {0x2E80, 0x2FD5},   /* radicals */
        {0x3005, 0x3007},   /* iteration mark, closing mark, zero */
        {0x3021, 0x3029},   /* Hangzhou numerals */
        {0x3038, 0x303B},   /* Hangzhou tens, vertical marks */
        {0x3041, 0x3096},   /* hiragana */
        {0x3099, 0x309F},   /* voicing and iteration marks */
        {0x30A1, 0x30FA},   /* katakana */
        {0x30FC, 0x30FF},   /* length and iteration marks */
        {0x3131, 0x318E},   /* hangul compatibility jamo */
        {0x31F0, 0x31FF},   /* katakana extensions */
        {0x3400, 0x4DBF},   /* Han extension A */
        {0x4E00, 0x9FFF},   /* Han */
        {0xA960, 0xA97C},   /* hangul jamo extended A */
        {0xAC00, 0xD7A3},   /* hangul syllables */
        {0xD7B0, 0xD7FB},   /* hangul jamo extended B */
        {0xF900, 0xFAFF},   /* Han compatibility */
        {0xFF66, 0xFF9F},   /* half-width katakana */
        {0xFFA0, 0xFFDC},   /* half-width hangul */
        {0x1AFF0, 0x1B16F}, /* kana supplements */
        {0x20000, 0x323AF}, /* Han extensions B to H */
    };
    return code_point >= ranges[0].first && in_ranges(ranges, BASE_COUNT(ranges), code_point);
}

bool text_is_space(uint32_t code_point) {
    static const struct range ranges[] = {
        {0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
        {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
    };
    return in_ranges(ranges, BASE_COUNT(ranges), code_point);
}

bool text_is_word(uint32_t code_point) {
    if (code_point < 0x80) {
        uint32_t folded = code_point | 0x20;
        return (folded >= 'a' && folded <= 'z') || (code_point >= '0' && code_point <= '9');
    }
    if (code_point > 0x10FFFF)
        return false;
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code_point);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;
}

/* Marks that people leave out when they type. Those of Indic and South-East Asian scripts are
 * vowels and stay. */
static bool is_dropped_mark(uint32_t c) {
    static const struct range ranges[] = {
        {0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x05BF, 0x05BF}, {0x05C1, 0x05C2},
        {0x05C4, 0x05C5}, {0x05C7, 0x05C7}, {0x0610, 0x061A}, {0x0640, 0x0640}, {0x064B, 0x065F},
        {0x0670, 0x0670}, {0x06D6, 0x06DC}, {0x06DF, 0x06E4}, {0x06E7, 0x06E8}, {0x06EA, 0x06ED},
        {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F},
    };
    return c >= ranges[0].first && in_ranges(ranges, BASE_COUNT(ranges), c);
}

int text_fold(uint32_t out[TEXT_FOLD_MAX], uint32_t code_point) {
    if (code_point < 0x80) {
        out[0] = code_point >= 'A' && code_point <= 'Z' ? code_point | 0x20 : code_point;
        return 1;
    }
    bool half_width = code_point >= 0xFF66 && code_point <= 0xFFDC;
    bool compatibility_han = (code_point >= 0xF900 && code_point <= 0xFAFF) ||
                             (code_point >= 0x2F800 && code_point <= 0x2FA1F);
    bool keeps = text_is_cjk(code_point) && !half_width && !compatibility_han;
    /* Short i is a letter of its own, whose breve nobody leaves out. */
    if (code_point == 0x0419 || code_point == 0x0439) {
        out[0] = 0x0439;
        return 1;
    }
    utf8proc_int32_t parts[TEXT_FOLD_MAX];
    int boundary = 0;
    utf8proc_ssize_t n = keeps || code_point > 0x10FFFF
                             ? 0
                             : utf8proc_decompose_char(
                                   (utf8proc_int32_t)code_point, parts, TEXT_FOLD_MAX,
                                   UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD,
                                   &boundary);
    if (n <= 0 || n > TEXT_FOLD_MAX) {
        out[0] = code_point;
        return 1;
    }
    /* A mark that stands alone (U+037A) decomposes to a space and itself. */
    bool space = text_is_space(code_point);
    int n_out = 0;
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        uint32_t part = (uint32_t)parts[i];
        if (!is_dropped_mark(part) && (space || !text_is_space(part)))
            out[n_out++] = part;
    }
    return n_out;
}

const char *text_category(uint32_t code_point) {
    if (code_point > 0x10FFFF)
        return "Cn";
    return utf8proc_category_string((utf8proc_int32_t)code_point);
}

uint32_t text_lower(uint32_t code_point) {
    if (code_point > 0x10FFFF)
        return code_point;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point);
}

/* ---- normalization ---- */

static unsigned combining_class(int32_t code_point) {
    return (unsigned)utf8proc_get_property(code_point)->combining_class & 0xFF;
}

/* Marks in order of their combining class, equal ones as they stood. A run may be as long as the
 * text, so long ones are counted into place. */
static void order_marks(struct arena *arena, int32_t *marks, size_t n) {
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            int32_t mark = marks[i];
            size_t at = i;
            for (; at > 0 && combining_class(marks[at - 1]) > combining_class(mark); at--)
                marks[at] = marks[at - 1];
            marks[at] = mark;
        }
        return;
    }
    size_t starts[257] = {0};
    int32_t *ordered = arena_alloc(arena, n * sizeof(*ordered));
    for (size_t i = 0; i < n; i++)
        starts[combining_class(marks[i]) + 1]++;
    for (size_t i = 1; i < BASE_COUNT(starts); i++)
        starts[i] += starts[i - 1];
    for (size_t i = 0; i < n; i++)
        ordered[starts[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, ordered, n * sizeof(*marks));
}

/* The text's code points, each taken apart; *out_n of them. */
static int32_t *decompose(size_t *out_n, struct arena *arena, int options, const char *text,
                          size_t len) {
    size_t n = 0, cap = len + TEXT_FOLD_MAX;
    int32_t *out = arena_alloc(arena, cap * sizeof(*out));
    int boundary = 0;
    for (size_t pos = 0; pos < len;) {
        if (cap - n < TEXT_FOLD_MAX) {
            int32_t *grown = arena_alloc(arena, 2 * cap * sizeof(*grown));
            memcpy(grown, out, n * sizeof(*out));
            out = grown;
            cap *= 2;
        }
        int32_t c = (int32_t)utf8_next(text, len, &pos);
        utf8proc_ssize_t more = utf8proc_decompose_char(c, out + n, TEXT_FOLD_MAX, options,
                                                        &boundary);
        if (more <= 0 || more > TEXT_FOLD_MAX) {
            out[n] = c;
            more = 1;
        }
        n += (size_t)more;
    }
    for (size_t i = 0; i < n; i++) {
        size_t start = i;
        while (i < n && combining_class(out[i]) != 0)
            i++;
        if (i - start > 1)
            order_marks(arena, out + start, i - start);
    }
    *out_n = n;
    return out;
}

static bool is_ascii(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] >= 0x80)
            return false;
    }
    return true;
}

char *text_normalize(size_t *out_len, struct arena *arena, enum text_form form, const char *text,
                     size_t len) {
    if (is_ascii(text, len)) {
        *out_len = len;
        return arena_strndup(arena, text, len);
    }
    bool compatible = form == TEXT_NFKC || form == TEXT_NFKD;
    struct arena *scratch = arena_new(0);
    size_t n;
    int32_t *points = decompose(&n, scratch,
                                UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0), text, len);
    if (form == TEXT_NFC || form == TEXT_NFKC) {
        utf8proc_ssize_t fewer = utf8proc_normalize_utf32(points, (utf8proc_ssize_t)n,
                                                          UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        assert(fewer >= 0 && (size_t)fewer <= n);
        n = (size_t)fewer;
    }
    size_t used = 0;
    char unit[4];
    for (size_t i = 0; i < n; i++)
        used += utf8_put(unit, (uint32_t)points[i]);
    char *out = arena_alloc(arena, used + 1);
    *out_len = used;
    for (size_t i = 0, at = 0; i < n; i++)
        at += utf8_put(out + at, (uint32_t)points[i]);
    arena_free(scratch);
    return out;
}

static char ascii_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool text_has_suffix(const char *text, const char *suffix) {
    size_t text_len = strlen(text), suffix_len = strlen(suffix);
    if (suffix_len > text_len)
        return false;
    const char *end = text + text_len - suffix_len;
    for (size_t i = 0; i < suffix_len; i++) {
        if (ascii_lower(end[i]) != ascii_lower(suffix[i]))
            return false;
    }
    return true;
}

bool text_to_int(int64_t *out, const char *text, int64_t min, int64_t max, const char *name,
                 struct error *err) {
    const char *digits = text[0] == '-' ? text + 1 : text;
    bool ok = digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0';
    if (ok) {
        errno = 0;
        long long value = strtoll(text, NULL, 10);
        if (errno == 0 && value >= min && value <= max) {
            *out = value;
            return true;
        }
    }
    return error_set(err, ERROR_INPUT,
                     "%s is a whole number from %" PRId64 " to %" PRId64 ", not '%.80s'", name, min,
                     max, text);
}
