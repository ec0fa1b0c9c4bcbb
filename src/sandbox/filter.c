/* The system-call filter (seccomp-bpf), assembled here instruction by instruction.
 *
 * Pure: a short list is allowed, some calls are refused with EACCES since libraries try them and go
 * on (opening a file, asking a terminal), all else kills. No memory becomes executable.
 * Converter: LibreOffice needs most of what a program does, so a list is refused: other address
 * families than AF_UNIX and connecting at all, new processes, and the calls that reach for other
 * processes or deep into the kernel. */
#include "sandbox/internal.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef OUR_ARCH

#define MAX_CODE 768
#define REFUSE(errnum) (SECCOMP_RET_ERRNO | (errnum))

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000u
#endif

struct program {
    struct sock_filter code[MAX_CODE];
    unsigned n;
};

static void emit(struct program *p, uint16_t op, uint32_t k, uint8_t if_true, uint8_t if_false) {
    if (p->n < MAX_CODE)
        p->code[p->n++] = (struct sock_filter){op, if_true, if_false, k};
}
static void load(struct program *p, size_t offset) {
    emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}
static void load_nr(struct program *p) {
    load(p, offsetof(struct seccomp_data, nr));
}
/* Little-endian: the low half of the argument. */
static void load_arg(struct program *p, int i) {
    load(p, offsetof(struct seccomp_data, args) + (size_t)i * 8);
}
static void load_arg_high(struct program *p, int i) {
    load(p, offsetof(struct seccomp_data, args) + (size_t)i * 8 + 4);
}
static void give(struct program *p, uint32_t verdict) {
    emit(p, BPF_RET | BPF_K, verdict, 0, 0);
}
/* The number is loaded: `verdict` for this call. */
static void rule(struct program *p, long nr, uint32_t verdict) {
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1);
    give(p, verdict);
}
/* What follows up to rule_end is for this call alone, and must give a verdict. */
static unsigned rule_begin(struct program *p, long nr) {
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 0);
    return p->n - 1;
}
static void rule_end(struct program *p, unsigned begin) {
    if (begin < MAX_CODE)
        p->code[begin].jf = (uint8_t)(p->n - begin - 1);
}
static void if_equal(struct program *p, uint32_t value, uint32_t verdict) {
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    give(p, verdict);
}
static void if_any_bit(struct program *p, uint32_t bits, uint32_t verdict) {
    emit(p, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    give(p, verdict);
}

static const int pure_allowed[] = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_recvmsg,
    SYS_lseek,
    SYS_pread64,
    SYS_close,
    SYS_fstat,
    SYS_munmap,
    SYS_mremap,
    SYS_brk,
    SYS_madvise,
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_rt_sigreturn,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_sigaltstack,
    SYS_restart_syscall,
    SYS_getpid,
    SYS_gettid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getrusage,
    SYS_times,
    SYS_sysinfo,
    SYS_uname,
    SYS_getrandom,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_getcpu,
    SYS_ppoll,
    SYS_get_robust_list,
    SYS_set_robust_list,
#ifdef SYS_poll
    SYS_poll,
#endif
#ifdef SYS_time
    SYS_time,
#endif
};

static const int pure_refused[] = {
    SYS_openat,     SYS_faccessat,
    SYS_statx,      SYS_readlinkat,
    SYS_unlinkat,   SYS_mkdirat,
    SYS_mknodat,    SYS_renameat2,
    SYS_linkat,     SYS_symlinkat,
    SYS_fchmodat,   SYS_fchownat,
    SYS_statfs,     SYS_fstatfs,
    SYS_getcwd,     SYS_chdir,
    SYS_getdents64, SYS_truncate,
    SYS_ftruncate,  SYS_memfd_create,
    SYS_socket,     SYS_socketpair,
    SYS_connect,    SYS_bind,
    SYS_listen,     SYS_sendto,
    SYS_sendmsg,    SYS_ioctl,
    SYS_execve,     SYS_execveat,
    SYS_clone,      SYS_kill,
    SYS_tkill,      SYS_prctl,
    SYS_pipe2,      SYS_dup,
    SYS_dup3,       SYS_sched_setaffinity,
    SYS_setrlimit,
#ifdef SYS_open
    SYS_open,       SYS_creat,
    SYS_access,     SYS_stat,
    SYS_lstat,      SYS_readlink,
    SYS_unlink,     SYS_mkdir,
    SYS_rename,     SYS_link,
    SYS_symlink,    SYS_chmod,
    SYS_chown,      SYS_fork,
    SYS_vfork,      SYS_pipe,
    SYS_dup2,       SYS_rmdir,
    SYS_getdents,
#endif
#ifdef SYS_openat2
    SYS_openat2,
#endif
#ifdef SYS_faccessat2
    SYS_faccessat2,
#endif
};

