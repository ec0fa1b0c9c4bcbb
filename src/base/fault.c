/* Fault points: where a test may kill the process, or hold it, between two steps of a job. Built
 * only with -Dfault_points=true. */
#include "base/base.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOLD_MS 30000

void fault_point(const char *name) {
    const char *wanted = getenv("DOCUSEARCH_FAULT");
    size_t len = strlen(name);
    if (!wanted || strncmp(wanted, name, len) != 0 || wanted[len] != ':')
        return;
    const char *action = wanted + len + 1;
    if (strcmp(action, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(action, "sleep") == 0)
        time_sleep_ms(HOLD_MS);
}
