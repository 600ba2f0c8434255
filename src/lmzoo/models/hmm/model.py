"""The hidden Markov model as a language model, whose state distribution is updated by Bayes' rule at every token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_count
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.hidden_states import StateSummary, summaries, top
from lmzoo.models.hmm import inference
from lmzoo.models.hmm.baum_welch import Settings, fit_parameters
from lmzoo.models.hmm.inference import Parameters
from lmzoo.models.hmm.packing import PackedText
from lmzoo.models.hmm.threads import batches_in_parallel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.blas import one_blas_thread
from lmzoo.system.progress import OnProgress

if TYPE_CHECKING:
    from hmmlearn.hmm import CategoricalHMM

    from lmzoo.models.hmm.log_space import Smoothed


Float = TypeVar("Float", bound=np.floating)


@final
class HiddenMarkovModel(LanguageModel[NDArray[np.float64]]):
    """A hidden Markov model over tokens; `hmm` creates one from its settings.

    Its prediction state is an array (K,): the probability of each of the K hidden states at the next position, given
    the tokens so far. Advancing takes K^2 multiplications in float64; a distribution over V tokens takes K V
    multiplications in float32. A fit numbers the states by their share of all tokens, the largest first.
    """

    context_size = None

    def __init__(self, vocab_size: int, settings: Settings) -> None:
        super().__init__(vocab_size)
        self.settings = settings

    @property
    def startprob(self) -> NDArray[np.float64]:
        """Probability (K,) of each of K hidden states at the start of a document."""
        return self._parameters.startprob

    @property
    def transmat(self) -> NDArray[np.float64]:
        """Transition probabilities (K, K) of K hidden states: element (i, j) is P(next state j | state i)."""
        return self._parameters.transmat

    @property
    def emissionprob(self) -> NDArray[np.float64]:
        """Emission probabilities (K, V): element (k, v) is the probability that hidden state k emits token v."""
        return self._parameters.emissions.T

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        fitted = fit_parameters(
            data, self.vocab_size, self.settings, seed=seed, on_progress=on_progress, checkpoint=checkpoint
        )
        # EM numbers the states arbitrarily; sorted by frequency, the states of two fits can be compared.
        order = np.argsort(-inference.stationary(fitted), kind="stable")
        self._set_parameters(fitted.startprob[order], fitted.transmat[np.ix_(order, order)], fitted.emissions[:, order])
        return self

    def _set_parameters(self, startprob: NDArray[Any], transmat: NDArray[Any], emissions: NDArray[Any]) -> None:
        self._parameters = Parameters(startprob, transmat, emissions).astype(np.float64)
        for array in self._parameters:
            array.flags.writeable = False  # states and properties share them
        # Computing a distribution reads all emissions, which takes half the time in float32.
        self._emissions = self._parameters.emissions.astype(np.float32)
        self.fitted = True

    def initial_state(self) -> NDArray[np.float64]:
        return self._parameters.startprob

    def advance(self, state: NDArray[np.float64], token_id: int) -> NDArray[np.float64]:
        if token_id == EOT:
            return self._parameters.startprob
        joint = state * self._parameters.emissions[token_id]  # (K,)
        likelihood = joint.sum()
        # A token of probability zero (in imported models) gives no information about the states.
        return (joint / likelihood if likelihood > 0 else state) @ self._parameters.transmat

    def next_log_probs(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._log_emitted(state).astype(np.float64)

    def _log_emitted(self, predictive: NDArray[np.float64]) -> NDArray[np.float32]:
        """Returns the log-probabilities (..., V) of V tokens, from distributions (..., K) over K hidden states."""
        return _log(predictive.astype(np.float32) @ self._emissions.T)

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        text, wanted = self._packed(stream), stream.mask(positions)
        with batches_in_parallel() as run:
            at_cuts = inference.predictive_at_cuts(text, self._parameters, run)
        for batch in text.batches:
            with one_blas_thread():  # but not for what is yielded: those products are large
                state_probs, _, _ = inference.filter_batch(batch, at_cuts[batch.entry_cuts], self._parameters)
            rows = np.flatnonzero(wanted[batch.positions])
            for start, stop in self.block_bounds(len(rows)):
                part = rows[start:stop]
                yield batch.positions[part], self._log_emitted(state_probs[part])

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        with batches_in_parallel() as run:
            return _log(inference.likelihoods(self._packed(stream), self._parameters, run))

    def _packed(self, stream: TokenStream) -> PackedText:
        return PackedText.of(stream, self.settings.n_states)

    # ---- Hidden states ---------------------------------------------------------------------------

    def viterbi(self, ids: ArrayLike | TokenStream) -> NDArray[np.intp]:
        """Returns the hidden state (T,) at each of T tokens on the most likely path through each document."""
        stream = self.checked_stream(ids)
        paths = [inference.most_likely_path(document, self._parameters) for document in stream.documents()]
        return np.concatenate(paths) if paths else np.empty(0, np.intp)

    def posteriors(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """Returns the probability (T, K) of each of K hidden states at each of T tokens, given the whole document."""
        stream = self.checked_stream(ids)
        return inference.posteriors(self._packed(stream), self._parameters)

    def smooth_in_log_space(self, document: ArrayLike) -> Smoothed:
        """Computes the log-probabilities of the tokens of one document, and of the hidden states at each token.

        Works in log space, and so is exact for models with extreme probabilities. The other methods scale probabilities
        instead, which is much faster; see `lmzoo.models.hmm.log_space`.
        """
        from lmzoo.models.hmm.log_space import smooth  # imports scipy.special, which predictions do not need

        return smooth(self.checked_stream(document).ids, self._parameters)

    def sample_document(
        self, rng: np.random.Generator, max_tokens: int = 1000
    ) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Samples a document, and returns its T token ids (T,) and the hidden states (T,) that emitted them.

        The document ends with EOT (the end-of-text token), or after `max_tokens` tokens.
        """
        self.require_fitted()
        check_count(0, max_tokens=max_tokens)
        ids, path = [], []
        probs = self.startprob
        while len(ids) < max_tokens and EOT not in ids[-1:]:
            path.append(rng.choice(len(probs), p=probs))
            ids.append(rng.choice(self.vocab_size, p=self.emissionprob[path[-1]]))
            probs = self.transmat[path[-1]]
        return np.array(ids, np.int32), np.array(path, np.intp)

    def state_table(self, k: int = 10) -> list[StateSummary]:
        """Returns a summary of every hidden state, with its `k` most likely tokens and next states."""
        self.require_fitted()
        return summaries(inference.stationary(self._parameters), self.transmat, self.typical_tokens, k)

    def typical_tokens(self, hidden_state: int, k: int = 10) -> list[tuple[int, float]]:
        """Returns the `k` tokens that a hidden state emits most often, as pairs (token id, probability)."""
        return top(self.emissionprob[hidden_state], k)

    def next_states(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the probability (K,) that each of K hidden states emits the next token; it is the state itself."""
        return state

    # ---- Conversion: files and hmmlearn ----------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        self.require_fitted()
        return {"startprob": self.startprob, "transmat": self.transmat, "emissionprob": self.emissionprob}

    def load_arrays(self, arrays: Arrays) -> Self:
        n_states = self.settings.n_states
        startprob = take_array(arrays, "startprob", shape=(n_states,), dtype=np.float64)
        transmat = take_array(arrays, "transmat", shape=(n_states, n_states), dtype=np.float64)
        emissionprob = take_array(arrays, "emissionprob", shape=(n_states, self.vocab_size), dtype=np.float64)
        for name, rows in (("startprob", startprob), ("transmat", transmat), ("emissionprob", emissionprob)):
            if not ((rows >= 0).all() and np.allclose(rows.sum(axis=-1), 1, rtol=0, atol=1e-6)):
                raise SavedModelError(f"the rows of the saved array '{name}' must be probabilities that sum to 1")
        self._set_parameters(startprob, transmat, emissionprob.T)
        return self

    def to_hmmlearn(self) -> CategoricalHMM:
        """Returns the model as an `hmmlearn.hmm.CategoricalHMM`, whose symbols are the token ids.

        The sequences that the returned object scores must be documents that end with symbol 0, the EOT (end-of-text)
        token.
        """
        from hmmlearn.hmm import CategoricalHMM

        self.require_fitted()
        model = CategoricalHMM(self.settings.n_states, n_features=self.vocab_size, implementation="scaling")
        model.startprob_, model.transmat_, model.emissionprob_ = (
            self.startprob.copy(),
            self.transmat.copy(),
            self.emissionprob.copy(),
        )
        vars(model)["end_symbol_"] = EOT  # tells `from_hmmlearn` which symbol ends sequences
        return model


def _log(probs: NDArray[Float]) -> NDArray[Float]:
    """Replaces probabilities by their logarithms, in place, and returns the array."""
    with np.errstate(divide="ignore"):  # -inf for the impossible tokens of an imported model
        return np.log(probs, out=probs)
