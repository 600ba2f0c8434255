"""The executor on a Ray cluster: one and two nodes, and workers that are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_clusters import running_cluster
from ray_tasks import add, die_once, fail

from lmzoo.errors import CorpusError, LmzooError
from lmzoo.models.ngram import ngram
from lmzoo.system.ray_executor import RayExecutor, ray_cluster
from lmzoo.testing import toy_data

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """Starts a Ray cluster with two nodes; their stores hold too little for the fit below without spilling to disk."""
    with running_cluster(2) as address:
        yield address


@pytest.fixture
def executor(two_nodes: str) -> Iterator[RayExecutor]:
    with ray_cluster(two_nodes) as found:
        yield found


def test_results_go_to_the_next_stage(executor: RayExecutor) -> None:
    assert executor.n_workers == 2
    handles = [executor.put({"a": np.arange(3, dtype=np.float32) * n}) for n in (1, 10)]
    results = list(executor.map(add, [(*handles, 0), (handles[1], handles[0], 5)], n_results=2))
    assert [executor.get(handle)["sum"].tolist() for handle, _ in results] == [[0, 11, 22], [5, 16, 27]]
    assert executor.get(results[0][1])["difference"].dtype == np.float32


def test_errors_are_those_of_the_stage(executor: RayExecutor) -> None:
    (((handle,)),) = executor.map(fail, [(7,)])
    with pytest.raises(CorpusError, match=r"^7 is too much$"):
        executor.get(handle)
    (((handle,)),) = executor.map(fail, [(0,)])
    with pytest.raises(LmzooError, match="a task failed on the cluster: ValueError: no number"):
        executor.get(handle)


def test_tasks_of_a_killed_worker_are_done_again(executor: RayExecutor, tmp_path: Path) -> None:
    ((_, handle),) = executor.map(die_once, [(tmp_path / "died",)], n_results=2)
    assert executor.get(handle)["a"].tolist() == [1]
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("more", [{}, {"smoothing": "katz", "order": 3, "prune": 1e-4}])
def test_two_nodes_give_the_model_of_one_process(two_nodes: str, more: dict[str, Any]) -> None:
    data = toy_data(40, n_documents=400)
    found = ngram(40, cluster=two_nodes, memory="100K", **more).fit(data).arrays()
    for name, array in ngram(40, **more).fit(data).arrays().items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_cluster_that_does_not_exist_is_an_error_in_one_line() -> None:
    program = "from lmzoo.system.ray_executor import ray_cluster\nwith ray_cluster('127.0.0.1:1'): pass"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode
    last = ended.stderr.strip().split("\n")[-1]
    assert last.startswith("lmzoo.errors.LmzooError: cannot connect to a Ray cluster at '127.0.0.1:1'"), ended.stderr
