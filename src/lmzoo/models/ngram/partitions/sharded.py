"""An n-gram model that stays in partitions, for models that are larger than the memory or than 2^31 n-grams.

The partitions are called shards here. All contexts with the same last two tokens are in one shard, with the n-grams
that continue them. A prediction therefore needs one shard, the probabilities of single tokens and, if the last token is
split, the head of the model. The arrays of a saved model are memory-mapped, and only the pages that a prediction needs
are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_whole
from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.ngram.counting.workspace import Workspace, blocks, parse_bytes
from lmzoo.models.ngram.model import MAX_ORDER, MAX_WORKERS, check_partitions
from lmzoo.models.ngram.names import smoothing_from
from lmzoo.models.ngram.rare import min_count_for
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, StepProgress

# numba is slow to import: the stages of a fit are imported where they are used.
if TYPE_CHECKING:
    from lmzoo.models.ngram.partitions.fitting import Partitions

_START = (EOT,)


@final
class ShardedNgramModel(LanguageModel[tuple[int, ...]]):
    """An n-gram language model in shards, whose state is the last n - 1 tokens, with EOT for the start of a document.

    The arguments are explained in the function `lmzoo.models.ngram.ngram`. The model is that of `NgramModel` with the
    same settings. For each length k = 2 .. n it has H contexts and N n-grams:

    - "k/shards" (R + 1,): the first context of each of R shards. For k = 2 there is one shard more, which has the
      n-grams of the split tokens (the head of the model).
    - "k/contexts" (H,): the key of each context, in increasing order within a shard. The key of the context "v h" is v
      2^32 + c, where v is its first token, and c the number of the context h in the same shard, which is 0 for k = 2.
    - "k/starts" (H + 1,): the first n-gram of each context, and N.
    - "k/tokens", "k/log_probs" (N,): the last token of each n-gram, and its log-probability in nats.
    - "k/backoffs" (H,): the log back-off weight of each context.

    Besides, "unigrams" (V,) are the log-probabilities of single tokens, and "owners" (V,) and "pair_owners" (S, V) tell
    the shard of a context by its last two tokens, as in `lmzoo.models.ngram.partitions.plan`.
    """

    exact_in_batches = True

    def __init__(
        self,
        vocab_size: int,
        *,
        order: int,
        smoothing: str,
        prune: float,
        quantise: bool,
        min_count: int,
        memory: str,
        workers: int,
        cluster: str,
    ) -> None:
        super().__init__(vocab_size)
        check_whole(2, MAX_ORDER, order=order)
        check_whole(0, MAX_WORKERS, workers=workers)
        if prune or quantise:
            raise ConfigurationError("a sharded n-gram model cannot be pruned or quantised: fit without sharded=True")
        self.order, self.smoothing, self.memory = order, smoothing_from(smoothing), parse_bytes(memory)
        check_partitions(smoothing, self.smoothing)
        check_whole(0, min_count=min_count)
        self.workers, self.cluster, self.min_count = workers, cluster, min_count
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
        from lmzoo.models.ngram.partitions.fitting import estimate_partitions, executor_for

        self.checked_data(data)
        min_count = min_count_for(self.min_count, len(data.train))
        progress = StepProgress(6 + (min_count > 1), on_progress)
        with executor_for(self.workers, self.cluster) as executor:
            partitions = estimate_partitions(
                data.train, self.vocab_size, self.order, self.smoothing, executor,
                min_count=min_count, memory=self.memory, progress=progress,
            )  # fmt: skip
            progress.start("collecting the shards")
            arrays = _collected(partitions, self.order, Workspace(on_disk=True))
        progress.start("done")
        return self.load_arrays(arrays)

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> tuple[int, ...]:
        self.require_fitted()
        return _START

    def advance(self, state: tuple[int, ...], token_id: int) -> tuple[int, ...]:
        return _START if token_id == EOT else (*state, token_id)[1 - self.order :]

    def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
        return self._rows(np.array(state, np.int32), np.array([len(state) - 1]))[0]

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        tokens = np.append(np.int32(EOT), stream.ids)
        order = self._by_shard(tokens, stream.selected(positions))
        for start, stop in self.block_bounds(order.size):
            yield order[start:stop], self._rows(tokens, order[start:stop])

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        from lmzoo.models.ngram.partitions.lookup import search

        stream = self.checked_stream(ids)
        tokens, log_probs = np.append(np.int32(EOT), stream.ids), np.empty(len(stream))
        order = self._by_shard(tokens, np.arange(len(stream)))
        for block in blocks(slice(0, order.size)):
            ends = order[block]
            contexts = self._contexts(tokens, ends)  # (n - 1, B)
            weights = self._weights(contexts)  # (n, B)
            observed = stream.ids[ends]
            scores = self._arrays["unigrams"][observed] + weights[0]
            for k in range(2, self.order + 1):
                indices = search(observed, contexts[k - 2], self._arrays[f"{k}/starts"], self._arrays[f"{k}/tokens"])
                known = indices >= 0
                scores[known] = self._arrays[f"{k}/log_probs"][indices[known]] + weights[k - 1][known]
            log_probs[ends] = scores
        return log_probs

    def _by_shard(self, tokens: NDArray[np.int32], ends: NDArray[np.intp]) -> NDArray[np.intp]:
        """Sorts the places at which contexts end by the shards of the contexts, so that one shard is read at a time."""
        last = tokens[ends]
        return ends[np.lexsort((last, self._shards(tokens, ends)))]

    def _shards(self, tokens: NDArray[np.int32], ends: NDArray[np.intp]) -> NDArray[np.int32]:
        """Returns the shard (B,) of each of B contexts; -1 for an EOT that is split, because no token precedes it.

        `tokens` is a text after an EOT, and each context consists of the tokens up to one of the places `ends` (B,).
        """
        last = tokens[ends]
        shards = self._arrays["owners"][last]
        split = np.flatnonzero(shards < 0)
        pairs = self._arrays["pair_owners"][-1 - shards[split], tokens[ends[split] - 1]]
        shards[split] = np.where(last[split] == EOT, -1, pairs)
        return shards

    def _contexts(self, tokens: NDArray[np.int32], ends: NDArray[np.intp]) -> NDArray[np.int64]:
        """Returns the number (n - 1, B) of each suffix of 1 .. n - 1 tokens of B contexts; -1 if the model has none.

        `tokens` and `ends` are those of `_shards`.
        """
        from lmzoo.models.ngram.partitions.lookup import search

        contexts, last = np.empty((self.order - 1, ends.size), np.int64), tokens[ends].astype(np.int64)
        shards, shorter = self._shards(tokens, ends), np.zeros(ends.size, np.int64)
        for k in range(2, self.order + 1):
            bounds, keys = self._arrays[f"{k}/shards"], self._arrays[f"{k}/contexts"]
            first = tokens[np.maximum(ends - k + 2, 0)]
            indices = search(first.astype(np.int64) << 32 | shorter, shards, bounds, keys)
            shards = np.where((indices < 0) | (first == EOT), np.int32(-1), shards)
            shorter = indices - bounds[shards]
            if k == 2:
                split = self._arrays["owners"][last] < 0
                head = np.where(split, np.int32(bounds.size - 2), np.int32(-1))
                indices = np.where(split, search(last << 32, head, bounds, keys), indices)
            contexts[k - 2] = indices
        return contexts

    def _weights(self, contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns, for each k = 1 .. n, the sum (n, B) of the log back-off weights of all contexts of k or more tokens.

        `contexts` (n - 1, B) are those that `_contexts` returns.
        """
        weights = np.zeros((self.order, contexts.shape[1]))
        for k in range(self.order, 1, -1):
            known = contexts[k - 2] >= 0
            weights[k - 2] = weights[k - 1]
            weights[k - 2][known] += self._arrays[f"{k}/backoffs"][contexts[k - 2][known]]
        return weights

    def _rows(self, tokens: NDArray[np.int32], ends: NDArray[np.intp]) -> NDArray[np.float64]:
        """Returns the log-probabilities (B, V) of all tokens after each of B contexts; see `_shards`."""
        from lmzoo.models.ngram.partitions.lookup import overwrite

        contexts = self._contexts(tokens, ends)
        weights = self._weights(contexts)
        rows = self._arrays["unigrams"] + weights[0][:, None]  # (B, V)
        for k in range(2, self.order + 1):  # longer n-grams overwrite shorter ones
            starts, followers, log_probs = (self._arrays[f"{k}/{name}"] for name in ("starts", "tokens", "log_probs"))
            overwrite(rows, contexts[k - 2], weights[k - 1], starts, followers, log_probs)
        return rows

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return dict(self._arrays)

    def load_arrays(self, arrays: Arrays) -> Self:
        size, types = self.vocab_size, {"contexts": np.int64, "starts": np.int64, "tokens": np.int32}
        loaded = {
            "unigrams": take_array(arrays, "unigrams", shape=(size,), dtype=np.float32),
            "owners": take_array(arrays, "owners", shape=(size,), dtype=np.int32),
            "pair_owners": take_array(arrays, "pair_owners", shape=(None, size), dtype=np.int32),
            "parameters": take_array(arrays, "parameters", shape=(self.order, None), dtype=np.float64),
        }
        n_shards = len(take_array(arrays, "2/shards", shape=(None,), dtype=np.int64)) - 2
        sound = -len(loaded["pair_owners"]) <= loaded["owners"].min(initial=0) and n_shards > max(
            loaded[name].max(initial=0) for name in ("owners", "pair_owners")
        )
        sound &= loaded["pair_owners"].min(initial=0) >= 0 and loaded["unigrams"].max() <= _HIGHEST
        for k in range(2, self.order + 1):
            shards = take_array(arrays, f"{k}/shards", shape=(n_shards + 1 + (k == 2),), dtype=np.int64)
            starts = take_array(arrays, f"{k}/starts", shape=(int(shards[-1]) + 1,), dtype=np.int64)
            sizes = {"contexts": int(shards[-1]), "tokens": int(starts[-1])}
            loaded |= {f"{k}/shards": shards, f"{k}/starts": starts}
            for name, n in (*sizes.items(), ("log_probs", sizes["tokens"]), ("backoffs", sizes["contexts"])):
                array = take_array(arrays, f"{k}/{name}", shape=(n,), dtype=types.get(name, np.float32))
                loaded[f"{k}/{name}"] = array
            tokens, log_probs, backoffs = (loaded[f"{k}/{name}"] for name in ("tokens", "log_probs", "backoffs"))
            sound &= not shards[0] and not starts[0] and bool((np.diff(shards) >= 0).all())
            sound &= bool((starts[1:] >= starts[:-1]).all())
            sound &= 0 <= tokens.min(initial=0) <= tokens.max(initial=0) < size
            sound &= bool(log_probs.max(initial=-1) <= _HIGHEST and backoffs.max(initial=0) < np.inf)
        if not sound:
            raise SavedModelError("the saved n-gram model is damaged: its shards, tokens or numbers are out of range")
        self._arrays = loaded
        self.fitted = True
        return self


