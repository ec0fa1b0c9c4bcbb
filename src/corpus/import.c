/* Import: an export checked whole, then its documents, a window of them at a time.
 *
 * Of a window first the vectors come in, in the order of their ids, so that what is older stays
 * older; then each document: its files, and in one transaction its rows, its passages and the rows
 * of its vectors. A document of another worker has no files; it comes as it was there, mirrored,
 * but where a store is shared, which tells of it itself. A document that is here already is left as
 * it is, so that an import that was cut off is gone on with by beginning it again. */
#include "corpus/blocks.h"
#include "corpus/export.h"
#include "corpus/internal.h"
#include "corpus/shared.h"
#include "corpus/sums.h"
#include "index/backup.h"
#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTE "import"
#define WINDOW 256
#define MAX_SPACES 1000

/* A space of the export, and of this folder. */
struct coming_space {
    struct space_row row;
    struct blocks blocks;
    int number; /* here; 0: not yet known */
    struct index_restore *restore;
};
/* A document of the window. */
struct coming {
    char doc_id[SHA256_HEX + 1];
    enum document_state state;
    bool mirrored;                 /* another worker's */
    int n_without;                 /* items whose block is missing */
    struct index_writer **writers; /* by space; NULL: nothing of that space, or not all of it */
    bool *broken;                  /* by space */
};
/* An item of the window. */
struct coming_item {
    struct item_row row;
    int document, space;
};

struct import {
    struct corpus *corpus;
    struct lock lock; /* LOCK_READ, over facts and thread */
    struct import_facts facts;
    struct thread *thread;
    atomic_bool stopping;

    /* The thread's. */
    char *folder, *work; /* work: where the copy of the database lies */
    struct sums sums;
    struct store *from;
    struct coming_space *spaces;
    int n_spaces;
    char (*ids)[SHA256_HEX + 1]; /* of all documents, in their order */
    size_t n_ids, max_ids;
    int64_t n_others; /* mirrored ones that are left to the store that is shared here */
    bool links;
};

static bool goes_on(struct import *m, struct error *err) {
    return !atomic_load(&m->stopping) ||
           error_set_code(err, ERROR_BUSY, "stopping", "the program is stopping");
}

static void set_stage(struct import *m, const char *stage) {
    lock_take(&m->lock);
    m->facts.stage = stage;
    lock_drop(&m->lock);
}

static void count(struct import *m, int64_t *fact, int64_t n) {
    lock_take(&m->lock);
    *fact += n;
    lock_drop(&m->lock);
}

/* ---- checked -------------------------------------------------------------------------------- */

static bool check_files(struct import *m, struct error *err) {
    for (size_t i = 0; i < m->sums.n; i++) {
        char hash[SHA256_HEX + 1];
        char *path = mem_printf("%s/%s", m->folder, corpus_sums_path(&m->sums, i));
        struct error why;
        bool ok = goes_on(m, err), read = ok && corpus_carry_hash(hash, path, &why);
        if (ok && !read)
            ok = error_set_code(err, ERROR_INPUT, "damaged_export", "%s", why.text);
        else if (ok && memcmp(hash, corpus_sums_hash(&m->sums, i), SHA256_HEX) != 0)
            ok = error_set_code(err, ERROR_INPUT, "damaged_export",
                                "%s is damaged: its SHA-256 is not as " EXPORT_SUMS " has it",
                                path);
        mem_free(path);
        if (!ok)
            return false;
        count(m, &m->facts.n_checked, 1);
    }
    return true;
}

static bool check_export(struct import *m, struct error *err) {
    int64_t n_documents;
    bool ok = corpus_sums_read(&m->sums, &n_documents, m->folder, err);
    lock_take(&m->lock);
    m->facts.n_files = (int64_t)m->sums.n;
    m->facts.n_documents = ok ? n_documents : 0;
    lock_drop(&m->lock);
    return ok && check_files(m, err);
}

static bool is_link_possible(struct import *m, const char *from) {
    char *to = mem_printf("%s/probe", m->work);
    bool possible = link(from, to) == 0;
    unlink(to);
    mem_free(to);
    return possible;
}

