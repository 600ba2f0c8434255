"""A plugin for the program `llm`: predictors as models, without a server.

    llm -m lmzoo/ngram "In the beginning"
    llm -m lmzoo -o predictor runs/mine -o temperature 0.8 "The king"

The entry point of the group `llm` in `pyproject.toml` registers it. Models continue a text: they have no system prompt
and no conversations. `llm` itself imports this module at every start, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import llm
from pydantic import Field

from lmzoo.models.shipped import shipped_text_models

if TYPE_CHECKING:
    from lmzoo.predictor import Predictor


class _Sampling(llm.Options):
    """The options of the models."""

    temperature: float | None = Field(
        default=None, description="Above 1 more random, below 1 less; 0 is the likeliest."
    )
    top_p: float | None = Field(
        default=None, description="Sample from the likeliest tokens with this total probability."
    )
    max_tokens: int | None = Field(default=None, description="Maximum length of the text, in tokens; 100 by default.")
    seed: int | None = Field(default=None, description="The same seed gives the same text.")


class _SamplingOfAny(_Sampling):
    """The options of the model that reads any predictor."""

    predictor: str = Field(description="Folder or name of a predictor, as lmzoo generate -p takes it.")


@llm.hookimpl
def register_models(register: Any) -> None:
    """Registers the predictors of texts that come with lmzoo, and a model for all others."""
    for name in shipped_text_models():
        register(PredictorModel(f"lmzoo/{name}", name))
    register(PredictorModel("lmzoo"))


@final
class PredictorModel(llm.Model):
    """A predictor that continues prompts.

    `source` is the name of the predictor; if it is None, the option `predictor` of a prompt names it.
    """

    can_stream = True
    supports_conversation = False

    def __init__(self, model_id: str, source: str | None = None) -> None:
        self.model_id = model_id
        # llm reads the options of a model from the instance.
        self.Options = _SamplingOfAny if source is None else _Sampling  # pyright: ignore[reportAttributeAccessIssue]
        self._source = source
        self._loaded: dict[str, Predictor] = {}

    def execute(self, prompt: llm.Prompt, stream: bool, response: Any, conversation: Any = None) -> Iterator[str]:
        """Yields the continuation of a prompt in pieces, or as a whole if `stream` is False.

        Raises ModelError for a system prompt.
        """
        if prompt.system:
            raise llm.ModelError(f"{self.model_id} continues texts and has no system prompt: write it into the prompt")
        options: Any = prompt.options
        given = {name: getattr(options, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
        pieces = self._predictor(self._source or options.predictor).stream(
            prompt.prompt, **{name: value for name, value in given.items() if value is not None}
        )
        yield from pieces if stream else ["".join(pieces)]

    def _predictor(self, source: str) -> Predictor:
        from lmzoo.predictor import Predictor

        if source not in self._loaded:
            self._loaded[source] = Predictor.load(source)
        return self._loaded[source]
