"""Records of evaluations: reading, writing and versions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import psutil
import pytest

from lmzoo.errors import SavedModelError
from lmzoo.evaluation.records import read_records, write_records
from lmzoo.system.provenance import machine


@pytest.mark.parametrize(("variable", "n_threads"), [("3", 3), ("2,1", 2), ("", None), ("many", None)])
def test_threads_as_openmp_takes_them(variable: str, n_threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert machine()["n_threads"] == (n_threads or psutil.cpu_count(logical=False) or 1)


def test_records_hold_any_character(run: Path, tmp_path: Path) -> None:
    records = [dataclasses.replace(record, corpus="a\u2028b\x85c") for record in read_records(run / "results.jsonl")]
    write_records(tmp_path / "results.jsonl", records)
    assert read_records(tmp_path / "results.jsonl") == records
    (tmp_path / "results.jsonl").write_bytes(b"\xff")
    with pytest.raises(SavedModelError, match="not UTF-8"):
        read_records(tmp_path / "results.jsonl")


def test_records_survive_and_name_damaged_lines(run: Path, tmp_path: Path) -> None:
    records = read_records(run / "results.jsonl")
    write_records(tmp_path / "copy.jsonl", records)
    assert read_records(tmp_path / "copy.jsonl") == records
    with (tmp_path / "copy.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"species": "half')
    with pytest.raises(SavedModelError, match=r"copy.jsonl:4 is not a record"):
        read_records(tmp_path / "copy.jsonl")
    later = dataclasses.asdict(records[0]) | {"record_version": 99}
    (tmp_path / "later.jsonl").write_text(json.dumps(later), encoding="utf-8")
    with pytest.raises(SavedModelError, match="later lmzoo"):
        read_records(tmp_path / "later.jsonl")


def test_records_of_earlier_versions_still_read(run: Path, tmp_path: Path) -> None:
    old = dataclasses.asdict(read_records(run / "results.jsonl")[0])
    del old["adapts_on_test"], old["label"]
    (tmp_path / "old.jsonl").write_text(json.dumps(old), encoding="utf-8")
    (record,) = read_records(tmp_path / "old.jsonl")
    assert record.adapts_on_test is False
    assert record.name == record.species
