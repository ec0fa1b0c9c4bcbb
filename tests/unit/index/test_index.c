/* Tests of the index: what goes in comes out, in order; what was torn is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/internal.h"

#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIM 8
#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

static struct error err;

struct fixture {
    char *dir;
    struct store *store;
    struct index *index;
    struct arena *arena;
};

static void reopen(struct fixture *f) {
    index_close(f->index);
    store_close(f->store);
    f->index = NULL;
    must(store_open(&f->store, f->dir, &err));
    must(index_open(&f->index, f->store, f->dir, &err));
}

static int set_up(void **state) {
    struct fixture *f = mem_alloc(sizeof *f);
    const char *root = getenv("TMPDIR");
    f->dir = mem_printf("%s/docusearch-index-XXXXXX", root && root[0] ? root : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    f->arena = arena_new(0);
    index_rewrite_bytes = INT64_C(64) << 20;
    log_open(LOG_ERROR, false, "/dev/null", &err);
    reopen(f);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    index_close(f->index);
    store_close(f->store);
    arena_free(f->arena);
    must(dir_remove(f->dir, &err));
    mem_free(f->dir);
    mem_free(f);
    return 0;
}

static const char *id_of(struct fixture *f, int n) {
    return arena_printf(f->arena, "%064x", (unsigned)n);
}

static int space_of(struct fixture *f, const char *name, bool late) {
    int space = -1;
    struct space_info info = {.name = name, .dim = DIM, .late = late};
    must(index_space(&space, f->index, &info, &err));
    assert_true(space > 0);
    return space;
}

/* A reading of three pages; the caller ends tx. */
static struct store_tx *begin_reading(struct fixture *f, int n, int n_chunks) {
    struct store_tx *tx;
    bool existed;
    struct document_row row = {.filename = "f.txt",
                               .source_path = "",
                               .format = n % 2 ? "txt" : "md",
                               .group = "text",
                               .added_ms = n,
                               .n_pages = 3,
                               .n_chunks = n_chunks};
    struct page_row pages[3] = {{100, 100, 0}};
    struct chunk_row *chunks = arena_alloc(f->arena, ((size_t)n_chunks + 1) * sizeof *chunks);
    for (int i = 0; i < n_chunks; i++)
        chunks[i] = (struct chunk_row){.ordinal = i,
                                       .first_page = i + 1,
                                       .last_page = i + 1,
                                       .text = "word",
                                       .heading_path = ""};
    snprintf(row.doc_id, sizeof row.doc_id, "%s", id_of(f, n));
    must(store_begin(&tx, f->store, &err));
    must(store_put_document(tx, &existed, &row, &err));
    must(store_put_reading(tx, &row, pages, chunks, n_chunks, &err));
    return tx;
}

static void fill(float *vectors, int n, float value) {
    for (int i = 0; i < n * DIM; i++)
        vectors[i] = value + (float)i * 0.001f;
}

/* Document n with one vector a chunk, whose dot product with ones is 8 * (value + i). */
static void put(struct fixture *f, int space, int n, enum item_kind kind, int n_items,
                float value) {
    struct index_writer *writer;
    must(index_writer_open(&writer, f->index, space, id_of(f, n), &err));
    for (int i = 0; i < n_items; i++) {
        float vector[DIM];
        for (int d = 0; d < DIM; d++)
            vector[d] = value + (float)i;
        must(index_writer_add(writer, kind, kind == ITEM_PAGE ? i + 1 : i, vector, 1, &err));
    }
    assert_int_equal(index_writer_count(writer), n_items);
    struct store_tx *tx = begin_reading(f, n, 3);
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
}

