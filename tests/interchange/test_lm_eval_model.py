"""lm-eval with predictors as models, without a server: its figures are ours."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from entry_points import environment_with_entry_points

from lmzoo import Predictor
from lmzoo.errors import UsageError

pytest.importorskip("lm_eval")

from lmzoo.interchange import lm_eval_model
from lmzoo.interchange.lm_eval_model import LmzooLM

TEXTS = ["And God said, Let there be light.", "né 日本 \n", "the king"]
PAIRS = [("And God said, Let", " there be light"), ("And God said, Let ", "there"), ("", "In the"), ("In", " the")]


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=each) for each in arguments]


@pytest.fixture(scope="module", params=["ngram", "lstm"])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return Predictor.load(request.param)


@pytest.mark.parametrize("batch", [1, 1 << 15])
def test_texts_are_scored_from_their_start_without_their_end(
    predictor: Predictor, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_model, "_BATCH_IDS", batch)
    found = LmzooLM(predictor).loglikelihood_rolling(requests(*((text,) for text in [*TEXTS, ""])))
    expected = [predictor.model.log_probs(predictor.tokenizer.encode(text)).sum() for text in TEXTS]
    np.testing.assert_allclose(found, [*expected, 0], rtol=0, atol=1e-4)
    bits = [predictor.surprisals(text, end_of_text=False).total_bits for text in TEXTS]
    np.testing.assert_allclose(found[:3], -np.array(bits) * math.log(2), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 1 << 15])
def test_continuations_are_scored_after_their_contexts(
    predictor: Predictor, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_model, "_BATCH_IDS", batch)
    found = LmzooLM(predictor).loglikelihood(requests(*PAIRS), disable_tqdm=True)
    encode = predictor.tokenizer.encode
    for (context, continuation), (log_prob, is_greedy) in zip(PAIRS, found, strict=True):
        whole, n_context = encode(context + continuation), len(encode(context.rstrip()))
        distributions = [predictor.predict_distribution(whole[:t]) for t in range(n_context, len(whole))]
        expected = sum(
            distribution.log_prob(int(token))
            for distribution, token in zip(distributions, whole[n_context:], strict=True)
        )
        assert log_prob == pytest.approx(expected, rel=1e-6)
        likeliest = [distribution.top(1)[0][0] for distribution in distributions]
        assert is_greedy == (likeliest == whole[n_context:].tolist())


def test_the_likeliest_continuation_is_greedy(predictor: Predictor) -> None:
    likeliest = predictor.complete("And God said, Let", max_tokens=4, temperature=0)
    (_, is_greedy), (_, other) = LmzooLM(predictor).loglikelihood(
        requests(("And God said, Let", likeliest), ("And God said, Let", " zebra")), disable_tqdm=True
    )
    assert is_greedy
    assert not other


def test_generation_is_greedy_unless_sampling_is_asked_for(predictor: Predictor) -> None:
    model = LmzooLM(predictor, seed=5)
    asked: list[dict[str, Any]] = [
        {"until": [","], "max_gen_toks": 30},
        {"until": ",", "max_gen_toks": 30, "do_sample": False, "temperature": 0.0},
        {"max_gen_toks": 12, "do_sample": True, "temperature": 0.8, "top_p": 0.9},
        {"max_gen_toks": 12, "temperature": 0.8, "top_p": 0.9},
    ]
    found = model.generate_until(requests(*(("And he", settings) for settings in asked)))
    greedy = predictor.complete("And he", max_tokens=30, temperature=0, stop=[","])
    sampled = predictor.complete("And he", max_tokens=12, temperature=0.8, top_p=0.9, seed=5)
    assert found == [greedy, greedy, sampled, sampled]


def test_arguments_of_lm_eval_are_known_or_refused(saved: Path) -> None:
    model = LmzooLM.create_from_arg_string(f"pretrained={saved},seed=3", {"batch_size": 4, "device": None})
    assert model.predictor.species == "markov"
    assert model.tokenizer_name == model.predictor.tokenizer.fingerprint
    with pytest.raises(UsageError, match="unknown argument 'modle'"):
        LmzooLM.create_from_arg_string(f"pretrained={saved},modle=x")


PERPLEXITY = """
task: own-perplexity
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""
# To read the descriptions of all tasks that come with lm-eval takes 20 seconds.
RUN = """
import functools, runpy, sys
import lm_eval.tasks

lm_eval.tasks.TaskManager = functools.partial(lm_eval.tasks.TaskManager, include_defaults=False)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", ["lmzoo.interchange.lm_eval", "lm_eval"])
def test_the_program_measures_our_bits_per_byte(program: str, tmp_path: Path) -> None:
    if program == "lm_eval" and not _reads_entry_points():
        pytest.skip("this version of lm-eval does not read the entry points lm_eval.models")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    (tasks / "own.yaml").write_text(PERPLEXITY.format(file=file), encoding="utf-8")
    environment = environment_with_entry_points(tmp_path) | {
        "HF_HOME": str(tmp_path / "cache"), "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    command = [
        sys.executable, "-c", RUN, program, "--model", "lmzoo", "--model_args", "pretrained=ngram",
        "--tasks", "own-perplexity", "--include_path", str(tasks), "--output_path", str(tmp_path / "out"),
    ]  # fmt: skip
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    written = next((tmp_path / "out").rglob("results*.json"))
    found = json.loads(written.read_text(encoding="utf-8"))["results"]["own-perplexity"]["bits_per_byte,none"]
    bits = sum(Predictor.load("ngram").surprisals(text, end_of_text=False).total_bits for text in TEXTS)
    assert found == pytest.approx(bits / sum(len(text.encode()) for text in TEXTS), abs=1e-6)


def _reads_entry_points() -> bool:
    from lm_eval.api import registry

    return hasattr(registry, "import_plugins")
