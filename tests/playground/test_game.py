"""Shannon's game: its passages are held-out text of the right alphabet, and the scores are surprisals of the models."""

from __future__ import annotations

import math
import re

import pytest
from starlette.testclient import TestClient

from lmzoo import Predictor, load_corpus
from lmzoo.playground.game import PassageRequest, passage_bits, passage_of


def test_passages_are_held_out_and_of_27_characters(client_with_run: TestClient) -> None:
    documents = {document.name: document.text for document in load_corpus("kjv").test}
    seen = set()
    for number in range(30):
        answer = client_with_run.post("/playground/game/passage", json={"seed": 5, "number": number}).json()
        assert re.fullmatch("( [a-z]+)+", answer["letters"])
        assert documents[answer["source"]].startswith(answer["before"] + answer["letters"])
        assert not re.match("[a-z ]", documents[answer["source"]][len(answer["before"] + answer["letters"]) :])
        seen.add((answer["source"], answer["before"]))
    assert len(seen) == 30
    again = client_with_run.post("/playground/game/passage", json={"seed": 5, "number": 29}).json()
    assert again == answer


@pytest.mark.parametrize("model", ["unigram", "markov", "trigram", "lstm", "transformer"])
def test_scores_are_surprisals_of_the_same_text(
    client_with_run: TestClient, all_kinds: dict[str, Predictor], model: str
) -> None:
    body = {"model": model, "seed": 1, "number": 2}
    bits = client_with_run.post("/playground/game/score", json=body).json()["bits"]
    passage = passage_of(PassageRequest(seed=1, number=2))
    predictor = all_kinds[model]
    before = predictor.surprisals(passage.before, end_of_text=False).total_bits
    both = predictor.surprisals(passage.before + passage.letters, end_of_text=False).total_bits
    assert bits == pytest.approx(both - before, abs=1e-3)
    assert bits > 0


def test_tokenizers_that_lose_letters_have_no_score(all_kinds: dict[str, Predictor]) -> None:
    passage = passage_of(PassageRequest(seed=0, number=0))
    assert passage_bits(all_kinds["hmm"], passage) is None
    bits = passage_bits(all_kinds["unigram"], passage)
    assert bits is not None
    assert math.isfinite(bits)
