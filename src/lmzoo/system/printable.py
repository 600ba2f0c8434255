"""Removes control characters from text before it is printed.

A corpus, and so a model fitted to it, may contain characters that control a terminal.
"""

from __future__ import annotations

import re
import warnings

_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters (among them ESC, which starts terminal commands), and the line separators and direction marks of
Unicode, which can move the rest of a line."""


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


def print_warnings_as_lines() -> None:
    """Makes Python print each warning as one line, without the position in the source code and the code itself."""
    warnings.formatwarning = lambda message, *_, **__: f"lmzoo: {message}\n"


def _symbol(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else character.encode("unicode_escape").decode()
