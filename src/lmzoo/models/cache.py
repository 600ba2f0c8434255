"""Cache model (Kuhn & De Mori 1990): tokens that occurred in a document are likely to occur in it again.

A cache model interpolates a static model, by default an n-gram model, with two models of the current document: a
unigram cache, which counts the tokens so far, and a bigram cache, which counts the tokens that followed the last token.
Counts decay with distance (Clarkson & Robinson 1997). The prediction of token w at position t is

    P(w | h) = a P_static(w | h) + b P_1(w | document) + c P_2(w | last token, document)
    P_1(w | document) = sum_(i < t, w_i = w) d^(t - i) / sum_(i < t) d^(t - i),    P_2 likewise over pairs

The weights a, b, c maximise the likelihood of the validation set, and are found by Newton's method. There is one set of
weights for positions at which both caches have counts, and one for positions at which the bigram cache is empty,
because the last token is new in the document. At the start of a document, the static model is used alone. The decay d
is given as a half-life in tokens, which maximises the likelihood of the validation set. Kuhn and De Mori used one cache
for each part of speech.

R. Kuhn, R. De Mori, A Cache-Based Natural Language Model for Speech Recognition, IEEE PAMI 12, 1990.
P. R. Clarkson, A. J. Robinson, Language Model Adaptation Using Mixtures and an Exponentially Decaying Cache, 1997.

What a cache model cannot do: learn that "king" makes "queen" more likely, and not only "king". A cache model adapts to
the text on which it is tested, although only to the tokens before each position. It is therefore never ranked with
static models.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache as remember
from typing import Any, NamedTuple, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_positive
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.mixing import add_prefix, bands, create_member, learn_weights, read_band, strip_prefix
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress

_HALF_LIVES = 1.0, 10_000.0
_N_CASES = 3
"""Both caches are empty, only the bigram cache is empty, or both have counts."""


class CacheState(NamedTuple):
    """The state of a cache model: the document so far, and the state of the model that is combined with the caches."""

    static: Any
    document: NDArray[np.int32]


def _cache_predictions(document: NDArray[np.int32], decay: float, vocab_size: int) -> list[NDArray[np.float64]]:
    """Returns the next-token distributions of the unigram and the bigram cache after the tokens `document`.

    The unigram cache counts all tokens of the document. The bigram cache counts the tokens that followed the earlier
    occurrences of its last token. Returns a list of at most two distributions (V,) over V tokens, the unigram cache
    first; a cache without counts is left out. All counts are multiplied by `decay` at each token.
    """
    n = document.size
    if n == 0:
        return []
    ages = np.arange(n - 1, -1, -1)
    caches = [np.bincount(document, decay**ages, vocab_size)]
    before = np.flatnonzero(document[:-1] == document[-1])  # earlier positions of the last token
    if before.size:
        caches.append(np.bincount(document[before + 1], decay ** (before[-1] - before), vocab_size))
    return [counts / counts.sum() for counts in caches]


class _NumberedPairs:
    """The tokens of a text and its pairs of neighbouring tokens, numbered for the compiled cache model.

    - `ids` (T,): the T tokens of the text.
    - `pairs` (T,): for each token, the number of the pair that consists of the previous token and this token.
    - `pair_tokens` (P,): the second token of each of the P different pairs, which have the numbers 0 to P - 1.
    """

    def __init__(self, ids: NDArray[np.int32], vocab_size: int) -> None:
        stream = TokenStream(ids)
        keys = stream.previous_ids().astype(np.int64) * vocab_size + ids
        distinct, numbers = np.unique(keys, return_inverse=True)
        self.ids, self.pairs = np.ascontiguousarray(ids), numbers.astype(np.int32)  # (T,)
        self.pair_tokens = (distinct % vocab_size).astype(np.int32)
        self.longest = int((stream.ends - stream.starts).max(initial=0))
        self.vocab_size = vocab_size

    def read(self, decay: float, weights: NDArray[np.float64], skip: int, rows: NDArray[np.float64]) -> NDArray[Any]:
        """Computes the probability of each of the T tokens of the text in the unigram cache and in the bigram cache.

        Returns an array (T, 2), with NaN where a cache is empty. The static model is the model that is combined with
        the caches.

        - `decay`: factor by which all counts are multiplied at each token.
        - `weights` (3, 3): interpolation weights of the static model, the unigram cache and the bigram cache (columns).
          Row k is used at tokens for which k caches are not empty.
        - `skip`: number of tokens at the start of the text that have no row in `rows`.
        - `rows` (T - skip, V): next-token distributions of the static model over V tokens, which are replaced by the
          distributions of the cache model; empty if they are not needed.
        """
        cache_probs = np.empty((self.ids.size, 2))
        powers = decay ** np.arange(self.longest + 2.0)
        _kernel()(self.ids, self.pairs, self.pair_tokens, powers, weights, self.vocab_size, skip, cache_probs, rows)
        return cache_probs


@remember
def _kernel() -> Any:
    """Returns the compiled function `_read`, compiled at its first use because numba is slow to import."""
    from lmzoo.system.compiled import kernel, read_only, types, writable

    ids, powers = read_only(types.int32), read_only(types.float64)
    weights, output = read_only(types.float64, 2), writable(types.float64, 2)
    return kernel(ids, ids, ids, powers, weights, types.int64, types.int64, output, output)(_read)


def _read(ids, pairs, pair_tokens, powers, weights, vocab_size, skip, cache_probs, rows):
    """Computes the cache probabilities of each token of a text, and the next-token distributions of the cache model.

    The unigram cache counts the tokens of the current document, the bigram cache its pairs of neighbouring tokens. The
    probabilities of T tokens in the two caches are written to `cache_probs` (T, 2). The distributions in `rows`, which
    are at first those of the model that is combined with the caches, are replaced by those of the cache model. The
    arguments are explained in `_NumberedPairs.read`.

    Decaying every count at every position would take too long. Each count is therefore stored with the position `last`
    at which it was updated; at position t it equals count * powers[t - last], where powers[k] is the decay d to the
    power of k. For example, with d = 1/2 in the document "a b a b":

        t = 0, a   a: count 1, last 0
        t = 1, b   b: count 1, last 1
        t = 2, a   the count of a has decayed to 1 * (1/2)^2 and is raised by 1:  a: count 1.25, last 2
        t = 3, b   P_1(b) = (1/2) / (1.25 + 1/2): b has decayed once since t = 1, and 1.25 + 1/2 is the total at t = 2

    Pairs of tokens are counted in the same way, and so is the first token of each pair, its context. Between two
    occurrences of a context, the counts of its pairs all decay by the same factor, which cancels in P_2.
    """
    counts, last = np.zeros(vocab_size), np.zeros(vocab_size, np.int64)
    pair_counts, pair_last = np.zeros(pair_tokens.size), np.zeros(pair_tokens.size, np.int64)
    context_counts, context_last = np.zeros(vocab_size), np.zeros(vocab_size, np.int64)
    # Linked lists of the pairs of each context.
    newest, older = np.full(vocab_size, -1), np.empty(pair_tokens.size, np.int64)
    seen, n_seen = np.empty(vocab_size, np.int64), 0
    begin, total = 0, 0.0
    for t in range(ids.size):
        token, pair, context = ids[t], pairs[t], ids[max(t - 1, begin)]
        has_tokens = t > begin
        has_pairs = has_tokens and context_counts[context] > 0
        since = context_last[context]

        cache_probs[t] = np.nan
        if has_tokens:
            cache_probs[t, 0] = counts[token] / total * powers[t - 1 - last[token]] if counts[token] > 0 else 0.0
        if has_pairs:
            cache_probs[t, 1] = 0.0
            if pair_counts[pair] > 0:
                cache_probs[t, 1] = pair_counts[pair] / context_counts[context] * powers[since - pair_last[pair]]
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
    """A language model that interpolates another model, the static model, with two caches of the current document.

    The unigram cache counts the tokens of the document so far, the bigram cache its pairs of neighbouring tokens. After
    `fit`, the columns of `weights` (3, 3) are the interpolation weights of the static model, the unigram cache and the
    bigram cache. Row 0 is used while both caches are empty, row 1 while only the bigram cache is empty, and row 2 when
    both have counts.
    """

    context_size = None
    adapts_on_test = True

    def __init__(self, static: LanguageModel[Any], *, half_life: float | None) -> None:
        super().__init__(static.vocab_size)
        check_positive(none_means="to tune it on valid", half_life=half_life)
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
        self.checked_data(data)
        self.static.fit(data, seed=seed, on_progress=on_progress, checkpoint=checkpoint)
        self.history = self.static.history
        return self.learn_caches(data.valid, on_progress)

    def learn_caches(self, valid: TokenStream, on_progress: OnProgress | None = None) -> Self:
        """Learns the half-life of the counts and the interpolation weights of a cache model from the validation set.

        The model that is combined with the caches must be fitted already. A half-life that was given is not learned.
        """
        from scipy.optimize import minimize_scalar  # slow to import, and needed in a fit only

        static_log_probs = self.static.log_probs(valid)
        text = _NumberedPairs(valid.ids, self.vocab_size)

        def loss(log_half_life: float) -> float:
            return self._best_weights(text, static_log_probs, float(np.exp(log_half_life)))[1]

        half_life = self._given_half_life
        if half_life is None:
            if on_progress:
                on_progress(Progress(0, None, "steps", "tuning the half-life of the cache"))
            best: Any = minimize_scalar(loss, bounds=np.log(_HALF_LIVES), method="bounded", options={"xatol": 0.02})
            half_life = float(np.exp(best.x))
        weights, _ = self._best_weights(text, static_log_probs, half_life)
        return self._become(weights, np.array([half_life], np.float64))

    def _best_weights(
        self, text: _NumberedPairs, static_log_probs: NDArray[np.float64], half_life: float
    ) -> tuple[NDArray[np.float64], float]:
        """Learns the interpolation weights of a cache model for a given half-life of the counts.

        `static_log_probs` (T,) holds the log-probability of each of the T tokens of the text under the static model,
        the model that is combined with the caches. Returns the weights (3, 3), and the negative log-likelihood of the
        text with these weights, in nats. The columns are the static model, the unigram cache and the bigram cache; row
        k is for tokens at which k caches are not empty.
        """
        unused = np.zeros((_N_CASES, 3))
        with np.errstate(divide="ignore"):
            caches = np.log(text.read(_decay(half_life), unused, 0, np.empty((0, 0))))
        columns = np.column_stack([static_log_probs, caches])  # (T, 3)
        cases = 2 - np.isnan(caches).sum(axis=1)
        weights, nats = np.zeros((_N_CASES, 3)), 0.0
        for case in range(_N_CASES):
            tokens = columns[cases == case, : 1 + case]
            weights[case, : 1 + case] = learn_weights(tokens)
            probs = np.exp(tokens) @ weights[case, : 1 + case]
            nats -= np.log(probs[probs > 0]).sum()  # a token that is impossible is so at every half-life
        return weights, nats

    def _become(self, weights: NDArray[np.float64], half_life: NDArray[np.float64]) -> Self:
        self.weights, self._half_life = weights, half_life
        self.fitted = True
        return self

    @property
    def half_life(self) -> float:
        """The number of tokens after which a count has decayed to half its value."""
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
        caches = _cache_predictions(state.document, _decay(self.half_life), self.vocab_size)
        weights = self.weights[len(caches)]
        probs = weights[0] * np.exp(self.static.next_log_probs(state.static))
        for weight, distribution in zip(weights[1:], caches, strict=False):
            probs += weight * distribution
        return _log(probs)

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> CacheState:
        return CacheState(self.static.state_after(self.static.visible(context)), context)

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        text = _NumberedPairs(stream.ids, self.vocab_size)
        cache_probs = text.read(_decay(self.half_life), self.weights, 0, np.empty((0, 0)))
        weights = self.weights[2 - np.isnan(cache_probs).sum(axis=1)]  # (T, 3)
        probs = weights[:, 0] * np.exp(self.static.log_probs(stream))
        return _log(probs + (weights[:, 1:] * np.nan_to_num(cache_probs)).sum(axis=1))

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
            text = _NumberedPairs(stream.ids[band.document : band.stop], self.vocab_size)
            text.read(decay, self.weights, band.start - band.document, probs)
            _log(probs, out=probs)
            for start, stop in self.block_bounds(len(band)):
                yield np.arange(band.start + start, band.start + stop), probs[start:stop]

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": self.weights, "half_life": self._half_life, **add_prefix("static", self.static.arrays())}

    def load_arrays(self, arrays: Arrays) -> Self:
        weights = take_array(arrays, "weights", shape=(_N_CASES, 3), dtype=np.float64)
        half_life = take_array(arrays, "half_life", shape=(1,), dtype=np.float64)
        valid = (weights >= 0).all() and (weights[:, 0] > 0).all() and np.allclose(weights.sum(axis=1), 1)
        if not (valid and 0 < half_life[0] < np.inf):
            raise SavedModelError(
                "the saved cache model is damaged: its weights must sum to 1, and its half-life must be above 0"
            )
        self.static.load_arrays(strip_prefix("static", arrays))
        return self._become(weights, half_life)


def _log(probs: NDArray[np.float64], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):  # a static model without smoothing gives some tokens the probability 0
        return np.log(probs, out=out)


def _decay(half_life: float) -> float:
    """Returns the factor by which the counts of a cache decay with each token."""
    return 0.5 ** (1 / half_life)


def cache(
    vocab_size: int, *, static: Any = "ngram", half_life: float | None = None, device: Device = "cpu"
) -> CacheModel:
    """Creates a cache model, which raises the probability of tokens that occurred in the document before.

    `static` is the model that is combined with the caches: the name of a model family ("species"), or a mapping such as
    {"species": "ngram", "settings": {"order": 3}}. `half_life` is the number of tokens after which a count has decayed
    to half its value; None = tuned on the validation set.
    """
    return CacheModel(create_member(static, vocab_size, device), half_life=half_life)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "cache": {"bytes": {"static": {"species": "ngram", "settings": {"order": 10}}}}
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
