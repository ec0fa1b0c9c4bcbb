/* Memory that ends at a page that may not be touched, and whose bytes before are watched. Included
 * after cmocka.h. */
#ifndef DOCUSEARCH_TESTS_KERNEL_FENCED_H
#define DOCUSEARCH_TESTS_KERNEL_FENCED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct fenced {
    void *map;
    size_t map_bytes;
    void *data;
};

static inline void *fenced_new(struct fenced *out, size_t size_bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (size_bytes + page - 1) / page * page;
    out->map_bytes = inner + page;
    out->map = mmap(NULL, out->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
    assert_ptr_not_equal(out->map, MAP_FAILED);
    assert_int_equal(mprotect((char *)out->map + inner, page, PROT_NONE), 0);
    memset(out->map, 0xa5, inner);
    out->data = (char *)out->map + inner - size_bytes;
    return out->data;
}

/* Fails where the bytes before data have changed. */
static inline void fenced_free(struct fenced *fenced) {
    for (const uint8_t *p = fenced->map; p < (const uint8_t *)fenced->data; p++)
        assert_int_equal(*p, 0xa5);
    munmap(fenced->map, fenced->map_bytes);
}

#endif
