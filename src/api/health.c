/* How the server is: for other programs (/health, /livez, /readyz, /metrics) and the formats it
 * takes. */
#include "api/internal.h"
#include "corpus/sharing.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static json_t *text_or_null(const char *text) {
    return text && *text ? json_text_of(text) : json_null();
}

/* pages_per_second or passages_per_second, as the kind has it. */
static json_t *model_json(struct call *call, enum model_role role) {
    struct model_facts facts;
    bool visual = role == ROLE_VISUAL;
    corpus_model(&facts, call->arena, call->api->corpus, role);
    bool ready = facts.state == MODEL_READY;
    json_t *out = json_pack("{s:s, s:o, s:s, s:o}", "kind", visual ? "visual" : "text", "name",
                            text_or_null(facts.name), "state", model_state_name(facts.state),
                            "reason", text_or_null(facts.reason));
    json_object_set_new(out, "precision", text_or_null(facts.precision));
    json_object_set_new(out, "device", text_or_null(facts.device));
    json_object_set_new(out, "space", text_or_null(facts.space));
    json_object_set_new(out, "warning", text_or_null(facts.warning));
    json_object_set_new(out, "dim", ready ? json_integer(facts.dim) : json_null());
    json_object_set_new(out, "late", ready ? json_boolean(facts.late) : json_null());
    json_object_set_new(out, "load_seconds", ready ? json_real(facts.load_seconds) : json_null());
    json_object_set_new(out, visual ? "pages_per_second" : "passages_per_second",
                        facts.items_per_second > 0 ? json_real(facts.items_per_second)
                                                   : json_null());
    json_object_set_new(out, "embedded", json_integer(facts.n_embedded));
    json_object_set_new(out, "waiting", json_integer(facts.n_waiting));
    int64_t without = corpus_without_vectors(call->api->corpus, role);
    json_object_set_new(out, "without_vectors",
                        ready && without >= 0 ? json_integer(without) : json_null());
    return out;
}

/* A model that the settings name and that was refused; one that is merely not there is none. */
static bool model_failed(const json_t *models) {
    size_t i;
    json_t *model;
    json_array_foreach(models, i, model) {
        const char *state = json_string_value(json_object_get(model, "state"));
        if (strcmp(state, model_state_name(MODEL_FAILED)) == 0)
            return true;
    }
    return false;
}

static json_t *per_item(int64_t bytes, int64_t n_items) {
    return json_integer(n_items > 0 ? (bytes + n_items / 2) / n_items : 0);
}

static json_t *space_json(const struct space_facts *space) {
    int64_t n = space->n_items;
    int64_t codes = space->scan_bytes + space->pooled_bytes + space->full_bytes;
    json_t *out = json_pack("{s:o, s:i, s:b, s:I, s:I, s:I, s:I, s:i}", "name",
                            json_text_of(space->name), "dim", space->dim, "late", space->late,
                            "items", (json_int_t)n, "vectors", (json_int_t)space->n_vectors,
                            "bytes", (json_int_t)space->file_bytes, "dead_bytes",
                            (json_int_t)space->dead_bytes, "segments", space->n_segments);
    json_object_set_new(out, "bytes_per_item",
                        json_pack("{s:o, s:o, s:o, s:o}", "scan", per_item(space->scan_bytes, n),
                                  "pooled", per_item(space->pooled_bytes, n), "full",
                                  per_item(space->full_bytes, n), "all", per_item(codes, n)));
    json_object_set_new(out, "checked", json_integer(space->n_checked));
    json_object_set_new(out, "damaged", json_integer(space->n_damaged));
    return out;
}

static json_t *spaces_json(struct call *call) {
    struct space_facts *spaces;
    int n;
    struct error err;
    json_t *out = json_array();
    if (!index_spaces(&spaces, &n, call->arena, corpus_index(call->api->corpus), &err))
        return out;
    for (int i = 0; i < n; i++)
        json_array_append_new(out, space_json(&spaces[i]));
    return out;
}

/* Why the device in use is not the one asked for; "" where it is. */
static const char *device_reason(struct arena *arena, const char *asked, const char *used) {
    struct device_kind kinds[8];
    int n = device_kinds(kinds);
    if (strcmp(asked, "auto") == 0 || strcmp(asked, used) == 0)
        return "";
    for (int i = 0; i < n; i++) {
        if (strcmp(kinds[i].name, asked) == 0)
            return arena_strdup(arena, kinds[i].reason);
    }
    return "this program knows no such device";
}

