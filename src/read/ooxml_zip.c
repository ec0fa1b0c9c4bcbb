/* The parts of an OOXML package, read from memory to memory by libzip.
 *
 * Everything unpacked is counted as it is produced, whatever the directory claims: 256 MiB a part,
 * 512 MiB in all, and no part past 1 MiB that is over a hundred times its packed size. */
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "read/container.h"
#include "read/ooxml.h"

struct ooxml_zip {
    zip_t *zip;
    uint64_t produced;
};

static bool corrupt(struct error *err, const char *what) {
    return error_set_code(err, ERROR_INPUT, "corrupt", "damaged archive: %s", what);
}

static bool check_entries(zip_t *zip, struct error *err) {
    zip_int64_t n = zip_get_num_entries(zip, 0);
    if (n > OOXML_MAX_ENTRIES)
        return error_set_code(err, ERROR_LIMIT, "archive_limit",
                              "archive of %lld entries, the maximum is %d", (long long)n,
                              OOXML_MAX_ENTRIES);
    uint64_t total = 0;
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t stat;
        if (zip_stat_index(zip, (zip_uint64_t)i, 0, &stat) != 0)
            return corrupt(err, zip_strerror(zip));
        if ((stat.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && stat.encryption_method != ZIP_EM_NONE)
            return error_set_code(err, ERROR_INPUT, "password_required",
                                  "the archive is encrypted");
        if ((stat.valid & ZIP_STAT_SIZE) == 0)
            continue;
        if (stat.size > OOXML_MAX_PART || stat.size > OOXML_MAX_TOTAL - total)
            return error_set_code(err, ERROR_LIMIT, "archive_limit",
                                  "archive unpacks to more than %llu MiB",
                                  (unsigned long long)(OOXML_MAX_TOTAL >> 20));
        total += stat.size;
    }
    return true;
}

bool ooxml_zip_open(struct ooxml_zip **out, const void *data, size_t size, struct error *err) {
    zip_error_t why;
    zip_error_init(&why);
    zip_source_t *source = zip_source_buffer_create(data, size, 0, &why);
    zip_t *zip = source == NULL ? NULL : zip_open_from_source(source, ZIP_RDONLY, &why);
    if (zip == NULL) {
        zip_source_free(source);
        if (zip_error_code_zip(&why) == ZIP_ER_MEMORY)
            error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for the archive");
        else
            corrupt(err, zip_error_strerror(&why));
        zip_error_fini(&why);
        return false;
    }
    zip_error_fini(&why);
    if (!check_entries(zip, err)) {
        zip_discard(zip);
        return false;
    }
    struct ooxml_zip *self = mem_alloc(sizeof(*self));
    self->zip = zip;
    *out = self;
    return true;
}

void ooxml_zip_close(struct ooxml_zip *zip) {
    if (zip == NULL)
        return;
    zip_discard(zip->zip);
    mem_free(zip);
}

static zip_int64_t locate(struct ooxml_zip *zip, const char *name) {
    zip_int64_t i = zip_name_locate(zip->zip, name, 0);
    return i >= 0 ? i : zip_name_locate(zip->zip, name, ZIP_FL_NOCASE);
}

bool ooxml_zip_has(struct ooxml_zip *zip, const char *name) {
    return locate(zip, name) >= 0;
}

/* Everything of an open member; limits are judged on what it produces. */
static bool read_member(struct buf *out, struct ooxml_zip *zip, zip_file_t *file, uint64_t packed,
                        const char *name, struct error *err) {
    char *chunk = mem_alloc(65536);
    bool ok = true;
    while (ok) {
        zip_int64_t n = zip_fread(file, chunk, 65536);
        if (n < 0)
            ok = corrupt(err, zip_file_strerror(file));
        if (n <= 0)
            break;
        buf_append(out, chunk, (size_t)n);
        zip->produced += (uint64_t)n;
        if (out->len > OOXML_MAX_PART || zip->produced > OOXML_MAX_TOTAL)
            ok = error_set_code(err, ERROR_LIMIT, "archive_limit", "%s unpacks to too much", name);
        else if (out->len > OOXML_RATIO_FROM && out->len / OOXML_MAX_RATIO > packed)
            ok = error_set_code(err, ERROR_LIMIT, "archive_limit",
                                "%s unpacks to over %d times its size", name, OOXML_MAX_RATIO);
        else if (out->failed)
            ok = error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for %s", name);
    }
    mem_free(chunk);
    return ok;
}

