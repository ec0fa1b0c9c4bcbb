#!/usr/bin/env python3
"""The running program, measured: reading speed beside MuPDF's own, memory, /health under load.

usage: bench/server.py PROGRAM SCRATCH [--rounds N] [--documents N]

Prints one row a number: name, value, what is asked at least, ok or MISS. The corpus is found at
../shared/corpus beside the project (DOCUSEARCH_CORPUS overrides); rows that need it are skipped
where it is absent.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CORPUS = os.environ.get("DOCUSEARCH_CORPUS", os.path.join(os.path.dirname(ROOT), "shared", "corpus"))


def row(name, value, asked, ok):
    print(f"{name:<58} {value:>22}   {asked:<26} {'ok' if ok else 'MISS'}", flush=True)


def readable_pdfs():
    folder = os.path.join(CORPUS, "pdf")
    if not os.path.isdir(folder):
        return []
    paths = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    return [p for p in paths if p.endswith(".pdf") and "password" not in p]


def mutool_pages_per_second(paths, n_pages):
    """Two processes, each drawing all of the files at 150 dpi into nothing."""
    script = "\n".join(f'mutool draw -q -r 150 -F pam -o /dev/null "{p}" 2>/dev/null' for p in paths)
    begun = time.monotonic()
    running = [subprocess.Popen(["sh", "-c", script]) for _ in range(2)]
    for process in running:
        process.wait()
    return 2 * n_pages / (time.monotonic() - begun)


def ingest_seconds(program, data_dir, paths):
    shutil.rmtree(data_dir, ignore_errors=True)
    env = dict(os.environ, DATA_DIR=data_dir, WORKER_THREADS="2", LOG_LEVEL="error")
    begun = time.monotonic()
    out = subprocess.run([program, "add", "--json", "--quiet", *paths], env=env, check=True,
                         stdout=subprocess.PIPE)
    seconds = time.monotonic() - begun
    listed = subprocess.run([program, "list", "--json", "-n", "100"], env=env, check=True,
                            stdout=subprocess.PIPE)
    pages = sum(d["page_count"] for d in json.loads(listed.stdout)["documents"])
    assert all(d["status"] == "completed" for d in json.loads(out.stdout)["documents"]), out.stdout
    return seconds, pages


def bench_reading(program, scratch, rounds):
    paths = readable_pdfs()
    if not paths:
        print("reading speed: skipped, no corpus at", CORPUS)
        return
    ratios, ours = [], []
    for _ in range(rounds):
        seconds, pages = ingest_seconds(program, os.path.join(scratch, "ingest"), paths)
        ours.append(pages / seconds)
        ratios.append(ours[-1] / mutool_pages_per_second(paths, pages))
    ratio = statistics.median(ratios)
    row("read, render, pictures, chunks, full text: share of mutool",
        f"{ratio:.2f} ({statistics.median(ours):.0f} pages/s)", ">= 0.60", ratio >= 0.6)


class Server:
    def __init__(self, program, data_dir):
        shutil.rmtree(data_dir, ignore_errors=True)
        env = dict(os.environ, DATA_DIR=data_dir, WORKER_PORT="0")
        self.log = open(os.path.join(os.path.dirname(data_dir), "server.log"), "w+")
        self.process = subprocess.Popen([program, "serve"], env=env, stderr=self.log)
        self.env = env
        for _ in range(300):
            text = open(self.log.name).read()
            if "Application startup complete" in text:
                self.url = re.search(r"Starting worker on (\S+)", text).group(1)
                return
            time.sleep(0.1)
        raise SystemExit("the server did not start:\n" + text)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as reply:
            return json.load(reply)

    def resident_mb(self):
        text = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def make_documents(folder, n):
    """Small distinct documents: texts, web pages, and copies of the corpus' small PDFs, each made
    another file by a comment after its end."""
    os.makedirs(folder, exist_ok=True)
    pdfs = [open(p, "rb").read() for p in readable_pdfs() if os.path.getsize(p) < 60_000]
    words = "aerofoil boundary layer pressure gradient turbulent wake nozzle flutter shock heat".split()
    for i in range(n):
        kind = i % 4
        text = " ".join(words[(i * 7 + k * k) % len(words)] for k in range(400))
        if kind == 3 and pdfs:
            data, name = pdfs[i % len(pdfs)] + b"\n%% copy %d\n" % i, f"d{i:05}.pdf"
        elif kind == 2:
            data, name = f"<h1>Report {i}</h1><p>{text}</p>".encode(), f"d{i:05}.html"
        elif kind == 1:
            data, name = f"# Note {i}\n\n{text}\n".encode(), f"d{i:05}.md"
        else:
            data, name = f"Paper {i}\n\n{text}\n".encode(), f"d{i:05}.txt"
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


def bench_serving(program, scratch, n):
    folder = os.path.join(scratch, "documents")
    shutil.rmtree(folder, ignore_errors=True)
    make_documents(folder, n)
    names = sorted(os.listdir(folder))
    halves = [names[: n // 2], names[n // 2:]]
    server = Server(program, os.path.join(scratch, "serve"))
    latencies, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            begun = time.monotonic()
            server.get("/health")
            latencies.append((time.monotonic() - begun) * 1000)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    resident = []
    for half in halves:
        subprocess.run([program, "add", "--quiet", *(os.path.join(folder, name) for name in half)],
                       env=server.env, check=True, stdout=subprocess.DEVNULL)
        resident.append(server.resident_mb())
    stop.set()
    watcher.join()
    server.stop()
    latencies.sort()
    worst, p99 = latencies[-1], latencies[int(len(latencies) * 0.99)]
    row(f"resident memory after {n} documents", f"{resident[1]:.0f} MB", "< 200 MB", resident[1] < 200)
    row(f"  added by the second {n - n // 2}", f"{resident[1] - resident[0]:.1f} MB", "< 10 MB",
        resident[1] - resident[0] < 10)
    row("/health while ingesting, p99 / worst", f"{p99:.0f} / {worst:.0f} ms", "< 100 ms", worst < 100)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("scratch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=2000)
    args = parser.parse_args()
    os.makedirs(args.scratch, exist_ok=True)
    bench_reading(os.path.abspath(args.program), args.scratch, args.rounds)
    bench_serving(os.path.abspath(args.program), args.scratch, args.documents)


if __name__ == "__main__":
    sys.exit(main())
