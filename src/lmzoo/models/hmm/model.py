"""The hidden Markov model as a language model: a belief over the states, updated by Bayes' rule at every token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.hidden_states import StateSummary, summaries, top
from lmzoo.models.hmm import inference
from lmzoo.models.hmm.baum_welch import Settings, fit_parameters
from lmzoo.models.hmm.inference import Parameters
from lmzoo.models.hmm.log_space import Smoothed, smooth
from lmzoo.models.hmm.packing import PackedText
from lmzoo.models.hmm.threads import batches_in_parallel, one_blas_thread
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress

if TYPE_CHECKING:
    from hmmlearn.hmm import CategoricalHMM


Float = TypeVar("Float", bound=np.floating)


@final
class HiddenMarkovModel(LanguageModel[NDArray[np.float64]]):
    """A hidden Markov model over tokens. Its state is the (K,) predictive belief: P(hidden state | tokens so far).

    Advancing takes K^2 multiplications in float64, a distribution K x V in float32. States are numbered by `mass`, the
    heaviest first.
    """

    context_size = None

    def __init__(self, vocab_size: int, settings: Settings) -> None:
        super().__init__(vocab_size)
        self.settings = settings

    @property
    def startprob(self) -> NDArray[np.float64]:
        """(K,) probability of each state at a document's start."""
        return self._parameters.startprob

    @property
    def transmat(self) -> NDArray[np.float64]:
        """(K, K) probability that the second state follows the first."""
        return self._parameters.transmat

    @property
    def emissionprob(self) -> NDArray[np.float64]:
        """(K, V) probability of each token in each state."""
        return self._parameters.emissions.T

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        data.checked(self.vocab_size)
        found = fit_parameters(
            data, self.vocab_size, self.settings, seed=seed, on_progress=on_progress, checkpoint=checkpoint
        )
        # EM numbers the states as it likes; heaviest first, two runs can be compared.
        order = np.argsort(-inference.stationary(found), kind="stable")
        self._become(found.startprob[order], found.transmat[np.ix_(order, order)], found.emissions[:, order])
        return self

    def _become(self, startprob: NDArray[Any], transmat: NDArray[Any], emissions: NDArray[Any]) -> None:
        self._parameters = Parameters(startprob, transmat, emissions).astype(np.float64)
        for array in self._parameters:
            array.flags.writeable = False  # states and properties share them
        # A distribution reads all of the emissions: in float32 that is half the time.
        self._emissions = self._parameters.emissions.astype(np.float32)
        self.fitted = True

    def initial_state(self) -> NDArray[np.float64]:
        return self._parameters.startprob

    def advance(self, state: NDArray[np.float64], token_id: int) -> NDArray[np.float64]:
        if token_id == EOT:
            return self._parameters.startprob
        joint = state * self._parameters.emissions[token_id]  # (K,)
        likelihood = joint.sum()
        # An impossible token (imported models have some) says nothing about the states.
        return (joint / likelihood if likelihood > 0 else state) @ self._parameters.transmat

    def next_log_probs(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._log_emitted(state).astype(np.float64)

    def _log_emitted(self, beliefs: NDArray[np.float64]) -> NDArray[np.float32]:
        """(.., V) log-probabilities of the tokens from predictive beliefs (.., K)."""
        return _log(beliefs.astype(np.float32) @ self._emissions.T)

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        text, wanted = self._packed(stream), stream.mask(positions)
        with batches_in_parallel() as run:
            entering = inference.beliefs_at_starts(text, self._parameters, run)
        for batch in text.batches:
            with one_blas_thread():  # but not for what is yielded: those products are large
                beliefs, _, _ = inference.filter_batch(batch, entering[batch.entry_cuts], self._parameters)
            rows = np.flatnonzero(wanted[batch.positions])
            for start, stop in self.block_bounds(len(rows)):
                part = rows[start:stop]
                yield batch.positions[part], self._log_emitted(beliefs[part])

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        with batches_in_parallel() as run:
            return _log(inference.likelihoods(self._packed(stream), self._parameters, run))

    def _packed(self, stream: TokenStream) -> PackedText:
        return PackedText.of(stream, self.settings.n_states)

    # ---- Looking inside -------------------------------------------------------------------------

    def viterbi(self, ids: ArrayLike | TokenStream) -> NDArray[np.intp]:
        """(T,) the most likely path of hidden states through each document of a stream."""
        stream = self.checked_stream(ids)
        paths = [inference.most_likely_path(document, self._parameters) for document in stream.documents()]
        return np.concatenate(paths) if paths else np.empty(0, np.intp)

    def posteriors(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """(T, K) the probability of each hidden state at each position, given all of its document."""
        stream = self.checked_stream(ids)
        return inference.posteriors(self._packed(stream), self._parameters)

    def smooth_in_log_space(self, document: ArrayLike) -> Smoothed:
        """Log-probabilities of the tokens of one document, and of the states at each: for models with extreme numbers.

        Everything else here scales probabilities instead, which is much faster; see `lmzoo.models.hmm.log_space`.
        """
        return smooth(self.checked_stream(document).ids, self._parameters)

    def sample_document(
        self, rng: np.random.Generator, max_tokens: int = 1000
    ) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """A document, ended by EOT unless it reaches `max_tokens`, and the hidden states that emitted it."""
        self.require_fitted()
        ids, path = [], []
        probs = self.startprob
        while len(ids) < max_tokens and EOT not in ids[-1:]:
            path.append(rng.choice(len(probs), p=probs))
            ids.append(rng.choice(self.vocab_size, p=self.emissionprob[path[-1]]))
            probs = self.transmat[path[-1]]
        return np.array(ids, np.int32), np.array(path, np.intp)

    def state_table(self, k: int = 10) -> list[StateSummary]:
        """Every hidden state with its `k` most likely tokens and next states, the heaviest state first."""
        self.require_fitted()
        masses = inference.stationary(self._parameters)
        return summaries(masses, self.transmat, lambda state: top(self.emissionprob[state], k), k)

    # ---- To and from files and hmmlearn ---------------------------------------------------------

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
                raise SavedModelError(f"the rows of the saved array '{name}' are not probabilities that sum to 1")
        self._become(startprob, transmat, emissionprob.T)
        return self

    def to_hmmlearn(self) -> CategoricalHMM:
        """The same model for hmmlearn, whose sequences are then documents with their EOT."""
        from hmmlearn.hmm import CategoricalHMM

        self.require_fitted()
        model = CategoricalHMM(self.settings.n_states, n_features=self.vocab_size, implementation="scaling")
        model.startprob_, model.transmat_, model.emissionprob_ = (
            self.startprob.copy(),
            self.transmat.copy(),
            self.emissionprob.copy(),
        )
        return model


def _log(probs: NDArray[Float]) -> NDArray[Float]:
    """In place."""
    with np.errstate(divide="ignore"):  # -inf for what an imported model finds impossible
        return np.log(probs, out=probs)
