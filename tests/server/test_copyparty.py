"""The real Copyparty before the real server: what is done there shows here, by hooks, and where a
hook is lost, by the server's own watch."""

import hashlib
import http.client
import os
import socket
import time
import urllib.parse
from pathlib import Path

import pytest

import inputs_pdf as pdfs
from copyparty_server import CopypartyServer, hooks
from running import PROGRAM, ROOT, SLOW, Running

NO_MODELS = {"TEXT_MODEL": "none", "MODEL_NAME": "none"}


def doc_id(data):
    return hashlib.sha256(data).hexdigest()


def text(i):
    return f"Note {i}: the plover number {i} ran along the beach.\n".encode()


class Pair:
    """A Copyparty and a server over one folder."""

    def __init__(self, root, *options, config=None, env=None, **settings):
        self.files = root / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.server = Running(root / "data", UPLOADS_DIR=str(self.files), **NO_MODELS, **settings)
        self.party = CopypartyServer(
            root / "party", *options, files=self.files, config=config,
            env={"WORKER_PORT": str(self.server.port), **(env or {})})
        self.party.start()

    def stop(self):
        self.party.stop()
        if self.server.process.poll() is None:
            self.server.stop()

    def state(self, one):
        reply = self.server.get(f"/documents/{one}")
        return reply.json["status"] if reply.status == 200 else reply.status

    def wait(self, wanted, *ids, seconds=40):
        deadline = time.monotonic() + seconds * SLOW
        for one in ids:
            while self.state(one) != wanted:
                assert time.monotonic() < deadline, (
                    f"{self.state(one)}, not {wanted}\n{self.server.log}\n{self.party.log}")
                time.sleep(0.05)

    def ready(self, *ids, **more):
        self.wait("completed", *ids, **more)

    def gone(self, *ids, **more):
        self.wait(404, *ids, **more)

    def listed(self):
        return {entry["doc_id"] for entry in
                self.server.get("/documents", limit=100).json["documents"]}

    def source(self, one):
        return self.server.document(one).get("source_path")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """With every hook. Files stand still for 10 s before the watch takes them: what is there sooner
    came by a hook."""
    made = Pair(tmp_path_factory.mktemp("pair"), *hooks())
    yield made
    made.stop()


@pytest.fixture
def quick(pair):
    """What hooks do is done before the watch would: seconds, where nothing slows the machine."""
    return 9 if SLOW == 1 else 40


def test_put(pair, quick):
    data = pdfs.good("A plover on the first page.")
    pair.party.put("put.pdf", data)
    pair.ready(doc_id(data), seconds=quick)
    assert pair.server.search("plover")[0]["filename"] == "put.pdf"


def test_form_upload(pair, quick):
    pair.party.post("form.txt", text("form"))
    pair.ready(doc_id(text("form")), seconds=quick)


def test_hard_names(pair, quick):
    names = ["two  blanks, and; more.txt", "\u00fcml\u00e4ut \u65e5\u672c.txt", "it's 100% $HOME.txt",
             "sub folder/deep/a+b=c&d.txt"]
    pair.party.make_folder("sub folder")
    pair.party.make_folder("sub folder/deep")
    for name in names:
        pair.party.put(name, text(name))
    pair.ready(*[doc_id(text(name)) for name in names], seconds=quick * 2)
    shown = {entry["filename"] for entry in
             pair.server.get("/documents", limit=100).json["documents"]}
    assert {os.path.basename(name) for name in names} <= shown


def test_name_collision(pair, quick):
    """Copyparty gives the second a name of its own; both are there, and each goes with its own."""
    pair.party.put("twice.txt", text("first"))
    url = pair.party.put("twice.txt", text("second"))
    pair.ready(doc_id(text("first")), doc_id(text("second")), seconds=quick)
    second = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    assert second != "twice.txt" and (pair.files / second).exists()
    pair.party.delete(second)
    pair.gone(doc_id(text("second")), seconds=quick)
    assert pair.state(doc_id(text("first"))) == "completed"


