"""The files beside a report, and several runs on one page."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lmzoo import zoo
from lmzoo.cli import run as lmzoo
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.evaluation.records import EvalRecord, read_records
from lmzoo.evaluation.scores import load_scores
from lmzoo.experiments.compare import compare
from lmzoo.experiments.run_folder import scores_path
from lmzoo.report import charts, write_report
from lmzoo.report.leaderboard import ADAPTIVE_NOTE
from lmzoo.report.merged import write_merged
from lmzoo.zoo.citations import bibtex, entries

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs on one text with different tokenizers, and a run on another text."""
    home = tmp_path_factory.mktemp("merged")
    rng = np.random.default_rng(0)
    words = ["cat", "dog", "sat", "ran", "the", "a", "on", "mat", "moon"]
    for text in ("one", "two"):
        for split in ("train", "valid", "test"):
            (home / text / split).mkdir(parents=True)
            for number in range(40):
                content = " ".join(rng.choice(words, 12))
                (home / text / split / f"{number:02}.txt").write_text(content, encoding="utf-8")
    wanted = {
        "chars": ("one", "char", ["unigram", "markov", "ngram", "cache"]),
        "pieces": ("one", "bpe:270", ["unigram", "ngram"]),
        "again": ("one", "char", ["markov"]),
        "other": ("two", "char", ["unigram", "markov"]),
    }
    for name, (text, tokenizer, species) in wanted.items():
        found = compare(home / name, species=species, corpus=home / text, tokenizer=tokenizer, jobs=1)
        assert not found.failures
    return {name: home / name for name in wanted}


def table(page: str, title: str) -> list[list[str]]:
    """Returns the cells of the first Markdown table under a title."""
    part = page.split(f"# {title}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)
    assert lines
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[0].splitlines()]


# ---- Beside a report ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_records_are_a_table_for_spreadsheets(folders: dict[str, Path]) -> None:
    write_report(folders["chars"])
    records = read_records(folders["chars"] / "results.jsonl")
    with (folders["chars"] / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["species"] for row in rows] == [record.species for record in records]
    assert [float(row["total_nats"]) for row in rows] == [record.total_nats for record in records]
    assert [json.loads(row["settings"]) for row in rows] == [record.settings for record in records]
    assert set(rows[0]) == {*EvalRecord.__dataclass_fields__}


