"""General compressors beside prequential coding."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from pathlib import Path

import pytest
from prequential_runs import prequential, record_of, texts_of

from lmzoo.evaluation.code_records import CodeRecord
from lmzoo.experiments.compressors import COMPRESSORS
from lmzoo.experiments.prequential import SEPARATOR
from lmzoo.experiments.result import RunResult
from lmzoo.report.prequential import write_report


def test_compressors_get_the_same_text(coding: RunResult[CodeRecord], corpus_folder: Path) -> None:
    texts = texts_of(corpus_folder)
    data = SEPARATOR.join(text.encode() for text in texts)
    assert not any(SEPARATOR in text.encode() for text in [*texts, "ÿ\U0010ffff"])
    for name, size in {
        "gzip": len(gzip.compress(data, 9)),
        "bzip2": len(bz2.compress(data, 9)),
        "xz": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }.items():
        record = record_of(coding, name)
        assert record.kind == "compressor"
        assert record.total_bits == pytest.approx(8 * size)
        assert record.bits_per_byte == pytest.approx(8 * size / sum(len(text.encode()) for text in texts))


def test_compressors_lose_nothing(corpus_folder: Path) -> None:
    pyppmd, zstandard = pytest.importorskip("pyppmd"), pytest.importorskip("zstandard")
    data = SEPARATOR.join(text.encode() for text in texts_of(corpus_folder))
    back = {
        "gzip": gzip.decompress,
        "bzip2": bz2.decompress,
        "xz": lzma.decompress,
        "zstd": lambda code: zstandard.ZstdDecompressor().decompress(code),
        "ppmd-6": lambda code: pyppmd.decompress(code, max_order=6, mem_size=1 << 20, variant="I"),
        "ppmd-16": lambda code: pyppmd.decompress(code, max_order=16, mem_size=1 << 20, variant="I"),
    }
    assert set(back) == {compressor.name for compressor in COMPRESSORS}
    for compressor in COMPRESSORS:
        assert back[compressor.name](compressor.compress(data)) == data


def test_a_missing_compressor_is_left_out_with_the_reason(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    done = prequential(tmp_path / "run", species=["uniform"], corpus=corpus_folder)
    assert not done.failures
    reason = "compressing with PPMd needs the package 'pyppmd': pip install 'lmzoo[compressors]'"
    left_out = [(outcome.name, outcome.error) for outcome in done.outcomes if outcome.error]
    assert left_out == [("ppmd-6", reason), ("ppmd-16", reason)]
    for page in write_report(done.folder, left_out):
        assert "pip install" in page.read_text(encoding="utf-8")
