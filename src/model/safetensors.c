/* safetensors: a folder's weights, mapped and believed only as far as they were checked.
 *
 * A file is eight bytes of length, a JSON header of that length, and the tensors' bytes. The header
 * comes from strangers: it is read by a parser of our own that knows this one shape of JSON, keeps
 * nothing but what a tensor needs, and so cannot be made to nest or to grow. What holds afterwards:
 *
 *  1. every tensor's bytes lie within the file, as many as its type and shape need;
 *  2. the tensors of a file cover its data from the first byte to the last, none overlapping;
 *  3. no name comes twice, in all files together;
 *  4. with an index, each tensor lies in the file that the index names, and none is in no index. */
#include "model/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER_BYTES_MAX = 100 << 20,
    TENSORS_MAX = 200000, /* of a checkpoint */
    SHARDS_MAX = 1000,
    NAME_BYTES_MAX = 512,
    DIMS_MAX = 5,
};
static const int64_t dim_max = INT64_C(1) << 48;

struct checkpoint {
    struct arena *arena; /* names */
    struct checkpoint_file *files;
    int n_files;
    bool mapped; /* the files' bytes are ours to unmap */
    struct checkpoint_tensor *tensors;
    int n;
};

/* ---- the header ----------------------------------------------------------------------------- */

struct scan {
    const char *at, *end;
    const char *file;
    struct error *err;
};

static bool bad(struct scan *scan, const char *what) {
    return error_set_code(scan->err, ERROR_INPUT, "bad_model", "%s: %s", scan->file, what);
}

static bool bad_tensor(struct scan *scan, const char *tensor, const char *what) {
    return error_set_code(scan->err, ERROR_INPUT, "bad_model", "%s: tensor %s: %s", scan->file,
                          tensor, what);
}

static void skip_space(struct scan *scan) {
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r'))
        scan->at++;
}

/* The next character that is no space, taken if it is c. */
static bool take(struct scan *scan, char c) {
    skip_space(scan);
    if (scan->at == scan->end || *scan->at != c)
        return false;
    scan->at++;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* After a backslash: the bytes it stands for, or 0. */
static size_t take_escape(struct scan *scan, char out[4]) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (scan->at == scan->end)
        return 0;
    char c = *scan->at++;
    const char *letter = memchr(letters, c, sizeof letters - 1);
    if (letter) {
        out[0] = meant[letter - letters];
        return 1;
    }
    if (c != 'u' || scan->end - scan->at < 4)
        return 0;
    uint32_t code_point = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*scan->at++);
        if (digit < 0)
            return 0;
        code_point = code_point * 16 + (uint32_t)digit;
    }
    return code_point < 0xd800 || code_point > 0xdfff ? utf8_put(out, code_point) : 0;
}

/* A string; what does not fit into out (cap bytes with its NUL) is refused unless out is NULL. */
static bool take_string(struct scan *scan, char *out, size_t cap) {
    size_t len = 0;
    if (!take(scan, '"'))
        return bad(scan, "the header is not the JSON of a safetensors file");
    while (scan->at < scan->end && *scan->at != '"') {
        char bytes[4];
        size_t n = 1;
        bytes[0] = *scan->at++;
        if (bytes[0] == '\\')
            n = take_escape(scan, bytes);
        if (n == 0)
            return bad(scan, "the header holds an escape that is none");
        if (out && len + n >= cap)
            return bad(scan, "the header holds a name that is too long");
        for (size_t i = 0; i < n; i++, len++) {
            if (out && (unsigned char)bytes[i] < 0x20)
                return bad(scan, "the header holds a name with a control character");
            if (out)
                out[len] = bytes[i];
        }
    }
    if (scan->at == scan->end)
        return bad(scan, "the header ends within a text");
    scan->at++;
    if (out)
        out[len] = 0;
    return true;
}

static bool take_number(struct scan *scan, int64_t *out) {
    skip_space(scan);
    const char *start = scan->at;
    int64_t n = 0;
    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') {
        n = n * 10 + (*scan->at++ - '0');
        if (n > dim_max)
            return bad(scan, "the header holds a number past 2^48");
    }
    *out = n;
    return scan->at > start ? true
                            : bad(scan, "the header holds no whole number where one belongs");
}

