/* embed: texts and pictures to vectors, by a model of this process's own.
 *
 * Neither a server nor a data folder takes part: the device and the models are opened here,
 * pictures are decoded by a reader child. Inputs go through in the order given, those of one kind
 * that follow each other in batches; a batch that does not fit into memory is halved. Output is
 * kept until it has grown to FLUSH_BYTES, so that a failure of a small run prints nothing but its
 * error. */
#include "app/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLUSH_BYTES (64u << 20)
#define MAX_PASSAGES_BYTES (1u << 30)
#define MAX_BATCH 256

struct item {
    enum input_kind kind;
    const char *text; /* or the path of a picture; borrowed */
    size_t len;
};
struct model_slot {
    const char *name;
    struct model *model;
};
struct embedding_run {
    const struct settings *settings;
    const char *model, *base; /* --model and --base, or NULL */
    struct item *items;
    size_t n, cap;
    char *lines; /* of --passages-from */
    bool many;   /* {"inputs":[…]} */
    struct device *device;
    struct model_slot slots[2]; /* texts' and pictures'; with one name, only the first */
    int n_slots;
    struct read_pool *readers;
    char scratch[64];
    struct buf out;
    int batch; /* 0: the setting's size; else what memory allowed */
    int n_batches;
    double embed_seconds;
};

/* ---- arguments ------------------------------------------------------------------------------ */

static void add_item(struct embedding_run *run, enum input_kind kind, const char *text,
                     size_t len) {
    if (run->n == run->cap) {
        run->cap = run->cap ? run->cap * 2 : 64;
        run->items = mem_grow(run->items, run->cap, sizeof *run->items);
    }
    run->items[run->n++] = (struct item){kind, text, len};
}

/* One passage a line; the last line's end may be missing. */
static bool add_lines(struct embedding_run *run, const char *path, struct error *err) {
    size_t len;
    const char *file = strcmp(path, "-") == 0 ? "/dev/stdin" : path;
    if (!file_read(&run->lines, &len, file, MAX_PASSAGES_BYTES, err))
        return false;
    run->many = true;
    for (size_t pos = 0; pos < len;) {
        const char *line = run->lines + pos;
        const char *end = memchr(line, '\n', len - pos);
        size_t n = end ? (size_t)(end - line) : len - pos;
        add_item(run, INPUT_PASSAGE, line, n);
        pos += n + 1;
    }
    return true;
}

/* `--option VALUE` or `--option=VALUE` at argv[*i]: the value, and *i moved to its last argument.
 */
static const char *option_value(int *i, int argc, char **argv, const char *option, bool *bad) {
    size_t n = strlen(option);
    if (strncmp(argv[*i], option, n) != 0 || (argv[*i][n] != '\0' && argv[*i][n] != '='))
        return NULL;
    if (argv[*i][n] == '=')
        return argv[*i] + n + 1;
    if (*i + 1 < argc)
        return argv[++*i];
    *bad = true;
    return NULL;
}

/* Takes the inputs out of argv, in their order. */
static bool take_inputs(struct embedding_run *run, int *argc, char **argv) {
    static const struct {
        const char *option;
        enum input_kind kind;
    } kinds[] = {{"--query", INPUT_QUERY}, {"--passage", INPUT_PASSAGE}, {"--image", INPUT_IMAGE}};
    int left = 1;
    bool bad = false;
    for (int i = 1; i < *argc; i++) {
        const char *value = NULL;
        for (size_t k = 0; k < BASE_COUNT(kinds) && !value && !bad; k++) {
            value = option_value(&i, *argc, argv, kinds[k].option, &bad);
            if (value)
                add_item(run, kinds[k].kind, value, strlen(value));
        }
        if (!value)
            argv[left++] = argv[i];
    }
    argv[left] = NULL;
    *argc = left;
    return !bad;
}

/* ---- models --------------------------------------------------------------------------------- */

static const char *model_for(const struct embedding_run *run, enum input_kind kind) {
    const struct settings *settings = run->settings;
    if (run->model)
        return run->model;
    bool visual = kind == INPUT_IMAGE || strcmp(settings->text_model, "visual") == 0;
    return visual ? settings->model_name : settings->text_model;
}

/* The folder of packed weights; NULL where it cannot be made. */
static const char *packed_folder(struct arena *arena, const struct settings *settings) {
    const char *folder = path_join(arena, settings->models_dir, "packed");
    struct error unused;
    return dir_make(folder, &unused) && access(folder, W_OK | X_OK) == 0 ? folder : NULL;
}

