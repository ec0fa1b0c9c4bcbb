"""All of it for real, and all of it killed: Copyparty before a worker that keeps its vectors in
ChromaDB. Whatever was answered is there exactly once in the end, and nothing that was removed is."""

import hashlib
import http.client
import os
import random
import re
import shutil
import signal
import threading
import time

import pytest

import inputs_pdf as pdfs
from inputs import A, R, XML, content_types, docx, relationships, zipped
from programs import free_port
from running import PROGRAM, ROOT, SLOW
from test_embedding_pipeline import health, models, search, serve, text_of  # noqa: F401
from test_shared import MODES, PAGES, PASSAGES, everywhere, known, nowhere, settled, store, until

TOKENS, CODES, RECORDS = f"{PAGES}-tokens", f"{PAGES}-vectors", f"{PAGES}-documents"
ALL = (PAGES, TOKENS, CODES, PASSAGES, RECORDS)
TOKENS_A_PAGE = 32
STILL_MS = "1500"   # how long a file stands still before the watch takes it
NATURAL_S = 8       # how long ChromaDB is killed in the hope of damage
MAY_BE_MISSING = re.compile(r"(\d+) documents? (?:is|are) not in ChromaDB yet")


def in_lines(text):
    words = text.split()
    return "\n".join(" ".join(words[i:i + 6]) for i in range(0, len(words), 6))


def pptx(*texts):
    """A slide a text."""
    names = (f'xmlns:a="{A}" xmlns:r="{R}" '
             'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"')
    slides = {f"slide{i}": text for i, text in enumerate(texts, 1)}
    listed = "".join(f'<p:sldId id="{256 + i}" r:id="{name}"/>' for i, name in enumerate(slides))
    parts = {
        "[Content_Types].xml": content_types(
            ("/ppt/presentation.xml", "presentationml.presentation.main"),
            *[(f"/ppt/slides/{name}.xml", "presentationml.slide") for name in slides]),
        "_rels/.rels": relationships(("rId1", "officeDocument", "ppt/presentation.xml", False)),
        "ppt/presentation.xml": f'{XML}<p:presentation {names}><p:sldIdLst>{listed}</p:sldIdLst>'
                                '<p:sldSz cx="9144000" cy="6858000"/></p:presentation>',
        "ppt/_rels/presentation.xml.rels": relationships(
            *[(name, "slide", f"slides/{name}.xml", False) for name in slides]),
    }
    for name, text in slides.items():
        parts[f"ppt/slides/{name}.xml"] = (
            f'{XML}<p:sld {names}><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id="1" name=""/>'
            '<p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/><p:sp><p:nvSpPr>'
            '<p:cNvPr id="2" name="text"/><p:cNvSpPr txBox="1"/><p:nvPr/></p:nvSpPr><p:spPr>'
            '<a:xfrm><a:off x="500000" y="500000"/><a:ext cx="8000000" cy="3000000"/></a:xfrm>'
            '<a:prstGeom prst="rect"><a:avLst/></a:prstGeom></p:spPr><p:txBody><a:bodyPr/><a:p>'
            f'<a:r><a:rPr lang="en" sz="2000"/><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>'
            '</p:spTree></p:cSld></p:sld>')
    return zipped(parts)


MAKERS = {"pdf": lambda texts: pdfs.good(*map(in_lines, texts)), "docx": lambda texts: docx(*texts),
          "pptx": lambda texts: pptx(*texts)}


class Document:
    """What is uploaded: its words are its own."""

    def __init__(self, seed, kind="pdf", n_pages=2):
        self.name = f"{seed}.{kind}"
        texts = [text_of(f"{seed}x{page}").strip() for page in range(n_pages)]
        self.query = texts[-1]
        self.pages = 1 if kind == "docx" else n_pages
        self.data = MAKERS[kind](texts)
        self.doc_id = hashlib.sha256(self.data).hexdigest()


