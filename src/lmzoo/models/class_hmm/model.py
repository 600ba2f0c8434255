"""The large hidden Markov model as a language model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_count
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.class_hmm.layout import EOT_CLASS, EOT_STATE, START, Layout, Parameters, StateDistribution
from lmzoo.models.class_hmm.learning import Fit, Settings
from lmzoo.models.hidden_states import StateSummary, summaries, top
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress

# numba is slow to import: inference is imported where it is used.
if TYPE_CHECKING:
    from lmzoo.models.class_hmm.inference import Filtered

_ROWS = 256
"""Number of distributions computed at a time, by matrix products."""
_MANY_STEPS, _ENOUGH = 1000, 1e-6
"""Largest number of steps of the power method, and the change in total probability at which it stops."""


@final
class ClassHiddenMarkovModel(LanguageModel[StateDistribution]):
    """A hidden Markov model each of whose states can emit only the tokens of one class.

    The state from which a token is predicted is a distribution over the hidden states of the class of the last token.
    For K hidden states, V tokens and classes of m hidden states each, updating this distribution takes m^2
    multiplications, and computing the distribution over the next token takes m K + m V. All arrays are float32.
    """

    context_size = None

    def __init__(self, vocab_size: int, settings: Settings) -> None:
        super().__init__(vocab_size)
        self.settings = settings

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        fit = Fit(data, self.vocab_size, self.settings, seed)
        return self._set_parameters(*fit.run(on_progress=on_progress, checkpoint=checkpoint))

    def _set_parameters(self, layout: Layout, parameters: Parameters) -> Self:
        self._layout, self._parameters = layout, parameters
        self.fitted = True
        return self

    @property
    def n_states(self) -> int:
        return self._layout.n_states

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> StateDistribution:
        self.require_fitted()
        return START

    def advance(self, state: StateDistribution, token_id: int) -> StateDistribution:
        layout, (transmat, emissions) = self._layout, self._parameters
        token_class = int(layout.classes[token_id])
        first, end = layout.block(token_class)
        emission = emissions[layout.first_emission[token_id] :][: end - first]
        joint = (state.probs @ transmat[slice(*layout.block(state.token_class)), first:end]) * emission  # (m,)
        return StateDistribution(token_class, joint / joint.sum())

    def next_log_probs(self, state: StateDistribution) -> NDArray[np.float64]:
        return self._log_emitted(self.next_states(state)[None])[0].astype(np.float64)

    def _log_emitted(self, predictive: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the log-probabilities (N, V) of V tokens, from N distributions (N, K) over K hidden states."""
        layout = self._layout
        probs = np.empty((len(predictive), self.vocab_size), np.float32)  # tokens sorted by class
        for token_class in range(layout.n_classes):
            tokens = slice(*layout.first_token[token_class:][:2])
            emissions = layout.emissions_of(token_class, self._parameters.emissions)
            probs[:, tokens] = predictive[:, slice(*layout.block(token_class))] @ emissions.T
        log_probs = np.empty_like(probs)
        log_probs[:, layout.tokens] = np.log(probs, out=probs)
        return log_probs

    # ---- Speed ----------------------------------------------------------------------------------

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        from lmzoo.models.class_hmm.inference import likelihoods

        return np.log(likelihoods(self.checked_stream(ids), self._layout, self._parameters), dtype=np.float64)

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        from lmzoo.models.class_hmm.inference import chains, filtered_blocks

        wanted = stream.mask(positions)
        for chain in chains(stream):
            for block, before, filtered in filtered_blocks(chain, stream, self._layout, self._parameters):
                in_block = np.flatnonzero(wanted[block])  # positions to predict
                for part in np.split(in_block, range(_ROWS, len(in_block), _ROWS)):
                    if len(part):
                        yield block.start + part, self._log_emitted(self._predictive(part, before, filtered))

    def _predictive(
        self, positions: NDArray[np.intp], before: StateDistribution, filtered: Filtered
    ) -> NDArray[np.float32]:
        """Returns the predictive distributions (N, K) over K hidden states at N positions of a block of tokens.

        A predictive distribution is the product of the state distribution after the previous token and the transition
        probabilities. `before` is the state distribution before the block, and `filtered` holds those after each of its
        tokens.
        """
        layout = self._layout
        classes = np.concatenate([[before.token_class], layout.classes[filtered.ids[:-1]]])[positions]
        starts = np.concatenate([[0], len(before.probs) + filtered.offsets[:-2]])[positions]
        probs = np.concatenate([before.probs, filtered.probs])
        predictive = np.empty((len(positions), layout.n_states), np.float32)
        for token_class in np.unique(classes).tolist():
            first, end = layout.block(token_class)
            rows = np.flatnonzero(classes == token_class)
            predictive[rows] = probs[starts[rows, None] + np.arange(end - first)] @ self._parameters.transmat[first:end]
        return predictive

    # ---- Hidden states ---------------------------------------------------------------------------

    def viterbi(self, ids: ArrayLike | TokenStream) -> NDArray[np.intp]:
        """Returns the hidden state (T,) at each of T tokens on the most likely path through each document."""
        from lmzoo.models.class_hmm.inference import most_likely_path

        return most_likely_path(self.checked_stream(ids).ids, self._layout, self._parameters)

    def posteriors(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """Returns the probability (T, K) of each of K hidden states at each of T tokens, given the whole document."""
        from lmzoo.models.class_hmm.inference import posteriors

        return posteriors(self.checked_stream(ids).ids, self._layout, self._parameters).astype(np.float64)

    def sample_document(
        self, rng: np.random.Generator, max_tokens: int = 1000
    ) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Samples a document, and returns its T token ids (T,) and the hidden states (T,) that emitted them.

        The document ends with EOT (the end-of-text token), or after `max_tokens` tokens.
        """
        self.require_fitted()
        check_count(0, max_tokens=max_tokens)
        layout, (transmat, emissions) = self._layout, self._parameters
        ids, path, state = [], [], EOT_STATE
        while len(ids) < max_tokens and EOT not in ids[-1:]:
            state = _sample(rng, transmat[state])
            token_class = int(layout.class_of_state[state])
            in_class = layout.emissions_of(token_class, emissions)[:, state - layout.block(token_class)[0]]
            ids.append(layout.tokens[layout.first_token[token_class] + _sample(rng, in_class)])
            path.append(state)
        return np.array(ids, np.int32), np.array(path, np.intp)

    def state_table(self, k: int = 10) -> list[StateSummary]:
        """Returns a summary of every hidden state, class by class, with its `k` most likely tokens and next states."""
        self.require_fitted()
        transmat = self._parameters.transmat
        return summaries(_stationary(transmat), transmat, self.typical_tokens, k)

    def typical_tokens(self, hidden_state: int, k: int = 10) -> list[tuple[int, float]]:
        """Returns the `k` tokens that a hidden state emits most often, as pairs (token id, probability)."""
        layout = self._layout
        token_class = int(layout.class_of_state[hidden_state])
        in_class = layout.emissions_of(token_class, self._parameters.emissions)
        tokens = layout.tokens[layout.first_token[token_class] :]
        column = in_class[:, hidden_state - layout.block(token_class)[0]]
        return [(int(tokens[index]), prob) for index, prob in top(column, k)]

    def next_states(self, state: StateDistribution) -> NDArray[np.float32]:
        """Returns the probability (K,) that each of K hidden states emits the next token."""
        return state.probs @ self._parameters.transmat[slice(*self._layout.block(state.token_class))]

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        self.require_fitted()
        layout = self._layout
        return {"classes": layout.classes, "n_states_of": layout.n_states_of, **self._parameters._asdict()}

    def load_arrays(self, arrays: Arrays) -> Self:
        classes = take_array(arrays, "classes", shape=(self.vocab_size,), dtype=np.int32)
        n_states_of = take_array(arrays, "n_states_of", shape=(None,), dtype=np.int64)
        used = np.unique(classes)
        if not (
            np.array_equal(used, np.arange(len(n_states_of))) and np.array_equal(np.flatnonzero(classes == 0), [EOT])
        ):
            raise SavedModelError(
                "the saved token classes must be numbered from 0 without gaps, with end-of-text alone in class 0"
            )
        if n_states_of[EOT_CLASS] != 1 or n_states_of.min() < 1 or n_states_of.sum() != self.settings.n_states:
            raise SavedModelError(
                f"the saved classes must have {self.settings.n_states} states in total, and end-of-text one state"
            )
        layout = Layout(classes, n_states_of)
        transmat = take_array(arrays, "transmat", shape=(layout.n_states,) * 2, dtype=np.float32)
        emissions = take_array(arrays, "emissions", shape=(layout.n_emissions,), dtype=np.float32)
        for name, probs, sums in (
            ("transmat", transmat, transmat.sum(axis=1)),
            ("emissions", emissions, np.bincount(layout.state_of_emission, emissions)),
        ):
            if not ((probs > 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-3)):
                raise SavedModelError(f"the rows of the saved array '{name}' must be positive numbers that sum to 1")
        return self._set_parameters(layout, Parameters(transmat, emissions))


def _stationary(transmat: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the stationary distribution (K,) of a Markov chain over K states, by the power method.

    In each step, the chain stays in its state with probability 1/2. This does not change the stationary distribution,
    and prevents the iteration from alternating between two distributions.
    """
    masses = np.full(len(transmat), 1 / len(transmat))
    for _ in range(_MANY_STEPS):
        before = masses
        masses = (masses + masses.astype(np.float32) @ transmat) / 2
        masses /= masses.sum()
        if np.abs(masses - before).sum() < _ENOUGH:
            break
    return masses


def _sample(rng: np.random.Generator, probs: NDArray[np.float32]) -> int:
    exact = probs.astype(np.float64)
    return int(rng.choice(len(exact), p=exact / exact.sum()))
