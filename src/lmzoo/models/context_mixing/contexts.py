"""Computes hash values of the contexts in which bits are counted, in compiled code.

Every model counts bits in these contexts:

- the last 0, 1, .. 6 tokens;
- three sparse contexts, each of which consists of some of the last four tokens;
- two indirect contexts, which have the tokens that followed earlier occurrences of the last token, or of the last two;
- two contexts with the token that the longest match predicts (see `matches.py`).

If the tokens are bytes, there are eight more contexts made of words. Each has the letters read so far of the current
word, combined with the last byte; with one or both of the two words before it; with the endings of these words, which
tell much about grammar; with the last short word; or with the token that the longest match predicts. A word is a
sequence of letters, whose case is ignored. Bytes from 128 on count as letters, because they are parts of characters in
UTF-8.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.models.bitwise.code import mixed
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

MAX_ORDER = 6
N_CONTEXTS = MAX_ORDER + 8
N_WORD_CONTEXTS = 8
N_RECENT = 4
_LONGEST_MATCH, _SHORT, _FAR_WORDS = 15, 3, 8
_SEED = 0x2545F491
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


@kernel(read_only(_I32), _I64, _I64, writable(_I64), writable(_I64))
def hash_words(ids, begin, t, words, endings):
    """Writes hash values of the last W words before position `t` to `words` (W,), and of their endings to `endings`.

    The document begins at position `begin`. The most recent word comes first. It ends right before `t`, and is empty if
    there is no letter. The ending of a word is its last three letters, or the whole word if it has fewer.
    """
    end = t
    for number in range(words.size):
        value, n = np.int64(_SEED + number), 0
        endings[number] = value
        while end > begin and letter(ids[end - 1]) > 0:
            value, n = mixed(value, letter(ids[end - 1])), n + 1
            end -= 1
            if n <= _SHORT:
                endings[number] = value
        words[number] = value
        while end > begin and letter(ids[end - 1]) == 0:
            end -= 1


@kernel(read_only(_I32), _I64, _I64, returns=_I64)
def hash_short_word(ids, begin, t):
    """Returns a hash value of the last short word, such as "the", before the word that ends at position `t`.

    A short word has at most three letters. Only the eight words before the word at `t` are searched; if none of them is
    short, a constant is returned. The document begins at position `begin`.
    """
    end = t
    while end > begin and letter(ids[end - 1]) > 0:
        end -= 1
    for _ in range(_FAR_WORDS):
        while end > begin and letter(ids[end - 1]) == 0:
            end -= 1
        value, n = np.int64(_SEED), 0
        while end > begin and letter(ids[end - 1]) > 0:
            value, n = mixed(value, letter(ids[end - 1])), n + 1
            end -= 1
        if 0 < n <= _SHORT:
            return value
    return np.int64(_SEED)


@kernel(*((types.UniTuple(_I64, n),) for n in (2, 3)), returns=_I64)
def hashed(parts):
    """Returns a hash value of two or three whole numbers."""
    value = np.int64(_SEED)
    for part in parts:
        value = mixed(value, part)
    return value


@kernel(read_only(_I32), _I64, _I64, read_only(_I64), read_only(_I64), _I64, _I64, writable(_I64))
def hash_contexts(ids, begin, t, recent, followers, predicted, length, contexts):
    """Writes the hash values of all contexts of the token at position `t` to `contexts` (C,).

    Contexts of different kinds may have the same value.

    - `ids`, `begin`: the text, and the position at which the document begins.
    - `recent` (4,): the last four tokens; see `recent_tokens`.
    - `followers` (2,): hash values of the tokens that followed earlier occurrences of the last token, and of the last
      two tokens; see `reading.py`.
    - `predicted`, `length`: the token that the longest match predicts, or -1 if there is no match, and its length.
    """
    contexts[0] = np.int64(_SEED)
    for d in range(1, MAX_ORDER + 1):
        contexts[d] = mixed(contexts[d - 1], (ids[t - d] if t - d >= begin else EOT) + 1)
    n, (last, second, third, fourth) = MAX_ORDER + 1, (recent[0], recent[1], recent[2], recent[3])
    contexts[n] = hashed((second, third))
    contexts[n + 1] = hashed((second, third, fourth))
    contexts[n + 2] = hashed((last, third, fourth))
    contexts[n + 3] = hashed((followers[0], last))
    contexts[n + 4] = hashed((followers[1], last, second))
    contexts[n + 5] = hashed((predicted, min(length, _LONGEST_MATCH)))
    contexts[n + 6] = hashed((predicted, last))
    if contexts.size > N_CONTEXTS:
        words, endings = np.empty(3, np.int64), np.empty(3, np.int64)
        hash_words(ids, begin, t, words, endings)
        contexts[n + 7] = hashed((words[0], last))
        contexts[n + 8] = hashed((words[0], words[1]))
        contexts[n + 9] = hashed((words[0], words[2]))
        contexts[n + 10] = hashed((words[0], words[1], words[2]))
        contexts[n + 11] = hashed((words[0], endings[1]))
        contexts[n + 12] = hashed((words[0], endings[1], endings[2]))
        contexts[n + 13] = hashed((words[0], hash_short_word(ids, begin, t)))
        contexts[n + 14] = hashed((words[0], predicted))
