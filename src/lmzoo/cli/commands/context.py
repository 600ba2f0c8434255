"""`lmzoo context`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput, Seed

if TYPE_CHECKING:
    from lmzoo.report.context_use import Use


def context(
    *,
    predictors: Annotated[list[Path] | None, Parameter(name=["--predictor", "-p"])] = None,
    corpus: OrStandardInput | None = None,
    split: Literal["valid", "test"] = "valid",
    max_context: int = 256,
    positions: int = 64,
    seed: Seed = 0,
    svg: Path | None = None,
    json: bool = False,
) -> None:
    """How far back each one looks: the loss as its context is cut, or shuffled, ever nearer to what it predicts.

    Example: lmzoo context -p runs/quick/predictors/ngram -p runs/quick/predictors/lstm --svg context.svg

    Parameters
    ----------
    predictors
        A folder of a saved predictor; may be repeated. Default: all in runs/quick/predictors.
    corpus
        A name from `lmzoo corpus list`, or a file, folder or glob of text. Default: what each was fitted on.
    split
        The part of the corpus.
    max_context
        The longest context to cut or shuffle, in tokens; less if documents are short.
    positions
        How many stretches of so many tokens to read.
    seed
        Draws the stretches and shuffles what stands before them.
    svg
        A file for the figure.
    json
        Print one JSON object for each predictor; losses in bits per token.
    """
    from lmzoo.cli.commands.predict import default_predictors, split_of
    from lmzoo.predictor import Predictor
    from lmzoo.probes.context_use import context_use
    from lmzoo.report.context_use import Use

    uses: list[Use] = []
    tokenizers: set[str] = set()
    for folder in predictors or default_predictors():
        predictor = Predictor.load(folder)
        stream = split_of(folder, predictor, corpus, split)
        with terminal.progress(f"reading with {folder.name}") as on_progress:
            found = context_use(
                predictor.model,
                stream,
                max_context=max_context,
                n_positions=positions,
                seed=seed,
                on_progress=on_progress,
            )
        tokenizers.add(predictor.tokenizer.fingerprint)
        uses.append(Use.of(folder.name, predictor.species, found))
        if json:
            terminal.print_json({"predictor": str(folder), "species": predictor.species, **_facts(uses[-1])})
    if len(tokenizers) > 1:
        terminal.note(
            "These have different tokenizers: neither their bits per token nor their tokens of context compare."
        )
    if svg:
        _draw(uses, svg)
    if not json:
        _show(uses)


def _facts(use: Use) -> dict[str, Any]:
    from dataclasses import asdict

    from lmzoo.metrics import bits

    found = use.context
    return {
        "max_context": found.max_context,
        "n_positions": len(found.positions),
        "n_documents": found.n_documents,
        "lengths": found.lengths.tolist(),
        "bits_cut": list(use.bits("cut").values()),
        "bits_shuffled": list(use.bits("shuffled").values()),
        "bits_whole": bits(float(found.whole.mean())),
        "looks_back": asdict(use.reaches["cut"]),
        "order_matters": asdict(use.reaches["shuffled"]),
    }


def _draw(uses: list[Use], path: Path) -> None:
    from lmzoo.report import charts

    charts.write_svg(charts.by_context(uses), path)
    terminal.note(f"figure: {path}")


def _show(uses: list[Use]) -> None:
    from lmzoo.report.context_use import HEADER, TOLERANCE, rows

    terminal.print_table(HEADER, rows(uses))
    found = uses[0].context
    terminal.note(
        f"Bits per token after so many tokens of context; and how many it takes to come within {TOLERANCE:.0%} of the "
        f"perplexity after all of the document, with 95 % intervals. {len(found.positions)} stretches out of "
        f"{found.n_documents} documents were read, with contexts of up to {found.max_context} tokens."
    )
