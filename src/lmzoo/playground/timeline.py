"""The history of language models, and the results of run folders: the data of the view "Timeline"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel

from lmzoo import zoo
from lmzoo.errors import SavedModelError, UsageError
from lmzoo.evaluation.records import read_run
from lmzoo.zoo.citations import bibtex
from lmzoo.zoo.eras import ERAS, era_name

_REPORT = "report.html"
_REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'self'"
)
"""Content security policy of reports: their scripts run in a place of their own, without access to the server."""


class Era(BaseModel):
    """An era of language models: the years from `start` up to the year before `end`."""

    name: str
    start: int
    end: int


class Family(BaseModel):
    """A family of models: when and by whom it was introduced, its idea, and its paper."""

    name: str
    title: str
    year: int
    era: str
    people: str
    idea: str
    sees: str
    changed: str
    limits: str
    beware: str
    paper: str
    bibtex: str


class Table(BaseModel):
    """A leaderboard of models that can be compared."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


class Run(BaseModel):
    """The results in a run folder."""

    name: str
    tables: list[Table]
    report: str | None
    """Address of the report; None if the run has none."""


class Timeline(BaseModel):
    """The eras and families of language models, and the runs of this server."""

    eras: list[Era]
    families: list[Family]
    runs: list[Run]


def timeline_router(runs: Sequence[Path]) -> APIRouter:
    """Returns the routes that tell the history of language models and show the results of `runs`, which are folders.

    Of each run folder only its report is served, and nothing is written.
    """
    router = APIRouter(prefix="/playground")

    @router.get("/timeline")
    def timeline() -> Timeline:
        """Returns the eras and families of language models, and the leaderboards of the runs."""
        return Timeline(
            eras=[Era(name=era.name, start=era.start, end=era.end) for era in ERAS],
            families=[_family(name) for name in zoo.names()],
            runs=[_run(index, folder) for index, folder in enumerate(runs)],
        )

    @router.get("/runs/{index}/report", response_class=Response)
    def report(index: int) -> FileResponse:
        """Returns the report of a run as an HTML page."""
        if not 0 <= index < len(runs) or not (runs[index] / _REPORT).is_file():
            raise UsageError(f"there is no report with number {index}: make one with lmzoo report")
        headers = {"Content-Security-Policy": _REPORT_POLICY, "Cache-Control": "no-cache"}
        return FileResponse(runs[index] / _REPORT, media_type="text/html", headers=headers)

    return router


def _family(name: str) -> Family:
    card = zoo.card(name)
    return Family(
        name=card.name,
        title=card.title,
        year=card.year,
        era=era_name(card.year),
        people=card.people,
        idea=card.idea,
        sees=card.sees,
        changed=card.changed,
        limits=card.limits,
        beware=card.beware,
        paper=card.paper,
        bibtex=bibtex(card.cites),
    )


def _run(index: int, folder: Path) -> Run:
    report = f"/playground/runs/{index}/report" if (folder / _REPORT).is_file() else None
    return Run(name=folder.resolve().name, tables=_tables(folder), report=report)


def _tables(folder: Path) -> list[Table]:
    """Returns the leaderboards of a run folder; [] for a run of another kind than `lmzoo compare`."""
    from lmzoo.report import leaderboard  # with its charts, it takes a moment to import

    try:
        records = read_run(folder)
    except SavedModelError:
        return []
    tables = []
    for title, note, part in leaderboard.titled_tables(records):
        columns = [column for column in leaderboard.columns(part) if column.title in leaderboard.MAIN]
        rows = leaderboard.rows(part, columns)
        tables.append(Table(title=title, note=note, header=[column.title for column in columns], rows=rows))
    return tables
