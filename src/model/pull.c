/* Fetching a model: the hub's listing, then each file into <path>.part, hashed as it comes, synced,
 * renamed; docusearch.json last.
 *
 * 1. A file under its own name has the right hash, or came with another revision: it is hashed
 *    before it is kept.
 * 2. A .part is believed no further than its hash: what was there is hashed again before more is
 *    asked for. A resumed part that turns out wrong is fetched anew once; one that came whole and
 *    is wrong is the hub's fault, removed and named.
 * 3. From before the first change of a folder until after the last it has no docusearch.json. */
#include "model/place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BASES 2
#define MAX_REVISION 200
#define SPARE_BYTES ((int64_t)64 << 20) /* left free on the disk */
#define READ_BYTES ((size_t)1 << 20)

struct pull {
    struct arena *arena;
    const struct settings *settings;
    const struct pull_progress *progress;
    struct hub *hub;
    const char *name, *dir;
    bool is_base;
    struct hub_listing listing;
    int i, n; /* of files, for progress */
};
/* A file on its way. */
struct part {
    struct pull *pull;
    const struct place_file *file;
    char *path;
    int fd;
    int64_t at_byte;
    struct sha256 *hash; /* of the bytes before at_byte */
};

static bool wrong_file(struct error *err, const struct pull *p, const char *path,
                       const char *what) {
    return error_set_code(err, ERROR_INPUT, "checksum_mismatch", "%s of %s: %s", path, p->name,
                          what);
}

/* ---- progress ------------------------------------------------------------------------------- */

static bool tell(const struct pull *p, const char *file, int64_t done_bytes, int64_t total_bytes) {
    if (!p->progress)
        return true;
    char *said = p->is_base && file[0] ? mem_printf("%s/%s", p->name, file) : mem_strdup(file);
    bool more = p->progress->file(p->progress->ctx, said, p->i, p->n, done_bytes, total_bytes);
    mem_free(said);
    return more;
}

static bool tick_listing(void *ctx) {
    return tell(ctx, "", 0, -1);
}

static bool tick_part(void *ctx) {
    const struct part *part = ctx;
    return tell(part->pull, part->file->path, part->at_byte, part->file->size_bytes);
}

static bool cancelled(struct error *err) {
    return error_set_code(err, ERROR_CONFLICT, "cancelled", "cancelled");
}

/* ---- parts ---------------------------------------------------------------------------------- */

static void restart_hash(struct part *part) {
    char unused[SHA256_HEX + 1];
    if (part->hash)
        sha256_finish(unused, part->hash);
    part->hash = sha256_new();
    part->at_byte = 0;
}

/* Hashes what an earlier pull left in the part; at_byte is then its length. */
static bool read_back(struct part *part, struct error *err) {
    char *scratch = mem_alloc(READ_BYTES);
    ssize_t n = 0;
    bool ok = true;
    while (ok && ((n = read(part->fd, scratch, READ_BYTES)) > 0 || (n < 0 && errno == EINTR))) {
        if (n < 0)
            continue;
        sha256_update(part->hash, scratch, (size_t)n);
        part->at_byte += n;
        ok = tick_part(part) || cancelled(err);
    }
    if (n < 0 && ok)
        ok = error_set_errno(err, errno, "%s", part->path);
    mem_free(scratch);
    return ok;
}