static json_t *device_json(struct call *call) {
    struct device_info info;
    const char *asked = call->api->settings->device;
    corpus_device(&info, call->api->corpus);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:o}", "requested", asked, "used", info.name,
                     "kernels", info.kernels, "processor", info.processor, "threads",
                     info.n_threads, "bytes", (json_int_t)info.bytes, "reason",
                     text_or_null(device_reason(call->arena, asked, info.name)));
}

static json_t *queue_facts(struct api *api, const struct store_counts *counts) {
    return json_pack("{s:I, s:i, s:i, s:I, s:I}", "waiting", (json_int_t)queue_waiting(api->queue),
                     "running", queue_running(api->queue), "max", api->settings->max_queue,
                     "failed", (json_int_t)counts->jobs[JOB_FAILED], "cancelled",
                     (json_int_t)counts->jobs[JOB_CANCELLED]);
}

static json_t *reader_facts(struct api *api) {
    struct read_health health = {0};
    read_health(&health, corpus_readers(api->corpus));
    return json_pack("{s:{s:s, s:s, s:b}, s:{s:s, s:s}, s:s}", "sandbox", "level",
                     health.sandbox_level, "detail", health.sandbox_detail, "self_test_passed",
                     health.self_test_passed, "converters", "office", health.office, "pdf",
                     health.mupdf, "ocr", health.ocr);
}

static json_t *collections_json(const struct chroma_facts *facts) {
    json_t *out = json_array();
    for (int i = 0; i < facts->n_collections; i++) {
        const struct chroma_collection_facts *one = &facts->collections[i];
        json_array_append_new(
            out, json_pack("{s:o, s:o, s:o, s:o, s:b}", "name", json_text_of(one->name), "id",
                           json_text_of(one->uuid), "space", text_or_null(one->space), "rows",
                           one->n_rows < 0 ? json_null() : json_integer(one->n_rows), "foreign",
                           one->foreign));
    }
    return out;
}

/* The store of vectors that is shared with other workers. */
static json_t *shared_json(const struct shared_facts *shared) {
    json_t *out = json_pack("{s:s, s:b, s:o, s:o, s:o, s:o}", "kind", "chroma", "reachable",
                            shared->reachable, "reason", text_or_null(shared->why), "url",
                            text_or_null(shared->store.url), "worker", json_text_of(shared->worker),
                            "note", text_or_null(shared->store.note));
    json_object_set_new(out, "collections", collections_json(&shared->store));
    json_object_set_new(out, "recovered", json_integer(shared->store.n_recovered));
    json_object_set_new(
        out, "documents",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "own", (json_int_t)shared->own, "mirrored",
                  (json_int_t)shared->mirrored, "missing", (json_int_t)shared->missing, "waiting",
                  (json_int_t)shared->unshared, "removals_waiting", (json_int_t)shared->untold,
                  "refused", (json_int_t)shared->n_refused, "refused_reason",
                  text_or_null(shared->refused)));
    return out;
}

/* Store and disk: reachable says whether the database answered. */
static bool store_facts(struct call *call, json_t *out, struct store_counts *counts) {
    struct api *api = call->api;
    struct shared_facts shared;
    struct error err = {0};
    int64_t free_bytes = -1;
    bool reachable = store_counts(counts, api->store, &err);
    corpus_shared_facts(&shared, call->arena, api->corpus);
    json_t *store = shared.used
                        ? shared_json(&shared)
                        : json_pack("{s:s, s:b}", "kind", "embedded", "reachable", reachable);
    if (!reachable)
        json_object_set_new(store, "reason", json_text_of(err.text));
    json_object_set_new(out, "store", store);
    bool disk = disk_free_bytes(&free_bytes, api->settings->data_dir, &err);
    json_object_set_new(out, "disk_free_bytes", disk ? json_integer(free_bytes) : json_null());
    return reachable && (!shared.used || (shared.reachable && !shared.why[0]));
}