/* "2:1=24 1:0=8": document, item, score; best first. */
static const char *found(struct fixture *f, int space, enum item_kind kind, int limit,
                         const struct search_filter *filter) {
    float ones[DIM];
    struct index_hit *hits;
    int n;
    int64_t n_scored;
    struct buf out = {0};
    for (int d = 0; d < DIM; d++)
        ones[d] = 1;
    must(index_search(&hits, &n, &n_scored, f->arena, f->index, space, kind, ones, 1, filter, limit,
                      &err));
    assert_true(n_scored >= n);
    for (int i = 0; i < n; i++) {
        assert_int_equal(hits[i].kind, kind);
        buf_printf(&out, "%s%ld:%d=%g", i ? " " : "", strtol(hits[i].doc_id, NULL, 16),
                   hits[i].item, hits[i].score);
    }
    const char *text = arena_strndup(f->arena, out.data ? out.data : "", out.len);
    buf_fini(&out);
    return text;
}

static struct space_facts facts_of(struct fixture *f, int i) {
    struct space_facts *facts;
    int n;
    must(index_spaces(&facts, &n, f->arena, f->index, &err));
    assert_true(i < n);
    return facts[i];
}

static char *file_of(struct fixture *f, int space, int generation) {
    return arena_printf(f->arena, "%s/vectors/%d-%d.f32", f->dir, space, generation);
}

static int64_t size_of(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? info.st_size : -1;
}

