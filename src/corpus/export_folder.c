/* Where an export is made. A folder that we did not make is never emptied: what is ours has a mark
 * in it while it is partial, and export.json when it is whole. */
#include "corpus/export_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK ".docusearch-export"
#define RESERVE_BYTES ((int64_t)16 << 20)

/* ---- where ---------------------------------------------------------------------------------- */

static bool is_there(const char *folder, const char *name) {
    char *path = mem_printf("%s/%s", folder, name);
    bool there = access(path, F_OK) == 0;
    mem_free(path);
    return there;
}

/* Is the folder empty, or missing? */
static bool is_empty(const char *folder, const char *but) {
    DIR *dir = opendir(folder);
    bool empty = true;
    if (!dir)
        return errno == ENOENT;
    for (struct dirent *entry = readdir(dir); entry && empty; entry = readdir(dir))
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, but) == 0;
    closedir(dir);
    return empty;
}

/* An export that was cut off between its two renamings is there again. */
static bool recover(struct export_folder *x, struct error *err) {
    char *away = mem_printf("%s.old", x->path);
    bool ok = true;
    if (is_there(away, EXPORT_HEAD) && access(x->path, F_OK) != 0)
        ok = rename(away, x->path) == 0 || error_set_errno(err, errno, "%s", x->path);
    else if (is_there(away, EXPORT_HEAD) && is_there(x->path, EXPORT_HEAD))
        ok = dir_remove(away, err);
    mem_free(away);
    return ok;
}

static bool open_old(struct export_folder *x, struct error *err) {
    int64_t unused;
    if (!recover(x, err))
        return false;
    if (!is_there(x->path, EXPORT_HEAD)) {
        return is_empty(x->path, ".") ||
               error_set_code(err, ERROR_CONFLICT, "not_empty",
                              "%s is not empty, and holds no export", x->path);
    }
    x->old = mem_strdup(x->path);
    return corpus_sums_read(&x->old_sums, &unused, x->path, err);
}

/* DIR.partial, ours alone and empty. */
static bool open_partial(struct export_folder *x, struct error *err) {
    char *mark = mem_printf("%s/" MARK, x->partial);
    bool ours = is_there(x->partial, MARK) || is_empty(x->partial, ".");
    bool ok = (ours ||
               error_set_code(err, ERROR_CONFLICT, "not_empty",
                              "%s is not empty, and no export that was cut off", x->partial)) &&
              dir_make(x->partial, err);
    if (ok) {
        x->mark = open(mark, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        ok = x->mark >= 0 || error_set_errno(err, errno, "%s", mark);
    }
    if (ok && flock(x->mark, LOCK_EX | LOCK_NB) != 0)
        ok = error_set(err, ERROR_BUSY, "another export is writing %s", x->partial);
    if (!ok && x->mark >= 0) {
        close(x->mark);
        x->mark = -1;
    }
    static const char *const left[] = {"documents", "vectors", "tmp", EXPORT_SUMS, EXPORT_HEAD};
    for (size_t i = 0; i < BASE_COUNT(left) && ok; i++) {
        char *path = mem_printf("%s/%s", x->partial, left[i]);
        ok = dir_remove(path, err);
        mem_free(path);
    }
    mem_free(mark);
    return ok;
}

/* Of all files below dir. */
static int64_t tree_bytes(const char *dir) {
    DIR *open_dir = opendir(dir);
    int64_t n = 0;
    for (struct dirent *entry = open_dir ? readdir(open_dir) : NULL; entry;
         entry = readdir(open_dir)) {
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(open_dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISREG(info.st_mode))
            n += info.st_size;
        if (S_ISDIR(info.st_mode)) {
            char *path = mem_printf("%s/%s", dir, entry->d_name);
            n += tree_bytes(path);
            mem_free(path);
        }
    }
    if (open_dir)
        closedir(open_dir);
    return n;
}

bool corpus_export_open(struct export_folder *out, const char *path, struct error *err) {
    *out = (struct export_folder){.path = path, .mark = -1};
    out->partial = mem_printf("%s.partial", path);
    return open_old(out, err) && open_partial(out, err);
}

void corpus_export_close(struct export_folder *folder, bool drop) {
    struct error ignored;
    if (drop && folder->mark >= 0)
        dir_remove(folder->partial, &ignored);
    if (folder->mark >= 0)
        close(folder->mark);
    corpus_sums_fini(&folder->old_sums);
    mem_free(folder->partial);
    mem_free(folder->old);
}

bool corpus_export_room(bool *links, const struct export_folder *x, const char *data_dir,
                        struct error *err) {
    static const char *const parts[] = {EXPORT_DATABASE, EXPORT_DATABASE "-wal"};
    int64_t need = RESERVE_BYTES, there;
    bool found;
    char *from = mem_printf("%s/" EXPORT_DATABASE, data_dir);
    char *to = mem_printf("%s/probe", x->partial);
    unlink(to);
    *links = link(from, to) == 0;
    unlink(to);
    mem_free(from);
    mem_free(to);
    for (size_t i = 0; i < BASE_COUNT(parts); i++) {
        struct carried file;
        char *path = mem_printf("%s/%s", data_dir, parts[i]);
        struct error ignored;
        if (corpus_carry_look(&file, &found, path, &ignored))
            need += file.size_bytes;
        mem_free(path);
    }
    const char *trees[] = {"vectors", *links || x->old ? NULL : "documents"};
    for (size_t i = 0; i < BASE_COUNT(trees) && trees[i]; i++) {
        char *path = mem_printf("%s/%s", data_dir, trees[i]);
        need += tree_bytes(path);
        mem_free(path);
    }
    if (!disk_free_bytes(&there, x->partial, err))
        return false;
    return there >= need ||
           error_set_code(err, ERROR_IO, "disk_full",
                          "%" PRId64 " MiB are free at %s, where %" PRId64 " are needed",
                          there >> 20, x->path, (need >> 20) + 1);
}

bool corpus_export_sync(const struct export_folder *x, struct error *err) {
#ifdef __linux__
    return syncfs(x->mark) == 0 || error_set_errno(err, errno, "sync of %s", x->partial);
#else
    (void)err;
    (void)x;
    sync();
    return true;
#endif
}

bool corpus_export_swap(const struct export_folder *x, struct error *err) {
    char *away = mem_printf("%s.old", x->path), *mark = mem_printf("%s/" MARK, x->partial);
    bool ok = !x->old || rename(x->path, away) == 0 || error_set_errno(err, errno, "%s", away);
    if (ok && x->old)
        fault_point("export_swapping");
    if (ok && !x->old && rmdir(x->path) != 0 && errno != ENOENT)
        ok = error_set_errno(err, errno, "%s", x->path);
    if (ok && rename(x->partial, x->path) != 0)
        ok = error_set_errno(err, errno, "%s", x->path);
    mem_free(mark);
    mark = mem_printf("%s/" MARK, x->path);
    if (ok)
        unlink(mark);
    char *parent = mem_printf("%s/..", x->path);
    ok = ok && dir_sync(parent, err) && (!x->old || dir_remove(away, err));
    mem_free(parent);
    mem_free(mark);
    mem_free(away);
    return ok;
}
