"""Evaluates, on the test split of a run, predictors that were trained before the run, beside the models of the run.

Such a predictor is a saved predictor of lmzoo or a pretrained model. It reads the test split with its own tokenizer. It
may have learned from any text, so it is not ranked with models that learned only from the train split of the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmzoo.corpora import Corpus
from lmzoo.errors import ConfigurationError, UsageError
from lmzoo.evaluation.evaluate import evaluate
from lmzoo.evaluation.measured_text import MeasuredText
from lmzoo.evaluation.records import EvalRecord
from lmzoo.predictor import Predictor
from lmzoo.predictor_folder import default_name, find_predictor
from lmzoo.provenance import Provenance
from lmzoo.system.json_files import check_name
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress

UNKNOWN_TEXT = "unknown text"
"""The training text of a model that does not name it."""


@dataclass(frozen=True)
class FoundPredictor:
    """A predictor that was trained before a run, with its name in the run."""

    name: str
    source: str | Path
    """Absolute path of a folder or GGUF file, or the name of a predictor that is installed."""
    digest: str
    """Hash of the names, sizes and modification times of the predictor's files."""


def find_predictors(sources: Sequence[str | Path], taken: Collection[str]) -> list[FoundPredictor]:
    """Returns the predictors in `sources`, each with a name of its own.

    `sources` are folders, GGUF files or names of installed models, and `taken` holds the names that are already in use.
    The name of a predictor is that of its folder or file, preceded by the names of as many parent folders as are needed
    to make it unique, such as "old-ngram" for the folder old/ngram. Raises SavedModelError or MissingExtraError if a
    source is no predictor, UsageError if a predictor is given twice, and ConfigurationError if no name is left or a
    name cannot be the name of a file.
    """
    paths = [find_predictor(source) for source in sources]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("a predictor is given twice: name each predictor once")
    named: list[FoundPredictor] = []
    for source, path in zip(sources, paths, strict=True):
        names = _possible_names(default_name(source), path)
        used = {*taken, *(one.name for one in named)}
        name = next((name for name in names if name not in used), None)
        if name is None:
            raise ConfigurationError(f"the name '{default_name(source)}' is taken by another model: rename {source}")
        try:
            kept = Path(source).absolute() if Path(source).exists() else source  # jobs may run in another folder
            named.append(FoundPredictor(check_name(name), kept, _digest(path)))
        except ValueError as error:
            raise ConfigurationError(f"{source} cannot take part: {error}") from error
    return named


def _possible_names(name: str, path: Path) -> Iterator[str]:
    """Yields names of the predictor in `path`: first `name`, then `name` after the names of its parent folders."""
    yield name
    for parent in path.resolve().parents:
        if parent.name:
            name = f"{parent.name}-{name}"
            yield name


def _digest(path: Path) -> str:
    """Returns a hash, in hexadecimal, of the names, sizes and modification times of the files of a predictor.

    `path` is the folder or the single file of the predictor.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    facts = [(str(file.relative_to(path)), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    return hashlib.sha256(repr(facts).encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class EvaluationJob:
    """A job of `compare`: evaluates a predictor that was trained before the run, in a process of its own."""

    found: FoundPredictor
    text: MeasuredText
    """The test split of the run."""
    device: Device
    command: str

    @property
    def name(self) -> str:
        """Name of the predictor in the run."""
        return self.found.name

    @property
    def n_gpus(self) -> int:
        """Number of GPUs that the evaluation may use on a cluster."""
        return int(self.device == "cuda")

    def matches(self, record: EvalRecord) -> bool:
        """Returns True if a record is the result of the same predictor, whose files have not changed since."""
        return (record.trained_elsewhere, record.predictor_digest) == (True, self.found.digest)

    def do(self, on_progress: OnProgress) -> EvalRecord:
        """Evaluates the predictor and returns the record."""
        on_progress(Progress(0, None, "", "loading"))
        predictor = Predictor.load(self.found.source, device=self.device)
        record = evaluate(
            predictor, self.text, label=self.name, with_costs=True, command=self.command, on_progress=on_progress
        )
        return replace(
            record,
            trained_elsewhere=True,
            training_text=_training_text(predictor.provenance, self.text),
            predictor_digest=self.found.digest,
        )


def measured_test_split(corpus: Corpus) -> MeasuredText:
    """Returns the test split of a corpus as a text to measure, without the other splits."""
    return MeasuredText(corpus.name, corpus.fingerprint, corpus.protocol, "test", corpus.test)


def _training_text(provenance: Provenance, text: MeasuredText) -> str:
    """Returns a name of the text on which a predictor was trained, to be shown in the table of results of a run.

    `provenance` says how the predictor was trained, and `text` is the test split of the run. If the predictor was
    trained on the corpus of this test split, or on another version of it, the name says so. It is "unknown text" if
    `provenance` names no corpus.
    """
    if provenance.corpus is None:
        return UNKNOWN_TEXT
    if provenance.corpus_fingerprint == text.fingerprint:
        return "the train split of the same corpus"
    return provenance.corpus if provenance.corpus != text.name else f"another version of {text.name}"
