"""`lmzoo report`."""

from __future__ import annotations

from pathlib import Path

from lmzoo.cli import terminal


def report(*runs: Path, out: Path = Path("runs/merged"), json: bool = False) -> None:
    """Write the report of a run again, or one page about several; nothing is fitted.

    Of one run, its report, from its records and saved predictors. Several are put side by side, on one corpus or on
    many: bits per byte compare whatever the tokenizer, and intervals and tests are over the same documents.

    Examples:

    lmzoo report runs/quick

    lmzoo report runs/chars runs/words runs/brown --out runs/all

    Parameters
    ----------
    runs
        Folders of runs of `lmzoo compare`.
    out
        Folder of the page about several runs: merged.html, merged.md, merged.csv, pairs.csv and figures.
    json
        Print the paths of the pages as one JSON array.
    """
    from lmzoo.errors import UsageError
    from lmzoo.report import write_report
    from lmzoo.report.merged import write_merged

    if not runs:
        raise UsageError("name the folder of a run, or of several (see: lmzoo compare)")
    pages = write_report(runs[0]) if len(runs) == 1 else write_merged(runs, out)
    if json:
        terminal.print_json([str(page) for page in pages])
    else:
        terminal.note_pages(pages)
