"""Rankings of replies, converted to the token ids from which reward models and DPO learn.

DPO is direct preference optimization, which learns from rankings without a reward model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmzoo.chat.preferences import Ranking
from lmzoo.chat.template import render_reply
from lmzoo.tokenizers import Tokenizer


def ranked_sequences(
    rankings: Sequence[Ranking], tokenizer: Tokenizer
) -> tuple[list[tuple[NDArray[np.int32], NDArray[np.float32]]], list[list[list[int]]]]:
    """Returns the prompts and replies of rankings as sequences of token ids, and the order of these in each ranking.

    A sequence is a prompt followed by a reply: a pair of token ids (T,) and weights (T,), which are 1 for the tokens of
    the reply and 0 for those of the prompt. The order of a ranking is a list of levels, the best first. A level lists
    the indices of the sequences whose replies are equally good: one index, or two if the ranking is a tie.
    """
    sequences: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
    levels: list[list[list[int]]] = []
    for ranking in rankings:
        first = len(sequences)
        for reply in ranking.replies:
            rendered = render_reply(ranking.prompt, reply, tokenizer)
            sequences.append((rendered.ids, rendered.weights))
        indices = list(range(first, len(sequences)))
        levels.append([indices] if ranking.tie else [[index] for index in indices])
    return sequences, levels
