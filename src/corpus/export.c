/* Export: a copy of the database, the files its rows name, the vectors they name. Of a document of
 * another worker there are no files here: its rows and what vectors the index has of it are taken.
 *
 * Whoever holds the data folder goes on meanwhile. A document whose files are found gone, or not
 * whole, was removed after the database was copied: then the database is copied again, what came
 * since is taken, and what went is left out, until a copy and the files agree. A document that is
 * in the next copy too has truly lost those files.
 *
 * Invariants:
 *  1. A document of the export was whole, and in the database, at the moment of the last copy.
 *  2. A folder without export.json is no export; it is written when all else is on the disk. */
#include "corpus/export.h"
#include "corpus/export_folder.h"
#include "index/backup.h"
#include "store/backup.h"
#include "store/shared.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ROUNDS 12
#define WRITE_BYTES ((size_t)1 << 20)
#define TOLD_EVERY_MS 100

/* A document whose files lie in the new export. */
struct taken {
    char doc_id[SHA256_HEX + 1];
    bool ready;    /* what was made of it too */
    bool whole;    /* nothing of it was missing */
    bool mirrored; /* another worker's: no files of it are here */
    int round;     /* that last had its row */
    int missed;    /* that last found something missing */
    struct sums sums;
};
struct exporting {
    struct export_outcome *out;
    const struct export_watch *watch;
    const char *data_dir;
    struct export_folder folder;
    struct sums sums;
    struct store *copy;
    struct index_source *source;
    struct taken **taken; /* a table, open addressing by the first digits; a power of two */
    size_t n_taken, n_slots;
    bool links;
    int round;
    int64_t n_gone, n_done, n_total, told_ms;
};

static void tell(struct exporting *x, const char *stage, bool now) {
    int64_t now_ms = time_mono_ms();
    if (!x->watch || (!now && now_ms - x->told_ms < TOLD_EVERY_MS))
        return;
    x->told_ms = now_ms;
    x->watch->progress(x->watch->ctx, stage, x->n_done, x->n_total);
}

/* ---- taken ---------------------------------------------------------------------------------- */

static struct taken **slot_of(struct exporting *x, const char *doc_id) {
    char digits[17];
    snprintf(digits, sizeof digits, "%.16s", doc_id);
    size_t at = (size_t)strtoull(digits, NULL, 16) & (x->n_slots - 1);
    while (x->taken[at] && strcmp(x->taken[at]->doc_id, doc_id) != 0)
        at = (at + 1) & (x->n_slots - 1);
    return &x->taken[at];
}

static struct taken *taken_of(struct exporting *x, const char *doc_id) {
    if (2 * (x->n_taken + 1) > x->n_slots) {
        struct taken **old = x->taken;
        size_t n_old = x->n_slots;
        x->n_slots = n_old ? 2 * n_old : 1024;
        x->taken = mem_alloc(x->n_slots * sizeof(struct taken *));
        for (size_t i = 0; i < n_old; i++) {
            if (old[i])
                *slot_of(x, old[i]->doc_id) = old[i];
        }
        mem_free(old);
    }
    struct taken **slot = slot_of(x, doc_id);
    if (!*slot) {
        *slot = mem_alloc(sizeof **slot);
        snprintf((*slot)->doc_id, sizeof(*slot)->doc_id, "%s", doc_id);
        x->n_taken++;
    }
    return *slot;
}

/* ---- files ---------------------------------------------------------------------------------- */

/* The export that was there has the same file: its hash is known. An original is its id's for ever;
 * others are compared by size and time. */
static bool is_kept(char hash[SHA256_HEX + 1], struct exporting *x, const char *path,
                    const char *from, const char *old) {
    struct carried here, there;
    struct error ignored;
    bool found;
    size_t i;
    if (!corpus_sums_find(&i, &x->folder.old_sums, path) ||
        !corpus_carry_look(&there, &found, old, &ignored) || !found ||
        !corpus_carry_look(&here, &found, from, &ignored) || !found)
        return false;
    memcpy(hash, corpus_sums_hash(&x->folder.old_sums, i), SHA256_HEX);
    hash[SHA256_HEX] = '\0';
    return here.size_bytes == there.size_bytes &&
           (strcmp(path_name(path), "original") == 0 || here.modified_ns == there.modified_ns);
}

