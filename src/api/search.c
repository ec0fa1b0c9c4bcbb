/* Search: a question as JSON or as a query string, its answer as JSON. The corpus counts bytes;
 * what goes out counts characters (Unicode code points), which every client can use. */
#include "api/internal.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILTER_VALUES 1000

/* ---- the question --------------------------------------------------------------------------- */

static bool parse_mode(enum search_mode *out, const char *text, struct error *err) {
    static const struct {
        const char *name;
        enum search_mode mode;
    } modes[] = {{"hybrid", SEARCH_HYBRID},
                 {"visual", SEARCH_VISUAL},
                 {"text", SEARCH_TEXT},
                 {"lexical", SEARCH_LEXICAL}};
    for (size_t i = 0; i < BASE_COUNT(modes); i++) {
        if (strcmp(text, modes[i].name) == 0) {
            *out = modes[i].mode;
            return true;
        }
    }
    return error_set(err, ERROR_INPUT, "search_mode '%.40s': hybrid, visual, text or lexical",
                     text);
}

/* One string, or an array of them. */
static bool parse_strings(const char *const **out, int *n, struct arena *arena, const json_t *json,
                          const char *name, struct error *err) {
    size_t count = json_is_array(json) ? json_array_size(json) : 1;
    if (count > MAX_FILTER_VALUES)
        return error_set(err, ERROR_LIMIT, "filters.%s: more than %d values", name,
                         MAX_FILTER_VALUES);
    if (*out)
        return error_set(err, ERROR_INPUT, "filters.%s: the same filter under two names", name);
    const char **values = arena_alloc(arena, (count + 1) * sizeof(*values));
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(json) ? json_array_get(json, i) : json;
        if (!json_is_string(one))
            return error_set(err, ERROR_INPUT, "filters.%s must be a string or strings", name);
        values[i] = arena_strdup(arena, json_string_value(one));
    }
    *out = values;
    *n = (int)count;
    return true;
}

static bool digits(int *out, const char **text, int n) {
    *out = 0;
    for (int i = 0; i < n; i++, ++*text) {
        if (**text < '0' || **text > '9')
            return false;
        *out = *out * 10 + (**text - '0');
    }
    return true;
}

/* Days since 1970 of a date of the proleptic Gregorian calendar (Howard Hinnant, "chrono-Compatible
 * Low-Level Date Algorithms", days_from_civil). */
