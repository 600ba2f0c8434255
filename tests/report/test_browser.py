"""The report in a real browser: no network requests, tables that the keyboard sorts, contents, phone and print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from lmzoo.experiments.compare import compare
from lmzoo.report.leaderboard import MAIN
from lmzoo.report.merged import write_merged

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(run_folder: Path) -> Path:
    return run_folder / "report.html"


@contextmanager
def opened(browser: Browser, path: Path) -> Iterator[Page]:
    """Opens a page, and fails if the page logs a message or requests a file."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert said == []
    assert asked == [path.as_uri()]
    page.close()


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report of a run."""
    with opened(browser, report) as page:
        yield page


def test_several_runs_on_one_page(browser: Browser, report: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    corpus = report.parents[1] / "corpus"
    assert not compare(other, species=["unigram", "trigram"], corpus=corpus, tokenizer="byte").failures
    write_merged([report.parent, other], tmp_path / "merged")
    with opened(browser, tmp_path / "merged" / "merged.html") as page:
        assert page.locator("figure svg").bounding_box()
        names = page.locator("table").first.locator("tbody th").all_inner_texts()
        assert {"trigram · run", "trigram · other", "markov"} <= set(names)
        head = page.locator("table").first.locator("thead th", has_text="model")
        head.locator("button").press("Enter")
        assert page.locator("table").first.locator("tbody th").all_inner_texts() == sorted(names)
        link = page.locator("main a").first.evaluate("link => link.href")
    assert link == report.as_uri()


def test_every_figure_is_drawn_and_named(page: Page) -> None:
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    figures = page.locator("figure svg")
    assert figures.count() >= 6
    for figure in figures.all():
        if figure.evaluate("figure => figure.closest('.for-narrow') !== null"):
            continue  # for phones
        assert figure.get_attribute("aria-label")
        box = figure.bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 80
        assert figure.locator("path, circle, text").count() > 5


def test_tables_are_sorted_by_keyboard(page: Page) -> None:
    table = page.locator("table").first

    def column(name: str) -> list[str]:
        titles = table.locator("thead th").all_inner_texts()
        return table.locator(f"tbody :is(td, th):nth-child({1 + titles.index(name)})").all_inner_texts()

    first = column("bits/byte")
    assert [float(cell) for cell in first] == sorted(float(cell) for cell in first)
    head = table.locator("thead th", has_text="model")
    page.locator(".all input").first.press("Space")  # all columns
    page.keyboard.press("Tab")  # the region that scrolls
    page.keyboard.press("Tab")  # the first head
    assert head.locator("button").evaluate("button => button === document.activeElement")
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column("model") == sorted(column("model"))
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert column("model") == sorted(column("model"), reverse=True)
    table.locator("thead th", has_text="parameters").locator("button").press("Enter")
    units = {"": 1.0, "k": 1e3, "M": 1e6}
    sizes = [float(number) * units[unit] for cell in column("parameters") for number, _, unit in (cell.partition(" "),)]
    assert sizes == sorted(sizes)
    assert head.get_attribute("aria-sort") is None
    table.locator("thead th", has_text="context").locator("button").press("Enter")
    assert column("context")[-1] == "∞"


def test_tables_show_the_main_columns_first(page: Page) -> None:
    heads = page.locator("table").first.locator("thead th")
    assert [head.inner_text() for head in heads.all() if head.is_visible()] == list(MAIN)
    page.locator(".all input").first.check()
    assert all(head.is_visible() for head in heads.all())


def test_contents_lead_to_every_section(page: Page) -> None:
    links = page.locator(".contents a")
    assert links.count() == 1 + page.locator("h2").count() > 8
    for link in links.all():
        target = page.locator(str(link.get_attribute("href")))
        assert target.count() == 1
    links.last.click()
    page.wait_for_function("document.querySelector('.contents a:last-of-type') && scrollY > 1000")
    assert links.last.is_visible(), "the list stays in reach"


def test_everything_is_printed(page: Page) -> None:
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(part.is_visible() for part in page.locator("details dl, details pre, details table, .rest").all())
    assert not page.locator(".contents").is_visible()


def test_what_a_text_says_is_not_markup(page: Page) -> None:
    assert page.locator("blockquote b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone(browser: Browser, report: Path, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page.goto(report.as_uri())
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0, "only tables and figures scroll sideways"
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert contrast(ink, paper) > 7
    page.close()


def contrast(first: str, second: str) -> float:
    """Returns the contrast ratio of two colours "rgb(r, g, b)", from 1 to 21, as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)
