/* What metadata rows bear.
 *
 * Rows of V, by the names that readers of such collections know: doc_id, page, type ("visual",
 * "text"), filename, source_path, timestamp, title, author, format, num_pages, chunk_id,
 * text_preview, word_count; and ours: revision (its first 16 bytes), last_page, full_text,
 * heading_path, places (base64). What is "" is left out.
 *
 * Rows of documents: type "document" with the fields of struct chroma_record, `pages` being base64
 * of 12 bytes a page (width and height as little-endian float32, flags as uint32); or type
 * "passage", `<doc_id>-chunk<NNNN>`: one that has no vector, as in V. */
#include "chroma/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PAGE_BYTES 12
#define PREVIEW_BYTES 200
#define MAX_PAGES 100000

static void put_names(json_t *out, const struct document_row *row) {
    chroma_set_text(out, "filename", row->filename);
    chroma_set_text(out, "source_path", row->source_path);
    chroma_set_text(out, "title", row->title);
    chroma_set_text(out, "author", row->author);
}

json_t *chroma_names_put(const struct chroma_record *record) {
    static const char *const names[] = {"filename", "source_path", "title", "author"};
    json_t *out = json_object();
    put_names(out, &record->document);
    for (size_t i = 0; i < BASE_COUNT(names); i++) /* so that what there was does not stay */
        if (!json_object_get(out, names[i]))
            json_object_set_new(out, names[i], json_string(""));
    return out;
}

