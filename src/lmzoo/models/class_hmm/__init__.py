"""Large hidden Markov model (Chiu & Rush 2020): thousands of states, of which each token has only a block.

    P(w | state) = 0 unless the state is one of those of the class of w

Tokens fall into C classes, and each class owns some of the K states: what a token can hide is not what kind of word it
is, which everybody sees, but in which surroundings it stands. As a token leaves few states possible, a step of the
filter costs m m' operations, with m and m' the states of two classes in a row, instead of K^2. J. T. Chiu, A. M. Rush,
Scaling Hidden Markov Language Models, EMNLP 2020, trained their parameters as outputs of a network.

Changed: here it is expectation-maximisation again, in three old steps. Classes are those of Brown et al. (1992); with
one state each they are a class bigram model. Then states are split in two, and the halves, made slightly different,
find their own uses (S. Petrov, L. Barrett, R. Thibaux, D. Klein, Learning Accurate, Compact, and Interpretable Tree
Annotation, 2006). And as few transitions of a state are ever seen, its row is drawn towards that of its whole class, as
an n-gram model backs off.

What it cannot do: carry more than the name of one state, log2(K) bits, from token to token; and as each token belongs
to one class, "her" cannot be in a block with "him" and in one with "his".

    layout.py      which states belong to which tokens      inference.py   filter, count, decode
    learning.py    EM, back-off, splitting                  model.py       the language model
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.class_hmm.learning import Settings
from lmzoo.models.class_hmm.model import ClassHiddenMarkovModel

__all__ = ["ClassHiddenMarkovModel", "class_hmm"]


def class_hmm(
    vocab_size: int, *, n_states: int = 1024, n_classes: int = 128, n_rounds: int = 8, tolerance: float = 1e-3
) -> ClassHiddenMarkovModel:
    """Hidden Markov model with `n_states` states, shared out among `n_classes` classes of tokens.

    The number of states grows to `n_states` by doubling; each size is given at most `n_rounds` rounds of four
    iterations of Baum-Welch, and fewer if a round gains less than `tolerance` nats a token on the valid split. An
    iteration costs about 8 m^2 floating-point operations a token, where m is the mean number of states of a class,
    weighted by how often it occurs. Memory is about 40 K^2 bytes while fitting on two cores (0.75 GB for 4,096 states)
    and 4 K^2 afterwards. The strength of the back-off is learned on the valid split.
    """
    return ClassHiddenMarkovModel(vocab_size, Settings(n_states, n_classes, n_rounds, tolerance))


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "class_hmm": {
        "quick": {"n_states": 1024},
        "standard": {"n_states": 2048},
        "thorough": {"n_states": 4096},
        "tiny": {"n_states": 16, "n_classes": 5, "n_rounds": 2},
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
