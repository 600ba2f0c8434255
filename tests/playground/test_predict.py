"""The route behind the views Predict and Slide gives what the predictors give when they are called directly."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.generation import Decoding, generate
from lmzoo.models.class_hmm.model import ClassHiddenMarkovModel
from lmzoo.models.ngram.model import NgramModel
from lmzoo.playground.pages import add_playground
from lmzoo.playground.readings import Readings
from lmzoo.playground.stages import Stages
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels

PROMPT = "The ships that I saw"
CUTTING = {"temperature": 0.7, "top_k": 6, "top_p": 0.9, "min_p": 0.05}


def predict(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    response = client.post("/playground/predict", json=body)
    assert response.status_code == 200
    return response.json()


def test_models_are_listed_in_the_order_of_their_eras(client: TestClient, predictors: dict[str, Predictor]) -> None:
    listed = client.get("/playground/models").json()
    assert [model["name"] for model in listed] == ["markov", "unigram", "hmm", "trigram", "lstm"]
    assert [model["vocab_size"] for model in listed] == [predictors[m["name"]].tokenizer.vocab_size for m in listed]
    assert listed[0]["year"] == 1913
    assert listed[0]["title"] == "Markov chain"


@pytest.mark.parametrize("settings", [{}, CUTTING, {"temperature": 0}])
def test_predictions_equal_those_of_the_predictors(
    client: TestClient, predictors: dict[str, Predictor], settings: dict[str, float]
) -> None:
    answers = predict(client, prompt=PROMPT, models=list(predictors), decoding=settings, seed=5, k=7)
    assert [answer["name"] for answer in answers] == list(predictors)
    for answer in answers:
        predictor = predictors[answer["name"]]
        distribution = predictor.predict_distribution(PROMPT)
        final = Decoding(**settings)(distribution)
        tokens = answer["tokens"][:7]
        assert [token["id"] for token in tokens] == [token_id for token_id, _ in distribution.top(7)]
        assert [token["rank"] for token in tokens] == list(range(1, 8))
        for token in answer["tokens"]:
            assert token["prob"] == pytest.approx(distribution.prob(token["id"]), abs=1e-6)
            assert token["final"] == pytest.approx(final.prob(token["id"]), abs=1e-6)
            assert (token["cut_by"] is None) == (final.prob(token["id"]) > 0)
        assert answer["rest"] == pytest.approx(1 - sum(token["prob"] for token in answer["tokens"]), abs=1e-9)
        assert answer["entropy"] == pytest.approx(distribution.entropy() / math.log(2), abs=1e-5)
        assert answer["final_entropy"] == pytest.approx(final.entropy() / math.log(2), abs=1e-5)
        assert answer["n_kept"] == np.count_nonzero(final.probs)
        assert answer["drawn"] == final.sample(np.random.default_rng(5))
        drawn = next(token for token in answer["tokens"] if token["id"] == answer["drawn"])
        assert drawn["interval"][0] <= answer["draw"] <= drawn["interval"][1]


def test_steps_are_those_of_a_generation(client: TestClient, predictors: dict[str, Predictor]) -> None:
    own: dict[str, list[int]] = {name: [] for name in predictors}
    for _ in range(6):
        for answer in predict(client, prompt=PROMPT, models=list(own), own=own, decoding=CUTTING, seed=3):
            own[answer["name"]].append(answer["drawn"])
    for name, predictor in predictors.items():
        ids = predictor.tokenizer.encode(PROMPT)
        sampled = generate(predictor.model, ids, rng=3, decoding=Decoding(**CUTTING), max_tokens=6, end_ids=())
        assert own[name] == [token.token_id for token in sampled]


def test_tokens_of_one_model_belong_to_its_context(client: TestClient, predictors: dict[str, Predictor]) -> None:
    ids = predictors["markov"].tokenizer.encode(" were near").tolist()
    [with_own] = predict(client, prompt=PROMPT, models=["markov"], own={"markov": ids})
    [whole] = predict(client, prompt=PROMPT + " were near", models=["markov"])
    assert [token["prob"] for token in with_own["tokens"][:5]] == [token["prob"] for token in whole["tokens"][:5]]
    assert [token["own"] for token in with_own["context"]][-len(ids) - 1 :] == [False] + [True] * len(ids)


def test_a_model_sees_its_window(client: TestClient) -> None:
    seen = {
        answer["name"]: [token["seen"] for token in answer["context"]]
        for answer in predict(client, prompt=PROMPT, models=["unigram", "markov", "trigram", "lstm"])
    }
    assert not any(seen["unigram"])
    assert [sum(seen[name]) for name in ("markov", "trigram")] == [1, 2]
    assert seen["trigram"][-2:] == [True, True]
    assert all(seen["lstm"])


def test_the_order_that_answered(client: TestClient, predictors: dict[str, Predictor]) -> None:
    [answer] = predict(client, prompt=PROMPT, models=["trigram"])
    predictor = predictors["trigram"]
    assert isinstance(predictor.model, NgramModel)
    context = predictor.tokenizer.encode(PROMPT).tolist()
    for token in answer["tokens"]:
        assert token["order"] == predictor.model.matched_orders([*context, token["id"]])[-1]


def test_the_belief_of_the_hidden_markov_model(client: TestClient, predictors: dict[str, Predictor]) -> None:
    [answer] = predict(client, prompt=PROMPT, models=["hmm"])
    model = predictors["hmm"].model
    belief = model.state_after(predictors["hmm"].tokenizer.encode(PROMPT))
    assert [state["prob"] for state in answer["states"]] == pytest.approx(sorted(belief)[::-1][:3])


def test_the_belief_of_a_hidden_markov_model_with_classes() -> None:
    """The hidden states that emit the next token give the prediction: the sum over states of belief times emission."""
    predictor = Predictor.load("class-hmm")
    app = create_app(ServedModels({"class-hmm": predictor}))
    add_playground(app)
    with TestClient(app) as client:
        [answer] = predict(client, prompt="And God said", models=["class-hmm"])
    model = predictor.model
    assert isinstance(model, ClassHiddenMarkovModel)
    state = model.state_after(predictor.tokenizer.encode("And God said"))
    belief = model.next_states(state)
    assert [state["prob"] for state in answer["states"]] == pytest.approx(np.sort(belief)[::-1][:3])
    summed = np.zeros(model.vocab_size)
    for hidden_state, prob in enumerate(belief):
        ids, probs = zip(*model.typical_tokens(hidden_state, model.vocab_size), strict=True)
        summed[list(ids)] += prob * np.array(probs)
    np.testing.assert_allclose(summed, np.exp(model.next_log_probs(state)), atol=1e-6)
    best = int(belief.argmax())
    texts = [
        predictor.tokenizer.token_text(token_id).replace(" ", "␣") for token_id, _ in model.typical_tokens(best, 3)
    ]
    assert answer["states"][0]["tokens"] == texts


def test_added_text_continues_the_prompt(client: TestClient, predictors: dict[str, Predictor]) -> None:
    for answer, prompt in itertools.product(
        predict(client, prompt="The king", models=["markov", "hmm"], k=20), ["The king"]
    ):
        predictor = predictors[answer["name"]]
        ids = predictor.tokenizer.encode(prompt).tolist()
        for token in answer["tokens"]:
            if token["adds"] is not None:
                longer = predictor.tokenizer.decode([*ids, token["id"]])
                assert longer == predictor.tokenizer.decode(ids) + token["adds"]
            else:
                assert token["id"] == 0 or "\ufffd" in predictor.tokenizer.decode([*ids, token["id"]])


def test_one_model_fails_alone(client: TestClient) -> None:
    unknown, known = predict(client, prompt="a", models=["markof", "markov"])
    assert "did you mean 'markov'?" in unknown["error"]
    assert known["error"] is None
    [outside] = predict(client, prompt="a", models=["markov"], own={"markov": [10**6]})
    assert "1000000" in outside["error"]


@pytest.mark.parametrize(
    "body",
    [
        {"models": []},
        {"models": ["markov"], "decoding": {"temperature": -1}},
        {"models": ["markov"], "decoding": {"top_p": 0}},
        {"models": ["markov"], "seed": -1},
        {"models": ["markov"], "k": 10**6},
        {"models": ["markov"], "prompt": "a" * 20_001},
    ],
)
def test_requests_have_bounds(client: TestClient, body: dict[str, Any]) -> None:
    assert 400 <= client.post("/playground/predict", json=body).status_code < 500


def test_a_prompt_that_is_too_long_is_said_to_be(client: TestClient) -> None:
    answer = client.post("/playground/predict", json={"prompt": "a" * 20_001, "models": ["markov"]})
    assert answer.json()["error"]["message"] == "prompt: string should have at most 20000 characters"


def test_a_remembered_context_gives_the_same(predictors: dict[str, Predictor]) -> None:
    readings = Readings(ServedModels(predictors))
    for name, predictor in predictors.items():
        ids = predictor.tokenizer.encode(PROMPT).tolist()
        for context in (ids[:-3], ids, ids[:-1], ids + ids, ids):
            expected = predictor.predict_distribution(context).log_probs
            assert np.allclose(readings.after(name, context).distribution.log_probs, expected, atol=1e-5)


def test_a_model_that_is_added_later_is_read_too(predictors: dict[str, Predictor]) -> None:
    models = ServedModels({})
    readings = Readings(models)
    models.add("markov", predictors["markov"])
    ids = predictors["markov"].tokenizer.encode(PROMPT).tolist()
    expected = predictors["markov"].predict_distribution(ids)
    np.testing.assert_array_equal(readings.after("markov", ids).distribution.log_probs, expected.log_probs)


def test_each_cut_token_names_the_setting_that_excluded_it(predictors: dict[str, Predictor]) -> None:
    distribution = predictors["markov"].predict_distribution(PROMPT)
    stages = Stages(distribution, Decoding(top_k=5, top_p=0.9))
    order = [token_id for token_id, _ in distribution.top(len(distribution))]
    assert {stages.cut_by(token_id) for token_id in order[5:]} == {"top_k"}
    kept = [token_id for token_id in order if stages.cut_by(token_id) is None]
    assert {stages.cut_by(token_id) for token_id in order[len(kept) : 5]} <= {"top_p"}
    lengths = np.diff([stages.interval(token_id) for token_id in kept]).ravel()
    assert lengths == pytest.approx([stages.final.prob(token_id) for token_id in kept])


def test_hostile_text_is_data(client: TestClient) -> None:
    prompt = "<script>alert(1)</script>\u202e\x1b[31m"
    [answer] = predict(client, prompt=prompt, models=["markov"], n_context=100)
    assert answer["error"] is None
    shown = "".join(token["text"] for token in answer["context"])
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "<script>" in shown
