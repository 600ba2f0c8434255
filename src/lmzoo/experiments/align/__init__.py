"""Teaches a language model to chat, stage by stage, in a run folder.

    run/run.json                  the request: base, corpus, preset, seed
    run/encoded/, run/data/       what the stages learn from and are tested on (see `data`)
    run/checkpoints/STAGE         state of a training that is not finished
    run/predictors/STAGE/         the trained chat models; STAGE is base, sft, dpo or ppo
    run/reward/                   the reward model
    run/replies/STAGE.jsonl       replies to the held-out prompts
    run/comparisons.jsonl         pairs of replies for people to compare with `lmzoo rank`
    run/votes.jsonl               their votes
    run/rankings.jsonl            rankings by the judge (the program that grades replies), or from a file
    run/ppo.csv                   reward, grade, divergence and other figures of each rollout of PPO
    run/moved.json                tokens whose probabilities learning from rankings changed most
    run/best_of_n.csv             reward and grade of the best of n replies of the stage sft
    run/results.jsonl             one record per stage

A run that was killed continues where it stopped, and a run that is requested again reuses its results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lmzoo.chat.preferences import rankings_fingerprint, read_rankings
from lmzoo.corpora import Corpus
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import read_lines
from lmzoo.experiments.align.data import RunData, prepare
from lmzoo.experiments.align.measure import check_same_test, write_moved_tokens
from lmzoo.experiments.align.plan import METHODS, AlignPlan
from lmzoo.experiments.align.records import StageRecord
from lmzoo.experiments.align.stages import CHAT_STAGES, StageJob, is_complete, predictor_folder, rankings_path
from lmzoo.experiments.result import RunResult
from lmzoo.experiments.run_folder import open_run, update_records
from lmzoo.predictor import DEFAULT_CORPUS, Predictor
from lmzoo.system.jobs import Outcome, resume
from lmzoo.system.placement import Device
from lmzoo.system.progress import Progress

_FEWEST_RANKINGS = 10


def align(
    folder: str | Path | None = None,
    *,
    base: str = "transformer",
    corpus: str | Path | Corpus = DEFAULT_CORPUS,
    tokenizer: str = "bpe:2048",
    preset: str = "quick",
    methods: Sequence[str] = METHODS,
    conversations: str | Path | None = None,
    ranker: str | Path = "judge",
    against: str | Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    command: str = "",
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome[StageRecord]], None] | None = None,
) -> RunResult[StageRecord]:
    """Teaches a language model to chat: fine-tuning on conversations, then learning from rankings of its replies.

    `folder` receives the models and the results; by default it is runs/align-BASE-PRESET. `base` is the name of a kind
    of model in the zoo (a species), such as "transformer", which is first trained on `corpus` with `tokenizer`; or the
    folder of a saved predictor. `preset` names the settings of all stages: how much data each stage learns from, and
    for how long; "quick" is the default. `methods` are the ways to learn from rankings: "dpo", "ppo" and, to see
    over-optimisation, "ppo-unpenalised".
    `conversations` is a file of your own conversations to learn from, or "shakespeare" for the dialogue of his plays;
    by default, these are generated instructions with replies that a program can check. `ranker` ranks the replies:
    "judge" (the program that checks them), "people" (see `lmzoo rank`), or a file of rankings. `against` is the folder
    of an earlier run; the replies of its chat model to held-out prompts are compared with those of the new one.

    Each stage is trained in a process of its own. From a script, call this function under
    `if __name__ == "__main__":`. Returns the records of the stages, and the errors of those that failed. Raises
    UsageError for a wrong argument, and if the folder holds another run.
    """
    plan = AlignPlan(
        base=base,
        corpus=corpus,
        tokenizer=tokenizer,
        preset=preset,
        methods=methods,
        conversations=conversations,
        ranker=ranker,
        against=None if against is None else Path(against),
        seed=seed,
        device=device,
        command=command,
    )
    return run_alignment(folder, plan, on_progress=on_progress, on_outcome=on_outcome)


def run_alignment(
    folder: str | Path | None,
    plan: AlignPlan,
    *,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome[StageRecord]], None] | None = None,
) -> RunResult[StageRecord]:
    """Runs all stages of a plan in a run folder, and reuses those that an earlier run in the folder has finished.

    `folder` is the run folder; None means the default folder of the plan. `on_progress` is called with the name and the
    progress of a stage while it runs, and `on_outcome` at its end, with its record or an error message. Returns the
    records and errors of all stages. Raises UsageError as `align` does, and LmzooError if there are too few rankings to
    learn from, for example because people have not compared enough replies yet.
    """
    plan = plan.checked()
    folder = Path(folder or plan.default_folder())
    corpus = plan.load_corpus()
    outcomes: list[Outcome[StageRecord]] = []
    with open_run(folder, plan.request(corpus)):
        prepare(folder, plan, corpus)
        if plan.against is not None:
            check_same_test(folder, plan.against, plan.methods)
        results = folder / "results.jsonl"
        stages = [stage for group in _groups(plan) for stage in group]

        def on_done(outcome: Outcome[StageRecord]) -> None:
            if outcome.record is not None and not outcome.reused:
                update_records(results, outcome.record, stages)
            if on_outcome:
                on_outcome(outcome)

        learned_from = ""
        for group in _groups(plan):
            jobs = [StageJob(folder, plan, stage) for stage in group]
            known = {record.stage: record for record in read_lines(results, StageRecord)}
            if "reward" in group:
                learned_from = _check_rankings(folder, plan)
            reusable = {
                stage: known[stage]
                for stage in group
                if stage in known and is_complete(folder, stage) and _is_current(known[stage], plan, learned_from)
            }
            outcomes += resume(jobs, reusable, at_a_time=len(jobs), on_outcome=on_done, on_progress=on_progress)
            if any(outcome.error for outcome in outcomes):
                break
        else:
            _write_moved_tokens(folder, plan, is_new=not all(outcome.reused for outcome in outcomes))
    return RunResult(folder, outcomes)


def _write_moved_tokens(folder: Path, plan: AlignPlan, *, is_new: bool) -> None:
    """Writes the tokens whose probabilities learning from rankings changed most, unless a file of this run has them."""
    test = RunData(folder).test
    if test and plan.methods and (is_new or not (folder / "moved.json").exists()):
        stages = ["sft", *(method for method in plan.methods if method in CHAT_STAGES)]
        predictors = {stage: Predictor.load(predictor_folder(folder, stage)) for stage in stages}
        write_moved_tokens(folder, predictors, test)


def _groups(plan: AlignPlan) -> list[list[str]]:
    """Returns the stages of a run in groups. The stages of a group do not need each other, and run at the same time."""
    groups = [["base"], ["sft"], ["rankings"], ["reward", *(method for method in plan.methods if method == "dpo")]]
    rewarded = [method for method in plan.methods if method != "dpo"]
    return [*groups, rewarded] if rewarded else groups


def _is_current(record: StageRecord, plan: AlignPlan, learned_from: str) -> bool:
    """Returns True if the result of a stage is that of the plan, whose rankings have the hash `learned_from`.

    Other rankings, and another ranker, need no new run folder: the stages that depend on them are repeated.
    """
    if record.stage == "rankings":
        return record.settings.get("ranker") == plan.ranker_identity
    return record.rankings in ("", learned_from)


def _check_rankings(folder: Path, plan: AlignPlan) -> str:
    """Returns the hash of the rankings from which a run learns.

    Raises LmzooError if there are fewer than `_FEWEST_RANKINGS` rankings, not counting ties.
    """
    path = rankings_path(folder, plan)
    rankings = read_rankings(path) if path.exists() else []
    n_useful = sum(bool(ranking.pairs) for ranking in rankings)
    if n_useful < _FEWEST_RANKINGS:
        how = {
            "people": f"compare more replies with `lmzoo rank {folder}`, and then run the same command again",
            "judge": "too few replies of the fine-tuned model end and differ, so choose a larger preset or base",
        }.get(str(plan.ranker), "choose another file")
        raise LmzooError(
            f"learning from rankings needs at least {_FEWEST_RANKINGS} that are not ties, and there are {n_useful}: "
            f"{how}"
        )
    return rankings_fingerprint(rankings)
