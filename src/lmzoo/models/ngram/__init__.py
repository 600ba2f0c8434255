"""n-gram models (Shannon 1948; Jelinek 1980; Kneser & Ney 1995; Chen & Goodman 1998).

An n-gram model predicts a token from the n - 1 tokens before it, by the counts of n tokens in a row. Long contexts are
rare, so their relative frequencies are unreliable. The model therefore combines them with the frequencies after shorter
contexts, down to the uniform distribution. Methods for this are called smoothing, and were the centre of language
modelling for twenty years: S. F. Chen, J. Goodman, An Empirical Study of Smoothing Techniques for Language Modeling,
Harvard TR-10-98, 1998.

What an n-gram model cannot do: use tokens more than n - 1 positions back, or know that "cat" is more similar to "dog"
than to "of".

Read the files in this order:

    1. reference.py          smoothing for one word at a time, in plain Python; the others compute the same, fast
    2. trie.py               all n-grams as a sorted trie in flat arrays
    3. counting/             from text to the trie: counted.py (the result), sorting.py, workspace.py (memory)
    4. smoothing.py          from counts to probabilities: the formula that all methods share
    5. methods.py, names.py  the smoothing methods, and the same by name
    6. weights.py            log-probabilities and back-off weights
    7. model.py              the language model
    8. scoring.py            scores many positions of a text at a time
    9. ranking.py            ranks and entropies of predictions
    10. compression.py, rare.py  smaller models: pruning, quantisation, and models without rare n-grams
    11. arpa/                ARPA files, the format of other n-gram programs
    12. partitions/          the same model from counts and estimates in many parts, for several processes
"""

from __future__ import annotations

from typing import Any

from lmzoo.checks import check_flag
from lmzoo.models.ngram.model import NgramModel
from lmzoo.models.ngram.partitions.sharded import ShardedNgramModel
from lmzoo.system.ray_connection import check_address

__all__ = ["NgramModel", "ShardedNgramModel", "ngram", "trigram"]


def ngram(
    vocab_size: int,
    *,
    order: int = 5,
    smoothing: str = "kneser-ney",
    prune: float = 0,
    quantise: bool = False,
    min_count: int = 0,
    memory: str = "1G",
    workers: int = 0,
    cluster: str = "",
    sharded: bool = False,
) -> NgramModel | ShardedNgramModel:
    """Creates an n-gram model, which predicts a token from the last `order` - 1 tokens.

    The default is interpolated modified Kneser-Ney smoothing, as in KenLM's `lmplz`. `smoothing` is one of
      kneser-ney                     modified Kneser-Ney (Chen & Goodman 1998): three discounts for each order
      kneser-ney-tuned               the same, with the discounts that maximise the likelihood of the validation set
      kneser-ney-backoff             the same as a back-off model
      kneser-ney-1995                the original of Kneser and Ney: one discount, back-off
      kneser-ney-1995-interpolated   the original with interpolation
      absolute, katz, witten-bell, jelinek-mercer
      additive, additive:ALPHA       adds 1, or ALPHA, to every count
      stupid-backoff                 relative frequencies without discounts, renormalised
      mle                            no smoothing: n-grams that do not occur in training have probability 0
    A number after the name fixes the discount instead of learning it, as in absolute:0.75 or kneser-ney:0.75. Three
    numbers, as in kneser-ney:0.5,1,1.5, are the discounts for the counts 1, 2, and 3 or more. All methods with constant
    discounts except kneser-ney-tuned accept such numbers.

    `prune`, such as 1e-7: removes n-grams whose removal raises the perplexity by less than this fraction (Stolcke
    1998); not for additive and mle. `quantise`: stores each log-probability in one byte instead of four. `min_count`:
    n-grams of three or more tokens that occur fewer times in the training text are left out; with 2, this is what
    KenLM's `--prune 0 0 1` does. The default, 0, means 1, or 2 for texts of more than 10^9 tokens.

    `memory`, such as "500M": a fit that would need more memory uses temporary files. If the token ids alone need
    more, at four bytes each, the model is fitted in partitions, as with `workers`. The result is the same.

    `workers`: number of processes that fit the model together; 0 = this process fits it. Each of them uses `memory` (at
    least 200M).
    `cluster`: the computers of a Ray cluster fit the model together; "auto" is the cluster of this computer, HOST:PORT
    that of another, and "local" starts one with `workers` processor cores. The result is the same. kneser-ney-tuned and
    jelinek-mercer cannot be fitted in these ways, because they are learned from the tokens of the validation set.

    `sharded`: the model stays in the parts that the workers have made, so that it can be larger than the memory and
    have more than 2^31 n-grams. It predicts the same, more slowly, and cannot be pruned, quantised or written as ARPA.
    """
    check_flag(sharded=sharded)
    if cluster != "":
        check_address(cluster)
    model = ShardedNgramModel if sharded else NgramModel
    return model(
        vocab_size,
        order=order,
        smoothing=smoothing,
        prune=prune,
        quantise=quantise,
        min_count=min_count,
        memory=memory,
        workers=workers,
        cluster=cluster,
    )


def trigram(
    vocab_size: int, *, smoothing: str = "jelinek-mercer", prune: float = 0, quantise: bool = False
) -> NgramModel:
    """Creates a trigram model, by default IBM's of the 1980s, which predicts a token from the last two.

    Its orders 3, 2 and 1 are interpolated with weights learned on the validation set (Jelinek-Mercer smoothing). Other
    smoothing methods are those of `lmzoo.models.ngram.ngram`, and so are `prune` and `quantise`.
    """
    return NgramModel(vocab_size, order=3, smoothing=smoothing, prune=prune, quantise=quantise)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ngram": {
        "bytes": {"order": 10},
        # Where the order that a task of the ladder needs is known, it is set, so that the model does not fail only
        # because its n-grams are too short.
        "ladder/markov-1": {"order": 2},
        "ladder/markov-2": {"order": 3},
        "ladder/markov-3": {"order": 4},
        "ladder/agreement-4": {"order": 6},
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
