#!/usr/bin/env python3
"""docusearch's models beside PyTorch's, in turn, in several rounds.

usage: bench/models.py BUILD [--rounds N] [--pages N] [--tiny] [--scratch FOLDER] [--python PYTHON]
                             [--minilm FOLDER] [--only pages,text]

A full-size ColPali with random weights is made in the scratch folder (5.9 GB, and as much again for
packed weights) and removed at the end. docusearch is driven as a server, by POST /v1/embeddings, so
that its start is measured apart from its work; PyTorch by torch_worker.py, one process a program, each started anew in each round and ended before
the next begins: they never share the memory or the processors. All get the same two processors.
PYTHON is an interpreter with torch, transformers and sentence-transformers; without one a virtual
environment is made in the scratch folder.

Each round also measures the loop of matrix instructions by itself (tests/kernel's `--bench`), since
a throttled processor makes all programs alike: the medians are also given over the rounds in which
it ran at nine tenths of its best.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "golden"), str(ROOT / "tests" / "server")]

SCRATCH = pathlib.Path(os.environ.get("BENCH_SCRATCH") or "/tmp/docusearch-bench") / "models"


def find_python(scratch):
    """An interpreter with PyTorch in a virtual environment of ours."""
    folder = scratch / "venv"
    python = folder / "bin" / "python"
    if not python.exists():
        print("making a virtual environment with PyTorch (several gigabytes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "torch", "transformers",
                        "sentence-transformers", "pillow"], check=True)
    return str(python)


try:
    import numpy
except ImportError:  # the interpreter that has PyTorch has it
    other = os.environ.get("BENCH_PYTHON") or find_python(SCRATCH)
    os.execv(other, [other, str(pathlib.Path(__file__).resolve()), *sys.argv[1:]])

import golden_inputs  # noqa: E402
import make_checkpoints  # noqa: E402
import minilm  # noqa: E402

THREADS = 2
QUERIES = ["What was the revenue of the second quarter?", "Who signed the contract, and when?",
           "Where does the table of expenses stand?", "How is heat transfer at a blunt body measured?",
           "total cost of the project by year", "What does figure 3 show about the boundary layer?"]
WORDS = ("the page report of revenue was signed and total heat transfer boundary layer supersonic "
         "flow measured contract invoice number date author section figure shows that results in a "
         "table by year quarter company development temperature pressure method between").split()


# ---- the full-size model -----------------------------------------------------------------------

class Quick(make_checkpoints.Tensor):
    """The same bell shape out of one block of values, for gigabytes."""
    block = None

    def floats(self, start, n):
        if Quick.block is None:
            Quick.block = make_checkpoints.bell("quick", 0, 1 << 22).astype(numpy.float32) / 37837
        at = (start + len(self.name) * 7919) % (len(Quick.block) - n)
        return Quick.block[at:at + n] * numpy.float32(self.scale) + numpy.float32(self.offset)


def make_full_size(folder):
    """The sizes of vidore/colpali-v1.2-hf; the small tokenizer, whose ids are rows of it too."""
    mc = make_checkpoints
    vision = {**mc.FULL_VISION, "num_hidden_layers": 27, "image_size": 448}
    text = {**mc.FULL_TEXT, "num_hidden_layers": 18, "num_image_tokens": 1024, "vocab_size": 257216}
    folder.mkdir(parents=True)
    mc.write_json(folder / "config.json", {
        "architectures": ["ColPaliForRetrieval"], "embedding_dim": mc.DIM, "model_type": "colpali",
        "text_config": text, "torch_dtype": "bfloat16", "vlm_config": {
            "model_type": "paligemma", "hidden_size": 2048, "image_token_index": mc.IMAGE_TOKEN,
            "pad_token_id": 0, "projection_dim": 2048, "text_config": text,
            "vision_config": vision}})
    mc.take_tokenizer(folder, "gemma")
    tensors = mc.colpali_tensors(vision, text, "full-size:", mc.HF, "BF16")
    for tensor in tensors:
        tensor.__class__ = Quick
    mc.write_sharded(folder, tensors, 3)
    return sum(tensor.n for tensor in tensors)


def make_pages(folder, n, python):
    """Pages of 1240 x 1754 pixels, as at 150 dpi, in JPEG, as the store keeps them."""
    golden_inputs.PICTURES["bench"] = (1240, 1754, "page")
    rgb, paths = golden_inputs.pixels("bench"), []
    for i in range(n):
        paths.append(folder / f"page{i}.jpg")
        png = paths[-1].with_suffix(".png")
        golden_inputs.write_png(png, numpy.roll(rgb, 97 * i, axis=0))
        subprocess.run([python, "-c", "import sys; from PIL import Image; "
                        "Image.open(sys.argv[1]).save(sys.argv[2], quality=90)",
                        str(png), str(paths[-1])], check=True)
        png.unlink()
    return paths


def passages(n, n_words=250):
    random = make_checkpoints.bell("passages", 0, n * n_words) % len(WORDS)
    return [" ".join(WORDS[w] for w in random[i * n_words:(i + 1) * n_words]) for i in range(n)]


# ---- the programs ------------------------------------------------------------------------------

class Ours:
    def __init__(self, scratch, name, **settings):
        from running import Running
        self.name = name
        begun = time.monotonic()
        self.server = Running(scratch / "data", HF_HUB_OFFLINE="1",
                              MODELS_DIR=str(scratch / "models"), **settings)
        self.model = self.wait_ready()
        self.ready = time.monotonic() - begun

    def wait_ready(self):
        while True:
            model = next(m for m in self.server.get("/health").json["models"]
                         if m["name"] == self.name)
            assert model["state"] in ("loading", "ready"), model
            if model["state"] == "ready":
                return model
            time.sleep(0.02)

    def ask(self, given, **more):
        begun = time.monotonic()
        reply = self.server.request("POST", "/v1/embeddings", {
            "model": self.name, "input": given, "encoding_format": "base64",
            "multi_vector": bool(self.model.get("late", True)), **more}, timeout=3600)
        assert reply.status == 200, reply.body[:300]
        return time.monotonic() - begun

    def pages(self, paths, batch):
        seconds = 0
        for at in range(0, len(paths), batch):
            data = [base64.b64encode(path.read_bytes()).decode() for path in paths[at:at + batch]]
            seconds += self.ask([{"image": "data:image/jpeg;base64," + d} for d in data])
        return seconds

    def queries(self, texts):
        return sum(self.ask(text, input_type="query") for text in texts)

    def passages(self, texts, batch):
        return sum(self.ask(texts[at:at + 256]) for at in range(0, len(texts), 256))

    def memory(self):
        status = pathlib.Path(f"/proc/{self.server.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) * 1024

    def stop(self):
        self.server.stop(seconds=600)


class Torch:
    def __init__(self, python, kind, folder, precision):
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [python, str(ROOT / "bench" / "torch_worker.py"), kind, str(folder), precision,
             str(THREADS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        self.peak, self.version = 0, self.answer()["torch"]
        self.ready = time.monotonic() - begun

    def answer(self):
        line = self.process.stdout.readline()
        assert line, "PyTorch's side ended without an answer"
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.peak = answer["memory"]
        return answer["seconds"]

    def pages(self, paths, batch):
        return self.ask({"pages": [str(path) for path in paths], "batch": batch})

    def queries(self, texts):
        return self.ask({"queries": texts})

    def passages(self, texts, batch):
        return self.ask({"passages": texts, "batch": batch})

    def memory(self):
        return self.peak

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


# ---- measuring ---------------------------------------------------------------------------------

def tile_loop(build, precision):
    """The multiply loop's rate on both threads, in G/s; 0 where it is not built."""
    program = build / "tests" / "kernel" / "test_gemm"
    if not program.exists():
        return 0.0
    told = subprocess.run([str(program), "--bench", precision, "rows=1024", f"threads={THREADS}",
                           "only=vision out"], capture_output=True, text=True).stdout
    rates = [float(rate) for rate in re.findall(r"loop\s+([\d.]+)", told)]
    return max(rates, default=0.0)


