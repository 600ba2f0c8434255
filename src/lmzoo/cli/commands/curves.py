"""The command `lmzoo curves`, which measures how the test loss falls with the amount of training text."""

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


def curves(
    *,
    species: Names = None,
    corpus: OrStandardInput = "kjv",
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    sizes: list[str] | None = None,
    shares: int = 64,
    seed: Seed = 0,
    jobs: int | None = None,
    device: Device = "auto",
    cluster: str | None = None,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Measures how the test loss of each species falls with the amount of training text.

    Every species is trained on 1/64, 1/32, ... and all of the train split and evaluated on the same test split, with
    one tokenizer that is trained on all of the train split. Networks train for the same number of epochs on every
    share. The results are learning curves, power laws fitted to them, and the amounts of text at which one species
    overtakes another.

    A run that was interrupted continues when the command is repeated. The exit status is 1 if a model could not be
    trained or evaluated.

    Example: lmzoo curves --species ngram lstm transformer --sizes lstm.d_hidden=32,64,128,256

    Parameters
    ----------
    species
        Names of species from `lmzoo list`, or all. Default: markov, unigram, hmm, trigram, ppm, rnn, lstm,
        ngram, nplm, hybrid, transformer-2017, gpt2, infinigram, linear-recurrence and transformer, which cover all
        eras.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
    tokenizer
        char, byte, word:N (words that occur at least N times in the training text), word-space:N (the same, split at
        spaces, tabs and line ends only), bpe:SIZE (byte pairs, SIZE tokens), tiktoken:NAME, or the path of a saved
        tokenizer. Default: the tokenizer that the protocol of the corpus prescribes, else bpe:4096.
    budget
        Preset of model sizes, and of training length on the whole text: quick, standard or thorough. On a share of
        the text, training is shorter in proportion.
    settings
        A setting of one species, as species.name=value, such as lstm.d_embed=64; may be repeated.
    sizes
        A setting to try with several values, such as lstm.d_hidden=32,64,128,256: each value has a learning curve,
        and a figure shows the loss against the number of parameters; may be repeated.
    shares
        Denominator of the smallest share, a power of 2: 64 stands for the shares 1/64, 1/32, ..., 1/2 and 1.
    seed
        Random seed: selects the documents of the shares and initialises the models.
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
        Folder for the results. Default: runs/curves-CORPUS-BUDGET.
    json
        Print the points of the curves, the power laws and the crossings as one JSON object.
    """
    from lmzoo.cli.commands.settings import parse_settings_of_species, parse_sweeps
    from lmzoo.experiments.curves import curves as run_curves
    from lmzoo.experiments.learning_curves import read_curves
    from lmzoo.experiments.plan import RunPlan
    from lmzoo.report.curves import as_json, best_by_size, header, rows, write_page

    plan = RunPlan(
        species=species or (),
        corpus=corpus,
        tokenizer=tokenizer,
        budget=budget,
        settings=parse_settings_of_species(settings or []),
        sweeps=parse_sweeps(sizes or [], option="--sizes"),
        seed=seed,
        jobs=jobs,
        device=device,
        cluster=cluster,
        command=terminal.command_line(),
    )
    with terminal.progress_of_many() as on_progress:
        result = run_curves(out, plan, shares=shares, on_progress=on_progress, on_outcome=_finish)
    if result.records:
        pages = write_page(result.folder)
        learning_curves = read_curves(result.folder)
        if json:
            terminal.print_json(as_json(learning_curves))
        else:
            terminal.print_table(header(learning_curves), rows(learning_curves))
            terminal.note(f"Test {learning_curves.unit}. The best: {'; '.join(best_by_size(learning_curves))}.")
        terminal.note_pages(pages)
    return 1 if result.failures else 0


def _finish(share: float, outcome: Outcome[EvalRecord]) -> None:
    """Prints one line on stderr about a model that was trained on one share of the text."""
    from lmzoo.experiments.learning_curves import share_name

    note_fit(outcome, name=f"{share_name(share)} · {outcome.name}", quality=_quality)


def _quality(record: EvalRecord) -> str:
    from lmzoo.experiments.learning_curves import loss_of

    loss = loss_of(record)
    unit = "bits/byte" if record.lossless else "bits/token"
    return "no finite loss, because a token had probability 0" if loss is None else f"{loss:.3f} {unit}"
