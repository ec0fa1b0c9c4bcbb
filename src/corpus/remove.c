/* Documents out: jobs cancelled, rows and full text gone in one commit, then the files. */
#include "corpus/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The rows in one transaction. With a source, only that source goes while there are others. */
static bool delete_rows(struct removed *out, struct corpus *corpus, const char *doc_id,
                        const char *source, struct error *err) {
    struct store_tx *tx;
    int n_left = 0;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if ((source && !store_drop_source(tx, &n_left, doc_id, source, err)) ||
        (n_left == 0 &&
         !store_delete_document(tx, &out->found, &out->n_pages, &out->n_chunks, doc_id, err))) {
        store_rollback(tx);
        return false;
    }
    out->kept = n_left > 0;
    return store_commit(tx, err);
}

static bool take_out(struct removed *out, struct corpus *corpus, const char *doc_id,
                     const char *source, struct error *err) {
    memset(out, 0, sizeof *out);
    if (!sha256_is_hex(doc_id))
        return error_set(err, ERROR_INPUT, "'%.80s' is not a document id", doc_id);
    snprintf(out->doc_id, sizeof out->doc_id, "%s", doc_id);
    struct arena *arena = arena_new(0);
    struct lock *stripe = corpus_stripe(corpus, doc_id);
    lock_take(stripe);
    struct document_row row;
    bool ok = store_find_document(&row, &out->found, arena, corpus->store, doc_id, err);
    if (ok && out->found) {
        snprintf(out->filename, sizeof out->filename, "%s", row.filename);
        ok = delete_rows(out, corpus, doc_id, source, err);
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
    return ok;
}

bool corpus_remove(struct removed *out, struct corpus *corpus, const char *doc_id,
                   struct error *err) {
    return take_out(out, corpus, doc_id, NULL, err);
}

bool corpus_drop_source(struct removed *out, struct corpus *corpus, const char *doc_id,
                        const char *path, struct error *err) {
    return take_out(out, corpus, doc_id, path, err);
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

/* The document that path means: by the bytes that lie there, else by where it came from. */
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

bool corpus_remove_path(struct removed *out, struct corpus *corpus, const char *path,
                        struct error *err) {
    char real[PATH_MAX], doc_id[SHA256_HEX + 1];
    bool found, is_source;
    memset(out, 0, sizeof *out);
    const char *place = corpus_real_path(real, path) ? real : path;
    if (!find_by_path(doc_id, &found, &is_source, corpus, place, err))
        return false;
    if (!found)
        return true;
    return is_source ? corpus_drop_source(out, corpus, doc_id, place, err)
                     : corpus_remove(out, corpus, doc_id, err);
}
