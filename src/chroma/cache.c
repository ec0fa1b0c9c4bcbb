/* Codes of items that were reranked, as long as there is room: those used longest ago go first.
 *
 * They are kept by the collection's UUID and the item's id, with the revision their row bore, and
 * counted, so that one that is being scored may leave the cache. */
#include "chroma/internal.h"

#include <stdio.h>
#include <string.h>

#define N_BUCKETS 8192

struct chroma_cache {
    struct lock lock;
    struct chroma_coded *buckets[N_BUCKETS];
    struct chroma_coded *newest, *oldest;
    size_t used_bytes, max_bytes;
};

struct chroma_cache *chroma_cache_new(size_t max_bytes) {
    struct chroma_cache *cache = mem_alloc(sizeof *cache);
    cache->max_bytes = max_bytes;
    lock_init(&cache->lock, LOCK_EVENTS); /* after that of the connection */
    return cache;
}

static struct chroma_coded **bucket_of(struct chroma_cache *cache, const char *id) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *c = id; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    return &cache->buckets[(hash ^ hash >> 32) % N_BUCKETS];
}

static size_t bytes_of(const struct chroma_coded *coded) {
    return sizeof *coded + arena_used(coded->arena);
}

static void unref(struct chroma_coded *coded) {
    if (--coded->n_refs > 0)
        return;
    arena_free(coded->arena);
    mem_free(coded);
}

static void unlink_use(struct chroma_cache *cache, struct chroma_coded *coded) {
    *(coded->newer ? &coded->newer->older : &cache->newest) = coded->older;
    *(coded->older ? &coded->older->newer : &cache->oldest) = coded->newer;
    coded->newer = coded->older = NULL;
}

static void link_use(struct chroma_cache *cache, struct chroma_coded *coded) {
    coded->newer = NULL;
    coded->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = coded;
    cache->newest = coded;
}

static void take_out(struct chroma_cache *cache, struct chroma_coded *coded) {
    struct chroma_coded **at = bucket_of(cache, coded->key);
    while (*at != coded)
        at = &(*at)->next;
    *at = coded->next;
    unlink_use(cache, coded);
    cache->used_bytes -= bytes_of(coded);
    unref(coded);
}

void chroma_cache_free(struct chroma_cache *cache) {
    if (!cache)
        return;
    while (cache->oldest)
        take_out(cache, cache->oldest);
    lock_fini(&cache->lock);
    mem_free(cache);
}

static struct chroma_coded *look_up(struct chroma_cache *cache, const char *uuid, const char *id) {
    struct chroma_coded *coded = *bucket_of(cache, id);
    while (coded && (strcmp(coded->key, id) != 0 || strcmp(coded->uuid, uuid) != 0))
        coded = coded->next;
    return coded;
}

struct chroma_coded *chroma_cache_find(struct chroma_cache *cache, const char *uuid,
                                       const char *id) {
    lock_take(&cache->lock);
    struct chroma_coded *coded = look_up(cache, uuid, id);
    if (coded) {
        unlink_use(cache, coded);
        link_use(cache, coded);
        coded->n_refs++;
    }
    lock_drop(&cache->lock);
    return coded;
}

struct chroma_coded *chroma_cache_put(struct chroma_cache *cache, const char *uuid, const char *id,
                                      const char *revision, const struct index_codes *codes,
                                      struct arena *arena) {
    struct chroma_coded *coded = mem_alloc(sizeof *coded);
    coded->codes = *codes;
    coded->arena = arena;
    coded->n_refs = 2;
    snprintf(coded->key, sizeof coded->key, "%s", id);
    snprintf(coded->uuid, sizeof coded->uuid, "%s", uuid);
    snprintf(coded->revision, sizeof coded->revision, "%s", revision);
    lock_take(&cache->lock);
    struct chroma_coded *old = look_up(cache, uuid, id);
    if (old)
        take_out(cache, old);
    struct chroma_coded **bucket = bucket_of(cache, id);
    coded->next = *bucket;
    *bucket = coded;
    link_use(cache, coded);
    cache->used_bytes += bytes_of(coded);
    while (cache->used_bytes > cache->max_bytes)
        take_out(cache, cache->oldest);
    lock_drop(&cache->lock);
    return coded;
}

void chroma_coded_unref(struct chroma_cache *cache, struct chroma_coded *coded) {
    if (!coded)
        return;
    lock_take(&cache->lock);
    unref(coded);
    lock_drop(&cache->lock);
}

void chroma_cache_drop(struct chroma_cache *cache, const char *doc_id, const char *revision) {
    lock_take(&cache->lock);
    for (struct chroma_coded *coded = cache->newest, *older; coded; coded = older) {
        older = coded->older;
        if (strncmp(coded->key, doc_id, SHA256_HEX) == 0 &&
            (!revision[0] || strncmp(coded->revision, revision, CHROMA_REVISION) != 0))
            take_out(cache, coded);
    }
    lock_drop(&cache->lock);
}
