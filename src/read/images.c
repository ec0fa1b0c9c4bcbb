/* Sizes of images from their headers, each read by the few bytes of its format that say it, so that
 * an image bomb is refused before memory is taken for it. */
#include "read/images.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

struct bytes {
    const uint8_t *data;
    size_t size;
    bool little; /* byte order of TIFF */
};

static bool corrupt(struct error *err, const char *what) {
    return error_set_code(err, ERROR_INPUT, "corrupt", "%s", what);
}

static uint32_t get(const struct bytes *in, size_t at, int n) {
    uint32_t value = 0;
    if (at > in->size || in->size - at < (size_t)n)
        return 0;
    for (int i = 0; i < n; i++)
        value = value << 8 | in->data[at + (size_t)(in->little ? n - 1 - i : i)];
    return value;
}

static bool add_frame(struct image_file *out, uint64_t width, uint64_t height, struct error *err) {
    if (width == 0 || height == 0 || width > UINT32_MAX || height > UINT32_MAX)
        return corrupt(err, "an image without width or height");
    if (width * height > IMAGE_MAX_PIXELS)
        return error_set_code(err, ERROR_LIMIT, "image_limit",
                              "an image of %llu x %llu pixels, the maximum is %llu megapixels",
                              (unsigned long long)width, (unsigned long long)height,
                              (unsigned long long)(IMAGE_MAX_PIXELS / 1000000));
    out->frames[out->n_frames].width = (uint32_t)width;
    out->frames[out->n_frames].height = (uint32_t)height;
    out->n_frames++;
    return true;
}

static bool open_png(struct image_file *out, const struct bytes *in, struct error *err) {
    if (in->size < 33 || memcmp(in->data, "\x89PNG\r\n\x1a\n", 8) != 0 ||
        memcmp(in->data + 12, "IHDR", 4) != 0)
        return corrupt(err, "not a png file");
    return add_frame(out, get(in, 16, 4), get(in, 20, 4), err);
}

static bool open_bmp(struct image_file *out, const struct bytes *in, struct error *err) {
    if (in->size < 26 || memcmp(in->data, "BM", 2) != 0)
        return corrupt(err, "not a bmp file");
    if (get(in, 14, 4) == 12) /* the OS/2 header */
        return add_frame(out, get(in, 18, 2), get(in, 20, 2), err);
    int32_t height = (int32_t)get(in, 22, 4); /* negative: stored from the top */
    return add_frame(out, get(in, 18, 4), (uint64_t)(height < 0 ? -(int64_t)height : height), err);
}

/* Segments up to the frame header (SOF), which holds the size. */
static bool open_jpeg(struct image_file *out, const struct bytes *in, struct error *err) {
    size_t at = 2;
    if (in->size < 4 || in->data[0] != 0xFF || in->data[1] != 0xD8)
        return corrupt(err, "not a jpeg file");
    while (at + 4 <= in->size) {
        uint8_t marker = in->data[at + 1];
        if (in->data[at] != 0xFF || marker == 0xFF) {
            at++;
            continue;
        }
        bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 &&
                     marker != 0xCC;
        if (frame)
            return add_frame(out, get(in, at + 7, 2), get(in, at + 5, 2), err);
        if (marker == 0x01 || marker == 0x00 || (marker >= 0xD0 && marker <= 0xD8))
            at += 2;
        else
            at += 2 + get(in, at + 2, 2);
    }
    return corrupt(err, "a jpeg file without a frame");
}

/* One directory a frame, chained; a chain that comes back to itself is longer than the file. */
static bool open_tiff(struct image_file *out, struct bytes *in, int max_frames, struct arena *arena,
                      struct error *err) {
    if (in->size < 8 || (memcmp(in->data, "II*\0", 4) != 0 && memcmp(in->data, "MM\0*", 4) != 0))
        return corrupt(err, "not a tiff file");
    in->little = in->data[0] == 'I';
    size_t at = get(in, 4, 4), n = 0;
    uint32_t n_max = (uint32_t)max_frames;
    for (size_t walk = at; walk != 0 && walk + 2 <= in->size; n++) {
        if (n > n_max || n > in->size / 6)
            return error_set_code(err, ERROR_LIMIT, "too_many_pages",
                                  "more than %u images in a tiff file", n_max);
        walk = get(in, walk + 2 + (size_t)get(in, walk, 2) * 12, 4);
    }
    if (n > n_max)
        return error_set_code(err, ERROR_LIMIT, "too_many_pages",
                              "%zu images in a tiff file, the maximum is %u", n, n_max);
    out->frames = arena_try(arena, n + 1, sizeof *out->frames);
    if (!out->frames)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for %zu images", n);
    for (size_t frame_i = 0; frame_i < n; frame_i++) {
        uint32_t n_entries = get(in, at, 2), width = 0, height = 0;
        for (uint32_t i = 0; i < n_entries; i++) {
            size_t entry = at + 2 + (size_t)i * 12;
            uint32_t tag = get(in, entry, 2), type = get(in, entry + 2, 2);
            uint32_t value = type == 3 ? get(in, entry + 8, 2) : get(in, entry + 8, 4);
            if (tag == 256)
                width = value;
            if (tag == 257)
                height = value;
        }
        if (!add_frame(out, width, height, err))
            return false;
        at = get(in, at + 2 + (size_t)n_entries * 12, 4);
    }
    return n > 0 || error_set_code(err, ERROR_INPUT, "no_pages", "a tiff file without an image");
}

