"""Runs the `lmzoo` command for `python -m lmzoo` and for the installed program `lmzoo`."""

from __future__ import annotations

from lmzoo.system.interrupts import end_on_interrupt


def main() -> None:
    """Runs the command line of this process. An interrupt while modules are imported ends the process at once."""
    end_on_interrupt()
    from lmzoo.cli import main as run_command

    try:
        run_command()
    finally:
        end_on_interrupt()  # Python would print a traceback for an interrupt while it shuts down


if __name__ == "__main__":
    main()
