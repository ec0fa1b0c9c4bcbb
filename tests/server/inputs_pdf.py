"""PDFs written by hand, sound and hostile, with the standard library alone."""

import hashlib
import random
import struct
import zlib

PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def stream(data, extra=b""):
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), extra, data)


def write(bodies, trailer=b"", header=b"%PDF-1.7\n"):
    """A file of the objects 1, 2, …, of which the first is the catalogue."""
    out = bytearray(header)
    offsets = []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(bodies) + 1, trailer, start)
    return bytes(out)


def literal(text):
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("latin-1")


def show(text, x=72, y=760, size=12):
    lines = b" T* ".join(b"(%s) Tj" % literal(line) for line in text.split("\n"))
    return b"BT /F1 %d Tf %d TL %d %d Td %s ET" % (size, size + 2, x, y, lines)


def bodies_of(texts, media=b"[0 0 595 842]", encode=lambda number, data: data):
    """Catalogue, page tree, font, then a page and its content for each text."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * i) for i in range(len(texts)))
    bodies = [b"<< /Type /Catalog /Pages 2 0 R >>",
              b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(texts), kids), FONT]
    for i, text in enumerate(texts):
        bodies.append(b"<< /Type /Page /Parent 2 0 R /MediaBox %s /Contents %d 0 R "
                      b"/Resources << /Font << /F1 3 0 R >> >> >>" % (media, 5 + 2 * i))
        bodies.append(stream(encode(5 + 2 * i, show(text))))
    return bodies


def good(*texts):
    return write(bodies_of(texts))


# ---- damaged -------------------------------------------------------------------------------------

def truncated(word, before):
    """Forty pages with the page tree in front, cut off in the middle of the 24th."""
    whole = good(*[f"page {i} of the truncated {word}" for i in range(1, 41)])
    page = whole.index(b"page 24 of")
    return whole[:whole.index(before, page) + 3]


def without_tree():
    """Cut before the page tree, which many writers put last: the objects of pages alone."""
    bodies = bodies_of(["nothing to be found"])
    out = b"%PDF-1.7\n"
    for number in (5, 3):
        out += b"%d 0 obj\n%s\nendobj\n" % (number, bodies[number - 1])
    return out


def garbage(seed):
    return b"%PDF-1.7\n" + random.Random(seed).randbytes(20_000)


def one_damaged_page(word):
    """Three pages, the content of the second compressed and broken off."""
    bodies = bodies_of([f"the first {word} page", "the second", f"the third {word} page"])
    packed = zlib.compress(random.Random(7).randbytes(4000))
    bodies[6] = stream(packed[:200], b"/Filter /FlateDecode")
    bodies[5] = bodies[5].replace(b"/Contents 7 0 R", b"/Contents [99 0 R 7 0 R 7 0 R]")
    return write(bodies)


def no_pages():
    return write([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 0 /Kids [] >>"])


def lying_count(count):
    bodies = bodies_of(["one page, whatever the tree says"])
    bodies[1] = b"<< /Type /Pages /Count %d /Kids [4 0 R] >>" % count
    return write(bodies)


def huge_page(word, points=1_000_000_000):
    return write(bodies_of([f"a {word} page as large as a country"],
                           b"[0 0 %d %d]" % (points, points)))


def odd_pages(word):
    """Pages without area, turned around and not a number, and one as it should be."""
    bodies = bodies_of([f"{word} {i}" for i in range(4)])
    for number, box in ((4, b"[0 0 0 0]"), (6, b"[595 842 0 0]"),
                        (8, b"[0 0 1e999 nan]")):
        bodies[number - 1] = bodies[number - 1].replace(b"[0 0 595 842]", box)
    return write(bodies)


def tree_loop():
    return write([b"<< /Type /Catalog /Pages 2 0 R >>",
                  b"<< /Type /Pages /Count 3 /Kids [3 0 R 2 0 R] /Parent 3 0 R >>",
                  b"<< /Type /Pages /Count 3 /Kids [2 0 R 3 0 R] /Parent 2 0 R >>"])


def deep_tree(depth=20_000):
    bodies = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    bodies += [b"<< /Type /Pages /Count 1 /Kids [%d 0 R] >>" % (i + 3) for i in range(depth)]
    return write(bodies + [b"<< /Type /Page /MediaBox [0 0 99 99] >>"])


def form_bomb():
    """Forms that draw the next one twice, thirty deep: a thousand million drawings in a few KB."""
    bodies = bodies_of(["a page that draws for ever"])
    bodies[3] = bodies[3].replace(b"/Resources <<", b"/Resources << /XObject << /X 6 0 R >>")
    bodies[4] = stream(b"/X Do " + show("a page that draws for ever"))
    for i in range(30):
        resources = b"/Type /XObject /Subtype /Form /BBox [0 0 595 842]"
        if i < 29:
            resources += b" /Resources << /XObject << /X %d 0 R >> >>" % (7 + i)
        bodies.append(stream(b"/X Do /X Do" if i < 29 else b"0 0 1 1 re f", resources))
    return write(bodies)


def flate_bomb(word):
    """A quarter of a GB of blanks behind the text, packed twice into a few hundred bytes."""
    packer = zlib.compressobj(9)
    packed = packer.compress(show(f"before the {word} blanks"))
    blanks = b" " * (1 << 20)
    packed += b"".join(packer.compress(blanks) for _ in range(256)) + packer.flush()
    bodies = bodies_of(["to be replaced"])
    bodies[4] = stream(zlib.compress(packed, 9), b"/Filter [/FlateDecode /FlateDecode]")
    return write(bodies)


def picture_bomb(word, side=30_000):
    """A page with a picture of side × side one-bit pixels, nearly all of them packed away."""
    packer = zlib.compressobj(9)
    row = bytes(side // 8)
    packed = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    bodies = bodies_of([f"a caption of the {word} picture"])
    bodies[3] = bodies[3].replace(b"/Resources <<", b"/Resources << /XObject << /X 6 0 R >>")
    bodies[4] = stream(b"q 300 0 0 300 72 200 cm /X Do Q " +
                       show(f"a caption of the {word} picture"))
    bodies.append(stream(packed, b"/Type /XObject /Subtype /Image /Width %d /Height %d "
                                 b"/BitsPerComponent 1 /ColorSpace /DeviceGray "
                                 b"/Filter /FlateDecode" % (side, side)))
    return write(bodies)


def active(word, url):
    """Everything by which a PDF may ask to run or to fetch something on opening."""
    bodies = bodies_of([f"an active {word} document"])
    bodies[0] = (b"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript "
                 b"/JS (app.launchURL\\('%s'\\);) >> /AA << /WC << /S /URI /URI (%s) >> >> >>"
                 % (url.encode(), url.encode()))
    bodies[3] = bodies[3].replace(b"/Type /Page ", b"/Type /Page /AA << /O << /S /Launch /F (%s) "
                                  b">> >> " % url.encode())
    return write(bodies)


# ---- encrypted -----------------------------------------------------------------------------------

def rc4(key, data):
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def padded(password):
    return (password.encode("latin-1") + PAD)[:32]


def encrypted(text, user, owner="owner"):
    """RC4 of 40 bits (ISO 32000-1, 7.6.3, algorithms 2 to 4, revision 2)."""
    identity = hashlib.md5(text.encode()).digest()
    permissions = -44
    owner_entry = rc4(hashlib.md5(padded(owner)).digest()[:5], padded(user))
    key = hashlib.md5(padded(user) + owner_entry + struct.pack("<i", permissions) +
                      identity).digest()[:5]

    def encode(number, data):
        return rc4(hashlib.md5(key + struct.pack("<I", number)[:3] + b"\0\0").digest()[:10], data)

    bodies = bodies_of([text], encode=encode)
    bodies.append(b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P %d >>" % (
        owner_entry.hex().encode(), rc4(key, PAD).hex().encode(), permissions))
    return write(bodies, b"/Encrypt %d 0 R /ID [<%s> <%s>]" % (
        len(bodies), identity.hex().encode(), identity.hex().encode()))
