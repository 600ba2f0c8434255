"""The command line. Commands are named by import strings, so that `--help` imports none of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cyclopts

from lmzoo import __version__
from lmzoo.errors import LmzooError, UsageError

app = cyclopts.App(
    name="lmzoo",
    help="A historical language-model zoo: a century of next-token predictors, fitted, compared and asked.",
    version=__version__,
    help_epilogue="Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Every command takes --json.",
)
app.command("lmzoo.commands.species:list_species", name="list", help="The species of the zoo, era by era.")
app.command("lmzoo.commands.species:show", name="show", help="One species: its card and its settings.")
app.command("lmzoo.commands.corpus:app", name="corpus", help="List, inspect and fetch corpora.")
app.command("lmzoo.commands.tokenize:tokenize", name="tokenize", help="Show how tokenizers cut a text.")
app.command("lmzoo.commands.fit:fit", name="fit", help="Fit one species on a corpus and save it.")
app.command("lmzoo.commands.evaluate:evaluate", name="evaluate", help="Measure saved predictors on a corpus.")
app.command("lmzoo.commands.predict:predict", name="predict", help="The most likely next tokens after a text.")
app.command("lmzoo.commands.generate:generate", name="generate", help="Continue a text.")
app.command("lmzoo.commands.compare:compare", name="compare", help="Fit many species, measure them, report.")
app.command("lmzoo.commands.report:report", name="report", help="Write the report of a run again.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status. What we raise on purpose becomes one line, not a traceback."""
    from lmzoo import terminal

    _use_utf8()
    try:
        returned = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        terminal.note(f"lmzoo: {_one_line(error)} (see: lmzoo --help)")
        return 2
    except LmzooError as error:
        terminal.note(f"lmzoo: {_one_line(error)}")
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        terminal.note("lmzoo: interrupted; the same command goes on from the last checkpoint")
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `lmzoo list | head -1`
        sys.stderr.close()
        return 1
    return returned if isinstance(returned, int) else 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _use_utf8() -> None:
    """UTF-8 always, never the locale: corpora and predictions hold any character."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(encoding="utf-8")


if __name__ == "__main__":
    main()
