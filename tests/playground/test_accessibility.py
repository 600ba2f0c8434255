"""The views have no violation that axe-core finds, in light and dark, on a screen and on a phone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow

# axe-core computes the contrast of each word and number, so that the pages show few of them, but of all colours.
QUERIES = (
    "view=predict&top_k=4&models=markov,hmm",
    "view=tokens&show=both&tokenizers=markov,hmm,unigram&text=The+five+foxes+ran+to+Egypt",
    "view=slide&top_p=0.8&columns=markov,hmm",
)
SIZES = ((1280, 800), (390, 844))


@pytest.mark.parametrize("query", QUERIES)
def test_no_violations(visit: Callable[..., Page], query: str) -> None:
    for scheme, (width, height) in itertools.product(("light", "dark"), SIZES):
        page = visit(query, viewport={"width": width, "height": height}, color_scheme=scheme)
        expect(page.locator("article .piece, article tbody tr").first).to_be_visible()
        violations = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
        assert page.evaluate("document.documentElement.scrollWidth") == width, "the page does not scroll sideways"
        page.close()
