/* A SQLite VFS over the default one that fails, or kills the process, at the n-th operation that
 * changes a file (write, sync, truncate, delete). With fault_calls.c linked in, so does the
 * program's own n-th call for that, and both are counted as one. */
#ifndef TESTS_FAULT_VFS_H
#define TESTS_FAULT_VFS_H

enum fault { FAULT_NONE, FAULT_KILL, FAULT_EIO, FAULT_ENOSPC };

void fault_vfs_install(void); /* as the default VFS; once */
/* The n-th operation from now on (from 1) meets the fault. FAULT_EIO: it alone, as a failing disk
 * gives it. FAULT_ENOSPC: it and the two after it. */
void fault_vfs_arm(enum fault fault, int n);
int fault_vfs_count(void); /* operations since fault_vfs_arm */
/* Counts an operation; whether the fault is met by it (FAULT_KILL does not come back). */
enum fault fault_meet(void);
/* fault_calls.c: the n-th block of mem_try from now on (from 1) is not to be had; 0: all are. */
void fault_memory_arm(int n);
int fault_memory_count(void);

#endif
