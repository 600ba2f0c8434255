"""What was measured: flat, plain, versioned, one JSON object a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmzoo.errors import SavedModelError
from lmzoo.metrics import bits_per_byte
from lmzoo.system.files import atomic_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECORD_VERSION = 1

Record = TypeVar("Record", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class EvalRecord:
    """One species on one test split. Nats and counts are the measurement; the other figures follow from them.

    `bits_per_byte` is None where it would not compare (a lossy tokenizer) or not exist (`n_impossible` > 0).
    """

    species: str
    settings: dict[str, Any]
    """The factory's arguments."""
    seed: int
    label: str = ""
    """What tells it from others of its species in the same run, as "hmm,n_states=8"; empty if it is the only one."""

    # What was measured on
    corpus: str
    corpus_fingerprint: str
    protocol: str
    split: str
    tokenizer: str
    tokenizer_fingerprint: str
    lossless: bool
    vocab_size: int

    # The measurement
    total_nats: float | None
    """Surprisal of the whole split, the EOT of every document included; None if something was impossible."""
    n_bytes: int
    """UTF-8 bytes of the original text."""
    n_tokens: int
    """Predicted tokens, EOT included."""
    n_words: int
    """Runs of characters between white space in the original text."""
    n_documents: int
    n_impossible: int
    """Tokens to which the model gave probability 0."""
    bits_per_byte: float | None
    bits_per_byte_low: float | None = None
    bits_per_byte_high: float | None = None
    """Ends of its 95 % interval, by bootstrap over documents; None if the text is too short to say."""
    perplexity_per_token: float | None
    perplexity_per_word: float | None
    mean_entropy_bits: float
    """Mean entropy of the predicted distributions."""
    top1_accuracy: float
    top5_accuracy: float

    # The cost
    context_size: int | None
    """The most tokens that a prediction can depend on; None = unbounded."""
    adapts_on_test: bool = False
    """Whether the model learned from the test text while it read it: then it is not ranked with those that did not."""
    n_parameters: int
    n_train_tokens: int
    fit_seconds: float
    evaluate_seconds: float
    tokens_per_second: float
    """Speed of evaluation with ranks and entropies."""
    peak_memory_bytes: int
    """Highest resident memory of the process that made this record; `compare` gives each species one of its own."""
    train_share: float | None = None
    """The part of the train split, to the nearest document, that a point of a learning curve was fitted on."""
    n_tokens_read: int | None = None
    """Tokens that a network was trained on, each as often as it was read; None for species that do not count them."""
    predict_seconds: float | None = None
    """Median time of one `predict_distribution` after 100 tokens. This and what follows is measured by `compare`."""
    generated_per_second: float | None = None
    """Tokens drawn one after the other, of one text."""
    model_bytes: int | None = None
    """Size of all that was learned, as it is saved."""
    flops_per_token: float | None = None
    """Multiplications and additions in matrix products of a network to read a token and predict the next one."""

    # Where it comes from
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    command: str = ""
    record_version: int = RECORD_VERSION

    @property
    def name(self) -> str:
        """Its name in the run: the label, or the species if that says it all."""
        return self.label or self.species

    @property
    def is_ranked(self) -> bool:
        """Whether it has bits per byte, and did not learn from the test text: then it compares with others."""
        return self.bits_per_byte is not None and not self.adapts_on_test

    @property
    def training_flops(self) -> float | None:
        """What a network computed to learn: 3 F D for D tokens, as the way back takes two products for each of the F.

        With F = 2 N for the N weights that a token meets, this is the 6 N D of Kaplan et al. (2020, section 2.1).
        """
        if self.flops_per_token is None or self.n_tokens_read is None:
            return None
        return 3 * self.flops_per_token * self.n_tokens_read


