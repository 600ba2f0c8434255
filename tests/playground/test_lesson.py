"""The lesson of docs/how-to/lesson.md, done in a browser as a teacher does it: the pages show what the lesson says.

Figures that are compared with `in_lesson` stand in the lesson as they stand on the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from lmzoo import zoo
from lmzoo.models.shipped import shipped_comparisons, shipped_folder, shipped_names, shipped_text_models
from lmzoo.playground.pages import add_playground
from lmzoo.playground.voting import Ballot
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels
from lmzoo.server.serving import in_background

pytestmark = pytest.mark.slow

LESSON = " ".join((Path(__file__).parents[2] / "docs/how-to/lesson.md").read_text(encoding="utf-8").split())
COUNTING = ["Markov chain", "Trigram", "n-gram, modified Kneser-Ney"]
NETWORKS = ["Long short-term memory", "Modern transformer"]
EGYPT = "And the children of Israel went out of the land of Egypt, and the LORD said unto"
READY = "lmzoo-predict article tbody tr, lmzoo-slide article tbody tr, lmzoo-tokens article .piece, [role=option], .gap"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the playground with the predictors that come with lmzoo, as `lmzoo play` opens it."""
    app = create_app(ServedModels({name: shipped_folder() / name for name in shipped_names()}))
    add_playground(app, ballot=Ballot(shipped_comparisons(), tmp_path_factory.mktemp("votes") / "votes.jsonl"))
    with in_background(app) as address:
        yield address


def in_lesson(*texts: str) -> None:
    for text in texts:
        assert text in LESSON, f"the page shows {text!r}, and the lesson does not say so"


def go_to(page: Page, view: str) -> None:
    page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
    expect(page.locator(READY).first).to_be_visible()


def card(page: Page, title: str) -> Locator:
    return page.locator("article", has=page.get_by_role("heading", name=title, exact=True))


def rows(page: Page, title: str, first: str) -> list[list[str]]:
    """Returns the cells of the tokens on a card, when its first token is `first`."""
    shown = card(page, title).locator("tbody tr")
    expect(shown.first.locator("th")).to_have_text(first)
    return [[cell.strip() for cell in one.split("\t")] for one in shown.all_inner_texts()]


def bars(page: Page, title: str) -> list[str]:
    return card(page, title).locator("tbody tr").all_inner_texts()


def percentage(text: str) -> float:
    return float(text.removesuffix("%"))


def ask(page: Page, prompt: str) -> None:
    """Types a prompt, and waits until the models answer to it."""
    with page.expect_response(lambda response: response.url.endswith("/predict")):
        page.get_by_role("textbox", name="Prompt").fill(prompt)
    for line in page.locator("article .context").all():
        expect(line).to_contain_text(prompt.split()[-1])


def test_tokens(visit: Callable[..., Page]) -> None:
    page = visit("")
    go_to(page, "Tokens")
    for tokenizer, n in (("char", "104"), ("word:5", "26"), ("bpe:2048", "66")):
        one = page.locator("article", has=page.get_by_text(tokenizer, exact=True))
        expect(one.locator("dd").first).to_have_text(n)
        in_lesson(n)
    words = page.locator("article", has=page.get_by_text("word:5", exact=True))
    expect(words.locator(".unknown")).to_have_count(13)
    in_lesson("13 of its tokens are struck through")
    pairs = page.locator("article", has=page.get_by_text("bpe:2048", exact=True))
    expect(pairs.locator(".unknown")).to_have_count(0)
    pieces = pairs.locator(".tokens .text").all_inner_texts()
    assert pieces[2:4] == ["␣qu", "ick"]
    in_lesson("`␣qu` and `ick`")
    pairs.get_by_text("Replay the merges").click()
    for rule in ("Step 0 of 37, 104 tokens", "t + h → th (rule 1)", "␣ + th → ␣th (rule 2)", "␣th + e → ␣the (rule 3)"):
        expect(pairs.locator(".rule")).to_contain_text(rule)
        pairs.get_by_role("button", name="Step").click()
    pairs.get_by_role("button", name="Play").click()
    expect(pairs.locator(".rule")).to_contain_text("Step 7")
    page.get_by_label("Text", exact=True).fill("Supercalifragilistic strawberry")
    expect(pairs.locator("dd").first).to_have_text("14")
    expect(words.locator("dd").first).to_have_text("2")
    expect(words.locator(".unknown")).to_have_count(2)
    in_lesson("`bpe:2048` has 14 tokens for it; *Words* has 2, both unknown")
    page.get_by_role("radio", name="ids", exact=True).check()
    expect(pairs.locator(".piece .id").first).to_be_visible()


