"""The view Slide in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from lmzoo import Predictor
from lmzoo.generation import generate

pytestmark = pytest.mark.slow

PROMPT = "The ships that I saw"
START = f"view=slide&columns=markov,lstm&seed=3&prompt={quote(PROMPT)}"
Visit = Callable[..., Page]


def own(page: Page, title: str) -> list[str]:
    return page.get_by_role("article", name=title).locator(".own").all_inner_texts()


def test_steps_draw_the_tokens_of_a_generation(visit: Visit, predictors: dict[str, Predictor]) -> None:
    page = visit(START)
    expect(page.locator("article")).to_have_count(2)
    for step in range(1, 4):
        page.get_by_role("button", name="Step").press("Enter")
        expect(page.get_by_role("article", name="Markov chain").locator(".own")).to_have_count(step)
    predictor = predictors["markov"]
    sampled = generate(predictor.model, predictor.tokenizer.encode(PROMPT), rng=3, max_tokens=3)
    expected = [predictor.tokenizer.token_text(token.token_id).replace(" ", "␣") for token in sampled]
    assert own(page, "Markov chain") == expected
    expect(page.get_by_role("article", name="Markov chain").locator(".facts")).to_contain_text("1 of ")
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("article", name="Markov chain").locator(".own")).to_have_count(2)
    page.get_by_role("button", name="From the start").click()
    expect(page.locator(".own")).to_have_count(0)


def test_another_branch_and_all_stages(visit: Visit) -> None:
    page = visit(START + "&temperature=0.5&top_k=3")
    card = page.get_by_role("article", name="Markov chain")
    expect(card.locator("tr.cut")).to_have_count(7)
    first = card.locator("tbody tr").first
    logit, scaled = (float(cell.replace("−", "-")) for cell in first.locator("td").all_inner_texts()[:2])
    assert scaled == pytest.approx(2 * logit, abs=0.02)
    expect(card.locator(".part.hit")).to_have_count(1)
    expect(card.locator(".draw")).to_contain_text("The random number 0.")
    card.locator(".pick").nth(1).focus()
    taken = card.locator(".pick").nth(1).inner_text()
    page.keyboard.press("Enter")
    expect(card.locator(".own")).to_have_text([taken])
    expect(page.get_by_role("article", name="Long short-term memory").locator(".own")).to_have_count(0)


def test_play_and_pause(visit: Visit) -> None:
    page = visit(START)
    expect(page.locator("article")).to_have_count(2)
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("article", name="Markov chain").locator(".own").nth(1)).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("Paused after")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