def warm(folder):
    """The files into the page cache."""
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


def packed_done(scratch, n):
    """Waits until n files of packed weights lie there whole."""
    folder, deadline = scratch / "models" / "packed", time.monotonic() + 600
    while time.monotonic() < deadline:
        names = [path.name for path in folder.glob("*")] if folder.exists() else []
        if sum(name.endswith(".weights") for name in names) >= n:
            return
        time.sleep(0.2)
    print(f"no packed weights after ten minutes in {folder}", file=sys.stderr)


def measure_pages(program, paths, batch):
    """A page and a query first, which are not counted; then pages/s, seconds a query, peak memory."""
    program.pages(paths[:1], 1)
    program.queries(QUERIES[:1])
    pages = len(paths) / program.pages(paths, batch)
    query = program.queries(QUERIES) / len(QUERIES)
    return {"pages/s": pages, "query s": query, "memory": program.memory(), "ready": program.ready,
            "load": program.model["load_seconds"] if isinstance(program, Ours) else None}


def start_and_stop(make, use):
    program = make()
    try:
        return use(program)
    finally:
        program.stop()


def first_page(make, paths):
    begun = time.monotonic()
    program = make()
    try:
        program.pages(paths[:1], 1)
        return time.monotonic() - begun
    finally:
        program.stop()


