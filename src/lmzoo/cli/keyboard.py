"""Input of the interactive commands: lines and single keys of a terminal, or lines of a pipe."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

from lmzoo.cli import terminal
from lmzoo.errors import UsageError
from lmzoo.system.interrupts import was_interrupted

_MAX_LINE = 1 << 20
"""Largest size of a line of input, in bytes or characters."""


def is_interactive() -> bool:
    """Returns True if a person types the input of this program at a terminal."""
    return sys.stdin.isatty()


def read_line(prompt: str) -> str | None:
    """Reads one line of standard input, without its line end; returns None at the end of the input.

    At a terminal, the prompt is shown and the line can be edited. From a pipe, the prompt and the line are printed on
    stderr, so that stdout has the results only. Raises UsageError for a line that is not UTF-8 or longer than 1 MiB.
    """
    if is_interactive() and sys.stdout.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - from now on, `input` has a history and keys to edit the line
        try:
            return _checked(input(prompt))
        except EOFError:
            sys.stdout.write("\n")
            return None
    if is_interactive():
        sys.stderr.write(prompt)
        sys.stderr.flush()
    raw = _input().readline(_MAX_LINE + 1)
    if not raw:
        return None
    if len(raw) > _MAX_LINE:
        raise UsageError(f"a line of the input has more than {_MAX_LINE:,} bytes: divide it into shorter lines")
    try:
        line = _checked(raw if isinstance(raw, str) else raw.decode("utf-8")).rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"the input is not UTF-8 (byte {error.start} of a line): convert it to UTF-8") from error
    if not is_interactive():
        terminal.note(f"{prompt}{line}")
    return line


def read_key(prompt: str) -> str | None:
    """Reads one key of a terminal, without Enter, or else one line; returns None at the end of the input."""
    if not is_interactive():
        return read_line(prompt)
    try:
        import termios
        import tty
    except ImportError:  # Windows
        return read_line(prompt)
    sys.stderr.write(prompt)
    sys.stderr.flush()
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        key = sys.stdin.read(1)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
    sys.stderr.write("\n")
    return None if key in ("", "\x04") else key  # Ctrl-D is a key like all others here


@contextlib.contextmanager
def each_interrupt_counts() -> Iterator[None]:
    """Makes every Ctrl-C raise KeyboardInterrupt within a `with` block, also several within a few seconds."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ends_the_program() -> bool:
    """Returns True if the interrupt that was just caught asks the whole program to end, such as SIGTERM.

    A Ctrl-C within `each_interrupt_counts` does not.
    """
    return was_interrupted()


def _input() -> Any:
    """Returns standard input as bytes, or as text where a test or a notebook has replaced it by a stream of text."""
    return getattr(sys.stdin, "buffer", sys.stdin)


def _checked(line: str) -> str:
    """Returns a line; raises UsageError for bytes that are not UTF-8, which Python represents by surrogates."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the input is not UTF-8 (character {error.start} of a line): convert it to UTF-8") from error
    return line
