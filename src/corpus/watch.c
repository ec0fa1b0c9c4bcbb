/* The watch of UPLOADS_DIR: files that are there become documents, and documents lose files that
 * are gone, whether or not anybody says so (/process, /delete). A thread of its own looks at what
 * the system tells of (notify.h), and from time to time at everything.
 *
 * Invariants:
 *  1. A content is taken once: where the mark of a path (size, time, inode) is the one that was
 *     taken, it is not read again, though its document was removed since.
 *  2. A file is taken only after its mark has stood still, and with no half of an upload beside it.
 *  3. A document loses a path only when that is found missing twice, some time apart, both times in
 *     the place (place.h) where the file was seen that the document came from. Where the folder or
 *     a disk is another, is gone or cannot be read, and where nobody can tell where the file was
 *     seen, the path is kept: until a file is there again, or is missing in its own place.
 *  4. What was moved is added under its new path before the old one is dropped.
 *  5. The table is the thread's alone; others leave word in `told`. */
#include "base/notify.h"
#include "corpus/uploads.h"
#include "store/sources.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STILL_MS 10000 /* a file that has not changed for so long is whole */
#define SCAN_MS 30000
#define GONE_MS 5000   /* between the two times that a file is found missing: hooks are quicker */
#define MOVED_MS 1000  /* likewise, for a content that was taken under another path */
#define RETRY_MS 30000 /* after what may pass: a full disk, a full queue */
#define SAVE_MS 5000
#define EVENTS_MS 50 /* events that come close together are looked at together */
#define MAX_DEPTH 64
#define SOURCES_AT_ONCE 1000

/* What corpus_add_path took. */
struct told {
    struct told *next;
    char *path; /* below the folder */
    struct upload_mark mark;
    uint64_t place; /* in which it was then; 0: it was there no more */
};

struct uploads {
    struct corpus *corpus;
    char *root, *state_path, *data_dir, *models_dir; /* real paths */
    struct thread *thread;
    struct lock lock; /* LOCK_CORPUS, over these five */
    struct signal_cond changed;
    struct notify *notify; /* NULL: nothing tells */
    struct told *told;
    bool watching; /* the thread hears what it is told */
    bool stopping;

    /* The thread's own. */
    struct arena *arena; /* paths, for one round */
    struct uploads_table table;
    unsigned round;
    int64_t still_ms, scan_ms;
    int64_t scan_at, save_at, pause_until, next_due; /* monotonic; save_at 0: nothing to save */
    bool said_lost, said_full, said_paused;
    bool any_missing;
    size_t n_left, n_said;     /* files missing where they were not seen: now, as last told */
    struct upload_mark *moved; /* marks of files that are missing, ascending */
    size_t n_moved, cap_moved;
};

/* ---- names ---------------------------------------------------------------------------------- */

static char *whole_path(struct uploads *w, const char *path) {
    return *path ? path_join(w->arena, w->root, path) : w->root;
}

/* Hidden files, .hist/ among them, and halves of uploads are not ours. */
static bool is_ours(const char *path) {
    size_t n = strlen(path);
    return n > 0 && path[0] != '.' && !strstr(path, "/.") &&
           !(n > 8 && strcmp(path + n - 8, ".PARTIAL") == 0);
}

