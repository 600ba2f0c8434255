"""The exchange algorithm learns classes of tokens that maximise the likelihood of a text (Kneser & Ney 1993).

Let N(g, h) be the number of times that a token of class g is followed by a token of class h, and N(g) and N'(h) its
sums over h and over g. The log-likelihood of a text under a class bigram model is F plus a term that does not depend on
the classes (Martin, Liermann & Ney 1998, Algorithms for Bigram and Trigram Word Clustering, Speech Communication 24):

    F = sum_gh N(g, h) log N(g, h) - sum_g N(g) log N(g) - sum_h N'(h) log N'(h)

F per token equals, except for a constant, the average mutual information of neighbouring classes, which Brown et al.
(1992) maximise by merging. The exchange algorithm takes each token in turn, the most frequent first, out of its class
and puts it into the class for which F is greatest. No exchange lowers F. The algorithm ends when a sweep over the
vocabulary raises F by very little, usually after about ten sweeps.

Trying all G classes for a token whose neighbours have k different classes takes O(k G) time. A sweep takes at most
O(P G) time for a text with P different pairs of neighbouring tokens. Memory is O(P + G^2).
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.errors import TrainingError
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read_only, writable
from lmzoo.system.progress import OnProgress, Progress

_I32, _I64, _F64 = types.int32, types.int64, types.float64
_LEAST_GAIN = 1e-6
"""Minimum gain of an exchange, in nats for the whole text. A smaller gain may be a rounding error, and exchanges for
such gains might never end."""
_ENOUGH = 1e-4
"""The algorithm ends after a sweep that gains less than this, in nats per token: further sweeps do not improve the
likelihood of held-out text."""
_CHUNK = 1 << 10
"""Number of tokens between two reports of progress."""
_N_LOG_N = np.arange(1 << 16, dtype=np.float64)
_N_LOG_N[1:] *= np.log(_N_LOG_N[1:])


class Clustering:
    """An assignment of V tokens to G classes, with the counts of neighbouring classes in a text.

    The counts are updated whenever a token is moved to another class. The first axis of the private arrays is the side:
    0 for the counts of a token or class with its next neighbour, 1 for the counts with its previous neighbour.
    """

    def __init__(self, stream: TokenStream, vocab_size: int, classes: NDArray[np.int32], n_classes: int) -> None:
        """Counts the neighbouring classes in the text `stream`, where each token has the class in `classes`.

        `classes` (V,) contains one class, from 0 to `n_classes` - 1, for each of the V = `vocab_size` tokens.
        """
        self.classes = classes.copy()
        sides = stream.previous_ids(), stream.ids
        keys, counts = np.unique(sides[0].astype(np.int64) * vocab_size + sides[1], return_counts=True)
        pairs = np.divmod(keys, vocab_size)  # (P,) first tokens, increasing, and (P,) second tokens
        by_second = np.argsort(pairs[1], kind="stable")
        self._starts = np.array([np.searchsorted(np.sort(side), np.arange(vocab_size + 1)) for side in pairs])
        # (2, P) the neighbours of token 0, of token 1, ..
        self._neighbours = np.array([pairs[1], pairs[0][by_second]], np.int32)
        self._pair_counts = np.array([counts, counts[by_second]], np.int32)  # (2, P)
        self._token_counts = np.array([np.bincount(side, minlength=vocab_size) for side in sides])  # (2, V)
        forward = np.zeros((n_classes, n_classes), np.int64)
        np.add.at(forward, (classes[pairs[0]], classes[pairs[1]]), counts)
        self._counts = np.array([forward, forward.T], np.int32, order="C")  # (2, G, G)
        self._totals = np.array([forward.sum(axis=1), forward.sum(axis=0)])  # (2, G)

    @property
    def counts(self) -> NDArray[np.int32]:
        """The counts N(g, h), as an array (G, G): how often a token of class g is followed by a token of class h."""
        return self._counts[0]

    def objective(self) -> float:
        """Returns the part of the text's log-likelihood that depends on the classes, in nats for the whole text."""
        cells, totals = (n * np.log(np.maximum(n, 1)) for n in (self.counts, self._totals))
        return float(cells.sum() - totals.sum())

    def exchange(self, tokens: NDArray[np.int32]) -> int:
        """Moves each of `tokens`, one after another, to the class that maximises the likelihood of the text.

        Returns the number of tokens that changed their class.
        """
        return _exchange(
            tokens, self.classes, self._counts, self._totals, self._token_counts,
            self._starts, self._neighbours, self._pair_counts, _N_LOG_N,
        )  # fmt: skip


