/* The pool with real children: documents, faults on demand, deadlines, cancelling, Office files. */
#include "tests.h"

#include "read/pool.h"
#include "read/read.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

static char scratch[] = "/tmp/docusearch-test-XXXXXX";

static struct read_pool *open_pool(int n_children) {
    struct settings settings = {.render_dpi = 72, .max_pages = 50, .ocr_languages = "eng"};
    struct read_pool *pool;
    struct error err = {0};
    if (!read_pool_open(&pool, &settings, n_children, scratch, &err))
        fail_msg("%s", err.text);
    return pool;
}

struct watch {
    int n_pictures;
    int64_t cancel_at_ms; /* 0: never */
};
static bool on_picture(void *ctx, uint32_t page_i, const void *jpeg, size_t jpeg_len,
                       const void *thumb, size_t thumb_len, struct error *err) {
    struct watch *watch = ctx;
    (void)page_i;
    (void)jpeg;
    (void)thumb;
    (void)err;
    watch->n_pictures++;
    return jpeg_len > 0 && thumb_len > 0;
}
static bool on_cancelled(void *ctx) {
    struct watch *watch = ctx;
    return watch->cancel_at_ms && time_mono_ms() >= watch->cancel_at_ms;
}

static int file_of(const void *data, size_t len) {
    char path[] = "/tmp/docusearch-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    struct error err;
    assert_true(fd_write_all(fd, data, len, &err));
    return fd;
}

static bool read_fd(struct document **doc, struct read_pool *pool, int fd, const char *filename,
                    enum read_format format, struct watch *watch, struct error *err) {
    struct watch unwatched = {0};
    struct read_sink sink = {
        .ctx = watch ? watch : &unwatched, .picture = on_picture, .cancelled = on_cancelled};
    struct read_request request = {.fd = fd, .filename = filename, .format = format};
    *err = (struct error){0};
    *doc = NULL;
    bool fine = read_document(doc, pool, &request, &sink, err);
    close(fd);
    return fine;
}

static bool read_text(struct document **doc, struct read_pool *pool, const char *text,
                      struct watch *watch, struct error *err) {
    return read_fd(doc, pool, file_of(text, strlen(text)), "note.txt", FORMAT_TEXT, watch, err);
}

static void still_reads(struct read_pool *pool) {
    struct document *doc;
    struct error err;
    int64_t start_ms = time_mono_ms();
    if (!read_text(&doc, pool, "A plain sentence.\n", NULL, &err))
        fail_msg("%s", err.text);
    int64_t took_ms = time_mono_ms() - start_ms;
    doc_free(doc);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const int64_t most_ms = 1000;
#else
    const int64_t most_ms = 10000; /* a sanitizer's child starts slowly */
#endif
    if (took_ms > most_ms)
        fail_msg("the next document took %d ms", (int)took_ms);
}

static void test_text(void **state) {
    (void)state;
    struct read_pool *pool = open_pool(1);
    struct document *doc;
    struct error err;
    struct watch watch = {0};
    if (!read_text(&doc, pool, "A plain sentence.\n", &watch, &err))
        fail_msg("%s", err.text);
    assert_string_equal(doc->format, "text");
    assert_non_null(strstr(doc->text, "plain"));
    assert_int_equal(doc->n_pages, 1);
    assert_int_equal(watch.n_pictures, 1);
    doc_free(doc);
    assert_false(read_fd(&doc, pool, file_of("", 0), "a.pdf", FORMAT_PDF, NULL, &err));
    assert_string_equal(err.code, "empty_file");
    assert_false(read_fd(&doc, pool, file_of("junk", 4), "a.pdf", FORMAT_PDF, NULL, &err));
    assert_string_equal(err.code, "corrupt");
    assert_false(read_fd(&doc, pool, file_of("junk", 4), "a.docx", FORMAT_DOCX, NULL, &err));
    assert_string_equal(err.code, "corrupt");
    assert_false(read_fd(&doc, pool, file_of("junk", 4), "a.rtf", FORMAT_RTF, NULL, &err));
    assert_string_equal(err.code, "corrupt");
    assert_false(read_fd(&doc, pool, file_of("junk", 4), "a", FORMAT_UNKNOWN, NULL, &err));
    assert_string_equal(err.code, "unsupported");
    still_reads(pool);
    read_pool_close(pool);
}

