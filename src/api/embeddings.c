/* Vectors for other programs, in the shape that OpenAI's clients know (POST /v1/embeddings,
 * GET /v1/models).
 *
 * Beside that shape: input_type ("query" or "passage"), pictures as {"image": "data:…;base64,…"},
 * and "multi_vector", without which a late-interaction model is refused: a client that expects one
 * vector an input must not get the first of many. Inputs go to the model's owner in its batches; a
 * batch's pictures are all the pixels that a call holds. */
#include "api/internal.h"

#include <stdlib.h>
#include <string.h>

#define MAX_INPUTS 256
#define MAX_REPLY (128u << 20)
#define MAX_PICTURE (24u << 20) /* bytes of one, decoded from base64 */
#define MAX_BATCH_PIXELS (50ll * 1000 * 1000)
#define MAX_PICTURE_CALLS 4 /* at once */

struct embedding_call {
    struct call *call;
    enum model_role role;
    struct model_facts facts;
    enum input_kind kind; /* of texts */
    const json_t **inputs;
    int n;
    bool has_pictures, base64, multi_vector;
    struct buf out;
    int64_t n_tokens;
};

/* OpenAI's error: what ours has, and a type. */
static void reply_error(struct call *call, const struct error *err) {
    int status = api_error_status(err);
    const char *type = status == 401   ? "authentication_error"
                       : status == 404 ? "not_found_error"
                       : status < 500  ? "invalid_request_error"
                                       : "server_error";
    if (err->kind == ERROR_BUSY)
        http_reply_header(call->response, "Retry-After", "5");
    if (status == 500)
        log_warn("answered %d: %s", status, err->text);
    json_t *message = json_text_of(err->text);
    http_reply_json(call->response, status,
                    json_pack("{s:{s:O, s:s, s:n, s:s}, s:o}", "error", "message", message, "type",
                              type, "param", "code", err->code, "detail", message));
}

/* ---- the request ---------------------------------------------------------------------------- */

/* data:[<type>];base64,<data> (RFC 2397): where the data begins; NULL: it is no such thing. */
static const char *data_of_url(const char *url) {
    static const char base64[] = ";base64";
    const char *comma = strncmp(url, "data:", 5) == 0 ? strchr(url, ',') : NULL;
    size_t n = sizeof base64 - 1;
    if (!comma || (size_t)(comma - url) < 5 + n || memcmp(comma - n, base64, n) != 0)
        return NULL;
    return comma + 1;
}

static bool check_input(bool *picture, const json_t *input, int i, struct error *err) {
    const json_t *image = json_object_get(input, "image");
    *picture = image != NULL;
    if (json_is_string(input))
        return true;
    if (json_is_integer(input) || json_is_array(input))
        return error_set_code(err, ERROR_INPUT, "token_arrays",
                              "input %d holds token numbers: this server takes text", i);
    if (!json_is_object(input) || !json_is_string(image) || json_object_size(input) != 1 ||
        !data_of_url(json_string_value(image)))
        return error_set(err, ERROR_INPUT,
                         "input %d must be a string or {\"image\": \"data:image/png;base64,…\"}",
                         i);
    return true;
}

static bool parse_inputs(struct embedding_call *e, const json_t *input, struct error *err) {
    bool many = json_is_array(input);
    size_t n = many ? json_array_size(input) : 1;
    if (!input || n == 0)
        return error_set(err, ERROR_INPUT, "input is needed: a string, or an array of them");
    if (n > MAX_INPUTS)
        return error_set_code(err, ERROR_INPUT, "too_many_inputs", "%zu inputs, at most %d", n,
                              MAX_INPUTS);
    e->n = (int)n;
    e->inputs = arena_alloc(e->call->arena, n * sizeof *e->inputs);
    for (size_t i = 0; i < n; i++) {
        bool picture;
        e->inputs[i] = many ? json_array_get(input, i) : input;
        if (!check_input(&picture, e->inputs[i], (int)i, err))
            return false;
        e->has_pictures = e->has_pictures || picture;
    }
    return true;
}

