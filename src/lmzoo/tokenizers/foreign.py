"""Tokenizers that others trained, brought to the rules of this package.

A tokenizer of Hugging Face has its end of text anywhere, adds marks to texts, and finds marks in them. Here, id 0 is
end-of-text, a text is encoded as it is, and no text gives a mark. So ids 0 and end-of-text change places, and entries
that are marks get a spelling that no text has. All other ids, and the tokens of a text, stay what they were.
"""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from lmzoo.errors import TokenizerError
from lmzoo.stream import EOT
from lmzoo.tokenizers.tokenizer import EOT_TEXT, UNKNOWN_TEXT, Tokenizer, mark_entry


def adopt_tokenizer(text: str, *, eot_id: int, vocab_size: int) -> Tokenizer:
    """A foreign `tokenizer.json` as one of ours, for a model with `vocab_size` ids of which `eot_id` is end-of-text.

    Ids 0 and `eot_id` change places. Ids of the model that the file does not name become marks. TokenizerError if it
    is damaged, does not fit the model, or is neither byte pairs nor words.
    """
    try:
        description: dict[str, Any] = json.loads(tokenizers.Tokenizer.from_str(text).to_str())
    except Exception as error:  # the library raises Exception itself
        raise TokenizerError(f"this tokenizer.json is damaged: {error}") from error
    model, added = description["model"], description["added_tokens"]
    if model["type"] not in ("BPE", "WordLevel"):
        raise TokenizerError(f"this tokenizer.json is of type {model['type']}; lmzoo reads BPE and WordLevel")

    named: dict[int, str] = {token_id: entry for entry, token_id in model["vocab"].items()}
    named |= {token["id"]: token["content"] for token in added}
    marks = {token["id"] for token in added if token["special"]}
    unknown_id = model["vocab"].get(model["unk_token"])
    if not 0 <= eot_id < vocab_size or eot_id not in named:
        raise TokenizerError(f"this tokenizer.json has no id {eot_id}, which ends texts for its model")
    beyond = sorted(token_id for token_id in named if token_id >= vocab_size and token_id not in marks)
    if beyond:
        raise TokenizerError(f"this tokenizer.json has id {beyond[0]}, and its model knows {vocab_size} ids only")

    def spelled(token_id: int) -> str:
        if token_id == eot_id:
            return EOT_TEXT
        if token_id == unknown_id and model["type"] == "WordLevel":
            return UNKNOWN_TEXT
        if token_id not in named or token_id in marks:
            return mark_entry(named.get(token_id, str(token_id)))
        return named[token_id]

    entries = [spelled(token_id) for token_id in range(vocab_size)]
    if unknown_id is not None:
        model["unk_token"] = entries[unknown_id]
    entries[EOT], entries[eot_id] = entries[eot_id], entries[EOT]
    model["vocab"] = {entry: token_id for token_id, entry in enumerate(entries)}
    if len(model["vocab"]) != vocab_size:
        raise TokenizerError("this tokenizer.json has two ids for one entry")
    model["dropout"] = None  # of byte pairs: it is for training
    description |= {
        "added_tokens": [
            {**token, "id": model["vocab"][token["content"]]} for token in added if token["id"] not in {*marks, eot_id}
        ],
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    return Tokenizer.from_json(json.dumps(description))
