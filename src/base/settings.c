/* Settings: one table, one row a setting, and everything done by walking it: flags, environment,
 * file, defaults, checks, help and the line that says what is in effect.
 *
 * Each row's value is gathered as text from the highest authority that names it, then checked and
 * stored once. An empty variable or file line counts as not given, as `KEY=` in a compose file. */
#include "base/base.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define MAX_FILE_BYTES ((size_t)1 << 20)
#define MAX_KEY_BYTES ((size_t)64 << 10)
#define MAX_AUTO_WORKERS 8
#define BYTES_A_MB ((int64_t)1 << 20)

enum setting_kind {
    SETTING_TEXT,      /* any line */
    SETTING_URL,       /* any line; a user and password in it are never printed */
    SETTING_PATH,      /* made absolute */
    SETTING_ROOTS,     /* colon-separated paths, made absolute; with their count behind them */
    SETTING_INT,       /* within min..max */
    SETTING_SHARE,     /* a decimal number within min..max thousandths, stored as a double */
    SETTING_STEP,      /* one of choices, stored as an int */
    SETTING_MEGABYTES, /* within min..max, stored in bytes */
    SETTING_BOOL,
    SETTING_CHOICE, /* one of choices, stored as text */
    SETTING_LEVEL,  /* one of choices, stored as enum log_level */
    SETTING_FORMAT, /* text or json, stored as a bool */
    SETTING_LANGUAGES,
    SETTING_SECRET,   /* a line that is never printed */
    SETTING_KEY_FILE, /* the path of a file whose first line is the secret */
};

struct setting {
    const char *variable;
    const char *flag; /* NULL: not by flag, since every user of the machine can read argv */
    enum setting_kind kind;
    const char *fallback; /* the default; "" where empty is a meaning or worked out later */
    int64_t min, max;
    const char *choices; /* words separated by '|' */
    const char *meaning;
    size_t offset;
};

