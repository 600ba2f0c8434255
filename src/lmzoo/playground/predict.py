"""The predictions of several models after one prompt: the data of the views Predict and Slide."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from lmzoo.distribution import rank_of
from lmzoo.errors import LmzooError
from lmzoo.generation import Decoding
from lmzoo.metrics import bits
from lmzoo.models.hidden_states import HasHiddenStates, top
from lmzoo.models.ngram.model import NgramModel
from lmzoo.playground.readings import Reading, Readings
from lmzoo.playground.shown import ShownToken, added_text, shown_token, typical_texts
from lmzoo.playground.stages import Stages
from lmzoo.predictor import Predictor
from lmzoo.tokenizers import Tokenizer

if TYPE_CHECKING:
    from fastapi import APIRouter

_N_STATES, _TOKENS_OF_STATE = 3, 3
"""Number of hidden states that are shown, and of tokens that describe each."""

Name = Annotated[str, Field(max_length=200)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]


class DecodingSettings(BaseModel):
    """Settings of `lmzoo.generation.Decoding`, with the same defaults."""

    temperature: float = Field(default=1.0, ge=0, le=100)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)


class PredictRequest(BaseModel):
    """A prompt, the models that predict the token after it, and settings of decoding."""

    prompt: str = Field(default="", max_length=20_000)
    models: list[Name] = Field(min_length=1, max_length=64)
    own: dict[Name, Annotated[list[TokenId], Field(max_length=2_000)]] = Field(default={}, max_length=64)
    """Token ids that follow the prompt in the context of one model only, by the name of the model."""
    decoding: DecodingSettings = DecodingSettings()
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    k: int = Field(default=10, ge=1, le=100)
    """Number of most likely tokens to return."""
    n_context: int = Field(default=24, ge=0, le=400)
    """Number of last tokens of the context to return."""


class PredictedToken(ShownToken):
    """A possible next token, at each stage from the prediction to the draw. Logarithms are in nats."""

    adds: str | None
    """Text that the token adds to the prompt; None if it is no text."""
    rank: int
    prob: float
    log_prob: float | None
    """Logarithm of the predicted probability, None for probability 0."""
    scaled: float | None
    """`log_prob` divided by the temperature; None for probability 0 and for temperature 0."""
    tempered: float
    """Probability after temperature."""
    final: float
    """Probability after temperature and cuts, with which the token is drawn."""
    cut_by: str | None
    """The setting that excludes the token: "temperature", "top_k", "top_p" or "min_p"; None if none does."""
    interval: tuple[float, float]
    """The random numbers that draw the token are between these bounds."""
    order: int | None = None
    """Length of the n-gram that determines the probability, for n-gram models."""


class ContextToken(ShownToken):
    """A token of the context."""

    seen: bool
    """True if the prediction can depend on the token."""
    own: bool
    """True if the token follows the prompt in the context of this model only."""


class HiddenState(BaseModel):
    """A hidden state of a hidden Markov model, and the belief that it emits the next token."""

    state: int
    prob: float
    tokens: list[str]
    """The tokens that the state emits most often."""


class Prediction(BaseModel):
    """The prediction of one model."""

    name: str
    error: str | None = None
    """The reason why the model cannot predict here; None if it can, and all other fields are then filled."""
    entropy: float = 0.0
    """Entropy of the prediction in bits."""
    final_entropy: float = 0.0
    """Entropy in bits after temperature and cuts."""
    n_context: int = 0
    n_seen: int = 0
    """Largest number of tokens of the context on which the prediction can depend."""
    context: list[ContextToken] = []
    n_tokens: int = 0
    """Number of tokens of the vocabulary."""
    n_kept: int = 0
    """Number of tokens that can be drawn."""
    tokens: list[PredictedToken] = []
    """The most likely tokens, and the token that is drawn, which may be a less likely one."""
    rest: float = 0.0
    """Probability of all other tokens together."""
    draw: float = 0.0
    """Random number of the draw, from 0 to 1."""
    drawn: int = 0
    """Id of the token that is drawn."""
    states: list[HiddenState] | None = None
    """The most likely hidden states, for hidden Markov models."""


def predict_router(readings: Readings) -> APIRouter:
    """Returns the route that predicts the next token with several models at once."""
    from fastapi import APIRouter  # notebooks predict without a server

    router = APIRouter(prefix="/playground")
    pool = ThreadPoolExecutor(os.cpu_count(), "predict")

    @router.post("/predict")
    def predict(request: PredictRequest) -> list[Prediction]:
        """Returns the predictions of the chosen models, in the order of the request."""
        encoded = Encoded(request.prompt)
        return list(pool.map(lambda name: prediction_of(readings, name, request, encoded), request.models))

    return router


class Encoded:
    """A text as token ids, which several models with one tokenizer share; safe to use from several threads."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ids: dict[Tokenizer, list[int]] = {}
        self._lock = Lock()

    def ids(self, tokenizer: Tokenizer) -> list[int]:
        """Returns the token ids of the text; raises TokenizerError for a word that the tokenizer cannot take."""
        with self._lock:
            if tokenizer not in self._ids:
                self._ids[tokenizer] = tokenizer.encode(self._text).tolist()
            return self._ids[tokenizer]


