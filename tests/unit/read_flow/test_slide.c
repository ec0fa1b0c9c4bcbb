/* Presentations as flows. */
#include "tests.h"

#define P_NS                                                                                       \
    "xmlns:p=\"http://schemas.openxmlformats.org/presentationml/2006/main\" "                      \
    "xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\" "                           \
    "xmlns:c=\"http://schemas.openxmlformats.org/drawingml/2006/chart\" "                          \
    "xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\""
#define SP(ph, text)                                                                               \
    "<p:sp><p:nvSpPr><p:nvPr>" ph "</p:nvPr></p:nvSpPr><p:txBody>" text "</p:txBody></p:sp>"
#define A_P(props, text) "<a:p>" props "<a:r><a:t>" text "</a:t></a:r></a:p>"

/* clang-format off */
static const struct part parts[] = {
    {"ppt/presentation.xml",
     "<p:presentation " P_NS "><p:sldIdLst><p:sldId id=\"256\" r:id=\"b\"/><p:sldId id=\"257\" "
     "r:id=\"hidden\"/><p:sldId id=\"258\" r:id=\"a\"/></p:sldIdLst></p:presentation>",
     0},
    {"ppt/_rels/presentation.xml.rels",
     RELS(REL("a", "slide", "slides/slide1.xml") REL("b", "slide", "slides/slide2.xml")
     REL("hidden", "slide", "slides/slide3.xml")),
     0},
    {"ppt/slides/slide2.xml",
     "<p:sld " P_NS "><p:spTree>" SP("<p:ph type=\"ctrTitle\"/>", A_P("", "Opening")) SP(
     "<p:ph idx=\"1\"/>",
     A_P("", "first") A_P("<a:pPr lvl=\"1\"/>", "second") A_P("<a:pPr><a:buNone/></a:pPr>",
     "plain")
     A_P("<a:pPr><a:buAutoNum/></a:pPr>",
     "numbered")) "<p:grpSp>" SP("",
     A_P("",
     "in a group")) "</p:grpSp>"
     "<p:pic><p:nvPicPr><p:cNvPr descr=\"a map\"/></p:nvPicPr></p:pic>" SP(
     "<p:ph type=\"ftr\"/>",
     A_P("",
     "ACME")) "</p:spTree></p:sld>",
     0},
    {"ppt/slides/_rels/slide2.xml.rels",
     RELS(REL("n", "notesSlide", "../notesSlides/notesSlide1.xml")), 0},
    {"ppt/notesSlides/notesSlide1.xml",
     "<p:notes " P_NS "><p:spTree>" SP("<p:ph type=\"sldImg\"/>", A_P("", "no"))
     SP("<p:ph type=\"body\"/>", A_P("", "say hello")) "</p:spTree></p:notes>",
     0},
    {"ppt/slides/slide3.xml",
     "<p:sld " P_NS
     " show=\"0\"><p:spTree>" SP("<p:ph type=\"title\"/>", A_P("", "Secret")) "</p:spTree>"
     "</p:sld>",
     0},
    {"ppt/slides/slide1.xml",
     "<p:sld " P_NS
     "><p:spTree>" SP("<p:ph type=\"title\"/>", A_P("", "Numbers")) "<p:graphicFrame><a:tbl>"
     "<a:tblPr firstRow=\"1\"/><a:tr><a:tc gridSpan=\"2\"><a:txBody>" A_P(
     "",
     "both") "</a:txBody></a:tc><a:tc hMerge=\"1\"/></a:tr><a:tr><a:tc rowSpan=\"2\">"
     "<a:txBody>" A_P("", "1") "</a:txBody></a:tc><a:tc><a:txBody>" A_P("", "2") "</a:txBody>"
     "</a:tc></a:tr><a:tr><a:tc vMerge=\"1\"/><a:tc><a:txBody>" A_P(
     "", "3") "</a:txBody></a:tc></a:tr></a:tbl></p:graphicFrame>"
     "<p:graphicFrame><c:chart r:id=\"ch\"/></p:graphicFrame>" SP(
     "<p:ph type=\"ftr\"/>", A_P("", "ACME")) "</p:spTree></p:sld>",
     0},
    {"ppt/slides/_rels/slide1.xml.rels", RELS(REL("ch", "chart", "../charts/chart1.xml")), 0},
    {"ppt/charts/chart1.xml",
     "<c:chartSpace " P_NS "><c:title>" A_P(
     "",
     "Ducks") "</c:title><c:ser><c:tx><c:strRef><c:f>S!A"
     "</c:f><c:pt><c:v>Wild</c:v></c:pt></c:strRef></c:tx><c:cat><c:pt><c:v>2019</c:v></c:pt>"
     "</c:cat><c:val><c:pt><c:v>7</c:v></c:pt></c:val></c:ser></c:chartSpace>",
     0},
};
/* clang-format on */

static void test_slides(void **state) {
    (void)state;
    struct fixture fixture;
    struct buf zip = {0};
    package_office(&zip, "ppt", parts, BASE_COUNT(parts));
    assert_int_equal(ooxml_kind(zip.data, zip.len), FORMAT_PPTX);
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_flow(&fixture,
                "title Opening\nli1 first\nli2 second\np plain\nol1 numbered\np in a group\n"
                "picture unseen a map\nfooter ACME\nnote unseen say hello\nh1 unseen Secret\n"
                "h1 Numbers\ntable\n  0,0+1x2! both\n  1,0+2x1 1\n  1,1 2\n  2,1 3\n"
                "picture Ducks\nWild\n2019\nfooter ACME\n");
    const struct flow_item *items = fixture.flow.items;
    size_t last = fixture.flow.n_items - 1;
    assert_int_equal(items[0].page_hint, 0);
    assert_int_equal(items[9].page_hint, -1); /* a hidden slide has no page */
    assert_int_equal(items[last].page_hint, 1);
    assert_int_equal(items[last].flags, DOC_REPEATED);
    fixture_fini(&fixture);
    buf_fini(&zip);
}

int run_slide(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slides)};
    return cmocka_run_group_tests_name("slide", tests, NULL, NULL);
}
