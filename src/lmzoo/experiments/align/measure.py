"""Measures the model of a stage: its replies to held-out instructions, and its loss on the test split of the corpus.

The replies are stored in the run folder as `replies/STAGE.jsonl`, so that those of later stages can be compared with
them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmzoo.chat.conversation import read_objects, write_objects
from lmzoo.chat.instructions import Instruction, judge
from lmzoo.chat.preferences import Ranking
from lmzoo.chat.replies import GREEDY, Reply, sample_replies
from lmzoo.chat.reward_model import RewardModel
from lmzoo.chat.template import render_prompt
from lmzoo.chat.tuning import neural_model
from lmzoo.corpora.encoded import EncodedSplit
from lmzoo.errors import UsageError
from lmzoo.experiments.align.data import read_instructions
from lmzoo.experiments.align.plan import METHODS
from lmzoo.experiments.align.records import WinRate
from lmzoo.generation import Decoding, generate_batch
from lmzoo.metrics import bits_per_byte
from lmzoo.neural.objectives.dpo import reply_log_probs
from lmzoo.predictor import Predictor
from lmzoo.system.files import atomic_file, make_folder

_SEED = 4
"""Seed of the sampled replies. It is the same for all stages, so that chance makes less difference between them."""
_N_RESAMPLES = 9_999
_CHANGED_PER_PROMPT = 3


@dataclass(frozen=True)
class Replies:
    """The replies of a model to all held-out instructions."""

    likeliest: Sequence[Reply]
    """Replies that consist of the most likely tokens."""
    sampled: Sequence[Reply]
    """Replies sampled from the unchanged distribution."""


def replies_path(folder: Path, stage: str) -> Path:
    """Returns the path of the file with the replies of a stage, in a run folder."""
    return folder / "replies" / f"{stage}.jsonl"


def reply_to(predictor: Predictor, test: Sequence[Instruction], max_tokens: int) -> Replies:
    """Returns the replies of a chat model to held-out instructions."""
    model, tokenizer = predictor.model, predictor.tokenizer
    prompts = [instruction.conversation for instruction in test]
    rng = np.random.default_rng(_SEED)
    return Replies(
        sample_replies(model, tokenizer, prompts, rng=rng, decoding=GREEDY, max_tokens=max_tokens),
        sample_replies(model, tokenizer, prompts, rng=rng, max_tokens=max_tokens),
    )


def continue_prompts(predictor: Predictor, test: Sequence[Instruction], max_tokens: int) -> Replies:
    """Returns the replies of a base, which has not learned from conversations: it continues each prompt as a text.

    The first line of the continuation counts as the reply.
    """
    model, tokenizer = predictor.model, predictor.tokenizer
    prompts = [tokenizer.encode(instruction.prompt) for instruction in test]

    def continuations(decoding: Decoding | None) -> list[Reply]:
        replies: list[Reply] = []
        for tokens in generate_batch(model, prompts, rng=_SEED, decoding=decoding, max_tokens=max_tokens):
            ids = np.array([token.token_id for token in tokens], np.int32)
            lines = tokenizer.decode(ids).strip().splitlines()
            log_prob = sum(token.log_prob for token in tokens)
            replies.append(Reply(ids, lines[0] if lines else "", len(ids) < max_tokens, log_prob))
        return replies

    return Replies(continuations(GREEDY), continuations(None))


def accuracies(test: Sequence[Instruction], replies: Sequence[Reply]) -> dict[str, float]:
    """Returns the share of correct replies for each task; `replies` are those to the instructions `test`, in order."""
    by_task: dict[str, list[bool]] = {}
    for instruction, reply in zip(test, replies, strict=True):
        by_task.setdefault(instruction.task, []).append(judge(instruction, reply.text).correct)
    return {task: float(np.mean(outcomes)) for task, outcomes in by_task.items()}


def grades(test: Sequence[Instruction], replies: Sequence[Reply]) -> NDArray[np.float64]:
    """Returns the judge's grades (N,) of the replies to N instructions."""
    return np.array([judge(instruction, reply.text).grade for instruction, reply in zip(test, replies, strict=True)])


