"""`lmzoo predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal

if TYPE_CHECKING:
    from rich.table import Table

    from lmzoo.predictor import Predictor
    from lmzoo.stream import TokenStream

DEFAULT_RUN = Path("runs/quick/predictors")
"""The folder in which `make compare` saves its predictors."""


def predict(
    context: str,
    *,
    predictors: Annotated[list[Path] | None, Parameter(name=["--predictor", "-p"])] = None,
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 10,
    no_bos: bool = False,
    json: bool = False,
) -> None:
    """Prints the most likely next tokens after a text, for one or several saved predictors side by side.

    Example: lmzoo predict "In the beginning God" -p runs/quick/predictors/ngram -p runs/quick/predictors/lstm

    Parameters
    ----------
    context
        The text before the predicted token; "" stands for the start of a document.
    predictors
        Folder of a saved predictor; may be repeated. Default: all predictors in runs/quick/predictors.
    k
        Number of tokens to show.
    no_bos
        Take the context as cut out of a longer text, not as the start of a document. For n-gram models only.
    json
        Print one JSON object per predictor.
    """
    from lmzoo.errors import UsageError
    from lmzoo.metrics import bits
    from lmzoo.predictor import Predictor

    if k < 1:
        raise UsageError(f"--k must be at least 1, got {k}")
    tables = []
    for folder in predictors or default_predictors():
        predictor = Predictor.load(folder)
        if no_bos:
            predictor = predictor.without_start()
        distribution = predictor.predict_distribution(context)
        best = [(predictor.tokenizer.token_text(token_id), prob) for token_id, prob in distribution.top(k)]
        entropy = bits(distribution.entropy())
        if json:
            top = [{"token": token, "probability": prob} for token, prob in best]
            terminal.print_json(
                {"predictor": str(folder), "species": predictor.species, "entropy_bits": entropy, "top": top}
            )
        else:
            tables.append(_table(f"{predictor.species} · {entropy:.1f} bits", best))
    if not json:
        from rich.columns import Columns

        terminal.stdout().print(Columns(tables, padding=(1, 3)))


def default_predictors() -> list[Path]:
    """Returns the folders of the predictors that `make compare` saved, in the order of `zoo.names()`.

    Raises UsageError if there are none.
    """
    from lmzoo import zoo
    from lmzoo.errors import UsageError

    found = {path.parent.name: path.parent for path in DEFAULT_RUN.glob("*/predictor.json")}
    if not found:
        raise UsageError(f"no saved predictors in {DEFAULT_RUN}: run `make compare`, or name a folder with -p FOLDER")
    names = zoo.names()
    return [found[name] for name in sorted(found, key=lambda name: names.index(name) if name in names else len(names))]


def split_of(folder: Path, predictor: Predictor, corpus: str | None, split: str) -> TokenStream:
    """Returns one split of a corpus, encoded by the tokenizer of a predictor.

    `corpus` None stands for the corpus on which the predictor was trained; UsageError if this corpus is unknown.
    """
    from lmzoo.corpora import load_corpus
    from lmzoo.corpora.encoded import encode_documents
    from lmzoo.errors import UsageError

    name = corpus or predictor.provenance.corpus
    if not name:
        raise UsageError(f"{folder} was imported, so its training corpus is unknown: name a text with --corpus")
    return encode_documents(load_corpus(name).splits[split], predictor.tokenizer).stream


def _table(title: str, best: list[tuple[str, float]]) -> Table:
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    from lmzoo.tokenizers import visible

    table = Table(title=Text(title, style="bold"), box=None, show_header=False, padding=(0, 1, 0, 0))
    for token, prob in best:
        table.add_row(Text(visible(token)), f"{prob:6.1%}", Bar(best[0][1], 0, prob, width=16, color="cyan"))
    return table
