"""Computes hash values of the contexts in which bits are counted, in compiled code.

Every model counts bits in these contexts:

- the last 0, 1, .. 6 tokens, and the last eight;
- three sparse contexts, each of which consists of some of the last four tokens;
- three indirect contexts, which consist of the tokens that followed the last two occurrences of the last token, of the
  last two tokens, or of the last three tokens;
- three contexts with the tokens that the matches predict (see `matches.py`).

If the tokens are bytes, there are more contexts made of words; see `hash_word_contexts`. A word is a sequence of
letters, whose case is ignored. Bytes from 128 on count as letters, because they are parts of characters in UTF-8.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.models.bitwise.code import hash_combine
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

MAX_ORDER = 6
N_CONTEXTS = MAX_ORDER + 11
PREDICTED = MAX_ORDER + 7
"""Number of the context that consists of the token that the longest match predicts, and the length of the match."""
N_WORD_CONTEXTS = 17
N_RECENT = 4
N_ORDERS = 3
"""The indirect contexts have the followers of the last 1, 2, .. `N_ORDERS` tokens."""
N_FOLLOWERS = N_ORDERS + 2
"""Number of tables of followers: one for each of these orders, and two of the followers of words."""

LETTERS, WORDS, ENDINGS, LENGTH, SHORT, LONG, FIRST, MARK = 0, 0, 5, 10, 11, 12, 13, 14
"""Indices of the entries of the array `words` (15,), which describes the words before a position of a text.

