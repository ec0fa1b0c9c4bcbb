#!/usr/bin/env python3
"""Vectors through a real ChromaDB beside the embedded index, on this machine.

usage: bench/shared.py BUILD [--only taken,search,judged] [--rounds N] [--pages N,N]
                       [--documents N] [--way hook|watch] [--model FOLDER] [--scratch FOLDER]
                       [--tiny]

taken    real documents (the corpus), one after another: put to Copyparty, whose hook tells the
         worker, with vectors in ChromaDB; and the same files sent to the same worker with its own
         index. Then the same questions of both, by mode and stage. The models are small (the text
         model of --model where there is one; a ColPali of the golden tests with random weights), so
         that the store is measured and not the model.
search   pages of 1,030 vectors: as they are put, as they are found; recall@10 of MaxSim over all
         int8 codes; rows and bytes. The vectors are bench/search_vectors.py's where it prepared
         some (its questions, too), else made of topics.
judged   the judged collection: a worker that has it all starts with an empty ChromaDB; how fast it
         is filled; nDCG@10 of both, rows, bytes and memory. Needs --model.

ChromaDB and Copyparty are those of the tests' Python environment, whose interpreter runs this.
Every number of a round is of one process after another, or in turn; tables show medians over the
rounds. --model (BENCH_MINILM): a folder with all-MiniLM-L6-v2. The corpus is found at
../shared/corpus, the judged collection at ../shared/eval/cranfield beside the project
(DOCUSEARCH_CORPUS and DOCUSEARCH_EVAL override). Scratch folder: BENCH_SCRATCH
(/tmp/docusearch-bench) / shared. --tiny tries the script.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = pathlib.Path(os.environ.get("BENCH_SCRATCH") or "/tmp/docusearch-bench")
DIM, TOKENS, QUERY_TOKENS, TOP, SEED = 128, 1030, 24, 10, 7
MODES = ("hybrid", "visual", "text", "lexical")
PARTS = ("scan_ms", "pooled_ms", "full_ms")
QUESTIONS = ["boundary layer on a flat plate", "how are tables recognised in a page image",
             "system administration of a power server", "ducks", "number of passengers",
             "which formats can be exported", "heat transfer", "list of countries",
             "annotations in documents", "geometry of triangles", "code listing", "total sales",
             "lorem ipsum", "how to fill in the form", "right to left text", "equation",
             "accident statistics", "release notes", "a picture with a caption",
             "table of contents"]


# ---- numbers -----------------------------------------------------------------------------------

def p50(values):
    return statistics.median(values)


def p95(values):
    return sorted(values)[int(0.95 * len(values))]


class Table:
    """A Markdown table; of a list of numbers its cell shows the median."""

    def __init__(self, title, *heads):
        self.title, self.heads, self.rows = title, heads, []

    def add(self, *cells, form="{:.1f}"):
        self.rows.append([cell if isinstance(cell, str) else form.format(
            statistics.median(cell) if isinstance(cell, list) else cell) for cell in cells])

    def print(self):
        widths = [max(len(row[i]) for row in [self.heads, *self.rows])
                  for i in range(len(self.heads))]
        print(f"\n{self.title}\n")
        for row in [self.heads, ["-" * width for width in widths], *self.rows]:
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        sys.stdout.flush()


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- servers -----------------------------------------------------------------------------------

class Bench:
    def __init__(self, options):
        os.environ["DOCUSEARCH_BIN"] = str(options.build.resolve() / "docusearch")
        sys.path[:0] = [str(ROOT / "tests" / "server"), str(ROOT / "tests" / "golden")]
        import chroma_server
        import copyparty_server
        import make_checkpoints
        import running
        self.options, self.build = options, options.build.resolve()
        self.scratch = options.scratch.resolve()
        self.ChromaServer, self.copyparty, self.running = (
            chroma_server.ChromaServer, copyparty_server, running)
        self.models = {}
        for name in ("sentence", "colpali-merged"):
            self.models[name] = self.scratch / "models" / name
            if not self.models[name].exists():
                part = self.scratch / "models" / "part"
                shutil.rmtree(part, ignore_errors=True)
                make_checkpoints.make(name, part)
                part.rename(self.models[name])
        self.text_model = str(options.model or self.models["sentence"])
        self.text_name = "all-MiniLM-L6-v2" if options.model else "a small random text model"

    @contextlib.contextmanager
    def chroma(self, name, new=True):
        """A ChromaDB in a folder of its own; stopped in order at the end."""
        folder = self.scratch / name
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        server = self.ChromaServer(folder)
        try:
            yield server.start()
        finally:
            server.stop()

    @contextlib.contextmanager
    def worker(self, name, chroma=None, visual=True, **settings):
        """A worker whose models are loaded; chroma: where its vectors go."""
        if chroma:
            settings.update(chroma.settings)
        visual_model = self.models["colpali-merged"] if visual else "none"
        server = self.running.Running(
            self.scratch / name, TEXT_MODEL=self.text_model, MODEL_NAME=str(visual_model),
            MODELS_DIR=str(self.scratch / "packed"), HF_HUB_OFFLINE="1", **settings)
        try:
            while any(one["state"] == "loading" for one in server.get("/health").json["models"]):
                time.sleep(0.05)
            yield server
        finally:
            server.stop(seconds=60)

    def fresh(self, name):
        shutil.rmtree(self.scratch / name, ignore_errors=True)
        (self.scratch / f"{name}.log").unlink(missing_ok=True)


def until(check, seconds=900, step=0.05):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not after {seconds} s")
        time.sleep(step)


def settled(server, n_documents):
    """All were read, or refused, and the store that is shared has them."""
    health = server.get("/health").json
    documents, store = health["documents"], health.get("store") or {}
    waiting = (store.get("documents") or {}).get("waiting") or 0
    known = documents["ready"] + documents.get("failed", 0)
    return (known >= n_documents and not waiting and store.get("reachable", True)
            and health["queue"]["waiting"] + health["queue"]["running"] == 0)


def stage_seconds(server):
    """Sums of docusearch_stage_seconds by stage."""
    found = re.findall(r'^docusearch_stage_seconds_sum\{stage="(\w+)"\} (\S+)',
                       server.get("/metrics").body.decode(), re.M)
    return {stage: float(seconds) for stage, seconds in found}


def memory_mb(server, name="VmRSS"):
    text = pathlib.Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+)", text).group(1)) / 1024


# ---- documents taken in ------------------------------------------------------------------------

def real_documents(corpus, most):
    """(name, bytes) of the corpus' files, kinds in turn; without those that cannot be read and the
    longest."""
    kinds = {}
    for path in sorted(corpus.rglob("*")):
        kind = path.relative_to(corpus).parts[0]
        if path.is_file() and kind in ("csv", "docx", "html", "md", "pdf", "pptx", "xlsx") \
                and "password" not in path.name and path.stat().st_size < 1_500_000:
            kinds.setdefault(kind, []).append(path)
    order = sorted((i / len(paths), kind, path) for kind, paths in kinds.items()
                   for i, path in enumerate(paths))
    return [(path.name, path.read_bytes()) for _, _, path in order[:most]]


def send(server, files):
    for name, data in files:
        reply = server.upload(data, name)
        if reply.status not in (200, 202):
            raise RuntimeError(f"{name}: {reply.status} {reply.body[:300]}")


def take(bench, name, files, chroma, copyparty):
    """Takes all files in; seconds, and what the worker says of itself then."""
    bench.fresh(name)
    uploads = bench.scratch / name / "uploads"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bench.worker(name, chroma))
        if copyparty:
            hook = bench.options.way == "hook"
            way = bench.copyparty.hooks(bench.running.PROGRAM) if hook else ()
            bench.fresh(f"{name}-copyparty")
            front = bench.copyparty.CopypartyServer(
                bench.scratch / f"{name}-copyparty", *way, files=uploads,
                env={"WORKER_PORT": str(server.port), "DATA_DIR": str(server.data_dir)}).start()
            stack.callback(front.stop)
        begun = time.monotonic()
        if copyparty:
            for file, data in files:
                front.put(file, data)
        else:
            send(server, files)
        until(lambda: settled(server, len(files)))
        seconds = time.monotonic() - begun
        documents = server.get("/health").json["documents"]
        return {"seconds": seconds, "stages": stage_seconds(server), "mb": memory_mb(server),
                "peak mb": memory_mb(server, "VmHWM"), "pages": documents["pages"],
                "ready": documents["ready"], "chunks": documents["chunks"]}


def ask_modes(servers, questions, modes, n_results=TOP):
    """servers: name -> server, asked in turn, after a round that is not counted.
    (name, mode) -> the replies, with their wall time."""
    replies = {}
    for round_i in range(2):
        for text in questions:
            for mode in modes:
                for name, server in servers.items():
                    begun = time.monotonic()
                    reply = server.request("POST", "/search", {
                        "query": text, "search_mode": mode, "n_results": n_results})
                    ms = (time.monotonic() - begun) * 1000
                    if reply.status != 200:
                        raise RuntimeError(f"{name} {mode} '{text}': {reply.body[:300]}")
                    if round_i == 1:
                        replies.setdefault((name, mode), []).append({**reply.json, "wall_ms": ms})
    return replies


def print_modes(title, replies, modes):
    table = Table(title, "mode", "p50 ms: index", "ChromaDB", "p95 ms: index", "ChromaDB",
                  "p50, ratio")
    stages = Table(f"{title}, by stage (p50 ms; scan, pooled, full: of the vectors' search)",
                   "mode, stage", "index", "ChromaDB")
    for mode in modes:
        here, there = (replies[name, mode] for name in ("index", "chroma"))
        walls = [[reply["wall_ms"] for reply in some] for some in (here, there)]
        table.add(mode, p50(walls[0]), p50(walls[1]), p95(walls[0]), p95(walls[1]),
                  f"{p50(walls[1]) / p50(walls[0]):.2f}")
        for stage in here[0]["stages"]:
            if any("ms" not in reply["stages"].get(stage, {}) for reply in here + there):
                continue
            cells = []
            for some in (here, there):
                of = [reply["stages"][stage] for reply in some]
                parts = [f"{part[:-3]} {p50([one[part] for one in of]):.1f}" for part in PARTS
                         if all(part in one for one in of)]
                cells.append(f"{p50([one['ms'] for one in of]):.1f}"
                             + (f" ({', '.join(parts)})" if parts else ""))
            stages.add(f"{mode}, {stage}", *cells)
    table.print()
    stages.print()


def bench_taken(bench):
    corpus = bench.running.CORPUS
    if not corpus.is_dir():
        print(f"\ndocuments taken in: skipped, no corpus at {corpus}")
        return
    files = real_documents(corpus, bench.options.documents)
    ways = [("index", False, False), ("copyparty", False, True), ("chroma", True, True)]
    told = {way: [] for way, _, _ in ways}
    for round_i in range(bench.options.rounds):
        for way, shared, copyparty in ways:
            with bench.chroma("taken-store") if shared else contextlib.nullcontext() as chroma:
                told[way].append(take(bench, f"taken-{way}", files, chroma, copyparty))
                say(f"{way}: {told[way][-1]['seconds']:.1f} s")
    rates = {way: [60 * len(files) / one["seconds"] for one in some] for way, some in told.items()}
    one = told["chroma"][-1]
    table = Table(f"Documents taken in: {len(files)} of the corpus, {one['pages']} pages, "
                  f"{one['chunks']} passages; {bench.text_name}, a small random ColPali; "
                  f"{bench.options.rounds} rounds", "what", "median", "rounds")

    def row(name, values, form="{:.1f}"):
        table.add(name, values, " ".join(form.format(value) for value in values), form=form)

    row("documents/min: POST /documents, embedded index", rates["index"])
    row(f"documents/min: Copyparty ({bench.options.way}), embedded index", rates["copyparty"])
    row(f"documents/min: Copyparty ({bench.options.way}), ChromaDB", rates["chroma"])
    row("ChromaDB with Copyparty / POST with the index",
        [a / b for a, b in zip(rates["chroma"], rates["index"])], "{:.2f}")
    row("ChromaDB / index, both with Copyparty",
        [a / b for a, b in zip(rates["chroma"], rates["copyparty"])], "{:.2f}")
    row("put into ChromaDB, ms a page",
        [1000 * one["stages"].get("share", 0) / one["pages"] for one in told["chroma"]])
    row("put into ChromaDB, ms a document",
        [1000 * one["stages"].get("share", 0) / one["ready"] for one in told["chroma"]])
    row("resident MB of the worker: index", [one["mb"] for one in told["index"]])
    row("resident MB of the worker: ChromaDB", [one["mb"] for one in told["chroma"]])
    row("most MB of the worker: index", [one["peak mb"] for one in told["index"]])
    row("most MB of the worker: ChromaDB", [one["peak mb"] for one in told["chroma"]])
    table.print()
    with bench.chroma("taken-store", new=False) as chroma, bench.worker("taken-index") as index, \
            bench.worker("taken-chroma", chroma) as shared:
        until(lambda: settled(shared, one["ready"]))
        replies = ask_modes({"index": index, "chroma": shared}, QUESTIONS, MODES)
        print_modes(f"Searches over these documents, {len(QUESTIONS)} questions", replies, MODES)


# ---- pages of many vectors ---------------------------------------------------------------------

def unit(vectors):
    return vectors / numpy.linalg.norm(vectors, axis=-1, keepdims=True)


class Made:
    """Pages of six topics of 400 each, and questions of two kinds, where nothing is prepared."""

    said = "vectors made of topics"

    def __init__(self):
        self.n_pages = 1 << 30
        self.topics = unit(numpy.random.default_rng(SEED).standard_normal((400, DIM)))
        self.kinds = [("easy: of one page", range(50)), ("hard: of several pages", range(50, 100))]

    def page(self, i):
        random = numpy.random.default_rng([SEED, i])
        own = self.topics[random.choice(400, 6, replace=False)]
        noise = random.standard_normal((TOKENS, DIM)) * (0.6 / DIM ** 0.5)
        return unit(own[random.integers(6, size=TOKENS)] + noise)

    def questions(self, n_pages):
        random, out = numpy.random.default_rng(SEED + 1), []
        for i in range(100):
            pages = [self.page(int(random.integers(n_pages))) for _ in range(1 if i < 50 else 6)]
            vectors = numpy.stack([pages[q % len(pages)][random.integers(TOKENS)]
                                   for q in range(QUERY_TOKENS)])
            noise = random.standard_normal(vectors.shape) * ((0.3 if i < 50 else 1) / DIM ** 0.5)
            out.append(unit(vectors + noise))
        return numpy.stack(out)


class Prepared:
    """Token states of real text: search_vectors.py's, its pages shuffled."""

    said = "token states of real text"

    def __init__(self, folder):
        self.pages = numpy.load(folder / "base.npy", mmap_mode="r")
        self.n_pages = len(self.pages)
        self.order = numpy.random.default_rng(SEED).permutation(self.n_pages)
        self.asked = numpy.load(folder / "queries.npy")
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        held_out = min(50, facts["held out"])
        self.kinds = [("sentences held out of the pages", range(held_out)),
                      ("the judged collection's", range(held_out, len(self.asked)))]

    def page(self, i):
        return self.pages[self.order[i]]

    def questions(self, _):
        return self.asked


