"""`lmzoo ladder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.outcomes import note_fit
from lmzoo.cli.commands.parameters import Names, Seed
from lmzoo.system.placement import Device


def ladder(
    *,
    rungs: Annotated[Names, Parameter(name="--rung")] = None,
    species: Names = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    seed: Seed = 0,
    seeds: int = 1,
    jobs: int | None = None,
    device: Device = "auto",
    out: Path = Path("runs/ladder"),
    json: bool = False,
) -> int:
    """Fit species on generated text whose true entropy is known, and see who learns what: counting, copying, ...

    Each rung is a corpus, as source:copying, that asks for one ability. Excess = nats per token above what the source
    itself, the best possible predictor of its text, pays on the same test text. A rung is climbed if the excess on its
    decisive tokens (the verb that must agree, the bracket that closes) is below 5 % of what it is for whoever knows all
    but what decides them; where all tokens are alike, if the excess is below 0.01 nats per token. Of several seeds the
    best counts, as a network may find a rule with one and miss it with another.

    Stopped, it goes on where it was; run twice, it reuses what is fitted. Exit status 1 if a species failed.

    Example: lmzoo ladder --rung agreement-10 copying --species ngram lstm transformer

    Parameters
    ----------
    rungs
        Names of sources (markov-2 is the corpus source:markov-2 of `lmzoo corpus list`). Default: all.
    species
        Names from `lmzoo list`. Default: eleven of all eras.
    budget
        quick, standard or thorough.
    settings
        A setting of a species on all rungs, as species.name=value; may be repeated.
    seed
        The same seed gives the same models.
    seeds
        How many times to fit each species, with the seeds from --seed on.
    jobs
        How many species to fit at a time; they share the cores evenly. Default: one for each core, at most 4.
    device
        Where networks are trained and measured: cpu, cuda, mps, or auto for the best there is.
    out
        Folder of the ladder: ladder.html, ladder.md, ladder.jsonl, and a run folder of `lmzoo compare` for each rung.
    json
        Print one JSON record for each species on each rung, with each seed.
    """
    from dataclasses import asdict

    from lmzoo.cli.commands.settings import parse_settings_of_species
    from lmzoo.cli.tables import ladder_tables
    from lmzoo.experiments.ladder import ladder as climb
    from lmzoo.report.ladder import write_ladder

    with terminal.progress_of_many() as on_progress:
        ladder = climb(
            out,
            rungs=rungs,
            species=species,
            budget=budget,
            settings=parse_settings_of_species(settings or []),
            seed=seed,
            seeds=seeds,
            jobs=jobs,
            device=device,
            command=terminal.command_line(),
            on_progress=on_progress,
            on_rung=terminal.note,
            on_outcome=note_fit,
        )
    pages = write_ladder(out) if ladder.climbs else []
    if json:
        for made in ladder.climbs:
            terminal.print_json(asdict(made))
    else:
        terminal.stdout().print(ladder_tables(ladder.climbs, terminal.stdout().width))
        terminal.note("Nats per token above the entropy of the source; ✓ = climbed (see: lmzoo ladder --help).")
    terminal.note_pages(pages)
    return 1 if ladder.failures else 0
