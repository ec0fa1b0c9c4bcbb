/* values: a tensor's numbers as floats, whatever type they are kept in, and none that is not
 * finite: every weight passes here once on its way to the device. */
#include "model/internal.h"

#include <math.h>
#include <string.h>

/* Blocks of a fixed length, so that the compiler turns their loops into vectors. Each answers with
 * a bit set where an exponent is all ones: infinity, or no number. */
enum { BLOCK = 64 };

static uint32_t block_f32(float out[BLOCK], const char *data) {
    uint32_t bits[BLOCK], bad_bits = 0;
    memcpy(bits, data, sizeof bits);
    for (int i = 0; i < BLOCK; i++)
        bad_bits |= (uint32_t)((bits[i] & 0x7f800000) == 0x7f800000);
    memcpy(out, bits, sizeof bits);
    return bad_bits;
}

static uint32_t block_bf16(float out[BLOCK], const char *data) {
    uint16_t half[BLOCK];
    uint32_t bits[BLOCK], bad_bits = 0;
    memcpy(half, data, sizeof half);
    for (int i = 0; i < BLOCK; i++) {
        bits[i] = (uint32_t)half[i] << 16;
        bad_bits |= (uint32_t)((bits[i] & 0x7f800000) == 0x7f800000);
    }
    memcpy(out, bits, sizeof bits);
    return bad_bits;
}

/* A half moved into a float's exponent field is too small by 2^112, subnormal ones included. */
static uint32_t block_f16(float out[BLOCK], const char *data) {
    uint16_t half[BLOCK];
    uint32_t bits[BLOCK], bad_bits = 0;
    memcpy(half, data, sizeof half);
    for (int i = 0; i < BLOCK; i++) {
        bits[i] = (uint32_t)(half[i] & 0x7fff) << 13;
        bad_bits |= (uint32_t)((half[i] & 0x7c00) == 0x7c00);
    }
    memcpy(out, bits, sizeof bits);
    for (int i = 0; i < BLOCK; i++)
        out[i] *= half[i] & 0x8000 ? -0x1p112f : 0x1p112f;
    for (int i = 0; i < BLOCK && bad_bits; i++) {
        if ((half[i] & 0x7c00) == 0x7c00)
            out[i] = NAN;
    }
    return bad_bits;
}

static uint32_t block_any(float out[BLOCK], const char *data, enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F32:
        return block_f32(out, data);
    case DTYPE_F16:
        return block_f16(out, data);
    case DTYPE_BF16:
        return block_bf16(out, data);
    case DTYPE_I64:
        break;
    }
    for (int i = 0; i < BLOCK; i++) {
        int64_t value;
        memcpy(&value, data + i * (int)sizeof value, sizeof value);
        out[i] = (float)value;
    }
    return 0;
}

static bool not_finite(const struct checkpoint_tensor *tensor, int64_t from, const float *values,
                       int n, struct error *err) {
    int i = 0;
    while (i < n - 1 && values[i] - values[i] == 0)
        i++;
    return error_set_code(err, ERROR_INPUT, "bad_model",
                          "%s: tensor %s: element %lld is no finite number", tensor->file,
                          tensor->name, (long long)(from + i));
}

bool checkpoint_floats(float *out, const struct checkpoint_tensor *tensor, int64_t from, int64_t n,
                       struct error *err) {
    int size_bytes = checkpoint_dtype_bytes(tensor->dtype);
    const char *data = (const char *)tensor->data + from * size_bytes;
    int64_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        if (block_any(out + i, data + i * size_bytes, tensor->dtype))
            return not_finite(tensor, from + i, out + i, BLOCK, err);
    }
    if (i < n) {
        char rest[BLOCK * 8] = {0};
        float values[BLOCK];
        memcpy(rest, data + i * size_bytes, (size_t)((n - i) * size_bytes));
        if (block_any(values, rest, tensor->dtype))
            return not_finite(tensor, from + i, values, (int)(n - i), err);
        memcpy(out + i, values, (size_t)(n - i) * sizeof *out);
    }
    return true;
}
