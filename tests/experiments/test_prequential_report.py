"""Prequential coding: table, figure, pages and command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from lmzoo.cli import run
from lmzoo.evaluation.code_records import CodeRecord, read_code_records
from lmzoo.experiments.prequential import RECORDS
from lmzoo.experiments.result import RunResult
from lmzoo.report import charts
from lmzoo.report.prequential import HEADER, rows, write_report


def made_up(name: str, nats: list[float | None], kind: str = "species") -> CodeRecord:
    known = [each for each in nats if each is not None]
    bits = sum(known) / math.log(2) if len(known) == len(nats) else None
    return CodeRecord(
        name=name, kind=kind, settings={}, corpus="c", corpus_fingerprint="f", protocol="p", tokenizer="byte",
        n_bytes=10 * len(nats), n_documents=3, header_bits=0, block_bytes=[10] * len(nats), block_nats=nats,
        block_seconds=[0.5] * len(nats), total_bits=bits, bits_per_byte=bits and bits / (10 * len(nats)),
    )  # fmt: skip


def test_table() -> None:
    # 120 bits of 30 bytes: 15 bytes, 4 bits a byte, half of the original; the last block has 40 bits of 10 bytes.
    ln2 = math.log(2)
    records = [
        made_up("slow", [80 * ln2, 80 * ln2, 80 * ln2]),
        made_up("none", [1.0, None, 1.0]),
        made_up("zip", [60 * ln2], kind="compressor"),
        made_up("quick", [40 * ln2, 40 * ln2, 40 * ln2]),
    ]
    assert rows(records) == [
        ["zip", "8", "6.000", "75.0%", "", "0.5 s"],
        ["quick", "15", "4.000", "50.0%", "4.000", "1.5 s"],
        ["slow", "30", "8.000", "100.0%", "8.000", "1.5 s"],
        ["none", "–", "–", "–", "–", "1.5 s"],
    ]
    assert {len(row) for row in rows(records)} == {len(HEADER)}


def test_figure() -> None:
    ln2 = math.log(2)
    records = [
        made_up("quick", [80 * ln2, 40 * ln2, 20 * ln2]),
        made_up("zip", [60 * ln2], kind="compressor"),
        made_up("none", [1.0, None]),
    ]
    chart = charts.by_text_read(records)
    assert charts.as_svg(chart).startswith("<svg")
    points = [(row["coder"], row["read"], round(row["cost"], 9)) for row in chart.to_dict()["data"]["values"]]
    assert points == [("quick", 10, 4), ("quick", 20, 2), ("zip", 10, 6), ("zip", 20, 6)]


def test_pages_are_whole_and_self_contained(coding: RunResult[CodeRecord]) -> None:
    markdown, html = (path.read_text(encoding="utf-8") for path in write_report(coding.folder))
    for record in coding.records:
        for page in (markdown, html):
            assert record.name in page
            assert f"{record.bits_per_byte:.3f}" in page
    assert html.count("<svg") == 1
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html), "nothing may be loaded from outside"
    assert len(html.encode()) < 1_000_000
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(HEADER) + 1}
    assert len(lines) == 2 + len(coding.records)


def test_prequential_command(
    unlucky: str, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "prequential",
        "--corpus",
        str(corpus_folder),
        "--species",
        "markov",
        "unigram",
        "--out",
        str(tmp_path / "a"),
    ]
    assert run([*asked, "--json"]) == 0
    captured = capsys.readouterr()
    records = [CodeRecord(**json.loads(line)) for line in captured.out.splitlines()]
    assert [record.name for record in records][:3] == ["markov", "unigram", "gzip"]
    assert records == read_code_records(tmp_path / "a" / RECORDS)
    assert "markov: " in captured.err
    assert run(asked) == 0
    captured = capsys.readouterr()
    assert "reused" in captured.err
    assert [line.split()[0] for line in captured.out.splitlines()] == ["coder", *(row[0] for row in rows(records))]
    assert run([*asked, "--tokenizer", "word"]) == 2
    assert "would be part of the compressed text" in " ".join(capsys.readouterr().err.split())
    assert run([*asked[:-1], str(tmp_path / "b"), "--species", unlucky]) == 1
