/* A model out of a folder of files, such as a package holds: judged whole, copied with its hashes,
 * and from then on the same as one that was fetched. */
#include "model/place.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES ((size_t)1 << 20)
#define SPARE_BYTES ((int64_t)64 << 20) /* left free on the disk */

static bool copy_bytes(struct place_file *file, int to, int from, const char *path,
                       struct error *err) {
    struct sha256 *hash = sha256_new();
    char *scratch = mem_alloc(COPY_BYTES);
    ssize_t n;
    bool ok = true;
    file->size_bytes = 0;
    while (ok && ((n = read(from, scratch, COPY_BYTES)) > 0 || (n < 0 && errno == EINTR))) {
        if (n < 0)
            continue;
        ok = fd_write_all(to, scratch, (size_t)n, err);
        sha256_update(hash, scratch, (size_t)n);
        file->size_bytes += n;
    }
    if (ok && n < 0)
        ok = error_set_errno(err, errno, "read");
    if (ok && fsync(to) != 0)
        ok = error_set_errno(err, errno, "sync");
    sha256_finish(file->sha256, hash);
    mem_free(scratch);
    if (!ok)
        error_prefix(err, "%s: ", path);
    return ok;
}

static bool copy_file(struct place_file *file, struct arena *arena, const char *dir,
                      const char *folder, struct error *err) {
    const char *source = path_join(arena, folder, file->path);
    const char *path = path_join(arena, dir, file->path);
    const char *part = arena_printf(arena, "%s.part", path);
    const char *below = arena_strndup(arena, path, (size_t)(strrchr(path, '/') - path));
    if (!dir_make(below, err))
        return false;
    int from = open(source, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return error_set_errno(err, errno, "%s", source);
    int to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = to >= 0 || error_set_errno(err, errno, "%s", part);
    ok = ok && copy_bytes(file, to, from, part, err);
    close(from);
    if (to >= 0)
        close(to);
    if (ok && rename(part, path) != 0)
        ok = error_set_errno(err, errno, "%s", path);
    if (!ok && to >= 0)
        unlink(part);
    return ok && dir_sync(below, err);
}

static bool check_room(const struct settings *settings, const struct place_files *files,
                       struct error *err) {
    int64_t due = SPARE_BYTES, room;
    for (int i = 0; i < files->n; i++)
        due += files->items[i].size_bytes;
    if (!disk_free_bytes(&room, settings->models_dir, err))
        return false;
    if (room >= due)
        return true;
    return error_set_code(err, ERROR_IO, "disk_full",
                          "%.1f GB are needed on the disk of %s, which has %.1f GB free",
                          (double)due / 1e9, settings->models_dir, (double)room / 1e9);
}

static bool copy_all(struct arena *arena, const struct settings *settings, const char *name,
                     const char *folder, struct error *err) {
    const char *dir = place_dir(arena, settings, name);
    struct place_files files;
    place_walk(&files, arena, folder);
    if (!check_room(settings, &files, err) || !dir_make(dir, err))
        return false;
    if (unlink(path_join(arena, dir, PLACE_MANIFEST)) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "%s in %s", PLACE_MANIFEST, dir);
    for (int i = 0; i < files.n; i++) {
        if (!copy_file(&files.items[i], arena, dir, folder, err))
            return false;
    }
    return place_complete(dir, name, folder, "", "", &files, err) &&
           dir_sync(settings->models_dir, err);
}

/* The folder may not be the one that is to be made. */
static bool is_same(const char *folder, const char *dir) {
    struct stat x, y;
    return stat(folder, &x) == 0 && stat(dir, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

bool model_adopt(struct model_place *out, struct arena *arena, const struct settings *settings,
                 const char *name, const char *folder, struct error *err) {
    struct stat info;
    if (!place_name_valid(name))
        return error_set(err, ERROR_INPUT, "'%.100s' is not a model's name: owner/name", name);
    if (stat(folder, &info) != 0)
        return error_set_errno(err, errno, "%s", folder);
    if (!S_ISDIR(info.st_mode))
        return error_set(err, ERROR_INPUT, "%s is not a folder", folder);
    const char *problem = place_problem(arena, folder, "missing");
    if (problem)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %s", folder, problem);
    if (is_same(folder, place_dir(arena, settings, name)))
        return error_set(err, ERROR_CONFLICT, "%s is the folder of %s already", folder, name);
    int fd;
    if (!place_lock_take(&fd, settings, name, err))
        return false;
    bool ok = copy_all(arena, settings, name, folder, err);
    place_lock_drop(fd, settings, name);
    if (!ok)
        return false;
    model_locate(out, arena, settings, name);
    return true;
}
