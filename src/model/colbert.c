/* colbert: a vector a token, from BERT and one linear layer (ColBERTv2, Santhanam et al. 2022, §3).
 *
 * As the ColBERT library reads its checkpoints (architecture HF_ColBERT): after [CLS] stands a
 * marker, [unused0] for a query and [unused1] for a document. A query is filled up to query_maxlen
 * with [MASK], whose vectors count; unless artifact.metadata says attend_to_mask_tokens, they see
 * the question and are not seen. A document's punctuation is read, and its vectors left out. */
#include "model/bert.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const char punctuation[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

struct colbert {
    struct model *model;
    struct weights *weights;
    struct bert *bert;
    struct weight *head;
    int query_marker, document_marker, mask;
    int query_tokens, document_tokens; /* the most, markers included */
    bool see_masks;
    int skipped[sizeof punctuation]; /* ids whose vectors a document does not keep */
    int n_skipped;
};

/* ---- opening -------------------------------------------------------------------------------- */

static bool colbert_takes(const struct model *model) {
    return model_is(model, "HF_ColBERT");
}

static bool read_metadata(struct colbert *colbert, int *dim, struct error *err) {
    const struct model *model = colbert->model;
    const char *file = "artifact.metadata", *query = NULL, *document = NULL, *similarity = NULL;
    bool skip = true;
    json_t *json = NULL;
    if (!config_read(&json, model->folder, file, false, err))
        return false;
    const struct config config = {json, file};
    bool ok = config_string(&query, &config, "query_token_id", "[unused0]", err) &&
              config_string(&document, &config, "doc_token_id", "[unused1]", err) &&
              config_string(&similarity, &config, "similarity", "cosine", err) &&
              config_int(&colbert->query_tokens, &config, "query_maxlen", 32, BERT_TOKENS_MIN, 4096,
                         err) &&
              config_int(&colbert->document_tokens, &config, "doc_maxlen", 220, BERT_TOKENS_MIN,
                         1 << 20, err) &&
              config_int(dim, &config, "dim", 128, 1, 8192, err) &&
              config_bool(&skip, &config, "mask_punctuation", true, err) &&
              config_bool(&colbert->see_masks, &config, "attend_to_mask_tokens", false, err) &&
              model_token(&colbert->query_marker, model, query, err) &&
              model_token(&colbert->document_marker, model, document, err) &&
              model_token(&colbert->mask, model, "[MASK]", err);
    if (ok && strcmp(similarity, "cosine") != 0)
        ok = error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                            "%s: similarity \"%s\" is not cosine", file, similarity);
    json_decref(json);
    struct arena *arena = arena_new(0);
    for (size_t i = 0; ok && skip && i < sizeof punctuation - 1; i++) {
        struct tokens tokens;
        tokenizer_encode(&tokens, arena, model->tokenizer, punctuation + i, 1, false, 0);
        if (tokens.n > 0)
            colbert->skipped[colbert->n_skipped++] = tokens.ids[0];
    }
    arena_free(arena);
    return ok;
}

static bool open_weights(struct colbert *colbert, int dim, struct error *err) {
    struct model *model = colbert->model;
    static const char *const names[] = {"linear.weight"};
    if (!weights_open(&colbert->weights, model, bert_names, err) ||
        !bert_open(&colbert->bert, model, colbert->weights, err) ||
        !weights_linear(&colbert->head, colbert->weights, names, &dim, 1, bert_width(colbert->bert),
                        WEIGHT_STACK, model_edge_precision(model), NULL, err))
        return false;
    int most = bert_max_tokens(colbert->bert);
    if (colbert->query_tokens > most)
        colbert->query_tokens = most;
    if (colbert->document_tokens > most)
        colbert->document_tokens = most;
    return weights_finish(colbert->weights, err);
}

