"""`lmzoo report`."""

from __future__ import annotations

from pathlib import Path

from lmzoo import terminal


def report(run: Path, *, json: bool = False) -> None:
    """Write the report of a run again, from its records and saved predictors; nothing is fitted.

    Example: lmzoo report runs/quick

    Parameters
    ----------
    run
        The folder of a run of `lmzoo compare`.
    json
        Print the paths of the pages as one JSON array.
    """
    from lmzoo.report import write_report

    with terminal.progress("report") as on_progress:
        pages = write_report(run, on_progress=on_progress)
    if json:
        terminal.print_json([str(page) for page in pages])
    else:
        for page in pages:
            terminal.note(f"report: {page}")
