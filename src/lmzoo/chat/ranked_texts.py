"""Rankings of replies, converted to the token ids from which reward models and DPO learn."""

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
    """Returns the texts of rankings as token ids, and the order of the texts in each ranking.

    A text is a prompt with a reply: a pair of token ids (T,) and weights (T,), which are 1 for the tokens of the reply
    and 0 for those of the prompt. Each ranking is a list of groups, the best first. A group lists the indices of
    equally good texts; it has one index, or two if the ranking is a tie.
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