def lines_of(command, settings=None, feed=None):
    """The JSON objects that a program prints; feed: arrays for its standard input."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                               stdin=subprocess.PIPE, env={**os.environ, **(settings or {})})
    for array in feed or ():
        process.stdin.write(array.astype("<f2").tobytes())
    process.stdin.close()
    out = process.stdout.read()
    if process.wait():
        raise RuntimeError(f"{command[0]} {command[1]} ended with {process.returncode}")
    return [json.loads(line) for line in out.splitlines()]


def recall(asked, name, which):
    found = [len(set(one[name]["top"]) & set(one["exact"]["top"])) / len(one["exact"]["top"])
             for one in asked if one["question"] in which]
    return statistics.mean(found)


def folder_bytes(path):
    return sum(part.stat().st_blocks * 512 for part in path.rglob("*") if part.is_file())


def stored(chroma):
    """(collection -> (rows, bytes of its index' files, of its rows' metadata, of its rows in the
    log), bytes by the database's tables, bytes of the folder); the server is stopped for it."""
    counts = chroma.counts()
    uuids = {name: one["id"] for name, one in chroma.collections().items()}
    chroma.stop()
    out = {}
    with chroma.database() as db:
        metadata = dict(db.execute(
            "SELECT s.collection, sum(24 + length(m.key) + coalesce(length(m.string_value), 8)) "
            "FROM embedding_metadata m JOIN embeddings e ON e.id = m.id "
            "JOIN segments s ON s.id = e.segment_id GROUP BY s.collection"))
        queue = {topic.rpartition("/")[2]: size for topic, size in db.execute(
            "SELECT topic, sum(length(id) + coalesce(length(vector), 0) + "
            "coalesce(length(metadata), 0)) FROM embeddings_queue GROUP BY topic")}
        for name, uuid in uuids.items():
            segments = [row[0] for row in db.execute(
                "SELECT id FROM segments WHERE scope = 'VECTOR' AND collection = ?", (uuid,))]
            files = sum(folder_bytes(chroma.data / one) for one in segments
                        if (chroma.data / one).is_dir())
            out[name] = (counts[name], files, metadata.get(uuid, 0), queue.get(uuid, 0))
        tables = {}
        with contextlib.suppress(sqlite3.OperationalError):  # where SQLite was built without it
            tables = dict(db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
    return out, tables, folder_bytes(chroma.data)


def print_stored(title, stored_now, n_pages):
    collections, tables, whole = stored_now
    table = Table(title, "collection", "rows a page", "kB a page: index' files", "metadata", "log")
    for name, (rows, *sizes) in sorted(collections.items()):
        table.add(name, f"{rows / n_pages:.2f}", *(size / n_pages / 1000 for size in sizes))
    table.print()
    table = Table("The same on disk", "what", "kB a page")
    index_files = sum(one[1] for one in collections.values())
    table.add("index' files", index_files / n_pages / 1000)
    for name, size in sorted(tables.items(), key=lambda pair: -pair[1]):
        if size * 50 > whole:
            table.add(f"database: {name}", size / n_pages / 1000)
    table.add("the folder, all in all", whole / n_pages / 1000)
    table.print()


def bench_pages(bench, vectors, n):
    """Pages put and found. (how they were put, one asking a round)"""
    folder = bench.scratch / f"pages-{n}"
    questions = bench.scratch / "questions.f32"
    asked = vectors.questions(n)
    asked.astype("<f4").tofile(questions)
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()
    lines_of([bench.build / "bench/bench_search", "build", folder, n, TOKENS, DIM],
             feed=(vectors.page(i) for i in range(n)))
    say(f"{n} pages in the index: {time.monotonic() - begun:.1f} s")
    program = bench.build / "bench/bench_shared"
    with bench.chroma(f"pages-{n}-chroma") as chroma:
        put = lines_of([program, "put", folder, 0, n], chroma.settings)
        say(f"{n} pages in ChromaDB: {sum(one['ms'] for one in put) / 1000:.1f} s")
        ask = [program, "query", folder, questions, len(asked), QUERY_TOKENS, TOP]
        rounds = [lines_of(ask + ["exact"] * (round_i == bench.options.rounds - 1),
                           chroma.settings) for round_i in range(bench.options.rounds)]
        sizes = stored(chroma)
    return put, rounds, sizes


def bench_search(bench):
    folder = BASE / "search"
    vectors = Prepared(folder) if (folder / "facts.json").exists() else Made()
    heads = ("what", "index", "ChromaDB", "ratio")
    for n in bench.options.pages:
        if n > vectors.n_pages:
            print(f"\n{n} pages: skipped, {vectors.n_pages} are prepared")
            continue
        put, rounds, sizes = bench_pages(bench, vectors, n)
        table = Table(f"{n} pages of {TOKENS} vectors ({vectors.said}), questions of "
                      f"{QUERY_TOKENS}; {bench.options.rounds} rounds", *heads)
        for which, name in ((0, "asked for the first time"), (1, "asked again")):
            for how, said in ((p50, "p50"), (p95, "p95")):
                ms = {side: [how([one[side]["ms"] for one in asked if one["round"] == which])
                             for asked in rounds] for side in ("index", "chroma")}
                ratios = [there / here for here, there in zip(ms["index"], ms["chroma"])]
                table.add(f"{name}, {said} ms", ms["index"], ms["chroma"], ratios)
            for part, said in zip(PARTS, ("codes scanned / ChromaDB's answer",
                                          "pooled vectors / candidates ranked", "all vectors")):
                table.add(f"{name}, of it {said}, p50 ms", *(
                    [p50([one[side][part] for one in asked if one["round"] == which])
                     for asked in rounds] for side in ("index", "chroma")), "")
        again = [one for one in rounds[-1] if one["round"] == 1]
        for kind, which in vectors.kinds:
            table.add(f"recall@{TOP} of exact int8: {kind} ({len(which)})",
                      *(recall(again, side, which) for side in ("index", "chroma")), "",
                      form="{:.3f}")
        table.add("pages put a second", "",
                  sum(one["pages"] for one in put) / sum(one["ms"] for one in put) * 1000, "")
        table.print()
        print_stored(f"Rows and bytes of {n} such pages", sizes, n)


# ---- the judged collection ---------------------------------------------------------------------

def filled(bench, chroma, n_documents):
    """A start with an empty ChromaDB: seconds until it has all, by the process' start."""
    bench.fresh("judged-chroma")
    shutil.copytree(bench.scratch / "judged", bench.scratch / "judged-chroma")
    begun = time.monotonic()
    with bench.worker("judged-chroma", chroma, visual=False) as server:
        loaded = time.monotonic()
        until(lambda: settled(server, n_documents))
        return time.monotonic() - begun, loaded - begun, memory_mb(server, "VmHWM")


def judge(quality, replies, modes, asked, right):
    """nDCG@10 by (server, mode)."""
    return {(name, mode): statistics.mean(
        quality.ndcg(quality.distinct(reply["results"]), right[query])
        for (query, _), reply in zip(asked, replies[name, mode]))
        for name in ("index", "chroma") for mode in modes}


def bench_judged(bench):
    import hashlib
    import quality
    if not os.path.exists(os.path.join(quality.JUDGED, "corpus.jsonl")):
        print(f"\nquality: skipped, no judged documents at {quality.JUDGED}")
        return
    if not bench.options.model:
        print("\nquality, and an empty ChromaDB filled: skipped, no --model (BENCH_MINILM)")
        return
    documents, queries, named = quality.load(quality.JUDGED)
    documents = [one for one in documents if one[1]]
    if bench.options.tiny:
        documents, queries = documents[:60], queries[:40]
    ids = {name: hashlib.sha256(data).hexdigest() for name, data in documents}
    right = {query: {ids[name] for name in names if name in ids} for query, names in named.items()}
    asked = [one for one in queries if right.get(one[0])]
    bench.fresh("judged")
    with bench.worker("judged", visual=False) as server:
        for name, data in documents:
            send(server, [(name + ".txt", data)])
        until(lambda: settled(server, len(documents)))
        counted = server.get("/health").json["documents"]
    fills = []
    while not fills or (len(fills) < bench.options.rounds and sum(one[0] for one in fills) < 60):
        with bench.chroma("judged-store") as chroma:
            fills.append(filled(bench, chroma, len(documents)))
            say(f"filled: {fills[-1][0]:.1f} s")
    modes = ("hybrid", "text", "lexical")
    with bench.chroma("judged-store", new=False) as chroma, \
            bench.worker("judged", visual=False) as index, \
            bench.worker("judged-chroma", chroma, visual=False) as shared:
        until(lambda: settled(shared, len(documents)))
        replies = ask_modes({"index": index, "chroma": shared}, [text for _, text in asked], modes)
        memory = {"index": memory_mb(index), "chroma": memory_mb(shared)}
        sizes = stored(chroma)
    pages = counted["pages"]
    table = Table(f"An empty ChromaDB filled at a worker's start: {len(documents)} documents, "
                  f"{pages} pages, {counted['chunks']} passages", "what", "median", "rounds")
    for name, values in (
            ("start to all there, s", [one[0] for one in fills]),
            ("of it until the models are loaded, s", [one[1] for one in fills]),
            ("pages/s, after that", [pages / (one[0] - one[1]) for one in fills]),
            ("most MB of the worker", [one[2] for one in fills]),
            ("resident MB after the questions: index", [memory["index"]]),
            ("resident MB after the questions: ChromaDB", [memory["chroma"]])):
        table.add(name, values, " ".join(f"{value:.1f}" for value in values))
    table.print()
    gains = judge(quality, replies, modes, asked, right)
    table = Table(f"nDCG@10 of the judged collection, {len(asked)} questions", "mode", "index",
                  "ChromaDB", "ratio", "asked")
    for mode in modes:
        here, there = gains["index", mode], gains["chroma", mode]
        met = abs(there / here - 1) <= 0.01 if here else there == here
        table.add(mode, here, there, there / here if here else 1.0,
                  "0.99..1.01  " + ("ok" if met else "MISS"), form="{:.4f}")
    table.print()
    print_modes("Searches over the judged collection", replies, modes)
    print_stored(f"Rows and bytes of the judged collection ({pages} pages)", sizes, pages)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--only", default="taken,search,judged")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", default="300,3000")
    parser.add_argument("--documents", type=int, default=30, help="of the corpus, at most")
    parser.add_argument("--way", choices=["hook", "watch"], default="hook")
    parser.add_argument("--model", type=pathlib.Path, default=os.environ.get("BENCH_MINILM"))
    parser.add_argument("--scratch", type=pathlib.Path, default=BASE / "shared")
    parser.add_argument("--tiny", action="store_true", help="little of all, to try this script")
    options = parser.parse_args()
    options.pages = [int(n) for n in options.pages.split(",")]
    if options.tiny:
        options.pages, options.documents, options.rounds = [100], 8, min(options.rounds, 2)
    if options.model:
        options.model = pathlib.Path(options.model).resolve()
    options.scratch.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    print(f"`bench/shared.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}, "
          f"{len(os.sched_getaffinity(0))} processors")
    begun = time.monotonic()
    for name, measure in (("taken", bench_taken), ("search", bench_search),
                          ("judged", bench_judged)):
        if name in options.only.split(","):
            measure(bench)
            say(f"{name}: {(time.monotonic() - begun) / 60:.1f} minutes so far")


if __name__ == "__main__":
    main()
