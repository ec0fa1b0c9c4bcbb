"""Documents made for the browser tests: small PDFs whose words stand where we say."""

PAGE_WIDTH, PAGE_HEIGHT = 612, 792  # points


def make_pdf(pages):
    """A PDF; pages is a list of lists of (x, y, size, text), points from the bottom left."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"",
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for lines in pages:
        content = "".join(f"BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET\n"
                          for x, y, size, text in lines).encode("ascii")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents %d 0 R "
                       b"/Resources << /Font << /F1 3 0 R >> >> >>"
                       % (PAGE_WIDTH, PAGE_HEIGHT, len(objects)))
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))

    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (out + table + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
            % (len(objects) + 1, len(out)))


def file(name, media_type, data):
    """A file as Playwright's set_input_files takes it."""
    return {"name": name, "mimeType": media_type, "buffer": data}


def pdf(name, pages):
    return file(name, "application/pdf", make_pdf(pages))


def text(name, words):
    return file(name, "text/plain", words.encode())
