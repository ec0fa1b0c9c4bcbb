/* Memory: the process's two allocators, arenas and growing buffers.
 *
 * mem_alloc is for small things of ours and ends the process when there is no memory; mem_try is
 * for sizes that somebody else chose. No other file calls malloc.
 *
 * An arena is a list of blocks, the newest that still has room at its head. What does not fit into
 * the head and is large gets a block of its own behind it, so that one picture does not waste the
 * head's rest. Invariants:
 * 1. used_bytes is the sum of what was handed out, each rounded up to 16, and never passes
 * max_bytes.
 * 2. Memory handed out is zero and is handed out once. */
#include "base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Noreturn void out_of_memory(const char *what, size_t size_bytes) {
    fprintf(stderr, "docusearch: out of memory: %s of %zu bytes\n", what, size_bytes);
    abort();
}

void *mem_alloc(size_t size_bytes) {
    void *block = calloc(1, size_bytes ? size_bytes : 1);
    if (!block)
        out_of_memory("a block", size_bytes);
    return block;
}

char *mem_strdup(const char *text) {
    size_t size = strlen(text) + 1;
    return memcpy(mem_alloc(size), text, size);
}

char *mem_printf(const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(len >= 0);
    char *text = mem_alloc((size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}

static bool product_within(size_t *out, size_t n, size_t size_bytes, size_t max_bytes) {
    return !__builtin_mul_overflow(n, size_bytes, out) && *out <= max_bytes;
}

void *mem_try(size_t n, size_t size_bytes, size_t max_bytes) {
    size_t total;
    if (!product_within(&total, n, size_bytes, max_bytes))
        return NULL;
    return calloc(1, total ? total : 1);
}

void *mem_try_grow(void *block, size_t n, size_t size_bytes, size_t max_bytes) {
    size_t total;
    if (!product_within(&total, n, size_bytes, max_bytes))
        return NULL;
    return realloc(block, total ? total : 1);
}

void *mem_grow(void *block, size_t n, size_t size_bytes) {
    void *grown = mem_try_grow(block, n, size_bytes, SIZE_MAX);
    if (!grown)
        out_of_memory("a block", size_bytes);
    return grown;
}

void mem_free(void *block) {
    free(block);
}

/* ---- arena ---- */

#define ALIGN_BYTES ((size_t)16)
#define FIRST_BLOCK_BYTES ((size_t)4 << 10)
#define LARGEST_BLOCK_BYTES ((size_t)1 << 20)
#define MMAP_FROM_BYTES ((size_t)64 << 10)

struct block {
    struct block *next;
    size_t size_bytes; /* with this header */
    size_t used_bytes; /* with this header */
    bool mapped;
};
#define HEADER_BYTES ((sizeof(struct block) + ALIGN_BYTES - 1) & ~(ALIGN_BYTES - 1))

struct arena {
    struct block *head;
    size_t next_block_bytes;
    size_t used_bytes;
    size_t max_bytes;
};

struct arena *arena_new(size_t max_bytes) {
    struct arena *arena = mem_alloc(sizeof *arena);
    arena->next_block_bytes = FIRST_BLOCK_BYTES;
    arena->max_bytes = max_bytes ? max_bytes : SIZE_MAX;
    return arena;
}

void arena_free(struct arena *arena) {
    if (!arena)
        return;
    for (struct block *block = arena->head, *next; block; block = next) {
        next = block->next;
        if (block->mapped)
            munmap(block, block->size_bytes);
        else
            free(block);
    }
    free(arena);
}

static struct block *block_new(size_t size_bytes) {
    struct block *block;
    bool mapped = size_bytes >= MMAP_FROM_BYTES;
    if (mapped) {
        block = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED)
            return NULL;
    } else {
        block = calloc(1, size_bytes);
        if (!block)
            return NULL;
    }
    block->size_bytes = size_bytes;
    block->used_bytes = HEADER_BYTES;
    block->mapped = mapped;
    return block;
}

/* A block with room for size bytes (already rounded); NULL without memory. */
static struct block *block_for(struct arena *arena, size_t size) {
    struct block *head = arena->head;
    if (head && head->size_bytes - head->used_bytes >= size)
        return head;

    size_t needed = HEADER_BYTES + size;
    if (head && needed > arena->next_block_bytes / 2) {
        struct block *own = block_new(needed);
        if (own) {
            own->next = head->next;
            head->next = own;
        }
        return own;
    }
    size_t size_bytes = needed > arena->next_block_bytes ? needed : arena->next_block_bytes;
    struct block *block = block_new(size_bytes);
    if (!block)
        return NULL;
    block->next = head;
    arena->head = block;
    if (arena->next_block_bytes < LARGEST_BLOCK_BYTES)
        arena->next_block_bytes *= 2;
    return block;
}

void *arena_try(struct arena *arena, size_t n, size_t size_bytes) {
    size_t size;
    if (!product_within(&size, n, size_bytes, SIZE_MAX - HEADER_BYTES - ALIGN_BYTES))
        return NULL;
    size = size ? (size + ALIGN_BYTES - 1) & ~(ALIGN_BYTES - 1) : ALIGN_BYTES;
    if (size > arena->max_bytes - arena->used_bytes)
        return NULL;
    struct block *block = block_for(arena, size);
    if (!block)
        return NULL;
    void *out = (char *)block + block->used_bytes;
    block->used_bytes += size;
    arena->used_bytes += size;
    return out;
}

void *arena_alloc(struct arena *arena, size_t size_bytes) {
    void *out = arena_try(arena, 1, size_bytes);
    if (!out)
        out_of_memory("an arena's block", size_bytes);
    return out;
}

char *arena_strdup(struct arena *arena, const char *text) {
    return arena_strndup(arena, text, strlen(text));
}

char *arena_strndup(struct arena *arena, const char *text, size_t len) {
    char *copy = arena_alloc(arena, len + 1);
    if (len)
        memcpy(copy, text, len);
    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(len >= 0);
    char *text = arena_alloc(arena, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}

size_t arena_used(const struct arena *arena) {
    return arena->used_bytes;
}

/* ---- buf ---- */

#define BUF_DEFAULT_MAX ((size_t)1 << 30)
#define BUF_FIRST_CAP ((size_t)64)

/* Room for more bytes and the NUL after them; false sets failed. */
static bool buf_reserve(struct buf *buf, size_t more) {
    if (buf->failed)
        return false;
    size_t max = buf->max ? buf->max : BUF_DEFAULT_MAX;
    max = max < SIZE_MAX ? max : SIZE_MAX - 1; /* and the NUL behind it */
    if (more > max || buf->len > max - more) {
        buf->failed = true;
        return false;
    }
    size_t needed = buf->len + more + 1;
    if (needed <= buf->cap)
        return true;
    size_t cap = buf->cap ? buf->cap : BUF_FIRST_CAP;
    while (cap < needed)
        cap *= 2;
    if (cap > max + 1)
        cap = max + 1;
    char *data = realloc(buf->data, cap);
    if (!data) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

void buf_append(struct buf *buf, const void *data, size_t len) {
    if (!buf_reserve(buf, len))
        return;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void buf_puts(struct buf *buf, const char *text) {
    buf_append(buf, text, strlen(text));
}

void buf_putc(struct buf *buf, char c) {
    buf_append(buf, &c, 1);
}

void buf_printf(struct buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(len >= 0);
    if (buf_reserve(buf, (size_t)len)) {
        vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

void buf_clear(struct buf *buf) {
    buf->len = 0;
    buf->failed = false;
    if (buf->data)
        buf->data[0] = '\0';
}

char *buf_take(struct buf *buf) {
    char *data = buf->data ? buf->data : mem_strdup("");
    *buf = (struct buf){.max = buf->max};
    return data;
}

void buf_fini(struct buf *buf) {
    free(buf->data);
    *buf = (struct buf){.max = buf->max};
}
