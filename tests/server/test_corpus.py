"""Real documents, all of them: each is read whole and found by what stands in it, on its page and
at its place. They lie at ../shared/corpus beside the project (DOCUSEARCH_CORPUS overrides)."""

import hashlib
import html
import re
import shutil
import subprocess
from collections import Counter, namedtuple

import pytest

from conftest import stop_whole
from running import CORPUS, Running

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus at {CORPUS}")

LEFT_OUT = {"README.md"}
UNREADABLE = {"pdf/libreoffice-writer-password.pdf": "password_required"}
WORDLESS = {"pdf/grayscale-image.pdf"}

# page 0: any. top: how good its rank must be among all documents; 0: asked of this document alone,
# because others say the same.
Question = namedtuple("Question", "file query page top")


def ask(file, query, page=1, top=1):
    return Question(file, query, page, top)


QUESTIONS = [
    ask("csv/csv-comma.csv", '"Lozano, Dr"'),
    ask("csv/csv-inconsistent-header.csv", "1 2 3", top=0),
    ask("csv/csv-semicolon.csv", '"Rasmussen Group" "East Leonard"', top=2),
    ask("docx/docx_external_image.docx", '"comes after the external image"'),
    ask("docx/docx_grouped_images.docx", '"pictures grouped together"'),
    ask("docx/docx_lists.docx", '"spare clamps were sorted into labeled tins"', page=3),
    ask("docx/docx_page_header_footer_first_page.docx", '"header/footer regression fixture"'),
    ask("docx/docx_page_header_footer_first_page.docx", '"body text on page 2"', page=2),
    ask("docx/docx_rich_cells.docx", '"Third paragraph before a numbered list"'),
    ask("docx/drawingml.docx", "torque speed characteristics"),
    ask("docx/equations.docx", '"Pythagorean theorem"'),
    ask("docx/equations.docx", '"OMML group character object"', page=2),
    ask("docx/lorem_ipsum.docx", '"Fusce vitae leo sollicitudin"', page=2),
    ask("docx/tablecell.docx", '"Hello world1"'),
    ask("docx/textbox.docx", '"Nanjing Elementary School"'),
    ask("docx/textbox.docx", "epidemiological investigation"),
    ask("docx/unit_test_formatting.docx", '"third page of the document"', page=3),
    ask("docx/unit_test_headers_numbered.docx", '"Second sub-item at this level"', page=2),
    ask("docx/word_sample.docx", '"cute duckling"'),
    ask("docx/word_sample.docx", "buckwheat barley", page=2),
    ask("docx/word_tables.docx", '"table with a row starting late"', page=2),
    ask("html/example_01.html", '"paragraph of the introduction"'),
    ask("html/example_08.html", '"Pivot table with with 1 row header"'),
    ask("html/formatting.html", '"double strikethrough"'),
    ask("html/html_rich_table_cells.html", '"Fly south in winter"'),
    ask("html/table_03.html", '"After table"'),
    ask("html/wiki_duck.html", '"Anaheim Ducks" Estevez', page=0),
    ask("md/mixed.md", '"Balthazar Picsou"'),
    ask("md/nested.md", "abcd12345"),
    ask("md/wiki.md", '"Computing-Tabulating-Recording Company"'),
    ask("ocr/ocr_test.pdf", "Docling bundles PDF document conversion", top=2),
    ask("ocr/ocr_test_rotated_90.pdf", "Docling bundles PDF document conversion", top=2),
    ask("ocr/qr_bill_example.jpg", '"Disposal of cuttings"'),
    ask("ocr/sample_with_rotation_mismatch.pdf", "photocell facsimile raster scan"),
    ask("ocr/sample_with_rotation_mismatch.pdf", '"Mining Surveys"'),
    ask("pdf/2305.03393v1-pg9.pdf", '"Optimized Table Tokenization"'),
    ask("pdf/GeoTopo-komprimiert.pdf", '"Mitschriften einiger Übungen"', page=2),
    ask("pdf/GeoTopo-komprimiert.pdf", "Halbgeraden Nebenwinkel Scheitelwinkel Aufgabe", page=90),
    ask("pdf/GeoTopo-komprimiert.pdf", "ubungen mitschriften prof herrlich", page=2),
    ask("pdf/amt_handbook_sample.pdf", '"Boots Self-Locking Nut"'),
    ask("pdf/annotated_pdf.pdf", '"Not highlighted"'),
    ask("pdf/code_and_formula.pdf", '"JavaScript Code Example"'),
    ask("pdf/google-doc-document.pdf", '"Beautiful is better than ugly"'),
    ask("pdf/habibi.pdf", "habibi"),
    ask("pdf/libre-office-link.pdf", '"link to an awesome blog"'),
    ask("pdf/libreoffice-form.pdf", '"Agree to privacy policy"'),
    ask("pdf/multi_page.pdf", '"Christopher Latham Sholes"'),
    ask("pdf/multi_page.pdf", "bibliography generators", page=4),
    ask("pdf/multi_page.pdf", '"clunky typewriters"', page=5),
    ask("pdf/multicolumn.pdf", '"Two-Column Document with Lorem Ipsum"'),
    ask("pdf/multicolumn.pdf", '"EU Countries Information"', page=3),
    ask("pdf/normal_4pages.pdf", "음압격리", page=2),
    ask("pdf/normal_4pages.pdf", "의심스러운", page=3),
    ask("pdf/pdflatex-image.pdf", '"Your Chapter"'),
    ask("pdf/pdflatex-outline.pdf", '"Huardest gefburn"', page=0),
    ask("pdf/redp5110_sampled.pdf", '"nine built-in global variables"', page=12),
    ask("pdf/redp5110_sampled.pdf", "preface comprehensive and transparent RCAC capabilities",
        page=4),
    ask("pdf/right_to_left_01.pdf", "البرمجة بلغة"),
    ask("pdf/with-attachment.pdf", '"no sea takimata sanctus"', top=0),
    ask("pptx/powerpoint_malformed_pictures.pptx", '"Slide With Dangling Rel"', page=2),
    ask("pptx/powerpoint_sample.pptx", '"Second slide title"', page=2),
    ask("pptx/powerpoint_with_image.pptx", '"Image linked to file"'),
    ask("pptx/pptx_chart.pptx", '"Quarterly Duck Survey"'),
    ask("xlsx/xlsx_01.xlsx", '"header (f)"', page=0, top=0),
    ask("xlsx/xlsx_03_chartsheet.xlsx", '"Wild Duck Observations by Year"', page=0, top=2),
    ask("xlsx/xlsx_05_table_with_title.xlsx", '"Number of freshwater ducks per year"'),
]


