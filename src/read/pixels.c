/* Decoders of pictures whose pixels are wanted as they are, row by row, in the child.
 *
 * What an RGB picture is made of one in another form follows Pillow's convert("RGB"), on whose
 * output visual models were trained: alpha is dropped without a background, 16-bit samples lose
 * their low byte, but a grey 16-bit picture without alpha is cut at 255; a JPEG with four
 * components holds inverted CMYK. Colour profiles, gamma and orientation are not applied.
 *
 * libjpeg and libpng leave by longjmp, which stays inside the function that set its target; what
 * they work on lies in a struct of that function's caller. */
#include "read/pixels.h"

#include "read/images.h"
#include "read/pages_context.h"
#include "read/wire.h"
#include "sandbox/sandbox.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>
#include <tiffio.h>

#define MAX_CHANNELS 4
#define MAX_BYTES ((size_t)1 << 30)

static bool corrupt(struct error *err, const char *what, const char *detail) {
    return error_set_code(err, ERROR_INPUT, "corrupt", "%s: %.160s", what, detail);
}

static bool out_of_memory(struct error *err) {
    return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for a picture's rows");
}

/* ---- sending --------------------------------------------------------------------------------- */

struct sender {
    uint8_t *block; /* WIRE_ROWS_MAX */
    size_t n;
};

static bool send_size(uint64_t width, uint64_t height, struct error *err) {
    if (width == 0 || height == 0)
        return corrupt(err, "a picture", "no width or no height");
    if (width > IMAGE_MAX_PIXELS || height > IMAGE_MAX_PIXELS || width * height > IMAGE_MAX_PIXELS)
        return error_set_code(err, ERROR_LIMIT, "image_limit",
                              "an image of %llu x %llu pixels, the maximum is %llu megapixels",
                              (unsigned long long)width, (unsigned long long)height,
                              (unsigned long long)(IMAGE_MAX_PIXELS / 1000000));
    struct buf payload = {0};
    wire_put_size(&payload, (uint32_t)width, (uint32_t)height);
    sandbox_child_send(WIRE_SIZE, payload.data, payload.len, NULL, 0);
    buf_fini(&payload);
    return true;
}

static void send_flush(struct sender *sender) {
    if (sender->n)
        sandbox_child_send(WIRE_ROWS, sender->block, sender->n, NULL, 0);
    sender->n = 0;
}

static void send_bytes(struct sender *sender, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        size_t n = WIRE_ROWS_MAX - sender->n;
        n = n < len ? n : len;
        memcpy(sender->block + sender->n, bytes, n);
        sender->n += n;
        bytes += n;
        len -= n;
        if (sender->n == WIRE_ROWS_MAX)
            send_flush(sender);
    }
}

/* ---- JPEG ------------------------------------------------------------------------------------ */

struct jpeg {
    struct jpeg_decompress_struct codec;
    struct jpeg_error_mgr errors;
    jmp_buf stop;
    char message[JMSG_LENGTH_MAX];
    bool cut; /* the file ended before its picture */
    uint8_t *row, *rgb;
    const struct read_task *task;
    struct sender *sender;
};

static void jpeg_stop(j_common_ptr codec) {
    struct jpeg *jpeg = codec->client_data;
    codec->err->format_message(codec, jpeg->message);
    longjmp(jpeg->stop, 1);
}

/* Warnings: all but one kind leave a picture that is whole enough. */
static void jpeg_message(j_common_ptr codec, int level) {
    struct jpeg *jpeg = codec->client_data;
    if (level < 0 && codec->err->msg_code == JWRN_JPEG_EOF)
        jpeg->cut = true;
}

