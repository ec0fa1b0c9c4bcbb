"""Documents through a real ChromaDB: what lies there, what workers that share it find and remove,
and what becomes of it all when the server goes away, comes back, or has lost everything."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from running import PROGRAM, SLOW
from test_events import Stream
from test_embedding_pipeline import (drained, health, models, pages_of, search, serve,  # noqa: F401
                                     text_of)

MODES = ("hybrid", "visual", "text", "lexical")
PAGES, PASSAGES = "visual_collection", "text_collection"


def until(check, seconds=30, what="it"):
    """What check gives once it is true."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        seen = check()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.1)


def store(server):
    return health(server)["store"]


def settled(server):
    """The store answers, and has all that this worker has."""
    def look():
        facts = store(server)
        return facts["reachable"] and not facts["documents"]["waiting"] and \
            not facts["documents"]["removals_waiting"] and health(server)["queue"]["waiting"] == 0
    until(look, what="all of it in ChromaDB")


@pytest.fixture
def worker(serve, chroma):  # noqa: F811
    """worker(name) -> a server that shares the ChromaDB."""
    def start_one(name="data", **settings):
        return serve(visual="colpali-merged", name=name, **{**chroma.settings, **settings})

    return start_one


def answers(server, query, **more):
    """Each mode's results as (document, page, rounded score)."""
    return {mode: [(hit["doc_id"], hit["page_num"], round(hit["score"], 3))
                   for hit in search(server, query, mode, **more)["results"]] for mode in MODES}


def found(server, doc_id, query):
    return {mode: doc_id in [hit["doc_id"] for hit in search(server, query, mode, 100)["results"]]
            for mode in MODES}


def everywhere(server, doc_id, query):
    return all(found(server, doc_id, query).values())


def nowhere(server, doc_id, query):
    return not any(found(server, doc_id, query).values())


def known(server):
    return {entry["doc_id"]: entry for entry in server.get("/documents", limit=100).json["documents"]}


# ---- what lies there ---------------------------------------------------------------------------


def test_rows_and_answers(worker, serve, chroma):  # noqa: F811
    shared, alone = worker("shared"), serve(visual="colpali-merged", name="alone")
    texts = {f"{i}.txt": pages_of(f"rows{i}", 1 + i % 3) for i in range(8)}
    for server in (shared, alone):
        for name, data in texts.items():
            job, document = server.read(data, name)
            assert job["state"] == "completed", job
    settled(shared)
    facts = health(alone)["documents"]
    counts = chroma.counts()
    assert counts[PAGES] == counts[f"{PAGES}-vectors"] == facts["pages"]
    assert counts[f"{PAGES}-tokens"] == 32 * facts["pages"]
    assert counts[PASSAGES] == facts["chunks"]
    assert counts[f"{PAGES}-documents"] == len(texts)
    # As the older worker's readers look for them.
    rows = chroma.metadata(PAGES, {"doc_id": document["doc_id"]})
    assert set(rows) == {f"{document['doc_id']}-page{page:03}"
                         for page in range(1, document["page_count"] + 1)}
    for row in rows.values():
        assert row["filename"] == document["filename"] and row["type"] == "visual"
        assert row["num_pages"] == document["page_count"] and "timestamp" in row
    chunks = chroma.metadata(PASSAGES, {"doc_id": document["doc_id"]})
    assert f"{document['doc_id']}-chunk0000" in chunks
    one = chunks[f"{document['doc_id']}-chunk0000"]
    assert one["type"] == "text" and one["word_count"] > 5
    assert one["text_preview"] == one["full_text"][:200]
    # The same answers as the embedded index gives, with the same places on the page.
    for query in ("heron lantern", "violin harbor saddle", "number"):
        here, there = answers(shared, query), answers(alone, query)
        for mode in ("visual", "lexical"):
            assert here[mode] == there[mode], mode
        # ChromaDB's products are of floats, the index's of codes.
        scores = {hit[:2]: hit[2] for hit in there["text"]}
        assert {hit[:2] for hit in here["text"]} == set(scores)
        for *place, score in here["text"]:
            assert score == pytest.approx(scores[tuple(place)], abs=1e-2)
        pages = [{hit[:2] for hit in one["hybrid"]} for one in (here, there)]
        assert len(pages[0] & pages[1]) >= 9
    only = {"doc_id": document["doc_id"]}
    narrow = search(shared, "heron", "visual", filters=only)["results"]
    assert narrow and {hit["doc_id"] for hit in narrow} == {document["doc_id"]}
    wide = search(shared, "heron", "visual", 100, filters={"page_from": 2})["results"]
    assert wide and all(hit["page_num"] >= 2 for hit in wide)


