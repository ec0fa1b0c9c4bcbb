"""The page at /, driven in a real Chromium against the real server.

Every test uses words and names of its own, so that they share one server and stand in any order.
"""

import base64
import os
import re

import pytest

from browser_files import PAGE_HEIGHT, PAGE_WIDTH, make_pdf, pdf, text

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-first-run"]
INGEST_MS = 60_000

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"no Chromium at {CHROMIUM}")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Watched:
    """A page that must not raise, log errors, open dialogs of its own or fetch from elsewhere."""

    def __init__(self, browser, url, **context):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
        self.page = self.context.new_page()
        self.url = url
        self.faults = []
        self.page.set_default_timeout(15_000)
        self.page.on("pageerror", lambda error: self.faults.append(f"raised {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog {dialog.message}"))
        self.page.on("console", self.on_console)
        self.page.on("request", self.on_request)

    def on_console(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def on_request(self, request):
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.faults.append(f"fetched {request.url}")


@pytest.fixture
def watch(browser):
    """watch(url) -> a page of that server, which must have had no faults when the test ends."""
    opened = []

    def watch_one(url):
        watched = Watched(browser, url, base_url=url)
        opened.append(watched)
        watched.page.goto(url)
        return watched

    yield watch_one
    for watched in opened:
        watched.context.close()
    assert [fault for watched in opened for fault in watched.faults] == []


@pytest.fixture
def watched(watch, server):
    return watch(server.url)


@pytest.fixture
def page(watched):
    return watched.page


def add(page, *files):
    """Adds files through the hidden input and waits until their ends are shown."""
    page.set_input_files("#files", list(files))
    for each in files:
        expect(row(page, each["name"])).to_have_attribute(
            "data-state", re.compile("completed|partial|known|failed"), timeout=INGEST_MS)


def row(page, name):
    return page.locator(".virtual-row").filter(
        has=page.locator(".activity-name").get_by_text(name, exact=True))


def search(page, query):
    page.locator("#q").fill(query)
    page.keyboard.press("Enter")
    expect(page.locator(".search-body > .summary")).to_be_visible()


def api_search(page, query):
    reply = page.request.post("/search", data={"query": query})
    assert reply.ok, reply.text()
    return reply.json()["results"]


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


# ---- the main path ------------------------------------------------------------------------------

def test_upload_search_read_delete(page):
    name = "quillwort survey.pdf"
    pages = [[(72, 700, 24, "An opening page about ferns")],
             [(72, 700, 18, "Meadow notes"), (300, 200, 18, "the quillwort grows here")],
             [(72, 400, 18, "A third page")]]
    pages += [[(72, 700, 18, f"Filler number {n}")] for n in range(147)]
    page.set_input_files("#files", [pdf(name, pages)])
    expect(page.locator("#activity-title")).to_contain_text("Adding 1 file")
    expect(row(page, name)).to_contain_text(re.compile(r"Reading page \d+ of 150"))
    expect(row(page, name)).to_have_attribute("data-state", "completed", timeout=INGEST_MS)
    expect(row(page, name)).to_contain_text("Ready · 150 pages")

    search(page, "quillwort")
    hit = page.locator(".hit")
    expect(hit).to_have_count(1)
    expect(hit).to_contain_text(name)
    expect(hit.locator(".hit-place")).to_contain_text("Page 2")
    expect(hit.locator(".hit-passage mark")).to_have_text(["quillwort"])
    expect(hit.locator(".box")).to_have_count(1)
    expect(hit.locator("img.loaded")).to_be_visible()

    hit.locator(".hit-link").click()
    expect(page.locator(".page img.loaded")).to_be_visible()
    expect(page.get_by_label("Page number")).to_have_value("2")
    assert re.search(r"#/doc/[0-9a-f]{64}/2\?q=quillwort$", page.url)

    # The box is where the server says, and where the word was put in the file.
    box = page.locator(".page .box").bounding_box()
    sheet = page.locator(".page img").bounding_box()
    drawn = [(box["x"] - sheet["x"]) / sheet["width"], (box["y"] - sheet["y"]) / sheet["height"],
             (box["x"] + box["width"] - sheet["x"]) / sheet["width"],
             (box["y"] + box["height"] - sheet["y"]) / sheet["height"]]
    [result] = api_search(page, "quillwort")
    assert drawn == pytest.approx(result["boxes"][0], abs=0.003)
    baseline = 1 - 200 / PAGE_HEIGHT
    assert drawn[0] == pytest.approx((300 + 28) / PAGE_WIDTH, abs=0.02)  # after "the "
    assert drawn[1] < baseline - 8 / PAGE_HEIGHT and drawn[3] > baseline

    page.get_by_role("button", name="Next page").click()
    expect(page.get_by_label("Page number")).to_have_value("3")
    expect(page.locator(".page .box")).to_have_count(0)
    page.get_by_label("Page number").fill("1")
    page.get_by_label("Page number").press("Enter")
    expect(page).to_have_url(re.compile(r"/1\?q=quillwort$"))
    page.locator(".viewer-hits a").filter(has_text="Page 2").click()
    expect(page.locator(".page .box")).to_have_count(1)

    page.get_by_role("button", name=f"Delete {name}").click()
    expect(page.locator("dialog")).to_contain_text(name)
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".search-body .notice")).to_contain_text("No page matches")
    assert api_search(page, "quillwort") == []


