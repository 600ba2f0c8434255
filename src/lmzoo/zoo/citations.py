"""The papers behind the species, for a bibliography: `references.bib` has them, and cards name them by key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_ENTRY = re.compile(r"^@\w+\{([^,]+),\n.*?^\}\n", re.MULTILINE | re.DOTALL)


@cache
def entries() -> dict[str, str]:
    """All papers by key, as BibTeX."""
    text = files("lmzoo.zoo").joinpath("references.bib").read_text(encoding="utf-8")
    return {found[1]: found[0] for found in _ENTRY.finditer(text)}


def bibtex(keys: Iterable[str]) -> str:
    """The papers with these keys, each once."""
    return "\n".join(entries()[key] for key in dict.fromkeys(keys))
