"""The command `lmzoo chat`, which holds a conversation with a chat model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import keyboard, terminal
from lmzoo.cli.commands.parameters import Seed

if TYPE_CHECKING:
    from lmzoo.chat.session import ChatSession
    from lmzoo.predictor import Predictor

_COMMANDS = {
    "/retry": "replace the last reply by a new one",
    "/reset": "forget all messages except for the system message",
    "/system TEXT": "replace the system message, which comes before all other messages; without TEXT, remove it",
    "/temperature X": "with X above 1, replies are more random; below 1, less random; 0: always the most likely token",
    "/top-p X": "sample from the smallest set of most likely tokens whose total probability is at least X",
    "/history": "show all messages",
    "/help": "show this list",
    "/quit": "end the program, as Ctrl-D does; Ctrl-C only stops a reply",
}


def chat(
    *,
    predictor: Annotated[Path | None, Parameter(name=["--predictor", "-p"])] = None,
    once: str | None = None,
    system: str = "",
    beside: Path | None = None,
    max_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = 128,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: Seed | None = None,
    json: bool = False,
) -> None:
    """Holds a conversation with a chat model in the terminal.

    Each line that you type is a message to the model. The command /help lists the commands, such as /retry and /reset.
    If the input is a pipe or a file, each of its lines is a message, and only the replies go to standard output.

    Example: lmzoo chat -p runs/align-transformer-quick --beside runs/align-transformer-quick/predictors/base

    Parameters
    ----------
    predictor
        Folder of a chat model; or run folder of `lmzoo align`, whose best chat model is used; or a pretrained chat
        model: its folder in the format of Hugging Face, its GGUF file, or the name of an installed one, such as
        smollm2. Default: the newest of the run folders runs/align-*, or else the chat model that comes with lmzoo.
    once
        Print the reply to this message, and end the program.
    system
        System message, which comes before all other messages. Chat models that `lmzoo align` trained on generated
        instructions have not learned from system messages.
    beside
        Folder of a saved predictor, such as the base of the chat model. Below each reply, the program prints how this
        predictor continues the message as a text.
    max_tokens
        Largest number of tokens of a reply.
    temperature
        Sampling temperature: above 1, replies are more random; below 1, less random; with 0, the most likely token is
        always taken.
    top_p
        Sample from the smallest set of most likely tokens whose total probability is at least this number.
    seed
        Random seed. The same seed gives the same replies to the same messages. Default: different replies each time.
    json
        Print one JSON object per reply.
    """
    from lmzoo.chat.session import ChatSession, chat_model
    from lmzoo.cli.commands.saved import load_predictor
    from lmzoo.generation import Decoding
    from lmzoo.predictor import Predictor

    Decoding(temperature, top_p=top_p)  # wrong settings are reported before the model is loaded
    folder = _chat_model(predictor)
    model = chat_model(load_predictor(folder, str(folder)))
    sampling: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    session = ChatSession(model, system=system, **sampling)
    talk = _Talk(session, folder, Predictor.load(beside) if beside else None, seed, json)
    if once is not None:
        talk.print_reply(lambda: session.reply_to(once))
        return
    terminal.note(f"{folder}: /help lists the commands")
    with keyboard.each_interrupt_counts():
        while talk.take_turn():
            pass


def _chat_model(path: Path | None) -> Path:
    """Returns the folder of a chat model, or its name.

    It is `path`, or the best model of the run folder `path`. If `path` is None, it is the best model of the newest run,
    or the chat model that comes with lmzoo if there is no run.
    """
    from lmzoo.experiments.align.results import best_chat_model, newest_run
    from lmzoo.models.shipped import CHAT_MODEL

    run = newest_run() if path is None else path
    if run is None:
        return Path(CHAT_MODEL)
    is_run = not (run / "predictor.json").is_file() and (run / "results.jsonl").is_file()
    return best_chat_model(run) if is_run or path is None else run


class _Talk:
    """A conversation on the screen: reads messages and commands, and prints replies."""

    def __init__(
        self, session: ChatSession, folder: Path, beside: Predictor | None, seed: int | None, as_json: bool
    ) -> None:
        self._session, self._folder, self._beside, self._seed, self._json = session, folder, beside, seed, as_json
        self._has_noted_length = False

    def take_turn(self) -> bool:
        """Reads one line and carries it out; returns False at the end of the conversation."""
        from lmzoo.errors import UsageError

        try:
            line = keyboard.read_line("you> ")
        except KeyboardInterrupt:  # of a line that is being typed, or in a pipe, where it ends the program
            if keyboard.ends_the_program() or not keyboard.is_interactive():
                raise
            terminal.note("")
            return True
        if line is None:
            return False
        try:
            return self._carry_out(line.strip())
        except UsageError as error:  # a wrong command does not end the conversation
            terminal.note(f"lmzoo: {error}")
            return True

    def _carry_out(self, line: str) -> bool:
        session = self._session
        command, _, rest = line.partition(" ")
        match command:
            case "":
                pass
            case "/quit":
                return False
            case "/help":
                for name, meaning in _COMMANDS.items():
                    terminal.note(f"  {name:<15} {meaning}")
            case "/reset":
                session.reset()
                self._has_noted_length = False
            case "/system":
                session.set_system(rest.strip())
            case "/history":
                for message in session.messages:
                    terminal.note(f"  {message.role}: {message.content}")
            case "/temperature":
                session.decoding = replace(session.decoding, temperature=_number(command, rest))
            case "/top-p":
                session.decoding = replace(session.decoding, top_p=_number(command, rest))
            case "/retry":
                self.print_reply(session.retry)
            case _ if command.startswith("/"):
                terminal.note(f"lmzoo: unknown command {command}: /help lists the commands")
            case _:
                self.print_reply(lambda: session.reply_to(line))
        return True

    def print_reply(self, start: Callable[[], Generator[str]]) -> None:
        """Prints a reply piece by piece until it ends, or until Ctrl-C; `start` returns the generator of its pieces."""
        session, interrupted = self._session, False
        pieces = start()
        if session.n_left_out and not self._has_noted_length:
            self._has_noted_length = True
            terminal.note(
                "The conversation is longer than the context of the model, which no longer sees the earliest turns."
            )
        try:
            with closing(pieces):
                for piece in pieces:
                    if not self._json:
                        _write(piece)
        except KeyboardInterrupt:
            if keyboard.ends_the_program() or not keyboard.is_interactive():
                raise
            interrupted = True
        if not self._json:
            _write("\n")
        beside = None if self._beside is None or interrupted else self._continue_beside(session.messages[-2].content)
        if self._json:
            terminal.print_json(self._facts(beside))

    def _continue_beside(self, prompt: str) -> str:
        """Prints and returns how the predictor of the option --beside continues a message as a text."""
        from rich.text import Text

        assert self._beside is not None
        session = self._session
        sampling = {"max_tokens": session.max_tokens, "seed": self._seed, **asdict(session.decoding)}
        text = self._beside.complete(prompt, **sampling)
        if not self._json:
            name = self._beside.label or self._beside.species
            terminal.stdout().print(Text(f"{name} continues: {prompt}{text}", style="dim"), soft_wrap=True)
        return text

    def _facts(self, beside: str | None) -> dict[str, Any]:
        messages = self._session.messages
        facts = {
            "predictor": str(self._folder),
            "message": messages[-2].content,
            "reply": messages[-1].content,
            "n_left_out": self._session.n_left_out,
        }
        return facts if beside is None else {**facts, "beside": beside}


def _write(piece: str) -> None:
    """Prints a piece of text immediately; on a terminal, control characters become visible."""
    from lmzoo.system.printable import printable

    sys.stdout.write(printable(piece) if sys.stdout.isatty() else piece)
    sys.stdout.flush()


def _number(command: str, text: str) -> float:
    from lmzoo.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{command} needs a number, such as {command} 0.8, got '{text}'") from None