static bool part_open(struct part *part, struct error *err) {
    part->fd = open(part->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat info;
    if (part->fd < 0 || fstat(part->fd, &info) != 0)
        return error_set_errno(err, errno, "%s", part->path);
    if (!S_ISREG(info.st_mode))
        return error_set(err, ERROR_CONFLICT, "%s is not a file", part->path);
    restart_hash(part);
    if (info.st_size > part->file->size_bytes && ftruncate(part->fd, 0) != 0)
        return error_set_errno(err, errno, "%s", part->path);
    return read_back(part, err);
}

static void part_close(struct part *part) {
    if (part->fd >= 0)
        close(part->fd);
    part->fd = -1;
    char unused[SHA256_HEX + 1];
    if (part->hash)
        sha256_finish(unused, part->hash);
    part->hash = NULL;
}

static int64_t part_position(void *ctx) {
    return ((const struct part *)ctx)->at_byte;
}

static bool part_begin(void *ctx, int64_t from_byte, int64_t n_bytes, struct error *err) {
    struct part *part = ctx;
    if (from_byte == 0 && part->at_byte > 0) { /* the hub gives no ranges */
        restart_hash(part);
        if (ftruncate(part->fd, 0) != 0 || lseek(part->fd, 0, SEEK_SET) != 0)
            return error_set_errno(err, errno, "%s", part->path);
    }
    if (n_bytes >= 0 && from_byte + n_bytes > part->file->size_bytes)
        return wrong_file(err, part->pull, part->file->path,
                          "more bytes than the hub lists for it");
    return true;
}

static bool part_data(void *ctx, const void *data, size_t len, struct error *err) {
    struct part *part = ctx;
    if ((int64_t)len > part->file->size_bytes - part->at_byte)
        return wrong_file(err, part->pull, part->file->path,
                          "more bytes than the hub lists for it");
    if (!fd_write_all(part->fd, data, len, err)) {
        if (strcmp(err->code, "disk_full") != 0)
            error_set_code(err, ERROR_IO, "storage_error", "%s", strerror(errno));
        error_prefix(err, "%s: ", part->path);
        return false;
    }
    sha256_update(part->hash, data, len);
    part->at_byte += (int64_t)len;
    return tick_part(part) || cancelled(err);
}

/* All of the file's bytes, by as many requests as it takes while each brings some. */
static bool fetch_rest(struct part *part, struct error *err) {
    const struct hub_sink sink = {part, part_position, part_begin, part_data, tick_part};
    struct pull *p = part->pull;
    while (part->at_byte < part->file->size_bytes) {
        int64_t before = part->at_byte;
        if (!hub_fetch(p->hub, p->name, p->listing.commit, part->file->path, &sink, err))
            return false;
        if (part->at_byte <= before)
            return wrong_file(err, p, part->file->path, "fewer bytes than the hub lists for it");
    }
    return true;
}

/* Takes the hash out of the part. The git id of a small file is made from the disk. */
static bool part_verify(struct place_file *file, struct part *part, struct error *err) {
    char sha256[SHA256_HEX + 1], git_id[GIT_ID_HEX + 1];
    sha256_finish(sha256, part->hash);
    part->hash = NULL;
    bool right;
    if (file->sha256[0]) {
        right = strcmp(sha256, file->sha256) == 0;
    } else {
        if (!file_git_id(git_id, part->path, err))
            return false;
        right = strcmp(git_id, file->git_id) == 0;
    }
    if (!right)
        return wrong_file(err, part->pull, file->path,
                          "its bytes do not have the hash that the hub lists");
    memcpy(file->sha256, sha256, sizeof sha256);
    return true;
}

/* One round of a file: *resumed tells whether an earlier pull's bytes took part. */
static bool fetch_once(struct place_file *file, bool *resumed, struct part *part,
                       struct error *err) {
    bool ok = part_open(part, err);
    *resumed = ok && part->at_byte > 0;
    ok = ok && fetch_rest(part, err) && part_verify(file, part, err);
    if (ok && fsync(part->fd) != 0)
        ok = error_set_errno(err, errno, "sync of %s", part->path);
    part_close(part);
    if (!ok && strcmp(err->code, "checksum_mismatch") == 0)
        unlink(part->path);
    return ok;
}

static bool has_right_hash(struct place_file *file, const char *path) {
    char sha256[SHA256_HEX + 1], git_id[GIT_ID_HEX + 1];
    int64_t size_bytes;
    struct stat info;
    if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size != file->size_bytes ||
        !file_sha256(sha256, &size_bytes, path, NULL))
        return false;
    bool right = file->sha256[0]
                     ? strcmp(sha256, file->sha256) == 0
                     : file_git_id(git_id, path, NULL) && strcmp(git_id, file->git_id) == 0;
    if (right)
        memcpy(file->sha256, sha256, sizeof sha256);
    return right;
}

