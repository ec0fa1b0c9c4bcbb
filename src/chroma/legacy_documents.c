/* Documents of the Python worker: a document is known by its first page's and its first passage's
 * row, its passages by all of theirs. */
#include "chroma/legacy_internal.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- documents ------------------------------------------------------------------------------- */

/* "2025-10-31T12:34:56.789012", UTC; 0: another form. */
static int64_t wall_of(const char *timestamp) {
    struct tm tm = {0};
    const char *end = strptime(timestamp, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end)
        return 0;
    int64_t ms = 0, unit = 100;
    for (end += *end == '.'; isdigit((unsigned char)*end); end++, unit /= 10)
        ms += (*end - '0') * unit;
    time_t at = timegm(&tm);
    return at > 0 ? (int64_t)at * 1000 + ms : 0;
}

static const char *format_of(struct arena *arena, const json_t *metadata) {
    const char *format = chroma_get_text(metadata, "format");
    const char *dot = strrchr(chroma_get_text(metadata, "filename"), '.');
    if (!format[0])
        format = dot ? dot + 1 : "";
    char word[16] = "";
    for (size_t i = 0; format[i] && i + 1 < sizeof word; i++) {
        if (!isalnum((unsigned char)format[i]))
            return "";
        word[i] = (char)tolower((unsigned char)format[i]);
    }
    return arena_strdup(arena, word);
}

static const char *copied(struct arena *arena, const json_t *metadata, const char *name) {
    return arena_strdup(arena, chroma_get_text(metadata, name));
}

/* first, passage: metadata of its first row, and of its first passage (or NULL). */
static void take_document(struct chroma_legacy_document *out, struct arena *arena,
                          const struct legacy_listing *listing,
                          const struct legacy_document *document, const json_t *first,
                          const json_t *passage) {
    *out = (struct chroma_legacy_document){.their_id = arena_strdup(arena, document->their_id),
                                           .n_page_rows = document->n[ITEM_PAGE],
                                           .n_chunk_rows = document->n[ITEM_CHUNK]};
    struct document_row *row = &out->document;
    memcpy(row->doc_id, document->doc_id, sizeof row->doc_id);
    row->filename = copied(arena, first, "filename");
    row->source_path = copied(arena, first, "source_path");
    row->title = copied(arena, first, "title");
    row->author = copied(arena, first, "author");
    row->created = copied(arena, first, "created");
    row->format = format_of(arena, first);
    row->group = row->warning = row->error_code = row->error_text = "";
    row->state = DOCUMENT_READY;
    row->added_ms = row->ready_ms = wall_of(chroma_get_text(first, "timestamp"));
    row->n_chunks = document->n[ITEM_CHUNK];
    int64_t n_pages = chroma_get_int(first, "num_pages");
    row->n_pages = n_pages > 0 && n_pages < 1 << 20 ? (int)n_pages : 0;
    if (document->n[ITEM_PAGE] > 0) {
        int last = document->first[ITEM_PAGE] + document->n[ITEM_PAGE] - 1;
        int page = listing->rows[ITEM_PAGE][last].item;
        row->n_pages = page > row->n_pages ? page : row->n_pages;
    }
    int n_vectors;
    if (!legacy_shape(&n_vectors, &out->dim, first))
        out->dim = 0;
    out->cut = passage && !json_is_string(json_object_get(passage, "full_text"));
}

/* Reads a document's first rows. */
static bool read_document(struct chroma_legacy_document *out, bool *found, struct arena *arena,
                          struct chroma_legacy *legacy, const struct legacy_listing *listing,
                          const struct legacy_document *document, struct error *err) {
    struct legacy_rows rows[2] = {0};
    const json_t *firsts[2] = {NULL, NULL};
    bool ok = true;
    *found = false;
    for (int kind = ITEM_PAGE; ok && kind <= ITEM_CHUNK; kind++) {
        if (document->n[kind] == 0)
            continue;
        const char *id = listing->rows[kind][document->first[kind]].id;
        ok = legacy_fetch(&rows[kind], legacy, listing, (enum item_kind)kind, &id, 1, err);
        if (ok)
            firsts[kind] = legacy_metadata(&rows[kind], id);
    }
    const json_t *first = firsts[ITEM_PAGE] ? firsts[ITEM_PAGE] : firsts[ITEM_CHUNK];
    if (ok && first) {
        take_document(out, arena, listing, document, first, firsts[ITEM_CHUNK]);
        *found = true;
    }
    legacy_rows_fini(&rows[ITEM_PAGE]);
    legacy_rows_fini(&rows[ITEM_CHUNK]);
    return ok;
}

