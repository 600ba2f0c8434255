"""Large hidden Markov model (Chiu & Rush 2020): thousands of states, each of which can emit only one class of tokens.

    P(w | state) = 0 unless the state belongs to the class of token w

The tokens are divided into C classes, and the K states into C blocks, one for each class. The class of a token is
observed; what the state adds is the context in which the token occurs. A token leaves only the states of one block
possible. So a step of the filter takes m m' operations instead of K^2, where m and m' are the numbers of states of two
successive classes. J. T. Chiu, A. M. Rush, Scaling Hidden Markov Language Models, EMNLP 2020, computed the parameters
with a neural network.

Differences from the paper: the parameters are fitted by expectation-maximisation, with three older methods. The classes
are those of Brown et al. (1992); with one state per class, the model is a class bigram model. States are then split in
two with small random differences, and EM specialises the halves (S. Petrov, L. Barrett, R. Thibaux, D. Klein, Learning
Accurate, Compact, and Interpretable Tree Annotation, 2006). Most transitions of a state are never observed, so its
transition probabilities are interpolated with those of its class, as in the back-off of an n-gram model.

Limits: the state carries at most log2(K) bits from token to token. Each token belongs to a single class, so "her"
cannot share one block with "him" and another with "his".

    layout.py      the states of each token            inference.py   filtering, expected counts, decoding
    learning.py    EM, back-off, splitting             model.py       the language model
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.class_hmm.learning import Settings
from lmzoo.models.class_hmm.model import ClassHiddenMarkovModel

__all__ = ["ClassHiddenMarkovModel", "class_hmm"]


def class_hmm(
    vocab_size: int, *, n_states: int = 1024, n_classes: int = 128, n_rounds: int = 8, tolerance: float = 1e-3
) -> ClassHiddenMarkovModel:
    """Creates a hidden Markov model with `n_states` states, divided among `n_classes` classes of tokens.

    A fit doubles the number of states until it is `n_states`. Each size is trained for at most `n_rounds` rounds of
    four Baum-Welch iterations, and for fewer if a round improves the log-probability of the validation set by less than
    `tolerance` nats per token. The strength of the back-off is chosen on the validation set. An iteration takes about
    8 m^2 floating-point operations per token, where m is the mean number of states of a class, weighted by the class
    frequency. With K states, a fit on two cores needs about 40 K^2 bytes of memory (0.67 GB for 4,096 states), and the
    fitted model 4 K^2 bytes.
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
