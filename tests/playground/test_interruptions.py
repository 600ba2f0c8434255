"""What the pages show when the server stops and comes back, and after the page was left or loaded again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browsers import SHORT_PAUSES
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.slow

Visit = Callable[..., Page]
SILENCE = "The server does not answer: is lmzoo play still running?"
READY = {
    "predict": "article tbody tr",
    "tokens": "article .piece",
    "slide": "article tbody tr",
    "inside": "lmzoo-inside-panel [role=option]",
    "surprise": ".eras .number:text-matches('[0-9]')",
    "game": ".passage .gap",
    "timeline": ".families li",
}


@pytest.mark.parametrize("view", READY)
def test_views_are_completed_when_the_server_answers_again(browser: Browser, address: str, view: str) -> None:
    page = browser.new_page()
    page.add_init_script(SHORT_PAUSES)
    for path in ("**/playground/**", "**/healthz"):
        page.route(path, lambda route: route.abort())
    page.goto(f"{address}/?view={view}")
    expect(page.locator("#status")).to_have_text(SILENCE)
    page.unroute_all()
    expect(page.locator(READY[view]).first).to_be_visible(timeout=60_000)
    expect(page.locator("#status")).to_have_text("The server answers again.")
    expect(page.locator(".error:visible")).to_have_count(0)
    page.close()


def test_a_stream_that_breaks_off_is_an_error(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    broken = """async () => {
        const lost = new ReadableStream({ pull(stream) { stream.error(new TypeError("lost")); } });
        window.fetch = async () => new Response(lost);
        const { events } = await import("./api.js");
        try { for await (const event of events("/v1/completions", {})); } catch (error) { return error.message; }
    }"""
    assert page.evaluate(broken) == SILENCE
    page.close()


def test_a_view_that_cannot_be_loaded_says_so(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector(READY["predict"])
    page.route("**/views/timeline.js", lambda route: route.abort())
    page.get_by_role("link", name="Timeline").click()
    expect(page.locator("#status")).to_contain_text("reload the page")
    page.unroute_all()
    page.reload()
    expect(page.locator(READY["timeline"]).first).to_be_visible()
    page.close()


def test_a_game_goes_on_after_another_view_and_after_a_reload(visit: Visit) -> None:
    page = visit("view=game&seed=3")
    page.wait_for_selector(READY["game"])
    letters = page.evaluate("document.querySelector('lmzoo-game').passage.letters")
    page.get_by_role("textbox", name="Next letter").focus()
    page.keyboard.type(letters[:3] + "z")
    page.get_by_role("link", name="Timeline").click()
    page.wait_for_selector(READY["timeline"])
    page.get_by_role("link", name="Shannon's game").click()
    expect(page.locator(".passage strong")).to_have_text(letters[:3])
    page.reload()
    expect(page.locator(".passage strong")).to_have_text(letters[:3])
    expect(page.get_by_role("button", name="z", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".results")).to_contain_text("3 letters, 100 % right")
    page.get_by_role("textbox", name="Next letter").focus()
    page.keyboard.type(letters[3:])
    expect(page.locator(".results .bars li").nth(1)).to_be_visible()
    page.get_by_role("button", name="Next passage").click()
    expect(page.locator(".passage .gap")).to_be_visible()
    expect(page.locator(".passage strong")).to_be_empty()
    page.get_by_role("button", name="Start over").click()
    expect(page.locator(".results")).to_be_empty()
    expect(page.get_by_role("button", name="Start over")).to_be_hidden()


def test_another_seed_begins_another_game(visit: Visit) -> None:
    page = visit("view=game&seed=3")
    page.wait_for_selector(READY["game"])
    letters = page.evaluate("document.querySelector('lmzoo-game').passage.letters")
    page.get_by_role("textbox", name="Next letter").focus()
    page.keyboard.type(letters[:3])
    expect(page.locator(".results")).to_contain_text("3 letters, 100 % right")
    page.get_by_text("In class").click()
    page.get_by_label("Seed of the passages").fill("4")
    page.get_by_label("Seed of the passages").press("Enter")
    expect(page.locator(".results")).to_be_empty()
    expect(page.locator(".passage strong")).to_be_empty()


def test_texts_that_are_too_long_for_an_address_survive_a_reload(visit: Visit) -> None:
    page, text = visit("view=tokens&tokenizers=unigram&show=ids"), "日本語" * 5000
    page.get_by_label("Text", exact=True).fill(text)
    expect(page.locator("article .note", has_text="more")).to_be_visible()
    while page.evaluate("history.state") is None:  # the address follows a moment later
        page.wait_for_timeout(50)
    answer = page.reload()
    assert answer is not None
    assert answer.ok
    assert page.url.endswith("?view=tokens&tokenizers=unigram&show=ids")
    expect(page.get_by_label("Text", exact=True)).to_have_value(text)
    page.get_by_role("link", name="Timeline").click()
    page.wait_for_selector(READY["timeline"])
    page.go_back()
    expect(page.get_by_label("Text", exact=True)).to_have_value(text)


@pytest.mark.parametrize("query", ["view=predict&own=null", "view=slide&own=x", "view=surprise&colour=x"])
def test_addresses_with_wrong_values_show_the_view(visit: Visit, query: str) -> None:
    page = visit(query)
    expect(page.locator("article tbody tr, .eras .number:text-matches('[0-9]')").first).to_be_visible()
    if "predict" in query:
        page.locator(".pick").first.click()
        expect(page.get_by_text("Branches: 1")).to_be_visible()
    expect(page.locator("#status")).to_be_empty()
    expect(page.locator(".error:visible")).to_have_count(0)
