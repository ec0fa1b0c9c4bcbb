"""Checkpoints that are not what they should be: each refused with the file and the tensor named, by
`embed` and by a server that stays up."""

import itertools
import json
import shutil
import struct
import subprocess
import time

import pytest

from golden import embed, run_embed
from running import PROGRAM, SLOW, environment

numpy = pytest.importorskip("numpy", reason="numpy makes the checkpoints")
import golden_inputs  # noqa: E402  (needs numpy, and golden's path)
import make_checkpoints  # noqa: E402

WEIGHTS = "model.safetensors"
DENSE = "encoder.layer.1.output.dense.weight"
WORDS = "embeddings.word_embeddings.weight"


# ---- what goes wrong ---------------------------------------------------------------------------

def load(path):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + n]), bytearray(data[8 + n:])


def store(path, head, data, length=None):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def head_edit(change, file=WEIGHTS):
    def edit(folder):
        head, data = load(folder / file)
        change(head)
        store(folder / file, head, data)
    return edit


def set_value(tensor, bits, place=-1, file=WEIGHTS):
    """Writes bits (bytes of one element) at an element of a tensor."""
    def edit(folder):
        head, data = load(folder / file)
        start, end = head[tensor]["data_offsets"]
        at = (start if place >= 0 else end) + place * len(bits)
        data[at:at + len(bits)] = bits
        store(folder / file, head, data)
    return edit


def without(tensor):
    """The tensor and its bytes cut out, offsets set right."""
    def edit(folder):
        head, data = load(folder / WEIGHTS)
        start, end = head.pop(tensor)["data_offsets"]
        del data[start:end]
        for name, entry in head.items():
            if name != "__metadata__" and entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [at - (end - start) for at in entry["data_offsets"]]
        store(folder / WEIGHTS, head, data)
    return edit


def with_more(tensor, file=WEIGHTS):
    def edit(folder):
        head, data = load(folder / file)
        head[tensor] = {"dtype": "F32", "shape": [2, 2], "data_offsets": [len(data), len(data) + 16]}
        store(folder / file, head, data + bytes(16))
    return edit


def shaped(tensor, shape):
    return head_edit(lambda head: head[tensor].update(shape=shape))


def offsets(tensor, start, end):
    return head_edit(lambda head: head[tensor].update(data_offsets=[start, end]))


def overlapping(folder):
    head, data = load(folder / WEIGHTS)
    head[DENSE]["data_offsets"] = head["encoder.layer.0.output.dense.weight"]["data_offsets"]
    store(folder / WEIGHTS, head, data)


def typed(tensor, dtype):
    return head_edit(lambda head: head[tensor].update(dtype=dtype))


def cut(file, n):
    def edit(folder):
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[:n])
    return edit


def written(file, text):
    return lambda folder: (folder / file).write_bytes(text)


def header_length(length):
    return lambda folder: store(folder / WEIGHTS, *load(folder / WEIGHTS), length=length)


def header_text(text):
    return lambda folder: store(folder / WEIGHTS, text, load(folder / WEIGHTS)[1])


def twice_named(folder):
    head, data = load(folder / WEIGHTS)
    text = json.dumps(head)
    store(folder / WEIGHTS, (text[:-1] + f', "{DENSE}": {json.dumps(head[DENSE])}}}').encode(), data)


def json_edit(file, **changes):
    def edit(folder):
        tree = json.loads((folder / file).read_text(encoding="utf-8"))
        for key, value in changes.items():
            if value is None:
                del tree[key]
            else:
                tree[key] = value
        (folder / file).write_text(json.dumps(tree), encoding="utf-8")
    return edit


def more_tokens(folder):
    path = folder / "tokenizer.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    vocab = tree["model"]["vocab"]
    vocab.update({f"more{i}": len(vocab) + i for i in range(100)})
    path.write_text(json.dumps(tree), encoding="utf-8")


def tokenizer_model(kind):
    def edit(folder):
        path = folder / "tokenizer.json"
        tree = json.loads(path.read_text(encoding="utf-8"))
        tree["model"]["type"] = kind
        path.write_text(json.dumps(tree), encoding="utf-8")
    return edit


def removed(file):
    return lambda folder: (folder / file).unlink()


def half_fetched(folder):
    (folder / WEIGHTS).rename(folder / (WEIGHTS + ".part"))


def other_tokenizer(name):
    return lambda folder: make_checkpoints.take_tokenizer(folder, name)


NAN32, INF32, NAN16 = struct.pack("<f", float("nan")), struct.pack("<f", float("inf")), b"\xc0\x7f"
BIG = 1 << 63
SHARD = "model-00002-of-00003.safetensors"
GATE = "model.language_model.model.layers.2.mlp.gate_proj.weight"
EMBED = "model.language_model.model.embed_tokens.weight"
LORA = "base_model.model.model.language_model.model.layers.1.mlp.up_proj.lora_B.weight"

