"""Conversion of Hugging Face tokenizers that others trained.

A Hugging Face tokenizer may give end-of-text (EOT) any id, adds special tokens to texts, and recognises the spelling of
special tokens within texts. In lmzoo, EOT has id 0, nothing is added to a text, and no text produces a special token.
The conversion therefore exchanges the ids of EOT and of the token with id 0, and gives special tokens a spelling that
no text can produce. All other ids, and the tokens of a text, do not change.

A byte-level tokenizer may lack bytes that did not occur in its training text, and then leaves these bytes out of a text
silently. Here, each missing byte gets the id of a special token, so that no part of a text is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lmzoo.errors import TokenizerError
from lmzoo.stream import EOT
from lmzoo.system.json_files import read_text
from lmzoo.tokenizers.byte_alphabet import byte_entries
from lmzoo.tokenizers.damage import backend_from_json
from lmzoo.tokenizers.tokenizer import EOT_TEXT, UNKNOWN_TEXT, Tokenizer, special_entry

_EOT_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "<|im_end|>", "[EOS]", "[SEP]")
"""Usual names of the end-of-text token, in the order in which they are searched in a file."""


class OpenedTokenizer(NamedTuple):
    """A tokenizer that was read from a file or from `tiktoken`, with the original id of its end-of-text token."""

    tokenizer: Tokenizer
    eot_id: int
    """Id of end-of-text before the conversion, which exchanged it with id 0; 0 for a tokenizer that lmzoo saved."""

    def original_id(self, token_id: int) -> int:
        """Returns the id that a token of `tokenizer` had before the conversion, as its own library numbers it."""
        return {EOT: self.eot_id, self.eot_id: EOT}.get(token_id, token_id)


def read_tokenizer(path: Path) -> OpenedTokenizer:
    """Reads a `tokenizer.json` that lmzoo or the Hugging Face library saved; all others are converted.

    `path` is the file or the folder that holds it. The end-of-text token of a converted tokenizer is the special token
    with one of the usual names, such as "<|endoftext|>" or "</s>"; without one, end-of-text gets an id of its own after
    all others. Raises TokenizerError if the file is missing or damaged, or of another type than BPE, WordLevel and
    WordPiece.
    """
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        return OpenedTokenizer(Tokenizer.load(path), EOT)  # raises TokenizerError
    text = read_text(path, "a tokenizer", TokenizerError)
    try:
        description: dict[str, Any] = json.loads(backend_from_json(text).to_str())
        if _is_own(description):
            return OpenedTokenizer(Tokenizer.from_json(text), EOT)
        return convert(description)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def _is_own(description: dict[str, Any]) -> bool:
    """Returns True if lmzoo wrote a `tokenizer.json`, given as parsed JSON."""
    vocab = description["model"]["vocab"]
    return isinstance(vocab, dict) and vocab.get(EOT_TEXT) == EOT


def convert(description: dict[str, Any], spec: str = "") -> OpenedTokenizer:
    """Converts a tokenizer that need not belong to a model, given as parsed `tokenizer.json`, which is modified.

    `spec` is the name of the tokenizer; if it is empty, the name is inferred from the tokenizer. Raises TokenizerError
    if the type of the tokenizer is not BPE, WordLevel or WordPiece.
    """
    _check_type(description, "BPE", "WordLevel", "WordPiece")
    model = description["model"]
    if model["type"] == "WordPiece" and model["unk_token"] not in model["vocab"]:
        raise TokenizerError(f"this tokenizer.json has no token '{model['unk_token']}' for unknown words")
    special = {token["content"]: token["id"] for token in description["added_tokens"] if token["special"]}
    n_ids = max(_named(description), default=-1) + 1
    eot_id = end_of_text(special, n_ids)
    return OpenedTokenizer(_converted(description, eot_id, max(n_ids, eot_id + 1), spec), eot_id)


def end_of_text(special: Mapping[str, int], n_ids: int) -> int:
    """Returns the id of the special token with a usual name of end-of-text, or the new id `n_ids` if there is none.

    `special` holds the ids of the special tokens by name, and `n_ids` is the number of ids of the tokenizer.
    """
    return next((special[name] for name in _EOT_NAMES if name in special), n_ids)


def adopt_tokenizer(text: str, *, eot_id: int, vocab_size: int) -> Tokenizer:
    """Converts the text of a Hugging Face `tokenizer.json` to a Tokenizer, for a model with `vocab_size` token ids.

    `eot_id` is the id of the model's end-of-text token; it is exchanged with id 0. Ids of the model that the file does
    not name become special tokens. Raises TokenizerError if the file is damaged, does not fit the model, or holds
    neither byte pairs (BPE) nor words (WordLevel).
    """
    description: dict[str, Any] = json.loads(backend_from_json(text).to_str())
    _check_type(description, "BPE", "WordLevel")
    named = _named(description)
    special = {token["id"] for token in description["added_tokens"] if token["special"]}
    if not 0 <= eot_id < vocab_size or eot_id not in named:
        raise TokenizerError(f"this tokenizer.json has no token with id {eot_id}, the end-of-text id of its model")
    beyond = sorted(token_id for token_id in named if token_id >= vocab_size and token_id not in special)
    if beyond:
        raise TokenizerError(
            f"this tokenizer.json has a token with id {beyond[0]}, but its model has only {vocab_size} ids"
        )
    return _converted(description, eot_id, vocab_size)


def _check_type(description: dict[str, Any], *allowed: str) -> None:
    kind = description["model"]["type"]
    if kind not in allowed:
        readable = f"{', '.join(allowed[:-1])} and {allowed[-1]}"
        raise TokenizerError(f"this tokenizer.json has a model of type {kind}; lmzoo can read {readable}")


def _named(description: dict[str, Any]) -> dict[int, str]:
    """Returns the vocabulary entries and added tokens of a parsed `tokenizer.json`, by id."""
    named = {token_id: entry for entry, token_id in description["model"]["vocab"].items()}
    return named | {token["id"]: token["content"] for token in description["added_tokens"]}


def _converted(description: dict[str, Any], eot_id: int, vocab_size: int, spec: str = "") -> Tokenizer:
    """Converts a parsed `tokenizer.json` to a Tokenizer with `vocab_size` ids; `description` is modified.

    `eot_id` is the original id of end-of-text, and `spec` the name of the tokenizer, or "" to infer it.
    """
    model, added = description["model"], description["added_tokens"]
    named = _named(description)
    special = {token["id"] for token in added if token["special"]}
    unknown_id = model["vocab"].get(model["unk_token"])

    def entry_of(token_id: int) -> str:
        if token_id == eot_id:
            return EOT_TEXT
        if token_id == unknown_id and model["type"] != "BPE":
            return UNKNOWN_TEXT
        if token_id not in named or token_id in special:
            return special_entry(named.get(token_id, str(token_id)))
        return named[token_id]

    entries = [entry_of(token_id) for token_id in range(vocab_size)]
    spare = [
        token_id
        for token_id in reversed(range(vocab_size))
        if (token_id in special or token_id not in named) and token_id not in (eot_id, unknown_id)
    ]
    present = {*entries}
    missing = [entry for entry in _needed_bytes(description) if entry not in present]
    if len(missing) <= len(spare):
        for token_id, entry in zip(spare, missing, strict=False):
            entries[token_id] = entry
    if unknown_id is not None:
        model["unk_token"] = entries[unknown_id]
    entries[EOT], entries[eot_id] = entries[eot_id], entries[EOT]
    model["vocab"] = {entry: token_id for token_id, entry in enumerate(entries)}
    if len(model["vocab"]) != vocab_size:
        raise TokenizerError("this tokenizer.json gives two ids to the same entry")
    model["dropout"] = None  # random byte pairs are for training only
    description |= {
        "added_tokens": [
            {**token, "id": model["vocab"][token["content"]]}
            for token in added
            if token["id"] not in {*special, eot_id}
        ],
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    return Tokenizer.from_json(json.dumps(description), spec)


def _needed_bytes(description: dict[str, Any]) -> list[str]:
    """Returns the vocabulary entries of all bytes that texts contain, or [] if the tokenizer does not encode bytes.

    `description` is the parsed `tokenizer.json`.
    """
    in_bytes = '"ByteLevel"' in json.dumps(description["decoder"])
    return byte_entries(in_bytes=in_bytes) if in_bytes or description["model"].get("byte_fallback") else []
