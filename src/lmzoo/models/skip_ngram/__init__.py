"""Skip n-gram models (Huang et al. 1993; Rosenfeld 1994) use contexts in which some of the last tokens are left out.

A training text may not contain the last three tokens in a row, but the last and the third last, as in "show _ the". So
a skip n-gram model of order n uses every subset of the last n - 1 tokens as a context. The subsets are called patterns.
With 1 for a token that is used, the patterns of order 4 have this order:

    -3 -2 -1:   1 1 1    . 1 1    1 . 1    . . 1    1 1 .    . 1 .    1 . .    . . .

The model interpolates the predictions P_i of all patterns. The weight lambda_i is the probability that pattern i makes
the prediction if the patterns before it do not; after the last pattern, every token has the probability 1 / V:

    P(w | h) = sum_i weight_i(h) P_i(w | h),    weight_i(h) = lambda_i(h) prod_{j < i} (1 - lambda_j(h))

P_i is estimated from discounted counts, (c(h w) - D) / sum_w (c(h w) - D) with D = t1 / (t1 + 2 t2), where t1 and t2
are the numbers of n-grams with the counts 1 and 2 (H. Ney, U. Essen, R. Kneser, On Structuring Probabilistic
Dependences in Stochastic Language Modelling, Computer Speech and Language 8, 1994). Discounting removes a fraction D
types(h) / c(h) of the counts of a context, where types(h) is the number of different tokens that followed it. This
fraction is small for a context with reliable counts. Contexts of one pattern with about the same fraction share one
lambda, which is learned by expectation-maximisation on the validation set (Jelinek & Mercer 1980). If a pattern does
not include the token n - 1 positions back, then c(h w) is not the number of occurrences, but the number of different
tokens that precede h when w follows (Kneser & Ney 1995).

What a skip n-gram model cannot do: use tokens more than n - 1 positions back. Each additional position doubles the
number of patterns: a fit sorts the text three times for each of the 2^(n-1) patterns.

    tables.py    patterns, contexts, and the tokens that followed them      model.py   the language model
    filling.py   writes distributions, compiled
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.skip_ngram.model import SkipNgramModel

__all__ = ["SkipNgramModel", "skip_ngram"]


def skip_ngram(vocab_size: int, *, order: int = 4) -> SkipNgramModel:
    """Creates a skip n-gram model, which predicts from all subsets of the last `order` - 1 tokens.

    `order` is from 2 to 6.
    """
    return SkipNgramModel(vocab_size, order=order)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {"skip_ngram": {"bytes": {"order": 6}}}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
