"""`docusearch hook`: Copyparty's events in every form it has, told to a server that notes them, and
to the real one."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
import time

import pytest

from copyparty_payloads import PAYLOADS
from programs import free_port
from running import PROGRAM, SLOW, environment


class Noting:
    """A server that notes what it is told, and answers as it is bid."""

    def __init__(self, host="127.0.0.1", port=0):
        self.calls = []
        self.keys = []
        self.answers = []  # statuses, one a call; then 200
        self.code = "whatever"
        self.hold_s = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.note(body["file_path"], body["filename"])

            def do_GET(self):
                self.note("", "")

            def note(self, path, filename):
                time.sleep(outer.hold_s)
                status = outer.answers.pop(0) if outer.answers else 200
                outer.keys.append(self.headers.get("Authorization"))
                outer.calls.append((self.path, path, filename, status))
                said = json.dumps({"error": {"code": outer.code, "message": f"said {status}"}})
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def told(self):
        """What was taken, as (call, path)."""
        return [(call[1:], path) for call, path, _, status in self.calls if status == 200]


@pytest.fixture
def noting():
    server = Noting()
    yield server
    server.close()


def run(port, *arguments, said="", status=0, seconds=30, **settings):
    """Runs the hook; what it says on standard error. Nothing ever comes on standard output."""
    settings = {"WORKER_PORT": str(port), **settings}
    done = subprocess.run([PROGRAM, "hook", *arguments], env=environment("/nonexistent", **settings),
                          input=said if isinstance(said, bytes) else said.encode(),
                          capture_output=True, timeout=seconds * SLOW)
    err = done.stderr.decode(errors="replace")
    assert done.returncode == status, f"{arguments}: {done.returncode} {err}"
    assert done.stdout == b""
    assert err.count("\n") <= 1 or status == 2, err
    return err


def event(path, source="xau.http", **keys):
    """As Copyparty 1.20 makes it."""
    return json.dumps({"ap": str(path), "vp": f"docs/{os.path.basename(path)}", "mt": 1700000000,
                       "sz": 7, "ip": "127.0.0.1", "at": time.time(), "host": "127.0.0.1:3923",
                       "user": "*", "perms": "rwmd", "src": source, **keys})


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "up"
    (folder / "sub" / "deep").mkdir(parents=True)
    for name in ("a.pdf", "b.txt", "sub/c.txt", "sub/deep/d.txt", "sub/.hidden.txt",
                 "sub/e.txt.PARTIAL"):
        (folder / name).write_text(name)
    return folder


# ---- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["xau", "xau.http", "xau.up2k", "xac", "xac.x", "xiu"])
def test_a_file_that_came(noting, files, source):
    run(noting.port, event(files / "a.pdf", source))
    assert noting.calls == [("/process", str(files / "a.pdf"), "a.pdf", 200)]


@pytest.mark.parametrize("source", ["xad", "xad.rm"])
def test_a_file_that_went(noting, files, source):
    run(noting.port, event(files / "gone.pdf", source))
    assert noting.calls == [("/delete", str(files / "gone.pdf"), "gone.pdf", 200)]


def test_json_with_an_older_file_at_the_path(noting, files):
    """It is there though an event says otherwise: the event counts. One that came since counts
    more."""
    run(noting.port, event(files / "a.pdf", "xad"))
    assert noting.told == [("delete", str(files / "a.pdf"))]
    noting.calls.clear()
    before = time.time() - 1
    (files / "a.pdf").write_text("uploaded again")
    run(noting.port, event(files / "a.pdf", "xad", at=before))
    assert noting.told == [("process", str(files / "a.pdf"))]


def test_the_last_argument_is_the_payload(noting, files):
    run(noting.port, "--deadline", "20", "whatever", event(files / "a.pdf"))
    assert noting.told == [("process", str(files / "a.pdf"))]


def test_a_bare_path(noting, files):
    run(noting.port, str(files / "a.pdf"))
    run(noting.port, str(files / "gone.pdf"))
    run(noting.port, str(files / "sub"))
    assert noting.told[:2] == [("process", str(files / "a.pdf")),
                               ("delete", str(files / "gone.pdf"))]
    assert sorted(noting.told[2:]) == [("process", str(files / "sub/c.txt")),
                                       ("process", str(files / "sub/deep/d.txt"))]


def test_standard_input(noting, files):
    """Flag s: with and without j."""
    run(noting.port, said=event(files / "a.pdf") + "\n")
    run(noting.port, said=f"{files / 'b.txt'}\n")
    assert noting.told == [("process", str(files / "a.pdf")), ("process", str(files / "b.txt"))]


def test_idle_volumes(noting, files):
    """--xiu: a JSON list with j, one path a line without; `vp` is of the volume, `src` is absent."""
    entries = [{"ap": str(files / name), "vp": name, "wark": "w", "mt": 1, "sz": 2,
                "ip": "127.0.0.1", "at": 3} for name in ("a.pdf", "sub/c.txt", "gone.txt")]
    run(noting.port, said=json.dumps(entries))
    expected = [("process", str(files / "a.pdf")), ("process", str(files / "sub/c.txt")),
                ("delete", str(files / "gone.txt"))]
    assert noting.told == expected
    noting.calls.clear()
    run(noting.port, said="".join(entry["ap"] + "\n" for entry in entries))
    assert noting.told == expected
    noting.calls.clear()
    run(noting.port, said="[]")
    run(noting.port, said="")
    assert noting.calls == []


def test_unknown_keys_and_events(noting, files):
    run(noting.port, event(files / "a.pdf", new_key={"deep": [1, None]}, txt=""))
    assert noting.told == [("process", str(files / "a.pdf"))]
    for source in ("xbu", "xbd", "xm", "xban", "xau2", "zzz"):
        assert "nothing to do" in run(noting.port, event(files / "a.pdf", source))
    assert len(noting.calls) == 1


def test_names_of_any_kind(noting, files):
    names = ["two  blanks.txt", "uml\u00e4ut \u65e5\u672c \U0001f600.txt", "quote\"'\\.txt",
             "a\nb.txt", "comma,equals=.txt", "-dash.txt"]
    for name in names:
        (files / name).write_text("x")
        run(noting.port, event(files / name))
    assert [call[2] for call in noting.calls] == names
    assert [call[1] for call in noting.calls] == [str(files / name) for name in names]


def test_a_name_that_is_no_utf8(noting, files):
    """JSON cannot say it: the rest of a list is told, the failure said."""
    bad = os.fsencode(files) + b"/bad\xff.txt"
    with open(bad, "wb") as file:
        file.write(b"x")
    entries = [{"ap": os.fsdecode(bad)}, {"ap": str(files / "a.pdf")}]
    run(noting.port, said=json.dumps(entries))
    assert ("process", str(files / "a.pdf")) in noting.told
    assert "UTF-8" in run(noting.port, bad, status=1)


@pytest.mark.parametrize("payload", ["{", "[1]", "{}", '{"src":"xau"}', '{"ap":3,"src":"xau"}',
                                     "[[]]", '{"ap":"","src":"xau"}'])
def test_payloads_that_are_none(noting, payload):
    assert "docusearch hook: " in run(noting.port, payload, status=1)
    assert noting.calls == []


# ---- moves ---------------------------------------------------------------------------------------


def test_renamed(noting, files):
    """1.20: xar has the old path. The new one is told first."""
    (files / "a.pdf").rename(files / "z.pdf")
    run(noting.port, event(files / "z.pdf", "xar.mv", ap_from=str(files / "a.pdf")))
    assert noting.told == [("process", str(files / "z.pdf")), ("delete", str(files / "a.pdf"))]


def test_renamed_without_the_old_path(noting, files):
    """1.15: xar has only the new."""
    run(noting.port, event(files / "a.pdf", "xar.mv", txt=""))
    assert noting.told == [("process", str(files / "a.pdf"))]


def test_renamed_and_uploaded_anew(noting, files):
    """Another file has taken the old name since: it stays."""
    run(noting.port, event(files / "b.txt", "xar.mv", ap_from=str(files / "a.pdf")))
    assert noting.told == [("process", str(files / "b.txt"))]


def test_about_to_be_renamed(noting, files):
    """xbr with the flag f: the move is done while the hook runs."""
    later = threading.Timer(0.3, (files / "a.pdf").rename, [files / "z.pdf"])
    later.start()
    run(noting.port, event(files / "a.pdf", "xbr", ap_to=str(files / "z.pdf")))
    later.join()
    assert noting.told == [("process", str(files / "z.pdf")), ("delete", str(files / "a.pdf"))]


def test_about_to_be_renamed_when_we_are_waited_for(noting, files):
    """xbr without f: the move comes only after the hook has ended and let go of its pipes."""
    begun = time.monotonic()
    run(noting.port, event(files / "a.pdf", "xbr", ap_to=str(files / "z.pdf")))
    assert time.monotonic() - begun < 10 * SLOW
    assert noting.calls == []
    (files / "a.pdf").rename(files / "z.pdf")
    deadline = time.monotonic() + 10 * SLOW
    while len(noting.calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert noting.told == [("process", str(files / "z.pdf")), ("delete", str(files / "a.pdf"))]


def test_about_to_be_renamed_without_the_new_path(noting, files):
    """1.15: xbr has only the old one."""
    later = threading.Timer(0.3, (files / "a.pdf").rename, [files / "z.pdf"])
    later.start()
    run(noting.port, event(files / "a.pdf", "xbr", txt=""))
    later.join()
    assert noting.told == [("delete", str(files / "a.pdf"))]


def test_a_folder_renamed(noting, files):
    """`ap` is a folder: every file below it, the new paths before the old ones."""
    (files / "sub").rename(files / "other")
    run(noting.port, event(files / "other", "xar.ln", ap_from=str(files / "sub")))
    assert [call for call, _ in noting.told] == ["process"] * 2 + ["delete"] * 2
    assert {path for _, path in noting.told} == {
        str(files / name) for name in ("other/c.txt", "other/deep/d.txt", "sub/c.txt",
                                       "sub/deep/d.txt")}


# ---- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pdf.PARTIAL", ".a.pdf.PARTIAL", ".hist/up2k.db",
                                  "sub/.hist/th/x.jpg"])
def test_what_is_copypartys_own(noting, files, name):
    for source in ("xau", "xad", "xac"):
        run(noting.port, event(files / name, source))
    run(noting.port, str(files / name))
    assert noting.calls == []


def test_a_partial_that_is_whole(noting, files):
    (files / "e.txt").write_text("whole")
    run(noting.port, event(files / "e.txt", "xar.mv", ap_from=str(files / "e.txt.PARTIAL")))
    assert noting.told == [("process", str(files / "e.txt"))]


@pytest.mark.parametrize("path, real", [
    ("/uploads/a.pdf", "/real/up/a.pdf"), ("/uploads", "/real/up"),
    ("/uploads/deep/b.pdf", "/other/b.pdf"), ("/uploads/deeper/b.pdf", "/real/up/deeper/b.pdf"),
    ("/uploads2/a.pdf", "/uploads2/a.pdf"), ("/elsewhere/a.pdf", "/elsewhere/a.pdf")])
def test_path_map(noting, path, real):
    """The longest FROM wins, by whole names."""
    pairs = "/uploads=/real/up,/uploads/deep/=/other/"
    run(noting.port, event(path, "xad"), HOOK_PATH_MAP=pairs)
    run(noting.port, "--map", "/uploads=/real/up", "--map=/uploads/deep=/other",
        event(path, "xad"))
    assert [called for _, called, _, _ in noting.calls] == [real, real]


def test_path_map_of_flag_and_setting(noting):
    run(noting.port, "--map=/uploads=/flag", event("/uploads/a", "xad"),
        HOOK_PATH_MAP="/uploads=/setting,/b=/c")
    run(noting.port, "--map=/uploads=/flag", event("/b/a", "xad"),
        HOOK_PATH_MAP="/uploads=/setting,/b=/c")
    run(noting.port, "--map=/=/all", event("/x/a", "xad"))
    assert [called for _, called, _, _ in noting.calls] == ["/flag/a", "/c/a", "/all/x/a"]
    for wrong in ("/uploads", "uploads=/x", "/uploads=", "=/x", "/uploads=x"):
        assert "FROM=TO" in run(noting.port, event("/b/a", "xad"), HOOK_PATH_MAP=wrong, status=2)
        assert "FROM=TO" in run(noting.port, "--map", wrong, event("/b/a", "xad"), status=2)


def test_a_path_that_only_the_server_has(noting, files):
    """The hook sees the files where the server does: what is there is judged by that."""
    run(noting.port, "/uploads/a.pdf", HOOK_PATH_MAP=f"/uploads={files}")
    run(noting.port, "/uploads/gone.pdf", HOOK_PATH_MAP=f"/uploads={files}")
    assert noting.told == [("process", str(files / "a.pdf")),
                           ("delete", str(files / "gone.pdf"))]


# ---- the server ----------------------------------------------------------------------------------


def test_the_key(noting, files, tmp_path):
    (tmp_path / "key").write_text("s3cret-of-the-file\nmore\n")
    run(noting.port, event(files / "a.pdf"), API_KEY_FILE=str(tmp_path / "key"))
    run(noting.port, event(files / "a.pdf"), API_KEY="s3cret-of-the-variable")
    run(noting.port, event(files / "a.pdf"))
    assert noting.keys == ["Bearer s3cret-of-the-file", "Bearer s3cret-of-the-variable", None]
    assert "API_KEY" in run(noting.port, "--api-key", "x", event(files / "a.pdf"), status=2)
    noting.answers = [401]
    assert "API_KEY_FILE" in run(noting.port, event(files / "a.pdf"), status=1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "localhost"])
def test_where_the_server_is(files, host):
    if ":" in host:
        pytest.skip("one server, on IPv4") if not os.path.exists("/proc/net/if_inet6") else None
        http.server.ThreadingHTTPServer.address_family = __import__("socket").AF_INET6
    try:
        server = Noting("::1" if ":" in host else "127.0.0.1")
    except OSError as problem:
        pytest.skip(f"no IPv6 here: {problem}")
    finally:
        http.server.ThreadingHTTPServer.address_family = __import__("socket").AF_INET
    try:
        run(server.port, event(files / "a.pdf"), WORKER_HOST=host)
        assert server.told == [("process", str(files / "a.pdf"))]
    finally:
        server.close()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 507])
def test_told_again(noting, files, status):
    noting.answers = [status, status]
    run(noting.port, event(files / "a.pdf"))
    assert [call[3] for call in noting.calls] == [status, status, 200]


def test_a_server_that_comes_later(files):
    port = free_port()
    servers = []
    later = threading.Timer(1.5, lambda: servers.append(Noting(port=port)))
    later.start()
    run(port, event(files / "a.pdf"))
    assert servers[0].told == [("process", str(files / "a.pdf"))]
    servers[0].close()


def test_the_deadline(noting, files):
    begun = time.monotonic()
    said = run(free_port(), "--deadline", "2", event(files / "a.pdf"), status=1)
    assert time.monotonic() - begun < 5 * SLOW and "a.pdf" in said
    noting.hold_s = 30
    begun = time.monotonic()
    run(noting.port, "--deadline=2", event(files / "a.pdf"), status=1)
    assert time.monotonic() - begun < 12 * SLOW
    for wrong in ("0", "x", "-1", ""):
        run(noting.port, f"--deadline={wrong}", event(files / "a.pdf"), status=2)


def test_what_the_server_does_not_take(noting, files):
    """415 and empty files are said and are no failure; 413, 403 and malformed calls are."""
    noting.answers = [415]
    assert "said 415" in run(noting.port, event(files / "a.pdf"))
    noting.answers, noting.code = [400], "empty_file"
    assert "said 400" in run(noting.port, event(files / "a.pdf"))
    noting.code = "invalid"
    for status in (400, 403, 413):
        noting.answers = [status]
        said = run(noting.port, event(files / "a.pdf"), status=1)
        assert f"said {status}" in said and "a.pdf" in said
    assert len(noting.calls) == 5  # none was told twice


def test_files_that_the_server_does_not_see(noting, files):
    noting.answers = [404] * 100
    assert "HOOK_PATH_MAP" in run(noting.port, event(files / "a.pdf"), status=1)
    noting.answers = [404] * 100
    assert "gone.pdf" in run(noting.port, event(files / "gone.pdf"))
    noting.answers = [404]
    noting.calls.clear()
    run(noting.port, event(files / "a.pdf"))  # it came a moment later
    assert noting.told == [("process", str(files / "a.pdf"))]


def test_one_line_for_many_failures(noting, files):
    noting.answers = [403] * 3
    said = run(noting.port, said=json.dumps([event_ for event_ in [
        {"ap": str(files / name)} for name in ("a.pdf", "b.txt", "sub/c.txt")]]), status=1)
    assert "a.pdf" in said and "and 2 more" in said


def test_usage(noting):
    assert "usage" in run(noting.port, "--bogus", "/x", status=2)
    assert "WORKER_PORT" in run(0, "/x", status=1)


# ---- the real server -----------------------------------------------------------------------------


def test_with_the_real_server(start, tmp_path):
    (tmp_path / "key").write_text("correct horse\n")
    server = start(API_KEY_FILE=str(tmp_path / "key"))
    key = {"API_KEY_FILE": str(tmp_path / "key")}
    bearer = {"Authorization": "Bearer correct horse"}
    uploads = server.data_dir / "uploads"
    path, moved = uploads / "report.txt", uploads / "moved.txt"
    path.write_text("The lighthouse keeper's report: quillwort.\n")
    doc_id = hashlib.sha256(path.read_bytes()).hexdigest()

    def state():
        reply = server.request("GET", f"/documents/{doc_id}", headers=bearer)
        return reply.json["status"] if reply.status == 200 else reply.status

    def wait(wanted):
        deadline = time.monotonic() + 30 * SLOW
        while state() != wanted:
            assert time.monotonic() < deadline, state()
            time.sleep(0.05)

    run(server.port, event(path), status=1)  # without the key
    run(server.port, event(path), **key)
    wait("completed")
    path.rename(moved)
    run(server.port, event(moved, "xar.mv", ap_from=str(path)), **key)
    assert state() == "completed"
    moved.unlink()
    run(server.port, event(moved, "xad"), **key)
    assert state() == 404
    (uploads / "empty.txt").write_text("")
    (uploads / "program.exe").write_bytes(b"MZ\0\1")
    assert "empty" in run(server.port, event(uploads / "empty.txt"), **key)
    assert "exe" in run(server.port, event(uploads / "program.exe"), **key)
    assert "INGEST_ROOTS" in run(server.port, event("/etc/hostname"), status=1, **key)
    assert "correct horse" not in server.log


# ---- check ---------------------------------------------------------------------------------------


def hook_finding(data_dir, path, **settings):
    env = {**environment(data_dir, TEXT_MODEL="none", MODEL_NAME="none", **settings), "PATH": path}
    done = subprocess.run([PROGRAM, "check", "--json"], env=env, capture_output=True,
                          timeout=60 * SLOW)
    [found] = [entry for entry in json.loads(done.stdout)["findings"] if entry["what"] == "hook"]
    return found


def test_check_runs_the_hook(start, tmp_path):
    """As Copyparty finds it: through PATH; and with a server, whether it is reached."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "docusearch"
    program.symlink_to(PROGRAM)
    path = f"{tmp_path}/nowhere:{tmp_path / 'bin'}"
    assert hook_finding(tmp_path / "none", str(tmp_path))["verdict"] == "note"
    found = hook_finding(tmp_path / "none", path)
    assert (found["verdict"], found["fact"]) == ("ok", str(program))
    (tmp_path / "key").write_text("kept\n")
    server = start(API_KEY_FILE=str(tmp_path / "key"))
    found = hook_finding(server.data_dir, path, API_KEY_FILE=str(tmp_path / "key"))
    assert found["verdict"] == "ok" and "reaches the server" in found["fact"]
    found = hook_finding(server.data_dir, path, API_KEY_FILE=str(tmp_path / "key"),
                         HOOK_PATH_MAP="nonsense")
    assert found["verdict"] == "wrong" and "nonsense" in found["fact"] and found["advice"]
    program.unlink()
    program.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 3\n")
    program.chmod(0o755)
    found = hook_finding(tmp_path / "none", path)
    assert found["verdict"] == "wrong" and "3: no such thing" in found["fact"]