class House:
    """Copyparty, as deploy/copyparty.conf has it, a ChromaDB server and a worker, of one folder."""

    def __init__(self, folder, chroma, serve, start_copyparty):  # noqa: F811
        self.chroma = chroma
        self.serve = serve
        self.files = folder / "files"
        (folder / "bin").mkdir()
        (folder / "bin" / "docusearch").symlink_to(PROGRAM)
        given = (ROOT / "deploy" / "copyparty.conf").read_text()
        config = folder / "copyparty.conf"
        config.write_text(given.replace("/var/lib/docusearch/uploads", str(self.files)))
        self.port = free_port()
        self.start_worker()
        self.party = start_copyparty(config=config, files=self.files, env={
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "WORKER_PORT": str(self.port)})
        self.there = {}     # doc_id -> Document: uploads that were answered, and not removed since
        self.removed = {}
        self.unheard = []   # names of what the worker may never have heard of

    def start_worker(self):
        self.worker = self.serve(visual="colpali-merged", UPLOADS_DIR=str(self.files),
                                 WORKER_PORT=str(self.port), DOCUSEARCH_STILL_MS=STILL_MS,
                                 **self.chroma.settings)

    def upload(self, document, form=False):
        if form:
            self.party.post(document.name, document.data)
        else:
            self.party.put(document.name, document.data)
        self.there[document.doc_id] = document
        return document

    def move(self, document, to):
        self.party.move(document.name, to)
        document.name = to

    def delete(self, document):
        del self.there[document.doc_id]
        self.removed[document.doc_id] = document
        self.party.delete(document.name)

    def rows(self, name, document):
        return self.chroma.metadata(name, {"doc_id": document.doc_id})

    def shows(self, document):
        entry = known(self.worker).get(document.doc_id)
        return entry and entry["status"] == "completed" and \
            entry["filename"] == os.path.basename(document.name)

    def found(self, document):
        return everywhere(self.worker, document.doc_id, document.query)

    def all_there(self, seconds=60):
        """Everything that was answered, under its last name, and nothing else."""
        def look():
            listed = known(self.worker)
            return set(listed) == set(self.there) and all(map(self.shows, self.there.values()))
        until(look, seconds, "all documents")
        settled(self.worker)


@pytest.fixture
def house(tmp_path, chroma, serve, start_copyparty):  # noqa: F811
    if b"DOCUSEARCH_STILL_MS" not in open(PROGRAM, "rb").read():
        pytest.skip("the program was built without -Dfault_points=true: files stand still for 10 s")
    if not shutil.which("soffice"):
        pytest.skip("soffice is not installed")
    return House(tmp_path, chroma, serve, start_copyparty)


# ---- searches meanwhile ------------------------------------------------------------------------


class Searches:
    """with Searches(house, documents): they are asked for all the while. Each was found before: an
    answer without it is wrong, unless it says that documents are missing; so is an error but 503.
    While the worker is down nothing is asked."""

    def __init__(self, house, documents):
        self.house = house
        self.documents = documents
        self.ending = threading.Event()
        self.counts = {"found": 0, "said": 0, "503": 0}
        self.wrong = []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def ask(self, document, mode, narrow):
        body = {"query": document.query, "search_mode": mode, "n_results": 100}
        if narrow:
            body["filters"] = {"doc_id": document.doc_id}
        try:
            reply = self.house.worker.request("POST", "/search", body)
        except (OSError, http.client.HTTPException):
            return None
        if reply.status == 503 and mode != "lexical":
            return "503"
        if reply.status != 200:
            return f"{reply.status} {reply.body}"
        if document.doc_id in [hit["doc_id"] for hit in reply.json["results"]]:
            return "found"
        stages = reply.json["stages"]
        if MAY_BE_MISSING.search(str(stages)) and mode != "lexical":
            return "said"
        return f"not found: {stages} {health(self.house.worker)['store']}"

    def run(self):
        choose = random.Random(5)
        while not self.ending.wait(0.02):
            document, mode = choose.choice(self.documents), choose.choice(MODES)
            narrow = choose.random() < 0.5
            server = self.house.worker
            said = self.ask(document, mode, narrow)
            if said in self.counts:
                self.counts[said] += 1
            elif said and server is self.house.worker and server.process.poll() is None:
                self.wrong.append(f"{time.strftime('%T')} {document.name} {mode}"
                                  f"{' narrow' * narrow}: {said}")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.ending.set()
        self.thread.join()
        print("searches meanwhile:", self.counts)
        if kind is None:
            assert not self.wrong, "\n".join(self.wrong[:20])
            assert self.counts["found"] > 0


# ---- damage ------------------------------------------------------------------------------------


def write_often(chroma):
    """The server's indexes are written after few rows, which leaves them damaged more easily when it
    is killed. The collections stay the same."""
    chroma.stop()
    with chroma.database() as db, db:
        for uuid, schema in db.execute("SELECT id, schema_str FROM collections").fetchall():
            db.execute("UPDATE collections SET schema_str = ? WHERE id = ?",
                       (re.sub(r'"sync_threshold":\d+', '"sync_threshold":20', schema), uuid))
    chroma.start()


