/* tokenizer, inside: the stages between a text and its ids.
 *
 *   text ─► added tokens ─► normalizer ─► added tokens ─► pre-tokenizer ─► model ─► template
 *
 * Every stage does what the `tokenizers` library 0.22 does with the same JSON, to the id; each is
 * read from its member of tokenizer.json by its own file. Readers take a path for messages and
 * refuse (ERROR_INPUT bad_model) what is malformed, and (ERROR_UNSUPPORTED) what they do not
 * know, by name. A tokenizer does not change once it is open: any number of threads may encode. */
#ifndef DOCUSEARCH_MODEL_TOKENIZER_H
#define DOCUSEARCH_MODEL_TOKENIZER_H

#include "model/internal.h"

#define TOKENIZER_MAX_FILE ((size_t)128 << 20)
#define TOKENIZER_MAX_TEXT ((size_t)1 << 20) /* a longer text is read to here */
#define TOKENIZER_MAX_ID ((1 << 24) - 1)
#define TOKENIZER_MAX_STEPS 64 /* of a sequence, and its depth */

/* ERROR_INPUT bad_model and ERROR_UNSUPPORTED, "<path>: …". Both give false. */
bool tokenizer_bad(struct error *err, const char *path, const char *format, ...) BASE_PRINTF(3, 4);
bool tokenizer_unsupported(struct error *err, const char *path, const char *format, ...)
    BASE_PRINTF(3, 4);
/* Members of a step's object. A missing or null one is the fallback; a string without one (NULL) is
 * required. The text is the object's. */
bool tokenizer_bool(bool *out, const json_t *spec, const char *key, bool fallback, const char *path,
                    struct error *err);
bool tokenizer_text(const char **out, const json_t *spec, const char *key, const char *fallback,
                    const char *path, struct error *err);

/* ---- unicode.c: characters as the library's tables have them -------------------------------- */

/* Its tables are of several ages, from Unicode 8 to 17. */
bool unicode_is_control(uint32_t c);     /* Cc, Cf, Co */
bool unicode_is_nonspacing(uint32_t c);  /* Mn */
bool unicode_is_mark(uint32_t c);        /* M */
bool unicode_is_punctuation(uint32_t c); /* P, and ASCII's symbols */
bool unicode_is_letter(uint32_t c);      /* a regular expression's \p{L} */
bool unicode_is_number(uint32_t c);      /* … \p{N} */
bool unicode_is_word(uint32_t c);        /* … \w */
bool unicode_is_numeric(uint32_t c);     /* N, as the pre-tokenizer Digits knows it */
int unicode_lower(uint32_t out[2], uint32_t c);
void unicode_normalize(struct buf *out, enum text_form form, const char *text, size_t len);

/* ---- json_scan.c: JSON read where it lies --------------------------------------------------- */

/* A vocabulary is millions of values: read one after another, nothing is kept of them. */
struct json_scan {
    const char *json;
    size_t len, pos;
    const char *path;
    struct buf text; /* of the last string */
    int depth;
};
void json_scan_init(struct json_scan *scan, const char *json, size_t len, const char *path);
void json_scan_fini(struct json_scan *scan);
/* Steps into an object or an array; *_next gives false at its end (which it steps over) or on an
 * error, told apart by err->kind being set: zero it before. A member's name is in scan->text. */
bool json_scan_enter(struct json_scan *scan, char bracket, struct error *err);
bool json_scan_next(struct json_scan *scan, char bracket, bool *first, struct error *err);
bool json_scan_member(struct json_scan *scan, bool *first, struct error *err);
char json_scan_peek(struct json_scan *scan); /* the next value's first byte; 0 at the end */
bool json_scan_string(struct json_scan *scan, struct error *err); /* into scan->text */
bool json_scan_int(int64_t *out, struct json_scan *scan, struct error *err);
/* Steps over a value; *start and *len are where it lies. */
bool json_scan_skip(const char **start, size_t *len, struct json_scan *scan, struct error *err);

/* ---- vocab.c: tokens by their bytes, pairs of ids ------------------------------------------- */

