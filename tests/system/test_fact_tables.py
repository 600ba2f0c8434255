"""Tests of the tables with which objects describe themselves in a notebook."""

from __future__ import annotations

from lmzoo.system.fact_tables import fact_table


def test_a_table_has_a_row_for_each_known_fact() -> None:
    page = fact_table("model", {"size": "3", "age": None})
    assert page.startswith("<table><caption")
    assert page.count("<tr>") == 1
    assert ">size</th>" in page
    assert ">3</td>" in page


def test_texts_stay_texts() -> None:
    page = fact_table("<b>", {"<script>": 'a & "b"\n\u202e\x1b'})
    for part in ("&lt;b&gt;", "&lt;script&gt;", "a &amp; &quot;b&quot;␊\\u202e␛"):
        assert part in page
    assert "<b>" not in page
    assert "<script>" not in page
