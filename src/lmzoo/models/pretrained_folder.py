"""The files of a model folder of Hugging Face, as `save_pretrained` writes it.

Both readers of such folders use these functions: `lmzoo.models.pretrained`, which evaluates any causal model, and
`lmzoo.interchange.huggingface`, which converts GPT-2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from lmzoo.errors import SavedModelError, TokenizerError
from lmzoo.system.git_lfs import check_no_pointer
from lmzoo.system.json_files import read_text
from lmzoo.tokenizers import Tokenizer, adopt_tokenizer


class SpecialIds(NamedTuple):
    """The ids of the special tokens of a pretrained model, as the model numbers them."""

    start: int
    """Id of the start token, which the model reads before each document."""
    eot: int
    """Id of the end-of-text token, which ends each document."""


def special_ids(path: Path, vocab_size: int, *, eos_token_id: Any, bos_token_id: Any) -> SpecialIds:
    """Determines the ids of the start token and the end-of-text token of a pretrained model.

    `eos_token_id` and `bos_token_id` are the values in the file `config.json` at `path`, and `vocab_size` is the number
    of token ids. The end-of-text token is `eos_token_id`, or its first element if it is a list. The start token is
    `bos_token_id`, or the end-of-text token if that is None. Raises SavedModelError if an id is missing, not a whole
    number, or outside the vocabulary.
    """
    ends = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
    eot = _checked(path, "eos_token_id", ends[0] if ends else None, vocab_size)
    return SpecialIds(eot if bos_token_id is None else _checked(path, "bos_token_id", bos_token_id, vocab_size), eot)


def _checked(path: Path, name: str, token_id: Any, vocab_size: int) -> int:
    if type(token_id) is int and 0 <= token_id < vocab_size:
        return token_id
    role = "ends texts" if name == "eos_token_id" else "starts documents"
    raise SavedModelError(
        f"{path} has {name} {token_id!r}, but the id that {role} must be a whole number from 0 to {vocab_size - 1} "
        "(vocab_size - 1)"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file; raises SavedModelError if the file is missing or holds something else."""
    try:
        description = json.loads(read_text(path, "a configuration or an index of weights"))
    except (ValueError, RecursionError) as error:
        raise SavedModelError(f"{path} is damaged: {error}") from error
    if not isinstance(description, dict):
        raise SavedModelError(f"{path} is damaged: it does not hold a JSON object")
    return description


def read_tokenizer(folder: Path, *, eot_id: int, vocab_size: int) -> Tokenizer:
    """Reads the tokenizer of a pretrained model from its folder.

    `vocab_size` is the number of token ids of the model, and `eot_id` the id of its end-of-text token. Raises
    SavedModelError if the file `tokenizer.json` is missing, and TokenizerError if lmzoo cannot use it.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise SavedModelError(f"{path} is missing: write it with the method save_pretrained of the (fast) tokenizer")
    text = read_text(path, "a tokenizer")
    try:
        return adopt_tokenizer(text, eot_id=eot_id, vocab_size=vocab_size)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def check_safe_weights(folder: Path) -> None:
    """Raises SavedModelError if a folder has no weights in the safetensors format, or if they were not downloaded.

    Pickled weights are not accepted, because a pickle can run any code when it is opened.
    """
    if files := sorted(folder.glob("*.safetensors")):
        for file in files:
            check_no_pointer(file, SavedModelError)
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickled:
        raise SavedModelError(
            f"{folder / pickled[0]} is a pickle, which can run any code when it is opened: convert the weights to "
            "safetensors with save_pretrained of transformers, if you trust their origin"
        )
    raise SavedModelError(f"there are no weights in {folder}: lmzoo needs model.safetensors")
