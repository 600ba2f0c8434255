"""Conformance tests for language models: the laws, that is, properties that every model must satisfy.

    from lmzoo.testing import check_language_model
    check_language_model(lambda vocab_size: MyModel(vocab_size))

Each law is a function that takes a `Specimen` and raises AssertionError if the property does not hold. With pytest,
parametrise over `LAWS` to run them one by one.
"""

from lmzoo.testing.laws import (
    LAWS,
    Law,
    batches_equal_single_states,
    boundaries,
    check_language_model,
    generates_what_it_predicts,
    learns,
    learns_after_every_token,
    normalised,
    one_truth,
    refuses_bad_input,
    resumes,
    same_seed,
    states_are_not_modified,
    survives_saving,
    window,
)
from lmzoo.testing.specimen import Factory, Specimen, toy_data

__all__ = [
    "LAWS",
    "Factory",
    "Law",
    "Specimen",
    "batches_equal_single_states",
    "boundaries",
    "check_language_model",
    "generates_what_it_predicts",
    "learns",
    "learns_after_every_token",
    "normalised",
    "one_truth",
    "refuses_bad_input",
    "resumes",
    "same_seed",
    "states_are_not_modified",
    "survives_saving",
    "toy_data",
    "window",
]
