"""Pages and passages on their way to vectors, and questions over them, with small random models of the
published architectures: what they rank means nothing, but it is theirs, and can be computed again."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from running import PROGRAM, SLOW

LOST = (OSError, http.client.HTTPException)
WORDS = ("heron lantern copper meadow quartz violin harbor saddle thunder pepper marble engine "
         "garden winter island pencil rocket barley canyon velvet").split()


@pytest.fixture(scope="module")
def models(checkpoint):
    """Folders of small checkpoints, by name."""
    return {name: checkpoint(name) for name in ("sentence", "colbert", "colpali-merged")}


@pytest.fixture
def serve(start, models, tmp_path):
    """A server whose models are loaded, or refused."""
    def serve_one(text="sentence", visual="none", name="data", **settings):
        def setting(model):
            return str(models[model]) if model in models else str(model)

        server = start(name=name, TEXT_MODEL=setting(text), MODEL_NAME=setting(visual),
                       MODEL_PRECISION="fp32", MODELS_DIR=str(tmp_path / "models"), **settings)
        wait_models(server)
        return server

    return serve_one


def wait_models(server):
    deadline = time.monotonic() + 60 * SLOW
    while any(model["state"] == "loading" for model in health(server)["models"]):
        assert time.monotonic() < deadline, "the models do not load"
        time.sleep(0.02)


def health(server):
    return server.get("/health").json


def model(server, kind):
    return {entry["kind"]: entry for entry in health(server)["models"]}[kind]


def space(server, kind):
    """The facts of a model's vector space."""
    name = model(server, kind)["space"]
    return {entry["name"]: entry for entry in health(server)["vector_spaces"]}[name]


def text_of(seed, n_words=12):
    choose = random.Random(seed)
    return " ".join(choose.choice(WORDS) for _ in range(n_words)) + f" number{seed}.\n"


def pages_of(seed, n_pages):
    return "\f".join(text_of(f"{seed}x{page}") for page in range(n_pages)).encode()


def drained(server, seconds=60):
    deadline = time.monotonic() + seconds * SLOW
    while True:
        queue = health(server)["queue"]
        if queue["waiting"] + queue["running"] == 0:
            return
        assert time.monotonic() < deadline, f"still busy after {seconds} s"
        time.sleep(0.05)


def search(server, query, mode, n_results=10, **more):
    reply = server.request("POST", "/search", {"query": query, "search_mode": mode,
                                               "n_results": n_results, **more})
    assert reply.status == 200, reply.body
    return reply.json


def vectors(server, kind, inputs, input_type="passage"):
    """What the model makes of texts or picture files: a list of vectors each."""
    facts = model(server, kind)
    given = [{"image": "data:image/jpeg;base64," + base64.b64encode(data).decode()}
             if isinstance(data, bytes) else data for data in inputs]
    reply = server.request("POST", "/v1/embeddings",
                           {"model": facts["name"], "input": given, "input_type": input_type,
                            "multi_vector": facts["late"]})
    assert reply.status == 200, reply.body
    rows = [entry["embedding"] for entry in reply.json["data"]]
    return rows if facts["late"] else [[row] for row in rows]


def score(query, item):
    """MaxSim; of one vector each their dot product."""
    return sum(max(sum(a * b for a, b in zip(q, v)) for v in item) for q in query)


def check_order(results, expected):
    """Best first, and each with the score that it should have. expected: key -> score."""
    found = {key: value for key, value in results}
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value == pytest.approx(expected[key], abs=2e-3 + 1e-3 * abs(expected[key]))
    scores = [value for _, value in results]
    assert scores == sorted(scores, reverse=True)


# ---- in ----------------------------------------------------------------------------------------


