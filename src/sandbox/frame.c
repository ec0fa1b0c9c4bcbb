/* Frames on the socket between parent and child.
 *
 * The parent's end never blocks and trusts nothing: a length is compared with its type's maximum
 * before a byte is taken, and memory grows as bytes arrive. The child's end blocks. */
#include "sandbox/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FIRST_BLOCK ((size_t)64 << 10)
#define CHILD_MAX_LEN ((size_t)1 << 20) /* of a frame from the parent, which we wrote ourselves */

#ifndef MSG_NOSIGNAL /* macOS: the parent ignores SIGPIPE */
#define MSG_NOSIGNAL 0
#endif
#ifndef MSG_CMSG_CLOEXEC
#define MSG_CMSG_CLOEXEC 0
#endif

union one_fd {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int))];
};

static void put_u32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

bool sandbox_send(struct sandbox_child *child, uint32_t type, const void *payload, size_t len,
                  int pass_fd, struct error *err) {
    uint8_t head[FRAME_HEAD];
    put_u32(head, type);
    put_u32(head + 4, (uint32_t)len);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)payload, len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = len ? 2 : 1};
    union one_fd control;
    if (pass_fd >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *item = CMSG_FIRSTHDR(&message);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(item), &pass_fd, sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(child->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set_code(err, ERROR_INTERNAL, "parser_crash", "sending to child %d: %s",
                              (int)child->pid, strerror(errno));
    if ((size_t)n != sizeof head + len)
        return error_set_code(err, ERROR_INTERNAL, "parser_crash", "child %d does not take frames",
                              (int)child->pid);
    return true;
}

/* Waits for bytes. False: the deadline passed. */
static bool wait_readable(int fd, int64_t deadline_ms) {
    for (;;) {
        int64_t left_ms = deadline_ms - time_mono_ms();
        struct pollfd item = {.fd = fd, .events = POLLIN};
        int rc = poll(&item, 1, left_ms < 0 ? 0 : left_ms > 60000 ? 60000 : (int)left_ms);
        if (rc > 0)
            return true;
        if (rc == 0 && left_ms <= 60000)
            return false;
    }
}

/* 1: all of it is there; 0: the deadline passed; -1: closed. */
static int fill(struct sandbox_child *child, uint8_t *block, size_t *n, size_t wanted,
                int64_t deadline_ms) {
    while (*n < wanted) {
        ssize_t got = recv(child->fd, block + *n, wanted - *n, MSG_DONTWAIT);
        if (got > 0) {
            *n += (size_t)got;
            continue;
        }
        if (got == 0)
            return -1;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return -1;
        if (!wait_readable(child->fd, deadline_ms))
            return 0;
    }
    return 1;
}

enum sandbox_got sandbox_receive(struct sandbox_frame *out, struct sandbox_child *child,
                                 sandbox_max_len max_len, int64_t deadline_ms) {
    if (child->delivered) {
        child->delivered = false;
        child->n_head = child->n_data = 0;
        if (child->cap > FIRST_BLOCK) { /* a large document's block is not kept */
            mem_free(child->data);
            child->data = NULL;
            child->cap = 0;
        }
    }
    int rc = fill(child, child->head, &child->n_head, FRAME_HEAD, deadline_ms);
    if (rc <= 0)
        return rc == 0 ? SANDBOX_WAITING : SANDBOX_CLOSED;
    uint32_t type = get_u32(child->head);
    size_t len = get_u32(child->head + 4), most = max_len(type);
    if (most == 0 || len > most)
        return SANDBOX_BROKEN;

    while (child->n_data < len) {
        if (child->n_data == child->cap) {
            size_t cap = child->cap ? child->cap * 2 : FIRST_BLOCK;
            uint8_t *data = mem_try_grow(child->data, cap < len ? cap : len, 1, most + FIRST_BLOCK);
            if (!data)
                return SANDBOX_BROKEN;
            child->data = data;
            child->cap = cap < len ? cap : len;
        }
        size_t wanted = child->cap < len ? child->cap : len;
        rc = fill(child, child->data, &child->n_data, wanted, deadline_ms);
        if (rc <= 0)
            return rc == 0 ? SANDBOX_WAITING : SANDBOX_CLOSED;
    }
    child->delivered = true;
    *out = (struct sandbox_frame){.type = type, .data = child->data, .len = len};
    return SANDBOX_FRAME;
}

/* ---- the child's end ------------------------------------------------------------------------ */

static bool child_read(uint8_t *block, size_t wanted) {
    size_t n = 0;
    while (n < wanted) {
        ssize_t got = read(SANDBOX_FD, block + n, wanted - n);
        if (got > 0)
            n += (size_t)got;
        else if (got == 0 || errno != EINTR)
            return false;
    }
    return true;
}

bool sandbox_child_receive(uint32_t *type, uint8_t **payload, size_t *len, int *fd) {
    *fd = -1;
    *payload = NULL;
    uint8_t head[FRAME_HEAD];
    struct iovec part = {head, sizeof head};
    union one_fd control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    ssize_t n;
    do
        n = recvmsg(SANDBOX_FD, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    struct cmsghdr *item = CMSG_FIRSTHDR(&message);
    if (item && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS &&
        item->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(item), sizeof(int));
    if (!child_read(head + n, sizeof head - (size_t)n))
        goto fail;
    *type = get_u32(head);
    *len = get_u32(head + 4);
    if (*len > CHILD_MAX_LEN)
        goto fail;
    *payload = mem_alloc(*len + 1);
    if (!child_read(*payload, *len))
        goto fail;
    return true;

fail:
    mem_free(*payload);
    *payload = NULL;
    if (*fd >= 0)
        close(*fd);
    return false;
}

static void child_write(const void *block, size_t len) {
    const uint8_t *at = block;
    while (len > 0) {
        ssize_t n = write(SANDBOX_FD, at, len);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            _exit(0); /* the parent is gone */
        }
    }
}

void sandbox_child_send(uint32_t type, const void *head, size_t head_len, const void *tail,
                        size_t tail_len) {
    uint8_t frame[FRAME_HEAD];
    put_u32(frame, type);
    put_u32(frame + 4, (uint32_t)(head_len + tail_len));
    child_write(frame, sizeof frame);
    child_write(head, head_len);
    child_write(tail, tail_len);
}
