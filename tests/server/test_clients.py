"""The programs that people use with OpenAI's API work with this server: the package openai, llm and lm-eval."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
import typing
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import RunningServer
from test_chat_completions import MESSAGES

from lmzoo import Predictor
from lmzoo.server import schemas
from lmzoo.stream import EOT


@pytest.fixture
def client(server: RunningServer) -> Iterator[Any]:
    import openai

    with openai.OpenAI(base_url=server.url, api_key="unused", max_retries=0) as client:
        yield client


def test_openai_completions(client: Any, predictors: dict[str, Predictor]) -> None:
    predictor = predictors["markov"]
    assert [model.id for model in client.models.list()] == list(predictors)
    assert client.models.retrieve("markov").owned_by == "lmzoo"
    answer = client.completions.create(model="markov", prompt="The cat", max_tokens=20, seed=1, logprobs=2, echo=True)
    choice = answer.choices[0]
    assert choice.text == "The cat" + predictor.complete("The cat", max_tokens=20, seed=1)
    n_prompt = answer.usage.prompt_tokens
    stats = predictor.model.token_stats(predictor.tokenizer.encode("The cat"))
    np.testing.assert_allclose(
        choice.logprobs.token_logprobs[1:n_prompt], stats.log_probs[1:], rtol=0, atol=1e-5
    )  # fmt: skip
    pieces = client.completions.create(model="markov", prompt="The cat", max_tokens=20, seed=1, stream=True)
    assert "The cat" + "".join(piece.choices[0].text for piece in pieces) == choice.text


def test_openai_chat(client: Any) -> None:
    settings: dict[str, Any] = {"model": "chat", "messages": MESSAGES, "max_tokens": 20, "seed": 1}
    answer = client.chat.completions.create(**settings, logprobs=True, top_logprobs=2)
    choice = answer.choices[0]
    assert choice.finish_reason in ("stop", "length")
    assert len(choice.logprobs.content[0].top_logprobs) == 2
    pieces = client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    pieces = list(pieces)
    assert "".join(piece.choices[0].delta.content for piece in pieces[:-1]) == choice.message.content
    assert pieces[-1].usage == answer.usage


def test_openai_errors(client: Any, server: RunningServer) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="markow", prompt="x")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="'suffix' is not supported"):
        client.completions.create(model="markov", prompt="x", suffix="y")
    with pytest.raises(openai.NotFoundError, match="does not have /v1/responses"):
        client.responses.create(model="markov", input="x")


def test_every_parameter_of_openai_has_a_place() -> None:
    """Each is a field of a request, or ignored, or refused, and only one of these."""
    from openai.types import completion_create_params
    from openai.types.chat import completion_create_params as chat_params

    for theirs, ours in (
        (completion_create_params.CompletionCreateParamsStreaming, schemas.CompletionRequest),
        (chat_params.CompletionCreateParamsStreaming, schemas.ChatRequest),
    ):
        names = set(typing.get_type_hints(theirs))
        places = [set(ours.model_fields), set(ours.ignored), set(ours.refused)]
        assert names <= set.union(*places), inspect.getsourcefile(theirs)
        assert sum(map(len, places)) == len(set.union(*places))
        assert places[1] | places[2] <= names


@pytest.mark.slow
def test_llm(server: RunningServer, predictors: dict[str, Predictor], tmp_path: Path, monkeypatch: Any) -> None:
    """The program `llm` finds the models in its file of further models, continues a text and chats."""
    models: list[dict[str, Any]] = [
        {"model_id": "lmzoo-markov", "model_name": "markov", "api_base": server.url, "completion": True},
        {"model_id": "lmzoo-chat", "model_name": "chat", "api_base": server.url},
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models), encoding="utf-8")  # JSON is YAML
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))

    def ask(*arguments: str) -> str:
        finished = subprocess.run(
            [sys.executable, "-m", "llm", *arguments, "--no-log", "--key", "unused"], capture_output=True, text=True
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    text = ask("-m", "lmzoo-markov", "The cat", "-o", "max_tokens", "20", "-o", "seed", "1")
    assert text.strip() == predictors["markov"].complete("The cat", max_tokens=20, seed=1).strip()
    assert ask("-m", "lmzoo-chat", MESSAGES[0]["content"], "-o", "max_tokens", "10", "-o", "seed", "1")


PERPLEXITY = """
task: local-perplexity
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""
CHOICE = """
task: local-choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["river", "rivers", "xqz"]
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""
TEXTS = ["The cat that I saw was near the river.", "The kings that I saw were near the rivers. The", "né 日本"]
QUESTIONS = ["The cat that I saw was near the", "The cats that I saw were near the"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lm_eval(server: RunningServer, predictors: dict[str, Predictor], tmp_path: Path, monkeypatch: Any) -> None:
    """lm-eval measures the bits per byte of the library, on local data, with the tokenizer of the server."""
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import lm_eval
    from lm_eval.tasks import TaskManager

    texts, questions = tmp_path / "texts.jsonl", tmp_path / "questions.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    rows = [{"question": question, "answer": index} for index, question in enumerate(QUESTIONS)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "perplexity.yaml").write_text(PERPLEXITY.format(file=texts), encoding="utf-8")
    (tmp_path / "choice.yaml").write_text(CHOICE.format(file=questions), encoding="utf-8")
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    for name in ("uniform", "markov", "transformer"):
        with closing(RunningServer({name: predictors[name]})) as with_one_model:
            results = lm_eval.simple_evaluate(
                model="local-completions",
                model_args={"model": name, "base_url": f"{with_one_model.url}/completions", "max_length": 2048},
                tasks=["local-perplexity", "local-choice"],
                task_manager=tasks,
                bootstrap_iters=0,
            )["results"]
        predictor = predictors[name]
        encoded = [predictor.tokenizer.encode(text) for text in TEXTS]
        nats = -sum(predictor.model.log_probs([EOT, *ids])[1:].sum() for ids in encoded)
        expected = nats / math.log(2) / sum(len(text.encode()) for text in TEXTS)
        assert results["local-perplexity"]["bits_per_byte,none"] == pytest.approx(expected, abs=1e-6)
        scores = np.array(
            [[_score(predictor, question, end) for end in ("river", "rivers", "xqz")] for question in QUESTIONS]
        )
        right = np.mean(scores.argmax(1) == np.arange(len(QUESTIONS)))
        assert results["local-choice"]["acc,none"] == pytest.approx(right)
    assert expected != pytest.approx(math.log2(257))


def _score(predictor: Predictor, question: str, end: str) -> float:
    """Returns the log-probability of an end of a question, with the tokens that lm-eval sends."""
    whole, start = predictor.tokenizer.encode(f"{question} {end}"), predictor.tokenizer.encode(question)
    return float(predictor.model.log_probs(whole)[len(start) :].sum())
