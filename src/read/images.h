/* read, images: what an image file says of itself, before anything is decoded. libwebp is seen here
 * alone. */
#ifndef DOCUSEARCH_READ_IMAGES_H
#define DOCUSEARCH_READ_IMAGES_H

#include "base/base.h"

#define IMAGE_MAX_PIXELS ((uint64_t)100000000)
#define IMAGE_MAX_FRAMES 100000

struct image_frame {
    uint32_t width, height; /* as stored, before any orientation */
};
struct image_file {
    struct image_frame *frames; /* the arena's */
    uint32_t n_frames;
    uint8_t *pixmap; /* WebP: the image as a binary PPM (mem_free); else NULL */
    size_t pixmap_size;
};
/* Reads the headers of a PNG, JPEG, BMP, TIFF or WebP file; WebP is decoded as well, its first
 * frame. ERROR_LIMIT image_limit: a frame of more than IMAGE_MAX_PIXELS; too_many_pages: more
 * frames than max_frames. ERROR_INPUT corrupt: no such file. */
bool image_file_open(struct image_file *out, struct arena *arena, const uint8_t *data, size_t size,
                     const char *media_type, int max_frames, struct error *err);
/* A WebP file's first picture on its canvas, alpha dropped, as RGB; the caller's (mem_free). */
bool image_webp_rgb(uint8_t **rgb, uint32_t *width, uint32_t *height, const uint8_t *data,
                    size_t size, struct error *err);
void image_file_close(struct image_file *file);

#endif
