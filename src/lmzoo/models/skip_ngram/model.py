"""The skip n-gram model: interpolation weights of its contexts, learned by EM, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_whole
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.skip_ngram.tables import ContextTables, count_contexts, recent_tokens
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

MAX_ORDER = 6
_N_BUCKETS = 100
_MAX_STEPS = 200
_ENOUGH = 1e-6
"""EM ends when a step raises the mean log-likelihood by less than this, in nats per token."""


def _weights(lambdas: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Computes the weights with which a skip n-gram model averages the distributions that it predicts from P contexts.

    Each of B predictions is made from one context, chosen at random. The contexts are tried in turn, from the last row
    of `lambdas` (P, B) to the first, and `lambdas` holds the probability that a context is chosen when it is tried. If
    none is chosen, the prediction is uniform. The weight of a context is the probability that it is chosen. For
    example, the lambdas 0.2, 0.4 and 0.5, from the first row to the last, give the weights 0.5 * 0.6 * 0.2 = 0.06, 0.5
    * 0.4 = 0.2 and 0.5; the uniform distribution has the weight 0.24.

    Returns the weights of the contexts (P, B) and of the uniform distribution (B,).
    """
    passed_on = np.cumprod(1 - lambdas[::-1], axis=0)[::-1]
    reached = np.concatenate([passed_on[1:], np.ones((1, lambdas.shape[1]))])
    return lambdas * reached, passed_on[0]


def _learn_lambdas(
    tables: ContextTables, left_over: NDArray[np.float64], valid: TokenStream, order: int
) -> NDArray[np.float64]:
    """Learns the interpolation weights of the C contexts of a skip n-gram model on the validation set, by EM.

    A weight (lambda) is the probability that the context makes the prediction, given that no context before it in a
    fixed order has made the prediction. `left_over` (C + 1,) is the fraction of the counts of each context that
    discounting has removed. Contexts with the same pattern of tokens and a similar fraction share a lambda. Returns the
    lambdas (C + 1,); the last one is 0, for all contexts that do not occur in training.

    For each lambda, one pseudo-token is added to the validation set, for which the context makes the prediction with a
    probability of about 1 - `left_over`. The pseudo-token determines a lambda without validation tokens, and keeps all
    lambdas above 0 and below 1.
    """
    n_patterns = tables.first.size - 1
    patterns = np.repeat(np.arange(n_patterns), np.diff(tables.first))
    buckets = patterns * _N_BUCKETS + np.minimum((left_over[:-1] * _N_BUCKETS).astype(np.intp), _N_BUCKETS - 1)
    buckets = np.append(buckets, n_patterns * _N_BUCKETS)  # the bucket of unseen contexts
    prior = np.append(np.tile(1 - (np.arange(_N_BUCKETS) + 0.5) / _N_BUCKETS, n_patterns), 0)
    contexts = tables.find(recent_tokens(valid, order))  # (P, T)
    probs, bucket = tables.probs_of(valid.ids, contexts), buckets[contexts]
    lambdas, best = prior, -np.inf
    for _ in range(_MAX_STEPS):
        weights, rest = _weights(lambdas[bucket])
        posterior = weights * probs  # (P, T)
        total = posterior.sum(axis=0) + rest / tables.vocab_size
        posterior /= total  # the probability that each pattern made the prediction
        reached = 1 - np.cumsum(posterior[::-1], axis=0)[::-1] + posterior  # that the patterns before it did not
        n_made, n_reached = (np.bincount(bucket.ravel(), n.ravel(), prior.size) for n in (posterior, reached))
        lambdas = np.append(((n_made + prior) / (n_reached + 1))[:-1], 0)
        log_likelihood = np.log(total).mean()
        if log_likelihood - best < _ENOUGH:
            break
        best = log_likelihood
    return lambdas[buckets]


