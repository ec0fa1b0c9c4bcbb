#!/usr/bin/env python3
"""Writes image_cases.h: what Pillow makes of the pictures that test_image.c makes too. Run by hand,
with numpy and Pillow 13.0 or newer (older ones always resize across first)."""

import hashlib
import pathlib

import numpy
import PIL
from PIL import Image

# width, height, new width, new height, kind
CASES = [
    (1, 1, 448, 448, "NOISE"), (1, 1, 1, 1, "NOISE"), (2, 3, 1, 1, "EDGES"), (3, 2, 5, 7, "EDGES"),
    (7, 5, 448, 448, "EDGES"), (448, 448, 448, 448, "NOISE"), (448, 100, 448, 448, "NOISE"),
    (100, 448, 448, 448, "NOISE"), (447, 449, 448, 448, "NOISE"), (1240, 1754, 448, 448, "NOISE"),
    (1240, 1754, 448, 448, "SMOOTH"), (1240, 1754, 448, 448, "EDGES"), (612, 792, 448, 448, "EDGES"),
    (596, 842, 448, 448, "NOISE"), (500, 1500, 448, 448, "NOISE"), (1754, 1240, 448, 448, "NOISE"),
    (20000, 10, 448, 448, "EDGES"), (10, 20000, 448, 448, "EDGES"), (200000, 1, 448, 448, "NOISE"),
    (1, 200000, 448, 448, "NOISE"), (449, 451, 112, 112, "NOISE"), (300, 200, 113, 31, "EDGES"),
    (64, 64, 448, 448, "FLAT"), (1000, 3000, 448, 448, "FLAT"), (4000, 3000, 448, 448, "NOISE"),
]
SMALL = [(5, 4, 3, 3, "NOISE"), (4, 9, 3, 4, "EDGES"), (2, 2, 4, 3, "NOISE")]


def samples(kind, width, height):
    i = numpy.arange(width * height * 3, dtype=numpy.uint32)
    noise = i * numpy.uint32(2654435761)
    noise ^= noise >> numpy.uint32(15)
    noise *= numpy.uint32(0x2C1B3C6D)
    noise ^= noise >> numpy.uint32(12)
    if kind == "NOISE":
        values = noise >> numpy.uint32(24)
    elif kind == "EDGES":
        values = numpy.where(noise >> numpy.uint32(31) != 0, 255, 0)
    elif kind == "FLAT":
        values = 40 + 70 * (i % 3)
    else:
        pixel = i // 3
        values = (pixel % width * 255 // width + pixel // width * (i % 3) // 4) % 256
    return values.astype(numpy.uint8).reshape(height, width, 3)


def resized(width, height, to_width, to_height, kind):
    picture = Image.fromarray(samples(kind, width, height))
    return picture.resize((to_width, to_height), Image.Resampling.BICUBIC).tobytes()


def main():
    out = [f"/* Written by make_image_cases.py with Pillow {PIL.__version__}. */",
           "#ifndef DOCUSEARCH_TESTS_UNIT_MODEL_IMAGE_CASES_H",
           "#define DOCUSEARCH_TESTS_UNIT_MODEL_IMAGE_CASES_H", "",
           "enum kind { NOISE, EDGES, FLAT, SMOOTH };",
           "static const struct image_case {",
           "    int width, height, to_width, to_height;", "    enum kind kind;",
           "    const char *sha256;", "} cases[] = {"]
    for case in CASES:
        digest = hashlib.sha256(resized(*case)).hexdigest()
        out.append("    {%d, %d, %d, %d, %s," % case)
        out.append(f'     "{digest}"}},')
    out.append("};")
    for n, case in enumerate(SMALL):
        out.append("/* %d x %d to %d x %d, %s */" % case)
        out.append(f"static const unsigned char small_{n}[] = {{")
        values = [str(v) for v in resized(*case)]
        for i in range(0, len(values), 18):
            out.append("    " + ", ".join(values[i:i + 18]) + ",")
        out.append("};")
    out += ["", "#endif", ""]
    (pathlib.Path(__file__).parent / "image_cases.h").write_text("\n".join(out), encoding="utf-8")


main()
