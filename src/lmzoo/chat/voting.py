"""Voting: people compare two replies to a prompt. In runs of `lmzoo align`, the fine-tuned model wrote both replies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmzoo.chat.conversation import Conversation, as_json, parse_messages, read_objects, write_objects
from lmzoo.chat.preferences import Ranking
from lmzoo.errors import CorpusError, UsageError


@dataclass(frozen=True)
class Comparison:
    """A prompt and two replies to it, of which people say which one is better."""

    prompt: Conversation
    """The conversation before the reply; its last message is by the user."""
    first: str
    """The reply that is shown first."""
    second: str
    """The reply that is shown second."""
    models: tuple[str, str] | None = None
    """Names of the models that wrote the first and the second reply; None if they are not known."""

    def swapped(self) -> Comparison:
        """Returns the same comparison with the second reply first."""
        models = None if self.models is None else (self.models[1], self.models[0])
        return Comparison(self.prompt, self.second, self.first, models)

    def vote(self, choice: str, rater: str) -> Ranking:
        """Returns a vote as a ranking of the two replies.

        `choice` is "1" or "2" if the first or the second reply is better, and "tie" if they are equally good. `rater`
        is the name of the person. Raises UsageError for any other choice.
        """
        if choice not in ("1", "2", "tie"):
            raise UsageError(f"a vote must be 1, 2 or tie, got {choice!r}")
        replies = (self.second, self.first) if choice == "2" else (self.first, self.second)
        return Ranking(self.prompt, replies, tie=choice == "tie", rater=rater)


def write_comparisons(path: str | Path, comparisons: Iterable[Comparison]) -> None:
    """Writes comparisons to a file of JSON lines, with the fields "prompt", "replies" and, if known, "models"."""
    write_objects(
        path,
        (
            {"prompt": as_json(one.prompt), "replies": [one.first, one.second]}
            | ({} if one.models is None else {"models": list(one.models)})
            for one in comparisons
        ),
    )


def read_comparisons(path: str | Path) -> list[Comparison]:
    """Reads a file of comparisons, as `write_comparisons` writes it.

    Raises CorpusError if the file cannot be read, or if a line is not a comparison; the message then names the line.
    """
    path = Path(path)
    comparisons: list[Comparison] = []
    for number, entry in read_objects(path, "comparisons"):
        try:
            prompt, replies = parse_messages(entry.get("prompt"), "prompt"), entry.get("replies")
        except UsageError as error:
            raise CorpusError(f"{path} line {number}: {error}") from error
        if not isinstance(replies, list) or len(replies) != 2 or not all(isinstance(reply, str) for reply in replies):
            raise CorpusError(f'{path} line {number}: "replies" must be a list of two strings, got {replies!r:.60}')
        if replies[0] == replies[1]:
            raise CorpusError(f"{path} line {number}: the two replies are equal, but they must differ to be compared")
        if prompt[-1].role != "user":
            raise CorpusError(f'{path} line {number}: the last message of "prompt" must be by the user')
        models = entry.get("models")
        if models is not None and not (
            isinstance(models, list) and len(models) == 2 and all(isinstance(name, str) for name in models)
        ):
            raise CorpusError(f'{path} line {number}: "models" must be a list of two names, got {models!r:.60}')
        comparisons.append(Comparison(prompt, *replies, models=None if models is None else (models[0], models[1])))
    return comparisons


def unvoted_comparisons(comparisons: Sequence[Comparison], votes: Sequence[Ranking], rater: str) -> list[Comparison]:
    """Returns the comparisons on which a rater has not voted yet, in a random order.

    In about half of them, chosen at random, the first and the second reply are swapped. The order and the swaps depend
    only on `rater`, the name of the rater. An interrupted session therefore continues where it ended, and different
    raters see different orders. `votes` are the votes of all raters so far.
    """
    done = {(vote.prompt, frozenset(vote.replies)) for vote in votes if vote.rater == rater}
    seed = int.from_bytes(hashlib.sha256(rater.encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    shown = [comparisons[index] for index in rng.permutation(len(comparisons))]
    swaps = rng.random(len(shown)) < 0.5
    return [
        one.swapped() if swap else one
        for one, swap in zip(shown, swaps.tolist(), strict=True)
        if (one.prompt, frozenset((one.first, one.second))) not in done
    ]
