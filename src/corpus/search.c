/* Answering: the stages that the mode asks for and the models allow, each a list of hits, best
 * first; one list as it is, several fused by rank; one result a page.
 *
 * What no model can do is said in its stage, and the rest answers: without any model hybrid and
 * text find what the words alone give. */
#include "corpus/answer.h"
#include "corpus/explain.h"
#include "corpus/shared.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CANDIDATES_LEAST 50 /* fuse.c says why */
#define CANDIDATES_PER_RESULT 5
#define EXCLUDED_FACTOR 8 /* as many more, of which those with excluded words go */

struct searching {
    struct corpus *corpus;
    struct arena *arena;
    const struct search_request *request;
    struct lexical_query *query;
    struct lexical_query *excluded; /* what the question leaves out; NULL: nothing */
    const char *wanted;             /* the question without that, as models are asked */
    struct search_reply *out;
    struct owner *owners[CORPUS_ROLES]; /* taken: the search sees one state of the models */
    /* The question by one model; several stages may share it. */
    struct {
        struct owner *owner;
        struct question question;
    } asked;
};
struct hits {
    struct hit *items;
    int n;
};

/* ---- stages --------------------------------------------------------------------------------- */

static struct search_stage *add_stage(struct search_reply *out, const char *name) {
    struct search_stage *stage = &out->stages[out->n_stages++];
    *stage = (struct search_stage){.name = name};
    return stage;
}

static void end_stage(struct search_stage *stage, int64_t begun_ms, int candidates) {
    char label[32];
    stage->ms = (double)(time_mono_ms() - begun_ms);
    stage->candidates = candidates;
    snprintf(label, sizeof label, "stage=\"%s\"", stage->name);
    metric_observe("docusearch_search_seconds", label, "Time a search took.", stage->ms / 1000);
}

/* How many hits a stage gives. */
static int n_candidates(const struct searching *s) {
    int n = s->request->n_results * CANDIDATES_PER_RESULT;
    return n > CANDIDATES_LEAST ? n : CANDIDATES_LEAST;
}

static bool find_words(struct hits *out, struct searching *s, struct error *err) {
    const struct search_request *request = s->request;
    int64_t begun_ms = time_mono_ms();
    struct lexical_hit *found = NULL;
    if (!lexical_search(&found, &out->n, s->arena, s->corpus->store, s->query, &request->filter,
                        n_candidates(s), err))
        return false;
    out->items = arena_alloc(s->arena, ((size_t)out->n + 1) * sizeof *out->items);
    for (int i = 0; i < out->n; i++) {
        struct hit *hit = &out->items[i];
        hit->kind = HIT_WORDS;
        memcpy(hit->doc_id, found[i].doc_id, sizeof hit->doc_id);
        hit->chunk_row_id = found[i].chunk_row_id;
        hit->score = found[i].score;
    }
    end_stage(add_stage(s->out, "lexical"), begun_ms, out->n);
    return true;
}

/* A command that searches without a server loads no model whose spaces hold no vectors. */
static bool is_worth_loading(struct searching *s, struct owner *owner, struct error *err) {
    struct space_facts *spaces;
    int n;
    if (s->corpus->started || !corpus_owner_takes_part(owner))
        return true;
    if (!index_spaces(&spaces, &n, s->arena, s->corpus->index, err))
        return false;
    for (int i = 0; i < n; i++) {
        if (spaces[i].n_items > 0 && corpus_space_is_of(spaces[i].name, owner->name))
            return true;
    }
    return error_set(err, ERROR_DEVICE, "nothing has been embedded by the %s model yet",
                     owner->what);
}

static bool is_blank(const char *text) {
    size_t len = strlen(text), pos = 0;
    while (pos < len) {
        if (!text_is_space(utf8_next(text, len, &pos)))
            return false;
    }
    return true;
}

/* The question as the role's model sees it. */
static bool ask_model(const struct embedding **out, struct searching *s, enum model_role role,
                      struct error *err) {
    struct owner *owner = s->owners[role];
    *out = &s->asked.question.vectors;
    if (s->asked.owner == owner)
        return true;
    s->asked.owner = NULL;
    if (!is_worth_loading(s, owner, err) ||
        !corpus_ask(&s->asked.question, s->arena, owner, s->wanted, err))
        return false;
    s->asked.owner = owner;
    return true;
}

static void add_note(struct search_stage *stage, struct arena *arena, const char *note) {
    stage->note = stage->note ? arena_printf(arena, "%s; %s", stage->note, note) : note;
}

/* Documents that the stage passed over are told of; where those are all there are, it could not
 * act. */