/* Room for what is copied: the database twice, the vectors, and files that cannot be linked. */
static bool check_room(struct import *m, struct error *err) {
    int64_t need = 0;
    for (size_t i = 0; i < m->sums.n; i++) {
        const char *path = corpus_sums_path(&m->sums, i);
        bool document = strncmp(path, "documents/", 10) == 0;
        struct carried file;
        bool found;
        char *from = mem_printf("%s/%s", m->folder, path);
        bool ok = (document && m->links) || corpus_carry_look(&file, &found, from, err);
        mem_free(from);
        if (!ok)
            return false;
        if (!(document && m->links))
            need += file.size_bytes * (strcmp(path, EXPORT_DATABASE) == 0 ? 2 : 1);
    }
    return store_check_space(m->corpus->store, need, err);
}

/* ---- opened --------------------------------------------------------------------------------- */

static bool open_spaces(struct import *m, struct arena *arena, struct error *err) {
    struct space_row *rows;
    int n;
    if (!store_list_spaces(&rows, &n, arena, m->from, err))
        return false;
    if (n > MAX_SPACES)
        return error_set(err, ERROR_LIMIT, "%d vector spaces", n);
    m->spaces = mem_alloc(((size_t)n + 1) * sizeof *m->spaces);
    for (int i = 0; i < n; i++)
        m->spaces[i] = (struct coming_space){.row = rows[i], .blocks.fd = -1};
    m->n_spaces = n;
    for (int i = 0; i < n; i++) {
        char *path = mem_printf("%s/vectors/%d.items", m->folder, rows[i].space);
        bool ok = corpus_blocks_open(&m->spaces[i].blocks, path, err);
        mem_free(path);
        if (!ok)
            return false;
    }
    return true;
}

static bool has_original(const struct import *m, const char *doc_id) {
    size_t i;
    char *path = mem_printf("documents/%.2s/%s/original", doc_id, doc_id);
    bool found = corpus_sums_find(&i, &m->sums, path);
    mem_free(path);
    return found;
}

static bool note_document(void *ctx, const struct document_row *row, struct error *err) {
    struct import *m = ctx;
    if (!has_original(m, row->doc_id)) {
        bool mirrored;
        if (!store_is_mirrored(&mirrored, m->from, row->doc_id, err))
            return false;
        m->n_others += mirrored && m->corpus->shared;
        if (!mirrored || m->corpus->shared)
            return goes_on(m, err);
    }
    if (m->n_ids == m->max_ids) {
        m->max_ids = m->max_ids ? 2 * m->max_ids : 1024;
        m->ids = mem_grow(m->ids, m->max_ids, sizeof *m->ids);
    }
    memcpy(m->ids[m->n_ids++], row->doc_id, sizeof *m->ids);
    return goes_on(m, err);
}

/* A copy of the export's database, which is opened, and migrated, like any. */
static bool open_from(struct import *m, struct arena *arena, struct error *err) {
    bool found, links = false;
    char *from = mem_printf("%s/" EXPORT_DATABASE, m->folder);
    char *to = mem_printf("%s/" EXPORT_DATABASE, m->work);
    bool ok = corpus_carry(&found, &links, from, to, false, err) &&
              (found || error_set_errno(err, ENOENT, "%s", from)) &&
              store_open(&m->from, m->work, err) && open_spaces(m, arena, err) &&
              store_visit_documents(m->from, note_document, m, err);
    mem_free(from);
    mem_free(to);
    lock_take(&m->lock);
    m->facts.n_documents = (int64_t)m->n_ids;
    lock_drop(&m->lock);
    return ok;
}

/* ---- vectors -------------------------------------------------------------------------------- */

static int space_at(const struct import *m, int number) {
    int i = 0;
    while (i < m->n_spaces && m->spaces[i].row.space != number)
        i++;
    return i;
}

/* The space here, by its name; made when its first item comes. */
static bool need_space(struct import *m, struct coming_space *space, struct error *err) {
    const struct space_info info = {
        .name = space->row.name, .dim = space->row.dim, .late = space->row.late};
    return space->restore ||
           (index_space(&space->number, m->corpus->index, &info, err) &&
            index_restore_open(&space->restore, m->corpus->index, space->number, err));
}

