"""One tokenizer for all kinds: what is special about each lies in its saved `tokenizer.json`.

| kind | tokens                                                    | lossless |
|------|-----------------------------------------------------------|----------|
| char | characters seen in training, and bytes for all others     | yes      |
| byte | the 256 bytes of UTF-8                                     | yes      |
| word | words seen often enough, and `<unk>` for all others        | no       |
| bpe  | byte pairs (Sennrich et al. 2016) over bytes               | yes      |

Id 0 is end-of-text in every kind. It is an entry of the vocabulary that no text can produce, not an "added token" of
Hugging Face, so text that looks like a special token is text. Tokenizers of others become such ones in
`lmzoo.tokenizers.foreign`; their byte pairs may be over characters with bytes for the rest, and may lose something.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

import tokenizers
from lmzoo.errors import TokenizerError
from lmzoo.stream import EOT, check_ids
from lmzoo.system.files import atomic_file
from lmzoo.system.printable import printable

EOT_TEXT = "<|end of text|>"
"""The entry of id 0. No text gives it: it is longer than a character, has spaces in it, and no merge makes it."""
UNKNOWN_TEXT = "<unk>"
"""The entry of the class of all unknown words. A word of the text that is written so belongs to it."""

_MARK = "<|no text: "
_BATCH_CHARACTERS = 1 << 22
"""Texts are encoded in batches of about this size: Hugging Face's encodings take far more memory than their ids."""


@dataclass(frozen=True)
class Piece:
    """One token of a text. The bytes of one character that fall into several tokens share its place."""

    token_id: int
    text: str
    start: int
    """Position of its first character in the text."""
    end: int