/* *found false: the data folder has no such file. A damaged original counts as none. */
static bool take_file(bool *found, struct exporting *x, struct taken *doc, const char *name,
                      struct error *err) {
    char hash[SHA256_HEX + 1];
    char *path = mem_printf("documents/%.2s/%s/%s", doc->doc_id, doc->doc_id, name);
    char *from = mem_printf("%s/%s", x->data_dir, path);
    char *to = mem_printf("%s/%s", x->folder.partial, path);
    char *old = x->folder.old ? mem_printf("%s/%s", x->folder.old, path) : NULL;
    bool ok = true, kept = old && is_kept(hash, x, path, from, old), old_links = true;
    ok = corpus_carry(found, kept ? &old_links : &x->links, kept ? old : from, to, false, err);
    if (ok && *found && !kept)
        ok = corpus_carry_hash(hash, to, err);
    if (ok && *found && strcmp(name, "original") == 0 && strcmp(hash, doc->doc_id) != 0) {
        log_warn("%s is damaged: its bytes are not those of its id", from);
        unlink(to);
        *found = false;
    }
    if (ok && *found) {
        x->out->n_kept += kept;
        ok = corpus_sums_add(&doc->sums, hash, path, err);
    }
    mem_free(path);
    mem_free(from);
    mem_free(to);
    mem_free(old);
    return ok;
}

static bool take_made(bool *whole, struct exporting *x, struct taken *doc, int n_pages,
                      struct error *err) {
    bool found, ok = take_file(&found, x, doc, "document.bin", err);
    *whole = *whole && found;
    for (int page = 1; page <= n_pages && ok; page++) {
        static const char *const ends[] = {"", "-thumb"};
        for (int k = 0; k < 2 && ok; k++) {
            char name[40];
            snprintf(name, sizeof name, "page-%05d%s.jpg", page, ends[k]);
            ok = take_file(&found, x, doc, name, err);
            *whole = *whole && found;
        }
    }
    return ok;
}

static bool take_document(void *ctx, const struct document_row *row, struct error *err) {
    struct exporting *x = ctx;
    struct taken *doc = taken_of(x, row->doc_id);
    bool ready = row->state == DOCUMENT_READY, known = doc->round > 0;
    bool original = true, whole = true;
    doc->round = x->round;
    x->n_done++;
    tell(x, "documents", false);
    if (known && doc->whole && (doc->ready || !ready))
        return true;
    if (!store_is_mirrored(&doc->mirrored, x->copy, row->doc_id, err))
        return false;
    if (doc->mirrored) {
        corpus_sums_fini(&doc->sums);
        return true;
    }
    char *dir = mem_printf("%s/documents/%.2s/%s", x->folder.partial, row->doc_id, row->doc_id);
    corpus_sums_fini(&doc->sums);
    bool ok = dir_make(dir, err) && take_file(&original, x, doc, "original", err);
    if (ok && original && ready)
        ok = take_made(&whole, x, doc, row->n_pages, err);
    mem_free(dir);
    doc->ready = ready;
    doc->whole = original && whole;
    if (!doc->whole) {
        /* Missing in the round before as well, the files are lost, and the document is not. */
        bool again = doc->missed == x->round - 1 && x->round > 1;
        doc->missed = x->round;
        x->n_gone += !again;
    }
    if (ok)
        fault_point("export_taken");
    return ok;
}

/* ---- the database --------------------------------------------------------------------------- */

static bool open_copy(struct exporting *x, struct error *err) {
    char *path = mem_printf("%s/" EXPORT_DATABASE, x->folder.partial);
    store_close(x->copy);
    x->copy = NULL;
    bool ok = index_source_look(x->source, err) && store_backup(path, x->data_dir, err) &&
              index_source_look(x->source, err);
    if (ok)
        fault_point("export_copied");
    ok = ok && store_open(&x->copy, x->folder.partial, err);
    mem_free(path);
    return ok;
}

static bool count_documents(struct exporting *x, struct error *err) {
    struct store_counts counts;
    if (!store_counts(&counts, x->copy, err))
        return false;
    x->n_done = 0;
    x->n_total = counts.documents;
    return true;
}

static bool take_all(struct exporting *x, struct error *err) {
    do {
        x->round++;
        x->n_gone = 0;
        if (!open_copy(x, err) || !count_documents(x, err) ||
            !store_visit_documents(x->copy, take_document, x, err))
            return false;
        tell(x, "documents", true);
    } while (x->n_gone > 0 && x->round < MAX_ROUNDS);
    return true;
}