static bool same(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

bool chroma_same_names(const struct chroma_record *a, const struct chroma_record *b) {
    const struct document_row *x = &a->document, *y = &b->document;
    return same(x->filename, y->filename) && same(x->source_path, y->source_path) &&
           same(x->title, y->title) && same(x->author, y->author);
}

/* ---- documents ------------------------------------------------------------------------------- */

static uint32_t load32(const unsigned char *in) {
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static void store32(unsigned char *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(value >> 8 * i);
}

static void put_pages(json_t *out, const struct page_row *pages, int n) {
    struct buf text = {0};
    for (int i = 0; i < n; i++) {
        unsigned char bytes[PAGE_BYTES];
        uint32_t size[2];
        memcpy(&size[0], &pages[i].width_pt, 4);
        memcpy(&size[1], &pages[i].height_pt, 4);
        store32(bytes, size[0]);
        store32(bytes + 4, size[1]);
        store32(bytes + 8, pages[i].flags);
        chroma_base64_put(&text, bytes, sizeof bytes);
    }
    if (text.len > 0 && !text.failed)
        json_object_set_new(out, "pages", json_string(text.data));
    buf_fini(&text);
}

static bool take_pages(const struct page_row **out, struct arena *arena, const char *text, int n) {
    size_t len;
    const unsigned char *bytes = chroma_base64_take(&len, arena, text, strlen(text));
    if (!bytes || n < 0 || n > MAX_PAGES || len != (size_t)n * PAGE_BYTES)
        return false;
    struct page_row *pages = arena_try(arena, (size_t)n + 1, sizeof *pages);
    if (!pages)
        return false;
    for (int i = 0; i < n; i++, bytes += PAGE_BYTES) {
        uint32_t size[2] = {load32(bytes), load32(bytes + 4)};
        memcpy(&pages[i].width_pt, &size[0], 4);
        memcpy(&pages[i].height_pt, &size[1], 4);
        pages[i].flags = load32(bytes + 8);
        if (!isfinite(pages[i].width_pt) || !isfinite(pages[i].height_pt))
            return false;
    }
    *out = pages;
    return true;
}

json_t *chroma_record_put(const struct chroma_record *record) {
    const struct document_row *row = &record->document;
    json_t *out = json_pack(
        "{s:s,s:s,s:b,s:I,s:I,s:i,s:i,s:i,s:i,s:I,s:I}", "type", "document", "doc_id", row->doc_id,
        "removed", 0, "generation", (json_int_t)record->generation, "size_bytes",
        (json_int_t)row->size_bytes, "num_pages", row->n_pages, "num_chunks", row->n_chunks,
        "n_page_rows", record->n_page_rows, "n_chunk_rows", record->n_chunk_rows, "added_ms",
        (json_int_t)row->added_ms, "changed_ms", (json_int_t)record->changed_ms);
    put_names(out, row);
    chroma_set_text(out, "format", row->format);
    chroma_set_text(out, "group", row->group);
    chroma_set_text(out, "created", row->created);
    chroma_set_text(out, "warning", row->warning);
    chroma_set_text(out, "revision", record->revision);
    chroma_set_text(out, "worker", record->worker);
    chroma_set_text(out, "visual_space", record->visual_space);
    chroma_set_text(out, "text_space", record->text_space);
    put_pages(out, record->pages, row->n_pages);
    return out;
}

json_t *chroma_tombstone_put(const char *doc_id, int64_t generation, const char *worker,
                             int64_t removed_ms, int64_t changed_ms) {
    json_t *out = json_pack("{s:s,s:s,s:b,s:I,s:I,s:I}", "type", "document", "doc_id", doc_id,
                            "removed", 1, "generation", (json_int_t)generation, "removed_ms",
                            (json_int_t)removed_ms, "changed_ms", (json_int_t)changed_ms);
    chroma_set_text(out, "worker", worker);
    return out;
}

static char *take(struct arena *arena, const json_t *metadata, const char *name) {
    return arena_strdup(arena, chroma_get_text(metadata, name));
}

static bool take_count(int *out, const json_t *metadata, const char *name) {
    int64_t value = chroma_get_int(metadata, name);
    *out = (int)value;
    return value >= 0 && value < INT32_MAX;
}

bool chroma_record_take(struct chroma_record *out, struct arena *arena, const json_t *metadata) {
    memset(out, 0, sizeof *out);
    struct document_row *row = &out->document;
    const char *doc_id = chroma_get_text(metadata, "doc_id");
    if (strcmp(chroma_get_text(metadata, "type"), "document") != 0 || !sha256_is_hex(doc_id))
        return false;
    memcpy(row->doc_id, doc_id, sizeof row->doc_id);
    out->removed = json_is_true(json_object_get(metadata, "removed"));
    out->lost_rows = json_is_true(json_object_get(metadata, "lost_rows"));
    out->generation = chroma_get_int(metadata, "generation");
    out->changed_ms = chroma_get_int(metadata, "changed_ms");
    out->worker = take(arena, metadata, "worker");
    out->revision = take(arena, metadata, "revision");
    out->visual_space = take(arena, metadata, "visual_space");
    out->text_space = take(arena, metadata, "text_space");
    row->filename = take(arena, metadata, "filename");
    row->source_path = take(arena, metadata, "source_path");
    row->format = take(arena, metadata, "format");
    row->group = take(arena, metadata, "group");
    row->title = take(arena, metadata, "title");
    row->author = take(arena, metadata, "author");
    row->created = take(arena, metadata, "created");
    row->warning = take(arena, metadata, "warning");
    row->error_code = row->error_text = "";
    row->state = DOCUMENT_READY;
    row->size_bytes = chroma_get_int(metadata, "size_bytes");
    row->added_ms = chroma_get_int(metadata, "added_ms");
    if (out->generation < 1 || out->generation > CHROMA_MAX_GENERATION)
        return false;
    if (out->removed)
        return true;
    return take_count(&row->n_pages, metadata, "num_pages") &&
           take_count(&row->n_chunks, metadata, "num_chunks") &&
           take_count(&out->n_page_rows, metadata, "n_page_rows") &&
           take_count(&out->n_chunk_rows, metadata, "n_chunk_rows") &&
           out->n_page_rows <= row->n_pages && out->n_chunk_rows <= row->n_chunks &&
           take_pages(&out->pages, arena, chroma_get_text(metadata, "pages"), row->n_pages);
}

/* ---- pages and passages ---------------------------------------------------------------------- */

static json_t *put_item(const struct chroma_record *record, const char *type) {
    const struct document_row *row = &record->document;
    char time[TIME_ISO];
    time_iso(time, row->added_ms);
    json_t *out = json_pack("{s:s,s:s,s:s,s:i}", "doc_id", row->doc_id, "type", type, "timestamp",
                            time, "num_pages", row->n_pages);
    put_names(out, row);
    chroma_set_text(out, "format", row->format);
    json_object_set_new(out, "revision",
                        json_stringn(record->revision, strnlen(record->revision, CHROMA_REVISION)));
    return out;
}

json_t *chroma_page_put(const struct chroma_record *record, int page) {
    json_t *out = put_item(record, "visual");
    json_object_set_new(out, "page", json_integer(page));
    return out;
}

json_t *chroma_chunk_put(const struct chroma_record *record, const struct chunk_row *chunk) {
    json_t *out = put_item(record, "text");
    json_object_set_new(out, "chunk_id", json_integer(chunk->ordinal));
    json_object_set_new(out, "page", json_integer(chunk->first_page));
    json_object_set_new(out, "last_page", json_integer(chunk->last_page));
    json_object_set_new(out, "word_count", json_integer(chunk->n_words));
    char preview[PREVIEW_BYTES + 1];
    size_t len = utf8_cut(chunk->text, strlen(chunk->text), PREVIEW_BYTES);
    memcpy(preview, chunk->text, len);
    preview[len] = '\0';
    chroma_set_text(out, "text_preview", preview);
    chroma_set_text(out, "full_text", chunk->text);
    chroma_set_text(out, "heading_path", chunk->heading_path);
    struct buf places = {0};
    if (chunk->places_len > 0)
        chroma_base64_put(&places, chunk->places, chunk->places_len);
    if (places.len > 0 && !places.failed)
        json_object_set_new(out, "places", json_string(places.data));
    buf_fini(&places);
    return out;
}

bool chroma_chunk_take(struct chunk_row *out, struct arena *arena, const json_t *metadata) {
    memset(out, 0, sizeof *out);
    const char *doc_id = chroma_get_text(metadata, "doc_id");
    const json_t *chunk_id = json_object_get(metadata, "chunk_id");
    if (!sha256_is_hex(doc_id) || !json_is_integer(chunk_id) ||
        !take_count(&out->ordinal, metadata, "chunk_id") ||
        !take_count(&out->n_words, metadata, "word_count") ||
        !take_count(&out->first_page, metadata, "page") ||
        !take_count(&out->last_page, metadata, "last_page"))
        return false;
    memcpy(out->doc_id, doc_id, sizeof out->doc_id);
    out->text = take(arena, metadata, "full_text");
    out->heading_path = take(arena, metadata, "heading_path");
    const char *places = chroma_get_text(metadata, "places");
    out->places = chroma_base64_take(&out->places_len, arena, places, strlen(places));
    return out->places != NULL;
}