@dataclass(frozen=True, kw_only=True)
class CodeRecord:
    """The length of one text in the code of a species that learns it as it goes, or of a compressor.

    A compressor codes the text as one block, and as bits, which are kept here as nats too.
    """

    name: str
    """Of the species or the compressor."""
    kind: str
    """"species" or "compressor"."""
    settings: dict[str, Any]
    """The factory's arguments for the whole text; fits on less of it train on fewer tokens. Or the compressor's."""
    seed: int | None = None

    # What was coded
    corpus: str
    corpus_fingerprint: str
    protocol: str
    """How the corpus was made into documents."""
    tokenizer: str
    n_bytes: int
    """UTF-8 bytes of the original text."""
    n_documents: int

    # The measurement
    header_bits: int
    """What a decoder must be told before the first block."""
    block_bytes: list[int]
    """UTF-8 bytes of the text of each block."""
    block_nats: list[float | None]
    """What each block cost, the ends of its documents included; None if something in it was impossible."""
    block_seconds: list[float]
    """Time to learn from what was before each block and to code it."""
    n_impossible: int = 0
    """Tokens to which the model gave probability 0."""
    total_bits: float | None
    """Of header and blocks; None if something was impossible."""
    bits_per_byte: float | None

    # Where it comes from
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    command: str = ""
    record_version: int = RECORD_VERSION

    @property
    def seconds(self) -> float:
        """For the whole text."""
        return sum(self.block_seconds)

    @property
    def block_bits_per_byte(self) -> list[float | None]:
        """What each block cost for each byte of it."""
        return [
            None if nats is None else bits_per_byte(nats, n_bytes)
            for nats, n_bytes in zip(self.block_nats, self.block_bytes, strict=True)
        ]


def write_records(path: str | Path, records: Iterable[DataclassInstance]) -> None:
    """Writes JSON lines, atomically; never Infinity or NaN."""
    lines = [json.dumps(asdict(record), sort_keys=True, allow_nan=False, ensure_ascii=False) for record in records]
    with atomic_file(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def write_csv(path: str | Path, records: Sequence[DataclassInstance], **columns: Sequence[object]) -> None:
    """Writes records of one kind, at least one, as a table for spreadsheets; cells that are not plain hold JSON.

    `columns`, with one value for each record, stand before those of the records.
    """
    rows = [
        dict(zip(columns, values, strict=True)) | asdict(record)
        for record, *values in zip(records, *columns.values(), strict=True)
    ]
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: object) -> object:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict | list) else value


def read_records(path: str | Path) -> list[EvalRecord]:
    """Reads JSON lines; SavedModelError names the line that is damaged or of a later version."""
    path = Path(path)
    if not path.is_file():
        raise SavedModelError(f"there are no results at {path}: a run folder holds results.jsonl (see: lmzoo compare)")
    return read_lines(path, EvalRecord)


def read_run(folder: str | Path) -> list[EvalRecord]:
    """The records of a run folder, at least one; SavedModelError if it holds none that can be read."""
    path = Path(folder) / "results.jsonl"
    records = read_records(path)
    if not records:
        raise SavedModelError(f"{path} holds no record yet: run lmzoo compare --out {folder}")
    return records


def read_code_records(path: str | Path) -> list[CodeRecord]:
    """As `read_records`, of prequential coding."""
    path = Path(path)
    if not path.is_file():
        raise SavedModelError(f"there are no code lengths at {path} (see: lmzoo prequential)")
    return read_lines(path, CodeRecord)


def read_lines(path: Path, kind: type[Record]) -> list[Record]:
    """Reads a file of JSON lines as records of some kind, which has a `record_version`; [] if there is none yet.

    SavedModelError as above.
    """
    return list(_parsed(path, kind)) if path.exists() else []


def _parsed(path: Path, kind: type[Record]) -> Iterator[Record]:
    names = {entry.name for entry in fields(kind)}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SavedModelError(f"{path} does not hold records of lmzoo: it is not UTF-8") from error
    lines = text.removesuffix("\n").split("\n") if text else []  # `splitlines` would cut where a name has U+2028
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if values["record_version"] > RECORD_VERSION:
                raise SavedModelError(f"{path}:{number} was written by a later lmzoo: update lmzoo to read it")
            yield kind(**{name: value for name, value in values.items() if name in names})
        except (ValueError, KeyError, TypeError) as error:
            raise SavedModelError(f"{path}:{number} is not a record of lmzoo: {error}") from error
