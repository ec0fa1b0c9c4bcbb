"""The watch of UPLOADS_DIR where the folder, or a disk below it, is another or away: a document goes
only with a file that is missing where it was seen."""

import contextlib
import subprocess
import time
from pathlib import Path

import pytest

from test_watch import (FAST, STILL, Watched, doc_id, fault_points, process, text,  # noqa: F401
                        watched)

MOUNTS = Path("/proc/self/mountinfo")


def test_the_folder_is_gone_for_a_while(watched):
    ids = [watched.write(f"{i}.txt", text(i)) for i in range(3)]
    watched.ready(*ids)
    away = watched.uploads.with_name("away")
    watched.uploads.rename(away)
    watched.rest(8)
    assert [watched.state(one) for one in ids] == ["completed"] * 3
    assert "nothing is removed meanwhile" in watched.server.log
    away.rename(watched.uploads)
    watched.rest(5)
    assert "is there again" in watched.server.log
    (watched.uploads / "0.txt").unlink()
    watched.gone(ids[0])
    assert watched.state(ids[1]) == "completed"


def test_another_folder_in_its_place(watched):
    """As where a disk is not mounted: nothing is removed; what is there is taken, and goes when it
    goes."""
    ids = [watched.write(f"{i}.txt", text(i)) for i in range(3)]
    watched.ready(*ids)
    watched.rest(2)
    away = watched.uploads.with_name("away")
    watched.uploads.rename(away)
    watched.uploads.mkdir()
    new = watched.write("new.txt", text("new"))
    watched.ready(new)
    watched.rest(8)
    assert [watched.state(one) for one in ids] == ["completed"] * 3
    assert "another than before" in watched.server.log
    assert watched.server.log.count("another than before") == 1
    (watched.uploads / "new.txt").unlink()
    watched.gone(new)
    (away / "0.txt").unlink()
    watched.rest(5)
    assert watched.state(ids[0]) == "completed"
    watched.uploads.rmdir()
    away.rename(watched.uploads)
    watched.gone(ids[0])  # from the folder that it was seen in
    watched.rest(5)
    jobs = watched.jobs()
    (watched.uploads / "1.txt").unlink()
    watched.gone(ids[1])
    assert [watched.state(one) for one in ids] == [404, 404, "completed"]
    assert watched.jobs() <= jobs  # none was taken again


@pytest.mark.parametrize("name", ["a.txt", "sub/a.txt"])
@pytest.mark.parametrize("hook", [True, False], ids=["hook", "found"])
def test_another_folder_right_after_a_file_was_taken(watched, name, hook):
    """Whatever the watch had not heard of yet when the folder became another."""
    watched.rest(2)
    one = watched.write(name, text(1))
    if hook:
        process(watched.server, watched.uploads / name)
    else:
        watched.ready(one)
    away = watched.uploads.with_name("away")
    watched.uploads.rename(away)
    watched.uploads.mkdir()
    watched.ready(one)
    watched.rest(10)
    assert watched.state(one) == "completed", watched.server.log
    watched.uploads.rmdir()
    away.rename(watched.uploads)
    watched.rest(8)
    (watched.uploads / name).unlink()
    watched.gone(one)


