"""The commands, through a running server and without one: what they print, how they exit."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest

import inputs
import inputs_pdf as pdfs
from chroma_server import ChromaServer
from conftest import alive, stop_whole
from programs import free_port
from running import PROGRAM, SLOW, Running, children_of, environment

COMMANDS = ["serve", "add", "search", "list", "show", "rm", "jobs", "check", "embed"]
DOCUMENTS = {
    "harbour report.pdf": pdfs.good("Harbour report: the lighthouse was painted.",
                                    "Second page: nineteen buoys were replaced."),
    "minutes.md": b"# Minutes\n\nThe council spoke of the lighthouse twice.\n",
    "prices.csv": b"item,price\nrope,12\nanchor,340\n",
    "broken.pdf": pdfs.garbage(3),
}


class Shell:
    """Runs commands over one data folder."""

    def __init__(self, data_dir, **settings):
        self.data_dir = data_dir
        self.env = environment(data_dir, **settings)

    def run(self, *arguments, status=0, timeout=120, **options):
        done = subprocess.run([PROGRAM, *arguments], env=self.env, timeout=timeout * SLOW,
                              stdin=subprocess.DEVNULL, capture_output=True, **options)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{out}\n{err}"
        return out, err

    def json(self, *arguments, status=0):
        return json.loads(self.run(arguments[0], "--json", *arguments[1:], status=status)[0])

    def id_of(self, filename):
        for document in self.json("list")["documents"]:
            if document["filename"] == filename:
                return document["doc_id"]
        raise AssertionError(f"no document {filename}")


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A data folder with DOCUMENTS, and no server."""
    top = tmp_path_factory.mktemp("filled")
    shell = Shell(top / "data")
    shell.run("add", str(write(top / "files", DOCUMENTS)), status=1)
    return shell


@pytest.fixture(scope="module", params=["folder", "server"])
def shell(request, filled):
    """The same data folder, opened by each command itself or held by a server."""
    if request.param == "folder":
        yield filled
        return
    running = Running(filled.data_dir)
    yield filled
    assert stop_whole(running) == 0


@pytest.fixture(params=["folder", "server"])
def empty(request, tmp_path):
    shell = Shell(tmp_path / "data")
    running = Running(shell.data_dir) if request.param == "server" else None
    yield shell
    if running:
        assert stop_whole(running) == 0


# ---- help and usage ------------------------------------------------------------------------------

@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(tmp_path, command):
    shell = Shell(tmp_path / "none")
    for arguments in ([command, "--help"], [command, "-h"], ["help", command]):
        out, err = shell.run(*arguments)
        assert f"usage: docusearch {command}" in out and err == ""
    assert not (tmp_path / "none").exists()


def test_help(tmp_path):
    shell = Shell(tmp_path / "none")
    for argument in ("help", "--help", "-h"):
        out, err = shell.run(argument)
        assert err == "" and all(re.search(rf"^  {name} ", out, re.M) for name in COMMANDS)
    out, err = shell.run(status=2)
    assert out == "" and "usage: docusearch COMMAND" in err
    out, _ = shell.run("help", "settings")
    for name in ("DATA_DIR", "WORKER_PORT", "--worker-port", "MAX_PAGES", "API_KEY_FILE"):
        assert name in out
    assert re.fullmatch(r"docusearch \d+\.\d+\.\d+\n", shell.run("version")[0])


@pytest.mark.parametrize("arguments", [
    ["frobnicate"], ["help", "frobnicate"], ["add"], ["search"], ["show"], ["rm"],
    ["list", "one", "two"], ["show", "12345678", "23456789"], ["serve", "now"], ["check", "this"],
    ["jobs", "cancel"], ["jobs", "explode", "1"], ["jobs", "cancel", "1", "2"],
    ["search", "words", "-n"], ["list", "-n"], ["list", "--sort"], ["jobs", "--state"],
    ["list", "--frobnicate"], ["add", "--frobnicate", "file"], ["show", "--frobnicate", "1"],
    ["search", "--frobnicate", "words"], ["serve", "--frobnicate"], ["rm", "-x", "12345678"],
    ["embed"], ["embed", "--query"], ["embed", "--model", "x"], ["embed", "words"],
    ["embed", "--query", "x", "--frobnicate"],
    ["list", "--worker-port"], ["list", "--worker-port", "high"], ["list", "--data-dir="],
], ids=" ".join)
def test_usage_errors(tmp_path, arguments):
    out, err = Shell(tmp_path / "none").run(*arguments, status=2)
    assert out == "" and err.startswith("docusearch") and not (tmp_path / "none").exists()
    strange = [a for a in arguments if "frobnicate" in a or "explode" in a]
    assert all(a in err or "cancel ID" in err for a in strange)


