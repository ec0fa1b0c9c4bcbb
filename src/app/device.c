/* Which device computes. There are no models to compute with before a model is installed, and no
 * device but the CPU is built in. */
#include "app/internal.h"

#include <string.h>

bool choose_device(const char **out, const struct settings *settings, struct error *err) {
    const char *asked = settings->device;
    *out = "cpu";
    if (strcmp(asked, "auto") != 0 && strcmp(asked, "cpu") != 0) {
        if (settings->device_strict)
            return error_set_code(err, ERROR_DEVICE, "device_not_available",
                                  "requested device '%s' is not available and DEVICE_STRICT is set",
                                  asked);
        log_warn("Warning: Requested device '%s' not available, falling back to CPU", asked);
    }
    log_info("Using device: %s", *out);
    return true;
}
