"""Shows the views Predict and Surprise of `lmzoo play` in notebooks, as HTML without a server, scripts or network.

The numbers come from the same functions as those of `lmzoo play`, and the look from the same style sheet. The colours
suit light and dark notebooks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import jinja2
from markupsafe import Markup
from pydantic import ValidationError

from lmzoo.errors import UsageError
from lmzoo.generation import Decoding
from lmzoo.playground.models import ListedModel, listed_models
from lmzoo.playground.predict import (
    ContextToken,
    DecodingSettings,
    Encoded,
    Prediction,
    PredictRequest,
    prediction_of,
)
from lmzoo.playground.readings import Readings
from lmzoo.playground.shown import ShownToken
from lmzoo.playground.surprise import Surprise, surprise_of
from lmzoo.predictor import Predictor, as_predictor
from lmzoo.server.models import ServedModels
from lmzoo.system.printable import printable
from lmzoo.tokenizers import visible

Source: TypeAlias = Predictor | str | Path
"""A predictor, or the name or path from which `Predictor.load` loads one."""
Colour: TypeAlias = Literal["bits", "rank", "entropy"]

_AXES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Possible ends of the axis of probabilities; the first one that no bar exceeds is used, or 1 if there is none."""
_LEVELS: dict[Colour, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "bits": ((1, 2, 4, 6, 9, 13), ("up to 1 bit", "2", "4", "6", "9", "13", "more")),
    "rank": ((1, 10, 100, 1000), ("first guess", "top 10", "top 100", "top 1,000", "beyond")),
    "entropy": ((1, 2, 4, 6, 8, 10), ("sure: up to 1 bit", "2", "4", "6", "8", "10", "unsure: more")),
}
"""Upper bounds of the levels of colour for each quantity, and the names of all levels, as in the file scores.js."""
_SETTINGS = {"temperature": "T = 0", "top_k": "top-k", "top_p": "top-p", "min_p": "min-p"}
_SIGNS = re.compile(r"([␣⏎⇥∅]|\\x[0-9a-f]{2}|[␀-␡])")


def show_prediction(
    predictors: Source | Sequence[Source] | Mapping[str, Source],
    text: str,
    *,
    k: int = 10,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int = 0,
) -> PredictionView:
    """Returns the next-token predictions of one or several predictors after a text, which a notebook shows as cards.

    Each card has the part of the text that the predictor sees, the entropy, the `k` most likely tokens (1 to 100) and
    the token that is drawn with `seed`. `temperature` (at most 100), `top_k`, `top_p` and `min_p` change the
    distribution as described for `Decoding`. The cards are in the order of the years of the models. A mapping gives the
    predictors names. Raises UsageError if two predictors have the same name, if no predictor is given, if a number is
    out of range, or if the text has more than 20,000 characters.
    """
    named = _named(predictors)
    decoding = Decoding(temperature, top_k, top_p, min_p)
    try:
        settings = DecodingSettings(**asdict(decoding))
        request = PredictRequest(prompt=text, models=[*named], decoding=settings, seed=seed, k=k)
    except ValidationError as error:
        (field, *_), reason = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise UsageError(f"{'text' if field == 'prompt' else field}: {reason}") from error
    models = ServedModels({name: as_predictor(source) for name, source in named.items()})
    readings, encoded = Readings(models), Encoded(text)
    listed = listed_models(models)
    return PredictionView(text, listed, [prediction_of(readings, model.name, request, encoded) for model in listed])


def show_surprise(predictor: Source, text: str, *, colour: Colour = "bits") -> SurpriseView:
    """Returns the surprisals of the tokens of a text under a predictor, which a notebook shows as coloured text.

    `predictor` is a predictor, or what `Predictor.load` takes. `colour` is the quantity that the colours show: "bits"
    for the surprisal, "rank" for the rank of each token, or "entropy" for the entropy of its prediction. Only the first
    2,000 tokens of a long text are shown. Raises UsageError for any other colour.
    """
    if colour not in _LEVELS:
        raise UsageError(f"colour must be bits, rank or entropy, got {colour!r}")
    loaded = as_predictor(predictor)
    return SurpriseView(_name(predictor), text, surprise_of(loaded, text), colour)


@dataclass(frozen=True)
class PredictionView:
    """The predictions of several models after a text, which a notebook shows as HTML at the end of a cell."""

    text: str
    models: list[ListedModel]
    """The models, in order of their years."""
    predictions: list[Prediction]
    """The predictions of the models, in the same order."""

    def __repr__(self) -> str:
        return f"<predictions of {', '.join(model.name for model in self.models)} after {self.text[-40:]!r}>"

    def _repr_html_(self) -> str:
        largest = max(
            (max(token.prob, token.final) for one in self.predictions for token in one.tokens),
            default=1.0,
        )
        axis = next((end for end in _AXES if end >= largest), 1)
        return _html("prediction.html", cards=zip(self.models, self.predictions, strict=True), axis=axis)