static void remove_document(struct fixture *f, int n) {
    struct store_tx *tx;
    bool was_there;
    int n_pages, n_chunks;
    must(store_begin(&tx, f->store, &err));
    must(store_delete_document(tx, &was_there, &n_pages, &n_chunks, id_of(f, n), &err));
    must(store_commit(tx, &err));
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void spaces_keep_their_names(void **state) {
    struct fixture *f = *state;
    int a = space_of(f, "a", false), b = space_of(f, "b", true);
    assert_int_not_equal(a, b);
    assert_int_equal(space_of(f, "a", false), a);
    int other;
    struct space_info wrong = {.name = "a", .dim = DIM + 1};
    assert_false(index_space(&other, f->index, &wrong, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    reopen(f);
    assert_int_equal(space_of(f, "b", true), b);
    assert_false(index_space(&other, f->index, &wrong, &err));
    wrong.name = "c";
    wrong.dim = 0;
    assert_false(index_space(&other, f->index, &wrong, &err));
    assert_string_equal(facts_of(f, 0).name, "a");
    assert_string_equal(facts_of(f, 1).name, "b");
    assert_int_equal(facts_of(f, 0).n_items, 0);
}

static void nearest_come_first_and_ties_are_stable(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    assert_string_equal(found(f, space, ITEM_CHUNK, 3, NULL), "");
    put(f, space, 3, ITEM_CHUNK, 3, 1);
    put(f, space, 1, ITEM_CHUNK, 3, 1);
    put(f, space, 2, ITEM_PAGE, 2, 5);
    assert_string_equal(found(f, space, ITEM_CHUNK, 3, NULL), "1:2=24 3:2=24 1:1=16");
    assert_string_equal(found(f, space, ITEM_CHUNK, 100, NULL),
                        "1:2=24 3:2=24 1:1=16 3:1=16 1:0=8 3:0=8");
    assert_string_equal(found(f, space, ITEM_PAGE, 9, NULL), "2:2=48 2:1=40");
    reopen(f);
    assert_string_equal(found(f, space, ITEM_CHUNK, 2, NULL), "1:2=24 3:2=24");
    struct index_hit *hits;
    int n;
    int64_t n_scored;
    float ones[DIM] = {1};
    assert_false(index_search(&hits, &n, &n_scored, f->arena, f->index, 77, ITEM_CHUNK, ones, 1,
                              NULL, 1, &err));
}

static void filters_act_before_scoring(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    for (int n = 1; n <= 4; n++) {
        put(f, space, n, ITEM_CHUNK, 3, (float)n);
    }
    const char *ids[] = {id_of(f, 2), id_of(f, 3)};
    const char *formats[] = {"md"};
    struct search_filter filter = {.doc_ids = ids, .n_doc_ids = 2};
    assert_string_equal(found(f, space, ITEM_CHUNK, 1, &filter), "3:2=40");
    filter.formats = formats;
    filter.n_formats = 1;
    assert_string_equal(found(f, space, ITEM_CHUNK, 2, &filter), "2:2=32 2:1=24");
    struct search_filter pages = {.page_from = 2, .page_to = 2};
    assert_string_equal(found(f, space, ITEM_CHUNK, 2, &pages), "4:1=40 3:1=32");
    struct search_filter dates = {.added_from_ms = 2, .added_to_ms = 3};
    assert_string_equal(found(f, space, ITEM_CHUNK, 1, &dates), "3:2=40");
    struct search_filter nobody = {.doc_ids = ids, .n_doc_ids = 0};
    assert_string_equal(found(f, space, ITEM_CHUNK, 1, &nobody), "");
    put(f, space, 4, ITEM_PAGE, 3, 1);
    assert_string_equal(found(f, space, ITEM_PAGE, 9, &pages), "4:2=16");
}

/* A page without a passage is found by its picture alone. */
static void pages_without_text_are_searched(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    struct index_writer *writer;
    float vector[DIM] = {1};
    must(index_writer_open(&writer, f->index, space, id_of(f, 1), &err));
    must(index_writer_add(writer, ITEM_PAGE, 1, vector, 1, &err));
    struct store_tx *tx = begin_reading(f, 1, 0);
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
    const char *formats[] = {"txt"};
    struct search_filter filter = {.formats = formats, .n_formats = 1};
    assert_string_equal(found(f, space, ITEM_PAGE, 9, &filter), "1:1=1");
}

static void late_items_are_scored_by_maxsim(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "late", true);
    struct index_writer *writer;
    float vectors[5 * DIM], query[3 * DIM];
    double best = -1;
    srand(7);
    for (int n = 1; n <= 3; n++) {
        must(index_writer_open(&writer, f->index, space, id_of(f, n), &err));
        for (int i = 0; i < 5 * DIM; i++)
            vectors[i] = (float)rand() / (float)RAND_MAX - 0.5f;
        must(index_writer_add(writer, ITEM_PAGE, 1, vectors, 5, &err));
        struct store_tx *tx = begin_reading(f, n, 1);
        must(index_writer_commit(writer, tx, &err));
        must(store_commit(tx, &err));
        index_writer_free(writer);
    }
    memset(query, 0, sizeof query);
    for (int q = 0; q < 3; q++) {
        query[q * DIM + q] = 1;
        float most = -1;
        for (int v = 0; v < 5; v++)
            most = fmaxf(most, vectors[v * DIM + q]); /* of document 3 */
        best = q == 0 ? (double)most : best + (double)most;
    }
    struct index_hit *hits;
    int n;
    int64_t n_scored;
    must(index_search(&hits, &n, &n_scored, f->arena, f->index, space, ITEM_PAGE, query, 3, NULL,
                      10, &err));
    assert_int_equal(n, 3);
    assert_int_equal(n_scored, 3);
    for (int i = 0; i < n; i++) {
        if (i > 0)
            assert_true(hits[i - 1].score >= hits[i].score);
        if (strtol(hits[i].doc_id, NULL, 16) == 3)
            assert_true(fabs(hits[i].score - best) < 1e-5);
    }
    assert_int_equal(facts_of(f, 0).n_vectors, 15);
    assert_int_equal(facts_of(f, 0).n_items, 3);
}

static void rows_go_with_the_document(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    put(f, space, 1, ITEM_CHUNK, 3, 1);
    put(f, space, 2, ITEM_CHUNK, 3, 1);
    put(f, space, 3, ITEM_CHUNK, 3, 1);
    assert_int_equal(facts_of(f, 0).n_items, 9);
    remove_document(f, 1);
    struct store_tx *tx;
    must(store_begin(&tx, f->store, &err));
    must(store_set_document_state(tx, id_of(f, 2), DOCUMENT_FAILED, "corrupt", "text", &err));
    must(store_commit(tx, &err));
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "3:2=24 3:1=16 3:0=8");
    assert_int_equal(facts_of(f, 0).n_items, 3);
    assert_int_equal(facts_of(f, 0).dead_bytes, 6 * DIM * 4);
    /* Read again: the old vectors go with the old reading. */
    put(f, space, 3, ITEM_CHUNK, 2, 7);
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "3:1=64 3:0=56");
}

