/* Errors: filled on the caller's stack, only on failure.
 *
 * Texts end up in log lines and JSON replies and may quote names from the disk, so what is stored
 * is always valid UTF-8, whatever was formatted. Arguments may point into what is being written. */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *kind_word(enum error_kind kind) {
    switch (kind) {
    case ERROR_INPUT:
        return "invalid";
    case ERROR_MISSING:
        return "not_found";
    case ERROR_CONFLICT:
        return "conflict";
    case ERROR_LIMIT:
        return "limit";
    case ERROR_UNSUPPORTED:
        return "unsupported";
    case ERROR_BUSY:
        return "busy";
    case ERROR_IO:
        return "io_error";
    case ERROR_DEVICE:
        return "device_error";
    case ERROR_INTERNAL:
        return "internal";
    }
    return "internal";
}

/* Copies text into a field of size bytes, cut between characters, '?' for each invalid byte. */
static void put_text(char *out, size_t size, const char *text) {
    size_t text_len = strlen(text);
    size_t len = utf8_cut(text, text_len, size - 1);
    memcpy(out, text, len);
    out[len] = '\0';
    for (size_t pos = 0; pos < len;) {
        size_t start = pos;
        if (utf8_next(out, len, &pos) == 0xFFFD && pos == start + 1)
            out[start] = '?';
    }
}

static void put(struct error *err, enum error_kind kind, const char *code, const char *format,
                va_list args) {
    char text[2 * sizeof err->text];
    vsnprintf(text, sizeof text, format, args);
    err->kind = kind;
    snprintf(err->code, sizeof err->code, "%s", code);
    put_text(err->text, sizeof err->text, text);
}

bool error_set(struct error *err, enum error_kind kind, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        put(err, kind, kind_word(kind), format, args);
        va_end(args);
    }
    return false;
}

bool error_set_code(struct error *err, enum error_kind kind, const char *code, const char *format,
                    ...) {
    if (err) {
        char code_copy[sizeof err->code];
        snprintf(code_copy, sizeof code_copy, "%s", code);
        va_list args;
        va_start(args, format);
        put(err, kind, code_copy, format, args);
        va_end(args);
    }
    return false;
}

static const char *errno_text(int errnum, char *scratch, size_t size) {
#ifdef __GLIBC__
    return strerror_r(errnum, scratch, size);
#else
    if (strerror_r(errnum, scratch, size) != 0)
        snprintf(scratch, size, "error %d", errnum);
    return scratch;
#endif
}

bool error_set_errno(struct error *err, int errnum, const char *format, ...) {
    if (!err)
        return false;
    char scratch[128];
    const char *reason = errno_text(errnum, scratch, sizeof scratch);
    char what[2 * sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    /* A long path must not push the reason off the end. */
    size_t room = sizeof err->text - strlen(": ") - strlen(reason) - 1;
    what[utf8_cut(what, strlen(what), room)] = '\0';

    if (errnum == ENOSPC || errnum == EDQUOT)
        return error_set_code(err, ERROR_IO, "disk_full", "%s: %s", what, reason);
    if (errnum == ENOENT)
        return error_set_code(err, ERROR_MISSING, "not_found", "%s: %s", what, reason);
    return error_set_code(err, ERROR_IO, "storage_error", "%s: %s", what, reason);
}

void error_prefix(struct error *err, const char *format, ...) {
    if (!err)
        return;
    char fact[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(fact, sizeof fact, format, args);
    va_end(args);
    char text[2 * sizeof err->text];
    snprintf(text, sizeof text, "%s%s", fact, err->text);
    put_text(err->text, sizeof err->text, text);
}
