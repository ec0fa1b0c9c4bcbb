"""Vectors for others: `docusearch embed` and POST /v1/embeddings, with a small random model."""

import base64
import json
import math
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import inputs
import tiny_model
from conftest import stop_whole
from running import PROGRAM, SLOW, Running, environment

PICTURE = inputs.png_grey(30, 20)
PASSAGES = ["The lighthouse was painted.", "Nineteen ropes, one anchor!", "walrus"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model.make_bert(tmp_path_factory.mktemp("models") / "tiny")


def wait_loaded(running):
    deadline = time.monotonic() + 60 * SLOW
    while True:
        models = {m["kind"]: m for m in running.get("/health").json["models"]}
        if all(m["state"] != "loading" for m in models.values()):
            return models
        assert time.monotonic() < deadline, models
        time.sleep(0.05)


@pytest.fixture(scope="module")
def served(tmp_path_factory, model):
    running = Running(tmp_path_factory.mktemp("served") / "data", TEXT_MODEL=str(model),
                      MODEL_PRECISION="fp32")
    assert wait_loaded(running)["text"]["state"] == "ready"
    yield running
    assert stop_whole(running) == 0


class Embed:
    """Runs `docusearch embed` where there is neither a data folder nor a server."""

    def __init__(self, folder, **settings):
        self.env = environment(folder / "data", MODELS_DIR=str(folder / "models"), **settings)

    def run(self, *arguments, status=0, stdin=b""):
        done = subprocess.run([PROGRAM, "embed", *arguments], env=self.env, input=stdin,
                              capture_output=True, timeout=120 * SLOW)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{out}\n{err}"
        return out, err

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, **options)[0])


@pytest.fixture
def embed(tmp_path, model):
    return Embed(tmp_path, TEXT_MODEL=str(model), MODEL_PRECISION="fp32")


def ask(running, status=200, **body):
    reply = running.request("POST", "/v1/embeddings", body)
    assert reply.status == status, reply.body
    return reply.json


def length(vector):
    return math.sqrt(sum(x * x for x in vector))


def near(one, other, tolerance=1e-5):
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


# ---- the command ---------------------------------------------------------------------------------

def test_one_input_is_one_object(embed, tmp_path, model):
    out, err = embed.run("--passage", PASSAGES[0])
    assert err == "" and out.count("\n") == 1
    reply = json.loads(out)
    assert list(reply) == ["model", "space", "dim", "vectors"]
    assert reply["model"] == str(model) and reply["dim"] == tiny_model.HIDDEN
    assert reply["space"].endswith(f"/{tiny_model.HIDDEN}/fp32")
    [vector] = reply["vectors"]
    assert len(vector) == tiny_model.HIDDEN and length(vector) == pytest.approx(1, abs=1e-5)
    floats = [struct.unpack("<f", struct.pack("<f", x))[0] for x in vector]
    assert [f"{x:.9g}" for x in floats] == [f"{x:.9g}" for x in vector], "not exact floats"
    assert not (tmp_path / "data").exists(), "no data folder is made"
    assert (tmp_path / "models" / "packed").is_dir()
    assert embed.run("--json", f"--passage={PASSAGES[0]}") == (out, "")


def test_several_inputs_come_in_their_order_and_each_as_if_alone(embed):
    arguments = [word for text in PASSAGES * 4 for word in ("--passage", text)]
    reply = embed.json(*arguments, "--query", PASSAGES[0])
    assert list(reply) == ["inputs"] and len(reply["inputs"]) == 13
    alone = [embed.json("--passage", text)["vectors"][0] for text in PASSAGES]
    for i, one in enumerate(reply["inputs"][:12]):
        assert near(one["vectors"][0], alone[i % 3]), "a batch changes what an input gives"
    assert near(reply["inputs"][12]["vectors"][0], alone[0])  # BERT knows no prompts
    assert not near(alone[0], alone[1], 1e-2)


def test_passages_from_a_file_and_from_standard_input(embed, tmp_path):
    path = tmp_path / "passages.txt"
    path.write_text("\n".join(PASSAGES) + "\n\n")
    reply = embed.json("--passages-from", str(path))
    assert len(reply["inputs"]) == 4  # the last is an empty line
    assert embed.json("--passages-from", "-", stdin=path.read_bytes()) == reply
    path.write_text(PASSAGES[2])
    one = embed.json("--passages-from", str(path))
    assert near(one["inputs"][0]["vectors"][0], reply["inputs"][2]["vectors"][0])
    assert embed.json("--passages-from", "-", stdin=b"") == {"inputs": []}
    _, err = embed.run("--passages-from", str(tmp_path / "nowhere.txt"), status=1)
    assert "nowhere.txt" in err and err.count("\n") == 1


