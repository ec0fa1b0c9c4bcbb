/* Text into tokens, the same way for the index, for queries and for highlights.
 *
 *   words      runs of letters, marks and numbers, folded (text_fold); those of a..z are stemmed.
 *              Soft hyphens and joiners inside a word are not seen. Cut at 64 bytes.
 *   numbers    "1,234.50" is its parts 1, 234, 50 and, at the first one's position, the number
 *              without its grouping, 1234.50, and its whole part, 1234
 *   CJK        each character with the one after it, and alone at the same position; the last of
 *              a run alone
 *   emoji      one token each
 * All else separates. Every token is found again by the bytes it came from. */
#include "store/internal.h"

#include <string.h>

#define WORD_MAX 64

struct scan {
    const char *text;
    size_t len, pos;                 /* pos: the next character */
    const struct token_sieve *sieve; /* NULL: all */
    token_visitor visit;
    void *ctx;
    bool stopped;
    uint32_t n_positions;
    char word[WORD_MAX + 8], stem[WORD_MAX + 8];
    size_t word_len;
};

enum char_class { CLASS_NONE, CLASS_WORD, CLASS_DIGIT, CLASS_CJK, CLASS_EMOJI };

static bool is_emoji(uint32_t c) {
    return (c >= 0x1F300 && c <= 0x1FAFF && !(c >= 0x1F3FB && c <= 0x1F3FF)) ||
           (c >= 0x2600 && c <= 0x27BF) || (c >= 0x1F1E6 && c <= 0x1F1FF);
}

static enum char_class class_of(uint32_t c) {
    if (c < 0x80) {
        if (c >= '0' && c <= '9')
            return CLASS_DIGIT;
        return (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? CLASS_WORD : CLASS_NONE;
    }
    if (text_is_cjk(c))
        return CLASS_CJK;
    if (text_is_word(c))
        return CLASS_WORD;
    return is_emoji(c) ? CLASS_EMOJI : CLASS_NONE;
}

/* Invisible, and no border of a word. */
static bool is_joiner(uint32_t c) {
    return c == 0x00AD || c == 0x200C || c == 0x200D || c == 0x2060 || c == 0xFEFF;
}

static uint32_t peek(const struct scan *scan, size_t *next) {
    *next = scan->pos;
    return utf8_next(scan->text, scan->len, next);
}

static void emit(struct scan *scan, struct token *token) {
    scan->n_positions += !token->colocated;
    token->position = scan->n_positions - 1;
    if (!scan->stopped && !scan->visit(scan->ctx, token))
        scan->stopped = true;
}

static void word_add(struct scan *scan, uint32_t c) {
    uint32_t parts[TEXT_FOLD_MAX];
    int n = text_fold(parts, c);
    for (int i = 0; i < n; i++) {
        char bytes[4];
        size_t n_bytes = utf8_put(bytes, parts[i]);
        if (scan->word_len + n_bytes > WORD_MAX)
            return;
        memcpy(scan->word + scan->word_len, bytes, n_bytes);
        scan->word_len += n_bytes;
    }
}

static bool is_stemmed(const char *word, size_t len) {
    if (len < 3 || len > 40)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (word[i] < 'a' || word[i] > 'z')
            return false;
    }
    return true;
}

/* A stem keeps its word's first two letters, or is shorter; but an i may have been a y (eying). */
void token_sieve_add(struct token_sieve *sieve, const char *token, size_t len) {
    unsigned first = (unsigned char)token[0] - 'a';
    unsigned second = len > 1 ? (unsigned char)token[1] - 'a' : 26;
    if (first < 26)
        sieve->pairs[first] |= second < 26 ? 1u << second : UINT32_MAX;
    if (first < 26 && second == 'i' - 'a')
        sieve->pairs[first] |= 1u << ('y' - 'a');
}

static bool passes(const struct token_sieve *sieve, const char *word, size_t len) {
    unsigned first = (unsigned char)word[0] - 'a';
    unsigned second = len > 1 ? (unsigned char)word[1] - 'a' : 26;
    return first >= 26 || second >= 26 || (sieve->pairs[first] >> second & 1);
}

