/* The files of an export with their hashes, as they lie in SHA256SUMS. */
#include "corpus/sums.h"
#include "corpus/export.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((size_t)2 << 30)
#define MAX_HEAD 65536
#define PATH_AT (SHA256_HEX + 2) /* in a line */

void corpus_sums_fini(struct sums *sums) {
    buf_fini(&sums->text);
    mem_free(sums->lines);
    *sums = (struct sums){0};
}

const char *corpus_sums_hash(const struct sums *sums, size_t i) {
    return sums->text.data + sums->lines[i];
}

const char *corpus_sums_path(const struct sums *sums, size_t i) {
    return corpus_sums_hash(sums, i) + PATH_AT;
}

static void note_line(struct sums *sums, size_t at) {
    if (sums->n == sums->cap) {
        sums->cap = sums->cap ? 2 * sums->cap : 1024;
        sums->lines = mem_grow(sums->lines, sums->cap, sizeof *sums->lines);
    }
    sums->lines[sums->n++] = at;
}

bool corpus_sums_add(struct sums *sums, const char hash[SHA256_HEX + 1], const char *path,
                     struct error *err) {
    size_t at = sums->text.len;
    sums->text.max = MAX_BYTES;
    buf_append(&sums->text, hash, SHA256_HEX);
    buf_append(&sums->text, "  ", 2);
    buf_append(&sums->text, path, strlen(path) + 1);
    if (sums->text.failed)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "too many files");
    note_line(sums, at);
    return true;
}

/* A heap: qsort has no room for what the lines lie in. */
static void sift(const struct sums *sums, size_t *heap, size_t at, size_t n) {
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        const char *text = sums->text.data + PATH_AT;
        if (child + 1 < n && strcmp(text + heap[child], text + heap[child + 1]) < 0)
            child++;
        if (strcmp(text + heap[at], text + heap[child]) >= 0)
            return;
        size_t other = heap[at];
        heap[at] = heap[child];
        heap[child] = other;
    }
}

void corpus_sums_sort(struct sums *sums) {
    for (size_t i = sums->n / 2; i-- > 0;)
        sift(sums, sums->lines, i, sums->n);
    for (size_t n = sums->n; n > 1; n--) {
        size_t last = sums->lines[n - 1];
        sums->lines[n - 1] = sums->lines[0];
        sums->lines[0] = last;
        sift(sums, sums->lines, 0, n - 1);
    }
}

