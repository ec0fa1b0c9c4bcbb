"""What a service manager is told (sd_notify), and the log file's rotation."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from running import PROGRAM, ROOT, SLOW, Running, environment

LOGROTATE = shutil.which("logrotate", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Manager:
    """A datagram socket as systemd's, and what came in."""

    def __init__(self, name, abstract=False):
        self.name = f"@{name}" if abstract else str(name)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{name}" if abstract else str(name))
        self.socket.settimeout(0.1)
        self.messages = []  # (seconds, text)

    def read(self, seconds=0.0, until=None):
        """Everything for so long, or until a message has a line; that message, or None."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            try:
                text = self.socket.recv(4096).decode()
                self.messages.append((time.monotonic(), text))
                if until and until in text.split("\n"):
                    return text
            except TimeoutError:
                if time.monotonic() >= deadline:
                    return None

    def times(self, line):
        return [at for at, text in self.messages if line in text.split("\n")]


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


def test_ready_once_it_answers_and_stopping(manager, start):
    server = start(NOTIFY_SOCKET=manager.name)
    ready = manager.read(5, "READY=1")
    assert ready and f"STATUS=Serving on {server.url}" in ready.split("\n")
    assert server.get("/health").status == 200
    assert manager.messages[0][1] == "STATUS=Starting"
    server.stop()
    manager.read()
    assert manager.messages[-1][1].split("\n") == ["STOPPING=1", "STATUS=Stopping"]
    assert len(manager.times("READY=1")) == 1 and not manager.times("WATCHDOG=1")


def test_an_abstract_socket(tmp_path, start):
    manager = Manager(f"docusearch-test-{os.getpid()}-{tmp_path.name}", abstract=True)
    start(NOTIFY_SOCKET=manager.name)
    assert manager.read(5, "READY=1")
    manager.socket.close()


def test_a_start_that_fails_says_why(manager, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        env = environment(tmp_path / "data", NOTIFY_SOCKET=manager.name, WORKER_PORT=port)
        done = subprocess.run([PROGRAM, "serve"], env=env, capture_output=True, text=True,
                              timeout=60 * SLOW)
    manager.read()
    assert done.returncode == 1 and not manager.times("READY=1")
    said = manager.messages[-1][1]
    assert said.startswith("STATUS=") and "Address already in use" in said and port in said


@pytest.mark.parametrize("name", ["/nowhere/notify", "relative", "@", "vsock:2:1", "/" + "x" * 200])
def test_a_manager_that_is_not_there_costs_nothing(start, name):
    server = start(NOTIFY_SOCKET=name)
    assert server.get("/health").status == 200
    assert server.stop() == 0
    warned = [line for line in server.log.splitlines() if "NOTIFY_SOCKET" in line]
    assert len(warned) == 1 and " WARN " in warned[0]


def test_the_watchdog_is_fed_at_half_its_time(manager, start):
    server = start(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="1000000")
    assert manager.read(5, "READY=1")
    manager.read(3)
    times = manager.times("WATCHDOG=1")
    assert len(times) >= 4
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert all(0.3 < gap < 1.0 * SLOW for gap in gaps), gaps
    assert server.stop() == 0


def test_no_watchdog_for_another_process(manager, start):
    start(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="200000", WATCHDOG_PID="1")
    assert manager.read(5, "READY=1")
    manager.read(1)
    assert not manager.times("WATCHDOG=1")


PTRACE_ATTACH, PTRACE_DETACH, WAIT_ALL = 16, 17, 0x40000000


@contextlib.contextmanager
def halted(pid, name):
    """One thread of a process stands still."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    task, = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
             if (task / "comm").read_text().strip() == name]
    if libc.ptrace(PTRACE_ATTACH, task, None, None):
        pytest.skip("no thread may be halted here: " + os.strerror(ctypes.get_errno()))
    os.waitpid(task, WAIT_ALL)
    try:
        yield
    finally:
        libc.ptrace(PTRACE_DETACH, task, None, None)


def test_a_server_that_does_not_answer_is_not_fed(manager, start):
    """The thread that takes connections hangs: the process lives, and nobody gets an answer."""
    server = start(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="600000")
    assert manager.read(5, "WATCHDOG=1")
    with halted(server.pid, "MHD-listen"):
        manager.read(0.5)
        fed = len(manager.times("WATCHDOG=1"))
        manager.read(2 / SLOW)
        assert len(manager.times("WATCHDOG=1")) == fed and server.process.poll() is None
    assert manager.read(10, "WATCHDOG=1")
    assert server.stop() == 0