struct vocab;
struct vocab *vocab_new(void);
void vocab_free(struct vocab *vocab);
/* Of an object {"token": id, …}. Refuses an id or a token that comes twice. */
bool vocab_read(struct vocab *vocab, const char *json, size_t len, const char *path,
                struct error *err);
/* False when the token is there already, or there is no room. */
bool vocab_add(struct vocab *vocab, const char *token, size_t len, int id);
int vocab_find(const struct vocab *vocab, const char *token, size_t len); /* -1: none */
int vocab_count(const struct vocab *vocab);
/* All tokens in no order, from *at 0; no NUL follows one. False after the last. */
bool vocab_next(size_t *at, const char **token, size_t *len, int *id, const struct vocab *vocab);
int vocab_n_ids(const struct vocab *vocab); /* the largest id + 1 */
size_t vocab_longest(const struct vocab *vocab);

/* ---- pieces --------------------------------------------------------------------------------- */

/* A part of the text: yet to be read (id -1), or an added token. */
struct piece {
    const char *text;
    size_t len;
    int id;
    bool first; /* starts where the whole text does */
};
struct pieces {
    struct piece *items;
    size_t n, cap;
    struct arena *arena; /* of the items and of texts made on the way */
};
void pieces_add(struct pieces *pieces, const char *text, size_t len, int id, bool first);

/* ---- added.c -------------------------------------------------------------------------------- */

struct normalizer;
struct added;
/* Gives each token its id: the vocabulary's, else the next after it; one that the file gives
 * another id is refused. */
bool added_read(struct added **out, const json_t *list, const struct vocab *vocab,
                const struct normalizer *normalizer, const char *path, struct error *err);
void added_free(struct added *added);
int added_n_ids(const struct added *added);
int added_find(const struct added *added, const char *token); /* -1: none */
/* Cuts a piece at the tokens that are matched as they stand, or at those that are matched in
 * normalized text. */
void added_split(struct pieces *out, const struct added *added, bool normalized,
                 const struct piece *in);

/* ---- normalize.c ---------------------------------------------------------------------------- */

bool normalizer_read(struct normalizer **out, const json_t *spec, const char *path,
                     struct error *err);
void normalizer_free(struct normalizer *normalizer);
/* text is valid UTF-8; what is written ends at out->max. *first is kept only while nothing before
 * the first character went. */
void normalizer_apply(struct buf *out, const struct normalizer *normalizer, bool *first,
                      const char *text, size_t len);

/* ---- pretokenize.c -------------------------------------------------------------------------- */

struct pretokenizer;
bool pretokenizer_read(struct pretokenizer **out, const json_t *spec, const char *path,
                       struct error *err);
void pretokenizer_free(struct pretokenizer *pretokenizer);
void pretokenizer_apply(struct pieces *out, const struct pretokenizer *pretokenizer,
                        const struct pieces *in);

/* ---- wordpiece.c, bpe.c --------------------------------------------------------------------- */

struct ids {
    int *items;
    size_t n, cap;
    struct arena *arena;
};
void ids_add(struct ids *ids, int id);

/* Members of the model's object but "vocab" and "merges", which are read where they lie. */
struct wordpiece;
bool wordpiece_read(struct wordpiece **out, const json_t *spec, const struct vocab *vocab,
                    const char *path, struct error *err);
void wordpiece_free(struct wordpiece *wordpiece);
void wordpiece_encode(struct ids *out, const struct wordpiece *wordpiece, const char *text,
                      size_t len);
struct bpe;
bool bpe_read(struct bpe **out, const json_t *spec, const char *merges, size_t merges_len,
              const struct vocab *vocab, const char *path, struct error *err);
void bpe_free(struct bpe *bpe);
void bpe_encode(struct ids *out, const struct bpe *bpe, const char *text, size_t len);

/* ---- template.c ----------------------------------------------------------------------------- */

/* The ids around a text. */
struct template {
    int *before, *after;
    int n_before, n_after;
};
bool template_read(struct template *out, struct arena *arena, const json_t *spec, const char *path,
                   struct error *err);

#endif