def test_figures_are_files_too(folders: dict[str, Path]) -> None:
    write_report(folders["chars"])
    page = (folders["chars"] / "report.html").read_text(encoding="utf-8")
    drawn = sorted((folders["chars"] / "figures").glob("*.svg"))
    assert {"years", "species", "costs", "calibration"} <= {path.stem for path in drawn}
    assert page.count("<figure>") == len(drawn)
    for path in drawn:
        assert path.read_text(encoding="utf-8") in page
        png = path.with_suffix(".png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20], "big") > 1000  # pixels wide


@pytest.mark.usefixtures("undrawn")
def test_the_bibliography_has_the_papers_of_the_run(folders: dict[str, Path]) -> None:
    write_report(folders["pieces"])
    text = (folders["pieces"] / "references.bib").read_text(encoding="utf-8")
    cited = {key for species in ("unigram", "ngram") for key in zoo.card(species).cites}
    assert set(re.findall(r"^@\w+\{(.+),$", text, re.MULTILINE)) == {*cited, "lmzoo"}
    assert text.count("{") == text.count("}")
    assert read_records(folders["pieces"] / "results.jsonl")[0].corpus_fingerprint in text
    page = (folders["pieces"] / "report.md").read_text(encoding="utf-8")
    assert [row[:2] + row[-1:] for row in table(page, "The models")[2:]] == [
        ["1948", "unigram", "shannon1948"],
        ["1998", "ngram", "chen1998, kneser1995"],
    ]


def test_every_species_names_its_papers() -> None:
    cited = {key for name in zoo.built_in_names() for key in zoo.card(name).cites}
    assert cited == set(entries())
    for name in zoo.built_in_names():
        card = zoo.card(name)
        assert card.cites, name
        for key in card.cites:
            entry = entries()[key]
            fields = dict(re.findall(r"^  (\w+) *= \{(.+)\},$", entry, re.MULTILINE))
            assert {"author", "title", "year"} <= set(fields)
            surname, year = re.fullmatch(r"([a-z]+)(\d{4})", key).groups()  # pyright: ignore[reportOptionalMemberAccess]
            assert fields["author"].lstrip("{").lower().startswith(surname)
            assert year in fields["year"] + fields.get("note", "")
            assert surname in card.paper.lower()
            assert year in card.paper


def test_show_prints_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert lmzoo(["show", "lstm", "--bibtex"]) == 0
    assert capsys.readouterr().out == bibtex(zoo.card("lstm").cites)


# ---- Several runs ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_runs_on_one_text_are_compared_whatever_the_tokenizer(folders: dict[str, Path], tmp_path: Path) -> None:
    write_merged([folders["chars"], folders["pieces"]], tmp_path)
    page = (tmp_path / "merged.md").read_text(encoding="utf-8")
    header, _, *rows = table(page, "Leaderboard")
    assert header[:4] == ["model", "run", "tokenizer", "bits/byte"]
    records = {
        name: {record.species: record for record in read_records(folders[name] / "results.jsonl")}
        for name in ("chars", "pieces")
    }
    expected = sorted(
        (record.bits_per_byte or 0, f"{species} · {run}" if species != "markov" else species, run)
        for run, own in records.items()
        for species, record in own.items()
        if species != "cache"
    )
    assert [(row[3], row[0], row[1]) for row in rows] == [(f"{bits:.3f}", *names) for bits, *names in expected]
    assert [row[0] for row in table(page, "Models that adapt to the test text")[2:]] == ["cache"]
    # Differences are those of whole documents: the same as from the files of scores.
    sums = {}
    for run, species in (("chars", "ngram"), ("pieces", "ngram")):
        test = EncodedCorpus.load(folders[run] / "encoded").test
        scores = load_scores(scores_path(folders[run], species, "test"), len(test.stream))
        sums[run] = -scores.log_probs.sum() / np.log(2) / test.document_bytes.sum()
    standings = {row[0]: row for row in table(page, "Which differences are significant")[2:]}
    for run, bits in sums.items():
        assert standings[f"ngram · {run}"][1] == f"{bits:.3f}"
    assert "40 documents" in page


@pytest.mark.usefixtures("undrawn")
def test_what_two_runs_have_fitted_alike_is_shown_once(folders: dict[str, Path], tmp_path: Path) -> None:
    write_merged([folders["chars"], folders["again"]], tmp_path)
    page = (tmp_path / "merged.md").read_text(encoding="utf-8")
    assert sorted(row[0] for row in table(page, "Leaderboard")[2:]) == ["markov", "ngram", "unigram"]


def test_runs_on_several_texts_have_an_overview(folders: dict[str, Path], tmp_path: Path) -> None:
    pages = write_merged([folders["chars"], folders["other"]], tmp_path / "out")
    assert [page.name for page in pages] == ["merged.md", "merged.html"]
    header, _, *rows = table(pages[0].read_text(encoding="utf-8"), "Bits per byte on each text")
    assert len(header) == 3
    cells = {row[0]: row[1:] for row in rows}
    assert set(cells) == {"unigram", "markov", "ngram", "cache"}
    for column, run in enumerate(("chars", "other")):
        for record in read_records(folders[run] / "results.jsonl"):
            assert cells[record.species][column] == f"{record.bits_per_byte:.3f}"
    assert cells["ngram"][1] == "–"
    html = pages[1].read_text(encoding="utf-8")
    assert html.count("<svg") == 2
    assert "../" in re.search(r'href="([^"]+)/report.html"', html)[1]  # pyright: ignore[reportOptionalSubscript]
    with (tmp_path / "out" / "merged.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    measured = [
        (run, record.species) for run in ("chars", "other") for record in read_records(folders[run] / "results.jsonl")
    ]
    assert sorted((row["run"], row["species"]) for row in rows) == sorted(measured)


@pytest.mark.usefixtures("undrawn")
def test_both_pages_say_why_adaptive_models_stand_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    for page in write_merged([folders["chars"], folders["other"]], tmp_path):
        assert page.read_text(encoding="utf-8").count(ADAPTIVE_NOTE) == 1  # only one text has such a model


@pytest.mark.usefixtures("undrawn")
def test_from_the_command_line(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [str(folders["chars"]), str(folders["other"])]
    assert lmzoo(["report", *both, "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [str(tmp_path / "merged.md"), str(tmp_path / "merged.html")]
    for wrong, hint in (
        ([both[0], both[0]], "given twice"),
        ([both[0], str(tmp_path / "no")], "results"),
        ([], "folder"),
    ):
        assert lmzoo(["report", *wrong, "--out", str(tmp_path)]) != 0
        assert hint in capsys.readouterr().err


# ---- Figures -----------------------------------------------------------------------------------------


def test_eras_stand_in_the_order_of_their_years(folders: dict[str, Path]) -> None:
    records = read_records(folders["chars"] / "results.jsonl")
    svg = charts.as_svg(charts.by_species(records))
    places = {
        name: float(re.search(rf'translate\([-\d.]+,([-\d.]+)\)"[^>]*>{name} ', svg)[1])  # pyright: ignore[reportOptionalSubscript]
        for name in ("markov", "unigram", "cache, adapts", "ngram")
    }
    assert sorted(places, key=lambda name: places[name]) == ["markov", "unigram", "cache, adapts", "ngram"]
