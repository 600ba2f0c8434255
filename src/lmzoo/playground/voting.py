"""Votes on pairs of replies, given in the browser: one session for each rater, all written to the file of the run."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from lmzoo.chat.preferences import read_rankings
from lmzoo.chat.voting import Comparison, open_comparisons, read_comparisons
from lmzoo.chat.voting_session import VotingSession
from lmzoo.errors import UsageError

_N_RATERS = 256
"""Number of raters whose sessions are kept in memory; older ones go on from the votes in the file."""


class Ballot:
    """The votes of several raters on the comparisons of a run of `lmzoo align`; safe to use from several threads.

    `run` is the run folder. Its comparisons are read when a rater comes, and votes are appended to its file
    `votes.jsonl`, each at once.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._sessions: OrderedDict[str, VotingSession] = OrderedDict()
        self._lock = Lock()

    def session(self, rater: str) -> VotingSession:
        """Returns the session of a rater, which is a new one if the rater has none."""
        with self._lock:
            return self._session(rater)

    def act(self, rater: str, action: str, key: str) -> VotingSession:
        """Votes, skips or undoes for a rater, and returns the session.

        `action` is "1", "2", "tie", "skip" or "undo". `key` is the `key_of` the comparison that the rater saw. Raises
        UsageError if another comparison is the current one, so that a request that arrives twice counts once.
        """
        with self._lock:
            session = self._session(rater)
            if key != key_of(session.current):
                raise UsageError("this comparison is not the current one any more: reload the page")
            match action:
                case "skip":
                    session.skip()
                case "undo":
                    session.undo()
                case _:
                    session.vote(action)
            return session

    def _session(self, rater: str) -> VotingSession:
        if rater not in self._sessions:
            votes = self.run / "votes.jsonl"
            earlier = read_rankings(votes) if votes.exists() else []
            comparisons = open_comparisons(read_comparisons(self.run / "comparisons.jsonl"), earlier, rater)
            self._sessions[rater] = VotingSession(comparisons, votes, rater)
            if len(self._sessions) > _N_RATERS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(rater)
        return self._sessions[rater]


def key_of(comparison: Comparison | None) -> str:
    """Returns a short text that identifies a comparison and the order of its replies; "" for None."""
    return "" if comparison is None else hashlib.sha256(repr(comparison).encode()).hexdigest()[:16]