static bool check_cover(struct search_stage *stage, struct searching *s, enum model_role role,
                        int64_t n_scored, const struct shared_gaps *gaps, struct error *err) {
    struct vector_cover cover;
    if (gaps->n_unshared > 0)
        add_note(stage, s->arena,
                 arena_printf(s->arena, "%" PRId64 " document%s not in ChromaDB yet",
                              gaps->n_unshared, gaps->n_unshared == 1 ? " is" : "s are"));
    if (gaps->n_older > 0)
        add_note(stage, s->arena,
                 arena_printf(s->arena,
                              "%" PRId64
                              " document%s of the Python worker %s no vectors of this model; "
                              "reindex --store chroma brings them over",
                              gaps->n_older, gaps->n_older == 1 ? "" : "s",
                              gaps->n_older == 1 ? "has" : "have"));
    if (!corpus_cover(&cover, s->corpus, role, err))
        return false;
    if (cover.n_without == 0)
        return true;
    if (n_scored == 0 && !cover.any && s->request->mode != SEARCH_VISUAL)
        return error_set_code(err, ERROR_DEVICE, "no_vectors",
                              "no document has vectors of this model (%" PRId64 " have been read)",
                              cover.n_without);
    add_note(stage, s->arena,
             arena_printf(s->arena, "%" PRId64 " document%s no vectors of this model",
                          cover.n_without, cover.n_without == 1 ? " has" : "s have"));
    return true;
}

static bool find_vectors(struct hits *out, struct search_stage *stage, struct searching *s,
                         enum model_role role, struct error *err) {
    const struct embedding *question;
    struct index_hit *found;
    struct shared_gaps gaps = {0};
    struct index_effort *effort = &stage->effort;
    struct index_query query = {.kind = role == ROLE_VISUAL ? ITEM_PAGE : ITEM_CHUNK,
                                .filter = &s->request->filter,
                                .exact = s->request->exact};
    struct owner *owner = s->owners[role];
    int n_wanted = n_candidates(s) * (s->excluded ? EXCLUDED_FACTOR : 1);
    if (!ask_model(&question, s, role, err))
        return false;
    if (is_blank(s->wanted)) {
        add_note(stage, s->arena, "the question has only words to leave out");
        return true;
    }
    if (question->cut)
        add_note(stage, s->arena,
                 arena_printf(s->arena, "the question was cut at %d tokens", question->n_tokens));
    lock_take(&owner->lock);
    query.space = owner->space;
    lock_drop(&owner->lock);
    query.vectors = question->values;
    query.n_vectors = question->n;
    query.limit = n_wanted;
    stage->by_vectors = true;
    if (!(s->corpus->shared
              ? corpus_shared_search(&found, &out->n, &gaps, effort, s->arena, s->corpus, &query,
                                     err)
              : index_search(&found, &out->n, effort, s->arena, s->corpus->index, &query, err)) ||
        !check_cover(stage, s, role, effort->n_scanned + effort->n_pooled + effort->n_full, &gaps,
                     err))
        return false;
    out->items = arena_alloc(s->arena, ((size_t)out->n + 1) * sizeof *out->items);
    for (int i = 0; i < out->n; i++) {
        struct hit *hit = &out->items[i];
        hit->kind = role == ROLE_VISUAL ? HIT_PAGE : HIT_PASSAGE;
        memcpy(hit->doc_id, found[i].doc_id, sizeof hit->doc_id);
        hit->score = found[i].score;
        if (role == ROLE_VISUAL)
            hit->page = found[i].item;
        else
            hit->ordinal = found[i].item;
    }
    return true;
}

/* A stage of vectors. Where its model is not there *why says so and the stage is left out; other
 * errors are the search's. */
static bool try_vectors(struct hits *out, bool *there, struct searching *s, enum model_role role,
                        struct error *why) {
    int64_t begun_ms = time_mono_ms();
    struct search_stage *stage = add_stage(s->out, role == ROLE_VISUAL ? "visual" : "dense");
    *there = find_vectors(out, stage, s, role, why);
    if (*there) {
        end_stage(stage, begun_ms, out->n);
        return true;
    }
    out->n = 0;
    stage->unavailable = arena_strdup(s->arena, why->text);
    if (strcmp(why->code, SHARED_DOWN) == 0)
        return false; /* what others put is not known: a part of the answer would pass for all */
    bool cut = strcmp(why->code, "vectors_cut") == 0;
    bool other = strcmp(why->code, "other_space") == 0; /* the store's are not of this model */
    if (cut)
        log_error("%s; a restart embeds again what is lost", why->text);
    return cut || other || why->kind == ERROR_DEVICE || why->kind == ERROR_BUSY ||
           why->kind == ERROR_LIMIT;
}

