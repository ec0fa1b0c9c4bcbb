"""`check` names what is wrong, and what to do, for every trouble that people had: each is brought about
for real."""

import contextlib
import http.server
import json
import os
import resource
import shutil
import struct
import subprocess
import threading
import time

import pytest

from chroma_server import ChromaServer
from copyparty_server import CopypartyServer
from programs import free_port
from running import PROGRAM, SLOW, environment
from test_embedding_pipeline import drained, models, pages_of, serve
from test_faults import small_disk

__all__ = ["models", "serve", "small_disk"]  # fixtures


def check(data_dir, before=(), preexec=None, **settings):
    """Findings by name, those of one name in a list; and the exit status."""
    env = environment(data_dir, **{"MODEL_NAME": "none", "TEXT_MODEL": "none",
                                   "WORKER_PORT": str(free_port()), **settings})
    done = subprocess.run([*before, PROGRAM, "check", "--json"], env=env, capture_output=True,
                          text=True, timeout=120 * SLOW, preexec_fn=preexec)
    reply = json.loads(done.stdout)
    wrong = [f for f in reply["findings"] if f["verdict"] == "wrong"]
    assert reply["ok"] == (not wrong) and done.returncode == (1 if wrong else 0)
    assert all(f.get("advice") for f in wrong), wrong
    found = {}
    for finding in reply["findings"]:
        found.setdefault(finding["what"], []).append(finding)
    return found


def only(found, what):
    [finding] = found[what]
    return finding


def verdict(found, what):
    return only(found, what)["verdict"]


def test_nothing_is_wrong(tmp_path):
    found = check(tmp_path / "data")
    for what in ("device", "port", "chromadb", "data folder", "uploads folder", "clock",
                 "open files", "memory"):
        assert verdict(found, what) == "ok", found[what]


# ---- Metal --------------------------------------------------------------------------------------


def test_metal_is_not_available(tmp_path):
    device = only(check(tmp_path / "data", DEVICE="mps"), "device")
    assert device["verdict"] == "wrong" and device["fact"] == "cpu, in place of mps"
    assert "Metal" in device["advice"] and "DEVICE=auto" in device["advice"]
    found = check(tmp_path / "data", DEVICE="mps", DEVICE_STRICT="1")
    device = only(found, "device")
    assert device["verdict"] == "wrong" and "'mps'" in device["fact"]
    assert "DEVICE=auto" in device["advice"] and "disk" in found  # the rest is told all the same


# ---- ChromaDB -----------------------------------------------------------------------------------


def test_chroma_does_not_answer(tmp_path):
    port = free_port()
    found = check(tmp_path / "data", CHROMA_HOST="127.0.0.1", CHROMA_PORT=str(port))
    chroma = only(found, "chromadb")
    assert chroma["verdict"] == "wrong" and f"127.0.0.1:{port}" in chroma["fact"]
    assert "chroma run" in chroma["advice"] and "CHROMA_PORT" in chroma["advice"]


def test_the_same_port_twice(tmp_path):
    port = str(free_port())
    chroma = only(check(tmp_path / "data", CHROMA_HOST="127.0.0.1", CHROMA_PORT=port,
                        WORKER_PORT=port), "chromadb")
    assert chroma["verdict"] == "wrong" and "WORKER_PORT" in chroma["advice"]


