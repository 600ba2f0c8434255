"""The data of the view "Chat and rank": the chat models, and votes, which land once and at once in a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.chat.preferences import read_rankings
from lmzoo.errors import UsageError
from lmzoo.interchange.huggingface import predictor_to_huggingface
from lmzoo.playground.pages import add_playground
from lmzoo.playground.voting import Ballot, key_of
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels


@pytest.fixture
def run(align_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(align_run, tmp_path / "run")


def test_chat_models_are_told_apart(client_with_run: TestClient, client: TestClient) -> None:
    listed = client_with_run.get("/playground/models").json()
    assert [model["name"] for model in listed if model["can_chat"]] == ["chat"]
    assert client_with_run.get("/playground/ballot").json() is True
    assert client.get("/playground/ballot").json() is False


def test_a_pretrained_chat_model_can_chat(corpus_folder: Path, tmp_path: Path) -> None:
    """As `/v1/chat/completions` does, the page takes a pretrained model for a chat model if it has a template."""
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "window": 128, "training": {"tokens": 2000}}
    predictor = Predictor.fit("gpt2", corpus_folder, tokenizer="bpe:300", device="cpu", **sizes)
    plain = predictor_to_huggingface(predictor, tmp_path / "plain")
    home = predictor_to_huggingface(predictor, tmp_path / "with_template")
    template = "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
    (home / "chat_template.jinja").write_text(template, encoding="utf-8")
    app = create_app(ServedModels({"plain": plain, "chatty": home}))
    add_playground(app)
    with TestClient(app) as client:
        assert {one["name"]: one["can_chat"] for one in client.get("/playground/models").json()} == {
            "plain": False,
            "chatty": True,
        }
        for name, status in (("plain", 400), ("chatty", 200)):
            body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
            assert client.post("/v1/chat/completions", json=body).status_code == status


def test_votes_are_saved_at_once(run: Path, predictors: dict[str, Predictor]) -> None:
    app = create_app(ServedModels(predictors))
    add_playground(app, [run.parent, run])
    with TestClient(app) as client:

        def act(action: str, key: str) -> dict:
            response = client.post("/playground/votes", json={"rater": "ann", "action": action, "key": key})
            assert response.status_code == 200
            return response.json()

        state = client.get("/playground/votes", params={"rater": " ann "}).json()
        assert (state["n_left"], state["n_votes"], state["last"]) == (3, 0, None)
        for number, action in enumerate(("1", "2", "tie"), start=1):
            shown = state["comparison"]
            state = act(action, shown["key"])
            votes = read_rankings(run / "votes.jsonl")
            assert len(votes) == number
            preferred = shown["second"] if action == "2" else shown["first"]
            assert votes[-1].replies[0] == preferred
            assert (votes[-1].tie, votes[-1].rater) == (action == "tie", "ann")
            good_first = shown["first"].startswith("good")
            assert state["last"] == {"choice": action, "models": ["dpo", "sft"] if good_first else ["sft", "dpo"]}
        assert state["comparison"] is None
        assert client.post("/playground/votes", json={"rater": "", "action": "1", "key": ""}).status_code in (400, 422)
        assert client.post("/playground/votes", json={"rater": "a", "action": "3", "key": ""}).status_code in (400, 422)
        state = act("undo", "")
        assert (state["n_left"], state["n_votes"], state["last"]["choice"]) == (1, 2, "2")
        act("skip", state["comparison"]["key"])
    assert len(read_rankings(run / "votes.jsonl")) == 3  # an undone vote counts until it is given again


def test_a_request_that_arrives_twice_counts_once(run: Path) -> None:
    ballot = Ballot(run)
    key = key_of(ballot.session("bob").current)
    ballot.act("bob", "1", key)
    with pytest.raises(UsageError, match="reload the page"):
        ballot.act("bob", "1", key)
    assert len(read_rankings(run / "votes.jsonl")) == 1


def test_raters_have_sessions_of_their_own_and_go_on_where_they_were(run: Path) -> None:
    ballot = Ballot(run)
    ballot.act("ann", "tie", key_of(ballot.session("ann").current))
    assert ballot.session("bob").n_left == 3
    assert Ballot(run).session("ann").n_left == 2
