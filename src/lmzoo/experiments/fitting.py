"""Fits predictors in a run folder. An interrupted fit continues, and a finished one is not repeated.

run/encoded/                  the corpus as token ids of the one tokenizer
run/checkpoints/NAME          state of a training that is not finished
run/predictors/NAME/          the trained predictors
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo import zoo
from lmzoo.checkpoint import Checkpoint
from lmzoo.corpora import Corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.errors import LmzooError
from lmzoo.predictor import Predictor
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress
from lmzoo.tokenizers import Tokenizer


def encoded_in(
    folder: Path, corpus: Corpus, tokenizer: str | Tokenizer | None, on_progress: OnProgress
) -> EncodedCorpus:
    """Returns the corpus of a run as token ids: reads it from the run folder, or encodes it and writes it there."""
    if not (folder / "encoded").exists():
        encode_corpus(corpus, tokenizer, on_progress).save(folder / "encoded")
    return EncodedCorpus.load(folder / "encoded")


@dataclass(frozen=True)
class Fit:
    """The fit of one model on the corpus of a run folder."""

    folder: Path
    """The run folder."""
    card: zoo.Card
    """The card of the model family."""
    label: str
    """Name of the model in its run, such as "hmm,n_states=8"; empty if it is the name of the model family."""
    settings: dict[str, Any]
    seed: int
    device: Device

    @property
    def name(self) -> str:
        """Name of the model in its run, and of the folder of the predictor."""
        return self.label or self.card.name

    @property
    def predictor_folder(self) -> Path:
        """Folder of the fitted predictor."""
        return self.folder / "predictors" / self.name

    @property
    def is_network(self) -> bool:
        """True if the model is a neural network."""
        return zoo.is_network(self.card.name)

    @property
    def n_gpus(self) -> int:
        """Number of GPUs that the fit uses on a cluster."""
        return int(self.device == "cuda" and self.is_network)

    def fitted(self, encoded: EncodedCorpus, on_progress: OnProgress) -> Predictor:
        """Returns the predictor: one that was saved with the same settings and seed, or a new one, which is saved."""
        predictor = self.fitted_before()
        checkpoint = Checkpoint(self.folder / "checkpoints" / f"{self.name}.safetensors")
        if predictor is None:
            predictor = Predictor.fit(
                self.card.name,
                encoded,
                seed=self.seed,
                on_progress=on_progress,
                checkpoint=checkpoint,
                device=self.device,
                **self.settings,
            )
            predictor.save(self.predictor_folder)
        checkpoint.discard()
        return predictor

    def fitted_before(self) -> Predictor | None:
        """Returns the predictor that an earlier run saved with the settings and the seed of this fit, or None."""
        if not (self.predictor_folder / "predictor.json").exists():
            return None
        try:
            predictor = Predictor.load(self.predictor_folder, device=self.device)
        except LmzooError:  # damaged or written by another version: train again
            return None
        same = dict(predictor.settings) == self.settings and predictor.provenance.seed == self.seed
        return predictor if same else None


@dataclass(frozen=True)
class FitJob(Fit):
    """A job that fits one model, in a process of its own, and returns the folder of the predictor."""

    def do(self, on_progress: OnProgress) -> Path:
        """Fits the model on the encoded corpus of the run folder, and returns the folder of the predictor."""
        zoo.register(self.card)  # a new process does not know species that were registered in the calling process
        self.fitted(EncodedCorpus.load(self.folder / "encoded"), on_progress)
        return self.predictor_folder
