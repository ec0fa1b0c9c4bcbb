"""Clients that mean harm, or are broken: each is ended, and the others do not notice."""

import socket
import threading
import time

import pytest

from wire import Wire, ask, multipart, part

MB = 1 << 20


def unharmed(server):
    """Answers at once, and nothing is left in tmp/."""
    begun = time.monotonic()
    assert server.get("/health", timeout=5).status == 200
    assert time.monotonic() - begun < 1
    deadline = time.monotonic() + 5
    while server.leftovers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.leftovers() == []


def upload_head(length=None, more="", boundary="frontier"):
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (f"POST /documents HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n{more}"
            f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n").encode()


FILE_HEAD = (b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="x.txt"\r\n\r\n')


# ---- too slow --------------------------------------------------------------------------------


def test_slow_heads_bodies_and_readers(server):
    """Sixty connections that dawdle, each in one of three ways, all at once."""
    wires = []
    begun = time.monotonic()
    for i in range(60):
        wire = Wire(server.port, timeout=30)
        if i % 3 == 0:
            wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        elif i % 3 == 1:
            wire.send(upload_head(1000000) + FILE_HEAD)
        wires.append(wire)
    latencies, ended = [], {}
    while time.monotonic() - begun < 17 and len(ended) < len(wires):
        asked = time.monotonic()
        assert server.get("/search", q="anything").status == 200
        latencies.append(time.monotonic() - asked)
        for i, wire in enumerate(wires):
            if i not in ended and i % 3 == 0:
                wire.send(b"a")
            if i not in ended and wire.closed(0.001):
                ended[i] = time.monotonic() - begun
        time.sleep(0.2)
    for wire in wires:
        wire.close()
    assert len(ended) == len(wires), f"{len(wires) - len(ended)} still open"
    for wire in wires[:3]:  # and told why
        assert wire.said.startswith(b"HTTP/1.1 408 ")
    assert min(ended.values()) > 8  # nobody was ended before the deadline
    assert sorted(latencies)[len(latencies) // 2] < 0.5
    unharmed(server)


def test_a_reader_that_stops_reading_harms_nobody(server):
    _, document = server.read(b"%PDF-1.4 that is none " + bytes(4 * MB), "large.pdf")
    wires = []
    for _ in range(20):
        wire = Wire(server.port)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(f"GET /documents/{document['doc_id']}/original HTTP/1.1\r\n"
                  f"Host: localhost\r\n\r\n".encode())
        wires.append(wire)
    time.sleep(0.3)
    unharmed(server)
    for wire in wires:
        wire.close()
    server.request("DELETE", f"/documents/{document['doc_id']}")


# ---- too large -------------------------------------------------------------------------------


def test_a_length_too_large_is_refused_before_the_body(server):
    assert ask(server.port, upload_head(10**15)) == 413
    assert ask(server.port, upload_head(10**15, "Expect: 100-continue\r\n")) == 413
    assert ask(server.port, b"POST /search HTTP/1.1\r\nHost: localhost\r\n"
                            b"Content-Length: 10000000\r\n\r\n") == 413
    unharmed(server)


def test_a_file_too_large_is_refused_as_it_comes(start):
    server = start(MAX_FILE_SIZE_MB="1")
    data = b"x" * (1 * MB)
    assert server.upload(data, "just.txt").status == 202
    reply = server.upload(data + b"y", "over.txt")
    assert (reply.status, reply.code) == (413, "too_large")
    # Chunked, without any length said: refused long before its end.
    with Wire(server.port) as wire:
        wire.send(upload_head() + b"%x\r\n%s\r\n" % (len(FILE_HEAD), FILE_HEAD))
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        sent = 0
        while sent < 64 * MB and not wire.answered() and wire.send(block):
            sent += 65536
        assert sent < 32 * MB
        assert wire.status() == 413
    # The others of a request are not harmed by one.
    body, headers = multipart(part("file", "a.txt", b"small one"), part("file", "b.txt", data * 2),
                              part("file", "c.txt", b"small two"))
    reply = server.request("POST", "/documents", body, headers)
    assert reply.status == 202
    assert [d["status"] for d in reply.json["documents"]] == ["queued", "failed", "queued"]
    unharmed(server)


def test_json_too_large_or_deep(server):
    deep = b'{"query":' + b"[" * 100000 + b"]" * 100000 + b"}"
    for body in (deep, b'{"query":"' + b"x" * (900 * 1024) + b'"}', b"\xff\xfe", b'{"query":"\xff"}'):
        reply = server.request("POST", "/search", body, {"Content-Type": "application/json"})
        assert reply.status == 400
    many = b'{"query":"a","filters":{"doc_id":[' + b'"a",' * 5000 + b'"a"]}}'
    reply = server.request("POST", "/search", many, {"Content-Type": "application/json"})
    assert reply.status in (400, 413)


def test_heads_too_large(server):
    assert ask(server.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100000) == 431
    assert ask(server.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 300 +
               b"\r\n") == 431
    assert ask(server.port, b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") == 414
    assert ask(server.port, b"GET /" + b"a" * 100000) in (414, 431)
    assert ask(server.port, b"GET /?" + b"a=1&" * 300 +
               b" HTTP/1.1\r\nHost: localhost\r\n\r\n") == 414
    assert ask(server.port, b"GET /?" + b"a=1&" * 3000 +
               b" HTTP/1.1\r\nHost: localhost\r\n\r\n") in (0, 414)
    unharmed(server)


def test_too_many_parts(server):
    body, headers = multipart(*(part("x", None, b"") for _ in range(10000)))
    reply = server.request("POST", "/documents", body, headers)
    assert (reply.status, reply.code) == (400, "too_many_parts")
    body, headers = multipart(part("file", "x" * 100000 + ".txt", b"a"))
    assert server.request("POST", "/documents", body, headers).status == 400
    unharmed(server)


# ---- wrong -----------------------------------------------------------------------------------

POST = b"POST /search HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("request_", [
    POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    POST + b"Content-Length: 2, 2\r\n\r\n{}",
    POST + b"Content-Length: -2\r\n\r\n{}",
    POST + b"Content-Length: +2\r\n\r\n{}",
    POST + b"Content-Length: 0x2\r\n\r\n{}",
    POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET nonsense HTTP/1.1\r\nHost: localhost\r\n\r\n",
])
def test_wrong_requests(server, request_):
    with Wire(server.port) as wire:
        wire.send(request_)
        reply = wire.read(seconds=3)
        assert reply == b"" or reply.startswith(b"HTTP/1.1 4"), reply
        assert b"HTTP/1.1 2" not in reply  # nothing of it is taken for a request
    assert server.get("/livez").status == 200


def test_noise(server):
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00", b"\0" * 5000, b"\r\n" * 5000, b"SSH-2.0-x\r\n",
                  bytes(range(256)) * 50):
        with Wire(server.port) as wire:
            wire.send(noise)
            wire.read(seconds=0.2)
    unharmed(server)


# ---- broken off ------------------------------------------------------------------------------


def test_uploads_broken_off_leave_nothing(server):
    total = server.get("/documents").json["total"]
    body, _ = multipart(part("file", "half.txt", b"half " * (MB // 5)))
    for end in ("close", "reset"):
        wires = []
        for _ in range(10):
            wire = Wire(server.port)
            wire.send(upload_head(len(body)) + body[:len(body) // 2])
            wires.append(wire)
        time.sleep(0.2)
        for wire in wires:
            if end == "reset":
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       b"\1\0\0\0\0\0\0\0")
            wire.close()
    unharmed(server)
    assert server.get("/documents").json["total"] == total


def test_a_body_after_a_refusal_does_not_hide_it(server):
    """A client that sends all of its body before it looks still sees the answer."""
    body, headers = multipart(part("file", "x.exe", b"MZ\x01\x02" + bytes(30 * MB)))
    reply = server.request("POST", "/documents", body, headers)
    assert (reply.status, reply.code) == (415, "unsupported_type")


# ---- many ------------------------------------------------------------------------------------


def test_a_flood_of_connections(server):
    wires, refused = [], 0
    try:
        for _ in range(700):
            wires.append(Wire(server.port))
        for wire in wires[512:]:
            refused += wire.status(seconds=2) == 503
    finally:
        for wire in wires:
            wire.close()
    assert refused >= 100
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if server.get("/health", timeout=2).status == 200:
                break
        except OSError:
            pass
        time.sleep(0.1)
    unharmed(server)


def test_idle_connections_cost_little(server):
    def median():
        took = []
        for _ in range(30):
            begun = time.monotonic()
            assert server.get("/search", q="anything").status == 200
            took.append(time.monotonic() - begun)
        return sorted(took)[15]

    before = median()
    wires = [Wire(server.port) for _ in range(300)]
    try:
        assert median() < 2 * before + 0.02
    finally:
        for wire in wires:
            wire.close()


def test_a_hundred_askers_at_once(server):
    statuses = []

    def run():
        for _ in range(10):
            statuses.append(server.get("/search", q="anything").status)

    threads = [threading.Thread(target=run) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 1000


# ---- from elsewhere --------------------------------------------------------------------------


@pytest.mark.parametrize("host, status", [
    ("localhost", 200), ("127.0.0.1", 200), ("[::1]", 200), ("evil.example", 403),
    ("localhost.evil.example", 403), ("192.168.0.7", 403), ("127.0.0.1.nip.io", 403),
])
def test_foreign_hosts(server, host, status):
    for path in ("/", "/health", "/documents"):
        assert server.request("GET", path, headers={"Host": f"{host}:{server.port}"}).status == status


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1",
                                    "file://", "http://127.0.0.1"])
def test_foreign_origins(server, origin):
    reply = server.request("POST", "/search", '{"query":"a"}', {"Origin": origin})
    assert reply.status == 403 and reply.code == "forbidden_origin"
    assert "Access-Control-Allow-Origin" not in reply.headers
    reply = server.request("OPTIONS", "/search", headers={
        "Origin": origin, "Access-Control-Request-Method": "POST"})
    assert reply.status == 403
    body, headers = multipart(part("file", "csrf.txt", b"from elsewhere"))
    assert server.request("POST", "/documents", body, {**headers, "Origin": origin}).status == 403


def test_our_own_origin(server):
    origin = f"http://127.0.0.1:{server.port}"
    reply = server.request("POST", "/search", '{"query":"a"}', {"Origin": origin})
    assert reply.status == 200
