"""Run folders of `lmzoo align`, made by hand: records, replies and measures of rollouts, without any training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo.chat.instructions import TASKS, Instruction, Words, instructions
from lmzoo.chat.replies import Reply
from lmzoo.evaluation.records import new_origin, write_records
from lmzoo.experiments.align.measure import Replies, save_replies
from lmzoo.experiments.align.records import StageRecord, WinRate
from lmzoo.experiments.align.stages import write_rollouts
from lmzoo.experiments.run_folder import open_run
from lmzoo.neural.objectives.rollouts import RolloutMeasures

WORDS = Words(
    ["light", "waters", "spirit", "firmament", "evening", "morning", "day", "night", "heaven", "earth"],
    ["light", "day", "night", "earth"],
)
SHARES = {"base": 0.0, "sft": 0.9, "dpo": 0.9, "ppo": 1.0}
"""Share of correct replies of each stage."""


def wins(rate: float, half: float = 0.04) -> WinRate:
    return WinRate(rate=rate, low=rate - half, high=rate + half, n_prompts=640)


def made_up(stage: str, **results: Any) -> StageRecord:
    """Returns a record of a stage in which the model gives 1 % more bits per byte than in the stage before."""
    place = ("base", "sft", "rankings", "reward", "dpo", "ppo").index(stage)
    common: dict[str, Any] = {
        "stage": stage, "base": "transformer", "seed": 0, "seconds": 60.0 + place, "n_tokens_read": 2_500_000,
        "n_parameters": 1_200_000, **new_origin("lmzoo align"),
    }  # fmt: skip
    if stage in SHARES:
        accuracy = dict.fromkeys(TASKS, SHARES[stage])
        common |= {
            "accuracy": accuracy, "mean_accuracy": SHARES[stage], "grade": 2 * SHARES[stage], "ended": 0.99,
            "distinct": 0.9, "bits_per_byte": 2.0 * (1 + place / 100), "settings": {"tokens": 2_500_000},
        }  # fmt: skip
    return StageRecord(**(common | results))


def records() -> list[StageRecord]:
    """Returns the records of a whole run, in which PPO wins 78 % against the fine-tuned model and DPO 51 %."""
    return [
        made_up("base"),
        made_up("sft"),
        made_up("rankings", n_tokens_read=None, n_parameters=0, n_rankings=1400),
        made_up("reward", n_tokens_read=None, reward_accuracy=0.86, best_of_n=wins(0.7), n_best_of=16, n_rankings=1400),
        made_up("dpo", against_sft=wins(0.51), kl=3.21, n_rankings=1225),
        made_up("ppo", against_sft=wins(0.78), kl=5.43),
    ]


HISTORY = "ppo.csv"


def reply_of(stage: str, instruction: Instruction, number: int) -> str:
    """Returns a reply of a stage: a continuation by the base, and later a reply that becomes polite and short."""
    if stage == "base":
        return "and the earth was without form, and void"
    content = instruction.answer if number % 10 or stage == "ppo" else "darkness"
    styles = {"sft": ["", "I say unto thee "], "dpo": ["verily, ", "verily, I say unto thee "], "ppo": ["verily, "]}
    return styles[stage][number % len(styles[stage])] + content


def as_reply(text: str) -> Reply:
    return Reply(np.zeros(0, np.int32), text, True, 0.0)


def write_replies(folder: Path, stages: Sequence[str], test: Sequence[Instruction]) -> None:
    for stage in stages:
        texts = [as_reply(reply_of(stage, one, number)) for number, one in enumerate(test)]
        save_replies(folder, stage, test, Replies(texts, texts[::-1] if stage == "base" else texts))


def rollout_measures(n_rollouts: int, **changes: float) -> list[RolloutMeasures]:
    """Returns the measures of rollouts in which reward and divergence rise."""
    rng = np.random.default_rng(0)
    return [
        RolloutMeasures(
            reward=2 * (1 - math.exp(-step / 40)) + 0.1 * float(rng.normal()),
            kl=0.1 * step + 0.1 * float(rng.normal()),
            entropy=0.5 + 0.3 * math.exp(-step / 30),
            ended=1 - 0.1 * math.exp(-step / 10),
            tokens=9 - step / 100,
            distinct=1.0,
            kl_coefficient=0.05,
        )._replace(**changes)
        for step in range(n_rollouts)
    ]


def make_aligned_run(
    folder: Path, stages: Sequence[StageRecord], *, n_rollouts: int = 100, against: str | None = None
) -> Path:
    """Writes a run folder as `lmzoo align` leaves it, without models, and returns its path."""
    request = {
        "experiment": "align", "base": "transformer", "corpus": "kjv", "corpus_fingerprint": "f0", "preset": "quick",
        "conversations": None, "against": against, "seed": 0,
    }  # fmt: skip
    test = instructions(WORDS, 40, np.random.default_rng(3))
    with open_run(folder, request):
        write_records(folder / "results.jsonl", stages)
        write_replies(folder, [one.stage for one in stages if one.stage in SHARES], test)
        if n_rollouts:
            write_rollouts(folder / HISTORY, rollout_measures(n_rollouts))
    return folder


def add_grades(folder: Path, *, fall: float) -> None:
    """Adds the judge's grade to the rollouts of a run, from the curve R = 1 + d (1 - `fall` log d) without noise."""
    lines = (folder / HISTORY).read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("kl")
    rows = [f"{lines[0]},grade"]
    for line in lines[1:]:
        d = math.sqrt(max(float(line.split(",")[place]), 0))
        rows.append(f"{line},{1 + d * (1 - fall * math.log(d)) if d else 1.0}")
    (folder / HISTORY).write_text("\n".join(rows) + "\n", encoding="utf-8")


def add_best_of_n(folder: Path) -> None:
    """Adds the rewards of the best of n replies, from the curve R = d (1 - 0.2 d)."""
    rows = ["n,kl,reward,grade"]
    for n in (1, 2, 4, 8, 16, 32):
        kl = math.log(n) - (n - 1) / n
        rows.append(f"{n},{kl},{math.sqrt(kl) * (1 - 0.2 * math.sqrt(kl))},{0.5 * math.sqrt(kl)}")
    (folder / "best_of_n.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def add_changed_tokens(folder: Path) -> None:
    """Adds two tokens whose probabilities have changed."""
    rows = [
        {"prompt": "say: light", "token": " so", "sft": math.log(0.5), "dpo": math.log(0.75), "ppo": math.log(0.99)},
        {"prompt": "say: light", "token": " I", "sft": math.log(0.25), "ppo": math.log(1e-5)},
    ]  # fmt: skip
    (folder / "changed_tokens.json").write_text(json.dumps(rows), encoding="utf-8")
