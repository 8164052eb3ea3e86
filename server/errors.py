"""What can go wrong on the server's side.

::

    ServerError
    +-- StartupError     the service can't start as asked; shown as "error: ..." with exit code 2
    +-- EngineError      the engine can't load the graph, or failed on a batch
    +-- PipelineError    a part of a running service died and it had to stop; exit code 1

Problems with a model are graph_opt's ModelError and OptionError; the command line shows them
like a StartupError.
"""

from __future__ import annotations

__all__ = ["EngineError", "PipelineError", "ServerError", "StartupError"]


class ServerError(Exception):
    """The root of this package's exceptions."""


class StartupError(ServerError):
    """The service can't start as asked; the message names the value and the way out."""


class EngineError(ServerError):
    """An engine can't load its graph or failed to compute a batch."""


class PipelineError(ServerError):
    """A part of a running service died."""