static bool is_in(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* DATA_DIR and MODELS_DIR may lie below, or the folder may be theirs. */
static bool is_data(const struct uploads *w, const char *path) {
    return (is_in(w->data_dir, w->root) && is_in(path, w->data_dir)) ||
           (is_in(w->models_dir, w->root) && is_in(path, w->models_dir));
}

static bool has_partial(struct uploads *w, const char *path) {
    const char *name = path_name(path);
    int folder = (int)(name - path);
    struct stat st;
    return lstat(arena_printf(w->arena, "%s.PARTIAL", path), &st) == 0 ||
           lstat(arena_printf(w->arena, "%.*s.%s.PARTIAL", folder, path, name), &st) == 0;
}

/* ---- looking -------------------------------------------------------------------------------- */

static void sooner(struct uploads *w, int64_t at_ms) {
    if (at_ms < w->next_due)
        w->next_due = at_ms;
}

static void to_save(struct uploads *w) {
    /* A large table is written less often. */
    if (w->save_at == 0)
        w->save_at = time_mono_ms() + SAVE_MS + (int64_t)w->table.n / 2;
}

/* place: where it is seen. */
static void note_file(struct uploads *w, const char *path, const struct stat *st, uint64_t place) {
    struct upload_mark mark = upload_mark_of(st);
    struct upload_file *file = uploads_lookup(&w->table, path);
    if (!file) {
        if (st->st_size == 0 || !corpus_takes_name(w->corpus, path))
            return;
        file = uploads_put(&w->table, path);
        if (!file) {
            if (!w->said_full)
                log_warn("%s holds more than %d files: the rest is taken only when /process says "
                         "so",
                         w->root, UPLOADS_MAX_FILES);
            w->said_full = true;
            return;
        }
        file->place = place;
    }
    file->missing_ms = 0;
    file->round = w->round;
    if (upload_mark_same(&file->mark, &mark)) {
        if (file->state == UPLOAD_TAKEN && file->place != place) {
            file->place = place;
            to_save(w);
        }
        return;
    }
    /* Until it is taken, the document is of what was there before, in the place of that. */
    file->mark = mark;
    file->state = UPLOAD_NEW;
    file->said = false;
    file->not_before = 0;
    file->since_ms = time_mono_ms();
}

/* Whether a document came from there; where nobody can tell, one did. */
static bool has_document(struct uploads *w, const char *path) {
    char doc_id[SHA256_HEX + 1];
    struct error err;
    bool found;
    return !store_find_source(doc_id, &found, w->corpus->store, whole_path(w, path), &err) || found;
}

/* One that may not be there: in the place where it was seen it is missing from now on. What has no
 * document need not be known elsewhere. */
static void miss(struct uploads *w, struct upload_file *file) {
    struct uploads_sight sight;
    if (file->missing_ms || !uploads_look(&sight, w->root, file->path) || uploads_is_file(&sight))
        return;
    if (sight.place == file->place)
        file->missing_ms = time_mono_ms();
    else if ((file->state == UPLOAD_NEW || file->state == UPLOAD_REFUSED) &&
             !has_document(w, file->path))
        uploads_forget(&w->table, file);
    else
        w->n_left++;
}

/* The files of a folder and of those below it; closes spot. */
static void look_in(struct uploads *w, const struct uploads_spot *spot, const char *path,
                    int depth) {
    DIR *dir = fdopendir(spot->fd);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        struct uploads_spot inner;
        struct stat st;
        if (!is_ours(name) || fstatat(spot->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        char *below = mem_printf("%s%s%s", path, *path ? "/" : "", name);
        if (S_ISREG(st.st_mode))
            note_file(w, below, &st, spot->place);
        else if (S_ISDIR(st.st_mode) && depth + 1 < MAX_DEPTH &&
                 !is_data(w, whole_path(w, below)) && uploads_open_folder(&inner, spot, name))
            look_in(w, &inner, below, depth + 1);
        mem_free(below);
    }
    if (dir)
        closedir(dir);
    else
        close(spot->fd);
}

static void look_below(struct uploads *w, const char *path) {
    struct uploads_spot above, spot;
    bool arrived;
    if (!uploads_open_around(&above, &arrived, w->root, path))
        return;
    if (arrived && uploads_open_folder(&spot, &above, path_name(path)))
        look_in(w, &spot, path, 0);
    close(above.fd);
}

struct below {
    struct uploads *w;
    const char *path;
};

static void miss_below(void *ctx, struct upload_file *file) {
    const struct below *below = ctx;
    size_t n = strlen(below->path);
    if (strncmp(file->path, below->path, n) == 0 && file->path[n] == '/')
        miss(below->w, file);
}

/* What the system told of. */
static void on_change(void *ctx, const char *path) {
    struct uploads *w = ctx;
    struct uploads_sight sight;
    if (!*path) {
        w->scan_at = 0;
        return;
    }
    if (!is_ours(path) || is_data(w, whole_path(w, path)) || !uploads_look(&sight, w->root, path))
        return;
    if (uploads_is_file(&sight)) {
        note_file(w, path, &sight.st, sight.place);
        return;
    }
    if (sight.exists && S_ISDIR(sight.st.st_mode))
        look_below(w, path);
    struct upload_file *file = uploads_lookup(&w->table, path);
    struct below below = {w, path};
    if (file)
        miss(w, file);
    else
        uploads_each(&w->table, miss_below, &below);
}

/* ---- looking at everything ------------------------------------------------------------------ */

static void miss_unseen(void *ctx, struct upload_file *file) {
    struct uploads *w = ctx;
    if (file->round != w->round)
        miss(w, file);
}

static void save(struct uploads *w) {
    struct error err;
    w->save_at = 0;
    if (!uploads_save(&w->table, w->state_path, w->root, &err))
        log_warn("What is known of the uploads folder is not saved: %s", err.text);
}

static void set_notify(struct uploads *w, struct notify *notify) {
    lock_take(&w->lock);
    struct notify *old = w->notify;
    w->notify = notify;
    lock_drop(&w->lock);
    notify_close(old);
}

static void open_notify(struct uploads *w, bool first) {
    struct notify *notify;
    struct error err;
    if (!notify_open(&notify, w->root, &err)) {
        if (first)
            log_info("Changes of the uploads folder are looked for every %d s: %s",
                     (int)(w->scan_ms / 1000), err.text);
        return;
    }
    if (notify_unwatched(notify) > 0)
        log_info("The system watches too few folders (fs.inotify.max_user_watches): %d of the "
                 "uploads folder are looked at every %d s",
                 notify_unwatched(notify), (int)(w->scan_ms / 1000));
    set_notify(w, notify);
}

/* The folder is another: nothing told of that, or of what changes in it. */
static void turn_to(struct uploads *w, uint64_t place) {
    bool known = w->table.place != 0;
    if (known || w->n_left > 0)
        log_write(w->n_left > 0 ? LOG_WARN : LOG_INFO,
                  "The uploads folder %s is %s: documents of the %zu files that are missing there "
                  "are kept",
                  w->root, known ? "another than before" : "looked at for the first time",
                  w->n_left);
    w->n_said = w->n_left;
    w->table.place = place;
    save(w); /* before anything is taken there */
    if (known) {
        set_notify(w, NULL);
        open_notify(w, false);
    }
}

static void look_at_all(struct uploads *w) {
    struct uploads_spot root;
    w->scan_at = time_mono_ms() + w->scan_ms;
    if (!uploads_open_root(&root, w->root)) {
        if (!w->said_lost)
            log_warn("The uploads folder %s cannot be read (%s): nothing is removed meanwhile",
                     w->root, strerror(errno));
        w->said_lost = true;
        return;
    }
    if (w->said_lost)
        log_info("The uploads folder %s is there again", w->root);
    w->said_lost = false;
    w->round++;
    w->n_left = 0;
    look_in(w, &root, "", 0);
    uploads_each(&w->table, miss_unseen, w);
    if (root.place != w->table.place)
        turn_to(w, root.place);
    if (w->n_left > w->n_said)
        log_warn("A disk or folder is gone from the uploads folder: documents of the %zu files "
                 "that are missing with it are kept",
                 w->n_left);
    w->n_said = w->n_left;
}

/* ---- taking and dropping -------------------------------------------------------------------- */

static int by_mark(const void *x, const void *y) {
    const struct upload_mark *a = x, *b = y;
    if (a->inode != b->inode)
        return a->inode < b->inode ? -1 : 1;
    if (a->mtime_ns != b->mtime_ns)
        return a->mtime_ns < b->mtime_ns ? -1 : 1;
    return (a->size_bytes > b->size_bytes) - (a->size_bytes < b->size_bytes);
}

static bool is_among(const struct uploads *w, const struct upload_mark *mark) {
    return w->n_moved > 0 && bsearch(mark, w->moved, w->n_moved, sizeof *mark, by_mark);
}

static void keep_mark(struct uploads *w, const struct upload_mark *mark) {
    if (w->n_moved == w->cap_moved) {
        w->cap_moved = w->cap_moved ? w->cap_moved * 2 : 64;
        w->moved = mem_grow(w->moved, w->cap_moved, sizeof *w->moved);
    }
    w->moved[w->n_moved++] = *mark;
}

static void collect_missing(void *ctx, struct upload_file *file) {
    struct uploads *w = ctx;
    w->any_missing = w->any_missing || file->missing_ms;
    if (file->missing_ms && file->state == UPLOAD_TAKEN)
        keep_mark(w, &file->mark);
}

static void collect_new(void *ctx, struct upload_file *file) {
    if (file->state == UPLOAD_NEW && !file->missing_ms)
        keep_mark(ctx, &file->mark);
}

static void sort_marks(struct uploads *w) {
    if (w->n_moved > 0)
        qsort(w->moved, w->n_moved, sizeof *w->moved, by_mark);
}

static bool is_stopping(struct uploads *w) {
    lock_take(&w->lock);
    bool stopping = w->stopping;
    lock_drop(&w->lock);
    return stopping;
}

/* What may pass is tried again: of this file alone, or, where all would meet it, of all. */
static void put_off(struct uploads *w, struct upload_file *file, bool all,
                    const struct error *err) {
    int64_t at_ms = time_mono_ms() + RETRY_MS;
    if (all)
        w->pause_until = at_ms;
    else
        file->not_before = at_ms;
    if (all ? !w->said_paused : !file->said)
        log_warn("%s in the uploads folder waits: %s", file->path, err->text);
    w->said_paused = w->said_paused || all;
    file->said = true;
}

/* place: where it is seen. */
static void take(struct uploads *w, struct upload_file *file, uint64_t place) {
    char *path = whole_path(w, file->path), real[PATH_MAX];
    struct added added;
    struct error err;
    /* A folder on the way may have become a link. */
    if (!corpus_real_path(real, path) || strcmp(real, path) != 0)
        return;
    if (access(path, R_OK) != 0) {
        error_set_errno(&err, errno, "%s", path);
        put_off(w, file, false, &err);
    } else if (corpus_add_path(&added, w->corpus, path, NULL, false, &err)) {
        file->state = UPLOAD_TAKEN;
        file->place = place;
        w->said_paused = false;
        to_save(w);
        if (added.status == ADDED_QUEUED)
            log_info("Taken from the uploads folder: %s", file->path);
    } else if (err.kind == ERROR_MISSING) {
        file->since_ms = time_mono_ms();
    } else if (err.kind == ERROR_BUSY || err.kind == ERROR_IO || err.kind == ERROR_INTERNAL ||
               strcmp(err.code, "queue_full") == 0) {
        put_off(w, file, true, &err);
    } else {
        file->state = UPLOAD_REFUSED;
        to_save(w);
        log_warn("Not taken from the uploads folder: %s: %s", file->path, err.text);
    }
}

static void settle_new(void *ctx, struct upload_file *file) {
    struct uploads *w = ctx;
    struct uploads_sight sight;
    if (file->state != UPLOAD_NEW || file->missing_ms || file->mark.size_bytes == 0 ||
        is_stopping(w))
        return;
    bool moved = is_among(w, &file->mark);
    int64_t wait_ms = moved && w->still_ms > MOVED_MS ? MOVED_MS : w->still_ms;
    int64_t now_ms = time_mono_ms(), due = file->since_ms + wait_ms;
    due = due > file->not_before ? due : file->not_before;
    due = due > w->pause_until ? due : w->pause_until;
    if (due > now_ms) {
        sooner(w, due);
        return;
    }
    if (!uploads_look(&sight, w->root, file->path))
        return;
    if (!uploads_is_file(&sight)) {
        miss(w, file);
        return;
    }
    struct upload_mark mark = upload_mark_of(&sight.st);
    if (!upload_mark_same(&mark, &file->mark)) {
        note_file(w, file->path, &sight.st, sight.place);
    } else if (has_partial(w, whole_path(w, file->path))) {
        file->since_ms = now_ms;
    } else {
        take(w, file, sight.place);
    }
    if (file->state == UPLOAD_NEW)
        sooner(w, now_ms + w->still_ms);
}

/* The document that came from there forgets it; false: to be tried again. */
static bool drop(struct uploads *w, struct upload_file *file) {
    struct removed removed = {0};
    struct error err;
    bool found;
    char doc_id[SHA256_HEX + 1];
    char *path = whole_path(w, file->path);
    if (!store_find_source(doc_id, &found, w->corpus->store, path, &err) ||
        (found && !corpus_drop_source(&removed, w->corpus, doc_id, path, &err))) {
        put_off(w, file, true, &err);
        return false;
    }
    if (found)
        log_info("Gone from the uploads folder: %s%s", file->path,
                 removed.kept ? "; its document has other sources" : "");
    return true;
}

static void settle_missing(void *ctx, struct upload_file *file) {
    struct uploads *w = ctx;
    struct uploads_sight sight;
    int64_t now_ms = time_mono_ms(), gone_ms = GONE_MS < w->still_ms ? GONE_MS : w->still_ms;
    if (!file->missing_ms || is_stopping(w))
        return;
    int64_t due = file->missing_ms + gone_ms;
    due = due > w->pause_until ? due : w->pause_until;
    if (due > now_ms) {
        sooner(w, due);
        return;
    }
    sooner(w, now_ms + gone_ms);
    if (file->state == UPLOAD_TAKEN && is_among(w, &file->mark))
        return; /* it was moved: first its new path is taken */
    if (!uploads_look(&sight, w->root, file->path)) {
        file->missing_ms = 0; /* until the next look at everything */
    } else if (uploads_is_file(&sight)) {
        note_file(w, file->path, &sight.st, sight.place);
    } else if (sight.place != file->place) {
        file->missing_ms = 0;
    } else if (drop(w, file)) {
        uploads_forget(&w->table, file);
        to_save(w);
    }
}

/* New files first, then those that are gone. */
static void settle(struct uploads *w) {
    w->next_due = INT64_MAX;
    w->n_moved = 0;
    w->any_missing = false;
    uploads_each(&w->table, collect_missing, w);
    sort_marks(w);
    uploads_each(&w->table, settle_new, w);
    if (!w->any_missing)
        return;
    w->n_moved = 0;
    uploads_each(&w->table, collect_new, w);
    sort_marks(w);
    uploads_each(&w->table, settle_missing, w);
}

/* ---- word from others ----------------------------------------------------------------------- */

static bool is_watching(struct uploads *w) {
    lock_take(&w->lock);
    bool watching = w->watching && !w->stopping;
    lock_drop(&w->lock);
    return watching;
}

/* Where the file is, if it still is there. */
static uint64_t place_of(const struct uploads *w, const char *path, const struct stat *st) {
    struct uploads_sight sight;
    bool same = uploads_look(&sight, w->root, path) && sight.exists &&
                sight.st.st_dev == st->st_dev && sight.st.st_ino == st->st_ino;
    return same ? sight.place : 0;
}

void corpus_uploads_taken(struct corpus *corpus, const char *path, const struct stat *st) {
    struct uploads *w = corpus->uploads;
    size_t n = w ? strlen(w->root) : 0;
    if (!w || strncmp(path, w->root, n) != 0 || path[n] != '/' || !is_watching(w))
        return;
    struct told *told = mem_alloc(sizeof *told);
    told->path = mem_strdup(path + n + 1);
    told->mark = upload_mark_of(st);
    told->place = place_of(w, told->path, st);
    lock_take(&w->lock);
    told->next = w->told;
    w->told = told;
    lock_drop(&w->lock);
}

static void told_free(struct told *told) {
    mem_free(told->path);
    mem_free(told);
}

/* The file may have changed since, or gone. */
static void hear_one(struct uploads *w, const struct told *told) {
    struct upload_file *file = uploads_lookup(&w->table, told->path);
    struct uploads_sight sight;
    if (!file && !(file = uploads_put(&w->table, told->path)))
        return;
    if (told->place != 0 || !upload_mark_same(&file->mark, &told->mark))
        file->place = told->place;
    file->mark = told->mark;
    file->state = UPLOAD_TAKEN;
    file->missing_ms = 0;
    to_save(w);
    if (!uploads_look(&sight, w->root, told->path))
        return;
    if (uploads_is_file(&sight))
        note_file(w, told->path, &sight.st, sight.place);
    else
        miss(w, file);
}

/* What was told last stands first in the list, and counts. */
static void hear(struct uploads *w) {
    lock_take(&w->lock);
    struct told *all = w->told, *back = NULL, *next;
    w->told = NULL;
    lock_drop(&w->lock);
    for (; all; all = next) {
        next = all->next;
        all->next = back;
        back = all;
    }
    for (; back; back = next) {
        next = back->next;
        hear_one(w, back);
        told_free(back);
    }
}

/* ---- the thread ----------------------------------------------------------------------------- */

static void cut_name(char *path) {
    char *slash = strrchr(path, '/');
    *(slash ? slash : path) = '\0';
}

/* folders: of files known, with the place of these; 0 where there are several. */
static void note_folder(void *ctx, struct upload_file *file) {
    struct uploads_table *folders = ctx;
    char *path = mem_strdup(file->path);
    cut_name(path);
    struct upload_file *folder = uploads_lookup(folders, path);
    if (folder && folder->place != file->place)
        folder->place = 0;
    else if (!folder && (folder = uploads_put(folders, path)) != NULL)
        folder->place = file->place;
    mem_free(path);
}

/* Where a file was seen that is not known: where others in its folder were, or in the nearest above
 * it that had one. */
static uint64_t likely_place(const struct uploads *w, const struct uploads_table *folders,
                             const char *of) {
    char *path = mem_strdup(of);
    const struct upload_file *folder = NULL;
    do {
        cut_name(path);
    } while (*path && !(folder = uploads_lookup(folders, path)));
    mem_free(path);
    return folder ? folder->place : w->table.place;
}

/* Paths that documents came from while nobody was looking, or that were not saved. */
static void load_sources(struct uploads *w) {
    size_t n_root = strlen(w->root);
    struct uploads_table folders;
    struct error err;
    char *after = mem_strdup("");
    uploads_table_init(&folders);
    uploads_each(&w->table, note_folder, &folders);
    for (int n = SOURCES_AT_ONCE; n == SOURCES_AT_ONCE && !is_stopping(w);) {
        struct arena *arena = arena_new(0);
        const char *const *paths;
        if (!store_list_sources(&paths, &n, arena, w->corpus->store, w->root, after,
                                SOURCES_AT_ONCE, &err)) {
            log_warn("Sources of documents: %s", err.text);
            n = 0;
        }
        for (int i = 0; i < n; i++) {
            const char *path = paths[i] + n_root + 1;
            struct upload_file *file = uploads_lookup(&w->table, path)
                                           ? NULL
                                           : uploads_put(&w->table, path);
            if (file) {
                file->state = UPLOAD_SOURCE;
                file->place = likely_place(w, &folders, path);
            }
        }
        if (n > 0) {
            mem_free(after);
            after = mem_strdup(paths[n - 1]);
        }
        arena_free(arena);
    }
    uploads_table_fini(&folders);
    mem_free(after);
}

/* Until something is due, or told. */
static void rest(struct uploads *w) {
    int64_t until_ms = w->scan_at < w->next_due ? w->scan_at : w->next_due;
    if (w->save_at && w->save_at < until_ms)
        until_ms = w->save_at;
    if (!w->notify) {
        lock_take(&w->lock);
        while (!w->stopping && cond_wait(&w->changed, &w->lock, until_ms)) {
        }
        lock_drop(&w->lock);
        return;
    }
    switch (notify_wait(w->notify, until_ms, on_change, w)) {
    case NOTIFY_QUIET:
        break;
    case NOTIFY_SOME:
        time_sleep_ms(EVENTS_MS);
        break;
    case NOTIFY_LOST:
        set_notify(w, NULL);
        w->scan_at = 0;
        break;
    case NOTIFY_RESCAN:
        w->scan_at = 0;
        break;
    }
}

static void run(void *arg) {
    struct uploads *w = arg;
    struct error err;
    w->arena = arena_new(0);
    if (!uploads_load(&w->table, w->state_path, w->root, &err))
        log_warn("What was known of the uploads folder is lost: %s", err.text);
    load_sources(w);
    open_notify(w, true);
    while (!is_stopping(w)) {
        int64_t now_ms = time_mono_ms();
        hear(w);
        if (now_ms >= w->scan_at) {
            if (!w->notify)
                open_notify(w, false);
            look_at_all(w);
        }
        settle(w);
        if (w->save_at && time_mono_ms() >= w->save_at)
            save(w);
        rest(w);
        arena_free(w->arena);
        w->arena = arena_new(0);
    }
    hear(w);
    if (w->save_at)
        save(w);
    arena_free(w->arena);
}

/* ---- starting and stopping ------------------------------------------------------------------ */

static char *real_or_given(const char *path) {
    char real[PATH_MAX];
    return mem_strdup(realpath(path, real) ? real : path);
}

bool corpus_uploads_start(struct corpus *corpus, struct error *err) {
    struct uploads *w = mem_alloc(sizeof *w);
    w->corpus = corpus;
    w->root = real_or_given(corpus->settings->uploads_dir);
    w->data_dir = real_or_given(corpus->settings->data_dir);
    w->models_dir = real_or_given(corpus->settings->models_dir);
    w->state_path = mem_printf("%s/uploads.seen", corpus->settings->data_dir);
    w->still_ms = STILL_MS;
    w->scan_ms = SCAN_MS;
#ifdef FAULT_POINTS
    const char *still = getenv("DOCUSEARCH_STILL_MS");
    if (still && text_to_int(&w->still_ms, still, 10, STILL_MS, "DOCUSEARCH_STILL_MS", NULL))
        w->scan_ms = w->still_ms * 3;
#endif
    lock_init(&w->lock, LOCK_CORPUS);
    cond_init(&w->changed);
    uploads_table_init(&w->table);
    corpus->uploads = w;
    if (is_data(w, w->root)) {
        log_warn("UPLOADS_DIR is a folder of the program's own: files there are taken only when "
                 "/process says so");
        return true;
    }
    w->watching = true;
    return thread_start(&w->thread, "uploads", run, w, err);
}

void corpus_uploads_stop(struct corpus *corpus) {
    struct uploads *w = corpus->uploads;
    if (!w)
        return;
    lock_take(&w->lock);
    w->stopping = true;
    if (w->notify)
        notify_wake(w->notify);
    cond_wake_all(&w->changed);
    lock_drop(&w->lock);
    thread_join(w->thread);
    w->thread = NULL;
}

void corpus_uploads_close(struct corpus *corpus) {
    struct uploads *w = corpus->uploads;
    if (!w)
        return;
    corpus_uploads_stop(corpus);
    notify_close(w->notify);
    for (struct told *told = w->told, *next; told; told = next) {
        next = told->next;
        told_free(told);
    }
    uploads_table_fini(&w->table);
    mem_free(w->moved);
    cond_fini(&w->changed);
    lock_fini(&w->lock);
    mem_free(w->models_dir);
    mem_free(w->data_dir);
    mem_free(w->state_path);
    mem_free(w->root);
    mem_free(w);
    corpus->uploads = NULL;
}
