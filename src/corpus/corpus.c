/* Opening and closing: lock, store, index, models, readers, queue, in that order, and back.
 *
 * Invariants:
 *  1. A document's row is written only after its original is synced under its id.
 *  2. Files of an id change together with its rows only under the id's stripe. */
#include "corpus/explain.h"
#include "corpus/shared.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool corpus_set_url(struct corpus *corpus, const char *url, struct error *err) {
    return store_lock_set_url(corpus->lock, url, err);
}

bool corpus_start(struct corpus *corpus, struct error *err) {
    corpus->started = true;
    corpus_watch_damage(corpus);
    return index_start(corpus->index, err) && corpus_models_start(corpus, err) &&
           queue_start(corpus->queue, err) && corpus_reindex_start(corpus, err) &&
           corpus_uploads_start(corpus, err) && corpus_shared_start(corpus, err);
}

void corpus_stop(struct corpus *corpus) {
    corpus_uploads_stop(corpus);
    corpus_import_stop(corpus);
    corpus_reindex_stop(corpus);
    corpus_shared_stop(corpus);
    if (corpus->started)
        queue_stop(corpus->queue);
    corpus->started = false;
    corpus_models_stop(corpus);
}

void corpus_close(struct corpus *corpus) {
    if (!corpus)
        return;
    corpus_stop(corpus);
    corpus_uploads_close(corpus);
    index_close(corpus->index); /* first: it tells of damage, and has the device's threads */
    corpus_reindex_close(corpus);
    corpus_import_close(corpus);
    queue_close(corpus->queue);
    corpus_shared_close(corpus);
    read_pool_close(corpus->readers);
    corpus_models_close(corpus);
    corpus_questions_free(corpus->questions);
    store_close(corpus->store);
    store_lock_release(corpus->lock);
    for (int i = 0; i < CORPUS_STRIPES; i++)
        lock_fini(&corpus->stripes[i]);
    cond_fini(&corpus->owners_changed);
    lock_fini(&corpus->owners_lock);
    mem_free(corpus);
}

void corpus_set_listener(struct corpus *corpus, corpus_listener listener, void *ctx) {
    assert(!corpus->started);
    corpus->listener = listener;
    corpus->listener_ctx = ctx;
}

void corpus_tell(struct corpus *corpus, enum document_change change, const char *doc_id,
                 const char *filename) {
    if (corpus->listener)
        corpus->listener(corpus->listener_ctx, change, doc_id, filename);
}

struct store *corpus_store(struct corpus *corpus) {
    return corpus->store;
}

struct queue *corpus_queue(struct corpus *corpus) {
    return corpus->queue;
}

struct read_pool *corpus_readers(struct corpus *corpus) {
    return corpus->readers;
}

const struct settings *corpus_settings(const struct corpus *corpus) {
    return corpus->settings;
}

struct lock *corpus_stripe(struct corpus *corpus, const char *doc_id) {
    unsigned value = 0;
    sscanf(doc_id, "%4x", &value);
    return &corpus->stripes[value % CORPUS_STRIPES];
}

/* Is word one of the words of list, which commas or spaces separate? */
static bool list_has(const char *list, const char *word) {
    size_t word_len = strlen(word);
    while (*list) {
        size_t n = strcspn(list, ", ");
        if (n == word_len && strncasecmp(list, word, n) == 0)
            return true;
        list += n;
        list += strspn(list, ", ");
    }
    return false;
}

/* Does word name this format: by its name, its group or one of its extensions? */
static bool names_format(const char *word, size_t len, const struct read_format_info *info) {
    char one[16];
    if (len >= sizeof one)
        return false;
    memcpy(one, word, len);
    one[len] = '\0';
    return strcasecmp(one, info->name) == 0 || strcasecmp(one, info->group) == 0 ||
           list_has(info->extensions, one);
}

bool corpus_allows(const struct corpus *corpus, enum read_format format) {
    const char *allowed = corpus->settings->supported_formats;
    if (format == FORMAT_UNKNOWN)
        return false;
    if (!allowed || !*allowed)
        return true;
    const struct read_format_info *info = read_format_lookup(format);
    while (*allowed) {
        size_t n = strcspn(allowed, ", ");
        if (names_format(allowed, n, info))
            return true;
        allowed += n;
        allowed += strspn(allowed, ", ");
    }
    return false;
}

/* Every word of SUPPORTED_FORMATS must name something. */
static bool check_formats(const struct settings *settings, struct error *err) {
    const char *word = settings->supported_formats ? settings->supported_formats : "";
    while (*word) {
        size_t n = strcspn(word, ", ");
        bool known = n == 0;
        for (int format = FORMAT_UNKNOWN + 1; format < FORMAT_N && !known; format++)
            known = names_format(word, n, read_format_lookup((enum read_format)format));
        if (!known)
            return error_set(err, ERROR_INPUT,
                             "SUPPORTED_FORMATS names '%.*s', which is no format, extension or "
                             "group (pdf, office, text, images)",
                             (int)n, word);
        word += n;
        word += strspn(word, ", ");
    }
    return true;
}

