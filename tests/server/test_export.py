"""Export and import: the same answers after a round trip, whatever goes on meanwhile, whatever kills
it, and nothing from a damaged export. Small random models: what they rank means nothing, but it is
theirs."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from chroma_server import ChromaServer
from running import PROGRAM, SLOW, Running, environment
from test_embedding_pipeline import (LOST, drained, health, models, needs_fault_points, pages_of,
                                     search, serve, space, text_of)
from test_faults import small_disk

__all__ = ["models", "serve", "small_disk"]  # fixtures

QUERIES = ["a lantern in the harbor", "velvet canyon", '"copper meadow"', "thunder -pepper",
           "number3", "win*"]


def command(env, *arguments, **more):
    return subprocess.run([PROGRAM, *arguments], env={**env, **more}, capture_output=True, text=True,
                          timeout=180 * SLOW)


def export(server, folder, **more):
    done = command(server.env, "export", str(folder), "--json", **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def import_(server, folder, **more):
    done = command(server.env, "import", str(folder), "--json", **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fill(server, n, n_pages=3, first=0):
    """n documents of n_pages pages each; ids by name. Two have the same words, and so the same
    scores: only their order says which comes first."""
    ids = {}
    for i in range(first, first + n):
        data = pages_of(i, n_pages) if i % 5 else pages_of("twin", n_pages) + b"\f" + b" " * i + b"x"
        ids[f"{i}.txt"] = server.upload(data, f"{i}.txt").json["documents"][0]["doc_id"]
    drained(server)
    return ids


def answers(server, modes=("hybrid", "visual", "text", "lexical")):
    """What a server says of all it has, but for times of asking and jobs."""
    found = {}
    for mode in modes:
        for query in QUERIES:
            for exact in (False, True):
                reply = search(server, query, mode, 50, exact=exact)
                found[mode, query, exact] = (reply["total_results"], reply["results"])
    listed = server.get("/documents", limit=100, sort_by="oldest_first").json
    found["list"] = listed["documents"]
    for entry in listed["documents"]:
        doc_id = entry["doc_id"]
        whole = server.document(doc_id)
        whole.pop("job", None)
        found["document", doc_id] = whole
        for path in ("original", "markdown", "json"):
            found[path, doc_id] = server.get(f"/documents/{doc_id}/{path}").body
        for page in range(1, len(whole["pages"]) + 1):
            at = f"/documents/{doc_id}/pages/{page}"
            found[at] = [server.get(at).json, server.get(at + ".jpg").body,
                         server.get(at + "_thumb.jpg").body]
    return found


def heat(server, ids):
    """Heat maps and similarities of the documents' first pages."""
    found = {}
    for doc_id in ids:
        at = f"/documents/{doc_id}/pages/1"
        picture = server.get(at + "/heatmap.png", query="velvet canyon")
        why = server.get(at + "/explain", query="velvet canyon")
        assert (picture.status, why.status) == (200, 200), why.body
        found[doc_id] = (picture.body, why.json)
    return found


def same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert other[key] == value, key


def tree(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()}


def counts(server):
    facts = health(server)["documents"]
    return facts["total"] if "total" in facts else facts["ready"]


def no_models(tmp_path, name="data", **more):
    """The settings of a folder that no server needs to run on."""
    return environment(tmp_path / name, MODEL_NAME="none", TEXT_MODEL="none", **more)


# ---- round trips --------------------------------------------------------------------------------


