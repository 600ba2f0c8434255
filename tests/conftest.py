"""What the tests share: a small corpus on disk, and predictors fitted on it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

# The suite runs on several workers; two threaded programs on the same cores slow each other down many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

from collections.abc import Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import CHROMIUM, running_browser
from hypothesis import settings
from sample_texts import small_texts
from shared_folders import shared_folder
from unlucky_species import unlucky_species

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from lmzoo import Predictor


# No test depends on the speed of the computer.
settings.register_profile("without deadline", settings.default, deadline=None)
settings.load_profile("without deadline")


def pytest_configure(config: pytest.Config) -> None:
    """Gives the whole run one temporary folder, and lets the commands that tests start be interrupted.

    Tests, workers and the processes that they start all use this folder.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell; commands inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # workers inherit the environment of the process that starts them
        get_temp_dir()  # a folder of `multiprocessing`, which it removes after the folder of the run is removed
        os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="lmzoo-tests-")
    tempfile.tempdir = None  # read the environment again


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first: then all cores have work until the end, as the last files are quick."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the temporary folder of the run."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop("TMPDIR"), ignore_errors=True)


@pytest.fixture(scope="session")
def corpus_folder() -> Path:
    """A folder of text files, one document each, with the same path for all workers."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for number, text in enumerate(small_texts()):
            (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")

    return shared_folder("corpus", make)


@pytest.fixture
def unlucky() -> Iterator[str]:
    """The name of a species whose training fails with the message "bad luck", unless its setting `fails` is false."""
    with unlucky_species() as name:
        yield name


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the figures of a report empty, for tests that read other parts of it: drawing them takes seconds."""
    monkeypatch.setattr("lmzoo.report.figures.as_svg", lambda chart: "<svg></svg>")
    monkeypatch.setattr("vl_convert.svg_to_png", lambda svg, scale: b"")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one module: Playwright's event loop must not outlive the tests that use it."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report, and the corpus beside it; tests that change the folder copy it first."""
    from shared_runs import made_once, make_run_and_corpus

    return made_once("run-and-corpus", make_run_and_corpus, tmp_path_factory) / "run"


@pytest.fixture(scope="session")
def markov_predictor(corpus_folder: Path) -> Predictor:
    from lmzoo import Predictor

    return Predictor.fit("markov", corpus_folder, tokenizer="bpe:300", seed=3)


@pytest.fixture(scope="session")
def saved(markov_predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved predictor; tests that damage it copy it first."""
    return markov_predictor.save(tmp_path_factory.mktemp("saved") / "markov")