# ---- the same answers with and without a server --------------------------------------------------

ASKING = [
    ["list"], ["list", "-n", "1", "--sort", "name_asc"], ["list", "harbour"],
    ["list", "--sort", "name_desc"], ["list", "nothing like it"], ["search", "lighthouse"],
    ["search", "-n", "1", "lighthouse", "painted"], ["search", '"nineteen buoys"'],
    ["search", "lighthouse", "-painted"], ["search", "light*"],
    ["search", "--mode", "lexical", "anchor"], ["search", "--type", "pdf", "lighthouse"],
    ["search", "absent"], ["search", "--", "--lighthouse"], ["jobs"],
    ["jobs", "--state", "failed"],
]


def steady(value):
    """Without what is measured anew by every call."""
    if isinstance(value, dict):
        return {key: steady(one) for key, one in value.items()
                if key not in ("search_time_ms", "ms")}
    return [steady(one) for one in value] if isinstance(value, list) else value


def test_same_answers(filled):
    doc_id = filled.id_of("harbour report.pdf")
    asked = ASKING + [["show", doc_id], ["show", doc_id[:8]]]
    alone = [filled.json(*arguments) for arguments in asked]
    plain = [filled.run(*arguments)[0] for arguments in asked]
    markdown = filled.run("show", doc_id, "--markdown")[0]
    running = Running(filled.data_dir)
    try:
        for arguments, first, text in zip(asked, alone, plain):
            assert steady(filled.json(*arguments)) == steady(first), arguments
            assert filled.run(*arguments)[0] == text, arguments
        assert filled.run("show", doc_id, "--markdown")[0] == markdown
        assert "Nineteen buoys" not in markdown and "nineteen buoys" in markdown
        assert steady(running.get(f"/documents/{doc_id}").json) == steady(alone[-2])
        served = running.get("/search", query="lighthouse").json
        assert steady(served) == steady(alone[ASKING.index(["search", "lighthouse"])])
    finally:
        assert stop_whole(running) == 0


# ---- what they print -----------------------------------------------------------------------------

def test_list(shell):
    out, err = shell.run("list")
    rows = {line.split(None, 5)[5]: line.split(None, 5)[:4] for line in out.splitlines()}
    assert sorted(rows) == sorted(DOCUMENTS)
    assert rows["harbour report.pdf"][1:] == ["completed", "2", "pages"]
    assert rows["broken.pdf"][1] == "failed"
    assert all(re.fullmatch("[0-9a-f]{12}", row[0]) for row in rows.values())
    assert "4 of 4 documents" in err
    named = shell.json("list", "--sort", "name_asc")
    assert [d["filename"] for d in named["documents"]] == sorted(DOCUMENTS)
    assert named["total"] == 4
    assert [d["filename"] for d in shell.json("list", "report")["documents"]] == [
        "harbour report.pdf"]
    assert len(shell.json("list", "-n", "2")["documents"]) == 2


def test_search(shell):
    out, err = shell.run("search", "nineteen", "buoys")
    first = out.splitlines()[0]
    assert first.startswith("1. harbour report.pdf  page 2") and "\033" not in out
    assert "nineteen buoys were replaced" in out
    assert re.match(r"1 result in ", err)
    assert "words only: no text model is installed; get one with `docusearch pull`" in err
    _, err = shell.run("search", "--mode", "lexical", "nineteen", "buoys")
    assert re.fullmatch(r"1 result in \d+ ms\n", err)
    reply = shell.json("search", "lighthouse")
    assert {hit["filename"] for hit in reply["results"]} == {"harbour report.pdf", "minutes.md"}
    assert shell.json("search", "lighthouse", "-painted")["results"][0]["filename"] == "minutes.md"
    assert shell.json("search", "absent")["results"] == []