def test_a_round_trip_gives_the_same_answers(serve, tmp_path):
    server = serve(visual="colpali-merged", WORKER_THREADS="4")
    ids = fill(server, 16)
    before, warmth = answers(server), heat(server, list(ids.values())[:4])
    done = export(server, tmp_path / "export")
    assert (done["documents"], done["documents_left_out"], done["items_damaged"]) == (16, 0, 0)
    items = {entry["name"]: entry["items"] for entry in health(server)["vector_spaces"]}
    assert done["items_with_vectors"] == sum(items.values()) > 16 * 3
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"],
                   cwd=tmp_path / "export", check=True)
    server.stop()
    other = serve(visual="colpali-merged", name="other")
    state = import_(other, tmp_path / "export")
    assert (state["documents_imported"], state["documents_known"]) == (16, 0)
    assert state["items_with_vectors"] == done["items_with_vectors"]
    assert state["documents_queued"] == state["documents_without_vectors"] == 0
    assert other.get("/jobs").json["total"] == 0  # nothing is read or embedded again
    same(before, answers(other))
    same(warmth, heat(other, warmth))
    assert items == {entry["name"]: entry["items"] for entry in health(other)["vector_spaces"]}
    # And so after a start, and of an export of the import.
    other.stop()
    other = serve(visual="colpali-merged", name="other")
    same(before, answers(other))
    export(other, tmp_path / "again")
    other.stop()
    third = serve(visual="colpali-merged", name="third")
    import_(third, tmp_path / "again")
    same(before, answers(third))
    third.stop()
    check = command(third.env, "check", "--json")
    damaged = [f for f in json.loads(check.stdout)["findings"] if f["what"] == "vectors"]
    assert [f["verdict"] for f in damaged] == ["ok"], damaged


def test_without_a_server(tmp_path, serve):
    server = serve(text="colbert")
    fill(server, 4)
    before = answers(server, ("text", "lexical"))
    server.stop(signal.SIGKILL)  # what it wrote lies in the log of the database, too
    done = command(server.env, "export", str(tmp_path / "export"))
    assert done.returncode == 0 and "exported 4 documents" in done.stdout, done.stderr
    other = {**server.env, "DATA_DIR": str(tmp_path / "other")}
    done = command(other, "import", str(tmp_path / "export"))
    assert done.returncode == 0 and "imported 4 documents" in done.stdout, done.stderr
    same(before, answers(serve(text="colbert", name="other"), ("text", "lexical")))


def test_codes_of_other_settings_come_as_they_are(serve, tmp_path):
    """The folder's segments are of two kinds; the importing one makes a third."""
    kind = {"INDEX_POOL_FACTOR": "8", "INDEX_CODE_BITS": "4"}
    server = serve(text="none", visual="colpali-merged", INDEX_FULL_VECTORS="false")
    fill(server, 5)
    server.stop()
    server = serve(text="none", visual="colpali-merged", **kind)
    fill(server, 5, first=5)
    modes = ("visual", "lexical")
    before = answers(server, modes)
    export(server, tmp_path / "export")
    other = serve(text="none", visual="colpali-merged", name="other")
    mine = fill(other, 3, first=20)
    assert import_(other, tmp_path / "export")["documents_imported"] == 10
    more = fill(other, 3, first=30)
    assert space(other, "visual")["items"] == sum(
        len(entry["pages"]) for entry in map(other.document, [
            entry["doc_id"] for entry in other.get("/documents", limit=100).json["documents"]]))
    for doc_id in [*mine.values(), *more.values()]:
        assert other.request("DELETE", f"/documents/{doc_id}").status == 200
    same(before, answers(other, modes))
    other.stop()
    same(before, answers(serve(text="none", visual="colpali-merged", name="other"), modes))


def test_what_is_not_read_comes_too(serve, tmp_path):
    server = serve(text="none", WORKER_THREADS="1")
    fill(server, 2)
    bad = server.upload(b"%PDF-1.4 nothing of a file", "bad.pdf").json["documents"][0]["doc_id"]
    drained(server)
    failed = server.document(bad)
    assert failed["status"] == "failed"
    server.stop()
    waits = fault_build()  # a document whose job is not exported, but made again
    if waits:
        server = serve(text="none", DOCUSEARCH_FAULT="parsed:kill")
        with contextlib.suppress(*LOST):
            server.upload(text_of("late").encode(), "late.txt")
        server.process.wait(30 * SLOW)
    assert export(server, tmp_path / "export")["documents"] == 3 + waits
    other = serve(text="none", name="other")
    assert import_(other, tmp_path / "export")["documents_queued"] == waits
    drained(other)
    again = other.document(bad)
    assert again["status"] == "failed" and again["error"] == failed["error"]
    if waits:
        assert [hit["filename"] for hit in other.search("numberlate")] == ["late.txt"]
        assert [job["state"] for job in other.get("/jobs").json["jobs"]] == ["completed"]


