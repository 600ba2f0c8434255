"""The data of the view "Chat and rank": the chat models, and votes, which land once and at once in a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from micro_chat_models import micro_predictor
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.chat.preferences import read_rankings
from lmzoo.errors import UsageError
from lmzoo.interchange.huggingface import predictor_to_huggingface
from lmzoo.models.shipped import shipped_folder
from lmzoo.playground.pages import add_playground
from lmzoo.playground.voting import Ballot, key_of
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels


@pytest.fixture
def run(align_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(align_run, tmp_path / "run")


def ballot(run: Path) -> Ballot:
    return Ballot(run / "comparisons.jsonl", run / "votes.jsonl")


def test_chat_models_are_told_apart(client_with_run: TestClient, client: TestClient) -> None:
    listed = client_with_run.get("/playground/models").json()
    assert [model["name"] for model in listed if model["can_chat"]] == ["chat"]
    assert client_with_run.get("/playground/ballot").json() is True
    assert client.get("/playground/ballot").json() is False


def test_chat_models_are_loaded_when_somebody_talks_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"chat": micro_predictor().save(tmp_path / "chat"), "unigram": shipped_folder() / "unigram"}
    loaded: list[str] = []
    load = Predictor.load
    monkeypatch.setattr(Predictor, "load", lambda source: loaded.append(source.name) or load(source))
    app = create_app(ServedModels(sources))
    add_playground(app)
    with TestClient(app) as client:
        chat = next(model for model in client.get("/playground/models").json() if model["name"] == "chat")
        assert (chat["can_chat"], chat["learns_from"], chat["error"]) == (True, "conversations", None)
        assert loaded == ["unigram"]
        body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert loaded == ["unigram", "chat"]
        again = next(model for model in client.get("/playground/models").json() if model["name"] == "chat")
        assert again == chat


def test_without_a_run_visitors_vote_on_the_ballot_of_the_program(run: Path, align_run: Path) -> None:
    for runs, votes in (([], run / "own.jsonl"), ([run], run / "votes.jsonl")):
        app = create_app(ServedModels({}))
        add_playground(app, runs, ballot=Ballot(align_run / "comparisons.jsonl", run / "own.jsonl"))
        with TestClient(app) as client:
            key = client.get("/playground/votes", params={"rater": "ann"}).json()["comparison"]["key"]
            body = {"rater": "ann", "action": "1", "key": key}
            assert client.post("/playground/votes", json=body).status_code == 200
        assert len(read_rankings(votes)) == 1


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
    votes = ballot(run)
    key = key_of(votes.session("bob").current)
    votes.act("bob", "1", key)
    with pytest.raises(UsageError, match="reload the page"):
        votes.act("bob", "1", key)
    assert len(read_rankings(run / "votes.jsonl")) == 1


def test_raters_have_sessions_of_their_own_and_go_on_where_they_were(run: Path) -> None:
    votes = ballot(run)
    votes.act("ann", "tie", key_of(votes.session("ann").current))
    assert votes.session("bob").n_left == 3
    assert ballot(run).session("ann").n_left == 2
