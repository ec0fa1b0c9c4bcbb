/* sandbox: a child process behind a socket: spawn, frames, deadlines, and the jail it locks itself
 * into.
 *
 * The child is this same program (fork + exec), with nothing open but standard input and output on
 * /dev/null and one socket, fd 3, and nothing in its environment but what is named here. It loads
 * what it needs, then locks itself (sandbox_lock) before it looks at foreign bytes. rlimit,
 * Landlock and seccomp are seen in this module alone.
 *
 * Frame, little-endian, in both directions:
 *   offset size
 *        0    4  type, the user's own numbering
 *        4    4  length of the payload
 *        8    n  payload
 * A frame from the parent may carry one file descriptor beside its first byte (SCM_RIGHTS); one
 * from a child may not: the kernel drops it. */
#ifndef DOCUSEARCH_SANDBOX_H
#define DOCUSEARCH_SANDBOX_H

#include "base/base.h"

enum sandbox_kind {
    SANDBOX_PURE,      /* computes only: no file, no socket, no process, no new code */
    SANDBOX_CONVERTER, /* system files read-only, one private folder, AF_UNIX at most */
};

#define SANDBOX_MEMORY_PURE (INT64_C(2) << 30)
#define SANDBOX_MEMORY_CONVERTER (INT64_C(4) << 30)

/* ---- the parent's side: one thread at a time a child -------------------------------------- */

struct sandbox_child;
struct sandbox_spawn {
    const char *const *args; /* after the program's name, NULL-terminated; at most 14 */
    const char *const *env;  /* "NAME=value", NULL-terminated, beside what every child gets; at
                                most 14; may be NULL */
};
/* Any thread of any program; the child outlives that thread, and ends when the parent does. */
bool sandbox_spawn(struct sandbox_child **out, const struct sandbox_spawn *spawn,
                   struct error *err);
/* pass_fd -1: none. Never blocks: false when the child is gone or does not take it. */
bool sandbox_send(struct sandbox_child *child, uint32_t type, const void *payload, size_t len,
                  int pass_fd, struct error *err);

enum sandbox_got {
    SANDBOX_FRAME,   /* out is a whole frame */
    SANDBOX_WAITING, /* the deadline passed; what has come is kept for the next call */
    SANDBOX_CLOSED,  /* the child ended or closed its socket, perhaps inside a frame */
    SANDBOX_BROKEN,  /* the frame's length is above its maximum, or the type is unknown */
};
struct sandbox_frame {
    uint32_t type;
    const uint8_t *data; /* borrowed until the next sandbox_receive */
    size_t len;
};
/* The largest payload of a type; 0-length frames need 1 or more, 0 refuses the type. */
typedef size_t (*sandbox_max_len)(uint32_t type);
/* deadline_ms by time_mono_ms. The buffer grows as bytes arrive, never by what the child claims. */
enum sandbox_got sandbox_receive(struct sandbox_frame *out, struct sandbox_child *child,
                                 sandbox_max_len max_len, int64_t deadline_ms);

enum sandbox_end {
    SANDBOX_EXITED,        /* by itself, with `code` */
    SANDBOX_CRASHED,       /* by signal `code` */
    SANDBOX_OUT_OF_MEMORY, /* its own limit, or the system's killer */
    SANDBOX_OUT_OF_TIME,   /* SIGXCPU */
    SANDBOX_FORBIDDEN,     /* a system call the filter kills for; written to the log */
    SANDBOX_KILLED,        /* alive until sandbox_end killed it */
};
/* Kills the child's whole process group, reaps, frees. grace_ms: how long it may take to end by
 * itself first (after SANDBOX_CLOSED: 500; else 0). code may be NULL; child NULL gives EXITED. */
enum sandbox_end sandbox_end(struct sandbox_child *child, int64_t grace_ms, int *code);
int sandbox_pid(const struct sandbox_child *child);
int64_t sandbox_rss_bytes(const struct sandbox_child *child); /* 0 where it cannot be known */

/* ---- the child's side: single-threaded ---------------------------------------------------- */

#define SANDBOX_FD 3
#define SANDBOX_EXIT_MEMORY 117 /* exit status of a child without memory */

/* First call in a child: dies with its parent from here on. */
void sandbox_child_begin(void);
struct sandbox_lock {
    enum sandbox_kind kind;
    const char *private_dir;      /* converter: its folder, absolute; becomes nobody's under root */
    const char *const *read_dirs; /* converter: more to read, NULL-terminated; may be NULL */
    bool may_exec;                /* converter: may start programs */
    const char *socket_dir;       /* converter: where it may make AF_UNIX sockets; may be NULL */
};
#define SANDBOX_LEVEL 64
/* Locks this process for good. level: "seccomp+landlock3", "seccomp", "rlimit"; what could not be
 * had on this system is left out of it. False: a step that this system has did not work. */
bool sandbox_lock(char level[SANDBOX_LEVEL], const struct sandbox_lock *lock, struct error *err);
/* Processor seconds this process may use from now on, then SIGXCPU. */
void sandbox_cpu_limit(int seconds);
/* Blocking. False: the parent is gone (time to leave). payload is the caller's (mem_free), fd too
 * (-1: none came). */
bool sandbox_child_receive(uint32_t *type, uint8_t **payload, size_t *len, int *fd);
/* The payload in two parts, either may be empty. Ends the process when the parent is gone. */
void sandbox_child_send(uint32_t type, const void *head, size_t head_len, const void *tail,
                        size_t tail_len);

/* ---- self-test ---------------------------------------------------------------------------- */

/* In a locked child: tries what must be refused. Writes what was NOT refused, "open, connect", ""
 * when all held. */
void sandbox_probe(char out[160], enum sandbox_kind kind);

#endif
