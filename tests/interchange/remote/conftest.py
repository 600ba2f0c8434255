"""Fixtures of the tests of remote models: a server on this machine, and pauses that take no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from toy_server import ToyServer

from lmzoo.interchange.remote import connection
from lmzoo.interchange.remote.address import KEY_VARIABLES


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the API keys of the person who runs the tests from the environment."""
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ToyServer]:
    server = ToyServer()
    yield server
    server.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, in seconds, that a connection would have made between requests."""
    made: list[float] = []
    monkeypatch.setattr(connection, "sleep", made.append)
    return made
