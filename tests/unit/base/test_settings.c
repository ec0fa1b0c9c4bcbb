/* Settings: each by flag, variable and file, who wins, what is refused, what is told. */
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const variables[] = {
    "DATA_DIR",
    "UPLOADS_DIR",
    "INGEST_ROOTS",
    "WORKER_HOST",
    "WORKER_PORT",
    "TEXT_CHUNK_SIZE",
    "TEXT_CHUNK_OVERLAP",
    "PAGE_RENDER_DPI",
    "MAX_FILE_SIZE_MB",
    "MAX_PAGES",
    "SUPPORTED_FORMATS",
    "OCR_LANGUAGES",
    "WORKER_THREADS",
    "MAX_QUEUE",
    "API_KEY",
    "API_KEY_FILE",
    "CORS_ORIGIN",
    "INSECURE",
    "DEVICE",
    "DEVICE_STRICT",
    "INDEX_POOL_FACTOR",
    "INDEX_CODE_BITS",
    "INDEX_FULL_VECTORS",
    "SEARCH_RECALL",
    "MODEL_NAME",
    "MODEL_PRECISION",
    "TEXT_MODEL",
    "QUERY_PROMPT",
    "MODELS_DIR",
    "BATCH_SIZE_VISUAL",
    "BATCH_SIZE_TEXT",
    "CHROMA_HOST",
    "CHROMA_PORT",
    "CHROMA_SSL",
    "CHROMA_TENANT",
    "CHROMA_DATABASE",
    "CHROMA_TOKEN",
    "VISUAL_COLLECTION",
    "TEXT_COLLECTION",
    "HOOK_PATH_MAP",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LOG_FILE",
    "DOCUSEARCH_CONFIG",
};

struct fixture {
    char *dir;
    char *before; /* the working folder to go back to */
    struct settings settings;
};

/* Not in the table of each: secrets, which no flag takes, the files that have them or settings, and
 * CHROMA_HOST, which does not go with the value that INDEX_FULL_VECTORS has there. */
#define N_APART 6

static int set_up(void **state) {
    for (size_t i = 0; i < BASE_COUNT(variables); i++)
        unsetenv(variables[i]);
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    fixture->before = mem_alloc(4096);
    assert_non_null(getcwd(fixture->before, 4096));
    char *made = temp_dir_make();
    assert_int_equal(chdir(made), 0);
    fixture->dir = mem_alloc(4096);
    assert_non_null(getcwd(fixture->dir, 4096)); /* as the kernel names it */
    mem_free(made);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    settings_fini(&fixture->settings);
    assert_int_equal(chdir(fixture->before), 0);
    temp_dir_drop(fixture->dir);
    mem_free(fixture->before);
    mem_free(fixture);
    return 0;
}

/* Loads with the given flags (NULL-ended, after the program's name); all must be taken. */
static const struct settings *load(struct fixture *fixture, ...) {
    char *argv[32] = {(char[]){"docusearch"}};
    int argc = 1;
    va_list args;
    va_start(args, fixture);
    for (char *arg; (arg = va_arg(args, char *)) != NULL;)
        argv[argc++] = arg;
    va_end(args);
    struct error err;
    settings_fini(&fixture->settings);
    if (!settings_load(&fixture->settings, &argc, argv, &err))
        fail_msg("%s", err.text);
    assert_int_equal(argc, 1);
    assert_null(argv[1]);
    return &fixture->settings;
}

/* Loads, expecting ERROR_INPUT or kind with part in its text. */
static void refuse(const char *part, char *flag, char *value) {
    char *argv[] = {(char[]){"docusearch"}, flag, value, NULL};
    int argc = value ? 3 : flag ? 2 : 1;
    struct settings settings;
    struct error err = {0};
    if (settings_load(&settings, &argc, argv, &err))
        fail_msg("%s %s was taken", flag ? flag : "", value ? value : "");
    if (!strstr(err.text, part))
        fail_msg("'%s' is not in '%s'", part, err.text);
    assert_null(settings.arena);
}

static void put_file(const char *name, const char *text) {
    struct error err;
    assert_true(file_write_durable(name, text, strlen(text), &err));
}

static char *below(const struct fixture *fixture, const char *name) {
    return path_join(fixture->settings.arena, fixture->dir, name);
}

