/* For src/chroma's own files.
 *
 * Requests and replies are JSON; large ones are written and taken apart as text. A row call names
 * its collection by UUID. `D` below is /api/v2/tenants/{tenant}/databases/{database}. */
#ifndef DOCUSEARCH_CHROMA_INTERNAL_H
#define DOCUSEARCH_CHROMA_INTERNAL_H

#include "chroma/chroma.h"
#include "http/http.h"

/* ---- wire.c: text and bytes ------------------------------------------------------------------ */

void chroma_base64_put(struct buf *out, const void *data, size_t len);
/* Bytes of base64 with padding, the arena's; NULL: it is none, or memory is short. */
void *chroma_base64_take(size_t *n_bytes, struct arena *arena, const char *text, size_t len);

#define CHROMA_MAX_ID 96
/* `<doc_id>-page<NNN>`, `<doc_id>-chunk<NNNN>`. */
void chroma_item_id(char out[CHROMA_MAX_ID], const char *doc_id, enum item_kind kind, int item);
/* What such an id names; what follows the number ("-t07") is passed over. False: another form. */
bool chroma_parse_id(char doc_id[SHA256_HEX + 1], int *item, enum item_kind kind, const char *id);

/* A value for metadata or a document: bytes that are no UTF-8 become U+FFFD. */
json_t *chroma_text(const char *text);
/* Sets it unless it is "" or NULL. */
void chroma_set_text(json_t *object, const char *name, const char *text);
const char *chroma_get_text(const json_t *object, const char *name); /* "" where it is not there */
int64_t chroma_get_int(const json_t *object, const char *name);      /* 0 where it is not there */
/* Appends compact JSON. */
void chroma_put_json(struct buf *out, const json_t *json);
/* {"doc_id":…} alone, or with revision: the rows of it; other: those of every other one. */
enum chroma_rows_of { CHROMA_ALL_ROWS, CHROMA_ROWS_OF_REVISION, CHROMA_ROWS_OF_OTHERS };
json_t *chroma_where(enum chroma_rows_of which, const char *doc_id, const char *revision);

/* A reply whose long values of the key "codes" were lifted out of it before it was parsed; in json
 * there are their numbers. */
struct chroma_lifted {
    json_t *json;
    const char **texts; /* borrowed from body */
    size_t *lens;
    int n;
};
/* Rewrites body. False: it is not JSON. */
bool chroma_lift(struct chroma_lifted *out, char *body, size_t len);
void chroma_lifted_fini(struct chroma_lifted *lifted);

/* ---- connection.c: calls --------------------------------------------------------------------- */

enum chroma_patience {
    CHROMA_READS,  /* silence of 20 s is the end */
    CHROMA_WRITES, /* of 120 s */
    CHROMA_PROBES, /* of 5 s */
};
extern int chroma_silence_ms[]; /* by enum chroma_patience; tests lower it */
struct chroma_call {
    const char *method, *target; /* the target under the base URL */
    const char *body;            /* NULL: none */
    size_t len;
    enum chroma_patience patience;
};
struct chroma_link;
bool chroma_link_open(struct chroma_link **out, const struct chroma_settings *settings,
                      struct error *err);
void chroma_link_close(struct chroma_link *link);
/* A reply of 2xx; fini it. ERROR_MISSING not_found (404), ERROR_CONFLICT conflict (409),
 * ERROR_LIMIT (413), ERROR_INTERNAL refused (another 4xx), ERROR_BUSY backend_unavailable (all
 * else). Retries; calls must bear being done twice. */
bool chroma_link_call(struct http_reply *out, struct chroma_link *link,
                      const struct chroma_call *call, struct error *err);
/* One attempt, whatever the breaker says. Further codes of ERROR_BUSY: broken (the connection ended
 * in the midst of it), faulty (500: the server cannot read its own index, for once or for good). */
#define CHROMA_BROKEN "broken"
#define CHROMA_FAULTY "faulty"
bool chroma_link_try(struct http_reply *out, struct chroma_link *link,
                     const struct chroma_call *call, struct error *err);
/* GET /api/v2/heartbeat, twice at most, whatever the breaker says; it opens or closes by it. False
 * too where something else than ChromaDB answers. */
bool chroma_link_probe(struct chroma_link *link, struct error *err);
struct chroma_link_state {
    bool up;
    const char *why;  /* the arena's */
    int64_t since_ms; /* wall */
    /* calls that ended their connection, found it ended or met an index that stayed faulty */
    int64_t n_broken;
    int64_t heard_ms; /* mono: of the last reply */
};
void chroma_link_state(struct chroma_link_state *out, struct arena *arena,
                       struct chroma_link *link);
const char *chroma_link_url(const struct chroma_link *link);  /* scheme://host:port */
const char *chroma_link_base(const struct chroma_link *link); /* D */

