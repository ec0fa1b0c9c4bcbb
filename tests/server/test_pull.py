"""Models: fetched from a double of the hub, found where they lie, listed, removed, taken from a
folder; what is half there, wrong or hostile is named and never counts as installed."""

import base64
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import ssl
import struct
import subprocess
import time

import pytest

from conftest import stop_whole
from hub import TEXT_MODEL, UNWANTED, Hub, safetensors
from running import PROGRAM, SLOW, environment

NAME = "tests/bert"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub():
    double = Hub()
    yield double
    double.close()


class Models:
    """Commands over a models folder and a cache of their own."""

    def __init__(self, top, hub=None, **settings):
        self.dir = top / "data" / "models"
        self.cache = top / "hf" / "hub"
        endpoint = hub.url if hub else "http://127.0.0.1:9"
        self.env = environment(top / "data", **{"HF_HOME": str(top / "hf"), "HF_ENDPOINT": endpoint,
                                                "TEXT_MODEL": NAME, **settings})

    def start(self, *arguments, **options):
        return subprocess.Popen([PROGRAM, *arguments], env=self.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def run(self, *arguments, status=0, **settings):
        done = subprocess.run([PROGRAM, *arguments], env={**self.env, **settings},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60 * SLOW)
        assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def refused(self, *arguments, **settings):
        """The code and the words of the failure of the one model of a pull."""
        out, err = self.run("pull", "--json", *arguments, status=1, **settings)
        model, = json.loads(out)["models"]
        message = re.sub(r"[\x00-\x1f\x7f]", " ", model["error"]["message"])
        assert model["state"] == "failed" and message in err
        return model["error"]["code"], model["error"]["message"]

    def list(self):
        return {model["name"]: model for model in json.loads(self.run("models", "--json")[0])["models"]}

    def state(self, name=NAME):
        """(state, problem), of models that the list knows."""
        model = self.list()[name]
        assert (model["folder"] != "") == (model["state"] == "installed")
        return model["state"], model["problem"]

    def folder(self, name=NAME):
        return self.dir / name.replace("/", "--")

    def parts(self):
        return sorted(path.name for path in self.dir.rglob("*.part"))

    def holds(self, files, name=NAME):
        """The model's folder holds these files and no others, but for ours."""
        folder = self.folder(name)
        found = {str(path.relative_to(folder)): path.read_bytes()
                 for path in folder.rglob("*") if path.is_file()}
        manifest = json.loads(found.pop("docusearch.json"))
        listed = {file["path"]: (file["size_bytes"], file["sha256"]) for file in manifest["files"]}
        assert found == files
        assert listed == {path: (len(data), hashlib.sha256(data).hexdigest())
                          for path, data in files.items()}
        return manifest


@pytest.fixture
def models(tmp_path, hub):
    return Models(tmp_path, hub)


def cached(models, files, name=NAME, ref="main"):
    """Lays the model into huggingface_hub's cache; its snapshot."""
    commit = hashlib.sha1(name.encode()).hexdigest()
    top = models.cache / ("models--" + name.replace("/", "--"))
    snapshot = top / "snapshots" / commit
    (top / "refs").mkdir(parents=True)
    (top / "refs" / ref).write_text(commit)
    (top / "blobs").mkdir()
    for path, data in files.items():
        blob = top / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / path).symlink_to(os.path.relpath(blob, (snapshot / path).parent))
    return snapshot


# ---- a whole pull --------------------------------------------------------------------------------

def test_a_model_is_fetched_once(models, hub):
    """What a model needs and nothing else; the second pull and offline ones ask nobody."""
    hub.add(NAME, {**TEXT_MODEL, **UNWANTED})
    out, err = models.run("pull")
    assert out == f"{NAME}  {models.folder()}\n"
    assert f"fetching {NAME} from {hub.url}" in err and re.search(rf"^7/7  {WEIGHTS}  400\.\d kB$",
                                                                  err, re.M)
    manifest = models.holds(TEXT_MODEL)
    assert manifest["name"] == NAME and manifest["source"] == hub.url
    assert manifest["revision"] == "main" and manifest["commit"] == hub.models[NAME, "main"].commit
    assert models.state() == ("installed", "")
    n_requests = len(hub.requests)
    assert models.run("pull", NAME) == (out, "")
    assert models.run("pull", HF_HUB_OFFLINE="1") == (out, "")
    assert len(hub.requests) == n_requests
    assert [path.name for path in models.dir.iterdir()] == [models.folder().name]


