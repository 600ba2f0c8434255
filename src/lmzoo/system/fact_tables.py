"""Tables of facts in HTML, with which objects describe themselves in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from lmzoo.system.printable import printable


def fact_table(title: str, facts: Mapping[str, str | None]) -> str:
    """Returns an HTML table with a title and a row for each fact, which is a name and a value.

    Facts whose value is None are left out. The table needs no style sheet and suits light and dark notebooks. Title,
    names and values are text, not HTML.
    """
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{_text(name)}</th>'
        f'<td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in facts.items()
        if value is not None
    )
    caption = f'<caption style="text-align:left;font-weight:bold">{_text(title)}</caption>'
    return f"<table>{caption}<tbody>{rows}</tbody></table>"


def _text(value: str) -> str:
    return escape(printable(value, keep=""))
