/* Tokens by their bytes: a table with open addressing over one growing block of text. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_TOKENS ((size_t)1 << 22)
#define MAX_BYTES ((size_t)256 << 20)
/* A sound table has runs of some ten slots; more than this are tokens made to collide. */
#define MAX_PROBES 4096

/* Everything but the bytes in one place: a lookup goes to memory twice. */
struct slot {
    uint32_t hash, start, len;
    int id; /* FREE: none */
};
#define FREE (-1)
struct vocab {
    struct buf text;
    struct slot *slots;
    size_t n, n_slots; /* a power of two */
    uint8_t *taken;    /* a bit an id */
    size_t taken_bytes;
    int n_ids;
    size_t longest;
};

struct vocab *vocab_new(void) {
    struct vocab *vocab = mem_alloc(sizeof(*vocab));
    vocab->text.max = MAX_BYTES;
    return vocab;
}

void vocab_free(struct vocab *vocab) {
    if (!vocab)
        return;
    buf_fini(&vocab->text);
    mem_free(vocab->slots);
    mem_free(vocab->taken);
    mem_free(vocab);
}

static uint64_t mix(uint64_t h, uint64_t value) {
    h = (h ^ value) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint32_t hash_of(const char *token, size_t len) {
    uint64_t h = len, word;
    for (; len >= 8; token += 8, len -= 8) {
        memcpy(&word, token, 8);
        h = mix(h, word);
    }
    word = 0;
    memcpy(&word, token, len);
    h = mix(h, word);
    return (uint32_t)(mix(h, h >> 32) >> 32);
}

/* The token's slot, or the free one where it would go; NULL when none is near. */
static struct slot *slot_of(const struct vocab *vocab, const char *token, size_t len,
                            uint32_t hash) {
    size_t mask = vocab->n_slots - 1, at = hash & mask;
    for (int i = 0; i < MAX_PROBES; i++, at = (at + 1) & mask) {
        struct slot *slot = &vocab->slots[at];
        if (slot->id == FREE || (slot->hash == hash && slot->len == len &&
                                 memcmp(vocab->text.data + slot->start, token, len) == 0))
            return slot;
    }
    return NULL;
}

static bool grow(struct vocab *vocab) {
    size_t n_slots = vocab->n_slots ? 2 * vocab->n_slots : 1024;
    struct slot *slots = mem_try(n_slots, sizeof(*slots), MAX_TOKENS * 2 * sizeof(*slots));
    if (!slots)
        return false;
    for (size_t i = 0; i < n_slots; i++)
        slots[i].id = FREE;
    for (size_t i = 0; i < vocab->n_slots; i++) {
        const struct slot *slot = &vocab->slots[i];
        size_t at = slot->hash & (n_slots - 1);
        if (slot->id == FREE)
            continue;
        while (slots[at].id != FREE)
            at = (at + 1) & (n_slots - 1);
        slots[at] = *slot;
    }
    mem_free(vocab->slots);
    vocab->slots = slots;
    vocab->n_slots = n_slots;
    return true;
}

static bool id_is_taken(const struct vocab *vocab, int id) {
    size_t byte = (size_t)id / 8;
    return byte < vocab->taken_bytes && (vocab->taken[byte] >> id % 8 & 1) != 0;
}

static bool id_take(struct vocab *vocab, int id) {
    size_t byte = (size_t)id / 8;
    if (byte >= vocab->taken_bytes) {
        size_t size = 2 * byte + 1024;
        uint8_t *grown = mem_try_grow(vocab->taken, size, 1, TOKENIZER_MAX_ID);
        if (!grown)
            return false;
        memset(grown + vocab->taken_bytes, 0, size - vocab->taken_bytes);
        vocab->taken = grown;
        vocab->taken_bytes = size;
    }
    vocab->taken[byte] |= (uint8_t)(1 << id % 8);
    return true;
}

bool vocab_add(struct vocab *vocab, const char *token, size_t len, int id) {
    if (2 * vocab->n >= vocab->n_slots && !grow(vocab))
        return false;
    uint32_t hash = hash_of(token, len);
    struct slot *slot = slot_of(vocab, token, len, hash);
    if (!slot || slot->id != FREE || !id_take(vocab, id))
        return false;
    size_t start = vocab->text.len;
    buf_append(&vocab->text, token, len);
    if (vocab->text.failed)
        return false;
    *slot = (struct slot){hash, (uint32_t)start, (uint32_t)len, id};
    vocab->n++;
    if (id >= vocab->n_ids)
        vocab->n_ids = id + 1;
    if (len > vocab->longest)
        vocab->longest = len;
    return true;
}

bool vocab_read(struct vocab *vocab, const char *json, size_t len, const char *path,
                struct error *err) {
    struct json_scan scan;
    struct error problem = {0};
    json_scan_init(&scan, json, len, path);
    bool first = true, ok = json_scan_enter(&scan, '{', &problem);
    while (ok && json_scan_member(&scan, &first, &problem)) {
        /* The name stays in scan.text: a number leaves it alone. */
        int64_t id = 0;
        const char *token = scan.text.data ? scan.text.data : "";
        ok = json_scan_int(&id, &scan, &problem);
        if (!ok)
            break;
        if (id < 0 || id > TOKENIZER_MAX_ID)
            ok = tokenizer_bad(&problem, path, "token '%.60s' has id %lld", token, (long long)id);
        else if (id_is_taken(vocab, (int)id))
            ok = tokenizer_bad(&problem, path, "two tokens have id %lld, one is '%.60s'",
                               (long long)id, token);
        else if (!vocab_add(vocab, token, scan.text.len, (int)id))
            ok = vocab_find(vocab, token, scan.text.len) >= 0
                     ? tokenizer_bad(&problem, path, "token '%.60s' comes twice", token)
                     : tokenizer_bad(&problem, path, "no room for token '%.60s', after %zu", token,
                                     vocab->n);
    }
    json_scan_fini(&scan);
    if (problem.kind == 0)
        return true;
    *err = problem;
    return false;
}

int vocab_find(const struct vocab *vocab, const char *token, size_t len) {
    if (vocab->n == 0 || len > vocab->longest)
        return -1;
    const struct slot *slot = slot_of(vocab, token, len, hash_of(token, len));
    return slot ? slot->id : -1;
}

bool vocab_next(size_t *at, const char **token, size_t *len, int *id, const struct vocab *vocab) {
    while (*at < vocab->n_slots && vocab->slots[*at].id == FREE)
        ++*at;
    if (*at == vocab->n_slots)
        return false;
    const struct slot *slot = &vocab->slots[(*at)++];
    *token = vocab->text.data + slot->start;
    *len = slot->len;
    *id = slot->id;
    return true;
}

int vocab_count(const struct vocab *vocab) {
    return (int)vocab->n;
}

int vocab_n_ids(const struct vocab *vocab) {
    return vocab->n_ids;
}

size_t vocab_longest(const struct vocab *vocab) {
    return vocab->longest;
}