def test_every_passage_and_page_has_its_vectors(serve):
    server = serve(visual="colpali-merged")
    assert (model(server, "text")["state"], model(server, "visual")["state"]) == ("ready", "ready")
    ids = []
    for i in range(4):
        job, document = server.read(pages_of(i, 3), f"{i}.txt")
        assert job["state"] == "completed" and not document.get("warning")
        ids.append(document["doc_id"])
    facts = health(server)
    assert facts["documents"]["pages"] == 12
    assert space(server, "text")["items"] == facts["documents"]["chunks"] > 0
    assert space(server, "visual")["items"] == 12
    assert space(server, "visual")["vectors"] > 12 * 64
    assert model(server, "visual")["embedded"] == 12
    # A document takes its vectors with it.
    assert server.request("DELETE", f"/documents/{ids[0]}").status == 200
    assert space(server, "visual")["items"] == 9
    assert space(server, "visual")["dead_bytes"] > 0
    assert ids[0] not in [hit["doc_id"] for hit in search(server, "heron", "visual")["results"]]
    for doc_id in ids[1:]:
        assert server.request("DELETE", f"/documents/{doc_id}").status == 200
    assert space(server, "visual")["items"] == space(server, "text")["items"] == 0
    assert search(server, "heron", "text")["results"] == []
    server.stop()
    server = serve(visual="colpali-merged")
    assert space(server, "visual")["bytes"] == 0  # a file without anything alive is gone


@pytest.mark.parametrize("batches", [("1", "1"), ("64", "256")])
def test_batch_sizes(serve, batches):
    server = serve(visual="colpali-merged", BATCH_SIZE_VISUAL=batches[0], BATCH_SIZE_TEXT=batches[1],
                   LOG_LEVEL="debug")
    _, document = server.read(pages_of("batch", 9), "nine.txt")
    assert space(server, "visual")["items"] == 9
    if batches[0] == "1":
        assert " 1 pages embedded" in server.log and " 2 pages embedded" not in server.log
        assert " 2 passages embedded" not in server.log


def test_stages_and_pages_of_a_job(serve):
    server = serve(visual="colpali-merged", WORKER_THREADS="1")
    sent = server.upload(pages_of("stages", 40), "forty.txt").json["documents"][0]
    seen = {}
    while True:
        job = server.get(f"/jobs/{sent['job_id']}").json
        if job["state"] not in ("queued", "processing"):
            break
        seen.setdefault(job["stage"], []).append((job["progress"], job["page"]))
        time.sleep(0.005)
    assert job["state"] == "completed"
    limits = {"parsing": (0.1, 0.3), "embedding_visual": (0.3, 0.6), "embedding_text": (0.6, 0.9),
              "storing": (0.9, 1.0)}
    assert "embedding_visual" in seen
    for stage, points in seen.items():
        if stage not in limits:
            continue  # not begun
        low, high = limits[stage]
        assert all(low - 1e-6 <= progress <= high + 1e-6 for progress, _ in points), (stage, points)
        assert points == sorted(points)
    assert len({page for _, page in seen["embedding_visual"]}) > 1


def test_cancelled_while_pages_are_embedded(serve):
    server = serve(visual="colpali-merged", WORKER_THREADS="1")
    sent = server.upload(pages_of("cancel", 200), "roll.txt").json["documents"][0]
    deadline = time.monotonic() + 60 * SLOW
    while model(server, "visual")["embedded"] < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.request("POST", f"/jobs/{sent['job_id']}/cancel").status == 200
    assert server.wait_job(sent["job_id"], 5)["state"] == "cancelled"
    assert space(server, "visual")["items"] == 0
    assert model(server, "visual")["waiting"] == 0
    assert server.request("POST", f"/jobs/{sent['job_id']}/retry").status == 200
    assert server.wait_job(sent["job_id"], 120)["state"] == "completed"
    assert space(server, "visual")["items"] == 200