BERT_CASES = {  # what: (the edit, words of the message)
    "tensor missing": (without(DENSE), [WEIGHTS, DENSE]),
    "bias missing": (without("encoder.layer.0.output.dense.bias"),
                     [WEIGHTS, "encoder.layer.0.output.dense.bias"]),
    "tensor extra": (with_more("surplus.weight"), [WEIGHTS, "surplus.weight"]),
    "layer extra": (with_more("encoder.layer.3.output.dense.weight"),
                    [WEIGHTS, "encoder.layer.3.output.dense.weight"]),
    "shape turned": (shaped(DENSE, [200, 72]), [WEIGHTS, DENSE]),
    "shape too small": (shaped(DENSE, [72, 100]), [WEIGHTS, DENSE]),
    "one dimension": (shaped(DENSE, [14400]), [WEIGHTS, DENSE]),
    "NaN in a matrix": (set_value(DENSE, NAN32, 777), [WEIGHTS, DENSE]),
    "infinity in a matrix": (set_value(DENSE, INF32), [WEIGHTS, DENSE]),
    "NaN in a bias": (set_value("encoder.layer.2.attention.self.key.bias", NAN32),
                      [WEIGHTS, "encoder.layer.2.attention.self.key.bias"]),
    "NaN in the last word": (set_value(WORDS, NAN32), [WEIGHTS, WORDS]),
    "NaN in a position": (set_value("embeddings.position_embeddings.weight", NAN32, 5),
                          [WEIGHTS, "embeddings.position_embeddings.weight"]),
    "cut short": (lambda folder: cut(WEIGHTS, (folder / WEIGHTS).stat().st_size - 1000)(folder),
                  [WEIGHTS]),
    "cut in its header": (cut(WEIGHTS, 900), [WEIGHTS]),
    "cut to nothing": (cut(WEIGHTS, 0), [WEIGHTS]),
    "cut to seven bytes": (cut(WEIGHTS, 7), [WEIGHTS]),
    "overlapping": (overlapping, [WEIGHTS]),
    "header of 2^63 bytes": (header_length(BIG), [WEIGHTS]),
    "header of 2^64 - 1 bytes": (header_length((1 << 64) - 1), [WEIGHTS]),
    "header longer than the file": (header_length(1 << 27), [WEIGHTS]),
    "header of 0 bytes": (header_length(0), [WEIGHTS]),
    "header is no JSON": (header_text(b"\x80not json"), [WEIGHTS]),
    "header is a list": (header_text(b"[1, 2, 3]"), [WEIGHTS]),
    "header deeply nested": (header_text(b'{"a":' * 5000 + b"1" + b"}" * 5000), [WEIGHTS]),
    "dimension of 2^63": (shaped(DENSE, [BIG, 200]), [WEIGHTS, DENSE]),
    "dimensions that overflow": (shaped(DENSE, [1 << 32, 1 << 32]), [WEIGHTS, DENSE]),
    "negative dimension": (shaped(DENSE, [-72, -200]), [WEIGHTS, DENSE]),
    "offset of 2^63": (offsets(DENSE, BIG, BIG + 57600), [WEIGHTS, DENSE]),
    "offsets backwards": (offsets(DENSE, 57600, 0), [WEIGHTS, DENSE]),
    "offset behind the end": (offsets(DENSE, 1 << 30, (1 << 30) + 57600), [WEIGHTS, DENSE]),
    "named twice": (twice_named, [WEIGHTS, DENSE]),
    "unknown type": (typed(DENSE, "Q4_K"), [WEIGHTS, DENSE]),
    "whole numbers": (typed(DENSE, "I32"), [WEIGHTS, DENSE]),
    "no weights": (removed(WEIGHTS), [WEIGHTS]),
    "half fetched": (half_fetched, [WEIGHTS]),
    "no configuration": (removed("config.json"), ["config.json"]),
    "configuration is no JSON": (written("config.json", b"{"), ["config.json"]),
    "unknown architecture": (json_edit("config.json", model_type="mamba",
                                       architectures=["MambaModel"]), ["config.json"]),
    "unknown activation": (json_edit("config.json", hidden_act="swiglu"), ["hidden_act"]),
    "width of 2^40": (json_edit("config.json", hidden_size=1 << 40), ["hidden_size"]),
    "width below 0": (json_edit("config.json", hidden_size=-72), ["hidden_size"]),
    "heads that do not divide": (json_edit("config.json", num_attention_heads=5), ["config.json"]),
    "a layer more than there is": (json_edit("config.json", num_hidden_layers=4),
                                   [WEIGHTS, "encoder.layer.3."]),
    "a layer less than there is": (json_edit("config.json", num_hidden_layers=2),
                                   [WEIGHTS, "encoder.layer.2."]),
    "no tokenizer": (removed("tokenizer.json"), ["tokenizer.json"]),
    "tokenizer is no JSON": (written("tokenizer.json", b'{"model": '), ["tokenizer.json"]),
    "tokenizer of another model": (other_tokenizer("gemma"), ["tokenizer.json"]),
    "more tokens than rows": (more_tokens, ["tokenizer.json"]),
    "unknown tokenizer": (tokenizer_model("Unigram"), ["tokenizer.json", "Unigram"]),
    "unknown pooling": (json_edit("1_Pooling/config.json", pooling_mode_mean_tokens=False,
                                  pooling_mode_max_tokens=True), ["1_Pooling/config.json"]),
    "unknown step": (written("modules.json", b'[{"idx":0,"name":"0","path":"",'
                             b'"type":"sentence_transformers.models.CNN"}]'), ["modules.json"]),
}
COLPALI_CASES = {  # what: (the checkpoint, the edit, words)
    "one position": ("colbert", json_edit("config.json", max_position_embeddings=1),
                     ["max_position_embeddings"]),
    "patches of one pixel": ("colpali-merged", json_edit(
        "config.json", vision_config={**make_checkpoints.VISION, "patch_size": 1,
                                      "image_size": 4096}), ["patch"]),
    "heads past all measure": ("colpali-merged", json_edit(
        "config.json", text_config={**make_checkpoints.TEXT, "num_attention_heads": 128,
                                    "head_dim": 1024}), ["head"]),
    "gate missing": ("colpali-merged", without(GATE), [WEIGHTS, "gate_proj"]),
    "NaN in bf16": ("colpali-merged", set_value(GATE, NAN16, 4321), [WEIGHTS, GATE]),
    "NaN in the embeddings": ("colpali-merged", set_value(EMBED, NAN16), [WEIGHTS, EMBED]),
    "patches of another size": ("colpali-merged", shaped(
        "model.vision_tower.vision_model.embeddings.patch_embedding.weight", [144, 3, 28, 7]),
        [WEIGHTS, "patch_embedding"]),
    "a vision layer less": ("colpali-merged", json_edit(
        "config.json", vision_config={**make_checkpoints.VISION, "num_hidden_layers": 2}),
        [WEIGHTS, "layers.2."]),
    "no vision_config": ("colpali-merged", json_edit("config.json", vision_config=None),
                         ["config.json"]),
    "tokenizer without its marks": ("colpali-merged", other_tokenizer("bert"), ["tokenizer.json"]),
    "a shard missing": ("colpali-hf", removed(SHARD), [SHARD]),
    "a shard cut short": ("colpali-hf", cut(SHARD, 100000), [SHARD]),
    "a tensor the index does not name": ("colpali-hf", with_more("vlm.surplus", SHARD),
                                         [SHARD, "vlm.surplus"]),
    "index is no JSON": ("colpali-hf", written("model.safetensors.index.json", b"[]"),
                         ["model.safetensors.index.json"]),
    "index that leaves the folder": ("colpali-hf", json_edit(
        "model.safetensors.index.json", weight_map={"a": "../../etc/passwd"}),
        ["model.safetensors.index.json"]),
    "adapter without its base": ("colpali-adapter", lambda folder: None,
                                 ["colpaligemma-3b-pt-448-base"]),
}


