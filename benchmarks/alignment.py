"""Measures what parts of the stages of `lmzoo align` contribute, with the data and the models of a finished run.

    lmzoo align --out RUN
    python benchmarks/alignment.py RUN [--parts noise replay target]

Each part trains one or two models with the settings of the run, and changes one thing:

- `noise`: the reward model learns from pairs of replies, one in five of which is in the wrong order. Its accuracy is
  measured on held-out prompts, for which the judge makes no mistakes. For comparison, the accuracy of the reward model
  of the run is measured, too, which learned from the same rankings without mistakes.
- `replay`: fine-tuning does not mix documents of the base model's training text with the conversations, and PPO does
  not also learn from that text. The alignment tax is measured: the rise of the loss on the test split of the corpus, as
  a fraction of the loss of the base model.
- `target`: PPO adapts its penalty in order to reach a set divergence from the fine-tuned model. It trains for as long
  as PPO without penalty does in the run. The mean divergence over the last ten rollouts is measured.

The last line is a JSON object with all results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo import Predictor
from lmzoo.chat.fine_tuning import fine_tune
from lmzoo.chat.preference_learning import ppo
from lmzoo.chat.preferences import Ranking, read_rankings
from lmzoo.chat.reward_model import RewardModel, fit_reward_model
from lmzoo.evaluation.records import read_lines
from lmzoo.experiments.align.data import RunData
from lmzoo.experiments.align.measure import judged_pairs, text_loss
from lmzoo.experiments.align.presets import Preset, preset
from lmzoo.experiments.align.records import StageRecord
from lmzoo.experiments.align.stages import predictor_folder, split_rankings
from lmzoo.neural.objectives.rollouts import RolloutMeasures
from lmzoo.system.progress import Progress

_SHARE_WRONG = 0.2
_KL_TARGET = 3.0
"""The divergence for the part `target`, in nats per reply."""
_KL_HORIZON = 400
"""Number of replies over which the penalty is adapted; the usual 10,000 is too slow for a run of 9,000 replies."""


class Run:
    """The folder of a finished run of `lmzoo align`, with its data, its settings and its results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = RunData(folder)
        self.request: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        records = read_lines(folder / "results.jsonl", StageRecord)
        self.bits_per_byte = {record.stage: record.bits_per_byte for record in records if record.bits_per_byte}

    @property
    def settings(self) -> Preset:
        """The settings of the run's preset."""
        return preset(self.request["preset"])

    def load(self, stage: str) -> Predictor:
        """Loads the predictor of a stage."""
        return Predictor.load(predictor_folder(self.folder, stage), device="cpu")

    def tax(self, predictor: Predictor) -> float:
        """Returns the rise of the loss on the test split of the corpus, as a fraction of the loss of the base model."""
        return text_loss(predictor, self.data.encoded.test) / self.bits_per_byte["base"] - 1


def noise(run: Run) -> dict[str, float]:
    """Trains a reward model on pairs of which one in five is in the wrong order, and measures it on held-out prompts.

    The number of tokens is such that each pair is read as often as in the run.
    """
    train, valid = split_rankings(read_rankings(run.folder / "rankings.jsonl"))
    rng = np.random.default_rng([run.request["seed"], 7])
    pairs = [
        Ranking(one.prompt, pair[:: -1 if rng.random() < _SHARE_WRONG else 1]) for one in train for pair in one.pairs
    ]
    n_replies = sum(len(ranking.replies) for ranking in train)
    tokens = round(run.settings.reward["tokens"] * 2 * len(pairs) / n_replies)
    model = fit_reward_model(
        run.load("sft"),
        pairs,
        valid,
        training={**run.settings.reward, "tokens": tokens},
        seed=run.request["seed"],
        on_progress=show,
    )
    test = judged_pairs(run.load("sft"), run.data.test, run.settings.max_tokens)
    return {
        "accuracy": model.accuracy(test) or 0.0,
        "without_mistakes": RewardModel.load(run.folder / "reward").accuracy(test) or 0.0,
        "n_pairs": len(pairs),
        "n_test_pairs": len(test),
    }


def replay(run: Run) -> dict[str, float]:
    """Fine-tunes without replay, trains by PPO without ordinary text, and returns the tax with and without them."""
    settings, data = run.settings, run.data
    sft = fine_tune(
        run.load("base"),
        data.demonstrations,
        data.valid,
        training=settings.fine_tuning,
        seed=run.request["seed"],
        on_progress=show,
    )
    without_text, _ = _ppo(run, run.settings.ppo, text_weight=0.0)
    losses = run.bits_per_byte
    return {
        "sft_with": losses["sft"] / losses["base"] - 1,
        "sft_without": run.tax(sft),
        "ppo_with": losses["ppo"] / losses["base"] - 1,
        "ppo_without": run.tax(without_text),
    }


def target(run: Run) -> dict[str, float]:
    """Trains by PPO with an adapted penalty, and returns the set and the reached divergence, in nats per reply."""
    _, history = _ppo(run, run.settings.unpenalised, kl_target=_KL_TARGET, kl_horizon=_KL_HORIZON)
    return {"target": _KL_TARGET, "reached": float(np.mean([rollout.kl for rollout in history[-10:]]))}


def _ppo(run: Run, training: Mapping[str, Any], **changes: Any) -> tuple[Predictor, Sequence[RolloutMeasures]]:
    """Trains by PPO with the models of the run, and with some of the settings of PPO changed."""
    return ppo(
        run.load("sft"),
        RewardModel.load(run.folder / "reward"),
        run.data.prompts,
        settings=replace(run.settings.ppo_settings, **changes),
        text=run.data.encoded.train.stream,
        training=training,
        seed=run.request["seed"],
        on_progress=show,
    )


def show(progress: Progress) -> None:
    """Prints the progress of a training on one line of the terminal."""
    print(f"\r{progress.done:>12,} of {progress.total:,} {progress.unit}", end="", flush=True)


PARTS: dict[str, Callable[[Run], dict[str, float]]] = {"noise": noise, "replay": replay, "target": target}


def main() -> None:
    """Runs the chosen parts and prints their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run of lmzoo align")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    run = Run(arguments.run)
    results: dict[str, Any] = {}
    for part in arguments.parts:
        results[part] = PARTS[part](run)
        print(f"\r{part}: {results[part]}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