static bool bring_item(struct import *m, struct coming *document, const struct coming_item *item,
                       struct buf *block, struct error *err) {
    struct coming_space *space = &m->spaces[item->space];
    const struct block_place *at = corpus_blocks_find(&space->blocks, item->row.id);
    if (!at) {
        document->broken[item->space] = true;
        document->n_without++;
        return true;
    }
    struct index_writer **writer = &document->writers[item->space];
    if (!need_space(m, space, err) ||
        (!*writer &&
         !index_writer_open(writer, m->corpus->index, space->number, document->doc_id, err)))
        return false;
    return corpus_blocks_load(block, &space->blocks, at, err) &&
           index_restore_add(space->restore, *writer, item->row.item, block->data, block->len, err);
}

static int by_id(const void *a, const void *b) {
    const struct coming_item *one = a, *other = b;
    return one->row.id < other->row.id ? -1 : one->row.id > other->row.id;
}

/* All items of the window's documents, oldest first. */
static bool list_items(struct buf *out, struct import *m, const struct coming *documents, int n,
                       struct error *err) {
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        struct arena *arena = arena_new(0);
        struct item_row *rows;
        int n_rows = 0;
        ok = store_list_items(&rows, &n_rows, arena, m->from, documents[i].doc_id, err);
        for (int k = 0; k < n_rows && ok; k++) {
            struct coming_item item = {rows[k], i, space_at(m, rows[k].space)};
            if (item.space < m->n_spaces)
                buf_append(out, &item, sizeof item);
        }
        arena_free(arena);
    }
    if (ok && out->failed)
        ok = error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for vectors");
    if (ok && out->len > 0)
        qsort(out->data, out->len / sizeof(struct coming_item), sizeof(struct coming_item), by_id);
    return ok;
}

static bool bring_vectors(struct import *m, struct coming *documents, int n, struct error *err) {
    struct buf items = {0}, block = {0};
    bool ok = list_items(&items, m, documents, n, err);
    const struct coming_item *all = (const struct coming_item *)(const void *)items.data;
    for (size_t i = 0; i < items.len / sizeof *all && ok; i++)
        ok = goes_on(m, err) && bring_item(m, &documents[all[i].document], &all[i], &block, err);
    for (int i = 0; i < n; i++) {
        for (int space = 0; space < m->n_spaces; space++) {
            if (ok && documents[i].writers[space] && !documents[i].broken[space])
                ok = index_writer_sync(documents[i].writers[space], err);
        }
    }
    buf_fini(&items);
    buf_fini(&block);
    return ok;
}

/* ---- a document ----------------------------------------------------------------------------- */

static bool place_original(struct import *m, const char *doc_id, const char *from,
                           struct error *err) {
    struct arena *arena = arena_new(0);
    char *tmp;
    int fd;
    bool found, ok = store_tmp_new(&fd, &tmp, arena, m->corpus->store, err);
    if (ok) {
        close(fd);
        ok = corpus_carry(&found, &m->links, from, tmp, true, err) &&
             (found || error_set_errno(err, ENOENT, "%s", from)) &&
             store_keep_original(m->corpus->store, doc_id, tmp, err);
    }
    arena_free(arena);
    return ok;
}

/* The original first; of a document that was not read nothing else. The caller holds its stripe. */
static bool place_files(struct import *m, const struct coming *document, struct error *err) {
    char *prefix = mem_printf("documents/%.2s/%s/", document->doc_id, document->doc_id);
    char *original = mem_printf("%s/%soriginal", m->folder, prefix);
    char *dir = mem_printf("%s/%s", m->corpus->settings->data_dir, prefix);
    bool ok = place_original(m, document->doc_id, original, err);
    for (size_t i = corpus_sums_from(&m->sums, prefix); i < m->sums.n && ok; i++) {
        char doc_id[SHA256_HEX + 1];
        const char *path = corpus_sums_path(&m->sums, i), *name;
        bool found;
        if (!corpus_sums_document(doc_id, &name, path) || strcmp(doc_id, document->doc_id) != 0)
            break;
        if (strcmp(name, "original") == 0 || document->state != DOCUMENT_READY)
            continue;
        char *from = mem_printf("%s/%s", m->folder, path);
        char *to = mem_printf("%s%s", dir, name);
        ok = corpus_carry(&found, &m->links, from, to, true, err) &&
             (found || error_set_errno(err, ENOENT, "%s", from));
        mem_free(from);
        mem_free(to);
    }
    ok = ok && dir_sync(dir, err);
    mem_free(prefix);
    mem_free(original);
    mem_free(dir);
    return ok;
}

