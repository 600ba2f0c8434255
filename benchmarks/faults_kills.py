"""Kills runs of lmzoo, repeats them, and compares what they wrote with runs that nobody killed.

    python benchmarks/faults_kills.py --kills 200 --seed 0 --workers 2

A case is one new folder: a command is started and killed, up to three times in a row, and then started once more and
left alone. The commands are compare, fit, curves, ladder and prequential, on a small generated corpus, and align only
with `--commands align`, because a case of it takes half a minute. A kill is SIGKILL, either at a random moment (of the
main process, of one process of a job, or of all processes), or at a file operation below the folder: the N-th time that
any process of the command opens a file for writing, renames, creates or deletes something there (of the process, or of
all processes).

The last run must succeed. Then every file must have the bytes of the run that nobody killed, apart from times, memory,
command and machine, and no other file may be there. The program prints a table, and ends with exit status 1 if a count
of failures is not 0.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

COMMANDS = {
    "compare": "compare --species unigram hmm --corpus {corpus} --tokenizer byte --set hmm.n_states=4"
    " --set hmm.n_iterations=6 --jobs 2 --out {out}",
    "fit": "fit hmm --corpus {corpus} --tokenizer byte --set n_states=4 --set n_iterations=40 --set patience=40"
    " --out {out}",
    "curves": "curves --species unigram markov --corpus {corpus} --tokenizer byte --shares 2 --jobs 2 --out {out}",
    "ladder": "ladder --task markov-2 --species unigram markov --jobs 2 --out {out}",
    "prequential": "prequential --species unigram markov --corpus {corpus} --growth 8 --jobs 2 --out {out}",
    "align": "align --base lstm --preset tiny --corpus {corpus} --tokenizer byte --out {out}",
}
VOLATILE = {
    "block_seconds", "command", "created", "evaluate_seconds", "fit_seconds", "generated_per_second", "machine",
    "peak_memory_bytes", "predict_seconds", "seconds", "tokens_per_second", "train_seconds",
}  # fmt: skip
MOST_IN_A_ROW = 3
LONGEST = 120.0

HOOK = """
import os, sys
folder, number, whole = os.environ["KILL_BELOW"], int(os.environ["KILL_AT"]), os.environ["KILL_GROUP"] == "1"
count = 0
def look(event, arguments):
    global count
    if event == "open":
        writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        writes = event in ("os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "shutil.rmtree")
    if writes and isinstance(arguments[0], (str, os.PathLike)) and os.fspath(arguments[0]).startswith(folder):
        count += 1
        if count == number:
            os.killpg(0, 9) if whole else os.kill(os.getpid(), 9)
sys.addaudithook(look)
"""


@dataclass
class Count:
    """Counts of one command; all but the first four are failures."""

    cases: int = 0
    by_time: int = 0
    by_operation: int = 0
    too_late: int = 0
    """Kills that the command escaped because it had ended; they do not count as kills."""
    unfinished: int = 0
    different: int = 0
    missing: int = 0
    leftovers: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """The number of kills that hit."""
        return self.by_time + self.by_operation

    @property
    def n_failures(self) -> int:
        """The number of failures of all kinds."""
        return self.unfinished + self.different + self.missing + self.leftovers


def write_corpus(folder: Path, rng: random.Random) -> None:
    """Writes a corpus of 24 short documents of random words."""
    folder.mkdir()
    words = ["".join(rng.choice("abcdefghij") for _ in range(rng.randint(2, 6))) for _ in range(500)]
    for number in range(24):
        lines = (" ".join(rng.choice(words) for _ in range(9)) for _ in range(20))
        (folder / f"{number:02}.txt").write_text("\n".join(lines), encoding="utf-8")


class Campaign:
    """The commands on one corpus, what each writes if nobody kills it, and how long that takes."""

    def __init__(self, folder: Path, commands: Sequence[str], seed: int) -> None:
        self.folder, self.commands = folder, commands
        write_corpus(folder / "corpus", random.Random(seed))
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        self.whole: dict[str, dict[str, bytes]] = {}
        self.seconds: dict[str, float] = {}
        for command in commands:
            self.start(command, folder / command).wait()  # compiles and caches what is compiled once
            home = folder / f"{command}-whole"
            started = time.monotonic()
            if self.start(command, home).wait():
                raise SystemExit(f"{command} fails without a kill: {self.words(command, home)}")
            self.seconds[command] = time.monotonic() - started
            self.whole[command] = contents(home)

    def words(self, command: str, home: Path) -> list[str]:
        """Returns the command line that works in a folder."""
        filled = COMMANDS[command].format(corpus=self.folder / "corpus", out=home / "out")
        return [sys.executable, "-m", "lmzoo", *filled.split()]

    def start(self, command: str, home: Path, operation: int = 0, *, group: bool = False) -> subprocess.Popen[bytes]:
        """Starts a command, which kills itself at the given number of its file operations if that is not 0."""
        home.mkdir(exist_ok=True)
        environment = dict(os.environ)
        if operation:
            below = {"KILL_BELOW": str(home), "KILL_AT": str(operation), "KILL_GROUP": str(int(group))}
            paths = [str(self.folder / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment |= {**below, "PYTHONPATH": os.pathsep.join(paths)}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self.words(command, home), env=environment, start_new_session=True, **quiet)

    def kill_once(self, command: str, home: Path, rng: random.Random, count: Count) -> None:
        """Starts a command and kills it, and counts the kill unless the command ends before it."""
        if rng.random() < 0.5:
            # Early operations are more interesting than those of the report, of which there are many.
            process = self.start(command, home, 1 + int(60 * rng.random() ** 1.5), group=rng.random() < 0.5)
            process.wait(LONGEST)
            hit = process.returncode != 0
            count.by_operation += hit
        else:
            process = self.start(command, home)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.05, self.seconds[command]))
            hit = process.poll() is None
            count.by_time += hit
            whom = rng.choice(["main", "group", "job"])
            jobs = _jobs(process.pid) if hit else []
            if whom == "job" and jobs:
                with contextlib.suppress(psutil.NoSuchProcess):
                    rng.choice(jobs).kill()
                process.wait(LONGEST)
            elif whom == "group" and hit:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
        count.too_late += not hit

    def case(self, number: int, command: str, rng: random.Random) -> tuple[str, Count]:
        """Kills a command up to `MOST_IN_A_ROW` times in one folder, repeats it, and compares what it wrote."""
        count, home = Count(cases=1), self.folder / f"case-{number}"
        for _ in range(rng.randint(1, MOST_IN_A_ROW)):
            self.kill_once(command, home, rng, count)
        process = self.start(command, home)
        status: object
        try:
            status = process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = "no end"
        if status:
            count.unfinished += 1
            count.notes.append(f"case {number}: {command} ended with {status}")
        found, whole = contents(home), self.whole[command]
        for kind, names in (
            ("missing", whole.keys() - found.keys()),
            ("leftovers", found.keys() - whole.keys()),
            ("different", {name for name in whole.keys() & found.keys() if whole[name] != found[name]}),
        ):
            setattr(count, kind, getattr(count, kind) + len(names))
            count.notes += [f"case {number}: {command}: {kind}: {name}" for name in sorted(names)]
        return command, count

    def run(self, n_kills: int, seed: int, workers: int) -> dict[str, Count]:
        """Runs cases, the commands in turn, until enough kills have hit, and returns the counts of each command."""
        counts = {command: Count() for command in self.commands}
        numbers = iter(range(sys.maxsize))

        def work() -> None:
            while sum(count.kills for count in counts.values()) < n_kills:
                number = next(numbers)
                command = self.commands[number % len(self.commands)]
                name, new = self.case(number, command, random.Random(f"{seed} {number}"))
                for entry, value in vars(new).items():
                    setattr(counts[name], entry, getattr(counts[name], entry) + value)

        with ThreadPoolExecutor(workers) as pool:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        return counts


def _jobs(pid: int) -> list[psutil.Process]:
    """Returns the living processes of jobs that a process has started."""
    jobs = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()):
                    jobs.append(child)
    return jobs


def contents(home: Path) -> dict[str, bytes]:
    """Returns the comparable content of every file below a folder, and the names of hidden folders."""
    found = {}
    for path in sorted(home.rglob("*")):
        if path.is_file():
            found[path.relative_to(home).as_posix()] = comparable(path, path.read_bytes())
        elif path.name.startswith("."):
            found[path.relative_to(home).as_posix()] = b"a folder"
    return found


def comparable(path: Path, data: bytes) -> bytes:
    """Returns the content of a file without times, memory, command and machine."""
    if path.suffix == ".jsonl":
        return b"\n".join(_without(json.loads(line)) for line in data.splitlines())
    if path.suffix == ".json":
        return _without(json.loads(data))
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        return b"\n".join(_without(row) for row in rows)
    if path.name in ("costs.svg", "costs.png"):
        return b"a figure of times"
    if path.suffix in (".md", ".html"):
        return "\n".join(_facts(data.decode())).encode()
    return data


def _without(value: object) -> bytes:
    """Returns a JSON value as text, without the volatile entries of its objects."""

    def kept(value: object) -> object:
        if isinstance(value, dict):
            return {name: kept(inner) for name, inner in value.items() if name not in VOLATILE}
        return [kept(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(kept(value), sort_keys=True).encode()


def _facts(page: str) -> Iterator[str]:
    """Yields the headings of a page and its lines about corpus and protocol; the other lines may hold times."""
    for line in page.splitlines():
        if re.match(r"#|- (corpus|protocol|shares)|.*(<h\d|sha256|<dt>(corpus|protocol|shares))", line):
            yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="number of cases at a time")
    usual = [command for command in COMMANDS if command != "align"]
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=usual)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lmzoo-kills-", ignore_cleanup_errors=True) as folder:
        campaign = Campaign(Path(folder), arguments.commands, arguments.seed)
        counts = campaign.run(arguments.kills, arguments.seed, arguments.workers)
    columns = [name for name in vars(Count()) if name != "notes"]
    print(f"{'':12}" + "".join(f"{name:>14}" for name in columns))
    for command, count in counts.items():
        print(f"{command:12}" + "".join(f"{getattr(count, name):14}" for name in columns))
        print("".join(f"  {note}\n" for note in count.notes), end="")
    n_kills, n_failures = (sum(getattr(count, name) for count in counts.values()) for name in ("kills", "n_failures"))
    print(f"{n_kills} kills, {n_failures} failures, {time.monotonic() - started:.0f} s")
    print(json.dumps({command: {name: getattr(count, name) for name in columns} for command, count in counts.items()}))
    sys.exit(1 if n_failures else 0)


if __name__ == "__main__":
    main()
