"""The surprisal of each token of a text: the data of the view "Surprise"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from lmzoo.distribution import rank_of
from lmzoo.errors import UsageError
from lmzoo.playground.shown import ShownToken, added_text, shown_token
from lmzoo.predictor import Predictor
from lmzoo.server.models import ServedModels

if TYPE_CHECKING:
    from fastapi import APIRouter

MAX_TOKENS = 2000
"""Largest number of tokens of a text that are scored."""


class SurpriseRequest(BaseModel):
    """A text, and the model that reads it."""

    model: str = Field(max_length=200)
    text: str = Field(max_length=20_000)


class AlternativesRequest(SurpriseRequest):
    """A text, the model that reads it, and the token whose alternatives are asked for."""

    position: int = Field(ge=0, lt=MAX_TOKENS)
    """Index of the token in the text."""
    k: int = Field(10, ge=1, le=100)
    """Number of most likely tokens to return."""


class Surprise(BaseModel):
    """The surprisal, rank and entropy of each token, as one list for each quantity."""

    starts: list[int]
    """Index of the first character of each token."""
    ends: list[int]
    """Index after the last character of each token."""
    surprisals: list[float]
    """Surprisal of each token in bits."""
    ranks: list[int]
    entropies: list[float]
    """Entropy of the prediction of each token in bits."""
    n_tokens: int
    """Number of tokens of the whole text, of which only the first are scored."""
    vocab_size: int
    lossless: bool
    """True if the tokenizer keeps the whole text; if not, its bits do not account for all characters."""


class Alternative(ShownToken):
    """A token that could stand at a place of the text."""

    prob: float
    rank: int
    adds: str | None
    """Text that the token adds to the text before it; None if it is no text."""


class Alternatives(BaseModel):
    """The most likely tokens at a place of the text, and the token that stands there."""

    before: int
    """Number of characters of the text before the token."""
    token: Alternative
    likely: list[Alternative]


def surprise_router(models: ServedModels) -> APIRouter:
    """Returns the routes that score the tokens of a text, and show what else could stand at a place."""
    from fastapi import APIRouter  # notebooks score texts without a server

    router = APIRouter(prefix="/playground")

    @router.post("/surprise")
    def surprise(request: SurpriseRequest) -> Surprise:
        """Returns surprisal, rank and entropy of each token of a text under one model."""
        return surprise_of(models.get(request.model), request.text)

    @router.post("/surprise/alternatives")
    def alternatives(request: AlternativesRequest) -> Alternatives:
        """Returns the most likely tokens at the place of one token of a text, given the text before it."""
        predictor = models.get(request.model)
        tokenizer = predictor.tokenizer
        pieces = tokenizer.pieces(request.text)
        if request.position >= len(pieces):
            raise UsageError(f"the text has only {len(pieces)} tokens, so there is none at position {request.position}")
        ids, before = [piece.token_id for piece in pieces], pieces[request.position].start
        context, observed = ids[: request.position], ids[request.position]
        distribution = predictor.predict_distribution(context)

        def alternative(token_id: int, rank: int) -> Alternative:
            return Alternative(
                **shown_token(tokenizer, token_id).model_dump(),
                prob=distribution.prob(token_id),
                rank=rank,
                adds=added_text(tokenizer, request.text[:before], context, token_id),
            )

        likely = [alternative(token_id, rank) for rank, (token_id, _) in enumerate(distribution.top(request.k), 1)]
        token = alternative(observed, rank_of(observed, distribution.log_probs))
        return Alternatives(before=before, token=token, likely=likely)

    return router


def surprise_of(predictor: Predictor, text: str) -> Surprise:
    """Returns surprisal, rank and entropy of each token of a text; of a long text, only those of the first tokens."""
    pieces = predictor.tokenizer.pieces(text)
    scored = text if len(pieces) <= MAX_TOKENS else text[: pieces[MAX_TOKENS].start]
    tokens = predictor.surprisals(scored, end_of_text=False)
    return Surprise(
        starts=[token.start for token in tokens],
        ends=[token.end for token in tokens],
        surprisals=[token.surprisal_bits for token in tokens],
        ranks=[token.rank for token in tokens],
        entropies=[token.entropy_bits for token in tokens],
        n_tokens=len(pieces),
        vocab_size=predictor.tokenizer.vocab_size,
        lossless=predictor.tokenizer.lossless,
    )
