#!/usr/bin/env python3
"""How good the answers are: the judged collection through the running program, in every mode.

usage: bench/quality.py PROGRAM TEXT_MODEL SCRATCH [--judged FOLDER] [--modes lexical,text,hybrid]

TEXT_MODEL is a model's folder, or a name that the program knows. The collection's documents are
uploaded as text files, title and text of one each, to a server of its own in SCRATCH, where they stay for the
next run; then every question is asked as a client asks it: nDCG@10 of the first 10 results, and
recall@100 of the first 100. Results are pages: a document counts where it comes first.

Prints one row a number, as bench/server.py: name, value, what is asked at least, ok or MISS. The
collection is found at ../shared/eval/cranfield beside the project (DOCUSEARCH_EVAL overrides).
Python's standard library alone is used, and nothing but the server is asked.
"""

import argparse
import hashlib
import http.client
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JUDGED = os.environ.get("DOCUSEARCH_EVAL",
                        os.path.join(os.path.dirname(ROOT), "shared", "eval", "cranfield"))
ASKED = {"lexical": 0.375, "text": 0.395, "hybrid": 0.430}
UPLOADED_AT_ONCE = 50


class Server:
    """PROGRAM as a server on a free port; a context."""

    def __init__(self, program, data_dir, text_model):
        self.log_path = data_dir + ".log"
        env = dict(os.environ, DATA_DIR=data_dir, WORKER_PORT="0", TEXT_MODEL=text_model,
                   MODEL_NAME="none")
        os.makedirs(os.path.dirname(data_dir), exist_ok=True)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([program, "serve"], env=env, stderr=log, stdout=log)
        self.connection = None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def __enter__(self):
        deadline = time.monotonic() + 120
        while "Application startup complete" not in self.log():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit("the server did not start:\n" + self.log())
            time.sleep(0.05)
        port = int(re.findall(r"Starting worker on http://\S+:(\d+)", self.log())[-1])
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def call(self, method, path, body=None, content_type="application/json"):
        self.connection.request(method, path, body, {"Content-Type": content_type} if body else {})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def wait_until_loaded(self):
        while True:
            _, health = self.call("GET", "/health")
            model = next(m for m in health["models"] if m["kind"] == "text")
            if model["state"] == "ready":
                return model
            if model["state"] != "loading":
                sys.exit(f"the text model is {model['state']}: {model['reason']}")
            time.sleep(0.1)

    def wait_until_read(self):
        while True:
            _, health = self.call("GET", "/health")
            if health["queue"]["waiting"] + health["queue"]["running"] == 0:
                return health
            time.sleep(0.3)

    def upload(self, files):
        """files: name and bytes."""
        boundary = uuid.uuid4().hex
        parts = [(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
                  f'filename="{name}"\r\nContent-Type: text/plain\r\n\r\n').encode() + data + b"\r\n"
                 for name, data in files]
        status, reply = self.call("POST", "/documents",
                                  b"".join(parts) + f"--{boundary}--\r\n".encode(),
                                  f"multipart/form-data; boundary={boundary}")
        if status not in (200, 202):
            sys.exit(f"upload: {status} {reply}")

    def search(self, query, mode, n_results):
        status, reply = self.call("POST", "/search", json.dumps(
            {"query": query, "search_mode": mode, "n_results": n_results}))
        if status != 200:
            sys.exit(f"{mode} search for '{query}': {status} {reply}")
        for name, stage in reply["stages"].items():
            if name != "visual" and stage.get("unavailable"):
                sys.exit(f"{mode} search: the {name} stage: {stage['unavailable']}")
        return reply


def load(folder):
    """Documents as (id, bytes), questions as (id, text), the right documents' ids by question."""
    def lines(name):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read().splitlines()

    documents = [json.loads(line) for line in lines("corpus.jsonl")]
    queries = [json.loads(line) for line in lines("queries.jsonl")]
    right = {}
    for line in lines("qrels.tsv")[1:]:
        query_id, doc_id, score = line.split("\t")
        if int(score) > 0:
            right.setdefault(query_id, set()).add(doc_id)
    return ([(d["id"], f"{d['title']}\n{d['text']}".strip().encode()) for d in documents],
            [(q["id"], q["text"]) for q in queries], right)


def distinct(results):
    """The documents of a list of pages, each where it comes first."""
    return list(dict.fromkeys(result["doc_id"] for result in results))


def ndcg(found, right, depth=10):
    gain = sum(1 / math.log2(i + 2) for i, doc in enumerate(found[:depth]) if doc in right)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(len(right), depth)))


def recall(found, right, depth=100):
    return len(right.intersection(found[:depth])) / len(right)


def measure(server, mode, queries, right):
    """Means over the questions of nDCG@10 and recall@100, and the median milliseconds of ten."""
    gains, recalls, times = [], [], []
    for query_id, text in queries:
        if not right.get(query_id):
            continue
        reply = server.search(text, mode, 10)
        times.append(reply["search_time_ms"])
        gains.append(ndcg(distinct(reply["results"]), right[query_id]))
        recalls.append(recall(distinct(server.search(text, mode, 100)["results"]), right[query_id]))
    return statistics.mean(gains), statistics.mean(recalls), statistics.median(times)


def row(name, value, asked, ok):
    print(f"{name:<58} {value:>22}   {asked:<26} {'ok' if ok else 'MISS'}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("text_model")
    parser.add_argument("scratch")
    parser.add_argument("--judged", default=JUDGED)
    parser.add_argument("--modes", default="lexical,text,hybrid")
    arguments = parser.parse_args()
    if not os.path.exists(os.path.join(arguments.judged, "corpus.jsonl")):
        print("quality of answers: skipped, no judged documents at", arguments.judged)
        return
    documents, queries, right_names = load(arguments.judged)
    by_name = {name: hashlib.sha256(data).hexdigest() for name, data in documents}
    right = {query: {by_name[name] for name in names if name in by_name}
             for query, names in right_names.items()}
    files = [(name + ".txt", data) for name, data in documents if data]
    text_model = arguments.text_model
    if os.path.isdir(text_model):
        text_model = os.path.abspath(text_model)
    with Server(arguments.program, os.path.abspath(os.path.join(arguments.scratch, "data")),
                text_model) as server:
        model = server.wait_until_loaded()
        for first in range(0, len(files), UPLOADED_AT_ONCE):
            server.upload(files[first:first + UPLOADED_AT_ONCE])
        health = server.wait_until_read()
        print(f"{health['documents']['ready']} documents, {len(queries)} questions, "
              f"{model['space']}", file=sys.stderr)
        for mode in arguments.modes.split(","):
            gain, found, ms = measure(server, mode, queries, right)
            asked = ASKED.get(mode, 0)
            row(f"{mode} search: nDCG@10 of judged documents", f"{gain:.4f}", f">= {asked}",
                gain >= asked)
            row(f"{mode} search: recall@100, and median ms of ten results",
                f"{found:.4f}  {ms:.1f} ms", "", True)


if __name__ == "__main__":
    main()
