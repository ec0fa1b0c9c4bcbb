/* read, OCR: grey pixels -> words. Tesseract and its data are seen here alone. */
#ifndef DOCUSEARCH_READ_OCR_H
#define DOCUSEARCH_READ_OCR_H

#include "base/base.h"
#include "doc/doc.h"

/* Before the process locks itself up: reads the data of the languages ("eng", "eng+deu") and of the
 * orientation finder into memory. One language is set up when it is first needed; several are set
 * up here, because only from files can Tesseract be given more than one. The environment must hold
 * OMP_THREAD_LIMIT=1 when the process starts: Tesseract's threads cannot be made in the jail. */
void ocr_preload(const char *languages);
void ocr_unload(void);
/* "Tesseract 5.3.0 (eng)", or "" where there is nothing to recognise with. */
const char *ocr_describe(void);

struct ocr_word {
    const char *text;     /* the arena's; no white space inside */
    struct doc_box box;   /* of the image as it was given */
    uint32_t line, block; /* numbered from 0 in this image */
    float size_px;        /* the height of its line's type */
    float confidence;     /* 0..100 */
};
struct ocr_request {
    uint8_t *grey; /* width * height samples; used up: may be turned in place of a copy */
    int width, height;
    int dpi;
    int timeout_ms;
    bool (*alive)(void *ctx); /* now and then while it works; false gives up */
    void *ctx;
};
enum ocr_outcome {
    OCR_DONE,
    OCR_TIMEOUT,
    OCR_POOR, /* what was read is more likely noise than text: no words */
    OCR_ABSENT,
};
struct ocr_result {
    struct ocr_word *words; /* lines and blocks in Tesseract's reading order */
    size_t n_words;
    float confidence; /* mean over characters, before weak words were left out */
    int rotation;     /* how the page lay: 0, 90, 180, 270 degrees clockwise */
    size_t n_weak;    /* words left out as too uncertain */
};
enum ocr_outcome ocr_read(struct ocr_result *out, struct arena *arena,
                          const struct ocr_request *request);

#endif
