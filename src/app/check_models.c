/* check: the device and what it computes with, the models, and the memory and time they take. */
#include "app/check.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- device --------------------------------------------------------------------------------- */

static bool in_container(void) {
    return access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
}

/* What to do about a device that is asked for and not there. */
static const char *device_advice(const char *asked) {
    if (strcmp(asked, "mps") != 0)
        return "the device asked for is not available here: set DEVICE=auto";
#ifdef __APPLE__
    return "this program was built without Metal: set DEVICE=auto, which takes the processor";
#else
    return in_container()
               ? "containers have no Metal, on a Mac either: run the worker natively there "
                 "(scripts/run-worker-native.sh run), or set DEVICE=auto, which takes the processor"
               : "Metal is there on Macs alone: set DEVICE=auto, which takes the processor here";
#endif
}

/* What MODEL_PRECISION comes to on the device in use. */
static void check_precision(struct checking *c) {
    struct device *device;
    struct error err;
    enum precision asked = PRECISION_AUTO;
    const char *word = c->settings->model_precision;
    char fact[64];
    if (!device_open(&device, json_text(json_object_get(c->health, "device"), "used"), 1, &err)) {
        check_finding(c, VERDICT_WRONG, "precision", err.text, "set DEVICE=auto");
        return;
    }
    bool ok = precision_parse(&asked, word, &err) && device_check_precision(device, asked, &err);
    if (asked == PRECISION_AUTO)
        snprintf(fact, sizeof fact, "auto: %s", precision_name(device_best_precision(device)));
    else
        snprintf(fact, sizeof fact, "%s", word);
    check_finding(c, ok ? VERDICT_OK : VERDICT_WRONG, "precision", fact, ok ? "" : err.text);
    device_close(device);
}

/* One line a device that this program knows, and what the one in use computes with. */
void check_device(struct checking *c) {
    const json_t *device = json_object_get(c->health, "device");
    const char *asked = json_text(device, "requested"), *used = json_text(device, "used");
    bool as_asked = strcmp(asked, "auto") == 0 || strcmp(asked, used) == 0;
    check_say(c, as_asked ? VERDICT_OK : VERDICT_WRONG, "device",
              as_asked ? "" : device_advice(asked), as_asked ? "%s" : "%s, in place of %s", used,
              asked);
    struct device_kind kinds[8];
    int n = device_kinds(kinds);
    for (int i = 0; i < n; i++) {
        char what[32];
        snprintf(what, sizeof what, "device %s", kinds[i].name);
        check_finding(c, kinds[i].present ? VERDICT_OK : VERDICT_NOTE, what,
                      kinds[i].present ? "present"
                      : kinds[i].built ? "not present"
                                       : "not built in",
                      kinds[i].built ? kinds[i].reason : "");
    }
    check_say(c, VERDICT_OK, "kernels", "", "%s; %s; %lld threads", json_text(device, "kernels"),
              json_text(device, "processor"), (long long)json_number(device, "threads"));
    check_precision(c);
}

/* ---- memory --------------------------------------------------------------------------------- */

#define EACH_MODEL_BYTES ((int64_t)300 << 20) /* embedding tables, batches under way */
#define PROGRAM_BYTES ((int64_t)400 << 20)    /* readers, index, caches */

#ifdef __linux__
/* The least limit from the group up to the root, of either version of control groups. */
static int64_t limit_above(const char *root, const char *group, const char *file) {
    char *path = mem_strdup(group);
    int64_t least = -1;
    for (;;) {
        char *name = mem_printf("%s%s/%s", root, strcmp(path, "/") == 0 ? "" : path, file);
        int64_t limit = check_number_in(name);
        mem_free(name);
        if (limit >= 0 && (least < 0 || limit < least))
            least = limit;
        char *slash = strrchr(path, '/');
        if (!slash)
            break;
        *slash = '\0';
    }
    mem_free(path);
    return least;
}

static int64_t group_limit(void) {
    char *data = NULL, *line, *rest;
    size_t len;
    struct error ignored;
    int64_t least = -1;
    if (!file_read(&data, &len, "/proc/self/cgroup", 65536, &ignored))
        return -1;
    for (line = data; line && *line; line = rest) {
        rest = strchr(line, '\n');
        if (rest)
            *rest++ = '\0';
        const char *group = strrchr(line, ':');
        int64_t limit = -1;
        if (strncmp(line, "0::", 3) == 0)
            limit = limit_above("/sys/fs/cgroup", group + 1, "memory.max");
        else if (strstr(line, ":memory:"))
            limit = limit_above("/sys/fs/cgroup/memory", group + 1, "memory.limit_in_bytes");
        if (limit >= 0 && (least < 0 || limit < least))
            least = limit;
    }
    mem_free(data);
    return least;
}

