"""Every setting of a shared ChromaDB acts: seen at the real one, or in requests on their way."""

import http.server
import os
import shlex
import shutil
import subprocess
import threading
import time

import pytest

import tiny_model
from browser_files import make_pdf
from programs import free_port
from recording_proxy import RecordingProxy, make_certificate
from running import PROGRAM, SLOW, environment

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"  # where libcurl looks on Debian


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_model.make_bert(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def share(start, tiny):
    """share(**settings) -> a server with a small text model."""
    def start_one(**settings):
        return start(**{"TEXT_MODEL": str(tiny), "MODEL_NAME": "none", **settings})

    return start_one


@pytest.fixture
def proxy():
    """proxy(port, **more) -> a RecordingProxy, closed at the test's end."""
    made = []

    def make_one(*arguments, **more):
        made.append(RecordingProxy(*arguments, **more))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def read(server, text="The walrus painted the harbour.", filename="a.txt"):
    """Uploads and waits until it is shared too; its id."""
    job, document = server.read(text.encode(), filename)
    assert job["state"] == "completed", job
    return document["doc_id"]


def documents_of(chroma, collection="text_collection", **where):
    """Ids of the documents that have rows there; none where it is not there."""
    if collection not in chroma.collections(**where):
        return set()
    return {metadata["doc_id"] for metadata in chroma.metadata(collection, **where).values()}


def trouble(server, word):
    """Waits until /health says that the store is not as it should be, and why: with this word."""
    deadline = time.monotonic() + 30 * SLOW
    while True:
        health = server.get("/health").json
        store = health["store"]
        if word in (store.get("reason") or ""):
            assert (health["status"], store["reachable"]) == ("degraded", False)
            return
        assert time.monotonic() < deadline, health
        time.sleep(0.05)


def test_chroma_host_and_port(chroma, proxy, share):
    alone = share(name="alone", CHROMA_PORT=str(chroma.port))
    doc_id = read(alone)
    assert chroma.collections() == {}  # the port alone asks for nothing
    alone.stop()
    elsewhere = proxy(chroma.port, host="127.0.0.2")
    server = share(CHROMA_HOST="127.0.0.2", CHROMA_PORT=str(elsewhere.port))
    assert read(server) == doc_id
    assert {headers["host"] for _, _, headers in elsewhere.requests} == {
        f"127.0.0.2:{elsewhere.port}"}
    assert documents_of(chroma) == {doc_id}
    [hit] = server.search("walrus")
    assert hit["doc_id"] == doc_id
    server.stop()
    server = share(name="by-name", CHROMA_HOST="localhost", CHROMA_PORT=str(chroma.port))
    other = read(server, "The boat was painted.", "b.txt")
    assert documents_of(chroma) == {doc_id, other}


def test_a_chroma_that_is_not_there_is_told(share):
    port = free_port()
    server = share(CHROMA_HOST="127.0.0.1", CHROMA_PORT=str(port))
    trouble(server, f"ChromaDB at http://127.0.0.1:{port}: ")
    assert server.upload(b"The walrus waits.", "a.txt").status == 202
    assert server.get("/search", query="walrus", search_mode="text").code == "backend_unavailable"


@pytest.mark.parametrize("status", [200, 404])
def test_another_server_is_told_from_chroma(share, status):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        server = share(CHROMA_HOST="127.0.0.1", CHROMA_PORT=str(other.server_port))
        trouble(server, f"ChromaDB at http://127.0.0.1:{other.server_port}: another server")
        other.shutdown()


@pytest.mark.parametrize("setting, of", [
    ("CHROMA_TENANT", ("harbour", "default_database")),
    ("CHROMA_DATABASE", ("default_tenant", "lighthouse"))])
def test_chroma_tenant_and_database(chroma, share, setting, of):
    chroma.make_database(*of)
    server = share(**chroma.settings, **{setting: of[setting == "CHROMA_DATABASE"]})
    doc_id = read(server)
    assert documents_of(chroma, of=of) == {doc_id}
    assert chroma.collections() == {}


def test_visual_and_text_collection(chroma, share, checkpoint):
    server = share(**chroma.settings, MODEL_NAME=str(checkpoint("colpali-hf")),
                   VISUAL_COLLECTION="my.pages", TEXT_COLLECTION="my-passages")
    page = make_pdf([[(72, 700, 12, "The walrus painted the harbour.")]])
    job, document = server.read(page, "a.pdf")
    assert job["state"] == "completed", job
    counts = chroma.counts()
    assert all(name.startswith(("my.pages", "my-passages")) for name in counts), counts
    assert counts["my.pages"] == counts["my-passages"] == 1
    assert counts["my.pages-tokens"] > 1 and counts["my.pages-vectors"] == 1
    for collection in ("my.pages", "my-passages"):
        assert documents_of(chroma, collection) == {document["doc_id"]}
    server.stop()
    # Another worker with the usual names finds nothing of it, one with these names all.
    others = share(name="other", **chroma.settings, MODEL_NAME=str(checkpoint("colpali-hf")))
    assert read(others, "Something else.", "b.txt") != document["doc_id"]
    assert "visual_collection" in chroma.collections() and "text_collection" in chroma.collections()
    assert document["doc_id"] not in documents_of(chroma)


@pytest.mark.parametrize("word", ["-tokens", "-vectors", "-documents"])
@pytest.mark.parametrize("base", ["VISUAL_COLLECTION", "TEXT_COLLECTION"])
def test_a_collection_is_not_one_of_the_others(tmp_path, base, word):
    """The rows of both would lie in one."""
    other = {"VISUAL_COLLECTION": "TEXT_COLLECTION", "TEXT_COLLECTION": "VISUAL_COLLECTION"}[base]
    done = subprocess.run([PROGRAM, "list"], capture_output=True, text=True,
                          env=environment(tmp_path / "data", **{base: "abc", other: "abc" + word}))
    assert done.returncode != 0 and f"{other} 'abc{word}'" in done.stderr, done.stderr
    done = subprocess.run([PROGRAM, "list"], capture_output=True, text=True,
                          env=environment(tmp_path / "data", **{base: "abc", other: "abc.tokens"}))
    assert done.returncode == 0, done.stderr


def test_chroma_token(chroma, proxy, share):
    """For what stands before ChromaDB: with every request, and told to nobody else."""
    before = proxy(chroma.port)
    settings = {"CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": str(before.port)}
    server = share(**settings, CHROMA_TOKEN="open sesame")
    read(server)
    server.search("walrus")
    assert len(before.requests) > 5
    for method, path, headers in before.requests:
        assert headers.get("x-chroma-token") == "open sesame", (method, path)
        assert headers.get("authorization") == "Bearer open sesame", (method, path)
    assert "sesame" not in server.log and b"sesame" not in server.get("/health").body
    server.stop()
    del before.requests[:]
    read(share(name="without", **settings), "The boat.", "b.txt")
    assert before.requests
    assert not any({"x-chroma-token", "authorization"} & set(headers)
                   for _, _, headers in before.requests)


def trusting(folder, certificate):
    """The program in a mount namespace where this certificate is an authority. Skips where there
    may be none."""
    if not os.path.exists(AUTHORITIES):
        pytest.skip(f"no {AUTHORITIES}")
    namespace = ["unshare", "--mount"] + ["--map-root-user"] * (os.getuid() != 0)
    bind = ["mount", "--bind", str(certificate), AUTHORITIES]
    if not shutil.which("unshare") or subprocess.run([*namespace, *bind]).returncode:
        pytest.skip("no namespace of mounts may be made here")
    wrapper = folder / "docusearch"
    wrapper.write_text(f"""#!/bin/sh
exec {shlex.join(namespace)} sh -c '{shlex.join(bind)} && exec "$0" "$@"' {PROGRAM} "$@"
""")
    wrapper.chmod(0o755)
    return str(wrapper)


def test_chroma_ssl(chroma, proxy, share, tmp_path):
    both, certificate = make_certificate(tmp_path / "tls", "IP:127.0.0.1", "DNS:localhost")
    before = proxy(chroma.port, certificate=both)
    settings = {"CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": str(before.port)}
    # A certificate that nobody vouches for: nothing is sent, least of all the token.
    server = share(name="untrusting", **settings, CHROMA_SSL="1", CHROMA_TOKEN="sesame")
    trouble(server, "certificate")
    assert server.upload(b"The walrus waits.", "a.txt").status == 202
    server.stop()
    assert before.failed and before.requests == []
    server = share(name="plain", **settings)
    trouble(server, str(before.port))
    server.stop()
    assert before.requests == []
    program = trusting(tmp_path / "tls", certificate)
    server = share(name="trusting", **settings, CHROMA_SSL="1", program=program)
    doc_id = read(server)
    assert documents_of(chroma) == {doc_id}
    assert {path.startswith("/api/v2/") for _, path, _ in before.requests} == {True}
