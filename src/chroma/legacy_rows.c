/* What stands in the Python worker's rows: metadata, and in it vectors.
 *
 * Vectors are cut out of a reply before the rest is parsed: they are nearly all of it. Their sizes
 * come from a foreign server: a shape is bounded before anything is made of it, and what is
 * unpacked must fill it to the byte. */
#include "chroma/legacy_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define MAX_VECTORS 65536 /* of an item */
#define MAX_DIM 4096
#define MAX_BYTES ((size_t)64 << 20) /* of an item's floats */
#define MAX_TEXT ((size_t)96 << 20)  /* of them as they are stored; they stored 2 MB at most */
#define CLOSE_TO_ONE 1e-3

/* ---- replies --------------------------------------------------------------------------------- */

/* A key in a compact reply: inside a string a quote is escaped. Base64 has nothing to escape. */
static const char mark[] = "\"full_embeddings\":\"";

/* Cuts the vectors out; "#<i>" stands in their place, which is no base64. */
static void cut_vectors(struct legacy_rows *rows) {
    const char *from = rows->reply.body, *end = from + rows->reply.len;
    int room = 0;
    for (;;) {
        const char *at = memmem(from, (size_t)(end - from), mark, sizeof mark - 1);
        const char *text = at ? at + sizeof mark - 1 : NULL;
        const char *stop = at ? memchr(text, '"', (size_t)(end - text)) : NULL;
        if (!stop)
            break;
        if (rows->n == room) {
            room = 2 * room + LEGACY_BATCH;
            rows->texts = mem_grow(rows->texts, (size_t)room, sizeof *rows->texts);
            rows->lens = mem_grow(rows->lens, (size_t)room, sizeof *rows->lens);
        }
        buf_append(&rows->rest, from, (size_t)(text - from));
        buf_printf(&rows->rest, "#%d", rows->n);
        rows->texts[rows->n] = text;
        rows->lens[rows->n++] = (size_t)(stop - text);
        from = stop;
    }
    buf_append(&rows->rest, from, (size_t)(end - from));
}

void legacy_rows_fini(struct legacy_rows *rows) {
    json_decref(rows->json);
    buf_fini(&rows->rest);
    mem_free(rows->texts);
    mem_free(rows->lens);
    http_reply_fini(&rows->reply);
    *rows = (struct legacy_rows){0};
}

bool legacy_fetch(struct legacy_rows *out, struct chroma_legacy *legacy,
                  const struct legacy_listing *listing, enum item_kind kind, const char *const *ids,
                  int n, struct error *err) {
    *out = (struct legacy_rows){0};
    json_t *wanted = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(wanted, json_string(ids[i]));
    if (!legacy_ask(&out->reply, legacy, listing, kind, "get",
                    json_pack("{s:o,s:[s]}", "ids", wanted, "include", "metadatas"), err))
        return false;
    cut_vectors(out);
    if (!out->rest.failed)
        out->json = json_loadb(out->rest.data ? out->rest.data : "", out->rest.len, 0, NULL);
    buf_fini(&out->rest);
    if (out->json)
        return true;
    legacy_rows_fini(out);
    return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                          "ChromaDB at %s: an answer that is no JSON",
                          chroma_link_url(legacy->chroma->link));
}

const json_t *legacy_metadata(const struct legacy_rows *rows, const char *id) {
    const json_t *ids = json_object_get(rows->json, "ids"), *one;
    size_t i;
    json_array_foreach(ids, i, one) {
        const json_t *metadata = json_array_get(json_object_get(rows->json, "metadatas"), i);
        if (json_is_string(one) && strcmp(json_string_value(one), id) == 0)
            return json_is_string(json_object_get(metadata, "full_embeddings")) ? metadata : NULL;
    }
    return NULL;
}

/* ---- vectors --------------------------------------------------------------------------------- */

static bool take_number(int *out, const char **at, int most) {
    size_t n_digits = strspn(*at, "0123456789");
    if (n_digits == 0 || n_digits > 6)
        return false;
    int value = 0;
    for (size_t i = 0; i < n_digits; i++)
        value = value * 10 + (*at)[i] - '0';
    *at += n_digits;
    *out = value;
    return value >= 1 && value <= most;
}

bool legacy_shape(int *n, int *dim, const json_t *metadata) {
    const char *at = chroma_get_text(metadata, "embedding_shape");
    return *at++ == '(' && take_number(n, &at, MAX_VECTORS) && strncmp(at, ", ", 2) == 0 &&
           (at += 2, take_number(dim, &at, MAX_DIM)) && strcmp(at, ")") == 0;
}

