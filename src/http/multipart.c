/* multipart/form-data (RFC 7578, RFC 2046 §5.1) as it arrives, in pieces of any size.
 *
 * One work buffer of fixed size holds what cannot be judged yet: at most a part's head, or the few
 * bytes that may begin a boundary. The body is read as if a CRLF came before it, so that the first
 * boundary looks like the others. */
#include "http/internal.h"

#include <string.h>
#include <strings.h>

#define WORK_BYTES 32768
#define MAX_BOUNDARY 70
#define MAX_PREAMBLE 4096

enum multipart_state { PREAMBLE, AFTER_BOUNDARY, HEAD, CONTENT, EPILOGUE, FAILED };

struct http_multipart {
    struct http_part_sink sink;
    enum multipart_state state;
    char delimiter[MAX_BOUNDARY + 5]; /* "\r\n--boundary" */
    size_t delimiter_len;
    size_t skipped; /* preamble bytes */
    int n_parts;
    size_t len;
    char work[WORK_BYTES];
};

/* ---- parameters of a header field ----------------------------------------------------------- */

static const char *skip_space(const char *text) {
    return text + strspn(text, " \t");
}

/* Reads `name=value` or `name="value"` after a ';'. Moves *text past it; false at the end or where
 * it makes no sense. In quotes only \" and \\ are escapes: a bare backslash is part of a path. */
static bool next_param(const char **text, char **name, char **value, struct arena *arena) {
    const char *p = skip_space(*text);
    if (*p != ';')
        return false;
    p = skip_space(p + 1);
    size_t len = strcspn(p, "= \t;\"");
    const char *name_start = p;
    p = skip_space(p + len);
    if (len == 0 || *p != '=')
        return false;
    *name = arena_strndup(arena, name_start, len);
    p = skip_space(p + 1);
    if (*p != '"') {
        size_t value_len = strcspn(p, "; \t");
        *value = arena_strndup(arena, p, value_len);
        *text = p + value_len;
        return true;
    }
    p++;
    char *out = arena_alloc(arena, strlen(p) + 1);
    size_t n = 0;
    for (; *p && *p != '"'; p++) {
        if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++;
        out[n++] = *p;
    }
    if (*p != '"')
        return false;
    out[n] = '\0';
    *value = out;
    *text = p + 1;
    return true;
}

