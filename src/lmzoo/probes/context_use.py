"""Use of context: the increase of a model's loss when its context is truncated or shuffled.

A *passage* of D + 1 tokens of a document is scored three times:

    whole       after all tokens before it in its document
    cut         after no token, so its n-th token (from 0) is predicted from n tokens
    shuffled    after all tokens before it in random order: only the last n tokens before the n-th token are in order

The three scores give the loss with n tokens of context, and with n tokens in order, for every n from 0 to D. The
increase is the difference to `whole` at the same token, which removes the variation between easy and hard tokens. All
models are scored on the same passages with the same random orders. Losses after short contexts vary most between
tokens, and are cheap to compute: for them, each passage is cut into several pieces.

These are the experiments of Khandelwal, He, Qi & Jurafsky 2018 (Sharp Nearby, Fuzzy Far Away: How Neural Language
Models Use Context, ACL), who scored each token once for each n: their LSTM uses about 200 tokens, and the order of the
last 50.

Limits: a model trained only on short contexts would do better with them. And a truncated context looks to the model
like the start of a document, which is a part of the increase at short contexts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.checks import check_count, check_positive, check_seed
from lmzoo.errors import CorpusError, UsageError
from lmzoo.evaluation.statistics import CONFIDENCE
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.progress import OnProgress, Progress

Kind = Literal["cut", "shuffled"]

_N_ROWS = 32
"""Number of passages scored at a time."""
_PIECE = 16
"""Length of the pieces of a passage, for contexts shorter than this."""
_STEPS_PER_OCTAVE = 8
_N_RESAMPLES = 400


@dataclass(frozen=True)
class Reach:
    """The number of context tokens that a model uses, with a 95 % confidence interval.

    D + 1 is stored for a number above D, the length of the longest context that was measured.
    """

    tokens: int
    low: int
    """Lower end of the 95 % interval of `tokens`, by bootstrap over documents (or passages, if of one document)."""
    high: int


@dataclass(frozen=True, eq=False)
class ContextUse:
    """The loss of a model on N passages of D + 1 tokens, and its increase if the context is truncated or shuffled.

    A passage is a part of a document. Its loss with the full context is compared with the loss if the tokens before the
    passage are removed ("cut") or shuffled ("shuffled").
    """

    positions: NDArray[np.int64]
    """(N,): index in the stream of the first token of each passage."""
    documents: NDArray[np.int64]
    """(N,): index of the document of each passage."""
    whole: NDArray[np.float64]
    """(N, D + 1): surprisal of each token after all earlier tokens of the document."""
    cut: NDArray[np.float64]
    """(N, D + 1): increase with a context of n tokens, n = 0 .. D; for short contexts a mean over several tokens."""
    shuffled: NDArray[np.float64]
    """(N, D + 1): increase at each token if only the last n tokens before it are in order, n = 0 .. D."""

    @property
    def max_context(self) -> int:
        """The longest measured context D, in tokens."""
        return self.whole.shape[1] - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The K context lengths at which mean losses are reported, (K,): 0 .. 11, then eight per doubling.

        The mean loss at one of these lengths is taken over all lengths from it to just below the next.
        """
        octaves = math.log2(self.max_context + 1) - 1 / _STEPS_PER_OCTAVE  # the last step must be complete
        steps = 2.0 ** (np.arange(max(0, math.floor(octaves * _STEPS_PER_OCTAVE)) + 1) / _STEPS_PER_OCTAVE)
        return np.unique(np.append(0, steps.astype(np.int64)))

    @property
    def n_documents(self) -> int:
        """The number of documents from which the passages are taken."""
        return len(np.unique(self.documents))

    def loss(self, kind: Kind) -> NDArray[np.float64]:
        """Returns the mean loss (K,) of the model, in nats per token, at each of K lengths of the intact context.

        The tokens before the intact context are removed for `kind` "cut", and shuffled for "shuffled". It is assumed
        that a longer context has no higher loss: the result is the decreasing curve closest to the measured means
        (isotonic regression).
        """
        return self.whole.mean() + _decreasing(getattr(self, kind).mean(0), self.lengths)

    def reach(self, kind: Kind, *, tolerance: float = 0.01) -> Reach:
        """Returns the number of context tokens that the model uses: more tokens hardly lower its perplexity.

        At the returned number, the perplexity is higher than with the full context by at most the fraction `tolerance`,
        such as 0.01 for 1 %. For `kind` "cut", the older tokens are removed, and the result is the effective context
        length. For "shuffled", they are shuffled, and the result is the number of tokens whose order matters. The 95 %
        interval is a bootstrap with a fixed seed.
        """
        check_positive(tolerance=tolerance)
        lengths = self.lengths
        groups = self.documents if self.n_documents > 1 else self.positions
        _, group = np.unique(groups, return_inverse=True)
        sizes = np.bincount(group)  # (G,): number of passages of each document
        sums = np.zeros((len(sizes), self.max_context + 1))
        np.add.at(sums, group, getattr(self, kind))

        def tokens(weights: NDArray[np.integer]) -> int:
            increase = _decreasing(weights @ sums / (weights @ sizes), lengths)
            enough = np.flatnonzero(increase <= math.log1p(tolerance))
            return int(lengths[enough[0]]) if enough.size else self.max_context + 1

        rng = np.random.default_rng(0)
        resamples = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=_N_RESAMPLES)
        ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        low, high = np.quantile([tokens(weights) for weights in resamples], ends, method="nearest")
        return Reach(tokens(np.ones(len(sizes), np.int64)), int(low), int(high))