def broken(checkpoint, tmp_path, name, edit):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(name), folder)
    edit(folder)
    return folder


def refused(folder, argument, words, scratch):
    started = time.monotonic()
    done = run_embed(folder, [argument], scratch=scratch)
    assert done.returncode == 1, (done.returncode, done.stdout[:200], done.stderr[-500:])
    assert done.stdout == "" and done.stderr.startswith("docusearch: ")
    said = done.stderr.strip()
    assert "\n" not in said, said
    assert [word for word in words if word not in said] == [], said
    assert time.monotonic() - started < 20 * SLOW
    return said


CASES = {what: ("sentence", *case) for what, case in BERT_CASES.items()} | COLPALI_CASES
# Not all of it is there, which may count as not installed; all others have failed.
INCOMPLETE = {"no weights", "half fetched", "no configuration", "no tokenizer", "cut short",
              "cut in its header", "cut to nothing", "cut to seven bytes", "a shard missing",
              "a shard cut short", "adapter without its base"}


@pytest.mark.parametrize("what", CASES)
def test_embed_refuses(what, checkpoint, tmp_path):
    name, edit, words = CASES[what]
    folder = broken(checkpoint, tmp_path, name, edit)
    refused(folder, ("--query", "a question"), words, tmp_path)


def wait_loaded(server, folder):
    deadline = time.monotonic() + 30 * SLOW
    while True:
        model = next(m for m in server.get("/health").json["models"] if m["name"] == str(folder))
        if model["state"] != "loading":
            return model
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("pair", list(itertools.zip_longest(*[iter(CASES)] * 2)), ids=str)
def test_a_server_stays_up(pair, checkpoint, tmp_path, start):
    """Two at once: one where the visual model should be, one where the text model should be."""
    folders = {}
    for what in filter(None, pair):
        name, edit, _ = CASES[what]
        (tmp_path / what.replace("/", " ")).mkdir()
        folders[what] = broken(checkpoint, tmp_path / what.replace("/", " "), name, edit)
    names = [str(folder) for folder in folders.values()] + ["none"]
    server = start(HF_HUB_OFFLINE="1", MODEL_PRECISION="fp32", MODEL_NAME=names[0],
                   TEXT_MODEL=names[1])
    for what, folder in folders.items():
        model, words = wait_loaded(server, folder), CASES[what][2]
        states = ("failed", "not_installed") if what in INCOMPLETE else ("failed",)
        assert [word for word in words if word not in model["reason"]] == [], model["reason"]
        assert model["state"] in states, (what, model)
    assert server.get("/search", query="anything", search_mode="lexical").status == 200


