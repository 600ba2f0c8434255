"""The directive `commands`: a section for each command of the program, made from its help."""

from __future__ import annotations

import re
from typing import Any

from cyclopts.docs.rst import generate_rst_docs
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lmzoo.cli import app as program


class Commands(SphinxDirective):
    """Writes the help of all commands, in the order of `lmzoo --help`."""

    def run(self) -> list[nodes.Node]:
        text = generate_rst_docs(
            program, heading_level=2, no_root_title=True, generate_toc=False, flatten_commands=True, skip_preamble=True
        )
        text = text.replace(" -m sphinx", "")  # cyclopts takes the running program for a part of the usage
        return self.parse_text_to_nodes(_with_examples(text), allow_section_headings=True)


def _with_examples(text: str) -> str:
    """Returns the help with its examples as literal blocks, and with the asterisks of file names as they are."""
    text = re.sub(r"(?<![*])[*](?![*])", r"\\*", text)
    return re.sub(
        r"(?:^Example: .*\n+)+",
        lambda match: "::\n\n" + re.sub(r"^Example: (.*\n)\n*", r"    \1", match[0], flags=re.M) + "\n",
        text,
        flags=re.M,
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
