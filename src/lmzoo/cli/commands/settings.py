"""`--set name=value`: settings of a species from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lmzoo.errors import ConfigurationError


def parse_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """["d_hidden=512", "training.tokens=1000000"] as {"d_hidden": 512, "training": {"tokens": 1000000}}.

    Values are JSON where they can be read as it, else text. ConfigurationError for what is not `name=value`.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *parents, name = path.strip().split(".")
        if not equals or not name:
            raise ConfigurationError(f"--set takes name=value, such as d_hidden=512; got '{assignment}'")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        place = settings
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigurationError(f"--set {assignment}: '{parent}' already has a value of its own")
        place[name] = value
    return settings


def parse_settings_of_species(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The same with the name of a species before each setting: ["lstm.d_hidden=512"] as {"lstm": {"d_hidden": 512}}."""
    for assignment in assignments:
        if "." not in assignment.partition("=")[0]:
            raise ConfigurationError(f"--set takes species.name=value, as in lstm.d_hidden=512; got '{assignment}'")
    return parse_settings(assignments)


def parse_sweeps(assignments: Sequence[str], option: str = "--sweep") -> dict[str, dict[str, list[Any]]]:
    """["hmm.n_states=8,32"] as {"hmm": {"n_states": [8, 32]}}; ConfigurationError for anything else.

    A setting within a group keeps its dots, as "training.tokens".
    """
    sweeps: dict[str, dict[str, list[Any]]] = {}
    for assignment in assignments:
        path, _, text = assignment.partition("=")
        species, *names = (name.strip() for name in path.split("."))
        values = [value.strip() for value in text.split(",")]
        if not (species and names and all(names) and all(values)):
            raise ConfigurationError(
                f"{option} takes species.setting=value,value, as in hmm.n_states=8,32; got '{assignment}'"
            )
        tried = sweeps.setdefault(species, {}).setdefault(".".join(names), [])
        tried += [parse_settings([f"value={value}"])["value"] for value in values]
    return sweeps
