/* Recognising text with Tesseract, in a process that can open no file and start no thread.
 *
 * The data is read into memory beforehand (ocr_preload); one language is set up from there when it
 * is first needed. Orientation is found first, on a half-size copy, by Tesseract's own detector
 * over its own data; the page is turned upright and read once. */
#include "read/ocr.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <tesseract/capi.h>

#define DATA_MAX_BYTES ((size_t)256 << 20)
#define MIN_WORD_CONFIDENCE 50.0f
#define MIN_PAGE_CONFIDENCE 55.0f
#define MIN_ORIENTATION_CONFIDENCE 1.5f
#define MIN_ORIENTATION_SIDE 300 /* pixels; smaller is taken to be upright */
#define MIN_DPI 70               /* what Tesseract believes at least */
#define ALIVE_EVERY_MS 500

struct data {
    char *bytes;
    size_t len;
};

static struct {
    struct data language, orientation;
    char first[32]; /* the language in memory */
    char describe[128];
    TessBaseAPI *reader, *finder;
    bool reader_failed, finder_failed;
} state;

/* ---- setting up ----------------------------------------------------------------------------- */

static bool name_is_plain(const char *name) {
    return name[0] != '\0' && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789_-") == strlen(name);
}

/* The folder that holds NAME.traineddata: TESSDATA_PREFIX, else where the packages put it. */
static bool find_data(char path[PATH_MAX], const char *name) {
    const char *folders[] = {getenv("TESSDATA_PREFIX"),
                             "/usr/share/tesseract-ocr/5/tessdata",
                             "/usr/share/tesseract-ocr/4.00/tessdata",
                             "/usr/share/tessdata",
                             "/opt/homebrew/share/tessdata",
                             "/usr/local/share/tessdata"};
    for (size_t i = 0; i < BASE_COUNT(folders); i++) {
        if (!folders[i] || !name_is_plain(name))
            continue;
        int len = snprintf(path, PATH_MAX, "%s/%s.traineddata", folders[i], name);
        FILE *file = len > 0 && len < PATH_MAX ? fopen(path, "rb") : NULL;
        if (file) {
            fclose(file);
            return true;
        }
    }
    return false;
}

static void load(struct data *data, const char *name) {
    char path[PATH_MAX];
    struct error err;
    if (!find_data(path, name))
        return;
    if (!file_read(&data->bytes, &data->len, path, DATA_MAX_BYTES, &err)) {
        log_warn("%s", err.text);
        data->bytes = NULL;
    }
}

/* Tesseract prints what it thinks to a file it opens at its first message, which must be before the
 * jail: setting a resolution without an image makes it say something. */
static void silence(void) {
    TessBaseAPI *api = TessBaseAPICreate();
    if (api && TessBaseAPISetVariable(api, "debug_file", "/dev/null"))
        TessBaseAPISetSourceResolution(api, MIN_DPI);
    if (api)
        TessBaseAPIDelete(api);
}

static TessBaseAPI *start_from_memory(const struct data *data, const char *name,
                                      TessOcrEngineMode mode) {
    if (!data->bytes || data->len > INT_MAX)
        return NULL;
    TessBaseAPI *api = TessBaseAPICreate();
    if (api && TessBaseAPIInit5(api, data->bytes, (int)data->len, name, mode, NULL, 0, NULL, NULL,
                                0, FALSE) != 0) {
        TessBaseAPIDelete(api);
        return NULL;
    }
    return api;
}

/* The folder of the first name that has data. */
static void start_several(const char *languages) {
    char path[PATH_MAX], name[sizeof state.first];
    bool found = false;
    for (const char *at = languages; *at && !found;) {
        size_t n = strcspn(at, "+");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        found = find_data(path, name);
        at += n + (at[n] == '+');
    }
    if (!found)
        return;
    *strrchr(path, '/') = '\0';
    state.reader = TessBaseAPICreate();
    if (state.reader && TessBaseAPIInit2(state.reader, path, languages, OEM_DEFAULT) != 0) {
        TessBaseAPIDelete(state.reader);
        state.reader = NULL;
    }
}