static bool colbert_open(void **out, struct model *model, struct error *err) {
    struct colbert *colbert = mem_alloc(sizeof *colbert);
    *out = colbert;
    colbert->model = model;
    if (!read_metadata(colbert, &model->info.dim, err) ||
        !open_weights(colbert, model->info.dim, err))
        return false;
    model->info.late = model->info.takes_text = true;
    model->info.max_tokens = colbert->document_tokens;
    return true;
}

static void colbert_close(void *self) {
    struct colbert *colbert = self;
    if (!colbert)
        return;
    bert_close(colbert->bert);
    weights_close(colbert->weights);
    mem_free(colbert);
}

/* ---- embedding ------------------------------------------------------------------------------ */

/* [CLS] marker … [SEP], at most max of them. */
static void encode(struct tokens *out, struct arena *arena, const struct colbert *colbert,
                   const struct model_input *input) {
    bool query = input->kind == INPUT_QUERY;
    int max = query ? colbert->query_tokens : colbert->document_tokens;
    struct tokens plain;
    assert(max >= BERT_TOKENS_MIN); /* 0 would ask the tokenizer for all */
    tokenizer_encode(&plain, arena, colbert->model->tokenizer, input->text, input->len, true,
                     max - 1);
    int before = plain.n > 0 ? 1 : 0;
    out->cut = plain.cut;
    out->n = plain.n + 1;
    out->ids = arena_alloc(arena, (size_t)out->n * sizeof *out->ids);
    if (before)
        out->ids[0] = plain.ids[0];
    out->ids[before] = query ? colbert->query_marker : colbert->document_marker;
    if (plain.n > 1)
        memcpy(out->ids + 2, plain.ids + 1, (size_t)(plain.n - 1) * sizeof *out->ids);
}

/* Queries with their masks within their sequences. */
static void fill_up(struct tokens *texts, int n, struct arena *arena,
                    const struct colbert *colbert) {
    for (int i = 0; i < n; i++) {
        int *ids = arena_alloc(arena, (size_t)colbert->query_tokens * sizeof *ids);
        for (int j = 0; j < colbert->query_tokens; j++)
            ids[j] = j < texts[i].n ? texts[i].ids[j] : colbert->mask;
        texts[i].ids = ids;
        texts[i].n = colbert->query_tokens;
    }
}

/* Queries whose masks only watch: these rows come after all sequences. */
static void gather_watching(struct bert_batch *out, struct arena *arena,
                            const struct colbert *colbert, const struct tokens *texts, int n) {
    struct bert_batch seen;
    bert_gather(&seen, arena, texts, n);
    int n_rows = n * colbert->query_tokens, at = seen.n_rows;
    int *ids = arena_alloc(arena, (size_t)n_rows * sizeof *ids);
    int *positions = arena_alloc(arena, (size_t)n_rows * sizeof *positions);
    int *watching = arena_alloc(arena, (size_t)n_rows * sizeof *watching);
    memcpy(ids, seen.ids, (size_t)at * sizeof *ids);
    memcpy(positions, seen.positions, (size_t)at * sizeof *positions);
    for (int i = 0; i < n; i++) {
        for (int j = texts[i].n; j < colbert->query_tokens; j++, at++) {
            ids[at] = colbert->mask;
            positions[at] = j;
            watching[at - seen.n_rows] = i;
        }
    }
    *out = (struct bert_batch){ids, positions, n_rows, seen.sequences,
                               n_rows > seen.n_rows ? watching : NULL};
}

static bool is_skipped(const struct colbert *colbert, int id) {
    for (int i = 0; i < colbert->n_skipped; i++) {
        if (colbert->skipped[i] == id)
            return true;
    }
    return false;
}

