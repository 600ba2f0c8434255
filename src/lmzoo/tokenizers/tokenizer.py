"""The `Tokenizer` class, which serves all kinds of tokenizers; a saved `tokenizer.json` holds what differs.

| kind | tokens                                                    | lossless |
|------|-----------------------------------------------------------|----------|
| char | characters of the training text, and bytes for all others | yes      |
| byte | the 256 bytes of UTF-8                                     | yes      |
| word | frequent words of the training text, and `<unk>` for others | no       |
| bpe  | byte pairs (Sennrich et al. 2016) over bytes               | yes      |

Id 0 is end-of-text (EOT) in every kind. EOT and other special tokens are vocabulary entries that no text can produce.
They are not "added tokens" in the sense of Hugging Face, which searches texts for the spelling of added tokens: here, a
text that contains such a spelling is ordinary text. `lmzoo.tokenizers.foreign` converts tokenizers trained by others;
these may build byte pairs from characters, with bytes for rare characters, and may be lossy. Their kind may be
`wordpiece`, too: parts of words, with "##" before each part that does not begin a word (Schuster and Nakajima 2012).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import tokenizers
from numpy.typing import ArrayLike, NDArray

from lmzoo.checks import check_text
from lmzoo.errors import ConfigurationError, TokenizerError
from lmzoo.stream import EOT, as_id, as_ids, check_ids
from lmzoo.system.files import atomic_file
from lmzoo.system.json_files import read_text
from lmzoo.system.printable import printable
from lmzoo.tokenizers.byte_alphabet import BYTE_OF, byte_entries
from lmzoo.tokenizers.damage import backend_from_json
from lmzoo.tokenizers.segments import Part, SegmentEncoder, cuts_at_white_space, parts
from lmzoo.tokenizers.steps import keeps_all, steps_of

EOT_TEXT = "<|end of text|>"
"""Vocabulary entry of id 0. No text produces this entry: it contains spaces, and no merge creates it."""
UNKNOWN_TEXT = "<unk>"
"""Vocabulary entry for all unknown words. A word of a text that is spelled like this entry is unknown, too."""

_SPECIAL_ENTRY = "<|no text: {}|>"
_BATCH_CHARACTERS = 1 << 20
"""Number of characters encoded at a time: the library's result takes far more memory than the token ids."""


@dataclass(frozen=True)
class Piece:
    """One token of a text with its position. Tokens that share the bytes of one character have the same position."""

    token_id: int
    text: str
    start: int
    """Index of the first character of the token in the text."""
    end: int
    """Index after the last character of the token in the text."""


