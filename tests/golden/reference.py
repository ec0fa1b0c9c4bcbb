#!/usr/bin/env python3
"""What the reference implementations make of the golden checkpoints, kept beside this script.

    reference.py [NAME…]        writes vectors/NAME.npy and vectors/NAME.json, versions.json

Run by hand, with torch, transformers, colpali-engine, peft and Pillow; DOCUSEARCH_MINILM names the
folder of all-MiniLM-L6-v2. vectors/NAME.npy holds all
rows of all inputs one after another, float32; NAME.json lists the inputs in that order with their
numbers of rows. Everything is computed in float32 from the values that the files hold.
"""

import json
import os
import pathlib
import sys
import tempfile

import numpy
import torch
from PIL import Image
from tokenizers import Tokenizer

import golden_inputs
import make_checkpoints

HERE = pathlib.Path(__file__).parent
OUT = HERE / "vectors"


# ---- ColPali: tokens and pixels as CONTRACTS of the model say, forwarded by the library ----------

def page_pixels(name, size):
    picture = Image.fromarray(numpy.ascontiguousarray(golden_inputs.pixels(name)))
    picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    values = numpy.asarray(picture).astype(numpy.float32) / numpy.float32(255)
    values = (values - numpy.float32(0.5)) / numpy.float32(0.5)
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def query_text(query, prompt):
    before = {"question": "Question: ", "query": "Query: ", "none": ""}[prompt]
    return "<bos>" + before + query + "<pad>" * 10 + ("" if prompt == "none" else "\n")


class ColPaliReference:
    def __init__(self, folder, model):
        self.model = model.float().eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def forward(self, text, **more):
        ids = torch.tensor([self.tokenizer.encode(text, add_special_tokens=False).ids])
        with torch.no_grad():
            out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
        return (out if isinstance(out, torch.Tensor) else out.embeddings)[0].numpy()

    def page(self, name):
        text = "<image>" * 64 + "<bos>Describe the image.\n"
        return self.forward(text, pixel_values=page_pixels(name, 112))

    def query(self, query, prompt):
        return self.forward(query_text(query, prompt))


def file_tensors(folder):
    from safetensors.torch import load_file
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(load_file(path))
    return {name: tensor.float() for name, tensor in found.items()}


def check_loaded(model, folder, renamed):
    """Every value of the files is in the model, under the name that today's library has for it."""
    state = model.state_dict()
    files = {renamed(name): tensor for name, tensor in file_tensors(folder).items()}
    missing = [name for name in files if name not in state]
    assert not missing, missing[:4]
    for name, tensor in files.items():
        assert torch.equal(state[name].float(), tensor), name
    left = [name for name in state if name not in files and "lm_head" not in name]
    assert not left, left[:4]


def today(name):
    """The module path in today's library of a tensor under a published or a saved name."""
    name = name.replace("language_model.model.", "language_model.")
    if name.startswith("model."):
        name = "model.model." + name.replace("model.", "", 2 if name[6:12] == "model." else 1)
    return name


def open_hf(folder):
    from transformers import ColPaliForRetrieval
    model = ColPaliForRetrieval.from_pretrained(folder, dtype=torch.float32)
    check_loaded(model, folder, today)
    return ColPaliReference(folder, model)


def open_engine(folder):
    from colpali_engine.models import ColPali
    model = ColPali.from_pretrained(folder, dtype=torch.float32)
    check_loaded(model, folder, today)
    return ColPaliReference(folder, model)


def open_adapter(folder):
    from colpali_engine.models import ColPali
    from peft import PeftModel
    with tempfile.TemporaryDirectory() as scratch:
        base_folder = make_checkpoints.make("colpali-base", pathlib.Path(scratch) / "base")
        base = ColPali.from_pretrained(base_folder, dtype=torch.float32)
        check_loaded(base, base_folder, today)
        saved_today = make_checkpoints.make("colpali-adapter-today", pathlib.Path(scratch) / "today")
        model = PeftModel.from_pretrained(base, saved_today)
        tensors = file_tensors(saved_today)
    # PEFT knows the names that it saves today; the published ones name the same values.
    state, published = model.state_dict(), file_tensors(folder)
    for name, tensor in tensors.items():
        assert torch.equal(state[name.replace(".weight", ".default.weight")], tensor), name
        old = name.replace("model.model.model.language_model.", "model.model.language_model.model.")
        assert torch.equal(published.pop(old), tensor), old
    assert not published and len(tensors) == 2 * (3 * 7 + 1)
    return ColPaliReference(folder, model)


# ---- BERT --------------------------------------------------------------------------------------

