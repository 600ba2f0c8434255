"""The report of a run of `compare`."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import statistics
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from compare_runs import SPECIES
from rich.console import Console

from lmzoo import cli
from lmzoo.cli.tables import leaderboard_table
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import read_records
from lmzoo.experiments.compare import compare
from lmzoo.report import write_report
from lmzoo.report.leaderboard import ADAPTIVE_NOTE, seed_rows


def test_a_seed_of_two_runs_counts_once(run: Path) -> None:
    record = dataclasses.replace(read_records(run / "results.jsonl")[0], bits_per_byte=2.0)
    other = dataclasses.replace(record, seed=1, bits_per_byte=3.0)
    assert seed_rows([record, dataclasses.replace(record)]) == []
    ((_, n_seeds, mean, *_),) = seed_rows([record, dataclasses.replace(record), other])
    assert (n_seeds, mean) == ("2", "2.5000")


def test_report_is_whole_and_self_contained(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    markdown = (run / "report.md").read_text(encoding="utf-8")
    for record in read_records(run / "results.jsonl"):
        assert f"{record.bits_per_byte:.3f}" in html
        assert f"{record.bits_per_byte:.3f}" in markdown
    assert html.count("<svg") == html.count("<figure>") > 1
    links = re.findall(r"!\[.+\]\((.+)\)", markdown)
    assert len(links) == html.count("<figure>")
    assert all((run / unquote(link)).is_file() for link in links)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html), "nothing may be loaded from outside"
    assert len(html.encode()) < 1_000_000


@pytest.mark.usefixtures("undrawn")
def test_the_share_of_test_text_that_train_repeats_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"a text of nine {number} words that has it" for number in range(18)]
    corpus = tmp_path / "a.jsonl"
    repeated = [*lines[:9], lines[0], *lines[9:], "no word of this stands anywhere else in texts"]
    corpus.write_text("".join(json.dumps({"text": line}) + "\n" for line in repeated), encoding="utf-8")
    arguments = ["compare", "--corpus", str(corpus), "--tokenizer", "char"]
    sentence = "50.0% of the words of the test split are seen in train"
    for species in ("uniform", "unigram"):  # the second run takes the share from the first
        assert cli.run([*arguments, "--species", species, "--out", str(tmp_path / "run")]) == 0
        assert sentence in capsys.readouterr().err
    for page in ("report.md", "report.html"):
        assert sentence in (tmp_path / "run" / page).read_text(encoding="utf-8")
    assert [record.seen_in_train for record in read_records(tmp_path / "run" / "results.jsonl")] == [0.5, 0.5]


@pytest.mark.usefixtures("undrawn")
def test_models_that_adapt_are_not_ranked_with_others(corpus_folder: Path, tmp_path: Path) -> None:
    settings = {"cache": {"static": "markov"}}
    folder = tmp_path / "run"
    comparison = compare(
        folder, species=["unigram", "cache"], corpus=corpus_folder, tokenizer="bpe:300", settings=settings
    )
    unigram, cache = read_records(folder / "results.jsonl")
    assert (unigram.adapts_on_test, cache.adapts_on_test) == (False, True)
    assert (cache.bits_per_byte or 9) < (unigram.bits_per_byte or 0), "else this test shows nothing"
    write_report(folder)
    console = Console(width=200, file=io.StringIO())
    console.print(leaderboard_table(comparison.records, 200))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for page in (
        (folder / "report.md").read_text(encoding="utf-8"),
        (folder / "report.html").read_text(encoding="utf-8").partition('<h2 id="prompt">')[0],
        printed,
    ):
        start = page.rindex("Models that adapt to the test text")
        assert f"{unigram.bits_per_byte:.3f}" in page[:start]
        assert f"{cache.bits_per_byte:.3f}" not in page[page.index("bits/byte") : start]
        assert f"{cache.bits_per_byte:.3f}" in page[start:]
        assert ADAPTIVE_NOTE in page
    assert f"**unigram** predicts {corpus_folder.name} best" in (folder / "report.md").read_text(encoding="utf-8")


def test_report_escapes_hostile_text(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(30):
        (corpus / f"{number}.txt").write_text("<script>alert(1)</script> | `x` \x1b[2J" * 5, encoding="utf-8")
    compare(tmp_path / "run", species=["markov"], corpus=corpus, tokenizer="bpe:300")
    write_report(tmp_path / "run")
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    markdown = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert html.count("<script") == 1, "that of the page"
    assert "\x1b" not in html + markdown
    assert "␛" in html
    assert all(line.startswith("    ") or "`" in line for line in markdown.splitlines() if "<script" in line)


def test_a_report_goes_on_without_what_it_cannot_read(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "probes" / "markov" / "predictions.json").write_bytes(b"damaged")
    shutil.rmtree(folder / "probes" / "uniform")
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    gone = {**json.loads(lines[0]), "species": "visitor"}  # of a plug-in that is not installed any more
    (folder / "results.jsonl").write_text("\n".join([*lines, json.dumps(gone)]), encoding="utf-8")
    write_report(folder)
    for name in ("report.md", "report.html"):
        page = (folder / name).read_text(encoding="utf-8")
        figures, said = page.split("Measurements that are missing", 2)[-2:]
        assert all(species in figures for species in [*SPECIES, "visitor"])
        for damaged in ("markov", "uniform", "visitor"):
            assert re.search(rf"{damaged}(`|</code>): \S", said), said
        assert "predictions.json is missing" in said
        assert said.count("A sampled continuation") == 1, "of the unigram model alone"


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_other_seeds_are_repeats_of_one_entry(corpus_folder: Path, tmp_path: Path) -> None:
    request: dict[str, Any] = {"species": ["hmm", "unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    request["settings"] = {"hmm": {"n_states": 8, "n_iterations": 2}}
    comparison = compare(tmp_path / "run", **request, seeds=3)
    names = [record.name for record in comparison.records]
    assert names == [f"{name}{seed}" for name in request["species"] for seed in ("", ",seed=1", ",seed=2")]
    assert [record.seed for record in comparison.records] == [0, 1, 2, 0, 1, 2]
    hmm = [record.bits_per_byte for record in comparison.records[:3] if record.bits_per_byte]
    assert len(set(hmm)) == 3
    write_report(tmp_path / "run")
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    spread = f"| hmm | 3 | {statistics.mean(hmm):.4f} | {statistics.stdev(hmm):.4f} | {min(hmm):.4f} |"
    assert spread in report
    assert "| unigram | 3 |" in report
    assert "seed=1 |" not in report.partition("## Variation")[0], "repeats are not ranked beside their first seed"
    again = compare(tmp_path / "run", **request, seeds=3)
    assert all(outcome.reused for outcome in again.outcomes)


def test_report_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(LmzooError, match="there are no results"):
        write_report(tmp_path)
