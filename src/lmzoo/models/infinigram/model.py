"""The unbounded n-gram model: a context index of the training text, and discounts by context length and count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_whole
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, StepProgress

# numba is slow to import: the index and its look-ups are imported where they are used.
if TYPE_CHECKING:
    from lmzoo.models.infinigram.index import ContextIndex

_EVIDENCE = 1 << 20
"""Maximum number of rows of evidence in memory (16 MB). The discounts are learned from this many rows."""
_SMALLEST = 1e-3
_NO_ROWS = np.empty((0, 0))


@final
class InfinigramModel(LanguageModel[NDArray[np.int64]]):
    """An n-gram language model of unbounded order: it uses contexts of any length that occur in the training text.

    The state of the model lists every sequence of last tokens of the text so far that also occurs in the training text.
    It is an array (n, 3) with one row for each sequence: the first row of its occurrences in the sorted index of the
    training text, the row after the last one, and the length of the sequence. After `fit`, `discounts` (16, 12) holds
    the discount for each of 16 ranges of this length and 12 ranges of the number of occurrences.
    """

    def __init__(self, vocab_size: int, *, max_context: int) -> None:
        super().__init__(vocab_size)
        check_whole(1, 2**16 - 1, max_context=max_context)
        self.context_size = self._max_context = max_context

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        from lmzoo.models.infinigram.index import build_index
        from lmzoo.models.infinigram.reading import N_LENGTHS, N_SIZES

        self.checked_data(data)
        progress = StepProgress(2, on_progress)
        progress.start("sorting contexts")
        index = build_index(data.train, self.vocab_size, self._max_context)
        progress.start("learning discounts")
        self._become(index, np.full((N_LENGTHS, N_SIZES), 0.5))
        self._become(index, self._learned_discounts(data.valid))
        progress.start("done")
        return self

    def _learned_discounts(self, valid: TokenStream) -> NDArray[np.float64]:
        """Learns the discounts of the model from the first tokens of the validation set `valid`.

        Maximises the product of the likelihood of these tokens and a prior D (1 - D) for each discount D. The prior
        keeps D above 0 and below 1, and gives 1/2 for a discount that no validation token uses. The number of tokens is
        limited, so that their training counts fit in memory.
        """
        from scipy.optimize import minimize  # slow to import, and needed in a fit only

        from lmzoo.models.infinigram.reading import score

        evidence, ends, _ = next(self._read(valid))
        log_probs = np.empty(ends.size)
        shape = self.discounts.shape

        def loss(discounts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            gradient = np.zeros(discounts.size)
            score(evidence, ends, discounts, self.vocab_size, log_probs, gradient)
            prior = np.log(discounts) + np.log1p(-discounts)
            return -(log_probs.sum() + prior.sum()), -(gradient + 1 / discounts - 1 / (1 - discounts))

        bounds = [(_SMALLEST, 1 - _SMALLEST)] * self.discounts.size
        solution: Any = minimize(loss, self.discounts.ravel(), jac=True, method="L-BFGS-B", bounds=bounds)
        return np.ascontiguousarray(solution.x, np.float64).reshape(shape)

    def _become(self, index: ContextIndex, discounts: NDArray[np.float64]) -> Self:
        self.index, self.discounts = index, discounts
        self.fitted = True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> NDArray[np.int64]:
        from lmzoo.models.infinigram.reading import start

        self.require_fitted()
        matches = np.empty((2, 3), np.int64)
        return matches[: start(self.index.starts, matches)]

    def advance(self, state: NDArray[np.int64], token_id: int) -> NDArray[np.int64]:
        return self._walk(state, np.array([token_id], np.int32), _NO_ROWS)

    def next_log_probs(self, state: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = np.empty((1, self.vocab_size))
        self._walk(state, np.zeros(1, np.int32), rows)
        return np.log(rows[0])

    def _walk(self, state: NDArray[np.int64], ids: NDArray[np.int32], rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """Reads the tokens `ids` (T,), starting in the model state `state`, and returns the state after them.

        Also writes the next-token distribution before each token to `rows` (T, V), unless `rows` is empty.
        """
        from lmzoo.models.infinigram.reading import fill_rows

        index, matches = self.index, self._with_room(state, ids.size)
        n_matches = fill_rows(
            ids, index.next_ids, index.by_next, index.starts, index.shared, index.n_types, self._max_context,
            self.discounts.ravel(), self._unigram(), matches, len(state), rows,
        )  # fmt: skip
        return matches[:n_matches].copy()

    def _with_room(self, state: NDArray[np.int64], n_tokens: int) -> NDArray[np.int64]:
        """Returns a copy of a model state with enough unused rows to update it with `n_tokens` more tokens.

        Each row of a state is a sequence of last tokens that occurs in the training text. The number of these sequences
        grows by at most one per token.
        """
        room = np.empty((min(len(state) + n_tokens, self._max_context) + 2, 3), np.int64)
        room[: len(state)] = state
        return room

    def _unigram(self) -> NDArray[np.float64]:
        """Returns the probabilities (V,) of all V tokens after the empty context."""
        from lmzoo.models.infinigram.reading import discount_of

        counts, n_rows = np.diff(self.index.starts), len(self.index)
        discount = self.discounts.ravel()[discount_of(0, n_rows)]
        n_types = int(self.index.n_types[-1])
        return (np.maximum(counts - discount, 0) + discount * n_types / self.vocab_size) / n_rows

    def matched_orders(self, ids: ArrayLike | TokenStream) -> NDArray[np.int64]:
        """Returns, for each of T tokens, the length of the longest training n-gram that ends with the token.

        A token that does not occur in training has the length 1.
        """
        parts = [longest for _, _, longest in self._read(self.checked_stream(ids))]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> NDArray[np.int64]:
        return self._walk(self.initial_state(), context, _NO_ROWS)

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        from lmzoo.models.infinigram.reading import score

        stream = self.checked_stream(ids)
        log_probs, done = np.empty(len(stream)), 0
        for evidence, ends, _ in self._read(stream):
            here = log_probs[done : done + ends.size]
            score(evidence, ends, self.discounts.ravel(), self.vocab_size, here, np.empty(0))
            done += ends.size
        return log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        if positions is not None:  # few positions: the states of their contexts are cheaper than a whole stream
            yield from super().stream_log_probs(stream, positions)
            return
        state = self.initial_state()
        for start, stop in self.block_bounds(len(stream)):
            rows = np.empty((stop - start, self.vocab_size))
            state = self._walk(state, stream.ids[start:stop], rows)
            yield np.arange(start, stop), np.log(rows, out=rows)

    def _read(self, stream: TokenStream) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]]:
        """Yields the training counts from which the tokens of a stream are predicted, for successive parts of it.

        A token is predicted from several contexts, sequences of tokens before it. Each item is a tuple of three arrays
        for a part of T tokens:

        - `evidence` (N, 4): in each row, counts for one token and one of its contexts; see `reading.collect` for the
          columns. The next item overwrites this array.
        - `ends` (T,): the rows of token t end before row ends[t]; the first token begins at row 0.
        - `longest` (T,): length of the longest n-gram that ends with each token and occurs in training.
        """
        from lmzoo.models.infinigram.reading import collect

        index, state, done = self.index, self.initial_state(), 0
        matches = self._with_room(state, len(stream))
        n_matches = np.array([len(state)])
        evidence = np.empty((max(_EVIDENCE, len(matches)), 4), np.int32)
        ends, longest = np.empty(len(stream), np.int64), np.empty(len(stream), np.int64)
        while done < len(stream):
            n = collect(
                stream.ids[done:], index.by_next, index.starts, index.shared, index.n_types, self._max_context,
                matches, n_matches, evidence, ends[done:], longest[done:],
            )  # fmt: skip
            yield evidence, ends[done : done + n], longest[done : done + n]
            done += n

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {**self.index.arrays(), "discounts": self.discounts}

    def load_arrays(self, arrays: Arrays) -> Self:
        from lmzoo.models.infinigram.index import ContextIndex
        from lmzoo.models.infinigram.reading import N_LENGTHS, N_SIZES

        discounts = take_array(arrays, "discounts", shape=(N_LENGTHS, N_SIZES), dtype=np.float64)
        if not ((discounts > 0) & (discounts < 1)).all():
            raise SavedModelError("the saved infini-gram model is damaged: its discounts must be above 0 and below 1")
        index = ContextIndex.from_arrays(arrays, self.vocab_size)
        return self._become(index, np.require(discounts, None, ["C", "A"]))