/* ---- results -------------------------------------------------------------------------------- */

static bool seen_page(const struct ranking *ranking, const struct answer *answer) {
    for (int i = 0; i < ranking->n; i++) {
        if (ranking->answers[i]->page == answer->page &&
            strcmp(ranking->answers[i]->doc_id, answer->doc_id) == 0)
            return true;
    }
    return false;
}

static const char *stage_of(const struct hit *hit) {
    switch (hit->kind) {
    case HIT_WORDS:
        return "lexical";
    case HIT_PASSAGE:
        return "dense";
    case HIT_PAGE:
        return "visual";
    }
    return "";
}

/* The page as its stage's next. */
static void put_part(struct answer *answer, const struct hit *hit, int rank) {
    answer->parts[0] = (struct search_part){stage_of(hit), rank, hit->score, hit->score};
    answer->n_parts = 1;
}

/* A hit seen as an answer, pages not loaded yet. *found false: removed since, on pages that the
 * filter leaves out, or with a word that the question leaves out (words look after that
 * themselves). */
static bool see_hit(struct answer **out, bool *found, struct searching *s, const struct hit *hit,
                    struct error *err) {
    bool left_out = false;
    *out = arena_alloc(s->arena, sizeof **out);
    *found = true;
    if (hit->kind == HIT_PAGE)
        corpus_answer_of_page(*out, hit);
    else if (!corpus_answer_load(*out, found, s->arena, s->corpus, s->query, hit,
                                 &s->request->filter, err))
        return false;
    if (*found && s->excluded && hit->kind != HIT_WORDS &&
        !corpus_answer_left_out(&left_out, s->arena, s->corpus, s->excluded, *out, err))
        return false;
    *found = *found && !left_out;
    /* The vectors' hits were judged by the shared store's search. */
    if (*found && s->corpus->shared && hit->kind == HIT_WORDS)
        return corpus_share_shows(found, s->corpus, (*out)->doc_id, err);
    return true;
}

/* A stage's hits as pages, each once. */
static bool rank_pages(struct ranking *out, struct searching *s, const struct hits *hits,
                       struct error *err) {
    out->answers = arena_alloc(s->arena, ((size_t)hits->n + 1) * sizeof *out->answers);
    for (int i = 0; i < hits->n && out->n < n_candidates(s); i++) {
        struct answer *answer;
        bool found;
        if (!see_hit(&answer, &found, s, &hits->items[i], err))
            return false;
        if (!found || seen_page(out, answer))
            continue;
        out->answers[out->n++] = answer;
        put_part(answer, &hits->items[i], out->n);
    }
    return true;
}

/* Becomes a result, unless it was removed since. */
static bool give(struct searching *s, const struct answer *answer, struct error *err) {
    struct search_result *result = &s->out->results[s->out->n_results];
    struct answer whole = *answer;
    bool found = true;
    if (answer->hit && !corpus_answer_load(&whole, &found, s->arena, s->corpus, s->query,
                                           answer->hit, &s->request->filter, err))
        return false;
    whole.score = answer->score;
    whole.n_parts = answer->n_parts;
    memcpy(whole.parts, answer->parts, sizeof whole.parts);
    if (found && !corpus_answer_fill(result, &found, s->arena, s->corpus, s->query, &whole, err))
        return false;
    if (found)
        result->rank = ++s->out->n_results;
    return true;
}

/* One stage's hits become results until there are enough; a page is given once. */
static bool give_hits(struct searching *s, const struct hits *hits, struct error *err) {
    struct ranking seen = {0};
    seen.answers = arena_alloc(s->arena, ((size_t)hits->n + 1) * sizeof *seen.answers);
    for (int i = 0; i < hits->n && s->out->n_results < s->request->n_results; i++) {
        struct answer *answer;
        bool found;
        if (hits->items[i].score < s->request->min_score)
            break;
        if (!see_hit(&answer, &found, s, &hits->items[i], err))
            return false;
        if (!found || seen_page(&seen, answer))
            continue;
        put_part(answer, &hits->items[i], seen.n + 1);
        seen.answers[seen.n++] = answer;
        if (!give(s, answer, err))
            return false;
    }
    return true;
}