bool corpus_takes_name(const struct corpus *corpus, const char *filename) {
    enum read_format format = read_format_of_name(path_name(filename));
    return format != FORMAT_UNKNOWN && corpus_allows(corpus, format);
}

static bool open_index(struct corpus *corpus, struct error *err) {
    const struct settings *settings = corpus->settings;
    const struct index_settings how = {.pool_factor = settings->index_pool_factor,
                                       .code_bits = settings->index_code_bits,
                                       .keep_full = settings->index_full_vectors,
                                       .recall = settings->search_recall,
                                       .device = corpus->device};
    return index_open(&corpus->index, corpus->store, settings->data_dir, &how, err);
}

bool corpus_open(struct corpus **out, char **holder_url, const struct settings *settings,
                 struct error *err) {
    struct corpus *corpus = mem_alloc(sizeof *corpus);
    corpus->settings = settings;
    corpus->questions = corpus_questions_new();
    for (int i = 0; i < CORPUS_STRIPES; i++)
        lock_init(&corpus->stripes[i], LOCK_CORPUS);
    lock_init(&corpus->owners_lock, LOCK_READ);
    cond_init(&corpus->owners_changed);
    corpus_import_open(corpus);
    if (holder_url)
        *holder_url = NULL;
    if (!check_formats(settings, err) || !dir_make(settings->data_dir, err) ||
        !dir_make(settings->uploads_dir, err) ||
        !store_lock_take(&corpus->lock, holder_url, settings->data_dir, err) ||
        !store_open(&corpus->store, settings->data_dir, err))
        goto fail;
    int n_lost = 0;
    if (!store_check(corpus->store, &n_lost, err))
        goto fail;
    if (n_lost > 0)
        log_warn("%d documents have lost their original and are marked failed", n_lost);
    if (!corpus_device_open(corpus, err) || !open_index(corpus, err) ||
        !corpus_models_open(corpus, err) ||
        !read_pool_open(&corpus->readers, settings, settings->n_workers,
                        store_tmp_dir(corpus->store), err) ||
        !queue_open(&corpus->queue, corpus->store, settings->n_workers, corpus_work, corpus, err) ||
        !corpus_reindex_open(corpus, err) || !corpus_shared_open(corpus, err))
        goto fail;
    *out = corpus;
    return true;
fail:
    corpus_close(corpus);
    return false;
}

bool corpus_sharing(struct sharing_facts *out, struct arena *arena, struct corpus *corpus,
                    const char *doc_id, struct error *err) {
    struct shared_row shared;
    bool found;
    *out = (struct sharing_facts){.worker = ""};
    if (!store_find_shared(&shared, &found, arena, corpus->store, doc_id, err))
        return false;
    if (found) {
        out->worker = shared.origin;
        out->waiting = corpus->shared && shared.epoch == SHARED_HELD;
    }
    return true;
}

bool corpus_check_own(struct corpus *corpus, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    struct sharing_facts facts;
    bool ok = corpus_sharing(&facts, arena, corpus, doc_id, err);
    if (ok && *facts.worker)
        ok = error_set_code(err, ERROR_MISSING, "kept_elsewhere",
                            "the files of this document are with the worker %.150s", facts.worker);
    arena_free(arena);
    return ok;
}

bool corpus_load(struct document **out, struct corpus *corpus, const char *doc_id,
                 struct error *err) {
    struct arena *arena = arena_new(0);
    char *data = NULL;
    bool ok = false;
    struct document_row row;
    bool found;
    if (!store_find_document(&row, &found, arena, corpus->store, doc_id, err))
        goto end;
    if (!found) {
        error_set(err, ERROR_MISSING, "no document %s", doc_id);
        goto end;
    }
    if (!corpus_check_own(corpus, doc_id, err))
        goto end;
    if (row.state != DOCUMENT_READY) {
        error_set_code(err, ERROR_CONFLICT, "not_ready", "document %s has not been read%s%s",
                       doc_id, *row.error_text ? ": " : " yet", row.error_text);
        goto end;
    }
    size_t len;
    const char *path = store_path(arena, corpus->store, doc_id, STORE_DOCUMENT, 0);
    ok = file_read(&data, &len, path, (size_t)2 << 30, err) && doc_decode(out, data, len, err);
    if (!ok)
        error_prefix(err, "document %s: ", doc_id);
end:
    mem_free(data);
    arena_free(arena);
    return ok;
}
