"""The stream of events: told in order, told again after a break, ended cleanly."""

import json
import signal
import threading
import time

from wire import Wire


class Stream:
    """Reads events; `events` holds (id, name, data)."""

    def __init__(self, port, last_id=None, key=None):
        self.wire = Wire(port, timeout=60)
        head = "GET /events HTTP/1.1\r\nHost: localhost\r\n"
        if last_id is not None:
            head += f"Last-Event-ID: {last_id}\r\n"
        if key:
            head += f"Authorization: Bearer {key}\r\n"
        self.wire.send((head + "\r\n").encode())
        self.file = self.wire.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().strip()):
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        self.events, self.comments, self.ended = [], [], False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def lines(self):
        rest = b""
        while True:
            size = int(self.file.readline() or b"0", 16)
            if size == 0:
                return
            rest += self.file.read(size)
            self.file.readline()
            *whole, rest = rest.split(b"\n")
            yield from whole

    def read(self):
        event = {}
        try:
            for line in self.lines():
                name, _, value = line.decode().partition(": ")
                if not line:
                    if "data" in event:
                        self.events.append((int(event["id"]), event["event"],
                                            json.loads(event["data"])))
                    event = {}
                elif line.startswith(b":"):
                    self.comments.append(line)
                else:
                    event[name] = value
        except (OSError, ValueError):
            pass
        self.ended = True

    def wait(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(condition(*event) for event in list(self.events)):
                return
            time.sleep(0.02)
        raise AssertionError(f"not heard in {seconds} s: {self.events}")

    def close(self):
        self.wire.close()


def completed(doc_id):
    return lambda _, name, data: (name == "progress" and data["doc_id"] == doc_id and
                                  data["status"] == "completed")


def test_progress_in_order_and_again(server):
    stream = Stream(server.port)
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    _, one = server.read(b"First thing told: sandpiper.", "one.txt")
    _, two = server.read(b"Second thing told: turnstone.", "two.txt")
    stream.wait(completed(one["doc_id"]))
    stream.wait(completed(two["doc_id"]))
    ids = [event[0] for event in stream.events]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    job = stream.events[-1][2]
    assert job["document_status"] == "completed" and job["progress"] == 1
    again = Stream(server.port, last_id=ids[0])
    again.wait(completed(two["doc_id"]))
    assert again.events == stream.events[1:]
    for one_stream in (stream, again):
        one_stream.close()


def test_removals_are_told(server):
    _, document = server.read(b"Told when it goes: dunlin.", "gone.txt")
    stream = Stream(server.port)
    server.request("DELETE", f"/documents/{document['doc_id']}")
    stream.wait(lambda _, name, data: name == "document" and data == {
        "action": "removed", "doc_id": document["doc_id"], "filename": "gone.txt"}, 5)
    stream.close()


def test_unknown_places_mean_reset(server):
    for last_id in ("1", "999999999999999", "x"):
        stream = Stream(server.port, last_id=last_id)
        stream.wait(lambda _, name, __: name == "reset", 5)
        stream.close()


def test_ids_go_on_after_a_restart(start):
    server = start()
    stream = Stream(server.port)
    _, document = server.read(b"Before the restart: knot.", "knot.txt")
    stream.wait(completed(document["doc_id"]))
    last_id = stream.events[-1][0]
    server.stop()
    stream.thread.join(5)
    assert stream.ended
    server = start()
    after = Stream(server.port, last_id=last_id)
    after.wait(lambda event_id, name, _: name == "reset" and event_id > last_id, 5)
    after.close()


def test_ping(server):
    stream = Stream(server.port)
    deadline = time.monotonic() + 17
    while b": ping" not in stream.comments and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b": ping" in stream.comments
    stream.close()


def test_streams_end_when_the_server_does(start):
    server = start()
    streams = [Stream(server.port) for _ in range(20)]
    begun = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begun < 5
    for stream in streams:
        stream.thread.join(2)
        assert stream.ended
        stream.close()


def test_the_number_of_streams_is_bounded(start):
    server = start()
    streams = [Stream(server.port) for _ in range(128)]
    over = Stream(server.port)
    assert over.status == 503
    assert server.get("/health").status == 200
    for stream in [*streams, over]:
        stream.close()


def test_a_reader_that_stops_reading_costs_nothing(start):
    server = start()
    wire = Wire(server.port)
    wire.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for i in range(30):
        server.upload(f"Nobody reads of this {i}".encode(), f"{i}.txt")
    listing = server.get("/documents", limit=100).json
    for document in listing["documents"]:
        server.request("DELETE", f"/documents/{document['doc_id']}")
    assert server.get("/health").status == 200
    wire.close()
