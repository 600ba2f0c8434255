"""Models whose predictions depend on one token at most, so that equal pairs of tokens have equal scores."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.language_model import LanguageModel, TokenStats
from lmzoo.stream import TokenStream
from lmzoo.system.progress import OnProgress, Progress

State = TypeVar("State")


class ShortContextModel(LanguageModel[State]):
    """Base class of language models whose predictions depend on the last token, or on no token.

    A long text has far fewer distinct pairs of tokens than tokens, so each distinct pair is scored only once.
    """

    def token_stats(
        self,
        ids: ArrayLike | TokenStream,
        on_progress: OnProgress | None = None,
        *,
        positions: NDArray[np.intp] | None = None,
        token_set: NDArray[np.bool_] | None = None,
    ) -> TokenStats:
        stream = self.checked_stream(ids)
        wanted = stream.selected(positions)
        pairs = stream.ids[wanted].astype(np.int64)
        if self.context_size:
            pairs += self.vocab_size * stream.previous_ids()[wanted].astype(np.int64)
        _, first, pair_of_token = np.unique(pairs, return_index=True, return_inverse=True)
        order = np.argsort(first)

        def report(progress: Progress) -> None:
            if on_progress:
                on_progress(Progress(progress.done * len(wanted) // len(first), len(wanted), "tokens"))

        stats = super().token_stats(stream, report, positions=wanted[first[order]], token_set=token_set)
        rows = np.argsort(order)[pair_of_token]  # of each token in the scores of the pairs
        columns: dict[str, Any] = {
            name: None if column is None else column[rows] for name, column in vars(stats).items()
        }
        return TokenStats(**columns)