static void defaults(void **state) {
    struct fixture *fixture = *state;
    const struct settings *s = load(fixture, NULL);
    assert_string_equal(s->data_dir, below(fixture, "data"));
    assert_string_equal(s->uploads_dir, below(fixture, "data/uploads"));
    assert_int_equal(s->n_ingest_roots, 1);
    assert_string_equal(s->ingest_roots[0], s->uploads_dir);
    assert_string_equal(s->worker_host, "127.0.0.1");
    assert_int_equal(s->worker_port, 8002);
    assert_int_equal(s->chunk_size_words, 250);
    assert_int_equal(s->chunk_overlap_words, 50);
    assert_int_equal(s->render_dpi, 150);
    assert_int_equal(s->max_file_bytes, 100 << 20);
    assert_int_equal(s->max_pages, 5000);
    assert_string_equal(s->supported_formats, "");
    assert_string_equal(s->ocr_languages, "eng");
    assert_int_equal(s->n_workers, cpu_count() < 8 ? cpu_count() : 8);
    assert_int_equal(s->max_queue, 100000);
    assert_null(s->api_key);
    assert_string_equal(s->cors_origin, "");
    assert_false(s->insecure);
    assert_string_equal(s->device, "auto");
    assert_false(s->device_strict);
    assert_int_equal(s->index_pool_factor, 4);
    assert_int_equal(s->index_code_bits, 2);
    assert_true(s->index_full_vectors);
    assert_true(s->search_recall == 0.99);
    assert_string_equal(s->model_name, "vidore/colpali-v1.2");
    assert_string_equal(s->model_precision, "auto");
    assert_string_equal(s->text_model, "sentence-transformers/all-MiniLM-L6-v2");
    assert_string_equal(s->query_prompt, "question");
    assert_string_equal(s->models_dir, below(fixture, "data/models"));
    assert_int_equal(s->batch_visual, 4);
    assert_int_equal(s->batch_text, 8);
    assert_string_equal(s->chroma_host, "");
    assert_int_equal(s->chroma_port, 8000);
    assert_false(s->chroma_ssl);
    assert_string_equal(s->chroma_tenant, "default_tenant");
    assert_string_equal(s->chroma_database, "default_database");
    assert_null(s->chroma_token);
    assert_string_equal(s->visual_collection, "visual_collection");
    assert_string_equal(s->text_collection, "text_collection");
    assert_string_equal(s->hook_path_map, "");
    assert_string_equal(s->hf_endpoint, "https://huggingface.co");
    assert_null(s->hf_token);
    assert_false(s->hf_offline);
    assert_int_equal(s->log_level, LOG_INFO);
    assert_false(s->log_json);
    assert_null(s->log_file);
}

static void check_each(struct fixture *fixture, const struct settings *s) {
    assert_string_equal(s->data_dir, "/srv/data");
    assert_string_equal(s->uploads_dir, below(fixture, "up"));
    assert_int_equal(s->n_ingest_roots, 2);
    assert_string_equal(s->ingest_roots[0], "/srv/a");
    assert_string_equal(s->ingest_roots[1], below(fixture, "b"));
    assert_string_equal(s->worker_host, "::1");
    assert_int_equal(s->worker_port, 0);
    assert_int_equal(s->chunk_size_words, 100);
    assert_int_equal(s->chunk_overlap_words, 99);
    assert_int_equal(s->render_dpi, 36);
    assert_true(s->max_file_bytes == (int64_t)5000 << 20);
    assert_int_equal(s->max_pages, 7);
    assert_string_equal(s->supported_formats, "pdf,docx");
    assert_string_equal(s->ocr_languages, "eng+script/Latin+chi_sim");
    assert_int_equal(s->n_workers, 3);
    assert_int_equal(s->max_queue, 12);
    assert_string_equal(s->cors_origin, "https://example.org");
    assert_true(s->insecure);
    assert_string_equal(s->device, "cuda");
    assert_true(s->device_strict);
    assert_int_equal(s->index_pool_factor, 64);
    assert_int_equal(s->index_code_bits, 8);
    assert_false(s->index_full_vectors);
    assert_true(s->search_recall == 0.5);
    assert_string_equal(s->model_name, "some/model");
    assert_string_equal(s->model_precision, "bf16");
    assert_string_equal(s->text_model, "visual");
    assert_string_equal(s->query_prompt, "none");
    assert_string_equal(s->models_dir, below(fixture, "models"));
    assert_int_equal(s->batch_visual, 64);
    assert_int_equal(s->batch_text, 256);
    assert_int_equal(s->chroma_port, 65535);
    assert_true(s->chroma_ssl);
    assert_string_equal(s->chroma_tenant, "a tenant");
    assert_string_equal(s->chroma_database, "a database");
    assert_string_equal(s->visual_collection, "a.b");
    assert_string_equal(s->text_collection, "0-z");
    assert_string_equal(s->hook_path_map, "/uploads=/real/uploads,/more=/other");
    assert_string_equal(s->hf_endpoint, "http://hub.example/x");
    assert_string_equal(s->hf_home, below(fixture, "hf"));
    assert_true(s->hf_offline);
    assert_int_equal(s->log_level, LOG_WARN);
    assert_true(s->log_json);
    assert_string_equal(s->log_file, below(fixture, "logs/a.log"));
}

