"""From a fitted predictor and a test split to one record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import CorpusError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.evaluation.scores import save_scores
from lmzoo.evaluation.statistics import certainty, grouping
from lmzoo.metrics import bits, bits_per_byte, perplexity
from lmzoo.predictor import Predictor
from lmzoo.system.progress import OnProgress
from lmzoo.system.provenance import machine, peak_memory_bytes, versions


def evaluate(
    predictor: Predictor,
    corpus: EncodedCorpus,
    *,
    split: str = "test",
    on_progress: OnProgress | None = None,
    command: str = "",
    scores: str | Path | None = None,
) -> EvalRecord:
    """Scores every token of a split once, in its document, the EOT of each document included.

    Headline = bits per byte: total nats / (ln 2 x UTF-8 bytes of the original text). `scores` names a file that shall
    keep what the model made of each token (see `load_scores`).
    """
    if predictor.tokenizer.fingerprint != corpus.tokenizer.fingerprint:
        raise CorpusError("the corpus was encoded with another tokenizer than the predictor's: encode it with that one")
    text = getattr(corpus, split)
    started = time.perf_counter()
    stats = predictor.model.token_stats(text.stream, on_progress)
    seconds = time.perf_counter() - started
    if scores:
        save_scores(scores, stats)

    n_impossible = int(np.count_nonzero(~np.isfinite(stats.log_probs)))
    total_nats = None if n_impossible else float(-stats.log_probs.sum())
    comparable = total_nats is not None and predictor.tokenizer.lossless
    sure = certainty(stats.log_probs[None], text.bytes_by_token, grouping(text.stream)) if comparable else None
    n_bytes, n_words = int(text.document_bytes.sum()), int(text.document_words.sum())
    made = predictor.provenance
    return EvalRecord(
        species=predictor.species,
        settings=dict(predictor.settings),
        seed=made.seed or 0,
        label=predictor.label,
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        protocol=corpus.protocol,
        split=split,
        tokenizer=predictor.tokenizer.spec,
        tokenizer_fingerprint=predictor.tokenizer.fingerprint,
        lossless=predictor.tokenizer.lossless,
        vocab_size=predictor.tokenizer.vocab_size,
        total_nats=total_nats,
        n_bytes=n_bytes,
        n_tokens=len(text.stream),
        n_words=n_words,
        n_documents=text.stream.n_documents,
        n_impossible=n_impossible,
        bits_per_byte=_ratio(bits_per_byte, total_nats, n_bytes if predictor.tokenizer.lossless else 0),
        bits_per_byte_low=float(sure.intervals[0, 0]) if sure else None,
        bits_per_byte_high=float(sure.intervals[0, 1]) if sure else None,
        perplexity_per_token=_ratio(perplexity, total_nats, len(text.stream)),
        perplexity_per_word=_ratio(perplexity, total_nats, n_words),
        mean_entropy_bits=bits(float(stats.entropies.mean())),
        top1_accuracy=float((stats.ranks == 1).mean()),
        top5_accuracy=float((stats.ranks <= 5).mean()),
        context_size=predictor.model.reach,
        adapts_on_test=predictor.model.adapts_on_test,
        n_parameters=predictor.model.n_parameters,
        n_train_tokens=made.n_train_tokens or 0,
        n_tokens_read=made.n_tokens_read,
        fit_seconds=made.fit_seconds or 0.0,
        evaluate_seconds=round(seconds, 3),
        tokens_per_second=round(len(text.stream) / seconds, 1),
        peak_memory_bytes=peak_memory_bytes(),
        versions=versions(),
        machine=machine(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def _ratio(figure: Callable[[float, int], float], total_nats: float | None, n_units: int) -> float | None:
    """The figure, or None where it does not exist or is more than a float holds: JSON has no infinity."""
    if total_nats is None or n_units == 0:
        return None
    value = figure(total_nats, n_units)
    return value if math.isfinite(value) else None