char *token_of_word(struct arena *arena, const char *word) {
    size_t len = strlen(word);
    char *token = arena_strndup(arena, word, len);
    if (is_stemmed(word, len))
        token[stem_english(token, len)] = '\0';
    return token;
}

static void emit_word(struct scan *scan, size_t start, size_t end) {
    if (scan->word_len == 0)
        return;
    if (scan->sieve && !passes(scan->sieve, scan->word, scan->word_len)) {
        scan->n_positions++;
        return;
    }
    struct token token = {.text = scan->word,
                          .len = scan->word_len,
                          .word = scan->word,
                          .word_len = scan->word_len,
                          .start = (uint32_t)start,
                          .end = (uint32_t)end};
    if (is_stemmed(scan->word, scan->word_len)) {
        memcpy(scan->stem, scan->word, scan->word_len);
        token.text = scan->stem;
        token.len = stem_english(scan->stem, scan->word_len);
    }
    emit(scan, &token);
}

/* The word at pos; true when it was ASCII digits alone. */
static bool scan_word(struct scan *scan, size_t *start, size_t *end) {
    bool digits = true;
    *start = *end = scan->pos;
    scan->word_len = 0;
    while (scan->pos < scan->len) {
        unsigned char byte = (unsigned char)scan->text[scan->pos];
        if (byte < 0x80) { /* most text, without a call */
            unsigned char lower = byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
            bool digit = byte >= '0' && byte <= '9';
            if (!digit && (lower < 'a' || lower > 'z'))
                break;
            digits = digits && digit;
            if (scan->word_len < WORD_MAX)
                scan->word[scan->word_len++] = (char)lower;
            *end = ++scan->pos;
            continue;
        }
        size_t next;
        uint32_t c = peek(scan, &next);
        if (class_of(c) == CLASS_WORD) {
            digits = false;
            word_add(scan, c);
            *end = next;
        } else if (!is_joiner(c)) {
            break;
        }
        scan->pos = next;
    }
    return digits;
}

/* ---- numbers ---- */

/* The number that digits with . and , between them mean, as digits with at most one '.': a
 * separator is the decimal one when it is the last, the only one of its kind, and either a '.' or
 * not followed by just three digits. False where grouping makes no number ("1.2.3"): then text is
 * kept. */
static bool read_number(char *out, size_t *out_len, size_t *whole_len, const char *text,
                        size_t len) {
    size_t n_dots = 0, n_commas = 0, last = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '.' || text[i] == ',') {
            n_dots += text[i] == '.';
            n_commas += text[i] == ',';
            last = i;
        }
    }
    bool only = text[last] == '.' ? n_dots == 1 : n_commas == 1;
    bool decimal = only && (text[last] == '.' || len - last - 1 != 3);
    *out_len = *whole_len = 0;
    size_t group_start = 0;
    char grouping = 0;
    for (size_t i = 0; i <= len; i++) {
        bool is_end = i == len || (decimal && i == last);
        bool is_separator = i < len && (text[i] == '.' || text[i] == ',');
        if (!is_end && !is_separator) {
            out[(*out_len)++] = text[i];
            continue;
        }
        if ((!decimal || i <= last) && group_start > 0 && i - group_start != 3)
            return false;
        if (is_separator && !is_end) {
            if (grouping && grouping != text[i])
                return false;
            grouping = text[i];
        }
        group_start = i + 1;
        if (i == len)
            break;
        if (is_end) {
            if (grouping && grouping == text[i])
                return false;
            *whole_len = *out_len;
            out[(*out_len)++] = '.';
            memcpy(out + *out_len, text + i + 1, len - i - 1);
            *out_len += len - i - 1;
            break;
        }
    }
    return true;
}