static void what_is_not_committed_is_not_there(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    put(f, space, 1, ITEM_CHUNK, 1, 1);
    struct index_writer *writer;
    float vectors[3 * DIM];
    fill(vectors, 3, 9);
    must(index_writer_open(&writer, f->index, space, id_of(f, 2), &err));
    must(index_writer_add(writer, ITEM_PAGE, 1, vectors, 3, &err));
    struct store_tx *tx = begin_reading(f, 2, 1);
    must(index_writer_commit(writer, tx, &err));
    store_rollback(tx);
    index_writer_free(writer);
    assert_string_equal(found(f, space, ITEM_PAGE, 9, NULL), "");
    assert_int_equal(size_of(file_of(f, space, 1)), 16 + 4 * DIM * 4);
    reopen(f);
    assert_int_equal(size_of(file_of(f, space, 1)), 16 + DIM * 4); /* the tail is cut */
    put(f, space, 3, ITEM_CHUNK, 1, 2);
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "3:0=16 1:0=8");
}

/* Of a document that has not been read no vectors are taken. */
static void only_read_documents_have_vectors(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    struct index_writer *writer;
    struct store_tx *tx;
    float vector[DIM] = {1};
    must(index_writer_open(&writer, f->index, space, id_of(f, 1), &err));
    must(index_writer_add(writer, ITEM_PAGE, 1, vector, 1, &err));
    must(store_begin(&tx, f->store, &err));
    assert_false(index_writer_commit(writer, tx, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    store_rollback(tx);
    assert_false(index_writer_add(writer, ITEM_PAGE, 2, vector, 0, &err));
    index_writer_free(writer);
}

static void a_short_file_loses_only_what_it_lacks(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    put(f, space, 1, ITEM_CHUNK, 3, 1);
    put(f, space, 2, ITEM_CHUNK, 3, 2);
    put(f, space, 3, ITEM_CHUNK, 3, 3);
    index_close(f->index);
    f->index = NULL;
    assert_int_equal(truncate(file_of(f, space, 1), 16 + 5 * DIM * 4 + 3), 0);
    must(index_open(&f->index, f->store, f->dir, &err));
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "1:2=24 1:1=16 1:0=8");
    assert_int_equal(size_of(file_of(f, space, 1)), 16 + 3 * DIM * 4);
    put(f, space, 4, ITEM_CHUNK, 1, 9);
    reopen(f);
    assert_string_equal(found(f, space, ITEM_CHUNK, 2, NULL), "4:0=72 1:2=24");
}

static void a_foreign_or_missing_file_is_made_anew(void **state) {
    struct fixture *f = *state;
    static const char *const bytes[] = {NULL, "", "short", "DSVEC\0\0\2\0\0\0\0\0\0\0\0 and more"};
    int space = space_of(f, "s", false);
    for (size_t i = 0; i < BASE_COUNT(bytes); i++) {
        put(f, space, 1, ITEM_CHUNK, 2, 1);
        index_close(f->index);
        f->index = NULL;
        const char *path = file_of(f, space, 1);
        if (bytes[i])
            must(file_write_durable(path, bytes[i], strlen(bytes[i]), &err));
        else
            assert_int_equal(unlink(path), 0);
        must(index_open(&f->index, f->store, f->dir, &err));
        assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "");
        assert_int_equal(facts_of(f, 0).n_items, 0);
        assert_int_equal(size_of(path), 16);
    }
    /* What was there is kept. */
    static const struct {
        const char *suffix;
        size_t len;
    } kept[] = {{"damaged", 0}, {"damaged-2", 5}, {"damaged-3", 5}};
    for (size_t i = 0; i < BASE_COUNT(kept); i++)
        assert_int_equal(
            size_of(arena_printf(f->arena, "%s.%s", file_of(f, space, 1), kept[i].suffix)),
            kept[i].len);
    put(f, space, 1, ITEM_CHUNK, 1, 1);
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "1:0=8");
}

