"""Helpers of the tests of `compare`."""

from __future__ import annotations

from lmzoo.evaluation.records import EvalRecord

SPECIES = ["uniform", "unigram", "markov"]


def figures(record: EvalRecord) -> tuple[object, ...]:
    return record.species, record.total_nats, record.bits_per_byte, record.top1_accuracy, record.n_tokens
