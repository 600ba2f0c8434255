"""The routes behind the view Tokens: texts as tokenizers split them, and the merges of byte-pair encoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.errors import TokenizerError, UnknownNameError
from lmzoo.models.shipped import shipped_folder
from lmzoo.playground.merges import Merges
from lmzoo.playground.tokens import Tokenizers
from lmzoo.server.models import ServedModels

TEXT = "The foxes saw  naïve\n🦊 rivers."


def split(client: TestClient, text: str, tokenizer: str) -> dict[str, Any]:
    response = client.post("/playground/tokens", json={"text": text, "tokenizer": tokenizer})
    assert response.status_code == 200
    return response.json()


def test_tokenizers_of_models_are_listed_once(client: TestClient) -> None:
    listed = {one["name"]: one for one in client.get("/playground/tokenizers").json()}
    assert listed["markov"]["origin"] == "markov, trigram, lstm"
    assert {listed[name]["kind"] for name in ("unigram", "hmm", "markov", "byte")} == {"char", "word", "bpe", "byte"}


def test_a_chat_model_shares_the_tokenizer_of_its_base() -> None:
    tokenizers = Tokenizers(ServedModels({name: shipped_folder() / name for name in ("unigram", "chat")}))
    assert [one.origin for one in tokenizers.listed() if one.title == "bpe:2048"] == ["unigram, chat"]


def test_tokenizers_of_models_that_are_added_later_are_listed(predictors: dict[str, Predictor]) -> None:
    models = ServedModels({"unigram": predictors["unigram"]})
    tokenizers = Tokenizers(models)
    assert {"unigram", "word:5", "byte"} <= {one.name for one in tokenizers.listed()}
    assert tokenizers.split("The fox", "unigram").n_tokens == 7
    models.add("hmm", predictors["hmm"])
    listed = {one.name: one for one in tokenizers.listed()}
    assert listed["hmm"].kind == "word"
    assert "word:5" not in listed
    assert tokenizers.split("The fox", "hmm").n_tokens == 2


@pytest.mark.parametrize("name", ["unigram", "markov", "hmm"])
def test_a_text_is_split_as_the_tokenizer_does(client: TestClient, predictors: dict[str, Predictor], name: str) -> None:
    tokenizer = predictors[name].tokenizer
    answer = split(client, TEXT, name)
    assert [token["id"] for token in answer["tokens"]] == tokenizer.encode(TEXT).tolist()
    assert answer["n_tokens"] == len(tokenizer.encode(TEXT))
    assert (answer["n_bytes"], answer["n_characters"]) == (len(TEXT.encode()), len(TEXT))


def test_half_characters_are_shown_as_bytes(client: TestClient) -> None:
    tokens = split(client, "🦊", "unigram")["tokens"]
    assert [token["text"] for token in tokens] == ["f0", "9f", "a6", "8a"]
    assert all(token["hex"] for token in tokens)


def test_words_without_a_token_and_dropped_spaces(client: TestClient) -> None:
    answer = split(client, "The  zebra", "hmm")
    known, unknown = answer["tokens"]
    assert (known["text"], known["unknown"]) == ("The", False)
    assert (unknown["text"], unknown["unknown"], unknown["dropped"]) == ("zebra", True, "␣␣")
    assert answer["n_unknown"] == 1


def test_files_cannot_be_opened_by_name(predictors: dict[str, Predictor], saved: Path) -> None:
    tokenizers = Tokenizers(ServedModels(predictors))
    for name in (str(saved), str(saved / "tokenizer.json"), "bpe:300"):
        with pytest.raises(UnknownNameError):
            tokenizers.get(name)


@pytest.mark.parametrize("text", [TEXT, "", "aaaa", "the theme that they 🦊🦊"])
def test_replayed_merges_end_with_the_tokens(client: TestClient, predictors: dict[str, Predictor], text: str) -> None:
    answer = client.post("/playground/merges", json={"text": text, "tokenizer": "markov"}).json()
    parts = [part["id"] for part in answer["start"]]
    for step in answer["steps"]:
        for index in reversed(step["at"]):
            assert parts[index : index + 2] == [step["left"]["id"], step["right"]["id"]]
            parts[index : index + 2] = [step["token"]["id"]]
    assert parts == predictors["markov"].tokenizer.encode(text).tolist()


def test_a_tokenizer_without_merges_is_refused(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(TokenizerError, match="no merges"):
        Merges(predictors["hmm"].tokenizer)
