"""The command `lmzoo predict`, which prints the most likely next tokens after a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands import remote

if TYPE_CHECKING:
    from rich.table import Table


def predict(
    context: str,
    *,
    predictors: Annotated[list[Path] | None, Parameter(name=["--predictor", "-p"])] = None,
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 10,
    no_bos: bool = False,
    json: bool = False,
) -> None:
    """Prints the most likely next tokens after a text, for one or several saved predictors side by side.

    Example: lmzoo predict "the quick brown fox jumps over the" -p ngram -p transformer

    Example: lmzoo predict "In the beginning God" -p runs/quick/predictors/ngram -p runs/quick/predictors/lstm

    Example: lmzoo predict "In the beginning God" -p http://127.0.0.1:8000/v1#MODEL

    Parameters
    ----------
    context
        The text before the predicted token; "" stands for the start of a document, and "$(cat FILE)" for the text of a
        file.
    predictors
        Name of a predictor that comes with lmzoo, such as ngram; folder of a saved predictor, or of a causal model that
        transformers saved; GGUF file; or name of an installed model, such as smollm2. May be repeated. Default: all
        predictors in runs/quick/predictors, or else all that come with lmzoo.
    k
        Number of tokens to show.
    no_bos
        Treat the context as an excerpt: it does not begin at the start of a document. For n-gram models only.
    json
        Print one JSON object per predictor.
    """
    from lmzoo.cli.commands.saved import default_predictors, distinct_names, load_predictor
    from lmzoo.corpora.sentence_marks import report_marks
    from lmzoo.errors import UsageError
    from lmzoo.metrics import bits

    if k < 1:
        raise UsageError(f"--k must be at least 1, got {k}")
    tables = []
    folders, remote_models = remote.divided(predictors or default_predictors())
    if no_bos and remote_models:
        raise UsageError("--no-bos is for n-gram models only, not for remote models")
    for folder, name in zip(folders, distinct_names(folders), strict=True):
        predictor = load_predictor(folder, name)
        if no_bos:
            predictor = predictor.without_start()
        report_marks([context], predictor.tokenizer)
        distribution = predictor.predict_distribution(context)
        best = [(predictor.tokenizer.token_text(token_id), prob) for token_id, prob in distribution.top(k)]
        entropy = bits(distribution.entropy())
        if json:
            top = [{"token": token, "probability": prob} for token, prob in best]
            terminal.print_json(
                {"predictor": str(folder), "species": predictor.species, "entropy_bits": entropy, "top": top}
            )
        else:
            tables.append(_table(f"{name} · {entropy:.1f} bits", best))
    for model in remote_models:
        likely = model.top_tokens(context, k)
        if json:
            top = [{"token": token, "probability": prob} for token, prob in likely.tokens]
            facts = {"predictor": remote.address_of(model), "species": "remote", "entropy_bits": None, "top": top}
            terminal.print_json(facts | {"unassigned_probability": likely.unassigned})
        else:
            tables.append(_table(remote.name_of(model), likely.tokens, likely.unassigned))
    if not json:
        from rich.columns import Columns

        terminal.stdout().print(Columns(tables, padding=(1, 3)))


def _table(title: str, best: list[tuple[str, float]], unassigned: float | None = None) -> Table:
    """Returns a table of tokens with their probabilities; `unassigned` is the probability of all others, if unknown."""
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    from lmzoo.tokenizers import visible

    table = Table(title=Text(title, style="bold"), box=None, show_header=False, padding=(0, 1, 0, 0))
    for token, prob in best:
        table.add_row(Text(visible(token)), f"{prob:6.1%}", Bar(best[0][1], 0, prob, width=16, color="cyan"))
    if unassigned is not None:
        table.add_row(Text("all other tokens", style="italic"), f"{unassigned:6.1%}")
    return table
