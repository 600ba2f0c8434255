"""Arrays on disk: the file format, and memory-mapped arrays that are never in memory as a whole."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lmzoo import arrays
from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.errors import SavedModelError
from lmzoo.models.ngram.counting.workspace import Workspace

DTYPES = ["u8", "i8", "f8", "f4", "u4", "i4", "f2", "u2", "i2", "i1", "u1", "?"]


def test_the_file_is_the_same_as_that_of_the_library(tmp_path: Path) -> None:
    saved: dict[str, Any] = {f"z {dtype}": np.arange(3).astype(dtype) for dtype in DTYPES}
    saved |= {
        'é"': np.zeros((2, 0)),
        "transposed": np.arange(6).reshape(2, 3).T,
        "big-endian": np.arange(3, dtype=">i4"),
    }
    save_arrays(tmp_path / "ours", saved, {"é": 1})
    facts = {"facts": json.dumps({"é": 1})}
    save_file({name: np.ascontiguousarray(array) for name, array in saved.items()}, tmp_path / "theirs", facts)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    loaded, read_facts = load_arrays(tmp_path / "ours")
    assert read_facts == {"é": 1}
    for name, array in saved.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_a_narrow_file_is_small_and_keeps_all_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    saved: dict[str, Any] = {
        "counts": rng.integers(0, 300, 1000).astype(np.float64),
        "ids": rng.integers(0, 70_000, 1000).astype(np.int64),
        "signed": np.array([-3, 100], np.int32),
        "halves": rng.normal(size=1000).astype(np.float16).astype(np.float32),
        "steps": np.round(rng.normal(size=(30, 40)) * 10).astype(np.float32) * np.float32(0.1),
        "exact": rng.normal(size=1000),
        "infinite": np.array([0, -np.inf]),
        "flags": np.array([True, False]),
        "empty": np.zeros((2, 0)),
    }
    save_arrays(tmp_path / "wide", saved, {"a": 1})
    save_arrays(tmp_path / "narrow", saved, {"a": 1}, narrow=True)
    loaded, facts = load_arrays(tmp_path / "narrow")
    assert facts == {"a": 1}
    assert loaded.keys() == saved.keys()
    for name, array in saved.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    sizes = {"counts": 2, "ids": 4, "halves": 2, "steps": 1.2, "exact": 8}  # bytes for each of a thousand numbers
    assert (tmp_path / "narrow").stat().st_size < 1000 * sum(sizes.values()) + 3000
    assert (tmp_path / "wide").stat().st_size > 2 * 1000 * sum(sizes.values()) * 0.7


@pytest.mark.parametrize("types", ['{"a": "F99"}', '{"b": "F64"}', "[1]", "{"])
def test_types_that_do_not_fit_the_arrays_are_errors(types: str, tmp_path: Path) -> None:
    save_file({"a": np.arange(3.0)}, tmp_path / "file", {"types": types})
    with pytest.raises(SavedModelError, match="is damaged"):
        load_arrays(tmp_path / "file")


def test_pages_of_mapped_arrays_are_dropped_after_each_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_BLOCK", 1000)
    dropped = []

    def drop(array: Any) -> None:
        dropped.append(array)
        original(array)

    original = arrays.drop_pages
    monkeypatch.setattr(arrays, "drop_pages", drop)
    mapped = Workspace(on_disk=True).empty(10_000, np.uint8)
    mapped[:] = np.arange(10_000) % 251
    save_arrays(tmp_path / "file", {"mapped": mapped[5:]})
    assert len(dropped) == 10
    np.testing.assert_array_equal(load_arrays(tmp_path / "file")[0]["mapped"], np.arange(5, 10_000) % 251)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system does not drop pages on request")
def test_a_dropped_page_is_not_in_memory_until_it_is_read() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not report resident memory")
    mapped = Workspace(on_disk=True).empty(1 << 26, np.uint8)
    mapped[:] = 1
    before = resident()
    arrays.drop_pages(mapped[10:20])
    assert before - resident() > 1 << 25
    assert mapped[:: mmap.PAGESIZE].all()
