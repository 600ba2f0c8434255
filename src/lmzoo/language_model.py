"""The interface of all models: given the tokens so far, a probability distribution over the next token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import as_whole
from lmzoo.distribution import Distribution
from lmzoo.errors import ConfigurationError, NotFittedError
from lmzoo.stream import EOT, TokenStream, TrainingData, as_ids, check_ids
from lmzoo.system.counts import short_count
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.training_history import TrainingHistory

State = TypeVar("State")

_BLOCK_ELEMENTS = 1 << 17
"""Number of elements in a block of predictions (positions x vocabulary): 1 MB of float64 fits a core's cache."""

_END = np.array([EOT], np.int32)


@dataclass(frozen=True, eq=False)
class TokenStats:
    """The log-probability, rank and entropy of a model's prediction for each of T observed tokens."""

    log_probs: NDArray[np.float64]
    """Log-probability of each observed token in nats, an array (T,); -inf occurs only for unsmoothed models."""
    ranks: NDArray[np.int32]
    """Rank of each observed token by probability, an array (T,); 1 is the most likely, ties are ordered by id."""
    entropies: NDArray[np.float64]
    """Entropy of each predicted distribution in nats, an array (T,)."""
    top_log_probs: NDArray[np.float64]
    """Log-probability of the most likely token at each position in nats, an array (T,): the model's confidence."""
    set_log_probs: NDArray[np.float64] | None = None
    """Log-probability in nats, at each position, that the token is one of a given set of tokens, an array (T,).

    None if no set was given.
    """


