/* Documents of the Python worker: found where they stand, and brought over when asked for.
 *
 * Their collections say nothing of the model. They are taken to be of the visual model in use where
 * that is one of late interaction of their dimension; other models never ask them. */
#include "corpus/older.h"

#include "base/path_map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST 100
#define EMBED_AT_ONCE 8

/* ---- taken in ------------------------------------------------------------------------------- */

struct looking {
    struct shared *shared;
    int64_t epoch;
    const struct path_map *map;
    char (*listed)[SHA256_HEX + 1];
    size_t n_listed, cap_listed;
    int64_t n; /* that were not brought over */
};

static void note_listed(struct looking *looking, const char *doc_id) {
    if (looking->n_listed == looking->cap_listed) {
        looking->cap_listed = looking->cap_listed ? looking->cap_listed * 2 : 256;
        looking->listed = mem_grow(looking->listed, looking->cap_listed, sizeof *looking->listed);
    }
    memcpy(looking->listed[looking->n_listed++], doc_id, SHA256_HEX + 1);
}

/* Their path as it is here: they may have run in a container, and below the folder that the uploads
 * lie in. */
static const char *path_here(struct arena *arena, const struct looking *looking, const char *path) {
    char real[PATH_MAX];
    if (!*path)
        return path;
    if (*path != '/') {
        const char *uploads = looking->shared->corpus->settings->uploads_dir;
        const char *name = path_name(uploads);
        path = path_join(arena, arena_strndup(arena, uploads, (size_t)(name - uploads)), path);
    }
    path = path_map_apply(arena, looking->map, path);
    return corpus_real_path(real, path) ? arena_strdup(arena, real) : path;
}

static char *revision_of(struct arena *arena, const struct chroma_legacy_document *document) {
    return arena_printf(arena, "%d %d %s", document->n_page_rows, document->n_chunk_rows,
                        document->document.filename);
}

/* The format's name and group as this program has them: theirs was the name's extension. */
static void name_format(struct arena *arena, struct document_row *row) {
    enum read_format format = read_format_of_name(arena_printf(arena, "x.%s", row->format));
    const struct read_format_info *info = read_format_lookup(format);
    if (format != FORMAT_UNKNOWN)
        row->format = info->name;
    row->group = format != FORMAT_UNKNOWN ? info->group : "text";
    row->warning = "";
    row->error_code = row->error_text = "";
}

static bool take_in(struct arena *arena, struct looking *looking,
                    const struct chroma_legacy_document *document, const char *path,
                    const char *revision, struct error *err) {
    struct corpus *corpus = looking->shared->corpus;
    struct document_row row = document->document;
    struct chunk_row *chunks;
    struct store_tx *tx;
    bool own;
    int n;
    struct shared_row shared = {
        .origin = OLDER_ORIGIN, .generation = 1, .epoch = looking->epoch, .revision = revision};
    memcpy(shared.doc_id, row.doc_id, sizeof shared.doc_id);
    row.source_path = path;
    name_format(arena, &row);
    if (!chroma_legacy_load_chunks(&chunks, &n, arena, looking->shared->older, row.doc_id, err))
        return false;
    const struct page_row *pages = arena_alloc(arena, ((size_t)row.n_pages + 1) * sizeof *pages);
    row.n_chunks = n;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if (!store_put_mirrored(tx, &own, &row, &shared, pages, chunks, n, err)) {
        store_rollback(tx);
        return false;
    }
    if (!store_commit(tx, err))
        return false;
    log_info("Found document: %s (%d pages), put by the Python worker", row.filename, row.n_pages);
    if (!own)
        corpus_tell(corpus, DOCUMENT_FOUND, row.doc_id, row.filename);
    return true;
}

/* ---- read anew here ------------------------------------------------------------------------- */

