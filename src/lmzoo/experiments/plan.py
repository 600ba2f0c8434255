"""The plan of an experiment, with the arguments that `compare`, `curves`, `ladder` and `prequential` share."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from lmzoo import zoo
from lmzoo.checks import as_seed, check_positive, check_whole
from lmzoo.corpora import Corpus
from lmzoo.errors import UsageError
from lmzoo.experiments.budgets import check_budget, merged, settings_for, time_limit
from lmzoo.predictor import DEFAULT_CORPUS
from lmzoo.system.jobs import check_jobs
from lmzoo.system.placement import Device
from lmzoo.system.printable import name_text
from lmzoo.system.ray_connection import check_address
from lmzoo.system.version import __version__
from lmzoo.tokenizers import Tokenizer, check_tokenizer, open_tokenizer


def check_model(species: str, settings: Mapping[str, Any], label: str = "") -> None:
    """Raises UsageError if a model cannot be created with the given settings, so that its job would fail at its start.

    The message begins with `label`, the name of the model in its run; by default, this is the name of the species.
    """
    try:
        zoo.create(species, 2, **settings)
    except UsageError as error:
        raise UsageError(f"{label or species}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The plan of an experiment: which models to train, on which text, with which settings, seeds and processes."""

    species: Sequence[str] = ()
    """Names of the model families to train, or "all"; if empty, families of all eras (see `zoo.chosen_species`)."""
    corpus: str | Path | Corpus = DEFAULT_CORPUS
    """Name of a corpus, path to text, or a corpus that is already loaded."""
    tokenizer: str | Tokenizer | None = None
    """Tokenizer of all models, or its specification; None for the tokenizer that the corpus prescribes, or "bpe:4096"
    if the corpus prescribes none."""
    budget: str = "quick"
    """Preset of training length and model sizes: "quick", "standard" or "thorough"."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by species, which override the settings of the budget."""
    sweeps: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    """Values to try, by species and setting: {"hmm": {"n_states": [8, 32]}} adds two models to the run."""
    minutes: float | None = None
    """Time for which each network is trained, in place of the number of tokens of the budget; None for no limit."""
    seed: int = 0
    """Random seed of the first training of each model."""
    seeds: int = 1
    """Number of trainings of each model, with the seeds `seed`, `seed` + 1 and so on."""
    jobs: int | None = None
    """Number of models to train at the same time; None for one model per core, at most 4."""
    device: Device = "auto"
    """Device of networks: "cpu", "cuda", "mps", or "auto" for the best available device."""
    cluster: str | None = None
    """Address of the Ray cluster that trains the models ("auto", HOST:PORT or "local"); None to train them on this
    computer, as `prequential` always does."""
    command: str = ""
    """Command line that started the run, which the records repeat; empty if the run was started from Python."""
    train_share: float | None = None
    """Share of the whole train split that `corpus` holds, for a point of a learning curve; None outside of curves."""

    def checked(self) -> Self:
        """Returns a copy of the plan in which the model families and the number of parallel jobs are filled in.

        An empty `species` is replaced by families of all eras, "all" by all families that come with lmzoo and learn
        from text alone, and `jobs` None by the default number. Raises UsageError for an unknown name, an invalid number
        or an unknown setting, so that mistakes are reported before any model is trained.
        """
        jobs = check_jobs(self.jobs)
        check_whole(1, seeds=self.seeds)
        seed = as_seed(self.seed)
        check_budget(self.budget)
        check_positive(none_means="for no limit", minutes=self.minutes)
        if self.cluster is not None:
            check_address(self.cluster)
        species = tuple(zoo.chosen_species(self.species))
        zoo.check_choice_of_settings(self.settings, {*species, *self.sweeps})
        for name in {*species, *self.sweeps}:
            zoo.check_learns_from_text(name)
        for name, sweep in self.sweeps.items():
            zoo.check_settings(name, [setting.partition(".")[0] for setting in sweep])
        tokenizer = self.tokenizer
        if isinstance(tokenizer, str) and (opened := open_tokenizer(tokenizer)):
            tokenizer = opened.tokenizer  # `request` then has its fingerprint, which tells if its file was changed
        elif isinstance(tokenizer, str):
            check_tokenizer(tokenizer)
        return replace(self, species=species, seed=seed, jobs=jobs, tokenizer=tokenizer)

    def settings_of(self, species: str, *presets: str) -> dict[str, Any]:
        """Returns the settings with which the models of a species (model family) are trained under the plan.

        These are the settings of the budget, updated with the named `presets` of the species, with the time limit if
        there is one and the species is a network, and then with the plan's own settings.
        """
        settings = settings_for(species, self.budget)
        for preset in presets:
            settings = merged(settings, zoo.presets(species).get(preset, {}))
        if self.minutes is not None and zoo.is_network(species):
            settings = merged(settings, time_limit(species, self.minutes))
        return merged(settings, self.settings.get(species, {}))

    def request(self, corpus: Corpus) -> dict[str, Any]:
        """Returns the values that identify a run of the plan: corpus, tokenizer, seed and lmzoo's version.

        The run folder stores these values, and a run can only be continued with the same values. `corpus` is the corpus
        of the plan.
        """
        return {
            "corpus": corpus.name,
            "corpus_fingerprint": corpus.fingerprint,
            "tokenizer": self.tokenizer.fingerprint if isinstance(self.tokenizer, Tokenizer) else self.tokenizer,
            "seed": self.seed,
            "lmzoo": __version__,
        }

    def default_folder(self, experiment: str = "") -> Path:
        """Returns the folder to which the results of the plan are written by default: runs/EXPERIMENT-CORPUS-BUDGET.

        If `experiment` is empty, the folder is runs/CORPUS-BUDGET, or runs/BUDGET for the default corpus. For a glob
        pattern, CORPUS is the name of its folder; for texts without a name, such as standard input, it is "texts".
        """
        name = self.corpus.name if isinstance(self.corpus, Corpus) else name_text(self.corpus)
        parts = [Path(part).stem for part in Path(name).parts if part not in ("-", "/") and not glob.has_magic(part)]
        corpus = parts[-1] if parts else "texts"
        if not experiment and name == DEFAULT_CORPUS:
            return Path("runs") / self.budget
        parts = [experiment, corpus, self.budget] if experiment else [corpus, self.budget]
        return Path("runs") / "-".join(parts).replace(":", "-")
