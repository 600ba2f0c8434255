"""Addresses of Ray clusters and what a connection prints, also where Ray is not installed."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from lmzoo import zoo
from lmzoo.errors import ConfigurationError, LmzooError
from lmzoo.experiments.plan import RunPlan
from lmzoo.system.ray_connection import _connect, check_address


@pytest.mark.parametrize("address", ["auto", "local", "127.0.0.1:6379", "ray://head:10001", "one:1"])
def test_addresses_of_clusters(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["", "nonsense", "one", "one:", ":1", "a b:1", "http://one:1", None, 5])
def test_what_is_no_address_of_a_cluster(address: object) -> None:
    with pytest.raises(ConfigurationError, match='cluster must be "auto", "local" or HOST:PORT, got '):
        check_address(address)


def test_a_wrong_address_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigurationError, match="got 'nonsense'"):
        zoo.create("ngram", 5, cluster="nonsense")
    with pytest.raises(ConfigurationError, match="got 'nonsense'"):
        RunPlan(species=["ngram"], cluster="nonsense").checked()


def ray_that_prints(lines: bytes, error: Exception | None = None) -> SimpleNamespace:
    """Returns a stand-in for the module `ray` that prints lines from C++ code when it connects, and then may fail."""

    def init(*_: object, **__: object) -> str:
        os.write(2, lines)
        if error is not None:
            raise error
        return "connected"

    return SimpleNamespace(init=init, exceptions=SimpleNamespace(AuthenticationError=PermissionError))


def test_only_warnings_of_the_token_are_kept_from_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert _connect(ray_that_prints(b"one\ntwo"), "auto", {}) == "connected"
    assert capfd.readouterr().err == "one\ntwo"
    refused = ray_that_prints(b"one\nRPC error: InvalidAuthToken\ntwo\n", ConnectionError("no answer"))
    with pytest.raises(LmzooError, match="refuses the authentication token"):
        _connect(refused, "auto", {})
    assert capfd.readouterr().err == "one\ntwo\n"
    with pytest.raises(LmzooError, match="cannot connect to a Ray cluster at 'auto': no answer; start one"):
        _connect(ray_that_prints(b"details\n", ConnectionError("no answer")), "auto", {})
    assert capfd.readouterr().err == "details\n"


def test_a_process_without_stderr_can_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert _connect(ray_that_prints(b""), "auto", {}) == "connected"