/* Every setting but those apart, each with a value that is not its default. */
static char *const each[][2] = {
    {"DATA_DIR", "/srv//./data/"},
    {"UPLOADS_DIR", "up"},
    {"INGEST_ROOTS", "/srv/a::./b"},
    {"WORKER_HOST", "::1"},
    {"WORKER_PORT", "0"},
    {"TEXT_CHUNK_SIZE", "100"},
    {"TEXT_CHUNK_OVERLAP", "99"},
    {"PAGE_RENDER_DPI", "36"},
    {"MAX_FILE_SIZE_MB", "5000"},
    {"MAX_PAGES", "7"},
    {"SUPPORTED_FORMATS", "pdf,docx"},
    {"OCR_LANGUAGES", "eng+script/Latin+chi_sim"},
    {"WORKER_THREADS", "3"},
    {"MAX_QUEUE", "12"},
    {"CORS_ORIGIN", "https://example.org"},
    {"INSECURE", "yes"},
    {"DEVICE", "CUDA"},
    {"DEVICE_STRICT", "On"},
    {"INDEX_POOL_FACTOR", "64"},
    {"INDEX_CODE_BITS", "8"},
    {"INDEX_FULL_VECTORS", "false"},
    {"SEARCH_RECALL", "0.5"},
    {"MODEL_NAME", "some/model"},
    {"MODEL_PRECISION", "BF16"},
    {"TEXT_MODEL", "visual"},
    {"QUERY_PROMPT", "none"},
    {"MODELS_DIR", "models/"},
    {"BATCH_SIZE_VISUAL", "64"},
    {"BATCH_SIZE_TEXT", "256"},
    {"CHROMA_PORT", "65535"},
    {"CHROMA_SSL", "true"},
    {"CHROMA_TENANT", "a tenant"},
    {"CHROMA_DATABASE", "a database"},
    {"VISUAL_COLLECTION", "a.b"},
    {"TEXT_COLLECTION", "0-z"},
    {"HOOK_PATH_MAP", "/uploads=/real/uploads,/more=/other"},
    {"HF_ENDPOINT", "http://hub.example/x"},
    {"HF_HOME", "./hf"},
    {"HF_HUB_OFFLINE", "1"},
    {"LOG_LEVEL", "Warn"},
    {"LOG_FORMAT", "json"},
    {"LOG_FILE", "logs/a.log"},
};

static void each_by_variable(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(BASE_COUNT(each) + N_APART, BASE_COUNT(variables));
    for (size_t i = 0; i < BASE_COUNT(each); i++)
        setenv(each[i][0], each[i][1], 1);
    check_each(fixture, load(fixture, NULL));
}

/* Their flags may stand alone, and so take no value behind a space. */
static bool is_yes_or_no(const char *variable) {
    static const char *const all[] = {"INSECURE", "DEVICE_STRICT", "INDEX_FULL_VECTORS",
                                      "CHROMA_SSL", "HF_HUB_OFFLINE"};
    for (size_t i = 0; i < BASE_COUNT(all); i++) {
        if (strcmp(all[i], variable) == 0)
            return true;
    }
    return false;
}