/* The batch's vectors, a row a token. */
static bool run(float **values, struct arena *scratch, const struct colbert *colbert,
                const struct bert_batch *batch, const struct model_between *between,
                struct error *err) {
    struct tensor *x = NULL, *projected = NULL;
    int dim = colbert->model->info.dim;
    *values = arena_try(scratch, (size_t)batch->n_rows, (size_t)dim * sizeof **values);
    bool ok = *values ? true
                      : error_set_code(err, ERROR_LIMIT, "out_of_memory",
                                       "no memory for %d vectors", batch->n_rows);
    ok = ok && bert_forward(&x, colbert->bert, batch, between, err) &&
         tensor_new(&projected, colbert->model->device, batch->n_rows, dim, err) &&
         device_linear(projected, x, colbert->head, NULL, ACTIVATION_NONE, NULL, err) &&
         device_normalize(projected, projected, err) &&
         tensor_read(*values, projected, 0, batch->n_rows, err);
    tensor_free(x);
    tensor_free(projected);
    return ok;
}

/* Copies row `from` of values as the next of out's. */
static void keep_row(struct embedding *out, const float *values, int from) {
    size_t dim = (size_t)out->dim;
    memcpy(out->values + (size_t)out->n++ * dim, values + (size_t)from * dim, dim * sizeof *values);
}

static bool hand_out(struct embedding *out, struct arena *arena, const struct colbert *colbert,
                     const struct tokens *texts, const struct bert_batch *batch, bool query, int n,
                     const float *values, struct error *err) {
    int masks = batch->sequences.starts[n], dim = colbert->model->info.dim;
    for (int i = 0; i < n; i++) {
        int n_most = query ? colbert->query_tokens : texts[i].n;
        out[i] = (struct embedding){.dim = dim, .n_tokens = n_most, .cut = texts[i].cut};
        out[i].values = arena_try(arena, (size_t)n_most, (size_t)dim * sizeof *values);
        if (!out[i].values)
            return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d vectors",
                                  n_most);
        for (int j = 0; j < texts[i].n; j++) {
            if (query || !is_skipped(colbert, texts[i].ids[j]))
                keep_row(&out[i], values, batch->sequences.starts[i] + j);
        }
        while (query && out[i].n < n_most)
            keep_row(&out[i], values, masks++);
    }
    return true;
}

/* The masks that fill a question up stand for no word, and are left out here. */
static void colbert_question(struct tokens *out, struct arena *arena, const void *self,
                             const char *text, size_t len, bool open) {
    const struct colbert *colbert = self;
    const struct model_input input = {.kind = INPUT_QUERY, .text = text, .len = len};
    struct tokens alone, around;
    encode(out, arena, colbert, &input);
    if (!open)
        return;
    tokenizer_encode(&alone, arena, colbert->model->tokenizer, text, len, false, 0);
    tokenizer_encode(&around, arena, colbert->model->tokenizer, "", 0, true, 0);
    int most = out->n - around.n - 1, before = around.n > 0 ? 2 : 1; /* [CLS] and the marker */
    out->n = before + (alone.n < most ? alone.n : most);
}

static bool colbert_embed(struct embedding *out, struct arena *arena, void *self,
                          const struct model_input *inputs, int n,
                          const struct model_between *between, struct error *err) {
    const struct colbert *colbert = self;
    struct arena *scratch = arena_new(0);
    struct tokens *texts = arena_alloc(scratch, (size_t)n * sizeof *texts);
    struct bert_batch batch;
    float *values = NULL;
    bool query = inputs[0].kind == INPUT_QUERY;
    for (int i = 0; i < n; i++)
        encode(&texts[i], scratch, colbert, &inputs[i]);
    if (query && colbert->see_masks)
        fill_up(texts, n, scratch, colbert);
    if (query)
        gather_watching(&batch, scratch, colbert, texts, n);
    else
        bert_gather(&batch, scratch, texts, n);
    bool ok = run(&values, scratch, colbert, &batch, between, err) &&
              hand_out(out, arena, colbert, texts, &batch, query, n, values, err);
    arena_free(scratch);
    return ok;
}

const struct family family_colbert = {
    .name = "colbert",
    .takes = colbert_takes,
    .open = colbert_open,
    .close = colbert_close,
    .embed = colbert_embed,
    .question = colbert_question,
};
