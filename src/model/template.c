/* The post-processor: what ids stand before and behind a text. Each processor of a sequence puts
 * its own around what the one before it made. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_AROUND 256

static bool around(struct template *out, int id, bool before, const char *path, struct error *err) {
    int *n = before ? &out->n_before : &out->n_after;
    if (*n == MAX_AROUND)
        return tokenizer_bad(err, path, "more than %d tokens around a text", MAX_AROUND);
    (before ? out->before : out->after)[(*n)++] = id;
    return true;
}

static bool id_of(int *out, const json_t *id, const char *path, struct error *err) {
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) > TOKENIZER_MAX_ID)
        return tokenizer_bad(err, path, "post_processor: an id that is none");
    *out = (int)json_integer_value(id);
    return true;
}

/* Ids of the template's special token, one after another. */
static bool read_special(struct template *out, const json_t *special, bool before, const char *path,
                         struct error *err) {
    const json_t *ids = json_object_get(special, "ids"), *item;
    size_t i;
    if (!json_is_array(ids))
        return tokenizer_bad(err, path, "post_processor: a special token without ids");
    json_array_foreach(ids, i, item) {
        int id;
        if (!id_of(&id, item, path, err) || !around(out, id, before, path, err))
            return false;
    }
    return true;
}

static bool read_single(struct template *out, const json_t *spec, const char *path,
                        struct error *err) {
    const json_t *single = json_object_get(spec, "single"), *item;
    const json_t *tokens = json_object_get(spec, "special_tokens");
    bool before = true;
    size_t i;
    json_array_foreach(single, i, item) {
        const json_t *sequence = json_object_get(item, "Sequence");
        const json_t *special = json_object_get(item, "SpecialToken");
        const char *name;
        if (sequence) {
            if (!tokenizer_text(&name, sequence, "id", NULL, path, err))
                return false;
            if (strcmp(name, "A") != 0 || !before)
                return tokenizer_unsupported(err, path, "a template with the text not once");
            before = false;
        } else if (!tokenizer_text(&name, special, "id", NULL, path, err) ||
                   !read_special(out, json_object_get(tokens, name), before, path, err)) {
            return false;
        }
    }
    return !before ? true : tokenizer_unsupported(err, path, "a template without the text");
}

/* ["[SEP]", 102] */
static bool read_named(int *out, const json_t *spec, const char *key, const char *path,
                       struct error *err) {
    return id_of(out, json_array_get(json_object_get(spec, key), 1), path, err);
}

static bool read_one(struct template *out, const json_t *spec, int depth, const char *path,
                     struct error *err) {
    const char *type;
    if (!tokenizer_text(&type, spec, "type", NULL, path, err))
        return false;
    if (strcmp(type, "ByteLevel") == 0)
        return true; /* moves offsets only */
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(spec, "processors"), *item;
        size_t i;
        if (!json_is_array(list) || depth > TOKENIZER_MAX_STEPS)
            return tokenizer_bad(err, path, "post_processor Sequence is no list, or too deep");
        json_array_foreach(list, i, item) {
            if (!read_one(out, item, depth + 1, path, err))
                return false;
        }
        return true;
    }
    int before[MAX_AROUND], after[MAX_AROUND];
    struct template own = {.before = before, .after = after};
    if (strcmp(type, "TemplateProcessing") == 0) {
        if (!read_single(&own, spec, path, err))
            return false;
    } else if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        own.n_before = own.n_after = 1;
        if (!read_named(before, spec, "cls", path, err) ||
            !read_named(after, spec, "sep", path, err))
            return false;
    } else {
        return tokenizer_unsupported(err, path, "post_processor '%.60s'", type);
    }
    if (own.n_before + out->n_before > MAX_AROUND)
        return tokenizer_bad(err, path, "more than %d tokens around a text", MAX_AROUND);
    memmove(out->before + own.n_before, out->before, (size_t)out->n_before * sizeof(int));
    memcpy(out->before, before, (size_t)own.n_before * sizeof(int));
    out->n_before += own.n_before;
    for (int i = 0; i < own.n_after; i++) {
        if (!around(out, after[i], false, path, err))
            return false;
    }
    return true;
}

bool template_read(struct template *out, struct arena *arena, const json_t *spec, const char *path,
                   struct error *err) {
    *out = (struct template){.before = arena_alloc(arena, MAX_AROUND * sizeof(int)),
                             .after = arena_alloc(arena, MAX_AROUND * sizeof(int))};
    return !spec || json_is_null(spec) || read_one(out, spec, 0, path, err);
}
