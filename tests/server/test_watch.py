"""The server's own watch of UPLOADS_DIR: files become documents, and documents go with their files,
though nobody says so."""

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

import inputs_pdf as pdfs
from running import PROGRAM, SLOW
from test_events import Stream

STILL = 0.6 * SLOW  # seconds; how long a file must stand still in these tests
FAST = {"DOCUSEARCH_STILL_MS": str(int(STILL * 1000)), "TEXT_MODEL": "none", "MODEL_NAME": "none"}


@pytest.fixture(autouse=True)
def fault_points(request):
    if request.function is not test_ten_seconds and b"DOCUSEARCH_STILL_MS" not in Path(PROGRAM).read_bytes():
        pytest.skip("the program was built without -Dfault_points=true: files stand still for 10 s")


def doc_id(path):
    data = path if isinstance(path, bytes) else Path(path).read_bytes()
    return hashlib.sha256(data).hexdigest()


def text(i):
    return f"Document {i}: the heron number {i} stood in the reeds.\n".encode()


class Watched:
    def __init__(self, server):
        self.server = server
        self.uploads = server.data_dir / "uploads"

    def write(self, name, data):
        path = self.uploads / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return doc_id(data)

    def state(self, one):
        reply = self.server.get(f"/documents/{one}")
        return reply.json["status"] if reply.status == 200 else reply.status

    def wait(self, one, *wanted, seconds=30):
        deadline = time.monotonic() + seconds * SLOW
        while self.state(one) not in wanted:
            assert time.monotonic() < deadline, f"{self.state(one)}\n{self.server.log}"
            time.sleep(0.05)

    def ready(self, *ids):
        for one in ids:
            self.wait(one, "completed")

    def gone(self, *ids):
        for one in ids:
            self.wait(one, 404)

    def listed(self):
        return {entry["doc_id"]: entry for entry in
                self.server.get("/documents", limit=100).json["documents"]}

    def jobs(self):
        return self.server.get("/jobs", limit=100).json["total"]

    def rest(self, times=5):
        """Long enough for several looks at everything."""
        time.sleep(STILL * times)


@pytest.fixture
def watched(start):
    return Watched(start(**FAST))


def process(server, path):
    reply = server.request("POST", "/process", {"file_path": str(path), "filename": path.name})
    assert reply.status == 200, reply.body
    return reply.json


# ---- taking --------------------------------------------------------------------------------------


def test_files_become_documents(watched):
    ids = [watched.write(name, text(i)) for i, name in enumerate(
        ["a.txt", "sub/b.md", "sub/deep/er/c.txt", "\u65e5\u672c \U0001f600.txt"])]
    ids.append(watched.write("d.pdf", pdfs.good("A heron on the first page.")))
    watched.ready(*ids)
    assert watched.jobs() == len(ids)
    assert {entry["filename"] for entry in watched.listed().values()} == {
        "a.txt", "b.md", "c.txt", "d.pdf", "\u65e5\u672c \U0001f600.txt"}
    assert "Taken from the uploads folder: sub/deep/er/c.txt" in watched.server.log


def test_a_file_that_grows_is_waited_for(watched):
    path = watched.uploads / "slow.txt"
    with open(path, "wb") as file:
        for i in range(12):
            file.write(text(i))
            file.flush()
            time.sleep(STILL / 3)
            assert watched.listed() == {}
    watched.ready(doc_id(path))
    assert watched.jobs() == 1


def test_what_is_left_alone(watched):
    (watched.uploads / ".hist").mkdir()
    for name in (".hidden.txt", ".hist/up2k.txt", ".sub/a.txt", "half.txt.PARTIAL",
                 ".half.txt.PARTIAL", "program.exe", "noextension", "sub/.hist/a.txt"):
        watched.write(name, text(name))
    watched.write("empty.txt", b"")
    (watched.uploads / "link.txt").symlink_to("/etc/hostname")
    (watched.uploads / "linked").symlink_to("/etc")
    os.mkfifo(watched.uploads / "pipe.txt")
    (watched.uploads / "folder.txt").mkdir()
    watched.rest(6)
    assert watched.listed() == {} and watched.jobs() == 0


