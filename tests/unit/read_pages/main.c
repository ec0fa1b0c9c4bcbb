/* The run of every group, and what they share; read_task_progress and read_task_picture stand here
 * in the place of the child's. */
#include "tests.h"

#include <stdlib.h>

#include <jpeglib.h>

static void jpeg_size(const void *data, size_t len, int *width, int *height) {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, data, len);
    assert_int_equal(jpeg_read_header(&jpeg, TRUE), JPEG_HEADER_OK);
    *width = (int)jpeg.image_width;
    *height = (int)jpeg.image_height;
    jpeg_destroy_decompress(&jpeg);
}

void read_task_progress(struct read_task *task, uint32_t pages_done, uint32_t n_pages) {
    struct fixture *f = task->wire;
    assert_true(pages_done <= n_pages);
    f->n_progress++;
}

bool read_task_picture(struct read_task *task, uint32_t page_i, const void *jpeg, size_t jpeg_len,
                       const void *thumb, size_t thumb_len, struct error *err) {
    struct fixture *f = task->wire;
    (void)err;
    f->n_pictures++;
    if (page_i < MAX_PICTURES) {
        jpeg_size(jpeg, jpeg_len, &f->pictures[page_i].width, &f->pictures[page_i].height);
        jpeg_size(thumb, thumb_len, &f->pictures[page_i].thumb_width,
                  &f->pictures[page_i].thumb_height);
    }
    return true;
}

static void begin(struct fixture *f) {
    memset(f, 0, sizeof(*f));
    f->task = (struct read_task){.render_dpi = 150, .max_pages = 5000, .ocr_languages = "eng"};
    f->task.wire = f;
    f->task.arena = arena_new((size_t)1 << 30);
    f->task.builder = doc_builder_new("pdf");
}

static void end(struct fixture *f) {
    if (!f->ok) {
        doc_builder_free(f->task.builder);
        return;
    }
    struct error err;
    assert_true(doc_finish(&f->doc, f->task.builder, &err));
}

void fixture_read(struct fixture *f, const void *data, size_t size, const char *media_type) {
    begin(f);
    f->task.data = data;
    f->task.size = size;
    f->ok = read_pages(&f->raw, &f->task, data, size, media_type, &f->err);
    if (f->ok)
        read_layout(&f->task, &f->raw);
    end(f);
}

void fixture_layout(struct fixture *f, const struct raw_pages *raw) {
    begin(f);
    f->raw = *raw;
    f->ok = true;
    for (uint32_t i = 0; i < raw->n_pages; i++)
        doc_add_page(f->task.builder, 600, 800, 0);
    read_layout(&f->task, &f->raw);
    end(f);
}

void fixture_fini(struct fixture *f) {
    doc_free(f->doc);
    arena_free(f->task.arena);
}

char *fixture_show(struct fixture *f) {
    struct buf out = {0};
    for (uint32_t i = 0; i < f->doc->n_elements; i++) {
        const struct doc_element *element = &f->doc->elements[i];
        buf_puts(&out, doc_element_kind_name(element->kind));
        if (element->kind == DOC_HEADING || element->kind == DOC_LIST_ITEM)
            buf_printf(&out, "%d", element->level);
        buf_printf(&out, "%s%s ", element->flags & DOC_ORDERED ? " ordered" : "",
                   element->flags & DOC_REPEATED ? " repeated" : "");
        buf_append(&out, f->doc->text + element->off, element->len);
        buf_putc(&out, '\n');
    }
    char *text = arena_strdup(f->task.arena, out.len > 0 ? out.data : "");
    buf_fini(&out);
    return text;
}

char *corpus_file(const char *name, size_t *size) {
    const char *root = getenv("DOCUSEARCH_CORPUS");
    struct error err;
    char path[1024], *data;
    if (!root)
        root = getenv("CORPUS_ROOT");
    snprintf(path, sizeof(path), "%s/%s", root ? root : "", name);
    if (!root || !file_read(&data, size, path, (size_t)1 << 30, &err)) {
        printf("skipped: no %s; DOCUSEARCH_CORPUS names the folder it is in\n", path);
        return NULL;
    }
    return data;
}

int main(void) {
    int failed = 0;
    setenv("DOCUSEARCH_READ_PAGE_MS", "3000", 0);
    read_pages_preload();
    ocr_preload("eng");
    failed += _cmocka_run_group_tests("layout", layout_tests, n_layout_tests, NULL, NULL);
    failed += _cmocka_run_group_tests("pdf", pdf_tests, n_pdf_tests, NULL, NULL);
    failed += _cmocka_run_group_tests("images", image_tests, n_image_tests, NULL, NULL);
    failed += _cmocka_run_group_tests("corpus", corpus_tests, n_corpus_tests, NULL, NULL);
    read_pages_unload();
    ocr_unload();
    return failed > 0;
}