def test_one_distribution(visit: Callable[..., Page]) -> None:
    page = visit("")
    assert page.get_by_role("textbox", name="Prompt").input_value() == "the quick brown fox jumps over the"
    expect(page.locator("article")).to_have_count(len(shipped_text_models()))
    years = [int(year) for year in page.locator("article .year").all_inner_texts()]
    assert years == sorted(years)
    markov = rows(page, "Markov chain", "␣LORD")
    assert len(markov) == 11, "ten tokens, and the one that is drawn"
    in_lesson("ten most likely", f"`␣LORD` with {markov[0][-1]}")
    expect(card(page, "Markov chain").locator(".seen")).to_have_text("␣the")
    others = card(page, "Markov chain").locator(".rest").inner_text().split(":")[0]
    in_lesson(others)
    assert {row[-1] for row in rows(page, "Uniform", "<|end␣of␣text|>")} == {"0.049 %"}
    in_lesson("*Uniform* gives each token 0.049 %")
    expect(card(page, "Uniform").locator(".facts")).to_contain_text("entropy 11.00 bits")
    rows(page, "Unigram", ",")
    assert not any("lazy" in text for text in page.locator("article tbody th").all_inner_texts())
    ngram = card(page, COUNTING[2])
    ngram.get_by_role("button", name="␣bro", exact=True).click()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value("the quick brown fox jumps over the bro")
    assert percentage(rows(page, COUNTING[2], "ok")[0][-1]) == pytest.approx(93, abs=1)
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value("the quick brown fox jumps over the")
    sharp = page.get_by_role("slider", name="Temperature")
    sharp.fill("0.5")
    expect(card(page, "Markov chain").locator("tbody .number").first).not_to_have_text("9.49 %")
    assert percentage(rows(page, "Markov chain", "␣LORD")[0][-1]) > 30
    page.get_by_role("button", name="Reset").click()
    expect(card(page, "Markov chain").locator("tbody .number").first).to_have_text("9.49 %")


def test_the_window_slides(visit: Callable[..., Page]) -> None:
    page = visit("", short_pauses=True)
    go_to(page, "Slide")
    page.get_by_text("Models: 3 of 22").click()
    for title in ("Long short-term memory", "Neural probabilistic language model"):
        page.locator(".boxes label", has_text=re.compile(rf"^\d+ {title}$")).click()
    page.keyboard.press("Escape")
    in_lesson(f"*{NETWORKS[0]}* in place of *{title}*")
    expect(page.locator("article .context")).to_have_count(3)
    ask(page, "And God said unto Moses,")
    button = {name: page.get_by_role("button", name=name, exact=True) for name in ("Step", "From the start", "Reset")}
    markov = rows(page, "Markov chain", "␣and")
    in_lesson(f"falls from {markov[0][3]} to 3.88 %")
    for step in range(1, 4):
        button["Step"].click()
        expect(card(page, "Markov chain").locator(".facts")).to_contain_text(f"sees 1 of {6 + step} tokens")
        for title in NETWORKS:
            expect(card(page, title).locator(".facts")).to_contain_text(f"sees {6 + step} of {6 + step} tokens")
    expect(card(page, "Markov chain").locator(".flow .seen")).to_have_count(1)
    button["From the start"].click()
    expect(card(page, "Markov chain").locator(".facts")).to_contain_text("sees 1 of 6 tokens")
    page.get_by_role("slider", name="Temperature").fill("0")
    for title in (COUNTING[0], *NETWORKS):
        expect(card(page, title).locator(".facts")).to_contain_text("1 of 2,048 tokens can be drawn")
    expect(card(page, "Markov chain").get_by_text("cut: T = 0").first).to_be_visible()
    page.get_by_role("button", name="Play", exact=True).click()
    flow = card(page, "Markov chain").locator(".flow")
    expect(flow).to_contain_text("and␣the␣LORD,␣and␣the␣LORD,␣and␣the␣LORD")
    for title in NETWORKS:  # at least four tokens come twice in a row
        expect(card(page, title).locator(".flow")).to_contain_text(re.compile(r"((?:␣[A-Za-z]+,?){4}).*\1"))
    page.get_by_role("button", name="Pause").click()
    button["From the start"].click()
    button["Reset"].click()
    page.get_by_role("slider", name="Temperature").fill("2")
    expect(card(page, "Markov chain").locator("tbody .number").nth(2)).to_have_text("3.88 %")
    button["Reset"].click()
    page.get_by_role("slider", name="Top-p").fill("0.5")
    facts = card(page, "Markov chain").locator(".facts")
    expect(facts).to_contain_text("7 of 2,048 tokens can be drawn")
    in_lesson("keeps 7 of 2,048 tokens", f"`␣and` rises to {rows(page, 'Markov chain', '␣and')[0][4]}")
    before = card(page, "Markov chain").locator(".draw").inner_text()
    page.get_by_role("button", name="Next seed").click()
    expect(card(page, "Markov chain").locator(".draw")).not_to_have_text(before)


