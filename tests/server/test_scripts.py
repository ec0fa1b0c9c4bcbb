"""The scripts that start, stop and look at the whole: ChromaDB, Copyparty and the worker."""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from conftest import alive
from programs import free_port, program
from running import PROGRAM, ROOT, SLOW, environment

SCRIPTS = ("run-worker-native.sh", "start-all.sh", "stop-all.sh", "status.sh", "services.sh")


class Project:
    """A folder with the scripts, as the project's own has them, and an environment."""

    def __init__(self, folder, **settings):
        self.folder = folder
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        shutil.copytree(ROOT / "docker", folder / "docker")
        (folder / "bin").mkdir()
        self.ports = {name: str(free_port())
                      for name in ("CHROMADB_PORT", "COPYPARTY_PORT", "WORKER_PORT")}
        self.env = {**environment(folder / "data", DOCUSEARCH_BIN=PROGRAM, TEXT_MODEL="none",
                                  MODEL_NAME="none"), **self.ports, **settings}
        self.env["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"

    def run(self, script, *arguments, seconds=120, **settings):
        env = {**self.env, **settings}
        return subprocess.run([str(self.folder / "scripts" / script), *arguments],
                              env={name: value for name, value in env.items() if value is not None},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=seconds * SLOW, cwd="/")

    def program(self, name, text):
        """A program of the test's own, first on PATH."""
        path = self.folder / "bin" / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return str(path)

    def status(self):
        done = self.run("status.sh", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def pid(self, name):
        return int((self.folder / "services" / f"{name}.pid").read_text().split()[0])


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path / "project")
    yield project
    project.run("stop-all.sh", "--force")


@pytest.fixture
def real(project):
    """The project where ChromaDB and Copyparty are on PATH."""
    for name in ("chroma", "copyparty"):
        (project.folder / "bin" / name).symlink_to(program(name))
    return project


def listener():
    there = socket.socket()
    there.bind(("127.0.0.1", 0))
    there.listen()
    return there, str(there.getsockname()[1])


# ---- run-worker-native.sh ---------------------------------------------------------------------------

NATIVE = "run-worker-native.sh"


def test_help_is_the_default_and_what_is_unknown_an_error(project):
    for arguments in ((), ("help",)):
        done = project.run(NATIVE, *arguments)
        assert done.returncode == 0
        assert "scripts/run-worker-native.sh setup|run|check|help" in done.stdout
    done = project.run(NATIVE, "walk")
    assert done.returncode == 1 and "setup|run|check|help" in done.stderr and not done.stdout


def test_check_tells_of_the_devices_here(project):
    done = project.run(NATIVE, "check")
    lines = done.stdout.splitlines()
    assert lines[0] in ("MPS Available: True", "MPS Available: False")
    assert lines[1] in ("MPS Built: True", "MPS Built: False")
    assert ("✓ Metal/MPS is available!" in lines) == (done.returncode == 0)
    assert (done.returncode == 0) == (lines[0] == "MPS Available: True")
    assert "Device cpu: present" in lines


@pytest.mark.parametrize("fact, available, built", [
    ("present", True, True), ("not present", False, True), ("not built in", False, False)])
def test_check_reads_what_the_program_finds(project, fact, available, built):
    findings = [{"verdict": "ok", "what": "device", "fact": "cpu"},
                {"fact": fact, "verdict": "note", "what": "device mps", "advice": "a {brace}"},
                {"verdict": "ok", "what": "device cpu", "fact": "present"}]
    text = json.dumps({"ok": False, "findings": findings}, indent=2)
    found = project.program("found", f"cat <<'END'\n{text}\nEND\nexit 1\n")
    done = project.run(NATIVE, "check", DOCUSEARCH_BIN=found)
    wanted = [f"MPS Available: {available}", f"MPS Built: {built}"]
    wanted += ["✓ Metal/MPS is available!"] if available else []
    assert done.stdout.splitlines() == wanted + ["Device cpu: present"]
    assert done.returncode == (0 if available else 1)


def test_run_takes_the_programs_place_and_the_environment_as_it_is(project):
    (project.folder / ".env").write_text(
        "# ours\nDEVICE=cuda\n  export MODEL_NAME=\"of the file\"\nLOG_LEVEL='warn'\r\n\nOTHER=1\n")
    told = project.program("told", 'echo "$DEVICE|$MODEL_NAME|$LOG_LEVEL|$OTHER|$*|$PPID"\n')
    done = project.run(NATIVE, "run", "--max-pages", "5", DOCUSEARCH_BIN=told, DEVICE="vulkan",
                       MODEL_NAME=None)
    device, model, level, other, arguments, parent = done.stdout.strip().split("|")
    assert (device, model, level, other) == ("vulkan", "of the file", "warn", "1")
    assert arguments == "serve --max-pages 5"
    assert int(parent) == os.getpid()  # no shell stands between
    assert (project.folder / "data" / "uploads").is_dir()


def test_a_line_of_the_file_that_is_none_is_an_error(project):
    (project.folder / ".env").write_text("DEVICE=cpu\n$(touch x)=1\n")
    done = project.run(NATIVE, "check")
    assert done.returncode == 1 and ".env: '$(touch x)=1'" in done.stderr
    assert not list(project.folder.rglob("x"))


def test_run_refuses_without_the_chromadb_that_is_set(project):
    there, port = listener()
    there.close()
    done = project.run(NATIVE, "run", CHROMA_HOST="127.0.0.1", CHROMA_PORT=port)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Error: ChromaDB not accessible"
    assert f"http://127.0.0.1:{port}/api/v2/heartbeat" in done.stderr
    assert "Starting worker" not in done.stderr


def test_run_names_a_port_that_is_taken_and_by_whom(project):
    there, port = listener()
    with there:
        done = project.run(NATIVE, "run", WORKER_PORT=port)
    assert done.returncode == 1
    assert f"Address already in use: port {port} (worker) is taken by pid {os.getpid()}" in done.stderr
    assert "WORKER_PORT" in done.stderr.splitlines()[1]


def test_without_a_program_it_says_how_to_build_it(project):
    for arguments in (("run",), ("check",)):
        done = project.run(NATIVE, *arguments, DOCUSEARCH_BIN="build/docusearch")
        assert done.returncode == 1 and "run-worker-native.sh setup" in done.stderr


# ---- all of it, for real ----------------------------------------------------------------------------

def names_found(project):
    url = f"http://127.0.0.1:{project.ports['WORKER_PORT']}/documents"
    with urllib.request.urlopen(url, timeout=30) as reply:
        return {document["filename"] for document in json.load(reply)["documents"]
                if document["status"] == "completed"}


def test_start_look_upload_and_stop(real):
    started = real.run("start-all.sh", "--cpu")
    assert started.returncode == 0, started.stdout + started.stderr
    status = real.status()
    assert status["all_running"] is True
    pids = {name: real.pid(name) for name in ("chromadb", "copyparty", "worker")}
    for name, variable in (("chromadb", "CHROMADB_PORT"), ("copyparty", "COPYPARTY_PORT"),
                           ("worker", "WORKER_PORT")):
        assert status["services"][name] == {
            "status": "running", "url": f"http://127.0.0.1:{real.ports[variable]}",
            "mode": "native", "pid": pids[name], "taken_by": None}
        assert alive(pids[name])
    log = (real.folder / "logs" / "worker-native.log").read_text()
    assert f"CHROMA_HOST=127.0.0.1 CHROMA_PORT={real.ports['CHROMADB_PORT']}" in log
    assert "Using device: cpu" in log

    again = real.run("start-all.sh")  # nothing new, nothing ended
    assert again.returncode == 0 and again.stdout.count("runs already") == 3
    assert {name: real.pid(name) for name in pids} == pids

    request = urllib.request.Request(
        f"http://127.0.0.1:{real.ports['COPYPARTY_PORT']}/notes.txt", b"dropped in", method="PUT")
    assert urllib.request.urlopen(request, timeout=30).status == 201
    deadline = time.monotonic() + 60 * SLOW
    while "notes.txt" not in names_found(real) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert names_found(real) == {"notes.txt"}

    stopped = real.run("stop-all.sh")
    assert stopped.returncode == 0, stopped.stderr
    assert not any(alive(pid) for pid in pids.values())
    assert real.status()["all_running"] is False
    assert {service["status"] for service in real.status()["services"].values()} == {"stopped"}
    assert not list((real.folder / "services").glob("*.pid"))
    assert real.run("stop-all.sh").returncode == 0  # with nothing to stop


def end(pid):
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30 * SLOW
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_only_what_does_not_run_needs_its_program(real):
    assert real.run("start-all.sh", "--cpu").returncode == 0
    pids = {name: real.pid(name) for name in ("chromadb", "copyparty", "worker")}
    for name in ("chroma", "copyparty"):
        (real.folder / "bin" / name).unlink()
    real.env["PATH"] = f"{real.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    asked = real.folder / "asked"
    real.program("docker", f'[ "$1" = info ] || echo "$*" >>{asked}\n')
    end(pids["worker"])
    again = real.run("start-all.sh", "--cpu")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("runs already") == 2 and real.status()["all_running"] is True
    assert [real.pid(name) == pids[name] for name in pids] == [True, True, False]
    # Containers would be at the ports of the one that runs.
    end(pids["copyparty"])
    done = real.run("start-all.sh", "--cpu")
    assert done.returncode == 1
    assert "Copyparty is missing, while ChromaDB runs as a program" in done.stderr
    assert alive(pids["chromadb"]) and not asked.exists()


def test_two_starts_at_once(real):
    starts = [subprocess.Popen([str(real.folder / "scripts" / "start-all.sh"), "--cpu"],
                               env=real.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [start.communicate(timeout=120 * SLOW) for start in starts]
    assert [start.returncode for start in starts] == [0, 0], said
    assert sorted(out.count("runs already") for out, _ in said) == [0, 3]
    assert "waiting for it" in said[0][1] + said[1][1]
    assert real.status()["all_running"] is True
    assert {service["mode"] for service in real.status()["services"].values()} == {"native"}
    assert not list((real.folder / "services").glob("start.lock*"))


def test_a_start_that_takes_long_or_was_killed(project):
    """What stands in the way of another is its process, not what it left."""
    project.env["PATH"] = f"{project.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    project.program("docker", "exit 1\n")
    project.program("sleep", "exit 0\n")  # the wait is over at once
    lock = project.folder / "services" / "start.lock"
    lock.parent.mkdir()
    first = subprocess.Popen(["/bin/sleep", "60"])
    try:
        began = Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        lock.symlink_to(f"{first.pid} {began}@{boot}")
        done = project.run("start-all.sh")
        assert done.returncode == 1
        assert f"another start is under way (pid {first.pid};" in done.stderr
        assert os.readlink(lock) == f"{first.pid} {began}@{boot}"
        lock.unlink()
    finally:
        first.kill()
        first.wait()
    for left in (f"{first.pid} {began}@{boot}", f"{os.getpid()} 1@{boot}", "nonsense"):
        lock.symlink_to(left)
        done = project.run("start-all.sh")
        assert done.returncode == 1 and "no program for ChromaDB and Copyparty" in done.stderr
        assert list(lock.parent.iterdir()) == []


def test_a_taken_port_ends_it_before_anything_starts(real):
    for variable, title in (("CHROMADB_PORT", "ChromaDB"), ("COPYPARTY_PORT", "Copyparty"),
                            ("WORKER_PORT", "worker")):
        there, port = listener()
        with there:
            done = real.run("start-all.sh", **{variable: port})
        assert done.returncode == 1
        assert f"port {port} ({title}) is taken by pid {os.getpid()}" in done.stderr
        assert f"Set {variable} to another" in done.stderr
        assert not list((real.folder / "services").glob("*.pid"))


def test_a_chromadb_that_ends_with_status_0_is_a_failure(real):
    (real.folder / "bin" / "chroma").unlink()
    real.program("chroma", "echo 'Address is not available'\nexit 0\n")
    done = real.run("start-all.sh")
    assert done.returncode == 1
    assert "ChromaDB did not start" in done.stderr and "not available" in done.stderr
    assert not list((real.folder / "services").glob("*.pid"))


def test_what_was_started_is_stopped_when_the_rest_fails(real):
    broken = real.program("broken", "echo 'no worker today'\nexit 3\n")
    done = real.run("start-all.sh", DOCUSEARCH_BIN=broken)
    assert done.returncode == 1 and "no worker today" in done.stderr
    assert "Stopping what was started: chromadb copyparty worker" in done.stderr
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if {s["status"] for s in real.status()["services"].values()} == {"stopped"}:
            return
        time.sleep(0.2)
    raise AssertionError(real.status())


def test_a_chromadb_elsewhere_is_used_and_left_alone(real):
    there, port = listener()
    there.close()
    refused = real.run("start-all.sh", CHROMA_HOST="127.0.0.1", CHROMA_PORT=port)
    assert refused.returncode == 1 and "ChromaDB not accessible" in refused.stderr
    theirs = subprocess.Popen([program("chroma"), "run", "--path", str(real.folder / "theirs"),
                               "--host", "127.0.0.1", "--port", port],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30 * SLOW
        real.env |= {"CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": port}
        while real.status()["services"]["chromadb"]["status"] != "running":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        done = real.run("start-all.sh")
        assert done.returncode == 0, done.stderr
        assert real.status()["services"]["chromadb"] == {
            "status": "running", "url": f"http://127.0.0.1:{port}", "mode": "external", "pid": None,
            "taken_by": None}
        assert real.run("stop-all.sh").returncode == 0
        assert theirs.poll() is None
    finally:
        theirs.kill()
        theirs.wait()


def test_a_chromadb_that_is_set_where_ours_would_be_is_started(real):
    """As the settings of those who had one in a container say."""
    real.env |= {"CHROMA_HOST": "localhost", "CHROMA_PORT": real.ports["CHROMADB_PORT"]}
    done = real.run("start-all.sh")
    assert done.returncode == 0, done.stderr
    status = real.status()
    assert status["all_running"] is True
    assert {s["mode"] for s in status["services"].values()} == {"native"}
    log = (real.folder / "logs" / "worker-native.log").read_text()
    assert f"CHROMA_PORT={real.ports['CHROMADB_PORT']}" in log


# ---- what is not ours -------------------------------------------------------------------------------

def test_a_process_that_came_to_the_same_id_is_not_ended(project):
    other = subprocess.Popen(["sleep", "60"])
    try:
        services = project.folder / "services"
        services.mkdir()
        began = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (services / "worker.pid").write_text(f"{other.pid} {int(began) - 1}@{boot}\n")
        (services / "copyparty.pid").write_text(f"{other.pid} {began}@another-start\n")
        (services / "chromadb.pid").write_text("nonsense\n")
        assert {s["pid"] for s in project.status()["services"].values()} == {None}
        done = project.run("stop-all.sh", "--force")
        assert done.returncode == 0 and done.stdout.count("not running") == 3
        assert other.poll() is None
        (services / "worker.pid").write_text(f"{other.pid} {began}@{boot}\n")  # and this is it
        assert project.status()["services"]["worker"] == {
            "status": "unhealthy", "url": f"http://127.0.0.1:{project.ports['WORKER_PORT']}",
            "mode": "native", "pid": other.pid, "taken_by": None}
        assert project.run("stop-all.sh").returncode == 0
        assert other.wait(5) == -signal.SIGTERM
    finally:
        other.kill()
        other.wait()


def test_force_ends_what_does_not_end(project):
    stubborn = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"])
    try:
        services = project.folder / "services"
        services.mkdir()
        began = Path(f"/proc/{stubborn.pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (services / "worker.pid").write_text(f"{stubborn.pid} {began}@{boot}\n")
        time.sleep(0.3)
        done = project.run("stop-all.sh", "--force")
        assert done.returncode == 0 and "killed" in done.stdout
        assert stubborn.wait(5) == -signal.SIGKILL
    finally:
        stubborn.kill()
        stubborn.wait()


# ---- containers: what Docker is asked ---------------------------------------------------------------

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def containers(project):
    """Stand-ins at the ports that the containers would publish; a `docker` that notes what it is
    asked; neither ChromaDB nor Copyparty on PATH."""
    project.env["PATH"] = f"{project.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    project.asked = project.folder / "asked"
    project.program("docker", f'[ "$1 $2" = "compose version" ] || [ "$1" = info ] || '
                              f'echo "$* UPLOADS_DIR=$UPLOADS_DIR" >>{project.asked}\n')
    servers = []

    def publish(*variables):
        for variable in variables:
            there = http.server.ThreadingHTTPServer(("127.0.0.1", int(project.ports[variable])),
                                                    Page)
            servers.append(there)
            threading.Thread(target=there.serve_forever, daemon=True).start()

    project.publish = publish
    yield project
    for there in servers:
        there.shutdown()
        there.server_close()


def test_docker_only(containers):
    containers.publish(*containers.ports)
    done = containers.run("start-all.sh", "--docker-only")
    assert done.returncode == 0, done.stderr
    assert containers.asked.read_text().startswith(
        "compose -p docusearch -f docker/docker-compose.yml up -d --build")
    status = containers.status()
    assert status["all_running"] is True
    assert {s["mode"] for s in status["services"].values()} == {"docker"}
    assert containers.run("stop-all.sh").returncode == 0
    assert containers.asked.read_text().splitlines()[1].startswith(
        "compose -p docusearch -f docker/docker-compose.yml down")
    assert containers.run("stop-all.sh").returncode == 0
    assert len(containers.asked.read_text().splitlines()) == 2


def test_services_in_containers_where_their_programs_are_not_here(containers):
    containers.publish("CHROMADB_PORT", "COPYPARTY_PORT")
    done = containers.run("start-all.sh", "--cpu")
    assert done.returncode == 0, done.stderr
    assert containers.asked.read_text().startswith(
        "compose -p docusearch -f docker/docker-compose.native-worker.yml up -d --build "
        f"UPLOADS_DIR={containers.folder}/data/uploads")
    status = containers.status()
    assert {name: s["mode"] for name, s in status["services"].items()} == {
        "chromadb": "docker", "copyparty": "docker", "worker": "native"}
    # The name by which a container reaches this machine is one that the worker answers to.
    request = urllib.request.Request(status["services"]["worker"]["url"] + "/health",
                                     headers={"Host": "host.docker.internal:"
                                                      + containers.ports["WORKER_PORT"]})
    assert urllib.request.urlopen(request, timeout=30).status == 200
    assert containers.run("stop-all.sh").returncode == 0
    assert containers.asked.read_text().splitlines()[1].startswith(
        "compose -p docusearch -f docker/docker-compose.native-worker.yml down")


def test_without_docker_it_says_so(project):
    project.env["PATH"] = f"{project.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    project.program("docker", "exit 1\n")
    done = project.run("start-all.sh", "--docker-only")
    assert done.returncode == 1 and "Docker" in done.stderr
    done = project.run("start-all.sh")
    assert done.returncode == 1 and "run-worker-native.sh setup --services" in done.stderr


def test_strangers_on_the_ports_are_told_of(project):
    """Whether they answer as web servers do or not at all: they are none of these services."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", int(project.ports["COPYPARTY_PORT"])), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    health = http.server.ThreadingHTTPServer(
        ("127.0.0.1", int(project.ports["WORKER_PORT"])), Page)
    threading.Thread(target=health.serve_forever, daemon=True).start()
    mute = socket.create_server(("127.0.0.1", int(project.ports["CHROMADB_PORT"])))
    try:
        threading.Thread(target=lambda: [mute.accept()[0].close() for _ in range(4)],
                         daemon=True).start()
        services = project.status()["services"]
        for name, one in services.items():
            assert (one["status"], one["mode"], one["pid"]) == ("stopped", None, None), name
            assert one["taken_by"].startswith(f"pid {os.getpid()} ("), name
        said = project.run("status.sh").stdout.splitlines()
        assert len(said) == 3
        for line, variable in zip(said, ("CHROMADB_PORT", "COPYPARTY_PORT", "WORKER_PORT")):
            assert (f"(port {project.ports[variable]} is taken by pid {os.getpid()} ("
                    in line), line
    finally:
        for one in (server, health):
            one.shutdown()
            one.server_close()
        mute.close()
    assert {one["taken_by"] for one in project.status()["services"].values()} == {None}


def test_services_that_somebody_else_started_are_known_by_their_replies(real, tmp_path):
    assert real.run("start-all.sh", "--cpu").returncode == 0
    pids = {name: real.pid(name) for name in ("chromadb", "copyparty", "worker")}
    noted = {path: path.read_text() for path in (real.folder / "services").glob("*.pid")}
    for path in noted:
        path.unlink()
    try:
        services = real.status()["services"]
        assert {one["status"] for one in services.values()} == {"running"}
        assert {one["mode"] for one in services.values()} == {"external"}
        assert {one["taken_by"] for one in services.values()} == {None}
    finally:
        for path, text in noted.items():
            path.write_text(text)
    assert real.run("stop-all.sh").returncode == 0 and not any(map(alive, pids.values()))


def test_usage(project):
    for script in ("start-all.sh", "stop-all.sh", "status.sh"):
        assert project.run(script, "--help").returncode == 0
        wrong = project.run(script, "--sideways")
        assert wrong.returncode == 1 and "usage:" in wrong.stderr


def test_the_scripts_are_clean():
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck")
    paths = [str(ROOT / "scripts" / name) for name in SCRIPTS]
    paths += [str(ROOT / "docker/copyparty.sh"), str(ROOT / "deploy/docusearch.bash")]
    done = subprocess.run(["shellcheck", "-x", *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh"])
def test_the_scripts_are_read_by_other_shells(shell):
    words = shell.split()
    if not shutil.which(words[0]):
        pytest.skip(f"no {words[0]}")
    for name in SCRIPTS:
        done = subprocess.run([*words, "-n", str(ROOT / "scripts" / name)], capture_output=True)
        assert done.returncode == 0, done.stderr
