/* JSON read where it lies, value after value (RFC 8259). tokenizer.json holds some hundred thousand
 * tokens and twice as many merges: a tree of them would cost more than all else at start. Values
 * that are stepped over are checked for brackets and strings only; whoever wants one parses it. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_DEPTH 128
#define MAX_STRING ((size_t)1 << 20)

void json_scan_init(struct json_scan *scan, const char *json, size_t len, const char *path) {
    *scan = (struct json_scan){.json = json, .len = len, .path = path, .text = {.max = MAX_STRING}};
}

void json_scan_fini(struct json_scan *scan) {
    buf_fini(&scan->text);
}

static bool malformed(const struct json_scan *scan, struct error *err) {
    return tokenizer_bad(err, scan->path, "malformed JSON at byte %zu", scan->pos);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

char json_scan_peek(struct json_scan *scan) {
    while (scan->pos < scan->len && is_blank(scan->json[scan->pos]))
        scan->pos++;
    return scan->pos < scan->len ? scan->json[scan->pos] : '\0';
}

static bool take(struct json_scan *scan, char c) {
    if (json_scan_peek(scan) != c || scan->pos == scan->len)
        return false;
    scan->pos++;
    return true;
}

bool json_scan_enter(struct json_scan *scan, char bracket, struct error *err) {
    if (!take(scan, bracket))
        return malformed(scan, err);
    if (++scan->depth > MAX_DEPTH)
        return tokenizer_bad(err, scan->path, "more than %d levels deep", MAX_DEPTH);
    return true;
}

bool json_scan_next(struct json_scan *scan, char bracket, bool *first, struct error *err) {
    if (take(scan, bracket == '{' ? '}' : ']')) {
        scan->depth--;
        return false;
    }
    if (!*first && !take(scan, ','))
        return malformed(scan, err);
    *first = false;
    return true;
}

bool json_scan_member(struct json_scan *scan, bool *first, struct error *err) {
    if (!json_scan_next(scan, '{', first, err) || !json_scan_string(scan, err))
        return false;
    return take(scan, ':') ? true : malformed(scan, err);
}

/* Four hex digits at pos; -1 without them. */
static int32_t hex4(const struct json_scan *scan, size_t pos) {
    int32_t value = 0;
    if (scan->len - pos < 4)
        return -1;
    for (size_t i = pos; i < pos + 4; i++) {
        char c = scan->json[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* Past the backslash at pos. */
static bool take_escape(struct json_scan *scan, struct error *err) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (scan->pos + 1 >= scan->len)
        return malformed(scan, err);
    char name = scan->json[scan->pos + 1];
    const char *at = name ? strchr(names, name) : NULL;
    if (at) {
        buf_putc(&scan->text, values[at - names]);
        scan->pos += 2;
        return true;
    }
    int32_t value = name == 'u' ? hex4(scan, scan->pos + 2) : -1;
    size_t used = 6;
    if (value >= 0xD800 && value <= 0xDBFF) {
        bool pair = scan->len - scan->pos >= 12 && scan->json[scan->pos + 6] == '\\' &&
                    scan->json[scan->pos + 7] == 'u';
        int32_t low = pair ? hex4(scan, scan->pos + 8) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return malformed(scan, err);
        value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        used = 12;
    } else if (value < 0 || (value >= 0xDC00 && value <= 0xDFFF)) {
        return malformed(scan, err);
    }
    char bytes[4];
    buf_append(&scan->text, bytes, utf8_put(bytes, (uint32_t)value));
    scan->pos += used;
    return true;
}

bool json_scan_string(struct json_scan *scan, struct error *err) {
    buf_clear(&scan->text);
    if (!take(scan, '"'))
        return malformed(scan, err);
    for (;;) {
        size_t start = scan->pos;
        bool ascii = true;
        while (scan->pos < scan->len) {
            unsigned char c = (unsigned char)scan->json[scan->pos];
            if (c == '"' || c == '\\' || c < 0x20)
                break;
            ascii = ascii && c < 0x80;
            scan->pos++;
        }
        if (!ascii && !utf8_valid(scan->json + start, scan->pos - start))
            return tokenizer_bad(err, scan->path, "invalid UTF-8 before byte %zu", scan->pos);
        buf_append(&scan->text, scan->json + start, scan->pos - start);
        if (scan->pos == scan->len || (unsigned char)scan->json[scan->pos] < 0x20)
            return malformed(scan, err);
        if (scan->json[scan->pos] == '\\') {
            if (!take_escape(scan, err))
                return false;
            continue;
        }
        scan->pos++;
        if (scan->text.failed)
            return tokenizer_bad(err, scan->path, "a string of more than %zu bytes before byte %zu",
                                 MAX_STRING, scan->pos);
        return true;
    }
}

bool json_scan_int(int64_t *out, struct json_scan *scan, struct error *err) {
    bool negative = json_scan_peek(scan) == '-';
    size_t start = scan->pos + negative, pos = start;
    int64_t value = 0;
    while (pos < scan->len && scan->json[pos] >= '0' && scan->json[pos] <= '9' &&
           value < INT64_MAX / 10 - 1) {
        value = value * 10 + (scan->json[pos] - '0');
        pos++;
    }
    if (pos == start ||
        (pos < scan->len && !is_blank(scan->json[pos]) && !memchr(",}]", scan->json[pos], 3)))
        return tokenizer_bad(err, scan->path, "no whole number at byte %zu", scan->pos);
    scan->pos = pos;
    *out = negative ? -value : value;
    return true;
}

/* Over a string, unread. */
static bool skip_string(struct json_scan *scan) {
    for (scan->pos++; scan->pos < scan->len; scan->pos++) {
        char c = scan->json[scan->pos];
        if (c == '"') {
            scan->pos++;
            return true;
        }
        if (c == '\\')
            scan->pos++;
    }
    scan->pos = scan->len;
    return false;
}

bool json_scan_skip(const char **start, size_t *len, struct json_scan *scan, struct error *err) {
    char open[MAX_DEPTH];
    int depth = 0;
    json_scan_peek(scan);
    size_t from = scan->pos;
    do {
        char c = json_scan_peek(scan);
        if (c == '"') {
            if (!skip_string(scan))
                return malformed(scan, err);
        } else if (c == '{' || c == '[') {
            if (depth == MAX_DEPTH)
                return tokenizer_bad(err, scan->path, "more than %d levels deep", MAX_DEPTH);
            open[depth++] = c;
            scan->pos++;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || open[depth - 1] != (c == '}' ? '{' : '['))
                return malformed(scan, err);
            depth--;
            scan->pos++;
        } else if (depth > 0 && (c == ',' || c == ':')) {
            scan->pos++;
        } else {
            size_t word = scan->pos;
            while (scan->pos < scan->len && !is_blank(scan->json[scan->pos]) &&
                   !memchr(",:{}[]\"", scan->json[scan->pos], 7))
                scan->pos++;
            if (scan->pos == word)
                return malformed(scan, err);
        }
    } while (depth > 0);
    *start = scan->json + from;
    *len = scan->pos - from;
    return true;
}
