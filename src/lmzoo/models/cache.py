"""Cache model (Kuhn & De Mori 1990): a document says again what it has said before.

A static model, by default an n-gram, is mixed with what this document has said so far: how often the token, and how
often the token after the last one. The longer ago, the less it counts (Clarkson & Robinson 1997):

    P(w | h) = a P_static(w | h) + b P_1(w | document) + c P_2(w | last token, document)
    P_1(w | document) = sum_(i < t, w_i = w) d^(t - i) / sum_(i < t) d^(t - i),    P_2 likewise over pairs

The weights a, b, c are learned on valid by expectation-maximisation: one set where both caches have something to say,
one where the last token is new to the document, and at its start only the static model speaks. The decay d, given as a
half-life in tokens, is the one under which valid is most likely. Kuhn and De Mori kept a cache for each part of speech.

R. Kuhn, R. De Mori, A Cache-Based Natural Language Model for Speech Recognition, IEEE PAMI 12, 1990.
P. R. Clarkson, A. J. Robinson, Language Model Adaptation Using Mixtures and an Exponentially Decaying Cache, 1997.

What it cannot do: know that "king" makes "queen" likelier, and not only "king". It learns from what it is tested on,
though only from what comes before; so it is a model of its own kind, never ranked with static ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache as remember
from typing import Any, NamedTuple, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_positive
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.mixing import bands, create_member, learn_weights, of_member, read_band, under_name
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

_HALF_LIVES = 1.0, 10_000.0
_N_CASES = 3
"""No cache has anything, the unigram cache has, both have."""


class CacheState(NamedTuple):
    """That of the static model, and the document so far."""

    static: Any
    document: NDArray[np.int32]


def _cached(document: NDArray[np.int32], decay: float, vocab_size: int) -> list[NDArray[np.float64]]:
    """The (V,) predictions of the caches that have something to say after a document's tokens so far."""
    n = document.size
    if n == 0:
        return []
    ages = np.arange(n - 1, -1, -1)
    caches = [np.bincount(document, decay**ages, vocab_size)]
    before = np.flatnonzero(document[:-1] == document[-1])  # where the last token stood earlier
    if before.size:
        caches.append(np.bincount(document[before + 1], decay ** (before[-1] - before), vocab_size))
    return [counts / counts.sum() for counts in caches]


class _Text:
    """A stream as the kernel reads it: pairs of neighbours have numbers, powers of the decay are looked up."""

    def __init__(self, ids: NDArray[np.int32], vocab_size: int) -> None:
        stream = TokenStream(ids)
        keys = stream.previous_ids().astype(np.int64) * vocab_size + ids
        distinct, numbers = np.unique(keys, return_inverse=True)
        self.ids, self.pairs = np.ascontiguousarray(ids), numbers.astype(np.int32)  # (T,)
        self.pair_tokens = (distinct % vocab_size).astype(np.int32)
        self.longest = int((stream.ends - stream.starts).max(initial=0))
        self.vocab_size = vocab_size

    def read(self, decay: float, weights: NDArray[np.float64], skip: int, rows: NDArray[np.float64]) -> NDArray[Any]:
        """(T, 2) what the two caches gave each token, NaN for one that was empty.

        Mixes the caches into `rows` (T - skip, V), the probabilities of the static model after the first `skip` tokens.
        """
        given = np.empty((self.ids.size, 2))
        powers = decay ** np.arange(self.longest + 2.0)
        _kernel()(self.ids, self.pairs, self.pair_tokens, powers, weights, self.vocab_size, skip, given, rows)
        return given


@remember
def _kernel() -> Any:
    """Compiled when it is first used: numba is slow to import."""
    from numba import types

    from lmzoo.system.compiled import kernel, read, write

    ids, numbers = read(types.int32), read(types.float64)
    matrix, given = types.Array(types.float64, 2, "C", readonly=True), write(types.float64, 2)
    return kernel(ids, ids, ids, numbers, matrix, types.int64, types.int64, given, given)(_read)


