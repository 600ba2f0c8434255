"""Kinds of parameters that several commands take."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

# An empty list, as of a shell's unset variable, is no wish for everything.
Names = Annotated[list[str] | None, Parameter(consume_multiple=(1, None))]

# "-" is standard input, and not the beginning of an option.
OrStandardInput = Annotated[str, Parameter(allow_leading_hyphen=True)]

Seed = Annotated[int, Parameter(validator=Number(gte=0))]