/* Is there a reading of the file at path that every search finds? */
static bool is_read_anew(bool *out, struct corpus *corpus, const char *path, struct error *err) {
    char doc_id[SHA256_HEX + 1];
    bool lacks = false, has_job = false;
    struct job_row job = {0};
    *out = false;
    if (!*path)
        return true;
    struct arena *arena = arena_new(0);
    bool ok = store_find_ready(doc_id, out, corpus->store, path, OLDER_ORIGIN, err) &&
              (!*out ||
               (corpus_lacks_vectors(&lacks, corpus, doc_id, err) &&
                store_find_document_job(&job, &has_job, arena, corpus->store, doc_id, err)));
    arena_free(arena);
    /* Its job puts it into the shared store. */
    bool busy = has_job && (job.state == JOB_QUEUED || job.state == JOB_PROCESSING);
    *out = ok && *out && !lacks && !busy;
    return ok;
}

typedef bool (*store_change)(struct store_tx *tx, void *ctx, struct error *err);

/* One change of a document of theirs, in a transaction of its own. */
static bool change(struct corpus *corpus, const char *doc_id, store_change make, void *ctx,
                   struct error *err) {
    struct lock *stripe = corpus_stripe(corpus, doc_id);
    struct store_tx *tx;
    lock_take(stripe);
    bool ok = store_begin(&tx, corpus->store, err);
    if (ok && make(tx, ctx, err)) {
        ok = store_commit(tx, err);
    } else if (ok) {
        store_rollback(tx);
        ok = false;
    }
    lock_drop(stripe);
    return ok;
}

/* A document of theirs as it is known here. */
struct known {
    const char *doc_id, *path;
    bool found;      /* it is a document here */
    bool brought;    /* over, or another's: it has a revision of ours */
    bool superseded; /* it is none, its file was read anew */
    struct shared_row shared;
};

static bool put_superseded(struct store_tx *tx, void *ctx, struct error *err) {
    const struct known *known = ctx;
    return store_put_superseded(tx, known->doc_id, known->path, err);
}

static bool drop_superseded(struct store_tx *tx, void *ctx, struct error *err) {
    const struct known *known = ctx;
    return store_drop_superseded(tx, known->doc_id, err);
}

static bool delete_row(struct store_tx *tx, void *ctx, struct error *err) {
    bool found;
    int n_pages, n_chunks;
    return store_delete_document(tx, &found, &n_pages, &n_chunks, ctx, err);
}

/* The path is the one that it has here: the file may have been moved since. */
static bool find_known(struct known *out, struct arena *arena, const struct looking *looking,
                       const struct document_row *row, struct error *err) {
    struct store *store = looking->shared->corpus->store;
    struct document_row here;
    const char *superseded;
    *out = (struct known){.doc_id = row->doc_id};
    if (!store_find_shared(&out->shared, &out->found, arena, store, row->doc_id, err) ||
        !store_find_document(&here, &out->found, arena, store, row->doc_id, err) ||
        !store_find_superseded(&superseded, arena, store, row->doc_id, err))
        return false;
    out->superseded = superseded != NULL;
    out->brought = out->found && (strcmp(out->shared.origin, OLDER_ORIGIN) != 0 ||
                                  sha256_is_hex(out->shared.revision));
    out->path = out->found        ? here.source_path
                : out->superseded ? superseded
                                  : path_here(arena, looking, row->source_path);
    return true;
}

/* Searches find a file once: as it was read here. */
static bool supersede(struct known *known, struct corpus *corpus, const char *filename,
                      struct error *err) {
    if (known->superseded)
        return true;
    if (!change(corpus, known->doc_id, put_superseded, known, err))
        return false;
    log_info("%s was read anew: the Python worker's reading is not searched any more", filename);
    if (known->found)
        corpus_tell(corpus, DOCUMENT_REMOVED, known->doc_id, filename);
    return true;
}

bool corpus_older_supersede(struct corpus *corpus, const char *path, struct error *err) {
    struct arena *arena = arena_new(0);
    bool ok = true, anew = false, more = path && *path;
    if (more)
        ok = is_read_anew(&anew, corpus, path, err);
    while (ok && anew && more) {
        char doc_id[SHA256_HEX + 1];
        struct known known = {.doc_id = doc_id, .path = path};
        ok = store_find_mirrored(doc_id, &more, corpus->store, OLDER_ORIGIN, path, err) &&
             (!more ||
              store_find_shared(&known.shared, &known.found, arena, corpus->store, doc_id, err));
        more = more && known.found && !sha256_is_hex(known.shared.revision);
        if (ok && more)
            ok = supersede(&known, corpus, path_name(path), err);
    }
    arena_free(arena);
    return ok;
}

