/* Where models lie: names, the three places they are looked for in, the list of them, removal.
 *
 * A model in MODELS_DIR is believed when its docusearch.json is there and every file has the size
 * noted in it; one of huggingface_hub's cache when the snapshot that refs/main names holds every
 * file. A complete one is taken wherever it lies; of several half ones the first is told. */
#include "model/place.h"

#include "model/internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PART 96 /* of a name, as the hub has it */
#define MAX_LISTED 10000
#define MAX_BASES 2 /* adapters over each other */

/* ---- names ---------------------------------------------------------------------------------- */

static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool part_valid(const char *part, size_t len) {
    if (len == 0 || len > MAX_PART || !is_word(part[0]) || !is_word(part[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++) {
        bool mark = part[i] == '-' || part[i] == '.';
        if (!is_word(part[i]) && !mark)
            return false;
        if (mark && part[i] == part[i + 1])
            return false; /* ".." climbs, "--" stands for the slash in folders' names */
    }
    return true;
}

bool place_name_valid(const char *name) {
    const char *slash = strchr(name, '/');
    if (!slash)
        return part_valid(name, strlen(name));
    return part_valid(name, (size_t)(slash - name)) && part_valid(slash + 1, strlen(slash + 1));
}

bool place_is_path(const char *name) {
    return name[0] == '/' || strncmp(name, "./", 2) == 0 || strncmp(name, "../", 3) == 0 ||
           strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* "owner--name" */
static char *folder_name(struct arena *arena, const char *name) {
    const char *slash = strchr(name, '/');
    if (!slash)
        return arena_strdup(arena, name);
    return arena_printf(arena, "%.*s--%s", (int)(slash - name), name, slash + 1);
}

static char *name_of_folder(struct arena *arena, const char *folder) {
    const char *dashes = strstr(folder, "--");
    if (!dashes)
        return arena_strdup(arena, folder);
    return arena_printf(arena, "%.*s/%s", (int)(dashes - folder), folder, dashes + 2);
}

char *place_dir(struct arena *arena, const struct settings *settings, const char *name) {
    return path_join(arena, settings->models_dir, folder_name(arena, name));
}

bool place_path_safe(const char *path) {
    size_t n = strlen(path);
    if (n == 0 || n > PLACE_MAX_PATH || !utf8_valid(path, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f || path[i] == '\\')
            return false;
    }
    for (const char *part = path;; part++) {
        size_t len = strcspn(part, "/");
        if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && strncmp(part, "..", 2) == 0))
            return false;
        part += len;
        if (*part == '\0')
            return true;
    }
}

bool place_is_weights(const char *path) {
    return text_has_suffix(path, ".safetensors");
}

static bool wanted_name(const char *name) {
    static const char *const others[] = {"vocab.txt", "merges.txt", "artifact.metadata"};
    for (size_t i = 0; i < BASE_COUNT(others); i++) {
        if (strcmp(name, others[i]) == 0)
            return true;
    }
    if (place_is_weights(name))
        return strcmp(name, "model.safetensors") == 0 ||
               strcmp(name, "adapter_model.safetensors") == 0 ||
               (strncmp(name, "model-", 6) == 0 && strstr(name, "-of-"));
    return name[0] != '.' && text_has_suffix(name, ".json") && strcmp(name, PLACE_MANIFEST) != 0;
}

bool place_wants(const char *path) {
    if (!place_path_safe(path))
        return false;
    const char *slash = strchr(path, '/');
    if (!slash)
        return wanted_name(path);
    size_t n_digits = strspn(path, "0123456789");
    return n_digits > 0 && path[n_digits] == '_' && !strchr(slash + 1, '/') &&
           wanted_name(slash + 1);
}

/* ---- locks ---------------------------------------------------------------------------------- */

static char *lock_path(struct arena *arena, const struct settings *settings, const char *name) {
    return path_join(arena, settings->models_dir,
                     arena_printf(arena, ".%s.lock", folder_name(arena, name)));
}

/* The file may be gone, or another's, once it is ours: its last holder removes it. */
static bool is_still_there(int fd, const char *path) {
    struct stat ours, theirs;
    return fstat(fd, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino;
}

bool place_lock_take(int *fd, const struct settings *settings, const char *name,
                     struct error *err) {
    if (!dir_make(settings->models_dir, err))
        return false;
    struct arena *arena = arena_new(0);
    const char *path = lock_path(arena, settings, name);
    bool ok = false;
    while (!ok) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (*fd < 0) {
            error_set_errno(err, errno, "lock file %s", path);
            break;
        }
        if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
            ok = is_still_there(*fd, path);
        } else if (errno != EINTR) {
            error_set_code(err, ERROR_BUSY, "being_changed",
                           "%s is being fetched or removed by another process", name);
            close(*fd);
            break;
        }
        if (!ok)
            close(*fd);
    }
    arena_free(arena);
    return ok;
}