def prediction_of(readings: Readings, name: str, request: PredictRequest, encoded: Encoded) -> Prediction:
    """Returns the prediction of the model `name`; `encoded` is the prompt of the request."""
    try:
        predictor = readings.predictor(name)
        own = request.own.get(name, [])
        ids = [*encoded.ids(predictor.tokenizer), *own]
        reading = readings.after(name, ids)
        decoding = Decoding(**request.decoding.model_dump())
    except LmzooError as error:
        return Prediction(name=name, error=str(error))
    stages = Stages(reading.distribution, decoding)
    draw = stages.draw(request.seed, len(own))
    n_seen = len(ids) if predictor.model.reach is None else min(len(ids), predictor.model.reach)
    tokens = _tokens(predictor, request, ids, reading, stages, draw.token_id)
    return Prediction(
        name=name,
        entropy=bits(reading.distribution.entropy()),
        final_entropy=bits(stages.final.entropy()),
        n_context=len(ids),
        n_seen=n_seen,
        context=_context(predictor, ids, n_seen, len(own), request.n_context),
        n_tokens=len(reading.distribution),
        n_kept=stages.n_kept,
        tokens=tokens,
        rest=max(0.0, 1 - sum(token.prob for token in tokens)),
        draw=draw.number,
        drawn=draw.token_id,
        states=_states(predictor, reading),
    )


def _tokens(
    predictor: Predictor, request: PredictRequest, ids: list[int], reading: Reading, stages: Stages, drawn: int
) -> list[PredictedToken]:
    """Returns the most likely tokens, and the drawn token if it is not among them."""
    distribution, temperature = reading.distribution, request.decoding.temperature
    ranked = [token_id for token_id, _ in distribution.top(request.k)]
    ranks = {token_id: rank for rank, token_id in enumerate(ranked, start=1)}
    if drawn not in ranks:
        ranks[drawn] = rank_of(drawn, distribution.log_probs)
    tokens = []
    for token_id, rank in ranks.items():
        log_prob = float(distribution.log_probs[token_id])
        possible = math.isfinite(log_prob)
        shown = shown_token(predictor.tokenizer, token_id)
        tokens.append(
            PredictedToken(
                **shown.model_dump(),
                adds=added_text(predictor.tokenizer, request.prompt, ids, token_id),
                rank=rank,
                prob=distribution.prob(token_id),
                log_prob=log_prob if possible else None,
                scaled=log_prob / temperature if possible and temperature else None,
                tempered=stages.tempered.prob(token_id),
                final=stages.final.prob(token_id),
                cut_by=stages.cut_by(token_id),
                interval=stages.interval(token_id),
                order=_order(predictor, reading, token_id),
            )
        )
    return tokens


def _order(predictor: Predictor, reading: Reading, token_id: int) -> int | None:
    model = predictor.model
    return model.matched_order(reading.state, token_id) if isinstance(model, NgramModel) else None


def _context(predictor: Predictor, ids: list[int], n_seen: int, n_own: int, n_shown: int) -> list[ContextToken]:
    """Returns the last `n_shown` tokens of a context."""
    first = max(0, len(ids) - n_shown)
    return [
        ContextToken(
            **shown_token(predictor.tokenizer, token_id).model_dump(),
            seen=index >= len(ids) - n_seen,
            own=index >= len(ids) - n_own,
        )
        for index, token_id in enumerate(ids[first:], start=first)
    ]


def _states(predictor: Predictor, reading: Reading) -> list[HiddenState] | None:
    """Returns the hidden states that most probably emit the next token; None for models without hidden states."""
    model = predictor.model
    if not isinstance(model, HasHiddenStates):
        return None
    return [
        HiddenState(state=state, prob=prob, tokens=typical_texts(predictor.tokenizer, model, state, _TOKENS_OF_STATE))
        for state, prob in top(model.next_states(reading.state), _N_STATES)
    ]