/* [a, b, …] of at most max numbers. */
static bool take_numbers(struct scan *scan, int64_t *out, int *n, int max) {
    *n = 0;
    if (!take(scan, '['))
        return bad(scan, "the header is not the JSON of a safetensors file");
    if (take(scan, ']'))
        return true;
    do {
        if (*n == max)
            return bad(scan, "the header holds more numbers in a row than a tensor has");
        if (!take_number(scan, &out[(*n)++]))
            return false;
    } while (take(scan, ','));
    return take(scan, ']') ? true : bad(scan, "the header holds a list without an end");
}

static const struct {
    const char *name;
    enum dtype dtype;
    int size_bytes;
} dtypes[] = {
    {"F32", DTYPE_F32, 4}, {"F16", DTYPE_F16, 2}, {"BF16", DTYPE_BF16, 2}, {"I64", DTYPE_I64, 8}};

int checkpoint_dtype_bytes(enum dtype dtype) {
    return dtypes[dtype].size_bytes;
}

struct entry {
    struct checkpoint_tensor tensor;
    int64_t offsets[2];
    unsigned has; /* bit 0 dtype, 1 shape, 2 data_offsets */
};

static bool take_dtype(struct scan *scan, struct entry *entry) {
    char name[16];
    if (!take_string(scan, name, sizeof name))
        return false;
    for (size_t i = 0; i < BASE_COUNT(dtypes); i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            entry->tensor.dtype = dtypes[i].dtype;
            return true;
        }
    }
    char what[64];
    snprintf(what, sizeof what, "its type %s is not one that is read here", name);
    return bad(scan, what);
}

static bool take_field(struct scan *scan, struct entry *entry) {
    char key[16];
    int n = 0;
    if (!take_string(scan, key, sizeof key))
        return false;
    if (!take(scan, ':'))
        return bad(scan, "the header is not the JSON of a safetensors file");
    unsigned bit = strcmp(key, "dtype") == 0          ? 1
                   : strcmp(key, "shape") == 0        ? 2
                   : strcmp(key, "data_offsets") == 0 ? 4
                                                      : 0;
    if (bit == 0 || entry->has & bit)
        return bad(scan, bit ? "the header says a thing of a tensor twice"
                             : "the header says a thing of a tensor that is not known");
    entry->has |= bit;
    if (bit == 1)
        return take_dtype(scan, entry);
    if (bit == 2)
        return take_numbers(scan, entry->tensor.dims, &entry->tensor.n_dims, DIMS_MAX);
    return take_numbers(scan, entry->offsets, &n, 2) &&
           (n == 2 ? true : bad(scan, "data_offsets are not two numbers"));
}

/* {"dtype": …, "shape": …, "data_offsets": …} of a tensor whose data has data_bytes to lie in. */
static bool take_tensor(struct scan *scan, struct entry *entry, const char *name,
                        int64_t data_bytes) {
    if (!take(scan, '{'))
        return bad_tensor(scan, name, "what the header says of it is no object");
    do {
        if (!take_field(scan, entry)) {
            error_prefix(scan->err, "%s: ", name);
            return false;
        }
    } while (take(scan, ','));
    if (!take(scan, '}') || entry->has != 7)
        return bad_tensor(scan, name, "its type, shape or place is missing");
    entry->tensor.n = 1;
    for (int i = 0; i < entry->tensor.n_dims; i++) {
        if (__builtin_mul_overflow(entry->tensor.n, entry->tensor.dims[i], &entry->tensor.n) ||
            entry->tensor.n > dim_max)
            return bad_tensor(scan, name, "its shape has too many elements");
    }
    int64_t from = entry->offsets[0], to = entry->offsets[1];
    if (from > to || to > data_bytes)
        return bad_tensor(scan, name, "it lies outside of the file, or the file is cut short");
    if (to - from != entry->tensor.n * checkpoint_dtype_bytes(entry->tensor.dtype))
        return bad_tensor(scan, name, "its bytes are not as many as its shape needs");
    return true;
}

static bool take_metadata(struct scan *scan) {
    if (!take(scan, '{'))
        return bad(scan, "__metadata__ is no object");
    if (take(scan, '}'))
        return true;
    do {
        if (!take_string(scan, NULL, 0) || !take(scan, ':') || !take_string(scan, NULL, 0))
            return bad(scan, "__metadata__ holds something other than texts");
    } while (take(scan, ','));
    return take(scan, '}') ? true : bad(scan, "__metadata__ has no end");
}

