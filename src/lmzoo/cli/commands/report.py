"""The command `lmzoo report`, which writes the report of one run or of several runs."""

from __future__ import annotations

from pathlib import Path

from lmzoo.cli import terminal


def report(*runs: Path, out: Path = Path("runs/merged"), json: bool = False) -> None:
    """Writes the report of one run again, or one page about several runs. No model is trained.

    A run is a folder that `lmzoo compare` or `lmzoo align` wrote. A run of `lmzoo align` has a page of its own, about
    the stages in which a model learns to chat. The page about several runs compares their models. The runs may use
    different corpora and tokenizers, because bits per byte do not depend on the tokenizer. Confidence intervals and
    tests resample the documents of the test text.

    Example: lmzoo report runs/quick

    Example: lmzoo report runs/chars runs/words runs/brown --out runs/all

    Example: lmzoo report runs/align-transformer-quick

    Parameters
    ----------
    runs
        Folders that `lmzoo compare` wrote, or one folder that `lmzoo align` wrote.
    out
        Folder for the page about several runs: merged.html, merged.md, merged.csv, pairs.csv and figures.
    json
        Print the paths of the pages as one JSON array.
    """
    from lmzoo.errors import UsageError
    from lmzoo.experiments.run_folder import read_request
    from lmzoo.report import write_report
    from lmzoo.report.merged import write_merged

    if not runs:
        raise UsageError("name the folder of at least one run of `lmzoo compare`: lmzoo report FOLDER ...")
    aligned = [run for run in runs if read_request(run).get("experiment") == "align"]
    if aligned and len(runs) > 1:
        raise UsageError(f"{aligned[0]} holds a run of `lmzoo align`, which has a page of its own: name this run alone")
    if aligned:
        from lmzoo.report.alignment import write_alignment  # imported here, because it imports torch

        pages = write_alignment(aligned[0])
    else:
        pages = write_report(runs[0]) if len(runs) == 1 else write_merged(runs, out)
    if json:
        terminal.print_json([str(page) for page in pages])
    else:
        terminal.note_pages(pages)
