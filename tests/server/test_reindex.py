"""Documents embedded again from what is stored of them, and the change from one model to another, with
small random models: what they rank means nothing, but it is theirs, and can be computed again."""

import contextlib
import hashlib
import json
import signal
import subprocess
import threading
import time

import pytest

from running import PROGRAM, SLOW
from test_embedding_pipeline import (LOST, drained, health, model, models, needs_fault_points,
                                     pages_of, score, search, serve, space, text_of, vectors,
                                     wait_models)

__all__ = ["models", "serve"]  # fixtures


def reindex(server, **body):
    return server.request("POST", "/reindex", body)


def state(server):
    return server.get("/reindex").json


def ended(server, seconds=60):
    deadline = time.monotonic() + seconds * SLOW
    while True:
        now = state(server)
        if now["state"] != "running":
            return now
        assert time.monotonic() < deadline, now
        time.sleep(0.02)


def fill(server, n, n_pages=2):
    """n documents of n_pages pages; their ids by name."""
    ids = {}
    for i in range(n):
        reply = server.upload(pages_of(i, n_pages), f"{i}.txt")
        ids[f"{i}.txt"] = reply.json["documents"][0]["doc_id"]
    drained(server)
    return ids


def jobs(server, kind):
    return [job for job in server.get("/jobs", limit=1000).json["jobs"] if job["kind"] == kind]


def without(server):
    time.sleep(1.1)  # how old the count may be
    return {kind: model(server, kind)["without_vectors"] for kind in ("text", "visual")}


def order(server, mode, query="a lantern in the harbor", n=50):
    return [(hit["filename"], hit["page_num"], hit["score"])
            for hit in search(server, query, mode, n)["results"]]


# ---- by the models in use -----------------------------------------------------------------------


def test_missing_documents_are_embedded_without_being_read(serve):
    server = serve(text="none")
    ids = fill(server, 4)
    server.stop()
    server = serve(visual="colpali-merged")
    server.read(pages_of("later", 2), "later.txt")
    assert without(server) == {"text": 4, "visual": 4}
    for doc_id in ids.values():  # what is read again needs it
        (server.data_dir / "documents" / doc_id[:2] / doc_id / "original").write_bytes(b"other")
    reply = reindex(server)
    assert reply.status == 202
    last = ended(server)
    assert (last["state"], last["outcome"], last["mode"], last["role"]) == \
        ("idle", "completed", "missing", "both")
    assert (last["documents_done"], last["documents_total"], last["pages_done"]) == (4, 4, 8)
    assert last["error"] is None and last["started_at"] <= last["finished_at"]
    assert without(server) == {"text": 0, "visual": 0}
    assert space(server, "visual")["items"] == 10
    assert len(jobs(server, "embed")) == 4
    # The vectors are those of the stored pages and passages.
    [asked] = vectors(server, "visual", ["velvet canyon"], "query")
    doc_id = ids["2.txt"]
    picture = server.get(f"/documents/{doc_id}/pages/2.jpg").body
    [page] = vectors(server, "visual", [picture])
    [hit] = [hit for hit in search(server, "velvet canyon", "visual", 20)["results"]
             if (hit["doc_id"], hit["page_num"]) == (doc_id, 2)]
    assert hit["score"] == pytest.approx(score(asked, page), abs=2e-3, rel=2e-3)
    chunk = server.document(doc_id)["chunks"][0]
    hits = search(server, pages_of(2, 2).decode().replace("\f", ""), "text", 1)["results"]
    assert hits[0]["doc_id"] == doc_id and chunk
    # Again there is nothing to do.
    assert reindex(server, mode="missing", model=None).status == 202
    assert ended(server)["documents_total"] == 0 and len(jobs(server, "embed")) == 4


def test_all_documents_are_replaced(serve):
    server = serve(visual="colpali-merged")
    fill(server, 6)
    before = {mode: order(server, mode) for mode in ("text", "visual")}
    seen = model(server, "visual")["embedded"]
    assert reindex(server, mode="all").status == 202
    while state(server)["state"] == "running":
        assert len(order(server, "visual")) == 12  # the old ones answer until the new ones do
    last = state(server)
    assert (last["outcome"], last["documents_done"], last["documents_total"], last["pages_done"]) \
        == ("completed", 6, 6, 12)
    assert model(server, "visual")["embedded"] == seen + 12
    assert space(server, "visual")["items"] == 12
    for mode, results in before.items():
        assert [hit[:2] for hit in order(server, mode)] == [hit[:2] for hit in results]
    assert {job["state"] for job in jobs(server, "reembed")} == {"completed"}


