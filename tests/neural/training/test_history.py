"""The history of a training: what it holds, that its length is bounded, and that an interruption leaves no trace."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo import Predictor, evaluate, training_history, zoo
from lmzoo.checkpoint import Checkpoint
from lmzoo.corpora import Corpus, Document
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.errors import SavedModelError
from lmzoo.neural import neural_lm
from lmzoo.stream import TrainingData
from lmzoo.system.progress import Progress, TrainingStep
from lmzoo.training_history import HistoryRecorder, TrainingHistory

DATA = TrainingData(test_loop.text(60), test_loop.text(10, seed=1))
MIXTURE = {"members": {"lstm": test_loop.SETTINGS, "ngram": {"order": 2}, "gru": test_loop.SETTINGS}}
SETTINGS = {"lstm": test_loop.SETTINGS, "mixture": MIXTURE}


def fitted(species: str, settings: dict[str, Any], checkpoint: Checkpoint | None = None, **callbacks: Any) -> Any:
    return zoo.create(species, test_loop.V, **settings).fit(DATA, seed=3, checkpoint=checkpoint, **callbacks)


@cache
def uninterrupted(species: str) -> TrainingHistory | None:
    return fitted(species, SETTINGS[species]).history


def without_seconds(history: TrainingHistory | None) -> list[TrainingStep]:
    assert history is not None
    return [replace(point, seconds=0.0) for point in history.points]


def a_step(number: int) -> TrainingStep:
    return TrainingStep(
        step=number, tokens=10 * number, seconds=0.5 * number, train_loss=8 / number, learning_rate=1 / number,
        gradient_norm=float(number),
    )  # fmt: skip


def recorded(n_steps: int) -> HistoryRecorder:
    recorder = HistoryRecorder("nats/token")
    for number in range(1, n_steps + 1):
        recorder.add_step(a_step(number))
    return recorder


# ---- What is recorded ------------------------------------------------------------------------------


def test_points_are_means_over_more_steps_as_the_history_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With at most 3 points, 4 points are halved to 2: steps 1-2 and 3-4; then 5-6; step 7 is pending."""
    monkeypatch.setattr(training_history, "MOST_POINTS", 4)
    points = recorded(7).history().points
    assert [point.step for point in points] == [2, 4, 6, 7]
    assert [point.train_loss for point in points] == pytest.approx(
        [(8 + 4) / 2, (8 / 3 + 2) / 2, (8 / 5 + 8 / 6) / 2, 8 / 7], rel=1e-5
    )
    assert [point.gradient_norm for point in points] == [1.5, 3.5, 5.5, 7]
    assert [point.learning_rate for point in points] == pytest.approx([1 / 2, 1 / 4, 1 / 6, 1 / 7], rel=1e-5)
    assert [(point.tokens, point.seconds) for point in points] == [(20, 1.0), (40, 2.0), (60, 3.0), (70, 3.5)]
    assert len(recorded(1000).history().points) <= 5


@settings(max_examples=20)
@given(st.integers(0, 2500), st.integers(0, 2500))
def test_a_checkpoint_at_any_step_changes_nothing(stopped: int, total: int) -> None:
    before = recorded(min(stopped, total))
    before.add_evaluation(TrainingStep(step=stopped, tokens=1, seconds=1.0, valid_loss=2.0))
    resumed = HistoryRecorder("nats/token")
    resumed.load_arrays(before.arrays())
    for number in range(min(stopped, total) + 1, total + 1):
        before.add_step(a_step(number))
        resumed.add_step(a_step(number))
    assert resumed.history() == before.history()
    assert len(resumed.history().points) <= training_history.MOST_POINTS + 1


def test_every_step_is_reported_and_the_best_evaluation_is_the_model() -> None:
    steps: list[TrainingStep] = []
    model = fitted("lstm", test_loop.SETTINGS, on_progress=lambda progress: steps.append(progress.step))
    assert all(step.unit == "nats/token" for step in steps)
    learned = [step for step in steps if step.train_loss is not None]
    assert [step.step for step in learned] == [*range(1, len(learned) + 1)]
    rates = [model.training.learning_rate_at(step.tokens / model.training.tokens) for step in learned]
    assert [step.learning_rate for step in learned] == rates
    history = model.history.points
    assert [point.train_loss for point in history if point.valid_loss is None] == pytest.approx(
        [step.train_loss for step in learned], rel=1e-5
    )
    losses = [point.valid_loss for point in history if point.valid_loss is not None]
    assert len(losses) > 3
    assert min(losses) == pytest.approx(-model.log_probs(DATA.valid).mean(), rel=1e-5)


