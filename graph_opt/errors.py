"""Exceptions of the graph optimizer.

::

    GraphOptError              anything that goes wrong here, also the cache directory and the disk
    +-- ModelError             the model directory: a file is missing, damaged, or of another model
    +-- OptionError            an option that this model can't satisfy, e.g. a layer it doesn't have
    +-- GraphError             a malformed graph: dangling input, cycle, duplicate name
        +-- UnsupportedOp      an operation that a target or the interpreter doesn't know

The messages of :class:`ModelError` and :class:`OptionError` are shown to the person who starts the
server: each names the file or tensor, and the way out where there is one.
"""

from __future__ import annotations

__all__ = ["GraphOptError", "ModelError", "OptionError", "GraphError", "UnsupportedOp"]


class GraphOptError(Exception):
    """Base of every error that this package raises on purpose."""


class ModelError(GraphOptError):
    """Something is wrong with the files of the model."""


class OptionError(GraphOptError):
    """An option asks for what the model doesn't have."""


class GraphError(GraphOptError):
    """A graph is malformed, or isn't in the form that a step needs."""


class UnsupportedOp(GraphError):
    """A node's operation is unknown to whoever must translate or run it."""

    def __init__(self, name: str, op: str, where: str) -> None:
        super().__init__(
            "node %r: %s has no implementation of the operation %s" % (name, where, op)
        )
        self.name = name
        self.op = op
