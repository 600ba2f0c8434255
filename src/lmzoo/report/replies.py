"""What the page about a run of `lmzoo align` shows of its models: replies to the same prompts, and probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo.chat.conversation import read_objects
from lmzoo.chat.instructions import Instruction, judge
from lmzoo.errors import CorpusError, SavedModelError
from lmzoo.experiments.align.measure import replies_path
from lmzoo.system.json_files import parse_as, read_text

_MAX_PROMPTS = 12
"""Largest number of prompts on a page; the generated instructions have fewer tasks."""
_MAX_CHARACTERS = 300
"""Largest number of characters of a reply on a page."""
_MAX_TOKENS = 40
"""Largest number of tokens on a page whose probabilities have changed."""


@dataclass(frozen=True)
class StageReply:
    """The reply of one stage to a prompt, with the verdict of the judge."""

    stage: str
    text: str
    """Text of the reply; a long reply is cut off, and ends with an ellipsis."""
    is_correct: bool

    @property
    def mark(self) -> str:
        """A sign for a correct or a wrong reply, which can be read without colours."""
        return "✓" if self.is_correct else "✗"


@dataclass(frozen=True)
class Sample:
    """A held-out instruction with the replies of all stages."""

    instruction: Instruction
    likeliest: list[StageReply]
    """Replies for which the most likely token was always taken."""
    sampled: list[StageReply]
    """Replies sampled from the distribution of the model."""


@dataclass(frozen=True)
class MovedToken:
    """A token of a reply, with its log-probability, in nats, under the models of several stages."""

    prompt: str
    """The prompt, with the part of the reply before the token."""
    token: str
    sft: float
    dpo: float | None = None
    ppo: float | None = None

    def probability(self, stage: str) -> str:
        """Returns the probability of the token under the model of a stage as text."""
        log_prob = getattr(self, stage)
        return "–" if log_prob is None else f"{100 * math.exp(min(log_prob, 0)):.3g} %"


def read_moved_tokens(folder: Path) -> list[MovedToken]:
    """Reads `moved.json` of a run folder: tokens whose probabilities DPO or PPO changed most.

    The file holds a list of objects with the fields of `MovedToken`. Returns [] if there is no such file. Raises
    SavedModelError if the file is damaged.
    """
    path = folder / "moved.json"
    if not path.exists():
        return []
    try:
        return parse_as(list[MovedToken], read_text(path, "a list of tokens"))[:_MAX_TOKENS]
    except ValueError as error:
        raise SavedModelError(f"{path} is not a list of tokens with their log-probabilities: {error}") from error


def read_samples(folder: Path, stages: Sequence[str]) -> tuple[list[Sample], int]:
    """Reads replies of stages to the first held-out instruction of each task, from the files of a run folder.

    Stages without a file, and replies to other instructions than those of the first stage, are left out. Returns the
    instructions with their replies, and the number of all instructions. Raises CorpusError for a damaged file.
    """
    files = {stage: _read(replies_path(folder, stage)) for stage in stages if replies_path(folder, stage).exists()}
    if not files:
        return [], 0
    instructions = list(next(iter(files.values())))
    first_of_tasks = {instruction.task: instruction for instruction in reversed(instructions)}
    chosen = [one for one in instructions if first_of_tasks[one.task] == one][:_MAX_PROMPTS]
    return [_sample(instruction, files) for instruction in chosen], len(instructions)


def _sample(instruction: Instruction, files: dict[str, dict[Instruction, dict[str, Any]]]) -> Sample:
    replies = {stage: entries[instruction] for stage, entries in files.items() if instruction in entries}
    likeliest, sampled = (
        [_reply(stage, instruction, entry[kind]) for stage, entry in replies.items()]
        for kind in ("likeliest", "sampled")
    )
    return Sample(instruction, likeliest, sampled)


def _reply(stage: str, instruction: Instruction, text: str) -> StageReply:
    shown = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
    return StageReply(stage, shown, judge(instruction, text).correct)


def _read(path: Path) -> dict[Instruction, dict[str, Any]]:
    """Reads the replies of one stage, by instruction, in the order of the file."""
    fields = ("task", "prompt", "answer", "likeliest", "sampled")
    replies: dict[Instruction, dict[str, Any]] = {}
    for number, entry in read_objects(path, "replies"):
        if not all(isinstance(entry.get(name), str) for name in fields):
            raise CorpusError(f"{path} line {number} must have texts in {', '.join(fields)}: delete the file")
        replies[Instruction(entry["task"], entry["prompt"], entry["answer"])] = entry
    return replies
