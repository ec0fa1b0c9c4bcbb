/* Faults that real files cause rarely and at bad times, here on demand: a reader that crashes,
 * hangs, eats memory, lies in its frames, or makes a system call it may not. Built only with
 * -Dfault_points=true, and asleep without DOCUSEARCH_READER_FAULT in the environment. */
#include "read/fault_reader.h"

#include "read/wire.h"
#include "sandbox/sandbox.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int sink_of_stack;

static __attribute__((noinline)) int eat_stack(int depth) {
    volatile char block[4096];
    block[0] = (char)depth;
    int deeper = depth < 1 << 30 ? eat_stack(depth + 1) : 0;
    return deeper + block[0];
}

static _Noreturn void hang(void) {
    signal(SIGTERM, SIG_IGN);
    for (;;)
        time_sleep_ms(1000);
}

static _Noreturn void spin(void) {
    for (volatile unsigned i = 0;; i++)
        continue;
}

static void eat_memory(bool by_our_allocator) {
    for (;;) {
        char *block = by_our_allocator ? mem_alloc(16 << 20)
                                       : malloc(16 << 20); /* as a library would, kept */
        if (!block)
            abort();
        memset(block, 1, 16 << 20);
    }
}

static void send_u32s(uint32_t type, uint32_t a, uint32_t b) {
    uint8_t body[8];
    for (int i = 0; i < 4; i++) {
        body[i] = (uint8_t)(a >> 8 * i);
        body[4 + i] = (uint8_t)(b >> 8 * i);
    }
    sandbox_child_send(type, body, sizeof body, NULL, 0);
}

static void write_raw(const void *data, size_t len) {
    ssize_t n = write(SANDBOX_FD, data, len);
    (void)n;
}

void fault_reader(struct read_task *task) {
    static const char prefix[] = "FAULT ";
    char word[32] = "";
    if (!getenv("DOCUSEARCH_READER_FAULT") || task->size < sizeof prefix ||
        memcmp(task->data, prefix, sizeof prefix - 1) != 0)
        return;
    for (size_t i = sizeof prefix - 1, n = 0; i < task->size && n < sizeof word - 1; i++) {
        if (task->data[i] <= ' ')
            break;
        word[n++] = (char)task->data[i];
        word[n] = '\0';
    }

    if (strcmp(word, "crash") == 0)
        raise(SIGSEGV);
    else if (strcmp(word, "abort") == 0)
        abort();
    else if (strcmp(word, "stack") == 0)
        sink_of_stack = eat_stack(0);
    else if (strcmp(word, "spin") == 0)
        spin();
    else if (strcmp(word, "memory") == 0)
        eat_memory(false);
    else if (strcmp(word, "memory-ours") == 0)
        eat_memory(true);
    else if (strcmp(word, "lie-pages") == 0)
        send_u32s(WIRE_PROGRESS, 1, UINT32_MAX);
    else if (strcmp(word, "lie-length") == 0)
        write_raw("\x14\0\0\0\xff\xff\xff\xff", 8);
    else if (strcmp(word, "lie-picture") == 0)
        send_u32s(WIRE_PICTURE, 0, UINT32_MAX);
    else if (strcmp(word, "short") == 0) {
        write_raw("\x14\0\0\0\xff\xff\0\0abc", 11);
        _exit(0);
    } else if (strcmp(word, "endless") == 0) {
        while (true)
            send_u32s(WIRE_PROGRESS, 0, 1);
    } else if (strcmp(word, "exit") == 0)
        _exit(3);
    else if (strcmp(word, "syscall") == 0)
        syscall(SYS_setns, -1, 0);
    else if (strcmp(word, "hang") != 0)
        return;
    hang();
}