void place_lock_drop(int fd, const struct settings *settings, const char *name) {
    struct arena *arena = arena_new(0);
    unlink(lock_path(arena, settings, name));
    close(fd);
    arena_free(arena);
}

/* ---- looking -------------------------------------------------------------------------------- */

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int64_t size_of(struct arena *arena, const char *folder) {
    struct place_files files;
    place_walk(&files, arena, folder);
    int64_t size_bytes = 0;
    for (int i = 0; i < files.n; i++)
        size_bytes += files.items[i].size_bytes;
    return size_bytes;
}

/* Notes what a folder holds, unless what is noted is better: true when it is whole. */
static bool note(struct model_place *out, struct arena *arena, const char *folder,
                 const char *origin, const char *problem) {
    if (problem && out->origin[0])
        return false;
    out->origin = origin;
    out->installed = !problem;
    out->problem = problem ? problem : "";
    out->folder = problem ? "" : arena_strdup(arena, folder);
    out->size_bytes = size_of(arena, folder);
    return out->installed;
}

static bool look_in_models_dir(struct model_place *out, struct arena *arena,
                               const struct settings *settings, const char *name) {
    const char *folder = place_dir(arena, settings, name), *said;
    if (!is_folder(folder))
        return false;
    const char *problem = place_manifest_problem(&said, arena, folder);
    if (!problem)
        problem = place_problem(arena, folder, "missing");
    return note(out, arena, folder, "models_dir", problem);
}

/* Is a file of the cached model still on its way? */
static bool has_incomplete(struct arena *arena, const char *cached) {
    DIR *dir = opendir(path_join(arena, cached, "blobs"));
    struct dirent *entry;
    bool found = false;
    while (dir && !found && (entry = readdir(dir)))
        found = text_has_suffix(entry->d_name, ".incomplete");
    if (dir)
        closedir(dir);
    return found;
}

/* The commit in refs/main; NULL: none. */
static const char *cached_commit(struct arena *arena, const char *cached) {
    const char *path = path_join(arena, cached, "refs/main");
    struct stat info;
    char *text;
    size_t len;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) ||
        !file_read(&text, &len, path, 256, NULL))
        return NULL;
    len = strspn(text, "0123456789abcdefABCDEF");
    const char *commit = len > 0 && strspn(text + len, " \r\n") == strlen(text + len)
                             ? arena_strndup(arena, text, len)
                             : NULL;
    mem_free(text);
    return commit;
}

static bool look_in_cache(struct model_place *out, struct arena *arena,
                          const struct settings *settings, const char *name) {
    if (settings->hf_home[0] == '\0')
        return false;
    const char *cached = arena_printf(arena, "%s/hub/models--%s", settings->hf_home,
                                      folder_name(arena, name));
    if (!is_folder(cached))
        return false;
    const char *absent = has_incomplete(arena, cached) ? "half fetched" : "missing";
    const char *commit = cached_commit(arena, cached);
    if (!commit)
        return note(out, arena, cached, "hub_cache", arena_printf(arena, "refs/main: %s", absent));
    const char *folder = arena_printf(arena, "%s/snapshots/%s", cached, commit);
    return note(out, arena, folder, "hub_cache", place_problem(arena, folder, absent));
}

static void look_at_folder(struct model_place *out, struct arena *arena, const char *path) {
    char *real = realpath(path, NULL);
    if (real && is_folder(real))
        note(out, arena, arena_strdup(arena, real), "folder",
             place_problem(arena, real, "missing"));
    else
        out->problem = "no such folder";
    free(real); /* realpath's */
}

/* n_bases: adapters over each other, at most; -1: bases are not looked for. */
static void find(struct model_place *out, struct arena *arena, const struct settings *settings,
                 const char *name, int n_bases) {
    *out = (struct model_place){
        .name = arena_strdup(arena, name), .folder = "", .origin = "", .problem = "not installed"};
    if (place_is_path(name) || (name[0] && is_folder(name)))
        look_at_folder(out, arena, name);
    else if (!place_name_valid(name))
        out->problem = "not a model's name";
    else if (!look_in_models_dir(out, arena, settings, name))
        look_in_cache(out, arena, settings, name);
    const char *base = out->installed && n_bases >= 0 ? place_base(arena, out->folder) : NULL;
    if (!base)
        return;
    struct model_place under = {.problem = "an adapter over too many others"};
    if (n_bases > 0)
        find(&under, arena, settings, base, n_bases - 1);
    if (!under.installed) {
        out->installed = false;
        out->folder = "";
        out->problem = arena_printf(arena, "its base model %s: %s", base, under.problem);
    }
}

