"""What lies in ChromaDB of a document, and what each worker says of it, come apart: by jobs that
were cancelled or failed, by rows that somebody deleted by hand."""

import pytest

from proxy import Proxy
from test_embedding_pipeline import models, pages_of, search, serve, text_of  # noqa: F401
from test_shared import (PAGES, PASSAGES, everywhere, known, settled, store, until,
                         worker)  # noqa: F401


# ---- cancelled before it was shared ------------------------------------------------------------


@pytest.fixture
def cancelled(worker, chroma):  # noqa: F811
    """A server, a document's bytes and its id: read, and cancelled while it waited."""
    server = worker()
    settled(server)
    chroma.stop()
    until(lambda: not store(server)["reachable"])
    data = pages_of("cancelled", 1)
    sent = server.upload(data, "cancelled.txt").json["documents"][0]
    until(lambda: server.get(f"/jobs/{sent['job_id']}").json["retrying"], what="a job that waits")
    assert server.request("POST", f"/jobs/{sent['job_id']}/cancel").status == 200
    chroma.start()
    until(lambda: store(server)["reachable"], what="the store")
    return server, data, sent["doc_id"]


def test_a_cancelled_document_is_not_waited_for(cancelled):
    server, _, doc_id = cancelled
    assert store(server)["documents"]["waiting"] == 0
    assert search(server, "heron", "visual")["stages"]["visual"].get("note") is None
    assert known(server)[doc_id]["status"] == "failed"


def test_a_cancelled_document_is_uploaded_again(cancelled):
    server, data, doc_id = cancelled
    again = server.upload(data, "cancelled.txt")
    assert again.status == 202 and again.json["documents"][0]["known"] is False
    assert server.wait_job(again.json["documents"][0]["job_id"])["state"] == "completed"
    assert everywhere(server, doc_id, text_of("cancelledx0"))
    assert server.upload(data, "cancelled.txt").json["documents"][0]["known"] is True


def test_a_cancelled_document_is_processed_again(cancelled):
    server, data, doc_id = cancelled
    uploads = server.data_dir / "uploads"
    uploads.mkdir(exist_ok=True)
    (uploads / "again.txt").write_bytes(data)
    asked = server.request("POST", "/process", {"file_path": str(uploads / "again.txt"),
                                                "filename": "again.txt"})
    assert asked.status in (200, 202), asked.body
    until(lambda: known(server)[doc_id]["status"] == "completed", what="the reading")
    assert everywhere(server, doc_id, text_of("cancelledx0"))


def test_a_cancelled_document_is_dropped_into_the_folder_again(cancelled):
    server, data, doc_id = cancelled
    (server.data_dir / "uploads" / "dropped.txt").write_bytes(data)
    until(lambda: known(server)[doc_id]["status"] == "completed", 60, what="the reading")
    assert everywhere(server, doc_id, text_of("cancelledx0"))


# ---- another worker's copy, where nothing came of the own --------------------------------------


def keeps_nothing(server, doc_id):
    return not [path for path in (server.data_dir / "documents").rglob("*") if doc_id in path.name]


def is_theirs(server, doc_id, other, seed):
    """It is the other worker's there, found, and without files here."""
    entry = until(lambda: known(server).get(doc_id, {}).get("worker") and known(server)[doc_id],
                  what="the other worker's copy")
    assert entry["status"] == "completed" and entry["worker"] == store(other)["worker"]
    assert everywhere(server, doc_id, text_of(f"{seed}x0"))
    assert keeps_nothing(server, doc_id)
    facts = store(server)["documents"]
    assert (facts["own"], facts["mirrored"], facts["waiting"]) == (0, 1, 0)


@pytest.mark.parametrize("read", [False, True], ids=["before-it-was-read", "before-it-was-shared"])
def test_a_cancelled_document_gives_way_to_another_workers(worker, chroma, read):  # noqa: F811
    """read: it was, and its job waits for ChromaDB; else its job waits for another."""
    there = worker("there")
    with Proxy(chroma.port) as proxy:
        here = worker("here", CHROMA_PORT=str(proxy.port))
        settled(here)
        proxy.refuse()
        until(lambda: not store(here)["reachable"])
        data = pages_of("twice", 2)
        sent = here.upload(data, "twice.txt").json["documents"][0]
        if read:
            until(lambda: here.get(f"/jobs/{sent['job_id']}").json["retrying"], what="waiting")
        assert here.request("POST", f"/jobs/{sent['job_id']}/cancel").status == 200
        until(lambda: here.get(f"/jobs/{sent['job_id']}").json["state"] == "cancelled")
        proxy.listen()
        there.read(data, "twice.txt")
        is_theirs(here, sent["doc_id"], there, "twice")
        # Its bytes come again: it is this folder's, and read.
        job, document = here.read(data, "twice.txt")
        assert job["state"] == "completed" and not known(here)[sent["doc_id"]].get("worker")
        assert everywhere(here, sent["doc_id"], text_of("twicex0"))
        assert there.request("DELETE", f"/documents/{sent['doc_id']}").status == 200
        until(lambda: sent["doc_id"] not in known(here), what="the removal")


