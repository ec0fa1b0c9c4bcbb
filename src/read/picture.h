/* read, pictures: RGB samples -> the JPEG of a page and its thumbnail. libjpeg is seen here
 * and in pixels.c. */
#ifndef DOCUSEARCH_READ_PICTURE_H
#define DOCUSEARCH_READ_PICTURE_H

#include "base/base.h"

#define PICTURE_MAX_SIDE 8192
#define THUMB_MAX_WIDTH 320
#define THUMB_MAX_HEIGHT 1280

struct picture_bytes {
    uint8_t *data;
    size_t len, cap;
};
/* Zero-initialise; the buffers are used again for the next page. */
struct picture {
    struct picture_bytes jpeg, thumb; /* the results */
    struct picture_bytes grey, small; /* samples on their way */
    uint32_t *sums;
    size_t n_sums;
};
/* rgb: height rows of width * 3 samples, stride bytes apart; 1 <= width, height <= 65500.
 * ERROR_INTERNAL out_of_memory. */
bool picture_encode(struct picture *picture, const uint8_t *rgb, int width, int height,
                    ptrdiff_t stride, struct error *err);
void picture_fini(struct picture *picture);

#endif