def test_any_text_gives_unit_vectors(embed, tmp_path):
    path = tmp_path / "odd.txt"
    path.write_bytes(b"\xff\xfe\x00broken\n" + "\U0001f9ad 海象 שלום\n".encode() + b"\t \n"
                     + b"word " * 100_000 + b"\n")
    for one in embed.json("--passages-from", str(path))["inputs"]:
        assert length(one["vectors"][0]) == pytest.approx(1, abs=1e-5)


def test_verbose_says_what_computes_and_how_fast(embed):
    out, err = embed.run("--verbose", "--query", "lighthouse")
    assert json.loads(out)["dim"] == tiny_model.HIDDEN
    assert "device cpu" in err and "loaded in" in err and "1 input, 1 batch, " in err
    assert "packed weights from disk" not in err
    _, err = embed.run("--verbose", "--query", "lighthouse")
    assert "packed weights from disk" in err


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_precisions_are_near(embed, model, tmp_path, precision):
    exact = embed.json("--passage", PASSAGES[0])
    other = Embed(tmp_path, TEXT_MODEL=str(model), MODEL_PRECISION=precision)
    rough = other.json("--passage", PASSAGES[0])
    assert rough["space"] != exact["space"] and rough["space"].endswith(precision)
    cosine = sum(a * b for a, b in zip(exact["vectors"][0], rough["vectors"][0], strict=True))
    assert cosine > 0.98


def test_what_is_wrong_is_said_in_one_line(embed, model, tmp_path):
    def said(*arguments):
        out, err = embed.run(*arguments, status=1)
        assert out == "" and err.startswith("docusearch: ") and err.count("\n") == 1
        return err

    picture = tmp_path / "a.png"
    picture.write_bytes(b"not a picture")
    assert "vidore/colpali-v1.2" in said("--image", str(picture))
    assert "docusearch pull" in said("--image", str(picture))
    assert "nobody/nothing" in said("--model", "nobody/nothing", "--query", "x")
    assert "nowhere" in said("--model", str(tmp_path / "nowhere"), "--query", "x")
    assert "a.png" in said("--model", str(model), "--image", str(picture))
    picture.write_bytes(PICTURE)
    assert "takes no pictures" in said("--model", str(model), "--image", str(picture))
    broken = tiny_model.make_bert(tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:-100])
    assert "model.safetensors" in said("--model", str(broken), "--query", "x")
    assert "name no model" in said("--image", str(picture), "--model-name", "none")


def test_device_that_is_not_there(embed):
    embed.env["DEVICE"] = "cuda"
    _, err = embed.run("--query", "x", "--log-level", "warn")
    assert "Warning: Requested device 'cuda' not available, falling back to CPU" in err
    embed.env["DEVICE_STRICT"] = "1"
    _, err = embed.run("--query", "x", status=1)
    assert "cuda" in err and "DEVICE_STRICT" in err


def test_late_models_give_a_row_a_token(embed, checkpoint, tmp_path):
    picture = tmp_path / "page.png"
    picture.write_bytes(PICTURE)
    late = embed.json("--model", str(checkpoint("colbert")), "--passage", "walrus", "--query", "x",
                      "--passage", PASSAGES[0])
    rows = [len(one["vectors"]) for one in late["inputs"]]
    assert rows[0] < rows[2] and rows[1] == 32  # a query is filled up with masks
    seen = embed.json("--model", str(checkpoint("colpali-hf")), "--image", str(picture), "--query",
                      "walrus", "--image", str(picture))
    page, query, again = seen["inputs"]
    assert len(page["vectors"]) > len(query["vectors"]) > 10 and page["space"] == query["space"]
    assert page == again and page["dim"] == len(page["vectors"][0])
    for one in late["inputs"] + seen["inputs"]:
        assert all(length(row) == pytest.approx(1, abs=1e-4) for row in one["vectors"])


def test_pictures_of_every_kind_and_those_that_are_none(embed, checkpoint, tmp_path):
    model = str(checkpoint("colpali-hf"))
    for name, data in (("dot.png", inputs.png_grey(1, 1)), ("wide.png", inputs.png_grey(3000, 2))):
        (tmp_path / name).write_bytes(data)
        reply = embed.json("--model", model, "--image", str(tmp_path / name))
        assert all(length(row) == pytest.approx(1, abs=1e-4) for row in reply["vectors"]), name
    (tmp_path / "good.png").write_bytes(PICTURE)
    (tmp_path / "cut.png").write_bytes(PICTURE[:40])
    out, err = embed.run("--model", model, "--image", str(tmp_path / "good.png"), "--image",
                         str(tmp_path / "cut.png"), status=1)
    assert out == "" and "cut.png" in err and err.count("\n") == 1
    assert "nowhere.png" in embed.run("--model", model, "--image", str(tmp_path / "nowhere.png"),
                                      status=1)[1]