def test_documents_read_at_once_keep_their_own_vectors(serve):
    server = serve(WORKER_THREADS="4", BATCH_SIZE_TEXT="64")
    texts = {f"{i}.txt": text_of(i) for i in range(24)}
    for name, text in texts.items():
        assert server.upload(text.encode(), name).status == 202
    drained(server)
    assert space(server, "text")["items"] == len(texts)
    for name, text in list(texts.items())[::4]:
        best = search(server, text.strip(), "text", 1)["results"][0]
        assert best["filename"] == name and best["score"] == pytest.approx(1, abs=5e-3)


# ---- questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["sentence", "colbert"])
def test_text_is_found_in_the_models_order(serve, text):
    server = serve(text=text)
    texts = {f"{i}.txt": text_of(i) for i in range(6)}
    for name, body in texts.items():
        server.read(body.encode(), name)
    query = "a lantern in the harbor"
    [asked] = vectors(server, "text", [query], "query")
    bodies = vectors(server, "text", [body.strip() for body in texts.values()])
    expected = {name: score(asked, body) for name, body in zip(texts, bodies)}
    reply = search(server, query, "text")
    assert list(reply["stages"]) == ["dense"] and reply["stages"]["dense"]["candidates"] == 6
    check_order([(hit["filename"], hit["score"]) for hit in reply["results"]], expected)
    for hit in reply["results"]:
        assert hit["page_num"] == 1 and hit["chunk_id"].endswith("-chunk0000")
        assert hit["text_preview"].strip() == texts[hit["filename"]].strip()
    best = reply["results"][0]["score"]
    third = reply["results"][2]["score"]
    some = search(server, query, "text", min_score=third - 1e-9)["results"]
    assert len(some) == 3 and some[0]["score"] == best
    one = search(server, query, "text", filters={"doc_ids": [reply["results"][4]["doc_id"]]})
    assert [hit["filename"] for hit in one["results"]] == [reply["results"][4]["filename"]]


def test_pages_are_found_in_the_models_order(serve):
    server = serve(visual="colpali-merged")
    _, document = server.read(pages_of("order", 5), "five.txt")
    doc_id = document["doc_id"]
    pictures = [server.get(f"/documents/{doc_id}/pages/{n}.jpg").body for n in range(1, 6)]
    query = "velvet canyon"
    [asked] = vectors(server, "visual", [query], "query")
    pages = vectors(server, "visual", pictures)
    expected = {n: score(asked, page) for n, page in enumerate(pages, 1)}
    reply = search(server, query, "visual")
    assert list(reply["stages"]) == ["visual"]
    check_order([(hit["page_num"], hit["score"]) for hit in reply["results"]], expected)
    for hit in reply["results"]:
        assert hit["doc_id"] == doc_id and hit["image_url"].endswith(f"/{hit['page_num']}.jpg")
        assert f"numberorderx{hit['page_num'] - 1}" in hit["text_preview"]
    assert len(search(server, query, "visual", 1)["results"]) == 1


def test_hybrid_fuses_ranks(serve):
    server = serve(visual="colpali-merged")
    for i in range(6):
        server.read(text_of(i, 20).encode(), f"{i}.txt")
    query = "lantern harbor"
    reply = search(server, query, "hybrid", 6)
    assert list(reply["stages"]) == ["lexical", "dense", "visual"]
    assert not any("unavailable" in stage for stage in reply["stages"].values())
    expected = {}
    for mode in ("lexical", "text", "visual"):
        for hit in search(server, query, mode, 6)["results"]:
            expected[hit["filename"]] = (expected.get(hit["filename"], 0)
                                         + 61 / 3 / (60 + hit["rank"]))
    found = {hit["filename"]: hit["score"] for hit in reply["results"]}
    assert found == pytest.approx(expected, abs=1e-9)
    scores = [hit["score"] for hit in reply["results"]]
    assert scores == sorted(scores, reverse=True)
    for hit in reply["results"]:
        words = [hit["text_preview"][a:b] for a, b in hit["highlights"]]
        assert set(words) <= {"lantern", "harbor"}
        assert bool(words) == any(word in hit["text_preview"] for word in ("lantern", "harbor"))
    assert search(server, query, "hybrid", 6)["results"] == reply["results"]
    assert 0 < scores[-1] <= scores[0] <= 1
    some = search(server, query, "hybrid", 6, min_score=scores[2] - 1e-9)["results"]
    assert len(some) == sum(score >= scores[2] for score in scores)


