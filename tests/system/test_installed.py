"""The package as users get it: built, installed in an environment of its own, and used from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import lmzoo

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="folders are made read-only in the manner of POSIX"),
]

_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
"""Shell command for root, who may write to any folder unless it is mounted read-only."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    finished = subprocess.run(build, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


class Installed:
    """An environment with the installed wheel, which cannot be written, and with the dependencies of this process."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "environment", with_pip=False)
        self.programs = folder / "environment" / "bin"
        install = [sys.executable, "-m", "pip", "--python", str(self.programs / "python"), "install"]
        subprocess.run([*install, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
        (self.site,) = (folder / "environment" / "lib").glob("python*/site-packages")
        dependencies = [path for path in sys.path if Path(path).name == "site-packages"]
        (self.site / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
        for path in [self.site, *self.site.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        self.work = folder / "work"
        self.work.mkdir()

    def run(self, program: str, *arguments: str) -> str:
        """Runs a program of the environment in another folder, without a home folder; returns what it prints."""
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "sh", "-c", _READ_ONLY, str(self.site), *command]
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(self.work)}
        finished = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    if os.geteuid() == 0 and shutil.which("unshare") is None:
        pytest.skip("root can make a folder read-only for a program with unshare only")
    (wheel,) = distributions.glob("*.whl")
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_the_wheel_has_all_files_of_the_package(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "lmzoo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    predictors = [path for path in (ROOT / "data" / "predictors").rglob("*.*") if path.is_file()]
    data = {f"lmzoo/{path.relative_to(ROOT).as_posix()}" for path in predictors}
    assert sources | data | {"lmzoo/data/corpora.toml", "lmzoo/data/predictors/SHA256SUMS"} == names


def test_the_source_distribution_has_tests_and_pages(distributions: Path) -> None:
    (source,) = distributions.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CITATION.cff", "docs/conf.py", "docs/index.md", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith(("docs/_build", ".venv", "runs"))]


def test_it_is_the_installed_package_that_runs(installed: Installed) -> None:
    printed = installed.run("python", "-c", "import lmzoo; print(lmzoo.__file__, lmzoo.__version__)")
    assert printed.split() == [str(installed.site / "lmzoo" / "__init__.py"), lmzoo.__version__]
    assert installed.run("lmzoo", "--version").strip() == lmzoo.__version__
    assert installed.run("python", "-m", "lmzoo", "--version").strip() == lmzoo.__version__


@pytest.mark.parametrize("name", ["ngram", "lstm"])
def test_a_predictor_that_comes_with_it_predicts(installed: Installed, name: str) -> None:
    printed = installed.run("lmzoo", "predict", "the quick brown fox jumps over the", "-p", name, "-k", "3", "--json")
    best = json.loads(printed)["top"]
    expected = lmzoo.Predictor.load(name).top_tokens("the quick brown fox jumps over the", k=3)
    assert [token["token"] for token in best] == [text for text, _ in expected]
    assert [token["probability"] for token in best] == pytest.approx([prob for _, prob in expected], rel=1e-5)


def test_a_model_is_trained_and_evaluated(installed: Installed) -> None:
    text = "".join(f"The {number} of us went to the sea.\n\n" for number in range(200))
    (installed.work / "text.txt").write_text(text, encoding="utf-8")
    installed.run("lmzoo", "fit", "ngram", "--corpus", "text.txt", "--tokenizer", "word", "--out", "mine")
    printed = installed.run("lmzoo", "evaluate", "mine", "--json")
    assert json.loads(printed)["species"] == "ngram"