/* A line of /proc/meminfo, in bytes; -1: there is none. */
static int64_t machine_bytes(const char *key) {
    char *data = NULL;
    size_t len;
    struct error ignored;
    long long value = -1;
    if (file_read(&data, &len, "/proc/meminfo", 65536, &ignored)) {
        const char *line = strstr(data, key);
        if (!line || sscanf(line + strlen(key), ": %lld kB", &value) != 1)
            value = -1;
    }
    mem_free(data);
    return value < 0 ? -1 : (int64_t)value * 1024;
}
#endif

struct memory {
    int64_t most, free; /* -1: not known */
    const char *limit;  /* what sets most */
};

static void look_at_memory(struct memory *out) {
    *out = (struct memory){.most = -1, .free = -1, .limit = "the machine"};
#ifdef __linux__
    out->most = machine_bytes("MemTotal");
    out->free = machine_bytes("MemAvailable");
    int64_t group = group_limit();
    if (group >= 0 && (out->most < 0 || group < out->most)) {
        out->most = group;
        out->limit = "its control group (a container's or service's limit)";
    }
#else
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages > 0 && size > 0)
        out->most = (int64_t)pages * size;
#endif
    struct rlimit space;
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY &&
        (out->most < 0 || (int64_t)space.rlim_cur < out->most)) {
        out->most = (int64_t)space.rlim_cur;
        out->limit = "ulimit -v";
    }
    if (out->free > out->most)
        out->free = out->most;
}

/* Bytes a number takes in the model's files, as its configuration says. */
static int stored_bytes(struct arena *arena, const char *folder) {
    char *data = NULL, *path = path_join(arena, folder, "config.json");
    size_t len;
    struct error ignored;
    int bytes = 4;
    if (file_read(&data, &len, path, (size_t)16 << 20, &ignored)) {
        json_t *config = json_loadb(data, len, 0, NULL);
        const char *type = json_text(config, "dtype");
        if (!*type)
            type = json_text(config, "torch_dtype");
        if (strstr(type, "float16"))
            bytes = 2;
        json_decref(config);
    }
    mem_free(data);
    return bytes;
}

static int precision_bytes(enum precision precision) {
    switch (precision) {
    case PRECISION_INT8:
        return 1;
    case PRECISION_FP16:
    case PRECISION_BF16:
        return 2;
    case PRECISION_AUTO:
    case PRECISION_FP32:
        return 4;
    }
    return 4;
}

/* Of the models that are there, once they are loaded. */
struct weight_of_models {
    int64_t bytes;
    const char *precision;
    int n;
};

static void weigh(struct weight_of_models *out, const struct checking *c, struct arena *arena,
                  const struct model_place *place) {
    enum precision precision = PRECISION_AUTO;
    struct device *device;
    struct error ignored;
    precision_parse(&precision, c->settings->model_precision, &ignored);
    if (precision == PRECISION_AUTO &&
        device_open(&device, json_text(json_object_get(c->health, "device"), "used"), 1,
                    &ignored)) {
        precision = device_best_precision(device);
        device_close(device);
    }
    out->precision = precision_name(precision);
    out->bytes += place->size_bytes / stored_bytes(arena, place->folder) *
                      precision_bytes(precision) +
                  EACH_MODEL_BYTES;
    out->n++;
}

static void check_memory(struct checking *c, const struct weight_of_models *models) {
    struct memory memory;
    char free_words[48] = "";
    int64_t need = models->bytes + PROGRAM_BYTES;
    look_at_memory(&memory);
    if (memory.most < 0)
        return;
    bool never = need > memory.most;
    bool now = !c->session.client && memory.free >= 0 && need > memory.free;
    if (memory.free >= 0)
        snprintf(free_words, sizeof free_words, ", %.1f of them free",
                 (double)memory.free / (1 << 30));
    check_say(c,
              never ? VERDICT_WRONG
              : now ? VERDICT_NOTE
                    : VERDICT_OK,
              "memory",
              never ? "out of memory ends the program, or the machine swaps: MODEL_PRECISION=int8, "
                      "BATCH_SIZE_VISUAL=1, WORKER_THREADS=1, a smaller model or MODEL_NAME=none; "
                      "or raise the limit"
              : now ? "other programs have the rest: end some, or set MODEL_PRECISION=int8"
                    : "",
              "%.1f GiB by %s%s; %d models%s%s and all else take about %.1f",
              (double)memory.most / (1 << 30), memory.limit, free_words, models->n,
              models->n ? " in " : "", models->n ? models->precision : "",
              (double)need / (1 << 30));
}

/* ---- slow loading --------------------------------------------------------------------------- */

