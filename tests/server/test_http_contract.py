"""Every call of the contract against the real server: statuses, shapes, headers."""

import hashlib
import json
import re
import urllib.parse

import pytest

from browser_files import make_pdf
from wire import multipart, part

UNKNOWN = "0" * 64
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def report(server):
    """A document of two pages that is there: (document, its bytes)."""
    data = make_pdf([[(72, 700, 12, "The quarterly report says: pelicans everywhere.")],
                     [(72, 700, 12, "Second page: cormorants.")]])
    job, document = server.read(data, "quarterly report.pdf")
    assert job["state"] == "completed", job
    return document, data


# ---- the four older calls --------------------------------------------------------------------


def uploads_folder(server):
    folder = server.data_dir / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_process_and_delete(server):
    path = uploads_folder(server) / "hooked.txt"
    path.write_text("Hooked by the old hook: ptarmigan.\n")
    doc_id = hashlib.sha256(path.read_bytes()).hexdigest()
    names = {"file_path": str(path), "filename": "hooked.txt"}
    reply = server.request("POST", "/process", names)
    assert reply.status == 200
    assert reply.json["message"] == "Processing queued for hooked.txt"
    assert (reply.json["status"], reply.json["doc_id"]) == ("queued", doc_id)
    server.wait_job(reply.json["job_id"])
    assert [hit["doc_id"] for hit in server.search("ptarmigan")] == [doc_id]
    reply = server.request("POST", "/delete", names)
    assert reply.status == 200
    assert reply.json["status"] == "success" and reply.json["doc_id"] == doc_id
    assert reply.json["text_deleted"] >= 1 and "visual_deleted" in reply.json
    assert server.search("ptarmigan") == []
    reply = server.request("POST", "/delete", names)
    assert (reply.status, reply.json["status"]) == (200, "not_found")


def test_delete_finds_by_source_path_when_the_file_is_gone(server):
    path = uploads_folder(server) / "vanishing.txt"
    path.write_text("Vanishing: dotterel.\n")
    names = {"file_path": str(path), "filename": "vanishing.txt"}
    server.wait_job(server.request("POST", "/process", names).json["job_id"])
    path.unlink()
    wrong_path = {"file_path": str(path) + "x", "filename": "vanishing.txt"}
    assert server.request("POST", "/delete", wrong_path).json["status"] == "not_found"
    assert server.request("POST", "/delete", names).json["status"] == "success"


def test_process_statuses(server, tmp_path):
    uploads = uploads_folder(server)
    (tmp_path / "outside.txt").write_text("outside")
    (uploads / "link.txt").symlink_to(tmp_path / "outside.txt")
    (uploads / "empty.txt").write_text("")
    (uploads / "program.exe").write_bytes(b"MZ\x00\x01\x02")
    (uploads / "a folder").mkdir()

    def status(path, filename="x.txt"):
        body = {"file_path": str(path), "filename": filename}
        return server.request("POST", "/process", body).status

    assert status(uploads / "absent.txt") == 404
    assert status(tmp_path / "outside.txt") == 403
    assert status(uploads / "link.txt") == 403
    assert status(str(uploads) + "/../../outside.txt") == 403
    assert status("/etc/passwd") == 403
    assert status(uploads / "empty.txt") == 400
    assert status(uploads / "a folder") == 400
    assert status(uploads / "program.exe", "program.exe") == 415
    for body in ("", "{", "[]", "null", '{"file_path":"/a"}', '{"filename":"a"}',
                 '{"file_path":1,"filename":"a"}', '{"file_path":"","filename":""}'):
        reply = server.request("POST", "/process", body, {"Content-Type": "application/json"})
        assert reply.status == 400, body
        assert reply.json["detail"] == reply.json["error"]["message"]


def test_status_counts_truly(start):
    server = start()
    before = server.get("/status").json
    assert before["status"] == "healthy"
    assert (before["processing_count"], before["total_processed"]) == (0, 0)
    server.read(b"One text.", "one.txt")
    after = server.get("/status").json
    assert (after["processing_count"], after["total_processed"]) == (0, 1)