def _decreasing(increase: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Averages `increase` over K ranges of context lengths and fits a decreasing curve (K,) to the means.

    `increase` (D + 1,) is the increase of the loss at each context length 0 .. D. Each range begins at one of the K
    `lengths` and ends before the next one.
    """
    from scipy.optimize import isotonic_regression  # slow to import

    n_each = np.diff(np.append(lengths, len(increase)))
    means = np.add.reduceat(increase, lengths) / n_each
    return isotonic_regression(means, weights=n_each, increasing=False).x


def context_use(
    model: LanguageModel[Any],
    text: ArrayLike | TokenStream,
    *,
    max_context: int = 256,
    n_positions: int = 64,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> ContextUse:
    """Measures the increase of a model's loss with truncated and with shuffled context.

    `n_positions` passages of `max_context` + 1 tokens are sampled with `seed`, each with at least `max_context` earlier
    tokens in its document. `max_context` is reduced if documents that are long enough hold less than half of the text.
    Raises CorpusError if the documents are too short, and UsageError if the model gives some token probability 0.
    """
    check_count(1, max_context=max_context, n_positions=n_positions)
    check_seed(seed=seed)
    stream = model.checked_stream(text)
    rng = np.random.default_rng(seed)
    max_context = _longest(stream, max_context)
    positions, documents = _sampled_positions(stream, max_context, n_positions, rng)
    passages = stream.ids[positions[:, None] + np.arange(max_context + 1)]  # (N, D + 1)
    # Beyond its context size, a model does not depend on earlier tokens, so the increase is 0.
    n_seen = max_context + 1 if model.context_size is None else min(model.context_size, max_context + 1)
    n_pieces = (max_context + 1) // _PIECE
    whole = np.empty(passages.shape)
    cut, shuffled = np.zeros_like(whole), np.zeros_like(whole)
    for first in range(0, len(positions), _N_ROWS):
        rows = slice(first, first + _N_ROWS)
        begins = stream.starts[documents[rows]]
        before = [stream.ids[begin:end] for begin, end in zip(begins, positions[rows], strict=True)]
        whole[rows] = _nats(model, before, passages[rows])
        near = passages[rows, :n_seen]
        cut[rows, :n_seen] = _nats(model, None, near) - whole[rows, :n_seen]
        shuffled[rows, :n_seen] = _nats(model, [rng.permutation(ids) for ids in before], near) - whole[rows, :n_seen]
        if n_pieces > 1:
            shape = len(before), n_pieces, _PIECE
            pieces = passages[rows, : n_pieces * _PIECE].reshape(shape)[:, :, :n_seen]
            known = whole[rows, : n_pieces * _PIECE].reshape(shape)[:, :, :n_seen]
            costs = _nats(model, None, pieces.reshape(len(before) * n_pieces, -1)).reshape(pieces.shape)
            cut[rows, : pieces.shape[2]] = (costs - known).mean(1)
        if on_progress:
            on_progress(Progress(min(first + _N_ROWS, len(positions)), len(positions), "passages"))
    return ContextUse(positions, documents, whole, cut, shuffled)


def _longest(stream: TokenStream, limit: int) -> int:
    """Returns the largest D <= `limit` for which documents of at least 2 D + 1 tokens hold half of the text."""
    sizes = np.sort(stream.ends - stream.starts)[::-1]
    half = np.searchsorted(sizes.cumsum(), len(stream) / 2)
    longest = min(limit, (int(sizes[half]) - 1) // 2) if sizes.size else 0
    if longest < 1:
        raise CorpusError("the documents of this text are too short to measure the use of context: join some of them")
    return longest


def _sampled_positions(
    stream: TokenStream, max_context: int, n_positions: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples passages of a text, each preceded by at least `max_context` tokens of its document.

    Returns the position of the first token of each passage and the index of its document. The passages are sorted by
    the number of tokens that precede them in their documents.
    """
    sizes = stream.ends - stream.starts
    # A passage starts after D to 2 D tokens of its document.
    ends = np.clip(sizes - 2 * max_context, 0, max_context).cumsum()  # cumulative number of candidates
    chosen = rng.choice(ends[-1], size=min(n_positions, int(ends[-1])), replace=False)
    documents = np.searchsorted(ends, chosen, side="right")
    depths = max_context + chosen - np.append(0, ends)[documents]
    order = np.argsort(depths, kind="stable")
    return (stream.starts[documents] + depths)[order], documents[order]


def _nats(
    model: LanguageModel[Any], before: Sequence[NDArray[np.int32]] | None, passages: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Returns the surprisals (B, T), in nats, of B passages of T tokens.

    Each passage follows the tokens in `before` in a document, or starts a document if `before` is None.
    """
    if before is None:
        before = [passages[0, :0]] * len(passages)
    if model.context_size is not None:
        before = [ids[max(0, len(ids) - model.context_size) :] for ids in before]
    end = np.array([EOT], np.int32)
    documents = [np.concatenate([*parts, end]) for parts in zip(before, passages, strict=True)]
    ends = np.cumsum([len(ids) for ids in documents]) - 1
    n_tokens = passages.shape[1]
    log_probs = model.log_probs(TokenStream(np.concatenate(documents)))[ends[:, None] - np.arange(n_tokens, 0, -1)]
    if not np.isfinite(log_probs).all():
        raise UsageError(
            "this model gives some token of the text probability 0, so its loss is infinite with any context: choose a "
            "model with smoothing"
        )
    return -log_probs
