/* See fault_vfs.h. Only what the store's databases use is passed on; memory mapping is not. */
#include "fault_vfs.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; /* stands behind this struct */
};

static sqlite3_vfs *real_vfs, vfs;
static sqlite3_io_methods methods;
static enum fault armed;
static int armed_n;
static atomic_int n_operations;

enum fault fault_meet(void) {
    int n = atomic_fetch_add(&n_operations, 1) + 1;
    switch (armed) {
    case FAULT_NONE:
        break;
    case FAULT_KILL:
        if (n == armed_n)
            kill(getpid(), SIGKILL);
        break;
    case FAULT_EIO:
        return n == armed_n ? FAULT_EIO : FAULT_NONE;
    case FAULT_ENOSPC:
        return n >= armed_n && n < armed_n + 3 ? FAULT_ENOSPC : FAULT_NONE;
    }
    return FAULT_NONE;
}

/* SQLITE_OK, or what this operation is to fail with. */
static int meet(int io_error) {
    enum fault fault = fault_meet();
    return fault == FAULT_EIO ? io_error : fault == FAULT_ENOSPC ? SQLITE_FULL : SQLITE_OK;
}

#define REAL(file) (((struct fault_file *)(file))->real)

static int file_close(sqlite3_file *file) {
    return REAL(file)->pMethods->xClose(REAL(file));
}
static int file_read(sqlite3_file *file, void *data, int len, sqlite3_int64 off) {
    return REAL(file)->pMethods->xRead(REAL(file), data, len, off);
}
static int file_write(sqlite3_file *file, const void *data, int len, sqlite3_int64 off) {
    int rc = meet(SQLITE_IOERR_WRITE);
    if (rc == SQLITE_OK)
        return REAL(file)->pMethods->xWrite(REAL(file), data, len, off);
    /* A write that fails may have come half way. */
    REAL(file)->pMethods->xWrite(REAL(file), data, len / 2, off);
    return rc;
}
static int file_truncate(sqlite3_file *file, sqlite3_int64 size) {
    int rc = meet(SQLITE_IOERR_TRUNCATE);
    return rc == SQLITE_OK ? REAL(file)->pMethods->xTruncate(REAL(file), size) : rc;
}
static int file_sync(sqlite3_file *file, int flags) {
    int rc = meet(SQLITE_IOERR_FSYNC);
    if (rc == SQLITE_FULL)
        rc = SQLITE_OK; /* space runs out in writes */
    return rc == SQLITE_OK ? REAL(file)->pMethods->xSync(REAL(file), flags) : rc;
}
static int file_size(sqlite3_file *file, sqlite3_int64 *size) {
    return REAL(file)->pMethods->xFileSize(REAL(file), size);
}
static int file_lock(sqlite3_file *file, int level) {
    return REAL(file)->pMethods->xLock(REAL(file), level);
}
static int file_unlock(sqlite3_file *file, int level) {
    return REAL(file)->pMethods->xUnlock(REAL(file), level);
}
static int file_check_lock(sqlite3_file *file, int *held) {
    return REAL(file)->pMethods->xCheckReservedLock(REAL(file), held);
}
static int file_control(sqlite3_file *file, int op, void *arg) {
    return REAL(file)->pMethods->xFileControl(REAL(file), op, arg);
}
static int file_sector(sqlite3_file *file) {
    return REAL(file)->pMethods->xSectorSize(REAL(file));
}
static int file_traits(sqlite3_file *file) {
    return REAL(file)->pMethods->xDeviceCharacteristics(REAL(file));
}
static int shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out) {
    return REAL(file)->pMethods->xShmMap(REAL(file), page, size, extend, out);
}
static int shm_lock(sqlite3_file *file, int offset, int n, int flags) {
    return REAL(file)->pMethods->xShmLock(REAL(file), offset, n, flags);
}
static void shm_barrier(sqlite3_file *file) {
    REAL(file)->pMethods->xShmBarrier(REAL(file));
}
static int shm_unmap(sqlite3_file *file, int remove) {
    return REAL(file)->pMethods->xShmUnmap(REAL(file), remove);
}

static int vfs_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags,
                    int *out_flags) {
    (void)self;
    struct fault_file *ours = (struct fault_file *)file;
    ours->real = (sqlite3_file *)(ours + 1);
    int rc = real_vfs->xOpen(real_vfs, name, ours->real, flags, out_flags);
    ours->base.pMethods = ours->real->pMethods ? &methods : NULL;
    return rc;
}

static int vfs_delete(sqlite3_vfs *self, const char *name, int sync_dir) {
    (void)self;
    int rc = meet(SQLITE_IOERR_DELETE);
    return rc == SQLITE_OK ? real_vfs->xDelete(real_vfs, name, sync_dir) : rc;
}

void fault_vfs_install(void) {
    methods = (sqlite3_io_methods){
        .iVersion = 2,
        .xClose = file_close,
        .xRead = file_read,
        .xWrite = file_write,
        .xTruncate = file_truncate,
        .xSync = file_sync,
        .xFileSize = file_size,
        .xLock = file_lock,
        .xUnlock = file_unlock,
        .xCheckReservedLock = file_check_lock,
        .xFileControl = file_control,
        .xSectorSize = file_sector,
        .xDeviceCharacteristics = file_traits,
        .xShmMap = shm_map,
        .xShmLock = shm_lock,
        .xShmBarrier = shm_barrier,
        .xShmUnmap = shm_unmap,
    };
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.zName = "fault";
    vfs.szOsFile = (int)sizeof(struct fault_file) + real_vfs->szOsFile;
    vfs.xOpen = vfs_open;
    vfs.xDelete = vfs_delete;
    sqlite3_vfs_register(&vfs, 1);
}

void fault_vfs_arm(enum fault fault, int n) {
    armed = fault;
    armed_n = n;
    atomic_store(&n_operations, 0);
}

int fault_vfs_count(void) {
    return atomic_load(&n_operations);
}