/* A file that cannot be read is no reason to give up what rows name. */
static void an_unreadable_file_keeps_its_rows(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    put(f, space, 1, ITEM_CHUNK, 2, 1);
    index_close(f->index);
    f->index = NULL;
    const char *path = file_of(f, space, 1), *away = arena_printf(f->arena, "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(index_open(&f->index, f->store, f->dir, &err));
    assert_int_equal(err.kind, ERROR_IO);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(away, path), 0);
    must(index_open(&f->index, f->store, f->dir, &err));
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "1:1=16 1:0=8");
}

/* The database is gone, its files are there: a new one takes none of them. */
static void files_of_a_lost_database_are_kept(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    put(f, space, 1, ITEM_CHUNK, 2, 1);
    const char *path = file_of(f, space, 1), *later = file_of(f, space, 3);
    const char *other = file_of(f, space + 1, 1);
    index_close(f->index);
    store_close(f->store);
    f->index = NULL;
    f->store = NULL;
    static const char *const names[] = {"docusearch.db", "docusearch.db-wal", "docusearch.db-shm"};
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        unlink(arena_printf(f->arena, "%s/%s", f->dir, names[i]));
    must(file_write_durable(later, "later", 5, &err));
    must(file_write_durable(other, "other", 5, &err));
    reopen(f);
    assert_int_equal(size_of(path), 16 + 2 * DIM * 4); /* nobody has asked for a space */
    assert_int_equal(space_of(f, "new", false), space);
    assert_int_equal(size_of(path), 16);
    reopen(f);
    assert_int_equal(size_of(arena_printf(f->arena, "%s.lost", path)), 16 + 2 * DIM * 4);
    assert_int_equal(size_of(arena_printf(f->arena, "%s.lost", later)), 5);
    assert_int_equal(size_of(other), 5);
    put(f, space, 1, ITEM_CHUNK, 1, 3);
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "1:0=24");
}

static void dead_bytes_are_given_back(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false);
    for (int n = 1; n <= 20; n++) {
        put(f, space, n, n % 2 ? ITEM_CHUNK : ITEM_PAGE, 3, (float)n);
    }
    for (int n = 1; n <= 16; n++)
        remove_document(f, n);
    const char *chunks = found(f, space, ITEM_CHUNK, 9, NULL);
    const char *pages = found(f, space, ITEM_PAGE, 9, NULL);
    reopen(f);
    assert_true(size_of(file_of(f, space, 1)) > 0); /* too few bytes to bother */
    index_rewrite_bytes = 100;
    reopen(f);
    assert_int_equal(size_of(file_of(f, space, 1)), -1);
    assert_int_equal(size_of(file_of(f, space, 2)), 16 + 12 * DIM * 4);
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), chunks);
    assert_string_equal(found(f, space, ITEM_PAGE, 9, NULL), pages);
    assert_int_equal(facts_of(f, 0).dead_bytes, 0);
    put(f, space, 30, ITEM_CHUNK, 1, 100);
    /* What a rewriting left that was broken off goes. */
    must(file_write_durable(file_of(f, space, 3), "x", 1, &err));
    must(file_write_durable(file_of(f, space, 1), "x", 1, &err));
    reopen(f);
    assert_int_equal(size_of(file_of(f, space, 3)), -1);
    assert_int_equal(size_of(file_of(f, space, 1)), -1);
    assert_string_equal(found(f, space, ITEM_CHUNK, 1, NULL), "30:0=800");
}

