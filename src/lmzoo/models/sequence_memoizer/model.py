"""The sequence memoizer: a tree of all contexts of the training text, with discounts and a concentration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_whole
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, StepProgress

# numba is slow to import: the index and the tree are imported where they are used.
if TYPE_CHECKING:
    from lmzoo.models.infinigram.index import ContextIndex
    from lmzoo.models.sequence_memoizer.seating import Seating

N_LENGTHS = 12
"""Number of discounts, and of exponents: one for each length of a context from 0 to 10, and one for all longer ones."""
_FIRST = np.array([0.8] * N_LENGTHS + [0.6] * N_LENGTHS + [0.0])
"""Discounts, exponents and the logarithm of the concentration from which learning starts."""
_LIMITS = [(1e-3, 1 - 1e-3)] * (2 * N_LENGTHS) + [(-7.0, 14.0)]
_PRECISION = 1e-6
"""Learning ends when a step changes the log-likelihood by less than this share of it."""
_N_TUNED = 1 << 20
"""Maximum number of tokens of the validation set from which the parameters are learned."""
_START = np.array([EOT], np.int32)


@final
class SequenceMemoizerModel(LanguageModel[NDArray[np.int64]]):
    """A hierarchical Pitman-Yor process over contexts of all lengths, with numbers of tables that depend on the counts.

    The state of the model is the longest sequence of tokens that ends the text so far and occurs in the training text.
    It is an array (2,): a node or leaf of the tree of contexts, and the length of the sequence. After `fit`,
    `discounts` (12,) and `exponents` (12,) hold one number for each length of a context: 0, 1, .. 10, and 11 or more
    tokens. `concentration` (1,) holds the concentration of the process.
    """

    def __init__(self, vocab_size: int, *, max_context: int) -> None:
        super().__init__(vocab_size)
        check_whole(1, 2**16 - 1, max_context=max_context)
        self.context_size = self.max_context = max_context

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

        self.checked_data(data)
        progress = StepProgress(2, on_progress)
        progress.start("sorting contexts")
        self._become(build_index(data.train, self.vocab_size, self.max_context), *_split(_FIRST))
        progress.start("learning discounts")
        self._seat(*_split(self._learned_parameters(data.valid.ids[:_N_TUNED])))
        progress.start("done")
        return self

    def _learned_parameters(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns the parameters (25,), in the order of `_split`, that are best for tokens of the validation set.

        They maximise the product of the likelihood of the tokens `ids` and a prior x (1 - x) for each discount and
        exponent x. The prior keeps x above 0 and below 1, and makes it 1/2 if no token depends on it.
        """
        from scipy.optimize import minimize  # slow to import, and needed in a fit only

        matches = self._matches(self.initial_state(), ids)

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            log_likelihood, slopes = self._likelihood(parameters, ids, matches)
            shares = parameters[:-1]
            slopes[:-1] += 1 / shares - 1 / (1 - shares)
            return -(log_likelihood + np.log(shares * (1 - shares)).sum()), -slopes

        how: Any = {"jac": True, "method": "L-BFGS-B", "bounds": _LIMITS, "options": {"ftol": _PRECISION}}
        return np.array(minimize(loss, _FIRST, **how).x)

    def _likelihood(
        self, parameters: NDArray[np.float64], ids: NDArray[np.int32], matches: NDArray[np.int64]
    ) -> tuple[float, NDArray[np.float64]]:
        """Sets the parameters (25,), and returns the log-likelihood of tokens and its gradient (25,).

        The parameters are in the order of `_split`.
        """
        from lmzoo.models.sequence_memoizer.seating import empty_seating, seat_backwards

        self._seat(*_split(parameters))
        slopes = empty_seating(self._tree)
        gradient, by_concentration = np.zeros_like(self._parameters.sums), np.zeros(1)
        log_probs = self._score(ids, matches, slopes, gradient, by_concentration)
        seat_backwards(self._tree, self._parameters, self._seating, slopes, gradient, by_concentration)
        by_length = gradient[:, :0:-1].cumsum(axis=1)[:, ::-1]  # all sums beyond a length contain its logarithm
        by_share = np.concatenate([np.bincount(self._numbers, row, N_LENGTHS) for row in by_length]) / parameters[:-1]
        return log_probs.sum(), np.append(by_share, by_concentration)

    # ---- The tree and its customers -------------------------------------------------------------

    def _become(self, index: ContextIndex, *parameters: NDArray[np.float64]) -> Self:
        from lmzoo.models.sequence_memoizer.tree import build_tree

        self.index, self._tree = index, build_tree(index, self.vocab_size)
        self._seat(*parameters)
        self.fitted = True
        return self

    def _seat(
        self, discounts: NDArray[np.float64], exponents: NDArray[np.float64], concentration: NDArray[np.float64]
    ) -> None:
        """Sets the parameters, and computes the customers and probabilities of all contexts in the tree."""
        from lmzoo.models.sequence_memoizer.seating import Parameters, empty_seating, seat

        self.discounts, self.exponents, self.concentration = discounts, exponents, concentration
        sums = np.zeros((2, self.max_context + 2))
        for row, values in zip(sums, (discounts, exponents), strict=True):
            np.cumsum(np.log(values)[self._numbers], out=row[1:])
        self._parameters = Parameters(sums, concentration.item(), 1 / self.vocab_size)
        self._seating = empty_seating(self._tree)
        seat(self._tree, self._parameters, self._seating)
        in_root = slice(self._tree.begins[1])
        self._root_probs = np.full(self.vocab_size, self._seating.left[0] / self.vocab_size)
        self._root_probs[self._tree.tokens[in_root]] = self._seating.probs[in_root]

    @property
    def _numbers(self) -> NDArray[np.intp]:
        """The index of the discount of each length of a context, from 0 to the maximum length."""
        return np.minimum(np.arange(self.max_context + 1), N_LENGTHS - 1)

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> NDArray[np.int64]:
        self.require_fitted()
        return self._matches(np.zeros(2, np.int64), _START)[-1]

    def advance(self, state: NDArray[np.int64], token_id: int) -> NDArray[np.int64]:
        return self._matches(state, np.array([token_id], np.int32))[-1]

    def next_log_probs(self, state: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._distributions(state[None])[0]

    def _matches(self, state: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.int64]:
        """Returns the states (T + 1, 2) before each of the T tokens `ids` and after the last; the first is `state`."""
        from lmzoo.models.sequence_memoizer.reading import match

        matches = np.empty((ids.size + 1, 2), np.int64)
        matches[0] = state
        match(self._tree, self.index.by_next, self.index.starts, self.index.shared, self.max_context, ids, matches)
        return matches

    def _distributions(self, matches: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the log-probabilities (B, V), in nats, of all V tokens in each of B states (B, 2)."""
        from lmzoo.models.sequence_memoizer.reading import fill_rows

        rows = np.empty((len(matches), self.vocab_size))
        fill_rows(self._tree, self.index.next_ids, self._parameters, self._seating, self._root_probs, matches, rows)
        return np.log(rows, out=rows)

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> NDArray[np.int64]:
        return self._matches(self.initial_state(), context)[-1]

    def next_log_probs_batch(self, states: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        return self._distributions(np.array(states, np.int64).reshape(len(states), 2))

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        from lmzoo.models.sequence_memoizer.seating import Seating

        stream = self.checked_stream(ids)
        matches = self._matches(self.initial_state(), stream.ids)
        return self._score(stream.ids, matches, Seating(*[np.empty(0)] * 3), np.empty((0, 0)), np.empty(0))

    def _score(
        self,
        ids: NDArray[np.int32],
        matches: NDArray[np.int64],
        slopes: Seating,
        gradient: NDArray[np.float64],
        by_concentration: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Returns the log-probabilities (T,) of the tokens `ids` (T,) in the states `matches` (T or more, 2).

        Adds the derivatives of their sum to the other arrays, as `reading.score` does.
        """
        from lmzoo.models.sequence_memoizer.reading import score

        log_probs = np.empty(ids.size)
        score(
            self._tree, self.index.next_ids, self._parameters, self._seating, matches, ids, log_probs,
            slopes, gradient, by_concentration,
        )  # fmt: skip
        return log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        matches = self._matches(self.initial_state(), stream.ids)
        wanted = stream.selected(positions)
        for start, stop in self.block_bounds(len(wanted)):
            yield wanted[start:stop], self._distributions(matches[wanted[start:stop]])

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        parameters = {"discounts": self.discounts, "exponents": self.exponents, "concentration": self.concentration}
        return {**self.index.arrays(), **parameters}

    def load_arrays(self, arrays: Arrays) -> Self:
        from lmzoo.models.infinigram.index import ContextIndex

        discounts, exponents = (
            take_array(arrays, name, shape=(N_LENGTHS,), dtype=np.float64) for name in ("discounts", "exponents")
        )
        concentration = take_array(arrays, "concentration", shape=(1,), dtype=np.float64)
        shares = np.append(discounts, exponents)
        if not (((shares > 0) & (shares < 1)).all() and 0 <= concentration[0] < np.inf):
            raise SavedModelError(
                "the saved sequence memoizer is damaged: its discounts and exponents must be above 0 and below 1, and "
                "its concentration must be at least 0"
            )
        index = ContextIndex.from_arrays(arrays, self.vocab_size)
        if index.shared.max() > self.max_context:
            raise SavedModelError(f"the saved context index has contexts of more than {self.max_context} tokens")
        return self._become(index, discounts, exponents, concentration)


def _split(parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the discounts (12,), the exponents (12,) and the concentration (1,), given its logarithm after them."""
    discounts, exponents, log_concentration = np.split(parameters, [N_LENGTHS, 2 * N_LENGTHS])
    return discounts, exponents, np.exp(log_concentration)
