"""Fixtures of the tests of the command line."""

from __future__ import annotations

from typing import Any

import pytest

from lmzoo.cli import terminal


@pytest.fixture(autouse=True)
def consoles_of_this_test() -> Any:
    """Clears the cached consoles, which would write to the streams of an earlier test."""
    terminal.stdout.cache_clear()
    terminal.stderr.cache_clear()
    yield
    terminal.stdout.cache_clear()
    terminal.stderr.cache_clear()
