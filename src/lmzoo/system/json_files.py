"""Reading of JSON that comes from outside: its size, nesting and types are checked before any other code sees it.

The checks raise ValueError with a message of one line; the caller adds the name of the file and raises its own error.
Dataclasses describe the expected types. Pydantic compares the JSON with them and converts nothing: "5" is not a number.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any, TypeVar

from lmzoo.errors import LmzooError, SavedModelError
from lmzoo.system.git_lfs import check_no_pointer
from lmzoo.system.printable import printable

Kind = TypeVar("Kind")

MAX_DEPTH = 64
"""Largest number of lists and objects inside each other."""
_MAX_SHOWN = 60
_MAX_NAME_BYTES = 200
"""UTF-8 bytes of a name that becomes a file name; suffixes and the names of temporary files need the rest of 255."""


def parse_json(text: str) -> Any:
    """Parses JSON text.

    Raises ValueError for text that is not JSON, for NaN and infinite numbers, for integers of more than 64 bits, and
    for more than 64 lists and objects inside each other.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [part for outer in level if isinstance(outer, list | dict) for part in _parts(outer)]
    if level:
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} deep"


def _parts(outer: list[Any] | dict[str, Any]) -> Any:
    return outer.values() if isinstance(outer, dict) else outer


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"the integer {_short(digits)} needs more than 64 bits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{_short(digits)} is not a finite number")
    return number


def parse_as(kind: type[Kind], text: str) -> Kind:
    """Parses JSON text as an instance of the dataclass `kind`; unknown fields are ignored.

    Raises ValueError as `parse_json` does, and for a missing field or a value of another type.
    """
    parse_json(text)
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValueError as error:  # pydantic's ValidationError is one
        raise ValueError(_first_error(error)) from error


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter  # imported here, because the import takes a tenth of a second

    return TypeAdapter(kind)


def _first_error(error: Any) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"the field '{printable(field)}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    named = f"'{printable(field)}': " if field else ""
    return f"{named}{message[:1].lower()}{message[1:]}, got {_short(repr(first['input']))}"


def _short(text: str) -> str:
    """Prepares a text for an error message: replaces control characters, and shortens a long text."""
    return printable(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...", keep="")


def read_text(path: Path, what: str, error: type[LmzooError] = SavedModelError) -> str:
    """Returns the text of a UTF-8 file; raises the exception class `error` if the file cannot be read.

    `what` describes the expected content of the file, for the error message.
    """
    check_no_pointer(path, error)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as cause:
        raise error(f"{path} does not hold {what}: it is not UTF-8") from cause
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror or cause}") from cause


def check_name(name: str) -> str:
    """Returns the name unchanged if it can be used as the name of a file or folder.

    Raises ValueError if the name is empty, too long, "." or "..", or holds a path separator or a control character.
    """
    if name in ("", ".", "..") or any(mark in name for mark in "/\\") or printable(name, keep="") != name:
        raise ValueError(
            f"the name {_short(repr(name))} cannot be a file name: a name must not be empty or '..', "
            "and must not hold '/', '\\' or control characters"
        )
    if len(name.encode(errors="surrogatepass")) > _MAX_NAME_BYTES:
        raise ValueError(f"the name {_short(repr(name))} is longer than {_MAX_NAME_BYTES} bytes")
    return name
