/* How the server is: for other programs (/health, /livez, /readyz, /metrics) and the formats it
 * takes. */
#include "api/internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static json_t *model_absent(const char *kind) {
    return json_pack("{s:s, s:n, s:n, s:s, s:s}", "kind", kind, "name", "precision", "state",
                     "not_installed", "reason", "this version searches words only");
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

/* Store and disk: reachable says whether the database answered. */
static bool store_facts(struct api *api, json_t *out, struct store_counts *counts) {
    struct error err = {0};
    int64_t free_bytes = -1;
    bool reachable = store_counts(counts, api->store, &err);
    json_t *store = json_pack("{s:s, s:b}", "kind", "embedded", "reachable", reachable);
    if (!reachable)
        json_object_set_new(store, "reason", json_text_of(err.text));
    json_object_set_new(out, "store", store);
    bool disk = disk_free_bytes(&free_bytes, api->settings->data_dir, &err);
    json_object_set_new(out, "disk_free_bytes", disk ? json_integer(free_bytes) : json_null());
    return reachable;
}

void handle_health(struct call *call) {
    struct api *api = call->api;
    struct store_counts counts = {0};
    bool ready = atomic_load(&api->ready);
    json_t *out = json_object();
    bool reachable = store_facts(api, out, &counts);
    const char *status = !ready ? "starting" : reachable ? "healthy" : "degraded";
    json_object_set_new(out, "status", json_string(status));
    json_object_set_new(out, "timestamp", json_time(time_wall_ms()));
    json_object_set_new(out, "version", json_string(DOCUSEARCH_VERSION));
    json_object_set_new(out, "uptime_seconds",
                        json_integer((time_wall_ms() - api->started_ms) / 1000));
    json_object_set_new(
        out, "device",
        json_pack("{s:s, s:s}", "requested", api->settings->device, "used", api->device));
    json_object_set_new(out, "models",
                        json_pack("[o, o]", model_absent("visual"), model_absent("text")));
    json_object_set_new(out, "vector_spaces", json_array());
    json_object_set_new(out, "queue", queue_facts(api, &counts));
    json_object_set_new(out, "documents",
                        json_pack("{s:I, s:I, s:I, s:I, s:I}", "total",
                                  (json_int_t)counts.documents, "ready", (json_int_t)counts.ready,
                                  "failed", (json_int_t)counts.failed, "pages",
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

void handle_models(struct call *call) {
    http_reply_error(call->response, 404, "not_found", "no model is installed");
}