def strip(reply):
    return [{key: value for key, value in hit.items() if key != "metadata"}
            for hit in reply["results"]]


def test_without_models_words_alone_answer(serve, models):
    bare = serve(text="sentence-transformers/not-here", visual="vidore/not-here", name="bare")
    full = serve(visual="colpali-merged", name="full")
    for server in (bare, full):
        for i in range(8):
            server.read(pages_of(i, 2), f"{i}.txt")
    lexical = strip(search(bare, "heron lantern", "lexical"))
    assert lexical and lexical == strip(search(full, "heron lantern", "lexical"))
    for mode in ("hybrid", "text"):
        reply = search(bare, "heron lantern", mode)
        found = strip(reply)
        if mode == "hybrid":
            assert [hit["score"] for hit in found] == \
                [pytest.approx(61 / (60 + hit["rank"])) for hit in found]
            for hit, same in zip(found, lexical):
                assert hit["parts"]["lexical"].pop("contribution") == hit["score"]
                assert hit["parts"].keys() == {"lexical"}
                hit["parts"]["lexical"]["contribution"] = hit["score"] = same["score"]
        assert found == lexical
        assert reply["stages"]["dense"]["unavailable"] == "no text model is installed"
        assert "unavailable" not in reply["stages"]["lexical"]
    refused = bare.request("POST", "/search", {"query": "heron", "search_mode": "visual"})
    assert refused.code == "model_not_installed"
    assert {entry["state"] for entry in health(bare)["models"]} == {"not_installed"}
    assert "is not there" in bare.log


def test_text_by_the_visual_model(serve):
    server = serve(text="visual", visual="colpali-merged")
    server.read(pages_of("both", 3), "both.txt")
    facts = health(server)
    assert model(server, "text")["space"] == model(server, "visual")["space"]
    assert space(server, "visual")["items"] == 3 + facts["documents"]["chunks"]
    assert len(search(server, "meadow", "visual")["results"]) == 3
    assert search(server, "meadow", "text")["results"]
    assert len(search(server, "meadow", "hybrid")["results"]) == 3


