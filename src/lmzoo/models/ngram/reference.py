"""n-gram smoothing for one word at a time, in plain Python. Read this file first.

The other files of this package compute the same probabilities for whole texts at once, with sorted arrays and compiled
loops. The tests compare them with this file.

An n-gram model of order n predicts a token w from the context h, the n - 1 tokens before it. Most long contexts are
rare, so that their counts c(h w) are unreliable, and often 0. All classic smoothing methods therefore discount the
counts and give what is left over to a shorter context h', which is h without its first token:

                discounted(h w) + left_over(h) p(w | h')
    p(w | h) = ------------------------------------------         (interpolation)
                      discounted(h) + left_over(h)

Here discounted(h) is the sum of discounted(h w) over all w. If h never occurred, then p(w | h) = p(w | h'). The
shortest context is empty; its shorter "context" predicts every token with the probability 1 / V, where V is the
vocabulary size.

A worked example: interpolated Witten-Bell smoothing of order 2. Its left-over count is the number of different tokens
that followed the context. Five documents, each of which ends with the token "</s>":

>>> documents = [(*text.split(), "</s>") for text in ("b b b", "a", "a", "a b", "a")]
>>> model = Reference(documents, ["</s>", "a", "b", "c"], order=2, smoothing="witten-bell")

The token "a" was followed by "</s>" three times and by "b" once, so the left-over count is 2:

>>> model.counts_after(("a",))
{'</s>': 3, 'b': 1}
>>> model.discount(("a",), {'</s>': 3, 'b': 1})
({'</s>': 3, 'b': 1}, 2)

After the empty context come "</s>" 5 times, "a" 4 times and "b" 4 times, 3 different tokens in 13. So

    p(b)     = (4 + 3 * 1/4) / (13 + 3) = 0.296875
    p(b | a) = (1 + 2 p(b)) / (4 + 2)   = 0.265625

>>> model.prob((), "b"), model.prob(("a",), "b")
(0.296875, 0.265625)
>>> sum(model.prob(("a",), token) for token in model.vocabulary)
1.0

In Kneser-Ney smoothing, the count of an n-gram that is shorter than n is the number of different tokens before it: "b"
follows "</s>" (which also stands for the start of a document), "b" and "a". Each count loses a discount, and the
discounts of a context are its left-over count:

>>> model = Reference(documents, ["</s>", "a", "b", "c"], order=2, smoothing="kneser-ney")
>>> model.counts_after(())
{'</s>': 2, 'a': 1, 'b': 3}
>>> [round(144 * model.prob(("a",), token), 9) for token in model.vocabulary]
[73.0, 21.0, 37.0, 13.0]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeAlias

Token: TypeAlias = Hashable
Ngram: TypeAlias = tuple[Token, ...]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
FALLBACK_FACTORS = (0.5, 0.75, 0.85, 0.9, 0.95)
BACK_OFF = ("katz", "kneser-ney-1995", "kneser-ney-backoff")
"""The methods that give the left-over count only to tokens that never followed the context."""


class Reference:
    """An n-gram model that computes one probability at a time from dictionaries of counts.

    `documents` are sequences of tokens, each of which ends with the end-of-text token, `vocabulary[0]`. The same token
    stands for the start of a document when it is the first token of a context. `smoothing` is a name in
    `lmzoo.models.ngram.methods.SMOOTHINGS`. The methods "kneser-ney-tuned" and "jelinek-mercer" also need their learned
    `parameters`, a sequence for each order 1 .. `order`.
    """

    def __init__(
        self,
        documents: Iterable[Sequence[Token]],
        vocabulary: Sequence[Token],
        order: int,
        smoothing: str = "kneser-ney",
        parameters: Sequence[Sequence[float]] = (),
    ) -> None:
        self.vocabulary, self.order, self.smoothing, self.parameters = vocabulary, order, smoothing, parameters
        self.start = vocabulary[0]
        documents = list(documents)
        self.counts = {k: count_ngrams(documents, k, self.start) for k in range(1, order + 1)}
        if smoothing.startswith("kneser-ney"):
            occurrences = self.counts
            self.counts = {k: self._continuations(occurrences, k) for k in range(1, order + 1)}

    def prob(self, context: Ngram, token: Token) -> float:
        """Returns p(token | context), the probability that `token` follows the tokens of `context`.

        The context begins with the end-of-text token if it reaches back to the start of the document. Only its last
        `order` - 1 tokens are used.
        """
        context = context[max(0, len(context) - self.order + 1) :]
        if self.smoothing == "stupid-backoff":
            return self.score(context, token) / sum(self.score(context, other) for other in self.vocabulary)
        counts = self.counts_after(context)
        if not counts:
            return self._lower(context, token)
        discounted, left_over = self.discount(context, counts)
        total = sum(discounted.values()) + left_over
        if self.smoothing not in BACK_OFF:
            return (discounted.get(token, 0) + left_over * self._lower(context, token)) / total
        unseen = sum(self._lower(context, other) for other in self.vocabulary if other not in counts)
        if not unseen:
            return discounted[token] / sum(discounted.values())
        return (discounted[token] if token in counts else left_over * self._lower(context, token) / unseen) / total

    def _lower(self, context: Ngram, token: Token) -> float:
        """Returns the probability of `token` after the context without its first token.

        Returns 1 / V, for a vocabulary of V tokens, if the context is empty.
        """
        return self.prob(context[1:], token) if context else 1 / len(self.vocabulary)

    def score(self, context: Ngram, token: Token) -> float:
        """Returns the score of stupid back-off for the token w = `token` after the context h = `context`.

        The score is c(h w) / c(h), where c is the count in training, or 0.4 times the score after the shorter context
        if the token never followed h. The score below the empty context is 1 / V for all V tokens (Brants et al. 2007,
        equation 5).
        """
        counts = self.counts_after(context)
        if token in counts:
            return counts[token] / sum(counts.values())
        return 0.4 * (self.score(context[1:], token) if context else 1 / len(self.vocabulary))

    def counts_after(self, context: Ngram) -> dict[Token, int]:
        """Returns the count of each token that followed `context` in training.

        Additive smoothing uses no lower orders. With this method, the result is empty for a context of fewer than
        `order` - 1 tokens, unless the context begins at the start of a document.
        """
        order = len(context) + 1
        if self.smoothing in ("additive", "mle") and order < self.order and context[:1] != (self.start,):
            return {}
        counts = self.counts[order]
        return {token: counts[*context, token] for token in self.vocabulary if counts[*context, token]}

    def discount(self, context: Ngram, counts: dict[Token, int]) -> tuple[dict[Token, float], float]:
        """Discounts the counts of the tokens that followed `context`, by the smoothing method of the model.

        Returns the discounted count of each token, and the count that is left over for the distribution after the
        shorter context.
        """
        order, total = len(context) + 1, sum(counts.values())
        match self.smoothing:
            case "witten-bell":
                return dict(counts), len(counts)
            case "additive" | "mle":  # alpha for each of the V tokens, where alpha is 1 or 0
                return dict(counts), len(self.vocabulary) if self.smoothing == "additive" else 0
            case "jelinek-mercer":  # the weight depends on the total: 1, 2, 3-4, 5-8, ...
                weight = self.parameters[order - 1][min(math.ceil(math.log2(total)), 19)]
                return {token: weight * count for token, count in counts.items()}, (1 - weight) * total
            case "katz":
                factors = self._katz_factors(order)
                discounted = {token: count * factors[min(count, 6)] for token, count in counts.items()}
                return discounted, total - sum(discounted.values()) or 1
            case _:
                discounts = self._discounts(order)
                discounted = {token: count - discounts[min(count, 3)] for token, count in counts.items()}
                return discounted, sum(discounts[min(count, 3)] for count in counts.values())

    def _continuations(self, occurrences: dict[int, Counter[Ngram]], order: int) -> Counter[Ngram]:
        """Returns, for each n-gram of length `order`, the number of different tokens before it (Kneser & Ney 1995).

        `occurrences` holds the number of occurrences of the n-grams of each length. This number is returned instead for
        n-grams of the highest order, and for n-grams at the start of a document.
        """
        if order == self.order:
            return occurrences[order]
        counts = Counter(ngram[1:] for ngram in occurrences[order + 1])
        if order > 1:
            counts.update({ngram: n for ngram, n in occurrences[order].items() if ngram[0] == self.start})
        return counts

    def _discounts(self, order: int) -> Sequence[float]:
        """Returns the discounts that Kneser-Ney smoothing subtracts from the counts 0, 1, 2, and 3 or more.

        The discounts are for n-grams of length `order`. Modified Kneser-Ney smoothing computes them by equation 26 of
        Chen & Goodman (1998). The other methods have one discount for all counts above 0 (Ney, Essen & Kneser 1994).
        """
        if self.smoothing == "kneser-ney-tuned":
            return 0, *self.parameters[order - 1]
        t = Counter(self.counts[order].values())
        if not (t[1] and t[2]):
            return 0, *FALLBACK_DISCOUNTS
        y = t[1] / (t[1] + 2 * t[2])
        if self.smoothing not in ("kneser-ney", "kneser-ney-backoff"):
            return 0, y, y, y
        discounts = [j - (j + 1) * y * t[j + 1] / t[j] if t[j] else 0 for j in (1, 2, 3)]
        is_allowed = min(discounts) > 0 and (discounts[-1] < 3 or self.smoothing not in BACK_OFF)
        return 0, *(discounts if is_allowed else FALLBACK_DISCOUNTS)

    def _katz_factors(self, order: int) -> Sequence[float]:
        """Returns the factors by which Katz smoothing multiplies the counts 0, 1 .. 5, and 6 or more.

        The factors are for n-grams of length `order`. They are computed by the equation for d_r in Katz (1987), with k
        = 5.
        """
        t = Counter(self.counts[order].values())
        x = 6 * t[6] / t[1] if t[1] else 1
        if not all(t[r] for r in range(1, 7)) or x == 1:
            return 0, *FALLBACK_FACTORS, 1
        factors = [((r + 1) * t[r + 1] / (r * t[r]) - x) / (1 - x) for r in range(1, 6)]
        return 0, *(factors if min(factors) > 0 and max(factors) < 1 else FALLBACK_FACTORS), 1


def count_ngrams(documents: Iterable[Sequence[Token]], order: int, start: Token) -> Counter[Ngram]:
    """Counts the n-grams of length `order` in documents, before each of which the token `start` is inserted.

    >>> count_ngrams([["a", "b", "</s>"]], 2, "</s>")
    Counter({('</s>', 'a'): 1, ('a', 'b'): 1, ('b', '</s>'): 1})

    The inserted token is only a context and never predicted, so it is not counted as an n-gram of length 1.
    """
    counts: Counter[Ngram] = Counter()
    for document in documents:
        tokens = (start, *document) if order > 1 else tuple(document)
        counts.update(tokens[i : i + order] for i in range(len(tokens) - order + 1))
    return counts