/* A gzip file whose contents are len bytes, and nothing behind it. */
static bool unpack(void *out, size_t len, const void *packed, size_t packed_len) {
    enum { GZIP = 16, WINDOW = 15 };
    z_stream stream = {.next_in = (Bytef *)packed,
                       .avail_in = (uInt)packed_len,
                       .next_out = out,
                       .avail_out = (uInt)len};
    if (inflateInit2(&stream, GZIP + WINDOW) != Z_OK)
        return false;
    int rc = inflate(&stream, Z_FINISH);
    bool ok = rc == Z_STREAM_END && stream.avail_out == 0 && stream.avail_in == 0;
    inflateEnd(&stream);
    return ok;
}

/* Little-endian, as they came, to floats in place. */
static void to_host(float *values, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char bytes[4];
        memcpy(bytes, &values[i], sizeof bytes);
        uint32_t bits = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                        (uint32_t)bytes[3] << 24;
        memcpy(&values[i], &bits, sizeof bits);
    }
}

/* Rows of zeros go, others have length 1. False: an element is no number. */
static bool tidy(float *vectors, int *n, int dim) {
    int n_left = 0;
    for (int v = 0; v < *n; v++) {
        const float *row = vectors + (size_t)v * (size_t)dim;
        float *to = vectors + (size_t)n_left * (size_t)dim;
        double square = 0;
        for (int d = 0; d < dim; d++) {
            if (!isfinite(row[d]))
                return false;
            square += (double)row[d] * (double)row[d];
        }
        if (!(square > 0))
            continue;
        double length = sqrt(square);
        double factor = fabs(length - 1) <= CLOSE_TO_ONE ? 1 : 1 / length;
        for (int d = 0; d < dim; d++)
            to[d] = (float)((double)row[d] * factor);
        n_left++;
    }
    *n = n_left;
    return true;
}

/* The text of a metadata's vectors. */
static bool find_text(const char **text, size_t *len, const struct legacy_rows *rows,
                      const json_t *metadata) {
    const char *value = chroma_get_text(metadata, "full_embeddings");
    int64_t i;
    *text = value;
    *len = strlen(value);
    if (value[0] != '#')
        return true;
    if (!text_to_int(&i, value + 1, 0, rows->n - 1, "vectors", NULL))
        return false;
    *text = rows->texts[i];
    *len = rows->lens[i];
    return true;
}

static bool decode(float *vectors, size_t size, const char *text, size_t len, struct error *err) {
    struct arena *arena = arena_new(MAX_TEXT);
    size_t packed_len = 0;
    const void *packed = len <= MAX_TEXT ? chroma_base64_take(&packed_len, arena, text, len) : NULL;
    bool ok = packed
                  ? unpack(vectors, size, packed, packed_len) ||
                        error_set(err, ERROR_INPUT, "its vectors are not %zu bytes of gzip", size)
                  : error_set(err, ERROR_INPUT, "its vectors are not base64");
    arena_free(arena);
    return ok;
}

bool legacy_vectors(float **vectors, int *n, const struct legacy_rows *rows, const json_t *metadata,
                    struct error *err) {
    const char *text;
    size_t len;
    int dim;
    *vectors = NULL;
    *n = 0;
    int n_stored;
    if (!legacy_shape(&n_stored, &dim, metadata) ||
        (size_t)n_stored * (size_t)dim > MAX_BYTES / sizeof **vectors)
        return error_set(err, ERROR_INPUT, "its vectors' shape is %.40s",
                         chroma_get_text(metadata, "embedding_shape"));
    if (dim != CHROMA_LEGACY_DIM)
        return true;
    if (!find_text(&text, &len, rows, metadata))
        return error_set(err, ERROR_INPUT, "it has no vectors");
    size_t n_floats = (size_t)n_stored * (size_t)dim;
    float *decoded = mem_try(n_floats, sizeof *decoded, MAX_BYTES);
    if (!decoded)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d vectors",
                              n_stored);
    bool ok = decode(decoded, n_floats * sizeof *decoded, text, len, err);
    if (ok) {
        to_host(decoded, n_floats);
        ok = tidy(decoded, &n_stored, dim) ||
             error_set(err, ERROR_INPUT, "an element of its vectors is no number");
    }
    if (!ok || n_stored == 0) {
        mem_free(decoded);
        return ok;
    }
    *vectors = decoded;
    *n = n_stored;
    return true;
}
