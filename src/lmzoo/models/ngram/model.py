"""The n-gram model: a trie with the log-probabilities of all n-grams and the back-off weights of all contexts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_flag, check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.language_model import LanguageModel, TokenStats
from lmzoo.models.ngram.counting.workspace import Workspace, parse_bytes
from lmzoo.models.ngram.methods import Additive
from lmzoo.models.ngram.names import GIVEN, smoothing_from
from lmzoo.models.ngram.rare import FIRST_ORDER, min_count_for
from lmzoo.models.ngram.smoothing import Smoothing, estimate
from lmzoo.models.ngram.trie import ROOT, Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress, StepProgress

# numba is slow to import: counting and scoring are imported where they are used.
if TYPE_CHECKING:
    from lmzoo.models.ngram.counting.counted import CountedNgrams
    from lmzoo.models.ngram.scoring import Matcher

MAX_ORDER = 100
MAX_WORKERS = 1024
_LEAST_FOR_PARTITIONS = 200 << 20
"""Token ids with fewer bytes are never fitted in partitions unless workers are asked for."""
_BLOCK = 1 << 16


def check_partitions(name: str, smoothing: Smoothing) -> None:
    """Raises ConfigurationError if models with a smoothing method cannot be fitted in partitions."""
    if smoothing.tuned:
        raise ConfigurationError(
            f"smoothing='{name}' cannot be fitted by several workers: it is learned from the tokens of the validation "
            "set, whose n-grams lie in all partitions; choose another method, or fit without workers"
        )


class NgramModel(LanguageModel[int]):
    """An n-gram language model, whose state is the trie node of the longest context that occurs in the training text.

    The arguments are explained in the function `lmzoo.models.ngram.ngram`. After `fit`, `parameters` (n, P) contains
    the P numbers that the smoothing method has learned for each order 1 .. n, such as discounts or interpolation
    weights.
    """

    exact_in_batches = True

    def __init__(
        self,
        vocab_size: int,
        *,
        order: int,
        smoothing: str,
        prune: float = 0,
        quantise: bool = False,
        min_count: int = 0,
        memory: str = "1G",
        workers: int = 0,
        cluster: str = "",
    ) -> None:
        super().__init__(vocab_size)
        check_whole(1, MAX_ORDER, order=order)
        self.order = order
        self.smoothing = smoothing_from(smoothing)
        check_share(prune=prune)
        if prune and isinstance(self.smoothing, Additive):
            raise ConfigurationError(
                f"smoothing='{smoothing}' cannot be pruned, because it has no shorter n-grams to back off to: choose "
                "another method, or prune=0"
            )
        check_flag(quantise=quantise)
        check_whole(0, min_count=min_count)
        self.prune, self.quantise, self.min_count = prune, quantise, min_count
        self.memory = parse_bytes(memory)
        check_whole(0, MAX_WORKERS, workers=workers)
        if workers or cluster:
            check_partitions(smoothing, self.smoothing)
        self.workers, self.cluster = workers, cluster
        self.context_size = order - 1

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        in_partitions = bool(self.workers or self.cluster or self._needs_partitions(len(data.train))) and self.order > 1
        min_count = min_count_for(self.min_count, len(data.train))
        n_steps = (5 + self.order if in_partitions else 3 + 2 * self.order) + (self.prune > 0 or self.quantise)
        n_steps += min_count > 1
        progress = StepProgress(n_steps, on_progress)
        progress.start("loading compiled code (the first run compiles it)")
        from lmzoo.models.ngram.counting.sorting import count_ngrams

        workspace = Workspace(self.memory < self._memory_needed(len(data.train)), progress.report)
        if in_partitions:
            trie, weights, parameters = self._fit_in_partitions(data.train, min_count, workspace, progress)
        else:
            counted = count_ngrams(data.train, self.vocab_size, self.order, workspace, progress.start)
            progress.start("learning the smoothing parameters")
            parameters = self.smoothing.learn(counted, data.valid)
            trie = counted.trie
            weights = estimate(counted, self.smoothing, parameters, progress.start, min_count)
            if min_count > 1:
                progress.start("leaving out rare n-grams")
                trie, weights = self._without_rare(counted, weights, min_count)
        if self.prune or self.quantise:
            progress.start("compressing")
            trie, weights = self._compressed(trie, weights)
        progress.start("done")
        return self._become(trie, weights, parameters)

    def _fit_in_partitions(
        self, text: TokenStream, min_count: int, workspace: Workspace, progress: StepProgress
    ) -> tuple[Trie, Weights, NDArray[np.float64]]:
        from lmzoo.models.ngram.partitions.fitting import executor_for, fit_in_partitions

        with executor_for(self.workers, self.cluster) as executor:
            return fit_in_partitions(
                text, self.vocab_size, self.order, self.smoothing, executor,
                min_count=min_count, memory=self.memory, workspace=workspace, progress=progress,
            )  # fmt: skip

    def _without_rare(self, counted: CountedNgrams, weights: Weights, min_count: int) -> tuple[Trie, Weights]:
        from lmzoo.models.ngram.compression import restricted

        keep = counted.counts >= min_count
        keep[: int(counted.trie.levels[FIRST_ORDER]) if self.order >= FIRST_ORDER else None] = True
        return restricted(counted.trie, weights, keep)

    def _compressed(self, trie: Trie, weights: Weights) -> tuple[Trie, Weights]:
        from lmzoo.models.ngram.compression import prune, quantise

        if self.prune:
            trie, weights = prune(trie, weights, self.prune)
        return trie, quantise(trie, weights) if self.quantise else weights

    def _memory_needed(self, n_tokens: int) -> int:
        """Returns an upper estimate of the bytes that a fit in memory needs for a text of `n_tokens` tokens.

        Sorting takes 14 bytes per token, and the model about 28 bytes per n-gram, at most one per token and order.
        """
        return (14 + 28 * self.order) * n_tokens

    def _needs_partitions(self, n_tokens: int) -> bool:
        """Returns True if a text of `n_tokens` tokens is fitted in partitions although no workers are asked for.

        A fit without partitions reads the token ids, of four bytes each, in the order of the n-grams, which is slow and
        exceeds the memory limit if they take more than that.
        """
        return 4 * n_tokens > max(self.memory, _LEAST_FOR_PARTITIONS) and not self.smoothing.tuned

    def _become(self, trie: Trie, weights: Weights, parameters: NDArray[np.float64]) -> Self:
        self._trie, self._weights = trie, weights
        self.parameters = parameters
        self._matcher: Matcher | None = None
        self.fitted = True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> int:
        self.require_fitted()
        return self._trie.document_start

    def advance(self, state: int, token_id: int) -> int:
        if token_id == EOT:
            return self.initial_state()
        return self._trie.as_context(self._trie.longest_match(state, token_id))

    def next_log_probs(self, state: int) -> NDArray[np.float64]:
        trie, path, weight = self._trie, [], 0.0
        for context in trie.backoff_path(state):
            path.append((trie.children(context), weight))
            weight += float(self._weights.backoffs[context])
        log_probs = self._weights.log_probs(trie.level(1)).astype(np.float64) + weight  # (V,)
        for children, weight in reversed(path):  # from short to long, so that longer n-grams overwrite shorter ones
            log_probs[trie.tokens[children]] = self._weights.log_probs(children).astype(np.float64) + weight
        return log_probs

    @property
    def n_ngrams(self) -> list[int]:
        """Number of n-grams of each length, from 1 to `order`, for which the fitted model has a probability."""
        return np.diff(self._trie.levels[1:]).tolist()

    def matched_order(self, state: int, token_id: int) -> int:
        """Returns the length of the n-gram that determines the probability of `token_id` in the model state `state`.

        The length is 1 if the trie has no longer n-gram that ends with this token and fits the tokens before it. Meant
        for pages that explain a prediction; `matched_orders` returns the lengths for a whole text.
        """
        return self._trie.order_of(self._trie.longest_match(state, token_id))

    def largest_sum_error(self) -> float:
        """Returns the largest difference between 1 and the sum of a distribution that the n-gram model predicts.

        The distributions after all contexts that can occur in a text are checked. The error is about 1e-7 for models
        that lmzoo fitted, and may be larger for models from files.
        """
        from lmzoo.models.ngram.sums import distribution_sums, reached_contexts

        self.require_fitted()
        sums = distribution_sums(self._trie, self._weights)[reached_contexts(self._trie)]
        return float(np.abs(sums - 1).max())

    def without_start(self) -> NgramModel:
        """Returns a copy of the n-gram model that ignores where a document starts, like `bos=False` in KenLM.

        The first token of a document is predicted by the unigram probabilities, and the following tokens only from the
        tokens before them. The end of a document is predicted as before.
        """
        from lmzoo.models.ngram.compression import restricted

        self.require_fitted()
        keep = np.ones(self._trie.tokens.size, np.bool_)
        for order in range(2, self.order + 1):
            first = int(self._trie.levels[order])
            keep[first : first + self._trie.n_at_document_start[order]] = False
        trie, weights = restricted(self._trie, self._weights, keep)
        weights.backoffs[trie.document_start] = 0
        copy = NgramModel(self.vocab_size, order=self.order, smoothing=GIVEN)
        return copy._become(trie, weights, np.empty((self.order, 0)))

    def next_log_probs_batch(self, states: Sequence[int] | NDArray[np.int32]) -> NDArray[np.float64]:
        return self._rows(np.array(states, np.int32), np.empty((len(states), self.vocab_size)))

    # ---- Reading text, many positions at a time -------------------------------------------------

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        return self._reader().log_probs(stream.ids, self._weights)

    def token_stats(
        self,
        ids: ArrayLike | TokenStream,
        on_progress: OnProgress | None = None,
        *,
        positions: NDArray[np.intp] | None = None,
        token_set: NDArray[np.bool_] | None = None,
    ) -> TokenStats:
        from lmzoo.models.ngram.ranking import Ranker, entropies_and_set_log_probs

        stream = self.checked_stream(ids)
        log_probs, states, scored = self.log_probs(stream), self.states(stream), stream.ids
        if positions is not None:
            log_probs, states, scored = log_probs[positions], states[positions], scored[positions]
        ranker = Ranker(self._trie, self._weights)
        ranks, tops = np.empty(scored.size, np.int32), np.empty(scored.size)
        for start in range(0, scored.size, _BLOCK):
            here = slice(start, start + _BLOCK)
            ranks[here], tops[here] = ranker.ranks(scored[here], states[here])
            if on_progress:
                on_progress(Progress(min(here.stop, scored.size), scored.size, "tokens"))
        entropies, set_log_probs = entropies_and_set_log_probs(self._trie, self._weights, states, token_set)
        return TokenStats(log_probs, ranks, entropies, tops, set_log_probs)

    def matched_orders(self, ids: ArrayLike | TokenStream) -> NDArray[np.intp]:
        """Returns the (T,) length of the n-gram that determines the probability of each of T tokens.

        A length of 1 means that the model backed off to the unigram. Equals the n-gram length in KenLM's `full_scores`.
        """
        stream = self.checked_stream(ids)
        return np.count_nonzero(self._reader().nodes(stream.ids)[:, 1:] != ROOT, axis=0)

    def states(self, ids: ArrayLike | TokenStream) -> NDArray[np.int32]:
        """Returns the state (T,) of the model before each of T tokens of a text or stream of documents."""
        return self._reader().states(self.checked_stream(ids).ids)[:-1]

    def context_lengths(self, states: NDArray[np.int32]) -> NDArray[np.intp]:
        """Returns the number of last tokens that each of B states (B,) of the model holds, at most `order` - 1.

        The tokens are the longest context that occurs in the training text. The start of a document counts as a token.
        """
        return np.searchsorted(self._trie.levels, states, side="right") - 1

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        states = self.states(stream)
        order = np.argsort(states, kind="stable") if positions is None else positions
        for start, stop in self.block_bounds(len(order)):
            part = order[start:stop]
            yield part, self._rows(states[part], np.empty((stop - start, self.vocab_size)))

    def next_log_probs_after(self, contexts: Sequence[ArrayLike]) -> NDArray[np.float64]:
        # The inherited method copies blocks of rows, which takes as long as computing them.
        stream, ends = self._as_documents(contexts)
        states = self.states(stream)[ends]
        return self._rows(states, np.empty((len(ends), self.vocab_size)))

    def _rows(self, states: NDArray[np.int32], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        self._reader().fill_rows(states, self._weights, rows)
        return rows

    def _reader(self) -> Matcher:
        self.require_fitted()
        if self._matcher is None:
            from lmzoo.models.ngram.scoring import Matcher

            self._matcher = Matcher(self._trie)
        return self._matcher

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {**self._trie.arrays(), **self._weights.arrays(), "parameters": self.parameters}

    def load_arrays(self, arrays: Arrays) -> Self:
        trie = Trie.from_arrays(arrays, self.vocab_size, self.order)
        parameters = take_array(arrays, "parameters", shape=(self.order, None), dtype=np.float64)
        return self._become(trie, Weights.from_arrays(arrays, trie), parameters)
