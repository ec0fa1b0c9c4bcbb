/* Base64 with the standard alphabet and padding (RFC 4648, section 4). */
#include "api/internal.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void api_base64_put(struct buf *out, const void *data, size_t len) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        unsigned group = (unsigned)bytes[i] << 16;
        group |= n > 1 ? (unsigned)bytes[i + 1] << 8 : 0;
        group |= n > 2 ? (unsigned)bytes[i + 2] : 0;
        char four[4] = {alphabet[group >> 18], alphabet[group >> 12 & 63],
                        n > 1 ? alphabet[group >> 6 & 63] : '=',
                        n > 2 ? alphabet[group & 63] : '='};
        buf_append(out, four, 4);
    }
}

static int digit_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool api_base64_take(struct buf *out, const char *text, size_t len) {
    if (len % 4 != 0)
        return false;
    for (size_t i = 0; i < len; i += 4) {
        bool last = i + 4 == len;
        int pads = !last || text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
        unsigned group = 0;
        for (int k = 0; k < 4; k++) {
            int digit = k < 4 - pads ? digit_of(text[i + (size_t)k]) : 0;
            if (digit < 0)
                return false;
            group = group << 6 | (unsigned)digit;
        }
        char three[3] = {(char)(group >> 16), (char)(group >> 8), (char)group};
        buf_append(out, three, (size_t)(3 - pads));
    }
    return !out->failed;
}