def test_a_failed_document_gives_way_to_another_workers(worker):  # noqa: F811
    there, here = worker("there"), worker("here", MAX_PAGES="1")
    data = pages_of("long", 2)
    sent = here.upload(data, "long.txt").json["documents"][0]
    assert here.wait_job(sent["job_id"])["state"] == "failed"
    there.read(data, "long.txt")
    is_theirs(here, sent["doc_id"], there, "long")


def test_an_own_document_does_not_give_way(worker):  # noqa: F811
    there, here = worker("there"), worker("here")
    data = pages_of("both", 2)
    _, document = here.read(data, "both.txt")
    there.read(data, "both.txt")
    settled(there)
    here.stop()
    here = worker("here")
    settled(here)
    assert not known(here)[document["doc_id"]].get("worker")
    assert not keeps_nothing(here, document["doc_id"])


# ---- rows that somebody deleted -----------------------------------------------------------------


def delete(chroma, collection, **which):
    """where, or ids."""
    chroma.call("POST", f"/collections/{chroma.uuid(collection)}/delete", which)


def counted(server, chroma):
    """How many rows each collection has, once the server knows it too."""
    until(lambda: {one["name"]: one["rows"] for one in store(server)["collections"]}
          == chroma.counts(), 60, what="the rows counted")
    return chroma.counts()


def delete_all(chroma):
    for name in chroma.counts():
        ids = list(chroma.metadata(name))
        if ids:
            delete(chroma, name, ids=ids)
    assert set(chroma.counts().values()) == {0}


def read_some(server, name, n=3):
    return {server.read(pages_of(f"{name}{i}", 1 + i), f"{name}{i}.txt")[1]["doc_id"]: f"{name}{i}"
            for i in range(n)}


def all_found(server, documents):
    return all(everywhere(server, doc_id, text_of(f"{seed}x0"))
               for doc_id, seed in documents.items())


def test_deleted_documents_are_put_again(worker, chroma):  # noqa: F811
    """By every worker its own; until then the others say that they are missing."""
    here, there = worker("here"), worker("there")
    mine, theirs = read_some(here, "mine"), read_some(there, "theirs", 2)
    for server in (here, there):
        settled(server)
        until(lambda: len(known(server)) == 5, what="all documents")
    before = counted(here, chroma)
    there.stop()
    delete_all(chroma)
    until(lambda: store(here)["documents"]["missing"] == 2, 120, what="what is missing")
    until(lambda: len(chroma.metadata(f"{PAGES}-documents")) == 3, what="the own ones")
    settled(here)
    assert all_found(here, mine)
    note = search(here, "heron", "visual")["stages"]["visual"]["note"]
    assert note == "2 documents are not in ChromaDB yet"
    there = worker("there")
    until(lambda: chroma.counts() == before, 60, what="all rows")
    until(lambda: store(here)["documents"]["missing"] == 0, what="nothing missing")
    for server in (here, there):
        settled(server)
        assert all_found(server, {**mine, **theirs})


def test_documents_deleted_while_the_worker_was_away(worker, chroma):  # noqa: F811
    server = worker()
    documents = read_some(server, "away", 2)
    settled(server)
    before = chroma.counts()
    server.stop()
    delete_all(chroma)
    server = worker()
    until(lambda: chroma.counts() == before, what="all rows")
    settled(server)
    assert all_found(server, documents)


@pytest.mark.parametrize("collection", [f"{PAGES}-tokens", PASSAGES])
def test_rows_of_one_collection_are_put_again(worker, chroma, collection):  # noqa: F811
    """Seen by the number of rows: the record stands."""
    server = worker()
    documents = read_some(server, "rows", 4)
    settled(server)
    before = counted(server, chroma)
    doc_id = list(documents)[2]
    delete(chroma, collection, where={"doc_id": doc_id})
    assert chroma.counts()[collection] < before[collection]
    until(lambda: chroma.counts() == before, 180, what="all rows")
    assert all_found(server, documents)


def test_missing_rows_are_found_after_a_start(worker, chroma):  # noqa: F811
    server = worker()
    documents = read_some(server, "start", 2)
    settled(server)
    before = chroma.counts()
    server.stop()
    delete(chroma, f"{PAGES}-vectors", where={"doc_id": list(documents)[1]})
    server = worker()
    until(lambda: chroma.counts() == before, 180, what="all rows")
    settled(server)
    assert all_found(server, documents)
