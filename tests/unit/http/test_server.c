/* The server on a real socket, spoken to byte by byte. */
#include "test_http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct service {
    int n_begun, n_ended;
    size_t n_sunk;
    pthread_mutex_t lock;
};

static bool sink(struct http_request *request, const void *data, size_t len,
                 struct http_response *response, struct error *err) {
    struct service *service = request->user;
    pthread_mutex_lock(&service->lock);
    service->n_sunk += len;
    pthread_mutex_unlock(&service->lock);
    if (memmem(data, len, "STOP", 4))
        return error_set_code(err, ERROR_INPUT, "stopped", "stop word found");
    if (memmem(data, len, "FULL", 4)) {
        http_reply_error(response, 507, "disk_full", "no room");
        return false;
    }
    return true;
}

static void begin(void *ctx, struct http_request *request, struct http_plan *plan,
                  struct http_response *response) {
    struct service *service = ctx;
    pthread_mutex_lock(&service->lock);
    service->n_begun++;
    pthread_mutex_unlock(&service->lock);
    request->user = service;
    plan->max_body_bytes = 1000;
    if (strcmp(request->path, "/sink") == 0) {
        plan->sink = sink;
        plan->max_body_bytes = 1 << 20;
    }
    if (strcmp(request->path, "/refuse") == 0)
        http_reply_error(response, 429, "queue_full", "later");
}

struct ticks {
    int n;
};

static size_t tick(void *ctx, char *out, size_t max) {
    struct ticks *ticks = ctx;
    if (ticks->n++ == 3)
        return 0;
    return (size_t)snprintf(out, max, "id: %d\nevent: tick\ndata: {\"n\":\ndata: %d}\n\n: ping\n\n",
                            ticks->n, ticks->n);
}

static void handle(void *ctx, struct http_request *request, struct http_response *response) {
    struct service *service = ctx;
    if (strcmp(request->path, "/events") == 0) {
        struct http_stream stream = {mem_alloc(sizeof(struct ticks)), tick, mem_free};
        http_reply_stream(response, "text/event-stream", &stream);
        return;
    }
    json_t *json = json_object();
    json_object_set_new(json, "method", json_string(request->method));
    json_object_set_new(json, "path", json_string(request->path));
    json_object_set_new(json, "body", json_string(request->body));
    json_object_set_new(json, "client", json_string(request->client));
    json_object_set_new(json, "sunk", json_integer((json_int_t)service->n_sunk));
    http_reply_json(response, 200, json);
}

static void end(void *ctx, struct http_request *request) {
    (void)request;
    struct service *service = ctx;
    pthread_mutex_lock(&service->lock);
    service->n_ended++;
    pthread_mutex_unlock(&service->lock);
}

static struct service service;
static struct http_server *server;

static int start(void **state) {
    (void)state;
    memset(&service, 0, sizeof(service));
    pthread_mutex_init(&service.lock, NULL);
    struct http_server_options options = {
        .host = "127.0.0.1", .max_connections = 8, .header_deadline_ms = 700, .idle_ms = 1500};
    struct http_handler handler = {&service, begin, handle, end};
    struct error err;
    return http_server_start(&server, &options, &handler, &err) ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    http_server_stop(server);
    server = NULL;
    if (service.n_begun != service.n_ended) {
        print_error("%d requests begun, %d ended\n", service.n_begun, service.n_ended);
        return -1;
    }
    return 0;
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)http_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Everything until the server closes, or until nothing came for wait_ms. */
static void hear(char *out, size_t size, int fd, int wait_ms) {
    size_t n = 0;
    while (n < size - 1) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, wait_ms) <= 0)
            break;
        ssize_t got = recv(fd, out + n, size - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    out[n] = '\0';
}

static int ask(const char *text, char *out, size_t size) {
    int fd = dial();
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    hear(out, size, fd, 400);
    close(fd);
    return strncmp(out, "HTTP/1.1 ", 9) == 0 ? atoi(out + 9) : 0;
}

