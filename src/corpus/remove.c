/* Documents out: jobs cancelled, rows and full text gone in one commit, then the files. */
#include "corpus/older.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Why a document is taken out. */
struct reason {
    const char *source; /* one source of it went; NULL: it goes whatever it came from */
    bool told;          /* the shared store knows of the removal: another worker made it, */
    int64_t generation; /* of this generation of the document */
};

/* What the shared store has of the document is to go too; of one that it may have in part, as well.
 * A document whose name changed is put again. */
static bool put_removal(struct corpus *corpus, struct store_tx *tx, const char *doc_id,
                        const struct reason *reason, const struct shared_row *shared, bool kept,
                        struct error *err) {
    if (kept)
        return shared->generation == 0 ||
               store_set_shared(tx, doc_id, shared->generation, 0, shared->revision, err);
    int64_t generation = reason->told ? reason->generation : shared->generation;
    if (generation == 0 && !corpus->shared)
        return true;
    /* A put from here that was not noted may have left rows, of which the other worker, who told of
     * the removal, did not know. */
    bool mirrored = shared->origin && *shared->origin;
    bool told = reason->told && (mirrored || shared->epoch > 0);
    return store_put_removal(tx, doc_id, generation, time_wall_ms(), told, err);
}

/* The rows in one transaction. With a source, only that source goes while there are others. */
static bool delete_rows(struct removed *out, struct corpus *corpus, const char *doc_id,
                        const struct reason *reason, const struct shared_row *shared,
                        struct error *err) {
    struct store_tx *tx;
    int n_left = 0;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if ((reason->source && !store_drop_source(tx, &n_left, doc_id, reason->source, err)) ||
        (n_left == 0 &&
         !store_delete_document(tx, &out->found, &out->n_pages, &out->n_chunks, doc_id, err)) ||
        !put_removal(corpus, tx, doc_id, reason, shared, n_left > 0, err)) {
        store_rollback(tx);
        return false;
    }
    out->kept = n_left > 0;
    return store_commit(tx, err);
}

static bool take_out(struct removed *out, struct corpus *corpus, const char *doc_id,
                     const struct reason *reason, struct error *err) {
    memset(out, 0, sizeof *out);
    if (!sha256_is_hex(doc_id))
        return error_set(err, ERROR_INPUT, "'%.80s' is not a document id", doc_id);
    snprintf(out->doc_id, sizeof out->doc_id, "%s", doc_id);
    struct arena *arena = arena_new(0);
    struct lock *stripe = corpus_stripe(corpus, doc_id);
    lock_take(stripe);
    struct document_row row;
    struct shared_row shared = {.revision = ""};
    bool known = false;
    bool ok = store_find_document(&row, &out->found, arena, corpus->store, doc_id, err) &&
              store_find_shared(&shared, &known, arena, corpus->store, doc_id, err);
    if (ok && reason->told) /* what came later stays */
        out->found = out->found && shared.generation > 0 && shared.generation <= reason->generation;
    if (ok && out->found) {
        snprintf(out->filename, sizeof out->filename, "%s", row.filename);
        ok = delete_rows(out, corpus, doc_id, reason, &shared, err);
    }
    if (ok && out->found && !out->kept) {
        queue_cancel_document(corpus->queue, doc_id);
        /* The rows are gone: a folder that could not be removed now goes with the attempt that
         * still writes to it, or at the next start. */
        struct error files_err;
        if (!store_drop_files(corpus->store, doc_id, &files_err))
            log_warn("files of %s stay behind: %s", doc_id, files_err.text);
    }
    lock_drop(stripe);
    arena_free(arena);
    if (ok && out->found && !out->kept)
        corpus_tell(corpus, DOCUMENT_REMOVED, doc_id, out->filename);
    if (ok && out->found && !reason->told)
        corpus_shared_wake(corpus);
    return ok;
}

bool corpus_remove(struct removed *out, struct corpus *corpus, const char *doc_id,
                   struct error *err) {
    const struct reason reason = {0};
    return take_out(out, corpus, doc_id, &reason, err);
}

bool corpus_drop_source(struct removed *out, struct corpus *corpus, const char *doc_id,
                        const char *path, struct error *err) {
    const struct reason reason = {.source = path};
    return take_out(out, corpus, doc_id, &reason, err);
}