def test_show(shell):
    doc_id = shell.id_of("harbour report.pdf")
    for name in (doc_id, doc_id[:8], doc_id[:31]):
        out, _ = shell.run("show", name)
        assert doc_id in out and "harbour report.pdf" in out and "2 pages" in out
    document = shell.json("show", doc_id)
    assert document["page_count"] == 2 and len(document["pages"]) == 2
    markdown, _ = shell.run("show", shell.id_of("minutes.md"), "--markdown")
    assert markdown.startswith("# Minutes")
    out, _ = shell.run("show", shell.id_of("broken.pdf"))
    assert re.search(r"^status +failed", out, re.M) and re.search(r"^error +\S", out, re.M)
    _, err = shell.run("show", shell.id_of("broken.pdf"), "--markdown", status=1)
    assert "not been read" in err


def test_jobs(shell):
    jobs = shell.json("jobs")["jobs"]
    assert {job["filename"]: job["state"] for job in jobs} == {
        name: "failed" if name == "broken.pdf" else "completed" for name in DOCUMENTS}
    failed = shell.json("jobs", "--state", "failed")["jobs"]
    assert [job["filename"] for job in failed] == ["broken.pdf"]
    out, _ = shell.run("jobs", "--state", "failed")
    assert "broken.pdf" in out and failed[0]["error"]["message"] in out


@pytest.mark.parametrize("arguments,said", [
    (["show", "0" * 64], "no document"),
    (["show", "12345678"], "no document"),
    (["show", "1234"], "is not a document id"),
    (["show", "nonsense"], "is not a document id"),
    (["show", "../../../etc/passwd"], "is not a document id"),
    (["rm", "f" * 64], "no document"),
    (["rm", "zz"], "is not a document id"),
    (["jobs", "cancel", "999999"], "no job"),
    (["jobs", "retry", "999999"], "no job"),
    (["jobs", "cancel", "one"], "job id"),
    (["jobs", "--state", "odd"], "odd"),
    (["search", "--mode", "odd", "word"], "odd"),
    (["search", "--mode", "visual", "word"], "no visual model"),
    (["search", "-n", "0", "word"], "n_results"),
    (["search", "-n", "101", "word"], "n_results"),
    (["search", "-n", "many", "word"], "n_results"),
    (["search", ""], "query"),
    (["search", "w" * 1001], "query"),
    (["list", "-n", "0"], "limit"),
    (["list", "--sort", "odd"], "odd"),
], ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "")
def test_failures(shell, arguments, said):
    out, err = shell.run(*arguments, status=1)
    assert said in err and err.startswith("docusearch: ")
    assert out == ""


