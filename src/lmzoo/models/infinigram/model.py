"""The language model on a context index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_whole
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

# numba is slow to import: the index and its reading are imported where they are used.
if TYPE_CHECKING:
    from lmzoo.models.infinigram.index import ContextIndex

_EVIDENCE = 1 << 20
"""Rows of evidence that are held at a time, 16 MB; discounts are learned from as many."""
_SMALLEST = 1e-3
_NO_ROWS = np.empty((0, 0))


@final
class InfinigramModel(LanguageModel[NDArray[np.int64]]):
    """Contexts of any length; a state is its (n, 3) matches: first row, row after the last, and length of each.

    `discounts` (N_LENGTHS, N_SIZES) are by the length of a context and the logarithm of its count.
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

        data.checked(self.vocab_size)

        def report(done: int, message: str) -> None:
            if on_progress:
                on_progress(Progress(done, 2, "steps", message))

        report(0, "sorting contexts")
        index = build_index(data.train, self.vocab_size, self._max_context)
        report(1, "learning discounts")
        self._become(index, np.full((N_LENGTHS, N_SIZES), 0.5))
        self._become(index, self._learned_discounts(data.valid))
        report(2, "done")
        return self

    def _learned_discounts(self, valid: TokenStream) -> NDArray[np.float64]:
        """The discounts under which the first tokens of valid are most likely: as many as there is evidence on at once.

        Each has seen one token kept and one freed beforehand, so that those that valid says nothing on are 1/2.
        """
        from lmzoo.models.infinigram.reading import weigh

        evidence, ends, _ = next(self._read(valid))
        log_probs = np.empty(ends.size)
        shape = self.discounts.shape

        def loss(discounts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            gradient = np.zeros(discounts.size)
            weigh(evidence, ends, discounts, self.vocab_size, log_probs, gradient)
            prior = np.log(discounts) + np.log1p(-discounts)
            return -(log_probs.sum() + prior.sum()), -(gradient + 1 / discounts - 1 / (1 - discounts))

        bounds = [(_SMALLEST, 1 - _SMALLEST)] * self.discounts.size
        found: Any = minimize(loss, self.discounts.ravel(), jac=True, method="L-BFGS-B", bounds=bounds)
        return np.ascontiguousarray(found.x, np.float64).reshape(shape)

    def _become(self, index: ContextIndex, discounts: NDArray[np.float64]) -> Self:
        self.index, self.discounts = index, discounts
        self.fitted = True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> NDArray[np.int64]:
        from lmzoo.models.infinigram.reading import start

        self.require_fitted()
        matches = np.empty((2, 3), np.int64)
        return matches[: start(self.index.first_places, matches)]

    def advance(self, state: NDArray[np.int64], token_id: int) -> NDArray[np.int64]:
        return self._walk(state, np.array([token_id], np.int32), _NO_ROWS)

    def next_log_probs(self, state: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = np.empty((1, self.vocab_size))
        self._walk(state, np.zeros(1, np.int32), rows)
        return np.log(rows[0])

    def _walk(self, state: NDArray[np.int64], ids: NDArray[np.int32], rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """The state after `ids`. Fills `rows` (T, V), if there are any, with the probabilities before each of them."""
        from lmzoo.models.infinigram.reading import fill_rows

        index, matches = self.index, self._room(state, ids.size)
        n_matches = fill_rows(
            ids, index.next_ids, index.places, index.first_places, index.shared, index.n_types, self._max_context,
            self.discounts.ravel(), self._unigram(), matches, len(state), rows,
        )  # fmt: skip
        return matches[:n_matches].copy()

    def _room(self, state: NDArray[np.int64], n_tokens: int) -> NDArray[np.int64]:
        """A copy of the state with room for the matches after so many tokens: each adds at most one."""
        room = np.empty((min(len(state) + n_tokens, self._max_context) + 2, 3), np.int64)
        room[: len(state)] = state
        return room

    def _unigram(self) -> NDArray[np.float64]:
        """(V,) the probabilities after the empty context."""
        from lmzoo.models.infinigram.reading import discount_of

        counts, n_rows = np.diff(self.index.first_places), len(self.index)
        discount = self.discounts.ravel()[discount_of(0, n_rows)]
        n_types = int(self.index.n_types[-1])
        return (np.maximum(counts - discount, 0) + discount * n_types / self.vocab_size) / n_rows

    def matched_orders(self, ids: ArrayLike | TokenStream) -> NDArray[np.int64]:
        """(T,) the length of the longest n-gram that ends in each token and was seen in training; at least 1."""
        parts = [longest for _, _, longest in self._read(self.checked_stream(ids))]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> NDArray[np.int64]:
        return self._walk(self.initial_state(), context, _NO_ROWS)

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        from lmzoo.models.infinigram.reading import weigh

        stream = self.checked_stream(ids)
        log_probs, done = np.empty(len(stream)), 0
        for evidence, ends, _ in self._read(stream):
            here = log_probs[done : done + ends.size]
            weigh(evidence, ends, self.discounts.ravel(), self.vocab_size, here, np.empty(0))
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
        """The evidence on the tokens of a stream, part by part (see `reading.collect`); reused for the next part."""
        from lmzoo.models.infinigram.reading import collect

        index, state, done = self.index, self.initial_state(), 0
        matches = self._room(state, len(stream))
        n_matches = np.array([len(state)])
        evidence = np.empty((max(_EVIDENCE, len(matches)), 4), np.int32)
        ends, longest = np.empty(len(stream), np.int64), np.empty(len(stream), np.int64)
        while done < len(stream):
            n = collect(
                stream.ids[done:], index.places, index.first_places, index.shared, index.n_types, self._max_context,
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
            raise SavedModelError("the saved discounts must lie between 0 and 1")
        index = ContextIndex.from_arrays(arrays, self.vocab_size)
        return self._become(index, np.require(discounts, None, ["C", "A"]))