bool corpus_take_removal(struct removed *out, struct corpus *corpus, const char *doc_id,
                         int64_t generation, struct error *err) {
    const struct reason reason = {.told = true, .generation = generation};
    if (!take_out(out, corpus, doc_id, &reason, err))
        return false;
    if (out->found)
        log_info("Removed %s: another worker removed it", out->filename);
    return true;
}

void corpus_drop_unnamed(struct corpus *corpus, const char *doc_id) {
    struct arena *arena = arena_new(0);
    struct document_row row;
    bool found;
    struct error err;
    if (store_find_document(&row, &found, arena, corpus->store, doc_id, &err) && !found &&
        !store_drop_files(corpus->store, doc_id, &err))
        log_warn("files of %s stay behind: %s", doc_id, err.text);
    arena_free(arena);
}

/* The document whose bytes lie at path. What nobody could have added from there is not looked into:
 * a path may name anything, a device that never ends among it. */
static bool find_by_bytes(char doc_id[SHA256_HEX + 1], bool *found, struct arena *arena,
                          struct corpus *corpus, const char *path, struct error *err) {
    struct stat st;
    struct document_row row;
    struct error unreadable;
    *found = false;
    if (!corpus_path_allowed(path, corpus->settings) || stat(path, &st) != 0)
        return true;
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INPUT, "%s is not a file", path);
    if (st.st_size > corpus->settings->max_file_bytes ||
        !file_sha256(doc_id, NULL, path, &unreadable))
        return true;
    return store_find_document(&row, found, arena, corpus->store, doc_id, err);
}

/* The document of this folder that path means: by the bytes that lie there, else by where it came
 * from. */
static bool find_by_path(char doc_id[SHA256_HEX + 1], bool *found, bool *is_source,
                         struct corpus *corpus, const char *path, struct error *err) {
    struct arena *arena = arena_new(0);
    char source_id[SHA256_HEX + 1];
    bool has_source, ok = false;
    if (!store_find_source(source_id, &has_source, corpus->store, path, err) ||
        !find_by_bytes(doc_id, found, arena, corpus, path, err))
        goto end;
    if (!*found && has_source) {
        memcpy(doc_id, source_id, sizeof source_id);
        *found = true;
    }
    *is_source = *found && has_source && strcmp(doc_id, source_id) == 0;
    ok = true;
end:
    arena_free(arena);
    return ok;
}

static bool move_shown(struct removed *out, struct corpus *corpus, const char *doc_id,
                       const char *path, struct error *err) {
    struct store_tx *tx;
    *out = (struct removed){.found = true, .kept = true};
    memcpy(out->doc_id, doc_id, sizeof out->doc_id);
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if (store_set_shown_path(tx, doc_id, path, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

/* What the Python worker has of the path, in whose place nothing stands here: a file that was put
 * twice is two documents of theirs. It cannot be made again from a file that is not taken here. */
static bool end_older(struct removed *out, struct corpus *corpus, const char *path,
                      const char *moved_to, struct error *err) {
    char doc_id[SHA256_HEX + 1];
    bool found = true, ok = true;
    while (ok && found) {
        struct removed one = {0};
        ok = store_find_mirrored(doc_id, &found, corpus->store, OLDER_ORIGIN, path, err);
        if (ok && found)
            ok = moved_to ? move_shown(&one, corpus, doc_id, moved_to, err)
                          : corpus_remove(&one, corpus, doc_id, err);
        if (ok && !out->found)
            *out = one;
    }
    return ok;
}

bool corpus_remove_path(struct removed *out, struct corpus *corpus, const char *path,
                        const char *moved_to, struct error *err) {
    char real[PATH_MAX], real_to[PATH_MAX], doc_id[SHA256_HEX + 1];
    bool found, is_source;
    memset(out, 0, sizeof *out);
    if (moved_to && corpus_real_path(real_to, moved_to))
        moved_to = real_to;
    const char *place = corpus_real_path(real, path) ? real : path;
    if (!find_by_path(doc_id, &found, &is_source, corpus, place, err))
        return false;
    bool ok = !found      ? true
              : is_source ? corpus_drop_source(out, corpus, doc_id, place, err)
                          : corpus_remove(out, corpus, doc_id, err);
    return ok && ((moved_to && strcmp(moved_to, place) == 0) ||
                  end_older(out, corpus, place, moved_to, err));
}
