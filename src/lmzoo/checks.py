"""What a setting may be: each check raises ConfigurationError with its name, what is allowed and what was given.

They are strict about types, as settings come from command lines and JSON files: "64" is a text, and true no number.
With `null`, which says what it means, None is allowed too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lmzoo.errors import ConfigurationError, UnknownNameError

_LARGEST = sys.float_info.max  # unlike float, int has greater ones


def check_whole(low: int, high: int | None = None, /, *, null: str | None = None, **settings: object) -> None:
    """All must be whole numbers of at least `low` and, if there is one, at most `high`."""
    allowed = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    most = math.inf if high is None else high
    _check(settings, allowed, null, lambda value: isinstance(value, int) and low <= value <= most)


def check_share(*, null: str | None = None, **settings: object) -> None:
    """All must be numbers from 0 to 1."""
    _check(settings, "a number from 0 to 1", null, lambda value: 0 <= value <= 1)


def check_positive(*, null: str | None = None, **settings: object) -> None:
    """All must be finite numbers above 0."""
    _check(settings, "a finite number above 0", null, lambda value: 0 < value <= _LARGEST)


def check_at_least(low: float, /, *, null: str | None = None, **settings: object) -> None:
    """All must be finite numbers of at least `low`."""
    _check(settings, f"a finite number of at least {low:g}", null, lambda value: low <= value <= _LARGEST)


def check_flag(*, null: str | None = None, **settings: object) -> None:
    """All must be true or false."""
    for name, value in settings.items():
        if not (isinstance(value, bool) or (value is None and null)):
            raise _refusal(name, value, "true or false", null)


def check_choice(choices: Collection[str], /, **settings: object) -> None:
    """All must be one of the names; UnknownNameError with the nearest one."""
    for name, value in settings.items():
        if not isinstance(value, str):
            raise _refusal(name, value, f"one of {', '.join(choices)}", None)
        if value not in choices:
            raise UnknownNameError(name, value, choices)


def _check(settings: Mapping[str, Any], allowed: str, null: str | None, fits: Callable[[Any], bool]) -> None:
    """Numbers that fit; bool is a kind of int in Python, but nobody means it."""
    for name, value in settings.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not ((is_number and fits(value)) or (value is None and null)):
            raise _refusal(name, value, allowed, null)


def _refusal(name: str, value: object, allowed: str, null: str | None) -> ConfigurationError:
    alternative = f", or null {null};" if null else ","
    return ConfigurationError(f"{name} must be {allowed}{alternative} got {value!r}")
