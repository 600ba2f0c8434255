"""Executors: results in order, and workers that are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from lmzoo.errors import LmzooError
from lmzoo.system.executors import Arrays, Executor, StoredArrays, local_processes

KILLS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


def add(first: Arrays, second: Arrays, number: int) -> Iterator[Arrays]:
    yield {"sum": first["a"] + second["a"] + number}
    yield {"difference": first["a"] - second["a"], "empty": np.empty((0, 3), np.uint16)}


def die_once(flag: Path, number: int) -> Iterator[Arrays]:
    """The process of task 3 is killed at its first call, after its first result."""
    yield {"number": np.array([number])}
    if number == 3 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    yield {"square": np.array([number**2])}


def die(number: int) -> Iterator[Arrays]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield {}


def fill_the_disk() -> Iterator[Arrays]:
    raise OSError(28, "No space left on device")
    yield {}


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor[StoredArrays]]:
    with local_processes(2) as found:
        yield found


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[Executor[StoredArrays]]:
    with local_processes(0) as found:
        yield found


@pytest.mark.parametrize("name", ["executor", "in_this_process"])
def test_results_go_to_the_next_stage(name: str, request: pytest.FixtureRequest) -> None:
    executor: Executor[StoredArrays] = request.getfixturevalue(name)
    handles = [executor.put({"a": np.arange(3, dtype=np.float32) * n}) for n in (1, 10)]
    results = list(executor.map(add, [(*handles, 0), (handles[1], handles[0], 5)], n_results=2))
    assert [executor.get(handle)["sum"].tolist() for handle, _ in results] == [[0, 11, 22], [5, 16, 27]]
    other = executor.get(results[0][1])
    assert other["difference"].dtype == np.float32
    assert other["empty"].shape == (0, 3)
    path = results[0][0].path
    executor.free(results[0][:1])
    assert path.exists()
    executor.free(results[0][1:])
    assert not path.exists()


@KILLS
def test_tasks_of_a_killed_worker_are_done_again(executor: Executor[StoredArrays], tmp_path: Path) -> None:
    results = list(executor.map(die_once, [(tmp_path / "died", n) for n in range(8)], n_results=2))
    assert [int(executor.get(handle)["square"][0]) for _, handle in results] == [n**2 for n in range(8)]
    assert (tmp_path / "died").exists()


@KILLS
def test_workers_that_die_again_and_again_are_an_error(executor: Executor[StoredArrays]) -> None:
    with pytest.raises(LmzooError, match="3 worker processes ended one after another"):
        list(executor.map(die, [(0,)]))
    handle = executor.put({"a": np.zeros(1)})
    assert len(list(executor.map(add, [(handle, handle, 1)], n_results=2))) == 1  # it can be used again


def test_a_full_disk_is_an_error_with_advice(executor: Executor[StoredArrays]) -> None:
    with pytest.raises(LmzooError, match=r"cannot write temporary files to .*No space left on device.*TMPDIR"):
        list(executor.map(fill_the_disk, [()]))


@KILLS
def test_a_worker_whose_disk_is_full_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    message = f"cannot write temporary files to {re.escape(str(tmp_path))}: .*TMPDIR"
    with pytest.raises(LmzooError, match=message), local_processes(1) as executor:
        list(executor.map(write_more_than_allowed, [()], n_results=2))
    assert not list(tmp_path.iterdir())


@KILLS
def test_an_interrupted_program_leaves_nothing(tmp_path: Path) -> None:
    temporary, process = started_program(tmp_path)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert process.returncode
    wait_for_end(int((tmp_path / "pid").read_text()))
    assert not list(temporary.iterdir())


@KILLS
def test_a_killed_program_leaves_no_workers_and_its_files_are_deleted_later(tmp_path: Path) -> None:
    temporary, process = started_program(tmp_path)
    process.kill()
    process.wait()
    wait_for_end(int((tmp_path / "pid").read_text()))
    assert len(list(temporary.iterdir())) == 1
    subprocess.run(
        [sys.executable, "-c", "from lmzoo.system.executors import local_processes\nwith local_processes(1): pass"],
        env={**os.environ, "TMPDIR": str(temporary)},
        check=True,
    )
    assert not list(temporary.iterdir())


def sleep(pid_file: str) -> Iterator[Arrays]:
    Path(pid_file).write_text(str(os.getpid()))
    time.sleep(600)
    yield {}


def write_more_than_allowed() -> Iterator[Arrays]:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    yield {"a": np.zeros(10)}
    yield {"a": np.zeros(10_000)}


def started_program(tmp_path: Path) -> tuple[Path, subprocess.Popen[bytes]]:
    """Starts a program with a busy worker, whose id it writes to the file `pid`; returns its temporary folder, too."""
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "from test_executors import sleep\n"
        "from lmzoo.system.executors import local_processes\n"
        "if __name__ == '__main__':\n"
        "    with local_processes(1) as executor:\n"
        "        executor.put({'a': np.zeros(10)})\n"
        "        list(executor.map(sleep, [(sys.argv[2],)]))\n"
    )
    script, temporary, pid_file = tmp_path / "program.py", tmp_path / "temporary", tmp_path / "pid"
    script.write_text(program)
    temporary.mkdir()
    command = [sys.executable, str(script), str(Path(__file__).parent), str(pid_file)]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temporary)}, stderr=subprocess.DEVNULL)
    while not pid_file.exists() or not pid_file.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    return temporary, process


def wait_for_end(pid: int) -> None:
    """Waits until a process has ended."""
    end = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)