#ifdef FAULT_POINTS
static void test_faults(void **state) {
    (void)state;
    static const struct {
        const char *word, *code;
        bool signals; /* a sanitizer takes these over */
    } faults[] = {
        {"crash", "parser_crash", true},
        {"abort", "parser_crash", true},
        {"stack", "parser_crash", true},
        {"exit", "parser_crash", false},
        {"syscall", "parser_crash", true},
        {"hang", "timeout", false},
        {"spin", "timeout", false},
        {"memory", "out_of_memory", false},
        {"memory-ours", "out_of_memory", false},
        {"lie-pages", "parser_protocol", false},
        {"lie-length", "parser_protocol", false},
        {"lie-picture", "parser_protocol", false},
        {"short", "parser_protocol", false},
        {"endless", "timeout", false},
    };
    setenv("DOCUSEARCH_READER_FAULT", "1", 1);
    setenv("DOCUSEARCH_READ_SILENCE_MS", "1000", 1);
    setenv("DOCUSEARCH_READ_TOTAL_MS", "2500", 1);
    struct read_pool *pool = open_pool(1);
    assert_int_equal(pool->silence_ms, 1000);
    assert_int_equal(pool->total_ms, 2500);
    for (size_t i = 0; i < BASE_COUNT(faults); i++) {
        char text[64];
        struct document *doc;
        struct error err;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        if (faults[i].signals || strncmp(faults[i].word, "memory", 6) == 0) {
            print_message("%s skipped: the sanitizer takes it over\n", faults[i].word);
            continue;
        }
#endif
        snprintf(text, sizeof text, "FAULT %s\n", faults[i].word);
        bool memory = strncmp(faults[i].word, "memory", 6) == 0; /* it takes a while to fill */
        pool->silence_ms = memory ? 60000 : 1000;
        pool->total_ms = memory ? 60000 : 2500;
        int64_t start_ms = time_mono_ms();
        assert_false(read_text(&doc, pool, text, NULL, &err));
        print_message("%s: %s (%s) in %d ms\n", faults[i].word, err.code, err.text,
                      (int)(time_mono_ms() - start_ms));
        bool endless = strcmp(faults[i].word, "endless") == 0; /* whichever maximum is first */
        if (!endless || strcmp(err.code, "parser_protocol") != 0)
            assert_string_equal(err.code, faults[i].code);
        assert_int_equal(err.kind, strcmp(err.code, "timeout") == 0 ? ERROR_LIMIT : ERROR_INTERNAL);
        still_reads(pool);
    }
    read_pool_close(pool);
    unsetenv("DOCUSEARCH_READER_FAULT");
    unsetenv("DOCUSEARCH_READ_SILENCE_MS");
    unsetenv("DOCUSEARCH_READ_TOTAL_MS");
}

static void test_cancel(void **state) {
    (void)state;
    setenv("DOCUSEARCH_READER_FAULT", "1", 1);
    struct read_pool *pool = open_pool(1);
    still_reads(pool);
    struct document *doc;
    struct error err;
    int64_t start_ms = time_mono_ms();
    struct watch watch = {.cancel_at_ms = start_ms + 300};
    assert_false(read_text(&doc, pool, "FAULT spin\n", &watch, &err));
    assert_string_equal(err.code, "cancelled");
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_true(time_mono_ms() - start_ms < 1000);
    still_reads(pool);
    read_pool_close(pool);
    unsetenv("DOCUSEARCH_READER_FAULT");
}

