/* What a reader child may send: bytes on its socket, as the parent receives, judges and decodes
 * them. The first byte chooses: 0, the bytes are the head of a file (detection, OLE directory);
 * 1 to 3, payloads of a starting or converting child; else, frames of one reading. */
#include "read/ole.h"
#include "read/wire.h"
#include "sandbox/internal.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_INPUT 65536 /* fits a socket's buffer */
#define MAX_PAGES 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool on_picture(void *ctx, uint32_t page_i, const void *jpeg, size_t jpeg_len,
                       const void *thumb, size_t thumb_len, struct error *err) {
    uint64_t *sum = ctx;
    (void)err;
    assert(page_i < MAX_PAGES && jpeg_len >= 4 && thumb_len >= 4);
    for (size_t i = 0; i < jpeg_len; i++)
        *sum += ((const uint8_t *)jpeg)[i];
    for (size_t i = 0; i < thumb_len; i++)
        *sum += ((const uint8_t *)thumb)[i];
    return true;
}

static void on_progress(void *ctx, uint32_t done, uint32_t n_pages) {
    (void)ctx;
    assert(done <= n_pages && n_pages <= MAX_PAGES);
}

static void fuzz_reading(const uint8_t *data, size_t len) {
    int pair[2];
    if (len > MAX_INPUT || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return;
    ssize_t n = send(pair[1], data, len, MSG_DONTWAIT);
    (void)n;
    close(pair[1]);

    uint64_t sum = 0;
    struct read_sink sink = {.ctx = &sum, .picture = on_picture, .progress = on_progress};
    struct sandbox_child child = {.fd = pair[0]};
    struct wire_reading reading;
    wire_reading_init(&reading, &sink, MAX_PAGES);
    struct sandbox_frame frame;
    enum wire_step step = WIRE_GOES_ON;
    struct error err = {0};
    while ((step == WIRE_GOES_ON || step == WIRE_NEEDS_PDF) &&
           sandbox_receive(&frame, &child, wire_max_len, 0) == SANDBOX_FRAME)
        step = wire_take(&reading, frame.type, frame.data, frame.len, &err);
    if (step == WIRE_REFUSED || step == WIRE_LIES)
        assert(err.kind && err.code[0] && utf8_valid(err.text, strlen(err.text)));
    if (step == WIRE_DONE)
        assert(reading.doc && reading.doc->n_pages <= MAX_PAGES);
    wire_reading_fini(&reading);
    mem_free(child.data);
    close(pair[0]);
}

static void fuzz_file(const uint8_t *data, size_t len) {
    static const char *const names[] = {"a.pdf", "a.txt", "a.docx", "a", "a.doc"};
    struct ole_kind kind;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        assert(read_detect(data, len < 4096 ? len : 4096, names[i]) < FORMAT_N);
    if (ole_identify(&kind, data, len))
        assert(kind.format < FORMAT_N);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len == 0)
        return 0;
    uint8_t mode = data[0];
    data++;
    len--;
    struct wire_ready ready;
    struct wire_request request;
    struct error err;
    bool there;
    char *warning;
    switch (mode) {
    case 0:
        fuzz_file(data, len);
        break;
    case 1:
        if (wire_get_ready(&ready, data, len))
            assert(utf8_valid(ready.level, strlen(ready.level)));
        break;
    case 2:
        if (wire_get_failed(&err, data, len))
            assert(err.kind != 0);
        break;
    case 3:
        if (wire_get_request(&request, data, len))
            mem_free((void *)request.filename);
        if (wire_get_pdf(&there, &warning, data, len))
            mem_free(warning);
        break;
    default:
        fuzz_reading(data, len);
    }
    return 0;
}
