/* Pre-tokenizers: where a text is cut before the model reads it. A sequence, however nested, is one
 * list of steps; each cuts the pieces that the one before it left. Most are a way of finding what
 * cuts (a character of a class, a string, a character of GPT-2's pattern) and a behaviour that says
 * what becomes of what was found. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_PATTERN 256
#define MAX_LENGTHENING 4 /* steps that make a text longer, up to twice */

enum kind { SPACES, PUNCTUATION, NUMBERS, WORDS, STRING, METASPACE, BYTE_LEVEL };
enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
enum prepend { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };
struct step {
    enum kind kind;
    enum behavior behavior;
    bool invert;
    char *pattern; /* STRING, METASPACE */
    enum prepend prepend;
    bool split;        /* METASPACE */
    bool prefix_space; /* BYTE_LEVEL */
    bool use_regex;
};
struct pretokenizer {
    struct step steps[TOKENIZER_MAX_STEPS];
    int n, n_lengthening;
};

void pieces_add(struct pieces *pieces, const char *text, size_t len, int id, bool first) {
    if (len == 0)
        return;
    if (pieces->n == pieces->cap) {
        size_t cap = pieces->cap ? 2 * pieces->cap : 64;
        struct piece *grown = arena_alloc(pieces->arena, cap * sizeof(*grown));
        if (pieces->n)
            memcpy(grown, pieces->items, pieces->n * sizeof(*grown));
        pieces->items = grown;
        pieces->cap = cap;
    }
    pieces->items[pieces->n++] = (struct piece){text, len, id, first};
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool read_behavior(enum behavior *out, const json_t *spec, const char *fallback,
                          const char *path, struct error *err) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name;
    if (!tokenizer_text(&name, spec, "behavior", fallback, path, err))
        return false;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum behavior)i;
            return true;
        }
    }
    return tokenizer_unsupported(err, path, "behavior '%.60s'", name);
}

static bool read_pattern(char **out, const json_t *spec, const char *key, const char *path,
                         struct error *err) {
    const char *text;
    if (!tokenizer_text(&text, spec, key, NULL, path, err))
        return false;
    if (text[0] == '\0' || strlen(text) > MAX_PATTERN)
        return tokenizer_bad(err, path, "pre-tokenizer: %s of %zu bytes, not 1 to %d", key,
                             strlen(text), MAX_PATTERN);
    *out = mem_strdup(text);
    return true;
}