/* More callers than children: all are served, one waits, and a wait can be cancelled. */
struct caller {
    struct read_pool *pool;
    struct thread *thread;
    struct watch watch;
    const char *text;
    bool fine;
    struct error err;
};
static void call(void *arg) {
    struct caller *caller = arg;
    struct document *doc;
    caller->fine = read_text(&doc, caller->pool, caller->text, &caller->watch, &caller->err);
    if (caller->fine)
        doc_free(doc);
}
static void test_many_callers(void **state) {
    (void)state;
    setenv("DOCUSEARCH_READER_FAULT", "1", 1);
    struct read_pool *pool = open_pool(2);
    struct caller callers[8];
    struct error err;
    for (int i = 0; i < 8; i++) {
        callers[i] = (struct caller){.pool = pool, .text = i == 3 ? "FAULT crash" : "words"};
        assert_true(thread_start(&callers[i].thread, "caller", call, &callers[i], &err));
    }
    for (int i = 0; i < 8; i++) {
        thread_join(callers[i].thread);
        assert_true(callers[i].fine == (i != 3));
    }
    read_pool_close(pool);

    pool = open_pool(1);
    callers[0] = (struct caller){
        .pool = pool, .text = "FAULT spin", .watch.cancel_at_ms = time_mono_ms() + 2000};
    callers[1] = (struct caller){
        .pool = pool, .text = "words", .watch.cancel_at_ms = time_mono_ms() + 800};
    assert_true(thread_start(&callers[0].thread, "caller", call, &callers[0], &err));
    time_sleep_ms(300);
    int64_t start_ms = time_mono_ms();
    call(&callers[1]);
    assert_string_equal(callers[1].err.code, "cancelled");
    assert_true(time_mono_ms() - start_ms < 1500);
    thread_join(callers[0].thread);
    still_reads(pool);
    read_pool_close(pool);
    unsetenv("DOCUSEARCH_READER_FAULT");
}

static void test_killed_while_idle(void **state) {
    (void)state;
    struct read_pool *pool = open_pool(1);
    still_reads(pool);
    kill(sandbox_pid(pool->readers[0].child), SIGKILL);
    time_sleep_ms(50);
    still_reads(pool);
    read_pool_close(pool);
}
#endif

static void test_recycled(void **state) {
    (void)state;
    struct read_pool *pool = open_pool(1);
    still_reads(pool);
    int first = sandbox_pid(pool->readers[0].child);
    pool->readers[0].n_documents = READER_DOCUMENTS - 2;
    still_reads(pool);
    assert_int_equal(sandbox_pid(pool->readers[0].child), first);
    still_reads(pool);
    assert_null(pool->readers[0].child);
    still_reads(pool);
    assert_int_not_equal(sandbox_pid(pool->readers[0].child), first);
    read_pool_close(pool);
}

static void test_health(void **state) {
    (void)state;
    struct read_pool *pool = open_pool(1);
    struct read_health health, again;
    read_health(&health, pool);
    print_message("level %s, detail [%s], office %s, ocr %s, mupdf %s\n", health.sandbox_level,
                  health.sandbox_detail, health.office, health.ocr, health.mupdf);
    assert_true(health.self_test_passed);
    assert_string_equal(health.sandbox_detail, "");
    assert_non_null(strstr(health.sandbox_level, "seccomp"));
    assert_true(health.mupdf[0] == '1');
    int64_t start_ms = time_mono_ms();
    read_health(&again, pool);
    assert_true(time_mono_ms() - start_ms < 10);
    assert_memory_equal(&again, &health, sizeof health);
    read_pool_close(pool);
}

/* ---- Office ---------------------------------------------------------------------------------- */

