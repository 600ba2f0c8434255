"""The command line. Commands are modules that import nothing heavy at their top, so that `--help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cyclopts

from lmzoo.cli import terminal
from lmzoo.cli.commands.compare import compare
from lmzoo.cli.commands.context import context
from lmzoo.cli.commands.convert import convert
from lmzoo.cli.commands.corpus import app as corpus
from lmzoo.cli.commands.curves import curves
from lmzoo.cli.commands.evaluate import evaluate
from lmzoo.cli.commands.fit import fit
from lmzoo.cli.commands.generate import generate
from lmzoo.cli.commands.gradients import gradients
from lmzoo.cli.commands.ladder import ladder
from lmzoo.cli.commands.predict import predict
from lmzoo.cli.commands.prequential import prequential
from lmzoo.cli.commands.report import report
from lmzoo.cli.commands.species import list_species, show
from lmzoo.cli.commands.states import states
from lmzoo.cli.commands.tokenize import tokenize
from lmzoo.errors import LmzooError, UsageError
from lmzoo.system.version import __version__

app = cyclopts.App(
    name="lmzoo",
    help="A historical language-model zoo: a century of next-token predictors, fitted, compared and asked.",
    version=__version__,
    default_parameter=cyclopts.Parameter(negative=()),
    suppress_keyboard_interrupt=False,
    help_epilogue="Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Every command takes --json.",
)
app.command(list_species, name="list")
for command in (
    show,
    corpus,
    tokenize,
    fit,
    evaluate,
    predict,
    states,
    gradients,
    context,
    generate,
    compare,
    ladder,
    curves,
    report,
    convert,
):
    app.command(command)
app.command(prequential)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status. What we raise on purpose becomes one line, not a traceback."""
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
        terminal.note(
            "lmzoo: interrupted; the same command goes on from the last checkpoint, or starts over if it keeps none"
        )
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `lmzoo list | head -1`
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a folder that may not be read
        terminal.note(f"lmzoo: {_one_line(error)}")
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
