"""The command `lmzoo fit`, which trains one model and saves the predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput, Seed
from lmzoo.cli.commands.settings import parse_settings
from lmzoo.system.placement import Device, this_process


def fit(
    species: str,
    *,
    out: Path,
    corpus: OrStandardInput = "kjv",
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    minutes: float | None = None,
    seed: Seed = 0,
    memory: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    device: Device = "auto",
    log: list[str] | None = None,
    json: bool = False,
) -> None:
    """Trains one species (model family) on a corpus and saves the predictor: the trained model with its tokenizer.

    A training that was interrupted continues when the command is repeated. With
    torchrun --nproc-per-node 4 -m lmzoo fit ..., four processes train one network in data-parallel mode.

    Example: lmzoo fit lstm --corpus my-text.txt --out runs/my-lstm --set training.tokens=2000000

    Parameters
    ----------
    species
        Name of a species from `lmzoo list`.
    out
        Folder for the predictor. If it holds an earlier one, the files of that predictor are replaced and others stay.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
    tokenizer
        char, byte, word:N (words that occur at least N times in the training text), word-space:N (the same, split at
        spaces, tabs and line ends only), bpe:SIZE (byte pairs, SIZE tokens), tiktoken:NAME, or the path of a saved
        tokenizer. Default: the tokenizer that the protocol of the corpus prescribes, else bpe:4096.
    budget
        Preset of training length and model sizes: quick, standard or thorough.
    settings
        A setting of the species, as name=value (`lmzoo show SPECIES` lists all settings); may be repeated.
    minutes
        Train a network for this many minutes, in place of the number of tokens of the budget. Its learning-rate
        schedule ends when the time is up. Such a model depends on the speed of the machine and cannot be reproduced bit
        for bit.
    seed
        Random seed. The same seed gives the same model.
    memory
        Memory limit for the training of n-gram models, such as 500M. Beyond the limit, temporary files are used.
        Default: 1G.
    workers
        Number of processes that fit an n-gram model together, each with the memory limit of --memory. Their number does
        not change the model. Default: 0, which means that this process fits it alone.
    cluster
        Fit an n-gram model on a Ray cluster: auto for the cluster of which this computer is a node, HOST:PORT, or local
        to start one on this computer. The cluster does not change the model. Needs lmzoo[cluster]; see `lmzoo cluster
        status`.
    device
        Device on which a network is trained: cpu, cuda, mps, or auto (cuda if there is one, else mps, else cpu).
    log
        Where to write the losses of a network while it is trained: tensorboard:FOLDER (needs the extra
        lmzoo[tensorboard]), csv:FILE or jsonl:FILE; may be repeated.
    json
        Print the folder, the settings and the provenance of the predictor as one JSON object.
    """
    from lmzoo import zoo
    from lmzoo.checkpoint import Checkpoint
    from lmzoo.corpora import load_corpus
    from lmzoo.corpora.encoded import encode_corpus
    from lmzoo.errors import UsageError
    from lmzoo.experiments.training_log import check_logs, training_logs
    from lmzoo.predictor import Predictor
    from lmzoo.predictor_folder import check_folder
    from lmzoo.system.files import locked
    from lmzoo.system.jobs import named
    from lmzoo.system.memory import return_freed_memory
    from lmzoo.tokenizers import check_tokenizer

    zoo.check_learns_from_text(species)
    ngram_options = {"memory": memory, "workers": workers, "cluster": cluster}
    chosen = _chosen_settings(species, budget, minutes, settings or [], ngram_options)
    zoo.create(species, 2, device=device, **chosen)  # reports a wrong setting before the corpus is read
    if tokenizer is not None:
        check_tokenizer(tokenizer)
    check_folder(out)
    check_logs(log or [])
    process = this_process()
    if process.n_processes > 1 and corpus == "-":
        raise UsageError("several processes cannot read the same standard input: name a file with --corpus")
    # All processes of torchrun train the same model; only the first process saves it.
    checkpoint = None if process.rank else Checkpoint(out.with_name(f"{out.name}.checkpoint.safetensors"))
    with nullcontext() if checkpoint is None else locked(checkpoint.path.with_name(f"{checkpoint.path.name}.lock")):
        with terminal.progress("reading the corpus") as on_progress:
            loaded = load_corpus(corpus, on_progress)
            encoded = encode_corpus(loaded, tokenizer, on_progress)
            del loaded  # a long text needs much memory
            return_freed_memory()
        targets = [] if process.rank else log or []
        with (
            terminal.progress(f"fitting {species}") as show,
            training_logs(targets, lambda _, progress: show(progress)) as on_progress,
        ):
            predictor = Predictor.fit(
                species,
                encoded,
                seed=seed,
                on_progress=named(species, on_progress),
                checkpoint=checkpoint,
                device=device,
                **chosen,
            )
        if checkpoint is None:
            return
        with terminal.progress(f"saving {species}"):
            predictor.save(out)
        checkpoint.discard()
    if json:
        terminal.print_json(
            {"folder": str(out), "species": species, "settings": chosen, **predictor.provenance.as_dict()}
        )
    else:
        provenance = predictor.provenance
        terminal.note(
            f"{species}: {predictor.model.n_parameters:,} parameters from {provenance.n_train_tokens:,} tokens "
            f"in {provenance.fit_seconds:.1f} s, saved in {out}"
        )


def _chosen_settings(
    species: str, budget: str, minutes: float | None, assignments: Sequence[str], ngram_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the settings of the model: those of the budget, changed by the options of the command.

    `assignments` are the values of --set. `ngram_options` maps the options that only n-gram models have to their
    values; None means that an option was not given. Raises UsageError if such an option is given for a model of another
    kind.
    """
    from lmzoo import zoo
    from lmzoo.errors import UsageError
    from lmzoo.experiments.budgets import merged, settings_for, time_limit

    chosen = settings_for(species, budget)
    if minutes is not None:
        chosen = merged(chosen, time_limit(species, minutes))
    chosen = merged(chosen, parse_settings(assignments))
    given = {name: value for name, value in ngram_options.items() if value is not None}
    for name in given.keys() - zoo.defaults(species):
        raise UsageError(f"--{name} is for n-gram models, and '{species}' is not one: leave out --{name}")
    return chosen | given
