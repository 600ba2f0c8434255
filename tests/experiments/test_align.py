"""Runs of `lmzoo align`: their results, and runs that are interrupted, repeated or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from align_runs import REQUEST, align_corpus, make_align_run
from micro_chat_models import micro_predictor
from shared_runs import made_once

from lmzoo import Predictor
from lmzoo.arrays import load_arrays
from lmzoo.chat.conversation import user
from lmzoo.chat.preferences import Ranking, read_rankings, write_rankings
from lmzoo.chat.template import has_chat_tokens
from lmzoo.corpora.load import as_corpus
from lmzoo.errors import ConfigurationError, LmzooError, UsageError
from lmzoo.experiments.align import align
from lmzoo.experiments.align.plan import AlignPlan
from lmzoo.experiments.align.results import best_chat_model, newest_run, stage_records
from lmzoo.experiments.align.stages import StageJob, split_rankings
from lmzoo.experiments.run_folder import open_run
from lmzoo.system.progress import Progress

pytestmark = pytest.mark.slow

STAGES = ["base", "sft", "rankings", "reward", "dpo", "ppo"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once("align", make_align_run, tmp_path_factory)


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may change."""
    return Path(shutil.copytree(home / "run", tmp_path / "align-copy"))


def _weights(run: Path, stage: str) -> dict[str, np.ndarray]:
    return dict(load_arrays(run / "predictors" / stage / "arrays.safetensors")[0])


def _assert_same_weights(run: Path, other: Path, stage: str) -> None:
    ours, theirs = _weights(run, stage), _weights(other, stage)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


def _forget(run: Path, *stages: str) -> None:
    """Removes stages from a run folder, as if the run had been killed before them."""
    path = run / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(one for one in lines if not any(f'"stage": "{stage}"' in one for stage in stages)))
    for stage in stages:
        shutil.rmtree(run / "predictors" / stage, ignore_errors=True)


def test_every_stage_has_a_record_and_a_model(home: Path) -> None:
    records = {record.stage: record for record in stage_records(home / "run")}
    assert list(records) == STAGES
    for stage in ("base", "sft", "dpo", "ppo"):
        record = records[stage]
        assert len(record.accuracy) == 8, "one entry per task"
        assert record.bits_per_byte is not None
        assert has_chat_tokens(Predictor.load(home / "run" / "predictors" / stage).tokenizer)
    for stage in ("dpo", "ppo"):
        wins = records[stage].against_sft
        assert wins is not None
        assert wins.low <= wins.rate <= wins.high
        assert wins.n_prompts == 30
        before, after = _weights(home / "run", "sft"), _weights(home / "run", stage)
        assert any((before[name] != after[name]).any() for name in before), "the stage changed the weights"
    assert records["reward"].best_of_n is not None
    assert records["dpo"].rankings == records["reward"].rankings != ""


def test_a_second_run_reuses_every_stage(home: Path, run: Path) -> None:
    result = align(run, corpus=align_corpus(), **REQUEST)
    assert [(one.name, one.reused) for one in result.outcomes] == [(stage, True) for stage in STAGES]


def test_a_stage_after_a_kill_gives_the_same_weights(home: Path, run: Path) -> None:
    _forget(run, "dpo")
    result = align(run, corpus=align_corpus(), **REQUEST)
    assert [one.name for one in result.outcomes if not one.reused] == ["dpo"]
    _assert_same_weights(run, home / "run", "dpo")
    assert [record.stage for record in stage_records(run)] == STAGES


def _interrupted(job: StageJob, n_reports: int) -> Progress:
    """Interrupts a stage at one of its reports of progress, which must leave a checkpoint; returns this report."""
    reports: list[Progress] = []

    def interrupt(progress: Progress) -> None:
        reports.append(progress)
        if len(reports) == n_reports:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.do(interrupt)
    assert (job.folder / "checkpoints" / f"{job.stage}.safetensors").exists()
    return reports[-1]


def test_a_stage_continues_from_its_checkpoint(home: Path, run: Path) -> None:
    _forget(run, "sft")
    plan = AlignPlan(corpus=align_corpus(), **REQUEST).checked()
    last = _interrupted(StageJob(run, plan, "sft"), 8)
    reports: list[Progress] = []
    StageJob(run, plan, "sft").do(reports.append)
    assert reports[0].done >= last.done > 0
    assert not (run / "checkpoints" / "sft.safetensors").exists()
    other = Path(shutil.copytree(home / "run", run.parent / "uninterrupted"))
    _forget(other, "sft")
    StageJob(other, plan, "sft").do(lambda progress: None)  # in this process too, because processes may round otherwise
    _assert_same_weights(run, other, "sft")


def test_an_interrupted_stage_starts_again_if_the_rankings_have_changed(home: Path, run: Path) -> None:
    _forget(run, "dpo")
    plan = AlignPlan(corpus=align_corpus(), **REQUEST).checked()
    _interrupted(StageJob(run, plan, "dpo"), 3)
    write_rankings(run / "rankings.jsonl", read_rankings(run / "rankings.jsonl")[::2])
    uninterrupted = Path(shutil.copytree(run, run.parent / "uninterrupted"))
    shutil.rmtree(uninterrupted / "checkpoints")
    reports: dict[Path, list[Progress]] = {run: [], uninterrupted: []}
    for folder, of_folder in reports.items():
        StageJob(folder, plan, "dpo").do(of_folder.append)
    assert [report.done for report in reports[run]] == [report.done for report in reports[uninterrupted]]
    assert not (run / "checkpoints" / "dpo.safetensors").exists()
    _assert_same_weights(run, uninterrupted, "dpo")


