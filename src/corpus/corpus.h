/* corpus: the product. Documents in, answers out; the pipeline between.
 *
 * An upload streams into tmp/ while it is hashed; it is acknowledged once its bytes are synced
 * under its id and its job is committed. A worker reads it (read), cuts it into chunks (doc), has
 * pages and passages embedded by the models' owners (model, index), and puts rows, chunks, full
 * text and the vectors' places into the store in one commit. Any thread may call any function. Rows
 * and jobs are listed through corpus_store and corpus_queue. */
#ifndef DOCUSEARCH_CORPUS_H
#define DOCUSEARCH_CORPUS_H

#include "index/index.h"
#include "model/model.h"
#include "queue/queue.h"
#include "read/read.h"
#include "store/store.h"

struct corpus;
/* Takes the data folder's lock (ERROR_BUSY data_folder_in_use and *holder_url, see
 * store_lock_take), opens store, readers and queue; starts no thread. settings must outlive the
 * corpus. */
bool corpus_open(struct corpus **out, char **holder_url, const struct settings *settings,
                 struct error *err);
bool corpus_set_url(struct corpus *corpus, const char *url, struct error *err); /* into the lock */
bool corpus_start(struct corpus *corpus, struct error *err);                    /* workers */
void corpus_stop(struct corpus *corpus);  /* leaves waiting jobs waiting; returns within seconds */
void corpus_close(struct corpus *corpus); /* stops first; NULL is fine */

struct store *corpus_store(struct corpus *corpus);
struct queue *corpus_queue(struct corpus *corpus);
struct read_pool *corpus_readers(struct corpus *corpus);
const struct settings *corpus_settings(const struct corpus *corpus);

/* ---- adding --------------------------------------------------------------------------------- */

enum added_status {
    /* New, or known and queued again: it had failed or been cancelled, or lacks vectors of a model
     * that is ready. */
    ADDED_QUEUED,
    ADDED_KNOWN, /* the same bytes are here, or on their way, already */
};
struct added {
    char doc_id[SHA256_HEX + 1];
    int64_t job_id; /* of the new job, or the document's newest */
    enum added_status status;
};

/* One upload, by one thread. filename: what the client calls it; its last path component is kept
 * (at most 255 bytes, invalid UTF-8 replaced, control characters replaced). source_path "" for an
 * upload. Errors: empty_file, too_large (ERROR_LIMIT), unsupported_type (ERROR_UNSUPPORTED, known
 * after the first 4 KiB), queue_full (ERROR_BUSY), disk_full, storage_error. */
struct corpus_upload;
bool corpus_upload_open(struct corpus_upload **out, struct corpus *corpus, const char *filename,
                        const char *source_path, int64_t expected_bytes /* -1 unknown */,
                        struct error *err);
bool corpus_upload_write(struct corpus_upload *upload, const void *data, size_t len,
                         struct error *err);
/* Both end the upload and free it. */
bool corpus_upload_finish(struct added *out, struct corpus_upload *upload, struct error *err);
void corpus_upload_abort(struct corpus_upload *upload); /* NULL is fine */

/* Copies the file at path into the corpus and remembers path as its source. filename NULL: the
 * path's last part. confined: the real path must lie under one of the ingest roots, else
 * ERROR_CONFLICT path_forbidden. A path that was another document's source is this one's now; the
 * other document goes if it has no other source. */
bool corpus_add_path(struct added *out, struct corpus *corpus, const char *path,
                     const char *filename, bool confined, struct error *err);
/* Is this file's extension one that we take (and that SUPPORTED_FORMATS allows)? */
bool corpus_takes_name(const struct corpus *corpus, const char *filename);

/* ---- removing ------------------------------------------------------------------------------- */

struct removed {
    bool found;
    char doc_id[SHA256_HEX + 1];
    char filename[256];
    int n_pages, n_chunks; /* removed; 0 while other sources keep the document */
    bool kept;             /* other sources of the same bytes remain */
};
/* Cancels its jobs, removes rows, full text and files. found false: no such document. */
bool corpus_remove(struct removed *out, struct corpus *corpus, const char *doc_id,
                   struct error *err);
/* By the content of the file at path when that lies under an ingest root and its content is ours,
 * else by the path it came from. moved_to: the file lies there now (NULL: nowhere), so a document
 * of the Python worker goes on under that path (out->kept). */
bool corpus_remove_path(struct removed *out, struct corpus *corpus, const char *path,
                        const char *moved_to, struct error *err);

/* What happens to documents beside their jobs. */
enum document_change {
    DOCUMENT_REMOVED, /* all of it, whoever did it */
    DOCUMENT_FOUND,   /* another worker put it, or put it anew */
};
/* Any thread, which holds no lock; quick. */
typedef void (*corpus_listener)(void *ctx, enum document_change change, const char *doc_id,
                                const char *filename);