static bool load_model(struct model **out, struct embedding_run *run, const char *name,
                       struct error *err) {
    struct arena *arena = arena_new(0);
    struct model_place place;
    struct model_options options = {.name = name,
                                    .base_folder = run->base,
                                    .query_prompt = run->settings->query_prompt,
                                    .settings = run->settings};
    if (run->base)
        model_locate_alone(&place, arena, run->settings, name);
    else
        model_locate(&place, arena, run->settings, name);
    options.folder = place.folder;
    options.packed_dir = packed_folder(arena, run->settings);
    bool ok;
    if (strcmp(name, "none") == 0)
        ok = error_set_code(err, ERROR_DEVICE, "model_not_installed",
                            "the settings name no model for this: give one with --model");
    else if (!place.origin[0] && strcmp(place.problem, "not installed") == 0)
        ok = error_set_code(err, ERROR_DEVICE, "model_not_installed",
                            "model '%.80s' is not installed: get it with `docusearch pull %.80s`",
                            name, name);
    else if (!place.installed)
        ok = error_set_code(err, ERROR_DEVICE, "model_not_installed", "model '%.100s': %s", name,
                            place.problem);
    else
        ok = precision_parse(&options.precision, run->settings->model_precision, err) &&
             model_open(out, run->device, &options, err);
    arena_free(arena);
    return ok;
}

static bool find_model(struct model **out, struct embedding_run *run, enum input_kind kind,
                       struct error *err) {
    const char *name = model_for(run, kind);
    for (int i = 0; i < run->n_slots; i++) {
        if (strcmp(run->slots[i].name, name) == 0) {
            *out = run->slots[i].model;
            return true;
        }
    }
    if (!load_model(out, run, name, err))
        return false;
    run->slots[run->n_slots++] = (struct model_slot){name, *out};
    return true;
}

/* ---- inputs --------------------------------------------------------------------------------- */

/* Pictures are decoded in a child, which needs no folder of the corpus. */
static bool open_readers(struct embedding_run *run, struct error *err) {
    if (run->readers)
        return true;
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(run->scratch, sizeof run->scratch, "%s/docusearch-embed-XXXXXX",
                     tmp && *tmp ? tmp : "/tmp");
    if (n < 0 || (size_t)n >= sizeof run->scratch)
        snprintf(run->scratch, sizeof run->scratch, "/tmp/docusearch-embed-XXXXXX");
    if (!mkdtemp(run->scratch)) {
        error_set_errno(err, errno, "%s", run->scratch);
        run->scratch[0] = '\0';
        return false;
    }
    return read_pool_open(&run->readers, run->settings, 1, run->scratch, err);
}

/* The pixels are the caller's (mem_free). */
static bool load_picture(uint8_t **rgb, struct picture *out, struct embedding_run *run,
                         const char *path, struct error *err) {
    if (!open_readers(run, err))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    bool ok = read_pixels(rgb, &out->width, &out->height, run->readers, fd, path_name(path), err);
    close(fd);
    if (!ok)
        error_prefix(err, "%s: ", path);
    out->rgb = ok ? *rgb : NULL;
    return ok;
}

/* ---- output --------------------------------------------------------------------------------- */

static void put_string(struct buf *out, const char *text) {
    json_t *json = json_string_nocheck(text);
    char *dumped = json_dumps(json, JSON_ENCODE_ANY);
    buf_puts(out, dumped ? dumped : "\"\"");
    free(dumped); /* jansson's */
    json_decref(json);
}

/* %.9g gives every float exactly. */
static void put_embedding(struct embedding_run *run, const struct model_info *info,
                          const struct embedding *embedding) {
    struct buf *out = &run->out;
    buf_puts(out, "{\"model\":");
    put_string(out, info->name);
    buf_puts(out, ",\"space\":");
    put_string(out, info->space);
    buf_printf(out, ",\"dim\":%d,\"vectors\":[", embedding->dim);
    for (int i = 0; i < embedding->n; i++) {
        const float *row = embedding->values + (size_t)i * (size_t)embedding->dim;
        for (int c = 0; c < embedding->dim; c++)
            buf_printf(out, "%s%.9g", c > 0 ? "," : i > 0 ? ",[" : "[", (double)row[c]);
        buf_putc(out, ']');
    }
    buf_puts(out, "]}");
}

static bool flush(struct embedding_run *run, struct error *err) {
    bool ok = !run->out.failed && fwrite(run->out.data, 1, run->out.len, stdout) == run->out.len &&
              fflush(stdout) == 0;
    buf_clear(&run->out);
    return ok || error_set_errno(err, errno, "standard output");
}

/* ---- the run -------------------------------------------------------------------------------- */

static int batch_size(const struct embedding_run *run, enum input_kind kind) {
    int size = kind == INPUT_IMAGE ? run->settings->batch_visual : run->settings->batch_text;
    if (run->batch > 0 && size > run->batch)
        size = run->batch;
    return size < MAX_BATCH ? size : MAX_BATCH;
}

/* How many items from `from` on go together. */
static int batch_at(const struct embedding_run *run, size_t from) {
    int max = batch_size(run, run->items[from].kind), n = 1;
    while (n < max && from + (size_t)n < run->n &&
           run->items[from + (size_t)n].kind == run->items[from].kind)
        n++;
    return n;
}

