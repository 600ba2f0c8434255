"""Tests of the pages: their code runs and prints what they show, their commands exist, and their tables are current."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from cyclopts.docs.rst import generate_rst_docs

from lmzoo import Predictor, zoo
from lmzoo.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.rst")]
    if "_build" not in path.parts
)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code_blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.M | re.S)


def _arpa_file(folder: Path, corpus_folder: Path) -> None:
    from lmzoo.interchange.arpa import predictor_to_arpa

    predictor = Predictor.fit("ngram", corpus_folder, tokenizer="word-space:1", order=3)
    predictor_to_arpa(predictor, folder / "model.arpa")


def _gpt2_folders(folder: Path, corpus_folder: Path) -> None:
    from lmzoo.interchange.huggingface import predictor_to_huggingface

    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "window": 16, "training": {"tokens": 2000}}
    predictor = Predictor.fit("gpt2", corpus_folder, tokenizer="bpe:300", device="cpu", **sizes)
    predictor.save(folder / "runs" / "mine")
    predictor_to_huggingface(predictor, folder / "models" / "gpt2")


def _chat_run(folder: Path, corpus_folder: Path) -> None:
    from micro_chat_models import micro_predictor

    from lmzoo.chat.conversation import user
    from lmzoo.chat.preferences import Ranking, append_rankings

    run = folder / "runs" / "align-transformer-quick"
    micro_predictor().save(run / "predictors" / "dpo")
    append_rankings(run / "votes.jsonl", [Ranking((user("say: light"),), ("light", "dark"), rater="anna")])


def _chat_folder(folder: Path, corpus_folder: Path) -> None:
    from lmzoo.interchange.huggingface import predictor_to_huggingface

    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "window": 128, "training": {"tokens": 2000}}
    predictor = Predictor.fit("gpt2", corpus_folder, tokenizer="bpe:300", device="cpu", **sizes)
    home = predictor_to_huggingface(predictor, folder / "models" / "chat")
    template = "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
    (home / "chat_template.jinja").write_text(template, encoding="utf-8")


FILES: dict[str, Callable[[Path, Path], None]] = {
    "docs/how-to/kenlm.md": _arpa_file,
    "docs/how-to/huggingface.md": _gpt2_folders,
    "docs/chat.md": _chat_run,
    "docs/how-to/pretrained.md": _chat_folder,
}
"""Functions that write the files which the code of a page reads."""

MODULES = {"zoo", "charts", "serving"}
"""Modules that pages import as a whole."""

# The tutorial registers species, and this process must not keep them: it has tests of its own.
TUTORIAL = "docs/how-to/add-a-species.md"


@pytest.mark.parametrize("page", [page for page in PAGES if code_blocks(page) and page != TUTORIAL])
@pytest.mark.filterwarnings("default")
def test_python_code_runs(
    page: str,
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if page in FILES:
        FILES[page](tmp_path, corpus_folder)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    names = {"__name__": "__main__"}
    for code, output in re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text_of(page), re.M | re.S):
        exec(compile(code, page, "exec"), names)  # a block may use the names of the blocks before it
        printed = capsys.readouterr().out
        assert not output or printed == output


@pytest.mark.slow
def test_the_tutorial_builds_two_species(tmp_path: Path) -> None:
    names = iter(re.findall(r"Save this as\s`(\w+\.py)`", text_of(TUTORIAL)))
    rest = []
    for code in code_blocks(TUTORIAL):
        if "card = Card(" in code:
            (tmp_path / next(names)).write_text(code, encoding="utf-8")
        else:
            rest.append(code)
    (tmp_path / "use.py").write_text("\n".join(rest), encoding="utf-8")
    finished = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("[(") == 2, "two predictions"


def _commands(text: str) -> list[str]:
    return re.findall(r"^(?:Example: )?(lmzoo [a-z].*)$", text, re.M)


SHELL = [(page, line) for page in PAGES for block in code_blocks(page, "sh") for line in _commands(block)]
HELP = [
    (name, line)
    for name in app
    if not name.startswith("-")
    for line in _commands(inspect.getdoc(app[name].default_command) or "")
]


@pytest.mark.parametrize(("source", "line"), [*SHELL, *HELP])
def test_shell_examples_are_valid_commands(source: str, line: str) -> None:
    for part in line.split(" #")[0].split("; "):
        words = shlex.split(part)
        assert words[0] == "lmzoo"
        app.parse_args(words[1:], exit_on_error=False, print_error=False)  # raises for unknown commands and options


def test_the_page_of_the_commands_has_no_opposites_of_options() -> None:
    """The program has none: `--no-json` on the page would be an option that the program refuses."""
    page = generate_rst_docs(app, no_root_title=True, generate_toc=False, flatten_commands=True, skip_preamble=True)
    options = {option for names in re.findall(r"^``(--[^`]*)``", page, re.M) for option in names.split(", ")}
    assert {"--json", "--no-bos"} <= options
    assert not {option for option in options if option.startswith("--no-")} - {"--no-bos", "--no-browser"}


def test_there_are_shell_examples() -> None:
    assert {"README.md", "docs/reference/command-line.md"} <= {page for page, _ in SHELL}
    assert {name for name, _ in HELP} >= {"fit", "compare", "predict"}


def test_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"^(\w+):", text_of("Makefile"), re.M)
    named = re.findall(r"^make (\w+)", "\n".join(code_blocks("README.md", "sh")), re.M)
    assert named
    assert set(named) <= set(targets)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_are_valid(page: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", text_of(page))
    missing = [
        target for target in targets if "://" not in target and not (ROOT / page).parent.joinpath(target).exists()
    ]
    assert not missing


def test_every_page_is_linked() -> None:
    """The pages beside the README are linked from it, and those of the documentation are in its table of contents."""
    tables = re.findall(r"^```\{toctree\}\n(.*?)^```", text_of("docs/index.md"), re.M | re.S)
    entries = [line for table in tables for line in table.split() if not line.startswith(":")]
    documents = {page.removeprefix("docs/").rsplit(".", 1)[0] for page in PAGES if page.startswith("docs/")}
    missing = {name for name in documents - {"index"} if not any(fnmatch(name, entry) for entry in entries)}
    assert not missing
    beside = {page for page in PAGES if "/" not in page and page != "README.md"}
    assert beside <= set(re.findall(r"\]\(([^)#\s]+)", text_of("README.md")))


def test_names_that_pages_import_are_in_the_reference() -> None:
    """Whoever copies code from a page can look up every function and class in it."""
    directive = r"^\.\. auto\w+:: lmzoo\.(\S+)$"
    described = {
        name.rsplit(".", 1)[-1]
        for page in PAGES
        if page.endswith(".rst")
        for name in re.findall(directive, text_of(page), re.M)
    }
    imported = {
        name.strip()
        for page in PAGES
        for block in [*code_blocks(page), *code_blocks(page, r"\{code-cell\}")]
        for names in re.findall(r"^from lmzoo[\w.]* import \(?([^)\n]+)", block, re.M)
        for name in names.split("#")[0].split(",")
    }
    assert imported - described - MODULES == set()


def test_every_factory_is_in_the_reference() -> None:
    """The page of the models describes the factory of each species, in its table and with its settings."""
    page = text_of("docs/reference/models.rst")
    factories = {zoo.card(name).factory.replace(":", ".") for name in zoo.built_in_names()}
    assert factories - set(re.findall(r"^\.\. autofunction:: (\S+)$", page, re.M)) == set()
    assert factories - set(re.findall(r"^   ~(\S+)$", page, re.M)) == set()


def test_tables_are_those_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", "--check"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(str(ROOT / "benchmarks" / "leaderboard.py"), run_name="__main__")
    assert exited.value.code == 0, exited.value.code


def test_the_picture_shows_the_figures_of_the_leaderboard() -> None:
    picture = text_of("docs/leaderboard.svg")
    rows = [line.split(" | ") for line in text_of("docs/explanation/results.md").splitlines() if line.startswith("| ")]
    table = {cells[0].strip("| "): cells[1] for cells in rows if re.fullmatch(r"\d\.\d{3}", cells[1])}
    shown = set(re.findall(r"model: ([\w-]+)", picture))
    assert table.keys() == {*zoo.chosen_species([])} - {"ppm"}, "ppm adapts to the test text, and is not ranked"
    assert shown == table.keys()
    figures = {f"{float(bits):.3f}" for bits in re.findall(r"bits per byte[^:;\"]*: ([\d.]+)", picture)}
    assert {figure for figure in table.values() if float(figure) < 1.8} <= figures, "higher ones are arrows"
