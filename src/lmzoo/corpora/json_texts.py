"""Documents in JSON: one object per line, an array of objects, or objects that are printed over several lines.

Each object is a document, whose text is the string in one field, by default "text". The format is recognised by the
content where a name does not tell it, as for standard input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lmzoo.corpora.corpus import Document
from lmzoo.errors import CorpusError

SUFFIXES = (".jsonl", ".json", ".ndjson")
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s*")
_LONGEST_ESCAPE = len(r"\ud83d\ude00")


def is_json(text: str, suffix: str, field: str = "text") -> bool:
    """Returns True if a text contains documents in JSON.

    `suffix` is the suffix of the file, such as ".txt", or "" for standard input. A file with the suffix `.jsonl`,
    `.json` or `.ndjson` is always JSON. Any other text is JSON if it begins with a JSON object, or if it is one JSON
    array of objects. In a file with the suffix `.txt`, these objects must have the field `field`.
    """
    if suffix in SUFFIXES:
        return True
    start = _after_space(text, 0)
    if text[start : start + 1] not in ("{", "["):
        return False
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return False
    end = _after_space(text, end)
    is_whole = end == len(text) if isinstance(value, list) else text[end : end + 1] in ("", "{")
    entries = value if isinstance(value, list) else [value]
    return (
        is_whole
        and bool(entries)
        and all(isinstance(entry, dict) and (suffix != ".txt" or field in entry) for entry in entries)
    )


def json_documents(text: str, name: str, path: str, field: str = "text") -> Iterator[Document]:
    """Yields the documents of a text in JSON, named by their line or their number, such as "a.jsonl:1".

    `name` is the name of the file in the corpus, and `path` its name in error messages. Raises CorpusError, with the
    line or the number of the document, if the text is not JSON or an object has no string in the field `field`.
    """
    if "\n" not in text:
        text = text.replace("\r", "\n")  # old line ends; inside of strings, JSON has no line ends
    if _is_one_per_line(text):
        yield from json_lines([text], name, path, field)
        return
    for number, entry in enumerate(_entries(text, path), start=1):
        yield Document(f"{name}:{number}", _text_of(entry, field, f"{path} item {number}", str(entry)))


def are_json_lines(beginning: str, suffix: str, field: str = "text") -> bool | None:
    """Determines from the beginning of a long text if the text has one JSON object per line.

    Returns True if it has, False if the text is not JSON, and None if the beginning does not decide this, or if the
    text is JSON in another form, such as an array. `suffix` and `field` are those of `is_json`.
    """
    is_named_json = suffix in SUFFIXES
    start = _after_space(beginning, 0)
    if start == len(beginning):
        return None
    if beginning[start] not in "{[":
        return (True if "\n" in beginning else None) if is_named_json else False
    try:
        _, end = _DECODER.raw_decode(beginning, start)
    except (ValueError, RecursionError) as error:
        return None if is_named_json or _may_be_cut_off(error, len(beginning)) else False
    if _after_space(beginning, end) == len(beginning):
        return None
    if not is_json(beginning, suffix, field):
        return False
    is_line = beginning[start] == "{" and "\n" not in beginning[start:end] and "\n" in beginning
    return True if is_line else None


def _may_be_cut_off(error: Exception, length: int) -> bool:
    """Returns True if a JSON error may occur only because a text was cut off after its first `length` characters."""
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated") or error.pos >= length - _LONGEST_ESCAPE
    )


def json_lines(blocks: Iterable[str], name: str, path: str, field: str = "text") -> Iterator[Document]:
    """Yields the documents of a text with one JSON object per line, which is given in blocks.

    The names of the documents, the other arguments and the exceptions are those of `json_documents`.
    """
    for number, line in enumerate(_lines(blocks), start=1):
        if line and not line.isspace():
            location = f"{path} line {number}"
            yield Document(f"{name}:{number}", _text_of(_parsed(line, location, field), field, location, line))


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a text that is given in blocks, without their ends."""
    begun: list[str] = []  # parts of a line whose end has not been read; joined once, because a line may be very long
    for block in blocks:
        first, *others = block.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            *lines, rest = others
            yield from lines
            begun = [rest]
    yield "".join(begun)


def _is_one_per_line(text: str) -> bool:
    """Returns False if a text in JSON is an array, or if its first line is only the beginning of an object."""
    start = _after_space(text, 0)
    if text[start : start + 1] != "{":
        return text[start : start + 1] != "["
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return True
    return "\n" not in text[start:end]


def _entries(text: str, path: str) -> Iterator[Any]:
    """Yields the JSON values of a text one after the other; an array is replaced by its elements.

    `path` is the name of the file in error messages. Raises CorpusError if the text is not JSON.
    """
    end = _after_space(text, 0)
    while end < len(text):
        try:
            value, end = _DECODER.raw_decode(text, end)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{path} line {error.lineno} is not JSON: {error.msg} at column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path} cannot be read as JSON, because {_reason(error)}") from error
        end = _after_space(text, end)
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _after_space(text: str, start: int) -> int:
    """Returns the index of the first character from `start` on that is not white space."""
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _parsed(line: str, location: str, field: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{location} is not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f'{location} must be an object with a string in "{field}", but {_reason(error)}') from error


def _reason(error: ValueError | RecursionError) -> str:
    """Returns why valid JSON could not be parsed."""
    if isinstance(error, RecursionError):
        return "its lists and objects are nested too deep"
    return "it has a number with too many digits"


def _text_of(entry: Any, field: str, location: str, shown: str) -> str:
    """Returns the field `field` of a JSON object; raises CorpusError if the field is missing or not a string.

    The text of `null` is empty, like that of a row without a value in a table. `location` is the position of the
    object, and `shown` its JSON text, for error messages.
    """
    if isinstance(entry, dict) and field not in entry:
        raise CorpusError(
            f'{location} has no field "{field}"; its fields are: {", ".join(entry or ["none"])[:120]}; append the name '
            "of the one with the text to the name of the file, as in FILE:FIELD"
        )
    if isinstance(entry, dict) and entry[field] is None:
        return ""
    if not isinstance(entry, dict) or not isinstance(entry[field], str):
        raise CorpusError(f'{location} must be an object with a string in "{field}": {shown[:60]}')
    try:
        entry[field].encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f'{location}: "{field}" has half of a surrogate pair at character {error.start}') from error
    return entry[field]
