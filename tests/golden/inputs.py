"""What is embedded: texts, and pictures as PNG files that are the same bytes on every machine."""

import pathlib
import struct
import zlib

import numpy

from make_checkpoints import bell

QUERIES = ["What was the revenue of the second quarter?",
           "Wie hoch war der Umsatz 2024? 合同 \U0001f600",
           ""]
PROMPTS = ["question", "query", "none"]
PASSAGES = [
    "The boundary layer of a flat plate is laminar up to a Reynolds number of two million.",
    "Heat transfer was measured (at the stagnation point), e.g. of a blunt body; total: 1,234.56!",
    "Quelle est la date de la facture? Какова сумма договора? 請求書の日付 \U0001f600 \u00e9a\u0301",
    "",
    "word",
    "the table of expenses stands on page 12 of the annual report " * 40,
]

# name: width, height, how
PICTURES = {
    "page": (620, 877, "page"),
    "noise": (211, 157, "noise"),
    "single": (300, 200, "single"),
    "dot": (1, 1, "noise"),
    "strip": (20000, 10, "page"),
}


def pixels(name):
    width, height, kind = PICTURES[name]
    if kind == "single":
        return numpy.broadcast_to(numpy.array([200, 30, 90], numpy.uint8), (height, width, 3))
    noise = bell("picture:" + name, 0, width * height * 3).reshape(height, width, 3)
    if kind == "noise":
        return (noise // 600 % 256).astype(numpy.uint8)
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.int64)
    ink = ((x // 7 * 2654435761 + y // 11 * 40503) % 97 < 40) & (y % 11 < 7) & (y % 260 > 30)
    paper = numpy.where(ink, 30, 245)[:, :, None] + noise // 40000
    paper[:, :, 2] -= (y // 90 % 3 == 1) * 60
    return numpy.clip(paper, 0, 255).astype(numpy.uint8)


def write_png(path, rgb):
    height, width, _ = rgb.shape
    rows = numpy.zeros((height, 1 + width * 3), numpy.uint8)
    rows[:, 1:] = rgb.reshape(height, width * 3)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) +
                                   chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)) +
                                   chunk(b"IEND", b""))


def write_pictures(folder):
    """{name: path}"""
    paths = {}
    for name in PICTURES:
        paths[name] = pathlib.Path(folder) / f"{name}.png"
        write_png(paths[name], pixels(name))
    return paths
