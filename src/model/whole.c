/* Is a folder a whole model? Files that must be there are, JSON is JSON, and every file of weights
 * is as long as its header says: what a broken-off copy or download leaves behind is named here and
 * never opened by a family. What the tensors hold is not looked at. */
#include "model/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_JSON ((size_t)16 << 20)
#define MAX_WEIGHTS_HEADER ((uint64_t)16 << 20) /* some 100 bytes a tensor */
#define INDEX "model.safetensors.index.json"

struct folder {
    struct arena *arena;
    const char *path, *absent;
};

bool place_stat(int64_t *size_bytes, struct arena *arena, const char *folder, const char *path) {
    struct stat info;
    if (stat(path_join(arena, folder, path), &info) != 0 || !S_ISREG(info.st_mode))
        return false;
    *size_bytes = info.st_size;
    return true;
}

static bool has(const struct folder *f, const char *file) {
    int64_t size_bytes;
    return place_stat(&size_bytes, f->arena, f->path, file);
}

static const char *missing(const struct folder *f, const char *file) {
    bool part = has(f, arena_printf(f->arena, "%s.part", file));
    return arena_printf(f->arena, "%s: %s", file, part ? "half fetched" : f->absent);
}

/* NULL, *problem set, unless the file is one JSON value of that type. The caller's. */
static json_t *read_json(const char **problem, const struct folder *f, const char *file,
                         json_type type) {
    if (!has(f, file)) {
        *problem = missing(f, file);
        return NULL;
    }
    char *text;
    size_t len;
    struct error err;
    if (!file_read(&text, &len, path_join(f->arena, f->path, file), MAX_JSON, &err)) {
        *problem = arena_printf(f->arena, "%s: %s", file, err.text);
        return NULL;
    }
    json_t *json = json_loadb(text, len, 0, NULL);
    mem_free(text);
    if (json && json_typeof(json) == type)
        return json;
    json_decref(json);
    *problem = arena_printf(f->arena, "%s: not a JSON %s", file,
                            type == JSON_ARRAY ? "array" : "object");
    return NULL;
}

/* ---- weights -------------------------------------------------------------------------------- */

/* Where the data of a safetensors header ends, counted from the header's end, and the tensor that
 * lies there (the header's; NULL: none); -1: nonsense, of that tensor. */
static int64_t data_end(const char **tensor_name, const json_t *header) {
    const double most = (double)((int64_t)1 << 52);
    double end = 0;
    const char *name;
    json_t *tensor;
    *tensor_name = NULL;
    json_object_foreach((json_t *)header, name, tensor) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        const json_t *last = json_array_get(json_object_get(tensor, "data_offsets"), 1);
        double at = json_is_number(last) ? json_number_value(last) : -1;
        bool sane = at >= 0 && at <= most;
        if (!sane || at > end || !*tensor_name)
            *tensor_name = name;
        if (!sane)
            return -1;
        if (at > end)
            end = at;
    }
    return (int64_t)end;
}

/* The problem of a file's first bytes and its length; NULL: none. */
static const char *judge_weights(const struct folder *f, const char *file, int fd,
                                 int64_t size_bytes) {
    unsigned char head[24] = {0};
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n >= 23 && memcmp(head, "version https://git-lfs", 23) == 0)
        return arena_printf(f->arena, "%s: a pointer of Git LFS, not the weights", file);
    uint64_t n_header = 0;
    for (int i = 7; i >= 0; i--)
        n_header = n_header << 8 | head[i];
    if (n < 8 || size_bytes < 8)
        return arena_printf(f->arena, "%s: half fetched (%" PRId64 " bytes)", file, size_bytes);
    if (n_header > MAX_WEIGHTS_HEADER)
        return arena_printf(f->arena, "%s: not safetensors", file);
    if ((int64_t)n_header > size_bytes - 8)
        return arena_printf(f->arena, "%s: half fetched (%" PRId64 " bytes)", file, size_bytes);
    char *text = mem_try(n_header + 1, 1, MAX_WEIGHTS_HEADER + 1);
    if (!text)
        return arena_printf(f->arena, "%s: no memory for its header", file);
    bool read_it = pread(fd, text, n_header, 8) == (ssize_t)n_header;
    /* Numbers as reals: a header may be foolish and still be JSON. */
    json_t *header = read_it ? json_loadb(text, n_header, JSON_DECODE_INT_AS_REAL, NULL) : NULL;
    mem_free(text);
    const char *last = NULL;
    int64_t end = json_is_object(header) ? data_end(&last, header) : -1;
    last = arena_strdup(f->arena, last ? last : "");
    json_decref(header);
    if (end < 0 && *last)
        return arena_printf(f->arena, "%s: not safetensors: tensor %.100s lies nowhere", file,
                            last);
    if (end < 0)
        return arena_printf(f->arena, "%s: not safetensors", file);
    int64_t due = 8 + (int64_t)n_header + end;
    if (size_bytes < due)
        return arena_printf(f->arena,
                            "%s: half fetched (%" PRId64 " of %" PRId64 " bytes, the last %.100s)",
                            file, size_bytes, due, last);
    if (size_bytes > due)
        return arena_printf(f->arena, "%s: %" PRId64 " bytes more than its header states", file,
                            size_bytes - due);
    return NULL;
}

