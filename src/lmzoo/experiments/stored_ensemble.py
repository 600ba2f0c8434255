"""The ensemble of a run's models, stored as `ensemble.json` in the run folder so that a report only reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import LmzooError, SavedModelError
from lmzoo.evaluation.ensemble import BEST, CONSTANT, DYNAMIC, MIXTURE, evaluate_ensemble, gated_log_probs
from lmzoo.evaluation.gate import ModelScores
from lmzoo.evaluation.records import EvalRecord
from lmzoo.evaluation.scores import load_scores
from lmzoo.evaluation.statistics import resampling_units
from lmzoo.experiments.run_folder import scores_path
from lmzoo.language_model import TokenStats
from lmzoo.stream import TokenStream
from lmzoo.system.files import atomic_file
from lmzoo.system.json_files import parse_as, read_text

_WEIGHTS_TOKENS = 1 << 15
"""Number of tokens, more or less, from which the weights are learned; more of them hardly lower the loss."""


@dataclass(frozen=True)
class Member:
    """One model of an ensemble, and the loss of the ensemble without the model (ablation), in bits per byte."""

    name: str
    weight: float
    """Mean weight of the model in the ensemble over all tokens of the test split; these means sum to 1."""
    constant_weight: float
    """Weight of the model in the ensemble with constant weights; the weights sum to 1."""
    without: float
    """Bits per byte of the ensemble of all other models, with its gate learned again."""
    increase: float
    """Increase of the ensemble's bits per byte if the model is left out."""
    low: float
    """Lower end of the 95 % interval of `increase`."""
    high: float
    """Upper end of the 95 % interval of `increase`."""


@dataclass(frozen=True)
class StoredEnsemble:
    """The results of an ensemble, which averages the distributions of several models with weights.

    A gate, learned on the validation split, computes the weights from the context. Losses and their differences are in
    bits per byte of the test split.
    """

    scored: dict[str, float | None]
    """Total surprisal, in nats, of each model of the run: identifies the scores that were used."""
    bits_per_byte: float
    best: str
    """The best single model on the validation split."""
    gain: float
    """Bits per byte of the best single model minus bits per byte of the ensemble."""
    gain_low: float
    """Lower end of the 95 % interval of `gain`."""
    gain_high: float
    is_significant: bool
    """True if the ensemble and the best single model differ significantly."""
    constant_bits_per_byte: float
    """Bits per byte with constant weights, learned on the validation split."""
    dynamic_bits_per_byte: float
    """Bits per byte with weights that are updated after every token of the test text."""
    members: list[Member]
    adaptive_bits_per_byte: float | None = None
    """Bits per byte of an ensemble, also with a gate, that has the models that adapt to the test text as members, too;
    None if the run has no such models."""


def is_member(record: EvalRecord) -> bool:
    """Returns True if a model is a member of an ensemble; mixtures and models that are trained elsewhere are not."""
    return record.bits_per_byte is not None and not record.trained_elsewhere and record.species != "mixture"


def weights_sample(encoded: EncodedCorpus) -> TokenStream:
    """Returns the documents of the validation split from which the weights of the ensemble are learned."""
    return encoded.valid.stream.sample(_WEIGHTS_TOKENS)


def measure_ensemble(folder: Path, records: Sequence[EvalRecord], encoded: EncodedCorpus) -> None:
    """Computes the ensemble of the models of a run and writes it to `ensemble.json`, unless the file is up to date.

    Models of the species `mixture` are not members. Models that adapt to the test text are members of an ensemble of
    their own together with the others. Nothing is written if fewer than two other models have scores, or if the test
    text is too short for a comparison.
    """
    path = folder / "ensemble.json"
    if load_ensemble(folder, records) is not None:
        return
    sample = weights_sample(encoded)
    members: list[EvalRecord] = []
    valid, test = [], []
    for record in sorted(filter(is_member, records), key=lambda record: record.adapts_on_test):
        of_valid = _scores(folder, record, "valid", len(sample))
        of_test = _scores(folder, record, "test", len(encoded.test.stream))
        if of_valid is not None and of_test is not None:
            members.append(record)
            valid.append(of_valid)
            test.append(of_test)
    names = [record.name for record in members if not record.adapts_on_test]
    if len(names) < 2:
        return

    def scores_of_first(n_members: int) -> tuple[ModelScores, ModelScores]:
        starts = encoded.test.stream.starts
        return ModelScores.stack(valid[:n_members], sample.starts), ModelScores.stack(test[:n_members], starts)

    sizes = encoded.test.bytes_by_token
    units = resampling_units(encoded.test.stream)
    ensemble = evaluate_ensemble(names, *scores_of_first(len(names)), sizes, units)
    if ensemble is None:
        return
    adaptive = None
    if len(members) > len(names):
        log_probs = gated_log_probs(*scores_of_first(len(members)))
        adaptive = -float(log_probs.sum()) / math.log(2) / float(sizes.sum())
    comparison = ensemble.comparison
    low, high = comparison.difference_intervals[BEST, MIXTURE].tolist()
    contributions = []
    for member, name in enumerate(ensemble.names):
        row = ensemble.ablation(member)
        ends = comparison.difference_intervals[row, MIXTURE].tolist()
        increase = float(comparison.differences[row, MIXTURE])
        weights = float(ensemble.weights[member]), float(ensemble.constant_weights[member])
        contributions.append(Member(name, *weights, float(comparison.losses[row]), increase, *ends))
    stored = StoredEnsemble(
        _scored(records),
        bits_per_byte=float(comparison.losses[MIXTURE]),
        best=ensemble.names[ensemble.best],
        gain=float(comparison.differences[BEST, MIXTURE]),
        gain_low=low,
        gain_high=high,
        is_significant=comparison.is_significant(BEST, MIXTURE),
        constant_bits_per_byte=float(comparison.losses[CONSTANT]),
        dynamic_bits_per_byte=float(comparison.losses[DYNAMIC]),
        members=contributions,
        adaptive_bits_per_byte=adaptive,
    )
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(stored)), encoding="utf-8")


def load_ensemble(folder: Path, records: Sequence[EvalRecord]) -> StoredEnsemble | None:
    """Reads the ensemble of a run from `ensemble.json` in the run folder.

    Returns None if the file is missing, or if the ensemble was computed for other results than those in `records`.
    Raises SavedModelError if the file is damaged.
    """
    path = folder / "ensemble.json"
    if not path.exists():
        return None
    try:
        stored = parse_as(StoredEnsemble, read_text(path, "an ensemble"))
    except ValueError as error:
        raise SavedModelError(f"{path} is damaged: {error}; delete it and run lmzoo compare again") from error
    return stored if stored.scored == _scored(records) else None


def ranked_log_probs(folder: Path, record: EvalRecord, encoded: EncodedCorpus) -> NDArray[np.floating] | None:
    """Reads the log-probability of each of the T test tokens under a model of a run, in nats: an array (T,).

    Returns None if the model has no bits per byte or adapts to the test text, or if its scores are missing or damaged.
    """
    scores = _scores(folder, record, "test", len(encoded.test.stream)) if record.is_ranked else None
    return None if scores is None else scores.log_probs


def _scores(folder: Path, record: EvalRecord, split: str, n_tokens: int) -> TokenStats | None:
    """Reads the scores of `n_tokens` tokens of a split under a model of a run; None if they are missing or damaged."""
    try:
        return load_scores(scores_path(folder, record.name, split), n_tokens)
    except LmzooError:  # written by an earlier version, or damaged
        return None


def _scored(records: Sequence[EvalRecord]) -> dict[str, float | None]:
    return {record.name: record.total_nats for record in records if is_member(record)}
