"""The result of an experiment in Python: its text, its table in a notebook, its data frame."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lmzoo
from lmzoo.corpora import load_corpus
from lmzoo.errors import MissingExtraError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.result import RunResult
from lmzoo.system.jobs import Outcome


def a_record(label: str, bits: float | None, **changes: Any) -> EvalRecord:
    values: dict[str, Any] = {
        "species": "ngram", "settings": {}, "seed": 0, "label": label, "corpus": "c", "corpus_fingerprint": "f",
        "protocol": "p", "split": "test", "tokenizer": "byte", "tokenizer_fingerprint": "t", "lossless": True,
        "vocab_size": 257, "total_nats": 1.0, "n_bytes": 10, "n_tokens": 10, "n_words": 2, "n_documents": 1,
        "n_impossible": 0, "bits_per_byte": bits, "perplexity_per_token": 3.0, "perplexity_per_word": 9.0,
        "mean_entropy_bits": 1.0, "top1_accuracy": 0.5, "top5_accuracy": 0.9, "context_size": None,
        "n_parameters": 1234, "n_train_tokens": None, "fit_seconds": None, "evaluate_seconds": 1.0,
        "tokens_per_second": 10.0, "peak_memory_bytes": 1,
    }  # fmt: skip
    return EvalRecord(**(values | changes))


@pytest.fixture
def result() -> RunResult[EvalRecord]:
    return RunResult(
        Path("runs/quick"),
        [
            Outcome("none", a_record("none", None)),
            Outcome("worse", a_record("<b>worse</b>", 2.5)),
            Outcome("better", a_record("better", 1.25, fit_seconds=3.0)),
            Outcome("broken", error="<script>alert(1)</script>"),
            Outcome("optional", error="needs a package", skipped=True),
        ],
    )


def test_records_and_failures(result: RunResult[EvalRecord]) -> None:
    assert [record.name for record in result.records] == ["none", "<b>worse</b>", "better"]
    assert [outcome.name for outcome in result.failures] == ["broken"]
    assert repr(result) == "<RunResult runs/quick: 3 records, 1 failures>"


def test_the_table_of_a_notebook_is_ranked_and_escaped(result: RunResult[EvalRecord]) -> None:
    html = result._repr_html_()
    assert html.index("better") < html.index("&lt;b&gt;worse") < html.index("<td>none")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<td>1.250</td><td>3.0</td><td>1,234</td><td>3.0</td>" in html
    assert "<td>–</td>" in html, "an unknown time is no zero"


def test_the_data_frame_has_a_row_per_record(result: RunResult[EvalRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    rows: Any = result.to_dataframe()
    assert [row["bits_per_byte"] for row in rows] == [None, 2.5, 1.25]
    assert list(rows[0])[-1] == "record_version", "results first"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'pandas': pip install 'lmzoo\[pandas\]'"):
        result.to_dataframe()


def test_default_folders(corpus_folder: Path) -> None:
    assert RunPlan().default_folder() == Path("runs/quick")
    assert RunPlan(corpus="source:copying", budget="standard").default_folder() == Path("runs/source-copying-standard")
    assert RunPlan().default_folder("curves") == Path("runs/curves-kjv-quick")
    assert RunPlan(corpus="wiki/part?/*.parquet:content").default_folder() == Path("runs/wiki-quick")
    for nameless in ("-", ".", "*.txt", "/*.txt"):
        assert RunPlan(corpus=nameless).default_folder() == Path("runs/texts-quick")
    corpus = load_corpus(corpus_folder)
    assert RunPlan(corpus=corpus).default_folder().name.endswith("-quick")


def test_compare_without_a_folder(corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = lmzoo.compare(species=["uniform"], corpus=corpus_folder, tokenizer="byte")
    assert result.folder == Path("runs") / f"{corpus_folder.stem}-quick"
    assert result.records[0].vocab_size == 257


def test_a_notebook_shows_a_record_as_a_table() -> None:
    page = a_record("<b>", 2.0, bits_per_byte_low=1.9, bits_per_byte_high=2.1)._repr_html_()
    assert "2.000 (95 % interval 1.900 to 2.100)" in page
    assert "<b>" not in page
    page = a_record("word", None)._repr_html_()
    assert "a word tokenizer does not keep unknown words and white space" in page


def test_a_notebook_shows_a_corpus_as_a_table_without_its_texts() -> None:
    corpus = load_corpus("kjv")
    page = corpus._repr_html_()
    assert "King James" in page
    assert f"{len(corpus.test):,} documents" in page
    assert "In the beginning" not in page