/* ---- collections.c --------------------------------------------------------------------------- */

/* 0–2 of pages, 3–5 of passages, 6 documents. */
enum { CHROMA_VECTORS, CHROMA_TOKENS, CHROMA_CODES, CHROMA_DOCUMENTS = 6 };
#define CHROMA_OF(kind, which) ((int)(kind)*3 + (which))
#define CHROMA_MAX_SPACE 256
#define CHROMA_MAX_NAME 480
#define CHROMA_REVISION 16 /* bytes of a revision that rows bear */
#define CHROMA_N_TOKENS 32 /* pooled vectors an item */

struct chroma_one {
    char name[CHROMA_MAX_NAME + 32];
    char uuid[40]; /* "": it is not there */
    char space[CHROMA_MAX_SPACE];
    int dim; /* that its vectors have; 0: it has none yet */
    bool late, foreign;
    int64_t n_rows; /* -1: not known */
};
struct chroma_set {
    struct chroma_one of[CHROMA_MAX_COLLECTIONS];
    struct chroma_space spaces[2]; /* as last told; names are in space_names */
    char space_names[2][CHROMA_MAX_SPACE];
    bool other[2]; /* vectors of another model stand there */
    bool known;    /* it was looked for */
    char epoch[SHA256_HEX + 1];
};

struct chroma {
    struct chroma_link *link;
    struct chroma_cache *cache;
    char *visual, *text; /* names of V */
    struct lock lock;    /* of all below */
    struct signal_cond checked;
    bool checking;
    struct chroma_set set;
    int max_batch;                  /* 0: not asked yet */
    bool stale;                     /* a UUID was not known: the collections are looked for anew */
    bool told;                      /* chroma_check was called */
    char suspect[40];               /* the collection whose touch went wrong last */
    int n_deaths;                   /* of the server, by it */
    int64_t touched_ms, counted_ms; /* mono; 0 never */
    int64_t n_broken_seen;
    int n_recovered;
    char note[256];
};

/* A copy of the collections as known, looked for first where they are not. */
bool chroma_current(struct chroma_set *out, struct chroma *chroma, struct error *err);
/* Asks the server for UUIDs again; *same: they are what set has. */
bool chroma_still(bool *same, struct chroma *chroma, const struct chroma_set *set,
                  struct error *err);
/* Since the server may have been started anew, as connections had ended, no check has touched its
 * collections: does this one have the vectors that its rows are of? Asks nothing where one has. */
bool chroma_prove_reads(struct chroma *chroma, const struct chroma_set *set, int i,
                        struct error *err);
/* ERROR_CONFLICT other_space, unless vectors of this space may be written to and asked of kind. */
bool chroma_check_space(const struct chroma_set *set, enum item_kind kind, const char *space,
                        struct error *err);

/* ---- rows.c ---------------------------------------------------------------------------------- */

/* POST D/collections/{uuid}/{verb}. The body may be NULL for GET count. A collection that is not
 * known any more is ERROR_BUSY and makes the next call look for it. */
bool chroma_post(struct http_reply *out, struct chroma *chroma, const char *uuid, const char *verb,
                 const char *body, size_t len, enum chroma_patience patience, struct error *err);
/* The same with JSON both ways; request is taken over. */
bool chroma_ask(json_t **reply, struct chroma *chroma, const char *uuid, const char *verb,
                json_t *request, struct error *err);
bool chroma_count(int64_t *n, struct chroma *chroma, const char *uuid, struct error *err);

/* Rows on their way in, as the bodies of /add calls. */
struct chroma_pile {
    struct chroma *chroma;
    const char *uuid;
    bool keep; /* hold all until chroma_pile_send; else bodies go as they fill */
    int max_batch;
    int n; /* rows of the body that is being made */
    struct buf ids, vectors, metadatas;
    struct buf *bodies; /* full ones, kept */
    int n_bodies;
};
void chroma_pile_init(struct chroma_pile *pile, struct chroma *chroma, const char *uuid, bool keep);
void chroma_pile_fini(struct chroma_pile *pile);
/* metadata is taken over; blob (may be NULL) becomes its key "codes", as base64. */
bool chroma_pile_add(struct chroma_pile *pile, const char *id, const float *vector, int dim,
                     json_t *metadata, const void *blob, size_t blob_len, struct error *err);
bool chroma_pile_send(struct chroma_pile *pile, struct error *err);

/* The ids of a collection's rows that where (taken over; NULL: all) names, sorted. */
struct chroma_ids {
    const char **ids;
    int n;
};
bool chroma_list_ids(struct chroma_ids *out, struct arena *arena, struct chroma *chroma,
                     const char *uuid, json_t *where, struct error *err);
