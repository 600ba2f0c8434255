"""Class n-gram (Brown et al. 1992): predict the class of the next token, then the token out of its class.

    P(w | h) = P(c(w) | c(w_-n+1) .. c(w_-1)) P(w | c(w))

Each token belongs to one class, and classes stand in for tokens in the counts: "shall meet on Monday" lends its
probability to "will meet on Tuesday". The classes are those that make the text most likely under a class bigram model;
nobody says that there are days of the week. P. F. Brown, V. J. Della Pietra, P. V. deSouza, J. C. Lai, R. L. Mercer,
Class-Based n-gram Models of Natural Language, Computational Linguistics 18, 1992, found them by merging; here they are
found by exchange, as in R. Kneser, H. Ney, Improved Clustering Techniques for Class-Based Statistical Language
Modelling, Eurospeech 1993.

What it cannot do: let a token have two meanings, or remember a phrase: of "New York" it knows the classes only. That is
what an n-gram model knows, and a mixture of both is much better than either.

    exchange.py   from text to classes        model.py   the language model
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.class_ngram.model import ClassNgramModel

__all__ = ["ClassNgramModel", "class_ngram"]


def class_ngram(
    vocab_size: int, *, n_classes: int = 300, order: int = 5, smoothing: str = "kneser-ney-tuned"
) -> ClassNgramModel:
    """n-gram model over at most `n_classes` classes, one of which is the end of text.

    `order` and `smoothing` are those of the model over classes, as in `lmzoo.models.ngram.ngram`. More classes pay off
    on more text; around a million tokens, 200 to 500 are best.
    """
    return ClassNgramModel(vocab_size, n_classes=n_classes, order=order, smoothing=smoothing)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {"class_ngram": {"bytes": {"n_classes": 64, "order": 10}}}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
