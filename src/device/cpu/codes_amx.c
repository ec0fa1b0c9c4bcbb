/* MaxSim over codes on the tiles of AMX: 64 dimensions of a group are a tile as they lie, those of
 * 16 question vectors are another, and two by two tiles of sums use each of them twice. */
#include "device/cpu/codes_decode.h"
#include "device/cpu/tiles.h"

#include <stdalign.h>

#define TILE 1024 /* bytes: 16 rows of 64 */
#define ROWS 16   /* question vectors of a tile */

typedef int32_t tile_sums[ROWS][CODE_GROUP];

struct pair {
    const int8_t *codes[2], *ahead[2]; /* ahead: what is fetched meanwhile */
    __m512 scales[2];
};

INLINE void fetch(const int8_t *from, int n_lines) {
    for (int i = 0; i < n_lines; i++)
        _mm_prefetch((const char *)from + i * 64, _MM_HINT_T0);
}

/* Tiles 0 to 3 are the sums of first rows and first group, first and second, second and first,
 * second and second; 4 and 5 the question, 6 and 7 the codes. */
static void multiply_two(tile_sums sums[4], const uint8_t *first, const uint8_t *second,
                         const struct pair *pair, int n_units) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t unit = 0; unit < (size_t)n_units; unit++) {
        _tile_loadd(4, first + unit * TILE, 64);
        _tile_loadd(6, pair->codes[0] + unit * TILE, 64);
        _tile_dpbssd(0, 4, 6);
        fetch(pair->ahead[0] + unit * TILE, 16);
        _tile_loadd(7, pair->codes[1] + unit * TILE, 64);
        _tile_dpbssd(1, 4, 7);
        fetch(pair->ahead[1] + unit * TILE, 16);
        _tile_loadd(5, second + unit * TILE, 64);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
}

static void multiply_one(tile_sums sums[2], const uint8_t *rows, const struct pair *pair,
                         int n_units) {
    _tile_zero(0);
    _tile_zero(1);
    for (size_t unit = 0; unit < (size_t)n_units; unit++) {
        _tile_loadd(4, rows + unit * TILE, 64);
        _tile_loadd(6, pair->codes[0] + unit * TILE, 64);
        _tile_dpbssd(0, 4, 6);
        fetch(pair->ahead[0] + unit * TILE, 16);
        _tile_loadd(7, pair->codes[1] + unit * TILE, 64);
        _tile_dpbssd(1, 4, 7);
        fetch(pair->ahead[1] + unit * TILE, 16);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
}

INLINE void raise(code_lanes *lanes, tile_sums sums[2], const struct pair *pair, int n) {
    /* Stores of tiles do not tell the compiler that they write. */
    __asm__ volatile("" ::: "memory");
    for (int q = 0; q < n; q++) {
        __m512 first = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums[0][q])),
                                     pair->scales[0]);
        __m512 second = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums[1][q])),
                                      pair->scales[1]);
        __m512 best = _mm512_max_ps(first, _mm512_loadu_ps(lanes[q]));
        _mm512_storeu_ps(lanes[q], _mm512_max_ps(second, best));
    }
}

/* A last group without a second is taken twice. */
static void lanes(code_lanes *best, const struct maxsim_query *query, int first, int n,
                  const struct code_groups *groups, int8_t *decoded) {
    const int n_steps = query->code_dim / 4, n_units = query->code_dim / 64;
    const size_t rows_bytes = (size_t)n_units * TILE;
    const size_t group_bytes = code_group_bytes(query->code_dim, groups->bits);
    const uint8_t *packed = query->packed + (size_t)(first / ROWS) * rows_bytes;
    alignas(64) tile_sums sums[4];
    for (int g = 0; g < groups->n; g += 2) {
        struct pair pair;
        for (int i = 0; i < 2; i++) {
            size_t group = (size_t)(g + i < groups->n ? g + i : g);
            const uint8_t *ahead = code_groups_ahead(groups, (int)group, group_bytes);
            pair.codes[i] = decode(decoded + (size_t)i * (size_t)n_steps * 64,
                                   groups->codes + group * group_bytes, ahead, n_steps,
                                   groups->bits);
            pair.ahead[i] = groups->bits == 8 ? (const int8_t *)ahead : pair.codes[i];
            pair.scales[i] = scales_of(groups->scales + group * CODE_GROUP);
        }
        /* Nor do loads tell that they read what was decoded. */
        __asm__ volatile("" ::: "memory");
        for (int q = 0; q < n; q += 2 * ROWS) {
            const uint8_t *rows = packed + (size_t)(q / ROWS) * rows_bytes;
            int left = n - q;
            if (left > ROWS) {
                multiply_two(sums, rows, rows + rows_bytes, &pair, n_units);
                raise(best + q, sums, &pair, ROWS);
                raise(best + q + ROWS, sums + 2, &pair, left < 2 * ROWS ? left - ROWS : ROWS);
            } else {
                multiply_one(sums, rows, &pair, n_units);
                raise(best + q, sums, &pair, left);
            }
        }
    }
}

static void pack(uint8_t *out, const int8_t *rows, int n, int code_dim) {
    for (int first = 0; first < n; first += ROWS) {
        for (int d = 0; d < code_dim; d += 64) {
            for (int q = first; q < first + ROWS; q++, out += 64) {
                if (q < n)
                    memcpy(out, rows + (size_t)q * (size_t)code_dim + d, 64);
                else
                    memset(out, 0, 64);
            }
        }
    }
}

void cpu_codes_amx(struct cpu_codes *kernels) {
    kernels->name = "amx";
    kernels->pack = pack;
    kernels->pack_step = ROWS;
    kernels->pack_bytes = 1;
    kernels->begin = tiles_begin;
    kernels->end = tiles_end;
    kernels->lanes = lanes;
}
