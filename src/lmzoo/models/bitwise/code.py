"""The code words of tokens: the truncated binary code, and the tree that its code words form.

The V tokens are numbered in the order of their ids, with EOT (id 0) last: token 1 is number 0, and EOT is number V - 1.
With 2^k <= V < 2^(k+1), the first 2^(k+1) - V tokens have code words of k bits, and the others of k + 1 bits:

    number n of a short code word     the k bits of n
    number n of a long code word      the k + 1 bits of n + 2^(k+1) - V

The highest bit comes first. With the tokenizer "byte", the id of a byte is its value plus 1, so that the code words of
the bytes 0 to 254 are the eight bits of the byte. The byte 255, which does not occur in UTF-8, and EOT share their
first eight bits and are told apart by a ninth.

Code words are paths in a binary tree. Its nodes have numbers: the root is 1, and the children of node n are 2n and
2n + 1. A code word leads from the root to a leaf, whose number is the code word with a 1 before it. There are V leaves
and V - 1 inner nodes, and every inner node has two children.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.system.compiled import bit_length, kernel

_I64 = types.int64
_MULTIPLIER = -7046029254386353131  # 2^64 divided by the golden ratio, as a signed number
_HIGH_BITS, _MASK = 29, 0x7FFFFFFFF


@kernel(_I64, returns=_I64)
def code_width(vocab_size):
    """Returns 2^k, the largest power of two that is at most `vocab_size`; code words have k or k + 1 bits."""
    return np.int64(1) << (bit_length(vocab_size) - 1)


@kernel(_I64, _I64, returns=_I64)
def leaf_of(token_id, vocab_size):
    """Returns the number of the leaf of a token in the tree of the code words of `vocab_size` tokens."""
    width = code_width(vocab_size)
    n_short = 2 * width - vocab_size
    number = token_id - 1 if token_id > 0 else vocab_size - 1
    return width + number if number < n_short else 2 * width + number + n_short


@kernel(_I64, returns=_I64)
def n_bits(node):
    """Returns the number of bits on the path from the root to a node of the tree of code words."""
    return bit_length(node) - 1


@kernel(_I64, _I64, returns=types.boolean)
def is_inner(node, vocab_size):
    """Returns True if `node` is the number of an inner node of the tree of the code words of `vocab_size` tokens."""
    width = code_width(vocab_size)
    n_short = 2 * width - vocab_size
    return node < width or width + n_short <= node < 2 * width


@kernel(_I64, _I64, returns=_I64)
def hash_combine(value, more):
    """Returns a hash value of two whole numbers; sequences are hashed number by number."""
    product = (value ^ more) * _MULTIPLIER
    return product ^ ((product >> _HIGH_BITS) & _MASK)