def test_what_each_model_can_see(visit: Callable[..., Page]) -> None:
    page = visit("")
    page.get_by_text("Models: 20 of 22").click()
    page.get_by_role("button", name="Only the first").click()
    for title in (*COUNTING[1:], *NETWORKS):
        page.locator(".boxes label", has_text=re.compile(rf"^\d+ {re.escape(title)}$")).click()
    page.keyboard.press("Escape")
    expect(page.locator("article h2")).to_have_text([*COUNTING[:2], NETWORKS[0], COUNTING[2], NETWORKS[1]])
    ask(page, "Jesus saith unto him, Verily, verily, I say unto")
    entropies = []
    for title, first, seen in zip(
        COUNTING, ("␣the", "␣you", "␣you"), ("␣unto", "␣say␣unto", ",␣I␣say␣unto"), strict=True
    ):
        probability = rows(page, title, first)[0][-1]
        expect(card(page, title).locator(".seen")).to_have_text(seen)
        in_lesson(f"`{seen}`")
        found = re.search(r"entropy ([\d.]+)", card(page, title).locator(".facts").inner_text())
        assert found
        entropies.append(float(found[1]))
        if title == "Trigram":
            in_lesson(f"`␣you` with {probability}")
        elif title == COUNTING[2]:
            assert percentage(probability) == pytest.approx(54, abs=1)
    assert entropies == sorted(entropies, reverse=True)
    assert {row[1].split()[0] for row in rows(page, COUNTING[2], "␣you")} >= {"4", "3"}
    ask(page, "And David went to Hebron, and the LORD said unto")
    before = {title: bars(page, title) for title in (*COUNTING, *NETWORKS)}
    moses = {row[0]: percentage(row[-1]) for row in rows(page, NETWORKS[1], "␣Moses")}["␣Moses"]
    ask(page, EGYPT)
    expect(card(page, NETWORKS[1]).locator("tbody")).not_to_contain_text(before[NETWORKS[1]][0].split("\t")[-1])
    assert all(bars(page, title) == before[title] for title in COUNTING)
    assert all(bars(page, title) != before[title] for title in NETWORKS)
    assert percentage(rows(page, NETWORKS[1], "␣Moses")[0][-1]) > moses + 5


def gradients(panel: Locator) -> list[tuple[str, int]]:
    """Returns the text of each token, and its gradient in percent of the largest one."""
    options = panel.locator("[role=option]").all_inner_texts()
    found = (re.fullmatch(r"(\S+)\n.*gradient (\d+) %", one, re.S) for one in options)
    return [(match[1], int(match[2])) for match in found if match]


def test_attention_and_memory(visit: Callable[..., Page]) -> None:
    page = visit("")
    go_to(page, "Attention and memory")
    left, right = (page.locator("lmzoo-inside-panel").nth(index) for index in range(2))
    assert page.get_by_label("Sentence").input_value() == "she went to the store and bought"
    expect(left.locator(".heads input")).to_have_count(8)
    left.locator("label", has_text="Layer 2, head 4").click()
    start = left.locator("[role=option]").first
    expect(start).to_contain_text("start")
    expect(left.locator("p", has_text="In layer 2, head 4")).to_contain_text(
        re.compile(r"attends to start \([5-9]\d %\)")
    )
    in_lesson("Layer 2, head 4 attends mostly to `start`")
    left.get_by_role("button", name="Lines").click()
    expect(left.locator("svg line.chosen").first).to_be_attached()
    left.get_by_role("button", name="Lines").click()
    expect(right.locator("select[name=gate]")).to_have_value("forget gate f")
    right.get_by_label("Show").select_option("cell state c")
    expect(right.locator("figcaption")).to_contain_text("Orange is negative")
    page.get_by_label("Sentence").fill(EGYPT)
    right.get_by_label("Beside it").select_option(label="1990 Recurrent network")
    expect(right.get_by_label("Show")).to_have_value("hidden state h")
    for panel in (left, right):
        expect(panel.locator("[role=option]", has_text="␣unto")).to_have_attribute("aria-selected", "true")
        expect(panel.locator("[role=option]", has_text="gradient")).to_have_count(17)
    recurrent, attention = gradients(right), gradients(left)
    steps = [value for _, value in recurrent]
    assert steps == sorted(steps)
    went = [token for token, _ in recurrent].index("␣went")
    assert recurrent[went][1] <= 5
    later = [value for _, value in attention[went + 1 :]]
    assert sum(value < attention[went][1] for value in later) > len(later) / 2
    right.get_by_label("Beside it").select_option(label="1970 Hidden Markov model")
    page.get_by_label("Sentence").fill("she went to the store and bought")
    went = right.locator("[role=option]", has_text="␣went").first
    for word in ("␣came", "␣come", "␣stood"):
        expect(went).to_contain_text(word)
        in_lesson(f"`{word}`")


