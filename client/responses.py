"""What a caller gets for a reply: a Response, an array, a dictionary, or an exception. Pure."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from bert_serving.client.calls import Call
from bert_serving.client.errors import BertServingError, ProtocolError, server_error
from bert_serving.client.protocol import ErrorReply, Timings, VectorsReply
from bert_serving.client.requests import Taken

__all__ = [
    "Response",
    "check_concatenable",
    "concatenate",
    "info_of",
    "part_of",
    "response_of",
    "result_of",
    "vectors_in",
]


class Response(NamedTuple):
    """The result of one request.

    ``embedding`` has shape [rows, dimension], or [rows, sequence length, dimension] without
    pooling; it is a read-only array, or nested lists with output_fmt="list". ``tokens`` has a list
    of tokens for each row, or is "" if there are none.

    ``offsets`` has for each row a list with [start, stop] of each token, characters of the text,
    [0, 0] for special ones; None if they weren't asked for. ``truncated`` are the rows that were
    cut. ``num_tokens`` counts what the server computed, special tokens included; ``timings`` says
    where the time went. These two are None from a server of bert-as-service 1.10. ``failed`` says
    of texts that could not be computed why; with ``partial=True`` their vectors are zeros.
    ``model`` is the fingerprint of the model that computed them, ``model_fingerprint`` in the
    server's configuration; None if the server doesn't say.
    """

    id: int
    embedding: Any
    tokens: Union[str, List[List[str]]]
    offsets: Optional[List[List[List[int]]]] = None
    truncated: Tuple[int, ...] = ()
    num_tokens: Optional[int] = None
    timings: Optional[Timings] = None
    failed: Mapping[int, str] = {}
    model: Optional[str] = None


def response_of(taken: Taken, output_fmt: str) -> Response:
    """The result in ``taken``; raises a ServerError, ProtocolError or ModelChanged instead."""
    reply = vectors_in(taken.reply)
    array = _finished(reply.array, taken.call)
    details = reply.details
    return Response(
        taken.request_id,
        array.tolist() if output_fmt == "list" else array,
        reply.tokens,
        None if details is None else details.offsets,
        () if details is None else details.truncated,
        None if details is None else details.num_tokens,
        None if details is None else details.timings,
        {} if details is None else details.failed,
        None if details is None else details.model,
    )


def vectors_in(reply: Any) -> VectorsReply:
    """``reply`` itself; raises what it is instead of vectors, as :func:`response_of` does."""
    _raise_if_failed(reply)
    if not isinstance(reply, VectorsReply):
        raise ProtocolError("the server answered texts with something else than vectors")
    return reply


def _finished(array: np.ndarray, call: Call) -> np.ndarray:
    """The array as it was asked for, where the server couldn't make it so."""
    if call.unit_length:
        array = unit_length(array)
    if call.options is None and array.dtype != call.dtype and call.dtype != "float32":
        array = array.astype(call.dtype)
    if not array.flags.aligned:
        # A small message starts anywhere in ZeroMQ's buffer; C code may rely on alignment.
        array = array.copy()
    array.setflags(write=False)
    return array


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors, in the last axis, of length 1; those of zeros stay as they are."""
    lengths = np.sqrt(np.sum(np.square(vectors), axis=-1, keepdims=True))
    return vectors / np.where(lengths > 0, lengths, 1).astype(vectors.dtype)


def result_of(response: Response, call: Call) -> Any:
    """What encode returns: the vectors, a tuple with tokens and offsets, or all of it."""
    if call.details:
        return response
    if call.shows_offsets:
        return response.embedding, response.tokens, response.offsets
    if call.shows_tokens:
        return response.embedding, response.tokens
    return response.embedding


def part_of(taken: Taken, output_fmt: str) -> Tuple[Any, ...]:
    """What a stream yields for ``taken``: the rows (int64 [k], or a list), and the result."""
    response = response_of(taken, output_fmt)
    part = taken.reply.part
    rows: Sequence[int] = range(taken.call.rows) if part is None else part.rows
    if part is not None and max(rows, default=0) >= max(1, taken.call.rows):
        raise ProtocolError("the server sent row %d of %d texts" % (max(rows), taken.call.rows))
    result = result_of(response, taken.call)
    if taken.call.details or not isinstance(result, tuple):
        result = (result,)
    return (list(rows) if output_fmt == "list" else np.array(rows, dtype=np.int64),) + result


def info_of(command: bytes, reply: Any) -> Dict[str, Any]:
    """The answer to ``command``; raises a ServerError or ProtocolError if there is none."""
    _raise_if_failed(reply)
    info = getattr(reply, "info", None)
    if not isinstance(info, dict):
        raise ProtocolError("the server answered %s with no JSON object" % command.decode())
    return info


def check_concatenable(replies: Iterable[VectorsReply]) -> None:
    """Raise ValueError if there can't be one array of what is in ``replies``.

    Lengths of sequences may differ, dimensions may not.
    """
    shapes = [reply.array.shape for reply in replies]
    for shape in shapes:
        if (len(shape), shape[-1:]) != (len(shapes[0]), shapes[0][-1:]):
            raise ValueError(
                "results of shapes %s and %s can't be put together to one array: fetch them "
                "without concat=True" % (list(shapes[0]), list(shape))
            )


def concatenate(results: List[Any], output_fmt: str) -> Any:
    """The rows of all ``results`` in one array or list.

    In an array, token vectors of requests that are shorter than others are filled up with zeros, as
    those of shorter texts of one request are. In a list, each request's have their length.
    """
    if output_fmt == "list":
        return [row for result in results for row in result]
    inner = np.max([result.shape[1:] for result in results], axis=0)
    rows = sum(map(len, results))
    array = np.zeros((rows, *inner), dtype=np.result_type(*results))
    start = 0
    for result in results:
        stop = start + len(result)
        array[(slice(start, stop),) + tuple(map(slice, result.shape[1:]))] = result
        start = stop
    return array


def _raise_if_failed(reply: Any) -> None:
    if isinstance(reply, ErrorReply):
        raise server_error(reply.kind, reply.message, reply.retry_after)
    if isinstance(reply, BertServingError):
        raise reply
