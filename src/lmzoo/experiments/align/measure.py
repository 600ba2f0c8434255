"""Measures what the model of a stage can do, on held-out prompts and on the test text of its base.

The replies are stored in the run folder, as `replies/STAGE.jsonl`, so that later stages are compared with them.
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
from lmzoo.chat.replies import GREEDY, Reply, sample_replies
from lmzoo.chat.reward_model import RewardModel
from lmzoo.chat.template import render_prompt
from lmzoo.chat.tuning import neural_model
from lmzoo.corpora.encoded import EncodedSplit
from lmzoo.errors import UsageError
from lmzoo.experiments.align.data import read_instructions
from lmzoo.experiments.align.records import WinRate
from lmzoo.generation import Decoding, generate_batch
from lmzoo.metrics import bits_per_byte
from lmzoo.neural.objectives.dpo import text_log_probs
from lmzoo.predictor import Predictor
from lmzoo.system.files import atomic_file, make_folder

_SEED = 4
"""Seed of the sampled replies, the same for all stages, so that their differences are not due to chance alone."""
_N_RESAMPLES = 9_999
_MOVED_PER_PROMPT = 3


@dataclass(frozen=True)
class Replies:
    """The replies of a model to all held-out instructions."""

    likeliest: Sequence[Reply]
    """Replies for which the most likely token is always taken."""
    sampled: Sequence[Reply]
    """Replies sampled from the unchanged distribution."""


def replies_path(folder: Path, stage: str) -> Path:
    """Returns the path, in a run folder, of the replies of a stage."""
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
    """Returns the replies of a base, which knows no conversations: it continues each prompt as a text.

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
    """Returns the share of correct replies by task."""
    by_task: dict[str, list[bool]] = {}
    for instruction, reply in zip(test, replies, strict=True):
        by_task.setdefault(instruction.task, []).append(judge(instruction, reply.text).correct)
    return {task: float(np.mean(outcomes)) for task, outcomes in by_task.items()}


def scores(test: Sequence[Instruction], replies: Sequence[Reply]) -> NDArray[np.float64]:
    """Returns the judge's grades (N,) of the replies to N instructions."""
    return np.array([judge(instruction, reply.text).score for instruction, reply in zip(test, replies, strict=True)])


def win_rate(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> WinRate:
    """Returns the share of N prompts on which the grade in `ours` (N,) is higher than in `theirs` (N,).

    A tie counts as half a win. The result has a 95 % confidence interval, computed by resampling the prompts.
    """
    wins = np.where(ours == theirs, 0.5, ours > theirs)
    rng = np.random.default_rng(0)
    means = [wins[rng.integers(len(wins), size=len(wins))].mean() for _ in range(_N_RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return WinRate(rate=float(wins.mean()), low=float(low), high=float(high), n_prompts=len(wins))


def divergence(
    predictor: Predictor, reference: Predictor, test: Sequence[Instruction], replies: Sequence[Reply]
) -> float:
    """Returns an estimate of the KL divergence of `predictor` from `reference`, in nats per reply.

    It is the mean of log p(reply) - log ref(reply), where p and ref are the two models. The `replies` are those to the
    instructions `test`, in the same order, and must have been sampled from `predictor`.
    """
    tokenizer = predictor.tokenizer
    texts = []
    for instruction, reply in zip(test, replies, strict=True):
        prompt = render_prompt(instruction.conversation, tokenizer)
        texts.append((np.append(prompt, reply.ids), np.repeat([0.0, 1.0], [len(prompt), len(reply.ids)])))
    of_model, of_reference = (text_log_probs(neural_model(one).network, texts) for one in (predictor, reference))
    return float((of_model - of_reference).mean(dtype=np.float64))


def text_loss(predictor: Predictor, test: EncodedSplit) -> float:
    """Returns the loss of a predictor on a test split, in bits per byte.

    The token ids of a text do not change when the tokens of the chat template are added to a tokenizer, so the loss of
    a chat model can be compared with the loss of the model from which its training started.
    """
    return bits_per_byte(float(-predictor.model.log_probs(test.stream).sum()), int(test.document_bytes.sum()))


def save_replies(folder: Path, stage: str, test: Sequence[Instruction], replies: Replies) -> None:
    """Writes the replies of a stage to the run folder, one held-out instruction in each line."""
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
                "score": judge(instruction, sampled.text).score,
            }
            for instruction, likeliest, sampled in zip(test, replies.likeliest, replies.sampled, strict=True)
        ),
    )