static bool on_document(void *ctx, const struct chroma_legacy_document *document,
                        struct error *err) {
    struct looking *looking = ctx;
    struct corpus *corpus = looking->shared->corpus;
    const struct document_row *row = &document->document;
    struct arena *arena = arena_new(0);
    struct known known;
    bool anew = false;
    note_listed(looking, row->doc_id);
    bool ok = find_known(&known, arena, looking, row, err) &&
              (known.brought || is_read_anew(&anew, corpus, known.path, err));
    if (ok && anew) {
        ok = supersede(&known, corpus, row->filename, err);
        arena_free(arena);
        return ok;
    }
    if (ok && known.superseded)
        ok = change(corpus, row->doc_id, drop_superseded, &known, err);
    const char *revision = revision_of(arena, document);
    looking->n += ok && !known.brought;
    if (ok && !known.brought && (!known.found || strcmp(known.shared.revision, revision) != 0))
        ok = take_in(arena, looking, document, known.path, revision, err);
    else if (ok && !known.brought && known.shared.epoch != looking->epoch)
        /* They stand where they stood, whatever became of the collections of ours. */
        ok = corpus_share_seen(corpus, row->doc_id, known.shared.generation, looking->epoch,
                               revision, err);
    arena_free(arena);
    return ok;
}

/* ---- gone from there ------------------------------------------------------------------------ */

static int by_id(const void *a, const void *b) {
    return strcmp(a, b);
}

/* It may not have been listed because it could not be read. */
static bool has_rows(bool *out, struct arena *arena, struct chroma_legacy *older,
                     const char *doc_id, struct error *err) {
    int *items, n_pages, n_chunks;
    if (!chroma_legacy_items(&items, &n_pages, arena, older, doc_id, ITEM_PAGE, err) ||
        !chroma_legacy_items(&items, &n_chunks, arena, older, doc_id, ITEM_CHUNK, err))
        return false;
    *out = n_pages + n_chunks > 0;
    return true;
}

/* What the Python worker has removed itself. */
static bool drop_gone(struct looking *looking, struct error *err) {
    struct corpus *corpus = looking->shared->corpus;
    struct arena *arena = arena_new(0);
    struct shared_row *rows;
    int n;
    qsort(looking->listed, looking->n_listed, sizeof *looking->listed, by_id);
    bool ok = store_list_mirrored(&rows, &n, arena, corpus->store, OLDER_ORIGIN, err);
    for (int i = 0; i < n && ok; i++) {
        bool there = true;
        if (sha256_is_hex(rows[i].revision) ||
            bsearch(rows[i].doc_id, looking->listed, looking->n_listed, sizeof *looking->listed,
                    by_id))
            continue;
        ok = has_rows(&there, arena, looking->shared->older, rows[i].doc_id, err);
        if (!ok || there)
            continue;
        ok = change(corpus, rows[i].doc_id, delete_row, rows[i].doc_id, err);
        if (ok)
            corpus_tell(corpus, DOCUMENT_REMOVED, rows[i].doc_id, "");
    }
    arena_free(arena);
    return ok;
}

bool corpus_older_look(struct shared *shared, struct error *err) {
    struct arena *arena = arena_new(0);
    struct path_map map = {0};
    struct looking looking = {.shared = shared, .map = &map};
    struct chroma_legacy_facts facts;
    bool ok = path_map_read(&map, arena, shared->corpus->settings->hook_path_map, err) &&
              corpus_shared_epoch(&looking.epoch, shared->corpus, err) &&
              chroma_legacy_facts(&facts, shared->older, err);
    if (ok && facts.n_documents > 0)
        ok = chroma_legacy_list(shared->older, on_document, &looking, err) &&
             drop_gone(&looking, err);
    if (ok) {
        lock_take(&shared->lock);
        shared->n_older = looking.n;
        lock_drop(&shared->lock);
    }
    mem_free(looking.listed);
    arena_free(arena);
    return ok;
}

/* ---- searched ------------------------------------------------------------------------------- */