/* Which of them the export has after all. */
static bool settle_one(struct exporting *x, struct taken *doc, struct error *err) {
    struct store_tx *tx;
    bool ok = true, found, here = doc->round == x->round;
    int n_pages, n_chunks;
    if (here && doc->sums.n > 0) { /* its original is taken first */
        for (size_t i = 0; i < doc->sums.n && ok; i++)
            ok = corpus_sums_add(&x->sums, corpus_sums_hash(&doc->sums, i),
                                 corpus_sums_path(&doc->sums, i), err);
        x->out->n_documents++;
        return ok;
    }
    if (here && doc->mirrored) {
        x->out->n_documents++;
        x->out->n_mirrored++;
    } else if (here) {
        log_warn("document %s has lost its original and is left out", doc->doc_id);
        x->out->n_lost++;
        ok = store_begin(&tx, x->copy, err);
        if (ok && !store_delete_document(tx, &found, &n_pages, &n_chunks, doc->doc_id, err)) {
            store_rollback(tx);
            ok = false;
        } else if (ok) {
            ok = store_commit(tx, err);
        }
    }
    char *dir = mem_printf("%s/documents/%.2s/%s", x->folder.partial, doc->doc_id, doc->doc_id);
    ok = ok && dir_remove(dir, err);
    mem_free(dir);
    return ok;
}

static bool settle(struct exporting *x, struct error *err) {
    struct store_tx *tx;
    bool ok = true;
    for (size_t i = 0; i < x->n_slots && ok; i++)
        ok = !x->taken[i] || settle_one(x, x->taken[i], err);
    if (!ok || !store_begin(&tx, x->copy, err))
        return false;
    if (!store_strip(tx, err)) {
        store_rollback(tx);
        return false;
    }
    return store_commit(tx, err);
}

/* ---- vectors -------------------------------------------------------------------------------- */

struct ids {
    int64_t *all;
    size_t n, max;
};

static bool note_ids(void *ctx, const int64_t *ids, int n) {
    struct ids *list = ctx;
    if (list->n + (size_t)n > list->max) {
        list->max = 2 * list->max + (size_t)n;
        list->all = mem_grow(list->all, list->max, sizeof *list->all);
    }
    memcpy(list->all + list->n, ids, (size_t)n * sizeof *ids);
    list->n += (size_t)n;
    return true;
}

static int by_value(const void *a, const void *b) {
    const int64_t *one = a, *other = b;
    return *one < *other ? -1 : *one > *other;
}

static bool flush(struct buf *out, struct sha256 *hash, int fd, struct error *err) {
    sha256_update(hash, out->data, out->len);
    bool ok = fd_write_all(fd, out->data, out->len, err);
    buf_clear(out);
    return ok;
}

static bool write_items(struct exporting *x, const struct ids *ids, int fd, struct sha256 *hash,
                        struct error *err) {
    struct buf block = {0}, out = {0};
    bool ok = true;
    for (size_t i = 0; i < ids->n && ok; i++) {
        bool found;
        ok = index_source_load(&block, &found, x->source, ids->all[i], err);
        x->n_done++;
        tell(x, "vectors", false);
        if (!ok)
            break;
        if (!found) {
            x->out->n_damaged++;
            continue;
        }
        buf_append(&out, block.data, block.len);
        x->out->n_vectors++;
        if (out.failed)
            ok = error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for vectors");
        else if (out.len >= WRITE_BYTES)
            ok = flush(&out, hash, fd, err);
    }
    ok = ok && (out.len == 0 || flush(&out, hash, fd, err));
    buf_fini(&block);
    buf_fini(&out);
    return ok;
}

static bool take_space(struct exporting *x, const struct space_row *space, struct error *err) {
    struct ids ids = {0};
    char hex[SHA256_HEX + 1], name[40];
    snprintf(name, sizeof name, "vectors/%d.items", space->space);
    char *path = mem_printf("%s/%s", x->folder.partial, name);
    bool ok = store_visit_vectors(x->copy, space->space, VECTORS_PAGE, NULL, note_ids, &ids, err) &&
              store_visit_vectors(x->copy, space->space, VECTORS_CHUNK, NULL, note_ids, &ids, err);
    if (ok && ids.n > 0) {
        qsort(ids.all, ids.n, sizeof *ids.all, by_value);
        x->n_done = 0;
        x->n_total = (int64_t)ids.n;
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        struct sha256 *hash = sha256_new();
        ok = (fd >= 0 || error_set_errno(err, errno, "%s", path)) &&
             index_source_space(x->source, space, err) && write_items(x, &ids, fd, hash, err);
        sha256_finish(hex, hash);
        if (fd >= 0 && close(fd) != 0 && ok)
            ok = error_set_errno(err, errno, "%s", path);
        ok = ok && corpus_sums_add(&x->sums, hex, name, err);
        tell(x, "vectors", true);
    }
    mem_free(ids.all);
    mem_free(path);
    return ok;
}

