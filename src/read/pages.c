/* Pages through MuPDF: PDF, EPUB, HTML and images.
 *
 * A page is run once into a display list; the list gives its words, its picture and, where there is
 * no text to be had, the grey picture for OCR; then it is dropped. MuPDF's exceptions stop in these
 * files: every step of a page is a function with its own fz_try that says whether it went well, so
 * that a page whose text is damaged still has its picture.
 *
 * Nothing a file says about size is believed: a page's picture is scaled down to PICTURE_MAX_SIDE
 * and PICTURE_MAX_PIXELS before memory is taken for it, pages are counted against the task's
 * maximum before the first is loaded, and a page has PAGE_TIMEOUT_MS. JavaScript is never switched
 * on. */
#include "read/pages_reading.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <mupdf/pdf.h>

#include "read/picture.h"

#define PICTURE_MAX_PIXELS 40e6       /* of a page that is drawn */
#define PICTURE_MAX_IMAGE_PIXELS 67e6 /* of an image, which is copied */
#define PAGE_TIMEOUT_MS 25000         /* DOCUSEARCH_READ_PAGE_MS, for tests, makes it another */
#define LAYOUT_WIDTH_PT 595           /* of documents without pages of their own */
#define LAYOUT_HEIGHT_PT 842
#define LAYOUT_EM_PT 11
#define MIN_IMAGE_PAGE_PT 36
#define FEW_CHARS 40 /* fewer on a page that is mostly image: not the page's text */
#define MAX_NOTES 1000
#define MAX_NOTE_BYTES 65536

static struct picture shared_picture; /* its buffers, kept from page to page */

int64_t pages_timeout_ms = PAGE_TIMEOUT_MS;

void read_pages_preload(void) {
    const char *asked = getenv("DOCUSEARCH_READ_PAGE_MS");
    struct error err;
    if (asked &&
        !text_to_int(&pages_timeout_ms, asked, 1, 3600000, "DOCUSEARCH_READ_PAGE_MS", &err))
        log_warn("%s", err.text);
    pages_context();
}

void read_pages_unload(void) {
    pages_context_drop();
    picture_fini(&shared_picture);
}

/* ---- the document --------------------------------------------------------------------------- */

static bool failed(struct reading *reading, const char *what, struct error *err) {
    if (fz_caught(reading->ctx) == FZ_ERROR_MEMORY)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory",
                              "%s: more memory was needed "
                              "than a document may have",
                              what);
    return error_set_code(err, ERROR_INPUT, "corrupt", "%s: %.160s", what,
                          fz_caught_message(reading->ctx));
}

static bool was_repaired(struct reading *reading) {
    pdf_document *pdf = pdf_document_from_fz_document(reading->ctx, reading->doc);
    return pdf && pdf_was_repaired(reading->ctx, pdf);
}

static bool open_document(struct reading *reading, const void *data, size_t size,
                          const char *media_type, struct error *err) {
    fz_context *ctx = reading->ctx;
    int needs_password = 0, n_pages = 0;
    fz_var(needs_password);
    fz_var(n_pages);
    fz_try(ctx) {
        reading->stream = fz_open_memory(ctx, data, size);
        reading->doc = fz_open_document_with_stream(ctx, media_type, reading->stream);
        needs_password = fz_needs_password(ctx, reading->doc);
        if (!needs_password) {
            if (fz_is_document_reflowable(ctx, reading->doc))
                fz_layout_document(ctx, reading->doc, LAYOUT_WIDTH_PT, LAYOUT_HEIGHT_PT,
                                   LAYOUT_EM_PT);
            n_pages = fz_count_pages(ctx, reading->doc);
        }
    }
    fz_catch(ctx) return failed(reading, "the document cannot be opened", err);
    if (needs_password)
        return error_set_code(err, ERROR_INPUT, "password_required",
                              "the document opens only with a password");
    if (n_pages <= 0 && was_repaired(reading))
        return error_set_code(err, ERROR_INPUT, "corrupt", "a damaged file without a page left");
    if (n_pages <= 0)
        return error_set_code(err, ERROR_INPUT, "no_pages", "the document has no pages");
    if (n_pages > reading->task->max_pages)
        return error_set_code(err, ERROR_LIMIT, "too_many_pages",
                              "the document has %d pages, the maximum is %d", n_pages,
                              reading->task->max_pages);
    reading->n_pages = (uint32_t)n_pages;
    return true;
}

/* ---- a page: its list, words and notes ------------------------------------------------------ */

