"""The ladder: results of each task, the tasks that are passed, records, tables and pages."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.table import Table

from lmzoo import sources, zoo
from lmzoo.cli import run
from lmzoo.cli.tables import ladder_tables
from lmzoo.corpora import generated
from lmzoo.corpora.corpus import Splits
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.corpora.registry import CorpusCard
from lmzoo.errors import LmzooError, SavedModelError, UnknownNameError, UsageError
from lmzoo.evaluation.records import read_records
from lmzoo.experiments.ladder import (
    SPECIES,
    TaskResult,
    _TestText,
    by_species,
    first_to_pass,
    read_task_results,
    settings_of,
)
from lmzoo.experiments.ladder import ladder as run_ladder
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.result import RunResult
from lmzoo.report import charts
from lmzoo.report.ladder import excess, shares, write_ladder
from lmzoo.sources import FiniteState

TASKS = ["agreement-4", "markov-1"]


def ladder(
    folder: Path, *, tasks: list[str] | None = None, on_task: Any = None, on_outcome: Any = None, **plan: Any
) -> RunResult[TaskResult]:
    return run_ladder(folder, RunPlan(**plan), tasks=tasks, on_task=on_task, on_outcome=on_outcome)


@pytest.fixture(scope="module", autouse=True)
def texts_are_generated_once() -> Iterator[None]:
    """Keeps the generated corpora: each run of the ladder generates the texts of its tasks, which takes a second."""
    generate, kept = generated.documents, dict[str, Splits]()

    def documents(card: CorpusCard, *, name: str) -> Splits:
        if name not in kept:
            kept[name] = generate(card, name=name)
        return kept[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "documents", documents)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "ladder"
    made = ladder(path, tasks=TASKS, species=["ngram", "markov"], command="lmzoo ladder")
    assert not made.failures
    assert [(result.task, result.species) for result in made.records] == [
        ("markov-1", "ngram"), ("markov-1", "markov"), ("agreement-4", "ngram"), ("agreement-4", "markov"),
    ], "the easiest task first"  # fmt: skip
    write_ladder(path)
    return path


def result_of(folder: Path, task: str, species: str) -> TaskResult:
    (found,) = [result for result in read_task_results(folder) if (result.task, result.species) == (task, species)]
    return found


def test_models_pass_or_fail_by_the_expected_excess(folder: Path) -> None:
    easy = result_of(folder, "markov-1", "markov")
    assert easy.passed
    assert abs(easy.excess_nats or 1) < 0.002
    assert (easy.n_target_tokens, easy.target_excess_nats, easy.relative_excess) == (0, None, None)

    source = sources.source("agreement-4")
    assert isinstance(source, FiniteState)
    assert source.entropy is not None
    hard = result_of(folder, "agreement-4", "markov")
    assert not hard.passed
    assert hard.excess_nats == pytest.approx(source.limit(1) - source.entropy, abs=4 * (hard.excess_error or 0) + 0.001)
    assert hard.relative_excess == pytest.approx(1, abs=0.02), "a guess"
    assert hard.n_target_tokens == 1000

    assert result_of(folder, "agreement-4", "ngram").passed, "an n-gram of order 6 sees the noun"
    assert result_of(folder, "agreement-4", "ngram").settings == {"order": 6}
    assert result_of(folder, "markov-1", "ngram").settings == {"order": 2}


def test_excess_is_the_difference_of_the_losses(folder: Path) -> None:
    for task in TASKS:
        for record in read_records(folder / task / "results.jsonl"):
            found = result_of(folder, task, record.species)
            test = EncodedCorpus.load(folder / task / "encoded").test.stream
            optimal = -sources.source(task).log_probs(test).sum()
            assert record.total_nats is not None
            assert found.excess_nats == pytest.approx((record.total_nats - optimal) / len(test), abs=1e-6)
            assert found.optimal_nats == pytest.approx(optimal / len(test))


def test_the_source_itself_has_no_excess(folder: Path) -> None:
    record = read_records(folder / "agreement-4" / "results.jsonl")[0]
    text = _TestText.of("agreement-4", EncodedCorpus.load(folder / "agreement-4" / "encoded").test.stream)
    own = text.result(record, sources.source("agreement-4").log_probs(text.stream))
    assert own.passed
    assert (own.excess_nats, own.excess_error, own.relative_excess) == (0, 0, 0)


def test_error_is_that_of_other_documents(folder: Path) -> None:
    """Documents differ in length: the mean over resampled documents varies as the standard error says."""
    record = read_records(folder / "agreement-4" / "results.jsonl")[0]
    rng, stream = np.random.default_rng(0), sources.source("counting").sample(300, np.random.default_rng(0))
    text = _TestText.of("counting", stream)
    log_probs = text.optimal - 0.1 + rng.normal(0, 0.1, len(stream))
    found = text.result(record, log_probs)
    sums, sizes = np.add.reduceat(text.optimal - log_probs, stream.starts), stream.ends - stream.starts
    assert sizes.std() > 0.3 * sizes.mean()
    draws = rng.integers(300, size=(2000, 300))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    assert found.excess_error == pytest.approx(means.std(), rel=0.1)


def test_a_token_of_probability_0_has_no_excess(folder: Path) -> None:
    """An unsmoothed model, for example; JSON has no infinity."""
    for task in TASKS:
        record = read_records(folder / task / "results.jsonl")[0]
        text = _TestText.of(task, EncodedCorpus.load(folder / task / "encoded").test.stream)
        log_probs = text.optimal.copy()
        log_probs[7] = -np.inf
        found = text.result(record, log_probs)
        assert (found.excess_nats, found.excess_error, found.relative_excess, found.passed) == (None, None, None, False)


@pytest.mark.parametrize(("share", "passed"), [(0.04, True), (0.06, False)])
def test_target_tokens_decide(folder: Path, share: float, passed: bool) -> None:
    """Losses on other tokens do not count, and a small mean loss can fail: 0.06 ln 2 / 9 equals 0.005 nats."""
    record = read_records(folder / "agreement-4" / "results.jsonl")[0]
    text = _TestText.of("agreement-4", EncodedCorpus.load(folder / "agreement-4" / "encoded").test.stream)
    lost = np.where(text.targets, share * math.log(2), 0.3 if passed else 0)
    found = text.result(record, text.optimal - lost)
    assert found.relative_excess == pytest.approx(share)
    assert found.passed == passed


def test_the_first_to_pass_is_of_the_earliest_era(folder: Path) -> None:
    one = result_of(folder, "markov-1", "markov")
    of = {name: replace(one, species=name) for name in ("lstm", "trigram", "transformer", "plug-in that has gone")}
    assert first_to_pass(list(of.values())) == of["trigram"]
    assert first_to_pass([of["transformer"], replace(of["trigram"], passed=False), of["lstm"]]) == of["lstm"]
    assert first_to_pass([replace(one, adapts_on_test=True), of["transformer"]]) == of["transformer"]
    assert first_to_pass([replace(one, passed=False)]) is None


def test_a_second_run_fits_nothing_again(folder: Path) -> None:
    before = (folder / "ladder.jsonl").read_bytes()
    reused: list[bool] = []
    heard: list[str] = []
    made = ladder(
        folder,
        tasks=TASKS,
        species=["ngram", "markov"],
        on_outcome=lambda outcome: reused.append(outcome.reused),
        on_task=heard.append,
    )
    assert len(made.records) == 4
    assert reused == [True] * 4
    assert heard == ["markov-1", "agreement-4"]
    assert (folder / "ladder.jsonl").read_bytes() == before


@pytest.mark.slow
def test_later_runs_add_to_what_is_there(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    made = ladder(path, tasks=["markov-1"], species=["unigram", "ngram"], settings={"ngram": {"order": 3}})
    assert {result.species for result in made.records} == {"unigram", "ngram"}
    known = {(result.task, result.species): result for result in read_task_results(path)}
    assert len(known) == len(read_task_results(path)) == 5
    assert known["markov-1", "ngram"].settings == {"order": 3}, "in the place of the one with other settings"
    assert not known["markov-1", "unigram"].passed
    assert known["markov-1", "markov"].passed, "it stays"


@pytest.mark.slow
def test_every_seed_is_kept_and_the_best_counts(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    reused: list[bool] = []
    ladder(
        path,
        tasks=["markov-1"],
        species=["markov"],
        seeds=2,
        on_outcome=lambda outcome: reused.append(outcome.reused),
    )
    assert reused == [True, False]
    own = [result for result in read_task_results(path) if result.task == "markov-1"]
    assert [(result.species, result.seed) for result in own] == [("markov", 0), ("markov", 1), ("ngram", 0)]

    ladder(path, tasks=["markov-1"], species=["markov"], settings={"markov": {"alpha": 3.0}})
    (only,) = [result for result in read_task_results(path) if (result.task, result.species) == ("markov-1", "markov")]
    assert only.settings == {"alpha": 3.0}, "seed 1 is of other settings"


def test_of_several_seeds_the_best_counts(folder: Path) -> None:
    one = result_of(folder, "agreement-4", "markov")
    seeds = [
        replace(one, seed=0, excess_nats=None, relative_excess=None),
        replace(one, seed=1, excess_nats=0.07, relative_excess=1.0),
        replace(one, seed=2, excess_nats=0.08, relative_excess=0.01, passed=True),
    ]
    other = result_of(folder, "agreement-4", "ngram")
    found = by_species([*seeds, other])
    assert list(found) == ["markov", "ngram"]
    assert [result.seed for result in found["markov"]] == [2, 1, 0], "by the relative excess, without an excess last"
    assert excess([*seeds, other])[1][0][1:3] == ["1913 markov", "0.080 ✓ 1/3"]
    assert shares([*seeds, other])[1][0][2] == "1% ✓ 1/3"
    alike = replace(one, n_target_tokens=0, relative_excess=None)
    better = replace(alike, seed=1, excess_nats=0.01)
    assert by_species([alike, better])["markov"] == [better, alike], "by the excess where nothing decides"


def test_one_failure_leaves_the_rest(folder: Path, unlucky: str, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    made = ladder(path, tasks=["markov-1"], species=[unlucky, "markov"])
    assert [result.species for result in made.records] == ["markov"]
    assert [outcome.name for outcome in made.failures] == [f"markov-1: {unlucky}"]


def test_a_failure_does_not_show_what_an_earlier_run_found(folder: Path, unlucky: str, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    assert not ladder(path, tasks=["markov-1"], species=[unlucky], settings={unlucky: {"fails": False}}).failures
    made = ladder(path, tasks=["markov-1"], species=[unlucky, "unigram"])
    assert [outcome.name for outcome in made.failures] == [f"markov-1: {unlucky}"]
    assert [result.species for result in made.records] == ["unigram"]


def test_scores_that_are_gone_stop_nobody_else(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    shutil.rmtree(path / "markov-1" / "scores" / "markov")
    made = ladder(path, tasks=["markov-1"], species=["unigram"])
    assert [result.species for result in made.records] == ["unigram"]


def test_wrong_calls_show_before_any_work(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "ladder"
    for wrong, message in (
        ({"tasks": ["copyng"]}, "unknown source 'copyng': did you mean 'copying'"),
        ({"species": ["lsmt"]}, "did you mean 'lstm'"),
        ({"budget": "quik"}, "did you mean 'quick'"),
        ({"species": ["markov"], "settings": {"lstm": {}}}, "'lstm', which is not among the species of this run"),
        ({"species": ["markov"], "settings": {"markov": {"alpha": -1}}}, "markov: alpha must be a finite number above"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"jobs": 0}, "jobs must be at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            ladder(path, **wrong)
    assert not path.exists()
    with pytest.raises(UsageError, match="holds a run with seed 0, not 1"):
        ladder(folder, tasks=["markov-1"], species=["markov"], seed=1)
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files"):
        ladder(tmp_path, tasks=["markov-1"], species=["markov"])
    with pytest.raises(LmzooError, match=r"holds no results of the ladder yet: run lmzoo ladder --out"):
        write_ladder(tmp_path)


def test_damaged_records_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ladder.jsonl").write_text((folder / "ladder.jsonl").read_text()[:-20], encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"ladder\.jsonl:4 is not a record"):
        read_task_results(tmp_path)


def test_settings_of_the_ladder_are_those_of_factories() -> None:
    for task in sources.names():
        for species in SPECIES:
            for budget in ("quick", "standard", "thorough"):
                zoo.create(species, 20, **settings_of(task, species, budget))
    assert settings_of("markov-3", "ngram", "quick") == {"order": 4}
    assert settings_of("copying", "lstm", "standard")["training"]["tokens"] == 3_000_000
    with pytest.raises(UnknownNameError):
        settings_of("copying", "lstm", "quik")


def test_tables(folder: Path) -> None:
    results = read_task_results(folder)
    header, rows = excess(results)
    assert header == ["task", "first to pass", "markov", "ngram"]
    assert [row[:2] for row in rows] == [["markov-1", "1913 markov"], ["agreement-4", "1998 ngram"]]
    assert rows[1][2] == f"{result_of(folder, 'agreement-4', 'markov').excess_nats:.3f}"
    assert rows[1][3] == f"{result_of(folder, 'agreement-4', 'ngram').excess_nats:.3f} ✓"
    header, rows = shares(results)
    assert [row[0] for row in rows] == ["agreement-4"], "only where something decides"
    assert rows[0][2] == "100%"


def test_tables_fit_the_terminal(folder: Path) -> None:
    results = read_task_results(folder)
    (whole,) = ladder_tables(results, 1000).renderables
    assert isinstance(whole, Table)
    assert [column.header for column in whole.columns] == ["task", "first to pass", "markov", "ngram"]
    first, _, second = ladder_tables(results, 40).renderables
    assert isinstance(first, Table)
    assert isinstance(second, Table)
    # "agreement-4" and "first to pass" and "0.231  ", with two spaces behind each but the last: 35 of 40.
    assert [column.header for column in first.columns] == ["task", "first to pass", "markov"]
    assert [column.header for column in second.columns] == ["task", "ngram"]
    assert len(ladder_tables(results, 1).renderables) == 5, "one column at a time"


def test_figure(folder: Path) -> None:
    specification = charts.ladder(read_task_results(folder)).to_dict()
    values = {(row["task"], row["species"]): row for row in specification["data"]["values"]}
    assert len(values) == 4
    assert values["markov-1", "markov"]["mark"] == "✓"
    assert values["markov-1", "markov"]["excess"] == 0.001, "nothing below the scale"
    assert specification["layer"][0]["encoding"]["y"]["sort"] == ["agreement-4", "markov-1"], "the easiest task below"


def test_pages(folder: Path) -> None:
    html, markdown = ((folder / f"ladder.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert html.count("<svg") == 1
    assert "http" not in html.replace("http://www.w3.org/", ""), "nothing from outside"
    for page in (html, markdown):
        for said in (
            "agree over 4 tokens",
            "1998 ngram",
            "0.693 nats",
            "lmzoo ladder",
            "0.6743 nats per token",
            "0.231",
        ):
            assert said in page, said
    tables = [block for block in markdown.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4, "two of all tasks, one of each"
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_ladder_command(folder: Path, unlucky: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    asked = ["ladder", "--task", "agreement-4", "markov-1", "--species", "markov", "--out", str(path)]
    assert run(asked) == 0
    captured = capsys.readouterr()
    assert captured.out.index("markov-1") < captured.out.index("agreement-4")
    assert "markov: reused" in captured.err
    assert "ladder.html" in captured.err.replace("\n", "")
    assert run([*asked, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["passed"] for line in lines] == [True, False]
    assert run(["ladder", "--task", "markov-1", "--species", unlucky, "--out", str(path)]) == 1
    assert f"{unlucky}: failed: bad luck" in capsys.readouterr().err
    assert run(["ladder", "--task", "nothing", "--out", str(path)]) == 2
