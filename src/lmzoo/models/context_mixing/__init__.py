"""Context mixing (Mahoney 2002): many contexts predict each bit of a token, and a network that learns weighs them.

Smoothing and escapes put contexts in a fixed order, the longest first. Context mixing lets all of them predict, also
contexts that are not the last n tokens: words, tokens with gaps, or the longest repetition. Each context has a counter
of the bits that followed it. With the probability p_i of a 1 by the counter of context i, the mixture is

    p = 1 / (1 + exp(-sum_i w_i ln(p_i / (1 - p_i))))

a logistic regression whose inputs are the log-odds of the predictions. A gradient step after each token makes the
weights w follow what each context is worth at present. It is gated: small contexts, such as the length of the longest
repetition, select which weights are used. The method is that of the compressors PAQ6 to paq8 and lpaq; their code is
not used here.

A token is predicted bit by bit; see `lmzoo.models.bitwise`. All that is learned is learned after the whole token, not
after each bit as in PAQ, so that the probabilities of all tokens at a place are known together, and sum to 1.

The memory is fixed: 2^table_bits buckets of 32 bytes for the counters, and about a tenth as much for all else, except
that the match model also keeps the last 2^table_bits tokens. The numbers in the code (step sizes, limits, lengths) and
the kinds of contexts were chosen on parts of the training splits of the King James Bible (the first million bytes, and
every eighth chapter) and of Shakespeare's plays.

M. V. Mahoney, The PAQ1 Data Compression Program, 2002. The same, Adaptive Weighing of Context Models for Lossless Data
Compression, Florida Institute of Technology, Technical Report CS-2005-16, 2005 (PAQ6: nonstationary states, adaptive
probability maps, mixing by gradient steps). B. Knoll, N. de Freitas, A Machine Learning Perspective on Predictive
Coding with PAQ8, DCC 2012 (the mixer as a gated network).

What context mixing cannot do: learn that two words are alike. It learns how much to trust each kind of context, but a
context is known exactly, or not at all.

    contexts.py   hash values of contexts            mixer.py      the probability of a bit
    counters.py   the hash table of counters         learning.py   learning from the bits of a token
    matches.py    the longest repetition             reading.py    distributions over tokens, and reading
    reader.py     the arrays, and documents
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmzoo.checks import check_flag, check_whole
from lmzoo.models.bitwise.model import BitwiseModel

if TYPE_CHECKING:
    from lmzoo.models.context_mixing.reader import MixingReader

__all__ = ["context_mixing"]


def context_mixing(
    vocab_size: int, *, table_bits: int = 22, words: bool = True, adaptive: bool = True
) -> BitwiseModel[Any]:
    """Creates a model that mixes the predictions of many contexts, bit by bit, and learns after every token.

    The counters are in 2^`table_bits` buckets of 32 bytes, with `table_bits` from 17 to 28: 22 is 134 MB, of which a
    short text uses only a part. With `words`, contexts of words are used if the tokens are bytes, that is, if
    `vocab_size` is 257. If `adaptive` is True, the model also learns each document that it predicts, token by token,
    and forgets it at its end. If False, it learns only the training text.
    """
    check_whole(17, 28, table_bits=table_bits)
    check_flag(words=words)

    def new_reader() -> MixingReader:
        from lmzoo.models.context_mixing.reader import MixingReader  # imports numba, which is slow

        return MixingReader(vocab_size, table_bits=table_bits, words=words)

    return BitwiseModel(vocab_size, new_reader, adaptive=adaptive)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "context_mixing": {"tiny": {"table_bits": 17}, "bytes": {"table_bits": 24}}
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
