"""`lmzoo surprisal`: what it prints and writes, and its errors."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.evaluation.surprisals import surprisal_table

SENTENCE = "The horse raced past the barn fell."


def rows_of(text: str) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(text), delimiter="\t")]


def test_standard_input_to_a_table_on_standard_output(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SENTENCE.encode())))
    assert run(["surprisal", "-", "-p", str(saved)]) == 0
    rows = rows_of(capsys.readouterr().out)
    expected = surprisal_table(saved, SENTENCE)
    assert [row["word"] for row in rows] == SENTENCE.split()
    assert [row["sum"] for row in rows] == [f"{bits:.6f}" for bits in expected["sum"]]
    assert [row["corrected"] for row in rows] == [f"{bits:.6f}" for bits in expected["corrected"]]
    assert {row["document"] for row in rows} == {"standard input"}
    assert {row["rank"] for row, n in zip(rows, expected["n_tokens"], strict=True) if n > 1} == {""}


def test_a_table_with_several_predictors_in_every_format(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stimuli = tmp_path / "stimuli.csv"
    stimuli.write_text("item,condition,region,text\n1,a,1,The horse\n1,a,2,fell.\n2,b,1,No\n", encoding="utf-8")
    asked = ["surprisal", str(stimuli), "-p", str(saved), "-p", "unigram", "--by", "token", "--end-of-text"]
    assert run(asked) == 0
    printed = capsys.readouterr().out
    rows = rows_of(printed)
    assert {row["predictor"] for row in rows} == {"markov", "unigram"}
    assert [row["predictor"] for row in rows if row["token"] == ""] == ["markov", "unigram"] * 2
    assert {(row["item"], row["condition"], row["region"]) for row in rows} == {
        ("1", "a", "1"), ("1", "a", "2"), ("2", "b", "1")
    }  # fmt: skip
    assert run([*asked, "--json"]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["token"] for one in objects] == [row["token"] for row in rows]
    for suffix in ("tsv", "csv", "jsonl", "parquet"):
        out = tmp_path / "out" / f"all.{suffix}"
        assert run([*asked, "--out", str(out)]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"{len(rows)} rows, written to" in captured.err
        if suffix == "tsv":
            assert out.read_text(encoding="utf-8") == printed


def test_a_text_without_its_start(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(SENTENCE, encoding="utf-8")
    asked = ["surprisal", str(tmp_path / "text.txt"), "-p", "ngram"]
    assert run([*asked, "--no-bos"]) == 0
    row = rows_of(capsys.readouterr().out)[0]
    expected = surprisal_table(Predictor.load("ngram").without_start(), SENTENCE)
    assert row["sum"] == f"{expected['sum'][0]:.6f}"
    assert run([*asked[:-1], str(saved), "--no-bos"]) == 2
    assert "only n-gram models" in capsys.readouterr().err


def test_a_terminal_gets_no_control_characters(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("a\x1b[2Jb", encoding="utf-8")
    asked = ["surprisal", str(tmp_path / "text.txt"), "-p", str(saved)]
    assert run(asked) == 0
    assert "a\x1b[2Jb" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(asked) == 0
    assert "a␛[2Jb" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "name at least one predictor"),
        (["-p", "markov", "--context", "window"], 2, "as in 'window:64'; got 'window'"),
        (["-p", "markov", "--out", "a.txt"], 2, "must end in .tsv, .csv, .jsonl, .parquet"),
        (["-p", "markov", "--out", "a.csv", "--json"], 2, "--json cannot be combined with --out"),
        (["-p", "http://127.0.0.1:1/v1#M"], 2, "name predictors on this computer"),
        (["-p", "markov", "--group", "item"], 2, "columns can be named for tables only"),
        (["-p", "nowhere"], 1, "no saved predictor in nowhere"),
        (["-p", "markov", "-p", "markov"], 2, "the predictor markov is named twice: name it once"),
        (["-p", "nowhere", "-p", "nowhere"], 2, "the predictor nowhere is named twice: name it once"),
        ([".", "-p", "markov"], 1, ". is a folder: name its files, such as *.txt"),
        (
            ["-p", "markov", "--contxt", "sentence"],
            2,
            "Unknown option: --contxt. Did you mean --context? See: lmzoo surprisal --help",
        ),
        (["-P", "markov"], 2, "unknown option or missing file -P: lmzoo surprisal --help"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    assert run(["surprisal", str(tmp_path / "a.txt"), *arguments]) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_table_never_replaces_its_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stimuli = tmp_path / "stimuli.csv"
    stimuli.write_text("item,text\n1,a\n", encoding="utf-8")
    assert run(["surprisal", str(stimuli), "-p", "markov", "--out", str(tmp_path / "." / "stimuli.csv")]) == 2
    assert "the table would replace the text" in capsys.readouterr().err
    assert stimuli.read_text(encoding="utf-8") == "item,text\n1,a\n"


def test_a_column_with_the_name_of_a_result_is_refused(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("text,rank\na,1\n", encoding="utf-8")
    assert run(["surprisal", str(tmp_path / "a.csv"), "-p", str(saved)]) == 2
    assert "has a column 'rank', which is the name of a result" in capsys.readouterr().err