static bool is_loaded(char **loaded, const char *name, size_t len) {
    for (; loaded && *loaded; loaded++) {
        if (strlen(*loaded) == len && strncmp(*loaded, name, len) == 0)
            return true;
    }
    return false;
}

/* Tesseract goes on with the languages that it finds: which these are, and which it lacks. */
static void describe_several(const char *languages) {
    char **loaded = TessBaseAPIGetLoadedLanguagesAsVector(state.reader);
    struct buf there = {0}, missing = {0};
    for (const char *at = languages; *at;) {
        size_t n = strcspn(at, "+");
        struct buf *list = is_loaded(loaded, at, n) ? &there : &missing;
        buf_printf(list, "%s%.*s", list->len > 0 ? "+" : "", (int)n, at);
        at += n + (at[n] == '+');
    }
    snprintf(state.describe, sizeof state.describe, "Tesseract %s (%s)%s%s", TessVersion(),
             there.len > 0 ? there.data : "", missing.len > 0 ? ", no data for " : "",
             missing.len > 0 ? missing.data : "");
    buf_fini(&there);
    buf_fini(&missing);
    if (loaded)
        TessDeleteTextArray(loaded);
}

void ocr_preload(const char *languages) {
    ocr_unload();
    bool several = strchr(languages, '+') != NULL;
    snprintf(state.first, sizeof state.first, "%.*s", (int)strcspn(languages, "+"), languages);
    if (!name_is_plain(state.first))
        return;
    silence();
    load(&state.orientation, "osd");
    if (several)
        start_several(languages);
    else
        load(&state.language, state.first);
    if (state.reader)
        describe_several(languages);
    else if (state.language.bytes)
        snprintf(state.describe, sizeof state.describe, "Tesseract %s (%s)", TessVersion(),
                 state.first);
}

void ocr_unload(void) {
    if (state.reader)
        TessBaseAPIDelete(state.reader);
    if (state.finder)
        TessBaseAPIDelete(state.finder);
    mem_free(state.language.bytes);
    mem_free(state.orientation.bytes);
    memset(&state, 0, sizeof state);
}

const char *ocr_describe(void) {
    return state.describe;
}

static TessBaseAPI *reader(void) {
    if (!state.reader && !state.reader_failed) {
        state.reader = start_from_memory(&state.language, state.first, OEM_DEFAULT);
        state.reader_failed = !state.reader;
    }
    return state.reader;
}

static TessBaseAPI *finder(void) {
    if (!state.finder && !state.finder_failed) {
        state.finder = start_from_memory(&state.orientation, "osd", OEM_TESSERACT_ONLY);
        state.finder_failed = !state.finder;
        if (state.finder)
            TessBaseAPISetPageSegMode(state.finder, PSM_OSD_ONLY);
    }
    return state.finder;
}

/* ---- orientation ---------------------------------------------------------------------------- */

/* How far the page was turned clockwise from upright: 0, 90, 180 or 270. */
static int find_rotation(const uint8_t *grey, int width, int height, int dpi) {
    int degrees = 0;
    float confidence = 0, script_confidence = 0;
    const char *script = NULL;
    TessBaseAPI *api = finder();
    if (!api || width < MIN_ORIENTATION_SIDE || height < MIN_ORIENTATION_SIDE)
        return 0;
    TessBaseAPISetImage(api, grey, width, height, 1, width);
    TessBaseAPISetSourceResolution(api, dpi);
    bool found = TessBaseAPIDetectOrientationScript(api, &degrees, &confidence, &script,
                                                    &script_confidence);
    TessBaseAPIClear(api);
    if (!found || confidence < MIN_ORIENTATION_CONFIDENCE)
        return 0;
    return degrees % 360;
}

