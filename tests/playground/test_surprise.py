"""The routes of the view "Surprise" give what the predictors give when they are called directly."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.playground.surprise import MAX_TOKENS

TEXT = "the fox saw the naïve 🦊 and ran"


@pytest.mark.parametrize("model", ["unigram", "markov", "hmm", "lstm", "transformer"])
def test_scores_are_those_of_the_predictor(
    client_with_run: TestClient, all_kinds: dict[str, Predictor], model: str
) -> None:
    answer = client_with_run.post("/playground/surprise", json={"model": model, "text": TEXT}).json()
    tokens = all_kinds[model].surprisals(TEXT, end_of_text=False)
    assert answer["starts"] == [token.start for token in tokens]
    assert answer["ends"] == [token.end for token in tokens]
    assert answer["ranks"] == [token.rank for token in tokens]
    assert answer["surprisals"] == pytest.approx([token.surprisal_bits for token in tokens], abs=1e-5)
    assert answer["entropies"] == pytest.approx([token.entropy_bits for token in tokens], abs=1e-5)
    assert answer["n_tokens"] == len(tokens)
    assert answer["lossless"] == (model != "hmm")


def test_alternatives_are_the_most_likely_tokens(client_with_run: TestClient, all_kinds: dict[str, Predictor]) -> None:
    predictor = all_kinds["markov"]
    pieces = predictor.tokenizer.pieces(TEXT)
    for position in (0, 3, len(pieces) - 1):
        body = {"model": "markov", "text": TEXT, "position": position, "k": 5}
        answer = client_with_run.post("/playground/surprise/alternatives", json=body).json()
        ids = [piece.token_id for piece in pieces]
        distribution = predictor.predict_distribution(ids[:position])
        assert [(one["id"], one["prob"]) for one in answer["likely"]] == [
            (token_id, pytest.approx(prob)) for token_id, prob in distribution.top(5)
        ]
        token = predictor.surprisals(TEXT, end_of_text=False)[position]
        assert (answer["token"]["id"], answer["token"]["rank"]) == (ids[position], token.rank)
        assert answer["before"] == token.start
        for one in answer["likely"]:
            if one["adds"] and position:
                longer = predictor.tokenizer.encode(TEXT[: token.start] + one["adds"])
                assert predictor.tokenizer.decode(longer) == TEXT[: token.start] + one["adds"]


def test_long_texts_are_cut(client_with_run: TestClient) -> None:
    answer = client_with_run.post("/playground/surprise", json={"model": "unigram", "text": "ab" * 2000}).json()
    assert len(answer["starts"]) == MAX_TOKENS
    assert answer["n_tokens"] == 4000


def test_an_empty_text_has_no_tokens(client_with_run: TestClient) -> None:
    answer = client_with_run.post("/playground/surprise", json={"model": "markov", "text": ""}).json()
    assert answer["starts"] == answer["surprisals"] == []
