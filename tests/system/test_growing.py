"""Arrays that grow at their end, in memory and in a temporary file."""

from __future__ import annotations

import errno
import gc
import mmap
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lmzoo.corpora.training_sample import TrainingSample
from lmzoo.errors import LmzooError
from lmzoo.mapped import blocks_of, drop_pages
from lmzoo.stream import TokenStream
from lmzoo.system import growing
from lmzoo.system.growing import GrowingArray


def is_mapped(array: NDArray[np.int32]) -> bool:
    base = array.base
    return isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 1234])
def test_an_array_is_the_same_in_memory_and_in_a_file(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "MEMORY_BYTES", 400)
    values, array = np.random.default_rng(n).integers(-9, 9, n), GrowingArray(np.int32)
    for start, stop in pairwise([0, *range(1, n, 17), n]):
        array.extend(values[start:stop])
    found = array.finish()
    assert found.dtype == np.int32
    assert found.tolist() == values.tolist()
    assert is_mapped(found) == (4 * n >= 400)


def test_blocks_of_an_array_are_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "MEMORY_BYTES", 64)
    monkeypatch.setattr("lmzoo.mapped._BLOCK", 1000)
    array = GrowingArray(np.int32)
    array.extend(np.arange(2500))
    for values in (array.finish(), np.arange(2500)):
        found = list(blocks_of(values))
        assert [start for start, _ in found] == [0, 1000, 2000]
        assert np.concatenate([block for _, block in found]).tolist() == list(range(2500))
        drop_pages(values)
        assert values[2499] == 2499
    assert list(blocks_of(np.arange(0))) == []


def test_what_was_written_to_a_private_map_remains_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmzoo.mapped._BLOCK", 1000)
    monkeypatch.setattr("lmzoo.corpora.training_sample._BLOCK", 100)
    np.zeros(100_000, np.int32).tofile(tmp_path / "ids")
    ids = np.memmap(tmp_path / "ids", np.int32, "c")
    ids[:] = 7
    stream = TokenStream(ids)
    TrainingSample.of(stream, 1000)
    assert len(stream.ends) == 1
    assert (stream.ids == 7).all()


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system does not drop pages on request")
def test_pages_are_dropped_only_from_read_only_maps_of_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "MEMORY_BYTES", 64)
    dropped: list[NDArray[np.int32]] = []
    monkeypatch.setattr("lmzoo.mapped.drop_pages", dropped.append)
    array = GrowingArray(np.int32)
    array.extend(np.arange(2500))
    mapped = array.finish()
    list(blocks_of(mapped))
    list(blocks_of(np.arange(2500)))
    assert not dropped
    monkeypatch.setattr("lmzoo.mapped._BLOCK", 1000)
    list(blocks_of(mapped))
    list(blocks_of(np.arange(2500)))
    assert len(dropped) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
@pytest.mark.filterwarnings("error")
def test_a_full_disk_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "MEMORY_BYTES", 64)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda prefix: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    monkeypatch.setattr(sys, "excepthook", lambda *args: unraisable.append(args))
    array = GrowingArray(np.int32)
    with pytest.raises(LmzooError, match="cannot write a long text"):
        array.extend(np.arange(100))
    del array
    gc.collect()
    assert not unraisable


def test_a_file_that_cannot_be_mapped_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(growing, "MEMORY_BYTES", 64)
    array = GrowingArray(np.int32)
    array.extend(np.arange(100))
    monkeypatch.setattr(mmap, "mmap", fail)
    with pytest.raises(LmzooError, match=r"cannot write a long text to .*Cannot allocate memory"):
        array.finish()