def mount(place, *how):
    if not MOUNTS.exists():
        pytest.skip("this system does not say what is mounted")
    done = subprocess.run(["mount", *map(str, how), str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"nothing may be mounted here: {done.stderr.decode().strip()}")


def unmount(place):
    deadline = time.monotonic() + 10
    while subprocess.run(["umount", str(place)], capture_output=True).returncode != 0:
        assert time.monotonic() < deadline  # the watch has it open for a moment
        time.sleep(0.01)


def is_mounted(place):
    """Also where a folder of the same disk is."""
    return MOUNTS.exists() and f" {place} " in MOUNTS.read_text()


def how_to_mount(kind, folder):
    """The arguments of mount for a disk of this kind, kept in the folder where it keeps anything."""
    if kind == "fresh":
        return "-t", "tmpfs", "none"
    if kind == "bound":
        folder.mkdir()
        return "--bind", folder
    image = folder.with_suffix(".image")
    with open(image, "wb") as file:
        file.truncate(4 << 20)
    try:
        done = subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mkfs.ext4 program: no image of a disk can be made")
    assert done.returncode == 0, done.stderr
    return "-o", "loop", image


@pytest.fixture
def disks(tmp_path):
    """disks(place, kind="fresh") -> a Disk, mounted there; all is unmounted at the test's end."""
    places = []

    class Disk:
        def __init__(self, place, kind="fresh"):
            self.place = place
            self.how = how_to_mount(kind, tmp_path / f"kept{len(places)}")
            place.mkdir(exist_ok=True)
            places.append(place)
            self.mount()

        def mount(self, elsewhere=None):
            if elsewhere:
                elsewhere.mkdir(exist_ok=True)
                places.append(elsewhere)
            mount(elsewhere or self.place, *self.how)

        def unmount(self, elsewhere=None):
            unmount(elsewhere or self.place)

        @contextlib.contextmanager
        def elsewhere(self):
            """Where its files are while it is not in its place."""
            self.mount(tmp_path / "elsewhere")
            yield tmp_path / "elsewhere"
            self.unmount(tmp_path / "elsewhere")

    yield Disk
    for place in places[::-1]:
        while is_mounted(place):
            unmount(place)


@pytest.fixture
def mounted(start, tmp_path, disks):
    """A folder of uploads that is a disk of its own."""
    disk = disks(tmp_path / "disk")
    watched = Watched(start(UPLOADS_DIR=str(disk.place), **FAST))
    watched.uploads = disk.place
    watched.mount, watched.unmount = disk.mount, disk.unmount
    yield watched
    watched.server.stop()


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("hook", [True, False], ids=["hook", "found"])
def test_a_disk_is_unmounted(mounted, hook, when):
    mounted.rest(2)
    ids = [mounted.write(name, text(i)) for i, name in enumerate(["a.txt", "sub/b.txt"])]
    if hook:
        for name in ("a.txt", "sub/b.txt"):
            process(mounted.server, mounted.uploads / name)
    mounted.ready(*ids)
    if when == "later":
        mounted.rest(6)
    mounted.unmount()
    mounted.rest(10)
    assert [mounted.state(one) for one in ids] == ["completed"] * 2, mounted.server.log


@pytest.mark.parametrize("kind", ["fresh", "bound"])
@pytest.mark.parametrize("how", ["hook", "found", "at the next start"])
def test_a_disk_below_is_unmounted(start, disks, how, kind):
    """What lay on it is kept until it is there again, and then goes with its file; what lies beside
    it goes at once. A folder of the same disk that is bound there is such a disk."""
    watched = Watched(start(**FAST))
    disk = disks(watched.uploads / "disk", kind)
    names = ["beside.txt", "disk/a.txt", "disk/sub/b.txt"]
    ids = [watched.write(name, text(i)) for i, name in enumerate(names)]
    if how == "hook":
        for name in names:
            process(watched.server, watched.uploads / name)
    watched.ready(*ids)
    if how == "at the next start":
        watched.server.stop()
    disk.unmount()
    if how == "at the next start":
        watched = Watched(start(**FAST))
    (watched.uploads / "beside.txt").unlink()
    watched.gone(ids[0])
    watched.rest(10)
    assert [watched.state(one) for one in ids[1:]] == ["completed"] * 2, watched.server.log
    assert watched.server.log.count("A disk or folder is gone") <= 1
    jobs = watched.jobs()
    disk.mount()
    if kind == "fresh":
        for i, name in enumerate(names[1:], 1):
            watched.write(name, text(i))
    watched.rest(10)
    assert watched.jobs() == jobs  # none was read again
    (watched.uploads / names[1]).unlink()
    watched.gone(ids[1])
    assert watched.state(ids[2]) == "completed"
    watched.server.stop()


@pytest.mark.parametrize("below", [False, True], ids=["whole", "below"])
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_another_disk_where_one_was(start, tmp_path, disks, running, below):
    """A new one has the device, the inodes and the path of the old, and not its files."""
    settings = {**FAST, "UPLOADS_DIR": str(tmp_path / "uploads")}
    watched = Watched(start(**settings))
    watched.uploads = tmp_path / "uploads"
    watched.server.stop()
    disk = disks(watched.uploads / "disk" if below else watched.uploads)
    watched.server = start(**settings)
    ids = []
    for i, name in enumerate(["a.txt", "sub/b.txt"]):
        (disk.place / name).parent.mkdir(exist_ok=True)
        (disk.place / name).write_bytes(text(i))
        ids.append(doc_id(text(i)))
    watched.ready(*ids)
    if not running:
        watched.server.stop()
    disk.unmount()
    disk.mount()
    if not running:
        watched.server = start(**settings)
    watched.rest(12)
    assert [watched.state(one) for one in ids] == ["completed"] * 2, watched.server.log
    (disk.place / "new.txt").write_bytes(text("new"))
    new = doc_id(text("new"))
    watched.ready(new)
    (disk.place / "new.txt").unlink()
    watched.gone(new)
    watched.rest(5)
    assert [watched.state(one) for one in ids] == ["completed"] * 2, watched.server.log
    watched.server.stop()


@pytest.mark.parametrize("kind, running, below", [
    ("image", True, False), ("image", False, True), ("bound", True, True), ("bound", False, False)])
def test_what_went_while_its_disk_was_away(start, tmp_path, disks, kind, running, below):
    """It goes when the disk is there again, without it; so does what went just before."""
    settings = {**FAST, "UPLOADS_DIR": str(tmp_path / "uploads")}
    (tmp_path / "uploads").mkdir()
    disk = disks(tmp_path / "uploads" / "disk" if below else tmp_path / "uploads", kind)
    watched = Watched(start(**settings))
    names = ["a.txt", "sub/b.txt", "sub/c.txt"]
    ids = [doc_id(text(i)) for i in range(3)]
    (disk.place / "sub").mkdir()
    for i, name in enumerate(names):
        (disk.place / name).write_bytes(text(i))
    watched.ready(*ids)
    watched.rest(3)
    (disk.place / "sub" / "b.txt").unlink()
    disk.unmount()
    watched.rest(6)
    assert [watched.state(one) for one in ids] == ["completed"] * 3, watched.server.log
    if not running:
        watched.server.stop()
    with disk.elsewhere() as place:
        (place / "a.txt").unlink()
    if running:
        watched.rest(5)
    else:
        watched.server = start(**settings)
        watched.rest(6)
        assert [watched.state(one) for one in ids] == ["completed"] * 3, watched.server.log
    disk.mount()
    watched.gone(*ids[:2])
    watched.rest(5)
    assert set(watched.listed()) == {ids[2]} and watched.jobs() == 1  # of none anew
    watched.server.stop()


def test_a_disk_is_mounted_for_a_moment(mounted):
    """Nothing tells of a disk that is mounted over the folder: what a hook took there is kept
    when the folder below is seen again, without it."""
    one = mounted.write("below.txt", text(1))
    mounted.ready(one)
    mounted.rest(6)
    mounted.mount()
    above = mounted.write("above.txt", text(2))
    process(mounted.server, mounted.uploads / "above.txt")
    mounted.unmount()
    mounted.ready(above)
    mounted.rest(10)
    assert [mounted.state(i) for i in (one, above)] == ["completed"] * 2, mounted.server.log


def test_another_folder_while_a_file_was_changing(start):
    """The document of what it held before is kept, at the next start as well."""
    watched = Watched(start(**FAST))
    one = watched.write("a.txt", text(1))
    watched.ready(one)
    watched.rest(6)
    watched.write("a.txt", text(2))
    time.sleep(STILL / 3)
    watched.uploads.rename(watched.uploads.with_name("away"))
    watched.uploads.mkdir()
    watched.rest(8)
    watched.server.stop()
    watched = Watched(start(**FAST))
    watched.rest(10)
    assert watched.state(one) == "completed", watched.server.log
    watched.uploads.rmdir()
    watched.uploads.with_name("away").rename(watched.uploads)
    watched.ready(doc_id(text(2)))
    watched.gone(one)


def test_another_folder_at_the_next_start(start):
    watched = Watched(start(**FAST))
    ids = [watched.write(f"{i}.txt", text(i)) for i in range(3)]
    watched.ready(*ids)
    watched.server.stop()
    away = watched.uploads.with_name("away")
    watched.uploads.rename(away)
    for again in range(2):  # and at the one after that
        watched = Watched(start(**FAST))
        watched.rest(8)
        assert [watched.state(one) for one in ids] == ["completed"] * 3
        watched.server.stop()
    watched.uploads.rmdir()
    (away / "1.txt").unlink()
    away.rename(watched.uploads)
    watched = Watched(start(**FAST))
    watched.gone(ids[1])  # from the folder that it was seen in
    (watched.uploads / "2.txt").unlink()
    watched.gone(ids[2])
    watched.rest(5)
    assert set(watched.listed()) == {ids[0]}