def test_models_that_are_not_trained_in_steps_have_no_history() -> None:
    assert fitted("ngram", {}).history is None


def test_a_mixture_has_the_histories_of_its_networks() -> None:
    steps: list[TrainingStep | None] = []
    model = fitted("mixture", MIXTURE, on_progress=lambda progress: steps.append(progress.step))
    alone = fitted("gru", test_loop.SETTINGS)
    points = without_seconds(model.history)
    assert {point.member for point in points} == {"lstm", "gru"}
    assert [replace(point, member="") for point in points if point.member == "gru"] == without_seconds(alone.history)
    assert {step.member for step in steps if step} == {"lstm", "gru"}


def test_a_cache_around_a_network_has_the_history_of_the_network() -> None:
    model = fitted("cache", {"static": {"species": "lstm", "settings": test_loop.SETTINGS}, "half_life": 50})
    assert without_seconds(model.history) == without_seconds(uninterrupted("lstm"))


# ---- Interruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("species", "where", "call"),
    [
        ("lstm", "next_token", 9),
        ("lstm", "observed_log_probs", 3),
        ("mixture", "next_token", 150),  # in the second network
        ("mixture", "observed_log_probs", 8),
    ],
)
def test_an_interrupted_and_resumed_history_is_that_of_an_uninterrupted_training(
    species: str, where: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = SETTINGS[species]
    calls, original = 0, getattr(neural_lm, where)

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(neural_lm, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted(species, chosen, Checkpoint(tmp_path / "checkpoint.safetensors"))
    resumed = fitted(species, chosen, Checkpoint(tmp_path / "checkpoint.safetensors"))
    assert without_seconds(resumed.history) == without_seconds(uninterrupted(species))


# ---- In the folder of a predictor -------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["a", "bé", "cc", "the", "d."], 40)) for _ in range(30)]
    documents = [Document(f"{number}", text) for number, text in enumerate(texts)]
    about = {"title": "", "licence": "", "citation": "", "protocol": ""}
    return Corpus("words", **about, train=documents[:20], valid=documents[20:25], test=documents[25:])


def test_a_predictor_keeps_its_history_in_bits_per_byte(corpus: Corpus, tmp_path: Path) -> None:
    steps: list[TrainingStep] = []
    predictor = Predictor.fit("lstm", corpus, tokenizer="char", on_step=steps.append, **test_loop.SETTINGS)
    assert predictor.history is not None
    evaluations = [point for point in predictor.history.points if point.valid_loss is not None]
    record = evaluate(predictor, encode_corpus(corpus, "char"), split="valid")
    best = min(point.valid_bits_per_byte or 99 for point in evaluations)
    assert best == pytest.approx(record.bits_per_byte, rel=1e-5)
    assert [step.valid_bits_per_byte for step in steps if step.valid_loss] == pytest.approx(
        [point.valid_bits_per_byte for point in evaluations], rel=1e-5
    )
    folder = predictor.save(tmp_path / "lstm")
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0].keys() == {"step", "tokens", "seconds", "train_loss", "learning_rate", "gradient_norm", "unit"}
    assert Predictor.load(folder).history == predictor.history
    again = Predictor.load(folder).save(tmp_path / "copy")
    assert (again / "history.jsonl").read_bytes() == (folder / "history.jsonl").read_bytes()
    (folder / "history.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"history.jsonl is damaged: the field 'tokens' is missing"):
        Predictor.load(folder)


def test_a_tokenizer_that_loses_text_has_no_bits_per_byte(corpus: Corpus) -> None:
    reports: list[Progress] = []
    predictor = Predictor.fit("lstm", corpus, tokenizer="word:2", on_progress=reports.append, **test_loop.SETTINGS)
    assert predictor.history is not None
    assert {point.valid_bits_per_byte for point in predictor.history.points} == {None}
    assert any(report.step and report.step.valid_loss for report in reports)
