"""The one abstraction: the tokens so far go in, one probability distribution over the next token comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.distribution import Distribution
from lmzoo.errors import ConfigurationError, NotFittedError
from lmzoo.stream import EOT, TokenStream, TrainingData, check_ids
from lmzoo.system.progress import OnProgress, Progress

State = TypeVar("State")

_BLOCK_ELEMENTS = 1 << 17
"""Size of the (B, V) blocks in which streams are read: 1 MB of float64, which stays in a core's cache."""

_END = np.array([EOT], np.int32)


@dataclass(frozen=True, eq=False)
class TokenStats:
    """What a model made of each of T observed tokens."""

    log_probs: NDArray[np.float64]
    """(T,) log-probability of the observed token, in nats; -inf only for an unsmoothed exhibit."""
    ranks: NDArray[np.int32]
    """(T,) rank of the observed token from 1 = most likely; among equals the lower id comes first."""
    entropies: NDArray[np.float64]
    """(T,) entropy of the predicted distribution, in nats."""
    top_log_probs: NDArray[np.float64]
    """(T,) log-probability of the most likely token, in nats: how sure the model was."""


class LanguageModel(ABC, Generic[State]):
    """A next-token predictor over ids 0 .. vocab_size - 1, where id 0 is end-of-text.

    A species writes `fit`, `initial_state`, `advance`, `next_log_probs`, `arrays` and `load_arrays`; everything else
    follows. It may override the methods under "Speed", and is then held to the same results
    (`lmzoo.testing.check_language_model`). A state is a value: `advance` never changes the one it is given, so callers
    may branch from it and keep it.
    """

    context_size: int | None
    """How many of the last ids the model can see; None = unbounded memory."""
    adapts_on_test: bool = False
    """Whether what it reads changes what it has learned, as in a cache: it is never ranked with static models."""
    fitted: bool = False
    """Set by `fit` and `load_arrays`."""
    n_tokens_read: int | None = None
    """How many tokens `fit` learned from, each as often as it was read; None where nobody counts them."""

    def __init__(self, vocab_size: int) -> None:
        if vocab_size < 2:
            raise ConfigurationError(f"vocab_size must be at least 2 (end-of-text and one token), got {vocab_size}")
        self.vocab_size = vocab_size

    @property
    def reach(self) -> int | None:
        """The most ids that a prediction can depend on; None = unbounded.

        That is `context_size`, unless which ids are seen hangs on the length of the whole context, as with windows
        that start at certain positions: no cut to the last ids then leaves a prediction as it is.
        """
        return self.context_size

    # ---- What a species writes ------------------------------------------------------------------

    @abstractmethod
    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Learns from `data.train`; may tune on `data.valid`. Forgets what an earlier fit learned.

        The same data and seed give the same model. A species whose fit takes long keeps its work in `checkpoint` and
        resumes from it. Raises CorpusError for empty data, TokenIdError for ids outside the vocabulary.
        """

    @abstractmethod
    def initial_state(self) -> State:
        """The state at a document start."""

    @abstractmethod
    def advance(self, state: State, token_id: int) -> State:
        """The state after `token_id` follows; after EOT it predicts as `initial_state` does."""

    @abstractmethod
    def next_log_probs(self, state: State) -> NDArray[np.float64]:
        """(V,) log-probabilities of the next token in nats; their exponentials sum to 1."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `fit` learned, by name."""

    @abstractmethod
    def load_arrays(self, arrays: Arrays) -> Self:
        """Becomes the fitted model that `arrays` came from; SavedModelError if they do not fit."""

    # ---- What it gets ---------------------------------------------------------------------------

    def predict_distribution(self, context: ArrayLike = ()) -> Distribution:
        """The distribution over the token that follows `context`, a (T,) array of ids; () = a document start.

        Only ids after the last EOT in the context matter. Raises TokenIdError for ids outside the vocabulary.
        """
        return Distribution(self.next_log_probs(self.state_after(self.visible(context))))

    def token_stats(self, ids: ArrayLike | TokenStream, on_progress: OnProgress | None = None) -> TokenStats:
        """What the model makes of every position of a stream of T ids (EOT ends documents in it)."""
        stream = self.checked_stream(ids)
        log_probs = np.empty(len(stream), np.float64)
        ranks = np.empty(len(stream), np.int32)
        entropies = np.empty(len(stream), np.float64)
        top_log_probs = np.empty(len(stream), np.float64)
        done = 0
        for positions, block in self.stream_log_probs(stream):
            observed = stream.ids[positions]  # (B,)
            log_probs[positions] = block[np.arange(len(observed)), observed]
            ranks[positions] = _ranks(block, observed)
            entropies[positions] = _entropies(block)
            top_log_probs[positions] = block.max(axis=1)
            done += len(positions)
            if on_progress:
                on_progress(Progress(done, len(stream), "tokens"))
        return TokenStats(log_probs, ranks, entropies, top_log_probs)

    def visible(self, context: ArrayLike) -> NDArray[np.int32]:
        """The part of `context` that the model can see: after the last EOT, at most `context_size` ids; checked."""
        self.require_fitted()
        ids = TokenStream(np.asarray(context)).ids
        check_ids(ids, self.vocab_size)
        ends = np.flatnonzero(ids == EOT)
        if ends.size:
            ids = ids[ends[-1] + 1 :]
        return ids if self.context_size is None else ids[max(0, ids.size - self.context_size) :]

    def checked_stream(self, ids: ArrayLike | TokenStream) -> TokenStream:
        """The ids as a stream, held to this vocabulary; NotFittedError before `fit`."""
        self.require_fitted()
        return TokenStream.of(ids, self.vocab_size)

    def require_fitted(self) -> None:
        """Raises NotFittedError before `fit` or `load_arrays`."""
        if not self.fitted:
            raise NotFittedError(
                f"this {type(self).__name__} has not learned anything yet: call fit first, or load one"
            )

    @property
    def n_parameters(self) -> int:
        """How many numbers `fit` learned."""
        return sum(array.size for array in self.arrays().values() if np.issubdtype(array.dtype, np.floating))

    @property
    def flops_per_token(self) -> float | None:
        """Floating-point operations to read a token and predict the next one; None where nobody counts them."""
        return None

    # ---- Speed: may be overridden ---------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> State:
        """The state after `context`, ids of one document that were checked by `visible`."""
        state = self.initial_state()
        for token_id in context.tolist():
            state = self.advance(state, token_id)
        return state

    def advance_batch(self, states: Sequence[State], token_ids: Sequence[int]) -> Sequence[State]:
        """The states after B token ids follow B states, one each."""
        return [self.advance(state, token_id) for state, token_id in zip(states, token_ids, strict=True)]

    def next_log_probs_batch(self, states: Sequence[State]) -> NDArray[np.float64]:
        """(B, V) log-probabilities in nats of the next token after each of B states."""
        return np.array([self.next_log_probs(state) for state in states]).reshape(len(states), self.vocab_size)

    def next_log_probs_after(self, contexts: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Returns the (B, V) log-probabilities, in nats, of each of V possible next tokens after each of B contexts.

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
        """(T,) log-probability in nats of every id of a stream, given those before it in its document."""
        return self.token_stats(ids).log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        """Yields the predicted distributions at the positions of a stream, in blocks.

        Each block is a pair: B positions (B,), and the log-probabilities (B, V) in nats of each of V possible tokens at
        these positions, given the tokens before them in their document. `positions`, in increasing order, selects the
        positions to predict; None means all T. Each occurs once, in any order. The memory of a block may be reused for
        the next one. The stream must have been checked by `checked_stream`.
        """
        wanted = np.arange(len(stream)) if positions is None else positions
        starts = stream.starts[np.searchsorted(stream.starts, wanted, side="right") - 1]
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
        """(start, stop) of consecutive blocks whose (B, V) log-probabilities fit the processor's cache."""
        size = max(1, _BLOCK_ELEMENTS // self.vocab_size)
        for start in range(0, n_positions, size):
            yield start, min(start + size, n_positions)


def _as_ids(context: ArrayLike) -> NDArray[np.integer]:
    """Returns a context as a (T,) array of integers."""
    ids = np.asarray(context)
    # The checks of TokenStream take longer than a prediction of an n-gram model, so ordinary arrays skip them.
    return ids if ids.ndim == 1 and ids.dtype in (np.int32, np.int64) else TokenStream(ids).ids


def _ranks(block: NDArray[np.floating], observed: NDArray[np.int32]) -> NDArray[np.int64]:
    """(B,) rank of the observed id in each row of a (B, V) block, from 1; among equals the lower id comes first."""
    own = block[np.arange(len(observed)), observed][:, None]  # (B, 1)
    above = np.count_nonzero(block > own, axis=1)
    tied = np.flatnonzero(np.count_nonzero(block >= own, axis=1) > above + 1)
    for row in tied:
        above[row] += np.count_nonzero(block[row, : observed[row]] == own[row])
    return 1 + above


def _entropies(block: NDArray[np.floating]) -> NDArray[np.floating]:
    """(B,) entropy in nats of each row of a (B, V) block of log-probabilities."""
    probs = np.exp(block)
    if np.isneginf(block.min(initial=0)):
        block = np.where(probs > 0, block, 0)  # 0 log 0 = 0
    return -np.einsum("bv,bv->b", probs, block)
