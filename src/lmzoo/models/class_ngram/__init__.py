"""Class n-gram models (Brown et al. 1992) predict the class of the next token, then the token given its class.

    P(w | h) = P(c(w) | c(w_-n+1) .. c(w_-1)) P(w | c(w))

Here c(w) is the class of token w, and w_-k the token k positions back. Each token belongs to one class, and the model
counts n-grams of classes. So "shall meet on Monday" also raises the probability of "will meet on Tuesday". The classes
are learned: they maximise the likelihood of the training text under a class bigram model. P. F. Brown, V. J. Della
Pietra, P. V. deSouza, J. C. Lai, R. L. Mercer, Class-Based n-gram Models of Natural Language, Computational Linguistics
18, 1992, learn them by merging. lmzoo learns them by exchange, as in R. Kneser, H. Ney, Improved Clustering Techniques
for Class-Based Statistical Language Modelling, Eurospeech 1993.

What a class n-gram model cannot do: give a token two meanings, or remember a phrase such as "New York", of which it
knows only the classes. An n-gram model remembers phrases, and a mixture of both is much better than either.

    exchange.py   learns the classes        model.py   the language model
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.class_ngram.model import ClassNgramModel

__all__ = ["ClassNgramModel", "class_ngram"]


def class_ngram(
    vocab_size: int, *, n_classes: int = 300, order: int = 5, smoothing: str = "kneser-ney-tuned"
) -> ClassNgramModel:
    """Creates a class n-gram model with at most `n_classes` classes, one of which is the end of text.

    `order` and `smoothing` are settings of the n-gram model over classes (see `lmzoo.models.ngram.ngram`). The best
    number of classes grows with the text; for about a million tokens it is 200 to 500.
    """
    return ClassNgramModel(vocab_size, n_classes=n_classes, order=order, smoothing=smoothing)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {"class_ngram": {"bytes": {"n_classes": 64, "order": 10}}}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