def test_a_removal_leaves_a_tombstone(worker, chroma):
    server = worker()
    _, document = server.read(pages_of("gone", 2), "gone.txt")
    _, other = server.read(pages_of("stays", 2), "stays.txt")
    doc_id = document["doc_id"]
    assert server.request("DELETE", f"/documents/{doc_id}").status == 200
    assert nowhere(server, doc_id, "heron lantern copper")
    settled(server)
    for name in (PAGES, f"{PAGES}-tokens", f"{PAGES}-vectors", PASSAGES):
        assert chroma.metadata(name, {"doc_id": doc_id}) == {}, name
        assert chroma.metadata(name, {"doc_id": other["doc_id"]}), name
    assert doc_id in chroma.rows(f"{PAGES}-documents")
    # The same bytes may come again.
    job, _ = server.read(pages_of("gone", 2), "again.txt")
    assert job["state"] == "completed"
    assert everywhere(server, doc_id, text_of("gonex0"))


# ---- several workers ---------------------------------------------------------------------------


def test_two_workers_find_and_remove(worker, chroma):
    first, second = worker("first"), worker("second")
    told, ids = Stream(second.port), {}
    for name, server in (("a", first), ("b", second)):
        job, document = server.read(pages_of(f"two{name}", 2), f"{name}.txt")
        assert job["state"] == "completed", job
        ids[name] = document["doc_id"]
    # One that both take is one.
    for server in (first, second):
        ids["both"] = server.read(pages_of("twoboth", 2), "both.txt")[1]["doc_id"]
    for server in (first, second):
        settled(server)
        until(lambda server=server: set(known(server)) == set(ids.values()), what="all documents")
        for name, doc_id in ids.items():
            assert everywhere(server, doc_id, text_of(f"two{name}x0")), name
    assert chroma.counts()[PAGES] == 6
    for query in ("heron lantern", "meadow"):
        assert answers(first, query) == answers(second, query)
    # What another has is shown, and whose it is; its files are there.
    theirs = known(second)[ids["a"]]
    assert theirs["worker"].endswith("/first") and theirs["filename"] == "a.txt"
    assert known(first)[ids["a"]]["worker"] is None
    picture = second.get(f"/documents/{ids['a']}/original")
    assert (picture.status, picture.code) == (404, "kept_elsewhere")
    # Removed by either, it is gone for both.
    assert second.request("DELETE", f"/documents/{ids['a']}").status == 200
    assert first.request("DELETE", f"/documents/{ids['both']}").status == 200
    for server in (first, second):
        until(lambda server=server: set(known(server)) == {ids["b"]}, what="the removals")
        assert nowhere(server, ids["a"], text_of("twoax0"))
    settled(second)
    # Both are told of as they happen, what this worker removed itself once.
    told.wait(lambda _, name, data: data == {"action": "removed", "doc_id": ids["both"],
                                             "filename": "both.txt"}, 5)
    changes = [(data["action"], data["doc_id"]) for _, name, data in told.events
               if name == "document" and data["doc_id"] != ids["both"]]
    assert changes == [("found", ids["a"]), ("removed", ids["a"])]
    told.close()
    assert chroma.counts()[PAGES] == 2


