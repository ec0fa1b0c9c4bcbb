/* The files of documents, and the check at start that rows and files agree.
 *
 * A document's folder is documents/<first two digits>/<id>. Its original goes there by rename, from
 * tmp/ on the same file system; file and folders are synced before the caller may name it in a row.
 */
#include "store/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ORIGINAL "original"
#define RESERVE_BYTES ((int64_t)256 << 20)

static char *document_dir(struct arena *arena, const struct store *store, const char *doc_id) {
    return arena_printf(arena, "%s/%.2s/%s", store->documents_dir, doc_id, doc_id);
}

char *store_path(struct arena *arena, const struct store *store, const char *doc_id,
                 enum store_file file, int page_no) {
    const char *dir = document_dir(arena, store, doc_id);
    switch (file) {
    case STORE_ORIGINAL:
        return arena_printf(arena, "%s/" ORIGINAL, dir);
    case STORE_DOCUMENT:
        return arena_printf(arena, "%s/document.bin", dir);
    case STORE_PAGE:
        return arena_printf(arena, "%s/page-%05d.jpg", dir, page_no);
    case STORE_THUMB:
        return arena_printf(arena, "%s/page-%05d-thumb.jpg", dir, page_no);
    }
    return NULL;
}

bool store_tmp_new(int *fd, char **path, struct arena *arena, struct store *store,
                   struct error *err) {
    unsigned number = atomic_fetch_add(&store->tmp_count, 1);
    *path = arena_printf(arena, "%s/%ld-%u", store->tmp_dir, (long)getpid(), number);
    *fd = open(*path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return *fd >= 0 || error_set_errno(err, errno, "file %s", *path);
}

static bool sync_file(const char *path, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "file %s", path);
    bool ok = fsync(fd) == 0 || error_set_errno(err, errno, "sync of %s", path);
    close(fd);
    return ok;
}

static bool keep(struct store *store, struct arena *arena, const char *doc_id, const char *tmp_path,
                 struct error *err) {
    char *dir = document_dir(arena, store, doc_id);
    char *shelf = arena_printf(arena, "%s/%.2s", store->documents_dir, doc_id);
    const char *original = store_path(arena, store, doc_id, STORE_ORIGINAL, 0);
    struct stat info;
    if (stat(original, &info) == 0) {
        unlink(tmp_path);
        /* The one who put it there may not have come to syncing the folders. */
        return dir_sync(dir, err) && dir_sync(shelf, err) && dir_sync(store->documents_dir, err);
    }
    if (!sync_file(tmp_path, err))
        return false;
    fault_point("received");
    if (!dir_make(dir, err))
        return false;
    if (rename(tmp_path, original) != 0)
        return error_set_errno(err, errno, "file %s", original);
    fault_point("renamed");
    return dir_sync(dir, err) && dir_sync(shelf, err) && dir_sync(store->documents_dir, err);
}

bool store_keep_original(struct store *store, const char *doc_id, const char *tmp_path,
                         struct error *err) {
    struct arena *arena = arena_new(0);
    bool ok = keep(store, arena, doc_id, tmp_path, err);
    if (!ok)
        unlink(tmp_path);
    arena_free(arena);
    return ok;
}

bool store_check_space(struct store *store, int64_t size_bytes, struct error *err) {
    int64_t free_bytes;
    if (!disk_free_bytes(&free_bytes, store->data_dir, err))
        return false;
    if (size_bytes <= INT64_MAX - RESERVE_BYTES && free_bytes >= size_bytes + RESERVE_BYTES)
        return true;
    return error_set_code(err, ERROR_IO, "disk_full",
                          "%" PRId64 " MiB are free where %" PRId64 " and a reserve of %" PRId64
                          " are needed",
                          free_bytes >> 20, size_bytes >> 20, RESERVE_BYTES >> 20);
}

/* ---- removing ---- */

typedef bool (*entry_visitor)(struct store *store, const char *path, const char *name,
                              struct error *err);

