"""Rankings of replies as token ids, as the objectives of reward models and of DPO read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmzoo.chat.preferences import Ranking
from lmzoo.chat.template import render_reply
from lmzoo.tokenizers import Tokenizer


def ranked_texts(
    rankings: Sequence[Ranking], tokenizer: Tokenizer
) -> tuple[list[tuple[NDArray[np.int32], NDArray[np.float32]]], list[list[list[int]]]]:
    """Returns the texts of rankings, and each ranking as a list of levels of text indices, the best level first.

    A text is a prompt with a reply, as token ids (T,) and weights (T,): 1 for the tokens of the reply. The replies of a
    level are equally good.
    """
    texts: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
    levels: list[list[list[int]]] = []
    for ranking in rankings:
        first = len(texts)
        for reply in ranking.replies:
            text = render_reply(ranking.prompt, reply, tokenizer)
            texts.append((text.ids, text.weights))
        indices = list(range(first, len(texts)))
        levels.append([indices] if ranking.tie else [[index] for index in indices])
    return texts, levels