def test_a_worker_that_was_away_brings_nothing_back(worker, chroma):
    first, second = worker("first"), worker("second")
    _, kept = first.read(pages_of("kept", 1), "kept.txt")
    _, gone = first.read(pages_of("gone", 1), "gone.txt")
    settled(first)
    until(lambda: len(known(second)) == 2, what="the other's documents")
    assert first.stop() == 0
    assert second.request("DELETE", f"/documents/{gone['doc_id']}").status == 200
    settled(second)
    # All is lost but the tombstones that the second tells of anew.
    chroma.stop()
    shutil.rmtree(chroma.data)
    chroma.start()
    until(lambda: store(second)["reachable"], what="the new store")
    settled(second)
    first = worker("first")
    settled(first)
    until(lambda: set(known(first)) == {kept["doc_id"]}, what="the removal")
    until(lambda: everywhere(second, kept["doc_id"], text_of("keptx0")), what="the other's again")
    assert set(chroma.metadata(PAGES)) == {f"{kept['doc_id']}-page001"}


# ---- away --------------------------------------------------------------------------------------


def test_without_chroma_uploads_wait_and_searches_say_so(worker, chroma):
    server = worker()
    _, before = server.read(pages_of("before", 2), "before.txt")
    chroma.stop()
    until(lambda: not store(server)["reachable"], what="the loss")
    assert health(server)["status"] == "degraded" and server.get("/health").status == 200
    sent = server.upload(pages_of("during", 2), "during.txt")
    assert sent.status == 202
    job_id, doc_id = (sent.json["documents"][0][key] for key in ("job_id", "doc_id"))
    job = until(lambda: (lambda job: job["retrying"] and job)(server.get(f"/jobs/{job_id}").json),
                what="a job that waits")
    assert (job["state"], job["retrying"]) == ("queued", "backend_unavailable")
    for mode in ("hybrid", "visual", "text"):
        reply = server.get("/search", query="heron", search_mode=mode)
        assert (reply.status, reply.code) == (503, "backend_unavailable"), mode
    words = search(server, text_of("beforex0"), "lexical")["results"]
    assert before["doc_id"] in [hit["doc_id"] for hit in words]
    assert doc_id not in [hit["doc_id"] for hit in
                          search(server, text_of("duringx0"), "lexical")["results"]]
    embedded = [entry["embedded"] for entry in health(server)["models"]]
    chroma.start()
    assert server.wait_job(job_id)["state"] == "completed"
    assert everywhere(server, doc_id, text_of("duringx0"))
    assert [entry["embedded"] for entry in health(server)["models"]
            ][0] - embedded[0] <= 1  # the pages were not embedded again; questions are not counted
    assert chroma.counts()[PAGES] == 4
    # A removal during another absence is told later.
    chroma.stop()
    assert server.request("DELETE", f"/documents/{doc_id}").status == 200
    chroma.start()
    until(lambda: chroma.counts()[PAGES] == 2, what="the removal")


def test_a_lost_store_is_filled_again(worker, chroma):
    server = worker()
    ids = [server.read(pages_of(f"lost{i}", 2), f"{i}.txt")[1]["doc_id"] for i in range(5)]
    embedded = [entry["embedded"] for entry in health(server)["models"]]
    before = answers(server, "heron lantern")
    chroma.stop()
    shutil.rmtree(chroma.data)
    chroma.start()
    until(lambda: store(server)["reachable"] and chroma.counts().get(PAGES) == 10,
          what="the pages again")
    settled(server)
    assert answers(server, "heron lantern") == before
    assert [entry["embedded"] for entry in health(server)["models"]][0] == embedded[0]
    assert set(known(server)) == set(ids)


