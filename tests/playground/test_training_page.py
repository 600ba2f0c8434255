"""Pages that are open while models are fitted: they show the progress, and take in what is finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from browsers import SHORT_PAUSES
from playwright.sync_api import Browser, expect

from lmzoo.experiments.plan import RunPlan
from lmzoo.playground import training as module
from lmzoo.playground.pages import add_playground
from lmzoo.playground.training import Training
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels
from lmzoo.server.serving import in_background
from lmzoo.system.jobs import Outcome
from lmzoo.system.progress import Progress

pytestmark = pytest.mark.slow


class Pausing:
    """Runs jobs in this process, one after the other; each stops half-way until it is released."""

    def __init__(self) -> None:
        self.release = Event()

    def __call__(self, jobs, *, at_a_time, on_outcome, on_progress) -> None:
        for job in jobs:
            on_progress(job.name, Progress(0, 4, "steps"))
            on_progress(job.name, Progress(2, 4, "steps"))
            self.release.wait(120)
            self.release.clear()
            if job.name == "trigram":
                on_outcome(Outcome(job.name, error="no memory"))
            else:
                on_outcome(Outcome(job.name, job.do(lambda progress: None)))


@pytest.fixture
def pausing(monkeypatch: pytest.MonkeyPatch) -> Pausing:
    pausing = Pausing()
    monkeypatch.setattr(module, "run_jobs", pausing)
    monkeypatch.setattr("os.nice", lambda increment: 0)
    return pausing


@pytest.fixture
def site(pausing: Pausing, corpus_folder: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a server that starts without a model, and fits three."""
    models = ServedModels({})
    plan = RunPlan(species=["unigram", "markov", "trigram"], corpus=corpus_folder, tokenizer="bpe:300", jobs=1)
    training = Training(tmp_path / "run", plan.checked(), models)
    app = create_app(models)
    add_playground(app, training=training)
    thread = Thread(target=training.run)
    thread.start()
    with in_background(app) as address:
        yield address
        while thread.is_alive():
            pausing.release.set()
            thread.join(0.1)


def test_models_arrive_without_a_reload(browser: Browser, site: str, pausing: Pausing) -> None:
    page = browser.new_page()
    page.add_init_script(SHORT_PAUSES)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{site}/?prompt=The+king")
    training = page.locator("lmzoo-training")
    expect(training).to_contain_text("No model is fitted yet")
    expect(training.locator("summary")).to_contain_text("0 of 3 models · Unigram · 50 %, 1 s left")
    expect(page.locator("article")).to_have_count(0)

    pausing.release.set()
    expect(page.locator("article h2")).to_have_text(["Unigram"])
    expect(page.get_by_text("No model is fitted yet")).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("New: Unigram.")
    page.get_by_role("textbox", name="Prompt").fill("The queen")
    page.get_by_role("textbox", name="Prompt").focus()
    pausing.release.set()
    expect(page.locator("article h2")).to_have_text(["Markov chain", "Unigram"])
    expect(page.get_by_text("Models: 2 of 2")).to_be_visible()
    expect(page.get_by_role("textbox", name="Prompt")).to_be_focused()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value("The queen")

    training.locator("summary").click()
    expect(training.get_by_role("listitem")).to_contain_text(["Unigramready", "Markov chainready", "Trigram50 %"])
    for view, found in (
        ("tokens", ".card h2 .spec:text-is('bpe:300')"),
        ("surprise", ".eras li:nth-child(2)"),
        ("inside", "select[name=right] option:nth-child(2)"),
        ("timeline", "#family-markov a"),
    ):
        page.locator(f"nav [data-view={view}]").click()
        expect(page.locator(found)).to_be_attached()
    pausing.release.set()
    expect(training.locator("summary")).to_have_text("2 of 3 models · 1 failed")
    expect(training.get_by_role("listitem").nth(2)).to_contain_text("failed: no memory")
    page.close()
    assert problems == []
