"""Evaluation of a trained predictor on one split of a corpus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np

from lmzoo.corpora import Corpus, load_corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.errors import CorpusError, UsageError
from lmzoo.evaluation.cost import measure_cost
from lmzoo.evaluation.records import EvalRecord, new_origin
from lmzoo.evaluation.scores import save_scores
from lmzoo.evaluation.statistics import compare_pairs, resampling_units
from lmzoo.metrics import bits, bits_per_byte, perplexity
from lmzoo.predictor import Predictor
from lmzoo.system.progress import OnProgress
from lmzoo.system.provenance import peak_memory_bytes


def evaluate(
    predictor: Predictor | str | Path,
    corpus: str | Path | Corpus | EncodedCorpus | None = None,
    *,
    split: Literal["valid", "test"] = "test",
    label: str = "",
    train_share: float | None = None,
    with_costs: bool = False,
    scores: str | Path | None = None,
    command: str = "",
    on_progress: OnProgress | None = None,
) -> EvalRecord:
    """Evaluates a predictor on one split of a corpus and returns the results as a record.

    The main result is bits per byte: the sum of all surprisals in bits, divided by the UTF-8 bytes of the original
    text. Each token is predicted once, from the tokens before it in its document; the EOT token of each document counts
    too.

    `predictor` is a Predictor or the folder of a saved one. `corpus` is the name of a corpus, a path to text, or a
    corpus that is already loaded or encoded; by default, the corpus on which the predictor was trained. With
    `with_costs`, the times of single predictions and of generation are measured on the valid split. `scores` names a
    file that receives the log-probability of each token (see `lmzoo.evaluation.scores.load_scores`). `label` and
    `train_share` become fields of the record.

    Raises UsageError if no corpus is given and the predictor was imported, so that its training corpus is unknown.
    Raises CorpusError if an encoded corpus has another tokenizer than the predictor.
    """
    if not isinstance(predictor, Predictor):
        predictor = Predictor.load(predictor)
    encoded = _encoded(predictor, corpus)
    text = getattr(encoded, split)
    started = time.perf_counter()
    stats = predictor.model.token_stats(text.stream, on_progress)
    seconds = time.perf_counter() - started
    if scores:
        save_scores(scores, stats)

    n_impossible = int(np.count_nonzero(~np.isfinite(stats.log_probs)))
    total_nats = None if n_impossible else float(-stats.log_probs.sum())
    low = high = None
    if total_nats is not None and predictor.tokenizer.lossless:
        units = resampling_units(text.stream)
        if comparison := compare_pairs(stats.log_probs[None], text.bytes_by_token, units):
            low, high = comparison.intervals[0].tolist()
    n_bytes, n_words = int(text.document_bytes.sum()), int(text.document_words.sum())
    peak_memory = peak_memory_bytes()
    costs = asdict(measure_cost(predictor.model, encoded.valid.stream)) if with_costs else {}
    provenance = predictor.provenance
    return EvalRecord(
        species=predictor.species,
        settings=dict(predictor.settings),
        seed=provenance.seed,
        label=label or predictor.label,
        corpus=encoded.name,
        corpus_fingerprint=encoded.fingerprint,
        protocol=encoded.protocol,
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
        bits_per_byte_low=low,
        bits_per_byte_high=high,
        perplexity_per_token=_ratio(perplexity, total_nats, len(text.stream)),
        perplexity_per_word=_ratio(perplexity, total_nats, n_words),
        mean_entropy_bits=bits(float(stats.entropies.mean())),
        top1_accuracy=float((stats.ranks == 1).mean()),
        top5_accuracy=float((stats.ranks <= 5).mean()),
        context_size=predictor.model.reach,
        adapts_on_test=predictor.model.adapts_on_test,
        n_parameters=predictor.model.n_parameters,
        n_train_tokens=provenance.n_train_tokens,
        n_tokens_read=provenance.n_tokens_read,
        train_share=train_share,
        fit_seconds=provenance.fit_seconds,
        evaluate_seconds=round(seconds, 3),
        tokens_per_second=round(len(text.stream) / seconds, 1),
        peak_memory_bytes=peak_memory,
        **costs,
        **new_origin(command),
    )


def _encoded(predictor: Predictor, corpus: str | Path | Corpus | EncodedCorpus | None) -> EncodedCorpus:
    """Returns a corpus as token ids of a predictor's tokenizer; `corpus` None means the training corpus.

    Raises UsageError if the training corpus is unknown, and CorpusError for a corpus that was encoded with another
    tokenizer.
    """
    if corpus is None:
        corpus = predictor.provenance.corpus
        if corpus is None:
            raise UsageError(
                f"the training corpus of this '{predictor.species}' is unknown, because lmzoo did not train it: "
                "name a corpus or a text to evaluate on"
            )
    if isinstance(corpus, EncodedCorpus):
        if predictor.tokenizer.fingerprint != corpus.tokenizer.fingerprint:
            raise CorpusError(
                "the corpus was encoded with another tokenizer than the predictor's: encode it with the predictor's "
                "tokenizer"
            )
        return corpus
    return encode_corpus(corpus if isinstance(corpus, Corpus) else load_corpus(corpus), predictor.tokenizer)


def _ratio(metric: Callable[[float, int], float], total_nats: float | None, n_units: int) -> float | None:
    """Returns `metric(total_nats, n_units)`, or None for an undefined or infinite value, which JSON cannot hold."""
    if total_nats is None or n_units == 0:
        return None
    value = metric(total_nats, n_units)
    return value if math.isfinite(value) else None