@pytest.mark.parametrize("partial", ["up.txt.PARTIAL", ".up.txt.PARTIAL"])
def test_beside_half_an_upload(watched, partial):
    one = watched.write("sub/up.txt", text(1))
    watched.write(f"sub/{partial}", text(2))
    watched.rest()
    assert watched.listed() == {}
    (watched.uploads / "sub" / partial).unlink()
    watched.ready(one)


def test_an_empty_file_that_is_filled(watched):
    watched.write("later.txt", b"")
    watched.rest(3)
    watched.ready(watched.write("later.txt", text(1)))


def test_a_changed_file_supersedes(watched):
    old = watched.write("a.txt", text(1))
    watched.ready(old)
    told = Stream(watched.server.port)
    new = watched.write("a.txt", text(2))
    watched.ready(new)
    watched.gone(old)
    assert set(watched.listed()) == {new}
    told.wait(lambda _, name, data: data == {"action": "removed", "doc_id": old,
                                             "filename": "a.txt"}, 5)
    told.close()


def test_what_failed_is_taken_when_it_changes(watched):
    bad = watched.write("a.pdf", pdfs.garbage(5))
    watched.wait(bad, "failed")
    watched.rest()
    assert watched.jobs() == 1
    good = watched.write("a.pdf", pdfs.good("Mended: a bittern."))
    watched.ready(good)
    assert set(watched.listed()) == {good}


def test_what_is_refused_is_tried_when_it_changes(start):
    watched = Watched(start(MAX_FILE_SIZE_MB="1", **FAST))
    watched.write("a.pdf", b"%PDF-1.7\n" + b"\x00\x01" * 700000)
    watched.rest()
    assert watched.listed() == {}
    assert watched.server.log.count("Not taken from the uploads folder: a.pdf") == 1
    watched.ready(watched.write("a.pdf", pdfs.good("A bittern after all.")))


def test_the_same_bytes_twice(watched):
    one = watched.write("a.txt", text(1))
    watched.write("sub/again.txt", text(1))
    watched.ready(one)
    watched.rest(3)
    (watched.uploads / "a.txt").unlink()
    watched.rest()
    assert watched.state(one) == "completed"
    (watched.uploads / "sub" / "again.txt").unlink()
    watched.gone(one)


def test_names_that_are_no_utf8(watched):
    name = os.path.join(os.fsencode(watched.uploads), b"bad \xff\xfe.txt")
    with open(name, "wb") as file:
        file.write(text("bad"))
    watched.ready(doc_id(text("bad")))
    os.unlink(name)
    watched.gone(doc_id(text("bad")))


def test_many_files(watched):
    ids = [watched.write(f"{i % 7}/{i}.txt", text(i)) for i in range(300)]
    watched.ready(*ids)
    assert watched.jobs() == 300
    for i in range(0, 300, 2):
        (watched.uploads / f"{i % 7}" / f"{i}.txt").unlink()
    watched.gone(*ids[::2])
    assert all(watched.state(one) == "completed" for one in ids[1::2])


def test_ten_seconds(start):
    watched = Watched(start(TEXT_MODEL="none", MODEL_NAME="none"))
    time.sleep(1)
    one = watched.write("a.txt", text(1))
    time.sleep(8)
    assert watched.listed() == {}
    watched.ready(one)


# ---- going ---------------------------------------------------------------------------------------


def test_documents_go_with_their_files(watched):
    ids = [watched.write(name, text(i)) for i, name in enumerate(
        ["a.txt", "sub/b.txt", "sub/deep/c.txt", "d.txt"])]
    watched.ready(*ids)
    (watched.uploads / "a.txt").unlink()
    watched.gone(ids[0])
    (watched.uploads / "sub" / "b.txt").unlink()
    (watched.uploads / "sub" / "deep" / "c.txt").unlink()
    (watched.uploads / "sub" / "deep").rmdir()
    (watched.uploads / "sub").rmdir()
    watched.gone(*ids[1:3])
    assert watched.state(ids[3]) == "completed"