#define AT(field) offsetof(struct settings, field)
static const struct setting table[] = {
    {"DATA_DIR", "--data-dir", SETTING_PATH, "./data", 0, 0, NULL,
     "folder of everything the server keeps", AT(data_dir)},
    {"UPLOADS_DIR", "--uploads-dir", SETTING_PATH, "", 0, 0, NULL,
     "folder watched for uploads; empty: uploads in the data folder", AT(uploads_dir)},
    {"INGEST_ROOTS", "--ingest-roots", SETTING_ROOTS, "", 0, 0, NULL,
     "folders /process may read, separated by ':'; empty: the uploads folder", AT(ingest_roots)},
    {"WORKER_HOST", "--worker-host", SETTING_TEXT, "127.0.0.1", 0, 0, NULL, "address to listen on",
     AT(worker_host)},
    {"WORKER_PORT", "--worker-port", SETTING_INT, "8002", 0, 65535, NULL,
     "port to listen on; 0 takes a free one", AT(worker_port)},
    {"TEXT_CHUNK_SIZE", "--text-chunk-size", SETTING_INT, "250", 1, 100000, NULL,
     "words in a chunk", AT(chunk_size_words)},
    {"TEXT_CHUNK_OVERLAP", "--text-chunk-overlap", SETTING_INT, "50", 0, 99999, NULL,
     "words a chunk shares with the next; less than the size", AT(chunk_overlap_words)},
    {"PAGE_RENDER_DPI", "--page-render-dpi", SETTING_INT, "150", 36, 600, NULL,
     "resolution of page pictures", AT(render_dpi)},
    {"MAX_FILE_SIZE_MB", "--max-file-size-mb", SETTING_MEGABYTES, "100", 1, 1 << 20, NULL,
     "largest file taken", AT(max_file_bytes)},
    {"MAX_PAGES", "--max-pages", SETTING_INT, "5000", 1, 100000, NULL, "pages read of one document",
     AT(max_pages)},
    {"SUPPORTED_FORMATS", "--supported-formats", SETTING_TEXT, "", 0, 0, NULL,
     "formats taken, as pdf,docx,…; empty: all", AT(supported_formats)},
    {"OCR_LANGUAGES", "--ocr-languages", SETTING_LANGUAGES, "eng", 0, 0, NULL,
     "Tesseract's language names, joined by '+'", AT(ocr_languages)},
    {"WORKER_THREADS", "--worker-threads", SETTING_INT, "0", 0, 64, NULL,
     "documents read at once; 0: one a processor, at most 8", AT(n_workers)},
    {"MAX_QUEUE", "--max-queue", SETTING_INT, "100000", 1, 10000000, NULL,
     "waiting jobs, past which uploads are refused", AT(max_queue)},
    {"API_KEY", NULL, SETTING_SECRET, "", 0, 0, NULL, "key that callers must send", AT(api_key)},
    {"API_KEY_FILE", "--api-key-file", SETTING_KEY_FILE, "", 0, 0, NULL,
     "file whose first line is that key", AT(api_key)},
    {"CORS_ORIGIN", "--cors-origin", SETTING_TEXT, "", 0, 0, NULL,
     "origin whose pages may call; empty: none", AT(cors_origin)},
    {"INSECURE", "--insecure", SETTING_BOOL, "0", 0, 0, NULL,
     "allow listening beyond this machine without a key", AT(insecure)},
    {"DEVICE", "--device", SETTING_CHOICE, "auto", 0, 0, "auto|mps|cuda|vulkan|cpu",
     "where models run", AT(device)},
    {"DEVICE_STRICT", "--device-strict", SETTING_BOOL, "0", 0, 0, NULL,
     "a device that is not there is an error", AT(device_strict)},
    {"MODEL_NAME", "--model-name", SETTING_TEXT, "vidore/colpali-v1.2", 0, 0, NULL,
     "model that reads page pictures: a hub's name, a folder, or none", AT(model_name)},
    {"MODEL_PRECISION", "--model-precision", SETTING_CHOICE, "auto", 0, 0,
     "auto|fp32|fp16|bf16|int8", "how models compute", AT(model_precision)},
    {"TEXT_MODEL", "--text-model", SETTING_TEXT, "sentence-transformers/all-MiniLM-L6-v2", 0, 0,
     NULL, "model that reads passages: likewise, or visual (the other one)", AT(text_model)},
    {"QUERY_PROMPT", "--query-prompt", SETTING_CHOICE, "question", 0, 0, "question|query|none",
     "words that ColPali reads before a question", AT(query_prompt)},
    {"MODELS_DIR", "--models-dir", SETTING_PATH, "", 0, 0, NULL,
     "folder of fetched models; empty: models in the data folder", AT(models_dir)},
    {"BATCH_SIZE_VISUAL", "--batch-size-visual", SETTING_INT, "4", 1, 64, NULL,
     "pages embedded at once", AT(batch_visual)},
    {"BATCH_SIZE_TEXT", "--batch-size-text", SETTING_INT, "8", 1, 256, NULL,
     "passages embedded at once", AT(batch_text)},
    {"INDEX_POOL_FACTOR", "--index-pool-factor", SETTING_INT, "4", 1, 64, NULL,
     "vectors of a page that are joined into one for searching", AT(index_pool_factor)},
    {"INDEX_CODE_BITS", "--index-code-bits", SETTING_STEP, "2", 0, 0, "1|2|4|8",
     "bits a dimension of those", AT(index_code_bits)},
    {"INDEX_FULL_VECTORS", "--index-full-vectors", SETTING_BOOL, "1", 0, 0, NULL,
     "also keep every vector: for the best order, and to show where", AT(index_full_vectors)},
    {"SEARCH_RECALL", "--search-recall", SETTING_SHARE, "0.99", 500, 1000, NULL,
     "share of the best pages that a search finds; 1 scores all", AT(search_recall)},
    {"CHROMA_HOST", "--chroma-host", SETTING_TEXT, "", 0, 0, NULL,
     "ChromaDB that vectors are shared through; empty: none", AT(chroma_host)},
    {"CHROMA_PORT", "--chroma-port", SETTING_INT, "8000", 1, 65535, NULL, "its port",
     AT(chroma_port)},
    {"CHROMA_SSL", "--chroma-ssl", SETTING_BOOL, "0", 0, 0, NULL, "it is asked over https",
     AT(chroma_ssl)},
    {"CHROMA_TENANT", "--chroma-tenant", SETTING_TEXT, "default_tenant", 0, 0, NULL, "its tenant",
     AT(chroma_tenant)},
    {"CHROMA_DATABASE", "--chroma-database", SETTING_TEXT, "default_database", 0, 0, NULL,
     "its database", AT(chroma_database)},
    {"CHROMA_TOKEN", NULL, SETTING_SECRET, "", 0, 0, NULL,
     "key for it, or for what stands before it", AT(chroma_token)},
    {"VISUAL_COLLECTION", "--visual-collection", SETTING_TEXT, "visual_collection", 0, 0, NULL,
     "its collection of pages", AT(visual_collection)},
    {"TEXT_COLLECTION", "--text-collection", SETTING_TEXT, "text_collection", 0, 0, NULL,
     "its collection of passages", AT(text_collection)},
    {"HOOK_PATH_MAP", "--hook-path-map", SETTING_TEXT, "", 0, 0, NULL,
     "beginnings of a hook's paths, there and here: /uploads=/real/uploads,…", AT(hook_path_map)},
    {"HF_ENDPOINT", "--hf-endpoint", SETTING_URL, "https://huggingface.co", 0, 0, NULL,
     "hub that models are fetched from", AT(hf_endpoint)},
    {"HF_HOME", "--hf-home", SETTING_PATH, "", 0, 0, NULL,
     "huggingface_hub's folder; empty: ~/.cache/huggingface", AT(hf_home)},
    {"HF_TOKEN", NULL, SETTING_SECRET, "", 0, 0, NULL, "key for the hub", AT(hf_token)},
    {"HF_HUB_OFFLINE", "--hf-hub-offline", SETTING_BOOL, "0", 0, 0, NULL, "never ask the hub",
     AT(hf_offline)},
    {"LOG_LEVEL", "--log-level", SETTING_LEVEL, "info", 0, 0, "debug|info|warn|error",
     "least level logged", AT(log_level)},
    {"LOG_FORMAT", "--log-format", SETTING_FORMAT, "text", 0, 0, "text|json", "form of log lines",
     AT(log_json)},
    {"LOG_FILE", "--log-file", SETTING_PATH, "", 0, 0, NULL, "log file; empty: standard error",
     AT(log_file)},
};
#undef AT
#define N_SETTINGS BASE_COUNT(table)

