"""The command `lmzoo tokenize`, which shows how tokenizers split a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput
from lmzoo.system.counts import counted

if TYPE_CHECKING:
    from rich.text import Text

    from lmzoo.tokenizers import OpenedTokenizer, Piece, Tokenizer

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

    A small vocabulary gives long token sequences; a large vocabulary has many tokens that are rare in training. For a
    tokenizer of Hugging Face or an encoding of tiktoken, the ids are those that its own library gives. (A model of
    this program that is trained with such a tokenizer uses the same ids, except that id 0 and the id of end-of-text
    are exchanged.)

    Example: lmzoo tokenize "Let there be light." -t char -t bpe:4096 -t tiktoken:cl100k_base

    Parameters
    ----------
    text
        The text to split; - reads standard input.
    tokenizers
        A tokenizer to train on the corpus: char, byte, word:N (words that occur at least N times), word-space:N (the
        same, split at spaces, tabs and line ends only) or bpe:SIZE (byte pairs, SIZE tokens). Or an existing one: a
        tokenizer.json file, a folder that holds one, such as a saved predictor or a model of Hugging Face, the name of
        a predictor that comes with lmzoo, such as ngram, or tiktoken:NAME, such as tiktoken:cl100k_base (needs the
        extra lmzoo[tiktoken]). May be repeated. Default: char, byte, word, bpe:1024 and bpe:4096.
    file
        Read the text from this file instead.
    corpus
        The corpus on whose train split the tokenizers are trained: a name from `lmzoo corpus list`, or your own text
        (a file, a folder, or a glob pattern).
    json
        Print one JSON object per tokenizer.
    """
    text = _text(text, file)
    for name, opened in _tokenizers(tokenizers or list(_DEFAULT_SPECS), corpus):
        pieces = opened.tokenizer.pieces(text)
        ids = [opened.original_id(piece.token_id) for piece in pieces]
        figures = _figures(text, pieces, opened.tokenizer)
        if json:
            terminal.print_json(
                {
                    "tokenizer": name,
                    **figures,
                    "pieces": [piece.text for piece in pieces],
                    "ids": ids,
                }
            )
        else:
            _show(name, pieces, ids, figures)


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


def _tokenizers(names: list[str], corpus: str) -> list[tuple[str, OpenedTokenizer]]:
    from functools import cache

    from lmzoo.corpora import load_corpus
    from lmzoo.models.shipped import shipped_or_path
    from lmzoo.stream import EOT
    from lmzoo.tokenizers import OpenedTokenizer, open_tokenizer, train_tokenizer

    @cache  # the corpus is read once, and only if a tokenizer has to be trained
    def texts() -> list[str]:
        return [document.text for document in load_corpus(corpus).train]

    tokenizers = []
    for name in names:
        with terminal.progress(f"opening {name}"):
            opened = open_tokenizer(str(shipped_or_path(name)))
        if opened is None:
            with terminal.progress(f"training {name}") as on_progress:
                opened = OpenedTokenizer(train_tokenizer(name, texts(), on_progress=on_progress), EOT)
        tokenizers.append((name, opened))
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


def _show(name: str, pieces: list[Piece], ids: list[int], figures: dict[str, float]) -> None:
    from rich.text import Text

    unknown = f" ({figures['n_unknown']:,} unknown)" if figures["n_unknown"] else ""
    head = (
        f"{counted(len(pieces), 'token')}{unknown}, "
        f"{figures['characters_per_token']:.2f} characters and {figures['bytes_per_token']:.2f} bytes per token, "
        f"vocabulary of {figures['vocab_size']:,}"
    )
    console = terminal.stdout()
    console.print(Text.assemble((f"{name:<11} ", "bold"), (head, "dim")))
    shown = pieces[:_MAX_SHOWN]
    console.print(_coloured(shown))
    console.print(Text(" ".join(map(str, ids[:_MAX_SHOWN])), style="dim"))
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
