/* What commands print. */
#include "app/internal.h"

#include <sys/ioctl.h>
#include <unistd.h>

const char *json_text(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

int64_t json_number(const json_t *object, const char *key) {
    return (int64_t)json_number_value(json_object_get(object, key));
}

void print_json(json_t *json) {
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

void print_text(FILE *out, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        /* C1 controls are U+0080 to U+009F: 0xc2 followed by 0x80 to 0x9f. */
        bool c1 = c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0;
        if (c1)
            i++;
        fputc(c < 0x20 || c == 0x7f || c1 ? ' ' : c, out);
    }
}

bool is_terminal(FILE *stream) {
    return isatty(fileno(stream)) == 1;
}

int terminal_columns(FILE *stream) {
    struct winsize size;
    return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}