/* One of two words; absent or null is the first. */
static bool parse_choice(bool *second, const json_t *body, const char *name, const char *one,
                         const char *two, struct error *err) {
    const json_t *value = json_object_get(body, name);
    const char *text = json_string_value(value);
    *second = text && strcmp(text, two) == 0;
    if (!value || json_is_null(value) || *second || (text && strcmp(text, one) == 0))
        return true;
    return error_set(err, ERROR_INPUT, "%s must be \"%s\" or \"%s\"", name, one, two);
}

static bool parse_request(struct embedding_call *e, const json_t *body, struct error *err) {
    const json_t *model = json_object_get(body, "model");
    const json_t *many = json_object_get(body, "multi_vector");
    const json_t *dimensions = json_object_get(body, "dimensions");
    bool query = false;
    if (model && !json_is_null(model) && !json_is_string(model))
        return error_set(err, ERROR_INPUT, "model must be a string");
    if (many && !json_is_null(many) && !json_is_boolean(many))
        return error_set(err, ERROR_INPUT, "multi_vector must be true or false");
    if (dimensions && !json_is_null(dimensions) && !json_is_integer(dimensions))
        return error_set(err, ERROR_INPUT, "dimensions must be a number");
    e->multi_vector = json_is_true(many);
    if (!parse_choice(&e->base64, body, "encoding_format", "float", "base64", err) ||
        !parse_choice(&query, body, "input_type", "passage", "query", err))
        return false;
    e->kind = query ? INPUT_QUERY : INPUT_PASSAGE;
    return parse_inputs(e, json_object_get(body, "input"), err);
}

/* ---- the model ------------------------------------------------------------------------------ */

/* Without a name: pictures go to the visual model, texts to the text model. */
static bool choose_model(struct embedding_call *e, const char *name, struct error *err) {
    enum model_role roles[2] = {ROLE_TEXT, ROLE_VISUAL};
    if (e->has_pictures) {
        roles[0] = ROLE_VISUAL;
        roles[1] = ROLE_TEXT;
    }
    for (int i = 0; i < 2; i++) {
        corpus_model(&e->facts, e->call->arena, e->call->api->corpus, roles[i]);
        e->role = roles[i];
        if (e->facts.state != MODEL_OFF && (!name || strcmp(name, e->facts.name) == 0))
            return true;
    }
    if (!name)
        return true; /* neither is chosen, as check_model says */
    return error_set_code(err, ERROR_MISSING, "model_not_found",
                          "no model '%.100s' here; GET /v1/models lists those that are", name);
}

static bool check_model(const struct embedding_call *e, const json_t *body, struct error *err) {
    const struct model_facts *facts = &e->facts;
    const json_t *dimensions = json_object_get(body, "dimensions");
    if (facts->state != MODEL_READY)
        return corpus_refuse(facts->state, e->role == ROLE_VISUAL ? "visual" : "text",
                             facts->reason, err);
    if (json_is_integer(dimensions) && json_integer_value(dimensions) != facts->dim)
        return error_set_code(err, ERROR_INPUT, "dimensions", "%.100s gives %d dimensions",
                              facts->name, facts->dim);
    if (facts->late && !e->multi_vector)
        return error_set_code(err, ERROR_INPUT, "multi_vector_needed",
                              "%.100s gives a vector for each token: ask with "
                              "\"multi_vector\":true",
                              facts->name);
    return true;
}

/* ---- inputs to vectors ---------------------------------------------------------------------- */

static bool check_ready(struct api *api, struct error *err) {
    return atomic_load(&api->ready) ||
           error_set_code(err, ERROR_BUSY, "not_ready", "the server starts or stops");
}

static bool is_stopping(void *ctx) {
    const struct api *api = ctx;
    return !atomic_load(&api->ready);
}