void handle_health(struct call *call) {
    struct api *api = call->api;
    struct store_counts counts = {0};
    bool ready = atomic_load(&api->ready);
    json_t *out = json_object();
    bool reachable = store_facts(call, out, &counts);
    json_t *models = json_pack("[o, o]", model_json(call, ROLE_VISUAL),
                               model_json(call, ROLE_TEXT));
    bool whole = reachable && !model_failed(models);
    const char *status = !ready ? "starting" : whole ? "healthy" : "degraded";
    json_object_set_new(out, "status", json_string(status));
    json_object_set_new(out, "timestamp", json_time(time_wall_ms()));
    json_object_set_new(out, "version", json_string(DOCUSEARCH_VERSION));
    json_object_set_new(out, "uptime_seconds",
                        json_integer((time_wall_ms() - api->started_ms) / 1000));
    json_object_set_new(out, "device", device_json(call));
    json_object_set_new(out, "models", models);
    json_object_set_new(out, "vector_spaces", spaces_json(call));
    json_object_set_new(out, "queue", queue_facts(api, &counts));
    json_object_set_new(
        out, "documents",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "total", (json_int_t)counts.documents,
                  "embedding_again", (json_int_t)corpus_embedding_again(api->corpus), "ready",
                  (json_int_t)counts.ready, "failed", (json_int_t)counts.failed, "pages",
                  (json_int_t)counts.pages, "chunks", (json_int_t)counts.chunks));
    if (ready) { /* the readers are still being asked while the server starts */
        json_t *readers = reader_facts(api);
        json_object_update(out, readers);
        json_decref(readers);
    }
    http_reply_json(call->response, ready ? 200 : 503, out);
}

void handle_ready(struct call *call) {
    bool ready = atomic_load(&call->api->ready);
    http_reply_json(call->response, ready ? 200 : 503,
                    json_pack("{s:s}", "status", ready ? "ready" : "starting"));
}

void handle_live(struct call *call) {
    http_reply_json(call->response, 200, json_pack("{s:s}", "status", "alive"));
}

/* ---- metrics -------------------------------------------------------------------------------- */

static void model_metrics(struct call *call) {
    static const struct {
        enum model_role role;
        const char *label;
    } roles[] = {{ROLE_VISUAL, "model=\"visual\""}, {ROLE_TEXT, "model=\"text\""}};
    for (size_t i = 0; i < BASE_COUNT(roles); i++) {
        struct model_facts facts;
        corpus_model(&facts, call->arena, call->api->corpus, roles[i].role);
        metric_set("docusearch_model_ready", roles[i].label, "Whether the model is ready.",
                   facts.state == MODEL_READY);
        metric_set("docusearch_model_embedded", roles[i].label,
                   "Pages or passages embedded since the start.", (double)facts.n_embedded);
        metric_set("docusearch_model_waiting", roles[i].label, "Inputs waiting for the model.",
                   (double)facts.n_waiting);
    }
}

/* A label's value: backslash, quote and line end are escaped, as the text format asks for. */
static const char *label_value(struct arena *arena, const char *text) {
    char *out = arena_alloc(arena, 2 * strlen(text) + 1), *at = out;
    for (; *text; text++) {
        if (strchr("\\\"\n", *text))
            *at++ = '\\';
        *at++ = *text == '\n' ? 'n' : *text;
    }
    *at = '\0';
    return out;
}

/* Of spaces that may have gone since. */
static void forget_spaces(void) {
    static const char *const families[] = {"bytes",    "items",   "vectors",
                                           "segments", "checked", "damaged"};
    for (size_t i = 0; i < BASE_COUNT(families); i++) {
        char name[48];
        snprintf(name, sizeof name, "docusearch_index_%s", families[i]);
        metric_forget(name);
    }
}

static void space_metrics(struct arena *arena, const struct space_facts *space) {
    const char *name = label_value(arena, space->name);
    const struct {
        const char *part;
        int64_t bytes;
    } parts[] = {{"scan", space->scan_bytes},
                 {"pooled", space->pooled_bytes},
                 {"full", space->full_bytes},
                 {"dead", space->dead_bytes},
                 {"file", space->file_bytes}};
    for (size_t i = 0; i < BASE_COUNT(parts); i++)
        metric_set("docusearch_index_bytes",
                   arena_printf(arena, "space=\"%s\",part=\"%s\"", name, parts[i].part),
                   "Bytes of a vector space: codes of live items by kind, dead, all of its files.",
                   (double)parts[i].bytes);
    const char *label = arena_printf(arena, "space=\"%s\"", name);
    metric_set("docusearch_index_items", label, "Pages and passages searchable by their vectors.",
               (double)space->n_items);
    metric_set("docusearch_index_vectors", label, "Vectors searchable.", (double)space->n_vectors);
    metric_set("docusearch_index_segments", label, "Files of a vector space.",
               (double)space->n_segments);
    metric_set("docusearch_index_checked", label,
               "Items whose bytes were all checked since the start.", (double)space->n_checked);
    metric_set("docusearch_index_damaged", label,
               "Items whose bytes were found damaged since the start.", (double)space->n_damaged);
}