Words are hash values; 0 stands for a missing word. From `WORDS` on, the array has the letters of the current word so
far, whose index is also `LETTERS`, and the four words before it. From `ENDINGS` on, it has the last three letters of
each of these five words. `LENGTH` is the number of letters of the current word, `SHORT` the last word of at most three
letters, `LONG` the last word of at least five letters, `FIRST` the first word of the line, and `MARK` the last
character that is neither a letter nor a space.
"""
N_WORDS = 15
_LONGEST_MATCH, _MOST_SHORT, _LEAST_LONG = 15, 3, 5
_SEED = 0x2545F491
_SPACE, _NEWLINE = 33, 11
_I32, _I64 = types.int32, types.int64


@kernel(read_only(_I32), _I64, _I64, writable(_I64))
def recent_tokens(ids, begin, t, recent):
    """Writes the last four tokens before position `t` of the text `ids` to `recent` (4,), the most recent one first.

    The document begins at position `begin`. Every token before the document counts as EOT.
    """
    for d in range(recent.size):
        recent[d] = ids[t - 1 - d] if t - 1 - d >= begin else EOT


@kernel(_I64, returns=_I64)
def letter(token_id):
    """Returns the byte with the token id `token_id`, in lower case, or 0 if this byte is not a letter."""
    byte = token_id - 1
    if 65 <= byte <= 90:
        return byte + 32
    return byte if 97 <= byte <= 122 or byte >= 128 else 0


@kernel(writable(_I64), _I64)
def update_words(words, token_id):
    """Updates `words` (15,) after a byte was read; see `WORDS`. At the start of a document, all its entries are 0."""
    byte = letter(token_id)
    if byte > 0:
        words[LETTERS] = hash_combine(words[LETTERS] + _SEED, byte)
        words[ENDINGS] = (words[ENDINGS] << 8 | byte) & 0xFFFFFF
        words[LENGTH] += 1
        return
    if words[LENGTH] > 0:
        if words[LENGTH] <= _MOST_SHORT:
            words[SHORT] = words[LETTERS]
        if words[LENGTH] >= _LEAST_LONG:
            words[LONG] = words[LETTERS]
        if words[FIRST] == 0:
            words[FIRST] = words[LETTERS]
        for number in range(4, 0, -1):
            words[WORDS + number], words[ENDINGS + number] = words[WORDS + number - 1], words[ENDINGS + number - 1]
        words[LETTERS] = words[ENDINGS] = words[LENGTH] = 0
    if token_id == _NEWLINE:
        words[FIRST] = 0
    if token_id == EOT:
        words[:] = 0
    elif token_id != _SPACE:
        words[MARK] = token_id


@kernel(*((types.UniTuple(_I64, n),) for n in (2, 3, 4)), returns=_I64)
def hashed(parts):
    """Returns a hash value of two to four whole numbers."""
    value = np.int64(_SEED)
    for part in parts:
        value = hash_combine(value, part)
    return value


@kernel(read_only(_I32), _I64, _I64, read_only(_I64), read_only(_I64), read_only(_I64), read_only(_I64), writable(_I64))
def hash_contexts(ids, begin, t, recent, followers, predicted, lengths, contexts):
    """Writes to `contexts` (C,) the hash values of those contexts of the token at position `t` that every model has.

    Contexts of different kinds may have the same value.

    - `ids`, `begin`: the text, and the position at which the document begins.
    - `recent` (4,): the last four tokens; see `recent_tokens`.
    - `followers` (5,): hash values of the followers of the last one, two or three tokens; see `reading.py`.
    - `predicted` (2,), `lengths` (2,): the token that each match predicts, or -1 if there is no match, and its length.
    """
    contexts[0] = np.int64(_SEED)
    for d in range(1, MAX_ORDER + 1):
        contexts[d] = hash_combine(contexts[d - 1], (ids[t - d] if t - d >= begin else EOT) + 1)
    n, (last, second, third, fourth) = MAX_ORDER + 1, (recent[0], recent[1], recent[2], recent[3])
    which = 0 if predicted[0] >= 0 else 1
    contexts[n] = hashed((second, third))
    contexts[n + 1] = hashed((second, third, fourth))
    contexts[n + 2] = hashed((last, third, fourth))
    contexts[n + 3] = hashed((followers[0], last))
    contexts[n + 4] = hashed((followers[1], last, second))
    contexts[n + 5] = hashed((followers[2], last, second))
    contexts[n + 6] = hashed((predicted[which], min(lengths[which], _LONGEST_MATCH)))
    contexts[n + 7] = hashed((predicted[which], last))
    contexts[n + 8] = hashed((predicted[0], predicted[1], last, min(lengths[which], 2 * _LONGEST_MATCH)))
    contexts[n + 9] = contexts[MAX_ORDER]
    for d in range(MAX_ORDER + 1, MAX_ORDER + 3):
        contexts[n + 9] = hash_combine(contexts[n + 9], (ids[t - d] if t - d >= begin else EOT) + 1)


@kernel(read_only(_I64), _I64, read_only(_I64), _I64, writable(_I64))
def hash_word_contexts(words, last, followers, predicted, contexts):
    """Writes the hash values of the contexts made of words to `contexts` (17,).

    `words` (15,) has the words at the position; see `WORDS`. `last` is the last byte, `followers` (5,) has the hash
    values of the followers of the last word (at index 3) and of the last two words (at index 4), and `predicted` is the
    byte that the longest match predicts, or -1. Each context includes the letters of the current word so far.
    """
    now, before, earlier, third = words[LETTERS], words[WORDS + 1], words[WORDS + 2], words[WORDS + 3]
    contexts[0] = hashed((now, last))
    contexts[1] = hashed((now, before))
    contexts[2] = hashed((now, earlier))
    contexts[3] = hashed((now, before, earlier))
    contexts[4] = hashed((now, words[ENDINGS + 1]))
    contexts[5] = hashed((now, words[ENDINGS + 1], words[ENDINGS + 2]))
    contexts[6] = hashed((now, words[SHORT]))
    contexts[7] = hashed((now, predicted))
    contexts[8] = hashed((now, before, earlier, third))
    contexts[9] = hashed((now, earlier, third))
    contexts[10] = hashed((now, followers[3]))
    contexts[11] = hashed((now, followers[4], before))
    contexts[12] = hashed((now, words[FIRST]))
    contexts[13] = hashed((now, words[MARK], before))
    contexts[14] = hashed((now, words[LONG]))
    contexts[15] = hashed((now, words[LONG], before))
    contexts[16] = hashed((now, before, predicted))
