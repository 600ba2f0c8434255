"""The command `lmzoo prequential`, which measures how far models compress a text that they learn at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import Names, OrStandardInput, Seed
from lmzoo.system.placement import Device

if TYPE_CHECKING:
    from lmzoo.evaluation.code_records import CodeRecord
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
    """Computes the compressed length of a text under models that learn the text while they compress it.

    The text (all splits of the corpus) is read once by a model that learns after every token. Models that cannot
    do so compress it block by block: each block is predicted by a model that was trained on the blocks before
    it. No text is held out, so the compressed lengths can be compared with those of the compressors gzip, bzip2,
    xz, zstd and PPMd, which are measured as well.

    A run that was interrupted continues with the block at which it stopped; a model without blocks starts again.
    The exit status is 1 if a species failed.

    Example: lmzoo prequential --corpus my-text.txt --species ppm ngram lstm

    Parameters
    ----------
    species
        Names of species from `lmzoo list`, or all. Default: markov, unigram, hmm, trigram, ppm, rnn, lstm,
        ngram, nplm, hybrid, transformer-2017, gpt2, infinigram, linear-recurrence and transformer, which cover all
        eras.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
    tokenizer
        byte, or char (the alphabet is added to the compressed length). Tokenizers that are learned from the text are
        excluded: their vocabulary would be part of the compressed text.
    budget
        Preset of training length and model sizes: quick, standard or thorough. On a share f of the text, networks
        train on sqrt(f) times the number of tokens in the preset.
    settings
        A setting of one species, as species.name=value, such as ngram.order=6; may be repeated.
    growth
        Growth factor: models that cannot learn after every token are trained again each time the text read so far has
        grown by this factor. A factor closer to 1 trains more often and gives a shorter compressed text.
    seed
        Random seed. The same seed gives the same compressed length.
    jobs
        Number of species to run at the same time; they share the cores evenly. Default: one per core, at most 4.
    device
        Device on which networks are trained: cpu, cuda, mps, or auto (cuda if there is one, else mps, else cpu).
    out
        Folder for the results. Default: runs/prequential-CORPUS-BUDGET.
    json
        Print one JSON record per species and per compressor.
    """
    from lmzoo.cli.commands.settings import parse_settings_of_species
    from lmzoo.cli.tables import code_length_table
    from lmzoo.experiments.plan import RunPlan
    from lmzoo.experiments.prequential import prequential as run_prequential
    from lmzoo.report.prequential import write_report

    plan = RunPlan(
        species=species or (),
        corpus=corpus,
        tokenizer=tokenizer,
        budget=budget,
        settings=parse_settings_of_species(settings or []),
        seed=seed,
        jobs=jobs,
        device=device,
        command=terminal.command_line(),
    )
    with terminal.progress_of_many() as on_progress:
        result = run_prequential(out, plan, growth=growth, on_progress=on_progress, on_outcome=_finish)
    left_out = [(outcome.name, outcome.error) for outcome in result.outcomes if outcome.error]
    pages = write_report(result.folder, left_out)
    if json:
        terminal.print_records(result.records)
    else:
        terminal.stdout().print(code_length_table(result.records))
    terminal.note_pages(pages)
    return 1 if result.failures else 0


def _finish(outcome: Outcome[CodeRecord]) -> None:
    """Prints one line on stderr when a model or a general compressor has compressed the text."""
    record = outcome.record
    if record is None:
        terminal.note(f"  {outcome.name}: left out: {outcome.error}")
        return
    length = "no finite length, because a token had probability 0"
    if record.bits_per_byte is not None:
        length = f"{record.bits_per_byte:.3f} bits/byte"
    terminal.note(f"  {outcome.name}: {length}, {'reused' if outcome.reused else f'in {record.seconds:.1f} s'}")