static void each_by_flag(void **state) {
    struct fixture *fixture = *state;
    char *argv[2 * BASE_COUNT(each) + 2] = {(char[]){"docusearch"}};
    int argc = 1;
    char *made[BASE_COUNT(each)];
    for (size_t i = 0; i < BASE_COUNT(each); i++) {
        bool joined = i % 2 == 0 || is_yes_or_no(each[i][0]);
        made[i] = mem_printf("--%s%s%s", each[i][0], joined ? "=" : "", joined ? each[i][1] : "");
        for (char *c = made[i]; *c && *c != '='; c++)
            *c = *c == '_' ? '-' : *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
        argv[argc++] = made[i];
        if (!joined)
            argv[argc++] = each[i][1];
    }
    struct error err;
    if (!settings_load(&fixture->settings, &argc, argv, &err))
        fail_msg("%s", err.text);
    assert_int_equal(argc, 1);
    check_each(fixture, &fixture->settings);
    for (size_t i = 0; i < BASE_COUNT(each); i++)
        mem_free(made[i]);
}

static void each_by_file(void **state) {
    struct fixture *fixture = *state;
    struct buf text = {0};
    buf_puts(&text, "# settings\n\n");
    for (size_t i = 0; i < BASE_COUNT(each); i++) {
        const char *quote = i % 3 == 0 ? "" : i % 3 == 1 ? "'" : "\"";
        buf_printf(&text, " %s = %s%s%s \r\n", each[i][0], quote, each[i][1], quote);
    }
    buf_puts(&text, "MAX_PAGES="); /* empty: as if not there; and no last newline */
    put_file("settings.env", text.data);
    buf_fini(&text);
    check_each(fixture, load(fixture, "--config", "settings.env", NULL));
    check_each(fixture, load(fixture, "--config=settings.env", NULL));
    setenv("DOCUSEARCH_CONFIG", "settings.env", 1);
    check_each(fixture, load(fixture, NULL));
}

static void flag_beats_variable_beats_file(void **state) {
    struct fixture *fixture = *state;
    put_file("a.env", "WORKER_PORT=1\nMAX_PAGES=1\nMAX_QUEUE=1\n");
    put_file("b.env", "WORKER_PORT=9\n");
    setenv("DOCUSEARCH_CONFIG", "b.env", 1);
    setenv("WORKER_PORT", "2", 1);
    setenv("MAX_PAGES", "2", 1);
    setenv("MAX_QUEUE", "", 1); /* empty: not given */
    const struct settings *s = load(fixture, "--worker-port", "3", "--config", "a.env",
                                    "--insecure", NULL);
    assert_int_equal(s->worker_port, 3);
    assert_int_equal(s->max_pages, 2);
    assert_int_equal(s->max_queue, 1);
    assert_true(s->insecure);
    setenv("INSECURE", "1", 1);
    assert_false(load(fixture, "--insecure=no", NULL)->insecure);
    assert_int_equal(load(fixture, "--worker-port=4", "--worker-port=5", NULL)->worker_port, 5);
    setenv("LOG_FILE", "x", 1);
    assert_null(load(fixture, "--log-file", "", NULL)->log_file);
}

static void other_arguments_stay_in_order(void **state) {
    struct fixture *fixture = *state;
    char *argv[] = {"docusearch", "search", "--worker-port", "1",         "--json", "a query",
                    "--insecure", "--",     "--max-pages",   "--api-key", NULL};
    int argc = (int)BASE_COUNT(argv) - 1;
    struct error err;
    assert_true(settings_load(&fixture->settings, &argc, argv, &err));
    static const char *const left[] = {"docusearch", "search",      "--json",   "a query",
                                       "--",         "--max-pages", "--api-key"};
    assert_int_equal(argc, BASE_COUNT(left));
    for (size_t i = 0; i < BASE_COUNT(left); i++)
        assert_string_equal(argv[i], left[i]);
    assert_null(argv[argc]);
    assert_true(fixture->settings.insecure);
}

