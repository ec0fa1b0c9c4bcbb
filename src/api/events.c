/* Server-sent events: what happens to jobs and documents, as it happens.
 *
 * The queue says only which job changed, often and from any thread. A thread of ours turns those
 * numbers, each once however often it came, into events in a ring. A stream is a place in the ring:
 * a reader that falls behind its end is told to reload ("reset"), so no reader costs memory.
 * Invariants: 1. ids ascend by one and go on ascending over restarts (they begin at the clock).
 * 2. The ring holds the ids last - n + 1 … last. */
#include "api/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING 1024
#define MAX_DIRTY 1024
#define MAX_STREAMS 128
#define PING_MS 15000
#define PAUSE_MS 100 /* changes that come closer together are told as one */
#define SEND_BATCH 32768

struct event {
    const char *name;
    char *data;
};

struct events {
    struct api *api;
    struct lock lock;
    struct signal_cond changed; /* a dirty job, a new event, the end */
    struct thread *thread;
    bool running, stopping;
    struct event ring[RING];
    int64_t last_id;
    int n; /* in the ring */
    int64_t dirty[MAX_DIRTY];
    int n_dirty;
    bool overflowed; /* jobs changed that are not in dirty */
    int n_streams;
};

struct stream {
    struct events *events;
    int64_t seen_id;
    bool reset;
    struct buf pending;
    size_t sent;
};

/* data is taken over. */
static void push_locked(struct events *events, const char *name, char *data) {
    struct event *event = &events->ring[++events->last_id % RING];
    mem_free(event->data);
    event->name = name;
    event->data = data;
    if (events->n < RING)
        events->n++;
    cond_wake_all(&events->changed);
}

static char *dump(json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(12));
    char *copy = mem_strdup(text ? text : "{}");
    free(text); /* jansson's */
    json_decref(json);
    return copy;
}

void events_job_changed(struct events *events, int64_t job_id) {
    lock_take(&events->lock);
    if (events->running) {
        int i = 0;
        while (i < events->n_dirty && events->dirty[i] != job_id)
            i++;
        if (i == MAX_DIRTY)
            events->overflowed = true;
        else if (i == events->n_dirty)
            events->dirty[events->n_dirty++] = job_id;
        if (events->n_dirty == 1 || events->overflowed)
            cond_wake_all(&events->changed);
    }
    lock_drop(&events->lock);
}

void events_document(struct events *events, const char *action, const char *doc_id,
                     const char *filename) {
    char *data = dump(json_pack("{s:s, s:s, s:o}", "action", action, "doc_id", doc_id, "filename",
                                json_text_of(filename)));
    lock_take(&events->lock);
    if (events->running)
        push_locked(events, "document", data);
    else
        mem_free(data);
    lock_drop(&events->lock);
}

/* The job as it is now; NULL when it is gone. */
static char *describe(struct events *events, int64_t job_id) {
    struct api *api = events->api;
    struct arena *arena = arena_new(0);
    struct job_row job;
    struct document_row row;
    bool found, has_row = false;
    struct error err;
    char *out = NULL;
    if (store_find_job(&job, &found, arena, api->store, job_id, &err) && found) {
        if (!job_document(&row, &has_row, api, arena, job.doc_id, &err))
            has_row = false;
        out = dump(job_json(api, &job, has_row ? &row : NULL));
    }
    arena_free(arena);
    return out;
}

static void run(void *arg) {
    struct events *events = arg;
    int64_t jobs[MAX_DIRTY];
    lock_take(&events->lock);
    while (!events->stopping) {
        if (events->n_dirty == 0) {
            cond_wait(&events->changed, &events->lock, -1);
            continue;
        }
        int n = events->n_dirty;
        bool overflowed = events->overflowed;
        memcpy(jobs, events->dirty, (size_t)n * sizeof(*jobs));
        events->n_dirty = 0;
        events->overflowed = false;
        lock_drop(&events->lock);
        for (int i = 0; i < n; i++) {
            char *data = describe(events, jobs[i]);
            if (!data)
                continue;
            lock_take(&events->lock);
            push_locked(events, "progress", data);
            lock_drop(&events->lock);
        }
        if (overflowed) {
            lock_take(&events->lock);
            push_locked(events, "reset", mem_strdup("{}"));
            lock_drop(&events->lock);
        }
        time_sleep_ms(PAUSE_MS);
        lock_take(&events->lock);
    }
    lock_drop(&events->lock);
}

