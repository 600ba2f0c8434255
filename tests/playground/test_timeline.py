"""The routes of the view "Timeline": the cards of the zoo, and the leaderboards and reports of run folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lmzoo import zoo
from lmzoo.evaluation.records import read_run
from lmzoo.playground.pages import add_playground
from lmzoo.report import leaderboard
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels
from lmzoo.zoo.eras import ERAS


def test_all_families_are_told_with_era_and_paper(client_with_run: TestClient) -> None:
    answer = client_with_run.get("/playground/timeline").json()
    assert [era["name"] for era in answer["eras"]] == [era.name for era in ERAS]
    families = {family["name"]: family for family in answer["families"]}
    assert set(families) == set(zoo.names())
    spans = {era["name"]: range(era["start"], era["end"]) for era in answer["eras"]}
    for name, family in families.items():
        card = zoo.card(name)
        assert (family["title"], family["idea"], family["paper"]) == (card.title, card.idea, card.paper)
        assert card.year in spans[family["era"]]
    assert families["markov"]["bibtex"].startswith("@")


def test_only_the_report_of_a_run_is_served(client_with_run: TestClient, align_run: Path) -> None:
    (run,) = client_with_run.get("/playground/timeline").json()["runs"]
    assert run["name"] == align_run.name
    response = client_with_run.get(run["report"])
    assert "The report of a run" in response.text
    policy = response.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "connect-src" not in policy  # so that "default-src 'none'" holds for requests
    for path in ("0/comparisons.jsonl", "0/report/../comparisons.jsonl", "0/..%2f0%2fcomparisons.jsonl", "x/report"):
        assert client_with_run.get(f"/playground/runs/{path}").status_code in (400, 404, 422)


@pytest.mark.slow
def test_leaderboards_are_those_of_the_report(run_folder: Path) -> None:
    app = create_app(ServedModels({}))
    add_playground(app, [run_folder])
    with TestClient(app) as client:
        (run,) = client.get("/playground/timeline").json()["runs"]
    expected = leaderboard.titled_tables(read_run(run_folder))
    assert [table["title"] for table in run["tables"]] == [title for title, _, _ in expected]
    assert run["tables"][0]["header"] == list(leaderboard.MAIN)
    assert [row[0] for row in run["tables"][0]["rows"]] == [record.name for record in expected[0][2]]