/* May questions by the model of this kind be put to them? */
static bool is_asked(bool *out, struct arena *arena, struct corpus *corpus, enum item_kind kind,
                     struct error *err) {
    struct shared_spaces spaces;
    struct chroma_legacy_facts facts;
    *out = false;
    if (!corpus_shared_spaces(&spaces, arena, corpus, err) ||
        !chroma_legacy_facts(&facts, corpus->shared->older, err))
        return false;
    const struct chroma_space *space = &spaces.names.of[kind];
    *out = facts.n_documents > 0 && space->late && space->dim == CHROMA_LEGACY_DIM;
    return true;
}

bool corpus_older_search(struct index_hit **out, int *n, int64_t *n_unasked, struct arena *arena,
                         struct corpus *corpus, const struct chroma_query *query,
                         struct error *err) {
    struct shared *shared = corpus->shared;
    struct index_effort effort;
    bool asked;
    *n = 0;
    *n_unasked = 0;
    if (!is_asked(&asked, arena, corpus, query->kind, err))
        return false;
    if (asked)
        return chroma_legacy_search(out, n, &effort, arena, shared->older, query, err);
    lock_take(&shared->lock);
    *n_unasked = shared->n_older;
    lock_drop(&shared->lock);
    return true;
}

bool corpus_older_fit(struct index_fit *out, bool *found, struct arena *arena,
                      struct corpus *corpus, const char *doc_id, enum item_kind kind, int item,
                      const float *query, int n_query, struct error *err) {
    float *vectors;
    int n;
    if (!chroma_legacy_load_item(&vectors, &n, found, arena, corpus->shared->older, doc_id, kind,
                                 item, err))
        return false;
    if (!*found)
        return true;
    out->n_query = n_query;
    out->n_vectors = n;
    out->values = arena_try(arena, (size_t)n_query * (size_t)n, sizeof *out->values);
    if (!out->values)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for a comparison");
    for (int q = 0; q < n_query; q++) {
        for (int v = 0; v < n; v++) {
            const float *a = query + (size_t)q * CHROMA_LEGACY_DIM;
            const float *b = vectors + (size_t)v * CHROMA_LEGACY_DIM;
            float sum = 0;
            for (int d = 0; d < CHROMA_LEGACY_DIM; d++)
                sum += a[d] * b[d];
            out->values[(size_t)q * (size_t)n + (size_t)v] = sum;
        }
    }
    return true;
}

/* ---- brought over --------------------------------------------------------------------------- */

struct moving {
    struct reindex *r;
    struct arena *arena;
    struct carrying carrying;
};

static bool is_theirs(const struct moving *m, enum item_kind kind) {
    const struct chroma_space *space = &m->carrying.spaces.names.of[kind];
    return space->late && space->dim == CHROMA_LEGACY_DIM;
}

static bool carry_vectors(struct moving *m, enum item_kind kind, struct error *err) {
    struct chroma_legacy *older = m->r->corpus->shared->older;
    int *items, n_items;
    bool ok = chroma_legacy_items(&items, &n_items, m->arena, older, m->carrying.doc_id, kind, err);
    for (int i = 0; i < n_items && ok; i++) {
        struct arena *arena = arena_new(0);
        float *vectors;
        int n;
        bool found;
        ok = corpus_reindex_goes_on(m->r, 0, err) &&
             chroma_legacy_load_item(&vectors, &n, &found, arena, older, m->carrying.doc_id, kind,
                                     items[i], err);
        if (ok && found && n > 0)
            ok = corpus_carry_add(&m->carrying, kind, items[i], vectors, n, err);
        arena_free(arena);
    }
    return ok;
}

