"""Tests of the ensembles that a run folder stores."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.evaluation.ensemble import MIXTURE, evaluate_ensemble
from lmzoo.evaluation.gate import ModelScores
from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import EvalRecord
from lmzoo.evaluation.scores import load_scores, save_scores
from lmzoo.evaluation.statistics import resampling_units
from lmzoo.experiments.run_folder import read_lines, scores_path
from lmzoo.experiments.stored_ensemble import load_ensemble, measure_ensemble, weights_sample
from lmzoo.report.ensemble import ensemble_section


def test_models_that_adapt_to_the_test_text_are_members_of_an_ensemble_of_their_own(
    run_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    encoded = EncodedCorpus.load(folder / "encoded")
    records = entries(read_lines(folder / "results.jsonl", EvalRecord))
    texts = {"valid": weights_sample(encoded), "test": encoded.test.stream}
    (adaptive,) = [record for record in records if record.adapts_on_test]
    for split, stream in texts.items():  # the adaptive model becomes much better than the others
        path = scores_path(folder, adaptive.name, split)
        scores = load_scores(path, len(stream))
        save_scores(path, replace(scores, log_probs=scores.log_probs / 4))

    (folder / "ensemble.json").unlink()
    measure_ensemble(folder, records, encoded)
    stored = load_ensemble(folder, records)
    assert stored
    assert stored.adaptive_bits_per_byte
    assert stored.adaptive_bits_per_byte < stored.bits_per_byte / 2
    assert {member.name for member in stored.members} == {record.name for record in records} - {adaptive.name}
    names = [record.name for record in records]
    valid, test = (
        ModelScores.stack([load_scores(scores_path(folder, name, split), len(stream)) for name in names], stream.starts)
        for split, stream in texts.items()
    )
    units = resampling_units(encoded.test.stream)
    everything = evaluate_ensemble(names, valid, test, encoded.test.bytes_by_token, units)
    assert everything
    assert stored.adaptive_bits_per_byte == pytest.approx(everything.comparison.losses[MIXTURE], rel=1e-3)
    section = ensemble_section(folder, records)
    assert section
    assert section.adaptive == f"{stored.adaptive_bits_per_byte:.3f}"

    fixed = [record for record in records if record is not adaptive]
    assert load_ensemble(folder, fixed) is None, "it was computed from other models"
    measure_ensemble(folder, fixed, encoded)
    without = load_ensemble(folder, fixed)
    assert without
    assert without.adaptive_bits_per_byte is None
    assert without.bits_per_byte == stored.bits_per_byte
