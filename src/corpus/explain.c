/* Why a page answers a question: how each word of the question fits each patch of the page's
 * picture, from the page's unpooled codes in the index; the page is not embedded again.
 *
 * A word's similarity to a patch is the mean over the word's vectors (its pieces) of their dot
 * products with the patch's: a place counts by all pieces, so that a short piece that fits
 * everywhere does not outshine the word. The page's is the sum of its words'. Vectors of the prompt
 * and of pads, which stand for no word, take no part. */
#include "corpus/explain.h"
#include "corpus/shared.h"

#include <assert.h>
#include <string.h>

#define WORD_BOXES 3
#define PAGE_BOXES 5

/* ---- similarities --------------------------------------------------------------------------- */

/* fit: a row of fit->n_vectors similarities for each of the question's vectors, of which the first
 * n_patches are the patches'. */
static void fill_word(struct explained_word *out, struct arena *arena, const struct index_fit *fit,
                      const struct model_word *word, int n_patches) {
    assert(word->first >= 0 && word->n > 0 && word->first + word->n <= fit->n_query);
    out->start = word->start;
    out->end = word->end;
    out->similarities = arena_alloc(arena, (size_t)n_patches * sizeof *out->similarities);
    for (int q = word->first; q < word->first + word->n; q++) {
        const float *row = fit->values + (size_t)q * (size_t)fit->n_vectors;
        for (int p = 0; p < n_patches; p++)
            out->similarities[p] += row[p] / (float)word->n;
    }
    out->max = out->similarities[0];
    for (int p = 1; p < n_patches; p++)
        out->max = out->similarities[p] > out->max ? out->similarities[p] : out->max;
}

static void add_up(struct explanation *out, struct arena *arena) {
    int n_patches = out->grid_width * out->grid_height;
    out->similarities = arena_alloc(arena, (size_t)n_patches * sizeof *out->similarities);
    for (int i = 0; i < out->n_words; i++) {
        for (int p = 0; p < n_patches; p++)
            out->similarities[p] += out->words[i].similarities[p];
    }
    corpus_patch_boxes(&out->boxes, &out->n_boxes, arena, out->similarities, out->grid_width,
                       out->grid_height, PAGE_BOXES);
}

/* By the codes here; of a document that another worker has, by those in the store. */
static bool fit_item(struct index_fit *out, struct arena *arena, struct corpus *corpus,
                     const struct question *question, const char *doc_id, int page,
                     struct error *err) {
    if (index_fit(out, arena, corpus->index, question->space, doc_id, ITEM_PAGE, page,
                  question->vectors.values, question->vectors.n, err))
        return true;
    return corpus->shared && strcmp(err->code, "not_found") == 0 &&
           corpus_shared_fit(out, arena, corpus, doc_id, ITEM_PAGE, page, question->vectors.values,
                             question->vectors.n, err);
}

/* Words and patches of one item. */
static bool fit_page(struct explanation *out, struct arena *arena, struct corpus *corpus,
                     const struct question *question, const char *doc_id, int page,
                     struct error *err) {
    struct index_fit fit;
    int n_patches = question->grid_width * question->grid_height;
    *out = (struct explanation){.grid_width = question->grid_width,
                                .grid_height = question->grid_height,
                                .n_words = question->n_words};
    if (n_patches == 0)
        return error_set_code(err, ERROR_UNSUPPORTED, "no_patches",
                              "this model sees a page without patches");
    if (!fit_item(&fit, arena, corpus, question, doc_id, page, err))
        return false;
    if (fit.n_vectors < n_patches)
        return error_set_code(err, ERROR_IO, "vectors_damaged",
                              "page %d has %d vectors, fewer than the %d patches of its model",
                              page, fit.n_vectors, n_patches);
    out->words = arena_alloc(arena, ((size_t)out->n_words + 1) * sizeof *out->words);
    for (int i = 0; i < out->n_words; i++)
        fill_word(&out->words[i], arena, &fit, &question->words[i], n_patches);
    add_up(out, arena);
    return true;
}

/* ---- one page ------------------------------------------------------------------------------- */

