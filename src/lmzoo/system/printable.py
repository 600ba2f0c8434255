"""Makes text and file names printable: without control characters, and as valid Unicode.

A corpus, and so a model fitted to it, may contain characters that control a terminal. The name of a file may have bytes
that are not UTF-8; Python represents them by surrogates, which cannot be printed or written to a file.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (among them ESC, which starts terminal commands), the line separators and direction marks of
Unicode, which can move the rest of a line, and surrogates."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def printable(text: str, *, keep: str = "\n\t") -> str:
    """Replaces the control characters of a text by visible symbols, such as ␛, or by escape sequences, such as \\x9b.

    The characters in `keep` are not replaced.
    """
    return _COMMANDS.sub(lambda match: match[0] if match[0] in keep else _symbol(match[0]), text)


def printable_json(line: str) -> str:
    """Escapes the control characters of one line of JSON, without changing its meaning.

    In valid JSON they can occur only inside strings.
    """
    return _COMMANDS.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def name_text(name: str | Path) -> str:
    """Returns a file name as valid Unicode: each byte that is not UTF-8 becomes an escape sequence, such as \\xe9."""
    return _SURROGATE.sub(lambda match: _symbol(match[0]), str(name))


def name_from_text(text: str) -> str:
    """Returns the file name for which `name_text` returns the given text."""
    return _ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), text)


def print_warnings_as_lines() -> None:
    """Makes Python print each warning as one line, without the position in the source code and the code itself."""
    warnings.formatwarning = lambda message, *_, **__: f"lmzoo: {message}\n"


def _symbol(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return "␡" if code == 0x7F else character.encode("unicode_escape").decode()
