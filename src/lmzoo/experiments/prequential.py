"""How short a text becomes when a model learns it as it goes: prequential coding.

    L = header + sum over the blocks b of  -log2 P_b(block b)     bits, P_b fitted on the blocks before b, P_0 uniform

Whoever predicts a text, is told what came and learns from it before going on, has a code of it: arithmetic coding turns
predictions into bits, with 2 bits lost in all, and a decoder learns the same from what it has decoded (Dawid 1984;
Rissanen 1984). Nothing is held out, no parameter is sent, and learning slowly costs as much as ending up badly. So
lengths compare with those of compressors, and with each other whatever the number of parameters.

A text is all documents of a corpus: those of train, then valid, then test, each in their order. A block ends where a
document does: the first one where a 1,024th of the tokens is reached, the others each time `growth` times as far (Blier
& Ollivier 2018; Bornschein, Li & Hutter 2023). With a growth of 2 all fits together read about as much as the text has.
The last tenth of what is known is the valid split of a fit, from the start of a document on; or from inside the only
one, if none starts in the second half. How much a species tunes on so little is its own affair.

A decoder has the program, the settings and the seed, and is told the number of tokens (64 bits), from which it knows
where blocks end. Tokens are bytes, as any other vocabulary is learned from the text and would have to be sent; that of
`char` is, with 21 bits for each character. A decoder must do the same arithmetic to the last digit, so that it is one
for the same machine, as with every code that rests on floating-point numbers.

    run/run.json                        what was asked for
    run/text.safetensors                the text as ids
    run/blocks/NAME.json                the blocks that a species has coded, while it goes on
    run/checkpoints/NAME.BLOCK          work of a fit that is not finished
    run/prequential.jsonl               one record for each species and compressor

A run that was stopped goes on with the block it was at, and a run asked for twice reuses what is there.

A. P. Dawid, Statistical Theory: The Prequential Approach, JRSS A 147, 1984. J. Rissanen, Universal Coding, Information,
Prediction, and Estimation, IEEE Transactions on Information Theory 30, 1984. L. Blier, Y. Ollivier, The Description
Length of Deep Learning Models, NeurIPS 2018. J. Bornschein, Y. Li, M. Hutter, Sequential Learning of Neural Networks
for Prequential MDL, ICLR 2023.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import load_arrays, save_arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_at_least
from lmzoo.corpora import Document, load_corpus
from lmzoo.corpora.encoded import encode_documents
from lmzoo.errors import ConfigurationError, MissingExtraError
from lmzoo.evaluation.records import CodeRecord, read_lines, write_records
from lmzoo.experiments.budgets import merged, settings_for
from lmzoo.experiments.compressors import COMPRESSORS, Compressor
from lmzoo.experiments.run_folder import open_run
from lmzoo.metrics import bits
from lmzoo.predictor import DEFAULT_CORPUS
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.files import atomic_file
from lmzoo.system.jobs import Outcome, check_jobs, run_jobs
from lmzoo.system.placement import Device, on_device
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.system.provenance import machine, versions
from lmzoo.system.version import __version__
from lmzoo.tokenizers import train_tokenizer

RECORDS = "prequential.jsonl"
SEPARATOR = b"\xff"
"""Between the documents that a compressor is given. No text in UTF-8 has this byte."""

_FIRST_SHARE = 1 / 1024
_LEAST_TOKENS = 256
"""A block whose model has seen less than this would be coded no better than by the uniform distribution."""
_LEAST_GROWTH = 1.01
_LENGTH_BITS = 64
_CHARACTER_BITS = 21  # for 0x110000 code points


@dataclass(frozen=True)
class Block:
    """A run of whole documents that is coded at once: positions `start` to `stop` of the text."""

    start: int
    stop: int
    n_bytes: int
    """UTF-8 bytes of its documents."""


@dataclass(frozen=True)
class Coded:
    """What a block cost."""

    nats: float | None
    """None if something was impossible."""
    n_impossible: int
    seconds: float


@dataclass
class Coding:
    """What became of a run."""

    folder: Path
    species: list[Outcome[CodeRecord]] = field(default_factory=list)
    compressors: list[Outcome[CodeRecord]] = field(default_factory=list)

    @property
    def records(self) -> list[CodeRecord]:
        return [outcome.record for outcome in [*self.species, *self.compressors] if outcome.record is not None]

    @property
    def failures(self) -> list[Outcome[CodeRecord]]:
        """Species that failed."""
        return [outcome for outcome in self.species if outcome.error]

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """The names of all that has no record, each with the reason."""
        return [(outcome.name, outcome.error) for outcome in [*self.species, *self.compressors] if outcome.error]


def prequential(
    folder: str | Path,
    *,
    species: Sequence[str] | None = None,
    corpus: str | Path = DEFAULT_CORPUS,
    tokenizer: str = "byte",
    budget: str = "quick",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    growth: float = 2.0,
    seed: int = 0,
    jobs: int | None = None,
    device: Device = "auto",
    command: str = "",
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome[CodeRecord]], None] | None = None,
) -> Coding:
    """Codes a corpus with `species` (default: all that lmzoo brings) and with compressors, in `folder`.

    `budget` and `settings` are as in `lmzoo.compare`, with contexts that are longer where tokens are short. A
    fit on the share f of the text trains on sqrt(f) of the budget's tokens: on little text a network needs more passes.
    Each species runs in a process of its own, `jobs` at a time. From a script, call this under
    `if __name__ == "__main__":`.
    """
    at_a_time = check_jobs(jobs)
    check_at_least(_LEAST_GROWTH, growth=growth)
    if tokenizer not in ("byte", "char"):
        raise ConfigurationError(
            f"tokenizer must be byte, or char, whose alphabet is counted; got '{tokenizer}': a vocabulary that is "
            "learned from the text would have to be sent with it"
        )
    folder = Path(folder)
    chosen = list(dict.fromkeys(species)) if species else zoo.built_in_names()
    settings = settings or {}
    zoo.check_choice_of_settings(settings, chosen)
    cards = [zoo.card(name) for name in chosen]  # a typo shows before an hour of work
    arguments = [
        merged(merged(settings_for(name, budget), zoo.presets(name).get("bytes", {})), settings.get(name, {}))
        for name in chosen
    ]

    loaded = load_corpus(corpus)
    documents = [*loaded.train, *loaded.valid, *loaded.test]
    request = {"corpus": loaded.name, "corpus_fingerprint": loaded.fingerprint, "tokenizer": tokenizer}
    with open_run(folder, request | {"growth": growth, "seed": seed, "lmzoo": __version__}):
        about = {
            "corpus": loaded.name,
            "corpus_fingerprint": loaded.fingerprint,
            "protocol": loaded.protocol,
            "n_bytes": sum(document.n_bytes for document in documents),
            "n_documents": len(documents),
            "command": command,
        }
        learned = train_tokenizer(tokenizer, (document.text for document in documents))
        text = encode_documents(documents, learned)
        save_arrays(folder / "text.safetensors", {"ids": text.stream.ids})
        blocks = cut_into_blocks(text.stream, text.document_bytes, growth)
        of_species = {"tokenizer": tokenizer, "header_bits": _header_bits(documents, tokenizer), "seed": seed, **about}
        species_jobs = [
            _Job(folder, card, own, learned.vocab_size, blocks, device, of_species)
            for card, own in zip(cards, arguments, strict=True)
        ]
        order = [*chosen, *(compressor.name for compressor in COMPRESSORS)]
        path = folder / RECORDS
        known = {record.name: record for record in read_lines(path, CodeRecord)}
        outcomes: dict[str, Outcome[CodeRecord]] = {}

        def done(outcome: Outcome[CodeRecord]) -> None:
            outcomes[outcome.name] = outcome
            if outcome.record is not None and not outcome.reused:
                known[outcome.name] = outcome.record
                write_records(path, [known[name] for name in dict.fromkeys([*order, *known]) if name in known])
            if on_outcome:
                on_outcome(outcome)

        data = SEPARATOR.join(document.text.encode() for document in documents)
        for number, compressor in enumerate(COMPRESSORS):
            if on_progress:
                on_progress("compressors", Progress(number, len(COMPRESSORS), "compressors", compressor.name))
            if compressor.name in known:
                done(Outcome(compressor.name, known[compressor.name], reused=True))
            else:
                done(_compressed(compressor, data, about))
        todo = []
        for job in species_jobs:
            record = known.get(job.name)
            if record is not None and _same(record.settings, job.settings):
                done(Outcome(job.name, record, reused=True))
            else:
                todo.append(job)
        run_jobs(todo, at_a_time=at_a_time, on_progress=on_progress, on_outcome=done)
    return Coding(
        folder,
        [outcomes[name] for name in chosen],
        [outcomes[compressor.name] for compressor in COMPRESSORS],
    )


def cut_into_blocks(stream: TokenStream, document_bytes: NDArray[np.int64], growth: float) -> list[Block]:
    """Blocks of whole documents, each of which ends where the text is about `growth` times as long as before it."""
    n_growths = math.ceil(math.log(1 / _FIRST_SHARE, growth))
    wanted = len(stream) * growth ** -np.arange(n_growths, -1, -1.0)
    wanted = np.clip(wanted, _LEAST_TOKENS, len(stream))
    last = np.unique(np.searchsorted(stream.ends, wanted))  # the document in which each block ends
    stops = stream.ends[last]
    n_bytes = np.diff(document_bytes.cumsum()[last], prepend=0)
    starts = np.append(0, stops[:-1])
    return [Block(*ends) for ends in zip(starts.tolist(), stops.tolist(), n_bytes.tolist(), strict=True)]


def training_data(past: TokenStream) -> TrainingData:
    """The past as a train split and, of its last tenth or a little more, a valid split."""
    tenth = len(past) * 9 // 10
    start = int(past.starts[np.searchsorted(past.starts, tenth, side="right") - 1])
    cut = start if 2 * start > len(past) else tenth
    return TrainingData(TokenStream(past.ids[:cut]), TokenStream(past.ids[cut:]))


def _header_bits(documents: Sequence[Document], tokenizer: str) -> int:
    if tokenizer == "byte":
        return _LENGTH_BITS
    alphabet = set().union(*(document.text for document in documents))
    return _LENGTH_BITS + _CHARACTER_BITS * (len(alphabet) + 1)  # one more says where it ends


def _for_share(settings: Any, share: float) -> Any:
    """The settings for a share of the text: what trains on n tokens gets n times the root of the share."""
    if isinstance(settings, Mapping):
        return {
            name: math.ceil(value * math.sqrt(share))
            if name == "tokens" and isinstance(value, int)
            else _for_share(value, share)
            for name, value in settings.items()
        }
    return [_for_share(value, share) for value in settings] if isinstance(settings, list | tuple) else settings


def _same(settings: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether they are the same once they are written down."""
    return json.dumps(settings, sort_keys=True) == json.dumps(others, sort_keys=True)


