"""How far back a model looks: what it loses where it must not.

A *stretch* of D + 1 tokens out of a document is read three times:

    whole       after all that stands before it in its document
    cut         after nothing, so that its n-th token (from 0) is predicted from n tokens
    shuffled    after all that stands before it, in an order drawn at random: only the last n tokens before the n-th
                are in their places

So three readings tell what n tokens are worth, and n tokens in order, for every n from 0 to D. What is lost is the
difference to `whole` at the same token of the same text, so that easy and hard tokens cancel; and as every species
reads the same stretches in the same disorder, they do so between species, too. What short contexts cost differs most
from token to token, and is cheap to read: for them every stretch is cut not once, but into pieces.

These are the experiments of Khandelwal, He, Qi & Jurafsky 2018 (Sharp Nearby, Fuzzy Far Away: How Neural Language
Models Use Context, ACL), who read each token once for each n: an LSTM of theirs uses about 200 tokens, and the order of
the last 50. Read in stretches, the same time yields tens of times as many tokens for long contexts, where there is
little to find.

What it does not tell: how a model would do that had never learned from longer contexts. And a cut is to a model the
start of a document, as it knows no other beginning: cut short, it loses by that, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from lmzoo.checks import check_positive, check_whole
from lmzoo.errors import CorpusError, UsageError
from lmzoo.evaluation.statistics import CONFIDENCE
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.progress import OnProgress, Progress

Kind = Literal["cut", "shuffled"]

_N_ROWS = 32
"""Stretches that are read side by side."""
_PIECE = 16
"""Contexts shorter than this are cut at every so many tokens of a stretch."""
_STEPS_PER_OCTAVE = 8
_N_RESAMPLES = 400


@dataclass(frozen=True)
class Reach:
    """How many tokens a model needs; `max_context` + 1 stands for more than were tried."""

    tokens: int
    low: int
    """Ends of the 95 % interval of `tokens`, by the bootstrap over documents; over stretches if all are of one."""
    high: int


@dataclass(frozen=True, eq=False)
class ContextUse:
    """What N stretches of D + 1 tokens cost a model, and what it loses if they are read in two other ways; in nats."""

    positions: NDArray[np.int64]
    """(N,) where each stretch begins in the stream."""
    documents: NDArray[np.int64]
    """(N,) the number of its document."""
    whole: NDArray[np.float64]
    """(N, D + 1) each token after the document so far."""
    cut: NDArray[np.float64]
    """(N, D + 1) lost where only the last n tokens are seen, n = 0 .. D: at a token, or on average of several."""
    shuffled: NDArray[np.float64]
    """(N, D + 1) lost at each token where only the n before it are in their places."""

    @property
    def max_context(self) -> int:
        """D."""
        return self.whole.shape[1] - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(K,) numbers of tokens at which losses are given: 0 .. 11, then eight for every doubling.

        Each stands for all up to the next one, the last one for all up to D.
        """
        octaves = math.log2(self.max_context + 1) - 1 / _STEPS_PER_OCTAVE  # the last step has to be a whole one
        steps = 2.0 ** (np.arange(max(0, math.floor(octaves * _STEPS_PER_OCTAVE)) + 1) / _STEPS_PER_OCTAVE)
        return np.unique(np.append(0, steps.astype(np.int64)))

    @property
    def n_documents(self) -> int:
        """How many documents the stretches are from."""
        return len(np.unique(self.documents))

    def loss(self, kind: Kind) -> NDArray[np.float64]:
        """(K,) mean nats a token at `lengths`: what is lost there, on top of the mean of `whole` over all its tokens.

        That a longer context does not cost more than a shorter one is taken for granted: the curve is the falling one
        that is nearest to what was measured at each length (isotonic regression).
        """
        return self.whole.mean() + _falling(getattr(self, kind).mean(0), self.lengths)

    def reach(self, kind: Kind, *, tolerance: float = 0.01, seed: int = 0) -> Reach:
        """The fewest tokens with which perplexity is at most `tolerance` above that with the whole document so far.

        For "cut", how many tokens it looks back; for "shuffled", how many of these have to be in order.
        """
        check_positive(tolerance=tolerance)
        lengths = self.lengths
        groups = self.documents if self.n_documents > 1 else self.positions
        _, own = np.unique(groups, return_inverse=True)
        sizes = np.bincount(own)  # (G,) stretches of each document
        sums = np.zeros((len(sizes), self.max_context + 1))
        np.add.at(sums, own, getattr(self, kind))

        def tokens(weights: NDArray[np.integer]) -> int:
            lost = _falling(weights @ sums / (weights @ sizes), lengths)
            found = np.flatnonzero(lost <= math.log1p(tolerance))
            return int(lengths[found[0]]) if found.size else self.max_context + 1

        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=_N_RESAMPLES)
        ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        low, high = np.quantile([tokens(weights) for weights in drawn], ends, method="nearest")
        return Reach(tokens(np.ones(len(sizes), np.int64)), int(low), int(high))