bool chroma_legacy_find(struct chroma_legacy_document *out, bool *found, struct arena *arena,
                        struct chroma_legacy *legacy, const char *doc_id, struct error *err) {
    struct legacy_listing *listing;
    *found = false;
    if (!legacy_list(&listing, legacy, err))
        return false;
    const struct legacy_document *document = legacy_lookup(listing, doc_id);
    bool ok = !document || read_document(out, found, arena, legacy, listing, document, err);
    legacy_unref(legacy, listing);
    return ok;
}

bool chroma_legacy_remove(bool *found, struct chroma_legacy *legacy, const char *doc_id,
                          struct error *err) {
    struct legacy_listing *listing;
    bool ok = true;
    *found = false;
    if (!legacy_list(&listing, legacy, err))
        return false;
    const struct legacy_document *document = legacy_lookup(listing, doc_id);
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK && document && ok; kind++) {
        *found = true;
        if (listing->uuids[kind][0])
            ok = chroma_delete_where(legacy->chroma, listing->uuids[kind],
                                     json_pack("{s:s}", "doc_id", document->their_id), err);
    }
    legacy_unref(legacy, listing);
    return ok;
}

bool chroma_legacy_list(struct chroma_legacy *legacy, chroma_legacy_visitor visit, void *ctx,
                        struct error *err) {
    struct legacy_listing *listing;
    if (!legacy_list(&listing, legacy, err))
        return false;
    bool ok = true;
    for (int i = 0; ok && i < listing->n_documents; i++) {
        struct chroma_legacy_document document;
        struct arena *arena = arena_new(0);
        bool found;
        ok = read_document(&document, &found, arena, legacy, listing, &listing->documents[i],
                           err) &&
             (!found || visit(ctx, &document, err));
        arena_free(arena);
    }
    legacy_unref(legacy, listing);
    return ok;
}

/* ---- passages -------------------------------------------------------------------------------- */

/* "[3,4]" as they wrote it, else the page alone. */
static void take_pages(struct chunk_row *out, const json_t *metadata) {
    int64_t first = chroma_get_int(metadata, "page"), last = first;
    json_t *pages = json_loads(chroma_get_text(metadata, "page_nums"), 0, NULL);
    for (size_t i = 0; i < json_array_size(pages); i++) {
        int64_t page = json_integer_value(json_array_get(pages, i));
        if (page < 1)
            continue;
        first = first < 1 || page < first ? page : first;
        last = page > last ? page : last;
    }
    json_decref(pages);
    bool sane = first >= 1 && last < 1 << 20;
    out->first_page = sane ? (int)first : 0;
    out->last_page = sane ? (int)last : 0;
}

static void take_chunk(struct chunk_row *out, struct arena *arena, const char *doc_id, int ordinal,
                       const json_t *metadata) {
    const char *text = chroma_get_text(metadata, "full_text");
    const char *heading = chroma_get_text(metadata, "section_path");
    if (!text[0])
        text = chroma_get_text(metadata, "text_preview");
    if (!heading[0])
        heading = chroma_get_text(metadata, "parent_heading");
    int64_t n_words = chroma_get_int(metadata, "word_count");
    *out = (struct chunk_row){.ordinal = ordinal,
                              .n_words = n_words > 0 && n_words < INT_MAX ? (int)n_words : 0,
                              .text = arena_strdup(arena, text),
                              .heading_path = arena_strdup(arena, heading)};
    snprintf(out->doc_id, sizeof out->doc_id, "%s", doc_id);
    take_pages(out, metadata);
}

/* Passages of rows [from, from + n) of the listing. */
static bool load_chunks(struct chunk_row *out, int *n_out, struct arena *arena,
                        struct chroma_legacy *legacy, const struct legacy_listing *listing,
                        int from, int n, struct error *err) {
    *n_out = 0;
    for (int at = from; at < from + n; at += LEGACY_BATCH) {
        const struct legacy_row *rows = listing->rows[ITEM_CHUNK] + at;
        const char *ids[LEGACY_BATCH];
        int some = from + n - at < LEGACY_BATCH ? from + n - at : LEGACY_BATCH;
        for (int i = 0; i < some; i++)
            ids[i] = rows[i].id;
        struct legacy_rows fetched;
        if (!legacy_fetch(&fetched, legacy, listing, ITEM_CHUNK, ids, some, err))
            return false;
        for (int i = 0; i < some; i++) {
            const json_t *metadata = legacy_metadata(&fetched, ids[i]);
            if (metadata)
                take_chunk(&out[(*n_out)++], arena, listing->documents[rows[i].document].doc_id,
                           rows[i].item, metadata);
        }
        legacy_rows_fini(&fetched);
    }
    return true;
}

