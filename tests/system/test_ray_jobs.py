"""Jobs on a Ray cluster of two nodes: outcomes, progress, killed processes, and folders that are not shared."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_clusters import fast_start, ray, running_cluster
from ray_tasks import Task, blind, broken, silent, unlocked

from lmzoo.cli import run as main
from lmzoo.errors import LmzooError, UsageError
from lmzoo.system import ray_jobs
from lmzoo.system.jobs import Outcome, run_jobs
from lmzoo.system.progress import Progress
from lmzoo.system.ray_connection import ray_connection
from lmzoo.system.ray_jobs import RayJobs, running_nodes

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    with running_cluster(2) as address:
        yield address


@pytest.fixture
def executor(two_nodes: str) -> Iterator[RayJobs]:
    with ray_connection(two_nodes) as connected:
        yield RayJobs(connected, {"LMZOO_BFLOAT16": "0"})


def test_each_job_has_a_process_of_its_own_and_its_progress_comes_back(
    executor: RayJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("lmzoo.system.jobs.n_cores", lambda: 4)
    outcomes: list[Outcome[tuple[int, str, list[str]]]] = []
    told: list[tuple[str, Progress]] = []
    tasks = [Task(name, "", tmp_path) for name in "abcd"]
    run_jobs(
        tasks,
        at_a_time=4,
        on_outcome=outcomes.append,
        on_progress=lambda *report: told.append(report),
        executor=executor,
    )
    records = [outcome.record for outcome in outcomes if outcome.record]
    assert sorted(outcome.name for outcome in outcomes) == list("abcd")
    assert len({os.getpid(), *(process for process, _, _ in records)}) == 5
    assert {node for _, node, _ in records} == {node.node_id for node in running_nodes(ray)}, "two nodes share the work"
    assert [variables for _, _, variables in records] == [["1", "0"]] * 4
    for task in tasks:
        reports = [progress for name, progress in told if name == task.name]
        assert reports == [Progress(done, 2, "steps", task.name) for done in (1, 2)]


def test_what_fails_leaves_the_rest(executor: RayJobs, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fates = ("refused", "surprised", "killed once", "killed")
    outcomes: dict[str, Outcome[tuple[int, str, list[str]]]] = {}
    executor.run(
        [Task(fate, fate, tmp_path) for fate in fates],
        n_threads=1,
        on_outcome=lambda outcome: outcomes.update({outcome.name: outcome}),
    )
    assert outcomes["refused"].error == "there is no text"
    assert outcomes["surprised"].error == "ZeroDivisionError: by zero"
    assert outcomes["killed"].error.startswith("its process was lost in each of 3 attempts: ")
    assert outcomes["killed once"].record, outcomes["killed once"].error
    traced = capfd.readouterr().err
    assert 'raise ZeroDivisionError("by zero")' in traced, "what nobody foresaw is shown in full"
    assert "CorpusError" not in traced


def test_an_interrupt_reaches_the_jobs(executor: RayJobs, tmp_path: Path) -> None:
    def interrupt_later() -> None:
        while not (tmp_path / "a-started").exists() or not (tmp_path / "b-started").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt_later, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            executor.run(
                [Task(name, "endless", tmp_path) for name in "abc"], n_threads=1, on_outcome=lambda outcome: None
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert {path.name for path in tmp_path.glob("*-saved")} == {"a-saved", "b-saved"}
    assert not (tmp_path / "c-started").exists()


def test_jobs_that_no_node_has_room_for_are_refused(executor: RayJobs, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="each job uses 2 cores, but the largest node of the cluster has 1"):
        executor.run([Task("a", "", tmp_path)], n_threads=2, on_outcome=lambda outcome: None)
    with pytest.raises(UsageError, match="no node of the cluster has a GPU"):
        executor.run([Task("a", "", tmp_path, n_gpus=1)], n_threads=1, on_outcome=lambda outcome: None)


def test_a_shared_folder_is_accepted_and_left_as_it_was(executor: RayJobs, tmp_path: Path) -> None:
    executor.check_shared(tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("probe", "fault"),
    [
        (blind, r"does not share the folder .*: it does not see the files of this computer there; choose with --out"),
        (unlocked, "does not share the folder .*: it does not see the file locks of this computer there"),
        (silent, "does not share the folder .*: its files are not seen by this computer"),
        (broken, r"cannot run lmzoo \(ModuleNotFoundError: No module named 'lmzoo'\): install lmzoo\[cluster\] there"),
    ],
    ids=["not seen", "not locked", "not written", "not installed"],
)
def test_a_folder_that_is_not_shared_is_refused(
    executor: RayJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: object, fault: str
) -> None:
    monkeypatch.setattr(ray_jobs, "probe", probe)
    with pytest.raises(LmzooError, match=rf"^node \S+ \([0-9.]+\) {fault}"):
        executor.check_shared(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_the_command_shows_the_nodes(two_nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "status", "--address", two_nodes, "--json"]) == 0
    nodes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(node["n_cores"], node["n_gpus"]) for node in nodes] == [(1, 0), (1, 0)]
    assert all(node["memory_bytes"] > 2**20 for node in nodes)
    assert main(["cluster", "status", "--address", two_nodes]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["node", "address", "cores", "memory", "GPUs"]
    assert [row.split()[0] for row in rows] == [socket.gethostname()] * 2


def test_a_missing_token_is_an_error_in_one_line(two_nodes: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lmzoo", "cluster", "status", "--address", two_nodes]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    ended = subprocess.run(command, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr
    assert ended.stderr.startswith(
        f"lmzoo: this computer has no authentication token for a Ray cluster at '{two_nodes}'"
    )


def test_a_wrong_token_is_an_error_in_one_line(two_nodes: str) -> None:
    command = [sys.executable, "-m", "lmzoo", "cluster", "status", "--address", two_nodes]
    environment = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr
    assert ended.stderr.startswith(f"lmzoo: the Ray cluster at '{two_nodes}' refuses the authentication token")


def test_a_cluster_that_does_not_exist_is_an_error_in_one_line() -> None:
    assert not ray.is_initialized()
    with (
        pytest.raises(LmzooError, match=r"^cannot connect to a Ray cluster at '127\.0\.0\.1:1': .*start one with"),
        ray_connection("127.0.0.1:1"),
    ):
        pass


def test_sigterm_ends_a_program_that_is_connected_like_any_other(two_nodes: str, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from lmzoo.system.interrupts import exit_status, handle_interrupts\n"
        "from lmzoo.system.ray_connection import ray_connection\n"
        "handle_interrupts()\n"
        "try:\n"
        "    with ray_connection(sys.argv[1]):\n"
        "        pathlib.Path(sys.argv[2]).touch()\n"
        "        time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(exit_status())\n"
    )
    connected = tmp_path / "connected"
    process = subprocess.Popen([sys.executable, "-c", program, two_nodes, str(connected)])
    while not connected.exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM


def test_a_cluster_of_this_computer_leaves_no_files() -> None:
    folder = Path(tempfile.gettempdir())
    before = {*folder.glob("ray/session_2*"), *folder.iterdir()}
    with fast_start(), ray_connection("local", n_workers=1) as connected:
        assert len({*folder.glob("ray/session_2*")} - before) == 1
        assert [node.n_cores for node in running_nodes(connected)] == [1]
    assert {*folder.glob("ray/session_2*"), *folder.iterdir()} - before <= {folder / "ray"}


def test_a_cluster_that_does_not_start_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise Exception("The current node timed out during startup. This could happen\nif it is busy.")

    monkeypatch.setattr(ray, "init", fail)
    with (
        pytest.raises(
            LmzooError, match=r"^cannot start a Ray cluster on this computer: .* startup.*; repeat the command"
        ),
        ray_connection("local"),
    ):
        pass
