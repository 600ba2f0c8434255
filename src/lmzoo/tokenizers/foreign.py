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
from typing import Any

from lmzoo.errors import TokenizerError
from lmzoo.stream import EOT
from lmzoo.tokenizers.byte_alphabet import byte_entries
from lmzoo.tokenizers.damage import backend_from_json
from lmzoo.tokenizers.tokenizer import EOT_TEXT, UNKNOWN_TEXT, Tokenizer, special_entry


def adopt_tokenizer(text: str, *, eot_id: int, vocab_size: int) -> Tokenizer:
    """Converts the text of a Hugging Face `tokenizer.json` to a Tokenizer, for a model with `vocab_size` token ids.

    `eot_id` is the id of the model's end-of-text token; it is exchanged with id 0. Ids of the model that the file does
    not name become special tokens. Raises TokenizerError if the file is damaged, does not fit the model, or holds
    neither byte pairs (BPE) nor words (WordLevel).
    """
    description: dict[str, Any] = json.loads(backend_from_json(text).to_str())
    model, added = description["model"], description["added_tokens"]
    if model["type"] not in ("BPE", "WordLevel"):
        raise TokenizerError(
            f"this tokenizer.json has a model of type {model['type']}; lmzoo can read BPE and WordLevel"
        )

    named: dict[int, str] = {token_id: entry for entry, token_id in model["vocab"].items()}
    named |= {token["id"]: token["content"] for token in added}
    special = {token["id"] for token in added if token["special"]}
    unknown_id = model["vocab"].get(model["unk_token"])
    if not 0 <= eot_id < vocab_size or eot_id not in named:
        raise TokenizerError(f"this tokenizer.json has no token with id {eot_id}, the end-of-text id of its model")
    beyond = sorted(token_id for token_id in named if token_id >= vocab_size and token_id not in special)
    if beyond:
        raise TokenizerError(
            f"this tokenizer.json has a token with id {beyond[0]}, but its model has only {vocab_size} ids"
        )

    def entry_of(token_id: int) -> str:
        if token_id == eot_id:
            return EOT_TEXT
        if token_id == unknown_id and model["type"] == "WordLevel":
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
    missing = [entry for entry in _needed_bytes(description) if entry not in {*entries}]
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
    return Tokenizer.from_json(json.dumps(description))


def _needed_bytes(description: dict[str, Any]) -> list[str]:
    """Returns the vocabulary entries of all bytes that texts contain, or [] if the tokenizer does not encode bytes.

    `description` is the parsed `tokenizer.json`.
    """
    in_bytes = '"ByteLevel"' in json.dumps(description["decoder"])
    return byte_entries(in_bytes=in_bytes) if in_bytes or description["model"].get("byte_fallback") else []