static void pure_rules(struct program *p, uint32_t otherwise) {
    for (size_t i = 0; i < BASE_COUNT(pure_allowed); i++)
        rule(p, pure_allowed[i], SECCOMP_RET_ALLOW);

    static const int mapping[] = {SYS_mmap, SYS_mprotect};
    for (size_t i = 0; i < BASE_COUNT(mapping); i++) {
        unsigned begin = rule_begin(p, mapping[i]);
        load_arg(p, 2);
        if_any_bit(p, PROT_EXEC, REFUSE(EACCES));
        give(p, SECCOMP_RET_ALLOW);
        rule_end(p, begin);
    }
    unsigned begin = rule_begin(p, SYS_tgkill); /* abort() */
    load_arg(p, 0);
    if_equal(p, (uint32_t)getpid(), SECCOMP_RET_ALLOW);
    give(p, REFUSE(EACCES));
    rule_end(p, begin);

    begin = rule_begin(p, SYS_newfstatat); /* fstat, as libc spells it */
    load_arg(p, 3);
    if_equal(p, AT_EMPTY_PATH, SECCOMP_RET_ALLOW);
    give(p, REFUSE(EACCES));
    rule_end(p, begin);

    begin = rule_begin(p, SYS_fcntl);
    load_arg(p, 1);
    if_equal(p, F_GETFL, SECCOMP_RET_ALLOW);
    if_equal(p, F_GETFD, SECCOMP_RET_ALLOW);
    give(p, REFUSE(EACCES));
    rule_end(p, begin);

    /* Any limit of ours may be asked for; only the processor's is set, before each document. */
    begin = rule_begin(p, SYS_prlimit64);
    load_arg(p, 0);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    give(p, REFUSE(EACCES));
    load_arg(p, 1);
    if_equal(p, RLIMIT_CPU, SECCOMP_RET_ALLOW);
    load_arg(p, 2);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    give(p, REFUSE(EACCES));
    load_arg_high(p, 2);
    if_equal(p, 0, SECCOMP_RET_ALLOW);
    give(p, REFUSE(EACCES));
    rule_end(p, begin);

#ifdef SYS_clone3
    rule(p, SYS_clone3, REFUSE(ENOSYS));
#endif
#ifdef SYS_rseq
    rule(p, SYS_rseq, REFUSE(ENOSYS));
#endif
    for (size_t i = 0; i < BASE_COUNT(pure_refused); i++)
        rule(p, pure_refused[i], REFUSE(EACCES));
    give(p, otherwise);
}

static const int converter_refused[] = {
    SYS_connect,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_bpf,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_unshare,
    SYS_setns,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_setsid,
    SYS_setpgid,
    SYS_personality,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_quotactl,
    SYS_acct,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_syslog,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_vhangup,
    SYS_fanotify_init,
    SYS_mknodat,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_lookup_dcookie,
#ifdef SYS_modify_ldt
    SYS_modify_ldt,
    SYS_iopl,
    SYS_ioperm,
    SYS_mknod,
#endif
#ifdef SYS_io_uring_setup
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
#endif
#ifdef SYS_pidfd_getfd
    SYS_pidfd_getfd,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
#endif
#ifdef SYS_open_tree
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
#endif
};

#define NEW_NAMESPACES                                                                             \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