static unsigned scaled(unsigned a, unsigned b) { /* a * b / 255, rounded */
    unsigned product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

static void rgb_of_inverted_cmyk(uint8_t *rgb, const uint8_t *cmyk, size_t n_pixels) {
    for (size_t i = 0; i < n_pixels; i++)
        for (size_t c = 0; c < 3; c++) {
            unsigned light = cmyk[4 * i + 3];
            rgb[3 * i + c] = (uint8_t)(light - scaled(255u - cmyk[4 * i + c], light));
        }
}

static bool jpeg_decode(struct jpeg *jpeg, struct error *err) {
    struct jpeg_decompress_struct *codec = &jpeg->codec;
    if (setjmp(jpeg->stop))
        return corrupt(err, "a jpeg file", jpeg->message);
    jpeg_create_decompress(codec);
    jpeg_mem_src(codec, jpeg->task->data, jpeg->task->size);
    jpeg_read_header(codec, TRUE);
    bool cmyk = codec->num_components == 4;
    codec->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    size_t width = codec->image_width;
    if (!send_size(width, codec->image_height, err))
        return false;
    jpeg->row = mem_try(width, MAX_CHANNELS, MAX_BYTES);
    jpeg->rgb = mem_try(width, 3, MAX_BYTES);
    if (!jpeg->row || !jpeg->rgb)
        return out_of_memory(err);
    jpeg_start_decompress(codec);
    while (codec->output_scanline < codec->output_height) {
        JSAMPROW row = jpeg->row;
        jpeg_read_scanlines(codec, &row, 1);
        if (jpeg->cut)
            return corrupt(err, "a jpeg file", "it ends before its picture");
        if (cmyk)
            rgb_of_inverted_cmyk(jpeg->rgb, jpeg->row, width);
        send_bytes(jpeg->sender, cmyk ? jpeg->rgb : jpeg->row, width * 3);
    }
    return true;
}

static bool send_jpeg(struct sender *sender, const struct read_task *task, struct error *err) {
    struct jpeg *jpeg = mem_alloc(sizeof *jpeg);
    jpeg->task = task;
    jpeg->sender = sender;
    jpeg->codec.err = jpeg_std_error(&jpeg->errors);
    jpeg->errors.error_exit = jpeg_stop;
    jpeg->errors.emit_message = jpeg_message;
    jpeg->codec.client_data = jpeg;
    bool fine = jpeg_decode(jpeg, err);
    jpeg_destroy_decompress(&jpeg->codec);
    mem_free(jpeg->row);
    mem_free(jpeg->rgb);
    mem_free(jpeg);
    return fine;
}

/* ---- PNG ------------------------------------------------------------------------------------- */

struct png {
    png_structp codec;
    png_infop info;
    char message[160];
    const struct read_task *task;
    size_t at;
    uint8_t *rows, *rgb; /* one row, or all of an interlaced picture */
    struct sender *sender;
};

static void png_stop(png_structp codec, png_const_charp message) {
    struct png *png = png_get_error_ptr(codec);
    snprintf(png->message, sizeof png->message, "%s", message);
    png_longjmp(codec, 1);
}

static void png_ignore(png_structp codec, png_const_charp message) {
    (void)codec;
    (void)message;
}

static void png_take(png_structp codec, png_bytep out, size_t len) {
    struct png *png = png_get_io_ptr(codec);
    if (len > png->task->size - png->at)
        png_error(codec, "it ends before its picture");
    memcpy(out, png->task->data + png->at, len);
    png->at += len;
}

/* A row of n_channels samples a pixel, of one byte or (wide) two. */
static void rgb_of_row(uint8_t *rgb, const uint8_t *row, size_t n_pixels, size_t n_channels,
                       bool wide) {
    for (size_t i = 0; i < n_pixels; i++) {
        const uint8_t *pixel = row + i * n_channels;
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] = n_channels >= 3 ? pixel[c] : pixel[0];
        if (wide)
            memset(rgb + 3 * i, row[2 * i] ? 255 : row[2 * i + 1], 3);
    }
}

static bool png_decode(struct png *png, struct error *err) {
    png_structp codec = png->codec;
    if (setjmp(png_jmpbuf(codec)))
        return corrupt(err, "a png file", png->message);
    png_set_read_fn(codec, png, png_take);
    png_set_user_limits(codec, IMAGE_MAX_PIXELS, IMAGE_MAX_PIXELS);
    png_set_chunk_malloc_max(codec, (png_alloc_size_t)64 << 20);
    png_read_info(codec, png->info);
    size_t width = png_get_image_width(codec, png->info);
    size_t height = png_get_image_height(codec, png->info);
    int depth = png_get_bit_depth(codec, png->info), type = png_get_color_type(codec, png->info);
    if (!send_size(width, height, err))
        return false;
    bool wide = depth == 16 && type == PNG_COLOR_TYPE_GRAY;
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(codec);
    else if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(codec);
    if (depth == 16 && !wide)
        png_set_strip_16(codec);
    int n_passes = png_set_interlace_handling(codec);
    png_read_update_info(codec, png->info);
    size_t stride = png_get_rowbytes(codec, png->info);
    size_t n_channels = png_get_channels(codec, png->info), n_rows = n_passes > 1 ? height : 1;
    png->rows = mem_try(stride, n_rows, MAX_BYTES);
    png->rgb = mem_try(width, 3, MAX_BYTES);
    if (!png->rows || !png->rgb)
        return out_of_memory(err);
    for (int pass = 0; pass + 1 < n_passes; pass++)
        for (size_t y = 0; y < height; y++)
            png_read_row(codec, png->rows + y * stride, NULL);
    for (size_t y = 0; y < height; y++) {
        uint8_t *row = png->rows + (n_rows > 1 ? y * stride : 0);
        png_read_row(codec, row, NULL);
        if (n_channels == 3) {
            send_bytes(png->sender, row, width * 3);
            continue;
        }
        rgb_of_row(png->rgb, row, width, wide ? 2 : n_channels, wide);
        send_bytes(png->sender, png->rgb, width * 3);
    }
    return true;
}

