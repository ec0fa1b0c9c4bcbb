#include "model/internal.h"

static bool colpali_takes(const struct model *model) {
    (void)model;
    return false;
}

const struct family family_colpali = {.name = "colpali", .takes = colpali_takes};
