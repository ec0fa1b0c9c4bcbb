/* What passes between us and the server, as text: base64 (RFC 4648, section 4), ids, metadata, and
 * replies with large values, which are cut out before the rest is parsed. */
#include "chroma/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void chroma_base64_put(struct buf *out, const void *data, size_t len) {
    const unsigned char *bytes = data;
    char block[4096];
    size_t filled = 0;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        unsigned group = (unsigned)bytes[i] << 16;
        group |= n > 1 ? (unsigned)bytes[i + 1] << 8 : 0;
        group |= n > 2 ? (unsigned)bytes[i + 2] : 0;
        block[filled++] = alphabet[group >> 18];
        block[filled++] = alphabet[group >> 12 & 63];
        block[filled++] = n > 1 ? alphabet[group >> 6 & 63] : '=';
        block[filled++] = n > 2 ? alphabet[group & 63] : '=';
        if (filled == sizeof block) {
            buf_append(out, block, filled);
            filled = 0;
        }
    }
    buf_append(out, block, filled);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static signed char digits[256];

static void fill_digits(void) {
    memset(digits, -1, sizeof digits);
    for (int i = 0; i < 64; i++)
        digits[(unsigned char)alphabet[i]] = (signed char)i;
}

void *chroma_base64_take(size_t *n_bytes, struct arena *arena, const char *text, size_t len) {
    pthread_once(&once, fill_digits);
    if (len % 4 != 0)
        return NULL;
    size_t pads = len == 0 || text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
    unsigned char *out = arena_try(arena, len / 4 * 3 + 1, 1);
    if (!out)
        return NULL;
    size_t at = 0;
    int bad = 0;
    for (size_t i = 0; i < len; i += 4) {
        unsigned group = 0;
        for (size_t k = 0; k < 4; k++) {
            bool pad = i + k >= len - pads;
            int digit = pad ? 0 : digits[(unsigned char)text[i + k]];
            bad |= digit;
            group = group << 6 | (unsigned)digit;
        }
        out[at++] = (unsigned char)(group >> 16);
        out[at++] = (unsigned char)(group >> 8);
        out[at++] = (unsigned char)group;
    }
    *n_bytes = at - pads;
    return bad < 0 ? NULL : out;
}

/* ---- ids ------------------------------------------------------------------------------------- */

static const char *const joints[] = {[ITEM_PAGE] = "-page", [ITEM_CHUNK] = "-chunk"};

void chroma_item_id(char out[CHROMA_MAX_ID], const char *doc_id, enum item_kind kind, int item) {
    snprintf(out, CHROMA_MAX_ID, kind == ITEM_PAGE ? "%.64s%s%03d" : "%.64s%s%04d", doc_id,
             joints[kind], item);
}

bool chroma_parse_id(char doc_id[SHA256_HEX + 1], int *item, enum item_kind kind, const char *id) {
    size_t joint = strlen(joints[kind]);
    if (strlen(id) < SHA256_HEX + joint || strncmp(id + SHA256_HEX, joints[kind], joint) != 0)
        return false;
    memcpy(doc_id, id, SHA256_HEX);
    doc_id[SHA256_HEX] = '\0';
    char number[12] = "";
    const char *from = id + SHA256_HEX + joint;
    size_t n = strspn(from, "0123456789");
    if (!sha256_is_hex(doc_id) || n == 0 || n >= sizeof number || (from[n] && from[n] != '-'))
        return false;
    memcpy(number, from, n);
    int64_t value;
    if (!text_to_int(&value, number, kind == ITEM_PAGE ? 1 : 0, INT32_MAX, "item", NULL))
        return false;
    *item = (int)value;
    return true;
}

/* ---- metadata -------------------------------------------------------------------------------- */

json_t *chroma_text(const char *text) {
    json_t *value = json_string(text);
    if (value)
        return value;
    struct arena *arena = arena_new(0);
    value = json_string(utf8_clean(arena, text, strlen(text)));
    arena_free(arena);
    return value ? value : json_string("");
}

void chroma_set_text(json_t *object, const char *name, const char *text) {
    if (text && text[0])
        json_object_set_new(object, name, chroma_text(text));
}

const char *chroma_get_text(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

int64_t chroma_get_int(const json_t *object, const char *name) {
    return json_integer_value(json_object_get(object, name));
}

static int append_some(const char *data, size_t len, void *ctx) {
    buf_append(ctx, data, len);
    return 0;
}

void chroma_put_json(struct buf *out, const json_t *json) {
    json_dump_callback(json, append_some, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

json_t *chroma_where(enum chroma_rows_of which, const char *doc_id, const char *revision) {
    json_t *of_document = json_pack("{s:s}", "doc_id", doc_id);
    if (which == CHROMA_ALL_ROWS)
        return of_document;
    json_t *of_revision = which == CHROMA_ROWS_OF_REVISION
                              ? json_pack("{s:s}", "revision", revision)
                              : json_pack("{s:{s:s}}", "revision", "$ne", revision);
    return json_pack("{s:[o,o]}", "$and", of_document, of_revision);
}

/* ---- replies with large values -----------------------------------------------------------------
 */

/* Inside a string a quote is escaped, so that this stands only where a key does. Base64 has nothing
 * that is escaped. */
static const char mark[] = "\"codes\":\"";

bool chroma_lift(struct chroma_lifted *out, char *body, size_t len) {
    memset(out, 0, sizeof *out);
    const char *from = body, *end = body + len;
    struct buf rest = {0};
    for (;;) {
        const char *at = memmem(from, (size_t)(end - from), mark, sizeof mark - 1);
        const char *text = at ? at + sizeof mark - 1 : NULL;
        const char *stop = at ? memchr(text, '"', (size_t)(end - text)) : NULL;
        if (!stop)
            break;
        buf_append(&rest, from, (size_t)(text - 1 - from)); /* up to the opening quote */
        buf_printf(&rest, "%d", out->n);
        if ((out->n & (out->n - 1)) == 0) {
            size_t cap = out->n ? (size_t)out->n * 2 : 1;
            out->texts = mem_grow(out->texts, cap, sizeof *out->texts);
            out->lens = mem_grow(out->lens, cap, sizeof *out->lens);
        }
        out->texts[out->n] = text;
        out->lens[out->n++] = (size_t)(stop - text);
        from = stop + 1;
    }
    buf_append(&rest, from, (size_t)(end - from));
    if (!rest.failed)
        out->json = json_loadb(rest.data ? rest.data : "", rest.len, JSON_DECODE_ANY, NULL);
    buf_fini(&rest);
    if (!out->json)
        chroma_lifted_fini(out);
    return out->json != NULL;
}

void chroma_lifted_fini(struct chroma_lifted *lifted) {
    json_decref(lifted->json);
    mem_free(lifted->texts);
    mem_free(lifted->lens);
    memset(lifted, 0, sizeof *lifted);
}