enum authority { BY_DEFAULT, BY_FILE, BY_ENVIRONMENT, BY_FLAG };

/* What was given for each row, before it is checked. */
struct given {
    const char *text;
    enum authority authority;
};

static int row_named(const char *variable, size_t len) {
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (strlen(table[i].variable) == len && memcmp(table[i].variable, variable, len) == 0)
            return (int)i;
    }
    return -1;
}

/* ---- gathering ---- */

/* Whether arg is flag, alone or with =value behind it (then *value points at it). */
static bool flag_matches(const char **value, const char *arg, const char *flag) {
    size_t len = strlen(flag);
    if (strncmp(arg, flag, len) != 0)
        return false;
    *value = arg[len] == '=' ? arg + len + 1 : NULL;
    return arg[len] == '\0' || arg[len] == '=';
}

static bool gather_flags(struct given *given, const char **config, int *argc, char **argv,
                         struct error *err) {
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        if (i > 0 && strcmp(argv[i], "--") == 0) {
            while (i < *argc)
                argv[kept++] = argv[i++];
            break;
        }
        const char *value = NULL, *flag = NULL;
        size_t row = 0;
        if (i > 0 && flag_matches(&value, argv[i], "--config"))
            flag = "--config";
        if (i > 0 && flag_matches(&value, argv[i], "--api-key"))
            return error_set(err, ERROR_INPUT,
                             "the key is not given as a flag, which other users of the machine can "
                             "read: use --api-key-file or the variable API_KEY");
        for (; i > 0 && !flag && row < N_SETTINGS; row++) {
            if (table[row].flag && flag_matches(&value, argv[i], table[row].flag)) {
                flag = table[row].flag;
                break;
            }
        }
        if (!flag) {
            argv[kept++] = argv[i];
            continue;
        }
        bool is_config = strcmp(flag, "--config") == 0;
        if (!value && !is_config && table[row].kind == SETTING_BOOL)
            value = "1";
        if (!value) {
            if (i + 1 >= *argc)
                return error_set(err, ERROR_INPUT, "%s needs a value", flag);
            value = argv[++i];
        }
        if (is_config)
            *config = value;
        else
            given[row] = (struct given){value, BY_FLAG};
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

static char *trim(char *text) {
    while (text[0] == ' ' || text[0] == '\t')
        text++;
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        text[--len] = '\0';
    return text;
}

static char *unquote(char *text) {
    size_t len = strlen(text);
    if (len < 2 || (text[0] != '"' && text[0] != '\'') || text[len - 1] != text[0])
        return text;
    text[len - 1] = '\0';
    return text + 1;
}

static bool gather_line(struct given *given, char *line, struct error *err) {
    line = trim(line);
    if (line[0] == '\0' || line[0] == '#')
        return true;
    char *equals = strchr(line, '=');
    if (!equals)
        return error_set(err, ERROR_INPUT, "'%.80s' is not KEY=VALUE", line);
    *equals = '\0';
    char *key = trim(line), *value = unquote(trim(equals + 1));
    int row = row_named(key, strlen(key));
    if (row < 0)
        return error_set(err, ERROR_INPUT, "unknown setting '%.80s'", key);
    if (value[0] && given[row].authority <= BY_FILE)
        given[row] = (struct given){value, BY_FILE};
    return true;
}

static bool gather_file(struct given *given, struct arena *arena, const char *path,
                        struct error *err) {
    char *data;
    size_t len;
    if (!file_read(&data, &len, path, MAX_FILE_BYTES, err)) {
        error_prefix(err, "settings: ");
        return false;
    }
    char *text = arena_strndup(arena, data, len);
    mem_free(data);
    if (!utf8_valid(text, len) || strlen(text) != len)
        return error_set(err, ERROR_INPUT, "settings file %s is not text", path);
    int line_i = 1;
    for (char *line = text, *next; line; line = next, line_i++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!gather_line(given, line, err)) {
            error_prefix(err, "%s line %d: ", path, line_i);
            return false;
        }
    }
    return true;
}

