"""Rankings of replies, as people or programs give them, and their files.

A file of rankings has one JSON object per line. The replies to a prompt are ranked from the best to the worst, or two
replies are compared:

    {"prompt": [{"role": "user", "content": "say: light"}], "ranking": ["verily, light", "light", "dark"]}
    {"prompt": [{"role": "user", "content": "say: light"}], "chosen": "verily, light", "rejected": "dark"}

"tie": true says that the two replies of a comparison are equally good, and "rater" names who ranked or compared the
replies. If a rater judges the same replies again, the later line counts and the earlier one is ignored.

Comparisons in the format of the library TRL can be read, too: "prompt" may be a string, and "chosen" and "rejected" may
be lists with one message of the assistant.
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
    json_line,
    parse_messages,
    read_objects,
    user,
    write_objects,
)
from lmzoo.errors import CorpusError, UsageError
from lmzoo.system.json_files import parse_json


@dataclass(frozen=True)
class Ranking:
    """A ranking of several replies to one prompt."""

    prompt: Conversation
    """The conversation before the reply; its last message is by the user."""
    replies: tuple[str, ...]
    """At least two different replies, the best first."""
    tie: bool = False
    """True if the replies are equally good; only a comparison of two replies can be a tie."""
    rater: str = ""
    """Name of the person or program that ranked the replies; empty if it is unknown."""

    def __post_init__(self) -> None:
        if len(set(self.replies)) < 2 or len(set(self.replies)) < len(self.replies):
            raise UsageError(f"a ranking must have at least two replies, all different, got {list(self.replies)}")
        if self.tie and len(self.replies) != 2:
            raise UsageError(f"only two replies can be a tie, got {len(self.replies)}")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs of replies as (better reply, worse reply); no pair if the replies are equally good."""
        return [] if self.tie else list(combinations(self.replies, 2))


def read_rankings(path: str | Path) -> list[Ranking]:
    """Reads a file of rankings in JSON lines; if a rater ranked the same replies several times, the last time counts.

    Raises CorpusError if the file is missing or not UTF-8, and, with the number of the line, if a line is not a
    ranking. An incomplete last line, which a killed program leaves, is ignored.
    """
    path = Path(path)
    found: dict[object, Ranking] = {}
    for number, entry in read_objects(path, "rankings", ignore_incomplete=True):
        try:
            ranking = _parse(entry)
        except UsageError as error:
            raise CorpusError(f"{path} line {number}: {error}") from error
        key = (ranking.prompt, frozenset(ranking.replies), ranking.rater)
        found.pop(key, None)
        found[key] = ranking
    return list(found.values())


def append_rankings(path: str | Path, rankings: Iterable[Ranking]) -> None:
    """Appends rankings to a file; when the function returns, they are on the disk.

    Several programs may append to the same file at the same time. An incomplete last line, which a killed program
    leaves, is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json_line(_as_json(ranking)) for ranking in rankings)
    with FileLock(f"{path}.lock"), path.open("ab+") as file:
        n_bytes, separator = _complete_part(path.read_bytes())
        file.truncate(n_bytes)
        file.write((separator + lines).encode())
        file.flush()
        os.fsync(file.fileno())


def write_rankings(path: str | Path, rankings: Iterable[Ranking]) -> None:
    """Writes rankings to a new file, or replaces a file: after an error, no incomplete file is left."""
    write_objects(path, map(_as_json, rankings))


def _complete_part(data: bytes) -> tuple[int, str]:
    """Returns how many bytes at the start of `data` are complete lines of JSON, and the text to write after them.

    That text is the missing line end if the last line is complete except for it, or else "".
    """
    end = data.rfind(b"\n") + 1
    try:
        parse_json(data[end:].decode())
    except ValueError:
        return end, ""
    return len(data), "\n"


def agreement(rankings: Sequence[Ranking]) -> tuple[float, int] | None:
    """Returns how often two raters who compared the same two replies agree, and how many such cases there are.

    A case is one pair of replies compared by one pair of raters. The first number is the share of all cases in which
    both raters prefer the same reply, or both call the replies equally good. Returns None if there is no case. Rankings
    of more than two replies are not counted.
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
        raise UsageError('the last message of "prompt" must be by the user')
    texts = entry["ranking"] if "ranking" in entry else [entry.get("chosen"), entry.get("rejected")]
    if not isinstance(texts, list):
        raise UsageError('"ranking" must be a list of replies, the best first')
    ranking = Ranking(conversation, tuple(map(_reply, texts)))
    tie, rater = entry.get("tie", False), entry.get("rater", "")
    if not isinstance(tie, bool) or not isinstance(rater, str):
        raise UsageError('"tie" must be true or false, and "rater" a string')
    return replace(ranking, tie=tie, rater=rater)


def _reply(value: Any) -> str:
    """Returns the text of a reply, which is a string or a list with one message of the assistant."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0].get("content")
    if not isinstance(value, str):
        raise UsageError('replies must be strings, in "chosen" and "rejected" or in "ranking"')
    return value
