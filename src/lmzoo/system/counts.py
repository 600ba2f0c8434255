"""Counts as text."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """Returns a count with its noun, which is in the plural unless the count is 1: "1 token", "2,000 tokens"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def short_count(n: int) -> str:
    """Returns a count as text with three digits and a unit, such as "2.81 M"; counts below 10,000 in full."""
    for size, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if n >= max(size, 10_000):
            return f"{n / size:.3g}{unit}"
    return f"{n:,}"
