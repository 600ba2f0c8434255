"""The order of evaluation records: best first, and one record for fits that differ only in their seed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lmzoo.evaluation.records import EvalRecord


def ranked(records: Sequence[EvalRecord]) -> list[EvalRecord]:
    """Returns evaluation records sorted by bits per byte, the lowest first.

    Records without bits per byte follow, sorted by perplexity. Then come models that adapt to the test text, and last
    the models that were trained elsewhere.
    """
    infinity = float("inf")
    return sorted(
        records,
        key=lambda record: (
            record.trained_elsewhere,
            record.adapts_on_test,
            record.bits_per_byte if record.bits_per_byte is not None else infinity,
            record.perplexity_per_token if record.perplexity_per_token is not None else infinity,
        ),
    )


def grouped_by_seed(records: Sequence[EvalRecord]) -> list[list[EvalRecord]]:
    """Returns groups of evaluation records that differ only in the random seed of the training.

    Within a group, the record with the lowest seed is first. Each model that was trained elsewhere is a group of its
    own.
    """
    groups: dict[str, list[EvalRecord]] = {}
    for record in sorted(records, key=lambda record: record.seed or 0):
        origin = (record.trained_elsewhere, record.predictor_digest)
        data = (record.corpus_fingerprint, record.tokenizer_fingerprint, record.split)
        key = (record.species, record.settings, *data, *origin)
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    return list(groups.values())


def entries(records: Sequence[EvalRecord]) -> list[EvalRecord]:
    """Returns the evaluation records that a leaderboard shows, the best model first.

    Of records that differ only in their seed, only the record with the lowest seed is returned.
    """
    return ranked([group[0] for group in grouped_by_seed(records)])
