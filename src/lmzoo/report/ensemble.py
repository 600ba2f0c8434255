"""The ensemble of a run's models as text that Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.experiments.stored_ensemble import StoredEnsemble, load_ensemble
from lmzoo.report.leaderboard import formatted

HEADER = ("model", "constant weight", "mean gated weight", "bits/byte without it", "increase", "95 % of the increase")


@dataclass(frozen=True)
class EnsembleSection:
    """The section of a report about the ensemble of a run: a weighted average of the predictions of its models."""

    verdict: str
    """One sentence: the gain over the best single model."""
    constant: str
    """Bits per byte with constant weights."""
    dynamic: str
    """Bits per byte with weights that are updated after every token."""
    adaptive: str | None
    """Bits per byte with the models that adapt to the test text as further members; None if there are none."""
    rows: list[list[str]]
    """Cells under `HEADER`, the model with the largest contribution first."""


def ensemble_section(folder: Path, records: Sequence[EvalRecord]) -> EnsembleSection | None:
    """Returns the section of a report about the ensemble of a run, a weighted average of its models' predictions.

    Returns None if the run folder stores no ensemble of the models in `records`.
    """
    try:
        stored = load_ensemble(folder, records)
    except LmzooError:
        return None
    if stored is None:
        return None
    adaptive = stored.adaptive_bits_per_byte
    return EnsembleSection(
        _verdict(stored),
        f"{stored.constant_bits_per_byte:.3f}",
        f"{stored.dynamic_bits_per_byte:.3f}",
        None if adaptive is None else f"{adaptive:.3f}",
        _rows(stored),
    )


def _verdict(stored: StoredEnsemble) -> str:
    gain = f"{abs(stored.gain):.3f}"
    interval = f"95 % interval of the difference: {stored.gain_low:.3f} to {stored.gain_high:.3f}"
    if not stored.is_significant:
        return (
            f"The ensemble needs {stored.bits_per_byte:.3f} bits per byte, not significantly different from"
            f" {stored.best}, the best single model ({interval})."
        )
    word = "fewer" if stored.gain > 0 else "more"
    return (
        f"The ensemble needs {stored.bits_per_byte:.3f} bits per byte, {gain} {word} than {stored.best}, the best"
        f" single model ({interval})."
    )


def _rows(stored: StoredEnsemble) -> list[list[str]]:
    return [
        [
            member.name,
            f"{member.constant_weight:.3f}",
            f"{member.weight:.3f}",
            f"{member.without:.3f}",
            formatted(member.increase, ".4f"),
            f"{formatted(member.low, '.4f')} to {formatted(member.high, '.4f')}",
        ]
        for member in sorted(stored.members, key=lambda member: -member.increase)
    ]