def test_it_is_fed_while_it_stops(manager, start):
    """An ordered end may take longer than an answer: that limit is the manager's other one."""
    server = start(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="400000")
    assert manager.read(5, "WATCHDOG=1")
    server.stop()
    manager.read()
    stopping = manager.times("STOPPING=1")
    assert len(stopping) == 1 and manager.times("WATCHDOG=1")[-1] >= stopping[0]


# ---- the log file -----------------------------------------------------------------------------------

N_DOCUMENTS = 60


class WithFile(Running):
    """A server that logs into a file."""

    @property
    def log(self):
        path = Path(self.env["LOG_FILE"])
        return path.read_text() if path.exists() else super().log


@pytest.fixture
def with_file(tmp_path):
    """(the server, its log file), in a folder of the log's own."""
    log = tmp_path / "logs" / "worker.log"
    log.parent.mkdir(mode=0o755)
    server = WithFile(tmp_path / "data", LOG_FILE=str(log), TEXT_MODEL="none", MODEL_NAME="none")
    yield server, log
    if server.process.poll() is None:
        server.stop()


def upload_all(server):
    for i in range(N_DOCUMENTS):
        server.upload(f"the document of number {i}".encode(), f"asked-{i}-asked.txt")


def logged(paths):
    """Our documents' numbers, one a line that says that one was read."""
    text = "".join(path.read_text() for path in paths)
    return sorted(int(n) for n in re.findall(r"Processed document: asked-(\d+)-asked", text))


def rotate_by_hand(log, server, i):
    log.rename(log.with_name(f"worker.log.{i}"))
    time.sleep(0.05)
    os.kill(server.pid, signal.SIGHUP)


def rotate_by_logrotate(log, server, i):
    del i
    rules = (log.parents[1] / "rules")
    text = (ROOT / "deploy" / "docusearch.logrotate").read_text()
    text = text.replace("/var/log/docusearch/*.log", str(log)).replace("rotate 14", "rotate 1000")
    text = re.sub(r"postrotate.*?endscript", f"postrotate\n kill -HUP {server.pid}\nendscript",
                  text, flags=re.S)
    text = re.sub(r"\n\s*(su|create) .*|\n\s*(compress|delaycompress|dateext)\b.*", "", text)
    rules.write_text(text)
    rules.chmod(0o644)
    subprocess.run([LOGROTATE, "-f", "-s", str(log.parents[1] / "state"), str(rules)], check=True)


@pytest.mark.parametrize("rotate", [rotate_by_hand, rotate_by_logrotate])
def test_no_line_is_lost_when_the_log_is_rotated(with_file, rotate):
    server, log = with_file
    if rotate is rotate_by_logrotate and not LOGROTATE:
        pytest.skip("no logrotate")
    uploads = threading.Thread(target=upload_all, args=(server,))
    uploads.start()
    n_rotated = 0
    while uploads.is_alive() or n_rotated < 5:
        if log.exists():
            rotate(log, server, n_rotated)
            n_rotated += 1
        time.sleep(0.1)
    uploads.join()
    deadline = time.monotonic() + 60 * SLOW
    while server.get("/status").json["total_processed"] < N_DOCUMENTS:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.stop() == 0
    files = list(log.parent.iterdir())
    assert len(files) > 5 and logged(files) == list(range(N_DOCUMENTS))
    text = "".join(path.read_text() for path in files)
    assert text.count("SIGHUP: the log file is open anew") >= 3
    assert "Application startup complete" in text and "SIGTERM: stopping" in text


def test_a_log_that_cannot_be_opened_anew_goes_on_in_the_old(with_file):
    server, log = with_file
    log.rename(log.with_name("old"))
    log.mkdir()
    os.kill(server.pid, signal.SIGHUP)
    assert server.stop() == 0
    text = log.with_name("old").read_text()
    assert f"SIGHUP: the log goes on in the old file: log file {log}" in text
    assert "SIGTERM: stopping" in text


def test_hangup_without_a_log_file_is_said(start):
    server = start()
    os.kill(server.pid, signal.SIGHUP)
    deadline = time.monotonic() + 5
    while "the log has no file" not in server.log and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "SIGHUP: the log has no file" in server.log
    assert server.get("/health").status == 200
