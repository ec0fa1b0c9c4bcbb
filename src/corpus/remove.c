/* Documents out: jobs cancelled, rows and full text gone in one commit, then the files. */
#include "corpus/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

bool corpus_remove(struct removed *out, struct corpus *corpus, const char *doc_id,
                   struct error *err) {
    memset(out, 0, sizeof *out);
    if (!sha256_is_hex(doc_id))
        return error_set(err, ERROR_INPUT, "'%.80s' is not a document id", doc_id);
    snprintf(out->doc_id, sizeof out->doc_id, "%s", doc_id);
    struct arena *arena = arena_new(0);
    struct lock *stripe = corpus_stripe(corpus, doc_id);
    lock_take(stripe);
    struct document_row row;
    struct store_tx *tx;
    bool ok = store_find_document(&row, &out->found, arena, corpus->store, doc_id, err);
    if (ok && out->found) {
        snprintf(out->filename, sizeof out->filename, "%s", row.filename);
        queue_cancel_document(corpus->queue, doc_id);
        ok = store_begin(&tx, corpus->store, err);
        if (ok &&
            !store_delete_document(tx, &out->found, &out->n_pages, &out->n_chunks, doc_id, err)) {
            store_rollback(tx);
            ok = false;
        } else if (ok) {
            ok = store_commit(tx, err);
        }
        /* The rows are gone: a folder that could not be removed now goes at the next start. */
        struct error files_err;
        if (ok && !store_drop_files(corpus->store, doc_id, &files_err))
            log_warn("files of %s stay behind: %s", doc_id, files_err.text);
    }
    lock_drop(stripe);
    arena_free(arena);
    return ok;
}

/* The document that path means: by the bytes that lie there, else by where it came from. */
static bool find_by_path(char doc_id[SHA256_HEX + 1], bool *found, bool *is_source,
                         struct corpus *corpus, const char *path, struct error *err) {
    struct arena *arena = arena_new(0);
    char source_id[SHA256_HEX + 1];
    struct document_row row;
    bool has_source, ok = false;
    int64_t size_bytes = 0;
    if (!store_find_source(source_id, &has_source, corpus->store, path, err))
        goto end;
    *found = false;
    struct error unreadable;
    struct stat st;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
        file_sha256(doc_id, &size_bytes, path, &unreadable) &&
        !store_find_document(&row, found, arena, corpus->store, doc_id, err))
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
    if (is_source) {
        struct store_tx *tx;
        int n_left;
        if (!store_begin(&tx, corpus->store, err))
            return false;
        if (!store_drop_source(tx, &n_left, doc_id, place, err)) {
            store_rollback(tx);
            return false;
        }
        if (!store_commit(tx, err))
            return false;
        if (n_left > 0) {
            out->found = out->kept = true;
            memcpy(out->doc_id, doc_id, sizeof doc_id);
            snprintf(out->filename, sizeof out->filename, "%s", path_name(path));
            return true;
        }
    }
    return corpus_remove(out, corpus, doc_id, err);
}
