/* Jobs: listed, shown, cancelled, tried again; and the same facts in the older shape. */
#include "api/internal.h"

#include <string.h>

const char *job_state_name(enum job_state state) {
    switch (state) {
    case JOB_QUEUED:
        return "queued";
    case JOB_PROCESSING:
        return "processing";
    case JOB_COMPLETED:
        return "completed";
    case JOB_FAILED:
        return "failed";
    case JOB_CANCELLED:
        return "cancelled";
    }
    return "failed";
}

/* What is live of a running job; of others, what their state means. */
static struct queue_progress progress_of(struct api *api, const struct job_row *job) {
    struct queue_progress progress = {.stage = job_state_name(job->state), .remaining_ms = -1};
    if (job->state == JOB_PROCESSING && queue_progress(&progress, api->queue, job->job_id))
        return progress;
    progress.n_pages = job->n_pages;
    if (job->state == JOB_COMPLETED) {
        progress.progress = 1.0;
        progress.page = job->n_pages;
    }
    if (job->started_ms > 0 && job->finished_ms > job->started_ms)
        progress.elapsed_ms = job->finished_ms - job->started_ms;
    return progress;
}

json_t *job_json(struct api *api, const struct job_row *job, const struct document_row *row) {
    struct queue_progress progress = progress_of(api, job);
    const char *state = job_state_name(job->state);
    json_t *out = json_pack("{s:I, s:s, s:o, s:s, s:s, s:s}", "job_id", (json_int_t)job->job_id,
                            "doc_id", job->doc_id, "filename", json_text_of(job->filename), "state",
                            state, "status", state, "stage", progress.stage);
    json_object_set_new(out, "kind", json_text_of(job->kind));
    json_object_set_new(out, "page", json_integer(progress.page));
    json_object_set_new(out, "pages", json_integer(progress.n_pages));
    json_object_set_new(out, "progress", json_real(progress.progress));
    json_object_set_new(out, "elapsed", json_real((double)progress.elapsed_ms / 1000));
    json_object_set_new(
        out, "estimated_remaining",
        progress.remaining_ms < 0 ? json_null() : json_real((double)progress.remaining_ms / 1000));
    json_object_set_new(out, "attempts", json_integer(job->attempts));
    json_object_set_new(out, "max_attempts", json_integer(job->max_attempts));
    json_object_set_new(out, "error", api_error_json(job->error_code, job->error_text));
    json_object_set_new(out, "created_at", json_time(job->created_ms));
    json_object_set_new(out, "started_at", json_time(job->started_ms));
    json_object_set_new(out, "finished_at", json_time(job->finished_ms));
    bool waits = job->state == JOB_QUEUED && job->not_before_ms > time_wall_ms();
    json_object_set_new(out, "next_attempt_at",
                        waits ? json_time(job->not_before_ms) : json_null());
    bool retrying = job->state == JOB_QUEUED && job->error_code[0];
    json_object_set_new(out, "retrying", retrying ? json_text_of(job->error_code) : json_null());
    json_object_set_new(out, "document_status",
                        row ? json_string(document_status(row, job)) : json_null());
    json_object_set_new(out, "warning", json_text_of(row ? row->warning : ""));
    return out;
}

bool job_document(struct document_row *out, bool *found, struct api *api, struct arena *arena,
                  const char *doc_id, struct error *err) {
    return store_find_document(out, found, arena, api->store, doc_id, err);
}

/* ---- one job -------------------------------------------------------------------------------- */

static void reply_job(struct call *call, int64_t job_id) {
    struct job_row job;
    struct document_row row;
    bool found, has_row = false;
    struct error err;
    if (!store_find_job(&job, &found, call->arena, call->api->store, job_id, &err) ||
        (found && !job_document(&row, &has_row, call->api, call->arena, job.doc_id, &err))) {
        api_reply_error(call->response, &err);
        return;
    }
    if (!found) {
        error_set(&err, ERROR_MISSING, "no job %lld", (long long)job_id);
        api_reply_error(call->response, &err);
        return;
    }
    http_reply_json(call->response, 200, job_json(call->api, &job, has_row ? &row : NULL));
}

void handle_job(struct call *call) {
    reply_job(call, call->number);
}

/* Cancels or retries; a job that is there but in no state for it is a conflict. */
static void change_job(struct call *call,
                       bool (*change)(struct queue *, bool *, int64_t, struct error *),
                       const char *cannot) {
    struct job_row job;
    bool found, changed = false;
    struct error err;
    bool ok = store_find_job(&job, &found, call->arena, call->api->store, call->number, &err);
    if (ok && !found)
        ok = error_set(&err, ERROR_MISSING, "no job %lld", (long long)call->number);
    if (ok)
        ok = change(call->api->queue, &changed, call->number, &err);
    if (ok && !changed)
        ok = error_set(&err, ERROR_CONFLICT, "job %lld is %s: %s", (long long)call->number,
                       job_state_name(job.state), cannot);
    if (!ok) {
        api_reply_error(call->response, &err);
        return;
    }
    events_job_changed(call->api->events, call->number);
    reply_job(call, call->number);
}

void handle_job_cancel(struct call *call) {
    change_job(call, queue_cancel, "it cannot be cancelled");
}

