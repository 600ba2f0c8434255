"""Types of options that several commands share."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

# `--species` without a name, as from an unset shell variable, is an error: it must not select all species.
Names = Annotated[list[str] | None, Parameter(consume_multiple=(1, None))]

# The value "-" means standard input.
OrStandardInput = Annotated[str, Parameter(allow_leading_hyphen=True)]

Seed = Annotated[int, Parameter(validator=Number(gte=0))]
