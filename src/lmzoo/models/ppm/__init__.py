"""Prediction by partial matching (Cleary & Witten 1984): all contexts of a text, learned token by token.

PPM predicts a token from the longest context that occurred before, that is, from the tokens that followed the same last
tokens. If the token never followed this context, a compressor sends an "escape" and tries the next shorter context. The
escape methods A, C and D differ in the probability of an escape; this is the question of smoothing, as compression asks
it. lmzoo blends all contexts instead of sending escapes: every token gets a share of the escape probability. With n
counts in a context, of u different tokens, n_x of them of token x:

    P(x | context) = (max(n_x - b, 0) + (a + u b) P(x | next shorter context)) / (n + a)

The escape methods give a and b: A has a = 1, b = 0; C has a = u, b = 0; D has a = 0, b = 1/2. PPM-DP (Steinruecken,
Ghahramani & MacKay 2015) learns them, for each length of the context and each u, by a gradient step after every token;
here it is a step of AdaGrad (Duchi, Hazan & Singer 2011), which compresses better than a step of constant size. With
a = 0 and one b for each length, the distribution is that of interpolated Kneser-Ney smoothing (Teh 2006), because of
the way in which PPM counts: see `tree.py`.

J. G. Cleary, I. H. Witten, Data Compression Using Adaptive Coding and Partial String Matching, IEEE Transactions on
Communications 32, 1984 (method A). A. Moffat, 1990 (C, update exclusion). P. G. Howard, The Design and Analysis of
Efficient Lossless Data Compression Systems, 1993 (D). C. Steinruecken, Z. Ghahramani, D. MacKay, Improving PPM with
Dynamic Parameter Updates, DCC 2015. Y. W. Teh, A Bayesian Interpretation of Interpolated Kneser-Ney, 2006.

What PPM cannot do: use similarities between contexts. It knows a context token by token, or not at all.

    tree.py      the contexts and their counts, compiled     memory.py   a tree that grows, and reads documents
    reading.py   probabilities and parameters, compiled      model.py    the model
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.ppm.model import PpmModel

__all__ = ["PpmModel", "ppm"]


def ppm(vocab_size: int, *, order: int = 16, escape: str = "learned", adaptive: bool = True) -> PpmModel:
    """Creates a PPM model, which predicts a token from contexts of up to `order` tokens.

    `escape` determines how much probability a context leaves to tokens that never followed it: "learned" = as much as
    was best so far (PPM-DP), or the method A (of Cleary and Witten), C (of Moffat) or D (of Howard). If `adaptive` is
    True, the model also learns each document that it predicts, token by token, and forgets it at its end. If False, it
    learns only the training text.
    """
    return PpmModel(vocab_size, order=order, escape=escape, adaptive=adaptive)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {"ppm": {"bytes": {"order": 24}}}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
