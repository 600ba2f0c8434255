"""Skip n-gram (Huang et al. 1993; Rosenfeld 1994; Ney, Essen & Kneser 1994): contexts that leave tokens out.

Of the last three tokens a text may never have seen all together, but the last and the third last, "show _ the". So
every way of leaving some of the last n - 1 tokens out is a context of its own. They are asked in turn, 1 = looked at:

    -3 -2 -1:   1 1 1    . 1 1    1 . 1    . . 1    1 1 .    . 1 .    1 . .    . . .

Each answers with a probability lambda, or passes the question on to the next; the last one passes it on to 1 / V:

    P(w | h) = sum_i share_i(h) P_i(w | h),    share_i(h) = lambda_i(h) prod_{j < i} (1 - lambda_j(h))

P_i are the discounted counts of what followed the context, (c(h w) - D) / sum_w (c(h w) - D), and D = t1 / (t1 + 2 t2)
with t1 and t2 the numbers of counts 1 and 2 (Ney, Essen & Kneser 1994, On Structuring Probabilistic Dependences in
Stochastic Language Modelling, Computer Speech and Language 8). Discounting frees the share D types(h) / c(h) of a
context: that tells how well it was seen, and contexts of one pattern that free about the same share one lambda, learned
by EM on valid (Jelinek & Mercer 1980). A context that does not reach back n - 1 tokens counts in how many different
ways it and what followed were preceded, not how often they occurred (Kneser & Ney 1995).

What it cannot do: see past n - 1 tokens; and with each token that it sees further, patterns double. A fit sorts the
text three times for each of the 2^(n-1) patterns.

    tables.py    patterns, contexts, and what followed them        model.py   the language model
    filling.py   writing out distributions, compiled
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.skip_ngram.model import SkipNgramModel

__all__ = ["SkipNgramModel", "skip_ngram"]


def skip_ngram(vocab_size: int, *, order: int = 4) -> SkipNgramModel:
    """Model of the last `order` - 1 tokens with and without gaps; `order` is from 2 to 6."""
    return SkipNgramModel(vocab_size, order=order)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {"skip_ngram": {"bytes": {"order": 6}}}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
