"""The route that lists the models of a server with their places in history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from lmzoo import zoo
from lmzoo.chat.session import chat_model
from lmzoo.errors import LmzooError
from lmzoo.predictor import Predictor
from lmzoo.server.models import ServedModels

if TYPE_CHECKING:
    from fastapi import APIRouter


class ListedModel(BaseModel):
    """A model that the server offers, with the description of its model family."""

    name: str
    species: str = ""
    title: str
    year: int | None = None
    people: str = ""
    idea: str = ""
    sees: str = ""
    tokenizer: str = ""
    vocab_size: int = 0
    can_chat: bool = False
    """True if the model can reply in a conversation."""
    error: str | None = None
    """The reason why the model cannot be loaded; None if it can."""


def models_router(models: ServedModels) -> APIRouter:
    """Returns the route that lists `models`."""
    from fastapi import APIRouter  # notebooks describe models without a server

    router = APIRouter(prefix="/playground")

    @router.get("/models")
    def list_models() -> list[ListedModel]:
        """Lists all models in the order of the years in which their families were introduced."""
        return listed_models(models)

    return router


def listed_models(models: ServedModels) -> list[ListedModel]:
    """Returns the descriptions of all models in the order of the years in which their families were introduced."""
    listed = [_listed(models, name) for name in models.names]
    return sorted(listed, key=lambda model: (model.year is None, model.year))


def _listed(models: ServedModels, name: str) -> ListedModel:
    try:
        predictor = models.get(name)
    except LmzooError as error:
        return ListedModel(name=name, title=name, error=str(error))
    facts = ListedModel(
        name=name,
        species=predictor.species,
        title=predictor.species,
        tokenizer=predictor.tokenizer.spec,
        vocab_size=predictor.tokenizer.vocab_size,
        can_chat=_can_chat(predictor),
    )
    if predictor.species not in zoo.names():
        return facts
    card = zoo.card(predictor.species)
    described = {"title": card.title, "year": card.year, "people": card.people, "idea": card.idea, "sees": card.sees}
    return facts.model_copy(update=described)


def _can_chat(predictor: Predictor) -> bool:
    try:
        chat_model(predictor)
    except LmzooError:
        return False
    return True
