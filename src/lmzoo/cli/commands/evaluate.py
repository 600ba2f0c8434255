"""The command `lmzoo evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput
from lmzoo.system.placement import Device


def evaluate(
    *predictors: Path,
    corpus: OrStandardInput | None = None,
    split: Literal["valid", "test"] = "test",
    device: Device = "auto",
    no_bos: bool = False,
    json: bool = False,
) -> None:
    """Evaluates saved predictors on a corpus: bits per byte, perplexity, accuracy and speed.

    Example: lmzoo evaluate runs/quick/predictors/ngram runs/quick/predictors/lstm

    Parameters
    ----------
    predictors
        Folders of saved predictors (a predictor is a trained model with its tokenizer), or of causal models that
        transformers saved.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
        Default: the corpus on which each predictor was trained.
    split
        The split of the corpus on which to evaluate.
    device
        Device on which networks are evaluated: cpu, cuda, mps, or auto (cuda if there is one, else mps, else cpu).
    no_bos
        Score each document as if it was cut out of a longer text, as with bos=False in KenLM: its first token is
        predicted by the unigram probabilities. For n-gram models only.
    json
        Print one JSON record per predictor.
    """
    from dataclasses import asdict

    from lmzoo.cli.tables import leaderboard_table
    from lmzoo.errors import UsageError
    from lmzoo.evaluation.evaluate import evaluate as evaluate_predictor
    from lmzoo.predictor import Predictor

    if not predictors:
        raise UsageError("name at least one folder of a saved predictor: lmzoo evaluate FOLDER ...")
    records = []
    for folder in predictors:
        predictor = Predictor.load(folder, device=device)
        if no_bos:
            predictor = predictor.without_start()
        if corpus is None and predictor.provenance.corpus is None:
            raise UsageError(
                f"the training corpus of {folder} is unknown, because lmzoo did not train it: name a text with --corpus"
            )
        with terminal.progress(f"evaluating {predictor.species}") as on_progress:
            records.append(evaluate_predictor(predictor, corpus, split=split, on_progress=on_progress))
        if json:
            terminal.print_json(asdict(records[-1]))
    if not json:
        terminal.stdout().print(leaderboard_table(records, terminal.stdout().width))