/* Cut under the open index: an error that names the file, not the end of the program. */
static void a_file_that_is_cut_while_open_is_an_error(void **state) {
    struct fixture *f = *state;
    int space = space_of(f, "s", false), other = space_of(f, "o", false);
    float *many = mem_alloc(sizeof(float) * DIM * 3000);
    struct index_writer *writer;
    put(f, other, 2, ITEM_CHUNK, 1, 1);
    put(f, space, 3, ITEM_CHUNK, 1, 1);
    must(index_writer_open(&writer, f->index, space, id_of(f, 1), &err));
    must(index_writer_add(writer, ITEM_PAGE, 1, many, 3000, &err));
    struct store_tx *tx = begin_reading(f, 1, 1);
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
    mem_free(many);
    assert_string_equal(found(f, space, ITEM_PAGE, 9, NULL), "1:1=0");
    const char *path = file_of(f, space, 1);
    int64_t size = size_of(path);
    assert_int_equal(truncate(path, 16 + DIM * 4), 0);
    float ones[DIM] = {1};
    struct index_hit *hits;
    int n;
    int64_t n_scored;
    for (int i = 0; i < 3; i++) {
        assert_false(index_search(&hits, &n, &n_scored, f->arena, f->index, space, ITEM_PAGE, ones,
                                  1, NULL, 9, &err));
        assert_int_equal(err.kind, ERROR_IO);
        assert_non_null(strstr(err.text, path_name(path)));
    }
    assert_string_equal(found(f, space, ITEM_CHUNK, 9, NULL), "3:0=8");
    assert_string_equal(found(f, other, ITEM_CHUNK, 9, NULL), "2:0=8");
    assert_int_equal(truncate(path, size), 0);
    assert_string_equal(found(f, space, ITEM_PAGE, 9, NULL), "1:1=0");
}

/* ---- several at once ------------------------------------------------------------------------ */

struct racer {
    struct fixture *f;
    int space, n;
    bool ok;
};

static void race(void *arg) {
    struct racer *racer = arg;
    struct error why;
    struct index_writer *writer;
    char id[SHA256_HEX + 1];
    snprintf(id, sizeof id, "%064x", (unsigned)racer->n);
    racer->ok = index_writer_open(&writer, racer->f->index, racer->space, id, &why);
    for (int i = 0; i < 200 && racer->ok; i++) {
        float vectors[3 * DIM];
        for (int d = 0; d < 3 * DIM; d++)
            vectors[d] = (float)racer->n;
        racer->ok = index_writer_add(writer, ITEM_PAGE, i + 1, vectors, 1 + i % 3, &why);
    }
    struct store_tx *tx;
    bool existed;
    struct document_row row = {.filename = "r.txt", .format = "txt", .group = "text", .n_pages = 0};
    memcpy(row.doc_id, id, sizeof id);
    racer->ok = racer->ok && index_writer_sync(writer, &why) &&
                store_begin(&tx, racer->f->store, &why) &&
                store_put_document(tx, &existed, &row, &why) &&
                store_put_reading(tx, &row, NULL, NULL, 0, &why) &&
                index_writer_commit(writer, tx, &why) && store_commit(tx, &why);
    index_writer_free(writer);
}

static void several_documents_are_written_at_once(void **state) {
    struct fixture *f = *state;
    struct racer racers[4];
    struct thread *threads[4];
    int space = space_of(f, "late", true);
    for (int i = 0; i < 4; i++) {
        racers[i] = (struct racer){.f = f, .space = space, .n = i + 1};
        must(thread_start(&threads[i], "racer", race, &racers[i], &err));
    }
    float ones[DIM];
    struct index_hit *hits;
    int n;
    int64_t n_scored;
    for (int d = 0; d < DIM; d++)
        ones[d] = 1;
    for (int i = 0; i < 50; i++)
        must(index_search(&hits, &n, &n_scored, f->arena, f->index, space, ITEM_PAGE, ones, 1, NULL,
                          5, &err));
    for (int i = 0; i < 4; i++) {
        thread_join(threads[i]);
        assert_true(racers[i].ok);
    }
    must(index_search(&hits, &n, &n_scored, f->arena, f->index, space, ITEM_PAGE, ones, 1, NULL,
                      1000, &err));
    assert_int_equal(n, 800);
    for (int i = 0; i < n; i++) /* each has its own document's bytes */
        assert_true(hits[i].score == (double)(strtol(hits[i].doc_id, NULL, 16) * DIM));
    assert_int_equal(facts_of(f, 0).dead_bytes, 0);
}

