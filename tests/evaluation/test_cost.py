"""Costs of models: counts of operations, measured times, and the Pareto front."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import Predictor, load_corpus, zoo
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.evaluation.cost import measure_cost
from lmzoo.evaluation.evaluate import evaluate
from lmzoo.evaluation.records import EvalRecord, read_records, write_records
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.report import charts, write_report
from lmzoo.report.costs import COSTS, MARK, machine_text, pareto_front, rows
from lmzoo.stream import TokenStream, TrainingData

V = 11
PARAMETERS = next(cost for cost in COSTS if cost.title == "parameters")
GENERATED = next(cost for cost in COSTS if cost.title == "generated/s")


def untrained(species: str, **settings: Any) -> NeuralLM:
    model = zoo.create(species, V, **settings)
    assert isinstance(model, NeuralLM)
    model.network, model.fitted = model.fresh_network(0), True
    return model


# ---- Arithmetic --------------------------------------------------------------------------------------

D, H = 5, 6
DECODER = {"d_model": 8, "n_layers": 2, "n_heads": 2}
BLOCK = (3 * 8 * 8) + 8 * 8 + 2 * (8 * 32)  # query, key and value; what comes out; up and down


@pytest.mark.parametrize(
    ("species", "settings", "expected"),
    [
        # Two operations for each weight that a token meets: gates x (D to H, H to H), back to D, D to all tokens.
        ("rnn", {"d_embed": D, "d_hidden": H}, 2 * (1 * (D * H + H * H) + H * D + D * V)),
        ("lstm", {"d_embed": D, "d_hidden": H}, 2 * (4 * (D * H + H * H) + H * D + D * V)),
        ("gru", {"d_embed": D, "d_hidden": H}, 2 * (3 * (D * H + H * H) + H * D + D * V)),
        # The vectors of 3 tokens to H, H to all tokens.
        ("nplm", {"order": 4, "d_embed": D, "d_hidden": H, "direct": False}, 2 * (3 * D * H + H * V)),
        # Attention takes q k' and weights x v: 2 x 2 x 8 operations for each of the 64 keys of the window.
        ("transformer", {**DECODER, "window": 64}, 2 * (2 * BLOCK + 8 * V) + 2 * (64 * 2 * 2 * 8)),
        # R = 3 to K = 7 states, for the filter and for the prediction; K to R; K to all tokens.
        ("low-rank-hmm", {"n_states": 7, "rank": 3, "d_embed": 4}, 2 * (3 * 3 * 7 + 7 * V)),
    ],
)
def test_operations_are_those_of_the_weights(species: str, settings: dict[str, Any], expected: float) -> None:
    assert untrained(species, **settings).flops_per_token == expected


@pytest.mark.parametrize("species", ["transformer-2017", "gpt2"])
def test_operations_count_each_token_once(species: str) -> None:
    weights = 2 * (2 * BLOCK + 8 * V)
    flops = untrained(species, **DECODER, window=64, training={"chunk_size": 64}).flops_per_token
    # Attention to at most 65 keys, as the cache may hold a void window beside the new one.
    assert weights < flops <= weights + 2 * (65 * 2 * 2 * 8)


def test_counting_species_have_no_operations() -> None:
    assert zoo.create("ngram", V).flops_per_token is None


@pytest.mark.slow
def test_learning_takes_three_times_the_operations_of_reading(corpus_folder: Path) -> None:
    training = {"tokens": 2_000, "batch_size": 4, "chunk_size": 16, "patience": 100}
    predictor = Predictor.fit("rnn", corpus_folder, tokenizer="byte", d_embed=4, d_hidden=5, training=training)
    corpus = encode_corpus(load_corpus(corpus_folder), predictor.tokenizer)
    record = evaluate(predictor, corpus)
    assert record.n_tokens_read is not None
    # The budget, and at most one step of 4 rows of 16 tokens, give or take the size of chunks, more.
    assert 2_000 <= record.n_tokens_read < 2_000 + 4 * 2 * 16
    assert record.training_flops is None, "who only evaluates does not count operations"
    cost = measure_cost(predictor.model, corpus.valid.stream)
    record = dataclasses.replace(record, **dataclasses.asdict(cost))
    assert record.training_flops == 3 * 2 * ((4 * 5 + 5 * 5) + 5 * 4 + 4 * 257) * record.n_tokens_read


def test_cost_of_a_counting_model() -> None:
    data = TrainingData(TokenStream.from_documents([[1, 2, 3]]), TokenStream.from_documents([[1]]))
    model = zoo.create("unigram", 4).fit(data)
    for text in ([[1, 2, 3]], [[1]], [[]], [list(range(1, 4)) * 100, [1]]):
        cost = measure_cost(model, TokenStream.from_documents(text))
        assert cost.model_bytes == sum(array.nbytes for array in model.arrays().values())
        assert cost.flops_per_token is None
        assert 0 < cost.predict_seconds < 0.1
        assert cost.generated_per_second > 10


# ---- Records -----------------------------------------------------------------------------------------


def test_compare_measures_costs(run_folder: Path) -> None:
    for record in read_records(run_folder / "results.jsonl"):
        assert (record.predict_seconds or 0) > 0
        assert (record.generated_per_second or 0) > 0
        arrays = Predictor.load(run_folder / "predictors" / record.name).model.arrays()
        assert record.model_bytes == sum(array.nbytes for array in arrays.values())
        assert (record.training_flops is not None) == (record.species == "rnn")


def test_records_from_before_costs_were_measured_still_read(run_folder: Path, tmp_path: Path) -> None:
    new = ("n_tokens_read", "predict_seconds", "generated_per_second", "model_bytes", "flops_per_token")
    lines = []
    for record in read_records(run_folder / "results.jsonl"):
        values = {name: value for name, value in dataclasses.asdict(record).items() if name not in new}
        lines.append(json.dumps(values))
    (tmp_path / "results.jsonl").write_text("\n".join(lines), encoding="utf-8")
    records = read_records(tmp_path / "results.jsonl")
    assert [record.predict_seconds for record in records] == [None] * len(records)
    write_report(tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| model | bits/byte | fit | memory | parameters | evaluated/s |" in page


def test_each_kind_of_machine_has_a_table_of_its_own(run_folder: Path, tmp_path: Path) -> None:
    first, *others = read_records(run_folder / "results.jsonl")
    slower = first.machine | {"processor": "Slowcoach", "memory_bytes": 2**31}
    records = [dataclasses.replace(first, machine=slower), *others]
    alike = dataclasses.replace(others[0], machine=first.machine | {"memory_bytes": first.machine["memory_bytes"] + 1})
    write_records(tmp_path / "results.jsonl", [records[0], alike, *others[1:]])
    write_report(tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    costs = page.split("\n## What it costs\n")[1].split("\n## ")[0]
    parts = dict(part.split("\n", 1) for part in costs.split("\n### ")[1:])
    titles = [machine_text(machine) for machine in (slower, first.machine)]
    assert parts.keys() == set(titles)
    of_slower, of_others = (parts[title] for title in titles)
    assert f"| {first.name} |" in of_slower
    assert f"| {first.name} |" not in of_others
    assert all(f"| {record.name} |" in of_others and f"| {record.name} |" not in of_slower for record in others)
    assert "Only costs on the same kind are comparable" in costs
    assert page.count("- machine: ") == 2
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(f"<h3>{title}</h3>" in html for title in titles)
    before = (run_folder / "report.md").read_text(encoding="utf-8")
    assert "Times were measured on the machine named at the end of this page" in before
    assert before.count("- machine: ") == 1


# ---- The front ---------------------------------------------------------------------------------------


def a_record(run_folder: Path, name: str, bits: float | None, **changes: Any) -> EvalRecord:
    record = read_records(run_folder / "results.jsonl")[0]
    return dataclasses.replace(record, label=name, bits_per_byte=bits, **changes)


def names(records: list[EvalRecord]) -> str:
    return "".join(record.name for record in records)


def test_the_front_of_a_few(run_folder: Path) -> None:
    def make(name: str, n_parameters: int, bits: float | None, **changes: Any) -> EvalRecord:
        return a_record(run_folder, name, bits, n_parameters=n_parameters, **changes)

    records = [
        make("a", 9, 1.0),  # the best
        make("b", 9, 1.1),  # as dear as a, and worse
        make("c", 5, 1.2),
        make("d", 5, 1.2),  # equal to c: both are on the front
        make("e", 6, 1.2),  # as good as c, and dearer
        make("f", 1, 3.0),  # the cheapest
        make("g", 0, None),  # has no figure
        make("h", 0, 0.5, adapts_on_test=True),
    ]
    assert names(pareto_front(records, PARAMETERS)) == "fcda"
    assert pareto_front([], PARAMETERS) == []


def test_more_of_a_rate_is_cheaper(run_folder: Path) -> None:
    rates = {"a": (10.0, 1.0), "b": (20.0, 1.5), "c": (15.0, 1.5), "d": (None, 0.9)}
    records = [a_record(run_folder, name, bits, generated_per_second=rate) for name, (rate, bits) in rates.items()]
    assert names(pareto_front(records, GENERATED)) == "ba"


def test_the_front_by_another_way(run_folder: Path) -> None:
    """The front holds each model that is better than all cheaper models; among models of equal cost, the best."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        figures = rng.integers(1, 12, (15, 2))
        records = [
            a_record(run_folder, str(number), float(bits), n_parameters=int(price))
            for number, (price, bits) in enumerate(figures)
        ]
        expected: set[tuple[int, int]] = set()
        least = np.inf
        for price in sorted(set(figures[:, 0])):
            bits = figures[figures[:, 0] == price, 1].min()
            if bits < least:
                expected.add((price, bits))
                least = bits
        found = pareto_front(records, PARAMETERS)
        assert {(record.n_parameters, record.bits_per_byte) for record in found} == expected
        assert len(found) == sum(tuple(pair) in expected for pair in figures.tolist())


