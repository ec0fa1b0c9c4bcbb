/* PDF files made object by object, right but for what a test wants wrong. */
#include "tests.h"

#include <assert.h>

void made_begin(struct made_pdf *pdf) {
    memset(pdf, 0, sizeof(*pdf));
    buf_puts(&pdf->out, "%PDF-1.7\n");
}

static int begin_object(struct made_pdf *pdf) {
    assert(pdf->n < (int)BASE_COUNT(pdf->offsets));
    pdf->offsets[pdf->n++] = pdf->out.len;
    buf_printf(&pdf->out, "%d 0 obj\n", pdf->n);
    return pdf->n;
}

int made_object(struct made_pdf *pdf, const char *format, ...) {
    char text[4096];
    va_list args;
    int number = begin_object(pdf);
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    buf_printf(&pdf->out, "%s\nendobj\n", text);
    return number;
}

int made_stream(struct made_pdf *pdf, const char *dictionary, const void *data, size_t len) {
    int number = begin_object(pdf);
    buf_printf(&pdf->out, "<<%s/Length %zu>>stream\n", dictionary, len);
    buf_append(&pdf->out, data, len);
    buf_puts(&pdf->out, "\nendstream\nendobj\n");
    return number;
}

void made_end(struct made_pdf *pdf, const char *trailer) {
    size_t xref = pdf->out.len;
    buf_printf(&pdf->out, "xref\n0 %d\n0000000000 65535 f \n", pdf->n + 1);
    for (int i = 0; i < pdf->n; i++)
        buf_printf(&pdf->out, "%010zu 00000 n \n", pdf->offsets[i]);
    buf_printf(&pdf->out, "trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%zu\n%%%%EOF\n", pdf->n + 1,
               trailer, xref);
    assert(!pdf->out.failed);
}

void made_page(struct made_pdf *pdf, double width, double height, const char *content) {
    made_begin(pdf);
    made_object(pdf, "<</Type/Catalog/Pages 2 0 R>>");
    made_object(pdf, "<</Type/Pages/Kids[3 0 R]/Count 1>>");
    made_object(pdf,
                "<</Type/Page/Parent 2 0 R/MediaBox[0 0 %.0f %.0f]/Contents 4 0 R/Resources<</Font"
                "<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
                "/F2<</Type/Font/Subtype/Type1/BaseFont/Courier-Bold>>>>>>>>",
                width, height);
    made_stream(pdf, "", content, strlen(content));
    made_end(pdf, "");
}
