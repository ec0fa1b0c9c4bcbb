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


MODES = ("lexical", "visual", "hybrid", "text")


class Theirs:
    """Files in the uploads folder, and what the Python worker made of them."""

    def __init__(self, folder, port):
        pytest.importorskip("chromadb", reason="the Python worker's client")
        from legacy_collections import Collections
        self.uploads = folder / "data" / "uploads"
        self.uploads.mkdir(parents=True)
        self.collections, self.generator = Collections(port), numpy.random.default_rng(5)

    def put(self, name, text, path=None, copies=1, file=True):
        """The documents that the Python worker has of a file."""
        from legacy_collections import Document, some_vectors
        if file:
            (self.uploads / name).write_text(f"{text} of {name}\n")
        made = [Document(name, metadata={"source_path": path or str(self.uploads / name)},
                         pages={1: some_vectors(self.generator, 40)},
                         chunks={0: (f"{text} as it was", 1, some_vectors(self.generator, 9))})
                for _ in range(copies)]
        for document in made:
            self.collections.add(document)
        return made


def found_now(server, query):
    return {mode: {hit["doc_id"] for hit in search(server, query, mode, 100)["results"]}
            for mode in MODES}


def take(server, path):
    reply = server.request("POST", "/process", {"file_path": str(path), "filename": path.name})
    assert reply.status == 200, reply.body
    return reply.json["doc_id"]


def gone_there(chroma, documents):
    until(lambda: not any(chroma.metadata(name, {"doc_id": one.their_id})
                          for one in documents for name in (PAGES, PASSAGES)), what="their rows")


def test_read_anew_from_the_same_path(worker, chroma, tmp_path):  # noqa: F811
    """A file of theirs that is taken here is found once, as this worker read it, however much theirs
    say of it; who removes it, by path or by id, removes both."""
    theirs = Theirs(tmp_path, chroma.port)
    twice = theirs.put("twice.txt", "quince", copies=2)
    once = theirs.put("once.txt", "quince")
    left = theirs.put("left.txt", "quince", file=False)
    many = [one for i in range(60) for one in theirs.put(f"many{i}.txt", "quince", file=False,
                                                         path=str(theirs.uploads / "once.txt"))]
    server = worker()
    until(lambda: store(server)["documents"]["mirrored"] == 4 + len(many), what="the older documents")
    new = {name: take(server, theirs.uploads / name) for name in ("twice.txt", "once.txt")}
    drained(server)
    settled(server)
    wanted = {*new.values(), left[0].doc_id}
    assert set(known(server)) == wanted
    found = found_now(server, "quince")
    assert found.pop("text") == set(new.values())  # theirs are of the visual model
    assert found == {mode: wanted for mode in found}
    # The same after a restart, and on a worker that has not the files.
    second = worker("second")
    until(lambda: set(known(second)) == wanted, what="the same documents")
    assert found_now(second, "quince") | {"text": None} == found | {"text": None}
    assert server.request("DELETE", f"/documents/{new['once.txt']}").status == 200
    reply = server.request("POST", "/delete", {"file_path": str(theirs.uploads / "twice.txt"),
                                               "filename": "twice.txt"})
    assert (reply.json["status"], reply.json["doc_id"]) == ("success", new["twice.txt"])
    settled(server)
    gone_there(chroma, [*twice, *once, *many])
    assert chroma.metadata(PAGES, {"doc_id": left[0].their_id})
    for one in (server, second):
        until(lambda one=one: set(known(one)) == {left[0].doc_id}, what="the removals", seconds=60)


