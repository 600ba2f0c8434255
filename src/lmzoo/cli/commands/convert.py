"""The command `lmzoo convert`, which converts predictors to files of other programs, and such files to predictors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmzoo.cli import terminal

if TYPE_CHECKING:
    from lmzoo.predictor import Predictor


def convert(source: Path, target: Path, *, tokenizer: Path | None = None, json: bool = False) -> None:
    """Converts a saved predictor to the files of another toolkit, or such files to a predictor.

    An n-gram predictor becomes an ARPA file (as used by KenLM, SRILM and others), and a gpt2 predictor becomes a model
    folder of Hugging Face transformers. The type of SOURCE decides the direction.

    Example: lmzoo convert model.arpa.gz runs/mine

    Example: lmzoo convert runs/mine model.arpa

    Example: lmzoo convert runs/gpt2 hf/gpt2

    Parameters
    ----------
    source
        An ARPA file (it may be compressed by gzip), the folder of a GPT-2 model of Hugging Face transformers, the
        folder of a saved predictor, or the name of one that comes with lmzoo, such as ngram.
    target
        The folder for the predictor. If it already holds a predictor, the files of that predictor are replaced, and
        all other files stay. If SOURCE is a predictor, TARGET is the new ARPA file (compressed if its name ends in .gz)
        or the new model folder.
    tokenizer
        A saved predictor or tokenizer.json whose tokens are the words of the ARPA file. Default: a tokenizer that
        splits text into words of the file, as word-space does.
    json
        Print the target and its size as one JSON object.
    """
    from lmzoo.errors import UsageError
    from lmzoo.models.shipped import shipped_or_path
    from lmzoo.predictor_folder import check_folder

    source = shipped_or_path(source)
    is_saved = (source / "predictor.json").is_file()
    if source.is_dir() and tokenizer:
        raise UsageError(f"--tokenizer is for ARPA files only: the folder {source} contains its tokenizer")
    if is_saved or (source.is_dir() and not (source / "config.json").is_file()):
        predictor = _export(source, target)
    else:
        check_folder(target)
        predictor = _read_huggingface(source) if source.is_dir() else _read_arpa(source, tokenizer)
        predictor.save(target)
    sizes, text = _size_summary(predictor)
    if json:
        terminal.print_json({"target": str(target), "vocab_size": predictor.tokenizer.vocab_size, **sizes})
    else:
        terminal.note(f"{text}, written to {target}")


def _export(source: Path, target: Path) -> Predictor:
    """Writes a saved predictor as the file or folder of another toolkit, and returns the predictor."""
    from lmzoo.errors import UsageError
    from lmzoo.predictor import Predictor

    predictor = Predictor.load(source)
    if target.exists():
        raise UsageError(f"{target} already exists and was not changed: choose a new name")
    with terminal.progress(f"writing {target}") as on_progress:
        if predictor.species == "gpt2" and ".arpa" not in target.suffixes:
            from lmzoo.interchange.huggingface import predictor_to_huggingface

            predictor_to_huggingface(predictor, target)
        else:
            from lmzoo.interchange.arpa import predictor_to_arpa

            predictor_to_arpa(predictor, target, on_progress=on_progress)
    return predictor


def _read_huggingface(source: Path) -> Predictor:
    from lmzoo.interchange.huggingface import predictor_from_huggingface

    with terminal.progress(f"reading {source}"):
        return predictor_from_huggingface(source)


def _read_arpa(source: Path, tokenizer: Path | None) -> Predictor:
    from lmzoo.errors import UsageError
    from lmzoo.interchange.arpa import predictor_from_arpa
    from lmzoo.models.shipped import shipped_or_path
    from lmzoo.tokenizers import Tokenizer

    given = None
    if tokenizer:
        path = shipped_or_path(tokenizer)
        if not path.exists():
            raise UsageError(f"there is no tokenizer at {tokenizer}: give a predictor or a tokenizer.json")
        given = Tokenizer.load(path / "tokenizer.json" if path.is_dir() else path)
    with terminal.progress(f"reading {source}") as on_progress:
        predictor = predictor_from_arpa(source, tokenizer=given, on_progress=on_progress)
    error = predictor.provenance.largest_sum_error
    if error is not None and error > 1e-3:
        terminal.note(f"{source}: some distributions do not sum to 1 (by up to {error}); they are kept unchanged")
    return predictor


def _size_summary(predictor: Predictor) -> tuple[dict[str, object], str]:
    """Returns the size of a predictor: as fields of a JSON object, and as text."""
    from lmzoo.models.ngram import NgramModel

    model = predictor.model
    if isinstance(model, NgramModel):
        return {"n_ngrams": model.n_ngrams}, f"{sum(model.n_ngrams):,} n-grams up to order {len(model.n_ngrams)}"
    return {"n_parameters": model.n_parameters}, f"{model.n_parameters:,} parameters"
