"""Every setting acts."""

import contextlib
import json
import re
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

import inputs
import tiny_model
from browser_files import make_pdf
from copyparty_payloads import PAYLOADS
from hub import Hub
from running import PROGRAM, ROOT, SLOW, environment
from wire import Wire

SENTENCES = "".join(f"Word number {i} is here. " for i in range(400))


def refused(tmp_path, *arguments, **settings):
    """What a server that does not start says; it must end by itself, with status 1 or 2."""
    done = subprocess.run([PROGRAM, "serve", *arguments], capture_output=True, text=True, timeout=30,
                          env=environment(tmp_path / "data", **settings))
    assert done.returncode in (1, 2), done.stderr
    assert done.stdout == ""
    return done.stderr


def jpeg_size(data):
    """Width and height, from the frame header."""
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
    height, width = struct.unpack(">HH", data[at + 5:at + 9])
    return width, height


# ---- where -----------------------------------------------------------------------------------


def test_data_dir(start, tmp_path):
    server = start(DATA_DIR=str(tmp_path / "elsewhere"))
    server.upload(b"kept elsewhere", "a.txt")
    assert (tmp_path / "elsewhere" / "docusearch.db").exists()
    assert not (tmp_path / "data" / "docusearch.db").exists()


def test_uploads_dir_and_ingest_roots(start, tmp_path):
    folders = [tmp_path / name for name in ("uploads", "one", "two", "three")]
    for folder in folders:
        folder.mkdir()
        (folder / "a.txt").write_text(f"in {folder}")

    def statuses(server):
        return [server.request("POST", "/process", {"file_path": str(folder / "a.txt"),
                                                    "filename": "a.txt"}).status
                for folder in folders]

    assert statuses(start(UPLOADS_DIR=str(folders[0]))) == [200, 403, 403, 403]
    assert statuses(start(name="data2", UPLOADS_DIR=str(folders[0]),
                          INGEST_ROOTS=f"{folders[1]}:{folders[2]}")) == [403, 200, 200, 403]


def test_hook_path_map(start, tmp_path):
    """What Copyparty tells of /uploads lies elsewhere here."""
    files = tmp_path / "real" / "uploads"
    files.mkdir(parents=True)
    (files / "a.pdf").write_bytes(make_pdf([[(72, 700, 12, "The walrus painted the harbour.")]]))
    server = start(INGEST_ROOTS=str(files))
    arguments = next(arguments for event, form, arguments, _ in PAYLOADS["1.20.26"]["put"]
                     if (event, form) == ("xau", "json"))

    def hook(**settings):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60,
                              env=environment(tmp_path / "none", WORKER_PORT=str(server.port),
                                              **settings))

    done = hook()
    assert done.returncode == 1 and "/uploads/a.pdf" in done.stderr
    assert server.get("/documents").json["documents"] == []
    done = hook(HOOK_PATH_MAP=f"/other=/nowhere,/uploads={files}")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    [document] = server.get("/documents").json["documents"]
    assert document["filename"] == "a.pdf"


def test_worker_host(start):
    server = start(WORKER_HOST="127.0.0.2")
    assert server.url.startswith("http://127.0.0.2:")
    with socket.create_connection(("127.0.0.2", server.port), 5) as there:
        there.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n")
        assert b" 200 " in there.recv(1000)
    with pytest.raises(ConnectionRefusedError):
        Wire(server.port)


