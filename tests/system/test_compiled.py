"""When compiled code is loaded from the cache, and where the cache is if the usual folders cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other owners and modes of files")

MODULE = """
from numba import types
from lmzoo.system.compiled import kernel
from lmzoo.system.printable import print_warnings_as_lines
print_warnings_as_lines()

@kernel(types.int64, returns=types.int64)
def twice(number):
    return 2 * number

@kernel(types.int64, returns=types.int64)
def thrice(number):
    return 3 * number

print(twice(3) + thrice(3))
"""


def start(tmp_path: Path) -> tuple[int, list[str]]:
    """Runs a module with two kernels that numba can keep neither beside it nor in the home folder.

    Returns the number of kernels that were read from the cache, and the lines of stderr.
    """
    if not (tmp_path / "module.py").exists():  # numba compiles again what is newer
        (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "__pycache__").touch()  # a file, not a folder
    (tmp_path / "temporary").mkdir(exist_ok=True)
    environment = os.environ | {
        "HOME": "/dev/null",
        "XDG_CACHE_HOME": "/dev/null",
        "TMPDIR": str(tmp_path / "temporary"),
    }
    environment |= {"NUMBA_DEBUG_CACHE": "1", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = [sys.executable, "-c", "import module"]
    ended = subprocess.run(code, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.count("data loaded"), ended.stderr.splitlines()


def test_code_is_kept_in_a_private_temporary_folder(tmp_path: Path) -> None:
    folder = tmp_path / "temporary" / f"lmzoo-{os.getuid()}"
    n_loaded, lines = start(tmp_path)
    assert n_loaded == 0
    assert len(lines) == 1
    assert lines[0].startswith(f"lmzoo: compiled code is cached in {folder}, because")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert start(tmp_path) == (2, []), "the second start compiles nothing and says nothing"


@pytest.mark.parametrize("kind", ["open to all", "of another", "a link"])
def test_a_folder_in_which_others_could_plant_code_is_not_used(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "temporary" / f"lmzoo-{os.getuid()}"
    folder.parent.mkdir()
    if kind == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir(mode=0o700)
    if kind == "open to all":
        folder.chmod(0o777)
    if kind == "of another":
        if os.getuid():
            pytest.skip("only root can give a folder away")
        os.chown(folder, 12345, 12345)
    n_loaded, lines = start(tmp_path)
    assert n_loaded == 0
    assert len(lines) == 1
    assert lines[0].startswith("lmzoo: compiled code cannot be cached, so each start takes longer")
    assert not list(folder.rglob("*"))


def test_a_kernel_is_compiled_again_if_what_it_uses_has_changed(tmp_path: Path) -> None:
    """Its machine code contains the kernels and constants of other files, which numba does not compare."""
    head = "from numba import types\nfrom lmzoo.system.compiled import kernel\n"
    declared = "@kernel(types.int64, returns=types.int64)\ndef {}(number):\n    return {}\n"
    (tmp_path / "outer.py").write_text(
        f"from inner import OFFSET, scaled\n{head}" + declared.format("result", "scaled(number) + OFFSET")
    )
    environment = os.environ | {"NUMBA_DEBUG_CACHE": "1", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment |= {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def result(factor: int, offset: int) -> tuple[int, int]:
        """Returns the result of the outer kernel for 1, and the number of kernels that were read from the cache."""
        (tmp_path / "inner.py").write_text(
            f"{head}OFFSET = {offset}\n" + declared.format("scaled", f"{factor} * number")
        )
        code = [sys.executable, "-c", "import outer; print(outer.result(1))"]
        lines = subprocess.run(code, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
        return int(lines[-1]), sum("data loaded" in line for line in lines)

    assert result(2, 10) == (12, 0)
    assert result(2, 10) == (12, 2)
    assert result(3, 10) == (13, 0)
    assert result(3, 20) == (23, 0)
