"""Documents embedded again from what is stored of them, and the change from one model to another, with
small random models: what they rank means nothing, but it is theirs, and can be computed again."""

import contextlib
import json
import shutil
import signal
import struct
import subprocess
import threading
import time

import pytest

from running import PROGRAM, SLOW
from test_embedding_pipeline import (LOST, drained, health, model, models, needs_fault_points,
                                     pages_of, score, search, serve, space, text_of, vectors)
from test_faults import small_disk

__all__ = ["models", "serve", "small_disk"]  # fixtures


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


# ---- by another model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_visual(models, tmp_path_factory):
    """The visual model with other weights between its towers."""
    folder = tmp_path_factory.mktemp("other") / "colpali-other"
    shutil.copytree(models["colpali-merged"], folder)
    for path in folder.glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        [size] = struct.unpack_from("<Q", data)
        tensors = json.loads(data[8:8 + size])
        for name, tensor in tensors.items():
            if "multi_modal_projector" in name and name.endswith("weight"):
                begin, end = (8 + size + offset for offset in tensor["data_offsets"])
                data[begin:end] = data[end - 64:end] + data[begin:end - 64]
        path.write_bytes(data)
    return folder


class Asking(threading.Thread):
    """Asks one question over and over; what came back, each answer once in a row."""

    def __init__(self, server, mode):
        super().__init__()
        self.server, self.mode = server, mode
        self.answers, self.errors, self.done = [], [], threading.Event()

    def run(self):
        while not self.done.is_set():
            try:
                reply = self.server.request("POST", "/search", {
                    "query": "a lantern in the harbor", "search_mode": self.mode, "n_results": 50})
                answer = [(hit["filename"], hit["page_num"], round(hit["score"], 4))
                          for hit in reply.json["results"]] if reply.status == 200 else reply.body
            except LOST as err:
                self.errors.append(err)
                continue
            if not self.answers or self.answers[-1] != answer:
                self.answers.append(answer)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def alike(answer, results):
    """The same pages in the same order, with the same scores."""
    return isinstance(answer, list) and [hit[:2] for hit in answer] == [hit[:2] for hit in results] \
        and all(abs(a[2] - b[2]) < 1e-3 for a, b in zip(answer, results))


@pytest.mark.parametrize("kind", ["text", "visual"])
def test_another_model_takes_over_at_once(serve, models, other_visual, kind):
    server = serve(visual="colpali-merged")
    fill(server, 20)
    old, new = {"text": ("sentence", models["colbert"]),
                "visual": ("colpali-merged", other_visual)}[kind]
    before = order(server, kind)
    with Asking(server, kind) as asking:
        time.sleep(0.3)
        assert reindex(server, model=str(new)).status == 202
        last = ended(server)
        time.sleep(0.3)
    assert (last["outcome"], last["role"], last["model"]) == ("completed", kind, str(new))
    assert (last["documents_done"], last["documents_total"], last["pages_done"]) == (20, 20, 40)
    after = order(server, kind)
    assert not alike(before, after)
    assert len(before) == len(after) == {"text": 20, "visual": 40}[kind]
    assert not asking.errors
    assert len(asking.answers) == 2, asking.answers
    assert alike(asking.answers[0], before) and alike(asking.answers[1], after)
    facts = model(server, kind)
    assert facts["name"] == str(new) and last["space"] == facts["space"]
    assert facts["without_vectors"] == 0 and facts["warning"] is None
    # Its scores are the new model's own.
    chunk = {"text": [pages_of(3, 2).decode().split("\f")[0].strip()],
             "visual": [server.get(f"/documents/{doc_id}/pages/1.jpg").body for doc_id in
                        [search(server, "number3x0", "lexical")["results"][0]["doc_id"]]]}[kind]
    [asked] = vectors(server, kind, ["a lantern in the harbor"], "query")
    if kind == "visual":
        [item] = vectors(server, kind, chunk)
        [found] = [hit[2] for hit in after if hit[:2] == ("3.txt", 1)]
        assert found == pytest.approx(score(asked, item), abs=5e-3, rel=5e-3)
    gone(server, models[old])
    # The setting still names the old one: what was chosen stays, without a word.
    server.stop()
    server = serve(visual="colpali-merged")
    assert model(server, kind)["name"] == str(new) and model(server, kind)["warning"] is None
    assert alike(order(server, kind), after)
    assert reindex(server, model=str(new)).code == "in_use"
    # And back.
    reindex(server, model=str(models[old]))
    assert ended(server)["outcome"] == "completed"
    assert alike(order(server, kind), before)