def test_drop_adds_files_and_shows_a_failure_in_plain_words(page):
    page.evaluate("""([good, bad]) => {
      const transfer = new DataTransfer();
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      transfer.items.add(new File([bytes(good)], 'dropped sundew.pdf'));
      transfer.items.add(new File([bytes(bad)], 'dropped ruin.pdf'));
      for (const name of ['dragenter', 'dragover', 'drop']) {
        document.body.dispatchEvent(new DragEvent(name, {
          bubbles: true, cancelable: true, dataTransfer: transfer }));
        if (name === 'dragover' && document.getElementById('drop').hidden) throw Error('no veil');
      }
    }""", [base64.b64encode(data).decode() for data in (
        make_pdf([[(72, 700, 18, "a dropped sundew")]]), b"%PDF-1.7\nnothing but ruin\n%%EOF\n")])
    expect(row(page, "dropped sundew.pdf")).to_have_attribute("data-state", "completed",
                                                              timeout=INGEST_MS)
    failed = row(page, "dropped ruin.pdf")
    expect(failed).to_have_attribute("data-state", "failed", timeout=INGEST_MS)
    expect(failed.locator(".activity-state")).to_have_text(
        re.compile("damaged and could not be read|has no pages"))
    expect(failed.get_by_role("button", name="Try dropped ruin.pdf again")).to_be_visible()
    expect(page.locator("#activity-title")).to_contain_text("1 failed")
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".row").filter(has_text="dropped ruin.pdf")).to_contain_text("Not searchable")


def test_the_same_file_twice_is_said_to_be_here(page):
    same = text("bladderwort.txt", "a bladderwort in the pond")
    add(page, same)
    page.reload()
    add(page, same)
    expect(row(page, "bladderwort.txt")).to_contain_text("Already here")


def test_a_file_name_with_markup_stays_text(page):
    name = "<img src=x onerror=alert(1)>.txt"
    add(page, text(name, "a butterwort <b onclick=alert(2)>leaf</b> caught it"))
    search(page, "butterwort")
    expect(page.locator(".hit-link")).to_have_text(name)
    expect(page.locator(".hit-passage")).to_contain_text("<b onclick=alert(2)>leaf</b>")
    page.locator(".hit-link").click()
    expect(page.locator(".viewer h1")).to_have_text(name)
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".row-link").filter(has_text=name)).to_have_count(1)
    assert page.locator("img[src='x'], main b").count() == 0


# ---- keyboard -----------------------------------------------------------------------------------

