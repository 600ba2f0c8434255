"""Helpers of the commands that use saved predictors: they find the folders, their names, and the texts to measure."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmzoo.cli import terminal
from lmzoo.system.printable import name_text

if TYPE_CHECKING:
    from lmzoo.evaluation.measured_text import MeasuredSplit, MeasuredText
    from lmzoo.predictor import Predictor
    from lmzoo.stream import TokenStream
    from lmzoo.system.placement import Device

DEFAULT_RUN = Path("runs/quick/predictors")
"""The folder in which `make compare` saves its predictors."""


def default_predictors() -> list[Path]:
    """Returns the folders of the predictors that `make compare` saved, in the order of `zoo.names()`.

    If there are none, returns the names of the predictors that come with lmzoo, without its chat models.
    """
    from lmzoo.models.shipped import shipped_text_models

    saved = [path.parent for path in DEFAULT_RUN.glob("*/predictor.json")]
    return _in_order(saved) or [Path(name) for name in shipped_text_models()]


def _in_order(folders: Sequence[Path]) -> list[Path]:
    """Returns the folders of predictors in the order of `zoo.names()`; those with other names follow."""
    from lmzoo import zoo

    return sorted(folders, key=lambda folder: zoo.place(folder.name))


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """Returns short names of folders, with as many parent folders in each name as make it differ from the others."""
    paths = [Path(os.path.realpath(folder)) for folder in folders]  # accepts a link to itself, as `resolve` does not

    def name(path: Path) -> str:
        n_parts = 1
        while any(other != path and other.parts[-n_parts:] == path.parts[-n_parts:] for other in paths):
            n_parts += 1
        return name_text("/".join(path.parts[-n_parts:]))

    return [name(path) for path in paths]


def served(places: Sequence[Path]) -> dict[str, Path]:
    """Returns the predictors to serve: the path of each, by name.

    Each of `places` is a folder of a predictor, a GGUF file, a name that `Predictor.load` takes, or a run folder, which
    stands for all its predictors. Without places, they are the predictors that come with lmzoo. Raises SavedModelError
    if a place is no predictor.
    """
    from lmzoo.models.shipped import shipped_names
    from lmzoo.predictor_folder import find_predictor

    sources: list[Path] = []
    for place in places or [Path(name) for name in shipped_names()]:
        in_run = [path.parent for path in (place / "predictors").glob("*/predictor.json")]
        sources += _in_order(in_run) or [place]
    paths = [find_predictor(source) for source in sources]
    return dict(zip(distinct_names(sources), paths, strict=True))


def load_predictor(source: Path, name: str, device: Device = "cpu") -> Predictor:
    """Loads a predictor and shows progress meanwhile, because the first load of a GGUF file takes a minute or more.

    `source` is a folder, a GGUF file or the name of an installed model; `name` is shown beside the progress bar.
    """
    from lmzoo.predictor import Predictor

    with terminal.progress(f"loading {name}"):
        return Predictor.load(source, device=device)


def text_finder(
    folders: Sequence[Path], corpus: str | None, split: MeasuredSplit | None, default: Literal["valid", "test"]
) -> Callable[[Predictor], MeasuredText]:
    """Returns a function that takes a predictor and returns the text on which the predictor is measured.

    If `corpus` is given, the text is the same for all predictors, which are saved in `folders`. Otherwise, each
    predictor is measured on a split of its own training corpus. `split` names the split; None stands for the split
    `default`.
    """
    from lmzoo.evaluation.measured_text import MeasuredText
    from lmzoo.predictor_folder import training_fingerprint

    def of_predictor(predictor: Predictor) -> MeasuredText:
        with terminal.progress("reading the text") as on_progress:
            return MeasuredText.of_predictor(predictor, split, default, on_progress)

    if corpus is None:
        return of_predictor
    trained_on = {training_fingerprint(folder) for folder in folders} - {None}
    with terminal.progress("reading the text") as on_progress:
        text = MeasuredText.of_corpus(corpus, trained_on, split, default, on_progress)
    return lambda _: text


def read_stream(name: str, predictor: Predictor, text: MeasuredText) -> TokenStream:
    """Returns a text as token ids of a predictor, and prints a note if the predictor has seen much of it in training.

    `name` is the name of the predictor in the note.
    """
    from lmzoo.corpora.training_sample import MUCH_SEEN

    stream = text.encode(predictor).stream
    sample = predictor.training_sample
    seen = sample and sample.share_in(stream)
    if seen and seen >= MUCH_SEEN:
        terminal.note(f"{name}: about {seen:.0%} of this text also occurs in the training text.")
    return stream


def note_texts(texts: Sequence[MeasuredText]) -> None:
    """Prints the name and the split of each different text that was measured."""
    for line in dict.fromkeys(text.described for text in texts):
        terminal.note(f"Text: {line}.")