/* Passages by the text model in use, whose vectors theirs are not. */
static bool embed_passages(struct moving *m, struct error *err) {
    struct corpus *corpus = m->r->corpus;
    struct chunk_row *chunks;
    int n;
    if (!store_list_chunks(&chunks, &n, m->arena, corpus->store, m->carrying.doc_id, false, err))
        return false;
    for (int first = 0; first < n; first += EMBED_AT_ONCE) {
        int n_now = n - first < EMBED_AT_ONCE ? n - first : EMBED_AT_ONCE;
        struct model_input inputs[EMBED_AT_ONCE] = {0};
        struct embedding *vectors;
        struct arena *arena = arena_new(0);
        bool ok = corpus_reindex_goes_on(m->r, 0, err);
        for (int i = 0; i < n_now; i++) {
            inputs[i].kind = INPUT_PASSAGE;
            inputs[i].text = chunks[first + i].text;
            inputs[i].len = strlen(chunks[first + i].text);
        }
        vectors = arena_alloc(arena, EMBED_AT_ONCE * sizeof *vectors);
        ok = ok && corpus_embed(vectors, arena, corpus, ROLE_TEXT, NULL, inputs, n_now, err);
        for (int i = 0; i < n_now && ok; i++)
            ok = vectors[i].n == 0 ||
                 corpus_carry_add(&m->carrying, ITEM_CHUNK, chunks[first + i].ordinal,
                                  vectors[i].values, vectors[i].n, err);
        arena_free(arena);
        if (!ok)
            return false;
    }
    return true;
}

/* Its vectors into the index here. */
static bool carry(struct moving *m, struct error *err) {
    bool ok = corpus_shared_spaces(&m->carrying.spaces, m->arena, m->r->corpus, err);
    if (ok && !is_theirs(m, ITEM_PAGE) && !m->carrying.spaces.numbers[ITEM_CHUNK])
        return error_set_code(err, ERROR_DEVICE, "no_model",
                              "no model in use is of the dimension of the Python worker's vectors, "
                              "and none embeds passages");
    if (ok && is_theirs(m, ITEM_PAGE))
        ok = carry_vectors(m, ITEM_PAGE, err);
    if (ok && is_theirs(m, ITEM_CHUNK))
        ok = carry_vectors(m, ITEM_CHUNK, err);
    else if (ok && m->carrying.spaces.numbers[ITEM_CHUNK])
        ok = embed_passages(m, err);
    ok = ok && corpus_carry_commit(&m->carrying, err);
    corpus_carry_end(&m->carrying);
    return ok;
}

static bool move_one(struct reindex *r, const struct document_row *row, bool carried,
                     struct error *err) {
    struct moving m = {
        .r = r, .arena = arena_new(0), .carrying = {.corpus = r->corpus, .doc_id = row->doc_id}};
    struct error why = {0};
    bool ok = (carried || carry(&m, &why)) && corpus_share(r->corpus, NULL, row->doc_id, &why);
    arena_free(m.arena);
    if (!corpus_reindex_goes_on(r, 0, err))
        return false;
    lock_take(&r->lock);
    r->n_done += ok;
    r->n_failed += !ok;
    r->n_pages += ok ? row->n_pages : 0;
    lock_drop(&r->lock);
    if (!ok) {
        r->last = why;
        log_warn("%s cannot be brought over: %s", row->filename, why.text);
    }
    return true;
}

typedef bool (*older_visitor)(struct reindex *r, const struct document_row *row, bool carried,
                              struct error *err);

/* Every document here that came from there; carried: its vectors are in the index already. */
static bool visit_all(int64_t *n, struct reindex *r, struct corpus *corpus, older_visitor visit,
                      struct error *err) {
    struct store_list_query query = {.sort = SORT_OLDEST, .limit = LIST};
    int64_t total = 1;
    bool ok = true;
    *n = 0;
    for (; ok && query.offset < total; query.offset += LIST) {
        struct arena *arena = arena_new(0);
        struct document_row *rows;
        int n_rows = 0;
        ok = store_list_documents(&rows, &n_rows, &total, arena, corpus->store, &query, err);
        for (int i = 0; i < n_rows && ok; i++) {
            struct shared_row shared;
            bool found;
            ok = store_find_shared(&shared, &found, arena, corpus->store, rows[i].doc_id, err);
            if (!ok || !found || strcmp(shared.origin, OLDER_ORIGIN) != 0)
                continue;
            *n += 1;
            ok = !visit || visit(r, &rows[i], sha256_is_hex(shared.revision), err);
        }
        arena_free(arena);
    }
    return ok;
}

bool corpus_older_count(int64_t *n, struct corpus *corpus, struct error *err) {
    return visit_all(n, NULL, corpus, NULL, err);
}

bool corpus_older_move(struct reindex *r, struct error *err) {
    int64_t n;
    return visit_all(&n, r, r->corpus, move_one, err);
}
