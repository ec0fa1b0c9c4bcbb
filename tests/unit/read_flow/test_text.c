/* HTML, Markdown, CSV and plain text as flows, and the flow as HTML. */
#include "tests.h"

static void check(flow_reader read, const char *text, const char *expected) {
    struct fixture fixture;
    fixture_read_text(&fixture, read, text);
    assert_flow(&fixture, expected);
    fixture_fini(&fixture);
}

static void test_html(void **state) {
    (void)state;
    check(flow_read_html,
          "<title>T</title><style>p{}</style><script>var a='<p>no</p>'</script>"
          "<h1>One <b>two</b></h1>loose<p>para<br>graph<div hidden>no</div><p "
          "style='display: none'>no</p><ul><li>a<ol><li>b</ol>more<li><p>c</p><p>d</p></ul>"
          "<pre>x  y\n  z</pre><blockquote>said</blockquote><dl><dt>term<dd>meaning</dl>"
          "<figure><img src='http://192.0.2.1/x.png' alt='a duck'><figcaption>Fig"
          "</figcaption></figure><template>no</template>&lt;end&gt;",
          "h1 One two\np loose\np para\ngraph\nli1 a\nol2 b\np more\nli1 c\np d\ncode x  y\n  z\n"
          "p said\np term\nli1 meaning\npicture a duck\ncaption Fig\np <end>\n");
    check(flow_read_html,
          "<table><caption>C</caption><tr><th>h<th>i</tr><tr><td rowspan=2>a<td>b</tr><tr><td>c"
          "</tr><tr><td colspan=99999999 rowspan=0>d<table><tr><td>in<td>ner</table></td></tr>"
          "</table><p>after",
          "table\n  0,0! h\n  0,1! i\n  1,0+2x1 a\n  1,1 b\n  2,1 c\n  3,0+1x1000 d\ncaption C\n"
          "table\n  0,0 in\n  0,1 ner\np after\n");
    check(flow_read_html, "<table><tr><td><h2>laid</h2><p>out</td></tr></table>",
          "h2 laid\np out\n");
    check(flow_read_html, "", "");
}

static void test_charsets(void **state) {
    (void)state;
    check(flow_read_html, "<p>caf\xE9 \x93q\x94", "p café “q”\n");
    check(flow_read_html, "<meta charset=\"utf-8\"><p>caf\xC3\xA9", "p café\n");
    check(flow_read_html, "<meta charset=windows-1251><p>\xCF\xF0\xE8", "p При\n");
    check(
        flow_read_html,
        "<meta http-equiv=Content-Type content='text/html; charset=Shift_JIS'><p>\x93\xFA\x96\x7B",
        "p 日本\n");
    check(flow_read_html, "<meta charset=no-such><p>caf\xE9", "p café\n");
    check(flow_read_text, "\xEF\xBB\xBFmarked", "p marked\n");
    struct fixture fixture;
    fixture_read(&fixture, flow_read_text, "\xFF\xFEh\0i\0\x3D\xD8\x00\xDE", 10);
    assert_flow(&fixture, "p hi😀\n");
    fixture_fini(&fixture);
    fixture_read(&fixture, flow_read_text, "\xFE\xFF\0h\0i\xD8", 7);
    assert_flow(&fixture, "p hi\n");
    fixture_fini(&fixture);
}

static void test_markdown(void **state) {
    (void)state;
    check(flow_read_markdown,
          "# A *title*\n\ntext with `code` &amp; &eacute; and <b>tags</b>\n\n- one\n  1. two\n\n"
          "  more\n- three\n\n```c\nint  x;\n```\n\n> quote\n\n![a duck](d.png)\n\n"
          "| a | b |\n|---|---|\n| 1 | ![x](y) |\n\n<div><p>html</p></div>\n",
          "h1 A title\np text with code & é and tags\nli1 one\nol2 two\np more\nli1 three\n"
          "code int  x;\np quote\npicture a duck\ntable\n  0,0! a\n  0,1! b\n  1,0 1\n  1,1 x\n"
          "p html\n");
    struct fixture fixture;
    fixture_read_text(&fixture, flow_read_markdown,
                      "---\ntitle: \"The: one\"\nauthor: Ada\n---\ntext\n");
    assert_flow(&fixture, "p text\n");
    assert_string_equal(fixture.flow.title, "The: one");
    assert_string_equal(fixture.flow.author, "Ada");
    fixture_fini(&fixture);
    check(flow_read_markdown, "---\n\ntext\n", "p text\n");
}

