/* Landlock: which files a child may touch. Debian's headers stop at an early version, so the
 * constants are our own (kernel: Documentation/userspace-api/landlock.rst). */
#include "sandbox/internal.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1

/* LANDLOCK_ACCESS_FS_* */
#define FS_EXECUTE (UINT64_C(1) << 0)
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_READ_DIR (UINT64_C(1) << 3)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_SOCK (UINT64_C(1) << 9)
#define FS_ABI1 ((UINT64_C(1) << 13) - 1)
#define FS_REFER (UINT64_C(1) << 13)     /* ABI 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define NET_TCP UINT64_C(3)   /* ABI 4: bind, connect */
#define SCOPE_ALL UINT64_C(3) /* ABI 6: abstract sockets, signals */

struct ruleset_attr {
    uint64_t fs, net, scoped;
};
struct path_attr {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

static const char *const system_dirs[] = {
    "/usr",
    "/lib",
    "/lib64",
    "/etc",
    "/proc",
    "/sys/devices/system/cpu",
    "/var/spool/libreoffice",
    "/var/cache/fontconfig",
    "/var/lib/libreoffice",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
};

static bool allow(int ruleset, const char *path, uint64_t rights, struct error *err) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return true; /* not on this machine */
    struct stat st;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
        rights &= FS_OF_FILES;
    struct path_attr attr = {.allowed = rights, .fd = fd};
    long rc = syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0);
    int add_errno = errno;
    close(fd);
    return rc == 0 ? true : error_set_errno(err, add_errno, "landlock rule for %s", path);
}

int landlock_enter(const struct sandbox_lock *lock, struct error *err) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    if (abi < 1)
        return 0;
    uint64_t all = FS_ABI1;
    if (abi >= 2)
        all |= FS_REFER;
    if (abi >= 3)
        all |= FS_TRUNCATE;
    if (abi >= 5)
        all |= FS_IOCTL_DEV;
    struct ruleset_attr attr = {.fs = all, .net = NET_TCP, .scoped = SCOPE_ALL};
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0)
        return 0;

    bool fine = true;
    if (lock->kind == SANDBOX_CONVERTER) {
        uint64_t reading = FS_READ_FILE | FS_READ_DIR | FS_EXECUTE;
        for (size_t i = 0; fine && i < BASE_COUNT(system_dirs); i++)
            fine = allow(ruleset, system_dirs[i], reading, err);
        for (const char *const *dir = lock->read_dirs; fine && dir && *dir; dir++)
            fine = allow(ruleset, *dir, reading, err);
        if (lock->socket_dir)
            fine = fine && allow(ruleset, lock->socket_dir, FS_MAKE_SOCK | FS_REMOVE_FILE, err);
        fine = fine && allow(ruleset, "/dev/null", reading | FS_WRITE_FILE, err) &&
               allow(ruleset, lock->private_dir, all & ~FS_IOCTL_DEV, err);
    }
    if (fine && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        fine = error_set_errno(err, errno, "landlock");
    close(ruleset);
    return fine ? (int)abi : -1;
}

#else

int landlock_enter(const struct sandbox_lock *lock, struct error *err) {
    (void)lock;
    (void)err;
    return 0;
}

#endif
