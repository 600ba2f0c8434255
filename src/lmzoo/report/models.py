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
    """What a report shows about one model: its description (card), its results and its stored measurements."""

    card: zoo.Card
    record: EvalRecord
    settings: dict[str, str]
    """The settings that differ from the defaults, as `--set` takes them."""
    probes: StoredProbes | None
    """None if the run folder stores no probes of the model."""


def model_entries(folder: Path, records: Sequence[EvalRecord]) -> tuple[list[ModelEntry], list[tuple[str, str]]]:
    """Returns the models of a run, the oldest first, and the models whose measurements could not be read.

    The measurements are predictions, use of context and gradients. The second list has pairs of a model's name and the
    reason. Models whose family (species) is no longer registered are only in the second list.
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