static bool page_load(struct reading *reading, struct page *page) {
    fz_context *ctx = reading->ctx;
    fz_try(ctx) {
        page->page = fz_load_page(ctx, reading->doc, (int)page->page_i);
        page->bounds = fz_bound_page(ctx, page->page);
    }
    fz_catch(ctx) return pages_caught(reading);
    float width = page->bounds.x1 - page->bounds.x0, height = page->bounds.y1 - page->bounds.y0;
    if (!(isfinite(width) && isfinite(height) && width > 0 && height > 0))
        return false;
    float grow = 1;
    if (reading->image && fminf(width, height) < MIN_IMAGE_PAGE_PT)
        grow = MIN_IMAGE_PAGE_PT / fminf(width, height);
    page->width_pt = width * grow;
    page->height_pt = height * grow;
    return true;
}

/* Annotations and form fields are part of what is run. What was reached before an error stays in
 * the list. */
static bool page_run(struct reading *reading, struct page *page) {
    fz_context *ctx = reading->ctx;
    fz_device *device = NULL;
    fz_var(device);
    fz_try(ctx) {
        page->list = fz_new_display_list(ctx, page->bounds);
        device = fz_new_list_device(ctx, page->list);
        fz_run_page(ctx, page->page, device, fz_identity, &reading->cookie);
        fz_close_device(ctx, device);
    }
    fz_always(ctx) fz_drop_device(ctx, device);
    fz_catch(ctx) return pages_caught(reading);
    return reading->cookie.errors == 0;
}

static bool page_words(struct reading *reading, struct page *page, struct text_tally *tally) {
    fz_context *ctx = reading->ctx;
    fz_stext_options options = {.flags = FZ_STEXT_PRESERVE_IMAGES | FZ_STEXT_MEDIABOX_CLIP};
    fz_stext_page *text = NULL;
    fz_device *device = NULL;
    fz_var(text);
    fz_var(device);
    fz_try(ctx) {
        text = fz_new_stext_page(ctx, page->bounds);
        device = fz_new_stext_device(ctx, text, &options);
        fz_run_display_list(ctx, page->list, device, fz_identity, fz_infinite_rect,
                            &reading->cookie);
        fz_close_device(ctx, device);
        pages_text_read(&reading->words, tally, text, ctx, page->bounds, page->page_i);
    }
    fz_always(ctx) {
        fz_drop_device(ctx, device);
        fz_drop_stext_page(ctx, text);
    }
    fz_catch(ctx) return pages_caught(reading);
    return true;
}

static bool is_note(enum pdf_annot_type type) {
    return type != PDF_ANNOT_WIDGET && type != PDF_ANNOT_LINK && type != PDF_ANNOT_POPUP &&
           type != PDF_ANNOT_FREE_TEXT;
}

/* What commentators wrote: it is in the file, but not drawn. */
static bool page_notes(struct reading *reading, struct page *page) {
    fz_context *ctx = reading->ctx;
    fz_try(ctx) {
        pdf_page *pdf = pdf_page_from_fz_page(ctx, page->page);
        pdf_annot *annot = pdf ? pdf_first_annot(ctx, pdf) : NULL;
        for (int n = 0; annot && n < MAX_NOTES; n++, annot = pdf_next_annot(ctx, annot)) {
            if (!is_note(pdf_annot_type(ctx, annot)))
                continue;
            const char *contents = pdf_annot_contents(ctx, annot);
            if (contents && strnlen(contents, MAX_NOTE_BYTES) < MAX_NOTE_BYTES)
                pages_text_plain(&reading->words, contents, page->page_i,
                                 pages_text_box(pdf_bound_annot(ctx, annot), page->bounds),
                                 RAW_NOTE);
        }
    }
    fz_catch(ctx) return pages_caught(reading);
    return true;
}

/* ---- a page: its pictures ------------------------------------------------------------------- */

/* The scale at which the page is drawn, from points to pixels. */
double page_picture_scale(const struct reading *reading, const struct page *page) {
    double width = page->bounds.x1 - page->bounds.x0, height = page->bounds.y1 - page->bounds.y0;
    double longest = fmax(width, height), max_pixels = PICTURE_MAX_PIXELS;
    double scale = reading->task->render_dpi / 72.0;
    if (reading->image && page->page_i < reading->image->n_frames) {
        const struct image_frame *frame = &reading->image->frames[page->page_i];
        scale = fmax(frame->width, frame->height) / longest;
        max_pixels = PICTURE_MAX_IMAGE_PIXELS;
    }
    scale = fmin(scale, PICTURE_MAX_SIDE / longest);
    return fmin(scale, sqrt(max_pixels / width / height));
}

