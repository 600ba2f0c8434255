"""The public names of the package, and what `import lmzoo` loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lmzoo


def test_every_public_name_is_importable_and_listed() -> None:
    assert len(lmzoo.__all__) == len(set(lmzoo.__all__))
    assert {*lmzoo._MODULES, "zoo", "__version__"} == set(lmzoo.__all__)
    for name in lmzoo.__all__:
        assert getattr(lmzoo, name) is not None
        assert name in dir(lmzoo)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predictor_from_nowhere'"):
        lmzoo.predictor_from_nowhere  # noqa: B018


@pytest.mark.parametrize("statement", ["import lmzoo", "from lmzoo import *"])
def test_public_names_import_without_error(statement: str) -> None:
    finished = subprocess.run([sys.executable, "-W", "error", "-c", statement], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_import_lmzoo_loads_no_heavy_package() -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'numba', 'tokenizers', 'transformers', 'pandas', 'altair'}"
    statement = f"import sys, lmzoo; print(sorted({heavy} & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True)
    assert (finished.stdout.strip(), finished.returncode) == ("[]", 0), finished.stderr
