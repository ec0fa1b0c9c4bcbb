#include "model/internal.h"

static bool colbert_takes(const json_t *config) {
    (void)config;
    return false;
}

const struct family family_colbert = {.name = "colbert", .takes = colbert_takes};