def win_rate(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> WinRate:
    """Returns the share of N prompts on which the grade in `ours` (N,) is higher than that in `theirs` (N,).

    A tie counts as half a win. The result includes a 95 % confidence interval, from resampling the prompts.
    """
    wins = np.where(ours == theirs, 0.5, ours > theirs)
    rng = np.random.default_rng(0)
    means = [wins[rng.integers(len(wins), size=len(wins))].mean() for _ in range(_N_RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return WinRate(rate=float(wins.mean()), low=float(low), high=float(high), n_prompts=len(wins))


def divergence(
    predictor: Predictor, reference: Predictor, test: Sequence[Instruction], replies: Sequence[Reply]
) -> float:
    """Returns an estimate of the Kullback-Leibler (KL) divergence of `predictor` from `reference`, in nats per reply.

    It is the mean of log p(reply) - log ref(reply), where p and ref are the two models. The `replies` are those to the
    instructions `test`, in the same order, and must have been sampled from `predictor`.
    """
    tokenizer = predictor.tokenizer
    sequences = []
    for instruction, reply in zip(test, replies, strict=True):
        prompt = render_prompt(instruction.conversation, tokenizer)
        sequences.append((np.append(prompt, reply.ids), np.repeat([0.0, 1.0], [len(prompt), len(reply.ids)])))
    of_model, of_reference = (reply_log_probs(neural_model(one).network, sequences) for one in (predictor, reference))
    return float((of_model - of_reference).mean(dtype=np.float64))


def text_loss(predictor: Predictor, test: EncodedSplit) -> float:
    """Returns the loss of a predictor on a test split, in bits per byte.

    The loss of a chat model can be compared with that of the base from which its training started, because a text has
    the same token ids after the tokens of the chat template are added to the tokenizer.
    """
    return bits_per_byte(float(-predictor.model.log_probs(test.stream).sum()), int(test.document_bytes.sum()))


def save_replies(folder: Path, stage: str, test: Sequence[Instruction], replies: Replies) -> None:
    """Writes the replies of a stage to the run folder, with one held-out instruction and the replies to it per line."""
    path = replies_path(folder, stage)
    make_folder(path.parent)
    write_objects(
        path,
        (
            {
                "task": instruction.task,
                "prompt": instruction.prompt,
                "answer": instruction.answer,
                "likeliest": likeliest.text,
                "sampled": sampled.text,
                "grade": judge(instruction, sampled.text).grade,
            }
            for instruction, likeliest, sampled in zip(test, replies.likeliest, replies.sampled, strict=True)
        ),
    )


def write_changed_tokens(folder: Path, stages: Mapping[str, Predictor], test: Sequence[Instruction]) -> None:
    """Writes `changed_tokens.json`: the first tokens of replies whose probabilities changed most after fine-tuning.

    `stages` are chat models by the names of their stages, the fine-tuned model first. For the first instruction of each
    task in `test`, the file has the first tokens of a reply whose probabilities differ most between the fine-tuned
    model and one of the others. It has the log-probabilities of these tokens under all models, in nats.
    """
    rows: list[tuple[float, dict[str, Any]]] = []
    for instruction in {one.task: one for one in reversed(test)}.values():
        predictions: dict[str, NDArray[np.float64]] = {
            stage: predictor.predict_distribution(
                render_prompt(instruction.conversation, predictor.tokenizer)
            ).log_probs
            for stage, predictor in stages.items()
        }
        first, *others = (np.exp(log_probs) for log_probs in predictions.values())
        changes = np.max([abs(probs - first) for probs in others], axis=0)  # (V,)
        tokenizer = next(iter(stages.values())).tokenizer
        for token_id in np.argsort(-changes, kind="stable")[:_CHANGED_PER_PROMPT].tolist():
            logs = {stage: float(log_probs[token_id]) for stage, log_probs in predictions.items()}
            token = tokenizer.token_text(token_id) or "(end of the reply)"
            rows.append((float(changes[token_id]), {"prompt": instruction.prompt, "token": token, **logs}))
    rows.sort(key=lambda row: -row[0])
    with atomic_file(folder / "changed_tokens.json") as temporary:
        temporary.write_text(json.dumps([row for _, row in rows], ensure_ascii=False, indent=1), encoding="utf-8")


def saved_grades(folder: Path, stage: str) -> NDArray[np.float64]:
    """Reads the judge's grades (N,) of a stage's sampled replies to the N held-out instructions, in their order.

    Raises UsageError if a reply has no grade, as in a run of another version of lmzoo.
    """
    path = replies_path(folder, stage)
    grades = [entry.get("grade") for _, entry in read_objects(path, "replies")]
    if not all(isinstance(grade, int | float) for grade in grades):
        raise UsageError(f"{path} has replies without a grade: repeat that run with this version of lmzoo")
    return np.array(grades, np.float64)


def check_same_test(folder: Path, earlier: Path, methods: Sequence[str]) -> None:
    """Checks that an earlier run can be compared with the run in `folder`.

    Raises UsageError unless both runs have the same held-out instructions, and the earlier run has graded replies of
    models trained by all `methods`. PPO without penalty is left out, as its models are not compared.
    """
    for method in methods:
        if method not in METHODS:
            continue
        if not replies_path(earlier, method).is_file():
            raise UsageError(
                f"{earlier} has no replies of a model trained by {method}: choose a different earlier run or method"
            )
        saved_grades(earlier, method)
    ours, theirs = (read_instructions(run / "data" / "test.jsonl") for run in (folder, earlier))
    if ours != theirs:
        raise UsageError(
            f"{earlier} was tested on different prompts, so its replies cannot be compared with those of {folder}: use "
            "the same corpus and the same preset in both runs"
        )


class BestOf(NamedTuple):
    """Expected measures of the best of n sampled replies to a prompt, as the reward model chooses it.

    The expectation is over all choices of n replies from a larger number of sampled ones.
    """

    n: int
    """Number of replies of which the best is chosen."""
    kl: float
    """KL divergence of the best of n replies from a single sampled reply, in nats: log n - (n - 1) / n."""
    reward: float
    """Mean reward of the best reply."""
    grade: float
    """Mean grade of the best reply by the judge."""


class BestReplies(NamedTuple):
    """The judge's grades of the best of several sampled replies to each of N instructions."""

    chosen: NDArray[np.float64]
    """(N,): the grade of the reply with the highest reward."""
    first: NDArray[np.float64]
    """(N,): the grade of the reply that was sampled first; it is like any sampled reply, as nothing selects it."""
    curve: list[BestOf]
    """Reward and grade of the best of 1, 2, 4, .. replies."""


def best_of_n(
    predictor: Predictor, reward_model: RewardModel, test: Sequence[Instruction], n: int, max_tokens: int
) -> BestReplies:
    """Samples `n` replies to each of N instructions, and returns the judge's grades of the best ones.

    The best reply is that to which `reward_model` gives the highest reward. `max_tokens` is the largest number of
    tokens of a reply.
    """
    repeated = [instruction for instruction in test for _ in range(n)]
    prompts = [instruction.conversation for instruction in repeated]
    replies = sample_replies(
        predictor.model, predictor.tokenizer, prompts, rng=np.random.default_rng([_SEED, n]), max_tokens=max_tokens
    )
    rewards = reward_model.rewards(prompts, [reply.text for reply in replies]).reshape(-1, n)
    all_grades = grades(repeated, replies).reshape(-1, n)
    order = rewards.argsort(axis=1, kind="stable")  # from the lowest to the highest reward
    ordered, graded = (np.take_along_axis(values, order, axis=1) for values in (rewards, all_grades))
    curve = []
    for size in (2**power for power in range(n.bit_length()) if 2**power <= n):
        # The probability that the reply of rank r, from 0, is the best of `size` replies drawn without replacement.
        chances = np.array([math.comb(rank, size - 1) for rank in range(n)]) / math.comb(n, size)
        kl = math.log(size) - (size - 1) / size
        curve.append(BestOf(size, kl, float((ordered @ chances).mean()), float((graded @ chances).mean())))
    return BestReplies(graded[:, -1], all_grades[:, 0], curve)


def judged_pairs(predictor: Predictor, test: Sequence[Instruction], max_tokens: int) -> list[Ranking]:
    """Samples two replies to each held-out instruction, and returns rankings of those that have different grades."""
    prompts = [instruction.conversation for instruction in test for _ in range(2)]
    replies = sample_replies(
        predictor.model, predictor.tokenizer, prompts, rng=np.random.default_rng(6), max_tokens=max_tokens
    )
    rankings: list[Ranking] = []
    for index, instruction in enumerate(test):
        pair = sorted(replies[2 * index : 2 * index + 2], key=lambda reply: -judge(instruction, reply.text).grade)
        if judge(instruction, pair[0].text).grade > judge(instruction, pair[1].text).grade:
            rankings.append(Ranking(instruction.conversation, (pair[0].text, pair[1].text), rater="judge"))
    return rankings