def test_the_table_and_the_figure(run_folder: Path) -> None:
    records = read_records(run_folder / "results.jsonl")
    table = {row[0]: row for row in rows(records)}
    best = min(records, key=lambda record: record.bits_per_byte or 9)
    dearest_wins = [cell for cell in table[best.name][2:] if cell != "–"]
    assert all(cell.endswith(MARK) for cell in dearest_wins), "nothing is better than the best"
    assert table["unigram"][-2:] == ["–", "–"]
    for name in ("report.md", "report.html"):
        page = (run_folder / name).read_text(encoding="utf-8")
        assert "What it costs" in page
        assert all(cell in page for cell in table["rnn"])
    svg = charts.as_svg(charts.quality_and_cost(records))
    assert svg.startswith("<svg")
    for title in ("fit, seconds", "on disk, bytes", "generated/s", "training FLOPs"):
        assert title in svg


def test_zero_and_nothing_have_no_place_on_an_axis(run_folder: Path) -> None:
    records = [a_record(run_folder, "a", 1.0, n_parameters=0, fit_seconds=0.0), a_record(run_folder, "b", None)]
    assert charts.as_svg(charts.quality_and_cost(records)).startswith("<svg")


def test_sizes_and_times_are_readable(run_folder: Path) -> None:
    record = a_record(
        run_folder, "a", 1.0, fit_seconds=0.0123, peak_memory_bytes=743_000_000, n_parameters=0, model_bytes=512,
        predict_seconds=61.8e-6, flops_per_token=2.0, n_tokens_read=10**15,
    )  # fmt: skip
    cells = {cost.title: cost.text(value) for cost in COSTS if (value := cost.value(record)) is not None}
    assert cells["fit"] == "12.3 ms"
    assert cells["memory"] == "743 MB"
    assert cells["on disk"] == "512 B"
    assert cells["predict"] == "61.8 µs"
    assert cells["FLOPs/token"] == "2"
    assert cells["training FLOPs"] == "6 P"
