"""Files for tests, sound and hostile, made with the standard library alone: packages (Office,
OpenDocument, EPUB), compound files, pictures, web pages and texts. PDFs are in inputs_pdf.py."""

import io
import struct
import zipfile
import zlib

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
PKG = "http://schemas.openxmlformats.org/package/2006"
OOXML = "application/vnd.openxmlformats-officedocument."
XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'

LAUGHS = ('<!DOCTYPE lolz [<!ENTITY a "ha">' +
          "".join(f'<!ENTITY {n} "{f"&{m};" * 10}">' for m, n in zip("abcdefghij", "bcdefghijk")) +
          "]>")
PASSWD = '<!DOCTYPE d [<!ENTITY passwd SYSTEM "file:///etc/passwd">]>'


# ---- ZIP -----------------------------------------------------------------------------------------

def zipped(parts, stored=()):
    """parts: name → text or bytes, in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            how = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), data, how)
    return out.getvalue()


def zip_of_entries(entries):
    """entries: (name, packed, size, crc, method, flags, offset or None). With an offset the entry
    has no data of its own but that of the entry that lies there."""
    out = bytearray()
    central = bytearray()
    for name, packed, size, crc, method, flags, offset in entries:
        if offset is None:
            offset = len(out)
            out += struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, method, 0, 0x5800, crc,
                               len(packed), size, len(name), 0) + name + packed
        central += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, flags, method, 0, 0x5800, crc,
                               len(packed), size, len(name), 0, 0, 0, 0, 0, offset) + name
    start, n = len(out), len(entries)
    out += central
    if n > 0xFFFE:
        end = len(out)
        out += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, n, n, len(central), start)
        out += struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    count = min(n, 0xFFFF)
    out += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(central), start, 0)
    return bytes(out)


def entry(name, data, flags=0, size=None, offset=None):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    return (name.encode(), packed, len(data) if size is None else size, zlib.crc32(data), 8, flags,
            offset)


def entries_of(parts, flags=0):
    return [entry(name, data.encode() if isinstance(data, str) else data, flags)
            for name, data in parts.items()]


# ---- OOXML ---------------------------------------------------------------------------------------

def content_types(*overrides, doctype=""):
    parts = "".join(f'<Override PartName="{part}" ContentType="{OOXML}{kind}+xml"/>'
                    for part, kind in overrides)
    return (f'{XML}{doctype}<Types xmlns="{PKG}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
            'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
            f'<Default Extension="png" ContentType="image/png"/>{parts}</Types>')


def relationships(*rels):
    """rels: (id, last part of the type, target, external)."""
    items = "".join(f'<Relationship Id="{i}" Type="{R}/{kind}" Target="{target}"'
                    f'{" TargetMode=" + chr(34) + "External" + chr(34) if external else ""}/>'
                    for i, kind, target, external in rels)
    return f'{XML}<Relationships xmlns="{PKG}/relationships">{items}</Relationships>'


def paragraph(text):
    return f'<w:p><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx_parts(body, rels=(), doctype="", types_doctype=""):
    """body: paragraphs of WordprocessingML."""
    return {
        "[Content_Types].xml": content_types(
            ("/word/document.xml", "wordprocessingml.document.main"), doctype=types_doctype),
        "_rels/.rels": relationships(("rId1", "officeDocument", "word/document.xml", False)),
        "word/_rels/document.xml.rels": relationships(*rels),
        "word/document.xml": f'{XML}{doctype}<w:document xmlns:w="{W}" xmlns:r="{R}" '
                             f'xmlns:a="{A}"><w:body>{body}</w:body></w:document>',
    }


def docx(*texts):
    return zipped(docx_parts("".join(paragraph(text) for text in texts)))


def picture_in_word(rel, attribute):
    drawing = "http://schemas.openxmlformats.org/drawingml/2006"
    return (f'<w:p><w:r><w:drawing><wp:inline xmlns:wp="{drawing}/wordprocessingDrawing">'
            '<wp:extent cx="914400" cy="914400"/><wp:docPr id="1" name="p"/>'
            f'<a:graphic><a:graphicData uri="{drawing}/picture">'
            f'<pic:pic xmlns:pic="{drawing}/picture"><pic:nvPicPr><pic:cNvPr id="1" name="p"/>'
            f'<pic:cNvPicPr/></pic:nvPicPr><pic:blipFill><a:blip {attribute}="{rel}"/>'
            '<a:stretch><a:fillRect/></a:stretch></pic:blipFill><pic:spPr><a:xfrm>'
            '<a:off x="0" y="0"/><a:ext cx="914400" cy="914400"/></a:xfrm>'
            '<a:prstGeom prst="rect"><a:avLst/></a:prstGeom></pic:spPr></pic:pic>'
            '</a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>')


def docx_with_links(word, url):
    """Everything in a Word file that names something elsewhere: pictures (linked, by DrawingML and
    by VML), a template, a part of the text, an object, a field."""
    field = ('<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText '
             f'xml:space="preserve"> INCLUDEPICTURE "{url}/field.png" \\d </w:instrText></w:r>'
             '<w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>')
    vml = ('<w:p><w:r><w:pict xmlns:v="urn:schemas-microsoft-com:vml"><v:shape '
           'style="width:50pt;height:50pt"><v:imagedata r:id="rVml" '
           f'src="{url}/vml.png"/></v:shape></w:pict></w:r></w:p>')
    body = (paragraph(f"links of the {word} document") + picture_in_word("rLink", "r:link") +
            picture_in_word("rEmbed", "r:embed") + vml + field + '<w:altChunk r:id="rChunk"/>')
    parts = docx_parts(body, [
        ("rLink", "image", f"{url}/link.png", True), ("rEmbed", "image", f"{url}/embed.png", True),
        ("rVml", "image", f"{url}/relation.png", True),
        ("rChunk", "aFChunk", f"{url}/chunk.html", True),
        ("rSettings", "settings", "settings.xml", False)])
    parts["word/settings.xml"] = (f'{XML}<w:settings xmlns:w="{W}" xmlns:r="{R}">'
                                  '<w:attachedTemplate r:id="rTemplate"/></w:settings>')
    parts["word/_rels/settings.xml.rels"] = relationships(
        ("rTemplate", "attachedTemplate", f"{url}/template.dotm", True))
    return zipped(parts)


def docx_with_picture(word, png):
    parts = docx_parts(paragraph(f"a picture in the {word} document") +
                       picture_in_word("rPicture", "r:embed"),
                       [("rPicture", "image", "media/image1.png", False)])
    return zipped({**parts, "word/media/image1.png": png})


def docx_nested(word, depth):
    """Tables in tables, deeper than any reader's stack."""
    return zipped(docx_parts(paragraph(f"before the {word} tables") +
                             "<w:tbl><w:tr><w:tc>" * depth + paragraph("deep") +
                             "</w:tc></w:tr></w:tbl>" * depth))


