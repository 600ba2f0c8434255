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
    learns_from: str = "text"
    """Kind of training data of the model family: "text" (plain text) or "conversations"."""
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
        saved = models.unloaded_chat_model(name)
        if saved is not None:
            return _described(name, saved.species, saved.tokenizer, saved.vocab_size, can_chat=True)
        predictor = models.get(name)
    except LmzooError as error:
        return ListedModel(name=name, title=name, error=str(error))
    tokenizer = predictor.tokenizer
    return _described(name, predictor.species, tokenizer.spec, tokenizer.vocab_size, can_chat=_can_chat(predictor))


def _described(name: str, species: str, tokenizer: str, vocab_size: int, *, can_chat: bool) -> ListedModel:
    """Returns the description of a model, with that of its family if the family is in the registry."""
    facts = ListedModel(
        name=name, species=species, title=species, tokenizer=tokenizer, vocab_size=vocab_size, can_chat=can_chat
    )
    if species not in zoo.names():
        return facts
    card = zoo.card(species)
    shown = ("title", "year", "people", "idea", "sees", "learns_from")
    return facts.model_copy(update={field: getattr(card, field) for field in shown})


def _can_chat(predictor: Predictor) -> bool:
    try:
        chat_model(predictor)
    except LmzooError:
        return False
    return True
