/* Byte pair encoding over characters (Sennrich et al. 2016), as SentencePiece and the `tokenizers`
 * library do it: the pair whose merge stands first in the list is joined first, the leftmost of
 * equals before the others. Candidates wait in a heap and symbols in a linked list, so that a text
 * without a place to cut it takes n log n steps. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_MERGES ((size_t)1 << 22)
#define MAX_AFFIX 64
#define MAX_PROBES 4096
#define NO_ID UINT32_MAX

struct merge {
    uint32_t left, right, rank, id; /* id NO_ID: a free slot */
};
struct bpe {
    const struct vocab *vocab;
    struct merge *merges; /* open addressing */
    size_t n_merges, n_slots;
    int unknown;    /* -1: what is unknown is left out */
    int bytes[256]; /* tokens of single bytes, -1 where there is none */
    bool byte_fallback, fuse_unknown, ignore_merges;
    char prefix[MAX_AFFIX], suffix[MAX_AFFIX]; /* of a character inside a word, and at its end */
};

/* ---- merges --------------------------------------------------------------------------------- */

static size_t slot_of_pair(uint32_t left, uint32_t right, size_t n_slots) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (size_t)(h >> 32 ^ h >> 17) & (n_slots - 1);
}

/* The pair's slot or the free one where it would go; NULL: none near. */
static struct merge *slot_for(struct merge *slots, size_t n_slots, uint32_t left, uint32_t right) {
    size_t at = slot_of_pair(left, right, n_slots);
    for (int i = 0; i < MAX_PROBES; i++, at = (at + 1) & (n_slots - 1)) {
        struct merge *slot = &slots[at];
        if (slot->id == NO_ID || (slot->left == left && slot->right == right))
            return slot;
    }
    return NULL;
}

static const struct merge *merge_of(const struct bpe *self, uint32_t left, uint32_t right) {
    if (self->n_merges == 0)
        return NULL;
    const struct merge *slot = slot_for(self->merges, self->n_slots, left, right);
    return slot && slot->id != NO_ID ? slot : NULL;
}

static bool grow(struct bpe *self) {
    size_t n_slots = self->n_slots ? 2 * self->n_slots : 1024;
    struct merge *slots = mem_try(n_slots, sizeof(*slots), MAX_MERGES * 4 * sizeof(*slots));
    if (!slots)
        return false;
    memset(slots, 0xFF, n_slots * sizeof(*slots));
    for (size_t i = 0; i < self->n_slots; i++) {
        const struct merge *merge = &self->merges[i];
        if (merge->id == NO_ID)
            continue;
        struct merge *slot = slot_for(slots, n_slots, merge->left, merge->right);
        if (!slot) {
            mem_free(slots);
            return false;
        }
        *slot = *merge;
    }
    mem_free(self->merges);
    self->merges = slots;
    self->n_slots = n_slots;
    return true;
}

/* A pair that comes again takes its later place. */
static bool add_merge(struct bpe *self, struct merge merge) {
    if (self->n_merges == MAX_MERGES || (2 * self->n_merges >= self->n_slots && !grow(self)))
        return false;
    struct merge *slot = slot_for(self->merges, self->n_slots, merge.left, merge.right);
    if (!slot)
        return false;
    self->n_merges += slot->id == NO_ID;
    *slot = merge;
    return true;
}

/* Of "left right" or ["left", "right"], the left one with its length in scan->text at *cut. both:
 * the two, one after the other. */
static bool read_pair(struct buf *both, size_t *cut, struct json_scan *scan, struct error *err) {
    buf_clear(both);
    if (json_scan_peek(scan) == '"') {
        if (!json_scan_string(scan, err))
            return false;
        const char *text = scan->text.data;
        size_t len = scan->text.len;
        const char *space = len ? memchr(text, ' ', len) : NULL;
        if (!space || memchr(space + 1, ' ', len - (size_t)(space - text) - 1))
            return tokenizer_bad(err, scan->path, "merge '%.60s' is not of two tokens",
                                 text ? text : "");
        *cut = (size_t)(space - text);
        buf_append(both, text, *cut);
        buf_append(both, space + 1, len - *cut - 1);
        return true;
    }
    bool first = true;
    if (!json_scan_enter(scan, '[', err))
        return false;
    int n = 0;
    struct error inside = {0};
    while (json_scan_next(scan, '[', &first, &inside) && json_scan_string(scan, &inside)) {
        if (n++ == 0)
            *cut = scan->text.len;
        buf_append(both, scan->text.data, scan->text.len);
    }
    if (inside.kind != 0) {
        *err = inside;
        return false;
    }
    return n == 2 ? true
                  : tokenizer_bad(err, scan->path, "a merge of %d tokens before byte %zu", n,
                                  scan->pos);
}