def test_json_and_table(models, hub):
    hub.add(NAME)
    model, = json.loads(models.run("pull", "--json", "--quiet")[0])["models"]
    size = sum(map(len, TEXT_MODEL.values()))
    assert model == {"name": NAME, "kind": "bert", "state": "installed", "origin": "models_dir",
                     "folder": str(models.folder()), "size_bytes": size, "problem": ""}
    listed = json.loads(models.run("models", "--json")[0])
    assert listed["models"] == [model] and listed["models_dir"] == str(models.dir)
    assert listed["text_model"] == model
    assert listed["model_name"]["state"] == "not_installed"
    table = models.run("models")[0]
    assert re.search(rf"^{NAME}  +bert +40\d\.\d kB  models_dir installed$", table, re.M)
    assert re.search(rf"^TEXT_MODEL {NAME}: installed$", table, re.M)
    assert re.search(r"^MODEL_NAME vidore/colpali-v1.2: not installed$", table, re.M)
    table = models.run("models", TEXT_MODEL="visual", MODEL_NAME="none")[0]
    assert re.search(r"^TEXT_MODEL visual$", table, re.M)


def test_a_bar_on_a_terminal(models, hub):
    hub.add(NAME)
    hub.faults = {WEIGHTS: [("cut", 100000)]}
    near, far = pty.openpty()
    done = subprocess.Popen([PROGRAM, "pull"], env=models.env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=far)
    os.close(far)
    seen = b""
    while True:
        try:
            seen += os.read(near, 65536)
        except OSError:
            break
    os.close(near)
    assert done.wait() == 0 and re.search(rb"\r\[#*-*\] 7/7  [\d.]+ kB of 400\.\d kB", seen)


def test_no_name_and_wrong_arguments(models):
    for settings in ({"TEXT_MODEL": "none"}, {"TEXT_MODEL": "visual"}):
        assert "name a model" in models.run("pull", status=2, **settings)[1]
    for arguments in (["pull", "--what"], ["pull", "--from"], ["pull", "a/b", "c/d", "--from", "x"],
                      ["pull", "--from", "x"], ["models", "x"], ["rm-model"],
                      ["pull", "a/b", "--from", "x", "--revision", "y"]):
        assert "usage:" in models.run(*arguments, status=2)[1]


def test_several_names(models, hub):
    hub.add("a/one")
    hub.add("two")
    out, err = models.run("pull", "a/one", "a/none", "two", status=1)
    assert out.count("\n") == 2 and "no model a/none" in err
    assert set(models.list()) == {"a/one", "two"}


def test_a_hub_without_hashes_in_its_listing(models, hub):
    hub.add(NAME)
    hub.hashes = False
    models.run("pull")
    models.holds(TEXT_MODEL)
    assert hub.asked("recursive=true")


def test_another_revision_takes_its_place(models, hub):
    hub.add(NAME)
    newer = {**TEXT_MODEL, WEIGHTS: safetensors(400000, b"n"), "added.json": b"{}"}
    del newer["vocab.txt"]
    hub.add(NAME, newer, revision="v2")
    models.run("pull")
    models.run("pull", "--revision", "v2")
    assert models.holds(newer)["revision"] == "v2"
    # what was right already has not been fetched again
    assert len(hub.asked("/tokenizer.json")) == 2 and len(hub.asked("/added.json")) == 2
    assert models.refused("--revision", "v3")[0] == "no_such_revision"
    assert models.refused("--revision", "../../v2")[0] == "invalid"
    models.holds(newer)


# ---- transfers that break ------------------------------------------------------------------------

def test_a_cut_connection_is_taken_up_by_range(models, hub):
    hub.add(NAME)
    hub.faults = {WEIGHTS: [("cut", 250000), ("cut", 90000)]}
    models.run("pull")
    models.holds(TEXT_MODEL)
    assert hub.sent == sum(map(len, TEXT_MODEL.values()))
    ranges = [headers.get("Range") for word, path, headers in hub.requests if word == "cdn"]
    assert ranges == [None, "bytes=250000-", "bytes=340000-"]


def test_a_hub_that_ignores_ranges(models, hub):
    hub.add(NAME)
    hub.faults = {WEIGHTS: [("cut", 250000), "whole"]}
    models.run("pull")
    models.holds(TEXT_MODEL)


