/* checkpoint_parse: a weight file as a stranger made it. What is accepted keeps to the invariants
 * of safetensors.c, and every value of it can be read. */
#include "model/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok) {
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static const int size_bytes[] = {
        [DTYPE_F32] = 4, [DTYPE_F16] = 2, [DTYPE_BF16] = 2, [DTYPE_I64] = 8};
    struct checkpoint *checkpoint = NULL;
    struct error err = {0};
    if (!checkpoint_parse(&checkpoint, data, len, "file", &err)) {
        check(!checkpoint && err.kind && err.text[0] && strlen(err.text) < sizeof err.text);
        return 0;
    }
    for (int i = 0; i < checkpoint_count(checkpoint); i++) {
        const struct checkpoint_tensor *tensor = checkpoint_at(checkpoint, i);
        int64_t n = tensor->n, n_bytes = n * size_bytes[tensor->dtype];
        const uint8_t *from = tensor->data;
        check(from >= data + 8 && n >= 0 && n_bytes <= data + len - from);
        check(checkpoint_lookup(checkpoint, tensor->name) == tensor);
        float *values = malloc(n ? (size_t)n * sizeof *values : 1);
        if (values && !checkpoint_floats(values, tensor, 0, n, &err))
            check(strstr(err.text, "no finite number") != NULL);
        if (values && n > 1)
            checkpoint_floats(values, tensor, n / 2, n - n / 2, &err);
        free(values);
    }
    checkpoint_close(checkpoint);
    return 0;
}