def write_moved_tokens(folder: Path, stages: Mapping[str, Predictor], test: Sequence[Instruction]) -> None:
    """Writes `moved.json`: how probable the stages find the first token of a reply, where they differ most.

    `stages` are chat models by the name of their stage, the fine-tuned model first. Of the first instruction of each
    task in `test`, the file has the tokens whose probabilities changed most from the fine-tuned model to another one,
    as log-probabilities in nats.
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
        for token_id in np.argsort(-changes, kind="stable")[:_MOVED_PER_PROMPT].tolist():
            logs = {stage: float(log_probs[token_id]) for stage, log_probs in predictions.items()}
            token = tokenizer.token_text(token_id) or "(end of the reply)"
            rows.append((float(changes[token_id]), {"prompt": instruction.prompt, "token": token, **logs}))
    rows.sort(key=lambda row: -row[0])
    with atomic_file(folder / "moved.json") as temporary:
        temporary.write_text(json.dumps([row for _, row in rows], ensure_ascii=False, indent=1), encoding="utf-8")


def saved_scores(folder: Path, stage: str) -> NDArray[np.float64]:
    """Reads the judge's grades (N,) of a stage's replies to the N held-out instructions, in their order.

    These are the replies sampled from the model, not those made of the most likely tokens.
    """
    return np.array([entry["score"] for _, entry in read_objects(replies_path(folder, stage), "replies")])


def check_same_test(folder: Path, earlier: Path, methods: Sequence[str]) -> None:
    """Raises UsageError unless an earlier run has replies by all `methods` to the held-out instructions of a run."""
    for method in methods:
        if not replies_path(earlier, method).is_file():
            raise UsageError(f"{earlier} has no replies of a model trained by {method}: choose another run or method")
    ours, theirs = (read_instructions(run / "data" / "test.jsonl") for run in (folder, earlier))
    if ours != theirs:
        raise UsageError(
            f"{earlier} was tested on other prompts, so its replies cannot be compared: "
            "use the same corpus, preset and seed in both runs"
        )


class BestOf(NamedTuple):
    """The best of n replies according to the reward model: expected values over all choices of n sampled replies."""

    n: int
    kl: float
    """Divergence of the best of n replies from a single one, in nats: log n - (n - 1) / n."""
    reward: float
    judge: float
    """Mean grade under the judge."""


class BestReplies(NamedTuple):
    """The judge's grades of the best of many replies to each of N instructions."""

    chosen: NDArray[np.float64]
    """(N,): the grade of the reply with the highest reward."""
    first: NDArray[np.float64]
    """(N,): the grade of the first reply, which nothing has selected."""
    curve: list[BestOf]
    """Reward and grade of the best of 1, 2, 4, ... replies."""


def best_of_n(
    predictor: Predictor, reward_model: RewardModel, test: Sequence[Instruction], n: int, max_tokens: int
) -> BestReplies:
    """Samples `n` replies to each of N instructions, and returns the judge's grades of the best ones.

    The best reply is the one with the highest reward under `reward_model`. `max_tokens` is the largest number of tokens
    of a reply.
    """
    repeated = [instruction for instruction in test for _ in range(n)]
    prompts = [instruction.conversation for instruction in repeated]
    replies = sample_replies(
        predictor.model, predictor.tokenizer, prompts, rng=np.random.default_rng([_SEED, n]), max_tokens=max_tokens
    )
    rewards = reward_model.rewards(prompts, [reply.text for reply in replies]).reshape(-1, n)
    grades = scores(repeated, replies).reshape(-1, n)
    order = rewards.argsort(axis=1, kind="stable")  # from the lowest to the highest reward
    ordered, graded = (np.take_along_axis(values, order, axis=1) for values in (rewards, grades))
    curve = []
    for size in (2**power for power in range(n.bit_length()) if 2**power <= n):
        # The probability that the reply of rank r, from 0, is the best of `size` replies drawn without replacement.
        chances = np.array([math.comb(rank, size - 1) for rank in range(n)]) / math.comb(n, size)
        kl = math.log(size) - (size - 1) / size
        curve.append(BestOf(size, kl, float((ordered @ chances).mean()), float((graded @ chances).mean())))
    return BestReplies(graded[:, -1], grades[:, 0], curve)
