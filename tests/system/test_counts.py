"""Counts as text."""

from __future__ import annotations

from lmzoo.system.counts import counted, short_count


def test_a_noun_is_in_the_plural_unless_the_count_is_1() -> None:
    assert [counted(n, "token") for n in (0, 1, 2, 2000)] == ["0 tokens", "1 token", "2 tokens", "2,000 tokens"]


def test_large_counts_have_three_digits_and_a_unit() -> None:
    counts = [0, 9_999, 12_345, 2_810_000, 7 * 10**9, 999_999]
    assert [short_count(n) for n in counts] == ["0", "9,999", "12.3 k", "2.81 M", "7 G", "1 M"]