static void gather_environment(struct given *given, struct arena *arena) {
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *value = getenv(table[i].variable);
        if (value && value[0] && given[i].authority < BY_ENVIRONMENT)
            given[i] = (struct given){arena_strdup(arena, value), BY_ENVIRONMENT};
    }
}

/* ---- checking and storing ---- */

/* Against the current folder, without "." parts and doubled or final slashes. ".." stays: what it
 * means depends on links. */
static bool absolute(const char **out, struct arena *arena, const char *path, struct error *err) {
    struct buf text = {0};
    if (path[0] != '/') {
        char cwd[4096];
        if (!getcwd(cwd, sizeof cwd))
            return error_set_errno(err, errno, "current folder");
        if (strcmp(cwd, "/") != 0)
            buf_puts(&text, cwd);
    }
    for (const char *part = path; *part;) {
        size_t len = strcspn(part, "/");
        if (len > 0 && !(len == 1 && part[0] == '.')) {
            buf_putc(&text, '/');
            buf_append(&text, part, len);
        }
        part += len + (part[len] == '/');
    }
    *out = arena_strdup(arena, text.len ? text.data : "/");
    buf_fini(&text);
    return true;
}

static bool put_roots(struct settings *out, const char *text, struct error *err) {
    int n_max = 1;
    for (const char *c = text; *c; c++)
        n_max += *c == ':';
    const char **roots = arena_alloc(out->arena, (size_t)n_max * sizeof *roots);
    int n = 0;
    for (const char *part = text; *part;) {
        size_t len = strcspn(part, ":");
        if (len > 0) {
            if (!absolute(&roots[n], out->arena, arena_strndup(out->arena, part, len), err))
                return false;
            n++;
        }
        part += len + (part[len] == ':');
    }
    if (n == 0)
        return error_set(err, ERROR_INPUT, "INGEST_ROOTS names no folder: '%.80s'", text);
    out->ingest_roots = roots;
    out->n_ingest_roots = n;
    return true;
}

