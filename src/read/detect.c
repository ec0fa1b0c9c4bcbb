/* The formats we read, and the first judgement of a file: magic first, then its name. */
#include "read/read.h"

#include <string.h>

#define ODF "application/vnd.oasis.opendocument."
#define OOXML "application/vnd.openxmlformats-officedocument."

static const struct read_format_info formats[FORMAT_N] = {
    [FORMAT_UNKNOWN] = {FORMAT_UNKNOWN, "unknown", "", "", "application/octet-stream"},
    [FORMAT_PDF] = {FORMAT_PDF, "pdf", "pdf", "pdf", "application/pdf"},
    [FORMAT_DOCX] = {FORMAT_DOCX, "docx", "docx docm dotx dotm", "office",
                     OOXML "wordprocessingml.document"},
    [FORMAT_PPTX] = {FORMAT_PPTX, "pptx", "pptx pptm ppsx ppsm potx potm", "office",
                     OOXML "presentationml.presentation"},
    [FORMAT_XLSX] = {FORMAT_XLSX, "xlsx", "xlsx xlsm xltx xltm", "office",
                     OOXML "spreadsheetml.sheet"},
    [FORMAT_ODT] = {FORMAT_ODT, "odt", "odt ott", "office", ODF "text"},
    [FORMAT_ODP] = {FORMAT_ODP, "odp", "odp otp", "office", ODF "presentation"},
    [FORMAT_ODS] = {FORMAT_ODS, "ods", "ods ots", "office", ODF "spreadsheet"},
    [FORMAT_DOC] = {FORMAT_DOC, "doc", "doc dot", "office", "application/msword"},
    [FORMAT_PPT] = {FORMAT_PPT, "ppt", "ppt pps pot", "office", "application/vnd.ms-powerpoint"},
    [FORMAT_XLS] = {FORMAT_XLS, "xls", "xls xlt", "office", "application/vnd.ms-excel"},
    [FORMAT_RTF] = {FORMAT_RTF, "rtf", "rtf", "office", "application/rtf"},
    [FORMAT_HTML] = {FORMAT_HTML, "html", "html htm xhtml", "text", "text/html"},
    [FORMAT_MARKDOWN] = {FORMAT_MARKDOWN, "markdown", "md markdown", "text", "text/markdown"},
    [FORMAT_TEXT] = {FORMAT_TEXT, "text", "txt text log", "text", "text/plain"},
    [FORMAT_CSV] = {FORMAT_CSV, "csv", "csv tsv", "text", "text/csv"},
    [FORMAT_EPUB] = {FORMAT_EPUB, "epub", "epub", "text", "application/epub+zip"},
    [FORMAT_PNG] = {FORMAT_PNG, "png", "png", "images", "image/png"},
    [FORMAT_JPEG] = {FORMAT_JPEG, "jpeg", "jpg jpeg jpe", "images", "image/jpeg"},
    [FORMAT_TIFF] = {FORMAT_TIFF, "tiff", "tif tiff", "images", "image/tiff"},
    [FORMAT_WEBP] = {FORMAT_WEBP, "webp", "webp", "images", "image/webp"},
    [FORMAT_BMP] = {FORMAT_BMP, "bmp", "bmp dib", "images", "image/bmp"},
};

const struct read_format_info *read_format_lookup(enum read_format format) {
    return &formats[(unsigned)format < FORMAT_N ? format : FORMAT_UNKNOWN];
}

