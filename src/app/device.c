/* Which device computes: the one asked for, or, where that is not there, the processor. */
#include "app/internal.h"

#include <stdio.h>
#include <string.h>

/* The kinds stand fastest first. */
static const char *best_present(const char *asked) {
    struct device_kind kinds[8];
    int n = device_kinds(kinds);
    bool any = strcmp(asked, "auto") == 0;
    for (int i = 0; i < n; i++) {
        if (kinds[i].present && (any || strcmp(kinds[i].name, asked) == 0))
            return kinds[i].name;
    }
    return "cpu";
}

bool choose_device(const char **out, const struct settings *settings, struct error *err) {
    const char *asked = settings->device;
    *out = best_present(asked);
    if (strcmp(asked, "auto") != 0 && strcmp(asked, *out) != 0) {
        if (settings->device_strict)
            return error_set_code(err, ERROR_DEVICE, "device_not_available",
                                  "requested device '%s' is not available and DEVICE_STRICT is set",
                                  asked);
        char text[128];
        snprintf(text, sizeof text,
                 "Warning: Requested device '%s' not available, falling back to CPU", asked);
        log_warn("%s", text);
        if (settings->log_level > LOG_WARN) /* a command's log is quiet; its user is told too */
            fprintf(stderr, "%s\n", text);
    }
    log_info("Using device: %s", *out);
    return true;
}
