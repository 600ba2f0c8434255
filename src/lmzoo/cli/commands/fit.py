"""`lmzoo fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput, Seed
from lmzoo.cli.commands.settings import parse_settings
from lmzoo.system.placement import Device, on_device, this_process


def fit(
    species: str,
    *,
    out: Path,
    corpus: OrStandardInput = "kjv",
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    seed: Seed = 0,
    memory: str | None = None,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Fit one species on a corpus and save the predictor. A fit that was stopped goes on where it was.

    Example: lmzoo fit lstm --corpus my-text.txt --out runs/my-lstm --set training.tokens=2000000

    Started as torchrun --nproc-per-node 4 -m lmzoo fit ..., four processes train a network together.

    Parameters
    ----------
    species
        A name from `lmzoo list`.
    out
        Folder for the predictor.
    corpus
        A name from `lmzoo corpus list`, or a file, folder or glob of text; - reads standard input.
    tokenizer
        char, byte, word:N or bpe:SIZE. Default: as the corpus' protocol asks, else bpe:4096.
    budget
        quick, standard or thorough.
    settings
        A setting of the species (`lmzoo show SPECIES`), as name=value; may be repeated.
    seed
        The same seed gives the same model.
    memory
        What an n-gram model may take to be fitted, such as 500M; more is kept in temporary files. Default: 1G.
    device
        Where a network is trained: cpu, cuda, mps, or auto for the best there is.
    json
        Print one JSON object about the predictor.
    """
    from lmzoo import zoo
    from lmzoo.checkpoint import Checkpoint
    from lmzoo.corpora import load_corpus
    from lmzoo.corpora.encoded import encode_corpus, tokenizer_for
    from lmzoo.errors import UsageError
    from lmzoo.experiments.budgets import merged, settings_for
    from lmzoo.predictor import Predictor, check_home

    chosen = merged(settings_for(species, budget), parse_settings(settings or []))
    if memory is not None:
        chosen["memory"] = memory
    with on_device(device):
        zoo.create(species, 2, **chosen)  # a wrong setting shows before the corpus is read
    check_home(out)
    process = this_process()
    if process.n_processes > 1 and corpus == "-":
        raise UsageError("several processes cannot share standard input: name a file with --corpus")
    with terminal.progress("reading the corpus") as on_progress:
        loaded = load_corpus(corpus)
        encoded = encode_corpus(loaded, tokenizer_for(loaded, tokenizer, on_progress), on_progress)
    # Of several processes all come to the same model, and the first one keeps it.
    checkpoint = None if process.rank else Checkpoint(out.with_name(f"{out.name}.checkpoint.safetensors"))
    with terminal.progress(f"fitting {species}") as on_progress:
        predictor = Predictor.fit(
            species, encoded, seed=seed, on_progress=on_progress, checkpoint=checkpoint, device=device, **chosen
        )
    if checkpoint is None:
        return
    predictor.save(out)
    checkpoint.discard()
    if json:
        terminal.print_json(
            {"folder": str(out), "species": species, "settings": chosen, **predictor.provenance.as_dict()}
        )
    else:
        made = predictor.provenance
        terminal.note(
            f"{species}: {predictor.model.n_parameters:,} parameters from {made.n_train_tokens:,} tokens "
            f"in {made.fit_seconds:.1f} s, saved in {out}"
        )