@contextlib.contextmanager
def answering(status, body):
    """A server that answers all that with this."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield str(server.server_port)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status, body, words", [
    (200, b"<html>", "something else answers"), (410, b'{"error":"gone"}', "before 1.0"),
    (404, b"", "something else answers"), (401, b"{}", "CHROMA_TOKEN")])
def test_something_else_answers(tmp_path, status, body, words):
    with answering(status, body) as port:
        chroma = only(check(tmp_path / "data", CHROMA_HOST="127.0.0.1", CHROMA_PORT=port),
                      "chromadb")
    assert chroma["verdict"] == "wrong" and str(status) in chroma["fact"]
    assert words in chroma["advice"]


@pytest.fixture
def chroma(tmp_path):
    server = ChromaServer(tmp_path / "chroma")
    server.start()
    yield server
    server.stop()


def test_what_chroma_holds(tmp_path, chroma, models):
    settings = {**chroma.settings, "TEXT_MODEL": str(models["sentence"])}
    found = check(tmp_path / "data", **settings)
    assert verdict(found, "chromadb") == "ok" and chroma.url in only(found, "chromadb")["fact"]
    assert "1.0" in only(found, "chromadb")["fact"]
    missing = only(found, "text collection")
    assert missing["verdict"] == "note" and "another folder" in missing["advice"]
    assert "visual collection" not in found  # that model is off
    chroma.make("others", docusearch_space="vidore/other@0123/128/int8")
    found = check(tmp_path / "data", TEXT_COLLECTION="others", **settings)
    other = only(found, "text collection")
    assert other["verdict"] == "wrong" and "vidore/other@0123" in other["fact"]
    assert "docusearch reindex --model" in other["advice"]
    chroma.make("foreign", space="l2")
    foreign = only(check(tmp_path / "data", TEXT_COLLECTION="foreign", **settings),
                   "text collection")
    assert foreign["verdict"] == "note" and "Python worker" in foreign["advice"]
    chroma.make("ours", docusearch_space=f"{models['sentence']}@0123/32/fp32")
    ours = only(check(tmp_path / "data", TEXT_COLLECTION="ours", **settings), "text collection")
    assert ours["verdict"] == "ok" and "ours" in ours["fact"]
    found = check(tmp_path / "data", CHROMA_TENANT="no one", **settings)
    assert verdict(found, "text collection") in ("note", "wrong")


def test_what_the_running_server_uses_is_told(tmp_path, chroma, serve, models):
    """Its settings are those that count, as after start-all.sh, which gives the server CHROMA_HOST."""
    server = serve(**chroma.settings)
    server.upload(pages_of(1, 2), "a.txt")
    drained(server)
    found = check(server.data_dir, TEXT_MODEL=str(models["sentence"]))
    assert only(found, "chromadb")["verdict"] == "ok"
    assert only(found, "chromadb")["fact"] == f"{chroma.url}, used by the running server"
    collections = {f["fact"].split(": ")[0]: f for f in found["collection"]}
    assert collections["text_collection"]["verdict"] == "ok"
    assert str(models["sentence"].name) in collections["text_collection"]["fact"]
    chroma.stop()
    deadline = time.monotonic() + 60 * SLOW
    while verdict(found, "chromadb") == "ok":
        assert time.monotonic() < deadline
        time.sleep(0.5)
        found = check(server.data_dir)
    lost = only(found, "chromadb")
    assert lost["verdict"] == "wrong" and f"{chroma.url}, of the running server: " in lost["fact"]
    assert "503" in lost["advice"]
    server.stop()
    assert only(check(server.data_dir), "chromadb")["fact"] == "not used: CHROMA_HOST is not set"
    server = serve()
    unused = only(check(server.data_dir), "chromadb")
    assert unused["verdict"] == "ok" and "not used by the running server" in unused["fact"]
    unused = only(check(server.data_dir, **chroma.settings), "chromadb")
    assert unused["verdict"] == "note" and "start the server again" in unused["advice"]


# ---- the hook -----------------------------------------------------------------------------------


def test_a_hook_that_copyparty_knows_by_its_whole_path(tmp_path, start):
    """As start-all.sh starts it: nobody's PATH needs to have the program."""
    server = start(MODEL_NAME="none", TEXT_MODEL="none")
    uploads = server.data_dir / "uploads"
    path = "/usr/bin:/bin"
    assert not shutil.which("docusearch", path=path)
    missing = only(check(server.data_dir, PATH=path), "hook")
    assert missing["verdict"] == "note" and "not on the PATH" in missing["fact"]
    hook = ["--xau", f"f,t60,j,,{PROGRAM},hook"]
    other = CopypartyServer(tmp_path / "other", *hook)
    copyparty = CopypartyServer(tmp_path / "copyparty", *hook, "--xad", "f,t60,j,,false,hook",
                                files=uploads)
    other.start()
    try:
        assert verdict(check(server.data_dir, PATH=path), "hook") == "note"  # another folder's
        copyparty.start()
        try:
            seen = only(check(server.data_dir, PATH=path), "hook")
            assert seen["verdict"] == "ok", seen
            assert seen["fact"] == f"{PROGRAM}, of the running Copyparty, reaches the server"
        finally:
            copyparty.stop()
        assert verdict(check(server.data_dir, PATH=path), "hook") == "note"
    finally:
        other.stop()


# ---- the port -----------------------------------------------------------------------------------


