"""Budgets: three presets of training length and model sizes, counted in tokens and parameters, never in seconds.

Under "quick", each model trains for at most about a minute on one core. "standard" and "thorough" are about ten and a
hundred times as much work; the transformer of "thorough" takes 86 minutes on one core of 2023.
The presets of a model are defined in the module of its factory (see `lmzoo.zoo.presets`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lmzoo import zoo
from lmzoo.checks import check_choice, check_positive
from lmzoo.errors import UsageError

BUDGETS = ("quick", "standard", "thorough")


def check_budget(budget: str) -> None:
    """Raises UnknownNameError unless `budget` is "quick", "standard" or "thorough"."""
    check_choice(BUDGETS, budget=budget)


def settings_for(species: str, budget: str) -> dict[str, Any]:
    """Returns the settings of a species under a budget, which are keyword arguments of its factory.

    The result is {} if the species has no preset for this budget, so that the defaults of the factory apply. Raises
    UnknownNameError for an unknown species or budget.
    """
    check_budget(budget)
    return dict(zoo.presets(species).get(budget, {}))


def time_limit(species: str, minutes: float) -> dict[str, Any]:
    """Returns the settings with which a network is trained for `minutes` minutes, however many tokens it then reads.

    Raises UsageError if `minutes` is not above 0, or if the species is not a network, so that its training cannot end
    early.
    """
    check_positive(minutes=minutes)
    if not zoo.is_network(species):
        raise UsageError(f"'{species}' is not trained step by step, so its training cannot be limited to minutes")
    return {"training": {"tokens": None, "seconds": 60.0 * minutes}}


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings updated with changes; nested dictionaries are merged key by key, other values are replaced."""
    result = dict(settings)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def same_settings(settings: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Returns True if two dictionaries of settings are equal as JSON, in which a tuple is the same as a list."""
    return json.dumps(settings, sort_keys=True) == json.dumps(others, sort_keys=True)


def scaled(settings: Any, scale: Callable[[int], int]) -> Any:
    """Returns settings in which every number of training tokens n is replaced by `scale(n)`.

    A number of training tokens is an integer under the key "tokens", at any depth, because the settings of a mixture
    of models contain the settings of its members. Other values are unchanged.
    """
    if isinstance(settings, Mapping):
        return {
            name: scale(value) if name == "tokens" and isinstance(value, int) else scaled(value, scale)
            for name, value in settings.items()
        }
    return [scaled(value, scale) for value in settings] if isinstance(settings, list | tuple) else settings


def as_assignments(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns settings as a dictionary of names and values for the command-line option `--set NAME=VALUE`.

    Nested names are joined by a dot: {"training": {"tokens": 5}} becomes {"training.tokens": "5"}.
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update({f"{name}.{part}": value[part] for part in value} if isinstance(value, Mapping) else {name: value})
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}