static const char *weights_problem(const struct folder *f, const char *file) {
    int64_t size_bytes;
    if (!place_stat(&size_bytes, f->arena, f->path, file))
        return missing(f, file);
    int fd = open(path_join(f->arena, f->path, file), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return arena_printf(f->arena, "%s: %s", file, strerror(errno));
    const char *problem = judge_weights(f, file, fd, size_bytes);
    close(fd);
    return problem;
}

static bool is_shard_name(const char *name) {
    return place_path_safe(name) && !strchr(name, '/') && text_has_suffix(name, ".safetensors");
}

bool place_shards(struct place_files *out, const char **problem, struct arena *arena,
                  const char *folder) {
    struct folder f = {arena, folder, "missing"};
    *out = (struct place_files){0};
    json_t *index = read_json(problem, &f, INDEX, JSON_OBJECT);
    if (!index)
        return false;
    json_t *seen = json_object(), *file;
    const char *tensor;
    *problem = NULL;
    json_object_foreach(json_object_get(index, "weight_map"), tensor, file) {
        const char *name = json_string_value(file);
        if (!name || !is_shard_name(name))
            *problem = INDEX ": names a file that is none";
        else
            json_object_set_new(seen, name, json_true());
    }
    size_t n = json_object_size(seen);
    if (n == 0 || n > PLACE_MAX_FILES)
        *problem = n == 0 ? INDEX ": names no file" : INDEX ": names too many files";
    if (!*problem) {
        out->items = arena_alloc(arena, n * sizeof *out->items);
        json_object_foreach(seen, tensor, file) out->items[out->n++].path = arena_strdup(arena,
                                                                                         tensor);
    }
    json_decref(seen);
    json_decref(index);
    return !*problem;
}

static const char *all_weights_problem(const struct folder *f) {
    if (has(f, "model.safetensors"))
        return weights_problem(f, "model.safetensors");
    if (has(f, INDEX)) {
        struct place_files shards;
        const char *problem;
        if (!place_shards(&shards, &problem, f->arena, f->path))
            return problem;
        for (int i = 0; i < shards.n; i++) {
            if ((problem = weights_problem(f, shards.items[i].path)))
                return problem;
        }
        return NULL;
    }
    if (has(f, "pytorch_model.bin") || has(f, "pytorch_model.bin.index.json"))
        return "pytorch_model.bin: weights are read from safetensors alone";
    return missing(f, "model.safetensors");
}

/* ---- the rest ------------------------------------------------------------------------------- */

/* modules.json lists what stands behind a sentence model's encoder; each has a folder. */
static const char *modules_problem(const struct folder *f) {
    if (!has(f, "modules.json"))
        return NULL;
    const char *problem = NULL;
    json_t *modules = read_json(&problem, f, "modules.json", JSON_ARRAY), *module;
    if (!modules)
        return problem;
    size_t i;
    json_array_foreach(modules, i, module) {
        const char *path = json_string_value(json_object_get(module, "path"));
        const char *type = json_string_value(json_object_get(module, "type"));
        if (problem || !path || !type || path[0] == '\0')
            continue;
        if (!place_path_safe(path)) {
            problem = "modules.json: names a folder that is none";
            continue;
        }
        bool dense = text_has_suffix(type, ".Dense");
        const char *config = arena_printf(f->arena, "%s/config.json", path);
        if ((dense || text_has_suffix(type, ".Pooling")) && !has(f, config))
            problem = missing(f, config);
        if (dense && !problem)
            problem = weights_problem(f, arena_printf(f->arena, "%s/model.safetensors", path));
    }
    json_decref(modules);
    return problem;
}

/* The end of a large JSON object, without reading all of it: a copy that broke off lacks it. */
static const char *tail_problem(const struct folder *f, const char *file) {
    int64_t size_bytes;
    if (!place_stat(&size_bytes, f->arena, f->path, file))
        return missing(f, file);
    char tail[16];
    int64_t from = size_bytes > (int64_t)sizeof tail ? size_bytes - (int64_t)sizeof tail : 0;
    int fd = open(path_join(f->arena, f->path, file), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, tail, sizeof tail, from) : -1;
    if (fd >= 0)
        close(fd);
    while (n > 0 && strchr(" \t\r\n", tail[n - 1]))
        n--;
    if (n > 0 && tail[n - 1] == '}')
        return NULL;
    return arena_printf(f->arena, "%s: half fetched (it ends too early)", file);
}

static const char *object_problem(const struct folder *f, const char *file) {
    const char *problem = NULL;
    json_decref(read_json(&problem, f, file, JSON_OBJECT));
    return problem;
}

static bool is_adapter(const struct folder *f) {
    return has(f, "adapter_config.json") &&
           (has(f, "adapter_model.safetensors") || !has(f, "config.json"));
}

const char *place_base(struct arena *arena, const char *folder) {
    struct folder f = {arena, folder, "missing"};
    const char *problem;
    json_t *config = is_adapter(&f) ? read_json(&problem, &f, "adapter_config.json", JSON_OBJECT)
                                    : NULL;
    const char *base = json_string_value(json_object_get(config, "base_model_name_or_path"));
    char *name = base ? arena_strdup(arena, base) : NULL;
    json_decref(config);
    return name;
}

const char *place_problem(struct arena *arena, const char *folder, const char *absent) {
    struct folder f = {arena, folder, absent};
    const char *problem;
    if (is_adapter(&f)) {
        if ((problem = object_problem(&f, "adapter_config.json")))
            return problem;
        if (!place_base(arena, folder))
            return "adapter_config.json: names no base model";
        return weights_problem(&f, "adapter_model.safetensors");
    }
    if ((problem = object_problem(&f, "config.json")) ||
        (problem = tail_problem(&f, "tokenizer.json")) || (problem = all_weights_problem(&f)))
        return problem;
    return modules_problem(&f);
}

/* ---- the files of a folder ------------------------------------------------------------------ */

static int by_name(const struct dirent **x, const struct dirent **y) {
    return strcmp((*x)->d_name, (*y)->d_name);
}

static void walk(struct place_files *out, struct arena *arena, const char *folder,
                 const char *below) {
    struct dirent **names = NULL;
    int n = scandir(path_join(arena, folder, below), &names, NULL, by_name);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        char *path = below[0] ? path_join(arena, below, name) : arena_strdup(arena, name);
        int64_t size_bytes;
        if (place_stat(&size_bytes, arena, folder, path)) {
            if (place_wants(path) && out->n < PLACE_MAX_FILES)
                out->items[out->n++] = (struct place_file){.path = path, .size_bytes = size_bytes};
        } else if (below[0] == '\0' && place_wants(path_join(arena, path, "config.json"))) {
            walk(out, arena, folder, path);
        }
        free(names[i]); /* scandir's */
    }
    free(names); /* scandir's */
}

