"""The tables and charts that the views save: CSV with the figures of the models, SVG that parses, PNG of its size."""

from __future__ import annotations

import csv
import re
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Locator, Page, expect

from lmzoo import Predictor
from lmzoo.probes.gates import recurrent_traces

pytestmark = pytest.mark.slow

TEXT = "The ships that I saw"
SVG = "{http://www.w3.org/2000/svg}"
Visit = Callable[..., Page]


def saved(page: Page, group: Locator, kind: str) -> Path:
    with page.expect_download() as caught:
        group.get_by_role("button", name=f"Save as {kind}").click()
    assert caught.value.suggested_filename.endswith(kind.lower())
    return Path(caught.value.path())


def table(page: Page, group: Locator) -> list[dict[str, str]]:
    with saved(page, group, "CSV").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def texts(chart: Path) -> list[str]:
    return [element.text or "" for element in ElementTree.parse(chart).iter(f"{SVG}text")]


def check_picture(page: Page, group: Locator) -> list[str]:
    """Saves a chart in both formats, compares their sizes, and returns the texts of the chart."""
    chart = saved(page, group, "SVG")
    root = ElementTree.parse(chart).getroot()
    content = saved(page, group, "PNG").read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (2 * int(float(root.get("width", ""))), 2 * int(float(root.get("height", ""))))
    return texts(chart)


def test_predict(visit: Visit, predictors: dict[str, Predictor]) -> None:
    page = visit(f"view=predict&models=markov,hmm&temperature=0.5&prompt={quote(TEXT)}")
    expect(page.locator("article")).to_have_count(2)
    group = page.get_by_role("group", name="Save predictions")
    rows = [row for row in table(page, group) if row["model"] == "markov" and int(row["rank"]) <= 10]
    expected = predictors["markov"].predict_distribution(TEXT)
    assert [float(row["probability"]) for row in rows] == pytest.approx([prob for _, prob in expected.top(10)])
    found = check_picture(page, group)
    assert found[0] == TEXT
    assert any(text.startswith("1913 Markov chain") for text in found)


def test_slide(visit: Visit) -> None:
    page = visit(f"view=slide&columns=markov&top_k=3&prompt={quote(TEXT)}")
    expect(page.locator("article")).to_have_count(1)
    group = page.get_by_role("group", name="Save stages")
    rows = table(page, group)
    assert [row["cut by"] for row in rows[:4]] == ["", "", "", "top_k"]
    assert len(check_picture(page, group)) == 2 + 2 * len(rows)  # two titles; a label and a number for each token


def test_gates_and_n_grams(visit: Visit, predictors: dict[str, Predictor]) -> None:
    page = visit(f"view=inside&left=lstm&right=trigram&prompt={quote(TEXT)}")
    group = page.get_by_role("group", name="Save lstm")
    rows = table(page, group)
    trace = recurrent_traces(predictors["lstm"].model, predictors["lstm"].tokenizer.encode(TEXT))[0]
    name, values = next(iter(trace.items()))
    assert [float(row[f"mean of {name}"]) for row in rows] == pytest.approx(values.mean(1).tolist(), abs=1e-6)
    unit = [float(row["unit 0"]) for row in rows]
    assert unit == pytest.approx(values[:, 0].tolist(), abs=1e-6)
    assert check_picture(page, group)[:2] == [f"Layer 1: {name}", "start"]
    other = page.get_by_role("group", name="Save trigram")
    assert {row["length"] for row in table(page, other)} <= {"1", "2", "3"}
    expect(other.get_by_role("button", name="Save as SVG")).to_have_count(0)


def test_tokens_and_history(visit: Visit, predictors: dict[str, Predictor]) -> None:
    page = visit(f"view=tokens&tokenizers=markov&text={quote(TEXT)}")
    expect(page.locator("article .piece").first).to_be_visible()
    rows = table(page, page.get_by_role("group", name="Save tokens"))
    assert [int(row["id"]) for row in rows] == predictors["markov"].tokenizer.encode(TEXT).tolist()
    page = visit("view=timeline")
    rows = table(page, page.get_by_role("group", name="Save timeline"))
    assert {"markov": "1913", "lstm": "1997"}.items() <= {row["name"]: row["year"] for row in rows}.items()


def test_bits_per_character_of_all_models(visit: Visit, predictors: dict[str, Predictor]) -> None:
    page = visit(f"view=surprise&text={quote(TEXT)}")
    expect(page.locator(".eras li:last-child .number")).to_have_text(re.compile(r"\d"))
    group = page.get_by_role("group", name="Save bits per character")
    rows = {row["model"]: row["bits_per_character"] for row in table(page, group)}
    total = predictors["trigram"].surprisals(TEXT, end_of_text=False).total_bits
    assert float(rows["trigram"]) == pytest.approx(total / len(TEXT), abs=1e-4)
    assert rows["hmm"] == "", "its words do not keep the whole text"
    assert "unknown words" in check_picture(page, group)