# ---- the call ------------------------------------------------------------------------------------

def test_models_lists_what_is_ready(served, model):
    reply = served.get("/v1/models").json
    assert reply["object"] == "list"
    [entry] = reply["data"]
    assert (entry["id"], entry["object"], entry["kind"]) == (str(model), "model", "text")
    assert entry["dim"] == tiny_model.HIDDEN and entry["multi_vector"] is False
    assert entry["owned_by"] and entry["created"] > 1.6e9


def test_embeddings_have_openai_s_shape(served, model, embed):
    reply = ask(served, input=PASSAGES, model=str(model), user="somebody", encoding_format="float",
                dimensions=tiny_model.HIDDEN)
    assert reply["object"] == "list" and reply["model"] == str(model)
    assert [d["index"] for d in reply["data"]] == [0, 1, 2]
    assert {d["object"] for d in reply["data"]} == {"embedding"}
    tokens = reply["usage"]["prompt_tokens"]
    assert tokens == reply["usage"]["total_tokens"] >= 3 * 3
    one = ask(served, input=PASSAGES[0])
    assert near(one["data"][0]["embedding"], reply["data"][0]["embedding"])
    assert one["usage"]["prompt_tokens"] == 7  # [CLS] the lighthouse was painted . [SEP]
    told = embed.json(*[word for text in PASSAGES for word in ("--passage", text)])
    for i, data in enumerate(reply["data"]):
        assert near(data["embedding"], told["inputs"][i]["vectors"][0])
    assert reply["space"] == told["inputs"][0]["space"] and reply["dim"] == tiny_model.HIDDEN


def test_base64_holds_the_same_floats(served):
    plain = ask(served, input=PASSAGES)["data"]
    packed = ask(served, input=PASSAGES, encoding_format="base64")["data"]
    for one, other in zip(plain, packed, strict=True):
        floats = struct.unpack(f"<{tiny_model.HIDDEN}f", base64.b64decode(other["embedding"]))
        assert list(floats) == [struct.unpack("<f", struct.pack("<f", x))[0]
                                for x in one["embedding"]]


def test_multi_vector_is_an_array_of_vectors(served):
    [plain] = ask(served, input="walrus")["data"]
    [many] = ask(served, input="walrus", multi_vector=True)["data"]
    assert many["embedding"] == [plain["embedding"]]
    [packed] = ask(served, input="walrus", multi_vector=True, encoding_format="base64")["data"]
    assert len(packed["embedding"]) == 1 and isinstance(packed["embedding"][0], str)


def test_a_full_request_and_a_long_one(served):
    reply = ask(served, input=[f"rope {i}" for i in range(256)])
    assert [d["index"] for d in reply["data"]] == list(range(256))
    assert ask(served, 400, input=["rope"] * 257)["error"]["code"] == "too_many_inputs"
    reply = ask(served, input=["walrus " * 150_000] * 20, input_type="query")  # about 20 MB
    assert len(reply["data"]) == 20
    body = json.dumps({"input": "x" * (33 << 20)})
    assert served.request("POST", "/v1/embeddings", body).status == 413


def test_many_callers_at_once_get_their_own(served):
    alone = [ask(served, input=text)["data"][0]["embedding"] for text in PASSAGES]
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda i: ask(served, input=PASSAGES[i % 3]), range(60)))
    for i, reply in enumerate(replies):
        assert near(reply["data"][0]["embedding"], alone[i % 3])


@pytest.mark.parametrize("status, code, body", [
    (400, "token_arrays", {"input": [1, 2, 3]}),
    (400, "dimensions", {"input": "x", "dimensions": 8}),
    (400, "invalid", {"input": "x", "input_type": "document"}),
    (404, "model_not_found", {"input": "x", "model": "text-embedding-3-small"}),
    (503, "model_not_installed", {"input": "x", "model": "vidore/colpali-v1.2"}),
    (503, "model_not_installed", {"input": {"image": "data:image/png;base64,AAAA"}}),
])
def test_refusals_have_openai_s_shape_and_our_code(served, status, code, body):
    reply = ask(served, status, **body)
    assert reply["error"]["code"] == code and reply["error"]["message"] == reply["detail"]
    assert reply["error"]["type"] and "param" in reply["error"]


def test_a_picture_is_not_for_a_text_model(served, model):
    reply = ask(served, 415, model=str(model),
                input={"image": "data:image/png;base64," + base64.b64encode(PICTURE).decode()})
    assert "picture" in reply["error"]["message"]
    reply = ask(served, 400, model=str(model), input={"image": "data:image/png;base64,@@@@"})
    assert "base64" in reply["error"]["message"]


