/* base: what changes below a folder, told by the system. The third part of its face.
 *
 * A hint, never a promise: events are lost when they come too fast, on file systems of a network,
 * and where the system keeps only so many watches. Whoever needs to know looks from time to time by
 * itself. inotify on Linux, kqueue on macOS and the BSDs. */
#ifndef DOCUSEARCH_BASE_NOTIFY_H
#define DOCUSEARCH_BASE_NOTIFY_H

#include "base/base.h"

struct notify;
/* The tree below root, at most 64 folders deep; links are not followed, and folders named ".…" are
 * left out. ERROR_UNSUPPORTED: this system tells nothing. */
bool notify_open(struct notify **out, const char *root, struct error *err);
void notify_close(struct notify *notify); /* NULL is fine */

/* path: below root, without it: a file or folder that came or went, a file that was written and
 * closed, "" for root itself. Of a folder, anything below may have changed. */
typedef void (*notify_visitor)(void *ctx, const char *path);
enum notify_result {
    NOTIFY_QUIET,  /* the time passed, or notify_wake was called */
    NOTIFY_SOME,   /* visit was called for each path, some more than once */
    NOTIFY_RESCAN, /* events were lost: all may have changed */
    NOTIFY_LOST,   /* root is gone, or is no longer what was opened: open anew */
};
/* Waits until something changes or deadline_ms (time_mono_ms) passes; one thread. */
enum notify_result notify_wait(struct notify *notify, int64_t deadline_ms, notify_visitor visit,
                               void *ctx);
/* Folders that the system would not watch (there are too many): 0 where it tells of all. */
int notify_unwatched(const struct notify *notify);
void notify_wake(struct notify *notify); /* any thread: the wait, or the next one, ends at once */

#endif
