"""Text that only shows itself: a corpus, and a model fitted on it, may hold characters that command a terminal."""

from __future__ import annotations

import re

_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters (with escape, which begins commands); and line separators and changes of direction of Unicode,
after which the rest of a line may stand elsewhere."""


def printable(text: str, *, keep: str = "\n\t") -> str:
    """The text with pictures, such as ␛, or escapes, such as \\x9b, in place of characters that command a terminal."""
    return _COMMANDS.sub(lambda found: found[0] if found[0] in keep else _picture(found[0]), text)


def printable_json(line: str) -> str:
    """One line of JSON that means the same, with these characters escaped: they can only be in its strings."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else character.encode("unicode_escape").decode()