def test_full_output_is_a_failure(shell):
    with open("/dev/full", "wb") as full:
        for command in (["list"], ["help", "settings"], ["version"]):
            done = subprocess.run([PROGRAM, *command], env=shell.env, stdout=full, timeout=60,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert done.returncode == 1


# ---- add, rm, jobs: what changes -----------------------------------------------------------------

def test_add_a_folder(empty, tmp_path):
    folder = write(tmp_path / "files", {
        "one.txt": b"the first of the folder", "sub/deep/two.md": b"the second, deep below",
        "sub/THREE.TXT": b"the third, in capitals", ".hidden.txt": b"hidden",
        ".git/config.txt": b"hidden with its folder", "program.exe": b"MZ", "noextension": b"no",
        "\u00fcml\u00e4ut na\u00efve.txt": b"the fourth, with accents",
        "bad\x1b[31mname.txt": b"the fifth, with an escape"})
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    os.mkfifo(folder / "pipe.txt")
    out, err = empty.run("add", str(folder))
    assert out == "" and "5 added, 0 known already, 0 failed, " in err and "left out" in err
    assert "\x1b" not in err
    names = [document["filename"] for document in empty.json("list")["documents"]]
    assert sorted(names) == sorted(["one.txt", "two.md", "THREE.TXT", "bad_[31mname.txt",
                                    "\u00fcml\u00e4ut na\u00efve.txt"])
    reply = empty.json("add", str(folder))
    assert {d["status"] for d in reply["documents"]} == {"known"} and len(reply["documents"]) == 5
    out, err = empty.run("add", "--quiet", str(folder))
    assert out == ""
    assert len(empty.json("search", "folder")["results"]) == 1


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_progress_bar_stays_on_its_line(tmp_path, columns):
    name = "\u6771\u4eac a name longer than the terminal is wide, as names of reports are "
    folder = write(tmp_path / "files", {f"{name}{i}.txt": b"word %d" % i for i in range(5)})
    shell = Shell(tmp_path / "data")
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be had here: {error}")
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    adding = subprocess.Popen([PROGRAM, "add", str(folder)], env=shell.env, stderr=theirs,
                              stdin=subprocess.DEVNULL)
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 4096):
            written += block
    except OSError:  # its other end is closed
        pass
    os.close(ours)
    assert adding.wait(timeout=60) == 0
    bars = re.findall(r"\r([^\r\n\x1b]*\d/5[^\r\n\x1b]*)\x1b\[K", written.decode())
    widths = [sum(2 if ord(sign) > 0x1100 else 1 for sign in bar) for bar in bars]
    assert bars and max(widths) < columns
    assert all(bar.startswith("[") == (columns == 80) for bar in bars)


def test_add_files(empty, tmp_path):
    folder = write(tmp_path / "files", {"good.txt": b"a good text", "bad.pdf": pdfs.garbage(5),
                                        "empty.txt": b"", "odd.exe": b"MZ\0\0",
                                        "same.txt": b"a good text"})
    paths = [str(folder / name) for name in ("good.txt", "bad.pdf", "empty.txt", "odd.exe",
                                             "same.txt")]
    reply = empty.json("add", *paths, status=1)
    got = {d["path"]: (d["status"], d.get("reason", "")) for d in reply["documents"]}
    assert list(got) == paths
    assert [got[path][0] for path in paths] == ["completed", "failed", "failed", "failed", "known"]
    assert "empty" in got[paths[2]][1] and "type" in got[paths[3]][1]
    assert got[paths[1]][1]
    _, err = empty.run("add", paths[3], status=1)
    assert paths[3] in err and "1 failed" in err


def test_add_a_missing_path(empty, tmp_path):
    missing = str(tmp_path / "not here.pdf")
    out, err = empty.run("add", missing, status=1)
    assert "not here.pdf" in err and "No such file" in err and "0 added" in err
    there = str(write(tmp_path / "files", {"there.txt": b"it is there"}) / "there.txt")
    reply = empty.json("add", missing, there, status=1)
    assert [one["status"] for one in reply["documents"]] == ["failed", "completed"]


def test_add_a_name_with_an_escape_that_is_not_there(empty):
    _, err = empty.run("show", "no\x1b[31mred", status=1)
    assert "\x1b" not in err
    _, err = empty.run("add", "/no\x1b[31mred", status=1)
    assert "\x1b" not in err


def test_after_two_dashes_nothing_is_an_option(empty, tmp_path):
    folder = write(tmp_path / "files", {"-n.txt": b"named like an option: marmalade"})
    out, err = empty.run("add", "--json", "--", "-n.txt", cwd=folder)
    doc_id = json.loads(out)["documents"][0]["doc_id"]
    assert "1 added" in err
    assert len(json.loads(empty.run("list", "--json", "--", "-n")[0])["documents"]) == 1
    assert len(json.loads(empty.run("search", "--json", "--", "marmalade")[0])["results"]) == 1
    assert doc_id in empty.run("show", "--", doc_id)[0]
    assert "removed" in empty.run("rm", "--", doc_id)[0]
    for command in ("add", "rm", "show", "search"):
        empty.run(command, "--", status=2)


