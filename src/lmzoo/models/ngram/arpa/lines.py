"""Parses the lines of ARPA files in compiled code, which stops at any line with an unusual notation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _U8, _F64 = types.int32, types.int64, types.uint8, types.float64
_NEWLINE, _PLUS, _MINUS, _POINT, _ZERO, _NINE, _SMALL_E, _LARGE_E = b"\n+-.09eE"
_SPACES = tuple(b" \t\r\0")
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
"""The constants of the hash function FNV-1a (Fowler, Noll, Vo)."""
_POWERS = np.array([float(f"1e{exponent}") for exponent in range(23)])
"""The powers of 10 that float64 represents exactly."""


class Lexicon:
    """A hash table that maps words, given as bytes, to their token ids."""

    def __init__(self, ids: Mapping[bytes, int]) -> None:
        self.spelling = np.frombuffer(b"".join(ids) + b"\n", np.uint8)  # never empty
        self.ends = np.cumsum([0, *map(len, ids)])  # (W + 1,)
        self.ids = np.fromiter(ids.values(), np.int32, len(ids))
        self.slots = np.zeros(1 << (2 * len(ids)).bit_length(), np.int32)
        _fill_slots(self.spelling, self.ends, self.slots)

    def parse(
        self,
        text: NDArray[np.uint8],
        at: int,
        row: int,
        words: NDArray[np.int32],
        log_probs: NDArray[np.float64],
        backoffs: NDArray[np.float64],
    ) -> tuple[int, int]:
        """Parses consecutive lines of an ARPA file, with n-grams of one length k, up to a line in an unusual notation.

        - `text`: the bytes of the lines, which end with a line end; `at` is the index of the first byte to parse.
        - `words` (N, k): receives the token ids of each n-gram.
        - `log_probs` (N,): receives the first number of each line.
        - `backoffs` (N,): receives the second number of each line, or 0.
        - `row`: the index in these three arrays at which the first n-gram is written.

        A line must have a number of at most 0, then k known words, then optionally a second number. Returns the index
        of the first line of another form (or the length of the text), and the index after the last n-gram written.
        """
        lexicon = self.spelling, self.ends, self.ids, self.slots
        return _parse(text, at, row, *lexicon, words, log_probs, backoffs)


@kernel(read_only(_U8), _I64, _I64, returns=types.uint64)
def _hash(text, begin, end):
    value = _OFFSET
    for at in range(begin, end):
        value = (value ^ np.uint64(text[at])) * _PRIME
    return value ^ (value >> np.uint64(32))


@kernel(read_only(_U8), read_only(_I64), writable(_I32))
def _fill_slots(spelling, ends, slots):
    """Inserts W words into an empty hash table with open addressing and linear probing.

    - `spelling`: the bytes of all words, concatenated.
    - `ends` (W + 1,): word i is `spelling[ends[i]:ends[i + 1]]`.
    - `slots`: the hash table, whose size is a power of 2; i + 1 is written for word i, and 0 means an empty slot.
    """
    last = np.uint64(slots.size - 1)
    for index in range(ends.size - 1):
        slot = _hash(spelling, ends[index], ends[index + 1]) & last
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & last
        slots[slot] = index + 1


@kernel(read_only(_U8), _I64, _I64, read_only(_U8), read_only(_I64), read_only(_I32), returns=_I64)
def _find_word(text, begin, end, spelling, ends, slots):
    """Looks up the word `text[begin:end]` in a hash table of W words; returns its index, or -1 if it is not there.

    - `spelling`: the bytes of all words of the table, concatenated.
    - `ends` (W + 1,): word i of the table is `spelling[ends[i]:ends[i + 1]]`.
    - `slots`: the hash table, which contains i + 1 for word i, and 0 in an empty slot.
    """
    last = np.uint64(slots.size - 1)
    slot = _hash(text, begin, end) & last
    while slots[slot] != 0:
        index = slots[slot] - 1
        offset = ends[index] - begin
        if ends[index + 1] - ends[index] == end - begin:
            at = begin
            while at < end and text[at] == spelling[at + offset]:
                at += 1
            if at == end:
                return index
        slot = (slot + np.uint64(1)) & last
    return -1


@kernel(read_only(_U8), _I64, returns=types.Tuple((_F64, _I64)))
def _number(text, begin):
    """Parses the decimal number that begins at index `begin` of a text; returns its value and the index after it.

    If there is no number, or if its exponent is too large for exact conversion, the returned index is `begin`.
    """
    at, digits, mantissa, exponent, after_point = begin, 0, 0, 0, False
    if text[at] == _MINUS or text[at] == _PLUS:
        at += 1
    while _ZERO <= text[at] <= _NINE or (text[at] == _POINT and not after_point):
        if text[at] == _POINT:
            after_point = True
        else:
            if digits < 18:
                mantissa = mantissa * 10 + (text[at] - _ZERO)
                exponent -= after_point
            else:
                exponent += not after_point
            digits += 1
        at += 1
    if digits == 0:
        return 0.0, begin
    if text[at] == _SMALL_E or text[at] == _LARGE_E:
        sign, written = at + 1, 0
        at += 2 if text[sign] == _MINUS or text[sign] == _PLUS else 1
        if not _ZERO <= text[at] <= _NINE:
            return 0.0, begin
        while _ZERO <= text[at] <= _NINE:
            written = min(written * 10 + (text[at] - _ZERO), 1000)
            at += 1
        exponent += -written if text[sign] == _MINUS else written
    if not -_POWERS.size < exponent < _POWERS.size:
        return 0.0, begin
    value = mantissa / _POWERS[-exponent] if exponent < 0 else mantissa * _POWERS[exponent]
    return -value if text[begin] == _MINUS else value, at


@kernel(
    read_only(_U8), _I64, _I64, read_only(_U8), read_only(_I64), read_only(_I32), read_only(_I32),
    writable(_I32, 2), writable(_F64), writable(_F64), returns=types.UniTuple(_I64, 2),
)  # fmt: skip
def _parse(text, at, row, spelling, ends, ids, slots, words, log_probs, backoffs):
    order = words.shape[1]
    while at < text.size:
        line = at
        log_probs[row], at = _number(text, at)
        if at == line or not log_probs[row] <= 0:
            return line, row
        for column in range(order):
            after = at
            while text[at] in _SPACES:
                at += 1
            begin = at
            while text[at] not in _SPACES and text[at] != _NEWLINE:
                at += 1
            index = _find_word(text, begin, at, spelling, ends, slots) if after < begin < at else -1
            if index < 0:
                return line, row
            words[row, column] = ids[index]
        backoffs[row] = 0
        while text[at] in _SPACES:
            at += 1
        if text[at] != _NEWLINE:
            begin = at
            backoffs[row], at = _number(text, at)
            while text[at] in _SPACES:
                at += 1
            if at == begin or text[at] != _NEWLINE:
                return line, row
        at += 1
        row += 1
    return at, row