def stopped_midway(models, hub, n_bytes, how):
    """A pull that was ended while the weights came; its exit status and words."""
    hub.faults = {WEIGHTS: [("stall", n_bytes)]}
    pull = models.start("pull", NAME)
    part = models.folder() / f"{WEIGHTS}.part"
    deadline = time.monotonic() + 20 * SLOW
    while not (part.exists() and part.stat().st_size == n_bytes):
        assert time.monotonic() < deadline and pull.poll() is None
        time.sleep(0.02)
    pull.send_signal(how)
    _, err = pull.communicate(timeout=20 * SLOW)
    return pull.returncode, err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_pull_goes_on_the_next_time(models, hub, how):
    hub.add(NAME)
    status, err = stopped_midway(models, hub, 123456, how)
    if how == signal.SIGINT:
        assert status == 1 and "stopped; what has come is kept" in err
    assert models.parts() == [f"{WEIGHTS}.part"]
    assert models.state() == ("incomplete", f"{WEIGHTS}: half fetched")
    assert re.search(rf"{NAME} .* models_dir incomplete  {WEIGHTS}: half fetched",
                     models.run("models")[0])
    hub.requests.clear()
    models.run("pull")
    models.holds(TEXT_MODEL)
    assert hub.sent == sum(map(len, TEXT_MODEL.values()))
    assert [headers.get("Range") for word, _, headers in hub.requests if word == "cdn"] == [
        "bytes=123456-"]
    assert not hub.asked("/tokenizer.json")


def test_a_part_of_something_else_is_fetched_anew(models, hub):
    hub.add(NAME)
    stopped_midway(models, hub, 5000, signal.SIGKILL)
    part = models.folder() / f"{WEIGHTS}.part"
    part.write_bytes(b"x" * 7000)
    models.run("pull")
    models.holds(TEXT_MODEL)
    shutil.rmtree(models.folder())
    stopped_midway(models, hub, 5000, signal.SIGKILL)
    part.write_bytes(b"x" * 500000)  # longer than the file
    models.run("pull")
    models.holds(TEXT_MODEL)


def test_a_part_that_is_a_link_is_not_followed(models, hub, tmp_path):
    hub.add(NAME)
    stopped_midway(models, hub, 5000, signal.SIGKILL)
    part = models.folder() / f"{WEIGHTS}.part"
    part.unlink()
    part.symlink_to(tmp_path / "elsewhere")
    assert models.refused()[0] == "storage_error"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("path,wrong", [
    (WEIGHTS, safetensors(400000, b"v")), (WEIGHTS, TEXT_MODEL[WEIGHTS][:-4]),
    (WEIGHTS, TEXT_MODEL[WEIGHTS] + b"more"), ("config.json", b'{"model_type": "bart", '
                                                              b'"hidden_size": 8}\n'),
    ("tokenizer.json", b""), ("1_Pooling/config.json", b"{}" * 99)],
    ids=["bytes", "short", "long", "git", "empty", "folder"])
def test_wrong_bytes_are_refused_and_named(models, hub, path, wrong):
    hub.add(NAME)
    hub.faults = {path: [("bytes", wrong)] * 9}
    code, words = models.refused()
    assert code == "checksum_mismatch" and path in words and NAME in words
    assert models.parts() == [] and models.state()[0] == "incomplete"
    assert not (models.folder() / path).exists()
    hub.faults = {}
    models.run("pull")
    models.holds(TEXT_MODEL)


def test_errors_that_pass_are_waited_out(models, hub):
    hub.add(NAME)
    hub.faults = {"api": [503], WEIGHTS: [500, 429, ("cut", 0)]}
    models.run("pull")
    models.holds(TEXT_MODEL)


def test_errors_that_stay(models, hub):
    hub.add(NAME)
    hub.faults = {"api": [502] * 99}
    code, words = models.refused()
    assert code == "hub_error" and "answered 502" in words and len(hub.requests) == 5
    hub.faults = {WEIGHTS: [400]}
    assert models.refused()[0] == "hub_error"


def test_silence_is_not_waited_for(models, hub):
    hub.add(NAME)
    hub.faults = {WEIGHTS: [("stall", 1000)]}
    begun = time.monotonic()
    models.run("pull")
    assert 9 < time.monotonic() - begun < 30 * SLOW
    models.holds(TEXT_MODEL)


# ---- who may, and whether at all -----------------------------------------------------------------