def test_who_has_the_port(tmp_path):
    holder = subprocess.Popen(["python3", "-c", "import socket, time\ns = socket.socket()\n"
                               "s.bind(('127.0.0.1', 0))\ns.listen()\n"
                               "print(s.getsockname()[1], flush=True)\ntime.sleep(600)"],
                              stdout=subprocess.PIPE, text=True)
    try:
        port = holder.stdout.readline().strip()
        found = only(check(tmp_path / "data", WORKER_PORT=port), "port")
    finally:
        holder.kill()
        holder.wait()
    assert found["verdict"] == "wrong" and f"port {port}: taken by process {holder.pid} (python3" \
        in found["fact"]
    assert "WORKER_PORT" in found["advice"]
    assert verdict(check(tmp_path / "data", WORKER_PORT=port), "port") == "ok"


def test_another_worker_has_the_port(tmp_path, start):
    server = start(MODEL_NAME="none", TEXT_MODEL="none")
    found = only(check(tmp_path / "other", WORKER_PORT=str(server.port)), "port")
    assert f"process {server.pid} (docusearch)" in found["fact"]


# ---- memory and time ----------------------------------------------------------------------------


def make_huge(source, folder, size_bytes):
    """A model whose weights are a hole of that size."""
    shutil.copytree(source, folder)
    n = size_bytes // 4
    header = json.dumps({"embeddings.word_embeddings.weight": {
        "dtype": "F32", "shape": [n // 32, 32], "data_offsets": [0, n * 4]}}).encode()
    header += b" " * (-len(header) % 8)
    path = folder / "model.safetensors"
    path.unlink()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        out.truncate(8 + len(header) + n * 4)


def test_out_of_memory(tmp_path, models):
    folder = tmp_path / "huge"
    make_huge(models["sentence"], folder, 1 << 40)
    found = check(tmp_path / "data", TEXT_MODEL=str(folder), MODEL_PRECISION="fp32")
    assert only(found, "text model")["fact"].endswith("installed"), found["text model"]
    memory = only(found, "memory")
    assert memory["verdict"] == "wrong" and "1 models in fp32" in memory["fact"]
    assert "MODEL_PRECISION=int8" in memory["advice"] and "BATCH_SIZE_VISUAL" in memory["advice"]
    at_int8 = only(check(tmp_path / "data", TEXT_MODEL=str(folder), MODEL_PRECISION="int8"),
                   "memory")
    assert float(at_int8["fact"].split()[-1]) == pytest.approx(
        float(memory["fact"].split()[-1]) / 4, rel=0.01)


def test_a_limit_of_memory(tmp_path, models):
    """As a container or a service has it."""
    folder = tmp_path / "large"
    make_huge(models["sentence"], folder, 4 << 30)
    limit = 4 << 30
    found = check(tmp_path / "data", TEXT_MODEL=str(folder), MODEL_PRECISION="fp32",
                  preexec=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    memory = only(found, "memory")
    assert memory["verdict"] == "wrong" and "4.0 GiB by ulimit -v" in memory["fact"]


def memory_group():
    """Where a control group can be made below this one, and the name of its limit."""
    for line in open("/proc/self/cgroup", encoding="utf-8"):
        number, names, path = line.strip().split(":", 2)
        for root, file, fits in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                  names == "memory"),
                                 ("/sys/fs/cgroup", "memory.max", number == "0" and not names)):
            folder = root + path.rstrip("/")
            if fits and os.path.exists(f"{folder}/{file}") and os.access(folder, os.W_OK):
                return folder, file
    pytest.skip("no control group of memory can be made here")
    return None


def test_a_control_group(tmp_path, models):
    folder, file = memory_group()
    group = f"{folder}/docusearch-{os.getpid()}"
    try:
        os.mkdir(group)
        with open(f"{group}/{file}", "w", encoding="ascii") as limit:
            limit.write(str(1 << 30))
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        make_huge(models["sentence"], tmp_path / "large", 4 << 30)
        found = check(tmp_path / "data", TEXT_MODEL=str(tmp_path / "large"), MODEL_PRECISION="int8",
                      before=["sh", "-c", f"echo $$ > {group}/cgroup.procs; exec \"$@\"", "sh"])
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                os.rmdir(group)
                break
            time.sleep(0.1)
    memory = only(found, "memory")
    assert memory["verdict"] == "wrong" and "1.0 GiB by its control group" in memory["fact"]
    assert "raise the limit" in memory["advice"]


def test_a_model_that_loads_slowly(serve, models, tmp_path):
    settings = {"TEXT_MODEL": str(models["sentence"]), "MODELS_DIR": str(tmp_path / "models"),
                "MODEL_PRECISION": "fp32"}
    loading = only(check(tmp_path / "data", **settings), "text loading")
    assert loading["verdict"] == "note" and "not packed yet" in loading["fact"]
    assert "MODELS_DIR/packed" in loading["advice"]
    server = serve()
    deadline = time.monotonic() + 30 * SLOW
    while not list((tmp_path / "models" / "packed").glob("*.from")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    loading = only(check(server.data_dir, **settings), "text loading")
    assert loading["verdict"] == "ok" and "loaded in" in loading["fact"]
    server.stop()
    shutil.rmtree(tmp_path / "models" / "packed")
    (tmp_path / "models" / "packed").write_text("no folder")
    loading = only(check(tmp_path / "data", **settings), "text loading")
    assert loading["verdict"] == "wrong" and "MODELS_DIR writable" in loading["advice"]


# ---- folders ------------------------------------------------------------------------------------


def test_folders_that_cannot_be_used(tmp_path, small_disk):
    found = check(tmp_path / "data", INGEST_ROOTS=f"{tmp_path}:{tmp_path}/gone")
    assert [f["verdict"] for f in found["ingest root"]] == ["ok", "wrong"]
    assert "INGEST_ROOTS" in found["ingest root"][1]["advice"]
    (tmp_path / "file").write_text("no folder")
    found = check(tmp_path / "data", UPLOADS_DIR=str(tmp_path / "file"))
    uploads = only(found, "uploads folder")
    assert uploads["verdict"] == "wrong" and "Not a directory" in uploads["fact"]
    assert "Copyparty" in uploads["advice"]
    (small_disk / "up").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    uploads = only(check(tmp_path / "data", UPLOADS_DIR=str(small_disk / "up")), "uploads folder")
    assert uploads["verdict"] == "wrong" and "Read-only" in uploads["fact"]
    found = check(small_disk / "data")
    assert any(f["verdict"] == "wrong" for f in found["data folder"]) and "open files" in found


def test_little_room(small_disk):
    disk = only(check(small_disk / "data"), "disk")
    assert disk["verdict"] == "wrong" and "0.3 GiB free" in disk["fact"]
    assert "make room" in disk["advice"]


def test_a_clock_that_is_behind(tmp_path):
    assert verdict(check(tmp_path / "data"), "clock") == "ok"
    ahead = time.time() + 5 * 86400
    os.utime(tmp_path / "data" / "docusearch.db", (ahead, ahead))
    clock = only(check(tmp_path / "data"), "clock")
    assert clock["verdict"] == "wrong" and "timedatectl" in clock["advice"]


# ---- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit, expected", [(100, "wrong"), (512, "note"), (2048, "ok")])
def test_few_open_files(tmp_path, limit, expected):
    found = check(tmp_path / "data",
                  preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    files = only(found, "open files")
    assert (files["verdict"], files["fact"]) == (expected, f"at most {limit}")
    assert ("LimitNOFILE" in files.get("advice", "")) == (expected != "ok")


def test_few_watches(tmp_path):
    uploads = tmp_path / "up"
    for i in range(9):
        (uploads / f"{i}" / "inner").mkdir(parents=True)
    (uploads / ".hist" / "left" / "out").mkdir(parents=True)
    few = ["unshare", "-Ur", "sh", "-c",
           'echo 12 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh"]
    tried = subprocess.run([*few, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no user namespace: {tried.stderr.strip()}")
    found = only(check(tmp_path / "data", before=few, UPLOADS_DIR=str(uploads)), "watches")
    assert found["verdict"] == "wrong" and found["fact"].startswith("19 folders")
    assert "sysctl -w user.max_inotify_watches=" in found["advice"]
    assert verdict(check(tmp_path / "data", UPLOADS_DIR=str(uploads)), "watches") == "ok"


# ---- a damaged index ----------------------------------------------------------------------------


def test_damaged_vectors_come_with_advice(serve, models, tmp_path):
    server = serve()
    server.upload(pages_of(1, 2), "a.txt")
    drained(server)
    server.stop()
    [segment] = (server.data_dir / "vectors").rglob("*.seg")
    raw = bytearray(segment.read_bytes())
    raw[4096 + 4096 * 64 + 5] ^= 1
    segment.write_bytes(raw)
    found = check(server.data_dir, TEXT_MODEL=str(models["sentence"]))
    assert verdict(found, "vectors") == "wrong" and "a.txt" in only(found, "damaged")["fact"]
