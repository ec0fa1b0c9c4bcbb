/* Characters as the tables of the `tokenizers` library know them.
 *
 * Its categories are those of Unicode 8 (a letter or mark that came later is nothing to them), its
 * normalization is that of Unicode 9, its regular expressions are of Unicode 16, its letter case
 * and its numbers of Unicode 17. utf8proc is of another version still, so what differs is listed
 * here: ranges that held no character then and hold one now whose answer would differ, and the few
 * whose category changed. The golden test of tokenizers asks for every code point. */
#include "model/tokenizer.h"

#include <string.h>

struct range {
    uint32_t first, last;
};

/* Not in Unicode 8; now also marks, punctuation or format characters. */
static const struct range since_8[] = {
    {0x05C8, 0x05CF},   {0x061D, 0x061D},   {0x07FB, 0x07FF},   {0x085F, 0x089F},
    {0x08B5, 0x08E2},   {0x09FC, 0x0A00},   {0x0A76, 0x0A80},   {0x0AFA, 0x0B00},
    {0x0B4E, 0x0B55},   {0x0C04, 0x0C04},   {0x0C3A, 0x0C3C},   {0x0C70, 0x0C77},
    {0x0C84, 0x0C84},   {0x0CF3, 0x0D00},   {0x0D3B, 0x0D3C},   {0x0D80, 0x0D81},
    {0x0EBA, 0x0EBA},   {0x0ECE, 0x0ECF},   {0x180F, 0x180F},   {0x1ABF, 0x1AFF},
    {0x1B4C, 0x1B4F},   {0x1B7D, 0x1B7F},   {0x1DF6, 0x1DFB},   {0x2E43, 0x2E7F},
    {0xA82C, 0xA82F},   {0xA8C5, 0xA8CD},   {0xA8FE, 0xA8FF},   {0x10D00, 0x10E5F},
    {0x10E7F, 0x10FFF}, {0x11070, 0x1107E}, {0x110C2, 0x110CF}, {0x111CE, 0x111CF},
    {0x1123E, 0x1127F}, {0x1133A, 0x1133B}, {0x11375, 0x1147F}, {0x1165A, 0x1167F},
    {0x116B8, 0x116BF}, {0x11740, 0x1189F}, {0x11900, 0x11ABF}, {0x11AF9, 0x11FFF},
    {0x12544, 0x12FFF}, {0x1342F, 0x143FF}, {0x14647, 0x167FF}, {0x16B90, 0x16EFF},
    {0x16F45, 0x16F4F}, {0x16FA0, 0x16FFF}, {0x1BCA4, 0x1CFFF}, {0x1D127, 0x1D128},
    {0x1D246, 0x1D2FF}, {0x1DAB0, 0x1E7FF}, {0x1E8D7, 0x1EDFF},
};

/* No marks in Unicode 9. */
static const struct range no_marks_9[] = {
    {0x05C8, 0x05CF},   {0x07FB, 0x07FF},   {0x085F, 0x089F},   {0x08B5, 0x08D3},
    {0x09FC, 0x0A00},   {0x0AFA, 0x0B00},   {0x0B4E, 0x0B55},   {0x0C04, 0x0C04},
    {0x0C3A, 0x0C3C},   {0x0CF3, 0x0D00},   {0x0D3B, 0x0D3C},   {0x0D80, 0x0D81},
    {0x0EBA, 0x0EBA},   {0x0ECE, 0x0ECF},   {0x1715, 0x171F},   {0x180F, 0x180F},
    {0x1ABF, 0x1AFF},   {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82F},
    {0xA8FE, 0xA8FF},   {0x10D00, 0x10E5F}, {0x10E7F, 0x10FFF}, {0x11070, 0x1107E},
    {0x110C2, 0x110CF}, {0x11144, 0x1114F}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF},
    {0x1123F, 0x1127F}, {0x1133A, 0x1133B}, {0x11375, 0x11434}, {0x11447, 0x1147F},
    {0x11740, 0x1189F}, {0x11900, 0x11ABF}, {0x11AF9, 0x11C2E}, {0x11CB7, 0x11FFF},
    {0x1342F, 0x143FF}, {0x14647, 0x167FF}, {0x16F45, 0x16F4F}, {0x16F7F, 0x16F8E},
    {0x16FA0, 0x16FFF}, {0x1BCA4, 0x1CFFF}, {0x1D127, 0x1D128}, {0x1D246, 0x1D2FF},
    {0x1E02B, 0x1E7FF},
};

/* Left alone by Unicode 9's normalization. */
static const struct range inert_9[] = {
    {0x0557, 0x0558},   {0x058B, 0x058C},   {0x05C8, 0x05CF},   {0x07FB, 0x07FF},
    {0x085F, 0x089F},   {0x08B5, 0x08D3},   {0x09FC, 0x0A00},   {0x0C3A, 0x0C3C},
    {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x171F},   {0x1ABF, 0x1AFF},
    {0x1DF6, 0x1DFA},   {0x209D, 0x209F},   {0x32FF, 0x32FF},   {0xA7B8, 0xA7F6},
    {0xA82C, 0xA82F},   {0xAB66, 0xAB6F},   {0x10570, 0x105FF}, {0x10768, 0x107FF},
    {0x10D00, 0x10E5F}, {0x10E7F, 0x10FFF}, {0x11070, 0x1107E}, {0x1133A, 0x1133B},
    {0x11375, 0x11441}, {0x11447, 0x1147F}, {0x11740, 0x1189F}, {0x11900, 0x11ABF},
    {0x11C40, 0x11FFF}, {0x14647, 0x167FF}, {0x16B90, 0x16EFF}, {0x16FA0, 0x16FFF},
    {0x1B002, 0x1BBFF}, {0x1BCA4, 0x1CFFF}, {0x1D127, 0x1D128}, {0x1D246, 0x1D2FF},
    {0x1D6A6, 0x1D6A7}, {0x1DAB0, 0x1DFFF}, {0x1E02B, 0x1E7FF}, {0x1F16C, 0x1F16F},
    {0x1F9C1, 0x1FFFF},
};

