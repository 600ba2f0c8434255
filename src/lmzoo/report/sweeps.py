"""The report's figures about settings that a run varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmzoo.evaluation.records import EvalRecord


def swept_settings(records: Sequence[EvalRecord]) -> dict[str, list[tuple[float, EvalRecord]]]:
    """Returns each numeric setting that a run varied, with pairs of a value and the evaluation record for this value.

    A setting is included if it has at least two values. Records without a perplexity are left out: their model gave
    some token probability 0.
    """
    by_setting: dict[str, list[tuple[float, EvalRecord]]] = {}
    for record in records:
        setting = record.label.partition(",")[2].partition("=")[0]
        value: Any = record.settings
        for name in setting.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and record.perplexity_per_token is not None:
            by_setting.setdefault(setting, []).append((value, record))
    return {name: pairs for name, pairs in by_setting.items() if len({value for value, _ in pairs}) > 1}


def reference_record(swept: Sequence[tuple[float, EvalRecord]], records: Sequence[EvalRecord]) -> EvalRecord | None:
    """Returns the record of the best model with which the models of a sweep can be compared in a figure.

    A sweep is a set of models that differ in one setting. `swept` holds the setting's value and the evaluation record
    of each. `records` holds all evaluation records of the run, the best first. The model must not belong to the sweep.
    If the models of the sweep adapt to the test text, it must adapt, too; otherwise it must not. Returns None if there
    is no such model.
    """
    inside = [record for _, record in swept]
    adaptive = {record.adapts_on_test for record in inside}
    others = (one for one in records if one not in inside and {one.adapts_on_test} == adaptive)
    return next((one for one in others if one.perplexity_per_token is not None), None)
