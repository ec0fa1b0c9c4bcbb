/* Places of a page out of how well each of its patches fits. */
#include "corpus/explain.h"

#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float median(const float *map, int n) {
    float *sorted = mem_alloc((size_t)n * sizeof *sorted);
    memcpy(sorted, map, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    float value = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    mem_free(sorted);
    return value;
}

/* Patches that touch, and the best of them. */
struct place {
    int x0, y0, x1, y1; /* patches, the last ones included */
    float best;
};

/* The place that the patch at `from` belongs to; takes its patches out of left. */
static struct place gather(bool *left, int *stack, const float *map, int width, int height,
                           int from) {
    struct place place = {width, height, -1, -1, map[from]};
    int n = 0;
    left[from] = false;
    stack[n++] = from;
    while (n > 0) {
        int at = stack[--n], x = at % width, y = at / width;
        place.x0 = x < place.x0 ? x : place.x0;
        place.x1 = x > place.x1 ? x : place.x1;
        place.y0 = y < place.y0 ? y : place.y0;
        place.y1 = y > place.y1 ? y : place.y1;
        place.best = map[at] > place.best ? map[at] : place.best;
        for (int i = 0; i < 9; i++) {
            int nx = x + i % 3 - 1, ny = y + i / 3 - 1;
            if (nx < 0 || ny < 0 || nx >= width || ny >= height || !left[ny * width + nx])
                continue;
            left[ny * width + nx] = false;
            stack[n++] = ny * width + nx;
        }
    }
    return place;
}

static int best_first(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->best != y->best)
        return x->best < y->best ? 1 : -1;
    return x->y0 != y->y0 ? x->y0 - y->y0 : x->x0 - y->x0;
}

void corpus_patch_boxes(struct doc_box **out, int *n, struct arena *arena, const float *map,
                        int width, int height, int most) {
    int n_patches = width * height, n_places = 0;
    struct arena *scratch = arena_new(0);
    struct place *places = arena_alloc(scratch, (size_t)n_patches * sizeof *places);
    bool *left = arena_alloc(scratch, (size_t)n_patches);
    int *stack = arena_alloc(scratch, (size_t)n_patches * sizeof *stack);
    float middle = median(map, n_patches), largest = map[0];
    for (int i = 1; i < n_patches; i++)
        largest = map[i] > largest ? map[i] : largest;
    for (int i = 0; i < n_patches; i++)
        left[i] = largest > middle && map[i] >= middle + PATCH_SHARE * (largest - middle);
    for (int i = 0; i < n_patches; i++) {
        if (left[i])
            places[n_places++] = gather(left, stack, map, width, height, i);
    }
    qsort(places, (size_t)n_places, sizeof *places, best_first);
    *n = n_places < most ? n_places : most;
    *out = arena_alloc(arena, ((size_t)*n + 1) * sizeof **out);
    for (int i = 0; i < *n; i++) {
        (*out)[i] = (struct doc_box){
            (float)places[i].x0 / (float)width, (float)places[i].y0 / (float)height,
            (float)(places[i].x1 + 1) / (float)width, (float)(places[i].y1 + 1) / (float)height};
    }
    arena_free(scratch);
}
