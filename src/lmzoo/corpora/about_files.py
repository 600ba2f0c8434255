"""Finds the title, the licence and the citation of a corpus in the files beside its texts.

These files are a README, which may have the header that Hugging Face uses for data sets, a licence, and the
description that the library `datasets` saves with a data set.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmzoo.corpora.own_files import OwnFile
from lmzoo.errors import CorpusError
from lmzoo.system.json_files import parse_json
from lmzoo.system.printable import printable

_HEADER = re.compile(r"---\n(.*?)\n---\s*(?:\n|$)", re.S)
_TITLE = re.compile(r"^#[ \t]+(.+)$", re.M)
_LONGEST = 200
_LARGEST_HEADER = 1 << 16
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Description:
    """The title, the licence and the citation of a corpus; unknown ones are empty."""

    title: str = ""
    licence: str = ""
    citation: str = ""

    def completed_by(self, other: Description) -> Description:
        """Returns a copy of this description in which unknown facts are taken from the description `other`."""
        return Description(self.title or other.title, self.licence or other.licence, self.citation or other.citation)


def describe(files: Sequence[OwnFile]) -> Description:
    """Returns the title, the licence and the citation of a corpus, as the files beside its texts state them.

    If files disagree, a README counts more than a description by `datasets`, and this more than a licence. Files that
    cannot be read are ignored.
    """
    description = Description()
    for start, read in _READERS.items():
        for file in files:
            if (file.member or file.path.name).rpartition("/")[2].lower().startswith(start):
                try:
                    description = description.completed_by(read(file.read_text()))
                except (CorpusError, ValueError) as error:
                    _logger.info("%s says nothing about the corpus: %s", file.shown, error)
    return replace(description, **{name: _one_line(value) for name, value in vars(description).items()})


def _from_readme(text: str) -> Description:
    header = _HEADER.match(text)
    facts = _parsed_header(header[1]) if header else {}
    title = _TITLE.search(text, header.end() if header else 0)
    licence = _joined(facts.get("license"))
    if licence == "other":
        licence = _joined(facts.get("license_name")) or licence
    return Description(_joined(facts.get("pretty_name")) or (title[1].strip(" #") if title else ""), licence)


def _from_saved_dataset(text: str) -> Description:
    facts = parse_json(text)
    if not isinstance(facts, dict):
        return Description()
    return Description("", _joined(facts.get("license")), _joined(facts.get("citation")))


def _from_licence(text: str) -> Description:
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t#*=-")]
    return Description(licence=lines[0] if lines else "")


_READERS = {
    "readme": _from_readme,
    "dataset_info": _from_saved_dataset,
    "licen": _from_licence,
    "copying": _from_licence,
}
"""The functions that read files, by the first letters of the names of the files, in order of preference."""


def _parsed_header(text: str) -> dict[str, Any]:
    """Parses the header of a README, which is YAML; raises ValueError if it is not."""
    import yaml

    if len(text) > _LARGEST_HEADER:
        raise ValueError("its header is too long")
    try:
        facts = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("its header is not YAML") from error
    return facts if isinstance(facts, dict) else {}


def _joined(value: Any) -> str:
    """Returns a text, or several texts with commas between them; an empty text for any other value."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(one for one in values if isinstance(one, str))


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()), keep="")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
