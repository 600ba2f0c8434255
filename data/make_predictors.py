"""Makes the small predictors that come with lmzoo, in `data/predictors/`.

    python data/make_predictors.py

The models of text are fitted on the King James Bible in a run folder, and the chat models in a run folder of
`lmzoo align`; there, an interrupted fit continues and a finished one is not repeated. Then all are rounded, so that
they need little space: each matrix of a network to 255 values at equal distances, its vectors to half precision, and
all other numbers to single precision. The n-gram models are pruned and have one-byte log-probabilities (see
`lmzoo.models.ngram.compression`). `README.md` lists sizes, losses and shares of correct replies, `SHA256SUMS` the hash
of each file.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo import Predictor, align, zoo
from lmzoo.chat.replies import GREEDY, sample_replies
from lmzoo.chat.voting import read_comparisons, write_comparisons
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.corpora.load import as_corpus
from lmzoo.experiments.align.data import RunData
from lmzoo.experiments.align.measure import accuracies, text_loss
from lmzoo.experiments.align.presets import preset
from lmzoo.experiments.align.stages import predictor_folder
from lmzoo.experiments.fitting import FitJob, encoded_in
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.run_folder import open_run
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.system.jobs import Outcome, run_jobs
from lmzoo.system.progress import Progress

FOLDER = Path(__file__).parent / "predictors"

_N_STEPS = 127
"""A matrix of a network has the values -127 d, .., 0, d, .., 127 d, where d depends on the matrix."""

SETTINGS: Mapping[str, dict[str, Any]] = {
    "markov": {},
    "uniform": {},
    "unigram": {},
    "hmm": {"n_states": 64, "n_iterations": 20},
    "trigram": {"prune": 3e-6, "quantise": True},
    "cache": {
        "static": {"species": "ngram", "settings": {"order": 3, "prune": 2e-6, "quantise": True}},
    },
    "rnn": {"d_hidden": 192, "training": {"tokens": 600_000, "chunk_size": 32, "learning_rate": 1e-2}},
    "class-ngram": {"n_classes": 150, "order": 3},
    "lstm": {"d_hidden": 192, "training": {"tokens": 600_000, "chunk_size": 32, "learning_rate": 1.5e-2}},
    "ngram": {"order": 5, "prune": 1.5e-6, "quantise": True},
    "nplm": {"training": {"tokens": 800_000, "chunk_size": 32, "learning_rate": 1e-2}},
    "log-bilinear": {"d_embed": 128, "training": {"tokens": 800_000, "chunk_size": 32, "learning_rate": 1e-2}},
    "gru": {"d_hidden": 192, "training": {"tokens": 600_000, "chunk_size": 32, "learning_rate": 1.5e-2}},
    "gated-conv": {
        "n_layers": 4,
        "training": {"tokens": 600_000, "batch_size": 16, "learning_rate": 1e-2, "optimizer": "muon"},
    },
    "transformer-2017": {"n_layers": 2, "training": {"tokens": 600_000, "batch_size": 16}},
    "gpt2": {"n_layers": 2, "training": {"tokens": 600_000, "batch_size": 16, "learning_rate": 3e-3}},
    "class-hmm": {"n_states": 384, "n_classes": 64},
    "low-rank-hmm": {"n_states": 256, "rank": 64, "d_embed": 64, "training": {"tokens": 600_000}},
    "linear-recurrence": {
        "n_layers": 1, "n_heads": 2, "ngrams": 3, "n_slots": 4096, "ngram_dropout": 0.3,
        "training": {"tokens": 600_000, "batch_size": 16, "learning_rate": 1e-2, "optimizer": "muon"},
    },
    "transformer": {
        "n_layers": 2, "ngrams": 3, "n_slots": 4096, "ngram_dropout": 0.3,
        "training": {"tokens": 600_000, "batch_size": 16, "learning_rate": 1e-2, "optimizer": "muon"},
    },
}  # fmt: skip
"""The settings of the predictors, by species, in order of year."""

CHAT_STAGES = {"gpt-3.5": "sft", "chat": "dpo"}
"""The stages of `lmzoo align` whose models come with lmzoo, by species."""
CHAT_PRESET = "quick"
N_COMPARISONS = 300
"""Number of pairs of replies of the fine-tuned model that come with it, for people to vote on."""


def rounded(array: NDArray[Any], is_network: bool) -> NDArray[Any]:
    """Returns an array of a model, rounded so that it needs less space; its type stays the same."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    if not is_network:
        return array.astype(np.float32).astype(array.dtype)
    largest = float(np.abs(array).max(initial=0))
    if array.ndim < 2 or not largest:
        return array.astype(np.float16).astype(array.dtype)
    step = largest / _N_STEPS
    return (np.round(array / step) * step).astype(array.dtype)


