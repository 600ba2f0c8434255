"""The class n-gram model: an n-gram model over classes, and the probability of each token given its class."""

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
from lmzoo.models.mixing import add_prefix, strip_prefix
from lmzoo.models.ngram import NgramModel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress

_CLASS_MODEL = "class_model"
_ALPHAS = np.array([1e-3, 1e3])
"""The range of pseudo-counts that is searched for the best one."""


def with_new_tokens(
    classes: NDArray[np.int32], new: NDArray[np.bool_], counts: NDArray[np.int32], valid: TokenStream
) -> NDArray[np.int32]:
    """Assigns all tokens that do not occur in the training text to the class that fits the validation set best.

    - `classes` (V,): class of each of V tokens, learned from the training text.
    - `new` (V,): True for the tokens that do not occur in the training text.
    - `counts` (G, G): training counts of the pairs of neighbouring classes, for G classes.
    - `valid`: the validation set.

    Returns the classes (V,) of all tokens. The chosen class c maximises the sum of log P(g | c) over all new tokens in
    the validation set. Here g is the class of the token before the new token, and P(g | c) is the probability that a
    token of class c is preceded by a token of class g, estimated from `counts` plus one. If the validation set has no
    new tokens, the classes do not change. Classes without tokens are removed and the others renumbered. Only a
    vocabulary that was not made from the training text has new tokens.
    """
    new_in_valid = new[valid.ids]
    if new_in_valid.any():
        before = np.bincount(classes[valid.previous_ids()[new_in_valid]], minlength=len(counts))  # (G,)
        log_likelihoods = before @ np.log((counts + 1) / (counts + 1).sum(axis=0))  # (G,)
        classes = np.where(new, 1 + np.argmax(log_likelihoods[1:]), classes)  # class 0 is only for EOT
    return np.unique(classes, return_inverse=True)[1].astype(np.int32)


def _log_in_class(classes: NDArray[np.int32], counts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the log-probability (V,) of each token given its class, from the counts (V,) of all tokens."""
    return np.log(counts / np.bincount(classes, counts)[classes])


def _tuned_alpha(classes: NDArray[np.int32], counts: NDArray[np.integer], valid: TokenStream) -> float:
    """Returns the pseudo-count that is added to every token's count to estimate its probability given its class.

    The pseudo-count maximises the likelihood of the validation set `valid`. `classes` (V,) are the classes and `counts`
    (V,) the training counts of V tokens.
    """
    from scipy.optimize import minimize_scalar  # slow to import, and needed in a fit only

    valid_counts = np.bincount(valid.ids, minlength=len(counts))

    def loss(log_alpha: float) -> float:
        return -float(valid_counts @ _log_in_class(classes, counts + np.exp(log_alpha)))

    best: Any = minimize_scalar(loss, bounds=np.log(_ALPHAS), method="bounded")
    return float(np.exp(best.x))


@final
class ClassNgramModel(LanguageModel[int]):
    """A class n-gram language model: an n-gram model predicts the class of a token, and the class predicts the token.

    The state of the model is the state of the n-gram model over classes. After `fit`, `classes` (V,) is the class of
    each of V tokens; class 0 contains only the end-of-text token.
    """

    exact_in_batches = True

    def __init__(self, vocab_size: int, *, n_classes: int, order: int, smoothing: str) -> None:
        super().__init__(vocab_size)
        check_whole(2, n_classes=n_classes)  # end-of-text and one other class
        self.n_classes, self._order, self._smoothing = n_classes, order, smoothing
        self.context_size = self._over_classes(2).context_size  # raises an error for a wrong order or smoothing

    def _over_classes(self, n_classes: int) -> NgramModel:
        return NgramModel(n_classes, order=self._order, smoothing=self._smoothing)

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        from lmzoo.models.class_ngram.exchange import cluster  # numba is slow to import

        self.checked_data(data)
        clustering = cluster(data.train, self.vocab_size, self.n_classes, on_progress)
        counts = np.bincount(data.train.ids, minlength=self.vocab_size)
        classes = with_new_tokens(clustering.classes, counts == 0, clustering.counts, data.valid)
        log_in_class = _log_in_class(classes, counts + _tuned_alpha(classes, counts, data.valid))
        train, valid = (TokenStream(classes[split.ids]) for split in (data.train, data.valid))
        model = self._over_classes(int(classes.max()) + 1)
        return self._become(classes, log_in_class, model.fit(TrainingData(train, valid), on_progress=on_progress))

    def _become(self, classes: NDArray[np.int32], log_in_class: NDArray[np.float64], class_model: NgramModel) -> Self:
        self.classes, self._log_in_class, self._class_model = classes, log_in_class, class_model
        self.fitted = True
        return self

    def members(self, token_class: int) -> NDArray[np.intp]:
        """Returns the ids of the tokens in a class, the most frequent first."""
        self.require_fitted()
        ids = np.flatnonzero(self.classes == token_class)
        return ids[np.argsort(-self._log_in_class[ids], kind="stable")]

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> int:
        self.require_fitted()
        return self._class_model.initial_state()

    def advance(self, state: int, token_id: int) -> int:
        return self._class_model.advance(state, int(self.classes[token_id]))

    def next_log_probs(self, state: int) -> NDArray[np.float64]:
        return self._to_tokens(self._class_model.next_log_probs(state))

    def _to_tokens(self, class_log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Converts log-probabilities (.., G) of the class of the next token to log-probabilities (.., V) of the token.

        There are G classes and V tokens.
        """
        log_probs = np.take(class_log_probs, self.classes, axis=-1)
        log_probs += self._log_in_class
        return log_probs

    # ---- Speed ----------------------------------------------------------------------------------

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        return self._class_model.log_probs(self._in_classes(stream)) + self._log_in_class[stream.ids]

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        for positions_read, block in self._class_model.stream_log_probs(self._in_classes(stream), positions):
            for start, stop in self.block_bounds(len(positions_read)):  # blocks over few classes are long
                yield positions_read[start:stop], self._to_tokens(block[start:stop])

    def _in_classes(self, stream: TokenStream) -> TokenStream:
        return TokenStream(self.classes[stream.ids])

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "classes": self.classes,
            "log_in_class": self._log_in_class,
            **add_prefix(_CLASS_MODEL, self._class_model.arrays()),
        }

    def load_arrays(self, arrays: Arrays) -> Self:
        classes = take_array(arrays, "classes", shape=(self.vocab_size,), dtype=np.int32)
        log_in_class = take_array(arrays, "log_in_class", shape=(self.vocab_size,), dtype=np.float64)
        used = np.unique(classes)
        if not (np.array_equal(used, np.arange(used.size)) and np.array_equal(np.flatnonzero(classes == 0), [EOT])):
            raise SavedModelError(
                "the saved class n-gram model is damaged: its classes must be 0, for end-of-text, 1, 2, .. without gaps"
            )
        if not np.allclose(np.bincount(classes, np.exp(log_in_class)), 1):
            raise SavedModelError(
                "the saved class n-gram model is damaged: the probabilities of tokens in their classes must sum to 1"
            )
        class_model = self._over_classes(used.size).load_arrays(strip_prefix(_CLASS_MODEL, arrays))
        return self._become(classes, log_in_class, class_model)
