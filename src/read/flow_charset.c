/* Bytes of unknown encoding to UTF-8.
 *
 * iconv's tables are modules that glibc loads from disk on first use; a jailed reader cannot open
 * them, so container_prepare opens every encoding named here beforehand and keeps it. */
#include <errno.h>
#include <iconv.h>
#include <string.h>
#include <strings.h>

#include "read/container.h"
#include "read/flow.h"
#include "read/ooxml.h"

/* A page rarely names another; windows-1252 is ours (table below) and stands in for unknown ones.
 */
static struct {
    const char *name;
    iconv_t handle;
} charsets[] = {
    {"windows-1250", NULL}, {"windows-1251", NULL}, {"windows-1253", NULL}, {"windows-1254", NULL},
    {"windows-1255", NULL}, {"windows-1256", NULL}, {"windows-1257", NULL}, {"windows-1258", NULL},
    {"windows-874", NULL},  {"iso-8859-2", NULL},   {"iso-8859-3", NULL},   {"iso-8859-4", NULL},
    {"iso-8859-5", NULL},   {"iso-8859-6", NULL},   {"iso-8859-7", NULL},   {"iso-8859-8", NULL},
    {"iso-8859-10", NULL},  {"iso-8859-13", NULL},  {"iso-8859-14", NULL},  {"iso-8859-15", NULL},
    {"iso-8859-16", NULL},  {"koi8-r", NULL},       {"koi8-u", NULL},       {"macintosh", NULL},
    {"shift_jis", NULL},    {"euc-jp", NULL},       {"iso-2022-jp", NULL},  {"gbk", NULL},
    {"gb18030", NULL},      {"gb2312", NULL},       {"big5", NULL},         {"euc-kr", NULL},
};

static iconv_t charset_handle(const char *name) {
    if (strcasecmp(name, "x-sjis") == 0 || strcasecmp(name, "sjis") == 0)
        name = "shift_jis";
    if (strcasecmp(name, "ks_c_5601-1987") == 0)
        name = "euc-kr";
    for (size_t i = 0; i < BASE_COUNT(charsets); i++) {
        if (strcasecmp(charsets[i].name, name) != 0)
            continue;
        if (charsets[i].handle == NULL) {
            /* glibc knows some of the web's names only by its own. */
            const char *known = strncmp(name, "windows-", 8) == 0 ? name + 8 : NULL;
            char alias[24];
            if (known != NULL) {
                size_t len = strlen(known);
                memcpy(alias, "CP", 2);
                memcpy(alias + 2, known, len < 20 ? len + 1 : 20);
                alias[23] = '\0';
            }
            charsets[i].handle = iconv_open("UTF-8", known != NULL ? alias : charsets[i].name);
        }
        return charsets[i].handle;
    }
    return (iconv_t)-1;
}

void container_prepare(void) {
    for (size_t i = 0; i < BASE_COUNT(charsets); i++)
        charset_handle(charsets[i].name);
    xml_prepare();
}

static char *finish(size_t *len, struct arena *arena, struct buf *buf) {
    char *copy = buf->failed ? NULL : arena_try(arena, buf->len + 1, 1);
    if (copy != NULL) {
        if (buf->len > 0)
            memcpy(copy, buf->data, buf->len);
        *len = buf->len;
    }
    buf_fini(buf);
    return copy;
}

static char *from_utf16(size_t *len, struct arena *arena, const uint8_t *data, size_t size,
                        bool big_endian) {
    struct buf out = {0};
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint32_t unit = big_endian ? (uint32_t)data[i] << 8 | data[i + 1]
                                   : (uint32_t)data[i + 1] << 8 | data[i];
        if (unit >= 0xD800 && unit < 0xDC00 && i + 3 < size) {
            uint32_t low = big_endian ? (uint32_t)data[i + 2] << 8 | data[i + 3]
                                      : (uint32_t)data[i + 3] << 8 | data[i + 2];
            if (low >= 0xDC00 && low < 0xE000) {
                unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                i += 2;
            }
        }
        if (unit == 0 || (unit >= 0xD800 && unit < 0xE000))
            unit = 0xFFFD;
        char utf8[4];
        buf_append(&out, utf8, utf8_put(utf8, unit));
    }
    return finish(len, arena, &out);
}

static const uint16_t windows_1252[32] = {
    0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178,
};

static char *from_windows_1252(size_t *len, struct arena *arena, const uint8_t *data, size_t size) {
    struct buf out = {0};
    for (size_t i = 0; i < size; i++) {
        uint32_t c = data[i];
        if (c == 0)
            c = 0xFFFD;
        else if (c >= 0x80 && c < 0xA0)
            c = windows_1252[c - 0x80];
        char utf8[4];
        buf_append(&out, utf8, utf8_put(utf8, c));
    }
    return finish(len, arena, &out);
}

static char *from_iconv(size_t *len, struct arena *arena, const uint8_t *data, size_t size,
                        iconv_t handle) {
    struct buf out = {0};
    char chunk[4096];
    char *in = (char *)(uintptr_t)data; /* iconv's prototype; it does not write there */
    size_t left = size;
    iconv(handle, NULL, NULL, NULL, NULL);
    while (left > 0) {
        char *to = chunk;
        size_t room = sizeof(chunk);
        size_t done = iconv(handle, &in, &left, &to, &room);
        buf_append(&out, chunk, sizeof(chunk) - room);
        if (done == (size_t)-1 && errno != E2BIG && left > 0) {
            buf_puts(&out, "\xEF\xBF\xBD");
            in++;
            left--;
        }
    }
    return finish(len, arena, &out);
}

char *flow_decode(size_t *len, struct arena *arena, const void *data, size_t size,
                  const char *declared) {
    const uint8_t *bytes = data;
    if (size >= 2 && bytes[0] == 0xFF && bytes[1] == 0xFE)
        return from_utf16(len, arena, bytes + 2, size - 2, false);
    if (size >= 2 && bytes[0] == 0xFE && bytes[1] == 0xFF)
        return from_utf16(len, arena, bytes + 2, size - 2, true);
    bool marked = size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0;
    if (marked) {
        bytes += 3;
        size -= 3;
    }
    bool utf8 = marked || utf8_valid((const char *)bytes, size);
    if (!utf8 && declared != NULL) {
        iconv_t handle = charset_handle(declared);
        if (handle != (iconv_t)-1)
            return from_iconv(len, arena, bytes, size, handle);
        utf8 = strcasecmp(declared, "utf-8") == 0 || strcasecmp(declared, "utf8") == 0;
    }
    if (!utf8)
        return from_windows_1252(len, arena, bytes, size);
    /* A document in a seven-bit encoding is valid UTF-8 that says something else. */
    if (!marked && declared != NULL && strcasecmp(declared, "iso-2022-jp") == 0 &&
        charset_handle(declared) != (iconv_t)-1)
        return from_iconv(len, arena, bytes, size, charset_handle(declared));
    char *copy = utf8_clean(arena, (const char *)bytes, size);
    *len = copy == NULL ? 0 : strlen(copy);
    return copy;
}