/* As it was there. What was removed here is taken in again, which only a later generation is; then
 * it has the one that the shared store knows it by. */
static bool copy_mirrored(struct store_tx *tx, struct import *m, struct arena *arena,
                          const struct document_row *row, struct error *err) {
    struct shared_row shared;
    struct page_row *pages;
    struct chunk_row *chunks;
    int n_pages, n_chunks;
    int64_t removed;
    bool found, own;
    if (!store_find_shared(&shared, &found, arena, m->from, row->doc_id, err) ||
        !store_find_removal(&removed, m->corpus->store, row->doc_id, err) ||
        !store_list_pages(&pages, &n_pages, arena, m->from, row->doc_id, err) ||
        !store_list_chunks(&chunks, &n_chunks, arena, m->from, row->doc_id, true, err))
        return false;
    struct shared_row put = shared;
    put.epoch = 0; /* numbered by its own folder */
    if (put.generation <= removed)
        put.generation = removed + 1;
    return store_put_mirrored(tx, &own, row, &put, n_pages == row->n_pages ? pages : NULL, chunks,
                              n_chunks, err) &&
           (put.generation == shared.generation ||
            store_set_shared(tx, row->doc_id, shared.generation, 0, shared.revision, err));
}

static bool commit(bool *queued, struct import *m, struct coming *document, struct error *err) {
    struct corpus *corpus = m->corpus;
    struct store_tx *tx;
    struct document_row row;
    bool found;
    int64_t job_id;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    struct arena *arena = arena_new(0);
    bool ok = store_find_document(&row, &found, arena, m->from, document->doc_id, err) &&
              (document->mirrored ? copy_mirrored(tx, m, arena, &row, err)
                                  : store_copy_document(tx, m->from, document->doc_id, err));
    for (int i = 0; i < m->n_spaces && ok; i++) {
        if (document->writers[i] && !document->broken[i] && document->state == DOCUMENT_READY)
            ok = index_writer_commit(document->writers[i], tx, err);
    }
    if (corpus->shared && document->state == DOCUMENT_READY)
        ok = ok && corpus_share_hold(corpus, tx, document->doc_id, err);
    *queued = ok && document->state == DOCUMENT_WAITING;
    if (*queued)
        ok = queue_put(&job_id, corpus->queue, tx, CORPUS_JOB_INGEST, document->doc_id,
                       row.filename, 0, err);
    arena_free(arena);
    if (!ok) {
        store_rollback(tx);
        return false;
    }
    return store_commit(tx, err);
}

/* Is it of this folder? One that another worker has is not, where here is what makes it so. */
static bool find_known(bool *known, struct import *m, const char *doc_id, bool mirrored,
                       struct error *err) {
    struct arena *arena = arena_new(0);
    struct shared_row shared;
    bool ok = store_find_shared(&shared, known, arena, m->corpus->store, doc_id, err);
    *known = ok && *known && (mirrored || !shared.origin[0]);
    arena_free(arena);
    return ok;
}

static bool bring_document(struct import *m, struct coming *document, struct error *err) {
    struct corpus *corpus = m->corpus;
    bool known, queued = false;
    struct lock *stripe = corpus_stripe(corpus, document->doc_id);
    lock_take(stripe);
    bool ok = find_known(&known, m, document->doc_id, document->mirrored, err);
    if (ok && !known) {
        ok = document->mirrored || place_files(m, document, err);
        if (ok)
            fault_point("import_placed");
        ok = ok && commit(&queued, m, document, err);
        if (!ok && strcmp(err->code, "storage_error") != 0)
            corpus_drop_unnamed(corpus, document->doc_id);
    }
    lock_drop(stripe);
    if (!ok)
        return false;
    if (!known)
        fault_point("import_committed");
    if (queued)
        queue_wake(corpus->queue);
    int64_t n_vectors = 0;
    for (int i = 0; i < m->n_spaces && !known; i++) {
        if (document->writers[i] && !document->broken[i])
            n_vectors += index_writer_count(document->writers[i]);
    }
    lock_take(&m->lock);
    m->facts.n_done++;
    m->facts.n_known += known;
    m->facts.n_imported += !known;
    m->facts.n_queued += queued;
    m->facts.n_vectors += n_vectors;
    m->facts.n_without += !known && document->n_without > 0;
    lock_drop(&m->lock);
    return true;
}

