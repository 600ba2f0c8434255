"""Public names have docstrings: a sentence, every argument by name, shapes of arrays, units, and errors."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lmzoo
from lmzoo import errors

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
SOURCES = Path(__file__).parents[1] / "src"
WITH_EXAMPLES = [
    ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCES.rglob("*.py"))
    if re.search(r"^ *>>> ", path.read_text(encoding="utf-8"), re.M)
]
"""The modules with examples in docstrings, as Python prints them."""
SHAPE = re.compile(r"\((\.\.|\w[\w +*/-]*),[^)]*\)")
"""A shape, such as (T,), (B, V) or (T + 1, H)."""


def resolve(path: str) -> Any:
    """Returns the object with a dotted name such as "lmzoo.models.ngram.ngram"."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def public_objects() -> dict[str, tuple[Any, str]]:
    """Returns the functions and classes of `lmzoo.__all__` and of the reference, with the options of their entries."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.rst"))
    entries = dict(re.findall(r"^\.\. auto(?:class|function):: (\S+)\n((?:   :.*\n)*)", pages, re.M))
    names = [*(f"lmzoo.{name}" for name in lmzoo.__all__), *(f"lmzoo.errors.{name}" for name in ERRORS)]
    found = {path: (resolve(path), entries.get(path, ":members:")) for path in [*entries, *names]}
    return {path: (value, options) for path, (value, options) in found.items() if callable(value)}


def shown_members(value: type, options: str) -> list[str]:
    """Returns the names of the members of a class that its entry in the reference shows."""
    members = re.search(r":members:(.*)", options)
    if members is None:
        return []
    return [name.strip() for name in members[1].split(",") if name.strip()] or list(vars(value))


ERRORS = [
    name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == "lmzoo.errors"
]


def callables() -> Iterator[tuple[str, Any, str]]:
    """Yields each public function, method and class with its name and its docstring."""
    for path, (value, options) in public_objects().items():
        yield path, value, inspect.getdoc(value) or ""
        for name in shown_members(value, options) if isinstance(value, type) else []:
            member = vars(value).get(name)
            function = getattr(value, name) if isinstance(member, classmethod | staticmethod) else member
            function = member.fget if isinstance(member, property) else function
            function = member.func if isinstance(member, functools.cached_property) else function
            if not name.startswith("_") and inspect.isroutine(function):
                inherited = next((getattr(base, name) for base in value.__mro__[1:] if hasattr(base, name)), None)
                doc = inspect.getdoc(function) or (inspect.getdoc(inherited) if inherited else "") or ""
                yield f"{path}.{name}", function, doc


CALLABLES = list(callables())


def test_there_are_many_public_names() -> None:
    assert len(CALLABLES) > 200
    assert "lmzoo.Predictor.load" in {name for name, _, _ in CALLABLES}


@pytest.mark.parametrize(("doc"), [pytest.param(doc, id=name) for name, _, doc in CALLABLES])
def test_the_first_sentence_can_be_read_alone(doc: str) -> None:
    first = doc.partition("\n\n")[0]
    assert re.match(r"[A-Z`\"(]", first), "it begins with a capital letter"
    assert re.search(r"[.:](\s|$)", first), "it is a whole sentence"
    assert not re.match(r"(The same|Of|Whether|What|How|Who|None)\b", first), "it does not lean on its neighbours"


@pytest.mark.parametrize(("function", "doc"), [pytest.param(value, doc, id=name) for name, value, doc in CALLABLES])
def test_every_argument_is_named(function: Any, doc: str) -> None:
    if isinstance(function, type):
        if dataclasses.is_dataclass(function) or issubclass(function, tuple | list | BaseException):
            return  # their fields have docstrings of their own, or there is nothing to name
        doc += inspect.getdoc(function.__init__) or ""
        function = function.__init__
    if re.search(r"\bsame arguments\b", doc):
        return  # as a function that it names
    parameters = inspect.signature(function).parameters
    skipped = {"self", "cls", *shared_arguments()}
    arguments = {name for name, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    assert not {name for name in arguments - skipped if not is_named(name, doc)}


def shared_arguments() -> set[str]:
    """Returns the arguments that a page of the reference explains once for all functions."""
    page = (REFERENCE / "conventions.rst").read_text(encoding="utf-8")
    return set(re.findall(r"^:(\w+): ", page, re.M))


def is_named(argument: str, doc: str) -> bool:
    """Returns True if a docstring has the name of an argument, or a word of it such as "token" for `token_id`."""
    words = ["token"] if argument == "ids" else [word.rstrip("s") for word in argument.split("_") if len(word) > 2]
    return any(re.search(rf"\b{word}s?\b", doc, re.I) for word in [argument, *words])


@pytest.mark.parametrize(
    ("function", "doc"),
    [pytest.param(value, doc, id=name) for name, value, doc in CALLABLES if not isinstance(value, type)],
)
def test_arrays_have_shapes_and_logarithms_have_units(function: Any, doc: str) -> None:
    returns = str(function.__annotations__.get("return", ""))
    if returns.startswith("NDArray"):
        assert SHAPE.search(doc), f"the shape of {returns}"
    if re.search(r"log_prob|entropy|surprisal", function.__name__) and re.search("NDArray|float", returns):
        assert re.search(r"\b(nats|bits|natural logarithm)\b", doc), "nats or bits"


@pytest.mark.parametrize(
    ("function", "doc"),
    [pytest.param(value, doc, id=name) for name, value, doc in CALLABLES if inspect.isroutine(value)],
)
def test_errors_are_named(function: Any, doc: str) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    }
    named = tuple(getattr(errors, name) for name in ERRORS if name in doc)  # a subclass of a named error is named, too
    assert not [name for name in sorted(raised & set(ERRORS)) if not issubclass(getattr(errors, name), named)]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_show(name: str) -> None:
    examined = doctest.testmod(importlib.import_module(name))
    assert examined.attempted > 0
    assert examined.failed == 0
