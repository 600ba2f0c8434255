"""The command `lmzoo play`, which opens the playground in a browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput

if TYPE_CHECKING:
    from lmzoo.playground.training import Training
    from lmzoo.server.models import ServedModels


def play(
    *predictors: Path,
    corpus: OrStandardInput | None = None,
    tokenizer: str | None = None,
    budget: str = "quick",
    out: Path | None = None,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8000,
    no_browser: bool = False,
    json: bool = False,
) -> None:
    """Opens the playground: pages in a browser on which every kind of model predicts, generates and explains itself.

    Press Ctrl-C to end the program. Training that was interrupted continues when the command is repeated.

    Example: lmzoo play

    Example: lmzoo play runs/quick smollm2

    Example: lmzoo play --corpus my-text.txt

    Parameters
    ----------
    predictors
        Folders of saved predictors, run folders, GGUF files, folders of causal models that transformers saved, or names
        of predictors that come with lmzoo or are installed. Default: all predictors that come with lmzoo; none, if a
        corpus is given.
    corpus
        Fit every kind of model on this text, while the pages are open: a name from `lmzoo corpus list`, or your own
        text (a file, a folder, or a glob pattern). Each model appears as soon as it is fitted, counting models first.
    tokenizer
        Tokenizer of the models that are fitted, such as char or bpe:2048. Default: that of the corpus, else bpe:4096.
    budget
        Preset of training length and model sizes: quick, standard or thorough.
    out
        Folder for the models that are fitted. Default: runs/play-CORPUS-BUDGET.
    host
        Address at which the pages are served. With 127.0.0.1, only this computer can open them. With 0.0.0.0, all
        computers of the network can, without a password.
    port
        Port at which the pages are served; 0 for any free one.
    no_browser
        Print the address only.
    json
        Print the address as one JSON object.
    """
    from lmzoo.errors import MissingExtraError
    from lmzoo.system.garbage import no_garbage_collection

    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve", "the playground")
    with no_garbage_collection():
        from lmzoo.cli.commands.saved import served

        sources = served(predictors) if predictors or corpus is None else {}
        from lmzoo.models.shipped import VOTES, shipped_comparisons
        from lmzoo.playground.pages import add_playground
        from lmzoo.playground.voting import Ballot
        from lmzoo.server.app import create_app
        from lmzoo.server.models import ServedModels
        from lmzoo.server.serving import address_for_others, in_background, is_local

    models = ServedModels(sources)
    Thread(target=_load, args=(models,), daemon=True).start()  # after the imports, which must not run in two threads
    training = None if corpus is None else _training(corpus, tokenizer, budget, out, models)
    app = create_app(models, api_key="", local_only=is_local(host))  # browsers send no key for pages
    add_playground(app, _run_folders(predictors), training, Ballot(shipped_comparisons(), VOTES))
    with in_background(app, host, port) as address:
        if json:
            terminal.print_json({"address": address})
            sys.stdout.flush()
        else:
            terminal.note(f"playground: {address} (press Ctrl-C to end it)")
            if others := address_for_others(host, address):
                terminal.note(f"for other computers: {others}")
        if not no_browser:
            import webbrowser

            webbrowser.open(address)
        _run(training)


def _run_folders(places: Sequence[Path]) -> list[Path]:
    """Returns those of the given paths that are run folders, whose reports the playground shows."""
    return [place for place in places if (place / "results.jsonl").is_file()]


def _training(corpus: str, tokenizer: str | None, budget: str, out: Path | None, models: ServedModels) -> Training:
    """Returns the training of every species on a text, which is not started."""
    from lmzoo.experiments.plan import RunPlan
    from lmzoo.playground.training import Training

    plan = RunPlan(corpus=corpus, tokenizer=tokenizer, budget=budget).checked()
    return Training(out or plan.default_folder("play"), plan, models)


def _load(models: ServedModels) -> None:
    """Loads all models of a server except for chat models, which wait until somebody talks to them.

    A model that cannot be loaded is reported when it is asked for.
    """
    import gc

    from lmzoo.errors import LmzooError
    from lmzoo.system.garbage import no_garbage_collection

    with no_garbage_collection():
        for name in models.names:
            with suppress(LmzooError):
                if models.unloaded_chat_model(name) is None:
                    models.get(name)
    gc.freeze()  # loaded models stay, so that no request waits while they are searched for garbage


def _run(training: Training | None) -> None:
    """Runs a training, and then waits for an interrupt. Raises KeyboardInterrupt if the training is not finished."""
    try:
        if training:
            training.run()
        Event().wait()
    except KeyboardInterrupt:
        if training and not training.is_finished:
            raise
