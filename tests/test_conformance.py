"""Every registered species has every property that `lmzoo.testing` states."""

from __future__ import annotations

from functools import cache

import pytest

from lmzoo import zoo
from lmzoo.testing import LAWS, Law, Specimen


@cache
def specimen(species: str) -> Specimen:
    settings = zoo.presets(species).get("tiny", {})
    return Specimen(
        lambda vocab_size: zoo.create(species, vocab_size, **settings), tolerance=zoo.card(species).tolerance
    )


@pytest.fixture(autouse=True)
def _compiled_from_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels that read single tokens must keep the laws too, and would wait for more tokens than these."""
    monkeypatch.setattr("lmzoo.neural.single._PAYS_OFF", 0)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("species", zoo.names())
def test_every_species_keeps_every_law(species: str, law: Law) -> None:
    law(specimen(species))
