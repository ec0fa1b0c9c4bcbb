/* base: settings. The second part of its face; base.h brings it. */
#ifndef DOCUSEARCH_BASE_SETTINGS_H
#define DOCUSEARCH_BASE_SETTINGS_H

#include "base/base.h"

/* Every setting, once. Order of authority: flag (--worker-port 8002), environment (WORKER_PORT),
 * file (KEY=VALUE lines: --config FILE, else DOCUSEARCH_CONFIG, else none), default. Strings live
 * as long as the struct.. */
struct settings {
    const char *data_dir;    /* DATA_DIR ./data; made absolute */
    const char *uploads_dir; /* UPLOADS_DIR <data_dir>/uploads; absolute */
    /* INGEST_ROOTS, colon-separated, absolute; default uploads_dir */
    const char *const *ingest_roots;
    int n_ingest_roots;
    const char *worker_host;       /* WORKER_HOST 127.0.0.1 */
    int worker_port;               /* WORKER_PORT 8002; 0 takes a free one (tests) */
    int chunk_size_words;          /* TEXT_CHUNK_SIZE 250 */
    int chunk_overlap_words;       /* TEXT_CHUNK_OVERLAP 50, less than the size */
    int render_dpi;                /* PAGE_RENDER_DPI 150, 36..600 */
    int64_t max_file_bytes;        /* MAX_FILE_SIZE_MB 100 */
    int max_pages;                 /* MAX_PAGES 5000 */
    const char *supported_formats; /* SUPPORTED_FORMATS "" = all; else "pdf,docx,…" */
    const char *ocr_languages;     /* OCR_LANGUAGES eng; Tesseract's names joined by '+' */
    int n_workers;                 /* WORKER_THREADS 0 = one a processor, at most 8; resolved */
    int max_queue;                 /* MAX_QUEUE 100000 waiting jobs; past it 429 */
    const char *api_key;     /* API_KEY, or the first line of API_KEY_FILE; NULL: none. Secret */
    const char *cors_origin; /* CORS_ORIGIN "" = off */
    bool insecure;           /* INSECURE / --insecure: non-loopback bind without a key */
    const char *device;      /* DEVICE auto|mps|cuda|vulkan|cpu */
    bool device_strict;      /* DEVICE_STRICT */
    const char *model_name;  /* MODEL_NAME, the visual model; "none": off */
    const char *model_precision; /* MODEL_PRECISION auto|fp32|fp16|bf16|int8; of both models */
    const char *text_model;      /* TEXT_MODEL; "visual", "none" */
    const char *query_prompt;    /* QUERY_PROMPT question|query|none */
    const char *models_dir;      /* MODELS_DIR <data_dir>/models; absolute */
    int batch_visual;            /* BATCH_SIZE_VISUAL 4 pages */
    int batch_text;              /* BATCH_SIZE_TEXT 8 passages */
    int index_pool_factor;       /* INDEX_POOL_FACTOR 4, 1..64 */
    int index_code_bits;         /* INDEX_CODE_BITS 2: 1, 2, 4 or 8 */
    bool index_full_vectors;     /* INDEX_FULL_VECTORS */
    double search_recall;        /* SEARCH_RECALL 0.99, 0.5..1; 1: every page is scored */
    const char *chroma_host;     /* CHROMA_HOST "": vectors in the data folder alone */
    int chroma_port;             /* CHROMA_PORT 8000 */
    bool chroma_ssl;             /* CHROMA_SSL */
    const char *chroma_tenant, *chroma_database;     /* CHROMA_TENANT, CHROMA_DATABASE */
    const char *chroma_token;                        /* CHROMA_TOKEN; NULL: none. Secret */
    const char *visual_collection, *text_collection; /* VISUAL_COLLECTION, TEXT_COLLECTION */
    const char *hook_path_map; /* HOOK_PATH_MAP "": none; pairs FROM=TO, separated by commas */
    const char *hf_endpoint;   /* HF_ENDPOINT */
    const char *hf_home;       /* HF_HOME ~/.cache/huggingface; absolute, "" without a home */
    const char *hf_token;      /* HF_TOKEN; NULL: none. Secret */
    bool hf_offline;           /* HF_HUB_OFFLINE */
    enum log_level log_level;  /* LOG_LEVEL info */
    bool log_json;             /* LOG_FORMAT text|json */
    const char *log_file;      /* LOG_FILE NULL = stderr */
    struct arena *arena;
};
/* Takes the settings' flags (and --config) out of argv, leaving the rest in order and *argc
 * lowered. A flag that is no setting's stays for the command to judge. ERROR_INPUT names a setting,
 * its value and what it may be; an unknown key in the file is an error. */
bool settings_load(struct settings *out, int *argc, char **argv, struct error *err);
void settings_fini(struct settings *settings);
/* The effective settings as NAME=value pairs in one line, secrets as "***". */
void settings_describe(struct buf *out, const struct settings *settings);
/* One line a setting, for --help: flag, variable, default, meaning. */
void settings_help(struct buf *out);

#endif