const struct read_format_info *read_format_named(const char *name) {
    for (int format = FORMAT_UNKNOWN + 1; format < FORMAT_N; format++) {
        const struct read_format_info *info = read_format_lookup((enum read_format)format);
        if (strcmp(info->name, name) == 0)
            return info;
    }
    return NULL;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool same_folded(const char *text, const char *word, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (lower(text[i]) != word[i])
            return false;
    return true;
}

enum read_format read_format_of_name(const char *filename) {
    const char *dot = filename ? strrchr(filename, '.') : NULL;
    if (!dot || strchr(dot, '/'))
        return FORMAT_UNKNOWN;
    size_t len = strlen(dot + 1);
    for (int i = 1; i < FORMAT_N; i++) {
        const char *at = formats[i].extensions;
        while (*at) {
            size_t n = strcspn(at, " ");
            if (n == len && same_folded(dot + 1, at, n))
                return formats[i].format;
            at += n + (at[n] == ' ');
        }
    }
    return FORMAT_UNKNOWN;
}

static bool is_zip_format(enum read_format format) {
    return (format >= FORMAT_DOCX && format <= FORMAT_ODS) || format == FORMAT_EPUB;
}

static bool is_text_format(enum read_format format) {
    return format >= FORMAT_HTML && format <= FORMAT_CSV;
}

static bool begins(const char *head, size_t len, const void *magic, size_t n) {
    return len >= n && memcmp(head, magic, n) == 0;
}
#define BEGINS(head, len, magic) begins(head, len, magic, sizeof(magic) - 1)

static enum read_format odf_of(const char *type, size_t len) {
    if (BEGINS(type, len, "application/epub+zip"))
        return FORMAT_EPUB;
    if (BEGINS(type, len, ODF "text"))
        return FORMAT_ODT;
    if (BEGINS(type, len, ODF "presentation"))
        return FORMAT_ODP;
    if (BEGINS(type, len, ODF "spreadsheet"))
        return FORMAT_ODS;
    return FORMAT_UNKNOWN;
}

/* What the first local headers of a ZIP give away. */
static enum read_format zip_of(const char *head, size_t len) {
    for (size_t at = 0; at + 30 < len; at++) {
        if (memcmp(head + at, "PK\3\4", 4) != 0)
            continue;
        const uint8_t *entry = (const uint8_t *)head + at;
        size_t name_len = entry[26] | (size_t)entry[27] << 8;
        size_t extra_len = entry[28] | (size_t)entry[29] << 8;
        const char *name = head + at + 30;
        size_t left = len - at - 30;
        if (name_len == 8 && BEGINS(name, left, "mimetype") && name_len + extra_len < left)
            return odf_of(name + 8 + extra_len, left - 8 - extra_len);
        if (BEGINS(name, left, "word/"))
            return FORMAT_DOCX;
        if (BEGINS(name, left, "ppt/"))
            return FORMAT_PPTX;
        if (BEGINS(name, left, "xl/"))
            return FORMAT_XLSX;
    }
    return FORMAT_UNKNOWN;
}

static bool finds(const char *head, size_t len, const char *word, size_t most) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= len && i <= most; i++)
        if (same_folded(head + i, word, n))
            return true;
    return false;
}

static bool is_bmp(const char *head, size_t len) {
    if (!BEGINS(head, len, "BM") || len < 18 || memcmp(head + 6, "\0\0\0\0", 4) != 0)
        return false;
    static const uint8_t sizes[] = {12, 40, 52, 56, 64, 108, 124};
    for (size_t i = 0; i < BASE_COUNT(sizes); i++)
        if ((uint8_t)head[14] == sizes[i] && head[15] == 0)
            return true;
    return false;
}

/* Bytes no text has, in an encoding that says what it is. */
static bool is_binary(const char *head, size_t len) {
    if (BEGINS(head, len, "\xff\xfe") || BEGINS(head, len, "\xfe\xff"))
        return false;
    return len > 0 && memchr(head, 0, len) != NULL;
}

enum read_format read_detect(const void *data, size_t len, const char *filename) {
    const char *head = data;
    enum read_format named = read_format_of_name(filename);

    if (BEGINS(head, len, "PK\3\4") || BEGINS(head, len, "PK\5\6")) {
        enum read_format inside = zip_of(head, len);
        if (inside != FORMAT_UNKNOWN)
            return inside;
        /* "only a ZIP": the child looks. Under a name of ours it is worth looking. */
        return is_zip_format(named) ? named : named ? FORMAT_DOCX : FORMAT_UNKNOWN;
    }
    if (BEGINS(head, len, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")) {
        bool ole = named == FORMAT_DOC || named == FORMAT_PPT || named == FORMAT_XLS ||
                   named == FORMAT_DOCX || named == FORMAT_PPTX || named == FORMAT_XLSX;
        return ole ? named : named ? FORMAT_DOC : FORMAT_UNKNOWN;
    }
    if (BEGINS(head, len, "{\\rtf"))
        return FORMAT_RTF;
    if (BEGINS(head, len, "\x89PNG\r\n\x1a\n"))
        return FORMAT_PNG;
    if (BEGINS(head, len, "\xff\xd8\xff"))
        return FORMAT_JPEG;
    if (BEGINS(head, len, "II*\0") || BEGINS(head, len, "MM\0*") || BEGINS(head, len, "II+\0") ||
        BEGINS(head, len, "MM\0+"))
        return FORMAT_TIFF;
    if (BEGINS(head, len, "RIFF") && len >= 12 && memcmp(head + 8, "WEBP", 4) == 0)
        return FORMAT_WEBP;
    if (is_bmp(head, len))
        return FORMAT_BMP;
    /* A PDF may have junk before its header; a text may speak of one. */
    if (finds(head, len, "%pdf-", is_text_format(named) ? 0 : 1024))
        return FORMAT_PDF;

    size_t start = BEGINS(head, len, "\xef\xbb\xbf") ? 3 : 0;
    while (start < len && strchr(" \t\r\n", head[start]))
        start++;
    if (!is_text_format(named) && (finds(head + start, len - start, "<!doctype html", 0) ||
                                   finds(head + start, len - start, "<html", 0) ||
                                   (BEGINS(head + start, len - start, "<?xml") &&
                                    finds(head + start, len - start, "<html", 1024))))
        return FORMAT_HTML;
    if (is_text_format(named) && is_binary(head, len))
        return FORMAT_UNKNOWN;
    return named;
}
