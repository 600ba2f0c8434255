"""The command `lmzoo gradients`, which measures how far back in the text the gradients of a network reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput, Seed

if TYPE_CHECKING:
    from lmzoo.report.gradients import Flow


def gradients(
    text: str | None = None,
    *,
    predictors: Annotated[list[Path] | None, Parameter(name=["--predictor", "-p"])] = None,
    corpus: OrStandardInput | None = None,
    split: Literal["valid", "test", "all"] | None = None,
    distance: Annotated[int, Parameter(validator=Number(gte=0))] = 100,
    positions: Annotated[int, Parameter(validator=Number(gte=1))] = 64,
    untrained: bool = False,
    seed: Seed = 0,
    svg: Path | None = None,
    json: bool = False,
) -> None:
    """Measures how far back in the text the gradients of a network reach.

    The gradient of each prediction's loss is taken with respect to the embeddings of the tokens read before. Where this
    gradient has vanished, training cannot teach the network to use the token.

    Example: lmzoo gradients -p rnn -p lstm --svg gradients.svg

    Parameters
    ----------
    text
        The text whose tokens are predicted. Default: one split of a corpus.
    predictors
        Folder of a saved network, or name of one that comes with lmzoo, such as lstm; may be repeated. Default: all
        networks in runs/quick/predictors, or else all that come with lmzoo.
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
        Default: the corpus on which each network was trained.
    split
        The part of the text from which the predictions are taken: valid, test, or all for the whole text. Default:
        valid if one of the predictors was trained on this text, else all.
    distance
        The largest distance to measure, in tokens before the last token read. It is reduced if the text is shorter.
    positions
        Number of randomly chosen predictions whose gradients are computed.
    untrained
        Also measure each network with untrained weights. Some networks initialise parts of their weights to zero; no
        gradient passes through these parts.
    seed
        Random seed: selects the predictions and initialises untrained networks.
    svg
        SVG file for a figure of gradient norm against distance.
    json
        Print one JSON object per network: norms of the gradient of the loss (in nats) with respect to token embeddings.
    """
    from lmzoo.cli.commands.saved import default_predictors, distinct_names, note_texts, read_stream, text_finder
    from lmzoo.corpora import Document
    from lmzoo.errors import UsageError
    from lmzoo.evaluation.measured_text import MeasuredText
    from lmzoo.predictor import Predictor
    from lmzoo.probes.gradient_flow import gradient_flow, has_token_vectors
    from lmzoo.report import charts
    from lmzoo.report.gradients import Flow

    if text is not None and corpus:
        raise UsageError("give a text, or a corpus with --corpus, not both")
    flows: list[Flow] = []
    texts: list[MeasuredText] = []
    folders = predictors or default_predictors()
    given = MeasuredText.of_documents("the given text", [Document("text", text)]) if text is not None else None
    text_of = text_finder(folders, corpus, split, "valid")
    for folder, name in zip(folders, distinct_names(folders), strict=True):
        predictor = Predictor.load(folder)
        if not has_token_vectors(predictor.model):
            if predictors:
                raise UsageError(
                    f"the model of {folder}, a '{predictor.species}', has no embeddings whose gradients could be "
                    "measured: name a network, such as lstm"
                )
            continue
        texts.append(given or text_of(predictor))
        stream = read_stream(name, predictor, texts[-1])
        for kind in (False, True) if untrained else (False,):
            flow = gradient_flow(
                predictor.model, stream, max_distance=distance, n_positions=positions, seed=seed, untrained=kind
            )
            flows.append(Flow(name, flow, kind))
            if json:
                about = {"predictor": str(folder), "species": predictor.species, **texts[-1].facts}
                terminal.print_json({**about, **_as_json(flows[-1])})
    if not flows:
        raise UsageError("none of the predictors is a network: name one with -p FOLDER")
    if svg:
        charts.write_svg(charts.by_distance(flows), svg)
        terminal.note(f"figure: {svg}")
    if not json:
        _show(flows)
        note_texts(texts)


def _as_json(flow: Flow) -> dict[str, Any]:
    measured = flow.gradients
    quantiles = {name: measured.quantile(q).tolist() for name, q in (("p10", 0.1), ("median", 0.5), ("p90", 0.9))}
    return {
        "untrained": flow.untrained,
        "n_positions": len(measured.positions),
        "max_distance": measured.max_distance,
        "norms": quantiles,
        "reached": measured.reached().tolist(),
        "left": measured.left().tolist(),
    }


def _show(flows: list[Flow]) -> None:
    from lmzoo.report.gradients import HEADER, rows

    terminal.print_table(HEADER, rows(flows))
    terminal.note("Median gradient norm at each distance, relative to the last token read.")
