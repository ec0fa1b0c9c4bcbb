#!/usr/bin/env python3
"""The vectors of `make bench-search`: token states of a text model over real text.

usage: bench/search_vectors.py prepare [--model FOLDER] [--scratch FOLDER] [--pages N]
       bench/search_vectors.py stream [--scratch FOLDER] [--first PAGE] [--pages N] [--pooled]
                                [--copies]

prepare gathers text (the judged collection, the corpus of documents, documentation packages of this
system's package archive, unpacked in the scratch folder), cuts it into base pages of five passages
of 206 tokens, and keeps the last hidden states of all-MiniLM-L6-v2 over them, 1030 vectors a page,
turned by a fixed random orthogonal matrix from 384 to 128 dimensions and normalised. Questions are
the judged collection's and sentences held out of the text, each of at least 24 tokens, cut to 24
vectors. Prepared once, used again.

Larger collections are copies of the base pages, made when asked for and never stored: every token
gets Gaussian noise half as long as itself, and a part of the tokens, none to six in ten, are those
of another base page, so that copies of one page differ in what they answer. All pages of such a
collection are copies: a page without noise would stand above all with it. The same number gives the
same copy.

stream writes pages to the standard output, float16, one page after another: 1030 x 128, or pooled
to 64 x 128; base pages as they are, or --copies.

Scratch folder: BENCH_SCRATCH (/tmp/docusearch-bench) / search. Model: folder of the Hugging Face
form; BENCH_MINILM.
"""

import argparse
import gzip
import hashlib
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = pathlib.Path(os.environ.get("BENCH_SCRATCH") or "/tmp/docusearch-bench") / "search"
JUDGED = pathlib.Path(os.environ.get("DOCUSEARCH_EVAL") or ROOT.parent / "shared/eval/cranfield")
CORPUS = pathlib.Path(os.environ.get("DOCUSEARCH_CORPUS") or ROOT.parent / "shared/corpus")

DIM, TOKENS, PASSAGE, QUERY_TOKENS, POOLED = 128, 1030, 206, 24, 64
NOISE, REPLACED_MOST, SEED = 0.5, 0.6, 20250601
N_QUERIES = 100
# Prose first; what comes later is taken while pages are missing.
PACKAGES = ["debian-policy", "debian-reference-en", "developers-reference", "postgresql-doc-15",
            "python3.11-doc", "git-doc", "apache2-doc", "sqlite3-doc", "python-django-doc",
            "exim4-doc-html", "bash-doc", "zsh-doc", "cmake-doc", "anarchism", "r-doc-html",
            "libreoffice-help-en-us", "octave-doc", "erlang-doc", "maxima-doc", "ghc-doc",
            "linux-doc-6.1"]
SHARE = 0.15  # of all pages that one package may fill


# ---- text --------------------------------------------------------------------------------------

class Prose(html.parser.HTMLParser):
    """The paragraphs of an HTML page."""
    BLOCKS = {"p", "li", "dd", "dt", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "div", "br",
              "pre", "section", "article", "tr", "table", "ul", "ol", "dl", "blockquote"}
    SKIPPED = {"script", "style", "nav", "head", "footer"}

    def __init__(self):
        super().__init__()
        self.skipping, self.blocks, self.now = 0, [], []

    def end_block(self):
        self.blocks.append("".join(self.now))
        self.now = []

    def handle_starttag(self, tag, attrs):
        self.skipping += tag in self.SKIPPED
        if tag in self.BLOCKS:
            self.end_block()

    def handle_endtag(self, tag):
        self.skipping = max(0, self.skipping - (tag in self.SKIPPED))
        if tag in self.BLOCKS:
            self.end_block()

    def handle_data(self, data):
        if not self.skipping:
            self.now.append(data)


def paragraphs_of(path):
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = gzip.decompress(data)
    text = data.decode("utf-8", "replace")
    if re.search(r"\.x?html?(\.gz)?$", path.name):
        prose = Prose()
        prose.feed(text)
        prose.end_block()
        return prose.blocks
    return re.split(r"\n\s*\n", text)


class Once:
    """Paragraphs that were not there before, spaces made one."""

    def __init__(self):
        self.seen = set()

    def take(self, blocks):
        for block in blocks:
            block = " ".join(block.split())
            key = hashlib.md5(re.sub(r"\W+|\d+", "", block.lower()).encode()).digest()
            if len(block) < 20 or key in self.seen:
                continue
            self.seen.add(key)
            yield block


