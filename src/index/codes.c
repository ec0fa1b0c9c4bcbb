/* Codes: what of a page's or a passage's vectors is kept.
 *
 * Every vector is rotated first, by the same matrix everywhere, a random one in effect (signs and
 * Hadamard transforms in turn: Ailon and Chazelle, 2009), so that elements are spread as a normal
 * variable's are and one quantiser without training serves all models (TurboQuant, Zandieh et al.
 * 2025; RaBitQ, Gao and Long 2024, section 3). Then, of a late space's item: all its vectors at 8
 * bits (where they are kept), its pooled vectors at the bits set, and the signs of a few pooled
 * vectors for the scan; of another space's, its one vector at 8 bits.
 *
 * Invariants, part of the file's format: the rotation, the layout, and that a value is its scale
 * times its code's level. How scales and codes are chosen is the encoder's own affair. */
#include "index/segment.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define ALIGNED(size) (((size_t)(size) + 63) / 64 * 64)
#define MAX_DIM 65536
#define MAX_POOLED_BYTES ((size_t)1 << 30) /* of an item's pooled vectors, while it is encoded */

/* ---- sizes ---- */

size_t shape_scan_bytes(const struct shape *shape) {
    if (shape->late)
        return signs_bytes(shape->scan_vectors, shape->dim);
    return ALIGNED(CODE_DIM((size_t)shape->dim) + sizeof(float));
}

/* To whole groups, the nearest number of them: a group begun takes as much room and time as a whole
 * one. */
int shape_n_pooled(const struct shape *shape, int n) {
    if (!shape->late || shape->pool_bits == 0 || n == 0)
        return 0;
    if (shape->pool_factor <= 1)
        return n;
    int n_pooled = (int)(((int64_t)n + shape->pool_factor - 1) / shape->pool_factor);
    n_pooled = (n_pooled + CODE_GROUP / 2) / CODE_GROUP * CODE_GROUP;
    n_pooled = n_pooled < CODE_GROUP ? CODE_GROUP : n_pooled;
    return n_pooled < n ? n_pooled : n;
}

static size_t part_bytes(int n, int dim, int bits) {
    return n == 0 ? 0 : ALIGNED(codes_bytes(n, dim, bits) + code_scales_bytes(n));
}

size_t shape_pooled_bytes(const struct shape *shape, int n) {
    return part_bytes(shape_n_pooled(shape, n), shape->dim, shape->pool_bits);
}

size_t shape_full_bytes(const struct shape *shape, int n) {
    return shape->late && shape->keep_full ? part_bytes(n, shape->dim, 8) : 0;
}

struct coded item_coded(const void *part, int n, int dim, int bits) {
    const uint8_t *codes = part;
    const void *scales = codes + (n > 0 ? codes_bytes(n, dim, bits) : 0);
    return (struct coded){.codes = codes, .scales = scales, .n = n, .bits = bits};
}

struct coded slot_pooled(const struct shape *shape, const struct slot *slot, const void *record) {
    return item_coded(record, (int)slot->n_pooled, shape->dim, shape->pool_bits);
}

struct coded slot_full(const struct shape *shape, const struct slot *slot, const void *record) {
    size_t pooled = part_bytes((int)slot->n_pooled, shape->dim, shape->pool_bits);
    return item_coded((const uint8_t *)record + pooled, (int)slot->n, shape->dim, 8);
}

/* ---- the rotation ---- */

/* Windows of the largest power of two of elements: the first and the last ones of the vector, the
 * middle, the first and the last again. Each has its elements multiplied by random signs and a
 * Hadamard transform. Where dim is a power of two all are the same, and two suffice. Energy that
 * sits in one element then is, of any dim, within 0.5 to 1.5 times even over all of them. */
enum { MAX_ROUNDS = 5 };

struct rotation {
    int dim, window, n_rounds;
    int starts[MAX_ROUNDS];
    float *factors; /* round by round: a sign over the square root of the window */
};

/* The i-th number of SplitMix64 (Steele, Lea and Flood, 2014) from this seed. */
static uint64_t random_word(uint64_t i) {
    uint64_t word = UINT64_C(0x243f6a8885a308d3) + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
    return word ^ word >> 31;
}

