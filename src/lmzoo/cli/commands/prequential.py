"""`lmzoo prequential`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import Names, OrStandardInput, Seed
from lmzoo.system.placement import Device

if TYPE_CHECKING:
    from lmzoo.evaluation.records import CodeRecord
    from lmzoo.system.jobs import Outcome


def prequential(
    *,
    species: Names = None,
    corpus: OrStandardInput = "kjv",
    tokenizer: str = "byte",
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    growth: float = 2.0,
    seed: Seed = 0,
    jobs: int | None = None,
    device: Device = "auto",
    out: Path | None = None,
    json: bool = False,
) -> int:
    """How short a text becomes when a species learns it as it goes, next to gzip, bzip2, xz, zstd and PPMd.

    The text, all splits of it, is coded block by block, each with the species fitted on the blocks before it.
    Stopped, it goes on with the block it was at. Exit status 1 if a species failed.

    Example: lmzoo prequential --corpus my-text.txt --species ngram infinigram lstm

    Parameters
    ----------
    species
        Names from `lmzoo list`. Default: one of each era.
    corpus
        A name from `lmzoo corpus list`, or a file, folder or glob of text.
    tokenizer
        byte, or char, whose alphabet is added to the code; any other would have to be sent.
    budget
        quick, standard or thorough. A fit on a share f of the text trains on sqrt(f) of the budget's tokens.
    settings
        A setting of a species, as species.name=value; may be repeated.
    growth
        How many times as long the text is at the end of a block as at its start. Nearer to 1, a species learns more
        often, and its code is shorter.
    seed
        The same seed gives the same code.
    jobs
        How many species to run at a time; they share the cores evenly. Default: one for each core, at most 4.
    device
        Where networks are trained: cpu, cuda, mps, or auto for the best there is.
    out
        Folder of the run. Default: runs/prequential-CORPUS-BUDGET.
    json
        Print one JSON record for each species and compressor.
    """
    from dataclasses import asdict

    from lmzoo.cli.commands.settings import parse_settings_of_species
    from lmzoo.cli.tables import code_length_table
    from lmzoo.experiments.prequential import prequential as run
    from lmzoo.report.prequential import write_report

    if out is None:
        out = Path("runs") / f"prequential-{Path(corpus).stem}-{budget}".replace(":", "-")
    with terminal.progress_of_many() as on_progress:
        coding = run(
            out,
            species=species,
            corpus=corpus,
            tokenizer=tokenizer,
            budget=budget,
            settings=parse_settings_of_species(settings or []),
            growth=growth,
            seed=seed,
            jobs=jobs,
            device=device,
            command=terminal.command_line(),
            on_progress=on_progress,
            on_outcome=_finish,
        )
    pages = write_report(out, coding.left_out)
    if json:
        for record in coding.records:
            terminal.print_json(asdict(record))
    else:
        terminal.stdout().print(code_length_table(coding.records))
    terminal.note_pages(pages)
    return 1 if coding.failures else 0


def _finish(outcome: Outcome[CodeRecord]) -> None:
    """A line for a species or compressor that is done."""
    record = outcome.record
    if record is None:
        terminal.note(f"  {outcome.name}: left out: {outcome.error}")
        return
    length = "no code, as it found something impossible"
    if record.bits_per_byte is not None:
        length = f"{record.bits_per_byte:.3f} bits/byte"
    terminal.note(f"  {outcome.name}: {length}, {'reused' if outcome.reused else f'in {record.seconds:.1f} s'}")
