"""Checks of settings and texts. A check of settings raises a ConfigurationError that names the setting, its value and
what is allowed.

Types are checked strictly, because settings come from command lines and JSON files: "64" and True are not numbers.
`none_means` allows None as well; it is a text that says what None does, for the error message.
"""

from __future__ import annotations

import math
import numbers
import reprlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from lmzoo.errors import ConfigurationError, UnknownNameError, UsageError

_LARGEST = sys.float_info.max  # a Python int may be larger


def as_whole(value: object) -> int | None:
    """Returns a whole number of Python or NumPy as an int; None for any other value, such as 1.0, "1" or True."""
    if type(value) is int:
        return value  # nearly all are, and the check of other types is slow
    return None if isinstance(value, bool) or not isinstance(value, numbers.Integral) else int(value)


def check_count(low: int, high: int | None = None, /, *, none_means: str | None = None, **arguments: object) -> None:
    """Raises ConfigurationError unless all keyword arguments are integers, of Python or NumPy, from `low` to `high`.

    If `high` is None, there is no upper limit. The name of each argument is used in the error message. Settings are
    checked by `check_whole` instead, because NumPy's numbers cannot be saved as JSON.
    """
    for name, value in arguments.items():
        whole = as_whole(value)
        check_whole(low, high, none_means=none_means, **{name: value if whole is None else whole})


def check_seed(*, none_means: str | None = None, **seeds: object) -> None:
    """Raises ConfigurationError unless all keyword arguments, which are seeds, are integers from 0 to 2^63 - 1."""
    check_count(0, 2**63 - 1, none_means=none_means, **seeds)


def as_seed(seed: Any) -> int:
    """Checks a seed as `check_seed` does, and returns it as a Python int, which can be saved as JSON."""
    check_seed(seed=seed)
    return int(seed)


def check_whole(low: int, high: int | None = None, /, *, none_means: str | None = None, **settings: object) -> None:
    """Raises ConfigurationError unless all keyword arguments (settings by name) are integers from `low` to `high`.

    If `high` is None, there is no upper limit.
    """
    allowed = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    most = math.inf if high is None else high
    _check(settings, allowed, none_means, lambda value: isinstance(value, int) and low <= value <= most)


def check_share(**settings: object) -> None:
    """Raises ConfigurationError unless all keyword arguments (settings by name) are numbers from 0 to 1."""
    _check(settings, "a number from 0 to 1", None, lambda value: 0 <= value <= 1)


def check_positive(*, none_means: str | None = None, **settings: object) -> None:
    """Raises ConfigurationError unless all keyword arguments (settings by name) are finite numbers above 0."""
    _check(settings, "a finite number above 0", none_means, lambda value: 0 < value <= _LARGEST)


def check_at_least(low: float, /, **settings: object) -> None:
    """Raises ConfigurationError unless all keyword arguments (settings by name) are finite and at least `low`."""
    _check(settings, f"a finite number of at least {low:g}", None, lambda value: low <= value <= _LARGEST)


def check_flag(*, none_means: str | None = None, **settings: object) -> None:
    """Raises ConfigurationError unless all keyword arguments (settings by name) are True or False."""
    for name, value in settings.items():
        if not (isinstance(value, bool) or (value is None and none_means)):
            raise _refusal(name, value, "true or false", none_means)


def check_choice(choices: Collection[str], /, **settings: object) -> None:
    """Raises UnknownNameError, which suggests the nearest name, unless all settings are names in `choices`."""
    for name, value in settings.items():
        if not isinstance(value, str):
            raise _refusal(name, value, f"one of {', '.join(choices)}", None)
        if value not in choices:
            raise UnknownNameError(name, value, choices)


def check_text(text: object) -> None:
    """Raises UsageError unless a text is a str."""
    if not isinstance(text, str):
        raise UsageError(f"a text must be a str, got {reprlib.repr(text)}")


def one_or_several(texts: Any) -> Iterable[Any]:
    """Returns several texts as they are, and one text in a list.

    Raises UsageError for a single value that is not a str. A mapping or a table is refused, too, because it would be
    read as its keys or as the names of its columns.
    """
    if isinstance(texts, Mapping) or getattr(texts, "ndim", 1) != 1:
        kind = type(texts).__name__
        raise UsageError(f"texts must be a str or several, such as a list or one column of a table, got a {kind}")
    if isinstance(texts, Iterable) and not isinstance(texts, str | bytes | bytearray):
        return texts
    check_text(texts)
    return [texts]


def _check(settings: Mapping[str, Any], allowed: str, none_means: str | None, fits: Callable[[Any], bool]) -> None:
    """Raises ConfigurationError unless the value of each setting is a number for which `fits` returns True.

    - `settings`: values by the names of the settings. True and False do not count as numbers.
    - `allowed`: description of the allowed values in the error message, such as "a number from 0 to 1".
    - `none_means`: the effect of the value None, such as "for no limit", which the error message mentions. If this
      argument is itself None, the value None is not allowed.
    """
    for name, value in settings.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not ((is_number and fits(value)) or (value is None and none_means)):
            raise _refusal(name, value, allowed, none_means)


def _refusal(name: str, value: object, allowed: str, none_means: str | None) -> ConfigurationError:
    alternative = f", or null {none_means};" if none_means else ","
    return ConfigurationError(f"{name} must be {allowed}{alternative} got {reprlib.repr(value)}")