def damage(chroma, name, how):
    """As it is asked, though the worker may end the server again as soon as it is up."""
    until(lambda: chroma.alive and chroma.up(), what="the server")
    try:
        chroma.damage(name, how)
    except (AssertionError, OSError, http.client.HTTPException):
        with chroma.turn:
            chroma.wanted = True


def kill_until_damaged(house):
    """What damaged it."""
    chroma, choose = house.chroma, random.Random(11)
    end, kills = time.monotonic() + NATURAL_S, 0
    while time.monotonic() < end:
        for i in range(2):
            house.upload(Document(f"killed{kills}-{i}", n_pages=3))
        until(lambda: store(house.worker)["reachable"], what="ChromaDB after a kill")
        if store(house.worker)["recovered"]:
            break
        time.sleep(choose.uniform(0, 0.5))
        chroma.kill()
        kills += 1
    until(lambda: chroma.alive and chroma.up() and store(house.worker)["reachable"],
          what="ChromaDB after the kills")
    if store(house.worker)["recovered"]:
        return f"by {kills} kills"
    damage(chroma, TOKENS, "crash")
    until(lambda: store(house.worker)["recovered"], what="a collection made anew")
    return f"on purpose, after {kills} kills that left none"


# ---- all of it ---------------------------------------------------------------------------------


def check_rows(house):
    """In each collection the rows that there must be, and no other; their vectors are found."""
    chroma, documents = house.chroma, list(house.there.values())
    listed = known(house.worker)
    expected = {PAGES: {f"{one.doc_id}-page{page:03}" for one in documents
                        for page in range(1, one.pages + 1)}}
    expected[CODES] = expected[PAGES]
    expected[TOKENS] = {f"{row}-t{token:02}" for row in expected[PAGES]
                        for token in range(TOKENS_A_PAGE)}
    expected[PASSAGES] = {
        f"{one.doc_id}-chunk{i:04}" for one in documents
        for i in range(house.worker.document(one.doc_id)["chunk_count"])}
    rows = {name: chroma.rows(name, vectors=name != RECORDS) for name in ALL}
    for name, ids in expected.items():
        assert set(rows[name]) == ids, name
        assert chroma.count(name) == len(ids), name
    for one in documents:
        assert listed[one.doc_id]["page_count"] == one.pages, one.name
        for name in (PAGES, PASSAGES):
            for row in house.rows(name, one).values():
                assert row["filename"] == os.path.basename(one.name), one.name
    records = {row_id: row["metadata"] for row_id, row in rows[RECORDS].items()}
    assert {row_id for row_id, row in records.items() if not row.get("removed")} == set(house.there)
    unheard = [one.name for doc_id, one in house.removed.items() if doc_id not in records]
    assert set(unheard) <= set(house.unheard), unheard
    choose = random.Random(3)
    for name in (PAGES, TOKENS, PASSAGES):
        for row_id in choose.sample(sorted(rows[name]), min(40, len(rows[name]))):
            near = chroma.query(name, rows[name][row_id]["embedding"], 10)
            assert near[0][1] < 1e-3, (name, row_id, near)


def check_pages(house, query):
    """Every page is an answer once, to a search of all and to searches of some documents each."""
    def ask(**more):
        results = search(house.worker, query, "visual", 100, **more)["results"]
        return sorted((hit["doc_id"], hit["page_num"]) for hit in results)

    documents = list(house.there.values())
    pages = sorted((one.doc_id, page) for one in documents for page in range(1, one.pages + 1))
    answers = ask()
    assert len(answers) == len(set(answers)) == min(len(pages), 100) and set(answers) <= set(pages)
    narrow = [page for i in range(0, len(documents), 20)
              for page in ask(filters={"doc_id": [one.doc_id for one in documents[i:i + 20]]})]
    assert sorted(narrow) == pages


def check_end(house):
    house.all_there()
    for document in house.there.values():
        for mode in MODES:
            results = search(house.worker, document.query, mode, filters={
                "doc_id": document.doc_id})["results"]
            assert {hit["doc_id"] for hit in results} == {document.doc_id}, (document.name, mode)
    for document in house.removed.values():
        assert nowhere(house.worker, document.doc_id, document.query), document.name
        assert house.worker.get(f"/documents/{document.doc_id}").status == 404
    check_pages(house, "heron lantern")
    check_rows(house)
    facts = health(house.worker)
    assert facts["status"] == "healthy", facts["store"]
    assert facts["store"]["documents"]["waiting"] == facts["store"]["documents"]["refused"] == 0
    assert facts["documents"]["pages"] == sum(one.pages for one in house.there.values())


