"""Shannon's game: passages of held-out text whose letters people guess, and the bits that models need for them.

Shannon (1951) let people guess the next letter of a text until they were right, in an alphabet of 26 letters and the
space. A passage here is a run of words without capitals and punctuation, so that people and models predict the very
same characters. Models read the same text before it as the person. A model whose tokens are longer than a letter has no
probabilities of letters at hand, but its surprisals of all tokens of the passage add up to those of all letters; so
the fair figure is the sum of surprisals, divided by the number of letters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field

from lmzoo.corpora import Document, load_corpus
from lmzoo.predictor import DEFAULT_CORPUS, Predictor
from lmzoo.server.models import ServedModels

_RUN = re.compile(r"(?<=[a-z,;:])(?: [a-z]+)+(?=[^a-z ])")
"""A run of words in lower-case letters, with the space before it."""
_LENGTHS = range(24, 49)
"""Numbers of characters of a passage."""
_SHOWN = range(120, 601)
"""Numbers of characters that are shown before a passage, from the start of its document."""


class PassageRequest(BaseModel):
    """The number of a passage in the order that a seed determines; after the last passage, the first follows."""

    seed: int = Field(0, ge=0, le=2**63 - 1)
    number: int = Field(0, ge=0, le=2**31 - 1)


class ScoreRequest(PassageRequest):
    """A passage, and the model whose bits are asked for."""

    model: str = Field(max_length=200)


class Passage(BaseModel):
    """A text to guess, and the text before it."""

    source: str
    """Name of the document."""
    before: str
    """Text from the start of the document up to the passage."""
    letters: str
    """Letters and spaces to guess."""


class Score(BaseModel):
    """The bits that a model needs for a passage."""

    bits: float | None
    """Sum of the surprisals of the passage's tokens; None if the tokens do not keep all letters, or are longer."""


class _Span(NamedTuple):
    document: int
    start: int
    end: int


def game_router(models: ServedModels) -> APIRouter:
    """Returns the routes that give passages to guess and the scores of the models."""
    router = APIRouter(prefix="/playground/game")

    @router.post("/passage")
    def passage(request: PassageRequest) -> Passage:
        """Returns a passage to guess."""
        return passage_of(request)

    @router.post("/score")
    def score(request: ScoreRequest) -> Score:
        """Returns the bits that a model needs for a passage, given the text before it."""
        return Score(bits=passage_bits(models.get(request.model), passage_of(request)))

    return router


def passage_bits(predictor: Predictor, passage: Passage) -> float | None:
    """Returns the surprisal of a passage in bits, given the text before it.

    Returns None if the tokenizer loses letters, or if a token crosses the start of the passage.
    """
    tokens = predictor.surprisals(passage.before + passage.letters, end_of_text=False)
    start = len(passage.before)
    if not predictor.tokenizer.lossless or any(token.start < start < token.end for token in tokens):
        return None
    return math.fsum(token.surprisal_bits for token in tokens if token.start >= start)


def passage_of(request: PassageRequest) -> Passage:
    """Returns the passage that a request names."""
    spans = _spans()
    order = np.random.default_rng(request.seed).permutation(len(spans))
    span = spans[int(order[request.number % len(spans)])]
    document = _held_out()[span.document]
    return Passage(
        source=document.name, before=document.text[: span.start], letters=document.text[span.start : span.end]
    )


@cache
def _held_out() -> Sequence[Document]:
    """Returns the documents of the test split of the bundled corpus, on which no model of lmzoo was trained."""
    return load_corpus(DEFAULT_CORPUS).test


@cache
def _spans() -> list[_Span]:
    return [
        _Span(index, match.start(), match.end())
        for index, document in enumerate(_held_out())
        for match in _RUN.finditer(document.text, 0, _SHOWN.stop)
        if match.start() in _SHOWN and match.end() - match.start() in _LENGTHS
    ]
