"""Teaches a language model to chat, stage by stage, in a run folder.

    run/run.json                 the request: base, corpus, preset, seed and others
    run/encoded/, run/data/      what the stages learn from, and what their models are tested on (see `data`)
    run/checkpoints/             the state of each stage whose training is not finished
    run/predictors/STAGE/        the trained models; STAGE is base, sft, dpo, ppo or ppo-unpenalised (see `stages`)
    run/reward/                  the reward model
    run/replies/STAGE.jsonl      replies to the held-out prompts, with the grades of the sampled ones
    run/comparisons.jsonl        pairs of replies that people compare with `lmzoo rank`
    run/votes.jsonl              the votes of these people
    run/rankings.jsonl           rankings by the judge (the program that grades replies), or from a file
    run/STAGE.csv                reward, grade, divergence and other measures of each rollout; STAGE is ppo or
                                 ppo-unpenalised
    run/changed_tokens.json      tokens whose probabilities changed most when the model learned from rankings
    run/best_of_n.csv            reward and grade of the best of n replies of the fine-tuned model
    run/results.jsonl            one record per stage

If a run was interrupted, a call of `align` with the same arguments continues it. Stages that are finished are reused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lmzoo.chat.preferences import rankings_fingerprint, read_rankings
from lmzoo.corpora import Corpus
from lmzoo.corpora.load import as_corpus
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import read_lines
from lmzoo.experiments.align.data import RunData, prepare
from lmzoo.experiments.align.measure import check_same_test, write_changed_tokens
from lmzoo.experiments.align.plan import METHODS, AlignPlan
from lmzoo.experiments.align.records import StageRecord
from lmzoo.experiments.align.stages import CHAT_STAGES, StageJob, is_complete, predictor_folder, rankings_path
from lmzoo.experiments.result import RunResult
from lmzoo.experiments.run_folder import open_run, record_keeper
from lmzoo.predictor import DEFAULT_CORPUS, Predictor
from lmzoo.system.jobs import Outcome, resume
from lmzoo.system.placement import Device
from lmzoo.system.progress import Progress

_FEWEST_RANKINGS = 10
"""Smallest number of rankings, not counting ties, from which a run learns."""


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

    - `folder`: the folder for the models and the results; None means runs/align-BASE-PRESET.
    - `base`: the name of a neural network in the zoo (a species), such as "transformer", which is first trained on
      `corpus` with `tokenizer`; or the folder of a saved predictor.
    - `preset`: the name of the settings of all stages, which are the amount of data and the length of training.
    - `methods`: the methods of learning from rankings. "dpo" is direct preference optimization, and "ppo" is proximal
      policy optimization, a form of reinforcement learning. "ppo-unpenalised" is the same without a penalty for
      divergence from the fine-tuned model, to show over-optimisation.
    - `conversations`: a file of your own conversations to learn from, or "shakespeare" for the dialogue of his plays.
      By default, instructions are generated, whose correct answers are known.
    - `ranker`: who ranks the replies: "judge" (a program that knows the correct answers), "people" (see `lmzoo rank`),
      or a file of rankings.
    - `against`: the folder of an earlier run. The judge compares its chat models with the new ones, method by method,
      on the same held-out prompts.

    Each stage is trained in a process of its own. In a script, call this function under `if __name__ == "__main__":`.
    Returns the records of the stages, and the errors of those that failed. Raises UsageError for a wrong argument, and
    if the folder holds a different run. Raises LmzooError if there are fewer than 10 rankings to learn from, not
    counting ties; with `ranker` "people", this is so until enough votes are collected.
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
    """Runs all stages of a plan in a run folder, and reuses those that are already finished there.

    `folder` is the run folder; None means the default folder of the plan. `on_progress` is called with the name and the
    progress of a stage while it runs, and `on_outcome` at its end, with its record or an error message. Returns the
    records and errors of all stages, and raises the same errors as `align`.
    """
    plan = plan.checked()
    folder = Path(folder or plan.default_folder())
    corpus = as_corpus(plan.corpus)
    outcomes: list[Outcome[StageRecord]] = []
    with open_run(folder, plan.request(corpus)):
        prepare(folder, plan, corpus)
        if plan.against is not None:
            check_same_test(folder, plan.against, plan.methods)
        results = folder / "results.jsonl"
        stages = [stage for group in _groups(plan) for stage in group]
        on_done = record_keeper(results, stages, on_outcome)
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
            _write_changed_tokens(folder, plan, is_new=not all(outcome.reused for outcome in outcomes))
    return RunResult(folder, outcomes)


def _write_changed_tokens(folder: Path, plan: AlignPlan, *, is_new: bool) -> None:
    """Writes the tokens whose probabilities changed most, if `is_new` is True or the file does not exist yet.

    `is_new` is True if a stage was run, and not only reused.
    """
    test = RunData(folder).test
    if test and plan.methods and (is_new or not (folder / "changed_tokens.json").exists()):
        stages = ["sft", *(method for method in plan.methods if method in CHAT_STAGES)]
        predictors = {stage: Predictor.load(predictor_folder(folder, stage)) for stage in stages}
        write_changed_tokens(folder, predictors, test)


def _groups(plan: AlignPlan) -> list[list[str]]:
    """Returns the stages of a run in groups, in order. The stages of one group run at the same time."""
    groups = [["base"], ["sft"], ["rankings"], ["reward", *(method for method in plan.methods if method == "dpo")]]
    rewarded = [method for method in plan.methods if method != "dpo"]
    return [*groups, rewarded] if rewarded else groups


def _is_current(record: StageRecord, plan: AlignPlan, learned_from: str) -> bool:
    """Returns True if the result of a stage agrees with the plan, whose rankings have the hash `learned_from`.

    If rankings or ranker have changed, the run keeps its folder, and the stages that depend on them are repeated.
    """
    if record.stage == "rankings":
        return record.settings.get("ranker") == plan.ranker_identity
    return record.rankings in ("", learned_from)


def _check_rankings(folder: Path, plan: AlignPlan) -> str:
    """Returns the hash of all rankings of a run.

    Raises LmzooError if there are fewer than `_FEWEST_RANKINGS` rankings, not counting ties, or if all of them rank
    replies to the same prompt.
    """
    path = rankings_path(folder, plan)
    rankings = read_rankings(path) if path.exists() else []
    useful = [ranking for ranking in rankings if ranking.pairs]
    lack = ""
    if len(useful) < _FEWEST_RANKINGS:
        lack = f"at least {_FEWEST_RANKINGS} rankings that are not ties, and there are {len(useful)}"
    elif len({ranking.prompt for ranking in useful}) < 2:
        lack = f"rankings of replies to at least 2 prompts, and all {len(useful)} have the same prompt"
    if lack:
        how = {
            "people": f"compare more replies with `lmzoo rank {folder}`, and then repeat this command",
            "judge": "the fine-tuned model wrote too few complete and different replies, so choose a larger base",
        }.get(str(plan.ranker), f"add rankings to {plan.ranker}, or choose a different file")
        raise LmzooError(f"learning from rankings needs {lack}: {how}")
    return rankings_fingerprint(rankings)
