"""n-gram models (Shannon 1948; Jelinek 1980; Kneser & Ney 1995; Chen & Goodman 1998): counts of n tokens in a row.

The probability of a token is its relative frequency after the last n - 1 tokens, drawn towards that after the last
n - 2, and so on down to all tokens equally likely: long contexts when they were seen, shorter ones otherwise. How much
is drawn is called smoothing (`smoothing.py`), and decided the field for twenty years: S. F. Chen, J. Goodman, An
Empirical Study of Smoothing Techniques for Language Modeling, Harvard TR-10-98, 1998.

What it cannot do: see past n - 1 tokens, or know that "cat" is more like "dog" than like "of".

    trie.py        the n-grams as a sorted trie in flat arrays     counting.py   from text to the trie, by sorting
    smoothing.py   from counts to probabilities                    methods.py    the smoothings by name
    scoring.py     reading text with the trie                      workspace.py  memory, or files where it is short
    weights.py     what the n-grams say                           compression.py  smaller models
    ranking.py     ranks and entropies                             model.py       the language model
    arpa.py        other toolkits' files; arpa_lines.py and linking.py help it
"""

from __future__ import annotations

from typing import Any

from lmzoo.models.ngram.model import NgramModel

__all__ = ["NgramModel", "ngram", "trigram"]


def ngram(
    vocab_size: int,
    *,
    order: int = 5,
    smoothing: str = "kneser-ney",
    prune: float = 0,
    quantise: bool = False,
    memory: str = "1G",
) -> NgramModel:
    """Model of the last `order` - 1 tokens; by default interpolated modified Kneser-Ney, as KenLM's `lmplz`.

    `smoothing` is one of
      kneser-ney                     Chen & Goodman's modified one: three discounts an order, from counts of counts
      kneser-ney-tuned               the same with the discounts that make valid most likely
      kneser-ney-backoff             the same as a back-off model
      kneser-ney-1995                Kneser and Ney's own: one discount, back-off (-interpolated: interpolated)
      absolute, katz, witten-bell, jelinek-mercer
      additive, additive:ALPHA       adds 1, or ALPHA, to every count
      stupid-backoff                 without discounts; an exhibit
      mle                            no smoothing: an exhibit that finds new n-grams impossible

    `prune`, such as 1e-7: n-grams leave that would raise the perplexity by less than this part of it (Stolcke 1998).
    `quantise`: one byte for each log-probability instead of four.
    `memory`, such as "500M": a fit that would need more keeps its arrays in temporary files. The result is the same.
    """
    return NgramModel(vocab_size, order=order, smoothing=smoothing, prune=prune, quantise=quantise, memory=memory)


def trigram(vocab_size: int, *, smoothing: str = "jelinek-mercer") -> NgramModel:
    """IBM's trigram of the 1980s: orders 3, 2, 1 mixed by weights learned on held-out text; other smoothings too."""
    return NgramModel(vocab_size, order=3, smoothing=smoothing)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ngram": {
        "bytes": {"order": 10},
        # The order that a task of the ladder needs, where it is known: the model is not to fail for a setting.
        "ladder/markov-1": {"order": 2},
        "ladder/markov-2": {"order": 3},
        "ladder/markov-3": {"order": 4},
        "ladder/agreement-4": {"order": 6},
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
