/* config: what the JSON files of a model's folder say, each value checked for its kind and range
 * before anything is built from it. */
#include "model/internal.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_BYTES_MAX = 16 << 20 };

static bool bad(struct error *err, const struct config *config, const char *key,
                const char *wanted) {
    return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %s is not %s", config->where, key,
                          wanted);
}

bool config_exists(const char *folder, const char *file) {
    char *path = mem_printf("%s/%s", folder, file);
    bool there = access(path, F_OK) == 0;
    mem_free(path);
    return there;
}

bool config_read(json_t **out, const char *folder, const char *file, bool required,
                 struct error *err) {
    char *path = mem_printf("%s/%s", folder, file), *text = NULL;
    size_t len = 0;
    struct error why;
    *out = NULL;
    bool read = file_read(&text, &len, path, CONFIG_BYTES_MAX, &why);
    mem_free(path);
    if (!read) {
        if (why.kind == ERROR_MISSING && !required)
            return true;
        return error_set_code(err, why.kind == ERROR_IO ? ERROR_IO : ERROR_INPUT,
                              why.kind == ERROR_IO ? why.code : "bad_model", "%s: %s", file,
                              why.kind == ERROR_MISSING ? "not there" : why.text);
    }
    json_error_t where;
    /* All numbers as reals: some files hold 1e30 written out ("model_max_length"). */
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &where);
    mem_free(text);
    if (!*out)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: line %d: %s", file, where.line,
                              where.text);
    return true;
}

bool config_int(int *out, const struct config *config, const char *key, int fallback, int min,
                int max, struct error *err) {
    const json_t *value = json_object_get(config->json, key);
    *out = fallback;
    if (value && !json_is_null(value)) {
        double n = json_number_value(value);
        if (!json_is_number(value) || floor(n) != n)
            return bad(err, config, key, "a whole number");
        if (n < min || n > max)
            return error_set_code(err, ERROR_INPUT, "bad_model",
                                  "%s: %s is %.0f, not within %d to %d", config->where, key, n, min,
                                  max);
        *out = (int)n;
    }
    if (*out < min || *out > max)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %s is not there", config->where,
                              key);
    return true;
}

bool config_float(float *out, const struct config *config, const char *key, float fallback,
                  struct error *err) {
    const json_t *value = json_object_get(config->json, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return true;
    *out = (float)json_number_value(value);
    if (!json_is_number(value) || !isfinite(*out))
        return bad(err, config, key, "a number");
    return true;
}

bool config_bool(bool *out, const struct config *config, const char *key, bool fallback,
                 struct error *err) {
    const json_t *value = json_object_get(config->json, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_boolean(value))
        return bad(err, config, key, "true or false");
    *out = json_is_true(value);
    return true;
}

bool config_string(const char **out, const struct config *config, const char *key,
                   const char *fallback, struct error *err) {
    const json_t *value = json_object_get(config->json, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value))
        return bad(err, config, key, "a text");
    *out = json_string_value(value);
    return true;
}

bool config_activation(enum activation *out, const struct config *config, const char *key,
                       enum activation fallback, struct error *err) {
    const char *name = NULL;
    *out = fallback;
    if (!config_string(&name, config, key, NULL, err))
        return false;
    if (!name)
        return true;
    if (strcmp(name, "gelu") == 0)
        *out = ACTIVATION_GELU_ERF;
    else if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_fast") == 0 ||
             strcmp(name, "gelu_new") == 0)
        *out = ACTIVATION_GELU_TANH;
    else
        return error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                              "%s: %s \"%s\" is not one that this program computes", config->where,
                              key, name);
    return true;
}