def fault_build():
    try:
        needs_fault_points()
    except pytest.skip.Exception:
        return False
    return True


# ---- while others write -------------------------------------------------------------------------


def test_consistent_while_uploads_and_removals_go_on(serve, tmp_path):
    """Documents come in pairs, the second after the first, and go in pairs, the second before the
    first: at every moment the second's being there means that the first is."""
    server = serve(WORKER_THREADS="2")
    fill(server, 30, 6)
    ended = threading.Event()
    wrong = []

    def write(thread):
        pairs, i = [], 0
        try:
            while not ended.is_set():
                i += 1
                pair = [server.upload(f"pair {thread} {i} {part}".encode() * 40,
                                      f"pair-{thread}-{i}-{part}.txt").json["documents"][0]["doc_id"]
                        for part in "ab"]
                pairs.append(pair)
                if len(pairs) > 2:
                    for doc_id in reversed(pairs.pop(0)):
                        assert server.request("DELETE", f"/documents/{doc_id}").status == 200
        except Exception as error:  # the test's own thread tells of it
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(4):
            folder = tmp_path / "export"
            if n == 2:
                shutil.rmtree(folder)
            assert export(server, folder)["documents_left_out"] == 0
            with sqlite3.connect(f"file:{folder}/docusearch.db?mode=ro", uri=True) as db:
                names = {name for name, in db.execute("SELECT filename FROM documents")}
                ids = {doc_id for doc_id, in db.execute("SELECT doc_id FROM documents")}
            for name in names:
                if name.startswith("pair") and name.endswith("b.txt"):
                    assert name.replace("b.txt", "a.txt") in names, name
            assert len(names) >= 30
            assert ids == {path.name for path in (folder / "documents").glob("*/*")}
            for doc_id in ids:
                data = (folder / "documents" / doc_id[:2] / doc_id / "original").read_bytes()
                assert hashlib.sha256(data).hexdigest() == doc_id
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong
    server.stop()
    other = serve(name="other")
    state = import_(other, tmp_path / "export")
    assert state["documents_imported"] == len(ids)
    drained(other)
    listed = {entry["doc_id"] for entry in other.get("/documents", limit=100).json["documents"]}
    assert listed == ids


def test_an_import_while_uploads_go_on(serve, tmp_path):
    server = serve()
    ids = fill(server, 12)
    export(server, tmp_path / "export")
    server.stop()
    other = serve(name="other")
    half = [(i, pages_of(i, 3)) for i in (1, 2, 3, 4, 6, 7)]
    ended = threading.Event()

    def write():
        while not ended.is_set():  # the same documents come, and go, on another way
            for i, data in half:
                doc_id = other.upload(data, f"{i}.txt").json["documents"][0]["doc_id"]
                if i % 2:
                    other.request("DELETE", f"/documents/{doc_id}")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            import_(other, tmp_path / "export")
    finally:
        ended.set()
        thread.join()
    state = import_(other, tmp_path / "export")
    assert state["documents_known"] + state["documents_imported"] == 12
    drained(other)
    facts = health(other)
    assert counts(other) == 12
    assert space(other, "text")["items"] == facts["documents"]["chunks"]
    for doc_id in ids.values():
        assert other.document(doc_id)["status"] == "completed"
        assert other.get(f"/documents/{doc_id}/original").status == 200
        assert other.get(f"/documents/{doc_id}/pages/1.jpg").status == 200


# ---- where there is something already -----------------------------------------------------------


def test_documents_that_are_there_stay(serve, tmp_path):
    server = serve()
    ids = fill(server, 6)
    export(server, tmp_path / "export")
    server.stop()
    other = serve(name="other")
    mine = other.read(pages_of(1, 3), "my own name.txt")[1]
    only = other.read(b"only here", "only.txt")[1]
    state = import_(other, tmp_path / "export")
    assert (state["documents_imported"], state["documents_known"]) == (5, 1)
    assert other.document(ids["1.txt"]) == mine and other.document(only["doc_id"]) == only
    state = import_(other, tmp_path / "export")
    assert (state["documents_imported"], state["documents_known"]) == (0, 6)
    assert counts(other) == 7