class LanguageModel(ABC, Generic[State]):
    """Base class of all language models over the token ids 0 .. vocab_size - 1, where id 0 is EOT (end of text).

    A subclass implements `fit`, `initial_state`, `advance`, `next_log_probs`, `arrays` and `load_arrays`; the base
    class derives all other methods. The methods in the section "Speed" may be overridden by faster ones with the same
    results (`lmzoo.testing.check_language_model` compares them). States are never modified in place: `advance` returns
    a new state, so that callers can keep a state and continue from it several times.
    """

    context_size: int | None
    """Number of most recent token ids that determine a prediction; None means all ids of the document."""
    adapts_on_test: bool = False
    """True if the model adapts to the text that it reads, as a cache does; it is then ranked separately."""
    fitted: bool = False
    """True after `fit` or `load_arrays`."""
    n_tokens_read: int | None = None
    """Number of tokens read in training, counted once per epoch; None for models that do not count them."""
    history: TrainingHistory | None = None
    """Losses during the last call of `fit`; None for models that are not trained in steps, and for loaded models."""
    device_name: str | None = None
    """Name of the torch device that computes the predictions, such as "cuda:0"; None for models without torch."""
    exact_in_batches: bool = False
    """True if the scores of a document have the same bits whichever other documents are scored with it.

    False for networks, whose sums are rounded differently in batches of different sizes.
    """

    def __init__(self, vocab_size: int) -> None:
        size = as_whole(vocab_size)
        if size is None or size < 2:
            raise ConfigurationError(
                f"vocab_size must be a whole number of at least 2 (EOT and one other token), got {vocab_size!r}"
            )
        self.vocab_size = size

    def __repr__(self) -> str:
        size = f"{short_count(self.n_parameters)} parameters" if self.fitted else "not fitted"
        return f"<{type(self).__name__}, vocabulary of {self.vocab_size:,}, {size}>"

    @property
    def reach(self) -> int | None:
        """The largest number of token ids that a prediction can depend on; None if there is no limit.

        It equals `context_size` except in models with windows that start at fixed positions of a document. Such a model
        sees at most `reach` ids, and the number depends on the position. Its contexts must not be truncated, so
        `context_size` is None.
        """
        return self.context_size

    # ---- Implemented by each model --------------------------------------------------------------

    @abstractmethod
    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Trains the model on `data.train` and returns it; `data.valid` may be used for tuning.

        A second call starts from scratch. The same data and seed give the same model. Models that train for long save
        their progress in `checkpoint` and resume from it. Raises UsageError unless `data` is TrainingData,
        CorpusError for an empty split, and TokenIdError for ids outside the vocabulary.
        """

    @abstractmethod
    def initial_state(self) -> State:
        """Returns the state of the model at the start of a document."""

    @abstractmethod
    def advance(self, state: State, token_id: int) -> State:
        """Returns the state after one more token. After EOT (end of text) it is equivalent to the initial state.

        The given state is not modified.
        """

    @abstractmethod
    def next_log_probs(self, state: State) -> NDArray[np.float64]:
        """Returns the log-probabilities (V,), in nats, of each of V possible next tokens in a state of the model."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns all parameters that were learned in training, as named arrays."""

    @abstractmethod
    def load_arrays(self, arrays: Arrays) -> Self:
        """Restores the trained model from named arrays and returns it; raises SavedModelError if they do not fit."""

    # ---- Derived --------------------------------------------------------------------------------

    def predict_distribution(self, context: ArrayLike = ()) -> Distribution:
        """Returns the distribution over the token that follows a context, given as an array of T token ids.

        An empty context is the start of a document. Ids before the last EOT (end of text) have no influence. Raises
        TokenIdError for ids outside the vocabulary.
        """
        return Distribution(self.next_log_probs(self.state_after(self.visible(context))))

    def token_stats(
        self,
        ids: ArrayLike | TokenStream,
        on_progress: OnProgress | None = None,
        *,
        positions: NDArray[np.intp] | None = None,
        token_set: NDArray[np.bool_] | None = None,
    ) -> TokenStats:
        """Computes the log-probability, rank and entropy of each of the T tokens of a text or stream of documents.

        Each token is predicted from the tokens before it in its document; EOT (id 0) ends a document and is predicted,
        too. `positions`, in increasing order, selects the tokens to score; None means all T. `token_set` (V,) is True
        for the tokens of a set, whose log-probability is then computed at each position, too. Raises TokenIdError for
        ids outside the vocabulary.
        """
        stream = self.checked_stream(ids)
        n_scored = len(stream) if positions is None else len(positions)
        log_probs = np.empty(n_scored, np.float64)
        ranks = np.empty(n_scored, np.int32)
        entropies = np.empty(n_scored, np.float64)
        top_log_probs = np.empty(n_scored, np.float64)
        set_log_probs = None if token_set is None else np.empty(n_scored, np.float64)
        done = 0
        for places, block in self.stream_log_probs(stream, positions):
            rows = places if positions is None else np.searchsorted(positions, places)
            observed = stream.ids[places]  # (B,)
            log_probs[rows] = block[np.arange(len(observed)), observed]
            ranks[rows] = _ranks(block, observed)
            probs = np.exp(block)
            entropies[rows] = _entropies(block, probs)
            top_log_probs[rows] = block.max(axis=1)
            if token_set is not None and set_log_probs is not None:
                set_log_probs[rows] = _log_sums(probs, token_set)
            done += len(places)
            if on_progress:
                on_progress(Progress(done, n_scored, "tokens"))
        return TokenStats(log_probs, ranks, entropies, top_log_probs, set_log_probs)

    def visible(self, context: ArrayLike) -> NDArray[np.int32]:
        """Returns the last ids (T,) of a context that the model sees: those after the last EOT, at most `context_size`.

        Raises TokenIdError for ids outside the vocabulary, NotFittedError before training.
        """
        self.require_fitted()
        ids = as_ids(context)
        check_ids(ids, self.vocab_size)
        ends = np.flatnonzero(ids == EOT)
        if ends.size:
            ids = ids[ends[-1] + 1 :]
        return ids if self.context_size is None else ids[max(0, ids.size - self.context_size) :]

    def checked_stream(self, ids: ArrayLike | TokenStream) -> TokenStream:
        """Returns token ids as a TokenStream; raises TokenIdError for ids outside the vocabulary of the model."""
        self.require_fitted()
        return TokenStream.of(ids, self.vocab_size)

    def checked_data(self, data: TrainingData) -> TrainingData:
        """Returns `data` unchanged.

        Raises an error if it is not TrainingData, if a split is empty, or if an id is outside the vocabulary.
        """
        return TrainingData.of(data, self.vocab_size)

    def require_fitted(self) -> None:
        """Raises NotFittedError if the model has been neither trained nor loaded."""
        if not self.fitted:
            raise NotFittedError(
                f"this {type(self).__name__} is not trained yet: call fit first, or load a trained model"
            )

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters: the size of all floating-point arrays of the model."""
        return sum(array.size for array in self.arrays().values() if np.issubdtype(array.dtype, np.floating))

    @property
    def flops_per_token(self) -> float | None:
        """Floating-point operations to read one token and predict the next; None for models that do not count them."""
        return None

    def without_start(self) -> LanguageModel[Any]:
        """Returns a copy of the model that scores a text as an excerpt of a document, not as its start.

        Raises ConfigurationError for all models except n-gram models.
        """
        raise ConfigurationError(
            f"a {type(self).__name__} always begins at the start of a document; only n-gram models can score a text "
            "without it"
        )

    # ---- Speed: may be overridden ---------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> State:
        """Returns the state of the model after it has read a context from the start of a document.

        `context` holds token ids without EOT (end of text). It is not checked here: callers pass it through the method
        `visible` first, which checks the ids and keeps only those that the model can see.
        """
        state = self.initial_state()
        for token_id in context.tolist():
            state = self.advance(state, token_id)
        return state

    def states_after(self, contexts: Sequence[NDArray[np.int32]]) -> Sequence[State]:
        """Returns the states of the model after each of B contexts; see `state_after`."""
        return [self.state_after(context) for context in contexts]

    def advance_batch(self, states: Sequence[State], token_ids: Sequence[int]) -> Sequence[State]:
        """Returns the states of the model after one more token each: B states and B token ids give B states."""
        return [self.advance(state, token_id) for state, token_id in zip(states, token_ids, strict=True)]

    def next_log_probs_batch(self, states: Sequence[State]) -> NDArray[np.float64]:
        """Returns the log-probabilities (B, V), in nats, of each of V possible next tokens in each of B states."""
        return np.array([self.next_log_probs(state) for state in states]).reshape(len(states), self.vocab_size)

    def next_log_probs_after(self, contexts: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Returns the log-probabilities (B, V), in nats, of each of V possible next tokens after each of B contexts.

        Each context is an array of token ids. Raises TokenIdError for ids outside the vocabulary.
        """
        # Each context is read as a document: its prediction is the one at the EOT that ends the document.
        stream, ends = self._as_documents(contexts)
        rows = np.empty((len(contexts), self.vocab_size))
        for positions, block in self.stream_log_probs(stream, ends):
            rows[np.searchsorted(ends, positions)] = block
        return rows

    def _as_documents(self, contexts: Sequence[ArrayLike]) -> tuple[TokenStream, NDArray[np.intp]]:
        """Joins contexts, each followed by EOT, to a stream; returns the stream and the (B,) positions of the EOTs."""
        parts = [_as_ids(context) for context in contexts]
        ids = np.concatenate([part for context in parts for part in (context, _END)]) if parts else _END[:0]
        stream = self.checked_stream(ids)
        sizes = np.array([part.size + 1 for part in parts], np.intp)
        if self.context_size is None or (sizes <= self.context_size + 1).all():
            return stream, sizes.cumsum() - 1
        sizes_seen = np.minimum(sizes, self.context_size + 1)
        seen = np.arange(len(stream)) >= np.repeat(sizes.cumsum() - sizes_seen, sizes)
        return TokenStream(stream.ids[seen]), sizes_seen.cumsum() - 1

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """Returns the log-probability (T,), in nats, of each of T tokens given the tokens before it in its document."""
        stream = self.checked_stream(ids)
        log_probs = np.empty(len(stream))
        for positions, block in self.stream_log_probs(stream):
            log_probs[positions] = block[np.arange(len(positions)), stream.ids[positions]]
        return log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        """Yields the predicted distributions at the positions of a stream of T tokens, in blocks.

        Each block is a pair: B positions (B,), and the log-probabilities (B, V) in nats of each of V possible tokens at
        these positions, given the tokens before them in their document. `positions`, in increasing order, selects the
        positions to predict; None means all T. Each occurs once, in any order. The memory of a block may be reused for
        the next one. The stream must have been checked by `checked_stream`.
        """
        wanted = stream.selected(positions)
        starts = stream.document_starts(wanted)
        # `state` has read the document that starts at `state_start`, as far as position `n_read`.
        state, state_start, n_read = self.initial_state(), -1, 0
        for first, last in self.block_bounds(len(wanted)):
            block = np.empty((last - first, self.vocab_size))
            rows = zip(wanted[first:last].tolist(), starts[first:last].tolist(), strict=True)
            for row, (position, start) in enumerate(rows):
                if start == state_start:
                    for token_id in stream.ids[n_read:position].tolist():
                        state = self.advance(state, token_id)
                else:
                    state = self.state_after(self.visible(stream.ids[start:position]))
                state_start, n_read = start, position
                block[row] = self.next_log_probs(state)
            yield wanted[first:last], block

    def block_bounds(self, n_positions: int) -> Iterator[tuple[int, int]]:
        """Yields the (start, stop) of consecutive blocks of positions whose predictions fit a processor cache."""
        size = max(1, _BLOCK_ELEMENTS // self.vocab_size)
        for start in range(0, n_positions, size):
            yield start, min(start + size, n_positions)


@runtime_checkable
class OnlineLearner(Protocol):
    """A language model that can learn from each token of a text before it predicts the next one.

    `lmzoo prequential` asks such a model for a prediction, tells it the token and asks again. Other models are trained
    again from time to time instead.
    """

    def online_log_probs(
        self, ids: ArrayLike | TokenStream, on_progress: OnProgress | None = None
    ) -> NDArray[np.float64]:
        """Returns the log-probability (T,), in nats, of each of T tokens, predicted by a model that learns as it reads.

        At first the model knows nothing. It predicts each token from the tokens before it in its document, with what it
        has learned from all tokens before it, also those of earlier documents; then it learns the token. Parameters
        from an earlier `fit` are neither used nor changed. Raises TokenIdError for ids outside the vocabulary.
        """
        ...


def _as_ids(context: ArrayLike) -> NDArray[np.integer]:
    """Returns a context as a (T,) array of integers."""
    if isinstance(context, np.ndarray) and context.ndim == 1 and context.dtype in (np.int32, np.int64):
        return context  # the other checks take longer than a prediction of an n-gram model
    return as_ids(context)


def _ranks(block: NDArray[np.floating], observed: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns the rank of the observed token in each of B predictions over V tokens, as an array (B,).

    `block` (B, V) holds log-probabilities, and equally likely tokens are ranked by id.
    """
    observed_log_probs = block[np.arange(len(observed)), observed][:, None]  # (B, 1)
    mask = block > observed_log_probs
    above = _counts(mask)
    tied = np.flatnonzero(_counts(np.greater_equal(block, observed_log_probs, out=mask)) > above + 1)
    for row in tied:
        above[row] += np.count_nonzero(block[row, : observed[row]] == observed_log_probs[row])
    return 1 + above


def _counts(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns the number of True values in each of B rows, an array (B,)."""
    return np.array([np.count_nonzero(row) for row in mask], np.int64)  # three times as fast as with an axis


def _entropies(block: NDArray[np.floating], probs: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the entropy (B,), in nats, of each of B distributions over V tokens.

    `block` (B, V) holds the log-probabilities, and `probs` (B, V) the probabilities.
    """
    if np.isneginf(block.min(initial=0)):
        block = np.where(probs > 0, block, 0)  # 0 log 0 = 0
    return 0.0 - np.einsum("bv,bv->b", probs, block)  # no negative zero


def _log_sums(probs: NDArray[np.floating], token_set: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the log-probability (B,), in nats, that the next token is one of a set, for B distributions.

    `probs` (B, V) holds the probabilities, and `token_set` (V,) is True for the tokens of the set.
    """
    sums = np.einsum("bv,v->b", probs, token_set, dtype=np.float64)  # a product with BLAS would depend on B
    with np.errstate(divide="ignore"):  # unsmoothed models have probabilities of 0
        return np.log(sums)
