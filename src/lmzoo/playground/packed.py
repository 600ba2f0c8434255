"""Arrays of numbers in JSON: their bytes as text, which is shorter and faster to read than a list of numbers."""

from __future__ import annotations

import base64
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel


class PackedArray(BaseModel):
    """An array of numbers in single precision."""

    shape: list[int]
    data: str
    """The numbers in row-major order, each as 4 bytes, little-endian; all in base64."""


def packed(array: NDArray[Any]) -> PackedArray:
    """Returns an array in the form in which the pages receive it."""
    return PackedArray(shape=list(array.shape), data=base64.b64encode(array.astype("<f4").tobytes()).decode())
