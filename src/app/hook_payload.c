/* Copyparty's payloads: a path, an event as JSON, a list of either. Its versions differ in keys, so
 * what is not known is passed over, and what is not there is done without. */
#include "app/hook.h"

#include <string.h>

static void put_event(struct hook_events *out, struct arena *arena,
                      const struct hook_event *event) {
    if (out->n == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 16;
        struct hook_event *items = arena_alloc(arena, cap * sizeof *items);
        if (out->n > 0)
            memcpy(items, out->items, out->n * sizeof *items);
        out->items = items;
        out->cap = cap;
    }
    out->items[out->n++] = *event;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static int hex4(const char *text, const char *end) {
    int value = 0;
    if (end - text < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef", *at = strchr(digits, text[i] | 0x20);
        if (!text[i] || !at)
            return -1;
        value = value * 16 + (int)(at - digits);
    }
    return value;
}

/* Python writes a byte of a name that is no UTF-8 as half of a surrogate pair, which no strict
 * reader takes: it becomes U+FFFD here, so that the rest of a list is read. */
static char *without_halves(struct arena *arena, const char *text, size_t len) {
    char *copy = arena_strndup(arena, text, len), *end = copy + len;
    for (char *p = copy; p < end; p++) {
        if (*p != '\\')
            continue;
        p++;
        int first = p < end && *p == 'u' ? hex4(p + 1, end) : -1;
        if (first < 0xd800 || first > 0xdfff)
            continue;
        int second = end - p > 10 && p[5] == '\\' && p[6] == 'u' ? hex4(p + 7, end) : -1;
        if (first < 0xdc00 && second >= 0xdc00 && second <= 0xdfff)
            p += 10;
        else
            memcpy(p + 1, "fffd", 4);
    }
    return copy;
}

static const char *text_at(struct arena *arena, const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text && *text ? arena_strdup(arena, text) : NULL;
}

/* The event's name is the part before the first dot: "xau.http" is an xau. */
static enum hook_act act_of(const char *source) {
    static const struct {
        const char *name;
        enum hook_act act;
    } known[] = {{"xau", HOOK_PUT},    {"xiu", HOOK_PUT},   {"xac", HOOK_PUT},
                 {"xad", HOOK_GONE},   {"xar", HOOK_MOVED}, {"xbr", HOOK_MOVING},
                 {"check", HOOK_CHECK}};
    size_t n = strcspn(source, ".");
    for (size_t i = 0; i < BASE_COUNT(known); i++) {
        if (strlen(known[i].name) == n && strncmp(known[i].name, source, n) == 0)
            return known[i].act;
    }
    return HOOK_NOTHING;
}

static bool put_json(struct hook_events *out, struct arena *arena, const json_t *json,
                     struct error *err) {
    struct hook_event event = {.act = HOOK_LOOK};
    if (json_is_string(json)) {
        event.path = arena_strdup(arena, json_string_value(json));
    } else if (json_is_object(json)) {
        const char *source = text_at(arena, json, "src");
        event.path = text_at(arena, json, "ap");
        if (source)
            event.act = act_of(source);
        if (event.act == HOOK_MOVED)
            event.other = text_at(arena, json, "ap_from");
        if (event.act == HOOK_MOVING)
            event.other = text_at(arena, json, "ap_to");
        if (event.act == HOOK_NOTHING)
            event.other = source;
        if (json_is_real(json_object_get(json, "at")))
            event.at = json_real_value(json_object_get(json, "at"));
    }
    if (!event.path && (event.act == HOOK_NOTHING || event.act == HOOK_CHECK))
        event.path = "";
    if (!event.path)
        return error_set(err, ERROR_INPUT, "the event names no file: it has no \"ap\"");
    put_event(out, arena, &event);
    return true;
}

static bool read_json(struct hook_events *out, struct arena *arena, const char *text, size_t len,
                      struct error *err) {
    json_error_t where;
    char *tame = without_halves(arena, text, len);
    json_t *json = json_loadb(tame, len, 0, &where), *item;
    if (!json)
        return error_set(err, ERROR_INPUT, "the event is no JSON: %s", where.text);
    bool ok = true;
    size_t i;
    if (json_is_array(json)) {
        json_array_foreach(json, i, item) {
            ok = ok && put_json(out, arena, item, err);
        }
    } else {
        ok = put_json(out, arena, json, err);
    }
    json_decref(json);
    return ok;
}

bool hook_read(struct hook_events *out, struct arena *arena, const char *text, size_t len,
               struct error *err) {
    memset(out, 0, sizeof *out);
    size_t blank = strspn(text, " \t\r\n");
    if (text[blank] == '{' || text[blank] == '[')
        return read_json(out, arena, text, len, err);
    for (const char *line = text, *end = text + len; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((stop ? stop : end) - line);
        struct hook_event event = {.act = HOOK_LOOK};
        if (n > 0 && line[n - 1] == '\r')
            n--;
        event.path = arena_strndup(arena, line, n);
        if (n > 0)
            put_event(out, arena, &event);
        line = stop ? stop + 1 : end;
    }
    return true;
}

/* ---- paths ---------------------------------------------------------------------------------- */

bool hook_ignores(const char *path) {
    size_t n = strlen(path);
    return strstr(path, "/.hist/") || text_has_suffix(path, "/.hist") ||
           (n > 8 && strcmp(path + n - 8, ".PARTIAL") == 0);
}