bool chroma_has_id(const struct chroma_ids *ids, const char *id);
/* How many of these there are. */
bool chroma_count_ids(int *n_there, struct chroma *chroma, const char *uuid, const char *const *ids,
                      int n, struct error *err);
bool chroma_delete_ids(struct chroma *chroma, const char *uuid, const struct chroma_ids *ids,
                       struct error *err);
bool chroma_delete_where(struct chroma *chroma, const char *uuid, json_t *where, struct error *err);
/* Can each of these be found as a vector? */
bool chroma_prove(bool *all, struct chroma *chroma, const char *uuid, int dim,
                  const struct chroma_ids *ids, struct error *err);

/* ---- cache.c: codes -------------------------------------------------------------------------- */

/* Counted; its bytes die with the last reference. */
struct chroma_coded {
    struct index_codes codes;
    struct arena *arena;
    char key[CHROMA_MAX_ID];
    char uuid[40], revision[CHROMA_REVISION + 1];
    int n_refs;
    struct chroma_coded *next, *newer, *older; /* of a bucket; by use */
};
struct chroma_cache *chroma_cache_new(size_t max_bytes);
void chroma_cache_free(struct chroma_cache *cache);
struct chroma_coded *chroma_cache_find(struct chroma_cache *cache, const char *uuid,
                                       const char *id); /* a reference, or NULL */
/* Takes over arena, which has the codes; gives a reference. */
struct chroma_coded *chroma_cache_put(struct chroma_cache *cache, const char *uuid, const char *id,
                                      const char *revision, const struct index_codes *codes,
                                      struct arena *arena);
void chroma_coded_unref(struct chroma_cache *cache, struct chroma_coded *coded);
/* A document's codes of other revisions than this ("": any) are no longer good. */
void chroma_cache_drop(struct chroma_cache *cache, const char *doc_id, const char *revision);

/* ---- record.c: what a record is on the wire ---------------------------------------------------
 */

json_t *chroma_record_put(const struct chroma_record *record); /* metadata */
json_t *chroma_tombstone_put(const char *doc_id, int64_t generation, const char *worker,
                             int64_t removed_ms, int64_t changed_ms);
/* False: it is none of ours. Strings are the arena's. */
bool chroma_record_take(struct chroma_record *out, struct arena *arena, const json_t *metadata);
/* The names that people see alone: what may change while the rows stay. */
bool chroma_same_names(const struct chroma_record *a, const struct chroma_record *b);
json_t *chroma_page_put(const struct chroma_record *record, int page);
json_t *chroma_chunk_put(const struct chroma_record *record, const struct chunk_row *chunk);
bool chroma_chunk_take(struct chunk_row *out, struct arena *arena, const json_t *metadata);
/* The names in metadata of a row of V. */
json_t *chroma_names_put(const struct chroma_record *record);

/* ---- documents.c ----------------------------------------------------------------------------- */

/* Do items of this kind have tokens and codes? */
bool chroma_is_late(const struct chroma_set *set, enum item_kind kind);
/* An item's pooled vectors come first. */
void chroma_token_id(char out[CHROMA_MAX_ID], const char *item_id, int token);
/* What revision rows bear. */
void chroma_short_revision(char out[CHROMA_REVISION + 1], const char *revision);
bool chroma_find_record(struct chroma_record *out, bool *found, struct arena *arena,
                        struct chroma *chroma, const struct chroma_set *set, const char *doc_id,
                        struct error *err);
/* Every row of a document but its record (or those of other revisions alone), pages first. */
bool chroma_delete_rows(struct chroma *chroma, const struct chroma_set *set,
                        enum chroma_rows_of which, const char *doc_id, const char *revision,
                        struct error *err);
/* Deletes the record if its generation is below `below`, or live and that of `below`, or none that
 * is believed. */
bool chroma_delete_record(struct chroma *chroma, const struct chroma_set *set, const char *doc_id,
                          int64_t below, struct error *err);
/* Deletes what has a record's id and was read as none. */
bool chroma_drop_unbelieved(struct chroma *chroma, const struct chroma_set *set, const char *doc_id,
                            struct error *err);
/* After rows of a generation were deleted: a later one whose rows went with them is marked. */
bool chroma_mark_lost(struct chroma *chroma, const struct chroma_set *set,
                      const struct chroma_record *record, struct error *err);
/* {"$and":[{"doc_id":…,"type":"passage"},…]}: passages among the documents. */
json_t *chroma_where_passages(enum chroma_rows_of which, const char *doc_id, const char *revision);

/* ---- search.c -------------------------------------------------------------------------------- */

/* Codes of items by id: found[i] NULL where there are none; unref what is there. */
bool chroma_fetch_codes(struct chroma_coded **found, struct chroma *chroma, const char *uuid,
                        const char *const *ids, int n, struct error *err);

#endif