static bool take_vectors(struct exporting *x, struct error *err) {
    struct arena *arena = arena_new(0);
    struct space_row *spaces;
    int n = 0;
    char *dir = mem_printf("%s/vectors", x->folder.partial);
    bool ok = dir_make(dir, err) && store_list_spaces(&spaces, &n, arena, x->copy, err);
    for (int i = 0; i < n && ok; i++)
        ok = take_space(x, &spaces[i], err);
    mem_free(dir);
    arena_free(arena);
    return ok;
}

/* ---- whole ---------------------------------------------------------------------------------- */

/* What opening the copy left beside it; its own name last. */
static bool finish_database(struct exporting *x, struct error *err) {
    char hash[SHA256_HEX + 1];
    bool ok = true;
    store_close(x->copy);
    x->copy = NULL;
    DIR *dir = opendir(x->folder.partial);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry && ok; entry = readdir(dir)) {
        const char *name = entry->d_name;
        bool beside = strncmp(name, EXPORT_DATABASE, strlen(EXPORT_DATABASE)) == 0 &&
                      strcmp(name, EXPORT_DATABASE) != 0;
        if (!beside && strcmp(name, "tmp") != 0)
            continue;
        char *path = mem_printf("%s/%s", x->folder.partial, name);
        ok = dir_remove(path, err);
        mem_free(path);
    }
    if (dir)
        closedir(dir);
    char *path = mem_printf("%s/" EXPORT_DATABASE, x->folder.partial);
    ok = ok && corpus_carry_hash(hash, path, err) &&
         corpus_sums_add(&x->sums, hash, EXPORT_DATABASE, err);
    mem_free(path);
    return ok;
}

static int64_t bytes_of(const struct exporting *x) {
    int64_t n = 0;
    for (size_t i = 0; i < x->sums.n; i++) {
        struct carried file;
        struct error ignored;
        bool found;
        char *path = mem_printf("%s/%s", x->folder.partial, corpus_sums_path(&x->sums, i));
        if (corpus_carry_look(&file, &found, path, &ignored))
            n += file.size_bytes;
        mem_free(path);
    }
    return n;
}

static void fini(struct exporting *x, bool failed) {
    store_close(x->copy);
    index_source_free(x->source);
    for (size_t i = 0; i < x->n_slots; i++) {
        if (x->taken[i])
            corpus_sums_fini(&x->taken[i]->sums);
        mem_free(x->taken[i]);
    }
    mem_free(x->taken);
    corpus_sums_fini(&x->sums);
    corpus_export_close(&x->folder, failed);
}

bool corpus_export(struct export_outcome *out, const char *data_dir, const char *folder,
                   const struct export_watch *watch, struct error *err) {
    struct exporting x = {.out = out, .watch = watch, .data_dir = data_dir, .folder.mark = -1};
    char *database = mem_printf("%s/" EXPORT_DATABASE, data_dir);
    *out = (struct export_outcome){0};
    x.source = index_source_new(data_dir);
    bool ok = access(database, F_OK) == 0 ||
              error_set(err, ERROR_MISSING, "%s is no data folder: it has no " EXPORT_DATABASE,
                        data_dir);
    ok = ok && corpus_export_open(&x.folder, folder, err) &&
         corpus_export_room(&x.links, &x.folder, data_dir, err) && take_all(&x, err) &&
         settle(&x, err) && take_vectors(&x, err) && finish_database(&x, err);
    if (ok) {
        corpus_sums_sort(&x.sums);
        out->n_files = (int64_t)x.sums.n;
        out->n_bytes = bytes_of(&x);
        out->linked = x.links;
        ok = corpus_export_sync(&x.folder, err);
    }
    if (ok)
        fault_point("export_written");
    ok = ok && corpus_sums_write(&x.sums, x.folder.partial, out->n_documents, err) &&
         corpus_export_swap(&x.folder, err);
    mem_free(database);
    fini(&x, !ok);
    return ok;
}
