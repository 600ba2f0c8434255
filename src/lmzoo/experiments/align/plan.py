"""The plan of a run of `lmzoo align`: its base, its stages, and the conversations and rankings to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from lmzoo import zoo
from lmzoo.chat import plays
from lmzoo.chat.conversation import Conversation, read_conversations
from lmzoo.chat.tuning import neural_model
from lmzoo.checks import as_seed, check_choice
from lmzoo.corpora import Corpus
from lmzoo.errors import UsageError
from lmzoo.experiments.align.presets import Preset, preset
from lmzoo.experiments.budgets import merged
from lmzoo.predictor import DEFAULT_CORPUS, Predictor
from lmzoo.system.files import sha256_of
from lmzoo.system.placement import Device
from lmzoo.system.version import __version__

METHODS = ("dpo", "ppo")
"""The usual methods of learning from rankings: direct preference optimization (DPO), and proximal policy optimization
(PPO) for the rewards of a reward model."""
UNPENALISED = "ppo-unpenalised"
"""PPO without a penalty for divergence from the fine-tuned model. It shows over-optimisation: rewards that still rise
while the grades of the judge fall."""
ALL_METHODS = (*METHODS, UNPENALISED)
RANKERS = ("judge", "people")
"""The rankers that are not a file: the judge is a program that grades replies, and people vote with `lmzoo rank`."""


@dataclass(frozen=True, kw_only=True)
class AlignPlan:
    """The plan of a run: the base, and what is learned from in each stage."""

    base: str = "transformer"
    """Name of a species to train as the base, or the folder of a saved predictor."""
    corpus: str | Path | Corpus = DEFAULT_CORPUS
    """Text on whose train split the base is trained, and on whose test split the loss is measured in all stages."""
    tokenizer: str = "bpe:2048"
    """Specification of the tokenizer, if the base is trained in the run. A saved predictor has its own tokenizer."""
    preset: str = "quick"
    """Name of the settings of all stages: the amount of data and the length of training."""
    methods: Sequence[str] = METHODS
    """The methods of learning from rankings, out of `ALL_METHODS`. Each trains a copy of the fine-tuned model."""
    conversations: str | Path | None = None
    """Conversations to learn from: a file, or "shakespeare" for the dialogue of plays; None for generated instructions,
    which have correct answers, so that a program can grade the replies to them."""
    ranker: str | Path = "judge"
    """Who ranks the replies: "judge" (the program that grades replies to generated instructions), "people" (by the
    votes that `lmzoo rank` collects in the run folder), or a file of rankings."""
    against: Path | None = None
    """Folder of an earlier run, whose chat models are compared with those of this run, method by method."""
    seed: int = 0
    """Random seed of the run."""
    device: Device = "auto"
    """Device of networks: "cpu", "cuda", "mps", or "auto" for the best available device."""
    command: str = ""
    """Command line that started the run; empty if the run was started from Python."""

    def checked(self) -> Self:
        """Returns the plan with the methods in a fixed order, after checking it.

        Mistakes are therefore reported before any model is trained: raises UsageError for an unknown name, for a base
        that is not a neural network, for a missing file, and for options that exclude each other.
        """
        seed = as_seed(self.seed)
        preset(self.preset)
        for method in self.methods:
            check_choice(ALL_METHODS, method=method)
        if self.is_saved_base:
            neural_model(Predictor.load(self.base))
        else:
            zoo.create(self.chat_species, 2, base=self.base)
        if (
            self.conversations is not None
            and self.conversations != plays.NAME
            and not Path(self.conversations).is_file()
        ):
            raise UsageError(
                f"the conversations must be a file or '{plays.NAME}', and there is no file {self.conversations}: check "
                "its path"
            )
        if self.ranker not in RANKERS and not Path(self.ranker).is_file():
            raise UsageError(
                f"the ranker must be judge, people or a file of rankings, and there is no file {self.ranker}: check "
                "its path"
            )
        if self.ranker == "judge" and self.conversations is not None:
            raise UsageError(
                "the judge can grade replies to generated instructions only, not to these conversations: set the "
                "ranker to people or to a file of rankings"
            )
        if self.against is not None and not (self.against / "results.jsonl").is_file():
            raise UsageError(
                f"{self.against} is not the folder of a run of lmzoo align, as it has no results.jsonl: name a "
                "different folder as the earlier run"
            )
        if self.conversations is not None and self.against is not None:
            raise UsageError(
                "two runs can be compared on generated instructions only, because the judge cannot grade replies to "
                "other conversations: leave out conversations or against"
            )
        return replace(self, seed=seed, methods=[method for method in ALL_METHODS if method in self.methods])

    @property
    def is_saved_base(self) -> bool:
        """True if the base is a saved predictor; False if it is a species, which is trained in the run."""
        return (Path(self.base) / "predictor.json").is_file()

    @property
    def base_name(self) -> str:
        """Name of the base in results: its species, or the name of its folder."""
        return Path(self.base).resolve().name if self.is_saved_base else self.base

    @property
    def stage_settings(self) -> Preset:
        """The settings of all stages, which `preset` names."""
        return preset(self.preset)

    @property
    def base_settings(self) -> dict[str, Any]:
        """The settings with which the base is trained, as keyword arguments of the function that creates it.

        They are those of the preset "quick" of the base's species, changed by those of its preset
        `stage_settings.base_preset`, if the species has this preset.
        """
        presets = zoo.presets(self.base)
        return merged(presets.get("quick", {}), presets.get(self.stage_settings.base_preset, {}))

    @property
    def chat_species(self) -> str:
        """Species of the models that learn from rankings in the run: "gpt-4" if `against` is given, else "chat"."""
        return "chat" if self.against is None else "gpt-4"

    def request(self, corpus: Corpus) -> dict[str, Any]:
        """Returns the values that identify a run of the plan; a run can be continued only with the same values."""
        return {
            "experiment": "align",
            "base": self.base,
            "base_fingerprint": self._base_fingerprint,
            "corpus": corpus.name,
            "corpus_fingerprint": corpus.fingerprint,
            "tokenizer": self.tokenizer,
            "preset": self.preset,
            "conversations": self._conversations_identity,
            "against": None if self.against is None else str(self.against),
            "seed": self.seed,
            "lmzoo": __version__,
        }

    @property
    def _base_fingerprint(self) -> str | None:
        """The SHA-256 hash of the weights of a saved base; None for a species."""
        return sha256_of(Path(self.base) / "arrays.safetensors") if self.is_saved_base else None

    @property
    def _conversations_identity(self) -> str | None:
        """The name of the conversations, or the SHA-256 hash of a file of conversations; None for instructions."""
        if self.conversations is None:
            return None
        return plays.NAME if self.conversations == plays.NAME else sha256_of(Path(self.conversations))

    def read_conversations(self) -> list[Conversation]:
        """Returns the conversations of the plan, which come from a file or from the plays."""
        assert self.conversations is not None
        return (
            plays.play_conversations() if self.conversations == plays.NAME else read_conversations(self.conversations)
        )

    @property
    def ranker_identity(self) -> str:
        """What identifies the ranker in records: "judge", "people", or the SHA-256 hash of the file of rankings."""
        return str(self.ranker) if self.ranker in RANKERS else sha256_of(Path(self.ranker))

    def default_folder(self) -> Path:
        """Returns the default run folder of the plan: runs/align-BASE-PRESET."""
        return Path("runs") / f"align-{self.base_name}-{self.preset}"
