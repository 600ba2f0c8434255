"""`lmzoo compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.outcomes import note_fit
from lmzoo.cli.commands.parameters import Names, OrStandardInput, Seed
from lmzoo.system.placement import Device

if TYPE_CHECKING:
    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.system.jobs import Outcome


def compare(
    *,
    species: Names = None,
    corpus: OrStandardInput = "kjv",
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    sweep: list[str] | None = None,
    seed: Seed = 0,
    seeds: int = 1,
    jobs: int | None = None,
    device: Device = "auto",
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Fit many species on one corpus, measure them on its test split, print a leaderboard and write a report.

    Stopped, it goes on where it was; run twice, it reuses what is fitted. Exit status 1 if a species failed.

    Example: lmzoo compare --corpus my-text.txt --species unigram ngram lstm transformer

    Parameters
    ----------
    species
        Names from `lmzoo list`. Default: one of each era.
    corpus
        A name from `lmzoo corpus list`, or a file, folder or glob of text.
    tokenizer
        The one tokenizer that all share: char, byte, word:N or bpe:SIZE. Default: as the corpus' protocol asks,
        else bpe:4096.
    budget
        quick, standard or thorough.
    settings
        A setting of a species, as species.name=value; may be repeated.
    sweep
        A setting to try with several values, as hmm.n_states=8,32,128: one entry each, and a figure in the report;
        may be repeated.
    seed
        The same seed gives the same models.
    seeds
        How many times to fit each species, with the seeds from --seed on: the report tells how much is chance.
    jobs
        How many species to fit at a time; they share the cores evenly. Default: one for each core, at most 4.
    device
        Where networks are trained and measured: cpu, cuda, mps, or auto for the best there is.
    out
        Folder of the run. Default: runs/BUDGET for the embedded corpus, else runs/CORPUS-BUDGET.
    json
        Print one JSON record for each species.
    """
    from dataclasses import asdict

    from lmzoo.cli.commands.settings import parse_settings_of_species, parse_sweeps
    from lmzoo.cli.tables import leaderboard_table
    from lmzoo.experiments.compare import compare as run
    from lmzoo.predictor import DEFAULT_CORPUS
    from lmzoo.report import write_report

    if out is None:
        out = Path("runs") / (budget if corpus == DEFAULT_CORPUS else f"{Path(corpus).stem}-{budget}".replace(":", "-"))
    with terminal.progress_of_many() as on_progress:
        comparison = run(
            out,
            species=species,
            corpus=corpus,
            tokenizer=tokenizer,
            budget=budget,
            settings=parse_settings_of_species(settings or []),
            sweeps=parse_sweeps(sweep or []),
            seed=seed,
            seeds=seeds,
            jobs=jobs,
            device=device,
            command=terminal.command_line(),
            on_progress=on_progress,
            on_outcome=_finish,
        )
    if json:
        for record in comparison.records:
            terminal.print_json(asdict(record))
    else:
        terminal.stdout().print(leaderboard_table(comparison.records, terminal.stdout().width))
    if comparison.records:
        terminal.note_pages(write_report(out))
    return 1 if comparison.failures else 0


def _finish(outcome: Outcome[EvalRecord]) -> None:
    """A line for a species that is done."""
    note_fit(outcome, quality=_quality)


def _quality(record: EvalRecord) -> str:
    return "no bits/byte" if record.bits_per_byte is None else f"{record.bits_per_byte:.3f} bits/byte"
