/* check: folders, free disk, clock, and the limits that the system sets this program. */
#include "app/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_MS (24 * 3600 * (int64_t)1000)
#define OLDEST_NOW_MS 1735689600000 /* 2025: no clock that is right is before it */
#define FILES_WANTED 1024
#define FILES_LEAST 256
#define MAX_DEPTH 64
#define MAX_FOLDERS 1000000

/* ---- folders -------------------------------------------------------------------------------- */

/* "" or what keeps this program from using the folder. */
static const char *folder_problem(const char *path, int mode) {
    struct stat info;
    if (stat(path, &info) != 0)
        return strerror(errno);
    if (!S_ISDIR(info.st_mode))
        return strerror(ENOTDIR);
    return access(path, mode) == 0 ? "" : strerror(errno);
}

static void check_disk(struct checking *c) {
    int64_t bytes;
    struct error err;
    const char *dir = c->settings->data_dir;
    if (!disk_free_bytes(&bytes, dir, &err)) {
        check_finding(c, VERDICT_WRONG, "disk", err.text,
                      "make the data folder readable and writable");
        return;
    }
    bool enough = bytes > (int64_t)1 << 30;
    check_say(c, enough ? VERDICT_OK : VERDICT_WRONG, "disk",
              enough ? "" : "uploads are refused below 256 MiB: make room or move DATA_DIR",
              "%.1f GiB free", (double)bytes / (1 << 30));
}

static void check_data_folder(struct checking *c) {
    const char *dir = c->settings->data_dir, *problem = folder_problem(dir, R_OK | W_OK | X_OK);
    if (*problem)
        check_say(c, VERDICT_WRONG, "data folder", "make the data folder readable and writable",
                  "%s: %s", dir, problem);
    else
        check_finding(c, VERDICT_OK, "data folder", dir, "");
}

static void check_uploads(struct checking *c) {
    const char *dir = c->settings->uploads_dir, *problem = folder_problem(dir, R_OK | W_OK | X_OK);
    if (*problem)
        check_say(c, VERDICT_WRONG, "uploads folder",
                  "UPLOADS_DIR is where Copyparty puts files: make it a folder that this user "
                  "reads and writes, the same one that Copyparty's volume is",
                  "%s: %s", dir, problem);
    else
        check_finding(c, VERDICT_OK, "uploads folder", dir, "");
    for (int i = 0; i < c->settings->n_ingest_roots; i++) {
        const char *root = c->settings->ingest_roots[i];
        problem = folder_problem(root, R_OK | X_OK);
        if (strcmp(root, dir) == 0)
            continue;
        if (*problem)
            check_say(c, VERDICT_WRONG, "ingest root",
                      "/process and the hook's files are refused from there: correct INGEST_ROOTS "
                      "(and HOOK_PATH_MAP, where a container has other paths), or mount the folder",
                      "%s: %s", root, problem);
        else
            check_finding(c, VERDICT_OK, "ingest root", root, "");
    }
}

/* A database from tomorrow, or a year before this program, says that the clock is wrong. */
static void check_clock(struct checking *c) {
    char now[TIME_ISO];
    struct stat info;
    int64_t now_ms = time_wall_ms();
    time_iso(now, now_ms);
    char *path = mem_printf("%s/docusearch.db", c->settings->data_dir);
    bool later = stat(path, &info) == 0 && (int64_t)info.st_mtime * 1000 > now_ms + DAY_MS;
    bool early = now_ms < OLDEST_NOW_MS;
    mem_free(path);
    check_say(c, early || later ? VERDICT_WRONG : VERDICT_OK, "clock",
              early || later ? "set the clock (timedatectl set-ntp true): times of documents, "
                               "certificates and workers that share a store go by it"
                             : "",
              "%s%s", now,
              later   ? ", before the time that the database was last written"
              : early ? ", which cannot be"
                      : "");
}

void check_folders(struct checking *c) {
    check_disk(c);
    check_data_folder(c);
    check_uploads(c);
    check_clock(c);
}

int64_t check_number_in(const char *path) {
    char *data = NULL;
    size_t len;
    struct error ignored;
    int64_t value = -1;
    if (file_read(&data, &len, path, 4096, &ignored)) {
        data[strcspn(data, "\n")] = '\0';
        if (!text_to_int(&value, data, 0, INT64_MAX, path, &ignored))
            value = -1;
    }
    mem_free(data);
    return value;
}

/* ---- limits --------------------------------------------------------------------------------- */

static void check_files(struct checking *c) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    bool few = limit.rlim_cur < FILES_WANTED, wrong = limit.rlim_cur < FILES_LEAST;
    check_say(c,
              wrong ? VERDICT_WRONG
              : few ? VERDICT_NOTE
                    : VERDICT_OK,
              "open files",
              few ? "connections and vector segments each take one: `ulimit -n 4096`, or "
                    "LimitNOFILE=4096 in the service"
                  : "",
              "at most %llu", (unsigned long long)limit.rlim_cur);
}

#ifdef __linux__
/* Folders below dir, as they are watched: links are not followed, and names with a dot left out. */
static void count_folders(int64_t *n, const char *dir, int depth) {
    DIR *open_dir = depth <= MAX_DEPTH && *n < MAX_FOLDERS ? opendir(dir) : NULL;
    if (!open_dir)
        return;
    ++*n;
    for (struct dirent *entry = readdir(open_dir); entry; entry = readdir(open_dir)) {
        struct stat info;
        if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) ||
            fstatat(dirfd(open_dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(info.st_mode))
            continue;
        char *path = mem_printf("%s/%s", dir, entry->d_name);
        count_folders(n, path, depth + 1);
        mem_free(path);
    }
    closedir(open_dir);
}

/* The system's limit, and the one of a container's users. */
static void check_watches(struct checking *c) {
    int64_t n = 0, most = check_number_in("/proc/sys/fs/inotify/max_user_watches");
    int64_t of_users = check_number_in("/proc/sys/user/max_inotify_watches");
    const char *name = "fs.inotify.max_user_watches";
    if (of_users >= 0 && (most < 0 || of_users < most)) {
        most = of_users;
        name = "user.max_inotify_watches";
    }
    if (most < 0)
        return;
    count_folders(&n, c->settings->uploads_dir, 0);
    bool enough = n <= most;
    char *advice = mem_printf("folders past the limit are looked at only now and then: "
                              "sysctl -w %s=%" PRId64 ", and the same line in /etc/sysctl.d",
                              name, 2 * n > 8192 ? 2 * n : 8192);
    check_say(c, enough ? VERDICT_OK : VERDICT_WRONG, "watches", enough ? "" : advice,
              "%" PRId64 " folders below UPLOADS_DIR, of at most %" PRId64 " (%s)", n, most, name);
    mem_free(advice);
}
#else
static void check_watches(struct checking *c) {
    (void)c;
}
#endif

void check_limits(struct checking *c) {
    check_files(c);
    check_watches(c);
}
