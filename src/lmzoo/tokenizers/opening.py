"""Opening of tokenizers that exist already, by a file, a folder or the name of an encoding of tiktoken."""

from __future__ import annotations

from pathlib import Path

from lmzoo.errors import ConfigurationError, TokenizerError
from lmzoo.tokenizers.encodings import PREFIX, read_encoding
from lmzoo.tokenizers.foreign import OpenedTokenizer, read_tokenizer

KINDS = ("char", "byte", "word", "word-space", "bpe")
"""The kinds of tokenizers that lmzoo trains; a specification that begins with one of them names no file."""


def check_is_str(spec: object) -> None:
    """Raises ConfigurationError unless the specification of a tokenizer is a str."""
    if not isinstance(spec, str):
        raise ConfigurationError(
            f"a tokenizer must be given as a str, such as 'bpe:4096' or 'folder/tokenizer.json', got {spec!r}"
        )


def open_tokenizer(spec: str) -> OpenedTokenizer | None:
    """Opens the tokenizer that a specification names, or returns None if it names one to train, such as "bpe:4096".

    `spec` is "tiktoken:NAME" with the name of an encoding of tiktoken, such as "tiktoken:cl100k_base", or the path to a
    `tokenizer.json` or to a folder that holds one. A tokenizer that was not trained by lmzoo is converted: the ids of
    end-of-text and of the token with id 0 are swapped, so that end-of-text has id 0, and all other ids stay the same.
    Raises TokenizerError if the file is missing, damaged or of an unknown type, or if the encoding cannot be
    downloaded; UnknownNameError for an unknown encoding; MissingExtraError if tiktoken is not installed; and
    ConfigurationError if `spec` is not a str.
    """
    check_is_str(spec)
    if spec.startswith(PREFIX):
        return read_encoding(spec.removeprefix(PREFIX))
    path = Path(spec)
    if spec.partition(":")[0] in ("", *KINDS) or not (_exists(path) or path.suffix == ".json" or path.name != spec):
        return None
    if not _exists(path):
        raise TokenizerError(
            f"there is no tokenizer at '{spec}': give a tokenizer.json file or a folder that holds one"
        )
    return read_tokenizer(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long, or the folder cannot be read
        return False