static int64_t days_of(int year, int month, int day) {
    year -= month <= 2;
    int64_t era = year / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static bool skip(const char **text, const char *any_of) {
    if (!**text || !strchr(any_of, **text))
        return false;
    ++*text;
    return true;
}

struct moment {
    int year, month, day, hour, minute, second;
    bool bare; /* a date alone */
};

static bool parse_moment(struct moment *out, const char *text) {
    *out = (struct moment){0};
    if (!digits(&out->year, &text, 4) || !skip(&text, "-") || !digits(&out->month, &text, 2) ||
        !skip(&text, "-") || !digits(&out->day, &text, 2) || out->month < 1 || out->month > 12 ||
        out->day < 1 || out->day > 31)
        return false;
    out->bare = *text == '\0';
    if (out->bare)
        return true;
    if (!skip(&text, "T ") || !digits(&out->hour, &text, 2) || !skip(&text, ":") ||
        !digits(&out->minute, &text, 2) || out->hour > 23 || out->minute > 59)
        return false;
    if (skip(&text, ":") && (!digits(&out->second, &text, 2) || out->second > 60))
        return false;
    if (skip(&text, "."))
        text += strspn(text, "0123456789");
    skip(&text, "Z");
    return *text == '\0';
}

/* 2026-11-22, 2026-11-22T04:41:43(.123)(Z), or milliseconds since 1970. end_of_day: a bare date
 * means its last millisecond. */
static bool parse_time(int64_t *out, const json_t *json, bool end_of_day, const char *name,
                       struct error *err) {
    struct moment moment;
    if (json_is_integer(json)) {
        *out = json_integer_value(json);
        return true;
    }
    if (!json_is_string(json) || !parse_moment(&moment, json_string_value(json)))
        return error_set(err, ERROR_INPUT, "filters.%s must be a date like 2026-11-22", name);
    int64_t seconds = days_of(moment.year, moment.month, moment.day) * 86400 + moment.hour * 3600 +
                      moment.minute * 60 + moment.second;
    *out = seconds * 1000 + (moment.bare && end_of_day ? 86399999 : 0);
    return true;
}

static bool parse_page(int *out, const json_t *json, const char *name, struct error *err) {
    json_int_t value = json_integer_value(json);
    if (!json_is_integer(json) || value < 1 || value > INT32_MAX)
        return error_set(err, ERROR_INPUT, "filters.%s must be a page's number, from 1", name);
    *out = (int)value;
    return true;
}

/* An unknown filter is refused: to leave it out would answer another question. */
static bool parse_filter(struct search_filter *out, struct arena *arena, const char *name,
                         const json_t *value, struct error *err) {
    static const char *const format_names[] = {"format", "formats", "file_type_group", "group"};
    if (strcmp(name, "doc_id") == 0 || strcmp(name, "doc_ids") == 0)
        return parse_strings(&out->doc_ids, &out->n_doc_ids, arena, value, name, err);
    for (size_t i = 0; i < BASE_COUNT(format_names); i++)
        if (strcmp(name, format_names[i]) == 0)
            return parse_strings(&out->formats, &out->n_formats, arena, value, name, err);
    if (strcmp(name, "folder") == 0) {
        if (!json_is_string(value))
            return error_set(err, ERROR_INPUT, "filters.folder must be a string");
        out->folder = arena_strdup(arena, json_string_value(value));
        return true;
    }
    if (strcmp(name, "added_from") == 0 || strcmp(name, "date_from") == 0)
        return parse_time(&out->added_from_ms, value, false, name, err);
    if (strcmp(name, "added_to") == 0 || strcmp(name, "date_to") == 0)
        return parse_time(&out->added_to_ms, value, true, name, err);
    if (strcmp(name, "page_from") == 0)
        return parse_page(&out->page_from, value, name, err);
    if (strcmp(name, "page_to") == 0)
        return parse_page(&out->page_to, value, name, err);
    return error_set(err, ERROR_INPUT,
                     "filters.%.40s: doc_id, format, folder, added_from, added_to, page_from or "
                     "page_to",
                     name);
}

static bool parse_filters(struct search_filter *out, struct arena *arena, json_t *filters,
                          struct error *err) {
    const char *name;
    json_t *value;
    if (!filters || json_is_null(filters))
        return true;
    if (!json_is_object(filters))
        return error_set(err, ERROR_INPUT, "filters must be an object");
    json_object_foreach(filters, name,
                        value) if (!json_is_null(value) &&
                                   !parse_filter(out, arena, name, value, err)) return false;
    return true;
}

static bool parse_request(struct search_request *out, struct arena *arena, const json_t *body,
                          struct error *err) {
    const json_t *query = json_object_get(body, "query");
    const json_t *n = json_object_get(body, "n_results");
    const json_t *mode = json_object_get(body, "search_mode");
    const json_t *score = json_object_get(body, "min_score");
    const json_t *exact = json_object_get(body, "exact");
    *out = (struct search_request){.n_results = 10, .mode = SEARCH_HYBRID, .min_score = -INFINITY};
    if (!json_is_string(query))
        return error_set(err, ERROR_INPUT, "query is needed, as a string of 1 to 1000 characters");
    out->query = arena_strdup(arena, json_string_value(query));
    if (n && !json_is_null(n)) {
        json_int_t value = json_integer_value(n);
        if (!json_is_integer(n) || value < 1 || value > 100)
            return error_set(err, ERROR_INPUT, "n_results must be a number from 1 to 100");
        out->n_results = (int)value;
    }
    if (score && !json_is_null(score)) {
        if (!json_is_number(score))
            return error_set(err, ERROR_INPUT, "min_score must be a number");
        out->min_score = json_number_value(score);
    }
    if (mode && !json_is_null(mode)) {
        if (!json_is_string(mode))
            return error_set(err, ERROR_INPUT, "search_mode must be a string");
        if (!parse_mode(&out->mode, json_string_value(mode), err))
            return false;
    }
    if (exact && !json_is_null(exact)) {
        if (!json_is_boolean(exact))
            return error_set(err, ERROR_INPUT, "exact must be true or false");
        out->exact = json_is_true(exact);
    }
    return parse_filters(&out->filter, arena, json_object_get(body, "filters"), err);
}

/* ---- the answer ----------------------------------------------------------------------------- */

static json_t *highlights_json(const struct search_result *result) {
    json_t *out = json_array();
    size_t len = strlen(result->preview), pos = 0;
    json_int_t n = 0;
    for (int i = 0; i < result->n_highlights; i++) {
        const struct text_range *range = &result->highlights[i];
        json_int_t start;
        while (pos < len && pos < range->start) {
            utf8_next(result->preview, len, &pos);
            n++;
        }
        start = n;
        while (pos < len && pos < range->end) {
            utf8_next(result->preview, len, &pos);
            n++;
        }
        json_array_append_new(out, json_pack("[I, I]", start, n));
    }
    return out;
}

static json_t *boxes_json(const struct search_result *result) {
    json_t *out = json_array();
    for (int i = 0; i < result->n_boxes; i++) {
        const struct doc_box *box = &result->boxes[i];
        json_array_append_new(out, json_pack("[f, f, f, f]", (double)box->x0, (double)box->y0,
                                             (double)box->x1, (double)box->y1));
    }
    return out;
}

static json_t *positive_or_null(double value) {
    return value > 0 ? json_real(value) : json_null();
}

static json_t *parts_json(const struct search_result *result) {
    json_t *out = json_object();
    for (int i = 0; i < result->n_parts; i++) {
        const struct search_part *part = &result->parts[i];
        json_object_set_new(out, part->stage,
                            json_pack("{s:i, s:f, s:f}", "rank", part->rank, "score", part->score,
                                      "contribution", part->contribution));
    }
    return out;
}

static json_t *result_json(struct call *call, const struct search_result *result) {
    const struct document_row *row = &result->document;
    bool picture = result->page > 0 && access(store_path(call->arena, call->api->store, row->doc_id,
                                                         STORE_PAGE, result->page),
                                              R_OK) == 0;
    json_t *chunk = result->chunk < 0 ? json_null()
                                      : json_sprintf("%s-chunk%04d", row->doc_id, result->chunk);
    json_t *out = json_pack("{s:i, s:f, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "rank", result->rank,
                            "score", result->score, "doc_id", row->doc_id, "filename",
                            json_text_of(row->filename), "page_num",
                            result->page > 0 ? json_integer(result->page) : json_null(), "chunk_id",
                            chunk, "text_preview", json_text_of(result->preview), "highlights",
                            highlights_json(result), "boxes", boxes_json(result));
    json_object_set_new(out, "box_kind",
                        json_string(result->box_kind == BOXES_PATCHES ? "patches" : "words"));
    json_object_set_new(out, "parts", parts_json(result));
    json_object_set_new(out, "page_width", positive_or_null((double)result->page_width_pt));
    json_object_set_new(out, "page_height", positive_or_null((double)result->page_height_pt));
    json_object_set_new(out, "image_url",
                        picture
                            ? json_sprintf("/documents/%s/pages/%d.jpg", row->doc_id, result->page)
                            : json_null());
    json_object_set_new(
        out, "thumb_url",
        picture ? json_sprintf("/documents/%s/pages/%d_thumb.jpg", row->doc_id, result->page)
                : json_null());
    json_object_set_new(out, "heading_path", json_text_of(result->heading_path));
    json_object_set_new(out, "metadata",
                        json_pack("{s:o, s:o, s:s, s:s, s:i, s:i, s:o, s:o}", "title",
                                  json_text_of(row->title), "author", json_text_of(row->author),
                                  "format", row->format, "file_type_group", row->group,
                                  "page_count", row->n_pages, "chunk_count", row->n_chunks,
                                  "date_added", json_time(row->added_ms), "source_path",
                                  json_text_of(row->source_path)));
    return out;
}

/* Items that the index scored, by codes that become finer. */
static void add_effort(json_t *stage, const struct index_effort *effort) {
    const struct {
        const char *name, *ms_name;
        int64_t n;
        double ms;
    } parts[] = {{"scanned", "scan_ms", effort->n_scanned, effort->scan_ms},
                 {"pooled", "pooled_ms", effort->n_pooled, effort->pooled_ms},
                 {"full", "full_ms", effort->n_full, effort->full_ms}};
    for (size_t i = 0; i < BASE_COUNT(parts); i++) {
        json_object_set_new(stage, parts[i].name, json_integer(parts[i].n));
        json_object_set_new(stage, parts[i].ms_name, json_real(parts[i].ms));
    }
}

static json_t *stages_json(const struct search_reply *reply) {
    json_t *out = json_object();
    for (int i = 0; i < reply->n_stages; i++) {
        const struct search_stage *stage = &reply->stages[i];
        json_t *one = json_pack("{s:f, s:i}", "ms", stage->ms, "candidates", stage->candidates);
        if (stage->by_vectors)
            add_effort(one, &stage->effort);
        if (stage->unavailable)
            json_object_set_new(one, "unavailable", json_string(stage->unavailable));
        if (stage->note)
            json_object_set_new(one, "note", json_string(stage->note));
        json_object_set_new(out, stage->name, one);
    }
    return out;
}

static const char *mode_name(enum search_mode mode) {
    switch (mode) {
    case SEARCH_HYBRID:
        return "hybrid";
    case SEARCH_VISUAL:
        return "visual";
    case SEARCH_TEXT:
        return "text";
    case SEARCH_LEXICAL:
        return "lexical";
    }
    return "hybrid";
}

static void answer(struct call *call, const json_t *body) {
    struct search_request request;
    struct search_reply reply;
    struct error err;
    if (!parse_request(&request, call->arena, body, &err) ||
        !corpus_search(&reply, call->arena, call->api->corpus, &request, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    json_t *results = json_array();
    for (int i = 0; i < reply.n_results; i++)
        json_array_append_new(results, result_json(call, &reply.results[i]));
    http_reply_json(call->response, 200,
                    json_pack("{s:o, s:s, s:i, s:f, s:o, s:o}", "query",
                              json_text_of(request.query), "search_mode", mode_name(request.mode),
                              "total_results", reply.n_results, "search_time_ms", reply.ms,
                              "stages", stages_json(&reply), "results", results));
}

void handle_search(struct call *call) {
    json_t *body;
    if (!call_json(&body, call))
        return;
    answer(call, body);
    json_decref(body);
}

/* ---- the question in a query string ---------------------------------------------------------- */

static const char *either(const struct http_request *request, const char *name,
                          const char *short_name) {
    const char *value = http_query(request, name);
    return value ? value : http_query(request, short_name);
}

/* Numbers, true and false as JSON reads them, so that the locale has no say. */
static json_t *value_of(const char *text) {
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    if (json)
        return json;
    return json_string("");
}

void handle_search_get(struct call *call) {
    static const char *const filters[] = {"doc_id",     "format",   "file_type_group", "folder",
                                          "added_from", "added_to", "page_from",       "page_to"};
    const struct http_request *request = call->request;
    const char *query = either(request, "query", "q"), *n = either(request, "n_results", "n");
    const char *mode = either(request, "search_mode", "mode");
    const char *score = http_query(request, "min_score");
    const char *exact = http_query(request, "exact");
    const char *all = http_query(request, "filters");
    json_t *body = json_object();
    /* What is no object is refused with the rest; parameters of their own go beside its members. */
    json_t *filter = all ? json_loads(all, JSON_REJECT_DUPLICATES, NULL) : json_object();
    if (!filter)
        filter = json_string(all);
    if (query)
        json_object_set_new(body, "query", json_string(query));
    if (n)
        json_object_set_new(body, "n_results", value_of(n));
    if (mode)
        json_object_set_new(body, "search_mode", json_string(mode));
    if (score)
        json_object_set_new(body, "min_score", value_of(score));
    if (exact)
        json_object_set_new(body, "exact", value_of(exact));
    for (size_t i = 0; i < BASE_COUNT(filters); i++) {
        const char *value = http_query(request, filters[i]);
        if (value)
            json_object_set_new(filter, filters[i],
                                strncmp(filters[i], "page", 4) == 0 ? value_of(value)
                                                                    : json_string(value));
    }
    json_object_set_new(body, "filters", filter);
    answer(call, body);
    json_decref(body);
}
