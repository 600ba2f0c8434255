"""Disturbs fits of an n-gram model by several processes or nodes, and compares what they write with undisturbed fits.

    python benchmarks/faults_partitions.py [--tokens 1] [--cases 10] [--seed 0] [--faults worker disk interrupt ...]

Each case is one `lmzoo fit ngram` of a generated text of `--tokens` million tokens, disturbed once at a random moment
while its workers are running:

    worker          one worker process is killed (SIGKILL)
    disk            one worker process can write no file of more than 100 kB, as if its disk were full
    interrupt       the program gets SIGINT, as from Ctrl-C
    terminate       the program gets SIGTERM, as at the end of a batch job
    kill            the program is killed (SIGKILL)
    ray-worker      one worker process of a Ray cluster of two nodes is killed (SIGKILL)
    ray-node        the second of these nodes is removed, with all its processes
    ray-disk        the disk of the second node becomes full, to which it writes arrays when its memory is full; this
                    needs the right to mount a file system, and a text of a million tokens or more

    ray-interrupt, ray-terminate, ray-kill    the same as without "ray-", with the workers on these nodes

The faults that begin with ray need the extra `lmzoo[cluster]`. A case is correct if the model has the bytes of an
undisturbed fit, and if this took at most 1.5 times the time; or if the program ends with an error in one line or by the
signal, and the same command, given again, gives this model in this time. No other file may be left where it writes,
nor any process that it started; only the temporary files of a killed program may remain until the command is given
again. The program prints a table and one line of JSON, and ends with exit status 1 if a case is not correct.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SIGNALS = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}
FAULTS = (
    *("worker", "disk", *SIGNALS),
    *("ray-worker", "ray-node", "ray-disk", *(f"ray-{name}" for name in SIGNALS)),
)
MOST_BYTES = 100_000
MOST_TIME = 1.5
LONGEST = 600.0
ATTEMPTS = 5
DISK_BYTES = 300 * 2**20
STORE_BYTES = 80 * 2**20
"""Memory for arrays of each node; it is too small for a fit of a million tokens, so that arrays are written to disk."""


@dataclass
class Count:
    """Counts of one fault; all but the first three are failures."""

    cases: int = 0
    same: int = 0
    """Fits that gave the model of an undisturbed fit."""
    refused: int = 0
    """Fits that ended with an error in one line or by the signal, and gave the model when they were repeated."""
    late: int = 0
    different: int = 0
    unclear: int = 0
    """Fits without a model and without an error in one line."""
    leftovers: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def n_failures(self) -> int:
        """The number of failures of all kinds."""
        return self.late + self.different + self.unclear + self.leftovers


def write_text(path: Path, n_tokens: int, rng: random.Random) -> None:
    """Writes documents of ten words; the words have frequencies as in a language."""
    words = ["".join(rng.choice("abcdefghij") for _ in range(rng.randint(2, 7))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, 1 + len(words))]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(n_tokens // 11):
            file.write(" ".join(rng.choices(words, weights, k=10)) + "\n")


class Campaign:
    """Fits of one text, on this computer or on a cluster, and the model and the time of an undisturbed fit."""

    def __init__(self, folder: Path, n_tokens: int, seed: int) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        write_text(folder / "text.txt", n_tokens, random.Random(seed))
        self.command: tuple[str, ...] = ()
        self.whole, self.seconds = "", 0.0

    def choose(self, *more: str) -> None:
        """Chooses the options of the following fits, and makes an undisturbed fit."""
        self.command = more
        for _ in range(2):  # the first fit compiles what is compiled once
            started = time.monotonic()
            process, out = self.start("whole")
            errors = process.communicate()[1]
            if process.returncode:
                raise SystemExit(f"the fit fails without a fault: {errors}")
            self.seconds = time.monotonic() - started
            model = digest(out)
            assert self.whole in ("", model), "the model depends on the executor"
            self.whole = model

    def start(self, name: str) -> tuple[subprocess.Popen[str], Path]:
        """Starts a fit, which writes to a folder of this name."""
        out = self.folder / name / "model"
        out.parent.mkdir(exist_ok=True)
        command = (
            *(sys.executable, "-m", "lmzoo", "fit", "ngram", "--corpus", str(self.folder / "text.txt")),
            *("--tokenizer", "word:1", "--memory", "200M", "--out", str(out), *self.command),
        )
        environment = {**os.environ, "TMPDIR": str(self.temporary), "NO_COLOR": "1"}
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, start_new_session=True, **pipes), out

    def case(
        self,
        number: int,
        fault: str,
        disturb: Callable[[int], bool],
        rng: random.Random,
        count: Count,
        restore: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs one fit; `disturb` gets its process id, and returns False if there is nothing to disturb yet.

        `restore` undoes the fault after the fit. If the fit gave no model, it is then repeated.
        """
        count.cases += 1
        process, out = self.start(f"case-{number}")
        started, moment = time.monotonic(), rng.uniform(0.1, 0.95) * self.seconds
        disturbed = False
        while process.poll() is None and not disturbed:
            time.sleep(0.02)
            disturbed = time.monotonic() - started > moment and disturb(process.pid)
        where = f"{fault} after {moment:.1f} of {self.seconds:.1f} s: "
        errors, seconds = self._end(process, started)
        left = [*_session(process.pid)]
        restore()
        status = process.returncode
        refused = status != 0
        if refused:
            lines = errors.splitlines()
            count.notes.append(f"{where}exit status {status} after {seconds:.1f} s: {lines[-1] if lines else ''}")
            by_signal = SIGNALS.get(fault.removeprefix("ray-"))
            expected = 1 if by_signal is None else -by_signal if by_signal == signal.SIGKILL else 128 + by_signal
            if status != expected or (by_signal != signal.SIGKILL and not _is_one_error(lines)):
                count.unclear += 1
                count.notes.append(f"{where}{errors}")
            left += self._left(out, "") if status != -signal.SIGKILL else []
            process, out = self.start(f"case-{number}")
            errors, seconds = self._end(process, time.monotonic())
        same = not process.returncode and digest(out) == self.whole
        count.same += same and not refused
        count.refused += same and refused
        count.different += not same
        if not same:
            count.notes.append(f"{where}exit status {process.returncode}: {errors}")
        if seconds > MOST_TIME * self.seconds:
            count.late += 1
            count.notes.append(f"{where}took {seconds:.1f} s{' when repeated' if refused else ''}")
        left += self._left(out, out.name)
        count.leftovers += len(left)
        count.notes += [f"{where}left {name}" for name in left]
        print(f"{fault:14}exit status {status}; the model after {seconds:.1f} s", flush=True)

    def _end(self, process: subprocess.Popen[str], started: float) -> tuple[str, float]:
        """Waits until a fit ends, and returns its messages of errors and its time; ends a fit that takes too long."""
        try:
            errors = process.communicate(timeout=LONGEST)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            errors = f"no end after {LONGEST:.0f} s: {process.communicate()[1]}"
        return errors.strip(), time.monotonic() - started

    def _left(self, out: Path, expected: str) -> list[str]:
        """Returns the names of files beside a model or in the temporary folder, other than `expected`."""
        return [
            path.name for folder in (self.temporary, out.parent) for path in folder.iterdir() if path.name != expected
        ]


