"""Pages from templates: Markdown, and HTML that needs no other file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lmzoo.evaluation.records import Record
from lmzoo.report.costs import machine_text
from lmzoo.system.files import atomic_file
from lmzoo.system.printable import printable
from lmzoo.tokenizers import visible
from lmzoo.zoo.citations import bibtex


def write_pages(folder: Path, names: Sequence[str], context: Mapping[str, Any], templates: str = "") -> list[Path]:
    """Writes pages of a report, such as "report.md" and "report.html", into a folder, and returns their paths.

    `names` are the names of the pages and of the templates from which they are made; `context` holds the values for the
    templates, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lmzoo.report"),
        # Text of a corpus is untrusted: HTML escapes all of it, and Markdown shows it as code.
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cell": _markdown_cell, "visible": visible, "bibtex": bibtex}
    environment.filters["machine"] = partial(machine_text, threads=True)
    environment.filters |= {"headings": _headings, "zip": zip, "text": _markdown_text, "code": _markdown_code}
    pages = []
    for name in names:
        template = f"{templates}{Path(name).suffix}" if templates else name
        text = printable(environment.get_template(template).render(context))
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        pages.append(folder / name)
    return pages


def origin(records: Iterable[Record], versions: Mapping[str, str]) -> dict[str, Any]:
    """Returns the different commands that made records, and software versions as text, for the template of a page."""
    return {
        "commands": sorted({record.command for record in records if record.command}),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _headings(page: str) -> list[tuple[str, str]]:
    """Returns the anchor and the title of each second-level heading of an HTML page, for a table of contents."""
    return [
        (anchor, Markup(title).striptags())
        for anchor, title in re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', page, re.DOTALL)
    ]


def _markdown_cell(text: object) -> str:
    """Escapes a text for a code span in a cell of a Markdown table."""
    return json.dumps(str(text), ensure_ascii=False)[1:-1].replace("`", "ˋ").replace("|", "\\|")


_MARKDOWN = re.compile(r"[\\`*\[\]|]|&(?=#?\w+;)|<")


def _markdown_text(text: object) -> str:
    """Escapes a text for Markdown outside of code: no part of the text becomes HTML, a link or emphasis."""
    one_line = " ".join(str(text).split())
    return _MARKDOWN.sub(lambda mark: {"<": "&lt;", "&": "&amp;"}.get(mark[0], f"\\{mark[0]}"), one_line)


def _markdown_code(text: object) -> str:
    """Escapes a text for a code span outside of tables: backquotes and line breaks, which would end the span."""
    return re.sub(r"[\r\n]+", " ", str(text)).replace("`", "ˋ")
