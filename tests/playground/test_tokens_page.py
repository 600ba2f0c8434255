"""The view Tokens in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from lmzoo import Predictor

pytestmark = pytest.mark.slow

TEXT = "The foxes 🦊"
START = f"view=tokens&tokenizers=markov,hmm,unigram&text={quote(TEXT)}"
Visit = Callable[..., Page]


def test_tokenizers_side_by_side(visit: Visit, predictors: dict[str, Predictor]) -> None:
    page = visit(START)
    expect(page.locator("article")).to_have_count(3)
    card = page.locator("article", has_text="bpe:300")
    ids = predictors["markov"].tokenizer.encode(TEXT)
    expect(card.locator(".piece")).to_have_count(len(ids))
    page.get_by_role("radio", name="text and ids", exact=True).check()
    assert card.locator(".id").all_inner_texts() == [str(token_id) for token_id in ids]
    assert card.locator(".hex").all_inner_texts() == ["f0", "9f", "a6", "8a"]
    expect(page.locator("article", has_text="word:2").locator(".unknown")).to_have_count(2)
    page.get_by_role("textbox", name="Text").fill("The cats.")
    characters = page.locator("article", has=page.locator(".spec", has_text=re.compile("^char$")))
    expect(characters.locator(".piece")).to_have_count(9)


def test_merges_are_replayed_with_the_keyboard(visit: Visit, predictors: dict[str, Predictor]) -> None:
    page = visit(START)
    card = page.locator("article", has_text="bpe:300")
    card.get_by_text("Replay the merges").focus()
    page.keyboard.press("Enter")
    expect(card.locator(".rule")).to_contain_text("Step 0 of")
    parts = card.locator(".merges .piece")
    expect(parts).to_have_count(len(TEXT.encode()))
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(card.locator(".rule")).to_contain_text("Step 1 of")
    expect(card.locator(".merges .new").first).to_be_visible()
    card.get_by_label("Step", exact=True).focus()
    page.keyboard.press("End")
    expect(parts).to_have_count(len(predictors["markov"].tokenizer.encode(TEXT)))
