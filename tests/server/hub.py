"""A double of a model hub, on loopback: answers as the real one does to the calls that
huggingface_hub makes, on two ports (files kept as LFS are redirected to the second, as to a CDN), and
misbehaves on demand."""

import hashlib
import json
import re
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def safetensors(n_bytes=4000, fill=b"w", name="weight"):
    """A file of one tensor of n_bytes, a multiple of 4."""
    header = json.dumps({name: {"dtype": "F32", "shape": [n_bytes // 4],
                                "data_offsets": [0, n_bytes]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + (fill * n_bytes)[:n_bytes]


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


TEXT_MODEL = {
    "config.json": b'{"model_type": "bert", "hidden_size": 8}\n',
    "tokenizer.json": b'{"version": "1.0", "model": {"type": "WordPiece"}}\n',
    "tokenizer_config.json": b"{}\n",
    "vocab.txt": b"[PAD]\n[UNK]\n",
    "modules.json": json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling",
         "type": "sentence_transformers.models.Pooling"}]).encode(),
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}\n',
    "model.safetensors": safetensors(400000),
}
UNWANTED = {
    "README.md": b"# a model\n", ".gitattributes": b"*.bin lfs\n", "pytorch_model.bin": b"pickle" * 9,
    "onnx/model.onnx": b"onnx", "onnx/config.json": b"{}", "tf_model.h5": b"h5",
    "model.fp16.safetensors": safetensors(40), "docusearch.json": b'{"format": 1}',
}


class Model:
    def __init__(self, files, commit):
        self.files = files
        self.commit = commit


