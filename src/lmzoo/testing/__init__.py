"""Conformance tests for language models: the laws, that is, properties that every model must satisfy.

    from lmzoo.testing import check_language_model
    check_language_model(lambda vocab_size: MyModel(vocab_size))

Each law is a function that takes a `Specimen` and raises AssertionError if the property does not hold. With pytest,
parametrise over `LAWS` to run them one by one.
"""

from lmzoo.testing.laws import LAWS, Law, check_language_model, learns_after_every_token
from lmzoo.testing.specimen import Factory, Specimen, toy_data

__all__ = ["LAWS", "Factory", "Law", "Specimen", "check_language_model", "learns_after_every_token", "toy_data"]
