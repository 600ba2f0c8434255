"""The exchange algorithm: classes of tokens under which a text is most likely (Kneser & Ney 1993; Martin et al. 1998).

With N(g, h) how often a token of class g is followed by one of class h, and N(g) and N'(h) its sums over h and over g,
the log-likelihood of a text under a class bigram model is, up to what no classes change (Martin, Liermann & Ney 1998,
Algorithms for Bigram and Trigram Word Clustering, Speech Communication 24),

    F = sum_gh N(g, h) log N(g, h) - sum_g N(g) log N(g) - sum_h N'(h) log N'(h)

F per token is, up to a constant, the average mutual information of neighbouring classes, which Brown et al. (1992)
maximise by merging. Here each token in turn, the most frequent ones first, is taken out of its class and put into the
one where F is greatest. No exchange lowers F. It ends when a sweep over the vocabulary gains next to nothing, after
about ten.

To try all G classes for a token with k different classes next to it costs O(k G): a sweep is O(P G) at most, with P
different pairs of neighbours in the text. Memory is O(P + G^2).
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.errors import TrainingError
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read, write
from lmzoo.system.progress import OnProgress, Progress

_I32, _I64, _F64 = types.int32, types.int64, types.float64
_LEAST_GAIN = 1e-6
"""An exchange must gain more, in nats of the whole text: less may be rounding, and could go round in circles."""
_ENOUGH = 1e-4
"""The last sweep gains less, in nats per token: held-out text is no better off for more sweeps."""
_CHUNK = 1 << 10
"""Tokens exchanged between two reports of progress."""
_N_LOG_N = np.arange(1 << 16, dtype=np.float64)
_N_LOG_N[1:] *= np.log(_N_LOG_N[1:])


class Clustering:
    """V tokens in G classes, and the counts of neighbours by class, which every exchange keeps up to date.

    Arrays have two sides: what comes next to a token (0) and what comes before it (1).
    """

    def __init__(self, stream: TokenStream, vocab_size: int, classes: NDArray[np.int32], n_classes: int) -> None:
        """`classes` is (V,) with values below G; EOT is never exchanged."""
        self.classes = classes.copy()
        sides = stream.previous_ids(), stream.ids
        keys, counts = np.unique(sides[0].astype(np.int64) * vocab_size + sides[1], return_counts=True)
        pairs = np.divmod(keys, vocab_size)  # (P,) first tokens, rising, and (P,) second tokens
        by_second = np.argsort(pairs[1], kind="stable")
        self._starts = np.array([np.searchsorted(np.sort(side), np.arange(vocab_size + 1)) for side in pairs])
        self._neighbours = np.array([pairs[1], pairs[0][by_second]], np.int32)  # (2, P) those of token 0, of token 1 ..
        self._pair_counts = np.array([counts, counts[by_second]], np.int32)  # (2, P)
        self._token_counts = np.array([np.bincount(side, minlength=vocab_size) for side in sides])  # (2, V)
        forward = np.zeros((n_classes, n_classes), np.int64)
        np.add.at(forward, (classes[pairs[0]], classes[pairs[1]]), counts)
        self._counts = np.array([forward, forward.T], np.int32, order="C")  # (2, G, G)
        self._totals = np.array([forward.sum(axis=1), forward.sum(axis=0)])  # (2, G)

    @property
    def counts(self) -> NDArray[np.int32]:
        """(G, G) N(g, h), how often a token of class g is followed by one of class h."""
        return self._counts[0]

    def objective(self) -> float:
        """F, in nats of the whole text."""
        cells, totals = (n * np.log(np.maximum(n, 1)) for n in (self.counts, self._totals))
        return float(cells.sum() - totals.sum())

    def exchange(self, tokens: NDArray[np.int32]) -> int:
        """Puts each of these tokens into its best class, one after another; how many moved."""
        return _exchange(
            tokens, self.classes, self._counts, self._totals, self._token_counts,
            self._starts, self._neighbours, self._pair_counts, _N_LOG_N,
        )  # fmt: skip


def cluster(stream: TokenStream, vocab_size: int, n_classes: int, on_progress: OnProgress | None = None) -> Clustering:
    """At most `n_classes` classes of the tokens that a text has. EOT is alone in class 0.

    At first each of the most frequent tokens is a class of its own, and the last class holds the rest. Tokens that the
    text does not have stay in that one. TrainingError if a sweep should lower the objective.
    """
    counts = np.bincount(stream.ids, minlength=vocab_size)
    ranked = 1 + np.argsort(-counts[1:], kind="stable").astype(np.int32)
    seen = ranked[counts[ranked] > 0]
    n_classes = min(n_classes, 1 + max(1, seen.size))
    classes = np.full(vocab_size, n_classes - 1, np.int32)
    classes[EOT], classes[ranked[: n_classes - 2]] = 0, np.arange(1, n_classes - 1)
    clustering = Clustering(stream, vocab_size, classes, n_classes)
    objective, gain, n_sweeps = clustering.objective(), np.inf, 0
    while gain > _ENOUGH * len(stream):
        n_sweeps += 1
        for start in range(0, seen.size, _CHUNK):
            clustering.exchange(seen[start : start + _CHUNK])
            if on_progress:
                done = min(start + _CHUNK, seen.size)
                on_progress(Progress(done, seen.size, "tokens", f"making classes, sweep {n_sweeps}"))
        before, objective = objective, clustering.objective()
        gain = objective - before
        if gain < -_LEAST_GAIN * len(stream):
            raise TrainingError(f"exchanging tokens between classes lowered the log-likelihood by {-gain:.3g} nats")
    return clustering


@kernel(_I64, read(_F64), returns=_F64)
def _n_log_n(n, table):
    return table[n] if n < table.size else n * np.log(np.float64(n))


@kernel(
    _I64, _I64, read(_I32), read(_I64, 2), read(_I32, 2), read(_I32, 2), write(_I64, 2), write(_I64, 2), write(_I64),
    returns=_I64,
)  # fmt: skip
def _look_around(side, token, classes, starts, neighbours, pair_counts, near, near_classes, n_near):
    """Counts a token's neighbours on one side by class, and lists these; returns how often it is its own neighbour."""
    itself = 0
    for i in range(starts[side, token], starts[side, token + 1]):
        if neighbours[side, i] == token:
            itself = pair_counts[side, i]
            continue
        g = classes[neighbours[side, i]]
        if near[side, g] == 0:
            near_classes[side, n_near[side]] = g
            n_near[side] += 1
        near[side, g] += pair_counts[side, i]
    return itself