# ---- what two versions of Copyparty gave ---------------------------------------------------------

RECORDED = [(version, done, *call) for version, actions in PAYLOADS.items()
            for done, calls in actions.items() for call in calls]


def test_recorded_payloads(noting, tmp_path):
    """Every one is understood: none fails but by names that JSON cannot say, and what is told lies
    where the map says."""
    root = tmp_path / "mapped"
    root.mkdir()
    events = {}
    for version, done, name, form, arguments, said in RECORDED:
        key = (name, form, tuple(arguments[1:]), said)
        events.setdefault(key, (version, done))
    assert len(events) > 100
    for (name, form, arguments, said), where in events.items():
        noting.calls.clear()
        shown = b"".join(arguments) + said
        if b"\\udc" in shown or any(byte >= 0x80 for byte in shown) and not is_utf8(shown):
            continue
        gone = name in ("xad", "xbr")  # xbr: the move is done before the hook looks
        for key, path in re.findall(rb'"(ap|ap_from)": "/uploads/([^"\\]+)"', shown):
            file = root / os.fsdecode(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            if gone or key == b"ap_from":
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(b"x")
        run(noting.port, "--deadline", "10", f"--map=/uploads={root}", *arguments, said=said)
        assert noting.calls, (name, form, where)
        assert all(path.startswith(f"{root}/") for _, path in noting.told), (name, form, where)
        if name == "xad" and b"{" in shown:
            assert {call for call, _ in noting.told} == {"delete"}
        if name in ("xau", "xac") and b"{" in shown:
            assert {call for call, _ in noting.told} == {"process"}
        if b'"ap_from"' in shown or b'"ap_to"' in shown:
            assert [call for call, _ in noting.told] == ["process", "delete"], (name, form, where)


def is_utf8(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
