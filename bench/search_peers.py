#!/usr/bin/env python3
"""Other programs' side of search.py: loads pages once, then obeys one JSON command a line on
standard input and answers each with one JSON line.

usage: search_peers.py KIND N_PAGES FOLDER THREADS [base|copies]

KIND: torch-fp32, torch-bf16 (brute force) · maxsim-cpu · fast-plaid · lancedb-flat,
lancedb-ivf-pq.
FOLDER: where search_vectors.py prepared its vectors; indices that took long to build stay in it.
{"queries": FILE.npy, "seconds": s, "first": i, "settings": {…}}: asks one question after another,
from the i-th on, until the seconds are over (two at least):
{"ms": [each], "top": [[10 pages each]]}
"""

import json
import os
import pathlib
import shutil
import sys
import time

THREADS = sys.argv[4] if len(sys.argv) > 4 else "2"
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS",
                 "LANCE_CPU_THREADS", "TOKIO_WORKER_THREADS"):
    os.environ[variable] = THREADS
os.environ.setdefault("LANCE_LOG", "error")
os.environ.setdefault("RUST_LOG", "error")

import numpy  # noqa: E402

import search_vectors  # noqa: E402

START, TOP = time.monotonic(), 10


def vectors(folder, n, which, dtype):
    """n pages in memory."""
    pages = search_vectors.Pages(folder, copies=which == "copies")
    if which == "base":
        return pages.base[:n].astype(dtype)
    out = numpy.empty((n, pages.n_tokens, pages.dim), dtype)
    for i in range(n):
        out[i] = pages.page(i)
    return out


