/* The writer of PNG files. What it is given is the program's own, so it runs in the parent.
 *
 * libpng leaves by longjmp, which stays inside the function that set its target; what it works on
 * lies in a struct of that function's caller. */
#include "read/read.h"

#include <setjmp.h>
#include <stdio.h>

#include <png.h>

#define MAX_SIDE (1 << 14)

struct writing {
    png_structp png;
    png_infop info;
    jmp_buf stop;
    char message[128];
    struct buf *out;
};

static void stop(png_structp png, png_const_charp message) {
    struct writing *writing = png_get_error_ptr(png);
    snprintf(writing->message, sizeof writing->message, "%s", message);
    longjmp(writing->stop, 1);
}

static void warn(png_structp png, png_const_charp message) {
    (void)png;
    log_debug("writing a picture: %s", message);
}

static void put(png_structp png, png_bytep data, png_size_t len) {
    struct writing *writing = png_get_io_ptr(png);
    buf_append(writing->out, data, len);
}

static void flush(png_structp png) {
    (void)png;
}

static bool write_all(struct writing *writing, const uint8_t *rgba, int width, int height,
                      struct error *err) {
    if (setjmp(writing->stop))
        return error_set(err, ERROR_INTERNAL, "a picture could not be written: %s",
                         writing->message);
    writing->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, writing, stop, warn);
    writing->info = writing->png ? png_create_info_struct(writing->png) : NULL;
    if (!writing->info)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory to write a picture");
    png_set_write_fn(writing->png, writing, put, flush);
    png_set_compression_level(writing->png, 3);
    png_set_filter(writing->png, 0, PNG_FILTER_SUB | PNG_FILTER_UP);
    png_set_IHDR(writing->png, writing->info, (png_uint_32)width, (png_uint_32)height, 8,
                 PNG_COLOR_TYPE_RGB_ALPHA, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(writing->png, writing->info);
    for (int y = 0; y < height; y++)
        png_write_row(writing->png, rgba + (size_t)y * (size_t)width * 4);
    png_write_end(writing->png, NULL);
    return !writing->out->failed ||
           error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for a picture");
}

bool read_png_write(struct buf *out, const uint8_t *rgba, int width, int height,
                    struct error *err) {
    struct writing writing = {.out = out};
    if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE)
        return error_set_code(err, ERROR_LIMIT, "image_limit", "a picture of %d x %d pixels", width,
                              height);
    bool ok = write_all(&writing, rgba, width, height, err);
    png_destroy_write_struct(&writing.png, &writing.info);
    return ok;
}
