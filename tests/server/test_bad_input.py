"""Hostile and broken files, each sent to the real server: how it ends, and that the server, its
folder and its next document are none the worse."""

import io
import os
import random
import socket
import threading
import time
import zipfile
from collections import namedtuple

import pytest

import inputs
import inputs_pdf as pdfs
from conftest import stop_whole
from running import CORPUS, SLOW, Running

N_WORKERS = 2
PASSWD_MARK = "root:x:0:0"


class Canary:
    """Listens where files send whoever fetches; nobody should come."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.visits = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                visitor, _ = self.socket.accept()
            except OSError:
                return
            visitor.settimeout(2)
            try:
                self.visits.append(visitor.recv(300))
                visitor.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")
            except OSError:
                pass
            visitor.close()


@pytest.fixture(scope="module")
def canary():
    canary = Canary()
    yield canary
    canary.socket.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Running(tmp_path_factory.mktemp("bad") / "data", WORKER_THREADS=str(N_WORKERS))
    assert server.get("/health").status == 200  # asks LibreOffice its name, once
    yield server
    assert stop_whole(server) == 0
    assert "Sanitizer" not in server.log and "runtime error" not in server.log


def settle(server):
    """Unharmed: /health answers, the next document is read, nothing is left behind."""
    begun = time.monotonic()
    health = server.get("/health", timeout=10)
    assert health.status == 200 and time.monotonic() - begun < 1
    word = f"wellbeing{random.randrange(1 << 40):x}"
    job, document = server.read(f"A sound text, {word}.".encode(), f"{word}.txt", seconds=30)
    assert job["state"] == "completed", job
    assert [hit["doc_id"] for hit in server.search(word)] == [document["doc_id"]]
    # A reader and a converter a worker; LibreOffice starts helpers of its own.
    assert len(server.children()) <= 4 * N_WORKERS
    assert server.leftovers() == []
    assert server.process.poll() is None


def sides_of_jpeg(data):
    assert data[:2] == b"\xff\xd8"
    at = 2
    while at < len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2:at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7:at + 9], "big"), int.from_bytes(
                data[at + 5:at + 7], "big")
        at += 2 + length
    raise AssertionError("a JPEG without a frame")


def word_of(name):
    """A word that stands in no other file of these tests."""
    return "q" + "".join(c for c in name if c.isalpha())


# ---- the table -----------------------------------------------------------------------------------

# ends: what may become of it: "415 unsupported_type" at the upload, "failed corrupt", "completed",
# "partial" (read, with a warning that says what is missing). found: its word leads to it.
Case = namedtuple("Case", "name filename make ends format found")


def case(name, filename, make, *ends, format=None, found=None):
    if found is None:
        found = ends[0] in ("completed", "partial")
    return Case(name, filename, make, ends, format, found)


def random_bytes(n):
    return random.Random(n).randbytes(n)


def minimal_png():
    return inputs.png_grey(64, 64)


DAMAGED = [
    case("empty file", "a.pdf", lambda w: b"", "400 empty_file"),
    case("one byte", "a.pdf", lambda w: b"%", "failed corrupt", "failed no_pages"),
    case("pdf cut in a stream", "a.pdf", lambda w: pdfs.truncated(w, b"truncated"), "partial"),
    case("pdf cut in an object", "a.pdf", lambda w: pdfs.truncated(w, b"/Contents"), "partial",
         "failed corrupt"),
    case("truncated pdf of nothing", "a.pdf", lambda w: pdfs.without_tree(), "failed corrupt",
         "failed no_pages"),
    case("garbage pdf", "a.pdf", lambda w: pdfs.garbage(1), "failed corrupt", "failed no_pages"),
    case("one damaged page", "a.pdf", lambda w: pdfs.one_damaged_page(w), "partial"),
    case("pdf of no pages", "a.pdf", lambda w: pdfs.no_pages(), "failed no_pages"),
    case("two billion pages", "a.pdf", lambda w: pdfs.lying_count(2_000_000_000),
         "failed too_many_pages"),
    case("pages beyond an integer", "a.pdf", lambda w: pdfs.lying_count(3_000_000_000),
         "failed too_many_pages", "failed corrupt", "failed no_pages"),
    case("less than no pages", "a.pdf", lambda w: pdfs.lying_count(-5), "failed no_pages",
         "failed corrupt"),
    case("three pages that are one", "a.pdf", lambda w: pdfs.lying_count(3), "partial",
         found=False),
    case("billion-point page", "a.pdf", lambda w: pdfs.huge_page(w), "completed", "partial"),
    case("odd pages", "a.pdf", lambda w: pdfs.odd_pages(w), "completed", "partial"),
    case("page tree loop", "a.pdf", lambda w: pdfs.tree_loop(), "failed corrupt",
         "failed no_pages"),
    case("deep page tree", "a.pdf", lambda w: pdfs.deep_tree(), "completed", "partial",
         "failed corrupt", "failed no_pages", found=False),
    case("truncated docx at a tenth", "a.docx", lambda w: cut(inputs.docx(w * 9), 0.1),
         "failed corrupt"),
    case("truncated docx at a half", "a.docx", lambda w: cut(inputs.docx(w * 9), 0.5),
         "failed corrupt"),
    case("truncated docx before its end", "a.docx", lambda w: inputs.docx(w * 9)[:-10],
         "failed corrupt"),
    case("truncated xlsx", "a.xlsx", lambda w: cut(inputs.xlsx([w, w]), 0.7), "failed corrupt"),
    case("truncated png", "a.png", lambda w: cut(inputs.png_grey(300, 300), 0.5), "completed",
         "partial", "failed corrupt", found=False),
    case("truncated webp", "a.webp", lambda w: inputs.webp_header(300, 300)[:20],
         "failed corrupt"),
    case("garbage behind a png's name", "a.png", lambda w: b"\x89PNG\r\n\x1a\n" + random_bytes(999),
         "failed corrupt", "failed image_limit"),
    case("garbage ole file", "a.doc", lambda w: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" +
         random_bytes(20_000), "failed corrupt", "failed unsupported"),
    case("ole file of nothing", "a.xls", lambda w: inputs.compound({"Other": b"data"}),
         "failed unsupported", "failed corrupt"),
    case("zip of nothing", "a.docx", lambda w: inputs.zipped({"readme.txt": w}),
         "failed corrupt", "failed unsupported"),
    case("empty zip", "a.xlsx", lambda w: inputs.zipped({}), "failed corrupt"),
    case("utf-8 that is none", "a.txt", lambda w: w.encode() + b" \xff\xfe\xc0\x80\xed\xa0\x80 end",
         "completed", "partial"),
]


def cut(data, share):
    return data[:int(len(data) * share)]


def claiming(data, size):
    """A package with one more entry, of so many bytes by its own account."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [inputs.entry(name, archive.read(name)) for name in archive.namelist()]
    return inputs.zip_of_entries(parts + [inputs.entry("much.xml", b" " * 10_000, size=size)])