def test_everything_works_with_the_keyboard(page):
    add(page, pdf("clubmoss one.pdf", [[(72, 700, 18, "clubmoss clubmoss clubmoss")],
                                       [(72, 700, 18, "nothing here")]]),
        pdf("clubmoss two.pdf", [[(72, 700, 18, "one clubmoss among many other words on it")]]))
    keyboard = page.keyboard
    page.locator("#view").focus()
    keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    keyboard.type("clubmoss")
    keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(2)
    keyboard.press("ArrowDown")
    expect(page.locator(".hit-link").nth(0)).to_be_focused()
    keyboard.press("ArrowDown")
    expect(page.locator(".hit-link").nth(1)).to_be_focused()
    keyboard.press("ArrowUp")
    keyboard.press("ArrowUp")
    expect(page.locator("#q")).to_be_focused()

    one = page.locator(".hit-link").filter(has_text="clubmoss one.pdf")
    one.focus()
    keyboard.press("Enter")
    expect(page.locator(".viewer h1")).to_have_text("clubmoss one.pdf")
    keyboard.press("ArrowRight")
    expect(page.get_by_label("Page number")).to_have_value("2")
    keyboard.press("ArrowLeft")
    expect(page.get_by_label("Page number")).to_have_value("1")
    before = page.locator(".page").bounding_box()["width"]
    keyboard.press("+")
    expect(page.locator(".zoom")).to_have_text("125 %")
    assert page.locator(".page").bounding_box()["width"] == pytest.approx(before * 1.25, rel=0.02)
    keyboard.press("0")
    keyboard.press("t")
    expect(page.locator(".page-text mark").first).to_have_text("clubmoss")
    keyboard.press("t")
    keyboard.press("Escape")
    expect(one).to_be_focused()

    page.get_by_role("link", name="Documents").focus()
    keyboard.press("Enter")
    rows = page.locator(".row-link")
    expect(rows.filter(has_text="clubmoss")).to_have_count(2)
    page.locator("#view").focus()
    keyboard.press("ArrowDown")
    expect(rows.first).to_be_focused()
    two = rows.filter(has_text="clubmoss two.pdf")
    two.focus()
    keyboard.press("Delete")
    expect(page.locator("dialog")).to_contain_text("clubmoss two.pdf")
    keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(rows.filter(has_text="clubmoss")).to_have_count(2)
    expect(two).to_be_focused()
    keyboard.press("Delete")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    keyboard.press("Tab")
    expect(page.locator("dialog").get_by_role("button", name="Delete")).to_be_focused()
    keyboard.press("Enter")
    expect(rows.filter(has_text="clubmoss")).to_have_count(1)
    keyboard.press("?")
    expect(page.locator("dialog kbd").first).to_be_visible()
    keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)


# ---- addresses, looks ---------------------------------------------------------------------------

def test_addresses_are_kept_and_the_back_button_works(page, watched):
    add(page, pdf("horsetail.pdf", [[(72, 700, 18, "the horsetail")]]))
    search(page, "horsetail")
    page.locator(".hit-link").click()
    expect(page.locator(".viewer h1")).to_have_text("horsetail.pdf")
    address = page.evaluate("location.href")
    page.go_back()
    expect(page.locator(".hit-link")).to_have_text("horsetail.pdf")
    expect(page.locator("#q")).to_have_value("horsetail")
    page.go_back()
    expect(page.locator(".home h1")).to_be_visible()

    other = watched.context.new_page()
    other.goto(address)
    expect(other.locator(".viewer h1")).to_have_text("horsetail.pdf")
    expect(other.locator(".page .box")).to_have_count(1)
    other.goto(f"{watched.url}/#/doc/{'0' * 64}/1")
    expect(other.locator("h1")).to_have_text("This document is not here")


def test_type_filter_and_document_list(page):
    add(page, pdf("selkie list.pdf", [[(72, 700, 18, "spikemoss in a file")]]),
        text("selkie list.txt", "spikemoss in a file"))
    search(page, "spikemoss")
    expect(page.locator(".hit")).to_have_count(2)
    page.locator(".chip").filter(has_text="PDF").click()
    expect(page.locator(".hit-link")).to_have_text(["selkie list.pdf"])
    page.get_by_role("link", name="Documents").click()
    page.get_by_label("Filter by name or title").fill("selkie")
    expect(page.locator(".row-link")).to_have_count(2)
    page.get_by_label("Order").select_option("name_desc")
    expect(page.locator(".row-link")).to_have_text(["selkie list.txt", "selkie list.pdf"])
    page.get_by_label("Type").select_option("text")
    expect(page.locator(".row-link")).to_have_text(["selkie list.txt"])