/* RGBA over white, in place, to RGB. */
static void flatten(uint8_t *out, const uint8_t *rgba, size_t n_pixels) {
    for (size_t i = 0; i < n_pixels; i++) {
        unsigned alpha = rgba[4 * i + 3];
        for (size_t c = 0; c < 3; c++)
            out[3 * i + c] = (uint8_t)((rgba[4 * i + c] * alpha + 255u * (255u - alpha) + 127u) /
                                       255u);
    }
}

static bool decode_webp(struct image_file *out, const uint8_t *data, size_t size,
                        struct error *err) {
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(data, size, &features) != VP8_STATUS_OK || features.width <= 0 ||
        features.height <= 0)
        return corrupt(err, "a webp file without a picture");
    if (!add_frame(out, (uint64_t)features.width, (uint64_t)features.height, err))
        return false;
    size_t n_pixels = (size_t)features.width * (size_t)features.height;
    char head[64];
    int head_len = snprintf(head, sizeof head, "P6\n%d %d\n255\n", features.width, features.height);
    size_t per_pixel = features.has_alpha ? 4 : 3;
    out->pixmap_size = (size_t)head_len + n_pixels * 3;
    out->pixmap = mem_try((size_t)head_len + n_pixels * per_pixel, 1, (size_t)1 << 30);
    if (!out->pixmap)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for a webp picture");
    memcpy(out->pixmap, head, (size_t)head_len);
    uint8_t *samples = out->pixmap + head_len;
    int stride = features.width * (int)per_pixel;
    bool decoded = features.has_alpha
                       ? WebPDecodeRGBAInto(data, size, samples, n_pixels * 4, stride) != NULL
                       : WebPDecodeRGBInto(data, size, samples, n_pixels * 3, stride) != NULL;
    if (!decoded)
        return corrupt(err, "a webp file with a damaged picture");
    if (features.has_alpha)
        flatten(samples, samples, n_pixels);
    return true;
}

static bool open_webp(struct image_file *out, const struct bytes *in, struct error *err) {
    WebPData whole = {in->data, in->size};
    WebPDemuxer *demuxer = WebPDemux(&whole);
    WebPIterator frame;
    bool ok = false;
    if (demuxer && WebPDemuxGetFrame(demuxer, 1, &frame)) {
        ok = decode_webp(out, frame.fragment.bytes, frame.fragment.size, err);
        WebPDemuxReleaseIterator(&frame);
    } else {
        corrupt(err, "not a whole webp file");
    }
    WebPDemuxDelete(demuxer);
    return ok;
}

bool image_webp_rgb(uint8_t **rgb, uint32_t *width, uint32_t *height, const uint8_t *data,
                    size_t size, struct error *err) {
    WebPData whole = {data, size};
    WebPDemuxer *demuxer = WebPDemux(&whole);
    WebPIterator frame;
    struct image_frame canvas;
    struct image_file file = {.frames = &canvas};
    *rgb = NULL;
    if (!demuxer || !WebPDemuxGetFrame(demuxer, 1, &frame)) {
        WebPDemuxDelete(demuxer);
        return corrupt(err, "not a whole webp file");
    }
    uint32_t x = (uint32_t)frame.x_offset, y = (uint32_t)frame.y_offset;
    *width = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH);
    *height = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT);
    bool fine = add_frame(&file, *width, *height, err);
    size_t n = (size_t)*width * *height * 3, at = ((size_t)y * *width + x) * 3;
    if (fine && !(*rgb = mem_try(n, 1, (size_t)1 << 30)))
        fine = error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for a webp picture");
    if (fine &&
        (frame.width < 1 || frame.height < 1 || (uint64_t)x + (uint32_t)frame.width > *width ||
         (uint64_t)y + (uint32_t)frame.height > *height ||
         !WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, *rgb + at, n - at,
                            (int)*width * 3)))
        fine = corrupt(err, "a webp file with a damaged picture");
    WebPDemuxReleaseIterator(&frame);
    WebPDemuxDelete(demuxer);
    if (!fine) {
        mem_free(*rgb);
        *rgb = NULL;
    }
    return fine;
}

bool image_file_open(struct image_file *out, struct arena *arena, const uint8_t *data, size_t size,
                     const char *media_type, int max_frames, struct error *err) {
    struct bytes in = {data, size, false};
    memset(out, 0, sizeof *out);
    out->frames = arena_alloc(arena, sizeof *out->frames);
    bool ok;
    if (strcmp(media_type, "image/png") == 0)
        ok = open_png(out, &in, err);
    else if (strcmp(media_type, "image/jpeg") == 0)
        ok = open_jpeg(out, &in, err);
    else if (strcmp(media_type, "image/bmp") == 0)
        in.little = true, ok = open_bmp(out, &in, err);
    else if (strcmp(media_type, "image/tiff") == 0)
        ok = open_tiff(out, &in, max_frames, arena, err);
    else if (strcmp(media_type, "image/webp") == 0)
        ok = open_webp(out, &in, err);
    else
        ok = error_set_code(err, ERROR_UNSUPPORTED, "unsupported", "no reader for %.60s",
                            media_type);
    if (!ok)
        image_file_close(out);
    return ok;
}

void image_file_close(struct image_file *file) {
    mem_free(file->pixmap);
    memset(file, 0, sizeof *file);
}