def _read(ids, pairs, pair_tokens, powers, weights, vocab_size, skip, given, rows):
    """Walks over a text with decayed counts, each as it was when its token last came: now it is c * powers[t - last].

    "Context" counts are of pairs by their first token. So the time that passed since a context came last cancels.
    """
    counts, last = np.zeros(vocab_size), np.zeros(vocab_size, np.int64)
    pair_counts, pair_last = np.zeros(pair_tokens.size), np.zeros(pair_tokens.size, np.int64)
    context_counts, context_last = np.zeros(vocab_size), np.zeros(vocab_size, np.int64)
    newest, older = np.full(vocab_size, -1), np.empty(pair_tokens.size, np.int64)  # the pairs of each context, linked
    seen, n_seen = np.empty(vocab_size, np.int64), 0
    begin, total = 0, 0.0
    for t in range(ids.size):
        token, pair, context = ids[t], pairs[t], ids[max(t - 1, begin)]
        has_tokens = t > begin
        has_pairs = has_tokens and context_counts[context] > 0
        since = context_last[context]

        given[t] = np.nan
        if has_tokens:
            given[t, 0] = counts[token] / total * powers[t - 1 - last[token]] if counts[token] > 0 else 0.0
        if has_pairs:
            given[t, 1] = 0.0
            if pair_counts[pair] > 0:
                given[t, 1] = pair_counts[pair] / context_counts[context] * powers[since - pair_last[pair]]
        if t >= skip and rows.size > 0:
            row, mix = rows[t - skip], weights[has_tokens + has_pairs]
            row *= mix[0]
            if has_tokens:
                for other in seen[:n_seen]:
                    row[other] += mix[1] / total * counts[other] * powers[t - 1 - last[other]]
            if has_pairs:
                other = newest[context]
                while other >= 0:
                    share = pair_counts[other] / context_counts[context] * powers[since - pair_last[other]]
                    row[pair_tokens[other]] += mix[2] * share
                    other = older[other]

        if token == EOT:
            for i in range(begin, t):
                counts[ids[i]], context_counts[ids[i]], pair_counts[pairs[i]], newest[ids[i]] = 0, 0, 0, -1
            begin, total, n_seen = t + 1, 0.0, 0
            continue
        if counts[token] == 0:
            seen[n_seen], last[token] = token, t
            n_seen += 1
        counts[token], last[token] = counts[token] * powers[t - last[token]] + 1, t
        total = total * powers[1] + 1
        if has_tokens:
            if pair_counts[pair] == 0:
                older[pair], newest[context], pair_last[pair] = newest[context], pair, t
            if context_counts[context] == 0:
                context_last[context] = t
            pair_counts[pair], pair_last[pair] = pair_counts[pair] * powers[t - pair_last[pair]] + 1, t
            context_counts[context] = context_counts[context] * powers[t - context_last[context]] + 1
            context_last[context] = t


