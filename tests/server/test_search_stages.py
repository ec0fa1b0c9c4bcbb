"""What the index keeps of a page and what of it a search looks at: as /health, /metrics, a reply's
stages and `docusearch check` tell it, and as the settings of the index change it."""

import json
import re
import subprocess

import pytest

from running import PROGRAM, SLOW
from test_embedding_pipeline import (health, models, pages_of, search, serve,  # noqa: F401
                                     space, text_of, wait_models)

N_PAGES = 12
QUERY = "a lantern in the harbor"


@pytest.fixture
def fill(serve):  # noqa: F811
    """A server with twelve pages of one document and six of others."""
    def make(**settings):
        server = serve(visual="colpali-merged", **settings)
        if health(server)["documents"]["total"] == 0:
            server.read(pages_of("stages", N_PAGES), "twelve.txt")
            for i in range(6):
                server.read(text_of(i).encode(), f"{i}.txt")
        return server

    return make


def best(reply):
    return [(hit["doc_id"], hit["page_num"]) for hit in reply["results"]]


def scored(reply, stage):
    return tuple(reply["stages"][stage][name] for name in ("scanned", "pooled", "full"))


def test_stages_tell_how_many_they_scored(fill):
    server = fill()
    n_pages, n_chunks = (health(server)["documents"][name] for name in ("pages", "chunks"))
    everything = search(server, QUERY, "visual", 100, exact=True)
    assert scored(everything, "visual")[2] == n_pages == N_PAGES + 6
    staged = search(server, QUERY, "visual", 100)
    assert max(scored(staged, "visual")) == n_pages
    assert best(staged) == best(everything)
    for hit, same in zip(staged["results"], everything["results"]):
        assert hit["score"] == pytest.approx(same["score"], abs=1e-4)
    hybrid = search(server, QUERY, "hybrid")
    assert max(scored(hybrid, "visual")) == n_pages and max(scored(hybrid, "dense")) == n_chunks
    assert "scanned" not in hybrid["stages"]["lexical"]
    for stage in ("visual", "dense"):
        told = hybrid["stages"][stage]
        assert all(told[name] >= 0 for name in ("scan_ms", "pooled_ms", "full_ms"))
    # A filter acts before scoring: what it keeps out is not scored.
    doc_id = next(hit["doc_id"] for hit in staged["results"] if hit["filename"] == "twelve.txt")
    for exact in (False, True):
        some = search(server, QUERY, "visual", 100, exact=exact,
                      filters={"doc_id": doc_id, "page_from": 3, "page_to": 5})
        assert max(scored(some, "visual")) == len(some["results"]) == 3
        none = search(server, QUERY, "visual", 100, exact=exact, filters={"page_from": 100})
        assert max(scored(none, "visual")) == 0


def test_bytes_of_a_page_are_told_everywhere(fill):
    server = fill()
    for kind in ("visual", "text"):
        facts = space(server, kind)
        parts = facts["bytes_per_item"]
        assert parts["all"] == pytest.approx(parts["scan"] + parts["pooled"] + parts["full"], abs=2)
        assert facts["segments"] == 1 and facts["damaged"] == 0
        assert 0 <= facts["checked"] <= facts["items"]
        assert facts["bytes"] >= parts["all"] * facts["items"]
    late = space(server, "visual")["bytes_per_item"]
    assert late["scan"] < late["pooled"] < late["full"]
    single = space(server, "text")
    assert single["bytes_per_item"]["pooled"] == single["bytes_per_item"]["full"] == 0
    assert single["bytes_per_item"]["scan"] >= single["dim"]
    metrics = server.get("/metrics").body.decode()
    for kind in ("visual", "text"):
        facts = space(server, kind)
        for part in ("scan", "pooled", "full"):
            value = re.search(rf'docusearch_index_bytes{{space="{re.escape(facts["name"])}",'
                              rf'part="{part}"}} (\S+)', metrics)[1]
            assert float(value) / facts["items"] == \
                pytest.approx(facts["bytes_per_item"][part], abs=1)
        for name in ("items", "vectors", "segments", "damaged", "checked"):
            assert re.search(rf'docusearch_index_{name}{{space="{re.escape(facts["name"])}"}} \d',
                             metrics), name
        assert f'part="dead"}} {facts["dead_bytes"]}' in metrics