/* visit may remove the entry. */
static bool each_entry(struct store *store, const char *dir, entry_visitor visit,
                       struct error *err) {
    DIR *open_dir = opendir(dir);
    if (!open_dir)
        return error_set_errno(err, errno, "folder %s", dir);
    bool ok = true;
    struct dirent *entry;
    errno = 0;
    while (ok && (entry = readdir(open_dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            char *path = mem_printf("%s/%s", dir, entry->d_name);
            ok = visit(store, path, entry->d_name, err);
            mem_free(path);
        }
        errno = 0;
    }
    if (ok && errno != 0)
        ok = error_set_errno(err, errno, "folder %s", dir);
    closedir(open_dir);
    return ok;
}

bool store_drop_files(struct store *store, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    bool ok = dir_remove(document_dir(arena, store, doc_id), err);
    arena_free(arena);
    return ok;
}

static bool remove_made(struct store *store, const char *path, const char *name,
                        struct error *err) {
    (void)store;
    return strcmp(name, ORIGINAL) == 0 || dir_remove(path, err);
}

bool store_drop_reading(struct store *store, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    bool ok = each_entry(store, document_dir(arena, store, doc_id), remove_made, err);
    arena_free(arena);
    return ok;
}

/* ---- the check at start ---- */

static bool remove_entry(struct store *store, const char *path, const char *name,
                         struct error *err) {
    (void)store;
    (void)name;
    return dir_remove(path, err);
}

static bool remove_unless_known(struct store *store, const char *path, const char *name,
                                struct error *err) {
    struct conn *conn;
    int64_t n = 0;
    if (!sha256_is_hex(name))
        return true; /* not ours */
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(&n, 0, conn, err, "SELECT count(*) FROM documents WHERE doc_id = ?", "t",
                          name);
    reader_drop(conn);
    return ok && (n > 0 || dir_remove(path, err));
}

static bool check_shelf(struct store *store, const char *path, const char *name,
                        struct error *err) {
    struct stat info;
    if (strlen(name) != 2 || lstat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return true;
    return each_entry(store, path, remove_unless_known, err);
}

static bool is_one(struct store *store, const char *path, const char *name, struct error *err) {
    (void)store;
    (void)path;
    (void)name;
    (void)err;
    return false; /* enough is known */
}

/* Folders without a row go. A database that never named a document has no say in that: it was made
 * anew beside documents that another one, lost or moved away, had names for. */
static bool remove_unknown(struct store *store, struct error *err) {
    struct conn *conn;
    int64_t n_ever = 0;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(&n_ever, 0, conn, err,
                          "SELECT count(*) FROM sqlite_sequence WHERE name = 'documents'", "");
    reader_drop(conn);
    if (!ok || n_ever > 0)
        return ok && each_entry(store, store->documents_dir, check_shelf, err);
    struct error ignored;
    if (!each_entry(store, store->documents_dir, is_one, &ignored))
        log_warn("%s holds documents that this new database does not know; they are left there",
                 store->documents_dir);
    return true;
}

/* Own documents whose original is not there; ids one after another in lost. */
static bool find_lost(struct buf *lost, struct store *store, struct error *err) {
    struct conn *conn;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT doc_id FROM documents WHERE origin = '' ORDER BY doc_id", "");
    bool row = false, ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row) {
        char doc_id[SHA256_HEX + 1];
        struct stat info;
        column_id(doc_id, stmt, 0);
        struct arena *arena = arena_new(0);
        if (stat(store_path(arena, store, doc_id, STORE_ORIGINAL, 0), &info) != 0 &&
            errno == ENOENT)
            buf_append(lost, doc_id, sizeof doc_id);
        arena_free(arena);
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

static bool mark_lost(struct store *store, const struct buf *lost, struct error *err) {
    struct store_tx *tx;
    if (lost->len == 0)
        return true;
    if (!store_begin(&tx, store, err))
        return false;
    for (size_t at = 0; at < lost->len; at += SHA256_HEX + 1) {
        log_warn("document %s: its original is missing", lost->data + at);
        if (!store_set_document_state(tx, lost->data + at, DOCUMENT_FAILED, "original_missing",
                                      "the original file is missing from the data folder", err)) {
            store_rollback(tx);
            return false;
        }
    }
    return store_commit(tx, err);
}

static bool quick_check(struct store *store, struct error *err) {
    struct conn *conn;
    if (!reader_take(&conn, store, err))
        return false;
    bool row = false;
    sqlite3_stmt *stmt = conn_query(conn, err, "PRAGMA quick_check(1)", "");
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    const char *answer = ok && row ? (const char *)sqlite3_column_text(stmt, 0) : "ok";
    if (ok && strcmp(answer, "ok") != 0)
        ok = error_set_code(err, ERROR_IO, "storage_error", "the database is damaged: %s", answer);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

#define SEVERAL 3
/* Several own documents and not one original: the folder is not mounted, rather than emptied.
 * Marking them failed would throw their full text away. */
static bool not_all_lost(struct store *store, const struct buf *lost, struct error *err) {
    struct conn *conn;
    int64_t n_lost = (int64_t)(lost->len / (SHA256_HEX + 1)), n_own = 0;
    if (n_lost < SEVERAL)
        return true;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(&n_own, 0, conn, err, "SELECT count(*) FROM documents WHERE origin = ''",
                          "");
    reader_drop(conn);
    if (!ok || n_lost < n_own)
        return ok;
    return error_set_code(err, ERROR_IO, "originals_missing",
                          "none of the %lld documents' originals is in %s: is that folder mounted?",
                          (long long)n_lost, store->documents_dir);
}

bool store_check(struct store *store, int *n_lost, struct error *err) {
    struct buf lost = {0};
    bool ok = quick_check(store, err) && each_entry(store, store->tmp_dir, remove_entry, err) &&
              remove_unknown(store, err) && find_lost(&lost, store, err) &&
              not_all_lost(store, &lost, err) && mark_lost(store, &lost, err);
    *n_lost = (int)(lost.len / (SHA256_HEX + 1));
    buf_fini(&lost);
    return ok;
}