def test_what_another_worker_is_yet_to_put_again_is_said(worker, chroma):
    first, second = worker("first"), worker("second")
    _, theirs = first.read(pages_of("theirs", 1), "theirs.txt")
    _, ours = second.read(pages_of("ours", 1), "ours.txt")
    until(lambda: len(known(second)) == 2 and len(known(first)) == 2)
    assert first.stop() == 0
    chroma.stop()
    shutil.rmtree(chroma.data)
    chroma.start()
    until(lambda: store(second)["reachable"] and chroma.counts().get(PAGES) == 1, what="its own")
    settled(second)
    assert store(second)["documents"]["missing"] == 1
    for mode, stage in (("visual", "visual"), ("text", "dense"), ("hybrid", "visual")):
        reply = search(second, "heron", mode, filters={"doc_id": theirs["doc_id"]})
        assert "1 document is not in ChromaDB yet" in reply["stages"][stage]["note"], mode
    first = worker("first")
    until(lambda: store(second)["documents"]["missing"] == 0, what="the other's again")
    for server in (first, second):
        for document, text in ((theirs, "theirsx0"), (ours, "oursx0")):
            until(lambda: everywhere(server, document["doc_id"], text_of(text)))
    assert "note" not in search(second, "heron", "visual")["stages"]["visual"]


# ---- from one place to the other ---------------------------------------------------------------


def test_moved_into_chroma_and_back(worker, serve, chroma):  # noqa: F811
    alone = serve(visual="colpali-merged", name="first")
    ids = [alone.read(pages_of(f"move{i}", 2), f"{i}.txt")[1]["doc_id"] for i in range(4)]
    before = answers(alone, "heron lantern")
    alone.stop()
    first = worker("first")
    settled(first)
    assert chroma.counts()[PAGES] == 8
    assert answers(first, "heron lantern")["visual"] == before["visual"]
    reply = first.request("POST", "/reindex", {"mode": "store"})
    assert reply.status == 202, reply.body
    state = until(lambda: (lambda s: s["state"] != "running" and s)(first.get("/reindex").json))
    assert (state["outcome"], state["documents_done"]) == ("completed", 4)
    second = worker("second")
    until(lambda: set(known(second)) == set(ids), what="the documents")
    assert second.request("POST", "/reindex", {"mode": "index"}).status == 202
    state = until(lambda: (lambda s: s["state"] != "running" and s)(second.get("/reindex").json))
    assert (state["outcome"], state["documents_done"]) == ("completed", 4), state
    second.stop()
    second = serve(visual="colpali-merged", name="second")
    here = answers(second, "heron lantern")
    assert here["lexical"] == before["lexical"]
    scores = {hit[:2]: hit[2] for hit in before["visual"]}
    assert {hit[:2]: hit[2] for hit in here["visual"]} == pytest.approx(scores, abs=5e-3)
    assert {hit[:2] for hit in here["text"]} == {hit[:2] for hit in before["text"]}
    assert second.request("POST", "/reindex", {"mode": "store"}).code == "not_shared"


# ---- models ------------------------------------------------------------------------------------


def test_another_model_is_the_collections_too(serve, chroma, models):  # noqa: F811
    server = serve(**chroma.settings)
    ids = [server.read(pages_of(f"model{i}", 2), f"{i}.txt")[1]["doc_id"] for i in range(4)]
    settled(server)
    before = chroma.collections()[PASSAGES]
    assert before["configuration_json"]["hnsw"]["space"] == "cosine"
    reply = server.request("POST", "/reindex", {"mode": "missing", "model": str(models["colbert"])})
    assert reply.status == 202, reply.body
    state = until(lambda: (lambda s: s["state"] != "running" and s)(server.get("/reindex").json))
    assert state["outcome"] == "completed", state
    until(lambda: chroma.counts().get(f"{PASSAGES}-tokens"), what="the other model's collections")
    settled(server)
    found = search(server, text_of("model1x0"), "text", 100)["results"]
    assert {hit["doc_id"] for hit in found} == set(ids)
    assert chroma.collections()[PASSAGES]["dimension"] != before["dimension"]
    assert not [name for name in chroma.collections() if "aside" in name or "damaged" in name]


def test_the_same_model_in_another_folder(serve, chroma, models, tmp_path):  # noqa: F811
    first = serve(name="first", **chroma.settings)
    _, document = first.read(pages_of("folder", 1), "folder.txt")
    settled(first)
    assert str(tmp_path) not in json.dumps(chroma.collections())
    copy = tmp_path / "elsewhere" / models["sentence"].name
    shutil.copytree(models["sentence"], copy)
    second = serve(name="second", text=copy, **chroma.settings)
    until(lambda: store(second)["reachable"])
    assert not store(second)["reason"]
    until(lambda: document["doc_id"] in known(second))
    found = search(second, text_of("folderx0"), "text")["results"]
    assert [hit["doc_id"] for hit in found] == [document["doc_id"]]