ENCRYPTED = [
    case("encrypted pdf", "a.pdf", lambda w: pdfs.encrypted(f"secret {w}", "geheim"),
         "failed password_required"),
    case("pdf with an empty password", "a.pdf", lambda w: pdfs.encrypted(f"open {w}", ""),
         "completed"),
    case("encrypted docx", "a.docx", lambda w: inputs.encrypted_package(),
         "failed password_required"),
    case("encrypted xlsx under another name", "a.doc", lambda w: inputs.encrypted_package() + b"\0",
         "failed password_required"),
    case("encrypted doc", "a.doc", lambda w: inputs.encrypted_word(), "failed password_required"),
    case("zip encryption", "a.docx", lambda w: inputs.docx_locked(), "failed password_required"),
    case("encrypted odt", "a.odt", lambda w: inputs.odt(
        f"<text:p>{w}</text:p>", manifest="<manifest:encryption-data/>"),
        "failed password_required"),
]

MISNAMED = [
    case("pdf named docx", "a.docx", lambda w: pdfs.good(w), "completed", format="pdf"),
    case("docx named pdf", "a.pdf", lambda w: inputs.docx(w), "completed", format="docx"),
    case("xlsx named docx", "a.docx", lambda w: inputs.xlsx([w, "cell"]), "completed",
         format="xlsx"),
    case("png named txt", "a.txt", lambda w: minimal_png(), "completed", format="png",
         found=False),
    case("html named pdf", "a.pdf", lambda w: f"<!DOCTYPE html><p>{w}</p>".encode(), "completed",
         format="html"),
    case("odt named docx", "a.docx", lambda w: inputs.odt(f"<text:p>{w}</text:p>"), "completed",
         format="odt"),
    case("rtf named doc", "a.doc", lambda w: rb"{\rtf1\ansi " + w.encode() + b"}", "completed",
         format="rtf"),
    case("text named docx", "a.docx", lambda w: b"only text", "failed corrupt",
         "415 unsupported_type"),
    case("program named pdf", "a.pdf", lambda w: b"\x7fELF\2\1\1" + random_bytes(5000),
         "failed corrupt", "415 unsupported_type"),
    case("bytes named txt", "a.txt", lambda w: b"\0\1\2\3" * 99, "415 unsupported_type"),
    case("bytes named html", "a.html", lambda w: b"\0\1\2\3" * 99, "415 unsupported_type"),
    case("unknown type", "a.exe", lambda w: b"MZ" + random_bytes(999), "415 unsupported_type"),
    case("no extension", "README", lambda w: b"words and no type", "415 unsupported_type"),
    case("pdf without a name's end", "README", lambda w: pdfs.good(w), "completed", format="pdf"),
    case("gif", "a.gif", lambda w: b"GIF89a" + bytes(99), "415 unsupported_type"),
    case("plain zip", "a.zip", lambda w: inputs.zipped({"a.txt": w}), "415 unsupported_type"),
    case("pdf with a zip behind it", "a.pdf", lambda w: pdfs.good(w) + inputs.docx("other"),
         "completed", "partial", format="pdf"),
    case("zip with a pdf in it", "a.pdf", lambda w: inputs.zipped(
        {**inputs.docx_parts(inputs.paragraph(w)), "b.pdf": pdfs.good("other")},
        stored=("b.pdf",)), "completed", format="docx"),
    case("pdf behind a web page", "a.pdf", lambda w: b"<html><!-- " + pdfs.good(w), "completed",
         "partial", format="pdf"),
    case("text that speaks of pdf", "a.txt", lambda w: f"%PDF- is how {w} begins".encode(),
         "completed", "failed corrupt", "failed no_pages"),
]

