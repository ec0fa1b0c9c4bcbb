"""chroma's reading of the Python worker's collections, by tests/unit/chroma/test_legacy, over what
ChromaDB's own client wrote."""

import json
import os
import subprocess
from pathlib import Path

import pytest

numpy = pytest.importorskip("numpy", reason="numpy makes the vectors")
pytest.importorskip("chromadb", reason="ChromaDB's client writes the collections")

from chroma_server import ChromaServer  # noqa: E402
from legacy_collections import (DIM, Collections, Document, mapped, maxsim,  # noqa: E402
                                some_vectors, unit)
from running import PROGRAM  # noqa: E402

READER = Path(PROGRAM).parent / "tests/unit/chroma/test_legacy"


class Reader:
    """The program, and its answers."""

    def __init__(self, url, folder):
        if not os.access(READER, os.X_OK):
            pytest.skip(f"no program at {READER}")
        self.folder = folder
        self.process = subprocess.Popen([READER, url], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def item(self, doc_id, kind, number):
        path = self.folder / "item"
        said = self.ask("item", doc_id, kind, number, path)
        if not said.get("found"):
            return said
        return numpy.fromfile(path, dtype="<f4").reshape(said["n"], DIM)

    def search(self, kind, question, limit=1000, exact=True, odd=False, doc_ids=(), threads=0):
        path = self.folder / "question"
        path.write_bytes(numpy.asarray(question, dtype="<f4").tobytes())
        said = self.ask(*["together", threads] * bool(threads), "search", kind, limit, "exact" if exact else "quick",
                        "odd" if odd else "all", path, len(doc_ids), *doc_ids)
        assert "hits" in said, said
        return said


@pytest.fixture(scope="module")
def chroma(tmp_path_factory):
    server = ChromaServer(tmp_path_factory.mktemp("chroma"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def reader(chroma, tmp_path):
    one = Reader(chroma.url, tmp_path)
    yield one
    one.close()


@pytest.fixture
def collections(chroma):
    made = Collections(chroma.port)
    yield made
    made.client.delete_collection("visual_collection")
    made.client.delete_collection("text_collection")


TEXT = "The river rose in the night. " * 20


def some_documents(seed, n, n_pages=3, n_chunks=4, page_vectors=50):
    """Half of them of each age. Pages are as the model gives them; passages have their batches'
    filling before or behind them."""
    generator = numpy.random.default_rng(seed)
    filling = numpy.zeros((3, DIM), dtype=numpy.float32)
    documents = []
    for i in range(n):
        made = Document(f"report {i}.pdf", age="ab"[i % 2])
        made.pages = {page + 1: some_vectors(generator, page_vectors + page)
                      for page in range(n_pages)}
        for number in range(n_chunks):
            vectors = some_vectors(generator, 12 + number)
            vectors = numpy.concatenate([filling, vectors] if number % 2 else [vectors, filling])
            made.chunks[number] = (f"{TEXT}{i} {number}", number // 2 + 1, vectors)
        documents.append(made)
    return documents


def expected(documents, kind, question, allowed=lambda number: True):
    """[(doc_id, item, score)], best first."""
    found = [(one.doc_id, number, maxsim(question, vectors))
             for one in documents
             for number, vectors in (one.pages.items() if kind == "page" else
                                     ((n, chunk[2]) for n, chunk in one.chunks.items()))
             if allowed(number)]
    return sorted(found, key=lambda hit: -hit[2])


def check(hits, wanted):
    assert [(doc_id, item) for doc_id, item, _ in hits] == [hit[:2] for hit in wanted]
    numpy.testing.assert_allclose([score for *_, score in hits], [hit[2] for hit in wanted],
                                  rtol=1e-5)


# ---- what is there -------------------------------------------------------------------------------


def test_no_collections_hold_nothing(reader, tmp_path):
    assert reader.ask("facts") == {"documents": 0, "pages": 0, "chunks": 0}
    assert reader.ask("list") == {"documents": []}
    assert reader.search("page", some_vectors(numpy.random.default_rng(1), 3))["hits"] == []
    assert reader.item(mapped("x"), "page", 1) == {"found": False, "n": 0}


def test_documents_are_listed(reader, collections):
    documents = some_documents(1, 4)
    documents[2].metadata = {"title": "Floods “of” 1824", "author": "A. Müller",
                             "created": "2024-01-02", "num_pages": 12}
    for one in documents:
        collections.add(one)
    assert reader.ask("facts") == {"documents": 4, "pages": 12, "chunks": 16}
    found = {one["doc_id"]: one for one in reader.ask("list")["documents"]}
    assert set(found) == {one.doc_id for one in documents}
    for i, one in enumerate(documents):
        said = found[one.doc_id]
        assert said["their_id"] == one.their_id
        assert said["filename"] == f"report {i}.pdf"
        assert said["source_path"] == f"/uploads/report {i}.pdf"
        assert said["title"] == one.of_all_rows()["title"]
        assert (said["format"], said["dim"], said["n_chunks"]) == ("pdf", 128, 4)
        assert (said["page_rows"], said["chunk_rows"]) == (3, 4)
        assert said["n_pages"] == (12 if i == 2 else 3)
        assert said["cut"] == (one.age == "a")
        assert said["added_ms"] == 1761914096789
        assert reader.ask("find", one.doc_id) == {"documents": [said]}
        assert reader.ask("items", one.doc_id, "page") == {"items": [1, 2, 3]}
        assert reader.ask("items", one.doc_id, "chunk") == {"items": [0, 1, 2, 3]}
    assert found[documents[2].doc_id]["author"] == "A. Müller"
    assert reader.ask("find", mapped("nobody")) == {"documents": []}
    assert reader.ask("find", documents[0].their_id) == {"documents": []}


def test_passages_come_back(reader, collections):
    documents = some_documents(2, 2, n_chunks=40)
    for one in documents:
        collections.add(one)
    for one in documents:
        chunks = reader.ask("chunks", one.doc_id)["chunks"]
        assert [chunk["ordinal"] for chunk in chunks] == list(range(40))
        for chunk in chunks:
            text, page, _ = one.chunks[chunk["ordinal"]]
            assert chunk["text"] == (text if one.age == "b" else text[:200])
            assert chunk["words"] == len(text.split())
            assert chunk["doc_id"] == one.doc_id
            assert chunk["first_page"] == page
            assert chunk["last_page"] == (page + 1 if one.age == "b" else page)
            assert chunk["heading_path"] == (f"{one.filename} > Part" if one.age == "b" else "")
        assert reader.ask("chunk", one.doc_id, 7) == {"chunks": [chunks[7]]}
        assert reader.ask("chunk", one.doc_id, 40) == {"chunks": []}
    assert reader.ask("chunks", mapped("nobody")) == {"chunks": []}


def test_vectors_are_the_bits_that_were_stored(reader, collections):
    (one,) = some_documents(3, 1, page_vectors=1031)
    collections.add(one)
    for page, vectors in one.pages.items():
        assert reader.item(one.doc_id, "page", page).tobytes() == vectors.tobytes()
    for number, (_, _, vectors) in one.chunks.items():
        kept = vectors[numpy.linalg.norm(vectors, axis=1) > 0]
        assert len(kept) == len(vectors) - 3
        assert reader.item(one.doc_id, "chunk", number).tobytes() == kept.tobytes()
    assert reader.item(one.doc_id, "page", 4) == {"found": False, "n": 0}


def test_what_is_not_theirs_is_passed_over(reader, chroma, collections):
    """Rows of docusearch's own stand in the same collection; so do rows that nobody knows."""
    (one,) = some_documents(4, 1)
    collections.add(one)
    generator = numpy.random.default_rng(5)
    vector = [float(x) for x in some_vectors(generator, 1)[0]]
    ours = "ab" * 32
    chroma.add("visual_collection", {
        f"{ours}-page001": (vector, {"doc_id": ours, "page": 1, "type": "visual"}),
        "page": (vector, {"a": 1}), "x-page001": (vector, {"a": 1}),
        f"{one.their_id}-page001-t05": (vector, {"a": 1}),
        f"{one.their_id}-page000": (vector, {"a": 1}),
        f"{one.their_id}-page99999999999999": (vector, {"a": 1}),
        f"{one.their_id}-chunk0001": (vector, {"a": 1}),
        "somebody-else-page001": (vector, {"doc_id": "somebody-else", "page": 1})})
    assert reader.ask("facts") == {"documents": 2, "pages": 4, "chunks": 4}
    assert [found["their_id"] for found in reader.ask("list")["documents"]] == [one.their_id]
    assert reader.ask("find", mapped("somebody-else")) == {"documents": []}
    question = some_vectors(generator, 5)
    check(reader.search("page", question)["hits"], expected([one], "page", question))


def test_documents_of_made_up_vectors_have_none(reader, collections):
    """768 random numbers a vector: what their worker stored where it had no model."""
    generator = numpy.random.default_rng(6)
    made_up = Document("a.pdf", pages={1: some_vectors(generator, 9, 768)})
    collections.add(made_up)
    (said,) = reader.ask("list")["documents"]
    assert said["dim"] == 768
    assert reader.item(made_up.doc_id, "page", 1) == {"found": False, "n": 0}
    assert reader.search("page", some_vectors(generator, 3))["hits"] == []


def test_damaged_rows_are_told_of_and_passed_over(reader, collections):
    documents = some_documents(7, 3)
    generator = numpy.random.default_rng(8)
    broken = documents[0]
    rows = [broken.page_row(page) for page in broken.pages]
    rows[0][2]["embedding_shape"] = "(51, 128)"
    rows[1][2]["full_embeddings"] = rows[1][2]["full_embeddings"][:-40]
    worse = broken.pages[3].copy()
    worse[17, 5] = numpy.nan
    broken.pages[3] = worse
    rows[2] = broken.page_row(3)
    rows[2][2]["embedding_shape"] = "(52, 128)"
    collections.add_rows(collections.visual, rows)
    for one in documents[1:]:
        collections.add(one)
    for page in broken.pages:
        said = reader.item(broken.doc_id, "page", page)
        assert said["code"] == "invalid" and said["error"].startswith(f"{broken.their_id}-page"), said
    question = some_vectors(generator, 6)
    for _ in range(2):
        check(reader.search("page", question)["hits"], expected(documents[1:], "page", question))
    del broken.chunks


# ---- search --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["page", "chunk"])
def test_order_is_that_of_maxsim(reader, collections, kind):
    documents = some_documents(9, 12)
    for one in documents:
        collections.add(one)
    generator = numpy.random.default_rng(10)
    for n_query in (1, 20, 33):
        question = some_vectors(generator, n_query)
        wanted = expected(documents, kind, question)
        for exact in (True, False):
            said = reader.search(kind, question, exact=exact)
            check(said["hits"], wanted)
            assert said["scanned"] == said["scored"] == len(wanted)
        check(reader.search(kind, question, limit=5)["hits"], wanted[:5])
        odd = expected(documents, kind, question, lambda number: number % 2 == 1)
        check(reader.search(kind, question, odd=True)["hits"], odd)
        some = documents[3:5]
        check(reader.search(kind, question, doc_ids=[one.doc_id for one in some] + ["ab" * 32])
              ["hits"], expected(some, kind, question))


def test_threads_agree(reader, collections):
    documents = some_documents(15, 10)
    for one in documents:
        collections.add(one)
    question = some_vectors(numpy.random.default_rng(16), 8)
    assert reader.ask("facts")["pages"] == 30  # the server is known to be up
    said = reader.search("page", question, threads=8)
    assert said["alike"] == 8
    check(said["hits"], expected(documents, "page", question))


def test_questions_are_checked(reader, collections):
    question = some_vectors(numpy.random.default_rng(11), 2)
    question[1, 3] = numpy.inf
    with pytest.raises(AssertionError, match="element"):
        reader.search("page", question)
    with pytest.raises(AssertionError, match="0 vectors"):
        reader.search("page", question[:0])


def test_many_pages_are_searched_by_those_that_are_near(reader, chroma, collections):
    """More than are all scored. A question about a page's first patch has to find it."""
    generator = numpy.random.default_rng(12)
    documents = []
    for i in range(12):
        one = Document(f"{i}.pdf", pages={page + 1: some_vectors(generator, 6)
                                          for page in range(75)})
        documents.append(one)
        collections.add_rows(collections.visual, [one.page_row(page) for page in one.pages])
    ours = "cd" * 32  # and as many of docusearch's own, nearer than any
    near = documents[3].pages[41]
    chroma.add("visual_collection", {
        f"{ours}-page{i:03d}": (unit(near[:1] + 0.01 * some_vectors(generator, 1))[0],
                                {"doc_id": ours, "page": i, "type": "visual"})
        for i in range(1, 300)})
    assert reader.ask("facts") == {"documents": 12, "pages": 900, "chunks": 0}
    question = unit(near[[0, 2, 3, 5]] + 0.02 * some_vectors(generator, 4))
    wanted = expected(documents, "page", question)
    assert wanted[0][:2] == (documents[3].doc_id, 41)
    check(reader.search("page", question)["hits"], wanted)
    scores = {hit[:2]: hit[2] for hit in wanted}
    for odd in (False, True):
        said = reader.search("page", question, limit=10, exact=False, odd=odd)
        assert said["scanned"] == (456 if odd else 900)
        assert said["scored"] == 200
        assert said["hits"][0][:2] == [documents[3].doc_id, 41]
        for doc_id, item, score in said["hits"]:
            assert score == pytest.approx(scores[doc_id, item], rel=1e-5)
            assert item % 2 == 1 or not odd
        order = [score for *_, score in said["hits"]]
        assert order == sorted(order, reverse=True)


def test_what_comes_and_goes_is_seen(reader, collections, chroma):
    first, second = some_documents(13, 2)
    collections.add(first)
    question = some_vectors(numpy.random.default_rng(14), 4)
    check(reader.search("page", question)["hits"], expected([first], "page", question))
    collections.add(second)
    collections.remove(first)
    import time
    time.sleep(5.1)  # it is asked again after five seconds
    check(reader.search("page", question)["hits"], expected([second], "page", question))
    # The collection is another one now: said once, and looked for again.
    collections.client.delete_collection("visual_collection")
    remade = Collections(chroma.port)
    remade.add(first)
    said = reader.ask("item", second.doc_id, "page", 1, reader.folder / "item")
    assert said["code"] == "backend_unavailable"
    check(reader.search("page", question)["hits"], expected([first], "page", question))


def test_a_server_that_is_down_is_said(tmp_path):
    import programs
    reader = Reader(f"http://127.0.0.1:{programs.free_port()}", tmp_path)
    assert reader.ask("facts")["code"] == "backend_unavailable"
    assert reader.ask("list")["code"] == "backend_unavailable"
    reader.close()