def test_status_line_says_what_is_missing_and_how_to_get_it(page):
    models = {model["kind"]: model for model in page.request.get("/health").json()["models"]}
    assert {model["state"] for model in models.values()} == {"not_installed"}
    line = page.locator("#status")
    expect(line).to_contain_text("sandbox")
    expect(line).to_contain_text("Words only: no text model installed")
    how = line.get_by_role("button", name="How to get one")
    how.focus()
    page.keyboard.press("Enter")
    for model in models.values():
        expect(page.locator("dialog pre")).to_contain_text(f"docusearch pull {model['name']}")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(how).to_be_focused()


def told(page, change):
    """The page as it is when /health tells of its models and device what change makes of them."""
    def answer(route):
        reply = route.fetch()
        health = reply.json()
        change({model["kind"]: model for model in health["models"]}, health)
        route.fulfill(response=reply, json=health)

    page.route("**/health", answer)
    page.reload()


def test_status_line_shows_models_device_and_speed(page):
    def ready(models, health):
        for model in models.values():
            model.update(state="ready", reason=None, precision="bf16", device="cpu")
        models["visual"].update(waiting=3, pages_per_second=1.234)
        models["text"].update(waiting=0, passages_per_second=99)
        health["device"].update(requested="mps", kernels="avx512", reason="not built in")

    told(page, ready)
    line = page.locator("#status")
    expect(line).to_contain_text("colpali-v1.2 bf16 · 1.2 pages/s")
    expect(line).to_contain_text("all-MiniLM-L6-v2 bf16")
    expect(line).not_to_contain_text("passages/s")  # it has nothing to do
    expect(line).to_contain_text("device cpu, not mps")
    expect(line.get_by_role("button")).to_have_count(0)
    expect(page.locator("select[name=mode] option:disabled")).to_have_count(0)


def test_a_refused_model_says_why_and_its_mode_cannot_be_chosen(page):
    def broken(models, health):
        health["status"] = "degraded"
        models["visual"].update(state="failed", reason="config.json: no model_type")
        models["text"].update(state="loading", reason="")

    told(page, broken)
    line = page.locator("#status")
    expect(line).to_contain_text("degraded")
    expect(line).to_contain_text("loading all-MiniLM-L6-v2")
    line.get_by_role("button", name="Why").click()
    expect(page.locator("dialog")).to_contain_text("config.json: no model_type")
    page.keyboard.press("Escape")
    options = page.locator("select[name=mode] option")
    expect(options).to_have_text([
        "Everything", "By meaning (the text model is loading)",
        "By looks (the visual model could not be loaded)", "By words"])
    expect(page.locator("select[name=mode] option:disabled")).to_have_count(2)


def test_search_mode_is_chosen_and_stays_in_the_address(page):
    add(page, text("twayblade.txt", "a twayblade in the shade"))
    search(page, "twayblade")
    mode = page.get_by_label("How to search")
    expect(mode).to_have_value("hybrid")
    expect(page.locator(".search-body > .summary")).to_contain_text("no text model is installed")
    mode.select_option("lexical")
    expect(page).to_have_url(re.compile(r"q=twayblade&mode=lexical$"))
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".search-body > .summary")).not_to_contain_text("installed")
    page.goto(page.url.replace("mode=lexical", "mode=visual"))
    page.reload()
    expect(page.locator(".search-body .notice")).to_contain_text("no visual model is installed")


def test_hits_without_found_words_look_whole(page):
    add(page, pdf("lady fern.pdf", [[(72, 700, 18, "adiantum and lady ferns")]]),
        pdf("holly fern.pdf", [[(72, 700, 18, "adiantum again")]]))

    def wordless(route):
        reply = route.fetch()
        found = reply.json()
        for result in found["results"]:
            result.update(highlights=[], boxes=[], score=0.01234)
        found["results"][0]["text_preview"] = ""
        route.fulfill(response=reply, json=found)

    page.route("**/search", wordless)
    search(page, "adiantum")
    hits = page.locator(".hit")
    expect(hits).to_have_count(2)
    expect(hits.nth(0)).to_contain_text("Found by its looks")
    expect(hits.nth(1).locator(".hit-passage")).to_contain_text("adiantum")
    expect(hits.nth(0).locator(".hit-score")).to_have_text("0.012")
    expect(page.locator(".hit img.loaded")).to_have_count(2)
    expect(page.locator(".hit .box, .hit mark")).to_have_count(0)
    hits.nth(1).locator(".hit-link").click()
    expect(page.locator(".page img.loaded")).to_be_visible()
    expect(page.locator(".viewer-hits li")).to_have_count(1)
    expect(page.locator(".page .box, .viewer-hits mark")).to_have_count(0)


