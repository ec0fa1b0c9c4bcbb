/* Input that means harm: each is refused with its code, or read within its bounds. */
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>

static void expect(const struct buf *zip, const char *code) {
    struct fixture fixture;
    fixture_read(&fixture, flow_read_ooxml, zip->data, zip->len);
    if (fixture.ok)
        fail_msg("was read, not %s", code);
    assert_string_equal(fixture.err.code, code);
    fixture_fini(&fixture);
}

static void expect_document(const char *document, const char *code) {
    struct buf zip = {0};
    const struct part part = {"word/document.xml", document, 0};
    package_office(&zip, "word", &part, 1);
    expect(&zip, code);
    buf_fini(&zip);
}

static void test_xml(void **state) {
    (void)state;
    expect_document(
        "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY a \"lol\"><!ENTITY b "
        "\"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]>" W_DOCUMENT(
            W_P("&c;")),
        "forbidden_xml");
    expect_document(
        "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>" W_DOCUMENT(W_P("&e;")),
        "forbidden_xml");
    expect_document(
        "<!-- <a> --><?p <b?><!DOCTYPE x SYSTEM \"http://192.0.2.1/x.dtd\">" W_DOCUMENT(W_P("x")),
        "forbidden_xml");
    expect_document(W_DOCUMENT(W_P("&undefined;")), "corrupt");
    expect_document("<w:document " W_NS "><w:body><w:p></w:body>", "corrupt");
    expect_document("", "corrupt");
    expect_document("not xml", "corrupt");
    expect_document("<w:document " W_NS "/>", "corrupt");
    /* The word in a text is no declaration. */
    struct buf zip = {0};
    const struct part part = {"word/document.xml",
                              "<!-- c -->" W_DOCUMENT(W_P("<![CDATA[<!DOCTYPE html>]]>")), 0};
    package_office(&zip, "word", &part, 1);
    struct fixture fixture;
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_flow(&fixture, "p <!DOCTYPE html>\n");
    fixture_fini(&fixture);
    buf_fini(&zip);
}

static void test_utf16_doctype(void **state) {
    (void)state;
    static const char text[] = "<!DOCTYPE x [<!ENTITY e 'x'>]><x/>";
    struct buf wide = {0}, zip = {0};
    buf_append(&wide, "\xFF\xFE", 2);
    for (const char *p = text; *p != '\0'; p++) {
        buf_putc(&wide, *p);
        buf_putc(&wide, '\0');
    }
    const struct part part = {"word/document.xml", wide.data, wide.len};
    package_office(&zip, "word", &part, 1);
    expect(&zip, "forbidden_xml");
    buf_fini(&wide);
    buf_fini(&zip);
}

static void test_deep_xml(void **state) {
    (void)state;
    struct buf deep = {0};
    buf_puts(&deep, "<w:document " W_NS "><w:body>");
    for (int i = 0; i < 20000; i++)
        buf_puts(&deep, "<w:tbl><w:tr><w:tc>");
    expect_document(deep.data, "corrupt");
    buf_fini(&deep);
}

static void test_bombs(void **state) {
    (void)state;
    size_t size = (size_t)40 << 20;
    char *spaces = malloc(size);
    memset(spaces, ' ', size);
    struct buf zip = {0};
    const struct part parts[] = {{"word/document.xml", spaces, size}};
    package_office(&zip, "word", parts, 1); /* 1000:1 */
    expect(&zip, "archive_limit");
    buf_fini(&zip);

    /* Up to 1 MiB any ratio is fine. */
    const struct part small[] = {{"word/document.xml", W_DOCUMENT(W_P("x")), 0},
                                 {"word/media/x", spaces, (size_t)1 << 20}};
    package_office(&zip, "word", small, 2);
    struct fixture fixture;
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_flow(&fixture, "p x\n");
    fixture_fini(&fixture);
    buf_fini(&zip);
    free(spaces);

    /* A member that claims 300 MiB, and a hundred that overlap in one and claim 10 MiB each. */
    struct raw_member members[100];
    for (size_t i = 0; i < BASE_COUNT(members); i++)
        members[i] = (struct raw_member){"word/document.xml", i == 0 ? "<x/>" : NULL, 4, 10u << 20};
    package_raw(&zip, members, BASE_COUNT(members));
    assert_false(container_check(zip.data, zip.len, &fixture.err));
    assert_true(strcmp(fixture.err.code, "archive_limit") == 0 ||
                strcmp(fixture.err.code, "corrupt") == 0);
    buf_fini(&zip);
    members[0].claimed = 300u << 20;
    package_raw(&zip, members, 1);
    assert_false(container_check(zip.data, zip.len, &fixture.err));
    buf_fini(&zip);
}

