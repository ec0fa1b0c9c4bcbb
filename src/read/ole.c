/* The directory of an OLE compound file, as far as it tells kinds apart. Source: [MS-CFB] 2.2, 2.3,
 * 2.6; for encryption [MS-DOC] 2.5.2 (fEncrypted), [MS-XLS] 2.4.117 (FilePass), [MS-PPT] 2.1.
 *
 * Sector numbers are checked against the file's size at each use, and chains are followed for at
 * most as many steps as the file has sectors. */
#include "read/ole.h"

#include <string.h>

#define HEADER 512
#define DIR_ENTRY 128
#define END_OF_CHAIN 0xfffffffau /* and above: no sector */
#define HEADER_FAT 109

struct ole {
    const uint8_t *data;
    size_t size;
    unsigned shift;
    uint32_t n_sectors;
};

static uint32_t u16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}
static uint32_t u32(const uint8_t *at) {
    return u16(at) | u16(at + 2) << 16;
}

/* The sector's bytes (the last may be short: len says), or NULL. */
static const uint8_t *sector(const struct ole *ole, uint32_t i, size_t *len) {
    if (i >= ole->n_sectors)
        return NULL;
    size_t whole = (size_t)1 << ole->shift, at = ((size_t)i + 1) * whole, left = ole->size - at;
    *len = left < whole ? left : whole;
    return ole->data + at;
}

/* Where the file's FAT sector number n lies: in the header, or in the chain of DIFAT sectors. */
static uint32_t fat_sector(const struct ole *ole, uint32_t n) {
    if (n < HEADER_FAT)
        return u32(ole->data + 76 + (size_t)n * 4);
    uint32_t per_sector = (1u << ole->shift) / 4 - 1, difat = u32(ole->data + 68);
    n -= HEADER_FAT;
    for (uint32_t step = 0; step < ole->n_sectors; step++) {
        size_t len;
        const uint8_t *block = sector(ole, difat, &len);
        if (!block || len < (size_t)(per_sector + 1) * 4)
            return END_OF_CHAIN;
        if (n < per_sector)
            return u32(block + (size_t)n * 4);
        n -= per_sector;
        difat = u32(block + (size_t)per_sector * 4);
    }
    return END_OF_CHAIN;
}

static uint32_t next_sector(const struct ole *ole, uint32_t i) {
    uint32_t per_sector = (1u << ole->shift) / 4;
    size_t len;
    const uint8_t *block = sector(ole, fat_sector(ole, i / per_sector), &len);
    size_t at = (size_t)(i % per_sector) * 4;
    return block && at + 4 <= len ? u32(block + at) : END_OF_CHAIN;
}

/* Names are ASCII here: UTF-16 with zero high bytes. */
static bool named(const uint8_t *entry, const char *name) {
    size_t n = strlen(name);
    if (u16(entry + 64) != (n + 1) * 2)
        return false;
    for (size_t i = 0; i < n; i++)
        if (entry[i * 2] != (uint8_t)name[i] || entry[i * 2 + 1] != 0)
            return false;
    return true;
}

/* The first bytes of a stream of 4 KiB and more; smaller ones lie elsewhere. */
static const uint8_t *stream_head(const struct ole *ole, const uint8_t *entry, size_t *len) {
    *len = 0;
    return u32(entry + 120) >= u32(ole->data + 56) ? sector(ole, u32(entry + 116), len) : NULL;
}

static bool word_encrypted(const uint8_t *fib, size_t len) {
    return fib && len >= 12 && u16(fib) == 0xa5ec && (u16(fib + 10) & 0x0100);
}

/* BIFF records from the start: FilePass stands among the first. */
static bool excel_encrypted(const uint8_t *records, size_t len) {
    size_t at = 0;
    for (int n = 0; records && n < 8 && at + 4 <= len; n++) {
        if (u16(records + at) == 0x002f)
            return true;
        at += 4 + u16(records + at + 2);
    }
    return false;
}

static void judge_entry(struct ole_kind *out, const struct ole *ole, const uint8_t *entry) {
    size_t len;
    const uint8_t *head = stream_head(ole, entry, &len);
    if (named(entry, "EncryptedPackage"))
        out->package = true;
    if (named(entry, "EncryptedSummary"))
        out->encrypted = true;
    if (named(entry, "WordDocument")) {
        out->format = FORMAT_DOC;
        out->encrypted |= word_encrypted(head, len);
    } else if (named(entry, "PowerPoint Document")) {
        out->format = FORMAT_PPT;
    } else if ((named(entry, "Workbook") || named(entry, "Book")) &&
               out->format == FORMAT_UNKNOWN) {
        out->format = FORMAT_XLS;
        out->encrypted |= excel_encrypted(head, len);
    }
}

bool ole_identify(struct ole_kind *out, const void *data, size_t size) {
    *out = (struct ole_kind){.format = FORMAT_UNKNOWN};
    struct ole ole = {.data = data, .size = size};
    if (size < HEADER || memcmp(data, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 8) != 0)
        return false;
    ole.shift = u16(ole.data + 30);
    if (ole.shift != 9 && ole.shift != 12)
        return false;
    size_t whole = (size_t)1 << ole.shift;
    if (size <= whole)
        return false;
    size_t n_sectors = (size - 1) / whole; /* beside the header's own */
    ole.n_sectors = n_sectors < END_OF_CHAIN ? (uint32_t)n_sectors : END_OF_CHAIN - 1;

    uint32_t at = u32(ole.data + 48);
    bool any = false;
    for (uint32_t step = 0; step < ole.n_sectors && step < 4096; step++) {
        size_t len;
        const uint8_t *block = sector(&ole, at, &len);
        if (!block)
            break;
        any = true;
        for (size_t i = 0; i + DIR_ENTRY <= len; i += DIR_ENTRY)
            if (block[i + 66] == 2) /* a stream */
                judge_entry(out, &ole, block + i);
        at = next_sector(&ole, at);
    }
    return any;
}