static void converter_rules(struct program *p, bool may_exec) {
    for (size_t i = 0; i < BASE_COUNT(converter_refused); i++)
        rule(p, converter_refused[i], REFUSE(EPERM));

    static const int sockets[] = {SYS_socket, SYS_socketpair};
    for (size_t i = 0; i < BASE_COUNT(sockets); i++) {
        unsigned begin = rule_begin(p, sockets[i]);
        load_arg(p, 0);
        if_equal(p, AF_UNIX, SECCOMP_RET_ALLOW);
        give(p, REFUSE(EACCES));
        rule_end(p, begin);
    }
    unsigned begin = rule_begin(p, SYS_clone);
    load_arg(p, 0);
    if_any_bit(p, NEW_NAMESPACES, REFUSE(EPERM));
    if (!may_exec)
        emit(p, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
    give(p, may_exec ? SECCOMP_RET_ALLOW : REFUSE(EPERM));
    give(p, SECCOMP_RET_ALLOW);
    rule_end(p, begin);
#ifdef SYS_clone3
    /* Its flags lie in memory, out of sight: libc falls back to clone. */
    rule(p, SYS_clone3, REFUSE(ENOSYS));
#endif
    if (!may_exec) {
        rule(p, SYS_execve, REFUSE(EPERM));
        rule(p, SYS_execveat, REFUSE(EPERM));
#ifdef SYS_fork
        rule(p, SYS_fork, REFUSE(EPERM));
        rule(p, SYS_vfork, REFUSE(EPERM));
#endif
        rule(p, SYS_tkill, REFUSE(EPERM));
        rule(p, SYS_rt_sigqueueinfo, REFUSE(EPERM));
        rule(p, SYS_rt_tgsigqueueinfo, REFUSE(EPERM));
        /* Signals, and limits that end in one: to itself, its own group. */
        static const int to_itself[] = {SYS_kill, SYS_tgkill, SYS_prlimit64};
        for (size_t i = 0; i < BASE_COUNT(to_itself); i++) {
            begin = rule_begin(p, to_itself[i]);
            load_arg(p, 0);
            if_equal(p, 0, SECCOMP_RET_ALLOW);
            if_equal(p, (uint32_t)getpid(), SECCOMP_RET_ALLOW);
            give(p, REFUSE(EPERM));
            rule_end(p, begin);
        }
    }
    give(p, SECCOMP_RET_ALLOW);
}

#if defined(FAULT_POINTS) && !defined(SANDBOX_SANITIZED)
/* Test builds with DOCUSEARCH_SANDBOX_TRACE set name the forbidden call before they die of it. */
static void on_trap(int signum, siginfo_t *info, void *context) {
    (void)context;
    char text[64];
    int n = snprintf(text, sizeof text, "sandbox: forbidden system call %d\n", info->si_syscall);
    ssize_t written = write(2, text, (size_t)n);
    (void)written;
    signal(signum, SIG_DFL);
    raise(signum);
}
#endif

static uint32_t default_verdict(void) {
#ifdef SANDBOX_SANITIZED
    return REFUSE(EACCES);
#else
#ifdef FAULT_POINTS
    if (getenv("DOCUSEARCH_SANDBOX_TRACE")) {
        struct sigaction act = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
        sigaction(SIGSYS, &act, NULL);
        return SECCOMP_RET_TRAP;
    }
#endif
    return SECCOMP_RET_KILL_PROCESS;
#endif
}

bool filter_enter(const struct sandbox_lock *lock) {
    struct program *p = mem_alloc(sizeof *p);
    load(p, offsetof(struct seccomp_data, arch));
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
    give(p, SECCOMP_RET_KILL_PROCESS);
    load_nr(p);
#ifdef X32_BIT
    emit(p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    give(p, SECCOMP_RET_KILL_PROCESS);
#endif
    if (lock->kind == SANDBOX_PURE)
        pure_rules(p, default_verdict());
    else
        converter_rules(p, lock->may_exec);

    struct sock_fprog program = {.len = (unsigned short)p->n, .filter = p->code};
    bool entered = p->n < MAX_CODE && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    mem_free(p);
    return entered;
}

#else

bool filter_enter(const struct sandbox_lock *lock) {
    (void)lock;
    return false;
}

#endif
#endif
