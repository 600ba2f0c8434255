"""Several runs on one page: the best models on each text, whatever their tokenizers."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import UsageError
from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import EvalRecord, read_run, write_csv
from lmzoo.evaluation.statistics import compare_pairs, document_units, resampling_units, sums_of_units
from lmzoo.experiments.stored_ensemble import ranked_log_probs
from lmzoo.report import charts, standings
from lmzoo.report.figures import Figure, Figures
from lmzoo.report.headline import Headline, headline
from lmzoo.report.leaderboard import SEEDS_HEADER, Column, columns, rows, seed_rows, titled_tables, tokenizer_names
from lmzoo.report.pages import write_pages
from lmzoo.system.printable import name_text


@dataclass(frozen=True)
class Run:
    """One of the runs that a report compares: its folder, its evaluation records and its name in the report."""

    name: str
    folder: Path
    records: list[EvalRecord]

    @cached_property
    def encoded(self) -> EncodedCorpus | None:
        """The encoded corpus of the run; None if it cannot be read."""
        return standings.stored_corpus(self.folder)

    @property
    def machine(self) -> str:
        """Processor and number of cores of the machine that the run was measured on."""
        machine = self.records[0].machine
        names = ("processor", "n_cores")
        return "{}, {} cores".format(*(machine.get(name, "unknown") for name in names)) if machine else "unknown"

    @property
    def commands(self) -> list[str]:
        """The commands that produced the run's records."""
        return sorted({record.command for record in self.records if record.command})


@dataclass(frozen=True)
class Entry:
    """The evaluation of one model in one of several runs, with a name of the model that is unique among these runs."""

    run: Run
    record: EvalRecord
    name: str

    @property
    def shown(self) -> EvalRecord:
        """The evaluation record, in which the unique name of the model replaces the label."""
        return replace(self.record, label=self.name)


@dataclass(frozen=True)
class Text:
    """The section of a report about several runs that shows all results on the test split of one corpus."""

    name: str
    headline: Headline
    first: EvalRecord
    tables: list[tuple[str, str, list[list[str]]]]
    """Title, note and rows of each leaderboard."""
    standings: standings.Standings | None
    seeds: list[list[str]]
    """Cells under `SEEDS_HEADER`: models trained with several seeds, in one run or in several."""
    figure: Figure | None
    """None if no model has bits per byte."""


