"""The directive `species`: a section for each model family, made from its card in the registry."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.rst import escape

from lmzoo import zoo


class Species(SphinxDirective):
    """Writes all cards of the registry, the oldest first."""

    def run(self) -> list[nodes.Node]:
        text = "\n\n".join(map(section, zoo.built_in_names()))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def section(name: str) -> str:
    """Returns the section about one species, as reStructuredText."""
    card = zoo.card(name)
    module, _, function = card.factory.partition(":")
    facts = {
        "By": card.people,
        "Sees": card.sees,
        "What it changed": card.changed,
        "What it cannot do": card.limits,
        "Beware": card.beware,
        "Paper": card.paper,
    }
    fields = [f":{label}: {escape(fact)}" for label, fact in facts.items() if fact]
    settings = ", ".join(f"``{setting}={value!r}``" for setting, value in zoo.defaults(name).items())
    fields.append(f":Settings: {settings or 'none'}; see ``{module}``, function ``{function}``")
    heading = f"{name}: {card.title} ({card.year})"
    return "\n".join([f".. _species-{name}:", "", heading, "-" * len(heading), "", escape(card.idea), "", *fields])


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("species", Species)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
