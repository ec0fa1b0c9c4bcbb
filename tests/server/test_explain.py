"""Why a page: the words of a question over the patches of a page, as JSON and as a heat map. The model
is a small random one: where its words point means nothing, but it is computed again here from the
vectors that /v1/embeddings gives."""

import base64
import struct
import time
import zlib

import pytest

from running import SLOW
from browser_files import PAGE_HEIGHT, PAGE_WIDTH, make_pdf

numpy = pytest.importorskip("numpy", reason="numpy makes the checkpoints")

QUESTION = "What does the wiring, really cost?"
# Vectors of each word: <bos>, "Question" and ":▁" come first; the tokenizer cuts "What▁" in two,
# "wiring" into five before a comma, "really▁" into four behind a blank, "cost" into three before "?".
WORDS = {"What": (3, 2), "does": (5, 1), "the": (6, 1), "wiring": (7, 5), "really": (14, 4),
         "cost": (18, 3)}
INT8 = 0.02  # how far a dot product of unit vectors may be off, the stored one being int8


@pytest.fixture
def serve(start, checkpoint, tmp_path):
    def serve_one(visual="colpali-merged", name="data", **settings):
        model = str(checkpoint(visual)) if visual != "none" else visual
        server = start(name=name, TEXT_MODEL="none", MODEL_NAME=model, MODEL_PRECISION="fp32",
                       MODELS_DIR=str(tmp_path / "models"), **settings)
        deadline = time.monotonic() + 60 * SLOW
        while any(entry["state"] == "loading" for entry in server.get("/health").json["models"]):
            assert time.monotonic() < deadline, "the model does not load"
            time.sleep(0.02)
        return server

    return serve_one


def add(server):
    job, document = server.read(make_pdf([
        [(72, 700, 24, "An opening page"), (300, 200, 18, "with a heron on it")],
        [(72, 400, 30, "and a second"), (80, 100, 12, "small print")]]), "pages.pdf")
    assert job["state"] == "completed", job
    return document["doc_id"]


def explain(server, doc_id, page=1, query=QUESTION, **more):
    reply = server.get(f"/documents/{doc_id}/pages/{page}/explain", query=query, **more)
    assert reply.status == 200, reply.body
    return reply.json


def heatmap(server, doc_id, page=1, query=QUESTION, **more):
    reply = server.get(f"/documents/{doc_id}/pages/{page}/heatmap.png", query=query, **more)
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "image/png"
    return decoded(reply.body)


def decoded(data):
    """A PNG's pixels, height × width × 4, by the file format's own rules, each checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, kinds = 8, b"", []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + body)
        kinds.append(kind)
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            assert rest == [8, 6, 0, 0, 0]  # 8 bits, colour with alpha, not interlaced
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND" and at == len(data)
    lines = numpy.frombuffer(zlib.decompress(packed), numpy.uint8).reshape(height, 1 + 4 * width)
    out = numpy.zeros((height, width, 4), numpy.uint8)
    above = numpy.zeros((width, 4), numpy.uint8)
    for y, line in enumerate(lines):
        row = line[1:].reshape(width, 4)
        assert line[0] in (0, 1, 2)  # none, sub, up: what this writer uses
        if line[0] == 1:
            row = numpy.cumsum(row, axis=0, dtype=numpy.uint8)
        elif line[0] == 2:
            row = row + above
        out[y] = above = row
    return out


def vectors(server, given, input_type):
    name = [m["name"] for m in server.get("/health").json["models"] if m["kind"] == "visual"][0]
    reply = server.request("POST", "/v1/embeddings", {
        "model": name, "input": [given], "input_type": input_type, "multi_vector": True})
    assert reply.status == 200, reply.body
    return numpy.array(reply.json["data"][0]["embedding"])


def fits(server, doc_id, page, query):
    """Each question vector's similarity to each page vector, from vectors embedded anew."""
    picture = server.get(f"/documents/{doc_id}/pages/{page}.jpg").body
    image = {"image": "data:image/jpeg;base64," + base64.b64encode(picture).decode()}
    return vectors(server, query, "query") @ vectors(server, image, "passage").T


