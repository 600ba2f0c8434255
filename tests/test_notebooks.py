"""Tests of the notebooks that the documentation offers: they are valid, in plain Markdown, and run in Jupyter."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat: Any = pytest.importorskip("nbformat", reason="needs the extra docs: pip install 'lmzoo[docs]'")
pytest.importorskip("sphinx")

ROOT = Path(__file__).parents[1]
EXTENSIONS = ROOT / "docs" / "_extensions"
PAGE = """---
file_format: mystnb
kernelspec:
  name: python3
---

(top)=
# A small page

:::{note}
Read [another page](../other.md#part) with {py:func}`print`.
:::

```{code-cell}
from lmzoo import Predictor

predictor = Predictor.load("markov")
predictor.predict_distribution("And God").top(2)
```

```{code-cell}
predictor
```
"""


def plain_markdown(text: str, base: str = "") -> str:
    return runpy.run_path(str(EXTENSIONS / "notebooks.py"))["plain_markdown"](text, "guides/page", base)


def test_myst_becomes_plain_markdown() -> None:
    assert plain_markdown("(place)=\n% a comment\nRead {term}`entropy`.") == "Read `entropy`."
    assert plain_markdown("```{tip}\nFirst.\n\nThen.\n```\nText") == "> **Tip**\n>\n> First.\n>\n> Then.\nText"
    assert plain_markdown(":::{admonition} Try it\nNow.\n:::") == "> **Try it**\n>\n> Now."
    with pytest.raises(ValueError, match="mermaid"):
        plain_markdown("```{mermaid}\ngraph\n```")


def test_links_lead_to_the_site_or_are_only_text() -> None:
    text = "See [`a`](other.md), [b\nc](../d/e.rst#f), [web](https://example.org/x.md) and `[code](z.md)`."
    assert plain_markdown(text) == "See `a`, b\nc, [web](https://example.org/x.md) and `[code](z.md)`."
    site = "https://example.org/en/"
    assert plain_markdown(text, site) == (
        "See [`a`](https://example.org/en/guides/other.html), [b\nc](https://example.org/en/d/e.html#f), "
        "[web](https://example.org/x.md) and `[code](z.md)`."
    )


def test_the_tutorials_have_a_form_in_plain_markdown() -> None:
    """Nothing of the syntax of MyST is left in the text of any page that becomes a notebook."""
    for path in [ROOT / "docs" / "start.md", *(ROOT / "docs" / "tutorials").glob("*.md")]:
        text = re.sub(r"^```\{code-cell\}.*?^```\n", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        assert not re.search(r"^(```|:::)\{|\{[\w:]+\}`|\]\([\w./-]+\.(md|rst)", plain_markdown(text), re.M)


@pytest.mark.slow
def test_a_page_is_offered_as_a_notebook_that_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("myst_nb")
    source, site = tmp_path / "docs", tmp_path / "build" / "html"
    (source / "guides").mkdir(parents=True)
    (source / "index.md").write_text("# Home\n\n```{toctree}\nguides/page\nother\n```\n", encoding="utf-8")
    (source / "other.md").write_text("# Other\n\n## Part\n\nText.\n", encoding="utf-8")
    (source / "guides" / "page.md").write_text(PAGE, encoding="utf-8")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.append({str(EXTENSIONS)!r})\nextensions = ['myst_nb', 'notebooks']\nrelease = '1.2'\n"
        "myst_enable_extensions = ['colon_fence']\nmyst_heading_anchors = 3\nnb_execution_mode = 'force'\n",
        encoding="utf-8",
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(site)]
    built = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr

    page = (site / "guides" / "page.html").read_text(encoding="utf-8")
    (address,) = re.findall(r'<a href="([^"]+)" download>', page)
    assert page.index("</h1>") < page.index(address) < page.index("Read ")
    assert "download>" not in (site / "other.html").read_text(encoding="utf-8")
    path = (site / "guides" / address).resolve()
    assert path == site / "notebooks" / "page.ipynb"

    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.source for cell in notebook.cells if cell.cell_type == "markdown"] == [
        "# A small page\n\n> **Note**\n>\n> Read another page with `print`.",
        notebook.cells[1].source,
    ]
    assert "%pip install FOLDER" in notebook.cells[1].source

    stored = [output.data for cell in notebook.cells for output in cell.get("outputs", ())]
    assert len(stored) == 2
    assert "<table" in stored[1]["text/html"]
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    os.environ["PYTHONPATH"] = environment["PYTHONPATH"]
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [output.data for cell in notebook.cells for output in cell.get("outputs", ())] == stored