/* NULL: not drawn. */
fz_pixmap *page_draw(struct reading *reading, struct page *page, fz_colorspace *space,
                     double scale) {
    fz_context *ctx = reading->ctx;
    float width = page->bounds.x1 - page->bounds.x0, height = page->bounds.y1 - page->bounds.y0;
    int width_px = (int)fmax(1, ceil(width * scale - 0.01));
    int height_px = (int)fmax(1, ceil(height * scale - 0.01));
    fz_pixmap *pixmap = NULL;
    fz_device *device = NULL;
    bool ok = true;
    fz_var(pixmap);
    fz_var(device);
    fz_var(ok);
    fz_try(ctx) {
        fz_irect whole = {0, 0, width_px, height_px};
        fz_matrix to_pixels = fz_concat(fz_translate(-page->bounds.x0, -page->bounds.y0),
                                        fz_scale((float)scale, (float)scale));
        pixmap = fz_new_pixmap_with_bbox(ctx, space, whole, NULL, 0);
        fz_clear_pixmap_with_value(ctx, pixmap, 255);
        device = fz_new_draw_device(ctx, to_pixels, pixmap);
        pages_watch_device(device);
        fz_run_display_list(ctx, page->list, device, fz_identity, page->bounds, &reading->cookie);
        fz_close_device(ctx, device);
    }
    fz_always(ctx) fz_drop_device(ctx, device);
    fz_catch(ctx) ok = pages_caught(reading);
    if (!ok)
        page->damaged = true;
    return pixmap;
}

static bool is_blank(fz_context *ctx, fz_pixmap *pixmap) {
    const uint8_t *samples = fz_pixmap_samples(ctx, pixmap);
    size_t row = (size_t)fz_pixmap_width(ctx, pixmap) * (size_t)fz_pixmap_components(ctx, pixmap);
    for (int y = 0; y < fz_pixmap_height(ctx, pixmap); y++) {
        const uint8_t *at = samples + (ptrdiff_t)y * fz_pixmap_stride(ctx, pixmap);
        if (memcmp(at, samples, row) != 0 || memcmp(at, at + 1, row - 1) != 0)
            return false;
    }
    return true;
}

