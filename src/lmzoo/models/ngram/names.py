"""The smoothing methods by name, such as "katz", or by name and numbers, such as "absolute:0.75"."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.models.ngram.methods import (
    Additive,
    Discounting,
    FromOccurrences,
    JelinekMercer,
    Katz,
    StupidBackoff,
    TunedDiscounting,
    WittenBell,
)
from lmzoo.models.ngram.smoothing import DiscountedCounts, Smoothing, Successors
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.models.ngram.counting.counted import CountedNgrams

GIVEN: Final = "given"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Given(FromOccurrences):
    """The smoothing method of an n-gram model whose probabilities were read from a file, and which cannot be fitted."""

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """Raises ConfigurationError, because a model that was read from a file cannot be fitted."""
        raise ConfigurationError(
            f"cannot fit with smoothing='{GIVEN}', which denotes a model that was read from a file: fit with "
            f"{', '.join(SMOOTHINGS)}"
        )

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        raise NotImplementedError


SMOOTHINGS: dict[str, Smoothing] = {
    "kneser-ney": Discounting(),
    "kneser-ney-tuned": TunedDiscounting(),
    "kneser-ney-backoff": Discounting(form="back-off"),
    "kneser-ney-1995": Discounting(modified=False, form="back-off"),
    "kneser-ney-1995-interpolated": Discounting(modified=False),
    "absolute": Discounting(continuations=False, modified=False),
    "katz": Katz(),
    "witten-bell": WittenBell(),
    "jelinek-mercer": JelinekMercer(),
    "stupid-backoff": StupidBackoff(),
    "additive": Additive(1.0),
    "mle": Additive(0.0),
}


def smoothing_from(spec: str) -> Smoothing:
    """Returns the smoothing method with the name `spec`, such as "katz"; parameters can follow, as in "absolute:0.75".

    "additive:ALPHA" adds ALPHA to every count. Methods with constant discounts, except "kneser-ney-tuned", accept one
    discount for all counts. Their modified variants also accept three discounts, for the counts 1, 2, and 3 or more.
    Raises UnknownNameError for an unknown name, and ConfigurationError for numbers that are not allowed.
    """
    if spec == GIVEN:
        return Given()
    name, colon, text = str(spec).partition(":")
    if name not in SMOOTHINGS:
        raise UnknownNameError("smoothing", name, SMOOTHINGS)
    method = SMOOTHINGS[name]
    if not colon:
        return method
    fields = text.split(",")
    numbers = [float(field) for field in fields if _NUMBER.fullmatch(field)]
    if len(numbers) == len(fields):
        if name == "additive" and len(numbers) == 1 and 0 < numbers[0] < math.inf:
            return Additive(numbers[0])
        if type(method) is Discounting and len(numbers) in ((1, 3) if method.modified else (1,)):
            discounts = numbers * (3 // len(numbers))
            if all(0 < discount < count for count, discount in enumerate(discounts, 1)):
                return replace(method, fixed=tuple(discounts))
    raise ConfigurationError(f"smoothing='{spec}' is not allowed: {_allowed(name)}")


def _allowed(name: str) -> str:
    """Describes, for an error message, the numbers that may follow the name of a smoothing method."""
    method = SMOOTHINGS[name]
    if name == "additive":
        return "'additive' takes one number above 0, as in 'additive:0.1'"
    if type(method) is not Discounting:
        return f"'{name}' takes no number; 'additive:0.1', 'absolute:0.75' and 'kneser-ney:0.5,1,1.5' do"
    one = f"'{name}' takes one discount between 0 and 1, as in '{name}:0.75'"
    three = f"three for the counts 1, 2 and 3 or more, each below its count, as in '{name}:0.5,1,1.5'"
    return f"{one}, or {three}" if method.modified else one