static bool merge_read(struct bpe *self, struct buf *both, size_t cut, uint32_t rank,
                       const char *path, struct error *err) {
    size_t prefix_len = strlen(self->prefix), right_len = both->len - cut;
    char *text = both->data ? both->data : (char *)"";
    int left = vocab_find(self->vocab, text, cut);
    int right = vocab_find(self->vocab, text + cut, right_len), joined = -1;
    if (left >= 0 && right >= 0) {
        /* The right one's prefix goes. */
        if (right_len < prefix_len || memcmp(text + cut, self->prefix, prefix_len) != 0)
            return tokenizer_bad(err, path, "merge %u: '%.60s' lacks the prefix", rank, text + cut);
        memmove(text + cut, text + cut + prefix_len, right_len - prefix_len);
        joined = vocab_find(self->vocab, text, both->len - prefix_len);
    }
    if (joined < 0)
        return tokenizer_bad(err, path, "merge %u, '%.*s' and '%.60s': no such tokens", rank,
                             (int)(cut > 60 ? 60 : cut), text, text + cut);
    if (!add_merge(self, (struct merge){(uint32_t)left, (uint32_t)right, rank, (uint32_t)joined}))
        return tokenizer_bad(err, path, "no room for merge %u", rank);
    return true;
}

static bool read_merges(struct bpe *self, const char *json, size_t len, const char *path,
                        struct error *err) {
    struct json_scan scan;
    struct buf both = {0};
    struct error problem = {0};
    uint32_t rank = 0;
    json_scan_init(&scan, json, len, path);
    bool first = true, ok = json_scan_enter(&scan, '[', &problem);
    while (ok && json_scan_next(&scan, '[', &first, &problem)) {
        size_t cut = 0;
        bool text = json_scan_peek(&scan) == '"';
        if (text && scan.len - scan.pos > 9 && memcmp(scan.json + scan.pos, "\"#version", 9) == 0)
            ok = json_scan_string(&scan, &problem);
        else
            ok = read_pair(&both, &cut, &scan, &problem) &&
                 merge_read(self, &both, cut, rank++, path, &problem);
    }
    json_scan_fini(&scan);
    buf_fini(&both);
    if (problem.kind == 0)
        return true;
    *err = problem;
    return false;
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool read_affix(char out[MAX_AFFIX], const json_t *spec, const char *key, const char *path,
                       struct error *err) {
    const char *text;
    if (!tokenizer_text(&text, spec, key, "", path, err))
        return false;
    if (strlen(text) >= MAX_AFFIX)
        return tokenizer_bad(err, path, "%s of more than %d bytes", key, MAX_AFFIX - 1);
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static void find_bytes(struct bpe *self) {
    static const char digits[] = "0123456789ABCDEF";
    for (int i = 0; i < 256; i++) {
        char token[] = {'<', '0', 'x', digits[i >> 4], digits[i & 15], '>'};
        self->bytes[i] = vocab_find(self->vocab, token, sizeof(token));
    }
}

static bool read_spec(struct bpe *self, const json_t *spec, const char *path, struct error *err) {
    const json_t *dropout = json_object_get(spec, "dropout");
    const char *unknown;
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return tokenizer_unsupported(err, path, "BPE with dropout");
    if (!tokenizer_text(&unknown, spec, "unk_token", "", path, err) ||
        !tokenizer_bool(&self->byte_fallback, spec, "byte_fallback", false, path, err) ||
        !tokenizer_bool(&self->fuse_unknown, spec, "fuse_unk", false, path, err) ||
        !tokenizer_bool(&self->ignore_merges, spec, "ignore_merges", false, path, err) ||
        !read_affix(self->prefix, spec, "continuing_subword_prefix", path, err) ||
        !read_affix(self->suffix, spec, "end_of_word_suffix", path, err))
        return false;
    self->unknown = -1;
    if (unknown[0] != '\0') {
        self->unknown = vocab_find(self->vocab, unknown, strlen(unknown));
        if (self->unknown < 0)
            return tokenizer_bad(err, path, "unk_token '%.60s' is no token", unknown);
    }
    find_bytes(self);
    return true;
}

bool bpe_read(struct bpe **out, const json_t *spec, const char *merges, size_t merges_len,
              const struct vocab *vocab, const char *path, struct error *err) {
    struct bpe *self = mem_alloc(sizeof(*self));
    self->vocab = vocab;
    *out = NULL;
    if (!read_spec(self, spec, path, err) || !read_merges(self, merges, merges_len, path, err)) {
        bpe_free(self);
        return false;
    }
    *out = self;
    return true;
}

void bpe_free(struct bpe *bpe) {
    if (!bpe)
        return;
    mem_free(bpe->merges);
    mem_free(bpe);
}

/* ---- encoding ------------------------------------------------------------------------------- */

struct symbol {
    uint32_t id;
    int32_t prev, next; /* -1: none */
    bool gone;
};
/* Joining the symbol at pos with its next one would give id. */
struct candidate {
    uint32_t rank, pos, id;
};
struct word {
    struct symbol *symbols;
    int32_t n;
    struct candidate *heap;
    size_t n_heap;
};

static bool before(const struct candidate *a, const struct candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void push(struct word *word, struct candidate candidate) {
    size_t at = word->n_heap++;
    for (; at > 0 && before(&candidate, &word->heap[(at - 1) / 2]); at = (at - 1) / 2)
        word->heap[at] = word->heap[(at - 1) / 2];
    word->heap[at] = candidate;
}

static struct candidate pop(struct word *word) {
    struct candidate top = word->heap[0], last = word->heap[--word->n_heap];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= word->n_heap)
            break;
        if (child + 1 < word->n_heap && before(&word->heap[child + 1], &word->heap[child]))
            child++;
        if (!before(&word->heap[child], &last))
            break;
        word->heap[at] = word->heap[child];
        at = child;
    }
    word->heap[at] = last;
    return top;
}

static void consider(struct word *word, const struct bpe *self, int32_t left) {
    int32_t right = left < 0 ? -1 : word->symbols[left].next;
    if (right < 0)
        return;
    const struct merge *merge = merge_of(self, word->symbols[left].id, word->symbols[right].id);
    if (merge)
        push(word, (struct candidate){merge->rank, (uint32_t)left, merge->id});
}

static void merge_all(struct word *word, const struct bpe *self) {
    for (int32_t i = 0; i < word->n; i++)
        consider(word, self, i);
    while (word->n_heap > 0) {
        struct candidate top = pop(word);
        struct symbol *left = &word->symbols[top.pos];
        if (left->gone || left->next < 0)
            continue;
        struct symbol *right = &word->symbols[left->next];
        const struct merge *merge = merge_of(self, left->id, right->id);
        /* A candidate of symbols that have changed since. */
        if (!merge || merge->id != top.id)
            continue;
        left->id = top.id;
        left->next = right->next;
        right->gone = true;
        if (right->next >= 0)
            word->symbols[right->next].prev = (int32_t)top.pos;
        consider(word, self, left->prev);
        consider(word, self, (int32_t)top.pos);
    }
}

static void add_symbol(struct word *word, int id) {
    int32_t at = word->n++;
    word->symbols[at] = (struct symbol){.id = (uint32_t)id, .prev = at - 1, .next = -1};
    if (at > 0)
        word->symbols[at - 1].next = at;
}

/* A character as its bytes' tokens; false when one of them has none. */
static bool add_bytes(struct word *word, const struct bpe *self, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (self->bytes[(unsigned char)text[i]] < 0)
            return false;
    }
    for (size_t i = 0; i < len; i++)
        add_symbol(word, self->bytes[(unsigned char)text[i]]);
    return true;
}