def test_a_job_tells_of_embedding(page):
    """What the panel makes of the stages, whatever stages this server's jobs have."""
    name = "maidenhair.pdf"
    stages = [("embedding_visual", 3, 8, "Embedding page 3 of 8"),
              ("embedding_text", 5, 40, "Embedding passages, page 5 of 40"),
              ("embedding_text", 0, 0, "Embedding passages…"), ("storing", 8, 8, "Storing…"),
              ("", 0, 0, "Starting…")]
    for i, (stage, at, of, words) in enumerate(stages):
        page.evaluate("""async (job) => {
          const jobs = await import('/jobs.js');
          jobs.take(job);
        }""", {"job_id": 990_000 + i, "doc_id": "0" * 64, "filename": f"{i} {name}",
               "state": "processing", "stage": stage, "progress": 0.5, "page": at, "pages": of})
        expect(row(page, f"{i} {name}").locator(".activity-state")).to_have_text(words)


@pytest.mark.parametrize("width", [320, 390])
def test_phone_has_no_sideways_scroll(page, width):
    page.set_viewport_size({"width": width, "height": 700})
    name = f"a_rather_long_name_without_any_break_{'x' * 60}_{width}.pdf"
    add(page, pdf(name, [[(72, 700, 18, f"phone{width} quaking grass")]]))
    assert overflow(page) <= 0
    search(page, f"phone{width}")
    assert overflow(page) <= 0
    page.locator(".hit-link").click()
    expect(page.locator(".page img.loaded")).to_be_visible()
    assert overflow(page) <= 0
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".row-link").first).to_be_visible()
    assert overflow(page) <= 0


def contrast(page, selector):
    """WCAG contrast of an element's text with the page behind it."""
    return page.evaluate("""(selector) => {
      const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
      const light = (colour) => {
        paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      let node = document.querySelector(selector);
      const ink = light(getComputedStyle(node).color);
      while (getComputedStyle(node).backgroundColor === 'rgba(0, 0, 0, 0)') node = node.parentElement;
      const paper = light(getComputedStyle(node).backgroundColor);
      return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    }""", selector)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_contrast_is_enough(page, scheme):
    add(page, text(f"{scheme} sedge.txt", f"a {scheme}sedge by the water"))
    page.emulate_media(color_scheme=scheme)
    search(page, f"{scheme}sedge")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(int(part) for part in re.findall(r"\d+", paper)[:3]) / 3
    assert shade > 200 if scheme == "light" else shade < 60
    for selector in (".hit-link", ".hit-passage", ".hit-passage mark", ".hit-place", ".hit-score",
                     ".chip[aria-current]", ".chip:not([aria-current])", ".search-line .button",
                     "#status li", ".nav a:not([aria-current])"):
        assert contrast(page, selector) >= 4.5, selector

    page.locator("#theme").click()
    chosen = page.evaluate("document.documentElement.dataset.theme")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == chosen == "light"


# ---- the server's key, and its absence ----------------------------------------------------------

def test_key_is_asked_for_and_pictures_come_with_it(watch, start):
    page = watch(start(API_KEY="open sesame").url).page
    dialog = page.locator("dialog")
    expect(dialog).to_contain_text("asks for its key")
    dialog.get_by_label("API key").fill("not the key")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("That key was not taken")
    dialog.get_by_label("API key").fill("open sesame")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)

    add(page, pdf("woodrush.pdf", [[(72, 700, 18, "the woodrush")]]))
    search(page, "woodrush")
    expect(page.locator(".hit img.loaded")).to_be_visible()
    page.locator(".hit-link").click()
    image = page.locator(".page img.loaded")
    expect(image).to_be_visible()
    assert image.get_attribute("src").startswith("blob:")
    with page.expect_download() as download:
        page.get_by_role("link", name="Original").click()
    with open(download.value.path(), "rb") as saved:
        assert saved.read(5) == b"%PDF-"
    page.reload()
    expect(page.locator(".page img.loaded")).to_be_visible()
    expect(dialog).to_have_count(0)