def test_gated_and_private_models(models, hub):
    hub.add(NAME, gated="secret")
    code, words = models.refused()
    assert code == "token_needed" and "HF_TOKEN" in words and f"{hub.url}/{NAME}" in words
    code, words = models.refused(HF_TOKEN="another")
    assert code == "token_needed" and "ask for access" in words
    models.run("pull", HF_TOKEN="secret")
    models.holds(TEXT_MODEL)


def test_the_token_stays_with_the_hub(models, hub):
    hub.add(NAME)
    out, err = models.run("pull", HF_TOKEN="secret")
    sent = {word: {headers.get("Authorization") for w, _, headers in hub.requests if w == word}
            for word in ("hub", "cdn")}
    assert sent == {"hub": {"Bearer secret"}, "cdn": {None}}
    assert "secret" not in out + err


def test_a_password_in_the_address_is_sent_and_not_told(models, hub):
    hub.add(NAME)
    models.cache.parent.mkdir(parents=True, exist_ok=True)
    (models.cache.parent / "token").write_text("left behind")
    address = hub.url.replace("://", "://ann:s3cret@")
    told = [models.run("pull", NAME, HF_ENDPOINT=address)]
    assert models.holds(TEXT_MODEL)["source"] == hub.url
    basic = "Basic " + base64.b64encode(b"ann:s3cret").decode()
    assert {headers.get("Authorization") for word, _, headers in hub.requests
            if word == "hub"} == {basic}
    assert {headers.get("Authorization") for word, _, headers in hub.requests
            if word == "cdn"} == {None}
    told.append(models.refused("no/such", HF_ENDPOINT=address))
    told.append(models.refused("a/b", HF_ENDPOINT="http://ann:s3cret@127.0.0.1:1"))
    assert "s3cret" not in str(told) and "ann" not in str(told)


def test_the_token_that_huggingface_hub_keeps(models, hub):
    hub.add(NAME, gated="kept")
    models.cache.parent.mkdir(parents=True, exist_ok=True)
    kept = models.cache.parent / "token"
    for text in ("", "kept\x01", "another\n"):
        kept.write_text(text)
        assert models.refused()[0] == "token_needed"
    kept.write_text("kept\n")
    assert models.refused(HF_TOKEN="another")[0] == "token_needed"
    models.run("pull")
    models.holds(TEXT_MODEL)


def test_a_redirect_to_a_file_is_not_followed(models, hub):
    hub.add(NAME)
    hub.faults = {WEIGHTS: [("to", "file:///etc/passwd")] * 9}
    assert models.refused()[0] == "bad_redirect"
    hub.faults = {WEIGHTS: [("to", f"{hub.url}/{NAME}/resolve/main/{WEIGHTS}")] * 99}
    assert models.refused()[0] == "bad_redirect"