static void add_symbols(struct word *word, const struct bpe *self, const char *text, size_t len) {
    size_t prefix_len = strlen(self->prefix), suffix_len = strlen(self->suffix);
    int unknown = -1; /* waiting to be added */
    for (size_t pos = 0; pos < len;) {
        char unit[4 + 2 * MAX_AFFIX];
        size_t start = pos, n = 0;
        utf8_next(text, len, &pos);
        if (start > 0) {
            memcpy(unit, self->prefix, prefix_len);
            n = prefix_len;
        }
        memcpy(unit + n, text + start, pos - start);
        n += pos - start;
        if (pos == len) {
            memcpy(unit + n, self->suffix, suffix_len);
            n += suffix_len;
        }
        int id = vocab_find(self->vocab, unit, n);
        if (id >= 0) {
            if (unknown >= 0)
                add_symbol(word, unknown);
            unknown = -1;
            add_symbol(word, id);
        } else if (!self->byte_fallback || !add_bytes(word, self, unit, n)) {
            /* The library adds an unknown only when the next one is met, behind bytes between. */
            if (unknown >= 0 && !self->fuse_unknown)
                add_symbol(word, unknown);
            unknown = self->unknown;
        }
    }
    if (unknown >= 0)
        add_symbol(word, unknown);
}

void bpe_encode(struct ids *out, const struct bpe *self, const char *text, size_t len) {
    if (self->ignore_merges) {
        int id = vocab_find(self->vocab, text, len);
        if (id >= 0) {
            ids_add(out, id);
            return;
        }
    }
    /* A character gives at most a symbol a byte, of its affixes too; a merge adds two candidates
     * and takes a symbol. */
    struct arena *arena = arena_new(0);
    size_t affixes = strlen(self->prefix) + strlen(self->suffix);
    size_t most = self->byte_fallback ? len * (1 + strlen(self->prefix)) + affixes : len;
    struct word word = {.symbols = arena_alloc(arena, most * sizeof(*word.symbols))};
    add_symbols(&word, self, text, len);
    word.heap = arena_alloc(arena, 3 * (size_t)word.n * sizeof(*word.heap) + 1);
    merge_all(&word, self);
    for (int32_t i = 0; i < word.n; i++) {
        if (!word.symbols[i].gone)
            ids_add(out, (int)word.symbols[i].id);
    }
    arena_free(arena);
}