/* Turns the image back by rotation; *grey may become new memory, then also *owned. */
static bool turn_upright(uint8_t **grey, uint8_t **owned, int *width, int *height, int rotation) {
    size_t w = (size_t)*width, h = (size_t)*height;
    uint8_t *from = *grey;
    if (rotation == 180) {
        for (size_t i = 0, j = w * h - 1; i < j; i++, j--) {
            uint8_t sample = from[i];
            from[i] = from[j];
            from[j] = sample;
        }
    } else if (rotation == 90 || rotation == 270) {
        uint8_t *to = mem_try(w, h, (size_t)1 << 30);
        if (!to)
            return false;
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++) {
                size_t row = rotation == 90 ? w - 1 - x : x,
                       column = rotation == 90 ? y : h - 1 - y;
                to[row * h + column] = from[y * w + x];
            }
        *grey = *owned = to;
        *width = (int)h;
        *height = (int)w;
    }
    return true;
}

/* A box of the upright image, in shares of it, back to the image as it was given. */
static struct doc_box turn_back(struct doc_box box, int rotation) {
    switch (rotation) {
    case 90:
        return (struct doc_box){1 - box.y1, box.x0, 1 - box.y0, box.x1};
    case 180:
        return (struct doc_box){1 - box.x1, 1 - box.y1, 1 - box.x0, 1 - box.y0};
    case 270:
        return (struct doc_box){box.y0, 1 - box.x1, box.y1, 1 - box.x0};
    }
    return box;
}

/* ---- reading -------------------------------------------------------------------------------- */

struct watch {
    const struct ocr_request *request;
    int64_t deadline_ms, told_ms;
    bool late, given_up;
};

static bool watch_cancel(void *ctx, int n_words) {
    struct watch *watch = ctx;
    int64_t now_ms = time_mono_ms();
    (void)n_words;
    if (now_ms > watch->deadline_ms)
        watch->late = true;
    if (now_ms - watch->told_ms >= ALIVE_EVERY_MS) {
        watch->told_ms = now_ms;
        if (watch->request->alive && !watch->request->alive(watch->request->ctx))
            watch->given_up = true;
    }
    return watch->late || watch->given_up;
}

static size_t count_words(TessBaseAPI *api) {
    TessResultIterator *at = TessBaseAPIGetIterator(api);
    size_t n = 0;
    if (at) {
        do
            n++;
        while (TessResultIteratorNext(at, RIL_WORD));
        TessResultIteratorDelete(at);
    }
    return n;
}

/* Tesseract's own measure (x-height, ascenders and descenders of the row); where it has none, the
 * height of the line's box. */
static float line_size(const TessResultIterator *at, int dpi) {
    int bold, italic, underlined, mono, serif, small_caps, points = 0, font_id;
    int x0, y0, x1, y1;
    TessResultIteratorWordFontAttributes(at, &bold, &italic, &underlined, &mono, &serif,
                                         &small_caps, &points, &font_id);
    if (points > 0)
        return (float)(points * dpi) / 72.0f;
    if (!TessPageIteratorBoundingBox(TessResultIteratorGetPageIteratorConst(at), RIL_TEXTLINE, &x0,
                                     &y0, &x1, &y1))
        return 0;
    return (float)(y1 - y0);
}

/* Adds the word the iterator stands at, if it is sure enough. */
static void take_word(struct ocr_result *out, struct arena *arena, TessResultIterator *at,
                      const struct ocr_word *place, int width, int height, double *sum,
                      size_t *n_chars) {
    const TessPageIterator *page = TessResultIteratorGetPageIteratorConst(at);
    int x0, y0, x1, y1;
    char *text = TessResultIteratorGetUTF8Text(at, RIL_WORD);
    size_t len = text ? strlen(text) : 0;
    float confidence = TessResultIteratorConfidence(at, RIL_WORD);
    if (len > 0 && strspn(text, " \n") < len) {
        *sum += (double)confidence * (double)len;
        *n_chars += len;
        if (confidence < MIN_WORD_CONFIDENCE ||
            !TessPageIteratorBoundingBox(page, RIL_WORD, &x0, &y0, &x1, &y1)) {
            out->n_weak++;
        } else {
            struct ocr_word *word = &out->words[out->n_words++];
            *word = *place;
            word->text = arena_strndup(arena, text, len);
            word->confidence = confidence;
            word->box = turn_back(
                (struct doc_box){(float)x0 / (float)width, (float)y0 / (float)height,
                                 (float)x1 / (float)width, (float)y1 / (float)height},
                out->rotation);
        }
    }
    TessDeleteText(text);
}

