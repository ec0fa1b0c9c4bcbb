/* tokenizer.json as a whole: its members are found where they lie, the large ones (vocabulary and
 * merges) read there, the small ones parsed; then a text goes through the stages they describe. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_MEMBER ((size_t)16 << 20) /* of what is parsed into a tree */

struct tokenizer {
    struct arena *arena;
    struct vocab *vocab;
    struct normalizer *normalizer;
    struct pretokenizer *pretokenizer;
    struct added *added;
    struct wordpiece *wordpiece; /* one of the two */
    struct bpe *bpe;
    struct template template;
    int n_ids;
};

/* ---- messages and members ------------------------------------------------------------------- */

/* The last part of a long path, so that it leaves room for what is wrong. */
static const char *short_path(const char *path) {
    size_t len = strlen(path);
    return len > 100 ? path_name(path) : path;
}

/* The file's own words may be cut in the middle of a character. */
BASE_PRINTF(2, 0) static void put_message(char out[256], const char *format, va_list args) {
    if (vsnprintf(out, 256, format, args) < 0)
        out[0] = '\0';
    size_t len = strlen(out);
    for (size_t pos = 0; pos < len;) {
        size_t start = pos;
        if (utf8_next(out, len, &pos) == 0xFFFD || (unsigned char)out[start] < 0x20)
            memset(out + start, '?', pos - start);
    }
}

bool tokenizer_bad(struct error *err, const char *path, const char *format, ...) {
    va_list args;
    char text[256];
    va_start(args, format);
    put_message(text, format, args);
    va_end(args);
    return error_set_code(err, ERROR_INPUT, "bad_model", "%.100s: %s", short_path(path), text);
}

bool tokenizer_unsupported(struct error *err, const char *path, const char *format, ...) {
    va_list args;
    char text[256];
    va_start(args, format);
    put_message(text, format, args);
    va_end(args);
    return error_set(err, ERROR_UNSUPPORTED, "%.100s: %s is not known here", short_path(path),
                     text);
}

bool tokenizer_bool(bool *out, const json_t *spec, const char *key, bool fallback, const char *path,
                    struct error *err) {
    const json_t *value = json_object_get(spec, key);
    *out = !value || json_is_null(value) ? fallback : json_is_true(value);
    if (value && !json_is_null(value) && !json_is_boolean(value))
        return tokenizer_bad(err, path, "%s is not true or false", key);
    return true;
}

bool tokenizer_text(const char **out, const json_t *spec, const char *key, const char *fallback,
                    const char *path, struct error *err) {
    const json_t *value = json_object_get(spec, key);
    *out = !value || json_is_null(value) ? fallback : json_string_value(value);
    return *out ? true : tokenizer_bad(err, path, "no text for %s", key);
}

/* ---- reading -------------------------------------------------------------------------------- */

struct member {
    const char *name;
    const char *json; /* NULL: not there */
    size_t len;
};

/* Of the object at scan: where those that are asked for lie. Others go to rest (may be NULL), each
 * parsed. */
static bool find_members(struct member *members, size_t n, json_t *rest, struct json_scan *scan,
                         struct error *err) {
    struct error problem = {0};
    bool first = true, ok = json_scan_enter(scan, '{', &problem);
    while (ok && json_scan_member(scan, &first, &problem)) {
        const char *name = scan->text.data ? scan->text.data : "";
        const char *start;
        size_t len, i = 0;
        while (i < n && strcmp(members[i].name, name) != 0)
            i++;
        if (!json_scan_skip(&start, &len, scan, &problem))
            break;
        if (i < n) {
            ok = !members[i].json || tokenizer_bad(&problem, scan->path, "%s comes twice", name);
            members[i].json = start;
            members[i].len = len;
        } else if (rest) {
            json_t *value = len <= MAX_MEMBER ? json_loadb(start, len, JSON_DECODE_ANY, NULL)
                                              : NULL;
            ok = (value && json_object_set_new(rest, name, value) == 0) ||
                 tokenizer_bad(&problem, scan->path, "malformed JSON for '%.60s'", name);
        }
    }
    if (problem.kind == 0)
        return true;
    *err = problem;
    return false;
}

static bool parse_member(json_t **out, const struct member *member, const char *path,
                         struct error *err) {
    json_error_t where;
    *out = NULL;
    if (!member->json)
        return true;
    if (member->len > MAX_MEMBER)
        return tokenizer_bad(err, path, "%s is larger than %zu bytes", member->name, MAX_MEMBER);
    *out = json_loadb(member->json, member->len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);
    return *out ? true
                : tokenizer_bad(err, path, "%s, line %d: %.120s", member->name, where.line,
                                where.text);
}

