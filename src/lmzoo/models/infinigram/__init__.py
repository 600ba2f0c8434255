"""Unbounded n-gram (Liu et al. 2024, Infini-gram): a sorted index of the training text answers for any context.

An n-gram model tabulates contexts of n - 1 tokens. Infini-gram keeps the text itself in an order in which all places
with the same context, however long, are neighbours, and counts what followed when it is asked. Its authors answer with
the longest context that was ever seen, alone (the "infinity-gram"), and mix that with a neural model. Here the longest
context is interpolated with shorter ones by absolute discounting (Ney, Essen & Kneser 1994), so that nothing is
impossible and no other model is needed:

    P(w | h) = (max(c(h w) - D, 0) + D types(h) P(w | h')) / c(h)

types(h) is the number of different tokens after h. h' is the longest shorter context that occurs at least four times as
often as h: those between saw nearly what h saw, and have little to add. The discounts D depend on how long h is and how
often it occurs, and are those under which the valid split is most likely.

J. Liu, S. Min, L. Zettlemoyer, Y. Choi, H. Hajishirzi, Infini-gram: Scaling Unbounded n-gram Language Models to a
Trillion Tokens, COLM 2024.

What it cannot do: generalise. Where a text is new, its longest seen context is two or three tokens long.

    index.py   the contexts of a text in order      reading.py   walking the index, compiled      model.py   the model
"""

from __future__ import annotations

from lmzoo.models.infinigram.model import InfinigramModel

__all__ = ["InfinigramModel", "infinigram"]


def infinigram(vocab_size: int, *, max_context: int = 1000) -> InfinigramModel:
    """n-gram model of unbounded order: any context that was seen in training counts, up to `max_context` tokens.

    The bound is for texts that repeat themselves without end ("a a a a ..."), where a reader would follow as many
    contexts as it has read tokens; in a natural text it is hardly ever reached, and costs nothing.
    """
    return InfinigramModel(vocab_size, max_context=max_context)