def _is_one_error(lines: list[str]) -> bool:
    """Returns True if the last line is a message of lmzoo, and the only one."""
    return bool(lines) and [line for line in lines if line.startswith("lmzoo: ")] == lines[-1:]


def digest(folder: Path) -> str:
    """Returns a checksum of the arrays of a saved model."""
    return hashlib.sha256((folder / "arrays.safetensors").read_bytes()).hexdigest()


def _session(leader: int) -> Iterator[str]:
    """Yields the names of the processes of a session that still live a second after its leader has ended."""
    time.sleep(1)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process.name()


def workers(pid: int) -> list[psutil.Process]:
    """Returns the worker processes of a fit on this computer, given the id of its main process."""
    with contextlib.suppress(psutil.Error):
        return [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]
    return []


def local_faults(rng: random.Random) -> dict[str, Callable[[int], bool]]:
    """Returns the faults of fits on this computer; see `Campaign.case`."""

    def of_worker(action: Callable[[psutil.Process], object]) -> Callable[[int], bool]:
        def disturb(pid: int) -> bool:
            found = workers(pid)
            if found:
                with contextlib.suppress(psutil.Error):
                    action(rng.choice(found))
            return bool(found)

        return disturb

    return {
        "worker": of_worker(lambda worker: worker.kill()),
        "disk": of_worker(lambda worker: worker.rlimit(psutil.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))),
        **{name: sender(number) for name, number in SIGNALS.items()},
    }