static void unusable_values_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *variable, *value, *part;
    } cases[] = {
        {"WORKER_PORT", "65536", "WORKER_PORT is a whole number from 0 to 65535, not '65536'"},
        {"WORKER_PORT", "80a", "'80a'"},
        {"WORKER_PORT", "-1", "'-1'"},
        {"TEXT_CHUNK_SIZE", "0", "TEXT_CHUNK_SIZE"},
        {"TEXT_CHUNK_SIZE", "50", "TEXT_CHUNK_OVERLAP is less than TEXT_CHUNK_SIZE (50), not 50"},
        {"TEXT_CHUNK_OVERLAP", "250", "TEXT_CHUNK_OVERLAP is less than"},
        {"PAGE_RENDER_DPI", "35", "from 36 to 600"},
        {"PAGE_RENDER_DPI", "601", "from 36 to 600"},
        {"MAX_FILE_SIZE_MB", "0", "MAX_FILE_SIZE_MB"},
        {"MAX_FILE_SIZE_MB", "9999999999999", "MAX_FILE_SIZE_MB"},
        {"MAX_PAGES", "0", "MAX_PAGES"},
        {"MAX_QUEUE", "0", "MAX_QUEUE"},
        {"WORKER_THREADS", "-1", "WORKER_THREADS"},
        {"DEVICE", "gpu", "DEVICE is one of auto|mps|cuda|vulkan|cpu, not 'gpu'"},
        {"INDEX_POOL_FACTOR", "0", "INDEX_POOL_FACTOR"},
        {"INDEX_POOL_FACTOR", "65", "INDEX_POOL_FACTOR"},
        {"INDEX_CODE_BITS", "3", "INDEX_CODE_BITS is one of 1|2|4|8, not '3'"},
        {"INDEX_CODE_BITS", "16", "INDEX_CODE_BITS is one of"},
        {"INDEX_FULL_VECTORS", "both", "INDEX_FULL_VECTORS is one of"},
        {"SEARCH_RECALL", "0.49", "SEARCH_RECALL is a number from 0.5 to 1, not '0.49'"},
        {"SEARCH_RECALL", "1.001", "SEARCH_RECALL"},
        {"SEARCH_RECALL", "0,9", "SEARCH_RECALL"},
        {"SEARCH_RECALL", "0.9.9", "SEARCH_RECALL"},
        {"SEARCH_RECALL", "nan", "SEARCH_RECALL"},
        {"SEARCH_RECALL", ".", "SEARCH_RECALL"},
        {"SEARCH_RECALL", "1e0", "SEARCH_RECALL"},
        {"LOG_LEVEL", "verbose", "LOG_LEVEL is one of"},
        {"LOG_FORMAT", "xml", "LOG_FORMAT is one of"},
        {"INSECURE", "maybe", "INSECURE is one of"},
        {"DEVICE_STRICT", "2", "DEVICE_STRICT is one of"},
        {"OCR_LANGUAGES", "../../etc/x", "OCR_LANGUAGES"},
        {"OCR_LANGUAGES", "eng+", "OCR_LANGUAGES"},
        {"OCR_LANGUAGES", "eng fra", "OCR_LANGUAGES"},
        {"OCR_LANGUAGES", "a/b/c", "OCR_LANGUAGES"},
        {"INGEST_ROOTS", ":", "INGEST_ROOTS names no folder"},
        {"MODEL_PRECISION", "fp8", "MODEL_PRECISION is one of"},
        {"QUERY_PROMPT", "please", "QUERY_PROMPT is one of"},
        {"BATCH_SIZE_VISUAL", "65", "BATCH_SIZE_VISUAL"},
        {"BATCH_SIZE_TEXT", "0", "BATCH_SIZE_TEXT"},
        {"CHROMA_PORT", "0", "CHROMA_PORT is a whole number from 1 to 65535, not '0'"},
        {"CHROMA_PORT", "65536", "CHROMA_PORT"},
        {"CHROMA_SSL", "tls", "CHROMA_SSL is one of"},
        {"CHROMA_TOKEN", "a\nb", "CHROMA_TOKEN has a control character"},
        {"CHROMA_HOST", "a\r\nX: y", "CHROMA_HOST has a control character"},
        {"HF_HUB_OFFLINE", "maybe", "HF_HUB_OFFLINE is one of"},
        {"CORS_ORIGIN", "https://a\r\nX: y", "CORS_ORIGIN has a control character"},
        {"API_KEY_FILE", "/nowhere/key", "API_KEY_FILE: file /nowhere/key: No such file"},
        {"DOCUSEARCH_CONFIG", "/nowhere/settings", "settings: file /nowhere/settings"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        setenv(cases[i].variable, cases[i].value, 1);
        refuse(cases[i].part, NULL, NULL);
        unsetenv(cases[i].variable);
    }
    refuse("--worker-port needs a value", "--worker-port", NULL);
    refuse("--config needs a value", "--config", NULL);
    refuse("DATA_DIR is empty", "--data-dir", "");
    refuse("WORKER_PORT is empty", "--worker-port", "");
    refuse("not given as a flag", "--api-key", "secret");
    refuse("not given as a flag", "--api-key=secret", NULL);
}