def test_replace(pair, quick):
    pair.party.put("replaced.txt", text("old"))
    pair.ready(doc_id(text("old")), seconds=quick)
    pair.party.put("replaced.txt", text("new"), replace=True)
    pair.ready(doc_id(text("new")), seconds=quick)
    pair.gone(doc_id(text("old")), seconds=quick)


def test_move(pair, quick):
    one = doc_id(text("moves"))
    pair.party.put("moves.txt", text("moves"))
    pair.ready(one, seconds=quick)
    pair.party.make_folder("elsewhere")
    pair.party.move("moves.txt", "elsewhere/moved.txt")
    end = time.monotonic() + 4
    while time.monotonic() < end:  # it never goes
        assert pair.state(one) == "completed"
        time.sleep(0.03)
    pair.party.delete("elsewhere/moved.txt")
    pair.gone(one, seconds=quick)


def test_move_a_folder(pair, quick):
    pair.party.make_folder("folder")
    ids = [doc_id(text(f"folder {i}")) for i in range(4)]
    for i in range(4):
        pair.party.put(f"folder/{i}.txt", text(f"folder {i}"))
    pair.ready(*ids, seconds=quick * 2)
    pair.party.move("folder", "renamed")
    time.sleep(3)
    assert [pair.state(one) for one in ids] == ["completed"] * 4
    pair.party.delete("renamed")
    pair.gone(*ids, seconds=quick * 2)


def test_copy(pair, quick):
    one = doc_id(text("copied"))
    pair.party.put("original.txt", text("copied"))
    pair.ready(one, seconds=quick)
    pair.party.copy("original.txt", "the-copy.txt")
    time.sleep(3)
    pair.party.delete("original.txt")
    time.sleep(3)
    assert pair.state(one) == "completed"  # the copy is its source too
    pair.party.delete("the-copy.txt")
    pair.gone(one, seconds=quick)


def test_delete(pair, quick):
    pair.party.put("deleted.txt", text("deleted"))
    pair.ready(doc_id(text("deleted")), seconds=quick)
    pair.party.delete("deleted.txt")
    pair.gone(doc_id(text("deleted")), seconds=quick)


def test_what_is_not_taken_is_no_failure_of_copyparty(pair):
    before = pair.listed()
    pair.party.put("program.exe", b"MZ\x90\x00" * 100)
    pair.party.put("empty.txt", b"")
    time.sleep(3)
    assert pair.listed() == before
    assert (pair.files / "program.exe").exists()


