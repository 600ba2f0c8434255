"""The sequence memoizer (Wood et al. 2009): a hierarchical Pitman-Yor process over contexts of all lengths.

After each context, the next token has a distribution G. It is drawn from a Pitman-Yor process whose mean is the
distribution after the context without its first token, and whose discount d and concentration a depend on the length of
the context (Teh 2006):

    G(context) ~ PitmanYor(d, a, G(context without its first token))

The mean for the empty context is the uniform distribution. Each draw is described as a restaurant. Each occurrence of a
token after the context is a customer, who sits at one of the tables for this token. Each table is a customer in the
restaurant of the next shorter context. If a token w has c customers at t tables, and C and T are the sums over all
tokens,

    P(w | context) = (c - d t) / (a + C) + (a + d T) / (a + C) P(w | context without its first token)

A text has as many contexts as pairs of positions, but most of them are always preceded by the same token. These can be
left out: the result is the same process over the nodes of a suffix tree, whose discounts are products of discounts
(Wood et al. 2009). So contexts need no maximum length. The tree is built from the index of the model `infinigram`.

The number of tables is random. Wood et al. sample it. Here it is a function of the number of customers, as in the power
law discounting of Huang & Renals (2010): t = c^e. They use e = d. Here e is learned as well, which predicts better. The
exponents of contexts that are left out are multiplied, as the discounts are. In the limit e = 0, each token has one
table; with a = 0, this is interpolated Kneser-Ney smoothing with a discount for each length (Teh 2006). The discounts,
the exponents and the concentration maximise the likelihood of the validation set. The derivatives are exact, and are
computed by one pass over the tree in each direction.

F. Wood, C. Archambeau, J. Gasthaus, L. James, Y. W. Teh, A Stochastic Memoizer for Sequence Data, ICML 2009.
J. Gasthaus, Y. W. Teh, Improvements to the Sequence Memoizer, NIPS 2010 (concentrations above 0). S. Huang, S. Renals,
Power Law Discounting for N-gram Language Models, ICASSP 2010. Y. W. Teh, A Hierarchical Bayesian Language Model Based
on Pitman-Yor Processes, ACL 2006.

What the sequence memoizer cannot do: use similarities between contexts. It knows a context token by token, or not at
all.

    tree.py      the contexts of a text as a tree       seating.py   customers and tables in the tree, compiled
    reading.py   matches and probabilities, compiled    model.py     the model
"""

from __future__ import annotations

from lmzoo.models.sequence_memoizer.model import SequenceMemoizerModel

__all__ = ["SequenceMemoizerModel", "sequence_memoizer"]


def sequence_memoizer(vocab_size: int, *, max_context: int = 1000) -> SequenceMemoizerModel:
    """Creates a sequence memoizer, which uses contexts of up to `max_context` tokens.

    The maximum limits the time per token in texts that repeat one token ("a a a a ..."), in which the number of
    contexts grows with every token. Contexts in natural text are almost never this long.
    """
    return SequenceMemoizerModel(vocab_size, max_context=max_context)