def test_vectors_of_another_model_are_refused(serve, chroma):  # noqa: F811
    first = serve(name="first", **chroma.settings)
    _, document = first.read(pages_of("theirs", 2), "theirs.txt")
    settled(first)
    second = serve(name="second", text="colbert", **chroma.settings)
    facts = until(lambda: (lambda s: s["reason"] and s)(store(second)), what="the refusal")
    assert facts["reachable"] and "sentence@" in facts["reason"]
    assert health(second)["status"] == "degraded"
    # Words are everybody's; what is put here waits, and nothing of theirs is touched.
    until(lambda: document["doc_id"] in known(second), what="the other's document")
    words = search(second, text_of("theirsx0"), "lexical")["results"]
    assert document["doc_id"] in [hit["doc_id"] for hit in words]
    stages = search(second, text_of("theirsx0"), "hybrid")["stages"]
    assert "dense" in stages and stages["dense"].get("unavailable")
    counts = chroma.counts()
    second.upload(pages_of("ours", 1), "ours.txt")
    time.sleep(1)
    assert chroma.counts() == counts


# ---- further ways ------------------------------------------------------------------------------


def test_commands_without_a_server_ask_it_too(worker, chroma):
    server = worker()
    _, document = server.read(pages_of("command", 2), "command.txt")
    settled(server)
    env = server.env
    server.stop()

    def ask(mode):
        done = subprocess.run([PROGRAM, "search", "--json", "--mode", mode, *text_of(
            "commandx0").split()], env=env, capture_output=True, text=True, timeout=60 * SLOW)
        return done, done.stdout and json.loads(done.stdout)

    for mode in MODES:
        done, reply = ask(mode)
        assert done.returncode == 0, done.stderr
        assert document["doc_id"] in [hit["doc_id"] for hit in reply["results"]], mode
    chroma.stop()
    done, _ = ask("visual")
    assert done.returncode == 1 and "127.0.0.1" in done.stderr, done.stderr
    assert ask("lexical")[0].returncode == 0


def test_a_cancelled_document_stays_out(worker, chroma):
    server = worker()
    until(lambda: store(server)["reachable"])
    chroma.stop()
    until(lambda: not store(server)["reachable"])
    sent = server.upload(pages_of("cancelled", 1), "cancelled.txt").json["documents"][0]
    until(lambda: server.get(f"/jobs/{sent['job_id']}").json["retrying"], what="a job that waits")
    listed = subprocess.run([PROGRAM, "jobs"], env=server.env, capture_output=True, text=True)
    assert "retrying: backend_unavailable" in listed.stdout, listed.stdout
    assert known(server)[sent["doc_id"]]["status"] == "queued"
    assert server.request("POST", f"/jobs/{sent['job_id']}/cancel").status == 200
    chroma.start()
    until(lambda: store(server)["reachable"], what="the store")
    time.sleep(3)
    assert nowhere(server, sent["doc_id"], text_of("cancelledx0"))
    assert known(server)[sent["doc_id"]]["status"] == "failed"
    assert chroma.counts().get(PAGES, 0) == 0
    assert server.request("POST", f"/jobs/{sent['job_id']}/retry").status == 200
    assert server.wait_job(sent["job_id"])["state"] == "completed"
    assert everywhere(server, sent["doc_id"], text_of("cancelledx0"))


# ---- removals that something came between ------------------------------------------------------


def generation(chroma, doc_id):
    row = chroma.metadata(f"{PAGES}-documents").get(doc_id, {})
    return None if row.get("removed") else row.get("generation")


def away(server, chroma):
    chroma.stop()
    until(lambda: not store(server)["reachable"], what="the loss")


