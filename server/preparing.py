"""The process of the role "preparation": it makes a model ready for a service that runs already.

In a process of its own, for that takes seconds, memory and the one lock of Python.
"""

from __future__ import annotations

import argparse
import os
import signal
from typing import Any, Dict

import zmq

from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.server.errors import StartupError
from bert_serving.server.link import Link
from bert_serving.server.model_flags import AUTO

__all__ = ["Preparation", "decode_args", "encode_args"]


def encode_args(args: argparse.Namespace) -> Dict[str, Any]:
    """Flags as they travel as JSON."""
    named = {
        # A program may name a path by an object.
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in vars(args).items()
        if value is not AUTO
    }
    return {"named": named, "auto": sorted(set(vars(args)) - set(named))}


def decode_args(values: Dict[str, Any]) -> argparse.Namespace:
    """The flags again."""
    return argparse.Namespace(**values["named"], **dict.fromkeys(values["auto"], AUTO))


class Preparation:
    """Prepares, reports "prepared" with the new spec, and waits for its end."""

    def __init__(self, link: Link, args: Dict[str, Any]) -> None:
        # So that an end from outside also unwinds, and ends the optimizer's process.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self._link = link
        self._args = decode_args(args)

    def run(self) -> None:
        """Raises StartupError if the model can't be served, and Orphaned."""
        try:
            from bert_serving.server.preparation import prepare

            try:
                spec = prepare(self._args, ports_are_ours=True)
            except GraphOptError as error:
                raise StartupError(str(error)) from error
            self._link.report("prepared", spec=spec.to_json())
            poller = zmq.Poller()
            self._link.register(poller)
            while True:
                self._link.commands(dict(poller.poll()))
        except KeyboardInterrupt:
            return

    def close(self) -> None:
        """There is nothing to close."""
