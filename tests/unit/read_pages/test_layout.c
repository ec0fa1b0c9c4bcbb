/* Layout of pages made word by word, 600 x 800 points. */
#include "tests.h"

struct pages {
    struct raw_pages raw;
    struct raw_page sizes[64];
    size_t cap;
    uint32_t n_lines;
};

static void pages_begin(struct pages *pages) {
    memset(pages, 0, sizeof(*pages));
    for (size_t i = 0; i < BASE_COUNT(pages->sizes); i++)
        pages->sizes[i] = (struct raw_page){600, 800};
    pages->raw.pages = pages->sizes;
    pages->raw.n_pages = 1;
    pages->cap = 200000;
    pages->raw.words = mem_try(pages->cap, sizeof(*pages->raw.words), SIZE_MAX);
}

static void pages_end(struct pages *pages) {
    mem_free(pages->raw.words);
}

/* A line of words, each character half its size wide. text lives as long as pages. */
static void put(struct pages *pages, uint32_t page_i, float x, float y, float size, uint32_t style,
                const char *text) {
    while (*text) {
        size_t len = strcspn(text, " ");
        struct raw_word *word = &pages->raw.words[pages->raw.n_words++];
        float width = size * 0.5f * (float)len;
        assert_true(pages->raw.n_words <= pages->cap);
        *word = (struct raw_word){.text = text,
                                  .len = (uint32_t)len,
                                  .page_i = page_i,
                                  .line = pages->n_lines,
                                  .size_pt = size,
                                  .style = style,
                                  .box = {x / 600, y / 800, (x + width) / 600, (y + size) / 800}};
        /* Words are ended in place: the tests' texts are copies. */
        char *copy = mem_alloc(len + 1);
        memcpy(copy, text, len);
        word->text = copy;
        x += width + 0.3f * size;
        text += len + (text[len] == ' ');
    }
    pages->n_lines++;
    if (pages->raw.n_pages <= page_i)
        pages->raw.n_pages = page_i + 1;
}

static void expect(struct pages *pages, const char *shown) {
    struct fixture f;
    fixture_layout(&f, &pages->raw);
    assert_string_equal(fixture_show(&f), shown);
    fixture_fini(&f);
    for (size_t i = 0; i < pages->raw.n_words; i++)
        mem_free((void *)(uintptr_t)pages->raw.words[i].text);
    pages_end(pages);
}

static void columns(void **state) {
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    put(&pages, 0, 100, 60, 24, 0, "A wide title for both");
    for (int i = 0; i < 6; i++) { /* painted row by row, as some writers do */
        put(&pages, 0, 50, 120 + 13 * (float)i, 10, 0,
            "left column goes on and on here to its end..");
        put(&pages, 0, 310, 120 + 13 * (float)i, 10, 0,
            "right column goes on and on too to its end.");
    }
    put(&pages, 0, 50, 240, 10, 0,
        "below the columns one line of text that runs across the page to its other side, yes");
    struct buf text = {0};
    buf_puts(&text, "title A wide title for both\nparagraph");
    for (int i = 0; i < 6; i++)
        buf_puts(&text, " left column goes on and on here to its end..");
    buf_puts(&text, "\nparagraph");
    for (int i = 0; i < 6; i++)
        buf_puts(&text, " right column goes on and on too to its end.");
    buf_puts(
        &text,
        "\nparagraph below the columns one line of text that runs across the page to its other "
        "side, yes\n");
    expect(&pages, text.data);
    buf_fini(&text);
}

static void hyphens(void **state) {
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    put(&pages, 0, 50, 100, 10, 0, "the well-known case of an inter-");
    put(&pages, 0, 50, 113, 10, 0, "national body, a truly well-----");
    pages.raw.words[pages.raw.n_words - 1].len = 5; /* "well-" at the line's end */
    ((char *)(uintptr_t)pages.raw.words[pages.raw.n_words - 1].text)[5] = '\0';
    put(&pages, 0, 50, 126, 10, 0, "known fact about the Franco-");
    put(&pages, 0, 50, 139, 10, 0, "German border and an A4 page -");
    put(&pages, 0, 50, 152, 10, 0, "so it is.");
    expect(&pages,
           "paragraph the well-known case of an international body, a truly well-known fact "
           "about the Franco-German border and an A4 page - so it is.\n");
}