static const char *corpus_path(const char *name) {
    static char path[1024];
    const char *root = getenv("DOCUSEARCH_CORPUS");
    static const char *const roots[] = {"../shared/corpus", "../../shared/corpus",
                                        SOURCE_ROOT "/../shared/corpus"};
    if (root) {
        snprintf(path, sizeof path, "%s/%s", root, name);
        return access(path, R_OK) == 0 ? path : NULL;
    }
    for (size_t i = 0; i < BASE_COUNT(roots); i++) {
        snprintf(path, sizeof path, "%s/%s", roots[i], name);
        if (access(path, R_OK) == 0)
            return path;
    }
    print_message("skipped: no %s beside the project\n", name);
    return NULL;
}

static bool no_office(void) {
    if (access("/usr/lib/libreoffice/program/soffice.bin", R_OK) == 0)
        return false;
    print_message("skipped: LibreOffice is not installed\n");
    return true;
}

static bool read_path(struct document **doc, struct read_pool *pool, const char *path,
                      const char *filename, enum read_format format, struct watch *watch,
                      struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return read_fd(doc, pool, fd, filename, format, watch, err);
}

static void test_office(void **state) {
    (void)state;
    const char *path = corpus_path("docx/lorem_ipsum.docx");
    if (!path || no_office())
        return;
    struct read_pool *pool = open_pool(1);
    for (int round = 0; round < 2; round++) {
        struct document *doc;
        struct error err;
        struct watch watch = {0};
        int64_t start_ms = time_mono_ms();
        if (!read_path(&doc, pool, path, "renamed.pdf", FORMAT_DOCX, &watch, &err))
            fail_msg("%s", err.text);
        print_message("round %d: %u pages, warning [%s], %d ms\n", round, doc->n_pages,
                      doc->warning, (int)(time_mono_ms() - start_ms));
        assert_string_equal(doc->warning, "");
        assert_string_equal(doc->format, "docx");
        assert_true(doc->n_pages >= 1);
        assert_int_equal(watch.n_pictures, doc->n_pages);
        assert_non_null(strstr(doc->text, "Lorem ipsum"));
        doc_free(doc);
    }
    read_pool_close(pool);
}

#ifdef FAULT_POINTS
static void test_office_by_program(void **state) {
    (void)state;
    const char *path = corpus_path("docx/lorem_ipsum.docx");
    if (!path || no_office())
        return;
    setenv("DOCUSEARCH_FAULT_OFFICE", "soffice", 1);
    struct read_pool *pool = open_pool(1);
    struct document *doc;
    struct error err;
    struct watch watch = {0};
    if (!read_path(&doc, pool, path, "a.docx", FORMAT_DOCX, &watch, &err))
        fail_msg("%s", err.text);
    assert_string_equal(doc->warning, "");
    assert_true(doc->n_pages >= 1);
    doc_free(doc);
    read_pool_close(pool);
    unsetenv("DOCUSEARCH_FAULT_OFFICE");
}

static void test_without_office(void **state) {
    (void)state;
    const char *path = corpus_path("docx/lorem_ipsum.docx");
    if (!path)
        return;
    setenv("DOCUSEARCH_FAULT_OFFICE", "none", 1);
    struct read_pool *pool = open_pool(1);
    struct document *doc;
    struct error err;
    if (!read_path(&doc, pool, path, "a.docx", FORMAT_DOCX, NULL, &err))
        fail_msg("%s", err.text);
    assert_string_equal(doc->warning, "no page pictures: LibreOffice is not installed");
    assert_non_null(strstr(doc->text, "Lorem ipsum"));
    doc_free(doc);
    assert_false(
        read_fd(&doc, pool, file_of("{\\rtf1 hello}", 13), "a.rtf", FORMAT_RTF, NULL, &err));
    assert_string_equal(err.code, "converter_missing");
    assert_int_equal(err.kind, ERROR_MISSING);
    still_reads(pool);
    read_pool_close(pool);
    unsetenv("DOCUSEARCH_FAULT_OFFICE");
}

/* LibreOffice crashes or hangs: a DOCX keeps its text and says what is missing, an RTF has failed;
 * the next conversion is well. */