/* ---- windows -------------------------------------------------------------------------------- */

static bool bring_window(struct import *m, struct coming *documents, int n, struct error *err) {
    bool ok = bring_vectors(m, documents, n, err);
    for (int i = 0; i < n && ok; i++)
        ok = goes_on(m, err) && bring_document(m, &documents[i], err);
    for (int i = 0; i < m->n_spaces; i++) {
        index_restore_close(m->spaces[i].restore);
        m->spaces[i].restore = NULL;
    }
    return ok;
}

static void free_window(struct import *m, struct coming *documents, int n) {
    for (int i = 0; i < n; i++) {
        for (int space = 0; space < m->n_spaces; space++)
            index_writer_free(documents[i].writers[space]);
        mem_free(documents[i].writers);
        mem_free(documents[i].broken);
    }
}

/* The state that the export has it in; *known: it is here already. */
static bool look(struct coming *out, bool *known, struct import *m, const char *doc_id,
                 struct error *err) {
    struct arena *arena = arena_new(0);
    struct document_row row;
    bool found = false, mirrored = !has_original(m, doc_id);
    bool ok = find_known(known, m, doc_id, mirrored, err) &&
              (*known || store_find_document(&row, &found, arena, m->from, doc_id, err));
    if (ok && !*known && found) {
        *out = (struct coming){.state = row.state, .mirrored = mirrored};
        memcpy(out->doc_id, doc_id, sizeof out->doc_id);
        out->writers = mem_alloc(((size_t)m->n_spaces + 1) * sizeof(struct index_writer *));
        out->broken = mem_alloc((size_t)m->n_spaces + 1);
    }
    arena_free(arena);
    return ok;
}

static bool bring_all(struct import *m, struct error *err) {
    struct coming *window = mem_alloc(WINDOW * sizeof *window);
    bool ok = true;
    for (size_t i = 0; i < m->n_ids && ok;) {
        int n = 0, n_known = 0;
        for (; i < m->n_ids && n < WINDOW && ok; i++) {
            bool known;
            ok = goes_on(m, err) && look(&window[n], &known, m, m->ids[i], err);
            if (ok && known)
                n_known++;
            else if (ok)
                n++;
        }
        lock_take(&m->lock);
        m->facts.n_done += n_known;
        m->facts.n_known += n_known;
        lock_drop(&m->lock);
        ok = ok && bring_window(m, window, n, err);
        corpus_shared_wake(m->corpus);
        free_window(m, window, n);
    }
    mem_free(window);
    return ok;
}

/* ---- the thread ----------------------------------------------------------------------------- */

static bool import(struct import *m, struct arena *arena, struct error *err) {
    set_stage(m, "checking");
    char *database = mem_printf("%s/" EXPORT_DATABASE, m->folder);
    bool ok = check_export(m, err) && dir_make(m->work, err);
    m->links = ok && is_link_possible(m, database);
    mem_free(database);
    ok = ok && check_room(m, err) && open_from(m, arena, err);
    if (!ok)
        return false;
    fault_point("import_checked");
    set_stage(m, "importing");
    return bring_all(m, err);
}

static void let_go(struct import *m) {
    for (int i = 0; i < m->n_spaces; i++) {
        index_restore_close(m->spaces[i].restore);
        corpus_blocks_close(&m->spaces[i].blocks);
    }
    struct error ignored;
    store_close(m->from);
    dir_remove(m->work, &ignored);
    corpus_sums_fini(&m->sums);
    mem_free(m->spaces);
    mem_free(m->ids);
    mem_free(m->folder);
    mem_free(m->work);
    m->from = NULL;
    m->spaces = NULL;
    m->ids = NULL;
    m->folder = m->work = NULL;
    m->n_spaces = 0;
    m->n_ids = m->max_ids = 0;
    m->n_others = 0;
}