def docx_bomb(megabytes):
    return zipped(docx_parts(paragraph("bomb") + " " * (megabytes << 20)))


def docx_lying_bomb(megabytes):
    """The directory claims a thousand bytes for what unpacks to many MB."""
    parts = docx_parts(paragraph("bomb") + " " * (megabytes << 20))
    body = parts.pop("word/document.xml")
    return zip_of_entries(entries_of(parts) + [entry("word/document.xml", body.encode(),
                                                     size=1000)])


def docx_with_entries(n):
    empty = (b"", 0, 0, 0, 0, None)
    return zip_of_entries(entries_of(docx_parts(paragraph("crowd"))) +
                          [(b"word/%06d" % i, *empty) for i in range(n)])


def docx_overlapping(n):
    """n entries that share the data of one: 10 MB each, 10 KB in the file."""
    entries = entries_of(docx_parts(paragraph("overlap")))
    offset = sum(30 + len(name) + len(packed) for name, packed, *_ in entries)
    blanks = b" " * 10_000_000
    kernel = entry("word/000000", blanks)
    return zip_of_entries(entries + [kernel] + [
        (b"word/%06d" % i, kernel[1], len(blanks), kernel[3], 8, 0, offset) for i in range(1, n)])


def docx_twice(first, second):
    """Two members of one name."""
    parts = docx_parts(paragraph(first))
    again = docx_parts(paragraph(second))["word/document.xml"]
    return zip_of_entries(entries_of(parts) + [entry("word/document.xml", again.encode())])


def docx_locked():
    """Members with the flag of ZIP's own encryption."""
    return zip_of_entries(entries_of(docx_parts(paragraph("locked")), flags=1))


def docx_climbing(word, places):
    """Members whose names lead out of any folder they might be unpacked to."""
    parts = docx_parts(paragraph(f"climbing {word} names"))
    return zip_of_entries(entries_of({**parts, **{place: "escaped" for place in places}}))


def xlsx_parts(rows, doctype=""):
    sheet = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    cells = "".join("<row>" + "".join(f'<c t="inlineStr"><is><t>{value}</t></is></c>'
                                      for value in row) + "</row>" for row in rows)
    return {
        "[Content_Types].xml": content_types(
            ("/xl/workbook.xml", "spreadsheetml.sheet.main"),
            ("/xl/worksheets/sheet1.xml", "spreadsheetml.worksheet")),
        "_rels/.rels": relationships(("rId1", "officeDocument", "xl/workbook.xml", False)),
        "xl/_rels/workbook.xml.rels": relationships(
            ("rId1", "worksheet", "worksheets/sheet1.xml", False)),
        "xl/workbook.xml": f'{XML}<workbook xmlns="{sheet}" xmlns:r="{R}"><sheets>'
                           '<sheet name="First" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/worksheets/sheet1.xml": f'{XML}{doctype}<worksheet xmlns="{sheet}"><sheetData>{cells}'
                                    '</sheetData></worksheet>',
    }


