#!/usr/bin/env python3
"""Makes the pictures of test_pixels.c in pixels/ and writes what Pillow reads from each to
pixels/digests: name, width, height, SHA-256 of convert("RGB"). Run by hand, with numpy and Pillow."""

import hashlib
import pathlib
import struct
import zlib

import numpy
import PIL
from PIL import Image

OUT = pathlib.Path(__file__).parent / "pixels"
WIDTH, HEIGHT = 37, 29


def channels(n):
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [x * 6 + y * (c + 1) * 2 + 40 * numpy.sin((x + c * y) / 5) for c in range(n)]
    return (numpy.stack(waves, axis=-1) % 256).astype(numpy.uint8)


def png(depth, colour, rows, interlaced=False, extra=b""):
    """rows(y, x0, step): the packed bytes of row y's pixels from x0 on, every step-th."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2)] if interlaced else [(0, 0, 1, 1)]
    body = b"".join(b"\0" + rows(y, x0, dx) for x0, y0, dx, dy in passes
                    for y in range(y0, HEIGHT, dy))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(body))
            + chunk(b"IEND", b""))


def wide(n):
    """16-bit rows, some values below 256."""
    values = channels(n).astype(numpy.uint16)
    values = numpy.where(values % 3 == 0, values, values * 257 + 13 & 0xFFFF).astype(">u2")
    return lambda y, x0, dx: values[y, x0::dx].tobytes()


def packed(depth):
    values = channels(1)[:, :, 0] >> (8 - depth)

    def row(y, x0, dx):
        bits = "".join(format(v, f"0{depth}b") for v in values[y, x0::dx])
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")
    return row


def main():
    OUT.mkdir(exist_ok=True)
    grey, rgb = Image.fromarray(channels(1)[:, :, 0]), Image.fromarray(channels(3))
    rgba = Image.fromarray(channels(4))
    cmyk = Image.frombytes("CMYK", (WIDTH, HEIGHT), channels(4).tobytes())
    palette = rgb.quantize(50)
    grey.save(OUT / "grey.jpg", quality=90)
    rgb.save(OUT / "420.jpg", quality=85)
    rgb.save(OUT / "444.jpg", quality=95, subsampling=0)
    rgb.save(OUT / "progressive.jpg", progressive=True, optimize=True)
    cmyk.save(OUT / "cmyk.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(OUT / "turned.jpg", exif=exif)
    grey.save(OUT / "grey.png")
    Image.merge("LA", [grey, grey.rotate(180)]).save(OUT / "grey_alpha.png")
    rgb.save(OUT / "rgb.png", icc_profile=b"x" * 200)
    rgba.save(OUT / "rgba.png")
    palette.save(OUT / "palette.png")
    palette.save(OUT / "palette_transparent.png", transparency=3)
    for depth in (1, 2, 4):
        (OUT / f"grey_{depth}.png").write_bytes(png(depth, 0, packed(depth)))
    (OUT / "grey_16.png").write_bytes(png(16, 0, wide(1)))
    (OUT / "rgb_16.png").write_bytes(png(16, 2, wide(3)))
    (OUT / "grey_alpha_16.png").write_bytes(png(16, 4, wide(2)))
    (OUT / "rgba_16.png").write_bytes(png(16, 6, wide(4)))
    eight = channels(3)
    (OUT / "interlaced.png").write_bytes(
        png(8, 2, lambda y, x0, dx: eight[y, x0::dx].tobytes(), True))
    (OUT / "interlaced_16.png").write_bytes(png(16, 0, wide(1), True))
    (OUT / "gamma.png").write_bytes(
        png(8, 2, lambda y, x0, dx: eight[y, x0::dx].tobytes(),
            extra=b"\0\0\0\4gAMA" + struct.pack(">I", 100000)
            + struct.pack(">I", zlib.crc32(b"gAMA" + struct.pack(">I", 100000)))))
    rgb.save(OUT / "lossy.webp", quality=80)
    rgb.save(OUT / "lossless.webp", lossless=True)
    rgba.save(OUT / "alpha.webp", lossless=True, exact=True)
    rgb.save(OUT / "moving.webp", save_all=True, append_images=[rgb.rotate(90)], lossless=True)
    rgb.save(OUT / "rgb.bmp")
    grey.save(OUT / "grey.bmp")
    palette.save(OUT / "palette.bmp")
    grey.convert("1").save(OUT / "one_bit.bmp")
    rgb.save(OUT / "rgb.tif")
    rgb.save(OUT / "lzw.tif", compression="tiff_lzw")
    grey.save(OUT / "grey.tif")
    grey.convert("1").save(OUT / "fax.tif", compression="group4")
    palette.save(OUT / "palette.tif")
    rgb.save(OUT / "two.tif", save_all=True, append_images=[grey])
    lines = [f"# Pillow {PIL.__version__}"]
    for path in sorted(p for p in OUT.iterdir() if p.suffix):
        picture = Image.open(path).convert("RGB")
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        lines.append(f"{path.name} {picture.width} {picture.height} {digest}")
    (OUT / "digests").write_text("\n".join(lines) + "\n", encoding="utf-8")


main()
