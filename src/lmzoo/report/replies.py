"""What the page about a run of `lmzoo align` shows of its models: their replies, and probabilities of tokens."""

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
"""Largest number of prompts on a page. This is enough for one prompt of each task of the generated instructions."""
_MAX_CHARACTERS = 300
"""Largest number of characters of a reply on a page."""
_MAX_TOKENS = 40
"""Largest number of tokens on a page whose probabilities are shown."""


@dataclass(frozen=True)
class StageReply:
    """The reply of the model of one stage to a prompt, and whether the judge calls it correct."""

    stage: str
    """Name of the stage."""
    text: str
    """Text of the reply; a long text is cut off, and then ends with an ellipsis."""
    is_correct: bool

    @property
    def mark(self) -> str:
        """A sign that distinguishes correct from wrong replies without colours."""
        return "✓" if self.is_correct else "✗"


@dataclass(frozen=True)
class Sample:
    """A held-out instruction with the replies of the models of all stages."""

    instruction: Instruction
    likeliest: list[StageReply]
    """Replies that consist of the most likely tokens."""
    sampled: list[StageReply]
    """Replies sampled from the unchanged distribution of the model."""


@dataclass(frozen=True)
class ChangedToken:
    """A first token of a reply whose probability changed much, with its log-probabilities in several stages.

    The log-probabilities are in nats.
    """

    prompt: str
    """The prompt to which the model replies."""
    token: str
    """Text of the token."""
    sft: float
    """Log-probability of the token in the stage sft, supervised fine-tuning."""
    dpo: float | None = None
    """Log-probability in the stage dpo, direct preference optimization; None if the run has no such stage."""
    ppo: float | None = None
    """Log-probability in the stage ppo, proximal policy optimization; None if the run has no such stage."""

    def probability(self, stage: str) -> str:
        """Returns the probability of the token in a stage, as text."""
        log_prob = getattr(self, stage)
        return "–" if log_prob is None else f"{100 * math.exp(min(log_prob, 0)):.3g} %"


def read_changed_tokens(folder: Path) -> list[ChangedToken]:
    """Reads `changed_tokens.json` of a run folder: tokens whose probabilities changed most when the model learned.

    The file holds a list of objects with the fields of `ChangedToken`. Returns [] if there is no such file. Raises
    SavedModelError if the file is damaged.
    """
    path = folder / "changed_tokens.json"
    if not path.exists():
        return []
    try:
        return parse_as(list[ChangedToken], read_text(path, "a list of tokens"))[:_MAX_TOKENS]
    except ValueError as error:
        raise SavedModelError(
            f"{path} is not a list of tokens with their log-probabilities: {error}; delete it"
        ) from error


def read_samples(folder: Path, stages: Sequence[str]) -> tuple[list[Sample], int]:
    """Reads replies of stages to the first held-out instruction of each task, from the files of a run folder.

    Stages without a file of replies are left out, and so are replies to instructions to which the first stage has no
    reply. Returns these instructions with their replies, and the number of all held-out instructions. Raises
    CorpusError for a damaged file.
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
    """Reads the replies of one stage, and returns the entries of the file by their instructions, in their order."""
    fields = ("task", "prompt", "answer", "likeliest", "sampled")
    replies: dict[Instruction, dict[str, Any]] = {}
    for number, entry in read_objects(path, "replies"):
        if not all(isinstance(entry.get(name), str) for name in fields):
            raise CorpusError(f"{path} line {number} must have texts in {', '.join(fields)}: delete the file")
        replies[Instruction(entry["task"], entry["prompt"], entry["answer"])] = entry
    return replies
