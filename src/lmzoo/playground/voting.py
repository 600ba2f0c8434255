"""Votes on pairs of replies, given in the browser: one session for each rater, all written to the file of the run."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, StringConstraints

from lmzoo.chat.conversation import as_json
from lmzoo.chat.preferences import read_rankings
from lmzoo.chat.voting import Comparison, read_comparisons, unvoted_comparisons
from lmzoo.chat.voting_session import VotingSession
from lmzoo.errors import UsageError

_N_RATERS = 256
"""Number of raters whose sessions are kept in memory; older ones go on from the votes in the file."""

Rater = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str


class ShownComparison(BaseModel):
    """A prompt and two replies, without the names of the models that wrote them."""

    key: str
    """Identifies the comparison and the order of its replies."""
    prompt: list[Message]
    first: str
    second: str


class SavedVote(BaseModel):
    """The last vote of a rater, which is in the file already, and the models that wrote the replies."""

    choice: str
    """"1" or "2" for the better reply, or "tie"."""
    models: tuple[str, str] | None
    """Names of the models that wrote the first and the second reply; None if the file does not tell."""


class Session(BaseModel):
    """The state of one rater's session."""

    comparison: ShownComparison | None
    """The comparison to vote on; None if there are no more."""
    last: SavedVote | None
    """The last vote of this session; None before the first one, and if it was undone."""
    n_left: int
    n_votes: int
    """Number of votes in this session."""


class VoteRequest(BaseModel):
    """A rater's decision about the comparison that the page shows."""

    rater: Rater
    action: Literal["1", "2", "tie", "skip", "undo"]
    key: str = Field(max_length=16)
    """The `key` of the comparison that the page shows; "" if it shows none."""


class Ballot:
    """The votes of several raters on pairs of replies; safe to use from several threads.

    The file `comparisons` is read when a rater comes, and each vote is appended to the file `votes` at once.
    """

    def __init__(self, comparisons: Path, votes: Path) -> None:
        self._comparisons, self._votes = comparisons, votes
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
            earlier = read_rankings(self._votes) if self._votes.exists() else []
            comparisons = unvoted_comparisons(read_comparisons(self._comparisons), earlier, rater)
            self._sessions[rater] = VotingSession(comparisons, self._votes, rater)
            if len(self._sessions) > _N_RATERS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(rater)
        return self._sessions[rater]


def key_of(comparison: Comparison | None) -> str:
    """Returns a short text that identifies a comparison and the order of its replies; "" for None."""
    return "" if comparison is None else hashlib.sha256(repr(comparison).encode()).hexdigest()[:16]


def ballot_of(runs: Sequence[Path]) -> Ballot | None:
    """Returns the ballot of the first of several run folders that has comparisons; None if none of them has."""
    places = ((run / "comparisons.jsonl", run / "votes.jsonl") for run in runs)
    return next((Ballot(*place) for place in places if place[0].is_file()), None)


def voting_router(ballot: Ballot | None) -> APIRouter:
    """Returns the routes with which raters vote on the comparisons of `ballot`, which is None if there are none."""
    router = APIRouter(prefix="/playground")

    @router.get("/ballot")
    def has_ballot() -> bool:
        """Returns True if there are replies to compare."""
        return ballot is not None

    @router.get("/votes")
    def votes(rater: Annotated[Rater, Query()]) -> Session:
        """Returns the comparison that a rater votes on next."""
        return _shown(_of(ballot).session(rater))

    @router.post("/votes")
    def vote(request: VoteRequest) -> Session:
        """Saves a vote, skips the comparison, or undoes the last vote, and returns the next comparison."""
        return _shown(_of(ballot).act(request.rater, request.action, request.key))

    return router


def _of(ballot: Ballot | None) -> Ballot:
    if ballot is None:
        raise UsageError("there are no replies to compare: name a run folder of lmzoo align when you start the server")
    return ballot


def _shown(session: VotingSession) -> Session:
    shown, one = None, session.current
    if one is not None:
        prompt = [Message(**message) for message in as_json(one.prompt)]
        shown = ShownComparison(key=key_of(one), prompt=prompt, first=one.first, second=one.second)
    last = None
    if session.last_vote is not None:
        voted, choice = session.last_vote
        last = SavedVote(choice=choice, models=voted.models)
    return Session(comparison=shown, last=last, n_left=session.n_left, n_votes=session.n_votes)
