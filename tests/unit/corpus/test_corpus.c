/* Tests of the corpus: adding, searching, removing, over real readers. The readers' children are
 * this same program. */
#include "corpus/corpus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DRAIN_MS 300000
#else
#define DRAIN_MS 60000
#endif

struct fixture {
    char folder[64];
    struct settings settings;
    struct corpus *corpus;
};

static void load_settings(struct fixture *f) {
    struct error err;
    char data[96], uploads[96];
    snprintf(data, sizeof data, "%s/data", f->folder);
    snprintf(uploads, sizeof uploads, "%s/uploads", f->folder);
    assert_true(dir_make(uploads, &err));
    char *argv[] = {"test",  "--data-dir",       data, "--uploads-dir",
                    uploads, "--worker-threads", "2",  NULL};
    int argc = 7;
    assert_true(settings_load(&f->settings, &argc, argv, &err));
}

static void open_corpus(struct fixture *f) {
    struct error err;
    if (!corpus_open(&f->corpus, NULL, &f->settings, &err) || !corpus_start(f->corpus, &err))
        fail_msg("%s", err.text);
}

static int set_up(void **state) {
    struct fixture *f = mem_alloc(sizeof *f);
    struct error err;
    snprintf(f->folder, sizeof f->folder, "%s", "/tmp/docusearch-corpus-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    log_open(LOG_ERROR, false, NULL, &err);
    load_settings(f);
    open_corpus(f);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    struct error err;
    corpus_close(f->corpus);
    settings_fini(&f->settings);
    assert_true(dir_remove(f->folder, &err));
    mem_free(f);
    return 0;
}

static struct added upload(struct fixture *f, const char *name, const char *text) {
    struct corpus_upload *upload;
    struct added added = {0};
    struct error err;
    if (!corpus_upload_open(&upload, f->corpus, name, "", -1, &err) ||
        !corpus_upload_write(upload, text, strlen(text), &err) ||
        !corpus_upload_finish(&added, upload, &err))
        fail_msg("%s", err.text);
    return added;
}

static void drain(struct fixture *f) {
    assert_true(queue_drain(corpus_queue(f->corpus), time_mono_ms() + DRAIN_MS));
}

static struct search_reply search(struct fixture *f, struct arena *arena, const char *query) {
    struct search_request request = {.query = query, .mode = SEARCH_HYBRID, .n_results = 10};
    struct search_reply reply;
    struct error err;
    if (!corpus_search(&reply, arena, f->corpus, &request, &err))
        fail_msg("%s: %s", query, err.text);
    return reply;
}

static int n_hits(struct fixture *f, const char *query) {
    struct arena *arena = arena_new(0);
    int n = search(f, arena, query).n_results;
    arena_free(arena);
    return n;
}

static void write_file(const char *path, const char *text) {
    struct error err;
    assert_true(file_write_durable(path, text, strlen(text), &err));
}

static struct store_counts counts(struct fixture *f) {
    struct store_counts out;
    struct error err;
    assert_true(store_counts(&out, corpus_store(f->corpus), &err));
    return out;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void test_add_and_find(void **state) {
    struct fixture *f = *state;
    upload(f, "a.md", "# Lease\n\nThe notice period for the warehouse is six months.\n");
    upload(f, "b.txt", "Nothing of interest stands in this file.\n");
    drain(f);
    struct arena *arena = arena_new(0);
    struct search_reply reply = search(f, arena, "warehouse notice");
    assert_int_equal(reply.n_results, 1);
    const struct search_result *hit = &reply.results[0];
    assert_string_equal(hit->document.filename, "a.md");
    assert_int_equal(hit->page, 1);
    assert_int_equal(hit->rank, 1);
    assert_int_equal(hit->n_highlights, 2);
    assert_int_equal(hit->n_boxes, 2);
    assert_true(hit->page_width_pt > 0);
    char word[16] = "";
    struct text_range mark = hit->highlights[0];
    memcpy(word, hit->preview + mark.start, mark.end - mark.start);
    assert_string_equal(word, "notice");
    for (int i = 0; i < hit->n_boxes; i++) {
        assert_true(hit->boxes[i].x0 >= 0 && hit->boxes[i].x1 <= 1);
        assert_true(hit->boxes[i].x0 < hit->boxes[i].x1 && hit->boxes[i].y0 < hit->boxes[i].y1);
    }
    const char *picture = store_path(arena, corpus_store(f->corpus), hit->document.doc_id,
                                     STORE_PAGE, 1);
    assert_int_equal(access(picture, R_OK), 0);
    arena_free(arena);
}

/* Two passages of one page: one result, and the words of both are marked. */
static void test_a_page_is_marked_whole(void **state) {
    struct fixture *f = *state;
    struct buf text = {0};
    buf_puts(&text, "zirconium");
    for (int i = 0; i < 290; i++)
        buf_puts(&text, " so");
    buf_puts(&text, " zirconium.\n");
    upload(f, "a.txt", text.data);
    buf_fini(&text);
    drain(f);
    assert_int_equal(counts(f).chunks, 2);
    struct arena *arena = arena_new(0);
    struct search_reply reply = search(f, arena, "zirconium");
    assert_int_equal(reply.n_results, 1);
    assert_int_equal(reply.results[0].n_boxes, 2);
    assert_true(reply.results[0].boxes[0].y0 != reply.results[0].boxes[1].y0);
    arena_free(arena);
}

/* A passage over two pages answers for the page that the filter lets through, or not at all. */
static void test_page_filter(void **state) {
    struct fixture *f = *state;
    upload(f, "a.txt", "First page, osprey.\n\f\nSecond page, goshawk.\n");
    drain(f);
    static const struct {
        const char *query;
        int from, to, page;
    } cases[] = {
        {"osprey goshawk", 0, 0, 1}, {"osprey goshawk", 2, 0, 2}, {"osprey goshawk", 1, 1, 1},
        {"goshawk", 0, 1, 0},        {"goshawk", 2, 2, 2},        {"osprey", 3, 0, 0},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct arena *arena = arena_new(0);
        struct search_request request = {
            .query = cases[i].query,
            .n_results = 10,
            .filter = {.page_from = cases[i].from, .page_to = cases[i].to}};
        struct search_reply reply;
        struct error err;
        assert_true(corpus_search(&reply, arena, f->corpus, &request, &err));
        assert_int_equal(reply.n_results, cases[i].page > 0);
        if (reply.n_results > 0)
            assert_int_equal(reply.results[0].page, cases[i].page);
        arena_free(arena);
    }
}

static void test_formats_setting(void **state) {
    struct fixture *f = *state;
    struct corpus *corpus;
    struct error err;
    corpus_close(f->corpus);
    f->corpus = NULL;
    f->settings.supported_formats = "pdf, nonsense";
    assert_false(corpus_open(&corpus, NULL, &f->settings, &err));
    assert_non_null(strstr(err.text, "nonsense"));
    f->settings.supported_formats = "md,images";
    open_corpus(f);
    assert_true(corpus_takes_name(f->corpus, "a.md"));
    assert_true(corpus_takes_name(f->corpus, "b.JPG"));
    assert_false(corpus_takes_name(f->corpus, "c.txt"));
}

static void test_largest_settings_work(void **state) {
    struct fixture *f = *state;
    struct error err;
    char data[96];
    corpus_close(f->corpus);
    settings_fini(&f->settings);
    snprintf(data, sizeof data, "%s/data", f->folder);
    char *argv[] = {"test",   "--data-dir",       data, "--max-pages",
                    "100000", "--worker-threads", "64", NULL};
    int argc = 7;
    assert_true(settings_load(&f->settings, &argc, argv, &err));
    open_corpus(f);
    upload(f, "a.txt", "a word like rhodium\n");
    drain(f);
    assert_int_equal(n_hits(f, "rhodium"), 1);
}

static void test_same_bytes_are_one_document(void **state) {
    struct fixture *f = *state;
    struct added first = upload(f, "a.txt", "one and the same\n");
    struct added second = upload(f, "other name.txt", "one and the same\n");
    assert_int_equal(first.status, ADDED_QUEUED);
    assert_int_equal(second.status, ADDED_KNOWN);
    assert_string_equal(first.doc_id, second.doc_id);
    drain(f);
    assert_int_equal(upload(f, "third.txt", "one and the same\n").status, ADDED_KNOWN);
    assert_int_equal(counts(f).documents, 1);
    assert_int_equal(n_hits(f, "same"), 1);
}

static void test_refusals(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *name, *text, *code;
    } cases[] = {
        {"empty.txt", "", "empty_file"},
        {"a.exe", "MZ\x90 and more", "unsupported_type"},
        {"noextension", "plain words", "unsupported_type"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct corpus_upload *upload;
        struct added added;
        struct error err = {0};
        assert_true(corpus_upload_open(&upload, f->corpus, cases[i].name, "", -1, &err));
        assert_true(corpus_upload_write(upload, cases[i].text, strlen(cases[i].text), &err));
        assert_false(corpus_upload_finish(&added, upload, &err));
        assert_string_equal(err.code, cases[i].code);
    }
    struct corpus_upload *big;
    struct error err;
    assert_false(
        corpus_upload_open(&big, f->corpus, "big.txt", "", f->settings.max_file_bytes + 1, &err));
    assert_string_equal(err.code, "too_large");
    assert_int_equal(counts(f).documents, 0);
}

static void test_names_are_made_fit(void **state) {
    struct fixture *f = *state;
    static const char *const cases[][2] = {
        {"../../etc/passwd.txt", "passwd.txt"},
        {"C:\\papers\\report.txt", "report.txt"},
        {"new\nline.txt", "new_line.txt"},
        {"b\xff"
         "d.txt",
         "b\xef\xbf\xbd"
         "d.txt"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        char text[32];
        snprintf(text, sizeof text, "text number %zu\n", i);
        struct added added = upload(f, cases[i][0], text);
        struct arena *arena = arena_new(0);
        struct document_row row;
        bool found;
        struct error err;
        assert_true(
            store_find_document(&row, &found, arena, corpus_store(f->corpus), added.doc_id, &err));
        assert_string_equal(row.filename, cases[i][1]);
        arena_free(arena);
    }
}

static void test_long_names_keep_their_extension(void **state) {
    struct fixture *f = *state;
    char name[600], wanted[256];
    memset(name, 'n', sizeof name);
    snprintf(name + 590, sizeof name - 590, ".txt");
    memset(wanted, 'n', sizeof wanted);
    snprintf(wanted + 251, sizeof wanted - 251, ".txt");
    struct added added = upload(f, name, "a long name\n");
    struct arena *arena = arena_new(0);
    struct document_row row;
    bool found;
    struct error err;
    assert_true(
        store_find_document(&row, &found, arena, corpus_store(f->corpus), added.doc_id, &err));
    assert_string_equal(row.filename, wanted);
    arena_free(arena);
}

static void test_remove(void **state) {
    struct fixture *f = *state;
    struct added added = upload(f, "a.txt", "a word like zirconium\n");
    drain(f);
    assert_int_equal(n_hits(f, "zirconium"), 1);
    struct removed removed;
    struct error err;
    assert_true(corpus_remove(&removed, f->corpus, added.doc_id, &err));
    assert_true(removed.found);
    assert_int_equal(removed.n_pages, 1);
    assert_int_equal(removed.n_chunks, 1);
    assert_int_equal(n_hits(f, "zirconium"), 0);
    struct arena *arena = arena_new(0);
    const char *original = store_path(arena, corpus_store(f->corpus), added.doc_id, STORE_ORIGINAL,
                                      0);
    assert_int_not_equal(access(original, F_OK), 0);
    arena_free(arena);
    assert_true(corpus_remove(&removed, f->corpus, added.doc_id, &err));
    assert_false(removed.found);
    assert_int_equal(upload(f, "a.txt", "a word like zirconium\n").status, ADDED_QUEUED);
    drain(f);
    assert_int_equal(n_hits(f, "zirconium"), 1);
}

static void test_paths(void **state) {
    struct fixture *f = *state;
    struct added added;
    struct error err;
    char inside[128], twin[128], outside[128], link[128];
    snprintf(inside, sizeof inside, "%s/uploads/a.txt", f->folder);
    snprintf(twin, sizeof twin, "%s/uploads/b.txt", f->folder);
    snprintf(outside, sizeof outside, "%s/c.txt", f->folder);
    snprintf(link, sizeof link, "%s/uploads/link.txt", f->folder);
    write_file(inside, "first content with osmium\n");
    write_file(twin, "first content with osmium\n");
    write_file(outside, "a secret\n");
    assert_int_equal(symlink(outside, link), 0);

    assert_false(corpus_add_path(&added, f->corpus, outside, NULL, true, &err));
    assert_string_equal(err.code, "path_forbidden");
    assert_false(corpus_add_path(&added, f->corpus, link, NULL, true, &err));
    assert_string_equal(err.code, "path_forbidden");
    char missing[160];
    snprintf(missing, sizeof missing, "%s/uploads/none.txt", f->folder);
    assert_false(corpus_add_path(&added, f->corpus, missing, NULL, true, &err));
    assert_int_equal(err.kind, ERROR_MISSING);

    /* Two paths of the same bytes: taking one away keeps the document. */
    struct removed removed;
    assert_true(corpus_add_path(&added, f->corpus, inside, NULL, true, &err));
    assert_true(corpus_add_path(&added, f->corpus, twin, NULL, true, &err));
    drain(f);
    assert_int_equal(unlink(twin), 0);
    assert_true(corpus_remove_path(&removed, f->corpus, twin, NULL, &err));
    assert_true(removed.found && removed.kept);
    assert_int_equal(n_hits(f, "osmium"), 1);

    /* What was uploaded too outlives its path. */
    write_file(twin, "uploaded as well: rhenium\n");
    assert_true(corpus_add_path(&added, f->corpus, twin, NULL, true, &err));
    upload(f, "again.txt", "uploaded as well: rhenium\n");
    drain(f);
    assert_int_equal(unlink(twin), 0);
    assert_true(corpus_remove_path(&removed, f->corpus, twin, NULL, &err));
    assert_true(removed.found && removed.kept);
    assert_int_equal(n_hits(f, "rhenium"), 1);
    assert_true(corpus_remove(&removed, f->corpus, added.doc_id, &err));

    /* The same path with another content: the old document goes. */
    write_file(inside, "second content with iridium\n");
    assert_true(corpus_add_path(&added, f->corpus, inside, NULL, true, &err));
    drain(f);
    assert_int_equal(n_hits(f, "osmium"), 0);
    assert_int_equal(n_hits(f, "iridium"), 1);
    assert_int_equal(unlink(inside), 0);
    assert_true(corpus_remove_path(&removed, f->corpus, inside, NULL, &err));
    assert_true(removed.found && !removed.kept);
    assert_int_equal(counts(f).documents, 0);
}

static void test_failed_document_can_be_sent_again(void **state) {
    struct fixture *f = *state;
    struct added added = upload(f, "a.pdf", "%PDF-1.7\nthis is no pdf\n");
    drain(f);
    struct arena *arena = arena_new(0);
    struct document_row row;
    bool found;
    struct error err;
    assert_true(
        store_find_document(&row, &found, arena, corpus_store(f->corpus), added.doc_id, &err));
    assert_int_equal(row.state, DOCUMENT_FAILED);
    assert_string_equal(row.error_code, "corrupt");
    arena_free(arena);
    assert_int_equal(upload(f, "a.pdf", "%PDF-1.7\nthis is no pdf\n").status, ADDED_QUEUED);
    drain(f);
    assert_int_equal(counts(f).failed, 1);
}

static bool has_file(struct fixture *f, const char *doc_id, enum store_file file, int page) {
    struct arena *arena = arena_new(0);
    bool there = access(store_path(arena, corpus_store(f->corpus), doc_id, file, page), F_OK) == 0;
    arena_free(arena);
    return there;
}

/* A text of many pages, its first picture made and most of it still to be read. */
static struct added upload_and_watch(struct fixture *f, int n_pages) {
    struct buf text = {0};
    for (int i = 0; i < n_pages; i++)
        buf_printf(&text, "page %d of a long roll\n\f\n", i + 1);
    struct added added = upload(f, "roll.txt", text.data);
    buf_fini(&text);
    while (!has_file(f, added.doc_id, STORE_THUMB, 1))
        time_sleep_ms(2);
    return added;
}

static void test_a_given_up_attempt_leaves_the_original_alone(void **state) {
    struct fixture *f = *state;
    struct error err;
    bool found;
    struct added added = upload_and_watch(f, 600);
    assert_true(queue_cancel(corpus_queue(f->corpus), &found, added.job_id, &err) && found);
    drain(f);
    assert_false(has_file(f, added.doc_id, STORE_PAGE, 1));
    assert_false(has_file(f, added.doc_id, STORE_THUMB, 1));
    assert_true(has_file(f, added.doc_id, STORE_ORIGINAL, 0));

    assert_true(queue_retry(corpus_queue(f->corpus), &found, added.job_id, &err) && found);
    drain(f);
    assert_int_equal(counts(f).pages, 600);
    assert_true(has_file(f, added.doc_id, STORE_PAGE, 600));
}

static void test_removal_during_an_attempt(void **state) {
    struct fixture *f = *state;
    struct removed removed;
    struct error err;
    struct added added = upload_and_watch(f, 600);
    assert_true(corpus_remove(&removed, f->corpus, added.doc_id, &err) && removed.found);
    drain(f);
    struct arena *arena = arena_new(0);
    const char *original = store_path(arena, corpus_store(f->corpus), added.doc_id, STORE_ORIGINAL,
                                      0);
    char *folder = arena_strndup(arena, original, (size_t)(path_name(original) - original - 1));
    assert_int_not_equal(access(folder, F_OK), 0);
    arena_free(arena);
    assert_int_equal(queue_waiting(corpus_queue(f->corpus)), 0);
}

/* Sent again while its job is being cancelled: acknowledged anew, and read. */
static void test_upload_during_a_cancel(void **state) {
    struct fixture *f = *state;
    struct error err;
    bool found;
    struct added added = upload_and_watch(f, 600);
    assert_true(queue_cancel(corpus_queue(f->corpus), &found, added.job_id, &err) && found);
    struct added again = upload_and_watch(f, 600);
    assert_int_equal(again.status, ADDED_QUEUED);
    assert_true(again.job_id != added.job_id);
    drain(f);
    assert_int_equal(counts(f).ready, 1);
    for (int page = 1; page <= 600; page++)
        assert_true(has_file(f, again.doc_id, STORE_PAGE, page));
    assert_true(has_file(f, again.doc_id, STORE_DOCUMENT, 0));
}

static void test_search_never_fails(void **state) {
    struct fixture *f = *state;
    upload(f, "a.txt", "Grüße aus Köln. 東京都に住む. The cat's pyjamas: 1,234.50 (AB-12).\n");
    drain(f);
    static const char *const found[] = {"grusse",       "KOLN", "東京",  "京都",    "cats",
                                        "\"aus Köln\"", "pyj*", "AB-12", "1,234.50"};
    static const char *const odd[] = {"\"",       "*",     "((",       "AND OR NOT", "a\" b",
                                      "-",        "--cat", "\xff\xfe", "NEAR(a b)",  "col:umn",
                                      "{x} : ^y", "'",     "\x01",     "😀"};
    for (size_t i = 0; i < BASE_COUNT(found); i++) {
        if (n_hits(f, found[i]) != 1)
            fail_msg("not found: %s", found[i]);
    }
    for (size_t i = 0; i < BASE_COUNT(odd); i++)
        n_hits(f, odd[i]);
    struct search_request bad = {.query = "", .n_results = 10};
    struct search_reply reply;
    struct error err;
    struct arena *arena = arena_new(0);
    assert_false(corpus_search(&reply, arena, f->corpus, &bad, &err));
    bad.query = "cat";
    bad.mode = SEARCH_VISUAL;
    assert_false(corpus_search(&reply, arena, f->corpus, &bad, &err));
    assert_string_equal(err.code, "model_not_installed");
    arena_free(arena);
}

static void test_waiting_jobs_outlive_a_restart(void **state) {
    struct fixture *f = *state;
    corpus_stop(f->corpus);
    upload(f, "a.txt", "a word like palladium\n");
    corpus_close(f->corpus);
    f->corpus = NULL;
    open_corpus(f);
    drain(f);
    assert_int_equal(n_hits(f, "palladium"), 1);
}

static void test_one_holder(void **state) {
    struct fixture *f = *state;
    struct corpus *second;
    struct error err;
    char *url = NULL;
    assert_true(corpus_set_url(f->corpus, "http://127.0.0.1:1", &err));
    assert_false(corpus_open(&second, &url, &f->settings, &err));
    assert_string_equal(err.code, "data_folder_in_use");
    assert_string_equal(url, "http://127.0.0.1:1");
    mem_free(url);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "reader-child") == 0)
        return read_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_add_and_find),
        TEST(test_a_page_is_marked_whole),
        TEST(test_page_filter),
        TEST(test_formats_setting),
        TEST(test_largest_settings_work),
        TEST(test_same_bytes_are_one_document),
        TEST(test_refusals),
        TEST(test_names_are_made_fit),
        TEST(test_long_names_keep_their_extension),
        TEST(test_remove),
        TEST(test_paths),
        TEST(test_failed_document_can_be_sent_again),
        TEST(test_a_given_up_attempt_leaves_the_original_alone),
        TEST(test_removal_during_an_attempt),
        TEST(test_upload_during_a_cancel),
        TEST(test_search_never_fails),
        TEST(test_waiting_jobs_outlive_a_restart),
        TEST(test_one_holder),
    };
    return cmocka_run_group_tests_name("corpus", tests, NULL, NULL);
}
