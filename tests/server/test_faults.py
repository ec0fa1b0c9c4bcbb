"""Kills, races and full disks: what was acknowledged is there, once; what was not leaves nothing."""

import contextlib
import hashlib
import http.client
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from conftest import alive
from running import PROGRAM
from wire import Wire, multipart, part

POINTS = ("received", "renamed", "queued", "parsed", "chunked", "committed")
LOST = (OSError, http.client.HTTPException)


@pytest.fixture(scope="module", autouse=True)
def fault_points(tmp_path_factory):
    """Skips where the program was built without them."""
    if b"DOCUSEARCH_FAULT" not in Path(PROGRAM).read_bytes():
        pytest.skip("the program was built without fault points")


def drained(server, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        queue = server.get("/health").json["queue"]
        if queue["waiting"] + queue["running"] == 0:
            return
        time.sleep(0.05)
    raise AssertionError(f"still busy after {seconds} s")


def documents(server):
    return server.get("/documents", limit=100).json["documents"]


def check_whole(server, doc_id, word):
    """One row, completed, found once, with its files."""
    assert [d["status"] for d in documents(server) if d["doc_id"] == doc_id] == ["completed"]
    assert [hit["doc_id"] for hit in server.search(word)] == [doc_id]
    assert server.get(f"/documents/{doc_id}/original").status == 200
    assert server.get(f"/documents/{doc_id}/markdown").status == 200


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step(start, point):
    server = start()
    _, earlier = server.read(b"An earlier document: merganser.", "earlier.txt")
    server.stop()
    server = start(DOCUSEARCH_FAULT=f"{point}:kill")
    data = f"Killed at {point}: smew.".encode()
    doc_id = hashlib.sha256(data).hexdigest()
    children = []
    acknowledged = False
    with contextlib.suppress(*LOST):
        children = server.children()
        acknowledged = server.upload(data, "killed.txt").status == 202
    assert server.process.wait(20) == -signal.SIGKILL
    if point in ("received", "renamed", "queued"):
        assert not acknowledged
    time.sleep(0.5)
    assert not any(alive(pid) for pid in children)

    server = start()
    drained(server)
    check_whole(server, earlier["doc_id"], "merganser")
    there = [d["doc_id"] for d in documents(server)]
    assert len(there) == len(set(there))
    if acknowledged or doc_id in there:
        check_whole(server, doc_id, "smew")
    assert server.leftovers() == []
    # The same bytes again end as one document, whatever was left of the first time.
    assert server.upload(data, "killed.txt").status in (200, 202)
    drained(server)
    check_whole(server, doc_id, "smew")
    folders = [path.name for path in (server.data_dir / "documents").glob("*/*")]
    assert sorted(folders) == sorted({doc_id, earlier["doc_id"]})


def test_a_document_that_kills_the_server_is_given_up(start):
    server = start(DOCUSEARCH_FAULT="parsed:kill")
    with contextlib.suppress(*LOST):
        server.upload(b"Poison: oystercatcher.", "poison.txt")
    server.process.wait(20)
    for _ in range(6):
        try:
            server = start(DOCUSEARCH_FAULT="parsed:kill")
        except AssertionError:
            continue  # killed before it was up
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(3)
        if server.process.poll() is None:
            break
    assert server.process.poll() is None, "the server goes on being killed"
    [document] = documents(server)
    assert (document["status"], document["error"]["code"]) == ("failed", "parser_crash")


def test_killed_under_load(start):
    server = start()
    acknowledged, lock = {}, threading.Lock()

    def send(worker):
        for i in range(200):
            data = f"Load {worker} {i}: phalarope{worker}x{i}.".encode()
            try:
                reply = server.upload(data, f"{worker}-{i}.txt")
            except LOST:
                return
            if reply.status == 202:
                with lock:
                    acknowledged[reply.json["documents"][0]["doc_id"]] = f"phalarope{worker}x{i}"

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    server.stop(signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert acknowledged
    server = start()
    drained(server, 120)
    listed, offset = [], 0
    while True:
        page = server.get("/documents", limit=100, offset=offset).json["documents"]
        listed += page
        offset += 100
        if len(page) < 100:
            break
    ids = [document["doc_id"] for document in listed]
    assert len(ids) == len(set(ids))
    assert acknowledged.keys() <= set(ids)
    assert {document["status"] for document in listed} == {"completed"}
    for doc_id, word in list(acknowledged.items())[:20]:
        assert [hit["doc_id"] for hit in server.search(word)] == [doc_id]


def test_stopped_in_the_middle_it_goes_on_after(start):
    server = start(DOCUSEARCH_FAULT="parsed:sleep", WORKER_THREADS="1")
    sent = server.upload(b"Stopped in the middle: eider.", "eider.txt").json["documents"][0]
    deadline = time.monotonic() + 10
    while (server.get(f"/jobs/{sent['job_id']}").json["state"] != "processing" and
           time.monotonic() < deadline):
        time.sleep(0.02)
    server.stop(signal.SIGKILL)
    server = start()
    assert server.wait_job(sent["job_id"])["state"] == "completed"
    check_whole(server, sent["doc_id"], "eider")


def test_the_same_file_fifty_times_at_once(start):
    server = start()
    replies = []
    barrier = threading.Barrier(50)

    def send(i):
        barrier.wait()
        replies.append(server.upload(b"The same, fifty times: goosander.", f"copy {i}.txt"))

    threads = [threading.Thread(target=send, args=(i,)) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {reply.status for reply in replies} <= {200, 202} and len(replies) == 50
    assert len({reply.json["documents"][0]["doc_id"] for reply in replies}) == 1
    assert len({reply.json["documents"][0]["job_id"] for reply in replies}) == 1
    drained(server)
    check_whole(server, replies[0].json["documents"][0]["doc_id"], "goosander")
    assert server.get("/jobs").json["total"] == 1


def test_deleted_while_it_is_read(start):
    server = start(DOCUSEARCH_FAULT="chunked:sleep", WORKER_THREADS="1")
    sent = server.upload(b"Deleted while read: scaup.", "scaup.txt").json["documents"][0]
    time.sleep(1)
    assert server.request("DELETE", f"/documents/{sent['doc_id']}").status == 200
    assert server.get(f"/documents/{sent['doc_id']}").status == 404
    assert server.search("scaup") == []
    server.stop(signal.SIGKILL)  # in the middle of the attempt that lost its document
    server = start()
    drained(server)
    assert documents(server) == [] and server.search("scaup") == []
    assert list((server.data_dir / "documents").glob("*/*")) == []


def test_deleted_and_uploaded_at_once(start):
    """Whoever wins, there is one whole document or none."""
    server = start()
    data = b"To and fro: wigeon."
    doc_id = hashlib.sha256(data).hexdigest()
    stop = time.monotonic() + 3

    def send():
        while time.monotonic() < stop:
            assert server.upload(data, "wigeon.txt").status in (200, 202)

    def remove():
        while time.monotonic() < stop:
            assert server.request("DELETE", f"/documents/{doc_id}").status in (200, 404)

    threads = [threading.Thread(target=run) for run in (send, send, remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.upload(data, "wigeon.txt")
    drained(server)
    check_whole(server, doc_id, "wigeon")


# ---- a full disk -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=288m", "tmpfs", str(folder)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(start, small_disk):
    server = start(DATA_DIR=str(small_disk / "data"))
    server.data_dir = small_disk / "data"
    _, document = server.read(b"Before the disk was full: gadwall.", "before.txt")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40 << 20))  # leaves less than the reserve
    reply = server.upload(b"Too late: pochard.", "late.txt")
    assert (reply.status, reply.code) == (507, "disk_full")
    assert [d["doc_id"] for d in documents(server)] == [document["doc_id"]]
    assert server.leftovers() == []
    # What needs no room, or makes some, goes on.
    assert [hit["doc_id"] for hit in server.search("gadwall")] == [document["doc_id"]]
    assert server.get("/health").status == 200
    assert server.request("DELETE", f"/documents/{document['doc_id']}").status == 200
    ballast.unlink()
    assert server.read(b"Too late: pochard.", "late.txt")[0]["state"] == "completed"


def test_a_disk_that_fills_while_a_file_comes(start, small_disk):
    server = start(DATA_DIR=str(small_disk / "data"))
    server.data_dir = small_disk / "data"
    body, _ = multipart(part("file", "large.txt", b"x" * (20 << 20)))
    with Wire(server.port) as wire:
        head = (f"POST /documents HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                "Content-Type: multipart/form-data; boundary=frontier\r\n\r\n")
        wire.send(head.encode() + body[:4 << 20])
        time.sleep(0.3)
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), open(ballast, "wb") as file:
            while True:
                file.write(bytes(1 << 20))
        wire.send(body[4 << 20:])
        assert wire.status() == 507
    deadline = time.monotonic() + 5
    while server.leftovers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.leftovers() == [] and documents(server) == []
    ballast.unlink()
    assert server.read(b"Room again: shoveler.", "again.txt")[0]["state"] == "completed"
