/* hook: what Copyparty told, taken apart; and the paths of its machine made into the server's. */
#ifndef DOCUSEARCH_APP_HOOK_H
#define DOCUSEARCH_APP_HOOK_H

#include "base/path_map.h"

#define HOOK_MAX_PAYLOAD ((size_t)64 << 20)

enum hook_act {
    HOOK_PUT,    /* a file came: uploaded or copied */
    HOOK_GONE,   /* deleted */
    HOOK_MOVED,  /* to path, from other (NULL: not told) */
    HOOK_MOVING, /* about to be: from path, to other (NULL: not told) */
    HOOK_LOOK,   /* a path without more: whether it is there decides */
    HOOK_CHECK,  /* asked by `docusearch check`: is there a server, and is the key right? */
    HOOK_NOTHING /* an event that changes no file: other names it */
};
struct hook_event {
    enum hook_act act;
    const char *path, *other;
    double at; /* seconds since 1970; 0: not told, or not exactly */
};
struct hook_events {
    struct hook_event *items;
    size_t n, cap;
};
/* One event or a list, as JSON; or paths, one a line. Events and strings are the arena's. */
bool hook_read(struct hook_events *out, struct arena *arena, const char *text, size_t len,
               struct error *err);

/* Is it Copyparty's own, a half of an upload or its folder .hist? */
bool hook_ignores(const char *path);

#endif
