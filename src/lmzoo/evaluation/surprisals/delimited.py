"""Writes rows of tables as text, with a delimiter between the cells; compiled code writes long tables.

Numbers have the same digits as with `"%.6f" % value`. For this, the product of a number and 10^6 is rounded to a whole
number. The direction is in doubt only if the computed product lies exactly half-way between two whole numbers. Then the
rounding error of the product decides; it can be computed exactly (T. J. Dekker, A floating-point technique for
extending the available precision, 1971, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_EXACT: Final = 2.0**52
"""Below this number, the distance between neighbouring float64 numbers is at most 1/2."""
_SPLIT: Final = 2.0**27 + 1
"""Dekker's constant, which splits a number into two halves of 26 bits each."""
_MOST_CHARACTERS: Final = 20
"""Largest number of characters of a number whose product is below `_EXACT`, including its sign, its decimal point and
up to 15 decimal places."""
_PAYS_OFF: Final = 1 << 12
"""Number of rows from which compiled code is loaded; Python writes fewer rows in much less time than loading takes."""
_TEXT: Final = -1
_END: Final = "\0"
"""The character after each cell of text that is given to compiled code."""


def rows_as_text(
    columns: Sequence[NDArray[Any]], decimals: Sequence[int], delimiter: str, *, compiled: bool | None = None
) -> str:
    """Returns R rows as text: the cells of each row with a delimiter between them, and a line end after each row.

    A column (R,) holds texts (object), which are written as they are, or numbers that float64 represents exactly, which
    are written with the number of decimal places that `decimals` has for the column. NaN is empty, and infinity is
    "inf". `delimiter` is an ASCII character. `compiled` is True to use compiled code, False to use Python, or None for
    the faster way for this number of rows; the text is the same.
    """
    if compiled is None:
        compiled = len(columns[0]) >= _PAYS_OFF or _kernel.cache_info().currsize > 0
    if compiled:
        text = _by_kernel(columns, decimals, delimiter)
        if text is not None:
            return text
    cells = [
        column.tolist() if column.dtype == object else _formatted(column.tolist(), f"%.{places}f".__mod__)
        for column, places in zip(columns, decimals, strict=True)
    ]
    return "".join(f"{delimiter.join(row)}\n" for row in zip(*cells, strict=True))


def _formatted(column: list[float], form: Callable[[float], str]) -> list[str]:
    return ["" if value != value else form(value) for value in column]


def _by_kernel(columns: Sequence[NDArray[Any]], decimals: Sequence[int], delimiter: str) -> str | None:
    """Returns the result of `rows_as_text`; None if a text contains NUL, or if a number is too large."""
    blobs: list[bytes] = []
    numbers: list[NDArray[Any]] = []
    kinds: list[tuple[int, int]] = []  # (_TEXT, start of the cells) or (decimal places, row of the numbers)
    for column, places in zip(columns, decimals, strict=True):
        if column.dtype == object:
            kinds.append((_TEXT, sum(map(len, blobs))))
            blobs.append(f"{_END.join(column.tolist())}{_END}".encode(errors="surrogatepass"))
            if blobs[-1].count(_END.encode()) != len(column):
                return None
        else:
            kinds.append((places, len(numbers)))
            numbers.append(column)
    values = np.array(numbers, np.float64).reshape(len(numbers), len(columns[0]))
    cells = np.frombuffer(b"".join(blobs), np.uint8)
    n_delimiters = len(columns) * len(columns[0])
    text = np.empty(cells.size + values.size * _MOST_CHARACTERS + n_delimiters, np.uint8)
    scales = np.array([10.0 ** max(places, 0) for places, _ in kinds])
    size = _kernel()(values, cells, np.array(kinds, np.int64), scales, ord(delimiter), text)
    return None if size < 0 else str(text[:size].data, "utf-8", "surrogatepass")


@cache
def _kernel() -> Callable[..., int]:
    """Returns the compiled form of `_write`; numba is slow to import, and not needed for short tables."""
    from lmzoo.system.compiled import kernel, read_only, types, writable

    values, cells, scales = read_only(types.float64, 2), read_only(types.uint8), read_only(types.float64)
    kinds, text = writable(types.int64, 2), writable(types.uint8)
    return kernel(values, cells, kinds, scales, types.int64, text, returns=types.int64)(_write)


def _write(values, cells, kinds, scales, delimiter, text):
    """Writes R rows of C columns to `text`, and returns the number of bytes; -1 if a number is too large.

    `values` are the numbers, one row for each column of numbers. `cells` are the cells of the columns of text, each
    followed by NUL. `kinds` (C, 2) has the number of decimal places and the row in `values` of each column of numbers,
    and for a column of text, -1 and the position of its next cell, which is moved forward. `scales` (C,) are powers of
    ten, with the decimal places as exponents.
    """
    end, zero, one, ten = 0, np.uint64(48), np.uint64(1), np.uint64(10)
    for row in range(values.shape[1]):
        for column in range(kinds.shape[0]):
            places, place = kinds[column, 0], kinds[column, 1]
            if places < 0:
                while cells[place] != 0:
                    text[end] = cells[place]
                    place, end = place + 1, end + 1
                kinds[column, 1] = place + 1
            elif not math.isnan(values[place, row]):
                value = values[place, row]
                if math.copysign(1.0, value) < 0:
                    text[end] = 45  # a minus sign
                    end += 1
                    value = -value
                if math.isinf(value):
                    text[end], text[end + 1], text[end + 2] = 105, 110, 102  # inf
                    end += 3
                else:
                    scaled = value * scales[column]
                    if scaled >= _EXACT:
                        return -1
                    whole = np.uint64(scaled)
                    rest = scaled - np.float64(whole)
                    if rest > 0.5:
                        whole += one
                    elif rest == 0.5:
                        high = value * _SPLIT
                        high -= high - value
                        low = value - high
                        scale_high = scales[column] * _SPLIT
                        scale_high -= scale_high - scales[column]
                        scale_low = scales[column] - scale_high
                        error = ((high * scale_high - scaled) + high * scale_low + low * scale_high) + low * scale_low
                        if error > 0 or (error == 0 and (whole & one) == one):  # half to even
                            whole += one
                    n_digits, power = places + 1, np.uint64(scales[column]) * ten
                    while power <= whole:
                        n_digits, power = n_digits + 1, power * ten
                    end += n_digits + (places > 0)
                    position = end
                    for digit in range(n_digits):
                        if digit == places and places > 0:
                            position -= 1
                            text[position] = 46  # a point
                        quotient = whole // ten
                        position -= 1
                        text[position] = zero + (whole - quotient * ten)
                        whole = quotient
            text[end] = delimiter
            end += 1
        text[end - 1] = 10  # the end of the line
    return end
