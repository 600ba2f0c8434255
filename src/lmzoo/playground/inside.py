"""Attention, gates, n-grams and hidden states on a text: the data of the view "Attention and memory"."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from fastapi import APIRouter
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, Field

from lmzoo.errors import UsageError
from lmzoo.models.hidden_states import HasHiddenStates
from lmzoo.playground.packed import PackedArray, packed
from lmzoo.playground.shown import ShownToken, shown_token, typical_texts
from lmzoo.predictor import Predictor
from lmzoo.server.models import ServedModels
from lmzoo.stream import TokenStream
from lmzoo.tokenizers import Piece

MAX_TOKENS = 128
"""Largest number of tokens of a text that are shown: the matrices of attention grow with its square."""
_N_STATES, _TOKENS_OF_STATE = 16, 5
"""Largest number of hidden states that are shown, and number of tokens that describe each."""
_N_UNITS = 48
"""Largest number of units of a recurrent layer that are shown: those whose state varies most."""


@runtime_checkable
class HasMatchedOrders(Protocol):
    """The interface of an n-gram model, which can tell how long an n-gram determined each probability."""

    def matched_orders(self, ids: ArrayLike | TokenStream) -> NDArray[np.integer]:
        """Returns the (T,) length of the n-gram that determines the probability of each of T tokens."""
        ...


class InsideRequest(BaseModel):
    """A text, and the model that reads it."""

    model: str = Field(max_length=200)
    text: str = Field(max_length=20_000)


class GradientRequest(InsideRequest):
    """A text, the model that reads it, and the token whose prediction is examined."""

    position: int = Field(ge=0, lt=MAX_TOKENS)
    """Index of the token in the text."""


class Trace(BaseModel):
    """The values of one gate or state of a recurrent layer."""

    name: str
    values: PackedArray
    """(T + 1, U) for U units at the start of the document and at T tokens."""
    mean: list[float]
    """Mean over all units of the layer, also those that are not shown, at each of the T + 1 inputs."""


class RecurrentLayer(BaseModel):
    """The gates and states of a recurrent layer."""

    n_units: int
    units: list[int]
    """Indices of the units that are shown."""
    traces: list[Trace]


class State(BaseModel):
    """A hidden state, and its probability at each token of the text, given the whole text."""

    state: int
    tokens: list[str]
    """The tokens that the state emits most often."""
    probs: list[float]


class PlacedToken(ShownToken):
    """A token of the text, with the indices of its first character and of the one after its last."""

    start: int
    end: int


class Inside(BaseModel):
    """The values inside a model on a text; the parts that the model does not have are None."""

    tokens: list[PlacedToken]
    n_tokens: int
    """Number of tokens of the whole text, of which only the first are examined."""
    attention: PackedArray | None = None
    """(L, H, T + 1, T + 1): attention weights of L layers of H heads, at the start of the document and T tokens."""
    layers: list[RecurrentLayer] | None = None
    orders: list[int] | None = None
    """Length of the n-gram that determined the probability of each token."""
    order: int | None = None
    """Length of the longest n-grams of the model; None if there is no limit."""
    states: list[State] | None = None
    path: list[int] | None = None
    """The hidden state at each token on the most likely path."""
    has_gradients: bool = False
    """True if gradients of each token's loss with respect to the earlier tokens can be asked for."""


def inside_router(models: ServedModels) -> APIRouter:
    """Returns the routes that show attention, memory and gradients of a model on a text."""
    router = APIRouter(prefix="/playground")

    @router.post("/inside")
    def inside(request: InsideRequest) -> Inside:
        """Returns attention weights, gates, n-gram lengths or hidden states, whichever the model has."""
        return _inside(models.get(request.model), request.text)

    @router.post("/inside/gradients")
    def gradients(request: GradientRequest) -> list[float]:
        """Returns the norm of the gradient of one token's loss with respect to each earlier token, the first first."""
        from lmzoo.probes.gradient_flow import gradient_norms

        predictor = models.get(request.model)
        ids = [piece.token_id for piece in _pieces(predictor, request.text)[:MAX_TOKENS]]
        return gradient_norms(predictor.model, ids, request.position).tolist()

    return router


def _pieces(predictor: Predictor, text: str) -> list[Piece]:
    pieces = predictor.tokenizer.pieces(text)
    if not pieces:
        raise UsageError("the text has no token: write at least one word")
    return pieces


def _inside(predictor: Predictor, text: str) -> Inside:
    pieces = _pieces(predictor, text)
    tokens = [
        PlacedToken(**shown_token(predictor.tokenizer, one.token_id).model_dump(), start=one.start, end=one.end)
        for one in pieces[:MAX_TOKENS]
    ]
    ids = np.array([token.id for token in tokens], np.int32)
    model = predictor.model
    inside = Inside(tokens=tokens, n_tokens=len(pieces))
    if isinstance(model, HasMatchedOrders):
        inside.orders = model.matched_orders(ids).tolist()
        inside.order = None if model.context_size is None else model.context_size + 1
    elif isinstance(model, HasHiddenStates):
        inside.states, inside.path = _states(predictor, model, ids)
    elif model.device_name is not None:  # a network; counting models do without torch
        from lmzoo.probes.attention import attention_weights, has_attention
        from lmzoo.probes.gates import is_recurrent, recurrent_traces
        from lmzoo.probes.gradient_flow import has_token_vectors

        inside.has_gradients = has_token_vectors(model)
        if has_attention(model):
            inside.attention = packed(attention_weights(model, ids))
        elif is_recurrent(model):
            inside.layers = [_layer(trace) for trace in recurrent_traces(model, ids)]
    return inside


def _layer(trace: dict[str, NDArray[np.float32]]) -> RecurrentLayer:
    state = trace["hidden state h"]  # (T + 1, H)
    units = np.sort(np.argsort(-state.std(0), kind="stable")[:_N_UNITS])
    traces = [
        Trace(name=name, values=packed(values[:, units]), mean=values.mean(1).tolist())
        for name, values in trace.items()
    ]
    return RecurrentLayer(n_units=state.shape[1], units=units.tolist(), traces=traces)


def _states(predictor: Predictor, model: HasHiddenStates, ids: NDArray[np.int32]) -> tuple[list[State], list[int]]:
    """Returns the states of the most likely path and others that are likely, and the path."""
    posteriors, path = model.posteriors(ids), model.viterbi(ids).tolist()  # (T, K)
    likely = np.argsort(-posteriors.max(0), kind="stable").tolist()
    shown = sorted(list(dict.fromkeys([*path, *likely]))[:_N_STATES], key=lambda state: -posteriors[:, state].sum())
    states = [
        State(
            state=state,
            tokens=typical_texts(predictor.tokenizer, model, state, _TOKENS_OF_STATE),
            probs=posteriors[:, state].tolist(),
        )
        for state in shown
    ]
    return states, path
