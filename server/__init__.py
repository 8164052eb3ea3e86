"""The server. Importing it loads no engine: those are loaded in the workers only."""

from __future__ import annotations

from bert_serving.client.version import __version__
from bert_serving.server.errors import PipelineError, ServerError, StartupError
from bert_serving.server.server import BertServer

__all__ = ["BertServer", "PipelineError", "ServerError", "StartupError", "__version__"]
