"""The messages of exceptions on one line; those of other libraries may have many lines."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Returns the first line of the message of an exception."""
    return str(error).strip().partition("\n")[0]


def one_line(error: BaseException) -> str:
    """Returns the whole message of an exception, with a space in place of each line break."""
    return " ".join(str(error).split())
