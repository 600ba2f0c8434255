"""The addresses of Ray clusters are checked before any work, also where Ray is not installed."""

from __future__ import annotations

import pytest

from lmzoo import zoo
from lmzoo.errors import ConfigurationError
from lmzoo.experiments.plan import RunPlan
from lmzoo.system.ray_connection import check_address


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
