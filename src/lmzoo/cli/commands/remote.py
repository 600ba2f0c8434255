"""Functions for commands that accept a remote model, given as a URL, in place of the folder of a saved predictor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmzoo.cli import terminal

if TYPE_CHECKING:
    from lmzoo.evaluation.measured_text import MeasuredSplit
    from lmzoo.interchange.remote import RemoteModel

_URL = re.compile(r"^(https?):/+", re.IGNORECASE)


def divided(places: Sequence[Path]) -> tuple[list[Path], list[RemoteModel]]:
    """Divides the command-line arguments that name predictors into the paths of folders and the remote models.

    `places` are the arguments, as paths. Those that begin with http: or https:, such as
    http://127.0.0.1:8000/v1#MODEL, are URLs of remote models. No request is sent.
    """
    folders = [place for place in places if not _URL.match(place.as_posix())]
    # A path has no empty parts, so it holds one of the two slashes of a URL.
    urls = [_URL.sub(r"\1://", place.as_posix()) for place in places if _URL.match(place.as_posix())]
    if not urls:
        return folders, []
    from lmzoo.interchange.remote import RemoteModel

    return folders, [RemoteModel(url) for url in urls]


def address_of(model: RemoteModel) -> str:
    """Returns the address of a remote model, with the name of the model: "http://127.0.0.1:8000/v1#MODEL"."""
    return f"{model.url}#{model.model}"


def name_of(model: RemoteModel) -> str:
    """Returns a name of a remote model for people to read: "MODEL at 127.0.0.1:8000/v1"."""
    return f"{model.model} at {model.url.partition('://')[2]}"


def texts(
    model: RemoteModel,
    prompt: str,
    *,
    n: int,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int | None,
    stop: Sequence[str],
) -> Iterator[Iterator[str]]:
    """Yields `n` continuations of a prompt by a remote model, each as an iterator over the pieces of its text.

    The continuations have the seeds `seed`, `seed` + 1, and so on.
    """
    for index in range(n):
        yield model.stream(
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=None if seed is None else seed + index,
            stop=stop,
        )


def evaluate(
    models: Sequence[RemoteModel], corpus: str | None, split: MeasuredSplit | None, *, no_bos: bool, json: bool
) -> None:
    """Evaluates remote models on a text, and prints a table with a row for each.

    A row has the bits per byte, and the numbers of tokens and bytes over which they are the mean. If `json` is True, a
    JSON object for each model is printed instead. `corpus` is the name or the path of the text. `split` is the part of
    it to read, "valid", "test" or "all"; None means the whole text. Raises UsageError if `corpus` is None, or if
    `no_bos` is True, because this option is for n-gram models only.
    """
    from dataclasses import asdict

    from lmzoo.errors import UsageError
    from lmzoo.evaluation.measured_text import MeasuredText
    from lmzoo.interchange.remote import remote_evaluation

    if corpus is None:
        raise UsageError("the training text of a remote model is unknown: name a text with --corpus")
    if no_bos:
        raise UsageError("--no-bos is for n-gram models only, not for remote models")
    text = MeasuredText.of_corpus(corpus, (), split)
    rows = []
    for model in models:
        with terminal.progress(f"evaluating {address_of(model)}") as on_progress:
            result = remote_evaluation(model, text.documents or (), on_progress=on_progress)
        terminal.note(f"{address_of(model)}: {result.not_covered}")
        if json:
            terminal.print_json(asdict(result) | text.facts)
        rows.append(
            [
                address_of(model),
                f"{result.bits_per_byte:.3f}",
                f"{result.scored_tokens:,}",
                f"{result.scored_bytes:,} of {result.n_bytes:,}",
            ]
        )
    terminal.note(
        f"Text: {text.described}. For its own models, lmzoo scores every token and the end of each text, so their bits "
        "per byte are only roughly comparable with these; the longer the texts, the better. Perplexities are left out, "
        "because the server has a tokenizer of its own."
    )
    if not json:
        terminal.print_table(["model", "bits/byte", "scored tokens", "scored bytes"], rows)