class Table:
    """Rows of numbers, one a round; loop: the multiply loop's rate in that round."""

    def __init__(self):
        self.rows, self.loops = {}, []

    def add(self, name, value):
        self.rows.setdefault(name, []).append(value)

    def print(self, wanted):
        best = max(self.loops, default=0)
        full = [i for i, rate in enumerate(self.loops) if rate >= 0.9 * best]
        print(f"{'loop, bf16 G/s':<46} " + " ".join(f"{v:9.0f}" for v in self.loops))
        print(f"{'':<46} " + " ".join(f"{'round ' + str(i + 1):>9}"
                                      for i in range(len(self.loops))) + "    median  at full rate")
        for name, values in self.rows.items():
            some = [values[i] for i in full if i < len(values)] or values
            median, judged = statistics.median(values), statistics.median(some)
            said = ""
            if name in wanted:
                asked = wanted[name]
                met = judged >= asked if asked > 0 else judged <= -asked
                said = f"   {'>=' if asked > 0 else '<='} {abs(asked):g}  {'ok' if met else 'MISS'}"
            print(f"{name:<46} " + " ".join(f"{v:9.3f}" for v in values) +
                  f" {median:9.3f} {judged:13.3f}{said}", flush=True)


def bench_pages(options, build, scratch, python):
    folder = scratch / "models" / "vidore--colpali-random"
    shutil.rmtree(scratch / "models", ignore_errors=True)
    begun = time.monotonic()
    if options.tiny:
        make_checkpoints.make("colpali-hf", folder)
    else:
        n = make_full_size(folder)
        print(f"made {n / 1e9:.3f} G parameters in {time.monotonic() - begun:.0f} s")
    (scratch / "pages").mkdir(exist_ok=True)
    paths = make_pages(scratch / "pages", options.pages, python)
    table = Table()
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    def ours(precision):
        return lambda: Ours(scratch, str(folder), MODEL_NAME=str(folder), TEXT_MODEL="none",
                            MODEL_PRECISION=precision, BATCH_SIZE_VISUAL=str(options.batch))

    def torch():
        return Torch(python, "colpali", folder, "bf16")

    warm(folder)
    packed = scratch / "models" / "packed"
    for precision in ("bf16", "int8"):
        shutil.rmtree(packed, ignore_errors=True)
        table.add(f"first start to first page, {precision}, s", first_page(ours(precision), paths))
    table.add("first start to first page, PyTorch bf16, s", first_page(torch, paths))
    seconds = {name: values[0] for name, values in table.rows.items()}
    theirs = seconds["first start to first page, PyTorch bf16, s"]
    for precision in ("bf16", "int8"):
        table.add(f"first start, {precision} / PyTorch",
                  seconds[f"first start to first page, {precision}, s"] / theirs)
    shutil.rmtree(packed, ignore_errors=True)
    for i, precision in enumerate(("bf16", "int8")):
        start_and_stop(ours(precision), lambda program: packed_done(scratch, i + 1))

    for round_i in range(options.rounds):
        table.loops.append(tile_loop(build, "bf16"))
        got = {}
        for name, make in (("bf16", ours("bf16")), ("PyTorch bf16", torch), ("int8", ours("int8"))):
            got[name] = start_and_stop(make, lambda program: measure_pages(program, paths,
                                                                          options.batch))
            for what in ("pages/s", "query s"):
                table.add(f"{what}, {name}", got[name][what])
            table.add(f"start to ready, {name}, s", got[name]["ready"])
            if got[name]["load"] is not None:
                table.add(f"model's own load, {name}, s", got[name]["load"])
            table.add(f"peak memory, {name}, GB", got[name]["memory"] / 1e9)
        theirs = got["PyTorch bf16"]
        for name in ("bf16", "int8"):
            table.add(f"pages/s, {name} / PyTorch bf16", got[name]["pages/s"] / theirs["pages/s"])
            table.add(f"query, {name} / PyTorch bf16", got[name]["query s"] / theirs["query s"])
        table.add("peak memory beyond the weights, bf16, GB", (got["bf16"]["memory"] - weights) / 1e9)
        print(f"round {round_i + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    print(f"\nColPali, {'tiny' if options.tiny else 'full size'}, batch {options.batch}, "
          f"{THREADS} threads, {options.pages} pages a round")
    table.print({"pages/s, bf16 / PyTorch bf16": 1.5, "pages/s, int8 / PyTorch bf16": 3.0,
                 "query, int8 / PyTorch bf16": -1 / 3, "first start, bf16 / PyTorch": -1 / 3,
                 "first start, int8 / PyTorch": -1 / 3, "start to ready, bf16, s": -1.0,
                 "start to ready, int8, s": -1.0, "peak memory beyond the weights, bf16, GB": -1.0})
    shutil.rmtree(scratch / "models", ignore_errors=True)


