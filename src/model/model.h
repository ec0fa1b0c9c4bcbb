/* model: from a Hugging Face folder to vectors.
 *
 * The engine's narrow face: texts and pictures in, unit vectors out; tensors, tokens and file
 * formats stay inside. One file a model family (bert.c, colpali.c); weights come from mapped
 * safetensors, tokens by what tokenizer.json states. Also the models themselves: where they lie,
 * fetching them from a hub, checking their bytes. */
#ifndef DOCUSEARCH_MODEL_H
#define DOCUSEARCH_MODEL_H

#include "device/device.h"

/* ---- where models lie ----------------------------------------------------------------------- */

/* A model is named as on a hub ("vidore/colpali-v1.2") or by its folder (a path with a '/' that
 * begins with '/', "./" or "../", or any existing folder). Looked for in: the folder itself;
 * MODELS_DIR/<owner>--<name>; huggingface_hub's cache (HF_HOME/hub/models--<owner>--<name>/…), in
 * place. */
struct model_place {
    const char *name;   /* as asked */
    const char *folder; /* absolute; "" when not installed */
    const char *origin; /* "folder", "models_dir", "hub_cache"; "" when no part of it is anywhere */
    bool installed;     /* complete: every file that its index names is there, whole */
    const char
        *problem; /* "" or what is wrong: "not installed", "model.safetensors: half fetched" */
    int64_t size_bytes;
};
/* Strings are the arena's. Never fails: what is wrong is the answer. */
void model_locate(struct model_place *out, struct arena *arena, const struct settings *settings,
                  const char *name);
/* The same without asking for the base that an adapter sits on. */
void model_locate_alone(struct model_place *out, struct arena *arena,
                        const struct settings *settings, const char *name);
/* All that are installed, or partly so; ascending by name. */
bool model_list(struct model_place **out, int *n, struct arena *arena,
                const struct settings *settings, struct error *err);
/* Only what is under MODELS_DIR is ever removed, with what MODELS_DIR/packed holds of it;
 * ERROR_CONFLICT for one of the hub's cache. */
bool model_remove(const struct settings *settings, const char *name, struct error *err);

/* Called while files come: of file i of n, done of total bytes (-1 unknown). False stops it (the
 * parts stay and the next pull goes on from there). */
struct pull_progress {
    void *ctx;
    bool (*file)(void *ctx, const char *file, int i, int n, int64_t done_bytes,
                 int64_t total_bytes);
};
/* Fetches what the model needs from HF_ENDPOINT into MODELS_DIR: each file to <name>.part, resumed
 * by range, its SHA-256 (LFS files) or git blob id checked, then renamed; last of all
 * `docusearch.json` (files, sizes, hashes, revision), without which a folder counts as half
 * fetched. A model already complete, also in the hub's cache, is left as it is, unless a revision
 * is named. Takes the base model of an adapter with it. ERROR_IO hub_unreachable, hub_error,
 * bad_certificate, offline (HF_HUB_OFFLINE), disk_full; ERROR_MISSING no_such_model,
 * no_such_revision; ERROR_CONFLICT token_needed, cancelled; ERROR_BUSY being_changed (by another
 * process); ERROR_INPUT checksum_mismatch, bad_listing, bad_model; ERROR_UNSUPPORTED not_a_model
 * (no safetensors, say). */
bool model_pull(struct model_place *out, struct arena *arena, const struct settings *settings,
                const char *name, const char *revision /* NULL: main */,
                const struct pull_progress *progress, struct error *err);
/* HF_ENDPOINT without the "user:password@" that it may have: for messages. */
char *model_hub_shown(struct arena *arena, const struct settings *settings);
/* Takes a folder's files (of a package, say) as the model `name`: checked, then copied under
 * MODELS_DIR as pull would have left them; what was there goes. An adapter is taken without its
 * base: see out->installed. */
bool model_adopt(struct model_place *out, struct arena *arena, const struct settings *settings,
                 const char *name, const char *folder, struct error *err);

/* ---- a model, loaded ------------------------------------------------------------------------ */

