"""The maximum-entropy model with triggers: n-grams and all earlier tokens of the document predict the next token.

    P(w | document so far) = P_ngram(w | h) exp(sum of the weights of all triggers of w so far) / Z

P_ngram has the form of a maximum-entropy model on n-grams; its weights are learned together with those of the triggers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.maxent.ascent import Ascent
from lmzoo.models.maxent.learning import TriggerLikelihood
from lmzoo.models.maxent.model import MaxentModel
from lmzoo.models.mixing import add_prefix, strip_prefix
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress

if TYPE_CHECKING:
    from lmzoo.models.maxent.triggers import Triggers

_JOINT_STEPS = 10
"""Number of steps of L-BFGS that learn all weights together, after the weights of the n-grams were learned alone."""


class Reading(NamedTuple):
    """The state of a maximum-entropy model with triggers, for a vocabulary of V tokens."""

    ngram: int
    """The state of the n-gram model."""
    seen: frozenset[int]
    """The tokens of the document so far."""
    gains: NDArray[np.float64]
    """(V,) the sum of the weights of all triggers of each token that have occurred."""


@final
class TriggerModel(LanguageModel[Reading]):
    """A maximum-entropy language model on n-grams and on pairs of tokens in the same document.

    `ngrams` is the model of the n-grams, not yet fitted, and `n_triggers` the largest number of triggers of a token.
    """

    context_size = None

    def __init__(self, ngrams: MaxentModel, *, n_triggers: int) -> None:
        super().__init__(ngrams.vocab_size)
        self._ngrams, self._n_triggers = ngrams, n_triggers

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        from lmzoo.models.maxent.triggers import find_triggers  # numba is slow to import

        text = self.checked_data(data).train
        facts = [*self._ngrams.facts, self._n_triggers]
        ascent = Ascent(checkpoint, lambda: data.fingerprint(facts), on_progress)
        likelihood, weights = self._ngrams.learned(text, ascent)
        triggers, counts = find_triggers(text, self.vocab_size, self._n_triggers)
        start = np.concatenate([weights, np.zeros(triggers.targets.size)])
        joint = TriggerLikelihood(likelihood, text, triggers, counts)
        best = ascent.maximised(joint, start, _JOINT_STEPS, "learning the weights of triggers")
        weights, trigger_weights = np.split(best, [weights.size])
        self._ngrams.with_weights(likelihood, weights)
        return self._become(triggers, trigger_weights)

    def _become(self, triggers: Triggers, weights: NDArray[np.float64]) -> Self:
        self.triggers, self.trigger_weights = triggers, weights
        self.fitted = True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> Reading:
        self.require_fitted()
        return Reading(self._ngrams.initial_state(), frozenset(), np.zeros(self.vocab_size))

    def advance(self, state: Reading, token_id: int) -> Reading:
        if token_id == EOT:
            return self.initial_state()
        ngram = self._ngrams.advance(state.ngram, token_id)
        pairs = slice(*self.triggers.first[token_id : token_id + 2].tolist())
        if token_id in state.seen or pairs.start == pairs.stop:
            return state._replace(ngram=ngram)
        gains = state.gains.copy()
        gains[self.triggers.targets[pairs]] += self.trigger_weights[pairs]
        return Reading(ngram, state.seen | {token_id}, gains)

    def next_log_probs(self, state: Reading) -> NDArray[np.float64]:
        return _with_gains(self._ngrams.next_log_probs(state.ngram)[None], state.gains)[0]

    # ---- Speed ----------------------------------------------------------------------------------

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        wanted = stream.selected(positions)
        ngram_states, n_read, state = self._ngrams.states(stream), 0, self.initial_state()
        for first, last in self.block_bounds(len(wanted)):
            gains = np.empty((last - first, self.vocab_size))
            for row, position in enumerate(wanted[first:last].tolist()):
                for token_id in stream.ids[n_read:position].tolist():
                    state = self.advance(state, token_id)
                n_read, gains[row] = position, state.gains
            rows = self._ngrams.next_log_probs_batch(ngram_states[wanted[first:last]])
            yield wanted[first:last], _with_gains(rows, gains)

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        ngrams = add_prefix("ngrams", self._ngrams.arrays())
        return {**ngrams, **self.triggers.arrays(), "trigger_weights": self.trigger_weights}

    def load_arrays(self, arrays: Arrays) -> Self:
        from lmzoo.models.maxent.triggers import Triggers

        self._ngrams.load_arrays(strip_prefix("ngrams", arrays))
        triggers = Triggers.from_arrays(arrays, self.vocab_size)
        weights = take_array(arrays, "trigger_weights", shape=(triggers.targets.size,), dtype=np.float64)
        if not np.isfinite(weights).all():
            raise SavedModelError("the saved maximum-entropy model is damaged: weights of triggers are not finite")
        return self._become(triggers, weights)


def _with_gains(log_probs: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adds `gains` (B, V) to log-probabilities (B, V) in place, normalises the rows again, and returns them."""
    log_probs += gains
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    return log_probs