/* False ends the document. */
static bool page_picture(struct reading *reading, struct page *page, bool *blank,
                         struct error *err) {
    fz_context *ctx = reading->ctx;
    fz_pixmap *pixmap = page_draw(reading, page, fz_device_rgb(ctx),
                                  page_picture_scale(reading, page));
    *blank = true;
    if (!pixmap)
        return true;
    bool ok = picture_encode(&shared_picture, fz_pixmap_samples(ctx, pixmap),
                             fz_pixmap_width(ctx, pixmap), fz_pixmap_height(ctx, pixmap),
                             fz_pixmap_stride(ctx, pixmap), err);
    *blank = is_blank(ctx, pixmap);
    fz_drop_pixmap(ctx, pixmap);
    if (!ok)
        return false;
    doc_page_set_flags(reading->task->builder, page->page_i, DOC_PAGE_PICTURE);
    return read_task_picture(reading->task, page->page_i, shared_picture.jpeg.data,
                             shared_picture.jpeg.len, shared_picture.thumb.data,
                             shared_picture.thumb.len, err);
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void page_close(struct reading *reading, struct page *page) {
    fz_drop_display_list(reading->ctx, page->list);
    fz_drop_page(reading->ctx, page->page);
}

static void page_add(struct reading *reading, const struct page *page) {
    reading->sizes[page->page_i] = (struct raw_page){page->width_pt, page->height_pt};
    doc_add_page(reading->task->builder, page->width_pt, page->height_pt, 0);
}

/* False ends the document. */
static bool read_page(struct reading *reading, struct page *page, struct error *err) {
    size_t first = reading->words.n;
    struct text_tally tally = {0};
    bool blank = true, loaded;
    memset(&reading->cookie, 0, sizeof reading->cookie);
    pages_watch_begin(&reading->cookie, time_mono_ms() + pages_timeout_ms);
    loaded = page_load(reading, page);
    if (!loaded) {
        page->damaged = true;
        page->width_pt = LAYOUT_WIDTH_PT;
        page->height_pt = LAYOUT_HEIGHT_PT;
    }
    page_add(reading, page);
    bool ok = true;
    if (loaded) {
        if (!page_run(reading, page))
            page->damaged = true;
        if (page->list && !page_words(reading, page, &tally))
            page->damaged = true;
        if (!page_notes(reading, page))
            page->damaged = true;
        if (page->list)
            ok = page_picture(reading, page, &blank, err);
    }
    if (pages_watch_end()) {
        page->damaged = true;
        page_set_add(&reading->slow, page->page_i);
    }
    bool garbled = tally.n_unmapped * 2 > tally.n_chars;
    bool pictured = tally.image_share >= 0.5 && tally.n_chars < FEW_CHARS;
    if (ok && page->list && !blank && (tally.n_words == 0 || garbled || pictured)) {
        page_read_ocr(reading, page, first);
    }
    if (page->damaged) {
        doc_page_set_flags(reading->task->builder, page->page_i, DOC_PAGE_BROKEN);
        page_set_add(&reading->damaged, page->page_i);
        if (!loaded || (blank && reading->words.n == first))
            reading->n_lost++;
    }
    return ok;
}

static bool read_all(struct reading *reading, struct error *err) {
    struct read_task *task = reading->task;
    for (uint32_t i = 0; i < reading->n_pages; i++) {
        struct page page = {.page_i = i};
        bool ok = read_page(reading, &page, err);
        page_close(reading, &page);
        if (!ok)
            return false;
        if (reading->out_of_memory)
            return error_set_code(err, ERROR_INTERNAL, "out_of_memory",
                                  "page %u: more memory was needed than a document may have",
                                  i + 1);
        read_task_progress(task, i + 1, reading->n_pages);
    }
    if (reading->n_lost == reading->n_pages && reading->slow.n > 0)
        return error_set_code(err, ERROR_LIMIT, "timeout",
                              "none of its %u pages could be read in %d s", reading->n_pages,
                              (int)(pages_timeout_ms / 1000));
    if (reading->n_lost == reading->n_pages)
        return error_set_code(err, ERROR_INPUT, "corrupt", "none of its %u pages could be read",
                              reading->n_pages);
    page_set_warn(&reading->damaged, task, "damaged");
    page_set_warn(&reading->slow, task, "took too long and were left unfinished");
    page_set_warn(&reading->ocr_slow, task, "took too long to recognise");
    page_set_warn(&reading->ocr_poor, task, "too unclear to recognise");
    page_set_warn(&reading->ocr_absent, task, "without text, and no OCR to read it");
    if (reading->words.failed)
        doc_set_meta(task->builder, "warning",
                     "more words than can be held: the last are left out");
    return true;
}

static bool read_document_pages(struct raw_pages *raw, struct reading *reading, const void *data,
                                size_t size, const char *media_type, struct error *err) {
    if (!open_document(reading, data, size, media_type, err))
        return false;
    reading->sizes = arena_try(reading->task->arena, reading->n_pages, sizeof *reading->sizes);
    if (!reading->sizes)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for %u pages",
                              reading->n_pages);
    pages_read_info(reading);
    if (!read_all(reading, err))
        return false;
    raw->n_pages = reading->n_pages;
    raw->pages = reading->sizes;
    raw->outline = reading->outline;
    raw->n_outline = reading->n_outline;
    if (!raw_list_take(raw, &reading->words))
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for %zu words",
                              reading->words.n);
    return true;
}

bool read_pages(struct raw_pages *raw, struct read_task *task, const void *data, size_t size,
                const char *media_type, struct error *err) {
    struct reading reading = {.task = task, .words = {.arena = task->arena}};
    struct image_file image = {0};
    memset(raw, 0, sizeof *raw);
    if (size == 0)
        return error_set_code(err, ERROR_INPUT, "empty_file", "the file is empty");
    reading.ctx = pages_context();
    if (!reading.ctx)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for MuPDF");
    if (strncmp(media_type, "image/", 6) == 0) {
        if (!image_file_open(&image, task->arena, data, size, media_type, task->max_pages, err))
            return false;
        reading.image = &image;
        if (image.pixmap) {
            data = image.pixmap;
            size = image.pixmap_size;
            media_type = "image/x-portable-pixmap";
        }
    }
    bool ok = read_document_pages(raw, &reading, data, size, media_type, err);
    fz_drop_document(reading.ctx, reading.doc);
    fz_drop_stream(reading.ctx, reading.stream);
    fz_empty_store(reading.ctx);
    raw_list_fini(&reading.words);
    image_file_close(&image);
    return ok;
}
