"""The routes of the view "Attention and memory" give what the models and probes give when they are called directly."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.models.hidden_states import HasHiddenStates
from lmzoo.models.ngram.model import NgramModel
from lmzoo.playground.inside import MAX_TOKENS
from lmzoo.probes.attention import attention_weights
from lmzoo.probes.gates import recurrent_traces
from lmzoo.probes.gradient_flow import gradient_norms

TEXT = "the fox saw the naïve 🦊 and ran"


def inside(client: TestClient, model: str, text: str = TEXT) -> dict[str, Any]:
    response = client.post("/playground/inside", json={"model": model, "text": text})
    assert response.status_code == 200
    return response.json()


def array(packed: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["data"]), "<f4").reshape(packed["shape"])


def test_attention_of_a_transformer(client_with_run: TestClient, all_kinds: dict[str, Predictor]) -> None:
    predictor = all_kinds["transformer"]
    answer = inside(client_with_run, "transformer")
    pieces = predictor.tokenizer.pieces(TEXT)
    assert [(one["id"], one["start"], one["end"]) for one in answer["tokens"]] == [
        (piece.token_id, piece.start, piece.end) for piece in pieces
    ]
    expected = attention_weights(predictor.model, [piece.token_id for piece in pieces])
    np.testing.assert_array_equal(array(answer["attention"]), expected)
    assert answer["has_gradients"]
    assert answer["layers"] is answer["orders"] is answer["states"] is None


def test_gates_and_gradients_of_an_lstm(client_with_run: TestClient, all_kinds: dict[str, Predictor]) -> None:
    predictor = all_kinds["lstm"]
    ids = predictor.tokenizer.encode(TEXT)
    answer = inside(client_with_run, "lstm")
    traces = recurrent_traces(predictor.model, ids)
    assert len(answer["layers"]) == len(traces) == 2
    for layer, trace in zip(answer["layers"], traces, strict=True):
        assert [one["name"] for one in layer["traces"]] == list(trace)
        for one in layer["traces"]:
            values = trace[one["name"]]
            np.testing.assert_array_equal(array(one["values"]), values[:, layer["units"]])
            np.testing.assert_allclose(one["mean"], values.mean(1), rtol=1e-6)
    body = {"model": "lstm", "text": TEXT, "position": len(ids) - 1}
    norms = client_with_run.post("/playground/inside/gradients", json=body).json()
    np.testing.assert_allclose(norms, gradient_norms(predictor.model, ids, len(ids) - 1), rtol=1e-6)
    assert len(norms) == len(ids) - 1


def test_n_grams_and_hidden_states(client_with_run: TestClient, all_kinds: dict[str, Predictor]) -> None:
    trigram, hmm = all_kinds["trigram"], all_kinds["hmm"]
    assert isinstance(trigram.model, NgramModel)
    assert isinstance(hmm.model, HasHiddenStates)
    answer = inside(client_with_run, "trigram")
    assert answer["orders"] == trigram.model.matched_orders(trigram.tokenizer.encode(TEXT)).tolist()
    assert answer["order"] == 3
    assert not answer["has_gradients"]
    answer = inside(client_with_run, "hmm")
    ids = hmm.tokenizer.encode(TEXT)
    assert answer["path"] == hmm.model.viterbi(ids).tolist()
    posteriors = hmm.model.posteriors(ids)
    for state in answer["states"]:
        np.testing.assert_allclose(state["probs"], posteriors[:, state["state"]])
    assert {state["state"] for state in answer["states"]} >= set(answer["path"])


def test_other_models_have_tokens_only(client_with_run: TestClient) -> None:
    answer = inside(client_with_run, "unigram", "ab")
    assert len(answer["tokens"]) == 2
    assert not any(answer[part] for part in ("attention", "layers", "orders", "states", "has_gradients"))


def test_long_texts_are_cut(client_with_run: TestClient) -> None:
    answer = inside(client_with_run, "transformer", "a" * 1000)
    assert (len(answer["tokens"]), answer["n_tokens"]) == (MAX_TOKENS, 1000)
    assert answer["attention"]["shape"][2:] == [MAX_TOKENS + 1, MAX_TOKENS + 1]
    body = {"model": "lstm", "text": "a b", "position": MAX_TOKENS}
    assert client_with_run.post("/playground/inside/gradients", json=body).status_code in (400, 422)


@pytest.mark.parametrize("body", [{}, {"model": "lstm"}, {"model": "lstm", "text": "a" * 20_001}, {"text": 1}])
def test_wrong_requests_are_refused(client_with_run: TestClient, body: dict[str, Any]) -> None:
    assert client_with_run.post("/playground/inside", json=body).status_code in (400, 422)