def test_other_requests_are_refused(home: Path, run: Path) -> None:
    with pytest.raises(UsageError, match="holds a run with seed 0, not 1"):
        align(run, corpus=align_corpus(), **REQUEST, seed=1)
    with pytest.raises(UsageError, match="holds a run with tokenizer 'bpe:300', not 'byte'"):
        align(run, corpus=align_corpus(), **REQUEST | {"tokenizer": "byte"})


def test_too_few_votes_say_how_to_collect_more(home: Path, run: Path) -> None:
    write_rankings(run / "votes.jsonl", read_rankings(run / "rankings.jsonl")[:3])
    with pytest.raises(
        LmzooError, match=r"at least 10 rankings that are not ties, and there are 3: compare .* `lmzoo rank"
    ):
        align(run, corpus=align_corpus(), **REQUEST, ranker="people")


def test_rankings_of_one_prompt_are_refused_before_the_training(home: Path, run: Path) -> None:
    prompt = read_rankings(run / "rankings.jsonl")[0].prompt
    write_rankings(run / "votes.jsonl", [Ranking(prompt, (f"yes {number}", "no")) for number in range(10)])
    with pytest.raises(LmzooError, match="of replies to at least 2 prompts, and all 10 have the same prompt: compare"):
        align(run, corpus=align_corpus(), **REQUEST, ranker="people")


def test_another_ranker_repeats_the_stages_that_depend_on_it(home: Path, run: Path) -> None:
    reverse = tuple(
        type(one)(one.prompt, one.replies[::-1], rater="anna") for one in read_rankings(run / "rankings.jsonl")
    )
    write_rankings(run.parent / "mine.jsonl", reverse)
    request = REQUEST | {"ranker": run.parent / "mine.jsonl", "methods": ["dpo"]}
    result = align(run, corpus=align_corpus(), **request)
    assert [one.name for one in result.outcomes if not one.reused] == ["rankings", "reward", "dpo"]
    assert read_rankings(run / "rankings.jsonl") == list(reverse)
    assert all(one.reused for one in align(run, corpus=align_corpus(), **request).outcomes)


def test_a_run_to_compare_with_must_have_the_same_prompts(home: Path, run: Path, tmp_path: Path) -> None:
    request = REQUEST | {"corpus": align_corpus(), "against": run}
    shutil.rmtree(run / "replies")
    with pytest.raises(UsageError, match="no replies of a model trained by dpo"):
        align(tmp_path / "new", **request)
    shutil.copytree(home / "run" / "replies", run / "replies")
    replies = (run / "replies" / "dpo.jsonl").read_text(encoding="utf-8")
    (run / "replies" / "dpo.jsonl").write_text(replies.replace('"grade"', '"score"'), encoding="utf-8")
    with pytest.raises(UsageError, match=r"dpo\.jsonl has replies without a grade: repeat that run"):
        align(tmp_path / "new", **request)
    (run / "replies" / "dpo.jsonl").write_text(replies, encoding="utf-8")
    (run / "data" / "test.jsonl").write_text("")
    with pytest.raises(UsageError, match="tested on different prompts"):
        align(tmp_path / "new", **request)


def test_a_saved_base_must_be_a_network(markov_predictor: Predictor, tmp_path: Path, corpus_folder: Path) -> None:
    markov_predictor.save(tmp_path / "markov")
    with pytest.raises(ConfigurationError, match="'markov' cannot learn from conversations"):
        align(tmp_path / "run", corpus=corpus_folder, **REQUEST | {"base": str(tmp_path / "markov")})
    assert not (tmp_path / "run").exists()


def test_a_saved_base_that_was_trained_again_is_refused(tmp_path: Path, corpus_folder: Path) -> None:
    request = REQUEST | {"corpus": corpus_folder, "base": str(tmp_path / "base")}
    micro_predictor(base="lstm", chat=False).save(tmp_path / "base")
    plan = AlignPlan(**request).checked()
    with open_run(tmp_path / "run", plan.request(as_corpus(plan.corpus))):
        pass
    micro_predictor(base="lstm", chat=False, seed=1).save(tmp_path / "base")
    with pytest.raises(UsageError, match=r"the base has changed since the run in .* began, .*: choose another folder"):
        align(tmp_path / "run", **request)


def test_the_best_model_has_the_highest_grade(run: Path) -> None:
    grades = {record.stage: record.grade or 0 for record in stage_records(run) if record.stage in ("sft", "dpo", "ppo")}
    assert grades[best_chat_model(run).name] == max(grades.values())
    assert newest_run(run.parent) == run
    _forget(run, "sft", "dpo", "ppo")
    with pytest.raises(UsageError, match="no chat model yet"):
        best_chat_model(run)
    assert newest_run(run) is None


def test_ties_are_not_among_the_rankings_for_validation() -> None:
    prompts = [(user(f"say: {number}"),) for number in range(16)]
    ties = [Ranking(prompt, ("yes", "no"), tie=index % 8 == 0) for index, prompt in enumerate(prompts)]
    train, valid = split_rankings(ties)
    assert (len(train), len(valid)) == (12, 2)
    assert not any(ranking.tie for ranking in [*train, *valid])
