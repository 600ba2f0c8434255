"""The arrays of the mixer: what it learns, the position at which it predicts, and how it predicted each bit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import code_width
from lmzoo.models.context_mixing.contexts import N_RECENT
from lmzoo.models.context_mixing.counters import N_STATES
from lmzoo.models.context_mixing.matches import N_LENGTHS, N_MATCHES
from lmzoo.models.context_mixing.other_models import PER_MODEL
from lmzoo.system.compiled import writable

N_MIXERS, N_LAST_MIXERS, N_ROWS = 10, 3, 256
N_CURVES, N_POINTS = 4, 25
PER_CONTEXT, PER_MATCH = 3, 2
BITS = 40
"""Number of rows of an `Account`, one for each bit of a token; no code word has so many bits."""

_FIRST_WEIGHTS = (3.3, 0.0, 2.2)
_FIRST_MATCH_WEIGHT = 0.2
_FIRST_MODEL_WEIGHT = 0.3
_I64, _F32, _F64 = types.int64, types.float32, types.float64


class Learned(NamedTuple):
    """Everything that is learned besides the counters, for C kinds of contexts and mixers with I inputs."""

    meanings: NDArray[np.float32]
    """(C, 1024) the probability of a 1 in each state of a slot."""
    n_meanings: NDArray[np.float32]
    """(C, 1024) the number of bits from which each element of `meanings` was learned, up to a limit."""
    trust: NDArray[np.float64]
    """(2, 64) the probability that a bit predicted by a match is right, for each class of lengths of the match."""
    n_trust: NDArray[np.float64]
    """(2, 64) the number of bits from which each element of `trust` was learned, up to a limit."""
    weights: NDArray[np.float32]
    """(10, 256, I) the 256 rows of weights of each of the ten mixers."""
    last_weights: NDArray[np.float64]
    """(3, 256, 10) the 256 rows of weights of each of the three last mixers."""
    curves: NDArray[np.float32]
    """(4, P, 25) what each of the P curves of each of four maps adds to the probability p, at 25 equally spaced values
    of ln(p / (1 - p))."""


class Moment(NamedTuple):
    """The contexts and the matches at one position of a text, from which the next token is predicted."""

    contexts: NDArray[np.int64]
    """(C,) hash values of the contexts."""
    recent: NDArray[np.int64]
    """(4,) the last tokens."""
    leaves: NDArray[np.int64]
    """(2,) the leaves of the tokens that the matches predict; 0 if there is no match."""
    lengths: NDArray[np.int64]
    """(2,) the lengths of the matches."""
    rows: NDArray[np.int64]
    """(C,) the row of the bucket that each context has for the next three bits, if it has one; see `open_buckets`."""
    sums: NDArray[np.float64]
    """(M, N) the total probability of the tokens below each of N nodes of the code tree under each of M models."""
    probs: NDArray[np.float64]
    """(N,) the total probability of the tokens below each node of the code tree in the mixture; see `distribution`."""
    counting: NDArray[np.int64]
    """(N,) a bit for each context, which is 1 if the context has counted a bit at the node; see `distribution`."""


class Account(NamedTuple):
    """A record of how each bit of a token was predicted, from which the model learns; it has one row for each bit."""

    inputs: NDArray[np.float32]
    """(40, I) the inputs of the mixers."""
    states: NDArray[np.int64]
    """(40, C) the states of the slots; 0 for contexts that have counted no bit."""
    counting: NDArray[np.int64]
    """(40,) a bit for each context, which is 1 if the context has counted a bit; see `open_buckets`."""
    classes: NDArray[np.int64]
    """(40, 2) the classes of the lengths of the matches; -1 if a match predicts no bit."""
    predicted: NDArray[np.int64]
    """(40, 2) the bits that the matches predict."""
    gates: NDArray[np.int64]
    """(40, 10) the number of the row of weights that each mixer used."""
    values: NDArray[np.float64]
    """(40, 10) the results w x of the mixers."""
    last_gates: NDArray[np.int64]
    """(40, 3) the number of the row of weights that each last mixer used."""
    last_values: NDArray[np.float64]
    """(40, 3) the results of the last mixers."""
    curve_rows: NDArray[np.int64]
    """(40, 4) the number of the curve, from 0 to P - 1, that each of the four maps used; -1 if it used none."""
    points: NDArray[np.float64]
    """(40,) the position on the curves: the number of the point below it, plus a fraction."""
    mixed: NDArray[np.float64]
    """(40,) the probability of a 1 that the last mixers computed."""


_LEARNED_TYPES = (
    *(writable(_F32, 2),) * 2, *(writable(_F64, 2),) * 2, writable(_F32, 3), writable(_F64, 3), writable(_F32, 3),
)  # fmt: skip
LEARNED = types.NamedTuple(_LEARNED_TYPES, Learned)
MOMENT = types.NamedTuple((*(writable(_I64),) * 5, writable(_F64, 2), writable(_F64), writable(_I64)), Moment)
_ACCOUNT_TYPES = (
    writable(_F32, 2), writable(_I64, 2), writable(_I64), *(writable(_I64, 2),) * 3, writable(_F64, 2),
    writable(_I64, 2), writable(_F64, 2), writable(_I64, 2), *(writable(_F64),) * 2,
)  # fmt: skip
ACCOUNT = types.NamedTuple(_ACCOUNT_TYPES, Account)


def new_learned(meanings: NDArray[np.float64], n_contexts: int, n_models: int, n_curve_rows: int) -> Learned:
    """Returns the initial values of everything that is learned besides the counters.

    `meanings` (1024,) is the initial probability of a 1 in each state of a slot, `n_contexts` the number of kinds of
    contexts, `n_models` the number of other models, and `n_curve_rows` the number of curves of each map.
    """
    trust = np.tile(1 - 0.5 / np.arange(2.0, N_LENGTHS + 2), (N_MATCHES, 1))
    first_weights = np.array(_FIRST_WEIGHTS) / n_contexts
    parts = [(first_weights, n_contexts), ([_FIRST_MATCH_WEIGHT, 0], N_MATCHES), ([_FIRST_MODEL_WEIGHT, 0], n_models)]
    one_row = np.concatenate([*(np.tile(weights, n) for weights, n in parts), [0]])
    return Learned(
        np.tile(meanings.astype(np.float32), (n_contexts, 1)),
        np.zeros((n_contexts, N_STATES), np.float32),
        trust,
        np.zeros_like(trust),
        np.tile(one_row.astype(np.float32), (N_MIXERS, N_ROWS, 1)),
        np.full((N_LAST_MIXERS, N_ROWS, N_MIXERS), 1 / N_MIXERS),
        np.zeros((N_CURVES, n_curve_rows, N_POINTS), np.float32),
    )


def new_moment(n_contexts: int, n_models: int, vocab_size: int) -> Moment:
    """Returns a `Moment` for C = `n_contexts` contexts and M = `n_models` models, with arrays that are all zeros."""
    n_nodes = 4 * code_width(vocab_size)
    return Moment(
        contexts=np.zeros(n_contexts, np.int64),
        recent=np.zeros(N_RECENT, np.int64),
        leaves=np.zeros(N_MATCHES, np.int64),
        lengths=np.zeros(N_MATCHES, np.int64),
        rows=np.zeros(n_contexts, np.int64),
        sums=np.zeros((n_models, n_nodes)),
        probs=np.zeros(n_nodes),
        counting=np.zeros(n_nodes, np.int64),
    )


def new_account(n_contexts: int, n_models: int) -> Account:
    """Returns an `Account` for C = `n_contexts` contexts and `n_models` models, whose arrays are filled with zeros."""
    n_inputs = PER_CONTEXT * n_contexts + PER_MATCH * N_MATCHES + PER_MODEL * n_models + 1
    return Account(
        inputs=np.zeros((BITS, n_inputs), np.float32),
        states=np.zeros((BITS, n_contexts), np.int64),
        counting=np.zeros(BITS, np.int64),
        classes=np.zeros((BITS, N_MATCHES), np.int64),
        predicted=np.zeros((BITS, N_MATCHES), np.int64),
        gates=np.zeros((BITS, N_MIXERS), np.int64),
        values=np.zeros((BITS, N_MIXERS)),
        last_gates=np.zeros((BITS, N_LAST_MIXERS), np.int64),
        last_values=np.zeros((BITS, N_LAST_MIXERS)),
        curve_rows=np.zeros((BITS, N_CURVES), np.int64),
        points=np.zeros(BITS),
        mixed=np.zeros(BITS),
    )