/* The pixels are the caller's (mem_free). */
static bool load_picture(uint8_t **rgb, struct picture *out, struct embedding_call *e, int i,
                         struct error *err) {
    const char *data = data_of_url(json_string_value(json_object_get(e->inputs[i], "image")));
    struct api *api = e->call->api;
    struct read_sink sink = {.ctx = api, .cancelled = is_stopping};
    struct buf bytes = {.max = MAX_PICTURE};
    bool ok = api_base64_take(&bytes, data, strlen(data));
    if (!ok)
        error_set(err, bytes.failed ? ERROR_LIMIT : ERROR_INPUT, "input %d: %s", i,
                  bytes.failed ? "the picture is larger than 24 MiB"
                               : "the picture's base64 is broken");
    else if (!bytes.len)
        ok = error_set(err, ERROR_INPUT, "input %d: the picture is empty", i);
    else if (!read_pixels_bytes(rgb, &out->width, &out->height, corpus_readers(api->corpus),
                                bytes.data, bytes.len, &sink, err)) {
        ok = false;
        if (check_ready(api, err)) /* else that is why */
            error_prefix(err, "input %d: ", i);
    }
    buf_fini(&bytes);
    out->rgb = ok ? *rgb : NULL;
    return ok;
}

static bool load_input(uint8_t **rgb, struct model_input *out, struct embedding_call *e, int i,
                       struct error *err) {
    const json_t *input = e->inputs[i];
    *out = (struct model_input){.kind = e->kind};
    if (json_is_string(input)) {
        out->text = json_string_value(input);
        out->len = json_string_length(input);
        return true;
    }
    out->kind = INPUT_IMAGE;
    return load_picture(rgb, &out->picture, e, i, err);
}

static void put_vector(struct embedding_call *e, const float *row, int dim) {
    struct buf *out = &e->out;
    if (e->base64) {
        buf_putc(out, '"');
        api_base64_put(out, row,
                       (size_t)dim * sizeof *row); /* little-endian, as our processors are */
        buf_putc(out, '"');
        return;
    }
    for (int c = 0; c < dim; c++)
        buf_printf(out, "%c%.9g", c > 0 ? ',' : '[', (double)row[c]);
    buf_putc(out, ']');
}

static void put_embedding(struct embedding_call *e, int i, const struct embedding *embedding) {
    buf_printf(&e->out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":%s",
               i > 0 ? "," : "", i, e->multi_vector ? "[" : "");
    for (int v = 0; v < embedding->n; v++) {
        if (v > 0)
            buf_putc(&e->out, ',');
        put_vector(e, embedding->values + (size_t)v * (size_t)embedding->dim, embedding->dim);
    }
    buf_puts(&e->out, e->multi_vector ? "]}" : "}");
    e->n_tokens += embedding->n_tokens;
}

/* How many inputs from `from` on are of its kind, at most a batch. */
static int batch_at(const struct embedding_call *e, int from) {
    const struct settings *settings = e->call->api->settings;
    bool picture = !json_is_string(e->inputs[from]);
    int max = picture ? settings->batch_visual : settings->batch_text, n = 1;
    while (n < max && from + n < e->n && json_is_string(e->inputs[from + n]) != picture)
        n++;
    return n;
}

/* *n: how many it was in the end. */
static bool embed_batch(struct embedding_call *e, int from, int *n, struct error *err) {
    struct api *api = e->call->api;
    struct arena *arena = arena_new(0);
    struct model_input *inputs = arena_alloc(arena, (size_t)*n * sizeof *inputs);
    struct embedding *embeddings = arena_alloc(arena, (size_t)*n * sizeof *embeddings);
    uint8_t **pixels = arena_alloc(arena, (size_t)*n * sizeof *pixels);
    bool ok = check_ready(api, err);
    int64_t n_pixels = 0;
    int n_loaded = 0;
    while (ok && n_loaded < *n && n_pixels < MAX_BATCH_PIXELS) {
        const struct model_input *input = &inputs[n_loaded];
        ok = load_input(&pixels[n_loaded], &inputs[n_loaded], e, from + n_loaded, err) &&
             check_ready(api, err);
        n_pixels += (int64_t)input->picture.width * input->picture.height;
        n_loaded++;
    }
    *n = n_loaded;
    ok = ok &&
         corpus_embed(embeddings, arena, api->corpus, e->role, e->facts.space, inputs, *n, err);
    for (int i = 0; i < n_loaded; i++) {
        mem_free(pixels[i]);
        if (ok)
            put_embedding(e, from + i, &embeddings[i]);
    }
    if (ok && e->out.failed)
        ok = error_set_code(err, ERROR_LIMIT, "reply_too_large",
                            "the reply would pass 128 MiB: ask for fewer inputs at once");
    arena_free(arena);
    return ok;
}