def test_where_pictures_are_gone_the_original_is_read(serve):
    server = serve(text="none")
    ids = fill(server, 2)
    server.stop()
    server = serve(visual="colpali-merged")
    folder = server.data_dir / "documents" / ids["1.txt"][:2] / ids["1.txt"]
    (folder / "page-00002.jpg").unlink()
    reindex(server)
    assert ended(server)["outcome"] == "completed"
    assert "Page pictures of 1.txt are gone" in server.log
    assert "Processed document: 1.txt" in server.log and "Embedded again: 0.txt" in server.log
    assert (folder / "page-00002.jpg").exists()
    assert without(server) == {"text": 0, "visual": 0}


def test_only_what_is_ready_takes_part(serve, models, tmp_path):
    server = serve(text="none")
    fill(server, 2)
    assert reindex(server).status == 202
    last = ended(server)
    assert last["state"] == "failed" and last["error"]["code"] == "model_not_installed"
    server.stop()
    server = serve(visual="vidore/not-here")
    reindex(server)
    last = ended(server)
    assert (last["outcome"], last["role"], last["documents_done"]) == ("completed", "text", 2)
    assert order(server, "text")


@pytest.mark.parametrize("body, status", [
    ({"mode": "some"}, 400), ({"mode": 1}, 400), ({"model": 7}, 400), ({"model": ""}, 400),
    ({"mode": "all", "model": "x/y"}, 400), ({"model": "none"}, 400),
    ({"model": "nobody/nothing"}, 404)])
def test_what_cannot_be_asked_for(serve, body, status):
    server = serve(text="none")
    reply = reindex(server, **body)
    assert reply.status == status, reply.body
    if status == 404:
        assert reply.code == "model_not_installed"
    assert state(server)["state"] == "idle"
    assert server.request("POST", "/reindex/cancel", {}).status == 409


def test_cancelled(serve):
    server = serve(text="none")
    fill(server, 12, 8)
    server.stop()
    server = serve(text="none", visual="colpali-merged", WORKER_THREADS="1")
    reindex(server)
    assert reindex(server, mode="all").code == "reindex_running"
    assert reindex(server).status == 202  # the same: it is under way
    deadline = time.monotonic() + 60 * SLOW
    while state(server)["documents_done"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.request("POST", "/reindex/cancel", {}).status == 200
    last = ended(server, 5)
    assert (last["state"], last["outcome"]) == ("idle", "cancelled")
    drained(server, 5)
    done = space(server, "visual")["items"]
    assert 16 <= done < 96 and done % 8 == 0
    reindex(server)
    assert ended(server)["outcome"] == "completed"
    assert space(server, "visual")["items"] == 96


def command(server, *arguments):
    return subprocess.run([PROGRAM, "reindex", *arguments], env=server.env, capture_output=True,
                          text=True, timeout=120 * SLOW)


def test_the_command(serve):
    server = serve(text="none")
    fill(server, 3)
    server.stop()
    done = command(server, "--json")  # no model yet
    assert done.returncode == 1 and json.loads(done.stdout)["state"] == "failed"
    server = serve()
    done = command(server, "--missing", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["documents_done"] == 3
    assert "completed: 3 of 3 documents" in done.stderr
    assert command(server, "--all", "--quiet").stderr == ""
    assert command(server, "--all", "--model", "x").returncode == 2
    assert command(server, "--model", "nobody/nothing").returncode == 1
    assert command(server, "--cancel").returncode == 1
    server.stop()
    done = command(server, "--all", "--json")  # in its own process
    assert done.returncode == 0 and json.loads(done.stdout)["documents_done"] == 3, done.stderr


@pytest.mark.parametrize("mode", ["missing", "all"])
@pytest.mark.parametrize("point", ["reindex_noted", "reindex_queued", "embedded", "reembedded"])
def test_killed_at_each_step(serve, point, mode):
    needs_fault_points()
    server = serve(text="none" if mode == "missing" else "sentence")
    ids = fill(server, 5)
    server.stop()
    server = serve(visual="colpali-merged" if mode == "missing" else "none",
                   DOCUSEARCH_FAULT=f"{point}:kill")
    with contextlib.suppress(*LOST):
        reindex(server, mode=mode)
    assert server.process.wait(30 * SLOW) == -signal.SIGKILL
    server = serve(visual="colpali-merged" if mode == "missing" else "none")
    assert ended(server)["outcome"] == "completed"
    drained(server)
    for entry in health(server)["models"]:
        if entry["state"] == "ready":
            assert entry["without_vectors"] == 0
    facts = health(server)
    assert space(server, "text")["items"] == facts["documents"]["chunks"]
    if mode == "missing":
        assert space(server, "visual")["items"] == 10
    else:
        assert {job["doc_id"] for job in jobs(server, "reembed")} == set(ids.values())
        assert len(jobs(server, "reembed")) == 5
    assert facts["documents"]["embedding_again"] == 0
    server.stop()
    server = serve(visual="colpali-merged" if mode == "missing" else "none")
    assert state(server)["outcome"] is None  # it is not taken up once more
