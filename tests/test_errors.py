"""The error for an optional dependency that cannot be imported."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import pytest

from lmzoo.errors import MissingExtraError, needs_extra


def imported(name: str) -> MissingExtraError:
    with pytest.raises(MissingExtraError) as raised, needs_extra(name, "extra", "this work"):
        importlib.import_module(name)
    return raised.value


def test_a_package_that_is_not_installed() -> None:
    assert (
        str(imported("no_such_package")) == "this work needs the package 'no_such_package': pip install 'lmzoo[extra]'"
    )


@pytest.mark.parametrize("code", ["import no_such_dependency", "from math import no_such_function"])
def test_an_installed_package_that_is_damaged(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged_package.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    error = imported("damaged_package")
    assert str(error).startswith(
        "this work needs the package 'damaged_package', which is installed but cannot be imported ("
    )
    assert "no_such_" in error.reason
    assert str(error).endswith("): pip install --force-reinstall damaged_package")
    assert str(copy.copy(error)) == str(error)