def cluster(stream: TokenStream, vocab_size: int, n_classes: int, on_progress: OnProgress | None = None) -> Clustering:
    """Learns at most `n_classes` classes of tokens from a text with the exchange algorithm.

    Class 0 contains only the end-of-text token. At the start, each of the most frequent tokens has a class of its own,
    and all other tokens are in the last class. Tokens that do not occur in the text stay in the last class. Raises
    TrainingError if a pass over all tokens lowers the log-likelihood of the text by more than rounding errors.
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
                on_progress(Progress(done, seen.size, "tokens", f"learning classes, sweep {n_sweeps}"))
        before, objective = objective, clustering.objective()
        gain = objective - before
        if gain < -_LEAST_GAIN * len(stream):
            raise TrainingError(
                f"sweep {n_sweeps} over the classes lowered the log-likelihood by {-gain:.3g} nats: "
                "please report this error"
            )
    return clustering


@kernel(_I64, read_only(_F64), returns=_F64)
def _n_log_n(n, table):
    return table[n] if n < table.size else n * np.log(np.float64(n))


@kernel(
    _I64, _I64, read_only(_I32), read_only(_I64, 2), read_only(_I32, 2), read_only(_I32, 2), writable(_I64, 2),
    writable(_I64, 2), writable(_I64),
    returns=_I64,
)  # fmt: skip
def _look_around(side, token, classes, starts, neighbours, pair_counts, near, near_classes, n_near):
    """Counts the classes of the tokens that follow a token in a text (`side` = 0) or precede it (`side` = 1).

    Occurrences of the token beside itself are left out of the counts; their number is returned. Inputs:

    - `classes` (V,): class of each of the V tokens of the vocabulary.
    - `neighbours` (2, P): on each side, the different neighbours of token 0, then of token 1, and so on.
    - `starts` (2, V + 1): on each side, the neighbours of token w have the indices from starts[side, w] to
      starts[side, w + 1] - 1.
    - `pair_counts` (2, P): number of times that the text contains each pair of a token and a neighbour.

    Results, for G classes; `near` and `n_near` must be 0 before the call:

    - `near` (2, G): near[side, g] receives the number of neighbours with the class g.
    - `near_classes` (2, G): near_classes[side] receives the classes with a number above 0.
    - `n_near` (2,): n_near[side] receives the number of these classes.
    """
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
    _I64, _I64, _I64, _I64, writable(_I64, 2), writable(_I64, 2), writable(_I64), read_only(_I64, 2), writable(_I32, 3),
    writable(_I64, 2),
)  # fmt: skip
def _shift(sign, token, home, itself, near, near_classes, n_near, token_counts, counts, totals):
    """Updates the class counts when a token is added to the class `home` (`sign` = 1) or removed from it (`sign` = -1).

    - `counts` (2, G, G): counts[0, g, h] is how often class g is followed by class h, and counts[1, g, h] how often it
      is preceded by class h, for G classes. Updated in place.
    - `totals` (2, G): sums of these counts over h. Updated in place.
    - `near`, `near_classes`, `n_near`: counts of the classes of the token's neighbours, from `_look_around`.
    - `itself`: number of times that the token is its own neighbour.
    - `token_counts` (2, V): number of times that each of V tokens has a next and a previous neighbour.
    """
    for side in range(2):
        for k in range(n_near[side]):
            g = near_classes[side, k]
            counts[side, home, g] += sign * near[side, g]
            counts[1 - side, g, home] += sign * near[side, g]
        counts[side, home, home] += sign * itself
        totals[side, home] += sign * token_counts[side, token]


@kernel(
    _I64, _I64, _I64, writable(_I64, 2), writable(_I64, 2), writable(_I64), read_only(_I64, 2), writable(_I32, 3),
    writable(_I64, 2), read_only(_F64), writable(_F64), returns=_I64,
)  # fmt: skip
def _best_class(token, previous, itself, near, near_classes, n_near, token_counts, counts, totals, table, gains):
    """Returns the class to which a token must be added to maximise the likelihood of the text.

    The token must have been removed from its class `previous` before. This class is returned unless another class is
    better by more than `_LEAST_GAIN` nats. The change of the log-likelihood for each of the G classes, apart from a
    constant, is written to `gains` (G,). `table` holds n log n for small integers n; the other arguments are the counts
    of neighbouring classes, as in `_shift`.
    """
    gains[:] = 0.0
    for side in range(2):
        for k in range(n_near[side]):
            g = near_classes[side, k]
            row, n = counts[1 - side, g], near[side, g]
            for home in range(gains.size):
                gains[home] += _n_log_n(row[home] + n, table) - _n_log_n(row[home], table)
    best = previous
    for home in range(1, gains.size):  # 0 is the class of EOT
        # N(home, home) counts neighbours on both sides, so its change is not the sum of the changes of each side.
        inside = counts[0, home, home]
        separately = -_n_log_n(inside, table)
        total_inside = inside + itself
        for side in range(2):
            separately += _n_log_n(inside + near[side, home], table)
            total_inside += near[side, home]
            total = totals[side, home]
            gains[home] -= _n_log_n(total + token_counts[side, token], table) - _n_log_n(total, table)
        gains[home] += _n_log_n(total_inside, table) - separately
    for home in range(1, gains.size):
        if gains[home] > gains[best] + (_LEAST_GAIN if best == previous else 0.0):
            best = home
    return best


@kernel(
    read_only(_I32), writable(_I32), writable(_I32, 3), writable(_I64, 2), read_only(_I64, 2), read_only(_I64, 2),
    read_only(_I32, 2), read_only(_I32, 2), read_only(_F64), returns=_I64,
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
        previous = classes[token]
        _shift(-1, token, previous, itself, near, near_classes, n_near, token_counts, counts, totals)
        best = _best_class(
            token, previous, itself, near, near_classes, n_near, token_counts, counts, totals, table, gains
        )  # fmt: skip
        _shift(1, token, best, itself, near, near_classes, n_near, token_counts, counts, totals)
        classes[token] = best
        n_moved += best != previous
        for side in range(2):
            for k in range(n_near[side]):
                near[side, near_classes[side, k]] = 0
    return n_moved