def test_health(server):
    for path in ("/health", "/healthz"):
        reply = server.get(path)
        assert reply.status == 200
        health = reply.json
        assert health["status"] == "healthy" and ISO.fullmatch(health["timestamp"])
        assert health["device"]["used"] == "cpu"
        assert {model["state"] for model in health["models"]} == {"not_installed"}
        for model, name in zip(health["models"], ("vidore/colpali-v1.2",
                                                  "sentence-transformers/all-MiniLM-L6-v2")):
            assert (model["name"], model["precision"]) == (name, None) and model["reason"]
            assert model["waiting"] == model["embedded"] == 0
        assert health["vector_spaces"] == []
        assert health["store"] == {"kind": "embedded", "reachable": True}
        assert health["sandbox"]["level"] and health["disk_free_bytes"] > 0
        assert {"waiting", "running"} <= health["queue"].keys()
    assert server.get("/livez").status == server.get("/readyz").status == 200


# ---- documents -------------------------------------------------------------------------------


def test_upload_again_is_200_with_the_same_id(server):
    first = server.upload(b"Uploaded twice: godwit.", "godwit.txt")
    assert first.status == 202
    entry = first.json["documents"][0]
    assert entry["status"] == "queued" and entry["filename"] == "godwit.txt"
    assert entry["doc_id"] == hashlib.sha256(b"Uploaded twice: godwit.").hexdigest()
    server.wait_job(entry["job_id"])
    again = server.upload(b"Uploaded twice: godwit.", "another name.txt")
    assert again.status == 200
    assert again.json["documents"][0]["doc_id"] == entry["doc_id"]
    assert again.json["documents"][0]["status"] == "completed"


def test_several_files_in_one_request(server):
    body, headers = multipart(part("file", "a.txt", b"file a: avocet"),
                              part("comment", None, b"not a file"),
                              part("file", "b.txt", b"file b: bittern"),
                              part("file", "a2.txt", b"file a: avocet"),
                              part("file", "bad.exe", b"MZ\x01\x02"),
                              part("file", "", b""))
    reply = server.request("POST", "/documents", body, headers)
    assert reply.status == 202, reply.body
    documents = reply.json["documents"]
    assert [d["filename"] for d in documents] == ["a.txt", "b.txt", "a2.txt", "bad.exe"]
    assert documents[0]["doc_id"] == documents[2]["doc_id"] != documents[1]["doc_id"]
    assert documents[3]["status"] == "failed"
    assert documents[3]["error"]["code"] == "unsupported_type"
    for document in documents[:2]:
        assert server.wait_job(document["job_id"])["state"] == "completed"


def test_refused_uploads(server):
    assert server.upload(b"", "empty.txt").code == "empty_file"
    assert server.upload(b"", "empty.txt").status == 400
    assert server.upload(b"MZ\x01\x02", "program.exe").status == 415
    body, headers = multipart(part("comment", None, b"no file"))
    assert server.request("POST", "/documents", body, headers).status == 400
    assert server.request("POST", "/documents", b"{}", {
        "Content-Type": "application/json"}).status == 415
    body, headers = multipart(part("file", "cut.txt", b"cut off"))
    assert server.request("POST", "/documents", body[:-10], headers).status == 400
    assert server.request("GET", "/documents?search=cut.txt").json["total"] == 0


@pytest.mark.parametrize("name, shown", [
    ("../../etc/passwd.txt", "passwd.txt"),
    ("C:\\Users\\me\\thesis.txt", None),
    ("naïve 日本語 🦭.txt", "naïve 日本語 🦭.txt"),
    ('quote\\".txt', 'quote".txt'),
    ("semi;colon=.txt", "semi;colon=.txt"),
    ("x" * 300 + ".txt", None),
    (b"bad \xff\xfe.txt", "bad \ufffd\ufffd.txt"),
    ("<img src=x onerror=alert(1)>.txt", "<img src=x onerror=alert(1)>.txt"),
    ("..", None),
    (".txt", None),
])
def test_hostile_names(server, name, shown):
    data = b"A text named " + repr(name).encode()
    reply = server.upload(data, name)
    if reply.status == 415:  # without an extension nothing says what it is
        assert shown is None
        return
    assert reply.status == 202, reply.body
    entry = reply.json["documents"][0]
    assert server.wait_job(entry["job_id"])["state"] == "completed"
    document = server.document(entry["doc_id"])
    assert "/" not in document["filename"] and len(document["filename"].encode()) <= 255
    if shown is not None:
        assert document["filename"] == shown
    original = server.get(f"/documents/{entry['doc_id']}/original")
    assert original.status == 200 and original.body == data
    disposition = original.headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename=\"")
    said = urllib.parse.unquote(disposition.split("UTF-8''")[1])
    assert said == document["filename"]


