/* sandbox, inside. */
#ifndef DOCUSEARCH_SANDBOX_INTERNAL_H
#define DOCUSEARCH_SANDBOX_INTERNAL_H

#include "sandbox/sandbox.h"

#include <sys/types.h>

/* A sanitizer's runtime reserves terabytes of addresses and makes system calls of its own: the
 * address limit is left out and the filter refuses instead of killing. Its report goes to standard
 * error, which may be a file: the limit of a file's size is left out as well. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif

#define FRAME_HEAD 8

struct sandbox_child {
    pid_t pid;
    int fd;
    uint8_t head[FRAME_HEAD];
    size_t n_head;
    uint8_t *data;
    size_t n_data, cap;
    bool delivered; /* the frame in data was handed out: the next call starts a new one */
};

/* Landlock's ABI version, 0 where there is none, -1 where it would not take our rules. */
int landlock_enter(const struct sandbox_lock *lock, struct error *err);
/* The system-call filter; comes last. False: this kernel or processor has none. */
bool filter_enter(const struct sandbox_lock *lock);

#endif
