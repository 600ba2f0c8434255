"""Jobs in separate processes: their outcomes and progress, and jobs that fail or crash."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import pytest

from lmzoo.errors import CorpusError, UsageError
from lmzoo.language_model import OnProgress, Progress
from lmzoo.system.jobs import Outcome, _context, check_jobs, run_jobs


@dataclass(frozen=True)
class Errand:
    """A job that returns its process id and number of threads, or fails in a given way."""

    name: str
    fate: str = ""
    is_network: bool = False

    def do(self, on_progress: OnProgress) -> tuple[int, str]:
        on_progress(Progress(1, 2, "steps", self.name))
        match self.fate:
            case "refused":
                raise CorpusError("there is\nno text")
            case "surprised":
                raise ZeroDivisionError("by zero")
            case "starved":
                raise MemoryError("needs 4 TiB")
            case "killed":
                os._exit(7)
            case "variable":
                return os.getpid(), f"{os.environ['OMP_NUM_THREADS']} {os.environ['LMZOO_ERRAND']}"
            case _:
                return os.getpid(), os.environ["OMP_NUM_THREADS"]


def outcomes_of(*errands: Errand, at_a_time: int = 2) -> dict[str, Outcome[tuple[int, str]]]:
    outcomes: dict[str, Outcome[tuple[int, str]]] = {}
    run_jobs(errands, at_a_time=at_a_time, on_outcome=lambda outcome: outcomes.update({outcome.name: outcome}))
    return outcomes


def test_each_job_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("lmzoo.system.jobs.n_cores", lambda: 6)
    outcomes = outcomes_of(Errand("a"), Errand("b"), Errand("c"))
    records = [outcome.record for outcome in outcomes.values()]
    assert set(outcomes) == {"a", "b", "c"}
    assert len({os.getpid(), *(record[0] for record in records if record)}) == 4
    assert [record[1] for record in records if record] == ["3"] * 3, "2 at a time share 6 cores"
    assert "OMP_NUM_THREADS" not in os.environ


def test_networks_have_processes_and_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes are forks of one server, whose libraries have a number of threads that cannot change."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = set()
    for n_cores in (6, 4, 6):
        monkeypatch.setattr("lmzoo.system.jobs.n_cores", lambda n_cores=n_cores: n_cores)
        monkeypatch.setenv("LMZOO_ERRAND", f"{n_cores}")
        outcomes = outcomes_of(*(Errand(name, "variable", is_network=True) for name in "abc"))
        records = [outcome.record for outcome in outcomes.values() if outcome.record]
        assert [record[1] for record in records] == [f"{n_cores // 2} {n_cores}"] * 3
        found |= {record[0] for record in records}
    assert len({os.getpid(), *found}) == 10


def test_no_server_has_its_socket_in_a_folder_with_a_long_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmzoo.system.jobs._threads_of_server", None)
    assert _context(is_network=False).get_start_method() == "spawn"
    server = "forkserver" if sys.platform == "linux" else "spawn"
    for folder, method in (("/" + "t" * 69, server), ("/" + "é" * 35, "spawn")):
        monkeypatch.setattr("tempfile.tempdir", folder)
        assert _context(is_network=True).get_start_method() == method


@pytest.mark.parametrize("is_network", [False, True])
def test_what_fails_leaves_the_rest(is_network: bool, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = outcomes_of(
        *(Errand(fate, fate, is_network) for fate in ("refused", "surprised", "starved", "killed")), Errand("well")
    )
    assert {name: outcome.error for name, outcome in outcomes.items()} == {
        "refused": "there is no text",
        "surprised": "ZeroDivisionError: by zero",
        "starved": "the memory is not large enough (needs 4 TiB): choose smaller settings or a smaller text",
        "killed": "its process ended with exit code 7",
        "well": "",
    }
    assert outcomes["well"].record
    traced = capfd.readouterr().err
    assert "ZeroDivisionError" in traced, "what nobody foresaw is shown in full"
    assert "CorpusError" not in traced


def test_progress_says_whose_it_is() -> None:
    told: list[tuple[str, Progress]] = []
    run_jobs(
        [Errand("a"), Errand("b")],
        at_a_time=1,
        on_progress=lambda *what: told.append(what),
        on_outcome=lambda outcome: told.append((outcome.name, Progress(2, 2, "steps"))),
    )
    assert sorted(told, key=lambda what: (what[0], what[1].done)) == [
        (name, progress) for name in "ab" for progress in (Progress(1, 2, "steps", name), Progress(2, 2, "steps"))
    ]


def test_how_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmzoo.system.jobs.n_cores", lambda: 16)
    assert (check_jobs(None), check_jobs(7)) == (4, 7)
    monkeypatch.setattr("lmzoo.system.jobs.n_cores", lambda: 2)
    assert check_jobs(None) == 2
    with pytest.raises(UsageError, match="jobs must be at least 1, got 0"):
        check_jobs(0)
