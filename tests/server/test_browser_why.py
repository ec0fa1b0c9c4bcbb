"""Why this page, in a real Chromium: words of the question, their maps and their boxes over the page."""

import re

import pytest

from browser_files import make_pdf
from test_browser import browser, overflow, pytestmark, watch  # noqa: F401  (fixtures)
from test_explain import serve  # noqa: F401  (fixture)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

QUERY = "zeppelin moorings"


@pytest.fixture
def opened(serve, watch):  # noqa: F811
    """A page on the first hit of a visual search, its server and the hit."""
    server = serve()
    job, _ = server.read(make_pdf([[(72, 700, 24, "Wiring of the lantern")],
                                   [(72, 400, 18, "A heron by the river")]]), "wiring.pdf")
    assert job["state"] == "completed", job
    hits = server.request("POST", "/search", {"query": QUERY, "search_mode": "visual"}).json["results"]
    page = watch(server.url).page
    page.goto(f"/#/search?q={QUERY.replace(' ', '+')}&mode=visual")
    page.locator(".hit-link").first.click()
    expect(page.locator(".page img.loaded")).to_be_visible()
    return page, server, hits[0]


def check_boxes(page, selector, wanted):
    """Boxes that are seen on the page, as shares of its picture: measured at once, as it may scroll."""
    expect(page.locator(".page > img.loaded")).to_be_visible()
    got = page.evaluate("""(selector) => {
      const sheet = document.querySelector('.page > img').getBoundingClientRect();
      return [...document.querySelectorAll(selector)].map((box) => box.getBoundingClientRect())
        .filter((box) => box.width > 0)
        .map((box) => [(box.left - sheet.left) / sheet.width, (box.top - sheet.top) / sheet.height,
          (box.right - sheet.left) / sheet.width, (box.bottom - sheet.top) / sheet.height]);
    }""", selector)
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted):
        assert one == pytest.approx(other, abs=0.004)


def test_maps_and_boxes_of_the_question_and_of_each_word(opened):
    page, server, hit = opened
    told = server.get(f"/documents/{hit['doc_id']}/pages/{hit['page_num']}/explain", query=QUERY).json
    check_boxes(page, ".boxes.places .box", hit["boxes"])
    toggle = page.get_by_role("button", name="Why this page")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    chips = page.locator(".viewer-why .chip")
    expect(chips).to_have_text(["All words", "zeppelin", "moorings"])
    expect(chips.nth(0)).to_have_attribute("aria-pressed", "true")
    shown = page.locator(".why:visible")
    expect(shown.locator("img.heat.loaded")).to_be_visible()
    check_boxes(page, ".page .box", told["boxes"])
    natural = shown.locator("img").evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert natural == [396, 512]
    heat, sheet = shown.locator("img").bounding_box(), page.locator(".page > img").bounding_box()
    assert heat == pytest.approx(sheet, abs=1)

    chips.nth(2).hover()  # for as long as the pointer stays
    expect(page.locator(".why:visible")).to_have_attribute("data-word", "1")
    check_boxes(page, ".page .box", told["words"][1]["boxes"])
    page.mouse.move(5, 5)
    expect(page.locator(".why:visible")).to_have_attribute("data-word", "-1")
    chips.nth(1).click()  # until another is chosen
    page.mouse.move(5, 5)
    expect(chips.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(chips.nth(0)).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".why:visible")).to_have_attribute("data-word", "0")
    expect(page.locator(".why:visible img.heat.loaded")).to_be_visible()
    check_boxes(page, ".page .box", told["words"][0]["boxes"])
    expect(page.locator("#announce")).to_contain_text("zeppelin: ")

    page.get_by_role("button", name="Larger").click()  # all grow together
    check_boxes(page, ".page .box", told["words"][0]["boxes"])
    toggle.click()
    expect(page.locator(".why")).to_have_count(0)
    expect(page.locator(".viewer-why")).to_be_hidden()
    check_boxes(page, ".page .box", hit["boxes"])


def test_by_keyboard_from_page_to_page_and_narrow(opened):
    page, server, hit = opened
    page.locator(".viewer-page").focus()
    page.keyboard.press("w")
    chips = page.locator(".viewer-why .chip")
    expect(chips).to_have_count(3)
    chips.nth(2).focus()
    expect(page.locator(".why:visible")).to_have_attribute("data-word", "1")
    page.keyboard.press("Enter")
    expect(chips.nth(2)).to_have_attribute("aria-pressed", "true")
    expect(chips.nth(2)).to_have_accessible_name(
        re.compile("moorings, fits best (at the|in the|nowhere)"))
    other = 3 - hit["page_num"]
    page.keyboard.press("ArrowRight" if other == 2 else "ArrowLeft")
    expect(page.get_by_label("Page number")).to_have_value(str(other))
    expect(chips.nth(2)).to_have_attribute("aria-pressed", "true")
    told = server.get(f"/documents/{hit['doc_id']}/pages/{other}/explain", query=QUERY).json
    expect(page.locator(".why:visible img.heat.loaded")).to_be_visible()
    check_boxes(page, ".page .box", told["words"][1]["boxes"])
    page.set_viewport_size({"width": 360, "height": 740})
    assert overflow(page) <= 0
    check_boxes(page, ".page .box", told["words"][1]["boxes"])
    page.keyboard.press("t")  # the text has no map
    expect(page.locator(".page-text")).to_be_visible()
    expect(page.locator(".viewer-why")).to_be_hidden()
    expect(page.get_by_role("button", name="Why this page")).to_have_count(0)
    page.keyboard.press("t")
    expect(page.locator(".why:visible img.heat.loaded")).to_be_visible()


def test_what_cannot_be_told_is_said(opened):
    page, _, _ = opened
    page.route("**/explain?*", lambda route: route.fulfill(
        status=404, json={"error": {"code": "no_patches", "message": "kept pooled"}}))
    page.get_by_role("button", name="Why this page").click()
    expect(page.locator(".viewer-why")).to_contain_text("keeps no places of pages")
    expect(page.locator(".why")).to_have_count(0)


def test_not_where_nothing_was_found_by_looks(opened):
    page, _, hit = opened
    page.goto(f"/#/doc/{hit['doc_id']}/1")
    expect(page.locator(".page img.loaded")).to_be_visible()
    expect(page.get_by_role("button", name="Why this page")).to_have_count(0)
    page.goto(f"/#/doc/{hit['doc_id']}/1?q=lantern&mode=lexical")
    expect(page.locator(".page .boxes.words .box")).to_have_count(1)
    expect(page.get_by_role("button", name="Why this page")).to_have_count(0)
