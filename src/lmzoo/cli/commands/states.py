"""The command `lmzoo states`, which shows the hidden states of a hidden Markov model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import Seed

if TYPE_CHECKING:
    from lmzoo.models.hidden_states import HasHiddenStates
    from lmzoo.tokenizers import Tokenizer

_N_NEXT_STATES, _N_TYPICAL_TOKENS = 3, 4
_MAX_TOKENS = 2000
"""Longest text in tokens; the posteriors of a text need one number per token and state."""


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
    """Shows the hidden states of a hidden Markov model, or the most likely states of a text.

    Example: lmzoo states hmm "In the beginning God created"

    Parameters
    ----------
    predictor
        Folder of a saved hidden Markov model, or hmm or class-hmm for one that comes with lmzoo.
    text
        Show the most likely state of each token of this text (Viterbi path) and the posterior probability of this
        state, instead of the table of all states.
    k
        Number of most likely tokens to show for each state.
    sample
        Show a text sampled from the model, with the state that emitted each token.
    max_tokens
        Maximum length of the sample, in tokens.
    seed
        Random seed. The same seed gives the same sample.
    json
        Print one JSON object per state, or per token.
    """
    from lmzoo.errors import UsageError
    from lmzoo.models.hidden_states import HasHiddenStates
    from lmzoo.predictor import Predictor

    if k < 1 or max_tokens < 1:
        raise UsageError(f"--k and --max-tokens must be at least 1, got {k} and {max_tokens}")
    if sample and text is not None:
        raise UsageError("give either a text or --sample, not both")
    loaded = Predictor.load(predictor)
    if not isinstance(loaded.model, HasHiddenStates):
        raise UsageError(
            f"the model of {predictor}, a '{loaded.species}', has no hidden states to show: name a hidden Markov "
            "model, such as hmm or class-hmm"
        )
    if text is not None:
        rows = _most_likely_path(loaded.tokenizer, loaded.model, text)
    elif sample:
        rows = _sampled_document(loaded.tokenizer, loaded.model, max_tokens, seed)
    else:
        rows = _state_table(loaded.tokenizer, loaded.model, k)
    if json:
        for row in rows:
            terminal.print_json(row)
    else:
        _print_table(rows)


Rows = list[dict[str, Any]]


def _state_table(tokenizer: Tokenizer, model: HasHiddenStates, k: int) -> Rows:
    return [
        {
            "state": one.state,
            "share": one.mass,
            "self-transition": one.self_transition,
            "next states": [{"state": state, "probability": prob} for state, prob in one.next[:_N_NEXT_STATES]],
            "tokens": [{"token": tokenizer.token_text(token_id), "probability": prob} for token_id, prob in one.top],
        }
        for one in sorted(model.state_table(k), key=lambda one: -one.mass)
    ]


def _most_likely_path(tokenizer: Tokenizer, model: HasHiddenStates, text: str) -> Rows:
    from lmzoo.errors import UsageError

    ids = tokenizer.encode(text)
    if not 0 < len(ids) <= _MAX_TOKENS:
        raise UsageError(f"the text must have 1 to {_MAX_TOKENS:,} tokens, got {len(ids):,}")
    posteriors = model.posteriors(ids)
    tops = {one.state: one.top for one in model.state_table(_N_TYPICAL_TOKENS)}
    return [
        {
            "token": tokenizer.token_text(token_id),
            "state": state,
            "probability": float(probs[state]),
            "typical tokens": [tokenizer.token_text(typical) for typical, _ in tops[state]],
        }
        for token_id, state, probs in zip(ids.tolist(), model.viterbi(ids).tolist(), posteriors, strict=True)
    ]


def _sampled_document(tokenizer: Tokenizer, model: HasHiddenStates, max_tokens: int, seed: int) -> Rows:
    import numpy as np

    ids, path = model.sample_document(np.random.default_rng(seed), max_tokens)
    return [
        {"token": tokenizer.token_text(token_id), "state": state}
        for token_id, state in zip(ids.tolist(), path.tolist(), strict=True)
    ]


def _print_table(rows: Rows) -> None:
    from lmzoo.cli.tables import plain_table

    text = [column for column, value in enumerate(rows[0].values()) if not isinstance(value, int | float)]
    cells = [[_cell(value) for value in row.values()] for row in rows]
    terminal.stdout().print(plain_table(list(rows[0]), cells, text=text))


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