static bool send_png(struct sender *sender, const struct read_task *task, struct error *err) {
    struct png *png = mem_alloc(sizeof *png);
    png->task = task;
    png->sender = sender;
    png->codec = png_create_read_struct(PNG_LIBPNG_VER_STRING, png, png_stop, png_ignore);
    png->info = png->codec ? png_create_info_struct(png->codec) : NULL;
    bool fine = png->info ? png_decode(png, err) : out_of_memory(err);
    png_destroy_read_struct(&png->codec, &png->info, NULL);
    mem_free(png->rows);
    mem_free(png->rgb);
    mem_free(png);
    return fine;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static bool send_webp(struct sender *sender, const struct read_task *task, struct error *err) {
    uint32_t width, height;
    uint8_t *rgb;
    if (!image_webp_rgb(&rgb, &width, &height, task->data, task->size, err))
        return false;
    bool fine = send_size(width, height, err);
    if (fine)
        send_bytes(sender, rgb, (size_t)width * height * 3);
    mem_free(rgb);
    return fine;
}

/* Both MuPDF and libtiff give colours times alpha. */
static void divide_by_alpha(uint8_t *rgb, const uint8_t *rgba, size_t n_pixels) {
    for (size_t i = 0; i < n_pixels; i++)
        for (size_t c = 0; c < 3; c++) {
            unsigned alpha = rgba[4 * i + 3];
            unsigned value = alpha ? (rgba[4 * i + c] * 255u + alpha / 2) / alpha : 0;
            rgb[3 * i + c] = (uint8_t)(value > 255 ? 255 : value);
        }
}

struct tiff {
    const struct read_task *task;
    uint64_t at;
    char message[160];
};

static tmsize_t tiff_read(thandle_t handle, void *out, tmsize_t len) {
    struct tiff *tiff = handle;
    uint64_t left = tiff->at < tiff->task->size ? tiff->task->size - tiff->at : 0;
    size_t n = (uint64_t)len < left ? (size_t)len : (size_t)left;
    memcpy(out, tiff->task->data + (n ? tiff->at : 0), n);
    tiff->at += n;
    return (tmsize_t)n;
}

static tmsize_t tiff_write(thandle_t handle, void *data, tmsize_t len) {
    (void)handle;
    (void)data;
    (void)len;
    return 0;
}

static toff_t tiff_seek(thandle_t handle, toff_t offset, int whence) {
    struct tiff *tiff = handle;
    tiff->at = offset + (whence == SEEK_CUR ? tiff->at : whence == SEEK_END ? tiff->task->size : 0);
    return tiff->at;
}

static int tiff_close(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t tiff_size(thandle_t handle) {
    struct tiff *tiff = handle;
    return tiff->task->size;
}

static void tiff_failed(thandle_t handle, const char *where, const char *format, va_list args) {
    struct tiff *tiff = handle;
    (void)where;
    vsnprintf(tiff->message, sizeof tiff->message, format, args);
}

static bool send_tiff(struct sender *sender, const struct read_task *task, struct error *err) {
    struct tiff tiff = {.task = task};
    uint32_t width = 0, height = 0;
    uint32_t *raster = NULL; /* a pixel each, R in the low byte */
    uint8_t *rgb = NULL;
    bool fine = false;
    TIFFSetErrorHandler(NULL);
    TIFFSetWarningHandler(NULL);
    TIFFSetErrorHandlerExt(tiff_failed);
    TIFF *file = TIFFClientOpen("picture", "rm", &tiff, tiff_read, tiff_write, tiff_seek,
                                tiff_close, tiff_size, NULL, NULL);
    if (!file || !TIFFGetField(file, TIFFTAG_IMAGEWIDTH, &width) ||
        !TIFFGetField(file, TIFFTAG_IMAGELENGTH, &height)) {
        corrupt(err, "a tiff file", tiff.message);
    } else if (send_size(width, height, err)) {
        raster = mem_try((size_t)width * height, sizeof *raster, MAX_BYTES);
        rgb = mem_try(width, 3, MAX_BYTES);
        if (!raster || !rgb)
            out_of_memory(err);
        else if (!TIFFReadRGBAImageOriented(file, width, height, raster, ORIENTATION_TOPLEFT, 1))
            corrupt(err, "a tiff file", tiff.message);
        else
            fine = true;
    }
    for (uint32_t y = 0; fine && y < height; y++) {
        divide_by_alpha(rgb, (const uint8_t *)(raster + (size_t)y * width), width);
        send_bytes(sender, rgb, (size_t)width * 3);
    }
    if (file)
        TIFFClose(file);
    mem_free(raster);
    mem_free(rgb);
    return fine;
}

static void send_pixmap(fz_context *ctx, struct sender *sender, fz_pixmap *pixmap, uint8_t *rgb) {
    size_t width = (size_t)fz_pixmap_width(ctx, pixmap);
    const uint8_t *row = fz_pixmap_samples(ctx, pixmap);
    for (int y = 0; y < fz_pixmap_height(ctx, pixmap); y++) {
        if (fz_pixmap_components(ctx, pixmap) > 3)
            divide_by_alpha(rgb, row, width);
        send_bytes(sender, fz_pixmap_components(ctx, pixmap) > 3 ? rgb : row, width * 3);
        row += fz_pixmap_stride(ctx, pixmap);
    }
}

static bool send_bmp(struct sender *sender, const struct read_task *task, struct error *err) {
    struct image_file file;
    if (!image_file_open(&file, task->arena, task->data, task->size,
                         read_format_lookup(task->format)->media_type, IMAGE_MAX_FRAMES, err))
        return false;
    image_file_close(&file);
    fz_context *ctx = pages_context();
    if (!ctx)
        return out_of_memory(err);
    fz_buffer *buffer = NULL;
    fz_image *image = NULL;
    fz_pixmap *raw = NULL, *pixmap = NULL;
    uint8_t *rgb = NULL;
    bool fine = false;
    fz_var(buffer);
    fz_var(image);
    fz_var(raw);
    fz_var(pixmap);
    fz_var(rgb);
    fz_var(fine);
    fz_disable_icc(ctx);
    fz_try(ctx) {
        buffer = fz_new_buffer_from_shared_data(ctx, task->data, task->size);
        image = fz_new_image_from_buffer(ctx, buffer);
        raw = fz_get_pixmap_from_image(ctx, image, NULL, NULL, NULL, NULL);
        pixmap = fz_convert_pixmap(ctx, raw, fz_device_rgb(ctx), NULL, NULL,
                                   fz_default_color_params, 1);
        rgb = mem_try((size_t)fz_pixmap_width(ctx, pixmap), 3, MAX_BYTES);
        if (!rgb)
            out_of_memory(err);
        else if (send_size((uint64_t)fz_pixmap_width(ctx, pixmap),
                           (uint64_t)fz_pixmap_height(ctx, pixmap), err)) {
            send_pixmap(ctx, sender, pixmap, rgb);
            fine = true;
        }
    }
    fz_always(ctx) {
        fz_enable_icc(ctx);
        fz_drop_pixmap(ctx, pixmap);
        fz_drop_pixmap(ctx, raw);
        fz_drop_image(ctx, image);
        fz_drop_buffer(ctx, buffer);
    }
    fz_catch(ctx) {
        corrupt(err, "a picture", fz_caught_message(ctx));
    }
    mem_free(rgb);
    return fine;
}

bool pixels_send(struct read_task *task, struct error *err) {
    struct sender sender = {.block = mem_alloc(WIRE_ROWS_MAX)};
    bool fine = task->format == FORMAT_JPEG   ? send_jpeg(&sender, task, err)
                : task->format == FORMAT_PNG  ? send_png(&sender, task, err)
                : task->format == FORMAT_WEBP ? send_webp(&sender, task, err)
                : task->format == FORMAT_TIFF ? send_tiff(&sender, task, err)
                : task->format == FORMAT_BMP
                    ? send_bmp(&sender, task, err)
                    : error_set_code(err, ERROR_UNSUPPORTED, "unsupported",
                                     "a %s file is not a picture",
                                     read_format_lookup(task->format)->name);
    if (fine)
        send_flush(&sender);
    mem_free(sender.block);
    return fine;
}