def _falling(lost: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) the falling curve nearest to the means of `lost` (D + 1,) from each of K lengths up to the next one."""
    n_each = np.diff(np.append(lengths, len(lost)))
    means = np.add.reduceat(lost, lengths) / n_each
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
    """Reads `n_positions` stretches of `max_context` + 1 tokens, which `seed` draws, whole, cut and shuffled.

    At least `max_context` tokens stand before each in its document. Where documents that are long enough for that hold
    less than half of the text, `max_context` is less: such that they do.
    Raises CorpusError if documents are too short for any context, UsageError if the model finds the text impossible.
    """
    check_whole(1, max_context=max_context, n_positions=n_positions)
    stream = model.checked_stream(text)
    rng = np.random.default_rng(seed)
    max_context = _longest(stream, max_context)
    positions, documents = _drawn(stream, max_context, n_positions, rng)
    stretches = stream.ids[positions[:, None] + np.arange(max_context + 1)]  # (N, D + 1)
    # With as many tokens as it can see, a model does not know what else was done to the text.
    n_seen = max_context + 1 if model.context_size is None else min(model.context_size, max_context + 1)
    n_pieces = (max_context + 1) // _PIECE
    whole = np.empty(stretches.shape)
    cut, shuffled = np.zeros_like(whole), np.zeros_like(whole)
    for first in range(0, len(positions), _N_ROWS):
        rows = slice(first, first + _N_ROWS)
        begins = stream.starts[documents[rows]]
        before = [stream.ids[begin:end] for begin, end in zip(begins, positions[rows], strict=True)]
        whole[rows] = _nats(model, before, stretches[rows])
        near = stretches[rows, :n_seen]
        cut[rows, :n_seen] = _nats(model, None, near) - whole[rows, :n_seen]
        shuffled[rows, :n_seen] = _nats(model, [rng.permutation(ids) for ids in before], near) - whole[rows, :n_seen]
        if n_pieces > 1:
            shape = len(before), n_pieces, _PIECE
            pieces = stretches[rows, : n_pieces * _PIECE].reshape(shape)[:, :, :n_seen]
            known = whole[rows, : n_pieces * _PIECE].reshape(shape)[:, :, :n_seen]
            costs = _nats(model, None, pieces.reshape(len(before) * n_pieces, -1)).reshape(pieces.shape)
            cut[rows, : pieces.shape[2]] = (costs - known).mean(1)
        if on_progress:
            on_progress(Progress(min(first + _N_ROWS, len(positions)), len(positions), "stretches"))
    return ContextUse(positions, documents, whole, cut, shuffled)


def _longest(stream: TokenStream, limit: int) -> int:
    """The largest D up to `limit` such that documents of 2 D + 1 tokens or more hold half of the text."""
    sizes = np.sort(stream.ends - stream.starts)[::-1]
    half = np.searchsorted(sizes.cumsum(), len(stream) / 2)
    longest = min(limit, (int(sizes[half]) - 1) // 2) if sizes.size else 0
    if longest < 1:
        raise CorpusError(
            "the documents of this text are too short to tell what context is good for: join some of them"
        )
    return longest


def _drawn(
    stream: TokenStream, max_context: int, n_positions: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where stretches begin, and the numbers of their documents; the nearest to a document start first."""
    sizes = stream.ends - stream.starts
    # A stretch begins D to 2 D tokens into its document: all before it is read.
    ends = np.clip(sizes - 2 * max_context, 0, max_context).cumsum()  # of each document's candidates
    chosen = rng.choice(ends[-1], size=min(n_positions, int(ends[-1])), replace=False)
    documents = np.searchsorted(ends, chosen, side="right")
    depths = max_context + chosen - np.append(0, ends)[documents]
    order = np.argsort(depths, kind="stable")
    return (stream.starts[documents] + depths)[order], documents[order]


def _nats(
    model: LanguageModel[Any], before: Sequence[NDArray[np.int32]] | None, stretches: NDArray[np.int32]
) -> NDArray[np.float64]:
    """(B, T) what the tokens of B stretches cost, each read at the start of a document, or after others there."""
    if before is None:
        before = [stretches[0, :0]] * len(stretches)
    if model.context_size is not None:
        before = [ids[max(0, len(ids) - model.context_size) :] for ids in before]
    end = np.array([EOT], np.int32)
    documents = [np.concatenate([*parts, end]) for parts in zip(before, stretches, strict=True)]
    ends = np.cumsum([len(ids) for ids in documents]) - 1
    n_tokens = stretches.shape[1]
    log_probs = model.log_probs(TokenStream(np.concatenate(documents)))[ends[:, None] - np.arange(n_tokens, 0, -1)]
    if not np.isfinite(log_probs).all():
        raise UsageError("this model finds some of the text impossible: whatever it may look at, its loss is infinite")
    return -log_probs
