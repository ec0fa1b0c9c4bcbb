/* Tests of read's pages: PDF, images, OCR and layout. */
#ifndef TESTS_READ_PAGES_H
#define TESTS_READ_PAGES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "read/layout.h"
#include "read/ocr.h"
#include "read/pages.h"

#define MAX_PICTURES 8

/* One document, read. */
struct fixture {
    struct read_task task;
    struct raw_pages raw;
    struct document *doc; /* NULL where reading failed */
    struct error err;
    bool ok;
    uint32_t n_pictures, n_progress;
    struct {
        int width, height, thumb_width, thumb_height;
    } pictures[MAX_PICTURES];
};
void fixture_read(struct fixture *f, const void *data, size_t size, const char *media_type);
void fixture_layout(struct fixture *f, const struct raw_pages *raw);
void fixture_fini(struct fixture *f);
/* "heading1 text" a line; list items, page headers and the rest by their kinds' names. */
char *fixture_show(struct fixture *f);

/* A file of the corpus, NULL where there is none (the test is skipped, with its reason). */
char *corpus_file(const char *name, size_t *size);

/* PDF files made object by object. */
struct made_pdf {
    struct buf out;
    size_t offsets[64];
    int n;
};
void made_begin(struct made_pdf *pdf);
int made_object(struct made_pdf *pdf, const char *format, ...) BASE_PRINTF(2, 3); /* its number */
int made_stream(struct made_pdf *pdf, const char *dictionary, const void *data, size_t len);
void made_end(struct made_pdf *pdf, const char *trailer); /* root is object 1 */
/* One page of the given size with this content. */
void made_page(struct made_pdf *pdf, double width, double height, const char *content);

extern const struct CMUnitTest corpus_tests[], image_tests[], layout_tests[], pdf_tests[];
extern const size_t n_corpus_tests, n_image_tests, n_layout_tests, n_pdf_tests;

#endif