def rounded_predictor(predictor: Predictor) -> Predictor:
    """Returns a copy of a predictor with rounded parameters, without the facts that differ from one fit to the next."""
    is_network = isinstance(predictor.model, NeuralLM)
    arrays = {name: rounded(array, is_network) for name, array in predictor.model.arrays().items()}
    model = zoo.create(predictor.species, predictor.tokenizer.vocab_size, **predictor.settings).load_arrays(arrays)
    provenance = replace(predictor.provenance, fit_seconds=None, created=None, machine=None)
    return replace(predictor, model=model, provenance=provenance, training_sample=None)


def fit_all(run: Path, jobs: int) -> EncodedCorpus:
    """Fits the predictors in a run folder, and returns the corpus. Raises SystemExit if a fit fails."""
    plan = RunPlan(species=list(SETTINGS), tokenizer="bpe:2048", settings=SETTINGS, jobs=jobs).checked()
    corpus, failed = as_corpus(plan.corpus), []

    def on_progress(name: str, progress: Progress) -> None:
        share = f"{progress.done / progress.total:4.0%}" if progress.total else ""
        print(f"\r{name} {share} {progress.message}".ljust(100)[:100], end="", flush=True)

    def on_outcome(outcome: Outcome[Path]) -> None:
        print(f"\r{outcome.name}: {outcome.error or 'done'}".ljust(100))
        failed.extend([outcome.name] if outcome.error else [])

    with open_run(run, plan.request(corpus)):
        encoded = encoded_in(run, corpus, plan.tokenizer, lambda progress: on_progress("corpus", progress))
        fits = [FitJob(run, zoo.card(name), "", settings, plan.seed, "cpu") for name, settings in SETTINGS.items()]
        run_jobs(fits, at_a_time=jobs, on_outcome=on_outcome, on_progress=on_progress)
    if failed:
        raise SystemExit(f"could not fit {', '.join(failed)}")
    return encoded


def make_chat_models(run: Path) -> RunData:
    """Makes the chat models in a run folder, and returns its data. Raises SystemExit if a stage fails."""
    result = align(
        run, preset=CHAT_PRESET, methods=["dpo"], device="cpu", on_outcome=lambda one: print(one.name, "done")
    )
    if result.failures:
        raise SystemExit(f"could not make the chat models: {result.failures}")
    return RunData(run)


def ship(name: str, source: Path, measures: Mapping[str, Callable[[Predictor], float]]) -> str:
    """Writes the rounded predictor of the folder `source`, and returns its row of a table.

    `measures` has functions of a predictor, by the format of their results. The row has the results before and after
    rounding.
    """
    fitted = Predictor.load(source)
    rounded_predictor(fitted).save(FOLDER / name, narrow=True)
    shipped = Predictor.load(FOLDER / name)
    size = sum(path.stat().st_size for path in (FOLDER / name).iterdir())
    values = [form.format(measure(one)) for form, measure in measures.items() for one in (fitted, shipped)]
    row = f"| `{name}` | {zoo.card(name).year} | {' | '.join(values)} | {size / 1000:,.0f} kB |"
    print(row, flush=True)
    return row