@final
class Tokenizer:
    """Converts text to token ids and back. It is immutable; `train_tokenizer` and `Tokenizer.load` create one."""

    def __init__(self, backend: tokenizers.Tokenizer, spec: str = "") -> None:
        """Wraps `backend`, a tokenizer of Hugging Face that has EOT as id 0; raises TokenizerError for others.

        `spec` is the specification that the tokenizer was trained with, such as "word:50". If it is empty, the
        specification is inferred from the tokenizer, as far as possible.
        """
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
            raise TokenizerError(f"this tokenizer.json was not written by lmzoo: its id 0 is not '{EOT_TEXT}'")
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise TokenizerError(f"this tokenizer.json is damaged: its {len(vocab)} ids are not 0 to {len(vocab) - 1}")
        for name in ("padding", "truncation"):
            if description[name] is not None:
                raise TokenizerError(f"this tokenizer.json was not written by lmzoo: its '{name}' is not null")
        self.vocab_size: int = backend.get_vocab_size()
        """Number of token ids, EOT and special tokens included."""
        if model["type"] == "WordLevel":
            steps = [step["type"] for step in steps_of(description["pre_tokenizer"])]
            # Before lmzoo had its own definition of words, word-space tokenizers were saved with WhitespaceSplit.
            self.kind, self.spec = "word", "word-space" if steps in (["Split"], ["WhitespaceSplit"]) else "word"
        elif model["type"] == "WordPiece" or model["merges"]:
            self.kind = "wordpiece" if model["type"] == "WordPiece" else "bpe"
            self.spec = f"{self.kind}:{self.vocab_size - len(self.special_tokens)}"
        elif model["byte_fallback"]:
            self.kind, self.spec = "char", "char"
        else:
            self.kind, self.spec = "byte", "byte"
        self.spec = spec or self.spec
        self._in_bytes = any(step["type"] == "ByteLevel" for step in steps_of(description["decoder"]))
        self._marks_spaces = "▁" in json.dumps(description["decoder"], ensure_ascii=False)
        self._prefix: str = model.get("continuing_subword_prefix") or "" if self.kind == "wordpiece" else ""
        self._as_written = {token["content"] for token in added}
        has_all_bytes = all(entry in vocab for entry in byte_entries(in_bytes=self._in_bytes))
        self._has_segments = (
            description["normalizer"] is None
            and not added
            and cuts_at_white_space(steps_of(description["pre_tokenizer"]))
        )
        self.lossless: bool = (
            self.kind != "word"
            and has_all_bytes
            and all(map(keeps_all, steps_of(description["normalizer"]) + steps_of(description["pre_tokenizer"])))
            and {step["type"] for step in steps_of(description["decoder"])} <= {"ByteLevel", "ByteFallback", "Fuse"}
            and not any(token["lstrip"] or token["rstrip"] for token in added)
        )
        """True if decoding gives every text back exactly. If False, a text may still come back: see `alteration`."""
        unknown = (
            UNKNOWN_TEXT if self.kind in ("word", "wordpiece") else "" if has_all_bytes else model["unk_token"] or ""
        )
        self.unknown_id: int | None = backend.token_to_id(unknown)
        """The id of unknown words or characters; None if there are none, or if the vocabulary is closed."""
        self._texts: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<Tokenizer {self.spec}, {self.vocab_size:,} entries>"

    def encode(self, text: str) -> NDArray[np.int32]:
        """Returns the token ids (T,) of a text of T tokens; EOT and other special tokens never occur among them."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Returns the token ids of each text; the texts are encoded in parallel.

        Raises TokenizerError for an unknown word if the vocabulary is closed, that is, has no `<unk>`.
        """
        encoded: list[NDArray[np.int32]] = []
        pending: list[NDArray[np.int32]] = []
        for part, ids in self.encode_parts(texts):
            pending.append(ids)
            if part.is_last:
                encoded.append(np.concatenate(pending) if len(pending) > 1 else ids)
                pending = []
        return encoded

    def encode_parts(self, texts: Iterable[str]) -> Iterator[tuple[Part, NDArray[np.int32]]]:
        """Encodes texts one part at a time, so that the memory needed does not depend on the length of the texts.

        Yields each part with its token ids. A part is a whole text or, if the text has more than a million characters,
        a section of it. Raises TokenizerError for an unknown word if the vocabulary is closed, that is, has no `<unk>`.
        """
        encode = SegmentEncoder(self._encoded).encode if self._has_segments else self._encoded
        for batch in _batches(texts, in_parts=self._has_segments):
            yield from zip(batch, encode([part.text for part in batch]), strict=True)

    def _encoded(self, texts: list[str]) -> list[NDArray[np.int32]]:
        with self._closed_vocabulary(texts):
            encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    @contextmanager
    def _closed_vocabulary(self, texts: list[str]) -> Iterator[None]:
        """Converts an encoding error inside the `with` block to a TokenizerError that names the unknown word.

        Such an error occurs if one of `texts` has a word outside a closed vocabulary, that is, a vocabulary without
        `<unk>`.
        """
        try:
            yield
        except Exception as error:  # the library raises Exception itself
            if self.kind != "word" or self.unknown_id is not None:
                raise
            split = self._backend.pre_tokenizer.pre_tokenize_str
            words = (word for text in texts for word, _ in split(text))
            unknown = next(word for word in words if self._backend.token_to_id(word) is None)
            raise TokenizerError(
                f"the word '{unknown}' is not in the vocabulary, which has no {UNKNOWN_TEXT} for unknown words"
            ) from error

    def decode(self, ids: ArrayLike, *, show_special: bool = False) -> str:
        """Returns the text of token ids. Bytes that are not valid UTF-8 become U+FFFD.

        EOT and other special tokens are omitted, or written as their names if `show_special` is True. Raises
        TokenIdError for ids outside the vocabulary.
        """
        checked = as_ids(np.reshape(ids, -1) if isinstance(ids, np.ndarray) else ids)
        check_ids(checked, self.vocab_size)
        special = self._is_special[checked]
        if not show_special:
            return self._decoded(checked[~special])
        runs = np.split(checked, np.flatnonzero(special[1:] | special[:-1]) + 1)  # a special token is a run of its own
        return "".join(self._special_names.get(int(run[0])) or self._decoded(run) for run in runs if run.size)

    def text_of(self, token_id: int) -> str:
        """Returns the text of one token, as `decode` gives it; each token is decoded only once.

        Raises TokenIdError for an id outside the vocabulary.
        """
        if token_id not in self._texts:
            self._texts[token_id] = self.decode([token_id])
        return self._texts[token_id]

    def _decoded(self, ids: NDArray[np.integer]) -> str:
        return self._backend.decode(ids.tolist(), skip_special_tokens=False)

    def alteration(self, texts: Iterable[str], encoded: Iterable[NDArray[np.int32]]) -> str:
        """Describes the first difference between texts and the texts that their token ids decode to.

        `encoded` holds the token ids of each text. Returns "" if all texts are recovered exactly.
        """
        for number, (text, ids) in enumerate(zip(texts, encoded, strict=True), start=1):
            decoded = self.decode(ids)
            if decoded != text:
                position = next(
                    (i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b), len(decoded)
                )
                lost = ascii(text[position : position + 1])
                return f"document {number} differs after encoding and decoding, from character {position} ({lost}) on"
        return ""

    def pieces(self, text: str) -> list[Piece]:
        """Returns the tokens of a text with their positions in the text."""
        with self._closed_vocabulary([text]):
            encoding = self._backend.encode(valid_text(text), add_special_tokens=False)
        return [
            Piece(token_id, text[start:end] if self.kind == "word" else self.token_text(token_id), start, end)
            for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def token_text(self, token_id: int) -> str:
        """Returns the text of one token for display.

        The text of a special token is its name; bytes of an incomplete character are written as \\xe3.
        """
        token_id = as_id(token_id, self.vocab_size)
        if token_id in self._special_names:
            return self._special_names[token_id]
        if self.kind in ("word", "wordpiece"):
            return self.entries[token_id]
        return self.token_bytes(token_id).decode("utf-8", errors="backslashreplace")

    def token_bytes(self, token_id: int) -> bytes:
        """Returns the UTF-8 bytes of one token, or no bytes for EOT and other special tokens."""
        token_id = as_id(token_id, self.vocab_size)
        entry = self.entries[token_id]
        if token_id in self._special_names:
            return b""
        if self.kind == "word" or entry in self._as_written:
            return entry.encode()
        if self._in_bytes:
            return bytes(map(BYTE_OF.__getitem__, entry))
        if re.fullmatch("<0x[0-9A-F]{2}>", entry):
            return bytes([int(entry[1:-1], 16)])
        return (entry.replace("▁", " ") if self._marks_spaces else entry.removeprefix(self._prefix)).encode()

    @cached_property
    def entries(self) -> list[str]:
        """The V vocabulary entries in the order of their ids, as `tokenizer.json` spells them."""
        vocab = self._backend.get_vocab()
        return sorted(vocab, key=vocab.__getitem__)

    # ---- Special tokens -------------------------------------------------------------------------

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The id of each special token except EOT, by name. No text produces these ids."""
        before, after = _SPECIAL_ENTRY.split("{}")
        return {
            entry[len(before) : -len(after)]: token_id
            for token_id, entry in enumerate(self.entries)
            if entry.startswith(before) and entry.endswith(after)
        }

    @cached_property
    def _special_names(self) -> dict[int, str]:
        return {EOT: EOT_TEXT, **{token_id: name for name, token_id in self.special_tokens.items()}}

    @cached_property
    def _is_special(self) -> NDArray[np.bool_]:
        """(V,): True for the ids of EOT and the other special tokens."""
        is_special = np.zeros(self.vocab_size, bool)
        is_special[list(self._special_names)] = True
        return is_special

    def with_special_tokens(self, names: Sequence[str]) -> Self:
        """Returns a tokenizer with further special tokens, such as "<|user|>"; the ids that exist now do not change.

        The new tokens get the ids from `vocab_size` on, in the given order; `special_tokens` holds them by name. A text
        never produces them: the name of a special token within a text is encoded as ordinary text. Raises
        ConfigurationError for a name that is empty or occurs twice.
        """
        for index, name in enumerate(names):
            if not name:
                raise ConfigurationError("the name of a special token must have at least one character, got ''")
            if name == EOT_TEXT or name in self.special_tokens or name in names[:index]:
                raise ConfigurationError(f"the special token '{name}' exists already: choose another name")
        description = json.loads(self.to_json())
        description["model"]["vocab"] |= {
            special_entry(valid_text(name)): self.vocab_size + index for index, name in enumerate(names)
        }
        return type(self).from_json(json.dumps(description), self.spec)

    # ---- Saving ---------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Returns the tokenizer as JSON in the format of the Hugging Face library; equal tokenizers give equal text."""
        return json.dumps(json.loads(self._backend.to_str()), ensure_ascii=False, indent=1) + "\n"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hash of the tokenizer's JSON text, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes the tokenizer to a JSON file, atomically: after an error, no incomplete file is left."""
        with atomic_file(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path, spec: str = "") -> Self:
        """Loads a tokenizer from a saved `tokenizer.json`; raises TokenizerError if the file is missing or damaged.

        `spec` is the specification that the tokenizer was trained with, such as "word:50", if it is known.
        """
        path = Path(path)
        if not path.is_file():
            raise TokenizerError(f"{path} is missing: a saved predictor or tokenizer must contain this file")
        text = read_text(path, "a tokenizer", TokenizerError)
        try:
            return cls.from_json(text, spec)
        except TokenizerError as error:
            raise TokenizerError(f"{path}: {error}") from error

    @classmethod
    @lru_cache(maxsize=4)  # predictors of one run have the same tokenizer
    def from_json(cls, text: str, spec: str = "") -> Self:
        """Creates a tokenizer from the JSON text that `to_json` returned; raises TokenizerError for other text.

        `spec` is the specification that the tokenizer was trained with, such as "word:50", if it is known.
        """
        return cls(backend_from_json(text), spec)


def _batches(texts: Iterable[str], *, in_parts: bool) -> Iterator[list[Part]]:
    """Groups texts into batches of at least a million characters; only the last batch may have fewer.

    If `in_parts` is True, long texts are cut into parts of about a million characters first.
    """
    batch: list[Part] = []
    size = 0
    for text in map(valid_text, texts):
        for part in parts(text, _BATCH_CHARACTERS) if in_parts else [Part(text, is_last=True)]:
            batch.append(part)
            size += len(part.text)
            if size >= _BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def valid_text(text: str) -> str:
    """Returns the text unchanged; raises UsageError if it is no str, TokenizerError if UTF-8 cannot encode it."""
    check_text(text)
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} of the text is half of a surrogate pair ({text[error.start]!r}), as a byte that "
            "is not UTF-8 becomes one: give a text that is valid Unicode"
        ) from error
    return text


def special_entry(name: str) -> str:
    """Returns the string that stands for the special token `name` in the vocabulary of a tokenizer.

    No text is ever encoded as the special token, not even a text that contains this string.
    """
    return _SPECIAL_ENTRY.format(name)


def visible(token: str) -> str:
    """Returns a token's text for display on one line: visible signs replace white space and control characters."""
    return printable(token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥"), keep="") or "∅"
