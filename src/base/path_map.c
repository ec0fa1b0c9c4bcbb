/* Paths as another program has them, and as they are here. */
#include "base/path_map.h"

#include <string.h>

static size_t without_slashes(const char *path, size_t len) {
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len;
}

bool path_map_add(struct path_map *map, struct arena *arena, const char *pair, size_t len,
                  struct error *err) {
    const char *equals = memchr(pair, '=', len);
    if (!equals || pair[0] != '/' || equals + 1 == pair + len || equals[1] != '/')
        return error_set(err, ERROR_INPUT,
                         "'%.*s' is no pair FROM=TO of whole paths, as /uploads=/real/uploads",
                         (int)(len < 150 ? len : 150), pair);
    const char *to = equals + 1;
    const char *from = arena_strndup(arena, pair, without_slashes(pair, (size_t)(equals - pair)));
    int i = 0;
    while (i < map->n && strcmp(map->pairs[i].from, from) != 0)
        i++;
    if (i == (int)BASE_COUNT(map->pairs))
        return error_set(err, ERROR_LIMIT, "more than %d pairs of paths",
                         (int)BASE_COUNT(map->pairs));
    map->pairs[i].from = from;
    map->pairs[i].to = arena_strndup(arena, to, without_slashes(to, (size_t)(pair + len - to)));
    map->n += i == map->n;
    return true;
}

bool path_map_read(struct path_map *map, struct arena *arena, const char *pairs,
                   struct error *err) {
    while (*pairs) {
        size_t n = strcspn(pairs, ",");
        if (n > 0 && !path_map_add(map, arena, pairs, n, err))
            return false;
        pairs += n + (pairs[n] == ',');
    }
    return true;
}

const char *path_map_apply(struct arena *arena, const struct path_map *map, const char *path) {
    const char *to = NULL, *rest = NULL;
    size_t longest = 0;
    for (int i = 0; i < map->n; i++) {
        const char *from = map->pairs[i].from;
        size_t n = strcmp(from, "/") == 0 ? 0 : strlen(from);
        bool inside = strncmp(path, from, n) == 0 && (path[n] == '/' || path[n] == '\0');
        if (inside && (!to || n > longest)) {
            to = map->pairs[i].to;
            rest = path + n;
            longest = n;
        }
    }
    if (!to)
        return path;
    if (strcmp(to, "/") == 0)
        return *rest ? rest : "/";
    return arena_printf(arena, "%s%s", to, rest);
}
