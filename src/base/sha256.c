/* SHA-256 by libcrypto, which picks the processor's own instructions where it has them. */
#include "base/base.h"

#include <assert.h>
#include <openssl/evp.h>

#define DIGEST_BYTES 32

struct sha256 {
    EVP_MD_CTX *context;
};

static void start(struct sha256 *hash) {
    hash->context = EVP_MD_CTX_new();
    bool ok = hash->context && EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1;
    assert(ok);
    (void)ok;
}

static void finish(char out[SHA256_HEX + 1], struct sha256 *hash) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[DIGEST_BYTES];
    int ok = EVP_DigestFinal_ex(hash->context, digest, NULL);
    assert(ok == 1);
    (void)ok;
    EVP_MD_CTX_free(hash->context);
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[SHA256_HEX] = '\0';
}

struct sha256 *sha256_new(void) {
    struct sha256 *hash = mem_alloc(sizeof *hash);
    start(hash);
    return hash;
}

void sha256_update(struct sha256 *hash, const void *data, size_t len) {
    int ok = EVP_DigestUpdate(hash->context, data, len);
    assert(ok == 1);
    (void)ok;
}

void sha256_finish(char out[SHA256_HEX + 1], struct sha256 *hash) {
    finish(out, hash);
    mem_free(hash);
}

void sha256_hex(char out[SHA256_HEX + 1], const void *data, size_t len) {
    struct sha256 hash;
    start(&hash);
    sha256_update(&hash, data, len);
    finish(out, &hash);
}

bool sha256_is_hex(const char *text) {
    for (size_t i = 0; i < SHA256_HEX; i++) {
        char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return text[SHA256_HEX] == '\0';
}