#define WIDE 4000 /* vectors an item of the long scans */

static atomic_bool enough;

static void search_on(void *arg) {
    struct racer *racer = arg;
    static float query[64 * DIM];
    struct error why;
    racer->ok = true;
    while (racer->ok && !atomic_load(&enough)) {
        struct arena *arena = arena_new(0);
        struct index_hit *hits;
        int n;
        int64_t n_scored;
        racer->ok = index_search(&hits, &n, &n_scored, arena, racer->f->index, racer->space,
                                 ITEM_PAGE, query, 64, NULL, 5, &why) &&
                    n == 5;
        racer->n++;
        arena_free(arena);
    }
}

/* More searches at once than the store has readers leave some of them to others. */
static void searches_leave_the_store_to_others(void **state) {
    struct fixture *f = *state;
    struct racer racers[12];
    struct thread *threads[12];
    int space = space_of(f, "late", true);
    struct index_writer *writer;
    float *vectors = mem_alloc(sizeof(float) * DIM * WIDE);
    must(index_writer_open(&writer, f->index, space, id_of(f, 1), &err));
    for (int i = 0; i < 40; i++)
        must(index_writer_add(writer, ITEM_PAGE, i + 1, vectors, WIDE, &err));
    struct store_tx *tx = begin_reading(f, 1, 1);
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
    mem_free(vectors);
    atomic_store(&enough, false);
    for (int i = 0; i < 12; i++) {
        racers[i] = (struct racer){.f = f, .space = space};
        must(thread_start(&threads[i], "search", search_on, &racers[i], &err));
    }
    int64_t longest_ms = 0;
    for (int i = 0; i < 10; i++) {
        time_sleep_ms(10);
        int64_t begun_ms = time_mono_ms();
        assert_int_equal(facts_of(f, 0).n_items, 40);
        int64_t ms = time_mono_ms() - begun_ms;
        longest_ms = ms > longest_ms ? ms : longest_ms;
        lock_take(&f->index->lock);
        assert_in_range(f->index->n_scans, 0, 2);
        lock_drop(&f->index->lock);
    }
    atomic_store(&enough, true);
    int n_done = 0;
    for (int i = 0; i < 12; i++) {
        thread_join(threads[i]);
        assert_true(racers[i].ok);
        n_done += racers[i].n;
    }
    assert_true(n_done >= 12);
    print_message("longest question to the store: %lld ms\n", (long long)longest_ms);
    assert_in_range(longest_ms, 0, 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(spaces_keep_their_names),
        TEST(nearest_come_first_and_ties_are_stable),
        TEST(filters_act_before_scoring),
        TEST(pages_without_text_are_searched),
        TEST(late_items_are_scored_by_maxsim),
        TEST(rows_go_with_the_document),
        TEST(what_is_not_committed_is_not_there),
        TEST(only_read_documents_have_vectors),
        TEST(a_short_file_loses_only_what_it_lacks),
        TEST(a_foreign_or_missing_file_is_made_anew),
        TEST(an_unreadable_file_keeps_its_rows),
        TEST(files_of_a_lost_database_are_kept),
        TEST(dead_bytes_are_given_back),
        TEST(a_file_that_is_cut_while_open_is_an_error),
        TEST(several_documents_are_written_at_once),
        TEST(searches_leave_the_store_to_others),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
