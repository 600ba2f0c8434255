"""The command `lmzoo compare`, which trains several species on one corpus and compares them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.outcomes import note_fit
from lmzoo.cli.commands.parameters import Names, OrStandardInput, Seed
from lmzoo.system.placement import Device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.experiments.plan import RunPlan
    from lmzoo.system.jobs import Outcome


def compare(
    *,
    species: Names = None,
    corpus: OrStandardInput = "kjv",
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    sweep: list[str] | None = None,
    minutes: float | None = None,
    seed: Seed = 0,
    seeds: int = 1,
    jobs: int | None = None,
    device: Device = "auto",
    cluster: str | None = None,
    with_predictors: Annotated[list[Path] | None, Parameter(name="--with")] = None,
    out: Path | None = None,
    log: list[str] | None = None,
    json: bool = False,
) -> int:
    """Trains several species on one corpus, evaluates them on its test split, prints a leaderboard and writes a report.

    A run that was interrupted continues when the command is repeated, and models that are already trained are reused.
    The exit status is 1 if a model could not be trained or evaluated.

    Example: lmzoo compare --corpus my-text.txt --species unigram ngram lstm transformer

    Parameters
    ----------
    species
        Names of species from `lmzoo list`, or all. Default: markov, unigram, hmm, trigram, ppm, rnn, lstm,
        ngram, nplm, hybrid, transformer-2017, gpt2, infinigram, linear-recurrence and transformer, which cover all
        eras.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
    tokenizer
        The tokenizer of all models: char, byte, word:N (words that occur at least N times in the training text),
        word-space:N (the same, split at spaces, tabs and line ends only), bpe:SIZE (byte pairs, SIZE tokens),
        tiktoken:NAME, or the path of a saved tokenizer. Default: the tokenizer that the protocol of the corpus
        prescribes, else bpe:4096.
    budget
        Preset of training length and model sizes: quick, standard or thorough.
    settings
        A setting of one species, as species.name=value, such as lstm.d_hidden=512; may be repeated.
    sweep
        A setting to try with several values, such as hmm.n_states=8,32,128: each value is one entry of the
        leaderboard, and the report has a figure of all values; may be repeated.
    minutes
        Train each network for this many minutes, in place of the number of tokens of the budget. Such models depend on
        the speed of the machine and cannot be reproduced bit for bit.
    seed
        Random seed. The same seed gives the same models.
    seeds
        Number of times to train each species, with the seeds --seed, --seed + 1 and so on. The report then shows how
        much the results vary with the seed.
    jobs
        Number of models to train at the same time; they share the cores evenly. Default: one per core, at most 4.
    device
        Device on which networks are trained and evaluated: cpu, cuda, mps, or auto (cuda if there is one, else mps,
        else cpu).
    cluster
        Train the models on a Ray cluster: auto for the cluster of which this computer is a node, HOST:PORT, or local
        to start one on this computer. All nodes must share the folder of the results. Each model gets as many cores as
        it would have without the cluster. Needs lmzoo[cluster]; see `lmzoo cluster status`.
    with_predictors
        A predictor that is already trained, to evaluate on the same test split, in a table of its own: the folder of a
        saved predictor, the folder of a causal model that transformers saved, a GGUF file, or the name of an installed
        model, such as smollm2; may be repeated.
    out
        Folder for the results. Default: runs/BUDGET for the bundled corpus kjv, else runs/CORPUS-BUDGET.
    log
        Where to write the losses of networks while they are trained: tensorboard:FOLDER (needs the extra
        lmzoo[tensorboard]), csv:FILE or jsonl:FILE; may be repeated.
    json
        Print one JSON record per model.
    """
    from lmzoo.cli.commands.settings import parse_settings_of_species, parse_sweeps
    from lmzoo.experiments.compare import run_comparison
    from lmzoo.experiments.plan import RunPlan
    from lmzoo.experiments.training_log import training_logs
    from lmzoo.report import write_report
    from lmzoo.report.leaderboard import seen_in_train

    plan = RunPlan(
        species=species or (),
        corpus=corpus,
        tokenizer=tokenizer,
        budget=budget,
        settings=parse_settings_of_species(settings or []),
        sweeps=parse_sweeps(sweep or []),
        minutes=minutes,
        seed=seed,
        seeds=seeds,
        jobs=jobs,
        device=device,
        cluster=cluster,
        command=terminal.command_line(),
    )
    screen = _Screen(plan)
    with terminal.progress_of_many() as show, training_logs(log or [], show) as on_progress:
        result = run_comparison(out, plan, with_predictors or (), on_progress=on_progress, on_outcome=screen.finish)
    if json:
        terminal.print_records(result.records)
    else:
        _print_leaderboard(result.records, terminal.stdout())
    if result.records:
        if seen := seen_in_train(result.records):
            terminal.note(seen)
        terminal.note_pages(write_report(result.folder))
    return 1 if result.failures else 0


_FIRST_MODELS = 4
"""Number of finished models after which a first leaderboard is printed."""


class _Screen:
    """Prints on stderr what `compare` has finished, while it trains further models.

    Each finished model has a line. The models that are not neural networks are trained first. A leaderboard is printed
    when four of these models are finished, which takes seconds, and again when all of them are finished.
    """

    def __init__(self, plan: RunPlan) -> None:
        from lmzoo import zoo

        species = zoo.chosen_species(plan.species)
        self._awaited = {name for name in species if not zoo.is_network(name)}
        self._has_networks = len(self._awaited) < len(species)
        self._records: list[EvalRecord] = []

    def finish(self, outcome: Outcome[EvalRecord]) -> None:
        """Prints a line about a model that was trained and evaluated, or only evaluated.

        Then prints the leaderboard of the models so far if it is time for it.
        """
        record = outcome.record
        if record is not None and record.trained_elsewhere:
            how = "reused" if outcome.reused else f"evaluated in {record.evaluate_seconds:.1f} s"
            terminal.note(f"  {outcome.name}: {_quality(record)}, {how}")
            return
        note_fit(outcome, quality=_quality)
        if record is not None:
            self._records.append(record)
        if outcome.name in self._awaited:
            self._awaited.remove(outcome.name)
            is_time = len(self._records) == _FIRST_MODELS if self._awaited else self._has_networks
            if is_time and not outcome.reused and self._records:
                others = "other models" if self._awaited else "neural networks"
                terminal.note(f"Before the {others} are trained, the leaderboard is:")
                _print_leaderboard(self._records, terminal.stderr())


def _print_leaderboard(records: Sequence[EvalRecord], console: Console) -> None:
    from lmzoo.cli.tables import leaderboard_table
    from lmzoo.evaluation.ranking import entries

    console.print(leaderboard_table(entries(records), console.width))


def _quality(record: EvalRecord) -> str:
    return "no bits/byte" if record.bits_per_byte is None else f"{record.bits_per_byte:.3f} bits/byte"
