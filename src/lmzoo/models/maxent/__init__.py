"""Maximum-entropy models on n-grams and triggers (Berger et al. 1996; Rosenfeld 1996).

Each n-gram of length 1 to n in the training text is a feature, which has a weight. The score of a token is the sum of
the weights of all n-grams that end with it and agree with the tokens before it. N-grams that never occurred have no
weight. A softmax over the vocabulary turns the scores into probabilities:

    P(w | h) = exp(sum_k weight(last k - 1 tokens of h, w)) / Z(h)

Among all models that expect each n-gram as often as it occurred, the one with the largest entropy has this form, and
its weights maximise the likelihood. An n-gram model chooses or averages the predictions of contexts of different
lengths; here, the weights of all lengths are added. Neural networks have the same output layer, but learn its features.

Two penalties keep the weights from fitting the training text exactly: a Gaussian prior (Chen & Rosenfeld 2000) and an
exponential prior (Goodman 2004). At the optimum, the number of occurrences that the model expects of an n-gram is

    c - D - x / variance

where c is the number of its occurrences in the training text, x its weight, and D the rate of the exponential prior. So
D is a discount, as in Kneser-Ney smoothing, and the Gaussian prior adds a discount that grows with the weight.

A softmax costs as many operations per token as there are tokens in the vocabulary. But most terms of the sum Z(h) are
those of the next shorter context: only the tokens that followed h have other terms (Wu & Khudanpur 2000). So the exact
likelihood and its gradient cost a few operations per n-gram of the text, whatever the size of the vocabulary. The
weights are fitted by L-BFGS (Liu & Nocedal 1989). For the same reason the fitted model is an n-gram model with
back-off: a token that never followed h has the probability P(w | h') Z(h') / Z(h), where h' is h without its first
token.

A trigger is a feature of the document so far (Lau, Rosenfeld & Roukos 1993): the weight of the pair (u, w) is added to
the score of the token w if u has occurred in the document. Such pairs make words of the same subject more likely and,
if u = w, repetitions. The triggers of a token are the tokens with the highest mutual information with it.

A. L. Berger, S. A. Della Pietra, V. J. Della Pietra, A Maximum Entropy Approach to Natural Language Processing,
Computational Linguistics 22, 1996. R. Rosenfeld, A Maximum Entropy Approach to Adaptive Statistical Language Modelling,
Computer Speech and Language 10, 1996. R. Lau, R. Rosenfeld, S. Roukos, Trigger-Based Language Models: A Maximum Entropy
Approach, ICASSP 1993. S. F. Chen, R. Rosenfeld, A Survey of Smoothing Techniques for ME Models, IEEE Transactions on
Speech and Audio Processing 8, 2000. J. Goodman, Exponential Priors for Maximum Entropy Models, HLT-NAACL 2004. J. Wu,
S. Khudanpur, Efficient Training Methods for Maximum Entropy Language Modeling, ICSLP 2000.

Changed: all n-grams of the text are features, not a selection. Goodman's weights cannot be negative. Here they can, and
so the two priors together are a Gaussian prior with the mean -D variance. L-BFGS learns the weights of n-grams first,
and then all weights together; no step changes a weight by more than 1.

What the model cannot do: use similarities between tokens, or the order of tokens more than n - 1 positions back.

    learning.py    the penalised likelihoods                    model.py           the language model with n-grams
    ascent.py      L-BFGS, which maximises them                 trigger_model.py   the language model with triggers
    sums.py        normalisers and expected counts, compiled    triggers.py        finds triggers
    documents.py   these sums with triggers, compiled
"""

from __future__ import annotations

from typing import Any

from lmzoo.checks import check_whole
from lmzoo.models.maxent.model import MaxentModel
from lmzoo.models.maxent.trigger_model import TriggerModel

__all__ = ["MaxentModel", "TriggerModel", "maxent"]


def maxent(
    vocab_size: int,
    *,
    order: int = 5,
    variance: float = 8.0,
    discount: float = 0.2,
    steps: int = 100,
    triggers: int = 0,
) -> MaxentModel | TriggerModel:
    """Creates a maximum-entropy model, which predicts a token from the last `order` - 1 tokens, and from triggers.

    The weight of an n-gram has a Gaussian prior with the variance `variance` / m, where m is the number of tokens
    before its last one, or 1 for unigrams. `discount` is the rate of the exponential prior of these weights. `steps` is
    the maximum number of steps of L-BFGS. `triggers` is the number of triggers of each token; 0 = none. With triggers,
    a prediction depends on the whole document.
    """
    check_whole(0, triggers=triggers)
    ngrams = MaxentModel(vocab_size, order=order, variance=variance, discount=discount, steps=steps)
    return TriggerModel(ngrams, n_triggers=triggers) if triggers else ngrams


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "maxent": {
        "quick": {"steps": 60, "triggers": 6},
        "standard": {"steps": 300, "triggers": 6},
        "thorough": {"order": 6, "steps": 1000, "triggers": 6},
        "bytes": {"order": 6, "triggers": 0},
        "tiny": {"order": 3, "steps": 20},
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
