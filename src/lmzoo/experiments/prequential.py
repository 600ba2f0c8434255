"""Prequential coding: the length of a text that is compressed by a model while the model learns the text.

    L = header + sum over the blocks b of  -log2 P_b(block b)     bits

P_b is the model trained on all blocks before b; P_0 is uniform. A model that can learn after every token
(`lmzoo.language_model.OnlineLearner`) reads the text once instead, and each of its tokens is a block. Arithmetic coding
turns predictions into bits, with a loss of at most 2 bits in all, and a decoder trains the same models on the text that
it has decoded (Dawid 1984; Rissanen 1984). No text is held out and no parameter is transmitted, and slow learning costs
as much as a high final loss. The lengths therefore compare with those of general compressors, and with each other
whatever the number of parameters.

The text consists of all documents of a corpus: train, then valid, then test. For models that are trained several times,
the first block ends at the first end of a document after 1/1024 of the tokens; each further block ends where the text
is `growth` times as long (Blier & Ollivier 2018; Bornschein, Li & Hutter 2023). With a growth of 2, all trainings
together read about as many tokens as the text has. The last tenth of the text before a block serves as the validation
split.

A decoder has the program, the settings and the seed. The header tells it the number of tokens (64 bits), from which the
ends of the blocks follow. Tokens are bytes, because a vocabulary that is learned from the text would have to be
transmitted; the alphabet of `char` is part of the header, with 21 bits per character. As with every code that rests on
floating-point arithmetic, a decoder must repeat the computation exactly, on the same kind of machine.

    run/run.json                        the request
    run/text.safetensors                the text as token ids
    run/blocks/NAME.json                the blocks that a model has compressed so far
    run/checkpoints/NAME.BLOCK          state of a training that is not finished
    run/prequential.jsonl               one record per model and per compressor

A run that was interrupted continues with the block at which it stopped; a model that learns after every token starts
again. A run that is requested again reuses its results.

A. P. Dawid, Statistical Theory: The Prequential Approach, JRSS A 147, 1984. J. Rissanen, Universal Coding, Information,
Prediction, and Estimation, IEEE Transactions on Information Theory 30, 1984. L. Blier, Y. Ollivier, The Description
Length of Deep Learning Models, NeurIPS 2018. J. Bornschein, Y. Li, M. Hutter, Sequential Learning of Neural Networks
for Prequential MDL, ICLR 2023.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import load_arrays, save_arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_at_least
from lmzoo.corpora import Document
from lmzoo.corpora.encoded import encode_documents
from lmzoo.corpora.load import as_corpus
from lmzoo.corpora.stored import stored
from lmzoo.errors import ConfigurationError, MissingExtraError, SavedModelError
from lmzoo.evaluation.code_records import CodeRecord
from lmzoo.evaluation.records import new_origin, read_lines
from lmzoo.experiments.blocks import Block, cut_into_blocks, training_data
from lmzoo.experiments.budgets import same_settings, scaled
from lmzoo.experiments.compressors import COMPRESSORS, Compressor
from lmzoo.experiments.plan import RunPlan, check_model
from lmzoo.experiments.result import RunResult
from lmzoo.experiments.run_folder import open_run, record_keeper
from lmzoo.language_model import OnlineLearner
from lmzoo.metrics import bits
from lmzoo.stream import TokenStream
from lmzoo.system.files import atomic_file
from lmzoo.system.jobs import Outcome, resume
from lmzoo.system.json_files import parse_as, read_text
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers import train_tokenizer

RECORDS = "prequential.jsonl"
"""Name of the file with the records of models and compressors."""
SEPARATOR = b"\xff"
"""Byte between two documents in the input of a compressor; no text in UTF-8 contains it."""
TOKENIZERS = ("byte", "char")
"""Tokenizers whose vocabulary a decoder knows, or receives in the header."""

_MIN_GROWTH = 1.01
_LENGTH_BITS = 64
_CHARACTER_BITS = 21  # for 0x110000 code points


def prequential(
    folder: str | Path | None,
    plan: RunPlan,
    *,
    growth: float = 2.0,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome[CodeRecord]], None] | None = None,
) -> RunResult[CodeRecord]:
    """Compresses a corpus with the models of a plan, which learn it while they read it, and with general compressors.

    `folder` receives all results. A model is trained again each time the text read has grown by the factor `growth`.
    The tokenizer of the plan must be "char", "byte" or None, which means "byte". The settings of a model are the
    settings of the budget, updated with its preset "bytes" and then with the settings of the plan. A network that is
    trained on the share f of the text reads sqrt(f) times the tokens of the budget, because networks need more epochs
    on little text. From a script, call this function under `if __name__ == "__main__":`.

    Returns the outcomes of the models, then those of the compressors. Raises UsageError for a wrong argument.
    """
    check_at_least(_MIN_GROWTH, growth=growth)
    tokenizer = plan.tokenizer or "byte"
    if not isinstance(tokenizer, str) or tokenizer not in TOKENIZERS:
        raise ConfigurationError(
            f"tokenizer must be 'byte' or 'char', got '{tokenizer}': a vocabulary that is learned from the text would "
            "be part of the compressed text"
        )
    plan = plan.checked()
    settings = {name: plan.settings_of(name, "bytes") for name in plan.species}
    for name in plan.settings:
        check_model(name, settings[name])
    corpus = as_corpus(plan.corpus)
    documents = stored(itertools.chain(*corpus.splits.values()))
    folder = Path(folder or plan.default_folder("prequential"))
    with open_run(folder, plan.request(corpus) | {"tokenizer": tokenizer, "growth": growth}):
        facts = {
            "corpus": corpus.name,
            "corpus_fingerprint": corpus.fingerprint,
            "protocol": corpus.protocol,
            "n_bytes": sum(document.n_bytes for document in documents),
            "n_documents": len(documents),
        }
        learned = train_tokenizer(tokenizer, (document.text for document in documents))
        text = encode_documents(documents, learned)
        save_arrays(folder / "text.safetensors", {"ids": text.stream.ids})
        blocks = cut_into_blocks(text.stream, text.document_bytes, growth)
        header = {"tokenizer": tokenizer, "header_bits": _header_bits(documents, tokenizer), "seed": plan.seed}
        jobs = [
            _Job(
                folder, zoo.card(name), settings[name], learned.vocab_size, blocks, plan.device, plan.command,
                header | facts,
            )
            for name in plan.species
        ]  # fmt: skip
        order = [*plan.species, *(compressor.name for compressor in COMPRESSORS)]
        on_done = record_keeper(folder / RECORDS, order, on_outcome)
        known = {record.name: record for record in read_lines(folder / RECORDS, CodeRecord)}
        data = SEPARATOR.join(document.text.encode() for document in documents)
        compressed = []
        for number, compressor in enumerate(COMPRESSORS):
            if on_progress:
                on_progress("compressors", Progress(number, len(COMPRESSORS), "compressors", compressor.name))
            if compressor.name in known:
                compressed.append(Outcome(compressor.name, known[compressor.name], reused=True))
            else:
                compressed.append(_compress(compressor, data, facts, plan.command))
            on_done(compressed[-1])
        reusable = {job.name: known[job.name] for job in jobs if job.name in known and job.matches(known[job.name])}
        outcomes = resume(jobs, reusable, at_a_time=plan.jobs or 1, on_outcome=on_done, on_progress=on_progress)
    return RunResult(folder, [*outcomes, *compressed])


def _header_bits(documents: Sequence[Document], tokenizer: str) -> int:
    """Returns the length, in bits, of the header of a compressed text.

    The header holds the number of tokens and, for the tokenizer "char", the alphabet with an end marker.
    """
    if tokenizer == "byte":
        return _LENGTH_BITS
    alphabet = set().union(*(document.text for document in documents))
    return _LENGTH_BITS + _CHARACTER_BITS * (len(alphabet) + 1)


def _compress(compressor: Compressor, data: bytes, facts: Mapping[str, Any], command: str) -> Outcome[CodeRecord]:
    """Compresses a text with a general compressor such as gzip, and returns the outcome with its record.

    `data`: the text as bytes. `facts`: fields of the record that describe the text. `command`: the command line to
    record. If the package of the compressor is not installed, the outcome is marked as skipped.
    """
    started = time.perf_counter()
    try:
        size = len(compressor.compress(data))
    except MissingExtraError as error:
        return Outcome(compressor.name, error=str(error), skipped=True)
    seconds = time.perf_counter() - started
    return Outcome(
        compressor.name,
        _record(
            [facts["n_bytes"]],
            [BlockLength(8 * size * math.log(2), 0, seconds)],
            [seconds],
            name=compressor.name,
            kind="compressor",
            settings=dict(compressor.settings),
            tokenizer="byte",
            header_bits=0,
            **facts,
            **new_origin(command, *compressor.packages),
        ),
    )


@dataclass(frozen=True)
class BlockLength:
    """The compressed length of one block of a text, and the time of training and compression."""

    nats: float | None
    """Sum of the surprisals of the tokens of the block; None if a token had probability 0."""
    n_impossible: int
    """Number of tokens to which the model gave probability 0."""
    seconds: float
    """Time to train on the text before the block and to compress the block; 0 if the text was read in one pass."""

    @classmethod
    def of(cls, log_probs: NDArray[np.float64], seconds: float) -> BlockLength:
        """Returns the compressed length of a block from the log-probabilities (T,) of its T tokens, in nats."""
        n_impossible = int(np.count_nonzero(~np.isfinite(log_probs)))
        return cls(None if n_impossible else float(-log_probs.sum()), n_impossible, seconds)


@dataclass(frozen=True)
class _SavedBlocks:
    """The compressed lengths of the blocks of a text that a model has compressed so far, stored in a file.

    An interrupted run continues after these blocks if the settings of the model are the same.
    """

    settings: dict[str, Any]
    blocks: list[BlockLength]


def _record(
    block_bytes: list[int], blocks: Sequence[BlockLength], seconds: Sequence[float], **facts: Any
) -> CodeRecord:
    """Creates the record of the compressed length of a text under one model, from the lengths of its blocks.

    `block_bytes`: UTF-8 bytes of the text of each block. `blocks`: compressed length of each block. `seconds`: the time
    of each block, or one time for the whole text. `facts`: the other fields of the record.
    """
    nats = [block.nats for block in blocks]
    finite = [length for length in nats if length is not None]
    total_bits = facts["header_bits"] + bits(math.fsum(finite)) if len(finite) == len(nats) else None
    return CodeRecord(
        block_bytes=block_bytes,
        block_nats=nats,
        block_seconds=[round(each, 3) for each in seconds],
        n_impossible=sum(block.n_impossible for block in blocks),
        total_bits=total_bits,
        bits_per_byte=None if total_bits is None else total_bits / facts["n_bytes"],
        **facts,
    )


@dataclass(frozen=True)
class _Job:
    """A job of `prequential`: compresses a text with one model, in a process of its own."""

    folder: Path
    card: zoo.Card
    settings: dict[str, Any]
    vocab_size: int
    blocks: list[Block]
    device: Device
    command: str
    facts: dict[str, Any]
    """Fields of the record that are the same for all models."""

    @property
    def name(self) -> str:
        """Name of the species (model family) that compresses the text."""
        return self.card.name

    @property
    def is_network(self) -> bool:
        """True if the model is a neural network."""
        return zoo.is_network(self.card.name)

    def matches(self, record: CodeRecord) -> bool:
        """Returns True if a compressed length of an earlier run was reached with the settings of this job.

        `record` holds the compressed length, under a model of the same species.
        """
        return same_settings(record.settings, self.settings)

    def do(self, on_progress: OnProgress) -> CodeRecord:
        """Compresses the text with the model, and returns the record of the compressed text."""
        zoo.register(self.card)  # a new process does not know species that were registered in the calling process
        arrays, _ = load_arrays(self.folder / "text.safetensors")
        ids = take_array(arrays, "ids", shape=(None,), dtype=np.int32)
        model = zoo.create(self.name, self.vocab_size, device=self.device, **self.settings)
        if isinstance(model, OnlineLearner):
            started = time.perf_counter()
            log_probs = model.online_log_probs(ids, on_progress)
            seconds = [time.perf_counter() - started]
            blocks = [BlockLength.of(log_probs[block.start : block.stop], 0.0) for block in self.blocks]
        else:
            blocks = self._compress_in_blocks(ids, on_progress)
            seconds = [block.seconds for block in blocks]
        return _record(
            [block.n_bytes for block in self.blocks],
            blocks,
            seconds,
            online=isinstance(model, OnlineLearner),
            name=self.name,
            kind="species",
            settings=self.settings,
            **self.facts,
            **new_origin(self.command),
        )

    def _compress_in_blocks(self, ids: NDArray[np.int32], on_progress: OnProgress) -> list[BlockLength]:
        """Compresses the token ids of the text block by block, and returns the compressed length of each block.

        Blocks that an interrupted run compressed with the same settings are not compressed again.
        """
        done = self._load_blocks()
        resumed = len(done) or None
        for number, block in enumerate(self.blocks):
            checkpoint = Checkpoint(self.folder / "checkpoints" / f"{self.name}.{number}.safetensors")
            if number != resumed:  # the checkpoint belongs to a finished block or to other settings
                checkpoint.discard()
            if number >= len(done):
                on_progress(Progress(number, len(self.blocks), "blocks"))
                done.append(self._compress(ids, block, on_progress, checkpoint))
                self._save_blocks(done)
                checkpoint.discard()
        return done

    def _compress(
        self, ids: NDArray[np.int32], block: Block, on_progress: OnProgress, checkpoint: Checkpoint
    ) -> BlockLength:
        """Trains a new model on the token ids before a block, and returns the compressed length of the block."""
        started = time.perf_counter()
        past, present = TokenStream(ids[: block.start]), TokenStream(ids[block.start : block.stop])
        if not len(past):
            return BlockLength(len(present) * math.log(self.vocab_size), 0, 0.0)
        factor = math.sqrt(block.start / len(ids))
        settings = scaled(self.settings, lambda tokens: math.ceil(tokens * factor))
        model = zoo.create(self.name, self.vocab_size, device=self.device, **settings)
        model.fit(training_data(past), seed=self.facts["seed"], on_progress=on_progress, checkpoint=checkpoint)
        log_probs = model.log_probs(present)
        return BlockLength.of(log_probs, time.perf_counter() - started + checkpoint.earlier_seconds)

    @property
    def _blocks_path(self) -> Path:
        return self.folder / "blocks" / f"{self.name}.json"

    def _load_blocks(self) -> list[BlockLength]:
        """Returns the compressed lengths of the blocks that an interrupted run compressed with the same settings.

        Returns [] if there are none.
        """
        try:
            saved = parse_as(_SavedBlocks, read_text(self._blocks_path, "the blocks of a run"))
        except (SavedModelError, ValueError):  # the file is missing or damaged
            return []
        return saved.blocks[: len(self.blocks)] if same_settings(saved.settings, self.settings) else []

    def _save_blocks(self, blocks: Sequence[BlockLength]) -> None:
        saved = asdict(_SavedBlocks(self.settings, list(blocks)))
        with atomic_file(self._blocks_path) as temporary:
            temporary.write_text(json.dumps(saved, allow_nan=False) + "\n", encoding="utf-8")
