"""Runs a Copyparty and writes down what its hooks are given, for copyparty_payloads.py:

    record_payloads.py /path/to/copyparty [/path/to/another …] >copyparty_payloads.py

The folder of the volume is /uploads, which is made and removed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from copyparty_server import CopypartyServer

FILES = Path("/uploads")
RECORDER = """#!/usr/bin/python3
import json, os, sys
form = os.path.basename(sys.argv[0])
said = [form] + [os.fsencode(a).decode("latin-1") for a in sys.argv[1:]]
line = json.dumps([said, sys.stdin.buffer.read().decode("latin-1")]) + "\\n"
with open(os.environ["RECORDS"], "a") as out:
    out.write(line)
"""
# What stands between the event and the program's name.
FORMS = {"json": "f,t60,j,,", "wait-json": "t60,j,,", "path": "f,t60,,", "stdin-json": "f,t60,j,s,,",
         "stdin-path": "f,t60,s,,", "one-comma": "f,j,"}
IDLE_FORMS = {"json": "j,i1,,", "path": "i1,,"}
EVENTS = ("xau", "xad", "xbr", "xar", "xac")
HEAD = '''"""What hooks of Copyparty are given: recorded by record_payloads.py from the real programs, with
the volume /docs in the folder /uploads. By version, then by what was done: a list of (event, form,
arguments behind the program's name, standard input), in bytes, as they came."""

# What stands between an event and the program's name; of xiu, the others.'''


class Session:
    def __init__(self, copyparty, folder):
        self.records = folder / "records"
        self.records.touch()
        version = re.search(r"v([\d.]+)", subprocess.run(
            [copyparty, "--version"], capture_output=True, text=True).stdout)[1]
        self.version = version
        known = subprocess.run([copyparty, "--help"], capture_output=True, text=True).stdout
        options = []
        for event in EVENTS + ("xiu",):
            if not re.search(rf"^ +--{event} ", known, re.M):
                continue
            for form, flags in (IDLE_FORMS if event == "xiu" else FORMS).items():
                recorder = folder / f"{event}.{form}"
                recorder.write_text(RECORDER)
                recorder.chmod(0o755)
                options += [f"--{event}", f"{flags}{recorder},hook"]
        self.server = CopypartyServer(folder / "server", *options, files=FILES,
                                      env={"RECORDS": str(self.records)})
        command = self.server.command()
        self.server.command = lambda: [copyparty, *command[1:]]
        self.seen = 0
        self.done = {}

    def told(self):
        """What came since the last call, once no more comes."""
        lines, quiet = [], 0
        while quiet < 8:
            time.sleep(0.5)
            now = self.records.read_text().splitlines()
            quiet = quiet + 1 if len(now) == len(lines) else 0
            lines = now
        new, self.seen = lines[self.seen:], len(lines)
        found = []
        for line in new:
            (name, *arguments), stdin = json.loads(line)
            event, _, form = name.partition(".")
            found.append((event, form, [a.encode("latin-1") for a in arguments],
                          stdin.encode("latin-1")))
        return sorted(found, key=lambda r: (EVENTS + ("xiu",)).index(r[0]))

    def act(self, what, action, forms=("json",)):
        action()
        self.done[what] = [record for record in self.told() if record[1] in forms]

    def run(self):
        s = self.server
        s.start()
        u2c = Path(sys.executable).parent / "u2c"
        sent = s.folder / "sent.pdf"
        sent.write_bytes(b"%PDF-1.4 by the browser's protocol")
        s.make_folder("sub")
        s.make_folder("sub/inner")
        self.act("put", lambda: s.put("a.pdf", b"%PDF-1.4 one"), FORMS)
        self.act("put where the name is taken", lambda: s.put("a.pdf", b"%PDF-1.4 two"))
        self.act("replace", lambda: s.put("a.pdf", b"%PDF-1.4 three", replace=True))
        self.act("form", lambda: s.post("form.docx", b"PK form"))
        self.act("browser", lambda: subprocess.run(
            [str(u2c), f"http://127.0.0.1:{s.port}/docs/", str(sent)], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        self.act("hard names", lambda: [s.put(name, name.encode("utf-8", "surrogateescape"))
                                        for name in HARD], ("json", "path", "stdin-json"))
        self.act("two uploads", lambda: [s.put(f"sub/{i}.txt", f"text {i}".encode())
                                         for i in (1, 2)], ("json", "path"))
        if "--xac" in s.options:
            self.act("copy", lambda: s.copy("a.pdf", "copy.pdf"), FORMS)
        self.act("move", lambda: s.move("a.pdf", "sub/b.pdf"), FORMS)
        self.act("move a folder", lambda: s.move("sub", "moved"))
        self.act("delete", lambda: s.delete("moved/b.pdf"), FORMS)
        self.act("delete a folder", lambda: s.delete("moved"))
        s.stop()


HARD = ["übersicht №5.pdf", "it's \"one\" 100% $HOME,two;three.txt", "日本 語.docx",
        b"latin-\xe9.txt".decode("utf-8", "surrogateescape")]


def main():
    assert not FILES.exists(), f"{FILES} is somebody's"
    whole = {}
    for copyparty in sys.argv[1:]:
        FILES.mkdir()
        folder = Path(tempfile.mkdtemp())
        session = Session(copyparty, folder)
        try:
            session.run()
        finally:
            session.server.stop()
            shutil.rmtree(FILES)
            if not os.environ.get("KEEP"):
                shutil.rmtree(folder)
        whole[session.version] = session.done
    print(HEAD)
    for name, forms in (("FORMS", FORMS), ("IDLE_FORMS", IDLE_FORMS)):
        print(f"{name} = {forms!r}".replace(", '", ",\n    '").replace("{", "{\n    "))
    print("\nPAYLOADS = {")
    for version, done in whole.items():
        print(f"    {version!r}: {{")
        for what, records in done.items():
            print(f"        {what!r}: [", *(f"            {r!r}," for r in records), "        ],",
                  sep="\n")
        print("    },")
    print("}")


if __name__ == "__main__":
    main()
