"""Filters in every mode, alone and together: what they let through is what would have been found of
it without them, and it is found however much else there is."""

import itertools
import time

import pytest

from browser_files import make_pdf
from running import Running
from test_embedding_pipeline import drained, pages_of, search, space, text_of, wait_models

MODES = ("hybrid", "text", "lexical", "visual")
QUERY = "lantern harbor copper velvet"
WORDS = "lantern harbor copper velvet "


class Filled:
    def __init__(self, root, checkpoint):
        self.uploads = root / "uploads"
        self.server = Running(root / "data", TEXT_MODEL=str(checkpoint("sentence")),
                              MODEL_NAME=str(checkpoint("colpali-merged")), MODEL_PRECISION="fp32",
                              MODELS_DIR=str(root / "models"), INGEST_ROOTS=str(self.uploads))
        wait_models(self.server)
        for i in range(8):
            self.put(f"2024/{i}.txt", (WORDS + text_of(i)).encode())
        for i in range(3):
            self.put(f"2024/notes/{i}.md", f"# Notes {i}\n\n{WORDS}{text_of(f'md{i}')}".encode())
        self.put("2024x/near.md", b"# Near\n\n" + WORDS.encode())
        drained(self.server)
        time.sleep(0.05)
        self.between = int(time.time() * 1000)
        time.sleep(0.05)
        self.put("2025/pages.txt", pages_of("filter", 6).replace(b" ", b" lantern ", 40))
        self.put("2025/a.pdf", make_pdf([[(72, 700, 12, f"{WORDS} page {i}")] for i in range(4)]))
        drained(self.server)
        listed = self.server.get("/documents", limit=100).json["documents"]
        self.ids = {entry["filename"]: entry["doc_id"] for entry in listed}
        assert len(self.ids) == len(listed) == 14

    def put(self, path, data):
        path = self.uploads / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        name = str(path.relative_to(self.uploads)).replace("/", "-")
        reply = self.server.request("POST", "/process", {"file_path": str(path), "filename": name})
        assert reply.status == 200, reply.body


@pytest.fixture(scope="module")
def filled(tmp_path_factory, checkpoint):
    made = Filled(tmp_path_factory.mktemp("filters"), checkpoint)
    yield made
    made.server.stop()


def one_filters(filled):
    """Each filter alone: its members of "filters", and what a result must be to pass."""
    folder = str(filled.uploads / "2024") + "/"  # what a path begins with
    pdf = filled.ids["2025-a.pdf"]
    several = [pdf, filled.ids["2024-3.txt"], filled.ids["2025-pages.txt"]]
    return {
        "document": ({"doc_id": pdf}, lambda hit: hit["doc_id"] == pdf),
        "documents": ({"doc_ids": several}, lambda hit: hit["doc_id"] in several),
        "type": ({"format": "markdown"},
                 lambda hit: hit["metadata"]["format"] == "markdown"),
        "group": ({"format": ["pdf"]}, lambda hit: hit["metadata"]["file_type_group"] == "pdf"),
        "since": ({"added_from": filled.between}, lambda hit: hit["filename"].startswith("2025")),
        "until": ({"added_to": filled.between}, lambda hit: hit["filename"].startswith("2024")),
        "folder": ({"folder": folder}, lambda hit: hit["filename"].startswith("2024-")),
    }


def page_filters(n_pages):
    """Likewise, of pages: a passage that runs over several is found on each of them."""
    return {
        "page from": ({"page_from": 3}, lambda hit: hit["page_num"] >= 3),
        "page to": ({"page_to": 1}, lambda hit: hit["page_num"] == 1),
        "page range": ({"page_from": 2, "page_to": n_pages - 1},
                       lambda hit: 2 <= hit["page_num"] <= n_pages - 1),
    }


def key(hit):
    return hit["doc_id"], hit["page_num"]