/* Signs of a round are the bits of as many words as it takes, lowest first: a set bit is minus. */
static void rotation_init(struct rotation *rotation, int dim) {
    int window = 1;
    while (window * 2 <= dim)
        window *= 2;
    *rotation = (struct rotation){.dim = dim,
                                  .window = window,
                                  .n_rounds = window == dim ? 2 : MAX_ROUNDS,
                                  .starts = {0, dim - window, (dim - window) / 2, 0, dim - window}};
    size_t n = (size_t)window, n_words = (n + 63) / 64;
    rotation->factors = mem_alloc((size_t)rotation->n_rounds * n * sizeof(float));
    float size = (float)(1 / sqrt((double)window));
    for (size_t round = 0; round < (size_t)rotation->n_rounds; round++) {
        for (size_t i = 0; i < n; i++) {
            bool minus = random_word(round * n_words + i / 64) >> i % 64 & 1;
            rotation->factors[round * n + i] = minus ? -size : size;
        }
    }
}

static void butterflies(float *restrict low, float *restrict high, int n) {
    for (int i = 0; i < n; i++) {
        float a = low[i], b = high[i];
        low[i] = a + b;
        high[i] = a - b;
    }
}

static void hadamard(float *x, int n) {
    int distance = 1;
    for (; distance < n && distance < 8; distance *= 2) {
        for (int i = 0; i < n; i += 2 * distance)
            butterflies(x + i, x + i + distance, distance);
    }
    for (; distance < n; distance *= 2) {
        for (int i = 0; i < n; i += 2 * distance) {
            for (int j = i; j < i + distance; j += 8)
                butterflies(x + j, x + j + distance, 8);
        }
    }
}

static void rotate(float *out, const float *in, const struct rotation *rotation) {
    memmove(out, in, (size_t)rotation->dim * sizeof *out);
    const float *factors = rotation->factors;
    for (int round = 0; round < rotation->n_rounds; round++) {
        float *x = out + rotation->starts[round];
        for (int i = 0; i < rotation->window; i++)
            x[i] *= factors[i];
        hadamard(x, rotation->window);
        factors += rotation->window;
    }
}

void rotate_vectors(float *out, const float *in, int n, int dim) {
    assert(n >= 0 && dim >= 1 && dim <= MAX_DIM);
    struct rotation rotation;
    rotation_init(&rotation, dim);
    for (size_t i = 0; i < (size_t)n; i++)
        rotate(out + i * (size_t)dim, in + i * (size_t)dim, &rotation);
    mem_free(rotation.factors);
}

/* A round's matrix, a transform times signs, is orthogonal: its inverse is signs times the
 * transform, which is symmetric. */
static void rotate_back(float *out, const float *in, const struct rotation *rotation) {
    memmove(out, in, (size_t)rotation->dim * sizeof *out);
    for (int round = rotation->n_rounds - 1; round >= 0; round--) {
        const float *factors = rotation->factors + (size_t)round * (size_t)rotation->window;
        float *x = out + rotation->starts[round];
        hadamard(x, rotation->window);
        for (int i = 0; i < rotation->window; i++)
            x[i] *= factors[i];
    }
}

void rotate_vectors_back(float *out, const float *in, int n, int dim) {
    assert(n >= 0 && dim >= 1 && dim <= MAX_DIM);
    struct rotation rotation;
    rotation_init(&rotation, dim);
    for (size_t i = 0; i < (size_t)n; i++)
        rotate_back(out + i * (size_t)dim, in + i * (size_t)dim, &rotation);
    mem_free(rotation.factors);
}

/* ---- one vector to codes ---- */

