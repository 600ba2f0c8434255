"""Several runs on one page: who is best on each text, whatever the tokenizer, and on all of them."""

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
from lmzoo.errors import LmzooError, UsageError
from lmzoo.evaluation.records import EvalRecord, read_run, write_csv
from lmzoo.evaluation.statistics import certainty, grouping, grouping_of_documents
from lmzoo.report import charts, standings
from lmzoo.report.figures import Figure, Figures
from lmzoo.report.leaderboard import COLUMNS, SEEDS_HEADER, entries, rows, seed_rows, titled_tables
from lmzoo.report.pages import write_pages

_TABLE_HEADER = ("species", "run", "tokenizer", *(column.title for column in COLUMNS[1:]))


@dataclass(frozen=True)
class Run:
    """A run folder under the name that it has on the page."""

    name: str
    folder: Path
    records: list[EvalRecord]

    @cached_property
    def encoded(self) -> EncodedCorpus | None:
        """None if it cannot be read."""
        try:
            return EncodedCorpus.load(self.folder / "encoded")
        except LmzooError:
            return None

    @property
    def machine(self) -> str:
        """What it was measured on, in words."""
        found = self.records[0].machine
        return f"{found['processor']}, {found['n_cores']} cores" if found else "unknown"

    @property
    def commands(self) -> list[str]:
        return sorted({record.command for record in self.records if record.command})


@dataclass(frozen=True)
class Entry:
    """One record of one run."""

    run: Run
    record: EvalRecord
    name: str
    """On the page, where no other has it."""

    @property
    def shown(self) -> EvalRecord:
        """The record under that name."""
        return replace(self.record, label=self.name)


@dataclass(frozen=True)
class Text:
    """One corpus, and all that was measured on its test split."""

    name: str
    first: EvalRecord
    tables: list[tuple[str, str, list[list[str]]]]
    """Titles, notes, and rows under the header of the page."""
    standings: standings.Standings | None
    seeds: list[list[str]]
    """Under `SEEDS_HEADER`: what was fitted with several seeds, in one run or in several."""
    figure: Figure | None
    """None if nothing has bits per byte."""


def write_merged(folders: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Writes `merged.md` and `merged.html` about several runs into `out` and returns their paths.

    Beside them are the figures (`figures/`), the records (`merged.csv`) and the tests of pairs on each text
    (`pairs.csv`).

    Runs on one corpus are compared document by document, so that their tokenizers may differ. Raises UsageError if a
    run is named twice, SavedModelError if a folder holds no results.
    """
    out, figures = Path(out), Figures()
    runs = _runs([Path(folder) for folder in folders])
    by_corpus: dict[tuple[str, str], list[EvalRecord]] = {}
    for record in itertools.chain(*(run.records for run in runs)):
        by_corpus.setdefault((record.corpus_fingerprint, record.protocol), []).append(record)
    names = _distinct([records[0].corpus for records in by_corpus.values()])
    records_by_text = dict(zip(names, by_corpus.values(), strict=True))
    entries_by_text = {name: _entries(runs, records) for name, records in records_by_text.items()}
    texts = [
        _text(name, found, records_by_text[name], figures, f"text-{number}")
        for number, (name, found) in enumerate(entries_by_text.items(), start=1)
    ]
    context = {
        "texts": texts,
        "table_header": _TABLE_HEADER,
        "seeds_header": SEEDS_HEADER,
        "meanings": COLUMNS[1:],
        "standings_header": standings.HEADER,
        "overview_header": ("species", *entries_by_text),
        "overview": _overview(entries_by_text) if len(entries_by_text) > 1 else [],
        "runs": runs,
        "links": {run.name: os.path.relpath(run.folder / "report.html", out) for run in runs},
        "machines": sorted({run.machine for run in runs}),
        "versions": sorted({record.versions.get("lmzoo", "") for run in runs for record in run.records}),
    }
    pages = write_pages(out, ["merged.md", "merged.html"], context)
    figures.save(out)
    everything = [entry for found in entries_by_text.values() for entry in found]
    write_csv(out / "merged.csv", [entry.shown for entry in everything], run=[entry.run.name for entry in everything])
    if pairs := {text.name: text.standings.pairs for text in texts if text.standings}:
        named = [name for name, of_text in pairs.items() for _ in of_text]
        write_csv(out / "pairs.csv", list(itertools.chain(*pairs.values())), text=named)
    return pages


def _runs(folders: list[Path]) -> list[Run]:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run is named twice: name each folder once")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    runs = []
    for name, folder in zip(_distinct(names), folders, strict=True):
        runs.append(Run(name, folder, read_run(folder)))
    return runs


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where one comes again."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _entries(runs: Sequence[Run], records: Sequence[EvalRecord]) -> list[Entry]:
    """Best first, and once what several runs have fitted alike; other namesakes are told apart by that of the run."""
    home = {id(record): run for run in runs for record in run.records}
    ranked = entries(records)
    times = Counter(record.name for record in ranked)
    found = []
    for record in ranked:
        run = home[id(record)]
        found.append(Entry(run, record, record.name if times[record.name] == 1 else f"{record.name} · {run.name}"))
    return found


def _text(name: str, found: list[Entry], records: Sequence[EvalRecord], figures: Figures, figure_name: str) -> Text:
    by_name = {entry.name: entry for entry in found}
    tables = []
    for title, note, part in titled_tables([entry.shown for entry in found]):
        cells = zip(part, rows(part), strict=True)
        table = [[row[0], by_name[one.name].run.name, one.tokenizer, *row[1:]] for one, row in cells]
        tables.append((title, note, table))
    comparable = [entry.shown for entry in found if entry.record.bits_per_byte is not None]
    figure = figures.draw(figure_name, charts.by_species(comparable)) if comparable else None
    return Text(name, found[0].record, tables, _standings(found), seed_rows(records), figure)


def _standings(found: list[Entry]) -> standings.Standings | None:
    """Of those that have scores and bits per byte; None if they are not two, or documents are too few to compare."""
    names, scores, splits = [], [], []
    for entry in found:
        encoded = entry.run.encoded
        if encoded is None:
            continue
        log_probs = standings.ranked_log_probs(entry.run.folder, entry.record, encoded)
        if log_probs is not None:
            names.append(entry.name)
            scores.append(log_probs)
            splits.append(encoded.test)
    if len(names) < 2:
        return None
    first = splits[0]
    if len({entry.record.tokenizer_fingerprint for entry in found}) == 1:  # token by token, as in the report of a run
        return standings.compared(names, certainty(np.stack(scores), first.bytes_by_token, grouping(first.stream)))
    groups = grouping_of_documents(len(first.document_bytes))
    if groups is None:
        return None
    by_document = [
        np.add.reduceat(log_probs.astype(np.float64), test.stream.starts)
        for log_probs, test in zip(scores, splits, strict=True)
    ]
    return standings.compared(names, certainty(np.stack(by_document), first.document_bytes.astype(np.float64), groups))


def _overview(entries_by_text: dict[str, list[Entry]]) -> list[list[str]]:
    """Bits per byte of each name on each corpus; first who is on most of them, then the lowest mean."""
    figures: dict[str, dict[str, float]] = {}
    for text, found in entries_by_text.items():
        for entry in found:
            if entry.record.bits_per_byte is not None:
                figures.setdefault(entry.name, {})[text] = entry.record.bits_per_byte
    ordered = sorted(figures, key=lambda name: (-len(figures[name]), sum(figures[name].values())))
    return [
        [name, *(f"{figures[name][text]:.3f}" if text in figures[name] else "–" for text in entries_by_text)]
        for name in ordered
    ]
