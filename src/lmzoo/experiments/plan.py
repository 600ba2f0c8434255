"""The plan of an experiment: what the commands compare, curves, ladder and prequential have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from lmzoo import zoo
from lmzoo.checks import check_whole
from lmzoo.corpora import Corpus, load_corpus
from lmzoo.experiments.budgets import check_budget, merged, settings_for
from lmzoo.predictor import DEFAULT_CORPUS
from lmzoo.system.jobs import check_jobs
from lmzoo.system.placement import Device
from lmzoo.system.version import __version__
from lmzoo.tokenizers import Tokenizer, check_tokenizer


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The plan of an experiment: which models to train, on which text, with which settings, seeds and processes."""

    species: Sequence[str] = ()
    """Names of the model families to train; empty for all that come with lmzoo."""
    corpus: str | Path | Corpus = DEFAULT_CORPUS
    """Name of a corpus, path to text, or a corpus that is already loaded."""
    tokenizer: str | Tokenizer | None = None
    """Tokenizer of all models, or its specification; None for the one that the corpus prescribes, else "bpe:4096"."""
    budget: str = "quick"
    """Preset of training length and model sizes: "quick", "standard" or "thorough"."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by species, which override those of the budget."""
    sweeps: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    """Values to try, by species and setting: {"hmm": {"n_states": [8, 32]}} adds two models to the run."""
    seed: int = 0
    """Random seed of the first training of each model."""
    seeds: int = 1
    """Number of trainings of each model, with the seeds `seed`, `seed` + 1 and so on."""
    jobs: int | None = None
    """Number of models to train at the same time; None for one per core, at most 4."""
    device: Device = "auto"
    """Device of networks: "cpu", "cuda", "mps", or "auto" for the best one."""
    command: str = ""
    """Command line of the run, for its records."""
    train_share: float | None = None
    """Share of a larger train split that `corpus` holds, for the records of a learning curve; None for a whole one."""

    def checked(self) -> Self:
        """Returns the plan with default values for `species` and `jobs`, each species once.

        Raises UsageError if a name, a number or a setting is wrong: before any work, not after an hour of it.
        """
        jobs = check_jobs(self.jobs)
        check_whole(1, seeds=self.seeds)
        check_budget(self.budget)
        species = tuple(dict.fromkeys(self.species)) or tuple(zoo.built_in_names())
        zoo.check_choice_of_settings(self.settings, {*species, *self.sweeps})
        for name, sweep in self.sweeps.items():
            zoo.check_settings(name, [setting.partition(".")[0] for setting in sweep])
        if isinstance(self.tokenizer, str):
            check_tokenizer(self.tokenizer)
        return replace(self, species=species, jobs=jobs)

    def settings_of(self, species: str, *presets: str) -> dict[str, Any]:
        """Returns the settings of a species: those of the budget, changed by `presets` and then by the plan itself."""
        settings = settings_for(species, self.budget)
        for preset in presets:
            settings = merged(settings, zoo.presets(species).get(preset, {}))
        return merged(settings, self.settings.get(species, {}))

    def load_corpus(self) -> Corpus:
        """Returns the corpus of the plan, with its documents."""
        return self.corpus if isinstance(self.corpus, Corpus) else load_corpus(self.corpus)

    def request(self, corpus: Corpus) -> dict[str, Any]:
        """Returns what identifies a run on `corpus`: a run folder can only be continued with the same values."""
        return {
            "corpus": corpus.name,
            "corpus_fingerprint": corpus.fingerprint,
            "tokenizer": self.tokenizer.fingerprint if isinstance(self.tokenizer, Tokenizer) else self.tokenizer,
            "seed": self.seed,
            "lmzoo": __version__,
        }

    def default_folder(self, experiment: str = "") -> Path:
        """Returns the folder of a run for which none was named: runs/EXPERIMENT-CORPUS-BUDGET.

        Without the name of an experiment, it is runs/CORPUS-BUDGET, or runs/BUDGET for the default corpus.
        """
        corpus = self.corpus.name if isinstance(self.corpus, Corpus) else Path(self.corpus).stem
        if not experiment and self.corpus == DEFAULT_CORPUS:
            return Path("runs") / self.budget
        parts = [experiment, corpus, self.budget] if experiment else [corpus, self.budget]
        return Path("runs") / "-".join(parts).replace(":", "-")
