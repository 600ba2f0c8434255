"""Interrupts: Ctrl-C (SIGINT), the end of a container or batch job (SIGTERM) and a closed terminal (SIGHUP).

A command ends in the same way after each of them: training saves its checkpoint, the processes of jobs end, and the
exit status is 128 plus the number of the signal.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SECONDS_TO_SAVE = 5.0
"""Time in which a process does not react to another interrupt, because it is saving its work."""

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP
"""The signals that interrupt a command."""

MESSAGE = "lmzoo: interrupted"
"""The message after an interrupt."""

_received: list[int] = []
_last = -math.inf


def handle_interrupts(*always: int) -> None:
    """Makes the signals SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in this process.

    Signals that the process ignores, as under nohup, remain ignored, except for those that are given as positional
    arguments, `always`. A further signal within 5 seconds has no effect, because a process that was started by another
    one receives Ctrl-C twice: from the terminal and from its parent.
    """
    for number in SIGNALS:
        if number in always or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def end_on_interrupt() -> None:
    """Makes the signals SIGINT, SIGTERM and SIGHUP end this process at once, with a message, unless they are ignored.

    This is used while modules are imported, because an exception raised during an import could be lost or replaced.
    """
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def exit_status() -> int:
    """Returns the exit status of an interrupted process: 128 plus the number of the first signal, such as 130."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def was_interrupted() -> bool:
    """Returns True if this process has received an interrupt since `handle_interrupts` was called."""
    return bool(_received)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Delays signals that arrive inside the `with` block, such as Ctrl-C, until the block ends.

    In a thread other than the main thread this has no effect, because only the main thread receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives interrupts
        return
    waiting: list[tuple[int, FrameType | None]] = []
    handlers = {
        number: signal.signal(number, lambda *arguments: waiting.append(arguments))
        for number in SIGNALS
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in waiting[:1]:
            handler = handlers[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)


@contextlib.contextmanager
def keep_handlers() -> Iterator[None]:
    """Restores the handlers of interrupts at the end of the `with` block, because other libraries replace them.

    In a thread other than the main thread this has no effect, because Python sets handlers only in the main thread.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS if is_main}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None stands for a handler that was not set by Python
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _last
    _received.append(number)
    if time.monotonic() - _last >= SECONDS_TO_SAVE:
        _last = time.monotonic()
        raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(128 + number)