static bool read_split(struct step *step, const json_t *spec, const char *path, struct error *err) {
    const json_t *pattern = json_object_get(spec, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    step->kind = STRING;
    if (regex)
        return tokenizer_unsupported(err, path,
                                     "pre-tokenizer Split with the regular expression '%.80s'",
                                     json_is_string(regex) ? json_string_value(regex) : "");
    return read_pattern(&step->pattern, pattern, "String", path, err) &&
           read_behavior(&step->behavior, spec, NULL, path, err) &&
           tokenizer_bool(&step->invert, spec, "invert", false, path, err);
}

static bool read_metaspace(struct step *step, const json_t *spec, const char *path,
                           struct error *err) {
    static const char *const schemes[] = {"always", "first", "never"};
    const char *scheme;
    bool prefix_space;
    step->kind = METASPACE;
    step->behavior = MERGED_WITH_NEXT;
    if (!read_pattern(&step->pattern, spec, "replacement", path, err) ||
        !tokenizer_text(&scheme, spec, "prepend_scheme", "always", path, err) ||
        !tokenizer_bool(&prefix_space, spec, "add_prefix_space", true, path, err) ||
        !tokenizer_bool(&step->split, spec, "split", true, path, err))
        return false;
    size_t end = 0;
    utf8_next(step->pattern, strlen(step->pattern), &end);
    if (step->pattern[end] != '\0')
        return tokenizer_bad(err, path, "Metaspace's replacement is not one character");
    for (size_t i = 0; i < BASE_COUNT(schemes); i++) {
        if (strcmp(scheme, schemes[i]) != 0)
            continue;
        step->prepend = (enum prepend)i;
        if (!prefix_space && step->prepend != PREPEND_NEVER)
            return tokenizer_bad(err, path,
                                 "Metaspace's add_prefix_space is not its prepend_scheme");
        return true;
    }
    return tokenizer_unsupported(err, path, "prepend_scheme '%.60s'", scheme);
}

static bool read_step(struct pretokenizer *out, const json_t *spec, int depth, const char *path,
                      struct error *err);

static bool read_sequence(struct pretokenizer *out, const json_t *spec, int depth, const char *path,
                          struct error *err) {
    const json_t *list = json_object_get(spec, "pretokenizers"), *item;
    size_t i;
    if (!json_is_array(list) || depth > TOKENIZER_MAX_STEPS)
        return tokenizer_bad(err, path, "pre-tokenizer Sequence is no list, or too deep");
    json_array_foreach(list, i, item) {
        if (!read_step(out, item, depth + 1, path, err))
            return false;
    }
    return true;
}

static bool read_step(struct pretokenizer *out, const json_t *spec, int depth, const char *path,
                      struct error *err) {
    const char *type;
    if (!tokenizer_text(&type, spec, "type", NULL, path, err))
        return false;
    if (strcmp(type, "Sequence") == 0)
        return read_sequence(out, spec, depth, path, err);
    if (out->n + 2 > TOKENIZER_MAX_STEPS)
        return tokenizer_bad(err, path, "more than %d pre-tokenizers", TOKENIZER_MAX_STEPS - 1);
    struct step *step = &out->steps[out->n++];
    if (strcmp(type, "BertPreTokenizer") == 0) {
        *step = (struct step){.kind = SPACES, .behavior = REMOVED};
        out->steps[out->n++] = (struct step){.kind = PUNCTUATION, .behavior = ISOLATED};
        return true;
    }
    bool lengthens = strcmp(type, "Metaspace") == 0 || strcmp(type, "ByteLevel") == 0;
    if (lengthens && ++out->n_lengthening > MAX_LENGTHENING)
        return tokenizer_bad(err, path, "more than %d of Metaspace and ByteLevel", MAX_LENGTHENING);
    if (strcmp(type, "Split") == 0)
        return read_split(step, spec, path, err);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(step, spec, path, err);
    if (strcmp(type, "Punctuation") == 0) {
        step->kind = PUNCTUATION;
        return read_behavior(&step->behavior, spec, "Isolated", path, err);
    }
    if (strcmp(type, "Digits") == 0) {
        bool each;
        if (!tokenizer_bool(&each, spec, "individual_digits", false, path, err))
            return false;
        *step = (struct step){.kind = NUMBERS, .behavior = each ? ISOLATED : CONTIGUOUS};
        return true;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        step->kind = BYTE_LEVEL;
        step->behavior = ISOLATED;
        return tokenizer_bool(&step->prefix_space, spec, "add_prefix_space", true, path, err) &&
               tokenizer_bool(&step->use_regex, spec, "use_regex", true, path, err);
    }
    if (strcmp(type, "WhitespaceSplit") == 0)
        *step = (struct step){.kind = SPACES, .behavior = REMOVED};
    else if (strcmp(type, "Whitespace") == 0)
        *step = (struct step){.kind = WORDS, .behavior = REMOVED, .invert = true};
    else
        return tokenizer_unsupported(err, path, "pre-tokenizer '%.60s'", type);
    return true;
}

bool pretokenizer_read(struct pretokenizer **out, const json_t *spec, const char *path,
                       struct error *err) {
    *out = mem_alloc(sizeof(**out));
    if (!spec || json_is_null(spec) || read_step(*out, spec, 0, path, err))
        return true;
    pretokenizer_free(*out);
    *out = NULL;
    return false;
}

void pretokenizer_free(struct pretokenizer *pretokenizer) {
    if (!pretokenizer)
        return;
    for (int i = 0; i < pretokenizer->n; i++)
        mem_free(pretokenizer->steps[i].pattern);
    mem_free(pretokenizer);
}

/* ---- finding -------------------------------------------------------------------------------- */

static bool word_class(int *out, uint32_t c) {
    *out = unicode_is_word(c);
    return !text_is_space(c);
}

/* The end of the run of word characters, or of neither words nor spaces, that begins at start. */
static size_t run_of_words(const char *text, size_t len, size_t start) {
    size_t pos = start, end;
    int class, other;
    word_class(&class, utf8_next(text, len, &pos));
    for (end = pos; pos < len; end = pos) {
        if (!word_class(&other, utf8_next(text, len, &pos)) || other != class)
            break;
    }
    return end;
}

/* GPT-2's pattern, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+:
 * the end of what it matches at start, which is never nothing. */
static int gpt2_class(uint32_t c) {
    if (text_is_space(c))
        return 0;
    return unicode_is_letter(c) ? 1 : unicode_is_number(c) ? 2 : 3;
}

static size_t gpt2_match(const char *text, size_t len, size_t start) {
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; text[start] == '\'' && i < BASE_COUNT(endings); i++) {
        size_t n = strlen(endings[i]);
        if (len - start >= n && memcmp(text + start, endings[i], n) == 0)
            return start + n;
    }
    size_t pos = start, end, before_last = start;
    int class = gpt2_class(utf8_next(text, len, &pos));
    if (class == 0 && text[start] == ' ' && pos < len) {
        size_t after = pos;
        int next = gpt2_class(utf8_next(text, len, &after));
        if (next != 0) {
            class = next;
            pos = after;
        }
    }
    for (end = pos; pos < len; end = pos) {
        if (gpt2_class(utf8_next(text, len, &pos)) != class)
            break;
        before_last = end;
    }
    /* A run of spaces leaves its last one to what follows. */
    if (class == 0 && end < len && before_last > start)
        return before_last;
    return end;
}