static void test_csv(void **state) {
    (void)state;
    check(flow_read_csv, "a;b\n\"x;\ny\";\"say \"\"hi\"\"\"\n\n1\n2;3;4",
          "table\n  0,0! a\n  0,1! b\n  1,0 x;\ny\n  1,1 say \"hi\"\n  2,0 1\n  3,0 2\n  3,1 3\n"
          "  3,2 4\n");
    check(flow_read_csv, "a\tb\r\n1\t2,5\r\n", "table\n  0,0! a\n  0,1! b\n  1,0 1\n  1,1 2,5\n");
    check(flow_read_csv, "\"open", "table\n  0,0! open\n");
    struct buf rows = {0};
    for (int i = 0; i < 11000; i++)
        buf_printf(&rows, "%d,x\n", i);
    struct fixture fixture;
    fixture_read(&fixture, flow_read_csv, rows.data, rows.len);
    assert_int_equal(fixture.flow.n_items, 3);
    assert_string_equal(fixture.flow.items[2].cells[0].text, "10000");
    assert_false(fixture.flow.items[1].cells[0].header);
    fixture_fini(&fixture);
    buf_fini(&rows);
}

static void test_plain(void **state) {
    (void)state;
    check(flow_read_text, "one\ntwo\n\n\nthree\r\n \r\nfour\rfive",
          "p one\ntwo\np three\np four\nfive\n");
    struct fixture fixture;
    fixture_read_text(&fixture, flow_read_text, "a\fb\f\fc");
    assert_flow(&fixture, "p a\np b\np c\n");
    assert_int_equal(fixture.flow.items[1].page_hint, 1);
    assert_int_equal(fixture.flow.items[2].page_hint, 3);
    fixture_fini(&fixture);

    struct buf line = {0}; /* one line of 3 MB: cut at words, nothing lost */
    for (int i = 0; i < 500000; i++)
        buf_puts(&line, "word ");
    for (int i = 0; i < 500000; i++)
        buf_putc(&line, 'x');
    fixture_read(&fixture, flow_read_text, line.data, line.len);
    size_t n_words = 0, n_x = 0;
    for (size_t i = 0; i < fixture.flow.n_items; i++) {
        const char *text = fixture.flow.items[i].text;
        assert_true(strlen(text) <= 8192);
        for (const char *p = text; *p != '\0'; p++) {
            n_words += strncmp(p, "word", 4) == 0;
            n_x += *p == 'x';
        }
    }
    assert_int_equal(n_words, 500000);
    assert_int_equal(n_x, 500000);
    fixture_fini(&fixture);
    buf_fini(&line);
}

static void test_write_html(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_read_text(
        &fixture, flow_read_markdown,
        "# \\<a> & \"b\"\n\n```\n</pre><script>\n```\n\n| x | y |\n|---|---|\n| 1 | 2 |\n");
    assert_true(fixture.ok);
    struct buf html = {0};
    flow_write_html(&html, &fixture.flow);
    assert_non_null(strstr(html.data, "<h1>&lt;a&gt; &amp; &quot;b&quot;</h1>"));
    assert_non_null(strstr(html.data, "&lt;/pre&gt;&lt;script&gt;"));
    assert_null(strstr(html.data, "<script"));
    assert_null(strstr(html.data, "http"));
    assert_non_null(strstr(html.data, "<th>x</th><th>y</th></tr>"));
    buf_fini(&html);
    fixture_fini(&fixture);
}

int run_text(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_html),     cmocka_unit_test(test_charsets),
        cmocka_unit_test(test_markdown), cmocka_unit_test(test_csv),
        cmocka_unit_test(test_plain),    cmocka_unit_test(test_write_html)};
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