def check(filled, mode, filters, passes):
    whole = search(filled.server, QUERY, mode, 100)["results"]
    some = search(filled.server, QUERY, mode, 100, filters=filters)
    expected = {key(hit): hit for hit in whole if passes(hit)}
    found = {key(hit): hit for hit in some["results"]}
    assert found.keys() == expected.keys()
    assert all(passes(hit) for hit in some["results"])
    for where, hit in found.items():  # each stage gives what it gave, among fewer
        same = expected[where]
        assert hit["parts"].keys() == same["parts"].keys()
        for stage, part in hit["parts"].items():
            assert part["score"] == pytest.approx(same["parts"][stage]["score"], rel=1e-5)
            assert part["rank"] <= same["parts"][stage]["rank"]
    if mode != "hybrid":
        assert [key(hit) for hit in some["results"]] == \
            [key(hit) for hit in whole if passes(hit)]
    first = search(filled.server, QUERY, mode, 1, filters=filters)["results"]
    assert [key(hit) for hit in first] == [key(hit) for hit in some["results"]][:1]
    return some


@pytest.mark.parametrize("mode", MODES)
def test_each_filter(filled, mode):
    for name, (filters, passes) in one_filters(filled).items():
        some = check(filled, mode, filters, passes)
        assert some["results"], name


@pytest.mark.parametrize("mode", MODES)
def test_page_filters(filled, mode):
    for name, (filters, passes) in page_filters(4).items():
        for more, also in [({}, lambda hit: True), *one_filters(filled).values()]:
            if mode == "visual":
                check(filled, mode, {**filters, **more}, lambda hit: passes(hit) and also(hit))
                continue
            some = search(filled.server, QUERY, mode, 100, filters={**filters, **more})["results"]
            assert all(passes(hit) and also(hit) for hit in some)
            # Every document that has such a page, and passes otherwise, has words there.
            long = {"2025-pages.txt", "2025-a.pdf"}
            names = {hit["filename"] for hit in search(filled.server, QUERY, mode, 100,
                                                       filters=more)["results"]}
            if "page_from" in filters:
                names &= long
            assert {hit["filename"] for hit in some} == names, (name, more)


@pytest.mark.parametrize("mode", MODES)
def test_filters_together(filled, mode):
    n_found = 0
    for (_, one), (_, other) in itertools.combinations(one_filters(filled).items(), 2):
        if one[0].keys() & other[0].keys() or {"doc_id", "doc_ids"} <= one[0].keys() | \
                other[0].keys():
            continue
        some = check(filled, mode, {**one[0], **other[0]},
                     lambda hit: one[1](hit) and other[1](hit))
        n_found += bool(some["results"])
    assert n_found > 8


@pytest.mark.parametrize("mode", MODES)
def test_what_lets_nothing_through(filled, mode):
    for filters in ({"doc_id": "0" * 64}, {"format": "docx"}, {"folder": "/nowhere"},
                    {"added_from": filled.between, "added_to": filled.between},
                    {"page_from": 7}, {"doc_id": filled.ids["2025-a.pdf"], "format": "markdown"}):
        reply = search(filled.server, QUERY, mode, filters=filters)
        assert reply["results"] == []
        assert all(stage["candidates"] == 0 and "unavailable" not in stage
                   for stage in reply["stages"].values())


def test_the_best_is_found_behind_many_that_are_let_by(filled):
    """A filter that acts on what was found would find nothing here."""
    assert space(filled.server, "visual")["items"] == 22
    for mode in MODES:
        worst = search(filled.server, QUERY, mode, 100)["results"][-1]
        [hit] = search(filled.server, QUERY, mode, 1, filters={
            "doc_id": worst["doc_id"], "page_from": worst["page_num"],
            "page_to": worst["page_num"]})["results"]
        assert key(hit) == key(worst)


def test_filters_of_a_query_string(filled):
    pdf = filled.ids["2025-a.pdf"]
    for mode in MODES:
        asked = {"query": QUERY, "search_mode": mode, "n_results": 100}
        posted = search(filled.server, QUERY, mode, 100, filters={"doc_id": pdf, "page_from": 2})
        for more in ({"doc_id": pdf, "page_from": 2}, {"doc_id": pdf, "page_from": 2,
                                                       "exact": "true"}):
            got = filled.server.get("/search", **asked, **more).json
            assert got["results"] == posted["results"]
            assert len(got["results"]) == (3 if mode in ("visual", "hybrid") else 1)
        assert filled.server.get("/search", **asked, exact="yes").status == 400