/* While the corpus is not started; NULL: none. */
void corpus_set_listener(struct corpus *corpus, corpus_listener listener, void *ctx);

/* ---- reading back --------------------------------------------------------------------------- */

/* The document as it was read (document.bin). ERROR_MISSING not_found; ERROR_CONFLICT not_ready. */
bool corpus_load(struct document **out, struct corpus *corpus, const char *doc_id,
                 struct error *err);

/* The heading path in force at byte off of a chunk, out of chunk_row's heading_path. */
char *corpus_heading(struct arena *arena, const char *headings, uint32_t off);

/* ---- models --------------------------------------------------------------------------------- */

/* Each model has one owner, a thread that corpus_start begins: it loads the model, then embeds what
 * it is given in batches, questions first (also between two layers of a batch of pages). */
enum model_role { ROLE_VISUAL, ROLE_TEXT };
enum model_state {
    MODEL_READY,
    MODEL_LOADING,
    MODEL_NOT_INSTALLED,
    MODEL_FAILED, /* refused at load: reason names file and tensor */
    MODEL_OFF,    /* its setting says "none" */
};
const char *model_state_name(enum model_state state); /* "ready", …, "off" */
struct model_facts {
    enum model_state state;
    const char *name, *reason;      /* reason "" when ready */
    const char *precision, *device; /* "" unless ready */
    const char *space;              /* "" unless ready */
    const char *warning;            /* "" or why it is not the one that the setting names */
    int dim;
    bool late;
    double load_seconds;
    double items_per_second; /* pages or passages, over the last batches; 0: none yet */
    int64_t n_embedded, n_waiting;
};
/* Strings are the arena's. TEXT_MODEL=visual: both roles show the one model. */
void corpus_model(struct model_facts *out, struct arena *arena, struct corpus *corpus,
                  enum model_role role);
/* READY documents that searches by the role's model pass over, having no vectors of it: read before
 * it was there, or by another precision. 0 unless it is ready; -1 not known. A second old at most.
 */
int64_t corpus_without_vectors(struct corpus *corpus, enum model_role role);
/* Why a model in this state cannot embed, false: what: "visual" or "text"; reason: its facts'. One
 * that is READY cannot because the program stops. */
bool corpus_refuse(enum model_state state, const char *what, const char *reason, struct error *err);
void corpus_device(struct device_info *out, struct corpus *corpus);
struct index *corpus_index(struct corpus *corpus);
/* By the model's owner, in batches of its size. space: the one that the vectors must be of, NULL:
 * whichever is in use. ERROR_DEVICE model_not_installed, model_failed; ERROR_BUSY model_loading,
 * model_changed. Values are the arena's. */
bool corpus_embed(struct embedding *out, struct arena *arena, struct corpus *corpus,
                  enum model_role role, const char *space, const struct model_input *inputs, int n,
                  struct error *err);

/* ---- embedding again ------------------------------------------------------------------------ */

/* Documents that are read, embedded again from their stored pages and passages. Without a model: by
 * those in use, the documents that lack vectors or all. With one: every document, into a space of
 * its own beside the old, while searches use the old; when none lacks vectors of it, it takes its
 * role at once and the old space goes. Ends by itself, goes on after a restart. ERROR_CONFLICT
 * reindex_running (a run of another kind), in_use, not_shared; ERROR_MISSING model_not_installed.
 */
enum reindex_mode {
    REINDEX_MISSING,
    REINDEX_ALL,
    REINDEX_TO_STORE, /* nothing is embedded: own documents into the shared store, each looked at;
                       */
    REINDEX_TO_INDEX, /* or the vectors of others' documents from there into the index here */
};
bool corpus_reindex(struct corpus *corpus, enum reindex_mode mode,
                    const char *model /* "": those in use */, struct error *err);
bool corpus_reindex_cancel(struct corpus *corpus); /* false: none is under way */
enum reindex_state { REINDEX_IDLE, REINDEX_RUNNING, REINDEX_FAILED };
/* Of the run under way, or the last one since the start. Strings are the arena's. */
struct reindex_facts {
    enum reindex_state state;
    const char *mode;    /* "missing", "all", "store", "index"; "" none yet */
    const char *model;   /* "": those in use */
    const char *role;    /* "visual", "text", "both"; "" not known */
    const char *space;   /* that is being filled; "" not known, or several */
    const char *outcome; /* "completed", "cancelled", "failed"; "" none yet */
    const char *error_code, *error_text;
    const char *note;                  /* "" or what it waits for, or what a person should know */
    int64_t n_done, n_total, n_failed; /* documents */
    int64_t n_pages;                   /* done by this run */
    double pages_per_second;
    int64_t remaining_ms;            /* -1 not known */
    int64_t started_ms, finished_ms; /* wall; 0 not yet */
};
void corpus_reindex_facts(struct reindex_facts *out, struct arena *arena, struct corpus *corpus);
int64_t corpus_embedding_again(struct corpus *corpus); /* documents whose job waits or runs */

