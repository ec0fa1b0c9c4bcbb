/* MaxSim over codes and over signs in plain C: what all other kernels are held against. */
#include "device/cpu/codes.h"

#include <string.h>

static const int8_t *decode(int8_t *decoded, const uint8_t *codes, int code_dim, int bits) {
    if (bits == 8)
        return (const int8_t *)codes;
    const int8_t *levels = codes_levels(bits);
    int a_byte = 8 / bits, mask = (1 << bits) - 1;
    for (size_t i = 0; i < code_group_bytes(code_dim, bits); i++) {
        for (int j = 0; j < a_byte; j++)
            *decoded++ = levels[codes[i] >> (j * bits) & mask];
    }
    return decoded - code_dim * CODE_GROUP;
}

static float scale_of(uint16_t upper) {
    uint32_t bits = (uint32_t)upper << 16;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

static void lanes(code_lanes *best, const struct maxsim_query *query, int first, int n,
                  const struct code_groups *groups, int8_t *decoded) {
    size_t group_bytes = code_group_bytes(query->code_dim, groups->bits);
    for (int g = 0; g < groups->n; g++) {
        const int8_t *codes = decode(decoded, groups->codes + (size_t)g * group_bytes,
                                     query->code_dim, groups->bits);
        const uint16_t *scales = groups->scales + (size_t)g * CODE_GROUP;
        for (int q = 0; q < n; q++) {
            const int8_t *row = query->rows + (size_t)(first + q) * (size_t)query->code_dim;
            int32_t sums[CODE_GROUP] = {0};
            for (int d = 0; d < query->code_dim; d += 4) {
                for (int v = 0; v < CODE_GROUP; v++) {
                    const int8_t *four = codes + d * CODE_GROUP + v * 4;
                    sums[v] += row[d] * four[0] + row[d + 1] * four[1] + row[d + 2] * four[2] +
                               row[d + 3] * four[3];
                }
            }
            for (int v = 0; v < CODE_GROUP; v++) {
                float value = (float)sums[v] * scale_of(scales[v]);
                best[q][v] = value > best[q][v] ? value : best[q][v];
            }
        }
    }
}

static void largest(float *out, const code_lanes *best, int n) {
    for (int q = 0; q < n; q++) {
        out[q] = best[q][0];
        for (int v = 1; v < CODE_GROUP; v++)
            out[q] = best[q][v] > out[q] ? best[q][v] : out[q];
    }
}

static uint32_t n_set(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (uint32_t)(x * 0x0101010101010101u >> 56);
}

static void nearest(uint32_t *out, const uint64_t *question, int n, int n_words,
                    const uint64_t *signs, int n_groups, int n_items) {
    for (int i = 0; i < n_items; i++) {
        for (int q = 0; q < n; q++)
            out[i * n + q] = UINT32_MAX;
        for (int g = 0; g < n_groups; g++, signs += n_words * 8) {
            for (int q = 0; q < n; q++) {
                uint32_t distances[8] = {0};
                for (int w = 0; w < n_words; w++) {
                    for (int v = 0; v < 8; v++)
                        distances[v] += n_set(question[q * n_words + w] ^ signs[w * 8 + v]);
                }
                for (int v = 0; v < 8; v++) {
                    uint32_t *least = &out[i * n + q];
                    *least = distances[v] < *least ? distances[v] : *least;
                }
            }
        }
    }
}

static void plain_dot_rows(float *scores, const struct maxsim_query *query, const uint8_t *rows,
                           size_t stride, int64_t n_rows) {
    for (int64_t i = 0; i < n_rows; i++, rows += stride) {
        const int8_t *row = (const int8_t *)rows;
        int32_t sum = 0;
        for (int d = 0; d < query->code_dim; d++)
            sum += row[d] * query->rows[d];
        float scale;
        memcpy(&scale, rows + query->code_dim, sizeof scale);
        scores[i] = (float)sum * scale * query->scales[0];
    }
}

void cpu_codes_plain(struct cpu_codes *kernels) {
    *kernels = (struct cpu_codes){
        .name = "plain C",
        .signs_name = "plain C",
        .lanes = lanes,
        .largest = largest,
        .nearest = nearest,
        .dot_rows = plain_dot_rows,
    };
}
