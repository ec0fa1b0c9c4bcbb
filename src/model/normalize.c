/* Normalizers: what is done to a text before it is cut. A sequence, however nested, is one list of
 * steps; each reads the text that the one before it wrote. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_CONTENT 256

enum kind { BERT, STRIP, STRIP_ACCENTS, FORM, LOWERCASE, REPLACE, PREPEND };
struct step {
    enum kind kind;
    bool clean, spaced_han, strip_accents, lowercase; /* BERT */
    bool left, right;                                 /* STRIP */
    enum text_form form;
    char *pattern, *content; /* REPLACE; PREPEND's text is content */
};
struct normalizer {
    struct step steps[TOKENIZER_MAX_STEPS];
    int n;
};

/* ---- reading -------------------------------------------------------------------------------- */

static bool read_content(char **out, const json_t *spec, const char *key, const char *path,
                         struct error *err) {
    const char *text;
    if (!tokenizer_text(&text, spec, key, NULL, path, err))
        return false;
    if (strlen(text) > MAX_CONTENT)
        return tokenizer_bad(err, path, "normalizer: %s of more than %d bytes", key, MAX_CONTENT);
    *out = mem_strdup(text);
    return true;
}

static bool read_replace(struct step *step, const json_t *spec, const char *path,
                         struct error *err) {
    const json_t *pattern = json_object_get(spec, "pattern");
    step->kind = REPLACE;
    if (json_object_get(pattern, "Regex"))
        return tokenizer_unsupported(err, path, "normalizer Replace with a regular expression");
    if (!read_content(&step->pattern, pattern, "String", path, err) ||
        !read_content(&step->content, spec, "content", path, err))
        return false;
    if (step->pattern[0] == '\0')
        return tokenizer_bad(err, path, "normalizer Replace of nothing");
    return true;
}

static bool read_bert(struct step *step, const json_t *spec, const char *path, struct error *err) {
    step->kind = BERT;
    return tokenizer_bool(&step->clean, spec, "clean_text", true, path, err) &&
           tokenizer_bool(&step->spaced_han, spec, "handle_chinese_chars", true, path, err) &&
           tokenizer_bool(&step->lowercase, spec, "lowercase", true, path, err) &&
           tokenizer_bool(&step->strip_accents, spec, "strip_accents", step->lowercase, path, err);
}

static bool read_step(struct normalizer *normalizer, const json_t *spec, int depth,
                      const char *path, struct error *err);

static bool read_sequence(struct normalizer *normalizer, const json_t *spec, int depth,
                          const char *path, struct error *err) {
    const json_t *list = json_object_get(spec, "normalizers"), *item;
    size_t i;
    if (!json_is_array(list) || depth > TOKENIZER_MAX_STEPS)
        return tokenizer_bad(err, path, "normalizer Sequence is no list, or too deep");
    json_array_foreach(list, i, item) {
        if (!read_step(normalizer, item, depth + 1, path, err))
            return false;
    }
    return true;
}

static bool read_step(struct normalizer *normalizer, const json_t *spec, int depth,
                      const char *path, struct error *err) {
    static const struct {
        const char *type;
        enum text_form form;
    } forms[] = {{"NFC", TEXT_NFC}, {"NFD", TEXT_NFD}, {"NFKC", TEXT_NFKC}, {"NFKD", TEXT_NFKD}};
    const char *type;
    if (!tokenizer_text(&type, spec, "type", NULL, path, err))
        return false;
    if (strcmp(type, "Sequence") == 0)
        return read_sequence(normalizer, spec, depth, path, err);
    if (normalizer->n == TOKENIZER_MAX_STEPS)
        return tokenizer_bad(err, path, "more than %d normalizers", TOKENIZER_MAX_STEPS);
    struct step *step = &normalizer->steps[normalizer->n++];
    for (size_t i = 0; i < BASE_COUNT(forms); i++) {
        if (strcmp(type, forms[i].type) == 0) {
            *step = (struct step){.kind = FORM, .form = forms[i].form};
            return true;
        }
    }
    if (strcmp(type, "BertNormalizer") == 0)
        return read_bert(step, spec, path, err);
    if (strcmp(type, "Replace") == 0)
        return read_replace(step, spec, path, err);
    if (strcmp(type, "Prepend") == 0) {
        step->kind = PREPEND;
        return read_content(&step->content, spec, "prepend", path, err);
    }
    if (strcmp(type, "Strip") == 0) {
        step->kind = STRIP;
        return tokenizer_bool(&step->left, spec, "strip_left", true, path, err) &&
               tokenizer_bool(&step->right, spec, "strip_right", true, path, err);
    }
    if (strcmp(type, "Lowercase") == 0)
        step->kind = LOWERCASE;
    else if (strcmp(type, "StripAccents") == 0)
        step->kind = STRIP_ACCENTS;
    else
        return tokenizer_unsupported(err, path, "normalizer '%.60s'", type);
    return true;
}

bool normalizer_read(struct normalizer **out, const json_t *spec, const char *path,
                     struct error *err) {
    *out = mem_alloc(sizeof(**out));
    if (!spec || json_is_null(spec) || read_step(*out, spec, 0, path, err))
        return true;
    normalizer_free(*out);
    *out = NULL;
    return false;
}

void normalizer_free(struct normalizer *normalizer) {
    if (!normalizer)
        return;
    for (int i = 0; i < normalizer->n; i++) {
        mem_free(normalizer->steps[i].pattern);
        mem_free(normalizer->steps[i].content);
    }
    mem_free(normalizer);
}

