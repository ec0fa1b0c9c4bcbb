#include "model/internal.h"
bool model_hash(struct model *model, struct error *err) {
    (void)model;
    return error_set(err, ERROR_UNSUPPORTED, "weights are not hashed");
}