struct model;
struct model_options {
    const char *name;         /* for people and for the space */
    const char *folder;       /* of config.json */
    const char *base_folder;  /* of the base that an adapter sits on; NULL: located by settings */
    const char *packed_dir;   /* where packed weights are kept; NULL: in memory only */
    enum precision precision; /* AUTO: device_best_precision */
    const char *query_prompt; /* ColPali: "question", "query", "none" */
    const struct settings *settings;
    /* Asked between the tensors that are packed and the pieces that are hashed: true ends it with
     * ERROR_CONFLICT "cancelled". May be NULL. */
    bool (*stop)(void *ctx);
    void *stop_ctx;
};
struct model_info {
    const char *name, *family; /* "bert", "colbert", "colpali" */
    bool late;                 /* one vector a token; else one an input */
    bool takes_text, takes_images;
    int dim, max_tokens; /* of a passage; ColPali's are 2048 at most, of a question too */
    /* Patches of a picture, which is stretched over them: a picture's first vectors, row by row
     * from its top left corner. 0: no patches. */
    int grid_width, grid_height;
    enum precision precision;
    int64_t n_parameters, weight_bytes;
    char weights_hash[SHA256_HEX + 1]; /* over the files of weights, configuration and tokenizer */
    /* DESIGN: a space is named by model, weights hash, dimension and precision.
     * "<name>@<first 12 of hash>/<dim>/<precision>" */
    char space[256];
    bool packed_from_disk; /* weights were found packed */
    double load_seconds;
};
/* Refuses (ERROR_INPUT bad_model, the text naming file and tensor) what is missing, extra,
 * misshapen, NaN, truncated, overlapping; ERROR_UNSUPPORTED unknown_architecture. */
bool model_open(struct model **out, struct device *device, const struct model_options *options,
                struct error *err);
void model_close(struct model *model); /* NULL is fine */
const struct model_info *model_info(const struct model *model);

/* Of one call. A text is read to its first max_tokens × MODEL_TEXT_BYTES_TOKEN bytes, at least
 * MODEL_TEXT_BYTES_LEAST and at most a mebibyte: up to there, but for a word that is cut in two,
 * its tokens are those of the whole. What follows is not read, also where fewer than max_tokens
 * came of it (blanks, very long words). Of those tokens the first max_tokens are taken. */
enum {
    MODEL_INPUTS_MAX = 4096, /* more: ERROR_LIMIT */
    MODEL_TEXT_BYTES_TOKEN = 64,
    MODEL_TEXT_BYTES_LEAST = 65536,
};
enum input_kind { INPUT_QUERY, INPUT_PASSAGE, INPUT_IMAGE };
struct picture {
    const uint8_t *rgb; /* height rows of width pixels of 3 bytes */
    int width, height;  /* to a million each: past it ERROR_LIMIT image_limit */
};
struct model_input {
    enum input_kind kind;
    const char *text; /* any bytes; invalid UTF-8 is U+FFFD; cut as above */
    size_t len;
    struct picture picture; /* INPUT_IMAGE */
};
struct embedding {
    int n, dim;    /* vectors, their length */
    float *values; /* n × dim, each of length 1 (or all zero: a token that is masked) */
    int n_tokens;  /* that the model read */
    bool cut;      /* the text had more */
};
/* Between two layers; may itself embed with another call on the same model (a question that cannot
 * wait for a batch of pages). False ends the batch: ERROR_CONFLICT "cancelled". */
struct model_between {
    void *ctx;
    bool (*call)(void *ctx);
};
/* One batch, all of one kind, in out[0..n). values are the arena's. One thread at a time (but for
 * between). ERROR_UNSUPPORTED: the model does not take this kind; ERROR_LIMIT out_of_memory: try
 * fewer; ERROR_INTERNAL not_finite: a vector came out NaN or infinite. between may be NULL. */
bool model_embed(struct embedding *out, struct arena *arena, struct model *model,
                 const struct model_input *inputs, int n, const struct model_between *between,
                 struct error *err);

/* A word of a question: bytes [start, end) of its text, and the vectors that stand for it. */
struct model_word {
    size_t start, end;
    int first, n; /* n > 0 */
};
enum { MODEL_WORDS_MAX = 256 }; /* what follows is not told */
/* The words of the text of a question (INPUT_QUERY), ascending; how many. Vectors of prompts, pads
 * and signs stand for no word; words that the model does not read to, having too many tokens before
 * them, are left out, and words that share a token are one. No words: a model that is not late.
 * *out is the arena's. Any thread. */
int model_words(struct model_word **out, struct arena *arena, const struct model *model,
                const char *text, size_t len);

#endif
