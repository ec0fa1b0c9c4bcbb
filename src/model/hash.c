/* hash: a model's name for itself, so that vectors of two models are never compared and packed
 * weights are never taken for another's. Six gigabytes are read once; later starts believe what was
 * written down as long as the files look untouched. */
#include "model/internal.h"
#include "model/place.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { PIECE_BYTES = 64 << 20, THREADS_MAX = 32, RECORD_BYTES_MAX = 512 };

/* ---- a weight file -------------------------------------------------------------------------- */

struct pieces {
    const char *data;
    size_t size;
    int n;
    char (*hashes)[SHA256_HEX + 1];
    atomic_int next;
    atomic_bool ended; /* before all were hashed */
};

static bool hash_piece(struct pieces *pieces) {
    int i = atomic_fetch_add(&pieces->next, 1);
    if (i < pieces->n) {
        size_t from = (size_t)i * PIECE_BYTES, left = pieces->size - from;
        size_t len = left < PIECE_BYTES ? left : PIECE_BYTES;
        sha256_hex(pieces->hashes[i], pieces->data + from, len);
        madvise((void *)(pieces->data + from), len, MADV_DONTNEED); /* pieces begin on a page */
    }
    return i < pieces->n;
}

static void hash_pieces(void *arg) {
    struct pieces *pieces = arg;
    while (!atomic_load(&pieces->ended) && hash_piece(pieces)) {
    }
}

static bool hash_file(char out[SHA256_HEX + 1], const struct model *model,
                      const struct checkpoint_file *file, struct error *err) {
    struct pieces pieces = {.data = file->data, .size = file->size};
    struct thread *threads[THREADS_MAX] = {0};
    int n_threads = cpu_count();
    pieces.n = (int)((file->size + PIECE_BYTES - 1) / PIECE_BYTES);
    pieces.hashes = mem_alloc((size_t)pieces.n * sizeof *pieces.hashes);
    if (n_threads > pieces.n)
        n_threads = pieces.n;
    for (int i = 1; i < n_threads && i < THREADS_MAX; i++)
        thread_start(&threads[i], "hash", hash_pieces, &pieces, NULL); /* fewer will do */
    bool ok = true;
    while ((ok = model_goes_on(model, err)) && hash_piece(&pieces)) {
    }
    atomic_store(&pieces.ended, !ok);
    for (int i = 1; i < THREADS_MAX; i++)
        thread_join(threads[i]);
    struct sha256 *hash = sha256_new();
    for (int i = 0; i < pieces.n; i++)
        sha256_update(hash, pieces.hashes[i], SHA256_HEX);
    sha256_finish(out, hash);
    mem_free(pieces.hashes);
    return ok;
}

/* ---- what is written down ------------------------------------------------------------------- */

static char *record_path(const struct model *model, const struct checkpoint_file *file) {
    char key[SHA256_HEX + 1];
    sha256_hex(key, file->path, strlen(file->path));
    return mem_printf("%s/%s.hash", model->packed_dir, key);
}

static bool recall(char out[SHA256_HEX + 1], const struct model *model,
                   const struct checkpoint_file *file) {
    char *path = record_path(model, file), *text = NULL, *start = NULL;
    size_t len = 0;
    bool ok = false;
    if (file_read(&text, &len, path, RECORD_BYTES_MAX, NULL)) {
        start = mem_printf("1 %s ", file->state);
        size_t n = strlen(start);
        if (len == n + SHA256_HEX + 1 && memcmp(text, start, n) == 0) {
            memcpy(out, text + n, SHA256_HEX);
            out[SHA256_HEX] = 0;
            ok = sha256_is_hex(out);
            utimensat(AT_FDCWD, path, NULL, 0); /* one that is used stays (packed.c) */
        }
    }
    mem_free(start);
    mem_free(text);
    mem_free(path);
    return ok;
}

static void write_down(const struct model *model, const struct checkpoint_file *file,
                       const char hash[SHA256_HEX + 1]) {
    struct error err;
    char *path = record_path(model, file), *text = mem_printf("1 %s %s\n", file->state, hash);
    if (!dir_make(model->packed_dir, &err) || !file_write_durable(path, text, strlen(text), &err))
        log_warn("%s: the hash of %s is not kept: %s", model->info.name, file->name, err.text);
    mem_free(text);
    mem_free(path);
}

/* ---- what was fetched ----------------------------------------------------------------------- */

/* The SHA-256 that the file had when it was fetched: docusearch.json's, or the name of the blob
 * that huggingface_hub's cache links to. False: nobody says. */