def test_a_web_upload_has_no_file(watched):
    sent = watched.server.upload(text(1), "a.txt").json["documents"][0]["doc_id"]
    watched.ready(sent)
    watched.rest()
    assert watched.state(sent) == "completed"
    watched.write("a.txt", text(1))
    watched.rest()
    (watched.uploads / "a.txt").unlink()
    watched.rest()
    assert watched.state(sent) == "completed"  # it was uploaded too


def test_renamed(watched):
    """Its document is there all the while."""
    one = watched.write("a.txt", text(1))
    watched.ready(one)
    (watched.uploads / "a.txt").rename(watched.uploads / "b.txt")
    end = time.monotonic() + STILL * 6
    while time.monotonic() < end:
        assert watched.state(one) == "completed"
        time.sleep(0.02)
    assert "Gone from the uploads folder: a.txt" in watched.server.log
    (watched.uploads / "b.txt").unlink()
    watched.gone(one)


def test_a_folder_renamed(watched):
    ids = [watched.write(f"old/{name}", text(i)) for i, name in enumerate(
        ["a.txt", "b.txt", "sub/c.txt"])]
    watched.ready(*ids)
    (watched.uploads / "old").rename(watched.uploads / "new")
    end = time.monotonic() + STILL * 6
    while time.monotonic() < end:
        assert [watched.state(one) for one in ids] == ["completed"] * 3
        time.sleep(0.05)
    later = watched.write("new/sub/later.txt", text("later"))  # it is watched under its new name
    watched.ready(later)
    (watched.uploads / "new" / "sub" / "c.txt").unlink()
    watched.gone(ids[2])
    assert set(watched.listed()) == {ids[0], ids[1], later}


def test_moved_out_of_the_folder(watched, tmp_path):
    ids = [watched.write(f"sub/{i}.txt", text(i)) for i in range(3)]
    watched.ready(*ids)
    (watched.uploads / "sub").rename(tmp_path / "elsewhere")
    watched.gone(*ids)
    (tmp_path / "elsewhere").rename(watched.uploads / "back")
    watched.ready(*ids)


@pytest.mark.parametrize("what", ["link", "dangling link", "pipe", "folder"])
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_something_else_in_its_place(start, tmp_path, running, what):
    watched = Watched(start(**FAST))
    one, other = watched.write("a.txt", text(1)), watched.write("b.txt", text(2))
    watched.ready(one, other)
    if not running:
        watched.server.stop()
    (tmp_path / "elsewhere.txt").write_bytes(text(1))
    new, path = watched.uploads / ".new", watched.uploads / "a.txt"
    if what == "pipe":
        os.mkfifo(new)
    elif what == "folder":
        new.mkdir()
        path.unlink()
    else:
        new.symlink_to(tmp_path / ("elsewhere.txt" if what == "link" else "nowhere.txt"))
    new.rename(path)
    if not running:
        watched = Watched(start(**FAST))
    watched.gone(one)
    watched.rest(3)
    assert set(watched.listed()) == {other}


def test_a_link_in_place_of_a_folder(watched, tmp_path):
    one = watched.write("sub/deep/a.txt", text(1))
    watched.ready(one)
    (watched.uploads / "sub").rename(tmp_path / "elsewhere")
    (watched.uploads / "sub").symlink_to(tmp_path / "elsewhere")
    watched.gone(one)


def test_swapped(watched):
    a, b = watched.write("a.txt", text(1)), watched.write("b.txt", text(2))
    watched.ready(a, b)
    (watched.uploads / "a.txt").rename(watched.uploads / "x.txt")
    (watched.uploads / "b.txt").rename(watched.uploads / "a.txt")
    (watched.uploads / "x.txt").rename(watched.uploads / "b.txt")
    watched.rest(8)
    assert set(watched.listed()) == {a, b}
    (watched.uploads / "a.txt").unlink()
    watched.gone(b)
    assert watched.state(a) == "completed"


# ---- again ---------------------------------------------------------------------------------------


