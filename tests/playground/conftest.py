"""What the tests of the playground share: small predictors of several eras, a client of the routes, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsers import SHORT_PAUSES
from fastapi import FastAPI
from micro_chat_models import micro_predictor
from playwright.sync_api import Browser, Page
from starlette.testclient import TestClient

from lmzoo import Predictor, zoo
from lmzoo.chat.conversation import user
from lmzoo.chat.voting import Comparison, write_comparisons
from lmzoo.playground.pages import add_playground
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels
from lmzoo.server.serving import in_background

TOKENIZERS = {"unigram": "char", "markov": "bpe:300", "hmm": "word:2", "trigram": "bpe:300", "lstm": "bpe:300"}


@pytest.fixture(scope="session")
def predictors(corpus_folder: Path) -> dict[str, Predictor]:
    """A small predictor of each of five eras, by species."""
    return {
        species: Predictor.fit(species, corpus_folder, tokenizer=spec, **zoo.presets(species).get("tiny", {}))
        for species, spec in TOKENIZERS.items()
    }


@pytest.fixture(scope="session")
def playground(predictors: dict[str, Predictor]) -> FastAPI:
    """The application that serves the predictors with the pages."""
    app = create_app(ServedModels(predictors))
    add_playground(app)
    return app


@pytest.fixture(scope="session")
def client(playground: FastAPI) -> Iterator[TestClient]:
    with TestClient(playground) as client:
        yield client


@pytest.fixture(scope="session")
def address(playground: FastAPI) -> Iterator[str]:
    """The address of a running server with the pages."""
    with in_background(playground) as address:
        yield address


@pytest.fixture(scope="session")
def all_kinds(predictors: dict[str, Predictor]) -> dict[str, Predictor]:
    """The predictors, with a transformer and a chat model of random weights."""
    return predictors | {"transformer": micro_predictor(base="transformer", chat=False), "chat": micro_predictor()}


@pytest.fixture(scope="session")
def align_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with three comparisons to vote on, and a report with a script."""
    run = tmp_path_factory.mktemp("run")
    comparisons = [
        Comparison((user(f"say: {word}"),), f"good {word}", f"bad {word}", models=("dpo", "sft"))
        for word in ("ant", "bee", "cow")
    ]
    write_comparisons(run / "comparisons.jsonl", comparisons)
    (run / "report.html").write_text("<!doctype html><title>Report</title><p>The report of a run", encoding="utf-8")
    return run


@pytest.fixture(scope="session")
def app_with_run(all_kinds: dict[str, Predictor], align_run: Path) -> FastAPI:
    """The application that serves models of all kinds, and a run folder."""
    app = create_app(ServedModels(all_kinds))
    add_playground(app, [align_run])
    return app


@pytest.fixture(scope="session")
def client_with_run(app_with_run: FastAPI) -> Iterator[TestClient]:
    with TestClient(app_with_run) as client:
        yield client


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of the playground by the query of its address, on request with short pauses.

    The test fails if a page logs a message or an error, or asks another server for anything.
    """
    pages: list[Page] = []
    said: list[str] = []
    asked: list[str] = []

    def open_page(query: str, *, short_pauses: bool = False, **options: object) -> Page:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}} | options)
        if short_pauses:
            page.add_init_script(SHORT_PAUSES)
        page.set_default_timeout(60_000)  # a loaded machine answers late
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/?{query}")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
