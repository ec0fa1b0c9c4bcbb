/* The log: one line a message, one write a line, to standard error or a file.
 *
 * A log file that was moved away (rotation) is opened anew: when that is asked for, and by itself,
 * since at most once a second the path is compared with what is open. A line goes whole into one of
 * the two. What cannot be written is lost; the log never fails its caller. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK_EVERY_MS 1000
#define LONGEST_MESSAGE 8192 /* with its NUL; the rest is cut */

static struct {
    struct lock lock;
    enum log_level level;
    bool json;
    int fd;
    char *path; /* NULL: standard error */
    int64_t checked_ms;
} state = {
    .lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LOG},
    .level = LOG_INFO,
    .fd = STDERR_FILENO,
};

static const char *level_word(enum log_level level) {
    switch (level) {
    case LOG_DEBUG:
        return "DEBUG";
    case LOG_INFO:
        return "INFO";
    case LOG_WARN:
        return "WARN";
    case LOG_ERROR:
        return "ERROR";
    }
    return "ERROR";
}

static int open_file(const char *path) {
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

bool log_open(enum log_level level, bool json, const char *path, struct error *err) {
    int fd = STDERR_FILENO;
    if (path) {
        fd = open_file(path);
        if (fd < 0)
            return error_set_errno(err, errno, "log file %s", path);
    }
    lock_take(&state.lock);
    if (state.fd != STDERR_FILENO)
        close(state.fd);
    mem_free(state.path);
    state.level = level;
    state.json = json;
    state.fd = fd;
    state.path = path ? mem_strdup(path) : NULL;
    state.checked_ms = time_mono_ms();
    lock_drop(&state.lock);
    return true;
}

/* The new file is opened before the old is given up, so that a missing folder costs nothing. */
static void reopen_if_moved(void) {
    int64_t now_ms = time_mono_ms();
    if (!state.path || now_ms - state.checked_ms < CHECK_EVERY_MS)
        return;
    state.checked_ms = now_ms;
    struct stat there, ours;
    if (stat(state.path, &there) == 0 && fstat(state.fd, &ours) == 0 &&
        there.st_ino == ours.st_ino && there.st_dev == ours.st_dev)
        return;
    int fd = open_file(state.path);
    if (fd < 0)
        return;
    close(state.fd);
    state.fd = fd;
}

bool log_reopen(struct error *err) {
    bool ok = true;
    lock_take(&state.lock);
    if (state.path) {
        int fd = open_file(state.path);
        if (fd >= 0) {
            close(state.fd);
            state.fd = fd;
            state.checked_ms = time_mono_ms();
        } else {
            ok = error_set_errno(err, errno, "log file %s", state.path);
        }
    }
    lock_drop(&state.lock);
    return ok;
}

/* Message as one line of valid UTF-8: controls as \n, \t or \x1b, invalid bytes as U+FFFD. */
static void put_escaped(struct buf *line, const char *text, size_t len) {
    for (size_t pos = 0; pos < len;) {
        uint32_t c = utf8_next(text, len, &pos);
        if (c == '\n')
            buf_puts(line, "\\n");
        else if (c == '\t')
            buf_puts(line, "\\t");
        else if (c < 0x20 || (c >= 0x7F && c < 0xA0))
            buf_printf(line, "\\x%02x", (unsigned)c);
        else {
            char bytes[4];
            buf_append(line, bytes, utf8_put(bytes, c));
        }
    }
}

static void put_json(struct buf *line, const char *time, enum log_level level, const char *text,
                     size_t len) {
    struct arena *arena = arena_new(0);
    json_t *object = json_pack("{s:s, s:s, s:s}", "time", time, "level", level_word(level),
                               "message", utf8_clean(arena, text, len));
    char *dump = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (dump)
        buf_puts(line, dump);
    free(dump); /* jansson's */
    json_decref(object);
    arena_free(arena);
}

void log_write(enum log_level level, const char *format, ...) {
    if (level < state.level)
        return;
    char time[TIME_ISO];
    time_iso(time, time_wall_ms());

    char text[LONGEST_MESSAGE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = utf8_cut(text, strlen(text), sizeof text - 4);
    struct buf line = {0};

    lock_take(&state.lock);
    if (state.json) {
        put_json(&line, time, level, text, len);
    } else {
        buf_printf(&line, "%s %s ", time, level_word(level));
        put_escaped(&line, text, len);
    }
    buf_putc(&line, '\n');
    reopen_if_moved();
    fd_write_all(state.fd, line.data, line.len, NULL);
    lock_drop(&state.lock);

    buf_fini(&line);
}
