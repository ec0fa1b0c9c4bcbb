/* Added tokens: those that are found in the text before anything is done to it, and those found in
 * the normalized text. The leftmost is taken, of those that begin together the longest. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_ADDED 100000
#define MAX_CONTENT 512
#define MAX_NODES ((size_t)1 << 22)

struct token {
    char *content;
    int id;
    bool single_word, lstrip, rstrip, normalized, special;
};

/* A trie whose edges are in one table, keyed by node and byte. */
struct edge {
    uint32_t key, to; /* to 0: free */
};
struct trie {
    struct edge *edges;
    size_t n_edges, n_slots;
    int *ends; /* a node's token + 1; 0: none */
    size_t n_nodes, cap_nodes;
    bool begins[256];
};
struct added {
    struct token *tokens;
    int n, n_ids;
    struct vocab *by_content; /* gives the index */
    struct trie tries[2];     /* [1]: of normalized text */
};

/* ---- trie ----------------------------------------------------------------------------------- */

static struct edge *edge_of(struct edge *edges, size_t n_slots, uint32_t key) {
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 40) & (n_slots - 1);
    while (edges[at].to != 0 && edges[at].key != key)
        at = (at + 1) & (n_slots - 1);
    return &edges[at];
}

static uint32_t step(const struct trie *trie, uint32_t node, unsigned char byte) {
    return edge_of(trie->edges, trie->n_slots, node << 8 | byte)->to;
}

static bool grow_trie(struct trie *trie) {
    size_t n_slots = trie->n_slots ? 2 * trie->n_slots : 256;
    struct edge *edges = mem_try(n_slots, sizeof(*edges), 4 * MAX_NODES * sizeof(*edges));
    int *ends = edges ? mem_try_grow(trie->ends, n_slots, sizeof(*ends), SIZE_MAX) : NULL;
    if (!ends) {
        mem_free(edges);
        return false;
    }
    memset(ends + trie->cap_nodes, 0, (n_slots - trie->cap_nodes) * sizeof(*ends));
    for (size_t i = 0; i < trie->n_slots; i++) {
        if (trie->edges[i].to != 0)
            *edge_of(edges, n_slots, trie->edges[i].key) = trie->edges[i];
    }
    mem_free(trie->edges);
    trie->edges = edges;
    trie->ends = ends;
    trie->n_slots = trie->cap_nodes = n_slots;
    return true;
}

/* Node 0 is the root. The first of two tokens with one text keeps it. */
static bool trie_add(struct trie *trie, const char *text, size_t len, int token_i) {
    uint32_t node = 0;
    trie->begins[(unsigned char)text[0]] = true;
    for (size_t i = 0; i < len; i++) {
        if (2 * trie->n_edges >= trie->n_slots && (trie->n_nodes >= MAX_NODES || !grow_trie(trie)))
            return false;
        uint32_t key = node << 8 | (unsigned char)text[i];
        struct edge *edge = edge_of(trie->edges, trie->n_slots, key);
        if (edge->to == 0) {
            *edge = (struct edge){key, (uint32_t)++trie->n_nodes};
            trie->n_edges++;
        }
        node = edge->to;
    }
    if (trie->ends[node] == 0)
        trie->ends[node] = token_i + 1;
    return true;
}

/* The longest token at text[0], its length in *used; -1: none. */
static int trie_longest(size_t *used, const struct trie *trie, const char *text, size_t len) {
    int found = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        node = step(trie, node, (unsigned char)text[i]);
        if (node == 0)
            break;
        if (trie->ends[node] != 0) {
            found = trie->ends[node] - 1;
            *used = i + 1;
        }
    }
    return found;
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool read_token(struct token *out, const json_t *item, int *next_id,
                       const struct vocab *vocab, const char *path, struct error *err) {
    const char *content;
    const json_t *id = json_object_get(item, "id");
    if (!tokenizer_text(&content, item, "content", NULL, path, err) ||
        !tokenizer_bool(&out->single_word, item, "single_word", false, path, err) ||
        !tokenizer_bool(&out->lstrip, item, "lstrip", false, path, err) ||
        !tokenizer_bool(&out->rstrip, item, "rstrip", false, path, err) ||
        !tokenizer_bool(&out->special, item, "special", false, path, err) ||
        !tokenizer_bool(&out->normalized, item, "normalized", !out->special, path, err))
        return false;
    if (content[0] == '\0' || strlen(content) > MAX_CONTENT)
        return tokenizer_bad(err, path, "added token '%.60s' of %zu bytes, not 1 to %d", content,
                             strlen(content), MAX_CONTENT);
    out->id = vocab_find(vocab, content, strlen(content));
    if (out->id < 0)
        out->id = (*next_id)++;
    if (!json_is_integer(id) || json_integer_value(id) != out->id || out->id > TOKENIZER_MAX_ID)
        return tokenizer_bad(err, path, "added token '%.60s': its id is not %d", content, out->id);
    out->content = mem_strdup(content);
    return true;
}

