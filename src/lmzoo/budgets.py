"""One dial for all species: how much each may spend, in tokens and parameters, never in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmzoo.errors import UnknownNameError

# Species that are not named here run with their defaults under every budget.
BUDGETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {},
    "standard": {},
    "thorough": {},
}


def settings_for(species: str, budget: str) -> dict[str, Any]:
    """The factory arguments of a species under a budget; UnknownNameError for an unknown budget."""
    if budget not in BUDGETS:
        raise UnknownNameError("budget", budget, BUDGETS)
    return dict(BUDGETS[budget].get(species, {}))


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with `changes` laid over them, group by group."""
    result = dict(settings)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