static void take_words(struct ocr_result *out, struct arena *arena, TessBaseAPI *api, int width,
                       int height, int dpi) {
    size_t n = count_words(api), n_chars = 0;
    double sum = 0;
    struct ocr_word place = {.line = UINT32_MAX, .block = UINT32_MAX};
    out->words = arena_try(arena, n + 1, sizeof *out->words);
    TessResultIterator *at = n > 0 && out->words ? TessBaseAPIGetIterator(api) : NULL;
    if (!at)
        return;
    for (size_t i = 0; i < n; i++) {
        const TessPageIterator *page = TessResultIteratorGetPageIteratorConst(at);
        if (TessPageIteratorIsAtBeginningOf(page, RIL_BLOCK))
            place.block++;
        if (TessPageIteratorIsAtBeginningOf(page, RIL_TEXTLINE)) {
            place.line++;
            place.size_px = line_size(at, dpi);
        }
        take_word(out, arena, at, &place, width, height, &sum, &n_chars);
        if (!TessResultIteratorNext(at, RIL_WORD))
            break;
    }
    TessResultIteratorDelete(at);
    out->confidence = n_chars > 0 ? (float)(sum / (double)n_chars) : 0;
}

static bool recognise(struct ocr_result *out, struct arena *arena, TessBaseAPI *api, uint8_t *grey,
                      int width, int height, int dpi, struct watch *watch) {
    ETEXT_DESC *monitor = TessMonitorCreate();
    TessMonitorSetCancelThis(monitor, watch);
    TessMonitorSetCancelFunc(monitor, watch_cancel);
    TessBaseAPISetPageSegMode(api, PSM_AUTO);
    TessBaseAPISetImage(api, grey, width, height, 1, width);
    TessBaseAPISetSourceResolution(api, dpi);
    bool done = TessBaseAPIRecognize(api, monitor) == 0 && !watch->late && !watch->given_up;
    if (done)
        take_words(out, arena, api, width, height, dpi);
    TessBaseAPIClear(api);
    TessMonitorDelete(monitor);
    return done;
}

enum ocr_outcome ocr_read(struct ocr_result *out, struct arena *arena,
                          const struct ocr_request *request) {
    struct watch watch = {.request = request, .told_ms = time_mono_ms()};
    uint8_t *grey = request->grey, *owned = NULL;
    int width = request->width, height = request->height;
    int dpi = request->dpi < MIN_DPI ? MIN_DPI : request->dpi;
    memset(out, 0, sizeof *out);
    TessBaseAPI *api = reader();
    if (!api)
        return OCR_ABSENT;
    watch.deadline_ms = watch.told_ms + request->timeout_ms;
    if (request->alive && !request->alive(request->ctx))
        return OCR_TIMEOUT;
    out->rotation = find_rotation(grey, width, height, dpi);
    if (!turn_upright(&grey, &owned, &width, &height, out->rotation))
        out->rotation = 0;
    bool done = recognise(out, arena, api, grey, width, height, dpi, &watch);
    mem_free(owned);
    if (!done)
        return OCR_TIMEOUT;
    if (out->confidence < MIN_PAGE_CONFIDENCE && out->n_words + out->n_weak > 0) {
        out->n_words = 0;
        return OCR_POOR;
    }
    return OCR_DONE;
}