def test_listing(start):
    server = start()
    for name in ("b.txt", "a.md", "c.csv"):
        server.read(f"Listed as {name},x".encode(), name)

    def names(**parameters):
        return [d["filename"] for d in server.get("/documents", **parameters).json["documents"]]

    assert names(sort_by="name_asc") == ["a.md", "b.txt", "c.csv"]
    assert names(sort_by="name_desc") == ["c.csv", "b.txt", "a.md"]
    assert names(sort_by="newest_first") == ["c.csv", "a.md", "b.txt"]
    assert names(sort_by="oldest_first") == ["b.txt", "a.md", "c.csv"]
    assert names(sort_by="name_asc", limit=1, offset=1) == ["b.txt"]
    assert names(search="A.M") == ["a.md"]
    assert names(file_type_group="pdf") == []
    listing = server.get("/documents", limit=2).json
    assert (listing["total"], listing["limit"], listing["offset"]) == (3, 2, 0)
    assert {"doc_id", "filename", "title", "format", "file_type_group", "size_bytes", "status",
            "page_count", "chunk_count", "date_added", "has_images", "first_page_thumb", "warning",
            "error"} <= listing["documents"][0].keys()
    assert ISO.fullmatch(listing["documents"][0]["date_added"])
    for wrong in ("limit=0", "limit=101", "limit=x", "offset=-1", "sort_by=size",
                  "file_type_group=films"):
        assert server.request("GET", f"/documents?{wrong}").status == 400, wrong


def test_one_document(server, report):
    document, _ = report
    assert document["status"] == "completed" and document["page_count"] == 2
    assert [page["page_number"] for page in document["pages"]] == [1, 2]
    chunk = document["chunks"][0]
    assert chunk["chunk_id"] == f"{document['doc_id']}-chunk0000"
    assert "pelicans" in chunk["text_content"]
    assert document["job"]["state"] == "completed" and document["job"]["progress"] == 1
    assert server.get(f"/documents/{UNKNOWN}").status == 404
    assert server.get("/documents/not-an-id").status == 400
    assert server.get(f"/documents/{UNKNOWN.upper()}x").status == 400


