"""A worker that takes the Python worker's place: collections that the Python client wrote in the old
layout are searched where they stand, live beside new documents, and are brought over when asked
for."""

import pytest

pytest.importorskip("numpy", reason="numpy makes the Python worker's vectors")

import numpy  # noqa: E402

from test_embedding_pipeline import (drained, health, models, pages_of, search, serve, text_of,  # noqa: E402,F401
                                     vectors)
from test_shared import (PAGES, PASSAGES, everywhere, known, settled, store, until,  # noqa: E402,F401
                         worker)

QUERY = "a lantern in the harbor"


@pytest.fixture
def older(chroma):
    """Documents in collections that the Python client made."""
    pytest.importorskip("chromadb", reason="the Python worker's client")
    from legacy_collections import Collections, Document, some_vectors
    generator = numpy.random.default_rng(20251007)
    collections = Collections(chroma.port)
    documents = []
    for i, age in enumerate("ab"):
        documents.append(Document(
            f"older{i}.pdf", age=age,
            pages={page: some_vectors(generator, 1031) for page in range(1, 3 + i)},
            chunks={k: (f"{text_of(f'older{i}c{k}')} apricot{i}k{k}", k + 1,
                        some_vectors(generator, 30)) for k in range(2)}))
        collections.add(documents[-1])
    return documents


def expected(server, documents):
    """(document, page) -> MaxSim over the vectors that were written, best first."""
    question = vectors(server, "visual", [QUERY], "query")[0]
    from legacy_collections import maxsim
    scores = {(document.doc_id, page): maxsim(question, rows)
              for document in documents for page, rows in document.pages.items()}
    return dict(sorted(scores.items(), key=lambda one: -one[1]))


def check_scores(server, documents, tolerance):
    results = search(server, QUERY, "visual", 100)["results"]
    ids = {document.doc_id for document in documents}
    found = {(hit["doc_id"], hit["page_num"]): hit["score"] for hit in results
             if hit["doc_id"] in ids}
    wanted = expected(server, documents)
    assert found == pytest.approx(wanted, abs=tolerance)
    return list(found) == list(wanted)


def test_searched_where_they_stand_then_brought_over(worker, chroma, older):  # noqa: F811
    server = worker("first")
    until(lambda: len(known(server)) == 2, what="the older documents")
    listed = known(server)
    for i, document in enumerate(older):
        entry = listed[document.doc_id]
        assert (entry["filename"], entry["page_count"], entry["worker"]) == \
            (f"older{i}.pdf", 2 + i, "python-worker")
        words = search(server, f"apricot{i}k1", "lexical")["results"]
        assert [(hit["doc_id"], hit["page_num"]) for hit in words] == [(document.doc_id, 2)]
    assert check_scores(server, older, 1e-3)
    # Beside them new ones, in the same collection of pages, which its older readers go on reading.
    _, new = server.read(pages_of("new", 2), "new.txt")
    settled(server)
    assert everywhere(server, new["doc_id"], text_of("newx0"))
    rows = chroma.rows(PAGES)
    assert len(rows) == 5 + 2 and f"{older[0].their_id}-page001" in rows
    assert check_scores(server, older, 1e-3)
    heat = server.get(f"/documents/{older[0].doc_id}/pages/1/explain", query=QUERY)
    assert heat.status == 200, heat.body
    # Brought over: in collections of ours, where another worker finds them too.
    assert server.request("POST", "/reindex", {"mode": "store"}).status == 202
    state = until(lambda: (lambda s: s["state"] != "running" and s)(server.get("/reindex").json))
    assert (state["outcome"], state["documents_done"]) == ("completed", 3), state
    tokens = chroma.metadata(f"{PAGES}-tokens")
    assert {row["doc_id"] for row in tokens.values()} == \
        {new["doc_id"], *(document.doc_id for document in older)}
    assert check_scores(server, older, 2e-2)
    second = worker("second")
    until(lambda: set(known(second)) == set(known(server)), what="all documents")
    for document in older:
        assert everywhere(second, document.doc_id, document.chunks[0][0])
    assert check_scores(second, older, 2e-2)
    # Removed here, they do not come back from where they stand.
    assert server.request("DELETE", f"/documents/{older[1].doc_id}").status == 200
    settled(server)
    until(lambda: older[1].doc_id not in known(second), what="the removal")
    assert older[1].doc_id not in [hit["doc_id"] for hit in
                                   search(second, QUERY, "visual", 100)["results"]]


