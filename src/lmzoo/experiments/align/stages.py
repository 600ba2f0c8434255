"""The stages of a run. Each runs in a process of its own, writes its results to the run folder, and returns a record.

base              trains a language model on text, or takes a saved one
sft               supervised fine-tuning (SFT): trains the base on conversations; gives the fine-tuned model
rankings          samples replies of the fine-tuned model and ranks them; trains nothing
reward            trains a reward model on the rankings
dpo               direct preference optimization (DPO): trains a copy of the fine-tuned model on the rankings
ppo               proximal policy optimization (PPO): trains a copy of the fine-tuned model to write replies to
                  which the reward model gives high rewards
ppo-unpenalised   PPO for longer, and without a penalty for divergence from the fine-tuned model
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo.chat.conversation import Conversation
from lmzoo.chat.fine_tuning import fine_tune
from lmzoo.chat.preference_learning import dpo, ppo
from lmzoo.chat.preferences import Ranking, rankings_fingerprint, read_rankings, write_rankings
from lmzoo.chat.replies import sample_replies
from lmzoo.chat.reward_model import RewardModel, fit_reward_model, normalise
from lmzoo.chat.voting import Comparison, write_comparisons
from lmzoo.checkpoint import Checkpoint
from lmzoo.evaluation.records import new_origin
from lmzoo.experiments.align import measure
from lmzoo.experiments.align.data import RunData
from lmzoo.experiments.align.plan import ALL_METHODS, METHODS, UNPENALISED, AlignPlan
from lmzoo.experiments.align.records import StageRecord
from lmzoo.neural.objectives.rollouts import RolloutMeasures
from lmzoo.predictor import Predictor
from lmzoo.system.files import atomic_file
from lmzoo.system.progress import OnProgress, Progress

COMPARISONS, RANKINGS, VOTES, BEST_OF_N = "comparisons.jsonl", "rankings.jsonl", "votes.jsonl", "best_of_n.csv"
"""Files of a run folder: pairs of replies for people to compare, rankings by the judge or from a file, votes of people,
and rewards and grades of the best of n replies."""
_PROMPTS_AT_A_TIME = 64
"""Number of prompts to which replies are sampled together."""
CHAT_STAGES = ("sft", *METHODS)
"""The stages whose models are meant for chatting. PPO without a penalty is not among them, because its purpose is to
show over-optimisation."""


def predictor_folder(folder: Path, stage: str) -> Path:
    """Returns the folder of the saved predictor of a stage, in a run folder."""
    return folder / "predictors" / stage


@dataclass(frozen=True)
class StageJob:
    """One stage of a run as a job, which is sent to a process of its own; there, its method `do` runs."""

    folder: Path
    """The run folder."""
    plan: AlignPlan
    stage: str
    """Name of the stage."""

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage

    @property
    def is_network(self) -> bool:
        """True, because all models of an alignment are neural networks."""
        return True

    def do(self, on_progress: OnProgress) -> StageRecord:
        """Trains and measures the model of the stage, and writes it to the run folder.

        A stage that was killed continues from its checkpoint, unless the rankings from which it learns have changed.
        """
        context = _Context(self.folder, self.plan, RunData(self.folder), self.stage, on_progress)
        record = _STAGES[self.stage](context)
        context.checkpoint.discard()
        return record


@dataclass(frozen=True)
class _Context:
    """What the functions of all stages need: the run folder, the plan and the data of the run."""

    folder: Path
    plan: AlignPlan
    data: RunData
    stage: str
    on_progress: OnProgress

    @property
    def checkpoint(self) -> Checkpoint:
        # If the rankings have changed since the interruption, the stage starts again.
        return Checkpoint(self.folder / "checkpoints" / f"{self.stage}.safetensors", replaces_others=True)

    def load(self, stage: str) -> Predictor:
        return Predictor.load(predictor_folder(self.folder, stage), device=self.plan.device)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """All rankings of the run: those to learn from, and those for early stopping (see `split_rankings`)."""
        return read_rankings(rankings_path(self.folder, self.plan))

    def training(self, changes: Any) -> dict[str, Any]:
        """Returns the keyword arguments that the training functions of all stages have in common.

        `changes` are the training settings that differ from the defaults of the stage.
        """
        return {
            "training": changes,
            "seed": self.plan.seed,
            "on_progress": self.on_progress,
            "checkpoint": self.checkpoint,
        }

    def record(self, **results: Any) -> StageRecord:
        """Returns the record of the stage. `results` are the fields of StageRecord that differ from stage to stage."""
        return StageRecord(
            stage=self.stage,
            base=self.plan.base_name,
            seed=self.plan.seed,
            **results,
            **new_origin(self.plan.command),
        )

    def saved(self, predictor: Predictor, **results: Any) -> StageRecord:
        """Saves and measures the predictor of the stage, and returns its record.

        The record has the loss on the test split of the corpus, what `measured` returns, and `results`, which are
        further fields of StageRecord.
        """
        predictor = replace(predictor, label=self.stage)
        predictor.save(predictor_folder(self.folder, self.stage))
        return self.record(
            seconds=predictor.provenance.fit_seconds or 0.0,
            n_tokens_read=predictor.provenance.n_tokens_read,
            n_parameters=predictor.model.n_parameters,
            bits_per_byte=measure.text_loss(predictor, self.data.encoded.test),
            **self.measured(predictor),
            **results,
        )

    def measured(self, predictor: Predictor) -> dict[str, Any]:
        """Returns measures of a model's replies to the held-out instructions, and saves the replies.

        The measures are fields of StageRecord by name, such as the accuracy on each task and the mean grade. Returns {}
        if the run has no held-out instructions.
        """
        test, settings = self.data.test, self.plan.stage_settings
        if not test:
            return {}
        if self.stage == "base":
            replies = measure.continue_prompts(predictor, test, settings.max_tokens)
        else:
            replies = measure.reply_to(predictor, test, settings.max_tokens)
        measure.save_replies(self.folder, self.stage, test, replies)
        accuracy = measure.accuracies(test, replies.likeliest)
        grades = measure.grades(test, replies.sampled)
        measures: dict[str, Any] = {
            "accuracy": accuracy,
            "mean_accuracy": float(np.mean(list(accuracy.values()))),
            "grade": float(grades.mean()),
            "ended": float(np.mean([reply.ended for reply in replies.sampled])),
            "distinct": len({reply.text for reply in replies.sampled}) / len(replies.sampled),
        }
        if self.stage in ALL_METHODS:
            measures["against_sft"] = measure.win_rate(grades, measure.saved_grades(self.folder, "sft"))
            measures["kl"] = measure.divergence(predictor, self.load("sft"), test, replies.sampled)
            if self.plan.against is not None and self.stage in METHODS:
                earlier = measure.saved_grades(self.plan.against, self.stage)
                measures["against_earlier"] = measure.win_rate(grades, earlier)
        return measures


def _base(context: _Context) -> StageRecord:
    plan = context.plan
    if plan.is_saved_base:
        predictor = Predictor.load(plan.base, device=plan.device)
    else:
        predictor = Predictor.fit(
            plan.base,
            context.data.encoded,
            seed=plan.seed,
            on_progress=context.on_progress,
            checkpoint=context.checkpoint,
            device=plan.device,
            **plan.base_settings,
        )
    return context.saved(predictor, settings=dict(predictor.settings))


def _sft(context: _Context) -> StageRecord:
    settings, data = context.plan.stage_settings, context.data
    predictor = fine_tune(
        context.load("base"),
        data.demonstrations,
        data.valid,
        replay=data.encoded.train.stream,
        replay_share=settings.replay_share,
        replay_weight=settings.replay_weight,
        **context.training(settings.fine_tuning),
    )
    return context.saved(predictor, settings=dict(settings.fine_tuning))


def _rankings(context: _Context) -> StageRecord:
    """Samples replies of the fine-tuned model to prompts, and makes the rankings of the run.

    If the ranker is the judge, it ranks the sampled replies. If the ranker is a file of rankings, the file is copied to
    the run folder. In any case, two replies to each prompt are written to a file, so that people can compare them.
    """
    settings, plan, folder = context.plan.stage_settings, context.plan, context.folder
    started = time.perf_counter()
    candidates = _candidates(context, context.data.prompts[: settings.n_ranked_prompts])
    comparisons = [Comparison(prompt, *replies[:2], models=("sft", "sft")) for prompt, replies in candidates]
    write_comparisons(folder / COMPARISONS, comparisons)
    rankings: list[Ranking] = []
    if plan.ranker == "judge":
        for prompt, replies in candidates:
            ranked = sorted(replies, key=lambda reply: -context.data.grade(prompt, reply))
            rankings.append(Ranking(prompt, tuple(ranked), rater="judge"))
        write_rankings(folder / RANKINGS, rankings)
    elif plan.ranker != "people":
        rankings = read_rankings(plan.ranker)
        write_rankings(folder / RANKINGS, rankings)
    return context.record(
        seconds=time.perf_counter() - started,
        n_tokens_read=None,
        n_parameters=0,
        n_rankings=len(rankings),
        settings={"ranker": plan.ranker_identity},
    )


def _candidates(context: _Context, prompts: Sequence[Conversation]) -> list[tuple[Conversation, list[str]]]:
    """Samples several replies to each prompt, and returns each prompt with the different complete replies to it.

    Prompts with fewer than two such replies are left out.
    """
    settings, plan = context.plan.stage_settings, context.plan
    predictor, rng = context.load("sft"), np.random.default_rng([plan.seed, 5])
    candidates: list[tuple[Conversation, list[str]]] = []
    for start in range(0, len(prompts), _PROMPTS_AT_A_TIME):
        part = prompts[start : start + _PROMPTS_AT_A_TIME]
        repeated = [prompt for prompt in part for _ in range(settings.n_replies)]
        replies = sample_replies(
            predictor.model, predictor.tokenizer, repeated, rng=rng, max_tokens=settings.max_tokens
        )
        for row, prompt in enumerate(part):
            of_prompt = replies[row * settings.n_replies : (row + 1) * settings.n_replies]
            texts = list(dict.fromkeys(reply.text for reply in of_prompt if reply.ended))
            if len(texts) > 1:
                candidates.append((prompt, texts))
        context.on_progress(Progress(start + len(part), len(prompts), "prompts", ""))
    return candidates


def _reward(context: _Context) -> StageRecord:
    settings, data = context.plan.stage_settings, context.data
    train, valid = split_rankings(context.rankings)
    sft = context.load("sft")
    started = time.perf_counter()
    model = fit_reward_model(sft, train, valid, **context.training(settings.reward))
    ranked = [(one.prompt, reply) for one in valid for reply in one.replies]
    normalise(model, [prompt for prompt, _ in ranked], [reply for _, reply in ranked])
    seconds = time.perf_counter() - started
    model.save(context.folder / "reward")
    measures: dict[str, Any] = {"reward_accuracy": model.accuracy(valid)}
    if data.test:
        best = measure.best_of_n(sft, model, data.test, settings.n_best_of, settings.max_tokens)
        measures["best_of_n"], measures["n_best_of"] = measure.win_rate(best.chosen, best.first), settings.n_best_of
        _write_table(context.folder / BEST_OF_N, measure.BestOf._fields, best.curve)
        measures["reward_accuracy"] = model.accuracy(measure.judged_pairs(sft, data.test, settings.max_tokens))
    return context.record(
        seconds=seconds,
        n_tokens_read=None,
        n_parameters=sum(weights.numel() for weights in model.network.parameters()),
        settings=dict(settings.reward),
        n_rankings=len(context.rankings),
        rankings=rankings_fingerprint(context.rankings),
        **measures,
    )


def _dpo(context: _Context) -> StageRecord:
    settings = context.plan.stage_settings
    train, _ = split_rankings(context.rankings)
    predictor = dpo(
        context.load("sft"),
        train,
        beta=settings.beta,
        species=context.plan.chat_species,
        **context.training(settings.dpo),
    )
    return context.saved(
        predictor,
        settings={**settings.dpo, "beta": settings.beta},
        n_rankings=len(train),
        rankings=rankings_fingerprint(context.rankings),
    )


def _ppo(context: _Context) -> StageRecord:
    """Trains by PPO; in the stage ppo-unpenalised, for longer and without a penalty for divergence."""
    plan, data = context.plan, context.data
    training, settings = plan.stage_settings.ppo, plan.stage_settings.ppo_settings
    if context.stage == UNPENALISED:
        training, settings = plan.stage_settings.unpenalised, replace(settings, kl_coefficient=0.0, kl_target=None)
    reward_model = RewardModel.load(context.folder / "reward")
    predictor, history = ppo(
        context.load("sft"),
        reward_model,
        data.prompts,
        judge=data.grade if data.instructions else None,
        settings=settings,
        text=data.encoded.train.stream,
        species=plan.chat_species,
        **context.training(training),
    )
    write_rollouts(context.folder / f"{context.stage}.csv", history)
    return context.saved(
        predictor,
        settings={**training, **asdict(settings)},
        rankings=rankings_fingerprint(context.rankings),
    )


_STAGES: dict[str, Callable[[_Context], StageRecord]] = {
    "base": _base,
    "sft": _sft,
    "rankings": _rankings,
    "reward": _reward,
    "dpo": _dpo,
    "ppo": _ppo,
    UNPENALISED: _ppo,
}


def is_complete(folder: Path, stage: str) -> bool:
    """Returns True if a run folder holds the files that a stage writes; its record is not among these."""
    if stage == "rankings":
        return (folder / COMPARISONS).exists()
    return (folder / "reward" if stage == "reward" else predictor_folder(folder, stage)).is_dir()


def rankings_path(folder: Path, plan: AlignPlan) -> Path:
    """Returns the path of the file with the rankings of a run.

    If people rank the replies, it is votes.jsonl in the run folder; else it is rankings.jsonl, which has the rankings
    by the judge or from the user's file.
    """
    return folder / (VOTES if plan.ranker == "people" else RANKINGS)


def split_rankings(rankings: Sequence[Ranking]) -> tuple[list[Ranking], list[Ranking]]:
    """Divides rankings by their prompts, and returns those to learn from and those for validation.

    The rankings of every eighth prompt are for validation: for early stopping of the training of the reward model. Ties
    are left out, because nothing is learned from them. If the others rank replies to two or more prompts, neither of
    the returned lists is empty.
    """
    decided = [one for one in rankings if one.pairs]
    prompts = {prompt: index for index, prompt in enumerate(dict.fromkeys(one.prompt for one in decided))}
    train = [one for one in decided if prompts[one.prompt] % 8]
    return train, [one for one in decided if not prompts[one.prompt] % 8]


def write_rollouts(path: Path, history: Sequence[RolloutMeasures]) -> None:
    """Writes the measures of all rollouts to a CSV file with one rollout per row.

    The column of the grades is left out if the run has no judge.
    """
    columns = [name for name in RolloutMeasures._fields if not all(math.isnan(getattr(one, name)) for one in history)]
    _write_table(path, columns, ([getattr(measures, name) for name in columns] for measures in history))


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    """Writes a table of numbers to a CSV file."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
