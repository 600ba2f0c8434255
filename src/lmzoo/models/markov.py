"""First-order Markov chain (Markov 1913; Shannon 1948): the next token w depends only on the last token v.

The transition probabilities are estimated from the counts c(v, w) of pairs of tokens. Most pairs of a large vocabulary
never occur, so a Dirichlet prior smooths each row of the transition table towards the unigram probabilities (MacKay &
Peto 1995, A Hierarchical Dirichlet Language Model):

    P(w | v) = (c(v, w) + alpha P(w)) / (c(v) + alpha),    P(w) = (c(w) + 1) / (T + V)

Here T is the number of tokens of the training text and V the size of the vocabulary.

What a Markov chain cannot do: use more than one token of context. After "she went to the store and" it knows only
"and".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_positive
from lmzoo.errors import SavedModelError
from lmzoo.models.short_context import ShortContextModel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress


def _count_pairs(stream: TokenStream, vocab_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts the P different pairs of neighbouring tokens; returns sorted keys (P,) and counts (P,).

    The key of a pair is previous * V + next, with V = `vocab_size`.
    """
    keys = stream.previous_ids().astype(np.int64) * vocab_size + stream.ids
    return np.unique(keys, return_counts=True)


@final
class MarkovChain(ShortContextModel[int]):
    """A first-order Markov chain, whose state is the id of the last token."""

    context_size = 1
    exact_in_batches = True

    def __init__(self, vocab_size: int, *, alpha: float | None) -> None:
        super().__init__(vocab_size)
        check_positive(none_means="to tune it on valid", alpha=alpha)
        self.alpha = alpha

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        keys, counts = _count_pairs(data.train, self.vocab_size)
        self._starts = np.searchsorted(keys, np.arange(self.vocab_size + 1) * self.vocab_size)  # (V + 1,)
        self._next_ids = (keys % self.vocab_size).astype(np.int32)  # (P,) sorted by row
        self._counts = counts.astype(np.float64)  # (P,)
        unigram = np.bincount(data.train.ids, minlength=self.vocab_size) + 1.0
        self._unigram = unigram / unigram.sum()  # (V,)
        self._prior = np.array([self.alpha or self._tuned_alpha(data.valid)], np.float64)
        self._prepare()
        if on_progress:
            on_progress(Progress(len(data.train), len(data.train), "tokens"))
        return self

    def _tuned_alpha(self, valid: TokenStream) -> float:
        """Returns the prior weight alpha that maximises the likelihood of the validation set.

        The likelihood has a single maximum in log alpha.
        """
        from scipy.optimize import minimize_scalar  # slow to import, and needed in a fit only

        previous, observed = valid.previous_ids(), valid.ids
        pair_counts = self._pair_counts(previous, observed)
        totals = self._row_totals()[previous]

        def loss(log_alpha: float) -> float:
            alpha = np.exp(log_alpha)
            return -np.log((pair_counts + alpha * self._unigram[observed]) / (totals + alpha)).sum()

        best: Any = minimize_scalar(loss, bounds=(np.log(1e-3), np.log(1e6)), method="bounded")
        return float(np.exp(best.x))

    def _pair_counts(self, previous: NDArray[np.int32], following: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns the training counts (B,) of B pairs of tokens, by binary search in the sorted keys of all pairs."""
        keys = np.repeat(np.arange(self.vocab_size), np.diff(self._starts)) * self.vocab_size + self._next_ids
        wanted = previous.astype(np.int64) * self.vocab_size + following
        indices = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[indices] == wanted, self._counts[indices], 0)

    def _row_totals(self) -> NDArray[np.float64]:
        """Returns the number of times (V,) that each token occurs in training before another token."""
        return np.diff(np.concatenate([[0], np.cumsum(self._counts)])[self._starts])

    def _prepare(self) -> None:
        """Computes the log-probability of each pair of tokens that occurs in training, and the log back-off weights.

        The back-off weight of a token v is alpha / (c(v) + alpha), where c(v) is the number of tokens that followed v
        in training and alpha the weight of the prior. After v, a token that never followed v has its unigram
        probability times this weight.
        """
        alpha = self._prior[0]
        totals = self._row_totals()
        self._log_unigram = np.log(self._unigram)
        self._log_backoff = np.log(alpha / (totals + alpha))  # (V,)
        rows = np.repeat(np.arange(self.vocab_size), np.diff(self._starts))
        self._log_transitions = np.log((self._counts + alpha * self._unigram[self._next_ids]) / (totals[rows] + alpha))
        self.fitted = True

    def initial_state(self) -> int:
        return EOT

    def advance(self, state: int, token_id: int) -> int:
        return token_id

    def next_log_probs(self, state: int) -> NDArray[np.float64]:
        log_probs = self._log_unigram + self._log_backoff[state]  # (V,)
        seen = slice(self._starts[state], self._starts[state + 1])
        log_probs[self._next_ids[seen]] = self._log_transitions[seen]
        return log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        # Positions are sorted by their previous token, so that each row of the table is computed once per block.
        previous = stream.previous_ids()
        wanted = stream.selected(positions)
        order = wanted[np.argsort(previous[wanted], kind="stable")]
        for start, stop in self.block_bounds(len(order)):
            part = order[start:stop]
            states, rows = np.unique(previous[part], return_inverse=True)
            yield part, np.array([self.next_log_probs(state) for state in states.tolist()])[rows]

    def log_probs(self, ids: Any) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        previous, alpha = stream.previous_ids(), self._prior[0]
        pair_counts = self._pair_counts(previous, stream.ids)
        return np.log((pair_counts + alpha * self._unigram[stream.ids]) / (self._row_totals()[previous] + alpha))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "starts": self._starts,
            "next_ids": self._next_ids,
            "counts": self._counts,
            "unigram": self._unigram,
            "prior": self._prior,
        }

    def load_arrays(self, arrays: Arrays) -> Self:
        self._starts = take_array(arrays, "starts", shape=(self.vocab_size + 1,), dtype=np.int64)
        self._next_ids = take_array(arrays, "next_ids", shape=(None,), dtype=np.int32)
        self._counts = take_array(arrays, "counts", shape=(len(self._next_ids),), dtype=np.float64)
        self._unigram = take_array(arrays, "unigram", shape=(self.vocab_size,), dtype=np.float64)
        self._prior = take_array(arrays, "prior", shape=(1,), dtype=np.float64)
        ordered = (
            self._starts[0] == 0 and self._starts[-1] == len(self._next_ids) and (np.diff(self._starts) >= 0).all()
        )
        if not ordered or (
            len(self._next_ids) and not 0 <= self._next_ids.min() <= self._next_ids.max() < self.vocab_size
        ):
            raise SavedModelError("the saved Markov chain is damaged: its rows do not match its transitions")
        self._prepare()
        return self


def markov(vocab_size: int, *, alpha: float | None = None) -> MarkovChain:
    """Creates a first-order Markov chain, which predicts a token from the last token.

    `alpha` is the weight of the unigram prior, in pseudo-counts; None = tuned on the validation set.
    """
    return MarkovChain(vocab_size, alpha=alpha)