/* ---- searching ------------------------------------------------------------------------------ */

enum search_mode { SEARCH_HYBRID, SEARCH_VISUAL, SEARCH_TEXT, SEARCH_LEXICAL };
struct search_request {
    /* 1..1000 characters: words, "phrases", prefix*; -word and -"phrase" leave out the passages,
     * and of the visual stage the pages, that have them. Models are asked the rest. */
    const char *query;
    enum search_mode mode;
    int n_results; /* 1..100 */
    struct search_filter filter;
    double min_score; /* of the scale that the mode's scores have; -INFINITY: any */
    bool exact;       /* every vector that the filter lets through is scored in full */
};
enum box_kind { BOXES_WORDS, BOXES_PATCHES };
/* What one stage gave a result. */
struct search_part {
    const char *stage;   /* "lexical", "dense", "visual" */
    int rank;            /* of the page among those that the stage found, from 1 */
    double score;        /* the stage's own */
    double contribution; /* to the result's score; of one stage alone all of it */
};
enum { SEARCH_STAGES = 3 };
/* Scores: lexical BM25, from 0 without a bound; text and visual the cosine, -1..1, or, of a late
 * model, MaxSim: the sum over the question's tokens (text without its model: BM25); hybrid the
 * fused ranks, 0..1, whatever stages acted. */
struct search_result {
    int rank; /* from 1 */
    double score;
    struct search_part parts[SEARCH_STAGES]; /* of the stages that found it */
    int n_parts;
    struct document_row document;
    int page;                      /* from 1; 0 unknown */
    int chunk;                     /* ordinal; -1: the page has no passage */
    const char *heading_path;      /* at the passage's best place */
    const char *preview;           /* about 300 bytes of the passage around its best place */
    struct text_range *highlights; /* bytes of preview */
    int n_highlights;
    /* Of all matched words on that page, at most 200; where there are none, of the patches that fit
     * the question best, at most 5. */
    struct doc_box *boxes;
    int n_boxes;
    enum box_kind box_kind;
    float page_width_pt, page_height_pt; /* 0 unknown */
};
/* One stage of a search: what it gave, or why it could not act. */
struct search_stage {
    const char *name; /* "lexical", "dense", "visual" */
    double ms;
    int candidates;
    bool by_vectors;            /* then effort tells of it */
    struct index_effort effort; /* items that the index scored, stage by stage */
    const char *unavailable;    /* NULL, or "no visual model is installed" */
    const char *note; /* NULL, or "3 documents have no vectors of this model", "the question was cut
                       * at 256 tokens", "the question has only words to leave out" */
};
struct search_reply {
    struct search_result *results;
    int n_results;
    double ms;
    struct search_stage stages[SEARCH_STAGES];
    int n_stages;
};
/* One result a page, its best passage, best first; ties stable. SEARCH_VISUAL without a visual
 * model is ERROR_DEVICE model_not_installed; hybrid and text use what is there and say what is not.
 */
bool corpus_search(struct search_reply *out, struct arena *arena, struct corpus *corpus,
                   const struct search_request *request, struct error *err);

/* ---- why a page ----------------------------------------------------------------------------- */

/* How well each patch of a page fits a word: grid_height rows of grid_width patches, over which the
 * page's picture lies stretched, so that a patch's place in the grid is its place on the page. A
 * word in several pieces has the mean of theirs. */
struct explained_word {
    const char *text;
    size_t start, end; /* bytes of the query */
    float *similarities;
    float max;             /* the largest of them */
    struct doc_box *boxes; /* of its best places, at most 3, best first */
    int n_boxes;
};
struct explanation {
    int grid_width, grid_height;
    struct explained_word *words; /* as they stand in the query; none where it has no word */
    int n_words;
    float *similarities;   /* the sum of the words' */
    struct doc_box *boxes; /* of its best places, at most 5 */
    int n_boxes;
    float page_width_pt, page_height_pt;
};
/* By the visual model in use and the unpooled vectors that the index keeps of the page (from 1);
 * the page is not embedded again. ERROR_MISSING not_found (document or page), no_vectors,
 * no_patches (kept pooled: INDEX_FULL_VECTORS=false); ERROR_UNSUPPORTED no_patches: not a model of
 * patches; ERROR_CONFLICT not_ready; ERROR_INPUT: query; without a model as corpus_embed. */
bool corpus_explain(struct explanation *out, struct arena *arena, struct corpus *corpus,
                    const char *doc_id, int page, const char *query, struct error *err);

#endif
