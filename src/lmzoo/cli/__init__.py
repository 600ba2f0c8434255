"""The `lmzoo` program. Its command modules import heavy packages inside their functions, so that `--help` is fast."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cyclopts

from lmzoo.cli import terminal
from lmzoo.cli.commands.align import align
from lmzoo.cli.commands.chat import chat
from lmzoo.cli.commands.cluster import app as cluster
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
from lmzoo.cli.commands.play import play
from lmzoo.cli.commands.predict import predict
from lmzoo.cli.commands.prequential import prequential
from lmzoo.cli.commands.rank import rank
from lmzoo.cli.commands.report import report
from lmzoo.cli.commands.serve import serve
from lmzoo.cli.commands.species import list_species, show
from lmzoo.cli.commands.states import states
from lmzoo.cli.commands.surprisal import surprisal
from lmzoo.cli.commands.tokenize import tokenize
from lmzoo.errors import LmzooError, UsageError
from lmzoo.system.files import describe_os_error
from lmzoo.system.interrupts import MESSAGE, exit_status, handle_interrupts, was_interrupted
from lmzoo.system.memory import describe_memory_error
from lmzoo.system.messages import one_line
from lmzoo.system.printable import print_warnings_as_lines
from lmzoo.system.version import __version__


def _converted(kind: Any, tokens: Any) -> Any:
    """Converts the words after an option or argument to a value; Cyclopts itself would round 1.5 to a whole number."""
    if kind is int and any("." in token.value for token in tokens):
        raise ValueError
    return cyclopts.convert(kind, tokens)


def _shown_default(value: object) -> str | None:
    """Returns the default of an option as the help shows it; None if the option is then off or absent."""
    return None if value is None or value is False or value == () else str(value) or '""'


app = cyclopts.App(
    name="lmzoo",
    help="Trains, compares and queries language models from a century of research. A species is a model family, such "
    "as ngram or lstm; a predictor is a trained model with its tokenizer.\n\n"
    'First steps: `lmzoo predict "the quick brown fox" -p ngram` queries a model that comes with lmzoo, `lmzoo play` '
    "opens the playground, and `lmzoo compare` trains models and compares them.",
    version=__version__,
    default_parameter=cyclopts.Parameter(negative=(), show_default=_shown_default, converter=_converted),
    suppress_keyboard_interrupt=False,
    help_epilogue="Every command accepts --json. Exit status: 0 success, 1 failure, 2 wrong usage; if a signal ended "
    "the program, 128 + the number of the signal, such as 130 for Ctrl-C.",
)
app.command(list_species, name="list")
for command in (
    show,
    corpus,
    tokenize,
    fit,
    evaluate,
    predict,
    surprisal,
    states,
    gradients,
    context,
    generate,
    compare,
    ladder,
    curves,
    align,
    chat,
    rank,
    play,
    report,
    serve,
    convert,
    prequential,
    cluster,
):
    app.command(command)

CONTINUED = ("fit", "compare", "ladder", "curves", "align", "prequential")
"""Names of the commands that continue their work when they are repeated after an interrupt."""
ADVICE = "; repeat the command to continue from the last checkpoint (without one, it starts again)"
"""Addition to the message after an interrupt of such a command."""
NUMBERS = {int: "a whole number", float: "a number"}


def main() -> None:
    """Runs one command and exits with its status: 0 success, 1 failure, 2 wrong usage, 128 + number of a signal."""
    _open_closed_streams()
    print_warnings_as_lines()
    handle_interrupts()
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. Expected errors are printed as one line without a traceback."""
    _use_utf8()
    words = sys.argv[1:] if arguments is None else arguments
    interrupted = MESSAGE + (ADVICE if words and words[0] in CONTINUED else "")
    try:
        with terminal.log_messages():
            _check_options(words)
            returned = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        terminal.note(f"lmzoo: {_usage_message(error)}")
        return 2
    except LmzooError as error:
        terminal.note(f"lmzoo: {one_line(error)}")
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        terminal.note(interrupted)
        return exit_status()
    except BrokenPipeError:  # the program that reads our output has ended, as in `lmzoo list | head -1`
        sys.stderr.close()
        return 1
    except OSError as error:  # for example a full disk, or a folder without read permission
        text = describe_os_error(error, error.filename or None)
        terminal.note(f"lmzoo: {' '.join(text.split())}")
        return 1
    except MemoryError as error:
        terminal.note(f"lmzoo: {describe_memory_error(error)}")
        return 1
    except Exception:
        if not was_interrupted():
            raise
        terminal.note(interrupted)  # an interrupt during an import can become another exception
        return exit_status()
    return returned if isinstance(returned, int) else 0


def _check_options(words: Sequence[str]) -> None:
    """Raises UnknownOptionError for a word before -- that begins with -- and is no option of its command.

    Cyclopts itself would take such a word for an argument if the argument may be -, which stands for standard input.
    """
    names, apps, words = app.parse_commands(words)
    if names and not names[-1].startswith("-") and apps[-1].default_command:
        known = apps[-1].assemble_argument_collection(parse_docstring=False)
        for word in itertools.takewhile("--".__ne__, words):
            if word.startswith("--") and not any(word.partition("=")[0] in option.names for option in known):
                token = cyclopts.Token(value=word, source="cli")
                raise cyclopts.UnknownOptionError(
                    token=token, argument_collection=known, command_chain=names, verbose=False
                )


def _usage_message(error: cyclopts.CycloptsError) -> str:
    """Returns the message for wrong options or arguments, with the help command to call."""
    message = one_line(error)
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        if error.keyword:
            message = f"Missing value after {error.keyword}."
        elif error.argument.field_info.is_positional:
            message = f"Missing argument: {name.lstrip('-').upper()}."
        else:
            message = f"Missing option: {name}."
    elif isinstance(error, cyclopts.UnusedCliTokensError) and error.unused_tokens:
        first = error.unused_tokens[0]
        message = f"Unexpected argument: {first}. "
        # The shell may have replaced a pattern by the names of all files. `Path.exists` does not accept every text.
        if os.path.exists(first):  # noqa: PTH110
            message += "A pattern of file names, such as '*.txt', must be in quotation marks."
        else:
            message += "Put a text with spaces in quotation marks."
    elif isinstance(error, cyclopts.UnknownOptionError) and error.token.value == "-":
        message = '- does not stand for standard input here: give the text itself, such as "$(cat FILE)".'
    elif isinstance(error, cyclopts.CoercionError) and error.target_type in NUMBERS and error.token:
        message = f"{error.token.keyword} must be {NUMBERS[error.target_type]}, got '{error.token.value}'."
    return f"{message} See: {' '.join(['lmzoo', *(error.command_chain or ())])} --help"


def _open_closed_streams() -> None:
    """Opens the null device in place of each standard stream that the calling program has closed, as `<&-` does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (until the program ends)


def _use_utf8() -> None:
    """Sets the output streams to UTF-8 whatever the locale, because texts contain any character.

    The bytes of file names that are not UTF-8 are printed as escape sequences.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(encoding="utf-8", errors="backslashreplace")
