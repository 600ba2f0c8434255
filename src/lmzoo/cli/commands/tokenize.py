"""`lmzoo tokenize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput

if TYPE_CHECKING:
    from rich.text import Text

    from lmzoo.tokenizers import Piece, Tokenizer

_DEFAULT_SPECS = ("char", "byte", "word", "bpe:1024", "bpe:4096")
_COLOURS = ("on dark_blue", "on dark_green", "on purple4", "on dark_red")
_MAX_SHOWN = 200
"""Maximum number of pieces printed per tokenizer; the counts include all pieces."""


def tokenize(
    text: OrStandardInput | None = None,
    *,
    tokenizers: Annotated[list[str] | None, Parameter(name=["--tokenizer", "-t"])] = None,
    file: Path | None = None,
    corpus: OrStandardInput = "kjv",
    json: bool = False,
) -> None:
    """Shows how tokenizers split a text into tokens, with token ids and counts.

    A small vocabulary gives long token sequences; a large vocabulary has many tokens that are rare in training.

    Example: lmzoo tokenize "Let there be light." -t char -t bpe:4096

    Parameters
    ----------
    text
        The text to split; - reads standard input.
    tokenizers
        A tokenizer to train on the corpus: char, byte, word:N (words that occur at least N times), word-space:N (the
        same, split at spaces, tabs and line ends only) or bpe:SIZE (byte pairs, SIZE tokens). Or a tokenizer.json file,
        or the folder of a saved predictor. May be repeated. Default: char, byte, word, bpe:1024 and bpe:4096.
    file
        Read the text from this file instead.
    corpus
        The corpus on whose train split the tokenizers are trained: a name from `lmzoo corpus list`, or your own text
        (a file, a folder, or a glob pattern).
    json
        Print one JSON object per tokenizer.
    """
    text = _text(text, file)
    for name, tokenizer in _tokenizers(tokenizers or list(_DEFAULT_SPECS), corpus):
        pieces = tokenizer.pieces(text)
        figures = _figures(text, pieces, tokenizer)
        if json:
            terminal.print_json(
                {
                    "tokenizer": name,
                    **figures,
                    "pieces": [piece.text for piece in pieces],
                    "ids": [piece.token_id for piece in pieces],
                }
            )
        else:
            _show(name, pieces, figures)


def _text(text: str | None, file: Path | None) -> str:
    """Returns the text to split, read from the argument, the file or standard input.

    Raises UsageError unless exactly one of `text` and `file` is given.
    """
    from lmzoo.corpora.text_files import read_standard_input, read_text
    from lmzoo.errors import UsageError

    if (text is None) == (file is None):
        raise UsageError('give either a text or --file FILE: lmzoo tokenize "some text"')
    if file is not None:
        return read_text(file)
    return read_standard_input() if text == "-" else text or ""


def _tokenizers(names: list[str], corpus: str) -> list[tuple[str, Tokenizer]]:
    from functools import cache

    from lmzoo.corpora import load_corpus
    from lmzoo.tokenizers import Tokenizer, train_tokenizer

    @cache  # the corpus is read once, and only if a tokenizer has to be trained
    def texts() -> list[str]:
        return [document.text for document in load_corpus(corpus).train]

    tokenizers = []
    for name in names:
        path = Path(name)
        if path.is_dir() or path.suffix == ".json":
            tokenizers.append((name, Tokenizer.load(path / "tokenizer.json" if path.is_dir() else path)))
        else:
            with terminal.progress(f"training {name}") as on_progress:
                tokenizers.append((name, train_tokenizer(name, texts(), on_progress=on_progress)))
    return tokenizers


def _figures(text: str, pieces: list[Piece], tokenizer: Tokenizer) -> dict[str, float]:
    n_tokens = len(pieces)
    return {
        "vocab_size": tokenizer.vocab_size,
        "n_tokens": n_tokens,
        "characters_per_token": len(text) / n_tokens if n_tokens else 0.0,
        "bytes_per_token": len(text.encode()) / n_tokens if n_tokens else 0.0,
        "n_unknown": sum(piece.token_id == tokenizer.unknown_id for piece in pieces),
    }


def _show(name: str, pieces: list[Piece], figures: dict[str, float]) -> None:
    from rich.text import Text

    unknown = f", {figures['n_unknown']:,} unknown" if figures["n_unknown"] else ""
    head = (
        f"{figures['n_tokens']:,} tokens of {figures['vocab_size']:,}, "
        f"{figures['characters_per_token']:.2f} characters or {figures['bytes_per_token']:.2f} bytes each{unknown}"
    )
    console = terminal.stdout()
    console.print(Text.assemble((f"{name:<12}", "bold"), (head, "dim")))
    shown = pieces[:_MAX_SHOWN]
    console.print(_coloured(shown))
    console.print(Text(" ".join(str(piece.token_id) for piece in shown), style="dim"))
    if len(pieces) > _MAX_SHOWN:
        console.print(Text(f"... and {len(pieces) - _MAX_SHOWN:,} more", style="dim"))
    console.print()


def _coloured(pieces: list[Piece]) -> Text:
    """Returns the pieces on backgrounds of alternating colours; a terminal without colours gets `|` between them."""
    from rich.text import Text

    from lmzoo.tokenizers import visible

    plain = terminal.stdout().color_system is None
    shown = Text()
    for number, piece in enumerate(pieces):
        shown.append(visible(piece.text), style="" if plain else f"white {_COLOURS[number % len(_COLOURS)]}")
        if plain and number + 1 < len(pieces):
            shown.append("|")
    return shown