def places(values, most):
    """The rule of the boxes, anew: patches from 0.6 of the way from median to maximum that touch."""
    middle, largest = numpy.median(values), values.max()
    left = set(zip(*numpy.nonzero(values >= middle + 0.6 * (largest - middle))))
    found = []
    while left:
        group, edge = set(), {next(iter(left))}
        while edge:
            group |= edge
            left -= edge
            edge = {(y + dy, x + dx) for y, x in edge for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
        ys, xs = [y for y, _ in group], [x for _, x in group]
        height, width = values.shape
        found.append((-max(values[at] for at in group),
                      [min(xs) / width, min(ys) / height, (max(xs) + 1) / width,
                       (max(ys) + 1) / height]))
    return [box for _, box in sorted(found)][:most]


# ---- words and places --------------------------------------------------------------------------


def test_words_fit_patches_as_their_vectors_do(serve):
    server = serve()
    doc_id = add(server)
    for page in (1, 2):
        told = explain(server, doc_id, page, similarities="true")
        assert told["query"] == QUESTION and told["grid"] == [8, 8]
        assert [word["text"] for word in told["words"]] == list(WORDS)
        similar = fits(server, doc_id, page, QUESTION)
        total = numpy.zeros((8, 8))
        for word in told["words"]:
            first, n = WORDS[word["text"]]
            assert QUESTION[word["start"]:word["end"]] == word["text"]
            got = numpy.array(word["similarities"])
            wanted = similar[first:first + n, :64].mean(axis=0).reshape(8, 8)
            assert abs(got - wanted).max() < INT8, word["text"]
            assert word["max"] == pytest.approx(got.max(), abs=1e-6)
            assert numpy.allclose(word["boxes"], places(got, 3), atol=1e-6)
            assert 1 <= len(word["boxes"]) <= 3
            total += got
        assert numpy.allclose(told["similarities"], total, atol=1e-5)
        assert numpy.allclose(told["boxes"], places(numpy.array(told["similarities"]), 5), atol=1e-6)
    short = explain(server, doc_id)
    assert "similarities" not in short and "similarities" not in short["words"][0]
    assert short["words"][3]["boxes"] == explain(server, doc_id, 1, similarities="1")["words"][3]["boxes"]


def test_places_in_the_question_count_characters(serve):
    server = serve()
    doc_id = add(server)
    query = "«naïve» 中国 C++ ?! 🐦 über"
    words = explain(server, doc_id, query=query)["words"]
    assert [query[word["start"]:word["end"]] for word in words] == [word["text"] for word in words]
    assert [word["text"] for word in words] == ["naïve", "中", "国", "C", "über"]
    left_out = explain(server, doc_id, query='-heron heron -"on it" café')["words"]
    assert [(word["text"], word["start"]) for word in left_out] == [("heron", 7), ("café", 22)]
    signs = explain(server, doc_id, query="?!", similarities="true")
    assert signs["words"] == [] and signs["boxes"] == []
    assert numpy.abs(signs["similarities"]).max() == 0
    assert heatmap(server, doc_id, query="?!")[:, :, 3].max() == 0


# ---- the picture -------------------------------------------------------------------------------


def test_heatmap_is_strongest_where_the_page_fits_best(serve):
    server = serve()
    doc_id = add(server)
    told = explain(server, doc_id, similarities="true")
    maps = [told["similarities"]] + [word["similarities"] for word in told["words"]]
    for i, values in enumerate(maps):
        pixels = heatmap(server, doc_id, **({"word": i - 1} if i else {}))
        height, width = pixels.shape[:2]
        assert (height, width) == (512, round(512 * PAGE_WIDTH / PAGE_HEIGHT))
        alpha = pixels[:, :, 3].astype(int)
        values = numpy.array(values)
        y, x = numpy.unravel_index(values.argmax(), values.shape)
        ys, xs = numpy.nonzero(alpha == alpha.max())
        near = values.max() - 0.02 * (values.max() - numpy.median(values))  # they look alike
        cells = set(zip(ys * 8 // height, xs * 8 // width))
        assert (y, x) in cells and all(values[cell] >= near for cell in cells)
        middle = alpha[int((y + 0.5) * height / 8), int((x + 0.5) * width / 8)]
        assert alpha.max() - middle <= 1 and 150 < alpha.max() < 200
        # Patches at the median and below are clear; the weaker is never the more opaque.
        centers = numpy.array([[alpha[int((r + 0.5) * height / 8), int((c + 0.5) * width / 8)]
                                for c in range(8)] for r in range(8)])
        assert (centers[values < numpy.median(values) - 0.01] <= 2).all()
        order = values.flatten().argsort()
        assert (numpy.diff(centers.flatten()[order]) >= -2).all()


def test_heatmap_is_kept_and_named_by_all_that_it_is_made_of(serve):
    server = serve()
    doc_id = add(server)
    path = f"/documents/{doc_id}/pages/1/heatmap.png"
    first = server.get(path, query="heron")
    tags = {first.headers["ETag"]}
    assert first.headers["Cache-Control"].startswith("private")
    assert server.request("GET", path + "?q=heron", headers={
        "If-None-Match": first.headers["ETag"]}).status == 304
    for other in (server.get(path, query="herons"), server.get(path, query="heron", word=0),
                  server.get(path.replace("/1/", "/2/"), query="heron")):
        assert other.status == 200
        tags.add(other.headers["ETag"])
    assert len(tags) == 4


# ---- results -----------------------------------------------------------------------------------


def test_a_visual_hit_without_the_words_has_boxes_of_patches(serve):
    server = serve()
    doc_id = add(server)
    reply = server.request("POST", "/search", {"query": "zeppelin moorings", "search_mode": "visual"})
    hits = reply.json["results"]
    assert {hit["page_num"] for hit in hits} == {1, 2}
    for hit in hits:
        told = explain(server, doc_id, hit["page_num"], "zeppelin moorings")
        assert hit["box_kind"] == "patches"
        assert hit["boxes"] == told["boxes"] and 1 <= len(hit["boxes"]) <= 5
    reply = server.request("POST", "/search", {"query": "heron", "search_mode": "visual"})
    kinds = {hit["page_num"]: hit["box_kind"] for hit in reply.json["results"]}
    assert kinds == {1: "words", 2: "patches"}
    lexical = server.request("POST", "/search", {"query": "heron", "search_mode": "lexical"}).json
    assert [hit["box_kind"] for hit in lexical["results"]] == ["words"]


# ---- errors ------------------------------------------------------------------------------------


def refused(server, path, status, code, **parameters):
    for kind in ("explain", "heatmap.png"):
        reply = server.get(f"/documents/{path}/{kind}", **parameters)
        assert (reply.status, reply.code) == (status, code), (kind, reply.body)
    return reply.json["error"]["message"]


def test_what_cannot_be_explained_says_why(serve):
    server = serve()
    doc_id = add(server)
    refused(server, f"{'0' * 64}/pages/1", 404, "not_found", query="heron")
    refused(server, f"{doc_id}/pages/3", 404, "not_found", query="heron")
    refused(server, f"{doc_id}/pages/0", 400, "invalid", query="heron")
    refused(server, f"{doc_id}/pages/1", 400, "invalid")
    refused(server, f"{doc_id}/pages/1", 400, "invalid", query="")
    refused(server, f"{doc_id}/pages/1", 400, "invalid", query="a" * 1001)
    assert explain(server, doc_id, query="a" * 1000)["words"]
    for word, status in (("1", 404), ("-1", 400), ("x", 400), ("300", 400)):
        reply = server.get(f"/documents/{doc_id}/pages/1/heatmap.png", query="heron", word=word)
        assert reply.status == status, reply.body


def test_without_model_vectors_or_patches(serve):
    server = serve(visual="none")
    doc_id = add(server)
    message = refused(server, f"{doc_id}/pages/1", 503, "model_not_installed", query="heron")
    assert "visual model" in message
    server.stop()
    server = serve()  # the model is there now, but what was read before has no vectors of it
    message = refused(server, f"{doc_id}/pages/1", 404, "no_vectors", query="heron")
    assert "page 1" in message
    hits = server.request("POST", "/search", {"query": "heron"}).json["results"]
    assert [hit["box_kind"] for hit in hits] == ["words"]


def test_pages_kept_pooled_have_no_patches(serve):
    server = serve(INDEX_FULL_VECTORS="false")
    doc_id = add(server)
    message = refused(server, f"{doc_id}/pages/1", 404, "no_patches", query="heron")
    assert "INDEX_FULL_VECTORS" in message
    reply = server.request("POST", "/search", {"query": "zeppelin", "search_mode": "visual"})
    assert reply.status == 200
    assert all(hit["boxes"] == [] for hit in reply.json["results"])


def test_odd_questions(serve):
    server = serve()
    doc_id = add(server)
    for query in ("<pad><bos>", "\u0000x", "a\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe x",
                  "中" * 1000, "a b " * 250, "\u202e\u0301\u0301", "🐦" * 500):
        reply = server.get(f"/documents/{doc_id}/pages/1/explain", query=query)
        assert reply.status in (200, 400), (query, reply.body)
        reply = server.get(f"/documents/{doc_id}/pages/1/heatmap.png", query=query)
        assert reply.status in (200, 400), (query, reply.body)
    assert server.get("/health").status == 200
