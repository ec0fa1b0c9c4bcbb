/* MuPDF 1.21 opens an HTML file given from memory together with the folder ".", for the pictures it
 * may name, and gives up where that cannot be read, as in the jail. The linker puts this in the
 * place of fz_open_directory (--wrap, see meson.build): a folder with nothing in it. */
#include <mupdf/fitz.h>

fz_archive *__wrap_fz_open_directory(fz_context *ctx, const char *path);

fz_archive *__wrap_fz_open_directory(fz_context *ctx, const char *path) {
    (void)path;
    return fz_new_tree_archive(ctx, NULL);
}