/* The page's size; ERROR_MISSING where document or page are not there. */
static bool find_page(struct page_row *out, struct arena *arena, struct corpus *corpus,
                      const char *doc_id, int page, struct error *err) {
    struct document_row row;
    struct page_row *pages;
    bool found;
    int n_pages;
    if (!store_find_document(&row, &found, arena, corpus->store, doc_id, err))
        return false;
    if (!found)
        return error_set(err, ERROR_MISSING, "no document %s", doc_id);
    if (row.state != DOCUMENT_READY)
        return error_set_code(err, ERROR_CONFLICT, "not_ready", "the document is not read yet");
    if (!store_list_pages(&pages, &n_pages, arena, corpus->store, doc_id, err))
        return false;
    if (page < 1 || page > n_pages)
        return error_set(err, ERROR_MISSING, "page %d of %d", page, n_pages);
    *out = pages[page - 1];
    return true;
}

/* The page as the model in use sees it: asked and fitted by one and the same. */
static bool ask_and_fit(struct explanation *out, struct arena *arena, struct corpus *corpus,
                        const char *doc_id, int page, const char *wanted, struct error *err) {
    struct question question;
    struct owner *owner = corpus_owner_take(corpus, ROLE_VISUAL);
    bool ok = corpus_ask(&question, arena, owner, wanted, err);
    if (ok && !fit_page(out, arena, corpus, &question, doc_id, page, err)) {
        ok = false;
        if (strcmp(err->code, "no_patches") == 0 && err->kind == ERROR_MISSING)
            error_set_code(err, ERROR_MISSING, "no_patches",
                           "page %d was kept pooled, without its patches "
                           "(INDEX_FULL_VECTORS=false)",
                           page);
        if (strcmp(err->code, "not_found") == 0)
            error_set_code(err, ERROR_MISSING, "no_vectors", "page %d has no vectors of %.100s",
                           page, owner->name);
    }
    corpus_owner_give(owner);
    return ok;
}

bool corpus_explain(struct explanation *out, struct arena *arena, struct corpus *corpus,
                    const char *doc_id, int page, const char *query, struct error *err) {
    struct page_row row = {0};
    memset(out, 0, sizeof *out);
    if (!corpus_check_question(query, err) || !find_page(&row, arena, corpus, doc_id, page, err) ||
        !ask_and_fit(out, arena, corpus, doc_id, page, lexical_wanted(arena, query), err))
        return false;
    out->page_width_pt = row.width_pt;
    out->page_height_pt = row.height_pt;
    for (int i = 0; i < out->n_words; i++) {
        struct explained_word *word = &out->words[i];
        word->start = lexical_wanted_place(query, word->start);
        word->end = lexical_wanted_place(query, word->end - 1) + 1;
        word->text = arena_strndup(arena, query + word->start, word->end - word->start);
        corpus_patch_boxes(&word->boxes, &word->n_boxes, arena, word->similarities, out->grid_width,
                           out->grid_height, WORD_BOXES);
    }
    return true;
}

/* ---- a search's results --------------------------------------------------------------------- */

static bool was_seen(const struct search_result *result) {
    for (int i = 0; i < result->n_parts; i++) {
        if (strcmp(result->parts[i].stage, "visual") == 0)
            return true;
    }
    return false;
}

bool corpus_explain_result(struct search_result *result, struct arena *arena, struct corpus *corpus,
                           const struct question *question, struct error *err) {
    struct explanation explanation;
    struct error why;
    if (result->n_boxes > 0 || !was_seen(result) || question->n_words == 0 ||
        question->grid_width == 0)
        return true;
    if (!fit_page(&explanation, arena, corpus, question, result->document.doc_id, result->page,
                  &why)) {
        /* Kept pooled, gone since, with another worker that is out of reach, or of a model that
         * sees fewer patches: the result stands without boxes. */
        bool passed = why.kind == ERROR_MISSING || why.kind == ERROR_BUSY ||
                      strcmp(why.code, "vectors_damaged") == 0;
        if (!passed)
            *err = why;
        return passed;
    }
    result->boxes = explanation.boxes;
    result->n_boxes = explanation.n_boxes;
    result->box_kind = BOXES_PATCHES;
    return true;
}