/* ---- applying ------------------------------------------------------------------------------- */

static void put(struct buf *out, uint32_t c) {
    char bytes[4];
    buf_append(out, bytes, utf8_put(bytes, c));
}

static void put_lower(struct buf *out, uint32_t c) {
    uint32_t lower[2];
    int n = unicode_lower(lower, c);
    for (int i = 0; i < n; i++)
        put(out, lower[i]);
}

static void lowercase(struct buf *out, const char *text, size_t len) {
    for (size_t pos = 0; pos < len;)
        put_lower(out, utf8_next(text, len, &pos));
}

/* The blocks of Han that BERT's own code sets apart; one end of a block of extensions is not the
 * standard's. */
static bool is_spaced_han(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

static void clean(struct buf *out, const struct step *step, const char *text, size_t len) {
    for (size_t pos = 0; pos < len;) {
        size_t start = pos;
        uint32_t c = utf8_next(text, len, &pos);
        if (step->clean && c != '\t' && c != '\n' && c != '\r' &&
            (c == 0xFFFD || unicode_is_control(c)))
            continue;
        if (step->clean && text_is_space(c)) {
            buf_putc(out, ' ');
        } else if (step->spaced_han && is_spaced_han(c)) {
            buf_putc(out, ' ');
            buf_append(out, text + start, pos - start);
            buf_putc(out, ' ');
        } else {
            buf_append(out, text + start, pos - start);
        }
    }
}

/* Without the characters that match. */
static void filter(struct buf *out, bool (*match)(uint32_t), const char *text, size_t len) {
    for (size_t pos = 0; pos < len;) {
        size_t start = pos;
        if (!match(utf8_next(text, len, &pos)))
            buf_append(out, text + start, pos - start);
    }
}

static void apply_bert(struct buf *out, const struct step *step, const char *text, size_t len) {
    struct buf cleaned = {0}, apart = {0}, bare = {0};
    clean(&cleaned, step, text, len);
    struct buf *last = &cleaned;
    if (step->strip_accents) {
        unicode_normalize(&apart, TEXT_NFD, cleaned.data, cleaned.len);
        filter(&bare, unicode_is_nonspacing, apart.data, apart.len);
        last = &bare;
    }
    if (step->lowercase)
        lowercase(out, last->data, last->len);
    else
        buf_append(out, last->data, last->len);
    buf_fini(&cleaned);
    buf_fini(&apart);
    buf_fini(&bare);
}

static void apply_strip(struct buf *out, const struct step *step, const char *text, size_t len) {
    size_t start = 0, end = 0;
    for (size_t pos = 0; step->left && pos < len && text_is_space(utf8_next(text, len, &pos));)
        start = pos;
    end = start;
    for (size_t pos = start; pos < len;) {
        bool space = text_is_space(utf8_next(text, len, &pos));
        if (!space || !step->right)
            end = pos;
    }
    buf_append(out, text + start, end - start);
}

static void apply_replace(struct buf *out, const struct step *step, const char *text, size_t len) {
    size_t pattern_len = strlen(step->pattern), content_len = strlen(step->content), pos = 0;
    for (;;) {
        const char *at = memmem(text + pos, len - pos, step->pattern, pattern_len);
        if (!at)
            break;
        buf_append(out, text + pos, (size_t)(at - text) - pos);
        buf_append(out, step->content, content_len);
        pos = (size_t)(at - text) + pattern_len;
    }
    buf_append(out, text + pos, len - pos);
}

/* Did the step take away what the text began with? */
static bool lost_start(const struct step *step, const char *text, size_t len) {
    size_t pos = 0;
    uint32_t c = utf8_next(text, len, &pos);
    switch (step->kind) {
    case BERT:
        return (step->clean && c != '\t' && c != '\n' && c != '\r' &&
                (c == 0xFFFD || unicode_is_control(c))) ||
               (step->strip_accents && unicode_is_nonspacing(c));
    case STRIP:
        return step->left && text_is_space(c);
    case STRIP_ACCENTS:
        return unicode_is_mark(c);
    case REPLACE:
        return strncmp(text, step->pattern, strlen(step->pattern)) == 0 &&
               (step->pattern[pos] != '\0' || step->content[0] == '\0');
    case FORM:
    case LOWERCASE:
    case PREPEND:
        break;
    }
    return false;
}

static void apply_step(struct buf *out, const struct step *step, const char *text, size_t len) {
    switch (step->kind) {
    case BERT:
        apply_bert(out, step, text, len);
        break;
    case STRIP:
        apply_strip(out, step, text, len);
        break;
    case STRIP_ACCENTS:
        filter(out, unicode_is_mark, text, len);
        break;
    case FORM:
        unicode_normalize(out, step->form, text, len);
        break;
    case LOWERCASE:
        lowercase(out, text, len);
        break;
    case REPLACE:
        apply_replace(out, step, text, len);
        break;
    case PREPEND:
        buf_puts(out, step->content);
        buf_append(out, text, len);
        break;
    }
}

void normalizer_apply(struct buf *out, const struct normalizer *normalizer, bool *first,
                      const char *text, size_t len) {
    buf_append(out, text, len);
    for (int i = 0; i < normalizer->n && out->len > 0; i++) {
        struct buf next = {.max = out->max};
        if (lost_start(&normalizer->steps[i], out->data, out->len))
            *first = false;
        apply_step(&next, &normalizer->steps[i], out->data, out->len);
        buf_fini(out);
        *out = next;
    }
}