def test_what_comes_after_an_untold_removal_is_later(worker, chroma):
    """Both removed it while ChromaDB was away, and one took it in again: the other's removal, which
    is told last, is of what was before."""
    first, second = worker("first"), worker("second")
    _, document = first.read(pages_of("again", 1), "again.txt")
    doc_id = document["doc_id"]
    settled(first)
    until(lambda: doc_id in known(second), what="the document")
    before = generation(chroma, doc_id)
    away(first, chroma)
    for server in (first, second):
        assert server.request("DELETE", f"/documents/{doc_id}").status == 200
    sent = first.upload(pages_of("again", 1), "again.txt").json["documents"][0]
    assert second.stop() == 0
    chroma.start()
    assert first.wait_job(sent["job_id"])["state"] == "completed"
    settled(first)
    assert generation(chroma, doc_id) == before + 1
    second = worker("second")
    settled(second)
    until(lambda: doc_id in known(second), what="the later one")
    assert everywhere(second, doc_id, text_of("againx0"))
    assert everywhere(first, doc_id, text_of("againx0"))
    assert second.request("DELETE", f"/documents/{doc_id}").status == 200
    until(lambda: doc_id not in known(first), what="the removal")


def test_a_removal_is_told_when_nothing_comes_of_what_came_after_it(worker, chroma):
    """It was taken in again before ChromaDB heard of its removal, and that was cancelled."""
    first, second = worker("first"), worker("second")
    _, document = first.read(pages_of("undone", 1), "undone.txt")
    doc_id = document["doc_id"]
    settled(first)
    until(lambda: doc_id in known(second), what="the document")
    away(second, chroma)
    assert second.request("DELETE", f"/documents/{doc_id}").status == 200
    sent = second.upload(pages_of("undone", 1), "undone.txt").json["documents"][0]
    until(lambda: second.get(f"/jobs/{sent['job_id']}").json["retrying"], what="a job that waits")
    assert second.request("POST", f"/jobs/{sent['job_id']}/cancel").status == 200
    chroma.start()
    until(lambda: doc_id not in known(first), what="the removal")
    assert known(second)[doc_id]["status"] == "failed"
    assert second.request("POST", f"/jobs/{sent['job_id']}/retry").status == 200
    assert second.wait_job(sent["job_id"])["state"] == "completed"
    for server in (first, second):
        until(lambda: everywhere(server, doc_id, text_of("undonex0")), what="it again")


def is_built_to_fail():
    return b"DOCUSEARCH_FAULT" in Path(PROGRAM).read_bytes()


@pytest.mark.skipif(not is_built_to_fail(), reason="the program was built without fault points")
@pytest.mark.parametrize("how", ["removed", "cancelled"])
def test_what_a_killed_put_left_is_not_left_alone(worker, chroma, how):
    """All was put, as the next generation, and the worker was killed before it noted that."""
    server = worker()
    _, document = server.read(pages_of("left", 1), "left.txt")
    doc_id = document["doc_id"]
    settled(server)
    assert server.request("DELETE", f"/documents/{doc_id}").status == 200
    settled(server)
    assert server.stop() == 0
    server = worker(DOCUSEARCH_FAULT="put:kill")
    sent = server.upload(pages_of("left", 1), "left.txt").json["documents"][0]
    until(lambda: server.process.poll() is not None, what="the kill")
    assert generation(chroma, doc_id) == 2
    chroma.stop()
    server = worker()
    if how == "removed":
        assert server.request("DELETE", f"/documents/{doc_id}").status == 200
    else:
        until(lambda: server.get(f"/jobs/{sent['job_id']}").json["state"] == "queued")
        assert server.request("POST", f"/jobs/{sent['job_id']}/cancel").status == 200
    chroma.start()
    other = worker("other")
    settled(other)
    settled(server)
    if how == "removed":
        until(lambda: generation(chroma, doc_id) is None, what="the removal")
        until(lambda: not known(server) and not known(other), what="the removal here")
        assert chroma.counts()[PAGES] == 0
    else:
        for one in (server, other):
            until(lambda: everywhere(one, doc_id, text_of("leftx0")), what="the document")
        assert server.get(f"/documents/{doc_id}/original").status == 200