/* Index of text among words separated by '|', letter case ignored; -1 when it is none. */
static int choice_index(const char *choices, const char *text) {
    size_t text_len = strlen(text);
    int index = 0;
    for (const char *word = choices;; index++) {
        size_t len = strcspn(word, "|");
        if (len == text_len && strncasecmp(word, text, len) == 0)
            return index;
        if (word[len] == '\0')
            return -1;
        word += len + 1;
    }
}

static char *choice_at(struct arena *arena, const char *choices, int index) {
    while (index-- > 0)
        choices += strcspn(choices, "|") + 1;
    return arena_strndup(arena, choices, strcspn(choices, "|"));
}

/* Tesseract opens <name>.traineddata: names of letters, digits, '_' and '-', with a folder before
 * them ("script/Latin") at most, joined by '+'. */
static bool languages_fine(const char *text) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    for (;;) {
        size_t len = strspn(text, letters);
        if (len > 0 && text[len] == '/') {
            text += len + 1;
            len = strspn(text, letters);
        }
        if (len == 0)
            return false;
        if (text[len] == '\0')
            return true;
        if (text[len] != '+')
            return false;
        text += len + 1;
    }
}

/* The first line, without the white space around it. */
static bool read_key(const char **out, struct arena *arena, const char *path, struct error *err) {
    char *data;
    size_t len;
    if (!file_read(&data, &len, path, MAX_KEY_BYTES, err)) {
        error_prefix(err, "API_KEY_FILE: ");
        return false;
    }
    data[strcspn(data, "\n")] = '\0';
    *out = arena_strdup(arena, trim(data));
    explicit_bzero(data, len);
    mem_free(data);
    if ((*out)[0] == '\0')
        return error_set(err, ERROR_INPUT, "API_KEY_FILE: the first line of %s is empty", path);
    return true;
}

static bool is_one_line(const char *text) {
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            return false;
    }
    return true;
}

/* The program's numbers are those of the C locale: a point, no grouping. */
static bool put_share(double *out, const struct setting *row, const char *text, struct error *err) {
    size_t len = strlen(text);
    double value = strspn(text, "0123456789.") == len ? strtod(text, NULL) : -1;
    const char *point = strchr(text, '.');
    if (len == 0 || len > 20 || (point && strchr(point + 1, '.')) || strcmp(text, ".") == 0 ||
        value * 1000 < (double)row->min || value * 1000 > (double)row->max)
        return error_set(err, ERROR_INPUT, "%s is a number from %g to %g, not '%.80s'",
                         row->variable, (double)row->min / 1000, (double)row->max / 1000, text);
    *out = value;
    return true;
}

static bool put_choice(int *out, const struct setting *row, const char *text, struct error *err) {
    *out = choice_index(row->choices, text);
    if (*out < 0)
        return error_set(err, ERROR_INPUT, "%s is one of %s, not '%.80s'", row->variable,
                         row->choices, text);
    return true;
}

