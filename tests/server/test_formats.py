"""Every format that is said to be read is read: made from our own samples, found by its words."""

import shutil
import struct
import subprocess

import pytest

from running import ROOT

MADE = ROOT / "samples" / "made"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The samples, and other formats converted from them."""
    for tool in ("soffice", "mutool"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    subprocess.run([ROOT / "scripts" / "make-samples.sh"], check=True, capture_output=True)
    made = tmp_path_factory.mktemp("formats")
    profile = tmp_path_factory.mktemp("profile")
    for source, formats in (("warehouse-lease.docx", ("doc", "rtf", "odt", "epub")),
                            ("product-roadmap-2026.pptx", ("ppt", "odp")),
                            ("budget-2026.xlsx", ("xls", "ods"))):
        for extension in formats:
            subprocess.run(["soffice", f"-env:UserInstallation={profile.as_uri()}", "--headless",
                            "--convert-to", extension, "--outdir", made, MADE / source],
                           check=True, capture_output=True, timeout=120)
    page = made / "page.ppm"
    subprocess.run(["mutool", "draw", "-q", "-r", "150", "-o", page,
                    MADE / "annual-report-2025.pdf", "2"], check=True, capture_output=True)
    subprocess.run(["mutool", "draw", "-q", "-r", "150", "-o", made / "page.png",
                    MADE / "annual-report-2025.pdf", "2"], check=True, capture_output=True)
    width, height, pixels = read_ppm(page.read_bytes())
    (made / "page.bmp").write_bytes(bmp(width, height, pixels))
    (made / "page.tiff").write_bytes(tiff(width, height, pixels))
    return made


def read_ppm(data):
    magic, width, height, _, pixels = data.split(maxsplit=4) if data[:2] == b"P6" else (None,) * 5
    assert magic == b"P6"
    width, height = int(width), int(height)
    return width, height, data[-3 * width * height:]


def bmp(width, height, rgb):
    stride = (3 * width + 3) // 4 * 4
    rows = []
    for y in reversed(range(height)):
        row = rgb[3 * width * y:3 * width * (y + 1)]
        swapped = bytearray(stride)
        swapped[0:3 * width:3], swapped[1:3 * width:3], swapped[2:3 * width:3] = (
            row[2::3], row[1::3], row[0::3])
        rows.append(bytes(swapped))
    body = b"".join(rows)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(body), 5906, 5906, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body


def tiff(width, height, rgb):
    """Two frames: the page, and the page lying on its head."""
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    upside_down = bytearray(len(rgb))
    for channel in range(3):
        upside_down[channel::3] = rgb[channel::3][::-1]
    for pixels in (rgb, bytes(upside_down)):
        at = len(out)
        out += pixels
        bits = len(out)
        out += struct.pack("<HHH", 8, 8, 8)
        resolution = len(out)
        out += struct.pack("<II", 150, 1)
        if len(out) % 2:
            out += b"\0"
        out[link:link + 4] = struct.pack("<I", len(out))
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1),
                (262, 3, 1, 2), (273, 4, 1, at), (277, 3, 1, 3), (278, 4, 1, height),
                (279, 4, 1, len(pixels)), (282, 5, 1, resolution), (283, 5, 1, resolution),
                (296, 3, 1, 2)]
        out += struct.pack("<H", len(tags))
        for tag in tags:
            out += struct.pack("<HHII", *tag)
        link = len(out)
        out += b"\0\0\0\0"
    return bytes(out)


def check_found(server, path, query, page, seconds=120):
    job, document = server.read(path.read_bytes(), path.name, seconds)
    assert job["state"] == "completed", job
    assert document["format"] == {"tif": "tiff"}.get(path.suffix[1:], path.suffix[1:])
    hits = [hit for hit in server.search(query, 100) if hit["doc_id"] == document["doc_id"]]
    assert hits and (page is None or hits[0]["page_num"] == page), hits
    assert hits[0]["boxes"], hits[0]
    picture = server.get(hits[0]["image_url"])
    assert picture.status == 200 and picture.body[:2] == b"\xff\xd8"


@pytest.mark.parametrize("extension", ["doc", "rtf", "odt", "epub"])
def test_texts(server, folder, extension):
    page = None if extension == "epub" else 2
    check_found(server, folder / f"warehouse-lease.{extension}", "notice period nine months", page)


@pytest.mark.parametrize("extension", ["ppt", "odp"])
def test_slides(server, folder, extension):
    check_found(server, folder / f"product-roadmap-2026.{extension}", "roadmap", 1)


@pytest.mark.parametrize("extension", ["xls", "ods"])
def test_sheets(server, folder, extension):
    check_found(server, folder / f"budget-2026.{extension}", "budget", None)


@pytest.mark.parametrize("extension", ["png", "bmp"])
def test_pictures(server, folder, extension):
    check_found(server, folder / f"page.{extension}", "\"Revenue by region\" Asia", 1)


def test_every_frame_of_a_tiff(server, folder):
    check_found(server, folder / "page.tiff", "\"Revenue by region\" Asia", None)
    document = next(d for d in server.get("/documents", search="page.tiff").json["documents"])
    pages = {hit["page_num"] for hit in server.search("Asia Europe America revenue", 100)
             if hit["doc_id"] == document["doc_id"]}
    assert document["page_count"] == 2 and pages == {1, 2}


def test_jpeg(server, folder):
    _, document = server.read((folder / "page.png").read_bytes(), "page.png", 120)
    jpeg = server.get(f"/documents/{document['doc_id']}/pages/1.jpg").body
    job, again = server.read(jpeg, "page.jpg", 120)
    assert job["state"] == "completed" and again["format"] == "jpeg"
    assert again["doc_id"] in {hit["doc_id"] for hit in server.search("Asia Europe America revenue", 100)}


def test_webp(server, folder):
    if not shutil.which("cwebp"):
        pytest.skip("cwebp is not installed")
    subprocess.run(["cwebp", "-quiet", folder / "page.png", "-o", folder / "page.webp"], check=True)
    check_found(server, folder / "page.webp", "\"Revenue by region\" Asia", 1)