def test_moved_with_its_file(worker, chroma, tmp_path):  # noqa: F811
    """What cannot be taken here goes on under the new path, and so does what was read anew."""
    theirs = Theirs(tmp_path, chroma.port)
    [talk] = theirs.put("talk.mp3", "medlar")
    [bad] = theirs.put("bad.pdf", "medlar")
    [note] = theirs.put("note.txt", "medlar")
    server = worker()
    until(lambda: len(known(server)) == 3, what="the older documents")
    new = take(server, theirs.uploads / "note.txt")
    take(server, theirs.uploads / "bad.pdf")
    drained(server)
    settled(server)
    for name in ("talk.mp3", "bad.pdf", "note.txt"):
        old, now = theirs.uploads / name, theirs.uploads / f"moved-{name}"
        old.rename(now)
        server.request("POST", "/process", {"file_path": str(now), "filename": now.name})
        drained(server)
        reply = server.request("POST", "/delete", {"file_path": str(old), "filename": name,
                                                   "moved_to": str(now)})
        assert reply.json["status"] == "success", name
    settled(server)
    listed = known(server)
    assert listed[talk.doc_id]["source_path"] == str(theirs.uploads / "moved-talk.mp3")
    assert listed[bad.doc_id]["source_path"] == str(theirs.uploads / "moved-bad.pdf")
    assert listed[new]["filename"] == "moved-note.txt" and note.doc_id not in listed
    assert chroma.metadata(PAGES, {"doc_id": note.their_id})
    server.stop()
    server = worker()
    until(lambda: {talk.doc_id, bad.doc_id, new} <= set(known(server)), what="the documents")
    assert note.doc_id not in known(server)
    for name in ("note.txt", "talk.mp3", "bad.pdf"):
        (theirs.uploads / f"moved-{name}").unlink()
        server.request("POST", "/delete", {"file_path": str(theirs.uploads / f"moved-{name}"),
                                           "filename": f"moved-{name}"})
    settled(server)
    gone_there(chroma, [talk, bad, note])
    assert not {talk.doc_id, bad.doc_id, new, note.doc_id} & set(known(server))


def test_paths_of_a_container(worker, chroma, tmp_path):  # noqa: F811
    """They are mapped as a hook's; a link is the folder that it leads to."""
    theirs = Theirs(tmp_path, chroma.port)
    (tmp_path / "link").symlink_to(theirs.uploads)
    theirs.put("a.txt", "sloe", path="/uploads/a.txt")
    theirs.put("b.txt", "sloe", path=str(tmp_path / "link" / "b.txt"))
    theirs.put("c.txt", "sloe", path="uploads/c.txt")
    server = worker(HOOK_PATH_MAP=f"/uploads={theirs.uploads}")
    until(lambda: len(known(server)) >= 3, what="the older documents")
    new = {take(server, theirs.uploads / name) for name in ("a.txt", "b.txt", "c.txt")}
    drained(server)
    settled(server)
    assert set(known(server)) == new


def test_a_reading_without_vectors_takes_no_place(serve, chroma, tmp_path):  # noqa: F811
    """What was read without models is not found by pictures: theirs is, until it is."""
    theirs = Theirs(tmp_path, chroma.port)
    [old] = theirs.put("a.txt", "bullace")
    server = serve(visual="none", text="none", **chroma.settings)
    new = take(server, theirs.uploads / "a.txt")
    drained(server)
    server.stop()
    server = serve(visual="colpali-merged", **chroma.settings)
    until(lambda: old.doc_id in known(server), what="the older document")
    assert old.doc_id in found_now(server, "bullace")["visual"]
    assert server.request("POST", "/reindex", {"mode": "missing"}).status == 202
    until(lambda: server.get("/reindex").json["state"] != "running", what="the vectors")
    until(lambda: set(known(server)) == {new}, what="the new reading alone", seconds=60)
    assert found_now(server, "bullace")["visual"] == {new}


def test_what_they_removed_themselves(worker, chroma, tmp_path):  # noqa: F811
    theirs = Theirs(tmp_path, chroma.port)
    [gone] = theirs.put("gone.txt", "damson", file=False)
    [stays] = theirs.put("stays.jpg", "damson", file=False)
    server = worker()
    until(lambda: len(known(server)) == 2, what="the older documents")
    assert (known(server)[stays.doc_id]["format"], known(server)[stays.doc_id]["file_type_group"]) \
        == ("jpeg", "images")
    server.stop()
    for name in (PAGES, PASSAGES):
        chroma.call("POST", f"/collections/{chroma.uuid(name)}/delete",
                    {"where": {"doc_id": gone.their_id}})
    server = worker()
    until(lambda: set(known(server)) == {stays.doc_id}, what="the removal")
    assert found_now(server, "damson")["lexical"] == {stays.doc_id}
