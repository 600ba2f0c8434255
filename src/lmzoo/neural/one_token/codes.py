"""Numbers that name the activation functions in the compiled kernels."""

from __future__ import annotations

from enum import IntEnum


class Activation(IntEnum):
    """The activation function that a compiled kernel applies to the result W x + b of a linear layer."""

    NONE = 0
    RELU = 1
    SQUARED_RELU = 2
    GELU = 3
    """In its tanh form."""
    TANH = 4