static bool read_model(struct tokenizer *self, const struct member *model, const char *path,
                       struct error *err) {
    enum { VOCAB, MERGES, N_MEMBERS };
    struct member members[N_MEMBERS] = {{.name = "vocab"}, {.name = "merges"}};
    struct json_scan scan;
    json_t *spec = json_object();
    const char *type;
    if (!model->json) {
        json_decref(spec);
        return tokenizer_bad(err, path, "no model");
    }
    json_scan_init(&scan, model->json, model->len, path);
    bool ok = find_members(members, N_MEMBERS, spec, &scan, err) &&
              tokenizer_text(&type, spec, "type", NULL, path, err);
    json_scan_fini(&scan);
    if (ok && strcmp(type, "WordPiece") != 0 && strcmp(type, "BPE") != 0)
        ok = tokenizer_unsupported(err, path, "model '%.60s'", type);
    else if (ok && !members[VOCAB].json)
        ok = tokenizer_bad(err, path, "no vocab");
    ok = ok && vocab_read(self->vocab, members[VOCAB].json, members[VOCAB].len, path, err);
    if (ok && strcmp(type, "WordPiece") == 0)
        ok = wordpiece_read(&self->wordpiece, spec, self->vocab, path, err);
    else if (ok && !members[MERGES].json)
        ok = tokenizer_bad(err, path, "no merges");
    else if (ok)
        ok = bpe_read(&self->bpe, spec, members[MERGES].json, members[MERGES].len, self->vocab,
                      path, err);
    json_decref(spec);
    return ok;
}

static void count_ids(struct tokenizer *self) {
    const struct template *template = &self->template;
    self->n_ids = vocab_n_ids(self->vocab);
    if (added_n_ids(self->added) > self->n_ids)
        self->n_ids = added_n_ids(self->added);
    for (int i = 0; i < template->n_before; i++) {
        if (template->before[i] >= self->n_ids)
            self->n_ids = template->before[i] + 1;
    }
    for (int i = 0; i < template->n_after; i++) {
        if (template->after[i] >= self->n_ids)
            self->n_ids = template->after[i] + 1;
    }
}

bool tokenizer_parse(struct tokenizer **out, const char *json, size_t len, const char *path,
                     struct error *err) {
    enum { MODEL, NORMALIZER, PRETOKENIZER, ADDED, TEMPLATE, N_MEMBERS };
    struct member members[N_MEMBERS] = {{.name = "model"},
                                        {.name = "normalizer"},
                                        {.name = "pre_tokenizer"},
                                        {.name = "added_tokens"},
                                        {.name = "post_processor"}};
    struct json_scan scan;
    json_t *specs[N_MEMBERS] = {0};
    struct tokenizer *self = mem_alloc(sizeof(*self));
    self->arena = arena_new(0);
    self->vocab = vocab_new();
    *out = NULL;
    json_scan_init(&scan, json, len, path);
    bool ok = find_members(members, N_MEMBERS, NULL, &scan, err);
    if (ok && json_scan_peek(&scan) != '\0')
        ok = tokenizer_bad(err, path, "more than one value, at byte %zu", scan.pos);
    json_scan_fini(&scan);
    for (int i = NORMALIZER; i < N_MEMBERS; i++)
        ok = ok && parse_member(&specs[i], &members[i], path, err);
    ok = ok && read_model(self, &members[MODEL], path, err) &&
         normalizer_read(&self->normalizer, specs[NORMALIZER], path, err) &&
         pretokenizer_read(&self->pretokenizer, specs[PRETOKENIZER], path, err) &&
         added_read(&self->added, specs[ADDED], self->vocab, self->normalizer, path, err) &&
         template_read(&self->template, self->arena, specs[TEMPLATE], path, err);
    for (int i = 0; i < N_MEMBERS; i++)
        json_decref(specs[i]);
    if (!ok) {
        tokenizer_close(self);
        return false;
    }
    count_ids(self);
    *out = self;
    return true;
}

bool tokenizer_open(struct tokenizer **out, const char *path, struct error *err) {
    char *json = NULL;
    size_t len = 0;
    *out = NULL;
    if (!file_read(&json, &len, path, TOKENIZER_MAX_FILE, err))
        return false;
    bool ok = tokenizer_parse(out, json, len, path, err);
    mem_free(json);
    return ok;
}

