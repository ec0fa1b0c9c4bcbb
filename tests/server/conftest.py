"""What the tests of the real program share."""

import os
import time

import pytest

from chroma_server import ChromaServer
from copyparty_server import CopypartyServer
from running import PROGRAM, Running


# Where files run side by side, those that wait longest begin first, so that all end together.
LONGEST = ("test_shared_standing", "test_watch_places", "test_watch", "test_chroma_module",
           "test_cli", "test_reindex", "test_shared", "test_bad_input", "test_export")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST
               else len(LONGEST))
    if not os.path.exists(PROGRAM):
        for item in items:
            item.add_marker(pytest.mark.skip(reason=f"no program at {PROGRAM}"))


def alive(pid):
    """Running or stopped, but neither gone nor waiting to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def stop_whole(running):
    """Stops a server; no process of its may stay behind."""
    children = running.children()
    status = running.stop()
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [pid for pid in children if alive(pid)]
    assert not left, f"processes left behind: {left}"
    return status


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """checkpoint(name) -> the folder of a small checkpoint (tests/golden), made once, not to be
    changed. Skips without numpy, which makes them."""
    pytest.importorskip("numpy", reason="numpy makes the checkpoints")
    import golden  # noqa: F401  (has the folder of make_checkpoints searched)
    import make_checkpoints
    folder = tmp_path_factory.mktemp("checkpoints")

    def find(name):
        if not (folder / name).exists():
            make_checkpoints.make(name, folder / name)
        return folder / name

    return find


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("server") / "data")
    yield running
    assert stop_whole(running) == 0


@pytest.fixture
def start(tmp_path):
    """start(**settings) -> a server of the test's own, stopped at its end. name: its data folder's,
    so that a second one can go on where the first stopped."""
    started = []

    def start_one(*arguments, name="data", **settings):
        log = tmp_path / f"{name}.log"
        if log.exists():  # an earlier server's: what it said must not be taken for this one's
            log.rename(tmp_path / f"{name}.{len(started)}.log")
        running = Running(tmp_path / name, arguments=arguments, **settings)
        started.append(running)
        return running

    yield start_one
    for running in started:
        if running.process.poll() is None:
            stop_whole(running)


@pytest.fixture
def chroma(tmp_path):
    """A ChromaDB server of the test's own, stopped at its end. Skips where it is not installed."""
    server = ChromaServer(tmp_path / "chroma-server")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def start_copyparty(tmp_path):
    """start_copyparty(*options, **more) -> a CopypartyServer, stopped at the test's end."""
    started = []

    def start_one(*options, name="copyparty", **more):
        started.append(CopypartyServer(tmp_path / name, *options, **more))
        return started[-1].start()

    yield start_one
    for one in started:
        one.stop()
