"""What a caller gets for a reply: a Response, a dictionary, or an exception. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Union

import numpy as np

from bert_serving.client.errors import ProtocolError, server_error
from bert_serving.client.protocol import ErrorReply, VectorsReply

__all__ = ["Response", "response_of", "info_of", "concatenate"]


class Response(NamedTuple):
    """The result of one request.

    ``embedding`` has shape [rows, dimension], or [rows, sequence length, dimension] from a
    server without pooling; it is a read-only array, or nested lists with output_fmt="list".
    ``tokens`` has a list of tokens for each row, or is "" if the server doesn't send them.
    """

    id: int
    embedding: Any
    tokens: Union[str, List[List[str]]]


def response_of(request_id: int, reply: Any, output_fmt: str) -> Response:
    """The result in ``reply``; raises a ServerError or ProtocolError if there is none."""
    _raise_if_failed(reply)
    if not isinstance(reply, VectorsReply):
        raise ProtocolError("the server answered texts with something else than vectors")
    array = reply.array
    if not array.flags.aligned:
        # A small message starts anywhere in ZeroMQ's buffer; C code may rely on alignment.
        array = array.copy()
    array.setflags(write=False)
    return Response(request_id, array.tolist() if output_fmt == "list" else array, reply.tokens)


def info_of(command: bytes, reply: Any) -> Dict[str, Any]:
    """The answer to ``command``; raises a ServerError or ProtocolError if there is none."""
    _raise_if_failed(reply)
    info = getattr(reply, "info", None)
    if not isinstance(info, dict):
        raise ProtocolError("the server answered %s with no JSON object" % command.decode())
    return info


def concatenate(results: List[Any], output_fmt: str) -> Any:
    """The rows of all ``results`` in one array or list."""
    if output_fmt == "list":
        return [row for result in results for row in result]
    return np.concatenate(results, axis=0)


def _raise_if_failed(reply: Any) -> None:
    if isinstance(reply, ErrorReply):
        raise server_error(reply.kind, reply.message)
    if isinstance(reply, ProtocolError):
        raise reply