BOMBS = [
    case("zip bomb", "a.docx", lambda w: inputs.docx_bomb(64), "failed archive_limit"),
    case("zip bomb that lies", "a.docx", lambda w: inputs.docx_lying_bomb(64),
         "failed archive_limit", "failed corrupt"),
    case("nested zip bomb", "a.docx", lambda w: inputs.zipped(
        {f"{i}.zip": inputs.zipped({"0.docx": inputs.docx_bomb(8)}) for i in range(9)}),
        "failed corrupt", "failed unsupported", "failed archive_limit"),
    case("bomb embedded", "a.docx", lambda w: inputs.zipped(
        {**inputs.docx_parts(inputs.paragraph(w)), "word/embeddings/a.docx": inputs.docx_bomb(64)}),
        "completed", "partial"),
    case("hundred thousand entries", "a.docx", lambda w: inputs.docx_with_entries(100_000),
         "failed archive_limit"),
    case("overlapping entries", "a.docx", lambda w: inputs.docx_overlapping(1000),
         "failed archive_limit", "failed corrupt"),
    case("two entries of one name", "a.docx", lambda w: inputs.docx_twice(w, w), "completed",
         "partial", "failed corrupt"),
    case("epub bomb", "a.epub", lambda w: inputs.epub(f"<p>{w}</p>" + " " * (100 << 20)),
         "completed", "partial", "failed archive_limit", found=False),
    case("odt bomb", "a.odt", lambda w: inputs.odt(f"<text:p>{w}</text:p>" + " " * (100 << 20)),
         "completed", "partial", "failed archive_limit", found=False),
    case("epub that claims much", "a.epub", lambda w: claiming(inputs.epub(w), 300 << 20),
         "failed archive_limit"),
    case("odt that claims much", "a.odt", lambda w: claiming(inputs.odt(w), 300 << 20),
         "failed archive_limit"),
    case("flate bomb", "a.pdf", lambda w: pdfs.flate_bomb(w), "completed", "partial",
         "failed timeout", "failed out_of_memory", found=False),
    case("picture bomb in a pdf", "a.pdf", lambda w: pdfs.picture_bomb(w), "completed", "partial"),
    case("png bomb", "a.png", lambda w: inputs.png(30_000, 30_000), "failed image_limit"),
    case("png bomb that is whole", "a.png", lambda w: inputs.png_black(30_000),
         "failed image_limit"),
    case("png without area", "a.png", lambda w: inputs.png(0, 30_000), "failed corrupt"),
    case("jpeg bomb", "a.jpg", lambda w: inputs.jpeg_header(65_500, 65_500), "failed image_limit"),
    case("bmp bomb", "a.bmp", lambda w: inputs.bmp_header(30_000, 30_000), "failed image_limit"),
    case("webp bomb", "a.webp", lambda w: inputs.webp_header(16_383, 16_383),
         "failed image_limit"),
    case("tiff bomb", "a.tiff", lambda w: inputs.tiff(1, 1, 1).replace(
        b"\0\1\4\0\1\0\0\0\1\0\0\0\1\1\4\0\1\0\0\0\1\0\0\0",
        b"\0\1\4\0\1\0\0\0\x30\x75\0\0\1\1\4\0\1\0\0\0\x30\x75\0\0"), "failed image_limit"),
    case("tiff of many frames", "a.tiff", lambda w: inputs.tiff(6000), "failed too_many_pages"),
    case("tiff of some frames", "a.tiff", lambda w: inputs.tiff(40, 8, 8), "completed",
         found=False),
    case("tiff without end", "a.tiff", lambda w: inputs.tiff(3, 8, 8, loop=True),
         "failed too_many_pages", "failed corrupt"),
    case("deep html", "a.html", lambda w: f"<p>{w}</p>".encode() + b"<div>" * 100_000 + b"deep",
         "completed", "partial"),
    case("deep html of tables", "a.html", lambda w: f"<p>{w}</p>".encode() +
         b"<table><tr><td>" * 20_000 + b"deep", "completed", "partial"),
    case("deep html of formatting", "a.html", lambda w: f"<p>{w}</p>".encode() +
         b"<b><i><font>" * 30_000 + b"deep", "completed", "partial"),
    case("deep markdown", "a.md", lambda w: f"{w}\n\n".encode() + b"> " * 20_000 + b"deep\n\n" +
         b"[" * 50_000 + b"*_" * 50_000, "completed", "partial"),
    case("deep docx", "a.docx", lambda w: inputs.docx_nested(w, 400), "completed", "partial",
         "failed corrupt", found=False),
    case("deep arrays in a pdf", "a.pdf", lambda w: pdfs.write(
        [b"<< /Type /Catalog /Pages 2 0 R /X " + b"[" * 100_000 + b" >>"] +
        pdfs.bodies_of([w])[1:]), "completed", "partial", "failed corrupt", "failed no_pages",
        found=False),
    case("wide csv", "a.csv", lambda w: (w + ",x" * 200_000 + "\n" + ",y" * 200_000).encode(),
         "completed", "partial"),
]