/* Names that ChromaDB takes, also with the words behind them that ours end in. */
static void names_of_collections(void **state) {
    struct fixture *fixture = *state;
    char longest[402];
    memset(longest, 'x', sizeof longest);
    longest[400] = '\0';
    static const char *const names[] = {"abc", "A-b_c.9", "0..0"};
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        setenv("VISUAL_COLLECTION", names[i], 1);
        assert_string_equal(load(fixture, NULL)->visual_collection, names[i]);
    }
    setenv("VISUAL_COLLECTION", longest, 1);
    assert_string_equal(load(fixture, NULL)->visual_collection, longest);
    unsetenv("VISUAL_COLLECTION");

    longest[400] = 'x';
    longest[401] = '\0';
    static const char *const variables_of[] = {"VISUAL_COLLECTION", "TEXT_COLLECTION"};
    const char *const wrong[] = {"ab",
                                 "-abc",
                                 "abc-",
                                 ".abc",
                                 "abc_",
                                 "a b c",
                                 "a/b/c",
                                 "a%20b",
                                 "\xC3\xA4"
                                 "bc",
                                 longest};
    for (size_t i = 0; i < BASE_COUNT(variables_of); i++) {
        for (size_t j = 0; j < BASE_COUNT(wrong); j++) {
            setenv(variables_of[i], wrong[j], 1);
            refuse(variables_of[i], NULL, NULL);
        }
        unsetenv(variables_of[i]);
    }
    setenv("TEXT_COLLECTION", "visual_collection", 1);
    refuse("VISUAL_COLLECTION and TEXT_COLLECTION are both 'visual_collection'", NULL, NULL);
}

static void chroma_goes_with_every_vector(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(load(fixture, "--chroma-host", "::1", NULL)->chroma_host, "::1");
    put_file("a.env", "CHROMA_HOST=from.a.file\n");
    assert_string_equal(load(fixture, "--config=a.env", NULL)->chroma_host, "from.a.file");
    setenv("CHROMA_HOST", "chroma.example", 1);
    assert_string_equal(load(fixture, NULL)->chroma_host, "chroma.example");
    refuse("CHROMA_HOST needs INDEX_FULL_VECTORS=true", "--index-full-vectors=0", NULL);
    setenv("INDEX_FULL_VECTORS", "false", 1);
    refuse("CHROMA_HOST needs INDEX_FULL_VECTORS=true", NULL, NULL);
    assert_false(load(fixture, "--chroma-host=", NULL)->index_full_vectors);
    assert_string_equal(load(fixture, "--index-full-vectors=1", NULL)->chroma_host,
                        "chroma.example");
}

/* By variable and by file; a flag would be read by other users of the machine, and is none. */
static void secrets(void **state) {
    struct fixture *fixture = *state;
    put_file("a.env", "CHROMA_TOKEN=of a file\nHF_TOKEN='of a file'\n");
    const struct settings *s = load(fixture, "--config=a.env", NULL);
    assert_string_equal(s->chroma_token, "of a file");
    assert_string_equal(s->hf_token, "of a file");
    setenv("CHROMA_TOKEN", "very-secret-1", 1);
    setenv("HF_TOKEN", "very-secret-2", 1);
    s = load(fixture, "--config=a.env", NULL);
    assert_string_equal(s->chroma_token, "very-secret-1");
    assert_string_equal(s->hf_token, "very-secret-2");
    struct buf out = {0};
    settings_describe(&out, s);
    assert_non_null(strstr(out.data, " CHROMA_TOKEN=*** "));
    assert_non_null(strstr(out.data, " HF_TOKEN=*** "));
    assert_null(strstr(out.data, "very-secret"));
    buf_fini(&out);
    char *argv[] = {"docusearch", "--chroma-token", "x", "--hf-token=x", NULL};
    int argc = 4;
    struct error err;
    settings_fini(&fixture->settings);
    assert_true(settings_load(&fixture->settings, &argc, argv, &err));
    assert_int_equal(argc, 4); /* left for the command, which knows no such flags */
}

