"""A run that the tests of the report share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmzoo.experiments.compare import compare
from lmzoo.report import write_report

SPECIES = ["unigram", "markov", "trigram", "cache", "hmm", "rnn"]
SETTINGS: dict[str, dict[str, Any]] = {
    "cache": {"static": "markov"},
    "hmm": {"n_states": 4, "n_iterations": 2},
    "rnn": {"d_embed": 8, "d_hidden": 16, "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 8}},
}


@pytest.fixture(scope="session")
def run_folder(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report; tests that change the folder copy it first."""
    home = tmp_path_factory.mktemp("report")
    (home / "corpus").mkdir()
    for path in corpus_folder.iterdir():
        text = path.read_text(encoding="utf-8")
        (home / "corpus" / path.name).write_text(f"{text}\n<b>and & {path.stem}</b>", encoding="utf-8")
    request: dict[str, Any] = {"corpus": home / "corpus", "tokenizer": "bpe:300", "settings": SETTINGS}
    assert not compare(home / "run", species=SPECIES, **request).failures
    write_report(home / "run")
    return home / "run"