static void test_many_entries(void **state) {
    enum { N = 60000 }; /* the directory's count has 16 bits */
    (void)state;
    struct raw_member *members = calloc(N, sizeof(*members));
    char(*names)[16] = calloc(N, sizeof(*names));
    for (size_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "n%zu", i);
        members[i] = (struct raw_member){names[i], "x", 1, 0};
    }
    struct buf zip = {0};
    package_raw(&zip, members, N);
    expect(&zip, "archive_limit");
    assert_int_equal(ooxml_kind(zip.data, zip.len), FORMAT_UNKNOWN);
    buf_fini(&zip);
    free(members);
    free(names);
}

/* Names are only looked up, never used as paths; of two alike one is read. */
static void test_names(void **state) {
    (void)state;
    static const char types[] =
        "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Override "
        "PartName=\"/word/document.xml\" ContentType=\"application/vnd.openxmlformats-"
        "officedocument.wordprocessingml.document.main+xml\"/></Types>";
    static const char one[] = W_DOCUMENT(W_P("one")), two[] = W_DOCUMENT(W_P("two"));
    const struct raw_member members[] = {
        {"[Content_Types].xml", types, sizeof(types) - 1, 0},
        {"word/document.xml", one, sizeof(one) - 1, 0},
        {"word/document.xml", two, sizeof(two) - 1, 0},
        {"../../../../tmp/escape", one, sizeof(one) - 1, 0},
        {"/etc/escape", one, sizeof(one) - 1, 0},
    };
    struct buf zip = {0};
    package_raw(&zip, members, BASE_COUNT(members));
    struct fixture fixture;
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_true(fixture.ok || strcmp(fixture.err.code, "corrupt") == 0);
    if (fixture.ok)
        assert_int_equal(fixture.flow.n_items, 1);
    fixture_fini(&fixture);
    buf_fini(&zip);
}

static void test_missing_parts(void **state) {
    (void)state;
    struct buf zip = {0};
    package_office(&zip, "word", NULL, 0);
    expect(&zip, "corrupt");
    buf_fini(&zip);
    package_office(&zip, "ppt", NULL, 0);
    expect(&zip, "corrupt");
    buf_fini(&zip);
    const struct part dangling[] = {
        {"word/document.xml",
         W_DOCUMENT(W_P("x") "<w:sectPr><w:headerReference r:id=\"none\"/>"
                             "</w:sectPr>"),
         0},
        {"word/_rels/document.xml.rels",
         RELS(REL("s", "styles", "none.xml") REL("f", "footnotes", "../../../etc/passwd")), 0}};
    package_office(&zip, "word", dangling, 2);
    struct fixture fixture;
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_flow(&fixture, "p x\n");
    fixture_fini(&fixture);
    buf_fini(&zip);
    const struct part empty[] = {{"word/document.xml", W_DOCUMENT(""), 0}};
    package_office(&zip, "word", empty, 1);
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_flow(&fixture, "");
    fixture_fini(&fixture);
    buf_fini(&zip);
}

