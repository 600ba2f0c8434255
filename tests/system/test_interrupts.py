"""Interrupts: Ctrl-C, SIGTERM and SIGHUP end a command in the same way, at every moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmzoo.checkpoint import Checkpoint
from lmzoo.cli import ADVICE
from lmzoo.system import interrupts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to one process")

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if sys.platform != "win32" else []
LINE = interrupts.MESSAGE + "\n"


@pytest.fixture(autouse=True)
def _restored() -> object:
    """Restores the handlers of the test process; SIGINT is not ignored, as it is in the background of a shell."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    interrupts._received.clear()
    interrupts._last = float("-inf")
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted(command: list[str], number: int, when: Path) -> subprocess.CompletedProcess[str]:
    """Starts a command, sends it a signal as soon as a file exists, and returns how it ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not when.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_handlers_that_a_library_replaces_are_restored() -> None:
    interrupts.handle_interrupts()
    with interrupts.keep_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_of_an_import_is_one_line(number: int, tmp_path: Path) -> None:
    """A module that takes long to import stands for the first moments of every command."""
    (tmp_path / "cyclopts.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'now')!r}).touch()\ntime.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    code = (
        f"import os, sys\nos.environ.update({environment!r})\nos.execv(sys.executable, [sys.executable, '-m', 'lmzoo'])"
    )
    ended = interrupted([sys.executable, "-c", code], number, tmp_path / "now")
    assert (ended.returncode, ended.stderr) == (128 + number, LINE)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_during_a_command_is_one_line(number: int, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nimport lmzoo.cli as cli\n"
        "def app(*arguments, **options):\n    pathlib.Path(sys.argv[1]).touch()\n    time.sleep(60)\n"
        "cli.app, cli._check_options = app, lambda words: None\nfrom lmzoo.__main__ import main\nmain()"
    )
    ended = interrupted([sys.executable, "-c", code, str(tmp_path / "now")], number, tmp_path / "now")
    assert (ended.returncode, ended.stderr) == (128 + number, LINE)


def test_an_interrupt_that_became_another_error_is_one_line(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nimport lmzoo.cli as cli\n"
        "def app(*arguments, **options):\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
        "    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        raise ImportError('half a module')\n"
        "cli.app, cli._check_options = app, lambda words: None\ncli.main()"
    )
    ended = interrupted([sys.executable, "-c", code, str(tmp_path / "now")], signal.SIGTERM, tmp_path / "now")
    assert (ended.returncode, ended.stderr) == (143, LINE)


def test_signals_that_are_ignored_stay_ignored() -> None:
    """nohup ignores SIGHUP, and a shell ignores SIGINT for a command in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.end_on_interrupt()
    interrupts.handle_interrupts()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.raise_signal(signal.SIGHUP)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupts.handle_interrupts(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.exit_status() == 143


def test_a_second_signal_does_not_disturb_the_saving() -> None:
    interrupts.handle_interrupts()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert interrupts.exit_status() == 130, "the first signal decides"
    interrupts._last -= interrupts.SECONDS_TO_SAVE
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_interrupts_can_wait() -> None:
    interrupts.handle_interrupts()
    steps = []
    try:
        with interrupts.deferred():
            for number in SIGNALS:
                signal.raise_signal(number)
            steps.append("saved")
    except KeyboardInterrupt:
        steps.append("interrupted")
    assert steps == ["saved", "interrupted"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP] if SIGNALS else [])
def test_fit_saves_its_checkpoint(number: int, corpus_folder: Path, tmp_path: Path) -> None:
    """The training of a network saves no checkpoint in its first half minute, except on an interrupt."""
    out, log = tmp_path / "out" / "lstm", tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "lmzoo", "fit", "lstm", "--corpus", str(corpus_folder), "--out", str(out)]
    command += ["--tokenizer", "byte", "--budget", "thorough", "--log", f"jsonl:{log}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    checkpoint = Checkpoint(out.with_name("lstm.checkpoint.safetensors"))
    try:
        while not (log.exists() and log.stat().st_size) and process.poll() is None:  # until the first training step
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    said = [line for line in errors.splitlines() if not line.startswith("corpus ")]
    assert (process.returncode, said) == (128 + number, [interrupts.MESSAGE + ADVICE])
    assert checkpoint.path.exists()
    assert [path.name for path in out.parent.iterdir()] == ["lstm.checkpoint.safetensors"]
