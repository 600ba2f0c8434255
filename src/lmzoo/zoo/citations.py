"""The papers of the models, as BibTeX entries of `references.bib`; cards cite them by key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_ENTRY = re.compile(r"^@\w+\{([^,]+),\n.*?^\}\n", re.MULTILINE | re.DOTALL)


@cache
def entries() -> dict[str, str]:
    """Returns all entries of the bibliography by key, as BibTeX."""
    text = files("lmzoo.zoo").joinpath("references.bib").read_text(encoding="utf-8")
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


def bibtex(keys: Iterable[str]) -> str:
    """Returns the bibliography entries with the given keys, each once, as BibTeX."""
    return "\n".join(entries()[key] for key in dict.fromkeys(keys))
