/* base: paths as another program has them, and as they are here. A further part of its face. */
#ifndef DOCUSEARCH_BASE_PATH_MAP_H
#define DOCUSEARCH_BASE_PATH_MAP_H

#include "base/base.h"

/* Pairs of folders, whole names of a path: the longest FROM that path lies in gives way to its TO.
 */
struct path_map {
    struct {
        const char *from, *to;
    } pairs[64];
    int n;
};
/* "FROM=TO", both beginning with '/'. A FROM that is there already gets this TO. */
bool path_map_add(struct path_map *map, struct arena *arena, const char *pair, size_t len,
                  struct error *err);
/* Several, separated by commas, as HOOK_PATH_MAP has them. */
bool path_map_read(struct path_map *map, struct arena *arena, const char *pairs, struct error *err);
/* Of no FROM: the path itself. */
const char *path_map_apply(struct arena *arena, const struct path_map *map, const char *path);

#endif
