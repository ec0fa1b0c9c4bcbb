/* Blocks of activations: aligned, and in huge pages where the system has them.
 *
 * A page of a document needs some hundred megabytes, so a large block comes straight from the
 * system and goes back to it. Linux promises more memory than there is and ends a process when the
 * promise is called in; a large block is therefore compared with what is left, and its pages are
 * taken at once. Before each block lies its header, one cache line. */
#include "device/cpu/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define ALIGN_BYTES ((size_t)64)
#define MMAP_FROM_BYTES ((size_t)1 << 20)
#define ASK_FROM_BYTES ((size_t)16 << 20)
#define LARGEST_BYTES ((size_t)1 << 40)

struct header {
    void *base;
    size_t mapped_bytes; /* 0: from mem_try */
};
_Static_assert(sizeof(struct header) <= ALIGN_BYTES, "a block's header is one cache line");

/* The number after `key` in a small file of the system's; false where there is none. */
static bool read_number(uint64_t *out, const char *path, const char *key) {
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    char line[128];
    bool found = false;
    size_t len = strlen(key);
    while (!found && fgets(line, sizeof line, file)) {
        char *end;
        if (strncmp(line, key, len) != 0)
            continue;
        *out = strtoull(line + len, &end, 10);
        found = end != line + len;
    }
    fclose(file);
    return found;
}

int64_t cpu_memory_room_bytes(void) {
    uint64_t left = UINT64_MAX, kib, max, used, cache;
    if (read_number(&kib, "/proc/meminfo", "MemAvailable:"))
        left = kib << 10;
    if (read_number(&max, "/sys/fs/cgroup/memory.max", "") &&
        read_number(&used, "/sys/fs/cgroup/memory.current", "")) {
        if (read_number(&cache, "/sys/fs/cgroup/memory.stat", "inactive_file "))
            used -= cache < used ? cache : used;
        uint64_t rest = max > used ? max - used : 0;
        left = rest < left ? rest : left;
    }
    return left > INT64_MAX ? -1 : (int64_t)left;
}

static bool has_room(size_t size_bytes) {
    int64_t room = cpu_memory_room_bytes();
    return room < 0 || size_bytes <= (uint64_t)room;
}

/* A kernel that does not know how to (before 5.14) gives pages when they are touched. */
static bool populate(void *base, size_t size_bytes) {
    return madvise(base, size_bytes, MADV_POPULATE_WRITE) == 0 || errno == EINVAL;
}

void *cpu_memory_map(size_t size_bytes) {
    if (size_bytes >= ASK_FROM_BYTES && !has_room(size_bytes))
        return NULL;
    void *base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, size_bytes, MADV_HUGEPAGE); /* a wish */
    if (populate(base, size_bytes))
        return base;
    munmap(base, size_bytes);
    return NULL;
}

bool cpu_memory_new(void **out, size_t n, size_t size_bytes, struct error *err) {
    *out = NULL;
    size_t bytes;
    if (__builtin_mul_overflow(n, size_bytes, &bytes) || bytes > LARGEST_BYTES)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "%zu times %zu bytes of memory cannot be had", n, size_bytes);
    bool large = bytes >= MMAP_FROM_BYTES;
    size_t whole = bytes + 2 * ALIGN_BYTES;
    void *base = large ? cpu_memory_map(whole) : mem_try(1, whole, whole);
    if (!base)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "%zu bytes of memory cannot be had", bytes);
    uintptr_t at = ((uintptr_t)base + 2 * ALIGN_BYTES - 1) & ~(uintptr_t)(ALIGN_BYTES - 1);
    struct header *header = (struct header *)(at - ALIGN_BYTES);
    *header = (struct header){.base = base, .mapped_bytes = large ? whole : 0};
    *out = (void *)at;
    return true;
}

void cpu_memory_free(void *memory) {
    if (!memory)
        return;
    struct header header = *(struct header *)((uintptr_t)memory - ALIGN_BYTES);
    if (header.mapped_bytes)
        munmap(header.base, header.mapped_bytes);
    else
        mem_free(header.base);
}