class Hub:
    """faults, each path -> what happens to its next requests, oldest first:
    an int (a status), ("cut", n): n bytes, then the connection ends; ("stall", n): n bytes, then
    silence; "whole": Range is ignored; ("bytes", data): others than listed; ("to", url): a redirect.
    A fault under "api" is of listings."""

    def __init__(self):
        self.models = {}     # (name, revision) -> Model
        self.gated = {}      # name -> the token that opens it
        self.faults = {}
        self.requests = []   # ("hub" or "cdn", path, headers) as they come
        self.listing = None  # a function over the listing before it is sent
        self.hashes = True   # the listing says sizes and hashes when asked
        self.sent = 0        # bytes of files
        self.ending = threading.Event()
        self.near = self.serve()
        self.far = self.serve()
        self.url = f"http://127.0.0.1:{self.near.server_port}"

    def serve(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                # As a proxy, it is asked for whole addresses, and stands for their hosts too.
                url = urllib.parse.urlsplit(self.path)
                path = urllib.parse.unquote(self.path.removeprefix(f"{url.scheme}://{url.netloc}"))
                port = url.port or self.server.server_port
                at = "cdn" if port == hub.far.server_port else "hub"
                hub.requests.append((at, path, dict(self.headers)))
                try:
                    (hub.answer if at == "hub" else hub.answer_far)(self, path)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def close(self):
        self.ending.set()
        for server in (self.near, self.far):
            server.shutdown()
            server.server_close()

    def add(self, name, files=None, revision="main", gated=None):
        """The files: all text below 1 MB is git's, safetensors are LFS."""
        files = dict(TEXT_MODEL if files is None else files)
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.models[name, revision] = self.models[name, commit] = Model(files, commit)
        if gated:
            self.gated[name] = gated
        return files

    def asked(self, end):
        """Headers of the requests for paths that end so."""
        return [headers for _, path, headers in self.requests if path.endswith(end)]

    # ---- answers ---------------------------------------------------------------------------------

    def refuse(self, handler, status, code):
        body = json.dumps({"error": code}).encode()
        handler.send_response(status)
        handler.send_header("X-Error-Code", code)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def fault(self, key):
        waiting = self.faults.get(key, [])
        return waiting.pop(0) if waiting else None

    def model(self, handler, name, revision):
        """The model, or None and a refusal is sent."""
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if not any(known == name for known, _ in self.models):
            self.refuse(handler, 404 if token else 401, "RepoNotFound")
        elif (name, revision) not in self.models:
            self.refuse(handler, 404, "RevisionNotFound")
        else:
            return self.models[name, revision]
        return None

    def answer(self, handler, path):
        path, _, query = path.partition("?")
        if found := re.fullmatch(r"/api/models/(.+?)/(revision|tree)/(.+)", path):
            name, kind, revision = found.groups()
            fault = self.fault("api")
            if isinstance(fault, int):
                return self.refuse(handler, fault, "")
            model = self.model(handler, name, revision)
            if model:
                self.list(handler, name, model, kind, "blobs=true" in query.lower(),
                          fault[1] if fault else None)
        elif found := re.fullmatch(r"/api/resolve-cache/models/(.+?)/([0-9a-f]{40})/(.+)", path):
            name, commit, file = found.groups()
            self.send_file(handler, name, commit, file)
        elif found := re.fullmatch(r"/(.+?)/resolve/(.+?)/(.+)", path):
            self.resolve(handler, *found.groups())
        else:
            self.refuse(handler, 404, "")

    def list(self, handler, name, model, kind, blobs, body):
        entries = []
        for path, data in sorted(model.files.items()):
            lfs = path.endswith((".safetensors", ".bin"))
            sha256 = hashlib.sha256(data).hexdigest()
            if kind == "tree":
                entry = {"type": "file", "path": path, "size": len(data), "oid": git_id(data)}
                if lfs:
                    entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
            else:
                entry = {"rfilename": path}
                if blobs and self.hashes:
                    entry |= {"size": len(data), "blobId": git_id(data)}
                    if lfs:
                        entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            entries.append(entry)
        reply = entries if kind == "tree" else {
            "_id": "0", "id": name, "modelId": name, "sha": model.commit, "private": False,
            "gated": "manual" if name in self.gated else False, "tags": [], "siblings": entries}
        if self.listing and kind != "tree":
            reply = self.listing(reply)
        body = json.dumps(reply).encode() if body is None else body
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json; charset=utf-8")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def resolve(self, handler, name, revision, file):
        model = self.model(handler, name, revision)
        if not model:
            return
        token = self.gated.get(name)
        sent = handler.headers.get("Authorization")
        if token and sent != f"Bearer {token}":
            self.refuse(handler, 403 if sent else 401, "GatedRepo")
        elif file not in model.files:
            self.refuse(handler, 404, "EntryNotFound")
        else:
            data = model.files[file]
            where = f"/api/resolve-cache/models/{name}/{model.commit}/{file}"
            status, etag = 307, git_id(data)
            if file.endswith((".safetensors", ".bin")):
                key = urllib.parse.quote(f"{name}/{model.commit}/{file}", safe="")
                where = f"http://127.0.0.1:{self.far.server_port}/{key}?signature=abc"
                status, etag = 302, hashlib.sha256(data).hexdigest()
            handler.send_response(status)
            handler.send_header("Location", where)
            handler.send_header("X-Repo-Commit", model.commit)
            handler.send_header("X-Linked-Size", str(len(data)))
            handler.send_header("X-Linked-ETag", f'"{etag}"')
            handler.send_header("ETag", f'"{etag}"')
            handler.send_header("Content-Length", "0")
            handler.end_headers()

    def answer_far(self, handler, path):
        name, commit, file = re.fullmatch(r"/(.+)/([0-9a-f]{40})/([^?]+)\?signature=abc",
                                          path).groups()
        self.send_file(handler, name, commit, file)

    def send_file(self, handler, name, commit, file):
        data = self.models[name, commit].files[file]
        etag = git_id(data)
        fault = self.fault(file)
        if isinstance(fault, int):
            return self.refuse(handler, fault, "")
        kind, value = fault if isinstance(fault, tuple) else (fault, None)
        if kind == "to":
            handler.send_response(302)
            handler.send_header("Location", value)
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        if kind == "bytes":
            data = value
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        first = int(asked[1]) if asked and kind != "whole" else 0
        body = data[first:]
        handler.send_response(206 if first else 200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("X-Repo-Commit", commit)
        handler.send_header("ETag", f'"{etag}"')
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        if handler.command == "HEAD":
            return None
        if kind in ("cut", "stall"):
            body = body[:value]
        self.sent += len(body)
        handler.wfile.write(body)
        if kind in ("cut", "stall"):
            handler.wfile.flush()
            if kind == "stall":
                self.ending.wait(60)
            handler.close_connection = True
        return None


if __name__ == "__main__":  # to look at it with other clients
    double = Hub()
    double.add("tests/bert", {**TEXT_MODEL, **UNWANTED})
    print(double.url, flush=True)
    time.sleep(600)