def test_an_adapter_with_half_of_a_pair(checkpoint, tmp_path):
    folder = broken(checkpoint, tmp_path, "colpali-adapter",
                    head_edit(lambda head: head.update(
                        {"other.lora_B.weight": head.pop(LORA)}), "adapter_model.safetensors"))
    done = run_embed(folder, [("--query", "x")], arguments=["--base", str(checkpoint("colpali-base"))],
                     scratch=tmp_path)
    assert done.returncode == 1
    assert "adapter_model.safetensors" in done.stderr and "tensor" in done.stderr


@pytest.mark.parametrize("used_before", [False, True])
def test_bytes_that_are_not_as_fetched(used_before, checkpoint, tmp_path):
    """Same size, finite values: only the hash tells."""
    env = environment(tmp_path / "data", HF_HUB_OFFLINE="1")
    subprocess.run([PROGRAM, "pull", "test/kept", "--from", str(checkpoint("sentence"))], env=env,
                   check=True, capture_output=True)
    asked = [("--query", "a question")]
    if used_before:
        embed("test/kept", asked, scratch=tmp_path)
    with open(tmp_path / "data" / "models" / "test--kept" / WEIGHTS, "r+b") as file:
        file.seek(-4, 2)
        file.write(struct.pack("<f", 1.0))
    done = run_embed("test/kept", asked, scratch=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert "model.safetensors: its bytes are not those that were fetched" in done.stderr


# ---- inputs ------------------------------------------------------------------------------------

def are_unit(vectors):
    rows = numpy.array(vectors)
    assert len(rows) > 0 and numpy.isfinite(rows).all()
    assert abs(numpy.linalg.norm(rows, axis=1) - 1).max() < 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("name", ["sentence", "colbert", "colpali-merged"])
def test_odd_texts(name, precision, checkpoint, tmp_path):
    texts = ["", " ", "\n", "\u0000x".replace("\u0000", "\x01"), "\u4e00" * 7, "\U0001f9ff",
             "\ufffd\ufffd", "[MASK]", "<image>", "\u0e01\u0e02" * 300, "." * 400]
    asked = [(kind, text) for kind in ("--query", "--passage") for text in texts]
    for (kind, text), vectors in zip(asked, embed(checkpoint(name), asked, precision, tmp_path)):
        assert vectors or (name == "colbert" and kind == "--passage"), (kind, text)
        if vectors:
            are_unit(vectors)


@pytest.mark.parametrize("name", ["sentence", "colbert", "colpali-merged"])
def test_a_passage_of_100000_words(name, checkpoint, tmp_path):
    path = tmp_path / "passages"
    path.write_text("lighthouse keeper rope 1234 " * 25000 + "\n\nshort one\n", encoding="utf-8")
    done = run_embed(checkpoint(name), [], "bf16", tmp_path, ["--passages-from", str(path)])
    if done.returncode == 0:
        told = json.loads(done.stdout)["inputs"]
        assert len(told) == 3
        for one in told:
            are_unit(one["vectors"])
    else:
        assert done.returncode == 1 and done.stderr.startswith("docusearch: "), done.stderr[-300:]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_odd_pictures(precision, checkpoint, tmp_path):
    paths = golden_inputs.write_pictures(tmp_path)
    black = tmp_path / "black.png"
    golden_inputs.write_png(black, numpy.zeros((64, 64, 3), numpy.uint8))
    tall = tmp_path / "tall.png"
    golden_inputs.write_png(tall, numpy.full((20000, 10, 3), 255, numpy.uint8))
    asked = [("--image", str(p)) for p in [*paths.values(), black, tall]]
    for vectors in embed(checkpoint("colpali-merged"), asked, precision, tmp_path):
        assert len(vectors) == 64 + 8
        are_unit(vectors)