@final
class CacheModel(LanguageModel[CacheState]):
    """A static model with a unigram and a bigram cache of the document so far.

    `weights` (3, 3): a row for each case (no cache has anything, the unigram cache has, both have) with the weights of
    the static model, the unigram cache and the bigram cache.
    """

    context_size = None
    adapts_on_test = True

    def __init__(self, static: LanguageModel[Any], *, half_life: float | None) -> None:
        super().__init__(static.vocab_size)
        check_positive(null="to tune it on valid", half_life=half_life)
        self.static = static
        self._given_half_life = half_life

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        data.checked(self.vocab_size)
        self.static.fit(data, seed=seed, on_progress=on_progress, checkpoint=checkpoint)
        return self.learn_caches(data.valid, on_progress)

    def learn_caches(self, valid: TokenStream, on_progress: OnProgress | None = None) -> Self:
        """Learns half-life and weights beside a static model that is fitted."""
        static_log_probs = self.static.log_probs(valid)
        text = _Text(valid.ids, self.vocab_size)

        def loss(log_half_life: float) -> float:
            return self._weighed(text, static_log_probs, float(np.exp(log_half_life)))[1]

        half_life = self._given_half_life
        if half_life is None:
            if on_progress:
                on_progress(Progress(0, None, "steps", "tuning the half-life of the cache"))
            best: Any = minimize_scalar(loss, bounds=np.log(_HALF_LIVES), method="bounded", options={"xatol": 0.02})
            half_life = float(np.exp(best.x))
        weights, _ = self._weighed(text, static_log_probs, half_life)
        return self._become(weights, np.array([half_life], np.float64))

    def _weighed(
        self, text: _Text, static_log_probs: NDArray[np.float64], half_life: float
    ) -> tuple[NDArray[np.float64], float]:
        """The best weights under a half-life, and the nats that the text then costs."""
        unused = np.zeros((_N_CASES, 3))
        with np.errstate(divide="ignore"):
            caches = np.log(text.read(_decay(half_life), unused, 0, np.empty((0, 0))))
        columns = np.column_stack([static_log_probs, caches])  # (T, 3)
        cases = 2 - np.isnan(caches).sum(axis=1)
        weights, nats = np.zeros((_N_CASES, 3)), 0.0
        for case in range(_N_CASES):
            tokens = columns[cases == case, : 1 + case]
            weights[case, : 1 + case] = learn_weights(tokens)
            nats -= np.log(np.exp(tokens) @ weights[case, : 1 + case]).sum()
        return weights, nats

    def _become(self, weights: NDArray[np.float64], half_life: NDArray[np.float64]) -> Self:
        self.weights, self._half_life = weights, half_life
        self.fitted = True
        return self

    @property
    def half_life(self) -> float:
        """After so many tokens, what was said counts half."""
        return float(self._half_life[0])

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> CacheState:
        return CacheState(self.static.initial_state(), np.empty(0, np.int32))

    def advance(self, state: CacheState, token_id: int) -> CacheState:
        if token_id == EOT:
            return self.initial_state()
        document = np.append(state.document, np.int32(token_id))
        return CacheState(self.static.advance(state.static, token_id), document)

    def next_log_probs(self, state: CacheState) -> NDArray[np.float64]:
        caches = _cached(state.document, _decay(self.half_life), self.vocab_size)
        weights = self.weights[len(caches)]
        probs = weights[0] * np.exp(self.static.next_log_probs(state.static))
        for weight, cached in zip(weights[1:], caches, strict=False):
            probs += weight * cached
        return np.log(probs)

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> CacheState:
        return CacheState(self.static.state_after(self.static.visible(context)), context)

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        given = _Text(stream.ids, self.vocab_size).read(_decay(self.half_life), self.weights, 0, np.empty((0, 0)))
        weights = self.weights[2 - np.isnan(given).sum(axis=1)]  # (T, 3)
        probs = weights[:, 0] * np.exp(self.static.log_probs(stream))
        return np.log(probs + (weights[:, 1:] * np.nan_to_num(given)).sum(axis=1))

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        if positions is not None:  # few positions: the states of their contexts are cheaper than a whole stream
            yield from super().stream_log_probs(stream, positions)
            return
        decay = _decay(self.half_life)
        for band in bands(stream, self.vocab_size):
            probs = np.empty((len(band), self.vocab_size))
            for rows, block in read_band(self.static, stream, band):
                probs[rows] = np.exp(block)
            text = _Text(stream.ids[band.document : band.stop], self.vocab_size)
            text.read(decay, self.weights, band.start - band.document, probs)
            np.log(probs, out=probs)
            for start, stop in self.block_bounds(len(band)):
                yield np.arange(band.start + start, band.start + stop), probs[start:stop]

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": self.weights, "half_life": self._half_life, **under_name("static", self.static.arrays())}

    def load_arrays(self, arrays: Arrays) -> Self:
        weights = take_array(arrays, "weights", shape=(_N_CASES, 3), dtype=np.float64)
        half_life = take_array(arrays, "half_life", shape=(1,), dtype=np.float64)
        sound = (weights >= 0).all() and (weights[:, 0] > 0).all() and np.allclose(weights.sum(axis=1), 1)
        if not (sound and 0 < half_life[0] < np.inf):
            raise SavedModelError(
                "the saved cache is inconsistent: its weights must sum to 1 and its half-life be above 0"
            )
        self.static.load_arrays(of_member("static", arrays))
        return self._become(weights, half_life)


def _decay(half_life: float) -> float:
    """What a token still counts when one more was read."""
    return 0.5 ** (1 / half_life)


def cache(vocab_size: int, *, static: Any = "ngram", half_life: float | None = None) -> CacheModel:
    """A static model that expects to see again what the document has said.

    `static` is a species, or {"species": "ngram", "settings": {"order": 3}}. What was said `half_life` tokens ago
    counts half; None = tuned on valid.
    """
    return CacheModel(create_member(static, vocab_size), half_life=half_life)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "cache": {"bytes": {"static": {"species": "ngram", "settings": {"order": 10}}}}
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
