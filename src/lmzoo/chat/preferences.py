"""Rankings of replies by people or programs, and their files.

A file of rankings has one JSON object per line. It either ranks the replies to a prompt from the best to the worst
("ranking"), or compares two replies ("chosen" is the better one, "rejected" the worse one):

    {"prompt": [{"role": "user", "content": "say: light"}], "ranking": ["verily, light", "light", "dark"]}
    {"prompt": [{"role": "user", "content": "say: light"}], "chosen": "verily, light", "rejected": "dark"}

Two fields are optional. "tie": true says that the two replies of a comparison are equally good, and "rater" names the
person or program that ranked the replies. If a rater ranks the same replies again, the later line counts and the
earlier one is ignored.

Comparisons in the format of the library TRL (Transformer Reinforcement Learning) can be read, too: there, "prompt" may
be a string, and "chosen" and "rejected" may be lists with one message of the assistant.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from filelock import FileLock

from lmzoo.chat.conversation import (
    Conversation,
    as_json,
    complete_size,
    json_line,
    parse_messages,
    read_objects,
    user,
    write_objects,
)
from lmzoo.errors import CorpusError, UsageError


@dataclass(frozen=True)
class Ranking:
    """A ranking of two or more replies to one prompt."""

    prompt: Conversation
    """The conversation before the reply; its last message is by the user."""
    replies: tuple[str, ...]
    """The replies, all different, the best first."""
    tie: bool = False
    """True if the replies are equally good; only a comparison of two replies can be a tie."""
    rater: str = ""
    """Name of the person or program that ranked the replies; empty if it is unknown."""

    def __post_init__(self) -> None:
        if len(set(self.replies)) < 2 or len(set(self.replies)) < len(self.replies):
            raise UsageError(f"a ranking must have at least two replies, all different, got {list(self.replies)}")
        if self.tie and len(self.replies) != 2:
            raise UsageError(f"a tie must have exactly two replies, got {len(self.replies)}: compare two at a time")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs of replies as (better reply, worse reply); [] if the replies are equally good."""
        return [] if self.tie else list(combinations(self.replies, 2))


def read_rankings(path: str | Path) -> list[Ranking]:
    """Reads a file of rankings in JSON lines. If a rater ranked the same replies several times, the last time counts.

    An incomplete last line, which a killed program leaves, is ignored. Raises CorpusError if the file is missing or not
    UTF-8, or if a line is not a ranking; the message then names the line.
    """
    path = Path(path)
    latest: dict[object, Ranking] = {}
    for number, entry in read_objects(path, "rankings", ignore_incomplete=True):
        try:
            ranking = _parse(entry)
        except UsageError as error:
            raise CorpusError(f"{path} line {number}: {error}") from error
        key = (ranking.prompt, frozenset(ranking.replies), ranking.rater)
        latest.pop(key, None)
        latest[key] = ranking
    return list(latest.values())


def append_rankings(path: str | Path, rankings: Iterable[Ranking]) -> None:
    """Appends rankings to a file. When the function returns, they are on the disk.

    Several programs may append to the same file at the same time. If the file ends with an incomplete line, which a
    killed program leaves, this line is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json_line(_as_json(ranking)) for ranking in rankings)
    with FileLock(f"{path}.lock"), path.open("ab+") as file:
        data = path.read_bytes()
        data = data[: complete_size(data)]
        file.truncate(len(data))
        separator = "\n" if data and not data.endswith(b"\n") else ""
        file.write((separator + lines).encode())
        file.flush()
        os.fsync(file.fileno())


def write_rankings(path: str | Path, rankings: Iterable[Ranking]) -> None:
    """Writes rankings to a file, whose earlier content is replaced. After an error, the file is as it was before."""
    write_objects(path, map(_as_json, rankings))


def agreement(rankings: Sequence[Ranking]) -> tuple[float, int] | None:
    """Returns how often two raters who compared the same two replies agree, and the number of cases.

    A case is a pair of raters who compared the same two replies, so three raters of the same replies are three cases.
    The first number is the share of cases in which both raters prefer the same reply, or both call the replies equally
    good. Rankings of more than two replies are not counted. Returns None if there is no case.
    """
    votes: dict[object, dict[str, str | None]] = {}
    for ranking in rankings:
        if len(ranking.replies) == 2:
            winner = None if ranking.tie else ranking.replies[0]
            votes.setdefault((ranking.prompt, frozenset(ranking.replies)), {})[ranking.rater] = winner
    outcomes = [one == other for by_rater in votes.values() for one, other in combinations(by_rater.values(), 2)]
    return (sum(outcomes) / len(outcomes), len(outcomes)) if outcomes else None


def rankings_fingerprint(rankings: Iterable[Ranking]) -> str:
    """Returns the SHA-256 hash of rankings, in hexadecimal."""
    digest = hashlib.sha256()
    for ranking in rankings:
        digest.update(json_line(_as_json(ranking)).encode())
    return digest.hexdigest()


def _as_json(ranking: Ranking) -> dict[str, Any]:
    entry: dict[str, Any] = {"prompt": as_json(ranking.prompt)}
    if len(ranking.replies) == 2:
        entry |= {"chosen": ranking.replies[0], "rejected": ranking.replies[1]}
    else:
        entry["ranking"] = list(ranking.replies)
    return entry | ({"tie": True} if ranking.tie else {}) | ({"rater": ranking.rater} if ranking.rater else {})


def _parse(entry: dict[str, Any]) -> Ranking:
    """Converts a JSON object to a ranking; raises UsageError if fields are missing or have wrong types."""
    prompt = entry.get("prompt")
    conversation = (user(prompt),) if isinstance(prompt, str) else parse_messages(prompt, "prompt")
    if conversation[-1].role != "user":
        raise UsageError(
            f'the last message of "prompt" must be by the user, got a message by the {conversation[-1].role}'
        )
    replies = entry["ranking"] if "ranking" in entry else [entry.get("chosen"), entry.get("rejected")]
    if not isinstance(replies, list):
        raise UsageError('"ranking" must be a list of replies, the best first')
    ranking = Ranking(conversation, tuple(map(_reply, replies)))
    tie, rater = entry.get("tie", False), entry.get("rater", "")
    if not isinstance(tie, bool) or not isinstance(rater, str):
        raise UsageError(f'"tie" must be true or false, and "rater" must be a string, got {tie!r} and {rater!r:.60}')
    return replace(ranking, tie=tie, rater=rater)


def _reply(value: Any) -> str:
    """Returns the text of a reply, which is a string or a list with one message of the assistant."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0].get("content")
    if not isinstance(value, str):
        raise UsageError('there must be two replies in "chosen" and "rejected", or a list of replies in "ranking"')
    return value
