"""Names that programs written for 1.10 import from here."""

from __future__ import annotations

from bert_serving.server.arguments import get_args_parser, get_shutdown_parser

__all__ = ["get_args_parser", "get_shutdown_parser"]
