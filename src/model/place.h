/* model, inside: models on disk, and a hub's listings of them.
 *
 * A folder of MODELS_DIR is complete once docusearch.json lies in it, which is written last:
 *
 *   key         value
 *   format      1
 *   name        "vidore/colpali-v1.2"
 *   source      the hub's address, or the folder the files were taken from
 *   revision    as asked for; "" of a folder
 *   commit      the hub's commit; "" of a folder
 *   files       [{"path", "size_bytes", "sha256"}], paths relative to the folder
 *
 * Beside it, while a file comes: <path>.part. MODELS_DIR/.<owner>--<name>.lock is held (flock) by
 * whoever changes the folder. */
#ifndef DOCUSEARCH_MODEL_PLACE_H
#define DOCUSEARCH_MODEL_PLACE_H

#include "model/model.h"

#define PLACE_MANIFEST "docusearch.json"
#define PLACE_MAX_FILES 1024
#define PLACE_MAX_PATH 200

struct place_file {
    const char *path;
    int64_t size_bytes;
    char sha256[SHA256_HEX + 1]; /* "": not known beforehand */
    char git_id[GIT_ID_HEX + 1]; /* "": not known */
};
struct place_files {
    struct place_file *items;
    int n;
};

/* ---- names (place.c) ------------------------------------------------------------------------ */

/* A hub's name: one or two parts of letters, digits, '_', '-', '.'. */
bool place_name_valid(const char *name);
/* Does it begin as a path does ('/', "./", "../")? */
bool place_is_path(const char *name);
char *place_dir(struct arena *arena, const struct settings *settings, const char *name);
/* Relative, no part empty, "." or "..", no backslash, no control character. */
bool place_path_safe(const char *path);
/* Is it a file that a model needs: configuration, tokenizer, safetensors, at the top or in a
 * module's folder ("1_Pooling")? */
bool place_wants(const char *path);
bool place_is_weights(const char *path);
/* ERROR_BUSY being_changed when another process holds it. */
bool place_lock_take(int *fd, const struct settings *settings, const char *name, struct error *err);
void place_lock_drop(int fd, const struct settings *settings, const char *name);

/* ---- what is whole (whole.c) ---------------------------------------------------------------- */

/* NULL when the folder holds all of a model, else what is wrong, naming the file. absent: the word
 * for a file that is not there ("missing", "half fetched"). */
const char *place_problem(struct arena *arena, const char *folder, const char *absent);
/* NULL when every file of docusearch.json is there with its size. *name may be NULL. */
const char *place_manifest_problem(const char **name, struct arena *arena, const char *folder);
/* The folder is complete with these files: others of a model's, and parts, are removed, then
 * docusearch.json is written. */
bool place_complete(const char *folder, const char *name, const char *source, const char *revision,
                    const char *commit, const struct place_files *files, struct error *err);
/* The base that the folder's adapter sits on; NULL when it holds no adapter. */
const char *place_base(struct arena *arena, const char *folder);
/* The files that model.safetensors.index.json names; false, *problem set, when it is not readable.
 */
bool place_shards(struct place_files *out, const char **problem, struct arena *arena,
                  const char *folder);
/* The wanted files of a folder, with their sizes, ascending; at most PLACE_MAX_FILES. */
void place_walk(struct place_files *out, struct arena *arena, const char *folder);
/* Regular file (links followed)? Then its size. */
bool place_stat(int64_t *size_bytes, struct arena *arena, const char *folder, const char *path);

/* ---- a hub (hub.c) -------------------------------------------------------------------------- */

struct hub;
struct hub_sink {
    void *ctx;
    int64_t (*position)(void *ctx); /* where to go on from */
    /* The body starts at from_byte: the position, or 0 where the hub starts over. */
    bool (*begin)(void *ctx, int64_t from_byte, int64_t n_bytes, struct error *err);
    bool (*data)(void *ctx, const void *data, size_t len, struct error *err);
    bool (*tick)(void *ctx); /* false: cancelled */
};
struct hub_listing {
    char commit[GIT_ID_HEX + 1];
    struct place_files files; /* those that a model needs */
    int n_all;
};
/* ERROR_IO offline, ERROR_INPUT for an endpoint that is no http address. */
bool hub_open(struct hub **out, const struct settings *settings, struct error *err);
void hub_close(struct hub *hub); /* NULL is fine */
const char *hub_endpoint(const struct hub *hub);
/* tick as of hub_sink, with its ctx. */
bool hub_list(struct hub_listing *out, struct arena *arena, struct hub *hub, const char *name,
              const char *revision, bool (*tick)(void *ctx), void *ctx, struct error *err);
/* One file's bytes. Statuses and broken transfers that pass are tried again, with pauses, from
 * sink->position. */
bool hub_fetch(struct hub *hub, const char *name, const char *commit, const char *path,
               const struct hub_sink *sink, struct error *err);

#endif
