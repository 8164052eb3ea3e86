"""The packages that only some formats need."""

from __future__ import annotations

from typing import Any

from bert_serving.client.bulk.errors import UsageError

__all__ = ["pyarrow"]


def pyarrow(purpose: str) -> Any:
    """The package. Raises UsageError that says how to install it."""
    try:
        import pyarrow as package
    except ImportError as error:
        raise UsageError(
            "pyarrow is needed %s, but can't be imported (%s): pip install 'bert-serving[encode]'"
            % (purpose, error)
        ) from error
    return package
