"""Runs the `lmzoo` command for `python -m lmzoo` and for the installed program `lmzoo`."""

from __future__ import annotations

import os
import sys

from lmzoo.system.interrupts import end_on_interrupt, was_interrupted


def main() -> None:
    """Runs the command line of this process. An interrupt while modules are imported ends the process at once."""
    end_on_interrupt()
    from lmzoo.cli import main as run_command

    try:
        run_command()
    except SystemExit as ended:
        if was_interrupted() and isinstance(ended.code, int):
            # Python would replace the exit status by that of SIGINT if the interrupt had passed through `exec`, for
            # example in an import.
            sys.stdout.flush()
            os._exit(ended.code)
        raise
    finally:
        end_on_interrupt()  # Python would print a traceback for an interrupt while it shuts down


if __name__ == "__main__":
    main()