static bool put_bool(bool *out, const struct setting *row, const char *text, struct error *err) {
    int word = choice_index("0|1|false|true|no|yes|off|on", text);
    if (word < 0)
        return error_set(err, ERROR_INPUT,
                         "%s is one of 0, 1, true, false, yes, no, on, off, not '%.80s'",
                         row->variable, text);
    *out = word % 2 == 1;
    return true;
}

/* Checks one value and stores it: the only way into the struct. */
static bool put_value(struct settings *out, const struct setting *row, const char *text,
                      struct error *err) {
    void *field = (char *)out + row->offset;
    bool secret = row->kind == SETTING_SECRET;
    int64_t number;
    int choice;
    if (!is_one_line(text))
        return error_set(err, ERROR_INPUT, "%s has a control character in it", row->variable);
    if (text[0] == '\0' && row->fallback[0] != '\0')
        return error_set(err, ERROR_INPUT, "%s is empty", row->variable);

    switch (row->kind) {
    case SETTING_TEXT:
    case SETTING_URL:
    case SETTING_SECRET:
        *(const char **)field = secret && !text[0] ? NULL : arena_strdup(out->arena, text);
        return true;
    case SETTING_PATH:
        return text[0] == '\0' || absolute(field, out->arena, text, err);
    case SETTING_ROOTS:
        return text[0] == '\0' || put_roots(out, text, err);
    case SETTING_INT:
        if (!text_to_int(&number, text, row->min, row->max, row->variable, err))
            return false;
        *(int *)field = (int)number;
        return true;
    case SETTING_SHARE:
        return put_share(field, row, text, err);
    case SETTING_STEP:
        if (!put_choice(&choice, row, text, err))
            return false;
        *(int *)field = (int)strtol(choice_at(out->arena, row->choices, choice), NULL, 10);
        return true;
    case SETTING_MEGABYTES:
        if (!text_to_int(&number, text, row->min, row->max, row->variable, err))
            return false;
        *(int64_t *)field = number * BYTES_A_MB;
        return true;
    case SETTING_BOOL:
        return put_bool(field, row, text, err);
    case SETTING_CHOICE:
        if (!put_choice(&choice, row, text, err))
            return false;
        *(const char **)field = choice_at(out->arena, row->choices, choice);
        return true;
    case SETTING_LEVEL:
        if (!put_choice(&choice, row, text, err))
            return false;
        *(enum log_level *)field = (enum log_level)choice;
        return true;
    case SETTING_FORMAT:
        if (!put_choice(&choice, row, text, err))
            return false;
        *(bool *)field = choice == 1;
        return true;
    case SETTING_LANGUAGES:
        if (!languages_fine(text))
            return error_set(err, ERROR_INPUT,
                             "%s is Tesseract's language names joined by '+', not '%.80s'",
                             row->variable, text);
        *(const char **)field = arena_strdup(out->arena, text);
        return true;
    case SETTING_KEY_FILE:
        return text[0] == '\0' || read_key(field, out->arena, text, err);
    }
    return true;
}

/* The key and the key's file fill one field: the higher authority's is taken, two of the same are
 * one too many. The row not taken is emptied. */
static bool choose_key(struct given *given, struct error *err) {
    struct given *key = &given[row_named("API_KEY", 7)];
    struct given *file = &given[row_named("API_KEY_FILE", 12)];
    if (key->authority == BY_DEFAULT || file->authority == BY_DEFAULT)
        return true;
    if (key->authority == file->authority)
        return error_set(err, ERROR_INPUT, "API_KEY and API_KEY_FILE are both given");
    struct given *lower = key->authority < file->authority ? key : file;
    *lower = (struct given){"", BY_DEFAULT};
    return true;
}

/* As huggingface_hub: in XDG_CACHE_HOME, else in the home folder's .cache. "" without a home. */
static const char *usual_hf_home(struct arena *arena) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/')
        return path_join(arena, cache, "huggingface");
    return home && home[0] == '/' ? path_join(arena, home, ".cache/huggingface") : "";
}

