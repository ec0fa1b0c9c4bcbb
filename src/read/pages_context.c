/* The MuPDF context, and what keeps it within bounds in a process that has no second thread: every
 * block it asks for passes here, so here it is counted against a maximum, and here, every so many
 * blocks, the clock is read. MuPDF frees what it has cached and tries again when a block is
 * refused.
 *
 * Each block is preceded by 16 bytes that hold its size. */
#include "read/pages_context.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 16
#define BLOCKS_A_LOOK 256 /* or marks */

static struct {
    fz_context *ctx;
    size_t used_bytes;
    unsigned n_blocks;
    fz_cookie *cookie; /* of the work being watched, or NULL */
    int64_t deadline_ms;
    bool aborted;
} state;

static void look_at_clock(void) {
    if (!state.cookie || ++state.n_blocks % BLOCKS_A_LOOK != 0)
        return;
    if (time_mono_ms() > state.deadline_ms) {
        state.cookie->abort = 1;
        state.aborted = true;
    }
}

static void *block_realloc(void *user, void *block, size_t size) {
    (void)user;
    look_at_clock();
    char *old = block ? (char *)block - HEADER_BYTES : NULL;
    size_t old_size = 0;
    if (old)
        memcpy(&old_size, old, sizeof old_size);
    if (size > PAGES_MEMORY_BYTES || state.used_bytes - old_size > PAGES_MEMORY_BYTES - size)
        return NULL;
    char *grown = realloc(old, HEADER_BYTES + size); /* MuPDF's block */
    if (!grown)
        return NULL;
    memcpy(grown, &size, sizeof size);
    state.used_bytes += size - old_size;
    return grown + HEADER_BYTES;
}

static void *block_malloc(void *user, size_t size) {
    return block_realloc(user, NULL, size);
}

static void block_free(void *user, void *block) {
    (void)user;
    if (!block)
        return;
    size_t size;
    char *start = (char *)block - HEADER_BYTES;
    memcpy(&size, start, sizeof size);
    state.used_bytes -= size;
    free(start); /* MuPDF's block */
}

static void drop_message(void *user, const char *message) {
    (void)user;
    log_debug("mupdf: %s", message);
}

fz_context *pages_context(void) {
    static const fz_alloc_context alloc = {NULL, block_malloc, block_realloc, block_free};
    if (state.ctx)
        return state.ctx;
    fz_context *ctx = fz_new_context(&alloc, NULL, PAGES_STORE_BYTES);
    if (!ctx)
        return NULL;
    fz_set_error_callback(ctx, drop_message, NULL);
    fz_set_warning_callback(ctx, drop_message, NULL);
    fz_try(ctx) fz_register_document_handlers(ctx);
    fz_catch(ctx) {
        fz_drop_context(ctx);
        return NULL;
    }
    state.ctx = ctx;
    return ctx;
}

void pages_context_drop(void) {
    fz_drop_context(state.ctx);
    state.ctx = NULL;
}

/* ---- drawing -------------------------------------------------------------------------------- */

static fz_device drawing; /* the device's own functions */

static void fill_path(fz_context *ctx, fz_device *device, const fz_path *path, int even_odd,
                      fz_matrix ctm, fz_colorspace *space, const float *color, float alpha,
                      fz_color_params params) {
    look_at_clock();
    drawing.fill_path(ctx, device, path, even_odd, ctm, space, color, alpha, params);
}

static void stroke_path(fz_context *ctx, fz_device *device, const fz_path *path,
                        const fz_stroke_state *stroke, fz_matrix ctm, fz_colorspace *space,
                        const float *color, float alpha, fz_color_params params) {
    look_at_clock();
    drawing.stroke_path(ctx, device, path, stroke, ctm, space, color, alpha, params);
}

static void clip_path(fz_context *ctx, fz_device *device, const fz_path *path, int even_odd,
                      fz_matrix ctm, fz_rect scissor) {
    look_at_clock();
    drawing.clip_path(ctx, device, path, even_odd, ctm, scissor);
}

static void fill_text(fz_context *ctx, fz_device *device, const fz_text *text, fz_matrix ctm,
                      fz_colorspace *space, const float *color, float alpha,
                      fz_color_params params) {
    look_at_clock();
    drawing.fill_text(ctx, device, text, ctm, space, color, alpha, params);
}

void pages_watch_device(fz_device *device) {
    drawing = *device;
    device->fill_path = fill_path;
    device->stroke_path = stroke_path;
    device->clip_path = clip_path;
    device->fill_text = fill_text;
}

/* ---- the watch ------------------------------------------------------------------------------ */

void pages_watch_begin(fz_cookie *cookie, int64_t deadline_ms) {
    state.cookie = cookie;
    state.deadline_ms = deadline_ms;
    state.aborted = false;
}

bool pages_watch_end(void) {
    state.cookie = NULL;
    return state.aborted;
}
