"""The views of attention, surprise, Shannon's game, chat and history in a browser, by keyboard and by mouse."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from lmzoo import Decoding, Predictor
from lmzoo.chat.conversation import user
from lmzoo.chat.preferences import read_rankings
from lmzoo.chat.session import ChatPredictor
from lmzoo.playground.pages import add_playground
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels
from lmzoo.server.serving import in_background

pytestmark = pytest.mark.slow

HOSTILE = "<b>the</b> fox\u202e <script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(align_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(align_run, tmp_path_factory.mktemp("votes") / "run")


@pytest.fixture(scope="module")
def site(all_kinds: dict[str, Predictor], run: Path) -> Iterator[str]:
    """The address of a server of models of all kinds, with a run folder to vote on."""
    app = create_app(ServedModels(all_kinds))
    add_playground(app, [run])
    with in_background(app) as address:
        yield address


@contextmanager
def opened(browser: Browser, site: str, view: str, *, wide: bool = True, theme: str = "light") -> Iterator[Page]:
    """Opens a view, and fails if the page logs a message or requests something elsewhere."""
    size = (1280, 800) if wide else (390, 844)
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if theme == "dark" else "light"
    )
    page.set_default_timeout(60_000)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site}/?view={view}")
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    page.close()


READY = {
    "inside": "lmzoo-inside-panel:nth-child(2) [role=option]",
    "surprise": ".eras .number:text-matches('[0-9]')",
    "game": ".passage .gap",
    "chat": "lmzoo-ranking form",
    "timeline": ".families li",
}


def test_the_navigation_stays_visible_on_a_phone_after_a_change_of_the_view(browser: Browser, site: str) -> None:
    with opened(browser, site, "timeline", wide=False) as page:
        page.wait_for_selector(READY["timeline"])
        page.get_by_role("link", name="Surprise").click()
        page.wait_for_selector(READY["surprise"])
        assert page.evaluate("scrollY") == 0
        assert page.evaluate("document.activeElement.tagName") == "MAIN"


@pytest.mark.parametrize("view", READY)
def test_views_are_accessible_in_both_themes_and_sizes(browser: Browser, site: str, view: str) -> None:
    short = {"inside": "&prompt=she+ran", "surprise": "&text=the+fox"}  # axe-core takes a long time for many words
    for wide, theme in ((True, "light"), (False, "dark")):
        with opened(browser, site, view + short.get(view, ""), wide=wide, theme=theme) as page:
            page.wait_for_selector(READY[view])
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                found = Axe().run(page)
                assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_attention_by_keyboard(browser: Browser, site: str) -> None:
    with opened(browser, site, "inside") as page:
        left, right = (page.locator("lmzoo-inside-panel").nth(index) for index in range(2))
        expect(left.locator("[role=option]")).to_have_count(len("she went to the store and bought") + 1)
        expect(left.locator(".rows .gradient").first).to_be_visible()
        rows = left.get_by_role("listbox")
        rows.focus()
        page.keyboard.press("Home")
        expect(left.locator("[role=option]").nth(1)).to_have_attribute("aria-selected", "true")
        page.keyboard.press("ArrowDown")
        expect(left.locator("[role=option]").nth(2)).to_have_attribute("aria-selected", "true")
        expect(left.locator("[role=option]").nth(3)).to_contain_text("masked")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "listbox"
        left.locator("button.toggle").press("Enter")
        expect(left.locator("svg line.chosen").first).to_be_attached()
        page.evaluate("document.querySelector('lmzoo-inside-panel').choose(4)")
        expect(left.locator("[role=option]").nth(5)).to_have_attribute("aria-selected", "true")
        expect(left.locator("button.toggle")).to_be_focused()
        with page.expect_download() as caught:
            left.get_by_role("button", name="Save as SVG").click()
        assert "Attention of layer 1, head 1" in Path(caught.value.path()).read_text(encoding="utf-8")
        right.get_by_label("Show").select_option("cell state c")
        expect(right.locator("figcaption")).to_contain_text("Orange is negative")
        right.get_by_label("Beside it").select_option("trigram")
        expect(right.locator(".length").first).to_contain_text("-gram")
        right.get_by_label("Beside it").select_option("hmm")
        expect(right.locator(".bars li").first).to_contain_text("state")
        page.get_by_label("Sentence").fill(HOSTILE)
        expect(left.locator("[role=option]")).to_have_count(len(HOSTILE.encode()) + 1)
        page.wait_for_timeout(400)  # the address follows a moment later
        assert "prompt=%3Cb%3E" in page.url
        page.get_by_label("Sentence").fill("")
        expect(left.locator("p.error")).to_have_text("Write a sentence first.")


def test_the_page_ends_below_a_long_list_of_tokens(browser: Browser, site: str) -> None:
    """What only screen readers read, in the rows that are scrolled out of sight, does not make the page longer."""
    with opened(browser, site, "inside&prompt=she") as page:
        page.wait_for_selector(READY["inside"])
        beyond = "document.documentElement.scrollHeight - document.querySelector('main').getBoundingClientRect().bottom"
        before = page.evaluate(beyond)
        page.get_by_label("Sentence").fill("she went to the store and bought " * 5)
        expect(page.locator("lmzoo-inside-panel:nth-child(1) [role=option]")).to_have_count(129)
        expect(page.locator("lmzoo-inside-panel:nth-child(2) .rows .gradient").nth(50)).to_be_attached()
        assert page.evaluate(beyond) < before + 1  # the height of a page is a whole number


def test_attention_by_mouse(browser: Browser, site: str) -> None:
    with opened(browser, site, "inside&left=transformer") as page:
        left = page.locator("lmzoo-inside-panel").first
        left.locator("[role=option]").nth(5).click()
        expect(left.locator("[role=option]").nth(5)).to_have_attribute("aria-selected", "true")
        left.locator("figure canvas").click(position={"x": 5, "y": 25})
        expect(left.locator("[role=option]").nth(5)).to_have_attribute("aria-selected", "false")
        left.get_by_role("button", name="Copy as Python / curl").click()
        expect(left.locator("dialog pre").first).to_contain_text("/playground/inside")


def test_surprise_by_keyboard(browser: Browser, site: str) -> None:
    with opened(browser, site, "surprise&model=markov") as page:
        field = page.get_by_label("Text", exact=True)
        field.fill(HOSTILE)
        heat = page.get_by_role("listbox")
        expect(heat).to_have_text(HOSTILE)
        heat.focus()
        for key in ("End", "ArrowLeft", "ArrowDown", "ArrowUp", "Home", "ArrowRight"):
            page.keyboard.press(key)
        expect(heat.get_by_role("option").nth(1)).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        expect(page.locator(".details .bars li").nth(9)).to_be_visible()
        page.get_by_label("Entropy").check()
        expect(heat.locator(".entropy").first).to_be_attached()
        page.get_by_label("Rank").check()
        expect(heat.locator(".rank").first).to_be_attached()
        page.get_by_label("Compared with").select_option("lstm")
        expect(heat.locator(".difference").first).to_be_attached()
        expect(page.locator(".details")).to_contain_text("difference")
        expect(page.get_by_role("group", name="Colour by")).to_be_hidden()
        link = page.locator("main").get_by_role("button", name="Show alternatives")
        link.press("Enter")
        page.locator(".details .bars a").first.press("Enter")
        expect(page.locator("lmzoo-predict")).to_be_attached()


def test_surprise_by_mouse_and_files(browser: Browser, site: str, all_kinds: dict[str, Predictor]) -> None:
    with opened(browser, site, "surprise&model=markov&text=the+fox+%F0%9F%A6%8A+ran") as page:
        page.get_by_role("listbox").get_by_role("option").nth(2).click()
        expect(page.locator(".details .bars .observed")).to_have_count(1)
        page.locator(".eras button", has_text="unigram").click()
        expect(page.locator(".eras button", has_text="unigram")).to_have_attribute("aria-pressed", "true")
        page.locator(".eras button", has_text="markov").click()
        expect(page.locator(".note", has_text="markov: ")).to_be_visible()
        save = page.get_by_role("group", name="Save surprisal")
        with page.expect_download() as caught:
            save.get_by_role("button", name="Save as CSV").click()
        text = Path(caught.value.path()).read_text(encoding="utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        expected = all_kinds["markov"].surprisals("the fox 🦊 ran", end_of_text=False)
        assert [int(row["rank"]) for row in rows] == [token.rank for token in expected]
        assert [float(row["surprisal_bits"]) for row in rows] == pytest.approx(
            [token.surprisal_bits for token in expected], abs=1e-5
        )
        assert {"🦊"} <= {row["token"].strip() for row in rows}
        with page.expect_download() as caught:
            save.get_by_role("button", name="Save as TSV").click()
        assert len(Path(caught.value.path()).read_text(encoding="utf-8").splitlines()) == len(rows) + 1


def test_a_long_text_is_shown_whole(browser: Browser, site: str) -> None:
    with opened(browser, site, "surprise&model=unigram") as page:
        page.get_by_label("Text", exact=True).fill("the fox " * 400)
        expect(page.locator("[role=option]")).to_have_count(2000)
        expect(page.locator(".note", has_text="the first 2,000 are shown")).to_be_visible()


def test_the_game_by_keyboard_and_mouse(browser: Browser, site: str) -> None:
    with opened(browser, site, "game&seed=3") as page:
        page.wait_for_selector(READY["game"])
        letters = page.evaluate("document.querySelector('lmzoo-game').passage.letters")
        page.get_by_role("button", name="z", exact=True).click()
        expect(page.get_by_role("button", name="z", exact=True)).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="space").click()
        expect(page.locator("#status")).to_have_text("Right: the space, after 2 guesses.")
        page.get_by_role("button", name="Show this letter").press("Enter")
        page.get_by_role("textbox", name="Next letter").focus()
        page.keyboard.type(letters[2:])
        expect(page.locator(".passage strong")).to_have_text(letters)
        expect(page.locator(".results .bars li")).to_have_count(6)  # you, and all models of text but the hmm
        expect(page.get_by_role("button", name="Next passage")).to_be_focused()
        guesses = [found(2), {"tries": 0, "shown": True}] + [found(1)] * (len(letters) - 2)
        bounds = page.evaluate("async g => (await import('./views/game.js')).shannonBounds(g)", guesses)
        page.keyboard.press("Enter")
        expect(page.locator(".passage .gap")).to_be_visible()
        page.get_by_text("In class").click()
        page.get_by_label("Your name").fill("=Ann")
        with page.expect_download() as caught:
            page.get_by_role("button", name="Save as CSV").click()
        rows = list(csv.DictReader(Path(caught.value.path()).read_text(encoding="utf-8").splitlines()))
        assert float(rows[0]["bits_per_character_high"]) == pytest.approx(bounds["high"], abs=1e-4)
        assert rows[0]["guesses"] == " ".join(["2", ">0", *["1"] * (len(letters) - 2)])
        assert {row["player"] for row in rows[1:]} >= {"markov", "lstm"}


def test_late_scores_of_a_finished_passage_count(browser: Browser, site: str) -> None:
    """The reader may go on to the next passage, or start over, before all models have read the passage."""
    with opened(browser, site, "game") as page:
        held: list[Route] = []
        holds = True
        page.route("**/game/score", lambda route: held.append(route) if holds else route.continue_())
        for go_on in ("Start over", "Next passage"):
            expect(page.locator(".passage .gap")).to_be_visible()
            while page.locator(".passage .gap").count():
                page.get_by_role("button", name="Show this letter").press("Enter")
            n_letters = len(page.locator(".passage strong").inner_text())
            page.get_by_role("button", name=go_on).click()
        expect(page.locator(".passage strong")).to_be_empty()
        holds = False
        for route in held:
            route.continue_()
        expect(page.locator(".results .bars li")).to_have_count(6)
        totals = dict(json.loads(page.evaluate("sessionStorage.getItem('lmzoo-game')"))["totals"])
        assert totals["markov"]["letters"] == n_letters, "the game that was given up does not count"


def found(tries: int) -> dict[str, Any]:
    """A letter that was found after a number of guesses, as the view keeps it."""
    return {"tries": tries, "shown": False}


def test_shannon_bounds(browser: Browser, site: str) -> None:
    """Letters that are always right have no entropy; letters of any of 27 ranks have log2 27 = 4.7549 bits at most.

    If a letter is shown without a guess, any rank is as likely, so that always giving up gives log2 27 bits; after 25
    guesses, the letter is one of two.
    """
    with opened(browser, site, "game") as page:
        page.wait_for_selector(READY["game"])
        bounds = "async g => (await import('./views/game.js')).shannonBounds(g)"
        assert page.evaluate(bounds, [found(1)] * 3) == {"low": 0, "high": 0}
        all_ranks = page.evaluate(bounds, [found(n) for n in range(1, 28)])
        assert all_ranks == pytest.approx({"low": 4.7549, "high": 4.7549}, abs=1e-4)
        assert page.evaluate(bounds, [found(n) for n in (1, 1, 2, 2)]) == pytest.approx({"low": 1, "high": 1})
        one_in_four = page.evaluate(bounds, [found(n) for n in (1, 1, 1, 2)])
        assert one_in_four == pytest.approx({"low": 0.5, "high": 0.8113}, abs=1e-4)
        given_up = page.evaluate(bounds, [{"tries": 0, "shown": True}] * 5)
        assert given_up == pytest.approx({"low": 4.7549, "high": 4.7549}, abs=1e-4)
        assert page.evaluate(bounds, [{"tries": 25, "shown": True}])["high"] == pytest.approx(1)


def answer_in_pieces(route: Route) -> None:
    """Answers a request for a stream as the server does."""
    asked = json.loads(route.request.post_data or "")
    assert asked["stream"]
    chat = "messages" in asked
    pieces = ["<b>ver", "ily</b>"]
    choices = [{"delta": {"content": piece}} if chat else {"text": piece} for piece in pieces]
    lines = [f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices] + ["data: [DONE]\n\n"]
    route.fulfill(status=200, content_type="text/event-stream", body="".join(lines))


def test_answers_are_shown_as_text(browser: Browser, site: str) -> None:
    with opened(browser, site, "chat") as page:
        page.route("**/v1/**", answer_in_pieces)
        page.get_by_label("Message").fill("say: ant")
        page.keyboard.press("Enter")
        expect(page.get_by_role("region", name="Chat model replies")).to_have_text("<b>verily</b>")
        expect(page.get_by_role("region", name="Model continues the text")).to_have_text("say: ant<b>verily</b>")


def test_enter_that_ends_the_input_of_a_character_sends_nothing(browser: Browser, site: str) -> None:
    """With an input method, as for Chinese, Enter chooses a character first."""
    with opened(browser, site, "chat") as page:
        page.route("**/v1/**", answer_in_pieces)
        field = page.get_by_label("Message")
        field.fill("你")
        field.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
        expect(page.locator("#status")).to_be_empty()
        field.press("Enter")
        expect(page.locator("#status")).to_have_text("The answers are complete.")
        field.fill(" ")
        field.press("Enter")
        expect(page.locator("#status")).to_have_text("Write a message first.")


def test_bars_and_choices_are_visible_in_forced_colours(browser: Browser, site: str) -> None:
    with opened(browser, site, "predict") as page:
        page.emulate_media(forced_colors="active")
        page.wait_for_selector("article tbody .after")
        colour = "element => getComputedStyle(element).backgroundColor"
        card, bar = (page.locator(place).first.evaluate(colour) for place in (".card", "tbody .after"))
        chosen, other = (page.locator(f".choice input{kind} + span").first for kind in (":checked", ":not(:checked)"))
        assert bar != card
        assert chosen.evaluate(colour) != other.evaluate(colour)


def test_completion_beside_chat(browser: Browser, site: str, all_kinds: dict[str, Predictor]) -> None:
    """The page shows what the models write when they are called directly, with the settings and seed of the page."""
    message, settings = "say: ant", {"temperature": 0.8, "top_k": 40}
    chat = ChatPredictor(all_kinds["chat"])
    ids = chat.prompt_ids((user(message),))
    tokens = chat.sample(ids, rng=np.random.default_rng(7), decoding=Decoding(**settings), max_tokens=100)
    reply = "".join(chat.decode(tokens))
    continued = all_kinds["markov"].complete(message, max_tokens=100, seed=7, **settings)
    with opened(browser, site, "chat&temperature=0.8&top_k=40&seed=7") as page:
        page.locator("select[name=writer]").select_option("markov")
        page.get_by_label("Message").fill(message)
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#status")).to_have_text("The answers are complete.")
        assert page.get_by_role("region", name="Chat model replies").text_content() == reply
        assert page.get_by_role("region", name="Model continues the text").text_content() == message + continued
        expect(page.get_by_text("Cut after 100 tokens.").last).to_be_visible()
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()


def test_votes_by_keyboard_and_mouse(browser: Browser, site: str, run: Path) -> None:
    with opened(browser, site, "chat") as page:
        page.get_by_label("Your name").fill("eve")
        page.keyboard.press("Enter")
        ballot = page.get_by_role("group", name="Vote")
        expect(ballot).to_be_focused()
        expect(ballot).to_contain_text("Comparisons left: 3.")
        first = ballot.locator(".answer").first.inner_text()
        expect(ballot.locator(".saved")).to_be_hidden()
        page.keyboard.press("1")
        expect(ballot).to_contain_text("Comparisons left: 2. Your votes in this session: 1.")
        writers = ("dpo", "sft") if first.startswith("good") else ("sft", "dpo")
        expect(ballot.locator(".saved")).to_have_text(
            "Your last vote is saved: the first reply is better. "
            f"The model {writers[0]} wrote the first reply, and {writers[1]} the second."
        )
        expect(page.locator("#status")).to_contain_text("Your last vote is saved")
        page.keyboard.press("u")
        expect(ballot).to_contain_text("Comparisons left: 3.")
        expect(ballot.locator(".saved")).to_be_hidden()
        ballot.get_by_role("button", name="The first is better").click()
        expect(ballot).to_contain_text("Comparisons left: 2.")
        page.keyboard.press("s")
        expect(ballot).to_contain_text("Comparisons left: 1.")
        page.keyboard.press("t")
        expect(ballot).to_contain_text("no more replies")
    votes = [vote for vote in read_rankings(run / "votes.jsonl") if vote.rater == "eve"]
    assert len(votes) == 2
    assert votes[0].replies[0] == first
    assert votes[1].tie


def test_the_timeline(browser: Browser, site: str) -> None:
    with opened(browser, site, "timeline") as page:
        page.get_by_role("link", name="Markov chain, 1913").press("Enter")
        card = page.locator("#family-markov")
        expect(card.locator("dl")).to_be_visible()
        expect(card.locator("summary")).to_be_focused()
        page.get_by_text("Report on this page").click()
        expect(page.frame_locator("iframe").locator("p")).to_have_text("The report of a run")
        card.get_by_role("link", name="See it predict").click()
        expect(page.locator("lmzoo-predict")).to_be_attached()
        assert "models=markov" in page.url