def test_worker_port(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start(WORKER_PORT=str(port))
    assert server.port == port
    said = refused(tmp_path / "other", WORKER_PORT=str(port))
    assert "Address already in use" in said and str(port) in said
    assert "--worker-port" in said and "WORKER_PORT" in said


def test_one_server_a_data_folder(start, tmp_path):
    server = start()
    said = refused(tmp_path)
    assert server.url in said and str(server.pid) in said


# ---- reading ---------------------------------------------------------------------------------


def test_text_chunk_size_and_overlap(start):
    def words(document):
        return [chunk["text_content"].split() for chunk in document["chunks"]]

    _, usual = start().read(SENTENCES.encode(), "a.txt")
    assert max(map(len, words(usual))) <= 250
    _, small = start(name="data2", TEXT_CHUNK_SIZE="40",
                     TEXT_CHUNK_OVERLAP="10").read(SENTENCES.encode(), "a.txt")
    chunks = words(small)
    assert len(chunks) > len(usual["chunks"]) and max(map(len, chunks)) <= 40
    assert all(a[-10:] == b[:10] for a, b in zip(chunks, chunks[1:]))


def test_page_render_dpi(start):
    data = make_pdf([[(72, 700, 12, "One page of letter size.")]])
    for dpi in (72, 144):
        server = start(name=f"data{dpi}", PAGE_RENDER_DPI=str(dpi))
        _, document = server.read(data, "a.pdf")
        width, height = jpeg_size(server.get(document["pages"][0]["image_url"]).body)
        assert abs(width - 612 * dpi / 72) <= 1 and abs(height - 792 * dpi / 72) <= 1


def test_max_file_size_mb(start):
    server = start(MAX_FILE_SIZE_MB="1")
    assert server.upload(b"x" * (1 << 20), "a.txt").status == 202
    assert server.upload(b"x" * ((1 << 20) + 1), "b.txt").status == 413


def test_max_pages(start):
    server = start(MAX_PAGES="2")
    pages = [[(72, 700, 12, f"Page {i}.")] for i in range(3)]
    assert server.read(make_pdf(pages[:2]), "two.pdf")[0]["state"] == "completed"
    job, document = server.read(make_pdf(pages), "three.pdf")
    if job["state"] == "failed":
        assert job["error"]["code"] == "too_many_pages"
    else:
        assert document["status"] == "partial" and document["page_count"] == 2


def test_supported_formats(start):
    server = start(SUPPORTED_FORMATS="pdf,md")
    assert server.get("/config/supported-formats").json["extensions"] == [".pdf", ".md", ".markdown"]
    assert server.upload(b"plain", "a.txt").status == 415
    assert server.upload(b"# Head", "a.md").status == 202


def test_ocr_languages(start, tmp_path):
    health = start(OCR_LANGUAGES="eng").get("/health").json
    if not health["ocr"]:
        pytest.skip("no OCR is installed")
    assert "eng" in health["ocr"]
    other = start(name="data2", OCR_LANGUAGES="xyz").get("/health").json
    assert other["ocr"] != health["ocr"]


def test_worker_threads(start):
    data = [make_pdf([[(72, 700, 12, f"Document {i}, page {page}.")] for page in range(60)])
            for i in range(4)]
    for n in (1, 2):
        server = start(name=f"data{n}", WORKER_THREADS=str(n))
        for i, one in enumerate(data):
            assert server.upload(one, f"{i}.pdf").status == 202
        most = 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            queue = server.get("/health").json["queue"]
            most = max(most, queue["running"])
            if queue["running"] + queue["waiting"] == 0:
                break
        assert most == n


def test_max_queue(start):
    if b"DOCUSEARCH_FAULT" not in Path(PROGRAM).read_bytes():
        pytest.skip("built without fault points: nothing holds the worker")
    server = start(MAX_QUEUE="2", WORKER_THREADS="1", DOCUSEARCH_FAULT="parsed:sleep")
    replies = [server.upload(f"Waits {i}".encode(), f"{i}.txt") for i in range(6)]
    statuses = [reply.status for reply in replies]
    server.stop(signal.SIGKILL)  # its worker is held for half a minute
    assert statuses[:2] == [202, 202] and statuses[-1] == 429
    assert replies[-1].code == "queue_full" and int(replies[-1].headers["Retry-After"]) > 0


# ---- who may ---------------------------------------------------------------------------------


def authorized(server, key):
    return server.request("GET", "/documents", headers={"Authorization": f"Bearer {key}"}).status


def test_api_key(start):
    server = start(API_KEY="sesame 1")
    assert server.get("/documents").status == 401
    assert server.get("/documents").headers["WWW-Authenticate"] == "Bearer"
    assert [authorized(server, key) for key in ("sesame 1", "sesame", "", "sesame 12")] == [
        200, 401, 401, 401]
    for path in ("/health", "/healthz", "/livez", "/readyz", "/"):
        assert server.get(path).status == 200, path
    for path in ("/metrics", "/events", "/search?q=a", "/nowhere", "/status", "/jobs"):
        assert server.get(path).status == 401, path
    for path in ("/process", "/delete", "/documents"):
        assert server.request("POST", path, "{}").status == 401
    assert "sesame" not in server.log


def test_api_key_file(start, tmp_path):
    (tmp_path / "key").write_text("from a file\nsecond line\n")
    server = start(API_KEY_FILE=str(tmp_path / "key"))
    assert authorized(server, "from a file") == 200 and server.get("/jobs").status == 401
    assert str(tmp_path / "absent") in refused(tmp_path / "x", API_KEY_FILE=str(tmp_path / "absent"))


def test_a_host_beyond_this_machine_needs_a_key_or_insecure(start, tmp_path):
    said = refused(tmp_path, WORKER_HOST="0.0.0.0")
    assert "--insecure" in said and "API_KEY" in said
    assert start(WORKER_HOST="0.0.0.0", API_KEY="k").get("/health").status == 200
    assert start(name="data2", WORKER_HOST="0.0.0.0", INSECURE="1").get("/jobs").status == 200


def test_cors_origin(start):
    origin = "https://docs.example"
    server = start(CORS_ORIGIN=origin)
    reply = server.request("GET", "/documents", headers={"Origin": origin})
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, origin)
    assert reply.headers["Vary"] == "Origin"
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}
    reply = server.request("OPTIONS", "/search", headers=asked)
    assert reply.status == 204 and reply.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]
    other = server.request("GET", "/documents", headers={"Origin": origin + ".evil.example"})
    assert other.status == 403 and "Access-Control-Allow-Origin" not in other.headers