@kernel(
    _I64, _I64, _I64, _I64, write(_I64, 2), write(_I64, 2), write(_I64), read(_I64, 2), write(_I32, 3), write(_I64, 2)
)
def _shift(sign, token, home, itself, near, near_classes, n_near, token_counts, counts, totals):
    """Adds a token to a class, or takes it out."""
    for side in range(2):
        for k in range(n_near[side]):
            g = near_classes[side, k]
            counts[side, home, g] += sign * near[side, g]
            counts[1 - side, g, home] += sign * near[side, g]
        counts[side, home, home] += sign * itself
        totals[side, home] += sign * token_counts[side, token]


@kernel(
    _I64, _I64, _I64, write(_I64, 2), write(_I64, 2), write(_I64), read(_I64, 2), write(_I32, 3), write(_I64, 2),
    read(_F64), write(_F64), returns=_I64,
)  # fmt: skip
def _best_class(token, own, itself, near, near_classes, n_near, token_counts, counts, totals, table, gains):
    """The class where a token that is in none raises F most; its old one unless another is better."""
    gains[:] = 0.0
    for side in range(2):
        for k in range(n_near[side]):
            g = near_classes[side, k]
            row, n = counts[1 - side, g], near[side, g]
            for home in range(gains.size):
                gains[home] += _n_log_n(row[home] + n, table) - _n_log_n(row[home], table)
    best = own
    for home in range(1, gains.size):  # 0 is the class of EOT
        # Inside a class both sides meet in one cell, to which they must be added together.
        inside = counts[0, home, home]
        apart = -_n_log_n(inside, table)
        together = inside + itself
        for side in range(2):
            apart += _n_log_n(inside + near[side, home], table)
            together += near[side, home]
            total = totals[side, home]
            gains[home] -= _n_log_n(total + token_counts[side, token], table) - _n_log_n(total, table)
        gains[home] += _n_log_n(together, table) - apart
    for home in range(1, gains.size):
        if gains[home] > gains[best] + (_LEAST_GAIN if best == own else 0.0):
            best = home
    return best


@kernel(
    read(_I32), write(_I32), write(_I32, 3), write(_I64, 2), read(_I64, 2), read(_I64, 2), read(_I32, 2), read(_I32, 2),
    read(_F64), returns=_I64,
)  # fmt: skip
def _exchange(tokens, classes, counts, totals, token_counts, starts, neighbours, pair_counts, table):
    n_classes = totals.shape[1]
    near, near_classes = np.zeros((2, n_classes), np.int64), np.empty((2, n_classes), np.int64)
    gains = np.empty(n_classes)
    n_moved = 0
    for token in tokens:
        n_near, itself = np.zeros(2, np.int64), 0
        for side in range(2):
            itself = _look_around(side, token, classes, starts, neighbours, pair_counts, near, near_classes, n_near)
        own = classes[token]
        _shift(-1, token, own, itself, near, near_classes, n_near, token_counts, counts, totals)
        best = _best_class(
            token, own, itself, near, near_classes, n_near, token_counts, counts, totals, table, gains
        )  # fmt: skip
        _shift(1, token, best, itself, near, near_classes, n_near, token_counts, counts, totals)
        classes[token] = best
        n_moved += best != own
        for side in range(2):
            for k in range(n_near[side]):
                near[side, near_classes[side, k]] = 0
    return n_moved