static void headings_and_paragraphs(void **state) {
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    put(&pages, 0, 50, 90, 22, 0, "The Title");
    put(&pages, 0, 50, 130, 15, 0, "1 First part");
    put(&pages, 0, 50, 160, 10, 0, "A paragraph of two lines that fills the line up to here,");
    put(&pages, 0, 50, 173, 10, 0, "and ends short.");
    put(&pages, 0, 50, 186, 10, 0, "Another one follows at the same distance, and is not short");
    put(&pages, 0, 50, 199, 10, 0, "at all but goes on with its text up to the end of its line,");
    put(&pages, 0, 50, 212, 10, 0, "then stops.");
    put(&pages, 0, 50, 235, 10, RAW_BOLD, "Bold heading");
    put(&pages, 0, 50, 250, 10, 0, "Text under it, which is as long as the other lines are.");
    put(&pages, 0, 62, 263, 10, 0, "an indent begins a paragraph. Figure 3 is not a caption in");
    put(&pages, 0, 50, 276, 10, 0, "running text.");
    put(&pages, 0, 50, 300, 10, 0, "Figure 3: What it shows");
    put(&pages, 0, 50, 330, 10, RAW_MONO, "if (x)");
    put(&pages, 0, 62, 342, 10, RAW_MONO, "return 1;");
    put(&pages, 0, 50, 354, 10, RAW_MONO, "return 0;");
    put(&pages, 0, 50, 690, 7, 0, "1 A note at the foot");
    expect(&pages,
           "title The Title\nheading1 1 First part\n"
           "paragraph A paragraph of two lines that fills the line up to here, and ends "
           "short.\n"
           "paragraph Another one follows at the same distance, and is not short at all but "
           "goes on with its text up to the end of its line, then stops.\n"
           "heading2 Bold heading\n"
           "paragraph Text under it, which is as long as the other lines are.\n"
           "paragraph an indent begins a paragraph. Figure 3 is not a caption in running "
           "text.\n"
           "caption Figure 3: What it shows\n"
           "code if (x)\n  return 1;\nreturn 0;\n"
           "footnote 1 A note at the foot\n");
}

static void lists(void **state) {
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    put(&pages, 0, 50, 100, 10, 0, "• first item which goes on for quite a while and then");
    put(&pages, 0, 60, 113, 10, 0, "on the next line");
    put(&pages, 0, 70, 126, 10, 0, "– nested");
    put(&pages, 0, 70, 139, 10, 0, "– nested too");
    put(&pages, 0, 50, 152, 10, 0, "• second item");
    put(&pages, 0, 50, 180, 10, 0, "1. one");
    put(&pages, 0, 50, 193, 10, 0, "2. two");
    put(&pages, 0, 50, 220, 10, 0, "(i) roman");
    put(&pages, 0, 50, 233, 10, 0, "(ii) numbers");
    put(&pages, 0, 50, 260, 10, 0, "7. alone is no list");
    expect(&pages,
           "list_item1 first item which goes on for quite a while and then on the next line\n"
           "list_item2 nested\nlist_item2 nested too\nlist_item1 second item\n"
           "list_item1 ordered one\nlist_item1 ordered two\n"
           "list_item1 ordered roman\nlist_item1 ordered numbers\n"
           "paragraph 7. alone is no list\n");
}

