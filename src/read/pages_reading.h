/* read, pages: one document being read, as the files of pages.c share it. */
#ifndef DOCUSEARCH_READ_PAGES_READING_H
#define DOCUSEARCH_READ_PAGES_READING_H

#include <mupdf/fitz.h>

#include "read/images.h"
#include "read/pages.h"
#include "read/pages_context.h"
#include "read/pages_text.h"

/* Pages to be named in the warning, as ranges. */
struct page_set {
    struct {
        uint32_t first, last;
    } ranges[16];
    int n_ranges;
    uint32_t n;
};

struct reading {
    struct read_task *task;
    fz_context *ctx;
    fz_stream *stream;
    fz_document *doc;
    const struct image_file *image; /* of an image file, else NULL */
    struct raw_list words;
    struct raw_page *sizes;
    struct doc_outline *outline;
    size_t n_outline;
    fz_cookie cookie;
    bool out_of_memory;
    uint32_t n_pages, n_lost; /* lost: nothing of the page could be read */
    struct page_set damaged, slow, ocr_slow, ocr_poor, ocr_absent;
};

/* One page, while it is read. */
struct page {
    uint32_t page_i;
    fz_page *page;
    fz_display_list *list;
    fz_rect bounds; /* in points */
    float width_pt, height_pt;
    bool damaged;
};

/* A number of the page is added to set; set_warn makes "pages 3, 9-12 <what>" of it. pages_info.c
 */
void page_set_add(struct page_set *set, uint32_t page_i);
void page_set_warn(const struct page_set *set, struct read_task *task, const char *what);
/* After fz_catch: remembers a lack of memory, the one failure that is not the page's own. False. */
bool pages_caught(struct reading *reading);

/* Title, author, date and bookmarks, as far as they can be read. pages_info.c */
void pages_read_info(struct reading *reading);

/* Pixels of the page at scale (pixels a point); what could not be drawn is white, and the page
 * damaged. NULL without memory. pages.c */
fz_pixmap *page_draw(struct reading *reading, struct page *page, fz_colorspace *space,
                     double scale);
double page_picture_scale(const struct reading *reading, const struct page *page);
extern int64_t pages_timeout_ms; /* for one page, but for its OCR */

/* Adds what OCR reads on the page where it has no words yet; those from `first` on whose characters
 * mean nothing go. pages_ocr.c */
void page_read_ocr(struct reading *reading, struct page *page, size_t first);

#endif