void model_locate_alone(struct model_place *out, struct arena *arena,
                        const struct settings *settings, const char *name) {
    find(out, arena, settings, name, -1);
}

void model_locate(struct model_place *out, struct arena *arena, const struct settings *settings,
                  const char *name) {
    find(out, arena, settings, name, MAX_BASES);
}

/* ---- the list ------------------------------------------------------------------------------- */

/* A model's folder, rather than another's thing that lies there? */
static bool looks_like_model(struct arena *arena, const char *folder) {
    static const char *const signs[] = {PLACE_MANIFEST, "config.json", "adapter_config.json"};
    int64_t size_bytes;
    for (size_t i = 0; i < BASE_COUNT(signs); i++) {
        if (place_stat(&size_bytes, arena, folder, signs[i]))
            return true;
    }
    return strstr(path_name(folder), "--") != NULL;
}

/* Puts the names of models in dir into the set; prefix: what their folders' names begin with. */
static bool gather(json_t *names, struct arena *arena, const char *path, const char *prefix,
                   struct error *err) {
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT || error_set_errno(err, errno, "folder %s", path);
    struct dirent *entry;
    while ((entry = readdir(dir)) && json_object_size(names) < MAX_LISTED) {
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        const char *folder = path_join(arena, path, entry->d_name);
        const char *name = name_of_folder(arena, entry->d_name + strlen(prefix));
        if (place_name_valid(name) && is_folder(folder) && looks_like_model(arena, folder))
            json_object_set_new(names, name, json_true());
    }
    closedir(dir);
    return true;
}

static int by_place_name(const void *x, const void *y) {
    return strcmp(((const struct model_place *)x)->name, ((const struct model_place *)y)->name);
}

bool model_list(struct model_place **out, int *n, struct arena *arena,
                const struct settings *settings, struct error *err) {
    json_t *names = json_object(), *value;
    *out = NULL;
    *n = 0;
    bool ok = gather(names, arena, settings->models_dir, "", err);
    if (ok && settings->hf_home[0])
        ok = gather(names, arena, path_join(arena, settings->hf_home, "hub"), "models--", err);
    if (ok) {
        *out = arena_alloc(arena, (json_object_size(names) + 1) * sizeof **out);
        const char *name;
        json_object_foreach(names, name, value)
            model_locate(&(*out)[(*n)++], arena, settings, name);
        qsort(*out, (size_t)*n, sizeof **out, by_place_name);
    }
    json_decref(names);
    return ok;
}

/* ---- removal -------------------------------------------------------------------------------- */

/* Why it cannot be removed: true when it can. */
static bool is_removable(struct arena *arena, const struct settings *settings, const char *name,
                         struct error *err) {
    if (!place_name_valid(name))
        return error_set(err, ERROR_INPUT,
                         "'%.100s' is not a model's name: owner/name, as `docusearch models` shows",
                         name);
    if (is_folder(place_dir(arena, settings, name)))
        return true;
    struct model_place cached = {.origin = ""};
    look_in_cache(&cached, arena, settings, name);
    if (cached.origin[0])
        return error_set_code(
            err, ERROR_CONFLICT, "in_hub_cache",
            "%s lies in huggingface_hub's cache in %s, which is not ours to change", name,
            settings->hf_home);
    return error_set(err, ERROR_MISSING, "%s is not installed", name);
}

/* Renamed first, so that a half removed model is none. */
static bool remove_folder(struct arena *arena, const struct settings *settings, const char *name,
                          struct error *err) {
    const char *folder = place_dir(arena, settings, name);
    const char *doomed = arena_printf(arena, "%s/.removed-%s", settings->models_dir,
                                      path_name(folder));
    if (!dir_remove(doomed, err))
        return false;
    if (rename(folder, doomed) != 0)
        return error_set_errno(err, errno, "%s", folder);
    return dir_sync(settings->models_dir, err) && dir_remove(doomed, err);
}

bool model_remove(const struct settings *settings, const char *name, struct error *err) {
    struct arena *arena = arena_new(0);
    int fd;
    bool ok = is_removable(arena, settings, name, err) && place_lock_take(&fd, settings, name, err);
    if (ok) {
        ok = remove_folder(arena, settings, name, err);
        if (ok)
            packed_forget(path_join(arena, settings->models_dir, "packed"),
                          place_dir(arena, settings, name));
        place_lock_drop(fd, settings, name);
    }
    arena_free(arena);
    return ok;
}
