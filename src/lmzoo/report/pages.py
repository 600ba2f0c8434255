"""Pages out of templates: Markdown, and HTML that needs nothing from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from lmzoo.system.files import atomic_file
from lmzoo.system.printable import printable
from lmzoo.tokenizers import visible
from lmzoo.zoo.citations import bibtex


def write_pages(folder: Path, names: Sequence[str], context: Mapping[str, Any]) -> list[Path]:
    """Fills the templates of these names with the context, writes them into a folder and returns their paths."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lmzoo.report"),
        # Corpus text is hostile input: HTML escapes everything, Markdown shows texts in fences of their own.
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cell": _markdown_cell, "visible": visible, "bibtex": bibtex, "machine": _machine}
    pages = []
    for name in names:
        text = printable(environment.get_template(name).render(context))
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        pages.append(folder / name)
    return pages


def _markdown_cell(text: object) -> str:
    """Text as the content of a code span in a table cell: no markup of its own."""
    return json.dumps(str(text), ensure_ascii=False)[1:-1].replace("`", "ˋ").replace("|", "\\|")


def _machine(facts: Mapping[str, Any]) -> str:
    """What records say of the machine they were made on, in words."""
    cores = f"{facts['n_cores']} cores ({facts['n_threads']} used)"
    return f"{facts['processor']}, {cores}, {facts['memory_bytes'] / 2**30:.0f} GiB, {facts['platform']}"
