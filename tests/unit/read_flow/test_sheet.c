/* Workbooks as flows. */
#include "tests.h"

#define S_NS                                                                                       \
    "xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" "                         \
    "xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\""

static void test_cells(void **state) {
    static const struct part parts[] = {
        {"xl/workbook.xml",
         "<workbook " S_NS "><sheets><sheet name=\"Data\" sheetId=\"1\" r:id=\"a\"/><sheet "
         "name=\"Hidden\" sheetId=\"2\" state=\"hidden\" r:id=\"b\"/></sheets></workbook>",
         0},
        {"xl/_rels/workbook.xml.rels",
         RELS(REL("a", "worksheet", "worksheets/sheet1.xml") REL("b", "worksheet",
                                                                 "worksheets/sheet2.xml")
                  REL("s", "sharedStrings", "sharedStrings.xml") REL("t", "styles", "styles.xml")),
         0},
        {"xl/sharedStrings.xml",
         "<sst " S_NS
         "><si><t>Name</t></si><si><r><t>Da</t></r><r><t>te</t></r><rPh><t>no</t></rPh>"
         "</si></sst>",
         0},
        {"xl/styles.xml",
         "<styleSheet " S_NS "><numFmts><numFmt numFmtId=\"170\" formatCode=\"yyyy\\-mm\\-dd\"/>"
         "</numFmts><cellStyleXfs><xf numFmtId=\"9\"/></cellStyleXfs><cellXfs><xf numFmtId=\"0\"/>"
         "<xf numFmtId=\"170\"/><xf numFmtId=\"10\"/></cellXfs></styleSheet>",
         0},
        {"xl/worksheets/sheet1.xml",
         "<worksheet " S_NS "><sheetData>"
         "<row r=\"1\"><c r=\"B1\" t=\"inlineStr\"><is><t>A heading</t></is></c></row>"
         "<row r=\"3\"><c r=\"B3\" t=\"s\"><v>0</v></c><c r=\"C3\" t=\"s\"><v>1</v></c></row>"
         "<row r=\"4\"><c r=\"B4\" t=\"str\"><f>A</f><v>Ada</v></c><c r=\"C4\" s=\"1\"><v>45566"
         "</v></c></row>"
         "<row r=\"5\"><c r=\"B5\" t=\"b\"><v>1</v></c><c r=\"C5\" s=\"2\"><v>0.5</v></c></row>"
         "<row><c t=\"e\"><v>#DIV/0!</v></c><c t=\"s\"><v>99</v></c></row></sheetData>"
         "<mergeCells><mergeCell ref=\"B3:B3\"/><mergeCell ref=\"B5:B6\"/><mergeCell ref=\"Z\"/>"
         "</mergeCells></worksheet>",
         0},
        {"xl/worksheets/sheet2.xml",
         "<worksheet " S_NS "><sheetData><row r=\"1\"><c r=\"A1\"><v>1</v></c></row></sheetData>"
         "</worksheet>",
         0},
    };
    (void)state;
    struct fixture fixture;
    struct buf zip = {0};
    package_office(&zip, "xl", parts, BASE_COUNT(parts));
    assert_int_equal(ooxml_kind(zip.data, zip.len), FORMAT_XLSX);
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_flow(&fixture, "h1 Data\np A heading\ntable\n  0,1! Name\n  0,2! Date\n  1,1 Ada\n"
                          "  1,2 2024-10-01\n  2,1+2x1 TRUE\n  2,2 50.00%\n  3,0 #DIV/0!\n"
                          "h1 unseen Hidden\np unseen 1\n");
    fixture_fini(&fixture);
    buf_fini(&zip);
}

/* 12,000 rows are three tables; no cell is lost. */
static void test_long_sheet(void **state) {
    (void)state;
    struct buf sheet = {0}, zip = {0};
    buf_puts(&sheet, "<worksheet " S_NS "><sheetData>");
    for (int i = 1; i <= 12000; i++)
        buf_printf(&sheet,
                   "<row r=\"%d\"><c r=\"A%d\"><v>%d</v></c><c r=\"B%d\"><v>7</v></c></row>", i, i,
                   i, i);
    buf_puts(&sheet, "</sheetData></worksheet>");
    struct part parts[] = {
        {"xl/workbook.xml",
         "<workbook " S_NS "><sheets><sheet name=\"L\" r:id=\"a\"/></sheets></workbook>", 0},
        {"xl/_rels/workbook.xml.rels", RELS(REL("a", "worksheet", "worksheets/s.xml")), 0},
        {"xl/worksheets/s.xml", sheet.data, sheet.len},
    };
    package_office(&zip, "xl", parts, BASE_COUNT(parts));
    struct fixture fixture;
    fixture_read(&fixture, flow_read_ooxml, zip.data, zip.len);
    assert_true(fixture.ok);
    assert_int_equal(fixture.flow.n_items, 4);
    size_t n_cells = 0;
    for (size_t i = 1; i < 4; i++)
        n_cells += fixture.flow.items[i].n_cells;
    assert_int_equal(n_cells, 24000);
    assert_string_equal(fixture.flow.items[3].cells[0].text, "10001");
    fixture_fini(&fixture);
    buf_fini(&sheet);
    buf_fini(&zip);
}

int run_sheet(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cells),
                                       cmocka_unit_test(test_long_sheet)};
    return cmocka_run_group_tests_name("sheet", tests, NULL, NULL);
}
