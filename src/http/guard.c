/* Who may ask. A page from elsewhere must not drive a server on this machine, so its Host (DNS
 * rebinding) and its Origin (cross-site requests) are checked before anything else; then the key.
 */
#include "http/internal.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

bool http_host_is_loopback(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return false;
}

/* "[::1]:80" -> "::1", "a.b:80" -> "a.b"; false for what is no host. */
static bool split_host(char out[256], const char *text) {
    size_t len;
    const char *rest;
    if (text[0] == '[') {
        text++;
        len = strcspn(text, "]");
        if (text[len] != ']')
            return false;
        rest = text + len + 1;
    } else {
        len = strcspn(text, ":");
        rest = text + len;
    }
    if (len == 0 || len >= 256)
        return false;
    if (*rest == ':') {
        rest++;
        if (strspn(rest, "0123456789") != strlen(rest) || strlen(rest) > 5)
            return false;
    } else if (*rest) {
        return false;
    }
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static bool is_address(const char *host) {
    unsigned char any[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, any) == 1 || inet_pton(AF_INET6, host, any) == 1;
}

static bool is_wildcard(const char *host) {
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || host[0] == '\0';
}

static bool host_is_origins(const char *host_field, const char *origin) {
    const char *authority = origin ? strstr(origin, "://") : NULL;
    return authority && strcasecmp(authority + 3, host_field) == 0;
}

static bool host_is_ours(const struct http_guard *guard, const char *field) {
    char host[256], machine[256] = "";
    if (!split_host(host, field))
        return false;
    if (http_host_is_loopback(host) || strcasecmp(host, guard->bound_host) == 0)
        return true;
    if (host_is_origins(field, guard->cors_origin))
        return true;
    if (!is_wildcard(guard->bound_host))
        return false;
    /* Bound to every address: an address cannot be rebound, a foreign name can. */
    if (is_address(host))
        return true;
    gethostname(machine, sizeof(machine) - 1);
    return machine[0] && strcasecmp(host, machine) == 0;
}

static bool origin_is_ours(const char *origin, const char *host_field) {
    const char *authority = strstr(origin, "://");
    if (!authority || !host_field)
        return false;
    size_t scheme_len = (size_t)(authority - origin);
    bool scheme = (scheme_len == 4 && strncasecmp(origin, "http", 4) == 0) ||
                  (scheme_len == 5 && strncasecmp(origin, "https", 5) == 0);
    return scheme && strcasecmp(authority + 3, host_field) == 0;
}

/* Takes the same time wherever the two differ. */
static bool same_secret(const char *given, const char *key) {
    char a[SHA256_HEX + 1], b[SHA256_HEX + 1];
    sha256_hex(a, given, strlen(given));
    sha256_hex(b, key, strlen(key));
    unsigned char differs = 0;
    for (int i = 0; i < SHA256_HEX; i++)
        differs |= (unsigned char)(a[i] ^ b[i]);
    return differs == 0;
}

static bool key_is_right(const struct http_guard *guard, const struct http_request *request) {
    if (!guard->api_key)
        return true;
    const char *field = http_header(request, "Authorization");
    if (!field || strncasecmp(field, "Bearer ", 7) != 0)
        return false;
    field += 7;
    field += strspn(field, " ");
    return same_secret(field, guard->api_key);
}

static bool preflight(const struct http_request *request, struct http_response *response) {
    if (strcmp(request->method, "OPTIONS") != 0 ||
        !http_header(request, "Access-Control-Request-Method"))
        return false;
    http_reply_header(response, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    http_reply_header(response, "Access-Control-Allow-Headers",
                      "Authorization, Content-Type, Last-Event-ID");
    http_reply_header(response, "Access-Control-Max-Age", "600");
    response->status = 204;
    return true;
}

bool http_guard_check(const struct http_guard *guard, const struct http_request *request, bool open,
                      struct http_response *response) {
    const char *host = http_header(request, "Host");
    if (host && !host_is_ours(guard, host)) {
        http_reply_error(response, 403, "forbidden_host",
                         "the Host header names another machine than this one");
        return false;
    }
    const char *origin = http_header(request, "Origin");
    bool named = origin && guard->cors_origin && guard->cors_origin[0] &&
                 strcasecmp(origin, guard->cors_origin) == 0;
    if (origin && !named && !origin_is_ours(origin, host)) {
        http_reply_error(response, 403, "forbidden_origin",
                         "requests from pages of another origin are not taken");
        return false;
    }
    if (named) {
        http_reply_header(response, "Access-Control-Allow-Origin", guard->cors_origin);
        http_reply_header(response, "Vary", "Origin");
        if (preflight(request, response))
            return false;
    }
    if (!open && !key_is_right(guard, request)) {
        http_reply_header(response, "WWW-Authenticate", "Bearer");
        http_reply_error(response, 401, "unauthorized",
                         guard->api_key && http_header(request, "Authorization")
                             ? "the key is wrong"
                             : "a key is needed: Authorization: Bearer KEY");
        return false;
    }
    return true;
}
