"""Settings of the documentation site, which `make docs` builds with Sphinx."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import requests

sys.path.append(str(Path(__file__).parent / "_extensions"))

import lmzoo

project = "lmzoo"
author = copyright = "The lmzoo developers"
version = release = lmzoo.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "commands",
    "mathml",
    "notebooks",
    "plain_docstrings",
    "species",
]
exclude_patterns = ["_build", "_extensions"]

html_theme = "furo"
html_title = f"lmzoo {release}"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")  # of the links in notebooks; empty if it is unknown
html_static_path = ["_static"]
html_css_files = ["lmzoo.css"]
html_math_renderer = "mathml"  # browsers draw it themselves, so that the pages need no network
html_show_sourcelink = False

# Pages whose header names a kernel are notebooks: their cells run at each build, and an error stops it.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # a name between `backticks` in a docstring is a link if it is a public name
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autosummary_generate = False  # the pages of the reference are written by hand, one per subject
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
os.environ.setdefault("COLUMNS", "100")  # width of the tables that commands print in notebooks

suppress_warnings = ["mystnb.unknown_mime_type"]  # what a static page cannot show has a plain representation, too

linkcheck_anchors = False
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_ignore = [r"http://127\.0\.0\.1", r"https://example\.org"]

_INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "hmmlearn": "https://hmmlearn.readthedocs.io/en/stable/",
}
"""Sites to whose pages names in our pages link, such as `numpy.random.Generator`."""


def reachable_inventories(folder: Path) -> dict[str, tuple[str, str]]:
    """Downloads the lists of names of other sites; returns the sites whose list could be read, as Sphinx takes them.

    Without a network there are no links to other sites, and the build works all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, address in _INVENTORIES.items():
        path = folder / f"{name}.inv"
        try:
            if not path.exists():
                answer = requests.get(f"{address}objects.inv", timeout=5)
                answer.raise_for_status()
                path.write_bytes(answer.content)
        except requests.RequestException:
            continue
        found[name] = (address, str(path))
    return found


intersphinx_mapping = reachable_inventories(Path(__file__).parent / "_build" / "inventories")
