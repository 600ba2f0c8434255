"""Evaluation of a trained predictor on a text: one split of a corpus, or all of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lmzoo.checks import check_choice
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import CorpusError
from lmzoo.evaluation.cost import measure_cost
from lmzoo.evaluation.measured_text import AnyCorpus, MeasuredSplit, MeasuredText
from lmzoo.evaluation.records import EvalRecord, new_origin
from lmzoo.evaluation.scores import save_scores
from lmzoo.evaluation.statistics import compare_units
from lmzoo.evaluation.token_sums import TokenSums, token_sums
from lmzoo.mapped import blocks_of
from lmzoo.metrics import bits, bits_per_byte, perplexity
from lmzoo.predictor import Predictor, as_predictor
from lmzoo.system.progress import OnProgress
from lmzoo.system.provenance import peak_memory_bytes


def evaluate(
    predictor: Predictor | str | Path,
    corpus: AnyCorpus | MeasuredText | None = None,
    *,
    split: MeasuredSplit | None = None,
    label: str = "",
    train_share: float | None = None,
    with_costs: bool = False,
    scores: str | Path | None = None,
    command: str = "",
    on_progress: OnProgress | None = None,
) -> EvalRecord:
    """Evaluates a predictor on a text and returns the results as a record.

    The main result is bits per byte: the sum of all surprisals in bits, divided by the UTF-8 bytes of the original
    text. Each token is predicted once, from the tokens before it in its document; the EOT token of each document counts
    too.

    `predictor` is a Predictor, or the path or name of one (see `Predictor.load`). `corpus` is the name of a corpus, a
    path to text, or a corpus that is already loaded or encoded; by default, the corpus on which the predictor was
    trained. `split` is "test", "valid" or "all"; None means the test split of the training corpus, and the whole of any
    other text. With `with_costs`, the costs of predictions and the peak memory of this process are recorded too.
    `scores` names a file that receives the log-probability of each token (see `lmzoo.evaluation.scores.load_scores`).
    `label` and `train_share` become fields of the record.

    Raises UsageError if no corpus is given and the predictor was imported, so that its training corpus is unknown.
    Raises CorpusError if no corpus is given and the training corpus has changed since the training, or if an encoded
    corpus has another tokenizer than the predictor.
    """
    predictor = as_predictor(predictor)
    if split is not None:
        check_choice(get_args(MeasuredSplit), split=split)
    measured = _measured(predictor, corpus, split)
    text = measured.encode(predictor, on_progress)
    tokenizer, lossless = predictor.tokenizer, text.is_recovered_by(predictor.tokenizer)
    predictor.model.token_stats(text.stream.ids[:2])  # compiled code is loaded before the clock starts
    sums = token_sums(predictor, text, on_progress, partial(save_scores, scores) if scores else None)
    total_nats = None if sums.n_impossible else -sums.log_probs
    low, high = _interval(sums) if total_nats is not None and lossless else (None, None)
    n_tokens = len(text.stream)
    n_bytes, n_words = int(text.document_bytes.sum()), int(text.document_words.sum())
    sample, unknown_id = predictor.training_sample, tokenizer.unknown_id
    costs: dict[str, Any] = {}
    if with_costs:
        costs = {"peak_memory_bytes": peak_memory_bytes(), **asdict(measure_cost(predictor.model, text.stream))}
    provenance = predictor.provenance
    return EvalRecord(
        species=predictor.species,
        settings=dict(predictor.settings),
        seed=provenance.seed,
        label=label or predictor.label,
        corpus=measured.name,
        corpus_fingerprint=measured.fingerprint,
        protocol=measured.protocol,
        split=measured.split,
        tokenizer=tokenizer.spec,
        tokenizer_fingerprint=tokenizer.fingerprint,
        lossless=lossless,
        alteration=text.alteration,
        vocab_size=tokenizer.vocab_size,
        total_nats=total_nats,
        n_bytes=n_bytes,
        n_tokens=n_tokens,
        n_words=n_words,
        n_documents=text.stream.n_documents,
        n_impossible=sums.n_impossible,
        n_unknown=None if unknown_id is None else _count(text.stream.ids, unknown_id),
        seen_in_train=None if sample is None else sample.share_in(text.stream),
        bits_per_byte=_ratio(bits_per_byte, total_nats, n_bytes if lossless else 0),
        bits_per_byte_low=low,
        bits_per_byte_high=high,
        perplexity_per_token=_ratio(perplexity, total_nats, n_tokens),
        perplexity_per_word=_ratio(perplexity, total_nats, n_words),
        mean_entropy_bits=bits(sums.entropies / n_tokens),
        top1_accuracy=sums.n_first / n_tokens,
        top5_accuracy=sums.n_in_five / n_tokens,
        context_size=predictor.model.reach,
        adapts_on_test=predictor.model.adapts_on_test,
        n_parameters=predictor.model.n_parameters,
        n_train_tokens=provenance.n_train_tokens,
        n_tokens_read=provenance.n_tokens_read,
        train_share=train_share,
        fit_seconds=provenance.fit_seconds,
        evaluate_seconds=round(sums.seconds, 3),
        tokens_per_second=round(n_tokens / sums.seconds, 1),
        **costs,
        **new_origin(command),
    )


def _measured(
    predictor: Predictor, corpus: AnyCorpus | MeasuredText | None, split: MeasuredSplit | None
) -> MeasuredText:
    """Returns the text on which a predictor is evaluated: one split of a corpus, or the whole corpus.

    If `corpus` is None, the corpus is the one on which the predictor was trained. Raises CorpusError for a corpus that
    is already encoded with another tokenizer than the predictor's.
    """
    if isinstance(corpus, MeasuredText):
        return corpus
    if corpus is None:
        return MeasuredText.of_predictor(predictor, split)
    if isinstance(corpus, EncodedCorpus) and predictor.tokenizer.fingerprint != corpus.tokenizer.fingerprint:
        raise CorpusError(
            "the corpus was encoded with another tokenizer than the predictor's: encode it with the predictor's "
            "tokenizer"
        )
    return MeasuredText.of_corpus(corpus, {predictor.provenance.corpus_fingerprint} - {None}, split)


def _interval(sums: TokenSums) -> tuple[float | None, float | None]:
    """Returns the 95 % confidence interval of the bits per byte, from a bootstrap over the units of the text.

    Returns (None, None) if there are fewer than two units.
    """
    comparison = compare_units(sums.log_probs_of_units[None], sums.bytes_of_units, sums.units.description)
    if comparison is None:
        return None, None
    low, high = comparison.intervals[0].tolist()
    return low, high


def _count(ids: NDArray[np.int32], token_id: int) -> int:
    """Returns how often a token id occurs in a text."""
    return sum(int(np.count_nonzero(block == token_id)) for _, block in blocks_of(ids))


def _ratio(metric: Callable[[float, int], float], total_nats: float | None, n_units: int) -> float | None:
    """Computes a loss per unit of text, such as bits per byte: `metric(total_nats, n_units)`.

    Returns None if the loss is undefined or infinite, because JSON cannot hold such a value.
    """
    if total_nats is None or n_units == 0:
        return None
    value = metric(total_nats, n_units)
    return value if math.isfinite(value) else None