def write_merged(folders: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Writes a page that compares the models of several runs into the folder `out`, and returns its paths.

    The page is written twice, as `merged.md` and as `merged.html`. Also writes the figures (`figures/`), the records
    (`merged.csv`) and the comparison of each pair of models on each text (`pairs.csv`). Runs on one corpus are compared
    document by document, so their tokenizers may differ. Raises UsageError if a run is named twice, and SavedModelError
    if a folder holds no results.
    """
    out, figures = Path(out), Figures()
    runs = _runs([Path(folder) for folder in folders])
    by_corpus: dict[tuple[str, str], list[EvalRecord]] = {}
    for record in itertools.chain(*(run.records for run in runs)):
        by_corpus.setdefault((record.corpus_fingerprint, record.protocol), []).append(record)
    names = _distinct([records[0].corpus for records in by_corpus.values()])
    records_by_text = dict(zip(names, by_corpus.values(), strict=True))
    entries_by_text = {name: _entries(runs, records) for name, records in records_by_text.items()}
    every_column = columns([record for run in runs for record in run.records])
    shown = [column for column in every_column if column.title != "tokenizer"]
    texts = [
        _text(name, of_text, records_by_text[name], shown, figures, f"text-{number}")
        for number, (name, of_text) in enumerate(entries_by_text.items(), start=1)
    ]
    context = {
        "texts": texts,
        "table_header": ("model", "run", "tokenizer", *(column.title for column in shown[1:])),
        "seeds_header": SEEDS_HEADER,
        "meanings": shown[1:],
        "standings_header": standings.HEADER,
        "main": ("model", "run", "tokenizer", "bits/byte", "95 %"),
        "standings_main": standings.MAIN,
        "overview_header": ("model", *entries_by_text),
        "overview": _overview(entries_by_text) if len(entries_by_text) > 1 else [],
        "runs": runs,
        "links": {run.name: os.path.relpath(run.folder / "report.html", out) for run in runs},
        "machines": sorted({run.machine for run in runs}),
        "versions": sorted({record.versions.get("lmzoo", "") for run in runs for record in run.records}),
    }
    pages = write_pages(out, ["merged.md", "merged.html"], context)
    figures.save(out)
    everything = [entry for of_text in entries_by_text.values() for entry in of_text]
    write_csv(out / "merged.csv", [entry.shown for entry in everything], run=[entry.run.name for entry in everything])
    if pairs := {text.name: text.standings.pairs for text in texts if text.standings}:
        named = [name for name, of_text in pairs.items() for _ in of_text]
        write_csv(out / "pairs.csv", list(itertools.chain(*pairs.values())), text=named)
    return pages


def _runs(folders: list[Path]) -> list[Run]:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run folder is given twice: name each folder once")
    names = [name_text(folder.resolve().name) for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    runs = []
    for name, folder in zip(_distinct(names), folders, strict=True):
        runs.append(Run(name, folder, read_run(folder)))
    return runs


def _distinct(names: Sequence[str]) -> list[str]:
    """Makes names unique by numbering repeated names: the second "kjv" becomes "kjv (2)"."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def _entries(runs: Sequence[Run], records: Sequence[EvalRecord]) -> list[Entry]:
    """Returns the evaluations of all models of several runs on the same text, the best model first.

    `records` are the evaluation records of these runs. A model that several runs trained in the same way is included
    once. Different models of the same name get the name of their run appended.
    """
    run_of = {id(record): run for run in runs for record in run.records}
    ranked = entries(records)
    n_of_name = Counter(record.name for record in ranked)
    named = []
    for record in ranked:
        run = run_of[id(record)]
        named.append(Entry(run, record, record.name if n_of_name[record.name] == 1 else f"{record.name} · {run.name}"))
    return named


def _text(
    name: str,
    board: list[Entry],
    records: Sequence[EvalRecord],
    shown: Sequence[Column],
    figures: Figures,
    figure_name: str,
) -> Text:
    by_name, tokenizers = {entry.name: entry for entry in board}, tokenizer_names(records)
    tables = []
    for title, note, part in titled_tables([entry.shown for entry in board]):
        cells = zip(part, rows(part, shown), strict=True)
        table = [
            [row[0], by_name[one.name].run.name, tokenizers[one.tokenizer_fingerprint], *row[1:]] for one, row in cells
        ]
        tables.append((title, note, table))
    ours = [entry for entry in board if not entry.record.trained_elsewhere]
    comparable = [entry.shown for entry in ours if entry.record.bits_per_byte is not None]
    figure = figures.draw(figure_name, charts.by_species(comparable)) if comparable else None
    comparison = _standings(ours)
    best = headline([entry.shown for entry in board], comparison)
    return Text(name, best, board[0].record, tables, comparison, seed_rows(records), figure)


def _standings(board: list[Entry]) -> standings.Standings | None:
    """Compares the losses of every two models on one text by significance tests; returns a table and a sentence.

    `board`: leaderboard entries of the text. Entries without stored scores, and models that are not ranked, are left
    out. Models with the same tokenizer are compared token by token, models with different tokenizers document by
    document. Returns None if there are fewer than two models, or if the tokenizers differ and the text has fewer than
    10 documents.
    """
    names, scores, splits = [], [], []
    for entry in board:
        encoded = entry.run.encoded
        if encoded is None:
            continue
        log_probs = ranked_log_probs(entry.run.folder, entry.record, encoded)
        if log_probs is not None:
            names.append(entry.name)
            scores.append(log_probs)
            splits.append(encoded.test)
    if len(names) < 2:
        return None
    first = splits[0]
    if len({entry.record.tokenizer_fingerprint for entry in board}) == 1:  # token by token, as in the report of a run
        return standings.describe(
            names, compare_pairs(np.stack(scores), first.bytes_by_token, resampling_units(first.stream))
        )
    groups = document_units(len(first.document_bytes))
    if groups is None:
        return None
    by_document = [sums_of_units(log_probs, test.stream.starts) for log_probs, test in zip(scores, splits, strict=True)]
    return standings.describe(
        names, compare_pairs(np.stack(by_document), first.document_bytes.astype(np.float64), groups)
    )


def _overview(entries_by_text: dict[str, list[Entry]]) -> list[list[str]]:
    """Returns the rows of a table with the bits per byte of each model on each corpus.

    Models with results on more corpora come first. Models with equally many results are sorted by the sum of their bits
    per byte, the lowest first. Models that were trained elsewhere are left out.
    """
    figures: dict[str, dict[str, float]] = {}
    for text, of_text in entries_by_text.items():
        for entry in of_text:
            if entry.record.bits_per_byte is not None and not entry.record.trained_elsewhere:
                figures.setdefault(entry.name, {})[text] = entry.record.bits_per_byte
    ordered = sorted(figures, key=lambda name: (-len(figures[name]), sum(figures[name].values())))
    return [
        [name, *(f"{figures[name][text]:.3f}" if text in figures[name] else "–" for text in entries_by_text)]
        for name in ordered
    ]
