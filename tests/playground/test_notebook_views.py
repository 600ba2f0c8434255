"""The views for notebooks show what the pages show, as HTML without scripts in which texts are only texts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.errors import UsageError
from lmzoo.playground.notebook import show_prediction, show_surprise

HOSTILE = '<b>the</b> fox\u202e <script>alert(1)</script> " onload="x" <!-- {{ 7 * 7 }} </style>'
TEXT = "the fox saw the naïve 🦊 and ran"
TAGS = {"div", "style", "article", "header", "p", "h2", "span", "b", "abbr", "ul", "li", "details", "summary"} | {
    "table", "thead", "tbody", "tr", "th", "td"
}  # fmt: skip
ATTRIBUTES = {"class", "style", "title", "scope", "aria-label", "aria-hidden"}


class Checked(HTMLParser):
    """Reads HTML, and fails at elements and attributes that the views do not have."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "all elements end"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            assert "url(" not in data
            assert "@import" not in data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def test_predictions_are_those_of_the_page(client: TestClient, predictors: dict[str, Predictor]) -> None:
    shown = show_prediction(predictors, TEXT, k=4, temperature=0.7, top_k=5, seed=3)
    names = [model.name for model in shown.models]
    body = {"prompt": TEXT, "models": names, "k": 4, "decoding": {"temperature": 0.7, "top_k": 5}, "seed": 3}
    answer = client.post("/playground/predict", json=body).json()
    assert [one.model_dump(mode="json") for one in shown.predictions] == answer
    listed = client.get("/playground/models").json()
    assert [model.model_dump() for model in shown.models] == listed


@pytest.mark.parametrize("model", ["unigram", "markov", "hmm", "lstm"])
def test_surprisals_are_those_of_the_page(client: TestClient, predictors: dict[str, Predictor], model: str) -> None:
    shown = show_surprise(predictors[model], TEXT)
    assert shown.scores.model_dump() == client.post("/playground/surprise", json={"model": model, "text": TEXT}).json()
    assert shown.total_bits == pytest.approx(predictors[model].surprisals(TEXT, end_of_text=False).total_bits)


@pytest.mark.parametrize("text", [HOSTILE, "", " ", "\n\n", TEXT])
def test_texts_stay_texts(predictors: dict[str, Predictor], text: str) -> None:
    cards = Checked(show_prediction(predictors, text)._repr_html_())
    assert "\u202e" not in cards.text
    for colour in ("bits", "rank", "entropy"):
        view = show_surprise(predictors["unigram"], text, colour=colour)
        shown = Checked(view._repr_html_())
        assert text.replace("\u202e", "\\u202e") in shown.text
        assert "\u202e" not in shown.text
        assert view._repr_html_() == view._repr_html_()


def test_sources_and_names(predictors: dict[str, Predictor]) -> None:
    one = show_prediction("markov", "And God said")
    assert [model.name for model in one.models] == ["markov"]
    assert repr(one) == "<predictions of markov after 'And God said'>"
    two = show_prediction({"old": predictors["markov"], "new": "markov"}, "the")
    assert {model.name for model in two.models} == {"old", "new"}
    assert "old" in Checked(two._repr_html_()).text
    assert repr(show_surprise("markov", "")) == "<surprisals of 0 tokens under markov: 0.0 bits>"
    with pytest.raises(UsageError, match="two predictors have the name 'markov'"):
        show_prediction(["markov", predictors["markov"]], "the")
    with pytest.raises(UsageError, match="give at least one"):
        show_prediction([], "the")
    with pytest.raises(UsageError, match="k: Input should be less than or equal to 100"):
        show_prediction("markov", "the", k=101)
    with pytest.raises(UsageError, match="temperature: Input should be less than or equal to 100"):
        show_prediction("markov", "the", temperature=101)
    with pytest.raises(UsageError, match="top_k must be"):
        show_prediction("markov", "the", top_k=0)
    with pytest.raises(UsageError, match="temperature must be"):  # before a predictor is loaded
        show_prediction("nothing", "the", temperature=-1)
    with pytest.raises(UsageError, match="text: String should have at most"):
        show_prediction("markov", "the " * 6000)
    with pytest.raises(UsageError, match="colour must be bits, rank or entropy, got 'red'"):
        show_surprise("markov", "the", colour="red")  # pyright: ignore[reportArgumentType]


def test_long_texts_are_cut(predictors: dict[str, Predictor]) -> None:
    shown = show_surprise(predictors["unigram"], "ab" * 1500)
    assert "The text has 3,000 tokens; the first 2,000 are shown." in Checked(shown._repr_html_()).text


def test_a_server_is_not_needed() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = sys.modules['uvicorn'] = None\n"
        "from lmzoo.playground.notebook import show_prediction, show_surprise\n"
        "print(len(show_prediction('markov', 'the').predictions), show_surprise('markov', 'the').scores.n_tokens)\n"
        "print('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (finished.stdout.split(), finished.returncode) == (["1", "2", "False"], 0), finished.stderr


CARDS = """() => [...document.querySelectorAll("article")].map((card) => [
  ...[".year", "h2", ".name", ".context", ".facts span:first-child", ".facts span:last-child", ".rest", ".belief",
    ".draw"].map((name) => card.querySelector(name).textContent),
  ...[...card.querySelectorAll("tbody tr")].flatMap((row) => [row.className.trim(),
    ...[...row.cells].map((cell) => cell.textContent.replace("-gram", "")),
    ...[...row.querySelectorAll(".before, .after")].map((bar) => Number.parseFloat(bar.style.width).toFixed(1))]),
].map((text) => text.replace(/\\s+/g, " ").trim()))"""
"""All texts of the cards, and the lengths of the bars."""
HEAT = "() => [...document.querySelectorAll('.heat > span')].map((one) => [one.textContent, one.className])"


@pytest.fixture
def notebook(browser: Browser) -> Callable[..., Page]:
    """A function that shows the HTML of a view on a page of a notebook, which is light or dark."""

    def show(html: str, *, dark: bool = False) -> Page:
        colours = "background:#131416;color:#ddd" if dark else "background:#fff;color:#111"
        page = browser.new_page(viewport={"width": 900, "height": 800})
        page.route("**", lambda route: pytest.fail(f"a request: {route.request.url}"))
        page.set_content(
            f"<!doctype html><html lang=en><title>t</title><body style='{colours}'><main><h1>Notebook</h1>{html}</main>"
        )
        return page

    return show


@pytest.mark.slow
def test_cards_show_the_texts_of_the_page(
    visit: Callable[..., Page], notebook: Callable[..., Page], predictors: dict[str, Predictor]
) -> None:
    page = visit("view=predict&prompt=the+na%C3%AFve+%F0%9F%A6%8A+ran+&temperature=0.7&top_k=4&seed=2")
    expect(page.locator("article tbody tr").nth(len(predictors) * 10 - 1)).to_be_attached()
    shown = show_prediction(predictors, "the naïve 🦊 ran ", temperature=0.7, top_k=4, seed=2)._repr_html_()
    static = notebook(shown)
    assert static.evaluate(CARDS) == page.evaluate(CARDS)
    static.close()


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["bits", "rank", "entropy"])
def test_coloured_text_is_that_of_the_page(
    visit: Callable[..., Page], notebook: Callable[..., Page], predictors: dict[str, Predictor], colour: str
) -> None:
    text = "the fox 🦊 saw\nqzx the fox"
    page = visit(f"view=surprise&model=markov&colour={colour}&text=the+fox+%F0%9F%A6%8A+saw%0Aqzx+the+fox")
    expect(page.locator(".heat")).to_have_attribute("aria-busy", "false")
    static = notebook(show_surprise(predictors["markov"], text, colour=colour)._repr_html_())  # pyright: ignore
    assert static.evaluate(HEAT) == page.evaluate(HEAT)
    assert len({name for _, name in static.evaluate(HEAT)}) > 2
    legends = [one.locator(".legend li").all_inner_texts() for one in (static, page)]
    assert legends[0] == legends[1]
    note = static.locator(".note").inner_text()
    assert page.locator(".note", has_text="bits per character.").first.inner_text() == note
    static.close()


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_views_are_accessible_on_light_and_dark_pages(
    notebook: Callable[..., Page], predictors: dict[str, Predictor], dark: bool
) -> None:
    text = "the fox \u202e 🦊 saw"  # short, since axe-core computes the contrast of each word
    views = [show_prediction({name: predictors[name] for name in ("markov", "hmm")}, text, top_k=3)]
    views += [show_surprise(predictors["unigram"], text, colour=colour) for colour in ("bits", "rank", "entropy")]  # pyright: ignore
    for view in views:
        page = notebook(view._repr_html_(), dark=dark)
        for details in page.locator("details").all():
            details.locator("summary").click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()