static void put_end(struct embedding_call *e) {
    json_t *end = json_pack("{s:s, s:s, s:i, s:{s:I, s:I}}", "model", e->facts.name, "space",
                            e->facts.space, "dim", e->facts.dim, "usage", "prompt_tokens",
                            (json_int_t)e->n_tokens, "total_tokens", (json_int_t)e->n_tokens);
    char *text = end ? json_dumps(end, JSON_COMPACT) : NULL;
    buf_puts(&e->out, "],");
    buf_puts(&e->out, text ? text + 1 : "}");
    free(text); /* jansson's */
    json_decref(end);
}

static bool embed_all(struct embedding_call *e, struct error *err) {
    e->out.max = MAX_REPLY;
    buf_puts(&e->out, "{\"object\":\"list\",\"data\":[");
    for (int from = 0; from < e->n;) {
        int n = batch_at(e, from);
        if (!embed_batch(e, from, &n, err))
            return false;
        from += n;
    }
    put_end(e);
    return true;
}

/* Pictures are large once they are pixels, so that few calls hold them at a time. */
static bool embed_guarded(struct embedding_call *e, struct error *err) {
    atomic_int *calls = &e->call->api->n_picture_calls;
    if (!e->has_pictures)
        return embed_all(e, err);
    bool ok = atomic_fetch_add(calls, 1) < MAX_PICTURE_CALLS
                  ? embed_all(e, err)
                  : error_set(err, ERROR_BUSY, "%d calls with pictures are under way already",
                              MAX_PICTURE_CALLS);
    atomic_fetch_sub(calls, 1);
    return ok;
}

void handle_embeddings(struct call *call) {
    struct embedding_call e = {.call = call};
    struct error err;
    json_error_t where;
    json_t *body = json_loadb(call->request->body, call->request->body_len, 0, &where);
    const char *name = json_string_value(json_object_get(body, "model"));
    bool ok;
    if (!json_is_object(body))
        ok = error_set(&err, ERROR_INPUT, "the body must be a JSON object%s%s", body ? "" : ": ",
                       body ? "" : where.text);
    else
        ok = parse_request(&e, body, &err) && choose_model(&e, name, &err) &&
             check_model(&e, body, &err) && embed_guarded(&e, &err);
    if (ok) {
        size_t len = e.out.len;
        http_reply_owned(call->response, 200, "application/json", buf_take(&e.out), len);
    } else {
        reply_error(call, &err);
    }
    buf_fini(&e.out);
    json_decref(body);
}

/* ---- which models --------------------------------------------------------------------------- */

void handle_models(struct call *call) {
    struct api *api = call->api;
    json_t *data = json_array();
    static const struct {
        enum model_role role;
        const char *kind;
    } roles[] = {{ROLE_TEXT, "text"}, {ROLE_VISUAL, "visual"}};
    const char *before = "";
    for (size_t i = 0; i < BASE_COUNT(roles); i++) {
        struct model_facts facts;
        corpus_model(&facts, call->arena, api->corpus, roles[i].role);
        if (facts.state != MODEL_READY || strcmp(facts.name, before) == 0)
            continue;
        before = facts.name;
        json_t *model = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:i, s:b}", "id", facts.name,
                                  "object", "model", "created",
                                  (json_int_t)(api->started_ms / 1000), "owned_by", "docusearch",
                                  "kind", roles[i].kind, "space", facts.space, "precision",
                                  facts.precision, "dim", facts.dim, "multi_vector", facts.late);
        json_array_append_new(data, model);
    }
    http_reply_json(call->response, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}
