"""`compare` on a cluster of two nodes gives the records of this computer, and refuses a folder that is not shared."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ray_clusters import running_cluster

from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord, read_run
from lmzoo.experiments.compare import compare
from lmzoo.neural.devices import CPU, has_bfloat16
from lmzoo.system import ray_jobs
from lmzoo.system.placement import BFLOAT16_VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COSTS = (
    "created",
    "fit_seconds",
    "evaluate_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "predict_seconds",
    "generated_per_second",
)
TRAINING = {"tokens": 2000, "batch_size": 4, "chunk_size": 16}
SETTINGS = {
    "lstm": {"d_embed": 8, "d_hidden": 16, "training": TRAINING},
}


def figures(record: EvalRecord) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name not in COSTS}


def test_two_nodes_give_the_records_of_this_computer(
    corpus_folder: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmzoo.system.jobs.n_cores", lambda: 1)
    request: dict[str, Any] = {
        "species": ["unigram", "ngram", "lstm"],
        "corpus": corpus_folder,
        "tokenizer": "bpe:300",
        "settings": SETTINGS,
        "with_predictors": [saved],
    }
    reported: set[str] = set()
    with running_cluster(2) as address:
        # The nodes run already: they learn only from this process that it takes the processor for another kind.
        monkeypatch.setenv(BFLOAT16_VARIABLE, f"{not has_bfloat16(CPU):d}")
        here = compare(tmp_path / "here", **request)
        there = compare(
            tmp_path / "there", **request, cluster=address, on_progress=lambda name, progress: reported.add(name)
        )
        again = compare(tmp_path / "there", **request, cluster=address)
        monkeypatch.setattr(ray_jobs, "probe", lambda shared, reply, version: "it is elsewhere")
        with pytest.raises(LmzooError, match=r"does not share the folder .*not-shared: it is elsewhere"):
            compare(tmp_path / "not-shared", **request, cluster=address)
    assert not here.failures
    assert not there.failures
    assert len(there.records) == 4
    assert [figures(record) for record in there.records] == [figures(record) for record in here.records]
    assert read_run(tmp_path / "there") == there.records
    assert reported >= {record.name for record in there.records}
    assert all(outcome.reused for outcome in again.outcomes)
    assert not (tmp_path / "not-shared" / "encoded").exists(), "the folder is checked before any work"
    for array in sorted((tmp_path / "here").glob("predictors/*/*.safetensors")):
        assert array.read_bytes() == (tmp_path / "there" / array.relative_to(tmp_path / "here")).read_bytes()
