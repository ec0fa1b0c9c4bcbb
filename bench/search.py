#!/usr/bin/env python3
"""docusearch's index beside other late-interaction searches, in turn, in several rounds.

usage: bench/search.py BUILD [--rounds N] [--only exact,hundred,million,judged] [--scratch FOLDER]
                             [--python PYTHON] [--model FOLDER] [--peers LIST] [--seconds S]
                             [--fp32] [--tiny]

The vectors are search_vectors.py's, prepared once. docusearch's side is bench_search, which links
the index and nothing above it; the others run as search_peers.py, one process each, started anew in
each round and ended before the next begins. All get the same two processors, and ask one question
at a time. Truth is exact MaxSim in fp32; recall@10 counts the true ten best. At the largest sizes
fp32 takes an hour: there it is asked for by --fp32, and the staged search is held against MaxSim
over all int8 codes.

exact    5,000 real pages, every page scored: docusearch's int8 beside all others
hundred  10,000 and 100,000 copies of them: the staged search; others at the largest size that they
         reach here (--peer-pages), and docusearch at that size too
million  1,000,000 pages pooled to 64 vectors
judged   nDCG@10 of the judged collection through the running server (bench/quality.py)

PYTHON (BENCH_PYTHON) is an interpreter with torch, transformers, scipy, maxsim-cpu, fast-plaid and
lancedb; without one a virtual environment is made in the scratch folder (BENCH_SCRATCH,
/tmp/docusearch-bench). --model (BENCH_MINILM): a folder with all-MiniLM-L6-v2. Needs about 60 GB on
disk and some hours the first time: what was built stays and is used again. --tiny tries the script.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = pathlib.Path(os.environ.get("BENCH_SCRATCH") or "/tmp/docusearch-bench") / "search"
PACKAGES = ["torch==2.10.0", "transformers", "scipy", "maxsim-cpu", "fast-plaid==1.7.0.2100",
            "lancedb", "pyarrow"]


def find_python(scratch):
    """An interpreter with the other programs in a virtual environment of ours."""
    python = scratch / "venv" / "bin" / "python"
    if not python.exists():
        print("making a virtual environment (several gigabytes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(scratch / "venv")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return str(python)


try:
    import numpy
except ImportError:  # the interpreter that has the others has it
    other = os.environ.get("BENCH_PYTHON") or find_python(SCRATCH)
    os.execv(other, [other, str(pathlib.Path(__file__).resolve()), *sys.argv[1:]])

import search_vectors  # noqa: E402

THREADS, TOP = 2, 10
# Asked of a peer: name shown, kind, settings, which sizes it can be built for.
EXACT = [("PyTorch bf16", "torch-bf16", {}), ("PyTorch fp32", "torch-fp32", {}),
         ("maxsim-cpu", "maxsim-cpu", {}), ("LanceDB, no index", "lancedb-flat", {})]
APPROXIMATE = [("fast-plaid", "fast-plaid", {}),
               ("fast-plaid, wide", "fast-plaid", {"n_ivf_probe": 32, "n_full_scores": 8192}),
               ("LanceDB IVF_PQ", "lancedb-ivf-pq", {}),
               ("LanceDB IVF_PQ, wide", "lancedb-ivf-pq", {"nprobes": 100, "limit": 100})]


# ---- the programs ------------------------------------------------------------------------------

class Peer:
    def __init__(self, bench, kind, n, which):
        self.process = subprocess.Popen(
            [bench.python, str(ROOT / "bench" / "search_peers.py"), kind, str(n),
             str(bench.scratch), str(THREADS), which],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=open(bench.scratch / f"{kind}.log", "a", encoding="utf-8"))
        self.told = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"ended without an answer ({self.process.wait()})")
        return json.loads(line)

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


class Bench:
    def __init__(self, options):
        self.options, self.scratch = options, options.scratch.resolve()
        self.python = options.python or find_python(self.scratch)
        self.program = options.build.resolve() / "bench" / "bench_search"
        self.queries = self.scratch / "queries.npy"
        self.raw = self.scratch / "queries.f32"
        self.table = Table()

    def prepare(self):
        if not (self.scratch / "facts.json").exists():
            subprocess.run([self.python, str(ROOT / "bench" / "search_vectors.py"), "prepare",
                            "--scratch", str(self.scratch), "--pages", str(self.options.base),
                            *(["--model", self.options.model] if self.options.model else [])],
                           check=True)
        facts = json.loads((self.scratch / "facts.json").read_text(encoding="utf-8"))
        numpy.load(self.queries).astype("<f4").tofile(self.raw)
        self.n_queries, self.n_base = facts["queries"], facts["pages"]
        print(f"{facts['pages']} real pages, {facts['queries']} questions "
              f"({facts['held out']} sentences held out)")

    def ours(self, *arguments, pages=None, **settings):
        """bench_search's answers, one JSON object a line; pages: (first, n, flags…) piped in."""
        feed = None
        if pages:
            first, n, *flags = pages
            feed = subprocess.Popen([sys.executable, str(ROOT / "bench" / "search_vectors.py"),
                                     "stream", "--scratch", str(self.scratch), "--first",
                                     str(first), "--pages", str(n), *flags],
                                    stdout=subprocess.PIPE)
        done = subprocess.run([str(self.program), *map(str, arguments)], text=True,
                              stdout=subprocess.PIPE, stdin=feed.stdout if feed else None,
                              env={**os.environ, **settings})
        if feed:
            feed.stdout.close()
            feed.wait()
        if done.returncode:
            raise RuntimeError(f"bench_search {arguments[0]} ended with {done.returncode}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def built(self, name, n, n_vectors, *flags, **settings):
        """The folder of n pages, built when it is not there."""
        folder = self.scratch / name
        if not (folder / "built.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            told = self.ours("build", folder, n, n_vectors, search_vectors.DIM,
                             pages=(0, n, *flags), **settings)[-1]
            (folder / "built.json").write_text(json.dumps(told), encoding="utf-8")
            print(f"{name}: {n} pages built in {told['seconds']:.0f} s", file=sys.stderr)
        return folder, json.loads((folder / "built.json").read_text(encoding="utf-8"))

    def ask(self, folder, *more, **settings):
        """Every question once, in a new process, after a round that is not counted."""
        *answers, last = self.ours("query", folder, self.raw, self.n_queries,
                                   search_vectors.QUERY_TOKENS, TOP, *more, **settings)
        return {"ms": [a["ms"] for a in answers], "top": [a["top"] for a in answers], **last}

    def exact(self, folder, **settings):
        """The ten best pages of each question by all int8 codes, kept beside them."""
        kept = folder / "exact.json"
        if not kept.exists():
            kept.write_text(json.dumps(self.ask(folder, "exact", **settings)), encoding="utf-8")
        return json.loads(kept.read_text(encoding="utf-8"))["top"]

    # ---- truth ----

    def truth(self, name, n, which, pooled=False):
        """The ten best pages of each question, exact in fp32; n below the largest size made."""
        kept = self.scratch / f"truth-{name}.npy"
        if kept.exists():
            scores = numpy.load(kept, mmap_mode="r")
            if scores.shape[1] >= n:
                return best(scores[:, :n])
        flags = (["copies"] if which == "copies" else []) + (["pooled"] if pooled else [])
        subprocess.run([self.python, str(pathlib.Path(__file__).resolve()), "--truth", str(kept),
                        str(n), str(self.scratch), *flags], check=True)
        return best(numpy.load(kept, mmap_mode="r")[:, :n])


def best(scores):
    return [numpy.argsort(-row, kind="stable")[:TOP].tolist() for row in numpy.asarray(scores)]


def recall(answers, truth, first=0):
    found = [len(set(top) & set(truth[first + i])) for i, top in enumerate(answers)]
    return sum(found) / (TOP * len(found))


def make_truth(kept, n, scratch, flags):
    """Scores of all questions on n pages, fp32, PyTorch; some pages at a time."""
    import torch
    torch.set_num_threads(THREADS)
    pages = search_vectors.Pages(scratch, pooled="pooled" in flags, copies="copies" in flags)
    questions = numpy.load(pathlib.Path(scratch) / "queries.npy")
    turned = torch.from_numpy(questions.reshape(-1, pages.dim).T.copy())
    scores = numpy.empty((len(questions), n), numpy.float32)
    at_once = 8 if not pages.n_tokens < 1000 else 128
    for at in range(0, n, at_once):
        some = numpy.stack([pages.page(i) for i in range(at, min(n, at + at_once))])
        # as the index gets them: float16
        some = torch.from_numpy(some.astype(numpy.float16).astype(numpy.float32))
        product = (some.reshape(-1, pages.dim) @ turned).view(some.shape[0], some.shape[1], -1)
        top = product.amax(1).view(some.shape[0], len(questions), -1).sum(2)
        scores[:, at:at + len(some)] = top.numpy().T
    numpy.save(kept, scores)


# ---- the table ---------------------------------------------------------------------------------

class Table:
    """Rows of numbers, one a round."""

    def __init__(self):
        self.rows, self.asked = {}, {}

    def add(self, name, value, asked=None):
        """asked: (">=" or "<=", number)."""
        self.rows.setdefault(name, []).append(float(value))
        if asked:
            self.asked[name] = asked

    def print(self, title):
        print(f"\n{title}")
        for name, values in self.rows.items():
            median, said = statistics.median(values), ""
            if name in self.asked:
                sign, number = self.asked[name]
                met = median >= number if sign == ">=" else median <= number
                said = f"   {sign} {number:g}  {'ok' if met else 'MISS'}"
            several = " ".join(f"{v:10.3f}" for v in values) if len(values) > 1 else ""
            print(f"{name:<58} {median:10.3f}{said}   {several}", flush=True)
        self.rows, self.asked = {}, {}


def p50(answers):
    return statistics.median(answers["ms"])


def p95(answers):
    return sorted(answers["ms"])[int(0.95 * len(answers["ms"]))]


def ask_peers(bench, peers, n, which, truth, table, round_i):
    """Each peer started, asked, ended; the medians by name. One that cannot be run is said."""
    medians = {}
    for name, kind, settings in peers:
        try:
            peer = Peer(bench, kind, n, which)
        except RuntimeError as problem:
            print(f"{name} at {n} pages: {problem}", file=sys.stderr)
            continue
        if round_i == 0:
            told = peer.told
            print(f"  {name} {told['version']}, {n} pages: {told['bytes'] / n / 1000:.0f} kB a page"
                  f"{', ' + told['said'] if told['said'] else ''}", flush=True)
        # slow ones cannot be asked everything: each round asks them others
        first = round_i * 7 % bench.n_queries
        told = peer.ask(queries=str(bench.queries), seconds=bench.options.seconds, first=first,
                        settings=settings)
        peer.stop()
        medians[name] = p50(told)
        table.add(f"{name}, ms", medians[name])
        table.add(f"{name}, recall@10", recall(told["top"], truth, first))
    return medians


def chosen(peers, options):
    return [peer for peer in peers if not options.peers or peer[1] in options.peers.split(",")]


# ---- what is measured --------------------------------------------------------------------------

def bench_exact(bench):
    table, n = bench.table, bench.n_base
    folder, _ = bench.built("ours-base", n, search_vectors.TOKENS)
    truth = bench.truth("base", n, "base")
    for round_i in range(bench.options.rounds):
        ours = bench.ask(folder, "exact")
        staged = bench.ask(folder)
        table.add("docusearch exact int8, ms", p50(ours))
        table.add("docusearch exact int8, recall@10", recall(ours["top"], truth), (">=", 0.99))
        theirs = ask_peers(bench, chosen(EXACT, bench.options), n, "base", truth, table, round_i)
        if theirs:
            table.add("exact: fastest other / docusearch", min(theirs.values()) / p50(ours),
                      (">=", 8))
        table.add("docusearch staged, ms", p50(staged))
        table.add("docusearch staged, recall@10", recall(staged["top"], truth), (">=", 0.99))
        print(f"round {round_i + 1} of {bench.options.rounds} done", file=sys.stderr, flush=True)
    table.print(f"every page scored: {n} pages x {search_vectors.TOKENS} vectors, "
                f"{search_vectors.QUERY_TOKENS} of the question, {THREADS} threads")


def bench_hundred(bench):
    table, big, options = bench.table, bench.options.pages, bench.options
    small = big // 10
    sizes = (big, small, options.peer_pages) if options.fp32 else (small, options.peer_pages)
    truth = {n: bench.truth("copies", n, "copies") for n in sorted(sizes, reverse=True)}
    folders = {n: bench.built(f"ours-{n}", n, search_vectors.TOKENS, "--copies")
               for n in (small, big)}
    if options.peer_pages not in folders:
        folders[options.peer_pages] = bench.built(f"ours-{options.peer_pages}", options.peer_pages,
                                                  search_vectors.TOKENS, "--copies")
    exact = {n: bench.exact(folder) for n, (folder, _) in folders.items()}
    built = folders[big][1]
    table.add("bytes a page, codes of the staged search", built["bytes_code"], ("<=", 10000))
    table.add("bytes a page, with the unpooled int8", built["bytes_all"], ("<=", 145000))
    for round_i in range(options.rounds):
        medians = {}
        for n, (folder, _) in folders.items():
            told = bench.ask(folder)
            medians[n] = p50(told)
            asked = ("<=", 30) if n == big else None
            table.add(f"docusearch, {n} pages, p50 ms", medians[n], asked)
            table.add(f"docusearch, {n} pages, p95 ms", p95(told))
            table.add(f"docusearch, {n} pages, recall@10 of all int8",
                      recall(told["top"], exact[n]), (">=", 0.99))
            if n in truth:
                table.add(f"docusearch, {n} pages, recall@10 of fp32",
                          recall(told["top"], truth[n]))
                table.add(f"all int8, {n} pages, recall@10 of fp32", recall(exact[n], truth[n]))
        table.add(f"latency, {big} / {small} pages", medians[big] / medians[small],
                  ("<=", big / small))
        theirs = ask_peers(bench, chosen(EXACT[:1] + APPROXIMATE, options), options.peer_pages,
                           "copies", truth[options.peer_pages], table, round_i)
        for name, median in theirs.items():
            table.add(f"{name} / docusearch, both {options.peer_pages} pages",
                      median / medians[options.peer_pages], (">=", 1))
            table.add(f"{name} with {options.peer_pages} / docusearch with {big} pages",
                      median / medians[big])
        changes = bench.ours("change", folders[big][0], big, 30, search_vectors.TOKENS,
                             search_vectors.DIM, pages=(big, 30, "--copies"))[-1]
        table.add("a page added, durable, ms", changes["add_ms"], ("<=", 5))
        table.add("a page removed, durable, ms", changes["remove_ms"], ("<=", 1))
        print(f"round {round_i + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    table.print(f"{big} pages x {search_vectors.TOKENS} vectors; "
                f"others: {options.peer_pages} pages")


def bench_million(bench):
    table, n = bench.table, bench.options.million
    folder, built = bench.built(f"ours-pooled-{n}", n, search_vectors.POOLED, "--copies",
                                "--pooled", INDEX_POOL_FACTOR="1", INDEX_CODE_BITS="8",
                                INDEX_FULL_VECTORS="false")
    exact = bench.exact(folder)
    truth = bench.truth("pooled", n, "copies", pooled=True) if bench.options.fp32 else None
    table.add("bytes a page", built["bytes_all"])
    for _ in range(bench.options.rounds):
        told = bench.ask(folder, SEARCH_RECALL="0.95")
        table.add(f"docusearch, {n} pages, p50 ms", p50(told), ("<=", 200))
        table.add(f"docusearch, {n} pages, p95 ms", p95(told))
        table.add(f"docusearch, {n} pages, recall@10 of all int8", recall(told["top"], exact),
                  (">=", 0.95))
        if truth:
            table.add(f"docusearch, {n} pages, recall@10 of fp32", recall(told["top"], truth))
        table.add("resident memory beyond the mapped files, MB", told["anonymous_kb"] / 1000,
                  ("<=", 200))
    table.print(f"{n} pages pooled to {search_vectors.POOLED} vectors")


def bench_judged(bench):
    if not bench.options.model:
        print("judged: skipped, no --model")
        return
    sys.stdout.flush()
    subprocess.run([sys.executable, str(ROOT / "bench" / "quality.py"),
                    str(bench.options.build.resolve() / "docusearch"), bench.options.model,
                    str(bench.scratch / "judged")], check=True)


def main():
    if sys.argv[1:2] == ["--truth"]:
        make_truth(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5:])
        return
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="exact,hundred,million,judged")
    parser.add_argument("--scratch", type=pathlib.Path, default=SCRATCH)
    parser.add_argument("--python", default=os.environ.get("BENCH_PYTHON"))
    parser.add_argument("--model", default=os.environ.get("BENCH_MINILM"))
    parser.add_argument("--peers", help="kinds of search_peers.py, with commas between")
    parser.add_argument("--seconds", type=float, default=20, help="of questions a peer and round")
    parser.add_argument("--base", type=int, default=5000)
    parser.add_argument("--pages", type=int, default=100000)
    parser.add_argument("--peer-pages", type=int, default=10000)
    parser.add_argument("--million", type=int, default=1000000)
    parser.add_argument("--fp32", action="store_true", help="truth in fp32 at every size")
    parser.add_argument("--tiny", action="store_true", help="few pages, to try this script")
    options = parser.parse_args()
    if options.tiny:
        options.base, options.pages, options.peer_pages, options.million = 200, 2000, 200, 5000
        options.rounds, options.seconds = min(options.rounds, 2), 3
        options.scratch = options.scratch.parent / "search-tiny"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    options.scratch.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    begun = time.monotonic()
    bench.prepare()
    for name, measure in (("exact", bench_exact), ("hundred", bench_hundred),
                          ("million", bench_million), ("judged", bench_judged)):
        if name in options.only.split(","):
            measure(bench)
    print(f"\n{(time.monotonic() - begun) / 60:.0f} minutes", file=sys.stderr)


if __name__ == "__main__":
    main()
