"""`lmzoo states`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import Seed

if TYPE_CHECKING:
    from lmzoo.models.hidden_states import HasHiddenStates
    from lmzoo.tokenizers import Tokenizer

_N_NEXT, _N_LIKE = 3, 4
_LONGEST = 2000
"""Tokens of a text: what is known of each is a number for every state."""


def states(
    predictor: Path,
    text: str | None = None,
    *,
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 8,
    sample: bool = False,
    max_tokens: int = 60,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """What the hidden states of a hidden Markov model stand for; or which ones a text goes through.

    Example: lmzoo states runs/quick/predictors/hmm "In the beginning God created"

    Parameters
    ----------
    predictor
        A folder of a saved hidden Markov model.
    text
        Show the most likely path through this text, and how sure each state is, instead of the table of all states.
    k
        How many tokens of each state to show.
    sample
        Let the model walk: a text of its own, with the state behind each token.
    max_tokens
        Where a sample ends at the latest.
    seed
        The same seed gives the same sample.
    json
        Print one JSON object for each state, or for each token.
    """
    from lmzoo.errors import UsageError
    from lmzoo.models.hidden_states import HasHiddenStates
    from lmzoo.predictor import Predictor

    if k < 1 or max_tokens < 1:
        raise UsageError(f"k and max_tokens must be at least 1, got {k} and {max_tokens}")
    if sample and text is not None:
        raise UsageError("give a text, or --sample to have one made, not both")
    found = Predictor.load(predictor)
    if not isinstance(found.model, HasHiddenStates):
        raise UsageError(f"{predictor} is a '{found.species}', which shows no hidden states; hmm and class-hmm do")
    if text is not None:
        rows = _path(found.tokenizer, found.model, text)
    elif sample:
        rows = _walk(found.tokenizer, found.model, max_tokens, seed)
    else:
        rows = _table(found.tokenizer, found.model, k)
    if json:
        for row in rows:
            terminal.print_json(row)
    else:
        _show(rows)


Rows = list[dict[str, Any]]


def _table(tokenizer: Tokenizer, model: HasHiddenStates, k: int) -> Rows:
    return [
        {
            "state": one.state,
            "share": one.mass,
            "stays": one.self_transition,
            "next states": [{"state": state, "probability": prob} for state, prob in one.next[:_N_NEXT]],
            "tokens": [{"token": tokenizer.token_text(token_id), "probability": prob} for token_id, prob in one.top],
        }
        for one in sorted(model.state_table(k), key=lambda one: -one.mass)
    ]


def _path(tokenizer: Tokenizer, model: HasHiddenStates, text: str) -> Rows:
    from lmzoo.errors import UsageError

    ids = tokenizer.encode(text)
    if not 0 < len(ids) <= _LONGEST:
        raise UsageError(f"the text must have 1 to {_LONGEST:,} tokens, and has {len(ids):,}")
    posteriors = model.posteriors(ids)
    tops = {one.state: one.top for one in model.state_table(_N_LIKE)}
    return [
        {
            "token": tokenizer.token_text(token_id),
            "state": state,
            "probability": float(probs[state]),
            "as": [tokenizer.token_text(like) for like, _ in tops[state]],
        }
        for token_id, state, probs in zip(ids.tolist(), model.viterbi(ids).tolist(), posteriors, strict=True)
    ]


def _walk(tokenizer: Tokenizer, model: HasHiddenStates, max_tokens: int, seed: int) -> Rows:
    import numpy as np

    ids, path = model.sample_document(np.random.default_rng(seed), max_tokens)
    return [
        {"token": tokenizer.token_text(token_id), "state": state}
        for token_id, state in zip(ids.tolist(), path.tolist(), strict=True)
    ]


def _show(rows: Rows) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    terminal.stdout().print(table)


def _cell(value: Any) -> str:
    from lmzoo.tokenizers import visible

    match value:
        case float():
            return f"{value:.1%}"
        case str():
            return visible(value)
        case list():
            return "  ".join(_cell(one) for one in value)
        case {"state": state, "probability": prob}:
            return f"{state} {prob:.0%}"
        case {"token": token}:
            return visible(token)
        case _:
            return str(value)
