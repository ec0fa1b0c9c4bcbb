"""Other people's servers, from the Python environment of the tests, on loopback."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from running import SLOW


def program(name):
    """The program beside the interpreter that runs the tests, or a skip that says why."""
    path = Path(sys.executable).parent / name
    if not os.access(path, os.X_OK):
        pytest.skip(f"no {name} beside {sys.executable}")
    return str(path)


def free_port():
    """A port that nothing listens on, below those that the system gives to connections: a server
    that is down for a while finds it free when it comes back."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as there:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                there.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("100 ports, all taken")


class Program:
    """A server in a process of its own, below a folder of its own. up() says whether it answers."""

    def __init__(self, folder, port=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.log_path = self.folder / "log"
        self.log_start = 0     # of the process that was started last
        self.env = {}          # further variables
        self.process = None
        self.wanted = False    # whether a supervisor brings it back
        self.deaths = []       # exit statuses of those that a supervisor found ended
        self.turn = threading.RLock()

    def command(self):
        raise NotImplementedError

    def up(self):
        raise NotImplementedError

    @property
    def log(self):
        """What was said since the last start."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[self.log_start:].decode(errors="replace")

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def start(self, seconds=60):
        """Waits until it answers."""
        with self.turn:
            assert not self.alive, "it runs"
            home = self.folder / "home"
            (home / ".config").mkdir(parents=True, exist_ok=True)
            env = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"),
                   "ANONYMIZED_TELEMETRY": "False", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1",
                   **self.env}
            with open(self.log_path, "ab") as log:
                self.log_start = log.tell()
                self.process = subprocess.Popen(self.command(), env=env, cwd=self.folder,
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.wanted = True
            deadline = time.monotonic() + seconds * SLOW
            while time.monotonic() < deadline:
                if not self.alive:
                    raise AssertionError(f"it ended with {self.process.returncode}, port "
                                         f"{self.port}:\n{self.log[-2000:]}")
                if self.up():
                    return self
                time.sleep(0.02)
            self.stop(signal.SIGKILL)
            raise AssertionError(f"no answer in {seconds} s:\n{self.log[-2000:]}")

    def stop(self, how=signal.SIGTERM, seconds=30):
        """Its exit status. A supervisor leaves it stopped."""
        with self.turn:
            self.wanted = False
            if self.process is None:
                return None
            if self.alive:
                self.process.send_signal(how)
            try:
                return self.process.wait(seconds * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"still running {seconds} s after {how.name}") from None

    def kill(self):
        """As the out-of-memory killer; a supervisor brings it back."""
        with self.turn:
            if self.alive:
                self.process.kill()
                self.process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def wipe(self):
        """Stops it; what it kept is gone."""
        self.stop()
        for path in self.folder.iterdir():
            if path != self.log_path:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class Supervisor:
    """with Supervisor(server): it is started again, pause seconds after each time it ends."""

    def __init__(self, server, pause=0.2):
        self.server = server
        self.pause = pause
        self.ending = threading.Event()
        self.failed = None
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        server = self.server
        while not self.ending.wait(0.02):
            with server.turn:
                down = server.wanted and not server.alive
            if not down:
                continue
            if self.ending.wait(self.pause):
                return
            with server.turn:
                if not server.wanted or server.alive:
                    continue
                server.deaths.append(server.process.returncode)
                try:
                    server.start()
                except AssertionError as error:  # ended again at once: that is one more death
                    server.wanted = True
                    self.failed = error

    def __enter__(self):
        self.thread.start()
        return self.server

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