# Read side by side, because each keeps a reader busy for many seconds.
LONG = [
    case("forms that draw for ever", "a.pdf", lambda w: pdfs.form_bomb(), "partial",
         "failed timeout", "failed out_of_memory", "failed corrupt", found=False),
    case("picture bomb in a docx", "a.docx",
         lambda w: inputs.docx_with_picture(w, inputs.png_black(20_000)), "completed", "partial"),
    case("one line of twenty MB", "a.txt", lambda w: (w + " " + " ".join(
        inputs.words(4_000_000)))[:20_000_000].encode(), "completed", "partial",
        "failed too_many_pages"),
    case("one word of two MB", "a.txt", lambda w: (w + " " + "x" * 2_000_000).encode(),
         "completed", "partial"),
    case("huge csv", "a.csv", lambda w: "\n".join(
        [f"{w},b,c,d"] + [",".join(inputs.words(4, seed)) for seed in range(40_000)]).encode(),
        "completed", "partial", "failed too_many_pages"),
]

XML = [
    case("billion laughs in docx", "a.docx", lambda w: inputs.zipped(inputs.docx_parts(
        inputs.paragraph("&k;"), doctype=inputs.LAUGHS)), "failed forbidden_xml"),
    case("billion laughs in its types", "a.docx", lambda w: inputs.zipped(inputs.docx_parts(
        inputs.paragraph(w), types_doctype=inputs.LAUGHS)), "failed forbidden_xml",
        "failed corrupt"),
    case("xxe in docx", "a.docx", lambda w: inputs.zipped(inputs.docx_parts(
        inputs.paragraph("&passwd;"), doctype=inputs.PASSWD)), "failed forbidden_xml"),
    case("xxe in utf-16", "a.docx", lambda w: inputs.zipped({
        **inputs.docx_parts(""), "word/document.xml": inputs.docx_parts(
            inputs.paragraph("&passwd;"), doctype=inputs.PASSWD)["word/document.xml"].replace(
                "UTF-8", "UTF-16").encode("utf-16")}), "failed forbidden_xml"),
    case("xxe in xlsx", "a.xlsx", lambda w: inputs.zipped(inputs.xlsx_parts(
        [["&passwd;"]], doctype=inputs.PASSWD)), "failed forbidden_xml"),
    case("xxe in pptx", "a.pptx", lambda w: inputs.pptx_with_doctype(), "failed forbidden_xml"),
    case("xxe in odt", "a.odt", lambda w: inputs.odt(
        f"<text:p>{w} &passwd;</text:p>", doctype=inputs.PASSWD), "completed", "partial",
        "failed corrupt", "failed forbidden_xml", found=False),
    case("billion laughs in odt", "a.odt", lambda w: inputs.odt(
        "<text:p>&k;</text:p>", doctype=inputs.LAUGHS), "failed corrupt", "failed forbidden_xml",
        "failed timeout", "failed out_of_memory", "partial", "completed", found=False),
    case("xxe in epub", "a.epub", lambda w: inputs.epub(
        f"<p>{w} &passwd;</p>", doctype=inputs.PASSWD), "completed", "partial", "failed corrupt",
        "failed forbidden_xml", found=False),
    case("billion laughs in epub", "a.epub", lambda w: inputs.epub(
        f"<p>{w} &k;</p>", doctype=inputs.LAUGHS), "completed", "partial", "failed corrupt",
        "failed forbidden_xml", found=False),
    case("xxe in html", "a.html", lambda w: f"{inputs.PASSWD}<p>{w} &passwd;</p>".encode(),
         "completed"),
]