static void wrong_files_are_refused(void **state) {
    (void)state;
    put_file("a", "WORKER_PORT=1\n\nWORKER_POTR=2\n");
    refuse("a line 3: unknown setting 'WORKER_POTR'", "--config", "a");
    put_file("a", "WORKER_PORT\n");
    refuse("a line 1: 'WORKER_PORT' is not KEY=VALUE", "--config", "a");
    put_file("a", "worker_port=1\n");
    refuse("unknown setting 'worker_port'", "--config", "a");
    put_file("a", "WORKER_PORT=x\n");
    refuse("WORKER_PORT is a whole number", "--config", "a");
    put_file("a", "MAX_PAGES=\xFF\n");
    refuse("is not text", "--config", "a");
    refuse("settings: file .: Is a directory", "--config=.", NULL);
}

static void the_key_and_its_file(void **state) {
    struct fixture *fixture = *state;
    put_file("key", " \tsecret-1 \r\nsecond line\n");
    put_file("empty", "\nsecond line\n");
    assert_string_equal(load(fixture, "--api-key-file", "key", NULL)->api_key, "secret-1");
    setenv("API_KEY_FILE", "key", 1);
    assert_string_equal(load(fixture, NULL)->api_key, "secret-1");
    setenv("API_KEY", "secret-2", 1);
    refuse("API_KEY and API_KEY_FILE are both given", NULL, NULL);
    assert_string_equal(load(fixture, "--api-key-file=key", NULL)->api_key, "secret-1");
    unsetenv("API_KEY_FILE");
    assert_string_equal(load(fixture, NULL)->api_key, "secret-2");
    put_file("env", "API_KEY_FILE=key\n");
    assert_string_equal(load(fixture, "--config=env", NULL)->api_key, "secret-2");
    unsetenv("API_KEY");
    refuse("the first line of empty is empty", "--api-key-file=empty", NULL);
}

static void effective_settings_in_one_line(void **state) {
    struct fixture *fixture = *state;
    setenv("API_KEY", "very-secret", 1);
    const struct settings *s = load(fixture, "--uploads-dir", "with space", "--log-level=debug",
                                    "--ingest-roots=/a:/b", "--max-file-size-mb=3",
                                    "--hf-endpoint=http://me:very-secret@hub.example/x", NULL);
    struct buf out = {0};
    settings_describe(&out, s);
    static const char *const parts[] = {
        "DATA_DIR=/",
        " INGEST_ROOTS=/a:/b ",
        " WORKER_HOST=127.0.0.1 WORKER_PORT=8002 ",
        "/with space' ",
        " MAX_FILE_SIZE_MB=3 ",
        " API_KEY=*** ",
        " LOG_LEVEL=debug ",
        " INSECURE=0 ",
        " DEVICE=auto ",
        " LOG_FORMAT=text ",
        " HF_ENDPOINT=http://***@hub.example/x ",
    };
    for (size_t i = 0; i < BASE_COUNT(parts); i++) {
        if (!strstr(out.data, parts[i]))
            fail_msg("no '%s' in '%s'", parts[i], out.data);
    }
    assert_null(strstr(out.data, "very-secret"));
    assert_null(strchr(out.data, '\n'));
    buf_clear(&out);

    settings_help(&out);
    for (size_t i = 0; i < BASE_COUNT(variables); i++)
        assert_non_null(strstr(out.data, variables[i]));
    for (char *line = out.data, *next; (next = strchr(line, '\n')) != NULL; line = next + 1)
        assert_true(next - line <= 130);
    buf_fini(&out);
}

int run_settings_tests(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(defaults),
        IN_FOLDER(each_by_variable),
        IN_FOLDER(each_by_flag),
        IN_FOLDER(each_by_file),
        IN_FOLDER(flag_beats_variable_beats_file),
        IN_FOLDER(other_arguments_stay_in_order),
        IN_FOLDER(unusable_values_are_refused),
        IN_FOLDER(names_of_collections),
        IN_FOLDER(chroma_goes_with_every_vector),
        IN_FOLDER(secrets),
        IN_FOLDER(wrong_files_are_refused),
        IN_FOLDER(the_key_and_its_file),
        IN_FOLDER(effective_settings_in_one_line),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