def test_pictures_are_kept_by_clients(server, report):
    page = report[0]["pages"][0]
    for url in (page["image_url"], page["thumb_url"]):
        reply = server.get(url)
        assert reply.status == 200 and reply.headers["Content-Type"] == "image/jpeg"
        assert reply.body.startswith(b"\xff\xd8") and reply.body.endswith(b"\xff\xd9")
        assert "max-age" in reply.headers["Cache-Control"]
        again = server.request("GET", url, headers={"If-None-Match": reply.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        head = server.request("HEAD", url)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == str(len(reply.body))
    doc_id = report[0]["doc_id"]
    assert server.get(f"/images/{doc_id}/page001_thumb.jpg").status == 200
    assert server.get(f"/documents/{doc_id}/pages/3.jpg").status == 404
    assert server.get(f"/documents/{doc_id}/pages/0.jpg").status == 400


def test_page_structure(server, report):
    doc_id = report[0]["doc_id"]
    page = server.get(f"/documents/{doc_id}/pages/2").json
    assert page["page"] == 2 and page["width"] > 0
    words = [word for element in page["elements"] for word in element["words"]]
    assert "cormorants." in [word["text"] for word in words]
    for word in words:
        x0, y0, x1, y1 = word["box"]
        assert 0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1
    assert server.get(f"/documents/{doc_id}/pages/3").status == 404


def test_markdown_and_json(server, report):
    doc_id = report[0]["doc_id"]
    reply = server.get(f"/documents/{doc_id}/markdown")
    assert reply.status == 200 and "pelicans" in reply.body.decode()
    assert reply.headers["Content-Type"].startswith("text/markdown")
    assert server.get(f"/documents/{doc_id}/json").status == 501


def test_html_is_never_served_as_a_page(server):
    data = b"<html><body><script>alert(document.domain)</script><p>petrel</p></body></html>"
    _, document = server.read(data, "evil.html")
    reply = server.get(f"/documents/{document['doc_id']}/original")
    assert reply.body == data
    assert reply.headers["Content-Disposition"].startswith("attachment")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in reply.headers["Content-Security-Policy"]


def test_delete(server):
    _, document = server.read(b"To be deleted: shearwater.", "deleted.txt")
    path = f"/documents/{document['doc_id']}"
    reply = server.request("DELETE", path)
    assert reply.status == 200 and reply.json["deleted"]["chunks"] >= 1
    assert server.get(path).status == server.request("DELETE", path).status == 404
    assert server.get(path + "/original").status == 404
    assert server.search("shearwater") == []
    assert server.upload(b"To be deleted: shearwater.", "deleted.txt").status == 202


# ---- search ----------------------------------------------------------------------------------


def test_search(server, report):
    document, _ = report
    reply = server.request("POST", "/search", {"query": "pelicans", "n_results": 5})
    assert reply.status == 200
    answer = reply.json
    assert answer["query"] == "pelicans" and answer["search_mode"] == "hybrid"
    assert answer["total_results"] == len(answer["results"]) == 1
    assert answer["stages"]["lexical"]["candidates"] >= 1
    assert "unavailable" in answer["stages"]["visual"]
    hit = answer["results"][0]
    assert (hit["rank"], hit["doc_id"], hit["page_num"]) == (1, document["doc_id"], 1)
    assert hit["image_url"] == document["pages"][0]["image_url"]
    assert [hit["text_preview"][a:b] for a, b in hit["highlights"]] == ["pelicans"]
    assert hit["page_width"] > 0 and len(hit["boxes"]) == 1
    x0, y0, x1, y1 = hit["boxes"][0]
    assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    assert hit["metadata"]["format"] == "pdf"
    by_get = server.get("/search", q="pelicans", n=5).json
    assert [h["doc_id"] for h in by_get["results"]] == [document["doc_id"]]


def test_search_highlights_count_code_points(server):
    _, document = server.read("𝔘𝔫𝔦 🦭🦭 naïve — whimbrel, Whimbrel".encode(), "whimbrel.txt")
    hit = server.search("whimbrel")[0]
    assert hit["doc_id"] == document["doc_id"]
    assert [hit["text_preview"][a:b] for a, b in hit["highlights"]] == ["whimbrel", "Whimbrel"]


@pytest.mark.parametrize("body, status", [
    ({}, 400), ({"query": ""}, 400), ({"query": "x" * 1000}, 200), ({"query": "x" * 1001}, 400),
    ({"query": "é" * 1000}, 200), ({"query": ["a"]}, 400),
    ({"query": "a", "n_results": 0}, 400), ({"query": "a", "n_results": 101}, 400),
    ({"query": "a", "n_results": 2.5}, 400), ({"query": "a", "search_mode": "best"}, 400),
    ({"query": "a", "filters": {"colour": "red"}}, 400), ({"query": "a", "filters": "x"}, 400),
    ({"query": "a", "exact": True}, 200), ({"query": "a", "exact": None}, 200),
    ({"query": "a", "exact": "yes"}, 400), ({"query": "a", "exact": 1}, 400),
    ({"query": "a", "search_mode": "visual"}, 503), ({"query": "a", "search_mode": "text"}, 200),
    ({"query": '"((* NEAR AND OR NOT -:^ \' ""'}, 200), ({"query": "\u0000\u0007"}, 400),
    ({"query": "  "}, 200), ({"query": "東京"}, 200), ({"query": "-pelicans"}, 200),
])
def test_search_judges_questions(server, body, status):
    reply = server.request("POST", "/search", body)
    assert reply.status == status, reply.body
    if status == 503:
        assert reply.code == "model_not_installed"


def test_search_filters(server, report):
    doc_id = report[0]["doc_id"]

    def found(**filters):
        reply = server.request("POST", "/search", {"query": "cormorants", "filters": filters})
        assert reply.status == 200, reply.body
        return [hit["doc_id"] for hit in reply.json["results"]]

    assert found() == found(format="pdf") == found(doc_id=doc_id) == [doc_id]
    assert found(doc_id=[UNKNOWN, doc_id]) == found(page_from=2) == [doc_id]
    assert found(format=["docx", "images"]) == found(doc_id=UNKNOWN) == found(page_from=3) == []
    assert found(added_from="2001-01-01") == [doc_id] and found(added_to="2001-01-01") == []


def test_search_filters_of_get(server, report):
    def asked(**parameters):
        query = urllib.parse.urlencode({"query": "cormorants", **parameters})
        return server.get(f"/search?{query}")

    for filters, n in (({"format": "pdf"}, 1), ({"format": ["docx"]}, 0), ({}, 1)):
        assert asked(filters=json.dumps(filters)).json["total_results"] == n
    assert asked(filters='{"format":"pdf"}', page_from=3).json["total_results"] == 0
    for odd in ("pdf", "[]", "5", "{", '{"colour":"red"}', '{"page_from":"one"}'):
        assert asked(filters=odd).status == 400, odd


# ---- jobs ------------------------------------------------------------------------------------


def test_jobs(server, report):
    job = report[0]["job"]
    assert server.get(f"/jobs/{job['job_id']}").json == job
    assert {"job_id", "doc_id", "filename", "state", "stage", "page", "pages", "progress", "elapsed",
            "estimated_remaining", "attempts", "max_attempts", "error", "created_at",
            "started_at", "finished_at", "next_attempt_at"} <= job.keys()
    listing = server.get("/jobs", state="completed", limit=1).json
    assert len(listing["jobs"]) == 1 and listing["total"] >= 1
    assert server.get("/jobs", state="lost").status == 400
    assert server.get("/jobs/999999").status == 404
    assert server.get("/jobs/x").status == 400
    for verb in ("cancel", "retry"):
        assert server.request("POST", f"/jobs/{job['job_id']}/{verb}").status == 409
        assert server.request("POST", f"/jobs/999999/{verb}").status == 404


def test_a_failed_job_says_why_and_can_be_tried_again(server):
    job, document = server.read(b"%PDF-1.4 nothing more", "broken.pdf")
    assert job["state"] == "failed" and job["error"]["code"] in ("corrupt", "no_pages")
    assert document["status"] == "failed" and document["error"] == job["error"]
    retried = server.request("POST", f"/jobs/{job['job_id']}/retry")
    assert retried.status == 200
    assert server.wait_job(job["job_id"])["state"] == "failed"


def test_older_status_calls(server, report):
    document = report[0]
    queue = server.get("/status/queue").json
    assert {"queue", "total", "active", "completed", "failed"} == queue.keys()
    assert {"doc_id", "filename", "status", "progress", "elapsed_time", "timestamp",
            "error"} == queue["queue"][0].keys()
    status = server.get(f"/status/{document['doc_id']}").json
    assert (status["status"], status["total_pages"], status["stage"]) == ("completed", 2,
                                                                          "completed")
    assert server.get(f"/status/{UNKNOWN}").status == 404


# ---- the rest --------------------------------------------------------------------------------


def test_formats(server):
    formats = server.get("/config/supported-formats").json
    assert {".pdf", ".docx", ".txt", ".png"} <= set(formats["extensions"])
    assert [group["id"] for group in formats["groups"]] == ["pdf", "office", "text", "images"]
    assert sorted(e for g in formats["groups"] for e in g["extensions"]) == sorted(
        formats["extensions"])


def test_metrics(server, report):
    reply = server.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain")
    text = reply.body.decode()
    values = {}
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .*|[a-z_]\w*(\{[^}]*\})? [-+.e\dInf]+', line), line
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    assert values['docusearch_jobs{state="completed"}'] >= 1
    assert values["process_resident_memory_bytes"] > 1e6
    assert values["process_start_time_seconds"] > 1.6e9
    assert values["docusearch_database_bytes"] > 0
    for name in ("docusearch_stage_seconds", "docusearch_search_seconds"):
        assert f"# TYPE {name} histogram" in text
    assert any("queue" in name for name in values)


def test_openapi_describes_what_is_there(server):
    description = server.get("/openapi.json").json
    assert description["openapi"].startswith("3.")
    for path, methods in description["paths"].items():
        for method, call in methods.items():
            filled = (path.replace("{doc_id}", UNKNOWN).replace("{n}", "1")
                      .replace("{job_id}", "999999").replace("{file}", "page001.jpg"))
            if path == "/events":
                continue
            reply = server.request(method.upper(), filled)
            assert str(reply.status) in call["responses"] or reply.status == 400, (method, path)
            assert reply.status != 405
    assert server.get("/docs").headers["Content-Type"].startswith("text/html")


def test_page(server):
    reply = server.get("/")
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/html")
    policy = reply.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    again = server.request("GET", "/", headers={"If-None-Match": reply.headers["ETag"]})
    assert again.status == 304
    for asset in re.findall(r'(?:src|href)="(/?[\w.-]+\.(?:js|css|svg))"', reply.body.decode()):
        found = server.get("/" + asset.lstrip("/"))
        assert found.status == 200, asset
        assert found.headers["X-Content-Type-Options"] == "nosniff"


def test_unknown_paths_and_methods(server):
    reply = server.get("/nowhere")
    assert reply.status == 404 and json.loads(reply.body)["detail"]
    reply = server.request("PUT", "/documents", b"")
    assert reply.status == 405
    assert sorted(reply.headers["Allow"].split(", ")) == ["GET", "POST"]
    assert server.request("DELETE", "/health").status == 405
    for path in ("/..%2f..%2fetc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/index.html/..",
                 "/%00", "/%ff", "/a%"):
        assert server.request("GET", path).status in (400, 404), path