/* The next match at or after pos; false: none. */
static bool find(size_t *start, size_t *end, const struct step *step, const char *text, size_t len,
                 size_t pos) {
    if (step->kind == STRING || step->kind == METASPACE) {
        size_t n = strlen(step->pattern);
        const char *at = memmem(text + pos, len - pos, step->pattern, n);
        *start = at ? (size_t)(at - text) : len;
        *end = *start + n;
        return at != NULL;
    }
    if (step->kind == BYTE_LEVEL) {
        *start = pos;
        *end = pos < len ? gpt2_match(text, len, pos) : pos;
        return pos < len;
    }
    while (pos < len) {
        *start = pos;
        uint32_t c = utf8_next(text, len, &pos);
        bool match = step->kind == SPACES        ? text_is_space(c)
                     : step->kind == PUNCTUATION ? unicode_is_punctuation(c)
                     : step->kind == NUMBERS     ? unicode_is_numeric(c)
                                                 : !text_is_space(c);
        *end = step->kind == WORDS && match ? run_of_words(text, len, *start) : pos;
        if (match)
            return true;
    }
    return false;
}

/* ---- cutting -------------------------------------------------------------------------------- */

/* Parts of one piece, in order, and whether each was found. */
struct part {
    size_t start, end;
    bool match;
};
struct parts {
    struct part *items;
    size_t n, cap;
    struct arena *arena;
};

static void part_add(struct parts *parts, size_t start, size_t end, bool match) {
    if (parts->n == parts->cap) {
        size_t cap = parts->cap ? 2 * parts->cap : 64;
        struct part *grown = arena_alloc(parts->arena, cap * sizeof(*grown));
        if (parts->n)
            memcpy(grown, parts->items, parts->n * sizeof(*grown));
        parts->items = grown;
        parts->cap = cap;
    }
    parts->items[parts->n++] = (struct part){start, end, match};
}

/* Joins parts in place as the behaviour says. */
static void join(struct parts *parts, enum behavior behavior) {
    struct part *items = parts->items;
    size_t n = 0;
    bool previous = false;
    if (behavior == MERGED_WITH_NEXT) {
        size_t at = parts->n;
        for (size_t i = parts->n; i-- > 0;) {
            struct part part = items[i];
            if (part.match && !previous && at < parts->n)
                items[at].start = part.start;
            else
                items[--at] = part;
            previous = part.match;
        }
        parts->n -= at;
        memmove(items, items + at, parts->n * sizeof(*items));
        return;
    }
    for (size_t i = 0; i < parts->n; i++) {
        struct part part = items[i];
        bool joins = behavior == CONTIGUOUS ? part.match == previous : part.match && !previous;
        if (joins && n > 0)
            items[n - 1].end = part.end;
        else
            items[n++] = part;
        previous = part.match;
    }
    parts->n = n;
}