def folder_bytes(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


class Torch:
    """Products page block by page block; of the usual ways to write it, the fastest here."""

    def __init__(self, kind, n, folder, which):
        import torch
        torch.set_num_threads(int(THREADS))
        self.torch, self.version = torch, torch.__version__
        half = kind.endswith("bf16")
        pages = torch.from_numpy(
            vectors(folder, n, which, numpy.float16 if half else numpy.float32))
        self.pages = pages.to(torch.bfloat16) if half else pages
        some, self.way = self.pages[:min(n, 1000)], None
        question = some[0, :search_vectors.QUERY_TOKENS].contiguous()
        best = None
        for form in ("rows", "columns", "einsum"):
            for block in (16, 64, 256, 1000):
                seconds = []
                for _ in range(3):
                    begun = time.perf_counter()
                    self.scores(some, question, form, block)
                    seconds.append(time.perf_counter() - begun)
                if best is None or min(seconds) < best:
                    best, self.way = min(seconds), (form, block)
        self.bytes = self.pages.element_size() * self.pages.nelement()
        self.said = f"{self.way[0]}, blocks of {self.way[1]} pages"

    def scores(self, pages, question, form, block):
        out = []
        for at in range(0, len(pages), block):
            part = pages[at:at + block]
            if form == "rows":
                product = part.reshape(-1, part.shape[2]) @ question.T
                best = product.view(len(part), part.shape[1], -1).amax(1)
            elif form == "columns":
                best = self.torch.matmul(question, part.transpose(1, 2)).amax(2)
            else:
                best = self.torch.einsum("qd,ntd->nqt", question, part).amax(2)
            out.append(best.float().sum(1))
        return self.torch.cat(out)

    def ask(self, question, _):
        question = self.torch.from_numpy(question).to(self.pages.dtype)
        with self.torch.inference_mode():
            return self.scores(self.pages, question, *self.way).topk(TOP).indices.tolist()


class MaxsimCpu:
    def __init__(self, kind, n, folder, which):
        import importlib.metadata
        import maxsim_cpu
        self.module, self.version = maxsim_cpu, importlib.metadata.version("maxsim-cpu")
        self.pages = vectors(folder, n, which, numpy.float32)
        self.bytes, self.said = self.pages.nbytes, ""

    def ask(self, question, _):
        scores = numpy.asarray(self.module.maxsim_scores(question, self.pages))
        best = numpy.argpartition(-scores, TOP)[:TOP]
        return best[numpy.argsort(-scores[best])].tolist()


class FastPlaid:
    """Built with its own settings, but that clusters are found from a fifth of the documents at
    most, so that building ends the same day."""
    SAMPLES = 1000

    def __init__(self, kind, n, folder, which):
        import importlib.metadata
        import torch
        from fast_plaid import search
        torch.set_num_threads(int(THREADS))
        self.torch, self.version = torch, importlib.metadata.version("fast-plaid")
        at, done = folder / f"fast-plaid-{n}-{which}", folder / f"fast-plaid-{n}-{which}.seconds"
        if not done.exists():
            shutil.rmtree(at, ignore_errors=True)
            pages = torch.from_numpy(vectors(folder, n, which, numpy.float16))
            begun = time.monotonic()
            index = search.FastPlaid(index=str(at), device="cpu")
            index.create(documents_embeddings=list(pages.unbind(0)),
                         n_samples_kmeans=min(n, self.SAMPLES))
            index.close()
            done.write_text(str(time.monotonic() - begun), encoding="utf-8")
            (at / "embeddings.npy").unlink(missing_ok=True)
            del pages
        self.index = search.FastPlaid(index=str(at), device="cpu")
        self.bytes = folder_bytes(at)
        self.said = f"built in {float(done.read_text(encoding='utf-8')):.0f} s"

    def ask(self, question, settings):
        found = self.index.search(self.torch.from_numpy(question)[None], top_k=TOP,
                                  show_progress=False, n_processes=1, **settings)
        return [page for page, _ in found[0]]


class Lance:
    """A table of lists of fp32 vectors; flat, or with its IVF_PQ index."""

    def __init__(self, kind, n, folder, which):
        import lancedb
        self.version, self.flat = lancedb.__version__, kind.endswith("flat")
        at = folder / f"lancedb-{n}-{which}"
        made, done = at.with_suffix(".made"), at.with_suffix(".seconds")
        if not made.exists():
            shutil.rmtree(at, ignore_errors=True)
            self.fill(lancedb.connect(str(at)), n, folder, which)
            made.touch()
        self.table = lancedb.connect(str(at)).open_table("pages")
        if not self.flat and not done.exists():
            from lancedb.index import IvfPq
            begun = time.monotonic()
            self.table.create_index("vectors", config=IvfPq(distance_type="cosine"))
            done.write_text(str(time.monotonic() - begun), encoding="utf-8")
        self.bytes = folder_bytes(at)
        self.said = "" if self.flat else f"built in {float(done.read_text(encoding='utf-8')):.0f} s"

    @staticmethod
    def fill(base, n, folder, which):
        import pyarrow
        pages, at_once = search_vectors.Pages(folder, copies=which == "copies"), 100
        kind = pyarrow.list_(pyarrow.list_(pyarrow.float32(), pages.dim))
        schema = pyarrow.schema([("id", pyarrow.int64()), ("vectors", kind)])

        def batches():
            for at in range(0, n, at_once):
                some = range(at, min(n, at + at_once))
                values = numpy.concatenate([pages.page(i) for i in some]).reshape(-1)
                starts = numpy.arange(len(some) + 1, dtype=numpy.int32) * pages.n_tokens
                lists = pyarrow.ListArray.from_arrays(
                    starts, pyarrow.FixedSizeListArray.from_arrays(values, pages.dim))
                yield pyarrow.RecordBatch.from_arrays([pyarrow.array(some), lists], schema=schema)

        base.create_table("pages", pyarrow.RecordBatchReader.from_batches(schema, batches()),
                          schema=schema)

    def ask(self, question, settings):
        asked = self.table.search(question, vector_column_name="vectors").limit(
            settings.get("limit", TOP)).distance_type("cosine").select(["id", "_distance"])
        if self.flat:
            asked = asked.bypass_vector_index()
        else:
            asked = asked.nprobes(settings.get("nprobes", 20))
            if "refine_factor" in settings:
                asked = asked.refine_factor(settings["refine_factor"])
        return asked.to_arrow()["id"].to_pylist()[:TOP]


KINDS = {"torch-fp32": Torch, "torch-bf16": Torch, "maxsim-cpu": MaxsimCpu, "fast-plaid": FastPlaid,
         "lancedb-flat": Lance, "lancedb-ivf-pq": Lance}


def memory():
    with open("/proc/self/status", encoding="utf-8") as status:
        kept = dict(line.split(":", 1) for line in status)
    return int(kept["VmHWM"].split()[0]) * 1024


def answer(peer, command):
    queries = numpy.load(command["queries"])
    settings, first = command.get("settings") or {}, command.get("first", 0)
    peer.ask(queries[first], settings)  # not counted
    told, begun = {"ms": [], "top": []}, time.monotonic()
    for i in range(first, len(queries)):
        start = time.perf_counter()
        top = peer.ask(queries[i], settings)
        told["ms"].append((time.perf_counter() - start) * 1000)
        told["top"].append(top)
        if time.monotonic() - begun > command["seconds"] and len(told["ms"]) > 1:
            break
    return {**told, "memory": memory()}


def main():
    kind, n, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    which = sys.argv[5] if len(sys.argv) > 5 else "base"
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not an answer
    out = os.fdopen(out, "w")
    peer = KINDS[kind](kind, n, folder, which)
    print(json.dumps({"ready": time.monotonic() - START, "version": peer.version, "said": peer.said,
                      "bytes": peer.bytes}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(peer, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