def test_an_add_broken_off_goes_on_with_the_next(empty, tmp_path):
    """What was queued when Ctrl-C came is waited for when it is added again."""
    folder = write(tmp_path / "files", {f"{i:02}.txt": f"leaf {i}\n".encode() * 20000
                                        for i in range(24)})
    adding = subprocess.Popen([PROGRAM, "add", str(folder)], env=empty.env,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    adding.stderr.readline()
    adding.send_signal(signal.SIGINT)
    adding.communicate(timeout=60 * SLOW)
    assert adding.returncode == -signal.SIGINT
    empty.run("add", str(folder))
    documents = empty.json("list")["documents"]
    assert len(documents) == 24 and {one["status"] for one in documents} == {"completed"}


def test_add_and_the_source_is_remembered(empty, tmp_path):
    """A file added again from the same path takes its older content's place."""
    path = write(tmp_path / "files", {"page.txt": b"the older wording"}) / "page.txt"
    empty.run("add", str(path))
    path.write_bytes(b"the newer wording")
    empty.run("add", str(path))
    assert [h["filename"] for h in empty.json("search", "newer")["results"]] == ["page.txt"]


def test_remove(empty, tmp_path):
    folder = write(tmp_path / "files", {f"{i}.txt": f"number {i} to go".encode() for i in range(4)})
    empty.run("add", str(folder))
    ids = [empty.id_of(f"{i}.txt") for i in range(4)]
    out, _ = empty.run("rm", ids[0])
    assert out.startswith(f"removed {ids[0][:12]}") and "0.txt" in out
    removed = empty.json("rm", ids[1][:10], ids[2])["removed"]
    assert [one["doc_id"] for one in removed] == ids[1:3]
    out, err = empty.run("rm", ids[0], ids[3], status=1)  # the rest goes all the same
    assert "no document" in err and ids[3][:12] in out
    assert empty.json("list")["total"] == 0 and empty.json("search", "number")["results"] == []
    left = [path for path in (empty.data_dir / "documents").rglob("*") if path.is_file()]
    assert left == []


def test_retry_and_cancel(empty, tmp_path):
    folder = write(tmp_path / "files", {"bad.pdf": pdfs.garbage(6), "good.txt": b"fine"})
    empty.run("add", str(folder), status=1)
    jobs = {job["filename"]: job for job in empty.json("jobs")["jobs"]}
    _, err = empty.run("jobs", "retry", str(jobs["good.txt"]["job_id"]), status=1)
    assert "completed" in err
    _, err = empty.run("jobs", "cancel", str(jobs["bad.pdf"]["job_id"]), status=1)
    assert "failed" in err
    reply = empty.json("jobs", "retry", str(jobs["bad.pdf"]["job_id"]))
    assert reply["job_id"] == jobs["bad.pdf"]["job_id"]
    assert reply["state"] in ("queued", "processing", "failed")


def test_check(empty):
    """Whatever this machine has, the findings and the exit status agree."""
    done = subprocess.run([PROGRAM, "check", "--json"], env=empty.env, capture_output=True,
                          timeout=120)
    reply = json.loads(done.stdout)
    findings = {f["what"]: f for f in reply["findings"]}
    wrong = [f for f in reply["findings"] if f["verdict"] == "wrong"]
    assert reply["ok"] == (not wrong) and done.returncode == (1 if wrong else 0)
    assert {"device", "sandbox", "office", "ocr", "disk", "data folder"} <= set(findings)
    assert "server" in findings or "port" in findings
    assert findings["device"]["verdict"] == "ok" and findings["device"]["fact"] == "cpu"
    for kind in ("text", "visual"):
        model = findings[f"{kind} model"]
        assert model["fact"].endswith(": not_installed") and model["verdict"] == "note"
        assert "docusearch pull " + model["fact"].split(":")[0] in model["advice"]
    assert findings["device cpu"]["fact"] == "present"
    assert findings["device mps"] == {"verdict": "note", "what": "device mps",
                                      "fact": "not built in"}
    assert re.fullmatch("auto: (fp32|bf16|int8)", findings["precision"]["fact"])
    assert re.search(r"\d+ threads", findings["kernels"]["fact"])
    assert all(f["fact"] for f in reply["findings"]), "a finding without its fact"
    assert all(f.get("advice") for f in wrong), "what is wrong comes with what to do"
    plain = subprocess.run([PROGRAM, "check"], env=empty.env, capture_output=True, timeout=120)
    assert plain.returncode == done.returncode
    assert len(re.findall(rb"^(ok|note|wrong) ", plain.stdout, re.M)) == len(findings)


def test_key(tmp_path):
    keyed = Shell(tmp_path / "data", API_KEY="a key of some length")
    running = Running(tmp_path / "data", API_KEY="a key of some length")
    try:
        assert keyed.json("list")["total"] == 0
        path = write(tmp_path / "files", {"a.txt": b"behind a key"}) / "a.txt"
        assert keyed.json("add", str(path))["documents"][0]["status"] == "completed"
        _, err = Shell(tmp_path / "data").run("list", status=1)
        assert "API_KEY" in err
        _, err = Shell(tmp_path / "data", API_KEY="another").run("search", "key", status=1)
        assert "API_KEY" in err
        assert "a key of some length" not in running.log
    finally:
        assert stop_whole(running) == 0


def test_interrupted_add_goes_on_later(tmp_path):
    """Ctrl-C while files are read: no process stays, and nothing acknowledged is lost."""
    shell = Shell(tmp_path / "data")
    folder = write(tmp_path / "files", {
        f"{i}.pdf": pdfs.good(*[f"leaf {i} {k}" for k in range(150)]) for i in range(3)})
    # A shell's background jobs inherit SIGINT ignored.
    adding = subprocess.Popen([PROGRAM, "add", str(folder)], env=shell.env,
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 30
    while not children_of(adding.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = children_of(adding.pid)
    adding.send_signal(signal.SIGINT)
    adding.wait(10)
    assert children and adding.returncode != 0
    wait_gone(children)
    total = shell.json("list")["total"]
    running = Running(shell.data_dir)
    try:
        deadline = time.monotonic() + 60
        while any(job["state"] in ("queued", "processing")
                  for job in running.get("/jobs").json["jobs"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert running.get("/documents").json["total"] == total
        assert {d["status"] for d in running.get("/documents").json["documents"]} <= {"completed"}
    finally:
        assert stop_whole(running) == 0


# ---- serve ---------------------------------------------------------------------------------------

def wait_gone(pids, seconds=5):
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in pids if alive(pid)]


def refused(data_dir, *arguments, status=1, **settings):
    """What a server says that does not start."""
    return Shell(data_dir, **settings).run("serve", *arguments, status=status, timeout=30)[1]


def test_languages_that_tesseract_lacks_are_said(tmp_path):
    for languages, said in (("eng+zzz", "no data for zzz"), ("zzz+eng", "no data for zzz"),
                            ("zzz", "scans are not read")):
        running = Running(tmp_path / languages, OCR_LANGUAGES=languages)
        try:
            assert said in running.log
            assert "(eng+zzz)" not in running.get("/health").json["ocr"]
            shell = Shell(tmp_path / languages, OCR_LANGUAGES=languages)
            assert re.search(r"^wrong +ocr", shell.run("check", status=1)[0], re.M)
        finally:
            assert stop_whole(running) == 0


def test_second_server_names_the_first(tmp_path):
    running = Running(tmp_path / "data")
    try:
        said = refused(tmp_path / "data")
        assert running.url in said and str(running.pid) in said
        assert running.get("/health").status == 200
    finally:
        assert stop_whole(running) == 0
    again = Running(tmp_path / "data")  # what the first left behind holds nobody up
    assert stop_whole(again) == 0


def test_killed_server_holds_nobody_up(tmp_path):
    running = Running(tmp_path / "data")
    running.read(b"kept all the same", "kept.txt")
    children = running.children()
    running.stop(signal.SIGKILL)
    wait_gone(children)
    assert Shell(tmp_path / "data").json("search", "kept")["total_results"] == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_stops_within_seconds(tmp_path, how, busy):
    running = Running(tmp_path / "data", WORKER_THREADS="2")
    jobs = []
    running.read(b"a first text", "first.txt")
    if busy:
        jobs.append(running.upload(pdfs.form_bomb(), "long.pdf").json["documents"][0]["job_id"])
        jobs.append(running.upload(inputs.docx("an office file", "of two lines"),
                                   "office.docx").json["documents"][0]["job_id"])
        time.sleep(0.5)
    children = running.children()
    assert children
    private = [os.path.realpath(path) for path in (tmp_path / "data" / "tmp").iterdir()]
    begun = time.monotonic()
    assert running.stop(how) == 0
    assert time.monotonic() - begun < 5
    wait_gone(children, 1)
    assert f"{how.name}: stopping" in running.log
    assert not list((tmp_path / "data" / "tmp").iterdir())
    assert not [path for path in private if os.path.exists(path)]
    if busy:  # left waiting, and without an attempt of theirs counted
        waiting = {job["job_id"]: job for job in Shell(tmp_path / "data").json("jobs")["jobs"]}
        assert waiting[jobs[0]]["state"] == "queued" and waiting[jobs[0]]["attempts"] == 0


def test_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(tmp_path / "data", WORKER_PORT=port)
        assert "Address already in use" in said and port in said
        assert "--worker-port" in said and "WORKER_PORT" in said
        out, _ = Shell(tmp_path / "data", WORKER_PORT=port).run("check", status=1)
        assert re.search(rf"^wrong +port +.*{port}", out, re.M)


def test_open_host_wants_a_key(tmp_path):
    said = refused(tmp_path / "data", WORKER_HOST="0.0.0.0")
    assert "API_KEY" in said and "--insecure" in said
    running = Running(tmp_path / "data", WORKER_HOST="0.0.0.0", API_KEY="long enough a key")
    try:
        assert running.get("/documents").status == 401
        assert running.request("GET", "/documents", headers={
            "Authorization": "Bearer long enough a key"}).status == 200
    finally:
        assert stop_whole(running) == 0


@pytest.mark.parametrize("name,value", [
    ("WORKER_PORT", "eight"), ("WORKER_PORT", "65536"), ("WORKER_PORT", "-1"),
    ("PAGE_RENDER_DPI", "5"), ("PAGE_RENDER_DPI", "6000"), ("MAX_PAGES", "0"),
    ("MAX_FILE_SIZE_MB", "1.5"), ("TEXT_CHUNK_SIZE", "0"), ("LOG_LEVEL", "loud"),
    ("LOG_FORMAT", "xml"), ("DEVICE", "abacus"), ("OCR_LANGUAGES", "../../etc/passwd"),
    ("INSECURE", "perhaps"), ("API_KEY_FILE", "/nowhere/key"), ("TEXT_CHUNK_OVERLAP", "250"),
])
def test_settings_errors_name_the_variable(tmp_path, name, value):
    said = refused(tmp_path / "data", status=2, **{name: value})
    assert name in said and len(said.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_settings_file(tmp_path):
    config = tmp_path / "docusearch.conf"
    config.write_text("# ours\nMAX_PAGES=7\nLOG_LEVEL = info\nPAGE_RENDER_DPI=\"100\"\n")
    running = Running(tmp_path / "data", arguments=["--config", str(config), "--max-pages=9"],
                      PAGE_RENDER_DPI="110")
    try:  # flag before environment before file
        line = next(line for line in running.log.splitlines() if "settings: " in line)
        assert "MAX_PAGES=9 " in line and "PAGE_RENDER_DPI=110 " in line
        assert "WORKER_PORT=0 " in line and "TEXT_CHUNK_SIZE=250 " in line
    finally:
        assert stop_whole(running) == 0
    config.write_text("MAX_PAGES=7\nMAX_PAGE=8\n")
    said = refused(tmp_path / "data", "--config", str(config), status=2)
    assert "MAX_PAGE'" in said and "line 2" in said
    assert "nowhere.conf" in refused(tmp_path / "data", "--config", "/nowhere.conf", status=2)


def test_device(tmp_path):
    running = Running(tmp_path / "data", DEVICE="mps")
    try:
        assert "Warning: Requested device 'mps' not available, falling back to CPU" in running.log
        assert "Using device: cpu" in running.log
        assert running.get("/health").json["device"]["used"] == "cpu"
    finally:
        assert stop_whole(running) == 0
    said = refused(tmp_path / "data", DEVICE="mps", DEVICE_STRICT="1")
    assert "mps" in said and "DEVICE_STRICT" in said


def test_lines_that_people_look_for(tmp_path):
    running = Running(tmp_path / "data")
    try:
        begun = time.monotonic()
        assert running.get("/health", timeout=20).status == 200
        assert time.monotonic() - begun < 1, "the first look at /health is as quick as any"
        running.read(pdfs.good("one", "two"), "two.pdf")
        running.read(pdfs.garbage(9), "garbage.pdf")
        log = running.log
    finally:
        assert stop_whole(running) == 0
    assert "Using device: cpu" in log and f"Starting worker on {running.url}" in log
    assert log.index("Starting worker on") < log.index("Application startup complete")
    assert re.search(r"Processed document: two\.pdf \(2 pages, [\d.]+s, [\d.]+ pages/s\)", log)
    assert re.search(r"Failed to process garbage\.pdf: \S+", log)


def test_log_as_json_in_a_file(tmp_path):
    running = Running(tmp_path / "data", LOG_LEVEL="info")
    assert stop_whole(running) == 0
    log = tmp_path / "server.log"
    done = subprocess.Popen([PROGRAM, "serve"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env=environment(tmp_path / "data", LOG_FORMAT="json",
                                            LOG_FILE=str(log)))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (
            log.exists() and "Application startup complete" in log.read_text()):
        time.sleep(0.05)
    done.terminate()
    _, err = done.communicate(timeout=20)
    assert done.returncode == 0 and err == b""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) >= 4 and all(isinstance(line, dict) for line in lines)


# ---- a ChromaDB that is down --------------------------------------------------------------------


def begin_add(shell, *arguments):
    return subprocess.Popen([PROGRAM, "add", *arguments], env=shell.env, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def test_add_says_what_it_waits_for_and_keeps_it(tmp_path):
    port = free_port()
    settings = {"CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": str(port)}
    file = str(write(tmp_path / "files", {"a.txt": b"a heron in the reeds"}) / "a.txt")
    alone, served = Shell(tmp_path / "alone", **settings), Shell(tmp_path / "served", **settings)
    server = Running(served.data_dir, **settings)
    adding = [begin_add(alone, file), begin_add(served, file), begin_add(alone_quiet := Shell(
        tmp_path / "quiet", **settings), "--quiet", "--json", file)]
    try:
        begun = time.monotonic()
        for add in adding[:2]:
            assert add.stderr.readline().startswith(f"waiting: ChromaDB at http://127.0.0.1:{port}: ")
        assert time.monotonic() - begun < 10 * SLOW
        ends = [add.communicate(timeout=100 * SLOW) for add in adding]
        assert 55 < time.monotonic() - begun
    finally:
        for add in adding:
            add.kill()
    assert [add.returncode for add in adding] == [1, 1, 1]
    last = [err.splitlines()[-1] for _, err in ends]
    for said, who in zip(last, ("the next server goes on with it",
                                "the server goes on when it answers",
                                "the next server goes on with it")):
        assert said.startswith("docusearch: ChromaDB at") and said.endswith(f"it is kept: {who}")
    assert "1 not waited for" in ends[0][1] and len(ends[2][1].splitlines()) == 1
    assert json.loads(ends[2][0])["documents"][0]["status"] == "queued"
    chroma = ChromaServer(tmp_path / "chroma", port=port)
    chroma.start()
    try:
        quiet = Running(alone_quiet.data_dir, **settings)
        for running in (server, quiet):
            job = running.get("/jobs").json["jobs"][0]
            assert running.wait_job(job["job_id"])["state"] == "completed"
            running.stop()
        # And a command that comes when ChromaDB is there again takes it up itself.
        out, _ = alone.run("add", "--json", file)
        assert json.loads(out)["documents"][0]["status"] == "completed"
    finally:
        chroma.stop()
