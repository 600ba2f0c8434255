"""The command `lmzoo generate`, which continues a text with saved predictors."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import terminal
from lmzoo.cli.commands import remote
from lmzoo.cli.commands.parameters import Seed


def generate(
    prompt: str = "",
    *,
    predictors: Annotated[list[Path] | None, Parameter(name=["--predictor", "-p"])] = None,
    n: int = 1,
    max_tokens: Annotated[int, Parameter(validator=Number(gte=0))] = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: Seed | None = None,
    stop: list[str] | None = None,
    json: bool = False,
) -> None:
    """Continues a text with one or several saved predictors.

    Example: lmzoo generate "And God said" -p transformer --temperature 0.8 --top-p 0.95

    Example: lmzoo generate "And God said" -p http://127.0.0.1:8000/v1#MODEL

    Parameters
    ----------
    prompt
        The text to continue; "" stands for the start of a document, and "$(cat FILE)" for the text of a file.
    predictors
        Name of a predictor that comes with lmzoo, such as ngram; folder of a saved predictor, or of a causal model that
        transformers saved; GGUF file; or name of an installed model, such as smollm2. May be repeated. Default: all
        predictors in runs/quick/predictors, or else all that come with lmzoo.
    n
        Number of continuations per predictor.
    max_tokens
        Maximum length of a continuation, in tokens. The model may end the text earlier.
    temperature
        Sampling temperature: above 1 the text is more random, below 1 less; 0 always takes the most likely token.
    top_k
        Sample from the k most likely tokens only.
    top_p
        Sample from the smallest set of most likely tokens whose total probability is at least p.
    min_p
        Sample from the tokens with at least p times the probability of the most likely token.
    seed
        Random seed. The same seed gives the same text. Default: a different text each time.
    stop
        End the continuation before this text; may be repeated.
    json
        Print one JSON object per continuation.
    """
    from rich.text import Text

    from lmzoo.checks import check_count
    from lmzoo.cli.commands.saved import default_predictors, distinct_names, load_predictor
    from lmzoo.corpora.sentence_marks import report_marks
    from lmzoo.errors import UsageError
    from lmzoo.generation import Decoding
    from lmzoo.streaming import stop_strings
    from lmzoo.system.printable import printable

    def print_texts(place: str, name: str, texts: Iterable[Iterable[str]]) -> None:
        for number, pieces in enumerate(texts, 1):
            if json:
                completion = "".join(pieces)
                terminal.print_json({"predictor": place, "prompt": prompt, "completion": completion, "seed": seed})
                continue
            if len(folders) + len(remote_models) > 1 or n > 1:
                suffix = f", {number} of {n}" if n > 1 else ""
                terminal.stdout().print(Text(f"── {name}{suffix}", style="bold"))
            sys.stdout.write(show(prompt))
            for piece in pieces:
                sys.stdout.write(show(piece))
                sys.stdout.flush()
            sys.stdout.write("\n")

    # Predictors take seconds to load, so wrong settings are reported first.
    check_count(1, n=n)
    Decoding(temperature, top_k, top_p, min_p)
    stop = stop_strings(stop or ())
    show = printable if sys.stdout.isatty() else str  # files and pipes get the text unchanged
    sampling: dict[str, Any] = {
        "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed, "stop": stop,
    }  # fmt: skip
    folders, remote_models = remote.divided(predictors or default_predictors())
    if remote_models and (top_k is not None or min_p):
        raise UsageError("--top-k and --min-p are not in the interface of remote models: use --top-p")
    for folder, name in zip(folders, distinct_names(folders), strict=True):
        predictor = load_predictor(folder, name)
        report_marks([prompt], predictor.tokenizer)
        texts: Iterable[Iterable[str]]  # each text is a sequence of pieces
        if n == 1:
            texts = [predictor.stream(prompt, top_k=top_k, min_p=min_p, **sampling)]
        else:
            completions = predictor.completions(prompt, n=n, top_k=top_k, min_p=min_p, **sampling)
            texts = ([text] for text in completions)
        print_texts(str(folder), name, texts)
    for model in remote_models:
        address = remote.address_of(model)
        print_texts(address, address, remote.texts(model, prompt, n=n, **sampling))