def test_what_changed_while_nobody_looked(start):
    watched = Watched(start(**FAST))
    ids = {name: watched.write(name, text(name)) for name in ("stays.txt", "goes.txt", "turns.txt",
                                                              "moves.txt")}
    watched.ready(*ids.values())
    watched.server.stop()
    jobs_before = 4
    (watched.uploads / "goes.txt").unlink()
    (watched.uploads / "moves.txt").rename(watched.uploads / "moved.txt")
    turned = watched.write("turns.txt", text("turned"))
    came = watched.write("came.txt", text("came"))
    watched = Watched(start(**FAST))
    watched.ready(turned, came)
    watched.gone(ids["goes.txt"], ids["turns.txt"])
    watched.rest()
    assert set(watched.listed()) == {ids["stays.txt"], ids["moves.txt"], turned, came}
    assert watched.jobs() <= jobs_before + 2


def test_a_removed_document_stays_removed(start):
    """Its file is still there, as it was taken: it is not taken again, also after a restart."""
    watched = Watched(start(**FAST))
    one = watched.write("a.txt", text(1))
    watched.ready(one)
    assert watched.server.request("DELETE", f"/documents/{one}").status == 200
    watched.rest()
    assert watched.state(one) == 404
    watched.server.stop()
    watched = Watched(start(**FAST))
    watched.rest()
    assert watched.state(one) == 404
    os.utime(watched.uploads / "a.txt")
    watched.ready(one)


def test_a_file_that_changed_goes_before_it_stands_still(watched):
    """The document of what it held before goes with it."""
    one = watched.write("a.txt", text(1))
    watched.ready(one)
    watched.rest(2)
    watched.write("a.txt", text(2))
    time.sleep(STILL / 3)
    (watched.uploads / "a.txt").unlink()
    watched.gone(one)
    watched.rest()
    assert watched.listed() == {}


@pytest.mark.parametrize("damage", ["missing", "garbage", "older", "cut", "other"])
def test_without_what_was_known(start, damage):
    """Nothing is lost, nothing comes twice. What went meanwhile is kept where nobody can tell which
    folder it was in."""
    watched = Watched(start(**FAST))
    ids = [watched.write(f"{i}.txt", text(i)) for i in range(5)]
    watched.ready(*ids)
    watched.server.stop()
    seen = watched.server.data_dir / "uploads.seen"
    data = seen.read_bytes()
    assert b"0.txt" in data and data.startswith(b"docusearch uploads 2\n")
    if damage == "missing":
        seen.unlink()
    elif damage == "garbage":
        seen.write_bytes(bytes(range(256)) * 20)
    elif damage == "older":
        seen.write_bytes(data.replace(b"uploads 2\n", b"uploads 1\n5 "))
    elif damage == "cut":
        seen.write_bytes(data[:len(data) - 20])
    else:
        seen.write_bytes(data.replace(b"\0t ", b"\0x  9"))
    (watched.uploads / "4.txt").unlink()
    watched = Watched(start(**FAST))
    watched.rest(8)
    left = ids if damage in ("missing", "garbage", "older") else ids[:4]
    assert set(watched.listed()) == set(left)
    assert watched.jobs() == len(left)
    (watched.uploads / "3.txt").unlink()
    watched.gone(ids[3])


@pytest.mark.parametrize("first, last", [("a.txt", "sub/b.txt"), ("sub/b.txt", "a.txt")])
def test_killed_with_two_paths_of_one_document(start, first, last):
    """Neither was written down. The one goes while nobody looks, the other later."""
    watched = Watched(start(**FAST))
    watched.rest(2)
    one = watched.write("a.txt", text(1))
    watched.write("sub/b.txt", text(1))
    for name in ("a.txt", "sub/b.txt"):
        process(watched.server, watched.uploads / name)
    watched.server.stop(signal.SIGKILL)
    seen = (watched.server.data_dir / "uploads.seen").read_bytes()
    assert b"a.txt" not in seen and b"b.txt" not in seen
    (watched.uploads / first).unlink()
    watched = Watched(start(**FAST))
    watched.ready(one)
    watched.rest(8)
    assert watched.state(one) == "completed"
    assert f"Gone from the uploads folder: {first}; its document has other" in watched.server.log
    (watched.uploads / last).unlink()
    watched.gone(one)