def send(server, case):
    """As the table writes it where it is refused; else the job's and the document's ids."""
    reply = server.upload(case.make(word_of(case.name)), case.filename)
    if reply.status >= 400:
        return f"{reply.status} {reply.code}", None
    assert reply.status == 202, reply.body
    sent = reply.json["documents"][0]
    return None, (sent["job_id"], sent["doc_id"])


def end(server, job_id, doc_id, seconds):
    """As the table writes it, and the document."""
    job = server.wait_job(job_id, seconds)
    document = server.document(doc_id)
    if document["status"] != "failed":
        assert job["state"] == "completed"
        return document["status"], document
    assert job["state"] == "failed"
    assert document["error"] == job["error"] and job["error"]["message"]
    code = job["error"]["code"]
    if code not in ("parser_crash", "out_of_memory", "parser_protocol"):
        assert job["attempts"] == 1, "tried again although it cannot help"
    return f"failed {code}", document


def check_document(server, case, document):
    """What was read is whole: every picture there and of a sane size, its word found."""
    for page in document["pages"]:
        for url in (page["image_url"], page["thumb_url"]):
            if url:
                picture = server.get(url)
                assert picture.status == 200
                assert max(sides_of_jpeg(picture.body)) <= 8192
    markdown = server.get(f"/documents/{document['doc_id']}/markdown")
    assert markdown.status == 200
    assert PASSWD_MARK not in markdown.body.decode()
    if case.format:
        assert document["format"] == case.format
    if document["status"] == "partial":
        assert document["warning"]
    if case.found:
        assert document["doc_id"] in [hit["doc_id"] for hit in server.search(word_of(case.name))]