def test_sources_of_others_stay_theirs(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.txt"
    path.write_text("the first words\n")
    one, two = no_models(tmp_path, "one"), no_models(tmp_path, "two")
    assert command(one, "add", str(path)).returncode == 0
    assert command(one, "export", str(tmp_path / "export")).returncode == 0
    path.write_text("other words\n")
    assert command(two, "add", str(path)).returncode == 0
    assert command(two, "import", str(tmp_path / "export")).returncode == 0
    listed = json.loads(command(two, "list", "--json").stdout)
    assert listed["total"] == 2
    with sqlite3.connect(tmp_path / "two" / "docusearch.db") as db:
        rows = dict(db.execute("SELECT path, doc_id FROM sources JOIN documents USING (doc_no)"))
    other = hashlib.sha256(b"other words\n").hexdigest()
    first = hashlib.sha256(b"the first words\n").hexdigest()
    assert rows == {str(path): other, f"upload:{first}": first}


# ---- brought up to date -------------------------------------------------------------------------


def test_an_export_is_brought_up_to_date(serve, tmp_path):
    server = serve()
    ids = fill(server, 6)
    folder = tmp_path / "export"
    first = export(server, folder)
    assert first["linked"]
    inside = folder / "documents" / ids["1.txt"][:2] / ids["1.txt"] / "original"
    data = server.data_dir / inside.relative_to(folder)
    assert inside.stat().st_ino == data.stat().st_ino
    server.request("DELETE", f"/documents/{ids['1.txt']}")
    assert inside.exists()
    fill(server, 2, first=6)
    second = export(server, folder)
    assert second["documents"] == 7 and not inside.exists()
    assert second["files_kept"] > 0 and not list(tmp_path.glob("export.*"))
    before = answers(server, ("text", "lexical"))
    server.stop()
    other = serve(name="other")
    import_(other, folder)
    same(before, answers(other, ("text", "lexical")))


def test_onto_another_file_system(serve, tmp_path, small_disk):
    server = serve()
    fill(server, 5)
    folder = small_disk / "export"
    done = export(server, folder)
    assert not done["linked"] and done["files_kept"] == 0
    again = export(server, folder)
    assert again["files_kept"] >= again["files"] - 3  # database and vectors are written anew
    before = answers(server, ("text", "lexical"))
    server.stop()
    other = serve(name="other")
    import_(other, folder)
    same(before, answers(other, ("text", "lexical")))


def test_no_room_is_said_beforehand(serve, tmp_path, small_disk):
    server = serve(text="none")
    fill(server, 3)
    (small_disk / "ballast").write_bytes(bytes(275 << 20))
    done = command(server.env, "export", str(small_disk / "export"))
    assert done.returncode == 1 and "are needed" in done.stderr, done.stderr
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    (small_disk / "ballast").unlink()
    export(server, small_disk / "export")
    env = {**server.env, "DATA_DIR": str(small_disk / "other")}
    (small_disk / "ballast").write_bytes(bytes(40 << 20))  # leaves less than the reserve
    done = command(env, "import", str(small_disk / "export"))
    assert done.returncode == 1 and "reserve" in done.stderr, done.stderr


def test_one_export_at_a_time(serve, tmp_path):
    needs_fault_points()
    server = serve(text="none")
    fill(server, 2)
    folder = tmp_path / "export"
    first = subprocess.Popen([PROGRAM, "export", str(folder), "--quiet"],
                             env={**server.env, "DOCUSEARCH_FAULT": "export_copied:sleep"})
    deadline = time.monotonic() + 30 * SLOW
    while not (tmp_path / "export.partial" / "docusearch.db").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    done = command(server.env, "export", str(folder))
    assert done.returncode == 1 and "another export" in done.stderr
    assert (tmp_path / "export.partial" / "docusearch.db").exists()
    first.kill()
    first.wait()
    export(server, folder)


def test_a_folder_with_something_else_is_refused(tmp_path):
    env = no_models(tmp_path)
    (tmp_path / "a.txt").write_text("words\n")
    assert command(env, "add", str(tmp_path / "a.txt")).returncode == 0
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    done = command(env, "export", str(folder))
    assert done.returncode == 1 and "not empty" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["mine"]
    (folder / "mine").unlink()
    other = tmp_path / "export.partial"
    other.mkdir()
    (other / "mine").write_text("mine")
    done = command(env, "export", str(folder))
    assert done.returncode == 1 and "not empty" in done.stderr and (other / "mine").exists()
    shutil.rmtree(other)
    assert command(env, "export", str(folder) + "/").returncode == 0
    assert (folder / "export.json").exists()
    assert command(env, "export", str(tmp_path / "no" / "such")).returncode == 1
    assert command(env, "export").returncode == 2
    assert command(no_models(tmp_path, "nothing"), "export", str(tmp_path / "x")).returncode == 1
    assert not (tmp_path / "nothing").exists() or not (tmp_path / "x").exists()


def test_damaged_documents_are_named_and_left_out(serve, tmp_path):
    server = serve()
    ids = fill(server, 4)
    server.stop()
    data = server.data_dir / "documents" / ids["2.txt"][:2] / ids["2.txt"] / "original"
    data.write_bytes(b"other")
    done = command(server.env, "export", str(tmp_path / "export"), "--json", LOG_LEVEL="warn")
    assert done.returncode == 1 and ids["2.txt"] in done.stderr
    said = json.loads(done.stdout)
    assert (said["documents"], said["documents_left_out"]) == (3, 1)
    # A damaged vector is no reason to do without the document.
    [segment] = (server.data_dir / "vectors").rglob("*.seg")
    raw = bytearray(segment.read_bytes())
    raw[4096 + 4096 * 64 + 5] ^= 1
    segment.write_bytes(raw)
    done = command(server.env, "export", str(tmp_path / "second"), "--json")
    said = json.loads(done.stdout)
    assert (said["documents"], said["items_damaged"]) == (3, 1)
    other = serve(name="other")
    state = import_(other, tmp_path / "second")
    assert (state["documents_imported"], state["documents_without_vectors"]) == (3, 1)
    other.request("POST", "/reindex", {})
    drained(other)
    time.sleep(0.5)
    drained(other)
    assert space(other, "text")["items"] == health(other)["documents"]["chunks"]


# ---- damaged exports ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory, models):
    """An export of a few documents with vectors, not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    server = Running(folder / "data", TEXT_MODEL=str(models["sentence"]), MODEL_NAME="none",
                     MODEL_PRECISION="fp32", MODELS_DIR=str(folder / "models"))
    fill(server, 3)
    export(server, folder / "export")
    server.stop()
    return folder / "export"


def damage(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def replace(path, data):
    path.unlink()
    path.write_bytes(data)


DAMAGES = {
    "a bit of the database": lambda f: damage(f / "docusearch.db"),
    "a bit of the vectors": lambda f: damage(next((f / "vectors").iterdir())),
    "a bit of an original": lambda f: damage(next(f.rglob("original"))),
    "a picture is gone": lambda f: next(f.rglob("page-00001.jpg")).unlink(),
    "the database is cut": lambda f: os.truncate(f / "docusearch.db", 8192),
    "no head": lambda f: (f / "export.json").unlink(),
    "no sums": lambda f: (f / "SHA256SUMS").unlink(),
    "the sums are cut": lambda f: os.truncate(f / "SHA256SUMS",
                                              (f / "SHA256SUMS").stat().st_size // 2),
    "a line of the sums": lambda f: damage(f / "SHA256SUMS"),
    "the head is no json": lambda f: replace(f / "export.json", b"{"),
    "a link in place of a file": lambda f: swap_link(next(f.rglob("document.bin"))),
}


def swap_link(path):
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_export_is_refused(exported, tmp_path, how):
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    seen = tree(folder)
    DAMAGES[how](folder)
    env = no_models(tmp_path, "other")
    done = command(env, "import", str(folder))
    assert done.returncode == 1, done.stdout
    changed = {name for name, value in seen.items() if tree(folder).get(name) != value}
    named = [name for name in changed if os.path.basename(name) in done.stderr]
    assert named, done.stderr
    assert json.loads(command(env, "list", "--json").stdout)["total"] == 0
    assert not list((tmp_path / "other" / "tmp").iterdir())


def resum(folder, lines=None):
    """SHA256SUMS and export.json anew, of what lies there or of these lines."""
    if lines is None:
        lines = [f"{value}  {name}" for name, value in tree(folder).items()
                 if name not in ("SHA256SUMS", "export.json")]
    text = "".join(line + "\n" for line in lines).encode()
    head = json.loads((folder / "export.json").read_text())
    head.update(files=len(lines), sums=hashlib.sha256(text).hexdigest())
    replace(folder / "SHA256SUMS", text)
    replace(folder / "export.json", json.dumps(head).encode())


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "documents/../lock",
                                  "documents/aa/" + "a" * 64 + "/page-1.jpg", "vectors/01.items",
                                  "vectors/1.itemsx", "vectors/.items", "tmp/x", "documents/aa/"])
def test_no_path_leads_out_of_the_folder(exported, tmp_path, name):
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    resum(folder, sorted(lines + ["0" * 64 + "  " + name], key=lambda line: line[66:]))
    done = command(no_models(tmp_path, "other"), "import", str(folder))
    assert done.returncode == 1 and "none of an export" in done.stderr, done.stderr


def test_vectors_with_right_sums_are_still_looked_at(exported, tmp_path):
    """A hand that makes the sums anew makes no block whole."""
    env = no_models(tmp_path, "other")
    for at, words in ((8, "out of its place"), (24, "no block"), (70, "damaged"), (48, "no block")):
        folder = tmp_path / f"export{at}"
        shutil.copytree(exported, folder)
        [items] = (folder / "vectors").iterdir()
        raw = bytearray(items.read_bytes())
        first = int.from_bytes(raw[48:56], "little")
        raw[first + at] ^= 0xff
        replace(items, raw)
        resum(folder)
        done = command(env, "import", str(folder))
        assert done.returncode == 1 and ("vectors" in done.stderr or words in done.stderr), at


def test_a_newer_export_is_refused(exported, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    head = json.loads((folder / "export.json").read_text())
    replace(folder / "export.json", json.dumps({**head, "format": 2}).encode())
    done = command(no_models(tmp_path, "other"), "import", str(folder))
    assert done.returncode == 1 and "newer version" in done.stderr
    shutil.rmtree(folder)
    shutil.copytree(exported, folder)
    with contextlib.closing(sqlite3.connect(folder / "docusearch.db")) as db:
        db.execute("PRAGMA user_version=1000")
        db.commit()
    for left in folder.glob("docusearch.db-*"):
        left.unlink()
    resum(folder)
    done = command(no_models(tmp_path, "other"), "import", str(folder))
    assert done.returncode == 1 and "newer version" in done.stderr, done.stderr


# ---- killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["export_copied", "export_taken", "export_written",
                                   "export_swapping"])
def test_export_killed_at_each_step(serve, tmp_path, point):
    needs_fault_points()
    server = serve()
    fill(server, 4)
    folder = tmp_path / "export"
    whole = None
    if point == "export_swapping":  # there is something to take the place of
        export(server, folder)
        fill(server, 2, first=4)
    for _ in range(2):
        if folder.exists():
            whole = tree(folder)
        done = command(server.env, "export", str(folder), DOCUSEARCH_FAULT=f"{point}:kill")
        assert done.returncode == -signal.SIGKILL, done.stderr
        if whole and folder.exists():
            assert tree(folder) == whole  # the old one is as it was
    if point != "export_swapping":  # no export, as it has no head
        done = command(no_models(tmp_path, "other"), "import", str(folder) + ".partial")
        assert done.returncode == 1 and "incomplete" in done.stderr
    before = answers(server, ("text", "lexical"))
    export(server, folder)
    assert not [path for path in tmp_path.glob("export.*")]
    server.stop()
    other = serve(name="third")
    import_(other, folder)
    same(before, answers(other, ("text", "lexical")))


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("point", ["import_checked", "import_placed", "embedded",
                                   "import_committed"])
def test_import_killed_at_each_step(serve, tmp_path, point, served):
    needs_fault_points()
    server = serve()
    fill(server, 4)
    before = answers(server, ("text", "lexical"))
    export(server, tmp_path / "export")
    server.stop()
    if served:
        other = serve(name="other", DOCUSEARCH_FAULT=f"{point}:kill")
        assert command(other.env, "import", str(tmp_path / "export")).returncode == 1
        assert other.process.wait(30 * SLOW) == -signal.SIGKILL
    else:
        env = {**server.env, "DATA_DIR": str(tmp_path / "other")}
        done = command(env, "import", str(tmp_path / "export"), DOCUSEARCH_FAULT=f"{point}:kill")
        assert done.returncode == -signal.SIGKILL
    other = serve(name="other")
    for entry in other.get("/documents", limit=100).json["documents"]:  # what is there is whole
        assert other.get(f"/documents/{entry['doc_id']}/pages/1.jpg").status == 200
    assert import_(other, tmp_path / "export")["documents_done"] == 4
    same(before, answers(other, ("text", "lexical")))
    assert space(other, "text")["items"] == health(other)["documents"]["chunks"]
    assert not other.leftovers()


def test_killed_at_any_moment(serve, tmp_path):
    server = serve()
    fill(server, 10, 6)
    before = answers(server, ("text", "lexical"))
    folder, env = tmp_path / "export", server.env
    for i in range(12):
        killed = subprocess.Popen([PROGRAM, "export", str(folder)], env=env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.004 * i * SLOW)
        killed.kill()
        killed.wait()
    export(server, folder)
    server.stop()
    env = {**env, "DATA_DIR": str(tmp_path / "other")}
    for i in range(12):
        killed = subprocess.Popen([PROGRAM, "import", str(folder)], env=env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep((0.02 + 0.01 * i) * SLOW)
        killed.kill()
        killed.wait()
    other = serve(name="other")
    import_(other, folder)
    same(before, answers(other, ("text", "lexical")))


# ---- who may ask --------------------------------------------------------------------------------


def test_a_caller_names_no_folder(exported, tmp_path, start):
    server = start(MODEL_NAME="none", TEXT_MODEL="none", API_KEY="secret")
    key = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
    body = json.dumps({"folder": str(exported)})
    assert server.request("POST", "/import", body).status == 401
    assert server.request("GET", "/import").status == 401
    reply = server.request("POST", "/import", body, key)
    assert (reply.status, reply.code) == (404, "no_import")
    note = server.data_dir / "import"
    for make in (lambda: note.symlink_to(exported / "export.json"),
                 lambda: (note.write_text(str(exported)), note.chmod(0o666)),
                 lambda: note.mkdir(),
                 lambda: note.write_text("relative/path"),
                 lambda: note.write_bytes(str(exported).encode() + b"\0more")):
        make()
        reply = server.request("POST", "/import", body, key)
        assert reply.status in (400, 403), reply.body
        if note.is_dir():
            note.rmdir()
        else:
            note.unlink()
    done = command(server.env, "import", str(exported), "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["documents_imported"] == 3, done.stderr
    assert not note.exists()  # it is for one import
    assert server.request("POST", "/import", body, key).status == 404


# ---- with a shared store ------------------------------------------------------------------------


def test_a_restored_worker_shares_again(serve, tmp_path):
    """A worker that lost its data folder, and finds its documents in ChromaDB as those of another,
    has them for its own after the import, originals and all."""
    chroma = ChromaServer(tmp_path / "chroma")
    chroma.start()
    try:
        settings = chroma.settings
        server = serve(**settings)
        ids = fill(server, 5)
        wait_shared(server)
        before = {query: [hit["doc_id"] for hit in search(server, query, "text", 20)["results"]]
                  for query in QUERIES[:3]}
        assert all(before.values())
        done = export(server, tmp_path / "export")
        assert done["items_with_vectors"] > 0
        rows = chroma.counts()
        server.stop()
        shutil.rmtree(server.data_dir)
        server = serve(**settings)
        deadline = time.monotonic() + 60 * SLOW
        while counts(server) < 5:  # as mirrors
            assert time.monotonic() < deadline
            time.sleep(0.1)
        doc_id = ids["1.txt"]
        assert server.get(f"/documents/{doc_id}/original").status == 404
        done = export(server, tmp_path / "mirrors")
        assert (done["documents"], done["documents_of_others"], done["files"]) == (5, 5, 1)
        assert import_(server, tmp_path / "export")["documents_imported"] == 5
        wait_shared(server)
        assert server.get(f"/documents/{doc_id}/original").body == pages_of(1, 3)
        for query, found in before.items():
            results = search(server, query, "text", 20)["results"]
            assert [hit["doc_id"] for hit in results] == found
        assert chroma.counts() == rows
    finally:
        chroma.stop()


def test_documents_of_other_workers_come_too(serve, tmp_path):
    """What `reindex --store index` brought over stays, through an export and an import, as it was;
    a folder that shares a ChromaDB leaves it to that one."""
    chroma = ChromaServer(tmp_path / "chroma")
    chroma.start()
    try:
        first = serve(name="first", **chroma.settings)
        theirs = fill(first, 6)
        wait_shared(first, own=6)
        second = serve(name="second", **chroma.settings)
        fill(second, 2, first=6)
        wait_shared(second, own=2)
        wait_documents(second, 8)
        done = command(second.env, "reindex", "--store", "index", "--quiet")
        assert done.returncode == 0, done.stderr
        second.stop()
        second = serve(name="second")
        before = answers(second, ("hybrid", "text", "lexical"))
        assert {hit["doc_id"] for hit in before["text", QUERIES[0], True][1]} & set(theirs.values())
        done = export(second, tmp_path / "export")
        assert (done["documents"], done["documents_of_others"], done["documents_left_out"],
                done["items_damaged"]) == (8, 6, 0, 0)
        said = command(second.env, "export", str(tmp_path / "export")).stdout
        assert "6 of the documents are other workers'" in said
        other = serve(name="other")
        state = import_(other, tmp_path / "export")
        assert (state["documents_imported"], state["documents_total"],
                state["documents_without_vectors"], state["documents_queued"]) == (8, 8, 0, 0)
        assert state["items_with_vectors"] == done["items_with_vectors"]
        same(before, answers(other, ("hybrid", "text", "lexical")))
        # Again: all known. What was removed comes back.
        assert import_(other, tmp_path / "export")["documents_known"] == 8
        assert other.request("DELETE", f"/documents/{theirs['1.txt']}").status == 200
        assert import_(other, tmp_path / "export")["documents_imported"] == 1
        # And where a ChromaDB is shared, which knows that one of them was removed.
        assert first.request("DELETE", f"/documents/{theirs['2.txt']}").status == 200
        third = serve(name="third", **chroma.settings)
        state = import_(third, tmp_path / "export")
        assert (state["documents_imported"], state["documents_total"]) == (2, 2)
        wait_documents(third, 7)
        wait_shared(third, own=2)
        assert third.get(f"/documents/{theirs['2.txt']}").status == 404
        first.stop()
        third.stop()
        other.stop()
        # The one that has them all alone, at the ChromaDB again.
        other = serve(name="other", **chroma.settings)
        wait_shared(other, own=2)
        deadline = time.monotonic() + 60 * SLOW
        while other.get(f"/documents/{theirs['2.txt']}").status != 404 or \
                health(other)["store"]["documents"]["missing"]:
            assert time.monotonic() < deadline, health(other)["store"]
            time.sleep(0.1)
        assert counts(other) == 7
    finally:
        chroma.stop()


def wait_documents(server, n):
    deadline = time.monotonic() + 60 * SLOW
    while counts(server) != n:
        assert time.monotonic() < deadline, health(server)["documents"]
        time.sleep(0.1)


def wait_shared(server, own=5):
    deadline = time.monotonic() + 60 * SLOW
    while True:
        store = health(server)["store"]
        if store["reachable"] and store["documents"]["waiting"] == 0 \
                and store["documents"]["own"] == own:
            return
        assert time.monotonic() < deadline, store
        time.sleep(0.1)
