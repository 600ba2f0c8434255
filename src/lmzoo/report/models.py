"""The models of a run with their cards and stored probes, in the order of their years."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo import zoo
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.experiments.budgets import as_assignments
from lmzoo.probes.stored import StoredProbes, load_probes, probes_path


@dataclass(frozen=True)
class ModelEntry:
    """One model of a run: its card, its evaluation record and its stored probes."""

    card: zoo.Card
    record: EvalRecord
    settings: dict[str, str]
    """The settings that differ from the defaults, as `--set` takes them."""
    probes: StoredProbes | None
    """None if the run folder stores no probes of the model."""


def model_entries(folder: Path, records: Sequence[EvalRecord]) -> tuple[list[ModelEntry], list[tuple[str, str]]]:
    """Returns the models whose species is registered, the oldest first, and the models without probes.

    Each model without probes is a pair of its name and the reason.
    """
    models, without_probes = [], []
    for record in records:
        try:
            card = zoo.card(record.species)
        except LmzooError as error:
            without_probes.append((record.name, str(error)))
            continue
        probes = None
        try:
            probes = load_probes(probes_path(folder, record.name))
        except LmzooError as error:
            without_probes.append((record.name, str(error)))
        models.append(ModelEntry(card, record, as_assignments(record.settings), probes))
    return sorted(models, key=lambda model: model.card.year), without_probes