def test_index_settings_choose_what_is_kept(fill):
    kept, order = {}, None
    for name, settings in {
        "usual": {}, "pooled": {"INDEX_FULL_VECTORS": "false"}, "all": {"INDEX_POOL_FACTOR": "1"},
        "eight": {"INDEX_CODE_BITS": "8"}, "one": {"INDEX_CODE_BITS": "1"},
    }.items():
        server = fill(name=name, **settings)
        kept[name] = space(server, "visual")["bytes_per_item"]
        exact = search(server, QUERY, "visual", 5, exact=True)
        if name == "pooled":
            assert scored(exact, "visual")[1:] == (N_PAGES + 6, 0)
        else:
            assert scored(exact, "visual")[2] == N_PAGES + 6
            order = order or best(exact)
            assert best(exact) == order  # by every vector, whatever is pooled
        server.stop()
    assert kept["pooled"]["full"] == 0 < kept["usual"]["full"]
    assert kept["pooled"]["pooled"] == kept["usual"]["pooled"]
    assert kept["usual"]["pooled"] < kept["all"]["pooled"]
    assert kept["one"]["pooled"] < kept["usual"]["pooled"] < kept["eight"]["pooled"]
    assert len({entry["scan"] for entry in kept.values()}) == 1


def test_search_recall_chooses_how_many_are_scored(serve):  # noqa: F811
    """Of passages, more than are all scored anyhow; by a model of late interaction."""
    n, replies = 1500, {}
    for recall in ("0.99", "0.5", "1"):
        server = serve(text="colbert", TEXT_CHUNK_SIZE="16", TEXT_CHUNK_OVERLAP="0",
                       SEARCH_RECALL=recall)
        if health(server)["documents"]["total"] == 0:
            server.read("".join(text_of(i, 15) for i in range(n)).encode(), "many.txt")
        assert health(server)["documents"]["chunks"] == n
        replies[recall] = search(server, QUERY, "text")
        exact = search(server, QUERY, "text", exact=True)
        server.stop()
    assert scored(replies["1"], "dense") == scored(exact, "dense") == (0, 0, n)
    assert [hit["score"] for hit in replies["1"]["results"]] == \
        [hit["score"] for hit in exact["results"]]
    least, usual = (scored(replies[recall], "dense") for recall in ("0.5", "0.99"))
    assert least[0] == usual[0] == n
    assert 0 < least[2] < usual[2] <= n


def check(server_env, status):
    done = subprocess.run([PROGRAM, "check", "--json"], env=server_env, capture_output=True,
                          text=True, timeout=60 * SLOW)
    assert done.returncode == status or status is None, done.stdout + done.stderr
    findings = {}
    for entry in json.loads(done.stdout)["findings"]:
        findings.setdefault(entry["what"], []).append(entry)
    return findings


def flip(path, start):
    """One bit in the first byte from start on that is not zero."""
    data = bytearray(path.read_bytes())
    at = next(i for i in range(start, len(data)) if data[i])
    data[at] ^= 0x10
    path.write_bytes(data)


def test_check_names_what_is_damaged(fill):
    server = fill()
    visual, text = (space(server, kind)["name"] for kind in ("visual", "text"))
    told = check(server.env, None)
    for name in (visual, text):
        [line] = [entry for entry in told["vector space"] if entry["fact"].startswith(name)]
        assert line["verdict"] == "ok" and "checked since the start, 0 damaged" in line["fact"]
    assert "vectors" not in told
    server.stop()
    [whole] = check(server.env, None)["vectors"]
    assert whole["verdict"] == "ok"
    n_items = int(re.match(r"(\d+) pages and passages checked, 0 damaged", whole["fact"])[1])
    assert n_items >= N_PAGES + 6 + 7
    segments = sorted((server.data_dir / "vectors").rglob("*.seg"))
    assert len(segments) == 2
    largest = max(segments, key=lambda path: path.stat().st_blocks)
    flip(largest, largest.stat().st_size - 40000)
    told = check(server.env, 1)
    assert told["vectors"][0]["verdict"] == "wrong"
    assert told["damaged"] and all(entry["verdict"] == "wrong" for entry in told["damaged"])
    assert largest.name in told["damaged"][0]["fact"] and ".txt " in told["damaged"][0]["fact"]
    # Looking changes nothing.
    told_again = check(server.env, 1)
    assert [entry["fact"] for entry in told_again["damaged"]] == \
        [entry["fact"] for entry in told["damaged"]]