void handle_job_retry(struct call *call) {
    change_job(call, queue_retry, "it cannot be tried again");
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* "queued,failed" as bits; "" and "all" are all of them. */
static bool parse_states(unsigned *out, const char *text, struct error *err) {
    *out = 0;
    if (!text || !*text || strcmp(text, "all") == 0) {
        *out = 31;
        return true;
    }
    while (*text) {
        size_t len = strcspn(text, ",");
        unsigned bit = 0;
        for (int state = 0; state < 5; state++) {
            const char *name = job_state_name((enum job_state)state);
            if (strlen(name) == len && strncmp(text, name, len) == 0)
                bit = 1u << state;
        }
        if (!bit)
            return error_set(err, ERROR_INPUT,
                             "'%.*s' is no state: queued, processing, completed, failed, cancelled",
                             (int)(len < 40 ? len : 40), text);
        *out |= bit;
        text += len;
        text += *text == ',';
    }
    return true;
}

struct job_list {
    struct job_row *rows;
    int n;
    int64_t total, limit, offset;
};

static bool list_jobs(struct job_list *out, struct call *call, const char *parameter) {
    unsigned states;
    struct error err;
    if (!call_int(&out->limit, call, "limit", 50, 1, 1000) ||
        !call_int(&out->offset, call, "offset", 0, 0, INT32_MAX))
        return false;
    if (!parse_states(&states, http_query(call->request, parameter), &err) ||
        !store_list_jobs(&out->rows, &out->n, &out->total, call->arena, call->api->store, states,
                         (int)out->limit, (int)out->offset, &err)) {
        api_reply_error(call->response, &err);
        return false;
    }
    return true;
}

void handle_jobs(struct call *call) {
    const char *parameter = http_query(call->request, "state") ? "state" : "status";
    struct job_list list;
    if (!list_jobs(&list, call, parameter))
        return;
    json_t *jobs = json_array();
    for (int i = 0; i < list.n; i++) {
        struct document_row row;
        bool found = false;
        struct error err;
        if (!job_document(&row, &found, call->api, call->arena, list.rows[i].doc_id, &err))
            found = false;
        json_array_append_new(jobs, job_json(call->api, &list.rows[i], found ? &row : NULL));
    }
    http_reply_json(call->response, 200,
                    json_pack("{s:o, s:I, s:I, s:I}", "jobs", jobs, "total", (json_int_t)list.total,
                              "limit", (json_int_t)list.limit, "offset", (json_int_t)list.offset));
}

/* ---- the older shape ------------------------------------------------------------------------ */

void handle_status_queue(struct call *call) {
    struct job_list list;
    struct store_counts counts;
    struct error err;
    if (!list_jobs(&list, call, "status"))
        return;
    if (!store_counts(&counts, call->api->store, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    json_t *queue = json_array();
    for (int i = 0; i < list.n; i++) {
        const struct job_row *job = &list.rows[i];
        struct queue_progress progress = progress_of(call->api, job);
        int64_t when = job->finished_ms  ? job->finished_ms
                       : job->started_ms ? job->started_ms
                                         : job->created_ms;
        json_t *error = job->error_text[0] ? json_text_of(job->error_text) : json_null();
        json_array_append_new(queue, json_pack("{s:s, s:o, s:s, s:f, s:f, s:o, s:o}", "doc_id",
                                               job->doc_id, "filename", json_text_of(job->filename),
                                               "status", job_state_name(job->state), "progress",
                                               progress.progress, "elapsed_time",
                                               (double)progress.elapsed_ms / 1000, "timestamp",
                                               json_time(when), "error", error));
    }
    int64_t active = counts.jobs[JOB_QUEUED] + counts.jobs[JOB_PROCESSING];
    http_reply_json(call->response, 200,
                    json_pack("{s:o, s:I, s:I, s:I, s:I}", "queue", queue, "total",
                              (json_int_t)list.total, "active", (json_int_t)active, "completed",
                              (json_int_t)counts.jobs[JOB_COMPLETED], "failed",
                              (json_int_t)counts.jobs[JOB_FAILED]));
}

void handle_status_document(struct call *call) {
    struct job_row job;
    bool found;
    struct error err;
    if (!store_find_document_job(&job, &found, call->arena, call->api->store, call->doc_id, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    if (!found) {
        error_set(&err, ERROR_MISSING, "no document %s", call->doc_id);
        api_reply_error(call->response, &err);
        return;
    }
    struct queue_progress progress = progress_of(call->api, &job);
    json_t *remaining = progress.remaining_ms < 0 ? json_null()
                                                  : json_real((double)progress.remaining_ms / 1000);
    int64_t updated = job.finished_ms ? job.finished_ms : time_wall_ms();
    json_t *out = json_pack("{s:s, s:o, s:s, s:f, s:s, s:i, s:i}", "doc_id", job.doc_id, "filename",
                            json_text_of(job.filename), "status", job_state_name(job.state),
                            "progress", progress.progress, "stage", progress.stage, "page",
                            progress.page, "total_pages", progress.n_pages);
    json_object_set_new(out, "started_at", json_time(job.started_ms));
    json_object_set_new(out, "updated_at", json_time(updated));
    json_object_set_new(out, "completed_at", json_time(job.finished_ms));
    json_object_set_new(out, "elapsed_time", json_real((double)progress.elapsed_ms / 1000));
    json_object_set_new(out, "estimated_remaining", remaining);
    json_object_set_new(out, "metadata", json_object());
    json_object_set_new(out, "error",
                        job.error_text[0] ? json_text_of(job.error_text) : json_null());
    http_reply_json(call->response, 200, out);
}
