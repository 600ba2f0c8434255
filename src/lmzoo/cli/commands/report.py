"""The command `lmzoo report`."""

from __future__ import annotations

from pathlib import Path

from lmzoo.cli import terminal


def report(*runs: Path, out: Path = Path("runs/merged"), json: bool = False) -> None:
    """Writes the report of one run again, or one page about several runs. No model is trained.

    The page about several runs compares their models. The runs may use different corpora and tokenizers, because bits
    per byte do not depend on the tokenizer. Confidence intervals and tests resample the documents of the test text.

    Examples:

    lmzoo report runs/quick

    lmzoo report runs/chars runs/words runs/brown --out runs/all

    Parameters
    ----------
    runs
        Folders that `lmzoo compare` wrote.
    out
        Folder for the page about several runs: merged.html, merged.md, merged.csv, pairs.csv and figures.
    json
        Print the paths of the pages as one JSON array.
    """
    from lmzoo.errors import UsageError
    from lmzoo.report import write_report
    from lmzoo.report.merged import write_merged

    if not runs:
        raise UsageError("name the folder of at least one run of `lmzoo compare`: lmzoo report FOLDER ...")
    pages = write_report(runs[0]) if len(runs) == 1 else write_merged(runs, out)
    if json:
        terminal.print_json([str(page) for page in pages])
    else:
        terminal.note_pages(pages)