def aborted(party, path, headers, body):
    """Half a request, and the connection is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", party.port, timeout=20)
    connection.putrequest(*path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    time.sleep(0.7)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def test_an_aborted_put(pair):
    """It stays there, truncated, and no hook is run: the watch takes it, as what it is; whole, it is
    another document under another name, and once the rest is gone that is all there is."""
    whole = pdfs.good("The whole of a sandpiper.", "And its second page.")
    aborted(pair.party, ("PUT", "/docs/aborted.pdf"), {"Content-Length": str(len(whole) + 5000)},
            whole[:len(whole) // 2])
    assert (pair.files / "aborted.pdf").exists()
    half = (pair.files / "aborted.pdf").read_bytes()
    pair.party.put("aborted.pdf", whole, replace=True)
    pair.ready(doc_id(whole))
    time.sleep(12)
    assert pair.state(doc_id(whole)) == "completed"
    assert pair.state(doc_id(half)) == 404


def test_an_aborted_form(pair):
    before = pair.listed()
    boundary = "----half"
    head = (f'--{boundary}\r\nContent-Disposition: form-data; name="act"\r\n\r\nbput\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="half.txt"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode()
    aborted(pair.party, ("POST", "/docs/?j"),
            {"Content-Type": f"multipart/form-data; boundary={boundary}",
             "Content-Length": "900000"}, head + text("half") * 2000)
    time.sleep(13)
    assert list(pair.files.glob("half.txt*")), "Copyparty leaves what there is of it"
    assert pair.listed() == before


def test_everything_is_there_once(pair):
    """After all of the above: the documents are those of the files, and no job failed."""
    files = [path for path in pair.files.rglob("*") if path.is_file() and path.stat().st_size
             and ".hist" not in path.parts and path.suffix in (".txt", ".pdf")]
    assert pair.listed() == {doc_id(path.read_bytes()) for path in files}
    assert pair.server.get("/jobs", state="failed").json["total"] == 0


# ---- without hooks -------------------------------------------------------------------------------


def test_lost_hooks_lose_nothing(tmp_path):
    """No hook at all: upload, move, replacement, deletion."""
    if b"DOCUSEARCH_STILL_MS" not in Path(PROGRAM).read_bytes():
        pytest.skip("the program was built without -Dfault_points=true: files stand still for 10 s")
    pair = Pair(tmp_path, DOCUSEARCH_STILL_MS=str(int(800 * SLOW)))
    try:
        ids = [doc_id(text(i)) for i in range(4)]
        for i in range(2):
            pair.party.put(f"{i}.txt", text(i))
        pair.party.make_folder("sub")
        pair.party.post("2.txt", text(2), "sub")
        pair.party.put("sub/3.txt", text(3))
        pair.ready(*ids)
        pair.party.move("sub", "moved")
        pair.party.put("0.txt", text("replaced"), replace=True)
        pair.party.delete("1.txt")
        pair.ready(doc_id(text("replaced")))
        pair.gone(ids[0], ids[1])
        time.sleep(5 * SLOW)
        assert pair.listed() == {ids[2], ids[3], doc_id(text("replaced"))}
        pair.party.delete("moved")
        pair.gone(ids[2], ids[3])
    finally:
        pair.stop()


def test_a_server_that_is_down_for_a_while(tmp_path):
    """Hooks deliver when it is back, and what they gave up is found by its own look."""
    pair = Pair(tmp_path, *hooks())
    try:
        port = pair.server.port
        pair.party.put("before.txt", text("before"))
        pair.ready(doc_id(text("before")))
        pair.server.stop()
        pair.party.put("while.txt", text("while"))
        pair.party.delete("before.txt")
        time.sleep(2)
        pair.server = Running(tmp_path / "data", UPLOADS_DIR=str(pair.files), **NO_MODELS,
                              **{"WORKER_PORT": str(port)})
        pair.ready(doc_id(text("while")), seconds=60)
        pair.gone(doc_id(text("before")), seconds=60)
    finally:
        pair.stop()


# ---- the file that is shipped --------------------------------------------------------------------


def test_the_shipped_configuration(tmp_path):
    """deploy/copyparty.conf, with a folder of the test's own, and docusearch found through PATH, with
    a key and a path map."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docusearch").symlink_to(PROGRAM)
    (tmp_path / "key").write_text("a key of the tests\n")
    given = (ROOT / "deploy" / "copyparty.conf").read_text()
    shown = tmp_path / "shown"
    (tmp_path / "files").mkdir()
    shown.symlink_to(tmp_path / "files")
    assert "/var/lib/docusearch/uploads" in given
    config = tmp_path / "copyparty.conf"
    config.write_text(given.replace("/var/lib/docusearch/uploads", str(shown)))
    pair = Pair(tmp_path, config=config, API_KEY_FILE=str(tmp_path / "key"), env={
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "API_KEY_FILE": str(tmp_path / "key"),
        "HOOK_PATH_MAP": f"{shown}={tmp_path / 'files'}"})
    bearer = {"Authorization": "Bearer a key of the tests"}
    pair.state = lambda one: (lambda reply: reply.json["status"] if reply.status == 200 else
                              reply.status)(pair.server.request("GET", f"/documents/{one}",
                                                                headers=bearer))
    try:
        one = doc_id(text(1))
        pair.party.put("a.txt", text(1))
        pair.ready(one, seconds=9 * SLOW)
        pair.party.move("a.txt", "b.txt")
        pair.party.copy("b.txt", "c.txt")
        time.sleep(4)
        pair.party.delete("b.txt")
        time.sleep(2)
        assert pair.state(one) == "completed"
        pair.party.delete("c.txt")
        pair.gone(one, seconds=9 * SLOW)
        assert "a key of the tests" not in pair.party.log
    finally:
        pair.stop()