def bench_text(options, build, scratch, python):
    folder = options.minilm
    if not folder:
        folder, why = minilm.find_minilm()
        if not folder:
            print(f"passages: skipped, {why}")
            return
    texts, batch, table = passages(32 if options.tiny else 256), 32, Table()

    def use(program):
        program.passages(texts[:batch], batch)
        program.queries(QUERIES[:1])
        rate = len(texts) / program.passages(texts, batch)
        return rate, program.queries(QUERIES) / len(QUERIES)

    def ours(precision):
        return lambda: Ours(scratch, str(folder), MODEL_NAME="none", TEXT_MODEL=str(folder),
                            MODEL_PRECISION=precision, BATCH_SIZE_TEXT=str(batch))

    for _ in range(options.rounds):
        table.loops.append(tile_loop(build, "bf16"))
        rates = {}
        for name, make in (("bf16", ours("bf16")), ("int8", ours("int8")),
                           ("sentence-transformers fp32",
                            lambda: Torch(python, "sentence", folder, "fp32")),
                           ("sentence-transformers bf16",
                            lambda: Torch(python, "sentence", folder, "bf16"))):
            rates[name], query = start_and_stop(make, use)
            table.add(f"passages/s, {name}", rates[name])
            table.add(f"query ms, {name}", query * 1000)
        theirs = max(rate for name, rate in rates.items() if "sentence" in name)
        table.add("passages/s, best / faster of theirs", max(rates["bf16"], rates["int8"]) / theirs)
    print(f"\nall-MiniLM-L6-v2, {len(texts)} passages of 250 words, batch {batch}, "
          f"{THREADS} threads")
    table.print({"passages/s, best / faster of theirs": 3.0})


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tiny", action="store_true", help="a small model, to try this script")
    parser.add_argument("--scratch", type=pathlib.Path, default=SCRATCH)
    parser.add_argument("--python", default=os.environ.get("BENCH_PYTHON"))
    parser.add_argument("--minilm", type=pathlib.Path)
    parser.add_argument("--only", default="pages,text")
    options = parser.parse_args()
    build = options.build.resolve()
    scratch = options.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    os.environ["DOCUSEARCH_BIN"] = str(build / "docusearch")
    python = options.python or find_python(scratch)
    if "pages" in options.only:
        bench_pages(options, build, scratch, python)
    if "text" in options.only:
        bench_text(options, build, scratch, python)


if __name__ == "__main__":
    main()