def test_a_server_that_stops_is_said_and_come_back_to(watch, start):
    first = start()
    page = watch(first.url).page
    add(page, text("cottongrass.txt", "a cottongrass"))
    first.stop()
    expect(page.locator("#banner")).to_contain_text("does not answer")
    page.set_input_files("#files", [text("cottongrass two.txt", "a second cottongrass")])
    start(WORKER_PORT=str(first.port))
    expect(page.locator("#banner")).to_be_hidden(timeout=30_000)
    expect(row(page, "cottongrass two.txt")).to_have_attribute("data-state", "completed",
                                                               timeout=INGEST_MS)
    search(page, "cottongrass")
    expect(page.locator(".hit")).to_have_count(2)


def test_many_files_queue_without_freezing(page):
    files = [text(f"rush {i}.txt", f"rushleaf number {i}") for i in range(300)]
    page.set_input_files("#files", files)
    expect(page.locator("#activity-title")).to_contain_text(re.compile(r"Adding 30\d files"))
    assert page.locator(".virtual-row").count() < 40
    search(page, "rushleaf")
    page.locator("#activity header button").click()
    expect(page.locator("#activity-title")).to_contain_text(re.compile(r"30\d files done"), timeout=4 * INGEST_MS)


def test_a_waiting_file_can_be_cancelled(page):
    """Held back in the browser, so that it is surely still waiting when it is cancelled."""
    held = []
    is_held = [True]

    def hold(route):
        if is_held[0] and route.request.method == "POST":
            held.append(route)
        else:
            route.continue_()

    page.route("**/documents", hold)
    page.set_input_files("#files", [text(f"bog {i}.txt", f"bog {i}") for i in range(5)])
    expect(row(page, "bog 4.txt")).to_have_attribute("data-state", "waiting")
    assert len(held) == 3
    page.get_by_role("button", name="Cancel bog 4.txt").click()
    page.get_by_role("button", name="Cancel bog 0.txt").click()
    for i in (0, 4):
        expect(row(page, f"bog {i}.txt")).to_have_attribute("data-state", "cancelled")
    is_held[0] = False
    for route in held[1:]:
        route.continue_()
    for i in (1, 2, 3):
        expect(row(page, f"bog {i}.txt")).to_have_attribute("data-state", "completed",
                                                            timeout=INGEST_MS)
    page.get_by_role("button", name="Try bog 4.txt again").click()
    expect(row(page, "bog 4.txt")).to_have_attribute("data-state", "completed", timeout=INGEST_MS)


def test_a_folder_is_walked_and_other_kinds_are_left_out(page, tmp_path):
    folder = tmp_path / "fen"
    (folder / "deeper").mkdir(parents=True)
    (folder / "fen one.txt").write_text("fenwort one")
    (folder / "deeper" / "fen two.md").write_text("# fenwort two")
    (folder / "deeper" / "fen.xyz").write_text("fenwort three")
    (folder / ".hidden.txt").write_text("fenwort four")
    page.set_input_files("#folder", str(folder))
    for name in ("fen one.txt", "fen two.md"):
        expect(row(page, name)).to_have_attribute("data-state", "completed", timeout=INGEST_MS)
    expect(row(page, "1 file")).to_contain_text("Left out")
    search(page, "fenwort")
    expect(page.locator(".hit-link")).to_have_count(2)


def test_progress_is_told_without_events(page):
    page.route("**/events", lambda route: route.abort())
    page.reload()
    add(page, text("without events.txt", "a bogbean"))
    expect(row(page, "without events.txt")).to_contain_text("Ready")
    expect(page.locator("#banner")).to_be_hidden()


def test_a_document_opened_too_early_appears_when_it_is_read(page):
    name = "early moss.pdf"
    page.set_input_files("#files", [pdf(name, [[(72, 700, 18, f"moss {n}")] for n in range(150)])])
    expect(row(page, name)).to_contain_text("Reading page")
    page.get_by_role("link", name="Documents").click()
    page.locator(".row-link").filter(has_text=name).click()
    expect(page.locator(".viewer .notice")).to_contain_text("still being read")
    expect(page.locator(".page img.loaded")).to_be_visible(timeout=INGEST_MS)
    expect(page.locator(".jump")).to_contain_text("of 150")