def test_surprise(visit: Callable[..., Page]) -> None:
    page = visit("")
    go_to(page, "Surprise")
    heat, details = page.locator(".heat"), page.locator(".details")
    expect(heat).to_contain_text("astronauts")
    heat.locator("span", has_text=re.compile("^ning$")).click()
    expect(details).to_contain_text(re.compile(r"surprisal\s*0\.\d+ bits"))
    heat.locator("span", has_text=re.compile("^ sp$")).click()
    expect(details).to_contain_text(re.compile(r"surprisal\s*(8\.[5-9]|9\.[0-4])\d* bits"))
    for place, word in enumerate(("␣LORD", "␣king", "␣earth")):
        expect(details.locator(".bars li").nth(place)).to_contain_text(word)
        in_lesson(f"`{word}`")
    figures = bits_per_character(page)
    in_lesson(f"*uniform* needs {figures['uniform']:.2f}")
    assert 0.4 < min(figures.values()) / figures["uniform"] < 0.6
    sentence = "And it came to pass in those days, that he went out into a mountain to pray."
    in_lesson(f"`{sentence}`")
    page.get_by_label("Text", exact=True).fill(f"{sentence} {sentence}")
    expect(heat).to_contain_text("pray. And it")
    figures = bits_per_character(page)
    assert min(figures, key=figures.__getitem__) == "cache"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)  # colours change slowly
        assert Axe().run(page).violations_count == 0


def bits_per_character(page: Page) -> dict[str, float]:
    """Returns the figures of all models in the view Surprise, when they are complete."""
    numbers = page.locator(".eras .number")
    expect(numbers).to_have_text([re.compile(r"^\d\.\d\d$")] * len(shipped_text_models()))
    names = page.locator(".eras li button").all_inner_texts()
    found = zip(names, numbers.all_inner_texts(), strict=True)
    return {re.sub(r"^\d{4} ", "", name): float(number) for name, number in found}


def test_shannons_game(visit: Callable[..., Page]) -> None:
    page = visit("")
    go_to(page, "Shannon's game")
    expect(page.locator(".passage .gap")).to_be_visible()
    letters = page.evaluate("document.querySelector('lmzoo-game').passage.letters")
    assert letters[0] == " "
    page.get_by_role("textbox", name="Next letter").focus()
    for index, letter in enumerate(letters):  # eight of ten at the first guess
        page.keyboard.type("z" + letter if index % 5 == 1 else letter)
    bars = page.locator(".results .bars li")
    expect(bars).to_have_count(len(shipped_text_models()) + 1)
    expect(page.locator(".results")).to_contain_text("80 % right at the first guess")
    figures = dict(one.split("\n") for one in bars.all_inner_texts())
    in_lesson(f"*uniform* needs {figures['uniform']} here")
    models = sorted(float(figure) for name, figure in figures.items() if name != "you")
    assert models[0] == pytest.approx(1.2, abs=0.1)
    assert float(figures["you"].split(" to ")[1]) < models[0]
    page.get_by_text("In class").click()
    expect(page.get_by_label("Your name")).to_be_visible()
    expect(page.get_by_label("Seed of the passages")).to_be_visible()


def test_completion_and_chat(visit: Callable[..., Page]) -> None:
    page = visit("view=chat")
    replies = page.get_by_role("region", name="Chat model replies")
    chosen = page.locator("select[name=chatter]")
    expect(chosen).to_have_value("chat")
    for model in ("chat", "gpt-3.5"):
        chosen.select_option(model)
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#status")).to_have_text("The answers are complete.")
        expect(replies).not_to_be_empty()
    in_lesson(f"*{zoo.card('gpt-3.5').title}*")
    expect(page.get_by_role("region", name="Model continues the text")).to_contain_text(
        "last word of: light upon waters"
    )
    page.get_by_label("Your name").fill("class")
    page.get_by_role("button", name="Start voting").click()
    expect(page.get_by_role("group", name="Vote")).to_be_focused()
    for n, key in enumerate(("1", "2", "t"), start=1):
        page.keyboard.press(key)
        expect(page.locator(".saved")).to_contain_text("Your last vote is saved")
        expect(page.get_by_role("group", name="Vote")).to_contain_text(f"in this session: {n}.")


def test_a_century(visit: Callable[..., Page]) -> None:
    page = visit("view=timeline")
    expect(page.locator(".era")).to_have_count(5)
    in_lesson("five eras from 1913 on")
    page.get_by_role("link", name="Markov chain, 1913").click()
    expect(page.locator("#family-markov dl")).to_contain_text("counted vowels and consonants in Eugene Onegin by hand")