def check(server, case, ended, document):
    assert ended in case.ends, document and (document["error"] or document["warning"])
    if document and document["status"] != "failed":
        check_document(server, case, document)
    assert server.search(f'"{PASSWD_MARK}"') == []


def name_of(case):
    return case.name.replace(" ", "-")


@pytest.mark.parametrize("case", DAMAGED + ENCRYPTED + MISNAMED + BOMBS + XML, ids=name_of)
def test_file(server, case):
    ended, ids = send(server, case)
    ended, document = (ended, None) if ended else end(server, *ids, 60)
    check(server, case, ended, document)
    settle(server)


@pytest.fixture(scope="module")
def long_ones(server):
    """What was sent of LONG, all of it at once."""
    return {case.name: send(server, case)[1] for case in LONG}


@pytest.mark.parametrize("case", LONG, ids=name_of)
def test_long_file(server, long_ones, case):
    job_id, doc_id = long_ones[case.name]
    deadline = time.monotonic() + 240 * SLOW
    while server.get(f"/jobs/{job_id}").json["state"] in ("queued", "processing"):
        begun = time.monotonic()
        assert server.get("/health", timeout=10).status == 200
        assert time.monotonic() - begun < 1
        assert begun < deadline
        time.sleep(0.2)
    check(server, case, *end(server, job_id, doc_id, 1))


def test_after_long_files(server):
    settle(server)


def test_encrypted_pdf_of_others(server):
    path = CORPUS / "pdf" / "libreoffice-writer-password.pdf"
    if not path.exists():
        pytest.skip(f"no corpus at {CORPUS}")
    job, document = server.read(path.read_bytes(), path.name)
    assert (job["error"]["code"], job["attempts"]) == ("password_required", 1)
    settle(server)


# ---- nothing is fetched --------------------------------------------------------------------------

LINKING = {
    "a.docx": inputs.docx_with_links,
    "a.odt": inputs.odt_with_links,
    "a.rtf": inputs.rtf_with_links,
    "a.html": inputs.html_with_links,
    "a.md": lambda word, url: f"links of the {word} note ![picture]({url}/md.png)\n\n"
                              f"<img src='{url}/raw.png'>\n".encode(),
    "a.epub": lambda word, url: inputs.epub(
        f"<p>links of the {word} book</p><img src='{url}/a.png'/>"
        f"<object data='{url}/b.svg'></object>"),
    "a.pdf": pdfs.active,
}


@pytest.mark.parametrize("filename", LINKING)
def test_nothing_is_fetched(server, canary, filename):
    word = word_of("fetch" + filename)
    job, document = server.read(LINKING[filename](word, canary.url), filename)
    assert job["state"] == "completed", job
    assert document["doc_id"] in [hit["doc_id"] for hit in server.search(word)]
    assert document["pages"] and all(page["image_url"] for page in document["pages"])
    time.sleep(0.3)
    assert canary.visits == []
    settle(server)


def test_the_canary_would_notice(canary):
    with socket.create_connection(canary.socket.getsockname()) as visitor:
        visitor.sendall(b"GET / HTTP/1.0\r\n\r\n")
        visitor.recv(100)
    assert len(canary.visits) == 1
    canary.visits.clear()


def test_linked_picture_of_others(server, canary):
    path = CORPUS / "docx" / "docx_external_image.docx"
    if not path.exists():
        pytest.skip(f"no corpus at {CORPUS}")
    job, _ = server.read(path.read_bytes(), path.name)
    assert job["state"] == "completed"


# ---- names ---------------------------------------------------------------------------------------

