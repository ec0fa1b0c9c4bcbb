"""The chroma module's own tests, run against a real ChromaDB: whole, killed, damaged, and behind a
network that loses things."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from chroma_server import ChromaServer
from proxy import Proxy
from running import PROGRAM, SLOW

TESTS = Path(os.environ.get("DOCUSEARCH_BUILD") or Path(PROGRAM).parent) / "tests/unit/chroma"
PROGRAM_OF_TESTS = TESTS / "test_chroma"

pytestmark = pytest.mark.skipif(not PROGRAM_OF_TESTS.exists(),
                                reason=f"no {PROGRAM_OF_TESTS}: cmocka was not there to build it")


@pytest.fixture(name="server")
def make_server(tmp_path):
    server = ChromaServer(tmp_path / "chroma")
    server.start()
    yield server
    server.stop(signal.SIGKILL)


def start(port, test=None, **env):
    return subprocess.Popen([PROGRAM_OF_TESTS, *([test] if test else [])],
                            env={**os.environ, "DOCUSEARCH_CHROMA": f"127.0.0.1:{port}", **env},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(port, test=None, seconds=240, **env):
    process = start(port, test, **env)
    try:
        said, _ = process.communicate(timeout=seconds * SLOW)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "[       OK ]" in said and "SKIPPED" not in said, said
    return said


def test_all(server):
    print(run(server.port))


def test_a_kill_between_loses_nothing(server):
    run(server.port, "test_fill")
    for _ in range(2):
        server.kill()
        server.start()
        run(server.port, "test_still_there")
    run(server.port, "test_recall")


def test_a_kill_during_puts(server):
    """The server is killed again and again while documents are put, and comes back each time."""
    with server.supervise():
        deadline = time.monotonic() + 120 * SLOW
        for round_ in range(3):
            process = start(server.port, "test_fill", DOCUSEARCH_CHROMA_NAME=f"killed{round_}")
            time.sleep(0.4 + 0.5 * round_)
            server.kill()
            process.communicate(timeout=120)
            while time.monotonic() < deadline and not server.up():
                time.sleep(0.1)
            run(server.port, "test_fill", DOCUSEARCH_CHROMA_NAME=f"killed{round_}")
            run(server.port, "test_still_there", DOCUSEARCH_CHROMA_NAME=f"killed{round_}")


@pytest.mark.parametrize("how", ["crash", "error", "lost"])
def test_a_damaged_collection_is_made_anew(server, how):
    run(server.port, "test_fill")
    before = server.collections()
    server.damage("made-tokens", how)
    with server.supervise():
        said = run(server.port, "test_recovers")
        print(said, server.deaths)
        after = server.collections()
        assert server.counts()["made-tokens"] == 20 * 12 * 32
    assert set(after) == set(before)
    assert {name for name in after if after[name]["id"] != before[name]["id"]} == {"made-tokens"}
    assert len(server.deaths) == (2 if how == "crash" else 0)


@pytest.mark.parametrize("damaged", [False, True])
def test_the_first_search_after_a_restart(server, damaged):
    """A collection that lost its vectors answers with none: that is no answer."""
    process = start(server.port, "test_first_search",
                    **({"DOCUSEARCH_DAMAGED": "1"} if damaged else {}))
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        if damaged:
            server.damage("made-tokens", "lost")
        else:
            server.kill()
            server.start()
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=120 * SLOW)
    finally:
        process.kill()
    assert process.returncode == 0, said


def test_searches_while_documents_go(server):
    """ChromaDB answers some of them with 500 then; its indexes are whole all the same."""
    run(server.port, "test_fill")
    before = {name: one["id"] for name, one in server.collections().items()}
    print(run(server.port, "test_removals"))
    assert {name: one["id"] for name, one in server.collections().items()} == before


@pytest.mark.parametrize("mode, every", [("drop", 7), ("error", 5)])
def test_behind_a_bad_network(server, mode, every):
    with Proxy(server.port, mode, every) as proxy:
        tests = ["test_put", "test_removal", "test_scores"]
        if mode == "drop":  # what a pause follows takes long
            tests += ["test_items", "test_revision", "test_no_text", "test_two_writers",
                      "test_filters", "test_passages"]
        for test in tests:
            run(proxy.port, test)
        assert proxy.n_met > 20
    run(server.port, "test_still_there")


def test_a_server_that_never_answers(server):
    with Proxy(server.port, "silent") as proxy:
        run(proxy.port, "test_silent")


@pytest.mark.parametrize("mode", ["refuse", "error", "silent"])
def test_a_server_that_comes_back(server, mode):
    with Proxy(server.port) as proxy:
        process = start(proxy.port, "test_comes_back")
        said = ""
        while "filled" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        time.sleep(0.5)
        if mode == "refuse":
            proxy.refuse()
            time.sleep(3)
            proxy.listen()
        elif mode == "error":
            proxy.mode = mode
            time.sleep(3)
            proxy.mode = "pass"
        else:
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(25)
            server.process.send_signal(signal.SIGCONT)
        rest, _ = process.communicate(timeout=120 * SLOW)
        assert process.returncode == 0, said + rest
        print(said + rest)


def test_layout(server):
    """Ids, metadata and collections as other readers of them look for."""
    run(server.port, "test_put")
    collections = server.collections()
    assert set(collections) == {"made", "made-tokens", "made-vectors", "made-documents",
                                "made_text"}
    for name, one in collections.items():
        hnsw = one["configuration_json"]["hnsw"]
        assert (hnsw["space"], hnsw["sync_threshold"]) == ("cosine", 10000), name
    assert collections["made-tokens"]["metadata"] == {
        "docusearch": True, "docusearch_space": "made/late@1:64", "docusearch_dim": 64,
        "docusearch_late": True}
    pages = server.rows("made", vectors=True)
    doc_id = next(iter(pages)).partition("-")[0]
    assert set(pages) == {f"{doc_id}-page{n:03}" for n in (1, 2, 3)}
    page = pages[f"{doc_id}-page002"]
    assert {key: page["metadata"][key] for key in (
        "doc_id", "page", "type", "filename", "source_path", "title", "format", "num_pages")} == {
            "doc_id": doc_id, "page": 2, "type": "visual", "filename": 'file "1" ü.pdf',
            "source_path": '/in/file "1" ü.pdf', "title": "Title", "format": "pdf",
            "num_pages": 3}
    assert abs(sum(x * x for x in page["embedding"]) - 1) < 1e-5
    chunks = server.metadata("made_text")
    assert set(chunks) == {f"{doc_id}-chunk{n:04}" for n in (0, 1, 2, 3, 5, 6)}
    chunk = chunks[f"{doc_id}-chunk0003"]
    assert (chunk["chunk_id"], chunk["word_count"], chunk["type"]) == (3, 6, "text")
    assert chunk["full_text"].startswith("text 3 of 1")
    tokens = server.metadata("made-tokens")
    assert set(tokens) == {f"{doc_id}-page{n:03}-t{t:02}" for n in (1, 2, 3) for t in range(32)}
    assert tokens[f"{doc_id}-page001-t31"]["item"] == f"{doc_id}-page001"
    codes = server.metadata("made-vectors")
    assert set(codes) == set(pages) and codes[f"{doc_id}-page003"]["n"] == 50


def test_another_programs_collections(server):
    """They are kept as they are: page vectors go beside theirs where they fit, passages
    elsewhere."""
    rng = random.Random(1)
    theirs = {f"{i:08x}-0000-4000-8000-000000000000-page001":
              ([rng.gauss(0, 1) for _ in range(64)],
               {"doc_id": f"{i:08x}-0000-4000-8000-000000000000", "page": 1, "type": "visual"})
              for i in range(30)}
    server.make("made", "l2")
    server.add("made", theirs)
    server.make("made_text", "l2")
    server.add("made_text", {"x-chunk0000": ([0.1] * 64, {"doc_id": "x", "type": "text"})})
    before = server.collections()
    for test in ("test_put", "test_items", "test_revision", "test_removal", "test_scores",
                 "test_filters", "test_passages"):
        run(server.port, test)
    after = server.collections()
    assert set(after) == {"made", "made-tokens", "made-vectors", "made-documents", "made_text",
                          "made_text-24"}
    for name in ("made", "made_text"):
        for key in ("id", "metadata", "configuration_json"):
            assert after[name][key] == before[name][key]
    rows = server.metadata("made")
    assert set(theirs) < set(rows) and len(rows) > len(theirs)
    assert server.count("made_text") == 1
    server.damage("made-vectors", "error")
    run(server.port, "test_recovers")  # what is foreign is touched by none of it
    assert server.collections()["made"]["id"] == before["made"]["id"]
