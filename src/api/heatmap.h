/* api, inside: a map of patches as a picture. */
#ifndef DOCUSEARCH_API_HEATMAP_H
#define DOCUSEARCH_API_HEATMAP_H

#include "base/base.h"

#define HEATMAP_SIDE 512 /* pixels of the longer side */
#define HEATMAP_LEAST 16 /* of the shorter, whatever the page's shape */

/* Pixels of a picture of a page's shape; a square where that is not known (0). */
void heatmap_size(int *width, int *height, float page_width, float page_height);
/* height rows of width values out of grid_height rows of grid_width. */
void heatmap_stretch(float *out, int width, int height, const float *map, int grid_width,
                     int grid_height);
/* strength 0..1 */
void heatmap_colour(uint8_t rgba[4], double strength);
/* rgba: height rows of width pixels of 4 bytes. A flat map gives nothing but clear pixels. */
void heatmap_draw(uint8_t *rgba, int width, int height, const float *map, int grid_width,
                  int grid_height);

#endif