def xlsx(*rows):
    return zipped(xlsx_parts(rows))


def pptx_with_doctype():
    main = "http://schemas.openxmlformats.org/presentationml/2006/main"
    return zipped({
        "[Content_Types].xml": content_types(
            ("/ppt/presentation.xml", "presentationml.presentation.main")),
        "_rels/.rels": relationships(("rId1", "officeDocument", "ppt/presentation.xml", False)),
        "ppt/presentation.xml": f'{XML}{PASSWD}<p:presentation xmlns:p="{main}">&passwd;'
                                '</p:presentation>',
    })


# ---- OpenDocument and EPUB -----------------------------------------------------------------------

def odt(body, doctype="", manifest=""):
    office = "urn:oasis:names:tc:opendocument:xmlns:"
    kind = "application/vnd.oasis.opendocument.text"
    return zipped({
        "mimetype": kind,
        "META-INF/manifest.xml":
            f'<manifest:manifest xmlns:manifest="{office}manifest:1.0" manifest:version="1.2">'
            f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
            '<manifest:file-entry manifest:full-path="content.xml" '
            f'manifest:media-type="text/xml">{manifest}</manifest:file-entry></manifest:manifest>',
        "content.xml":
            f'<?xml version="1.0" encoding="UTF-8"?>{doctype}<office:document-content '
            f'xmlns:office="{office}office:1.0" xmlns:text="{office}text:1.0" '
            f'xmlns:draw="{office}drawing:1.0" xmlns:svg="{office}svg-compatible:1.0" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" office:version="1.2"><office:body>'
            f'<office:text>{body}</office:text></office:body></office:document-content>',
    }, stored=("mimetype",))


def odt_with_links(word, url):
    return odt(f'<text:p>links of the {word} text</text:p><text:p><draw:frame svg:width="5cm" '
               f'svg:height="5cm"><draw:image xlink:href="{url}/odt.png" xlink:type="simple" '
               'xlink:show="embed" xlink:actuate="onLoad"/></draw:frame></text:p>'
               '<text:section text:name="s"><text:section-source '
               f'xlink:href="{url}/section.odt" xlink:type="simple"/><text:p/></text:section>')


def epub(body, doctype="<!DOCTYPE html>"):
    return zipped({
        "mimetype": "application/epub+zip",
        "META-INF/container.xml":
            '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
            '<rootfiles><rootfile full-path="content.opf" '
            'media-type="application/oebps-package+xml"/></rootfiles></container>',
        "content.opf":
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="i">1'
            '</dc:identifier><dc:title>A book</dc:title></metadata><manifest><item id="one" '
            'href="one.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="one"/></spine></package>',
        "one.xhtml": f'<?xml version="1.0" encoding="UTF-8"?>{doctype}'
                     '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>A book</title>'
                     f'</head><body>{body}</body></html>',
    }, stored=("mimetype",))


def html_with_links(word, url):
    return (f'<!DOCTYPE html><html><head><base href="{url}/"><link rel="stylesheet" '
            f'href="{url}/style.css"><script src="{url}/script.js"></script>'
            f'<style>@import url({url}/import.css); body {{ background: url({url}/back.png) }}'
            f'</style></head><body><p>links of the {word} page</p><img src="{url}/image.png">'
            f'<img src="relative.png"><iframe src="{url}/frame.html"></iframe>'
            f'<object data="{url}/object.svg"></object><video poster="{url}/poster.png" '
            f'src="{url}/video.mp4"></video><img src="file:///etc/passwd">'
            f'<svg><image href="{url}/svg.png"/></svg></body></html>').encode()


def rtf_with_links(word, url):
    return (r"{\rtf1\ansi " + f"links of the {word} letter" + r"\par {\field{\*\fldinst "
            f'INCLUDEPICTURE "{url}/rtf.png" ' + r"\\d}{\fldrslt }}{\*\template " +
            f"{url}/template.dot" + "}}").encode()


# ---- compound files (OLE), [MS-CFB] --------------------------------------------------------------