void tokenizer_close(struct tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    wordpiece_free(tokenizer->wordpiece);
    bpe_free(tokenizer->bpe);
    added_free(tokenizer->added);
    pretokenizer_free(tokenizer->pretokenizer);
    normalizer_free(tokenizer->normalizer);
    vocab_free(tokenizer->vocab);
    arena_free(tokenizer->arena);
    mem_free(tokenizer);
}

int tokenizer_n_ids(const struct tokenizer *tokenizer) {
    return tokenizer->n_ids;
}

int tokenizer_id(const struct tokenizer *tokenizer, const char *token) {
    int id = added_find(tokenizer->added, token);
    return id >= 0 ? id : vocab_find(tokenizer->vocab, token, strlen(token));
}

/* ---- encoding ------------------------------------------------------------------------------- */

void ids_add(struct ids *ids, int id) {
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? 2 * ids->cap : 256;
        int *grown = arena_alloc(ids->arena, cap * sizeof(*grown));
        if (ids->n)
            memcpy(grown, ids->items, ids->n * sizeof(*grown));
        ids->items = grown;
        ids->cap = cap;
    }
    ids->items[ids->n++] = id;
}

/* The text with invalid bytes as U+FFFD, and no longer than is read. */
static const char *readable(size_t *len, struct arena *arena, const char *text) {
    *len = utf8_cut(text, *len, TOKENIZER_MAX_TEXT);
    if (utf8_valid(text, *len))
        return text;
    char *out = arena_alloc(arena, 3 * *len + 1);
    size_t n = 0;
    for (size_t pos = 0; pos < *len;)
        n += utf8_put(out + n, utf8_next(text, *len, &pos));
    *len = n;
    return out;
}

/* Every part of the text that is no added token, normalized, and cut at those of normalized text.
 */
static void normalize_pieces(struct pieces *out, const struct tokenizer *self,
                             const struct pieces *in) {
    for (size_t i = 0; i < in->n; i++) {
        const struct piece *piece = &in->items[i];
        if (piece->id >= 0) {
            pieces_add(out, piece->text, piece->len, piece->id, piece->first);
            continue;
        }
        struct buf text = {.max = 16 * TOKENIZER_MAX_TEXT};
        struct piece whole = {.id = -1, .first = piece->first};
        normalizer_apply(&text, self->normalizer, &whole.first, piece->text, piece->len);
        whole.text = arena_strndup(out->arena, text.data, text.len);
        whole.len = text.len;
        buf_fini(&text);
        added_split(out, self->added, true, &whole);
    }
}

/* False: the text has more than max. */
static bool text_ids(struct ids *out, const struct tokenizer *self, const char *text, size_t len,
                     size_t max) {
    struct pieces found = {.arena = out->arena}, normal = found, cut = found;
    struct piece whole = {text, len, -1, true};
    added_split(&found, self->added, false, &whole);
    normalize_pieces(&normal, self, &found);
    pretokenizer_apply(&cut, self->pretokenizer, &normal);
    size_t n_read = 0;
    for (; n_read < cut.n && out->n < max; n_read++) {
        const struct piece *piece = &cut.items[n_read];
        if (piece->id >= 0)
            ids_add(out, piece->id);
        else if (self->wordpiece)
            wordpiece_encode(out, self->wordpiece, piece->text, piece->len);
        else
            bpe_encode(out, self->bpe, piece->text, piece->len);
    }
    bool whole_text = n_read == cut.n && out->n <= max;
    if (out->n > max)
        out->n = max;
    return whole_text;
}

void tokenizer_encode(struct tokens *out, struct arena *arena, const struct tokenizer *tokenizer,
                      const char *text, size_t len, bool special, int max) {
    const struct template *template = &tokenizer->template;
    size_t n_before = special ? (size_t) template->n_before : 0;
    size_t n_after = special ? (size_t) template->n_after : 0;
    size_t most = max > 0 ? (size_t)max : SIZE_MAX, n_around = n_before + n_after;
    struct arena *scratch = arena_new(0);
    struct ids ids = {.arena = scratch};
    text = readable(&len, scratch, text);
    out->cut = !text_ids(&ids, tokenizer, text, len, most > n_around ? most - n_around : 0);
    out->ids = arena_alloc(arena, (n_around + ids.n) * sizeof(int));
    memcpy(out->ids, template->before, n_before * sizeof(int));
    if (ids.n)
        memcpy(out->ids + n_before, ids.items, ids.n * sizeof(int));
    memcpy(out->ids + n_before + ids.n, template->after, n_after * sizeof(int));
    out->n = (int)(n_around + ids.n < most ? n_around + ids.n : most);
    arena_free(scratch);
}