def test_removed_by_its_path_with_its_rows(worker, chroma, older):  # noqa: F811
    server = worker()
    until(lambda: len(known(server)) == 2, what="the older documents")
    # Passages of theirs are of the visual model: the text model's stage says that it passes them by.
    stage = search(server, "apricot", "text")["stages"]["dense"]
    assert "2 documents of the Python worker" in stage["note"]
    reply = server.request("POST", "/delete", {"file_path": "/uploads/older0.pdf",
                                               "filename": "older0.pdf"})
    assert (reply.status, reply.json["status"]) == (200, "success")
    assert reply.json["doc_id"] == older[0].doc_id
    settled(server)
    until(lambda: not chroma.metadata(PAGES, {"doc_id": older[0].their_id}) and
          not chroma.metadata(PASSAGES, {"doc_id": older[0].their_id}), what="their rows")
    assert set(known(server)) == {older[1].doc_id}
    assert chroma.metadata(PAGES, {"doc_id": older[1].their_id})


def test_a_page_that_cannot_be_explained_is_found(worker, chroma):  # noqa: F811
    pytest.importorskip("chromadb", reason="the Python worker's client")
    from legacy_collections import Collections, Document, some_vectors
    few = Document("few.pdf", pages={1: some_vectors(numpy.random.default_rng(3), 20)})
    Collections(chroma.port).add(few)
    server = worker()
    until(lambda: few.doc_id in known(server), what="the older document")
    for mode in ("visual", "hybrid"):
        hits = search(server, QUERY, mode)["results"]
        assert [(hit["doc_id"], hit["boxes"]) for hit in hits] == [(few.doc_id, [])], mode


def test_read_anew_from_the_same_path(worker, chroma):  # noqa: F811
    """A file of theirs that is taken here is found once, as this worker read it; the file's removal
    removes both, and their copy alone is found again when this worker's is removed by its id."""
    pytest.importorskip("chromadb", reason="the Python worker's client")
    from legacy_collections import Collections, Document, some_vectors
    collections, generator = Collections(chroma.port), numpy.random.default_rng(5)
    server = worker()
    uploads = server.data_dir / "uploads"
    uploads.mkdir(exist_ok=True)
    copies = []
    for name in ("twice.txt", "once.txt"):
        (uploads / name).write_text(f"{text_of(name)} quince\n")
        copies += [Document(name, metadata={"source_path": str(uploads / name)},
                            pages={1: some_vectors(generator, 40)},
                            chunks={0: (f"{text_of(name)} quince", 1, some_vectors(generator, 9))})
                   for _ in range(2 if name == "twice.txt" else 1)]
    for copy in copies:
        collections.add(copy)
    until(lambda: len(known(server)) >= 3, what="the older documents")
    new = {}
    for name in ("twice.txt", "once.txt"):
        reply = server.request("POST", "/process", {"file_path": str(uploads / name),
                                                    "filename": name})
        new[name] = reply.json["doc_id"]
    drained(server)
    settled(server)

    def found_now():
        return {mode: {hit["doc_id"] for hit in search(server, "quince", mode, 100)["results"]}
                for mode in ("lexical", "visual", "hybrid", "text")}

    assert found_now() == {mode: set(new.values()) for mode in ("lexical", "visual", "hybrid", "text")}
    listed = known(server)
    assert {one for one in listed if listed[one]["superseded"]} == {copy.doc_id for copy in copies}
    assert server.request("DELETE", f"/documents/{new['once.txt']}").status == 200
    assert copies[2].doc_id in found_now()["visual"]
    assert not known(server)[copies[2].doc_id]["superseded"]
    reply = server.request("POST", "/delete", {"file_path": str(uploads / "twice.txt"),
                                               "filename": "twice.txt"})
    assert (reply.json["status"], reply.json["doc_id"]) == ("success", new["twice.txt"])
    settled(server)
    assert set(known(server)) == {copies[2].doc_id}
    until(lambda: not any(chroma.metadata(PAGES, {"doc_id": copy.their_id}) for copy in copies[:2]),
          what="their rows")
    assert chroma.metadata(PAGES, {"doc_id": copies[2].their_id})