@dataclass(frozen=True)
class SurpriseView:
    """The surprisals of the tokens of a text under one model, which a notebook shows as HTML at the end of a cell."""

    name: str
    """Name of the predictor."""
    text: str
    scores: Surprise
    colour: Colour

    def __repr__(self) -> str:
        return f"<surprisals of {len(self.scores.starts):,} tokens under {self.name}: {self.total_bits:,.1f} bits>"

    @property
    def total_bits(self) -> float:
        """Sum of the surprisals of all tokens that are shown, in bits."""
        return sum(self.scores.surprisals)

    def _repr_html_(self) -> str:
        scores, text = self.scores, self.text
        end = scores.ends[-1] if scores.ends else 0
        texts = [text[start:stop] for start, stop in zip(scores.starts, scores.ends, strict=True)]
        return _html(
            "surprise.html",
            name=self.name,
            colour=self.colour,
            names=_LEVELS[self.colour][1],
            parts=list(_parts(text, scores, self.colour)),
            scores=scores,
            total=self.total_bits,
            per_character=self.total_bits / max(end, 1),
            rows=zip(texts, scores.surprisals, scores.ranks, scores.entropies, strict=True),
        )


class _Part(NamedTuple):
    """A part of a text that is coloured: a token, or several that share a character."""

    before: str
    """Text before the part that belongs to no token."""
    text: str
    level: int
    hint: str


def _parts(text: str, scores: Surprise, colour: Colour) -> Iterator[_Part]:
    written = 0
    for tokens in _sharing_characters(scores):
        start, end = scores.starts[tokens[0]], max(scores.ends[index] for index in tokens)
        bits = sum(scores.surprisals[index] for index in tokens)
        rank, entropy = max(scores.ranks[index] for index in tokens), scores.entropies[tokens[0]]
        value = {"bits": bits, "rank": rank, "entropy": entropy}[colour]
        hint = f"{bits:.2f} bits, rank {rank:,}, entropy {entropy:.2f} bits"
        yield _Part(text[written:start], text[start:end], bisect_left(_LEVELS[colour][0], value), hint)
        written = end


def _sharing_characters(scores: Surprise) -> list[list[int]]:
    """Returns the indices of all tokens in groups; tokens that share a character are in one group."""
    groups: list[list[int]] = []
    end = 0
    for index, start in enumerate(scores.starts):
        if groups and start < end:
            groups[-1].append(index)
        else:
            groups.append([index])
        end = max(end, scores.ends[index])
    return groups


def _name(source: Source) -> str:
    return source.species if isinstance(source, Predictor) else Path(source).name


def _named(predictors: Source | Sequence[Source] | Mapping[str, Source]) -> dict[str, Source]:
    """Returns predictors by name; raises UsageError if there is none, or if two have the same name."""
    if isinstance(predictors, Mapping):
        named = dict(predictors)
    else:
        sources = [predictors] if isinstance(predictors, Predictor | str | Path) else list(predictors)
        names = [_name(source) for source in sources]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"two predictors have the name '{double}': give a mapping from names to predictors")
        named = dict(zip(names, sources, strict=True))
    if not named:
        raise UsageError("there is no predictor to show: give at least one")
    return named


def _html(template: str, **values: Any) -> str:
    return printable(_environment().get_template(template).render(style=_style(), **values))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lmzoo.playground"),
        autoescape=True,  # texts and tokens are untrusted
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": _percent, "width": _width, "signs": _signs, "runs": _runs, "sees": _sees}
    environment.filters |= {"visible": visible, "setting": _SETTINGS.__getitem__}
    return environment


@cache
def _style() -> Markup:
    """Returns the style sheet of the views, whose rules apply only inside the element of a view."""
    static = files("lmzoo.playground") / "static"
    sheets = [(static / name).read_text(encoding="utf-8") for name in ("shared.css", "notebook.css")]
    return Markup("".join(sheets).replace(":root", "&"))


def _percent(prob: float) -> str:
    """Returns a probability as a percentage with about three digits."""
    value = 100 * prob
    if value == 0:
        return "0 %"
    if value < 0.001:
        return "< 0.001 %"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f} %"


def _width(share: float) -> str:
    return f"{100 * min(share, 1):.6g}%"


def _signs(token: ShownToken) -> Markup:
    """Returns the text of a token, in which the signs for white space are less prominent than letters."""
    if token.hex:
        return Markup('<span class="hex" title="bytes that are no whole character">{}</span>').format(token.text)
    parts = _SIGNS.split(token.text)
    return Markup("").join(
        Markup('<span class="sign">{}</span>').format(part) if index % 2 else part for index, part in enumerate(parts)
    )


def _runs(context: Iterable[ContextToken], tokenizer: str) -> Iterator[tuple[str, str]]:
    """Yields the look (CSS classes) and the text of each part of a context; neighbours that look alike are joined."""
    space = " " if tokenizer.startswith("word") else ""
    for (seen, is_hex), tokens in groupby(context, key=lambda token: (token.seen, token.hex)):
        look = "token" + " seen" * seen + " hex" * is_hex
        yield look, space.join(token.text for token in tokens)


def _sees(prediction: Prediction) -> str:
    if not prediction.n_seen:
        return "sees nothing"
    if prediction.n_seen == prediction.n_context:
        return f"sees all {prediction.n_context} tokens"
    return f"sees {prediction.n_seen} of {prediction.n_context} tokens"
