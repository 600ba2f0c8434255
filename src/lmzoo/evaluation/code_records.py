"""Records of the lengths of compressed texts, which `lmzoo prequential` measures.

A text is compressed by a language model that learns the text while it reads. Some models learn after every token; the
others are trained on the beginning of the text, then compress the next block, and so on. General compressors serve as a
comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo.errors import SavedModelError
from lmzoo.evaluation.records import Record, check_not_negative, read_lines
from lmzoo.metrics import bits_per_byte
from lmzoo.system.json_files import check_name


@dataclass(frozen=True, kw_only=True)
class CodeRecord(Record):
    """The compressed length of one text, under a model that learns the text as it reads, or under a general compressor.

    The text is divided into blocks, and the record has the compressed length of each block in nats. A model learns
    after every token, or it is trained on all blocks before the one that it compresses. A general compressor reads the
    whole text as one block.
    """

    name: str
    """Name of the species or of the compressor."""
    kind: str
    """"species" or "compressor"."""
    settings: dict[str, Any]
    """Settings of the model for the whole text (on a share of the text, training is shorter), or of the compressor."""
    seed: int | None = None
    """Random seed of the training; None for a compressor."""

    # The text
    corpus: str
    """Name of the corpus."""
    corpus_fingerprint: str
    """Hash of the documents of the corpus."""
    protocol: str
    """The rule by which the text of the corpus was divided into documents, in one line."""
    tokenizer: str
    """"byte" or "char"."""
    n_bytes: int
    """UTF-8 bytes of the original text."""
    n_documents: int
    """Number of documents of the text."""

    # The length
    header_bits: int
    """Bits that a decoder needs before the first block: the length of the text and, for characters, the alphabet."""
    block_bytes: list[int]
    """UTF-8 bytes of the text of each block."""
    block_nats: list[float | None]
    """Sum of the surprisals of each block, EOT tokens included; None if a token of the block had probability 0."""
    block_seconds: list[float]
    """Time to train on the text before each block and to compress the block; if `online`, one time for the text."""
    online: bool = False
    """True if the model learned after every token of the text; False if it was trained anew before each block."""
    n_impossible: int = 0
    """Number of tokens to which the model gave probability 0."""
    total_bits: float | None
    """Length of header and blocks together; None if a token had probability 0."""
    bits_per_byte: float | None
    """`total_bits` divided by `n_bytes`."""

    def check(self) -> None:
        check_name(self.name)
        check_not_negative(self)
        n_times = 1 if self.online else len(self.block_bytes)
        if not len(self.block_bytes) == len(self.block_nats) > 0 or len(self.block_seconds) != n_times:
            raise ValueError("'block_bytes', 'block_nats' and 'block_seconds' must have one entry per block")

    @property
    def seconds(self) -> float:
        """Total time for all blocks, in seconds."""
        return sum(self.block_seconds)

    @property
    def block_bits_per_byte(self) -> list[float | None]:
        """Compressed length of each block in bits per byte; None for a block with a token of probability 0."""
        return [
            None if nats is None else bits_per_byte(nats, n_bytes)
            for nats, n_bytes in zip(self.block_nats, self.block_bytes, strict=True)
        ]


def read_code_records(path: str | Path) -> list[CodeRecord]:
    """Reads records of compressed lengths from a file of JSON lines, as `lmzoo prequential` writes it.

    Raises SavedModelError if the file is missing, or has a line that is damaged or was written by a later lmzoo.
    """
    path = Path(path)
    if not path.is_file():
        raise SavedModelError(f"there are no compressed lengths at {path} (see: lmzoo prequential)")
    return read_lines(path, CodeRecord)