# ---- models ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_model.make_bert(tmp_path_factory.mktemp("models") / "tiny")


def models_of(server):
    """What /health says of the models, once none is loading."""
    deadline = time.monotonic() + 60 * SLOW
    while time.monotonic() < deadline:
        models = {model["kind"]: model for model in server.get("/health").json["models"]}
        if "loading" not in {model["state"] for model in models.values()}:
            return models
        time.sleep(0.05)
    raise AssertionError(models)


def run(tmp_path, *arguments, status=0, **settings):
    done = subprocess.run([PROGRAM, *arguments], env=environment(tmp_path / "data", **settings),
                          capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_text_model_and_model_name(start, tiny):
    models = models_of(start(TEXT_MODEL=str(tiny), MODEL_NAME="nobody/nothing"))
    assert (models["text"]["name"], models["text"]["state"]) == (str(tiny), "ready")
    assert (models["visual"]["name"], models["visual"]["state"]) == ("nobody/nothing",
                                                                     "not_installed")
    models = models_of(start(name="data2", TEXT_MODEL="visual", MODEL_NAME=str(tiny)))
    assert {model["name"] for model in models.values()} == {str(tiny)}
    models = models_of(start(name="data3", TEXT_MODEL="none", MODEL_NAME="none"))
    assert {model["state"] for model in models.values()} == {"off"}


def test_model_precision(start, tiny, tmp_path):
    for precision in ("fp32", "int8"):
        text = models_of(start(name=precision, TEXT_MODEL=str(tiny),
                               MODEL_PRECISION=precision))["text"]
        assert text["precision"] == precision and text["space"].endswith(precision)
    assert "MODEL_PRECISION" in refused(tmp_path, MODEL_PRECISION="fp8")


def test_batch_sizes(tiny, tmp_path):
    def batches(*arguments, **settings):
        _, err = run(tmp_path, "embed", "--verbose", *arguments, **settings)
        return int(re.search(r"(\d+) batch", err)[1])

    texts = [word for i in range(6) for word in ("--passage", str(i))]
    for size, n in (("1", 6), ("4", 2), ("8", 1)):
        assert batches("--model", str(tiny), *texts, BATCH_SIZE_TEXT=size) == n
    assert "BATCH_SIZE_VISUAL" in refused(tmp_path, BATCH_SIZE_VISUAL="0")


def test_query_prompt_and_batch_size_visual(tmp_path, checkpoint):
    """With a small ColPali, which knows prompts and pictures."""
    model = str(checkpoint("colpali-hf"))
    told = {}
    for prompt in ("question", "query", "none"):
        out, _ = run(tmp_path, "embed", "--model", model, "--query", "walrus", QUERY_PROMPT=prompt)
        told[prompt] = json.loads(out)
    assert len({reply["space"] for reply in told.values()}) == 1  # pages know no prompt
    assert told["question"]["vectors"] != told["query"]["vectors"]
    assert len(told["question"]["vectors"]) > len(told["none"]["vectors"])
    assert "QUERY_PROMPT" in refused(tmp_path, QUERY_PROMPT="please")
    (tmp_path / "a.png").write_bytes(inputs.png_grey(20, 20))
    for size, n in (("1", 3), ("3", 1)):
        _, err = run(tmp_path, "embed", "--verbose", *["--image", str(tmp_path / "a.png")] * 3,
                     MODEL_NAME=model, BATCH_SIZE_VISUAL=size)
        assert f"3 inputs, {n} batch" in err


def test_models_dir_and_the_hub(start, tmp_path):
    """MODELS_DIR, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE: where a model comes from and goes."""
    hub = Hub()
    files = {str(path.relative_to(tmp_path / "made")): path.read_bytes()
             for path in tiny_model.make_bert(tmp_path / "made").rglob("*") if path.is_file()}
    hub.add("tests/tiny", files, gated="the token")
    settings = {"TEXT_MODEL": "tests/tiny", "MODELS_DIR": str(tmp_path / "kept"),
                "HF_ENDPOINT": hub.url}
    try:
        _, err = run(tmp_path, "pull", status=1, **settings, HF_TOKEN="the token",
                     HF_HUB_OFFLINE="1")
        assert "HF_HUB_OFFLINE" in err and hub.requests == []
        _, err = run(tmp_path, "pull", status=1, **settings)
        assert "HF_TOKEN" in err
        run(tmp_path, "pull", **settings, HF_TOKEN="the token")
    finally:
        hub.close()
    assert (tmp_path / "kept" / "tests--tiny" / "model.safetensors").exists()
    assert models_of(start(**settings))["text"]["state"] == "ready"
    elsewhere = {**settings, "MODELS_DIR": str(tmp_path / "other")}
    assert models_of(start(name="data2", **elsewhere))["text"]["state"] == "not_installed"


def test_hf_home(start, tmp_path):
    """A model that huggingface_hub has fetched is used where it lies."""
    cache = tmp_path / "hf" / "hub" / "models--tests--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    tiny_model.make_bert(cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    text = models_of(start(TEXT_MODEL="tests/tiny", HF_HOME=str(tmp_path / "hf")))["text"]
    assert (text["name"], text["state"]) == ("tests/tiny", "ready")
    other = models_of(start(name="data2", TEXT_MODEL="tests/tiny", HF_HOME=str(tmp_path / "no")))
    assert other["text"]["state"] == "not_installed"


# ---- device and log --------------------------------------------------------------------------


def test_device(start):
    server = start(DEVICE="cpu")
    assert "Using device: cpu" in server.log and "Warning" not in server.log
    server = start(name="data2", DEVICE="mps")
    assert "Warning: Requested device 'mps' not available, falling back to CPU" in server.log
    device = server.get("/health").json["device"]
    assert (device["requested"], device["used"]) == ("mps", "cpu")
    assert device["reason"] and device["kernels"] and device["processor"] and device["threads"] >= 1


def test_device_strict(tmp_path):
    assert "'mps' is not available" in refused(tmp_path, DEVICE="mps", DEVICE_STRICT="1")
    assert "toaster" in refused(tmp_path, DEVICE="toaster")


def logged(tmp_path, until, **settings):
    """What a server has logged that answered the request `until`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = environment(tmp_path / "data", **settings, WORKER_PORT=str(port))
    with subprocess.Popen([PROGRAM, "serve"], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), Wire(port) as wire:
                wire.send(until)
                if wire.status() in (200, 202, 413):
                    break
            time.sleep(0.05)
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert out == b""
    return err.decode()


READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
TOO_LARGE = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"


def test_log_level(tmp_path):
    said = logged(tmp_path, TOO_LARGE, LOG_LEVEL="debug")
    assert " DEBUG " in said and " INFO " in said
    assert logged(tmp_path, READY, LOG_LEVEL="error") == ""


def test_log_format(tmp_path):
    lines = [json.loads(line) for line in logged(tmp_path, READY, LOG_FORMAT="json").splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    assert "Application startup complete" in [line["message"] for line in lines]


def test_log_lines_that_people_look_for(start):
    server = start()
    server.read(b"one page", "fine.txt")
    server.read(b"%PDF-1.4 nothing", "broken.pdf")
    assert f"Starting worker on {server.url}\n" in server.log
    assert "Application startup complete\n" in server.log
    assert re.search(r"Processed document: fine\.txt \(\d+ pages, [\d.]+s, [\d.]+ pages/s\)\n",
                     server.log)
    assert re.search(r"Failed to process broken\.pdf: .+\n", server.log)


def test_log_file(tmp_path):
    log = tmp_path / "the.log"
    env = environment(tmp_path / "data", LOG_FILE=str(log))
    with subprocess.Popen([PROGRAM, "serve"], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (
                log.exists() and "Application startup complete" in log.read_text()):
            time.sleep(0.05)
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert "Application startup complete" in log.read_text()
    assert (out, err) == (b"", b"")


# ---- where settings come from ----------------------------------------------------------------


def test_order_of_authority(start, tmp_path):
    config = tmp_path / "settings"
    config.write_text("# ours\nMAX_FILE_SIZE_MB=3\nTEXT_CHUNK_SIZE = 60\nTEXT_CHUNK_OVERLAP=5\n")
    server = start("--text-chunk-size", "80", DOCUSEARCH_CONFIG=str(config), TEXT_CHUNK_SIZE="70")
    said = server.log.splitlines()[0]
    assert "TEXT_CHUNK_SIZE=80 " in said and "TEXT_CHUNK_OVERLAP=5 " in said
    assert "MAX_FILE_SIZE_MB=3 " in said


def test_secrets_are_masked(start):
    said = start(API_KEY="sesame", HF_TOKEN="sesame", CHROMA_TOKEN="sesame").log
    assert all(f" {name}=*** " in said for name in ("API_KEY", "HF_TOKEN", "CHROMA_TOKEN"))
    assert "sesame" not in said


@pytest.mark.parametrize("settings, word", [
    ({"WORKER_PORT": "70000"}, "WORKER_PORT"), ({"WORKER_PORT": "x"}, "WORKER_PORT"),
    ({"TEXT_CHUNK_SIZE": "0"}, "TEXT_CHUNK_SIZE"),
    ({"TEXT_CHUNK_SIZE": "10", "TEXT_CHUNK_OVERLAP": "10"}, "TEXT_CHUNK_OVERLAP"),
    ({"PAGE_RENDER_DPI": "5"}, "PAGE_RENDER_DPI"), ({"MAX_PAGES": "-1"}, "MAX_PAGES"),
    ({"MAX_PAGES": "100001"}, "MAX_PAGES"), ({"WORKER_THREADS": "65"}, "WORKER_THREADS"),
    ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"), ({"LOG_FORMAT": "xml"}, "LOG_FORMAT"),
    ({"INDEX_POOL_FACTOR": "0"}, "INDEX_POOL_FACTOR"), ({"INDEX_CODE_BITS": "3"}, "INDEX_CODE_BITS"),
    ({"INDEX_FULL_VECTORS": "some"}, "INDEX_FULL_VECTORS"),
    ({"SEARCH_RECALL": "0.4"}, "SEARCH_RECALL"),
    ({"CHROMA_PORT": "0"}, "CHROMA_PORT"), ({"VISUAL_COLLECTION": "my pages"}, "VISUAL_COLLECTION"),
    ({"TEXT_COLLECTION": "visual_collection"}, "TEXT_COLLECTION"),
    ({"CHROMA_HOST": "localhost", "INDEX_FULL_VECTORS": "0"}, "INDEX_FULL_VECTORS"),
    ({"DEVICE_STRICT": "perhaps"}, "DEVICE_STRICT"), ({"DATA_DIR": "/proc/nowhere"}, "/proc/nowhere"),
])
def test_wrong_settings_are_named(tmp_path, settings, word):
    assert word in refused(tmp_path, **settings)


def test_unknown_settings_are_errors(tmp_path):
    config = tmp_path / "settings"
    config.write_text("MAX_FILE_SIZE=3\n")
    assert "MAX_FILE_SIZE" in refused(tmp_path, DOCUSEARCH_CONFIG=str(config))
    assert "--max-file-size" in refused(tmp_path, "--max-file-size", "3")