static bool fetch_file(struct pull *p, struct place_file *file, struct error *err) {
    const char *path = path_join(p->arena, p->dir, file->path);
    const char *slash = strrchr(path, '/');
    const char *folder = arena_strndup(p->arena, path, (size_t)(slash - path));
    p->i++;
    if (!tell(p, file->path, 0, file->size_bytes))
        return cancelled(err);
    if (has_right_hash(file, path))
        return tell(p, file->path, file->size_bytes, file->size_bytes) || cancelled(err);
    if (!dir_make(folder, err))
        return false;
    struct part part = {
        .pull = p, .file = file, .path = arena_printf(p->arena, "%s.part", path), .fd = -1};
    bool resumed;
    bool ok = fetch_once(file, &resumed, &part, err);
    if (!ok && resumed && strcmp(err->code, "checksum_mismatch") == 0)
        ok = fetch_once(file, &resumed, &part, err);
    if (!ok)
        return false;
    if (rename(part.path, path) != 0)
        return error_set_errno(err, errno, "%s", path);
    return dir_sync(folder, err) &&
           (tell(p, file->path, file->size_bytes, file->size_bytes) || cancelled(err));
}

/* ---- one model ------------------------------------------------------------------------------ */

/* What is not on the disk yet must find room there. */
static bool check_room(const struct pull *p, const struct place_files *files, struct error *err) {
    int64_t due = SPARE_BYTES, room;
    for (int i = 0; i < files->n; i++) {
        const char *path = files->items[i].path;
        int64_t there = 0;
        if (!place_stat(&there, p->arena, p->dir, path))
            place_stat(&there, p->arena, p->dir, arena_printf(p->arena, "%s.part", path));
        if (there < files->items[i].size_bytes)
            due += files->items[i].size_bytes - there;
    }
    if (!disk_free_bytes(&room, p->dir, err))
        return false;
    if (room >= due)
        return true;
    return error_set_code(err, ERROR_IO, "disk_full",
                          "%s needs %.1f GB more on the disk of %s, which has %.1f GB free",
                          p->name, (double)due / 1e9, p->settings->models_dir, (double)room / 1e9);
}

static bool add_file(struct place_files *to, const struct place_files *from, const char *path) {
    for (int i = 0; i < from->n; i++) {
        if (strcmp(from->items[i].path, path) == 0) {
            to->items[to->n++] = from->items[i];
            return true;
        }
    }
    return false;
}

static bool is_adapter(const struct place_files *files) {
    struct place_file found[2];
    struct place_files adapter = {.items = found};
    return add_file(&adapter, files, "adapter_config.json") &&
           add_file(&adapter, files, "adapter_model.safetensors");
}

/* Which weights: a module's own; of an adapter its own; else model.safetensors, or what its index
 * names. */
static bool choose_weights(struct place_files *out, struct pull *p, struct error *err) {
    const struct place_files *all = &p->listing.files;
    *out = (struct place_files){
        .items = arena_alloc(p->arena, (size_t)(all->n + 1) * sizeof *out->items)};
    for (int i = 0; i < all->n; i++) {
        if (place_is_weights(all->items[i].path) && strchr(all->items[i].path, '/'))
            add_file(out, all, all->items[i].path);
    }
    struct place_files shards;
    const char *problem;
    if (is_adapter(all))
        return add_file(out, all, "adapter_model.safetensors");
    if (add_file(out, all, "model.safetensors"))
        return true;
    if (!place_shards(&shards, &problem, p->arena, p->dir))
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %s", p->name, problem);
    for (int i = 0; i < shards.n; i++) {
        if (out->n >= all->n || !add_file(out, all, shards.items[i].path))
            return error_set_code(err, ERROR_INPUT, "bad_model",
                                  "%s: its index names %.100s, which the hub does not list",
                                  p->name, shards.items[i].path);
    }
    return true;
}

