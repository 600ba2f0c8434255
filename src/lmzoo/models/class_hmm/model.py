"""The large hidden Markov model as a language model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.class_hmm.layout import EOT_CLASS, EOT_STATE, START, Belief, Layout, Parameters
from lmzoo.models.class_hmm.learning import Fit, Settings
from lmzoo.models.hidden_states import StateSummary, summaries, top
from lmzoo.models.hmm import HiddenMarkovModel, hmm
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress

# numba is slow to import: inference is imported where it is used.
if TYPE_CHECKING:
    from lmzoo.models.class_hmm.inference import Filtered

_ROWS = 256
"""Distributions that are made at a time, by products of matrices."""
_MANY_STEPS, _ENOUGH = 1000, 1e-6
"""When the power method ends."""


@final
class ClassHiddenMarkovModel(LanguageModel[Belief]):
    """A hidden Markov model whose states belong to classes of tokens. Its state is a belief over those of one class.

    Advancing takes m m' multiplications, a distribution m K + V m' (m and m': states of a class). All is float32.
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
        data.checked(self.vocab_size)
        fit = Fit(data, self.vocab_size, self.settings, seed)
        return self._become(*fit.run(on_progress=on_progress, checkpoint=checkpoint))

    def _become(self, layout: Layout, parameters: Parameters) -> Self:
        self._layout, self._parameters = layout, parameters
        self.fitted = True
        return self

    @property
    def n_states(self) -> int:
        return self._layout.n_states

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> Belief:
        self.require_fitted()
        return START

    def advance(self, state: Belief, token_id: int) -> Belief:
        layout, (transmat, emissions) = self._layout, self._parameters
        token_class = int(layout.classes[token_id])
        first, end = layout.block(token_class)
        emission = emissions[layout.first_emission[token_id] :][: end - first]
        joint = (state.probs @ transmat[slice(*layout.block(state.token_class)), first:end]) * emission  # (m,)
        return Belief(token_class, joint / joint.sum())

    def next_log_probs(self, state: Belief) -> NDArray[np.float64]:
        rows = self._parameters.transmat[slice(*self._layout.block(state.token_class))]
        return self._log_emitted((state.probs @ rows)[None])[0].astype(np.float64)

    def _log_emitted(self, beliefs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, V) log-probabilities of the tokens from predictive beliefs (N, K)."""
        layout = self._layout
        probs = np.empty((len(beliefs), self.vocab_size), np.float32)  # in the order of classes
        for token_class in range(layout.n_classes):
            tokens = slice(*layout.first_token[token_class:][:2])
            emissions = layout.emissions_of(token_class, self._parameters.emissions)
            probs[:, tokens] = beliefs[:, slice(*layout.block(token_class))] @ emissions.T
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
            for block, before, found in filtered_blocks(chain, stream, self._layout, self._parameters):
                places = np.flatnonzero(wanted[block])
                for part in np.split(places, range(_ROWS, len(places), _ROWS)):
                    if len(part):
                        yield block.start + part, self._log_emitted(self._predictive(part, before, found))

    def _predictive(self, places: NDArray[np.intp], before: Belief, found: Filtered) -> NDArray[np.float32]:
        """(N, K) beliefs before the tokens at some places of a block: each is a belief over one class, moved on."""
        layout = self._layout
        classes = np.concatenate([[before.token_class], layout.classes[found.ids[:-1]]])[places]
        starts = np.concatenate([[0], len(before.probs) + found.offsets[:-2]])[places]
        probs = np.concatenate([before.probs, found.beliefs])
        beliefs = np.empty((len(places), layout.n_states), np.float32)
        for token_class in np.unique(classes).tolist():
            first, end = layout.block(token_class)
            rows = np.flatnonzero(classes == token_class)
            beliefs[rows] = probs[starts[rows, None] + np.arange(end - first)] @ self._parameters.transmat[first:end]
        return beliefs

    # ---- Looking inside -------------------------------------------------------------------------

    def viterbi(self, ids: ArrayLike | TokenStream) -> NDArray[np.intp]:
        """(T,) the most likely path of hidden states through each document of a stream."""
        from lmzoo.models.class_hmm.inference import most_likely_path

        return most_likely_path(self.checked_stream(ids).ids, self._layout, self._parameters)

    def posteriors(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """(T, K) the probability of each hidden state at each position, given all of its document."""
        from lmzoo.models.class_hmm.inference import posteriors

        return posteriors(self.checked_stream(ids).ids, self._layout, self._parameters).astype(np.float64)

    def sample_document(
        self, rng: np.random.Generator, max_tokens: int = 1000
    ) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """A document, ended by EOT unless it reaches `max_tokens`, and the hidden states that emitted it."""
        self.require_fitted()
        layout, (transmat, emissions) = self._layout, self._parameters
        ids, path, state = [], [], EOT_STATE
        while len(ids) < max_tokens and EOT not in ids[-1:]:
            state = _draw(rng, transmat[state])
            token_class = int(layout.class_of_state[state])
            in_class = layout.emissions_of(token_class, emissions)[:, state - layout.block(token_class)[0]]
            ids.append(layout.tokens[layout.first_token[token_class] + _draw(rng, in_class)])
            path.append(state)
        return np.array(ids, np.int32), np.array(path, np.intp)

    def state_table(self, k: int = 10) -> list[StateSummary]:
        """Every hidden state with its `k` most likely tokens and next states, class by class."""
        self.require_fitted()
        layout, (transmat, emissions) = self._layout, self._parameters

        def top_tokens(state: int) -> list[tuple[int, float]]:
            token_class = int(layout.class_of_state[state])
            in_class = layout.emissions_of(token_class, emissions)[:, state - layout.block(token_class)[0]]
            tokens = layout.tokens[layout.first_token[token_class] :]
            return [(int(tokens[place]), prob) for place, prob in top(in_class, k)]

        return summaries(_stationary(transmat), transmat, top_tokens, k)

    def as_hmm(self) -> HiddenMarkovModel:
        """The same model with the zeros written out: K x V emissions in float64."""
        self.require_fitted()
        layout, (transmat, emissions) = self._layout, self._parameters
        dense = np.zeros((layout.n_states, self.vocab_size))
        dense[layout.state_of_emission, layout.token_of_emission] = emissions
        moves = transmat.astype(np.float64)
        rows = {"startprob": moves[EOT_STATE], "transmat": moves, "emissionprob": dense}
        return hmm(self.vocab_size, n_states=layout.n_states).load_arrays(
            {name: array / array.sum(axis=-1, keepdims=True) for name, array in rows.items()}
        )

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
            raise SavedModelError("the saved classes must be 0, for end-of-text alone, 1, 2 .. without a gap")
        if n_states_of[EOT_CLASS] != 1 or n_states_of.min() < 1 or n_states_of.sum() != self.settings.n_states:
            raise SavedModelError(
                f"the saved classes must have {self.settings.n_states} states in all, and end-of-text one of them"
            )
        layout = Layout(classes, n_states_of)
        transmat = take_array(arrays, "transmat", shape=(layout.n_states,) * 2, dtype=np.float32)
        emissions = take_array(arrays, "emissions", shape=(layout.n_emissions,), dtype=np.float32)
        for name, probs, sums in (
            ("transmat", transmat, transmat.sum(axis=1)),
            ("emissions", emissions, np.bincount(layout.state_of_emission, emissions)),
        ):
            if not ((probs > 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-3)):
                raise SavedModelError(f"the rows of the saved array '{name}' are not positive numbers that sum to 1")
        return self._become(layout, Parameters(transmat, emissions))


def _stationary(transmat: NDArray[np.float32]) -> NDArray[np.float64]:
    """(K,) how much of an endless text each state emits: the power method, on a lazy walk that cannot alternate."""
    masses = np.full(len(transmat), 1 / len(transmat))
    for _ in range(_MANY_STEPS):
        before = masses
        masses = (masses + masses.astype(np.float32) @ transmat) / 2
        masses /= masses.sum()
        if np.abs(masses - before).sum() < _ENOUGH:
            break
    return masses


def _draw(rng: np.random.Generator, probs: NDArray[np.float32]) -> int:
    exact = probs.astype(np.float64)
    return int(rng.choice(len(exact), p=exact / exact.sum()))
