"""Sums of the scores of all tokens of a text, computed part by part, so that a long text needs little memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.encoded import EncodedSplit
from lmzoo.evaluation.statistics import ResamplingUnits, resampling_units, sums_of_units
from lmzoo.language_model import LanguageModel, TokenStats
from lmzoo.predictor import Predictor
from lmzoo.stream import TokenStream
from lmzoo.system.growing import GrowingArray
from lmzoo.system.progress import OnProgress, Progress

_PART_TOKENS = 1 << 21


@dataclass(frozen=True, eq=False)
class TokenSums:
    """Sums of scores over the T tokens of a text, and over each of the G units of text that the bootstrap resamples."""

    n_impossible: int
    """Number of tokens with a probability of 0."""
    log_probs: float
    """Sum of the log-probabilities in nats."""
    entropies: float
    """Sum of the entropies of the predictions in nats."""
    n_first: int
    """Number of tokens to which the model gave the highest probability."""
    n_in_five: int
    """Number of tokens that were among the five with the highest probabilities."""
    seconds: float
    """Time in which the model computed the scores."""
    units: ResamplingUnits
    log_probs_of_units: NDArray[np.float64]
    """(G,) sum of the log-probabilities of each unit in nats."""
    bytes_of_units: NDArray[np.float64]
    """(G,) number of bytes of each unit."""


def token_sums(
    predictor: Predictor,
    text: EncodedSplit,
    on_progress: OnProgress | None = None,
    on_stats: Callable[[TokenStats], None] | None = None,
) -> TokenSums:
    """Scores all tokens of a text, in parts of about two million tokens, and returns the sums of their scores.

    No document is divided between parts, but a resampling unit can be. The scores of a long part are kept in temporary
    files. If `on_stats` is given, the whole text is one part, and `on_stats` is called once with the scores of all
    tokens.
    """
    units = resampling_units(text.stream)
    sums: list[tuple[int, float, float, int, int]] = []
    log_probs_of_units, bytes_of_units = np.zeros((2, units.starts.size))
    n_done, seconds = 0, 0.0

    def report(progress: Progress) -> None:
        if on_progress:
            on_progress(Progress(n_done + progress.done, len(text.stream), progress.unit, progress.message))

    for part in _parts(text, len(text.stream) if on_stats else _PART_TOKENS):
        started = time.perf_counter()
        stats = _scores(predictor.model, part.stream, report)
        seconds += time.perf_counter() - started
        if on_stats:
            on_stats(stats)
        first = np.searchsorted(units.starts, n_done, side="right") - 1
        here = slice(first, np.searchsorted(units.starts, n_done + len(part.stream)))
        starts = np.maximum(units.starts[here] - n_done, 0)
        log_probs_of_units[here] += sums_of_units(stats.log_probs, starts)
        bytes_of_units[here] += sums_of_units(part.bytes_by_token, starts)
        sums.append(
            (
                int(np.count_nonzero(~np.isfinite(stats.log_probs))),
                float(stats.log_probs.sum()),
                float(stats.entropies.sum()),
                int(np.count_nonzero(stats.ranks == 1)),
                int(np.count_nonzero(stats.ranks <= 5)),
            )
        )
        n_done += len(part.stream)
    return TokenSums(
        n_impossible=sum(of_part[0] for of_part in sums),
        log_probs=sum(of_part[1] for of_part in sums),
        entropies=sum(of_part[2] for of_part in sums),
        n_first=sum(of_part[3] for of_part in sums),
        n_in_five=sum(of_part[4] for of_part in sums),
        seconds=seconds,
        units=units,
        log_probs_of_units=log_probs_of_units,
        bytes_of_units=bytes_of_units,
    )


def _scores(model: LanguageModel[Any], stream: TokenStream, on_progress: OnProgress) -> TokenStats:
    """Returns the scores of all tokens of a stream, which are computed piece by piece if the stream is long.

    A piece has about two million tokens and may begin inside a document. The model then also reads the last
    `context_size` tokens before the piece, so that each score has the same bits as without pieces. Models without a
    limited context, and networks, whose sums depend on the size of a batch, score the stream as a whole.
    """
    reach = model.context_size
    if reach is None or not model.exact_in_batches or len(stream) <= 2 * _PART_TOKENS:
        return model.token_stats(stream, on_progress)
    log_probs, entropies, tops = (GrowingArray(np.float64) for _ in range(3))
    ranks = GrowingArray(np.int32)
    for start in range(0, len(stream), _PART_TOKENS):
        before = max(0, start - reach)
        ids = stream.ids[before : start + _PART_TOKENS]
        stats = model.token_stats(ids, positions=np.arange(start - before, len(ids)))
        log_probs.extend(stats.log_probs)
        ranks.extend(stats.ranks)
        entropies.extend(stats.entropies)
        tops.extend(stats.top_log_probs)
        on_progress(Progress(before + len(ids), len(stream), "tokens"))
    return TokenStats(log_probs.finish(), ranks.finish(), entropies.finish(), tops.finish())


def _parts(text: EncodedSplit, n_tokens: int) -> Iterator[EncodedSplit]:
    """Cuts a text between documents into parts of at least `n_tokens` tokens; only the last part may have fewer."""
    starts, ends = text.stream.starts, text.stream.ends
    first = 0
    while first < starts.size:
        last = min(int(np.searchsorted(ends, starts[first] + n_tokens)) + 1, starts.size)
        yield text.between(first, last)
        first = last
