"""Leaves rare n-grams of three or more tokens out of a model, as KenLM's `lmplz --prune 0 0 1` does.

Most long n-grams of a text occur once. A model without them is much smaller, and predicts nearly as well. Discounts are
learned from all n-grams. Then the discounted count of each n-gram that is left out is given to the shorter context. The
last token of the n-gram is predicted as if it had never followed its context, and every distribution still sums to 1.

An n-gram occurs at most as often as its context and its suffix. Therefore, if an n-gram is kept, both of them are kept.
"""

from __future__ import annotations

import logging
from typing import Final

_logger = logging.getLogger(__name__)

FIRST_ORDER: Final = 3
"""The length of the shortest n-grams that can be left out."""
LONG_TEXT: Final = 10**9
"""Number of tokens above which n-grams that occur once are left out by default."""


def min_count_for(min_count: int, n_tokens: int) -> int:
    """Returns how often an n-gram of three or more tokens must occur in a text of `n_tokens` tokens to be kept.

    `min_count` is the setting of the model; 0 means 1, or 2 for texts of more than 10^9 tokens, which is then logged.
    """
    if min_count or n_tokens <= LONG_TEXT:
        return max(1, min_count)
    _logger.info(
        "the text has more than %d million tokens: n-grams of three or more tokens that occur once are left out "
        "(min_count=1 keeps them)",
        LONG_TEXT // 10**6,
    )
    return 2