/* ---- a file --------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const struct checkpoint_tensor *x = a, *y = b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->n > y->n) - (x->n < y->n); /* one without elements comes first */
}

/* Invariant 2. */
static bool check_cover(struct scan *scan, struct checkpoint_tensor *tensors, int n,
                        const char *data, const char *end) {
    qsort(tensors, (size_t)n, sizeof *tensors, by_place);
    const char *at = data;
    for (int i = 0; i < n; i++) {
        const char *from = tensors[i].data;
        if (from < at)
            return bad_tensor(scan, tensors[i].name, "its bytes overlap another's");
        if (from > at)
            return bad_tensor(scan, tensors[i].name, "there is a gap before its bytes");
        at = from + tensors[i].n * checkpoint_dtype_bytes(tensors[i].dtype);
    }
    return at == end ? true : bad(scan, "there are bytes behind the last tensor");
}

static bool add_tensor(struct checkpoint *checkpoint, const struct entry *entry, const char *name,
                       const struct checkpoint_file *file, const char *data, struct scan *scan) {
    if (checkpoint->n == TENSORS_MAX)
        return bad(scan, "it holds more than 200000 tensors");
    if ((checkpoint->n & (checkpoint->n - 1)) == 0) {
        size_t cap = checkpoint->n ? 2 * (size_t)checkpoint->n : 1;
        void *grown = mem_try_grow(checkpoint->tensors, cap, sizeof *checkpoint->tensors,
                                   2 * TENSORS_MAX * sizeof *checkpoint->tensors);
        if (!grown)
            return error_set_code(scan->err, ERROR_LIMIT, "out_of_memory",
                                  "no memory for %zu tensors", cap);
        checkpoint->tensors = grown;
    }
    struct checkpoint_tensor *tensor = &checkpoint->tensors[checkpoint->n++];
    *tensor = entry->tensor;
    tensor->name = arena_strdup(checkpoint->arena, name);
    tensor->file = file->name;
    tensor->data = data + entry->offsets[0];
    return true;
}

static bool read_header(struct checkpoint *checkpoint, const struct checkpoint_file *file,
                        struct error *err) {
    struct scan scan = {.file = file->name, .err = err};
    const unsigned char *bytes = file->data;
    uint64_t header_bytes = 0;
    int first = checkpoint->n;
    if (file->size < 10)
        return bad(&scan, "it is too short for a safetensors file");
    for (int i = 7; i >= 0; i--)
        header_bytes = header_bytes << 8 | bytes[i];
    if (header_bytes > HEADER_BYTES_MAX)
        return bad(&scan, "its header says that it is longer than 100 MB");
    if (header_bytes > file->size - 8)
        return bad(&scan, "its header is longer than the file");
    scan.at = (const char *)bytes + 8;
    scan.end = scan.at + header_bytes;
    const char *data = scan.end, *end = (const char *)bytes + file->size;
    if (!take(&scan, '{'))
        return bad(&scan, "the header is not the JSON of a safetensors file");
    if (!take(&scan, '}')) {
        bool metadata = false;
        do {
            char name[NAME_BYTES_MAX + 1];
            struct entry entry = {0};
            if (!take_string(&scan, name, sizeof name))
                return false;
            if (!take(&scan, ':'))
                return bad(&scan, "the header is not the JSON of a safetensors file");
            if (strcmp(name, "__metadata__") == 0 && !metadata) {
                metadata = true;
                if (!take_metadata(&scan))
                    return false;
            } else if (!take_tensor(&scan, &entry, name, end - data) ||
                       !add_tensor(checkpoint, &entry, name, file, data, &scan)) {
                return false;
            }
        } while (take(&scan, ','));
        if (!take(&scan, '}'))
            return bad(&scan, "the header has no end");
    }
    skip_space(&scan);
    if (scan.at != scan.end)
        return bad(&scan, "the header goes on behind its end");
    return checkpoint->n == first ||
           check_cover(&scan, checkpoint->tensors + first, checkpoint->n - first, data, end);
}