static bool give_fused(struct searching *s, const struct ranking *rankings, int n_rankings,
                       struct error *err) {
    struct answer **answers;
    int n;
    corpus_fuse(&answers, &n, s->arena, rankings, n_rankings);
    for (int i = 0; i < n && s->out->n_results < s->request->n_results; i++) {
        if (answers[i]->score < s->request->min_score)
            break;
        if (!give(s, answers[i], err))
            return false;
    }
    return true;
}

/* ---- modes ---------------------------------------------------------------------------------- */

static bool search_words(struct searching *s, struct error *err) {
    struct hits hits = {0};
    return find_words(&hits, s, err) && give_hits(s, &hits, err);
}

static bool search_visual(struct searching *s, struct error *err) {
    struct hits hits = {0};
    bool there;
    if (!try_vectors(&hits, &there, s, ROLE_VISUAL, err) || !there)
        return false;
    return give_hits(s, &hits, err);
}

/* By meaning; where that cannot be, by words. */
static bool search_text(struct searching *s, struct error *err) {
    struct hits hits = {0};
    bool there;
    if (!try_vectors(&hits, &there, s, ROLE_TEXT, err))
        return false;
    if (there)
        return give_hits(s, &hits, err);
    struct search_stage dense = s->out->stages[0];
    s->out->n_stages = 0;
    if (!search_words(s, err))
        return false;
    s->out->stages[s->out->n_stages++] = dense;
    return true;
}

static bool search_hybrid(struct searching *s, struct error *err) {
    struct hits words = {0}, by_role[CORPUS_ROLES] = {0};
    static const enum model_role roles[CORPUS_ROLES] = {ROLE_TEXT, ROLE_VISUAL};
    struct ranking rankings[CORPUS_ROLES + 1] = {0};
    int n = 1;
    if (!find_words(&words, s, err))
        return false;
    bool there[CORPUS_ROLES];
    for (int i = 0; i < CORPUS_ROLES; i++) {
        if (!try_vectors(&by_role[i], &there[i], s, roles[i], err))
            return false;
    }
    if (!rank_pages(&rankings[0], s, &words, err))
        return false;
    for (int i = 0; i < CORPUS_ROLES; i++) {
        if (there[i] && !rank_pages(&rankings[n++], s, &by_role[i], err))
            return false;
    }
    return give_fused(s, rankings, n, err);
}

static bool check_request(const struct search_request *request, struct error *err) {
    if (!corpus_check_question(request->query, err))
        return false;
    if (request->n_results < 1 || request->n_results > 100)
        return error_set(err, ERROR_INPUT, "n_results is %d, not 1 to 100", request->n_results);
    return true;
}

static bool search_by_mode(struct searching *s, struct error *err) {
    int64_t epoch;
    if (s->corpus->shared && s->request->mode != SEARCH_LEXICAL &&
        !corpus_shared_epoch(&epoch, s->corpus, err))
        return false;
    switch (s->request->mode) {
    case SEARCH_HYBRID:
        return search_hybrid(s, err);
    case SEARCH_VISUAL:
        return search_visual(s, err);
    case SEARCH_TEXT:
        return search_text(s, err);
    case SEARCH_LEXICAL:
        return search_words(s, err);
    }
    return error_set(err, ERROR_INPUT, "search mode %d", (int)s->request->mode);
}

/* Where the visual model found a page and no word of the question stands, its best patches. */
static bool place_results(struct searching *s, struct error *err) {
    if (s->asked.owner != s->owners[ROLE_VISUAL])
        return true;
    for (int i = 0; i < s->out->n_results; i++) {
        if (!corpus_explain_result(&s->out->results[i], s->arena, s->corpus, &s->asked.question,
                                   err))
            return false;
    }
    return true;
}

bool corpus_search(struct search_reply *out, struct arena *arena, struct corpus *corpus,
                   const struct search_request *request, struct error *err) {
    memset(out, 0, sizeof *out);
    if (!check_request(request, err))
        return false;
    int64_t begun_ms = time_mono_ms();
    struct searching s = {.corpus = corpus,
                          .arena = arena,
                          .request = request,
                          .query = lexical_parse(arena, request->query),
                          .wanted = lexical_wanted(arena, request->query),
                          .out = out};
    s.excluded = lexical_excluded(arena, s.query);
    out->results = arena_alloc(arena, (size_t)request->n_results * sizeof *out->results);
    corpus_owners_take(s.owners, corpus);
    bool ok = search_by_mode(&s, err) && place_results(&s, err);
    corpus_owners_give(s.owners);
    if (!ok)
        return false;
    out->ms = (double)(time_mono_ms() - begun_ms);
    metric_observe("docusearch_search_seconds", "stage=\"total\"", "Time a search took.",
                   out->ms / 1000);
    return true;
}
