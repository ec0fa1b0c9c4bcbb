/* The table of files in UPLOADS_DIR, by path, and its file. */
#include "corpus/uploads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_LINE "docusearch uploads 2\n"
#define FIRST_BUCKETS 256
#define MAX_FILE_BYTES ((size_t)1 << 30)

struct upload_mark upload_mark_of(const struct stat *st) {
#ifdef __APPLE__
    const struct timespec *mtime = &st->st_mtimespec;
#else
    const struct timespec *mtime = &st->st_mtim;
#endif
    return (struct upload_mark){.size_bytes = st->st_size,
                                .mtime_ns = (int64_t)mtime->tv_sec * 1000000000 + mtime->tv_nsec,
                                .inode = (uint64_t)st->st_ino};
}

bool upload_mark_same(const struct upload_mark *a, const struct upload_mark *b) {
    return a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns && a->inode == b->inode;
}

/* ---- the table ------------------------------------------------------------------------------ */

void uploads_table_init(struct uploads_table *table) {
    memset(table, 0, sizeof *table);
    table->n_buckets = FIRST_BUCKETS;
    table->buckets = mem_alloc(FIRST_BUCKETS * sizeof *table->buckets);
}

static void file_free(struct upload_file *file) {
    mem_free(file->path);
    mem_free(file);
}

static void forget_all(struct uploads_table *table) {
    for (size_t i = 0; i < table->n_buckets; i++) {
        for (struct upload_file *file = table->buckets[i], *next; file; file = next) {
            next = file->next;
            file_free(file);
        }
        table->buckets[i] = NULL;
    }
    table->n = 0;
}

void uploads_table_fini(struct uploads_table *table) {
    forget_all(table);
    mem_free(table->buckets);
    memset(table, 0, sizeof *table);
}

/* FNV-1a. */
static struct upload_file **bucket_of(const struct uploads_table *table, const char *path) {
    uint64_t hash = 14695981039346656037u;
    for (const char *p = path; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    return &table->buckets[hash & (table->n_buckets - 1)];
}

struct upload_file *uploads_lookup(const struct uploads_table *table, const char *path) {
    struct upload_file *file = *bucket_of(table, path);
    while (file && strcmp(file->path, path) != 0)
        file = file->next;
    return file;
}

static void grow(struct uploads_table *table) {
    struct upload_file **old = table->buckets;
    size_t n_old = table->n_buckets;
    table->n_buckets *= 2;
    table->buckets = mem_alloc(table->n_buckets * sizeof *table->buckets);
    for (size_t i = 0; i < n_old; i++) {
        for (struct upload_file *file = old[i], *next; file; file = next) {
            next = file->next;
            struct upload_file **bucket = bucket_of(table, file->path);
            file->next = *bucket;
            *bucket = file;
        }
    }
    mem_free(old);
}

struct upload_file *uploads_put(struct uploads_table *table, const char *path) {
    if (table->n >= UPLOADS_MAX_FILES)
        return NULL;
    if (table->n >= table->n_buckets)
        grow(table);
    struct upload_file *file = mem_alloc(sizeof *file);
    struct upload_file **bucket = bucket_of(table, path);
    file->path = mem_strdup(path);
    file->next = *bucket;
    *bucket = file;
    table->n++;
    return file;
}

void uploads_forget(struct uploads_table *table, struct upload_file *file) {
    struct upload_file **at = bucket_of(table, file->path);
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    file_free(file);
    table->n--;
}

void uploads_each(struct uploads_table *table, uploads_visitor visit, void *ctx) {
    for (size_t i = 0; i < table->n_buckets; i++) {
        for (struct upload_file *file = table->buckets[i], *next; file; file = next) {
            next = file->next;
            visit(ctx, file);
        }
    }
}

/* ---- the file ------------------------------------------------------------------------------- */

/* What is new is taken anew; until then a document may be of what was there before. */
static const char letters[] = {
    [UPLOAD_NEW] = 's', [UPLOAD_TAKEN] = 't', [UPLOAD_REFUSED] = 'r', [UPLOAD_SOURCE] = 's'};

static void save_file(void *ctx, struct upload_file *file) {
    struct buf *out = ctx;
    struct upload_mark mark = file->mark;
    if (file->state == UPLOAD_NEW)
        mark = (struct upload_mark){0};
    buf_printf(out, "%c %" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 " %s", letters[file->state],
               mark.size_bytes, mark.mtime_ns, mark.inode, file->place, file->path);
    buf_putc(out, '\0');
}

bool uploads_save(struct uploads_table *table, const char *path, const char *root,
                  struct error *err) {
    struct buf out = {0};
    buf_printf(&out, FIRST_LINE "%" PRIu64 "\n%s", table->place, root);
    buf_putc(&out, '\0');
    uploads_each(table, save_file, &out);
    bool ok = !out.failed ? file_write_durable(path, out.data, out.len, err)
                          : error_set(err, ERROR_LIMIT, "%s: too large", path);
    buf_fini(&out);
    return ok;
}

/* One record; what is none is passed over: its file is looked at anew. */
static void load_file(struct uploads_table *table, const char *text) {
    struct upload_mark mark;
    uint64_t place;
    char letter;
    int at = 0;
    if (sscanf(text, "%c %" SCNd64 " %" SCNd64 " %" SCNu64 " %" SCNu64 "%n", &letter,
               &mark.size_bytes, &mark.mtime_ns, &mark.inode, &place, &at) != 5 ||
        at == 0 || text[at++] != ' ' || !text[at] || uploads_lookup(table, text + at))
        return;
    const char *found = memchr(letters + 1, letter, sizeof letters - 1);
    struct upload_file *file = found ? uploads_put(table, text + at) : NULL;
    if (!file)
        return;
    file->state = (enum upload_state)(found - letters);
    file->mark = mark;
    file->place = place;
}

bool uploads_load(struct uploads_table *table, const char *path, const char *root,
                  struct error *err) {
    char *data;
    size_t len;
    uint64_t place = 0;
    int at = 0;
    if (!file_read(&data, &len, path, MAX_FILE_BYTES, err))
        return err->kind == ERROR_MISSING;
    const char *end = data + len, *text = data + sizeof FIRST_LINE - 1;
    bool ours = strncmp(data, FIRST_LINE, sizeof FIRST_LINE - 1) == 0 &&
                sscanf(text, "%" SCNu64 "%n", &place, &at) == 1 && at > 0 && text[at] == '\n';
    if (ours && strcmp(text + at + 1, root) == 0) {
        table->place = place;
        for (text += at + 1; (text += strlen(text) + 1) < end;)
            load_file(table, text);
    }
    mem_free(data);
    return ours || error_set(err, ERROR_INPUT, "%s is damaged", path);
}
