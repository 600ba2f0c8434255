"""Damaged files: mutates each kind of file that lmzoo reads, and checks that it is refused in one line or read.

    python benchmarks/faults_mutations.py [--cases 3000] [--seed 0] [--kinds arpa results ...]

Every mutant is read as a user would read it: a predictor is loaded and asked for predictions, a report is written from
a run folder. Reading it must not raise an exception that is not lmzoo's own, take more than a minute or 1 GB of
memory, give NaN, or write outside its folder. The cases run in forked processes, so that a crash or a hang ends one
case only. Prints a table, what was wrong, and one line of JSON. Exits with status 1 if anything was wrong. Linux only.
"""

from __future__ import annotations

import os

# Two threaded programs on the same cores slow each other down many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from faults_mutants import mutated_bytes, mutated_json, mutated_lines, mutated_safetensors
from lmzoo import Predictor
from lmzoo.corpora import load_corpus
from lmzoo.errors import LmzooError
from lmzoo.experiments.compare import compare
from lmzoo.interchange.arpa import predictor_from_arpa, predictor_to_arpa
from lmzoo.report import write_report
from lmzoo.tokenizers import Tokenizer

MAX_SECONDS = 60
MAX_BYTES = 1 << 30
WORKERS = 2
SPECIES: dict[str, dict[str, Any]] = {
    "ngram": {"order": 3},
    "hmm": {"n_states": 3, "n_iterations": 1},
    "skip-ngram": {"order": 3},
    "lstm": {"d_embed": 4, "d_hidden": 4, "training": {"tokens": 200, "batch_size": 2, "chunk_size": 8}},
    "gpt2": {"d_model": 8, "n_layers": 1, "n_heads": 2, "training": {"tokens": 200, "batch_size": 2, "chunk_size": 8}},
    "transformer": {
        "d_model": 8, "n_layers": 1, "n_heads": 2, "training": {"tokens": 200, "batch_size": 2, "chunk_size": 8},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of file: how a mutant of it is made in a folder, and how it is read."""

    make: Callable[[Path, np.random.Generator], None]
    read: Callable[[Path], None]


# ---- Originals ----------------------------------------------------------------------------------


def make_originals(home: Path) -> None:
    """Writes one small file or folder of each kind below `home`: a corpus, predictors, a run folder, an ARPA file."""
    home.mkdir()
    rng = np.random.default_rng(0)
    words = ["the", "cat", "that", "I", "saw", "née", "川", "ran", "—", "fox"]
    documents = [" ".join(rng.choice(words, 30)) for _ in range(40)]
    lines = [json.dumps({"text": text, "id": number}, ensure_ascii=False) for number, text in enumerate(documents)]
    (home / "corpus.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    corpus = load_corpus(home / "corpus.jsonl")
    for name, settings in SPECIES.items():
        Predictor.fit(name, corpus, tokenizer="bpe:280", **settings).save(home / "predictors" / name)
    predictor_to_arpa(Predictor.fit("ngram", corpus, tokenizer="word", order=3), home / "model.arpa")
    run = compare(home / "run", species=["unigram", "hmm"], corpus=home / "corpus.jsonl", tokenizer="bpe:280",
                  settings={"hmm": {"n_states": 3}}, sweeps={"hmm": {"n_states": [2, 4]}}, jobs=1)  # fmt: skip
    if run.failures:
        sys.exit(f"the run of the originals failed: {run.failures}")
    # The originals are read once here, so that no case compiles kernels, whose cache is outside of its folder.
    for name in SPECIES:
        _ask(Predictor.load(home / "predictors" / name))
    _ask(predictor_from_arpa(home / "model.arpa"))
    # No report is written here: the engine that draws figures has threads, after which a forked process would hang.


def _is_resigned(rng: np.random.Generator, home: Path) -> None:
    """Writes the fingerprint of a mutated tokenizer into `predictor.json` in half of the cases, so that it is used."""
    if rng.random() < 0.5:
        try:
            fingerprint = Tokenizer.load(home / "tokenizer.json").fingerprint
        except LmzooError:
            return
        path = home / "predictor.json"
        description = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_fingerprint": fingerprint}
        path.write_text(json.dumps(description), encoding="utf-8")


def kinds(originals: Path) -> dict[str, Kind]:
    """Returns the kinds of files that are mutated, by name."""

    def file(name: str, mutate: Callable[[bytes, np.random.Generator], bytes]) -> Callable[..., None]:
        def make(folder: Path, rng: np.random.Generator) -> None:
            (folder / name).write_bytes(mutate((originals / name).read_bytes(), rng))

        return make

    def in_predictor(name: str, mutate: Callable[[bytes, np.random.Generator], bytes]) -> Callable[..., None]:
        def make(folder: Path, rng: np.random.Generator) -> None:
            home = folder / "predictor"
            shutil.copytree(originals / "predictors" / str(rng.choice(list(SPECIES))), home)
            (home / name).write_bytes(mutate((home / name).read_bytes(), rng))
            if name == "tokenizer.json":
                _is_resigned(rng, home)

        return make

    def in_run(folder: Path, rng: np.random.Generator) -> None:
        (folder / "run").mkdir()
        lines = (originals / "run" / "results.jsonl").read_bytes().splitlines(keepends=True)
        row = rng.integers(len(lines))
        if rng.random() < 0.2:  # the labels of a sweep
            lines = [line.replace(b"n_states=", b"../../n_states=") for line in lines]
        lines[row] = mutated_json(lines[row].rstrip(b"\n"), rng) + b"\n"
        (folder / "run" / "results.jsonl").write_bytes(b"".join(lines))
        for part in ("encoded", "scores", "probes", "ensemble.json"):
            if rng.random() < 0.2:
                (folder / "run" / part).symlink_to(originals / "run" / part)

    return {
        "arpa": Kind(file("model.arpa", mutated_lines), _read_arpa),
        "predictor.json": Kind(in_predictor("predictor.json", mutated_json), _use_predictor),
        "tokenizer.json": Kind(in_predictor("tokenizer.json", mutated_json), _use_predictor),
        "safetensors": Kind(in_predictor("arrays.safetensors", mutated_safetensors), _use_predictor),
        "results.jsonl": Kind(in_run, lambda folder: _report(folder / "run")),
        "JSONL corpus": Kind(file("corpus.jsonl", _mutated_corpus), lambda folder: _load(folder / "corpus.jsonl")),
    }


def _mutated_corpus(data: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.5:
        return mutated_bytes(data, rng)
    lines = data.splitlines(keepends=True)
    row = rng.integers(len(lines))
    lines[row] = mutated_json(lines[row].rstrip(b"\n"), rng) + b"\n"
    return b"".join(lines)


# ---- Reading ------------------------------------------------------------------------------------


class WrongNumber(Exception):
    """Raised if a file is read without an error and gives NaN."""


def _read_arpa(folder: Path) -> None:
    _ask(predictor_from_arpa(folder / "model.arpa"))


def _use_predictor(folder: Path) -> None:
    _ask(Predictor.load(folder / "predictor"))


def _ask(predictor: Predictor) -> None:
    """Asks a predictor for a distribution, a completion and surprisals."""
    text = "the cat"
    total = predictor.predict_distribution(text).probs.sum()
    predictor.complete(text, max_tokens=5, seed=0)
    figures = [token.surprisal_bits for token in predictor.surprisals(text)]
    if np.isnan([total, *figures]).any():
        raise WrongNumber(f"NaN among the surprisals {figures}")


def _report(folder: Path) -> None:
    write_report(folder)


def _load(path: Path) -> None:
    load_corpus(path)


# ---- Processes ----------------------------------------------------------------------------------


def _guard_writes(folder: Path, outside: list[str]) -> None:
    """Records every path outside of `folder` that this process opens for writing, creates, renames or removes."""
    inside = os.fspath(folder) + os.sep
    watched = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
            places: list[tuple[Any, int]] = [(path, -1)]
        elif event in ("os.rename", "os.link"):
            places = [(arguments[0], arguments[2]), (arguments[1], arguments[3])]
        elif event in watched:
            has_folder = event not in ("os.truncate",)
            places = [(arguments[event == "os.symlink"], arguments[-1] if has_folder else -1)]
        else:
            return
        for path, open_folder in places:
            if isinstance(path, str | bytes | os.PathLike):
                start = os.readlink(f"/proc/self/fd/{open_folder}") if open_folder >= 0 else ""  # noqa: PTH115
                name = os.path.abspath(os.path.join(start, os.fsdecode(path)))  # noqa: PTH100, PTH118
                if not (name + os.sep).startswith(inside) and not name.startswith(("/proc/", "/dev/")):
                    outside.append(f"{event} {name}")

    sys.addaudithook(hook)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _work(kind: Kind, folder: Path, seed: int, numbers: range, connection: Connection) -> None:
    """Runs cases one after the other, and sends the number of each before it and its outcome after it."""
    outside: list[str] = []
    _guard_writes(folder, outside)
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for number in numbers:
        home = folder / str(number)
        home.mkdir()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _memory("VmRSS:")
        connection.send((number, None))
        outside.clear()
        outcome = _outcome(kind, home, np.random.default_rng([seed, number]))
        used = _memory("VmHWM:") - before
        if outside and outcome[0] in ("refused", "accepted"):
            outcome = "wrote outside", outside[0]
        elif used > MAX_BYTES:
            outcome = "memory", f"{used / 1e9:.1f} GB"
        connection.send((number, outcome))
        if outcome[0] in ("refused", "accepted"):
            shutil.rmtree(home)


def _outcome(kind: Kind, home: Path, rng: np.random.Generator) -> tuple[str, str]:
    try:
        kind.make(home, rng)  # half of the tokenizers are read here
        kind.read(home)
    except LmzooError as error:
        return ("refused", "") if "\n" not in str(error) else ("several lines", repr(str(error)))
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "exception", f"{type(error).__name__}: {error} at {Path(frame.filename).name}:{frame.lineno}"
    return "accepted", ""


def run_cases(kind: Kind, folder: Path, seed: int, n_cases: int) -> list[tuple[int, str, str]]:
    """Runs `n_cases` cases in forked processes and returns (number, outcome, detail) of each."""
    context = multiprocessing.get_context("fork")
    queue = [range(start, n_cases, WORKERS) for start in range(min(WORKERS, n_cases))]
    results: list[tuple[int, str, str]] = []
    running: dict[Connection, tuple[Any, range, int, float]] = {}
    while queue or running:
        while queue:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(kind, folder, seed, queue[0], theirs))
            process.start()
            theirs.close()
            running[ours] = process, queue.pop(0), -1, time.monotonic()
        ready = wait(list(running), timeout=0.5)
        for connection, (process, numbers, number, since) in list(running.items()):
            ended = ""
            if connection in ready:
                try:
                    number, outcome = connection.recv()  # type: ignore[attr-defined]
                    running[connection] = process, numbers, number, time.monotonic()
                    if outcome is not None:
                        results.append((number, *outcome))
                        running[connection] = process, numbers, -1, time.monotonic()
                except EOFError:
                    process.join()
                    ended = "" if process.exitcode == 0 else "crash"
                    del running[connection]
            elif number >= 0 and time.monotonic() - since > MAX_SECONDS:
                process.kill()
                process.join()
                ended = "hang"
                del running[connection]
            if ended:
                results.append((number, ended, f"exit code {process.exitcode}"))
                rest = numbers[numbers.index(number) + 1 :] if number in numbers else range(0)
                queue += [rest] if rest else []
    return sorted(results)


def main() -> None:
    """Runs the campaign and prints its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000, help="number of mutants of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", help="kinds of files; all by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lmzoo-faults-") as temporary:
        home = Path(temporary)
        make_originals(home / "originals")
        table, wrong = {}, []
        for name, kind in kinds(home / "originals").items():
            if options.kinds and name not in options.kinds:
                continue
            folder, started = home / name.replace(" ", "-"), time.monotonic()
            folder.mkdir()
            results = run_cases(kind, folder, options.seed, options.cases)
            counts = Counter(outcome for _, outcome, _ in results)
            table[name] = {**counts, "seconds": round(time.monotonic() - started)}
            wrong += [(name, *result) for result in results if result[1] not in ("refused", "accepted")]
            accepted, refused = counts.pop("accepted", 0), counts.pop("refused", 0)
            print(f"{name:16} {refused:6} refused {accepted:6} accepted {sum(counts.values()):6} wrong", dict(counts),
                  f"{table[name]['seconds']} s", flush=True)  # fmt: skip
    for name, number, outcome, detail in wrong[:200]:
        print(f"{name} {number}: {outcome}: {detail}")
    print(json.dumps({"seed": options.seed, "cases": options.cases, **table}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