static bool read_tokens(struct added *added, const json_t *list, const struct vocab *vocab,
                        const char *path, struct error *err) {
    const json_t *item;
    size_t i;
    int next_id = vocab_count(vocab);
    added->tokens = mem_try(json_array_size(list) + 1, sizeof(*added->tokens),
                            MAX_ADDED * sizeof(*added->tokens));
    if (!added->tokens)
        return tokenizer_bad(err, path, "more than %d added tokens", MAX_ADDED);
    json_array_foreach(list, i, item) {
        struct token *token = &added->tokens[added->n];
        if (!read_token(token, item, &next_id, vocab, path, err))
            return false;
        added->n++;
        if (token->id >= added->n_ids)
            added->n_ids = token->id + 1;
        if (!vocab_add(added->by_content, token->content, strlen(token->content), added->n - 1))
            return tokenizer_bad(err, path, "added token '%.60s' comes twice", token->content);
    }
    return true;
}

static bool fill_tries(struct added *added, bool special, const struct normalizer *normalizer,
                       const char *path, struct error *err) {
    for (int i = 0; i < added->n; i++) {
        const struct token *token = &added->tokens[i];
        struct buf text = {.max = 64 * MAX_CONTENT};
        bool first = true;
        if (token->special != special)
            continue;
        if (token->normalized)
            normalizer_apply(&text, normalizer, &first, token->content, strlen(token->content));
        else
            buf_puts(&text, token->content);
        bool empty = text.len == 0;
        bool fits = !empty && text.len <= 4 * MAX_CONTENT &&
                    trie_add(&added->tries[token->normalized], text.data, text.len, i);
        buf_fini(&text);
        if (!fits)
            return tokenizer_bad(err, path, "added token '%.60s' %s", token->content,
                                 empty ? "is nothing once normalized" : "has no room");
    }
    return true;
}

bool added_read(struct added **out, const json_t *list, const struct vocab *vocab,
                const struct normalizer *normalizer, const char *path, struct error *err) {
    struct added *added = mem_alloc(sizeof(*added));
    added->by_content = vocab_new();
    *out = NULL;
    bool ok = !list || json_is_null(list);
    if (!ok && !json_is_array(list))
        tokenizer_bad(err, path, "added_tokens is no list");
    else if (!ok)
        ok = read_tokens(added, list, vocab, path, err) &&
             fill_tries(added, true, normalizer, path, err) &&
             fill_tries(added, false, normalizer, path, err);
    if (!ok) {
        added_free(added);
        return false;
    }
    *out = added;
    return true;
}

void added_free(struct added *added) {
    if (!added)
        return;
    for (int i = 0; i < added->n; i++)
        mem_free(added->tokens[i].content);
    mem_free(added->tokens);
    for (int i = 0; i < 2; i++) {
        mem_free(added->tries[i].edges);
        mem_free(added->tries[i].ends);
    }
    vocab_free(added->by_content);
    mem_free(added);
}

int added_n_ids(const struct added *added) {
    return added->n_ids;
}

int added_find(const struct added *added, const char *token) {
    int i = vocab_find(added->by_content, token, strlen(token));
    return i < 0 ? -1 : added->tokens[i].id;
}

/* ---- splitting ------------------------------------------------------------------------------ */

/* The character that ends at pos > 0. */
static uint32_t char_before(const char *text, size_t *pos) {
    do
        --*pos;
    while (*pos > 0 && ((unsigned char)text[*pos] & 0xC0) == 0x80);
    size_t at = *pos;
    return utf8_next(text, at + 4, &at);
}

static bool stands_alone(const struct piece *in, size_t start, size_t stop) {
    if (stop < in->len) {
        size_t pos = stop;
        if (unicode_is_word(utf8_next(in->text, in->len, &pos)))
            return false;
    }
    size_t pos = start;
    return start == 0 || !unicode_is_word(char_before(in->text, &pos));
}

/* Where the spaces that end at start begin, not before from. */
static size_t spaces_back(const char *text, size_t from, size_t start) {
    for (size_t pos = start; pos > from; start = pos) {
        if (!text_is_space(char_before(text, &pos)))
            break;
    }
    return start;
}

static size_t spaces_on(const struct piece *in, size_t pos) {
    for (size_t next = pos; next < in->len; pos = next) {
        if (!text_is_space(utf8_next(in->text, in->len, &next)))
            break;
    }
    return pos;
}

/* As the library goes: a token may take spaces that it was not matched with, and the search goes on
 * from the end of the match alone. */
void added_split(struct pieces *out, const struct added *added, bool normalized,
                 const struct piece *in) {
    const struct trie *trie = &added->tries[normalized];
    size_t done = 0, spaces_end = 0;
    for (size_t pos = 0; pos < in->len;) {
        size_t used = 0;
        int i = trie->begins[(unsigned char)in->text[pos]]
                    ? trie_longest(&used, trie, in->text + pos, in->len - pos)
                    : -1;
        if (i < 0) {
            pos++;
            continue;
        }
        const struct token *token = &added->tokens[i];
        size_t start = pos, stop = pos + used;
        pos = stop;
        if (token->single_word && !stands_alone(in, start, stop))
            continue;
        if (token->lstrip)
            start = start > done ? spaces_back(in->text, done, start) : done;
        if (token->rstrip) {
            if (stop >= spaces_end)
                spaces_end = spaces_on(in, stop);
            stop = spaces_end;
        }
        if (done < start)
            pieces_add(out, in->text + done, start - done, -1, in->first && done == 0);
        if (start < stop)
            pieces_add(out, in->text + start, stop - start, token->id, in->first && start == 0);
        done = stop;
    }
    if (done < in->len)
        pieces_add(out, in->text + done, in->len - done, -1, in->first && done == 0);
}