def test_late_models_are_asked_with_multi_vector(start, checkpoint, embed, tmp_path):
    text, visual = (str(checkpoint(name)) for name in ("colbert", "colpali-hf"))
    server = start(TEXT_MODEL=text, MODEL_NAME=visual, MODEL_PRECISION="fp32")
    models = wait_loaded(server)
    assert [models[kind]["late"] for kind in ("text", "visual")] == [True, True]
    assert {m["id"] for m in server.get("/v1/models").json["data"]} == {text, visual}
    assert ask(server, 400, input="walrus")["error"]["code"] == "multi_vector_needed"
    reply = ask(server, input=["walrus", PASSAGES[0]], multi_vector=True, input_type="query")
    told = embed.json("--model", text, "--query", "walrus", "--query", PASSAGES[0])
    for data, one in zip(reply["data"], told["inputs"], strict=True):
        assert len(data["embedding"]) == len(one["vectors"]) == 32
        assert all(near(*rows) for rows in zip(data["embedding"], one["vectors"]))

    url = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    (tmp_path / "page.png").write_bytes(PICTURE)
    assert ask(server, 400, input={"image": url})["error"]["code"] == "multi_vector_needed"
    reply = ask(server, input=[{"image": url}] * 5 + ["walrus"], multi_vector=True,
                input_type="query", model=visual)
    told = embed.json("--model", visual, "--image", str(tmp_path / "page.png"), "--query", "walrus")
    pairs = zip(reply["data"], [told["inputs"][0]] * 5 + [told["inputs"][1]], strict=True)
    for data, one in pairs:
        assert all(near(*rows) for rows in zip(data["embedding"], one["vectors"], strict=True))
    assert reply["model"] == visual and reply["space"] == told["inputs"][0]["space"]
    broken = "data:image/png;base64," + base64.b64encode(PICTURE[:40]).decode()
    refused = server.request("POST", "/v1/embeddings", {"input": [{"image": url},
                                                                  {"image": broken}],
                                                        "multi_vector": True})
    assert refused.status in (400, 415) and "input 1: " in refused.json["error"]["message"]


def test_health_and_metrics_tell_of_the_model(served, model):
    ask(served, input=PASSAGES)
    health = served.get("/health").json
    assert health["status"] == "healthy"
    text = {m["kind"]: m for m in health["models"]}["text"]
    assert (text["name"], text["state"], text["precision"]) == (str(model), "ready", "fp32")
    assert text["dim"] == tiny_model.HIDDEN and text["late"] is False and text["device"] == "cpu"
    assert text["load_seconds"] > 0 and text["embedded"] >= 3 and text["waiting"] == 0
    assert text["reason"] is None and text["space"].endswith("/fp32")
    device = health["device"]
    assert device["used"] == "cpu" and device["kernels"] and device["threads"] >= 1
    metrics = served.get("/metrics").body.decode()
    assert 'docusearch_model_ready{model="text"} 1' in metrics
    assert 'docusearch_model_load_seconds{model="text"}' in metrics
    assert "docusearch_device_bytes" in metrics and "docusearch_index_bytes" in metrics


def test_a_broken_model_leaves_the_server_up_and_degraded(start, tmp_path):
    broken = tiny_model.make_bert(tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:200])
    server = start(TEXT_MODEL=str(broken))
    assert wait_loaded(server)["text"]["state"] in ("failed", "not_installed")
    health = server.get("/health").json
    text = {m["kind"]: m for m in health["models"]}["text"]
    assert "model.safetensors" in text["reason"]
    assert health["status"] == ("degraded" if text["state"] == "failed" else "healthy")
    assert ask(server, 503, input="x")["error"]["code"] == text["state"].replace(
        "failed", "model_failed").replace("not_installed", "model_not_installed")
    assert server.get("/v1/models").json["data"] == []
    _, document = server.read(b"The lighthouse was painted.", "note.txt")
    assert document["status"] == "completed" and server.search("lighthouse")


def test_pages_and_passages_become_searchable_by_meaning(served):
    """A random model: what is looked at is that vectors are there, not what they find."""
    _, document = served.read(b"The harbour has a rope and an anchor.", "harbour.txt")
    assert document["status"] == "completed"
    [space] = served.get("/health").json["vector_spaces"]
    assert space["items"] >= 1 and space["vectors"] >= 1 and space["dim"] == tiny_model.HIDDEN
    reply = served.request("POST", "/search", {"query": "walrus", "search_mode": "text"}).json
    dense = reply["stages"]["dense"]
    assert dense["candidates"] >= 1 and "unavailable" not in dense
    assert "harbour.txt" in {hit["filename"] for hit in reply["results"]}