def _compressed(compressor: Compressor, data: bytes, about: Mapping[str, Any]) -> Outcome[CodeRecord]:
    started = time.perf_counter()
    try:
        size = len(compressor.compress(data))
    except MissingExtraError as error:
        return Outcome(compressor.name, error=str(error))
    coded = Coded(8 * size * math.log(2), 0, time.perf_counter() - started)
    facts = {
        "kind": "compressor",
        "settings": dict(compressor.settings),
        "tokenizer": "byte",
        "header_bits": 0,
        "versions": versions(*compressor.packages),
        **about,
    }
    return Outcome(compressor.name, _record(compressor.name, [about["n_bytes"]], [coded], facts))


def _record(name: str, block_bytes: list[int], coded: Sequence[Coded], facts: Mapping[str, Any]) -> CodeRecord:
    nats = [block.nats for block in coded]
    known = [each for each in nats if each is not None]
    total_bits = facts["header_bits"] + bits(math.fsum(known)) if len(known) == len(nats) else None
    return CodeRecord(
        name=name,
        block_bytes=block_bytes,
        block_nats=nats,
        block_seconds=[round(block.seconds, 3) for block in coded],
        n_impossible=sum(block.n_impossible for block in coded),
        total_bits=total_bits,
        bits_per_byte=None if total_bits is None else total_bits / facts["n_bytes"],
        machine=machine(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    )


@dataclass(frozen=True)
class _Job:
    """One species that codes the text; sent to a process of its own."""

    folder: Path
    card: zoo.Card
    settings: dict[str, Any]
    vocab_size: int
    blocks: list[Block]
    device: Device
    about: dict[str, Any]

    @property
    def name(self) -> str:
        return self.card.name

    def do(self, on_progress: OnProgress) -> CodeRecord:
        zoo.register(self.card)  # a species of the process that asks is not known to a new one
        arrays, _ = load_arrays(self.folder / "text.safetensors")
        ids = take_array(arrays, "ids", shape=(None,), dtype=np.int32)
        coded = self._coded_before()
        resumed = len(coded) or None
        for number, block in enumerate(self.blocks):
            checkpoint = Checkpoint(self.folder / "checkpoints" / f"{self.name}.{number}.safetensors")
            if number != resumed:  # it is of a block that is done, or of other settings
                checkpoint.discard()
            if number >= len(coded):
                on_progress(Progress(number, len(self.blocks), "blocks"))
                coded.append(self._code(ids, block, on_progress, checkpoint))
                self._keep(coded)
                checkpoint.discard()
        facts = {"kind": "species", "settings": self.settings, "versions": versions(), **self.about}
        return _record(self.name, [block.n_bytes for block in self.blocks], coded, facts)

    def _code(self, ids: NDArray[np.int32], block: Block, on_progress: OnProgress, checkpoint: Checkpoint) -> Coded:
        """Learns all that is before the block, and codes it."""
        started = time.perf_counter()
        past, present = TokenStream(ids[: block.start]), TokenStream(ids[block.start : block.stop])
        if not len(past):
            return Coded(len(present) * math.log(self.vocab_size), 0, 0.0)
        with on_device(self.device):
            model = zoo.create(self.name, self.vocab_size, **_for_share(self.settings, block.start / len(ids)))
        model.fit(training_data(past), seed=self.about["seed"], on_progress=on_progress, checkpoint=checkpoint)
        log_probs = model.log_probs(present)
        n_impossible = int(np.count_nonzero(~np.isfinite(log_probs)))
        seconds = time.perf_counter() - started + checkpoint.earlier_seconds
        return Coded(None if n_impossible else float(-log_probs.sum()), n_impossible, seconds)

    @property
    def _home(self) -> Path:
        return self.folder / "blocks" / f"{self.name}.json"

    def _coded_before(self) -> list[Coded]:
        """The blocks that an earlier run coded with the same settings before it was stopped."""
        try:
            kept = json.loads(self._home.read_text(encoding="utf-8"))
            return [Coded(**block) for block in kept["blocks"]] if _same(kept["settings"], self.settings) else []
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
            return []

    def _keep(self, coded: Sequence[Coded]) -> None:
        kept = {"settings": self.settings, "blocks": [asdict(block) for block in coded]}
        with atomic_file(self._home) as temporary:
            temporary.write_text(json.dumps(kept, allow_nan=False) + "\n", encoding="utf-8")
