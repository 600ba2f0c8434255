"""The routes of the view "Chat and rank": votes land, once and at once, in the file that `lmzoo align` reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.chat.preferences import read_rankings
from lmzoo.errors import UsageError
from lmzoo.playground.pages import add_playground
from lmzoo.playground.voting import Ballot, key_of
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels


@pytest.fixture
def run(align_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(align_run, tmp_path / "run")


def test_chat_models_are_told_apart(client_with_run: TestClient, client: TestClient) -> None:
    facts = client_with_run.get("/playground/chat").json()
    assert facts["chat"] == ["chat"]
    assert "transformer" in facts["completion"]
    assert facts["can_vote"]
    assert client.get("/playground/chat").json()["chat"] == []
    assert not client.get("/playground/chat").json()["can_vote"]


def test_votes_are_saved_at_once(run: Path, predictors: dict[str, Predictor]) -> None:
    app = create_app(ServedModels(predictors))
    add_playground(app, [run.parent, run])
    with TestClient(app) as client:

        def act(action: str, key: str) -> dict:
            response = client.post("/playground/votes", json={"rater": "ann", "action": action, "key": key})
            assert response.status_code == 200
            return response.json()

        state = client.get("/playground/votes", params={"rater": " ann "}).json()
        assert (state["n_left"], state["n_votes"]) == (3, 0)
        for number, action in enumerate(("1", "2", "tie"), start=1):
            shown = state["comparison"]
            state = act(action, shown["key"])
            votes = read_rankings(run / "votes.jsonl")
            assert len(votes) == number
            preferred = shown["second"] if action == "2" else shown["first"]
            assert votes[-1].replies[0] == preferred
            assert (votes[-1].tie, votes[-1].rater) == (action == "tie", "ann")
        assert state["comparison"] is None
        assert client.post("/playground/votes", json={"rater": "", "action": "1", "key": ""}).status_code in (400, 422)
        assert client.post("/playground/votes", json={"rater": "a", "action": "3", "key": ""}).status_code in (400, 422)
        state = act("undo", "")
        assert (state["n_left"], state["n_votes"]) == (1, 2)
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