static void test_office_faults(void **state) {
    (void)state;
    const char *path = corpus_path("docx/lorem_ipsum.docx");
    if (!path || no_office())
        return;
    static const struct {
        const char *fault, *code;
    } faults[] = {{"crash", "parser_crash"}, {"hang", "timeout"}};
    for (size_t i = 0; i < BASE_COUNT(faults); i++) {
        struct document *doc;
        struct error err;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        if (i == 0) {
            print_message("crash skipped: the sanitizer takes it over\n");
            continue;
        }
#endif
        setenv("DOCUSEARCH_FAULT_OFFICE", faults[i].fault, 1);
        struct read_pool *pool = open_pool(1);
        pool->convert_ms = 3000;
        if (!read_path(&doc, pool, path, "a.docx", FORMAT_DOCX, NULL, &err))
            fail_msg("%s", err.text);
        print_message("%s: [%s]\n", faults[i].fault, doc->warning);
        assert_int_equal(strncmp(doc->warning, "no page pictures: LibreOffice ", 30), 0);
        assert_non_null(strstr(doc->text, "Lorem ipsum"));
        doc_free(doc);
        static const char rtf[] = "{\\rtf1 hello}";
        assert_false(
            read_fd(&doc, pool, file_of(rtf, sizeof rtf - 1), "a.rtf", FORMAT_RTF, NULL, &err));
        assert_string_equal(err.code, faults[i].code);
        unsetenv("DOCUSEARCH_FAULT_OFFICE");
        pool->convert_ms = READ_CONVERT_MS;
        if (!read_fd(&doc, pool, file_of(rtf, sizeof rtf - 1), "a.rtf", FORMAT_RTF, NULL, &err))
            fail_msg("%s", err.text);
        doc_free(doc);
        read_pool_close(pool);
    }
}
#endif

static int listen_locally(int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

/* A document that asks for pictures from a server of ours: the server hears nothing, and the words
 * are there. */
static void quiet_file(int file, enum read_format format, const char *filename, int listener) {
    struct read_pool *pool = open_pool(1);
    struct document *doc;
    struct error err;
    if (!read_fd(&doc, pool, file, filename, format, NULL, &err))
        fail_msg("%s: %s", filename, err.text);
    assert_non_null(strstr(doc->text, "visible"));
    assert_true(doc->n_pages > 0); /* it was laid out, and not given up */
    doc_free(doc);
    read_pool_close(pool);
    struct pollfd item = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&item, 1, 100), 0);
}

static void quiet(enum read_format format, const char *filename, const char *pattern) {
    int port;
    int listener = listen_locally(&port);
    char *text = mem_printf(pattern, port, port);
    quiet_file(file_of(text, strlen(text)), format, filename, listener);
    close(listener);
    mem_free(text);
}

#define PACKAGE "http://schemas.openxmlformats.org/package/2006/"
#define OFFICE "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

static void add_part(zip_t *zip, const char *name, const char *text) {
    zip_source_t *source = zip_source_buffer(zip, text, strlen(text), 0);
    assert_true(zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8) >= 0);
}

