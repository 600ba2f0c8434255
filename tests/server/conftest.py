"""Fixtures of the tests of the server: small predictors, and a server that offers them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from micro_chat_models import micro_predictor
from running import RunningServer, StartServer

from lmzoo import Predictor, train_tokenizer, zoo
from lmzoo.stream import TokenStream, TrainingData


@pytest.fixture(scope="session")
def uniform_predictor() -> Predictor:
    tokenizer = train_tokenizer("byte", ["any text"])
    stream = TokenStream.from_documents([tokenizer.encode("any text")])
    model = zoo.create("uniform", tokenizer.vocab_size).fit(TrainingData(stream, stream))
    return Predictor(tokenizer, model, "uniform")


@pytest.fixture(scope="session")
def predictors(markov_predictor: Predictor, uniform_predictor: Predictor) -> dict[str, Predictor]:
    return {
        "markov": markov_predictor,
        "uniform": uniform_predictor,
        "transformer": micro_predictor(base="transformer", chat=False),
        "chat": micro_predictor(),
    }


@pytest.fixture(scope="session")
def server(predictors: dict[str, Predictor]) -> Iterator[RunningServer]:
    with closing(RunningServer(predictors)) as server:
        yield server


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """A function that starts a server, which ends with the test, also if the test fails."""
    with ExitStack() as servers:

        def start(*arguments: Any, **options: Any) -> RunningServer:
            return servers.enter_context(closing(RunningServer(*arguments, **options)))

        yield start
