"""The view Predict in a real browser, with the mouse and with the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow

PROMPT = "The ships that I saw"
START = f"view=predict&prompt={quote(PROMPT)}"
Visit = Callable[..., Page]


def prompt(page: Page) -> str:
    return page.get_by_role("textbox", name="Prompt").input_value()


def tokens(page: Page, title: str) -> list[str]:
    return page.get_by_role("article", name=title).locator("tbody th").all_inner_texts()


def test_all_eras_follow_the_prompt(visit: Visit) -> None:
    page = visit("")
    expect(page.locator("article h2")).to_have_text(
        ["Markov chain", "Unigram", "Hidden Markov model", "Trigram", "Long short-term memory"]
    )
    assert prompt(page) == "the quick brown fox jumps over the"
    page.get_by_role("textbox", name="Prompt").fill("The king")
    expect(page.get_by_role("article", name="Trigram").locator(".facts")).to_contain_text("sees 2 of ")
    expect(page.get_by_role("article", name="Unigram").locator(".facts")).to_contain_text("sees nothing")
    expect(page.get_by_role("article", name="Hidden Markov model").locator(".belief")).to_contain_text("like")
    assert page.get_by_role("article", name="Trigram").locator("tbody .order").first.inner_text().startswith(("2", "3"))


def test_a_click_adds_the_token_everywhere(visit: Visit) -> None:
    page = visit(START)
    page.get_by_role("article", name="Hidden Markov model").locator(".pick").nth(1).click()
    expect(page.get_by_role("textbox", name="Prompt")).not_to_have_value(PROMPT)
    longer = prompt(page)
    assert longer.startswith(PROMPT + " ")
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(PROMPT)
    page.get_by_role("article", name="Markov chain").locator(".pick").nth(2).click()
    expect(page.get_by_text("Branches: 2")).to_be_visible()
    page.get_by_text("Branches: 2").click()
    page.get_by_role("button", name=longer).click()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(longer)
    page.go_back()
    expect(page.get_by_role("textbox", name="Prompt")).not_to_have_value(longer)


def test_models_are_chosen_by_a_click_on_their_names(visit: Visit) -> None:
    page = visit("")
    page.get_by_text("Models: 5 of 5").click()
    name = page.locator(".boxes label", has_text="Trigram").bounding_box()
    assert name
    for n_models in (4, 5):
        page.mouse.click(name["x"] + name["width"] / 2, name["y"] + name["height"] / 2)  # beside the box
        expect(page.get_by_text(f"Models: {n_models} of 5")).to_be_visible()
        expect(page.locator("article")).to_have_count(n_models)
    expect(page.get_by_role("button", name="Only the first")).to_be_visible()
    page.get_by_role("textbox", name="Prompt").click()
    expect(page.get_by_role("button", name="Only the first")).to_be_hidden()


def test_menus_close_with_escape_and_with_a_click_elsewhere(visit: Visit) -> None:
    page = visit(START)
    page.get_by_role("article", name="Trigram").locator(".pick").first.click()
    for name in ("Models: 5 of 5", "Branches: 1"):
        menu, button = page.locator("details.menu", has_text=name), page.get_by_text(name)
        button.click()
        menu.locator(":scope > :not(summary)").click(position={"x": 3, "y": 3})
        expect(menu).to_have_attribute("open", "")
        page.keyboard.press("Escape")
        expect(menu).not_to_have_attribute("open", "")
        expect(button).to_be_focused()
        button.press("Enter")
        expect(menu).to_have_attribute("open", "")
        page.locator("h1").click()
        expect(menu).not_to_have_attribute("open", "")
    page.get_by_text("Branches: 1").press("Enter")
    page.locator("lmzoo-branches li button").press("Enter")
    expect(page.get_by_text("Branches: 1")).to_be_focused()
    expect(page.locator("lmzoo-branches details")).not_to_have_attribute("open", "")


def test_a_click_adds_the_token_to_one_model(visit: Visit) -> None:
    page = visit(START)
    page.get_by_role("radio", name="to one model", exact=True).check()
    page.get_by_role("article", name="Markov chain").locator(".pick").first.click()
    own = page.locator(".context .own")
    expect(own).to_have_count(1)
    assert page.get_by_role("article", name="Markov chain").locator(".own").count() == 1
    assert prompt(page) == PROMPT


def test_the_same_string_is_marked_in_all_eras(visit: Visit) -> None:
    page = visit(START)
    page.get_by_role("article", name="Trigram").locator("tbody tr").first.hover()
    marked = page.locator("tr.same .pick")
    expect(marked.first).to_be_visible()
    assert len({text.strip("␣") for text in marked.all_inner_texts()}) == 1
    page.get_by_role("textbox", name="Prompt").hover()
    expect(marked).to_have_count(0)


def test_everything_works_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit(START)
    expect(page.locator("article").first).to_be_visible()
    press = page.keyboard.press
    focused = page.locator(":focus")
    for _ in range(12):
        press("Tab")
        if page.evaluate("document.activeElement.tagName") == "TEXTAREA":
            break
    press("End")
    page.keyboard.type(" were")
    expect(page.get_by_role("article", name="Markov chain").locator(".context")).to_contain_text("were")
    for _ in range(40):
        press("Tab")
        if page.evaluate("document.activeElement.className") == "pick":
            break
    press("ArrowDown")
    assert focused.evaluate("element => element.closest('tr').rowIndex") == 2
    press("ArrowRight")
    assert focused.evaluate("element => element.closest('article').querySelector('h2').textContent") == "Unigram"
    press("ArrowLeft")
    text = focused.inner_text()
    press("Enter")
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(
        PROMPT + " were" + text.replace("␣", " ").replace("⏎", "\n")
    )
    assert focused.evaluate("element => element.closest('tr').rowIndex") == 2, "the focus stays in its place"


def test_settings_reshape_the_bars(visit: Visit) -> None:
    page = visit(START)
    expect(page.locator("tr.cut")).to_have_count(0)
    page.get_by_label("Top-k").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("article", name="Unigram").locator("tr.cut")).to_have_count(9)
    expect(page.locator("tr.cut .number").first).to_have_text("cut: top-k")
    page.get_by_role("radio", name="bits", exact=True).check()
    expect(page.locator("tr:not(.cut) .number").nth(1)).to_have_text("0.00")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("tr.cut")).to_have_count(0)
    page.get_by_role("radio", name="by certainty", exact=True).check()
    entropies = [float(text.split()[-2]) for text in page.locator(".facts span:last-child").all_inner_texts()]
    assert entropies == sorted(entropies)


def test_the_address_holds_the_whole_state(visit: Visit) -> None:
    page = visit(START + "&temperature=0.5&seed=7&unit=bits&models=markov,hmm")
    expect(page.locator("article")).to_have_count(2)
    page.get_by_role("textbox", name="Prompt").fill("The fox")
    expect(page).to_have_url(re.compile(r"prompt=The\+fox(&|$)"))
    expect(page.locator("article .context").first).to_contain_text("fox")
    again = visit(page.url.partition("?")[2])
    expect(again.locator("article")).to_have_count(2)
    assert prompt(again) == "The fox"
    assert tokens(again, "Markov chain") == tokens(page, "Markov chain")


def test_copies_and_files(visit: Visit) -> None:
    page = visit(START)
    expect(page.locator("article")).to_have_count(5)
    page.get_by_role("button", name="Copy as Python / curl").click()
    expect(page.get_by_role("dialog")).to_contain_text("requests.post")
    expect(page.get_by_role("dialog")).to_contain_text(PROMPT)
    page.keyboard.press("Escape")
    for button, start in (("Save as CSV", "model,year,rank"), ("Save as SVG", "<svg")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=button).click()
        text = saved.value.path().read_text(encoding="utf-8")
        assert text.startswith(start)
        assert "markov" in text.lower()


def test_hostile_text_is_shown_as_text(visit: Visit) -> None:
    page = visit("view=predict&prompt=" + quote("<img src=x onerror=alert(1)><script>alert(2)</script>"))
    expect(page.get_by_role("article", name="Unigram").locator(".context")).to_contain_text("/script>")
    assert page.locator("main img, main script").count() == 0