size_t corpus_sums_from(const struct sums *sums, const char *path) {
    size_t low = 0, high = sums->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(corpus_sums_path(sums, middle), path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool corpus_sums_find(size_t *i, const struct sums *sums, const char *path) {
    *i = corpus_sums_from(sums, path);
    return *i < sums->n && strcmp(corpus_sums_path(sums, *i), path) == 0;
}

/* ---- paths ---------------------------------------------------------------------------------- */

static bool is_picture(const char *name) {
    int page, end = 0;
    if (strncmp(name, "page-", 5) != 0 || strspn(name + 5, "0123456789") != 5)
        return false;
    return sscanf(name, "page-%5d%n", &page, &end) == 1 && page > 0 &&
           (strcmp(name + end, ".jpg") == 0 || strcmp(name + end, "-thumb.jpg") == 0);
}

bool corpus_sums_document(char doc_id[SHA256_HEX + 1], const char **name, const char *path) {
    if (strncmp(path, "documents/", 10) != 0 || strlen(path) < 14 + SHA256_HEX || path[12] != '/' ||
        path[13 + SHA256_HEX] != '/')
        return false;
    memcpy(doc_id, path + 13, SHA256_HEX);
    doc_id[SHA256_HEX] = '\0';
    *name = path + 14 + SHA256_HEX;
    return sha256_is_hex(doc_id) && memcmp(doc_id, path + 10, 2) == 0 &&
           (strcmp(*name, "original") == 0 || strcmp(*name, "document.bin") == 0 ||
            is_picture(*name));
}

bool corpus_sums_space(int *space, const char *path) {
    int end = 0;
    return strncmp(path, "vectors/", 8) == 0 && path[8] >= '1' && path[8] <= '9' &&
           strspn(path + 8, "0123456789") <= 9 &&
           sscanf(path, "vectors/%d.items%n", space, &end) == 1 && end > 0 && path[end] == '\0';
}

/* ---- written -------------------------------------------------------------------------------- */

static bool write_head(const struct sums *sums, const char *folder, int64_t n_documents,
                       const char *hash, struct error *err) {
    char created[TIME_ISO];
    time_iso(created, time_wall_ms());
    json_t *head = json_pack("{s:i, s:s, s:s, s:I, s:I, s:s}", "format", CORPUS_EXPORT_FORMAT,
                             "program", "docusearch " DOCUSEARCH_VERSION, "created", created,
                             "documents", (json_int_t)n_documents, "files", (json_int_t)sums->n,
                             "sums", hash);
    char *text = json_dumps(head, JSON_INDENT(1));
    char *path = mem_printf("%s/" EXPORT_HEAD, folder);
    bool ok = file_write_durable(path, text, strlen(text), err);
    mem_free(path);
    free(text); /* jansson's */
    json_decref(head);
    return ok;
}

bool corpus_sums_write(const struct sums *sums, const char *folder, int64_t n_documents,
                       struct error *err) {
    struct buf out = {.max = MAX_BYTES};
    char hash[SHA256_HEX + 1];
    for (size_t i = 0; i < sums->n; i++) {
        buf_puts(&out, corpus_sums_hash(sums, i));
        buf_putc(&out, '\n');
    }
    char *path = mem_printf("%s/" EXPORT_SUMS, folder);
    bool ok = !out.failed || error_set_code(err, ERROR_LIMIT, "out_of_memory", "too many files");
    if (ok) {
        sha256_hex(hash, out.data ? out.data : "", out.len);
        ok = file_write_durable(path, out.data ? out.data : "", out.len, err) &&
             write_head(sums, folder, n_documents, hash, err);
    }
    mem_free(path);
    buf_fini(&out);
    return ok;
}

/* ---- read ----------------------------------------------------------------------------------- */

static bool damaged(struct error *err, const char *folder, const char *name, const char *why) {
    return error_set_code(err, ERROR_INPUT, "damaged_export", "%s/%s: %s", folder, name, why);
}

static bool read_head(char hash[SHA256_HEX + 1], int64_t *n_documents, int64_t *n_files,
                      const char *folder, struct error *err) {
    char *data = NULL, *path = mem_printf("%s/" EXPORT_HEAD, folder);
    size_t len;
    bool ok = file_read(&data, &len, path, MAX_HEAD, err);
    mem_free(path);
    if (!ok) {
        if (err->kind == ERROR_MISSING)
            error_set_code(err, ERROR_INPUT, "damaged_export",
                           "%s is no export, or an incomplete one: it has no " EXPORT_HEAD, folder);
        return false;
    }
    json_t *head = json_loadb(data, len, 0, NULL);
    const char *sums = json_string_value(json_object_get(head, "sums"));
    int64_t format = json_integer_value(json_object_get(head, "format"));
    if (format > CORPUS_EXPORT_FORMAT)
        ok = error_set(err, ERROR_UNSUPPORTED,
                       "%s was written by a newer version (format %" PRId64
                       "; this program knows %d)",
                       folder, format, CORPUS_EXPORT_FORMAT);
    else if (format < 1 || !sums || !sha256_is_hex(sums))
        ok = damaged(err, folder, EXPORT_HEAD, "it is damaged");
    if (ok) {
        memcpy(hash, sums, SHA256_HEX + 1);
        *n_documents = json_integer_value(json_object_get(head, "documents"));
        *n_files = json_integer_value(json_object_get(head, "files"));
    }
    json_decref(head);
    mem_free(data);
    return ok;
}

/* A line that an export would have, after the one before. */
static bool check_line(const struct sums *sums, size_t i) {
    const char *line = corpus_sums_hash(sums, i), *path = line + PATH_AT, *name;
    char doc_id[SHA256_HEX + 1];
    int space;
    if (strlen(line) <= PATH_AT || strspn(line, "0123456789abcdef") != SHA256_HEX ||
        memcmp(line + SHA256_HEX, "  ", 2) != 0)
        return false;
    if (i > 0 && strcmp(corpus_sums_path(sums, i - 1), path) >= 0)
        return false;
    if (!corpus_sums_document(doc_id, &name, path))
        return strcmp(path, EXPORT_DATABASE) == 0 || corpus_sums_space(&space, path);
    return strcmp(name, "original") != 0 || memcmp(line, doc_id, SHA256_HEX) == 0;
}

bool corpus_sums_read(struct sums *sums, int64_t *n_documents, const char *folder,
                      struct error *err) {
    char hash[SHA256_HEX + 1], found[SHA256_HEX + 1];
    char *data = NULL, *path = mem_printf("%s/" EXPORT_SUMS, folder);
    size_t len = 0, i;
    int64_t n_files = 0;
    bool ok = read_head(hash, n_documents, &n_files, folder, err) &&
              file_read(&data, &len, path, MAX_BYTES, err);
    mem_free(path);
    if (!ok)
        return false;
    sha256_hex(found, data, len);
    sums->text = (struct buf){.data = data, .len = len, .cap = len + 1, .max = MAX_BYTES};
    if (strcmp(hash, found) != 0 || strlen(data) != len || (len > 0 && data[len - 1] != '\n'))
        return damaged(err, folder, EXPORT_SUMS, "it is not as " EXPORT_HEAD " says");
    for (size_t at = 0; at < len;) {
        char *end = memchr(data + at, '\n', len - at);
        *end = '\0';
        note_line(sums, at);
        if (!check_line(sums, sums->n - 1))
            return damaged(err, folder, EXPORT_SUMS, "a line of it is none of an export's");
        at = (size_t)(end - data) + 1;
    }
    if ((int64_t)sums->n != n_files || !corpus_sums_find(&i, sums, EXPORT_DATABASE))
        return damaged(err, folder, EXPORT_SUMS, "it is incomplete");
    return true;
}
