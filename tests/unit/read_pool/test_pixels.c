/* Pixels by way of a child: equal to Pillow's for every kind of file, errors for the rest, and a
 * child that fails, hangs or lies is one failed call. */
#include "tests.h"

#include "read/picture.h"
#include "read/pool.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER SOURCE_ROOT "/tests/unit/read_pool/pixels/"

static char scratch[] = "/tmp/docusearch-pixels-XXXXXX";

static struct read_pool *open_pool(void) {
    struct settings settings = {.render_dpi = 72, .max_pages = 50, .ocr_languages = "eng"};
    struct read_pool *pool;
    struct error err = {0};
    if (!read_pool_open(&pool, &settings, 1, scratch, &err))
        fail_msg("%s", err.text);
    return pool;
}

struct pixels {
    uint8_t *rgb;
    int width, height;
};

static bool read_bytes(struct pixels *out, struct read_pool *pool, const char *filename,
                       const void *data, size_t len, struct error *err) {
    char path[] = "/tmp/docusearch-pixels-XXXXXX";
    int fd = mkstemp(path);
    struct pixels same;
    struct error why = {0};
    assert_true(fd >= 0);
    unlink(path);
    assert_true(fd_write_all(fd, data, len, err));
    *err = (struct error){0};
    bool fine = read_pixels(&out->rgb, &out->width, &out->height, pool, fd, filename, err);
    close(fd);
    /* From memory it is the same, but for the name, which bytes do not have. */
    if (!read_pixels_bytes(&same.rgb, &same.width, &same.height, pool, data, len, NULL, &why)) {
        assert_false(fine);
        assert_null(same.rgb);
        return fine;
    }
    assert_true(fine);
    assert_int_equal(same.width, out->width);
    assert_int_equal(same.height, out->height);
    assert_memory_equal(same.rgb, out->rgb, (size_t)same.width * (size_t)same.height * 3);
    mem_free(same.rgb);
    return fine;
}

static void equal_to_pillow(void **state) {
    (void)state;
    struct read_pool *pool = open_pool();
    char line[256], name[64], wanted[65], hex[SHA256_HEX + 1];
    int width, height, n = 0;
    FILE *list = fopen(FOLDER "digests", "r");
    assert_non_null(list);
    while (fgets(line, sizeof line, list)) {
        if (sscanf(line, "%63s %d %d %64s", name, &width, &height, wanted) != 4 || name[0] == '#')
            continue;
        char path[512];
        struct pixels got;
        struct error err = {0};
        snprintf(path, sizeof path, FOLDER "%s", name);
        int fd = open(path, O_RDONLY);
        assert_true(fd >= 0);
        if (!read_pixels(&got.rgb, &got.width, &got.height, pool, fd, name, &err))
            fail_msg("%s: %s", name, err.text);
        close(fd);
        assert_int_equal(got.width, width);
        assert_int_equal(got.height, height);
        sha256_hex(hex, got.rgb, (size_t)width * (size_t)height * 3);
        mem_free(got.rgb);
        if (strcmp(hex, wanted) != 0)
            print_error("%s: pixels differ from Pillow's\n", name);
        n += strcmp(hex, wanted) == 0 ? 1 : -1000;
    }
    fclose(list);
    assert_true(n >= 30);
    read_pool_close(pool);
}

/* A page as the store keeps it, as long as one is at 150 dpi. */
/* What the writer writes is read as it was: colours here, and that each pixel has its opacity by
 * the file's kind (8 bits, colour and alpha). */
static void written_is_read(void **state) {
    (void)state;
    enum { WIDTH = 7, HEIGHT = 5 };
    struct read_pool *pool = open_pool();
    uint8_t rgba[WIDTH * HEIGHT * 4];
    struct buf file = {0}, full = {.max = 100};
    struct pixels got;
    struct error err = {0};
    for (size_t i = 0; i < sizeof rgba; i++)
        rgba[i] = (uint8_t)(i * i * 37 + i);
    if (!read_png_write(&file, rgba, WIDTH, HEIGHT, &err) ||
        !read_bytes(&got, pool, "a.png", file.data, file.len, &err))
        fail_msg("%s", err.text);
    assert_memory_equal(file.data, "\x89PNG\r\n\x1a\n", 8);
    assert_memory_equal(file.data + 24, "\x08\x06", 2);
    assert_int_equal(got.width, WIDTH);
    assert_int_equal(got.height, HEIGHT);
    for (size_t i = 0; i < WIDTH * HEIGHT; i++)
        assert_memory_equal(got.rgb + 3 * i, rgba + 4 * i, 3);
    mem_free(got.rgb);
    assert_false(read_png_write(&full, rgba, WIDTH, HEIGHT, &err));
    assert_string_equal(err.code, "out_of_memory");
    assert_false(read_png_write(&file, rgba, WIDTH, 0, &err));
    assert_string_equal(err.code, "image_limit");
    assert_false(read_png_write(&file, rgba, 1 << 20, 1, &err));
    buf_fini(&file);
    buf_fini(&full);
    read_pool_close(pool);
}

