"""Unbounded n-gram models (Infini-gram, Liu et al. 2024) predict from contexts of any length.

An n-gram model has a table of contexts of n - 1 tokens. Infini-gram instead sorts the positions of the training text so
that all positions with the same context, of any length, are neighbours. At each prediction it counts the tokens that
followed the context. Liu et al. predict from the longest context that occurs in the training text (the "infinity-gram")
and interpolate this with a neural model. lmzoo interpolates the longest context with shorter ones by absolute
discounting (Ney, Essen & Kneser 1994), so that every token has a probability above 0 without another model:

    P(w | h) = (max(c(h w) - D, 0) + D types(h) P(w | h')) / c(h)

Here c counts occurrences, and types(h) is the number of different tokens that followed h. The shorter context h' is the
longest suffix of h that occurs at least four times as often as h; suffixes that occur less often were followed by
nearly the same tokens as h. The discount D depends on the length of h and on c(h). The discounts maximise the
likelihood of the validation set.

J. Liu, S. Min, L. Zettlemoyer, Y. Choi, H. Hajishirzi, Infini-gram: Scaling Unbounded n-gram Language Models to a
Trillion Tokens, COLM 2024.

What an unbounded n-gram model cannot do: generalise. In new text, the longest context that occurs in the training text
has only two or three tokens.

    index.py   the sorted contexts of a text      reading.py   look-ups in the index, compiled      model.py   the model
"""

from __future__ import annotations

from lmzoo.models.infinigram.model import InfinigramModel

__all__ = ["InfinigramModel", "infinigram"]


def infinigram(vocab_size: int, *, max_context: int = 1000) -> InfinigramModel:
    """Creates an n-gram model of unbounded order, which uses contexts of up to `max_context` tokens.

    The maximum limits the time per token in texts that repeat one token ("a a a a ..."), in which the number of
    matching contexts grows with every token. Contexts in natural text are almost never this long.
    """
    return InfinigramModel(vocab_size, max_context=max_context)
