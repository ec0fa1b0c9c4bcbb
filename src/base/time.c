/* Time: the monotonic clock for everything that is compared, the wall clock for people. */
#include "base/base.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static int64_t clock_ms(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t time_mono_ms(void) {
    return clock_ms(CLOCK_MONOTONIC);
}

int64_t time_wall_ms(void) {
    return clock_ms(CLOCK_REALTIME);
}

static void put_digits(char *out, int n_digits, int value) {
    for (int i = n_digits - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

void time_iso(char out[TIME_ISO], int64_t wall_ms) {
    const int64_t last_ms = 253402300799999; /* the year 9999's end: four digits hold no more */
    int64_t ms = wall_ms < 0 ? 0 : wall_ms > last_ms ? last_ms : wall_ms;
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    memcpy(out, "0000-00-00T00:00:00.000Z", TIME_ISO);
    put_digits(out, 4, parts.tm_year + 1900);
    put_digits(out + 5, 2, parts.tm_mon + 1);
    put_digits(out + 8, 2, parts.tm_mday);
    put_digits(out + 11, 2, parts.tm_hour);
    put_digits(out + 14, 2, parts.tm_min);
    put_digits(out + 17, 2, parts.tm_sec);
    put_digits(out + 20, 3, (int)(ms % 1000));
}

void time_sleep_ms(int64_t ms) {
    if (ms <= 0)
        return;
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}