static void shared_metrics(struct call *call) {
    struct shared_facts shared;
    corpus_shared_facts(&shared, call->arena, call->api->corpus);
    if (!shared.used)
        return;
    metric_set("docusearch_shared_reachable", NULL, "Whether the shared store answers.",
               shared.reachable);
    metric_set("docusearch_shared_waiting", NULL, "Own documents on their way there.",
               (double)shared.unshared);
    metric_set("docusearch_shared_mirrored", NULL, "Documents of other workers.",
               (double)shared.mirrored);
}

static void vector_metrics(struct call *call) {
    struct device_info device;
    struct space_facts *spaces;
    int n = 0;
    struct error err;
    corpus_device(&device, call->api->corpus);
    metric_set("docusearch_device_bytes", NULL, "Memory that the device holds.",
               (double)device.bytes);
    if (!index_spaces(&spaces, &n, call->arena, corpus_index(call->api->corpus), &err))
        n = 0;
    forget_spaces();
    for (int i = 0; i < n; i++)
        space_metrics(call->arena, &spaces[i]);
}

static double resident_bytes(void) {
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    if (fscanf(file, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

void handle_metrics(struct call *call) {
    struct api *api = call->api;
    struct store_counts counts;
    struct error err;
    if (!store_counts(&counts, api->store, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    for (int state = 0; state < 5; state++) {
        char label[48];
        snprintf(label, sizeof(label), "state=\"%s\"", job_state_name((enum job_state)state));
        metric_set("docusearch_jobs", label, "Jobs by state.", (double)counts.jobs[state]);
    }
    metric_set("docusearch_queue_size", NULL, "Jobs waiting.", (double)queue_waiting(api->queue));
    metric_set("docusearch_documents", NULL, "Documents known.", (double)counts.documents);
    metric_set("docusearch_pages", NULL, "Pages of documents.", (double)counts.pages);
    metric_set("docusearch_chunks", NULL, "Passages searchable.", (double)counts.chunks);
    metric_set("docusearch_database_bytes", NULL, "Size of the database, with its full text.",
               (double)counts.database_bytes);
    model_metrics(call);
    vector_metrics(call);
    shared_metrics(call);
    metric_set("docusearch_http_connections", NULL, "Open connections.",
               api->server ? http_server_connections(api->server) : 0);
    metric_set("process_resident_memory_bytes", NULL, "Resident memory.", resident_bytes());
    metric_set("process_start_time_seconds", NULL, "Start, since 1970.",
               (double)api->started_ms / 1000);
    struct buf out = {0};
    metric_write(&out);
    size_t len = out.len;
    http_reply_owned(call->response, 200, "text/plain; version=0.0.4; charset=utf-8",
                     buf_take(&out), len);
}

/* ---- formats -------------------------------------------------------------------------------- */

static void add_extensions(struct api *api, json_t *all, json_t *of_group,
                           const struct read_format_info *info) {
    const char *text = info->extensions;
    while (*text) {
        size_t len = strcspn(text, " ");
        char name[32];
        snprintf(name, sizeof(name), "x.%.*s", (int)len, text);
        if (corpus_takes_name(api->corpus, name)) {
            json_array_append_new(all, json_string(name + 1));
            json_array_append_new(of_group, json_string(name + 1));
        }
        text += len;
        text += strspn(text, " ");
    }
}

void handle_formats(struct call *call) {
    static const struct {
        const char *id, *label;
    } groups[] = {{"pdf", "PDF"}, {"office", "Office"}, {"text", "Text"}, {"images", "Images"}};
    json_t *extensions = json_array(), *out_groups = json_array();
    for (size_t i = 0; i < BASE_COUNT(groups); i++) {
        json_t *of_group = json_array();
        for (int f = FORMAT_UNKNOWN + 1; f < FORMAT_N; f++) {
            const struct read_format_info *info = read_format_lookup((enum read_format)f);
            if (strcmp(info->group, groups[i].id) == 0)
                add_extensions(call->api, extensions, of_group, info);
        }
        if (json_array_size(of_group) > 0)
            json_array_append_new(out_groups,
                                  json_pack("{s:s, s:s, s:O}", "id", groups[i].id, "label",
                                            groups[i].label, "extensions", of_group));
        json_decref(of_group);
    }
    http_reply_json(call->response, 200,
                    json_pack("{s:o, s:o, s:I}", "extensions", extensions, "groups", out_groups,
                              "max_file_bytes", (json_int_t)call->api->settings->max_file_bytes));
}
