"""Writes rows of tables as text, with a delimiter between the cells; compiled code writes long tables.

Numbers have the same digits as with `"%.6f" % value`. For this, the product of a number and 10^6 is rounded to a whole
number. The direction is in doubt only if the computed product lies exactly half-way between two whole numbers. Then the
rounding error of the product decides; it can be computed exactly (T. J. Dekker, A floating-point technique for
extending the available precision, 1971, section 5).
"""

from __future__ import annotations

import math
import re
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
_START: Final = "\0"
"""The character before each cell of text that is given to compiled code."""


def rows_as_text(
    columns: Sequence[NDArray[Any]], decimals: Sequence[int], delimiter: str, *, compiled: bool | None = None
) -> str:
    """Returns R rows as text: the cells of each row with a delimiter between them, and a line end after each row.

    A column (R,) holds texts (object), which are written as in `quoted`, or numbers that float64 represents exactly,
    which are written with the number of decimal places that `decimals` has for the column. NaN is empty, and infinity
    is "inf". `delimiter` is an ASCII character. `compiled` is True to use compiled code, False to use Python, or None
    for the faster way for this number of rows; the text is the same.
    """
    if compiled is None:
        compiled = len(columns[0]) >= _PAYS_OFF or _kernel.cache_info().currsize > 0
    if compiled:
        text = _by_kernel(columns, decimals, delimiter)
        if text is not None:
            return text
    cells = [
        quoted(column.tolist(), delimiter)
        if column.dtype == object
        else _formatted(column.tolist(), f"%.{places}f".__mod__)
        for column, places in zip(columns, decimals, strict=True)
    ]
    return "".join(f"{delimiter.join(row)}\n" for row in zip(*cells, strict=True))


def quoted(cells: list[str], delimiter: str) -> list[str]:
    """Returns cells with quotation marks around those that contain a delimiter, a quotation mark or a line end."""
    is_special = re.compile(f"[{_specials(delimiter)}]").search
    return ['"' + cell.replace('"', '""') + '"' if is_special(cell) else cell for cell in cells]


def _specials(delimiter: str) -> str:
    return f'{delimiter}"\r\n'


def _formatted(column: list[float], form: Callable[[float], str]) -> list[str]:
    return ["" if value != value else form(value) for value in column]


def _by_kernel(columns: Sequence[NDArray[Any]], decimals: Sequence[int], delimiter: str) -> str | None:
    """Returns the result of `rows_as_text`; None if a text contains NUL, or if a number is too large."""
    blobs: list[bytes] = []
    numbers: list[NDArray[Any]] = []
    kinds: list[tuple[int, int]] = []  # (_TEXT, last character of the cells) or (decimal places, row of the numbers)
    for column, places in zip(columns, decimals, strict=True):
        if column.dtype == object:
            cells = _START.join(column.tolist())
            if any(special in cells for special in _specials(delimiter)):
                cells = _START.join(quoted(column.tolist(), delimiter))
            blobs.append(f"{_START}{cells}".encode(errors="surrogatepass"))
            if blobs[-1].count(_START.encode()) != len(column):
                return None
            kinds.append((_TEXT, sum(map(len, blobs)) - 1))
        else:
            kinds.append((places, len(numbers)))
            numbers.append(column)
    values = np.array(numbers, np.float64).reshape(len(numbers), len(columns[0]))
    texts = np.frombuffer(b"".join(blobs), np.uint8)
    n_delimiters = len(columns) * len(columns[0])
    text = np.empty(texts.size + values.size * _MOST_CHARACTERS + n_delimiters, np.uint8)
    scales = np.array([10.0 ** max(places, 0) for places, _ in kinds])
    start = _kernel()(values, texts, np.array(kinds, np.int64), scales, ord(delimiter), text)
    return None if start < 0 else str(text[start:].data, "utf-8", "surrogatepass")


@cache
def _kernel() -> Callable[..., int]:
    """Returns the compiled form of `_write`; numba is slow to import, and not needed for short tables."""
    from lmzoo.system.compiled import kernel, read_only, types, writable

    values, cells, scales = read_only(types.float64, 2), read_only(types.uint8), read_only(types.float64)
    kinds, text = writable(types.int64, 2), writable(types.uint8)
    return kernel(values, cells, kinds, scales, types.int64, text, returns=types.int64)(_write)


def _write(values, cells, kinds, scales, delimiter, text):
    """Writes R rows of C columns to the end of `text`, and returns where they begin; -1 if a number is too large.

    `values` are the numbers, one row for each column of numbers. `cells` are the cells of the columns of text, with NUL
    before each of them. `kinds` (C, 2) has the number of decimal places and the row in `values` of each column of
    numbers, and for a column of text, -1 and the position of the last character of its last cell, which is moved back.
    `scales` (C,) are powers of ten, with the decimal places as exponents.

    The rows are written from the last character to the first, because this is the order in which the digits of a
    number are computed.
    """
    start, zero, one, ten = text.size, np.uint64(48), np.uint64(1), np.uint64(10)
    for row in range(values.shape[1] - 1, -1, -1):
        for column in range(kinds.shape[0] - 1, -1, -1):
            start -= 1
            text[start] = delimiter if column < kinds.shape[0] - 1 else 10  # a line end
            places, place = kinds[column, 0], kinds[column, 1]
            if places < 0:
                while cells[place] != 0:
                    start -= 1
                    text[start] = cells[place]
                    place -= 1
                kinds[column, 1] = place - 1
            elif not math.isnan(values[place, row]):
                value = math.fabs(values[place, row])
                if math.isinf(value):
                    start -= 3
                    text[start], text[start + 1], text[start + 2] = 105, 110, 102  # inf
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
                    for _ in range(places):
                        quotient = whole // ten
                        start -= 1
                        text[start] = zero + (whole - quotient * ten)
                        whole = quotient
                    if places > 0:
                        start -= 1
                        text[start] = 46  # a point
                    while True:
                        quotient = whole // ten
                        start -= 1
                        text[start] = zero + (whole - quotient * ten)
                        whole = quotient
                        if whole == 0:
                            break
                if math.copysign(1.0, values[place, row]) < 0:
                    start -= 1
                    text[start] = 45  # a minus sign
    return start