static void a_page_is_quick(void **state) {
    (void)state;
    enum { WIDTH = 1240, HEIGHT = 1754 };
    struct read_pool *pool = open_pool();
    struct picture picture = {0};
    struct error err = {0};
    for (int colours = 1; colours <= 3; colours += 2) {
        uint8_t *rgb = mem_alloc((size_t)WIDTH * HEIGHT * 3);
        for (int i = 0; i < WIDTH * HEIGHT * 3; i++)
            rgb[i] = (uint8_t)((i / 3 % 9 * (i / (3 * WIDTH) % 11) > 40 ? 20 : 250) +
                               (colours == 3 ? i % 3 : 0));
        assert_true(picture_encode(&picture, rgb, WIDTH, HEIGHT, (ptrdiff_t)WIDTH * 3, &err));
        int64_t best_ms = 1000;
        for (int round = 0; round < 6; round++) {
            struct pixels got;
            int64_t start_ms = time_mono_ms();
            assert_true(
                read_bytes(&got, pool, "page.jpg", picture.jpeg.data, picture.jpeg.len, &err));
            int64_t took_ms = time_mono_ms() - start_ms;
            best_ms = took_ms < best_ms ? took_ms : best_ms;
            assert_int_equal(got.width, WIDTH);
            assert_int_equal(got.height, HEIGHT);
            int far = 0;
            for (int i = 0; i < WIDTH * HEIGHT * 3; i++)
                far += abs((int)got.rgb[i] - (int)rgb[i]) > 60;
            assert_true(far < WIDTH * HEIGHT / 50);
            mem_free(got.rgb);
        }
        print_message("a page of %d components: %d ms\n", colours, (int)best_ms);
        mem_free(rgb);
    }
    picture_fini(&picture);
    read_pool_close(pool);
}

static void refuse(struct read_pool *pool, const char *filename, const void *data, size_t len,
                   const char *code) {
    struct pixels got;
    struct error err;
    assert_false(read_bytes(&got, pool, filename, data, len, &err));
    if (strcmp(err.code, code) != 0)
        fail_msg("%s, %zu bytes: %s, wanted %s", filename, len, err.code, code);
    assert_null(got.rgb);
}

static void what_is_no_picture_is_refused(void **state) {
    (void)state;
    static const uint8_t huge_png[] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02"
        "\0\0\0\x34\x0b\x6a\x9a";
    struct read_pool *pool = open_pool();
    refuse(pool, "a.png", "", 0, "empty_file");
    refuse(pool, "a.txt", "plain", 5, "unsupported");
    refuse(pool, "a.png", "junk", 4, "corrupt");
    refuse(pool, "a.jpg", "\xff\xd8\xff", 3, "corrupt");
    refuse(pool, "a.bmp", "junk", 4, "corrupt");
    refuse(pool, "a.tif", "II*\0junk", 8, "corrupt");
    refuse(pool, "a.webp", "RIFF\x04\0\0\0WEBPjunk", 16, "corrupt");
    static const char *const names[] = {"420.jpg",    "progressive.jpg", "rgb.png",
                                        "lossy.webp", "interlaced.png",  "lossless.webp",
                                        "lzw.tif"};
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        char path[512], *data;
        size_t len;
        struct error err;
        snprintf(path, sizeof path, FOLDER "%s", names[i]);
        assert_true(file_read(&data, &len, path, 1 << 20, &err));
        refuse(pool, names[i], data, 12, "corrupt");
        refuse(pool, names[i], data, len * 2 / 3, "corrupt");
        mem_free(data);
    }
    refuse(pool, "huge.png", huge_png, sizeof huge_png - 1, "corrupt"); /* its checksum is wrong */
    read_pool_close(pool);
}

