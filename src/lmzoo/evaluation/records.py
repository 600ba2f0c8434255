"""Records of measurements: flat dataclasses with a version, written as one JSON object per line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmzoo.errors import SavedModelError
from lmzoo.system.fact_tables import fact_table
from lmzoo.system.files import atomic_file
from lmzoo.system.json_files import check_name, parse_as, parse_json, read_text
from lmzoo.system.printable import printable
from lmzoo.system.provenance import machine, timestamp, versions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECORD_VERSION = 1
_ROUNDING = 1e-6
"""Largest rounding error of a loss that is 0."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base class of all records: the software versions, machine, date and command of a measurement."""

    versions: dict[str, str] = field(default_factory=dict)
    """Versions of lmzoo, Python and the packages that compute."""
    machine: dict[str, Any] = field(default_factory=dict)
    """Processor, number of cores and threads, memory."""
    created: str = ""
    """Date and time in ISO 8601, UTC."""
    command: str = ""
    """Command line that made the record; empty if it was made from Python."""
    record_version: int = RECORD_VERSION

    @property
    def origin(self) -> dict[str, Any]:
        """The software versions, machine, date and command of the measurement, as a dictionary."""
        return {name: getattr(self, name) for name in _ORIGIN}

    def check(self) -> None:
        """Raises ValueError if a field of the record has a value that no measurement gives, such as -1 tokens."""


_ORIGIN = tuple(entry.name for entry in fields(Record))

AnyRecord = TypeVar("AnyRecord", bound=Record)


def new_origin(command: str = "", *packages: str) -> dict[str, Any]:
    """Returns the versions, machine, date and command of a new record, as keyword arguments of a record class.

    `packages`, the arguments after `command`, name packages whose versions are recorded besides the usual ones.
    """
    return {
        "versions": versions(*packages),
        "machine": machine(),
        "created": timestamp(),
        "command": command,
    }