/* *n: how many it was in the end, which memory may have made fewer. */
static bool embed_inputs(struct embedding_run *run, struct model *model, bool first, int *n,
                         const struct model_input *inputs, struct error *err) {
    struct embedding embeddings[MAX_BATCH];
    struct arena *arena = arena_new(0);
    int64_t begun_ms = time_mono_ms();
    bool ok;
    while (!(ok = model_embed(embeddings, arena, model, inputs, *n, NULL, err)) &&
           err->kind == ERROR_LIMIT && *n > 1) {
        *n = run->batch = *n / 2;
        arena_free(arena);
        arena = arena_new(0);
    }
    run->embed_seconds += (double)(time_mono_ms() - begun_ms) / 1000;
    run->n_batches++;
    for (int i = 0; ok && i < *n; i++) {
        if (!first || i > 0)
            buf_putc(&run->out, ',');
        put_embedding(run, model_info(model), &embeddings[i]);
    }
    arena_free(arena);
    return ok;
}

static bool embed_batch(struct embedding_run *run, size_t from, int *n, struct error *err) {
    struct model_input inputs[MAX_BATCH] = {0};
    uint8_t *pixels[MAX_BATCH] = {0};
    struct model *model = NULL;
    bool ok = find_model(&model, run, run->items[from].kind, err);
    for (int i = 0; ok && i < *n; i++) {
        const struct item *item = &run->items[from + (size_t)i];
        inputs[i] = (struct model_input){.kind = item->kind, .text = item->text, .len = item->len};
        if (item->kind == INPUT_IMAGE)
            ok = load_picture(&pixels[i], &inputs[i].picture, run, item->text, err);
    }
    int n_loaded = *n;
    ok = ok && embed_inputs(run, model, from == 0, n, inputs, err);
    for (int i = 0; i < n_loaded; i++)
        mem_free(pixels[i]);
    return ok;
}

static bool embed_all(struct embedding_run *run, struct error *err) {
    if (run->many)
        buf_puts(&run->out, "{\"inputs\":[");
    for (size_t from = 0; from < run->n;) {
        int n = batch_at(run, from);
        if (!embed_batch(run, from, &n, err))
            return false;
        from += (size_t)n;
        if (run->out.len >= FLUSH_BYTES && !flush(run, err))
            return false;
    }
    buf_puts(&run->out, run->many ? "]}\n" : "\n");
    return flush(run, err);
}

static void say_summary(const struct embedding_run *run) {
    struct device_info device;
    device_info(&device, run->device);
    fprintf(stderr, "device %s (%s), %d threads\n", device.name, device.kernels, device.n_threads);
    for (int i = 0; i < run->n_slots; i++) {
        const struct model_info *info = model_info(run->slots[i].model);
        fprintf(stderr, "%s %s, loaded in %.3f s%s\n", info->name, precision_name(info->precision),
                info->load_seconds, info->packed_from_disk ? ", packed weights from disk" : "");
    }
    fprintf(stderr, "%zu input%s, %d batch%s, %.3f s", run->n, run->n == 1 ? "" : "s",
            run->n_batches, run->n_batches == 1 ? "" : "es", run->embed_seconds);
    if (run->embed_seconds > 0)
        fprintf(stderr, ", %.2f a second", (double)run->n / run->embed_seconds);
    fputc('\n', stderr);
}

static void end_run(struct embedding_run *run) {
    struct error unused;
    for (int i = 0; i < run->n_slots; i++)
        model_close(run->slots[i].model);
    device_close(run->device);
    read_pool_close(run->readers);
    if (run->scratch[0])
        dir_remove(run->scratch, &unused);
    buf_fini(&run->out);
    mem_free(run->items);
    mem_free(run->lines);
}

static bool run_embed(struct embedding_run *run, const char *lines, struct error *err) {
    const char *device;
    if (lines && !add_lines(run, lines, err))
        return false;
    run->many = run->many || run->n > 1;
    return choose_device(&device, run->settings, err) &&
           device_open(&run->device, device, 0, err) && embed_all(run, err);
}

int command_embed(const struct command *self, int argc, char **argv, struct settings *settings) {
    struct embedding_run run = {.settings = settings};
    struct error err;
    bool bad = !take_inputs(&run, &argc, argv);
    bool verbose = take_flag(&argc, argv, "--verbose");
    take_flag(&argc, argv, "--json"); /* the only form there is */
    const char *lines = take_value(&argc, argv, "--passages-from", &bad);
    run.model = take_value(&argc, argv, "--model", &bad);
    run.base = take_value(&argc, argv, "--base", &bad);
    int status = EXIT_USAGE;
    if (bad)
        usage_error(self, "an option lacks its value");
    else if (check_arguments(self, &argc, argv, 0, 0) && run.n == 0 && !lines)
        usage_error(self, "nothing to embed: --image, --query or --passage");
    else if (argc == 1)
        status = run_embed(&run, lines, &err) ? EXIT_OK : failed(&err);
    if (status == EXIT_OK && verbose)
        say_summary(&run);
    end_run(&run);
    return status;
}