# The name as it is sent; the name that is shown then.
NAMES = {
    "climbing": (b"../../../../etc/cron.d/evil.txt", "evil.txt"),
    "absolute": (b"/etc/cron.d/evil.txt", "evil.txt"),
    "backslashes": (rb"C:\Users\me\evil.txt", "evil.txt"),
    "climbing by backslashes": (rb"..\..\evil.txt", "evil.txt"),
    "hidden": (b".txt", None),
    "invalid utf-8": (b"bad \xff\xfe\xc0\xaf name.txt", None),
    "latin-1": ("Übersicht.txt".encode("latin-1"), None),
    "right to left": ("\u202etxt.exe \u05e9\u05dc\u05d5\u05dd.txt".encode(), None),
    "emoji": ("\U0001F4C4 report \U0001F469\u200d\U0001F52C.txt".encode(), None),
    "composed": ("caf\u00e9 composed.txt".encode(), "caf\u00e9 composed.txt"),
    "decomposed": ("cafe\u0301 decomposed.txt".encode(), "cafe\u0301 decomposed.txt"),
    "markup": (b"<img src=x onerror=alert(1)>&amp;.txt", "<img src=x onerror=alert(1)>&amp;.txt"),
    "255 bytes": (b"n" * 251 + b".txt", "n" * 251 + ".txt"),
    "255 bytes of accents": ("é".encode() * 125 + b"_.txt", "é" * 125 + "_.txt"),
    "longer": (b"m" * 600 + b".txt", None),
    "longer, of emoji": ("\U0001F4C4".encode() * 200 + b".txt", None),
    "percent": (b"100%25%0A%00done.txt", None),
    "shell": (b"$(touch x);`id`|&.txt", "$(touch x);`id`|&.txt"),
    "device": (b"CON.txt", "CON.txt"),
    "sql": (b"a'); DROP TABLE documents; --.txt", "a'); DROP TABLE documents; --.txt"),
}


@pytest.mark.parametrize("name", NAMES)
def test_name(server, name):
    sent, shown = NAMES[name]
    before = sorted(path.name for path in server.data_dir.parent.iterdir())
    word = word_of("name" + name)
    job, document = server.read(f"named so: {word}".encode(), sent)
    assert job["state"] == "completed", job
    got = document["filename"]
    assert shown is None or got == shown
    assert 0 < len(got.encode()) <= 255 and "/" not in got and got not in (".", "..")
    assert all(ord(c) >= 0x20 and ord(c) != 0x7F for c in got)
    hit = server.search(word)[0]
    assert (hit["doc_id"], hit["filename"]) == (document["doc_id"], got)
    original = server.get(f"/documents/{document['doc_id']}/original")
    assert original.body == f"named so: {word}".encode()
    assert original.headers["Content-Disposition"].startswith("attachment")
    assert original.headers["X-Content-Type-Options"] == "nosniff"
    assert sorted(path.name for path in server.data_dir.parent.iterdir()) == before
    settle(server)


@pytest.mark.parametrize("name", [b"two\r\nlines.txt", b"two\nlines.txt", b"nul\0byte.txt",
                                  b'quote".txt', b'quoted\\".txt', b""])
def test_name_that_breaks_the_header(server, name):
    """Either no file at all, or one under a name without control characters."""
    reply = server.upload(b"whatever it is called " + name.hex().encode(), name)
    assert reply.status in (202, 400, 415), reply.body
    if reply.status == 202:
        sent = reply.json["documents"][0]
        server.wait_job(sent["job_id"])
        assert all(ord(c) >= 0x20 for c in server.document(sent["doc_id"])["filename"])
    settle(server)


def test_names_from_paths(server):
    """POST /process: names that no multipart header could carry."""
    folder = server.data_dir / "uploads"
    folder.mkdir(exist_ok=True)
    for i, name in enumerate([b"two\nlines.txt", b"bell\x07\x1b[31m.txt", b"bad \xff\xfe.txt",
                              "cafe\u0301.txt".encode(), b"y" * 251 + b".txt"]):
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "wb") as file:
            file.write(b"from a path, number %d" % i)
        shown = os.fsdecode(name).encode("utf-8", "replace").decode()
        if b"\xff" in name:
            continue  # JSON cannot say it
        reply = server.request("POST", "/process", {"file_path": os.fsdecode(path),
                                                    "filename": shown})
        assert reply.status == 200, reply.body
        server.wait_job(reply.json["job_id"])
        got = server.document(reply.json["doc_id"])["filename"]
        assert all(ord(c) >= 0x20 for c in got) and len(got.encode()) <= 255
    settle(server)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../../../etc/passwd", "link.txt",
                                  "/proc/self/environ", "/dev/zero"])