void place_walk(struct place_files *out, struct arena *arena, const char *folder) {
    *out = (struct place_files){
        .items = arena_alloc(arena, PLACE_MAX_FILES * sizeof(struct place_file))};
    walk(out, arena, folder, "");
}

/* ---- docusearch.json ------------------------------------------------------------------------ */

static const char *listed_problem(const struct folder *f, const json_t *entry) {
    const char *path = json_string_value(json_object_get(entry, "path"));
    const json_t *size = json_object_get(entry, "size_bytes");
    if (!path || !place_path_safe(path) || !json_is_integer(size))
        return PLACE_MANIFEST ": a file without a name or a size";
    int64_t size_bytes, due = json_integer_value(size);
    if (!place_stat(&size_bytes, f->arena, f->path, path))
        return missing(f, path);
    if (size_bytes != due)
        return arena_printf(f->arena, "%s: %" PRId64 " bytes where %" PRId64 " were fetched", path,
                            size_bytes, due);
    return NULL;
}

/* A folder without docusearch.json: the file that was on its way is named. */
static const char *unfinished(const struct folder *f) {
    struct dirent **names = NULL;
    int n = scandir(f->path, &names, NULL, by_name);
    const char *problem = NULL;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (!problem && text_has_suffix(name, ".part"))
            problem = arena_printf(f->arena, "%.*s: half fetched", (int)strlen(name) - 5, name);
        free(names[i]); /* scandir's */
    }
    free(names); /* scandir's */
    return problem ? problem : PLACE_MANIFEST ": missing; its other files may be half fetched";
}

