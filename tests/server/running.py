"""The real program as a server of its own, on a free port and a data folder of its own."""

import http.client
import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("DOCUSEARCH_BIN") or str(ROOT / "build" / "docusearch")
CORPUS = Path(os.environ.get("DOCUSEARCH_CORPUS") or ROOT.parent / "shared" / "corpus")
SLOW = float(os.environ.get("DOCUSEARCH_SLOW") or 1)  # how much longer work may take: sanitizers
OURS = re.compile(r"[A-Z][A-Z0-9_]*")
ENDED = ("completed", "failed", "cancelled")


def environment(data_dir, **settings):
    """This environment without settings and models of anybody's, with a data folder of ours."""
    listed = subprocess.run([PROGRAM, "help", "settings"], capture_output=True, text=True).stdout
    known = set(OURS.findall(listed))
    env = {name: value for name, value in os.environ.items() if name not in known}
    return {**env, "DATA_DIR": str(data_dir), "HF_HOME": f"{data_dir}.hf", "WORKER_PORT": "0",
            **settings}


def children_of(pid):
    """Ids of the processes below pid, at any depth."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, new = [], [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, [])]
        found += new
    return found


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json["error"]["code"]


class Running:
    def __init__(self, data_dir, program=PROGRAM, arguments=(), **settings):
        self.data_dir = Path(data_dir)
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self.env = environment(data_dir, **settings)
        self.log_path = self.data_dir.with_name(self.data_dir.name + ".log")
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()  # what an earlier server said is not this one's
            self.process = subprocess.Popen([program, "serve", *arguments], env=self.env,
                                            stdin=subprocess.DEVNULL, stderr=log, stdout=log)
        self.pid = self.process.pid
        try:
            self.url = self.wait_until_up()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.port = urllib.parse.urlsplit(self.url).port

    @property
    def log(self):
        return self.log_path.read_bytes()[self.log_start:].decode(errors="replace")

    def wait_until_up(self):
        deadline = time.monotonic() + 60 * SLOW
        while time.monotonic() < deadline:
            if "Application startup complete" in self.log:
                return re.findall(r"Starting worker on (\S+)", self.log)[-1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError("the server did not start:\n" + self.log)

    def stop(self, how=signal.SIGTERM, seconds=20):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running {seconds} s after {how.name}") from None

    # ---- requests --------------------------------------------------------------------------------

    def request(self, method, path, body=None, headers=(), timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body, headers = json.dumps(body), {"Content-Type": "application/json"}
            connection.request(method, path, body, dict(headers))
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, timeout=60, **parameters):
        query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
        return self.request("GET", path + query, timeout=timeout)

    def upload(self, data, filename):
        """filename: text, or the bytes that stand in the header."""
        if isinstance(filename, str):
            filename = filename.encode()
        boundary = "------------------------boundary7d1e"
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="'.encode()
                + filename + b'"\r\nContent-Type: application/octet-stream\r\n\r\n' + data
                + f"\r\n--{boundary}--\r\n".encode())
        return self.request("POST", "/documents", body,
                            {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    def wait_job(self, job_id, seconds=60):
        deadline = time.monotonic() + seconds * SLOW
        while True:
            job = self.get(f"/jobs/{job_id}").json
            if job["state"] in ENDED:
                return job
            assert time.monotonic() < deadline, f"not ended after {seconds} s: {job}"
            time.sleep(0.03)

    def read(self, data, filename, seconds=60):
        """Uploads, waits; the ended job and the document."""
        reply = self.upload(data, filename)
        assert reply.status in (200, 202), reply.body
        sent = reply.json["documents"][0]
        job = self.wait_job(sent["job_id"], seconds)
        return job, self.document(sent["doc_id"])

    def document(self, doc_id):
        return self.get(f"/documents/{doc_id}").json

    def search(self, query, n_results=10):
        reply = self.get("/search", query=query, n_results=n_results)
        assert reply.status == 200, reply.body
        return reply.json["results"]

    # ---- what it holds ---------------------------------------------------------------------------

    def children(self):
        return children_of(self.pid)

    def leftovers(self):
        """What lies in tmp/ beside the private folders of converters that run."""
        return [path.name for path in (self.data_dir / "tmp").iterdir()
                if not path.name.startswith("converter-")]
