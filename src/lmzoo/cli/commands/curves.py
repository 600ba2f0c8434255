"""`lmzoo curves`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import terminal
from lmzoo.cli.commands.outcomes import note_fit
from lmzoo.cli.commands.parameters import Names, OrStandardInput, Seed
from lmzoo.system.placement import Device

if TYPE_CHECKING:
    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.system.jobs import Outcome


def curves(
    *,
    species: Names = None,
    corpus: OrStandardInput = "kjv",
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    sizes: list[str] | None = None,
    shares: Annotated[int, Parameter(validator=Number(gte=2))] = 64,
    seed: Seed = 0,
    jobs: int | None = None,
    device: Device = "auto",
    out: Path | None = None,
    json: bool = False,
) -> int:
    """How the loss of every species falls with training text: curves, power laws, and where one overtakes another.

    All are fitted on 1/64, 1/32 .. 1/1 of the train split and measured on the same test split, under one tokenizer,
    trained on all of train. Networks read each share equally often. Stopped, it goes on where it was. Exit status 1 if
    a fit failed.

    Example: lmzoo curves --species ngram lstm transformer --sizes lstm.d_hidden=32,64,128,256

    Parameters
    ----------
    species
        Names from `lmzoo list`. Default: one of each era.
    corpus
        A name from `lmzoo corpus list`, or a file, folder or glob of text.
    tokenizer
        char, byte, word:N or bpe:SIZE. Default: as the corpus' protocol asks, else bpe:4096.
    budget
        quick, standard or thorough: for the whole text. On a share of it, networks are trained on that share of the
        tokens.
    settings
        A setting of a species, as species.name=value; may be repeated.
    sizes
        A setting to try with several values, as lstm.d_hidden=32,64,128,256: a curve each, and the loss against
        parameters; may be repeated.
    shares
        The smallest share is one part of so many, a power of 2; each is twice as large as the one before.
    seed
        Draws the documents of the shares, and the models.
    jobs
        How many species to fit at a time; they share the cores evenly. Default: one for each core, at most 4.
    device
        Where networks are trained and measured: cpu, cuda, mps, or auto for the best there is.
    out
        Folder of the run. Default: runs/curves-CORPUS-BUDGET.
    json
        Print points, laws and crossings as one JSON object.
    """
    from lmzoo.cli.commands.settings import parse_settings_of_species, parse_sweeps
    from lmzoo.experiments.curves import curves as run
    from lmzoo.experiments.curves import read_curves
    from lmzoo.report.curves import as_json, best_by_size, header, rows, write_page

    if out is None:
        out = Path("runs") / f"curves-{Path(corpus).stem}-{budget}".replace(":", "-")
    with terminal.progress_of_many() as on_progress:
        finished = run(
            out,
            species=species,
            corpus=corpus,
            tokenizer=tokenizer,
            budget=budget,
            settings=parse_settings_of_species(settings or []),
            sizes=parse_sweeps(sizes or [], option="--sizes"),
            smallest=shares,
            seed=seed,
            jobs=jobs,
            device=device,
            command=terminal.command_line(),
            on_progress=on_progress,
            on_outcome=_finish,
        )
    if finished.records:
        pages = write_page(out)
        found = read_curves(out)
        if json:
            terminal.print_json(as_json(found))
        else:
            terminal.print_table(header(found), rows(found))
            terminal.note(f"Test {found.unit}. The best: {'; '.join(best_by_size(found))}.")
        terminal.note_pages(pages)
    return 1 if finished.failures else 0


def _finish(n_parts: int, outcome: Outcome[EvalRecord]) -> None:
    """A line for a point that is done."""
    from lmzoo.experiments.curves import share_name

    note_fit(outcome, name=f"{share_name(n_parts)} · {outcome.name}", quality=_quality)


def _quality(record: EvalRecord) -> str:
    from lmzoo.experiments.curves import loss_of

    loss = loss_of(record)
    unit = "bits/byte" if record.lossless else "bits/token"
    return "no loss, as it found something impossible" if loss is None else f"{loss:.3f} {unit}"
