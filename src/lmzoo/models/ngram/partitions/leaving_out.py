"""Leaves out the rare n-grams of one partition; see `lmzoo.models.ngram.rare`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lmzoo.models.ngram.rare import FIRST_ORDER
from lmzoo.system.executors import Arrays

_OF_NGRAMS = ("last", "log_probs", "in_head")


def leave_out(min_count: int, *arrays: Arrays) -> Iterator[Arrays]:
    """Leaves out the n-grams of one partition that have three or more tokens and occur fewer than `min_count` times.

    `arrays` are those that the stage `sort` yielded for each length 2 .. n, and then those that the stage `estimate`
    yielded. Yields the arrays of both stages for each length, without these n-grams and their contexts, and at the end
    "sizes" (n - 1,), the numbers of n-grams of each length that are left.

    An n-gram occurs as often as its continuations together, except at the end of the text. Therefore a context is left
    out if its continuations occur fewer than `min_count` times together.
    """
    half, sizes = len(arrays) // 2, []
    # The new numbers of the shorter n-grams, which for bigrams are the tokens, and of their contexts.
    numbers = np.arange(1 + arrays[0]["suffixes"].max(initial=0), dtype=np.int32)
    context_numbers = np.zeros(1, np.int32)
    for length, (level, estimates) in enumerate(zip(arrays[:half], arrays[half:], strict=True), 2):
        observed, starts = level["observed"], level["starts"]
        kept = observed >= (min_count if length >= FIRST_ORDER else 0)
        totals = np.add.reduceat(observed, starts[:-1], dtype=np.int64) if observed.size else observed
        kept_contexts = totals >= (min_count if length > FIRST_ORDER else 0)
        suffixes = numbers[level["suffixes"][kept]]
        context_suffixes = context_numbers[level["context_suffixes"][kept_contexts]]
        n_before = np.append(0, np.cumsum(kept)).astype(np.int32)
        numbers, context_numbers = n_before[:-1], (np.cumsum(kept_contexts) - 1).astype(np.int32)
        both = {**level, **estimates}
        sizes.append(suffixes.size)
        yield {
            **{name: both[name][kept] for name in _OF_NGRAMS if name in both},
            "suffixes": suffixes,
            "starts": np.append(n_before[starts[:-1][kept_contexts]], n_before[-1]),
            "context_tokens": level["context_tokens"][kept_contexts],
            "context_suffixes": context_suffixes,
            "backoffs": estimates["backoffs"][kept_contexts],
        }
    yield {"sizes": np.array(sizes)}
