/* Why a page: the words of a question, their places on the page, and both as a heat map. */
#include "api/heatmap.h"
#include "api/internal.h"

#include <string.h>

#define CACHED "private, max-age=300"

/* The question; false: answered. */
static bool take_query(const char **out, struct call *call) {
    const char *query = http_query(call->request, "query");
    struct error err;
    *out = query ? query : http_query(call->request, "q");
    if (*out)
        return true;
    error_set(&err, ERROR_INPUT, "query is needed, as a string of 1 to 1000 characters");
    api_reply_error(call->response, &err);
    return false;
}

static bool explain(struct explanation *out, struct call *call, const char *query) {
    struct error err;
    if (corpus_explain(out, call->arena, call->api->corpus, call->doc_id, (int)call->number, query,
                       &err))
        return true;
    api_reply_error(call->response, &err);
    return false;
}

/* ---- as JSON -------------------------------------------------------------------------------- */

static json_t *boxes_json(const struct doc_box *boxes, int n) {
    json_t *out = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(out,
                              json_pack("[f, f, f, f]", (double)boxes[i].x0, (double)boxes[i].y0,
                                        (double)boxes[i].x1, (double)boxes[i].y1));
    return out;
}

static json_t *map_json(const float *map, int width, int height) {
    json_t *rows = json_array();
    for (int y = 0; y < height; y++) {
        json_t *row = json_array();
        for (int x = 0; x < width; x++)
            json_array_append_new(row, json_real((double)map[y * width + x]));
        json_array_append_new(rows, row);
    }
    return rows;
}

/* Characters of the text before a byte of it. */
static json_int_t characters(const char *text, size_t end) {
    json_int_t n = 0;
    for (size_t pos = 0, len = strlen(text); pos < len && pos < end; n++)
        utf8_next(text, len, &pos);
    return n;
}

void handle_explain(struct call *call) {
    const char *query, *more = http_query(call->request, "similarities");
    struct explanation page;
    if (!take_query(&query, call) || !explain(&page, call, query))
        return;
    bool all = more && (strcmp(more, "true") == 0 || strcmp(more, "1") == 0);
    json_t *words = json_array();
    for (int i = 0; i < page.n_words; i++) {
        const struct explained_word *word = &page.words[i];
        json_t *one = json_pack("{s:o, s:I, s:I, s:f, s:o}", "text", json_text_of(word->text),
                                "start", characters(query, word->start), "end",
                                characters(query, word->end), "max", (double)word->max, "boxes",
                                boxes_json(word->boxes, word->n_boxes));
        if (all)
            json_object_set_new(one, "similarities",
                                map_json(word->similarities, page.grid_width, page.grid_height));
        json_array_append_new(words, one);
    }
    json_t *out = json_pack("{s:o, s:o, s:o, s:[i, i]}", "query", json_text_of(query), "words",
                            words, "boxes", boxes_json(page.boxes, page.n_boxes), "grid",
                            page.grid_width, page.grid_height);
    if (all)
        json_object_set_new(out, "similarities",
                            map_json(page.similarities, page.grid_width, page.grid_height));
    http_reply_json(call->response, 200, out);
}

/* ---- as a picture --------------------------------------------------------------------------- */

/* Names what the picture is made of: document, page, question, word and the model's space. */
static const char *etag_of(struct call *call, const char *query, int64_t word) {
    struct model_facts facts;
    char hash[SHA256_HEX + 1];
    corpus_model(&facts, call->arena, call->api->corpus, ROLE_VISUAL);
    const char *all = arena_printf(call->arena, "%s %lld %lld %s %s", call->doc_id,
                                   (long long)call->number, (long long)word, facts.space, query);
    sha256_hex(hash, all, strlen(all));
    return arena_printf(call->arena, "\"%.32s\"", hash);
}

static bool write_picture(struct buf *out, struct call *call, const struct explanation *page,
                          const float *map) {
    struct error err;
    int width, height;
    heatmap_size(&width, &height, page->page_width_pt, page->page_height_pt);
    uint8_t *rgba = mem_alloc((size_t)width * (size_t)height * 4);
    heatmap_draw(rgba, width, height, map, page->grid_width, page->grid_height);
    bool ok = read_png_write(out, rgba, width, height, &err);
    mem_free(rgba);
    if (!ok)
        api_reply_error(call->response, &err);
    return ok;
}

void handle_heatmap(struct call *call) {
    const char *query;
    struct explanation page;
    struct error err;
    struct buf out = {0};
    int64_t word;
    if (!take_query(&query, call) || !call_int(&word, call, "word", -1, 0, MODEL_WORDS_MAX - 1) ||
        !explain(&page, call, query))
        return;
    if (word >= page.n_words) {
        error_set(&err, ERROR_MISSING, "word %lld of %d, counted from 0", (long long)word,
                  page.n_words);
        api_reply_error(call->response, &err);
        return;
    }
    if (http_reply_cached(call->response, call->request, etag_of(call, query, word), CACHED))
        return;
    if (write_picture(&out, call, &page,
                      word < 0 ? page.similarities : page.words[word].similarities)) {
        size_t len = out.len;
        http_reply_owned(call->response, 200, "image/png", buf_take(&out), len);
    }
    buf_fini(&out);
}
