"""The command `lmzoo evaluate`, which measures saved predictors on a text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lmzoo.cli import terminal
from lmzoo.cli.commands import remote
from lmzoo.cli.commands.parameters import OrStandardInput
from lmzoo.system.placement import Device


def evaluate(
    *predictors: Path,
    corpus: OrStandardInput | None = None,
    split: Literal["valid", "test", "all"] | None = None,
    device: Device = "auto",
    no_bos: bool = False,
    json: bool = False,
) -> None:
    """Evaluates saved predictors on a text: bits per byte, perplexity, accuracy and speed.

    Example: lmzoo evaluate runs/quick/predictors/ngram runs/quick/predictors/lstm

    Example: lmzoo evaluate ngram lstm transformer --corpus my-text.txt

    Example: lmzoo evaluate http://127.0.0.1:8000/v1#MODEL --corpus my-text.txt

    Parameters
    ----------
    predictors
        Folders of saved predictors (a predictor is a trained model with its tokenizer), names of predictors that come
        with lmzoo, such as ngram, folders of causal models that transformers saved, GGUF files, or names of installed
        models, such as smollm2.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
        Default: the corpus on which each predictor was trained.
    split
        The part of the text to measure: valid, test, or all for the whole text. Default: test if one of the predictors
        was trained on this text, else all.
    device
        Device on which networks are evaluated: cpu, cuda, mps, or auto (cuda if there is one, else mps, else cpu).
    no_bos
        Treat each document as an excerpt, as with bos=False in KenLM: its first token is predicted by the unigram
        probabilities, and not from the start of a document. For n-gram models only.
    json
        Print one JSON record per predictor.
    """
    from dataclasses import asdict

    from lmzoo.cli.commands.saved import distinct_names, load_predictor, text_finder
    from lmzoo.cli.tables import leaderboard_table
    from lmzoo.errors import UsageError
    from lmzoo.evaluation.evaluate import evaluate as evaluate_predictor

    folders, remote_models = remote.divided(predictors)
    if remote_models and folders:
        raise UsageError(
            "remote models have no perplexity and need a table of their own: evaluate them in a separate command"
        )
    if remote_models:
        remote.evaluate(remote_models, corpus, split, no_bos=no_bos, json=json)
        return
    if not predictors:
        raise UsageError("name at least one predictor: lmzoo evaluate FOLDER ...")
    text_of = text_finder(predictors, corpus, split, "test")
    records = []
    for folder, name in zip(predictors, distinct_names(predictors), strict=True):
        predictor = load_predictor(folder, name, device)
        if no_bos:
            predictor, name = predictor.without_start(), f"{name}, no start"
        text = text_of(predictor)
        if text.split == "all" and text.name == predictor.provenance.corpus:
            terminal.note(f"{name} was trained on an earlier version of {text.name}, or on a part of it.")
        with terminal.progress(f"evaluating {name}") as on_progress:
            records.append(evaluate_predictor(predictor, text, label=name, on_progress=on_progress))
        if json:
            terminal.print_json(asdict(records[-1]))
    if not json:
        terminal.stdout().print(leaderboard_table(records, terminal.stdout().width))
