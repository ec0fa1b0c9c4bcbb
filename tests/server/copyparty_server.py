"""A real Copyparty, with one volume at /docs, and the requests that its clients make."""

import contextlib
import http.client
import os
import urllib.parse

from programs import Program, program
from running import PROGRAM

EVENTS = ("xau", "xad", "xar", "xbr", "xac")


def hooks(command=PROGRAM, *arguments, xiu=True):
    """Options that run `command ARGUMENTS… hook` on every event, as CONTRACTS.md writes them. command
    is found through PATH or a path; a comma in it would end it."""
    told = ",".join((command, *arguments, "hook"))
    options = [part for event in EVENTS for part in (f"--{event}", f"f,t60,j,,{told}")]
    return options + (["--xiu", f"j,i5,,{told}"] if xiu else [])


class CopypartyServer(Program):
    """files is the folder of the volume; anybody may do anything there. env: what hooks find in
    their environment. config: a file (a Path) with the volumes and options, but for the port."""

    def __init__(self, folder, *options, files=None, config=None, env=None, port=None):
        super().__init__(folder, port)
        self.files = files or self.folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.options = options
        self.config = config
        self.env.update(env or {})

    def command(self):
        place = ["-i", "127.0.0.1", "-p", str(self.port), "--no-crt"]
        if self.config:
            return [program("copyparty"), "-c", str(self.config), *place, *self.options]
        return [program("copyparty"), *place, "-e2dsa", "-v", f"{self.files}:/docs:rwmd",
                *self.options]

    def up(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            # While it looks through its volumes, for which e2d stands, uploads are refused.
            looks = not self.config or "e2d" in self.config.read_text()
            if not looks or "uploads are now possible" in self.log:
                return self.request("GET", "/")[0] == 200
        return False

    def request(self, method, path, body=None, headers=(), timeout=60):
        """Status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers))
            reply = connection.getresponse()
            return reply.status, reply.read().decode(errors="replace")
        finally:
            connection.close()

    # ---- what clients do, below /docs; each must succeed -----------------------------------------

    def url(self, name):
        return "/docs/" + urllib.parse.quote(os.fsencode(name))

    def must(self, *request, **more):
        status, said = self.request(*request, **more)
        assert status in (200, 201), f"{request[:2]}: {status} {said[:500]}"
        return said

    def put(self, name, data, replace=False):
        """curl -T. Where the name is taken and not to be replaced, it gets one of its own: the URL
        that comes back."""
        said = self.must("PUT", self.url(name), data, {"Replace": "1"} if replace else {})
        return said.split()[-1]

    def post(self, name, data, folder=""):
        """As a browser's form without script."""
        boundary = "------------------------boundary5c2a"
        body = "".join(f"--{boundary}\r\nContent-Disposition: form-data; {part}" for part in (
            'name="act"\r\n\r\nbput\r\n', f'name="f"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n")).encode()
        return self.must("POST", self.url(folder) + "?j",
                         body + data + f"\r\n--{boundary}--\r\n".encode(),
                         {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    def move(self, name, to):
        return self.must("POST", f"{self.url(name)}?move={urllib.parse.quote(self.url(to))}")

    def copy(self, name, to):
        return self.must("POST", f"{self.url(name)}?copy={urllib.parse.quote(self.url(to))}")

    def delete(self, name):
        return self.must("POST", f"{self.url(name)}?delete")

    def make_folder(self, name):
        return self.must("MKCOL", self.url(name))
