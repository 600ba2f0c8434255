"""Chat models beside models of text, and votes on their replies: the data of the view "Chat and rank"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, StringConstraints

from lmzoo.chat.conversation import as_json
from lmzoo.chat.template import has_chat_tokens
from lmzoo.chat.voting_session import VotingSession
from lmzoo.errors import LmzooError, UsageError
from lmzoo.playground.voting import Ballot, key_of
from lmzoo.server.models import ServedModels

Rater = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class ChatFacts(BaseModel):
    """The models that one can chat with, and whether there are replies to compare."""

    chat: list[str]
    """Names of the chat models."""
    completion: list[str]
    """Names of the models that continue a text."""
    can_vote: bool
    """True if a run of the server has comparisons to vote on."""


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


class Session(BaseModel):
    """The state of one rater's session."""

    comparison: ShownComparison | None
    """The comparison to vote on; None if there are no more."""
    n_left: int
    n_votes: int
    """Number of votes in this session."""


class VoteRequest(BaseModel):
    """A rater's decision about the comparison that the page shows."""

    rater: Rater
    action: Literal["1", "2", "tie", "skip", "undo"]
    key: str = Field(max_length=16)
    """The `key` of the comparison that the page shows; "" if it shows none."""


def chat_router(models: ServedModels, runs: Sequence[Path]) -> APIRouter:
    """Returns the routes of the view "Chat and rank".

    Raters vote on the comparisons of the first of `runs`, which are folders, that has any.
    """
    router = APIRouter(prefix="/playground")
    ballot = next((Ballot(run) for run in runs if (run / "comparisons.jsonl").is_file()), None)

    @router.get("/chat")
    def chat() -> ChatFacts:
        """Returns which models chat, which continue a text, and whether there are replies to compare."""
        chatting = [name for name in models.names if _can_chat(models, name)]
        others = [name for name in models.names if name not in chatting]
        return ChatFacts(chat=chatting, completion=others, can_vote=ballot is not None)

    @router.get("/votes")
    def votes(rater: Annotated[Rater, Query()]) -> Session:
        """Returns the comparison that a rater votes on next."""
        return _shown(_of(ballot).session(rater))

    @router.post("/votes")
    def vote(request: VoteRequest) -> Session:
        """Saves a vote, skips the comparison, or undoes the last vote, and returns the next comparison."""
        return _shown(_of(ballot).act(request.rater, request.action, request.key))

    return router


def _can_chat(models: ServedModels, name: str) -> bool:
    try:
        return has_chat_tokens(models.get(name).tokenizer)
    except LmzooError:  # a model that cannot be loaded
        return False


def _of(ballot: Ballot | None) -> Ballot:
    if ballot is None:
        raise UsageError("there are no replies to compare: name a run folder of lmzoo align when you start the server")
    return ballot


def _shown(session: VotingSession) -> Session:
    shown, one = None, session.current
    if one is not None:
        prompt = [Message(**message) for message in as_json(one.prompt)]
        shown = ShownComparison(key=key_of(one), prompt=prompt, first=one.first, second=one.second)
    return Session(comparison=shown, n_left=session.n_left, n_votes=session.n_votes)
