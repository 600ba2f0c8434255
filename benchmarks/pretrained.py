"""Measures pretrained models in lmzoo next to transformers, which computes them.

    python benchmarks/pretrained.py [--model smollm2] [--text FILE] [--rounds 5] [--threads 1]

The model is a GGUF file, a folder of Hugging Face, or the name of an installed model. Measured are

- the first opening of a GGUF file, which converts it, and the later ones, each in a process of its own with an empty
  cache folder at the start: the time of `Predictor.load`, and of the whole process with all imports;
- the largest difference between the log-probabilities of lmzoo and of transformers, over all tokens of the text;
- the speed of `lmzoo.evaluate` and of a plain loop over transformers, which computes the log-probability of each token
  of the same documents in batches of at most 2,048 tokens. `evaluate` also encodes the text and computes ranks and
  entropies. Both take turns, and the medians over all rounds are compared.

The text is by default the first documents of the test split of the King James Bible, 2,000 tokens of the model. Run
nothing else at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from lmzoo import EOT, Predictor, evaluate, load_corpus
from lmzoo.corpora import Document
from lmzoo.evaluation.measured_text import MeasuredText
from lmzoo.models.pretrained_gguf import converted
from lmzoo.models.pretrained_names import installed_file
from lmzoo.stream import TokenStream

_N_TOKENS = 2000
_BATCH_TOKENS = 2048
_OPEN = """
import sys, time
from lmzoo import Predictor
import lmzoo.models.pretrained
started = time.perf_counter()
predictor = Predictor.load(sys.argv[1])
print(time.perf_counter() - started)
"""


def opening_times(model: str, rounds: int) -> dict[str, float]:
    """Returns the seconds of opening a model for the first time and later, in new processes with an empty cache."""
    times: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(1 + rounds):
            started = time.perf_counter()
            command = [sys.executable, "-c", _OPEN, model]
            environment = os.environ | {"XDG_CACHE_HOME": cache}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            times.append((float(done.stdout.split()[-1]), time.perf_counter() - started))
    loads, processes = zip(*times[1:], strict=True)
    return {
        "first_load_seconds": times[0][0],
        "first_process_seconds": times[0][1],
        "load_seconds": statistics.median(loads),
        "process_seconds": statistics.median(processes),
    }


def documents(predictor: Predictor, path: Path | None) -> list[Document]:
    """Returns the documents to measure: the file at `path`, or the first documents of the Bible's test split."""
    if path is not None:
        return [Document(path.name, path.read_text(encoding="utf-8"))]
    chosen: list[Document] = []
    n_tokens = 0
    for document in load_corpus("kjv").test:
        if n_tokens >= _N_TOKENS:
            break
        chosen.append(document)
        n_tokens += len(predictor.tokenizer.encode(document.text)) + 1
    return chosen


class PlainLoop:
    """A plain loop over transformers: computes the log-probability of each token of several documents."""

    def __init__(self, folder: Path, start_id: int, eot_id: int) -> None:
        self._network: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._start_id, self._eot_id = start_id, eot_id

    @torch.inference_mode()
    def log_probs(self, texts: list[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Returns, for each document of T token ids of lmzoo, the log-probabilities (T + 1,) of its tokens and its end.

        Documents of similar length are read in one batch.
        """
        swap = {EOT: self._eot_id, self._eot_id: EOT}
        rows = [[self._start_id, *(swap.get(i, i) for i in ids.tolist()), self._eot_id] for ids in texts]
        found: dict[int, NDArray[np.float32]] = {}
        waiting = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        while waiting:
            size = max(1, _BATCH_TOKENS // len(rows[waiting[0]]))
            batch, waiting = waiting[:size], waiting[size:]
            width = len(rows[batch[0]])
            ids = torch.tensor([rows[index] + [0] * (width - len(rows[index])) for index in batch])
            logits = self._network(ids[:, :-1]).logits
            losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            for index, row in zip(batch, -losses.view(len(batch), -1), strict=True):
                found[index] = row[: len(rows[index]) - 1].numpy()
        return [found[index] for index in range(len(rows))]


def main() -> None:
    """Runs the measurements and prints them as a table and as one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    path = installed_file(arguments.model)
    figures: dict[str, Any] = {} if path.is_dir() else opening_times(arguments.model, arguments.rounds)
    predictor = Predictor.load(arguments.model)
    chosen = documents(predictor, arguments.text)
    text = MeasuredText.of_documents("benchmark", chosen)
    config = predictor.model._network.config  # type: ignore[attr-defined]
    loop = PlainLoop(path if path.is_dir() else converted(path), config.bos_token_id, config.eos_token_id)
    encoded = [predictor.tokenizer.encode(document.text) for document in chosen]
    n_tokens = sum(len(ids) + 1 for ids in encoded)

    ours = predictor.model.log_probs(TokenStream.from_documents(encoded))
    figures["largest_difference"] = float(np.abs(ours - np.concatenate(loop.log_probs(encoded))).max())
    rates: dict[str, list[float]] = {"lmzoo": [], "transformers": []}
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        loop.log_probs(encoded)
        rates["transformers"].append(n_tokens / (time.perf_counter() - started))
        rates["lmzoo"].append(evaluate(predictor, text).tokens_per_second)
    figures |= {f"{name}_tokens_per_second": statistics.median(values) for name, values in rates.items()}
    figures["ratio"] = statistics.median(rates["lmzoo"]) / statistics.median(rates["transformers"])
    figures |= {"n_tokens": n_tokens, "threads": arguments.threads, "model": arguments.model}
    for name, value in figures.items():
        print(f"{name:30} {value if isinstance(value, str | int) else format(value, '.4g')}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
