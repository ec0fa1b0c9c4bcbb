#include "model/internal.h"

static bool colpali_takes(const json_t *config) {
    (void)config;
    return false;
}

const struct family family_colpali = {.name = "colpali", .takes = colpali_takes};
