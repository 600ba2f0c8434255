"""`lmzoo convert`."""

from __future__ import annotations

from pathlib import Path

from lmzoo import terminal


def convert(source: Path, target: Path, *, tokenizer: Path | None = None, json: bool = False) -> None:
    """Convert between ARPA files (KenLM, SRILM, ...) and saved n-gram predictors, whichever the source is.

    Example: lmzoo convert model.arpa.gz runs/mine; lmzoo convert runs/mine model.arpa

    Parameters
    ----------
    source
        An ARPA file, also packed by gzip; or the folder of a saved n-gram predictor.
    target
        The folder of the predictor; or the ARPA file, packed if its name ends in .gz.
    tokenizer
        A saved predictor or tokenizer.json whose tokens are the words of the ARPA file. Default: a tokenizer that
        splits text at white space into the words of the file.
    json
        Print one JSON object about what was written.
    """
    from lmzoo.convert import predictor_from_arpa, predictor_to_arpa
    from lmzoo.errors import UsageError
    from lmzoo.predictor import Predictor, check_home
    from lmzoo.tokenizers import Tokenizer

    if source.is_dir():
        if tokenizer:
            raise UsageError(f"{source} has a tokenizer of its own: --tokenizer is for ARPA files")
        if target.exists():
            raise UsageError(f"{target} is there already and is left as it is: choose a new name")
        predictor = Predictor.load(source)
        with terminal.progress(f"writing {target}") as on_progress:
            predictor_to_arpa(predictor, target, on_progress=on_progress)
    else:
        check_home(target)
        given = tokenizer and Tokenizer.load(tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer)
        with terminal.progress(f"reading {source}") as on_progress:
            predictor = predictor_from_arpa(source, tokenizer=given, on_progress=on_progress)
        predictor.save(target)
        error = predictor.provenance["largest_sum_error"]
        if error > 1e-3:
            terminal.note(f"probabilities are kept as {source} has them, though they do not sum to 1: off by {error}")
    levels = predictor.model.arrays()["levels"]
    n_ngrams = (levels[2:] - levels[1:-1]).tolist()
    if json:
        terminal.print_json({"target": str(target), "vocab_size": predictor.tokenizer.vocab_size, "n_ngrams": n_ngrams})
    else:
        terminal.note(f"{sum(n_ngrams):,} n-grams up to order {len(n_ngrams)}, written to {target}")