static void test_encrypted(void **state) {
    (void)state;
    struct buf ole = {0};
    buf_append(&ole, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8);
    for (int i = 0; i < 500; i++)
        buf_putc(&ole, 0);
    struct error err;
    assert_true(container_check(ole.data, ole.len, &err));
    for (const char *p = "EncryptedPackage"; *p != '\0'; p++) {
        buf_putc(&ole, *p);
        buf_putc(&ole, 0);
    }
    expect(&ole, "password_required");
    buf_fini(&ole);
}

/* Every file of the corpus, cut at every 512 bytes: refused, never crashed over. */
static void test_truncated(void **state) {
    static const char *const files[] = {"docx/word_tables.docx", "pptx/powerpoint_sample.pptx",
                                        "xlsx/xlsx_05_table_with_title.xlsx"};
    (void)state;
    const char *root = getenv("DOCUSEARCH_CORPUS") != NULL ? getenv("DOCUSEARCH_CORPUS")
                                                           : getenv("CORPUS_ROOT");
    for (size_t i = 0; i < BASE_COUNT(files); i++) {
        char *path = mem_printf("%s/%s", root == NULL ? "../shared/corpus" : root, files[i]);
        char *data;
        size_t len;
        struct error err;
        bool there = file_read(&data, &len, path, (size_t)1 << 24, &err);
        if (!there)
            print_message("skipped: no %s\n", path);
        mem_free(path);
        for (size_t cut = 0; there && cut < len; cut += 512) {
            char *exact = malloc(cut + 1); /* a sanitizer sees a byte too much */
            memcpy(exact, data, cut);
            struct fixture fixture;
            fixture_read(&fixture, flow_read_ooxml, exact, cut);
            if (!fixture.ok)
                assert_string_equal(fixture.err.code, "corrupt");
            fixture_fini(&fixture);
            free(exact);
        }
        if (there)
            mem_free(data);
    }
}

static void test_deep_html(void **state) {
    (void)state;
    static const char *const open[] = {"<div>",      "<b>",    "<table><tr><td>", "<ul><li>",
                                       "<a href=x>", "<font>", "<blockquote><p>", "<svg><g>",
                                       "<p><form>",  "<h1>"};
    for (size_t i = 0; i < BASE_COUNT(open); i++) {
        struct buf html = {0};
        for (int n = 0; n < 100000; n++)
            buf_puts(&html, open[i]);
        buf_puts(&html, "the end");
        int64_t start = time_mono_ms();
        struct fixture fixture;
        fixture_read(&fixture, flow_read_html, html.data, html.len);
        print_message("deep html %s %lld ms\n", open[i], (long long)(time_mono_ms() - start));
        assert_true(fixture.ok);
        assert_non_null(strstr(fixture_show(&fixture), "the end"));
        fixture_fini(&fixture);
        buf_fini(&html);
    }
}

static void test_deep_markdown(void **state) {
    (void)state;
    static const char *const open[] = {"> ", "- ", "[", "*a ", "![", "`a ", "<div>", "1. "};
    for (size_t i = 0; i < BASE_COUNT(open); i++) {
        struct buf text = {0};
        for (int n = 0; n < 20000; n++)
            buf_puts(&text, open[i]);
        buf_puts(&text, "end");
        int64_t start = time_mono_ms();
        struct fixture fixture;
        fixture_read(&fixture, flow_read_markdown, text.data, text.len);
        print_message("deep markdown %s %lld ms\n", open[i], (long long)(time_mono_ms() - start));
        assert_true(fixture.ok);
        assert_non_null(strstr(fixture_show(&fixture), "end"));
        fixture_fini(&fixture);
        buf_fini(&text);
    }
}

int run_hostile(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xml),           cmocka_unit_test(test_utf16_doctype),
        cmocka_unit_test(test_deep_xml),      cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_many_entries),  cmocka_unit_test(test_names),
        cmocka_unit_test(test_missing_parts), cmocka_unit_test(test_encrypted),
        cmocka_unit_test(test_truncated),     cmocka_unit_test(test_deep_html),
        cmocka_unit_test(test_deep_markdown)};
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