static bool map_file(struct checkpoint_file *file, struct error *err) {
    struct stat info;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        error_set_errno(err, errno, "%s", file->name);
        if (fd >= 0)
            close(fd);
        else if (err && err->kind == ERROR_MISSING)
            error_set_code(err, ERROR_INPUT, "bad_model", "%s: not there", file->name);
        return false;
    }
    file->size = (size_t)info.st_size;
    snprintf(file->state, sizeof file->state, "%lld:%lld.%09ld:%lld.%09ld:%llu",
             (long long)info.st_size, (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec,
             (long long)info.st_ctim.tv_sec, info.st_ctim.tv_nsec, (unsigned long long)info.st_ino);
    void *map = NULL;
    if (S_ISREG(info.st_mode) && info.st_size > 0)
        map = mmap(NULL, file->size, PROT_READ, MAP_SHARED, fd, 0);
    int errnum = errno;
    close(fd);
    if (map == MAP_FAILED)
        return error_set_errno(err, errnum, "%s", file->name);
    if (!map)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: it is empty, or no file",
                              file->name);
    file->data = map;
    return true;
}

/* ---- a folder ------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    const struct checkpoint_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Invariant 3. */
static bool sort_names(struct checkpoint *checkpoint, struct error *err) {
    if (checkpoint->n > 0)
        qsort(checkpoint->tensors, (size_t)checkpoint->n, sizeof *checkpoint->tensors, by_name);
    for (int i = 1; i < checkpoint->n; i++) {
        const struct checkpoint_tensor *tensor = &checkpoint->tensors[i];
        if (strcmp(tensor[-1].name, tensor->name) == 0)
            return error_set_code(err, ERROR_INPUT, "bad_model", "%s: tensor %s: it is there twice",
                                  tensor->file, tensor->name);
    }
    return true;
}

static bool add_file(struct checkpoint *checkpoint, const char *folder, const char *name) {
    struct checkpoint_file *file = &checkpoint->files[checkpoint->n_files++];
    file->name = arena_strdup(checkpoint->arena, name);
    file->path = path_join(checkpoint->arena, folder, name);
    return true;
}

/* The files that an index names, each once. */
static bool add_shards(struct checkpoint *checkpoint, const char *folder, const char *index,
                       const json_t *map, struct error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value) {
        const char *name = json_string_value(value);
        if (!name || name[0] == 0 || name[0] == '.' || strchr(name, '/') ||
            !text_has_suffix(name, ".safetensors"))
            return error_set_code(err, ERROR_INPUT, "bad_model",
                                  "%s: tensor %.128s: no name of a safetensors file", index,
                                  tensor);
        int i = 0;
        while (i < checkpoint->n_files && strcmp(checkpoint->files[i].name, name) != 0)
            i++;
        if (i < checkpoint->n_files)
            continue;
        if (i == SHARDS_MAX)
            return error_set_code(err, ERROR_INPUT, "bad_model", "%s: more than %d files", index,
                                  SHARDS_MAX);
        add_file(checkpoint, folder, name);
    }
    return true;
}

/* Invariant 4. */
static bool check_index(const struct checkpoint *checkpoint, const char *index, const json_t *map,
                        struct error *err) {
    for (int i = 0; i < checkpoint->n; i++) {
        const struct checkpoint_tensor *tensor = &checkpoint->tensors[i];
        const char *name = json_string_value(json_object_get(map, tensor->name));
        if (!name || strcmp(name, tensor->file) != 0)
            return error_set_code(err, ERROR_INPUT, "bad_model",
                                  "%s: tensor %s: %s says that it lies %s%s", tensor->file,
                                  tensor->name, index, name ? "in " : "nowhere", name ? name : "");
    }
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value) {
        if (!checkpoint_lookup(checkpoint, tensor))
            return error_set_code(err, ERROR_INPUT, "bad_model",
                                  "%s: tensor %.128s: not there, though %s names it",
                                  json_string_value(value), tensor, index);
    }
    return true;
}

static bool open_files(struct checkpoint *checkpoint, struct error *err) {
    for (int i = 0; i < checkpoint->n_files; i++) {
        if (!map_file(&checkpoint->files[i], err) ||
            !read_header(checkpoint, &checkpoint->files[i], err))
            return false;
    }
    return sort_names(checkpoint, err);
}