def sender(number: int) -> Callable[[int], bool]:
    """Returns the fault that a program gets a signal; see `Campaign.case`."""

    def send(pid: int) -> bool:
        os.kill(pid, number)
        return True

    return send


class TwoNodes:
    """A Ray cluster of two nodes of one core on this computer; the second one is disturbed."""

    def __init__(self, disk: Path | None) -> None:
        """Starts the nodes; the second one writes arrays to a new small file system, mounted at `disk` if given."""
        for name, value in {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

        self.cluster = Cluster()
        self._add_node(include_dashboard=False)
        self._disk = disk
        if disk:
            disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)], check=True)
        self._add_second()

    def _add_second(self) -> None:
        more = {"object_spilling_directory": str(self._disk)} if self._disk else {}
        self._second = self._add_node(**more)

    def _add_node(self, **more: Any) -> Any:
        """Adds a node; tries again if it does not start in time, as on a busy computer."""
        for attempt in range(ATTEMPTS):
            try:
                return self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, **more)
            except Exception:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def faults(self, rng: random.Random) -> dict[str, Callable[[int], bool]]:
        """Returns the faults of fits on the cluster; see `Campaign.case`."""

        def kill_worker(pid: int) -> bool:
            nodes = (self.cluster.head_node, self._second)
            with contextlib.suppress(psutil.Error):
                raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in nodes]
                children = [child for raylet in raylets for child in raylet.children()]
                busy = [child for child in children if re.match("ray::(?!IDLE)", " ".join(child.cmdline()))]
                if busy:
                    rng.choice(busy).kill()
                    return True
            return False

        def remove_node(pid: int) -> bool:
            self.cluster.remove_node(self._second, allow_graceful=False)
            return True

        def fill_disk(pid: int) -> bool:
            assert self._disk
            with contextlib.suppress(OSError), (self._disk / "full").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(2**20))
            return True

        signals = {f"ray-{name}": sender(number) for name, number in SIGNALS.items()}
        return {"ray-worker": kill_worker, "ray-node": remove_node, "ray-disk": fill_disk, **signals}

    def restore(self) -> None:
        """Starts the second node again if it was removed, and makes room on its disk."""
        if self._disk:
            (self._disk / "full").unlink(missing_ok=True)
        if self._second not in self.cluster.worker_nodes:
            self._add_second()

    def close(self) -> None:
        """Ends all nodes."""
        self.cluster.shutdown()
        if self._disk:
            subprocess.run(["umount", "-l", str(self._disk)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=float, default=1, help="millions of tokens")
    parser.add_argument("--cases", type=int, default=10, help="number of fits that are disturbed by each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=("worker", "disk", *SIGNALS))
    arguments = parser.parse_args()
    rng, counts = random.Random(arguments.seed), {fault: Count() for fault in arguments.faults}
    with tempfile.TemporaryDirectory(prefix="lmzoo-faults-", ignore_cleanup_errors=True) as folder:
        campaign = Campaign(Path(folder), int(arguments.tokens * 1e6), arguments.seed)
        chosen = [fault for fault in arguments.faults if not fault.startswith("ray")]
        if chosen:
            campaign.choose("--workers", "2")
            for number, fault in enumerate(chosen * arguments.cases):
                campaign.case(number, fault, local_faults(rng)[fault], rng, counts[fault])
        chosen = [fault for fault in arguments.faults if fault.startswith("ray")]
        if chosen:
            disk = Path(folder) / "disk" if "ray-disk" in chosen else None
            with contextlib.closing(TwoNodes(disk)) as nodes:
                campaign.choose("--cluster", nodes.cluster.address)
                for number, fault in enumerate(chosen * arguments.cases, len(counts) * arguments.cases):
                    campaign.case(number, fault, nodes.faults(rng)[fault], rng, counts[fault], nodes.restore)
    columns = [name for name in vars(Count()) if name != "notes"]
    print(f"{'':14}" + "".join(f"{name:>12}" for name in columns))
    for fault, count in counts.items():
        print(f"{fault:14}" + "".join(f"{getattr(count, name):12}" for name in columns))
        print("".join(f"  {note}\n" for note in count.notes), end="")
    print(json.dumps({fault: {name: getattr(count, name) for name in columns} for fault, count in counts.items()}))
    sys.exit(1 if any(count.n_failures for count in counts.values()) else 0)


if __name__ == "__main__":
    main()
