"""The command `lmzoo context`, which measures how much of its context a predictor uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput, Seed

if TYPE_CHECKING:
    from lmzoo.evaluation.measured_text import MeasuredText
    from lmzoo.report.context_use import Use


def context(
    *,
    predictors: Annotated[list[Path] | None, Parameter(name=["--predictor", "-p"])] = None,
    corpus: OrStandardInput | None = None,
    split: Literal["valid", "test", "all"] | None = None,
    max_context: Annotated[int, Parameter(validator=Number(gte=1))] = 256,
    positions: Annotated[int, Parameter(validator=Number(gte=1))] = 64,
    seed: Seed = 0,
    svg: Path | None = None,
    json: bool = False,
) -> None:
    """Measures how much of its context each predictor uses.

    The loss is measured with contexts of different lengths: the tokens before them are removed, or shuffled. The
    table shows the effective context length (removing all older tokens raises the perplexity by at most 1 %), and the
    number of tokens whose order matters (shuffling all older tokens raises it by at most 1 %).

    Example: lmzoo context -p ngram -p lstm --svg context.svg

    Parameters
    ----------
    predictors
        Folder of a saved predictor, or name of one that comes with lmzoo, such as ngram; may be repeated. Default: all
        predictors in runs/quick/predictors, or else all that come with lmzoo.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
        Default: the corpus on which each predictor was trained.
    split
        The part of the text from which the passages are taken: valid, test, or all for the whole text. Default:
        valid if one of the predictors was trained on this text, else all.
    max_context
        The longest context length to test, in tokens. It is reduced if the documents are shorter.
    positions
        Number of randomly chosen passages to evaluate; each passage has --max-context + 1 tokens.
    seed
        Random seed: selects the passages and shuffles the tokens before them.
    svg
        SVG file for a figure of loss against context length.
    json
        Print one JSON object per predictor, with losses in bits per token.
    """
    from lmzoo.cli.commands.saved import default_predictors, distinct_names, note_texts, read_stream, text_finder
    from lmzoo.predictor import Predictor
    from lmzoo.probes.context_use import context_use
    from lmzoo.report import charts
    from lmzoo.report.context_use import Use

    uses: list[Use] = []
    texts: list[MeasuredText] = []
    tokenizers: set[str] = set()
    folders = predictors or default_predictors()
    text_of = text_finder(folders, corpus, split, "valid")
    for folder, name in zip(folders, distinct_names(folders), strict=True):
        predictor = Predictor.load(folder)
        texts.append(text_of(predictor))
        stream = read_stream(name, predictor, texts[-1])
        with terminal.progress(f"reading with {name}") as on_progress:
            measured = context_use(
                predictor.model,
                stream,
                max_context=max_context,
                n_positions=positions,
                seed=seed,
                on_progress=on_progress,
            )
        tokenizers.add(predictor.tokenizer.fingerprint)
        uses.append(Use.of(name, predictor.species, measured))
        if json:
            about = {"predictor": str(folder), "species": predictor.species, **texts[-1].facts}
            terminal.print_json({**about, **_as_json(uses[-1])})
    if len(tokenizers) > 1:
        terminal.note(
            "These predictors have different tokenizers: bits per token and context lengths are not comparable."
        )
    if svg:
        charts.write_svg(charts.by_context(uses), svg)
        terminal.note(f"figure: {svg}")
    if not json:
        _show(uses)
        note_texts(texts)


def _as_json(use: Use) -> dict[str, Any]:
    from dataclasses import asdict

    from lmzoo.metrics import bits

    measured = use.context
    return {
        "max_context": measured.max_context,
        "n_positions": len(measured.positions),
        "n_documents": measured.n_documents,
        "lengths": measured.lengths.tolist(),
        "bits_cut": list(use.bits("cut").values()),
        "bits_shuffled": list(use.bits("shuffled").values()),
        "bits_whole": bits(float(measured.whole.mean())),
        "looks_back": asdict(use.reaches["cut"]),
        "order_matters": asdict(use.reaches["shuffled"]),
    }


def _show(uses: list[Use]) -> None:
    from lmzoo.report.context_use import HEADER, TOLERANCE, rows

    terminal.print_table(HEADER, rows(uses))
    first = uses[0].context
    terminal.note(
        f"Bits per token by length of context, measured on {len(first.positions)} passages from {first.n_documents}"
        f" documents with contexts of up to {first.max_context} tokens. Beyond the effective context, more context"
        f" lowers perplexity by less than {TOLERANCE:.0%}; brackets hold 95 % intervals."
    )