/* ChromaDB's rule for names of collections; three of ours end in a word of their own. */
static bool check_collection(const char *variable, const char *name, struct error *err) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(name);
    if (len >= 3 && len <= 400 && strspn(name, letters) == len && isalnum((unsigned char)*name) &&
        isalnum((unsigned char)name[len - 1]))
        return true;
    return error_set(err, ERROR_INPUT,
                     "%s is 3 to 400 letters, digits, '.', '_' and '-', the first and last no "
                     "sign, not '%.80s'",
                     variable, name);
}

/* Is it a collection's name with one of those words of ours behind it? */
static bool is_fellow(const char *name, const char *collection) {
    static const char *const words[] = {"-tokens", "-vectors", "-documents"};
    size_t len = strlen(collection);
    if (strncmp(name, collection, len) != 0)
        return false;
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        if (strcmp(name + len, words[i]) == 0)
            return true;
    }
    return false;
}

static bool check_chroma(const struct settings *out, struct error *err) {
    if (!check_collection("VISUAL_COLLECTION", out->visual_collection, err) ||
        !check_collection("TEXT_COLLECTION", out->text_collection, err))
        return false;
    if (strcmp(out->visual_collection, out->text_collection) == 0)
        return error_set(err, ERROR_INPUT, "VISUAL_COLLECTION and TEXT_COLLECTION are both '%s'",
                         out->text_collection);
    if (is_fellow(out->visual_collection, out->text_collection) ||
        is_fellow(out->text_collection, out->visual_collection))
        return error_set(err, ERROR_INPUT,
                         "VISUAL_COLLECTION '%.200s' and TEXT_COLLECTION '%.200s': '-tokens', "
                         "'-vectors' and '-documents' behind the other's name are taken",
                         out->visual_collection, out->text_collection);
    if (*out->chroma_host && !out->index_full_vectors)
        return error_set(err, ERROR_INPUT,
                         "CHROMA_HOST needs INDEX_FULL_VECTORS=true: what is shared is every "
                         "vector");
    return true;
}

/* What depends on other settings. */
static bool complete(struct settings *out, struct error *err) {
    if (!out->models_dir)
        out->models_dir = path_join(out->arena, out->data_dir, "models");
    if (!out->hf_home)
        out->hf_home = usual_hf_home(out->arena);
    if (!out->uploads_dir)
        out->uploads_dir = path_join(out->arena, out->data_dir, "uploads");
    if (!out->ingest_roots) {
        const char **roots = arena_alloc(out->arena, sizeof *roots);
        roots[0] = out->uploads_dir;
        out->ingest_roots = roots;
        out->n_ingest_roots = 1;
    }
    if (out->n_workers == 0)
        out->n_workers = cpu_count() < MAX_AUTO_WORKERS ? cpu_count() : MAX_AUTO_WORKERS;
    if (out->chunk_overlap_words >= out->chunk_size_words)
        return error_set(err, ERROR_INPUT,
                         "TEXT_CHUNK_OVERLAP is less than TEXT_CHUNK_SIZE (%d), not %d",
                         out->chunk_size_words, out->chunk_overlap_words);
    return check_chroma(out, err);
}

bool settings_load(struct settings *out, int *argc, char **argv, struct error *err) {
    *out = (struct settings){.arena = arena_new(0)};
    struct given given[N_SETTINGS];
    for (size_t i = 0; i < N_SETTINGS; i++)
        given[i] = (struct given){table[i].fallback, BY_DEFAULT};

    const char *config = getenv("DOCUSEARCH_CONFIG");
    if (!gather_flags(given, &config, argc, argv, err))
        goto fail;
    gather_environment(given, out->arena);
    if (config && config[0] && !gather_file(given, out->arena, config, err))
        goto fail;
    if (!choose_key(given, err))
        goto fail;
    for (size_t i = 0; i < N_SETTINGS; i++) {
        /* An empty second source of a field leaves what the first stored. */
        if (table[i].kind != SETTING_KEY_FILE || given[i].text[0]) {
            if (!put_value(out, &table[i], given[i].text, err))
                goto fail;
        }
    }
    if (!complete(out, err))
        goto fail;
    return true;
fail:
    settings_fini(out);
    return false;
}

