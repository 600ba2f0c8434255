"""Rows of tables as text: the same characters as Python's own formatting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmzoo.evaluation.surprisals import delimited
from lmzoo.evaluation.surprisals.delimited import rows_as_text


def as_python(values: list[float], places: int) -> str:
    return "".join("\n" if math.isnan(value) else f"{value:.{places}f}\n" for value in values)


@given(st.lists(st.floats(), min_size=1), st.integers(0, 9), st.booleans())
def test_any_floats_have_the_digits_of_python(values: list[float], places: int, compiled: bool) -> None:
    assert rows_as_text([np.array(values)], [places], "\t", compiled=compiled) == as_python(values, places)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(0, 6))
def test_the_kernel_writes_all_numbers_of_a_usual_size(values: list[float], places: int) -> None:
    assert delimited._by_kernel([np.array(values)], [places], "\t") == as_python(values, places)


@given(st.lists(st.integers(-(2**52) + 1, 2**52 - 1), min_size=1))
def test_any_whole_numbers(values: list[int]) -> None:
    text = "".join(f"{value}\n" for value in values)
    assert delimited._by_kernel([np.array(values)], [0], ",") == text
    assert rows_as_text([np.array(values)], [0], ",", compiled=False) == text


@pytest.mark.parametrize("places", [0, 1, 6])
def test_numbers_near_a_tie_are_rounded_as_they_are(places: int) -> None:
    """The nearest numbers to 0.0000005 and their neighbours; and numbers exactly half-way, such as 0.0078125."""
    ties = (np.arange(20_000) + 0.5) / 10**places
    values = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, 9e9), np.arange(999) / 128, -ties])
    assert delimited._by_kernel([values], [places], "\t") == as_python(values.tolist(), places)


def test_numbers_that_are_too_large_for_the_kernel_are_left_to_python() -> None:
    assert delimited._by_kernel([np.array([1.0, 1e10])], [6], ",") is None
    assert rows_as_text([np.array([1.0, 1e10, -np.inf])], [6], ",", compiled=True) == (
        "1.000000\n10000000000.000000\n-inf\n"
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_rows_of_texts_and_numbers(compiled: bool) -> None:
    texts = np.array(["né 川", "", "\U0001f40e\ud800"], object)
    columns = [np.array([7, 1234, 0]), texts, np.array([-0.5, np.nan, np.inf]), np.array([np.nan, 3, -0.0]), texts]

    def rows(*chosen: int) -> str:
        return rows_as_text(
            [columns[index] for index in chosen], [(0, 0, 2, 0, 0)[index] for index in chosen], ",", compiled=compiled
        )

    assert rows(0, 1, 2, 3) == "7,né 川,-0.50,\n1234,,,3\n0,\U0001f40e\ud800,inf,-0\n"
    assert rows(1, 4) == "né 川,né 川\n,\n\U0001f40e\ud800,\U0001f40e\ud800\n"
    assert rows_as_text([np.empty(0), texts[:0]], [6, 0], ",", compiled=compiled) == ""
    with_nul = np.array(["a\0b", "c"], object)
    assert rows_as_text([with_nul, np.arange(2)], [0, 0], ",", compiled=compiled) == "a\0b,0\nc,1\n"


def test_long_tables_are_written_by_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = delimited._by_kernel

    def counted(columns: Any, *arguments: Any) -> str | None:
        sizes.append(len(columns[0]))
        return original(columns, *arguments)

    monkeypatch.setattr(delimited, "_by_kernel", counted)
    delimited._kernel.cache_clear()
    for size in (10, 20_000, 20):
        assert rows_as_text([np.full(size, 0.1 + 0.2)], [6], ",") == "0.300000\n" * size
    assert sizes == [20_000, 20], "once it is loaded, it is used for short tables, too"