FREE, END, IS_FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound(streams):
    """streams: name → bytes. Each is filled up to 4096 bytes at least, below which streams would
    lie in the short-stream container."""
    per_sector = 4
    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    n_directory = (len(names) + 1 + per_sector - 1) // per_sector
    fat = [IS_FAT] + [i + 2 for i in range(n_directory - 1)] + [END]
    body = b""
    entries = [directory_entry("Root Entry", 5, child=1, start=END)]
    for i, name in enumerate(names, 1):
        data = streams[name].ljust(4096, b"\0")
        n = (len(data) + 511) // 512
        first = len(fat)
        fat += [first + k + 1 for k in range(n - 1)] + [END]
        body += data.ljust(n * 512, b"\0")
        entries.append(directory_entry(name, 2, right=i + 1 if i < len(names) else FREE,
                                       start=first, size=len(data)))
    entries += [directory_entry("", 0)] * (n_directory * per_sector - len(entries))
    assert len(fat) <= 128
    fat += [FREE] * (128 - len(fat))
    header = struct.pack("<8s16s5H6x9L", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3,
                         0xFFFE, 9, 6, 0, 1, 1, 0, 4096, END, 0, END, 0)
    header += struct.pack("<109L", 0, *[FREE] * 108)
    return header + struct.pack("<128L", *fat) + b"".join(entries) + body


def directory_entry(name, kind, child=FREE, right=FREE, start=0, size=0):
    text = name.encode("utf-16-le")
    return struct.pack("<64sH2B3L16sL8x8xLQ", text, len(text) + 2 if name else 0, kind, 1, FREE,
                       right, child, bytes(16), 0, start, size)


def encrypted_package():
    """What Office makes of a DOCX with a password."""
    return compound({"EncryptedPackage": b"\x10\x27" + bytes(range(256)) * 20,
                     "EncryptionInfo": struct.pack("<2HL", 4, 4, 0x40) + b"<encryption/>"})


def encrypted_word():
    """A DOC whose header says that it is encrypted ([MS-DOC] 2.5.2)."""
    return compound({"WordDocument": struct.pack("<5HH", 0xA5EC, 0x00C1, 0, 0x409, 0, 0x0300),
                     "1Table": bytes(4096)})


# ---- pictures ------------------------------------------------------------------------------------

def chunk(kind, data):
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(width, height, rows=None, depth=8):
    """Grey; without rows its data end after some bytes."""
    packed = zlib.compress(rows if rows is not None else bytes(64), 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2L5B", width, height, depth, 0, 0,
                                                              0, 0)) +
            chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def png_grey(width, height, value=200):
    return png(width, height, (b"\0" + bytes([value]) * width) * height)


def png_black(side):
    """side × side one-bit pixels, whole, nearly all of them packed away."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    packed = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    return (b"\x89PNG\r\n\x1a\n" +
            chunk(b"IHDR", struct.pack(">2L5B", side, side, 1, 0, 0, 0, 0)) +
            chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def jpeg_header(width, height):
    return (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x0b\x08" +
            struct.pack(">2H", height, width) + b"\1\1\x11\0\xff\xd9")


def bmp_header(width, height):
    return struct.pack("<2sL4xL3L2H6L", b"BM", 54, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def webp_header(width, height):
    """A lossless picture (VP8L) of which there is only the size."""
    bits = struct.pack("<BL", 0x2F, (width - 1) | (height - 1) << 14)
    data = b"VP8L" + struct.pack("<L", len(bits)) + bits + b"\0"
    return b"RIFF" + struct.pack("<L", 4 + len(data)) + b"WEBP" + data


def tiff(n_frames, width=1, height=1, loop=False):
    """Grey frames that share one strip; with loop the last is followed by the first."""
    out = bytearray(b"II*\0\0\0\0\0") + bytes([200]) * (width * height)
    out += bytes(len(out) % 2)
    struct.pack_into("<L", out, 4, len(out))
    for i in range(n_frames):
        tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1),
                (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, width * height)]
        out += struct.pack("<H", len(tags))
        out += b"".join(struct.pack("<2HLL", tag, kind, 1, value) for tag, kind, value in tags)
        last = i == n_frames - 1
        out += struct.pack("<L", len(out) + 4 if not last else 9 if loop else 0)
    if loop:
        struct.pack_into("<L", out, len(out) - 4, struct.unpack_from("<L", out, 4)[0])
    return bytes(out)


# ---- texts ---------------------------------------------------------------------------------------

def words(n, seed=1):
    """n words of a small vocabulary, the same for the same seed."""
    vocabulary = [f"{a}{b}{c}" for a in ("ba", "do", "ki", "lu", "mer") for b in ("na", "so", "ti")
                  for c in ("", "r", "st")]
    state = seed
    out = []
    for _ in range(n):
        state = (state * 1103515245 + 12345) % (1 << 31)
        out.append(vocabulary[(state >> 16) % len(vocabulary)])
    return out