@dataclass(frozen=True, kw_only=True)
class EvalRecord(Record):
    """The results of one model on one split of a corpus: losses, accuracy, times, memory, settings and provenance.

    Counts and `total_nats` are measured; the other losses follow from them. `bits_per_byte` is None if the tokenizer
    loses information, or if the model gave a token of the text probability 0 (`n_impossible` > 0).
    """

    species: str
    """Name of the model family, as in `lmzoo list`."""
    settings: dict[str, Any]
    """Keyword arguments of the function that built the model."""
    seed: int | None
    """Random seed of the training; None if it is unknown, as for an imported model."""
    label: str = ""
    """Distinguishes several models of one species in a run, such as "hmm,n_states=8"; empty if there is only one."""

    # The data
    corpus: str
    """Name of the corpus."""
    corpus_fingerprint: str
    """Hash of the documents of the corpus."""
    protocol: str
    """How the corpus was split into documents and into train, valid and test."""
    split: str
    """"test", "valid", or "all" for the whole text."""
    tokenizer: str
    """Specification of the tokenizer, such as "bpe:4096"."""
    tokenizer_fingerprint: str
    """Hash of the vocabulary and the rules of the tokenizer."""
    lossless: bool
    """True if the tokens of the measured text can be decoded to exactly this text."""
    alteration: str = ""
    """The first difference between the measured text and its decoded tokens; empty if there is none, or for a word
    tokenizer, which always changes white space."""
    vocab_size: int
    """Number of token ids."""

    # The loss
    total_nats: float | None
    """Sum of the surprisals of all tokens of the split, EOT tokens included; None if a token had probability 0."""
    n_bytes: int
    """UTF-8 bytes of the original text."""
    n_tokens: int
    """Number of predicted tokens, EOT tokens included."""
    n_words: int
    """Number of words in the original text, separated by NUL, tab, line end and space."""
    n_documents: int
    """Number of documents of the split."""
    n_impossible: int
    """Number of tokens to which the model gave probability 0."""
    n_unknown: int | None = None
    """Number of tokens that stand for unknown words; None if the tokenizer knows every text."""
    bits_per_byte: float | None
    """Cross-entropy in bits per byte of the original text."""
    bits_per_byte_low: float | None = None
    """Lower end of the 95 % bootstrap interval of `bits_per_byte`; None if the text is too short."""
    bits_per_byte_high: float | None = None
    """Upper end of the 95 % bootstrap interval of `bits_per_byte`; None if the text is too short."""
    perplexity_per_token: float | None
    """exp(total nats / number of tokens)."""
    perplexity_per_word: float | None
    """exp(total nats / number of words)."""
    mean_entropy_bits: float
    """Mean entropy of the predicted distributions, in bits."""
    top1_accuracy: float
    """Share of the tokens that were the most likely token of the predicted distribution."""
    top5_accuracy: float
    """Share of the tokens that were among the five most likely tokens of the predicted distribution."""

    # The model and its cost
    context_size: int | None
    """Largest number of preceding tokens on which a prediction can depend; None if it is unbounded."""
    adapts_on_test: bool = False
    """True if the model learns from the test text while it reads it; such a model is not ranked with the others."""
    trained_elsewhere: bool = False
    """True if the model was trained before the run, perhaps on other text; such a model is not ranked with the models
    of the run."""
    training_text: str = ""
    """Name of the text on which a model that was trained elsewhere has learned; empty for the models of the run."""
    predictor_digest: str = ""
    """Hash of the names, sizes and times of the files of a model that was trained elsewhere; else empty."""
    n_parameters: int
    """Number of learned parameters."""
    n_train_tokens: int | None
    """Number of tokens of the training text; None if it is unknown."""
    fit_seconds: float | None
    """Duration of the training; None if it is unknown."""
    evaluate_seconds: float
    """Duration of the evaluation."""
    tokens_per_second: float
    """Speed of the evaluation, which computes ranks and entropies too."""
    peak_memory_bytes: int | None = None
    """Highest resident memory of the process that made this record, which in `compare` trained and evaluated this model
    only; None if costs were not measured."""
    train_share: float | None = None
    """Share of the train split on which a point of a learning curve was trained; None outside learning curves."""
    seen_in_train: float | None = None
    """Share of the measured text that also occurs in the training text, in runs of about eight words. `compare` counts
    all words of the test split (see `lmzoo.corpora.near_duplicates`), and `evaluate` estimates the share from a sample
    of the training text. None if it is unknown."""
    n_tokens_read: int | None = None
    """Number of tokens that a network read in its training, counted once per epoch; None for other models."""
    predict_seconds: float | None = None
    """Median duration of one `predict_distribution` after 100 tokens; None if costs were not measured."""
    generated_per_second: float | None = None
    """Number of tokens sampled per second, one after the other; None if costs were not measured."""
    model_bytes: int | None = None
    """Size of the learned arrays in bytes; None if costs were not measured."""
    flops_per_token: float | None = None
    """Floating-point operations of a network's matrix products per token; None for models that are not networks."""

    @property
    def name(self) -> str:
        """Name of the model in its run: the label, such as "hmm,n_states=8", or the species if the label is empty."""
        return self.label or self.species

    def _repr_html_(self) -> str:
        """Returns the main results as an HTML table for notebooks."""
        low, high, perplexity = self.bits_per_byte_low, self.bits_per_byte_high, self.perplexity_per_token
        interval = "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"
        facts = {
            "corpus": f"{self.corpus}, {self.split}: {self.n_bytes:,} bytes, {self.n_documents:,} documents",
            "tokenizer": f"{self.tokenizer}: {self.n_tokens:,} tokens",
            "bits per byte": self.why_no_bits_per_byte or f"{self.bits_per_byte:.3f}{interval}",
            "perplexity per token": None if perplexity is None else f"{perplexity:,.2f}",
            "most likely token right": f"{self.top1_accuracy:.1%}",
            "parameters": f"{self.n_parameters:,}",
            "training": None if self.fit_seconds is None else f"{self.fit_seconds:,.1f} s",
            "evaluation": f"{self.evaluate_seconds:,.1f} s, {self.tokens_per_second:,.0f} tokens per second",
        }
        return fact_table(self.name, facts)

    def check(self) -> None:
        check_name(self.species)
        check_name(self.name)  # the name of folders in a run folder
        check_not_negative(self)
        if self.train_share is not None and not 2**-60 <= self.train_share <= 1:
            raise ValueError(f"'train_share' must be above 0 and at most 1, got {self.train_share}")

    @property
    def unknown_share(self) -> float | None:
        """Share of the measured tokens that stand for unknown words; None if the tokenizer knows every text."""
        return None if self.n_unknown is None else self.n_unknown / self.n_tokens

    @property
    def why_no_bits_per_byte(self) -> str:
        """The reason why the record has no bits per byte, or an empty string if it has."""
        if self.bits_per_byte is not None:
            return ""
        if self.n_impossible:  # which also leaves no perplexity
            return f"the model gave probability 0 to {self.n_impossible:,} of {self.n_tokens:,} tokens"
        return self.alteration or "a word tokenizer does not keep unknown words and white space"

    @property
    def is_ranked(self) -> bool:
        """True if the record has bits per byte, and its model learned from the train split of the run only."""
        return self.bits_per_byte is not None and not self.adapts_on_test and not self.trained_elsewhere

    @property
    def training_flops(self) -> float | None:
        """Floating-point operations of the training of a network: 3 F D, for D tokens and F operations per token.

        The backward pass takes two matrix products for each product of the forward pass. With F = 2 N, for a network
        with N weights, the result is 6 N D, as in Kaplan et al. (2020, section 2.1). None for other models.
        """
        if self.flops_per_token is None or self.n_tokens_read is None:
            return None
        return 3 * self.flops_per_token * self.n_tokens_read


