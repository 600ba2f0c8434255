"""Compares the speed of tables of surprisals with that of `LanguageModel.token_stats`, which computes their numbers.

    python benchmarks/surprisal.py [--words 1000000] [--rounds 7] [--predictor ngram]

The text is the King James Bible, repeated up to the given number of words. In each round, the text is encoded and
scored with `token_stats`; then a table of its words is computed (`tables`); and the table is written to a file, too
(`tsv`, `parquet`). A ratio is the time of the first work divided by that of another in the same round. All figures are
medians of the rounds. Then `lmzoo surprisal` reads the text by lines as a process of its own, once and four times as
long, for its peak memory. The last line is JSON with all figures; its `ratio` is that of the table as TSV.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from statistics import median

from lmzoo import Predictor, load_corpus
from lmzoo.evaluation.surprisals import stream_surprisals
from lmzoo.evaluation.surprisals.contexts import Scope, from_texts
from lmzoo.evaluation.surprisals.measure import output_columns
from lmzoo.evaluation.surprisals.writing import table_file
from lmzoo.tokenizers.words import count_words


def text_of(n_words: int) -> str:
    """Returns at least `n_words` words of the King James Bible, which is repeated if it is too short."""
    verses = "".join(document.text for part in load_corpus("kjv").splits.values() for document in part)
    repeats = 1 + n_words // count_words(verses)
    lines, found, kept = (verses * repeats).splitlines(keepends=True), 0, []
    for line in lines:
        if found >= n_words:
            break
        kept.append(line)
        found += count_words(line)
    return "".join(kept)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(predictor: Predictor, text: str, n_rounds: int, folder: Path) -> dict[str, list[float]]:
    """Returns the times of each work in seconds, one per round."""

    def tables() -> None:
        for _ in stream_surprisals({"one": predictor}, from_texts([text], Scope())):
            pass

    def written(suffix: str) -> None:
        contexts = from_texts([text], Scope())
        with table_file(folder / f"out.{suffix}", output_columns(contexts.columns, "word")) as write:
            for table in stream_surprisals({"one": predictor}, contexts):
                write(table)

    ids = predictor.tokenizer.encode(text)
    works: dict[str, Callable[[], object]] = {
        "token_stats_alone": lambda: predictor.model.token_stats(ids),
        "token_stats": lambda: predictor.model.token_stats(predictor.tokenizer.encode(text)),
        "tables": tables,
        "tsv": lambda: written("tsv"),
        "parquet": lambda: written("parquet"),
    }
    predictor.model.token_stats(ids[:2000])  # compiled code is loaded before the clock starts
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(n_rounds)]
    return {name: [times[name] for times in rounds] for name in works}


def peak_megabytes(predictor: str, text: str, folder: Path) -> float:
    """Returns the peak memory of `lmzoo surprisal` on the lines of a text."""
    (folder / "text.txt").write_text(text, encoding="utf-8")
    out = ["--context", "sentence", "--out", str(folder / "out.tsv")]
    command = [sys.executable, "-m", "lmzoo", "surprisal", str(folder / "text.txt"), "-p", predictor, *out]
    started = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, command)
    return usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--predictor", default="ngram")
    asked = parser.parse_args()
    text, predictor = text_of(asked.words), Predictor.load(asked.predictor)
    n_words = count_words(text)
    figures: dict[str, float] = {"words": n_words}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        times = measure(predictor, text, asked.rounds, folder)
        for name in times:
            taken = figures[f"{name}_seconds"] = median(times[name])
            ratio = figures[f"{name}_ratio"] = median(map(truediv, times["token_stats"], times[name]))
            print(f"{name:<18} {taken:8.2f} s {n_words / taken:12,.0f} words/s {ratio:6.2f}", flush=True)
        figures["ratio"] = figures["tsv_ratio"]
        for times_as_long in (1, 4):
            name = f"peak_megabytes_{times_as_long}"
            figures[name] = peak_megabytes(asked.predictor, text * times_as_long, folder)
            print(f"peak memory of the command, {times_as_long * n_words:,} words: {figures[name]:,.0f} MB")
    print(json.dumps({name: float(f"{value:.5g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