static float bf16_value(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* value is finite, not below 0, and well below the largest. */
static uint16_t bf16_above(float value) {
    return (uint16_t)((float_bits(value) + 0xffff) >> 16);
}

static uint16_t bf16_nearest(float value) {
    uint32_t bits = float_bits(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float peak_of(const float *x, int dim) {
    float peak = 0;
    for (int d = 0; d < dim; d++)
        peak = fabsf(x[d]) > peak ? fabsf(x[d]) : peak;
    return peak;
}

/* x / scale, not below -127.5 and not above 127.5, to the nearest, ties to even. */
static void round_int8(uint8_t *out, const float *x, int dim, float scale) {
    const float shift = 12582912; /* 3 * 2^22: behind it a float holds no fraction */
    for (int d = 0; d < dim; d++)
        out[d] = (uint8_t)float_bits(scale > 0 ? x[d] / scale + shift : shift);
}

/* Of 8 bits. The scale is rounded up, so that the largest element is not cut. */
static uint16_t code_int8(uint8_t *out, const float *x, int dim) {
    uint16_t scale = bf16_above(peak_of(x, dim) / 127);
    round_int8(out, x, dim, bf16_value(scale));
    return scale;
}

/* The level nearest to x / unit, each. */
static void round_levels(uint8_t *out, const float *x, int dim, float unit, const int8_t *levels,
                         int n_levels) {
    memset(out, 0, (size_t)dim);
    for (int level = 1; level < n_levels; level++) {
        float middle = (float)(levels[level - 1] + levels[level]) / 2 * unit;
        for (int d = 0; d < dim; d++)
            out[d] += x[d] >= middle;
    }
}

/* Of 4, 2 and 1 bits: codes as a normal variable of the vector's own spread would have them. The
 * scale of 1 bit makes a vector's product with its own code what it is with itself (RaBitQ, section
 * 3.2: without bias); of more bits, that of the least squared error. */
static uint16_t code_levels(uint8_t *out, const float *x, int dim, int bits) {
    static const double top[] = {0, 0.7979, 1.510, 0, 2.733}; /* in spreads: Max, 1960, table I */
    const int8_t *levels = codes_levels(bits);
    int n_levels = 1 << bits;
    double square = 0, by_level = 0, level_square = 0;
    for (int d = 0; d < dim; d++)
        square += (double)x[d] * (double)x[d];
    double unit = sqrt(square / dim) * top[bits] / levels[n_levels - 1];
    round_levels(out, x, dim, (float)unit, levels, n_levels);
    for (int d = 0; d < dim; d++) {
        double level = levels[out[d]];
        by_level += level * (double)x[d];
        level_square += level * level;
    }
    if (!(by_level > 0))
        return 0;
    return bf16_nearest((float)(bits == 1 ? square / by_level : by_level / level_square));
}

/* ---- vectors to groups ---- */

struct encoder {
    const struct shape *shape;
    struct rotation rotation;
    float *rotated; /* a vector, zeros up to CODE_DIM */
    uint8_t *row;   /* its codes, one a byte */
};

static bool encoder_init(struct encoder *encoder, const struct shape *shape) {
    size_t code_dim = CODE_DIM((size_t)shape->dim);
    *encoder = (struct encoder){.shape = shape};
    rotation_init(&encoder->rotation, shape->dim);
    encoder->rotated = mem_try(code_dim, sizeof *encoder->rotated, SIZE_MAX);
    encoder->row = mem_try(code_dim, 1, SIZE_MAX);
    return encoder->rotated && encoder->row;
}

static void encoder_fini(struct encoder *encoder) {
    mem_free(encoder->rotation.factors);
    mem_free(encoder->rotated);
    mem_free(encoder->row);
}

/* Four codes of vector v, lowest bits first, to where they lie in its group: a code of 1 bit leaves
 * half a byte to the vector beside it. */
static void put_row(uint8_t *group, const uint8_t *row, int code_dim, int v, int bits) {
    for (int d = 0; d < code_dim; d += 4) {
        uint32_t four = 0;
        for (int i = 0; i < 4; i++)
            four |= (uint32_t)row[d + i] << i * bits;
        size_t bit = ((size_t)d / 4 * 64 + (size_t)v * 4) * (size_t)bits;
        uint8_t *to = group + bit / 8;
        if (bits == 1)
            to[0] = (uint8_t)(to[0] | four << bit % 8);
        for (int i = 0; bits > 1 && i < bits / 2; i++)
            to[i] = (uint8_t)(four >> i * 8);
    }
}

/* n vectors, as the model gave them or pooled, and the last of them again up to a whole group. */
static void put_part(uint8_t *part, struct encoder *encoder, const float *vectors, int n,
                     int bits) {
    int dim = encoder->shape->dim, code_dim = CODE_DIM(dim);
    size_t group_bytes = codes_bytes(1, dim, bits), bytes = codes_bytes(n, dim, bits);
    memset(part, 0, part_bytes(n, dim, bits));
    uint16_t *scales = (uint16_t *)(void *)(part + bytes), scale = 0;
    for (int i = 0; i < CODE_GROUPS(n) * CODE_GROUP; i++) {
        if (i < n) {
            rotate(encoder->rotated, vectors + (size_t)i * (size_t)dim, &encoder->rotation);
            scale = bits == 8 ? code_int8(encoder->row, encoder->rotated, code_dim)
                              : code_levels(encoder->row, encoder->rotated, dim, bits);
        }
        put_row(part + (size_t)(i / CODE_GROUP) * group_bytes, encoder->row, code_dim,
                i % CODE_GROUP, bits);
        scales[i] = scale;
    }
}

/* Signs of n vectors, again and again up to as many as the scan has. */
static void put_signs(uint64_t *scan, struct encoder *encoder, const float *vectors, int n) {
    int dim = encoder->shape->dim, n_words = CODE_DIM(dim) / 64;
    memset(scan, 0, shape_scan_bytes(encoder->shape));
    for (int i = 0; i < encoder->shape->scan_vectors; i++) {
        rotate(encoder->rotated, vectors + (size_t)(i % n) * (size_t)dim, &encoder->rotation);
        uint64_t *group = scan + (size_t)(i / 8) * (size_t)n_words * 8;
        for (int d = 0; d < dim; d++)
            group[d / 64 * 8 + i % 8] |= (uint64_t)(encoder->rotated[d] < 0) << d % 64;
    }
}

static void put_single(uint8_t *scan, struct encoder *encoder, const float *vector) {
    size_t code_dim = CODE_DIM((size_t)encoder->shape->dim);
    memset(scan, 0, shape_scan_bytes(encoder->shape));
    rotate(encoder->rotated, vector, &encoder->rotation);
    float scale = peak_of(encoder->rotated, (int)code_dim) / 127;
    round_int8(scan, encoder->rotated, (int)code_dim, scale);
    memcpy(scan + code_dim, &scale, sizeof scale);
}

/* ---- an item ---- */

/* Some vectors as fewer: themselves when n_out is n. */
static const float *pooled_to(float *room, const struct pooling *pooling, const float *vectors,
                              int n, int n_out) {
    if (n_out >= n)
        return vectors;
    pooling_cut(room, pooling, n_out);
    return room;
}

static bool encode_late(void *scan, uint8_t *record, struct encoder *encoder, const float *vectors,
                        int n, struct error *err) {
    const struct shape *shape = encoder->shape;
    int n_pooled = shape_n_pooled(shape, n);
    int n_signs = n < shape->scan_vectors ? n : shape->scan_vectors;
    int n_most = n_pooled < n && n_pooled > n_signs ? n_pooled : n_signs;
    struct pooling *pooling = NULL;
    float *room = mem_try((size_t)n_most, (size_t)shape->dim * sizeof *room, MAX_POOLED_BYTES);
    if (!room)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "no memory to pool %d vectors of %d dimensions", n, shape->dim);
    bool ok = (n_pooled == n && n_signs == n) || pooling_new(&pooling, vectors, n, shape->dim, err);
    if (ok) {
        put_signs(scan, encoder, pooled_to(room, pooling, vectors, n, n_signs), n_signs);
        if (n_pooled > 0)
            put_part(record, encoder, pooled_to(room, pooling, vectors, n, n_pooled), n_pooled,
                     shape->pool_bits);
        if (shape->keep_full)
            put_part(record + shape_pooled_bytes(shape, n), encoder, vectors, n, 8);
    }
    pooling_free(pooling);
    mem_free(room);
    return ok;
}

/* Far from where sums of dim squares, or of dim elements, would leave the range of floats. */
#define MAX_ELEMENT 1e30f

static bool check_vectors(const float *vectors, int n, int dim, struct error *err) {
    for (size_t i = 0; i < (size_t)n * (size_t)dim; i++) {
        if (!(fabsf(vectors[i]) <= MAX_ELEMENT))
            return error_set(err, ERROR_INPUT, "vector %zu has an element that is %g",
                             i / (size_t)dim, (double)vectors[i]);
    }
    return true;
}

bool item_encode(void *scan, void *record, const struct shape *shape, const float *vectors, int n,
                 struct error *err) {
    assert(shape->dim >= 1 && shape->dim <= MAX_DIM);
    assert(!shape->late || (shape->scan_vectors > 0 && shape->scan_vectors % 8 == 0));
    if (n < 1 || n > (shape->late ? ITEM_MAX_VECTORS : 1))
        return error_set(err, ERROR_INPUT, "%d vectors for one item; there may be 1 to %d", n,
                         shape->late ? ITEM_MAX_VECTORS : 1);
    if (!check_vectors(vectors, n, shape->dim, err))
        return false;
    struct encoder encoder;
    bool ok = encoder_init(&encoder, shape);
    if (!ok)
        error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory to encode vectors");
    else if (shape->late)
        ok = encode_late(scan, record, &encoder, vectors, n, err);
    else
        put_single(scan, &encoder, vectors);
    encoder_fini(&encoder);
    return ok;
}

/* ---- back to vectors ---- */

void item_decode(float *values, const struct coded *coded, int dim) {
    assert(coded->bits == 8);
    const int8_t *codes = coded->codes;
    size_t group_bytes = codes_bytes(1, dim, 8);
    for (int v = 0; v < coded->n; v++) {
        const int8_t *first = codes + (size_t)(v / CODE_GROUP) * group_bytes + v % CODE_GROUP * 4;
        float *row = values + (size_t)v * (size_t)dim, scale = bf16_value(coded->scales[v]);
        for (int d = 0; d < dim; d++)
            row[d] = (float)first[(size_t)d / 4 * 64 + (size_t)d % 4] * scale;
    }
    rotate_vectors_back(values, values, coded->n, dim);
}
