"""Counts and other numbers as text."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """Returns a count with its noun, which is in the plural unless the count is 1: "1 token", "2,000 tokens"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def short_count(n: int) -> str:
    """Returns a count as text with three digits and a unit, such as "2.81 M"; counts below 10,000 in full."""
    return short_number(n) if n >= 10_000 else f"{n:,}"


def short_number(number: float) -> str:
    """Returns a number as text with three significant digits and a unit prefix: "210 k", "8.14 M"."""
    for unit in ("", " k", " M", " G", " T", " P"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} E"