bool chroma_legacy_load_chunks(struct chunk_row **out, int *n, struct arena *arena,
                               struct chroma_legacy *legacy, const char *doc_id,
                               struct error *err) {
    struct legacy_listing *listing;
    *out = NULL;
    *n = 0;
    if (!legacy_list(&listing, legacy, err))
        return false;
    const struct legacy_document *document = legacy_lookup(listing, doc_id);
    int n_rows = document ? document->n[ITEM_CHUNK] : 0;
    *out = arena_try(arena, (size_t)n_rows + 1, sizeof **out);
    bool ok = *out || error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d passages",
                                     n_rows);
    if (ok && document)
        ok = load_chunks(*out, n, arena, legacy, listing, document->first[ITEM_CHUNK], n_rows, err);
    legacy_unref(legacy, listing);
    return ok;
}

bool chroma_legacy_find_chunk(struct chunk_row *out, bool *found, struct arena *arena,
                              struct chroma_legacy *legacy, const char *doc_id, int ordinal,
                              struct error *err) {
    struct legacy_listing *listing;
    *found = false;
    if (!legacy_list(&listing, legacy, err))
        return false;
    const struct legacy_document *document = legacy_lookup(listing, doc_id);
    const struct legacy_row *row = document
                                       ? legacy_lookup_row(listing, document, ITEM_CHUNK, ordinal)
                                       : NULL;
    int n = 0;
    bool ok = !row || load_chunks(out, &n, arena, legacy, listing,
                                  (int)(row - listing->rows[ITEM_CHUNK]), 1, err);
    *found = n > 0;
    legacy_unref(legacy, listing);
    return ok;
}

/* ---- items ----------------------------------------------------------------------------------- */

bool chroma_legacy_items(int **out, int *n, struct arena *arena, struct chroma_legacy *legacy,
                         const char *doc_id, enum item_kind kind, struct error *err) {
    struct legacy_listing *listing;
    *n = 0;
    *out = NULL;
    if (!legacy_list(&listing, legacy, err))
        return false;
    const struct legacy_document *document = legacy_lookup(listing, doc_id);
    int n_rows = document ? document->n[kind] : 0;
    *out = arena_alloc(arena, ((size_t)n_rows + 1) * sizeof **out);
    for (int i = 0; i < n_rows; i++)
        (*out)[(*n)++] = listing->rows[kind][document->first[kind] + i].item;
    legacy_unref(legacy, listing);
    return true;
}

static bool load_item(float **vectors, int *n, struct arena *arena, struct chroma_legacy *legacy,
                      const struct legacy_listing *listing, enum item_kind kind, const char *id,
                      struct error *err) {
    struct legacy_rows rows;
    if (!legacy_fetch(&rows, legacy, listing, kind, &id, 1, err))
        return false;
    const json_t *metadata = legacy_metadata(&rows, id);
    float *decoded = NULL;
    bool ok = !metadata || legacy_vectors(&decoded, n, &rows, metadata, err);
    if (!ok)
        error_prefix(err, "%s", id);
    if (decoded) {
        *vectors = arena_try(arena, (size_t)*n, CHROMA_LEGACY_DIM * sizeof **vectors);
        ok = *vectors ||
             error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d vectors", *n);
        if (ok)
            memcpy(*vectors, decoded, (size_t)*n * CHROMA_LEGACY_DIM * sizeof **vectors);
    }
    mem_free(decoded);
    legacy_rows_fini(&rows);
    return ok;
}

bool chroma_legacy_load_item(float **vectors, int *n, bool *found, struct arena *arena,
                             struct chroma_legacy *legacy, const char *doc_id, enum item_kind kind,
                             int item, struct error *err) {
    struct legacy_listing *listing;
    *vectors = NULL;
    *n = 0;
    *found = false;
    if (!legacy_list(&listing, legacy, err))
        return false;
    const struct legacy_document *document = legacy_lookup(listing, doc_id);
    const struct legacy_row *row = document ? legacy_lookup_row(listing, document, kind, item)
                                            : NULL;
    bool ok = !row || load_item(vectors, n, arena, legacy, listing, kind, row->id, err);
    *found = ok && *vectors;
    legacy_unref(legacy, listing);
    return ok;
}