def test_a_command_asks_the_models_without_a_server(serve):
    server = serve()
    server.read(text_of("command").encode(), "command.txt")
    there = search(server, "a lantern", "text")["results"]
    env = server.env
    server.stop()
    done = subprocess.run([PROGRAM, "search", "--json", "--mode", "text", "a lantern"], env=env,
                          capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode == 0, done.stderr
    assert [(hit["doc_id"], hit["score"]) for hit in json.loads(done.stdout)["results"]] == \
        [(hit["doc_id"], pytest.approx(hit["score"], abs=1e-5)) for hit in there]


# ---- what goes wrong ---------------------------------------------------------------------------


def test_a_model_that_is_refused_leaves_its_part_out(serve, models, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(models["sentence"], broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:len(weights) // 2])
    server = serve(text=broken, visual="colpali-merged")
    facts = model(server, "text")
    assert facts["state"] in ("failed", "not_installed") and "model.safetensors" in facts["reason"]
    job, document = server.read(pages_of("broken", 2), "broken.txt")
    assert job["state"] == "completed" and not document.get("warning")
    assert space(server, "visual")["items"] == 2
    reply = search(server, "numberbrokenx1", "hybrid")
    assert reply["results"][0]["filename"] == "broken.txt"
    assert "unavailable" in reply["stages"]["dense"]
    # Repaired and started again, what comes next is embedded; the older is found by its words.
    server.stop()
    (broken / "model.safetensors").write_bytes(weights)
    server = serve(text=broken, visual="colpali-merged")
    assert model(server, "text")["state"] == "ready"
    assert space(server, "text")["items"] == 0
    server.read(text_of("later").encode(), "later.txt")
    assert space(server, "text")["items"] == 1
    names = [hit["filename"] for hit in search(server, "numberbrokenx1", "hybrid")["results"]]
    assert "broken.txt" in names


def needs_fault_points():
    if b"DOCUSEARCH_FAULT" not in Path(PROGRAM).read_bytes():
        pytest.skip("the program was built without fault points")


@pytest.mark.parametrize("point", ["parsed", "chunked", "embedded", "committed"])
def test_killed_at_each_step(serve, point):
    needs_fault_points()
    server = serve(visual="colpali-merged")
    server.read(pages_of("earlier", 2), "earlier.txt")
    before = {kind: space(server, kind) for kind in ("text", "visual")}
    server.stop()
    server = serve(visual="colpali-merged", DOCUSEARCH_FAULT=f"{point}:kill")
    data = pages_of("killed", 3)
    doc_id = hashlib.sha256(data).hexdigest()
    with contextlib.suppress(*LOST):
        server.upload(data, "killed.txt")
    assert server.process.wait(30 * SLOW) == -signal.SIGKILL
    server = serve(visual="colpali-merged")
    drained(server)
    assert server.document(doc_id)["status"] == "completed"
    n_chunks = len(server.document(doc_id)["chunks"])
    assert space(server, "visual")["items"] == before["visual"]["items"] + 3
    assert space(server, "text")["items"] == before["text"]["items"] + n_chunks
    for kind in ("text", "visual"):
        assert space(server, kind)["dead_bytes"] == 0  # what the dead attempt wrote was cut off
    hits = search(server, "heron", "visual")["results"]
    assert len(hits) == 5 and len({(hit["doc_id"], hit["page_num"]) for hit in hits}) == 5


def test_held_before_the_commit_nothing_is_seen(serve):
    needs_fault_points()
    server = serve(DOCUSEARCH_FAULT="embedded:sleep", WORKER_THREADS="1")
    sent = server.upload(text_of("held").encode(), "held.txt").json["documents"][0]
    deadline = time.monotonic() + 20 * SLOW
    while model(server, "text")["embedded"] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    assert space(server, "text")["items"] == 0
    assert search(server, "heron", "text")["results"] == []
    assert server.get(f"/jobs/{sent['job_id']}").json["state"] == "processing"
    server.stop(signal.SIGKILL)


def test_stopping_waits_for_nobodys_embeddings(serve):
    server = serve(BATCH_TEXT="4")
    body = {"input": [" ".join(WORDS * 20) + f" {i}" for i in range(256)]}
    replies = []

    def ask():
        with contextlib.suppress(LOST):
            replies.append(server.request("POST", "/v1/embeddings", body, timeout=120))

    callers = [threading.Thread(target=ask) for _ in range(6)]
    for caller in callers:
        caller.start()
    deadline = time.monotonic() + 30 * SLOW
    while model(server, "text")["waiting"] == 0:
        assert time.monotonic() < deadline and not replies, "the calls are not under way"
        time.sleep(0.01)
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 5 * SLOW
    for caller in callers:
        caller.join()
    for reply in replies:
        assert (reply.status, reply.code) in ((503, "not_ready"), (503, "stopping"))


def test_what_a_shortened_file_lacks_is_embedded_again(serve):
    server = serve()
    for i in range(4):
        server.read(text_of(i).encode(), f"{i}.txt")
    before = strip(search(server, text_of(0).strip(), "text"))
    [file] = (server.data_dir / "vectors").glob("*/*.seg")
    server.stop()
    n_slots, scan, records = struct.unpack_from("<I28xQQ", file.read_bytes(), 24)
    os.truncate(file, scan + 3 * ((records - scan) // n_slots) + 8)  # within the fourth's code
    server = serve()
    assert "000001.seg" in server.log and "cut short" in server.log
    drained(server)
    told = [line for line in server.log.splitlines() if "embedded again" in line]
    assert len(told) == 1 and "Vectors of 3.txt " in told[0]
    assert space(server, "text")["items"] == 4
    after = strip(search(server, text_of(0).strip(), "text"))
    assert [(hit["filename"], hit["score"]) for hit in after] == \
        [(hit["filename"], pytest.approx(hit["score"], abs=1e-4)) for hit in before]


def test_documents_read_without_a_model_are_embedded_when_added_again(serve):
    server = serve(text="none")
    files = {f"{i}.txt": text_of(i).encode() for i in range(3)}
    for name, data in files.items():
        server.read(data, name)
    assert model(server, "text")["without_vectors"] is None
    server.stop()
    server = serve(visual="colpali-merged")
    assert [model(server, kind)["without_vectors"] for kind in ("text", "visual")] == [3, 3]
    for mode in ("hybrid", "text"):
        reply = search(server, "number1", mode)
        assert reply["results"][0]["filename"] == "1.txt"
        assert "no document has vectors" in reply["stages"]["dense"]["unavailable"]
    reply = search(server, "number1", "visual")
    assert reply["results"] == []
    assert reply["stages"]["visual"]["note"] == "3 documents have no vectors of this model"
    job, document = server.read(files["1.txt"], "1.txt")
    assert job["state"] == "completed" and document["status"] == "completed"
    assert server.request("POST", f"/jobs/{job['job_id']}/retry").status == 409
    assert server.upload(files["1.txt"], "1.txt").json["documents"][0]["known"]
    time.sleep(1.1)  # how old the count may be
    assert [model(server, kind)["without_vectors"] for kind in ("text", "visual")] == [2, 2]
    reply = search(server, "number1", "text")
    assert [hit["filename"] for hit in reply["results"]] == ["1.txt"]
    assert reply["stages"]["dense"]["note"] == "2 documents have no vectors of this model"
    for name, data in files.items():
        server.read(data, name)
    time.sleep(1.1)
    assert model(server, "text")["without_vectors"] == 0
    reply = search(server, "number1", "hybrid")
    assert not any({"unavailable", "note"} & stage.keys() for stage in reply["stages"].values())
    assert space(server, "text")["items"] == 3


def test_a_setting_changes_no_model_that_documents_are_embedded_by(serve, models):
    server = serve()
    server.read(text_of("first").encode(), "first.txt")
    server.stop()
    server = serve(text="colbert")
    facts = model(server, "text")
    assert facts["name"] == str(models["sentence"]) and facts["without_vectors"] == 0
    wanted = f"TEXT_MODEL asks for {models['colbert']}; documents are embedded by " \
             f"{models['sentence']}: run docusearch reindex --model {models['colbert']}"
    assert facts["warning"] == wanted and wanted in server.log
    assert [hit["filename"] for hit in search(server, "heron", "text")["results"]] == ["first.txt"]
    server.stop()
    server = serve()
    assert model(server, "text")["warning"] is None


def test_another_model_has_a_space_of_its_own(serve, models, tmp_path):
    passing = tmp_path / "passing"
    shutil.copytree(models["sentence"], passing)
    server = serve(text=passing)
    server.read(text_of("first").encode(), "first.txt")
    server.stop()
    passing.rename(tmp_path / "elsewhere")
    server = serve(text="colbert")  # the one in use is not installed any more
    assert len(health(server)["vector_spaces"]) == 2
    assert model(server, "text")["warning"] is None
    # What another model has embedded is found by its words, and said.
    assert model(server, "text")["without_vectors"] == 1
    assert "Documents without vectors of their passages by" in server.log
    reply = search(server, "heron", "text")
    assert "no document has vectors" in reply["stages"]["dense"]["unavailable"]
    assert reply["results"] == search(server, "heron", "lexical")["results"]
    server.read(text_of("second").encode(), "second.txt")
    assert [hit["filename"] for hit in search(server, "heron", "text")["results"]] == ["second.txt"]
