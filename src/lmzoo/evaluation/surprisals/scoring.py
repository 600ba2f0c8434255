"""Scores the tokens of contexts, so that the scores of a context do not depend on the other contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.language_model import LanguageModel, TokenStats
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.progress import Progress

_WINDOW_IDS = 1 << 15
"""Number of token ids of the windows that are read at a time."""


def scores(
    model: LanguageModel[Any],
    stream: TokenStream,
    window: int | None,
    token_set: NDArray[np.bool_] | None,
    on_share: Callable[[float], None],
) -> TokenStats:
    """Scores each of the T tokens of a stream of contexts, which are its documents.

    `window` is the largest number of tokens before a token that the model sees; None = all of the context. `token_set`
    is the argument of `LanguageModel.token_stats`. `on_share` is called with the share of the tokens that is scored.
    """
    if window is not None and model.context_size is not None and model.context_size <= window:
        window = None  # the model sees no further
    longest = int((stream.ends - stream.starts).max(initial=0))
    if model.exact_in_batches and (window is None or longest <= window + 1):
        return model.token_stats(stream, lambda progress: on_share(progress.done / len(stream)), token_set=token_set)
    parts: list[TokenStats] = []
    done = 0

    def report(progress: Progress) -> None:
        on_share((done + progress.done) / len(stream))

    for document in stream.documents():
        for ids, positions in _readings(document, window):
            parts.append(model.token_stats(ids, report, positions=positions, token_set=token_set))
            done += len(parts[-1].log_probs)
    return _joined(parts)


def _readings(
    document: NDArray[np.int32], window: int | None
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.intp] | None]]:
    """Yields what a model reads to score a context: token ids, and the positions that are scored, or None for all.

    With a window of N tokens, the first N + 1 tokens are read once. Each later token is read in a document of its own,
    after the N tokens before it.
    """
    if window is None or len(document) <= window + 1:
        yield document, None
        return
    yield document[: window + 1], None
    windows = np.lib.stride_tricks.sliding_window_view(document, window + 1)[1:]
    size = max(1, _WINDOW_IDS // (window + 2))
    for start in range(0, len(windows), size):
        rows = np.pad(windows[start : start + size], ((0, 0), (0, 1)), constant_values=EOT)
        yield rows.ravel(), window + np.arange(len(rows)) * rows.shape[1]


def _joined(parts: list[TokenStats]) -> TokenStats:
    columns: dict[str, Any] = {}
    for name, value in vars(parts[0]).items():
        columns[name] = None if value is None else np.concatenate([getattr(part, name) for part in parts])
    return TokenStats(**columns)