def ship_all(run: Path, encoded: EncodedCorpus, chat: Path, chat_data: RunData) -> None:
    """Replaces the shipped predictors by those of two run folders, and writes the tables and the hashes."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    of_text = {"{:.3f}": lambda predictor: text_loss(predictor, encoded.test)}
    of_chat = {"{:.1f} %": lambda predictor: 100 * correct_share(predictor, chat_data), **of_text}
    rows = [ship(name, run / "predictors" / name, of_text) for name in SETTINGS]
    chat_rows = [ship(name, predictor_folder(chat, stage), of_chat) for name, stage in CHAT_STAGES.items()]
    comparisons = read_comparisons(chat / "comparisons.jsonl")[:N_COMPARISONS]
    write_comparisons(FOLDER / "gpt-3.5" / "comparisons.jsonl", comparisons)
    page = README.replace("{rows}", "\n".join(rows)).replace("{chat_rows}", "\n".join(chat_rows))
    (FOLDER / "README.md").write_text(page, encoding="utf-8")
    write_hashes()
    contents = [path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()]
    print(
        f"{len(rows) + len(chat_rows)} predictors, {sum(map(len, contents)) / 1e6:.1f} MB together, "
        f"{sum(len(zlib.compress(content)) for content in contents) / 1e6:.1f} MB in the wheel"
    )


def correct_share(predictor: Predictor, data: RunData) -> float:
    """Returns the mean over the tasks of the share of correct replies of a chat model to held-out instructions."""
    prompts = [instruction.conversation for instruction in data.test]
    rng, max_tokens = np.random.default_rng(0), preset(CHAT_PRESET).max_tokens
    replies = sample_replies(
        predictor.model, predictor.tokenizer, prompts, rng=rng, decoding=GREEDY, max_tokens=max_tokens
    )
    return float(np.mean(list(accuracies(data.test, replies).values())))


def write_hashes() -> None:
    """Writes `SHA256SUMS`, which `sha256sum --check` reads."""
    paths = sorted(path for path in FOLDER.glob("*/*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(FOLDER).as_posix()}" for path in paths
    ]
    (FOLDER / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="ascii")


README = """# Predictors that come with lmzoo

This folder holds small models of almost every era. All were fitted on the train split of the King James Bible (`kjv`)
with one tokenizer (`bpe:2048`), so that their distributions can be compared token by token. Every command that takes
the folder of a predictor also takes the name of one of them, as in `lmzoo predict "In the beginning" -p ngram`, and so
does `Predictor.load("ngram")`. They are meant for trying out and teaching: the larger models in the leaderboard of the
README of lmzoo are better.

The parameters of the models are rounded, so that the files are smaller. The table shows the bits per byte on the test
split of `kjv` before and after rounding. The n-gram models were pruned and quantised before both measurements.

| predictor | year | bits per byte | after rounding | size |
|---|--:|--:|--:|--:|
{rows}

Some families are missing, because their models would slow the start of `lmzoo play` or need too much space: `ppm`,
`context-tree-weighting` and `context-mixing` need compiled code for the first prediction, and `infinigram` stores the
whole training text with an index.

Two chat models were made by `lmzoo align`: `gpt-3.5` is the fine-tuned model, and `chat` has learned from rankings of
its replies by DPO. `lmzoo chat` uses `chat`. The table shows the share of correct replies to held-out instructions
(the mean over the tasks) and the bits per byte on the test split of `kjv`, both before and after rounding. The file
`gpt-3.5/comparisons.jsonl` has pairs of replies for `lmzoo rank`.

| chat model | year | correct | after rounding | bits per byte | after rounding | size |
|---|--:|--:|--:|--:|--:|--:|
{chat_rows}

`python data/make_predictors.py` makes all predictors again. `SHA256SUMS` has the hash of each of their files, which
`sha256sum --check SHA256SUMS` verifies. On another computer, the parameters may differ slightly, because its processor
may add numbers in a different order.
"""


def main() -> None:
    """Makes the predictors, and writes them, the tables and the hashes."""
    parser = argparse.ArgumentParser(description="Makes the predictors that come with lmzoo.")
    parser.add_argument("--run", type=Path, default=Path("runs/shipped"), help="run folder for the models of text")
    parser.add_argument("--chat", type=Path, default=Path("runs/shipped-chat"), help="run folder for the chat models")
    parser.add_argument("--jobs", type=int, default=1, help="number of models of text to fit at a time")
    arguments = parser.parse_args()
    encoded = fit_all(arguments.run, arguments.jobs)
    ship_all(arguments.run, encoded, arguments.chat, make_chat_models(arguments.chat))


if __name__ == "__main__":
    main()