/* 20000 x 20000 pixels, one bit each: no bytes to speak of. */
static void bombs_are_refused(void **state) {
    (void)state;
    static const uint8_t bmp[] = "BM\x3e\0\0\0\0\0\0\0\x3e\0\0\0\x28\0\0\0\x20\x4e\0\0\x20\x4e\0\0"
                                 "\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\xff\xff\xff\0";
    static const uint8_t jpeg[] = "\xff\xd8\xff\xc0\0\x0b\x08\xff\xdc\xff\xdc\x01\x01\x11\0"
                                  "\xff\xda\0\x08\x01\x01\0\0\x3f\0\xff\xd9";
    struct read_pool *pool = open_pool();
    refuse(pool, "huge.bmp", bmp, sizeof bmp - 1, "image_limit");
    refuse(pool, "huge.jpg", jpeg, sizeof jpeg - 1, "image_limit");
    read_pool_close(pool);
}

#ifdef FAULT_POINTS
static void a_bad_child_is_one_failure(void **state) {
    (void)state;
    static const struct {
        const char *word, *code;
    } faults[] = {
        {"FAULT exit", "parser_crash"},          {"FAULT hang", "timeout"},
        {"FAULT lie-length", "parser_protocol"}, {"FAULT lie-pages", "parser_protocol"},
        {"FAULT short", "parser_protocol"},
    };
    setenv("DOCUSEARCH_READER_FAULT", "1", 1);
    setenv("DOCUSEARCH_READ_SILENCE_MS", "700", 1);
    struct read_pool *pool = open_pool();
    for (size_t i = 0; i < BASE_COUNT(faults); i++) {
        refuse(pool, "a.png", faults[i].word, strlen(faults[i].word), faults[i].code);
        refuse(pool, "a.png", "junk", 4, "corrupt"); /* and the next call is answered */
    }
    read_pool_close(pool);
    unsetenv("DOCUSEARCH_READER_FAULT");
    unsetenv("DOCUSEARCH_READ_SILENCE_MS");
}
#endif

static struct {
    struct wire_pixels pixels;
    struct error err;
} judged;

static enum wire_step take(uint32_t type, const void *data, size_t len) {
    judged.err = (struct error){0};
    return wire_take_pixels(&judged.pixels, type, data, len, &judged.err);
}

static void frames_are_judged(void **state) {
    (void)state;
    static const uint8_t size[] = {2, 0, 0, 0, 1, 0, 0, 0}, none[] = {0, 0, 0, 0, 1, 0, 0, 0},
                         many[] = {0, 0, 1, 0, 0, 0, 1, 0};
    assert_int_equal(take(WIRE_ROWS, "abc", 3), WIRE_LIES);
    assert_int_equal(take(WIRE_SIZE, size, 7), WIRE_LIES);
    assert_int_equal(take(WIRE_SIZE, none, 8), WIRE_LIES);
    assert_int_equal(take(WIRE_SIZE, many, 8), WIRE_LIES);
    assert_int_equal(take(WIRE_PICTURE, size, 8), WIRE_LIES);
    assert_int_equal(take(WIRE_SIZE, size, 8), WIRE_GOES_ON);
    assert_int_equal(take(WIRE_SIZE, size, 8), WIRE_LIES);
    assert_int_equal(take(WIRE_ROWS, "", 0), WIRE_LIES);
    assert_int_equal(take(WIRE_ROWS, "abcd", 4), WIRE_GOES_ON);
    assert_int_equal(take(WIRE_ROWS, "efg", 3), WIRE_LIES);
    assert_int_equal(take(WIRE_FAILED, "x", 1), WIRE_LIES);
    assert_string_equal(judged.err.code, "parser_protocol");
    assert_int_equal(take(WIRE_ROWS, "ef", 2), WIRE_DONE);
    assert_memory_equal(judged.pixels.rgb, "abcdef", 6);
    mem_free(judged.pixels.rgb);
}

int run_pixels_tests(void) {
    assert_non_null(mkdtemp(scratch));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_to_pillow),
        cmocka_unit_test(written_is_read),
        cmocka_unit_test(a_page_is_quick),
        cmocka_unit_test(what_is_no_picture_is_refused),
        cmocka_unit_test(bombs_are_refused),
#ifdef FAULT_POINTS
        cmocka_unit_test(a_bad_child_is_one_failure),
#endif
        cmocka_unit_test(frames_are_judged),
    };
    int failed = cmocka_run_group_tests_name("pixels", tests, NULL, NULL);
    dir_remove(scratch, NULL);
    return failed;
}