bool ooxml_zip_read(char **data, size_t *len, struct ooxml_zip *zip, const char *name,
                    struct error *err) {
    zip_int64_t i = locate(zip, name);
    if (i < 0)
        return error_set(err, ERROR_MISSING, "no part %s", name);
    zip_stat_t stat;
    if (zip_stat_index(zip->zip, (zip_uint64_t)i, 0, &stat) != 0)
        return corrupt(err, zip_strerror(zip->zip));
    zip_file_t *file = zip_fopen_index(zip->zip, (zip_uint64_t)i, 0);
    if (file == NULL)
        return corrupt(err, zip_strerror(zip->zip));
    struct buf out = {.max = OOXML_MAX_PART + 65536};
    uint64_t packed = (stat.valid & ZIP_STAT_COMP_SIZE) != 0 ? stat.comp_size : 0;
    bool ok = read_member(&out, zip, file, packed, name, err);
    zip_fclose(file);
    if (!ok) {
        buf_fini(&out);
        return false;
    }
    *len = out.len;
    *data = buf_take(&out);
    return true;
}

/* ---- which container ----------------------------------------------------------------------- */

static bool is_ole(const void *data, size_t size) {
    return size >= 8 && memcmp(data, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8) == 0;
}

bool container_check(const void *data, size_t size, struct error *err) {
    if (is_ole(data, size)) {
        static const char stream[] = "E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e";
        if (memmem(data, size, stream, sizeof(stream)) != NULL)
            return error_set_code(err, ERROR_INPUT, "password_required",
                                  "the document is encrypted");
        return true;
    }
    struct ooxml_zip *zip = NULL;
    if (!ooxml_zip_open(&zip, data, size, err))
        return false;
    ooxml_zip_close(zip);
    return true;
}

static enum read_format kind_of_content_type(const char *type) {
    static const struct {
        const char *word;
        enum read_format format;
    } known[] = {
        {"wordprocessingml.document.main+xml", FORMAT_DOCX},
        {"wordprocessingml.template.main+xml", FORMAT_DOCX},
        {"ms-word.document.macroEnabled.main+xml", FORMAT_DOCX},
        {"ms-word.template.macroEnabledTemplate.main+xml", FORMAT_DOCX},
        {"presentationml.presentation.main+xml", FORMAT_PPTX},
        {"presentationml.slideshow.main+xml", FORMAT_PPTX},
        {"presentationml.template.main+xml", FORMAT_PPTX},
        {"ms-powerpoint.presentation.macroEnabled.main+xml", FORMAT_PPTX},
        {"ms-powerpoint.slideshow.macroEnabled.main+xml", FORMAT_PPTX},
        {"spreadsheetml.sheet.main+xml", FORMAT_XLSX},
        {"spreadsheetml.template.main+xml", FORMAT_XLSX},
        {"ms-excel.sheet.macroEnabled.main+xml", FORMAT_XLSX},
    };
    for (size_t i = 0; i < BASE_COUNT(known); i++) {
        if (strstr(type, known[i].word) != NULL)
            return known[i].format;
    }
    return FORMAT_UNKNOWN;
}

static enum read_format kind_of_types(struct ooxml_zip *zip) {
    struct xml xml;
    if (!xml_open(&xml, zip, "[Content_Types].xml", NULL))
        return FORMAT_UNKNOWN;
    enum read_format found = FORMAT_UNKNOWN;
    while (found == FORMAT_UNKNOWN && xml_next(&xml, -1)) {
        const char *type = NULL;
        if (xml_at(&xml, "k:Override") || xml_at(&xml, "k:Default"))
            type = xml_attr(&xml, "ContentType");
        if (type != NULL)
            found = kind_of_content_type(type);
    }
    xml_close(&xml, NULL);
    return found;
}

static enum read_format kind_of_mimetype(struct ooxml_zip *zip) {
    static const struct {
        const char *type;
        enum read_format format;
    } known[] = {
        {"application/vnd.oasis.opendocument.text", FORMAT_ODT},
        {"application/vnd.oasis.opendocument.presentation", FORMAT_ODP},
        {"application/vnd.oasis.opendocument.spreadsheet", FORMAT_ODS},
        {"application/epub+zip", FORMAT_EPUB},
    };
    char *data = NULL;
    size_t len = 0;
    if (!ooxml_zip_read(&data, &len, zip, "mimetype", NULL))
        return FORMAT_UNKNOWN;
    enum read_format found = FORMAT_UNKNOWN;
    for (size_t i = 0; i < BASE_COUNT(known); i++) {
        size_t n = strlen(known[i].type);
        bool ends = len == n || (len > n && (data[n] == '-' || data[n] == '\r' || data[n] == '\n' ||
                                             data[n] == ' '));
        if (len >= n && ends && memcmp(data, known[i].type, n) == 0)
            found = known[i].format; /* "…text-template" is a text too */
    }
    mem_free(data);
    return found;
}

enum read_format ooxml_kind(const void *data, size_t size) {
    struct ooxml_zip *zip = NULL;
    if (!ooxml_zip_open(&zip, data, size, NULL))
        return FORMAT_UNKNOWN;
    enum read_format found = kind_of_types(zip);
    if (found == FORMAT_UNKNOWN)
        found = kind_of_mimetype(zip);
    ooxml_zip_close(zip);
    return found;
}
