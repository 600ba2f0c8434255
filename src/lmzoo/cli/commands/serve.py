"""The command `lmzoo serve`, which serves predictors over HTTP, with the interface of OpenAI."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import terminal


def serve(
    *predictors: Path,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lt=1 << 16))] = 8000,
    cors_origin: Sequence[str] = (),
    json: bool = False,
) -> int:
    """Serves predictors to clients of OpenAI's API, such as the packages openai, llm and lm-eval.

    Clients find the models at http://HOST:PORT/v1. If the environment variable LMZOO_API_KEY is set, they must send
    this key. Press Ctrl-C to end the server.

    Example: lmzoo serve runs/quick/predictors/ngram runs/my-lstm --port 8000

    Parameters
    ----------
    predictors
        Folders of saved predictors, run folders (all of their predictors are served), folders of causal models that
        transformers saved, GGUF files, or names of predictors that come with lmzoo or are installed. Default: all
        predictors that come with lmzoo.
    host
        Address to listen on. With 127.0.0.1, only this computer can reach the server. With 0.0.0.0, all computers of
        the network can.
    port
        Port to listen on; 0 means any free one.
    cors_origin
        A web site, such as https://example.org, whose pages may use the server from a browser; may be repeated.
    json
        Print the address and the models as one JSON object.
    """
    from lmzoo.cli.commands.saved import served
    from lmzoo.errors import MissingExtraError
    from lmzoo.system.interrupts import exit_status

    sources = served(predictors)
    try:
        from lmzoo.server import serving
        from lmzoo.server.app import create_app
        from lmzoo.server.limits import Limits
        from lmzoo.server.models import ServedModels
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "serve", "the server") from error
    limits = Limits()
    app = create_app(ServedModels(sources), limits=limits, cors_origins=cors_origin, local_only=serving.is_local(host))
    opened = serving.open_socket(host, port)
    address = serving.address_of(opened)
    _announce(address, list(sources), limits.prompt_tokens + 1, as_json=json)
    if others := serving.address_for_others(host, address):
        terminal.note(f"Other computers reach it at {others}/v1.")
    try:
        with opened:
            serving.AppServer(app).run(sockets=[opened])
    except KeyboardInterrupt:
        terminal.note("The server has ended.")
        return exit_status()
    return 0


def _announce(address: str, models: Sequence[str], max_length: int, *, as_json: bool) -> None:
    """Prints where the models are served, and how lm-eval measures a model."""
    if as_json:
        terminal.print_json({"url": f"{address}/v1", "models": list(models), "max_length": max_length})
    terminal.note(f"Serving {', '.join(models)} at {address}/v1; press Ctrl-C to end the server.")
    if len(models) == 1:
        terminal.note(
            f"lm-eval: --model local-completions --model_args "
            f"model={models[0]},base_url={address}/v1/completions,max_length={max_length}"
        )
    else:  # lm-eval cannot say whose tokenizer it needs
        terminal.note("lm-eval: serve only one model, because lm-eval asks for the tokenizer without naming the model.")
    sys.stdout.flush()