static void furniture(void **state) {
    static const char *const bodies[] = {"Body of the first page is here",
                                         "Second page has its own",
                                         "And the third one another text"};
    char number[16];
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    for (uint32_t i = 0; i < 3; i++) {
        put(&pages, i, 50, 30, 9, 0, "Annual report");
        put(&pages, i, 50, 200, 10, 0, bodies[i]);
        snprintf(number, sizeof(number), "Page %u", i + 1);
        put(&pages, i, 280, 770, 9, 0, number);
    }
    expect(&pages, "page_header Annual report\nparagraph Body of the first page is here\n"
                   "page_footer Page 1\n"
                   "page_header repeated Annual report\nparagraph Second page has its own\n"
                   "page_footer Page 2\n"
                   "page_header repeated Annual report\nparagraph And the third one another text\n"
                   "page_footer Page 3\n");
}

static void paragraph_over_pages(void **state) {
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    put(&pages, 0, 50, 600, 10, 0, "A sentence that is not at its end when the page is and hy-");
    put(&pages, 0, 290, 770, 10, 0, "1");
    put(&pages, 1, 50, 100, 10, 0, "phenated there goes on over the page, to be read as one.");
    put(&pages, 1, 290, 770, 10, 0, "2");
    expect(&pages,
           "paragraph A sentence that is not at its end when the page is and hyphenated there "
           "goes on over the page, to be read as one.\npage_footer 1\npage_footer 2\n");
}

static void right_to_left(void **state) {
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    /* As seen from the left: "world Python hello", in Hebrew but for the middle. */
    put(&pages, 0, 300, 100, 10, 0, "עולם Python 3 שלום");
    expect(&pages, "paragraph שלום Python 3 עולם\n");
}

/* A page whose text runs downwards, its lines from right to left. */
static void sideways(void **state) {
    static const char *const lines[] = {"the first line of a page that",
                                        "lies on its side and goes", "on with two lines more"};
    struct pages pages;
    (void)state;
    pages_begin(&pages);
    for (size_t i = 0; i < BASE_COUNT(lines); i++) {
        size_t first = pages.raw.n_words;
        put(&pages, 0, 50, 100 + 13 * (float)i, 10, 0, lines[i]);
        for (size_t k = first; k < pages.raw.n_words; k++) {
            struct doc_box box = pages.raw.words[k].box;
            pages.raw.words[k].box = (struct doc_box){1 - box.y1, box.x0, 1 - box.y0, box.x1};
        }
    }
    expect(&pages, "paragraph the first line of a page that lies on its side and goes on with two "
                   "lines more\n");
}

/* Quadratic work would take minutes here. */
static void many_words(void **state) {
    struct pages pages;
    struct fixture f;
    (void)state;
    for (int shape = 0; shape < 3; shape++) {
        pages_begin(&pages);
        for (uint32_t i = 0; i < 100000; i++) {
            float x = shape == 0 ? (float)(i % 300) / 300 : (float)(i * 7919u % 99991u) / 99991;
            float y = shape == 0   ? (float)i / 300 / 340
                      : shape == 1 ? (float)(i * 104729u % 99989u) / 99989
                                   : (float)i / 100001;
            pages.raw.words[i] = (struct raw_word){.text = "word",
                                                   .len = 4,
                                                   .line = shape == 0 ? i / 300 : i,
                                                   .size_pt = 2,
                                                   .box = {x, y, x + 0.003f, y + 0.002f}};
        }
        pages.raw.n_words = 100000;
        int64_t start_ms = time_mono_ms();
        fixture_layout(&f, &pages.raw);
        assert_true(time_mono_ms() - start_ms < 10000);
        assert_int_equal(f.doc->n_words, 100000);
        fixture_fini(&f);
        pages_end(&pages);
    }
}

const struct CMUnitTest layout_tests[] = {
    cmocka_unit_test(columns),
    cmocka_unit_test(hyphens),
    cmocka_unit_test(headings_and_paragraphs),
    cmocka_unit_test(lists),
    cmocka_unit_test(furniture),
    cmocka_unit_test(paragraph_over_pages),
    cmocka_unit_test(right_to_left),
    cmocka_unit_test(sideways),
    cmocka_unit_test(many_words),
};
const size_t n_layout_tests = BASE_COUNT(layout_tests);