const char *place_manifest_problem(const char **name, struct arena *arena, const char *folder) {
    struct folder f = {arena, folder, "missing"};
    *name = NULL;
    if (!has(&f, PLACE_MANIFEST))
        return unfinished(&f);
    const char *problem = NULL;
    json_t *manifest = read_json(&problem, &f, PLACE_MANIFEST, JSON_OBJECT), *entry;
    if (!manifest)
        return problem;
    const char *said = json_string_value(json_object_get(manifest, "name"));
    *name = said ? arena_strdup(arena, said) : NULL;
    json_t *files = json_object_get(manifest, "files");
    if (json_integer_value(json_object_get(manifest, "format")) != 1 || json_array_size(files) == 0)
        problem = PLACE_MANIFEST ": of another form";
    size_t i;
    json_array_foreach(files, i, entry) {
        if (!problem)
            problem = listed_problem(&f, entry);
    }
    json_decref(manifest);
    return problem;
}

static bool is_among(const struct place_files *files, const char *path) {
    for (int i = 0; i < files->n; i++) {
        if (strcmp(files->items[i].path, path) == 0)
            return true;
    }
    return false;
}

static bool sweep(struct arena *arena, const char *folder, const struct place_files *files,
                  struct error *err) {
    struct place_files there;
    place_walk(&there, arena, folder);
    for (int i = 0; i < there.n; i++) {
        const char *path = path_join(arena, folder, there.items[i].path);
        if (!is_among(files, there.items[i].path) && unlink(path) != 0)
            return error_set_errno(err, errno, "%s", path);
    }
    for (int i = 0; i < files->n; i++)
        unlink(arena_printf(arena, "%s/%s.part", folder, files->items[i].path));
    return true;
}

bool place_complete(const char *folder, const char *name, const char *source, const char *revision,
                    const char *commit, const struct place_files *files, struct error *err) {
    struct arena *arena = arena_new(0);
    json_t *list = json_array();
    for (int i = 0; i < files->n; i++) {
        const struct place_file *file = &files->items[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:s}", "path", file->path, "size_bytes",
                                        (json_int_t)file->size_bytes, "sha256", file->sha256));
    }
    json_t *manifest = json_pack("{s:i, s:s, s:s, s:s, s:s, s:o}", "format", 1, "name", name,
                                 "source", utf8_clean(arena, source, strlen(source)), "revision",
                                 utf8_clean(arena, revision, strlen(revision)), "commit", commit,
                                 "files", list);
    char *text = json_dumps(manifest, JSON_INDENT(2));
    bool ok = text != NULL ||
              error_set(err, ERROR_INTERNAL, "%s cannot be written", PLACE_MANIFEST);
    ok = ok && sweep(arena, folder, files, err) &&
         file_write_durable(path_join(arena, folder, PLACE_MANIFEST), text, strlen(text), err);
    free(text); /* jansson's */
    json_decref(manifest);
    arena_free(arena);
    return ok;
}
