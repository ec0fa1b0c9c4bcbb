/* Word documents as flows. */
#include "tests.h"

static void read_word(struct fixture *fixture, struct buf *zip, const struct part *parts,
                      size_t n) {
    package_office(zip, "word", parts, n);
    assert_int_equal(ooxml_kind(zip->data, zip->len), FORMAT_DOCX);
    fixture_read(fixture, flow_read_ooxml, zip->data, zip->len);
}

static void test_styles_and_lists(void **state) {
    /* clang-format off */
    static const struct part parts[] = {
        {"word/document.xml",
         W_DOCUMENT(
         "<w:p><w:pPr><w:pStyle w:val=\"T\"/></w:pPr><w:r><w:t>The title</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:pStyle w:val=\"H2\"/><w:numPr><w:ilvl w:val=\"0\"/><w:numId "
         "w:val=\"1\"/></w:numPr></w:pPr><w:r><w:t>Numbered heading</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:pStyle w:val=\"Mine\"/></w:pPr><w:r><w:t>Based on it</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:outlineLvl w:val=\"2\"/></w:pPr><w:r><w:t>By outline</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:numPr><w:ilvl w:val=\"1\"/><w:numId w:val=\"1\"/></w:numPr></w:pPr>"
         "<w:r><w:t>numbered</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:numPr><w:ilvl w:val=\"0\"/><w:numId w:val=\"2\"/></w:numPr></w:pPr>"
         "<w:r><w:t>bullet</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:pStyle w:val=\"L\"/></w:pPr><w:r><w:t>by style</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:pStyle w:val=\"L\"/><w:numPr><w:numId w:val=\"0\"/></w:numPr></w:pPr>"
         "<w:r><w:t>taken out</w:t></w:r></w:p>"
         "<w:p><w:pPr><w:pStyle w:val=\"Loop\"/></w:pPr><w:r><w:t>loop</w:t></w:r></w:p>"),
         0},
        {"word/_rels/document.xml.rels",
         RELS(REL("s", "styles", "styles.xml") REL("n", "numbering", "numbering.xml")), 0},
        {"word/styles.xml",
         "<w:styles " W_NS ">"
         "<w:style w:type=\"paragraph\" w:styleId=\"T\"><w:name w:val=\"Title\"/></w:style>"
         "<w:style w:type=\"paragraph\" w:styleId=\"H2\"><w:name w:val=\"heading 2\"/></w:style>"
         "<w:style w:type=\"paragraph\" w:styleId=\"Mine\"><w:name w:val=\"My own\"/>"
         "<w:basedOn w:val=\"H2\"/></w:style>"
         "<w:style w:type=\"paragraph\" w:styleId=\"L\"><w:name w:val=\"List Bullet\"/>"
         "<w:pPr><w:numPr><w:numId w:val=\"2\"/></w:numPr></w:pPr></w:style>"
         "<w:style w:type=\"paragraph\" w:styleId=\"Loop\"><w:name w:val=\"a\"/>"
         "<w:basedOn w:val=\"Loop\"/></w:style></w:styles>",
         0},
        {"word/numbering.xml",
         "<w:numbering " W_NS "><w:abstractNum w:abstractNumId=\"7\"><w:lvl w:ilvl=\"0\">"
         "<w:numFmt w:val=\"decimal\"/></w:lvl><w:lvl w:ilvl=\"1\"><w:numFmt "
         "w:val=\"lowerLetter\"/></w:lvl></w:abstractNum><w:abstractNum w:abstractNumId=\"8\">"
         "<w:lvl w:ilvl=\"0\"><w:numFmt w:val=\"bullet\"/></w:lvl></w:abstractNum>"
         "<w:num w:numId=\"1\"><w:abstractNumId w:val=\"7\"/></w:num><w:num w:numId=\"2\">"
         "<w:abstractNumId w:val=\"8\"/></w:num></w:numbering>",
         0},
        {"core.xml",
         "<cp:coreProperties xmlns:cp=\"http://schemas.openxmlformats.org/package/2006/metadata/"
         "core-properties\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:title>A &amp; B"
         "</dc:title><dc:creator>Ada</dc:creator></cp:coreProperties>",
         0},
    };
    /* clang-format on */
    (void)state;
    struct fixture fixture;
    struct buf zip = {0};
    read_word(&fixture, &zip, parts, BASE_COUNT(parts));
    assert_flow(&fixture, "title The title\nh2 Numbered heading\nh2 Based on it\nh3 By outline\n"
                          "ol2 numbered\nli1 bullet\nli1 by style\np taken out\np loop\n");
    assert_string_equal(fixture.flow.title, "A & B");
    assert_string_equal(fixture.flow.author, "Ada");
    fixture_fini(&fixture);
    buf_fini(&zip);
}

