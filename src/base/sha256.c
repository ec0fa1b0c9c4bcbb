/* SHA-256, and git's blob id, by libcrypto, which picks the processor's own instructions where it
 * has them. */
#include "base/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 << 10)

struct sha256 {
    EVP_MD_CTX *context;
};

static void start(struct sha256 *hash, const EVP_MD *kind) {
    hash->context = EVP_MD_CTX_new();
    bool ok = hash->context && EVP_DigestInit_ex(hash->context, kind, NULL) == 1;
    assert(ok);
    (void)ok;
}

/* out: two digits a byte of the digest, and a NUL. */
static void finish(char *out, struct sha256 *hash) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    int ok = EVP_DigestFinal_ex(hash->context, digest, &n);
    assert(ok == 1);
    (void)ok;
    EVP_MD_CTX_free(hash->context);
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * n] = '\0';
}

struct sha256 *sha256_new(void) {
    struct sha256 *hash = mem_alloc(sizeof *hash);
    start(hash, EVP_sha256());
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
    start(&hash, EVP_sha256());
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

bool file_git_id(char out[GIT_ID_HEX + 1], const char *path, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        error_set_errno(err, errno, "file %s", path);
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct sha256 hash;
    start(&hash, EVP_sha1());
    char head[32];
    int n_head = snprintf(head, sizeof head, "blob %lld", (long long)info.st_size);
    sha256_update(&hash, head, (size_t)n_head + 1);
    char *scratch = mem_alloc(READ_BYTES);
    ssize_t n;
    while ((n = read(fd, scratch, READ_BYTES)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0)
            sha256_update(&hash, scratch, (size_t)n);
    }
    bool ok = n == 0 || error_set_errno(err, errno, "file %s", path);
    mem_free(scratch);
    close(fd);
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    finish(hex, &hash);
    if (ok)
        snprintf(out, GIT_ID_HEX + 1, "%.40s", hex);
    return ok;
}