static bool open_sharded(struct checkpoint *checkpoint, const char *folder, const char *index,
                         struct error *err) {
    json_t *json = NULL;
    if (!config_read(&json, folder, index, true, err))
        return false;
    const json_t *map = json_object_get(json, "weight_map");
    bool ok = false;
    if (json_object_size(map) == 0)
        error_set_code(err, ERROR_INPUT, "bad_model", "%s: weight_map is not there", index);
    else
        ok = add_shards(checkpoint, folder, index, map, err) && open_files(checkpoint, err) &&
             check_index(checkpoint, index, map, err);
    json_decref(json);
    return ok;
}

static struct checkpoint *checkpoint_new(int max_files) {
    struct checkpoint *checkpoint = mem_alloc(sizeof *checkpoint);
    checkpoint->arena = arena_new(0);
    checkpoint->files = mem_alloc((size_t)max_files * sizeof *checkpoint->files);
    return checkpoint;
}

bool checkpoint_open(struct checkpoint **out, const char *folder, const char *stem,
                     struct error *err) {
    struct checkpoint *checkpoint = checkpoint_new(SHARDS_MAX);
    char *file = arena_printf(checkpoint->arena, "%s.safetensors", stem);
    char *index = arena_printf(checkpoint->arena, "%s.index.json", file);
    bool ok;
    *out = NULL;
    checkpoint->mapped = true;
    if (!config_exists(folder, file) && config_exists(folder, index))
        ok = open_sharded(checkpoint, folder, index, err);
    else
        ok = add_file(checkpoint, folder, file) && open_files(checkpoint, err);
    if (ok && checkpoint->n == 0)
        ok = error_set_code(err, ERROR_INPUT, "bad_model", "%s: no tensor in it", file);
    if (!ok) {
        checkpoint_close(checkpoint);
        return false;
    }
    *out = checkpoint;
    return true;
}

bool checkpoint_parse(struct checkpoint **out, const void *data, size_t len, const char *file,
                      struct error *err) {
    struct checkpoint *checkpoint = checkpoint_new(1);
    *out = NULL;
    add_file(checkpoint, "", file);
    checkpoint->files[0].data = data;
    checkpoint->files[0].size = len;
    if (!read_header(checkpoint, &checkpoint->files[0], err) || !sort_names(checkpoint, err)) {
        checkpoint_close(checkpoint);
        return false;
    }
    *out = checkpoint;
    return true;
}

void checkpoint_close(struct checkpoint *checkpoint) {
    if (!checkpoint)
        return;
    for (int i = 0; i < checkpoint->n_files && checkpoint->mapped; i++) {
        if (checkpoint->files[i].data)
            munmap((void *)checkpoint->files[i].data, checkpoint->files[i].size);
    }
    mem_free(checkpoint->files);
    mem_free(checkpoint->tensors);
    arena_free(checkpoint->arena);
    mem_free(checkpoint);
}

bool checkpoint_file_at(struct checkpoint_file *out, const struct checkpoint *checkpoint, int i) {
    if (i >= checkpoint->n_files)
        return false;
    *out = checkpoint->files[i];
    return true;
}

int checkpoint_count(const struct checkpoint *checkpoint) {
    return checkpoint->n;
}

const struct checkpoint_tensor *checkpoint_at(const struct checkpoint *checkpoint, int i) {
    return &checkpoint->tensors[i];
}

const struct checkpoint_tensor *checkpoint_lookup(const struct checkpoint *checkpoint,
                                                  const char *name) {
    const struct checkpoint_tensor key = {.name = name};
    if (checkpoint->n == 0)
        return NULL;
    return bsearch(&key, checkpoint->tensors, (size_t)checkpoint->n, sizeof key, by_name);
}

/* ---- for others ----------------------------------------------------------------------------- */

void checkpoint_release(const struct checkpoint_tensor *tensor) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)tensor->data;
    uintptr_t to = from + (uintptr_t)(tensor->n * checkpoint_dtype_bytes(tensor->dtype));
    from = (from + page - 1) & ~(page - 1);
    to &= ~(page - 1);
    if (from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

const char *checkpoint_dims(char out[96], const int64_t *dims, int n_dims) {
    int len = snprintf(out, 96, "[");
    for (int i = 0; i < n_dims && len < 90; i++)
        len += snprintf(out + len, 96 - (size_t)len, "%s%lld", i ? ", " : "", (long long)dims[i]);
    snprintf(out + (len < 94 ? len : 94), 2, "]");
    return out;
}