static void requests_are_answered(void **state) {
    (void)state;
    char out[4096];
    assert_int_equal(ask("GET /a%20b?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n", out, sizeof(out)),
                     200);
    assert_non_null(strstr(out, "\"path\":\"/a b\""));
    assert_non_null(strstr(out, "\"client\":\"127.0.0.1\""));
    assert_int_equal(ask("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", out, sizeof(out)), 200);
    assert_null(strstr(out, "\"path\""));
    assert_int_equal(
        ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", out, sizeof(out)), 200);
    assert_non_null(strstr(out, "\"body\":\"hello\""));
    assert_int_equal(ask("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                         "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
                         out, sizeof(out)),
                     200);
    assert_non_null(strstr(out, "\"body\":\"hello\""));
}

static void wrong_framing_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
         "0\r\n\r\n"),
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3x\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n",
    };
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        char out[4096];
        int status = ask(bad[i], out, sizeof(out));
        if (status / 100 != 4)
            fail_msg("%s -> %s", bad[i], out);
    }
}

static void large_heads_are_refused(void **state) {
    (void)state;
    char out[4096];
    struct buf text = {0};
    buf_puts(&text, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    for (int i = 0; i < HTTP_MAX_HEADER; i++)
        buf_putc(&text, 'a');
    buf_puts(&text, "\r\n\r\n");
    assert_int_equal(ask(text.data, out, sizeof(out)), 431);
    buf_clear(&text);
    buf_puts(&text, "GET /");
    for (int i = 0; i < HTTP_MAX_TARGET + 10; i++)
        buf_putc(&text, 'a');
    buf_puts(&text, " HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(ask(text.data, out, sizeof(out)), 414);
    buf_clear(&text);
    buf_puts(&text, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < HTTP_MAX_FIELDS + 1; i++)
        buf_puts(&text, "A: b\r\n");
    buf_puts(&text, "\r\n");
    assert_int_equal(ask(text.data, out, sizeof(out)), 431);
    buf_fini(&text);
}

static long n_broken_off(void) {
    static const char line[] = "docusearch_http_requests_total{code=\"0\"} ";
    struct buf out = {0};
    metric_write(&out);
    const char *at = strstr(out.data, line);
    long n = at ? strtol(at + strlen(line), NULL, 10) : 0;
    buf_fini(&out);
    return n;
}

/* The library closes the connection without a word to us: the request must end all the same. */
static void a_query_too_long_for_the_library_ends(void **state) {
    (void)state;
    struct buf text = {0};
    char out[4096];
    long before = n_broken_off();
    buf_puts(&text, "GET /?");
    for (int i = 0; i < 3000; i++)
        buf_puts(&text, "a=1&");
    buf_puts(&text, " HTTP/1.1\r\nHost: h\r\n\r\n");
    ask(text.data, out, sizeof(out));
    for (int i = 0; i < 200 && n_broken_off() == before; i++)
        time_sleep_ms(10);
    assert_int_equal(n_broken_off(), before + 1);
    buf_fini(&text);
}

static void large_bodies_are_refused_before_they_come(void **state) {
    (void)state;
    char out[4096];
    assert_int_equal(
        ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", out, sizeof(out)), 413);
    struct buf text = {0};
    buf_puts(&text, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 600; i++)
        buf_puts(&text, "4\r\nabcd\r\n");
    assert_int_equal(ask(text.data, out, sizeof(out)), 413);
    buf_fini(&text);
    assert_int_equal(
        ask("POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n", out, sizeof(out)),
        429);
}

static void an_early_answer_survives_the_rest_of_the_body(void **state) {
    (void)state;
    char out[4096];
    struct buf text = {0};
    buf_puts(&text, "POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nFULL");
    for (int i = 0; i < 1000000 - 4; i++)
        buf_putc(&text, 'x');
    int fd = dial();
    for (size_t at = 0; at < text.len;) {
        ssize_t n = send(fd, text.data + at, text.len - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
    hear(out, sizeof(out), fd, 1000);
    close(fd);
    assert_memory_equal(out, "HTTP/1.1 507", 12);
    assert_non_null(strstr(out, "disk_full"));
    buf_fini(&text);
    assert_int_equal(
        ask("POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nSTOP", out, sizeof(out)),
        400);
    assert_non_null(strstr(out, "stop word found"));
}

static void slow_heads_are_ended(void **state) {
    (void)state;
    char out[4096] = "";
    int fd = dial();
    int64_t before = time_mono_ms();
    const char *text =
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Drip: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (size_t i = 0; text[i] && time_mono_ms() - before < 3000; i++) {
        if (send(fd, text + i, 1, MSG_NOSIGNAL) < 0)
            break;
        hear(out, sizeof(out), fd, 60);
        if (out[0])
            break;
    }
    int64_t took = time_mono_ms() - before;
    close(fd);
    assert_memory_equal(out, "HTTP/1.1 408", 12);
    assert_true(took >= 650 && took < 2500);
}

static void idle_connections_are_ended(void **state) {
    (void)state;
    char out[4096];
    int fd = dial();
    const char *text = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (int i = 0; i < 3; i++) { /* the head's deadline is for the first request alone */
        send(fd, text, strlen(text), MSG_NOSIGNAL);
        hear(out, sizeof(out), fd, 500);
        assert_memory_equal(out, "HTTP/1.1 200", 12);
    }
    int64_t before = time_mono_ms();
    hear(out, sizeof(out), fd, 4000);
    assert_true(time_mono_ms() - before < 3000);
    close(fd);
}

static void floods_get_503(void **state) {
    (void)state;
    int fds[12];
    char out[4096];
    int n_busy = 0;
    for (int i = 0; i < 12; i++)
        fds[i] = dial();
    for (int i = 0; i < 12; i++) {
        hear(out, sizeof(out), fds[i], 50);
        n_busy += strncmp(out, "HTTP/1.1 503", 12) == 0;
    }
    for (int i = 0; i < 12; i++)
        close(fds[i]);
    assert_int_equal(n_busy, 4);
    time_sleep_ms(300);
    assert_int_equal(ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", out, sizeof(out)), 200);
}

static void broken_uploads_are_ended_once(void **state) {
    (void)state;
    int fd = dial();
    const char *text = "POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf of it";
    send(fd, text, strlen(text), MSG_NOSIGNAL);
    time_sleep_ms(100);
    close(fd);
    int64_t deadline = time_mono_ms() + 2000;
    bool ended = false;
    while (!ended && time_mono_ms() < deadline) {
        time_sleep_ms(10);
        pthread_mutex_lock(&service.lock);
        ended = service.n_begun > 0 && service.n_ended == service.n_begun;
        pthread_mutex_unlock(&service.lock);
    }
    assert_true(ended);
}

static void a_port_in_use_is_named(void **state) {
    (void)state;
    struct http_server *other = NULL;
    struct http_server_options options = {.host = "127.0.0.1", .port = http_server_port(server)};
    struct http_handler handler = {&service, begin, handle, end};
    struct error err = {0};
    char port[16];
    snprintf(port, sizeof(port), "%d", http_server_port(server));
    assert_false(http_server_start(&other, &options, &handler, &err));
    assert_string_equal(err.code, "address_in_use");
    assert_non_null(strstr(err.text, "Address already in use"));
    assert_non_null(strstr(err.text, port));
    assert_non_null(strstr(err.text, "--worker-port"));
}

static void stop_ends_open_connections(void **state) {
    (void)state;
    int idle = dial(), half = dial();
    const char *text = "POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf";
    send(half, text, strlen(text), MSG_NOSIGNAL);
    time_sleep_ms(50);
    int64_t before = time_mono_ms();
    http_server_stop(server);
    server = NULL;
    assert_true(time_mono_ms() - before < 2000);
    close(idle);
    close(half);
}

int test_server(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_are_answered, start, stop),
        cmocka_unit_test_setup_teardown(wrong_framing_is_refused, start, stop),
        cmocka_unit_test_setup_teardown(large_heads_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(a_query_too_long_for_the_library_ends, start, stop),
        cmocka_unit_test_setup_teardown(large_bodies_are_refused_before_they_come, start, stop),
        cmocka_unit_test_setup_teardown(an_early_answer_survives_the_rest_of_the_body, start, stop),
        cmocka_unit_test_setup_teardown(slow_heads_are_ended, start, stop),
        cmocka_unit_test_setup_teardown(idle_connections_are_ended, start, stop),
        cmocka_unit_test_setup_teardown(floods_get_503, start, stop),
        cmocka_unit_test_setup_teardown(broken_uploads_are_ended_once, start, stop),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_named, start, stop),
        cmocka_unit_test_setup_teardown(stop_ends_open_connections, start, stop),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
