#include "model/internal.h"

static bool bert_takes(const json_t *config) {
    (void)config;
    return false;
}

const struct family family_bert = {.name = "bert", .takes = bert_takes};