def test_all_of_it(house):
    chroma, worker = house.chroma, house.worker
    # Uploaded by PUT and by a form; found.
    kinds = ("pdf", "docx", "pptx", "pdf", "docx", "pdf")
    first = [house.upload(Document(f"first{i}", kind), form=i % 2)
             for i, kind in enumerate(kinds)]
    house.all_there()
    for document in first:
        assert house.found(document), document.name
    with Searches(house, first[:3]):
        # Renamed, and moved to another folder.
        house.party.make_folder("archive")
        house.move(first[0], "renamed.pdf")
        house.move(first[1], "archive/moved.docx")
        for document in first[:2]:
            until(lambda document=document: house.shows(document), what="the new name")
        assert len(known(worker)) == len(first)
        settled(worker)
        for document in first[:2]:
            assert house.found(document)
            for name in (PAGES, PASSAGES, RECORDS):
                until(lambda name=name, document=document: {
                    row["filename"] for row in house.rows(name, document).values()} == {
                        os.path.basename(document.name)}, what=f"the new name in {name}")
            assert len(house.rows(PAGES, document)) == document.pages
        # Deleted: of each kind one.
        for document in first[3:5]:
            house.delete(document)
        until(lambda: set(known(worker)) == set(house.there), what="the removals")
        settled(worker)
        for document in house.removed.values():
            assert nowhere(worker, document.doc_id, document.query)
            assert not any(house.rows(name, document) for name in (PAGES, TOKENS, CODES, PASSAGES))
        # The worker is killed with uploads in flight, some after it is.
        flying = [Document(f"flying{i}", "docx" if i == 3 else "pdf") for i in range(10)]
        for i, document in enumerate(flying):
            if i == 6:
                worker.stop(signal.SIGKILL)
                house.delete(flying[0])  # whether or not the worker had heard of it
                house.unheard.append(flying[0].name)
            house.upload(document)
        house.start_worker()
        house.all_there()
        # ChromaDB is stopped in the midst of a batch, and comes back.
        before = chroma.count(PAGES)
        for i in range(6):
            house.upload(Document(f"stopped{i}", n_pages=3))
        until(lambda: chroma.count(PAGES) > before, what="the first of the batch")
        chroma.stop()
        for i in range(6, 9):
            house.upload(Document(f"stopped{i}", "pptx" if i == 6 else "pdf"))
        until(lambda: not store(house.worker)["reachable"], what="the loss")
        house.delete(flying[1])
        assert house.worker.get("/search", query="heron", search_mode="visual").status == 503
        write_often(chroma)
        house.all_there()
        # It is killed during writes, until a collection is damaged.
        with chroma.supervise():
            how = kill_until_damaged(house)
            house.delete(flying[2])
            house.all_there()
            facts = store(house.worker)
            print("damage:", how)
            assert facts["recovered"] >= 1
            assert "was damaged and is made anew" in house.worker.log
            until(lambda: set(chroma.collections()) == set(ALL), what="no collection put aside")
    check_end(house)


def test_searches_while_collections_are_damaged(house):
    """No answer is wrong, whatever became of which collection, nor where all of them are gone."""
    chroma = house.chroma
    documents = [house.upload(Document(f"kept{i}", n_pages=3)) for i in range(4)]
    house.all_there()
    for document in documents:
        assert house.found(document), document.name
    recovered = 0
    with chroma.supervise(), Searches(house, documents):
        for name, how in ((TOKENS, "lost"), (PASSAGES, "crash"), (CODES, "lost"),
                          (RECORDS, "error")):
            uuid = chroma.uuid(name)
            damage(chroma, name, how)
            until(lambda: store(house.worker)["recovered"] > recovered, what=f"{name} made anew")
            recovered = store(house.worker)["recovered"]
            house.all_there()
            assert chroma.uuid(name) != uuid
        chroma.stop()
        shutil.rmtree(chroma.data)
        chroma.start()
        until(lambda: set(chroma.collections()) == set(ALL) and
              chroma.count(PAGES) == sum(document.pages for document in documents),
              what="all of it anew")
        house.all_there()
    check_end(house)