@final
class SkipNgramModel(LanguageModel[tuple[int, ...]]):
    """A language model that predicts a token from all subsets of the last n - 1 tokens.

    The state of the model is the tuple of the last n - 1 token ids, the last one first. Positions before the start of
    the document have the id EOT.
    """

    exact_in_batches = True

    def __init__(self, vocab_size: int, *, order: int) -> None:
        super().__init__(vocab_size)
        check_whole(2, MAX_ORDER, order=order)
        self.order = order
        self.context_size = order - 1

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        tables, left_over = count_contexts(data.train, self.vocab_size, self.order, on_progress)
        if on_progress:
            on_progress(
                Progress(tables.first.size - 1, tables.first.size - 1, "patterns", "learning interpolation weights")
            )
        return self._become(tables, _learn_lambdas(tables, left_over, data.valid, self.order))

    def _become(self, tables: ContextTables, lambdas: NDArray[np.float64]) -> Self:
        self._tables, self._lambdas = tables, lambdas
        self.fitted = True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> tuple[int, ...]:
        self.require_fitted()
        return (EOT,) * (self.order - 1)

    def advance(self, state: tuple[int, ...], token_id: int) -> tuple[int, ...]:
        return self.initial_state() if token_id == EOT else (token_id, *state[:-1])

    def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
        return self._rows(np.array(state, np.int64)[:, None])[0]

    def _rows(self, recent: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the log-probabilities (B, V) of all V tokens at each of B positions of a text.

        `recent` (n - 1, B) are the last n - 1 tokens before each position, the last one first.
        """
        from lmzoo.models.skip_ngram.filling import add_predictions  # numba is slow to import

        tables = self._tables
        contexts = tables.find(recent)
        weights, rest = _weights(self._lambdas[contexts])
        rows = np.repeat(rest[:, None] / self.vocab_size, self.vocab_size, axis=1)
        add_predictions(contexts, weights, tables.starts, tables.tokens, tables.probs, rows)
        return np.log(rows, out=rows)

    # ---- Speed ----------------------------------------------------------------------------------

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        contexts = self._tables.find(recent_tokens(stream, self.order))
        weights, rest = _weights(self._lambdas[contexts])
        return np.log((weights * self._tables.probs_of(stream.ids, contexts)).sum(axis=0) + rest / self.vocab_size)

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        wanted = stream.selected(positions)
        recent = recent_tokens(stream, self.order)[:, wanted]
        for start, stop in self.block_bounds(len(wanted)):
            yield wanted[start:stop], self._rows(recent[:, start:stop])

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        tables = self._tables
        return {
            "first": tables.first,
            "keys": tables.keys,
            "starts": tables.starts,
            "tokens": tables.tokens,
            "probs": tables.probs,
            "lambdas": self._lambdas,
        }

    def load_arrays(self, arrays: Arrays) -> Self:
        first = take_array(arrays, "first", shape=((1 << (self.order - 1)) + 1,), dtype=np.int64)
        keys = take_array(arrays, "keys", shape=(None,), dtype=np.int64)
        starts = take_array(arrays, "starts", shape=(keys.size + 2,), dtype=np.int64)
        tokens = take_array(arrays, "tokens", shape=(None,), dtype=np.int32)
        probs = take_array(arrays, "probs", shape=(tokens.size,), dtype=np.float64)
        lambdas = take_array(arrays, "lambdas", shape=(keys.size + 1,), dtype=np.float64)
        if not (
            (first[0], first[-1], starts[0]) == (0, keys.size, 0)
            and (np.diff(first) > 0).all()
            and (np.diff(starts[:-1]) > 0).all()
            and starts[-2] == starts[-1] == tokens.size
            and 0 <= tokens.min() <= tokens.max() < self.vocab_size
        ):
            raise SavedModelError("the saved skip n-gram model is damaged: contexts or tokens are out of range")
        sums = np.add.reduceat(probs, starts[:-2])  # a comparison with NaN is false
        if not (probs.min() >= 0 and np.allclose(sums, 1) and lambdas.min() >= 0 and lambdas.max() < 1):
            raise SavedModelError("the saved skip n-gram model is damaged: it has probabilities outside 0 to 1")
        starts, tokens, probs = (np.require(array, None, ["C", "A"]) for array in (starts, tokens, probs))
        return self._become(ContextTables(first, keys, starts, tokens, probs, self.vocab_size), lambdas)