def files():
    return sorted(str(path.relative_to(CORPUS)) for path in CORPUS.rglob("*")
                  if path.is_file() and path.name not in LEFT_OUT
                  and path.relative_to(CORPUS).parts[0] != "reference")


def id_of(file):
    return hashlib.sha256((CORPUS / file).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The real server with all of the corpus in it: file → its ended job in server.jobs."""
    server = Running(tmp_path_factory.mktemp("corpus") / "data")
    sent = {}
    # The largest first, so that no worker is left alone with one at the end.
    for file in sorted(files(), key=lambda file: -(CORPUS / file).stat().st_size):
        reply = server.upload((CORPUS / file).read_bytes(), file.rpartition("/")[2])
        assert reply.status == 202, (file, reply.body)
        sent[file] = reply.json["documents"][0]["job_id"]
    server.jobs = {file: server.wait_job(job_id, 180) for file, job_id in sent.items()}
    yield server
    assert stop_whole(server) == 0


def test_every_file_has_a_question():
    asked = {question.file for question in QUESTIONS} | set(UNREADABLE) | WORDLESS
    assert sorted(asked) == files()


@pytest.mark.parametrize("file", files())
def test_file_is_read(server, file):
    job = server.jobs[file]
    if file in UNREADABLE:
        assert (job["state"], job["error"]["code"]) == ("failed", UNREADABLE[file])
        assert job["attempts"] == 1
        return
    assert job["state"] == "completed", job["error"]
    document = server.document(id_of(file))
    assert document["status"] == "completed", document["warning"]
    assert document["format"] in (file.split("/")[0], "pdf", "jpeg", "markdown")
    markdown = server.get(f"/documents/{document['doc_id']}/markdown").body.decode()
    assert file in WORDLESS or len(markdown.split()) >= 2
    assert file in WORDLESS or document["chunk_count"] >= 1
    assert document["page_count"] == len(document["pages"]) >= 1
    for page in document["pages"]:
        picture, thumb = server.get(page["image_url"]), server.get(page["thumb_url"])
        assert picture.status == thumb.status == 200
        assert picture.body[:3] == thumb.body[:3] == b"\xff\xd8\xff"
        assert picture.body[-2:] == b"\xff\xd9" and len(thumb.body) < len(picture.body) + 2000
        assert page["width"] > 0 and page["height"] > 0 and not page["broken"]


def text_of(question):
    return re.sub(r"[^\w.]+", "-", f"{question.file.rpartition('/')[2]} {question.query}")


def check_boxes(hit):
    assert hit["page_width"] > 0 and hit["page_height"] > 0
    for x0, y0, x1, y1 in hit["boxes"]:
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    for start, end in hit["highlights"]:
        assert 0 <= start < end <= len(hit["text_preview"])


@pytest.mark.parametrize("question", QUESTIONS, ids=text_of)
def test_document_is_found(server, question):
    doc_id = id_of(question.file)
    if question.top:
        hits = server.search(question.query, n_results=10)
        among = list(dict.fromkeys(hit["doc_id"] for hit in hits))[:question.top]
    else:
        hits = server.request("POST", "/search", {
            "query": question.query, "filters": {"doc_id": doc_id}}).json["results"]
        among = [hit["doc_id"] for hit in hits]
    assert doc_id in among, [(hit["filename"], hit["page_num"]) for hit in hits]
    hit = next(hit for hit in hits if hit["doc_id"] == doc_id)
    assert question.page in (0, hit["page_num"])
    assert hit["boxes"] and hit["highlights"]
    for one in hits:
        check_boxes(one)


def test_scans_are_recognised(server):
    for file in files():
        if file.startswith("ocr/"):
            pages = server.document(id_of(file))["pages"]
            assert [page["ocr"] for page in pages] == [True], file


# ---- places --------------------------------------------------------------------------------------

# Where a word stands on its page, measured by hand on the picture (a twentieth of the page either
# way): file, word, middle of its box.
PLACES = [
    ("ocr/ocr_test.pdf", "Docling", 0.18, 0.10),
    ("ocr/ocr_test_rotated_90.pdf", "Docling", 0.10, 0.82),
    ("ocr/qr_bill_example.jpg", "Fictitious", 0.33, 0.01),
    ("ocr/sample_with_rotation_mismatch.pdf", "SLEREXE", 0.41, 0.13),
    ("pdf/libreoffice-form.pdf", "Nationality", None, None),
]


@pytest.mark.parametrize("file,word,x,y", PLACES, ids=[place[0] for place in PLACES])
def test_box_is_where_the_word_stands(server, file, word, x, y):
    hits = server.request("POST", "/search", {"query": word, "filters": {
        "doc_id": id_of(file)}}).json["results"]
    assert len(hits) == 1 and hits[0]["boxes"]
    middles = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in hits[0]["boxes"]]
    if x is None:
        x, y = middle_by_poppler(file, word)
    assert any(abs(mx - x) < 0.05 and abs(my - y) < 0.05 for mx, my in middles), middles


def words_by_poppler(file):
    """Of each page: (width, height, [(word, x0, y0, x1, y1)]) in points."""
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler-utils) is not installed")
    out = subprocess.run(["pdftotext", "-bbox", str(CORPUS / file), "-"], capture_output=True,
                         check=True, text=True).stdout
    pages = []
    for line in out.splitlines():
        if found := re.search(r'<page width="(.*?)" height="(.*?)"', line):
            pages.append((float(found[1]), float(found[2]), []))
        elif found := re.search(r'<word xMin="(.*?)" yMin="(.*?)" xMax="(.*?)" yMax="(.*?)">'
                                r'(.*)</word>', line):
            pages[-1][2].append((html.unescape(found[5]), *map(float, found.groups()[:4])))
    return pages


def middle_by_poppler(file, word):
    width, height, words = words_by_poppler(file)[0]
    for text, x0, y0, x1, y1 in words:
        if text.startswith(word):
            return (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
    raise AssertionError(f"Poppler finds no {word}")


def letters(text):
    return re.sub(r"\W", "", text)


@pytest.mark.parametrize("file,wanted", [
    ("pdf/multi_page.pdf", 0.95), ("pdf/multicolumn.pdf", 0.9), ("pdf/redp5110_sampled.pdf", 0.9),
    ("pdf/amt_handbook_sample.pdf", 0.9), ("pdf/code_and_formula.pdf", 0.9),
    ("pdf/2305.03393v1-pg9.pdf", 0.85), ("pdf/libreoffice-form.pdf", 0.8)])
def test_words_stand_where_poppler_sees_them(server, file, wanted):
    """Every word that a page holds once: ours lies over Poppler's."""
    n_ours = n_theirs = 0
    for number, (width, height, theirs) in enumerate(words_by_poppler(file), 1):
        page = server.get(f"/documents/{id_of(file)}/pages/{number}").json
        ours = [(letters(word["text"]), word["box"]) for element in page["elements"]
                for word in element["words"]]
        once = {text for text, n in Counter(text for text, _ in ours).items() if n == 1}
        places = {text: box for text, box in ours if text in once}
        counts = Counter(letters(word[0]) for word in theirs)
        for text, x0, y0, x1, y1 in theirs:
            text = letters(text)
            if len(text) < 4 or counts[text] > 1:
                continue
            n_theirs += 1
            x, y = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
            box = places.get(text)
            n_ours += bool(box and box[0] - 0.005 <= x <= box[2] + 0.005 and
                           box[1] - 0.005 <= y <= box[3] + 0.005)
    assert n_theirs > 10 and n_ours / n_theirs >= wanted, (n_ours, n_theirs)


# ---- the order and the joining of words ----------------------------------------------------------

# Texts that follow each other in this order in the document's Markdown.
ORDERS = {
    "pdf/multicolumn.pdf": ["sample document with two columns", "Curabitur dictum gravida mauris",
                            "Pellentesque habitant morbi tristique", "Proin fermentum massa",
                            "Maecenas lacinia"],
    "pdf/amt_handbook_sample.pdf": ["general types of self-locking nuts", "Boots Self-Locking Nut",
                                    "bellows type is made of aluminum",
                                    "Stainless Steel Self-Locking Nut", "shoulder and slotted"],
    "pdf/with-attachment.pdf": ["Lorem ipsum dolor", "no sea takimata sanctus", "sit amet."],
    "docx/word_sample.docx": ["Summer activities", "Swimming in the lake", "Wear sunglasses",
                              "Hmm, what else", "Buckwheat", "Leaves"],
    "docx/unit_test_headers_numbered.docx": ["Section 1", "Paragraph 1.1", "Section 2",
                                             "Hardware Constraints", "REFERENCES"],
    "html/example_01.html": ["# Introduction", "## Background", "First item in unordered list",
                             "First item in ordered list with start"],
    "md/mixed.md": ["# Title", "## Famous ducks", "Scrooge McDuck", "Loulou", "The end!"],
    "csv/csv-comma.csv": ["Index", "Website", "Sheryl", "Preston", "Priscilla"],
    "xlsx/xlsx_05_table_with_title.xlsx": ["Number of freshwater ducks", "Freshwater Ducks",
                                           "2019", "120", "2024", "180"],
    "pptx/powerpoint_sample.pptx": ["Test Table Slide", "Class1", "Second slide title",
                                    "And baz things"],
}


@pytest.mark.parametrize("file", ORDERS)
def test_order_of_reading(server, file):
    markdown = server.get(f"/documents/{id_of(file)}/markdown").body.decode()
    flat = re.sub(r"\s+", " ", re.sub(r"[*_`\\]", "", markdown))
    at = 0
    for text in ORDERS[file]:
        found = flat.find(text, at)
        assert found >= 0, f"{text!r} does not follow in …{flat[max(0, at - 60):at + 300]}"
        at = found + len(text)


def test_no_words_are_lost_on_the_way(server):
    """All words that Poppler sees of a long document stand in its Markdown."""
    file = "pdf/multi_page.pdf"
    markdown = letters(server.get(f"/documents/{id_of(file)}/markdown").body.decode()).lower()
    words = [letters(word[0]).lower() for page in words_by_poppler(file) for word in page[2]]
    missing = [word for word in words if word not in markdown]
    assert missing == []
