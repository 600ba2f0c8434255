"""The plan of a run of `lmzoo align`: which base goes through which stages, on which conversations and rankings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from lmzoo import zoo
from lmzoo.chat import plays
from lmzoo.chat.conversation import Conversation, read_conversations
from lmzoo.chat.tuning import is_neural, neural_model
from lmzoo.checks import check_choice, check_seed
from lmzoo.corpora import Corpus, load_corpus
from lmzoo.errors import ConfigurationError, UsageError
from lmzoo.experiments.align.presets import Preset, preset
from lmzoo.experiments.budgets import merged
from lmzoo.predictor import DEFAULT_CORPUS, Predictor
from lmzoo.system.placement import Device
from lmzoo.system.version import __version__

METHODS = ("dpo", "ppo")
"""The ways to learn from rankings."""
UNPENALISED = "ppo-unpenalised"
"""PPO without a penalty for divergence, which shows what happens if the reward model is trusted too far."""
ALL_METHODS = (*METHODS, UNPENALISED)
RANKERS = ("judge", "people")


@dataclass(frozen=True, kw_only=True)
class AlignPlan:
    """The plan of a run: a base model, and what it learns from in each stage."""

    base: str = "transformer"
    """Name of a species to train as the base, or the folder of a saved predictor."""
    corpus: str | Path | Corpus = DEFAULT_CORPUS
    """Text on which the base is trained, and on which the loss of all stages is measured."""
    tokenizer: str = "bpe:2048"
    """Specification of the tokenizer of a base that is trained here."""
    preset: str = "quick"
    """Name of the preset, such as "quick", which sets the amount of data and the training settings of each stage."""
    methods: Sequence[str] = METHODS
    """The methods by which models learn from rankings, from `ALL_METHODS`. Each trains a model of its own."""
    conversations: str | Path | None = None
    """Conversations to learn from: a file, or "shakespeare" for the dialogue of plays; None for generated instructions,
    whose replies a program can check."""
    ranker: str | Path = "judge"
    """The source of the rankings of replies: "judge" (a program, for generated instructions), "people" (the
    votes that `lmzoo rank` collects in the run folder), or a file of rankings."""
    against: Path | None = None
    """Folder of an earlier run, whose chat model is compared with that of this run."""
    seed: int = 0
    device: Device = "auto"
    """Device of networks: "cpu", "cuda", "mps", or "auto" for the best available device."""
    command: str = ""
    """Command line that started the run; empty if the run was started from Python."""

    def checked(self) -> Self:
        """Returns the plan, with the methods in their fixed order.

        Raises UsageError for an unknown name, for a base that is not a neural network, and for a missing file, so that
        mistakes are reported before any model is trained.
        """
        check_seed(seed=self.seed)
        preset(self.preset)
        for method in self.methods:
            check_choice(ALL_METHODS, method=method)
        if not self.is_saved_base:
            zoo.check_learns_from_text(self.base)
            if not is_neural(self.base):
                raise ConfigurationError(
                    f"'{self.base}' cannot learn from conversations, because it is not a neural network: "
                    "choose a base such as transformer, gpt2 or lstm"
                )
        else:
            neural_model(Predictor.load(self.base))
        if (
            self.conversations is not None
            and self.conversations != plays.NAME
            and not Path(self.conversations).is_file()
        ):
            raise UsageError(
                f"the conversations must be a file or '{plays.NAME}', and there is no file {self.conversations}"
            )
        if self.ranker not in RANKERS and not Path(self.ranker).is_file():
            raise UsageError(
                f"the ranker must be judge, people or a file of rankings, and there is no file {self.ranker}"
            )
        if self.ranker == "judge" and self.conversations is not None:
            raise UsageError(
                "no program can judge replies to these conversations: set the ranker to people or to a file"
            )
        if self.against is not None and not (self.against / "results.jsonl").is_file():
            raise UsageError(f"{self.against} is not the folder of a run of lmzoo align")
        if self.conversations is not None and self.against is not None:
            raise UsageError(
                "two runs can be compared only on generated instructions, whose replies a program can judge"
            )
        return replace(self, methods=[method for method in ALL_METHODS if method in self.methods])

    @property
    def is_saved_base(self) -> bool:
        """True if the base is a saved predictor, and not a species to train."""
        return (Path(self.base) / "predictor.json").is_file()

    @property
    def base_name(self) -> str:
        """Name of the base in results: its species, or the name of its folder."""
        return Path(self.base).resolve().name if self.is_saved_base else self.base

    @property
    def amounts(self) -> Preset:
        """The settings of all stages, which the plan names in `preset`."""
        return preset(self.preset)

    @property
    def base_settings(self) -> dict[str, Any]:
        """The settings with which the base is trained, as keyword arguments of the function that creates it.

        They are those that the base's kind of model (species) has for the short training "quick", changed by those that
        it has under the name `amounts.base`, if there are any.
        """
        presets = zoo.presets(self.base)
        return merged(presets.get("quick", {}), presets.get(self.amounts.base, {}))

    @property
    def chat_species(self) -> str:
        """Name of the kind of chat model (species) that the run makes: "gpt-4" if `against` is given, else "chat"."""
        return "chat" if self.against is None else "gpt-4"

    def load_corpus(self) -> Corpus:
        """Returns the corpus of the plan, after loading it if the plan gives its name or path."""
        return self.corpus if isinstance(self.corpus, Corpus) else load_corpus(self.corpus)

    def request(self, corpus: Corpus) -> dict[str, Any]:
        """Returns the values that identify a run of the plan: a run folder can only be continued with the same ones."""
        return {
            "experiment": "align",
            "base": self.base,
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
    def _conversations_identity(self) -> str | None:
        """The name of the conversations, or the SHA-256 hash of a file of conversations; None for instructions."""
        if self.conversations is None:
            return None
        return plays.NAME if self.conversations == plays.NAME else _digest(Path(self.conversations))

    def read_conversations(self) -> list[Conversation]:
        """Returns the conversations that the plan names, from the file or the plays."""
        assert self.conversations is not None
        return (
            plays.play_conversations() if self.conversations == plays.NAME else read_conversations(self.conversations)
        )

    @property
    def ranker_identity(self) -> str:
        """The ranker in records: "judge", "people", or the SHA-256 hash of a file of rankings."""
        return str(self.ranker) if self.ranker in RANKERS else _digest(Path(self.ranker))

    def default_folder(self) -> Path:
        """Returns the default run folder of the plan: runs/align-BASE-PRESET."""
        return Path("runs") / f"align-{self.base_name}-{self.preset}"


def _digest(path: Path) -> str:
    """Returns the SHA-256 hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