def test_killed_while_files_come(start):
    """Each is there once at the end, and goes with its file."""
    watched = Watched(start(**FAST))
    ids = []
    for i in range(40):
        ids.append(watched.write(f"{i}.txt", text(i)))
        if i in (12, 25):
            if i == 25:
                watched.wait(ids[16], "queued", "processing", "completed")
            else:
                time.sleep(STILL * 1.2)
            watched.server.stop(signal.SIGKILL)
            (watched.uploads / f"{i - 9}.txt").unlink()
            watched = Watched(start(**FAST))
    watched.ready(*[one for i, one in enumerate(ids) if i not in (3, 16)])
    watched.rest(10)
    assert set(watched.listed()) == set(ids) - {ids[3], ids[16]}


# ---- beside hooks --------------------------------------------------------------------------------


def test_beside_hooks_nothing_is_done_twice(watched):
    ids = []
    for i in range(10):
        path = watched.uploads / f"{i}.txt"
        ids.append(watched.write(path.name, text(i)))
        process(watched.server, path)
    watched.ready(*ids)
    watched.rest()
    assert watched.jobs() == 10
    assert "Taken from the uploads folder" not in watched.server.log
    for i in range(5):
        path = watched.uploads / f"{i}.txt"
        path.unlink()
        reply = watched.server.request("POST", "/delete",
                                       {"file_path": str(path), "filename": path.name})
        assert reply.json["status"] == "success"
    path.with_name("6.txt").rename(path.with_name("six.txt"))
    process(watched.server, path.with_name("six.txt"))
    watched.server.request("POST", "/delete", {"file_path": str(path.with_name("6.txt")),
                                               "filename": "6.txt"})
    watched.rest()
    assert set(watched.listed()) == set(ids[5:])
    assert "Gone from the uploads folder" not in watched.server.log


def test_a_hook_alone_is_enough_to_be_known(watched):
    """What /process took is dropped when its file goes, whatever its name."""
    path = watched.uploads / "noextension"
    watched.write(path.name, b"%PDF" + pdfs.good("A crane.")[4:])
    reply = watched.server.request("POST", "/process", {"file_path": str(path),
                                                        "filename": "crane.pdf"})
    assert reply.status == 200, reply.body
    watched.ready(reply.json["doc_id"])
    path.unlink()
    watched.gone(reply.json["doc_id"])


def test_a_removal_by_path_while_the_file_is_there(watched):
    one = watched.write("a.txt", text(1))
    watched.ready(one)
    path = watched.uploads / "a.txt"
    assert watched.server.request("POST", "/delete", {"file_path": str(path), "filename": "a.txt"}
                                  ).json["status"] == "success"
    watched.rest()
    assert watched.state(one) == 404


# ---- where folders lie ---------------------------------------------------------------------------


def test_elsewhere(start, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "up").symlink_to(tmp_path / "real")
    watched = Watched(start(UPLOADS_DIR=str(tmp_path / "up"), **FAST))
    watched.uploads = tmp_path / "up"
    one = watched.write("a.txt", text(1))
    watched.ready(one)
    (tmp_path / "up" / "a.txt").unlink()
    watched.gone(one)


def test_the_data_folder_below_it(start, tmp_path):
    watched = Watched(start(UPLOADS_DIR=str(tmp_path / "up"),
                            DATA_DIR=str(tmp_path / "up" / "data"), **FAST))
    watched.uploads = tmp_path / "up"
    one = watched.write("a.txt", text(1))
    watched.ready(one)
    watched.write("data/inside.txt", text(2))
    watched.rest()
    assert set(watched.listed()) == {one} and watched.jobs() == 1


def test_the_data_folder_itself(start, tmp_path):
    server = start(UPLOADS_DIR=str(tmp_path / "data"), **FAST)
    assert "UPLOADS_DIR is a folder of the program's own" in server.log
    (server.data_dir / "a.txt").write_bytes(text(1))
    time.sleep(STILL * 4)
    assert server.get("/documents").json["total"] == 0


def test_stopping_is_quick(start):
    watched = Watched(start(**FAST))
    for i in range(200):
        watched.write(f"{i}.txt", text(i))
    time.sleep(STILL * 1.5)
    begun = time.monotonic()
    watched.server.stop()
    assert time.monotonic() - begun < 10 * SLOW