def share_seen_in_train(records: Iterable[EvalRecord]) -> float | None:
    """Returns the share of the test text of a run that also occurs in the training text; None if no record has it."""
    shares = (record.seen_in_train for record in records if not record.trained_elsewhere)
    return next((share for share in shares if share is not None), None)


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Writes records to a file as JSON lines, atomically; raises ValueError for a figure that is infinite or NaN."""
    lines = [json.dumps(asdict(record), sort_keys=True, allow_nan=False, ensure_ascii=False) for record in records]
    with atomic_file(path) as temporary:
        temporary.write_text(
            "".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace", newline="\n"
        )


def write_csv(path: str | Path, records: Sequence[DataclassInstance], **columns: Sequence[object]) -> None:
    """Writes dataclass instances of one class to a CSV file, one row each; lists and dictionaries become JSON text.

    `records` must not be empty. The keyword arguments, `columns`, are more columns, with one value per record, which
    come first. Control characters in texts become visible symbols, and a text that a spreadsheet would take for a
    formula is preceded by an apostrophe.
    """
    rows = [
        dict(zip(columns, values, strict=True)) | as_row(record)
        for record, *values in zip(records, *columns.values(), strict=True)
    ]
    with (
        atomic_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def as_row(record: DataclassInstance) -> dict[str, Any]:
    """Returns the fields of a record as a dictionary, in which versions, machine, date and command are last."""
    values = asdict(record)
    return {name: values[name] for name in sorted(values, key=lambda name: name in _ORIGIN)}


def _cell(value: object) -> object:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict | list) else value
    if not isinstance(text, str):
        return text
    return printable(f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text)


def read_records(path: str | Path) -> list[EvalRecord]:
    """Reads evaluation records from a file of JSON lines, such as `results.jsonl` of a run folder.

    Raises SavedModelError if the file is missing, or has a line that is damaged or was written by a later lmzoo.
    """
    path = Path(path)
    if not path.is_file():
        raise SavedModelError(f"there are no results at {path}: a run folder holds results.jsonl (see: lmzoo compare)")
    return read_lines(path, EvalRecord)


def read_run(folder: str | Path) -> list[EvalRecord]:
    """Reads the evaluation records of a run folder.

    Raises SavedModelError if there is no record, or if a record cannot be read.
    """
    path = Path(folder) / "results.jsonl"
    records = read_records(path)
    if not records:
        raise SavedModelError(f"{path} holds no record yet: run lmzoo compare --out {folder}")
    return records


def read_lines(path: Path, kind: type[AnyRecord]) -> list[AnyRecord]:
    """Reads a file of JSON lines as records of the class `kind`; returns [] if the file does not exist.

    Raises SavedModelError if a line is damaged or was written by a later lmzoo.
    """
    return list(_parsed(path, kind)) if path.exists() else []


def _parsed(path: Path, kind: type[AnyRecord]) -> Iterator[AnyRecord]:
    text = read_text(path, "records of lmzoo")
    lines = text.removesuffix("\n").split("\n") if text else []  # `splitlines` also splits at U+2028 within a name
    for number, line in enumerate(lines, start=1):
        try:
            values = parse_json(line)
            version = values.get("record_version") if isinstance(values, dict) else None
            if isinstance(version, int) and version > RECORD_VERSION:
                raise SavedModelError(f"{path}:{number} was written by a later lmzoo: update lmzoo to read it")
            record = parse_as(kind, line)
            record.check()
        except ValueError as error:
            raise SavedModelError(f"{path}:{number} is not a record of lmzoo: {error}") from error
        yield record


def check_not_negative(record: Record) -> None:
    """Raises ValueError if a count, time, size or loss of a record is negative, except for rounding errors."""
    for entry in fields(record):
        value = getattr(record, entry.name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and number < -_ROUNDING:
                raise ValueError(f"'{entry.name}' must not be negative, got {number}")