/* Letters and numbers of Unicode 16 that Unicode 15 did not have. */
static const struct range letters_16[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
    {0x10D4A, 0x10D65}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x11380, 0x11389},
    {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7},
    {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0}, {0x13460, 0x143FA},
    {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED},
    {0x1E5F0, 0x1E5F0}, {0x2EBF0, 0x2EE5D},
};
static const struct range numbers_16[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x16130, 0x16139},
    {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA},
};
/* What a word may hold beside letters, marks, digits and connectors: joiners and circled letters,
 * and the marks of Unicode 16. */
static const struct range word_16[] = {
    {0x0897, 0x0897},   {0x200C, 0x200D},   {0x24B6, 0x24E9},   {0x10D69, 0x10D6D},
    {0x10EFC, 0x10EFC}, {0x113B8, 0x113C0}, {0x113C2, 0x113C2}, {0x113C5, 0x113C5},
    {0x113C7, 0x113CA}, {0x113CC, 0x113D0}, {0x113D2, 0x113D2}, {0x113E1, 0x113E2},
    {0x11F5A, 0x11F5A}, {0x1611E, 0x1612F}, {0x1E5EE, 0x1E5EF}, {0x1F130, 0x1F149},
    {0x1F150, 0x1F169}, {0x1F170, 0x1F189},
};

/* Ranges ascend. */
static bool within(const struct range *ranges, size_t n, uint32_t c) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (c > ranges[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && c >= ranges[low].first;
}
#define WITHIN(ranges, c) within(ranges, BASE_COUNT(ranges), c)

bool unicode_is_control(uint32_t c) {
    if (c < 0x80)
        return c < 0x20 || c == 0x7F;
    const char *category = text_category(c);
    return category[0] == 'C' && strchr("cfo", category[1]) && !WITHIN(since_8, c);
}

bool unicode_is_nonspacing(uint32_t c) {
    if (c < 0x300)
        return false;
    if (c == 0x1734 || c == 0x1171E)
        return true;
    if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9)
        return false;
    return strcmp(text_category(c), "Mn") == 0 && !WITHIN(since_8, c);
}

bool unicode_is_mark(uint32_t c) {
    if (c < 0x300)
        return false;
    if (c == 0x1CF2 || c == 0x1CF3)
        return true;
    return text_category(c)[0] == 'M' && !WITHIN(no_marks_9, c);
}

bool unicode_is_punctuation(uint32_t c) {
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
               (c >= '{' && c <= '~');
    if (c == 0x166D || c == 0x111C9)
        return true;
    return text_category(c)[0] == 'P' && !WITHIN(since_8, c);
}

bool unicode_is_letter(uint32_t c) {
    return text_category(c)[0] == 'L' || WITHIN(letters_16, c);
}

bool unicode_is_number(uint32_t c) {
    return text_category(c)[0] == 'N' || WITHIN(numbers_16, c);
}

bool unicode_is_numeric(uint32_t c) {
    return unicode_is_number(c) || (c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6);
}

bool unicode_is_word(uint32_t c) {
    const char *category = text_category(c);
    switch (category[0]) {
    case 'L':
    case 'M':
        return true;
    case 'N':
        return category[1] != 'o';
    case 'P':
        return category[1] == 'c';
    }
    return WITHIN(letters_16, c) || WITHIN(numbers_16, c) || WITHIN(word_16, c);
}

int unicode_lower(uint32_t out[2], uint32_t c) {
    out[0] = c;
    if (c < 0x80) {
        if (c >= 'A' && c <= 'Z')
            out[0] = c | 0x20;
    } else if (c == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    } else if (c >= 0x10D50 && c <= 0x10D65) {
        out[0] = c + 0x20; /* Garay */
    } else if (c >= 0x16EA0 && c <= 0x16EB8) {
        out[0] = c + 0x1B; /* Beria Erfe */
    } else if (c == 0xA7CB) {
        out[0] = 0x264;
    } else if (c == 0xA7DC) {
        out[0] = 0x19B;
    } else if (c == 0x1C89 || c == 0xA7CC || c == 0xA7CE || c == 0xA7D2 || c == 0xA7D4 ||
               c == 0xA7DA) {
        out[0] = c + 1;
    } else {
        out[0] = text_lower(c);
    }
    return 1;
}

void unicode_normalize(struct buf *out, enum text_form form, const char *text, size_t len) {
    struct arena *arena = arena_new(0);
    for (size_t pos = 0; pos < len;) {
        size_t start = pos, next = pos;
        while (next < len && !WITHIN(inert_9, utf8_next(text, len, &next)))
            pos = next;
        if (pos > start) {
            size_t n;
            char *part = text_normalize(&n, arena, form, text + start, pos - start);
            buf_append(out, part, n);
        }
        if (next > pos) {
            buf_append(out, text + pos, next - pos);
            pos = next;
        }
    }
    arena_free(arena);
}