def gone(server, name, seconds=20):
    """No space of the model is left."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        left = [entry for entry in health(server)["vector_spaces"]
                if entry["name"].startswith(f"{name}@")]
        if not left:
            return
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_documents_come_and_go_during_the_change(serve, models):
    server = serve(WORKER_THREADS="2")
    ids = fill(server, 30, 1)
    added, stop = {}, threading.Event()

    def change():
        for i in range(1000):
            if stop.is_set():
                return
            name = f"new{i}.txt"
            reply = server.upload(text_of(name).encode(), name)
            added[name] = reply.json["documents"][0]["doc_id"]
            if i < 10:
                server.request("DELETE", f"/documents/{ids.pop(f'{i * 3}.txt')}")

    changer = threading.Thread(target=change)
    changer.start()
    reindex(server, model=str(models["colbert"]))
    last = ended(server)
    stop.set()
    changer.join()
    assert last["outcome"] == "completed"
    assert model(server, "text")["name"] == str(models["colbert"])
    # At the moment of the change no document that was there lacks its vectors.
    drained(server)
    assert without(server)["text"] == 0
    there = {document["doc_id"] for page in range(20) for document in
             server.get("/documents", limit=100, offset=100 * page).json["documents"]}
    assert there == set(ids.values()) | set(added.values())
    assert space(server, "text")["items"] == health(server)["documents"]["chunks"] == len(there)
    name = list(added)[len(added) // 2]
    best = search(server, text_of(name).strip(), "text", 1)["results"][0]
    assert best["filename"] == name


@pytest.mark.parametrize("point", ["reindex_noted", "reindex_loaded", "reindex_queued", "embedded",
                                   "reembedded", "reindex_switching", "reindex_switched",
                                   "reindex_dropped"])
def test_killed_at_each_step_of_the_change(serve, models, point):
    needs_fault_points()
    server = serve()
    fill(server, 5)
    before = order(server, "text")
    server.stop()
    server = serve(DOCUSEARCH_FAULT=f"{point}:kill")
    with contextlib.suppress(*LOST):
        reindex(server, model=str(models["colbert"]))
    assert server.process.wait(60 * SLOW) == -signal.SIGKILL
    switched = point in ("reindex_switched", "reindex_dropped")
    server = serve()
    if switched:
        assert model(server, "text")["name"] == str(models["colbert"])
    last = ended(server)
    assert last["outcome"] == (None if switched else "completed")
    assert model(server, "text")["name"] == str(models["colbert"])
    drained(server)
    assert without(server)["text"] == 0
    assert space(server, "text")["items"] == health(server)["documents"]["chunks"]
    assert len(order(server, "text")) == len(before) == 5
    gone(server, models["sentence"])
    server.stop()
    server = serve()
    assert state(server)["outcome"] is None and model(server, "text")["state"] == "ready"


def test_killed_again_and_again(serve, models):
    needs_fault_points()
    server = serve()
    fill(server, 12)
    server.stop()
    for i in range(6):
        with contextlib.suppress(*LOST, AssertionError):  # killed before it was up
            server = serve(DOCUSEARCH_FAULT="reembedded:kill", WORKER_THREADS="1")
            if i == 0:
                reindex(server, model=str(models["colbert"]))
            while True:
                state(server)
                time.sleep(0.01)
    server = serve()
    assert ended(server)["outcome"] == "completed"
    assert server.log.count("Embedded again") <= 12 - 6  # what was done stayed done
    assert without(server)["text"] == 0 and space(server, "text")["items"] >= 12


def test_a_cancelled_change_leaves_the_old_model(serve, models):
    server = serve(WORKER_THREADS="1")
    fill(server, 40)
    before = order(server, "text")
    reindex(server, model=str(models["colbert"]))
    deadline = time.monotonic() + 60 * SLOW
    while state(server)["documents_done"] < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert reindex(server).code == "reindex_running"
    assert server.request("POST", "/reindex/cancel", {}).status == 200
    assert ended(server, 10)["outcome"] == "cancelled"
    assert model(server, "text")["name"] == str(models["sentence"])
    assert alike(order(server, "text"), before)
    gone(server, models["colbert"])
    drained(server)
    server.stop()
    server = serve()
    assert state(server)["state"] == "idle"
    assert alike(order(server, "text"), before)


def test_a_model_that_cannot_be_loaded_changes_nothing(serve, models, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(models["colbert"], broken)
    config = json.loads((broken / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (broken / "config.json").write_text(json.dumps(config))
    server = serve()
    fill(server, 3)
    before = order(server, "text")
    done = command(server, "--model", str(broken), "--json")
    assert done.returncode == 1
    last = json.loads(done.stdout)
    assert (last["state"], last["outcome"]) == ("failed", "failed")
    assert last["error"]["code"] == "model_failed" and "safetensors" in last["error"]["message"]
    assert alike(order(server, "text"), before)
    server.stop()
    server = serve()
    assert state(server)["state"] == "idle" and alike(order(server, "text"), before)
    # Another that can be follows it.
    assert command(server, "--model", str(models["colbert"])).returncode == 0
    assert model(server, "text")["name"] == str(models["colbert"])


def test_a_setting_alone_is_told_how(serve, models):
    server = serve()
    fill(server, 2)
    server.stop()
    server = serve(text="colbert")
    done = command(server)
    assert done.returncode == 0 and f"reindex --model {models['colbert']}" in done.stderr
    assert command(server, "--model", str(models["colbert"])).returncode == 0
    facts = model(server, "text")
    assert (facts["name"], facts["warning"]) == (str(models["colbert"]), None)
    assert state(server)["note"] is None


def test_passages_and_pages_by_one_model(serve, models, other_visual):
    server = serve(text="visual", visual="colpali-merged")
    fill(server, 4)
    reindex(server, model=str(other_visual))
    last = ended(server)
    assert (last["outcome"], last["role"]) == ("completed", "both")
    assert {entry["name"] for entry in health(server)["models"]} == {str(other_visual)}
    facts = health(server)["documents"]
    assert space(server, "visual")["items"] == facts["pages"] + facts["chunks"]
    # The passages to a model of their own, and back.
    reindex(server, model=str(models["sentence"]))
    last = ended(server)
    assert (last["outcome"], last["role"]) == ("completed", "text")
    assert model(server, "text")["name"] == str(models["sentence"])
    assert model(server, "visual")["name"] == str(other_visual)
    assert (len(order(server, "visual")), len(order(server, "text"))) == (8, 4)
    reindex(server, model="visual")
    assert ended(server)["outcome"] == "completed"
    assert model(server, "text")["name"] == str(other_visual)
    assert (len(order(server, "visual")), len(order(server, "text"))) == (8, 4)
    gone(server, models["sentence"])
    server.stop()
    server = serve(text="visual", visual="colpali-merged")
    assert {entry["name"] for entry in health(server)["models"]} == {str(other_visual)}


def test_a_full_disk_is_waited_for(serve, models, small_disk):
    data = small_disk / "data"
    server = serve(DATA_DIR=str(data))
    server.data_dir = data
    fill(server, 3)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40 << 20))  # leaves less than the reserve
    assert reindex(server, model=str(models["colbert"])).status == 202
    deadline = time.monotonic() + 30 * SLOW
    while "are free" not in (state(server)["note"] or ""):
        assert time.monotonic() < deadline, state(server)
        time.sleep(0.05)
    assert len(order(server, "text")) == 3 and state(server)["state"] == "running"
    ballast.unlink()
    assert ended(server)["outcome"] == "completed"
    assert model(server, "text")["name"] == str(models["colbert"])


# ---- damage -------------------------------------------------------------------------------------


def number(data, offset, form="<Q"):
    return struct.unpack_from(form, data, offset)[0]


PLACES = {
    "scan": lambda data: number(data, 56) + 3,                 # the first item's scan code
    "record": lambda data: number(data, 4096 + 64 + 8) + 5,    # the second item's pooled codes
    "slot": lambda data: 4096 + 2 * 64 + 17,                   # the third slot
    "header": lambda data: 17,
}


@pytest.mark.parametrize("place,kind", [(place, kind) for place in [*PLACES, "gone"]
                                        for kind in ("text", "visual")
                                        if (place, kind) != ("record", "text")])  # it has none
def test_damaged_vectors_are_embedded_again(serve, place, kind):
    server = serve(text="sentence" if kind == "text" else "none",
                   visual="colpali-merged" if kind == "visual" else "none")
    fill(server, 5)
    before = order(server, kind)
    n_items = space(server, kind)["items"]
    server.stop()
    [folder] = (server.data_dir / "vectors").iterdir()
    [file] = folder.glob("*.seg")
    if place == "gone":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[PLACES[place](data)] ^= 0x40
        file.write_bytes(data)
    server = serve(text="sentence" if kind == "text" else "none",
                   visual="colpali-merged" if kind == "visual" else "none")
    found = order(server, kind)  # looks at every byte that it needs
    assert len(found) <= len(before)
    again(server, 1 if place in ("scan", "record", "slot") else 5)
    assert space(server, kind)["items"] == n_items
    assert without(server)[kind] == 0
    assert alike(order(server, kind), before)
    assert not jobs(server, "ingest")[5:] and "read again" not in server.log
    server.stop()
    server = serve(text="sentence" if kind == "text" else "none",
                   visual="colpali-merged" if kind == "visual" else "none")
    assert alike(order(server, kind), before) and "embedded again" not in server.log


def again(server, n, seconds=30):
    """n documents are embedded again, each once, and named."""
    deadline = time.monotonic() + seconds * SLOW
    while len(done := [job for job in jobs(server, "embed") if job["state"] == "completed"]) < n:
        assert time.monotonic() < deadline, server.log[-3000:]
        time.sleep(0.05)
    drained(server)
    assert len(jobs(server, "embed")) == len({job["doc_id"] for job in done}) == n
    assert health(server)["documents"]["embedding_again"] == 0
    for job in done:
        told = [line for line in server.log.splitlines() if f"Vectors of {job['filename']} " in line]
        assert len(told) == 1 and job["doc_id"] in told[0]
        assert "are damaged: 000001.seg, " in told[0] or "are lost: " in told[0]


def test_killed_while_damage_is_mended(serve):
    needs_fault_points()
    server = serve()
    fill(server, 4)
    before = order(server, "text")
    server.stop()
    [file] = (server.data_dir / "vectors").glob("*/*.seg")
    data = bytearray(file.read_bytes())
    data[PLACES["scan"](data)] ^= 0x40
    file.write_bytes(data)
    for point in ("damaged", "embedded", "reembedded"):
        try:
            server = serve(DOCUSEARCH_FAULT=f"{point}:kill")
        except (*LOST, AssertionError):
            continue  # killed before it was up
        with contextlib.suppress(*LOST):
            order(server, "text")
        assert server.process.wait(20 * SLOW) == -signal.SIGKILL, point
    server = serve()
    drained(server)
    assert without(server)["text"] == 0 and alike(order(server, "text"), before)
