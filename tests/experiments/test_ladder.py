"""The ladder: what is measured on each rung, who climbs, what is kept, and how it is shown."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from lmzoo import sources, zoo
from lmzoo.cli import run
from lmzoo.cli.tables import ladder_tables
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import LmzooError, SavedModelError, UnknownNameError, UsageError
from lmzoo.evaluation.records import read_records
from lmzoo.experiments.ladder import SPECIES, Climb, _Exam, by_species, first_to_climb, ladder, read_climbs, settings_of
from lmzoo.report import charts
from lmzoo.report.ladder import excess, shares, write_ladder
from lmzoo.sources import FiniteState

RUNGS = ["agreement-4", "markov-1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "ladder"
    made = ladder(path, rungs=RUNGS, species=["ngram", "markov"], command="lmzoo ladder")
    assert not made.failures
    assert [(climb.rung, climb.species) for climb in made.climbs] == [
        ("markov-1", "ngram"), ("markov-1", "markov"), ("agreement-4", "ngram"), ("agreement-4", "markov"),
    ], "rungs from the lowest up"  # fmt: skip
    write_ladder(path)
    return path


def climb(folder: Path, rung: str, species: str) -> Climb:
    (found,) = [climb for climb in read_climbs(folder) if (climb.rung, climb.species) == (rung, species)]
    return found


def test_who_climbs_and_who_fails_by_the_expected_amount(folder: Path) -> None:
    easy = climb(folder, "markov-1", "markov")
    assert easy.climbed
    assert abs(easy.excess_nats or 1) < 0.002
    assert (easy.n_decisive, easy.decisive_excess_nats, easy.decisive_share) == (0, None, None)

    source = sources.source("agreement-4")
    assert isinstance(source, FiniteState)
    assert source.entropy is not None
    hard = climb(folder, "agreement-4", "markov")
    assert not hard.climbed
    assert hard.excess_nats == pytest.approx(source.limit(1) - source.entropy, abs=4 * (hard.excess_error or 0) + 0.001)
    assert hard.decisive_share == pytest.approx(1, abs=0.02), "a guess"
    assert hard.n_decisive == 1000

    assert climb(folder, "agreement-4", "ngram").climbed, "an n-gram of order 6 sees the noun"
    assert climb(folder, "agreement-4", "ngram").settings == {"order": 6}
    assert climb(folder, "markov-1", "ngram").settings == {"order": 2}


def test_excess_is_the_difference_of_what_both_pay(folder: Path) -> None:
    for rung in RUNGS:
        for record in read_records(folder / rung / "results.jsonl"):
            found = climb(folder, rung, record.species)
            test = EncodedCorpus.load(folder / rung / "encoded").test.stream
            optimal = -sources.source(rung).log_probs(test).sum()
            assert record.total_nats is not None
            assert found.excess_nats == pytest.approx((record.total_nats - optimal) / len(test), abs=1e-6)
            assert found.optimal_nats == pytest.approx(optimal / len(test))


def test_the_source_itself_has_no_excess(folder: Path) -> None:
    record = read_records(folder / "agreement-4" / "results.jsonl")[0]
    exam = _Exam.on("agreement-4", EncodedCorpus.load(folder / "agreement-4" / "encoded").test.stream)
    own = exam.climb(record, sources.source("agreement-4").log_probs(exam.stream))
    assert own.climbed
    assert (own.excess_nats, own.excess_error, own.decisive_share) == (0, 0, 0)


def test_error_is_that_of_other_documents(folder: Path) -> None:
    """Documents of a rung may be long or short: drawn anew, their mean varies as the standard error says."""
    record = read_records(folder / "agreement-4" / "results.jsonl")[0]
    rng, stream = np.random.default_rng(0), sources.source("counting").sample(300, np.random.default_rng(0))
    exam = _Exam.on("counting", stream)
    log_probs = exam.optimal - 0.1 + rng.normal(0, 0.1, len(stream))
    found = exam.climb(record, log_probs)
    sums, sizes = np.add.reduceat(exam.optimal - log_probs, stream.starts), stream.ends - stream.starts
    assert sizes.std() > 0.3 * sizes.mean()
    draws = rng.integers(300, size=(2000, 300))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    assert found.excess_error == pytest.approx(means.std(), rel=0.1)


def test_what_finds_something_impossible_has_no_excess(folder: Path) -> None:
    """An exhibit without smoothing, say; JSON has no infinity."""
    for rung in RUNGS:
        record = read_records(folder / rung / "results.jsonl")[0]
        exam = _Exam.on(rung, EncodedCorpus.load(folder / rung / "encoded").test.stream)
        log_probs = exam.optimal.copy()
        log_probs[7] = -np.inf
        found = exam.climb(record, log_probs)
        assert (found.excess_nats, found.excess_error, found.decisive_share, found.climbed) == (None, None, None, False)


@pytest.mark.parametrize(("share", "climbed"), [(0.04, True), (0.06, False)])
def test_decisive_tokens_decide(folder: Path, share: float, climbed: bool) -> None:
    """Whatever is lost on others, and however little a loss on them is on average: 0.06 ln 2 / 9 are 0.005 nats."""
    record = read_records(folder / "agreement-4" / "results.jsonl")[0]
    exam = _Exam.on("agreement-4", EncodedCorpus.load(folder / "agreement-4" / "encoded").test.stream)
    lost = np.where(exam.decisive, share * math.log(2), 0.3 if climbed else 0)
    found = exam.climb(record, exam.optimal - lost)
    assert found.decisive_share == pytest.approx(share)
    assert found.climbed == climbed


def test_the_first_to_climb_is_of_the_earliest_era(folder: Path) -> None:
    one = climb(folder, "markov-1", "markov")
    of = {name: replace(one, species=name) for name in ("lstm", "trigram", "transformer", "plug-in that has gone")}
    assert first_to_climb(list(of.values())) == of["trigram"]
    assert first_to_climb([of["transformer"], replace(of["trigram"], climbed=False), of["lstm"]]) == of["lstm"]
    assert first_to_climb([replace(one, adapts_on_test=True), of["transformer"]]) == of["transformer"]
    assert first_to_climb([replace(one, climbed=False)]) is None


def test_a_second_run_fits_nothing_again(folder: Path) -> None:
    before = (folder / "ladder.jsonl").read_bytes()
    reused: list[bool] = []
    heard: list[str] = []
    made = ladder(
        folder,
        rungs=RUNGS,
        species=["ngram", "markov"],
        on_outcome=lambda outcome: reused.append(outcome.reused),
        on_rung=heard.append,
    )
    assert len(made.climbs) == 4
    assert reused == [True] * 4
    assert heard == ["markov-1", "agreement-4"]
    assert (folder / "ladder.jsonl").read_bytes() == before


def test_later_runs_add_to_what_is_there(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    made = ladder(path, rungs=["markov-1"], species=["unigram", "ngram"], settings={"ngram": {"order": 3}})
    assert {climb.species for climb in made.climbs} == {"unigram", "ngram"}
    known = {(climb.rung, climb.species): climb for climb in read_climbs(path)}
    assert len(known) == len(read_climbs(path)) == 5
    assert known["markov-1", "ngram"].settings == {"order": 3}, "in the place of the one with other settings"
    assert not known["markov-1", "unigram"].climbed
    assert known["markov-1", "markov"].climbed, "it stays"


def test_every_seed_is_kept_and_the_best_counts(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    reused: list[bool] = []
    ladder(
        path,
        rungs=["markov-1"],
        species=["markov"],
        seeds=2,
        on_outcome=lambda outcome: reused.append(outcome.reused),
    )
    assert reused == [True, False]
    own = [climb for climb in read_climbs(path) if climb.rung == "markov-1"]
    assert [(climb.species, climb.seed) for climb in own] == [("markov", 0), ("markov", 1), ("ngram", 0)]

    ladder(path, rungs=["markov-1"], species=["markov"], settings={"markov": {"alpha": 3.0}})
    (only,) = [climb for climb in read_climbs(path) if (climb.rung, climb.species) == ("markov-1", "markov")]
    assert only.settings == {"alpha": 3.0}, "seed 1 is of other settings"


def test_of_several_seeds_the_best_counts(folder: Path) -> None:
    one = climb(folder, "agreement-4", "markov")
    seeds = [
        replace(one, seed=0, excess_nats=None, decisive_share=None),
        replace(one, seed=1, excess_nats=0.07, decisive_share=1.0),
        replace(one, seed=2, excess_nats=0.08, decisive_share=0.01, climbed=True),
    ]
    other = climb(folder, "agreement-4", "ngram")
    found = by_species([*seeds, other])
    assert list(found) == ["markov", "ngram"]
    assert [climb.seed for climb in found["markov"]] == [2, 1, 0], "by the share of ignorance, what failed last"
    assert excess([*seeds, other])[1][0][1:3] == ["1913 markov", "0.080 ✓ 1/3"]
    assert shares([*seeds, other])[1][0][2] == "1% ✓ 1/3"
    alike = replace(one, n_decisive=0, decisive_share=None)
    better = replace(alike, seed=1, excess_nats=0.01)
    assert by_species([alike, better])["markov"] == [better, alike], "by the excess where nothing decides"


def test_one_failure_leaves_the_rest(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    made = ladder(path, rungs=["markov-1"], species=["unigram", "markov"], settings={"unigram": {"alpha": -1}})
    assert [climb.species for climb in made.climbs] == ["markov"]
    assert [(rung, outcome.name) for rung, outcome in made.failures] == [("markov-1", "unigram")]


def test_a_failure_does_not_show_what_an_earlier_run_found(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    made = ladder(path, rungs=["markov-1"], species=["markov", "unigram"], settings={"markov": {"alpha": -1}})
    assert [outcome.name for _, outcome in made.failures] == ["markov"]
    assert [climb.species for climb in made.climbs] == ["unigram"]


def test_scores_that_are_gone_stop_nobody_else(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    shutil.rmtree(path / "markov-1" / "scores" / "markov")
    made = ladder(path, rungs=["markov-1"], species=["unigram"])
    assert [climb.species for climb in made.climbs] == ["unigram"]


def test_wrong_calls_show_before_any_work(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "ladder"
    for wrong, message in (
        ({"rungs": ["copyng"]}, "unknown source 'copyng': did you mean 'copying'"),
        ({"species": ["lsmt"]}, "did you mean 'lstm'"),
        ({"budget": "quik"}, "did you mean 'quick'"),
        ({"species": ["markov"], "settings": {"lstm": {}}}, "'lstm', which is not among the species of this ladder"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"jobs": 0}, "jobs must be at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            ladder(path, **wrong)
    assert not path.exists()
    with pytest.raises(UsageError, match="holds a run with seed 0, not 1"):
        ladder(folder, rungs=["markov-1"], species=["markov"], seed=1)
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files"):
        ladder(tmp_path, rungs=["markov-1"], species=["markov"])
    with pytest.raises(LmzooError, match=r"holds no results of the ladder yet: run lmzoo ladder --out"):
        write_ladder(tmp_path)


def test_damaged_records_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ladder.jsonl").write_text((folder / "ladder.jsonl").read_text()[:-20], encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"ladder\.jsonl:4 is not a record"):
        read_climbs(tmp_path)


def test_settings_of_the_ladder_are_those_of_factories() -> None:
    for rung in sources.names():
        for species in SPECIES:
            for budget in ("quick", "standard", "thorough"):
                zoo.create(species, 20, **settings_of(rung, species, budget))
    assert settings_of("markov-3", "ngram", "quick") == {"order": 4}
    assert settings_of("copying", "lstm", "standard")["training"]["tokens"] == 3_000_000
    with pytest.raises(UnknownNameError):
        settings_of("copying", "lstm", "quik")


def test_tables(folder: Path) -> None:
    climbs = read_climbs(folder)
    header, rows = excess(climbs)
    assert header == ["task", "first to pass", "markov", "ngram"]
    assert [row[:2] for row in rows] == [["markov-1", "1913 markov"], ["agreement-4", "1998 ngram"]]
    assert rows[1][2] == f"{climb(folder, 'agreement-4', 'markov').excess_nats:.3f}"
    assert rows[1][3] == f"{climb(folder, 'agreement-4', 'ngram').excess_nats:.3f} ✓"
    header, rows = shares(climbs)
    assert [row[0] for row in rows] == ["agreement-4"], "only where something decides"
    assert rows[0][2] == "100%"


def test_tables_fit_the_terminal(folder: Path) -> None:
    climbs = read_climbs(folder)
    (whole,) = ladder_tables(climbs, 1000).renderables
    assert isinstance(whole, Table)
    assert [column.header for column in whole.columns] == ["task", "first to pass", "markov", "ngram"]
    first, _, second = ladder_tables(climbs, 40).renderables
    assert isinstance(first, Table)
    assert isinstance(second, Table)
    # "agreement-4" and "first to climb" and "0.231  ", with two spaces behind each but the last: 36 of 40.
    assert [column.header for column in first.columns] == ["task", "first to pass", "markov"]
    assert [column.header for column in second.columns] == ["task", "ngram"]
    assert len(ladder_tables(climbs, 1).renderables) == 5, "one column at a time"


def test_figure(folder: Path) -> None:
    specification = charts.ladder(read_climbs(folder)).to_dict()
    values = {(row["rung"], row["species"]): row for row in specification["data"]["values"]}
    assert len(values) == 4
    assert values["markov-1", "markov"]["mark"] == "✓"
    assert values["markov-1", "markov"]["excess"] == 0.001, "nothing below the scale"
    assert specification["layer"][0]["encoding"]["y"]["sort"] == ["agreement-4", "markov-1"], "the lowest rung below"


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
    assert len(tables) == 4, "two of all, one of each rung"
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_ladder_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shutil.copytree(folder, tmp_path / "ladder")
    asked = ["ladder", "--rung", "agreement-4", "markov-1", "--species", "markov", "--out", str(path)]
    assert run(asked) == 0
    captured = capsys.readouterr()
    assert captured.out.index("markov-1") < captured.out.index("agreement-4")
    assert "markov: reused" in captured.err
    assert "ladder.html" in captured.err.replace("\n", "")
    assert run([*asked, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["climbed"] for line in lines] == [True, False]
    assert run([*asked, "--set", "markov.alpha=-1"]) == 1
    assert "markov: failed: alpha must be" in capsys.readouterr().err
    assert run(["ladder", "--rung", "nothing", "--out", str(path)]) == 2