class SentenceReference:
    def __init__(self, folder):
        from sentence_transformers import SentenceTransformer
        self.model = SentenceTransformer(str(folder), device="cpu")

    def passage(self, text):
        return self.model.encode([text], convert_to_numpy=True)

    def query(self, text, _):
        return self.passage(text)


class ColbertReference:
    """As the ColBERT library's tokenizers and model do; the encoder is transformers' own."""

    def __init__(self, folder):
        from transformers import BertConfig, BertModel
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.meta = json.loads((folder / "artifact.metadata").read_text(encoding="utf-8"))
        tensors = file_tensors(folder)
        self.head = tensors.pop("linear.weight")
        self.bert = BertModel(BertConfig(**make_checkpoints.BERT)).eval()
        self.bert.load_state_dict({name[5:]: tensor for name, tensor in tensors.items()},
                                  strict=True)

    def ids(self, text, marker, most):
        ids = self.tokenizer.encode(". " + text).ids
        if len(ids) > most:
            ids = ids[:most - 1] + ids[-1:]
        ids[1] = self.tokenizer.token_to_id(marker)
        return ids

    def forward(self, ids, mask):
        with torch.no_grad():
            out = self.bert(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask]))
            rows = out.last_hidden_state[0] @ self.head.T
        return torch.nn.functional.normalize(rows, dim=-1).numpy()

    def query(self, text, _):
        most = self.meta["query_maxlen"]
        ids = self.ids(text, self.meta["query_token_id"], most)
        n = len(ids)
        ids += [self.tokenizer.token_to_id("[MASK]")] * (most - n)
        return self.forward(ids, [1] * n + [0] * (most - n))

    def passage(self, text):
        ids = self.ids(text, self.meta["doc_token_id"], self.meta["doc_maxlen"])
        skipped = {self.tokenizer.encode(c, add_special_tokens=False).ids[0]
                   for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}
        rows = self.forward(ids, [1] * len(ids))
        return rows[[i for i, id_ in enumerate(ids) if id_ not in skipped]]


# ---- all of them -------------------------------------------------------------------------------

PAGES = {"colpali-hf": ["page", "noise", "single", "dot", "strip"],
         "colpali-merged": ["page", "noise", "strip"], "colpali-merged-today": ["page"],
         "colpali-adapter": ["page", "dot"], "colpali-full": ["page"]}
OPEN = {"sentence": SentenceReference, "colbert": ColbertReference, "colpali-hf": open_hf,
        "colpali-merged": open_engine, "colpali-merged-today": open_engine,
        "colpali-adapter": open_adapter, "colpali-full": open_engine}


def compute(name, folder):
    reference = OPEN[name](folder)
    listed, rows = [], []

    def keep(kind, key, prompt, values):
        listed.append({"kind": kind, "input": key, "prompt": prompt, "rows": len(values)})
        rows.append(values.astype(numpy.float32))

    for page in PAGES.get(name, []):
        keep("image", page, None, reference.page(page))
    for i, query in enumerate(golden_inputs.QUERIES):
        few = name not in ("colpali-hf", "sentence", "colbert") and i > 0
        for prompt in golden_inputs.PROMPTS if "colpali" in name else [None]:
            if not few:
                keep("query", i, prompt, reference.query(query, prompt))
    if name in ("sentence", "colbert"):
        for i, passage in enumerate(golden_inputs.PASSAGES):
            keep("passage", i, None, reference.passage(passage))
    numpy.save(OUT / f"{name}.npy", numpy.concatenate(rows))
    (OUT / f"{name}.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    print(name, numpy.concatenate(rows).shape)


def compute_minilm():
    """The published weights, from the folder that DOCUSEARCH_MINILM names."""
    reference = SentenceReference(os.environ["DOCUSEARCH_MINILM"])
    rows = numpy.concatenate([reference.passage(text) for text in golden_inputs.MINILM_TEXTS])
    numpy.save(OUT / "minilm.npy", rows.astype(numpy.float32))
    print("minilm", rows.shape)


def main():
    import colpali_engine
    import importlib.metadata as installed
    assert colpali_engine
    OUT.mkdir(exist_ok=True)
    torch.set_num_threads(2)
    for name in sys.argv[1:] or [*OPEN, "minilm"]:
        if name == "minilm":
            compute_minilm()
            continue
        with tempfile.TemporaryDirectory() as scratch:
            compute(name, make_checkpoints.make(name, pathlib.Path(scratch) / name))
    versions = {p: installed.version(p) for p in (
        "torch", "transformers", "colpali-engine", "peft", "sentence-transformers", "tokenizers",
        "pillow", "numpy")}
    (OUT / "versions.json").write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")


main()
