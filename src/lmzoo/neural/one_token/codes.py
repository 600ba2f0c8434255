"""Numbers that name the activation functions in the compiled kernels."""

from __future__ import annotations

from enum import IntEnum


class Activation(IntEnum):
    """The activation function that the compiled `affine` kernel applies to its result."""

    NONE = 0
    RELU = 1
    SQUARED_RELU = 2
    GELU = 3
    """In its tanh form."""
    TANH = 4
