"""Makes the small predictors that come with lmzoo, in `data/predictors/`.

    python data/make_predictors.py                                    # fits them on the King James Bible
    python data/make_predictors.py --chat runs/align-transformer-quick  # adds the chat model of a run of lmzoo align

The models are fitted in a run folder, where an interrupted fit continues and a finished one is not repeated. Then they
are rounded, so that they need little space: each matrix of a network to 255 values at equal distances, its vectors to
half precision, and all other numbers to single precision. The n-gram models are pruned and have one-byte
log-probabilities (see `lmzoo.models.ngram.compression`). `README.md` lists sizes and losses, `SHA256SUMS` the hash of
each file.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo import Predictor, zoo
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.experiments.align.measure import text_loss
from lmzoo.experiments.align.results import best_chat_model
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
    "gru": {"d_hidden": 192, "training": {"tokens": 600_000, "chunk_size": 32, "learning_rate": 1.5e-2}},
    "transformer-2017": {"n_layers": 2, "training": {"tokens": 600_000, "batch_size": 16}},
    "gpt2": {"n_layers": 2, "training": {"tokens": 600_000, "batch_size": 16, "learning_rate": 3e-3}},
    "class-hmm": {"n_states": 384, "n_classes": 64},
    "low-rank-hmm": {"n_states": 256, "rank": 64, "d_embed": 64, "training": {"tokens": 600_000}},
    "transformer": {
        "n_layers": 2, "ngrams": 3, "n_slots": 4096, "ngram_dropout": 0.3,
        "training": {"tokens": 600_000, "batch_size": 16, "learning_rate": 1e-2, "optimizer": "muon"},
    },
}  # fmt: skip
"""The settings of the predictors, by species, in order of year."""


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
    """Returns a copy of a predictor with rounded numbers, without the facts that differ from one fit to the next."""
    is_network = isinstance(predictor.model, NeuralLM)
    arrays = {name: rounded(array, is_network) for name, array in predictor.model.arrays().items()}
    model = zoo.create(predictor.species, predictor.tokenizer.vocab_size, **predictor.settings).load_arrays(arrays)
    provenance = replace(predictor.provenance, fit_seconds=None, created=None, machine=None)
    return replace(predictor, model=model, provenance=provenance, training_sample=None)


def fit_all(run: Path, jobs: int) -> EncodedCorpus:
    """Fits the predictors in a run folder, and returns the corpus. Raises SystemExit if a fit fails."""
    plan = RunPlan(species=list(SETTINGS), tokenizer="bpe:2048", settings=SETTINGS, jobs=jobs).checked()
    corpus, failed = plan.load_corpus(), []

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


def ship(name: str, source: Path, encoded: EncodedCorpus) -> str:
    """Writes the rounded predictor of the folder `source`, and returns its row of the table."""
    fitted = Predictor.load(source)
    rounded_predictor(fitted).save(FOLDER / name, narrow=True)
    before, after = (text_loss(predictor, encoded.test) for predictor in (fitted, Predictor.load(FOLDER / name)))
    size = sum(path.stat().st_size for path in (FOLDER / name).iterdir())
    print(f"{name}: {size / 1000:,.0f} kB, {before:.4f} bits per byte, rounded {after:.4f}")
    return f"| `{name}` | {zoo.card(name).year} | {before:.3f} | {after:.3f} | {size / 1000:,.0f} kB |\n"


def ship_all(sources: Mapping[str, Path], encoded: EncodedCorpus) -> None:
    """Replaces the shipped predictors by those of the given folders, by name, and writes the table and the hashes."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    rows = "".join(ship(name, sources[name], encoded) for name in zoo.built_in_names() if name in sources)
    (FOLDER / "README.md").write_text(README.replace("{rows}", rows), encoding="utf-8")
    write_hashes()
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{len(sources)} predictors, {total / 1e6:.1f} MB together, in {FOLDER}")


def write_hashes() -> None:
    """Writes `SHA256SUMS`, which `sha256sum --check` reads."""
    paths = sorted(path for path in FOLDER.glob("*/*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(FOLDER).as_posix()}" for path in paths
    ]
    (FOLDER / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="ascii")


README = """# Predictors that come with lmzoo

One small model of almost every era, fitted on the train split of the King James Bible (`kjv`) with one tokenizer
(`bpe:2048`), so that their distributions can be compared token by token. `lmzoo predict "In the beginning" -p ngram`
uses them, and so does every command that takes the folder of a predictor, and `Predictor.load("ngram")`. They are for
playing and teaching: models of the size that the leaderboard of the README has are better.

The numbers of the models are rounded. The table shows the bits per byte on the test split of `kjv` before and after
rounding. The n-gram models are pruned and quantised before both.

| predictor | year | bits per byte | rounded | size |
|---|--:|--:|--:|--:|
{rows}
`python data/make_predictors.py` fits them anew. `SHA256SUMS` has the hash of each file: `sha256sum --check SHA256SUMS`.
A fit on another computer may give slightly other numbers, because its processor adds them in another order.
"""


def main() -> None:
    """Fits the predictors, and writes them, the table and the hashes."""
    parser = argparse.ArgumentParser(description="Makes the predictors that come with lmzoo.")
    parser.add_argument("--run", type=Path, default=Path("runs/shipped"), help="run folder for the fits")
    parser.add_argument("--chat", type=Path, help="run folder of lmzoo align, whose best chat model is added")
    parser.add_argument("--jobs", type=int, default=1, help="number of models to fit at a time")
    arguments = parser.parse_args()
    encoded = fit_all(arguments.run, arguments.jobs)
    sources = {name: arguments.run / "predictors" / name for name in SETTINGS}
    if arguments.chat:
        sources["chat"] = best_chat_model(arguments.chat)
    ship_all(sources, encoded)


if __name__ == "__main__":
    main()
