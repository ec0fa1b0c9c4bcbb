/* The listening socket: made here, not by the library, so that a port in use can be told by name
 * and port 0 answered with the port that was found. */
#include "http/internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_on(const struct addrinfo *info) {
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (info->ai_family == AF_INET6) {
        int only = 0;
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    }
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, 511) == 0)
        return fd;
    int errnum = errno;
    close(fd);
    errno = errnum;
    return -1;
}

static int port_of(int fd) {
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

bool http_listen(int *out_fd, int *out_port, const char *host, int port, struct error *err) {
    char service[16];
    snprintf(service, sizeof(service), "%d", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, service, &hints, &found);
    if (rc != 0)
        return error_set(err, ERROR_INPUT, "%s: %s", host, gai_strerror(rc));
    /* IPv4 first: "localhost" is then 127.0.0.1, as everything that calls us writes it. */
    int fd = -1, errnum = EADDRNOTAVAIL;
    for (int pass = 0; pass < 2 && fd < 0; pass++) {
        for (struct addrinfo *info = found; info && fd < 0; info = info->ai_next) {
            if ((info->ai_family == AF_INET) != (pass == 0))
                continue;
            fd = listen_on(info);
            if (fd < 0)
                errnum = errno;
        }
        if (fd < 0 && errnum == EADDRINUSE)
            break;
    }
    freeaddrinfo(found);
    if (fd < 0 && errnum == EADDRINUSE)
        return error_set_code(err, ERROR_CONFLICT, "address_in_use",
                              "Address already in use: port %d on %s; choose another with "
                              "--worker-port or WORKER_PORT",
                              port, host);
    if (fd < 0)
        return error_set_errno(err, errnum, "listen on %s:%d", host, port);
    *out_fd = fd;
    *out_port = port_of(fd);
    return true;
}