static void test_runs(void **state) {
    /* clang-format off */
    static const struct part parts[] = {
        {"word/document.xml",
         W_DOCUMENT(
         "<w:p><w:r><w:t xml:space=\"preserve\">kept </w:t></w:r><w:del><w:r><w:delText>gone"
         "</w:delText></w:r></w:del><w:ins><w:r><w:t>added</w:t></w:r></w:ins><w:r><w:tab/>"
         "<w:t>tab</w:t><w:br/><w:t>line</w:t></w:r></w:p>"
         "<w:p><w:r><w:fldChar w:fldCharType=\"begin\"/></w:r><w:r><w:instrText>PAGE"
         "</w:instrText></w:r><w:r><w:t>result</w:t></w:r></w:p>"
         "<w:p><w:hyperlink><w:r><w:t>a link</w:t></w:r></w:hyperlink></w:p>"
         "<w:p><w:r><mc:AlternateContent><mc:Choice><w:pict><w:txbxContent>"
         W_P("boxed") "</w:txbxContent></w:pict></mc:Choice><mc:Fallback><w:pict><w:txbxContent>"
         W_P(
         "boxed") "</w:txbxContent></w:pict></mc:Fallback></mc:AlternateContent></w:r><w:r><w:t>"
         "host"
         "</w:t></w:r></w:p>"
         "<w:p><m:oMath><m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t>"
         "</m:r></m:den></m:f></m:oMath></w:p>"
         "<w:p><w:r><w:drawing><wp:inline><wp:docPr descr=\"a duck\"/><a:blip/></wp:inline>"
         "</w:drawing></w:r></w:p>"
         "<w:p><w:r><w:t>noted</w:t><w:footnoteReference w:id=\"2\"/><w:commentReference "
         "w:id=\"0\"/></w:r></w:p>"
         "<w:sectPr><w:headerReference w:type=\"default\" r:id=\"h\"/><w:headerReference "
         "w:type=\"first\" r:id=\"h1\"/><w:footerReference r:id=\"f\"/></w:sectPr>"),
         0},
        {"word/_rels/document.xml.rels",
         RELS(REL("n", "footnotes", "footnotes.xml") REL("c", "comments", "comments.xml")
         REL("h", "header", "header1.xml") REL("h1", "header", "header2.xml")
         REL("f", "footer", "/word/footer1.xml")),
         0},
        {"word/footnotes.xml",
         "<w:footnotes " W_NS "><w:footnote w:type=\"separator\" w:id=\"0\">" W_P(
         "-") "</w:footnote><w:footnote w:id=\"2\">" W_P("a footnote") "</w:footnote>"
         "</w:footnotes>",
         0},
        {"word/comments.xml",
         "<w:comments " W_NS "><w:comment w:id=\"0\">" W_P("a comment") "</w:comment>"
         "</w:comments>",
         0},
        {"word/header1.xml", "<w:hdr " W_NS ">" W_P("head") "</w:hdr>", 0},
        {"word/header2.xml", "<w:hdr " W_NS ">" W_P("first page only, not shown") "</w:hdr>", 0},
        {"word/footer1.xml", "<w:ftr " W_NS ">" W_P("foot") "</w:ftr>", 0},
    };
    /* clang-format on */
    (void)state;
    struct fixture fixture;
    struct buf zip = {0};
    read_word(&fixture, &zip, parts, BASE_COUNT(parts));
    assert_flow(&fixture,
                "header head\np kept added tab\nline\np result\np a link\np host\np boxed\n"
                "formula (a+b)/2\npicture unseen a duck\np noted\nfoot a footnote\n"
                "note unseen a comment\nfooter foot\n");
    fixture_fini(&fixture);
    buf_fini(&zip);
}

#define TC(props, text) "<w:tc><w:tcPr>" props "</w:tcPr>" W_P(text) "</w:tc>"

static void test_tables(void **state) {
    /* clang-format off */
    static const struct part parts[] = {
        {"word/document.xml",
         W_DOCUMENT("<w:tbl><w:tr>" TC("<w:gridSpan w:val=\"2\"/>", "wide") TC(
         "", "x") "</w:tr>"
         "<w:tr>" TC("<w:vMerge w:val=\"restart\"/>", "tall") TC("", "a") TC(
         "", "b") "</w:tr>"
         "<w:tr>" TC("<w:vMerge/>", "") TC("", "c") TC(
         "",
         "d") "</w:tr>"
         "<w:tr><w:trPr><w:del/></w:trPr>" TC(
         "",
         "gone") "</w:tr>"
         "<w:tr><w:tc>" W_P(
         "outer") "<w:tbl><w:tr>" TC("", "in 1")
         TC("", "in 2") "</w:tr></w:tbl>" W_P(
         "again") "</w:tc></w:tr></w:tbl>"),
         0},
    };
    /* clang-format on */
    (void)state;
    struct fixture fixture;
    struct buf zip = {0};
    read_word(&fixture, &zip, parts, BASE_COUNT(parts));
    assert_flow(&fixture, "table\n  0,0+1x2! wide\n  0,2! x\n  1,0+2x1 tall\n  1,1 a\n  1,2 b\n"
                          "  2,1 c\n  2,2 d\n  4,0 outer\nagain\ntable\n  0,0 in 1\n  0,1 in 2\n");
    fixture_fini(&fixture);
    buf_fini(&zip);
}

int run_word(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_styles_and_lists),
                                       cmocka_unit_test(test_runs), cmocka_unit_test(test_tables)};
    return cmocka_run_group_tests_name("word", tests, NULL, NULL);
}