static void cut(struct pieces *out, struct parts *parts, const struct step *step,
                const struct piece *in) {
    size_t pos = 0, start, end;
    parts->n = 0;
    while (find(&start, &end, step, in->text, in->len, pos)) {
        if (start > pos)
            part_add(parts, pos, start, step->invert);
        part_add(parts, start, end, !step->invert);
        pos = end;
    }
    if (pos < in->len)
        part_add(parts, pos, in->len, step->invert);
    if (step->behavior != REMOVED && step->behavior != ISOLATED)
        join(parts, step->behavior);
    for (size_t i = 0; i < parts->n; i++) {
        const struct part *part = &parts->items[i];
        if (step->behavior != REMOVED || !part->match)
            pieces_add(out, in->text + part->start, part->end - part->start, -1,
                       in->first && part->start == 0);
    }
}

/* Spaces as the replacement, and one more in front. */
static void cut_metaspace(struct pieces *out, struct parts *parts, const struct step *step,
                          const struct piece *in) {
    size_t pattern_len = strlen(step->pattern), n_spaces = 0, at = 0;
    for (size_t i = 0; i < in->len; i++)
        n_spaces += in->text[i] == ' ';
    char *text = arena_alloc(out->arena, in->len + (n_spaces + 1) * pattern_len + 1);
    bool there = in->text[0] == ' ' ||
                 (in->len >= pattern_len && memcmp(in->text, step->pattern, pattern_len) == 0);
    if (!there &&
        (step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && in->first)))
        at = pattern_len;
    memcpy(text, step->pattern, at);
    for (size_t i = 0; i < in->len; i++) {
        if (in->text[i] == ' ') {
            memcpy(text + at, step->pattern, pattern_len);
            at += pattern_len;
        } else {
            text[at++] = in->text[i];
        }
    }
    struct piece piece = {text, at, -1, in->first};
    if (step->split)
        cut(out, parts, step, &piece);
    else
        pieces_add(out, text, at, -1, in->first);
}

/* Each byte as a character that is seen: those of Latin-1 that print as themselves, the others
 * from U+0100 on in their order (GPT-2's encoder). */
static void put_bytes(struct pieces *out, const struct piece *in) {
    char *text = arena_alloc(out->arena, 2 * in->len + 1);
    size_t at = 0;
    for (size_t i = 0; i < in->len; i++) {
        uint32_t byte = (unsigned char)in->text[i], c = byte;
        if (byte <= ' ')
            c = 0x100 + byte;
        else if (byte >= 0x7F && byte <= 0xA0)
            c = 0x121 + byte - 0x7F;
        else if (byte == 0xAD)
            c = 0x143;
        at += utf8_put(text + at, c);
    }
    pieces_add(out, text, at, -1, in->first);
}

static void cut_byte_level(struct pieces *out, struct parts *parts, const struct step *step,
                           const struct piece *in) {
    struct piece whole = *in;
    struct pieces raw = {.arena = out->arena};
    if (step->prefix_space && in->text[0] != ' ') {
        char *text = arena_alloc(out->arena, in->len + 2);
        text[0] = ' ';
        memcpy(text + 1, in->text, in->len);
        whole.text = text;
        whole.len++;
    }
    if (step->use_regex)
        cut(&raw, parts, step, &whole);
    else
        pieces_add(&raw, whole.text, whole.len, -1, whole.first);
    for (size_t i = 0; i < raw.n; i++)
        put_bytes(out, &raw.items[i]);
}

void pretokenizer_apply(struct pieces *out, const struct pretokenizer *pretokenizer,
                        const struct pieces *in) {
    struct pieces now = *in;
    struct parts parts = {.arena = out->arena};
    for (int i = 0; i < pretokenizer->n; i++) {
        const struct step *step = &pretokenizer->steps[i];
        struct pieces next = {.arena = out->arena};
        for (size_t k = 0; k < now.n; k++) {
            const struct piece *piece = &now.items[k];
            if (piece->id >= 0)
                pieces_add(&next, piece->text, piece->len, piece->id, piece->first);
            else if (step->kind == METASPACE)
                cut_metaspace(&next, &parts, step, piece);
            else if (step->kind == BYTE_LEVEL)
                cut_byte_level(&next, &parts, step, piece);
            else
                cut(&next, &parts, step, piece);
        }
        now = next;
    }
    *out = now;
}