static bool fetch_all(struct pull *p, const char *revision, struct error *err) {
    struct place_files small = {0}, weights, all;
    const struct place_files *listed = &p->listing.files;
    small.items = arena_alloc(p->arena, (size_t)(listed->n + 1) * sizeof *small.items);
    for (int i = 0; i < listed->n; i++) {
        if (!place_is_weights(listed->items[i].path))
            small.items[small.n++] = listed->items[i];
    }
    p->n = listed->n;
    if (!check_room(p, &small, err))
        return false;
    for (int i = 0; i < small.n; i++) {
        if (!fetch_file(p, &small.items[i], err))
            return false;
    }
    if (!choose_weights(&weights, p, err) || !check_room(p, &weights, err))
        return false;
    p->n = small.n + weights.n;
    for (int i = 0; i < weights.n; i++) {
        if (!fetch_file(p, &weights.items[i], err))
            return false;
    }
    all.n = small.n + weights.n;
    all.items = arena_alloc(p->arena, (size_t)(all.n + 1) * sizeof *all.items);
    memcpy(all.items, small.items, (size_t)small.n * sizeof *all.items);
    memcpy(all.items + small.n, weights.items, (size_t)weights.n * sizeof *all.items);
    return place_complete(p->dir, p->name, hub_endpoint(p->hub), revision, p->listing.commit, &all,
                          err) &&
           dir_sync(p->settings->models_dir, err);
}

static bool fetch_locked(struct pull *p, const char *revision, struct error *err) {
    if (!hub_list(&p->listing, p->arena, p->hub, p->name, revision, tick_listing, p, err))
        return false;
    if (!dir_make(p->dir, err))
        return false;
    if (unlink(path_join(p->arena, p->dir, PLACE_MANIFEST)) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "%s in %s", PLACE_MANIFEST, p->dir);
    return fetch_all(p, revision, err);
}

static bool fetch_model(struct pull *p, const char *revision, struct error *err) {
    int fd;
    if (!hub_open(&p->hub, p->settings, err))
        return false;
    bool ok = place_lock_take(&fd, p->settings, p->name, err);
    if (ok) {
        ok = fetch_locked(p, revision, err);
        place_lock_drop(fd, p->settings, p->name);
    }
    hub_close(p->hub);
    p->hub = NULL;
    return ok;
}

/* ---- a model with its base ------------------------------------------------------------------ */

static bool check_ask(const char *name, const char *revision, struct error *err) {
    if (place_is_path(name) || !place_name_valid(name))
        return error_set(err, ERROR_INPUT, "'%.100s' is not a hub's model name: owner/name", name);
    bool plain = revision[0] != '\0' && strlen(revision) <= MAX_REVISION;
    for (const char *c = revision; plain && *c; c++)
        plain = *c > ' ' && *c < 0x7f;
    if (!plain || strstr(revision, ".."))
        return error_set(err, ERROR_INPUT, "'%.100s' is not a revision: a branch, tag or commit",
                         revision);
    return true;
}

static bool pull_one(struct model_place *out, struct arena *arena, const struct settings *settings,
                     const char *name, const char *revision, const struct pull_progress *progress,
                     int n_bases, struct error *err) {
    model_locate_alone(out, arena, settings, name);
    bool is_base = n_bases < MAX_BASES;
    if (!out->installed || revision) {
        struct pull pull = {.arena = arena, .settings = settings, .progress = progress};
        pull.name = name;
        pull.is_base = is_base;
        revision = revision ? revision : "main";
        if (!check_ask(name, revision, err))
            return false;
        pull.dir = place_dir(arena, settings, name);
        if (!fetch_model(&pull, revision, err))
            return false;
        model_locate_alone(out, arena, settings, name);
    }
    if (!out->installed)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %s", name, out->problem);
    const char *base = place_base(arena, out->folder);
    if (!base)
        return true;
    if (n_bases == 0)
        return error_set_code(err, ERROR_UNSUPPORTED, "not_a_model",
                              "%s: adapters over adapters over adapters", name);
    struct model_place under;
    if (pull_one(&under, arena, settings, base, NULL, progress, n_bases - 1, err))
        return true;
    if (strcmp(err->code, "cancelled") != 0)
        error_prefix(err, "base model of %s: ", name);
    return false;
}

bool model_pull(struct model_place *out, struct arena *arena, const struct settings *settings,
                const char *name, const char *revision, const struct pull_progress *progress,
                struct error *err) {
    if (!pull_one(out, arena, settings, name, revision, progress, MAX_BASES, err))
        return false;
    model_locate(out, arena, settings, name);
    return out->installed ||
           error_set_code(err, ERROR_INPUT, "bad_model", "%s: %s", name, out->problem);
}