@final
class Tokenizer:
    """Immutable. Make one with `train_tokenizer`, or `load` one."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Takes a Hugging Face tokenizer as this package builds them; TokenizerError for any other."""
        self._backend = backend
        description = json.loads(backend.to_str())
        model: dict[str, Any] = description["model"]
        vocab: Any = model.get("vocab", {})
        added: list[dict[str, Any]] = description["added_tokens"]
        if (
            not isinstance(vocab, dict)
            or vocab.get(EOT_TEXT) != EOT
            or any(token["special"] or token["content"] not in vocab for token in added)
        ):
            raise TokenizerError(f"this tokenizer.json is not one of lmzoo's: its id 0 is not '{EOT_TEXT}'")
        self.vocab_size: int = backend.get_vocab_size()
        if model["type"] == "WordLevel":
            at_space = [step["type"] for step in _steps(description["pre_tokenizer"])] == ["WhitespaceSplit"]
            self.kind, self.spec = "word", "word-space" if at_space else "word"
        elif model["merges"]:
            self.kind, self.spec = "bpe", f"bpe:{self.vocab_size}"
        elif model["byte_fallback"]:
            self.kind, self.spec = "char", "char"
        else:
            self.kind, self.spec = "byte", "byte"
        self._in_bytes = any(step["type"] == "ByteLevel" for step in _steps(description["decoder"]))
        self._marks_spaces = "▁" in json.dumps(description["decoder"], ensure_ascii=False)
        self._as_written = {token["content"] for token in added}
        alphabet = _BYTE_OF if self._in_bytes else [f"<0x{byte:02X}>" for byte in range(256)]
        self.lossless: bool = (
            self.kind != "word"
            and all(entry in vocab for entry in alphabet)
            and all(map(_keeps_all, _steps(description["normalizer"]) + _steps(description["pre_tokenizer"])))
        )
        self.unknown_id: int | None = backend.token_to_id(UNKNOWN_TEXT) if self.kind == "word" else None

    def __repr__(self) -> str:
        return f"Tokenizer({self.spec}, vocab_size={self.vocab_size})"

    def encode(self, text: str) -> NDArray[np.int32]:
        """(T,) ids of a text; EOT is never among them."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The ids of each text, encoded in parallel. TokenizerError for a word outside a closed vocabulary."""
        encoded: list[NDArray[np.int32]] = []
        for batch in _batches(texts):
            with self._closed_vocabulary(batch):
                encodings = self._backend.encode_batch_fast(batch, add_special_tokens=False)
            encoded += [np.array(encoding.ids, np.int32) for encoding in encodings]
        return encoded

    @contextmanager
    def _closed_vocabulary(self, texts: list[str]) -> Iterator[None]:
        """A word tokenizer without `<unk>` has no id for other words: says which one it met."""
        try:
            yield
        except Exception as error:  # the library raises Exception itself
            if self.kind != "word" or self.unknown_id is not None:
                raise
            split = self._backend.pre_tokenizer.pre_tokenize_str
            words = (word for text in texts for word, _ in split(text))
            unknown = next(word for word in words if self._backend.token_to_id(word) is None)
            raise TokenizerError(
                f"'{unknown}' is not in the vocabulary, which is closed: it has no {UNKNOWN_TEXT} for other words"
            ) from error

    def decode(self, ids: ArrayLike) -> str:
        """The text of ids; EOT is nothing, bytes that are no UTF-8 become U+FFFD. TokenIdError for unknown ids."""
        checked = np.asarray(ids, dtype=np.int64).reshape(-1)
        check_ids(checked, self.vocab_size)
        return self._backend.decode(checked[~np.isin(checked, self._silent)].tolist(), skip_special_tokens=False)

    def pieces(self, text: str) -> list[Piece]:
        """The tokens of a text and where they stand in it."""
        with self._closed_vocabulary([text]):
            encoding = self._backend.encode(_checked(text), add_special_tokens=False)
        return [
            Piece(token_id, text[start:end] if self.kind == "word" else self.token_text(token_id), start, end)
            for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def token_text(self, token_id: int) -> str:
        """One token for people: white space as it is, bytes that are no whole character as \\xe3."""
        check_ids(np.array([token_id]), self.vocab_size)
        if self.kind == "word" or token_id in self._silent:
            return self.entries[token_id]
        return self.token_bytes(token_id).decode("utf-8", errors="backslashreplace")

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes that a token stands for; none for EOT."""
        check_ids(np.array([token_id]), self.vocab_size)
        entry = self.entries[token_id]
        if token_id in self._silent:
            return b""
        if self.kind == "word" or entry in self._as_written:
            return entry.encode()
        if self._in_bytes:
            return bytes(map(_BYTE_OF.__getitem__, entry))
        if re.fullmatch("<0x[0-9A-F]{2}>", entry):
            return bytes([int(entry[1:-1], 16)])
        return (entry.replace("▁", " ") if self._marks_spaces else entry).encode()

    @cached_property
    def _silent(self) -> list[int]:
        """Ids that stand for no text: EOT, and the marks of tokenizers of others."""
        return [EOT, *(token_id for token_id, entry in enumerate(self.entries) if entry.startswith(_MARK))]

    @cached_property
    def entries(self) -> list[str]:
        """(V,) vocabulary entries by id, as `tokenizer.json` spells them."""
        vocab = self._backend.get_vocab()
        return sorted(vocab, key=vocab.__getitem__)

    # ---- Saving ---------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The tokenizer as Hugging Face's JSON, always written the same way."""
        return json.dumps(json.loads(self._backend.to_str()), ensure_ascii=False, indent=1) + "\n"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json`, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes `tokenizer.json`, whole or not at all."""
        with atomic_file(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a saved `tokenizer.json`; TokenizerError if it is missing, damaged or of another kind."""
        path = Path(path)
        if not path.is_file():
            raise TokenizerError(f"{path} is missing: a saved predictor or tokenizer has this file")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (TokenizerError, UnicodeDecodeError) as error:
            raise TokenizerError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises Exception itself
            raise TokenizerError(f"this tokenizer.json is damaged: {error}") from error
        return cls(backend)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(_checked(text))
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    yield batch


def _checked(text: str) -> str:
    """The text, if it can be UTF-8 at all."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} of the text is half of a surrogate pair ({text[error.start]!r}), which is no "
            "Unicode text: read files as UTF-8, not with 'surrogateescape'"
        ) from error
    return text


def mark_entry(name: str) -> str:
    """The entry of an id that stands for no text, though a model knows it: no text gives it, as with EOT."""
    return f"{_MARK}{name}|>"


def _steps(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A normalizer, splitter or decoder as the list of what it does, one after the other."""
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    parts = next(value for name, value in component.items() if name != "type")
    return [step for part in parts for step in _steps(part)]


def _keeps_all(step: dict[str, Any]) -> bool:
    """Whether a text can be had back after this step of a normalizer or splitter.

    Texts that differ in one space at their start, or are the same to Unicode (NFC), count as the same.
    """
    match step["type"]:
        case "NFC" | "Prepend" | "ByteLevel" | "Metaspace" | "Digits":
            return True
        case "Replace":
            return step["pattern"] == {"String": " "} and step["content"] == "▁"
        case "Split" | "Punctuation":
            return step["behavior"] != "Removed"
        case _:
            return False


def _byte_characters() -> dict[str, int]:
    """The printable character that byte-level tokenizers write for each byte (Radford et al. 2019)."""
    as_itself = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in as_itself]
    return {chr(byte): byte for byte in as_itself} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _byte_characters()


def visible(token: str) -> str:
    """A token on one line: white space as signs that can be seen, and no characters that command a terminal."""
    return printable(token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥"), keep="") or "∅"