_HIGHEST = 1e-6
"""The highest log-probability that rounding can give. NaN fails the comparison with it, too."""


def _collected(partitions: Partitions, order: int, workspace: Workspace) -> Arrays:
    """Returns the arrays of a sharded model, which `workspace` allocates, from all partitions."""
    plan, head, shared = partitions.plan, partitions.totals.head, partitions.shared
    arrays: dict[str, NDArray[Any]] = {
        "unigrams": shared.log_probs,
        "owners": plan.owners,
        "pair_owners": plan.pair_owners,
        "parameters": partitions.parameters,
    }
    for k in range(2, order + 1):
        parts = range(plan.n_partitions)
        shards = np.cumsum([0, *(partitions.read(part, k).sizes.size for part in parts)])
        if k == 2:
            shards = np.append(shards, shards[-1] + plan.split.size)
        n_ngrams, n_contexts = int(partitions.totals.sizes[k - 1]), int(shards[-1])
        contexts, starts = (workspace.empty(n, np.int64) for n in (n_contexts, n_contexts + 1))
        tokens, log_probs = workspace.empty(n_ngrams, np.int32), workspace.empty(n_ngrams, np.float32)
        backoffs, done = workspace.empty(n_contexts, np.float32), 0
        for part in parts:
            level, estimates = partitions.read(part, k)
            here = slice(shards[part], shards[part + 1])
            contexts[here] = level["context_tokens"].astype(np.int64) << 32 | level["context_suffixes"]
            backoffs[here], sizes = estimates["backoffs"], np.diff(level["starts"]).astype(np.int64)
            kept = np.ones(level["last"].size, bool)
            if k == 2:
                kept = estimates["in_head"] < 0
                sizes[plan.owners[level["context_tokens"]] < 0] = 0
            starts[here] = done + np.cumsum(sizes) - sizes
            end = done + int(sizes.sum())
            tokens[done:end], log_probs[done:end], done = level["last"][kept], estimates["log_probs"][kept], end
            workspace.release()
        if k == 2:
            here = slice(shards[-2], shards[-1])
            contexts[here], backoffs[here] = plan.split.astype(np.int64) << 32, shared.head_backoffs
            starts[here] = done + head.starts[:-1]
            tokens[done:], log_probs[done:] = head.suffixes, shared.head_log_probs
        starts[-1] = n_ngrams
        arrays |= {
            f"{k}/shards": shards,
            f"{k}/contexts": contexts,
            f"{k}/starts": starts,
            f"{k}/tokens": tokens,
            f"{k}/log_probs": log_probs,
            f"{k}/backoffs": backoffs,
        }
    return arrays