struct events *events_new(struct api *api) {
    struct events *events = mem_alloc(sizeof(*events));
    events->api = api;
    events->last_id = time_wall_ms();
    lock_init(&events->lock, LOCK_EVENTS);
    cond_init(&events->changed);
    return events;
}

void events_free(struct events *events) {
    if (!events)
        return;
    events_stop(events);
    for (int i = 0; i < RING; i++)
        mem_free(events->ring[i].data);
    cond_fini(&events->changed);
    lock_fini(&events->lock);
    mem_free(events);
}

bool events_start(struct events *events, struct error *err) {
    lock_take(&events->lock);
    events->running = true;
    lock_drop(&events->lock);
    return thread_start(&events->thread, "events", run, events, err);
}

void events_stop(struct events *events) {
    lock_take(&events->lock);
    events->stopping = true;
    events->running = false;
    cond_wake_all(&events->changed);
    lock_drop(&events->lock);
    thread_join(events->thread);
    events->thread = NULL;
}

/* ---- streams -------------------------------------------------------------------------------- */

static void take_events_locked(struct stream *stream) {
    struct events *events = stream->events;
    struct buf *out = &stream->pending;
    if (stream->reset || stream->seen_id < events->last_id - events->n) {
        buf_printf(out, "id: %lld\nevent: reset\ndata: {}\n\n", (long long)events->last_id);
        stream->seen_id = events->last_id;
        stream->reset = false;
    }
    while (stream->seen_id < events->last_id && out->len < SEND_BATCH) {
        const struct event *event = &events->ring[++stream->seen_id % RING];
        buf_printf(out, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)stream->seen_id,
                   event->name, event->data);
    }
}

static size_t stream_read(void *ctx, char *out, size_t max) {
    struct stream *stream = ctx;
    struct events *events = stream->events;
    if (stream->sent == stream->pending.len) {
        buf_clear(&stream->pending);
        stream->sent = 0;
        int64_t deadline = time_mono_ms() + PING_MS;
        lock_take(&events->lock);
        while (!events->stopping && !stream->reset && stream->seen_id == events->last_id)
            if (!cond_wait(&events->changed, &events->lock, deadline))
                break;
        if (events->stopping) {
            lock_drop(&events->lock);
            return 0;
        }
        take_events_locked(stream);
        lock_drop(&events->lock);
        if (stream->pending.len == 0)
            buf_puts(&stream->pending, ": ping\n\n");
    }
    size_t n = stream->pending.len - stream->sent;
    if (n > max)
        n = max;
    memcpy(out, stream->pending.data + stream->sent, n);
    stream->sent += n;
    return n;
}

static void stream_close(void *ctx) {
    struct stream *stream = ctx;
    lock_take(&stream->events->lock);
    stream->events->n_streams--;
    lock_drop(&stream->events->lock);
    buf_fini(&stream->pending);
    mem_free(stream);
}

/* Where a reader begins: after the id it saw last, or now. */
static void place(struct stream *stream, const char *last) {
    struct events *events = stream->events;
    int64_t id;
    struct error err;
    stream->seen_id = events->last_id;
    if (!last || !*last)
        return;
    if (!text_to_int(&id, last, 0, INT64_MAX, "Last-Event-ID", &err) || id > events->last_id ||
        id < events->last_id - events->n)
        stream->reset = true;
    else
        stream->seen_id = id;
}

void handle_events(struct call *call) {
    struct events *events = call->api->events;
    const char *last = http_header(call->request, "Last-Event-ID");
    if (!last)
        last = http_query(call->request, "last_event_id");
    struct stream *stream = mem_alloc(sizeof(*stream));
    stream->events = events;
    /* Something at once, so that the headers go out and the client knows it is connected. */
    buf_puts(&stream->pending, "retry: 2000\n: connected\n\n");
    lock_take(&events->lock);
    bool full = events->n_streams >= MAX_STREAMS;
    if (!full) {
        events->n_streams++;
        place(stream, last);
    }
    lock_drop(&events->lock);
    if (full) {
        buf_fini(&stream->pending);
        mem_free(stream);
        http_reply_header(call->response, "Retry-After", "10");
        http_reply_error(call->response, 503, "busy", "too many event streams");
        return;
    }
    struct http_stream source = {stream, stream_read, stream_close};
    http_reply_header(call->response, "Cache-Control", "no-store");
    http_reply_stream(call->response, "text/event-stream; charset=utf-8", &source);
}