def test_path_outside_the_roots(server, path):
    folder = server.data_dir / "uploads"
    folder.mkdir(exist_ok=True)
    link = folder / "link.txt"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    reply = server.request("POST", "/process", {"file_path": str(folder / path),
                                                "filename": "passwd.txt"})
    assert (reply.status, reply.code) == (403, "path_forbidden")
    assert server.search(f'"{PASSWD_MARK}"') == []


def test_members_climb_nowhere(server, tmp_path):
    word = word_of("climbing members")
    mark = f"escaped-{os.getpid()}"
    data = inputs.docx_climbing(word, [f"../../../../../../../../{tmp_path}/{mark}",
                                       f"{tmp_path}/{mark}", f"/tmp/{mark}", f"../{mark}",
                                       f"word/../../../{mark}", f"..\\{mark}"])
    job, document = server.read(data, "a.docx")
    assert job["state"] in ("completed", "failed")
    places = [tmp_path, server.data_dir, server.data_dir.parent, server.data_dir / "documents"]
    assert not [place for place in places if (place / mark).exists()]
    assert not os.path.exists(f"/tmp/{mark}")
    settle(server)


# ---- again ---------------------------------------------------------------------------------------

def test_failed_is_not_tried_again_by_itself(server):
    job, _ = server.read(pdfs.garbage(21), "again.pdf")
    assert (job["state"], job["attempts"]) == ("failed", 1)
    time.sleep(2)
    later = server.get(f"/jobs/{job['job_id']}").json
    assert (later["state"], later["attempts"]) == ("failed", 1)


def test_retry_of_a_failure_fails_once_more(server):
    job, document = server.read(pdfs.garbage(22), "retry.pdf")
    assert job["state"] == "failed"
    reply = server.request("POST", f"/jobs/{job['job_id']}/retry")
    assert reply.status == 200, reply.body
    again = server.wait_job(job["job_id"])
    assert again["state"] == "failed" and again["error"]["code"] == job["error"]["code"]
    time.sleep(1.5)
    assert server.get(f"/jobs/{job['job_id']}").json["attempts"] == again["attempts"]
    assert server.document(document["doc_id"])["status"] == "failed"
    settle(server)


def test_same_bytes_after_a_failure_are_queued_again(server):
    data = pdfs.garbage(23)
    job, document = server.read(data, "first.pdf")
    reply = server.upload(data, "second.pdf")
    sent = reply.json["documents"][0]
    assert reply.status == 202 and sent["doc_id"] == document["doc_id"]
    assert sent["job_id"] != job["job_id"]
    assert server.wait_job(sent["job_id"])["state"] == "failed"
    listed = server.get("/documents", search=".pdf", limit=100).json["documents"]
    assert [d["doc_id"] for d in listed].count(document["doc_id"]) == 1


def test_good_among_bad_in_one_request(server):
    """A part that is refused does not take the others with it."""
    boundary = "b7d1e"
    parts = [("one.txt", b"the first of the mixed request"), ("two.exe", b"MZ\0\0"),
             ("three.txt", b""), ("four.txt", b"the fourth of the mixed request")]
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        .encode() + data + b"\r\n" for name, data in parts) + f"--{boundary}--\r\n".encode()
    reply = server.request("POST", "/documents", body,
                           {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert reply.status == 202
    sent = reply.json["documents"]
    assert [d["status"] for d in sent] == ["queued", "failed", "failed", "queued"]
    assert [d["error"]["code"] for d in sent[1:3]] == ["unsupported_type", "empty_file"]
    for one in (sent[0], sent[3]):
        assert server.wait_job(one["job_id"])["state"] == "completed"
    settle(server)