/* Are there packed weights that were made from the folder? */
static bool is_packed(const char *packed_dir, const char *folder) {
    DIR *dir = opendir(packed_dir);
    bool found = false;
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry && !found; entry = readdir(dir)) {
        char *text = NULL, *path = mem_printf("%s/%s", packed_dir, entry->d_name);
        size_t len;
        struct error ignored;
        found = text_has_suffix(entry->d_name, ".from") &&
                file_read(&text, &len, path, 65536, &ignored) && strcmp(text, folder) == 0;
        mem_free(text);
        mem_free(path);
    }
    if (dir)
        closedir(dir);
    return found;
}

/* "" or what hinders packed weights from being kept. */
static const char *packed_problem(const char *models_dir, const char *packed_dir) {
    struct stat info;
    if (stat(packed_dir, &info) == 0)
        return !S_ISDIR(info.st_mode)                 ? strerror(ENOTDIR)
               : access(packed_dir, W_OK | X_OK) != 0 ? strerror(errno)
                                                      : "";
    if (errno != ENOENT)
        return strerror(errno);
    return access(models_dir, F_OK) != 0 || access(models_dir, W_OK | X_OK) == 0 ? ""
                                                                                 : strerror(errno);
}

static void check_loading(struct checking *c, const char *kind, const json_t *model,
                          const struct model_place *place) {
    char *packed_dir = mem_printf("%s/packed", c->settings->models_dir);
    const char *problem = packed_problem(c->settings->models_dir, packed_dir);
    const json_t *seconds = json_object_get(model, "load_seconds");
    char what[32], took[48] = "";
    snprintf(what, sizeof what, "%s loading", kind);
    if (json_is_real(seconds))
        snprintf(took, sizeof took, "; loaded in %.1f s", json_real_value(seconds));
    if (is_packed(packed_dir, place->folder))
        check_say(c, VERDICT_OK, what, "", "its packed weights are kept, and mapped%s", took);
    else if (*problem)
        check_say(c, VERDICT_WRONG, what,
                  "every start packs the model's weights anew, which takes long and twice the "
                  "memory: make MODELS_DIR writable, with room for the model once more",
                  "%s: %s%s", packed_dir, problem, took);
    else
        check_say(c, VERDICT_NOTE, what,
                  "the first start after a pull packs the weights, which takes a while; later ones "
                  "map what it keeps in MODELS_DIR/packed",
                  "its weights are not packed yet (%.1f GiB)%s",
                  (double)place->size_bytes / (1 << 30), took);
    mem_free(packed_dir);
}

/* ---- models --------------------------------------------------------------------------------- */

static void tell_model(struct checking *c, const char *kind, const char *name, const char *state,
                       const char *why) {
    bool failed = strcmp(state, "failed") == 0;
    bool ready = strcmp(state, "ready") == 0 || strcmp(state, "installed") == 0;
    char what[32], advice[400];
    snprintf(what, sizeof what, "%s model", kind);
    snprintf(advice, sizeof advice, "%s", why);
    if (strcmp(state, "not_installed") == 0)
        snprintf(advice, sizeof advice, "%s%sget it with `docusearch pull %s`", why,
                 *why ? "; " : "", name);
    check_say(c,
              ready    ? VERDICT_OK
              : failed ? VERDICT_WRONG
                       : VERDICT_NOTE,
              what, advice, "%s%s%s", name, *name ? ": " : "", state);
}

/* A running server says how its models are; without one, what lies on the disk is looked at. */
void check_models(struct checking *c) {
    const struct settings *settings = c->settings;
    struct arena *arena = arena_new(0);
    struct weight_of_models weight = {0};
    bool shared = strcmp(settings->text_model, "visual") == 0;
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(c->health, "models"), i, model) {
        const char *kind = json_text(model, "kind"), *name = json_text(model, "name");
        const char *state = json_text(model, "state"), *why = json_text(model, "reason");
        bool visual = strcmp(kind, "visual") == 0;
        struct model_place place;
        if (strcmp(state, "off") == 0) {
            tell_model(c, kind, name, state, why);
            continue;
        }
        model_locate(&place, arena, settings,
                     visual || shared ? settings->model_name : settings->text_model);
        if (!c->session.client) {
            name = visual || shared ? settings->model_name : settings->text_model;
            state = place.installed ? "installed" : place.origin[0] ? "failed" : "not_installed";
            why = place.installed                               ? place.folder
                  : strcmp(place.problem, "not installed") == 0 ? ""
                                                                : place.problem;
        }
        tell_model(c, kind, name, state, why);
        if (place.installed && (visual || !shared)) {
            check_loading(c, kind, model, &place);
            weigh(&weight, c, arena, &place);
        }
    }
    check_memory(c, &weight);
    arena_free(arena);
}
