"""The program `llm` with predictors as models, without a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from entry_points import environment_with_entry_points

from lmzoo import Predictor
from lmzoo.models.shipped import shipped_text_models

llm = pytest.importorskip("llm")

from lmzoo.interchange.llm_plugin import PredictorModel, register_models  # noqa: E402


def test_the_predictors_that_come_with_lmzoo_are_models() -> None:
    models: list[PredictorModel] = []
    register_models(models.append)
    assert [model.model_id for model in models] == [*(f"lmzoo/{name}" for name in shipped_text_models()), "lmzoo"]


def test_a_prompt_is_continued_in_pieces_and_with_options() -> None:
    model, predictor = PredictorModel("lmzoo/ngram", "ngram"), Predictor.load("ngram")
    options = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 12, "seed": 3}
    expected = predictor.complete("In the", max_tokens=12, temperature=0.7, top_p=0.9, seed=3)
    pieces = [*model.prompt("In the", **options)]
    assert "".join(pieces) == expected
    assert len(pieces) > 1
    assert [*model.prompt("In the", stream=False, **options)] == [expected]
    assert model.prompt("In the", seed=1).text() == predictor.complete("In the", seed=1)


def test_any_predictor_is_named_by_an_option(saved: Path) -> None:
    model = PredictorModel("lmzoo")
    text = model.prompt("The cat", predictor=str(saved), seed=1, max_tokens=9).text()
    assert text == Predictor.load(saved).complete("The cat", seed=1, max_tokens=9)
    with pytest.raises(ValueError, match="predictor"):
        model.prompt("The cat")


def test_what_the_models_cannot_do_is_refused() -> None:
    model = PredictorModel("lmzoo/markov", "markov")
    with pytest.raises(llm.ModelError, match="has no system prompt"):
        model.prompt("a", system="b").text()
    with pytest.raises(ValueError, match="top_k"):
        model.prompt("a", top_k=3)
    with pytest.raises(ValueError, match="temperature must be"):
        model.prompt("a", temperature=-1).text()


@pytest.mark.slow
def test_the_program_finds_the_models_and_asks_them(tmp_path: Path) -> None:
    environment = environment_with_entry_points(tmp_path) | {"LLM_USER_PATH": str(tmp_path / "user")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llm", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    asked = run("-m", "lmzoo/ngram", "In the beginning", "-o", "seed", "1", "-o", "max_tokens", "20", "--no-log")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip() == Predictor.load("ngram").complete("In the beginning", seed=1, max_tokens=20).strip()
    refused = run("-m", "lmzoo/ngram", "a", "-o", "temperature", "-1", "--no-log")
    assert refused.returncode == 1
    assert "temperature must be" in refused.stderr
    assert "Traceback" not in refused.stderr
