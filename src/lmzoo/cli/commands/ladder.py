"""The command `lmzoo ladder`, which trains species on generated texts to find out which abilities they learn."""

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
    tasks: Annotated[Names, Parameter(name="--task")] = None,
    species: Names = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    seed: Seed = 0,
    seeds: int = 1,
    jobs: int | None = None,
    device: Device = "auto",
    cluster: str | None = None,
    out: Path = Path("runs/ladder"),
    json: bool = False,
) -> int:
    """Trains species on generated texts of known entropy and reports which abilities each species learns.

    Each task of the ladder is a generated corpus, such as source:copying, that requires one ability: copying, counting,
    agreement over a distance and so on. The excess cross-entropy of a model is its loss minus the loss of the source
    itself, which predicts its own text as well as possible, in nats per token of the test text.

    A task with target tokens (the verb that must agree, the bracket that closes) is passed if the excess on these
    tokens is below 5 % of the excess of a baseline. The baseline knows everything about the source except for the
    fact that decides the target tokens. A task without target tokens is passed if the excess is below 0.01 nats per
    token. With several seeds the best one counts, because a network may learn a rule with one seed and not with
    another.

    A run that was interrupted continues when the command is repeated, and models that are already trained are reused.
    The exit status is 1 if a model could not be trained or evaluated.

    Example: lmzoo ladder --task agreement-10 copying --species ngram lstm transformer

    Parameters
    ----------
    tasks
        Names of tasks: markov-2 stands for the corpus source:markov-2 of `lmzoo corpus list`. Default: all tasks.
    species
        Names of species from `lmzoo list`. Default: eleven species, from the Markov chain to the transformer.
    budget
        Preset of training length: quick, standard or thorough. Networks have the same small sizes in all three.
    settings
        A setting of one species on all tasks, as species.name=value, such as lstm.d_hidden=128; may be repeated.
    seed
        Random seed. The same seed gives the same models.
    seeds
        Number of times to train each species on each task, with the seeds --seed, --seed + 1 and so on.
    jobs
        Number of models to train at the same time; they share the cores evenly. Default: one per core, at most 4.
    device
        Device on which networks are trained and evaluated: cpu, cuda, mps, or auto (cuda if there is one, else mps,
        else cpu).
    cluster
        Train the models on a Ray cluster: auto for the cluster of which this computer is a node, HOST:PORT, or local
        to start one on this computer. All nodes must share the folder of the results. Each model gets as many cores as
        it would have without the cluster. Needs lmzoo[cluster]; see `lmzoo cluster status`.
    out
        Folder for the results: ladder.html, ladder.md, ladder.jsonl, and for each task a folder as `lmzoo compare`
        writes it.
    json
        Print one JSON record per task, species and seed.
    """
    from lmzoo.cli.commands.settings import parse_settings_of_species
    from lmzoo.cli.tables import ladder_tables
    from lmzoo.experiments.ladder import ladder as run_ladder
    from lmzoo.experiments.plan import RunPlan
    from lmzoo.report.ladder import write_ladder

    plan = RunPlan(
        species=species or (),
        budget=budget,
        settings=parse_settings_of_species(settings or []),
        seed=seed,
        seeds=seeds,
        jobs=jobs,
        device=device,
        cluster=cluster,
        command=terminal.command_line(),
    )
    with terminal.progress_of_many() as on_progress:
        result = run_ladder(out, plan, tasks=tasks, on_progress=on_progress, on_task=terminal.note, on_outcome=note_fit)
    pages = write_ladder(out) if result.records else []
    if json:
        terminal.print_records(result.records)
    else:
        terminal.stdout().print(ladder_tables(result.records, terminal.stdout().width))
        terminal.note("Excess cross-entropy in nats per token; ✓ = passed (see: lmzoo ladder --help).")
    terminal.note_pages(pages)
    return 1 if result.failures else 0
