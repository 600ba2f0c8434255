"""The steps of the components of a tokenizer (normalizer, pre-tokenizer, decoder), as tokenizer.json describes them."""

from __future__ import annotations

from typing import Any


def steps_of(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Returns the steps of a component as a flat list, in the order of their application."""
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    parts = next(value for name, value in component.items() if name != "type")
    return [step for part in parts for step in steps_of(part)]


def keeps_all(step: dict[str, Any]) -> bool:
    """Returns True if a step of a normalizer or pre-tokenizer loses no information about any text.

    The text before the step can then be recovered exactly. Steps that lose something in some texts only, such as
    Unicode normalisation (NFC) or a mark for spaces ("▁"), give False.
    """
    match step["type"]:
        case "ByteLevel":
            return not step.get("add_prefix_space")  # a normalizer of this type has no such field
        case "Digits":
            return True
        case "Split" | "Punctuation":
            return step["behavior"] != "Removed"
        case _:
            return False
