"""Tests of hidden states: the table, the most likely path of a text, samples, sweeps over their number, the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.cli.commands.settings import parse_sweeps
from lmzoo.errors import ConfigurationError, UnknownNameError, UsageError
from lmzoo.evaluation.records import EvalRecord, read_records
from lmzoo.experiments.compare import compare
from lmzoo.models.hidden_states import HasHiddenStates
from lmzoo.report import charts, write_report

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
    assert html.count("<svg") == html.count("<figure>") > 3
    assert "Test perplexity against n_states" in html
    for page in (html, markdown):
        assert "Inside the hidden Markov model" in page
        assert "hmm,n_states=3" in page
    section = markdown.split("## Inside")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("|")][2:]
    shares = [float(cells[2].split()[0]) for cells in rows]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.2)


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_hidden_states_says_nothing_of_them(corpus_folder: Path, tmp_path: Path) -> None:
    compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer="bpe:300")
    write_report(tmp_path / "run")
    assert "Inside the hidden" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_wrong_sweeps(corpus_folder: Path, tmp_path: Path) -> None:
    assert parse_sweeps(["hmm.n_states=8,32", "a.b=x, 1.5"]) == {"hmm": {"n_states": [8, 32]}, "a": {"b": ["x", 1.5]}}
    for wrong in ("hmm", "hmm=3", "hmm.=3", "hmm.n_states=", "hmm.n_states=8,,9", ".a=1", "a..b=1"):
        with pytest.raises(ConfigurationError, match="--sweep takes"):
            parse_sweeps([wrong])
    parts = ["hmm.n_states=8", "lstm.training.tokens=5", "hmm.n_states=32"]  # a sweep in parts; a setting in a group
    assert parse_sweeps(parts) == {"hmm": {"n_states": [8, 32]}, "lstm": {"training.tokens": [5]}}
    with pytest.raises(UnknownNameError, match="did you mean 'n_states'"):
        compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, sweeps={"hmm": {"n_state": [3]}})
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_labels_and_settings_of_a_nested_sweep(corpus_folder: Path, tmp_path: Path) -> None:
    """A nested setting leaves other settings of its group unchanged."""
    group = {"species": "markov", "settings": {"alpha": 2.0}}
    comparison = compare(
        tmp_path / "run",
        species=["uniform"],
        corpus=corpus_folder,
        tokenizer="bpe:300",
        settings={"cache": {"static": group}},
        sweeps={"cache": {"static": ["markov"], "static.settings.alpha": [5]}},
    )
    assert {outcome.name: outcome.error for outcome in comparison.outcomes} == {
        "uniform": "",
        "cache,static=markov": "",
        "cache,static.settings.alpha=5": "",
    }
    assert comparison.records[-1].settings == {"static": {"species": "markov", "settings": {"alpha": 5}}}


@pytest.mark.parametrize("setting", ["static", "static./x"])
def test_a_sweep_writes_nothing_outside_of_its_run_folder(setting: str, corpus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cache,static.*%2F"):
        compare(
            tmp_path / "run",
            species=["uniform"],
            corpus=corpus_folder,
            settings={"cache": {"static": {"species": "markov"}}},
            sweeps={"cache": {setting: ["../../../markov"]}},
        )
    assert not list(tmp_path.rglob("*"))


def test_figure_of_a_sweep(sweep: Path) -> None:
    unigram, small, large = (one for one in read_records(sweep / "results.jsonl") if one.species in ("unigram", "hmm"))

    def drawn(values: tuple[float, float], reference: EvalRecord | None) -> dict[str, Any]:
        chart = charts.by_setting("x", list(zip(values, (small, large), strict=True)), reference)
        assert "<svg" in charts.as_svg(chart)
        return chart.to_dict()

    for values, scale in (((8, 80), "log"), ((8, 79), "linear"), ((0, 80), "linear"), ((-1, 2), "linear")):
        assert drawn(values, None)["layer"][0]["encoding"]["x"]["scale"]["type"] == scale
    assert len(drawn((1, 2), None)["layer"]) == 2
    *_, rule, text = drawn((1, 2), unigram)["layer"]
    assert rule["mark"]["type"] == "rule"
    assert rule["data"]["values"][0]["perplexity"] == unigram.perplexity_per_token
    assert text["data"]["values"][0]["label"] == f"unigram: {unigram.perplexity_per_token:,.1f}"


def test_switches_and_single_values_have_no_figure(sweep: Path) -> None:
    from lmzoo.report.sweeps import swept_settings

    _, small, large, _ = read_records(sweep / "results.jsonl")
    assert [value for value, _ in swept_settings([small, large])["n_states"]] == [3, 5]
    assert not swept_settings([small, small])
    for value in (True, None, "5"):
        assert not swept_settings([small, dataclasses.replace(large, settings={"n_states": value})])
    assert not swept_settings([small, dataclasses.replace(large, perplexity_per_token=None)])
    grouped = [
        dataclasses.replace(small, label=f"lstm,training.tokens={n}", settings={"training": {"tokens": n}})
        for n in (5, 9)
    ]
    assert swept_settings(grouped) == {"training.tokens": [(5, grouped[0]), (9, grouped[1])]}


def test_a_sweep_is_compared_with_the_best_of_its_kind(sweep: Path) -> None:
    from lmzoo.report.sweeps import reference_record

    unigram, small, large, other = read_records(sweep / "results.jsonl")
    adaptive = dataclasses.replace(unigram, adapts_on_test=True)
    tried = [(3.0, small), (5.0, large)]
    assert reference_record(tried, [large, small, adaptive, unigram, other]) == unigram
    assert reference_record(tried, [large, small, adaptive]) is None
    impossible = dataclasses.replace(unigram, perplexity_per_token=None)
    assert reference_record(tried, [impossible, other]) == other


@pytest.mark.slow
def test_tokens_are_text_in_table_and_graph(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(30):
        (corpus / f"{number}.txt").write_text("<b>&amp;</svg><script>x</script> | `y` " * 5, encoding="utf-8")
    settings = {"hmm": {"n_states": 4, "n_iterations": 2}}
    compare(tmp_path / "run", species=["hmm"], corpus=corpus, tokenizer="bpe:300", settings=settings)
    write_report(tmp_path / "run")
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    section = html.split('<h2 id="states">')[1].split("<h2 ")[0]
    assert "&lt;" in section.split("<svg")[0]
    assert "&lt;" in section.split("<svg")[1], "else this test shows nothing of the graph"
    assert html.count("<script") == 1, "that of the page"
    assert "<b>" not in html
    assert html.count("<svg") == html.count("</svg>") == html.count("<figure>")
    markdown = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    rows = [line for line in markdown.split("## Inside")[1].split("\n## ")[0].splitlines() if line[:1] == "|"]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}


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
    printed = capsys.readouterr().out
    assert "self-transition" in printed
    assert "next states" in printed


def test_states_of_what_has_none(saved: Path, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(sweep / "predictors" / "hmm,n_states=3")
    for arguments, message in (
        ([str(saved)], "has no hidden states to show: name a hidden Markov model, such as hmm or class-hmm"),
        ([home, ""], "must have 1 to"),
        ([home, "a " * 5000], "must have 1 to"),
        ([home, "a", "--sample"], "not both"),
        ([home, "-k", "0"], "--k and --max-tokens must be at least 1"),
    ):
        assert run(["states", *arguments]) == 2
        assert message in capsys.readouterr().err