static int hex_value(char c) {
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* UTF-8''na%C3%AFve.pdf (RFC 5987), else NULL. */
static char *extended_value(struct arena *arena, const char *text) {
    if (strncasecmp(text, "utf-8'", 6) != 0)
        return NULL;
    text = strchr(text + 6, '\'');
    if (!text)
        return NULL;
    char *out = arena_strdup(arena, text + 1);
    size_t n = 0;
    for (const char *p = out; *p; p++) {
        char c = *p;
        if (c == '%' && p[1] && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0) {
            c = (char)(hex_value(p[1]) * 16 + hex_value(p[2]));
            p += 2;
        }
        if (c == '\0')
            return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return out;
}

/* Forms write these three bytes of a name as escapes and leave '%' alone (HTML,
 * "multipart/form-data encoding algorithm"). */
static void undo_form_escapes(char *text) {
    static const struct {
        const char *escape;
        char byte;
    } escapes[] = {{"%22", '"'}, {"%0D", '\r'}, {"%0A", '\n'}};
    char *out = text;
    while (*text) {
        char c = *text;
        size_t step = 1;
        for (size_t i = 0; i < BASE_COUNT(escapes); i++) {
            if (strncasecmp(text, escapes[i].escape, 3) == 0) {
                c = escapes[i].byte;
                step = 3;
            }
        }
        *out++ = c;
        text += step;
    }
    *out = '\0';
}

static void read_disposition(struct http_part *part, struct arena *arena, const char *value) {
    const char *p = value + strcspn(value, ";");
    char *name, *text, *extended = NULL;
    while (next_param(&p, &name, &text, arena)) {
        if (strcasecmp(name, "name") == 0) {
            undo_form_escapes(text);
            part->name = text;
        } else if (strcasecmp(name, "filename") == 0) {
            undo_form_escapes(text);
            part->filename = text;
        } else if (strcasecmp(name, "filename*") == 0) {
            extended = extended_value(arena, text);
        }
    }
    if (extended)
        part->filename = extended;
}

/* head: the part's field lines, each ended by CRLF. */
static bool begin_part(struct http_multipart *multipart, const char *head, size_t len,
                       struct error *err) {
    if (++multipart->n_parts > HTTP_MAX_PARTS)
        return error_set_code(err, ERROR_INPUT, "too_many_parts", "more than %d parts in one body",
                              HTTP_MAX_PARTS);
    if (memchr(head, '\0', len))
        return error_set(err, ERROR_INPUT, "part %d: NUL in its head", multipart->n_parts);
    struct arena *arena = arena_new(0);
    struct http_part part = {.name = "", .filename = NULL, .media_type = ""};
    char *lines = arena_strndup(arena, head, len);
    for (char *line = lines; line && *line;) {
        char *next = strstr(line, "\r\n");
        if (next) {
            *next = '\0';
            next += 2;
        }
        char *colon = strchr(line, ':');
        if (colon) {
            *colon = '\0';
            const char *value = skip_space(colon + 1);
            if (strcasecmp(line, "Content-Disposition") == 0)
                read_disposition(&part, arena, value);
            else if (strcasecmp(line, "Content-Type") == 0)
                part.media_type = value;
        }
        line = next;
    }
    bool ok = multipart->sink.begin(multipart->sink.ctx, &part, err);
    arena_free(arena);
    return ok;
}

/* ---- the machine ---------------------------------------------------------------------------- */

static void drop(struct http_multipart *multipart, size_t n) {
    memmove(multipart->work, multipart->work + n, multipart->len - n);
    multipart->len -= n;
}

static bool step_preamble(struct http_multipart *m, bool *more, struct error *err) {
    char *at = memmem(m->work, m->len, m->delimiter, m->delimiter_len);
    if (at) {
        drop(m, (size_t)(at - m->work) + m->delimiter_len);
        m->state = AFTER_BOUNDARY;
        *more = true;
        return true;
    }
    if (m->len >= m->delimiter_len) {
        m->skipped += m->len - (m->delimiter_len - 1);
        drop(m, m->len - (m->delimiter_len - 1));
    }
    if (m->skipped > MAX_PREAMBLE)
        return error_set(err, ERROR_INPUT, "no boundary in the body's first %d bytes",
                         MAX_PREAMBLE);
    return true;
}

static bool step_after_boundary(struct http_multipart *m, bool *more, struct error *err) {
    size_t pad = 0;
    while (pad < m->len && (m->work[pad] == ' ' || m->work[pad] == '\t'))
        pad++;
    drop(m, pad);
    m->skipped += pad;
    if (m->skipped > MAX_PREAMBLE)
        return error_set(err, ERROR_INPUT, "white space without end after a boundary");
    if (m->len < 2)
        return true;
    if (memcmp(m->work, "--", 2) == 0)
        m->state = EPILOGUE;
    else if (memcmp(m->work, "\r\n", 2) == 0)
        m->state = HEAD; /* the CRLF stays: an empty head is "\r\n\r\n" like any other's end */
    else
        return error_set(err, ERROR_INPUT, "neither a line's end nor \"--\" after a boundary");
    *more = true;
    return true;
}

static bool step_head(struct http_multipart *m, bool *more, struct error *err) {
    char *end = memmem(m->work, m->len, "\r\n\r\n", 4);
    if (!end) {
        if (m->len > HTTP_MAX_PART_HEADER)
            return error_set(err, ERROR_INPUT, "part %d: head longer than %d bytes", m->n_parts + 1,
                             HTTP_MAX_PART_HEADER);
        return true;
    }
    size_t len = (size_t)(end - m->work);
    if (len > HTTP_MAX_PART_HEADER)
        return error_set(err, ERROR_INPUT, "part %d: head longer than %d bytes", m->n_parts + 1,
                         HTTP_MAX_PART_HEADER);
    if (!begin_part(m, m->work + (len ? 2 : 0), len ? len - 2 : 0, err))
        return false;
    drop(m, len + 4);
    m->state = CONTENT;
    *more = true;
    return true;
}

static bool step_content(struct http_multipart *m, bool *more, struct error *err) {
    char *at = memmem(m->work, m->len, m->delimiter, m->delimiter_len);
    size_t n = at ? (size_t)(at - m->work) : 0;
    if (!at && m->len >= m->delimiter_len)
        n = m->len - (m->delimiter_len - 1);
    if (n > 0 && !m->sink.data(m->sink.ctx, m->work, n, err))
        return false;
    drop(m, n + (at ? m->delimiter_len : 0));
    if (at) {
        if (!m->sink.end(m->sink.ctx, err))
            return false;
        m->state = AFTER_BOUNDARY;
        m->skipped = 0;
        *more = true;
    }
    return true;
}

static bool step(struct http_multipart *m, bool *more, struct error *err) {
    *more = false;
    switch (m->state) {
    case PREAMBLE:
        return step_preamble(m, more, err);
    case AFTER_BOUNDARY:
        return step_after_boundary(m, more, err);
    case HEAD:
        return step_head(m, more, err);
    case CONTENT:
        return step_content(m, more, err);
    case EPILOGUE:
        m->len = 0;
        return true;
    case FAILED:
        return error_set(err, ERROR_INPUT, "the body was given up already");
    }
    return true;
}

static bool read_boundary(struct http_multipart *m, const char *content_type, struct error *err) {
    static const char wanted[] = "multipart/form-data";
    if (!content_type || strncasecmp(content_type, wanted, strlen(wanted)) != 0)
        return error_set_code(err, ERROR_UNSUPPORTED, "multipart_needed",
                              "the body must be multipart/form-data");
    struct arena *arena = arena_new(0);
    const char *p = content_type + strlen(wanted);
    char *name, *value, *boundary = NULL;
    while (next_param(&p, &name, &value, arena))
        if (strcasecmp(name, "boundary") == 0)
            boundary = value;
    size_t len = boundary ? strlen(boundary) : 0;
    bool ok = len >= 1 && len <= MAX_BOUNDARY;
    if (ok) {
        memcpy(m->delimiter, "\r\n--", 4);
        memcpy(m->delimiter + 4, boundary, len);
        m->delimiter_len = len + 4;
    } else {
        error_set_code(err, ERROR_UNSUPPORTED, "multipart_needed",
                       "multipart/form-data without a boundary of 1 to %d bytes", MAX_BOUNDARY);
    }
    arena_free(arena);
    return ok;
}

bool http_multipart_open(struct http_multipart **out, const char *content_type,
                         const struct http_part_sink *sink, struct error *err) {
    struct http_multipart *m = mem_alloc(sizeof(*m));
    m->sink = *sink;
    m->state = PREAMBLE;
    if (!read_boundary(m, content_type, err)) {
        mem_free(m);
        return false;
    }
    memcpy(m->work, "\r\n", 2);
    m->len = 2;
    *out = m;
    return true;
}

bool http_multipart_write(struct http_multipart *m, const void *data, size_t len,
                          struct error *err) {
    const char *bytes = data;
    bool more = true;
    while (len > 0) {
        size_t n = WORK_BYTES - m->len < len ? WORK_BYTES - m->len : len;
        memcpy(m->work + m->len, bytes, n);
        m->len += n;
        bytes += n;
        len -= n;
        do {
            if (!step(m, &more, err)) {
                m->state = FAILED;
                return false;
            }
        } while (more);
    }
    return true;
}

bool http_multipart_finish(struct http_multipart *m, struct error *err) {
    if (m->state == EPILOGUE)
        return true;
    m->state = FAILED;
    return error_set(err, ERROR_INPUT, "the body ends before its last boundary");
}

void http_multipart_free(struct http_multipart *multipart) {
    mem_free(multipart);
}