static void work(void *arg) {
    struct import *m = arg;
    struct arena *arena = arena_new(0);
    struct error err = {0};
    log_info("Importing %s", m->folder);
    bool ok = import(m, arena, &err);
    if (ok && m->n_others > 0)
        log_info("%" PRId64 " documents of other workers are left out: ChromaDB tells of them",
                 m->n_others);
    if (ok)
        log_info("Import is complete: %" PRId64 " documents, %" PRId64 " of them here before",
                 m->facts.n_done, m->facts.n_known);
    else
        log_warn("The import ended: %s", err.text);
    let_go(m);
    arena_free(arena);
    corpus_cover_forget(m->corpus);
    lock_take(&m->lock);
    m->facts.state = ok ? IMPORT_DONE : IMPORT_FAILED;
    m->facts.stage = "";
    m->facts.finished_ms = time_wall_ms();
    if (!ok)
        m->facts.error = err;
    lock_drop(&m->lock);
}

/* ---- asked for ------------------------------------------------------------------------------ */

bool corpus_import_name(const char *data_dir, const char *folder, struct error *err) {
    char *path = mem_printf("%s/" NOTE, data_dir);
    bool ok = file_write_durable(path, folder, strlen(folder), err);
    mem_free(path);
    return ok;
}

/* The folder that somebody named who may write into the data folder; the note goes. */
static bool take_name(char **folder, struct corpus *corpus, struct error *err) {
    char *path = mem_printf("%s/" NOTE, corpus->settings->data_dir);
    char *data = NULL;
    size_t len;
    struct stat info;
    bool ok = lstat(path, &info) == 0 ||
              error_set_code(err, ERROR_MISSING, "no_import",
                             "no import is named: `docusearch import DIR` does that");
    if (ok && (!S_ISREG(info.st_mode) || (info.st_uid != geteuid() && info.st_uid != 0) ||
               (info.st_mode & (S_IWGRP | S_IWOTH))))
        ok = error_set_code(err, ERROR_CONFLICT, "path_forbidden",
                            "%s is not a file that this program's user alone writes", path);
    ok = ok && file_read(&data, &len, path, PATH_MAX, err);
    if (ok && (data[0] != '/' || strlen(data) != len))
        ok = error_set(err, ERROR_INPUT, "%s names no folder", path);
    if (ok && unlink(path) != 0)
        ok = error_set_errno(err, errno, "%s", path);
    mem_free(path);
    if (!ok)
        mem_free(data);
    else
        *folder = data;
    return ok;
}

bool corpus_import(struct corpus *corpus, struct error *err) {
    struct import *m = corpus->import;
    struct thread *ended = NULL;
    lock_take(&m->lock);
    bool running = m->facts.state == IMPORT_RUNNING;
    if (!running) {
        ended = m->thread;
        m->thread = NULL;
        m->facts = (struct import_facts){
            .state = IMPORT_RUNNING, .stage = "", .started_ms = time_wall_ms()};
    }
    lock_drop(&m->lock);
    if (running)
        return error_set_code(err, ERROR_CONFLICT, "import_running", "an import is under way");
    thread_join(ended);
    struct thread *thread = NULL;
    bool ok = goes_on(m, err) && take_name(&m->folder, corpus, err);
    if (ok) {
        m->work = mem_printf("%s/import-%ld", store_tmp_dir(corpus->store), (long)getpid());
        ok = thread_start(&thread, "import", work, m, err);
    }
    lock_take(&m->lock);
    m->thread = thread;
    if (!ok) {
        m->facts.state = IMPORT_FAILED;
        m->facts.error = *err;
    }
    lock_drop(&m->lock);
    return ok;
}

void corpus_import_facts(struct import_facts *out, struct corpus *corpus) {
    lock_take(&corpus->import->lock);
    *out = corpus->import->facts;
    lock_drop(&corpus->import->lock);
}

void corpus_import_open(struct corpus *corpus) {
    struct import *m = mem_alloc(sizeof *m);
    m->corpus = corpus;
    m->facts.stage = "";
    lock_init(&m->lock, LOCK_READ);
    corpus->import = m;
}

void corpus_import_stop(struct corpus *corpus) {
    struct import *m = corpus->import;
    if (!m)
        return;
    atomic_store(&m->stopping, true);
    lock_take(&m->lock);
    struct thread *thread = m->thread;
    m->thread = NULL;
    lock_drop(&m->lock);
    thread_join(thread);
}

void corpus_import_close(struct corpus *corpus) {
    struct import *m = corpus->import;
    if (!m)
        return;
    corpus_import_stop(corpus);
    lock_fini(&m->lock);
    mem_free(m->folder);
    mem_free(m->work);
    mem_free(m);
    corpus->import = NULL;
}