static bool fetched_hash(char out[SHA256_HEX + 1], const struct checkpoint_file *file) {
    char *folder = mem_strdup(file->path), *slash = strrchr(folder, '/');
    const char *said = NULL;
    json_t *manifest = NULL, *entry;
    if (slash)
        *slash = '\0';
    if (config_read(&manifest, folder, PLACE_MANIFEST, false, NULL)) {
        size_t i;
        json_array_foreach(json_object_get(manifest, "files"), i, entry) {
            const char *path = json_string_value(json_object_get(entry, "path"));
            if (path && strcmp(path, file->name) == 0)
                said = json_string_value(json_object_get(entry, "sha256"));
        }
    }
    char *real = realpath(file->path, NULL);
    if (!said && real && sha256_is_hex(path_name(real)))
        said = path_name(real);
    bool known = said && sha256_is_hex(said);
    if (known)
        memcpy(out, said, SHA256_HEX + 1);
    free(real); /* realpath's */
    json_decref(manifest);
    mem_free(folder);
    return known;
}

/* Asked when the file is met for the first time, or has changed since. */
static bool is_as_fetched(const struct checkpoint_file *file, struct error *err) {
    char fetched[SHA256_HEX + 1], now[SHA256_HEX + 1];
    int64_t size = 0;
    if (!fetched_hash(fetched, file))
        return true;
    if (!file_sha256(now, &size, file->path, err))
        return false;
    return strcmp(now, fetched) == 0 ||
           error_set_code(err, ERROR_INPUT, "checksum_mismatch",
                          "%s: its bytes are not those that were fetched (SHA-256 %.12s…, not "
                          "%.12s…): remove the model and fetch it again",
                          file->name, now, fetched);
}

/* ---- the model ------------------------------------------------------------------------------ */

static void add_line(struct sha256 *hash, const char *file_hash, const char *name) {
    char *line = mem_printf("%s %s\n", file_hash, name);
    sha256_update(hash, line, strlen(line));
    mem_free(line);
}

static bool add_weights(struct sha256 *hash, const struct model *model,
                        const struct checkpoint *checkpoint, struct error *err) {
    struct checkpoint_file file;
    for (int i = 0; checkpoint && checkpoint_file_at(&file, checkpoint, i); i++) {
        char file_hash[SHA256_HEX + 1];
        if (!model->packed_dir || !recall(file_hash, model, &file)) {
            if (!is_as_fetched(&file, err) || !hash_file(file_hash, model, &file, err))
                return false;
            if (model->packed_dir)
                write_down(model, &file, file_hash);
        }
        add_line(hash, file_hash, file.name);
    }
    return true;
}

static bool add_small(struct sha256 *hash, const char *folder, const char *name,
                      struct error *err) {
    char file_hash[SHA256_HEX + 1], *path = mem_printf("%s/%s", folder, name);
    struct error why;
    int64_t size = 0;
    bool ok = file_sha256(file_hash, &size, path, &why);
    mem_free(path);
    if (ok)
        add_line(hash, file_hash, name);
    else if (why.kind != ERROR_MISSING)
        return error_set_code(err, why.kind, why.code, "%s", why.text);
    return true;
}

/* The config.json of each step that modules.json names, in its order: whatever the step's folder is
 * called. What is wrong with modules.json is for its reader to say. */
static bool add_modules(struct sha256 *hash, const struct model *model, struct error *err) {
    json_t *json = NULL;
    bool ok = true;
    if (!config_read(&json, model->folder, "modules.json", false, NULL))
        return true;
    for (size_t i = 0; i < json_array_size(json) && ok; i++) {
        const char *path = json_string_value(json_object_get(json_array_get(json, i), "path"));
        if (!path || !*path || strchr(path, '/') || path[0] == '.')
            continue;
        char *name = mem_printf("%s/config.json", path);
        ok = add_small(hash, model->folder, name, err);
        mem_free(name);
    }
    json_decref(json);
    return ok;
}

bool model_hash(struct model *model, struct error *err) {
    static const char *const small[] = {"config.json",
                                        "adapter_config.json",
                                        "modules.json",
                                        "sentence_bert_config.json",
                                        "config_sentence_transformers.json",
                                        "artifact.metadata",
                                        "preprocessor_config.json",
                                        "processor_config.json"};
    static const char *const of_tokenizer[] = {"tokenizer.json", "tokenizer_config.json",
                                               "special_tokens_map.json"};
    struct sha256 *hash = sha256_new();
    bool ok = add_weights(hash, model, model->checkpoint, err) &&
              add_weights(hash, model, model->adapter_checkpoint, err);
    for (size_t i = 0; i < BASE_COUNT(small) && ok; i++) {
        ok = add_small(hash, model->folder, small[i], err) &&
             (!model->base_folder || add_small(hash, model->base_folder, small[i], err)) &&
             (strcmp(small[i], "modules.json") != 0 || add_modules(hash, model, err));
    }
    for (size_t i = 0; i < BASE_COUNT(of_tokenizer) && ok; i++)
        ok = add_small(hash, model->tokenizer_folder, of_tokenizer[i], err);
    sha256_finish(model->info.weights_hash, hash);
    return ok;
}