def documents_of_package(package, scratch):
    folder = scratch / "packages" / package
    if not folder.exists():
        loads = scratch / "packages"
        loads.mkdir(parents=True, exist_ok=True)
        if subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download",
                           package], cwd=loads).returncode != 0:
            print(f"{package}: not in this system's archive, left out", file=sys.stderr)
            return
        archive = next(loads.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
        archive.unlink()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and re.search(
                r"\.(x?html?|txt|rst)(\.gz)?$", path.name):
            if not re.search(r"genindex|changelog|copyright|search", path.name):
                yield paragraphs_of(path)


def sources(scratch):
    """(name, documents), a document being its paragraphs."""
    if (JUDGED / "corpus.jsonl").exists():
        with open(JUDGED / "corpus.jsonl", encoding="utf-8") as file:
            yield "judged documents", [[d.get("title", "") + ". " + d["text"]]
                                       for d in map(json.loads, file)]
    yield "corpus", [paragraphs_of(path) for path in sorted(CORPUS.rglob("*"))
                     if path.suffix in (".md", ".html", ".txt")]
    for package in PACKAGES:
        yield package, documents_of_package(package, scratch)


def judged_questions():
    if not (JUDGED / "queries.jsonl").exists():
        return []
    with open(JUDGED / "queries.jsonl", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def long_enough(text, tokenizer):
    return len(tokenizer(text)["input_ids"]) >= QUERY_TOKENS


class Gatherer:
    """Token ids of base pages, and sentences kept out of them to be asked."""

    def __init__(self, tokenizer, n_pages):
        self.tokenizer, self.n_pages = tokenizer, n_pages
        self.pages, self.held_out, self.once = [], [], Once()
        self.random = numpy.random.default_rng(SEED)

    def hold_out(self, text):
        """text without one of its sentences, now and then."""
        sentences = re.split(r"(?<=[a-z]\.) (?=[A-Z])", text)
        if len(sentences) < 4 or self.random.random() > 0.01:
            return text
        at = int(self.random.integers(1, len(sentences) - 1))
        if not 100 <= len(sentences[at]) <= 250 or not long_enough(sentences[at], self.tokenizer):
            return text
        self.held_out.append(sentences.pop(at))
        return " ".join(sentences)

    def add(self, name, documents):
        per_page = TOKENS // PASSAGE * (PASSAGE - 2)
        most = len(self.pages) + max(20, int(SHARE * self.n_pages))
        ids, began = [], len(self.pages)
        for document in documents:
            text = "\n".join(self.hold_out(block) for block in self.once.take(document))
            if text:
                ids += self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            while len(ids) >= per_page:
                if len(self.pages) >= min(most, self.n_pages):
                    break
                self.pages.append(ids[:per_page])
                ids = ids[per_page:]
            if len(self.pages) >= min(most, self.n_pages):
                break
        print(f"{name}: {len(self.pages) - began} pages", file=sys.stderr, flush=True)


# ---- vectors -----------------------------------------------------------------------------------

def projection(n):
    """n x 128, orthonormal columns."""
    random = numpy.random.default_rng(SEED)
    return numpy.linalg.qr(random.standard_normal((n, DIM)))[0].astype(numpy.float32)


def normalised(vectors):
    return vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def encode(model, torch, ids, turn):
    """Equally long sequences of token ids to their vectors."""
    with torch.inference_mode():
        states = model(input_ids=torch.tensor(ids), attention_mask=torch.ones(
            len(ids), len(ids[0]), dtype=torch.long)).last_hidden_state
    return normalised(states.float().numpy() @ turn)


def pool(vectors, n):
    """n mean vectors of Ward's clusters, normalised."""
    from scipy.cluster.hierarchy import fcluster, linkage
    upper = numpy.triu_indices(len(vectors), 1)
    far = numpy.sqrt(numpy.maximum(2 - 2 * (vectors @ vectors.T)[upper], 0))
    label = fcluster(linkage(far, "ward"), n, "maxclust") - 1
    sums = numpy.zeros((n, vectors.shape[1]), numpy.float32)
    numpy.add.at(sums, label, vectors)
    some = numpy.flatnonzero(numpy.abs(sums).sum(1))  # ties may give fewer clusters
    return normalised(sums[some[numpy.arange(n) % len(some)]])


def prepare(scratch, model_folder, n_pages):
    scratch.mkdir(parents=True, exist_ok=True)
    facts = scratch / "facts.json"
    if facts.exists():
        return json.loads(facts.read_text(encoding="utf-8"))
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    model = transformers.AutoModel.from_pretrained(model_folder, dtype=torch.bfloat16).eval()
    turn = projection(model.config.hidden_size)

    gatherer = Gatherer(tokenizer, n_pages)
    for name, documents in sources(scratch):
        if len(gatherer.pages) >= n_pages:
            break
        gatherer.add(name, documents)
    n_pages = len(gatherer.pages)

    pick = numpy.random.default_rng(SEED + 1).permutation
    held_out, asked = gatherer.held_out, [text for text in judged_questions()
                                          if long_enough(text, tokenizer)]
    texts = [held_out[i] for i in pick(len(held_out))[:N_QUERIES // 2]]
    texts += [asked[i] for i in pick(len(asked))[:N_QUERIES - len(texts)]]
    queries = [encode(model, torch, [tokenizer(text)["input_ids"]], turn)[0][:QUERY_TOKENS]
               for text in texts]
    numpy.save(scratch / "queries.npy", numpy.stack(queries).astype(numpy.float32))
    (scratch / "queries.json").write_text(json.dumps(texts, indent=1), encoding="utf-8")

    base = numpy.lib.format.open_memmap(scratch / "base.npy.part", "w+", numpy.float16,
                                        (n_pages, TOKENS, DIM))
    pooled = numpy.zeros((n_pages, POOLED, DIM), numpy.float16)
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    at_once = 16
    for at in range(0, n_pages, at_once):
        ids = numpy.array(gatherer.pages[at:at + at_once])
        ids = ids.reshape(-1, PASSAGE - 2)
        ids = numpy.pad(ids, ((0, 0), (1, 1)), constant_values=((0, 0), (first, last)))
        vectors = encode(model, torch, ids, turn).reshape(-1, TOKENS, DIM)
        base[at:at + at_once] = vectors
        for i, page in enumerate(vectors):
            pooled[at + i] = pool(page, POOLED)
        if at % (at_once * 20) == 0:
            print(f"{at} of {n_pages} pages", file=sys.stderr, flush=True)
    base.flush()
    os.replace(scratch / "base.npy.part", scratch / "base.npy")
    numpy.save(scratch / "pooled.npy", pooled)
    told = {"pages": n_pages, "queries": len(texts), "held out": len(held_out),
            "model": str(model_folder)}
    facts.write_text(json.dumps(told), encoding="utf-8")
    return told


class Pages:
    """Page i as float32: base pages, or copies of them; pooled: 64 vectors instead of 1030."""

    def __init__(self, scratch, pooled=False, copies=False):
        self.copies = copies
        name = "pooled.npy" if pooled else "base.npy"
        self.base = numpy.load(pathlib.Path(scratch) / name, mmap_mode="r")
        self.n_base, self.n_tokens, self.dim = self.base.shape

    def page(self, i):
        if not self.copies:
            return self.base[i].astype(numpy.float32)
        random = numpy.random.default_rng([SEED, i])
        own = self.base[i % self.n_base].astype(numpy.float32)
        other = self.base[int(random.integers(self.n_base))]
        taken = numpy.flatnonzero(random.random(self.n_tokens) < REPLACED_MOST * random.random())
        own[taken] = other[taken]
        noise = random.standard_normal(own.shape, numpy.float32)
        return normalised(own + noise * numpy.float32(NOISE / numpy.sqrt(self.dim)))


def stream(pages, first, n, out):
    for i in range(first, first + n):
        out.write(pages.page(i).astype(numpy.float16).tobytes())
    out.flush()


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("what", choices=["prepare", "stream"])
    parser.add_argument("--model", default=os.environ.get("BENCH_MINILM"))
    parser.add_argument("--scratch", type=pathlib.Path, default=SCRATCH)
    parser.add_argument("--pages", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--pooled", action="store_true")
    parser.add_argument("--copies", action="store_true")
    options = parser.parse_args()
    if options.what == "prepare":
        if not options.model:
            parser.error("--model: a folder with all-MiniLM-L6-v2")
        print(prepare(options.scratch, options.model, options.pages))
        shutil.rmtree(options.scratch / "packages", ignore_errors=True)
    else:
        stream(Pages(options.scratch, options.pooled, options.copies), options.first,
               options.pages, sys.stdout.buffer)


if __name__ == "__main__":
    main()
