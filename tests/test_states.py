"""Hidden states for people: the table, the path through a text, a sample, sweeps over their number, the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.commands.settings import parse_sweeps
from lmzoo.compare import compare
from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.hidden_states import HasHiddenStates
from lmzoo.report import write_report

SIZES = {"hmm": {"n_states": [3, 5]}, "class-hmm": {"n_states": [8]}}


@pytest.fixture(scope="module")
def sweep(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    settings = {"hmm": {"n_iterations": 5}, "class-hmm": {"n_classes": 5, "n_rounds": 2}}
    request = {"corpus": corpus_folder, "tokenizer": "bpe:300", "settings": settings, "sweeps": SIZES}
    comparison = compare(folder, species=["unigram"], **request)
    assert not comparison.failures
    again = compare(folder, species=["unigram"], **request)
    assert all(outcome.reused for outcome in again.outcomes)
    write_report(folder)
    return folder


def test_a_sweep_has_an_entry_for_each_value(sweep: Path) -> None:
    records = [json.loads(line) for line in (sweep / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {record["label"] or record["species"]: record["settings"].get("n_states") for record in records}
    assert found == {"unigram": None, "hmm,n_states=3": 3, "hmm,n_states=5": 5, "class-hmm,n_states=8": 8}
    for name, n_states in found.items():
        model = Predictor.load(sweep / "predictors" / name).model
        assert isinstance(model, HasHiddenStates) == (n_states is not None)
        if isinstance(model, HasHiddenStates):
            assert len(model.state_table()) == n_states


def test_the_report_shows_states_and_sizes(sweep: Path) -> None:
    html, markdown = ((sweep / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert html.count("<svg") == 4
    assert "Test perplexity against n_states" in html
    for page in (html, markdown):
        assert "Inside the hidden Markov model" in page
        assert "hmm,n_states=3" in page
    section = markdown.split("## Inside")[1].split("## The eras")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("|")][2:]
    shares = [float(cells[2].split()[0]) for cells in rows]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_a_run_without_hidden_states_says_nothing_of_them(corpus_folder: Path, tmp_path: Path) -> None:
    compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer="bpe:300")
    write_report(tmp_path / "run")
    assert "Inside the hidden" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_wrong_sweeps(corpus_folder: Path, tmp_path: Path) -> None:
    assert parse_sweeps(["hmm.n_states=8,32", "a.b=x, 1.5"]) == {"hmm": {"n_states": [8, 32]}, "a": {"b": ["x", 1.5]}}
    for wrong in ("hmm", "hmm=3", "hmm.=3", "hmm.n_states=", "hmm.n_states=8,,9"):
        with pytest.raises(ConfigurationError, match="--sweep takes"):
            parse_sweeps([wrong])
    with pytest.raises(UnknownNameError, match="did you mean 'n_states'"):
        compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, sweeps={"hmm": {"n_state": [3]}})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["hmm,n_states=3", "class-hmm,n_states=8"])
def test_states_command(name: str, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(sweep / "predictors" / name)
    predictor = Predictor.load(home)
    n_states = int(name.rpartition("=")[2])

    def asked(*arguments: str) -> list[dict[str, object]]:
        assert run(["states", home, *arguments, "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    table = asked("-k", "2")
    assert len(table) == n_states
    assert [row["share"] for row in table] == sorted((row["share"] for row in table), reverse=True)
    assert sum(float(str(row["share"])) for row in table) == pytest.approx(1, abs=1e-4)

    path = asked("The cat that I saw")
    ids = predictor.tokenizer.encode("The cat that I saw")
    assert isinstance(predictor.model, HasHiddenStates)
    assert [row["state"] for row in path] == predictor.model.viterbi(ids).tolist()
    posteriors = predictor.model.posteriors(ids)
    np.testing.assert_allclose(
        [float(str(row["probability"])) for row in path],
        posteriors[np.arange(len(ids)), [row["state"] for row in path]],
    )

    sample = asked("--sample", "--max-tokens", "7", "--seed", "3")
    assert 1 <= len(sample) <= 7
    assert sample == asked("--sample", "--max-tokens", "7", "--seed", "3")
    assert run(["states", home]) == 0
    assert "next states" in capsys.readouterr().out


def test_states_of_what_has_none(saved: Path, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(sweep / "predictors" / "hmm,n_states=3")
    for arguments, message in (
        ([str(saved)], "has no hidden states; hmm and class-hmm have"),
        ([home, ""], "must have 1 to"),
        ([home, "a " * 5000], "must have 1 to"),
        ([home, "a", "--sample"], "not both"),
        ([home, "-k", "0"], "at least 1"),
    ):
        assert run(["states", *arguments]) == 2
        assert message in capsys.readouterr().err
