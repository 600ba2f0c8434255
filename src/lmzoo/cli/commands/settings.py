"""Parsing of the options `--set name=value` and `--sweep species.name=value,value`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lmzoo.errors import ConfigurationError
from lmzoo.system.json_files import parse_json


def parse_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """Parses assignments such as "d_hidden=512" into a dictionary of settings.

    A dot in a name makes a nested dictionary: ["d_hidden=512", "training.tokens=1000000"] becomes
    {"d_hidden": 512, "training": {"tokens": 1000000}}. A value is parsed as JSON if it is valid JSON; otherwise it is
    kept as text. Raises ConfigurationError if an assignment does not have the form `name=value`.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *parents, name = path.strip().split(".")
        if not equals or not name:
            raise ConfigurationError(f"--set takes name=value, such as d_hidden=512; got '{assignment}'")
        value = _value(text, assignment)
        group = settings
        for parent in parents:
            group = group.setdefault(parent, {})
            if not isinstance(group, dict):
                raise ConfigurationError(
                    f"--set {assignment}: '{parent}' already has a value, so '{path}' cannot be set"
                )
        group[name] = value
    return settings


def _value(text: str, assignment: str) -> Any:
    """Returns the value of an assignment: parsed as JSON if it is valid JSON, else the text itself.

    Raises ConfigurationError for JSON with too large numbers or too deep lists and objects.
    """
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        return text
    except ValueError as error:
        shown = assignment if len(assignment) <= 80 else f"{assignment[:80]}..."
        raise ConfigurationError(f"--set {shown}: {error}") from error


def parse_settings_of_species(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parses assignments such as "lstm.d_hidden=512" into settings by species: {"lstm": {"d_hidden": 512}}.

    Raises ConfigurationError if an assignment does not have the form `species.name=value`.
    """
    for assignment in assignments:
        if "." not in assignment.partition("=")[0]:
            raise ConfigurationError(f"--set takes species.name=value, such as lstm.d_hidden=512; got '{assignment}'")
    return parse_settings(assignments)


def parse_sweeps(assignments: Sequence[str], option: str = "--sweep") -> dict[str, dict[str, list[Any]]]:
    """Parses assignments such as "hmm.n_states=8,32" into the values to try: {"hmm": {"n_states": [8, 32]}}.

    The name of a nested setting keeps its dots, as in {"lstm": {"training.tokens": [...]}}. `option` is the name of the
    option in error messages. Raises ConfigurationError if an assignment has another form.
    """
    sweeps: dict[str, dict[str, list[Any]]] = {}
    for assignment in assignments:
        path, _, text = assignment.partition("=")
        species, *names = (name.strip() for name in path.split("."))
        values = [value.strip() for value in text.split(",")]
        if not (species and names and all(names) and all(values)):
            raise ConfigurationError(
                f"{option} takes species.setting=value,value, such as hmm.n_states=8,32; got '{assignment}'"
            )
        sweep = sweeps.setdefault(species, {}).setdefault(".".join(names), [])
        sweep += [parse_settings([f"value={value}"])["value"] for value in values]
    return sweeps
