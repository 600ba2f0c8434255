"""The match model: predicts the token that followed the last occurrence of the longest context, in compiled code.

For each of two lengths L, a hash table has the position after the last occurrence of each sequence of L tokens. The
text before such a position is compared with the last tokens of the document. If at least L tokens agree, they are a
match, and the token at the position is predicted. How much a prediction is trusted is learned for each length of a
match. As long as the predictions are right, the match is followed, and its length grows. After a wrong prediction,
another match is looked up.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.models.bitwise.code import code_width, hash_combine, n_bits
from lmzoo.system.compiled import kernel, read_only, writable

N_MATCHES = 2
N_LENGTHS = 64
NO_MATCH = -1
_BITS, _TOKENS = (96, 56), (12, 7)
_MOST_COMPARED = 64
_SEED = 0x6A09E667
_I32, _I64 = types.int32, types.int64


@kernel(_I64, _I64, returns=_I64)
def least_length(which, vocab_size):
    """Returns the least length, in tokens, of a match of the longer kind (`which` = 0) or the shorter kind (1).

    It is 12 or 7 tokens, or fewer tokens if their code words already have 96 or 56 bits. For bytes, it is 12 or 7.
    """
    width = n_bits(code_width(vocab_size))
    return min(_TOKENS[which], (_BITS[which] + width - 1) // width)


@kernel(read_only(_I32), read_only(_I32), _I64, returns=_I64)
def token_of(known, ids, place):
    """Returns the token at position `place` of the text that consists of `known` followed by `ids`."""
    return known[place] if place < known.size else ids[place - known.size]


@kernel(read_only(_I32), read_only(_I32), _I64, _I64, _I64, returns=_I64)
def common_length(known, ids, begin, t, place):
    """Returns how many tokens right before position `place` of the text equal those right before position `t` of `ids`.

    At most 64 tokens are compared, all of them in the document, which begins at position `begin` of `ids`. `place`
    counts from the beginning of `known`, as in `token_of`.
    """
    length, most = 0, min(_MOST_COMPARED, t - begin, place)
    while length < most and token_of(known, ids, place - 1 - length) == ids[t - 1 - length]:
        length += 1
    return length


@kernel(read_only(_I32), _I64, _I64, _I64, returns=_I64)
def slot_of(ids, t, length, n_slots):
    """Returns the index of the `length` tokens before position `t` of `ids` in a hash table of `n_slots` positions."""
    value = np.int64(_SEED)
    for d in range(length):
        value = hash_combine(value, ids[t - 1 - d])
    return value & (n_slots - 1)


@kernel(writable(_I32, 2), read_only(_I32), read_only(_I32), _I64, _I64, types.boolean, _I64, _I64,
        writable(_I64), writable(_I64))  # fmt: skip
def follow(places, known, ids, begin, t, learns, vocab_size, furthest, found, lengths):
    """Updates the two matches after the token right before position `t` of `ids` was read.

    - `places` (2, M): the positions after the last occurrences of sequences of tokens, or -1; updated if `learns` is
      True.
    - `known`, `ids`: the text is `known` followed by `ids`; positions in `places` and `found` count from the beginning
      of `known`.
    - `begin`: position in `ids` at which the document begins.
    - `furthest`: largest distance, in tokens, from the current position back to a match.
    - `found` (2,): the position of the token that each match predicts, or -1.
    - `lengths` (2,): the number of tokens of each match.
    """
    for which in range(N_MATCHES):
        if found[which] != NO_MATCH and t > begin and token_of(known, ids, found[which]) == ids[t - 1]:
            found[which] += 1
            lengths[which] += 1
        else:
            found[which], lengths[which] = NO_MATCH, 0
        length = least_length(which, vocab_size)
        if t - begin >= length:
            slot = slot_of(ids, t, length, places.shape[1])
            place = places[which, slot]
            if found[which] == NO_MATCH and place != NO_MATCH and known.size + t - place <= furthest:
                n = common_length(known, ids, begin, t, place)
                if n >= length:
                    found[which], lengths[which] = place, n
            if learns:
                places[which, slot] = known.size + t
        if found[which] != NO_MATCH and known.size + t - found[which] > furthest:
            found[which], lengths[which] = NO_MATCH, 0


@kernel(_I64, returns=_I64)
def length_class(length):
    """Returns the class of a match of `length` tokens, from 0 to `N_LENGTHS` - 1.

    Each length below 32 is a class of its own. From 32 on, a class has 8 lengths, and the last class all longer ones.
    """
    return length if length < 32 else min(32 + ((length - 32) >> 3), N_LENGTHS - 1)
