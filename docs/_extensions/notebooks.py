"""Offers each page whose code was run as a Jupyter notebook: writes the file, and links to it below the title.

MyST-NB writes the executed notebooks, whose texts are still MyST, into the folder jupyter_execute. The site has them in
its folder notebooks, with texts in plain Markdown, which Jupyter shows.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.osutil import relative_uri

_ADMONITIONS = ("attention", "caution", "danger", "error", "hint", "important", "note", "seealso", "tip", "warning")
_DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\} *(?P<title>.*)\n(?P<body>(?s:.*?))^(?P=fence)$", re.M
)
_LINK_OR_CODE = re.compile(
    r"\[(?P<label>[^\]]+)\]\((?P<target>[\w./-]+)\.(?:md|rst)(?P<anchor>#[\w-]+)?\)|^```(?s:.*?)^```$|`[^`\n]*`", re.M
)
_INSTALL = (
    "*This notebook is a page of the documentation of lmzoo {version}. If the package is missing, `%pip install "
    "FOLDER` in a new cell installs it, where FOLDER is a copy of the repository of lmzoo.*"
)
_log = logging.getLogger(__name__)


def plain_markdown(text: str, page: str, base: str) -> str:
    """Returns a text in MyST as plain Markdown; `page` is the name of its page, such as "tutorials/tokens".

    Admonitions become quotations, roles become code, and targets and comments are left out. Links to other pages become
    links to the site at the address `base`; if there is none, only their text remains. Raises ValueError for any other
    directive, which has no form in plain Markdown.
    """
    text = re.sub(r"^(\([\w-]+\)=|%.*)\n", "", text, flags=re.M)
    text = re.sub(r"\{[\w:]+\}(`[^`\n]+`)", r"\1", _DIRECTIVE.sub(_quotation, text))

    def link(match: re.Match[str]) -> str:
        label, target = match["label"], match["target"]
        if not target:  # code
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        return f"[{label}]({base.rstrip('/')}/{path}.html{match['anchor'] or ''})" if base else label

    return _LINK_OR_CODE.sub(link, text)


def _quotation(directive: re.Match[str]) -> str:
    """Returns an admonition as a quotation that begins with its title."""
    name, title = directive["name"], directive["title"]
    if name != "admonition" and name not in _ADMONITIONS:
        raise ValueError(f"the directive {{{name}}} has no form in plain Markdown")
    if name != "admonition":
        title = {"seealso": "See also"}.get(name, name.capitalize())
    lines = [f"**{title}**", "", *directive["body"].strip().split("\n")]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def for_jupyter(notebook: nbformat.NotebookNode, page: str, base: str, version: str) -> nbformat.NotebookNode:
    """Returns the notebook of a page with texts in plain Markdown, and with a note on what its code needs."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain_markdown(cell.source, page, base)
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(_INSTALL.format(version=version)))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": notebook.metadata["language_info"]})
    nbformat.validate(notebook)
    return notebook


def file_name(page: str) -> str:
    """Returns the name of the notebook of a page, from the root of the site."""
    return f"notebooks/{page.rsplit('/', 1)[-1]}.ipynb"


def _is_notebook(app: Sphinx, page: str) -> bool:
    return app.builder.format == "html" and "kernelspec" in app.env.metadata[page]


def add_link(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Adds a link to the notebook below the title of a page."""
    if _is_notebook(app, page):
        address = relative_uri(app.builder.get_target_uri(page), file_name(page))
        link = f'<p class="notebook"><a href="{address}" download>Download this page as a Jupyter notebook</a></p>'
        title = next(iter(doctree.findall(nodes.title)))
        title.parent.insert(title.parent.index(title) + 1, nodes.raw("", link, format="html"))


def write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Writes the notebooks of all pages, after the site has been built."""
    if exception is not None:
        return
    for page in sorted(app.env.found_docs):
        if _is_notebook(app, page):
            source = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"  # where MyST-NB writes it
            target = Path(app.outdir) / file_name(page)
            target.parent.mkdir(exist_ok=True)
            notebook = nbformat.read(source, as_version=4)
            try:
                written = for_jupyter(notebook, page, app.config.html_baseurl, app.config.release)
            except ValueError as error:
                _log.warning("no notebook: %s", error, location=page)
            else:
                nbformat.write(written, target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects to the build of the site."""
    app.connect("doctree-resolved", add_link)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