/* A DOCX with a picture and a template that lie on the server. */
static int linked_docx(int port) {
    char path[] = "/tmp/docusearch-test-XXXXXX";
    close(mkstemp(path));
    char *relations = mem_printf(
        "<Relationships xmlns='" PACKAGE "relationships'><Relationship Id='r1' Type='" OFFICE
        "/image' Target='http://127.0.0.1:%d/a.png' TargetMode='External'/><Relationship Id='r2' "
        "Type='" OFFICE "/attachedTemplate' Target='http://127.0.0.1:%d/t.dotm' "
        "TargetMode='External'/></Relationships>",
        port, port);
    int code;
    zip_t *zip = zip_open(path, ZIP_TRUNCATE, &code);
    add_part(zip, "[Content_Types].xml",
             "<Types xmlns='" PACKAGE "content-types'><Default Extension='rels' ContentType="
             "'application/vnd.openxmlformats-package.relationships+xml'/><Default Extension='xml' "
             "ContentType='application/vnd.openxmlformats-officedocument.wordprocessingml."
             "document.main+xml'/></Types>");
    add_part(zip, "_rels/.rels",
             "<Relationships xmlns='" PACKAGE "relationships'><Relationship Id='r1' Type='" OFFICE
             "/officeDocument' Target='word/document.xml'/></Relationships>");
    add_part(zip, "word/_rels/document.xml.rels", relations);
    add_part(zip, "word/document.xml",
             "<w:document xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main' "
             "xmlns:r='" OFFICE "' xmlns:a='http://schemas.openxmlformats.org/drawingml/2006/main' "
             "xmlns:pic='http://schemas.openxmlformats.org/drawingml/2006/picture' xmlns:wp="
             "'http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing'><w:body>"
             "<w:p><w:r><w:t>visible words</w:t></w:r><w:r><w:drawing><wp:inline>"
             "<wp:extent cx='914400' "
             "cy='914400'/><wp:docPr id='1' name='p'/><a:graphic><a:graphicData uri="
             "'http://schemas.openxmlformats.org/drawingml/2006/picture'><pic:pic><pic:nvPicPr>"
             "<pic:cNvPr id='1' name='p'/><pic:cNvPicPr/></pic:nvPicPr><pic:blipFill><a:blip "
             "r:link='r1'/></pic:blipFill><pic:spPr><a:xfrm><a:off x='0' y='0'/><a:ext cx='914400' "
             "cy='914400'/></a:xfrm><a:prstGeom prst='rect'/></pic:spPr></pic:pic></a:graphicData>"
             "</a:graphic></wp:inline></w:drawing></w:r></w:p></w:body></w:document>");
    assert_int_equal(zip_close(zip), 0);
    mem_free(relations);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unlink(path);
    return fd;
}

static void test_no_packet(void **state) {
    (void)state;
    quiet(FORMAT_HTML, "a.html",
          "<html><link rel=stylesheet href='http://127.0.0.1:%d/a.css'><p>visible words"
          "<img src='http://127.0.0.1:%d/a.png'></html>");
    if (no_office())
        return;
    quiet(FORMAT_RTF, "a.rtf",
          "{\\rtf1 visible words {\\field{\\*\\fldinst INCLUDEPICTURE "
          "\"http://127.0.0.1:%d/a.png\" \\\\d}{\\fldrslt }}"
          "{\\field{\\*\\fldinst INCLUDETEXT \"http://127.0.0.1:%d/b.rtf\"}{\\fldrslt }}}");
    int port;
    int listener = listen_locally(&port);
    quiet_file(linked_docx(port), FORMAT_DOCX, "a.docx", listener);
    close(listener);
}

static void test_scratch_is_left_clean(void **state) {
    (void)state;
    struct error err;
    char left[256];
    snprintf(left, sizeof left, "%s/converter-abc", scratch);
    assert_true(dir_make(left, &err));
    struct read_pool *pool = open_pool(1); /* as after a kill */
    assert_int_equal(access(left, F_OK), -1);
    read_pool_close(pool);
    assert_int_equal(rmdir(scratch), 0); /* empty */
    assert_true(dir_make(scratch, &err));
}

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}
static int remove_scratch(void **state) {
    (void)state;
    struct error err;
    return dir_remove(scratch, &err) ? 0 : -1;
}

int run_pool_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
#ifdef FAULT_POINTS
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_many_callers),
        cmocka_unit_test(test_killed_while_idle),
#endif
        cmocka_unit_test(test_recycled),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_office),
#ifdef FAULT_POINTS
        cmocka_unit_test(test_office_by_program),
        cmocka_unit_test(test_without_office),
        cmocka_unit_test(test_office_faults),
#endif
        cmocka_unit_test(test_no_packet),
        cmocka_unit_test(test_scratch_is_left_clean),
    };
    return cmocka_run_group_tests_name("pool", tests, make_scratch, remove_scratch);
}