def test_a_certificate_that_nobody_signed(models, hub, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    pair = tmp_path / "pair.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", pair, "-out", tmp_path / "cert.pem"], check=True,
                   capture_output=True)
    with open(pair, "ab") as out:
        out.write((tmp_path / "cert.pem").read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    hub.near.socket = context.wrap_socket(hub.near.socket, server_side=True)
    code, words = models.refused(HF_ENDPOINT=hub.url.replace("http:", "https:"), HF_TOKEN="secret")
    assert code == "bad_certificate" and "certificate" in words and hub.requests == []


def test_unknown_models(models):
    for settings in ({}, {"HF_TOKEN": "mine"}):
        code, words = models.refused("nobody/nothing", **settings)
        assert code == "no_such_model" and "nobody/nothing" in words
    assert not models.dir.exists() or list(models.dir.iterdir()) == []
    assert "not installed" in models.run("rm-model", "nobody/nothing", status=1)[1]


def test_offline_and_unreachable(models, hub):
    hub.add(NAME)
    code, words = models.refused(HF_HUB_OFFLINE="1")
    assert code == "offline" and hub.requests == []
    begun = time.monotonic()
    assert models.refused(HF_ENDPOINT="http://127.0.0.1:1")[0] == "hub_unreachable"
    assert time.monotonic() - begun < 3 * SLOW
    for endpoint in ("ftp://127.0.0.1", "huggingface.co", "file:///etc"):
        assert models.refused(HF_ENDPOINT=endpoint)[0] == "invalid"


def test_proxies_of_the_environment(models, hub):
    """They are used, but not for a hub of this machine; one that refuses is not waited for."""
    hub.add(NAME)
    dead = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    models.run("pull", **dead)
    models.run("rm-model", NAME)
    hub.requests.clear()
    models.run("pull", HF_ENDPOINT="http://hub.invalid", http_proxy=hub.url, HF_TOKEN="secret")
    assert models.holds(TEXT_MODEL)["source"] == "http://hub.invalid"
    assert {headers["Host"] for word, _, headers in hub.requests if word == "hub"} == {
        "hub.invalid"}
    assert {headers.get("Authorization") for word, _, headers in hub.requests
            if word == "cdn"} == {None}
    begun = time.monotonic()
    for proxy in (dead, {"https_proxy": hub.url}):  # the double knows no CONNECT
        code, _ = models.refused("a/b", HF_ENDPOINT="https://hub.invalid", **proxy)
        assert code == "hub_unreachable"
    assert time.monotonic() - begun < 3 * SLOW


def test_two_at_once_do_not_write_together(models, hub):
    hub.add(NAME)
    hub.faults = {WEIGHTS: [("stall", 5000)]}
    first = models.start("pull", NAME)
    deadline = time.monotonic() + 20 * SLOW
    while models.parts() != [f"{WEIGHTS}.part"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert models.refused()[0] == "being_changed"
    assert "by another process" in models.run("rm-model", NAME, status=1)[1]
    first.kill()
    first.communicate()
    models.run("pull")
    models.holds(TEXT_MODEL)


# ---- what a hub may say --------------------------------------------------------------------------

@pytest.mark.parametrize("path", [
    "../../../etc/x.json", "/etc/x.json", "a/../../x.json", "./x.json", "a//x.json", "..", "",
    "a\\b.json", "x\n.json", "1_Pooling/../../../config.json", "x\x00.json", 7, None])
def test_hostile_paths_in_a_listing(models, hub, tmp_path, path):
    hub.add(NAME)

    def listing(reply):
        reply["siblings"].append({**reply["siblings"][0], "rfilename": path})
        return reply

    hub.listing = listing
    before = {p for p in tmp_path.rglob("*")}
    assert models.refused()[0] in ("bad_listing", "hub_error")
    made = {p for p in tmp_path.rglob("*")} - before
    assert made <= {models.dir.parent, models.dir}
    assert models.list() == {}


LISTINGS = {
    "no json": lambda reply: "words",
    "an array": lambda reply: [reply],
    "no commit": lambda reply: {**reply, "sha": None},
    "a path for a commit": lambda reply: {**reply, "sha": "../../../../etc/passwd"},
    "no files": lambda reply: {**reply, "siblings": []},
    "files that are none": lambda reply: {**reply, "siblings": {"a": 1}},
    "too many files": lambda reply: {**reply, "siblings": reply["siblings"] * 20000},
    "too many wanted": lambda reply: {**reply, "siblings": reply["siblings"] + [
        {**reply["siblings"][0], "rfilename": f"{i}.json"} for i in range(2000)]},
    "a size below none": lambda reply: {**reply, "siblings": [
        {**file, "size": -1, "lfs": None} for file in reply["siblings"]]},
    "a size past all": lambda reply: {**reply, "siblings": [
        {**file, "size": 2**62, "lfs": None} for file in reply["siblings"]]},
    "hashes that are none": lambda reply: {**reply, "siblings": [
        {**file, "lfs": {"sha256": "../x", "size": 2**70}} for file in reply["siblings"]]},
}


@pytest.mark.parametrize("how", LISTINGS)
def test_listings_that_are_none(models, hub, how):
    hub.add(NAME)
    hub.listing = LISTINGS[how]
    hub.faults = {"api": [None, ("bytes", b"[]")]}  # the tree says nothing better
    assert models.refused()[0] in ("bad_listing", "hub_error", "not_a_model")
    assert not models.folder().exists()


def test_an_endless_listing(models, hub):
    hub.add(NAME)
    hub.faults = {"api": [("bytes", b'{"sha": "' + b"a" * (40 << 20) + b'"}')]}
    assert models.refused()[0] == "limit"


def test_no_room_on_the_disk(models, hub):
    hub.add(NAME)

    def listing(reply):
        for file in reply["siblings"]:
            if "lfs" in file:
                file["lfs"]["size"] = 4 * 10**12
        return reply

    hub.listing = listing
    code, words = models.refused()
    assert code == "disk_full" and "4000.1 GB" in words
    assert not hub.asked(WEIGHTS) and models.parts() == []


@pytest.mark.parametrize("without", ["config.json", "tokenizer.json", WEIGHTS])
def test_what_is_no_model_here(models, hub, without):
    files = {**TEXT_MODEL, **UNWANTED}
    del files[without]
    hub.add(NAME, files)
    code, words = models.refused()
    assert code == "not_a_model" and without in words and not models.folder().exists()


def test_weights_that_lie(models, hub):
    """The hub's own hash is right, the file is none."""
    hub.add(NAME, {**TEXT_MODEL, WEIGHTS: struct.pack("<Q", 2**63) + b"{}" * 100})
    code, words = models.refused()
    assert code == "bad_model" and f"{WEIGHTS}: not safetensors" in words
    assert models.state() == ("incomplete", f"{WEIGHTS}: not safetensors")


@pytest.mark.parametrize("name", [
    "../../x", "/etc/passwd", "a/../b", "a/b/c", "..", ".", "", "a\\b", "a\nb", "a/..", "./x",
    "-a/b", "a/b-", "a--b/c", "a/" + "b" * 97, "a/b\x7f", "é/b", "a/b?x=1", "a/b#c", "~/x"])
def test_hostile_names(models, hub, name):
    arguments = ["--", name] if name.startswith("-") else [name]
    assert models.refused(*arguments)[0] == "invalid"
    models.run("rm-model", *arguments, status=1)
    models.run("pull", "--from", "/etc", *arguments, status=1)
    assert hub.requests == [] and not models.dir.exists()


# ---- shards and adapters -------------------------------------------------------------------------

def sharded(n=3, name="model-0000{}-of-0000{}.safetensors"):
    files = {path: data for path, data in TEXT_MODEL.items() if path != WEIGHTS}
    shards = {name.format(i, n): safetensors(4000 * i, name=f"w{i}") for i in range(1, n + 1)}
    index = {"metadata": {"total_size": 1},
             "weight_map": {f"w{i}": shard for i, shard in enumerate(shards, 1)}}
    return {**files, **shards, "model.safetensors.index.json": json.dumps(index).encode()}


def test_shards(models, hub):
    files = sharded()
    hub.add(NAME, {**files, "model-00001-of-00009.safetensors": safetensors(40)})
    models.run("pull")
    models.holds(files)
    gone = models.folder() / "model-00002-of-00003.safetensors"
    gone.unlink()
    assert models.state() == ("incomplete", f"{gone.name}: missing")
    models.run("pull")
    models.holds(files)


@pytest.mark.parametrize("shard", ["model-00009-of-00009.safetensors", "../../x.safetensors",
                                   "/etc/passwd", "a/b.safetensors", "config.json"])
def test_an_index_that_names_what_is_not_there(models, hub, shard):
    index = json.dumps({"weight_map": {"w": shard}}).encode()
    hub.add(NAME, {**sharded(), "model.safetensors.index.json": index})
    assert models.refused()[0] == "bad_model"
    assert models.state()[0] == "incomplete"


def adapter(base="tests/base"):
    return {"adapter_config.json": json.dumps({"peft_type": "LORA", "r": 32,
                                               "base_model_name_or_path": base}).encode(),
            "adapter_model.safetensors": safetensors(8000),
            "tokenizer.json": TEXT_MODEL["tokenizer.json"]}


def test_an_adapter_comes_with_its_base(models, hub):
    hub.add("tests/adapter", adapter())
    hub.add("tests/base", sharded())
    _, err = models.run("pull", "tests/adapter")
    assert "tests/base/model-00003-of-00003.safetensors" in err
    models.holds(adapter(), "tests/adapter")
    models.holds(sharded(), "tests/base")
    assert models.list()["tests/adapter"]["kind"] == "adapter"
    models.run("rm-model", "tests/base")
    assert models.state("tests/adapter") == ("incomplete",
                                             "its base model tests/base: not installed")
    hub.requests.clear()
    models.run("pull", "tests/adapter")
    assert models.state("tests/adapter")[0] == "installed"
    assert not [path for _, path, _ in hub.requests if "tests/adapter" in path]


def test_an_adapter_beside_whole_weights(models, hub):
    """Only the adapter's own weights are fetched; the model is the base's."""
    hub.add("tests/adapter", {**TEXT_MODEL, **adapter()})
    hub.add("tests/base", TEXT_MODEL)
    models.run("pull", "tests/adapter")
    files = {**TEXT_MODEL, **adapter()}
    del files[WEIGHTS]
    models.holds(files, "tests/adapter")
    assert models.state("tests/adapter") == ("installed", "")


@pytest.mark.parametrize("base,code", [
    ("tests/none", "no_such_model"), ("../../etc", "invalid"), ("/nowhere", "invalid"),
    ("tests/adapter", "not_a_model")])
def test_an_adapter_without_its_base(models, hub, base, code):
    hub.add("tests/adapter", adapter(base))
    found, words = models.refused("tests/adapter")
    assert found == code and (base in words)
    assert models.state("tests/adapter")[0] == "incomplete"


# ---- the hub's cache -----------------------------------------------------------------------------

def test_the_cache_is_used_in_place(models, hub):
    snapshot = cached(models, TEXT_MODEL)
    model = models.list()[NAME]
    assert (model["origin"], model["folder"]) == ("hub_cache", str(snapshot))
    assert models.run("pull") == (f"{NAME}  {snapshot}\n", "")
    assert hub.requests == [] and not models.dir.exists()
    assert "cache" in models.run("rm-model", NAME, status=1)[1]
    assert (snapshot / WEIGHTS).exists()


def test_an_adapter_and_its_base_in_the_cache(models, hub):
    cached(models, adapter(), "tests/adapter")
    assert models.state("tests/adapter")[0] == "incomplete"
    hub.add("tests/base", sharded())
    models.run("pull", "tests/adapter")
    assert models.list()["tests/adapter"]["origin"] == "hub_cache"
    assert models.list()["tests/base"]["origin"] == "models_dir"


def test_what_the_cache_lacks_is_named_and_fetched(models, hub):
    snapshot = cached(models, TEXT_MODEL)
    (snapshot / WEIGHTS).unlink()
    assert models.state() == ("incomplete", f"{WEIGHTS}: missing")
    (snapshot.parent.parent / "blobs" / "abc.incomplete").write_bytes(b"half")
    assert models.state() == ("incomplete", f"{WEIGHTS}: half fetched")
    hub.add(NAME)
    models.run("pull")
    models.holds(TEXT_MODEL)
    assert models.list()[NAME]["origin"] == "models_dir"


@pytest.mark.parametrize("ref", ["../../../x", "", "a" * 300, "/etc", "main\0"])
def test_a_ref_that_is_none(models, ref):
    snapshot = cached(models, TEXT_MODEL)
    (snapshot.parent.parent / "refs" / "main").write_text(ref)
    assert models.state() == ("incomplete", "refs/main: missing")


# ---- what is half there --------------------------------------------------------------------------

def fitted(header, n_bytes=0):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * n_bytes


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN = {
    "cut": (TEXT_MODEL[WEIGHTS][:100000], "half fetched (100000 of 4000"),
    "in its header": (TEXT_MODEL[WEIGHTS][:20], "half fetched (20 bytes)"),
    "empty": (b"", "half fetched (0 bytes)"),
    "longer": (TEXT_MODEL[WEIGHTS] + b"xyz", "3 bytes more than its header states"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS"),
    "huge header": (struct.pack("<Q", 2**63) + b"{}", "not safetensors"),
    "header of nothing": (struct.pack("<Q", 0) + b"{}", "not safetensors"),
    "header no json": (struct.pack("<Q", 8) + b"nonsense", "not safetensors"),
    "header an array": (fitted([TENSOR]), "not safetensors"),
    "offsets past all": (fitted({"a": {**TENSOR, "data_offsets": [0, 2**63 - 1]}}),
                         "not safetensors"),
    "offsets below none": (fitted({"a": {**TENSOR, "data_offsets": [0, -8]}}), "not safetensors"),
    "no offsets": (fitted({"a": {"dtype": "F32"}}), "not safetensors"),
}


@pytest.mark.parametrize("where", ["cache", "folder"])
@pytest.mark.parametrize("how", BROKEN)
def test_broken_weights_are_named(models, where, how, tmp_path):
    data, words = BROKEN[how]
    files = {**TEXT_MODEL, WEIGHTS: data}
    name = NAME
    if where == "cache":
        cached(models, files)
    else:
        name = str(tmp_path / "mine")
        write(tmp_path / "mine", files)
    found = json.loads(models.run("models", "--json", TEXT_MODEL=name)[0])["text_model"]
    assert found["state"] == "incomplete" and found["problem"].startswith(f"{WEIGHTS}: ")
    assert words in found["problem"]


def write(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.mark.parametrize("path,data,problem", [
    ("config.json", None, "missing"), ("config.json", b"{", "not a JSON object"),
    ("config.json", b"[1]", "not a JSON object"), ("tokenizer.json", None, "missing"),
    ("tokenizer.json", b'{"version": "1.0", "mod', "half fetched"),
    ("1_Pooling/config.json", None, "missing"), ("modules.json", b"{}", "not a JSON array"),
    ("modules.json", b'[{"path": "../x", "type": "m.Pooling"}]', "names a folder that is none")])
def test_other_files_that_are_wrong_are_named(models, tmp_path, path, data, problem):
    files = {**TEXT_MODEL, path: data}
    if data is None:
        del files[path]
    folder = write(tmp_path / "mine", files)
    found = json.loads(models.run("models", "--json", TEXT_MODEL=str(folder))[0])["text_model"]
    assert (found["origin"], found["problem"]) == ("folder", f"{path}: {problem}") or (
        found["problem"].startswith(f"{path}: {problem}"))


def test_a_changed_file_of_a_fetched_model_is_named(models, hub):
    hub.add(NAME)
    models.run("pull")
    (models.folder() / "vocab.txt").write_bytes(b"short")
    assert models.state() == ("incomplete", "vocab.txt: 5 bytes where 12 were fetched")
    models.run("pull")
    models.holds(TEXT_MODEL)
    (models.folder() / "docusearch.json").write_bytes(b"{")
    assert models.state() == ("incomplete", "docusearch.json: not a JSON object")
    hub.requests.clear()
    models.run("pull")  # its files are right: none comes again
    models.holds(TEXT_MODEL)
    assert [word for word, _, _ in hub.requests] == ["hub"]


# ---- folders -------------------------------------------------------------------------------------

def test_a_folder_is_taken(models, hub, tmp_path):
    folder = write(tmp_path / "package", {**TEXT_MODEL, **UNWANTED})
    out, _ = models.run("pull", NAME, "--from", str(folder))
    assert out == f"{NAME}  {models.folder()}\n"
    manifest = models.holds(TEXT_MODEL)
    assert manifest["source"] == str(folder) and hub.requests == []
    assert models.state() == ("installed", "")
    newer = sharded()
    models.run("pull", NAME, "--from", str(write(tmp_path / "newer", newer)))
    models.holds(newer)
    assert "already" in models.run("pull", NAME, "--from", str(models.folder()), status=1)[1]
    models.holds(newer)
    models.run("rm-model", NAME)
    assert models.list() == {} and list(models.dir.iterdir()) == []
    models.run("rm-model", NAME, status=1)


def test_a_folder_that_is_no_model_is_not_taken(models, tmp_path):
    for files in ({}, {**TEXT_MODEL, WEIGHTS: TEXT_MODEL[WEIGHTS][:-1]},
                  {**TEXT_MODEL, "config.json": b"x"}):
        folder = tmp_path / "package"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write(folder, files)
        models.run("pull", NAME, "--from", str(folder), status=1)
        assert not models.dir.exists()
    models.run("pull", NAME, "--from", str(tmp_path / "nowhere"), status=1)
    models.run("pull", NAME, "--from", PROGRAM, status=1)


def test_an_adapter_is_taken_before_its_base(models, tmp_path):
    out, err = models.run("pull", "tests/adapter", "--from",
                          str(write(tmp_path / "a", adapter())), status=1)
    assert "its base model tests/base: not installed" in err
    models.run("pull", "tests/base", "--from", str(write(tmp_path / "b", TEXT_MODEL)))
    assert models.state("tests/adapter") == ("installed", "")


def test_a_running_server_is_spoken_of(models, hub, start):
    """It looks for models when it starts, and the command says so."""
    hub.add(NAME)
    server = start(**{name: models.env[name] for name in ("HF_HOME", "HF_ENDPOINT", "TEXT_MODEL")})
    assert server.data_dir == models.dir.parent
    said = f"the server at {server.url} uses it once it is started again"
    assert said in models.run("pull")[1]
    assert said not in models.run("pull")[1]  # nothing new came
    stop_whole(server)
    models.run("rm-model", NAME)
    assert said not in models.run("pull")[1]


def test_removal_spares_what_a_link_leads_to(models, tmp_path):
    folder = write(tmp_path / "elsewhere", TEXT_MODEL)
    models.dir.mkdir(parents=True)
    models.folder().symlink_to(folder)
    models.run("rm-model", NAME)
    assert not models.folder().exists() and (folder / WEIGHTS).exists()
