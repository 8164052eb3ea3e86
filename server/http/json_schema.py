"""Pieces of JSON Schema that say what texts may be; how many depends on how the server runs."""

from __future__ import annotations

from typing import Any, Dict

__all__ = ["TEXT", "any_of", "array", "dimensions"]

#: More than whitespace.
TEXT: Dict[str, Any] = {"type": "string", "minLength": 1, "pattern": "\\S"}


def array(items: Dict[str, Any], most: int = 0) -> Dict[str, Any]:
    """A list with something in it, and at most ``most`` if that isn't 0."""
    schema: Dict[str, Any] = {"type": "array", "items": items, "minItems": 1}
    if most:
        schema["maxItems"] = most
    return schema


def any_of(description: str, *schemas: Dict[str, Any]) -> Dict[str, Any]:
    return {"anyOf": list(schemas), "description": description}


def dimensions(most: int) -> Dict[str, Any]:
    return any_of(
        "the first so many numbers of each vector, scaled to unit length",
        {"type": "integer", "minimum": 1, "maximum": most},
        {"type": "null"},
    )
