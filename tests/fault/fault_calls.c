/* The program's own calls that change files, and mem_try, as the linker hands them over: each may
 * meet the fault that fault_vfs_arm set. */
#include "fault_vfs.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

ssize_t __real_pwrite64(int fd, const void *data, size_t len, off_t offset);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_ftruncate64(int fd, off_t len);
int __real_posix_fallocate64(int fd, off_t offset, off_t len);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
void *__real_mem_try(size_t n, size_t size_bytes, size_t max_bytes);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t offset);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_ftruncate64(int fd, off_t len);
int __wrap_posix_fallocate64(int fd, off_t offset, off_t len);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
void *__wrap_mem_try(size_t n, size_t size_bytes, size_t max_bytes);

/* Sets errno; false: go on. Space runs out in writes. */
static bool fails(bool takes_space) {
    switch (fault_meet()) {
    case FAULT_EIO:
        errno = EIO;
        return true;
    case FAULT_ENOSPC:
        errno = ENOSPC;
        return takes_space;
    case FAULT_NONE:
    case FAULT_KILL:
        break;
    }
    return false;
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t offset) {
    if (!fails(true))
        return __real_pwrite64(fd, data, len, offset);
    int failed = errno;
    __real_pwrite64(fd, data, len / 2, offset); /* it may have come half way */
    errno = failed;
    return -1;
}

int __wrap_fdatasync(int fd) {
    return fails(false) ? -1 : __real_fdatasync(fd);
}

int __wrap_fsync(int fd) {
    return fails(false) ? -1 : __real_fsync(fd);
}

int __wrap_ftruncate64(int fd, off_t len) {
    return fails(false) ? -1 : __real_ftruncate64(fd, len);
}

int __wrap_posix_fallocate64(int fd, off_t offset, off_t len) {
    return fails(true) ? errno : __real_posix_fallocate64(fd, offset, len);
}

int __wrap_rename(const char *from, const char *to) {
    return fails(true) ? -1 : __real_rename(from, to);
}

int __wrap_unlink(const char *path) {
    return fails(false) ? -1 : __real_unlink(path);
}

static atomic_int memory_n, n_blocks;

void fault_memory_arm(int n) {
    atomic_store(&n_blocks, 0);
    atomic_store(&memory_n, n);
}

int fault_memory_count(void) {
    return atomic_load(&n_blocks);
}

void *__wrap_mem_try(size_t n, size_t size_bytes, size_t max_bytes) {
    if (atomic_fetch_add(&n_blocks, 1) + 1 == atomic_load(&memory_n))
        return NULL;
    return __real_mem_try(n, size_bytes, max_bytes);
}