/* Where the number that starts at start ends, if more groups of digits follow its first. */
static size_t number_end(const struct scan *scan, size_t end) {
    size_t at = end;
    for (;;) {
        if (at + 1 >= scan->len || (scan->text[at] != '.' && scan->text[at] != ','))
            return at;
        size_t next = at + 1, group = next;
        while (next < scan->len && scan->text[next] >= '0' && scan->text[next] <= '9')
            next++;
        if (next == group)
            return at;
        struct scan after = *scan;
        after.pos = next;
        size_t ignored;
        if (next < scan->len && class_of(peek(&after, &ignored)) == CLASS_WORD)
            return end; /* "3.5mm": its parts only */
        at = next;
    }
}

/* The number and its whole part, at the position of its first group. */
static void emit_number(struct scan *scan, size_t start, size_t end) {
    char number[WORD_MAX];
    size_t len, whole_len;
    if (end - start > WORD_MAX - 1)
        return;
    if (!read_number(number, &len, &whole_len, scan->text + start, end - start)) {
        len = end - start;
        whole_len = 0;
        memcpy(number, scan->text + start, len);
    }
    struct token token = {.text = number,
                          .len = len,
                          .word = number,
                          .word_len = len,
                          .start = (uint32_t)start,
                          .end = (uint32_t)end,
                          .colocated = true};
    emit(scan, &token);
    bool grouped = whole_len > 0 && memchr(scan->text + start, ',', end - start) != NULL &&
                   memcmp(number, scan->text + start, whole_len) != 0;
    if (grouped) {
        token.len = token.word_len = whole_len;
        emit(scan, &token);
    }
}

/* ---- CJK, emoji ---- */

static size_t put_folded(char out[8], uint32_t c) {
    uint32_t parts[TEXT_FOLD_MAX];
    int n = text_fold(parts, c);
    return utf8_put(out, n > 0 ? parts[0] : c);
}

static void emit_cjk(struct scan *scan) {
    size_t start = scan->pos, end;
    uint32_t c = peek(scan, &end);
    char pair[16];
    size_t first_len = put_folded(pair, c);
    scan->pos = end;
    size_t next_end;
    uint32_t next = end < scan->len ? peek(scan, &next_end) : 0;
    struct token token = {.text = pair, .start = (uint32_t)start};
    if (next && text_is_cjk(next)) {
        token.len = first_len + put_folded(pair + first_len, next);
        token.end = (uint32_t)next_end;
        emit(scan, &token);
        token.colocated = true;
    }
    token.len = first_len;
    token.end = (uint32_t)end;
    emit(scan, &token);
}

static void emit_emoji(struct scan *scan) {
    size_t start = scan->pos, end;
    char bytes[4];
    struct token token = {.text = bytes, .start = (uint32_t)start};
    token.len = utf8_put(bytes, peek(scan, &end));
    token.end = (uint32_t)end;
    scan->pos = end;
    emit(scan, &token);
}

uint32_t tokens_visit_some(const char *text, size_t len, const struct token_sieve *sieve,
                           token_visitor visit, void *ctx) {
    struct scan scan = {.text = text, .len = len, .sieve = sieve, .visit = visit, .ctx = ctx};
    size_t number_until = 0;
    while (scan.pos < scan.len && !scan.stopped) {
        unsigned char byte = (unsigned char)scan.text[scan.pos];
        if (byte < 0x80 && class_of(byte) == CLASS_NONE) {
            scan.pos++;
            continue;
        }
        size_t next, start, end;
        enum char_class kind = class_of(peek(&scan, &next));
        if (kind == CLASS_NONE) {
            scan.pos = next;
        } else if (kind == CLASS_CJK) {
            emit_cjk(&scan);
        } else if (kind == CLASS_EMOJI) {
            emit_emoji(&scan);
        } else {
            bool digits = scan_word(&scan, &start, &end);
            emit_word(&scan, start, end);
            if (digits && start >= number_until) {
                number_until = number_end(&scan, end);
                if (number_until > end)
                    emit_number(&scan, start, number_until);
            }
        }
    }
    return scan.n_positions;
}

uint32_t tokens_visit(const char *text, size_t len, token_visitor visit, void *ctx) {
    return tokens_visit_some(text, len, NULL, visit, ctx);
}