void settings_fini(struct settings *settings) {
    arena_free(settings->arena);
    *settings = (struct settings){0};
}

/* ---- telling ---- */

static void describe_text(struct buf *out, const char *text) {
    bool quoted = text && strpbrk(text, " '\"") != NULL;
    buf_printf(out, quoted ? "'%s'" : "%s", text ? text : "");
}

/* A user and password before the host are shown as three stars. */
static void describe_url(struct buf *out, const char *url) {
    const char *start = strstr(url, "://");
    start = start ? start + 3 : url;
    const char *at = memchr(start, '@', strcspn(start, "/"));
    buf_append(out, url, (size_t)(start - url));
    buf_puts(out, at ? "***" : "");
    describe_text(out, at ? at : start);
}

static void describe_value(struct buf *out, const struct settings *settings,
                           const struct setting *row) {
    const void *field = (const char *)settings + row->offset;
    struct arena *scratch;
    switch (row->kind) {
    case SETTING_URL:
        describe_url(out, *(const char *const *)field);
        return;
    case SETTING_TEXT:
    case SETTING_PATH:
    case SETTING_CHOICE:
    case SETTING_LANGUAGES:
        describe_text(out, *(const char *const *)field);
        return;
    case SETTING_ROOTS:
        for (int i = 0; i < settings->n_ingest_roots; i++) {
            buf_puts(out, i ? ":" : "");
            describe_text(out, settings->ingest_roots[i]);
        }
        return;
    case SETTING_INT:
    case SETTING_STEP:
        buf_printf(out, "%d", *(const int *)field);
        return;
    case SETTING_SHARE:
        buf_printf(out, "%g", *(const double *)field);
        return;
    case SETTING_MEGABYTES:
        buf_printf(out, "%" PRId64, *(const int64_t *)field / BYTES_A_MB);
        return;
    case SETTING_BOOL:
        buf_puts(out, *(const bool *)field ? "1" : "0");
        return;
    case SETTING_LEVEL:
        scratch = arena_new(0);
        buf_puts(out, choice_at(scratch, row->choices, (int)*(const enum log_level *)field));
        arena_free(scratch);
        return;
    case SETTING_FORMAT:
        buf_puts(out, *(const bool *)field ? "json" : "text");
        return;
    case SETTING_SECRET:
        buf_puts(out, *(const char *const *)field ? "***" : "");
        return;
    case SETTING_KEY_FILE:
        return;
    }
}

void settings_describe(struct buf *out, const struct settings *settings) {
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (table[i].kind == SETTING_KEY_FILE)
            continue; /* it is told as API_KEY */
        buf_printf(out, "%s%s=", i ? " " : "", table[i].variable);
        describe_value(out, settings, &table[i]);
    }
}

void settings_help(struct buf *out) {
    buf_printf(out, "  %-22s %-19s %-10s %s\n", "flag", "variable", "default", "meaning");
    buf_printf(out, "  %-22s %-19s %-10s %s\n", "--config", "DOCUSEARCH_CONFIG", "",
               "file of KEY=VALUE lines, of less authority than flags and variables");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *row = &table[i];
        buf_printf(out, "  %-22s %-19s %-10s ", row->flag ? row->flag : "", row->variable,
                   row->fallback);
        if (strlen(row->fallback) > 10)
            buf_printf(out, "\n%56s", "");
        buf_puts(out, row->meaning);
        if (row->choices)
            buf_printf(out, ": %s", row->choices);
        if (row->kind == SETTING_SHARE)
            buf_printf(out, " (%g to %g)", (double)row->min / 1000, (double)row->max / 1000);
        else if (row->max)
            buf_printf(out, " (%" PRId64 " to %" PRId64 ")", row->min, row->max);
        buf_putc(out, '\n');
    }
}
