"""The page of a worker that shares a ChromaDB: documents of another's, and a ChromaDB that is gone."""

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from test_browser import browser, expect, pytestmark, search, watch  # noqa: E402,F401
from test_embedding_pipeline import models, pages_of, serve, text_of  # noqa: E402,F401
from test_shared import known, settled, until, worker  # noqa: E402,F401


def test_a_document_of_another_worker(worker, watch):  # noqa: F811
    first, second = worker("first"), worker("second")
    _, theirs = first.read(pages_of("lent", 2), "lent.txt")
    _, ours = second.read(pages_of("ours", 1), "ours.txt")
    settled(first)
    until(lambda: theirs["doc_id"] in known(second), what="the other's document")
    name = known(second)[theirs["doc_id"]]["worker"]
    page = watch(second.url).page
    search(page, text_of("lentx1").strip())
    page.locator(".hit-link").filter(has_text="lent.txt").first.click()
    expect(page.locator(".viewer h1")).to_have_text("lent.txt")
    expect(page.locator(".viewer-page .notice")).to_have_text(f"Its files are with {name}.")
    expect(page.locator(".notice.trouble")).to_have_count(0)
    expect(page.locator(".viewer-hits mark").first).to_be_visible()
    expect(page.locator(".viewer-links a")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete lent.txt")).to_be_visible()

    page.goto(f"{second.url}/#/doc/{ours['doc_id']}/1")
    expect(page.locator(".viewer-links a")).to_have_text(["Original", "Markdown"])
    expect(page.locator(".page img.loaded")).to_be_visible()


def test_what_another_removes_is_said(worker, watch):  # noqa: F811
    """Where its answers and its page are open, at once."""
    first, second = worker("first"), worker("second")
    _, gone = first.read(pages_of("fading", 1), "fading.txt")
    _, stays = first.read(pages_of("staying", 1), "staying.txt")
    until(lambda: {gone["doc_id"], stays["doc_id"]} <= set(known(second)), what="the documents")
    answers, opened = watch(second.url).page, watch(second.url).page
    search(answers, "heron")
    expect(answers.locator(".hit")).to_have_count(2)
    opened.goto(f"{second.url}/#/doc/{gone['doc_id']}/1")
    expect(opened.locator(".viewer h1")).to_have_text("fading.txt")
    assert first.request("DELETE", f"/documents/{gone['doc_id']}").status == 200
    expect(answers.locator(".hit.gone")).to_contain_text("This document was removed.", timeout=20000)
    expect(answers.locator(".hit:not(.gone) .hit-link")).to_have_text(["staying.txt"])
    expect(opened.locator("h1")).to_have_text("This document is not here", timeout=20000)


def test_without_chromadb_words_go_on(worker, watch, chroma):  # noqa: F811
    server = worker()
    _, document = server.read(pages_of("down", 1), "down.txt")
    settled(server)
    page = watch(server.url).page
    chroma.stop()
    page.locator("#q").fill("numberdownx0")
    page.keyboard.press("Enter")
    alert = page.locator(".search-body .notice.trouble")
    expect(alert).to_have_text("ChromaDB, which has the vectors, does not answer. "
                               "Until it does, search by words.")
    alert.get_by_role("link", name="search by words").click()
    expect(page.locator(".hit-link")).to_have_text(["down.txt"])
    expect(page.locator("select[name=mode]")).to_have_value("lexical")
    # A link to what a search found opens all the same, with the words marked.
    page.goto(f"{server.url}/#/doc/{document['doc_id']}/1?q=numberdownx0")
    expect(page.locator(".viewer h1")).to_have_text("down.txt")
    expect(page.locator(".viewer-hits mark")).to_have_text(["numberdownx0"])
    expect(page).to_have_url(re.compile("q=numberdownx0$"))
